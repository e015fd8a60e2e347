"""Where a reply goes and what it carries, so that Spring Kafka's, NestJS's and plain clients all understand it.

Headers: `kafka_correlationId` echoed byte for byte, once; `kafka_nest-is-disposed` on every reply; `kindred_status`;
`kafka_nest-err` on a failed one.  A reply topic must be on the allow-list, and it must exist: a send to a topic that
does not would wait for 40 s, so the broker is asked first, beside the other replies.
"""

from __future__ import annotations

import asyncio
import fnmatch
import itertools
import logging
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import orjson
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from msgspec.structs import replace

from streams import topics
from streams.connection import Connection
from streams.kafka.outbox import Message, Outbox, begin_together
from streams.metrics import Metrics
from streams.producer import Producer

log = logging.getLogger(__name__)

LEGAL_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
KNOWN_S = 60.0
"""How long the number of partitions of a reply topic is believed."""
MISSING_S = 2.0
"""How long a reply topic that does not exist is not asked for again."""
DELIVERY_S_MAX = 30.0
ECHOED_BYTES_MAX = topics.MESSAGE_BYTES_MAX
"""Of a request's key and correlation id: no topic of ours accepts more, and at 100 MiB a broker hangs up."""
ECHOED_TOO_MUCH = f"its request's key and correlation id have more than {ECHOED_BYTES_MAX:,} bytes"
TOPICS_MAX = 1_000
"""Names remembered as allowed; a pattern may allow any number."""
_ANSWERED = (("kafka_nest-is-disposed", b"\0"), ("kindred_status", b"200"))


class Address(NamedTuple):
    """Where the reply to a request goes."""

    topic: str
    partition: int | None
    correlation: bytes | None


class Reply(NamedTuple):
    """A reply on its way.  `status` 200 unless the whole request failed."""

    address: Address
    key: bytes | None
    body: bytes
    status: int


class _Attempt(NamedTuple):
    """Messages for one partition."""

    partition: int
    outbox: Outbox


class Sending(NamedTuple):
    """Replies to one topic, and to one partition of it unless that is None."""

    topic: str
    partition: int | None
    messages: Sequence[Message]
    attempt: _Attempt | None
    """None: they are not on their way yet."""


def partition_number(value: bytes) -> int | None:
    """`kafka_replyPartition`: four bytes that are not all digits are a big-endian int (Spring), else text (NestJS)."""
    if len(value) == 4 and not value.isdigit():
        return int.from_bytes(value, "big", signed=True)
    return int(value) if value.isdigit() and len(value) <= 9 else None


class Replies:
    """Knows reply topics and sends replies, each partition's apart from the others'."""

    def __init__(
        self,
        connection: Connection,
        producer: Producer,
        metrics: Metrics,
        allowed: Iterable[str],
        prefix: str,
        default: str,
    ) -> None:
        self.connection = connection
        self.producer = producer
        self.metrics = metrics
        self.allowed = tuple(prefix + pattern for pattern in allowed)
        self.default = default
        self._topics: dict[bytes, str] = {}
        """Reply topics by the name that requests give, found to be allowed."""
        self._partitions: dict[str, tuple[float, int]] = {}
        self._turn = itertools.count()
        self._asking = asyncio.Lock()
        self._warned: set[str] = set()

    def address(self, headers: Mapping[str, bytes | None]) -> Address | None:
        """Where the reply to a request with these headers goes; None when its reply topic may not be written to."""
        named = headers.get("kafka_replyTopic")
        topic = self._topic(named) if named else self.default
        if topic is None:
            return None
        correlation = headers.get("kafka_correlationId")
        place = headers.get("kafka_replyPartition")
        if not place:
            return Address(topic, None, correlation)
        number = partition_number(place)
        if number is None or number < 0:
            self.lost(topic, f"its partition {place[:20]!r} is not a number")
            return None
        return Address(topic, number, correlation)

    def _topic(self, named: bytes) -> str | None:
        """The reply topic of this name; None when it may not be written to."""
        known = self._topics.get(named)
        if known is not None:
            return known
        topic = named.decode("utf-8", "replace")
        if topic != self.default and not any(fnmatch.fnmatchcase(topic, pattern) for pattern in self.allowed):
            self.lost(topic, "KINDRED_REPLY_TOPICS does not allow it")
            return None
        if not LEGAL_TOPIC.fullmatch(topic):
            self.lost(topic, "it is not a legal name")
            return None
        if len(self._topics) >= TOPICS_MAX:
            self._topics.clear()
        self._topics[named] = topic
        return topic

    def lost(self, topic: str, why: str, count: int = 1) -> None:
        """Count replies that reach nobody; one log line a topic and reason."""
        self.metrics.replies_lost.inc(count)
        if len(self._warned) < 1_000 and (line := f"{topic[:249]!r}: {why}") not in self._warned:
            self._warned.add(line)
            log.warning("no reply to the topic %s", line)

    def known(self, topic: str) -> bool:
        """Whether the number of partitions of a topic is known, also that it has none: then nothing has to wait."""
        until, _ = self._partitions.get(topic, (0.0, 0))
        return time.monotonic() < until

    async def ask(self, topic: str) -> None:
        """Ask the broker for a topic's partitions, until it answers."""
        delay_s = 0.1
        async with self._asking:
            while not self.known(topic):
                count = await self._count(topic)
                if count is not None:
                    self._partitions[topic] = (time.monotonic() + (KNOWN_S if count else MISSING_S), count)
                    return
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 2.0)

    async def _count(self, topic: str) -> int | None:
        """Partitions of a topic, 0 when there is no such topic, None when the broker does not answer."""
        admin = self.connection.admin()
        try:
            await admin.start()
            described = (await admin.describe_topics([topic]))[0]
        except (KafkaError, OSError) as error:
            log.warning("the broker does not tell of the topic %s: %r", topic, error)
            return None
        finally:
            await admin.close()
        return 0 if described["error_code"] else len(described["partitions"])

    def begin(self, replies: Iterable[Reply]) -> list[Sending]:
        """Send what need not wait, before this returns; `finish` sees to the rest.  What has no place is lost."""
        rounds: dict[tuple[str, int | None], list[Message]] = defaultdict(list)
        for reply in replies:
            echoed = len(reply.key or b"") + len(reply.address.correlation or b"")
            if echoed > ECHOED_BYTES_MAX:
                self.lost(reply.address.topic, ECHOED_TOO_MUCH)
            else:
                rounds[reply.address.topic, reply.address.partition].append(_message(reply))
        sent = [Sending(*place, messages, self._attempt(*place, messages)) for place, messages in rounds.items()]
        begin_together([each.attempt.outbox for each in sent if each.attempt])
        return sent

    async def finish(self, sent: Iterable[Sending]) -> None:
        """Deliver replies, those that have begun among them.  Waits for the broker as long as it takes."""
        work = [self._deliver(*each) for each in sent]
        if len(work) == 1:
            await work[0]  # without a task, which would begin in the loop's next turn
        else:
            await asyncio.gather(*work)

    def _attempt(self, topic: str, partition: int | None, messages: Sequence[Message]) -> _Attempt | None:
        """Messages for a partition; None where that has to be asked for, or is not there."""
        count = self._partitions[topic][1] if self.known(topic) else 0
        if not count or (partition is not None and partition >= count):
            return None
        attempt = _Attempt(next(self._turn) % count if partition is None else partition, Outbox(self.producer))
        attempt.outbox.extend(topic, attempt.partition, messages)
        return attempt

    async def _deliver(
        self, topic: str, partition: int | None, messages: Sequence[Message], attempt: _Attempt | None
    ) -> None:
        while True:
            if attempt is None:
                if not self.known(topic):
                    await self.ask(topic)
                count = self._partitions[topic][1]
                if not count:
                    return self.lost(topic, "it does not exist", len(messages))
                if partition is not None and partition >= count:
                    return self.lost(topic, f"it has {count} partitions, {partition} is not one of them", len(messages))
                attempt = self._attempt(topic, partition, messages)
                continue  # what was known may be too old by now
            try:
                async with asyncio.timeout(DELIVERY_S_MAX):  # wait_for of Python 3.11 can lose a cancellation
                    return await attempt.outbox.deliver()
            except MessageSizeTooLargeError:
                return await self._deliver_singly(topic, attempt.partition, messages)
            except TimeoutError:
                self._partitions.pop(topic, None)  # is the broker away, or has the topic gone?
            except KafkaError as error:
                return self.lost(topic, f"not delivered: {error!r}", len(messages))
            attempt = None

    async def _deliver_singly(self, topic: str, partition: int, messages: Sequence[Message]) -> None:
        """One of them is larger than the topic accepts: each goes alone, and that one becomes an error reply."""
        for message in messages:
            outbox = Outbox(self.producer)
            outbox.put(topic, partition, replace(message, instead=_too_large(message)))
            try:
                await outbox.deliver()
            except MessageSizeTooLargeError:
                self.lost(topic, "even an error is larger than it accepts, with the request's key and correlation id")


def _too_large(message: Message) -> Message:
    """The error reply in place of one that the topic does not accept."""
    size = len(message.value or b"")
    body = orjson.dumps(
        {
            "message": f"the answer is {size:,} bytes, more than its reply topic accepts (max.message.bytes): "
            "ask for fewer with maxRecommendations, or for less of each with attributesToRetrieve",
            "status": 400,
            "statusCode": 400,
        }
    )
    kept = [(name, value) for name, value in message.headers if name not in ("kindred_status", "kafka_nest-err")]
    return replace(message, value=body, headers=[*kept, ("kindred_status", b"400"), ("kafka_nest-err", body)])


def _message(reply: Reply) -> Message:
    correlation = reply.address.correlation
    headers = [] if correlation is None else [("kafka_correlationId", correlation)]
    if reply.status == 200:
        headers += _ANSWERED
    else:
        headers += [("kafka_nest-is-disposed", b"\0"), ("kindred_status", b"%d" % reply.status)]
        headers.append(("kafka_nest-err", reply.body))
    return Message(reply.key, reply.body, headers)
