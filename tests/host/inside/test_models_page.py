"""docs/models.md says of every family that this host knows whether it trains, or why not."""

from __future__ import annotations

import re
from pathlib import Path

from in_host import plugin
from proofs import all_families
from small_families import SMALL

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "models.md").read_text()


def test_every_family_is_there():
    listed = PAGE.partition("## Every family")[2]
    for name, reason in all_families().items():
        (said,) = re.findall(rf"^\| {name} \| (.+) \|$", listed, re.MULTILINE)
        assert said == f"refused: {reason}" if reason else said.startswith(("trains", "as ", "refused: it is told"))


def test_every_proof_is_there():
    for name in SMALL:
        assert re.search(rf"^\| {re.escape(name)} \| .*\de-\d\d", PAGE, re.MULTILINE), name


def test_what_is_proven_is_not_refused():
    known = plugin("nodes.host.known_families")
    assert not known.PROVEN.keys() & known.REFUSED.keys()
