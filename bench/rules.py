"""Rules and reasons: CPU of whole requests, from a body's bytes to the result's, in process and without Kafka.

1. With no rules, with 100 and with 10,000 that do not touch the requests, and with some that do; asked one at a time,
   and as many together as a worker takes of a poll.
2. With `explain` absent, off and on.

Rounds go through all sorts in turn, so that what disturbs a round disturbs every row of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import orjson

from bench.embeddings import many_vectors, real_vectors
from bench.filled_shards import FilledShards
from bench.ground import Ground
from bench.meter import median, ratio
from bench.report import Goal, Table
from models.rules import Rule, RuleBook, parse_rule
from streams.serve.answerer import Answerer
from streams.settings import Settings

ITEMS = 10_000
HITS = 20
TOGETHER = 64
"""As `streams/serve/stage.py` takes them of a poll."""
FEW, MANY = 100, 10_000
UNTOUCHED = Goal(at_most=1.1)
"""Of requests without rules: what a rule costs that has nothing to do with them."""
OFF = Goal(at_most=1.05)
"""Of requests that do not name `explain`: the same code runs, so this is what the measurement is worth."""
COLUMNS = ("CPU us", "rules applied", "requests")
EXPLAIN_COLUMNS = ("CPU us", "bytes", "requests")


async def measure(ground: Ground) -> list[Table]:
    """Both tables."""
    shop = FilledShards(ground.folder / "rules-shards", many_vectors(ITEMS, real_vectors()))
    ground.say(f"{ITEMS:,} items loaded")
    return [_rules(ground, shop), _explain(ground, shop)]


class Asked(NamedTuple):
    """One round: CPU us a request, and what the last answer was."""

    cpu_us: float
    result: Mapping[str, Any]
    result_bytes: int


Sort = Callable[[], Asked]


def elsewhere(count: int) -> list[Rule]:
    """Rules as shops have them, none of which touches a request of this benchmark: they ask for values and numbers that
    no source item has, for contexts that no request is in, or are out of season.
    """
    conditions: list[dict[str, Any]] = [
        {"condition": {"filters": "category:elsewhere-{}"}},
        {"condition": {"filters": "price > {}000"}},
        {"condition": {"filters": "brand:brand-{} AND category:category-3"}},
        {"condition": {"filters": "category:category-3", "context": "campaign-{}"}},
        {"validity": [{"from": 1, "until": 2}]},
    ]
    bodies = [conditions[number % len(conditions)] for number in range(count)]
    return [
        _rule(f"elsewhere-{number}", orjson.loads(orjson.dumps(body).replace(b"{}", b"%d" % (number + 1))))
        for number, body in enumerate(bodies)
    ]


def touching() -> list[Rule]:
    """Four rules that apply to every request: a filter, factors, something hidden, something pinned."""
    params = [{"filters": "price < 90"}, {"boosts": [{"filters": "price < 20", "factor": 1.2}]}]
    more = [{"params": each} for each in params]
    more += [{"hide": [{"objectID": "item-000007"}]}, {"promote": [{"objectID": "item-000009", "position": 3}]}]
    return [
        _rule(f"touching-{n}", {"condition": {"filters": "price > 0"}, "consequence": each})
        for n, each in enumerate(more)
    ]


def asked_each_time(count: int) -> list[Rule]:
    """Rules of which nothing can be looked up, since they say only what the source item is not."""
    return [_rule(f"not-{n}", {"condition": {"filters": f"NOT price < {1_000 + n}"}}) for n in range(count)]


def _rule(rule_id: str, body: Mapping[str, Any]) -> Rule:
    some = {"consequence": {"params": {"boosts": [{"filters": "price < 50", "factor": 1.5}]}}}
    return parse_rule(rule_id, orjson.dumps(some | dict(body)))


def _answerer(shop: FilledShards, rules: Sequence[Rule]) -> Answerer:
    index: Any = SimpleNamespace(
        shards=dict(enumerate(shop.shards)),
        mean=shop.mean,
        dimension=len(shop.mean),
        loaded=True,
        lags_ms=lambda now_ms: {},
    )
    vectors: Any = SimpleNamespace()
    return Answerer(Settings(shards=len(shop.shards)), lambda: shop.now_ms, index, vectors, RuleBook(rules))


def _sort(answerer: Answerer, bodies: Sequence[bytes], together: int) -> Sort:
    """Asks all bodies, `together` at a time as serving does, and takes the time of it."""

    def ask() -> Asked:
        begin = time.process_time()
        for start in range(0, len(bodies), together):
            entries = [answerer.parse(body).entries[0] for body in bodies[start : start + together]]
            results = answerer.answer(entries, {})
        took_s = time.process_time() - begin
        assert all(result.status == 200 for result in results), results[0].message
        return Asked(took_s / len(bodies) * 1e6, orjson.loads(results[-1].body), len(results[-1].body))

    return ask


def _rounds(sorts: Mapping[str, Sort], rounds: int) -> dict[str, list[Asked]]:
    """Every sort in turn, `rounds` times; the first time does not count."""
    found: dict[str, list[Asked]] = {what: [] for what in sorts}
    for number in range(rounds + 1):
        for what, ask in sorts.items():
            asked = ask()
            if number:
                found[what].append(asked)
    return found


def _bodies(shop: FilledShards, count: int, **fields: Any) -> list[bytes]:
    chosen = random.Random(5).choices(shop.item_ids, k=count)
    return [orjson.dumps({"objectID": item_id, "maxRecommendations": HITS} | fields) for item_id in chosen]


def _rules(ground: Ground, shop: FilledShards) -> Table:
    title = f"requests for {HITS} of {ITEMS:,} items with rules, in process: one at a time, and {TOGETHER} together"
    table = Table("rules", title, COLUMNS)
    untouched, applied = "none touches", "4 apply"
    books: dict[str, list[Rule]] = {
        "no rules": [],
        f"{FEW} rules, {untouched}": elsewhere(FEW),
        f"{MANY:,} rules, {untouched}": elsewhere(MANY),
        f"4 rules, {applied}": touching(),
        f"{MANY:,} rules, {applied}": [*touching(), *elsewhere(MANY - 4)],
        f"{FEW} rules of NOT alone, asked each time": asked_each_time(FEW),
    }
    answerers = {what: _answerer(shop, rules) for what, rules in books.items()}
    for how, together, count in (("alone", 1, ground.pick(96, 192)), ("together", TOGETHER, ground.pick(512, 1_024))):
        bodies, rounds = _bodies(shop, count), ground.pick(5, 7)
        found = _rounds({what: _sort(one, bodies, together) for what, one in answerers.items()}, rounds)
        baseline = [asked.cpu_us for asked in found["no rules"]]
        for what, every in found.items():
            took = [asked.cpu_us for asked in every]
            table.add(
                f"{how}: {what}",
                {
                    "CPU us": median(took),
                    "rules applied": len(every[-1].result["appliedRules"]),
                    "requests": count * rounds,
                },
                ratio=ratio(took, baseline) if books[what] else None,
                goal=UNTOUCHED if untouched in what else None,
            )
        ground.say(f"{how}: {median(baseline):,.0f} us without rules")
    table.notes.append("The built-in rule counts among those that applied.")
    return table


def _explain(ground: Ground, shop: FilledShards) -> Table:
    title = f"requests for {HITS} of {ITEMS:,} items, a filter, {FEW} rules, in process"
    table = Table("explain", title, EXPLAIN_COLUMNS)
    answerer = _answerer(shop, [*touching(), *elsewhere(FEW - 4)])
    count, rounds = ground.pick(48, 96), ground.pick(5, 7)
    asked: dict[str, dict[str, Any]] = {"not asked for": {}, "explain: false": {"explain": False}}
    asked["explain: true"] = {"explain": True}
    some = {"queryParameters": {"filters": "price < 60"}}
    found = _rounds(
        {what: _sort(answerer, _bodies(shop, count, **some | one), 1) for what, one in asked.items()}, rounds
    )
    baseline = [each.cpu_us for each in found["not asked for"]]
    for what, every in found.items():
        took = [each.cpu_us for each in every]
        table.add(
            what,
            {"CPU us": median(took), "bytes": every[-1].result_bytes, "requests": count * rounds},
            ratio=ratio(took, baseline) if asked[what] else None,
            goal=OFF if what == "explain: false" else None,
        )
    table.notes.append("One at a time: a request that wants reasons is answered by itself.")
    return table
