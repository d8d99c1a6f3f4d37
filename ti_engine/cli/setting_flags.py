"""The settings of TrainConfig as flags: names, choices, defaults and help texts come from there."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from ..training.config import PRESETS, TrainConfig, setting_limits

_NOT_HERE = ("preview_every",)  # settings for callers that show pictures while they train


def add_setting_flags(parser: argparse.ArgumentParser) -> None:
    settings = parser.add_argument_group("settings", "defaults in brackets; a preset changes several at once")
    settings.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        default="default",
        help="fast: 40 updates of 4 samples, for the direction of the vectors alone (norm). paper: 5,000 updates of 8 "
        "samples at a constant rate, as Gal et al. 2022 trained [default]",
    )
    for name in _names():
        _add_setting(settings, name)


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those that a flag names."""
    return {name: getattr(arguments, name) for name in _names() if hasattr(arguments, name)}


def _names() -> list[str]:
    return [setting.name for setting in fields(TrainConfig) if setting.name not in _NOT_HERE]


def _add_setting(group: Any, name: str) -> None:
    limits, default = setting_limits(name), getattr(TrainConfig, name)
    options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
    text = limits["help"].replace("%", "%%")
    if isinstance(default, bool):
        options["action"] = argparse.BooleanOptionalAction
    elif isinstance(default, tuple):
        options |= {"action": "append", "metavar": "TEXT"}
        text += " Once for each"
    elif limits["choices"]:
        options["choices"] = limits["choices"]
    else:
        options |= {"type": type(default), "metavar": {int: "N", float: "X"}.get(type(default), "TEXT")}
    default_text = ("on" if default else "off") if isinstance(default, bool) else default
    options["help"] = f"{text} [{default_text}]" if default_text not in ("", ()) else text
    group.add_argument("--" + name.replace("_", "-"), **options)
