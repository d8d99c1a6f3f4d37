"""The learned thing: a few vectors that stand for one word."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .placeholder import DEFAULT_PLACEHOLDER, composed


@dataclass(frozen=True, eq=False)  # tensors have no single truth to compare by
class TokenEmbedding:
    """The vectors of one placeholder, for every text encoder that it was learned in.

    vectors: encoder key ("clip_l", "clip_g", ... as ComfyUI names them) -> float32 [num_vectors, width], on the CPU.
    placeholder: how prompts call it, in normal form C.
    metadata: what is known about its origin, text to text; written into files as it is.
    Raises ValueError for tensors that cannot be an embedding.
    """

    vectors: dict[str, Tensor]
    placeholder: str = DEFAULT_PLACEHOLDER
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "placeholder", composed(self.placeholder))
        if not self.vectors:
            raise ValueError("An embedding needs the vectors of at least one text encoder; got none.")
        for key, rows in self.vectors.items():
            if rows.ndim != 2 or 0 in rows.shape or not rows.is_floating_point():
                raise ValueError(
                    f"The vectors of {key!r} must be floats of shape [num_vectors, width], "
                    f"got {rows.dtype} of shape {list(rows.shape)}."
                )
            if not bool(rows.isfinite().all()):
                raise ValueError(f"The vectors of {key!r} contain NaN or infinity. The file or the training is broken.")

    @property
    def num_vectors(self) -> int:
        """Tokens that the word takes up in a prompt (of the encoder where it takes most)."""
        return max(len(rows) for rows in self.vectors.values())

    def copy(self) -> TokenEmbedding:
        """The same word in memory of its own, outside of any inference mode's tensors."""
        return TokenEmbedding(
            {key: rows.detach().to("cpu", torch.float32, copy=True) for key, rows in self.vectors.items()},
            self.placeholder,
            dict(self.metadata),
        )
