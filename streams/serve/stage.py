"""The serve stage: one request in, one reply out, always.

A batch consumer: the requests of a poll are answered together, by one matrix product a shard.  What would keep the
others waiting happens beside the batch: images to fetch and embed, reply topics not known yet, the delivery of replies.
An offset is committed when the reply was delivered (or has no place): a request is answered again after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, NamedTuple

import orjson
from aiokafka import TopicPartition

from models.answer import Result
from models.request import Batch, ImageSeed
from streams import topics
from streams.connection import Connection
from streams.embed.vectors import ImageVectors
from streams.kafka.batch_consumer import BatchConsumer
from streams.kafka.take_over import Batches
from streams.kafka.turns import Turns
from streams.metrics import Metrics
from streams.serve.answer_queue import hits_asked
from streams.serve.answerer import Answerer, Images, LoadedShards, images_of
from streams.serve.by_image import ByImage
from streams.serve.in_flight import InFlight
from streams.serve.replies import Address, Replies, Reply, Sending
from streams.serve.rule_reader import RuleReader
from streams.settings import Settings

REQUESTS_MAX = 128
"""Of a poll: what a poll, a search and a delivery cost is shared by so many."""
HITS_MAX = 2_700
"""Asked for by requests that are answered together: for some 10 ms they hold the loop, then others have a turn."""
IN_FLIGHT_MAX = 512
"""Requests whose replies are not delivered yet, those by image apart; beyond, no more are taken."""


class Asked(NamedTuple):
    """A request taken from the topic."""

    tp: TopicPartition
    message: Any
    address: Address
    batch: Batch

    @property
    def images(self) -> list[ImageSeed]:
        """Images that have to be embedded before it can be answered."""
        return images_of(self.batch.entries)


class Serve(BatchConsumer):
    """Answers requests from the shards of this worker."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        metrics: Metrics,
        clock_ms: Callable[[], int],
        index: LoadedShards,
        vectors: ImageVectors,
        turns: Turns,
    ) -> None:
        super().__init__(connection, settings, metrics, clock_ms, "serve", [topics.SIMILAR_REQUESTS], REQUESTS_MAX)
        self.index = index
        self.turns = turns
        self.rules = RuleReader(connection, settings, metrics, self._owns_first_partition)
        self.answerer = Answerer(settings, clock_ms, index, vectors, self.rules.book, turns.asked)
        self.in_flight = InFlight()
        self.by_image = ByImage()
        self._taken = metrics.events.labels("serve", *self.topics)
        self._beside: set[asyncio.Task[None]] = set()
        self._delivered = asyncio.Event()

    def on_init_dependencies(self) -> list[Any]:
        return [self.rules]

    async def on_start(self) -> None:
        await super().on_start()
        self.replies = Replies(
            self.connection,
            self.producer,
            self.metrics,
            self.settings.reply_topics,
            self.settings.topic_prefix,
            self._topic(topics.SIMILAR_RESPONSES),
        )

    async def prepare(self) -> None:
        """Requests are not taken before the shards and the rules are loaded: others may answer them."""
        while not (self.index.loaded and self.rules.loaded) and not self.should_stop:
            await self.sleep(0.02)

    async def on_stop(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.stop_timeout_s / 2):
                async with self.batch_lock:  # a poll in work may have begun with none of its answers
                    pass
                if self._beside:
                    await asyncio.wait(self._beside)
        for task in self._beside:
            task.cancel()
        self.done.update(self.in_flight.committable())
        await super().on_stop()

    def _owns_first_partition(self) -> bool:
        return any(tp.partition == 0 for tp in self.consumer.assignment())

    def forget(self, partitions: frozenset[TopicPartition]) -> None:
        self.in_flight.drop()

    # A poll.

    async def process(self, batches: Batches) -> None:
        now: list[Asked] = []
        for tp, messages in batches.items():
            self.in_flight.begin(tp, [message.offset for message in messages])
            for message in messages:
                asked = self._asked(tp, message)
                if asked is None:
                    self.in_flight.end(tp, message.offset)
                elif asked.images:
                    self.by_image.begin(len(message.value))
                    self._start(self._answer_by_image(asked))
                elif not self.replies.known(asked.address.topic):
                    self._start(self._answer_later(asked))
                else:
                    now.append(asked)
            self._taken.inc(len(messages))
        if now:
            await self.turns.after_changes()
        for number, together in enumerate(parts(now)):
            if number:
                await asyncio.sleep(0)
            replies = self._answer(together, {})
            self._start(self._deliver(together, replies, self.replies.begin(replies)))
        while len(self.in_flight) - len(self.by_image) > IN_FLIGHT_MAX or self.by_image.full:
            self._delivered.clear()
            await self._delivered.wait()
        self.done.update(self.in_flight.committable())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._beside.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._beside.discard(task)
        self.done.update(self.in_flight.committable())
        self._delivered.set()
        if not task.cancelled() and (error := task.exception()):
            self.bug = self.bug or error

    def _asked(self, tp: TopicPartition, message: Any) -> Asked | None:
        """The request; None when it is not to be answered: too late, or its reply may not go where it says."""
        headers = dict(message.headers)  # of several of a name the last counts, as clients expect
        deadline = headers.get("kindred_deadline")
        if deadline and deadline.isdigit() and int(deadline[:20]) < self.clock_ms():
            self.metrics.requests_expired.inc()
            return None
        address = self.replies.address(headers)
        if address is None:
            return None
        return Asked(tp, message, address, self.answerer.parse(message.value))

    async def _answer_by_image(self, asked: Asked) -> None:
        try:
            async with self.by_image.turn:
                await self._answer_later(asked)
        finally:
            self.by_image.end(len(asked.message.value))

    async def _answer_later(self, asked: Asked) -> None:
        await self.replies.ask(asked.address.topic)
        replies = self._answer([asked], await self.answerer.images(asked.images))
        await self._deliver([asked], replies, self.replies.begin(replies))

    def _answer(self, asked: Sequence[Asked], images: Images) -> list[Reply]:
        """Replies to requests, answered together."""
        results = iter(self.answerer.answer([entry for each in asked for entry in each.batch.entries], images))
        return [self._reply_to(each, [next(results) for _ in each.batch.entries]) for each in asked]

    @staticmethod
    def _reply_to(asked: Asked, results: Sequence[Result]) -> Reply:
        if not asked.batch.single:
            body = b'{"results":[' + b",".join(result.body for result in results) + b"]}"
            return Reply(asked.address, asked.message.key, body, 200)
        (result,) = results
        if result.status == 200:
            return Reply(asked.address, asked.message.key, result.body, 200)
        error = {"message": result.message, "status": result.status, "statusCode": result.status}
        return Reply(asked.address, asked.message.key, orjson.dumps(error), result.status)

    async def _deliver(self, asked: Sequence[Asked], replies: Sequence[Reply], sent: Sequence[Sending]) -> None:
        await self.replies.finish(sent)
        for each in asked:
            self.in_flight.end(each.tp, each.message.offset)
        now_ms = self.clock_ms()
        self.metrics.request_seconds.observe([max(0, now_ms - each.message.timestamp) / 1000 for each in asked])
        for status, count in Counter([reply.status for reply in replies]).items():
            self.metrics.requests.labels(str(status)).inc(count)

    # What it tells of itself.

    def waiting_for(self) -> str | None:
        return super().waiting_for() if self.rules.loaded else "rules are not read yet"

    def status(self) -> dict[str, Any]:
        return super().status() | {"rules": len(self.rules.book.in_force()), "in_flight": len(self.in_flight)}


def parts(asked: Sequence[Asked]) -> Iterator[list[Asked]]:
    """The requests in their order, as many together as do not hold the loop for long; at least one."""
    together: list[Asked] = []
    hits = 0
    for each in asked:
        wanted = sum(map(hits_asked, each.batch.entries))
        if together and hits + wanted > HITS_MAX:
            yield together
            together, hits = [], 0
        together.append(each)
        hits += wanted
    if together:
        yield together
