"""Answers and records as a step shows them: items on cards, and the built-in rule's factors in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.filter_tree import matches
from models.rules import DEFAULT_RULE, Boost
from models.stock import DERIVED
from streams.demo import targets
from streams.demo.showcase import Showcase
from streams.demo.tour_steps import ShownItem
from streams.demo.visitor import Answer, Hit

SHOWN = 7
"""Hits of an answer that are shown; a step's own hit is shown further down, too, up to `SHOWN_MAX`."""
SHOWN_MAX = 10


class Display:
    """Shows what is in a showcase."""

    def __init__(self, showcase: Showcase) -> None:
        self.showcase = showcase

    def title(self, item_id: str) -> str:
        """Return what an item is called."""
        return title_of(self.showcase.records[item_id])

    def source(self, item_id: str) -> ShownItem:
        """Return an item as it was last told on the topic."""
        record = self.showcase.records[item_id]
        price, list_price = record.get("price"), record.get("list_price")
        return ShownItem(
            str(record["objectID"]),
            title_of(record),
            self.showcase.picture(record),
            price,
            list_price,
            on_sale=bool(price and list_price and price < list_price),
        )

    def rows(self, answer: Answer, focus: str = "", reason: str = "") -> tuple[ShownItem, ...]:
        """The hits that are shown, with the one in focus even if it stands further down."""
        place = answer.place(focus)
        count = max(SHOWN, min(place + 1, SHOWN_MAX)) if place is not None else SHOWN
        return tuple(self._row(hit, focus, reason) for hit in answer.hits[:count])

    def _row(self, hit: Hit, focus: str, reason: str) -> ShownItem:
        mine = hit["objectID"] == focus
        return ShownItem(
            hit["objectID"],
            title_of(hit),
            self.showcase.picture(hit),
            hit.get("price"),
            hit.get("list_price"),
            hit.get("stock"),
            bool(hit.get("on_sale")),
            bool(hit.get("low_stock")),
            bool(hit.get("out_of_stock")),
            hit["_score"],
            hit["_rankScore"],
            mine,
            reason if mine else "",
        )


def ranked(answer: Answer) -> list[targets.Hit]:
    """The hits of an answer as `targets` reads them."""
    return [
        targets.Hit(
            hit["objectID"], hit["_score"], hit["_rankScore"], bool(hit.get("on_sale")), bool(hit.get("low_stock"))
        )
        for hit in answer.hits
    ]


def boosts_of(hit: Hit) -> list[Boost]:
    """The boosts of the built-in rule that an item's derived attributes meet."""
    values = {name: (hit[name],) for name in DERIVED if hit.get(name) is not None}
    return [boost for boost in DEFAULT_RULE.boosts if matches(boost.filter, values)]


def words(boosts: Sequence[Boost]) -> str:
    """Conditions and factors, as `on_sale:true ×1.15`."""
    return ", ".join(f"{boost.text} ×{boost.factor:g}" for boost in boosts)


def title_of(record: Mapping[str, Any]) -> str:
    """A record's title; one without is called by its id."""
    return str(record.get("title") or record["objectID"])
