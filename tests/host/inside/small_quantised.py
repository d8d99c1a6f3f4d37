"""Small models whose weights are kept in fewer bits than they are computed with, made by the host's own loading."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import comfy.ops
import pytest
import torch
from comfy.text_encoders import flux
from in_host import plugin
from small_encoders import small_clip
from small_families import SMALL, build, flux_1
from test_packed_weights import pack
from torch import Tensor, nn

FP8 = torch.float8_e4m3fn
KINDS = ["fp8", "scaled fp8", "packed"]
WIDE = "Flux dev, wide"  # its weights are most of what a step holds
_MIXED = hasattr(comfy.ops, "mixed_precision_ops")  # newer hosts: scales are part of the weight's tensor
_BLOCKS = ("double_blocks", "single_blocks")
_T5_LAYERS = ("SelfAttention.", "DenseReluDense.")


def build_quantised(family: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One of Flux's with weights of one of KINDS, of its T5 too where they are scaled; or "plain" in float32.

    It computes in bfloat16, where it is packed in float32.
    """
    monkeypatch.setitem(SMALL, WIDE, _wide)
    wide = build(family)
    if kind == "packed":
        pack(wide.model.model.diffusion_model)
    if kind in ("packed", "plain"):
        return wide
    weights = wide.model.model.diffusion_model.state_dict()
    if kind == "fp8":
        models = build(family, FP8, torch.bfloat16)
    else:
        with monkeypatch.context() as patched:
            told = ("quant_config", {"mixed_ops": True}) if _MIXED else ("scaled_fp8", FP8)
            patched.setattr(type(wide.model.model.model_config), *told)
            models = build(family, torch.bfloat16 if _MIXED else FP8, torch.bfloat16)
        models = models._replace(clip=_scaled_t5(wide.clip))
        # Old hosts scale all layers or none.
        weights = _scaled(weights, lambda name: name.startswith(_BLOCKS) or not _MIXED)
    models.model.model.load_model_weights({name: tensor.clone() for name, tensor in weights.items()}, "")
    return models


def _wide() -> Any:
    return flux_1(hidden_size=384, num_heads=6, depth=2, depth_single_blocks=4, axes_dim=[16, 24, 24], mlp_ratio=4.0)


def _scaled_t5(clip: Any) -> Any:
    """A CLIP with the same numbers, T5's layers scaled fp8 and the rest float16."""
    told: Any = {"t5_quantization_metadata": {"mixed_ops": True}} if _MIXED else {"t5xxl_scaled_fp8": FP8}
    # Not on the device that it is to be loaded on, or the host does so before there are weights.
    options = {"dtype": torch.float16, "initial_device": torch.device("cpu", 0)}
    made = small_clip(flux.FluxTokenizer, flux.flux_clip(**told), options=options)
    weights = clip.cond_stage_model.state_dict()
    scaled = _scaled(weights, lambda name: name.startswith("t5xxl.") and any(layer in name for layer in _T5_LAYERS))
    made.cond_stage_model.load_state_dict(scaled, strict=False)
    return made


def _scaled(weights: dict[str, Tensor], chosen: Callable[[str], bool]) -> dict[str, Tensor]:
    """As in a file: the chosen matrices in fp8, with what the host is told of them."""
    found = dict(weights)
    for name, tensor in weights.items():
        if tensor.ndim == 2 and chosen(name):
            scale, layer = tensor.abs().max().float() / 448, name.removesuffix("weight")
            found[name] = (tensor / scale).to(FP8)
            found[layer + ("weight_scale" if _MIXED else "scale_weight")] = scale
            if _MIXED:
                told = json.dumps({"format": "float8_e4m3fn"}).encode()
                found[f"{layer}comfy_quant"] = torch.tensor(list(told), dtype=torch.uint8)
    return found


def parts(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that a weight is made of."""
    quantised = plugin("nodes.host.models.quantised")
    return quantised.parts_of(tensor) if quantised.is_quantised(tensor) else [tensor]


def all_parts(module: nn.Module) -> list[Tensor]:
    return [part for tensor in [*module.parameters(), *module.buffers()] for part in parts(tensor)]


def raw(tensor: Tensor) -> Tensor:
    """All its bytes."""
    return torch.cat([torch.empty(0, dtype=torch.uint8).set_(part.untyped_storage()) for part in parts(tensor)])
