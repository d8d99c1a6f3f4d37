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
        "Written by `python -m ti_engine.demo.build`; do not edit. A small text-to-image model built like SD1:",
        "a causal CLIP text encoder, a UNet with cross-attention, and an autoencoder like TAESD. It was trained on",
        "scenes that the project draws itself, so it contains nobody's pictures. Pictures have 128 px, latents",
        "4 x 16 x 16. The model predicts v on SD1's noise schedule.",
        "",
        f"Text encoder and UNet were trained on {int(facts['samples']):,} samples in {facts['minutes']} minutes on "
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
        "Share right: the share of drawn pictures in which the judge sees what the caption asks for. The judge is",
        "a classifier (judge.py) trained on rendered scenes; the last two tables show how often it is right itself.",
        "Held-out combinations are 32 of the 256 combinations of shape, colour and texture; training never used",
        "them.",
        "",
    ]
    CARD.write_text("\n".join(lines), encoding="utf-8")
