"""What an operator's machines ask: `/livez`, `/readyz`, `/metrics`, and `/status` for people and scripts.

Alive is the process whose loop turns.  Ready is a worker that is loaded to the end it saw at its start *and* has heard
from the broker lately: a page that only says "loaded" stays green while the broker is away.  The first two are open to
everybody who reaches them, because what asks them seldom has a key; they tell nothing of the catalog.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import web

from streams.metrics import Metrics
from streams.web.answers import json_answer
from streams.web.keys import Keys
from streams.web.server import Web

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Stage(Protocol):
    """What a stage tells of itself."""

    @property
    def started(self) -> bool:
        """Whether it runs, so that it can be asked the rest."""

    def waiting_for(self) -> str | None:
        """Why the stage is not ready, in words; None when it is."""

    def status(self) -> dict[str, Any]:
        """What there is to see, for `/status`."""

    def measure(self) -> None:
        """Bring the gauges of `/metrics` up to date."""


class Health:
    """The pages of one worker."""

    def __init__(self, metrics: Metrics, keys: Keys, writer: str) -> None:
        self.metrics = metrics
        self.keys = keys
        self.writer = writer
        self.stages: dict[str, Stage] = {}
        self.waiting = "the broker is not reached yet"
        """Why there are no stages: they are made when the topics are there."""
        self.began_s = time.time()

    def register(self, web: Web) -> None:
        """Add the pages to the web server."""
        web.add("GET", "/livez", self._page(lambda request: json_answer(request, {"status": "alive"})))
        web.add("GET", "/readyz", self._page(self._ready))
        web.add("GET", "/status", self._page(lambda request: json_answer(request, self.status()), guarded=True))
        web.add("GET", "/metrics", self._page(self._metrics, guarded=True))

    def status(self) -> dict[str, Any]:
        """Everything that the stages tell of themselves."""
        return {
            "worker": self.writer,
            "up_s": round(time.time() - self.began_s, 1),
            "ready": not self.reasons(),
            "waiting_for": self.reasons(),
            "stages": {name: stage.status() for name, stage in self.stages.items() if stage.started},
        }

    def reasons(self) -> dict[str, str]:
        """Why the worker is not ready, by stage."""
        if self.waiting:
            return {"worker": self.waiting}
        found = {
            name: stage.waiting_for() if stage.started else "it is starting" for name, stage in self.stages.items()
        }
        return {name: reason for name, reason in found.items() if reason}

    def _ready(self, request: web.BaseRequest) -> web.Response:
        reasons = self.reasons()
        self.metrics.ready.set(not reasons)
        body = {"status": "waiting" if reasons else "ready", "waiting_for": reasons}
        return json_answer(request, body, 503 if reasons else 200)

    def _metrics(self, request: web.BaseRequest) -> web.Response:
        for stage in self.stages.values():
            if stage.started:
                stage.measure()
        self.metrics.ready.set(not self.reasons())
        return web.Response(body=self.metrics.text(), headers={"Content-Type": METRICS_TYPE})

    def _page(self, answer: Callable[[web.BaseRequest], web.Response], guarded: bool = False) -> Any:
        async def page(request: web.BaseRequest, parts: tuple[str, ...]) -> web.Response:
            if guarded:
                self.keys.check_page(request)
            return answer(request)

        return page
