"""Writes docs/models.md from what the tests find out: python tests/host/write_models_page.py ~/ComfyUI [more hosts]

Runs tests/host/inside/models/test_families.py in each host's interpreter, and test_true_shapes.py in the newest one's,
in minutes. With .json files in place of folders it takes what such a run has found before (TI_PROOFS=file.json).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from test_inside import HERE, lend_pytest, make_reference

PAGE = HERE.parents[1] / "docs" / "models.md"
AS_SDXL = "as SDXL: the same code with fewer blocks"
FOLLOWS = "refused: it reads a picture or a mask beside the noisy latents, which training cannot supply"
NOTES = {
    "SD21UnclipH": "as SD21UnclipL, with a wider picture vector",
    "SSD1B": AS_SDXL, "KOALA_700M": AS_SDXL, "KOALA_1B": AS_SDXL, "Segmind_Vega": AS_SDXL,
    "WAN21_I2V": FOLLOWS, "WAN21_FunControl2V": FOLLOWS, "CosmosI2V": FOLLOWS, "CosmosI2VPredict2": FOLLOWS,
}  # fmt: skip
HEAD = """# Models

<!-- Written by tests/host/write_models_page.py (make models HOSTS="..."); do not edit. -->

A word can be trained for every model in the first table. There is nothing to choose: connect the loaders and press Run.
All text encoders that the CLIP holds are trained together. Whatever the graph has put on the model takes part: LoRA,
merged weights, another sampling (ModelSampling...), clip skip.

Each family is proven on small instances of ComfyUI's own classes with random weights, inside ComfyUI's interpreter
(`tests/host/inside/models/test_families.py`):

- **Gradient error**: the gradient of the loss in the vectors of all encoders, in float64, is compared with central
  differences, along its own direction, along random directions and for each encoder alone. The table shows the largest
  relative error; 1e-5 is allowed.
- The gradient in float32 has a cosine of at least 0.999 to that in float64 (smallest found: {cosine}).
- 20 steps on one picture lower the loss on the fixed evaluation set, and every bit of the model is as before.
- *Encode Prompt with S\\** applies the word. If ComfyUI has its own `embedding:name` for the family, both give the same
  conditioning, bit for bit.

Checkpoints of the true shape have random weights too: the tests use one of SD1.5, and `TI_TRUE_SHAPES=1 pytest
tests/host/test_inside.py` those of SD2 and SDXL. No family has been trained with its published weights here.

## What trains

A number is the gradient error; it means that the family trains and is proven. A dash means that this ComfyUI version
does not have the family yet. "File keys" are the text encoders, and the names of their vectors in a saved file.
"Memory" is the smallest peak of a step with one picture, all weights included, for the first model of the family in the
table under "Memory".

| family | {hosts} | file keys | target | `embedding:` | memory |
|---|{bars}---|---|---|---|
{rows}

Video models learn from pictures as videos of one frame. Inpainting models see each picture behind {masks} masks
(strokes and boxes; a quarter of the masks cover the whole picture), as they were trained; their previews draw without a
picture. Language models keep the prompt template that ComfyUI puts around the text. In training they do not apply
prompt weights such as `(word:1.2)`. Anima's second tokenizer passes token ids to the model without a text encoder;
there "thing" stands in place of the word.

`embedding:` yes: ComfyUI's own syntax finds a saved word, in the newest ComfyUI version above. no: ComfyUI has no such
syntax for this family, or its own fails; use *Encode Prompt with S\\**.

## Memory

The peak memory of training on one picture at a time: the weights of the model and of its text encoders, plus one step.
`tests/host/inside/models/test_true_shapes.py` counts it with ComfyUI's own classes at the shapes of the published
models, on fake tensors. The autoencoder is not included, because it is not needed any more by then; nor are a device's
libraries and its allocator, which take some more. "Smallest" checkpoints every block; "fastest" keeps all activations,
if the model allows it. The pack chooses between them by the memory that is free ([memory.md](memory.md)).

| model | weights in | pictures | weights | step, smallest | step, fastest | in all, smallest |
|---|---|---|---|---|---|---|
{memory}

fp8: the weights of the model, of T5 and of language models have 8 bits, those of CLIP 16; the model computes in
bfloat16. The text encoders compute in float32.

## Every family of ComfyUI {newest}

| ComfyUI's name | |
|---|---|
{all}
"""


def main(sources: list[str]) -> None:
    if not sources:
        sys.exit(__doc__)
    paths = sorted((Path(s).expanduser() for s in sources), key=version)
    found = [load(path, newest=path is paths[-1]) for path in paths]
    memory = found[-1].get("memory", {})
    families = list(dict.fromkeys(name for host in reversed(found) for name in host["families"]))
    lines = [row(name, found, least(name, memory)) for name in families]
    proven: dict[str, list[str]] = {}
    for name, facts in found[-1]["families"].items():
        proven.setdefault(facts["supported"], []).append(name)
    cosine = min(facts["cosine"] for host in found for facts in host["families"].values())
    page = HEAD.format(
        cosine=f"{int(cosine * 1e5) / 1e5:.5f}", hosts=" | ".join(host["host"] for host in found),
        bars="---|" * len(found), rows="\n".join(lines), newest=found[-1]["host"], masks=found[-1]["masks"],
        memory="\n".join(memory_row(name, facts) for name, facts in memory.items()),
        all="\n".join(f"| {name} | {said(name, reason, proven)} |" for name, reason in found[-1]["all"].items()),
    )  # fmt: skip
    PAGE.write_text(page)
    print(f"wrote {PAGE}")


def version(source: Path) -> list[int]:
    """Of the host that `source` is a checkout of, or that its run was made with."""
    is_run = source.suffix == ".json"
    text = json.loads(source.read_text())["host"] if is_run else (source / "comfyui_version.py").read_text()
    return [int(number) for number in re.search(r"\d+(\.\d+)+", text)[0].split(".")]


def load(source: Path, newest: bool) -> dict[str, Any]:
    """What a run of the tests has found; it is made if `source` is a checkout of ComfyUI, on the newest with memory."""
    if source.suffix == ".json":
        return json.loads(source.read_text())
    python = next((source / venv / "bin" / "python" for venv in (".venv", "venv") if (source / venv).exists()), None)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        make_reference(scratch)
        environment = {
            **os.environ, "PYTHONPATH": str(lend_pytest(scratch / "pytest")), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "TI_INSIDE_HOST": folder, "TI_PROOFS": str(scratch / "proofs.json"), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        names = ["test_families.py", "test_true_shapes.py"] if newest else ["test_families.py"]
        tests = [HERE / "inside" / "models" / name for name in names]
        command = [python or sys.executable, "-m", "pytest", *tests, "-q", "-p", "no:cacheprovider"]
        subprocess.run(command, cwd=source, env=environment, check=True)
        return json.loads((scratch / "proofs.json").read_text())


def least(family: str, memory: dict[str, dict[str, Any]]) -> str:
    """What a step of the first published model of a family takes at least, with all weights."""
    for facts in memory.values():
        if facts["family"] == family:
            return f"{gigabytes(facts['weights'] + facts['smallest'])} ({facts['precision']}, {facts['resolution']} px)"
    return "-"


def memory_row(name: str, facts: dict[str, Any]) -> str:
    weights, smallest, fastest = (gigabytes(facts[key]) for key in ("weights", "smallest", "fastest"))
    whole = gigabytes(facts["weights"] + facts["smallest"])
    return (
        f"| {name} | {facts['precision']} | {facts['resolution']} px | {weights} | {smallest} | {fastest} | {whole} |"
    )


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def row(name: str, hosts: list[dict[str, Any]], memory: str) -> str:
    of = [host["families"].get(name) for host in hosts]
    newest = next(facts for facts in reversed(of) if facts)
    errors = " | ".join(f"{facts['error']:.0e}" if facts else "-" for facts in of)
    keys = ", ".join(newest["keys"])
    return f"| {name} | {errors} | {keys} | {newest['target']} | {'yes' if newest['syntax'] else 'no'} | {memory} |"


def said(name: str, reason: str | None, proven: dict[str, list[str]]) -> str:
    """What becomes of a family: a proof, a reason, or what is known of it otherwise."""
    if name in proven:
        return f"trains: {', '.join(proven[name])}"
    if reason is not None:
        return f"refused: {reason}"
    if name not in NOTES:
        raise SystemExit(f"{name} has neither a proof nor a reason; add a small instance, a refusal or a note.")
    return NOTES[name]


if __name__ == "__main__":
    main(sys.argv[1:])
