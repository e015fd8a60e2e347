"""Apache Kafka without Docker: one broker in KRaft mode on loopback, for `make kafka`, the tests and the benchmarks.

`jars.py` fetches its jars by Maven, once; a JVM of 17 or later runs them.
Easy to get wrong:

* A restart keeps ports and data, so clients find their broker again; `kill` is a crash, `stop` an orderly shutdown.
* Topics are never made by being asked for: a misspelt name must fail here as it does on a well kept cluster.
* It is a child of the process that started it and dies with it.

For a broker that needs nothing installed, and keeps nothing, see `embedded.py`.
"""

from __future__ import annotations

import argparse
import atexit
import base64
import contextlib
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from streams.brokers.jars import KafkaUnavailable, fetch_for_tests, fetch_jars, java, kafka_version
from streams.parent_death import dying_with_parent

PROPERTIES: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # After a crash the next start waits until the crashed one's session is over: 9 s by default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    # The default of 128 MB is a quarter of the heap, for logs far larger than a laptop's.
    "log.cleaner.dedupe.buffer.size": "16777216",
}
LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server
logger.server.level = INFO
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %-5p %c{1}: %m%n
"""


class KafkaBroker:
    """One Apache Kafka broker with its data in `folder`.

    A port that is not given is that of the last time, else a free one.
    """

    def __init__(self, folder: Path, *, port: int | None = None, properties: Mapping[str, str] | None = None) -> None:
        self.folder = folder.resolve()
        self.log = self.folder / "broker.log"
        self._settings = self.folder / "server.properties"
        self._own_properties = dict(properties or {})
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> KafkaBroker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients; known once started, and the same after every restart."""
        return f"127.0.0.1:{_properties_of(self._settings)['kindred.port']}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self, timeout_s: float = 60.0) -> str:
        """Start and wait until it answers; its bootstrap address.

        Raises KafkaUnavailable when Kafka cannot be fetched, ends at once, or does not answer in time.
        """
        assert self.pid is None, "the broker is running already"
        jars = fetch_jars()
        command = [java(), "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"]
        self._write_settings()
        if not (self.folder / "data" / "meta.properties").is_file():
            self._format(command)
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        command = [*dying_with_parent(signal.SIGKILL), *command, logging, "kafka.Kafka", str(self._settings)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        atexit.register(self.kill)  # for a broker that was started off the main thread
        self._wait_until_it_answers(timeout_s)
        return self.bootstrap

    def stop(self, timeout_s: float = 30.0) -> None:
        """Shut down in order; killed if that takes longer than `timeout_s`.  Does nothing when it does not run."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL).  Does nothing when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        atexit.unregister(self.kill)

    def restart(self) -> str:
        """Stop, then start on the same ports with the same data."""
        self.stop()
        return self.start()

    def wait(self) -> int:
        """Wait until it ends by itself; its exit status."""
        assert self._process is not None, "the broker has not been started"
        return self._process.wait()

    def _write_settings(self) -> None:
        """The files that Kafka reads, with the ports that were asked for, else those of the last time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        last = _properties_of(self._settings) if self._settings.is_file() else {}
        port = _free_port(self._port or int(last.get("kindred.port", 0)))
        controller_port = _free_port(int(last.get("kindred.controller.port", 0)))
        properties = {
            **PROPERTIES,
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "log.dirs": str(self.folder / "data"),
            # Kafka passes over names that it does not know.
            "kindred.port": str(port),
            "kindred.controller.port": str(controller_port),
            **self._own_properties,
        }
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        (self.folder / "log4j2.properties").write_text(LOGGING)

    def _format(self, command: Sequence[str]) -> None:
        """Make an empty log with a cluster id of its own."""
        # "A" first: an id that began with a dash would be taken for an option.
        cluster_id = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        formatted = subprocess.run(
            [*command, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._settings)],
            capture_output=True,
            text=True,
            check=False,
        )
        if formatted.returncode:
            raise KafkaUnavailable(f"Kafka could not format {self.folder}:\n{formatted.stdout}{formatted.stderr}")

    def _wait_until_it_answers(self, timeout_s: float) -> None:
        assert self._process is not None
        host, _, port = self.bootstrap.partition(":")
        deadline = time.monotonic() + timeout_s
        while not _answers(host, int(port)):
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                self.kill()
                what = f"gave no answer for {timeout_s:.0f} s" if status is None else f"ended with status {status}"
                tail = self.log.read_text(errors="replace")[-3000:]
                raise KafkaUnavailable(f"Apache Kafka {what}; the end of {self.log}:\n{tail}")
            time.sleep(0.05)


def _answers(host: str, port: int) -> bool:
    """Whether a broker answers an ApiVersions request: it listens a while before it does."""
    request = struct.pack(">hhih", 18, 0, 1, -1)  # API key, version, correlation id, no client id
    try:
        with socket.create_connection((host, port), timeout=2.0) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            return len(connection.recv(8)) == 8
    except OSError:
        return False


def _free_port(wanted: int) -> int:
    """The wanted port if nobody listens on it; for 0 one that nobody listens on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError as error:
            raise KafkaUnavailable(f"port {wanted} of 127.0.0.1 is taken: {error.strerror}") from error
        return int(probe.getsockname()[1])


def _properties_of(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


def main(arguments: Sequence[str] | None = None) -> int:
    """A broker in the foreground until Ctrl-C or SIGTERM; its exit status."""
    parser = argparse.ArgumentParser(prog="make kafka", description=main.__doc__)
    parser.add_argument("--port", type=int, help="port on 127.0.0.1 (a free one)")
    parser.add_argument("--folder", type=Path, default=Path(".cache/kafka"), help="where its data is kept")
    parser.add_argument("--fetch-for-tests", action="store_true", help="fetch the jars if the tests will use them, end")
    options = parser.parse_args(arguments)
    if options.fetch_for_tests:
        return fetch_for_tests()
    broker = KafkaBroker(options.folder, port=options.port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        click.echo(f"Apache Kafka {kafka_version()} starts; its log is {broker.log}")
        click.echo(f"It listens on {broker.start()}.  Ctrl-C stops it; its data stays in {broker.folder}.")
        click.echo(f"export KINDRED_BROKER={broker.bootstrap}")
        return broker.wait()
    except KafkaUnavailable as error:
        click.echo(str(error), err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("stopping")
        return 0
    finally:
        broker.stop()


if __name__ == "__main__":
    sys.exit(main())
