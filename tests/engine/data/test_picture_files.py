"""Which files of a folder are the training pictures, and what is said about the others."""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image, features

from ti_engine.data.picture_files import is_hidden, natural_key, picture_suffixes, read_pictures


def save(path, seed=0, **options):
    generator = random.Random(seed or path.name)
    path.parent.mkdir(exist_ok=True, parents=True)
    image = Image.new("RGB", (24, 20), tuple(generator.randrange(256) for _ in range(3)))
    image.save(path, **options)
    return path


def test_every_format_that_pillow_opens_is_taken(tmp_path):
    names = ["a.png", "b.JPG", "c.jfif", "d.gif", "e.webp", "f.TIFF", "g.bmp", "h.ppm", "i.tga", "j.jpe", "k.qoi"]
    names += ["l.avif"] if features.check("avif") else []
    names += ["m.jp2"] if features.check("jpg_2000") else []
    for name in names:
        save(tmp_path / name)
    read = read_pictures([tmp_path])
    assert read.names == names and not read.warnings
    assert {tuple(picture.shape) for picture in read.pictures} == {(3, 20, 24)}


def test_what_only_can_be_written_is_no_picture():
    assert ".pdf" not in picture_suffixes() and {".png", ".jfif", ".gif", ".jp2"} <= picture_suffixes()


def test_a_plugin_for_more_formats_is_used_where_it_is_installed(monkeypatch, tmp_path):
    (tmp_path / "phone.heic").write_bytes(b"ftypheic")
    save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
    (warning,) = read_pictures([tmp_path]).warnings
    assert "phone.heic" in warning and "pillow-heif" in warning

    def register():
        opened: Any = lambda *_: Image.new("RGB", (30, 30))  # noqa: E731
        Image.register_open("FAKE HEIF", opened, lambda head: head == b"ftypheic")
        Image.register_extension("FAKE HEIF", ".heic")

    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setattr(Image, "EXTENSION", dict(Image.EXTENSION))
    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    read = read_pictures([tmp_path])
    assert read.names == ["a.png", "phone.heic"] and not read.warnings


@pytest.mark.parametrize("name", ["._a.png", ".DS_Store", ".hidden.jpg", "Thumbs.db", "DESKTOP.INI"])
def test_hidden_files_are_passed_over(tmp_path, name):
    save(tmp_path / "a.png")
    (tmp_path / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    read = read_pictures([tmp_path])
    assert read.names == ["a.png"] and not read.warnings
    assert is_hidden(name) and not is_hidden("a.png")


def test_hidden_folders_are_passed_over_and_others_are_named(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / ".trash" / "b.png")
    save(tmp_path / "old.png" / "c.png")
    save(tmp_path / "more" / "d.png")
    read = read_pictures([tmp_path])
    assert read.names == ["a.png"]
    (warning,) = read.warnings
    assert "more, old.png" in warning and "sub-folder" in warning and "trash" not in warning


def test_what_is_left_out_is_named_with_the_reason(tmp_path):
    save(tmp_path / "good.png")
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    whole = save(tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    Image.new("RGB", (9, 200)).save(tmp_path / "thin.png")
    (tmp_path / "clip.mp4").write_bytes(b"film")
    (tmp_path / "notes").write_text("notes")
    (tmp_path / "other.txt").write_text("a S* without a picture")
    read = read_pictures([tmp_path])
    assert read.names == ["good.png", "whole.jpg"]
    for name, reason in [
        ("film.gif", "animated"),
        ("cut.jpg", "no picture that can be read"),
        ("empty.png", "no picture that can be read"),
        ("lost.png", "There is no picture"),
        ("thin.png", "9 x 200"),
        ("clip.mp4, notes", "no format of pictures"),
        ("other.txt", "caption"),
    ]:
        assert any(name in warning and reason in warning for warning in read.warnings), name
    assert all(tmp_path.name in warning for warning in read.warnings)


def test_a_file_that_serves_otherwise_is_not_left_out(tmp_path, monkeypatch):
    save(tmp_path / "a.png")
    (tmp_path / "captions.txt").write_text("S*")
    monkeypatch.chdir(tmp_path)
    assert read_pictures([tmp_path]).warnings
    assert not read_pictures([tmp_path], ["captions.txt"]).warnings


def test_captions_beside_pictures_are_not_left_out(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.jpg")
    for name in ("A.txt", "b.caption", "b.jpg.TXT"):
        (tmp_path / name).write_text("S*")
    assert not read_pictures([tmp_path]).warnings


def test_a_folder_without_pictures_says_what_is_in_it(tmp_path):
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "bad.png").touch()
    with pytest.raises(ValueError, match=r"holds no picture.*clip\.mp4.*bad\.png"):
        read_pictures([tmp_path])
    with pytest.raises(ValueError, match="holds no picture"):
        (tmp_path / "empty").mkdir()
        read_pictures([tmp_path / "empty"])


def test_a_file_that_was_asked_for_by_name_must_be_a_picture(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "._a.png").touch()
    with pytest.raises(ValueError, match=r"\._a\.png is no picture"):
        read_pictures([tmp_path / "a.png", tmp_path / "._a.png"])


def test_names_are_sorted_as_people_do(tmp_path):
    names = ["1.png", "2.png", "10.png", "a1b2.png", "a1b10.png", "A2.png", "z.png", "é.png"]
    shuffled = random.Random(3).sample(names, len(names))
    assert sorted(shuffled, key=natural_key) == names
    assert sorted(["01.png", "1.png", "001.png"], key=natural_key) == ["001.png", "01.png", "1.png"]
    for name in names[:3]:
        save(tmp_path / name)
    assert read_pictures([tmp_path]).names == names[:3]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["1.png", "10.png", "2.png"], ["1.png", "2.png", "10.png"]),  # as a shell writes *.png
        (["10.png", "1.png", "2.png"], ["1.png", "2.png", "10.png"]),  # and one that leaves out the dot
        (["2.png", "10.png", "1.png"], ["2.png", "10.png", "1.png"]),  # as somebody chose
        (["10.png", "2.png", "1.png"], ["10.png", "2.png", "1.png"]),
    ],
)
def test_a_shells_order_becomes_the_natural_one(tmp_path, given, taken):
    for name in given:
        save(tmp_path / name)
    assert read_pictures([tmp_path / name for name in given]).names == taken


def test_files_of_one_name_are_told_apart_by_their_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x/1.png", "y/1.png", "y/2.png"):
        save(tmp_path / name)
    assert read_pictures(["x", "y"]).names == ["x/1.png", "y/1.png", "2.png"]


def test_what_was_lost_while_reading_is_passed_on(tmp_path):
    save(tmp_path / "a.png", icc_profile=b"nonsense")
    (warning,) = read_pictures([tmp_path]).warnings
    assert "a.png" in warning and "profile" in warning
