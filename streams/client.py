"""`SimilarClient`: ask for look-alikes on the topics, from Python.

    async with SimilarClient(connection, settings) as client:
        result = await client.ask({"objectID": "shoe-1", "maxRecommendations": 5})

It reads one partition of `similar-responses`, assigned without a consumer group, from its end on, and names that
partition in every request.  Several clients may read the same partition: each takes the replies to its own requests.
What is easy to get wrong:

* A request that is given up (too late, cancelled) leaves nothing behind; its late reply is counted and dropped.
* The correlation id is bytes of ours, compared as bytes.
* While the broker is away requests time out; afterwards the same client goes on, without being made anew.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from models.errors import KindredError, Unavailable
from streams.connection import Connection
from streams.kafka.dead_letters import header
from streams.kafka.log_reader import partition_counts
from streams.settings import Settings
from streams.topics import SIMILAR_REQUESTS, SIMILAR_RESPONSES

log = logging.getLogger(__name__)

Result = dict[str, Any]

CORRELATION_ID = "kafka_correlationId"
REPLY_TOPIC = "kafka_replyTopic"
REPLY_PARTITION = "kafka_replyPartition"
DEADLINE = "kindred_deadline"
STATUS = "kindred_status"
ERROR = "kafka_nest-err"

REQUEST_BYTES_MAX = 900_000
"""Below what a broker accepts of one message, 1 MB: a larger request would fail there after a long way."""


class RequestFailed(KindredError):
    """An error reply.  `status` is 400 not understood, 404 unknown, 422 image cannot be used, 503 or 504 not now."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NoReply(Unavailable):
    """Nothing came back in time.  `status` is 504, as a gateway would say it."""

    status = 504


class SimilarClient:
    """Asks on `similar-requests` and waits for replies.  An async context manager; any number of requests at once."""

    def __init__(self, connection: Connection, settings: Settings, *, reply_partition: int | None = None) -> None:
        """`reply_partition` None: one of the reply topic's, by chance."""
        self.connection = connection
        self.request_topic = settings.topic_prefix + SIMILAR_REQUESTS
        self.reply_topic = settings.topic_prefix + SIMILAR_RESPONSES
        self.reply_partition = reply_partition
        self.unclaimed = 0
        """Replies read that nobody here waits for: late ones and other clients'."""
        self._waiting: dict[bytes, asyncio.Future[Result]] = {}
        self._prefix = secrets.token_bytes(8)
        self._count = itertools.count()
        self._headers: list[tuple[str, bytes]] = []
        self._reader: asyncio.Task[None] | None = None

    _producer: AIOKafkaProducer
    _consumer: AIOKafkaConsumer

    @property
    def waiting(self) -> int:
        """How many requests wait for their reply."""
        return len(self._waiting)

    async def start(self) -> None:
        """Connect as soon as the broker is there.  Raises Unavailable when a topic or reply partition is missing."""
        wanted = (self.request_topic, self.reply_topic)
        counts = await partition_counts(self.connection, wanted)
        for topic in wanted:
            if topic not in counts:
                raise Unavailable(f"topic {topic} does not exist: `kindred topics` or a worker creates it")
        partitions = counts[self.reply_topic]
        if self.reply_partition is None:
            self.reply_partition = random.randrange(partitions)
        if not 0 <= self.reply_partition < partitions:
            raise Unavailable(f"{self.reply_topic} has {partitions} partitions, no number {self.reply_partition}")
        self._headers = [
            (REPLY_TOPIC, self.reply_topic.encode()),
            (REPLY_PARTITION, b"%d" % self.reply_partition),
        ]
        make = self.connection.consumer
        self._consumer = await self.connection.started(lambda: make(auto_offset_reset="latest"), "client")
        try:
            await self._seek_to_end(TopicPartition(self.reply_topic, self.reply_partition))
            self._producer = await self.connection.started(self.connection.producer, "client")
        except BaseException:
            await self._consumer.stop()
            raise
        self._reader = asyncio.create_task(self._read(), name="similar-client")

    async def stop(self) -> None:
        """Disconnect.  Requests that still wait fail with NoReply."""
        if self._reader is None:
            return
        reader, self._reader = self._reader, None
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        self._fail_all(NoReply("the client was stopped before the reply came"))
        await asyncio.gather(self._consumer.stop(), self._producer.stop(), return_exceptions=True)

    async def __aenter__(self) -> SimilarClient:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def ask(self, request: Mapping[str, Any], timeout_s: float = 5.0, *, key: bytes | None = None) -> Result:
        """The result of one request, or of a batch (`{"requests": [...]}`), as the contract has it.

        Raises RequestFailed for an error reply and NoReply when none came within `timeout_s`.  An entry of a batch
        that failed says so itself (`message`, `status`) and raises nothing.
        """
        body = orjson.dumps(request)
        if len(body) > REQUEST_BYTES_MAX:
            raise RequestFailed(f"the request is {len(body):,} bytes, at most {REQUEST_BYTES_MAX:,} can be sent", 400)
        if self._reader is None:
            raise RuntimeError("the client has not been started, or was stopped")
        if self._reader.done():
            raise RuntimeError("the client cannot read replies any more") from self._reader.exception()
        correlation_id = self._prefix + next(self._count).to_bytes(8, "big")
        deadline_ms = int((time.time() + timeout_s) * 1000)
        headers = [(CORRELATION_ID, correlation_id), *self._headers, (DEADLINE, b"%d" % deadline_ms)]
        reply: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id] = reply
        try:
            async with asyncio.timeout(timeout_s):
                delivery = await self._producer.send(self.request_topic, body, key=key, headers=headers)
                delivery.add_done_callback(lambda sent: _fail_undelivered(sent, reply))
                return await reply
        except TimeoutError:
            raise NoReply(
                f"no reply within {timeout_s:g} s: is a worker with the stage serve running? (`kindred status` says)"
            ) from None
        finally:
            del self._waiting[correlation_id]
            if reply.done() and not reply.cancelled():
                reply.exception()  # seen: a failure that nobody waits for any more is not to be logged

    async def ask_many(
        self, requests: Sequence[Mapping[str, Any]], timeout_s: float = 5.0
    ) -> list[Result | RequestFailed | NoReply]:
        """Ask all at once, a message each; results in the order of the requests, a failed one's error in its place."""

        async def one(request: Mapping[str, Any]) -> Result | RequestFailed | NoReply:
            try:
                return await self.ask(request, timeout_s)
            except (RequestFailed, NoReply) as error:
                return error

        return await asyncio.gather(*map(one, requests))

    async def _seek_to_end(self, partition: TopicPartition) -> None:
        """Fix where to read from now, so that no reply to a later request can be missed."""
        self._consumer.assign([partition])
        while True:
            try:
                end = (await self._consumer.end_offsets([partition]))[partition]
                self._consumer.seek(partition, end)
                return
            except KafkaError as error:  # a new topic's leader is not known everywhere yet
                if not error.retriable:
                    raise
                await asyncio.sleep(0.1)

    async def _read(self) -> None:
        """Hand every reply to whom it belongs, until cancelled.  aiokafka itself waits for a broker that is away."""
        try:
            while True:
                try:
                    polled = await self._consumer.getmany(timeout_ms=1000)
                except KafkaError as error:
                    log.warning("reading replies failed and is tried again: %r", error)
                    await asyncio.sleep(0.5)
                    continue
                for records in polled.values():
                    for record in records:
                        self._settle(record)
        except Exception as error:
            self._fail_all(error)
            raise

    def _settle(self, record: Any) -> None:
        reply = self._waiting.get(header(record.headers, CORRELATION_ID) or b"")
        if reply is None or reply.done():
            self.unclaimed += 1
            return
        try:
            reply.set_result(_read_reply(record.value, record.headers))
        except RequestFailed as error:
            reply.set_exception(error)

    def _fail_all(self, error: Exception) -> None:
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(error)


def _fail_undelivered(sent: asyncio.Future[Any], reply: asyncio.Future[Result]) -> None:
    """A request that the broker refused has no reply to wait for."""
    error = None if sent.cancelled() else sent.exception()
    if error is not None and not reply.done():
        reply.set_exception(NoReply(f"the request could not be sent: {error!r}"))


def _read_reply(value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> Result:
    """The body of a good reply.  Raises RequestFailed with the message and the status of a failed one."""
    try:
        body = msgspec.json.decode(value or b"", type=Result)
    except msgspec.DecodeError as error:
        raise RequestFailed(f"the reply is not a JSON object ({error}): {(value or b'')[:80]!r}", 502) from None
    if not any(name == ERROR for name, _ in headers):
        return body
    status = header(headers, STATUS) or b""
    told = body.get("status")
    code = int(status) if status.isdigit() else told if isinstance(told, int) else 500
    raise RequestFailed(str(body.get("message") or "the request failed without a reason"), code)
