"""Attributes by dotted path, and by the names that a shop has for them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from models.attributes import PATH_LENGTH_MAX, AttributeNames, attribute_values
from models.errors import BadEvent
from models.record import parse_record
from tests.json_records import nested, objects


def oracle_values(record):
    """The definition, recursive and simple."""
    found: dict[str, list] = {}

    def walk(path, value):
        if isinstance(value, dict):
            for name, inner in value.items():
                walk([*path, name], inner)
        elif isinstance(value, list):
            for inner in value:
                walk(path, inner)
        elif value is not None:
            found.setdefault(".".join(path), []).append(value)

    walk([], record)
    return {path: tuple(values) for path, values in found.items()}


@given(objects)
def test_attribute_values_are_all_scalars_by_dotted_path(record):
    """In the record's order, lists and lists of objects flattened, null left out."""
    expected, found = oracle_values(record), attribute_values(record)

    assert expected == found
    assert [list(map(type, values)) for values in expected.values()] == [
        list(map(type, values)) for values in found.values()
    ]


def test_attribute_values_of_a_typical_record():
    """The documented shapes."""
    record = {
        "title": "x",
        "sizes": [41, 42.5],
        "brand": {"name": "y", "eco": True, "none": None, "empty": []},
        "variants": [{"size": 41, "tags": ["a", "b"]}, {"size": 42}],
        "a.b": 1,
        "a": {"b": 2},
        "": {"": 3},
    }

    assert {
        "title": ("x",),
        "sizes": (41, 42.5),
        "brand.name": ("y",),
        "brand.eco": (True,),
        "variants.size": (41, 42),
        "variants.tags": ("a", "b"),
        "a.b": (1, 2),
        ".": (3,),
    } == attribute_values(record)


def test_paths_do_not_multiply_a_record():
    """A name too long to be filtered on is left out with all below it; depth alone is no danger."""
    long = "n" * PATH_LENGTH_MAX

    assert {long: (1,)} == attribute_values({long: 1, long + "n": 2, "a": {long: 3}})
    bomb = {"n" * 50_000: {f"{n}": n for n in range(8_000)}}
    assert {} == attribute_values(bomb)
    assert {} == attribute_values(nested(2_000))
    value: list[Any] = []
    for _ in range(5_000):
        value = [value]
    assert {} == attribute_values({"deep": value})


def test_attribute_names_map_dotted_paths():
    """`ours=theirs`: what is mapped is looked for under their name only."""
    names = AttributeNames.parse(" image=photos.url , list_price=rrp,group=parent.sku,stock=on.hand, ")
    record = parse_record(
        "a",
        {
            "photos": [{"url": "1.jpg"}, {"url": None}, {"alt": "x"}, {"url": ["2.jpg", "3.jpg"]}],
            "image": "not this.jpg",
            "rrp": 20,
            "list_price": "not this",
            "price": 15,
            "parent": {"sku": "p"},
            "on.hand": 3,
        },
        names,
    )

    assert ("1.jpg", "2.jpg", "3.jpg") == record.images
    assert (0.25, "p", 3.0) == (record.facts.discount, record.facts.group, record.stock)
    assert parse_record("a", {"image": "x.jpg"}, names).images == ()
    assert AttributeNames.parse("") == AttributeNames()


def test_mapped_paths_go_on_into_json_in_a_text():
    """Debezium's `jsonb` columns, also in lists, also with names that have a dot."""
    names = AttributeNames.parse("images=media.photos.url,price=offer.v1.amount")
    told = {
        "media": '{"photos": [{"url": "1.jpg"}, {"url": "2.jpg"}]}',
        "offer": '{"v1.amount": "9.50"}',
        "list_price": 19,
    }

    assert ("1.jpg", "2.jpg") == parse_record("a", told, names).images
    assert 0.5 == parse_record("a", told, names).facts.discount
    assert () == parse_record("a", {"media": "{broken"}, names).images
    assert () == parse_record("a", {"media": {"photos": 5}}, names).images


def test_a_price_that_is_several_is_refused():
    """Which of the variants' prices should it be?"""
    names = AttributeNames.parse("price=variants.price")

    assert parse_record("a", {"variants": [{"price": 5}], "list_price": 10}, names).facts.discount == 0.5
    with pytest.raises(BadEvent, match="price: expected a price, got a list of 2"):
        parse_record("a", {"variants": [{"price": 5}, {"price": 6}]}, names)


def test_a_nesting_bomb_in_a_text_ends_nothing():
    """Lists in a text may be nested deeper than Python's calls."""
    names = AttributeNames.parse("image=photos.url")

    assert () == parse_record("a", {"photos": "[" * 1_000 + "]" * 1_000}, names).images
    assert () == parse_record("a", {"photos": "[" * 50_000}, names).images


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image", "expected a pair as list_price=rrp, got 'image'"),
        ("image=", "expected a pair"),
        ("picture=photos.url", "expected one of image, .* before the =, got 'picture=photos.url'"),
        ("objectID=sku", "expected one of"),
        ("image=a,image=b", "expected image once, got image=a and image=b"),
    ],
)
def test_attribute_names_that_cannot_be_used_are_named(text, message):
    """A setting is wrong use, not a bad event."""
    with pytest.raises(ValueError, match=message):
        AttributeNames.parse(text)
