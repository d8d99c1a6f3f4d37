"""The command line: `textual-inversion train`, `generate`, `inspect`, `convert`, `merge`, `extract`, `runs`, `pick`."""

from .main import main

__all__ = ["main"]
