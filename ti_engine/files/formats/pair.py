"""diffusers writes a word of two text encoders as two files, learned_embeds.safetensors and learned_embeds_2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..refused import Refused
from .lookalikes import printable_name
from .table import NAMED, Found, FoundWord

_FIRST, _SECOND = "learned_embeds", "learned_embeds_2"  # -steps-500 may follow
_OTHER_WIDTHS = {768: (1280, 4096)}  # SDXL's clip_g, Flux.1's T5


def with_partner(path: Path, found: Found, partner: Path | None, find: Callable[[Path], Found]) -> Found:
    """`found` in `path` with the vectors of its other half: in `partner`, else in the file beside `path`, if any.

    find: the words in a file. Raises Refused if `partner` holds no other half.
    """
    if partner is not None:
        other = find(partner)
        both = _united(found, other) or _united(other, found)
        if both is None:
            raise Refused(
                f"and {printable_name(partner)} are no pair: two files of one word have the same name in them, one "
                "tensor each, and different widths"
            )
        return both
    beside = partner_path(path)
    if _half_of(found) is None:
        return found
    try:
        other = find(beside) if beside.is_file() and _in_one_folder(path, beside) else None
    except (ValueError, OSError):  # whatever it is, it is not the other half
        other = None
    both = other and (_united(found, other) or _united(other, found))
    if both is None:
        return found
    return replace(
        both, warnings=[*both.warnings, f"Read together with {printable_name(beside)}, its other half beside it."]
    )


def _in_one_folder(path: Path, beside: Path) -> bool:
    """Whether both are where links lead, too: what somebody put beside a file must not open another one elsewhere."""
    return path.resolve().parent == beside.resolve().parent


def _is_second(path: Path) -> bool:
    return _SECOND in path.stem or (_FIRST not in path.stem and path.stem.endswith("_2"))


def partner_path(path: Path) -> Path:
    """Where the other half of the word in `path` would lie."""
    stem = path.stem
    if _is_second(path):
        stem = stem.replace(_SECOND, _FIRST, 1) if _SECOND in stem else stem.removesuffix("_2")
    else:
        stem = stem.replace(_FIRST, _SECOND, 1) if _FIRST in stem else f"{stem}_2"
    return path.with_name(stem + path.suffix)


def _half_of(found: Found) -> FoundWord | None:
    """The one word in `found` if it has a name and vectors for one encoder."""
    if found.format != NAMED or len(found.words) != 1 or len(found.words[0].tensors) != 1:
        return None
    return found.words[0]


def _united(first: Found, second: Found) -> Found | None:
    one, two = _half_of(first), _half_of(second)
    if one is None or two is None or one.name != two.name:
        return None
    ((key, rows),), ((_, others),) = one.tensors.items(), two.tensors.items()
    if others.shape[-1] not in _OTHER_WIDTHS.get(rows.shape[-1], ()):
        return None
    word = FoundWord(one.name, {key: rows, f"{key}_2": others})
    return Found(first.format, [word], second.metadata | first.metadata, [*first.warnings, *second.warnings])
