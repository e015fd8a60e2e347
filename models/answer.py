"""Answers: hits and results as JSON bytes, the contract's shapes.

A record is kept as the bytes that came.  With all its attributes asked for, a hit is those bytes with the hit's own
fields written before the closing brace; nothing is parsed.  What is easy to get wrong:

* A record may have attributes that are named as a hit's own fields (`_score`): they are taken out, or a client would
  read the record's.  Looking for `"_` in the bytes says cheaply that there are none.
* With all attributes a record is returned as it came.  A derived attribute (`on_sale`, `stock`, ...) that is asked for
  by name is what it is *now*, in place of the record's own of that name: yesterday's stock is never shown as today's.
* `objectID` and the hit's own fields are there whatever is asked for.
* A failed entry still has `hits: []`: widgets break without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from models.stock import DERIVED

OWN_FIELDS = ("_score", "_rankScore", "_matchedImage", "_source", "_explain", "_highlightResult")
_OWN_NAMES = tuple([b'"%b"' % name.encode() for name in OWN_FIELDS])
DEPTH_MAX = 64
"""Of a record's objects and lists, as far as attributes are picked and highlighted."""


class Result(msgspec.Struct, frozen=True):
    """The answer to one entry: its JSON object, and, for one that failed, status and message (else 200 and None)."""

    body: bytes
    status: int = 200
    message: str | None = None


class Retrieved(msgspec.Struct, frozen=True):
    """What `attributesToRetrieve` asks for."""

    everything: bool
    wanted: tuple[str, ...]
    """Dotted paths; nothing to do with `everything`, except for derived attributes."""
    unwanted: tuple[str, ...]
    derived: tuple[str, ...]
    """Derived attributes that are asked for by name."""

    @property
    def as_it_came(self) -> bool:
        """Whether it is the whole record and nothing else."""
        return self.everything and not self.unwanted and not self.derived


@lru_cache(maxsize=1_000)
def retrieved(names: tuple[str, ...] | None) -> Retrieved:
    """`attributesToRetrieve` read: `*` is everything, `-name` takes out, and alone is meant as beside `*`."""
    if names is None:
        return Retrieved(True, (), (), ())
    unwanted = tuple([name[1:] for name in names if name.startswith("-") and len(name) > 1])
    wanted = tuple([name for name in names if name != "*" and not name.startswith("-")])
    everything = "*" in names or (bool(unwanted) and not wanted)
    derived = tuple([name for name in DERIVED if name in wanted and name not in unwanted])
    return Retrieved(everything, wanted, unwanted, derived)


def record_part(record: bytes, asked: Retrieved, *, highlight: bool) -> bytes:
    """The beginning of a hit: a JSON object of the record's attributes, without its closing brace.

    `record`: the record's JSON object, with `objectID`.  The derived attributes that are asked for are not in it: they
    change more often, and are written at the end (`derived_part`).
    """
    if asked.as_it_came and not highlight and not has_own_names(record):
        return record[:-1]
    attributes = pick(orjson.loads(record), asked)
    for name in (*OWN_FIELDS, *asked.derived):
        attributes.pop(name, None)
    if highlight:
        attributes["_highlightResult"] = highlighted({k: v for k, v in attributes.items() if k != "objectID"})
    return orjson.dumps(attributes)[:-1]


def derived_part(now: Mapping[str, Any], asked: Retrieved) -> bytes:
    """The derived attributes that are asked for, as they are `now`: `,"stock":3`; one that is None is left out."""
    return result_tail({name: now[name] for name in asked.derived if now.get(name) is not None})


def has_own_names(record: bytes) -> bool:
    """Whether the record may have an attribute that is named as a hit's own field."""
    return b"_" in record and b'"_' in record and any(name in record for name in _OWN_NAMES)


def hit_head(part: bytes, image: str) -> bytes:
    """The beginning of a hit up to its score: `record_part`, the matched image's name, and that the model found it."""
    return b'%b,"_matchedImage":%b,"_source":"model","_score":' % (part, orjson.dumps(image))


def from_elsewhere(head: bytes, source: str) -> bytes:
    """The beginning of a hit that the model did not find: a pin, a fallback."""
    return b'%b%b","_score":' % (head[: -len(b'model","_score":')], source.encode())


HUNDREDTHS = tuple([b"%d.%02d" % divmod(number, 100) for number in range(10_001)])
"""1234 as `12.34`: formatting a float costs more than all the rest of a hit."""
RANK_ENDS = tuple([b',"_rankScore":%d.%02d},' % divmod(number, 100) for number in range(20_000)])
"""The end of a hit after its score, by its ranking score in hundredths, with a comma to the next hit."""


def rank_end(number: int) -> bytes:
    """The same, also beyond the table."""
    return RANK_ENDS[number] if number < len(RANK_ENDS) else b',"_rankScore":%d.%02d},' % divmod(number, 100)


def result_end(count: int, hits_wanted: int, *, processing_ms: int, query_id: str | None, tail: bytes) -> bytes:
    """A result's JSON object after its `count` hits.  `tail`: the result's last fields (`result_tail`)."""
    query = b"" if query_id is None else b',"queryID":%b' % orjson.dumps(query_id)
    return b'],"nbHits":%d,"hitsPerPage":%d,"page":0,"nbPages":%d,"processingTimeMS":%d%b%b}' % (
        count,
        hits_wanted,
        1 if count else 0,
        processing_ms,
        query,
        tail,
    )


def result_bytes(pieces: Sequence[bytes], end: bytes) -> bytes:
    """A result's JSON object.  `pieces`: of hits, each with a comma at its end, as `rank_end` has it; `end`:
    `result_end`.  The pieces are copied once, here.
    """
    if not pieces:
        return b'{"hits":[' + end
    return b"".join([b'{"hits":[', *pieces[:-1], pieces[-1][:-1], end])


def result_tail(fields: Mapping[str, Any]) -> bytes:
    """Fields to be written after others: `,"name":value,...`."""
    written = orjson.dumps(fields)[1:-1]
    return b"," + written if written else b""


def failed(message: str, status: int, index_name: str) -> Result:
    """The result of an entry that cannot be answered."""
    body = {"hits": [], "nbHits": 0, "page": 0, "nbPages": 0, "index": index_name, "message": message, "status": status}
    return Result(orjson.dumps(body), status, message)


def results_bytes(results: Iterable[Result]) -> bytes:
    """The body for a batch: `{"results": [...]}`."""
    return b'{"results":[%b]}' % b",".join([result.body for result in results])


def pick(attributes: dict[str, Any], asked: Retrieved) -> dict[str, Any]:
    """The attributes that are asked for; `attributes` is used up.

    A dotted path goes into objects, and into each object of a list; the shape around it stays: `author.name` of
    {"author": {"name": "A", "born": 1}} is {"author": {"name": "A"}}.
    """
    if asked.everything:
        picked = attributes
    else:
        picked = {"objectID": attributes["objectID"]} if "objectID" in attributes else {}
        for path in asked.wanted:
            if path in attributes:
                picked[path] = attributes[path]
            elif "." in path and (part := _at(attributes, path.split("."))) is not None:
                _merge(picked, part)
    for path in asked.unwanted:
        if path != "objectID":
            _take_out(picked, path.split("."))
            picked.pop(path, None)
    return picked


def highlighted(value: Any, depth: int = 0) -> Any:
    """Algolia's `_highlightResult` of a value: its texts in the shape that templates read, and nothing else."""
    if isinstance(value, str):
        return {"value": value, "matchLevel": "none", "matchedWords": []}
    if depth > DEPTH_MAX:
        return None
    if isinstance(value, dict):
        shown = {name: highlighted(part, depth + 1) for name, part in value.items()}
        return {name: part for name, part in shown.items() if part is not None} or (None if depth else {})
    if isinstance(value, list):
        return [part for part in [highlighted(element, depth + 1) for element in value] if part is not None] or None
    return None


def _at(value: Any, path: list[str], depth: int = 0) -> Any:
    """`value` cut down to what stands at the path; None: nothing does."""
    if not path:
        return value
    if depth > DEPTH_MAX:
        return None
    if isinstance(value, list):
        parts = [part for part in [_at(element, path, depth + 1) for element in value] if part is not None]
        return parts or None
    if not isinstance(value, dict) or path[0] not in value:
        return None
    part = _at(value[path[0]], path[1:], depth + 1)
    return None if part is None else {path[0]: part}


def _merge(into: dict[str, Any], part: dict[str, Any]) -> None:
    """Lay one cut-down record over another of the same record."""
    for name, value in part.items():
        known = into.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
        elif isinstance(known, list) and isinstance(value, list) and len(known) == len(value):
            for number, element in enumerate(value):
                if isinstance(known[number], dict) and isinstance(element, dict):
                    _merge(known[number], element)
        else:
            into[name] = value


def _take_out(value: Any, path: list[str], depth: int = 0) -> None:
    if depth > DEPTH_MAX:
        return
    if isinstance(value, list):
        for element in value:
            _take_out(element, path, depth + 1)
    elif isinstance(value, dict):
        if len(path) == 1:
            value.pop(path[0], None)
        elif path[0] in value:
            _take_out(value[path[0]], path[1:], depth + 1)
