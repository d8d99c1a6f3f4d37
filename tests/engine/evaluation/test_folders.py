"""CLIP and DINO from folders: transformers' own numbers on the same weights, and one sentence for what is no folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from small_towers import SIDE, write_dino

from ti_engine.data.contact_sheet import to_image
from ti_engine.evaluation.clip_folder import ClipFolder
from ti_engine.evaluation.dino_folder import DinoFolder

TEXTS = ["a photo of on the beach", "red moon", ""]


def pictures() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.nn.functional.interpolate(torch.rand(1, 3, 5, 5), size=size)[0] for size in ((40, 60), (SIDE, SIDE))]


@torch.no_grad()
def test_clip_gives_transformers_numbers(clip_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    network = transformers.CLIPModel.from_pretrained(clip_folder)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(clip_folder)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(clip_folder)
    pixels = processor([to_image(picture) for picture in pictures()], return_tensors="pt")
    tokens = tokenizer(TEXTS, padding=True, return_tensors="pt")
    scorer = ClipFolder(clip_folder)
    theirs = network(**pixels, **tokens)
    seen, read = scorer.embed_pictures(pictures()), scorer.embed_texts(TEXTS)
    assert seen.shape == (2, 24) and read.shape == (3, 24)
    assert torch.allclose(torch.nn.functional.normalize(seen), theirs.image_embeds, atol=2e-3)
    assert torch.allclose(torch.nn.functional.normalize(read), theirs.text_embeds, atol=1e-6)
    patches = network.vision_model(**pixels).last_hidden_state[:, 1:]
    assert torch.allclose(scorer.patch_tokens(pictures()), patches, atol=2e-2)
    alone = torch.cat([scorer.embed_texts([text]) for text in TEXTS])
    assert torch.allclose(alone, read, atol=1e-6)  # padding changes nothing


@torch.no_grad()
@pytest.mark.parametrize("registers", [0, 3])
def test_dino_gives_transformers_numbers(tmp_path: Path, registers: int) -> None:
    transformers = pytest.importorskip("transformers")
    folder = write_dino(tmp_path / "dino", registers)
    network = transformers.AutoModel.from_pretrained(folder)
    scorer = DinoFolder(folder)
    pixels = scorer._prepare(pictures())
    theirs = network(pixel_values=pixels)
    assert pixels.shape == (2, 3, SIDE, SIDE)
    assert torch.allclose(scorer.embed_pictures(pictures()), theirs.pooler_output, atol=1e-6)
    assert torch.allclose(scorer.patch_tokens(pictures()), theirs.last_hidden_state[:, 1 + registers :], atol=1e-6)
    assert scorer.embed_texts(TEXTS) is None


@torch.no_grad()
@pytest.mark.parametrize("pooler", [False, True])
def test_the_first_dino_with_and_without_the_pooler_of_a_vit(tmp_path: Path, pooler: bool) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(2)
    shape = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=8)
    config = transformers.ViTConfig(intermediate_size=48, **shape)
    network = transformers.ViTModel(config, add_pooling_layer=pooler).eval()
    network.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": SIDE, "crop_size": SIDE}))
    scorer = DinoFolder(tmp_path)
    theirs = network(pixel_values=scorer._prepare(pictures())).last_hidden_state
    assert torch.allclose(scorer.embed_pictures(pictures()), theirs[:, 0], atol=1e-6)
    assert torch.allclose(scorer.patch_tokens(pictures()), theirs[:, 1:], atol=1e-6)


def test_a_text_that_is_too_long_is_named(clip_folder: Path) -> None:
    with pytest.raises(ValueError, match="has 72 tokens, and CLIP reads 64; shorten it"):
        ClipFolder(clip_folder).embed_texts(["red", "red " * 70])


def _without(*names: str):
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def _to_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _other_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "clip_text_model"}))


def _garbled(folder: Path) -> None:
    (folder / "config.json").write_text("[")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (shutil.rmtree, "There is no folder .*copy; give one that holds a CLIP"),
        (_without("config.json"), r"copy has no config\.json"),
        (_without("model.safetensors"), r"copy has no model\.safetensors"),
        (_without("merges.txt"), "copy has no tokenizer; copy tokenizer.json, or"),
        (_to_pickle, "holds its weights in a pickle"),
        (_other_kind, "holds a network of the kind 'clip_text_model', not a CLIP with both towers"),
        (_garbled, r"copy/config\.json holds no settings"),
    ],
)
def test_a_folder_that_is_no_clip_is_refused_before_anything_is_loaded(
    tmp_path: Path, clip_folder: Path, change, sentence: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(clip_folder, folder)
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        ClipFolder(folder)


def test_weights_that_are_missing_are_not_filled_with_chance(tmp_path: Path, clip_folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "copy"
    shutil.copytree(clip_folder, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack visual_projection\.weight and 0 more"):
        ClipFolder(folder).embed_pictures(pictures())
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="copy cannot be loaded"):
        ClipFolder(folder).embed_pictures(pictures())


def test_a_clip_is_no_dino(clip_folder: Path) -> None:
    with pytest.raises(ValueError, match="holds a network of the kind 'clip', not a DINO or DINOv2"):
        DinoFolder(clip_folder)
