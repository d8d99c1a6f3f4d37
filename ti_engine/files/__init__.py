"""Embedding files: read and written without ever running code from them."""

from .formats.metadata import training_metadata
from .load import EmbeddingFile, StoredWord, load_embedding, read_embedding_file
from .save import save_embedding

__all__ = [
    "EmbeddingFile",
    "StoredWord",
    "load_embedding",
    "read_embedding_file",
    "save_embedding",
    "training_metadata",
]
