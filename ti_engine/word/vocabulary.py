"""The scale of a vocabulary: how long its vectors usually are."""

from __future__ import annotations

from torch import Tensor


def usual_scale(norms: Tensor, width: int) -> tuple[float, float]:
    """The root mean square of a coordinate of the vocabulary's usual vector, and that vector's length.

    norms: [tokens], the lengths of the vocabulary's vectors; width: coordinates of one. The usual vector is the median
    by length: rows that no training ever moved, or a few that grew out of all proportion, have no say in it.
    """
    length = float(norms.double().nanmedian())
    return length / width**0.5, length
