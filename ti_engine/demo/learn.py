"""`make demo`: learn a word from four pictures with the demo model on the CPU, and show what it does."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..cli.learning import learn
from ..data.contact_sheet import contact_sheet, png_bytes
from ..files import save_embedding, training_metadata
from ..files.atomic import write_atomically
from ..standalone import DiffusersBackend
from ..training.config import TrainConfig
from ..training.pictures_to_latents import encode_training_set
from ..training.result import describe_states
from ..training.start_vectors import initial_vectors
from ..word.embedding import TokenEmbedding
from .concepts import EXAMPLE
from .examples import example_pictures
from .load import load_demo
from .threads import one_thread

OUTPUT = Path("demo-output")
PHOTO = "a photo of S*"
NEW_CONTEXTS = (
    "a photo of S* on a grass background",
    "a photo of S* on a sky background",
    "a photo of S* in the style of sketch",
)
ROWS = 4
SAMPLER_STEPS = 30


@one_thread()
def main() -> int:
    """Writes word.safetensors, contact-sheet.png and report.json into demo-output/, over those of an earlier run."""
    began = time.monotonic()
    pictures = example_pictures()
    backend = load_demo()
    config = TrainConfig(resolution=backend.resolution, initial_words=EXAMPLE.word)
    print(f"Learning {config.placeholder} from {len(pictures)} pictures with the demo model ({backend.description}).")
    dataset = encode_training_set(backend, list(pictures), config)
    result = learn(backend, dataset, config)
    record = result.record
    if not record.losses:
        print(record.stopped or "Stopped; nothing was learned.", file=sys.stderr)
        return 130 if result.interrupted else 1
    metadata = training_metadata(config, record, backend.name, backend.weights_hash, len(pictures))
    word = replace(record.embedding(), metadata=metadata)
    save_embedding(word, OUTPUT / "word.safetensors", overwrite=True)
    sheet = contact_sheet(_columns(backend, pictures, word, config))
    write_atomically(OUTPUT / "contact-sheet.png", png_bytes(sheet), overwrite=True)
    report = {
        "steps": len(record.losses),
        "returned_steps": [record.returned[0], record.returned[-1]],
        "loss_before": record.evaluations[0],
        "loss_after": record.result_loss,
        "stopped": record.stopped,
        "norm": round(float(word.vectors[backend.encoder_key].norm(dim=1).mean()), 4),
        "vocabulary_norm": round(backend.encoders[backend.encoder_key].norm, 4),
        "nearest_words": backend.nearest_words(backend.encoder_key, word.vectors[backend.encoder_key][0], 5),
        "seconds_learning": round(result.seconds, 1),
        "seconds_total": round(time.monotonic() - began, 1),
        "threads": torch.get_num_threads(),
        "settings": config.to_dict(),
    }
    write_atomically(OUTPUT / "report.json", json.dumps(report, indent=2).encode(), overwrite=True)
    nearest = ", ".join(f"{name} ({cosine:.2f})" for name, cosine in report["nearest_words"])
    print(
        f"Learned in {report['steps']} steps, {report['seconds_learning']} s: {describe_states(record.returned)}.\n"
        f"Loss on the fixed evaluation set: {report['loss_before']:.4f} before, {report['loss_after']:.4f} after.\n"
        f"Length of the vector {report['norm']}, of the vocabulary's {report['vocabulary_norm']}; nearest words: "
        f"{nearest}.\n"
        f"{report['seconds_total']} s in all. See {OUTPUT / 'contact-sheet.png'}, {OUTPUT / 'word.safetensors'}, "
        f"{OUTPUT / 'report.json'}."
    )
    return 0


def _columns(
    backend: DiffusersBackend, pictures: Tensor, word: TokenEmbedding, config: TrainConfig
) -> list[tuple[str, Tensor]]:
    """The pictures, then S* before and after training, then S* where no picture showed it."""
    untrained = TokenEmbedding(initial_vectors(backend, config), config.placeholder)
    seeds = list(range(ROWS))

    def draw(prompt: str, embedding: TokenEmbedding) -> Tensor:
        words = {embedding.placeholder: embedding.vectors}
        return backend.generate([prompt] * ROWS, words, seeds, steps=SAMPLER_STEPS)

    columns = [
        ("the pictures", pictures),
        (f'"{PHOTO}", untrained', draw(PHOTO, untrained)),
        (f'"{PHOTO}", trained', draw(PHOTO, word)),
    ]
    return columns + [(f'"{prompt}"', draw(prompt, word)) for prompt in NEW_CONTEXTS]
