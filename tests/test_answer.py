"""Hits and results as JSON bytes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.answer import (
    HUNDREDTHS,
    OWN_FIELDS,
    Result,
    derived_part,
    failed,
    from_elsewhere,
    has_own_names,
    highlighted,
    hit_head,
    rank_end,
    record_part,
    result_bytes,
    result_end,
    result_tail,
    results_bytes,
    retrieved,
)

RECORD = {
    "objectID": "a",
    "name": "Shoe",
    "price": 10,
    "on_sale": False,
    "stock": 12,
    "author": {"name": "A", "born": 1900},
    "variants": [{"size": 41, "colour": "red"}, {"size": 42, "colour": "blue"}],
    "tags": ["x", "y"],
    "a.b": 1,
}
NOW = {"on_sale": True, "discount": 0.2, "stock": 3, "low_stock": True, "out_of_stock": False, "in_stock": True}


def part(record: dict[str, Any], *names: str, highlight: bool = False, now: dict[str, Any] | None = None) -> Any:
    """A hit's attributes, read back; no names: everything."""
    asked = retrieved(names or None)
    written = record_part(orjson.dumps(record), asked, highlight=highlight)
    return orjson.loads(written + derived_part(NOW if now is None else now, asked) + b"}")


def test_a_whole_record_is_returned_byte_for_byte() -> None:
    """Nothing is parsed, so that 1.0 stays 1.0 and the order of the fields stays too."""
    record = b'{"z":1.0,"objectID":"a","x_y":"_"}'

    assert record_part(record, retrieved(None), highlight=False) == record[:-1]
    assert record_part(record, retrieved(("*",)), highlight=False) == record[:-1]


@pytest.mark.parametrize("name", OWN_FIELDS)
def test_a_record_cannot_pass_off_its_own_fields_as_the_hits(name: str) -> None:
    """They are taken out at the top level; further in, and under other names, they are the record's."""
    record = {"objectID": "a", name: 99, "inner": {name: 1}, "_tags": [name], f"x{name}": 2}

    shown = part(record)

    assert has_own_names(orjson.dumps(record))
    assert shown == {key: value for key, value in record.items() if key != name}
    assert part(record, name, "inner") == {"objectID": "a", "inner": {name: 1}}


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["name"], {"objectID": "a", "name": "Shoe"}),
        (["nothing"], {"objectID": "a"}),
        (["author.name"], {"objectID": "a", "author": {"name": "A"}}),
        (["author.name", "author.born"], {"objectID": "a", "author": {"name": "A", "born": 1900}}),
        (["author.name.x", "tags.x", "author.x"], {"objectID": "a"}),
        (["variants.size"], {"objectID": "a", "variants": [{"size": 41}, {"size": 42}]}),
        (["variants.size", "variants.colour"], {"objectID": "a", "variants": RECORD["variants"]}),
        (["a.b"], {"objectID": "a", "a.b": 1}),
        (["tags", "-tags"], {"objectID": "a"}),
        (["-objectID", "name"], {"objectID": "a", "name": "Shoe"}),
        (["stock"], {"objectID": "a", "stock": 3}),
        (["on_sale", "discount"], {"objectID": "a", "on_sale": True, "discount": 0.2}),
    ],
)
def test_attributes_are_picked(names: list[str], shown: dict[str, Any]) -> None:
    """By dotted path, the shape around them kept; objectID always; derived ones are what they are now."""
    assert part(RECORD, *names) == shown


def test_attributes_are_taken_out() -> None:
    """`*` with `-name`; names to take out alone mean the same; dotted ones reach into lists."""
    without = {key: value for key, value in RECORD.items() if key not in ("author", "stock")}

    assert part(RECORD, "*", "-author", "-stock") == without
    assert part(RECORD, "-author", "-stock") == without
    assert part(RECORD, "-variants.size", "-author.born", "-a.b", "-name.x", "-x.y")["variants"] == [
        {"colour": "red"},
        {"colour": "blue"},
    ]


def test_derived_attributes_are_told_only_by_name() -> None:
    """Beside everything too; a level that is not known is left out, rather than the record's old one shown."""
    assert part(RECORD)["stock"] == 12
    assert part(RECORD, "*", "stock", "in_stock") == RECORD | {"stock": 3, "in_stock": True}
    assert "stock" not in part(RECORD, "*", "stock", now=NOW | {"stock": None})
    assert part(RECORD, "*", "stock", "-stock") == {key: value for key, value in RECORD.items() if key != "stock"}


def test_lists_that_do_not_fit_each_other_are_replaced() -> None:
    """Elements that lack the one attribute and not the other cannot be matched up: the later path stands."""
    record = {"objectID": "a", "v": [{"x": 1}, {"y": 2}, 3]}

    assert part(record, "v.x", "v.y") == {"objectID": "a", "v": [{"x": 1, "y": 2}]}
    assert part(record | {"v": [{"x": 1}, {"x": 2, "y": 2}]}, "v.x", "v.y")["v"] == [{"y": 2}]


def test_texts_are_shown_as_widgets_read_them() -> None:
    """`_highlightResult` has every text that is retrieved, nothing else, and not the objectID."""
    text = {"matchLevel": "none", "matchedWords": []}

    shown = part(RECORD, highlight=True)

    assert {key: value for key, value in shown.items() if key != "_highlightResult"} == RECORD
    assert shown["_highlightResult"] == {
        "name": {"value": "Shoe", **text},
        "author": {"name": {"value": "A", **text}},
        "variants": [{"colour": {"value": "red", **text}}, {"colour": {"value": "blue", **text}}],
        "tags": [{"value": "x", **text}, {"value": "y", **text}],
    }
    assert set(part(RECORD, "name", highlight=True)["_highlightResult"]) == {"name"}
    assert part({"objectID": "a", "n": 1}, highlight=True)["_highlightResult"] == {}


def test_deep_records_cost_no_stack() -> None:
    """What lies deeper than 64 is not picked, highlighted or taken out."""
    deep: Any = "x"
    for _ in range(80):
        deep = {"a": [deep]}

    assert highlighted(deep) == {}
    path = ".".join(["a"] * 160)
    assert part({"objectID": "i", "a": [deep]}, path) == {"objectID": "i"}
    assert part({"objectID": "i", "a": [deep]}, f"-{path}") == {"objectID": "i", "a": [deep]}


@given(st.integers(0, 30_000))
def test_hundredths_are_decimal_text(number: int) -> None:
    """As a float would be written with two places, within the tables and beyond."""
    text = f"{number / 100:.2f}".encode()

    assert rank_end(number) == b',"_rankScore":%b},' % text
    if number < len(HUNDREDTHS):
        assert HUNDREDTHS[number] == text


def test_a_result_has_the_contracts_fields() -> None:
    """And begins with a brace, which NestJS needs."""
    head = hit_head(b'{"objectID":"a"', "https://x")
    hit = head + HUNDREDTHS[5012] + rank_end(6000)[:-1]
    tail = result_tail({"index": "items", "appliedRules": ["default"]})

    end = result_end(2, 30, processing_ms=4, query_id="q1", tail=tail)
    body = result_bytes([hit + b",", hit + b","], end)

    assert body[:1] == b"{"
    own = {"_score": 50.12, "_rankScore": 60.0, "_matchedImage": "https://x", "_source": "model"}
    assert orjson.loads(body) == {
        "hits": [{"objectID": "a", **own}] * 2,
        "nbHits": 2,
        "hitsPerPage": 30,
        "page": 0,
        "nbPages": 1,
        "processingTimeMS": 4,
        "queryID": "q1",
        "index": "items",
        "appliedRules": ["default"],
    }


def test_a_result_without_hits() -> None:
    """No page; no queryID unless one is given; an empty tail is none."""
    body = orjson.loads(result_bytes([], result_end(0, 30, processing_ms=0, query_id=None, tail=result_tail({}))))

    assert body == {"hits": [], "nbHits": 0, "hitsPerPage": 30, "page": 0, "nbPages": 0, "processingTimeMS": 0}


def test_a_failed_entry_still_has_hits() -> None:
    """Widgets break without the list."""
    result = failed("item 'x' is not known", 404, "items")

    assert (result.status, result.message) == (404, "item 'x' is not known")
    body = orjson.loads(result.body)
    assert body["hits"] == []
    assert (body["status"], body["message"], body["index"]) == (404, "item 'x' is not known", "items")


def test_results_stand_in_their_order() -> None:
    """One an entry."""
    assert orjson.loads(results_bytes([Result(b'{"a":1}'), Result(b'{"b":2}')])) == {"results": [{"a": 1}, {"b": 2}]}


def test_a_hit_may_come_from_elsewhere() -> None:
    """A pin or a fallback says so in place of the model."""
    head = from_elsewhere(hit_head(b'{"objectID":"a"', "x"), "pin")

    assert orjson.loads(head + b"1}") == {"objectID": "a", "_matchedImage": "x", "_source": "pin", "_score": 1}
