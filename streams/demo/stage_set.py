"""What a demo stands on: a broker, a folder, a worker with all stages; taken down again whatever happens.

1. The broker is the configured one, else the embedded broker in this process with its topics made beforehand.
2. The worker is a process of its own, started by the command that people use, on a free port.
3. Everything has a home that is removed at the end: a temporary folder, and on a configured broker a topic prefix that
   nobody else has, so that nobody's data is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from aiokafka.errors import KafkaError

from models.errors import KindredError
from streams import topics
from streams.brokers.embedded import EmbeddedBroker
from streams.connection import Connection
from streams.demo.child import start_module, stop
from streams.demo.interrupts import SIGNALS, handling
from streams.settings import PREFIX, Settings

log = logging.getLogger(__name__)

KEPT = ("model", "shards", "replication", "embed_threads", "session_timeout_s", "heartbeat_s", "log_level")
"""Settings of the environment that hold for the demo too; the others would change what it shows."""
STOP_GRACE_S = 2.0
"""Beyond the time that a worker may take to stop, until it is killed."""
DELETE_TIMEOUT_S = 10.0
WATCH_INTERVAL_S = 0.1
LOG_LINES = 25


class WorkerDied(KindredError):
    """The demo's worker ended by itself."""


class StageSet:
    """A context manager; `settings` are those of the worker and of whoever talks to it."""

    settings: Settings
    worker: subprocess.Popen[bytes]

    def __init__(self, settings: Settings, image_root: Path | None = None) -> None:
        """`image_root` None: a folder in the demo's own, for pictures that are drawn."""
        self._given = settings
        self._exits = contextlib.ExitStack()
        self._image_root = image_root

    def __enter__(self) -> StageSet:
        try:
            self._set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Take everything down, in the opposite order; a second Ctrl-C does not break that off."""
        with handling(dict.fromkeys(SIGNALS, signal.SIG_IGN)):
            self._exits.close()

    def _set_up(self) -> None:
        self.folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="kindred-demo-")))
        self.image_root = (self._image_root or self.folder / "pictures").resolve()
        self.image_root.mkdir(exist_ok=True)
        values = {name: getattr(self._given, name) for name in KEPT} | {
            "broker": self._given.broker,
            "data": self.folder / "data",
            "web": f"127.0.0.1:{free_port(self._given.web_port)}",
            "image_root": self.image_root,
            "log_format": "text",
        }
        if self.embedded:
            broker = self._exits.enter_context(EmbeddedBroker())
            table = topics.topic_table(Settings(**values))
            values["broker"] = broker.start({topic.name: topic.partitions for topic in table})
        else:
            values["topic_prefix"] = f"{self._given.topic_prefix}demo-{secrets.token_hex(4)}-"
            self._exits.callback(self._delete_topics)
        self.settings = Settings(**values)
        self._start_worker()
        self._exits.callback(self._stop_worker)

    @property
    def embedded(self) -> bool:
        """Whether the broker is the demo's own."""
        return self._given.broker is None

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that lead a command to this demo; without those that stand at their default."""
        return {
            "KINDRED_BROKER": self.settings.broker or "",
            **({"KINDRED_TOPIC_PREFIX": self.settings.topic_prefix} if self.settings.topic_prefix else {}),
            "KINDRED_WEB": self.settings.web,
            **({"KINDRED_SHARDS": str(self.settings.shards)} if self.settings.shards != Settings.shards else {}),
        }

    @property
    def log_tail(self) -> str:
        """The last lines that the worker wrote."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def check(self) -> None:
        """Raise WorkerDied, with the end of its log, when the worker has ended."""
        status = self.worker.poll()
        if status is not None:
            told = f"the end of its log:\n{self.log_tail}" if self.log_tail else "it had written nothing"
            raise WorkerDied(f"the worker ended with status {status}; {told}")

    async def watch(self) -> None:
        """Raise WorkerDied as soon as the worker has ended; never returns."""
        while True:
            self.check()
            await asyncio.sleep(WATCH_INTERVAL_S)

    # The worker.

    def _start_worker(self) -> None:
        own = {PREFIX + name.upper(): value for name, value in vars(self.settings).items() if name in _TOLD}
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment |= {name: str(value) for name, value in own.items() if value not in (None, "")}
        self._log = self.folder / "worker.log"
        with self._log.open("wb") as file:
            self.worker = start_module(
                ["streams.commands", "worker"], stdout=file, stderr=file, environment=environment
            )

    def _stop_worker(self) -> None:
        grace_s = self.settings.stop_timeout_s + STOP_GRACE_S
        if not stop(self.worker, grace_s):
            log.warning("the worker did not stop within %.0f s and was killed", grace_s)

    # A configured broker.

    def _delete_topics(self) -> None:
        try:
            asyncio.run(asyncio.wait_for(self._delete(), DELETE_TIMEOUT_S))
        except (TimeoutError, KafkaError, OSError) as error:
            log.warning("the topics %s* are still on the broker: %r", self.settings.topic_prefix, error)

    async def _delete(self) -> None:
        connection = Connection(self.settings.broker or "")
        admin = await connection.started(connection.admin, "demo")
        try:
            mine = [name for name in await admin.list_topics() if name.startswith(self.settings.topic_prefix)]
            if mine:
                await admin.delete_topics(mine)
        finally:
            await admin.close()


_TOLD = (*KEPT, "broker", "topic_prefix", "data", "web", "image_root", "log_format")


def free_port(first: int = 0) -> int:
    """Return a port of 127.0.0.1 that nobody listens on: this one, if it is free."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the worker will: a closed one is free
        try:
            listener.bind(("127.0.0.1", first))
        except OSError:
            listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
