"""Results: the rows that were found become an entry's JSON, with what an answer says of its surroundings.

A hit's shape is `models/answer.py`'s; here is where its parts come from.  `tail` is what all results with the same
rules have in common, written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson

from indexes.conditions import Factors
from indexes.explanation import Explained
from indexes.hit_heads import FORMS_MAX, IMAGE_BITS, FormHeads, head_key
from indexes.outcome import Outcome
from indexes.question import Question, Row
from indexes.shard import EMBEDDINGS, RECORDS, STOCKS, Shard
from models.answer import (
    HUNDREDTHS,
    RANK_ENDS,
    Result,
    Retrieved,
    derived_part,
    failed,
    from_elsewhere,
    rank_end,
    result_bytes,
    result_end,
    result_tail,
    retrieved,
)
from models.ranking import rank_hundredths, visual_hundredths
from models.rule import Rule

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
    """Writes results; it must not outlive a change to the shards."""

    def __init__(self, shards: Sequence[Shard], settings: AnswerSettings) -> None:
        self._shards = shards
        self.settings = settings
        self._tails: dict[int, tuple[tuple[Rule, ...], bytes]] = {}
        self._ends: dict[tuple[int, int, int, int], bytes] = {}
        self._heads_of: dict[tuple[Retrieved, bool], list[FormHeads]] = {}

    def fits(self, settings: AnswerSettings) -> bool:
        """Whether what is kept is what these settings would make, but for moments and new ids."""
        mine = self.settings
        return (
            mine.lag_ms == settings.lag_ms
            and mine.index_name == settings.index_name
            and mine.shards_total == settings.shards_total
        )

    def later(self, settings: AnswerSettings) -> None:
        """The next batch has these settings."""
        self.settings = settings
        self._ends.clear()

    def failed(self, message: str, status: int) -> Result:
        """The result of an entry that cannot be answered."""
        return failed(message, status, self.settings.index_name)

    def result(self, question: Question, outcome: Outcome, explained: Explained | None) -> Result:
        """The result with these rows as its hits, in their order."""
        asked = retrieved(question.request.attributes)
        heads = self._heads(question, asked)
        if outcome.origins or explained is not None or asked.derived:
            pieces = self._hits(heads, question, outcome, asked, explained)
        else:
            pieces = self._plain_hits(heads, outcome.rows, question.factors)
        return self.written(question, pieces, len(outcome.rows), explained)

    def plain(self, question: Question, rows: list[Row]) -> Result:
        """The same of a question whose hits are as the model found them."""
        pieces = self._plain_hits(self._heads(question, retrieved(question.request.attributes)), rows, question.factors)
        return self.written(question, pieces, len(rows))

    def _heads(self, question: Question, asked: Retrieved) -> list[FormHeads]:
        """Of each shard the beginnings of hits in the form that is asked for."""
        form = (asked, question.request.highlight)
        heads = self._heads_of.get(form)
        if heads is None or any(each.ended for each in heads):
            if len(self._heads_of) >= FORMS_MAX:
                self._heads_of.clear()
            heads = self._heads_of[form] = [shard.heads.form(*form) for shard in self._shards]
        return heads

    def written(
        self, question: Question, pieces: Sequence[bytes], count: int, explained: Explained | None = None
    ) -> Result:
        """The result with these `count` hits, in pieces."""
        settings, request = self.settings, question.request
        elapsed_ms = settings.elapsed_ms() if settings.elapsed_ms is not None else 0
        if explained is None and not question.seeds.unused and not request.click_analytics:
            key = (count, request.count, elapsed_ms, id(question.rules))  # `_tail` keeps the rules
            end = self._ends.get(key)
            if end is None:
                end = self._ends[key] = self._end(question, count, elapsed_ms, self._tail(question.rules))
            return Result(result_bytes(pieces, end))
        tail = self._tail(question.rules)
        if question.seeds.unused:
            tail += result_tail(
                {"unusedSources": [{"source": seed.name, "message": seed.message} for seed in question.seeds.unused]}
            )
        if explained is not None:
            tail += result_tail({"explain": explained.answer})
        return Result(result_bytes(pieces, self._end(question, count, elapsed_ms, tail)))

    def _end(self, question: Question, count: int, elapsed_ms: int, tail: bytes) -> bytes:
        new_query_id = self.settings.new_query_id if question.request.click_analytics else None
        query_id = None if new_query_id is None else new_query_id()
        return result_end(count, question.request.count, processing_ms=elapsed_ms, query_id=query_id, tail=tail)

    @staticmethod
    def _plain_hits(heads: Sequence[FormHeads], rows: list[Row], factors: Factors) -> list[bytes]:
        """The pieces of hits that the model found.

        The same as `_hits`, in half the time: scores are worked out here (as `models.ranking` has them).
        """
        scores, ends, ends_max = HUNDREDTHS, RANK_ENDS, len(RANK_ENDS)
        gets = [by_shard.get for by_shard in heads]
        items = [None if by_shard is None else by_shard.item for by_shard in factors]
        pieces: list[bytes] = []
        put = pieces.append
        for number, ordinal, image, similarity in rows:
            put(gets[number](ordinal << IMAGE_BITS | image) or heads[number].make(ordinal, image))
            if similarity > 0:
                scaled = 10_000 * similarity
                item = items[number]
                rank = int(scaled + 0.5) if item is None else int(scaled * item(ordinal) + 0.5)
                put(scores[int(scaled + 0.5)] if similarity < 1 else scores[10_000])
                put(ends[rank] if rank < ends_max else rank_end(rank))
            else:
                put(scores[0])
                put(ends[0])
        return pieces

    def _hits(
        self,
        heads: Sequence[FormHeads],
        question: Question,
        outcome: Outcome,
        asked: Retrieved,
        explained: Explained | None,
    ) -> list[bytes]:
        """The pieces of any hits."""
        pieces: list[bytes] = []
        for at, row in enumerate(outcome.rows):
            number, ordinal, image, similarity = row
            head = heads[number].get(head_key(ordinal, image)) or heads[number].make(ordinal, image)
            origin = outcome.origins.get(row[:2])
            ranked_by = outcome.fallback if origin == "fallback" and outcome.fallback is not None else question
            end = rank_end(rank_hundredths(similarity, ranked_by.factor(row)))
            if asked.derived:
                end = b"%b%b}," % (end[:-2], derived_part(_derived(self._shards[number], ordinal), asked))
            if explained is not None:
                end = b'%b,"_explain":%b},' % (end[:-2], orjson.dumps(explained.hits[at]))
            pieces += (from_elsewhere(head, origin) if origin else head, HUNDREDTHS[visual_hundredths(similarity)], end)
        return pieces

    def _tail(self, rules: tuple[Rule, ...]) -> bytes:
        known = self._tails.get(id(rules))
        if known is None:
            total = self.settings.shards_total if self.settings.shards_total is not None else len(self._shards)
            answered = len(self._shards)
            tail = result_tail(
                {
                    "index": self.settings.index_name,
                    "appliedRules": [rule.rule_id for rule in rules],
                    "watermark": watermark(self._shards, self.settings.lag_ms),
                    "coverage": {"answered": answered, "of": total, "share": round(answered / max(total, 1), 4)},
                }
            )
            known = self._tails[id(rules)] = (rules, tail)  # the rules too, so that no others get their identity
        return known[1]


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
