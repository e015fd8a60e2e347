"""Bodies and filters that mean harm, for everything that takes JSON from outside: over HTTP and on the topics."""

from __future__ import annotations

import json

LARGE = b'{"objectID":"' + b"x" * 10_000_000 + b'"}'


def deep(depth: int) -> bytes:
    """Lists in lists."""
    return b'{"requests":' + b"[" * depth + b"]" * depth + b"}"


MISTAKES: dict[str, bytes] = {
    "nothing": b"",
    "blank": b"   ",
    "null": b"null",
    "a list": b"[]",
    "no json": b"{",
    "html": b"<html>",
    "deep": deep(100_000),
    "deeper than we allow": deep(100),
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a huge number": b'{"objectID":"a","threshold":1e999}',
    "a number of 100,000 digits": b'{"objectID":"a","maxRecommendations":' + b"9" * 100_000 + b"}",
    "not a number": b'{"objectID":"a","threshold":NaN}',
    "infinity": b'{"objectID":"a","threshold":-Infinity}',
    "a key twice": b'{"objectID":"a","objectID":"b"}',
    "a key twice inside": b'{"requests":[{"objectID":"a","objectID":"b"}]}',
    "no utf-8": b'{"objectID":"\xff\xfe"}',
    "half a character": b'{"objectID":"\\ud800"}',
    "a long id": b'{"objectID":"' + b"x" * 100_000 + b'"}',
    "many colons": b'{"objectID":"a","x":"' + b":" * 7_000_000 + b'"}',
    "many quotes": b'{"objectID":"' + b'\\":' * 2_000_000 + b'"}',
    "51 entries": json.dumps({"requests": [{"objectID": "a"}] * 51}).encode(),
    "1,000 seeds": json.dumps({"objectIDs": ["a"] * 1_000}).encode(),
}
"""What no request, rule or watch can be; under 8 MB each."""

FILTERS: dict[str, str] = {
    "10,000 clauses": " OR ".join(f"a{number}:b" for number in range(10_000)),
    "10,000 numbers": " AND ".join(f"a>{number}" for number in range(10_000)),
    "10,000 parentheses": "(" * 10_000 + "a:b" + ")" * 10_000,
    "10,000 nots": "NOT " * 10_000 + "a:b",
    "a megabyte of one value": "a:" + "x" * 1_000_000,
    "100,000 quotes": '"' * 100_000,
}
