"""The command line: what it is given, what it prints on a pipe and on a terminal, its exit codes."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
import orjson
import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadEvent
from models.image import decode, encode_png
from models.truth_messages import (
    Facts,
    ImageEmbedding,
    ItemEmbedding,
    ItemRecord,
    ItemStock,
    Written,
    write_message,
)
from streams.commands.__main__ import main
from streams.connection import Connection
from streams.kafka.dead_letters import dead_letter
from streams.kafka.log_reader import partition_counts
from streams.kafka.origin import Origin
from streams.kafka.outbox import Message, Outbox
from streams.reports.answer_table import freshness, image_link, show_answer, typed_request
from streams.reports.item import ItemReport, show_item
from streams.reports.moments import duration, moment
from streams.reports.status import worker_page
from streams.reports.terminal import Terminal, printable
from streams.settings import Settings
from streams.topics import ITEM_EMBEDDINGS, ITEM_RECORDS, ITEM_STOCKS, partition_of, topic_table
from tests.brokers import TestBroker
from tests.responder import answer, arrived, connection_of, failure, responding

Run = Callable[..., Result]
SHARDS = 2
HOSTILE = "\x1b[31mred\x07[bold]not[/bold]\r\u202eabc\udc80\n"


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """Commands quieten libraries in their own process; not in that of the other tests."""
    levels = {name: logging.getLogger(name).level for name in ("aiokafka", "asyncio")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KINDRED_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def settings(broker: TestBroker, topic_prefix: str) -> Settings:
    return Settings(broker=broker.bootstrap, topic_prefix=topic_prefix, shards=SHARDS, web="127.0.0.1:1")


@pytest.fixture
async def connection(broker: TestBroker, settings: Settings) -> Connection:
    await broker.create_topics({topic.name: topic.partitions for topic in topic_table(settings)})
    return connection_of(broker)


@pytest.fixture
def kindred(settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command beside the test's own loop, with the settings in the environment."""
    environment = {
        "KINDRED_BROKER": settings.broker,
        "KINDRED_TOPIC_PREFIX": settings.topic_prefix,
        "KINDRED_SHARDS": str(SHARDS),
        "KINDRED_WEB": settings.web,
    }

    async def run(*arguments: str, **more: Any) -> Result:
        return await asyncio.to_thread(CliRunner(env=environment | more.pop("env", {})).invoke, main, arguments, **more)

    return run


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, arguments)


def people() -> tuple[Terminal, io.StringIO]:
    """A terminal of 100 columns, and what is written on it."""
    shown = io.StringIO()
    terminal = Terminal(shown, io.StringIO())
    terminal._console._force_terminal = True
    terminal._console._width = 100
    return terminal, shown


# What it is given.


def all_commands() -> Iterator[tuple[str, ...]]:
    """The names of all commands, groups and those in them."""

    def below(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        if isinstance(command, click.Group):
            for name, each in command.commands.items():
                yield from below(each, (*path, name))

    return below(main, ())


@pytest.mark.parametrize("path", list(all_commands()), ids="-".join)
def test_help(path):
    """Every command says in its help what it does, with an example."""
    result = run(*path, "--help")

    assert 0 == result.exit_code
    assert not path or "Example:" in result.output
    assert "..." not in "".join(result.output.split("Commands:")[1:]), "a summary is cut off"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["similar"],
        ["similar", "a", "-n", "0"],
        ["similar", "a", "--timeout", "x"],
        ["item"],
        ["publish", "catalog"],
        ["publish", "stock"],
        ["publish", "stock", "a"],
        ["publish", "stock", "a=1", "b=many"],
        ["publish", "rules"],
        ["worker", "--stage", "think"],
        ["worker", "--shards", "3-1"],
        ["worker", "--shards", "a"],
        ["worker", "--shards", "-1"],
        ["worker", "--shards", "0-9999999999"],
        ["broker", "--port", "0"],
        ["demo", "--items", "1"],
        ["demo", "--images", "/does/not/exist"],
        ["dead-letters", "-n", "0"],
    ],
)
def test_wrong_use(arguments):
    """Wrong use ends with 2."""
    assert 2 == run(*arguments).exit_code


@pytest.mark.parametrize(
    "arguments",
    [
        ["worker"],
        ["topics"],
        ["status"],
        ["item", "a"],
        ["similar", "a"],
        ["dead-letters"],
        ["publish", "stock", "a=1"],
        ["publish", "catalog", "--delete", "a"],
    ],
)
def test_no_broker_configured(arguments):
    """Without KINDRED_BROKER a command says so, and what to do, and ends with 2."""
    result = run(*arguments)

    assert 2 == result.exit_code
    assert "error: KINDRED_BROKER is not set" in result.stderr
    assert "kindred broker" in result.stderr


def test_bad_setting():
    """A setting that cannot be used is named, and ends a command with 2."""
    result = run("status", KINDRED_SHARDS="many")

    assert 2 == result.exit_code
    assert "error: KINDRED_SHARDS: expected a whole number, got 'many'" in result.stderr


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("BROKER", "broker:kafka", "expected host:port[,host:port], got 'broker:kafka'"),
        ("BROKER", "http://broker:9092", "expected host:port[,host:port], got 'http://broker:9092'"),
        ("BROKER", ",", "expected host:port[,host:port], got ','"),
        ("TOPIC_PREFIX", "shop/", "that a topic's name may have (a-z, A-Z, 0-9, '.', '_', '-'), got 'shop/'"),
        ("TOPIC_PREFIX", "s" * 201, "expected at most 200 of the characters"),
        ("WEB", "127.0.0.1:²", "expected host:port, got '127.0.0.1:²'"),
        ("COMPACTION_LAG_S", "inf", "expected a number, got inf"),
        ("COLOUR", "nan", "expected a number, got nan"),
    ],
)
def test_what_no_setting_can_be(setting, value, expected):
    """It is said before anything is started, with what was expected and what came."""
    result = run("worker", "--settings", **{f"KINDRED_{setting}": value})

    assert 2 == result.exit_code
    assert f"error: KINDRED_{setting}: " in result.stderr
    assert expected in result.stderr


@pytest.mark.parametrize("servers", ["kafka", "a:1,b:2", "[::1]:9092", "10.0.0.1:9092", "kafka-0.kafka.svc:9092"])
def test_brokers_as_they_are_written(servers):
    """Names, addresses, several of them, and without a port."""
    assert 0 == run("worker", "--settings", KINDRED_BROKER=servers).exit_code


@pytest.mark.parametrize("stage", ["index", "embed"])
def test_a_data_folder_that_is_none(stage, tmp_path):
    """A worker that cannot write there says so and ends with 2, before it waits for the broker."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "data"):
        result = run("worker", "--stage", stage, KINDRED_BROKER="127.0.0.1:1", KINDRED_DATA=str(folder))

        assert 2 == result.exit_code
        assert f"error: KINDRED_DATA: expected a folder that can be written to, got {folder}: " in result.stderr


@pytest.mark.parametrize("stage", ["index", "embed", "serve"])
@pytest.mark.parametrize(("name", "reason"), [("none.onnx", "No such file"), ("broken.onnx", "not a model")])
def test_a_model_that_is_none(stage, name, reason, tmp_path):
    """A worker whose KINDRED_MODEL cannot be used says so and ends with 2, before it waits for the broker."""
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    data, model = tmp_path / "data", tmp_path / name

    result = run(
        "worker", "--stage", stage, KINDRED_BROKER="127.0.0.1:1", KINDRED_DATA=str(data), KINDRED_MODEL=str(model)
    )

    assert 2 == result.exit_code
    assert f"error: KINDRED_MODEL: {model}" in result.stderr
    assert reason in result.stderr


def test_broker_that_does_not_answer(monkeypatch):
    """A broker that does not answer is told after a while, and ends a command with 1."""
    monkeypatch.setattr("streams.kafka.command_session.BROKER_WAIT_S", 0.3)

    result = run("status", KINDRED_BROKER="127.0.0.1:1")

    assert 1 == result.exit_code
    assert "error: the broker 127.0.0.1:1 (KINDRED_BROKER) did not answer" in result.stderr


def test_a_worker_that_answers_holds_all_shards():
    """Part of the shards would make a 404 of every other item: refused, with the reason."""
    result = run("worker", "--shards", "0-1", KINDRED_BROKER="b:1")

    assert 2 == result.exit_code
    assert "must hold all shards" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "stages", "shards"),
    [
        ([], {"track", "embed", "index", "serve"}, None),
        (["--stage", "track", "--stage", "embed"], {"track", "embed"}, None),
        (["--shards", "0-3"], {"track", "embed", "index", "serve"}, (0, 1, 2, 3)),
        (["--stage", "index", "--shards", "3,0-1,1"], {"index"}, (0, 1, 3)),
    ],
)
def test_worker_arguments(monkeypatch, arguments, stages, shards):
    """The worker gets the stages and shards that were asked for, and its exit code is the command's."""
    given: list[Any] = []

    def run_worker(*parts: Any) -> int:
        given.append(parts)
        return 1

    monkeypatch.setattr("streams.worker.run_worker", run_worker)

    result = run("worker", "--web", "127.0.0.1:7", *arguments, KINDRED_BROKER="b:1", KINDRED_WEB="127.0.0.1:8")

    assert 1 == result.exit_code
    ((settings, given_stages, given_shards),) = given
    assert (stages, shards, "b:1", "127.0.0.1:7") == (given_stages, given_shards, settings.broker, settings.web)


def test_worker_shard_that_is_not():
    """A shard above KINDRED_SHARDS is an error that names both numbers."""
    result = run("worker", "--shards", "2-8", KINDRED_BROKER="b:1")

    assert 2 == result.exit_code
    assert "names shard 8, but KINDRED_SHARDS is 4" in result.stderr


def test_settings_listed():
    """--settings prints every variable with its value; keys are not shown."""
    result = run("worker", "--settings", KINDRED_SEARCH_KEY="secret-1", KINDRED_SHARDS="8")

    assert 0 == result.exit_code
    assert "KINDRED_SHARDS\t8\tset\t" in result.stdout
    assert "KINDRED_SEARCH_KEY\t***\tset\t" in result.stdout
    assert "KINDRED_BROKER\t\tdefault\t" in result.stdout
    assert "secret" not in result.output


def test_typed_request(tmp_path):
    """What was typed becomes the contract's request."""
    picture = tmp_path / "p.png"
    picture.write_bytes(b"\x89PNG")
    now = {"attributesToRetrieve": ["*", "on_sale", "stock", "low_stock", "out_of_stock"]}

    assert {"objectID": "a", "maxRecommendations": 10, "queryParameters": now} == typed_request(
        ["a"], None, 10, None, None, False
    )
    assert {
        "objectIDs": ["a", "b"],
        "image": "data:image/png;base64,iVBORw==",
        "maxRecommendations": 3,
        "queryParameters": {**now, "filters": "x:y"},
        "threshold": 5.0,
        "outOfStock": True,
        "explain": True,
        "colour": 0.0,
    } == typed_request(["a", "b"], str(picture), 3, "x:y", 5.0, True, True, 0.0)
    assert "https://a/b.jpg" == image_link("https://a/b.jpg")


def test_large_picture_is_shrunk(tmp_path):
    """A picture that would not fit into a message is sent smaller."""
    numpy = pytest.importorskip("numpy")
    from models.image import encode_png

    picture = tmp_path / "large.png"
    picture.write_bytes(encode_png(numpy.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=numpy.uint8)))
    assert picture.stat().st_size > 3_000_000

    link = image_link(str(picture))

    assert link.startswith("data:image/jpeg;base64,")
    assert len(link) < 900_000


def test_picture_that_cannot_be_sent(tmp_path):
    """A file that is not there, or is large and no picture, is an error that names it."""
    large = tmp_path / "large.jpg"
    large.write_bytes(b"x" * 500_000)

    for name in (str(large), str(tmp_path / "none.jpg"), str(tmp_path)):
        result = run("similar", "--image", name, KINDRED_BROKER="b:1")
        assert 1 == result.exit_code
        assert name in result.stderr


# What it prints.


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Zs", "Zl", "Zp", "Cs"])))
def test_printable(text):
    """Whatever a text holds, it is one printable line, and a text that is one already stays as it is."""
    shown = printable(text)

    assert shown.isprintable()
    assert shown == printable(shown)
    shown.encode()


def test_table_on_a_pipe():
    """A table on a pipe is lines of cells with tabs between them, whatever the cells hold."""
    shown = io.StringIO()
    Terminal(shown, io.StringIO()).table(("item", "n"), [("a\tb\n", 1), (HOSTILE, None)], numbers=("n",))

    assert ["item\tn", r"a\tb\n" + "\t1"] == shown.getvalue().splitlines()[:2]
    assert 3 == shown.getvalue().count("\n")
    assert "\x1b" not in shown.getvalue()


def test_table_on_a_terminal():
    """On a terminal what looks like markup is shown as it is, and no text moves the cursor."""
    terminal, shown = people()
    terminal.table(("item", "n", "empty"), [(HOSTILE, 12, None)], numbers=("n",))
    terminal.line(HOSTILE, style="red")

    assert 2 == shown.getvalue().count("[bold]not[/bold]")
    assert "\x1b[31mred\x07" not in shown.getvalue()
    assert "empty" not in shown.getvalue()
    assert not set("\x07\r\u202e") & set(shown.getvalue())


def test_progress_on_a_pipe(monkeypatch):
    """On a pipe progress is now and then a line on standard error."""
    monkeypatch.setattr("streams.reports.terminal.PROGRESS_LINE_EVERY_S", 0.0)
    error = io.StringIO()
    with Terminal(io.StringIO(), error).progress("published", "records", 2_000) as advance:
        advance(1_000)
        advance(500)

    assert 1_500 == advance.done
    assert 2 == error.getvalue().count("\n")
    assert "published 1,500 of 2,000 records, " in error.getvalue()


def test_answer_table():
    """Hits are shown with rank, scores, price, stock and flags; below them how fresh and complete they are."""
    hit = {"objectID": HOSTILE, "title": "t" * 99, "_score": 87.654, "_rankScore": 100, "price": 9.5, "stock": 2}
    result = {
        "hits": [hit | {"on_sale": True, "low_stock": True, "_source": "pin"}, {"objectID": "b", "_source": "model"}],
        "appliedRules": ["r"],
        "watermark": {"catalog": {"at": 99_000, "lagMS": 0}, "stock": {"lagMS": 7}},
        "coverage": {"answered": 3, "of": 4, "share": 0.75},
        "processingTimeMS": 2,
    }
    out, error = io.StringIO(), io.StringIO()
    show_answer(Terminal(out, error), result, 100_000)

    _, first, second = out.getvalue().splitlines()
    assert ["87.7", "100.0", "9.5", "2", "on_sale, low_stock, pin"] == first.split("\t")[3:]
    assert "2\tb\t\t\t\t\t\t" == second
    assert [
        "rules: r",
        "catalog: newest change 1.0 s ago; stock: no change yet, 7 ms behind; 3 of 4 shards; 2 ms",
    ] == error.getvalue().splitlines()


def explained_result():
    """A result with reasons, hostile texts in it."""
    steps = [
        {"by": "filters", "what": "price < 100", "rank": [4, 3]},
        {"by": "rule", "rule": "default", "what": "on_sale:true", "rank": [3, 1], "factor": 1.15, "score": [90, 103.5]},
    ]
    matched = {"image": "a.jpg", "source": "s", "sourceImage": "s.jpg", "similarity": 0.9}
    return {
        "hits": [
            {"objectID": HOSTILE, "title": "Lamp", "_score": 90, "_rankScore": 103.5,
             "_explain": {"similarity": 0.9, "matched": matched, "steps": steps}},
            {"objectID": "b", "_score": 80.5, "_explain": {"matched": {"image": "b.jpg", "source": "link"},
             "walk": {"from": "a"}, "steps": [{"by": "pin", "rule": "r", "rank": [None, 2]}]}},
        ],
        "explain": {
            "removed": [
                {"by": "stock", "what": "in_stock:true", "count": 1234, "examples": [{"objectID": "x", "_score": 99}]},
                {"by": "threshold", "what": "_score >= 5", "count": 2, "atLeast": True, "examples": []},
            ],
            "pins": [{"rule": "r", "objectID": "b", "position": 1},
                     {"rule": "r", "objectID": "y", "position": 3, "notShown": "it is not known"}],
        },
    }  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 140])
def test_answer_on_a_terminal_has_a_line_a_hit(width: int):
    """The title is cut to what the others leave, so that each hit is one line, as wide as the terminal at most."""
    terminal, shown = people()
    terminal._console._width = width
    hit = {"objectID": "picture-005", "title": "word " * 30, "_score": 87.654, "_rankScore": 100, "price": 109.95,
           "stock": 123, "on_sale": True}  # fmt: skip
    show_answer(terminal, {"hits": [hit, hit]}, 0)

    lines = [line for line in shown.getvalue().splitlines() if "picture-005" in line]
    assert 2 == len(lines)
    assert all("…" in line and "on_sale" in line and len(line) <= width for line in lines)


def test_explained_answer_on_a_pipe():
    """A line for each hit and each step, the item on every one; then what was removed, and pins without a place."""
    out = io.StringIO()
    show_answer(Terminal(out, io.StringIO()), explained_result(), 0)

    lines = out.getvalue().splitlines()
    shown = printable(HOSTILE)
    assert lines[1:6] == [
        f"1\t{shown}\tLamp\t90.00\t103.50\tlook\ta.jpg like s.jpg\t\t",
        f"1\t{shown}\tLamp\t90.00\t103.50\tfilters\tprice < 100\t\t4 → 3",
        f"1\t{shown}\tLamp\t90.00\t103.50\trule default\ton_sale:true\tx1.15\t3 → 1",
        "2\tb\t\t80.50\t\tlook\tb.jpg like link\t\t",
        "2\tb\t\t80.50\t\twalk\tfrom a\t\t",
    ]
    assert "2\tb\t\t80.50\t\tpin r\t\t\t? → 2" == lines[6]
    assert ["stock\tin_stock:true\t1,234\tx (99.00)", "threshold\t_score >= 5\t2 or more\t"] == lines[9:11]
    assert "y\t3\tr\tit is not known" == lines[13]


LONG = {"title": "word " * 30, "matched": {"image": "p" * 90, "source": "link"}}


def explained_of_long_texts() -> dict[str, Any]:
    """A result of which each text is longer than a line of most terminals."""
    steps = [{"by": "rule", "rule": "r", "what": "kind:" + "k" * 90, "rank": [2, 1], "factor": 2}]
    hit = {"objectID": "picture-005", "title": LONG["title"], "_score": 87.6, "_rankScore": 100,
           "_explain": {"matched": LONG["matched"], "steps": steps}}  # fmt: skip
    return {"hits": [hit], "explain": {"removed": [{"by": "filters", "what": "x" * 90, "count": 1, "examples": []}]}}


def test_on_a_pipe_nothing_is_cut():
    """Scripts get all of it: titles, pictures, what moved a hit, what was removed; so without reasons."""
    out = io.StringIO()
    show_answer(Terminal(out, io.StringIO()), explained_of_long_texts(), 0)
    show_answer(Terminal(out, io.StringIO()), {"hits": explained_of_long_texts()["hits"]}, 0)

    assert "…" not in out.getvalue()
    assert 3 == out.getvalue().count("word " * 30)
    for text in ("p" * 90, "k" * 90, "x" * 90):
        assert text in out.getvalue()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_explained_answer_has_the_width_of_the_terminal(width: int):
    """The title is cut to what the other columns leave, and to no less."""
    terminal, shown = people()
    terminal._console._width = width
    show_answer(terminal, explained_of_long_texts(), 0)

    (line,) = [line for line in shown.getvalue().splitlines() if "picture-005" in line]
    assert max(map(len, shown.getvalue().splitlines())) <= width
    assert "…" in line or "word " * 30 in line + " "
    assert len(line) > width - 3 or "word " * 30 in line + " "


def test_explained_answer_tells_of_colour_where_it_counts():
    """Beside the pictures: how alike look and colour are, and how much the latter counted."""
    result = explained_result()
    for hit, weight in zip(result["hits"], (0.25, 0.0), strict=True):
        hit["_explain"]["parts"] = {"look": 0.9123, "colour": -0.5, "colourWeight": weight}
    out = io.StringIO()
    show_answer(Terminal(out, io.StringIO()), result, 0)

    lines = out.getvalue().splitlines()
    assert "\tlook 0.91, colour -0.50, which counts 0.25; a.jpg like s.jpg\t" in lines[1]
    assert "\tb.jpg like link\t" in lines[4]


def test_explained_answer_on_a_terminal():
    """Each hit is named once, its steps are below it, and all of it fits into 80 columns."""
    terminal, shown = people()
    terminal._console._width = 80
    show_answer(terminal, explained_result(), 0)

    lines = shown.getvalue().splitlines()
    assert 1 == shown.getvalue().count("Lamp")
    assert max(map(len, lines)) <= 80
    boosted = next(line for line in lines if "rule default: on_sale:true ×1.15" in line)
    assert ["103.50", "3", "→", "1"] == boosted.split()[-4:]
    assert any("others: filters price < 100" in line and line.split()[-3:] == ["4", "→", "3"] for line in lines)
    assert any("rule r: pinned here" in line for line in lines)
    assert any(line.strip().startswith("a.jpg like s.jpg") for line in lines)


@pytest.mark.parametrize(
    "explain",
    [None, 3, {"removed": 3, "pins": [3]}, {"removed": [{}], "pins": [{"notShown": 1}]}],
)
@pytest.mark.parametrize(
    "hit", [{}, {"_explain": 3}, {"_explain": {"steps": [3, {"rank": 3}], "matched": 3, "walk": []}}]
)
def test_explained_answer_of_another_shape(hit, explain):
    """Reasons that are not as expected are shown as far as they go."""
    out = io.StringIO()
    show_answer(Terminal(out, io.StringIO()), {"hits": [hit], "explain": explain}, 0)

    assert out.getvalue().startswith("rank\titem")


def test_explained_answer_without_hits():
    """Then what was removed is what one wants to know."""
    out = io.StringIO()
    show_answer(Terminal(out, io.StringIO()), {**explained_result(), "hits": []}, 0)

    assert "Nothing looks alike" in out.getvalue()
    assert "1,234" in out.getvalue()


@pytest.mark.parametrize("result", [{}, {"hits": None, "watermark": 3, "coverage": "x"}, {"watermark": {"a": 1}}])
def test_answer_of_another_shape(result):
    """A result without what is expected is shown as far as it goes."""
    out = io.StringIO()
    show_answer(Terminal(out, io.StringIO()), result, 0)

    assert "Nothing looks alike" in out.getvalue()
    assert isinstance(freshness(result, 0), str)


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [(3, "3 ms"), (1_234, "1.2 s"), (300_000, "5 min"), (10_800_000, "3 h"), (172_800_000, "2 d")],
)
def test_duration(milliseconds, expected):
    """A duration has the unit that people would choose."""
    assert expected == duration(milliseconds)


def test_moment():
    """A time is a date in UTC; a number that is no date is shown as it is."""
    assert "2023-11-14 22:13:20 UTC" == moment(1_700_000_000_000)
    assert str(10**30) == moment(10**30)
    assert "" == moment(None)


def record_of(images: tuple[str, ...], **more: Any) -> ItemRecord:
    raw = orjson.dumps({"objectID": "a", "title": HOSTILE.replace("\udc80", ""), "n": [1]})
    fields: dict[str, Any] = {"record": raw, "facts": Facts(), "image_version": 2, "at": 1, "written": Written()}
    return ItemRecord(images=images, **(fields | {"record": msgspec.Raw(raw)} | more))


VECTOR = ImageEmbedding("1.jpg", digest="d", vector="AAAA")


@pytest.mark.parametrize(
    ("record", "quantity", "images", "expected"),
    [
        (None, 3.0, (), "never there"),
        (record_of((), gone=True), None, (), "deleted"),
        (record_of(()), None, (), "no image"),
        (record_of(("1.jpg",)), None, (), "no image is embedded yet"),
        (record_of(("1.jpg",)), None, (ImageEmbedding("1.jpg", error="x", retry_at=9),), "no image is embedded yet"),
        (record_of(("1.jpg",)), None, (ImageEmbedding("1.jpg", error="x"),), "none of its images can be used"),
        (record_of(("1.jpg",)), 0.0, (VECTOR,), "out of stock"),
        (record_of(("1.jpg",)), 1.0, (VECTOR,), None),
        (record_of(("1.jpg",)), None, (VECTOR,), None),
    ],
)
def test_item_report(record, quantity, images, expected):
    """The report says whether an item can be recommended, and if not, why."""
    stock = None if quantity is None else ItemStock(quantity, 1, Written())
    embedding = ItemEmbedding(2, "m", images) if images else None
    report = ItemReport("a", 0, record, stock, embedding, now_ms=5, low_stock=5)
    out, (terminal, shown) = io.StringIO(), people()
    show_item(Terminal(out, io.StringIO()), report)
    show_item(terminal, report)

    assert (expected is None) == report.as_json()["recommendable"]
    assert "can be recommended" in out.getvalue() if expected is None else expected in out.getvalue()
    assert "\x1b" not in out.getvalue()
    assert "\x07" not in shown.getvalue()
    orjson.dumps(report.as_json())


# On the broker.


async def test_topics(broker, settings):
    """`topics` lists every topic; run again, all are there.  The embedded broker does not tell their policies."""
    table = topic_table(settings)
    if broker.embedded is not None:
        await broker.create_topics({topic.name: topic.partitions for topic in table})
    environment = {"KINDRED_TOPIC_PREFIX": settings.topic_prefix, "KINDRED_SHARDS": str(SHARDS)}
    runner = CliRunner(env={"KINDRED_BROKER": broker.bootstrap} | environment)
    await asyncio.to_thread(runner.invoke, main, ["topics"])

    result = await asyncio.to_thread(runner.invoke, main, ["topics"])

    assert 0 == result.exit_code, result.output
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert ["topic", "partitions", "policy", "state"] == rows[0]
    policies = [each.config["cleanup.policy"] if broker.embedded is None else "not told" for each in table]
    assert [
        [each.name, str(each.partitions), policy, "there"] for each, policy in zip(table, policies, strict=True)
    ] == rows[1:]


@pytest.mark.needs_kafka
async def test_topics_created(broker, settings):
    """`topics` creates what is missing, and refuses another number of partitions, naming both."""
    environment = {"KINDRED_BROKER": broker.bootstrap, "KINDRED_TOPIC_PREFIX": settings.topic_prefix}
    runner = CliRunner(env=environment)

    created = await asyncio.to_thread(runner.invoke, main, ["topics"])
    other = await asyncio.to_thread(runner.invoke, main, ["topics"], env={"KINDRED_SHARDS": "7"})

    assert 0 == created.exit_code, created.output
    assert created.stdout.count("\tcreated") == len(topic_table(settings))
    assert 2 == other.exit_code
    assert "has 4 partitions, KINDRED_SHARDS asks for 7" in other.stderr


async def test_publish_catalog(kindred, connection, settings, tmp_path):
    """Records of a file, of standard input and of a folder arrive, deletes as tombstones."""
    (tmp_path / "shoes").mkdir()
    (tmp_path / "shoes" / "1.jpg").touch()
    file = tmp_path / "catalog.jsonl"
    file.write_bytes(b'{"objectID":"a"}\n{"objectID":"b"}\n')

    from_file = await kindred("publish", "catalog", str(file), "--delete", "z")
    from_input = await kindred("publish", "catalog", "-", input=b'{"objectID":"c"}\n')
    from_folder = await kindred("publish", "catalog", str(tmp_path))
    below_root = await kindred("publish", "catalog", str(tmp_path), env={"KINDRED_IMAGE_ROOT": str(tmp_path)})

    assert [0] * 4 == [each.exit_code for each in (from_file, from_input, from_folder, below_root)]
    assert f"published 3 records to {settings.topic_prefix}catalog-changes" in from_file.stdout
    assert "KINDRED_IMAGE_ROOT is not set" in from_folder.stderr
    assert "hint" not in below_root.stderr
    there = await arrived(connection, settings.topic_prefix + "catalog-changes")
    picture = {"objectID": "shoes/1.jpg", "title": "1", "category": "shoes"}
    links = [(tmp_path / "shoes" / "1.jpg").resolve().as_uri(), "shoes/1.jpg"]
    assert {b"a": b'{"objectID":"a"}', b"b": b'{"objectID":"b"}', b"c": b'{"objectID":"c"}', b"z": None} == {
        each.key: each.value for each in there if b"jpg" not in each.key
    }
    assert [picture | {"image": link} for link in links] == [orjson.loads(e.value) for e in there if b"jpg" in e.key]


async def test_publish_bad_line(kindred, connection, settings):
    """A bad line ends with 1, says where it is and what was published before it."""
    result = await kindred("publish", "catalog", "-", input=b'{"objectID":"a"}\n{"objectID":\n')

    assert 1 == result.exit_code
    assert "published 1 record to" in result.stderr
    assert "error: standard input:2: expected one JSON object a line" in result.stderr
    assert 1 == len(await arrived(connection, settings.topic_prefix + "catalog-changes"))


async def test_publish_stock_and_rules(kindred, connection, settings, tmp_path):
    """Levels and rules arrive; of a file with one wrong rule nothing does."""
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('[{"objectID": "r"}]')
    bad.write_text('[{"objectID": "s"}, {"objectID": "t", "conditions": {}}]')

    stock = await kindred("publish", "stock", "a=3", "b=")
    rules = await kindred("publish", "rules", str(good), "--delete", "old")
    deleted = await kindred("publish", "rules", "--delete", "older")
    refused = await kindred("publish", "rules", str(bad))
    missing = await kindred("publish", "rules", str(tmp_path / "none.json"))

    assert [0, 0, 0, 1, 1] == [each.exit_code for each in (stock, rules, deleted, refused, missing)]
    assert "published 2 rules to" in rules.output
    assert "published 1 deletion to" in deleted.output
    assert "bad.json, rule 2" in refused.stderr
    levels = await arrived(connection, settings.topic_prefix + "stock-levels")
    assert {b"a": b'{"quantity":3}', b"b": None} == {each.key: each.value for each in levels}
    there = await arrived(connection, settings.topic_prefix + "rule-changes")
    assert [(b"r", b'{"objectID":"r"}'), (b"old", None), (b"older", None)] == [(each.key, each.value) for each in there]


async def test_similar(kindred, connection, settings):
    """`similar` asks on the topic and prints the reply as a table or as JSON."""
    result = {"hits": [{"objectID": "b", "title": "Runner", "_score": 91.25}], "watermark": {}}

    async with responding(connection, settings, lambda _: [answer(result)]) as seen:
        table = await kindred("similar", "a", "-n", "3", "--timeout", "30")
        as_json = await kindred("similar", "a", "--json", "--timeout", "30")

    assert [0, 0] == [table.exit_code, as_json.exit_code], table.output + as_json.output
    assert "1\tb\tRunner\t91.2\t\t\t\t" in table.stdout.splitlines()
    assert result == orjson.loads(as_json.stdout)
    assert 3 == orjson.loads(seen[0].value)["maxRecommendations"]


async def test_similar_draws_its_answer(kindred, connection, settings, tmp_path):
    """`--sheet` draws the item and its hits, with the pictures that their links lead to as far as they can be had."""
    for name, colour in (("a.png", (200, 0, 0)), ("b.png", (0, 0, 200))):
        (tmp_path / name).write_bytes(encode_png(np.full((9, 9, 3), colour, np.uint8)))
    record = ItemRecord(msgspec.Raw(b'{"objectID":"a","image":"a.png"}'), Facts(), ("a.png",), 1, 5, Written(1, 1))
    topic = settings.topic_prefix + ITEM_RECORDS
    await write(connection, (topic, partition_of(b"a", SHARDS), Message(b"a", write_message(record))))
    hit = {"objectID": "b", "image": ["b.png"], "_score": 91.25, "_rankScore": 104.9, "on_sale": True, "price": 9.5}
    result = {"hits": [hit, {"objectID": "c", "image": "gone.png", "_score": 1.0}, {"objectID": "d", "image": 7}]}
    sheet = tmp_path / "sheet.png"

    async with responding(connection, settings, lambda _: [answer(result)]):
        told = await kindred(
            *("similar", "a", "--sheet", str(sheet), "--timeout", "30"), env={"KINDRED_IMAGE_ROOT": str(tmp_path)}
        )

        nowhere = await kindred("similar", "a", "--sheet", str(tmp_path / "no folder" / "s.png"), "--timeout", "30")

    assert told.exit_code == 0, told.output
    assert (1, f"error: {tmp_path}/no folder/s.png cannot be written: No such file or directory") == (
        nowhere.exit_code,
        nowhere.stderr.splitlines()[-1],
    )
    assert "1 without a picture, as gone.png: " in told.stderr.splitlines()[-1]
    page = decode(sheet.read_bytes(), 600)
    assert [True, True] == [bool((page == colour).all(axis=-1).any()) for colour in ((200, 0, 0), (0, 0, 200))]


@pytest.mark.parametrize("option", ["--colour", "--threshold", "--timeout"])
async def test_similar_takes_numbers_only(kindred, option):
    """What is no number is refused before anybody is asked, also where it compares with nothing."""
    told = await kindred("similar", "a", option, "nan")

    assert 2 == told.exit_code
    assert f"Invalid value for '{option}': 'nan' is not a number." in told.stderr


async def test_similar_fails(kindred, connection, settings):
    """An error reply, and none at all, end with 1 and say why."""
    async with responding(connection, settings, lambda _: [failure(404, f"no item {HOSTILE[:4]}")]):
        unknown = await kindred("similar", "a", "--timeout", "30")
    silent = await kindred("similar", "a", "--timeout", "0.1")

    assert [1, 1] == [unknown.exit_code, silent.exit_code]
    assert "error: 404: no item \\x1b[31" in unknown.stderr
    assert "error: 504: no reply within 0.1 s" in silent.stderr


async def write(connection: Connection, *messages: tuple[str, int, Message]) -> None:
    """Write messages onto their topics and partitions."""
    producer = await connection.started(connection.producer, "test")
    outbox = Outbox(producer)
    for topic, partition, message in messages:
        outbox.put(topic, partition, message)
    await outbox.deliver()
    await producer.stop()


async def test_item(kindred, connection, settings):
    """`item` shows the newest that the truths say of it, images with their errors, and nothing of others."""
    home = partition_of(b"a", SHARDS)
    failed = ImageEmbedding("2.jpg", error="HTTP 404", attempt=3)
    truths: list[tuple[str, ItemRecord | ItemStock | ItemEmbedding]] = [
        (ITEM_RECORDS, record_of(("old.jpg",))),
        (ITEM_RECORDS, record_of(("1.jpg", "2.jpg"))),
        (ITEM_STOCKS, ItemStock(3.0, 5, Written())),
        (ITEM_EMBEDDINGS, ItemEmbedding(2, "m@1", (VECTOR, failed))),
    ]
    prefix = settings.topic_prefix
    await write(
        connection,
        *((prefix + name, home, Message(b"a", write_message(message))) for name, message in truths),
        (prefix + ITEM_RECORDS, home, Message(b"other", write_message(record_of(("3.jpg",))))),
    )

    shown, as_json = await kindred("item", "a"), await kindred("item", "a", "--json")
    unknown = await kindred("item", "nobody")

    assert [0, 0, 1] == [each.exit_code for each in (shown, as_json, unknown)], shown.output
    assert "a can be recommended" in shown.stdout
    assert "2.jpg\tHTTP 404; given up\t3" in shown.stdout.splitlines()
    assert "flags now\tlow stock" in shown.stdout.splitlines()
    assert "\x1b" not in shown.stdout
    report = orjson.loads(as_json.stdout)
    assert report["recommendable"]
    assert {"quantity": 3.0, "at": 5} == report["stock"]
    assert [("1.jpg", True, None), ("2.jpg", False, "HTTP 404")] == [
        (each["link"], each["embedded"], each["error"]) for each in report["images"]
    ]
    assert "nobody is not recommended: the catalog has no record of it" in unknown.stdout


async def test_status(kindred, connection, settings):
    """`status` shows how far each group has come by topic, and the dead letters."""
    prefix = settings.topic_prefix
    await write(connection, *((prefix + "stock-levels", n % 2, Message(b"k", b"%d" % n)) for n in range(10)))
    await write(connection, (prefix + "dead-letters", 0, Message(b"k", b"v")))
    consumer = await connection.started(lambda: connection.consumer(f"{prefix}kindred-track"), "test")
    (tp,) = [each for each in await partitions(connection, prefix + "stock-levels") if each.partition == 0]
    consumer.assign([tp])
    await consumer.commit({tp: 3})
    await consumer.stop()

    shown, as_json = await kindred("status"), await kindred("status", "--json")

    assert [0, 0] == [shown.exit_code, as_json.exit_code], shown.output
    assert f"track\t{prefix}stock-levels\t3\t10\t7" in shown.stdout.splitlines()
    assert f"serve\t{prefix}similar-requests\tnever\t0\t0" in shown.stdout.splitlines()
    assert "dead letters: 1" in shown.stdout
    assert "worker: none answers at 127.0.0.1:1" in shown.stdout
    report = orjson.loads(as_json.stdout)
    assert (1, 10, None) == (report["deadLetters"], report["messages"][prefix + "stock-levels"], report["worker"])


async def partitions(connection, topic):
    from streams.kafka.log_reader import partitions_of

    return await partitions_of(connection, topic)


async def test_worker_page(kindred, connection):
    """What a worker's page says is shown leaf by leaf; a page that is not a worker's is as good as none."""
    pages: list[Any] = [
        {"ready": True, "stages": {"index": {"shards": {"7": {"items": 3, "seals": 1}}, "held": [0, 1]}}}
    ]
    keys = []

    async def page(request: web.Request) -> web.Response:
        keys.append(request.headers.get("x-algolia-api-key"))
        return web.json_response(pages[0])

    application = web.Application()
    application.router.add_get("/status", page)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        result = await kindred("status", env={"KINDRED_WEB": f"127.0.0.1:{port}", "KINDRED_SEARCH_KEY": "k"})
        not_ours = []
        for pages[0] in ([1], "x"):
            not_ours.append(await worker_page(Settings(web=f"127.0.0.1:{port}")))
    finally:
        await runner.cleanup()

    assert 0 == result.exit_code, result.output
    lines = result.stdout.splitlines()
    assert {"ready\tTrue", "7\t3\t\t\t\t\t\t1\t", "stages.index.held\t0, 1"} <= set(lines)
    assert ["k", None, None] == keys
    assert [None, None] == not_ours


def letter(
    topic: str, offset: int, key: bytes | None, value: bytes | None, at: int = 1_000, partition: int = 0
) -> Message:
    origin = Origin(topic, partition, offset, at, key, value, [("own", b"\xff"), ("null", None)])
    return dead_letter(origin, "track", BadEvent(f"price is {HOSTILE}"))


async def test_dead_letters_listed(kindred, connection, settings):
    """`dead-letters` lists the newest with reason and origin, harmless in any case, or as JSON lines."""
    dead = settings.topic_prefix + "dead-letters"
    empty = await kindred("dead-letters")
    letters = [letter("shop", number, b"\xff\x1b", None, 1_700_000_000_000) for number in range(5)]
    stranger = Message(b"k", b"v", [("kindred_offset", b"-1"), ("kindred_topic", b"\xff")])
    await write(connection, *((dead, 0, each) for each in (*letters, stranger)))

    shown, as_json = await kindred("dead-letters", "-n", "2"), await kindred("dead-letters", "--json")

    assert [0, 0, 0] == [each.exit_code for each in (empty, shown, as_json)], shown.output
    assert "There are no dead letters." in empty.stderr
    rows = [line.split("\t") for line in shown.stdout.splitlines()]
    assert ["2023-11-14 22:13:20 UTC", "track", "shop/0/4"] == rows[1][:3]
    assert "BadEvent: price is \\x1b[31mred" in rows[1][4]
    assert 3 == len(rows)
    assert "2 of 6 dead letters" in shown.stderr
    lines = [orjson.loads(line) for line in as_json.stdout.splitlines()]
    assert 6 == len(lines)
    assert ("shop", 0, {"own": "�", "null": ""}, False) == tuple(
        lines[0][n] for n in ("topic", "offset", "headers", "retried")
    )
    assert "no reason was told" == lines[5]["reason"]


async def test_dead_letters_retried(kindred, connection, settings):
    """--retry sends each back once, as it was, at its own time; not what was overtaken or is no event of ours."""
    prefix = settings.topic_prefix
    catalog, stock, dead = (prefix + name for name in ("catalog-changes", "stock-levels", "dead-letters"))
    await write(connection, *((catalog, 0, Message(b"b", b"%d" % n)) for n in range(3)))
    await write(connection, (stock, 0, Message(b"b", b"newer")))
    letters = [
        letter(catalog, 0, b"a", b"bad a"),
        letter(catalog, 1, b"b", b"overtaken"),
        letter(catalog, 2, b"b", b"the newest of b"),
        letter(catalog, 0, None, b"no key"),
        letter(stock, 0, b"b", None, partition=1),
        letter(stock, 0, b"b", b"its own time counts", partition=0),
        letter(catalog, 7, b"c", b"no such partition", partition=9),
        letter("a-stranger's-topic", 0, b"a", b"x"),
        letter(prefix + "item-records", 0, b"a", b"a stranger's truth"),
        Message(b"k", b"no origin"),
    ]
    await write(connection, *((dead, 0, each) for each in letters))

    first, again = await kindred("dead-letters", "--retry"), await kindred("dead-letters", "--retry", "--json")
    listed = await kindred("dead-letters", "--json")

    assert [1, 0, 0] == [each.exit_code for each in (first, again, listed)], first.output
    assert "6 dead letters were sent back" in first.stdout
    assert "1 were left out: a later event of the same key" in first.stdout
    assert 3 == first.stderr.count("which is no topic of our events")
    assert not await arrived(connection, prefix + "item-records")
    assert {"sent": 0, "overtaken": 0, "stranded": []} == orjson.loads(again.stdout)
    assert all(orjson.loads(line)["retried"] for line in listed.stdout.splitlines())
    back = [each for each in await arrived(connection, catalog) if each.headers]
    assert {b"bad a", b"the newest of b", b"no key", b"no such partition"} == {each.value for each in back}
    assert {0, partition_of(b"c", SHARDS)} == {each.partition for each in back}
    levels = [each for each in await arrived(connection, stock) if each.headers]
    assert {(1, None), (0, b"its own time counts")} == {(each.partition, each.value) for each in levels}
    for each in (*back, *levels):
        assert (1_000, (("own", b"\xff"), ("null", b""))) == (each.timestamp, each.headers)


def test_embedded_broker_command():
    """`broker` runs the embedded one with all topics made; other commands reach it, and SIGTERM ends it with 0."""
    command = [sys.executable, "-m", "streams.commands"]
    environment = os.environ | {"KINDRED_TOPIC_PREFIX": "shop-"}
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        [*command, "broker"], stdout=subprocess.PIPE, text=True, env=environment, cwd=root
    ) as process:
        try:
            assert process.stdout is not None
            assert "in memory" not in (first := process.stdout.readline())
            assert "forgets all" in first
            address = process.stdout.readline().strip().removeprefix("export KINDRED_BROKER=")

            status = run("status", KINDRED_BROKER=address, KINDRED_TOPIC_PREFIX="shop-", KINDRED_WEB="127.0.0.1:1")
            counts = asyncio.run(partition_counts(Connection(address, embedded=True), ["shop-rule-changes"]))

            assert 0 == status.exit_code, status.output
            assert f"broker {address}: the embedded broker, in memory" in status.stdout
            assert "missing" not in status.stdout
            assert {"shop-rule-changes": 1} == counts
        finally:
            process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(10)
