"""An outcome: the hits of a question in their order, before they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from indexes.question import Place, Question, Row
from indexes.walk import Hop


class Outcome(NamedTuple):
    """The rows of an answer in their order, and where those come from that are not simply alike."""

    rows: list[Row]
    origins: Mapping[Place, str] = {}
    """`pin` or `fallback`."""
    hops: Mapping[Place, Hop] = {}
    fallback: Question | None = None
    """What filled up, if anything was asked to."""
    pool: Sequence[Row] = ()
    """With `diversity`: what the rows were chosen from, best first."""
