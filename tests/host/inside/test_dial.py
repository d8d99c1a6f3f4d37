"""Fidelity-Editability with the demo model: the class word is the host's own, and prompts take the word."""

from __future__ import annotations

import pytest
import torch
from in_host import plugin


@pytest.fixture
def dial():
    def run(embedding, position, path="direction", class_word="heart", **sockets):
        with torch.inference_mode():
            return plugin("nodes.dial").Dial.execute(embedding, position, path, class_word, **sockets).args

    return run


@pytest.fixture
def learned():
    rows = torch.randn(2, 128, generator=torch.Generator().manual_seed(5))
    return plugin("ti_engine").TokenEmbedding({"clip_l": rows}, "S*", {"note": "mine"})


def rows(word):
    return word.vectors["clip_l"]


def test_the_ends_are_the_models_word_and_the_learned_one(models, dial, learned):
    _, clip, _ = models
    heart = plugin("nodes.host.models.vocabulary").ClipVocabulary(clip).word_vectors("heart")["clip_l"]
    start, end = (dial(learned, position, clip=clip)[0] for position in (0.0, 1.0))
    assert torch.equal(rows(start), heart.repeat(2, 1))
    assert torch.equal(rows(end), rows(learned)) and end.metadata == learned.metadata


def test_a_prompt_with_the_word_at_0_is_the_prompt_with_the_class_word(models, dial, learned):
    _, clip, _ = models
    engine = plugin("ti_engine")
    one = engine.TokenEmbedding({"clip_l": rows(learned)[:1]}, "S*")
    word, report = dial(one, 0.0, clip=clip)
    encode = plugin("nodes.host.text.words").encode_prompt
    with torch.inference_mode():
        (((cond, _),), _), (((wanted, _),), _) = (
            encode(clip, text, words) for text, words in (("a photo of S*", [word]), ("a photo of heart", []))
        )
    assert torch.equal(cond, wanted)
    assert 'from "heart" (0)' in report and '"S* heart"' in report


def test_between_the_ends_it_is_a_new_word_half_way(models, dial, learned):
    _, clip, _ = models
    word, report = dial(learned, 0.5, clip=clip)
    start = dial(learned, 0.0, clip=clip)[0]
    angle = plugin("ti_engine.word.dial").mean_angle
    assert angle(rows(start), rows(word)) == pytest.approx(angle(rows(start), rows(learned)) / 2, abs=0.05)
    assert word.metadata == {"modelspec.merged_from": "heart (0.5), S* (0.5)"}
    assert "Not calibrated" in report


def test_a_class_word_of_more_tokens_than_vectors_is_taken_as_a_training_does(models, dial, learned):
    word, report = dial(learned, 0.0, class_word="red, blue heart", clip=models[1])
    wanted = plugin("nodes.host.models.vocabulary").ClipVocabulary(models[1]).word_vectors("red blue")["clip_l"]
    assert torch.equal(rows(word), wanted) and "left out: heart." in report


@pytest.mark.parametrize(
    ("class_word", "sentence"),
    [("", "give the class word"), ("qqq", "does not know 'qqq'"), ("\u3001", "holds no word")],
)
def test_what_has_no_way_is_one_sentence(models, dial, learned, class_word, sentence):
    with pytest.raises(ValueError, match=sentence):
        dial(learned, 0.5, class_word=class_word, clip=models[1])


def test_a_word_of_another_model_is_refused(models, dial):
    stranger = plugin("ti_engine").TokenEmbedding({"clip_l": torch.ones(1, 768)}, "S*")
    with pytest.raises(ValueError, match="does not fit this CLIP"):
        dial(stranger, 0.5, clip=models[1])
