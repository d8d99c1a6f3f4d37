"""How many threads compute with the demo model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes with one thread while this lasts, unless OMP_NUM_THREADS asks for a number.

    The demo model's tensors are small: a second thread saves a sixth of the time where it has a core for itself
    (benchmarks/threads.py). Where it has none, both wait for each other in every operation, and a step takes many times
    as long.
    """
    if re.search(r"OMP_NUM_THREADS : \d", torch.__config__.parallel_info()):  # torch tells what it was asked for
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
