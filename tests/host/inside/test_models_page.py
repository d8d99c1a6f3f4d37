"""docs/models.md says of every family that this host knows whether it trains, or why not."""

from __future__ import annotations

import re
from pathlib import Path

from in_host import plugin
from proofs import all_families
from small_families import SMALL

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "models.md").read_text()


def test_every_family_is_there():
    for name, reason in all_families().items():
        (said,) = re.findall(rf"^\| {name} \| (.+) \|$", PAGE, re.MULTILINE)
        assert said.startswith("refused: ") if reason else not said.startswith("refused: it ") or "is told" in said
        assert reason is None or reason in said


def test_every_proof_is_there():
    for name in SMALL:
        assert re.search(rf"^\| {re.escape(name)} \| .*\de-\d\d", PAGE, re.MULTILINE), name


def test_what_is_proven_is_not_refused():
    known = plugin("nodes.host.known_families")
    assert not known.PROVEN.keys() & known.REFUSED.keys()
