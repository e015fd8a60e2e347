"""The attributes of a record: by which names they are known, and what they say by dotted path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import orjson

NAMES = (
    "image",
    "images",
    "image_url",
    "image_link",
    "additional_image_link",
    "price",
    "list_price",
    "sale_price",
    "stock",
    "in_stock",
    "on_sale",
    "sale_from",
    "sale_until",
    "low_stock_at",
    "group",
    "item_group_id",
)
"""The attributes that mean something to us and may be called otherwise."""

PATH_LENGTH_MAX = 512
"""Characters of a dotted path; what is named by a longer one is returned with the record but cannot be filtered on.

Without a bound a record of 100 kB could be 50 kB of name before 10,000 values: 500 MB of paths.
"""

_DEPTH_MAX = 64
"""Levels that a dotted path is followed down; JSON in a text may be nested deeper than Python calls can be."""

Scalar = str | float | int | bool


class AttributeNames(msgspec.Struct, frozen=True):
    """By which dotted path each of `NAMES` is found in this catalog's records; by its own name where none is given."""

    paths: dict[str, str] = {}

    @classmethod
    def parse(cls, text: str) -> AttributeNames:
        """From `image=photos.url,list_price=rrp`, pairs of ours and theirs.

        Raises ValueError, with the pair at fault, for one that cannot be used.
        """
        paths: dict[str, str] = {}
        for pair in filter(None, (pair.strip() for pair in text.split(","))):
            ours, equals, theirs = (part.strip() for part in pair.partition("="))
            if not equals or not theirs:
                raise ValueError(f"expected a pair as list_price=rrp, got {pair!r}")
            if ours not in NAMES:
                raise ValueError(f"expected one of {', '.join(NAMES)} before the =, got {pair!r}")
            if ours in paths:
                raise ValueError(f"expected {ours} once, got {ours}={paths[ours]} and {pair}")
            paths[ours] = theirs
        return cls(paths)

    def find(self, attributes: Mapping[str, Any], name: str) -> Any:
        """What the record says for `name`; None: nothing, a list: several values, or a list.

        A path goes on into each element of a list, and into JSON in a text (as Debezium writes `jsonb`).
        """
        path = self.paths.get(name)
        if path is None:
            return attributes.get(name)
        found = list(_at(attributes, path))
        return found[0] if len(found) == 1 else found or None


def attribute_values(attributes: Mapping[str, Any]) -> dict[str, tuple[Scalar, ...]]:
    """What can be filtered on, by dotted path: scalars, and lists of them in their order.

    Lists of objects flatten: `{"variants": [{"size": 41}, {"size": 42}]}` is `{"variants.size": (41, 42)}`.
    Null is no value.  A path longer than `PATH_LENGTH_MAX` is left out.
    """
    found: dict[str, list[Scalar]] = {}
    waiting: list[tuple[str, Any]] = [("", attributes)]  # a stack of our own: Python's ends at 1,000 levels
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str | float | int):
            found.setdefault(path, []).append(value)
        elif isinstance(value, Mapping):
            before = f"{path}." if value is not attributes else ""
            for name, inner in reversed([*value.items()]):
                if len(before) + len(name) <= PATH_LENGTH_MAX:
                    waiting.append((before + name, inner))
        elif isinstance(value, list):
            waiting.extend((path, inner) for inner in reversed(value))
    return {path: tuple(values) for path, values in found.items()}


def unpacked(value: Any) -> Any:
    """The JSON object or list that a text is, else the value itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _at(value: Any, path: str, depth: int = 0) -> Iterator[Any]:
    """What stands at a dotted path, lists opened and nulls left out; a name with a dot in it is found too."""
    value = unpacked(value)
    if isinstance(value, list):
        if depth < _DEPTH_MAX:
            for element in value:
                yield from _at(element, path, depth + 1)
    elif not path:
        if value is not None:
            yield value
    elif isinstance(value, Mapping):
        if path in value:
            yield from _at(value[path], "", depth + 1)
            return
        name, _, rest = path.partition(".")
        if rest and name in value:
            yield from _at(value[name], rest, depth + 1)
