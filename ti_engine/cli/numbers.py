"""Limits of numbers that flags give."""

from __future__ import annotations


def check_range(flag: str, value: float, low: int, high: int) -> None:
    """ValueError for a number outside of `low` to `high`, NaN included."""
    if not low <= value <= high:
        raise ValueError(f"{flag} must be from {low} to {high}, got {value}.")
