"""What other writers put on the truths of an owner, found without reading all that the owner writes itself.

The broker tells the offset of every batch that is produced.  As long as each begins where the last one ended, nobody
else has written; where it does not, what lies between is somebody else's, and only that is read.  What comes while the
owner writes nothing is seen by the ends of the partitions, asked for once a second.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.kafka.truths import TruthReader

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
"""How often `look` should be called."""


class ForeignWrites:
    """Steers a reader that has read partitions to their end: from then on it reads gaps between our writes only."""

    def __init__(self, reader: TruthReader, places: Iterable[TopicPartition]) -> None:
        self._reader = reader
        self._expected = {place: reader.position(place) or 0 for place in places}
        """Offset at which our next batch begins if nobody else writes."""
        self._gaps: dict[TopicPartition, tuple[int, int]] = {}
        self._reading: dict[TopicPartition, int] = {}
        reader.consumer.pause(*self._expected)

    def wrote(self, topic: str, partition: int, base_offset: int, count: int) -> None:
        """A batch of ours is at `base_offset` and the `count - 1` offsets after it."""
        place = TopicPartition(topic, partition)
        if place in self._expected:
            self._reached(place, base_offset)
            self._expected[place] = max(self._expected[place], base_offset + count)

    async def look(self) -> None:
        """Ask where the partitions end.  Nothing of ours may be on its way meanwhile."""
        try:
            ends = await self._reader.consumer.end_offsets(list(self._expected))
        except KafkaError as error:
            log.info("the ends of the truths are asked for another time: %r", error)
            return
        for place, end in ends.items():
            self._reached(place, end)
        self.steer()

    def steer(self) -> None:
        """Let the reader read the gaps that were found, and rest where it has read them."""
        consumer = self._reader.consumer
        for place, end in list(self._reading.items()):
            if (self._reader.position(place) or 0) >= end:
                consumer.pause(place)
                del self._reading[place]
        for place in [place for place in self._gaps if place not in self._reading]:
            start, self._reading[place] = self._gaps.pop(place)
            consumer.seek(place, start)
            consumer.resume(place)

    def _reached(self, place: TopicPartition, offset: int) -> None:
        """The partition reaches to `offset`; what we did not write before it is a gap."""
        expected = self._expected[place]
        if offset > expected:
            start, _ = self._gaps.get(place, (expected, 0))
            self._gaps[place] = (start, offset)
            self._expected[place] = offset
