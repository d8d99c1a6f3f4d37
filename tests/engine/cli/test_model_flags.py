"""--model, --config and --device: which models are opened, and what is no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Output, refused
from PIL import Image
from safetensors.torch import save_file

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from small_models import small_autoencoder, small_scheduler, small_text_encoder, small_unet

from ti_engine.cli import main

pytestmark = pytest.mark.usefixtures("pictures_and_model")


def _write_clip_tokenizer(folder: Path) -> None:
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    entries = letters + [letter + "</w>" for letter in [*letters, "*", ","]] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({entry: index for index, entry in enumerate(entries)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def test_a_diffusers_folder_is_a_model(capsys: Output) -> None:
    from diffusers import PNDMScheduler, StableDiffusionPipeline
    from transformers import CLIPTokenizer

    _write_clip_tokenizer(Path("tokenizer"))
    tokenizer = CLIPTokenizer.from_pretrained("tokenizer")
    ends = {"start": tokenizer.bos_token_id, "end": tokenizer.eos_token_id}
    parts: dict[str, Any] = {
        "vae": small_autoencoder(),
        "text_encoder": small_text_encoder(vocab_size=len(tokenizer), length=77, **ends),
        "tokenizer": tokenizer,
        "unet": small_unet(),
        "scheduler": small_scheduler(PNDMScheduler, skip_prk_steps=True, steps_offset=1),
        "safety_checker": None,
        "feature_extractor": None,
    }
    StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained("pipeline")
    flags = ["--model", "pipeline", "--steps", "2", "--batch-size", "2", "--initial-words", "cat", "--num-vectors", "4"]
    assert main(["train", "a.png", *flags, "--resolution", "64", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["name"] == "pipeline"
    prompt = [
        "generate",
        "a (S*), in a hat",
        "--model",
        "pipeline",
        "--embedding",
        "word.safetensors",
        "--output",
        "out",
    ]
    assert main([*prompt, "--steps", "2", "--resolution", "64"]) == 0
    assert Image.open("out/0.png").size == (64, 64)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--model nowhere", "There is no model nowhere"),
        ("--model empty", "no diffusers pipeline"),
        ("--model xl", "StableDiffusionXLPipeline"),
        ("--model a.png", "is no checkpoint"),
        ("--model sd.safetensors --config empty", "no diffusers folder"),
        ("--model demo --device gpu7", "There is no device"),
        ("--model demo --device meta", "There is no device 'meta'"),
        ("--model /dev/null", "null is neither a file nor a folder"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(flags: str, sentence: str, capsys: Output) -> None:
    Path("empty").mkdir()
    Path("xl").mkdir()
    Path("xl/model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    save_file({"x": torch.zeros(1)}, "sd.safetensors")
    assert sentence in refused(["train", "a.png", *flags.split()], capsys)
