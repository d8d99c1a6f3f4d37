"""Colours as a picture's ICC profile says, in sRGB, which image models were trained on."""

from __future__ import annotations

import io

from PIL import Image, ImageCms


def to_srgb(image: Image.Image, name: str) -> tuple[Image.Image, list[str]]:
    """`image` (L, LA, RGB, RGBA, CMYK or LAB) in sRGB, as RGB or with its alpha as RGBA; and warnings that name it.

    Without a profile the numbers are taken as sRGB, and those of CMYK are converted by rule of thumb. A profile that
    cannot be used is a warning and never an error. Conversion is relative colorimetric with black point compensation,
    as browsers and photo editors do it.
    """
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    opaque = image if alpha is None else image.convert(image.mode.removesuffix("A"))
    converted, warnings = _convert(opaque, image.info.get("icc_profile"), name)
    if alpha is not None:
        converted.putalpha(alpha)
    return converted, warnings


def _convert(image: Image.Image, profile: bytes | None, name: str) -> tuple[Image.Image, list[str]]:
    if image.mode == "LAB":
        return _transformed(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))), []
    if not profile:
        cmyk = f"{name} is in CMYK without a colour profile, so its colours are a guess; save it in sRGB."
        return image.convert("RGB"), [cmyk] if image.mode == "CMYK" else []
    try:
        return _transformed(image, ImageCms.ImageCmsProfile(io.BytesIO(profile))), []
    except Exception as error:  # damaged ones raise many kinds; ImportError: a Pillow without Little CMS
        reason = str(error).strip() or type(error).__name__
        warning = (
            f"The colour profile of {name} cannot be used ({reason}), so its colours are taken as sRGB and may be a "
            "little off; save it in sRGB."
        )
        return image.convert("RGB"), [warning]


def _transformed(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image,
        profile,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # it is None only in place
    return converted
