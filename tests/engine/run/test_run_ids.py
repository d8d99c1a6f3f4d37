"""Runs in a folder: named by the beginning of their id, and with what was known when they began."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import ToyBackend, noisy_set, toy_config

from ti_engine import start_run, train
from ti_engine.run.store import RunStore

FIRST, SECOND = "ab" * 16, "abc" + "0" * 29


def trained(store: RunStore, key: str, until: int, **about: str) -> None:
    backend, config = ToyBackend(), toy_config(steps=10)
    with store.open(key, about, False, print) as run:
        state = start_run(backend, config)
        run.restore(state)
        for step in train(backend, noisy_set(backend), config, state):
            run.keep(step)
            if step.index == until:
                break


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    assert store.ids() == RunStore(tmp_path / "nowhere").ids() == []
    for key in (FIRST, SECOND):
        trained(store, key, 1)
    (tmp_path / "abcd").mkdir()  # no run
    assert store.ids() == [FIRST, SECOND]
    assert (store.find("aba").id, store.find("abc").id, store.find(FIRST).id) == (FIRST, SECOND, FIRST)
    for beginning, sentence in (("ab", "2 runs"), ("abcd", "There is no run"), ("", "no run"), ("../abc", "no run")):
        with pytest.raises(ValueError, match=sentence):
            store.find(beginning)


def test_a_damaged_run_is_found_too(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    trained(store, FIRST, 1)
    store.folder(FIRST).state_file.write_bytes(b"broken")
    assert store.runs() == [] and store.find("ab").id == FIRST
    assert store.delete(store.find("ab")) and store.ids() == []


def test_a_run_that_goes_on_keeps_the_time_of_its_beginning(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    trained(store, FIRST, 3, began="yesterday", word="S*")
    trained(store, FIRST, 6, began="today", word="T*")
    assert store.folder(FIRST).config() == {"began": "yesterday", "word": "T*"}
    store.folder(FIRST).config_file.write_text("{")
    trained(store, FIRST, 8, began="today", word="T*")
    assert store.folder(FIRST).config()["began"] == "today"
