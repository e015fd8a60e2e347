"""Apache Kafka as tests, benchmarks and `make kafka` run it: what a restart keeps, what is said when it cannot."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streams.brokers import jars
from streams.brokers.apache_kafka import KafkaBroker
from streams.brokers.jars import KafkaUnavailable
from tests.brokers import create_topics
from tests.waiting import wait_until_sync


async def values_of(bootstrap: str, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest") as reader:
        return [(await reader.getone()).value for _ in range(count)]


async def produce(bootstrap: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, retry_backoff_ms=50) as producer:
        await producer.send_and_wait(topic, value)


@pytest.mark.needs_kafka
async def test_a_broker_keeps_port_and_data_over_stop_and_crash(own_kafka: Callable[..., KafkaBroker]) -> None:
    """Stopped or killed, it comes back at the same address with all that had been acknowledged; moved, if asked."""
    kafka = own_kafka(log_cleaner_backoff_ms="100")
    bootstrap = kafka.bootstrap
    await create_topics(bootstrap, {"t": 1})
    await produce(bootstrap, "t", b"1")

    assert bootstrap == kafka.restart()
    await produce(bootstrap, "t", b"2")
    assert kafka.pid is not None
    kafka.kill()
    assert kafka.pid is None
    assert bootstrap == kafka.start()

    assert [b"1", b"2"] == await values_of(bootstrap, "t", 2)

    kafka.stop()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with KafkaBroker(kafka.folder, port=port) as moved:
        assert f"127.0.0.1:{port}" == moved.bootstrap
        assert [b"1", b"2"] == await values_of(moved.bootstrap, "t", 2)


@pytest.mark.needs_kafka
def test_a_broker_dies_with_its_starter(tmp_path: Path) -> None:
    """No broker is left behind by a program that was killed."""
    program = (
        "import sys; from pathlib import Path; from streams.brokers.apache_kafka import KafkaBroker\n"
        "broker = KafkaBroker(Path(sys.argv[1])); broker.start(); print(broker.pid, flush=True); broker.wait()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "kafka")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except FileNotFoundError:
            return True

    wait_until_sync(gone, 10, "the broker's end")


def program(folder: Path, name: str, text: str) -> None:
    """A program on a PATH of its own."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, an empty cache, no JAVA_HOME."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "mkdir", "touch", "echo"):
        (folder / tool).symlink_to(f"/bin/{tool}")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def test_it_says_why_kafka_cannot_run(bare_machine: Path) -> None:
    """No Java, an old Java, no Maven: each reason names what is missing."""
    assert "no `java`" in str(jars.why_not())

    program(bare_machine, "java", "echo 'openjdk version \"11.0.2\"' >&2")
    assert "Java 17 or later, and" in str(jars.why_not())

    program(bare_machine, "java", "echo 'openjdk version \"21.0.2\"' >&2")
    assert "no `mvn`" in str(jars.why_not())

    program(bare_machine, "mvn", "exit 0")
    assert jars.why_not() is None


def test_jars_that_were_fetched_need_no_maven(bare_machine: Path) -> None:
    """Once the jars are in the cache, a JVM is enough."""
    program(bare_machine, "java", "echo 'openjdk version \"17.0.1\"' >&2")
    jars.jars_folder().mkdir(parents=True)

    assert jars.why_not() is None
    assert jars.jars_folder() == jars.fetch_jars()


MAVEN = """
for argument in "$@"; do case $argument in -DoutputDirectory=*) folder=${argument#-DoutputDirectory=};; esac; done
echo fetched >> "$LOG"; mkdir -p "$folder"; touch "$folder/kafka_2.13-x.jar" "$folder/other.jar"
"""


def test_many_at_once_fetch_once(bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests, benchmark and demo may start together: one fetches, the others wait and find everything."""
    program(bare_machine, "mvn", MAVEN)
    monkeypatch.setenv("LOG", str(tmp_path / "log"))

    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: jars.fetch_jars(), range(8)))

    assert "fetched\n" == (tmp_path / "log").read_text()
    assert {jars.jars_folder()} == set(folders)
    assert 2 == len(list(folders[0].glob("*.jar")))


def test_a_failed_fetch_leaves_nothing_that_looks_whole(bare_machine: Path) -> None:
    """Maven's words are in the error, and the next attempt fetches again."""
    program(bare_machine, "mvn", 'echo "no route to anywhere"; exit 1')

    with pytest.raises(KafkaUnavailable, match="no route to anywhere"):
        jars.fetch_jars()
    assert not jars.jars_folder().exists()


def test_a_broker_that_does_not_start_says_why(
    bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of its log is in the error."""
    monkeypatch.setenv("PATH", f"{bare_machine}{os.pathsep}/bin")
    jars.jars_folder().mkdir(parents=True)
    version = 'case "$*" in *-version) echo "openjdk version \\"17.0.1\\"" >&2; exit 0;; *format*) exit 0;; esac'
    program(bare_machine, "java", f"{version}; echo the disk is made of cheese; exit 3")

    with pytest.raises(KafkaUnavailable, match="(?s)ended with status 3.*made of cheese"):
        KafkaBroker(tmp_path / "kafka").start()


def test_a_taken_port_is_refused_with_its_number(bare_machine: Path, tmp_path: Path) -> None:
    """`make kafka PORT=...` on a port that somebody listens on says so at once."""
    program(bare_machine, "java", "echo 'openjdk version \"17.0.1\"' >&2")
    jars.jars_folder().mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(KafkaUnavailable, match=f"port {port} of 127.0.0.1 is taken"):
            KafkaBroker(tmp_path / "kafka", port=port).start()
