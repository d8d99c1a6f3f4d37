"""The judge: a classifier that tells a picture's attributes, because pictures of the demo world have exact ones.

It measures the demo model (does the picture show what the text says?) and learned words (is it the same object?).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .world import BACKGROUNDS, COLOURS, SHAPES, STYLES, TEXTURES

WEIGHTS = Path(__file__).with_name("judge.safetensors")
HEADS = {
    "shape": len(SHAPES),
    "colour": len(COLOURS),
    "texture": len(TEXTURES) + 1,  # and the texture that the model never saw
    "background": len(BACKGROUNDS),
    "style": len(STYLES),
    "layout": 3,  # one object; two side by side; one above the other
    "second_shape": len(SHAPES),
    "second_colour": len(COLOURS),
}
FEATURES = 128


class Judge(nn.Module):
    """Pictures [N, 3, 128, 128] in 0..1 -> features [N, 128], and from them a guess for every attribute."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 128)
        blocks = []
        for narrow, wide in pairwise(widths):
            blocks += [
                nn.Conv2d(narrow, wide, 3, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.trunk = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(128 * 16, FEATURES), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, count) for name, count in HEADS.items()})
        self.colours = nn.Linear(FEATURES, 6)  # RGB of the upper and of the lower half

    def features(self, pictures: Tensor) -> Tensor:
        return self.trunk(F.avg_pool2d(pictures, 2) * 2 - 1)

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Logits for every entry of HEADS, and `colours` [N, 6]."""
        features = self.features(pictures)
        return {**{name: head(features) for name, head in self.heads.items()}, "colours": self.colours(features)}


@dataclass(frozen=True)
class Verdict:
    """What the judge sees in N pictures: attribute -> index [N], and features [N, 128]."""

    attributes: dict[str, Tensor]
    features: Tensor


@torch.no_grad()
def judge_pictures(judge: Judge, pictures: Tensor) -> Verdict:
    """The judge's verdict on pictures [N, 3, 128, 128] in 0..1."""
    features = torch.cat([judge.features(part) for part in pictures.split(64)])
    return Verdict({name: head(features).argmax(1) for name, head in judge.heads.items()}, features)


def load_judge(path: Path = WEIGHTS) -> Judge:
    """The trained judge."""
    from safetensors.torch import load_file

    judge = Judge()
    judge.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()})
    return judge.train(False).requires_grad_(False)
