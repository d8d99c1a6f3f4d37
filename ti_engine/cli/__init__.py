"""The command line: `textual-inversion` with `train`, `generate`, `evaluate`, `inspect`, `convert`, `merge`, `extract`,
`runs` and `pick`."""

from .main import main

__all__ = ["main"]
