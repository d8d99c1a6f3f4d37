"""An output that a node cannot give this time."""

from __future__ import annotations

from typing import Any

from comfy_execution.graph_utils import ExecutionBlocker


def blocked(sentence: str) -> Any:
    """Goes out in place of a value: nodes that want it do not run, and the person reads `sentence`; others run."""
    return ExecutionBlocker(sentence)
