"""What is advised where memory does not hold a step."""

from __future__ import annotations

import pytest

from ti_engine.memory.out_of_memory import out_of_memory_advice


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("checkpointing", ["auto", "on", "off"])
def test_only_what_helps_is_advised(batch_size, checkpointing):
    advice = out_of_memory_advice(batch_size, 768, checkpointing)
    assert "resolution (now 768)" in advice and "precision" in advice and "other programs" in advice
    assert ("gradient_checkpointing" in advice) == (checkpointing == "off")  # else it was tried
    assert ("batch_size" in advice) == (batch_size > 1)
    assert "ower batch_size" not in advice
