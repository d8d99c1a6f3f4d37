"""What the scores ask of a network that has seen many pictures: CLIP, DINOv2, or the judge of the demo model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Scorer(Protocol):
    """Pictures and texts to vectors. Pictures are [3, H, W] in 0..1 of any sizes; all results are float32 on the CPU.

    Vectors need not have the length 1. What a network does not have is None, whatever is asked.
    """

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def embed_pictures(self, pictures: Sequence[Tensor]) -> Tensor:
        """[N, D], one vector a picture."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Tensor | None:
        """[M, D] in the space of the pictures' vectors; None without a text tower that was trained with the pictures'.

        Raises ValueError for a text that is too long to be read whole.
        """
        ...

    def patch_tokens(self, pictures: Sequence[Tensor]) -> Tensor | None:
        """[N, P, D], a vector for each patch of a picture; None where the network knows no patches."""
        ...
