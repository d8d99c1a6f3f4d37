"""The result of `textual-inversion evaluate` for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..evaluation.intervals import Estimate
from .terminal import printable


def evaluation_text(result: Mapping[str, Any]) -> str:
    """Scores with their intervals, a fact a line. result: as it is written to the JSON file."""
    references = result["references"]
    kind = "held-out" if references["held_out"] else "training"
    without = ", each without its background" if references["foreground"] else ""
    lines = [
        f"{printable(result['word'])} ({printable(result['file'])}) on {printable(result['model'])}; "
        f"{result['pictures_a_prompt']} picture(s) a prompt, {result['steps']} steps, guidance {result['guidance']:g}, "
        f"seed {result['seed']}.",
        *_noun_lines(result["word"], result["class_noun"]),
        f"Compared with the {kind} pictures{without}: {printable(', '.join(references['pictures']))}.",
        "In brackets: 95 % intervals by resampling pictures, and prompts where there are several.",
    ]
    for scores in result["scores"]:
        lines += ["", f"{printable(scores['scorer'])}:", *_score_lines(scores)]
    if "judge" in result:
        lines += ["", "Shares of pictures, by the judge of the demo model:", *_share_lines(result["judge"])]
    if "concept" in result:
        lines += ["", *_concept_lines(result["concept"])]
    if result["missing"]:
        lines += ["", *result["missing"]]
    return "\n".join(lines)


def missing_scores(result: Mapping[str, Any], is_demo: bool) -> list[str]:
    """What was not scored, or is to be read with care, and how to get it."""
    sentences = []
    scores = result["scores"]
    if not any(one["text"] for one in scores):
        stands_in = " The judge's shares stand in for it." if is_demo else ""
        sentences.append(
            f"Missing: text (editability), which needs a CLIP: --clip FOLDER, a CLIPModel as transformers saves it."
            f"{stands_in}"
        )
    if not any(one["patches"] for one in scores):
        sentences.append(
            "Missing: a likeness from patches, which sees more of the shape: --dino FOLDER, or --clip FOLDER."
        )
    references = result["references"]
    if not references["held_out"]:
        sentences.append(
            "The references were trained on, so likeness is flattered: give pictures that were not with --held-out."
        )
    if not references["foreground"]:
        sentences.append("Backgrounds count in every likeness: --masks FOLDER takes those of the references out.")
    return sentences


def _noun_lines(word: str, noun: str) -> list[str]:
    if not noun:
        return []
    called = printable(f"{word} {noun}")
    return [f"Prompts write {called}, as the word was learned; the texts that pictures are compared with name neither."]


def _score_lines(scores: Mapping[str, Any]) -> list[str]:
    lines = [f"  likeness {_shown(scores['likeness'])}{_ceiling(scores['ceiling'])}"]
    if scores["patches"]:
        lines.append(f"  likeness of patches {_shown(scores['patches'])}{_ceiling(scores['patches_ceiling'])}")
    if scores["text"]:
        lines.append(f"  text {_shown(scores['text'])}, the mean of the cosines")
    for name, group in scores["groups"].items():
        parts = [f"likeness {_shown(group['likeness'])}"]
        if group["text"]:
            unedited, of_mean = group["unedited"], group["text_of_mean"]
            parts = [
                f"text {_shown(group['text'])}; {unedited:.3f} without the edit; {of_mean:.3f} as the paper averages",
                *parts,
            ]
        lines.append(f"    {name}: {'; '.join(parts)}")
    return lines


def _share_lines(judged: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, group in judged.items():
        kept = f"; {_shown(group['kept'])} still show the object" if group["kept"] else ""
        lines.append(f"    {name}: {_shown(group['asked'])} show what is asked{kept}")
    return lines


def _concept_lines(concept: Mapping[str, Any]) -> list[str]:
    score, ceiling = concept["score"], concept["ceiling"]
    cells = [
        f"{name.replace('_', ' ')} {value:.3f} (fresh renders {ceiling[name]:.3f})"
        for name, value in score.items()
        if value is not None
    ]
    return [f"Against fresh renders of {concept['name']}, by the judge: {', '.join(cells)}."]


def _shown(estimate: Mapping[str, Any]) -> str:
    return str(Estimate(**estimate))


def _ceiling(estimate: Mapping[str, Any] | None) -> str:
    return "" if estimate is None else f"; pictures that were not generated reach {_shown(estimate)}"
