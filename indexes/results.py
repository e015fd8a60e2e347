"""Results: the rows that were found become an entry's JSON, with what an answer says of its surroundings.

A hit's shape is `models/answer.py`'s; here is where its parts come from.  `tail` is what all results with the same
rules have in common, written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
import orjson

from indexes.conditions import Factors
from indexes.seeds import Unused
from indexes.shard import EMBEDDINGS, RECORDS, STOCKS, Shard
from models.answer import (
    HIT_BY_MODEL,
    HIT_BY_PIN,
    HUNDREDTHS,
    Result,
    failed,
    has_own_names,
    hundredths,
    record_part,
    result_bytes,
    result_tail,
    retrieved,
)
from models.ranking import rank_hundredths, visual_hundredths
from models.request import Request
from models.rules import Rule

Row = tuple[int, int, int, float]
"""A hit on its way: shard, ordinal, image, similarity."""

SOURCES = {RECORDS: "catalog", STOCKS: "stock", EMBEDDINGS: "images"}
"""What the watermark calls each truth."""


class AnswerSettings(msgspec.Struct, frozen=True):
    """What an answer says of its surroundings."""

    index_name: str = "items"
    shards_total: int | None = None
    """How many shards there are; None: those that are asked."""
    lag_ms: Mapping[str, int] = {}
    """By truth, how far this worker is behind its end, as far as that is known."""
    new_query_id: Callable[[], str] | None = None
    """A new `queryID` for a request with `clickAnalytics`; None: none is given."""
    elapsed_ms: Callable[[], int] | None = None
    """Time since the batch was taken, for `processingTimeMS`."""


class ResultWriter:
    """Writes the results of one batch; it must not outlive a change to the shards."""

    def __init__(self, shards: Sequence[Shard], settings: AnswerSettings) -> None:
        self._shards = shards
        self._settings = settings
        self._records = [shard.record for shard in shards]
        self._image_names = [shard.image_name for shard in shards]
        self._tails: dict[tuple[str, ...], bytes] = {}

    def failed(self, message: str, status: int) -> Result:
        """The result of an entry that cannot be answered."""
        return failed(message, status, self._settings.index_name)

    def result(
        self,
        request: Request,
        rules: tuple[Rule, ...],
        unused: Sequence[Unused],
        rows: list[Row],
        pinned: set[tuple[int, int]],
        factors: Factors,
    ) -> Result:
        """The result with these rows as its hits, in their order; `pinned` says which stand there by a pin."""
        settings = self._settings
        query_id = None
        if request.click_analytics and settings.new_query_id is not None:
            query_id = settings.new_query_id()
        elapsed_ms = settings.elapsed_ms() if settings.elapsed_ms is not None else 0
        tail = self._tail(rules)
        if unused:
            tail += result_tail({"unusedSources": [{"source": seed.name, "message": seed.message} for seed in unused]})
        hits = self._hits(request, rows, pinned, factors)
        body = result_bytes(hits, len(rows), request.count, processing_ms=elapsed_ms, query_id=query_id, tail=tail)
        return Result(body)

    def _hits(self, request: Request, rows: list[Row], pinned: set[tuple[int, int]], factors: Factors) -> bytes:
        """The hits' JSON, with commas between.  Much of an answer's time is spent here, hence the saved calls."""
        records, image_names, highlight = self._records, self._image_names, request.highlight
        asked = retrieved(request.attributes)
        plain = asked.as_it_came and not highlight
        hits: list[bytes] = []
        for number, ordinal, image, similarity in rows:
            record = records[number](ordinal)
            if plain and (b"_" not in record or not has_own_names(record)):
                part = record[:-1]
            else:
                derived = partial(_derived, self._shards[number], ordinal)
                part = record_part(record, asked, highlight=highlight, derived=derived)
            by_shard = factors[number]
            rank = rank_hundredths(similarity, 1.0 if by_shard is None else by_shard.item(ordinal))
            score = HUNDREDTHS[visual_hundredths(similarity)]
            rank_score = HUNDREDTHS[rank] if rank < 20_000 else hundredths(rank)
            name = orjson.dumps(image_names[number](ordinal, image))
            form = HIT_BY_PIN if pinned and (number, ordinal) in pinned else HIT_BY_MODEL
            hits.append(form % (part, score, rank_score, name))
        return b",".join(hits)

    def _tail(self, rules: tuple[Rule, ...]) -> bytes:
        rule_ids = tuple([rule.rule_id for rule in rules])
        tail = self._tails.get(rule_ids)
        if tail is None:
            total = self._settings.shards_total if self._settings.shards_total is not None else len(self._shards)
            answered = len(self._shards)
            tail = result_tail(
                {
                    "index": self._settings.index_name,
                    "appliedRules": rule_ids,
                    "watermark": watermark(self._shards, self._settings.lag_ms),
                    "coverage": {"answered": answered, "of": total, "share": round(answered / max(total, 1), 4)},
                }
            )
            self._tails[rule_ids] = tail
        return tail


def watermark(shards: Sequence[Shard], lag_ms: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """By source (`catalog`, `stock`, `images`) the Unix ms `at` of the newest change in the shards, and its `lagMS`."""
    newest: dict[str, dict[str, int]] = {}
    for truth, name in SOURCES.items():
        moments = [shard.watermark[truth] for shard in shards if truth in shard.watermark]
        newest[name] = ({"at": max(moments)} if moments else {}) | ({"lagMS": lag_ms[truth]} if truth in lag_ms else {})
    return newest


def _derived(shard: Shard, ordinal: int) -> dict[str, Any]:
    """The derived attributes of an item as they are now."""
    columns = shard.columns
    stock = columns.stock.item(ordinal)
    return {
        "on_sale": columns.on_sale.item(ordinal),
        "discount": columns.discount.item(ordinal),
        "stock": None if np.isnan(stock) else int(stock) if stock.is_integer() else stock,
        "low_stock": columns.low_stock.item(ordinal),
        "out_of_stock": columns.out_of_stock.item(ordinal),
        "in_stock": columns.in_stock.item(ordinal),
    }
