import pytest

from ti_engine.word.placeholder import MAX_LENGTH, check_placeholder, split_at_placeholder, usable_placeholder


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


@pytest.mark.parametrize("length", [MAX_LENGTH, MAX_LENGTH + 1])
def test_a_long_text_is_no_word(length):
    if length <= MAX_LENGTH:
        return check_placeholder("x" * length)
    with pytest.raises(ValueError, match="placeholder has 65 characters, and 64 are allowed"):
        check_placeholder("x" * length)


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        ("S*", "S*"),
        ("my cat", "my cat"),
        ("<cat-toy>", "<cat-toy>"),
        ("my cat, v1.5 (best)", "my-cat-v1.5-best"),
        ("x\ny\x1b[31m", "x-y-31m"),
        ("embedding:x", "embedding-x"),
        ("<a, b>", "a-b"),
        (" S ", "S"),
        ("{(", ""),
        ("<>", ""),
        ("x" * 63 + " y", "x" * 63),
    ],
)
def test_what_a_file_calls_its_word_becomes_what_prompts_can_contain(name, usable):
    assert usable_placeholder(name) == usable
    if usable and usable != name:
        check_placeholder(usable)
