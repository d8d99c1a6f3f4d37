"""The engine without ComfyUI: the frozen models are diffusers' and transformers' objects."""

from .backend import DiffusersBackend
from .families import LooseParts
from .load import load_model

__all__ = ["DiffusersBackend", "LooseParts", "load_model"]
