"""Every program of docs/clients.md, as it stands there, against a worker: hits, both kinds of errors, several at once.

Two instances of each but Spring's ask at the same time, and each is told the answers to its own questions.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streams import topics
from streams.client import RequestFailed
from tests import client_programs
from tests.brokers import TestBroker
from tests.client_programs import NODE_MIN, PACKAGES, Program
from tests.installation import Installation
from tests.node_packages import Missing, node_packages
from tests.pictures import write_pictures
from tests.waiting import wait_until

ITEMS = 24
QUESTIONS: list[dict[str, Any]] = [
    {"objectID": "lamp-001", "maxRecommendations": 3},
    {"objectID": "lamp-001", "queryParameters": {"filters": "price <"}},
    {"objectID": "no-such-lamp"},
]
TESTED = {
    *("Shop.java", "similar-items.ts", "main.ts", "kafkajs-similar.js"),
    *("confluent_similar.py", "aiokafka_similar.py", "own_similar.py"),
}


@pytest.fixture(scope="module")
def installation(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One worker that can be asked for `lamp-001`."""
    folder = tmp_path_factory.mktemp("clients")
    links = write_pictures(folder, None, ITEMS)
    made = Installation(broker.bootstrap, f"clients-{folder.stat().st_ino}-", folder, image_root=str(folder))
    asyncio.run(broker.create_topics({each.name: each.partitions for each in topics.topic_table(made.settings())}))
    made.worker()

    async def fill() -> None:
        await made.workers[0].ready()
        async with made.shop() as shop:
            await shop.catalog({f"lamp-{n:03}": {"image": link} for n, link in enumerate(links, 1)})

            async def complete() -> bool:
                answer = await shop.client.ask({"requests": [{"objectID": "lamp-001"}]}, timeout_s=10)
                return bool(answer["results"][0].get("nbHits") == ITEMS - 1)

            await wait_until(complete, 60, "the catalog")

    try:
        asyncio.run(fill())
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def expected(installation: Installation) -> list[str]:
    """What each program has to print, as Kindred's own client is answered."""

    async def ask() -> list[str]:
        async with installation.shop() as shop:
            hits, *failed = await shop.client.ask_many(QUESTIONS, timeout_s=10)
        assert isinstance(hits, dict)
        assert len(hits["hits"]) == 3
        lines = [" ".join(hit["objectID"] for hit in hits["hits"])]
        for error in failed:
            assert isinstance(error, RequestFailed)
            lines.append(f"{error.status} {error}")
        return lines

    return asyncio.run(ask())


@pytest.fixture
def folder(installation: Installation, tmp_path: Path) -> Callable[..., Path]:
    """Writes programs of the page into a folder, for this installation."""

    def write(*names: str) -> Path:
        client_programs.written(names, tmp_path, installation.broker, installation.prefix)
        return tmp_path

    return write


def available(what: Callable[[], Path]) -> Path:
    """The folder of what is needed; the test is skipped, with the reason, where it cannot be had."""
    try:
        return what()
    except Missing as reason:
        pytest.skip(str(reason))


def each_prints(programs: list[Program], expected: list[str]) -> None:
    printed = [program.lines() for program in programs]
    assert printed == [expected] * len(programs)


def test_all_programs_of_the_page_are_run() -> None:
    """A program that is added to the page, or renamed, needs a test; every block of code is a program or a command."""
    page = client_programs.PAGE.read_text()

    assert set(client_programs.programs()) == TESTED
    assert len(re.findall(r"^```\w+$", page, re.MULTILINE)) == len(TESTED)


@pytest.mark.parametrize("name", ["confluent_similar.py", "aiokafka_similar.py"])
def test_python_clients(folder: Callable[..., Path], expected: list[str], name: str) -> None:
    """confluent-kafka and aiokafka: the hits, and an exception of the program's for each error reply."""
    place = folder(name)

    each_prints([client_programs.python(name, place) for _ in range(2)], expected)


def test_kindreds_own_client(installation: Installation, folder: Callable[..., Path], expected: list[str]) -> None:
    """The same with `SimilarClient`, whose settings have the prefix."""
    place = folder("own_similar.py")
    environment = {"PYTHONPATH": str(client_programs.ROOT), "KINDRED_TOPIC_PREFIX": installation.prefix}
    path = place / "own_similar.py"
    settings = f'{{"KINDRED_BROKER": "{installation.broker}", "KINDRED_TOPIC_PREFIX": "{installation.prefix}"}}'
    path.write_text(path.read_text().replace(f'{{"KINDRED_BROKER": "{installation.broker}"}}', settings))

    command = [sys.executable, path.name]
    each_prints([Program(command, place, environment) for _ in range(2)], expected)


@pytest.mark.needs_kafka
def test_kafkajs(folder: Callable[..., Path], expected: list[str]) -> None:
    """KafkaJS, which reads the whole reply topic, each instance in a group of its own."""
    packages = available(lambda: node_packages(PACKAGES, NODE_MIN)) / "node_modules"
    place = folder("kafkajs-similar.js")
    (place / "node_modules").symlink_to(packages)
    (place / "package.json").write_text('{"type": "module"}')

    each_prints([client_programs.node("kafkajs-similar.js", place) for _ in range(2)], expected)


@pytest.mark.needs_kafka
@pytest.mark.timeout(300)
def test_nestjs(folder: Callable[..., Path], expected: list[str]) -> None:
    """ClientKafka: type-checked, replies complete the observable, errors fail it with the object that they are.

    Then two instances of one application, each with a partition of the reply topic, asked by twenties at once.
    """
    packages = available(lambda: node_packages(PACKAGES, NODE_MIN)) / "node_modules"
    place = folder("similar-items.ts", "main.ts")
    (place / "node_modules").symlink_to(packages)
    (place / "two-instances.ts").write_text((PACKAGES / "two-instances.ts").read_text())
    client_programs.compiled_typescript(place)

    each_prints([client_programs.node("main.js", place)], expected)
    (counts,) = client_programs.node("two-instances.js", place).lines()
    assert json.loads(counts) == [n + 1 for _ in range(2) for n in range(20)]


@pytest.mark.needs_kafka
@pytest.mark.timeout(300)
def test_spring(installation: Installation, folder: Callable[..., Path], expected: list[str]) -> None:
    """ReplyingKafkaTemplate in Spring Boot: a partition that is named, errors as the cause of an exception."""
    jars = available(client_programs.spring_jars)
    place = folder("Shop.java")
    client_programs.compiled_java("Shop.java", place, jars)

    # One instance only: a JVM with Spring in it takes six seconds of a core to start.
    each_prints([client_programs.spring(place, jars, installation.broker, "--kindred.reply-partition=1")], expected)
