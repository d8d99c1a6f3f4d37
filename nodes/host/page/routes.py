"""What the page can ask the server for."""

from __future__ import annotations

from typing import Any

from .progress import RunProgress, running_server


def add_routes() -> None:
    """GET /textual_inversion/runs: the newest run of every Train node, as its last message told it.

    For pages that open or reload while a run goes on, or after it. Nothing in a request is read.
    """
    server = running_server()
    if server is None:
        return
    from aiohttp import web  # the server's own; without a server nobody needs it

    @server.routes.get("/textual_inversion/runs")
    async def runs(request: Any) -> Any:
        return web.json_response(RunProgress.newest())
