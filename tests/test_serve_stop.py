"""A poll of requests in work, without a broker: what goes before its answers, and what a stop makes of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest_asyncio
from aiokafka import TopicPartition

from streams.kafka.turns import CHANGE_TURNS, Turns
from streams.metrics import Metrics
from streams.serve.replies import Address
from streams.serve.stage import Asked, Serve
from streams.settings import Settings
from tests.test_rounds import Clients

PLACE = TopicPartition("similar-requests", 0)
FIRST = 7
"""Offset of the request."""


class Replies:
    """Delivers each when it is told to."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.delivered = asyncio.Event()

    def known(self, topic: str) -> bool:
        return True

    def begin(self, replies: list[int]) -> list[int]:
        self.begun += replies
        return replies

    async def finish(self, sent: list[int]) -> None:
        await self.delivered.wait()


class Stage(Serve):
    """The stage, with answers that are numbers."""

    def _asked(self, tp: TopicPartition, message: Any) -> Asked:
        return Asked(tp, message, Address("replies", None, None), SimpleNamespace(entries=(), single=True))  # type: ignore[arg-type]

    def _answer(self, asked: Any, images: Any) -> Any:
        return [each.message.offset for each in asked]

    async def _deliver(self, asked: Any, replies: Any, sent: Any) -> None:
        await self.replies.finish(sent)
        for each in asked:
            self.in_flight.end(each.tp, each.message.offset)


@pytest_asyncio.fixture
async def clients() -> Clients:
    clients = Clients()
    clients.one_consumer.assignment = lambda: {PLACE}  # type: ignore[method-assign]
    return clients


@pytest_asyncio.fixture
async def serve(clients: Clients) -> Stage:
    """A stage that has joined its group."""
    made = Stage(clients, Settings.read({}), Metrics(), clients.clock_ms, None, None, Turns())  # type: ignore[arg-type]
    await made.on_start()
    made.replies = Replies()  # type: ignore[assignment]
    return made


async def polled(serve: Stage) -> None:
    """A poll of one request, handled as `poll` does it."""
    async with serve.batch_lock:
        await serve.process({PLACE: [SimpleNamespace(offset=FIRST, value=b"{}")]})
        await serve.commit()


async def test_a_change_on_its_way_goes_before_answers(serve: Stage) -> None:
    """So many turns; without one a request is answered in the turn that takes it."""
    for changed, turns in ((False, 1), (True, 1 + CHANGE_TURNS)):
        serve.replies = replies = Replies()  # type: ignore[assignment]
        replies.delivered.set()
        if changed:
            serve.turns.changed(1)
        polling = asyncio.ensure_future(polled(serve))
        taken = 0
        while not replies.begun:
            await asyncio.sleep(0)
            taken += 1
        await polling

        assert turns == taken


async def test_a_stop_waits_for_answers_that_changes_go_before(serve: Stage, clients: Clients) -> None:
    """What was taken is answered and committed, also where the stop comes before its answer."""
    serve.turns.changed(1)
    polling = asyncio.ensure_future(polled(serve))
    await asyncio.sleep(0)
    assert serve.replies.begun == []  # type: ignore[attr-defined]
    stopping = asyncio.ensure_future(serve.on_stop())
    await polling
    assert serve.replies.begun == [FIRST]  # type: ignore[attr-defined]
    serve.replies.delivered.set()  # type: ignore[attr-defined]
    await stopping

    assert clients.one_consumer.committed == {PLACE: FIRST + 1}


async def test_a_stop_waits_no_longer_than_it_may(serve: Stage, clients: Clients) -> None:
    """What is not delivered by then is not committed, and answered again."""
    serve.settings = Settings.read({"KINDRED_STOP_TIMEOUT_S": "1"})
    await polled(serve)
    async with asyncio.timeout(20):
        await serve.on_stop()

    assert clients.one_consumer.committed == {PLACE: FIRST}
