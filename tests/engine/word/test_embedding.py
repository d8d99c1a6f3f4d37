import pytest
import torch

from ti_engine import TokenEmbedding


def test_the_word_takes_as_many_tokens_as_its_longest_encoder():
    word = TokenEmbedding({"clip_l": torch.zeros(2, 4), "clip_g": torch.zeros(3, 5)})
    assert word.num_vectors == 3
    assert word.placeholder == "S*"


def test_a_copy_shares_nothing_and_is_ordinary_float32():
    with torch.inference_mode():
        rows = torch.ones(1, 4, dtype=torch.float16)
    word = TokenEmbedding({"clip_l": rows}, "cat", {"a": "b"})
    copy = word.copy()
    copy.vectors["clip_l"] += 1
    copy.metadata["a"] = "c"
    assert copy.vectors["clip_l"].dtype == torch.float32
    assert not copy.vectors["clip_l"].is_inference()
    assert float(rows[0, 0]) == 1
    assert word.metadata == {"a": "b"}
    assert copy.placeholder == "cat"


@pytest.mark.parametrize(
    ("vectors", "sentence"),
    [
        ({}, "at least one text encoder"),
        ({"clip_l": torch.zeros(4)}, r"shape \[num_vectors, width\], got torch.float32 of shape \[4\]"),
        ({"clip_l": torch.zeros(0, 4)}, r"shape \[0, 4\]"),
        ({"clip_l": torch.zeros(1, 0)}, r"shape \[1, 0\]"),
        ({"clip_l": torch.zeros(1, 4, dtype=torch.int64)}, "got torch.int64"),
        ({"clip_l": torch.zeros(1, 4), "clip_g": torch.full((1, 4), torch.nan)}, "'clip_g' contain NaN or infinity"),
        ({"clip_l": torch.full((1, 4), torch.inf)}, "NaN or infinity"),
    ],
)
def test_what_cannot_be_an_embedding_is_refused(vectors, sentence):
    with pytest.raises(ValueError, match=sentence):
        TokenEmbedding(vectors)


def test_embeddings_can_be_compared_and_kept_in_sets():
    word = TokenEmbedding({"clip_l": torch.ones(1, 4)})
    same = word
    assert word == same
    assert word != word.copy()
    assert len({word, word.copy()}) == 2
