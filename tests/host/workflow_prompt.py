"""A saved workflow (what the page stores) as a prompt (what the server runs), the way the page itself does it.

Enough for our templates: links, widgets in their saved order, notes, muted nodes. No subgraphs, reroutes or bypasses.
"""

from __future__ import annotations

from typing import Any

_WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
_ONLY_IN_THE_PAGE = {"Note", "MarkdownNote"}
_MUTED = 2


def prompt_of(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """The body's `prompt` for POST /prompt; `object_info` is the server's own answer to GET /object_info."""
    links = {link[0]: (str(link[1]), link[2]) for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in _ONLY_IN_THE_PAGE or node.get("mode", 0) == _MUTED:
            continue
        linked = {i["name"]: links[i["link"]] for i in node.get("inputs", []) if i.get("link") is not None}
        inputs: dict[str, Any] = dict(_widget_values(node, object_info[node["type"]]))
        inputs.update({name: list(source) for name, source in linked.items()})
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def nodes_of(prompt: dict[str, Any], class_type: str) -> list[str]:
    """Ids of the nodes of one class."""
    return [id_ for id_, node in prompt.items() if node["class_type"] == class_type]


def _widget_values(node: dict[str, Any], info: dict[str, Any]) -> list[tuple[str, Any]]:
    names = [*info["input"].get("required", {}).items(), *info["input"].get("optional", {}).items()]
    values = iter(node.get("widgets_values", []))
    found = []
    for name, (kind, *rest) in names:
        options = rest[0] if rest else {}
        if not (isinstance(kind, list) or kind in _WIDGET_TYPES) or options.get("forceInput"):
            continue
        value = next(values, None)
        if value is None:
            raise AssertionError(f"{node['type']} has fewer widgets_values than widgets; the first without is {name}.")
        found.append((name, value))
        if _has_second_widget(name, kind, options):
            next(values)
    rest = list(values)
    if rest:
        raise AssertionError(f"{node['type']} has widgets_values that belong to no widget: {rest}.")
    return found


def _has_second_widget(name: str, kind: Any, options: dict[str, Any]) -> bool:
    """The page adds `control_after_generate` to seeds and a button to uploads, each with a value of its own."""
    is_seed = kind == "INT" and name in ("seed", "noise_seed")
    return bool(options.get("control_after_generate", is_seed)) or bool(options.get("image_upload"))
