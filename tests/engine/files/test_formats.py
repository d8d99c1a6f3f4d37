"""Every format of docs/formats.md, written here as its programs write it, and what only looks like one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from format_contents import LORA, SDXL, Read, a1111, latent_diffusion, rows, vectors
from torch import Tensor

from ti_engine.files import load_embedding

CASES: dict[str, tuple[Any, bool, str | None, dict[str, int], str]] = {
    # name: (content, pickled, trigger, encoder -> vectors, format)
    "F1": (latent_diffusion({"*": rows()}), True, "*", {"clip_l": 2}, "latent diffusion"),
    "F1 BERT": (latent_diffusion({"*": rows(3, 1280)}), True, "*", {"bert": 3}, "latent diffusion"),
    "F1 SD2": (latent_diffusion({"*": rows(3, 1024)}), True, "*", {"clip_h": 3}, "latent diffusion"),
    "F2": (a1111({"*": rows()}), True, None, {"clip_l": 2}, "A1111"),
    "F2 one vector": (a1111({"*": rows(1)[0]}), True, None, {"clip_l": 1}, "A1111"),
    "F2 learnable": (a1111({"*": rows().requires_grad_()}), True, None, {"clip_l": 2}, "A1111"),
    "F2 without tokens": ({"string_to_param": {"*": rows()}, "name": "x"}, True, None, {"clip_l": 2}, "A1111"),
    "F2 bare": ({"string_to_param": {"*": rows()}}, True, None, {"clip_l": 2}, "A1111"),
    "F2 another key": (a1111({"<cat>": rows()}), True, "<cat>", {"clip_l": 2}, "A1111"),
    "F2 row by row": (a1111({"*": rows(1).expand(4, 768)}), True, None, {"clip_l": 4}, "A1111"),
    "F2 columns": (a1111({"*": rows(768, 2).t()}), True, None, {"clip_l": 2}, "A1111"),
    "F2 fields inside": (
        {"string_to_token": {"*": 265}, "string_to_param": {"*": rows(), "name": None, "step": 3}},
        True,
        None,
        {"clip_l": 2},
        "A1111",
    ),
    "F2 SD2 in halves": (a1111({"*": rows(4, 1024).half()}), True, None, {"clip_h": 4}, "A1111"),
    "F2 SDXL": (a1111({"clip_l": rows(), "clip_g": rows(2, 1280)}), True, None, {"clip_l": 2, "clip_g": 2}, "A1111"),
    "F3 1-D": ({"<Le Petit Prince-moon >": rows(1)[0]}, True, "<Le Petit Prince-moon >", {"clip_l": 1}, "diffusers"),
    "F3 2-D": ({"<cat>": rows(5)}, True, "<cat>", {"clip_l": 5}, "diffusers"),
    "F3 and a step": ({"<cat>": rows(), "step": torch.tensor(500)}, True, "<cat>", {"clip_l": 2}, "diffusers"),
    "F4": ({"<CAT-toy>": rows()}, False, "<CAT-toy>", {"clip_l": 2}, "diffusers"),
    "F4 plain word": ({"cat": rows()}, False, "cat", {"clip_l": 2}, "diffusers"),
    "F4 dots": ({"cat v1.2.": rows()}, False, "cat v1.2.", {"clip_l": 2}, "diffusers"),
    "F4 an animal": ({"llama": rows()}, False, "llama", {"clip_l": 2}, "diffusers"),
    "F4 star": ({"*": rows()}, False, "*", {"clip_l": 2}, "diffusers"),
    "F5": ({"emb_params": rows()}, False, None, {"clip_l": 2}, "emb_params"),
    "F5 kohya pt": ({"emb_params": rows()}, True, None, {"clip_l": 2}, "emb_params"),
    "F5 SD2": ({"emb_params": rows(2, 1024)}, False, None, {"clip_h": 2}, "emb_params"),
    "F6": ({"clip_g": rows(2, 1280), "clip_l": rows()}, False, None, {"clip_l": 2, "clip_g": 2}, "encoder keys"),
    "F6 kohya pt": (
        {"clip_g": rows(2, 1280), "clip_l": rows()},
        True,
        None,
        {"clip_l": 2, "clip_g": 2},
        "encoder keys",
    ),
    "F6 uneven": ({"clip_g": rows(3, 1280), "clip_l": rows()}, False, None, {"clip_l": 2, "clip_g": 3}, "encoder keys"),
    "F6 clip_l alone": ({"clip_l": rows()}, False, None, {"clip_l": 2}, "encoder keys"),
    "F6 SD2": ({"clip_l": rows(2, 1024)}, False, None, {"clip_h": 2}, "encoder keys"),
    "F6 shouted": (
        {"CLIP_G": rows(2, 1280), "CLIP-L": rows()},
        False,
        None,
        {"clip_l": 2, "clip_g": 2},
        "encoder keys",
    ),
    "F7": (
        {"text_encoders_0": rows(2, 768, torch.bfloat16), "text_encoders_1": rows(2, 1280, torch.bfloat16)},
        False,
        None,
        {"clip_l": 2, "clip_g": 2},
        "cog",
    ),
    "F8 dict": (
        {"emb": rows(1, 768, torch.bfloat16)[0], "emb2": rows(1, 1280, torch.bfloat16)[0]},
        True,
        None,
        {"clip_l": 1, "clip_g": 1},
        "emb and emb2",
    ),
    "F8 bare T5": (rows(1, 4096, torch.bfloat16)[0], True, None, {"t5xxl": 1}, "bare tensor"),
    "F9": ({"emp_params": rows()}, False, None, {"clip_l": 2}, "OneTrainer"),
    "F9 no output": (
        {"emp_params": rows(), "emp_params_out": torch.zeros(2, 768)},
        False,
        None,
        {"clip_l": 2},
        "OneTrainer",
    ),
    "F10 SD3": (
        {"clip_l": rows(), "clip_g": rows(2, 1280), "t5": rows(2, 4096)},
        False,
        None,
        {"clip_l": 2, "clip_g": 2, "t5xxl": 2},
        "encoder keys",
    ),
    "F10 HunyuanVideo": (
        {"llama": rows(2, 4096), "clip_l": rows()},
        False,
        None,
        {"clip_l": 2, "llama": 2},
        "encoder keys",
    ),
    "F10 HiDream": (
        {"clip_l": rows(), "clip_g": rows(2, 1280), "t5": rows(2, 4096), "llama": rows(3, 4096)},
        False,
        None,
        {"clip_l": 2, "clip_g": 2, "t5xxl": 2, "llama": 3},
        "encoder keys",
    ),
    "F10 Chroma": ({"t5": rows(2, 4096)}, False, None, {"t5xxl": 2}, "encoder keys"),
    "F10 Sana": ({"gemma": rows(2, 2304)}, False, None, {"gemma2_2b": 2}, "encoder keys"),
    "F10 Cascade": ({"clip_g": rows(2, 1280)}, False, None, {"clip_g": 2}, "encoder keys"),
    "F11": ({"clip_l": rows(), "t5": rows(2, 4096)}, False, None, {"clip_l": 2, "t5xxl": 2}, "encoder keys"),
    "F12 Flux.2": ({"mistral3_24b": rows(2, 5120)}, False, None, {"mistral3_24b": 2}, "encoder keys"),
    "F12 Stable Audio": ({"t5base": rows()}, False, None, {"t5base": 2}, "encoder keys"),
    "F12 Cosmos": ({"t5xxl": rows(2, 1024)}, False, None, {"t5xxl": 2}, "encoder keys"),
    "F15 without its marks": ({"<s1>": rows(1)[0], **LORA}, False, "<s1>", {"clip_l": 1}, "diffusers"),
    "in a wrapper": ({"state_dict": {"emb_params": rows()}}, True, None, {"clip_l": 2}, "emb_params"),
    "word of encoders": (
        {"<cat>": {"clip_l": rows(), "clip_g": rows(2, 1280)}},
        True,
        "<cat>",
        {"clip_l": 2, "clip_g": 2},
        "words by encoder",
    ),
    "words by A1111's dicts": ({"<cat>": a1111({"*": rows()})}, True, "<cat>", {"clip_l": 2}, "words by encoder"),
    "a dog called Max": ({"max": rows()}, True, "max", {"clip_l": 2}, "diffusers"),
    "beside its training": (
        {"embedding": a1111({"*": rows()}), "optimizer": {"state": {}, "param_groups": [{"lr": 1.0}]}},
        True,
        None,
        {"clip_l": 2},
        "A1111",
    ),
    "word and tokens": (
        {"<cat>": rows(), "token_ids": torch.tensor([49408, 49409])},
        True,
        "<cat>",
        {"clip_l": 2},
        "diffusers",
    ),
    "nn.Embedding": ({"weight": rows()}, True, None, {"clip_l": 2}, "nameless tensor"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_format(name: str, read: Read) -> None:
    content, pickled, trigger, counts, label = CASES[name]
    file = read(content, pickled=pickled)
    (word,) = file.words
    assert file.file == "my cat.pti"
    assert file.format == f"{'pickle' if pickled else 'safetensors'}: {label}"
    assert word.name == trigger
    assert word.embedding.placeholder == (trigger or "my cat")
    assert {key: len(tensor) for key, tensor in word.embedding.vectors.items()} == counts
    assert list(word.embedding.vectors) == list(counts)
    stored = {id(t): t.detach().float().reshape(-1, t.shape[-1]) for t in _floats(content)}
    for tensor in word.embedding.vectors.values():
        assert tensor.dtype == torch.float32 and not tensor.requires_grad
        assert any(torch.equal(tensor, given) for given in stored.values())


def _floats(content: Any) -> list[Tensor]:
    if isinstance(content, Tensor):
        return [content] if content.is_floating_point() and content.ndim else []
    items = content.values() if hasattr(content, "values") else []
    return [tensor for item in items for tensor in _floats(item)]


def test_the_last_snapshot_is_the_word(read: Read) -> None:
    states = [{"emb": rows(n)[-1], "emb2": rows(n, 1280)[-1]} for n in (1, 2, 3)]
    file = read(states, pickled=True)
    assert torch.equal(vectors(file)["clip_l"], states[-1]["emb"][None])
    assert torch.equal(vectors(file)["clip_g"], states[-1]["emb2"][None])
    assert file.warnings == ["It holds 3 states of one word over its training; the last is read."]
    words = read([{"<a>": rows(1)[0]}, {"<b>": rows(2)}], pickled=True).words
    assert [(word.name, word.embedding.num_vectors) for word in words] == [("<a>", 1), ("<b>", 2)]
    (word,) = read([{"name": rows(1)}, {"name": rows(2)}], pickled=True).words
    assert (word.name, word.embedding.num_vectors) == ("name", 2)
    bare = read([rows(1, 4096)[0], rows(2, 4096)[1]], pickled=True)
    assert torch.equal(vectors(bare)["t5xxl"], rows(2, 4096)[1:])
    assert "It is a bare tensor: nothing in the file says that it is a word." in bare.warnings


XL = {"clip_l": 768, "clip_g": 1280}

SEVERAL: dict[str, tuple[Any, bool, dict[str, str], list[str]]] = {
    "F1": (latent_diffusion({"*": rows(1), "@": rows(2)}), True, {}, ["*", "@"]),
    "F2": (a1111({"*": rows(1), "@": rows(2)}), True, {}, ["*", "@"]),
    "F3": ({"<a>": rows(1)[0], "<b>": rows(2)}, True, {}, ["<a>", "<b>"]),
    "F14": (
        {
            "bundle_emb.<a cat>.clip_l": rows(1),
            "bundle_emb.v1.5 dog.string_to_param.*": rows(2),
            "bundle_emb.v1.5 dog.string_to_token.*": torch.tensor([265]),
            **LORA,
        },
        False,
        {},
        ["<a cat>", "v1.5 dog"],
    ),
    "F15": (
        {"<s1>": rows(1)[0], "two": rows(2)[0], "unet:0:up": torch.ones(4, 2), "unet:0:down": torch.ones(2, 4)},
        False,
        {"<s1>": "<embed>", "two": "<embed>", "unet": "[]", "unet:0:rank": "2"},
        ["<s1>", "two"],
    ),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_words_are_listed_by_name_and_one_is_chosen(name: str, read: Read, tmp_path: Path) -> None:
    content, pickled, metadata, names = SEVERAL[name]
    file = read(content, metadata, pickled=pickled)
    assert sorted(str(word.name) for word in file.words) == sorted(names)
    path = tmp_path / "my cat.pti"
    chosen = load_embedding(path, word=names[1])
    assert chosen.placeholder == names[1]
    word = next(word for word in file.words if word.name == names[1])
    assert torch.equal(chosen.vectors["clip_l"], word.embedding.vectors["clip_l"])
    with pytest.raises(ValueError, match="holds 2 words") as caught:
        load_embedding(path)
    assert all(name in str(caught.value) for name in names)
    with pytest.raises(ValueError, match="no word cow"):
        load_embedding(path, word="cow")
    assert ("It also holds a LoRA, of which nothing is read." in file.warnings) == (name in ("F14", "F15"))


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("shape", [(-1,), (1, -1)])
def test_numbered_vectors_are_one_word_in_their_order(pickled: bool, shape: tuple[int, ...], read: Read) -> None:
    given = rows(12)
    names = ["<fox>", *(f"<fox>_{number}" for number in range(1, 12))]
    content = {name: row.reshape(shape).clone() for name, row in zip(names, given, strict=True)}
    file = read(dict(sorted(content.items(), reverse=True)), pickled=pickled)
    (word,) = file.words
    assert (word.name, word.embedding.placeholder) == ("<fox>", "<fox>")
    assert torch.equal(word.embedding.vectors["clip_l"], given)
    assert "<fox>, <fox>_1, <fox>_2, <fox>_3, ... are read as one word of 12 vectors" in " ".join(file.warnings)


def test_numbered_vectors_beside_other_words(read: Read) -> None:
    content = {"<fox>": rows(1)[0], "<fox>_1": rows(2)[1], "<owl>": rows(3), "<fox-b>_1": rows(1), "<fox>_01": rows(1)}
    found = read(content).words
    sizes = {word.name: word.embedding.num_vectors for word in found}
    assert sizes == {"<fox>": 2, "<owl>": 3, "<fox-b>_1": 1, "<fox>_01": 1}
    bundle = {f"bundle_emb.fox{end}.{key}": rows(1, width) for end in ("", "_1") for key, width in XL.items()}
    (word,) = read(bundle).words
    assert word.name == "fox" and {key: len(part) for key, part in word.embedding.vectors.items()} == {
        "clip_l": 2,
        "clip_g": 2,
    }


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"<fox>": rows(1), "<fox>_2": rows(1)}, r"but <fox>_1 is missing; each is read as a word of its own"),
        ({"<fox>": rows(1), "<fox>_1": rows(1), "<fox>_3": rows(1)}, "<fox>_2 is missing"),
        ({"<fox>": rows(1), "<fox>_1": rows(1, 1280)}, "differ in their text encoders or widths"),
        ({"<fox>": rows(1), "<fox>_1": rows(2)}, "not each is a single vector"),
        ({"<fox>": rows(2), "<fox>_1": rows(1)}, "not each is a single vector"),
        (
            {"bundle_emb.fox.clip_l": rows(1), "bundle_emb.fox_1.clip_g": rows(1, 1280)},
            "differ in their text encoders or widths",
        ),
    ],
)
def test_names_that_only_look_numbered_stay_words(content: Any, why: str, read: Read) -> None:
    file = read(content)
    assert len(file.words) == len(content)
    assert any(why in warning for warning in file.warnings)


def test_a_bundle_of_two_encoders_is_one_word(read: Read) -> None:
    keys = {"bundle_emb.my.cat.clip_l": rows(), "bundle_emb.my.cat.t5": rows(1, 4096)}
    (word,) = read({**keys, **LORA}).words
    assert word.name == "my.cat"
    assert {key: len(tensor) for key, tensor in word.embedding.vectors.items()} == {"clip_l": 2, "t5xxl": 1}


def test_rows_stay_as_they_are(read: Read) -> None:
    given = rows(4)
    given[3] = given[1]
    assert torch.equal(vectors(read({"emb_params": given}))["clip_l"], given)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_precisions_are_told_and_widened(dtype: str, read: Read) -> None:
    given = rows().to(getattr(torch, dtype))
    (word,) = read({"emb_params": given}).words
    assert word.precisions == {"clip_l": dtype}
    assert torch.equal(word.embedding.vectors["clip_l"], given.float())


def test_what_the_file_says_is_kept(read: Read) -> None:
    (word,) = read(a1111({"*": rows()}, notes="mine", tags=["a", "\u732b", 1]), pickled=True).words
    said = {
        "name": "inner",
        "step": "499",
        "sd_checkpoint_name": "model",
        "notes": "mine",
        "tags": '["a", "\u732b", 1]',
    }
    assert word.embedding.metadata == said
    ai_toolkit = {"name": json.dumps("cat"), "step": "500", "string_to_param": '{"*": "emb_params"}'}
    (word,) = read({"emb_params": rows()}, ai_toolkit).words
    assert word.embedding.metadata == ai_toolkit and word.name is None
    (word,) = read({"emb_params": rows()}, {"modelspec.trigger_phrase": "my cat, sitting"}).words
    assert word.name == word.embedding.placeholder == "my cat, sitting"


@pytest.mark.parametrize(
    ("content", "metadata", "warning"),
    [
        ({"emb_params": rows()}, {}, "Width 768 is read as clip_l"),
        ({"emb_params": rows(2, 1024)}, {}, "Width 1024 is read as clip_h"),
        ({"<cat>": rows(2, 1280)}, {}, "Width 1280 is read as clip_g"),
        ({"<cat>": rows(2, 4096)}, {}, "Width 4096 is read as t5xxl"),
        ({"emb_params": rows(2, 100)}, {}, "Width 100 belongs to no text encoder"),
        ({"clip_l": rows(2, 1024)}, {}, "is that of clip_h"),
        ({"clip_l": rows(2, 1280)}, {}, "another encoder's"),
        ({"emb_params": rows()}, {"modelspec.architecture": "stable-diffusion-v1/textual-inversion"}, None),
        ({"clip_l": rows(), "clip_g": rows(2, 1280)}, {}, None),
        ({"text_encoders_0": rows(), "text_encoders_1": rows(2, 1280)}, {}, None),
        ({"t5": rows(2, 4096)}, {}, None),
    ],
)
def test_what_is_guessed_is_said(content: Any, metadata: dict[str, str], warning: str | None, read: Read) -> None:
    warnings = read(content, metadata or None).warnings
    assert [warning in text for text in warnings] == [True] if warning else warnings == []


def test_the_model_decides_what_is_ambiguous(read: Read) -> None:
    cases = [({"emb_params": rows(2, 1024)}, {1024: "t5xxl"}), ({"<cat>": rows(2, 4096)}, {4096: "llama"})]
    for content, encoders in cases:
        file = read(content, encoder_for_width=encoders)
        assert list(vectors(file)) == list(encoders.values()) and file.warnings == []
    both = read({"text_encoders_0": rows(), "text_encoders_1": rows(2, 1280)}, encoder_for_width=SDXL)
    assert list(vectors(both)) == ["clip_l", "clip_g"]
