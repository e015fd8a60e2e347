"""The consumer of all readers: its fetches wait long at the broker, and yet no event waits for one to end.

A fetch that waits is answered as soon as one of its partitions has something, so a long wait costs nobody anything, and
an idle worker little.  What aiokafka gets in the way of that, and what is done about it:

1. It has one fetch under way to each broker.  Partitions whose records were not taken within 0.1 s are left out of the
   next one, so what comes to them waits for its end: with 500 ms, one event in a hundred did.  Such a fetch waits for
   `PART_WAIT_MS` only; those with all partitions in them wait as long as they may.
2. Kafka answers the requests of a connection one after the other, so whatever is asked beside a fetch waits for its
   end.  Fetches go over a connection of their own.
3. Between the answer of a broker and the return of `getmany` lie five turns of the loop, three of them for tasks that
   tell each other of it: 0.1 ms of an idle worker.  Whoever waits is told first, and waits for nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.fetch import FetchRequest

from streams.quick_requests import quick_fetch

PART_WAIT_MS = 50
"""How long a fetch may wait that leaves partitions out."""
CHECK_INTERVAL_MS = 1_000
"""How often aiokafka looks whether there is something to fetch without having been told; it always is told."""
FETCHES = max(ConnectionGroup) + 1
"""Beside aiokafka's groups of connections."""

Taken = TypeVar("Taken", bound=Mapping[Any, Any])


class LongPollConsumer(AIOKafkaConsumer):
    """aiokafka's consumer with these waits; `fetch_max_wait_ms` is that of a fetch of all partitions."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(consumer_timeout_ms=CHECK_INTERVAL_MS, **settings)
        self.moves = 0
        """Counts up when positions or the ends of partitions may have changed."""

    async def start(self) -> None:
        """Connect, as aiokafka's does."""
        await super().start()
        let_wait(self._fetcher, self._moved)

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: float = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Any]]:
        """What has been fetched, as aiokafka's does it; waits for `timeout_ms` while that is nothing."""
        fetched = super().getmany

        async def take() -> dict[TopicPartition, list[Any]]:
            try:
                found: dict[TopicPartition, list[Any]] = await fetched(*partitions, max_records=max_records)
            finally:
                self._moved()
            return found

        return await take_within(self, timeout_ms / 1000, take)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from this offset."""
        super().seek(partition, offset)
        self._moved()

    def _moved(self) -> None:
        self.moves += 1

    def position_now(self, tp: TopicPartition) -> int | None:
        """Offset of the next message to read, as `position` says it, but without a wait; None: it is not placed yet."""
        if not self._subscription.is_assigned(tp):
            return None
        state = self._subscription.subscription.assignment.state_value(tp)
        return state.position if state.has_valid_position else None

    async def stop(self) -> None:
        """Disconnect, as aiokafka's does, also right after the start.

        It waits for tasks that it has cancelled; one that never had a turn of the loop would raise that here.
        """
        try:
            await asyncio.sleep(0)
        finally:
            await super().stop()


def let_wait(fetcher: Fetcher, answered: Callable[[], None] = lambda: None) -> None:
    """Let the fetches of a consumer that has just started wait as they should; `answered` is told of each answer."""
    whole_ms, decide = fetcher._fetch_max_wait_ms, fetcher._get_actions_per_node
    fetch, place = fetcher._proc_fetch_request, fetcher._update_fetch_positions

    def decided(assignment: Any) -> Any:
        left_out = bool(fetcher._records)  # what is fetched and not taken yet is not fetched on
        fetcher._fetch_max_wait_ms = min(whole_ms, PART_WAIT_MS) if left_out else whole_ms
        return decide(assignment)

    async def fetched(*request: Any) -> bool:
        new: bool = await fetch(*request)
        answered()
        if new:
            for waiter in fetcher._fetch_waiters:
                fetcher._notify(waiter)
        return new

    async def placed(*partitions: Any) -> bool:
        new: bool = await place(*partitions)
        answered()
        return new

    fetcher._get_actions_per_node = decided
    fetcher._update_fetch_positions = placed
    fetcher._proc_fetch_request = fetched
    fetcher._client = _FetchingClient(fetcher._client)


async def take_within(consumer: AIOKafkaConsumer, timeout_s: float, take: Callable[[], Awaitable[Taken]]) -> Taken:
    """What `take` finds as soon as that is something; nothing after so long, or when the consumer was closed.

    aiokafka tells of a fetch once more when its task has ended, so there may be nothing that is new.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + timeout_s
    while not (found := await take()) and loop.time() < until_s:
        with consumer._subscription.fetch_context():
            await _until_fetched(consumer._fetcher, until_s)
        if consumer._closed:
            break
    return found


async def _until_fetched(fetcher: Fetcher, until_s: float) -> None:
    """Wait until something was fetched, or the loop's clock is so late; raises what hinders the consumer's group."""
    fetched: asyncio.Future[None] = fetcher._create_fetch_waiter()
    timer = asyncio.get_running_loop().call_at(until_s, fetcher._notify, fetched)
    try:
        await fetched
    finally:
        timer.cancel()


class _FetchingClient:
    """The client as a fetcher sees it."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def send(self, node_id: int, request: Any) -> Awaitable[Any]:
        """The response to a request."""
        response: Awaitable[Any]
        if isinstance(request, FetchRequest):
            response = self._client.send(node_id, quick_fetch(request), group=FETCHES)
        else:
            response = self._client.send(node_id, request)
        return response
