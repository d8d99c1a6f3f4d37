"""The host's CLIP_VISION, and the text tower that was trained with it, as a scorer of pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import comfy.model_management as memory
import comfy.utils
import torch
from torch import Tensor

from .models.encoders import text_encoders

_AT_ONCE = 16  # pictures of one size
_TEXT_KEY = "clip_g"


class HostScorer:
    """The Scorer of ti_engine/evaluation over a CLIP_VISION, and over a CLIP if texts are to be scored.

    Of text encoders only clip_g is taken: SDXL and its relatives read its projected output, so their files hold its
    text projection. Files of clip_l and clip_h often lack theirs, which the host then leaves as whatever was in memory,
    and says nothing. Raises ValueError with one sentence for a CLIP_VISION or CLIP that cannot score.
    """

    name = "CLIP_VISION"

    def __init__(self, clip_vision: Any, clip: Any = None) -> None:
        if not hasattr(clip_vision, "encode_image"):
            raise ValueError(f"clip_vision was given {type(clip_vision).__name__}; connect Load CLIP Vision.")
        self._vision, self._clip = clip_vision, clip
        if clip is None:
            return
        if not isinstance(getattr(clip_vision.model, "visual_projection", None), torch.nn.Linear):
            raise ValueError(
                "This CLIP_VISION was loaded without a projection into the space of texts, so no text can be compared "
                "with its pictures; load the vision tower of CLIP ViT-bigG, or disconnect clip."
            )
        if _TEXT_KEY not in (found := text_encoders(clip)):
            raise ValueError(
                f"This CLIP holds {', '.join(found) or 'no CLIP'}, whose file need not hold a text projection; text is "
                "scored with clip_g alone: connect the CLIP of an SDXL checkpoint and the vision tower of CLIP "
                "ViT-bigG, or disconnect clip."
            )

    def embed_pictures(self, pictures: Sequence[Tensor]) -> Tensor:
        return self.look(pictures)[0]

    def patch_tokens(self, pictures: Sequence[Tensor]) -> Tensor:
        return self.look(pictures)[1]

    def look(self, pictures: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Vectors [N, D] and patch tokens [N, P, E] of pictures [3, H, W] in 0..1, in one pass.

        Raises the host's interrupt between batches. ValueError for a network whose pictures have no vector.
        """
        bar, vectors, patches = comfy.utils.ProgressBar(len(pictures)), [], []
        for batch in _batches(pictures):
            memory.throw_exception_if_processing_interrupted()
            seen = self._vision.encode_image(batch.movedim(1, -1))
            if seen["image_embeds"].ndim != 2:
                raise ValueError(
                    "This CLIP_VISION gives no vector for a whole picture, as SigLIP in ComfyUI; load the vision tower "
                    "of CLIP (ViT-L, ViT-H, ViT-bigG) or DINOv2."
                )
            vectors.append(seen["image_embeds"].float().cpu())
            patches.append(_patches(seen["last_hidden_state"]).float().cpu())
            bar.update(len(batch))
        return torch.cat(vectors), torch.cat(patches)

    def embed_texts(self, texts: Sequence[str]) -> Tensor | None:
        """As the Protocol says. ValueError for a text of more than 75 tokens, and for towers of different CLIPs."""
        return None if self._clip is None else torch.cat([self._embed_text(text) for text in texts])

    def _embed_text(self, text: str) -> Tensor:
        tokens = self._clip.tokenize(text)
        if len(tokens["g"]) > 1:
            raise ValueError("The text is longer than the 75 tokens that CLIP reads; shorten it.")
        pooled = self._clip.encode_from_tokens(tokens, return_pooled=True)[1].float().cpu()
        vector = pooled[:, -text_encoders(self._clip)[_TEXT_KEY].width :]  # models with two encoders give clip_l first
        width = self._vision.model.visual_projection.out_features
        if vector.shape[1] != width:
            raise ValueError(
                f"The text tower gives vectors of {vector.shape[1]} numbers and the CLIP_VISION of {width}, so they "
                "were not trained together; clip_g goes with the vision tower of CLIP ViT-bigG."
            )
        return vector


def _batches(pictures: Sequence[Tensor]) -> Iterator[Tensor]:
    """The pictures in their order, those of one size that follow each other together: [B, 3, H, W]."""
    begin = 0
    while begin < len(pictures):
        end = begin + 1
        while end < min(len(pictures), begin + _AT_ONCE) and pictures[end].shape == pictures[begin].shape:
            end += 1
        yield torch.stack(list(pictures[begin:end]))
        begin = end


def _patches(tokens: Tensor) -> Tensor:
    """[N, T, E] without the class and register tokens in front: the host shows every network square pictures."""
    return tokens[:, tokens.shape[1] - math.isqrt(tokens.shape[1]) ** 2 :]
