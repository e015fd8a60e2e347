"""What is kept from batch to batch changes no answer: each is compared with what an answering made anew gives."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from msgspec.structs import replace

from indexes.answering import GROUPS_KEPT_MAX, KEPT_MAX, KeptAnswering, answer_requests
from indexes.hit_heads import FORMS_MAX
from indexes.results import AnswerSettings
from indexes.shard import RECORDS, STOCKS, Shard
from models.request import RequestLimits, parse_requests
from models.truth_messages import Facts
from streams.serve.answerer import images_of
from tests import look_catalog
from tests.look_catalog import NOW_MS, SETTINGS, Catalog, D, apply
from tests.waiting import wait_until_sync

ITEMS = 60
LIMITS = RequestLimits(hits_default=5)
BODIES: list[dict[str, Any]] = [
    {"objectID": "i1"},
    {"objectID": "i2", "maxRecommendations": 40},
    {"objectID": "i3", "queryParameters": {"filters": "price > 4"}},
    {"objectID": "i4", "outOfStock": True},
    {"objectID": "i5", "sameAs": ["category"]},
    {"objectID": "i6", "queryParameters": {"optionalFilters": "category:b<score=9>", "clickAnalytics": False}},
    {"objectID": "i7", "queryParameters": {"ruleContexts": ["mobile"]}},
    {"objectID": "i8", "queryParameters": {"attributesToRetrieve": ["price"]}},
    {"objectID": "i8", "queryParameters": {"highlightPreTag": "<b>"}},
    {"objectID": "i8", "explain": True, "queryParameters": {"distinct": True}},
    {"objectIDs": ["i1", "i9"], "unlike": ["nobody"], "threshold": 20},
    {"objectID": "i9", "fallbackParameters": {"filters": "category:a"}, "threshold": 90},
    {"objectID": "nobody"},
    {"image": "a.jpg"},
]
LOOK = np.ones(D, np.float32) / np.float32(D**0.5)


def seal(shard: Shard) -> None:
    """Have what is due sealed, and wait for it."""
    shard.tend(NOW_MS)
    wait_until_sync(lambda: not shard.sealing or shard.tend(NOW_MS), 60, "sealing")


class Both:
    """A catalog, answered by one that keeps and by ones made anew."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.catalog = Catalog(folder, shards=2)
        self.numbers = random.Random(seed)
        self.vectors = np.random.default_rng(seed)
        self.now_ms = NOW_MS
        self.kept = KeptAnswering(self.catalog.rules)
        self.lag_ms = 0
        for number in range(ITEMS):
            self.put(f"i{number}")

    def put(self, item_id: str) -> None:
        """A record with other values, one or two looks and a level."""
        begin_ms = self.now_ms + self.numbers.randrange(-50, 50)
        windowed = self.numbers.random() < 0.5
        self.catalog.put(
            item_id,
            self.vectors.standard_normal((self.numbers.randint(1, 2), D)).tolist(),
            facts=Facts(
                sale=self.numbers.random() < 0.5,
                discount=0.2,
                sale_from=begin_ms if windowed else None,
                sale_until=begin_ms + 40 if windowed else None,
                group=self.numbers.choice(["g", None]),
            ),
            quantity=self.numbers.choice([None, 0, 2, 50]),
            category=self.numbers.choice("abc"),
            price=self.numbers.randrange(10),
        )

    def change(self) -> None:
        """Anything that may happen between two batches."""
        item_id = f"i{self.numbers.randrange(ITEMS)}"
        shard = self.catalog.shard_of(item_id)
        number = self.numbers.randrange(10)
        if number == 0:
            self.put(item_id)
        elif number == 1:
            apply(shard, STOCKS, item_id, None)
        elif number == 2:
            apply(shard, RECORDS, item_id, None)
        elif number in (3, 9):
            self.now_ms += self.numbers.choice([7, 25, 600, 600])
        elif number == 4:
            self.catalog.use_mean(self.vectors.standard_normal(D).astype(np.float32) / np.float32(9))
        elif number == 5:
            self.lag_ms = self.numbers.randrange(3)
        elif number == 6:
            self.catalog.rules.remove("r")
        elif number == 7:
            for each in self.catalog.shards:
                seal(each)
        elif number == 8:
            window = {"from": self.now_ms // 1000, "until": self.now_ms // 1000 + 1}
            self.catalog.rule(
                "r",
                validity=[window] if self.numbers.random() < 0.5 else [],
                condition={"context": "mobile"} if self.numbers.random() < 0.5 else {},
                consequence=self.numbers.choice(
                    [
                        {"hide": [{"objectID": item_id}]},
                        {"promote": [{"objectID": item_id, "position": 1}]},
                        {"params": {"boosts": [{"filters": "category:a", "factor": 2}]}},
                        {"params": {"automaticFacetFilters": [{"facet": "category"}]}},
                    ]
                ),
            )

    def ask(self) -> None:
        """A batch, the same of both."""
        bodies = self.numbers.sample(BODIES, self.numbers.choice([1, 1, 2, len(BODIES)]))
        entries = [entry for body in bodies for entry in parse_requests(orjson.dumps(body), LIMITS, "items").entries]
        settings = AnswerSettings(lag_ms=dict.fromkeys(("item-records", "item-stocks"), self.lag_ms))
        for shard in self.catalog.shards:
            shard.advance(self.now_ms)
        shards, mean, rules = list(self.catalog.shards), self.catalog.mean, self.catalog.rules
        images = {seed.key: LOOK for seed in images_of(entries)}
        kept = self.kept.run(entries, images, shards, self.now_ms, mean, settings)
        fresh = answer_requests(entries, images, shards, rules, self.now_ms, mean=mean, settings=settings)
        assert [result.body for result in kept] == [result.body for result in fresh]


@pytest.mark.parametrize("seed", range(12))
def test_answers_are_those_made_anew(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through changes of everything that answers are made of, each followed by some batches."""
    monkeypatch.setattr(look_catalog, "SETTINGS", replace(SETTINGS, delta_rows_max=20, segment_rows_min=8, nice=0))
    both = Both(tmp_path, seed)
    for _ in range(60):
        both.change()
        for _ in range(both.numbers.randint(1, 3)):
            both.ask()


def test_what_is_kept_is_used_again_and_bounded(tmp_path: Path) -> None:
    """The same object answers the next batch, until a shard changes or it keeps too much."""
    both = Both(tmp_path, 0)

    def ask(*bodies: dict[str, Any]) -> Any:
        entries = [entry for body in bodies for entry in parse_requests(orjson.dumps(body), LIMITS, "items").entries]
        both.kept.run(entries, {}, list(both.catalog.shards), both.now_ms, both.catalog.mean, AnswerSettings())
        return both.kept._last

    first = ask({"objectID": "i1"})
    assert first is not None
    assert ask({"objectID": "i2"}) is first

    both.put("i3")
    second = ask({"objectID": "i2"})
    assert second is not None
    assert second is not first

    for filters in ("price > 3", "category:nothing"):
        before = len(second.plain)
        asked = {"objectID": "i1", "queryParameters": {"filters": filters}}
        assert ask(asked) is ask(asked, asked, asked, asked, asked) is second
        assert len(second.plain) == before + 1, "weights are the same alone and together"

    bodies = [{"objectID": "i1", "queryParameters": {"filters": f"price > {n}"}} for n in range(KEPT_MAX + 1)]
    assert ask(*bodies[: GROUPS_KEPT_MAX + 1]) is None
    for body in bodies:
        last = ask(body)
        assert last is None or len(last.questions) <= KEPT_MAX
        assert last is None or len(last.plain._scans) <= len(last.plain._groups) <= GROUPS_KEPT_MAX


def test_more_forms_of_hits_than_are_kept_are_right(tmp_path: Path) -> None:
    """One after the other and again, while nothing changes: each is what an answering made anew gives."""
    both = Both(tmp_path, 0)
    shards, mean = list(both.catalog.shards), both.catalog.mean
    for number in [*range(FORMS_MAX + 3)] * 2:
        body = {"objectID": "i1", "queryParameters": {"attributesToRetrieve": ["price", f"name-{number}"]}}
        entries = parse_requests(orjson.dumps(body), LIMITS, "items").entries
        (kept,) = both.kept.run(entries, {}, shards, both.now_ms, mean, AnswerSettings())
        (fresh,) = answer_requests(entries, {}, shards, both.catalog.rules, both.now_ms, mean=mean)
        assert kept.body == fresh.body
        assert both.kept._last is not None
        assert len(both.kept._last.writer._heads_of) <= FORMS_MAX
