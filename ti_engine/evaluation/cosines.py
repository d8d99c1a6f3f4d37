"""Cosines between pictures, and between pictures and texts: the numbers that all scores are means of."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pairwise_cosines(rows: Tensor, columns: Tensor) -> Tensor:
    """[N, D] and [M, D] -> [N, M], the cosine of each row with each column, in float64."""
    return F.normalize(rows.double(), dim=-1) @ F.normalize(columns.double(), dim=-1).T


def cosine_of_mean(pictures: Tensor, text: Tensor) -> float:
    """Cosine of the mean of the pictures' unit vectors [N, D] with a text [D], as the paper averages.

    It is the mean of the cosines divided by the length of the mean vector, which is at most 1: the more the pictures
    differ from one another, the farther it lies above the mean of the cosines.
    """
    mean = F.normalize(pictures.double(), dim=-1).mean(0)
    return float(F.cosine_similarity(mean, text.double(), dim=0))


def patch_likeness(rows: Tensor, columns: Tensor) -> Tensor:
    """Patch tokens [N, P, D] and [M, Q, D] -> [N, M], how well the patches of two pictures find one another.

    For unit tokens a_i of one picture and b_j of the other it is

        (mean_i max_j a_i . b_j  +  mean_j max_i a_i . b_j) / 2

    It is symmetric, at most 1, and 1 for a picture with itself. A part of the thing counts wherever it stands in the
    picture, so moving the thing costs little; a part that only one of the two pictures has lowers it.
    """
    rows, columns = F.normalize(rows.float(), dim=-1), F.normalize(columns.float(), dim=-1)
    likeness = torch.empty(len(rows), len(columns), dtype=torch.float64)
    for n, own in enumerate(rows):
        for m, other in enumerate(columns):
            cosines = own @ other.T  # [P, Q]
            likeness[n, m] = (cosines.amax(1).double().mean() + cosines.amax(0).double().mean()) / 2
    return likeness
