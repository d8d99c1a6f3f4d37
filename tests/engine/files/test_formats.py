"""Every format of docs/formats.md, written here as its programs write it, and what only looks like one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from ti_engine.files import EmbeddingFile, load, load_embedding, read_embedding_file
from ti_engine.files.containers.container import Container
from ti_engine.files.formats.table import find_words
from ti_engine.files.refused import Refused
from ti_engine.word.inspection import describe

SD1 = {768: "clip_l"}
SDXL = {768: "clip_l", 1280: "clip_g"}
LORA = {
    "lora_unet_down_blocks_0.lora_up.weight": torch.ones(4, 2),
    "lora_unet_down_blocks_0.lora_down.weight": torch.ones(2, 4),
    "lora_unet_down_blocks_0.alpha": torch.tensor(2.0),
}


def rows(count: int = 2, width: int = 768, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(count * width)).to(dtype)


def a1111(params: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    given = {"name": "inner", "step": 499, "sd_checkpoint": None, "sd_checkpoint_name": "model"} | fields
    return {"string_to_token": {"*": 265}, "string_to_param": dict(params), **given}


def latent_diffusion(params: Mapping[str, Tensor]) -> dict[str, Any]:
    """F1 with the class its writers use; the reader never builds it."""
    parameters = torch.nn.ParameterDict({key: torch.nn.Parameter(tensor) for key, tensor in params.items()})
    return {"string_to_token": {key: torch.tensor(265) for key in params}, "string_to_param": parameters}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., EmbeddingFile]:
    """Writes `content` as a program would and reads it back. Every name ends in .pti, which says nothing."""

    def write_and_read(content: Any, metadata: dict[str, str] | None = None, **options: Any) -> EmbeddingFile:
        file = tmp_path / "my cat.pti"
        if options.pop("pickled", False):
            torch.save(content, file)
        else:
            save_file(content, file, metadata)
        return read_embedding_file(file, **options)

    return write_and_read


Read = Callable[..., EmbeddingFile]


def vectors(file: EmbeddingFile) -> dict[str, Tensor]:
    (word,) = file.words
    return word.embedding.vectors


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


@pytest.mark.parametrize(
    ("content", "encoders", "sentence"),
    [
        ({"emb_params": rows(2, 1024)}, SD1, r"width 1024; this model takes width 768 \(clip_l\), and .* for SD2"),
        ({"emb_params": rows()}, SDXL, r"width 768 \(clip_l\); this model takes .* and width 1280 .* for SD1"),
        ({"clip_l": rows(), "clip_g": rows(2, 1280)}, SD1, r"width 1280 \(clip_g\); this model .* for SDXL"),
        ({"clip_l": rows(), "t5": rows(2, 4096)}, SDXL, r"width 4096 \(t5xxl\); this model .* for Flux"),
        ({"llama": rows(2, 4096)}, {4096: "t5xxl"}, r"width 4096 \(llama\); this model takes width 4096 \(t5xxl\)"),
    ],
)
def test_a_word_for_another_model_is_refused(content: Any, encoders: Any, sentence: str, read: Read) -> None:
    with pytest.raises(ValueError, match=sentence):
        read(content, encoder_for_width=encoders)


REFUSED: dict[str, tuple[Any, str]] = {
    "XTI": ({f"IN{n:02}": rows(1) for n in (1, 2, 4, 5, 7, 8)} | {"MID": rows(1)}, "XTI"),
    "XTI squeezed": ({"IN01": rows(1)[0], "MID": rows(1)[0], "OUT03": rows(1)[0]}, "layers of the UNet"),
    "output vectors": ({"emp_params": torch.zeros(2, 768), "emp_params_out": rows()}, "output vectors .emp_params_out"),
    "output beside input": (
        {"clip_l": rows(), "t5": torch.zeros(2, 4096), "t5_out": rows(2, 4096)},
        "output vectors .t5_out",
    ),
    "output alone": ({"clip_g_out": rows(2, 1280)}, "output vectors .clip_g_out"),
    "output in a bundle": ({"bundle_emb.<a>.clip_l_out": rows(), **LORA}, "output vectors"),
    "zeros": ({"emb_params": torch.zeros(2, 768)}, "only zeros"),
    "padded SDXL": ({"clip_l": rows(), "clip_g": torch.zeros(2, 1280)}, "only zeros in clip_g"),
    "a zero vector": ({"emb_params": torch.cat([rows(), torch.zeros(1, 768)])}, "zeros as vector 3 of 3"),
    "NaN": ({"emb_params": torch.full((1, 768), float("nan"))}, "NaN or infinity"),
    "overflow": ({"emb_params": torch.full((1, 768), 1e300, dtype=torch.float64)}, "numbers beyond float32"),
    "integers": ({"emb_params": torch.ones(1, 768, dtype=torch.int64)}, "int64 and not floating"),
    "no rows": ({"emb_params": torch.ones(0, 768)}, "holds no vector"),
    "conditioning": ({"clip_l": torch.ones(1, 77, 768)}, "has shape"),
    "token table": ({"weight": torch.ones(1000, 768)}, "1,000 vectors"),
    "mask": ({"mask": torch.rand(512, 512) + 1}, "is a picture, a latent or a mask and no embedding"),
    "prompt": ({"prompt_embeds": rows(77)}, "is the output of a text encoder"),
    "prompts of SDXL": (
        {"prompt_embeds": rows(77)[None], "pooled_prompt_embeds": rows(1, 1280)},
        "is the output of a text encoder",
    ),
    "statistics": ({"mean": rows(1), "std": rows(1).abs()}, "is statistics"),
    "small picture": ({"pixels": torch.rand(64, 64)}, "is a picture"),
    "words without a mark": ({"cat": rows(1), "dog": rows(1)}, r"holds 2 tensors \(cat, dog\)"),
    "LoRA": (LORA, "is a LoRA without words"),
    "LoHa": ({"lora_te.hada_w1_a": torch.ones(2, 2), "lora_te.hada_w1_b": torch.ones(2, 2)}, "LoRA"),
    "PEFT": ({"base.to_q.lora_A.weight": torch.ones(2, 2)}, "LoRA"),
    "VAE": ({"encoder.conv_in.weight": torch.ones(2, 2, 3, 3), "decoder.conv_in.bias": torch.ones(2)}, "is a VAE"),
    "checkpoint": (
        {
            "model.diffusion_model.time_embed.0.weight": torch.ones(2, 2),
            "first_stage_model.quant_conv.bias": torch.ones(2),
        },
        "is a checkpoint",
    ),
    "whole model": ({"unet.conv_in.weight": torch.ones(2), "text_encoder.a.weight": rows()}, "is a checkpoint"),
    "diffusers UNet": ({"down_blocks.0.attentions.0.norm.weight": torch.ones(2)}, "is a diffusion model"),
    "Flux": ({"double_blocks.0.img_attn.proj.weight": torch.ones(2, 2)}, "is a diffusion model"),
    "text encoder": ({"text_model.embeddings.token_embedding.weight": rows()}, "is a text encoder"),
    "T5": ({"shared.weight": rows(2, 4096), "encoder.block.0.layer.0.weight": torch.ones(2)}, "is a text encoder"),
    "ControlNet": ({"control_model.input_blocks.0.weight": torch.ones(2)}, "is a ControlNet"),
    "latent": ({"latent_tensor": torch.ones(1, 4, 8, 8), "latent_format_version_0": torch.ones(0)}, "a ComfyUI latent"),
    "linear layer": ({"weight_a": rows(1), "weight_b": rows(1)}, "holds 2 tensors .weight_a, weight_b"),
    "a layer's bias": ({"proj.bias": rows(1)[0]}, "part of a network"),
}
REFUSED_PICKLES: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "holds no tensor"),
    "None": (None, "holds nothing"),
    "text": ("<cat>", "holds text"),
    "no states": ([], "holds a list"),
    "two encoders without names": ([rows(1)[0], rows(1, 1280)[0]], "a list of 2 different things"),
    "words of one key": ([a1111({"*": rows()}), a1111({"*": rows()}, name="b")], "a list of 2 different things"),
    "word and name": (("<cat>", rows()), "holds a list and no word"),
    "ComfyUI's conditioning": ([[rows(77)[None], {"pooled_output": rows(1)}]], "holds a list and no word"),
    "deep inside": ({"a": {"b": {"c.weight": rows()}}, "d": {"x": rows(1)}}, "part of a network"),
    "deep inside, of no kind": ({"a": {"b": {"c": rows()}}}, r"holds 1 tensor \(a\.b\.c\)"),
    "no params": ({"string_to_token": {"*": 265}, "string_to_param": {}}, "no vectors in its string_to_param"),
    "picture": (torch.rand(1, 64, 64, 3), "bare tensor of shape"),
    "grey picture": (torch.rand(512, 768), "bare tensor of shape"),
    "other width": (torch.randn(512, 512), "bare tensor of shape"),
    ".optim": ({"hash": "ab12", "optimizer_state_dict": {"state": {}, "param_groups": []}}, "state of an optimizer"),
    "hypernetwork": ({320: [{"linear.weight": rows()}], 768: [], "step": 9, "name": "x"}, "a hypernetwork"),
    "Lightning": ({"state_dict": {"model.diffusion_model.a.weight": rows()}, "global_step": 1}, "is a checkpoint"),
    "IP-Adapter": ({"image_proj": {"a.weight": rows()}, "ip_adapter": {"b.weight": rows()}}, "an IP-Adapter"),
}


@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_PICKLES])
def test_what_is_no_word_is_refused_by_what_it_is(name: str, read: Read) -> None:
    content, sentence = (REFUSED | REFUSED_PICKLES)[name]
    with pytest.raises(ValueError, match=sentence) as caught:
        read(content, pickled=name in REFUSED_PICKLES)
    assert str(caught.value).startswith("my cat.pti ")
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_bundle_keeps_its_other_words_when_one_is_for_the_output(read: Read) -> None:
    bundle = {
        "bundle_emb.<a>.clip_l": torch.zeros(1, 768),
        "bundle_emb.<a>.clip_l_out": rows(1),
        "bundle_emb.<b>.clip_l": rows(),
    }
    file = read({**bundle, **LORA})
    assert [word.name for word in file.words] == ["<b>"]
    assert any("<a> has output vectors" in warning for warning in file.warnings)


def test_two_sets_of_vectors_for_one_encoder_are_refused(read: Read) -> None:
    with pytest.raises(ValueError, match="2 sets of vectors for clip_l"):
        read({"text_encoders_0": rows(1), "text_encoders_1": rows(2)})


def test_names_and_texts_of_strangers_do_not_break_a_sentence(read: Read) -> None:
    with pytest.raises(ValueError, match="int64") as caught:
        read({"evil\n\x1b[31m": torch.ones(1, 768, dtype=torch.int64)})
    assert str(caught.value).isprintable()


def test_more_words_than_memory_is_held_for_are_refused(read: Read) -> None:
    words = {f"<{number}>": rows(500, 4096) for number in range(3)}
    with pytest.raises(ValueError, match="words of more than 4,194,304 numbers"):
        read({key: rows.bfloat16() for key, rows in words.items()})


def test_more_words_than_anybody_lists_are_refused(read: Read) -> None:
    with pytest.raises(ValueError, match=r"holds 2,001 words, and at most 2,000 are read"):
        read({f"<{number}>": torch.ones(1, 32) for number in range(2001)})


def test_tensors_that_were_not_read_are_no_word() -> None:
    big = Container("safetensors", {"<cat>": rows(), "unet.lora_up.weight": torch.empty(4, 4, device="meta")})
    found = find_words(big)
    assert [word.name for word in found.words] == ["<cat>"]
    outputs = {"emp_params": rows(), "emp_params_out": torch.empty(2, 768, device="meta")}
    with pytest.raises(Refused, match=r"output vectors \(emp_params_out\)"):
        find_words(Container("safetensors", outputs))
    with pytest.raises(Refused, match="LoRA"):
        find_words(Container("safetensors", {"unet.lora_up.weight": torch.empty(4, 4, device="meta")}))


_KEYS = st.sampled_from(
    [
        "string_to_param",
        "string_to_token",
        "*",
        "<cat>",
        "emb_params",
        "emp_params_out",
        "clip_l",
        "t5",
        "t5_out",
        "llama",
        "bundle_emb.a.clip_l",
        "bundle_emb.",
        "emb",
        "emb2",
        "text_encoders_0",
        "IN01",
        "MID",
        "state_dict",
        "name",
        "lora_up.weight",
        "weight",
        "step",
    ]
) | st.text(max_size=5)
_TENSORS = st.builds(
    lambda shape, dtype, value, device: torch.full(shape, value).to(dtype).to(device),
    st.lists(st.sampled_from([0, 1, 2, 80, 768, 1280]), max_size=2) | st.just([1, 2, 3]),
    st.sampled_from(
        [torch.float32, torch.float64, torch.float16, torch.float8_e5m2, torch.int64, torch.bool, torch.complex64]
    ),
    st.sampled_from([0.0, 1.0, -1.0, float("nan"), float("inf")]),
    st.sampled_from(["cpu", "cpu", "meta"]),  # of files too large to be read whole
)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_CONTENTS = st.recursive(
    _TENSORS | _SCALARS,
    lambda inner: st.dictionaries(_KEYS | st.integers(0, 999), inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.filterwarnings("error")  # which Python would print beside the sentence
@settings(max_examples=400, deadline=None, derandomize=True)
@given(content=_CONTENTS, encoders=st.sampled_from([None, SD1, SDXL]))
def test_whatever_a_file_holds_is_words_or_one_sentence(content: Any, encoders: dict[int, str] | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "read_container", lambda path, wanted: Container("pickle", content))
        try:
            file = read_embedding_file("none.pt", encoders)
        except ValueError as error:
            assert str(error).startswith("none.pt ") and str(error).endswith(".")
            assert str(error).isprintable() and "(, " not in str(error)
        else:
            describe(file)
            assert file.words and all(word.embedding.vectors for word in file.words)
            assert all(isinstance(text, str) for word in file.words for text in word.embedding.metadata.values())


@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 2815, 19778, 35615])
def test_a_header_whose_length_looks_like_another_format(length: int, tmp_path: Path) -> None:
    """The first bytes of safetensors are a number, which may be those of a pickle, a JPEG XL, a BMP or a gzip."""
    header = b'{"emb_params":{"dtype":"F32","shape":[1,768],"data_offsets":[0,3072]}}'.ljust(length)
    file = tmp_path / "cat.safetensors"
    file.write_bytes(length.to_bytes(8, "little") + header + rows(1).numpy().tobytes())
    assert torch.equal(vectors(read_embedding_file(file))["clip_l"], rows(1))


class TestPair:
    def write(self, folder: Path, first: str, second: str, token: str = "<cat>", other: str = "<cat>") -> None:
        save_file({token: rows()}, folder / first, {"format": "pt"})
        save_file({other: rows(2, 1280)}, folder / second, {"format": "pt"})

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("learned_embeds.safetensors", "learned_embeds_2.safetensors"),
            ("learned_embeds-steps-500.safetensors", "learned_embeds_2-steps-500.safetensors"),
            ("cat.safetensors", "cat_2.safetensors"),
        ],
    )
    def test_two_files_beside_each_other_are_one_word(self, first: str, second: str, tmp_path: Path) -> None:
        self.write(tmp_path, first, second)
        for name, other in ((first, second), (second, first)):
            file = read_embedding_file(tmp_path / name)
            (word,) = file.words
            assert word.name == "<cat>"
            assert torch.equal(word.embedding.vectors["clip_l"], rows())
            assert torch.equal(word.embedding.vectors["clip_g"], rows(2, 1280))
            assert file.warnings == [f"Read together with {other}, its other half beside it."]
        assert list(load_embedding(tmp_path / first, SDXL).vectors) == ["clip_l", "clip_g"]

    def test_both_can_be_named(self, tmp_path: Path) -> None:
        self.write(tmp_path, "a.safetensors", "b.safetensors")
        for names in (("a", "b"), ("b", "a")):
            one, two = (tmp_path / f"{name}.safetensors" for name in names)
            assert list(vectors(read_embedding_file(one, partner=two))) == ["clip_l", "clip_g"]
        assert list(vectors(read_embedding_file(tmp_path / "a.safetensors"))) == ["clip_l"]

    def test_others_are_no_pair(self, tmp_path: Path) -> None:
        self.write(tmp_path, "cat.safetensors", "cat_2.safetensors", other="<dog>")
        assert list(vectors(read_embedding_file(tmp_path / "cat.safetensors"))) == ["clip_l"]
        assert list(vectors(read_embedding_file(tmp_path / "cat_2.safetensors"))) == ["clip_g"]
        with pytest.raises(ValueError, match=r"cat\.safetensors and cat_2\.safetensors are no pair"):
            read_embedding_file(tmp_path / "cat.safetensors", partner=tmp_path / "cat_2.safetensors")
        (tmp_path / "cat_2.safetensors").write_bytes(b"broken")
        assert list(vectors(read_embedding_file(tmp_path / "cat.safetensors"))) == ["clip_l"]

    def test_a_link_beside_a_file_opens_no_file_elsewhere(self, tmp_path: Path) -> None:
        elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
        elsewhere.mkdir()
        here.mkdir()
        self.write(elsewhere, "cat.safetensors", "cat_2.safetensors")
        (here / "cat.safetensors").write_bytes((elsewhere / "cat.safetensors").read_bytes())
        (here / "cat_2.safetensors").symlink_to(elsewhere / "cat_2.safetensors")
        assert list(vectors(read_embedding_file(here / "cat.safetensors"))) == ["clip_l"]
        (here / "cat.safetensors").unlink()  # a cache, in which every file is a link to one folder
        (here / "cat.safetensors").symlink_to(elsewhere / "cat.safetensors")
        assert list(vectors(read_embedding_file(here / "cat.safetensors"))) == ["clip_l", "clip_g"]
