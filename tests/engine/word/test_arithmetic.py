"""Words made of words: against sums written out, and a sentence for what cannot be combined."""

from __future__ import annotations

import math

import pytest
import torch

from ti_engine import TokenEmbedding
from ti_engine.word.arithmetic import concatenate, repeated, rescale, slerp, truncate, weighted_sum
from ti_engine.word.families import FAMILIES, check_family, family_of


def word(seed: int, count: int = 2, name: str = "S*", **widths: int) -> TokenEmbedding:
    generator = torch.Generator().manual_seed(seed)
    sizes = widths or {"clip_l": 8, "clip_g": 12}
    return TokenEmbedding(
        {key: torch.randn(count, width, generator=generator) for key, width in sizes.items()}, name, {"note": name}
    )


def rows(values: list[list[float]]) -> TokenEmbedding:
    return TokenEmbedding({"clip_l": torch.tensor(values)})


def test_king_minus_man_plus_woman() -> None:
    king, man, woman = word(1, name="king"), word(2, name="man"), word(3, name="woman")
    queen = weighted_sum([king, man, woman], [1, -1, 1])
    for key in ("clip_l", "clip_g"):
        parts = [w.vectors[key].double() for w in (king, man, woman)]
        assert torch.equal(queen.vectors[key], (parts[0] - parts[1] + parts[2]).float())
        assert queen.vectors[key].dtype == torch.float32
    assert queen.placeholder == "king"
    assert queen.metadata == {}


def test_a_sum_is_rounded_once() -> None:
    third = rows([[0.1, 1.0]])
    assert torch.equal(weighted_sum([third] * 3, [1 / 3] * 3).vectors["clip_l"], third.vectors["clip_l"])


def test_nothing_given_is_changed() -> None:
    one, two = word(1), word(2)
    before = [rows.clone() for w in (one, two) for rows in w.vectors.values()]
    results = [
        weighted_sum([one, two], [0.5, 0.5]),
        weighted_sum([one], [1]),
        slerp(one, two, 0.0),
        concatenate([one]),
        truncate(one, 2),
        rescale(one, {"clip_l": 1.0, "clip_g": 1.0}),
    ]
    for result in results:
        for tensor in result.vectors.values():
            tensor.zero_()
    after = [rows for w in (one, two) for rows in w.vectors.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_slerp_turns_by_the_fraction_of_the_angle(fraction: float) -> None:
    angle = 1.2
    start, end = [2.0, 0.0], [3 * math.cos(angle), 3 * math.sin(angle)]
    (between,) = slerp(rows([start]), rows([end]), fraction).vectors["clip_l"]
    length = 2 + fraction
    expected = torch.tensor([length * math.cos(fraction * angle), length * math.sin(fraction * angle)])
    torch.testing.assert_close(between, expected, rtol=1e-6, atol=1e-6)


def test_slerp_of_nearly_parallel_vectors_is_no_division_by_zero() -> None:
    one = rows([[1.0, 1e-9]])
    torch.testing.assert_close(slerp(one, rows([[2.0, 0.0]]), 0.5).vectors["clip_l"], torch.tensor([[1.5, 0.0]]))
    assert torch.equal(slerp(one, one, 0.5).vectors["clip_l"], one.vectors["clip_l"])


def test_concatenate_truncate_repeat() -> None:
    one, two = word(1, count=1), word(2, count=3)
    both = concatenate([one, two])
    assert both.num_vectors == 4
    for key in ("clip_l", "clip_g"):
        assert torch.equal(both.vectors[key], torch.cat([one.vectors[key], two.vectors[key]]))
    first = truncate(two, 2)
    assert torch.equal(first.vectors["clip_g"], two.vectors["clip_g"][:2])
    assert first.metadata == {"note": "S*"}
    shifted = weighted_sum([two, repeated(one, 3)], [1, 1]).vectors["clip_l"]
    torch.testing.assert_close(shifted, two.vectors["clip_l"] + one.vectors["clip_l"][0])


def test_rescale_keeps_directions() -> None:
    before = word(1)
    after = rescale(before, {"clip_l": 0.4, "clip_g": 0.7, "unused": 9.0})
    for key, norm in (("clip_l", 0.4), ("clip_g", 0.7)):
        torch.testing.assert_close(after.vectors[key].norm(dim=1), torch.full((2,), norm))
        cosines = torch.nn.functional.cosine_similarity(after.vectors[key], before.vectors[key])
        torch.testing.assert_close(cosines, torch.ones(2))
    assert after.metadata == before.metadata


def test_what_cannot_be_combined_is_said() -> None:
    sd1, sdxl = word(1, name="cat", clip_l=768), word(2, name="dog", clip_l=768, clip_g=1280)
    with pytest.raises(ValueError, match=r"cat is a word of SD1 and dog one of SDXL.*faithfully"):
        weighted_sum([sd1, sdxl], [1, 1])
    with pytest.raises(ValueError, match="only words of the same text encoders"):
        concatenate([sd1, sdxl])
    with pytest.raises(ValueError, match="cat has 2 vectors and dog 1 vector;"):
        weighted_sum([sd1, word(1, 1, "dog", clip_l=768)], [1, 1])
    with pytest.raises(ValueError, match="as many weights"):
        weighted_sum([sd1, sd1], [1])
    with pytest.raises(ValueError, match="finite"):
        weighted_sum([sd1], [math.nan])
    with pytest.raises(ValueError, match="cancel out"):
        weighted_sum([sd1, sd1], [1, -1])
    with pytest.raises(ValueError, match="no word to begin with"):
        weighted_sum([], [])
    with pytest.raises(ValueError, match="from 0 to 1"):
        slerp(sd1, sd1, 1.5)
    with pytest.raises(ValueError, match="opposite directions"):
        slerp(rows([[1.0, 0.0]]), rows([[-1.0, 0.0]]), 0.5)
    with pytest.raises(ValueError, match="zero vector"):
        slerp(rows([[1.0, 0.0]]), rows([[0.0, 0.0]]), 0.5)
    with pytest.raises(ValueError, match="1 to 2 can be kept, not 3"):
        truncate(sd1, 3)
    with pytest.raises(ValueError, match="1 to 2 can be kept, not 0"):
        truncate(sd1, 0)
    with pytest.raises(ValueError, match="only one can be repeated"):
        repeated(sd1, 3)
    with pytest.raises(ValueError, match="the model has clip_h alone"):
        rescale(sd1, {"clip_h": 1.0})
    with pytest.raises(ValueError, match="zero vector"):
        rescale(rows([[1.0, 0.0], [0.0, 0.0]]), {"clip_l": 1.0})


def test_every_family_is_told_by_its_encoders() -> None:
    for name, family in FAMILIES.items():
        assert family_of(TokenEmbedding({key: torch.ones(1, width) for key, width in family.widths.items()})) == name
    assert family_of(word(1, clip_l=99)) is None


def test_a_word_of_another_family_cannot_be_converted() -> None:
    check_family(word(1, t5xxl=4096, clip_l=768), "hunyuan-video")
    sd1 = word(1, name="cat", clip_l=768)
    with pytest.raises(
        ValueError, match=r"cat holds clip_l of width 768; SDXL takes .* cannot be converted faithfully"
    ):
        check_family(sd1, "sdxl")
    for other in (word(1, clip_l=768, clip_g=1280), word(1, clip_h=1024)):
        with pytest.raises(ValueError, match="faithfully"):
            check_family(other, "sd1")
