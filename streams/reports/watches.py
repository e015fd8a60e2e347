"""What is watched and what was pushed last, read from the topics: what `kindred watches` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from streams.connection import Connection
from streams.kafka.log_reader import partitions_of, read_to_end
from streams.reports.moments import duration
from streams.reports.terminal import Terminal
from streams.settings import Settings
from streams.topics import SIMILAR_CHANGES, WATCH
from streams.watch.standing import Standing, WatchReader

HITS_LENGTH_MAX = 60


@dataclass(frozen=True)
class WatchedItem:
    """One watch and its list."""

    item_id: str
    hits_wanted: int
    list: dict[str, Any] | None
    """The last message about it; None: there is none yet."""

    @property
    def hits(self) -> tuple[str, ...]:
        """Ids of the hits, best first."""
        return tuple(str(hit.get("objectID")) for hit in (self.list or {}).get("hits", ()))

    def as_json(self) -> dict[str, Any]:
        """All of it for scripts."""
        return {"objectID": self.item_id, "maxRecommendations": self.hits_wanted, "list": self.list}


async def read_watches(connection: Connection, settings: Settings) -> list[WatchedItem]:
    """All watches by item id.  Raises Unavailable when the topics are not there."""
    standing = Standing(WatchReader(settings))
    async for messages in read_to_end(connection, await partitions_of(connection, settings.topic_prefix + WATCH)):
        standing.read_watches(messages)
    bodies: dict[str, bytes | None] = {}
    places = await partitions_of(connection, settings.topic_prefix + SIMILAR_CHANGES)
    async for messages in read_to_end(connection, places):
        bodies |= {(each.key or b"").decode("utf-8", "replace"): each.value for each in messages}
    return [
        WatchedItem(item_id, watch.request.count, _list(bodies.get(item_id)))
        for item_id, watch in sorted(standing.watches.items())
    ]


def _list(body: bytes | None) -> dict[str, Any] | None:
    try:
        value = orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("hits"), list) else None


def show_watches(terminal: Terminal, watched: Sequence[WatchedItem], now_ms: int) -> None:
    """A line for each watch."""
    if not watched:
        terminal.line("nothing is watched; `kindred watch ITEM` begins it")
        return
    rows = []
    for one in watched:
        message = one.list or {}
        shown = terminal.brief(", ".join(one.hits), HITS_LENGTH_MAX) or message.get("message") or "not pushed yet"
        age = duration(now_ms - message["at"]) if isinstance(message.get("at"), int) else None
        rows.append((one.item_id, one.hits_wanted, len(one.hits), shown, age, _why(message.get("reasons"))))
    terminal.table(("item", "wanted", "hits", "list", "age", "why"), rows, numbers=("wanted", "hits", "age"))


def _why(reasons: object) -> str | None:
    """The first reason in words, and how many more there are."""
    if not isinstance(reasons, list) or not reasons or not isinstance(reasons[0], dict):
        return None
    about = reasons[0].get("objectID") or reasons[0].get("rule")
    words = f"{reasons[0].get('event')} {about}" if about else str(reasons[0].get("event"))
    return words if len(reasons) == 1 else f"{words} and {len(reasons) - 1} more"
