"""The embed stage without a broker: what is fetched when requests come before the results of others were read back.

The tracker is the real one; the topics are lists, and the test says when what stands on them is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from hypothesis import given, settings
from hypothesis import strategies as st

from models.change_events import CatalogChange
from models.errors import BadEvent, Unavailable
from models.record import AttributeNames, RecordLimits
from models.tracker import Tracker
from models.tracker_recovery import read_embedding
from models.truth_messages import (
    ImageEmbedding,
    ImageRequest,
    ItemEmbedding,
    read_item_embedding,
    write_message,
)
from streams.embed.image_attempts import ImageAttempts
from streams.embed.silent_hosts import HostRests
from streams.embed.stage import Embed
from streams.embed.unread_images import UnreadImages
from streams.embed.vectors import Embedded, Packed
from streams.kafka.turns import CHANGE_MESSAGES_MAX, Turns
from streams.metrics import Metrics
from streams.settings import Settings
from tests.waiting import wait_until

T = 1_700_000_000_000
"""Some time, Unix ms."""
A, B, C = (f"http://pictures/{name}.jpg" for name in "abc")
DATA = "data:image/png;base64,AAAA"


class Pictures:
    """Vectors by link, counted; a link can be held, and can fail."""

    model = "model@1"

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.begun: list[str] = []
        self.held: dict[str, asyncio.Event] = {}
        self.failing: dict[str, Exception] = {}

    def begin(self, link: str) -> None:
        self.begun.append(link)

    async def of_link(self, link: str) -> Embedded:
        self.asked[link] += 1
        vector = f"{link} as it was the {self.asked[link]}. time"
        if held := self.held.get(link):
            await held.wait()
        else:
            await asyncio.sleep(0)
        if error := self.failing.get(link):
            raise error
        return Embedded("digest", Packed(vector, "colour"), "embedded", "")


class Batch:
    """A batch of a topic that takes everything."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def extend(self, messages: Iterable[Any], now_ms: int) -> int:
        before = len(self.messages)
        self.messages += messages
        return len(self.messages) - before

    def close(self) -> None:
        """Nothing more comes."""


class Topics:
    """A producer whose topics are lists; deliveries can be held, or refused for good."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Any]] = defaultdict(list)
        self.open = asyncio.Event()
        self.open.set()
        self.refusal: Exception | None = None

    create_batch = staticmethod(Batch)

    def send_now(self, batches: Sequence[Any]) -> list[None]:
        return [None] * len(batches)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        await self.open.wait()
        if self.refusal:
            raise self.refusal
        self.logs[topic] += batch.messages
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(SimpleNamespace(offset=0))
        return done


class Stream:
    """The agent's stream: what was put comes, what was acknowledged is told by its offset."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[Any] = asyncio.Queue()
        self.acknowledged: list[int] = []
        self._offsets = itertools.count()

    def put(self, item_id: str, request: bytes, generation: int) -> None:
        place = TopicPartition("image-changes", 0)
        message = SimpleNamespace(tp=place, offset=next(self._offsets), generation_id=generation)
        message.__dict__.update(topic=place.topic, partition=0, key=item_id.encode(), value=request, headers=())
        message.timestamp = T / 1000  # Faust counts in seconds
        self.waiting.put_nowait(SimpleNamespace(key=message.key, value=request, message=message))

    async def events(self) -> AsyncIterator[Any]:
        while True:
            yield await self.waiting.get()

    async def ack(self, event: Any) -> None:
        self.acknowledged.append(event.message.offset)


class Stage:
    """A tracker, the embed stage behind it, and the topics between them."""

    def __init__(self, **more: str) -> None:
        self.tracker = Tracker("me", AttributeNames.parse(""), RecordLimits(), 5)
        self.pictures, self.topics, self.stream = Pictures(), Topics(), Stream()
        environment = {f"KINDRED_{name.upper()}": value for name, value in more.items()}
        settings = Settings.read(environment | {"KINDRED_BROKER": "none:1"})
        self.embed = Embed(None, settings, Metrics(), "me", lambda: T, self.pictures, Turns())  # type: ignore[arg-type]
        self.embed.producer = self.topics  # type: ignore[assignment]
        self.embed._connected.set()
        self.generation = 1
        self.embed._generation = lambda: self.generation  # type: ignore[method-assign]
        self.asked = 0
        self._read = 0
        self._times = itertools.count(T)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The agent takes what comes; stopped at the end as the service is."""
        agent = asyncio.ensure_future(self.embed._agent(self.stream))
        try:
            yield
        finally:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)
            await self.embed.on_stop()

    def catalog(self, *links: str, item_id: str = "item") -> None:
        """A record with these images comes to track; what it asks for comes to embed."""
        self.change(item_id, {"images": list(links)})

    def delete(self, item_id: str = "item") -> None:
        self.change(item_id, None)

    def change(self, item_id: str, attributes: dict[str, Any] | None) -> None:
        now_ms = next(self._times)
        self.tracker.catalog(CatalogChange(item_id, attributes), now_ms, now_ms)
        self.ask_due(now_ms)

    def ask_due(self, now_ms: int) -> None:
        for item_id, request in self.tracker.take(now_ms).image_requests:
            self.request(item_id, request)

    def request(self, item_id: str, request: ImageRequest) -> None:
        self.asked += 1
        self.stream.put(item_id, write_message(request), self.generation)

    @property
    def results(self) -> list[dict[str, ImageEmbedding] | None]:
        """Images by link, result by result; None is a tombstone."""
        return [
            None if each.value is None else {image.link: image for image in read_item_embedding(each.value).images}
            for each in self.topics.logs["item-embeddings"]
        ]

    async def settled(self) -> list[dict[str, ImageEmbedding] | None]:
        """The results, once there is one for each request."""
        await wait_until(lambda: len(self.stream.acknowledged) == self.asked, 10, "the results of all requests")
        return self.results

    def read_back(self, count: int | None = None) -> None:
        """Track reads as many more of the results as it is told, else all; what it then asks for comes to embed."""
        log = self.topics.logs["item-embeddings"]
        for message in log[self._read : None if count is None else self._read + count]:
            self._read += 1
            value = None if message.value is None else read_item_embedding(message.value)
            read_embedding(self.tracker, message.key.decode(), value, T)
        self.ask_due(T)


def vectors(*results: dict[str, ImageEmbedding] | None) -> list[dict[str, str | None] | None]:
    """Vectors by link, for each result."""
    return [None if each is None else {link: image.vector for link, image in each.items()} for each in results]


async def test_a_result_that_was_not_read_back_is_not_made_again() -> None:
    """Another image is asked for before track has read the first one's vector: only the other one is fetched."""
    stage = Stage()
    async with stage.running():
        stage.catalog(A)
        (first,) = await stage.settled()
        stage.catalog(A, B)
        _, both = await stage.settled()
        stage.catalog(B)
        *_, last = await stage.settled()

        assert stage.pictures.asked == {A: 1, B: 1}
        assert both is not None
        assert vectors(first) == [{A: both[A].vector}]
        assert vectors(last) == [{B: both[B].vector}]

        stage.read_back()
        assert stage.asked == 3, "track has nothing to ask for when it has read all"
        stage.catalog(B, C)
        assert await stage.settled()
        assert stage.pictures.asked == {A: 1, B: 1, C: 1}


async def test_an_image_in_work_is_not_fetched_again() -> None:
    """Another image is asked for while the host of the first is slow: both wait for the one fetch, results in order."""
    stage = Stage()
    async with stage.running():
        stage.pictures.held[A] = asyncio.Event()
        stage.catalog(A)
        stage.catalog(A, B)
        stage.catalog(A, B, C)
        await wait_until(lambda: stage.pictures.asked == {A: 1, B: 1, C: 1}, 10, "what is new of each")
        assert stage.results == []

        stage.pictures.held[A].set()
        results = await stage.settled()

    assert [list(each or ()) for each in results] == [[A], [A, B], [A, B, C]]
    assert len({str(each[A]) for each in results if each}) == 1
    assert stage.pictures.asked == {A: 1, B: 1, C: 1}


async def test_what_an_image_was_refused_for_is_carried_over_too() -> None:
    """A picture that cannot be used is not looked at again for a request that does not know it yet."""
    stage = Stage()
    async with stage.running():
        stage.pictures.failing[A] = BadEvent("no picture")
        stage.catalog(A)
        stage.catalog(A, B)
        _, both = await stage.settled()

    assert both is not None
    assert both[A].error == "no picture"
    assert stage.pictures.asked == {A: 1, B: 1}


async def test_a_host_that_fails_is_asked_again_only_when_it_is_due() -> None:
    """A request that does not know of the failure leaves the next attempt where it was; track's own asks again."""
    stage = Stage(image_retry_s="10")
    async with stage.running():
        stage.pictures.failing[A] = Unavailable("away")
        stage.catalog(A)
        stage.catalog(A, B)
        first, both = await stage.settled()
        assert first is not None
        assert both is not None
        assert first[A] == both[A]
        assert (both[A].attempt, both[A].retry_at) == (1, T + 10_000)
        assert stage.pictures.asked == {A: 1, B: 1}

        stage.read_back()
        stage.tracker.advance(T + 10_000)
        stage.ask_due(T + 10_000)
        *_, again = await stage.settled()
        assert again is not None
        assert again[A].attempt == 2
        assert stage.pictures.asked == {A: 2, B: 1}

        del stage.pictures.failing[A]
        stage.read_back()
        stage.tracker.advance(T + 60_000)
        stage.ask_due(T + 60_000)
        stage.catalog(A, B, C)  # track knows of the second failure only
        *_, found, last = await stage.settled()

    assert vectors(found) == [{link: vector for link, vector in vectors(last)[0].items() if link != C}]  # type: ignore[union-attr]
    assert found is not None
    assert found[A].vector
    assert stage.pictures.asked == {A: 3, B: 1, C: 1}


async def test_a_host_that_is_left_alone_was_not_asked() -> None:
    """Its images come again after its rest, as often as it takes: they are not given up without having been asked for.

    But later each time, or all pictures of a host that is gone for good would be asked for every minute for ever.
    """
    stage = Stage(image_retry_s="2", image_attempts_max="2")
    async with stage.running():
        stage.pictures.failing[A] = HostRests("it has not answered lately", 10)
        stage.catalog(A)
        delays_s = [10, 10, 10, 16, 32, 64]
        for rests, delay_s in enumerate(delays_s, start=1):
            *_, found = await stage.settled()
            assert found is not None
            assert (found[A].attempt, found[A].rests, found[A].retry_at) == (rests, rests, T + delay_s * 1000)
            assert stage.pictures.asked == {A: rests}
            stage.read_back()
            stage.tracker.advance(T + delay_s * 1000)
            stage.ask_due(T + delay_s * 1000)
        assert not stage.topics.logs["dead-letters"]

        await stage.settled()
        stage.pictures.failing[A] = Unavailable("away")
        stage.read_back()
        stage.tracker.advance(T + 128_000)
        stage.ask_due(T + 128_000)
        *_, given_up = await stage.settled()

    assert given_up is not None
    assert (given_up[A].attempt, given_up[A].rests, given_up[A].retry_at) == (8, 7, None)
    (letter,) = stage.topics.logs["dead-letters"]
    assert dict(letter.headers)["kindred_reason"].endswith(b"away (asked once, and left alone 7 times)")


async def test_pauses_grow_up_to_an_hour() -> None:
    """However long a host rests."""
    pictures: Any = Pictures()
    pictures.failing[A] = HostRests("it rests", 1)
    attempts = ImageAttempts(Settings(), Metrics(), lambda: T, pictures)
    for attempt, pause_s in ((1, 2), (11, 2048), (12, 3600), (5_000, 3600)):
        tried = await attempts.attempt(ImageEmbedding(A, attempt=attempt - 1), A)

        assert (attempt, T + pause_s * 1000) == (tried.attempt, tried.retry_at)


@pytest.mark.parametrize("between", ["removed", "deleted"])
async def test_an_image_that_comes_back_is_fetched_anew(between: str) -> None:
    """An image that an item had before its last record is no longer known, as if that had been read back."""
    stage = Stage()
    async with stage.running():
        stage.catalog(A)
        if between == "removed":
            stage.catalog(B)
        else:
            stage.delete()
        stage.catalog(A)
        results = await stage.settled()

    assert stage.pictures.asked[A] == 2
    assert vectors(results[0], results[2]) == [
        {A: f"{A} as it was the 1. time"},
        {A: f"{A} as it was the 2. time"},
    ]


@pytest.mark.parametrize("sent", [True, False])
async def test_nothing_is_kept_over_a_rebalance(sent: bool) -> None:
    """In another generation of the group a request is done from its beginning, whether its result was sent or not."""
    stage = Stage()
    async with stage.running():
        stage.catalog(A)
        await wait_until(lambda: stage.pictures.asked == {A: 1})
        if sent:
            await stage.settled()
        else:
            stage.topics.open.clear()
        request = write_message(ImageRequest(T, (ImageEmbedding(A), ImageEmbedding(B))))

        await stage.embed._forget()
        assert len(stage.embed._unread) == 0
        stage.stream.put("item", request, stage.generation)  # taken before the rebalance, handled within it
        await wait_until(lambda: stage.pictures.asked == {A: 2, B: 1})
        stage.generation += 1
        stage.stream.put("item", request, stage.generation)
        await wait_until(lambda: stage.pictures.asked == {A: 3, B: 2})
        stage.topics.open.set()
        results = await wait_until(lambda: stage.results if len(stage.results) == 3 else None)

    assert list(results[-1] or ()) == [A, B]


async def test_a_stop_before_delivery_acknowledges_nothing() -> None:
    """What was taken over from an earlier request is not taken for written: stopped in work, both come again whole."""
    stage = Stage()
    async with stage.running():
        stage.topics.open.clear()
        stage.catalog(A)
        stage.catalog(A, B)
        await wait_until(lambda: stage.pictures.asked == {A: 1, B: 1})
    assert stage.stream.acknowledged == []
    assert stage.results == []

    successor = Stage()
    async with successor.running():
        successor.catalog(A)
        successor.catalog(A, B)
        results = await successor.settled()
    assert [list(each or ()) for each in results] == [[A], [A, B]]


async def test_a_result_that_no_topic_accepts_ends_the_worker() -> None:
    """Nobody would be told otherwise: its request stays unacknowledged, and with it all that come after it."""
    stage = Stage()
    stage.topics.refusal = MessageSizeTooLargeError()
    async with stage.running():
        stage.catalog(A)
        await wait_until(lambda: stage.embed.crash_reason is stage.topics.refusal)

    assert stage.stream.acknowledged == []


def test_as_many_images_as_fit_are_remembered() -> None:
    """Those of the items that have not been asked for the longest are forgotten; taken ones are."""
    with asyncio.Runner() as runner:
        future = runner.get_loop().create_future
        unread = UnreadImages(images_max=3)
        one, two, three = ({name: future() for name in names} for names in ("ab", "c", "de"))
        for key, images in ((b"1", one), (b"2", two), (b"3", three)):
            assert unread.take(key, 1) == {}
            unread.put(key, images)

        assert len(unread) == 3
        assert unread.take(b"1", 1) == {}
        assert unread.take(b"2", 1) == two
        assert unread.take(b"2", 1) == {}
        assert len(unread) == 2
        assert unread.take(b"3", 2) == {}, "of another generation"
        assert len(unread) == 0


EVENT = st.none() | st.sets(st.sampled_from((A, B, C))).map(sorted)
"""A delete, or a record with these images."""


@settings(max_examples=60)
@given(st.lists(st.tuples(EVENT, st.integers(0, 3), st.integers(0, 2)), max_size=8))
def test_whatever_is_read_back_when_nothing_is_fetched_twice(events: Sequence[tuple[Any, int, int]]) -> None:
    """However late results come and are read back: each image is fetched at most once for each time it was added.

    In the end every image that the item has stands on the topic with its vector, and track knows it and asks no more.
    """

    async def run() -> None:
        stage = Stage()
        async with stage.running():
            for links, turns, read in events:
                stage.change("item", None if links is None else {"images": list(links)})
                for _ in range(turns * 3):
                    await asyncio.sleep(0)
                stage.read_back(read)
            await stage.settled()
            while stage._read < len(stage.results):
                stage.read_back()
                await stage.settled()

            has = [set(links or ()) for links, _, _ in events]
            added: Counter[str] = Counter()
            for before, after in itertools.pairwise([set(), *has]):
                added.update(after - before)
            assert not stage.pictures.asked - added
            last = has[-1] if has else set()
            assert last <= stage.pictures.asked.keys()
            known = stage.tracker.items.get("item")
            if last:
                assert known is not None
                assert isinstance(known.embedding, ItemEmbedding)
                assert {image.link for image in known.embedding.images if image.vector} == last
                assert set(stage.results[-1] or ()) == last

    asyncio.run(run())


def _app(*partitions: int, rebalancing: bool = False) -> Any:
    """What the stage asks of Faust: the partitions of image requests that this worker has."""
    held = {TopicPartition("image-changes", partition) for partition in partitions}
    consumer = SimpleNamespace(assignment=lambda: held)
    return SimpleNamespace(rebalancing_count=1, rebalancing=rebalancing, consumer=consumer, consumer_generation_id=1)


def _asked(*images: ImageEmbedding, gone: bool = False) -> ImageRequest:
    return ImageRequest(1, images, gone=gone)


async def test_a_picture_is_begun_while_its_request_is_on_its_way() -> None:
    """The first that has to be fetched, if the request is to come to this worker, and nothing is known of it here."""
    stage = Stage()
    known, refused = ImageEmbedding(A, vector="v"), ImageEmbedding(B, error="no picture")
    new = ImageEmbedding(C)
    begun = stage.pictures.begun

    stage.embed.ahead(0, "item", _asked(new))
    assert begun == [], "nobody has joined the group yet"
    stage.embed._app = _app(0, rebalancing=True)
    stage.embed.ahead(0, "item", _asked(new))
    assert begun == [], "it is about to be somebody else's, maybe"
    stage.embed._app = _app(0, 2)
    stage.embed.ahead(1, "item", _asked(new))
    stage.embed.ahead(0, "item", _asked(known, refused))
    stage.embed.ahead(0, "item", _asked(gone=True))
    assert begun == []
    stage.embed.ahead(2, "item", _asked(known, refused, new, ImageEmbedding(A)))
    assert begun == [C]

    async with stage.running():
        stage.catalog(A)
        await stage.settled()
        stage.embed.ahead(0, "item", _asked(ImageEmbedding(A)))
        assert begun == [C], "its vector has only not been read back yet"
        stage.embed.ahead(0, "other", _asked(ImageEmbedding(A)))
        assert begun == [C, A]
        stage.catalog(DATA)
        await stage.settled()
        stage.embed.ahead(0, "item", _asked(ImageEmbedding(DATA), ImageEmbedding(B)))
        assert begun == [C, A], "it has another name than its link"
        stage.embed.ahead(0, "item", _asked(ImageEmbedding(B)))
        assert begun == [C, A, B]
    stage.embed._stopped.set()
    stage.embed.ahead(0, "item", _asked(new))
    assert begun == [C, A, B], "its request comes to somebody else"
    stage.embed._app = None


async def test_only_few_pictures_at_once_are_changes_that_requests_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load of pictures is a feed, though each is delivered by itself."""
    stage = Stage()
    told: list[int] = []
    monkeypatch.setattr(stage.embed.turns, "changed", told.append)
    many = 2 * CHANGE_MESSAGES_MAX
    held = stage.pictures.held[B] = asyncio.Event()

    async with stage.running():
        stage.catalog(A)
        await stage.settled()
        for number in range(many):
            stage.catalog(B, item_id=f"item-{number}")
        await wait_until(lambda: stage.pictures.asked[B] == many)
        held.set()
        await stage.settled()

    assert told[0] == 1
    assert min(told[1:CHANGE_MESSAGES_MAX]) > CHANGE_MESSAGES_MAX
