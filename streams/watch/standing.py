"""What stands on `watch` and `similar-changes`: read as messages come, and folded when partitions are taken over.

Easy to get wrong:

* The last message of a key holds, also one that cannot be understood: after compaction nothing older is there to keep.
  It ends the watch as null does.
* A watch counts at its item's home partition only.  Elsewhere, or under a key of another form, it was written by
  another partitioner; it is sent on, and counts where it arrives.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from models.change_events import read_item_id
from models.errors import BadEvent
from models.request import HITS_DEFAULT, RequestLimits
from models.watch import Watch, parse_watch
from streams.settings import Settings
from streams.topics import partition_of
from streams.watch.list_writer import digest_of


class WatchReader:
    """Reads messages of `watch`."""

    def __init__(self, settings: Settings) -> None:
        self._shards = settings.shards
        self._index_name = settings.index
        hits_max = settings.watch_hits_max
        self._limits = RequestLimits(hits_max=hits_max, hits_default=min(HITS_DEFAULT, hits_max))

    def is_home(self, message: Any, item_id: str) -> bool:
        """Whether the message stands where watches of this item count."""
        key = item_id.encode()
        return bool(message.key == key and message.partition == partition_of(key, self._shards))

    def watch(self, item_id: str, value: bytes | None) -> Watch | None:
        """The watch of a message; None: it ends.  BadEvent if it is not understood."""
        return None if value is None else parse_watch(item_id, value, self._limits, self._index_name)


class Standing:
    """Watches and lists as they stand in the logs of some partitions."""

    def __init__(self, reader: WatchReader) -> None:
        self._reader = reader
        self.watches: dict[str, Watch] = {}
        self.lists: dict[str, bytes] = {}
        """By item the digest of its list."""
        self.offsets: dict[str, int] = {}
        """By item the offset of the last message about its list, tombstones included."""

    def read_watches(self, messages: Iterable[Any]) -> None:
        """Messages of `watch`, of one partition in its order."""
        for message in messages:
            try:
                item_id = read_item_id(message.key)
                if not self._reader.is_home(message, item_id):
                    continue
                self.watches.pop(item_id, None)
                watch = self._reader.watch(item_id, message.value)
            except BadEvent:
                continue  # whoever handled it has set it aside
            if watch is not None:
                self.watches[item_id] = watch

    def read_lists(self, messages: Iterable[Any]) -> None:
        """Messages of `similar-changes`, of one partition in its order."""
        for message in messages:
            item_id = (message.key or b"").decode("utf-8", "replace")
            digest = digest_of(message)
            self.offsets[item_id] = message.offset
            if digest is None:
                self.lists.pop(item_id, None)
            else:
                self.lists[item_id] = digest
