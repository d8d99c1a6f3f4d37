"""What the tests have found out about each family; tests/host/write_models_page.py makes docs/models.md of it."""

from __future__ import annotations

import inspect
import json
import os
import re
from pathlib import Path
from typing import Any

import comfy.supported_models
from in_host import plugin

_FILE = "TI_PROOFS"  # path of a JSON file to write; nothing is written without it


def record(name: str, about: str = "families", **facts: Any) -> None:
    """Adds facts about a family to the file, or about something else of that name."""
    path = os.environ.get(_FILE)
    if path is None:
        return
    file = Path(path)
    found = json.loads(file.read_text()) if file.exists() else _host()
    found.setdefault(about, {}).setdefault(name, {}).update(facts)
    file.write_text(json.dumps(found, indent=1))


def _host() -> dict[str, Any]:
    import comfyui_version

    masks = plugin("nodes.host.inpainting").MASKS
    return {"host": comfyui_version.__version__, "all": all_families(), "masks": masks}


def all_families() -> dict[str, str | None]:
    """Every name in the host's list of models -> why it is refused; None where it is not."""
    refused = plugin("nodes.host.models.known_families").REFUSED
    return {family.__name__: refused.get(_model_class(family)) for family in comfy.supported_models.models}


def _model_class(family: Any) -> str:
    """The name in comfy.model_base of the class that a family makes."""
    names = re.findall(r"model_base\.(?!ModelType)(\w+)\(", inspect.getsource(family.get_model))
    return names[-1] if names else "BaseModel"
