"""The steps of the tour: each sends one event, asks before and after, and judges by the answers what came of it.

Nothing is assumed: places, scores, factors and times are those of the answers.  A step that cannot be seen with the
catalog at hand is a `LeftOut` that says why; one that came out otherwise than it should says what was expected.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Sequence
from math import prod
from typing import NamedTuple

from models.rules import DEFAULT_RULE
from streams.client import NoReply, RequestFailed
from streams.demo import targets
from streams.demo.display import SHOWN, Display, boosts_of, ranked, title_of, words
from streams.demo.showcase import Record, Showcase
from streams.demo.tour_steps import ShownEvent, TourStep
from streams.demo.visitor import Answer, Seen, Visitor
from streams.topics import CATALOG_CHANGES, ITEM_ALERTS, SIMILAR_REQUESTS, STOCK_LEVELS

FETCHED = 30
TIMED = 20
"""Requests that the time of an answer is the median of."""
NEW_ITEM_MS_MAX = 1_000.0
PRICE_CUT = 0.8
LOW_QUANTITY = 2
SCORE_TOLERANCE = 0.02
"""Scores come rounded to hundredths."""
ASKED = ("objectID", "maxRecommendations")
SALE, LOW = (boost.factor for boost in DEFAULT_RULE.boosts)


class LeftOut(NamedTuple):
    """A step that cannot be shown with this catalog."""

    title: str
    reason: str


class Steps:
    """One tour, from one source item; the steps are meant to be taken in the order in which they stand here."""

    def __init__(self, visitor: Visitor, showcase: Showcase, source: str, *, new_source: str | None = None) -> None:
        """`new_source`: the item that the newcomer is to look like, where that is not the source."""
        self.visitor = visitor
        self.showcase = showcase
        self.source = source
        self.new_source = new_source or source
        self.answer_ms: float | None = None
        self.new_ms: float | None = None
        self._touched: list[str] = []
        self._display = Display(showcase)

    @property
    def all(self) -> tuple[Callable[[], Awaitable[TourStep | LeftOut]], ...]:
        """The steps in their order."""
        return (self.look_alikes, self.goes_on_sale, self.runs_low, self.sells_out, self.is_deleted, self.comes_in)

    async def take(self, step: Callable[[], Awaitable[TourStep | LeftOut]]) -> TourStep | LeftOut:
        """Take a step; without an answer it has failed, and the tour goes on."""
        try:
            return await step()
        except (RequestFailed, NoReply) as error:
            title = step.__name__.replace("_", " ").capitalize()
            return TourStep(title, f"A request failed: {error}", source=self._display.source(self.source), passed=False)

    # The steps.

    async def look_alikes(self) -> TourStep:
        """A request, and how long its answer takes."""
        answers = [await self._ask() for _ in range(TIMED)]
        answer, self.answer_ms = answers[-1], statistics.median(each.took_ms for each in answers)
        ranks = [hit["_rankScore"] for hit in answer.hits]
        wrong = []
        if not ranks or ranks != sorted(ranks, reverse=True) or answer.place(self.source) is not None:
            wrong.append("expected hits without the item itself, best first")
        told = "Scores say how alike the pictures look: 100 is the same picture, 0 no more alike than two random ones."
        rules = f"{', '.join(answer.rules) or 'none'}: {words(DEFAULT_RULE.boosts)}"
        told += f" Rank scores say what the rules make of that ({rules})."
        return TourStep(
            f"What looks like “{self._display.title(self.source)}”?",
            _with(told + self._same_category(answer), wrong),
            (ShownEvent(SIMILAR_REQUESTS, self.source, self.visitor.request(self.source, FETCHED), ASKED),),
            self._display.source(self.source),
            after=self._display.rows(answer),
            timings=((f"from request to answer, median of {TIMED}", self.answer_ms),),
            passed=not wrong,
        )

    async def goes_on_sale(self) -> TourStep | LeftOut:
        """A hit's price falls: it moves up."""
        before = await self._ask()
        target = targets.to_raise(ranked(before), SHOWN, SALE)
        if target is None:
            return LeftOut(
                "An item goes on sale",
                f"Of these {len(before.hits)} hits no two are so near that ×{SALE:g} would pass one.",
            )
        record = self.showcase.records[target.item_id]
        usual = max(float(record["price"]), float(record.get("list_price") or 0))
        record = record | {"price": round(usual * PRICE_CUT, 2), "list_price": usual}
        event = ShownEvent(CATALOG_CHANGES, target.item_id, record, ("price",), "on_sale")
        seen = await self._send_and_see(event, lambda answer: _flag(answer, target.item_id, "on_sale"))
        self.showcase.records[target.item_id] = record
        title = f"“{self._display.title(target.item_id)}” goes on sale"
        return self._moved(title, event, target, before, seen, "up")

    async def runs_low(self) -> TourStep | LeftOut:
        """A hit's stock falls to a few: it moves down."""
        before = await self._ask()
        hits = ranked(before)
        target = targets.to_lower(
            [hit if hit.item_id not in self._touched else hit._replace(low_stock=True) for hit in hits], SHOWN, LOW
        )
        if target is None:
            return LeftOut(
                "An item runs low",
                f"Of these {len(hits)} hits none is so near to the next that ×{LOW:g} would put it behind.",
            )
        event = ShownEvent(STOCK_LEVELS, target.item_id, {"quantity": LOW_QUANTITY}, ("quantity",), "low_stock")
        seen = await self._send_and_see(event, lambda answer: _flag(answer, target.item_id, "low_stock"))
        title = f"“{self._display.title(target.item_id)}” runs low"
        return self._moved(title, event, target, before, seen, "down")

    async def sells_out(self) -> TourStep | LeftOut:
        """The last ones of a hit are sold: it is no longer recommended."""
        title = "An item sells out"
        before = await self._ask()
        shown = [hit["objectID"] for hit in before.hits[:SHOWN]]
        # The item that has just run low, where it is still in sight.
        item_id = next((each for each in reversed(self._touched) if each in shown), shown[-1] if shown else None)
        if item_id is None:
            return LeftOut(title, "There is nothing left to sell.")
        event = ShownEvent(STOCK_LEVELS, item_id, {"quantity": 0}, ("quantity",), "out_of_stock")
        seen = await self._send_and_see(event, lambda answer: answer.place(item_id) is None)
        hidden = await self._ask(out_of_stock=True)
        wrong = self._gone_wrong(seen, item_id)
        told = "Out-of-stock items are not recommended."
        place = hidden.place(item_id)
        if place is None:
            wrong.append("expected it to be there still when out-of-stock items are asked for")
        else:
            told += f' It is still in the catalog: with "outOfStock": true it stands on place {place + 1}.'
        self._touched.append(item_id)
        title = f"“{self._display.title(item_id)}” sells out"
        return self._outcome(title, event, before, seen, told, wrong)

    async def is_deleted(self) -> TourStep | LeftOut:
        """A hit is deleted from the catalog: it is gone from answers, and unknown."""
        before = await self._ask()
        shown = [hit["objectID"] for hit in before.hits[:SHOWN]]
        item_id = next((each for each in shown if each not in (*self._touched, self.new_source)), None)
        if item_id is None:
            return LeftOut("An item is deleted", "There is no hit left that could be spared.")
        event = ShownEvent(CATALOG_CHANGES, item_id, None, alert="gone")
        seen = await self._send_and_see(event, lambda answer: answer.place(item_id) is None)
        wrong = self._gone_wrong(seen, item_id)
        told = "A null on catalog-changes deletes."
        if (await self._ask(out_of_stock=True)).place(item_id) is not None:
            wrong.append("expected it to be gone also when out-of-stock items are asked for")
        try:
            await self.visitor.ask(item_id, 1)
            wrong.append("expected a request for it to be answered with 404, got hits")
        except RequestFailed as error:
            if error.status == 404:
                told += f" A request for it is now answered with 404: {error}."
            else:
                wrong.append(f"expected a request for it to be answered with 404, got {error.status}: {error}")
        title = f"“{self._display.title(item_id)}” is deleted"
        step = self._outcome(title, event, before, seen, told, wrong)
        del self.showcase.records[item_id]
        return step

    async def comes_in(self) -> TourStep | LeftOut:
        """A new item is recommended, as soon as its picture is embedded."""
        record = self._newcomer()
        if record is None:
            return LeftOut("A new item comes in", "There is no picture left that could be new.")
        item_id, title = str(record["objectID"]), f"“{title_of(record)}” comes in"
        before = await self._ask(source=self.new_source)
        event = ShownEvent(CATALOG_CHANGES, item_id, record, ("image",), "new")
        seen = await self._send_and_see(event, lambda answer: answer.place(item_id) is not None, self.new_source)
        self.new_ms = seen.after_ms
        self.showcase.records[item_id] = record
        wrong = []
        place = seen.answer.place(item_id)
        if place is None or seen.after_ms is None:
            wrong.append("expected it to be recommended, and it is not")
        elif seen.after_ms > NEW_ITEM_MS_MAX:
            wrong.append(f"expected it to be recommended within {NEW_ITEM_MS_MAX:.0f} ms, not {seen.after_ms:.0f}")
        told = (
            "Its picture was fetched, decoded and embedded, its vector put into its shard, and the next answer has it"
        )
        told += f" on place {place + 1}." if place is not None else "."
        word = "new" if place is not None else ""
        return self._outcome(title, event, before, seen, told, wrong, word, self.new_source)

    # What they have in common.

    async def _ask(self, *, out_of_stock: bool = False, source: str | None = None) -> Answer:
        return await self.visitor.ask(source or self.source, FETCHED, out_of_stock=out_of_stock)

    async def _send_and_see(
        self, event: ShownEvent, shows: Callable[[Answer], bool], source: str | None = None
    ) -> Seen:
        return await self.visitor.send_and_see(event, lambda: self._ask(source=source), shows)

    def _moved(
        self, title: str, event: ShownEvent, target: targets.Target, before: Answer, seen: Seen, direction: str
    ) -> TourStep:
        """A step in which a hit moves by a factor; its look keeps its score."""
        item_id = target.item_id
        self._touched.append(item_id)
        old, new, place = before.hit(item_id), seen.answer.hit(item_id), seen.answer.place(item_id)
        wrong, told, short = [], "", ""
        if old is None or new is None or place is None or seen.after_ms is None:
            wrong.append("expected its flag to turn in an answer, and it did not")
        else:
            boosts = boosts_of(new)
            factor = prod(boost.factor for boost in boosts)
            short = words(boosts)
            told = (
                f"Rule {', '.join(seen.answer.rules)}: {short}. It looks as alike as before ({new['_score']:.1f}), but "
                f"ranks with {new['_rankScore']:.1f} instead of {old['_rankScore']:.1f}: "
                f"from place {target.place + 1} to {place + 1}."
            )
            if abs(new["_score"] - old["_score"]) > SCORE_TOLERANCE:
                wrong.append(f"expected its score to stay {old['_score']:.2f}, got {new['_score']:.2f}")
            if abs(new["_rankScore"] - new["_score"] * factor) > SCORE_TOLERANCE:
                wrong.append(f"expected a rank score of {new['_score'] * factor:.2f}, got {new['_rankScore']:.2f}")
            if (place < target.place) != (direction == "up") or place == target.place:
                wrong.append(f"expected it to move {direction}, from place {target.place + 1} it came to {place + 1}")
        return self._outcome(title, event, before, seen, told, wrong, short)

    def _outcome(
        self,
        title: str,
        event: ShownEvent,
        before: Answer,
        seen: Seen,
        told: str,
        wrong: Sequence[str],
        word: str = "",
        source: str | None = None,
    ) -> TourStep:
        """An event's step: with the answers around it, its alert, and what came out otherwise than it should."""
        wrong = list(wrong)
        if seen.alert is None:
            wrong.append(f'expected the alert "{event.alert}" on {ITEM_ALERTS}, and it did not come')
        return TourStep(
            title,
            _with(told, wrong),
            (event,),
            self._display.source(source or self.source),
            self._display.rows(before, event.key),
            self._display.rows(seen.answer, event.key, word),
            () if seen.after_ms is None else (("from event to answer", seen.after_ms),),
            seen.alert,
            not wrong,
        )

    def _gone_wrong(self, seen: Seen, item_id: str) -> list[str]:
        return [] if seen.answer.place(item_id) is None else ["expected it to vanish, and it is still recommended"]

    def _newcomer(self) -> Record | None:
        if self.showcase.numbers:
            return self.showcase.draw_like(self.new_source)
        return self.showcase.newcomer

    def _same_category(self, answer: Answer) -> str:
        wanted = self.showcase.records[self.source].get("category")
        hits = answer.hits[:SHOWN]
        if not wanted or not hits:
            return ""
        same = sum(hit.get("category") == wanted for hit in hits)
        name = wanted if isinstance(wanted, str) else " / ".join(map(str, wanted))
        return f" {same} of the {len(hits)} shown are of its category ({name}); the request did not ask for that."


def _flag(answer: Answer, item_id: str, name: str) -> bool:
    hit = answer.hit(item_id)
    return hit is not None and hit.get(name) is True


def _with(told: str, wrong: Sequence[str]) -> str:
    """The reason, and what came out otherwise than it should."""
    return " ".join([part for part in (told, *(f"Wrong: {each}." for each in wrong)) if part])
