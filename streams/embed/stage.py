"""The embed stage: image requests in, embeddings out.  A Faust agent, because an image costs milliseconds.

1. Requests are taken without acknowledging them and put in work, a bounded number at a time.
2. Each of a request's images is fetched, told apart by the digest of its bytes, decoded in a pool and embedded in a
   batch with whatever else is waiting; images with a vector (or a final reason) are carried over, also those of an
   earlier request of the same item of which the result has not been read back yet, or is not there yet.
3. The result goes out when all images of the request are through, and after the results of earlier requests of the
   same item; a slow host keeps nobody else waiting.
4. Requests are acknowledged in the order they came, after their results were: what a stop finds in work is done again.
   (Anything that acknowledges by itself loses events on a graceful stop.)

While a request is on its way here, its picture may be in work already (`ahead`), if track runs in the same worker.

A host that does not answer is no failure of the request: the embedding says so, and when to ask again
(`image_attempts.py`); track does that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import faust
import mode
import msgspec
from aiokafka import TopicPartition

from models.errors import BadEvent, Unavailable
from models.truth_messages import (
    ImageEmbedding,
    ImageRequest,
    ItemEmbedding,
    image_name,
    read_image_request,
    write_message,
)
from streams import topics
from streams.connection import Connection
from streams.embed.image_attempts import ImageAttempts
from streams.embed.model_guard import check_model
from streams.embed.unread_images import Images, UnreadImages, what_came
from streams.embed.vectors import ImageVectors
from streams.kafka.dead_letters import DeadLetterLimit, dead_letter
from streams.kafka.origin import origin_of
from streams.kafka.outbox import Message, Outbox
from streams.kafka.turns import Turns
from streams.metrics import Metrics
from streams.settings import Settings

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Work:
    """One request in work."""

    event: Any
    done: bool = False


class Embed(mode.Service):
    """Keeps `item-embeddings` up with `image-changes`, for the partitions that the group gives this worker."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        metrics: Metrics,
        writer: str,
        clock_ms: Callable[[], int],
        vectors: ImageVectors,
        turns: Turns,
    ) -> None:
        super().__init__()
        self.connection = connection
        self.settings = settings
        self.metrics = metrics
        self.writer = writer
        self.vectors = vectors
        self.turns = turns
        self.attempts = ImageAttempts(settings, metrics, clock_ms, vectors)
        self.limit = DeadLetterLimit(settings.dead_letter_share_max)
        self._connected = asyncio.Event()
        self._app: faust.App | None = None
        self._in_work: dict[Any, deque[_Work]] = {}
        self._last: dict[bytes, asyncio.Task[None]] = {}
        self._unread = UnreadImages()
        self._handling: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(settings.embed_waiting_max)

    def register(self, app: faust.App) -> None:
        """Add the agent to a Faust application."""
        topic = app.topic(
            self._topic(topics.IMAGE_CHANGES),
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            allow_empty=True,
        )
        app.agent(topic, name="embed")(self._agent)
        app.on_partitions_revoked.connect(self._forget, weak=False)
        self._app = app

    async def on_start(self) -> None:
        await check_model(self.connection, self.settings, self.vectors.embedder)
        self.producer = await self.connection.started(self.connection.producer, "embed")
        self.async_exit_stack.push_async_callback(self.producer.stop)
        self._connected.set()

    async def on_stop(self) -> None:
        """Drop what is in work; it was not acknowledged and comes again."""
        for task in list(self._handling):
            task.cancel()
        await asyncio.gather(*self._handling, return_exceptions=True)

    def _topic(self, name: str) -> str:
        return self.settings.topic_prefix + name

    async def _forget(self, *_: Any, **__: Any) -> None:
        """What is in work is somebody else's, or comes again.

        Acknowledged now it would be out of order, and Faust would commit past what was never done.
        """
        self._in_work.clear()
        self._unread.clear()

    async def _agent(self, stream: Any) -> None:
        """One request after the other, none of them acknowledged by the stream.

        `noack_take` would do as well, but it looks for what came by a timer only: at 5 ms that kept each request
        waiting for 4 ms, and an idle worker busy for a twentieth of a core.
        """
        await self._connected.wait()
        stream.enable_acks = False
        async for event in stream.events():
            await self._slots.acquire()
            if self.should_stop or event.message.generation_id != self._generation():
                self._slots.release()  # taken before a rebalance: it comes again, here or elsewhere
                continue
            work = _Work(event)
            self._in_work.setdefault(event.message.tp, deque()).append(work)
            task = asyncio.ensure_future(self._handle(stream, work, self._last.get(event.key)))
            self._last[event.key] = task
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)

    def _generation(self) -> int:
        return self._app.consumer_generation_id if self._app else 0

    async def _handle(self, stream: Any, work: _Work, before: asyncio.Task[None] | None) -> None:
        """One request to its end; never raises but for a cancellation."""
        message = work.event.message
        outbox = Outbox(self.producer)
        try:
            result, bug = None, None
            try:
                result = await self._result(work.event, outbox)
            except BadEvent as error:
                self._set_aside(outbox, message, error)
            except Exception as error:
                log.exception("an image request at %s[%d]@%d could not be handled", *message.tp, message.offset)
                self._set_aside(outbox, message, error)
                bug = error
            if before:
                await asyncio.wait([before])
            if result:
                outbox.put(self._topic(topics.ITEM_EMBEDDINGS), message.tp.partition, result)
            self.turns.changed(len(self._handling))
            await outbox.deliver()
            work.done = True
            await self._acknowledge(stream, message.tp)
            self.metrics.events.labels("embed", message.tp.topic).inc()
            self.limit.count(1, 0 if result else 1)
            if bug:
                await self.crash(bug)
        except Exception as error:  # the broker refuses the result for good, or too many requests were set aside
            await self.crash(error)
        finally:
            self._slots.release()
            if self._last.get(work.event.key) is asyncio.current_task():
                del self._last[work.event.key]

    async def _acknowledge(self, stream: Any, tp: Any) -> None:
        """Acknowledge from the front as far as everything is done: Faust commits past what is acknowledged."""
        in_work = self._in_work.get(tp) or deque()
        while in_work and in_work[0].done:
            await stream.ack(in_work.popleft().event)

    def _set_aside(self, outbox: Outbox, message: Any, error: BaseException) -> None:
        origin = origin_of(message, round(message.timestamp * 1000))  # Faust counts in seconds
        outbox.put(self._topic(topics.DEAD_LETTERS), 0, dead_letter(origin, "embed", error))
        self.metrics.dead_letters.labels("embed").inc()

    def ahead(self, partition: int, item_id: str, request: ImageRequest) -> None:
        """Begin with a picture of a request that track has just sent, if it is to come to this worker.

        The hop through Kafka takes as long as decoding the picture.  Nothing but time depends on this.
        """
        link = next((each.link for each in request.images if not (each.vector or each.error)), None)
        if link is None or self._app is None or self.should_stop or self.waiting_for():
            return
        home = TopicPartition(self._topic(topics.IMAGE_CHANGES), partition)
        if home in self._app.consumer.assignment() and not self._unread.has(item_id.encode(), image_name(link)):
            self.vectors.begin(link)

    # What it tells of itself.

    def waiting_for(self) -> str | None:
        """Why the stage is not ready, in words; None when it is."""
        met = self._app is not None and self._app.rebalancing_count > 0 and not self._app.rebalancing
        return None if met else "the consumer group has not met yet"

    def status(self) -> dict[str, Any]:
        """Partitions held and requests in work."""
        held = sorted(tp.partition for tp in self._app.consumer.assignment()) if self._app else []
        return {"partitions": held, "in_work": len(self._handling), "model": self.vectors.model}

    def measure(self) -> None:
        """Bring the gauges of requests in work and waiting up to date."""
        topic, consumer = self._topic(topics.IMAGE_CHANGES), self._app.consumer if self._app else None
        if consumer:
            committed = getattr(consumer, "_committed_offset", {})
            lags = (max(0, (consumer.highwater(tp) or 0) - (committed.get(tp) or 0)) for tp in consumer.assignment())
            self.metrics.lag.labels("embed", topic).set(sum(lags))
        self.metrics.image_requests_waiting.set(len(self._handling))

    # A request.

    async def _result(self, event: Any, outbox: Outbox) -> Message:
        """The message of `item-embeddings` that answers a request; BadEvent when it is not one of ours."""
        if event.key is None or event.value is None:
            raise BadEvent("expected an item's id as key and an image request as value, got null")
        try:
            request = read_image_request(event.value)
        except msgspec.DecodeError as error:
            raise BadEvent(f"expected an image request: {error}") from error
        # Nothing was awaited so far, nor is until what comes of it is put there: an item's requests keep their order.
        earlier = self._unread.take(event.key, event.message.generation_id)
        if request.gone:
            return Message(event.key, None, [("kindred_writer", self.writer.encode())])
        unread: Images = {}
        making = [self._made(each, request, earlier, unread) for each in request.images]
        self._unread.put(event.key, unread)
        # Of one image by far the most are; gathering it would wait for three turns of the loop.
        images = [await making[0]] if len(making) == 1 else await asyncio.gather(*making)
        if reason := self.attempts.given_up(request.images, images):
            self._set_aside(outbox, event.message, Unavailable(reason))
        embedding = ItemEmbedding(request.image_version, self.vectors.model, tuple(images), self.writer)
        return Message(event.key, write_message(embedding))

    def _made(
        self, image: ImageEmbedding, request: ImageRequest, earlier: Images, unread: Images
    ) -> Coroutine[Any, Any, ImageEmbedding]:
        """What will come of an image; put into `unread` unless the request brings its vector along."""
        if image.vector and request.model == self.vectors.model:
            return self._carried(image)
        name = image.link if image.vector or image.error else image_name(image.link)
        made = unread[name] = asyncio.get_running_loop().create_future()
        return self._shared(made, self._image(image, name, earlier.get(name)))

    async def _carried(self, image: ImageEmbedding) -> ImageEmbedding:
        self.metrics.images.labels("carried").inc()
        return image

    async def _shared(
        self, made: asyncio.Future[ImageEmbedding], making: Coroutine[Any, Any, ImageEmbedding]
    ) -> ImageEmbedding:
        """What comes of an image, told to later requests that wait for it, too."""
        try:
            image = await making
        except BaseException:
            made.cancel()
            raise
        made.set_result(image)
        return image

    async def _image(
        self, image: ImageEmbedding, name: str, earlier: asyncio.Future[ImageEmbedding] | None
    ) -> ImageEmbedding:
        """An image with its vector, or with the reason why it has none."""
        known = await what_came(earlier)
        again = image.attempt > 0 and not image.error  # track asks a host again, knowing what came of it before
        if known and (known.vector or not again):
            return await self._carried(known)
        if image.error:
            return await self._carried(image)
        return await self.attempts.attempt(image, name)
