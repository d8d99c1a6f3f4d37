"""The tables of result_choice.py, in Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
OTHERS = ("last", "average", "best of 16")  # that the returned state is compared with


def report(rows: list[Row]) -> str:
    """Tables in Markdown of all rows of the three kinds."""
    tables = {
        "toy": choice_table,
        "demo": lambda rows: [*choice_table(rows), "", *judge_table(rows)],
        "stop": stop_table,
    }
    lines: list[str] = []
    for model, table in tables.items():
        of_model = [row for row in rows if row["run"]["model"] == model]
        lines += [*table(of_model), ""] if of_model else []
    return "\n".join(lines)


def choice_table(rows: list[Row]) -> list[str]:
    """Losses, and differences in ten-thousandths of the loss; a mean and its standard error over the runs of a line."""
    lines = [
        f"| runs | n | loss returned | {' | '.join(f'returned - {name}' for name in OTHERS)} "
        "| runs worse than last, than average |",
        "|---|---|---|" + "---|" * len(OTHERS) + "---|",
    ]
    for name, group in [*groups_of(rows).items(), ("all", rows)]:
        relative = {o: [1e4 * row["difference"][o][0] / row["loss"]["returned"] for row in group] for o in OTHERS}
        worse = [sum(row["difference"][o][0] > row["difference"][o][1] for row in group) for o in OTHERS[:2]]
        loss = "" if name == "all" else f"{statistics.fmean(row['loss']['returned'] for row in group):.4f}"
        cells = [with_error(relative[o], 1) for o in OTHERS]
        lines.append(f"| {name} | {len(group)} | {loss} | {' | '.join(cells)} | {worse[0]}, {worse[1]} |")
    return lines


def groups_of(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows of runs that differ in nothing but the seed."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        run = row["run"]
        name = f"{run.get('concept', run.get('prediction'))}, {run['schedule']}, {run['steps']} x {run['batch_size']}"
        groups.setdefault(name, []).append(row)
    return groups


def judge_table(rows: list[Row]) -> list[str]:
    """What the judge measures of each state, and the returned state's figure minus another's in the same run."""
    lines = [
        "| state | reconstruction | editability | returned - it: reconstruction | editability |",
        "|---|---|---|---|---|",
    ]
    fields = ("reconstruction", "editability")
    for name in ("returned", *OTHERS):
        values = [statistics.fmean(row["judge"][name][field] for row in rows) for field in fields]
        paired = [[row["judge"]["returned"][f] - row["judge"][name][f] for row in rows] for f in fields]
        cells = ["-", "-"] if name == "returned" else [with_error(difference, 3) for difference in paired]
        lines.append(f"| {name} | {values[0]:.3f} | {values[1]:.3f} | {cells[0]} | {cells[1]} |")
    return lines


def stop_table(rows: list[Row]) -> list[str]:
    """Updates and loss of each way to end, and the loss against the state returned after all updates."""
    whole = "no stop, returned"
    lines = [
        "| runs | n | ended by | updates (most) | loss | against all updates, e-4 of it |",
        "|---|---|---|---|---|---|",
    ]
    for name, group in groups_of(rows).items():
        for way in group[0]["loss"]:
            updates = [row["updates"][way] for row in group]
            loss = statistics.fmean(row["loss"][way] for row in group)
            against = [1e4 * (row["loss"][way] / row["loss"][whole] - 1) for row in group]
            lines.append(
                f"| {name} | {len(group)} | {way} | {statistics.fmean(updates):.0f} ({max(updates)}) | {loss:.4f} "
                f"| {with_error(against, 1)} |"
            )
    return lines


def with_error(values: Sequence[float], digits: int) -> str:
    """Mean, and its standard error where there are several values."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} +- {statistics.stdev(values) / math.sqrt(len(values)):.{digits}f}"
