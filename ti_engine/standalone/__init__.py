"""The engine without ComfyUI: the frozen models are diffusers' and transformers' objects."""

from .backend import DiffusersBackend
from .load import load_model

__all__ = ["DiffusersBackend", "load_model"]
