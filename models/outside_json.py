"""JSON from outside, read strictly: one object, no key twice, no depth that hurts; and words for what came instead.

`msgspec` refuses NaN, infinite numbers, lone surrogates and bytes that are not UTF-8.  It keeps the last of two equal
keys without a word, as orjson does, so those are counted here, cheaply: only a body with more colons than keys can have
one.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from models.errors import BadRequest
from models.field_values import shown

DEPTH_MAX = 32
"""Of objects and lists in each other; requests and rules need 7."""

_decode = msgspec.json.Decoder().decode
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?', re.DOTALL)
_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def read_object(body: bytes | None, bytes_max: int) -> dict[str, Any]:
    """The JSON object that `body` is.  BadRequest says, in words for people, why it is none."""
    if not body:
        raise BadRequest(f"expected a JSON object, got {'null' if body is None else 'no bytes'}")
    if len(body) > bytes_max:
        raise BadRequest(f"expected at most {bytes_max:,} bytes, got {len(body):,}")
    try:
        value = _decode(body)
    except UnicodeDecodeError as error:
        raise BadRequest(f"expected JSON in UTF-8: byte {error.object[error.start]:#04x} cannot be read") from error
    except RecursionError as error:
        raise BadRequest(f"expected JSON nested at most {DEPTH_MAX} deep") from error
    except msgspec.DecodeError as error:
        raise BadRequest(f"expected JSON: {_reason(body, str(error))}") from error
    if type(value) is not dict:
        raise BadRequest(f"expected a JSON object, got {kind_of(value)}")
    keys = count_keys(value, DEPTH_MAX)
    if keys is None:
        raise BadRequest(f"expected JSON nested at most {DEPTH_MAX} deep")
    if twice := key_twice(body, keys):
        raise BadRequest(f"expected each key once, but {twice} stands twice in one object")
    return value


def count_keys(value: Any, depth_max: int) -> int | None:
    """The keys of all objects in a decoded JSON value; None: it is nested more than `depth_max` deep."""
    count, level = 0, [value]
    for _ in range(depth_max):
        inner = []
        for part in level:
            if type(part) is dict:
                count += len(part)
                inner += [each for each in part.values() if type(each) is dict or type(each) is list]
            elif type(part) is list:
                inner += [each for each in part if type(each) is dict or type(each) is list]
        if not inner:
            return count
        level = inner
    return None


def key_twice(body: bytes, keys: int) -> str | None:
    """A key that stands twice in one object of JSON's text, in words; None if none does.

    `keys` are the ones that decoding kept.  Each has a colon in the text: where two were equal there is one too many.
    Colons in texts count too, so that they are told apart where there are any.
    """
    if body.count(b":") == keys or sum(1 for colon in _TEXT.findall(body) if colon) == keys:
        return None
    return _twice(body)


def kind_of(value: object) -> str:
    """What a JSON value is, for people."""
    return _KINDS.get(type(value), "null")


def object_of(value: object, where: str, known: Iterable[str]) -> dict[str, Any]:
    """The fields of a JSON object that are not null.  BadRequest: no object, or a field that is not `known`."""
    if not isinstance(value, dict):
        raise BadRequest(f"{where}: expected an object, got {kind_of(value)}")
    for name in value:
        if name not in known:
            raise BadRequest(f"{where}: {unknown_field(name, known)}" if where else unknown_field(name, known))
    return {name: field for name, field in value.items() if field is not None}


def list_of(value: object, where: str) -> list[Any]:
    """A JSON list; BadRequest for anything else."""
    if not isinstance(value, list):
        raise BadRequest(f"{where}: expected a list, got {kind_of(value)}")
    return value


def text_of(value: object, where: str) -> str:
    """A JSON text; BadRequest for anything else."""
    if not isinstance(value, str):
        raise BadRequest(f"{where}: expected text, got {shown(value)}")
    return value


def flag_of(value: object, where: str) -> bool:
    """A JSON true or false; BadRequest for anything else."""
    if not isinstance(value, bool):
        raise BadRequest(f"{where}: expected true or false, got {shown(value)}")
    return value


def texts_of(value: object, where: str, count_max: int) -> tuple[str, ...]:
    """A JSON list of texts; a single text stands for a list of one.  BadRequest for anything else, or too many."""
    texts = [value] if isinstance(value, str) else list_of(value, where)
    if len(texts) > count_max:
        raise BadRequest(f"{where}: expected at most {count_max:,}, got {len(texts):,}")
    return tuple([text_of(text, f"{where}[{number}]") for number, text in enumerate(texts)])


def number_from(value: object, where: str, low: float, high: float) -> float:
    """A JSON number from `low` to `high`, both included; BadRequest for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadRequest(f"{where}: expected a number from {low:g} to {high:g}, got {shown(value)}")
    return float(value)


def whole_from(value: object, where: str, low: int, high: int) -> int:
    """A whole JSON number from `low` to `high`, both included; 5.0 is one, as some serializers write it."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        raise BadRequest(f"{where}: expected {low} to {high}, got {shown(value)}")
    return value


def unknown_field(name: str, known: Iterable[str]) -> str:
    """The words for a field that nobody knows, with the nearest that is known."""
    known = sorted(known)
    lowered = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name[:100].casefold(), lowered, n=1, cutoff=0.5)
    return f"unknown field {shown(name)}" + (f"; did you mean {lowered[near[0]]}?" if near else "")


def _twice(body: bytes) -> str:
    """The first key that stands twice in one object of `body`, which is known to have one."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found.append(key)
            seen.add(key)

    json.loads(body, object_pairs_hook=look)
    return shown(found[0])


def _reason(body: bytes, message: str) -> str:
    if not body.strip():
        return "the text is blank"
    return message.removeprefix("JSON is malformed: ").replace(" - at `$[...]`", "").replace(" - at `$`", "")
