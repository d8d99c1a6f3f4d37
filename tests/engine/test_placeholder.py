import pytest

from ti_engine.placeholder import split_at_placeholder


@pytest.mark.parametrize(
    ("text", "placeholder", "parts"),
    [
        ("a photo of S*", "S*", ["a photo of ", ""]),
        ("S*, a cat", "S*", ["", ", a cat"]),
        ("(S*:1.2) and S*'s hat.", "S*", ["(", ":1.2) and ", "'s hat."]),
        ("S*", "S*", ["", ""]),
        ("US* S*2 S** s* S *", "S*", ["US* S*2 S** s* S *"]),
        ("", "S*", [""]),
        ("cat concatenate cats", "cat", ["", " concatenate cats"]),
        ("a my-cat_2.", "my-cat_2", ["a ", "."]),
        ("* and **", "*", ["", " and **"]),
        ("a.b axb", "a.b", ["", " axb"]),
        ("Ünï Ünïs", "Ünï", ["", " Ünïs"]),
    ],
)
def test_only_whole_words_are_placeholders(text, placeholder, parts):
    assert split_at_placeholder(text, placeholder) == parts
    assert placeholder.join(parts) == text
