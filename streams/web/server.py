"""The worker's web server, on `KINDRED_WEB`: it starts before anything else and ends after everything else.

It is aiohttp's low-level server with a table of routes of its own: aiohttp's application says errors in HTML or plain
text, those of its parser wherever they come from, and costs a cheap call a quarter more.  Under `/1/`, where Algolia's
clients ask, every answer is JSON with the headers that browsers need, whatever went wrong.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from aiohttp import web

from models.errors import BadRequest, KindredError
from streams.metrics import Metrics
from streams.settings import BadSetting, Settings
from streams.web.admission import Refusals
from streams.web.answers import Overloaded, answer_to, error_answer
from streams.web.cors import ANY_ORIGIN, preflight

log = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest, tuple[str, ...]], Awaitable[web.StreamResponse]]
"""Answers a call; it is given what stands in the places of a route's `{}`."""

CONNECTIONS_MAX = 800
"""Every process has 1,024 files by default.  For one more, the one that has been quiet for longest is closed."""
KEEP_ALIVE_S = 75.0
LINE_BYTES_MAX = 16_384
"""Of the request line and of a header: an item id of 512 bytes is 1,536 percent-encoded, keys come in the URL."""
VARIABLE = "{}"


class Route(NamedTuple):
    """Who answers, and under which name it is counted; one without a name is not."""

    handler: Handler
    name: str


class Web:
    """Routes, and the server that looks them up."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self._refusals = Refusals()
        self._exact: dict[str, dict[str, Route]] = defaultdict(dict)
        self._patterns: dict[int, list[tuple[tuple[str, ...], dict[str, Route]]]] = defaultdict(list)
        self._runner: web.ServerRunner | None = None

    def add(self, method: str, pattern: str, handler: Handler, name: str = "") -> None:
        """Answer calls of a path: `/1/indexes/{}/task/{}` has two places that the handler is given, decoded."""
        self._exact[pattern][method] = Route(handler, name)
        segments = tuple(pattern.split("/"))
        for known, methods in self._patterns[len(segments)]:
            if known == segments:
                methods[method] = Route(handler, name)
                return
        self._patterns[len(segments)].append((segments, {method: Route(handler, name)}))

    async def start(self) -> None:
        """Listen.  BadSetting where that is not possible."""
        self._runner = web.ServerRunner(_Server(self.answer), handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.settings.web_host, self.settings.web_port).start()
        except OSError as error:
            await self.stop()
            raise BadSetting(f"KINDRED_WEB: cannot listen on {self.settings.web}: {error.strerror}") from error

    async def stop(self) -> None:
        """Finish the calls in work and close."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # A call.

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any call; never raises."""
        connection = request.protocol
        if isinstance(connection, _Connection):
            connection.busy = True
        try:
            return await self._answer(request)
        finally:
            if isinstance(connection, _Connection):
                connection.busy = False

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        began_s = time.perf_counter()
        path = request.rel_url.raw_path
        for_browsers = path.startswith("/1/")
        if request.method == "OPTIONS" and for_browsers:
            return preflight(request)
        name = ""
        response: web.StreamResponse
        try:
            route, parts = self._find(request.method, path)
            name = route.name
            response = await route.handler(request, parts)
        except Overloaded as error:
            response = answer_to(error)
            await self._refusals.turn()
        except KindredError as error:
            response = answer_to(error)
        except ConnectionError:
            raise
        except Exception:
            log.exception("a call of %s failed by a fault of ours", path[:200])
            response = error_answer("this is a fault of Kindred's; its log says more", 500)
        if for_browsers:  # the rest is nothing that a page of another origin should see
            response.headers.update(ANY_ORIGIN)
        if name:
            self.metrics.http_requests.labels(name, response.status).inc()
            self.metrics.http_seconds.labels(name).observe(time.perf_counter() - began_s)
        return response

    def _find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]]:
        """Who answers a path, with the texts in its places.  BadRequest: 404 nobody, 405 nobody by this method."""
        if method == "HEAD":
            method = "GET"
        if (route := self._exact.get(path, {}).get(method)) and VARIABLE not in path:
            return route, ()
        segments = _decoded(path)
        allowed: list[str] = []
        for pattern, methods in self._patterns.get(len(segments), ()):
            pairs = list(zip(pattern, segments, strict=True))
            if all(ours == theirs or (ours == VARIABLE and theirs) for ours, theirs in pairs):
                if route := methods.get(method):
                    return route, tuple([theirs for ours, theirs in pairs if ours == VARIABLE])
                allowed += methods
        if allowed:
            raise BadRequest(f"{method} is not for this path: {' or '.join(sorted(set(allowed)))}", 405)
        raise BadRequest(f"there is nothing at {path[:200]}", 404)


def _decoded(path: str) -> tuple[str, ...]:
    """The segments of a path; a slash that is percent-encoded does not part two."""
    try:
        return tuple([unquote_to_bytes(segment).decode() for segment in path.split("/")])
    except UnicodeDecodeError as error:
        raise BadRequest(f"the path is not UTF-8, percent-encoded: {error.reason}") from error


class _Server(web.Server):
    """Makes the connections."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,  # whoever has gone needs no answer
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            lingering_time=2.0,
            auto_decompress=False,  # streams/web/bodies.py does it, within its limits
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
        )

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    def has_room(self) -> bool:
        """Whether one connection more can be served, if need be in place of a quiet one."""
        if len(self._connections) < CONNECTIONS_MAX:
            return True
        quiet = [each for each in self._connections if isinstance(each, _Connection) and not each.busy]
        if not quiet:
            return False
        min(quiet, key=lambda each: each.heard_s).force_close()
        return True


class _Connection(web.RequestHandler):
    """One connection."""

    busy = False
    """Whether a call of it is in work."""
    heard_s = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard_s = self._loop.time()
        super().data_received(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.heard_s = self._loop.time()
        if isinstance(self._manager, _Server) and not self._manager.has_room():
            self._manager = None  # it was never one of its connections
            transport.abort()  # type: ignore[attr-defined]
            return
        super().connection_made(transport)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What came cannot be read as HTTP.  Said to the client, not to the log: anybody may send anything."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        if status >= 500:
            log.error("a call could not be answered: %r", exc)
        response = error_answer(message.splitlines()[0][:200] if message else "this is not HTTP", status)
        response.headers.update(ANY_ORIGIN)
        response.force_close()
        return response
