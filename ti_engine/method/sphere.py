"""Learning the direction of a vector while its length stays that of the vocabulary's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class SphereAdam(torch.optim.Optimizer):
    """Adam (Kingma & Ba 2015) on spheres: every row of a parameter has the length `norm` of its group after each step.

    Free vectors grow to several times the length of a word, and a text encoder with normalised layers then loses the
    word's place in the sentence (Kim et al. 2025, arXiv 2512.13672). As there, the gradient is projected onto the
    tangent space and the row is scaled back after the update. Adam's second moment is one number for each row, not for
    each coordinate: a sphere has no preferred axes, and the step keeps the direction of the mean gradient.

    groups: each with "params", tensors [n, width]; "norm"; "eps"; and "lr", about the largest root mean square of a
    coordinate's step: where gradients agree, a row turns by the angle whose tangent is lr * sqrt(width) / norm.
    """

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": 0.0, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            first, second = group["betas"]
            for rows in group["params"]:
                if rows.grad is None:
                    continue
                gradient, state = tangent(rows.grad, rows), self.state[rows]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"] = torch.zeros_like(rows)
                    state["exp_avg_sq"] = torch.zeros_like(rows[:, :1])
                state["step"] += 1
                count = float(state["step"])
                state["exp_avg"].lerp_(gradient, 1 - first)
                state["exp_avg_sq"].lerp_(gradient.square().mean(1, keepdim=True), 1 - second)
                size = (state["exp_avg_sq"] / (1 - second**count)).sqrt() + group["eps"]
                rows -= group["lr"] * state["exp_avg"] / (1 - first**count) / size
                rows.copy_(scaled_to(rows, group["norm"]))


def tangent(gradient: Tensor, rows: Tensor) -> Tensor:
    """The part of each row's gradient [n, width] that is orthogonal to the row."""
    unit = scaled_to(rows, 1.0)
    return gradient - (gradient * unit).sum(1, keepdim=True) * unit


def scaled_to(rows: Tensor, norm: float) -> Tensor:
    """Each row [n, width] with the length `norm`; a row of zeros stays."""
    length = rows.norm(dim=1, keepdim=True)
    return rows * (norm / torch.where(length > 0, length, norm))
