"""What is written for a program is what that program reads: its own code where it is installed, else its rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ti_engine import TokenEmbedding
from ti_engine.files import save_embedding
from ti_engine.files.formats.programs import PROGRAMS
from ti_engine.word.families import FAMILIES


def word(family: str | Mapping[str, int], count: int = 2, trigger: str = "<my cat>") -> TokenEmbedding:
    generator = torch.Generator().manual_seed(0)
    sizes = FAMILIES[family].widths if isinstance(family, str) else family
    return TokenEmbedding(
        {key: torch.randn(count, width, generator=generator) for key, width in sizes.items()}, trigger
    )


def written(embedding: TokenEmbedding, folder: Path, program: str | None) -> list[dict[str, Tensor]]:
    return [load_file(file) for file in save_embedding(embedding, folder / "cat.safetensors", program=program)]


# Each reader gives encoder key -> vectors as the program would apply them, and raises where it would refuse the file.


def read_as_a1111(data: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if "clip_g" in data and "clip_l" in data:
        assert len(data["clip_g"]) == len(data["clip_l"])  # it takes the count of one for both
        return {"clip_l": data["clip_l"], "clip_g": data["clip_g"]}
    (only,) = data.values()
    return {{768: "clip_l", 1024: "clip_h"}[only.shape[-1]]: only}


def read_as_invokeai(data: Mapping[str, Tensor]) -> dict[str, Tensor]:
    first = next(iter(data.values()))
    width = (
        data["emb_params"].shape[-1]
        if "emb_params" in data
        else data["clip_g"].shape[-1]
        if "clip_g" in data
        else first.shape[0]
    )
    family = {768: "clip_l", 1024: "clip_h", 1280: "sdxl"}[width]
    if "emb_params" in data:
        return {family: data["emb_params"]}
    if family == "sdxl" and "clip_l" in data:
        return {"clip_l": data["clip_l"], "clip_g": data["clip_g"]}
    return {family: first}


def read_as_kohya(data: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if "clip_l" in data and "clip_g" in data:  # the SDXL script
        assert len(data["clip_g"]) == len(data["clip_l"])  # zip() would drop the rest
        return {"clip_l": data["clip_l"], "clip_g": data["clip_g"]}
    first = next(iter(data.values()))
    return {{768: "clip_l", 1024: "clip_h"}[first.shape[-1]]: first}


def read_as_onetrainer(data: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if "emp_params" in data:
        return {{768: "clip_l", 1024: "clip_h"}[data["emp_params"].shape[-1]]: data["emp_params"]}
    assert set(data) <= {"clip_l", "clip_g", "t5", "llama"}
    return {"t5xxl" if key == "t5" else key: rows for key, rows in data.items()}


def read_as_comfyui(data: Mapping[str, Tensor], asked: str) -> Tensor:
    return data[asked] if asked in data else next(iter(data.values()))


READERS = {
    "a1111": read_as_a1111,
    "invokeai": read_as_invokeai,
    "kohya": read_as_kohya,
    "onetrainer": read_as_onetrainer,
}
TAKEN = [(program, family) for program in READERS for family in PROGRAMS[program].names]


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("program", "family"), TAKEN)
def test_a_program_reads_what_is_written_for_it(program: str, family: str, count: int, tmp_path: Path) -> None:
    embedding = word(family, count)
    (data,) = written(embedding, tmp_path, program)
    assert same(READERS[program](data), embedding.vectors)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_file_for_no_program_is_read_by_most(family: str, count: int, tmp_path: Path) -> None:
    embedding = word(family, count)
    (data,) = written(embedding, tmp_path, None)
    for reader in (read_as_a1111, read_as_invokeai, read_as_kohya):
        assert same(reader(data), embedding.vectors)
    for key, rows in embedding.vectors.items():
        assert torch.equal(read_as_comfyui(data, key), rows)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"ldm"}))
@pytest.mark.parametrize("program", ["comfyui", None])
def test_comfyui_finds_every_encoder(family: str, program: str | None, tmp_path: Path) -> None:
    embedding = word(family)
    (data,) = written(embedding, tmp_path, program)
    for key, rows in embedding.vectors.items():
        assert torch.equal(read_as_comfyui(data, key), rows)


def test_comfyui_also_takes_mixtures_and_the_demo_model(tmp_path: Path) -> None:
    for number, widths in enumerate([{"clip_g": 1280, "t5xxl": 4096}, {"clip_l": 128}]):
        (data,) = written(word(widths), tmp_path / str(number), "comfyui")
        assert set(data) == set(widths)


@pytest.mark.parametrize(
    ("program", "widths", "sentence"),
    [
        (
            "a1111",
            FAMILIES["flux"].widths,
            "AUTOMATIC1111 cannot use <my cat>, a word of Flux.1; it takes words of SD1,",
        ),
        ("a1111", {"clip_l": 99}, "a word of clip_l of width 99; it takes words of SD1, SD2 and SDXL."),
        ("a1111", {"clip_l": 128}, "a word of the demo model; it takes"),
        ("invokeai", FAMILIES["sd3"].widths, "InvokeAI cannot use"),
        ("kohya", FAMILIES["cascade"].widths, "kohya's sd-scripts cannot use"),
        ("diffusers", FAMILIES["sd3"].widths, "diffusers cannot use"),
        ("onetrainer", FAMILIES["flux2"].widths, "OneTrainer cannot use"),
        ("comfyui", FAMILIES["ldm"].widths, "ComfyUI cannot use"),
    ],
)
def test_what_a_program_cannot_take_is_said(
    program: str, widths: Mapping[str, int], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
        written(word(widths), tmp_path, program)
    assert not list(tmp_path.iterdir())


def test_unequal_counts_are_refused_where_they_go_wrong(tmp_path: Path) -> None:
    uneven = TokenEmbedding({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(3, 1280)}, "cat")
    for program in ("a1111", "kohya"):
        with pytest.raises(ValueError, match="cat has 2 vectors for clip_l and 3 vectors for clip_g"):
            written(uneven, tmp_path, program)
    assert len(written(uneven, tmp_path, "diffusers")) == 2


def small_pipeline(kind: str) -> Any:
    """A pipeline of diffusers' own class: text encoders of the real widths with one layer, and a tiny rest."""
    pytest.importorskip("diffusers")
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
    from small_models import small_autoencoder, small_scheduler, small_unet
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    def encoder(width: int, model: Any) -> Any:
        config = CLIPTextConfig(
            vocab_size=54, hidden_size=width, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
            projection_dim=8, max_position_embeddings=77, bos_token_id=52, eos_token_id=53, pad_token_id=53,
        )  # fmt: skip
        return model(config)

    scheduler = small_scheduler(DDIMScheduler, clip_sample=False, steps_offset=1)
    rest: dict[str, Any] = dict(vae=small_autoencoder(), unet=small_unet(), scheduler=scheduler)
    if kind == "sd1":
        none: dict[str, Any] = dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
        parts = dict(text_encoder=encoder(768, CLIPTextModel), tokenizer=small_tokenizer())
        return StableDiffusionPipeline(**rest, **parts, **none)
    parts = dict(
        text_encoder=encoder(768, CLIPTextModel),
        text_encoder_2=encoder(1280, CLIPTextModelWithProjection),
        tokenizer=small_tokenizer(),
        tokenizer_2=small_tokenizer(),
    )
    return StableDiffusionXLPipeline(**rest, **parts)


def small_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    entries = letters + [f"{letter}</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={entry: index for index, entry in enumerate(entries)}, merges=[])


def rows_in_table(pipeline: Any, trigger: str, number: str = "") -> Tensor:
    """What diffusers' own prompt handling makes of `trigger`: the rows of the token table that stand for it."""
    tokenizer, encoder = getattr(pipeline, f"tokenizer{number}"), getattr(pipeline, f"text_encoder{number}")
    ids = tokenizer(pipeline.maybe_convert_prompt(trigger, tokenizer), add_special_tokens=False).input_ids
    return encoder.get_input_embeddings().weight.data[ids]


@pytest.mark.parametrize("count", [1, 3])
def test_diffusers_itself_reads_a_word_of_sd1(count: int, tmp_path: Path) -> None:
    pipeline, embedding = small_pipeline("sd1"), word("sd1", count, "<cat>")
    (file,) = save_embedding(embedding, tmp_path / "learned_embeds.safetensors", program="diffusers")
    pipeline.load_textual_inversion(str(file))
    assert torch.equal(rows_in_table(pipeline, "<cat>"), embedding.vectors["clip_l"])


def test_diffusers_itself_reads_the_common_file_when_it_is_told_the_trigger(tmp_path: Path) -> None:
    pipeline, embedding = small_pipeline("sd1"), word("sd1")
    (file,) = save_embedding(embedding, tmp_path / "cat.safetensors")
    pipeline.load_textual_inversion(str(file), token="<cat>")
    assert torch.equal(rows_in_table(pipeline, "<cat>"), embedding.vectors["clip_l"])


def test_diffusers_itself_reads_both_files_of_sdxl(tmp_path: Path) -> None:
    pipeline, embedding = small_pipeline("sdxl"), word("sdxl", trigger="<cat>")
    files = save_embedding(embedding, tmp_path / "learned_embeds.safetensors", program="diffusers")
    assert [file.name for file in files] == ["learned_embeds.safetensors", "learned_embeds_2.safetensors"]
    for number, file in zip(("", "_2"), files, strict=True):
        parts = dict(
            tokenizer=getattr(pipeline, f"tokenizer{number}"), text_encoder=getattr(pipeline, f"text_encoder{number}")
        )
        pipeline.load_textual_inversion(str(file), **parts)
    assert torch.equal(rows_in_table(pipeline, "<cat>"), embedding.vectors["clip_l"])
    assert torch.equal(rows_in_table(pipeline, "<cat>", "_2"), embedding.vectors["clip_g"])


def test_a_trigger_that_safetensors_reserves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no word can be called __metadata__"):
        written(word("sd1", trigger="__metadata__"), tmp_path, "diffusers")
    assert written(word("sd1", trigger="__metadata__"), tmp_path, "a1111")
