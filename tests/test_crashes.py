"""Workers that are killed, stopped, paused, or crash: nothing is lost, nothing old comes back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web

from models.embedder import SHIPPED, Embedder
from models.image import encode_jpeg
from streams import topics
from streams.client import NoReply
from tests.brokers import TestBroker
from tests.feed import Feed, names, send
from tests.installation import Installation, Shop, WorkerProcess
from tests.pictures import pictures_at_hand
from tests.test_embedder import graph, model
from tests.waiting import wait_until

pytestmark = pytest.mark.needs_kafka

PICTURES = 40
SHORT_SESSION = {"session_timeout_s": "3", "heartbeat_s": "0.7"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder of pictures and their links."""
    folder = tmp_path_factory.mktemp("pictures")
    return folder, list(pictures_at_hand(folder, PICTURES))


@pytest.fixture
def install(
    broker: TestBroker, topic_prefix: str, tmp_path: Path, pictures: tuple[Path, list[str]]
) -> Iterator[Callable[..., Installation]]:
    """Makes the installation of a test; its workers end with the test."""
    made: list[Installation] = []

    def make(**settings: str) -> Installation:
        made.append(Installation(broker.bootstrap, topic_prefix, tmp_path, image_root=str(pictures[0]), **settings))
        return made[-1]

    yield make
    for installation in made:
        installation.close()


async def two_workers(installation: Installation) -> tuple[WorkerProcess, WorkerProcess]:
    """Two workers that have found each other."""
    one, two = installation.worker(), installation.worker()
    await asyncio.gather(one.ready(), two.ready())

    def halves() -> bool:
        return all(owned(worker, stage) == 2 for worker in (one, two) for stage in ("track", "embed", "serve"))

    await wait_until(lambda: asyncio.to_thread(halves), 30, "each worker to have half of the partitions")
    return one, two


def owned(worker: WorkerProcess, stage: str) -> int:
    """Partitions of the topic that a stage has most to do with."""
    held = worker.status().get("stages", {}).get(stage, {}).get("partitions", ())
    return max(map(len, held.values()), default=0) if isinstance(held, dict) else len(held)


async def at_work(worker: WorkerProcess, events: int, images: int) -> None:
    """Wait until a worker is in the middle of a feed."""

    def busy() -> bool:
        return worker.metric("kindred_events_total", stage="track") >= events and (
            worker.metric("kindred_images_total") >= images
        )

    await wait_until(lambda: asyncio.to_thread(busy), 30, lambda: f"a worker at work\n{worker.tail()}")


async def test_killed_in_the_middle_of_a_feed(
    install: Callable[..., Installation], pictures: tuple[Path, list[str]]
) -> None:
    """kill -9 of one of two workers: the other ends with everything, as new as it was sent, and answers requests."""
    installation = install(**SHORT_SESSION)
    feed = Feed(pictures[1], seed=1)
    items = names(200)
    async with installation.shop() as shop:
        killed, survivor = await two_workers(installation)
        await send(shop, feed.mixed(feed.put(items), feed.levels_of(items, 1_000)))
        await at_work(killed, 1, 1)
        asked = [asyncio.create_task(shop.client.ask({"objectID": item_id}, timeout_s=30)) for item_id in items[:40]]
        await send(shop, feed.mixed(feed.put(items[:60]), feed.levels_of(items, 500)))
        killed.kill()
        changes = feed.mixed(feed.reprice(items[40:90]), feed.put(items[90:120]), feed.delete(items[150:170]))
        await send(shop, feed.mixed(changes, feed.levels_of(items, 1_000)))
        await send(shop, feed.put([*items[150:155], *names(5, 300)]))

        await feed.agreed(shop)
        await feed.answered(shop)
        replies = await asyncio.gather(*asked, return_exceptions=True)
        assert not [reply for reply in replies if isinstance(reply, NoReply)]
        assert owned(survivor, "track") == 4
        assert not await shop.dead_letters()


async def test_stopped_in_the_middle_of_embedding(install: Callable[..., Installation]) -> None:
    """Five SIGTERMs in the middle of embedding: each ends the worker with 0 in time, and no image is left out."""
    stops, at_a_time = 5, 24
    items = names(stops * at_a_time + 40)
    async with picture_host() as host:
        installation = install(image_hosts="127.0.0.1", image_timeout_s="60")
        async with installation.shop() as shop:
            feed = Feed([host.link(number) for number in range(len(items))])
            await send(shop, feed.put(items))
            for _ in range(stops):
                worker = installation.worker()
                host.serve(at_a_time)
                await at_work(worker, 0, at_a_time // 2)
                await asyncio.to_thread(worker.stop)
            assert len(await shop.last(topics.ITEM_EMBEDDINGS)) < len(items), "the last stop was not in the middle"
            host.serve(100_000)
            await installation.worker().ready()

            await feed.agreed(shop)
            assert not await shop.dead_letters()


async def test_rebalances_in_the_middle_of_embedding(install: Callable[..., Installation], tmp_path: Path) -> None:
    """Workers that come, leave and are killed while images are embedded lose none of them."""
    items = names(1_800)
    async with picture_host() as host:
        tiny = str(model(tmp_path, graph("Flatten")))
        installation = install(image_hosts="127.0.0.1", image_timeout_s="60", model=tiny, **SHORT_SESSION)
        async with installation.shop() as shop:
            installation.worker("--stage", "track")
            steady = await installation.worker("--stage", "embed").ready()
            feed = Feed([host.link(number) for number in range(len(items))])
            host.serve(100)
            await send(shop, feed.put(items))
            for leave in (WorkerProcess.stop, WorkerProcess.kill):
                guest = installation.worker("--stage", "embed")

                turns = itertools.count()

                async def works(guest: WorkerProcess = guest, turns: Iterator[int] = turns) -> bool:
                    # Always some, so that a rebalance never finds everybody idle, yet not all before a slow guest came.
                    host.serve(3 * (next(turns) % 10 == 0))
                    return await asyncio.to_thread(guest.metric, "kindred_images_total") >= 5

                await wait_until(works, 60, guest.tail)
                await asyncio.to_thread(leave, guest)
                host.serve(100)
            host.serve(100_000)

            await feed.agreed(shop)
            assert owned(steady, "embed") == 4
            assert not await shop.dead_letters()


class PictureHost:
    """A host of pictures, each unlike all others, that serves only as many as it was told to; the rest waits."""

    def __init__(self) -> None:
        self.port = 0
        self._turns = asyncio.Semaphore(0)

    def link(self, number: int) -> str:
        """The link of a picture."""
        return f"http://127.0.0.1:{self.port}/{number}.jpg"

    def serve(self, count: int) -> None:
        """Serve so many more."""
        for _ in range(count):
            self._turns.release()

    async def answer(self, request: web.Request) -> web.Response:
        """A picture, when it is its turn."""
        number = int(request.match_info["number"])
        await self._turns.acquire()
        noise = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        return web.Response(body=encode_jpeg(np.kron(noise, np.ones((8, 8, 1), dtype=np.uint8))))


@contextlib.asynccontextmanager
async def picture_host() -> AsyncIterator[PictureHost]:
    """A host of pictures on loopback.  A request whose asker is gone gives up its turn."""
    host = PictureHost()
    application = web.Application()
    application.router.add_get(r"/{number:\d+}.jpg", host.answer)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host.port = runner.addresses[0][1]
        yield host
    finally:
        await runner.cleanup()


async def test_paused_past_its_session(install: Callable[..., Installation], pictures: tuple[Path, list[str]]) -> None:
    """A worker that was paused while another took its place brings nothing old back when it wakes."""
    installation = install(**SHORT_SESSION)
    feed = Feed(pictures[1], seed=3)
    items = names(120)
    async with installation.shop() as shop:
        paused, other = await two_workers(installation)
        await send(shop, feed.mixed(feed.put(items), feed.levels_of(items, 4_000)))
        await at_work(paused, 1, 1)
        paused.signal(signal.SIGSTOP)
        changes = feed.mixed(feed.reprice(items[:40]), feed.put(items[40:80]), feed.delete(items[80:100]))
        await send(shop, feed.mixed(changes, feed.levels_of(items, 4_000)))
        await send(shop, feed.put(items[80:85]))
        await feed.agreed(shop)
        assert owned(other, "track") == 4

        paused.signal(signal.SIGCONT)
        await wait_until(lambda: asyncio.to_thread(owned, paused, "track"), 30, paused.tail)
        await send(shop, feed.mixed(feed.reprice(items[:10]), feed.put(items[100:110]), feed.levels_of(items, 1_000)))
        await settled(shop)
        await feed.agreed(shop, 20)
        await feed.answered(shop)
        assert not await shop.dead_letters()


async def settled(shop: Shop) -> None:
    """Wait until the groups have nothing left to do: all that they read is committed to its end."""
    admin = shop.connection.admin()
    await admin.start()
    try:
        for group in ("kindred-track", "kindred-embed"):

            async def done(group: str = group) -> bool:
                committed = await admin.list_consumer_group_offsets(shop.topic(group))
                ends = await shop.ends(committed)
                return bool(committed) and all(each.offset >= ends[tp] for tp, each in committed.items())

            await wait_until(done, 30, f"{group} to have read everything")
    finally:
        await admin.close()


async def test_a_worker_that_leaves_is_replaced_at_once(
    install: Callable[..., Installation], pictures: tuple[Path, list[str]]
) -> None:
    """Two workers share the work of every stage; when one is told to stop, the other does not wait for a session."""
    installation = install(session_timeout_s="120", heartbeat_s="1")
    feed = Feed(pictures[1], seed=8)
    items = names(60)
    async with installation.shop() as shop:
        one, two = await two_workers(installation)
        await send(shop, feed.mixed(feed.put(items), feed.levels_of(items, 500)))
        await asyncio.gather(at_work(one, 1, 1), at_work(two, 1, 1))
        await feed.agreed(shop)
        await feed.answered(shop)
        await asyncio.gather(*(shop.client.ask({"objectID": item_id}, timeout_s=20) for item_id in items))
        assert one.metric("kindred_requests_total") > 0
        assert two.metric("kindred_requests_total") > 0

        await send(shop, feed.mixed(feed.put(items[:30]), feed.levels_of(items, 500)))
        await asyncio.to_thread(one.stop)
        await send(shop, feed.mixed(feed.put(items[30:]), feed.delete(items[:5]), feed.levels_of(items, 500)))

        await feed.agreed(shop, 30)
        await feed.answered(shop)
        assert owned(two, "track") == owned(two, "embed") == owned(two, "serve") == 4


async def test_another_model_ends_the_worker(
    install: Callable[..., Installation], pictures: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """A worker whose model is not that of the embeddings ends with a status other than 0 and names both models."""
    installation = install()
    feed = Feed(pictures[1], seed=9)
    async with installation.shop() as shop:
        first = await installation.worker().ready()
        await send(shop, feed.put(names(3)))
        await feed.agreed(shop)
        await asyncio.to_thread(first.stop)
        tiny = model(tmp_path, graph("Flatten"))

        other = installation.worker(model=str(tiny))
        code = await wait_until(lambda: asyncio.to_thread(ended, other), 30, "the worker to end")

        assert code not in (0, -signal.SIGKILL)
        text = other.log.read_text()
        for path in (SHIPPED, tiny):
            assert Embedder(path).model in text
        await feed.agreed(shop, 5)


def ended(worker: WorkerProcess) -> int | None:
    """The status with which a worker ended."""
    return worker.process.poll()


async def test_a_folder_of_data_has_one_worker(install: Callable[..., Installation]) -> None:
    """A second worker with the same KINDRED_DATA ends with a status other than 0 and says why; the first goes on."""
    installation = install()
    first = await installation.worker(data="shared").ready()

    second = installation.worker(data="shared")
    code = await wait_until(lambda: asyncio.to_thread(ended, second), 30, "the second worker to end")

    assert code not in (0, -signal.SIGKILL)
    assert "is in use by another worker" in second.log.read_text()
    await first.ready()
    await asyncio.to_thread(first.stop)


async def test_stopped_while_it_starts(install: Callable[..., Installation]) -> None:
    """SIGTERM ends a worker with 0 at any moment of its start."""
    installation = install()
    moments: list[Callable[[WorkerProcess], bool]] = [
        lambda worker: "created the topic" in worker.log.read_text(),
        lambda worker: worker.page("/livez")[0] != 0,
        lambda worker: "is built from the topics" in worker.log.read_text(),
        lambda worker: "took over" in worker.log.read_text(),
    ]
    for moment in moments:
        worker = installation.worker()

        def come(worker: WorkerProcess = worker, moment: Callable[[WorkerProcess], bool] = moment) -> bool:
            assert worker.process.poll() is None, worker.tail()
            return moment(worker)

        await wait_until(lambda: asyncio.to_thread(come), 30, worker.tail)
        await asyncio.to_thread(worker.stop)
