"""docs/models.md says of every family that this host knows whether it trains, or why not."""

from __future__ import annotations

import re
from pathlib import Path

import comfyui_version
import pytest
from in_host import plugin
from proofs import all_families
from small_families import SMALL

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "models.md").read_text()
ALLOWED = 1e-5  # of the relative error of a gradient
READS_A_PICTURE = "refused: it reads a picture or a mask beside the noisy latents, which training cannot supply"


def table(page, heading):
    """The table below `heading`: its head, and its rows by their first cell."""
    lines = page.partition(f"\n## {heading}")[2].partition("\n## ")[0].splitlines()
    head, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| "))
    assert len({row[0] for row in rows}) == len(rows)
    return head, {row[0]: row[1:] for row in rows}


def is_proof(cell):
    return re.fullmatch(r"\de-\d\d", cell) is not None and float(cell) <= ALLOWED


def faults(page):
    """A sentence for all that the page does not say, or says without a proof or a reason."""
    head, proofs = table(page, "What trains")
    _, listed = table(page, "Every family")
    found = [f"{name} has no row with proofs" for name in SMALL if name not in proofs]
    found += [f"{name} has no small instance" for name in proofs if name not in SMALL]
    hosts = [name for name in head[1:] if re.fullmatch(r"\d+\.\d+\.\d+", name)]
    for name, cells in proofs.items():
        *older, newest = cells[: len(hosts)]
        if not all(is_proof(cell) for cell in [newest, *(cell for cell in older if cell != "-")]):
            found.append(f"{name} is not proven: {cells}")
    if comfyui_version.__version__ == hosts[-1]:
        found += [f"{name} is no family of this host" for name in listed.keys() - all_families().keys()]
    for name, reason in all_families().items():
        said = listed.get(name, [""])[0]
        kind, _, names = said.partition(": ")
        for family in sorted(proofs, key=len, reverse=True):  # some have a comma in their names
            names = names.replace(family, "")
        model = re.match(r"as (\w+)[:,] \w", said)
        if reason:
            known = said == f"refused: {reason}"
        elif model:
            known = listed.get(model[1], [""])[0].startswith("trains: ")
        else:
            known = said == READS_A_PICTURE or (kind == "trains" and said != "trains: " and not names.strip(", "))
        if not known:
            found.append(f"{name} has neither a proof nor a reason: {said}")
    return found


def test_every_family_has_a_proof_or_a_reason():
    assert faults(PAGE) == []


@pytest.mark.parametrize(
    ("row", "instead"),
    [
        (r"\| SD15 \|.*\n", ""),
        (r"\| SD15 \| trains: SD1, SD1 inpainting", "| SD15 | trains: SD1, SD1 outpainting"),
        (r"\| SD15 \| trains: .*", "| SD15 | trains: |"),
        (r"\| SD15 \| trains: .*", "| SD15 | |"),
        (r"\| SVD_img2vid \| refused: .*", "| SVD_img2vid | refused: |"),
        (r"\| SVD_img2vid \| refused: .*", "| SVD_img2vid | trains: SD1 |"),
        (r"\| SSD1B \| as SDXL", "| SSD1B | as SVD_img2vid"),
        (r"\| SDXL refiner \|.*\n", ""),
        (r"(\| SDXL refiner \|.*?)\de-\d\d( \| clip_g)", r"\1-\2"),
        (r"(\| SDXL refiner \|.*?)\de-\d\d( \| clip_g)", r"\g<1>2e-05\2"),
        (r"\| SDXL refiner \|", "| SDXL finisher |"),
    ],
)
def test_a_page_that_lacks_one_is_found(row, instead):
    broken, count = re.subn(row, instead, PAGE, count=1)
    assert count == 1 and faults(broken)


def test_what_is_proven_is_not_refused():
    known = plugin("nodes.host.models.known_families")
    assert not known.PROVEN.keys() & known.REFUSED.keys()
