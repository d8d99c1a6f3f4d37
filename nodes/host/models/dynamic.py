"""Models that newer hosts load dynamically, and their plain twins, which training needs.

Such a host faults weights in for each operation, and may evict them before the backward pass reads them. The twins are
loaded from the files anew, which takes many seconds, and live as long as the training: the host's own way to one would
keep it beside the model. What is asked before training, and the run's key, needs none.
"""

from __future__ import annotations

from typing import Any


def check_twins(model: Any, clip: Any) -> None:
    """Raises ValueError where a MODEL or CLIP is loaded dynamically and cannot be loaded in another way."""
    for patcher, socket in ((model, "MODEL"), (clip.patcher, "CLIP")):
        if _is_dynamic(patcher) and getattr(patcher, "cached_patcher_init", None) is None:
            raise ValueError(
                f"The {socket} is loaded with dynamic VRAM, with which nothing can be trained, and comes from a node "
                "that cannot load it in another way. Start ComfyUI with --disable-dynamic-vram, or load it with one of "
                "ComfyUI's own loaders."
            )


def non_dynamic_model(patcher: Any) -> Any:
    """The MODEL itself where it is not loaded dynamically; else a twin with the same patches."""
    return patcher.clone(disable_dynamic=True) if _is_dynamic(patcher) else patcher


def non_dynamic_clip(clip: Any) -> Any:
    """The same for a CLIP."""
    if not _is_dynamic(clip.patcher):
        return clip
    copied = clip.clone(disable_dynamic=True)
    copied.cond_stage_model = copied.patcher.model  # clone() leaves it at the dynamic module
    return copied


def _is_dynamic(patcher: Any) -> bool:
    return getattr(patcher, "is_dynamic", bool)()
