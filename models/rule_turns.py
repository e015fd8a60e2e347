"""Rule turns: when time alone changes which rules apply, and which flags of a source item do."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from models.rule import Rule
from models.stock import DERIVED


class RuleTurns:
    """What follows from all rules in force together."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        asked: set[str] = set()
        moments: set[int] = set()
        for rule in rules:
            asked |= rule.asked()
            moments.update([moment for window in rule.validity for moment in window if moment is not None])
        self.source_flags = frozenset(asked).intersection(DERIVED)
        """Derived attributes that a rule asks of the source item."""
        self._moments = sorted(moments)

    def next_ms(self, now_ms: int) -> int | None:
        """The first moment after `now_ms` (Unix ms) at which a window opens or closes; None: none does."""
        at = bisect_right(self._moments, now_ms)
        return self._moments[at] if at < len(self._moments) else None
