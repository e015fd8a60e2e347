"""Plain answers: the results of requests that ask for hits as the model finds them, all of a batch together.

Most requests of a shop are plain: no threshold, families, diversity, fallback, walk, pins or reasons.  What the
shortlist and the result writer do for them hit by hit is done here by arrays; the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from indexes.field import Candidates, Found, Groups, Weights
from indexes.hit_heads import IMAGE_BITS
from indexes.lone_scan import LoneScan
from indexes.question import Question, Row
from indexes.results import ResultWriter
from indexes.shard import Shard
from indexes.shortlist import Shortlist, units
from models.answer import HUNDREDTHS, RANK_ENDS, Result, Retrieved, rank_end, retrieved
from models.rule import Rule

SHARD_BITS = 32
NOWHERE = -1
SCORES, ENDS = np.array(HUNDREDTHS, np.object_), np.array(RANK_ENDS, np.object_)
"""To take many at once."""
TOGETHER_MAX = 128
"""Requests for up to so many candidates share one search, at the count of the one that wants most."""

ARRAYS_MIN = 4
"""Fewer requests cost less hit by hit."""


class PlainAnswers:
    """Answers plain questions; it must not outlive a change to the shards."""

    def __init__(self, shards: Sequence[Shard], shortlist: Shortlist, writer: ResultWriter) -> None:
        self._shards = shards
        self._shortlist = shortlist
        self._writer = writer
        self._groups: Groups = {}
        self._scans: dict[tuple[int, ...], LoneScan | None] = {}
        """By the same keys; None: only a search finds what these ask for."""
        self._pinning: dict[int, tuple[tuple[Rule, ...], bool]] = {}

    def __len__(self) -> int:
        """How many different weights of all rows are kept."""
        return len(self._groups)

    def asks(self, question: Question) -> bool:
        """Whether the question is one of these."""
        request = question.request
        return (
            question.seeds.usable
            and question.fetch <= TOGETHER_MAX
            and not (request.distinct or request.diversity or request.threshold or request.explain)
            and request.walk is None
            and request.fallback is None
            and not self._pins(question.rules)
            and not (request.attributes is not None and retrieved(request.attributes).derived)
        )

    def results(self, questions: Sequence[Question]) -> Iterator[tuple[Question, Result]]:
        """The result of each, at least one; they share one search."""
        if len(questions) == 1:
            (question,) = questions
            rows = self._alone(question)
            if rows is not None:
                kept = [row for row in rows if row[:2] not in question.excluded][: question.rows_wanted]
                return iter([(question, self._writer.plain(question, kept))])
        found = self._shortlist.together(questions, max([one.fetch for one in questions]), self._groups)
        return (self._by_arrays if len(questions) >= ARRAYS_MIN else self._by_hits)(questions, found)

    def _alone(self, question: Question) -> list[Row] | None:
        """The candidates of a question alone; None if only a search finds them."""
        asked = list(zip(question.masks, question.factors, strict=True))
        key = tuple([id(each) for pair in asked for each in pair])
        if key not in self._scans:
            fields = self._shortlist.fields([question])
            weights = self._groups.setdefault(key, [Weights(*pair) for pair in asked])
            self._scans[key] = LoneScan(fields, weights) if LoneScan.suits(fields, weights) else None
        scan = self._scans[key]
        return None if scan is None else scan.rows(*units([question]), question.fetch)

    def _by_hits(self, questions: Sequence[Question], found: Found) -> Iterator[tuple[Question, Result]]:
        for question, candidates in zip(questions, found.apart(), strict=True):
            rows = self._shortlist.allowed(question, candidates)[: question.rows_wanted]
            yield question, self._writer.plain(question, rows)

    def _by_arrays(self, questions: Sequence[Question], found: Found) -> Iterator[tuple[Question, Result]]:
        asker = np.repeat(np.arange(len(questions)), np.diff(found.bounds))
        kept = np.flatnonzero(self._not_excluded(questions, found.candidates, asker))
        starts = np.searchsorted(asker[kept], np.arange(len(questions) + 1))
        rows_wanted = np.array([one.rows_wanted for one in questions])
        shown = np.flatnonzero(np.arange(len(kept)) - starts[asker[kept]] < rows_wanted[asker[kept]])
        bounds = np.searchsorted(shown, starts).tolist()
        kept = kept[shown]
        pieces = self._pieces(questions, Candidates._make([each[kept] for each in found.candidates]), asker[kept])
        for question, (start, stop) in zip(questions, pairwise(bounds), strict=True):
            yield question, self._writer.written(question, pieces[3 * start : 3 * stop], stop - start)

    def _pieces(self, questions: Sequence[Question], found: Candidates, asker: NDArray[np.intp]) -> list[bytes]:
        """The bytes of all hits, three pieces each: beginning, score, end."""
        pieces = np.empty((len(asker), 3), np.object_)
        keys = found.ordinals.astype(np.int64) << IMAGE_BITS | found.image
        forms: dict[tuple[Retrieved, bool], int] = {}
        of_question = [
            forms.setdefault((retrieved(one.request.attributes), one.request.highlight), len(forms))
            for one in questions
        ]
        form = np.array(of_question)[asker] if len(forms) > 1 else np.zeros(len(asker), np.intp)
        for (asked, highlight), which in forms.items():
            for number, shard in enumerate(self._shards):
                at = np.flatnonzero((found.fields == number) & (form == which))
                pieces[at, 0] = shard.heads.form(asked, highlight).many(keys[at].tolist())
        scaled = 10_000 * np.maximum(found.similarity, 0).astype(np.float64)  # as `models.ranking` has it for one hit
        pieces[:, 1] = SCORES[np.minimum(scaled + 0.5, 10_000).astype(np.int64)]
        ranks = (scaled * found.factors + 0.5).astype(np.int64)
        pieces[:, 2] = ENDS[ranks] if ranks.max(initial=0) < len(ENDS) else list(map(rank_end, ranks.tolist()))
        flat: list[bytes] = pieces.ravel().tolist()
        return flat

    def _pins(self, rules: tuple[Rule, ...]) -> bool:
        known = self._pinning.get(id(rules))
        if known is None:
            known = self._pinning[id(rules)] = (rules, any(rule.pins for rule in rules))
        return known[1]

    @staticmethod
    def _not_excluded(questions: Sequence[Question], found: Candidates, asker: NDArray[np.intp]) -> NDArray[np.bool_]:
        """bool[K] of the candidates that their question does not exclude."""
        places = found.fields.astype(np.int64) << SHARD_BITS | found.ordinals
        excluded = [[shard << SHARD_BITS | ordinal for shard, ordinal in one.excluded] for one in questions]
        keep: NDArray[np.bool_] = (
            places != np.array([each[0] if each else NOWHERE for each in excluded], np.int64)[asker]
        )
        for number, each in enumerate(excluded):
            if len(each) > 1:
                mine = np.flatnonzero(asker == number)
                keep[mine] &= np.isin(places[mine], each[1:], invert=True)
        return keep
