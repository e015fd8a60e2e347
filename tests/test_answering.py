"""Answering: requests against shards, compared with a plain evaluation over the whole catalog."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes.answering import answer_requests
from indexes.conditions import Conditions, Equal
from indexes.seeds import resolve_seeds, seeds_of_item, seeds_of_items
from indexes.shard import RECORDS
from models.errors import BadEvent, BadRequest, Unavailable
from models.filters import matches, parse_filter
from models.request import ItemSeed, Request, RequestLimits, parse_requests
from models.rules import RuleBook
from models.truth_messages import Facts, ImageEmbedding
from tests.look_catalog import NOW_MS, Catalog, D, Images, drawn, fan_of, turned, without_default


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Empty shards without the built-in rule."""
    return without_default(tmp_path)


@pytest.fixture
def fan(tmp_path: Path) -> Catalog:
    """Items s, a, b, c, d, e at 0, 10, 20, 30, 40, 50 degrees."""
    return fan_of(tmp_path)


def test_the_nearest_come_first_and_never_the_source(fan: Catalog) -> None:
    """Scores are a hundred times the cosine; every hit says which image matched and why it is there."""
    answer = fan.one(objectID="s")

    assert [hit["objectID"] for hit in answer["hits"]] == list("abcde")
    first = answer["hits"][0]
    assert first == {
        "objectID": "a",
        "category": "hats",
        "rank": 1,
        "_score": pytest.approx(100 * np.cos(np.radians(10)), abs=0.05),
        "_rankScore": first["_score"],
        "_matchedImage": "a-0.jpg",
        "_source": "model",
    }


def test_a_result_says_how_fresh_and_how_whole_it_is(fan: Catalog) -> None:
    """Watermark by source with the lag, coverage, index, the rules that applied, and what widgets need."""
    fan.put("f", [turned(60)], quantity=3)
    fan.rule("one", consequence={"hide": [{"objectID": "x"}]})
    (result,) = fan.ask(
        {"objectID": "s", "queryParameters": {"clickAnalytics": True}},
        index_name="items",
        shards_total=4,
        lag_ms={RECORDS: 7},
        new_query_id=lambda: "0123",
        elapsed_ms=lambda: 12,
    )
    answer = orjson.loads(result.body)
    del answer["hits"]

    assert answer == {
        "nbHits": 5,
        "hitsPerPage": 5,
        "page": 0,
        "nbPages": 1,
        "processingTimeMS": 12,
        "queryID": "0123",
        "index": "items",
        "appliedRules": ["one"],
        "watermark": {
            "catalog": {"at": NOW_MS - 5, "lagMS": 7},
            "stock": {"at": NOW_MS - 3},
            "images": {"at": NOW_MS - 5},
        },
        "coverage": {"answered": 3, "of": 4, "share": 0.75},
    }


def test_no_query_id_is_given_unless_it_is_asked_for(fan: Catalog) -> None:
    """And none where the caller has none to give."""
    (plain,) = fan.ask({"objectID": "s"}, new_query_id=lambda: "0123")
    (without,) = fan.ask({"objectID": "s", "queryParameters": {"clickAnalytics": True}})

    assert b"queryID" not in plain.body
    assert b"queryID" not in without.body


def test_an_empty_index_knows_nothing() -> None:
    """Also without any shard."""
    entries = parse_requests(b'{"objectID":"a"}', RequestLimits(), "items").entries

    (result,) = answer_requests(entries, {}, [], RuleBook(), NOW_MS, mean=None)

    assert (result.status, result.message) == (404, "item 'a' is not known")


def test_an_unknown_item_is_named(fan: Catalog) -> None:
    """404, beside an empty list of hits."""
    assert fan.failure(objectID="nobody") == (404, "item 'nobody' is not known")


def test_why_a_known_item_has_no_vector(fan: Catalog) -> None:
    """No image, images that cannot be used, images that are waited for: each in words."""
    fan.put("no image")
    fan.put("broken", errors=[ImageEmbedding("x.jpg", error="not an image")])
    fan.put("later", errors=[ImageEmbedding("x.jpg", error="no answer", retry_at=NOW_MS)])
    fan.put("new", waiting=["x.jpg"])

    assert fan.failure(objectID="no image") == (422, "item 'no image' has no image")
    assert fan.failure(objectID="broken") == (422, "item 'broken' has no image that can be used: not an image")
    status, message = fan.failure(objectID="later")
    assert status == 404
    assert message == "item 'later' is known, but its images are not embedded yet (last attempt: no answer)"
    assert fan.failure(objectID="new") == (404, "item 'new' is known, but its images are not embedded yet")


def test_a_bad_entry_fails_alone(fan: Catalog) -> None:
    """In its place, the others untouched."""
    bodies: list[dict[str, Any]] = [{"objectID": "s"}, {"objectID": "nobody"}, {"objectID": 5}, {"objectID": "e"}]

    results = fan.ask(*bodies)

    assert [result.status for result in results] == [200, 404, 400, 200]
    assert [result.body for result in results[::3]] == [fan.ask(body)[0].body for body in bodies[::3]]


def test_nothing_asked_is_nothing_answered(fan: Catalog) -> None:
    """An empty batch."""
    assert fan.ask() == []


def test_several_seeds_are_averaged_by_weight(fan: Catalog) -> None:
    """None of them is a hit; what is unlike is moved away from, and not shown either."""
    assert sorted(fan.hits(objectIDs=["s", "d"], maxRecommendations=3)) == ["a", "b", "c"]
    assert fan.hits(objectIDs=[{"objectID": "s", "weight": 9}, "e"], maxRecommendations=2) == "ab"
    assert fan.hits(objectIDs=[{"objectID": "e", "weight": 9}, "s"], maxRecommendations=2) == "dc"
    assert fan.hits(objectID="c", unlike=["b"], maxRecommendations=2) == "de"
    assert fan.hits(objectID="c", unlike=["d"], maxRecommendations=2) == "ba"


def test_seeds_that_cannot_be_used_are_left_out_and_told(fan: Catalog) -> None:
    """As long as one is left to be looked like."""
    answer = fan.one(objectIDs=["nobody", "s"], unlike=["gone"])

    assert [hit["objectID"] for hit in answer["hits"]] == list("abcde")
    assert answer["unusedSources"] == [
        {"source": "nobody", "message": "item 'nobody' is not known"},
        {"source": "gone", "message": "item 'gone' is not known"},
    ]
    assert fan.failure(objectIDs=["nobody"], unlike=["s"]) == (404, "item 'nobody' is not known")


def test_an_image_is_a_seed(fan: Catalog) -> None:
    """By its vector; one that could not be had fails as its error says, unless another seed is left."""
    vector = np.array(turned(0), np.float32)
    images: Images = {
        "good": vector,
        "broken": BadEvent("not an image"),
        "away": Unavailable("no answer"),
        "refused": BadRequest("a private address", 422),
        "x" * 300: BadEvent("too long"),
    }

    assert fan.hits(images, image="good") == "sabcd"
    assert fan.hits(images, image="good", objectID="a") == "sbcde"
    assert fan.failure(images, image="broken") == (422, "image: not an image")
    assert fan.failure(images, image="away") == (503, "image: no answer")
    assert fan.failure(images, image="refused") == (422, "image: a private address")
    unused = fan.one(images, image="x" * 300, objectID="s")["unusedSources"]
    assert unused == [{"source": "x" * 200 + "...", "message": "image: too long"}]


def test_a_part_of_an_image_is_another_seed(fan: Catalog) -> None:
    """Whole and parts of one link have vectors of their own."""
    crop = (0.0, 0.0, 0.5, 1.0)
    images: Images = {"x": np.array(turned(0), np.float32), ("x", crop): np.array(turned(50), np.float32)}

    assert fan.hits(images, image="x") == "sabcd"
    assert fan.hits(images, image={"url": "x", "crop": crop}) == "edcba"
    assert fan.hits(images, image="x", unlike={"image": {"url": "x", "crop": crop}}, maxRecommendations=2) == "sa"


def test_an_item_of_several_images_is_their_mean_and_is_found_by_its_best(catalog: Catalog) -> None:
    """The query is one vector, the hit's similarity that of the image that it names."""
    catalog.put("s", [turned(0), turned(40)])
    catalog.put("a", [turned(90), turned(21)])
    catalog.put("b", [turned(30), turned(120)])

    answer = catalog.one(objectID="s")

    assert [(hit["objectID"], hit["_matchedImage"]) for hit in answer["hits"]] == [("a", "a-1.jpg"), ("b", "b-0.jpg")]


def test_everything_is_centred_by_the_mean(fan: Catalog) -> None:
    """Query and catalog alike: what is on the other side of the mean scores 0."""
    mean = np.array(turned(25), np.float32) * np.float32(0.9)
    fan.use_mean(mean)

    answer = fan.one(objectID="s")

    query = fan.centred("s")[0]
    for hit in answer["hits"]:
        cosine = float(fan.centred(hit["objectID"])[0] @ query)
        assert hit["_score"] == pytest.approx(100 * max(0.0, cosine), abs=0.02)
    assert answer["hits"][-1]["_score"] == 0.0


def test_a_seed_that_is_taken_away_leaves_no_direction(fan: Catalog) -> None:
    """Everything is as unlike as chance, and that is what the answer says."""
    answer = fan.one(objectID="s", unlike=[{"objectID": "s", "weight": 1}])

    assert {hit["_score"] for hit in answer["hits"]} == {0.0}


# Filters, stock, sameAs


def test_filters_of_every_kind_hold_together(fan: Catalog) -> None:
    """Text, facets, numbers, and by objectID too."""
    assert fan.hits(objectID="s", queryParameters={"filters": "category:hats"}) == "ace"
    assert fan.hits(objectID="s", queryParameters={"facetFilters": ["category:-hats"], "filters": "rank > 2"}) == "d"
    assert fan.hits(objectID="s", queryParameters={"numericFilters": [["rank = 1", "rank >= 4"]]}) == "ade"
    assert fan.hits(objectID="s", queryParameters={"filters": "objectID:c OR objectID:s"}) == "c"
    assert fan.hits(objectID="s", queryParameters={"filters": "nothing:x"}) == ""


def test_what_is_out_of_stock_is_shown_only_on_request(catalog: Catalog) -> None:
    """An item whose level was never told counts as in stock."""
    catalog.put("s", [turned(0)], quantity=0)
    catalog.put("a", [turned(10)], quantity=0)
    catalog.put("b", [turned(20)], quantity=1)
    catalog.put("c", [turned(30)])

    assert catalog.hits(objectID="s") == "bc"
    assert catalog.hits(objectID="s", outOfStock=True) == "abc"
    assert catalog.hits(objectID="s", outOfStock=True, queryParameters={"filters": "stock < 5"}) == "ab"


def test_same_as_keeps_what_shares_a_value_with_a_source(catalog: Catalog) -> None:
    """Of lists one element; of several sources any; what the source lacks nothing shares; derived ones too."""
    catalog.put("s", [turned(0)], tags=["x", "y"], one=1)
    catalog.put("a", [turned(10)], tags=["y", "z"], one=True)
    catalog.put("b", [turned(20)], tags="X", quantity=2)
    catalog.put("c", [turned(30)], tags="q", one="1")

    assert catalog.hits(objectID="s", sameAs=["tags"]) == "ab"
    assert catalog.hits(objectID="s", sameAs=["one"]) == "c"
    assert catalog.hits(objectID="a", sameAs=["one"]) == ""
    assert catalog.hits(objectIDs=["s", "c"], sameAs=["tags"]) == "ab"
    assert catalog.hits(objectID="s", sameAs=["tags", "one"]) == ""
    assert catalog.hits(objectID="s", sameAs=["nothing"]) == ""
    assert catalog.hits(objectID="s", sameAs=["low_stock"]) == "ac"


def test_same_as_needs_a_source_item(fan: Catalog) -> None:
    """An image has no attributes."""
    status, message = fan.failure({"x": np.array(turned(0), np.float32)}, image="x", sameAs=["category"])

    assert status == 400
    assert message.startswith("sameAs: expected a source item")


def test_values_of_different_kinds_are_different_keys(fan: Catalog) -> None:
    """1, 1.0 and true are one key to Python; a batch must not answer one request with another's mask."""
    conditions = Conditions(fan.shards)

    one = conditions.allowed((), None, (Equal("rank", (1,)),), out_of_stock=True)
    true = conditions.allowed((), None, (Equal("rank", (True,)),), out_of_stock=True)

    assert sum(int(mask.sum()) for mask in one if mask is not None) == 1
    assert sum(int(mask.sum()) for mask in true if mask is not None) == 0


# Threshold


def test_the_threshold_is_about_the_visual_score(fan: Catalog) -> None:
    """At it is in."""
    scores = [hit["_score"] for hit in fan.one(objectID="s")["hits"]]

    assert fan.hits(objectID="s", threshold=scores[2]) == "abc"
    assert fan.hits(objectID="s", threshold=scores[2] + 0.01) == "ab"
    assert fan.hits(objectID="s", threshold=100) == ""


def test_a_threshold_is_not_emptied_by_boosts(catalog: Catalog) -> None:
    """However many boosted items below it come before those above it by rank, these are found."""
    catalog.put("s", [turned(0)])
    for number in range(60):
        catalog.put(f"low{number}", [turned(60 + number / 10)], cheap=True)
    catalog.put("a", [turned(10)])
    catalog.put("b", [turned(12)])
    catalog.rule("r", consequence={"params": {"boosts": [{"filters": "cheap:true", "factor": 50}]}})

    assert catalog.hits(objectID="s", threshold=80, maxRecommendations=2) == "ab"
    assert catalog.hits(objectID="s", threshold=80, maxRecommendations=3) == "ab"
    assert catalog.one(objectID="s", maxRecommendations=2)["hits"][0]["objectID"] == "low0"


def test_boosts_below_the_threshold_hide_nothing_above_it(catalog: Catalog) -> None:
    """Also where more is above it than can be hits, each with a factor of its own."""
    catalog.put("s", [turned(0)])
    for number in range(60):
        catalog.put(f"low{number}", [turned(60 + number / 10)], cheap=True)
    for number in range(20):
        catalog.put(f"m{number:02d}", [turned(1 + number)], even=number % 2 == 0)
    boosts = [{"filters": "cheap:true", "factor": 50}, {"filters": "even:true", "factor": 1.5}]
    catalog.rule("r", consequence={"params": {"boosts": boosts}})

    hits = catalog.one(objectID="s", threshold=80, maxRecommendations=12)["hits"]

    assert [hit["objectID"] for hit in hits] == [f"m{number:02d}" for number in (*range(0, 20, 2), 1, 3)]
    few = catalog.one(objectID="s", threshold=99.9, maxRecommendations=12)["hits"]
    assert [hit["objectID"] for hit in few] == ["m00", "m01"]


def test_a_threshold_looks_no_further_than_it_must(catalog: Catalog) -> None:
    """Burials count: an item above the threshold may be moved far down."""
    catalog.put("s", [turned(0)])
    for number in range(60):
        catalog.put(f"low{number}", [turned(60 + number / 10)])
    catalog.put("a", [turned(10)], old=True)
    catalog.rule("r", consequence={"params": {"boosts": [{"filters": "old:true", "factor": 0.01}]}})

    assert catalog.hits(objectID="s", threshold=80, maxRecommendations=2) == "a"


# Rules


def test_the_built_in_rule_moves_sales_up_and_what_runs_low_down(tmp_path: Path) -> None:
    """x1.15 and x0.7, beside each other; `enableRules: false` leaves both out."""
    catalog = Catalog(tmp_path)
    catalog.put("s", [turned(0)])
    catalog.put("a", [turned(10)], quantity=2)
    catalog.put("b", [turned(20)])
    catalog.put("c", [turned(25)], facts=Facts(sale=True, discount=0.5))

    answer = catalog.one(objectID="s")

    assert [hit["objectID"] for hit in answer["hits"]] == ["c", "b", "a"]
    assert answer["appliedRules"] == ["default"]
    score, rank = answer["hits"][0]["_score"], answer["hits"][0]["_rankScore"]
    assert rank == pytest.approx(1.15 * score, abs=0.02)
    without = catalog.one(objectID="s", queryParameters={"enableRules": False})
    assert [hit["objectID"] for hit in without["hits"]] == ["a", "b", "c"]
    assert without["appliedRules"] == []


def test_each_consequence_alone(fan: Catalog) -> None:
    """Hide, filter, boost, optional filter, same as viewed, and its opposite."""
    steps: list[tuple[dict[str, Any], str]] = [
        ({"hide": [{"objectID": "a"}, {"objectID": "nobody"}]}, "bcde"),
        ({"params": {"filters": "rank > 2"}}, "cde"),
        ({"params": {"boosts": [{"filters": "rank = 5", "factor": 2}]}}, "eabcd"),
        ({"params": {"boosts": [{"filters": "rank = 1", "factor": 0.5}]}}, "bcdea"),
        ({"params": {"optionalFilters": ["rank = 2<score=5>", "objectID:-a<score=9>"]}}, "bcdea"),
        ({"params": {"automaticFacetFilters": [{"facet": "category"}]}}, "bd"),
        ({"params": {"automaticFacetFilters": [{"facet": "category", "negative": True}]}}, "ace"),
        ({"params": {"automaticFacetFilters": [{"facet": "nothing"}]}}, "abcde"),
    ]
    for consequence, hits in steps:
        fan.rule("r", consequence=consequence)
        assert fan.hits(objectID="s") == hits, consequence


def test_a_hidden_item_is_hidden_also_when_everything_else_is_shown(fan: Catalog) -> None:
    """Without any other mask, too."""
    fan.rule("r", consequence={"hide": [{"objectID": "a"}]})

    assert fan.hits(objectID="s", outOfStock=True) == "bcde"


def test_conditions_ask_the_source_item_as_it_is_now(fan: Catalog) -> None:
    """Attributes, numbers and flags; without a source item they are not met."""
    fan.rule(
        "r", condition={"filters": "category:shoes AND low_stock:false"}, consequence={"hide": [{"objectID": "a"}]}
    )
    image: Images = {"x": np.array(turned(0), np.float32)}

    assert fan.hits(objectID="s", maxRecommendations=1) == "b"
    assert fan.hits(objectID="c", maxRecommendations=5) == "bdaes"
    assert fan.hits(image, image="x", maxRecommendations=2) == "sa"


def test_contexts_and_windows_are_looked_at(fan: Catalog) -> None:
    """A rule with a context comes first in `appliedRules`."""
    now = NOW_MS // 1000
    fan.rule("a", consequence={"hide": [{"objectID": "a"}]})
    fan.rule("b", consequence={"hide": [{"objectID": "b"}]}, condition={"context": "mobile"})
    fan.rule("c", consequence={"hide": [{"objectID": "c"}]}, validity=[{"from": now - 9, "until": now}])
    fan.rule("d", consequence={"hide": [{"objectID": "d"}]}, validity=[{"from": now}])

    answer = fan.one(objectID="s", queryParameters={"ruleContexts": ["mobile"]})

    assert [hit["objectID"] for hit in answer["hits"]] == ["c", "e"]
    assert answer["appliedRules"] == ["b", "d", "a"]
    assert fan.hits(objectID="s") == "bce"


def test_optional_filters_of_the_request_reorder_and_never_exclude(fan: Catalog) -> None:
    """Beside the rules' factors."""
    fan.rule("r", consequence={"params": {"boosts": [{"filters": "rank = 5", "factor": 1.2}]}})
    parameters = {"optionalFilters": ["rank = 5<score=9>", "category:-hats<score=1>"]}

    answer = fan.one(objectID="s", queryParameters=parameters)

    assert [hit["objectID"] for hit in answer["hits"]] == list("ebacd")
    assert answer["hits"][0]["_rankScore"] == pytest.approx(answer["hits"][0]["_score"] * 1.2 * 1.9 / 1.1, abs=0.02)


def test_pins_stand_where_the_rule_says(fan: Catalog) -> None:
    """Counted from 0, said to be pins, with the score that they would have had, and not a second time."""
    promote = [{"objectID": "e", "position": 0}, {"objectID": "d", "position": 3}]
    fan.rule("r", consequence={"promote": promote})

    answer = fan.one(objectID="s")

    assert [(hit["objectID"], hit["_source"]) for hit in answer["hits"]] == [
        ("e", "pin"),
        ("a", "model"),
        ("b", "model"),
        ("d", "pin"),
        ("c", "model"),
    ]
    assert answer["hits"][0]["_score"] == pytest.approx(100 * np.cos(np.radians(50)), abs=0.05)
    assert answer["hits"][0]["_matchedImage"] == "e-0.jpg"


def test_pins_pass_the_hard_filters_but_not_the_threshold(fan: Catalog) -> None:
    """Filtered, hidden, sold out, unknown or without a picture: not pinned.  A source item never."""
    fan.put("o", [turned(5)], quantity=0)
    fan.put("p")
    fan.rule(
        "r", consequence={"promote": [{"objectID": name, "position": 0} for name in ("s", "o", "p", "x", "e", "c")]}
    )

    assert fan.hits(objectID="s", maxRecommendations=3) == "eca"
    assert fan.hits(objectID="s", queryParameters={"filters": "rank < 5"}) == "cabd"
    assert fan.hits(objectID="s", threshold=95) == "eca"
    assert fan.hits(objectID="s", maxRecommendations=1, threshold=95) == "e"
    fan.rule("h", consequence={"hide": [{"objectID": "e"}]})
    assert fan.hits(objectID="s", maxRecommendations=3) == "cab"


def test_a_pin_past_the_last_hit_wanted_is_not_shown(fan: Catalog) -> None:
    """Past the end of fewer hits it stands at the end."""
    fan.rule("r", consequence={"promote": [{"objectID": "a", "position": 4}]})

    assert fan.hits(objectID="s", maxRecommendations=3) == "abc"
    assert fan.hits(objectID="s", queryParameters={"filters": "rank < 3"}) == "ba"


# What hits show


def test_attributes_are_retrieved_as_asked(fan: Catalog) -> None:
    """Derived ones by name, as they are now; a hit's own fields always."""
    fan.put("f", [turned(1)], facts=Facts(sale=True, discount=0.25), quantity=2, stock=99, name="Shoe", _score=100)
    names = ["name", "on_sale", "discount", "stock", "low_stock", "in_stock", "out_of_stock"]

    first = fan.one(objectID="s", queryParameters={"attributesToRetrieve": names})["hits"][0]

    own = {name: first.pop(name) for name in ("_score", "_rankScore", "_matchedImage", "_source")}
    assert own["_score"] == pytest.approx(99.98, abs=0.02)
    assert first == {
        "objectID": "f",
        "name": "Shoe",
        "on_sale": True,
        "discount": 0.25,
        "stock": 2,
        "low_stock": True,
        "in_stock": True,
        "out_of_stock": False,
    }
    whole = fan.one(objectID="s")["hits"][0]
    assert whole["stock"] == 99
    assert whole["_score"] == own["_score"]
    unknown = fan.one(objectID="s", queryParameters={"attributesToRetrieve": ["stock"]})["hits"][1]
    assert "stock" not in unknown
    fan.put("f", [turned(1)], quantity=2.5)
    assert fan.one(objectID="s", queryParameters={"attributesToRetrieve": ["stock"]})["hits"][0]["stock"] == 2.5


def test_highlights_are_added_for_widgets(fan: Catalog) -> None:
    """When a tag is given."""
    first = fan.one(objectID="s", queryParameters={"highlightPreTag": "<b>"})["hits"][0]

    assert first["_highlightResult"]["category"]["value"] == "hats"


# Families


@pytest.fixture
def families(catalog: Catalog) -> Catalog:
    """Items s of family f; a, b of f; c, d, e of g; k of h; m, n of none, each further away than the one before."""
    groups = {"s": "f", "a": "f", "b": "f", "c": "g", "d": "g", "e": "g", "k": "h"}
    for number, item_id in enumerate("sabcdekmn"):
        catalog.put(item_id, [turned(5 * number)], facts=Facts(group=groups.get(item_id)))
    return catalog


def test_distinct_leaves_one_hit_of_a_family_and_none_of_the_sources(families: Catalog) -> None:
    """The best of each; items without a family are one each; with a number as many."""
    assert families.hits(objectID="s", maxRecommendations=9) == "abcdekmn"
    assert families.hits(objectID="s", queryParameters={"distinct": True}) == "ckmn"
    assert families.hits(objectID="s", maxRecommendations=2, queryParameters={"distinct": 1}) == "ck"
    assert families.hits(objectID="s", queryParameters={"distinct": 2}) == "cdkmn"
    assert families.hits(objectID="n", maxRecommendations=9, queryParameters={"distinct": True}) == "mkeb"
    assert families.hits(objectIDs=["s", "k"], queryParameters={"distinct": True}, maxRecommendations=9) == "cmn"


def test_a_large_family_hides_no_other(catalog: Catalog) -> None:
    """However many of its members come first, across shards; beside a threshold too."""
    catalog.put("s", [turned(0)])
    for number in range(300):
        catalog.put(f"m{number}", [turned(1 + number / 100)], facts=Facts(group="large"), rank=number)
    catalog.put("a", [turned(30)])
    catalog.put("b", [turned(60)])
    distinct = {"distinct": True}

    assert catalog.hits(objectID="s", maxRecommendations=5, queryParameters=distinct) == "m0ab"
    assert catalog.hits(objectID="s", maxRecommendations=2, queryParameters=distinct) == "m0a"
    assert catalog.hits(objectID="s", maxRecommendations=5, threshold=80, queryParameters=distinct) == "m0a"
    filtered = distinct | {"filters": "rank > 5 OR objectID:b"}
    assert catalog.hits(objectID="s", maxRecommendations=5, queryParameters=filtered) == "m6b"


def test_more_is_looked_for_a_lot_at_a_time(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of a lot, and what was seen does not come back."""
    monkeypatch.setattr("indexes.shortlist.FETCH_MAX", 8)
    catalog.put("s", [turned(0)])
    for number in range(60):
        catalog.put(f"m{number:02d}", [turned(1 + number)], facts=Facts(group=f"g{number // 20}"))
    catalog.rule("r", consequence={"params": {"boosts": [{"filters": "NOT objectID:m41", "factor": 2}]}})

    found = [catalog.one(objectID="s", queryParameters={"distinct": limit})["hits"] for limit in (1, 2)]

    assert [hit["objectID"] for hit in found[0]] == ["m00", "m20", "m40"]
    assert [hit["objectID"] for hit in found[1]] == ["m00", "m01", "m20", "m21", "m40"]


# Diversity


def test_diversity_spreads_the_hits(catalog: Catalog) -> None:
    """The best is first whatever it is; 0 is the plain order, and the more the further apart."""
    catalog.put("s", [turned(0)])
    for item_id, degrees in {"a": 5, "b": 6, "c": 7, "d": 40, "e": -45}.items():
        catalog.put(item_id, [turned(degrees)])

    assert catalog.hits(objectID="s", maxRecommendations=3, diversity=0) == "abc"
    assert catalog.hits(objectID="s", maxRecommendations=3, diversity=0.4) == "abc"
    assert catalog.hits(objectID="s", maxRecommendations=3, diversity=0.6) == "aed"
    assert catalog.hits(objectID="s", maxRecommendations=2, diversity=1) == "ae"
    assert catalog.hits(objectID="s", threshold=100, diversity=1) == ""


def test_diversity_holds_beside_rules_families_and_pins(families: Catalog) -> None:
    """It chooses among what they leave, and pins stand where they are wanted."""
    families.rule("r", consequence={"promote": [{"objectID": "d", "position": 1}], "hide": [{"objectID": "n"}]})

    assert families.hits(objectID="s", diversity=1, queryParameters={"distinct": True}) == "cdmk"


# Fallback


def test_a_fallback_fills_up_and_says_so(fan: Catalog) -> None:
    """When too few remain, in the order of the look, never an item twice or a source, and only to the number wanted."""
    asked: dict[str, Any] = {"objectID": "s", "queryParameters": {"filters": "category:shoes"}, "threshold": 90}

    answer = fan.one(**asked, fallbackParameters={"filters": "category:hats"})

    found = [(hit["objectID"], hit["_source"]) for hit in answer["hits"]]
    assert found == [("b", "model"), ("a", "fallback"), ("c", "fallback"), ("e", "fallback")]
    assert fan.hits(**asked, fallbackParameters={}) == "bacde"
    assert fan.hits(**asked, fallbackParameters={}, maxRecommendations=2) == "ba"
    assert fan.hits(**asked) == "b"
    assert {hit["_source"] for hit in fan.one(objectID="s", fallbackParameters={})["hits"]} == {"model"}


def test_rules_and_stock_hold_for_the_fallback_too(fan: Catalog) -> None:
    """Hidden, sold out and the family's second stay away; its factors are its own and the rules'."""
    fan.put("f", [turned(1)], quantity=0)
    fan.put("g", [turned(2)], facts=Facts(group="x"), rank=9)
    fan.put("h", [turned(3)], facts=Facts(group="x"), rank=9)
    fan.rule("r", consequence={"hide": [{"objectID": "a"}]})
    narrow = {"filters": "objectID:g", "distinct": True}
    fallback = {"filters": "NOT objectID:b", "optionalFilters": "objectID:e<score=90>"}

    answer = fan.one(objectID="s", queryParameters=narrow, fallbackParameters=fallback)

    assert "".join(hit["objectID"] for hit in answer["hits"]) == "gecd"
    first, second = answer["hits"][:2]
    assert first["_rankScore"] == first["_score"]
    assert second["_rankScore"] == pytest.approx(10 * second["_score"], abs=0.1)


def test_pins_stand_among_what_was_filled_up(fan: Catalog) -> None:
    """And are no fallback, nor there twice."""
    fan.rule("r", consequence={"promote": [{"objectID": "b", "position": 2}]})

    answer = fan.one(objectID="s", threshold=97, fallbackParameters={})

    found = [(hit["objectID"], hit["_source"]) for hit in answer["hits"]]
    assert found == [("a", "model"), ("c", "fallback"), ("b", "pin"), ("d", "fallback"), ("e", "fallback")]


def test_an_unknown_item_has_the_fallback_alone(fan: Catalog) -> None:
    """By factor, then id, with no likeness; the answer says what was left out, and pins are placed."""
    fan.put("f", [turned(70)], quantity=0)
    fan.put("n")
    fan.rule("r", consequence={"params": {"boosts": [{"filters": "rank = 3", "factor": 2}]}})
    fan.rule("p", consequence={"promote": [{"objectID": "e", "position": 1}]})

    answer = fan.one(objectID="nobody", fallbackParameters={"filters": "NOT objectID:a"})

    found = [(hit["objectID"], hit["_source"], hit["_score"]) for hit in answer["hits"]]
    assert found == [
        ("c", "fallback", 0),
        ("e", "pin", 0),
        ("b", "fallback", 0),
        ("d", "fallback", 0),
        ("s", "fallback", 0),
    ]
    assert answer["hits"][0]["_matchedImage"] == "c-0.jpg"
    assert answer["unusedSources"] == [{"source": "nobody", "message": "item 'nobody' is not known"}]
    assert fan.hits(objectID="nobody", sameAs=["category"], fallbackParameters={}, maxRecommendations=2) == "ce"
    assert answer_requests(
        parse_requests(b'{"objectID":"a","fallbackParameters":{}}', RequestLimits(), "items").entries,
        {}, [], RuleBook(), NOW_MS, mean=None,
    )[0].status == 404  # fmt: skip


def test_a_known_item_without_a_picture_is_not_its_own_fallback(families: Catalog) -> None:
    """Families hold there too."""
    families.put("x", waiting=["x.jpg"])

    assert families.hits(objectID="x", fallbackParameters={}, queryParameters={"distinct": True}) == "ackmn"


# Walks


def test_a_walk_goes_from_item_to_item(fan: Catalog) -> None:
    """Never back, never to a source, as far as its steps; scores are still about the source."""
    hits = fan.one(objectID="s", walk={"steps": 3, "seed": 1})["hits"]

    assert len(hits) == len({hit["objectID"] for hit in hits} - {"s"}) == 3
    for hit in hits:
        assert hit["_score"] == pytest.approx(100 * np.cos(np.radians(10 * "sabcde".index(hit["objectID"]))), abs=0.05)
    assert len(fan.one(objectID="s", walk={"steps": 99})["hits"]) == 5
    assert len(fan.one(objectID="s", walk={}, maxRecommendations=2)["hits"]) == 2


def test_the_same_seed_takes_the_same_way(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Another one another; and another worker with the same log goes it too."""
    here, there = drawn(tmp_path_factory, 1), drawn(tmp_path_factory, 1)

    def way(catalog: Catalog, seed: int) -> bytes:
        return catalog.ask({"objectID": "i1", "walk": {"steps": 6, "seed": seed}})[0].body

    assert way(here, 3) == way(here, 3) == way(there, 3)
    assert len({way(here, seed) for seed in range(5)}) > 1


def test_a_walk_keeps_to_its_leash(fan: Catalog) -> None:
    """No hit looks less like the source than it says; where nothing within it is left, the walk ends."""
    leash = float(100 * np.cos(np.radians(25)))

    assert sorted(fan.hits(objectID="s", walk={"steps": 5, "leash": leash})) == ["a", "b"]
    assert fan.hits(objectID="s", walk={"leash": 100}) == ""
    assert sorted(fan.hits(objectID="s", threshold=leash, walk={"steps": 5})) == ["a", "b"]


def test_a_walk_looks_past_what_it_may_not_visit(catalog: Catalog) -> None:
    """Families that it has been to, and items beyond the leash that are near where it stands."""
    catalog.put("s", [turned(0)])
    for number in range(30):
        catalog.put(f"m{number}", [turned(5 + number / 10)], facts=Facts(group="g"))
    catalog.put("a", [turned(30)])
    catalog.put("b", [turned(40)])

    found = catalog.one(objectID="s", walk={"steps": 9}, queryParameters={"distinct": True})["hits"]

    assert sorted(hit["objectID"] for hit in found if not hit["objectID"].startswith("m")) == ["a", "b"]
    assert len(found) == 3


def test_filters_hold_on_every_hop_and_pins_do_not(fan: Catalog) -> None:
    """A walk is a way and no ranking; a fallback fills it up."""
    fan.rule("r", consequence={"promote": [{"objectID": "e", "position": 0}]})

    assert sorted(fan.hits(objectID="s", walk={}, queryParameters={"filters": "category:shoes"})) == ["b", "d"]
    answer = fan.one(objectID="s", walk={"steps": 2}, queryParameters={"filters": "objectID:d"}, fallbackParameters={})
    assert "".join(hit["objectID"] for hit in answer["hits"]) == "dabce"
    assert [hit["_source"] for hit in answer["hits"]] == ["model"] + ["fallback"] * 4


# Sums of optional filters


def test_the_scores_of_an_or_group_are_added_on_request(fan: Catalog) -> None:
    """1 + sum/10; the strongest alone otherwise; burials count against boosts."""
    group = ["rank = 5<score=9>", "category:hats<score=3>", "rank:1 TO 2<score=1>", "objectID:-a<score=8>"]

    def factors(**parameters: Any) -> dict[str, float]:
        hits = fan.one(objectID="s", queryParameters={"optionalFilters": [group], **parameters})["hits"]
        return {hit["objectID"]: round(hit["_rankScore"] / hit["_score"], 2) for hit in hits}

    assert factors() == {"a": 1.3, "b": 1.1, "c": 1.3, "d": 1.0, "e": 1.9}
    assert factors(sumOrFiltersScores=True) == {"a": round(1 / 1.4, 2), "b": 1.1, "c": 1.3, "d": 1.0, "e": 2.2}
    nothing = {"optionalFilters": [["x:1", "x:2"]], "sumOrFiltersScores": True}
    assert fan.hits(objectID="s", queryParameters=nothing) == "abcde"


# The same bytes


EVERYTHING: list[dict[str, Any]] = [
    {"objectID": "i1", "explain": True, "queryParameters": {"filters": "category:a OR price > 3"}},
    {"objectIDs": ["i1", "i7"], "unlike": "i4", "maxRecommendations": 40, "queryParameters": {"distinct": 1}},
    {"objectID": "i2", "diversity": 0.4, "explain": True},
    {"objectID": "i3", "walk": {"steps": 9, "seed": 5}, "explain": True},
    {"objectID": "i6", "threshold": 60, "fallbackParameters": {"filters": "category:b"}, "explain": True},
    {"objectID": "nobody", "fallbackParameters": {"optionalFilters": "category:c"}, "explain": True},
    {"objectID": "i8", "queryParameters": {"attributesToRetrieve": ["*", "stock"], "highlightPreTag": "<b>"}},
]


@pytest.mark.parametrize("seed", range(3))
def test_another_worker_answers_with_the_same_bytes(tmp_path: Path, seed: int) -> None:
    """In whatever order it came to know the items, alone or in a batch: the state of the truths alone counts."""
    numbers = random.Random(seed)
    vectors = np.random.default_rng(seed).standard_normal((60, D)).tolist()
    vectors[20:30] = vectors[10:20]  # equal looks, so that the order of equals counts
    items = list(range(60))
    workers = []
    for worker in ("one", "other"):
        catalog = Catalog(tmp_path / worker, shards=2)
        for number in items:
            group = f"g{number % 9}" if number % 2 else None
            catalog.put(
                f"i{number}",
                [vectors[number]],
                facts=Facts(sale=number % 3 == 0, discount=0.1, group=group),
                quantity=[None, 0, 2, 50][number % 4] if number % 20 else 9,
                category="abc"[number % 3],
                price=number % 10,
            )
        catalog.use_mean(np.full(D, 0.05, np.float32))
        catalog.rule("p", consequence={"promote": [{"objectID": "i9", "position": 1}], "hide": [{"objectID": "i5"}]})
        workers.append(catalog)
        numbers.shuffle(items)

    one, other = [[result.body for result in catalog.ask(*EVERYTHING)] for catalog in workers]

    assert one == other
    assert one == [workers[0].ask(body)[0].body for body in reversed(EVERYTHING)][::-1]


PLAIN: list[dict[str, Any]] = [
    {"objectID": "i1"},
    {"objectIDs": ["i2", "i3", "nobody"], "unlike": ["i4"]},
    {"objectID": "i5", "maxRecommendations": 40},
    {"objectID": "i6", "queryParameters": {"filters": "price > 100"}},
    {"objectID": "i7", "queryParameters": {"attributesToRetrieve": ["price"]}},
    {"objectID": "i8", "queryParameters": {"highlightPreTag": "<b>", "clickAnalytics": True}, "outOfStock": True},
    {"objectID": "i9", "queryParameters": {"optionalFilters": "category:b<score=900>"}},
    {"objectID": "i1", "sameAs": ["category"]},
]


@pytest.mark.parametrize("factor", [0.001, 1, 1000])
def test_plain_requests_are_answered_together_as_they_are_alone(
    tmp_path_factory: pytest.TempPathFactory, factor: float
) -> None:
    """Byte for byte: with items of several images, scores below 0, and boosts beyond any table."""
    catalog = drawn(tmp_path_factory, 2)
    catalog.rule("boost", consequence={"params": {"boosts": [{"filters": "category:a", "factor": factor}]}})
    try:
        together = [result.body for result in catalog.ask(*PLAIN)]
        alone = [catalog.ask(body)[0].body for body in PLAIN]
    finally:
        catalog.rules.remove("boost")

    assert together == alone
    assert [b'"hits":[]' in body for body in together].count(True) == 1


def test_seeds_of_single_items_are_what_each_alone_has(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Vectors that are fetched together are those fetched one by one; other requests are left to the other way."""
    catalog = drawn(tmp_path_factory, 2)
    bodies = [*PLAIN, *({"objectID": f"i{number}"} for number in range(40)), {"objectID": "i1", "unlike": "i2"}]
    asked: list[Any] = [
        entry for body in bodies for entry in parse_requests(orjson.dumps(body), RequestLimits(), "items").entries
    ]
    asked += [Request((ItemSeed(f"i{number}", 2.0),)) for number in range(5)]
    together = seeds_of_items(asked, catalog.shards)
    singly = [seeds_of_item(request, catalog.shards) for request in asked]
    assert [found is None for found in together] == [found is None for found in singly]
    for request, found in [*zip(asked, together, strict=True), *zip(asked, singly, strict=True)]:
        alone = resolve_seeds(request, {}, catalog.shards, catalog.mean)
        if found is not None:
            assert len(request.items) == 1
            assert (found.row.tobytes(), found.query.tobytes()) == (alone.row.tobytes(), alone.query.tobytes())
            (mine,), (its,) = found.sources, alone.sources
            assert mine._replace(vectors=its.vectors) == its
            assert mine.vectors.tobytes() == its.vectors.tobytes()
            assert found[3:] == alone[3:]

    assert 10 < sum(found is not None for found in together) < 45


# Everything at once, against brute force


def expected(catalog: Catalog, request: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Ids, cosines and adjusted cosines of the hits, best first, by a plain evaluation of the contract."""
    query = catalog.centred(request["objectID"]).mean(axis=0)
    query = query / np.linalg.norm(query)
    parameters = request.get("queryParameters", {})
    hits = []
    for item_id in catalog.items:
        values = catalog.values(item_id)
        rows = catalog.centred(item_id)
        if item_id == request["objectID"] or not len(rows):
            continue
        if not request.get("outOfStock") and not values["in_stock"][0]:
            continue
        if "filters" in parameters and not matches(parse_filter(parameters["filters"]), values):
            continue
        factor = (1.15 if values["on_sale"][0] else 1.0) * (0.7 if values["low_stock"][0] else 1.0)
        cosine = float((rows @ query).max())
        if 100 * max(0.0, cosine) < request.get("threshold", 0):
            continue
        hits.append((item_id, cosine, cosine * factor if cosine > 0 else cosine / factor))
    return sorted(hits, key=lambda hit: (-hit[2], hit[0]))[: request.get("maxRecommendations", 5)]


filters = st.sampled_from(["category:a", "NOT category:b", "price > 5 AND category:c", "stock < 3 OR on_sale:true"])
requests = st.fixed_dictionaries(
    {"objectID": st.integers(0, 39).map(lambda number: f"i{number}")},
    optional={
        "maxRecommendations": st.sampled_from([1, 3, 10, 200]),
        "threshold": st.sampled_from([0, 20, 60]),
        "outOfStock": st.booleans(),
        "queryParameters": st.fixed_dictionaries({}, optional={"filters": filters}),
    },
)


@given(st.integers(0, 3), st.lists(requests, min_size=1, max_size=12))
@settings(max_examples=60)
def test_random_requests_agree_with_brute_force(
    tmp_path_factory: pytest.TempPathFactory, seed: int, bodies: list[dict[str, Any]]
) -> None:
    """Same items, same order, same scores as a plain evaluation; answered together or alone, byte for byte."""
    catalog = drawn(tmp_path_factory, seed)

    together = catalog.ask(*bodies)

    for body, result in zip(bodies, together, strict=True):
        hits = orjson.loads(result.body)["hits"]
        wanted = expected(catalog, body)
        assert [hit["objectID"] for hit in hits] == [item_id for item_id, _, _ in wanted]
        for hit, (_, cosine, adjusted) in zip(hits, wanted, strict=True):
            assert hit["_score"] == pytest.approx(100 * max(0.0, cosine), abs=0.02)
            assert hit["_rankScore"] == pytest.approx(100 * max(0.0, adjusted), abs=0.02)
        assert catalog.ask(body)[0].body == result.body
