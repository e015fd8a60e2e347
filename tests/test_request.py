"""Requests: bodies become entries, each understood or told why not."""

from __future__ import annotations

import gc
import json
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.algolia_parameters import WITHOUT_EFFECT
from models.errors import BadRequest
from models.filter_arrays import OptionalFilter
from models.filters import format_filter, parse_filter
from models.request import Batch, Fallback, ImageSeed, ItemSeed, Request, RequestLimits, Walk, parse_requests

LIMITS = RequestLimits()


def parsed(body: Any, limits: RequestLimits = LIMITS) -> Batch:
    """The batch of a body, given as bytes or as what is to be written as JSON."""
    return parse_requests(body if isinstance(body, bytes | None) else orjson.dumps(body), limits, "items")


def entry(**fields: Any) -> Request:
    """The one entry of a body of these fields, which must be good."""
    batch = parsed(fields)
    assert batch.single
    (only,) = batch.entries
    assert isinstance(only, Request), only
    return only


def refused(body: Any, limits: RequestLimits = LIMITS) -> BadRequest:
    """The error of a body of one entry."""
    batch = parsed(body, limits)
    assert batch.single
    (only,) = batch.entries
    assert isinstance(only, BadRequest), only
    return only


def test_a_plain_request_has_the_defaults() -> None:
    """30 hits, no threshold, rules on, nothing else."""
    assert entry(objectID="a") == Request(items=(ItemSeed("a"),), count=30)


FIELDS = ["objectID", "maxRecommendations", "indexName", "model", "threshold"]
TEXTS = ['"a"', '""', '"x:y"', '"\\u003a"', '"\\ud800"', '"items"', '"looking-similar"', "0", "1", "20", "20.0", "-1"]
TEXTS += ["1001", "1e2", "1.5", "99999999999999999999", "true", "null", "[]", "{}", '"' + "a" * 200 + '"', "", '"\\']


@given(st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from(TEXTS)), max_size=4))
@settings(max_examples=500)
def test_what_most_bodies_say_is_read_in_a_shorter_way(fields: list[tuple[str, str]]) -> None:
    """With the same outcome, right or wrong, a key twice included: a field without effect makes it go the long way."""
    written = [f'"{name}":{value}' for name, value in fields]
    short, long = (parsed(("{" + ",".join(each) + "}").encode()) for each in (written, ['"userToken":"u"', *written]))

    assert [entry if isinstance(entry, Request) else None for entry in short.entries] == [
        entry if isinstance(entry, Request) else None for entry in long.entries
    ]
    if isinstance(short.entries[0], BadRequest):
        assert str(short.entries[0]) == str(long.entries[0]) or "JSON" in str(short.entries[0])


def test_every_field_lands_where_it_belongs() -> None:
    """All that is served, at once."""
    request = entry(
        objectID="a",
        objectIDs=["b", {"objectID": "c", "weight": 2}],
        image={"url": "https://x/y.jpg"},
        unlike=["d", {"image": "data:image/png;base64,AA", "weight": 0.25}, {"objectID": "e", "weight": 3}],
        maxRecommendations=1000,
        threshold=12.5,
        sameAs=["category", "brand"],
        outOfStock=True,
        model="looking-similar",
        indexName="items",
        queryParameters={
            "filters": "a:1",
            "facetFilters": [["b:2", "b:3"]],
            "numericFilters": "c > 4",
            "tagFilters": ["t"],
            "optionalFilters": ["on_sale:true<score=3>"],
            "sumOrFiltersScores": False,
            "attributesToRetrieve": ["name", "price"],
            "ruleContexts": ["mobile"],
            "enableRules": False,
            "clickAnalytics": True,
            "highlightPreTag": "<b>",
            "distinct": True,
        },
        diversity=0.3,
        explain=True,
        fallbackParameters={},
    )

    assert request.items == (ItemSeed("a"), ItemSeed("b"), ItemSeed("c", 2), ItemSeed("d", -0.5), ItemSeed("e", -3))
    assert request.images == (ImageSeed("https://x/y.jpg"), ImageSeed("data:image/png;base64,AA", -0.25))
    assert (request.count, request.threshold, request.same_as) == (1000, 12.5, ("category", "brand"))
    assert request.filter is not None
    assert format_filter(request.filter) == "a:1 AND (b:2 OR b:3) AND c > 4 AND _tags:t"
    assert request.optional == (OptionalFilter(parse_filter("on_sale:true"), 1.3, "on_sale:true<score=3>"),)
    assert request.attributes == ("name", "price")
    assert request.contexts == {"mobile"}
    assert (request.rules_enabled, request.out_of_stock) == (False, True)
    assert (request.highlight, request.click_analytics) == (True, True)
    assert (request.distinct, request.diversity, request.explain, request.fallback) == (1, 0.3, True, Fallback())


def test_whole_numbers_may_have_a_point() -> None:
    """Some serializers write 5.0 for 5."""
    assert parsed(b'{"objectID":"a","maxRecommendations":5.0}').entries == (entry(objectID="a", maxRecommendations=5),)


def test_null_is_the_same_as_absent() -> None:
    """Many serializers write every field, in parameters too."""
    names = ["objectIDs", "image", "unlike", "maxRecommendations", "threshold", "queryParameters", "sameAs", "walk"]
    assert entry(objectID="a", **dict.fromkeys(names)) == entry(objectID="a")
    assert entry(objectID="a", queryParameters={"filters": None, "ruleContexts": None}) == entry(objectID="a")


def test_blank_filters_are_none() -> None:
    """As Algolia has it."""
    parameters = {"filters": " ", "facetFilters": [], "numericFilters": [[]], "optionalFilters": "", "tagFilters": ""}
    assert entry(objectID="a", queryParameters=parameters) == entry(objectID="a")


def test_what_every_widget_sends_is_accepted() -> None:
    """The entry that InstantSearch was seen to send, with insights."""
    request = entry(
        objectID="a",
        model="looking-similar",
        indexName="items",
        threshold=0,
        maxRecommendations=3,
        queryParameters={
            "highlightPreTag": "__ais-highlight__",
            "highlightPostTag": "__/ais-highlight__",
            "clickAnalytics": True,
            "userToken": "anonymous-1",
        },
    )

    assert request.count == 3
    assert request.highlight
    assert request.click_analytics


def test_algolias_other_parameters_have_no_effect() -> None:
    """At both levels."""
    given = dict.fromkeys(sorted(WITHOUT_EFFECT), "anything")
    assert entry(objectID="a", queryParameters=given, **given) == entry(objectID="a")


def test_the_whole_record_is_asked_for_by_a_star() -> None:
    """`["*"]` is the default; an empty list is not."""
    assert entry(objectID="a", queryParameters={"attributesToRetrieve": ["*"]}).attributes is None
    assert entry(objectID="a", queryParameters={"attributesToRetrieve": "*"}).attributes is None
    assert entry(objectID="a", queryParameters={"attributesToRetrieve": []}).attributes == ()


def test_an_image_alone_is_enough() -> None:
    """Nothing else is needed to look like it."""
    assert entry(image="https://x/y.jpg").images == (ImageSeed("https://x/y.jpg"),)
    assert entry(image="https://x/y.jpg", unlike="a").items == (ItemSeed("a", -0.5),)


def test_a_batch_keeps_its_order_and_a_bad_entry_fails_alone() -> None:
    """One result an entry."""
    batch = parsed({"requests": [{"objectID": "a"}, {"objectId": "b"}, 5, {"objectID": "c"}]})

    assert not batch.single
    good, misspelt, number, last = batch.entries
    assert good == entry(objectID="a")
    assert str(misspelt) == "unknown field 'objectId'; did you mean objectID?"
    assert str(number) == "expected a request as an object, got a number"
    assert last == entry(objectID="c")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (None, "expected a JSON object, got null"),
        (b"", "expected a JSON object, got no bytes"),
        (b"  ", "the text is blank"),
        (b"null", "expected a JSON object, got null"),
        (b"[]", "expected a JSON object, got a list"),
        (b'"a"', "expected a JSON object, got text"),
        (b"{", "expected JSON"),
        (b'\xef\xbb\xbf{"objectID":"a"}', "expected JSON"),
        (b'{"objectID":"\xff"}', "expected JSON in UTF-8: byte 0xff"),
        (b'{"objectID":"\\ud800"}', "expected JSON"),
        (b'{"objectID":"a","threshold":NaN}', "expected JSON"),
        (b'{"objectID":"a","threshold":1e999}', "expected JSON: Number out of range"),
        (b'{"objectID":"a","threshold":' + b"9" * 5_000 + b"}", "expected JSON"),
        (b'{"objectID":"a","threshold":' + b"9" * 300 + b"}", "threshold: expected a number from 0 to 100"),
        (b'{"objectID":"a","objectID":"b"}', "expected each key once, but 'objectID' stands twice"),
        (b'{"objectID":"a","image":"http://x:1","queryParameters":{"a":1, "a" :2}}', "but 'a' stands twice"),
        (b'{"a":' * 100_000, "expected JSON nested at most 32 deep"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "expected JSON nested at most 32 deep"),
        (b'{"objectIDs":' + b"[" * 40 + b"]" * 40 + b"}", "expected JSON nested at most 32 deep"),
        (b"{}", "expected objectID, objectIDs or image"),
        (b'{"unlike":["a"]}', "expected objectID, objectIDs or image"),
        (b'{"requests":{}}', "requests: expected a list, got an object"),
        (b'{"requests":null}', "requests: expected a list, got null"),
        (b'{"requests":[]}', "requests: expected 1 to 50 entries, got 0"),
        (
            b'{"requests":[' + b",".join([b'{"objectID":"a"}'] * 51) + b"]}",
            "requests: expected 1 to 50 entries, got 51",
        ),
        (b'{"requests":[{"objectID":"a"}],"objectID":"a"}', "unknown field 'objectID'"),
    ],
)
def test_a_body_that_makes_no_sense_says_why(body: bytes | None, words: str) -> None:
    """It is a batch of one error, so that it has one reply."""
    error = refused(body)

    assert error.status == 400
    assert words in str(error)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"objectID": 5}, "objectID: expected the id of an item as text, got 5"),
        ({"objectID": ""}, "objectID: expected the id"),
        ({"objectID": "x" * 513}, "objectID: expected at most 512 bytes, got 513"),
        ({"objectID": "ü" * 300}, "objectID: expected at most 512 bytes, got 600"),
        ({"objectIDs": "a"}, "objectIDs: expected a list, got text"),
        ({"objectIDs": []}, "objectIDs: expected at least one item"),
        ({"objectIDs": [5]}, "objectIDs[0]: expected an object, got a number"),
        ({"objectIDs": ["a", {"id": "b"}]}, "objectIDs[1]: unknown field 'id'"),
        ({"objectIDs": [{"weight": 2}]}, "objectIDs[0].objectID: expected the id"),
        ({"objectIDs": [{"objectID": "a", "weight": 0}]}, "objectIDs[0].weight: expected a number from 1e-06"),
        ({"objectIDs": [{"objectID": "a", "weight": True}]}, "objectIDs[0].weight"),
        ({"objectIDs": ["a"] * 101}, "at most 100 items and images"),
        ({"image": 5}, "image: expected a link or a data: URL, got 5"),
        ({"image": " "}, "image: expected a link"),
        ({"image": {"link": "x"}}, "image: unknown field 'link'"),
        ({"image": {"url": None}}, "image.url: expected a link"),
        ({"image": {"url": "https://x", "crop": [0, 0, 1]}}, "image.crop: expected [x, y, width, height] as fractions"),
        ({"image": {"url": "https://x", "crop": "all"}}, "from 0 to 1, got text"),
        ({"image": {"url": "https://x", "crop": [0, 0, 1, 2]}}, "image.crop[3]: expected a number from 0 to 1, got 2"),
        ({"image": {"url": "https://x", "crop": [0, 0, 1, True]}}, "image.crop[3]: expected a number"),
        ({"image": {"url": "https://x", "crop": [0, 0, 0, 1]}}, "width and height at least 0.001"),
        ({"image": {"url": "https://x", "crop": [0.5, 0, 0.6, 1]}}, "the part ends outside of the picture"),
        ({"unlike": {"image": {"url": "x", "crop": [0]}}}, "unlike[0].image.crop: expected [x, y, width, height]"),
        ({"image": "data:," + "x" * 1_400_000}, "image: expected at most 1,400,000 characters"),
        ({"unlike": [{"objectID": "a", "image": "b"}]}, "unlike[0]: expected objectID or image, got both"),
        ({"unlike": 5}, "unlike[0]: expected an object, got a number"),
        ({"maxRecommendations": 0}, "maxRecommendations: expected 1 to 1000, got 0"),
        ({"maxRecommendations": 1001}, "expected 1 to 1000, got 1001"),
        ({"maxRecommendations": 1.5}, "expected 1 to 1000, got 1.5"),
        ({"maxRecommendations": True}, "expected 1 to 1000, got true"),
        ({"maxRecommendations": "5"}, "expected 1 to 1000, got '5'"),
        ({"threshold": -1}, "threshold: expected a number from 0 to 100, got -1"),
        ({"threshold": "5"}, "threshold: expected a number"),
        ({"sameAs": [""]}, "sameAs: expected names of attributes"),
        ({"sameAs": [1]}, "sameAs[0]: expected text, got 1"),
        ({"sameAs": {"a": 1}}, "sameAs: expected a list, got an object"),
        ({"sameAs": ["a"] * 101}, "sameAs: expected at most 100, got 101"),
        ({"outOfStock": 1}, "outOfStock: expected true or false, got 1"),
        ({"model": "related-products"}, "model: expected \"looking-similar\", got 'related-products'"),
        ({"maxRecomendations": 5}, "unknown field 'maxRecomendations'; did you mean maxRecommendations?"),
        ({"zzzzzz": 5}, "unknown field 'zzzzzz'"),
        ({"queryParameters": "a"}, "queryParameters: expected an object, got text"),
        ({"queryParameters": {"filtres": "a:b"}}, "queryParameters: unknown field 'filtres'; did you mean filters?"),
        ({"queryParameters": {"filters": ["a:b"]}}, "queryParameters.filters: expected text"),
        ({"queryParameters": {"filters": "a:b c"}}, "queryParameters.filters at position 5 ('c'): expected AND or OR"),
        ({"queryParameters": {"filters": "a:b AND " * 10_000}}, "queryParameters.filters at position 65537"),
        ({"queryParameters": {"facetFilters": [["a:b", 5]]}}, "queryParameters.facetFilters[0][1]: expected"),
        ({"queryParameters": {"numericFilters": ["a >"]}}, "queryParameters.numericFilters[0] at position 4"),
        ({"queryParameters": {"tagFilters": [5]}}, "queryParameters.tagFilters[0]: expected a tag"),
        (
            {"queryParameters": {"optionalFilters": ["a:b<score=x>"]}},
            "queryParameters.optionalFilters[0]: expected <score",
        ),
        (
            {"queryParameters": {"optionalFilters": ["a:b"], "sumOrFiltersScores": 1}},
            "queryParameters.sumOrFiltersScores: expected true or false",
        ),
        ({"queryParameters": {"attributesToRetrieve": [1]}}, "queryParameters.attributesToRetrieve[0]: expected text"),
        ({"queryParameters": {"ruleContexts": 1}}, "queryParameters.ruleContexts: expected a list"),
        ({"queryParameters": {"enableRules": "yes"}}, "queryParameters.enableRules: expected true or false"),
        ({"queryParameters": {"clickAnalytics": "yes"}}, "queryParameters.clickAnalytics: expected true or false"),
        ({"queryParameters": {"distinct": "yes"}}, "queryParameters.distinct: expected 0 to 1000, got 'yes'"),
        ({"queryParameters": {"distinct": -1}}, "queryParameters.distinct: expected 0 to 1000, got -1"),
        ({"queryParameters": {"threshold": 1}}, "unknown field 'threshold'; it belongs beside queryParameters"),
        ({"filters": "a:b"}, "unknown field 'filters'; it belongs into queryParameters"),
        ({"diversity": 1.5}, "diversity: expected a number from 0 to 1, got 1.5"),
        ({"diversity": True}, "diversity: expected a number"),
        ({"explain": 1}, "explain: expected true or false, got 1"),
        ({"walk": True}, "walk: expected an object, got true or false"),
        ({"walk": {"step": 8}}, "walk: unknown field 'step'; did you mean steps?"),
        ({"walk": {"steps": 0}}, "walk.steps: expected 1 to 100, got 0"),
        ({"walk": {"steps": 101}}, "walk.steps: expected 1 to 100, got 101"),
        ({"walk": {"leash": 101}}, "walk.leash: expected a number from 0 to 100, got 101"),
        ({"walk": {"seed": -1}}, "walk.seed: expected 0 to"),
        ({"walk": {"seed": 0.5}}, "walk.seed: expected 0 to"),
        ({"walk": {}, "diversity": 0.5}, "diversity: expected 0 beside walk"),
        ({"colour": 1.5}, "colour: expected a number from 0 to 1"),
        ({"colour": "red"}, "colour: expected a number from 0 to 1"),
        ({"fallbackParameters": True}, "fallbackParameters: expected an object, got true or false"),
        (
            {"fallbackParameters": {"filter": "a:b"}},
            "fallbackParameters: unknown field 'filter'; did you mean filters?",
        ),
        ({"fallbackParameters": {"filters": "a:"}}, "fallbackParameters.filters at position 3"),
    ],
)
def test_an_error_says_where_and_what_was_expected(fields: dict[str, Any], words: str) -> None:
    """With the nearest known field for one that nobody knows."""
    error = refused({"objectID": "a"} | fields)

    assert error.status == 400
    assert words in str(error)


def test_what_asks_for_nothing_is_accepted() -> None:
    """What is not served, at the value that means none of it; and defaults that are written out."""
    given = entry(objectID="a", explain=False, diversity=0, queryParameters={"distinct": False})
    assert given == entry(objectID="a")


def test_a_crop_is_a_part_of_the_picture() -> None:
    """Of an image and of one that is unlike; rounding may take it a hair over the edge; the whole is no crop."""
    third = [1 / 3, 0, 2 / 3 + 1e-9, 1]
    request = entry(image={"url": "x", "crop": third}, unlike={"image": {"url": "x", "crop": [0, 0, 1, 1]}})

    assert request.images == (ImageSeed("x", 1.0, (1 / 3, 0, 2 / 3 + 1e-9, 1)), ImageSeed("x", -0.5))
    assert [seed.key for seed in request.images] == [("x", tuple(third)), "x"]


def test_a_walk_has_defaults_and_takes_any() -> None:
    """`{}` is one too; whole numbers may have a point."""
    assert entry(objectID="a", walk={}).walk == Walk(8, 0, 0)
    assert entry(objectID="a", walk={"steps": 3.0, "leash": 40, "seed": 7}).walk == Walk(3, 40, 7)


def test_a_fallback_has_filters_of_its_own() -> None:
    """An empty one lets everything fill up; what means nothing to it is accepted, for widgets send it."""
    fallback = entry(objectID="a", fallbackParameters={"filters": "a:1", "optionalFilters": "b:2"}).fallback
    assert fallback is not None
    assert fallback.filter is not None
    assert format_filter(fallback.filter) == "a:1"
    assert [one.text for one in fallback.optional] == ["b:2"]
    assert entry(objectID="a", fallbackParameters={"highlightPreTag": "<b>"}).fallback == Fallback()
    assert entry(objectID="a", fallbackParameters=None).fallback is None


def test_distinct_is_a_number_of_hits_a_family() -> None:
    """True is one, as Algolia has it."""
    asked = [entry(objectID="a", queryParameters={"distinct": value}).distinct for value in (True, 1, 3, False, 0)]

    assert asked == [1, 1, 3, 0, 0]


def test_another_index_is_not_found() -> None:
    """404, and it says which one is here."""
    error = refused({"objectID": "a", "indexName": "products"})

    assert error.status == 404
    assert str(error) == "indexName: the index 'products' is not here, only 'items'"


def test_limits_are_settings() -> None:
    """Bytes, entries, hits and the default of hits."""
    limits = RequestLimits(body_bytes_max=100, entries_max=2, hits_max=5, hits_default=3)

    assert "at most 100 bytes, got 115" in str(refused({"objectID": "a" * 100}, limits))
    assert "1 to 2 entries" in str(refused({"requests": [{"objectID": "a"}] * 3}, limits))
    assert "1 to 5" in str(refused({"objectID": "a", "maxRecommendations": 6}, limits))
    (only,) = parsed({"objectID": "a"}, limits).entries
    assert isinstance(only, Request)
    assert only.count == 3


@pytest.mark.parametrize("body", [b"x" * 9_000_000, b'{"threshold":' + b"x" * 1_000 + b"}", b'{"model":{}}'])
def test_a_mistake_does_not_keep_what_it_was_made_in(body: bytes) -> None:
    """Its traceback would, with the message of megabytes that it came in, until the collector came by."""
    gc.disable()
    try:
        held = sys.getrefcount(body)
        batch = parse_requests(body, LIMITS, "items")

        assert isinstance(batch.entries[0], BadRequest)
        assert held == sys.getrefcount(body)
        assert batch.entries[0].__traceback__ is None
    finally:
        gc.enable()


def test_keys_are_counted_not_colons() -> None:
    """A body may be full of colons, quotes and backslashes in its texts."""
    assert (
        entry(objectID='":":\\":', queryParameters={"filters": 'a:"b\\":c"', "userToken": '"a":'}).items[0].item_id
        == '":":\\":'
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
known = st.sampled_from(
    ["objectID", "objectIDs", "image", "unlike", "maxRecommendations", "queryParameters", "requests"]
)
parameters = st.sampled_from(["filters", "facetFilters", "optionalFilters", "attributesToRetrieve", "ruleContexts"])


@given(
    st.binary(max_size=40)
    | st.dictionaries(known, json_values | st.dictionaries(parameters, json_values), max_size=4).map(
        lambda fields: json.dumps(fields).encode("utf-8", "surrogatepass")
    )
)
@settings(max_examples=120)
def test_whatever_comes_there_is_one_result_an_entry(body: bytes) -> None:
    """Nothing raises; every entry is a request or an error with words."""
    batch = parsed(body)

    assert batch.entries
    for one in batch.entries:
        assert isinstance(one, Request) or str(one)
