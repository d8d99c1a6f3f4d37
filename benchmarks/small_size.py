"""How much smaller than published a model is made, and the host's text encoders in that size.

Widths and tokens of the picture divided by one number leave every part of the denoiser the same share of its work: a
layer costs tokens x width^2, attention tokens^2 x width. Captions keep their tokens, so the text encoders' layers are
fewer by that number too. What rounding leaves of this, flops.counted tells.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import nn

HEAD = 64  # width of a head in CLIP and T5
FP8 = torch.float8_e4m3fn


@dataclasses.dataclass(frozen=True)
class Size:
    """width, depth: what those of the true model are divided by. dtype: of the denoiser. filled: with random weights on
    `device`, the encoders in the precision that the host chooses; else without, to be counted.
    """

    width: float = 1
    depth: float = 1
    dtype: torch.dtype = torch.bfloat16
    filled: bool = False
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - a value
    t5_width: bool = True  # else T5 keeps it, and is narrower inside

    def wide(self, full: float, unit: int = 1) -> int:
        """The nearest multiple of `unit`."""
        return max(1, round(full / self.width / unit)) * unit

    @property
    def t5_dtype(self) -> torch.dtype | None:
        """As small as the denoiser's, where that is fp8; None for what the host chooses."""
        return FP8 if self.dtype is FP8 else None

    def deep(self, full: int, text: bool = False) -> int:
        return max(1, round(full / self.depth / (self.width if text else 1)))


TRUE = Size()


@contextmanager
def encoders_of(size: Size) -> Iterator[None]:
    """Text encoders are made in that size while this lasts."""
    if size.width == size.depth == 1:
        yield
        return
    one = importlib.import_module("comfy.sd1_clip")
    llama = importlib.import_module("comfy.text_encoders.llama")
    original = one.SDClipModel.__init__

    least = 1

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal least
        kind = getattr(kwargs.get("model_class"), "__name__", "CLIP")
        least = 3 if kwargs.get("layer") == "hidden" else 1  # of which the last but one is read
        if not issubclass(kwargs.get("model_class", nn.Module), llama.BaseLlama):
            told = kwargs.get("textmodel_json_config") or Path(one.__file__).with_name("sd1_clip_config.json")
            full = dict(told) if isinstance(told, dict) else json.loads(Path(told).read_text())
            small = _small_t5(size, full) if kind == "T5" else _small_clip(size, full, least)
            kwargs["textmodel_json_config"] = full | small
        elif isinstance(kwargs.get("layer"), list):
            kwargs["layer"] = [size.deep(number, text=True) for number in kwargs["layer"]]
        original(self, *args, **kwargs)

    with ExitStack() as stack:
        stack.enter_context(patch.object(one.SDClipModel, "__init__", init))
        # Eyes, which words do not need.
        stack.enter_context(patch.object(llama.qwen_vl, "Qwen2VLVisionTransformer", lambda **_: nn.Identity()))
        for name, config in list(vars(llama).items()):
            if dataclasses.is_dataclass(config) and name.endswith(("Config", "_Config")):
                small = _LlamaConfig(config, lambda full: _small_llama(size, full, least))
                stack.enter_context(patch.object(llama, name, small))
        yield


class _LlamaConfig(NamedTuple):
    """Stands in for a class of configurations."""

    kind: Any
    reduced: Callable[[Any], Any]

    def __call__(self, **told: Any) -> Any:
        return self.reduced(self.kind(**told))


def _small_clip(size: Size, full: dict[str, Any], least: int) -> dict[str, Any]:
    width, layers = size.wide(full["hidden_size"], HEAD), size.deep(full["num_hidden_layers"], text=True)
    heads = width // HEAD
    return dict(
        hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width, num_hidden_layers=max(least, layers)
    )


def _small_t5(size: Size, full: dict[str, Any]) -> dict[str, Any]:
    inside = size if size.t5_width else dataclasses.replace(size, width=size.width**2)
    width = size.wide(full["d_model"], HEAD) if size.t5_width else full["d_model"]
    narrow = dict(num_heads=inside.wide(full["num_heads"]), d_ff=inside.wide(full["d_ff"]))
    return dict(d_model=width, num_layers=size.deep(full["num_layers"], text=True), **narrow)


def _small_llama(size: Size, full: Any, least: int) -> Any:
    groups = size.wide(full.num_key_value_heads)
    return dataclasses.replace(
        full,
        hidden_size=size.wide(full.hidden_size, HEAD),
        intermediate_size=size.wide(full.intermediate_size),
        num_hidden_layers=max(least, size.deep(full.num_hidden_layers, text=True)),
        num_key_value_heads=groups,
        num_attention_heads=groups * full.num_attention_heads // full.num_key_value_heads,
    )
