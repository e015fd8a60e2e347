"""Files that people publish: records, stock levels and rules, read into changes for a topic.

A catalog or stock file has one JSON object a line (`-` is standard input):

    {"objectID": "shoe-1", "title": "Runner", "image": "shoes/1.jpg"}      a record; its id becomes the key
    {"key": "shoe-1", "value": {...}}                                       any event, value null = a tombstone

In the second form key and value may also be objects, as Debezium writes them, and `headers` an object of texts.
A line that cannot be read is a BadEvent that names the file, the line, what was expected and what came.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import orjson

from models.change_events import ITEM_ID_BYTES_MAX, check_keys
from models.errors import BadEvent

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ITEM_ID = 'a text as "objectID" (or "key" and "value")'
_RULE_ID = 'a text as "objectID", the id of the rule'


class Change(NamedTuple):
    """One event to publish.  `value` None: a tombstone."""

    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def catalog_changes(lines: Iterable[bytes], name: str, first: int = 1) -> Iterator[Change]:
    """The changes of a file of records; a record goes out byte for byte as its line has it.

    `first` is the number of the first line, for messages.
    """
    for where, line, entry in _objects(lines, name, first):
        yield _event(entry, where) or Change(_item_key(entry, where), line)


def stock_changes(lines: Iterable[bytes], name: str, first: int = 1) -> Iterator[Change]:
    """The changes of a file of levels: `{"objectID": "shoe-1", "quantity": 3, "at": 1700000000000}`, `at` optional."""
    for where, _, entry in _objects(lines, name, first):
        change = _event(entry, where)
        if change is None:
            key = _item_key(entry, where)
            if "quantity" not in entry:
                raise BadEvent(f'{where}: expected "quantity", got {_shown(entry)}')
            change = Change(key, orjson.dumps({name: value for name, value in entry.items() if name != "objectID"}))
        yield change


def stock_argument(text: str) -> Change:
    """A level from `ITEM=QUANTITY`; `ITEM=` takes the level back: it is not known any more."""
    item_id, equals, quantity = text.rpartition("=")
    if not equals or not item_id:
        raise BadEvent(f"expected a file or ITEM=QUANTITY, got {text!r}")
    if not quantity.strip():
        return Change(item_key(item_id), None)
    try:
        level = float(quantity)
    except ValueError:
        level = math.nan
    if not math.isfinite(level):
        raise BadEvent(f"expected a number after {item_id!r} and =, got {quantity!r}")
    return Change(item_key(item_id), orjson.dumps({"quantity": int(level) if level.is_integer() else level}))


def rule_changes(text: bytes, name: str) -> list[Change]:
    """The changes of a file with one rule or a list of them, each checked as a worker would check it."""
    changes = []
    for change in read_rules(text, name):
        if isinstance(change, BadEvent):
            raise change
        changes.append(change)
    return changes


def read_rules(text: bytes, name: str) -> Iterator[Change | BadEvent]:
    """The same one by one, with the reason in the place of each that cannot be understood.

    Raises BadEvent when the file as a whole is no JSON.
    """
    text = text.removeprefix(BYTE_ORDER_MARK)
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadEvent(f"{name}: expected a rule or a list of rules as JSON, got {error}") from None
    written = msgspec.json.decode(text, type=list[msgspec.Raw]) if isinstance(content, list) else [text]
    for number, (rule, as_written) in enumerate(zip(_listed(content), written, strict=True), start=1):
        yield _rule_change(rule, bytes(as_written), f"{name}, rule {number}")


def _listed(content: object) -> list[object]:
    return content if isinstance(content, list) else [content]


def _rule_change(rule: object, as_written: bytes, where: str) -> Change | BadEvent:
    from models.rules import parse_rule  # loads NumPy, which those who publish stock levels should not wait for

    if not isinstance(rule, dict):
        return BadEvent(f"{where}: expected an object, got {_shown(rule)}")
    try:
        change = Change(_item_key(rule, where, _RULE_ID), orjson.dumps(rule))
    except BadEvent as error:
        return error
    try:
        parse_rule(change.key.decode(), as_written)
    except BadEvent as error:
        return BadEvent(f"{where}: {error}")
    return change


def item_key(item_id: str) -> bytes:
    """An id as the key of an event.  Raises BadEvent where none can be made of it."""
    try:
        key = item_id.encode()
    except UnicodeEncodeError:
        raise BadEvent(f"an id is UTF-8, got {item_id!r}") from None
    if not 1 <= len(key) <= ITEM_ID_BYTES_MAX:
        raise BadEvent(f"an id has 1 to {ITEM_ID_BYTES_MAX} bytes, got {len(key)}")
    return key


def _objects(lines: Iterable[bytes], name: str, first: int) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Place, line and object of every line that is not empty."""
    for number, line in enumerate(lines, start=first):
        line = line.removeprefix(BYTE_ORDER_MARK).strip() if number == 1 else line.strip()
        if not line:
            continue
        where = f"{name}:{number}"
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadEvent(f"{where}: expected one JSON object a line, got {_start(line)} ({error})") from None
        if not isinstance(entry, dict):
            raise BadEvent(f"{where}: expected an object, got {_shown(entry)}")
        check_keys(where, line, entry)
        yield where, line, entry


def _event(entry: dict[str, Any], where: str) -> Change | None:
    """The change of a line that gives key and value; None for another line."""
    if "objectID" in entry or not {"key", "value"} <= entry.keys():
        return None
    key, value, headers = entry["key"], entry["value"], entry.get("headers") or {}
    if not isinstance(key, str | dict) or not isinstance(headers, dict):
        raise BadEvent(f"{where}: expected a text or an object as key and an object as headers, got {_shown(entry)}")
    return Change(
        item_key(key) if isinstance(key, str) else orjson.dumps(key),
        None if value is None else value.encode() if isinstance(value, str) else orjson.dumps(value),
        tuple((name, text.encode() if isinstance(text, str) else orjson.dumps(text)) for name, text in headers.items()),
    )


def _item_key(entry: dict[str, Any], where: str, expected: str = _ITEM_ID) -> bytes:
    item_id = entry.get("objectID")
    if not isinstance(item_id, str):
        raise BadEvent(f"{where}: expected {expected}, got {_shown(entry)}")
    try:
        return item_key(item_id)
    except BadEvent as error:
        raise BadEvent(f"{where}: {error}") from None


def _shown(value: object) -> str:
    return _start(json.dumps(value, ensure_ascii=False).encode())


def _start(text: bytes) -> str:
    shown = text[:80].decode("utf-8", "replace")
    return shown + ("..." if len(text) > 80 else "")
