"""What a batch consumer does when partitions come to it, before their events and for as long as it holds them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from streams.kafka.truths import TruthReader

Batches = Mapping[TopicPartition, Sequence[Any]]


@dataclass(frozen=True)
class TakeOver:
    """What has to be read before events of partitions are handled, and on for as long as the partitions are held."""

    places: Sequence[TopicPartition]
    """Read from their beginnings, without the group."""
    recover: Callable[[Batches], None]
    """Fold what was there before."""
    adopt: Callable[[TruthReader], Awaitable[None]]
    """All of it is read; called under the lock, before the first event."""
    follow: Callable[[Batches], Awaitable[None]]
    """What came since, after each poll, also an empty one; called under the lock."""
    records_max: int = 500
