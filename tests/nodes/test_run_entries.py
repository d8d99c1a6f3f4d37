"""The list of runs, and which run an entry means."""

from __future__ import annotations

import importlib
import os
import re

import pytest
from toy_runs import toy_run

FIRST, SECOND, THIRD = "ab" * 16, "ab" * 15 + "cd", "0123456789abcdef" * 2


@pytest.fixture
def entries(nodes):
    return importlib.import_module("ti_plugin.nodes.run_entries")


@pytest.fixture
def store(entries, tmp_path):
    return entries.RunStore(tmp_path / "runs")


def test_without_runs_the_list_says_so(entries, store):
    assert entries.run_entries(store) == ["no run on disk"]
    with pytest.raises(ValueError, match="There is no run on disk yet"):
        entries.chosen_run(store, "no run on disk")


def test_an_entry_can_be_read_and_leads_to_its_run(entries, store):
    toy_run(store.root, THIRD, steps=3)
    toy_run(store.root, FIRST, steps=6, until=4)
    os.utime(store.folder(THIRD).state_file, (0, 0))  # the older one
    newest, older = entries.run_entries(store)
    assert re.fullmatch(r"S\*, \d{4}-\d\d-\d\d \d\d:\d\d, 4 of 6 steps, abababab", newest)
    assert re.fullmatch(r"S\*, 19\d\d-\d\d-\d\d \d\d:\d\d, 3 steps, 01234567", older)
    assert entries.chosen_run(store, newest) == store.folder(FIRST)
    assert entries.chosen_run(store, older) == entries.chosen_run(store, THIRD) == store.folder(THIRD)


def test_an_entry_still_leads_to_a_run_that_has_gone_on(entries, store):
    toy_run(store.root, FIRST, steps=6, until=4)
    (entry,) = entries.run_entries(store)
    before = entries.run_fingerprint(store.folder(FIRST))
    toy_run(store.root, FIRST, steps=6)
    assert entries.run_fingerprint(store.folder(FIRST)) != before
    (now,) = entries.run_entries(store)
    assert now != entry and ", 6 steps, " in now
    assert entries.chosen_run(store, entry) == entries.chosen_run(store, now)


def test_ids_that_begin_alike_are_told_apart(entries, store):
    toy_run(store.root, FIRST, steps=2)
    (short,) = entries.run_entries(store)
    toy_run(store.root, SECOND, steps=2)
    assert {entries.chosen_run(store, entry).id for entry in entries.run_entries(store)} == {FIRST, SECOND}
    with pytest.raises(ValueError, match="2 runs have ids that begin with abababab"):
        entries.chosen_run(store, short)


@pytest.mark.parametrize(
    "entry", ["", "S*", "../../etc/passwd", "S*, 2026-01-01 10:00, 3 steps, ../abababab", "cdcdcdcd", "ab", "/etc", "."]
)
def test_nothing_but_an_id_is_looked_up(entries, store, entry):
    toy_run(store.root, FIRST, steps=2)
    (store.root / "etc").mkdir()
    with pytest.raises(ValueError, match="is not on disk any more"):
        entries.chosen_run(store, entry)


def test_what_is_no_run_or_cannot_be_read_is_not_listed(entries, store):
    toy_run(store.root, FIRST, steps=2)
    (store.root / "my pictures").mkdir()
    store.folder(SECOND).path.mkdir()
    toy_run(store.root, THIRD, steps=2)
    store.folder(THIRD).state_file.write_bytes(b"")
    (entry,) = entries.run_entries(store)
    assert entry.endswith(", abababab")


def test_a_run_that_cannot_be_read_is_named_in_one_sentence(entries, store):
    run = toy_run(store.root, FIRST, steps=2)
    folder = store.folder(FIRST)
    data = folder.state_file.read_bytes()
    folder.state_file.write_bytes(data[:-9] + b"123456789")
    with pytest.raises(ValueError, match=f"The run {run.folder.id} cannot be read: state.safetensors is damaged."):
        folder.saved()
    folder.state_file.unlink()
    with pytest.raises(ValueError, match="is not on disk any more"):
        folder.saved()
