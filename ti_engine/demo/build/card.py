"""The model card: the figures of the shipped weights, written by the script that trained them."""

from __future__ import annotations

from pathlib import Path

CARD = Path(__file__).parents[1] / "MODEL_CARD.md"


def write_card(
    figures: dict[str, dict[str, float]], psnr: float, parameters: dict[str, int], facts: dict[str, str]
) -> None:
    """Write MODEL_CARD.md with one table for each entry of `figures` (title -> attribute -> share right)."""
    lines = [
        "# The demo model",
        "",
        "Written by `python -m ti_engine.demo.build`; do not edit. A text-to-image model of SD1's shape in small:",
        "a causal CLIP text encoder, a UNet with cross-attention and a TAESD-like autoencoder. Trained on scenes that",
        "the project draws itself, so nobody's pictures are in it. 128 px pictures, latents 4 x 16 x 16, velocity",
        "prediction on SD1's noise schedule.",
        "",
        f"Text encoder and UNet saw {int(facts['samples']):,} samples in {facts['minutes']} minutes on "
        f"{facts['device']}. The autoencoder reconstructs drawn scenes at {psnr:.1f} dB.",
        "",
        "| part | parameters |",
        "|---|---|",
        *(f"| {name} | {count:,} |" for name, count in parameters.items()),
    ]
    for title, table in figures.items():
        lines += ["", f"## {title}", "", "| | share right |", "|---|---|"]
        lines += [f"| {name} | {share:.3f} |" for name, share in table.items()]
    lines += [
        "",
        "Held-out combinations: 32 of 256 (shape, colour, texture) triples never occur in training. The judge is a",
        "classifier (judge.py) trained on drawn scenes; its own accuracy is in the last two tables.",
        "",
    ]
    CARD.write_text("\n".join(lines), encoding="utf-8")
