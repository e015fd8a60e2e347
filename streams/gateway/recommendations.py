"""Recommendations over HTTP: what Algolia's own, unmodified clients ask, answered in process, not by way of Kafka.

    POST /1/indexes/*/recommendations      {"requests": [...]} → {"results": [...]}
    POST /1/indexes/*/queries              the widgets' search call; there is no search here, so no hits
    the rule calls                         streams/gateway/rules.py

What is easy to get wrong (observed of the clients, see docs/http.md):

* What the caller did wrong is never a 5xx: that means "next host" to the clients, and their message is lost.
* A call whose every entry has the caller's mistake is a 400 with the first message; otherwise it is a 200 with the
  error in its entry, beside `hits: []`.  An item that is not known is no mistake: lists of seen items hold those.
* Nothing may take longer than a second until its first byte, or browsers give up: a queue is kept short, not long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from models.answer import Result, results_bytes
from models.errors import BadRequest, Unavailable
from models.field_values import shown
from models.outside_json import kind_of, list_of, read_object
from models.request import MODEL, ImageSeed
from streams.serve.answer_queue import AnswerQueue
from streams.serve.answerer import Answerer, Entry, images_of
from streams.serve.rule_reader import RuleReader
from streams.settings import Settings
from streams.web.admission import Share, Slots
from streams.web.answers import json_answer
from streams.web.bodies import Bodies
from streams.web.keys import Keys
from streams.web.server import Web

IMAGE_CALLS_MAX = 16
"""Calls that wait for images.  The host of an image may take its time, so they do not count among the others."""
IMAGES_MAX = 100
"""Of one call."""
CALL_S = 0.0002
"""What a call costs on the loop outside of what is measured here: aiohttp's reading and writing."""


class Gateway:
    """Answers recommendations and search calls from this worker's shards."""

    def __init__(self, settings: Settings, answerer: Answerer, rules: RuleReader) -> None:
        self.settings = settings
        self.answerer = answerer
        self.rules = rules
        self.keys = Keys(settings)
        self.bodies = Bodies(settings.http_body_bytes_max)
        self.share = Share(settings.http_share)
        self.slots = Slots(settings.http_waiting_max, "calls")
        self.image_slots = Slots(IMAGE_CALLS_MAX, "calls with images")
        self.queue = AnswerQueue(answerer, self.share)
        self.stopping = False

    def register(self, web: Web) -> None:
        """Add the calls to the web server."""
        web.add("POST", "/1/indexes/*/recommendations", self.recommend, "recommendations")
        web.add("POST", "/1/indexes/*/queries", self.search, "queries")

    def check_place(self, index: str, model: str) -> None:
        """Raise BadRequest unless a path names our index and model."""
        if index != self.settings.index:
            raise BadRequest(f"the index {shown(index)} is not here, only {shown(self.settings.index)}", 404)
        if model != MODEL:
            raise BadRequest(f"the model {shown(model)} is not here, only {shown(MODEL)}", 404)

    def check_ready(self) -> None:
        """Raise Unavailable while answers would be made from half of the catalog, or of the rules."""
        if self.stopping:
            raise Unavailable("this worker is stopping; ask another")
        if not (self.answerer.index.loaded and self.rules.loaded):
            raise Unavailable("this worker is still loading; /readyz says when it is done")

    async def recommend(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.Response:
        """Recommendations: for each entry its result, in their order."""
        self.share.spend(CALL_S)
        self.keys.check_read(request)
        self.check_ready()
        body = await self.bodies.read(request)
        with self.slots:
            with self.share.spent():
                batch = self.answerer.parse(body)
                if all(isinstance(entry, BadRequest) for entry in batch.entries):
                    raise _refused(batch.entries, ())
                wanted = images_of(batch.entries)
            if not wanted:
                results = await self.queue.answer(batch.entries, {})
        if wanted:
            results = await self._with_images(batch.entries, wanted)
        with self.share.spent():
            if all(map(_is_mistake, batch.entries, results)):
                raise _refused(batch.entries, results)
            return json_answer(request, results[0].body if batch.single else results_bytes(results))

    async def _with_images(self, entries: Sequence[Entry], wanted: list[ImageSeed]) -> list[Result]:
        distinct = len({seed.key for seed in wanted})
        if distinct > IMAGES_MAX:
            raise BadRequest(f"expected at most {IMAGES_MAX} images in one call, got {distinct:,}")
        with self.image_slots:
            images = await self.answerer.images(wanted)
        self.check_ready()  # that may have taken a while
        with self.slots:
            return await self.queue.answer(entries, images)

    async def search(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.Response:
        """The search that a page with any search widget makes; without an answer its widgets would all fail."""
        self.share.spend(CALL_S)
        self.keys.check_read(request)
        body = await self.bodies.read(request)
        with self.slots, self.share.spent():
            queries = list_of(read_object(body, self.settings.http_body_bytes_max).get("requests"), "requests")
            if not 1 <= len(queries) <= self.settings.entries_max:
                raise BadRequest(f"requests: expected 1 to {self.settings.entries_max} entries, got {len(queries):,}")
            return json_answer(request, {"results": [_nothing_found(query) for query in queries]})


def _is_mistake(entry: Entry, result: Result) -> bool:
    """Whether an entry failed by what its caller wrote, an item that is not known aside."""
    return isinstance(entry, BadRequest) or result.status in (400, 422)


def _refused(entries: Sequence[Entry], results: Sequence[Result]) -> BadRequest:
    """The error of a call without any entry that could be answered: 404 for an index that is not here, else 400."""
    errors = [entry for entry in entries if isinstance(entry, BadRequest)]
    message = results[0].message if results else str(errors[0])
    elsewhere = len(errors) == len(entries) and all(error.status == 404 for error in errors)
    return BadRequest(message or "no entry can be answered", 404 if elsewhere else 400)


def _nothing_found(query: Any) -> dict[str, Any]:
    """The result of a search, or of a search for facet values, where nothing is searched."""
    if not isinstance(query, dict):
        raise BadRequest(f"requests: expected objects, got {kind_of(query)}")
    params = query.get("params")
    given = query | dict(parse_qsl(params[:10_000])) if isinstance(params, str) else query
    if query.get("type") == "facet":
        return {"facetHits": [], "exhaustiveFacetsCount": True, "processingTimeMS": 1}
    return {
        "hits": [],
        "nbHits": 0,
        "page": 0,
        "nbPages": 0,
        "hitsPerPage": _count(given.get("hitsPerPage"), 20),
        "processingTimeMS": 1,
        "query": given["query"] if isinstance(given.get("query"), str) else "",
        "params": params if isinstance(params, str) else "",
        "index": query.get("indexName"),
        "exhaustiveNbHits": True,
    }


def _count(value: object, default: int) -> int:
    """A small whole number, as JSON or as text."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value[:9])
    return value if isinstance(value, int) and 0 <= value <= 1_000_000 else default
