"""Answering: parsed requests in, results out.  The same function serves Kafka, HTTP and the console.

1. The seeds of each request become one query vector (`seeds.py`).
2. The rules that apply, the request's own filters and the stock say which items may be hits and what factors they have
   (`question.py`, `conditions.py`).
3. One search over all shards for all requests that want about as many hits (`search.py`, `shortlist.py`); or a walk.
4. Hits are spread, filled up and pinned, as asked for; then they become bytes (`results.py`, `models/answer.py`).

It is pure: no clock, no chance but a request's own seed; what is kept between calls changes no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from indexes.explanation import Explained, Explainer
from indexes.looks import Looks
from indexes.outcome import Outcome
from indexes.pins import Pins
from indexes.plain_answers import ARRAYS_MIN, TOGETHER_MAX, PlainAnswers
from indexes.question import Question, Questions, Row
from indexes.results import AnswerSettings, ResultWriter
from indexes.seeds import Seeds, resolve_seeds, seeds_of_item, seeds_of_items
from indexes.shard import Shard
from indexes.shortlist import Shortlist
from indexes.walk import Walker
from models.answer import Result
from models.diversity import spread
from models.errors import BadRequest, KindredError
from models.ranking import place
from models.request import ImageKey, Request
from models.rules import RuleBook

Vectors = NDArray[np.float32]

KEPT_MAX = 64
"""Combinations of rules and filters, and what belongs to them, that are kept; with more, all are forgotten at once."""
GROUPS_KEPT_MAX = 8
"""Different weights of all rows: 8 to 16 bytes a row each."""


def answer_requests(
    entries: Sequence[Request | BadRequest],
    images: Mapping[ImageKey, Vectors | KindredError],
    shards: Sequence[Shard],
    rules: RuleBook,
    now_ms: int,
    *,
    mean: Vectors | None,
    settings: AnswerSettings = AnswerSettings(),
    seen: Callable[[Question, Outcome], None] | None = None,
) -> list[Result]:
    """The results of `entries`, in their order.

    `images`: by `ImageSeed.key`, for every image that an entry names, its raw unit vector float32[D] or the error that
    stands in its way.  `mean` float32[D]: what the shards centre by.  `now_ms`: Unix ms, to which the shards were
    advanced.  `seen` is told what each entry that can be answered came to, `Question.number` being its place.
    """
    return Answering(shards, rules, now_ms, mean, settings).run(entries, images, seen)


class KeptAnswering:
    """Answers batch after batch, and keeps what was worked out for one as long as no shard has changed.

    In a shop requests come more often than changes, and most have the same rules and filters.
    """

    def __init__(self, rules: RuleBook) -> None:
        self._rules = rules
        self._last: Answering | None = None

    def run(
        self,
        entries: Sequence[Request | BadRequest],
        images: Mapping[ImageKey, Vectors | KindredError],
        shards: Sequence[Shard],
        now_ms: int,
        mean: Vectors | None,
        settings: AnswerSettings,
    ) -> list[Result]:
        """The results that `answer_requests` gives."""
        answering, self._last = self._last, None
        if answering is None or not answering.fits(shards, mean, settings):
            answering = Answering(shards, self._rules, now_ms, mean, settings)
        else:
            answering.later(now_ms, settings)
        results = answering.run(entries, images, None)
        if answering.is_light:
            self._last = answering
        return results


class Answering:
    """Answers batches; it must not outlive a change to the shards."""

    def __init__(
        self, shards: Sequence[Shard], rules: RuleBook, now_ms: int, mean: Vectors | None, settings: AnswerSettings
    ) -> None:
        self.shards = shards
        self.mean = mean
        self.questions = Questions(shards, rules, now_ms)
        self.shortlist = Shortlist(shards)
        self.writer = ResultWriter(shards, settings)
        self.rules = rules
        self._changes = _changes(shards, rules)
        self.plain = PlainAnswers(shards, self.shortlist, self.writer)

    def fits(self, shards: Sequence[Shard], mean: Vectors | None, settings: AnswerSettings) -> bool:
        """Whether it would answer from these shards, as they are now, what a new one would."""
        return (
            mean is self.mean
            and self.shards == shards
            and self._changes == _changes(shards, self.rules)
            and self.writer.fits(settings)
        )

    @property
    def is_light(self) -> bool:
        """Whether what it keeps is worth its memory."""
        return len(self.questions) <= KEPT_MAX and len(self.plain) <= GROUPS_KEPT_MAX

    def later(self, now_ms: int, settings: AnswerSettings) -> None:
        """Answer the next batch, at another moment (Unix ms)."""
        self.questions.later(now_ms)
        self.writer.later(settings)

    @cached_property
    def looks(self) -> Looks:
        """Which of an item's images look most like something."""
        return Looks(self.shards)

    @cached_property
    def pins(self) -> Pins:
        """What rules want at a place."""
        return Pins(self.shards, self.looks)

    def run(
        self,
        entries: Sequence[Request | BadRequest],
        images: Mapping[ImageKey, Vectors | KindredError],
        seen: Callable[[Question, Outcome], None] | None,
    ) -> list[Result]:
        results: list[Result | None] = [None] * len(entries)
        asked, failed = self.understood(entries, images)
        for number, error in failed.items():
            results[number] = self.writer.failed(str(error), error.status)
        plain = [one for one in asked if self.plain.asks(one)] if seen is None else []
        if plain:
            for question, result in self.plain.results(plain):
                results[question.number] = result
            asked = [one for one in asked if results[one.number] is None]
        for question, outcome in self.outcomes(asked) if asked else ():
            explained = self._explained(question, outcome) if question.request.explain else None
            results[question.number] = self.writer.result(question, outcome, explained)
            if seen is not None:
                seen(question, outcome)
        return [result for result in results if result is not None]

    def understood(
        self, entries: Sequence[Request | BadRequest], images: Mapping[ImageKey, Vectors | KindredError]
    ) -> tuple[list[Question], dict[int, BadRequest]]:
        """The questions of all entries that can be answered, and by number why the others cannot."""
        asked: list[Question] = []
        failed: dict[int, BadRequest] = {}
        known: dict[int, Seeds | None] = {}
        if len(entries) >= ARRAYS_MIN:
            requests = {number: entry for number, entry in enumerate(entries) if isinstance(entry, Request)}
            known = dict(zip(requests, seeds_of_items(list(requests.values()), self.shards), strict=True))
        for number, entry in enumerate(entries):
            try:
                asked.append(self._question(number, entry, images, known.get(number)))
            except BadRequest as error:
                failed[number] = error.kept()
        return asked, failed

    def _question(
        self,
        number: int,
        entry: Request | BadRequest,
        images: Mapping[ImageKey, Vectors | KindredError],
        seeds: Seeds | None = None,
    ) -> Question:
        """The question of an entry, whose `seeds` may be known; BadRequest if it cannot be answered."""
        if isinstance(entry, BadRequest):
            raise entry
        if seeds is None:
            seeds = seeds_of_item(entry, self.shards) or resolve_seeds(entry, images, self.shards, self.mean)
        if not seeds.usable and (entry.fallback is None or not self.shards):
            raise BadRequest(seeds.unused[0].message, seeds.unused[0].status)
        return self.questions.of(number, entry, seeds)

    # From a question to its outcome

    def outcomes(self, asked: Sequence[Question]) -> list[tuple[Question, Outcome]]:
        """Each question with its outcome, not in their order; `number` tells them apart."""
        found: list[tuple[Question, Outcome]] = []
        for group in _groups([one for one in asked if one.request.walk is None and one.seeds.usable]):
            for one, rows in zip(group, self.shortlist.rows(group), strict=True):
                found.append(
                    (one, Outcome(self._spread(one, rows), pool=rows) if one.request.diversity else Outcome(rows))
                )
        for one in asked:
            if not one.seeds.usable:
                found.append((one, Outcome([])))
            elif one.request.walk is not None:
                rows, hops = Walker(self.shortlist, self.looks).rows(one)
                found.append((one, Outcome(rows, hops=hops)))
        if any(one.request.fallback is not None for one, _ in found):
            found = self._filled_up(found)
        return [(one, self._pinned(one, outcome)) for one, outcome in found]

    def _spread(self, question: Question, rows: list[Row]) -> list[Row]:
        if not rows:
            return rows
        relevance = np.array([question.adjusted(row) for row in rows], np.float64)
        matched = question.seeds.compared(self.looks.matched(rows))
        order = spread(relevance, matched, question.request.count, question.request.diversity)
        return [rows[at] for at in order]

    def _filled_up(self, found: Sequence[tuple[Question, Outcome]]) -> list[tuple[Question, Outcome]]:
        """With the hits of their fallbacks, where hits are lacking."""
        fallbacks = {
            one.number: self.questions.fallback(one, outcome.rows)
            for one, outcome in found
            if one.request.fallback is not None and len(outcome.rows) < one.request.count
        }
        more: dict[int, list[Row]] = {}
        for group in _groups([fallback for fallback in fallbacks.values() if fallback.seeds.usable]):
            more |= {one.number: rows for one, rows in zip(group, self.shortlist.rows(group), strict=True)}
        filled = []
        for one, outcome in found:
            if fallback := fallbacks.get(one.number):
                rows = more[one.number] if one.seeds.usable else self.shortlist.unlooked(fallback)
                origins = dict.fromkeys([row[:2] for row in rows], "fallback")
                outcome = outcome._replace(rows=outcome.rows + rows, origins=origins, fallback=fallback)
            filled.append((one, outcome))
        return filled

    def _pinned(self, question: Question, outcome: Outcome) -> Outcome:
        """With pins in their places."""
        if not question.rules or question.request.walk is not None:
            return outcome
        pins = list(self.pins.shown(question))
        if not pins:
            return outcome
        pinned = {row[:2] for _, row in pins}
        rows = place([row for row in outcome.rows if row[:2] not in pinned], pins, question.request.count)
        shown = {row[:2] for row in rows}
        origins = {at: why for at, why in outcome.origins.items() if at in shown} | dict.fromkeys(pinned & shown, "pin")
        return outcome._replace(rows=rows, origins=origins)

    def _explained(self, question: Question, outcome: Outcome) -> Explained:
        explainer = Explainer(self.shards, self.questions.conditions, self.shortlist, self.looks, self.pins)
        return explainer.explain(question, outcome)


def _changes(shards: Sequence[Shard], rules: RuleBook) -> list[int]:
    """Counts that tell whether anything has changed that answers are made of, but for the time and the mean."""
    counts = [rules.changes]
    for shard in shards:
        counts += (shard.changes, shard.columns.changes)
    return counts


def _groups(asked: Sequence[Question]) -> list[list[Question]]:
    """Questions that are searched for together."""
    together = [one for one in asked if one.fetch <= TOGETHER_MAX]
    return ([together] if together else []) + [[one] for one in asked if one.fetch > TOGETHER_MAX]
