"""What the page can ask the server for."""

from __future__ import annotations

import asyncio
from typing import Any

from ....ti_engine.run.folder import is_run_id
from .progress import RunProgress, running_server
from .saved_run import message_of, newest_runs

_WISHES = ("stop", "sample")


def add_routes() -> None:
    """For pages that open or reload while a run goes on, or after it, also after a restart of the server.

    GET /textual_inversion/runs: the newest run of every Train node, as its last message told it.
    GET /textual_inversion/runs/{run}: the same for one run, from memory or disk, and its pictures; 404 with a sentence
    if there is none. {run} may also be the beginning of the id, as it stands in the list of Load Run.
    GET /textual_inversion/saved_runs: the newest runs on disk, each with a picture.
    POST /textual_inversion/runs/{run}/{wish}: stop (and keep what was learned) or sample at the next step; 404 if
    nobody trains that run now.

    {run} is the id of a run, 32 hex digits. It is compared with the ids of runs, and is never a path. Nothing else of a
    request is read.
    """
    server = running_server()
    if server is None:
        return
    from aiohttp import web  # the server's own; without a server nobody needs it

    @server.routes.get("/textual_inversion/runs")
    async def runs(request: Any) -> Any:
        return web.json_response(RunProgress.newest())

    @server.routes.get("/textual_inversion/runs/{run}")
    async def run(request: Any) -> Any:
        try:
            return web.json_response(await asyncio.to_thread(message_of, request.match_info["run"]))
        except ValueError as error:
            return web.json_response({"sentence": str(error)}, status=404)

    @server.routes.get("/textual_inversion/saved_runs")
    async def saved_runs(request: Any) -> Any:
        return web.json_response(await asyncio.to_thread(newest_runs))

    @server.routes.post("/textual_inversion/runs/{run}/{wish}")
    async def ask(request: Any) -> Any:
        run_id, wish = request.match_info["run"], request.match_info["wish"]
        heard = is_run_id(run_id) and wish in _WISHES and RunProgress.ask(run_id, wish)
        return web.json_response({"heard": heard}, status=200 if heard else 404)
