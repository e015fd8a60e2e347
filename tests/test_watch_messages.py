"""Messages of `watch` and `similar-changes`: what may be watched, and what tells a list from another."""

from __future__ import annotations

import orjson
import pytest

from models.answer import Result, failed
from models.errors import BadEvent
from models.request import RequestLimits
from models.watch import EMPTY, LIST_BYTES_MAX, REASONS_MAX, fitting, list_digest, list_message, parse_watch

LIMITS = RequestLimits()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "expected a JSON object, got no bytes"),
        (b"[]", "expected a JSON object, got a list"),
        (b'{"requests": []}', "requests: expected one request, not a batch"),
        (b'{"objectID": "b"}', "objectID: expected the key, 'a', got 'b'"),
        (b'{"objectID": 5}', "objectID: expected the key, 'a', got 5"),
        (b'{"filters": "a:b"}', "unknown field 'filters'; it belongs into queryParameters"),
        (b'{"queryParameters": {"filters": "price <"}}', "queryParameters.filters"),
        (b'{"objectIDs": ["a", "b"]}', "expected nothing to look like but the key's item"),
        (b'{"image": {"url": "https://example.com/a.jpg"}}', "expected nothing to look like but the key's item"),
        (b'{"walk": {"steps": 3}}', "walk: cannot be watched"),
        (b'{"explain": true}', "explain: cannot be watched"),
        (b'{"fallbackParameters": {"filters": "a:b"}}', "fallbackParameters: cannot be watched"),
        (b'{"queryParameters": {"clickAnalytics": true}}', "queryParameters.clickAnalytics: cannot be watched"),
        (b'{"maxRecommendation": 5}', "did you mean maxRecommendations?"),
    ],
)
def test_what_cannot_be_watched_is_told_with_its_place(value: bytes, said: str) -> None:
    """The reason of the dead letter names the item, the field and what was expected."""
    with pytest.raises(BadEvent) as refused:
        parse_watch("a", value, LIMITS, "items")

    assert str(refused.value).startswith("watch of 'a': ")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        b"{}",
        b" { } ",
        b'{"objectID": "a"}',
        b'{"objectID": null}',
        b'{"maxRecommendations": 4, "queryParameters": {"filters": "a:b"}}',
    ],
)
def test_the_key_is_the_item(value: bytes) -> None:
    """A body may say it again, or leave it to the key."""
    watch = parse_watch("a", value, LIMITS, "items")

    assert watch.item_id == "a"
    assert [item.item_id for item in watch.request.items] == ["a"]


def test_keys_that_json_must_escape() -> None:
    """The key is put into the body as JSON wants it."""
    item_id = 'a"\\\u2028\n'

    assert parse_watch(item_id, b'{"maxRecommendations": 4}', LIMITS, "items").item_id == item_id


def result(hits: str, read_ms: int) -> Result:
    return Result(b'{"hits":[%b],"watermark":{"read":%d}}' % (hits.encode(), read_ms))


def test_lists_differ_by_what_can_be_seen() -> None:
    """Another watermark is the same list, another hit is not; a failure is no list, whatever its words."""
    assert list_digest(result('{"objectID":"b"}', 1)) == list_digest(result('{"objectID":"b"}', 2))
    assert list_digest(result('{"objectID":"b"}', 1)) != list_digest(result('{"objectID":"c"}', 1))
    assert list_digest(failed("one", 404, "items")) == list_digest(failed("other", 400, "items")) == EMPTY


def test_a_lists_message_is_the_result_and_why_it_came() -> None:
    """JSON as any answer, with the item, the time and a bounded number of reasons."""
    reasons = [{"event": "stock", "objectID": str(number)} for number in range(REASONS_MAX + 5)]
    told = orjson.loads(list_message("a", result('{"objectID":"b"}', 1), 17, reasons))

    assert told == {
        "hits": [{"objectID": "b"}],
        "watermark": {"read": 1},
        "objectID": "a",
        "at": 17,
        "reasons": reasons[:REASONS_MAX],
    }


def test_a_list_too_large_for_a_message_says_so() -> None:
    """Nothing is cut in silence: an empty list comes with the sizes and what to do."""
    large = result('"%s"' % ("x" * LIST_BYTES_MAX), 1)
    told = orjson.loads(fitting(large, "items").body)

    assert fitting(result("", 1), "items") == result("", 1)
    assert not told["hits"]
    assert f"{len(large.body):,} bytes, expected at most {LIST_BYTES_MAX:,}" in told["message"]
