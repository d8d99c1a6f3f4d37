"""The command line: `textual-inversion train`, `generate`, `inspect`."""

from .main import main

__all__ = ["main"]
