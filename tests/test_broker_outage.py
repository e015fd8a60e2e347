"""A broker that is away, at the start and later: waited for without a flood of log lines, nothing lost."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.brokers.apache_kafka import KafkaBroker
from tests.feed import Feed, names, send
from tests.installation import Installation, WorkerProcess, free_port
from tests.pictures import pictures_at_hand
from tests.waiting import wait_until, wait_until_sync

OUTAGE_S = 12.0
LINES_MAX = 60
"""Log lines of a worker over an outage and after it; aiokafka alone would write some 400 a second."""


@pytest.mark.needs_kafka
async def test_a_broker_that_is_away_is_waited_for(own_kafka: Callable[..., KafkaBroker], tmp_path: Path) -> None:
    """A worker starts when the broker does, survives 12 s without it, says that it is not ready, and loses nothing."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    feed = Feed(list(pictures_at_hand(pictures, 20)))
    items = names(40)
    broker = own_kafka()
    installation = Installation(broker.bootstrap, "outage-", tmp_path, image_root=str(pictures))
    broker.stop()
    worker = installation.worker()
    try:
        await wait_until(lambda: "does not answer" in worker.log.read_text(), 30, "the worker to miss its broker")
        await asyncio.to_thread(broker.start)
        await worker.ready()
        async with installation.shop() as shop:
            await send(shop, feed.mixed(feed.put(items), feed.levels_of(items, 300)))
            await feed.agreed(shop)
            await feed.answered(shop)
            lines = len(worker.log.read_text().splitlines())

            await send(shop, feed.mixed(feed.put(items[:20]), feed.levels_of(items, 500)))
            await asyncio.to_thread(broker.stop)
            stopped_s = time.monotonic()
            await page_is(worker, 503)
            late = asyncio.create_task(send(shop, feed.mixed(feed.put(items[15:30]), feed.levels_of(items, 500))))
            await wait_until(lambda: time.monotonic() > stopped_s + OUTAGE_S, OUTAGE_S + 1, "the outage to be over")
            await asyncio.to_thread(broker.start)
            await page_is(worker, 200)
            await late
            await send(shop, feed.mixed(feed.put(items[25:]), feed.delete(items[:5]), feed.levels_of(items, 500)))

            await feed.agreed(shop)
            await feed.answered(shop)
            assert not await shop.dead_letters()
            written = worker.log.read_text().splitlines()[lines:]
            assert len(written) < LINES_MAX, "\n".join(written)
            await send(shop, feed.mixed(feed.put(items[5:]), feed.levels_of(items, 2_000)))
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(worker.stop)
    finally:
        installation.close()


async def page_is(worker: WorkerProcess, code: int) -> None:
    """Wait for a status of `/readyz`."""

    def says_so() -> bool:
        assert worker.process.poll() is None, worker.tail()
        return worker.page("/readyz")[0] == code

    await wait_until(lambda: asyncio.to_thread(says_so), 30, lambda: f"/readyz to be {code}\n{worker.tail()}")


@pytest.fixture
def nobody() -> Iterator[tuple[str, list[float]]]:
    """An address where each connection is closed at once, and when there were any."""
    visits: list[float] = []
    with socket.create_server(("127.0.0.1", free_port())) as listener:

        def accept() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return
                visits.append(time.monotonic())

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", visits
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_no_broker_at_the_start(nobody: tuple[str, list[float]], tmp_path: Path) -> None:
    """A broker that does not come is asked again and again, told of once, and SIGTERM ends the waiting with 0."""
    address, visits = nobody
    installation = Installation(address, "nobody-", tmp_path)
    worker = installation.worker()
    try:
        wait_until_sync(lambda: len(visits) >= 6 or worker.process.poll() is not None, 60, "six attempts")
        assert worker.process.poll() is None, worker.tail()
        assert f"the broker {address} does not answer" in worker.log.read_text()
        worker.stop()
        assert len(worker.log.read_text().splitlines()) <= 3, worker.tail()
    finally:
        installation.close()
