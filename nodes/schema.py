"""What the schemas of all nodes share, and the difference between hosts' versions of the schema classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from comfy_api.latest import io

from ..ti_engine import TrainConfig
from ..ti_engine.training.config import setting_limits

CATEGORY = "textual inversion"
TIEmbedding = io.Custom("TI_EMBEDDING")
TIRun = io.Custom("TI_RUN")  # a ti_engine.run.folder.RunFolder
TITrainOptions = io.Custom("TI_TRAIN_OPTIONS")
TIRun = io.Custom("TI_RUN")  # a ti_engine.run.folder.RunFolder
LARGEST_EXACT = 2**53  # browsers count whole numbers exactly up to here
_T = TypeVar("_T")


def supported(make: Callable[..., _T], *args: Any, **options: Any) -> _T:
    """`make(*args, **options)` without those options that the installed host does not know."""
    known = inspect.signature(make).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        return make(*args, **options)
    return make(*args, **{name: value for name, value in options.items() if name in known})


def setting(name: str, **options: Any) -> Any:
    """The widget of a setting of TrainConfig: kind, default, limits and tooltip are the engine's own.

    options: more arguments of the host's input class; those that the installed host does not know are left out.
    """
    limits = setting_limits(name)
    default = getattr(TrainConfig, name)
    options = {"default": default, "tooltip": limits["help"], **options}
    if isinstance(default, bool):
        return supported(io.Boolean.Input, name, **options)
    if isinstance(default, tuple):
        options |= {"default": ", ".join(default), "tooltip": f"{limits['help']} Several: with commas between them."}
        return supported(io.String.Input, name, **options)
    if limits["choices"]:
        return supported(io.Combo.Input, name, options=list(limits["choices"]), **options)
    if isinstance(default, str):
        return supported(io.String.Input, name, **options)
    kind = type(default)
    ends = {"min": kind(limits["min"]), "max": kind(min(limits["max"], LARGEST_EXACT))}
    return supported(io.Int.Input if kind is int else io.Float.Input, name, **ends, **options)
