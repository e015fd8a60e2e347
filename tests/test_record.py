"""Catalog records: what is taken, what is derived, what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadEvent
from models.record import RecordLimits, canonical, parse_record
from tests.json_records import json_values, names, nested, objects

prices = st.none() | st.integers(0, 4) | st.floats(0, 1e9)


def without_nones(**attributes):
    return {name: value for name, value in attributes.items() if value is not None}


@given(prices, prices, prices, st.none() | st.booleans())
def test_a_sale_is_what_the_prices_or_the_record_say(price, list_price, sale_price, on_sale):
    """On sale when price < list_price or sale_price < price; `on_sale` overrides both."""
    told = without_nones(price=price, list_price=list_price, sale_price=sale_price, on_sale=on_sale)
    facts = parse_record("a", told).facts
    marked_down = price is not None and list_price is not None and price < list_price
    offered = price is not None and sale_price is not None and sale_price < price

    assert (marked_down or offered if on_sale is None else on_sale) is facts.sale
    if not facts.sale or not (marked_down or offered):
        assert 0.0 == facts.discount
    else:
        paid = sale_price if offered else price
        before = list_price if marked_down else price
        assert math.isclose(1 - paid / before, facts.discount, abs_tol=1e-12)
        assert 0 < facts.discount <= 1


@pytest.mark.parametrize(
    ("told", "sale", "discount"),
    [
        ({"price": 80, "list_price": 100}, True, 0.2),
        ({"price": 100, "sale_price": 80}, True, 0.2),
        ({"price": 80, "list_price": 100, "sale_price": 60}, True, 0.4),
        ({"price": "80.00 EUR", "list_price": "EUR 100.00"}, True, 0.2),
        ({"price": 100, "list_price": 100, "sale_price": 100}, False, 0.0),
        ({"price": 100, "list_price": 90, "sale_price": 110}, False, 0.0),
        ({"price": 100, "list_price": "", "sale_price": None}, False, 0.0),
        ({"list_price": 100, "sale_price": 80}, False, 0.0),
        ({"price": 80, "list_price": 100, "on_sale": False}, False, 0.0),
        ({"price": 80, "on_sale": True}, True, 0.0),
        ({"price": 0, "list_price": 0}, False, 0.0),
        ({"price": 0, "list_price": 5}, True, 1.0),
    ],
)
def test_the_saving_is_relative_to_the_old_price(told, sale, discount):
    """The two ways of shops' feeds, both at once, and the edges."""
    facts = parse_record("a", told).facts

    assert sale is facts.sale
    assert pytest.approx(discount) == facts.discount


def test_a_window_that_ends_before_it_begins_is_kept_as_told():
    """The record can be used; such a sale is simply never on."""
    facts = parse_record("a", {"on_sale": True, "sale_from": "2026-09-02", "sale_until": 1_788_220_800_000}).facts

    assert facts.sale
    assert (1_788_307_200_000, 1_788_220_800_000) == (facts.sale_from, facts.sale_until)


def test_facts_of_stock_and_family():
    """Threshold, stock state, level and variant family come from the record."""
    record = parse_record("a", {"in_stock": 0, "low_stock_at": "3", "stock": 12, "group": "", "item_group_id": 4711})

    assert (False, 3.0, 12.0, "4711") == (
        record.facts.in_stock,
        record.facts.low_stock_at,
        record.stock,
        record.facts.group,
    )
    assert "p" == parse_record("a", {"group": " p ", "item_group_id": "q"}).facts.group
    assert "5" == parse_record("a", {"group": 5.0}).facts.group
    assert parse_record("a", {"stock": None}).stock is None
    assert parse_record("a", {"stock": -2}).stock == -2.0


@pytest.mark.parametrize(
    ("told", "at_fault"),
    [
        ({"price": "1.299,00"}, "price"),
        ({"price": "Ix4="}, "price: .*decimal.handling.mode"),
        ({"list_price": True}, "list_price"),
        ({"sale_price": -1}, "sale_price"),
        ({"stock": True}, "stock"),
        ({"stock": "a few"}, "stock"),
        ({"stock": [1, 2]}, "stock"),
        ({"in_stock": "maybe"}, "in_stock"),
        ({"on_sale": 2}, "on_sale"),
        ({"sale_from": "soon"}, "sale_from"),
        ({"sale_until": 1e300}, "sale_until"),
        ({"low_stock_at": "5 pairs"}, "low_stock_at"),
        ({"group": True}, "group"),
        ({"group": ["a"]}, "group"),
        ({"item_group_id": 1.5}, "item_group_id"),
        ({"image": 5}, "image"),
        ({"images": [{"url": "a.jpg"}]}, "images: .*KINDRED_ATTRIBUTES"),
        ({"images": {"url": "a.jpg"}}, "images"),
        ({"images": [["a.jpg"]]}, "images"),
        ({"image_url": "ftp://shop.example/a.jpg"}, "image_url"),
        ({"image_link": "javascript:alert(1)"}, "image_link"),
        ({"image": "//shop.example/a.jpg"}, "image"),
        ({"image": "https:///a.jpg"}, "image: .*host"),
        ({"image": "http://[::1/a.jpg"}, "image: .*host"),
        ({"image": "https:a.jpg"}, "image: .*host"),
        ({"image": "C:\\pictures\\a.jpg"}, "image"),
        ({"image": "a\x00.jpg"}, "image: .*control"),
        ({"image": "https://shop.example/\r\nHost: other"}, "image: .*control"),
    ],
)
def test_an_attribute_that_cannot_be_used_is_named(told, at_fault):
    """The event is bad, and its message says which attribute, what was expected and what came."""
    with pytest.raises(BadEvent, match=f"^{at_fault}.*"):
        parse_record("a", told)
    with pytest.raises(BadEvent, match="expected .* got "):
        parse_record("a", told)


def test_images_keep_their_order_and_stand_once():
    """image, images, image_url, image_link, additional_image_link, whatever their order in the record."""
    record = parse_record(
        "a",
        {
            "additional_image_link": ["https://s.example/5.jpg", "HTTPS://s.example/6.jpg"],
            "image_link": "http://s.example/4.jpg",
            "image_url": "file:3.jpg",
            "images": ["a/2.jpg", " a/1.jpg ", None, "", "a/2.jpg"],
            "image": "a/1.jpg",
        },
    )

    assert (
        "a/1.jpg",
        "a/2.jpg",
        "file:3.jpg",
        "http://s.example/4.jpg",
        "https://s.example/5.jpg",
        "HTTPS://s.example/6.jpg",
    ) == record.images


def test_a_record_without_images_is_a_record():
    """Its item is known and not recommended."""
    assert () == parse_record("a", {}).images
    assert () == parse_record("a", {"image": None, "images": [], "image_url": " "}).images


def test_a_list_in_a_text_is_a_list_of_links():
    """Debezium writes `jsonb` as text; a name that only begins like a list is a name."""
    assert ("a.jpg", "b.jpg") == parse_record("a", {"images": '["a.jpg", "b.jpg"]'}).images
    assert ("[1].jpg", "{x}.jpg") == parse_record("a", {"image": "[1].jpg", "images": ["{x}.jpg"]}).images


def test_ten_images_and_no_more():
    """Duplicates do not count; the limit is for all attributes together."""
    ten = [f"{n}.jpg" for n in range(10)]

    assert tuple(ten) == parse_record("a", {"images": ten * 3, "image_link": "3.jpg"}).images
    with pytest.raises(BadEvent, match="image_link: expected at most 10 image links"):
        parse_record("a", {"images": ten, "image_link": "other.jpg"})
    with pytest.raises(BadEvent, match="at most 10"):
        parse_record("a", {"images": [f"{n}.jpg" for n in range(8_000)]})


def test_data_links_have_a_limit_of_their_own():
    """A record of 100 kB may carry pictures of 1 MB; not larger ones, and no other attribute may be large."""
    link = "data:image/png;base64," + "A" * 1_333_336

    record = parse_record("a", {"image": link, "title": "t" * 90_000})
    assert (link,) == record.images
    with pytest.raises(BadEvent, match="image: expected a data: link of at most 1,400,000 bytes, got 1,400,004"):
        parse_record("a", {"image": "data:" + "A" * 1_399_999})
    with pytest.raises(BadEvent, match="record: expected at most 100,000 bytes beside data: links, got 100,0"):
        parse_record("a", {"image": link, "title": "t" * 100_000})
    with pytest.raises(BadEvent, match="record: expected at most 100,000 bytes"):
        parse_record("a", {"thumbnail": link})
    assert parse_record("a", {"image": "data:image/png;base64,\niVBO\r\nRw=="}).images


def test_limits_are_settings():
    """A smaller limit holds, and the message says it."""
    limits = RecordLimits(record_bytes_max=60, images_max=1, attributes_max=3, item_id_bytes_max=4)

    parse_record("abcd", {"a": 1, "b": 2}, limits=limits)
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("abcde", {}, "item id: expected 1 to 4 bytes, got 5"),
        ("", {}, "item id: expected 1 to 4 bytes, got 0"),
        ("größe", {}, "got 7"),
        ("a", {"t": "x" * 60}, "at most 60 bytes"),
        ("a", {"image": "a", "images": ["b"]}, "at most 1 image links"),
        ("a", {"a": 1, "b": 2, "c": 3}, "at most 3 attributes, got 4"),
    ]
    for item_id, told, message in cases:
        with pytest.raises(BadEvent, match=message):
            parse_record(item_id, told, limits=limits)


@pytest.mark.parametrize("told", ["b", "A", "", " a", 1, True, ["a"], {"id": "a"}])
def test_an_object_id_that_is_not_the_key_is_refused(told):
    """Two ids in one event: neither is believed."""
    with pytest.raises(BadEvent, match="objectID: expected the key 'a', got"):
        parse_record("a", {"objectID": told})


def test_the_record_has_its_object_id():
    """It is added where it is missing, and a number becomes the key's text; the caller's dict is left alone."""
    told = {"title": "x"}

    assert {"title": "x", "objectID": "a"} == parse_record("a", told).attributes
    assert {"title": "x"} == told
    assert {"objectID": "42"} == parse_record("42", {"objectID": 42}).attributes
    assert {"objectID": "a"} == parse_record("a", {"objectID": None}).attributes
    with pytest.raises(BadEvent, match="objectID: expected the key '1', got true"):
        parse_record("1", {"objectID": True})


@given(objects, objects)
def test_equal_records_and_no_others_give_equal_bytes(one, other):
    """Against Python's own JSON with sorted names; the order of fields does not count."""
    shuffled = dict(reversed(one.items()))
    assert canonical(one) == canonical(shuffled)
    assert one == orjson.loads(canonical(one))

    def oracle(value):
        return json.dumps(value, sort_keys=True)

    assert (oracle(one) == oracle(other)) == (canonical(one) == canonical(other))


@given(objects)
def test_canonical_is_stable(record):
    """Reading and writing again changes nothing, so the same record twice is the same bytes."""
    assert canonical(record) == canonical(orjson.loads(canonical(record)))


@pytest.mark.parametrize("value", [nested(300), 2**64, -(2**63) - 1, "\ud800", {"\udfff": 1}, {1: 2}])
def test_what_json_cannot_say_is_a_bad_event(value):
    """A nesting bomb, an integer beyond 64 bits, half a character."""
    with pytest.raises(BadEvent, match="record: expected what JSON can say"):
        parse_record("a", {"x": value})


def test_too_many_attributes_are_refused():
    """1,000 dotted paths, however they are nested."""
    with pytest.raises(BadEvent, match="record: expected at most 1,000 attributes, got 1,001"):
        parse_record("a", {"n": {str(n): n for n in range(1_000)}})
    assert parse_record("a", {"n": {str(n): n for n in range(999)}, "list": None})
    assert parse_record("a", {"list": list(range(10_000))})


known_names = st.sampled_from(
    ["objectID", "image", "images", "price", "sale_price", "stock", "on_sale", "sale_from", "group"]
)


@given(st.text(min_size=1, max_size=8), st.dictionaries(names | known_names, json_values, max_size=6))
def test_any_json_object_is_a_record_or_a_bad_event(item_id, attributes):
    """Nothing else is ever raised, and a record that was taken is taken again, the same."""
    try:
        record = parse_record(item_id, attributes)
    except BadEvent:
        return
    again = parse_record(item_id, orjson.loads(record.canonical))
    assert (record.canonical, record.facts, record.images, record.stock) == (
        again.canonical,
        again.facts,
        again.images,
        again.stock,
    )
