"""Lists on their way to `similar-changes`, and what stands there: by whom and up to which offset.

Two may write there for a while, when a former owner of a partition wakes up late.  The last message holds, so offsets
say whose that is, in whatever order we hear of them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.kafka.dead_letters import header
from streams.kafka.outbox import Message, Outbox
from streams.topics import partition_of

LIST, WRITER = "kindred_list", "kindred_writer"
"""Headers of a list: its digest, by which it is known again, and which worker wrote it."""
UNKNOWN = b""
"""Digest of a list that is none of ours: like no other."""


def digest_of(message: Any) -> bytes | None:
    """The digest of a message of `similar-changes`; None: there is no list."""
    return None if message.value is None else header(message.headers, LIST) or UNKNOWN


class ListWriter:
    """Writes lists, beside whatever else its outbox is given."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        partitions: int,
        writer: str,
        pushed: Callable[[str, bytes | None], None],
    ) -> None:
        """`pushed` is told the item and the digest of each list that has become the last one of its item."""
        self.outbox = Outbox(producer, self._delivered)
        self._topic = topic
        self._partitions = partitions
        self._writer = writer.encode()
        self._pushed = pushed
        self._on_way: dict[int, deque[tuple[str, bytes | None]]] = defaultdict(deque)
        self._offsets: dict[str, int] = {}

    def put(self, item_id: str, value: bytes | None, digest: bytes | None) -> None:
        """A list with its digest; None and None: there is none any more."""
        key = item_id.encode()
        home = partition_of(key, self._partitions)
        headers = [(WRITER, self._writer)] + ([(LIST, digest)] if digest is not None else [])
        self._on_way[home].append((item_id, digest))
        self.outbox.put(self._topic, home, Message(key, value, headers))

    async def deliver(self) -> None:
        """Deliver all that was put, also into the outbox; returns when the broker has acknowledged it."""
        if self.outbox:
            await self.outbox.deliver()

    def _delivered(self, topic: str, partition: int, base_offset: int, count: int) -> None:
        if topic != self._topic:
            return
        for offset in range(base_offset, base_offset + count):
            item_id, digest = self._on_way[partition].popleft()
            if offset > self._offsets.get(item_id, -1):
                self._offsets[item_id] = offset
                self._pushed(item_id, digest)

    def start_from(self, offsets: Mapping[str, int]) -> None:
        """By item the offset of the last message about its list."""
        self._offsets = dict(offsets)

    def is_news(self, item_id: str, message: Any) -> bool:
        """Whether a message that was read there is another writer's, and the last one of its item."""
        if header(message.headers, WRITER) == self._writer or message.offset <= self._offsets.get(item_id, -1):
            return False
        self._offsets[item_id] = message.offset
        return True
