"""What the demo's page shows: a tour's steps, their events and answers, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ShownItem:
    """An item on a card: as source (scores None), or as a hit with the scores of the answer.

    `picture` are the bytes of any image that `models.image` reads; `in_focus` marks the item that a step is about;
    `reason` says in a few words what moved it.
    """

    item_id: str
    title: str
    picture: bytes | None = None
    price: float | None = None
    list_price: float | None = None
    stock: float | None = None
    on_sale: bool = False
    low_stock: bool = False
    out_of_stock: bool = False
    score: float | None = None
    rank_score: float | None = None
    in_focus: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """An event as it was sent: its topic, key, and value (what JSON can say; None is a tombstone).

    `changed` names the attributes of the value that matter to the step: they are marked.  `alert` names the alert
    that it is to bring.
    """

    topic: str
    key: str
    value: Any
    changed: tuple[str, ...] = ()
    alert: str = ""


@dataclass(frozen=True, slots=True)
class ShownAlert:
    """An alert as it was read: its key, value, and the milliseconds since its event was sent."""

    key: str
    value: Mapping[str, Any]
    after_ms: float


@dataclass(frozen=True, slots=True)
class TourStep:
    """A step: what was sent, the answer before and after it, how long things took, and why it came out so.

    Without `before` there is one row; `timings` are (what, milliseconds).  `alert` is what `item-alerts` said.
    `passed` says whether it came out as it should.
    """

    title: str
    reason: str
    events: tuple[ShownEvent, ...] = ()
    source: ShownItem | None = None
    before: tuple[ShownItem, ...] | None = None
    after: tuple[ShownItem, ...] = ()
    timings: tuple[tuple[str, float], ...] = ()
    alert: ShownAlert | None = None
    passed: bool = True


@dataclass(frozen=True, slots=True)
class TourTotals:
    """What the whole tour came to.  A figure that is None was not measured and is left out."""

    items: int
    embeds_per_s: float | None = None
    freshness_ms: float | None = None
    answer_ms: float | None = None
    notes: tuple[tuple[str, str], ...] = ()
