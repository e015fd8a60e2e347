"""Plain answers: the results of requests that ask for hits as the model finds them, all of a batch together.

Most requests of a shop are plain: no threshold, families, diversity, fallback, walk, pins or reasons.  What the
shortlist and the result writer do for them hit by hit is done here by arrays; the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from indexes.field import Candidates, joined
from indexes.hit_heads import IMAGE_BITS
from indexes.question import Question
from indexes.results import ResultWriter
from indexes.shard import Shard
from indexes.shortlist import Shortlist
from models.answer import HUNDREDTHS, RANK_ENDS, Result, rank_end, retrieved
from models.rule import Rule

SHARD_BITS = 32
NOWHERE = -1
TOGETHER_MAX = 128
"""Requests for up to so many candidates share one search, at the count of the one that wants most."""

PLAIN_MIN = 4
"""Fewer cost less hit by hit."""


class PlainAnswers:
    """Answers plain questions of one batch."""

    def __init__(self, shards: Sequence[Shard], shortlist: Shortlist, writer: ResultWriter) -> None:
        self._shards = shards
        self._shortlist = shortlist
        self._writer = writer
        self._pinning: dict[int, tuple[tuple[Rule, ...], bool]] = {}

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
        """The result of each; they share one search."""
        found = self._shortlist.candidates(questions, max([one.fetch for one in questions]))
        lengths = [len(one.ordinals) for one in found]
        whole = joined(found)
        kept = np.flatnonzero(self._not_excluded(questions, whole, lengths))
        bounds = np.searchsorted(kept, [0, *accumulate(lengths)]).tolist()
        whole = Candidates._make([each[kept] for each in whole])
        hits = _hundredths(whole)
        fields, keys = whole.fields.tolist(), (whole.ordinals.astype(np.int64) << IMAGE_BITS | whole.image).tolist()
        for question, (start, stop) in zip(questions, pairwise(bounds), strict=True):
            place = slice(start, min(stop, start + question.rows_wanted))
            request = question.request
            asked = retrieved(request.attributes)
            heads = [shard.heads.form(asked, request.highlight) for shard in self._shards]
            gets = [by_shard.get for by_shard in heads]
            beginnings = [
                gets[number](key) or heads[number].make(key >> IMAGE_BITS, key & (1 << IMAGE_BITS) - 1)
                for number, key in zip(fields[place], keys[place], strict=True)
            ]
            pieces = [b""] * (3 * len(beginnings))
            pieces[::3], pieces[1::3], pieces[2::3] = beginnings, hits[0][place], hits[1][place]
            yield question, self._writer.written(question, pieces, len(beginnings))

    def _pins(self, rules: tuple[Rule, ...]) -> bool:
        known = self._pinning.get(id(rules))
        if known is None:
            known = self._pinning[id(rules)] = (rules, any(rule.pins for rule in rules))
        return known[1]

    @staticmethod
    def _not_excluded(questions: Sequence[Question], found: Candidates, lengths: Sequence[int]) -> NDArray[np.bool_]:
        """bool[K] of the candidates that their question does not exclude."""
        places = found.fields.astype(np.int64) << SHARD_BITS | found.ordinals
        excluded = [[shard << SHARD_BITS | ordinal for shard, ordinal in one.excluded] for one in questions]
        first = np.array([each[0] if each else NOWHERE for each in excluded], np.int64)
        keep: NDArray[np.bool_] = places != np.repeat(first, lengths)
        for number, each in enumerate(excluded):
            if len(each) > 1:
                start = sum(lengths[:number])
                mine = slice(start, start + lengths[number])
                keep[mine] &= np.isin(places[mine], each[1:], invert=True)
        return keep


def _hundredths(found: Candidates) -> tuple[list[bytes], list[bytes]]:
    """The scores and the ends of hits: `models.ranking` has both as functions of one hit."""
    scaled = 10_000 * np.maximum(found.similarity, 0).astype(np.float64)
    scores = np.minimum(scaled + 0.5, 10_000).astype(np.int64)
    ranks = (scaled * found.factors + 0.5).astype(np.int64)
    end = RANK_ENDS.__getitem__ if ranks.max(initial=0) < len(RANK_ENDS) else rank_end
    return list(map(HUNDREDTHS.__getitem__, scores.tolist())), list(map(end, ranks.tolist()))
