"""Encode Prompt with S* means exactly what the host's own CLIP Text Encode means."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import folder_paths
import pytest
import small_families
import torch
from in_host import plugin
from safetensors.torch import save_file
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
    tokenize = plugin("nodes.host.text.prompt").tokenize
    text = "a (red:1.3) photo of (S*:1.2)"
    ((row,),) = tokenize(clip, text, words, weights=False).values()
    assert {weight for _, weight in row} == {1.0} and sum(torch.is_tensor(token) for token, _ in row) == 1
    ((row,),) = tokenize(clip, text, words).values()
    assert {weight for _, weight in row} == {1.0, 1.3, 1.2}


@pytest.mark.parametrize("caption", ["S* (fate)", "(S*:1.3) on ((grass))", "S* :) (", "a [S*] (red:0.5) thing"])
def test_parentheses_of_training_captions_are_literal(clip, caption):
    tokenize = plugin("nodes.host.text.prompt").tokenize
    words = {"S*": {"clip_l": torch.randn(1, 768)}}
    (chunks,) = tokenize(clip.clip, caption, words, weights=False).values()
    assert {weight for chunk in chunks for _, weight in chunk} == {1.0}
    before, after = caption.split("S*")
    ids = [clip.clip.tokenizer.clip_l.tokenizer(part)["input_ids"][1:-1] for part in (before, after)]
    tokens = [None if torch.is_tensor(token) else token for token, _ in chunks[0]]
    assert tokens[1 : 2 + sum(map(len, ids))] == [*ids[0], None, *ids[1]]


def test_weighed_words_give_numbers_or_a_sentence():
    """Older hosts make NaN of them in language models, and would draw black pictures."""
    with torch.inference_mode():
        clip = small_families.build("Lumina 2").clip
        word = plugin("ti_engine").TokenEmbedding({"gemma2_2b": torch.randn(1, 32)})
        encode = plugin("nodes.host.text.words").encode_prompt
        try:
            ((cond, _),), _ = encode(clip, "a photo of (S*:1.2)", [word])
        except ValueError as error:
            assert "without (word:1.2)" in str(error)
        else:
            assert bool(cond.isfinite().all())


def save(clip, name, rows):
    (clip.folder / name).parent.mkdir(exist_ok=True)
    save_file({"emb_params": rows}, clip.folder / name)


def test_it_tells_what_comfyui_makes_of_its_own_names(clip, word, monkeypatch):
    extensions = folder_paths.folder_names_and_paths["embeddings"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([str(clip.folder)], extensions))
    save(clip, "one.safetensors", torch.ones(1, 768) * 0.02)
    save(clip, "a/twice.safetensors", torch.ones(1, 768) * 0.02)
    save(clip, "b/twice.safetensors", torch.ones(1, 768) * 0.02)
    save(clip, "wide.safetensors", torch.ones(1, 1280) * 0.02)
    text = "a (embedding:one:1.2), embedding:one, embedding:a/twice embedding:S* embedding:twice x,embedding:not_seen"
    report = ours(clip.clip, f"{text} embedding:no embedding:wide", word(1, 768))[1].splitlines()
    assert report[0].startswith("S*: 1 vector at position ")
    assert report[1:] == [
        "embedding:one: ComfyUI's own, from one.safetensors.",
        "embedding:a/twice: ComfyUI's own, from a/twice.safetensors.",
        "Warning: embedding:twice is any of a/twice.safetensors and b/twice.safetensors, by chance; write it with its "
        "folder.",
        "Warning: embedding:no is in none of the embeddings folders, so ComfyUI ignores it.",
        "Warning: ComfyUI cannot use wide.safetensors here and ignores embedding:wide; <wide> says why.",
        "Warning: ComfyUI reads embedding:not_seen as words: it knows a name behind a space only.",
    ]
    assert ours(clip.clip, "a photo")[1] == "No embedding connected: as CLIP Text Encode."
    with torch.inference_mode():
        knows_none = small_families.build("Lumina 2").clip
    plugin("nodes.host.models.encoders").text_encoders(knows_none)["gemma2_2b"].tokenizer.embedding_directory = None
    assert "knows no embedding:one in this text encoder" in ours(knows_none, "a embedding:one")[1]
    with torch.inference_mode():
        ours_tokens = plugin("nodes.host.text.prompt").tokenize(knows_none, "a embedding:one\nb", {}, look_ups=[])
        assert ours_tokens == knows_none.tokenize("a embedding:one\nb")


@pytest.mark.parametrize("name", ["fox-2", "den/fox", "my_fox", "fox.v1", "fox-and-fox", "old fox"])
def test_a_word_leaves_the_names_of_other_files_alone(clip, word, monkeypatch, name):
    extensions = folder_paths.folder_names_and_paths["embeddings"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([str(clip.folder)], extensions))
    fox = word(2, 768, "fox")
    plugin("ti_engine.files").save_embedding(fox, clip.folder / "own.safetensors", overwrite=True)
    save(clip, f"{name}.safetensors", torch.ones(1, 768) * 0.02)
    spelled = f"embedding:{name}" if " " not in name else f"<{name}>"
    core_name = "plain"
    save(clip, "plain.safetensors", torch.ones(1, 768) * 0.02)
    for text in ("fox beside {}", "({}:1.2), a fox", "{} fox", "embedding:fox and {}, fox"):
        mine, report = ours(clip.clip, text.replace("{}", spelled), fox)
        theirs = text.replace("embedding:fox", "fox").replace("fox", "embedding:own")
        assert same(mine, core(clip.clip, theirs.replace("{}", f"embedding:{core_name}")))
        assert report.startswith("fox: 2 vectors at position") and f"{name}.safetensors" in report
    with pytest.raises(ValueError, match=rf"does not contain fox.* inside of .*{name}"):
        ours(clip.clip, f"a {spelled}", fox)


@pytest.mark.parametrize(
    "tag", ["<red-fox-anim>", "<red-fox:1.1>", "<lora:red-fox:1>", "<my red-fox>", "<lyco:x:red-fox>"]
)
def test_an_unknown_tag_is_an_error_whatever_is_connected(clip, word, tag):
    with pytest.raises(ValueError, match="no embedding"):
        ours(clip.clip, f"a red-fox and {tag}", word(1, 768, "red-fox"))


def test_a_name_that_was_put_in_a_bracket_of_a_model_without_weights_is_read_as_words(clip, word):
    """Its tokenizer does not take brackets apart, so there is no space in front of the name."""
    small = copy.copy(clip.clip)
    small.tokenizer = copy.copy(small.tokenizer)
    small.tokenizer.clip_l = copy.copy(small.tokenizer.clip_l)
    if not hasattr(small.tokenizer.clip_l, "disable_weights"):
        pytest.skip("this host weighs words in every text encoder")
    small.tokenizer.clip_l.disable_weights = True
    save(clip, "one.safetensors", torch.ones(1, 768) * 0.02)
    text = "a (embedding:one:1.2) b"
    mine, report = ours(small, text)
    assert same(mine, core(small, text)) and "reads embedding:one:1.2 as words" in report
    assert "embedding:one: ComfyUI's own" in ours(small, "a embedding:one b")[1]


@pytest.mark.parametrize(
    "text",
    [
        "\u4e00\u5f20S*\u7684\u7167\u7247",
        "\u0e23\u0e39\u0e1bS*\u0e17\u0e35\u0e48",
        "S*\u306e\u5199\u771f",
        "S*\uc758 \uc0ac\uc9c4",
    ],
)
def test_a_word_between_letters_of_scripts_without_spaces(clip, word, text):
    plugin("ti_engine.files").save_embedding(word(2, 768), clip.folder / "own.safetensors", overwrite=True)
    mine, report = ours(clip.clip, text, word(2, 768))
    assert same(mine, core(clip.clip, text.replace("S*", " embedding:own ")))
    assert report.startswith("S*: 2 vectors at")


def test_composed_and_decomposed_letters_are_one_word(clip, word):
    composed, decomposed = "pi\u00f1ata", "pin\u0303ata"
    mine = [
        ours(clip.clip, f"a {written}", word(1, 768, called))[0]
        for written in (composed, decomposed)
        for called in (composed, decomposed)
    ]
    assert all(same(mine[0], other) for other in mine[1:])
    with pytest.raises(ValueError, match="Two embeddings have the placeholder"):
        ours(clip.clip, f"a {composed}", word(1, 768, composed), word(2, 768, decomposed))
    with pytest.raises(ValueError, match="does not contain"):
        ours(clip.clip, "a resume\u0301", word(1, 768, "resume"))


def test_an_embedding_without_a_name_is_one_sentence(clip, word):
    with pytest.raises(ValueError, match="no name behind embedding:"):
        ours(clip.clip, "a S* embedding:", word(1, 768))


def test_a_placeholder_that_is_a_word_is_told(clip, word):
    assert "Warning: dog is a word that the model knows" in ours(clip.clip, "a dog", word(1, 768, "dog"))[1]
    assert "Warning" not in ours(clip.clip, "a sksdog", word(1, 768, "sksdog"))[1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a S* T*", r"^The vectors of T\* hold NaN or numbers far too large"),
        ("a S* embedding:nan", "^The vectors of embedding:nan hold NaN"),
        ("a (S*:nan)", "^A weight in the text is NaN or far too large"),
        ("a S* (cat:1e39)", "^A weight in the text is NaN"),
    ],
)
def test_what_makes_nan_is_named(clip, word, text, sentence):
    save(clip, "nan.safetensors", torch.full((1, 768), torch.nan))
    long = plugin("ti_engine").TokenEmbedding({"clip_l": torch.full((1, 768), 1e30)}, "T*")
    with pytest.raises(ValueError, match=sentence):
        ours(clip.clip, text, word(1, 768), *([long] if "T*" in text else []))


def test_a_broken_text_encoder_is_named(tmp_path, word):
    broken = small_clip(tmp_path)
    with torch.inference_mode():
        for weight in broken.cond_stage_model.parameters():
            weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="neither a word nor a weight in it explains"):
        ours(broken, "a (S*:1.2)", word(1, 768))
