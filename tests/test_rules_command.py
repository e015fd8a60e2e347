"""`kindred rules` against a running worker: what it foretells is what happens, and nothing is written meanwhile."""

from __future__ import annotations

import asyncio
import io
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import orjson
import pytest
import pytest_asyncio
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadEvent
from models.rule_trial import SeenHit, compare
from models.rules import parse_rule
from streams import topics
from streams.commands.__main__ import main
from streams.reports.terminal import Terminal
from streams.trials.call import REQUESTS_MAX
from streams.trials.client import TrialOutcome
from streams.trials.messages import PinCount, RuleCount, TrialAnswer, TriedEntry
from streams.trials.recorded_requests import Recorded, file_requests, recorded_requests
from streams.trials.report import TrialReport
from streams.trials.rule_list import does_of, when_of
from streams.trials.table import show_trial
from tests.brokers import TestBroker
from tests.installation import Installation, Shop
from tests.storefront import ADMIN, SEARCH, item_id, storefront
from tests.waiting import wait_until

TRY = "/1/indexes/items/looking-similar/recommend/rules/try"
Kindred = Callable[..., Awaitable[Result]]


@pytest.fixture(scope="module")
def installation(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with storefront(broker, tmp_path_factory.mktemp("trial")) as installation:
        yield installation


@pytest_asyncio.fixture
async def shop(installation: Installation) -> AsyncIterator[Shop]:
    async with installation.shop() as shop:
        yield shop


@pytest.fixture
def kindred(installation: Installation) -> Kindred:
    """Run a command beside the test's own loop."""

    async def run(*arguments: str, **settings: str) -> Result:
        web = f"127.0.0.1:{installation.workers[0].port}"
        environment = installation.environment | {"KINDRED_WEB": web} | settings
        return await asyncio.to_thread(CliRunner(env=environment).invoke, main, arguments, catch_exceptions=False)

    return run


def rules_file(folder: Path, *rules: dict[str, Any]) -> str:
    path = folder / "rules.json"
    path.write_bytes(orjson.dumps(list(rules)))
    return str(path)


def requests_file(folder: Path, *bodies: dict[str, Any]) -> str:
    path = folder / "asked.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, bodies)))
    return str(path)


CANDIDATE: list[dict[str, Any]] = [
    {
        "objectID": "steer",
        "condition": {"filters": "price < 12"},
        "consequence": {
            "promote": [
                {"objectID": item_id(20), "position": 0},
                {"objectID": item_id(21), "position": 7},
                {"objectID": "never-there", "position": 1},
                {"objectID": item_id(4), "position": 2},
            ],
            "hide": [{"objectID": item_id(4)}],
            "params": {"boosts": [{"filters": "price > 15", "factor": 2}]},
        },
    },
    {"objectID": "app", "condition": {"context": "app"}, "consequence": {"hide": [{"objectID": item_id(2)}]}},
    {"objectID": "past", "validity": [{"until": 1_000}], "consequence": {"hide": [{"objectID": item_id(3)}]}},
]


async def test_what_is_foretold_is_what_happens(shop: Shop, kindred: Kindred, tmp_path: Path) -> None:
    """Requests recorded on the topic, a candidate tried, the same file published: the same hits enter and leave."""
    bodies: list[dict[str, Any]] = [
        {"objectID": item_id(number), "maxRecommendations": 5 + number % 4} for number in range(16)
    ]
    bodies[3]["queryParameters"] = {"ruleContexts": ["app"]}
    bodies.append({"objectID": "nobody"})
    before = await shop.client.ask_many([*bodies, bodies[0], bodies[0]], timeout_s=20)
    offsets = await rule_offsets(shop)
    source = rules_file(tmp_path, *CANDIDATE)

    result = await kindred("rules", "try", source, "--last", "1h", "--limit", "19", "--json")

    assert result.exit_code == 0, result.output
    report = orjson.loads(result.stdout)
    assert await rule_offsets(shop) == offsets, "nothing is published"
    assert {each["objectID"]: (each["state"], bool(each["never"])) for each in report["rules"]["tried"]} == {
        "steer": ("new", False),
        "app": ("new", False),
        "past": ("new", True),
    }
    assert (await kindred("publish", "rules", source)).exit_code == 0
    await wait_until(lambda: applied(shop, "steer"), 10, "the rules in force")
    after = await shop.client.ask_many([*bodies, bodies[0], bodies[0]], timeout_s=20)
    entering, leaving = Counter[str](), Counter[str]()
    changed = 0
    for one, other in zip(before, after, strict=True):
        if isinstance(one, Exception) or isinstance(other, Exception):
            continue
        were, are = ([hit["objectID"] for hit in each["hits"]] for each in (one, other))
        changed += were != are
        entering.update(set(are) - set(were))
        leaving.update(set(were) - set(are))
    assert changed > 10
    assert report["requests"]["taken"] == 19
    assert {each["objectID"]: each["count"] for each in report["entering"]} == entering
    assert {each["objectID"]: each["count"] for each in report["leaving"]} == leaving
    assert report["changed"] == changed
    assert report["requests"]["failed"] == [{"status": 404, "message": "item 'nobody' is not known", "count": 1}]
    found = {(pin["objectID"], pin["fate"]) for pin in report["pins"]}
    assert {("never-there", "unknown"), (item_id(4), "hidden"), (item_id(20), "placed")} <= found
    assert (item_id(21), "beyond") in found, "place 7 of fewer hits"
    means = []
    for one, other in zip(before, after, strict=True):
        if not isinstance(one, Exception) and not isinstance(other, Exception):
            sides = [[hit["_score"] for hit in each["hits"][:10]] for each in (one, other)]
            means.append(sum(sides[0]) / len(sides[0]) - sum(sides[1]) / len(sides[1]))
    assert report["scoreGivenUp"] == pytest.approx(sum(means) / len(means), abs=0.01)

    again = orjson.loads((await kindred("rules", "try", source, "--json")).stdout)
    assert (again["changed"], {each["state"] for each in again["rules"]["tried"]}) == (0, {"same"})
    for each in CANDIDATE:
        assert (await kindred("publish", "rules", "--delete", each["objectID"])).exit_code == 0


async def rule_offsets(shop: Shop) -> list[int]:
    return [record.offset for record in await shop.read(topics.RULE_CHANGES)]


async def applied(shop: Shop, rule_id: str) -> bool:
    answer = await shop.client.ask({"objectID": item_id(0), "maxRecommendations": 1}, timeout_s=10)
    return rule_id in answer["appliedRules"]


async def test_only_deletions_and_another_time(kindred: Kindred, shop: Shop, tmp_path: Path) -> None:
    """`--only` leaves out what is in force, `--delete` takes out, `--at` opens windows; requests come from a file."""
    asked = requests_file(tmp_path, {"objectID": item_id(0)}, {"requests": [{"objectID": item_id(1)}] * 2})
    hidden = (await shop.ids(item_id(0)))[0]
    hide = {"objectID": "hide-one", "consequence": {"hide": [{"objectID": hidden}]}}
    await shop.send(topics.RULE_CHANGES, "hide-one", hide)
    await wait_until(lambda: applied(shop, "hide-one"), 10, "the rule in force")

    async def tried(*arguments: str) -> dict[str, Any]:
        result = await kindred("rules", "try", *arguments, "--requests", asked, "--json")
        assert result.exit_code == 0, result.output
        return dict(orjson.loads(result.stdout))

    windowed = rules_file(tmp_path, hide | {"validity": [{"from": 4_000_000_000}], "objectID": "hide-one"})
    gone = await tried("--delete", "hide-one", "--delete", "nothing")
    assert {each["objectID"]: each["state"] for each in gone["rules"]["tried"]} == {
        "hide-one": "deleted",
        "nothing": "absent",
    }
    assert (gone["requests"]["taken"], gone["before"]["answers"]) == (2, 3)
    assert hidden in {each["objectID"] for each in gone["entering"]}
    empty = await tried("--only")
    assert (empty["rules"]["dropped"], empty["entering"]) == (1, gone["entering"])
    later = await tried(windowed)
    assert later["rules"]["tried"][0]["never"] == "none of its windows is open"
    assert later["entering"] == gone["entering"]
    assert (await tried(windowed, "--at", "2100-01-01"))["changed"] == 0

    listed = await kindred("rules", "list", "--json")
    rows = {each["objectID"]: each for each in orjson.loads(listed.stdout)["rules"]}
    assert list(rows) == ["default", "hide-one"], "by precedence: the built-in rule steers, the other hides"
    assert rows["hide-one"]["applied"] > 0
    assert rows["default"]["builtIn"]
    assert f"hides {hidden}" in (await kindred("rules", "list")).stdout
    await shop.send(topics.RULE_CHANGES, "hide-one", None)
    await wait_until(lambda: forgotten(shop, "hide-one"), 10, "the rule gone")


async def forgotten(shop: Shop, rule_id: str) -> bool:
    return not await applied(shop, rule_id)


async def test_rules_that_cannot_be_understood(kindred: Kindred, tmp_path: Path) -> None:
    """The others are tried, each bad one is told with its reason, and the exit code says that it was not all."""
    asked = requests_file(tmp_path, {"objectID": item_id(0)})
    bad = {"objectID": "bad", "consequence": {"params": {"filters": "price <"}}}
    good = {"objectID": "good", "consequence": {"hide": [{"objectID": item_id(1)}]}}
    result = await kindred("rules", "try", rules_file(tmp_path, bad, good, {"objectID": 5}), "--requests", asked)

    assert result.exit_code == 1
    assert "rule 1: rule 'bad': consequence.params.filters at position" in result.stdout
    assert 'rule 3: expected a text as "objectID"' in result.stdout
    assert "good\tnew\t0\t1" in result.stdout

    twice = b'[\n {"objectID": "twice", "enabled": true, "enabled": false}]'
    for content, words in (
        (b'{"objectID":\n', "expected a rule or a list of rules as JSON, got unexpected end of data: line 2 column 1"),
        (orjson.dumps([bad]), ", rule 1: rule 'bad': consequence.params.filters at position 8 (the end): expected a"),
        (twice, ", rule 1: rule 'twice': expected each key once, but 'enabled' stands twice"),
        (None, " cannot be read: No such file or directory"),
    ):
        broken = tmp_path / "broken.json"
        broken.unlink(missing_ok=True)
        if content is not None:
            broken.write_bytes(content)
        result = await kindred("rules", "try", str(broken), "--requests", asked)
        assert (result.exit_code, words in result.stderr) == (1, True), result.output
        assert str(broken) in result.stderr
        assert not re.search(r"error: \d", result.stderr), "no answer of a worker's, so no status"


async def test_nothing_to_replay_or_nobody_to_ask(kindred: Kindred, shop: Shop, tmp_path: Path) -> None:
    """Each says in one line what is missing and what to do."""
    source = rules_file(tmp_path, CANDIDATE[0])
    await shop.client.ask({"objectID": item_id(0)}, timeout_s=10)
    asked = requests_file(tmp_path, {"objectID": item_id(0)})
    empty, broken = tmp_path / "empty.jsonl", tmp_path / "broken.jsonl"
    empty.write_bytes(b"\n\n")
    broken.write_bytes(b'{"objectID": "a"}\n{"objectID": ')
    for arguments, settings, words in (
        ([source, "--last", "0.001s"], {}, "nobody asked on"),
        ([source, "--requests", str(empty)], {}, "no requests in"),
        ([source, "--requests", str(broken)], {}, "broken.jsonl:2: expected JSON"),
        ([source, "--requests", str(tmp_path / "none")], {}, "cannot be read"),
        ([str(tmp_path / "none")], {}, "cannot be read"),
        ([source, "--requests", asked], {"KINDRED_WEB": "127.0.0.1:1"}, "no worker answers at 127.0.0.1:1"),
        ([source, "--requests", asked], {"KINDRED_ADMIN_KEY": "wrong"}, "API key"),
        ([source, "--requests", asked], {"KINDRED_ADMIN_KEY": ""}, "admin key"),
        ([source, "--requests", asked], {"KINDRED_INDEX": "other"}, "index 'other' is not here"),
    ):
        result = await kindred("rules", "try", *arguments, **settings)
        assert (result.exit_code, words in result.stderr) == (1, True), (arguments, settings, result.output)
    for wrong in ([], [source, "--last", "1 year"], [source, "--at", "soon"], ["-", "--requests", "-"]):
        assert (await kindred("rules", "try", *wrong)).exit_code == 2
    assert (await kindred("rules", "try", source, "--last", "1h", "--requests", asked)).exit_code == 2


# What is recorded.


async def test_the_newest_requests_are_taken(broker: TestBroker, topic_prefix: str, tmp_path: Path) -> None:
    """By time over all partitions, equal ones counted, what is no JSON told; an older one is not looked at."""
    installation = Installation(broker.bootstrap, topic_prefix, tmp_path, shards="3")
    settings = installation.settings()
    await broker.create_topics({each.name: each.partitions for each in topics.topic_table(settings)})
    async with installation.shop() as shop:
        connection = shop.connection.on("mockCluster") if broker.embedded else shop.connection
        assert (await recorded_requests(connection, settings, 0, 5)).taken == 0
        start_ms = 1_700_000_000_000
        for number in range(12):
            body: Any = b"{broken" if number == 11 else {"objectID": f"i{number // 2}"}
            await shop.send(
                topics.SIMILAR_REQUESTS, None, body, partition=number % 3, timestamp_ms=start_ms + 1_000 * number
            )

        every = await recorded_requests(connection, settings, 0, 100)
        newest = await recorded_requests(connection, settings, start_ms + 3_000, 4)

    assert (every.taken, every.bodies.total(), every.broken.total(), every.oldest_ms) == (12, 11, 1, start_ms)
    assert newest.taken == 4
    assert list(newest.bodies.items()) == [(b'{"objectID":"i5"}', 1), (b'{"objectID":"i4"}', 2)]
    assert newest.oldest_ms == start_ms + 8_000
    assert newest.there in (9, None)


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 40))
def test_requests_of_a_file(numbers: list[int], limit: int) -> None:
    """The first so many lines, equal ones counted, blank ones left out."""
    lines = [orjson.dumps({"objectID": str(number)}) for number in numbers]
    read = file_requests([part for line in lines for part in (line + b"\n", b"\n")], "f", limit)

    assert read.bodies == Counter(lines[:limit])
    assert (read.taken, read.there) == (len(lines[:limit]), len(lines))


@pytest.mark.parametrize("line", [b"[]", b"null", b'{"a": 1, "a": 2}', b"\xff", b"[" * 5_000, b'{"a": NaN}'])
def test_a_line_that_is_no_request_is_named(line: bytes) -> None:
    """The file and the line."""
    with pytest.raises(BadEvent, match="f:2: expected"):
        file_requests([b"{}", line], "f", 10)


# The call itself.


async def test_what_comes_over_http_is_bounded(installation: Installation) -> None:
    """Wrong shapes, hostile sizes and keys are the caller's mistakes; entries fail one by one; one trial at a time."""
    web = f"http://127.0.0.1:{installation.workers[0].port}"
    deep = b'{"requests": [{"body": {"filters": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}]}"
    commas = b'{"requests": [{"body": {"objectIDs": [' + b",".join([b"1"] * 150_000) + b"]}}]}"
    hits = {"body": {"objectID": item_id(0), "maxRecommendations": 20}}
    async with aiohttp.ClientSession(web) as session:

        async def call(body: Any, key: str = ADMIN) -> tuple[int, Any]:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            async with session.post(TRY, data=data, headers={"x-algolia-api-key": key}) as answer:
                return answer.status, await answer.json(content_type=None)

        wrong: list[Any] = [
            b"[]",
            b"{",
            b"\xff",
            deep,
            {"rule": []},
            {"rules": {}},
            {"requests": [hits] * (REQUESTS_MAX + 1)},
            {"requests": [{"body": {}, "times": 0}]},
            {"at": -5},
            {"deleted": ["a"] * 30_000},
        ]
        for body in wrong:
            status, answer = await call(body)
            assert (status, bool(answer["message"])) == (400, True), answer
        assert (await call(b"x" * 9_000_000))[0] == 413
        for key in (SEARCH, "", "wrong"):
            assert (await call({}, key))[0] == 403

        status, answer = await call(commas)
        assert (status, answer["done"], answer["entries"][0]["status"]) == (200, 1, 400)
        assert "100,000 values" in answer["entries"][0]["message"]
        status, answer = await call(
            {"requests": [hits, {"body": 5}, {"body": {"objectID": ["x"]}}, hits], "rules": [7]}
        )
        assert (status, answer["done"]) == (200, 4)
        assert [each.get("status", 200) for each in answer["entries"]] == [200, 400, 400, 200]
        assert len(answer["refused"]) == 1
        many = {"requests": [hits | {"body": hits["body"] | {"threshold": n / 10}} for n in range(300)], "rules": []}
        together = await asyncio.gather(*(call(many) for _ in range(4)))
        statuses = [status for status, _ in together]
        assert 200 in statuses
        assert set(statuses) <= {200, 429}


async def test_images_are_asked_for_again(installation: Installation, shop: Shop) -> None:
    """A request by image is replayed too; one whose image cannot be used fails alone."""
    link = (await shop.similar(item_id(1), maxRecommendations=1))[0]["image"]
    bodies: list[dict[str, Any]] = [{"image": link}, {"image": "file:///etc/passwd"}, {"objectID": item_id(1)}]
    call = {"requests": [{"body": body} for body in bodies]}
    web = f"http://127.0.0.1:{installation.workers[0].port}"
    async with (
        aiohttp.ClientSession(web) as session,
        session.post(TRY, json=call, headers={"x-algolia-api-key": ADMIN}) as answer,
    ):
        entries = (await answer.json(content_type=None))["entries"]

    assert sorted(entry.get("status", 200) for entry in entries) == [200, 200, 422]


# The report.


HOSTILE = "\x1b[31mred\x07[bold]x[/bold]\r\u202e\n"


def hostile_report() -> TrialReport:
    """A report in which every text is a stranger's."""
    rule = parse_rule("r" + HOSTILE, b"{}")
    compared = compare([SeenHit(HOSTILE, 5)], [SeenHit("b" + HOSTILE, 6)])
    entries = [TriedEntry(HOSTILE, 3, compared), TriedEntry(HOSTILE, 1, None, 404, HOSTILE)]
    pin = PinCount(rule.rule_id, HOSTILE, 3, "hidden", HOSTILE, 3)
    states = {rule.rule_id: "new", "gone": "deleted"}
    counts = {rule.rule_id: RuleCount(0, 3, 3)}
    answer = TrialAnswer(2, 5, 7, 1, 2, states, 0, [], [HOSTILE], entries, counts, [pin], [], 3)
    outcome = TrialOutcome()
    outcome.add(answer)
    outcome.add(msgspec.structs.replace(answer, rules_offset=8))
    recorded = Recorded(Counter({b"{}": 3}), Counter({HOSTILE: 1}), 4, 9)
    return TrialReport(HOSTILE, {rule.rule_id: rule}, ["gone"], [HOSTILE], recorded, HOSTILE, outcome)


@pytest.mark.parametrize("for_people", [True, False])
def test_the_table_is_harmless(for_people: bool) -> None:
    """Whatever ids and reasons say, no control character reaches the terminal but rich's own."""
    shown = io.StringIO()
    terminal = Terminal(shown, io.StringIO())
    if for_people:
        terminal._console._force_terminal = True
        terminal._console._width = 100
        terminal._console._color_system = None
    show_trial(terminal, hostile_report())
    text = shown.getvalue()

    assert "6 of 6 answers change (100.0%)" in text
    assert "rules changed meanwhile" in text
    assert "\\x1b[31mred" in text.replace("\n", "")
    assert not set(text.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[2m", "")) & set("\x1b\x07\r\u202e")
    assert orjson.loads(orjson.dumps(hostile_report().as_json()))["changed"] == 6


def test_a_rule_in_words() -> None:
    """To what it applies and what it does, each part once."""
    rule = parse_rule(
        "r",
        orjson.dumps(
            {
                "enabled": False,
                "condition": {"filters": "category:shoes", "context": "m"},
                "validity": [{"from": 0}, {"until": 86_400}],
                "consequence": {
                    "promote": [{"objectID": f"i{number}", "position": number} for number in range(5)],
                    "hide": [{"objectID": "h"}],
                    "params": {
                        "filters": "price > 2",
                        "optionalFilters": ["on_sale:true<score=3>"],
                        "automaticFacetFilters": [{"facet": "brand", "negative": True}],
                    },
                },
            }
        ),
    )

    assert when_of(rule) == (
        "disabled; context m; category:shoes; from 1970-01-01 00:00:00 UTC; until 1970-01-02 00:00:00 UTC"
    )
    assert does_of(rule) == (
        "pins i0 to 0, i1 to 1, i2 to 2 and 2 more; hides h; only price > 2; not the same brand; "
        "on_sale:true<score=3> x1.3"
    )
    assert (when_of(parse_rule("e", b"{}")), does_of(parse_rule("e", b"{}"))) == ("always", "nothing")
