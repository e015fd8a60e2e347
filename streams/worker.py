"""One worker process: the stages it was asked for, in the shell of one Faust application.

Before anything starts, its web server aside, it waits for the broker and sees that the topics are there and have the
right shape.  A stage that crashes ends the process with status 1; SIGTERM ends it with status 0 after what was taken
has been answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import uuid
from pathlib import Path
from typing import Any

import mode
from faust.worker import Worker

from models.embedder import SHIPPED, Embedder
from models.errors import Unavailable
from models.image import ImageLimits
from models.preprocessing import BadModel
from streams import topics
from streams.connection import Connection, cluster_id
from streams.embed.fetch import ImageFetcher
from streams.embed.image_root import ImageRoot
from streams.embed.stage import Embed
from streams.embed.vectors import ImageVectors
from streams.gateway.pictures import PictureCalls
from streams.gateway.recommendations import Gateway
from streams.gateway.rules import RuleCalls
from streams.index.data_lock import data_lock, make_data_folder
from streams.index.stage import Index
from streams.kafka.faust_app import make_app
from streams.kafka.turns import Turns
from streams.logs import configure_logs
from streams.metrics import Metrics
from streams.serve.stage import Serve
from streams.settings import BadSetting, Settings
from streams.stages import STAGES
from streams.topic_configs import DELETE_RETENTION_MS, differences, topic_configs
from streams.track.stage import Track
from streams.trials.call import TrialCalls
from streams.wall_clock import WallClock
from streams.watch.stage import Watch
from streams.web.console import Console
from streams.web.health import Health
from streams.web.keys import Keys
from streams.web.server import Web

log = logging.getLogger(__name__)

STOPPING_SHARE = 0.8
"""Of KINDRED_STOP_TIMEOUT_S, after which a worker no longer waits for its stages to stop."""


clock_ms = WallClock()


class Front:
    """The web server with its pages: what a worker has before anything else, and after everything else."""

    def __init__(self, settings: Settings) -> None:
        self.writer = uuid.uuid4().hex
        self.metrics = Metrics()
        self.web = Web(settings, self.metrics)
        self.health = Health(self.metrics, Keys(settings), self.writer)
        self.health.register(self.web)
        Console().register(self.web)
        self.gateway: Gateway | None = None

    def begin_stopping(self) -> None:
        """Take no more calls, and say so."""
        self.health.waiting = "it is stopping"
        if self.gateway:
            self.gateway.stopping = True


class Parts:
    """The services of a worker, made but not started."""

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        stages: frozenset[str],
        shards: tuple[int, ...] | None,
        cluster: str,
        retention_ms: int,
        front: Front,
        embedder: Embedder | None,
    ) -> None:
        self.metrics, writer = front.metrics, front.writer
        services: list[mode.ServiceT] = []
        turns = Turns()
        pages = front.health.stages
        self.app = make_app(settings, connection)
        self.app.producer_only = "embed" not in stages
        if embedder:
            if settings.image_root and stages & {"embed", "serve"}:
                _look_for_images(settings.image_root)
            fetcher = ImageFetcher(
                image_root=settings.image_root,
                allowed_hosts=settings.image_hosts,
                bytes_max=settings.image_bytes_max,
                timeout_s=settings.image_timeout_s,
            )
            limits = ImageLimits(settings.image_bytes_max, settings.image_pixels_max)
            vectors = ImageVectors(embedder, fetcher, limits, self.metrics)
        if stages & {"index", "serve"}:
            held, model = shards or tuple(range(settings.shards)), vectors.embedder
            index = Index(connection, settings, self.metrics, clock_ms, held, model, cluster, retention_ms, turns)
            services.append(index)
            pages["index"] = index
        if "embed" in stages:
            embed = Embed(connection, settings, self.metrics, writer, clock_ms, vectors, turns)
            embed.register(self.app)
            services.append(embed)
            pages["embed"] = embed
        if "track" in stages:
            ahead = embed.ahead if "embed" in stages else None
            track = Track(connection, settings, self.metrics, writer, clock_ms, turns, ahead)
            services.append(track)
            pages["track"] = track
        if "serve" in stages:
            serve = Serve(connection, settings, self.metrics, clock_ms, index, vectors, turns)
            services.append(serve)
            pages["serve"] = serve
            watch = Watch(connection, settings, self.metrics, writer, clock_ms, index, serve.rules)
            services.append(watch)
            pages["watch"] = watch
            front.gateway = Gateway(settings, serve.answerer, serve.rules)
            front.gateway.register(front.web)
            RuleCalls(front.gateway).register(front.web)
            TrialCalls(front.gateway).register(front.web)
            PictureCalls(front.gateway, fetcher, limits).register(front.web)
        front.health.waiting = ""

        class Stages(mode.Service):
            """Starts the stages with the application and stops them in the opposite order."""

            def on_init_dependencies(self) -> list[Any]:
                return services

            async def on_stop(self) -> None:
                front.begin_stopping()

            async def on_shutdown(self) -> None:
                await front.web.stop()

        self.app.service(Stages)


class KindredWorker(Worker):
    """Faust's worker without its spinner and its own logging, which ends in time whatever holds it up.

    Its clients wait for a broker that is away as long as it takes, also when they are to stop.
    """

    stop_timeout_s = 10.0
    _limited = False

    def _schedule_shutdown(self, number: signal.Signals) -> None:
        """SIGTERM, SIGINT."""
        self._limit_stopping()
        super()._schedule_shutdown(number)

    def on_worker_shutdown(self) -> None:
        """Say so; what is in work is finished by the stages."""
        log.info("stopping")
        self._limit_stopping()

    def _limit_stopping(self) -> None:
        if not self._limited:
            self._limited = True
            self.loop.call_later(self.stop_timeout_s * STOPPING_SHARE, self._give_up)

    def _give_up(self) -> None:
        """End now.  Nothing is lost: what is not committed comes again, and the last checkpoint stands."""
        log.warning("not everything could be finished in time (is the broker away?); the rest comes again")
        os._exit(0 if self._signal_stop_time and not self.crash_reason else 1)


async def prepare(settings: Settings, connection: Connection) -> tuple[str, int]:
    """Wait for the broker, create or check the topics; the cluster's id and the truths' delete.retention in ms."""
    cluster = await cluster_id(connection)
    connection = connection.on(cluster)
    table = topics.topic_table(settings)
    created = await topics.ensure_topics(connection, table, settings.replication)
    for name in created:
        log.info("created the topic %s", name)
    configs = await topic_configs(connection, [topic.name for topic in table])
    for name, wrong in differences(table, configs).items():
        log.error("the topic %s: %s (`kindred topics` says how to mend it)", name, wrong.words)
    records = configs.get(settings.topic_prefix + topics.ITEM_RECORDS, {})
    return cluster, int(records.get(DELETE_RETENTION_MS, settings.delete_retention_s * 1000))


def run_worker(
    settings: Settings, stages: frozenset[str] = frozenset(STAGES), shards: tuple[int, ...] | None = None
) -> int:
    """Run a worker until it is told to stop; its exit code."""
    make_data_folder(settings.data)
    configure_logs(settings.log_level, settings.log_format)
    signal.signal(signal.SIGTERM, _stop_before_start)
    try:
        with data_lock(settings.data) if stages & {"index", "serve"} else contextlib.nullcontext():
            return _run(settings, stages, shards)
    except KeyboardInterrupt:
        return 0


def _run(settings: Settings, stages: frozenset[str], shards: tuple[int, ...] | None) -> int:
    connection = Connection(
        settings.broker or "", session_timeout_s=settings.session_timeout_s, heartbeat_s=settings.heartbeat_s
    )
    embedder = _model(settings) if stages & {"embed", "index", "serve"} else None
    front = Front(settings)
    runner = asyncio.Runner()
    try:
        runner.run(front.web.start())
        cluster, retention_ms = runner.run(prepare(settings, connection))
    except BaseException:
        runner.close()
        raise
    connection = connection.on(cluster)
    loop = runner.get_loop()
    asyncio.set_event_loop(loop)
    parts = Parts(settings, connection, stages, shards, cluster, retention_ms, front, embedder)
    parts.app.finalize()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)  # collections of young objects only; full ones cost 50 ms with large shards
    worker = KindredWorker(
        parts.app,
        loop=loop,
        loglevel=settings.log_level,
        quiet=True,
        redirect_stdouts=False,
        override_logging=False,
    )
    worker.spinner = None
    worker.stop_timeout_s = settings.stop_timeout_s
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        return int(end.code or 0)


def _look_for_images(image_root: Path) -> None:
    """Say it if the folder of image files is not there: it may come later, or be named wrongly."""
    try:
        ImageRoot(image_root).check()
    except Unavailable as error:
        log.warning(
            "KINDRED_IMAGE_ROOT: %s; relative and file: image links wait for it, and fail after some attempts",
            error,
        )


def _model(settings: Settings) -> Embedder:
    """The model that is embedded with.  BadSetting where the one that is set cannot be used."""
    try:
        return Embedder(settings.model or SHIPPED, settings.embed_threads)
    except BadModel as error:
        if settings.model is None:
            raise
        raise BadSetting(f"KINDRED_MODEL: {error}") from error


def _stop_before_start(signum: int, frame: Any) -> None:
    """SIGTERM while the broker is still waited for, and until the application handles signals itself.

    Nothing is in work yet, and the lock of the data folder goes with the process.  An exception would be lost where
    the signal comes while Python destroys an object.
    """
    os._exit(0)
