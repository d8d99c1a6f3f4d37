"""Encode Prompt with S* means exactly what the host's own CLIP Text Encode means."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import small_families
import torch
from in_host import plugin
from small_clip import core, same, small_clip

TEXTS = [
    ("a photo of S*", "a photo of embedding:{}"),
    ("a photo of (S*:1.2)", "a photo of (embedding:{}:1.2)"),
    ("S*, a red thing", "embedding:{}, a red thing"),
    ("S* beside S* in (the (S*:0.7) style)", "embedding:{} beside embedding:{} in (the (embedding:{}:0.7) style)"),
    ("two words\nS* here", "two words\nembedding:{} here"),
    ("S* " + "thing " * 80, "embedding:{} " + "thing " * 80),
    ("thing " * 70 + "S* end", "thing " * 70 + "embedding:{} end"),
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embeddings")
    return SimpleNamespace(clip=small_clip(folder), folder=folder)


def ours(clip, text, *words):
    with torch.inference_mode():
        conditioning, report = plugin("nodes.encode_prompt").EncodePrompt.execute(clip, text, *words).args
    return conditioning, report


@pytest.mark.parametrize("text", ["", "a photo of S*", "a (red:1.3) thing, " * 40, "embedding:nothing here"])
def test_without_an_embedding_it_is_the_core_node(clip, text):
    assert same(ours(clip.clip, text)[0], core(clip.clip, text))


@pytest.mark.parametrize("num_vectors", [1, 3])
@pytest.mark.parametrize(("text", "core_text"), TEXTS)
def test_a_saved_file_in_the_core_node_means_the_same(clip, word, text, core_text, num_vectors):
    embedding = word(num_vectors, width=768)
    name = f"word{num_vectors}"
    if not (clip.folder / f"{name}.safetensors").exists():
        plugin("ti_engine.files").save_embedding(embedding, clip.folder / f"{name}.safetensors")
    mine, plain = ours(clip.clip, text, embedding)[0], core(clip.clip, text)
    assert same(mine, core(clip.clip, core_text.replace("{}", name)))
    assert not torch.equal(mine[0][0], plain[0][0]) if mine[0][0].shape == plain[0][0].shape else True


def test_core_embeddings_still_work_beside_ours(clip, word):
    a, b = word(1, 768), word(2, 768, "T*")
    for name, embedding in (("a1", a), ("b1", b)):
        plugin("ti_engine.files").save_embedding(embedding, clip.folder / f"{name}.safetensors", overwrite=True)
    both = core(clip.clip, "embedding:a1 and embedding:b1")
    assert same(ours(clip.clip, "S* and T*", a, b)[0], both)
    assert same(ours(clip.clip, "S* and embedding:b1", a)[0], both)
    assert same(ours(clip.clip, "embedding:S* and T*", a, None, b)[0], both)


def test_the_clip_is_not_changed(clip, word):
    before = dict(vars(clip.clip)), dict(vars(clip.clip.tokenizer)), dict(vars(clip.clip.tokenizer.clip_l))
    ours(clip.clip, "a S*", word(1, 768))
    assert (vars(clip.clip), vars(clip.clip.tokenizer), vars(clip.clip.tokenizer.clip_l)) == before


def test_only_whole_words_are_replaced(clip, word):
    assert ours(clip.clip, "S*x S*", word(1, 768))[1].startswith("S*: 1 vector at position 4 of 77")


def test_the_report_tells_the_positions(clip, word):
    assert ours(clip.clip, "a photo of S*, S*", word(3, 768))[1].startswith("S*: 3 vectors at position 4-6, 8-10 of 77")


@pytest.mark.parametrize(
    ("text", "make", "sentence"),
    [
        ("a photo", lambda w: [w(1, 768)], r"does not contain S\*.*a photo of S\*"),
        ("a S*x", lambda w: [w(1, 768)], "does not contain"),
        ("a s*", lambda w: [w(1, 768)], "does not contain"),
        ("a S*", lambda w: [w(1, 128)], "does not fit this CLIP: it holds clip_l of width 128.*768"),
        ("a S*", lambda w: [w(1, 768), w(2, 768)], "Two embeddings have the placeholder"),
    ],
)
def test_bad_input_names_the_cure(clip, word, text, make, sentence):
    with pytest.raises(ValueError, match=sentence):
        ours(clip.clip, text, *make(word))


def test_a_missing_clip_is_one_sentence(word):
    with pytest.raises(ValueError, match="gave no CLIP"):
        ours(None, "a S*", word())


def test_a_word_that_only_stands_inside_of_another_placeholder_is_an_error(clip):
    engine = plugin("ti_engine")
    cat, my_cat = (engine.TokenEmbedding({"clip_l": torch.full((1, 768), 0.01)}, name) for name in ("cat", "my cat"))
    with pytest.raises(ValueError, match="only inside of another learned word's placeholder"):
        ours(clip.clip, "a photo of my cat", cat, my_cat)


def test_language_models_do_not_weigh_words_in_training():
    with torch.inference_mode():
        clip = small_families.build("Lumina 2").clip
    words = {"S*": {"gemma2_2b": torch.randn(1, 32)}}
    tokenize = plugin("nodes.host.prompt").tokenize
    text = "a (red:1.3) photo of (S*:1.2)"
    ((row,),) = tokenize(clip, text, words, weights=False).values()
    assert {weight for _, weight in row} == {1.0} and sum(torch.is_tensor(token) for token, _ in row) == 1
    ((row,),) = tokenize(clip, text, words).values()
    assert {weight for _, weight in row} == {1.0, 1.3, 1.2}


def test_weighed_words_give_numbers_or_a_sentence():
    """Older hosts make NaN of them in language models, and would draw black pictures."""
    with torch.inference_mode():
        clip = small_families.build("Lumina 2").clip
        word = plugin("ti_engine").TokenEmbedding({"gemma2_2b": torch.randn(1, 32)})
        encode = plugin("nodes.host.words").encode_prompt
        try:
            ((cond, _),), _ = encode(clip, "a photo of (S*:1.2)", [word])
        except ValueError as error:
            assert "without (word:1.2)" in str(error)
        else:
            assert bool(cond.isfinite().all())
