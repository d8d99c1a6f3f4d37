"""The same seed gives the same bits: torch computes with kernels whose result does not depend on chance.

Where threads add numbers to one place, the order in which they arrive decides the last bit. torch has kernels that keep
an order for most operations, and warns of the others while they are asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic

deterministic: Any = torch.utils.deterministic
_WARN = 1  # torch's number for: keep an order where there is one, warn where there is none
# What torch warns with. It also warns of cuBLAS, which repeats its results as long as it works on one stream ("Results
# Reproducibility" in its manual), as it does here.
_SIGNS = ("does not have a deterministic implementation", "defaults to a non-deterministic algorithm")


@contextmanager
def deterministic_kernels() -> Iterator[None]:
    """Within it torch prefers kernels that give the same bits twice; afterwards its flags are as they were.

    The flags are the process's, so a generator must not yield inside.
    """
    before = torch.get_deterministic_debug_mode(), deterministic.fill_uninitialized_memory
    cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    try:
        # Not use_deterministic_algorithms, which also changes a flag of torch's compiler. A stricter mode stays.
        torch.set_deterministic_debug_mode(max(before[0], _WARN))
        # Only shows the use of memory that nothing was written to, and costs a write for every result.
        deterministic.fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = False  # chooses kernels by a race
        torch.backends.cudnn.deterministic = True
        yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        deterministic.fill_uninitialized_memory = before[1]
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = cudnn


class NondeterministicOperations:
    """Collects the operations without a deterministic kernel from torch's warnings, which then do not reach the log.

    names: gets them at its end, each once. All other warnings are passed on, also each once: where it listens again and
    again, Python forgets which of them it has shown.
    """

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._passed_on: set[tuple[str, type[Warning], str, int]] = set()

    @contextmanager
    def collected(self) -> Iterator[None]:
        """To be put around `deterministic_kernels`. A generator must not yield inside of this one either."""
        always = torch.is_warn_always_enabled()
        with warnings.catch_warnings():
            show = warnings.showwarning

            def collect(message: Any, category: type[Warning], filename: str, line: int, *where: Any) -> None:
                text = str(message)
                if "CuBLAS" in text:
                    return
                name = next((before for sign in _SIGNS if (before := _before(sign, text))), None)
                if name is None:
                    if (text, category, filename, line) not in self._passed_on:
                        self._passed_on.add((text, category, filename, line))
                        show(message, category, filename, line, *where)
                elif name not in self._names:
                    self._names.append(name)

            for sign in _SIGNS:
                warnings.filterwarnings("always", message=f".*{sign}")
            warnings.showwarning = collect
            torch.set_warn_always(True)  # torch says it of attention only once in the life of a process
            try:
                yield
            finally:
                torch.set_warn_always(always)


def _before(sign: str, message: str) -> str | None:
    name, found, _ = message.partition(sign)
    return name.strip() if found else None
