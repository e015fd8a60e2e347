"""Watches: lists of look-alikes that are pushed when they change, and when each has to be asked again.

A list is a function of the items that are in it, of those that might enter it, of its source item, of the rules that
apply, and of the mean.  What is known of each after it was asked:

1. Its members: hits, what `diversity` chose from, pins, and the source.  By a reverse index a changed member says which
   lists hold it.
2. Its bound, for items that are no members (`entry_bounds.py`).
3. The rules that applied.  When a rule or its window turns, they are chosen again, which is cheap, and compared.

What is touched is due to be asked again (`due_lists.py`), once in `INTERVAL_MS` at most, whatever happens in between;
several are asked together.  It is pushed only if the list that comes out is not the one that was pushed last.

What is asked is asked of the clock's time (`now_ms`, Unix ms), because windows of sales and rules are of it.  When, is
decided by another one (`tick_ms`), which nobody can set back.

Easy to get wrong: asking too often is a cost, asking too seldom a fault.  So whatever is not known for sure is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from indexes.answering import answer_requests
from indexes.due_lists import DueLists
from indexes.entry_bounds import EntryBounds
from indexes.item_changes import STRUCTURE, ItemChange
from indexes.outcome import Outcome
from indexes.question import Question
from indexes.results import AnswerSettings
from indexes.shard import Shard
from indexes.ticks import monotonic_ms
from indexes.watched_list import WatchedList, change_reason, cutoff, rule_reason
from models.answer import Result, retrieved
from models.ranking import pins_of
from models.request import Request
from models.rule import Rule
from models.rule_turns import RuleTurns
from models.rules import RuleBook
from models.vectors import Vectors
from models.watch import EMPTY, REASONS_MAX, Reason, Watch, fitting, list_digest

INTERVAL_MS = 1_000
RULES_TOGETHER = 100
"""Lists whose rules are chosen again in one step: some milliseconds."""


class Asked(NamedTuple):
    """A list that was asked again."""

    item_id: str
    result: Result
    digest: bytes
    changed: bool
    """Whether it is to be pushed."""
    reasons: list[Reason]
    since_ms: int
    """Since when it was known to have to be asked, by `tick_ms`."""


class Watches:
    """The watched lists of one worker."""

    def __init__(self, dimension: int, tick_ms: Callable[[], int] = monotonic_ms) -> None:
        self.tick_ms = tick_ms
        self._bounds = EntryBounds(dimension)
        self._lists: dict[int, WatchedList] = {}
        self._slot_of: dict[str, int] = {}
        self._free: list[int] = []
        self._holders: dict[str, set[int]] = {}
        self._due = DueLists()
        self._turns = RuleTurns()
        self._sweep: dict[int, Reason] = {}

    def __len__(self) -> int:
        return len(self._lists)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._slot_of

    @property
    def item_ids(self) -> list[str]:
        """Items whose lists are watched."""
        return list(self._slot_of)

    def request(self, item_id: str) -> Request:
        """What is asked for a watched item."""
        return self._lists[self._slot_of[item_id]].watch.request

    @property
    def waiting(self) -> int:
        """Lists that are to be asked again."""
        return len(self._due)

    # What is watched

    def put(self, watch: Watch, reason: Reason) -> None:
        """Watch a list, or ask something else of one that is watched already."""
        slot = self._slot_of.get(watch.item_id)
        if slot is None:
            slot = self._free.pop() if self._free else len(self._lists)
            self._slot_of[watch.item_id] = slot
            self._lists[slot] = WatchedList(watch)
            self._hold(slot, frozenset((watch.item_id,)))
        elif self._lists[slot].watch == watch:
            return
        self._lists[slot].watch = watch
        self._mark(slot, reason)

    def remove(self, item_id: str) -> bytes | None:
        """Watch it no more; the digest of the list that others have been told, None if there is none."""
        slot = self._slot_of.pop(item_id, None)
        if slot is None:
            return None
        one = self._lists.pop(slot)
        self._unhold(slot, one.members)
        self._bounds.drop(slot)
        self._due.drop(slot)
        self._sweep.pop(slot, None)
        self._free.append(slot)
        return one.pushed

    def told(self, item_id: str, digest: bytes | None, reason: Reason) -> None:
        """Others have been told a list with this digest (None: that there is none), maybe not by this worker."""
        one = self._lists[self._slot_of[item_id]]
        one.pushed = digest
        if one.made is not None and one.made != digest:
            self._mark(self._slot_of[item_id], reason)

    # What has changed

    def see(self, changes: Sequence[ItemChange], shards: Sequence[Shard], now_ms: int) -> None:
        """Find the lists that these changes touch; at most `changes_max` at a time, so that it takes milliseconds."""
        for change in changes:
            for slot in self._holders.get(change.item_id, ()):
                if self._depends(slot, change):
                    self._mark(slot, change_reason(change, self._lists[slot].derived))
        for slot, change in self._bounds.entering(changes, shards, now_ms):
            self._mark(slot, change_reason(change, None))

    @property
    def changes_max(self) -> int:
        """How many changes one call of `see` should be given."""
        return self._bounds.together_max

    def _depends(self, slot: int, change: ItemChange) -> bool:
        """Whether a list depends on what has changed of its member."""
        if change.kinds & STRUCTURE:
            return True
        one = self._lists[slot]
        if not one.usable:
            return False
        if change.item_id == one.watch.item_id:
            asked = self._turns.source_flags.union(one.watch.request.same_as)
            return not asked.isdisjoint(change.kinds)
        return not one.derived.isdisjoint(change.kinds)

    def touch_all(self, reason: Reason) -> None:
        """Something has changed that every list depends on."""
        for slot in self._lists:
            self._mark(slot, reason)

    def look_over(self, reason: Reason) -> None:
        """Ask every list again when nothing else is to be done: it may have changed though no item has."""
        self._sweep = dict.fromkeys(self._lists, reason)

    def rules_turned(self, shards: Sequence[Shard], rules: RuleBook, now_ms: int) -> Iterator[None]:
        """Find the lists to which other rules apply than when they were asked; in steps of some milliseconds.

        The shards may change between two steps.
        """
        self._turns = RuleTurns(rules.in_force())
        for number, (slot, one) in enumerate(list(self._lists.items())):
            if number % RULES_TOGETHER == 0:
                yield
            if self._lists.get(slot) is one and one.usable and slot not in self._due:
                applicable = self._applicable(one.watch, shards, rules, now_ms)
                if applicable != one.rules:
                    self._mark(slot, rule_reason(one.rules, applicable))

    def next_turn_ms(self, now_ms: int) -> int | None:
        """When a rule's window opens or closes next."""
        return self._turns.next_ms(now_ms)

    @staticmethod
    def _applicable(watch: Watch, shards: Sequence[Shard], rules: RuleBook, now_ms: int) -> tuple[Rule, ...]:
        if not watch.request.rules_enabled:
            return ()
        sources = []
        if rules.asks_source:
            for shard in shards:
                if (ordinal := shard.ordinal(watch.item_id)) is not None:
                    sources.append(shard.source_values(ordinal))
        return rules.applicable(sources, watch.request.contexts, now_ms)

    def _mark(self, slot: int, reason: Reason) -> None:
        if self._due.put(slot, reason, self.tick_ms(), self._lists[slot].not_before_ms):
            self._bounds.close(slot)

    # Asking again

    def due(self, count: int) -> list[str]:
        """Items whose lists are to be asked now, those that have waited longest first; at most `count`."""
        now_ms = self.tick_ms()
        found = [self._lists[slot].watch.item_id for slot in self._due.take(now_ms, count)]
        while self._sweep and len(found) < count:
            slot, reason = self._sweep.popitem()
            if slot in self._due or self._lists[slot].not_before_ms > now_ms:
                self._mark(slot, reason)
            else:
                self._due.put_taken(slot, reason, now_ms)
                found.append(self._lists[slot].watch.item_id)
        return found

    def ask(
        self,
        item_ids: Iterable[str],
        shards: Sequence[Shard],
        rules: RuleBook,
        now_ms: int,
        *,
        mean: Vectors | None,
        settings: AnswerSettings = AnswerSettings(),
    ) -> list[Asked]:
        """Ask these lists again, which `due` has given, and know from now on what they depend on.

        The shards must be advanced to `now_ms`, and their changes compared.  What was applied to them since the last
        `see` is in the answers, and costs a question more when it is seen.
        """
        slots = [self._slot_of[item_id] for item_id in item_ids if item_id in self._slot_of]
        seen: dict[int, tuple[Question, Outcome]] = {}
        results = answer_requests(
            [self._lists[slot].watch.request for slot in slots],
            {},
            shards,
            rules,
            now_ms,
            mean=mean,
            settings=settings,
            seen=lambda question, outcome: seen.__setitem__(question.number, (question, outcome)),
        )
        return [
            self._learn(slot, fitting(result, settings.index_name), seen.get(number), shards)
            for number, (slot, result) in enumerate(zip(slots, results, strict=True))
        ]

    def give_up(self, item_id: str) -> None:
        """This list cannot be asked: leave it as it is until its source changes."""
        slot = self._slot_of[item_id]
        self._due.drop(slot)
        self._bounds.drop(slot)
        self._lists[slot].usable = False

    def pushed(self, item_id: str, digest: bytes | None) -> None:
        """Others have been told the list with this digest."""
        if item_id in self._slot_of:
            self._lists[self._slot_of[item_id]].pushed = digest

    def _learn(
        self, slot: int, result: Result, seen: tuple[Question, Outcome] | None, shards: Sequence[Shard]
    ) -> Asked:
        one = self._lists[slot]
        before, members = one.members, {one.watch.item_id}
        one.usable = seen is not None
        if seen is None:
            self._bounds.drop(slot)
            one.rules, one.derived = (), frozenset()
        else:
            question, outcome = seen
            for number, ordinal, _, _ in (*outcome.rows, *outcome.pool):
                members.add(shards[number].item_ids[ordinal])
            members.update([pin.item_id for pin in pins_of(question.rules)])
            terms = self._bounds.put(slot, question, cutoff(question, outcome))
            one.rules = question.rules
            one.derived = terms.derived.union(retrieved(question.request.attributes).derived)
        one.members = frozenset(members)
        self._unhold(slot, before - one.members)
        self._hold(slot, one.members - before)
        one.made = list_digest(result)
        one.not_before_ms = self.tick_ms() + INTERVAL_MS
        due = self._due.end(slot)
        changed = one.made != one.pushed and (one.made != EMPTY or one.pushed is not None)
        told = [why for why in due.reasons if why.get("objectID") in (None, *before, *one.members)]
        return Asked(one.watch.item_id, result, one.made, changed, (told or due.reasons)[:REASONS_MAX], due.since_ms)

    def _hold(self, slot: int, item_ids: Iterable[str]) -> None:
        for item_id in item_ids:
            self._holders.setdefault(item_id, set()).add(slot)

    def _unhold(self, slot: int, item_ids: Iterable[str]) -> None:
        for item_id in item_ids:
            holders = self._holders[item_id]
            holders.discard(slot)
            if not holders:
                del self._holders[item_id]
