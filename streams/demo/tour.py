"""`kindred demo`: the whole system on a stage of its own, and a tour of it over the topics.

1. A broker and a worker are started while the catalog's pictures are drawn (or a folder's are listed).
2. The catalog is streamed, and waited for until every item can be recommended or has a picture that cannot be used.
3. A source item is chosen whose answer will show what the events do; then the six steps (`steps.py`).
4. The tour is written as a page, and on a terminal everything stays up.

Whatever happens, Ctrl-C included, worker, broker and temporary folder are gone when `run` returns.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from models.errors import BadRequest, KindredError
from streams.brokers.embedded import PARTITION_BYTES_MAX
from streams.client import RequestFailed, SimilarClient
from streams.connection import Connection
from streams.demo import showcase as showcases
from streams.demo import targets
from streams.demo.alerts import AlertListener
from streams.demo.capacity import items_max
from streams.demo.display import SHOWN, ranked
from streams.demo.feed import Fed, feed, ready, settled
from streams.demo.interrupts import Interrupts
from streams.demo.narrator import Narrator
from streams.demo.page import tour_page
from streams.demo.showcase import Record, Showcase
from streams.demo.stage_set import StageSet
from streams.demo.steps import FETCHED, LOW, SALE, LeftOut, Steps
from streams.demo.tour_steps import TourStep, TourTotals
from streams.demo.visitor import Visitor
from streams.kafka.command_session import with_broker
from streams.publishing.picture_folder import SUFFIXES, picture_files
from streams.reports.answer_table import image_link
from streams.reports.moments import moment
from streams.reports.terminal import Terminal
from streams.settings import Settings

ITEMS = 300
PICTURES_MIN = 3
"""Of a folder: one to ask for, one to be found, one to be new."""
SOURCES_MAX = 60
"""Items that are tried as the tour's source."""
SOURCES_NEAR = 20
"""Of them, those that look like a picture that is kept back."""
SAMPLE = 100
"""Records by which the size of a catalog is judged."""
REASONS_MAX = 3
CLOSE_S_MAX = 3.0
"""Until what closes is told again to end."""
CANCELS_MAX = 5
PAGE = Path("demo.html")
INTERRUPTED = 130


class NothingToShow(KindredError):
    """A catalog with which there is no tour."""


def run(settings: Settings, *, items: int | None, images: Path | None, exit_at_end: bool) -> int:
    """Run the demo; its exit code: 0 all steps came out, 1 one did not, 130 interrupted before the end."""
    terminal = Terminal()
    stays = sys.stdout.isatty() and not exit_at_end
    with Interrupts() as interrupts:
        demo = _Demo(terminal, interrupts, stays)
        try:
            records = _folder_records(settings, images, items) if images else None
            if records is None:
                _check_size(settings, items or ITEMS, showcases.sample_records(SAMPLE))
            with StageSet(settings, images) as stage_set:
                demo.stage_set = stage_set
                demo.open()
                demo.showcase = _showcase(stage_set, terminal, records, items or ITEMS)
                return with_broker(stage_set.settings, demo.run)
        except (KeyboardInterrupt, asyncio.CancelledError):
            terminal.note("stopped; nothing is left behind")
            return demo.code


def _folder_records(settings: Settings, folder: Path, items: int | None) -> list[Record]:
    """The records of a folder's pictures, at most `items`; its size is judged before all are read."""
    count = sum(1 for _ in picture_files(folder))
    if count < PICTURES_MIN:
        kinds = " ".join(sorted(SUFFIXES))
        raise NothingToShow(f"the tour needs at least {PICTURES_MIN} pictures, {folder} has {count} (of {kinds})")
    count = min(count, items or count)
    _check_size(settings, count, showcases.folder_records(folder, SAMPLE))
    return showcases.spread(showcases.folder_records(folder), count)


def _check_size(settings: Settings, count: int, sample: Sequence[Record]) -> None:
    """Refuse a catalog that the embedded broker would have forgotten in part before it was read."""
    if settings.broker is not None or not sample:
        return
    most = items_max(sample, settings.shards, shipped_model=settings.model is None)
    if count > most:
        raise click.UsageError(
            f"{count:,} items do not fit into the embedded broker, which keeps {PARTITION_BYTES_MAX >> 20} MiB of each "
            f"of {settings.shards} partitions in memory: {most:,} do (--items {most}).  A real broker takes them all: "
            "`make kafka` starts one, and the demo uses it with KINDRED_BROKER=127.0.0.1:9092."
        )


def _showcase(stage_set: StageSet, terminal: Terminal, records: Sequence[Record] | None, items: int) -> Showcase:
    if records is not None:
        return showcases.folder_showcase(records, stage_set.image_root)
    with terminal.progress("drawing", "pictures", items) as advance:
        return showcases.drawn_showcase(items, stage_set.image_root, advance)


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended: what they close may wait for a broker that is gone, and is cut short then."""
    waiting = set(tasks)
    for _ in range(CANCELS_MAX):
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=CLOSE_S_MAX)
        if not waiting:
            break


class _Demo:
    """From a worker that starts to the end of the tour; `code` is how it came out so far."""

    stage_set: StageSet
    showcase: Showcase

    def __init__(self, terminal: Terminal, interrupts: Interrupts, stays: bool) -> None:
        self.terminal = terminal
        self.narrator = Narrator(terminal)
        self.interrupts = interrupts
        self.stays = stays
        self.code = INTERRUPTED
        self.steps: list[TourStep] = []
        self.left_out: list[LeftOut] = []

    @property
    def settings(self) -> Settings:
        return self.stage_set.settings

    async def run(self, connection: Connection) -> int:
        """The tour, ended at once by the death of the worker or a signal."""
        tour = asyncio.create_task(self._tour(connection))
        death = asyncio.create_task(self.stage_set.watch())
        try:
            with self.interrupts.cancelling(asyncio.current_task()):
                await asyncio.wait({tour, death}, return_when=asyncio.FIRST_COMPLETED)
            self.stage_set.check()  # first: it explains whatever else has failed
            return tour.result()
        except asyncio.CancelledError:
            self.terminal.note("stopping ...")
            raise
        finally:
            await _ended(tour, death)

    async def _tour(self, connection: Connection) -> int:
        page = await ready(self.settings)
        self.model = str(page.get("stages", {}).get("index", {}).get("model", ""))
        fed = await self._feed(connection)
        producer = await connection.started(connection.producer, "demo")
        try:
            async with (
                SimilarClient(connection, self.settings) as client,
                AlertListener(connection, self.settings) as alerts,
            ):
                steps = await self._chosen(Visitor(self.settings, client, producer, alerts), fed)
                for number, step in enumerate(steps.all, start=1):
                    self._note(number, await steps.take(step))
        finally:
            await producer.stop()
        self._write_page(fed, steps)
        if self.stays:
            mine = [step for step in self.steps if step.after and step.source and step.source.item_id == steps.source]
            hit_id = mine[-1].after[0].item_id if mine else steps.source
            self.narrator.invitation(self.stage_set.environment, self.settings.web, steps.source, hit_id)
            await asyncio.Event().wait()
        return self.code

    def open(self) -> None:
        """Say what the demo stands on."""
        broker = f"{self.settings.broker}"
        broker += (
            ", embedded: in memory, forgets everything at the end"
            if self.stage_set.embedded
            else f", topics {self.settings.topic_prefix}*, deleted at the end"
        )
        worker = f"all stages, process {self.stage_set.worker.pid}, http://{self.settings.web}/status"
        self.narrator.heading("Kindred: a tour of a live catalog")
        self.narrator.facts([("broker", broker), ("worker", worker)])

    async def _feed(self, connection: Connection) -> Fed:
        """Stream the catalog, and say what became of it."""
        count = len(self.showcase.records)
        with self.terminal.progress("embedding", "pictures", count) as advance:
            fed = await feed(connection, self.settings, self.showcase.records, advance)
            steady = await settled(self.settings, len(fed.embedded))
        told = f"{len(fed.embedded):,} of {count:,} items can be recommended, {fed.seconds:.1f} s after the first event"
        rows = [("model", self.model), ("catalog", f"{told}: {fed.rate:,.0f} embeds a second")]
        for item_id, reason in list(fed.refused.items())[:REASONS_MAX]:
            rows.append(("", f"{item_id}: {reason}"))
        if len(fed.refused) > REASONS_MAX:
            rows.append(("", f"and {len(fed.refused) - REASONS_MAX} more whose picture cannot be used"))
        if fed.waiting:
            rows.append(("", f"of {len(fed.waiting)} nothing was heard for so long that they are given up"))
        if not steady:
            rows.append(("", "the worker is still busy with them; the tour begins all the same"))
        self.narrator.facts(rows)
        if len(fed.embedded) < PICTURES_MIN - 1:
            raise NothingToShow(f"{len(fed.embedded)} items can be recommended, the tour needs {PICTURES_MIN - 1}")
        return fed

    async def _chosen(self, visitor: Visitor, fed: Fed) -> Steps:
        """The steps from the source item that shows best what the events do."""
        known = [item_id for item_id in self.showcase.sources if item_id in fed.embedded]
        newcomer = await self._looks_like_newcomer(visitor)
        tried = dict.fromkeys([*showcases.spread(known, SOURCES_MAX), *newcomer])
        answers = {item_id: ranked(await visitor.ask(item_id, FETCHED)) for item_id in tried}
        source = targets.best_source(answers, SHOWN, SALE, LOW, newcomer)
        places = {each: targets.place_of_newcomer(answers[each], score) for each, score in newcomer.items()}
        if newcomer and places.get(source, SHOWN) >= SHOWN:
            return Steps(visitor, self.showcase, source, new_source=min(places, key=lambda each: places[each]))
        return Steps(visitor, self.showcase, source)

    async def _looks_like_newcomer(self, visitor: Visitor) -> Mapping[str, float]:
        """By item id how much those look like the picture that is kept back, which look like it most."""
        record = self.showcase.newcomer
        if record is None:
            return {}
        link = image_link(str(self.showcase.image_root / record["image"]))
        try:
            answer = await visitor.ask_for({"image": link, "maxRecommendations": SOURCES_NEAR})
        except RequestFailed:
            self.showcase.newcomer = None
            return {}
        return {hit["objectID"]: hit["_score"] for hit in answer.hits}

    def _note(self, number: int, step: TourStep | LeftOut) -> None:
        if isinstance(step, LeftOut):
            self.left_out.append(step)
            self.narrator.left_out(number, step)
        else:
            self.steps.append(step)
            self.narrator.step(number, step)

    def _write_page(self, fed: Fed, steps: Steps) -> None:
        failed = sum(not step.passed for step in self.steps)
        self.code = 1 if failed else 0
        notes = [
            ("broker", "embedded, in memory" if self.stage_set.embedded else str(self.settings.broker)),
            ("model", self.model),
            ("at", moment(int(time.time() * 1000))),
            *((f"not shown: {each.title}", each.reason) for each in self.left_out),
        ]
        totals = TourTotals(len(fed.embedded), fed.rate, steps.new_ms, steps.answer_ms, tuple(notes))
        self.narrator.verdict(len(self.steps), failed, len(self.left_out))
        page = PAGE.absolute()
        try:
            self.terminal.file(page, tour_page(self.steps, totals).encode())
        except BadRequest as error:  # the tour was taken all the same, and what stays up does so without its page
            self.code = 1
            self.terminal.note(f"error: {error}", style="red")
        else:
            self.narrator.facts([("page", f"{page} shows the tour's pictures side by side")])
