"""The short way of a level of stock: from the message to the tracker in one loop, for levels as most are.

Levels come by the hundred thousand a second, and what is called for each costs more than what is done.  So this loop
takes what is plain, an object with a quantity and a moment for an item that is known here, and stops at whatever is
not: that is read, forwarded or set aside one by one (`change_events.read_stock_change`, `Tracker.stock`).
What it takes ends as if it had gone that way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import islice
from typing import Any

from models.change_events import PLAIN_COLONS, PLAIN_ERRORS, read_plain_level
from models.tracker import Tracker

_BRACE = ord("{")
_OTHERWISE = (*PLAIN_ERRORS, KeyError, TypeError, IndexError)
"""The level or the key is none that is read here; the item is not known; value or key is null; the key is empty."""


def keep_plain_levels(tracker: Tracker, messages: Sequence[Any], begin: int) -> tuple[int, int]:
    """Keep the levels from `messages[begin]` on; the index of the first that is not, and how many came too late."""
    items, due, read = tracker.items, tracker.stocks_due, read_plain_level
    reached, late = begin, 0
    with contextlib.suppress(*_OTHERWISE):
        for reached, message in enumerate(islice(messages, begin, None), begin):
            key = message.key
            if key[0] == _BRACE:  # it may be an object with the id
                return reached, late
            item_id = key.decode()
            state = items[item_id]
            value, known = message.value, state.level
            level = read(value)
            if value.count(b":") != PLAIN_COLONS:
                return reached, late
            if known is None or level.at > known.at or (level.at == known.at and level.quantity != known.quantity):
                state.level = level
                due[item_id] = None
            elif level.at < known.at:
                late += 1
        return len(messages), late
    return reached, late
