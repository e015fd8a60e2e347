"""Which events are still in work, so that only what is finished without a gap is committed."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import TopicPartition


class InFlight:
    """Offsets in work, by partition."""

    def __init__(self) -> None:
        self._open: dict[TopicPartition, dict[int, None]] = {}
        self._next: dict[TopicPartition, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def begin(self, tp: TopicPartition, offsets: Sequence[int]) -> None:
        """Events are in work; offsets of a partition come in ascending order, at least one."""
        self._open.setdefault(tp, {}).update(dict.fromkeys(offsets))
        self._next[tp] = offsets[-1] + 1

    def end(self, tp: TopicPartition, offset: int) -> None:
        """An event is finished; one of a partition that was dropped is ignored."""
        if still_open := self._open.get(tp):
            still_open.pop(offset, None)

    def committable(self) -> dict[TopicPartition, int]:
        """Next offset to read by partition: the first one in work, or the one after the last."""
        return {tp: next(iter(self._open.get(tp, ())), following) for tp, following in self._next.items()}

    def drop(self) -> None:
        """The partitions are somebody else's now."""
        self._open.clear()
        self._next.clear()
