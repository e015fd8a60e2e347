"""State from the truths: before the first event of a partition, and against late writers afterwards.

Recovery folds every message that the truths still hold, not only the last of a key: compaction lags an hour, so what a
former owner of the partition wrote late (it was paused, it slept through a rebalance) is told apart by `written`.
After recovery the owner's memory is right: what another writer puts on the truths is answered by writing ours again.
Only a writer of a higher epoch is left alone, because then it is this process that is late.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from models.record import parse_record
from models.stock import Level
from models.tracker import ItemState, Tracker, gone_record, is_current
from models.truth_messages import ItemEmbedding, ItemRecord, ItemStock, Written, image_name


class Recovery:
    """Folds the truths of one partition into a tracker.  Feed every message in the order of its log, then `finish`."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.last_ms = 0
        """Unix ms of the newest message, until when a former owner was certainly at work."""
        self._epoch = 0
        self._stocks_written: dict[str, Written] = {}
        self._embeddings: dict[str, list[ItemEmbedding | None]] = {}

    def record(self, item_id: str, message: ItemRecord | None, timestamp_ms: int) -> None:
        """A message of `item-records`."""
        tracker = self.tracker
        state = self._state(item_id, timestamp_ms)
        known = state.record
        if message is None:
            if known is None or item_id in tracker.records_due:
                return  # compaction took what it deleted, or it is a late writer's and ours is written again
            state.record = known if known.gone else replace(known, gone=True)
            tracker.deletes_due.pop(item_id, None)
            return
        self._epoch = max(self._epoch, message.written.epoch)
        newest = message if known is None or message.written >= known.written else known
        state.record = newest
        tracker.records_due.pop(item_id, None)
        tracker.deletes_due.pop(item_id, None)
        if newest.gone:
            tracker.deletes_due[item_id] = newest
        elif newest is not message:
            tracker.records_due[item_id] = None

    def stock(self, item_id: str, message: ItemStock | None, timestamp_ms: int) -> None:
        """A message of `item-stocks`.  A tombstone, which nobody of ours writes, forgets the level."""
        state = self._state(item_id, timestamp_ms)
        stocks_due = self.tracker.stocks_due
        stocks_due.pop(item_id, None)
        if message is None:
            state.level = None
            return
        self._epoch = max(self._epoch, message.written.epoch)
        known = self._stocks_written.get(item_id, message.written)
        if state.level and (message.at, message.written) < (state.level.at, known):
            stocks_due[item_id] = None
            return
        state.level = Level(message.quantity, message.at)
        self._stocks_written[item_id] = message.written

    def embedding(self, item_id: str, message: ItemEmbedding | None, timestamp_ms: int) -> None:
        """A message of `item-embeddings`."""
        self.last_ms = max(self.last_ms, timestamp_ms)
        self._embeddings.setdefault(item_id, []).append(message)

    def unreadable(self, item_id: str) -> None:
        """A message of `item-records` or `item-stocks` that is none of ours stands last: ours are written again."""
        state = self.tracker.items.get(item_id)
        if state and state.record and not state.record.gone:
            self.tracker.records_due[item_id] = None
        if state and state.level:
            self.tracker.stocks_due[item_id] = None

    def finish(self, generation: int, now_ms: int) -> None:
        """All is read: settle the epoch, the flags as they were last told, and what is to be written or asked again."""
        tracker = self.tracker
        tracker.epoch = max(generation, self._epoch + 1)
        told_ms = min(self.last_ms, now_ms)
        for item_id, state in list(tracker.items.items()):
            if state.record and state.record.gone:
                tracker.remember_deleted(item_id, state.record)
                state.record = None
            if state.record is None and state.level is None:
                del tracker.items[item_id]
                continue
            state.flags = tracker.flags_of(state, told_ms)
            tracker.schedule_turn(item_id, state, told_ms)
        for item_id, messages in self._embeddings.items():
            for message in messages:
                read_embedding(tracker, item_id, message, now_ms)
        self._embeddings.clear()

    def _state(self, item_id: str, timestamp_ms: int) -> ItemState:
        self.last_ms = max(self.last_ms, timestamp_ms)
        state = self.tracker.items.get(item_id)
        if state is None:
            state = self.tracker.items[item_id] = ItemState()
        return state


def read_record(tracker: Tracker, item_id: str, message: ItemRecord | None) -> None:
    """Another writer's message of `item-records`, after recovery."""
    if message and message.written.epoch > tracker.epoch:
        return
    state = tracker.items.get(item_id)
    known = state.record if state else None
    if known is None:
        if message and not message.gone and item_id not in tracker.deletes_due:
            tracker.deletes_due[item_id] = gone_record(message.image_version, message.at, tracker.writer)
    elif message is None or message.gone or not _same(message, known):
        tracker.records_due[item_id] = None


def read_stock(tracker: Tracker, item_id: str, message: ItemStock | None) -> None:
    """Another writer's message of `item-stocks`, after recovery: the newest `at` is right, whoever wrote it."""
    if message and message.written.epoch > tracker.epoch:
        return
    state = tracker.items.get(item_id)
    known = state.level if state else None
    if message and (known is None or message.at > known.at):
        tracker.stock(item_id, Level(message.quantity, message.at))
    elif known and (message is None or (message.at, message.quantity) != (known.at, known.quantity)):
        tracker.stocks_due[item_id] = None


def read_embedding(tracker: Tracker, item_id: str, message: ItemEmbedding | None, now_ms: int) -> None:
    """A message of `item-embeddings`, whoever wrote it: what the embed stage made of our requests.

    Asked again is only when one of other images, or one that knows less, follows one that was current: the answer to
    that is current again, so it ends.
    """
    state = tracker.items.get(item_id)
    record = state.record if state else None
    if state is None or record is None:
        if message is None:
            tracker.requests_due.pop(item_id, None)
        else:
            tracker.request_removal(item_id, message.image_version, now_ms)
        return
    best = state.embedding
    had_current = best is not None and is_current(best, record)
    if message is not None and is_current(message, record) and not (had_current and _knows_less(message, best)):
        state.embedding = message
        tracker.retries.schedule(item_id, message)
        if item_id in tracker.requests_due and tracker.requests_due[item_id].image_version == record.image_version:
            del tracker.requests_due[item_id]
    elif had_current:
        tracker.ask(item_id, state, record.image_version, _links(tracker, item_id, record), now_ms)
    elif message is not None and record.images:
        state.embedding = message
    elif message is not None:
        tracker.request_removal(item_id, message.image_version, now_ms)  # nobody may have asked for its no images


def _same(one: ItemRecord, other: ItemRecord) -> bool:
    return (
        bytes(one.record) == bytes(other.record)
        and one.images == other.images
        and one.image_version == other.image_version
        and one.facts == other.facts
    )


def _knows_less(message: ItemEmbedding, best: ItemEmbedding | None) -> bool:
    with_vector = {each.link for each in message.images if each.vector}
    return (
        best is not None
        and best.model == message.model
        and any(each.vector and each.link not in with_vector for each in best.images)
    )


def _links(tracker: Tracker, item_id: str, record: ItemRecord) -> dict[str, str]:
    """Links of a record by their names; only `data:` links have to be looked up in the record itself."""
    if not any(name.startswith("data:") for name in record.images):
        return {name: name for name in record.images}
    parsed = parse_record(item_id, msgspec.json.decode(record.record), tracker.names, tracker.limits)
    return {image_name(link): link for link in parsed.images}
