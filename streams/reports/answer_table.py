"""A look-alike request from what was typed, and its result as a table: what `kindred similar` sends and shows."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.errors import BadRequest
from streams.reports.explained_table import show_explained
from streams.reports.moments import duration
from streams.reports.terminal import Terminal, printable

SENT_AS_IT_IS_BYTES_MAX = 400_000
"""Larger pictures are shrunk before they are sent: a message has 1 MB, and base64 takes a third more."""
SIDE_MAX = 640
"""Pixels of a shrunk picture's longer side, several times what a model looks at."""
SHOWN_NOW = ("on_sale", "stock", "low_stock", "out_of_stock")
"""Derived attributes, asked for by name: then they are what they are now, not what the record said."""


def typed_request(
    items: Sequence[str],
    image: str | None,
    hits: int,
    filters: str | None,
    threshold: float | None,
    out_of_stock: bool,
    explain: bool = False,
    colour: float | None = None,
) -> dict[str, Any]:
    """The request for what was typed.  Raises BadRequest when there is nothing to look like, or no such picture."""
    if not items and not image:
        raise BadRequest("nothing to look like: give an item's id or --image FILE")
    parameters: dict[str, Any] = {"attributesToRetrieve": ["*", *SHOWN_NOW]}
    if filters:
        parameters["filters"] = filters
    request: dict[str, Any] = {"maxRecommendations": hits, "queryParameters": parameters}
    if len(items) == 1:
        request["objectID"] = items[0]
    elif items:
        request["objectIDs"] = list(items)
    if image:
        request["image"] = image_link(image)
    if threshold is not None:
        request["threshold"] = threshold
    if out_of_stock:
        request["outOfStock"] = True
    if explain:
        request["explain"] = True
    if colour is not None:
        request["colour"] = colour
    return request


def image_link(text: str) -> str:
    """A link as it is; a file of this machine as a `data:` link, shrunk when it is large."""
    if text.startswith(("http://", "https://", "data:")):
        return text
    path = Path(text)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadRequest(f"the picture {text} cannot be read: {error.strerror or error}", 422) from None
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if len(content) > SENT_AS_IT_IS_BYTES_MAX:
        from models.errors import BadEvent
        from models.image import thumbnail

        try:
            content, kind = thumbnail(content, SIDE_MAX), "image/jpeg"
        except BadEvent as error:
            raise BadRequest(f"the picture {text} cannot be used: {error}", 422) from None
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def show_answer(terminal: Terminal, result: Mapping[str, Any], now_ms: int) -> None:
    """The hits as a table, with their reasons if it has them, and below how fresh and how complete they are."""
    hits = result.get("hits") or []
    rows = [_row(rank, hit) for rank, hit in enumerate(hits, start=1)]
    if "explain" in result:
        show_explained(terminal, result)
    elif rows:
        first, ranked = ("#", "ranks") if terminal.for_people else ("rank", "rank score")
        headings = (first, "item", "title", "score", ranked, "price", "stock", "flags")
        terminal.table(headings, rows, numbers=(first, "score", ranked, "price", "stock"), cut="title")
    else:
        terminal.line("Nothing looks alike and passes the filters.", style="yellow")
    told = terminal.line if terminal.for_people else terminal.note
    if result.get("appliedRules"):
        told("rules: " + ", ".join(map(str, result["appliedRules"])), style="dim")
    told(freshness(result, now_ms), style="dim")


def freshness(result: Mapping[str, Any], now_ms: int) -> str:
    """One line on the watermark of every source, on the shards and on the time it took."""
    parts = [_mark(str(source), mark, now_ms) for source, mark in _object(result.get("watermark")).items()]
    coverage = _object(result.get("coverage"))
    if coverage:
        parts.append(f"{coverage.get('answered')} of {coverage.get('of')} shards")
    if isinstance(result.get("processingTimeMS"), int | float):
        parts.append(f"{result['processingTimeMS']:g} ms")
    return "; ".join(map(printable, parts))


def _mark(source: str, mark: object, now_ms: int) -> str:
    """How far a source has come: how old its newest change is, and what is still to be read."""
    at, lag_ms = _object(mark).get("at"), _object(mark).get("lagMS")
    newest = f"newest change {duration(max(now_ms - at, 0))} ago" if isinstance(at, int) else "no change yet"
    behind = f", {duration(lag_ms)} behind" if isinstance(lag_ms, int | float) and lag_ms else ""
    return f"{source}: {newest}{behind}"


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _row(rank: int, hit: Mapping[str, Any]) -> tuple[object, ...]:
    title = hit.get("title") or hit.get("name") or ""
    flags = [name for name in SHOWN_NOW if hit.get(name) is True]
    source = hit.get("_source")
    return (
        rank,
        hit.get("objectID"),
        str(title),
        _score(hit.get("_score")),
        _score(hit.get("_rankScore")),
        hit.get("price"),
        hit.get("stock"),
        ", ".join([*flags, *([str(source)] if source not in (None, "model") else [])]),
    )


def _score(value: object) -> object:
    return f"{value:.1f}" if isinstance(value, int | float) and not isinstance(value, bool) else value
