"""A picture of ours as the host's IMAGE."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor


def image_batch(image: Image.Image) -> Tensor:
    """IMAGE [1, H, W, 3] in 0..1 of an RGB picture."""
    levels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return levels.reshape(1, image.height, image.width, 3).float() / 255
