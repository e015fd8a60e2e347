"""The consumer of all readers: its fetches wait long at the broker, and yet no event waits for one to end.

A fetch that waits is answered as soon as one of its partitions has something, so a long wait costs nobody anything, and
an idle worker little.  What aiokafka gets in the way of that, and what is done about it:

1. It has one fetch under way to each broker.  Partitions whose records were not taken within 0.1 s are left out of the
   next one, so what comes to them waits for its end: with 500 ms, one event in a hundred did.  Such a fetch waits for
   `PART_WAIT_MS` only; those with all partitions in them wait as long as they may.
2. Kafka answers the requests of a connection one after the other, so whatever is asked beside a fetch waits for its
   end.  Fetches go over a connection of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.fetch import FetchRequest

PART_WAIT_MS = 50
"""How long a fetch may wait that leaves partitions out."""
CHECK_INTERVAL_MS = 1_000
"""How often aiokafka looks whether there is something to fetch without having been told; it always is told."""
FETCHES = max(ConnectionGroup) + 1
"""Beside aiokafka's groups of connections."""


class LongPollConsumer(AIOKafkaConsumer):
    """aiokafka's consumer with these waits; `fetch_max_wait_ms` is that of a fetch of all partitions."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(consumer_timeout_ms=CHECK_INTERVAL_MS, **settings)

    async def start(self) -> None:
        """Connect, as aiokafka's does."""
        await super().start()
        let_wait(self._fetcher)

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


def let_wait(fetcher: Fetcher) -> None:
    """Let the fetches of a consumer that has just started wait as they should."""
    whole_ms, decide = fetcher._fetch_max_wait_ms, fetcher._get_actions_per_node

    def decided(assignment: Any) -> Any:
        left_out = bool(fetcher._records)  # what is fetched and not taken yet is not fetched on
        fetcher._fetch_max_wait_ms = min(whole_ms, PART_WAIT_MS) if left_out else whole_ms
        return decide(assignment)

    fetcher._get_actions_per_node = decided
    fetcher._client = _FetchingClient(fetcher._client)


class _FetchingClient:
    """The client as a fetcher sees it."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def send(self, node_id: int, request: Any) -> Awaitable[Any]:
        """The response to a request."""
        group = FETCHES if isinstance(request, FetchRequest) else ConnectionGroup.DEFAULT
        response: Awaitable[Any] = self._client.send(node_id, request, group=group)
        return response
