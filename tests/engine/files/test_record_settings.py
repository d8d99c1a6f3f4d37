"""What the record of a training tells of single settings, and what a stranger's record does not."""

from __future__ import annotations

import json

import pytest

from ti_engine.files.formats.metadata import class_noun, initial_words


def record(**settings: object) -> dict[str, str]:
    return {"textual_inversion": json.dumps({"version": 1, "settings": settings})}


def test_settings_of_a_record() -> None:
    assert class_noun(record(class_noun="old  heart")) == "old heart"
    assert initial_words(record(initial_words="red dog")) == "red dog"


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"textual_inversion": "["},
        record(),
        record(class_noun=3),
        record(class_noun="a {} b"),
        record(class_noun="\x1b"),
    ],
)
def test_nothing_where_nobody_knows(metadata: dict[str, str]) -> None:
    assert class_noun(metadata) == "" == initial_words(metadata)
