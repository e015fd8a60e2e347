"""Files, folders and arguments into changes, and changes onto a topic."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadEvent, Unavailable
from streams.publishing.change_files import (
    Change,
    catalog_changes,
    item_key,
    rule_changes,
    stock_argument,
    stock_changes,
)
from streams.publishing.picture_folder import picture_files, picture_record
from streams.publishing.send import ROUND_CHANGES_MAX, publish, rounds_of, rounds_of_stream
from streams.topics import partition_of
from tests.responder import arrived, connection_of
from tests.waiting import wait_until


def test_record_lines():
    """A record goes out as its line has it, keyed by its id; empty lines and a byte order mark are nothing."""
    first = '{"title": "Größe",  "objectID": "größe-42"}'.encode()
    lines = [b"\xef\xbb\xbf" + first + b"\r\n", b"\n", b'  {"objectID":"b"}  ']

    assert [Change("größe-42".encode(), first), Change(b"b", b'{"objectID":"b"}')] == list(catalog_changes(lines, "f"))


def test_event_lines():
    """Key and value may be given themselves: tombstones, Debezium's objects, headers."""
    lines = [
        b'{"key": "a", "value": null}',
        b'{"key": {"id": "a"}, "value": {"op": "d"}, "headers": {"h": "x", "o": {"a": 1}}, "topic": "shop"}',
        b'{"objectID": "k", "key": 1, "value": 2}',
    ]

    assert [
        Change(b"a", None),
        Change(b'{"id":"a"}', b'{"op":"d"}', (("h", b"x"), ("o", b'{"a":1}'))),
        Change(b"k", lines[2]),
    ] == list(catalog_changes(lines, "f"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{", r"f:7: expected one JSON object a line, got \{"),
        (b"\xff", "f:7: expected one JSON object a line"),
        (b"[1]", r"f:7: expected an object, got \[1\]"),
        (b'{"title": "no id"}', 'f:7: expected a text as "objectID"'),
        (b'{"objectID": 5}', 'f:7: expected a text as "objectID"'),
        (b'{"objectID": ""}', "f:7: an id has 1 to 512 bytes, got 0"),
        (b'{"objectID": "' + b"x" * 513 + b'"}', "f:7: an id has 1 to 512 bytes, got 513"),
        (b'{"key": null, "value": {}}', "f:7: expected a text or an object as key"),
        (b'{"key": "a", "value": {}, "headers": [1]}', "f:7: expected a text or an object as key"),
        (b'{"key": "a"}', "f:7: expected a text"),
        (b'{"objectID": "a", "x": {"b": 1, "b": 2}}', "f:7: expected each key once, but 'b' stands twice"),
    ],
)
def test_lines_that_cannot_be_read(line, expected):
    """A bad line is named with its file and number; what was before it has been read."""
    changes = catalog_changes([b'{"objectID": "good"}', line], "f", first=6)

    assert b"good" == next(changes).key
    with pytest.raises(BadEvent, match=expected):
        next(changes)


def test_stock_lines():
    """A level's line is its item and the level; the item is the key only."""
    lines = [
        b'{"objectID": "a", "quantity": 3}',
        b'{"objectID": "b", "quantity": 0.5, "at": 17}',
        b'{"key":"c","value":null}',
    ]

    assert [Change(b"a", b'{"quantity":3}'), Change(b"b", b'{"quantity":0.5,"at":17}'), Change(b"c", None)] == list(
        stock_changes(lines, "f")
    )
    with pytest.raises(BadEvent, match='f:1: expected "quantity"'):
        list(stock_changes([b'{"objectID": "a", "stock": 3}'], "f"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=3", Change(b"a", b'{"quantity":3}')),
        ("a=-1", Change(b"a", b'{"quantity":-1}')),
        ("a=0.5", Change(b"a", b'{"quantity":0.5}')),
        ("a=b=2", Change(b"a=b", b'{"quantity":2}')),
        ("größe=", Change("größe".encode(), None)),
    ],
)
def test_stock_argument(text, expected):
    """ITEM=QUANTITY is a level, the last `=` counts, and nothing after it takes the level back."""
    assert expected == stock_argument(text)


@pytest.mark.parametrize("text", ["a", "=3", "a=x", "a=nan", "a=inf", "a=1e999", "\udc80=1", "x" * 513 + "=1"])
def test_stock_argument_refused(text):
    """What is no item and no number is an error that says what was expected."""
    with pytest.raises(BadEvent, match="expected|has 1 to 512 bytes|is UTF-8"):
        stock_argument(text)


@given(st.text())
def test_item_key(item_id):
    """Every text is a key or an error, and a key is the text again."""
    try:
        key = item_key(item_id)
    except BadEvent:
        assert not 1 <= len(item_id.encode("utf-8", "surrogatepass")) <= 512 or not item_id.isascii()
    else:
        assert item_id == key.decode()


def test_rules():
    """One rule or a list of them, each under its id."""
    rule = {"objectID": "r", "condition": {"filters": "price > 10"}, "consequence": {"hide": [{"objectID": "y"}]}}

    assert [Change(b"r", orjson.dumps(rule))] == rule_changes(orjson.dumps(rule), "f")
    assert [Change(b"r", orjson.dumps(rule))] == rule_changes(b"\xef\xbb\xbf" + orjson.dumps(rule), "f")
    assert [b"r", b"s"] == [each.key for each in rule_changes(orjson.dumps([rule, {"objectID": "s"}]), "f")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"{", "f: expected a rule or a list of rules as JSON"),
        (b"[1]", "f, rule 1: expected an object, got 1"),
        (b'[{"objectID": "a"}, {}]', 'f, rule 2: expected a text as "objectID"'),
        (b'{"objectID": "a", "condition": {"filters": "price >"}}', "f, rule 1: rule .*a.*filters"),
        (b'{"objectID": "a", "consequenze": {}}', "f, rule 1: .*consequenze"),
        (
            b'[{"objectID": "a"}, {"objectID": "b", "enabled": true, "enabled": false}]',
            "f, rule 2: .*enabled' stands tw",
        ),
    ],
)
def test_rules_refused(text, expected):
    """A rule that a worker could not use is refused before anything is published."""
    with pytest.raises(BadEvent, match=expected):
        rule_changes(text, "f")


def test_picture_folder(tmp_path):
    """Pictures become items named by their paths, folders categories; hidden and other files are left out."""
    for name in ("b.PNG", "shoes/red_runner-2.jpg", "shoes/men/x.webp", "notes.txt", ".hidden/a.jpg", "shoes/.a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()

    records = [picture_record(path, tmp_path, tmp_path.parent) for path in picture_files(tmp_path)]

    name = tmp_path.name
    assert [
        {"objectID": "b.PNG", "title": "b", "image": f"{name}/b.PNG"},
        {
            "objectID": "shoes/men/x.webp",
            "title": "x",
            "image": f"{name}/shoes/men/x.webp",
            "category": ["shoes", "men"],
        },
        {
            "objectID": "shoes/red_runner-2.jpg",
            "title": "red runner 2",
            "image": f"{name}/shoes/red_runner-2.jpg",
            "category": "shoes",
        },
    ] == records


def test_picture_links(tmp_path):
    """Below the image root a link is relative, elsewhere an absolute file: link; a path is never taken for a URL."""
    path = tmp_path / "a b.jpg"
    colon = tmp_path / "data:1.jpg"

    assert "a b.jpg" == picture_record(path, tmp_path, tmp_path)["image"]
    assert "./data:1.jpg" == picture_record(colon, tmp_path, tmp_path)["image"]
    assert f"file://{tmp_path.resolve()}/a%20b.jpg" == picture_record(path, tmp_path, None)["image"]
    assert f"file://{tmp_path.resolve()}/a%20b.jpg" == picture_record(path, tmp_path, tmp_path / "other")["image"]


def test_picture_with_a_name_that_is_no_text(tmp_path):
    """A file whose name is not UTF-8 cannot stand in a record and is left out."""
    try:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg"))).touch()
    except OSError:
        pytest.skip("this file system has no such names")

    assert [] == list(picture_files(tmp_path))


async def test_rounds():
    """Rounds have a bounded size; what came before an error is a round of its own."""

    def changes():
        for number in range(ROUND_CHANGES_MAX + 2):
            yield Change(b"%d" % number, None)
        raise BadEvent("bad line")

    sizes = []
    with pytest.raises(BadEvent, match="bad line"):
        async for each in rounds_of(changes()):
            sizes.append(len(each))

    assert [ROUND_CHANGES_MAX, 2] == sizes
    assert [] == [each async for each in rounds_of([])]
    assert [5, 1] == [len(each) async for each in rounds_of([Change(b"k", b"x" * 900_000)] * 6)]


async def test_pipe_is_not_kept_waiting():
    """A line of a pipe is a round as soon as it is there; lines are numbered throughout, the last needs no end."""
    read_end, write_end = os.pipe()
    rounds: list[list[bytes]] = []

    async def read():
        async for changes in rounds_of_stream(os.fdopen(read_end, "rb"), "pipe", catalog_changes):
            rounds.append([each.key for each in changes])

    reading = asyncio.create_task(read())
    os.write(write_end, b'{"objectID": "a"}\n{"objec')
    await wait_until(lambda: rounds == [[b"a"]], what="the first line")
    os.write(write_end, b'tID": "b"}\n\n{"objectID": "c"}')
    os.close(write_end)
    await reading
    assert [[b"a"], [b"b"], [b"c"]] == rounds

    read_end, write_end = os.pipe()
    os.write(write_end, b'{"objectID": "a"}\n\n[]\n')
    os.close(write_end)
    with pytest.raises(BadEvent, match="pipe:3: expected an object"):
        await read()


async def test_pipe_without_an_end(monkeypatch):
    """A line that does not end is given up instead of being gathered for ever; the lines before it are published."""
    monkeypatch.setattr("streams.publishing.send.LINE_BYTES_MAX", 1_000)
    read_end, write_end = os.pipe()
    os.write(write_end, b'{"objectID": "a"}\n' + b"x" * 2_000)
    rounds: list[list[bytes]] = []
    with pytest.raises(BadEvent, match="pipe:2: expected the line's end within 1,000 bytes"):
        async for changes in rounds_of_stream(os.fdopen(read_end, "rb"), "pipe", catalog_changes):
            rounds.append([each.key for each in changes])
    os.close(write_end)
    assert [[b"a"]] == rounds


async def test_publish(broker, topic_prefix):
    """Every change arrives once, in the order of its key, at its home partition, with its headers."""
    topic = topic_prefix + "catalog-changes"
    await broker.create_topics({topic: 3})
    connection = connection_of(broker)
    changes = [Change(b"item-%d" % (n % 700), b"%d" % n if n % 5 else None, (("n", b"%d" % n),)) for n in range(9_000)]
    told: list[int] = []

    assert 9_000 == await publish(connection, topic, rounds_of(changes), told.append)

    assert 9_000 == sum(told)
    there = await arrived(connection, topic)
    assert Counter(Change(each.key, each.value, each.headers) for each in there) == Counter(changes)
    assert all(each.partition == partition_of(each.key, 3) for each in there)
    by_key: dict[bytes, list[int]] = {}
    for each in there:
        by_key.setdefault(each.key, []).append(int(each.headers[0][1]))
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


async def test_publish_up_to_an_error(broker, topic_prefix):
    """What stands before a bad line is published, and the error passes."""
    topic = topic_prefix + "catalog-changes"
    await broker.create_topics({topic: 1})
    connection = connection_of(broker)

    with pytest.raises(BadEvent, match="f:2"):
        await publish(connection, topic, rounds_of(catalog_changes([b'{"objectID": "a"}', b"{}"], "f")))

    there = await arrived(connection, topic)
    assert [b"a"] == [each.key for each in there]


@pytest.mark.needs_kafka
async def test_publish_to_no_topic(broker, topic_prefix):
    """A topic that does not exist is an error at once."""
    with pytest.raises(Unavailable, match="does not exist"):
        await publish(connection_of(broker), topic_prefix + "nothing", rounds_of([Change(b"a", None)]))
