"""Pictures that only the page shows."""

from __future__ import annotations

from PIL import Image

from ..text.folders import temporary_folder


def save_temporary_picture(image: Image.Image, name: str) -> dict[str, str]:
    """Write `name`.png into the host's temporary folder; the entry by which a node's output names it."""
    folder = temporary_folder()
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / f"{name}.png", compress_level=1)
    return {"filename": f"{name}.png", "subfolder": "", "type": "temp"}
