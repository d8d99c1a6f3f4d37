"""Embeddings in pictures: A1111's own file, the rules of its decoder, and two copies that must agree."""

from __future__ import annotations

import base64
import io
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from file_bytes import KEYWORD, chunk, png_bytes
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ti_engine.files.containers.container import Container, read_container
from ti_engine.files.containers.picture_file import write_picture
from ti_engine.files.containers.picture_pixels import picture_around

SAMPLE = Path(__file__).parents[4] / "shared" / "embeddings" / "a1111_test_embedding.png"


def opened(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture)).convert("RGB")


def saved(picture: Image.Image, text: str | None = None, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    information = PngInfo()
    if text is not None:
        information.add_text(KEYWORD.decode(), text)
    picture.save(file, form, **({"pnginfo": information} if form == "PNG" else {}), **options)
    return file.getvalue()


def read(folder: Path, data: bytes) -> Container:
    (folder / "word.png").write_bytes(data)
    return read_container(folder / "word.png")


def vectors(container: Container) -> torch.Tensor:
    return container.content["string_to_param"]["*"]


def a1111_decodes(picture: Image.Image) -> dict[str, Any]:
    """The rules of A1111's decoder, one number at a time."""
    width, height = picture.size
    pixels = [[picture.getpixel((x, y)) for y in range(height)] for x in range(width)]
    columns = [column for column in pixels if any(min(pixel) > 0 for pixel in column)]  # type: ignore[call-overload, type-var, arg-type]
    assert columns[0] == pixels[0]
    assert columns[-1] == pixels[-1]
    low = [[[value & 15 for value in pixel] for pixel in column] for column in pixels]  # type: ignore[union-attr]
    black = [x for x in range(width) if not any(any(pixel) for pixel in low[x])]
    halves = []
    for left, right in ((0, min(black)), (max(black) + 1, width)):
        seed, half = 0, []
        for y in range(height):
            for x in range(left, right):
                for channel in range(3):
                    seed = (1664525 * seed + 1013904223) % 2**32
                    half.append(low[x][y][channel] ^ seed % 255 & 15)
        halves.append(half)
    stream = bytes(upper << 4 | lower for lower, upper in zip(*halves, strict=True))
    return json.loads(zlib.decompress(stream))


@pytest.mark.skipif(not SAMPLE.is_file(), reason="the real files are not here")
def test_a_real_picture(tmp_path: Path) -> None:
    container = read_container(SAMPLE)
    assert container.kind == "picture"
    assert container.warnings == []
    rows = vectors(container)
    assert (rows.dtype, rows.shape) == (torch.float32, (8, 768))
    assert container.content["name"] == "rick"
    assert container.content["step"] == 60
    with Image.open(SAMPLE) as picture:
        said = json.loads(base64.b64decode(picture.info[KEYWORD.decode()]))
        assert torch.equal(rows, torch.tensor(said["string_to_param"]["*"]["TORCHTENSOR"]))
        without_text = read(tmp_path, saved(picture.convert("RGB")))
    assert torch.equal(vectors(without_text), rows)
    assert without_text.warnings == []


def test_what_is_written_is_what_a1111_reads(a1111_content: dict[str, Any], a1111_picture: bytes) -> None:
    decoded = a1111_decodes(opened(a1111_picture))
    with Image.open(io.BytesIO(a1111_picture)) as picture:
        assert json.loads(base64.b64decode(picture.info[KEYWORD.decode()])) == decoded
    rows = a1111_content["string_to_param"]["*"]
    assert decoded.pop("string_to_param") == {"*": {"TORCHTENSOR": rows.double().tolist()}}
    assert decoded == {key: value for key, value in a1111_content.items() if key != "string_to_param"}


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_both_copies_come_out_alone(
    tmp_path: Path, form: str, a1111_content: dict[str, Any], a1111_picture: bytes
) -> None:
    rows = a1111_content["string_to_param"]["*"]
    with Image.open(io.BytesIO(a1111_picture)) as picture:
        text = picture.info[KEYWORD.decode()]
    whole = read(tmp_path, a1111_picture)
    pixels_only = read(tmp_path, saved(opened(a1111_picture), form=form, lossless=True))
    text_only = read(tmp_path, saved(Image.new("RGB", (8, 8), "red"), text))
    for container in (whole, pixels_only, text_only):
        assert torch.equal(vectors(container), rows)
        assert container.content["sd_checkpoint_name"] == "model"
    assert (whole.warnings, pixels_only.warnings) == ([], [])
    assert "its pixels none that can be read" in text_only.warnings[0]


def test_pictures_of_any_mode_and_size(tmp_path: Path, a1111_content: dict[str, Any]) -> None:
    for mode, size in [("RGB", (64, 512)), ("RGBA", (100, 300)), ("L", (1, 128)), ("P", (64, 257)), ("1", (64, 200))]:
        picture = Image.effect_noise(size, 90).convert(mode)
        container = read(tmp_path, write_picture(a1111_content, picture))
        assert torch.equal(vectors(container), a1111_content["string_to_param"]["*"])
        assert container.warnings == []
    black = write_picture(a1111_content, Image.new("RGB", (300, 300)))
    assert read(tmp_path, black).warnings == []


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iTXt, packed"])
def test_every_kind_of_text(kind: str, tmp_path: Path, a1111_content: dict[str, Any], a1111_picture: bytes) -> None:
    """A1111 writes tEXt; what saves a picture again may choose another, and break the lines of base64."""
    with Image.open(io.BytesIO(a1111_picture)) as picture:
        text = picture.info[KEYWORD.decode()].encode()
    text = text[:76] + b"\r\n" + text[76:]
    said = {
        "tEXt": text,
        "zTXt": b"\0" + zlib.compress(text),
        "iTXt": b"\0\0en\0the\xc3\xa9\0" + text,
        "iTXt, packed": b"\1\0\0\0" + zlib.compress(text),
    }[kind]
    assert torch.equal(
        vectors(read(tmp_path, png_bytes(chunk(kind[:4].encode(), KEYWORD + b"\0" + said)))),
        a1111_content["string_to_param"]["*"],
    )


def test_disagreement_is_told(tmp_path: Path, a1111_content: dict[str, Any], a1111_picture: bytes) -> None:
    other = a1111_content | {"string_to_param": {"*": torch.ones(1, 768)}}
    with Image.open(io.BytesIO(write_picture(other, Image.new("RGB", (64, 256))))) as picture:
        text = picture.info[KEYWORD.decode()]
    different = read(tmp_path, saved(opened(a1111_picture), text))
    assert "different embeddings; the text is used" in different.warnings[0]
    assert torch.equal(vectors(different), torch.ones(1, 768))
    broken = read(tmp_path, saved(opened(a1111_picture), text[:-9]))
    assert "broken embedding; the one in its pixels is used" in broken.warnings[0]
    assert torch.equal(vectors(broken), a1111_content["string_to_param"]["*"])
    with pytest.raises(ValueError, match="its text that is broken: it is not base64"):
        read(tmp_path, saved(Image.new("RGB", (8, 8), "red"), text[:-9]))


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (8, 8)),
        Image.new("RGB", (8, 8), "white"),
        Image.new("I;16", (8, 8), 5000),
        Image.new("RGBA", (1, 1)),
        Image.effect_noise((64, 64), 90).convert("RGB"),
    ],
    ids=["black", "white", "16 bits", "one pixel", "noise"],
)
def test_ordinary_pictures(tmp_path: Path, picture: Image.Image) -> None:
    sentence = r"^word\.png is a picture without an embedding in it\.$"
    with pytest.raises(ValueError, match=sentence):
        read(tmp_path, saved(picture))
    framed = Image.new("RGB", (128, 80))
    framed.paste(Image.effect_noise((128, 80), 90).convert("RGB"))
    for x in (20, 107):  # black columns where those of an embedding would be
        framed.paste((0, 0, 0), (x, 0, x + 1, 80))
    with pytest.raises(ValueError, match=sentence):
        read(tmp_path, saved(framed))


def test_damaged_pixels_are_told(tmp_path: Path, a1111_picture: bytes) -> None:
    picture = opened(a1111_picture)
    picture.putpixel((5, 100), (1, 2, 3))
    with pytest.raises(ValueError, match="has an embedding in its pixels that is damaged"):
        read(tmp_path, saved(picture))


def test_without_pillow(tmp_path: Path, a1111_picture: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    without_text = saved(opened(a1111_picture))
    for module in ("PIL.PngImagePlugin", "PIL.WebPImagePlugin"):
        monkeypatch.setitem(sys.modules, module, None)
    container = read(tmp_path, a1111_picture)
    assert vectors(container).shape == (2, 768)
    assert "Pillow is not installed" in container.warnings[0]
    with pytest.raises(ValueError, match="needs Pillow; install it"):
        read(tmp_path, without_text)


def test_what_cannot_be_written_is_said(a1111_content: dict[str, Any]) -> None:
    many = a1111_content | {"string_to_param": {"*": torch.randn(400, 768)}}
    with pytest.raises(ValueError, match="does not fit into a picture of 64 x 64 pixels"):
        write_picture(many, Image.new("RGB", (64, 64)))
    with pytest.raises(ValueError, match="does not fit into a picture of 4000 x 4000"):
        write_picture(a1111_content, Image.new("RGB", (4000, 4000)))
    with pytest.raises(ValueError, match="A picture holds tensors, text and numbers; got set"):
        write_picture({"a": {1}}, Image.new("RGB", (64, 64)))


def test_the_stream_is_repeated_and_never_padded() -> None:
    """A1111's reader unpacks the blocks whole, so that a stream must begin again behind its end."""
    data = b'{"a": 1}'
    decoded = a1111_decodes(picture_around(data, Image.new("RGB", (3, 50), "red")))
    assert decoded == {"a": 1}
