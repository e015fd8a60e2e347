"""Watches: which item's list is pushed when it changes, and the message that carries the list.

A watch is a message on `watch`: key = item id, value = a request's body about that item, or null to end it.  A list is
a message on `similar-changes` with the same key: a result as any request has it, and why it came.  What is easy to get
wrong:

* The item is the key; a body may say it again, but no other, and nothing else to look like.
* Lists are compared by what can be seen of them, hits and rules and errors; not by watermarks, which never stand still.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from models.answer import Result, failed, result_tail
from models.errors import BadEvent, BadRequest
from models.field_values import shown
from models.outside_json import read_object
from models.request import Request, RequestLimits, parse_requests

LIST_BYTES_MAX = 900_000
"""Of a list's message: below the 1 MB that brokers take by default."""
REASONS_MAX = 8
"""Told with a list; more are left out."""
EMPTY = b"nothing"
"""Digest of a list that could not be made: it has no hits, whatever the words for it."""

Reason = dict[str, str]
"""`event` and what it was about: an `objectID` or a `rule`."""


class Watch(msgspec.Struct, frozen=True):
    """An item whose list is watched, and what is asked for."""

    item_id: str
    request: Request


def parse_watch(item_id: str, value: bytes, limits: RequestLimits, index_name: str) -> Watch:
    """The watch of a message of `watch`.  BadEvent says where and what was expected."""
    try:
        fields = read_object(value, limits.body_bytes_max)
        if "requests" in fields:
            raise BadRequest("requests: expected one request, not a batch")
        if fields.get("objectID") not in (None, item_id):
            raise BadRequest(f"objectID: expected the key, {shown(item_id)}, got {shown(fields['objectID'])}")
        body = value if fields.get("objectID") is not None else _with_item(value, item_id, fields)
        (request,) = parse_requests(body, limits, index_name).entries
        if isinstance(request, BadRequest):
            raise request
        if len(request.items) > 1 or request.images:
            raise BadRequest("expected nothing to look like but the key's item")
        for name, asked in _UNWATCHED.items():
            if getattr(request, asked):
                raise BadRequest(f"{name}: cannot be watched")
    except BadRequest as error:
        raise BadEvent(f"watch of {shown(item_id)}: {error}") from error
    return Watch(item_id, request)


_UNWATCHED = {
    "walk": "walk",
    "explain": "explain",
    "fallbackParameters": "fallback",
    "queryParameters.clickAnalytics": "click_analytics",
}
"""A walk is a way and no list; reasons and fallbacks follow from the whole catalog; a queryID is a visitor's."""


def _with_item(value: bytes, item_id: str, fields: dict[str, Any]) -> bytes:
    """The body with the item in it, the rest of it byte for byte as it came."""
    inner = value.strip()[1:-1].strip()
    if "objectID" in fields:  # it is null
        return msgspec.json.encode(fields | {"objectID": item_id})
    return b'{"objectID":%b%b%b}' % (msgspec.json.encode(item_id), b"," if inner else b"", inner)


def list_digest(result: Result) -> bytes:
    """What tells a list from another: hits, rules, all but the times.  Lists that could not be made are alike."""
    if result.status != 200:
        return EMPTY
    end = result.body.rfind(b',"watermark":')
    return hashlib.blake2b(result.body[:end], digest_size=16).hexdigest().encode()


def list_message(item_id: str, result: Result, at_ms: int, reasons: Sequence[Reason]) -> bytes:
    """The message of `similar-changes`: the result, and the fields `objectID`, `at` (Unix ms) and `reasons`."""
    tail = result_tail({"objectID": item_id, "at": at_ms, "reasons": list(reasons[:REASONS_MAX])})
    return b"%b%b}" % (result.body[:-1], tail)


def fitting(result: Result, index_name: str) -> Result:
    """The result, or, where it is too large for a message, an empty list that says so."""
    size = len(result.body)
    if size <= LIST_BYTES_MAX:
        return result
    return failed(
        f"the list has {size:,} bytes, expected at most {LIST_BYTES_MAX:,}: ask for fewer attributesToRetrieve",
        400,
        index_name,
    )
