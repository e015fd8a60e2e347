"""What each item of one partition is now: events in, messages out.  Pure: told the time, knows no Kafka.

1. Events change the state of an item and mark it: which images to ask for, which truths to write, which alerts to send.
2. `take` turns the marks into messages, one for an item however many events it had, in the order of their delivery:
   image requests and alerts first, truths last.  So whatever stands in the truths has been asked for and told: an event
   that comes again after a crash finds either all of its effects or none of them in the truths.
3. The state is recovered from the truths before the first event (`tracker_recovery.py`, which also reads what a former
   owner of the partition still writes to them).

Which of two messages is newer is told by `written`, except for levels of stock: there the newest `at` wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import msgspec
from msgspec.structs import replace

from models.change_events import CatalogChange
from models.effects import Alert, Effects
from models.flag_turns import FlagTurns
from models.image_retries import ImageRetries
from models.record import AttributeNames, Record, RecordLimits, parse_record
from models.stock import Flags, Level, alerts, flags, may_turn, next_turn_ms, turns_by_time
from models.truth_messages import (
    Facts,
    ImageEmbedding,
    ImageRequest,
    ItemEmbedding,
    ItemRecord,
    ItemStock,
    LogPlace,
    Written,
    image_name,
)

DELETED_MAX = 10_000


class ItemState:
    """What is known of one item."""

    __slots__ = ("embedding", "flags", "level", "record")

    def __init__(self) -> None:
        self.record: ItemRecord | None = None
        self.level: Level | None = None
        self.embedding: ItemEmbedding | None = None
        """The best that was ever seen for the images it has now, not necessarily the last on the topic."""
        self.flags: Flags | None = None
        """As they were last told; the quantity in them may be of before a level that turned none."""


class Tracker:
    """The items of one partition, as long as this process owns it."""

    def __init__(self, writer: str, names: AttributeNames, limits: RecordLimits, low_stock_at: float) -> None:
        self.writer = writer
        self.names = names
        self.limits = limits
        self.low_stock_at = low_stock_at
        self.items: dict[str, ItemState] = {}
        self.deleted: dict[str, ItemRecord] = {}
        """Forwarded deletes of late, so that an older event that comes behind one does not bring its item back."""
        self.epoch = 0
        """First part of `written`: higher than that of every former owner."""
        self.records_due: dict[str, None] = {}
        self.stocks_due: dict[str, None] = {}
        self.deletes_due: dict[str, ItemRecord] = {}
        self.requests_due: dict[str, ImageRequest] = {}
        self._count = 0
        self._turned: dict[str, None] = {}
        """Items of which the flags may be others than were last told; those whose level is due are not all here."""
        self.turns = FlagTurns()
        self.retries = ImageRetries()

    # Events.

    def catalog(self, change: CatalogChange, at_ms: int, now_ms: int, origin: LogPlace | None = None) -> bool:
        """A catalog change; raises BadEvent, and then has changed nothing.

        `origin` is where a forwarded one stood.  One that comes behind a later one of the same log was delivered by a
        worker that had been paused; it is ignored, and False comes back.
        """
        state = self.items.get(change.item_id)
        known = (state.record if state else None) or self.deleted.get(change.item_id)  # a level may outlive its record
        if origin and known and known.origin and origin.precedes(known.origin) and at_ms <= known.at:
            return False
        if change.attributes is None:
            self._delete(change.item_id, at_ms, origin)
            return True
        known = state.record if state else None
        attributes = change.attributes
        if change.unavailable and known:
            old = msgspec.json.decode(known.record)
            attributes = attributes | {name: old[name] for name in change.unavailable if name in old}
        record = parse_record(change.item_id, attributes, self.names, self.limits)
        if state is None:
            state = self.items[change.item_id] = ItemState()
        self._keep_record(state, record, at_ms, origin)
        if record.stock is not None:
            self.stock(change.item_id, Level(record.stock, at_ms))
        self.schedule_turn(change.item_id, state, now_ms)
        return True

    def _keep_record(self, state: ItemState, record: Record, at_ms: int, origin: LogPlace | None) -> None:
        known, body = state.record, record.canonical
        names = tuple(image_name(link) for link in record.images)
        if known and bytes(known.record) == body and known.images == names and known.facts == record.facts:
            return
        self._turned[record.item_id] = None
        former = known or self.deletes_due.pop(record.item_id, None)
        version = former.image_version if former else 0
        if known is None or set(known.images) != set(names):
            version = max(at_ms, version + 1)
            if names or known:
                self.ask(record.item_id, state, version, dict(zip(names, record.images, strict=True)), at_ms)
        state.record = ItemRecord(
            msgspec.Raw(body), record.facts, names, version, at_ms, Written(), origin, writer=self.writer
        )
        self.records_due[record.item_id] = None
        self.deleted.pop(record.item_id, None)

    def _delete(self, item_id: str, at_ms: int, origin: LogPlace | None) -> None:
        state = self.items.get(item_id)
        if state is None or state.record is None:
            return
        self._turned[item_id] = None
        self.request_removal(item_id, state.record.image_version, at_ms)
        gone = gone_record(state.record.image_version, at_ms, self.writer, origin)
        self.deletes_due[item_id] = gone
        self.remember_deleted(item_id, gone)
        self.records_due.pop(item_id, None)
        state.record = state.embedding = None
        self.turns.schedule(item_id, None)

    def stock(self, item_id: str, level: Level) -> bool:
        """A level of stock; False when it comes too late (a newer one is known)."""
        state = self.items.get(item_id)
        if state is None:
            state = self.items[item_id] = ItemState()
        known = state.level
        if known is not None:
            if level.at < known.at:
                return False
            if level.at == known.at and level.quantity == known.quantity:
                return True
        state.level = level
        self.stocks_due[item_id] = None
        return True

    def advance(self, now_ms: int) -> None:
        """What time alone brings: windows of sales that open or close, images to ask for again."""
        for item_id in self.turns.take(now_ms):
            self._turned[item_id] = None
            self.schedule_turn(item_id, self.items[item_id], now_ms)
        for item_id, until_ms in self.retries.take(now_ms):
            state = self.items.get(item_id)
            if state and state.record and state.embedding and is_current(state.embedding, state.record):
                self._ask_due(item_id, state.record, state.embedding, now_ms, until_ms)

    def set_back(self, by_ms: int, now_ms: int) -> None:
        """The clock was set back to `now_ms` (Unix ms).

        Windows of sales are of the clock's time, so what turned too soon turns again when it is time.  Images wait
        for as long as they were to wait.
        """
        for item_id, state in self.items.items():
            if state.record and turns_by_time(state.record.facts):
                self._turned[item_id] = None
                self.schedule_turn(item_id, state, now_ms)
        self.retries.set_back(by_ms)

    # Messages.

    def take(self, now_ms: int, levels_max: int | None = None) -> Effects:
        """What the events since the last call ask for.  Forgets the marks: deliver it, or give the partition up.

        At most `levels_max` levels of stock; the rest is for the next call, until there is nothing left.
        """
        effects = Effects(image_requests=list(self.requests_due.items()))
        for item_id in self._turned:
            self._tell(item_id, self.items[item_id], now_ms, effects)
        for item_id, gone in self.deletes_due.items():
            effects.records += [(item_id, replace(gone, written=self._next())), (item_id, None)]
            self._drop_if_empty(item_id)
        for item_id in self.records_due:
            state = self.items[item_id]
            assert state.record, "a record that is due is known"
            state.record = replace(state.record, written=self._next(), writer=self.writer)
            effects.records.append((item_id, state.record))
        for marks in (self._turned, self.requests_due, self.deletes_due, self.records_due):
            marks.clear()
        self._take_levels(now_ms, levels_max, effects)
        return effects

    def _take_levels(self, now_ms: int, levels_max: int | None, effects: Effects) -> None:
        due, items, epoch, writer, count = self.stocks_due, self.items, self.epoch, self.writer, self._count
        put = effects.stocks.append
        for item_id in due if levels_max is None or len(due) <= levels_max else list(islice(due, levels_max)):
            state = items[item_id]
            level = state.level
            assert level, "a level that is due is known"
            count += 1
            put((item_id, ItemStock(level.quantity, level.at, Written(epoch, count), writer)))
            if state.record and may_turn(state.flags, state.record.facts, level.quantity, self.low_stock_at):
                self._tell(item_id, state, now_ms, effects)
        self._count = count
        if len(effects.stocks) == len(due):
            due.clear()
        else:
            for item_id, _ in effects.stocks:
                del due[item_id]

    def _tell(self, item_id: str, state: ItemState, now_ms: int, effects: Effects) -> None:
        """Alerts of an item since its flags were last told."""
        after = self.flags_of(state, now_ms)
        effects.alerts += [Alert(item_id, alert, now_ms) for alert in alerts(state.flags, after)]
        state.flags = after

    def flags_of(self, state: ItemState, now_ms: int) -> Flags | None:
        """Flags of an item now; None when it has no record."""
        if state.record is None:
            return None
        return flags(state.record.facts, state.level.quantity if state.level else None, now_ms, self.low_stock_at)

    def next_due_ms(self) -> int | None:
        """Unix ms at which `advance` has something to do, if nothing else comes."""
        moments = (self.turns.next_due_ms(), self.retries.next_due_ms())
        return min((each for each in moments if each is not None), default=None)

    def ask(self, item_id: str, state: ItemState, version: int, links: Mapping[str, str], at_ms: int) -> None:
        """Ask for the images that have no vector yet; the others are carried over.  `links`: name to link."""
        embedding = state.embedding
        known = {each.link: each for each in embedding.images if each.vector or each.error} if embedding else {}
        images = tuple(known.get(name) or ImageEmbedding(link) for name, link in links.items())
        model = embedding.model if embedding else ""
        self.requests_due[item_id] = ImageRequest(version, images, model, at=at_ms)

    def request_removal(self, item_id: str, version: int, at_ms: int) -> None:
        """Ask for the embedding of a deleted item to be deleted."""
        self.requests_due[item_id] = ImageRequest(version, (), gone=True, at=at_ms)

    def remember_deleted(self, item_id: str, gone: ItemRecord) -> None:
        """Remember a forwarded delete, the oldest are forgotten."""
        if gone.origin:
            self.deleted[item_id] = gone
            if len(self.deleted) > DELETED_MAX:
                del self.deleted[next(iter(self.deleted))]

    def _ask_due(self, item_id: str, record: ItemRecord, embedding: ItemEmbedding, now_ms: int, until_ms: int) -> None:
        due = {each.link for each in embedding.images if each.retry_at is not None and each.retry_at <= until_ms}
        if due:
            images = tuple(
                ImageEmbedding(each.link, attempt=each.attempt, rests=each.rests) if each.link in due else each
                for each in embedding.images
            )
            self.requests_due[item_id] = ImageRequest(record.image_version, images, embedding.model, at=now_ms)

    def schedule_turn(self, item_id: str, state: ItemState, now_ms: int) -> None:
        """Remember when time alone changes the flags."""
        self.turns.schedule(item_id, next_turn_ms(state.record.facts, now_ms) if state.record else None)

    def _drop_if_empty(self, item_id: str) -> None:
        state = self.items.get(item_id)
        if state and state.record is None and state.level is None:
            del self.items[item_id]

    def _next(self) -> Written:
        self._count += 1
        return Written(self.epoch, self._count)


def is_current(embedding: ItemEmbedding, record: ItemRecord) -> bool:
    """Whether an embedding is of the images that the record has now."""
    return embedding.image_version == record.image_version


def gone_record(image_version: int, at_ms: int, writer: str, origin: LogPlace | None = None) -> ItemRecord:
    """The counted message that comes before the tombstone of a deleted item."""
    return ItemRecord(
        msgspec.Raw(b"{}"), Facts(), (), image_version, at_ms, Written(), origin, gone=True, writer=writer
    )
