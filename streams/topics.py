"""Every topic once: its name, its partitions, how long it keeps what.

The truths and the internal topics must have `KINDRED_SHARDS` partitions, because partition n is shard n; another number
on the broker is an error that names both.  Topics that others write may have any number of partitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.partitioner import murmur2

from models.errors import Unavailable
from streams.connection import Connection
from streams.settings import BadSetting, Settings

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
MESSAGE_BYTES_MAX = 4_000_000
"""Of our topics: a record may carry `data:` links of 1 MB, 1.4 MB as text, and is told with its origin."""

CATALOG_CHANGES = "catalog-changes"
STOCK_LEVELS = "stock-levels"
ITEM_CHANGES = "item-changes"
IMAGE_CHANGES = "image-changes"
ITEM_RECORDS = "item-records"
ITEM_STOCKS = "item-stocks"
ITEM_EMBEDDINGS = "item-embeddings"
CATALOG_STATISTICS = "catalog-statistics"
RULE_CHANGES = "rule-changes"
SIMILAR_REQUESTS = "similar-requests"
SIMILAR_RESPONSES = "similar-responses"
NEST_REPLIES = "similar-requests.reply"
ITEM_ALERTS = "item-alerts"
WATCH = "watch"
SIMILAR_CHANGES = "similar-changes"
DEAD_LETTERS = "dead-letters"

TRUTHS = (ITEM_RECORDS, ITEM_STOCKS, ITEM_EMBEDDINGS)
EVENTS = (CATALOG_CHANGES, STOCK_LEVELS, ITEM_CHANGES, IMAGE_CHANGES, RULE_CHANGES, SIMILAR_REQUESTS, WATCH)
"""What the stages take events from: one that failed may be sent there again."""


@dataclass(frozen=True)
class Topic:
    """One topic as Kindred would create it."""

    name: str
    partitions: int
    ours: bool
    """Whether the number of partitions must be exactly this."""
    config: Mapping[str, str]


def topic_table(settings: Settings) -> tuple[Topic, ...]:
    """All topics of an installation, with their prefixed names."""
    compacted = {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(int(settings.compaction_lag_s * 1000)),
        "delete.retention.ms": str(int(settings.delete_retention_s * 1000)),
        "max.message.bytes": str(MESSAGE_BYTES_MAX),
    }
    week = {"cleanup.policy": "delete", "retention.ms": str(WEEK_MS), "max.message.bytes": str(MESSAGE_BYTES_MAX)}
    day = {"cleanup.policy": "delete", "retention.ms": str(DAY_MS), "max.message.bytes": str(MESSAGE_BYTES_MAX)}
    shards = settings.shards
    rows: list[tuple[str, int, bool, Mapping[str, str]]] = [
        (CATALOG_CHANGES, shards, False, week),
        (STOCK_LEVELS, shards, False, week),
        (ITEM_CHANGES, shards, True, week),
        (IMAGE_CHANGES, shards, True, week),
        *((name, shards, True, compacted) for name in TRUTHS),
        (CATALOG_STATISTICS, 1, True, compacted),
        (RULE_CHANGES, 1, True, compacted),
        (SIMILAR_REQUESTS, shards, False, day),
        (SIMILAR_RESPONSES, shards, False, day),
        (NEST_REPLIES, shards, False, day),
        (ITEM_ALERTS, shards, False, week),
        (WATCH, shards, True, compacted),
        (SIMILAR_CHANGES, shards, True, compacted),
        (DEAD_LETTERS, 1, False, week),
    ]
    return tuple(Topic(settings.topic_prefix + name, count, ours, config) for name, count, ours, config in rows)


def partition_of(key: bytes, partitions: int) -> int:
    """Home partition of a key: murmur2, as Java's producer, aiokafka and kafkajs place it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


async def ensure_topics(
    connection: Connection, table: Iterable[Topic], replication: int = 1, deadline_s: float = 30.0
) -> tuple[str, ...]:
    """Create the topics that are missing, check the others; the names of those created.

    Raises BadSetting when a topic of ours has another number of partitions than `KINDRED_SHARDS`, Unavailable when the
    broker does not create them.
    """
    wanted = {topic.name: topic for topic in table}
    admin = connection.admin()
    await admin.start()
    try:
        existing = await _partition_counts(admin, wanted)
        missing = [topic for name, topic in wanted.items() if name not in existing]
        if missing:
            await _create(admin, missing, replication)
        deadline = asyncio.get_running_loop().time() + deadline_s
        while len(existing) < len(wanted):
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"topics are still missing after {deadline_s:.0f} s: {set(wanted) - set(existing)}")
            await asyncio.sleep(0.05)
            existing = await _partition_counts(admin, wanted)
    finally:
        await admin.close()
    for name, topic in wanted.items():
        if topic.ours and existing[name] != topic.partitions:
            raise BadSetting(
                f"topic {name} has {existing[name]} partitions, KINDRED_SHARDS asks for {topic.partitions}: "
                "the number is fixed once the topic exists"
            )
    return tuple(topic.name for topic in missing)


async def _partition_counts(admin: AIOKafkaAdminClient, wanted: Mapping[str, Topic]) -> dict[str, int]:
    described = await admin.describe_topics(list(wanted))
    return {each["topic"]: len(each["partitions"]) for each in described if not each["error_code"]}


async def _create(admin: AIOKafkaAdminClient, topics: list[Topic], replication: int) -> None:
    """Ask for topics; one that somebody else has just created is no error."""
    answer = await admin.create_topics(
        [NewTopic(each.name, each.partitions, replication, topic_configs=dict(each.config)) for each in topics]
    )
    for name, code, message in (row[:3] for row in answer.topic_errors):
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise Unavailable(f"topic {name} could not be created: {for_code(code).__name__}: {message}")
