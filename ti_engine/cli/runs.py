"""`textual-inversion runs`: the runs on disk, their results as files, and their deletion."""

from __future__ import annotations

import argparse
import json
import re
import time

from ..run.folder import RunFolder
from ..run.pick import pick_word
from .run_details import run_details, run_details_text
from .run_flags import add_runs_flag, store_of
from .run_text import run_content, run_sentence, run_table
from .terminal import say, warn
from .word_files import add_output_flags, output_of, show, write_word

DESCRIPTION = (
    "List the runs on disk, the newest first. A finished run is not trained again; an unfinished one goes on with the "
    "command that began it."
)
_ID = "of a run, or its beginning"
_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}
_AGE = re.compile(r"(\d+(?:\.\d+)?)([hdw])")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_runs_flag(parser)
    parser.add_argument("--json", action="store_true", help="print it as JSON on stdout")
    parser.set_defaults(action=_list)
    actions = parser.add_subparsers(title="actions, of which the list is the one without a name", metavar="ACTION")
    show_one = actions.add_parser("show", help="what is known of a run")
    show_one.add_argument("id", metavar="ID", help=_ID)
    show_one.set_defaults(action=_show)

    export = actions.add_parser("export", help="write the word that a run returned to a file")
    export.add_argument("id", metavar="ID", help=_ID)
    add_output_flags(export)
    export.set_defaults(action=_export)

    delete = actions.add_parser("delete", help="delete runs")
    delete.add_argument("ids", nargs="+", metavar="ID", help=_ID)
    delete.set_defaults(action=_delete)

    prune = actions.add_parser("prune", help="delete all finished runs that are older than some time")
    prune.add_argument("--older-than", required=True, metavar="TIME", help="such as 12h, 30d or 8w")
    prune.add_argument("--unfinished", action="store_true", help="also those that can still go on")
    prune.set_defaults(action=_prune)

    for action in (show_one, export, delete, prune):
        add_runs_flag(action, argparse.SUPPRESS)  # before the action or after it
    for action in (show_one, delete, prune):
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON on stdout")


def run(arguments: argparse.Namespace) -> int:
    return arguments.action(arguments)


def _list(arguments: argparse.Namespace) -> int:
    store = store_of(arguments)
    runs, ids = store.runs(), store.ids()
    if arguments.json:
        print(json.dumps({"runs": [run_content(run) for run in runs]}))
    elif runs:
        print(run_table(runs, ids, time.time()))
    else:
        say(f"There is no run in {store.root}.")
    readable = {run.folder.id for run in runs}
    warn(f"The run {one} cannot be read." for one in ids if one not in readable)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    details = run_details(store_of(arguments).find(arguments.id).saved())
    print(json.dumps(details) if arguments.json else run_details_text(details))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    output = output_of(arguments)
    saved = store_of(arguments).find(arguments.id).saved()
    if not saved.step:
        raise ValueError(f"The run {saved.folder.id} has made no step yet.")
    returned = saved.record.returned
    written = write_word(pick_word(saved, None), output, arguments)
    return show([{**written, "run": saved.folder.id, "steps": [returned[0], returned[-1]]}], [], arguments.json)


def _delete(arguments: argparse.Namespace) -> int:
    store = store_of(arguments)
    folders = dict.fromkeys(store.find(beginning) for beginning in arguments.ids)  # all of them, before one is deleted
    return _deleted(arguments, {folder: f"Deleted the run {folder.id}." for folder in folders})


def _prune(arguments: argparse.Namespace) -> int:
    age = _AGE.fullmatch(arguments.older_than)
    if age is None:
        raise ValueError(
            f"--older-than is {arguments.older_than!r}; give a number with h, d or w (hours, days, weeks), such as 30d."
        )
    now = time.time()
    seconds = float(age[1]) * _SECONDS[age[2]]
    old = [run for run in store_of(arguments).runs() if now - run.written > seconds]
    chosen = [run for run in old if run.facts["finished"] or arguments.unfinished]
    sentences = {run.folder: f"Deleted the run {run.folder.id} ({run_sentence(run, now)})." for run in chosen}
    code = _deleted(arguments, sentences)
    if not chosen:
        kind = "run" if arguments.unfinished else "finished run"
        say(f"No {kind} in {arguments.runs} is older than {arguments.older_than}.")
    if left := len(old) - len(chosen):
        say(f"{left} unfinished run{'s' * (left > 1)} as old as that can still go on; --unfinished deletes them too.")
    return code


def _deleted(arguments: argparse.Namespace, sentences: dict[RunFolder, str]) -> int:
    """Deletes runs, and says of each the sentence once it is gone; returns the exit code."""
    store, gone, busy = store_of(arguments), [], []
    for folder, sentence in sentences.items():
        if store.delete(folder):
            gone.append(folder.id)
            if not arguments.json:
                print(sentence)
        else:
            busy.append(folder.id)
    if arguments.json:
        print(json.dumps({"deleted": gone, "in_training": busy}))
    for one in busy:
        say(f"The run {one} is trained by another process now, and stays.")
    return 2 if busy else 0
