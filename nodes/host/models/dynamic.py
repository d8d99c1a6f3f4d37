"""Models that newer hosts load dynamically, and their plain twins, which training needs.

Such a host faults weights in for each operation, and may evict them before the backward pass reads them. The twins are
loaded from the files anew and live as long as the run: the host's own way to one would keep it beside the model.
"""

from __future__ import annotations

from typing import Any


def non_dynamic_model(patcher: Any) -> Any:
    """The MODEL itself where it is not loaded dynamically; else a twin with the same patches. Raises ValueError."""
    if not _is_dynamic(patcher):
        return patcher
    _check_it_can_be_loaded_again(patcher, "MODEL")
    return patcher.clone(disable_dynamic=True)


def non_dynamic_clip(clip: Any) -> Any:
    """The same for a CLIP."""
    if not _is_dynamic(clip.patcher):
        return clip
    _check_it_can_be_loaded_again(clip.patcher, "CLIP")
    copied = clip.clone(disable_dynamic=True)
    copied.cond_stage_model = copied.patcher.model  # clone() leaves it at the dynamic module
    return copied


def _is_dynamic(patcher: Any) -> bool:
    return getattr(patcher, "is_dynamic", bool)()


def _check_it_can_be_loaded_again(patcher: Any, socket: str) -> None:
    if getattr(patcher, "cached_patcher_init", None) is None:
        raise ValueError(
            f"The {socket} is loaded with dynamic VRAM, with which nothing can be trained, and comes from a node that "
            "cannot load it in another way. Start ComfyUI with --disable-dynamic-vram, or load it with one of "
            "ComfyUI's own loaders."
        )
