"""Texts of caption files."""

from __future__ import annotations

import pytest

from ti_engine.data.caption_files import captions_beside, read_text, split_lines


@pytest.fixture
def beside(tmp_path):
    """The captions of pictures when there are caption files of these names and texts."""

    def captions(pictures, files):
        for name, text in files.items():
            (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return captions_beside([tmp_path / name for name in pictures])

    return captions


@pytest.mark.parametrize(
    ("picture", "file"),
    [
        ("a.png", "a.txt"),
        ("a.png", "a.caption"),
        ("b.png", "b.TXT"),
        ("b.png", "b.Caption"),
        ("c.png", "c.png.txt"),
        ("c.png", "c.png.caption"),
        ("D.JPG", "d.txt"),
        ("e.1.webp", "e.1.txt"),
        ("with space.png", "with space.txt"),
    ],
)
def test_each_kind_of_name_is_found(beside, picture, file):
    assert beside([picture, "other.png"], {file: "a red S*"}) == (["a red S*", None], [])


@pytest.mark.parametrize("file", ["aa.txt", "._a.txt", "a.txt.bak", "a.md", "a", "a.jpg.txt", "a..txt"])
def test_other_names_are_no_captions(beside, file):
    assert beside(["a.png"], {file: "a red S*"}) == ([None], [])


def test_a_folder_of_that_name_is_no_caption(beside, tmp_path):
    (tmp_path / "a.txt").mkdir()
    assert beside(["a.png"], {}) == ([None], [])


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfa red S*, \xc3\xa9",
        b"a red S*, \xc3\xa9\r\n",
        b"\n\na red\r\n\r\nS*, \xc3\xa9\r\n",
        b"a red\rS*, \xc3\xa9",
        "a red S*, é".encode("utf-16"),
        b"\xfe\xff" + "a red S*, é\r\n".encode("utf-16-be"),
    ],
)
def test_marks_and_line_ends_of_every_system_are_no_text(beside, data):
    assert beside(["a.png"], {"a.txt": data}) == (["a red S*, é"], [])


@pytest.mark.parametrize("data", [b"\xff\xfe\xff", b"caf\xe9", "S*".encode("utf-16-le"), b"\x89PNG\r\n\x1a\n\0"])
def test_what_is_no_text_is_refused_by_name(beside, data):
    with pytest.raises(ValueError, match=r"a\.txt is no text in UTF-8"):
        beside(["a.png"], {"a.txt": data})


def test_an_empty_file_is_no_caption(beside):
    assert beside(["a.png"], {"a.txt": " \r\n"}) == ([None], [])


def test_of_several_files_one_is_used_and_the_others_are_named(beside):
    (caption,), (warning,) = beside(["a.png"], {"a.txt": "one", "a.caption": "two", "a.png.txt": "three"})
    assert caption == "three"
    assert all(name in warning for name in ("a.png.txt is used", "a.txt", "a.caption"))
    assert beside(["b.png"], {"b.txt": "same", "b.caption": "same\n"}) == (["same"], [])
    (caption,), (warning,) = beside(["c.png"], {"c.txt": "", "c.caption": "text"})
    assert caption == "text" and "c.caption is used" in warning


def test_files_that_differ_in_case_belong_to_the_exact_name(beside):
    assert beside(["a.png", "A.png"], {"a.txt": "small", "A.txt": "large"}) == (["small", "large"], [])


def test_pictures_of_several_folders(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.txt").write_text(folder)
    assert captions_beside([tmp_path / "y/1.png", tmp_path / "x/1.png", tmp_path / "x/2.png"])[0] == ["y", "x", None]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\nb\n", ["a", "b"]),
        ("a\r\nb\r\n\r\n", ["a", "b", ""]),
        ("\ufeff a \r\r b\t", ["a", "", "b"]),
        ("\n", [""]),
        ("a\u2028b\x0cc\x85d", ["a\u2028b\x0cc\x85d"]),
    ],
)
def test_lines_end_as_on_any_system(text, lines):
    assert split_lines(text) == lines


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no caption file lines\.txt"):
        read_text(tmp_path / "lines.txt")
    with pytest.raises(ValueError, match="is no file"):
        read_text(tmp_path)
