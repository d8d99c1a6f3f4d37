"""The demo model's autoencoder in the shape of the host's TAESD, exactly, by padding with zeros.

Both are stages of a convolution and residual blocks y = relu(conv(x) + x). The host's has 64 channels and 1-3 blocks a
stage, ours half the channels and fewer blocks. A block of zero convolutions is a relu:

- after one of our blocks nothing is negative, so it changes nothing;
- a stage without any block has a signed output x. It travels as [relu(x), relu(-x)] through both halves of the
  channels: the convolution before writes [W, -W], the one after reads [V, -V].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_HOST_CHANNELS = 64
_HOST_BLOCKS = {"encoder": (1, 3, 3, 3), "decoder": (3, 3, 3, 1)}
_SD1_SCALE = 0.18215  # the host multiplies raw latents of SD1's format by it; our networks work after that
_BLOCK_CONVS = (0, 2, 4)


def host_autoencoder(weights: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> dict[str, Tensor]:
    """diffusers' AutoencoderTiny (`weights`, built from `numbers`) as a state dict that the host takes for a TAESD."""
    converted = {"vae_scale": torch.tensor(_SD1_SCALE), "vae_shift": torch.tensor(0.0)}
    for half in ("encoder", "decoder"):
        ours = {k.removeprefix(f"{half}.layers."): w for k, w in weights.items() if k.startswith(f"{half}.layers.")}
        for key, weight in _pad(ours, half, numbers[f"num_{half}_blocks"]).items():
            converted[f"taesd_{half}.{key}"] = weight
    return converted


def _pad(ours: Mapping[str, Tensor], half: str, blocks: Sequence[int]) -> dict[str, Tensor]:
    is_decoder = half == "decoder"
    # The decoder starts with convolution and relu (index 0 and 1); the host's has a clamp before them.
    our_index, host_index = 0, 1 if is_decoder else 0
    padded: dict[str, Tensor] = {}
    signed = False  # whether the signal before the next convolution travels in both halves of the channels
    last = len(blocks)
    for stage, (count, host_count) in enumerate(zip(blocks, _HOST_BLOCKS[half], strict=True)):
        weight, bias = ours[f"{our_index}.weight"], ours.get(f"{our_index}.bias")
        first_of_decoder = is_decoder and stage == 0
        signed_after = count == 0 and not first_of_decoder
        padded[f"{host_index}.weight"] = _widen(_doubled_output(weight, signed_after), signed, stage > 0)
        if bias is not None:
            padded[f"{host_index}.bias"] = _fill(_doubled_output(bias, signed_after), 0)
        our_index, host_index = our_index + 1 + first_of_decoder, host_index + 1 + first_of_decoder
        for block in range(host_count):
            for conv in _BLOCK_CONVS:
                name = f"conv.{conv}"
                inner = [ours.get(f"{our_index + block}.{name}.{kind}") for kind in ("weight", "bias")]
                padded |= _block_conv(f"{host_index + block}.{name}", inner if block < count else [None, None])
        our_index, host_index = our_index + count, host_index + host_count
        if is_decoder and stage < last - 1:
            our_index, host_index = our_index + 1, host_index + 1  # the upsampling layer
        signed = signed_after
    weight = ours[f"{our_index}.weight"]
    padded[f"{host_index}.weight"] = _widen(weight, signed, True, grow_output=False)
    padded[f"{host_index}.bias"] = ours[f"{our_index}.bias"]
    return padded


def _doubled_output(weight: Tensor, doubled: bool) -> Tensor:
    return torch.cat([weight, -weight]) if doubled else weight


def _widen(weight: Tensor, signed: bool, grow_input: bool, grow_output: bool = True) -> Tensor:
    """A convolution [out, in, 3, 3] for the host's channels; `signed`: reading a signal in both halves."""
    if signed:
        weight = torch.cat([weight, -weight], dim=1)
    if grow_input:
        weight = _fill(weight, 1)
    return _fill(weight, 0) if grow_output else weight


def _block_conv(name: str, pair: Sequence[Tensor | None]) -> dict[str, Tensor]:
    weight, bias = pair
    size = _HOST_CHANNELS
    if weight is None or bias is None:
        return {f"{name}.weight": torch.zeros(size, size, 3, 3), f"{name}.bias": torch.zeros(size)}
    return {f"{name}.weight": _fill(_fill(weight, 0), 1), f"{name}.bias": _fill(bias, 0)}


def _fill(weight: Tensor, dim: int) -> Tensor:
    """Zeros behind `weight` up to the host's channels along `dim`."""
    shape = list(weight.shape)
    shape[dim] = _HOST_CHANNELS - shape[dim]
    return torch.cat([weight, weight.new_zeros(shape)], dim)
