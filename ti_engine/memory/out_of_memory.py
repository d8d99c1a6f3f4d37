"""The errors that say a device or the machine is out of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SIGNS = (
    *("out of memory", "can't allocate memory", "not enough memory"),
    # What the libraries under torch say when there is none left for them: cuBLAS and cuDNN, MIOpen, Metal, Level Zero.
    *("_status_alloc_failed", "unable to find an engine to execute", "unable to find a valid cudnn algorithm"),
    *("miopenstatusallocfailed", "invalid buffer size", "out_of_device_memory"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no memory left: torch says so in classes that differ by device."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def out_of_memory_advice(batch_size: int, resolution: int, gradient_checkpointing: str) -> str:
    """What helps where not even one sample fits, in the names of the settings (TrainConfig), as sentences.

    Batches are split before training gives up, down to a sample at a time, so a smaller batch is not what helps.
    """
    cures = [f"Lower resolution (now {resolution})"]
    if gradient_checkpointing == "off":
        cures.append("set gradient_checkpointing to on")
    cures += ["close other programs that use this memory", "load the model in a smaller precision"]
    split = " A smaller batch_size does not help: batches are split where memory is short." if batch_size > 1 else ""
    return f"{', '.join(cures[:-1])}, or {cures[-1]}.{split}"


@contextmanager
def out_of_memory_forgiven() -> Iterator[None]:
    """Ends quietly where memory runs out, with what could not be had left undone."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
