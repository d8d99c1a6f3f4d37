"""`textual-inversion inspect`: what it cannot read, and a word that does not fit the model."""

from __future__ import annotations

import pytest
import torch
from command_line import Output, refused

from ti_engine import TokenEmbedding
from ti_engine.files import save_embedding


@pytest.mark.usefixtures("pictures_and_model")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("inspect none.safetensors", "There is no file"),
        ("inspect a.png", "a picture without an embedding"),
        ("inspect wide.safetensors --model demo", "width 768"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: str, sentence: str, capsys: Output) -> None:
    save_embedding(TokenEmbedding({"clip_l": torch.ones(1, 768)}), "wide.safetensors")
    assert sentence in refused(arguments.split(), capsys)
