"""Reasons: each hit says why it stands where it stands, and the answer what was removed by what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.truth_messages import Facts
from tests.look_catalog import Catalog, Images, drawn, fan_of, turned, without_default


@pytest.fixture
def fan(tmp_path: Path) -> Catalog:
    """Items s, a, b, c, d, e at 0, 10, 20, 30, 40, 50 degrees; s, b, d are shoes, the others hats; rank 0 to 5."""
    return fan_of(tmp_path)


def steps(answer: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """By hit what moved it."""
    return {hit["objectID"]: hit["_explain"]["steps"] for hit in answer["hits"]}


def removed(answer: dict[str, Any]) -> list[tuple[str, str | None, int, str]]:
    """By step who, what, how many, and the examples' ids joined."""
    return [
        (
            f"{one['by']} {one['rule']}" if "rule" in one else one["by"],
            one.get("what"),
            one["count"],
            "".join(example["objectID"] for example in one["examples"]),
        )
        for one in answer["explain"]["removed"]
    ]


def test_a_plain_answer_is_explained_by_the_look_alone(fan: Catalog) -> None:
    """Similarity, the pictures that matched, no steps; nothing of it without being asked."""
    answer = fan.one(objectID="s", explain=True)

    first = answer["hits"][0]["_explain"]
    cosine = pytest.approx(np.cos(np.radians(10)), abs=1e-3)
    assert first == {
        "similarity": cosine,
        "matched": {"image": "a-0.jpg", "source": "s", "sourceImage": "s-0.jpg", "similarity": cosine},
        "steps": [],
    }
    assert answer["explain"] == {"considered": 5, "removed": [], "pins": []}
    assert b"xplain" not in fan.ask({"objectID": "s", "explain": False})[0].body


def test_explaining_changes_nothing_else(fan: Catalog) -> None:
    """The same hits with the same fields."""
    fan.rule("r", consequence={"promote": [{"objectID": "e", "position": 1}], "hide": [{"objectID": "b"}]})
    asked: dict[str, Any] = {"objectID": "s", "diversity": 0.2, "threshold": 70, "fallbackParameters": {}}
    asked["queryParameters"] = {"distinct": 1}

    explained = fan.one(**asked, explain=True)
    del explained["explain"]
    for hit in explained["hits"]:
        del hit["_explain"]

    assert explained == fan.one(**asked)


def test_which_pictures_matched(catalog: Catalog) -> None:
    """Of several sources and several pictures each the one that is most alike; an image has no picture of its own."""
    catalog.put("s", [turned(0), turned(90)])
    catalog.put("t", [turned(180)])
    catalog.put("a", [turned(250), turned(80)])
    catalog.put("b", [turned(170)])
    images: Images = {"link": np.array(turned(-10), np.float32)}

    answer = catalog.one(images, objectIDs=["s", "t"], image="link", unlike="b", explain=True)

    pictures = {hit["objectID"]: hit["_explain"]["matched"] for hit in answer["hits"]}
    assert set(pictures) == {"a"}
    assert (pictures["a"]["image"], pictures["a"]["source"], pictures["a"]["sourceImage"]) == (
        "a-1.jpg",
        "s",
        "s-1.jpg",
    )
    alone = catalog.one(images, image="link", maxRecommendations=1, explain=True)["hits"][0]["_explain"]["matched"]
    assert alone == {"image": "s-0.jpg", "source": "link", "similarity": pytest.approx(0.985, abs=0.001)}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Empty shards without the built-in rule."""
    return without_default(tmp_path)


def test_every_step_says_what_it_did(fan: Catalog) -> None:
    """In order: filters, sameAs, stock, optional filters, then rule by rule; rank and score before and after."""
    fan.put("o", [turned(5)], quantity=0, category="shoes", rank=9)
    fan.put("f", [turned(45)], category="shoes", rank=6)
    fan.rule("2", consequence={"params": {"boosts": [{"filters": "rank = 6", "factor": 3}], "filters": "rank > 1"}})
    fan.rule("1", condition={"context": "m"}, consequence={"hide": [{"objectID": "c"}, {"objectID": "x"}]})
    parameters = {
        "filters": "NOT objectID:a AND rank < 99",
        "facetFilters": ["rank:-5"],
        "optionalFilters": ["rank = 4<score=9>"],
        "ruleContexts": ["m"],
    }

    answer = fan.one(objectID="s", sameAs=["category"], queryParameters=parameters, explain=True)

    assert [hit["objectID"] for hit in answer["hits"]] == ["f", "d", "b"]
    assert removed(answer) == [
        ("filters", "NOT objectID:a", 1, "a"),
        ("filters", "NOT rank:5", 1, "e"),
        ("sameAs", "the same category", 1, "c"),
        ("stock", "in_stock:true", 1, "o"),
    ]
    assert answer["appliedRules"] == ["1", "2"]
    score = {hit["objectID"]: hit["_score"] for hit in answer["hits"]}
    rank_score = {hit["objectID"]: hit["_rankScore"] for hit in answer["hits"]}
    told = steps(answer)
    assert told["b"] == [
        {"by": "filters", "what": "NOT objectID:a", "rank": [3, 2]},
        {"by": "stock", "what": "in_stock:true", "rank": [2, 1]},
        {"by": "optionalFilters", "what": "rank = 4<score=9>", "rank": [1, 2]},
        {"by": "rule", "rule": "2", "what": "rank = 6", "rank": [2, 3]},
    ]
    assert told["d"][-2:] == [
        {
            "by": "optionalFilters",
            "what": "rank = 4<score=9>",
            "rank": [2, 1],
            "factor": 1.9,
            "score": [score["d"], rank_score["d"]],
        },
        {"by": "rule", "rule": "2", "what": "rank = 6", "rank": [1, 2]},
    ]
    assert told["f"][-1]["score"] == [score["f"], rank_score["f"]]
    assert told["f"][-1]["rank"] == [3, 1]


def test_what_rules_remove_is_told_by_rule(fan: Catalog) -> None:
    """Hiding, filters and same-as-viewed, each of what the steps before it had left."""
    fan.rule("1", consequence={"hide": [{"objectID": "a"}], "params": {"filters": "rank < 5"}})
    fan.rule("2", consequence={"params": {"automaticFacetFilters": [{"facet": "category", "negative": True}]}})

    answer = fan.one(objectID="s", explain=True)

    assert removed(answer) == [
        ("rule 1", "rank < 5", 1, "e"),
        ("rule 1", "hide", 1, "a"),
        ("rule 2", "not the same category", 2, "bd"),
    ]


def test_thresholds_and_families_are_told(catalog: Catalog) -> None:
    """What is below, and what is one too many of its family or of the source's own."""
    for number, item_id in enumerate("sabcdef"):
        group = {"s": "x", "a": "x", "b": "y", "c": "y"}.get(item_id)
        catalog.put(item_id, [turned(10 * number)], facts=Facts(group=group))

    answer = catalog.one(objectID="s", threshold=70, queryParameters={"distinct": True}, explain=True)

    assert removed(answer) == [("threshold", "_score >= 70", 2, "ef"), ("distinct", "1 of a family", 2, "ac")]
    assert steps(answer) == {
        "b": [{"by": "distinct", "what": "1 of a family", "rank": [2, 1]}],
        "d": [{"by": "distinct", "what": "1 of a family", "rank": [4, 2]}],
    }


def test_pins_say_why_they_are_there_or_not(fan: Catalog) -> None:
    """The place before and after, and in words what keeps one away."""
    fan.put("p")
    wanted = {"e": 0, "s": 0, "p": 1, "x": 1, "a": 7}
    fan.rule("1", consequence={"promote": [{"objectID": name, "position": at} for name, at in wanted.items()]})
    fan.rule("2", consequence={"hide": [{"objectID": "d"}], "promote": [{"objectID": "e", "position": 3}]})
    fan.rule("3", consequence={"promote": [{"objectID": "d", "position": 1}]})

    answer = fan.one(objectID="s", explain=True)

    assert steps(answer) == {
        "e": [{"by": "rule", "rule": "2", "what": "hide", "rank": [5, 4]}, {"by": "pin", "rule": "1", "rank": [4, 1]}],
        "a": [{"by": "pins", "rank": [1, 2]}],
        "b": [{"by": "pins", "rank": [2, 3]}],
        "c": [{"by": "pins", "rank": [3, 4]}],
    }
    assert [(one["rule"], one["objectID"], one.get("notShown")) for one in answer["explain"]["pins"]] == [
        ("1", "e", None),
        ("1", "s", "it is a source item"),
        ("1", "p", "it has no embedded image"),
        ("1", "x", "it is not known"),
        ("1", "a", "position 7 is beyond the 5 hits asked for"),
        ("2", "e", "rule 1 pins it already"),
        ("3", "d", "rule 2 hides it"),
    ]
    crowded = fan.one(objectID="s", maxRecommendations=1, explain=True)
    assert "notShown" not in crowded["explain"]["pins"][0]


def test_a_pin_that_others_have_pushed_out_says_so(fan: Catalog) -> None:
    """Two for the last place."""
    fan.rule("1", consequence={"promote": [{"objectID": "d", "position": 1}, {"objectID": "e", "position": 1}]})

    answer = fan.one(objectID="s", maxRecommendations=2, explain=True)

    assert [one.get("notShown") for one in answer["explain"]["pins"]] == [
        None,
        "other pins have taken the places up to the last hit",
    ]


def test_diversity_and_fallback_are_steps(fan: Catalog) -> None:
    """The rank that the look alone would have given, and the place."""
    diverse = fan.one(objectID="s", maxRecommendations=3, diversity=1, explain=True)
    filled = fan.one(objectID="s", threshold=97, fallbackParameters={"filters": "category:shoes"}, explain=True)

    assert [hit["objectID"] for hit in diverse["hits"]] == ["a", "e", "c"]
    assert steps(diverse)["e"] == [{"by": "diversity", "what": "1", "rank": [5, 2]}]
    assert [hit["objectID"] for hit in filled["hits"]] == ["a", "b", "d"]
    assert steps(filled)["b"] == [{"by": "fallback", "rank": [None, 2]}]


def test_a_walk_says_where_each_hit_was_come_from(fan: Catalog) -> None:
    """And how alike the two are; it has no ranks, and pins are told to have no place."""
    fan.rule("r", consequence={"promote": [{"objectID": "e", "position": 0}], "hide": [{"objectID": "b"}]})

    answer = fan.one(objectID="s", walk={"steps": 3, "seed": 2}, threshold=5, explain=True)

    before = "s"
    for hit in answer["hits"]:
        told = hit["_explain"]["walk"]
        angle = 10 * ("sabcde".index(hit["objectID"]) - "sabcde".index(before))
        assert told == {"from": before, "similarity": pytest.approx(np.cos(np.radians(angle)), abs=1e-3)}
        assert hit["_explain"]["steps"] == []
        before = hit["objectID"]
    assert removed(answer) == [("rule r", "hide", 1, "b")]
    assert answer["explain"]["pins"][0]["notShown"] == "a walk has no pins"


def test_without_a_source_there_is_only_the_fallback(fan: Catalog) -> None:
    """No picture matched, and nothing was considered."""
    answer = fan.one(objectID="nobody", fallbackParameters={}, maxRecommendations=1, explain=True)

    assert answer["hits"][0]["_explain"] == {"similarity": 0, "steps": [{"by": "fallback", "rank": [None, 1]}]}
    assert answer["explain"] == {"considered": 0, "removed": [], "pins": []}


def test_only_the_most_alike_are_considered(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of filters are those of the whole catalog; a hit beyond has no rank until the end."""
    monkeypatch.setattr("indexes.account.CONSIDERED_MAX", 4)
    catalog.put("s", [turned(0)])
    for number in range(20):
        catalog.put(f"m{number:02d}", [turned(1 + number)], even=number % 2 == 0, last=number == 19)
    catalog.rule("r", consequence={"promote": [{"objectID": "m18", "position": 0}]})

    filtered = catalog.one(objectID="s", queryParameters={"filters": "even:true"}, threshold=99, explain=True)
    last = catalog.one(objectID="s", queryParameters={"filters": "last:true"}, explain=True)
    far = catalog.one(objectID="s", threshold=96, queryParameters={"distinct": True}, explain=True)

    assert filtered["explain"]["considered"] == 4
    assert filtered["explain"]["removed"][0]["count"] == 10
    assert [one["objectID"] for one in filtered["explain"]["removed"][0]["examples"]] == ["m01", "m03"]
    assert filtered["explain"]["removed"][1] == {
        "by": "threshold",
        "what": "_score >= 99",
        "count": 1,
        "atLeast": True,
        "examples": [{"objectID": "m18", "_score": pytest.approx(94.55, abs=0.05)}],
    }
    assert steps(last) == {"m19": []}
    assert steps(far)["m18"] == [{"by": "pin", "rule": "r", "rank": [None, 1]}]


asked = st.fixed_dictionaries(
    {"objectID": st.integers(0, 39).map(lambda number: f"i{number}"), "explain": st.just(True)},
    optional={
        "maxRecommendations": st.sampled_from([1, 3, 10, 200]),
        "threshold": st.sampled_from([0, 20, 60]),
        "outOfStock": st.booleans(),
        "diversity": st.sampled_from([0.0, 0.5]),
        "queryParameters": st.fixed_dictionaries(
            {},
            optional={
                "filters": st.sampled_from(["category:a", "NOT category:b AND price > 3", "stock < 3 OR on_sale:true"]),
                "optionalFilters": st.just(["category:c<score=4>", ["price > 5", "on_sale:-true"]]),
                "sumOrFiltersScores": st.booleans(),
            },
        ),
    },
)


@given(st.integers(0, 2), asked)
@settings(max_examples=50)
def test_the_steps_add_up_to_the_answer(
    tmp_path_factory: pytest.TempPathFactory, seed: int, body: dict[str, Any]
) -> None:
    """Ranks follow each other to the hit's place, factors multiply to the ranking score, counts leave the hits."""
    catalog = drawn(tmp_path_factory, seed)

    answer = orjson.loads(catalog.ask(body)[0].body)

    for place, hit in enumerate(answer["hits"], start=1):
        told = hit["_explain"]["steps"]
        ranks = [step["rank"] for step in told]
        assert [after for _, after in ranks[:-1]] == [before for before, _ in ranks[1:]]
        assert not ranks or ranks[-1][1] == place
        factor = np.prod([step.get("factor", 1) for step in told])
        assert hit["_rankScore"] == pytest.approx(hit["_score"] * factor, rel=2e-3, abs=0.03)
    left = answer["explain"]["considered"] - sum(one["count"] for one in answer["explain"]["removed"])
    assert len(answer["hits"]) == min(left, body.get("maxRecommendations", 5))
    assert not any(one.get("atLeast") for one in answer["explain"]["removed"])
