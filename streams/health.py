"""What an operator's machines ask: `/livez`, `/readyz`, `/metrics`, and `/status` for people and scripts.

Alive is the process whose loop turns.  Ready is a worker that is loaded to the end it saw at its start *and* has heard
from the broker lately: a page that only says "loaded" stays green while the broker is away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import faust
from faust.web import Response, View

from streams.metrics import Metrics


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

    def __init__(self, metrics: Metrics, stages: dict[str, Stage], writer: str) -> None:
        self.metrics = metrics
        self.stages = stages
        self.writer = writer
        self.started = time.time()

    def register(self, app: faust.App) -> None:
        """Add the pages to a Faust application."""
        self._page(app, "/livez", lambda view: view.json({"status": "alive"}))
        self._page(app, "/readyz", self._ready)
        self._page(app, "/status", lambda view: view.json(self.status()))
        self._page(app, "/metrics", self._metrics)

    def status(self) -> dict[str, Any]:
        """Everything that the stages tell of themselves."""
        return {
            "worker": self.writer,
            "up_s": round(time.time() - self.started, 1),
            "ready": not self.reasons(),
            "waiting_for": self.reasons(),
            "stages": {name: stage.status() for name, stage in self.stages.items() if stage.started},
        }

    def reasons(self) -> dict[str, str]:
        """Why the worker is not ready, by stage."""
        found = {
            name: stage.waiting_for() if stage.started else "it is starting" for name, stage in self.stages.items()
        }
        return {name: reason for name, reason in found.items() if reason}

    def _ready(self, view: View) -> Response:
        reasons = self.reasons()
        self.metrics.ready.set(not reasons)
        body = {"status": "waiting" if reasons else "ready", "waiting_for": reasons}
        return view.json(body, status=503 if reasons else 200)

    def _metrics(self, view: View) -> Response:
        for stage in self.stages.values():
            if stage.started:
                stage.measure()
        self.metrics.ready.set(not self.reasons())
        return view.bytes(self.metrics.text(), content_type="text/plain")

    @staticmethod
    def _page(app: faust.App, path: str, answer: Callable[[View], Response]) -> None:
        @app.page(path, name=path.strip("/"))
        async def page(view: View, request: Any) -> Response:
            return answer(view)
