"""The HTTP gateway on one shard, without Kafka: `python -m bench.gateway_host JSON`; see `bench/gateway.py`.

It first says what an answer costs where nothing has to be read from a connection or written to one, then it listens.
`/spent` is the CPU that answers have taken so far, in seconds: what is taken beside them is the gateway's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
from aiohttp.web import BaseRequest, Response, StreamResponse

from bench.bare import tell
from bench.contenders import KindredShard
from bench.embeddings import many_vectors, real_vectors
from indexes.shard import Shard
from models.answer import Result
from models.request import Batch
from models.rules import RuleBook
from streams.gateway.recommendations import Gateway
from streams.metrics import Metrics
from streams.serve.answerer import Answerer, Entry, Images
from streams.settings import Settings
from streams.web.server import Web

ANSWERS = 1_000


class OneShard:
    """What an answerer asks of the index stage."""

    mean = None
    dimension = 0
    loaded = True

    def __init__(self, shard: Shard) -> None:
        self.shards: Mapping[int, Shard] = {0: shard}

    def lags_ms(self, now_ms: int) -> dict[str, int]:
        return {}


class Clocked:
    """An answerer that knows how much CPU its answers have taken."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._cpu_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answerer, name)

    def parse(self, body: bytes) -> Batch:
        begin = time.thread_time()
        batch = self._answerer.parse(body)
        self._cpu_s += time.thread_time() - begin
        return batch

    def answer(self, entries: Sequence[Entry], images: Images) -> list[Result]:
        begin = time.thread_time()
        results = self._answerer.answer(entries, images)
        self._cpu_s += time.thread_time() - begin
        return results

    async def spent(self, request: BaseRequest, parts: tuple[str, ...]) -> StreamResponse:
        return Response(text=str(self._cpu_s))


async def serve(items: int, hits: int, port: int, folder: str) -> None:
    """Measure the answer alone, then listen until ended."""
    vectors = many_vectors(items, real_vectors())
    contender = KindredShard()
    contender.build(vectors, vectors.mean(axis=0), np.zeros(items, np.intp), Path(folder))
    index = OneShard(contender.shard)
    index.mean = contender.mean
    rules: Any = SimpleNamespace(book=RuleBook(), loaded=True)
    settings = Settings(web=f"127.0.0.1:{port}", shards=1, http_share=0.95, http_waiting_max=1_000)
    answerer = Answerer(settings, lambda: int(time.time() * 1000), index, SimpleNamespace(), rules.book)  # type: ignore
    took_us = [_answer_us(answerer, items, hits) for _ in range(3)]
    web = Web(settings, Metrics())
    clocked = Clocked(answerer)
    Gateway(settings, clocked, rules).register(web)  # type: ignore[arg-type]
    web.add("GET", "/spent", clocked.spent)
    await web.start()
    tell(answer_us=min(took_us))
    await asyncio.Event().wait()


def _answer_us(answerer: Answerer, items: int, hits: int) -> float:
    """CPU microseconds of an answer, from a body's bytes to the result's."""
    bodies = [
        orjson.dumps({"requests": [{"objectID": f"{number % items}", "maxRecommendations": hits}]})
        for number in range(ANSWERS)
    ]
    begin = time.process_time()
    for body in bodies:
        results = answerer.answer(answerer.parse(body).entries, {})
        assert results[0].status == 200
    return (time.process_time() - begin) / ANSWERS * 1e6


if __name__ == "__main__":
    asyncio.run(serve(**json.loads(sys.argv[1])))
