"""A word of many vectors stands whole in one chunk, and everything else where the host puts it."""

from __future__ import annotations

import pytest
import small_families
import torch
from in_host import plugin
from safetensors.torch import save_file
from small_clip import core, same, small_clip

START, END, WIDTH = 49406, 49407, 768
COMMA, THING = 267, 946  # CLIP's numbers of "," and "thing"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture(scope="module")
def clip(folder):
    return small_clip(folder)


@pytest.fixture(scope="module")
def sdxl():
    with torch.inference_mode():
        return small_families.build("SDXL").clip


def rows_of(count, width=WIDTH):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(count)) * 0.02


def tokens_of(clip, text, words, **options):
    return plugin("nodes.host.text.prompt").tokenize(clip, text, words, **options)


def spelled(chunks, **words):
    """Chunks with vectors spelled as name and row, so that they can be compared."""
    names = {tuple(row.tolist()): f"{name}{i}" for name, rows in words.items() for i, row in enumerate(rows)}
    return [[(names[tuple(t.tolist())] if torch.is_tensor(t) else t, weight) for t, weight in part] for part in chunks]


def chunk(*tokens, pad=END):
    """A chunk by hand: tokens, or pairs of a token and its weight."""
    tokens = [t if isinstance(t, tuple) else (t, 1.0) for t in (START, *tokens, END)]
    return tokens + [(pad, 1.0)] * (77 - len(tokens))


def word(name, count, weight=1.0):
    return [(f"{name}{row}", weight) for row in range(count)]


@pytest.mark.parametrize("weights", [True, False])  # in prompts and in training
@pytest.mark.parametrize("count", [1, 7, 8, 9, 20, 75])
@pytest.mark.parametrize("before", [0, 1, 54, 55, 66, 67, 68, 74, 75, 76, 149])
def test_a_word_stands_whole(clip, count, before, weights):
    rows = rows_of(count)
    (chunks,) = tokens_of(clip, ", " * before + "S* thing", {"S*": {"clip_l": rows}}, weights=weights).values()
    full, left = divmod(before, 75)
    expected = [[COMMA] * 75 for _ in range(full)] + [[COMMA] * left]
    if left + count > 75:
        expected.append([])
    expected[-1] = expected[-1] + word("s", count)
    if len(expected[-1]) == 75:
        expected.append([])
    expected[-1] = [*expected[-1], THING]
    assert spelled(chunks, s=rows) == [chunk(*part) for part in expected]


def test_text_behind_a_moved_word_fills_the_chunk_as_ever(clip):
    rows = rows_of(12)
    text = ", " * 70 + "S*" + ", " * 100
    (chunks,) = tokens_of(clip, text, {"S*": {"clip_l": rows}}).values()
    assert spelled(chunks, s=rows) == [
        chunk(*[COMMA] * 70),
        chunk(*word("s", 12), *[COMMA] * 63),
        chunk(*[COMMA] * 37),
    ]


def test_short_pieces_of_text_stay_whole_as_the_host_keeps_them(clip):
    rows, other = rows_of(10), rows_of(73)
    words = {"S*": {"clip_l": rows}, "T*": {"clip_l": other}}
    (chunks,) = tokens_of(clip, ", " * 70 + "S* T* , , , S*", words).values()
    assert spelled(chunks, s=rows, t=other) == [
        chunk(*[COMMA] * 70),
        chunk(*word("s", 10)),
        chunk(*word("t", 73)),
        chunk(*[COMMA] * 3, *word("s", 10)),
    ]


def test_weights_go_with_the_word(clip):
    rows = rows_of(9)
    (chunks,) = tokens_of(clip, ", " * 70 + "((S*:1.2) thing:0.5)", {"S*": {"clip_l": rows}}).values()
    assert spelled(chunks, s=rows) == [chunk(*[COMMA] * 70), chunk(*word("s", 9, 1.2), (THING, 0.5))]


def test_both_encoders_of_sdxl_place_it_alike(sdxl):
    encoders = plugin("nodes.host.models.encoders").text_encoders(sdxl)
    rows = {key: rows_of(8, encoder.width) for key, encoder in encoders.items()}
    tokens = tokens_of(sdxl, ", " * 72 + "S*", {"S*": rows})
    assert spelled(tokens["l"], s=rows["clip_l"]) == [chunk(*[COMMA] * 72), chunk(*word("s", 8))]
    assert spelled(tokens["g"], s=rows["clip_g"]) == [chunk(*[COMMA] * 72, pad=0), chunk(*word("s", 8), pad=0)]


def test_a_word_that_no_chunk_holds_is_cut_where_the_host_cuts_it(clip):
    rows = rows_of(80)
    (chunks,) = tokens_of(clip, "thing S*", {"S*": {"clip_l": rows}}).values()
    s = word("s", 80)
    assert spelled(chunks, s=rows) == [chunk(THING, *s[:74]), chunk(*s[74:])]
    other = rows_of(10)  # moved, though it stands beside one that cannot be
    words = {"S*": {"clip_l": rows}, "T*": {"clip_l": other}}
    (chunks,) = tokens_of(clip, "S*" + ", " * 68 + "T*", words).values()
    assert spelled(chunks, s=rows, t=other) == [
        chunk(*s[:75]),
        chunk(*s[75:], *[COMMA] * 68),
        chunk(*word("t", 10)),
    ]


def test_the_hosts_own_cut_can_be_asked_for(clip):
    text, rows = ", " * 70 + "S*", rows_of(9)
    (chunks,) = tokens_of(clip, text, {"S*": {"clip_l": rows}}, whole=False).values()
    s = word("s", 9)
    assert spelled(chunks, s=rows) == [chunk(*[COMMA] * 70, *s[:5]), chunk(*s[5:])]


def encoded(clip, text, **words):
    """The conditioning that Encode Prompt with S* gives, and its report; `star` is S*."""
    engine = plugin("ti_engine")
    connected = [engine.TokenEmbedding(rows, "S*" if name == "star" else name) for name, rows in words.items()]
    with torch.inference_mode():
        return plugin("nodes.host.text.words").encode_prompt(clip, text, connected)


def test_the_conditioning_is_that_of_the_tokens_by_hand(clip, sdxl):
    encoders = plugin("nodes.host.models.encoders").text_encoders(sdxl)
    rows = {key: rows_of(10, encoder.width) for key, encoder in encoders.items()}
    filled = [COMMA] * 70
    by_hand = {
        "g": [chunk(*filled, pad=0), chunk(*((row, 1.3) for row in rows["clip_g"]), THING, pad=0)],
        "l": [chunk(*filled), chunk(*((row, 1.3) for row in rows["clip_l"]), THING)],
    }
    with torch.inference_mode():
        theirs = sdxl.encode_from_tokens_scheduled(by_hand)
    assert same(encoded(sdxl, ", " * 70 + "(S*:1.3) thing", star=rows)[0], theirs)


@pytest.mark.parametrize("count", [8, 20])
@pytest.mark.parametrize("text", ["{} thing", ", " * 55 + "{} end", ", " * 75 + "{}", "({}:1.2) " + "thing, " * 50])
def test_a_long_word_that_the_host_keeps_whole_is_its_own_embedding(clip, folder, count, text):
    rows = rows_of(count)
    save_file({"emb_params": rows}, folder / f"long{count}.safetensors")
    theirs = core(clip, text.replace("{}", f"embedding:long{count}"))
    assert same(encoded(clip, text.replace("{}", "S*"), star={"clip_l": rows})[0], theirs)


def test_the_hosts_own_embedding_is_cut_as_the_host_does_and_that_is_told(clip, folder):
    one, many = rows_of(1), rows_of(12).half()
    save_file({"emb_params": one}, folder / "one.safetensors")
    save_file({"emb_params": many}, folder / "many.safetensors")
    text = "{}" + ", " * 68 + "embedding:many thing"
    ours, report = encoded(clip, text.replace("{}", "S*"), star={"clip_l": one})
    assert same(ours, core(clip, text.replace("{}", "embedding:one")))
    assert "Warning: ComfyUI cuts embedding:many in two" in report
    assert "cuts" not in encoded(clip, "S* embedding:many embedding:many", star={"clip_l": one})[1]
