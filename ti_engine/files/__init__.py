"""Embedding files: read and written without ever running code from them."""

from .load import load_embedding, stored_precisions
from .metadata import training_metadata
from .save import save_embedding

__all__ = ["load_embedding", "save_embedding", "stored_precisions", "training_metadata"]
