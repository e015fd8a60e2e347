"""A worker that cannot start: the first error is what is seen, and nothing that stops behind it adds to it.

And one that cannot write at its stop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mode
import pytest

from models.embedder import SHIPPED, Embedder
from models.truth_messages import ImageEmbedding, ItemEmbedding, write_message
from models.vectors import pack_half
from streams import topics
from streams.connection import Connection
from streams.kafka.batch_consumer import BatchConsumer
from streams.kafka.outbox import Message, Outbox
from streams.kafka.take_over import Batches
from streams.metrics import Metrics
from streams.settings import Settings
from streams.stages import STAGES
from streams.worker import Front, Parts
from tests.brokers import TestBroker
from tests.installation import ROOT, Installation, free_port

SERVICES = ("index", "embed", "track", "serve", "watch", "rules")


class CannotStart(Exception):
    """What keeps a stage from starting."""


class Silent:
    """A client of which nothing can be asked."""

    async def stop(self) -> None:
        """It has nothing open."""

    def __getattr__(self, name: str) -> Any:
        raise CannotStart(name)


class Broken(Connection):
    """A connection that makes some clients and then no more."""

    def __init__(self, clients: int) -> None:
        super().__init__("127.0.0.1:1")
        object.__setattr__(self, "left", [Silent()] * clients)

    left: list[Any]

    async def started(self, make: Callable[[], Any], what: str) -> Any:
        if not self.left:
            raise CannotStart(what)
        return self.left.pop()


def made_stages(connection: Connection, folder: Path, names: Collection[str], **settings: Any) -> dict[str, Any]:
    """A worker's stages, made as a worker makes them, and not started."""
    set_to = Settings(broker=connection.broker, data=folder, web=f"127.0.0.1:{free_port()}", **settings)
    front = Front(set_to)
    Parts(set_to, connection, frozenset(names), None, "cluster", 0, front, Embedder(SHIPPED))
    return dict(front.health.stages)


def service(name: str, connection: Connection, folder: Path, **settings: Any) -> mode.Service:
    """One of a worker's services, made as a worker makes it, and not started."""
    stages = made_stages(connection, folder, STAGES, **settings)
    found = stages["serve"].rules if name == "rules" else stages[name]
    assert isinstance(found, mode.Service)
    return found


STARTS = [
    *((name, clients) for name in SERVICES for clients in (None, 0, 1)),
    *((name, 2) for name in ("track", "rules")),  # the others have theirs, or ask nothing of two before they poll
]


@pytest.mark.parametrize(("name", "clients"), STARTS)
async def test_a_stage_that_did_not_start_stops_in_silence(
    name: str, clients: int | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it was never started, or not all of its clients could be made, or asking one of them failed."""
    stage = service(name, Broken(clients or 0), tmp_path)
    if clients is not None:
        with pytest.raises(CannotStart):
            await stage.start()

    await stage.stop()

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_of_images_that_is_not_there_is_told(
    there: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, at the start, and it is no reason not to start: it may be mounted later."""
    images = tmp_path / "images"
    if there:
        images.mkdir()
    service("embed", Broken(0), tmp_path, image_root=images)

    told = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert [] == told if there else len(told) == 1
    assert there or f"KINDRED_IMAGE_ROOT: image folder {images} cannot be opened: No such file" in told[0]


@pytest.mark.parametrize("module", ["numpy", "aiohttp.client", "faust.worker", "onnxruntime"])
def test_a_worker_that_is_stopped_while_it_is_loaded_ends_with_0(module: str, tmp_path: Path) -> None:
    """SIGTERM comes as soon as `module` is imported, long before anything is started."""
    environment = os.environ | {
        "PYTHONPROFILEIMPORTTIME": "1",  # a line on standard error after each import
        "KINDRED_BROKER": "127.0.0.1:1",
        "KINDRED_DATA": str(tmp_path),
        "KINDRED_WEB": f"127.0.0.1:{free_port()}",
    }
    command = [sys.executable, "-m", "streams.commands", "worker"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        imported = (line.rpartition("|")[2].strip() for line in worker.stderr)
        come = any(each == module for each in itertools.takewhile(lambda each: each != "streams.worker", imported))
        worker.terminate()
        rest = worker.stderr.read()

    assert come, "everything was loaded, and it was not"
    assert worker.returncode == 0
    assert "Traceback" not in rest


class Joining:
    """A client that keeps what it subscribes to, in place of all of a stage's."""

    def __init__(self) -> None:
        self.subscribed: list[Any] = []

    def subscribe(self, topics: Any, **_: Any) -> None:
        self.subscribed.append(topics)

    async def stop(self) -> None:
        """It has nothing open."""


class Preparing(BatchConsumer):
    """A stage that is stopped before what it needs is there."""

    async def prepare(self) -> None:
        while not self.should_stop:
            await self.sleep(0.01)

    async def process(self, batches: Batches) -> None:
        """Nothing comes."""


def test_a_stop_that_comes_while_an_object_is_destroyed_is_not_lost() -> None:
    """Python swallows what is raised there, so the stop of a worker that is not up yet may not be an exception."""
    code = """
import os, signal, sys
from streams.worker import _stop_before_start

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1_000):
            pass

signal.signal(signal.SIGTERM, _stop_before_start)
Last()
sys.exit(3)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


async def test_a_stage_that_is_stopped_before_it_began_joins_no_group() -> None:
    """Joining would take partitions from those who work, and give them back at once."""
    client = Joining()
    connection = SimpleNamespace(started=lambda make, what: asyncio.sleep(0, client), producer=None)
    stage = Preparing(connection, Settings(broker="none:1"), Metrics(), lambda: 0, "serve", ["a topic"], 1)  # type: ignore[arg-type]
    await stage.start()

    await stage.stop()

    assert [] == client.subscribed


class Closing:
    """A shard of which the last checkpoint may fit on the disk or not."""

    def __init__(self, fits: bool) -> None:
        self.fits, self.closed = fits, False

    def close(self) -> None:
        if not self.fits:
            raise OSError(28, "No space left on device")
        self.closed = True


async def test_a_full_disk_costs_one_shard_its_last_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are written all the same, and a line says which was not."""
    index: Any = service("index", Broken(0), tmp_path)
    shards = [Closing(fits) for fits in (True, False, True)]
    index.shards = dict(enumerate(shards))

    await index.on_stop()

    assert [True, False, True] == [shard.closed for shard in shards]
    assert ["the checkpoint of shard 1 is not written"] == [each.getMessage()[:40] for each in caplog.records]


async def test_what_keeps_a_worker_from_starting_is_its_one_error(
    broker: TestBroker, topic_prefix: str, tmp_path: Path
) -> None:
    """Embeddings of another model are on the topic: one line says so, no traceback, status 1."""
    installation = Installation(broker.bootstrap, topic_prefix, tmp_path, shards="1", log_format="text")
    table = topics.topic_table(installation.settings())
    connection = Connection(broker.bootstrap, embedded=broker.embedded is not None)
    if broker.embedded is None:
        await topics.ensure_topics(connection, table)
    else:
        await broker.create_topics({each.name: each.partitions for each in table})
    producer = await connection.started(connection.producer, "test")
    outbox = Outbox(producer)
    theirs = ItemEmbedding(1, "other@0", (ImageEmbedding("1.jpg", vector=pack_half([1.0, 0.0])),))
    outbox.put(topic_prefix + topics.ITEM_EMBEDDINGS, 0, Message(b"item", write_message(theirs)))
    await outbox.deliver()
    await producer.stop()

    try:
        worker = installation.worker("--stage", "track", "--stage", "embed")
        code = worker.process.wait(60)
    finally:
        installation.close()

    log = worker.log.read_text()
    # aiokafka has its own words for a coordinator that is still being found.
    errors = re.findall(r"^.* (?:WARNING|ERROR|CRITICAL) +(?![ ]|aiokafka).*$", log, re.MULTILINE)
    assert code == 1, log
    assert len(errors) == 1, log
    assert "the worker stops: " in errors[0]
    assert "holds vectors of the model other@0 (2 dimensions), this worker has" in errors[0]
    assert "Traceback" not in log


def test_stages_of_one_worker_know_of_each_other(tmp_path: Path) -> None:
    """Track tells embed what comes, where both are; all see when the others have work for the loop."""
    together = made_stages(Connection("127.0.0.1:1"), tmp_path, STAGES)
    alone = made_stages(Connection("127.0.0.1:1"), tmp_path, ["track"])

    assert together["track"].ahead == together["embed"].ahead
    assert alone["track"].ahead is None
    assert len({id(together[name].turns) for name in ("index", "embed", "track", "serve")}) == 1
