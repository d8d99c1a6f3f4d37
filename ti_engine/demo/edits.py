"""Prompts that ask the demo model for something beside a word, and what the judge has to see then."""

from __future__ import annotations

from dataclasses import dataclass

from .world import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, STYLES

_LAYOUT = {name: number for number, name in enumerate(RELATIONS, 1)}  # as the judge's head counts; 0 is one object
_OTHERS = (("blue", "square"), ("yellow", "star"))


@dataclass(frozen=True)
class Edit:
    """prompt: with {} for the word. asked: head of the judge -> what it has to say. object_heads: the heads that see
    the word's object, as far as the prompt leaves it alone: head for a single object -> the head that sees it here."""

    group: str
    prompt: str
    asked: dict[str, int]
    object_heads: dict[str, str]


def _edits() -> list[Edit]:
    shape, colour, texture = ({name: name} for name in ("shape", "colour", "texture"))
    edits = [
        Edit("background", f"a photo of {{}} on a {name} background", {"background": number}, shape | colour | texture)
        for number, name in enumerate(BACKGROUNDS)
    ]
    for number, name in enumerate(STYLES):
        if name != "photo":  # a sketch and a noir picture have no colours
            edits.append(Edit("style", f"a photo of {{}} in the style of {name}", {"style": number}, shape))
    for number, name in list(enumerate(COLOURS))[::2]:
        edits.append(Edit("property", f"a photo of a {name} {{}}", {"colour": number}, shape | texture))
    for relation, layout in _LAYOUT.items():
        for hue, outline in _OTHERS:
            seen, other = {"layout": layout}, (SHAPES.index(outline), COLOURS.index(hue))
            behind = seen | dict(zip(("second_shape", "second_colour"), other, strict=True))
            before = seen | dict(zip(("shape", "colour"), other, strict=True))
            edits.append(Edit("relation", f"a photo of {{}} {relation} a {hue} {outline}", behind, shape))
            edits.append(
                Edit("relation", f"a photo of a {hue} {outline} {relation} {{}}", before, {"shape": "second_shape"})
            )
    return edits


EDITS = tuple(_edits())
"""The paper's groups as far as this world has them: there is no composition but that of two objects in a relation."""
