"""The table of prompts, and the texts that pictures are compared with."""

from __future__ import annotations

import pytest

from ti_engine.evaluation.prompts import PHOTO, PROMPTS, prompt_for, text_without_word


def test_the_papers_groups_each_with_several_prompts() -> None:
    assert list(PROMPTS) == ["background", "style", "property", "composition", "relation"]
    for prompts in PROMPTS.values():
        assert len(set(prompts)) >= 4 and all(prompt.count("{}") == 1 for prompt in prompts)
        assert PHOTO not in prompts


@pytest.mark.parametrize("placeholder", ["S*", "<cat>", "cat-toy"])
def test_the_text_is_the_prompt_without_the_word(placeholder: str) -> None:
    for prompts in PROMPTS.values():
        for prompt in prompts:
            text = text_without_word(prompt_for(prompt, placeholder), placeholder)
            assert text == text_without_word(prompt) and placeholder not in text and "{}" not in text
    assert text_without_word("a photo of S*, on the moon", "S*") == "a photo of, on the moon"
    assert text_without_word("S*", "S*") == ""
    assert text_without_word("an S*2 on S*", "S*") == "an S*2 on"


def test_the_noun_stands_behind_the_word_in_the_prompt_alone() -> None:
    assert prompt_for(PHOTO, "S*", "heart") == "a photo of S* heart"
    assert prompt_for("{} under a red umbrella", "<cat>", "old heart") == "<cat> old heart under a red umbrella"
    assert text_without_word("{} under a red umbrella") == "under a red umbrella"
