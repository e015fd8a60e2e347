"""How far the stages have come, read from the broker, and what a worker says of itself: what `kindred status` shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from models.errors import Unavailable
from streams.connection import Connection
from streams.kafka.log_reader import partition_counts
from streams.reports.terminal import Terminal
from streams.settings import Settings
from streams.topics import (
    CATALOG_CHANGES,
    DEAD_LETTERS,
    IMAGE_CHANGES,
    ITEM_CHANGES,
    SIMILAR_REQUESTS,
    STOCK_LEVELS,
    WATCH,
    topic_table,
)

GROUPS: Mapping[str, tuple[str, ...]] = {
    "track": (CATALOG_CHANGES, STOCK_LEVELS, ITEM_CHANGES),
    "embed": (IMAGE_CHANGES,),
    "serve": (SIMILAR_REQUESTS,),
    "watch": (WATCH,),
}
"""What reads as a consumer group, `kindred-<name>`, and which topics.  The index reads without one."""
PAGE_TIMEOUT_S = 2.0
COORDINATOR_WAIT_S = 10.0
SHARDS_PATH = "stages.index.shards"
"""Of the worker's page: shown as a table of its own; all numbers are in --json."""
SHARD_COLUMNS = (
    "items",
    "items_searchable",
    "rows_searchable",
    "delta_rows",
    "segments",
    "tombstones",
    "seals",
    "merges",
)


@dataclass(frozen=True)
class Progress:
    """How far a group has come in a topic, over all its partitions."""

    stage: str
    topic: str
    committed: int | None
    """Messages read and done with; None: the group has never committed there."""
    end: int
    lag: int
    """Messages that it has still to read."""


@dataclass(frozen=True)
class StatusReport:
    """The state of an installation."""

    broker: str
    embedded: bool
    missing_topics: tuple[str, ...]
    progress: tuple[Progress, ...]
    messages: Mapping[str, int]
    """By topic: how many messages it has."""
    dead_letters: int
    worker_address: str
    worker: Mapping[str, Any] | None
    """What the worker's page says; None when there is none at the address."""

    def as_json(self) -> dict[str, Any]:
        """All of it for scripts."""
        return {
            "broker": self.broker,
            "embedded": self.embedded,
            "missingTopics": self.missing_topics,
            "progress": [vars(each) for each in self.progress],
            "messages": dict(self.messages),
            "deadLetters": self.dead_letters,
            "workerAddress": self.worker_address,
            "worker": self.worker,
        }


async def read_status(connection: Connection, settings: Settings) -> StatusReport:
    """The state of the installation that the settings name.  Raises Unavailable when the broker stops answering."""
    names = [topic.name for topic in topic_table(settings)]
    counts = await partition_counts(connection, names)
    partitions = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
    consumer = await connection.started(connection.consumer, "status")
    try:
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    messages = dict.fromkeys(counts, 0)
    for tp in partitions:
        messages[tp.topic] += ends[tp] - begins[tp]
    progress = []
    for stage, topics in GROUPS.items():
        progress += await _progress(connection, settings.topic_prefix, stage, topics, begins, ends)
    return StatusReport(
        broker=connection.broker,
        embedded=connection.embedded,
        missing_topics=tuple(name for name in names if name not in counts),
        progress=tuple(progress),
        messages=messages,
        dead_letters=messages.get(settings.topic_prefix + DEAD_LETTERS, 0),
        worker_address=settings.web,
        worker=await worker_page(settings),
    )


async def _progress(
    connection: Connection,
    prefix: str,
    stage: str,
    topics: tuple[str, ...],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> list[Progress]:
    mine = [tp for tp in ends if tp.topic in {prefix + name for name in topics}]
    committed = await committed_offsets(connection, f"{prefix}kindred-{stage}", mine) if mine else {}
    rows = []
    for topic in (prefix + name for name in topics):
        parts = [tp for tp in mine if tp.topic == topic]
        if parts:
            # What was never committed is read from the beginning of what is left.
            at = {tp: max(committed.get(tp, 0), begins[tp]) for tp in parts}
            done = sum(committed[tp] for tp in parts if tp in committed)
            lag = sum(max(ends[tp] - at[tp], 0) for tp in parts)
            rows.append(
                Progress(stage, topic, done if committed.keys() & parts else None, sum(ends[tp] for tp in parts), lag)
            )
    return rows


async def committed_offsets(
    connection: Connection, group: str, partitions: list[TopicPartition]
) -> dict[TopicPartition, int]:
    """The group's committed offsets; a partition without one is left out."""
    admin = await connection.started(connection.admin, "status")
    try:
        async with asyncio.timeout(COORDINATOR_WAIT_S):
            while True:
                try:
                    answer = await admin.list_consumer_group_offsets(group, partitions=partitions)
                    break
                except KafkaError as error:  # a fresh broker makes its topic of offsets when it is first asked
                    if not error.retriable:
                        raise
                    await asyncio.sleep(0.1)
    except TimeoutError:
        raise Unavailable(f"the broker does not tell the offsets of the group {group}") from None
    finally:
        await admin.close()
    return {tp: each.offset for tp, each in answer.items() if each.offset >= 0}


async def worker_page(settings: Settings) -> Mapping[str, Any] | None:
    """What the worker at KINDRED_WEB says of itself; None when nobody there answers as a worker would."""
    key = settings.admin_key or settings.search_key
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PAGE_TIMEOUT_S)) as session,
            session.get(f"http://{settings.web}/status", headers={"x-algolia-api-key": key} if key else {}) as response,
        ):
            page = await response.json(content_type=None) if response.status == 200 else None
    except (TimeoutError, aiohttp.ClientError, ValueError, OSError):
        return None
    return page if isinstance(page, dict) else None


def show_status(terminal: Terminal, report: StatusReport) -> None:
    """The report for people."""
    kind = "the embedded broker, in memory" if report.embedded else "Kafka"
    terminal.line(f"broker {report.broker}: {kind}")
    if report.missing_topics:
        terminal.line(
            f"missing topics: {', '.join(report.missing_topics)} (`kindred topics` creates them)", style="red"
        )
    rows = [
        (each.stage, each.topic, "never" if each.committed is None else each.committed, each.end, each.lag)
        for each in report.progress
    ]
    terminal.table(("stage", "reads", "committed", "end", "lag"), rows, numbers=("committed", "end", "lag"))
    style = "red" if report.dead_letters else None
    more = "; `kindred dead-letters` shows them" if report.dead_letters else ""
    terminal.line(f"dead letters: {report.dead_letters:,}{more}", style=style)
    if report.worker is None:
        terminal.line(f"worker: none answers at {report.worker_address} (KINDRED_WEB)", style="yellow")
        return
    terminal.line(f"worker at {report.worker_address}:")
    leaves = [leaf for leaf in _flattened("", report.worker) if not leaf[0].startswith(SHARDS_PATH + ".")]
    terminal.table(("what", "value"), leaves)
    shards = _shards(report.worker)
    if shards:
        table = [(number, *(shard.get(name) for name in SHARD_COLUMNS)) for number, shard in shards.items()]
        headings = ("shard", *(name.replace("_", " ") for name in SHARD_COLUMNS))
        terminal.table(headings, table, numbers=headings)


def _shards(page: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By number what the index tells of its shards; a worker without an index has none."""
    value: Any = page
    for name in SHARDS_PATH.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, list):
        value = dict(enumerate(value))
    shards = value.items() if isinstance(value, dict) else ()
    return {str(number): shard for number, shard in shards if isinstance(shard, dict)}


def _flattened(path: str, value: object) -> Iterator[tuple[str, object]]:
    """The leaves of a JSON value with their dotted paths; a list of plain values is one leaf."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _flattened(f"{path}.{name}" if path else str(name), part)
    elif isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        for number, part in enumerate(value):
            yield from _flattened(f"{path}.{number}", part)
    else:
        yield path, ", ".join(map(str, value)) if isinstance(value, list) else value
