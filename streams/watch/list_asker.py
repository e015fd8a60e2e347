"""Asking watched lists again: what has changed is looked at, and the lists that it touches are asked.

It holds the loop for steps of about `STEP_S`, and for no more than `KINDRED_WATCH_SHARE` of the time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from indexes.item_changes import ItemChanges
from indexes.results import AnswerSettings
from indexes.shard import Shard
from indexes.watches import Asked, Watches
from models.vectors import Vectors
from streams.serve.answerer import LoadedShards, shards_at
from streams.serve.rule_reader import RuleReader
from streams.settings import Settings
from streams.web.admission import Share

log = logging.getLogger(__name__)

WHOLE_INTERVAL_S = 0.25
"""Between looks at rules, mean and segments."""
STEP_S = 0.004
"""What a step should take."""
TOGETHER_MAX = 64


class WatchedShards(LoadedShards, Protocol):
    """The shards of this worker, with somebody who tells of changes to them."""

    listeners: list[Callable[[int, str, Sequence[str]], None]]


class ListAsker:
    """Keeps the lists of `watches` up with the shards and rules of this worker."""

    def __init__(
        self,
        settings: Settings,
        clock_ms: Callable[[], int],
        index: WatchedShards,
        rules: RuleReader,
        watches: Watches,
    ) -> None:
        self.settings = settings
        self.clock_ms = clock_ms
        self.index = index
        self.rules = rules
        self.watches = watches
        self.share = Share(settings.watch_share)
        self._changes: ItemChanges | None = None
        self._together = 8
        self._mean: Vectors | None = None
        self._segments = 0
        self._rules_offset = -1
        self._turn_ms: int | None = None
        self._rules_ms = 0
        """The time when it was last asked whether a window has turned."""
        self._looked_s = 0.0

    def note(self, number: int, truth: str, item_ids: Sequence[str]) -> None:
        """Messages of a truth about these items were applied to a shard."""
        if self._changes is not None:
            self._changes.note(number, truth, item_ids)

    def rest(self) -> None:
        """Nothing is watched."""
        self._changes = None

    async def see(self) -> None:
        """Find the lists that are touched by what has changed since the last time."""
        shards, now_ms = self._shards(), self.clock_ms()
        if self._changes is None:  # no list has been asked before it
            self._changes = ItemChanges(shards)
            self._mean, self._segments = self.index.mean, _segments(shards)
        if time.monotonic() - self._looked_s >= WHOLE_INTERVAL_S:
            self._looked_s = time.monotonic()
            self._look_at_the_whole(shards)
            if self._rules_may_turn(now_ms):
                self._rules_offset = self.rules.next_offset
                await self._walk(self.watches.rules_turned(shards, self.rules.book, now_ms))
                self._turn_ms = self.watches.next_turn_ms(now_ms)
            self._rules_ms = now_ms
        with self.share.spent():
            changes = self._changes.take()
        at = 0
        while at < len(changes):
            few = changes[at : at + self.watches.changes_max]
            at += len(few)
            with self.share.spent():
                self.watches.see(few, shards, now_ms)
            await self.turn()

    def _rules_may_turn(self, now_ms: int) -> bool:
        turned = self._turn_ms is not None and now_ms >= self._turn_ms
        return turned or now_ms < self._rules_ms or self.rules.next_offset != self._rules_offset

    async def _walk(self, steps: Iterator[None]) -> None:
        """Go through steps, each of which takes some milliseconds."""
        while True:
            with self.share.spent():
                if next(steps, steps) is steps:
                    return
            await self.turn()

    def _look_at_the_whole(self, shards: Sequence[Shard]) -> None:
        if self.index.mean is not self._mean:  # as it is when vectors are projected, too
            self._mean = self.index.mean
            self.watches.touch_all({"event": "mean"})
        segments = _segments(shards)
        if segments != self._segments:
            self._segments = segments
            self.watches.look_over({"event": "segments"})

    def ask_some(self) -> list[Asked] | None:
        """Ask some of the lists that are due; None: none is."""
        item_ids = self.watches.due(self._together)
        if not item_ids:
            return None
        now_ms = self.clock_ms()
        if now_ms < self._rules_ms:  # the clock was set back; it may be set forward again before rules are looked at
            self._rules_offset = -1
        with self.share.spent():
            return self._ask(item_ids, now_ms)

    def _ask(self, item_ids: Sequence[str], now_ms: int) -> list[Asked]:
        """Ask as many together as a step may take; one that a bug of ours stands in the way of is left alone."""
        began_s = time.thread_time()
        settings = AnswerSettings(
            index_name=self.settings.index, shards_total=self.settings.shards, lag_ms=self.index.lags_ms(now_ms)
        )
        try:
            shards = shards_at(self.index, now_ms)
            if self._changes is not None:
                self._changes.compare()
            asked = self.watches.ask(item_ids, shards, self.rules.book, now_ms, mean=self.index.mean, settings=settings)
        except Exception:
            if len(item_ids) > 1:
                return [one for item_id in item_ids for one in self._ask([item_id], now_ms)]
            log.exception("the list of %r cannot be made, and is left until the item changes", item_ids[0][:100])
            self.watches.give_up(item_ids[0])
            return []
        took_s = time.thread_time() - began_s  # of our own: on a busy machine small steps help nobody
        if took_s > STEP_S:
            self._together = max(1, self._together // 2)
        elif len(item_ids) == self._together and took_s < STEP_S / 2:
            self._together = min(TOGETHER_MAX, 2 * self._together)
        return asked

    def _shards(self) -> list[Shard]:
        return shards_at(self.index, self.clock_ms())

    async def turn(self) -> None:
        """Let others have the loop, as long as the share is used up."""
        await asyncio.sleep(self.share.wait_s())


def _segments(shards: Sequence[Shard]) -> int:
    """How often segments have been built so far."""
    return sum(each["seals"] + each["merges"] for each in [shard.statistics() for shard in shards])
