"""How far a member of a group has come in each of its partitions, and what of it is to be committed.

What was handled ends with the last message; what can be read may go on behind it: with the marker of a transaction,
messages that were taken back, or nothing where compaction has removed the last ones.  Only the consumer's position is
past those.  Committed is the position, then, as soon as all that was handed out is done: else whoever asks how much
waits is told for ever that something does.  While anything is in work, it is what is done, and no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition


class GroupOffsets:
    """Offsets by partition, of one generation of the group; each is that of the next message."""

    def __init__(self) -> None:
        self._handed: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}

    def __len__(self) -> int:
        """Partitions of which something is known."""
        return len(self._handed)

    def begin(self, tp: TopicPartition, offset: int) -> None:
        """A partition came, and is read from `offset` on.  Ignored where messages of it were handed out already."""
        if tp not in self._handed:
            self._handed[tp] = self._committed[tp] = offset

    def handed(self, batches: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Messages were taken from the consumer; to be told before anything else has a turn of the loop."""
        for tp, messages in batches.items():
            self._handed[tp] = int(messages[-1].offset) + 1
            self._committed.setdefault(tp, int(messages[0].offset))
            if self._handed[tp] <= self._committed[tp]:  # the topic was deleted and made again
                self._committed[tp] = int(messages[0].offset)

    def to_commit(
        self, done: Mapping[TopicPartition, int], position: Callable[[TopicPartition], int | None]
    ) -> dict[TopicPartition, int]:
        """What is to be committed of partitions, when so much is done of them; `position` is the consumer's."""
        offsets = {}
        for tp in self._handed.keys() | done.keys():
            committed = self._committed.get(tp, -1)
            offset = max(done.get(tp, -1), committed)
            if offset >= self._handed.get(tp, math.inf):
                offset = max(offset, position(tp) or 0)
            if offset > committed:
                offsets[tp] = offset
        return offsets

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The broker has taken a commit."""
        self._committed.update(offsets)

    def lag(self, tp: TopicPartition, end: int | None) -> int:
        """Offsets of a partition that ends there (None: not known yet) that are not done and committed."""
        committed = self._committed.get(tp)
        return max(0, end - committed) if end is not None and committed is not None else 0

    def drop(self) -> None:
        """The partitions are somebody else's from now on, or the consumer's position is no longer to be trusted."""
        self._handed.clear()
        self._committed.clear()
