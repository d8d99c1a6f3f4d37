"""Pictures as image towers were trained on them: scaled, cropped and normalised as a folder's settings say.

The numbers are those of transformers' processors with Pillow: 8 bit levels, scaled first across, then down, rounded in
between. CLIP's own code does the same. What lies outside of the central square is cut off, as it is in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MODES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


@dataclass(frozen=True)
class Preprocessing:
    """size: the shorter side in pixels, or (height, width). crop: side of the central square; None: the whole."""

    size: int | tuple[int, int] = 224
    crop: int | None = 224
    mean: Sequence[float] = CLIP_MEAN
    std: Sequence[float] = CLIP_STD
    mode: str = "bicubic"

    def __call__(self, pictures: Sequence[Tensor]) -> Tensor:
        """Pictures [3, H, W] in 0..1 of any sizes -> [N, 3, h, w], normalised, in float32."""
        levels = torch.stack([self._square(picture) for picture in pictures]) / 255
        mean, std = (levels.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (levels - mean) / std

    def _square(self, picture: Tensor) -> Tensor:
        levels = (picture.float().cpu().clamp(0, 1) * 255).round()
        height, width = levels.shape[1:]
        if isinstance(self.size, int):
            short, long = self.size, int(self.size * max(height, width) / min(height, width))
            size = (long, short) if width <= height else (short, long)
        else:
            size = self.size
        for step in ((height, size[1]), size):
            if tuple(levels.shape[1:]) != step:
                scaled = F.interpolate(levels[None], size=step, mode=self.mode, antialias=True)[0]
                levels = scaled.round().clamp(0, 255)
        if self.crop is None:
            return levels
        top, left = (size[0] - self.crop) // 2, (size[1] - self.crop) // 2
        return levels[:, top : top + self.crop, left : left + self.crop]


def read_preprocessing(settings: Mapping[str, Any], default: Preprocessing, name: str) -> Preprocessing:
    """What a preprocessor_config.json asks for, and `default` where it says nothing.

    name: of the folder, for errors. Raises ValueError for settings of another kind than CLIP's and DINO's.
    """
    mode = _mode(settings.get("resample"), default.mode, name)
    mean, std = (_channels(settings, key, getattr(default, key[6:]), name) for key in ("image_mean", "image_std"))
    size = _side(settings.get("size"), ("shortest_edge",)) or _pair(settings.get("size")) or default.size
    crop = _side(settings.get("crop_size"), ("height", "shortest_edge")) or default.crop
    crop = crop if settings.get("do_center_crop", default.crop is not None) else None
    shorter = size if isinstance(size, int) else min(size)
    square = crop is not None or not isinstance(size, int)
    usual = settings.get("do_resize", True) and settings.get("do_normalize", True) and settings.get("do_rescale", True)
    if not usual or not square or (crop or 0) > shorter:
        raise ValueError(
            f"{name}/preprocessor_config.json asks for pictures in a way that is not known here; a folder of CLIP or "
            "DINO scales, crops to a square and normalises three channels."
        )
    return Preprocessing(size, crop, mean, std, mode)


def _mode(resample: Any, default: str, name: str) -> str:
    """PyTorch's name of a way to scale, from Pillow's number."""
    if resample is None:
        return default
    if not isinstance(resample, int) or resample not in _MODES:
        known = ", ".join(f"{number} ({mode})" for number, mode in _MODES.items())
        raise ValueError(
            f"{name}/preprocessor_config.json has resample {resample!r}, and only {known} are known here; fetch the "
            "file again."
        )
    return _MODES[resample]


def _channels(settings: Mapping[str, Any], key: str, default: Sequence[float], name: str) -> tuple[float, ...]:
    """A number for each of the three channels; a standard deviation is above 0."""
    values = settings.get(key)
    if values is None:
        return tuple(default)
    numbers = isinstance(values, list) and len(values) == 3 and all(type(value) in (int, float) for value in values)
    if not numbers or (key == "image_std" and min(values) <= 0):
        above = " above 0" if key == "image_std" else ""
        raise ValueError(
            f"{name}/preprocessor_config.json has {key} {values!r}; it must be a list of three numbers{above}."
        )
    return tuple(values)


def _side(value: Any, keys: Sequence[str]) -> int | None:
    if isinstance(value, Mapping):
        value = next((value[key] for key in keys if value.get(key)), None)
    return int(value) if isinstance(value, int) and value > 0 else None


def _pair(value: Any) -> tuple[int, int] | None:
    if not isinstance(value, Mapping):
        return None
    height, width = value.get("height"), value.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0 else None
