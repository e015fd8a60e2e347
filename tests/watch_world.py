"""A small shop with watched lists, in memory: what stands on the topic, and what a fresh request would answer.

The clock is by hand.  What changes is told to the shards as the index stage does; `settle` does what the watch stage
does, in steps of random size.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from indexes.answering import answer_requests
from indexes.item_changes import ItemChanges
from indexes.shard import EMBEDDINGS, RECORDS, STOCKS, Shard
from indexes.shard_settings import ShardSettings
from indexes.watches import INTERVAL_MS, Asked, Watches
from models.request import RequestLimits
from models.rules import RuleBook, parse_rule
from models.truth_messages import Facts, ImageEmbedding, ItemEmbedding, ItemRecord, ItemStock, Written, write_message
from models.vectors import pack_half, unit
from models.watch import EMPTY, list_digest, parse_watch

D = 6
BEGIN_MS = 1_700_000_000_000
LIMITS = RequestLimits(hits_default=4)


class World:
    """Shards, rules, watches, and the lists that were pushed last."""

    def __init__(self, folder: Path, shards: int, settings: ShardSettings | None = None, seed: int = 0) -> None:
        self.now_ms = BEGIN_MS
        self.shards = [
            Shard.open(
                folder / str(number),
                number,
                settings or ShardSettings(dimension=D, model="m@1"),
                cluster_id="c",
                now_ms=self.now_ms,
                retention_ms=86_400_000,
                offsets={},
            )
            for number in range(shards)
        ]
        self.rules = RuleBook()
        self.mean: NDArray[np.float32] | None = None
        self.set_back_ms = 0
        """By so much all in all."""
        self.watches = Watches(D, lambda: self.now_ms + self.set_back_ms)
        self.changes = ItemChanges(self.shards)
        self.pushed: dict[str, bytes] = {}
        """Digests by item, as on the topic."""
        self.pushes: list[Asked] = []
        self.asked = 0
        self._random = random.Random(seed)
        self._rules_moved = True
        self._looked_ms = 0

    # Events

    def apply(self, truth: str, item_id: str, value: bytes | None) -> None:
        """One message of a truth."""
        shard = self.shards[sum(item_id.encode()) % len(self.shards)]
        assert shard.apply(truth, [(item_id, value)], 1, self.now_ms) == []
        self.changes.note(shard.number, truth, [item_id])

    def record(self, item_id: str, images: int = 1, facts: Facts = Facts(), **attributes: Any) -> None:
        """A record with so many images."""
        links = tuple(f"{item_id}-{number}.jpg" for number in range(images))
        raw = msgspec.Raw(orjson.dumps({"objectID": item_id} | attributes))
        self.apply(RECORDS, item_id, write_message(ItemRecord(raw, facts, links, 1, self.now_ms, Written(1, 1))))

    def look(self, item_id: str, *vectors: Sequence[float]) -> None:
        """Embedded images."""
        images = [
            ImageEmbedding(f"{item_id}-{number}.jpg", vector=pack_half(unit(np.array(vector, np.float32))))
            for number, vector in enumerate(vectors)
        ]
        self.apply(EMBEDDINGS, item_id, write_message(ItemEmbedding(1, "m@1", tuple(images))))

    def stock(self, item_id: str, quantity: float | None) -> None:
        """A level."""
        self.apply(STOCKS, item_id, write_message(ItemStock(quantity, self.now_ms, Written(1, 1))))

    def rule(self, rule_id: str, **fields: Any) -> None:
        """A rule; without fields it is removed."""
        if fields:
            self.rules.put(parse_rule(rule_id, orjson.dumps(fields)))
        else:
            self.rules.remove(rule_id)
        self._rules_moved = True

    def use_mean(self, mean: NDArray[np.float32] | None) -> None:
        """Another mean of the catalog."""
        self.mean = mean
        for shard in self.shards:
            shard.use_mean(mean)
        self.watches.touch_all({"event": "mean"})

    def watch(self, item_id: str, **fields: Any) -> None:
        """A message of `watch`."""
        self.watches.put(parse_watch(item_id, orjson.dumps(fields), LIMITS, "items"), {"event": "watch"})

    def unwatch(self, item_id: str) -> None:
        """Its tombstone."""
        told = self.watches.remove(item_id)
        assert told == self.pushed.pop(item_id, None)

    def set_back(self, by_ms: int) -> None:
        """Somebody sets the clock."""
        self.now_ms -= by_ms
        self.set_back_ms += by_ms

    # The stage

    def see(self) -> None:
        """Look at what has changed, in chunks."""
        for shard in self.shards:
            shard.advance(self.now_ms)
        turn_ms = self.watches.next_turn_ms(self._looked_ms)
        turned = turn_ms is not None and turn_ms <= self.now_ms
        if self._rules_moved or turned or self.now_ms < self._looked_ms:
            self._rules_moved = False
            for _ in self.watches.rules_turned(self.shards, self.rules, self.now_ms):
                pass
        self._looked_ms = self.now_ms
        changes = self.changes.take()
        while changes:
            few = self._random.randint(1, 5)
            self.watches.see(changes[:few], self.shards, self.now_ms)
            changes = changes[few:]

    def ask(self) -> bool:
        """Ask some of what is due and push what has changed."""
        for shard in self.shards:
            shard.advance(self.now_ms)
        self.changes.compare()
        self._rules_moved |= self.now_ms < self._looked_ms
        due = self.watches.due(self._random.randint(1, 4))
        for one in self.watches.ask(due, self.shards, self.rules, self.now_ms, mean=self.mean):
            self.asked += 1
            if one.changed:
                self.pushes.append(one)
                self.pushed[one.item_id] = one.digest
                self.watches.pushed(one.item_id, one.digest)
        return bool(due)

    def settle(self) -> list[Asked]:
        """Let everything be seen, asked and pushed; what was pushed."""
        begin = len(self.pushes)
        self.see()
        while self.watches.waiting:
            while self.ask():
                self.see()
            self.now_ms += INTERVAL_MS
            self.see()
        return self.pushes[begin:]

    def wrong(self) -> list[str]:
        """Items whose list is not what a fresh request answers now."""
        item_ids = self.watches.item_ids
        requests = [self.watches.request(item_id) for item_id in item_ids]
        fresh = [
            answer_requests([request], {}, self.shards, self.rules, self.now_ms, mean=self.mean)[0]
            for request in requests
        ]
        expected = {item_id: list_digest(result) for item_id, result in zip(item_ids, fresh, strict=True)}
        assert self.pushed.keys() <= expected.keys()
        return [item_id for item_id, digest in expected.items() if self.pushed.get(item_id, EMPTY) != digest]
