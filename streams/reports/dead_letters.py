"""Dead letters read back: listed for people, and sent again to where they came from.

What was sent again is remembered as the committed offset of the group `kindred-dead-letters`, so each is sent once.
What is easy to get wrong:

* An event goes back with its own time: a stock level without `at` holds at that time, and must not look new.
* Records, rules and requests for images take effect in the order of their arrival, so one that a later event of the
  same key has overtaken is left out: sent again, it would bring the past back.
* The topic of origin is a header, text that anybody could have written: only topics of events are written to, never the
  truths, which have one writer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from streams.connection import Connection
from streams.kafka.dead_letters import CUT, PREFIX, header
from streams.kafka.log_reader import partition_counts, partitions_of, read_to_end
from streams.kafka.outbox import Message, Outbox
from streams.reports.moments import moment
from streams.reports.status import committed_offsets
from streams.reports.terminal import Terminal
from streams.settings import Settings
from streams.topics import DEAD_LETTERS, EVENTS, SIMILAR_REQUESTS, STOCK_LEVELS, partition_of

GROUP = "kindred-dead-letters"
KEY_LENGTH_MAX = 40
REASON_LENGTH_MAX = 200


@dataclass(frozen=True)
class DeadLetter:
    """A message of `dead-letters`.  What its headers do not tell is None."""

    place: TopicPartition
    """Its own, in `dead-letters`."""
    offset: int
    reason: str
    stage: str | None
    origin: TopicPartition | None
    origin_offset: int | None
    at: int
    """Unix ms of the event."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    """The event's own."""
    cut: int | None
    """Bytes that the event's value had, where it was too large to be kept whole."""
    retried: bool

    def as_json(self) -> dict[str, Any]:
        """For scripts; bytes that are not UTF-8 are shown with replacement characters."""
        return {
            "reason": self.reason,
            "stage": self.stage,
            "topic": self.origin.topic if self.origin else None,
            "partition": self.origin.partition if self.origin else None,
            "offset": self.origin_offset,
            "at": self.at,
            "key": _text(self.key),
            "value": _text(self.value),
            "headers": {name: _text(value) for name, value in self.headers},
            "cut": self.cut,
            "retried": self.retried,
        }


@dataclass
class Retry:
    """What became of the dead letters that were to be sent again."""

    sent: int = 0
    overtaken: int = 0
    """Left out, because a later event of the same key has come since."""
    stranded: list[DeadLetter] = field(default_factory=list)
    """Left out: not kept whole, or their origin is not a topic of events of this installation."""


async def newest_dead_letters(connection: Connection, settings: Settings, count: int) -> tuple[list[DeadLetter], int]:
    """The newest dead letters, oldest first, and how many there are in all."""
    partitions, retried = await _place(connection, settings)
    newest: deque[DeadLetter] = deque(maxlen=count)
    total = 0
    async for messages in read_to_end(connection, partitions):
        total += len(messages)
        newest.extend(_dead_letter(each, retried) for each in messages[-count:])
    return list(newest), total


async def retry_dead_letters(connection: Connection, settings: Settings) -> Retry:
    """Send all that were not sent again yet back to their topics, key, value, headers and time as they were.

    Raises Unavailable when the broker stops answering; what had been acknowledged by then is not sent another time.
    """
    partitions, since = await _place(connection, settings)
    counts = await partition_counts(connection, [settings.topic_prefix + name for name in EVENTS])
    unordered = {settings.topic_prefix + name for name in (STOCK_LEVELS, SIMILAR_REQUESTS)}
    ordered = {name: count for name, count in counts.items() if name not in unordered}
    later, until = await _later_events(connection, partitions, since, ordered)
    outcome = Retry()
    consumer = await connection.started(lambda: connection.consumer(settings.topic_prefix + GROUP), "dead letters")
    try:
        consumer.assign(partitions)
        producer = await connection.started(connection.producer, "dead letters")
        try:
            outbox = Outbox(producer)
            async for messages in read_to_end(connection, partitions, since):
                looked_at = [each for each in messages if each.offset < until[each.partition]]
                for message in looked_at:
                    _put(outbox, _dead_letter(message, since), counts, later, outcome)
                await outbox.deliver()
                if looked_at:
                    last = looked_at[-1]
                    await consumer.commit({TopicPartition(last.topic, last.partition): last.offset + 1})
        finally:
            await producer.stop()
    finally:
        await consumer.stop()
    return outcome


def _put(
    outbox: Outbox,
    letter: DeadLetter,
    counts: Mapping[str, int],
    later: Mapping[tuple[TopicPartition, bytes], int],
    outcome: Retry,
) -> None:
    origin = letter.origin
    if origin is None or origin.topic not in counts or letter.cut is not None:
        outcome.stranded.append(letter)
        return
    if letter.key is not None and later.get((origin, letter.key), -1) > (letter.origin_offset or 0):
        outcome.overtaken += 1
        return
    partition = origin.partition
    if not 0 <= partition < counts[origin.topic]:
        partition = partition_of(letter.key or b"", counts[origin.topic])
    headers = [(name, value or b"") for name, value in letter.headers]
    outbox.put(origin.topic, partition, Message(letter.key, letter.value, headers, letter.at))
    outcome.sent += 1


async def _later_events(
    connection: Connection,
    partitions: list[TopicPartition],
    since: Mapping[TopicPartition, int],
    ordered: Mapping[str, int],
) -> tuple[dict[tuple[TopicPartition, bytes], int], dict[int, int]]:
    """By origin and key of the dead letters the offset of the last event there, and by partition which were looked at.

    `ordered` are the topics to look at, with their partitions: asking for one that is not there would take 40 s.
    A dead letter that comes meanwhile is left to the next time.
    """
    last: dict[tuple[TopicPartition, bytes], int] = {}
    first: dict[TopicPartition, int] = {}
    until = {tp.partition: 0 for tp in partitions}
    async for messages in read_to_end(connection, partitions, since):
        until[messages[-1].partition] = messages[-1].offset + 1
        for letter in (_dead_letter(each, since) for each in messages):
            origin, offset = letter.origin, letter.origin_offset
            if origin is None or offset is None or letter.key is None:
                continue
            if 0 <= origin.partition < ordered.get(origin.topic, 0):
                last[origin, letter.key] = -1
                first[origin] = min(first.get(origin, offset), offset)
    if first:
        async for messages in read_to_end(connection, list(first), first):
            for each in messages:
                place = (TopicPartition(each.topic, each.partition), each.key)
                if place in last:
                    last[place] = each.offset
    return last, until


async def _place(connection: Connection, settings: Settings) -> tuple[list[TopicPartition], dict[TopicPartition, int]]:
    """The partitions of `dead-letters` and the offsets up to which they were sent again."""
    partitions = await partitions_of(connection, settings.topic_prefix + DEAD_LETTERS)
    return partitions, await committed_offsets(connection, settings.topic_prefix + GROUP, partitions)


def _dead_letter(message: Any, retried: Mapping[TopicPartition, int]) -> DeadLetter:
    told = {name: _text(header(message.headers, PREFIX + name)) for name in ("reason", "stage", "topic")}
    numbers = {name: _number(header(message.headers, PREFIX + name)) for name in ("partition", "offset", "at")}
    topic, partition, at = told["topic"], numbers["partition"], numbers["at"]
    place = TopicPartition(message.topic, message.partition)
    return DeadLetter(
        place=place,
        offset=message.offset,
        reason=told["reason"] or "no reason was told",
        stage=told["stage"],
        origin=TopicPartition(topic, partition) if topic is not None and partition is not None else None,
        origin_offset=numbers["offset"],
        at=message.timestamp if at is None else at,
        key=message.key,
        value=message.value,
        cut=_number(header(message.headers, CUT)),
        headers=tuple(pair for pair in message.headers if not pair[0].startswith(PREFIX)),
        retried=message.offset < retried.get(place, 0),
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) < 20 else None


def show_dead_letters(terminal: Terminal, letters: Sequence[DeadLetter], total: int) -> None:
    """The dead letters for people, oldest first."""
    rows = [
        (
            moment(letter.at),
            letter.stage,
            letter.origin and f"{letter.origin.topic}/{letter.origin.partition}/{letter.origin_offset}",
            terminal.brief(_text(letter.key) or "", KEY_LENGTH_MAX),
            terminal.brief(_last_line(letter.reason), REASON_LENGTH_MAX),
            "retried" if letter.retried else None,
        )
        for letter in letters
    ]
    if rows:
        terminal.table(("event of", "stage", "topic/partition/offset", "key", "reason", "state"), rows)
    told = terminal.line if terminal.for_people else terminal.note
    told(f"{len(letters):,} of {total:,} dead letters" if total else "There are no dead letters.")


def _last_line(reason: str) -> str:
    """Of a traceback, what was raised; any other reason is one line."""
    return reason.strip().rsplit("\n", 1)[-1]


def show_retry(terminal: Terminal, outcome: Retry, as_json: bool) -> int:
    """What became of them; the exit code is 1 when some could not be sent anywhere."""
    if as_json:
        stranded = [letter.as_json() for letter in outcome.stranded]
        terminal.json({"sent": outcome.sent, "overtaken": outcome.overtaken, "stranded": stranded})
    else:
        terminal.line(
            f"{outcome.sent:,} dead letters were sent back to their topics"
            if outcome.sent != 1
            else "1 dead letter was sent back to its topic"
        )
        if outcome.overtaken:
            terminal.line(f"{outcome.overtaken:,} were left out: a later event of the same key has come since")
        for letter in outcome.stranded:
            topic = letter.origin.topic if letter.origin else "no topic"
            why = f"came from {topic}, which is no topic of our events"
            if letter.cut is not None:
                why = f"is not whole: the event on {topic} had {letter.cut:,} bytes; write it again yourself"
            terminal.note(f"left out: dead letter {letter.offset} {why}", style="red")
    return 1 if outcome.stranded else 0
