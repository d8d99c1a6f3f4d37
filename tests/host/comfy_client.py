"""A client of ComfyUI's HTTP and WebSocket API, as small as the tests need it."""

from __future__ import annotations

import io
import json
import struct
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import websocket
from PIL import Image

_PREVIEW, _TEXT, _PREVIEW_WITH_METADATA = 1, 3, 4  # the server's kinds of binary messages
_ENDINGS = ("execution_success", "execution_error", "execution_interrupted")


@dataclass
class Run:
    """All that the server said about one prompt."""

    prompt_id: str
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    previews: list[tuple[str | None, Image.Image]] = field(default_factory=list)
    """(id of the node, picture)."""
    texts: list[tuple[str, str]] = field(default_factory=list)
    """(id of the node, progress text)."""
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each output node shows, by node id."""

    @property
    def ending(self) -> str:
        return self.events[-1][0]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The contents of all events of one kind."""
        return [data for name, data in self.events if name == kind]

    @property
    def cached(self) -> set[str]:
        """Ids of the nodes that did not run again."""
        return {node for data in self.of("execution_cached") for node in data["nodes"]}


class ComfyClient:
    """One browser tab's worth of connection. Use as a context manager."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._id = uuid.uuid4().hex
        self._socket: websocket.WebSocket

    def __enter__(self) -> ComfyClient:
        address = self.url.replace("http", "ws", 1)
        self._socket = websocket.create_connection(f"{address}/ws?clientId={self._id}", timeout=30)
        # Asks for previews that say which node they belong to; it must be the first message.
        self._socket.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def get(self, path: str) -> Any:
        with urlopen(f"{self.url}{path}", timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, content: dict[str, Any]) -> Any:
        request = Request(f"{self.url}{path}", json.dumps(content).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def queue(self, prompt: dict[str, Any]) -> str:
        """Queue a prompt; returns its id. One that does not validate is an HTTPError with the reasons in its body."""
        return self.post("/prompt", {"prompt": prompt, "client_id": self._id})["prompt_id"]

    def run(
        self,
        prompt: dict[str, Any],
        timeout: float = 180,
        on_event: Callable[[str, dict[str, Any]], None] = lambda kind, data: None,
    ) -> Run:
        """Queue a prompt and listen until it ends. `on_event` sees every event as it comes, and may call `post`."""
        run = Run(self.queue(prompt))
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                message = self._socket.recv()
            except websocket.WebSocketTimeoutException:
                break
            if isinstance(message, bytes):
                self._take_binary(message, run)
                continue
            event = json.loads(message, parse_constant=_refuse_constant)
            kind, data = event["type"], event.get("data") or {}
            if data.get("prompt_id", run.prompt_id) != run.prompt_id:
                continue
            run.events.append((kind, data))
            on_event(kind, data)
            if kind == "executed":
                run.outputs[data["node"]] = data["output"] or {}
            if kind in _ENDINGS:
                return run
        raise TimeoutError(f"The prompt did not end within {timeout} s; last events: {run.events[-3:]}")

    def pictures(self, shown: dict[str, Any]) -> list[Image.Image]:
        """The pictures of an output node."""
        return [self._picture(place) for place in shown["images"]]

    def _picture(self, place: dict[str, str]) -> Image.Image:
        with urlopen(f"{self.url}/view?{urlencode(place)}", timeout=60) as answer:
            return Image.open(io.BytesIO(answer.read())).convert("RGB")

    @staticmethod
    def _take_binary(message: bytes, run: Run) -> None:
        kind, length = struct.unpack(">II", message[:8])
        if kind == _PREVIEW:  # `length` is the picture's format
            run.previews.append((None, Image.open(io.BytesIO(message[8:]))))
        elif kind == _PREVIEW_WITH_METADATA:
            node = json.loads(message[8 : 8 + length])["node_id"]
            run.previews.append((node, Image.open(io.BytesIO(message[8 + length :]))))
        elif kind == _TEXT:
            run.texts.append((message[8 : 8 + length].decode(), message[8 + length :].decode()))


def _refuse_constant(name: str) -> float:
    """Python writes NaN into JSON and reads it back; a browser's parser fails on the whole message."""
    raise AssertionError(f"The server sent {name}, which no browser can read.")
