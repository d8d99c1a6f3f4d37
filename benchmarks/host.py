"""The host's packages without its server, for the scripts that measure inside of them."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = 1_000_003  # random numbers that weights are tiled with; a prime, so that rows differ


class Models(NamedTuple):
    """A MODEL and a CLIP of the host."""

    model: Any
    clip: Any


def start_host(folder: Path, cpu: bool) -> None:
    """The host's packages on the path, and this pack beside them without its nodes, which want the host's server."""
    sys.argv = sys.argv[:1]
    sys.path.insert(0, str(folder))
    cli_args = importlib.import_module("comfy.cli_args")
    cli_args.args.cpu = cpu
    logging.getLogger().setLevel(logging.WARNING)
    for name, path in (("ti_plugin", ROOT), ("ti_plugin.nodes", ROOT / "nodes")):
        sys.modules[name] = package = ModuleType(name)
        package.__path__ = [str(path)]


def plugin(name: str) -> Any:
    """A module of this pack."""
    return importlib.import_module(f"ti_plugin.{name}")


def backend_of(models: Models) -> Any:
    channels = models.model.model.latent_format.latent_channels
    return plugin("nodes.host.backend").HostBackend(*models, SimpleNamespace(latent_channels=channels))


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """The host makes layers without values. These keep signals at their size through any depth."""
    block = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(1))
    for name, weight in module.named_parameters():
        if not weight.is_floating_point():
            continue
        flat = weight.ndim < 2
        scale = 0.05 if flat else 0.02 if "embedding" in name else 0.7 * weight[0].numel() ** -0.5
        values = (block * scale + (flat and name.endswith("weight"))).to(weight.device, weight.dtype)
        for part in weight.data.view(-1).split(_BLOCK):
            part.copy_(values[: len(part)])
    for table in module.buffers():  # some of which the host makes without values
        if table.is_floating_point():
            table.normal_(std=0.05)
