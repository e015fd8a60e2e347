"""The web server and the gateway without Kafka: limits, keys, CORS, errors, and bodies that mean harm."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from models.errors import BadRequest, Unavailable
from models.rules import RuleBook
from streams.gateway.recommendations import IMAGE_CALLS_MAX, Gateway
from streams.gateway.rules import RuleCalls
from streams.metrics import Metrics
from streams.serve.answer_queue import AnswerQueue
from streams.serve.answerer import Answerer
from streams.settings import BadSetting, Settings
from streams.web.admission import BURST_S, REFUSAL_S_MAX, REFUSALS_PER_S, Refusals, Share, Slots
from streams.web.answers import Overloaded
from streams.web.bodies import VALUES_MAX
from streams.web.cors import from_loopback
from streams.web.health import Health
from streams.web.keys import Keys
from streams.web.server import Web
from tests.hostile import FILTERS, LARGE, MISTAKES
from tests.installation import free_port
from tests.waiting import wait_until

RECOMMEND = "/1/indexes/*/recommendations"
QUERIES = "/1/indexes/*/queries"
RULES = "/1/indexes/items/looking-similar/recommend/rules/"


class NoItems:
    """The shards of a worker with an empty catalog."""

    shards: Mapping[int, Any] = {}
    mean = None
    dimension = 4
    loaded = True

    def lags_ms(self, now_ms: int) -> dict[str, int]:
        return {}


class NoRules:
    """A rule reader with nothing to read."""

    def __init__(self) -> None:
        self.book = RuleBook()
        self.loaded = True
        self.stored: dict[str, Any] = {}
        self.unusable: set[str] = set()
        self.next_offset = 0

    async def reached(self, offset: int, wait_s: float) -> bool:
        return True


class Server:
    """A web server with a gateway on it, and a client."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(web=f"127.0.0.1:{free_port()}", **settings)
        self.metrics = Metrics()
        self.web = Web(self.settings, self.metrics)
        self.rules = NoRules()
        self.index = NoItems()
        answerer = Answerer(self.settings, lambda: 1, self.index, SimpleNamespace(), self.rules.book)  # type: ignore
        self.gateway = Gateway(self.settings, answerer, self.rules)  # type: ignore
        self.gateway.register(self.web)
        RuleCalls(self.gateway).register(self.web)
        self.health = Health(self.metrics, Keys(self.settings), "writer")
        self.health.register(self.web)

    async def __aenter__(self) -> Server:
        await self.web.start()
        self.session = aiohttp.ClientSession(f"http://{self.settings.web}", auto_decompress=False)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.session.close()
        await self.web.stop()

    async def ask(
        self, method: str, path: str, body: bytes | str | object = None, **headers: str
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON and headers of an answer."""
        data = body if isinstance(body, bytes | str | None) else json.dumps(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, path, data=data, headers=sent) as answer:
            raw = await answer.read()
            if answer.headers.get("Content-Encoding") == "gzip":
                raw = gzip.decompress(raw)
            return answer.status, json.loads(raw) if raw else None, answer.headers


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as server:
        yield server


async def raw_answer(server: Server, text: bytes) -> bytes:
    """What the server writes when it is sent this, until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.settings.web_port)
    writer.write(text)
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


# Statuses


async def test_an_unknown_item_alone_is_a_200(server: Server) -> None:
    """Lists of seen items hold deleted ones: the entry says 404 beside its empty hits, the call itself is fine."""
    status, body, headers = await server.ask("POST", RECOMMEND, {"requests": [{"objectID": "nobody"}]})

    assert status == 200
    assert body["results"][0]["hits"] == []
    assert body["results"][0]["status"] == 404
    assert "nobody" in body["results"][0]["message"]
    assert headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([{"objectID": "a", "queryParameters": {"filters": "x AND"}}], 400),
        ([{"objectID": 7}, {"nothing": 1}], 400),
        ([{"objectID": "a", "sameAs": ["category"]}, {"objectID": 7}], 200),
        ([{"objectID": "a", "indexName": "other"}], 404),
        ([{"objectID": "a", "indexName": "other"}, {"objectID": 7}], 400),
        ([], 400),
        ([{"objectID": "a", "model": "related-products"}], 400),
    ],
)
async def test_the_status_of_a_call(server: Server, entries: list[Any], expected: int) -> None:
    """Only where every entry has the caller's mistake the call fails, with the first message."""
    status, body, _ = await server.ask("POST", RECOMMEND, {"requests": entries})

    assert status == expected
    if expected == 200:
        assert len(body["results"]) == len(entries)
        assert all(result["hits"] == [] for result in body["results"])
    else:
        assert set(body) == {"message", "status"}
        assert body["status"] == expected
        assert body["message"]


async def test_a_mixed_call_answers_the_good_entries(server: Server) -> None:
    """One result for each entry, in their order; a bad one has its message beside its empty hits."""
    entries = [{"objectID": "a", "queryParameters": {"filters": "x AND"}}, {"objectID": "b"}]
    status, body, _ = await server.ask("POST", RECOMMEND, {"requests": entries})

    assert status == 200
    assert [400, 404] == [result["status"] for result in body["results"]]
    assert "filters" in body["results"][0]["message"]


async def test_one_request_gets_one_result(server: Server) -> None:
    """A body as on the topic, one request, is answered with one result."""
    status, body, _ = await server.ask("POST", RECOMMEND, {"objectID": "b"})

    assert status == 200
    assert body["hits"] == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json", "nonsense"])
async def test_the_content_type_does_not_matter(server: Server, kind: str) -> None:
    """Algolia's clients call their JSON text, or a form."""
    status, _, _ = await server.ask("POST", RECOMMEND, {"requests": [{"objectID": "b"}]}, content_type=kind)

    assert status == 200


async def test_not_ready_is_a_503(server: Server) -> None:
    """While shards or rules are loading, and while it stops, a worker says so and when to come again."""
    server.index.loaded = False
    status, body, headers = await server.ask("POST", RECOMMEND, {"requests": [{"objectID": "b"}]})
    assert (503, "1") == (status, headers["Retry-After"])
    assert "loading" in body["message"]

    server.index.loaded, server.rules.loaded = True, False
    assert 503 == (await server.ask("POST", RECOMMEND, {"requests": [{"objectID": "b"}]}))[0]
    assert 503 == (await server.ask("GET", RULES + "a"))[0]

    server.rules.loaded, server.gateway.stopping = True, True
    assert 503 == (await server.ask("POST", RECOMMEND, {"requests": [{"objectID": "b"}]}))[0]
    assert 503 == (await server.ask("GET", RULES + "a"))[0]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/1/nothing", 404),
        ("GET", "/1/", 404),
        ("GET", RECOMMEND, 405),
        ("PUT", QUERIES, 405),
        ("GET", "/nothing", 404),
        ("GET", "/1/indexes/%FF/looking-similar/task/1", 400),
        ("GET", "/1/indexes/other/looking-similar/task/1", 404),
        ("GET", "/1/indexes/items/related-products/task/1", 404),
        ("GET", "/1/indexes/items/looking-similar/task/abc", 404),
        ("GET", RULES, 404),
        ("GET", RULES + "batch", 404),
        ("GET", RULES + "a/b", 404),
    ],
)
async def test_errors_are_json(server: Server, method: str, path: str, expected: int) -> None:
    """Whatever is asked, the answer is JSON; of the gateway's, a page of another origin can read it."""
    status, body, headers = await server.ask(method, path)

    assert status == expected
    assert body["status"] == expected
    assert ("*" if path.startswith("/1/") else None) == headers.get("Access-Control-Allow-Origin")


async def test_the_workers_own_pages_are_not_for_other_origins(server: Server) -> None:
    """What a worker tells of itself is open on loopback, but not to any site that a browser there shows."""
    for path in ("/livez", "/readyz", "/status"):
        assert "Access-Control-Allow-Origin" not in (await server.ask("GET", path, origin="https://evil.example"))[2]


async def test_an_id_may_have_a_slash(server: Server) -> None:
    """A percent-encoded slash, space, percent sign or letter is part of the id and does not part the path."""
    for encoded, name in {
        "a%2Fb": "a/b",
        "a%2fb": "a/b",
        "a%20b": "a b",
        "50%25": "50%",
        "%C3%A9": "é",
        "*": "*",
    }.items():
        status, body, _ = await server.ask("GET", RULES + encoded)

        assert status == 404
        assert repr(name) in body["message"] or f'"{name}"' in body["message"]


async def test_what_is_no_http_is_told_so(server: Server) -> None:
    """Garbage and endless request lines get an error in the same form, and do not fill the log."""
    for text in (b"\x16\x03\x01 hello\r\n\r\n", b"GET /1/" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n"):
        answer = await raw_answer(server, text)

        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
        assert json.loads(body)["status"] == 400
        assert b"Access-Control-Allow-Origin: *" in head


async def test_a_bug_is_a_500_with_its_reason_in_the_log_only(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of ours is JSON too; its traceback stays here, and calls that shared its slice are answered."""

    def broken(entries: list[Any], images: Any) -> list[Any]:
        if any(entry.items[0].item_id == "cursed" for entry in entries):
            raise RuntimeError("secret")
        return plain(entries, images)

    plain = server.gateway.answerer.answer
    server.gateway.answerer.answer = broken  # type: ignore
    answers = await asyncio.gather(
        *(server.ask("POST", RECOMMEND, {"requests": [{"objectID": name}]}) for name in ("good", "cursed", "fine"))
    )

    assert [200, 500, 200] == [status for status, _, _ in answers]
    assert "secret" not in json.dumps(answers[1][1])
    assert "secret" in caplog.text


# Keys


@pytest.mark.parametrize("where", ["header", "query"])
async def test_the_search_key_reads_and_the_admin_key_writes(where: str) -> None:
    """Keys come as headers or in the URL; a wrong or missing one is a 403, and the search key is kept from rules."""
    async with Server(search_key="s", admin_key="a") as server:

        async def status(method: str, path: str, key: str | None) -> int:
            headers = {"x_algolia_api_key": key} if key is not None and where == "header" else {}
            query = (
                f"?x-algolia-api-key={key}&x-algolia-application-id=X" if key is not None and where == "query" else ""
            )
            code, body, answered = await server.ask(method, path + query, {"requests": [{"objectID": "b"}]}, **headers)
            assert answered["Access-Control-Allow-Origin"] == "*"
            assert code < 400 or body["status"] == code
            return code

        for path in (RECOMMEND, QUERIES):
            assert [200, 200, 403, 403, 403] == [await status("POST", path, key) for key in ("s", "a", "x", "", None)]
        assert [403, 404, 403, 403] == [await status("GET", RULES + "r", key) for key in ("s", "a", "x", None)]
        assert [403, 403, 403] == [await status("POST", RULES + "search", key) for key in ("s", "x", None)]
        assert [200, 200, 403] == [
            await status("GET", "/1/indexes/items/looking-similar/task/1", key) for key in ("s", "a", None)
        ]


async def test_without_an_admin_key_nobody_writes() -> None:
    """With a search key alone the rules are closed."""
    async with Server(search_key="s") as server:
        assert 403 == (await server.ask("GET", RULES + "r", x_algolia_api_key="s"))[0]
        assert 403 == (await server.ask("GET", RULES + "r"))[0]


async def test_without_keys_a_foreign_page_may_not_touch_rules(server: Server) -> None:
    """A browser on the developer's machine shows pages of others: they may ask, but not write."""
    assert 403 == (await server.ask("GET", RULES + "r", origin="https://evil.example"))[0]
    assert 403 == (await server.ask("GET", RULES + "r", origin="null"))[0]
    assert 404 == (await server.ask("GET", RULES + "r", origin="http://localhost:3000"))[0]
    assert 404 == (await server.ask("GET", RULES + "r"))[0]
    body = {"requests": [{"objectID": "b"}]}
    assert 200 == (await server.ask("POST", RECOMMEND, body, origin="https://shop.example"))[0]


def test_origins_of_this_machine() -> None:
    """Names that only look like loopback are not."""
    assert all(map(from_loopback, ("http://localhost", "https://127.0.0.1:8080", "http://[::1]:3", "http://127.8.8.8")))
    assert not any(map(from_loopback, ("http://localhost.evil.example", "http://127.0.0.1.example", "null", "file://")))


def request_with(**headers: str) -> Any:
    return SimpleNamespace(
        headers={name.replace("_", "-"): value for name, value in headers.items()}, rel_url=SimpleNamespace(query={})
    )


def test_one_key_for_both_is_refused() -> None:
    """Browsers get the search key; the same as admin key would let every visitor write rules."""
    with pytest.raises(BadSetting, match="KINDRED_ADMIN_KEY: expected another key than KINDRED_SEARCH_KEY") as refused:
        Settings.read({"KINDRED_SEARCH_KEY": "same-4711", "KINDRED_ADMIN_KEY": "same-4711"})

    assert "4711" not in str(refused.value)
    Settings.read({"KINDRED_SEARCH_KEY": "one", "KINDRED_ADMIN_KEY": "other"})


def test_pages_want_the_admin_key_where_others_can_reach_them() -> None:
    """`/status` and `/metrics` are open on loopback; elsewhere they want the admin key, also as a bearer token."""
    inside = Keys(Settings(search_key="s", admin_key="a"))
    inside.check_page(request_with())
    outside = Keys(Settings(web="0.0.0.0:6066", search_key="s", admin_key="a"))
    outside.check_page(request_with(Authorization="Bearer a"))
    outside.check_page(request_with(**{"x-algolia-api-key": "a"}))

    for headers in ({}, {"Authorization": "Bearer s"}, {"x-algolia-api-key": "s"}, {"Authorization": "Basic a"}):
        with pytest.raises(BadRequest) as refused:
            outside.check_page(request_with(**headers))
        assert refused.value.status == 403


# Browsers


async def test_preflights_need_no_key() -> None:
    """OPTIONS carries no key: it is answered for every path, for the headers it asks for, and may be remembered."""
    async with Server(search_key="s", admin_key="a") as server:
        asked = "x-algolia-api-key,x-algolia-application-id"
        for path in (RECOMMEND, RULES + "a%2Fb"):
            status, _, headers = await server.ask(
                "OPTIONS",
                path,
                origin="http://shop.example",
                access_control_request_method="DELETE",
                access_control_request_headers=asked,
            )

            assert status == 204
            assert headers["Access-Control-Allow-Origin"] == "*"
            assert headers["Access-Control-Allow-Headers"] == asked
            assert "DELETE" in headers["Access-Control-Allow-Methods"]
            assert int(headers["Access-Control-Max-Age"]) > 600
        _, _, headers = await server.ask("OPTIONS", RECOMMEND, access_control_request_headers="no header; at all")
        assert "no header" not in headers["Access-Control-Allow-Headers"]


# Bodies


async def test_packed_bodies_and_answers(server: Server) -> None:
    """gzip in both directions; a small answer is not worth it."""
    entries = {"requests": [{"objectID": f"item-{number}"} for number in range(50)]}
    packed = gzip.compress(json.dumps(entries).encode())
    status, body, headers = await server.ask(
        "POST", RECOMMEND, packed, content_encoding="gzip", accept_encoding="br, gzip;q=0.5"
    )
    assert status == 200
    assert len(body["results"]) == 50
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Vary"] == "Accept-Encoding"

    for accepted in ("identity", "gzip;q=0", "br", "gzip;q=x"):
        _, _, headers = await server.ask("POST", RECOMMEND, entries, accept_encoding=accepted)
        assert "Content-Encoding" not in headers
    _, _, headers = await server.ask("POST", RECOMMEND, {"objectID": "b"}, accept_encoding="gzip")
    assert "Content-Encoding" not in headers
    assert (
        200 == (await server.ask("POST", RECOMMEND, zlib.compress(b'{"objectID":"a"}'), content_encoding="deflate"))[0]
    )


HOSTILE: dict[str, tuple[bytes, dict[str, str], int]] = {
    **{name: (body, {}, 400) for name, body in MISTAKES.items()},
    "10 MB of text": (LARGE, {}, 413),
    "10 MB of text, packed": (gzip.compress(LARGE), {"content_encoding": "gzip"}, 413),
    "a bomb": (gzip.compress(b" " * 500_000_000, 9), {"content_encoding": "gzip"}, 413),
    "packed garbage": (b"\x1f\x8bnothing", {"content_encoding": "gzip"}, 400),
    "packed and cut": (gzip.compress(b'{"objectID":"a"}')[:-4], {"content_encoding": "gzip"}, 400),
    "packed and more": (gzip.compress(b'{"objectID":"a"}') + b"more", {"content_encoding": "gzip"}, 400),
    "packed by others": (b"x", {"content_encoding": "br"}, 415),
    "a million lists": (b'{"requests":[' + b"[],"[:3] * 1_000_000 + b"[]]}", {}, 400),
    "many objects": (b'{"requests":[' + b'{"a":{}},' * 30_000 + b"{}]}", {}, 400),
    "many texts": (b'{"objectID":"a","x":[' + b'"",' * (VALUES_MAX - 10) + b'""]}', {}, 400),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_bodies_that_mean_harm(server: Server, name: str) -> None:
    """Each is an error of the caller's, in the same form as any, and the server goes on."""
    body, headers, expected = HOSTILE[name]
    status, answer, _ = await server.ask("POST", RECOMMEND, body, **headers)

    assert status == expected
    assert answer["status"] == expected
    assert 0 < len(answer["message"]) < 1_000
    assert 200 == (await server.ask("POST", RECOMMEND, {"objectID": "b"}))[0]


@pytest.mark.parametrize("name", FILTERS)
async def test_filters_that_mean_harm(server: Server, name: str) -> None:
    """A filter of 10,000 clauses is answered or refused by name, in bounded time and memory."""
    body = json.dumps({"requests": [{"objectID": "a", "queryParameters": {"filters": FILTERS[name]}}]})
    tracemalloc.start()
    began_s = time.process_time()
    status, answer, _ = await server.ask("POST", RECOMMEND, body)
    took_s = time.process_time() - began_s
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert status in (200, 400)
    message = answer["results"][0]["message"] if status == 200 else answer["message"]
    assert len(message) < 1_000
    assert took_s < 30, "of CPU, traced: a net for what is more than linear, not a measure"
    assert peak_bytes < 100_000_000


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(server: Server) -> None:
    """The announced length is enough; a client that waits for 100 Continue is spared the rest, others get it."""
    head = "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    answer = await raw_answer(server, head.format(RECOMMEND, 9_000_000).encode())
    assert answer.startswith(b"HTTP/1.1 413")

    reader, writer = await asyncio.open_connection("127.0.0.1", server.settings.web_port)
    writer.write(head.format(RECOMMEND, 16).encode())
    assert b"HTTP/1.1 100 Continue\r\n\r\n" == await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.write(b'{"objectID":"b"}')
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_body_that_comes_with_its_head_is_measured_too() -> None:
    """In chunks it announces no length, and all of it is there before anything is read."""
    async with Server(http_body_bytes_max=1_000) as server:
        head = f"POST {RECOMMEND} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        for size, status in ((1_000, b"400"), (1_001, b"413")):
            body = f"{size:x}\r\n{' ' * size}\r\n0\r\n\r\n"
            assert (await raw_answer(server, (head + body).encode())).startswith(b"HTTP/1.1 " + status)


async def test_a_body_in_chunks(server: Server) -> None:
    """Node sends no length; a chunk that breaks off or lies is a 400."""

    async def parts() -> AsyncIterator[bytes]:
        for part in (b'{"requests":[{"obj', b'ectID":"b"', b"}]}"):
            yield part

    async with server.session.post(RECOMMEND, data=parts()) as answer:
        assert answer.status == 200
        assert len((await answer.json(content_type=None))["results"]) == 1
    head = f"POST {RECOMMEND} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    answered = await raw_answer(server, head.encode() + b"nonsense\r\n")
    assert b" 400 " in answered.splitlines()[0]


async def test_a_client_that_breaks_off_costs_nothing(server: Server) -> None:
    """A connection that goes in the middle of its body leaves no slot taken and no bytes held."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.settings.web_port)
    writer.write(f"POST {RECOMMEND} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode() + b"x" * 50_000)
    await writer.drain()
    await wait_until(lambda: server.gateway.bodies.held_bytes > 0, 10, "the body to be read")
    writer.transport.abort()
    await wait_until(lambda: server.gateway.bodies.held_bytes == 0, 10, "the body to be given up")

    assert server.gateway.slots.taken == 0


async def test_a_body_that_does_not_come(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is announced and does not come is given up after a while, and so are too many large ones at once."""
    head = f"POST {RECOMMEND} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nConnection: close\r\n\r\n"
    monkeypatch.setattr("streams.web.bodies.BODY_S_MAX", 0.05)
    assert (await raw_answer(server, head.encode())).startswith(b"HTTP/1.1 408")

    monkeypatch.setattr("streams.web.bodies.TOGETHER_BYTES_MAX", 10)
    assert (await raw_answer(server, head.encode() + b"x" * 50)).startswith(b"HTTP/1.1 429")
    assert server.gateway.bodies.held_bytes == 0


async def test_images_have_places_of_their_own(server: Server) -> None:
    """Calls that wait for the host of an image do not keep others waiting; too many of them are told to come again."""
    hosts = asyncio.Event()
    asked: list[str] = []

    async def of_link(link: str, *more: object) -> Any:
        asked.append(link)
        await hosts.wait()
        raise Unavailable("the host does not answer")

    server.gateway.answerer.vectors.of_link = of_link  # type: ignore
    call = {"requests": [{"image": "https://slow.example/a.jpg"}]}
    waiting = [asyncio.create_task(server.ask("POST", RECOMMEND, call)) for _ in range(IMAGE_CALLS_MAX)]
    await wait_until(lambda: len(asked) == IMAGE_CALLS_MAX, 10, "all to wait for their image")

    assert 429 == (await server.ask("POST", RECOMMEND, call))[0]
    assert 200 == (await server.ask("POST", RECOMMEND, {"objectID": "b"}))[0]
    hosts.set()
    answers = await asyncio.gather(*waiting)
    assert {200} == {status for status, _, _ in answers}
    assert {503} == {body["results"][0]["status"] for _, body, _ in answers}
    assert server.gateway.image_slots.taken == 0


# Rules that cannot be written


class Producer:
    """A producer whose broker does not take anything, for one reason or another."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def create_batch(self) -> Any:
        return SimpleNamespace(extend=lambda messages, now_ms: 1, close=lambda: None)

    def send_now(self, batches: Sequence[Any]) -> list[None]:
        return [None] * len(batches)

    async def send_batch(self, batch: object, topic: str, *, partition: int) -> Any:
        if self.error is None:
            await asyncio.Event().wait()
        assert self.error
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (None, 503, "not confirmed"),
        (MessageSizeTooLargeError(), 413, "max.message.bytes"),
        (TopicAuthorizationFailedError(), 503, "does not take"),
        (KafkaTimeoutError(), 503, "not confirmed"),
    ],
)
async def test_a_broker_that_does_not_take_rules(
    server: Server, monkeypatch: pytest.MonkeyPatch, error: Exception | None, expected: int, message: str
) -> None:
    """Nothing is answered that the broker has not got; a rule that is too large is the caller's mistake."""
    monkeypatch.setattr("streams.gateway.rules.WRITE_S_MAX", 0.3)
    server.rules.producer = Producer(error)  # type: ignore[attr-defined]
    for method, path, body in (("POST", RULES + "batch", b'[{"objectID":"a"}]'), ("DELETE", RULES + "a", None)):
        status, answer, _ = await server.ask(method, path, body)

        assert status == expected
        assert message in answer["message"]


async def test_clearing_asks_the_broker_first(server: Server) -> None:
    """Without knowing which rules there are none are removed."""

    async def end() -> int:
        raise KafkaTimeoutError

    server.rules.end = end  # type: ignore[attr-defined]
    status, answer, _ = await server.ask("POST", RULES + "batch?clearExistingRules=true", b"[]")

    assert status == 503
    assert "which rules there are" in answer["message"]


# The search call


async def test_the_search_call_of_widgets(server: Server) -> None:
    """A page with any search widget asks this too; there is nothing to search, and no error either."""
    queries: list[dict[str, Any]] = [
        {"indexName": "items", "hitsPerPage": 3, "query": "shoe"},
        {"indexName": "items", "params": "hitsPerPage=7&query=red%20shoe&facets=%5B%5D"},
        {"indexName": "items", "type": "facet", "facet": "brand"},
        {"indexName": "items"},
    ]
    status, body, _ = await server.ask("POST", QUERIES, {"requests": queries})

    assert status == 200
    flat, encoded, facet, plain = body["results"]
    assert ("shoe", 3, [], 0, "items") == tuple(flat[n] for n in ("query", "hitsPerPage", "hits", "nbHits", "index"))
    assert ("red shoe", 7) == (encoded["query"], encoded["hitsPerPage"])
    assert encoded["params"] == queries[1]["params"]
    assert facet["facetHits"] == []
    assert (20, 0, 0, True) == tuple(plain[name] for name in ("hitsPerPage", "page", "nbPages", "exhaustiveNbHits"))
    bodies: list[Any] = [{}, {"requests": []}, {"requests": [1]}, {"requests": [{}] * 51}, b"["]
    for bad in bodies:
        assert 400 == (await server.ask("POST", QUERIES, bad))[0]


# Pages


async def test_the_pages_of_a_worker_that_waits(server: Server) -> None:
    """Before there is a broker a worker is alive, not ready, and says why; HEAD is GET without its body."""
    assert (200, {"status": "alive"}) == (await server.ask("GET", "/livez"))[:2]
    assert 200 == (await server.ask("HEAD", "/livez"))[0]
    status, body, _ = await server.ask("GET", "/readyz")
    assert (503, "waiting") == (status, body["status"])
    assert "broker" in body["waiting_for"]["worker"]

    server.health.waiting = ""
    assert 200 == (await server.ask("GET", "/readyz"))[0]
    status, body, _ = await server.ask("GET", "/status")
    assert (200, "writer") == (status, body["worker"])
    await server.ask("POST", RECOMMEND, {"objectID": "b"})
    async with server.session.get("/metrics") as answer:
        text = await answer.text()
    assert 'kindred_http_requests_total{call="recommendations",status="200"} 1.0' in text


async def test_an_address_in_use_is_a_bad_setting(server: Server) -> None:
    """Two workers on one address: the second says which setting to change."""
    other = Web(server.settings, Metrics())

    with pytest.raises(BadSetting, match="KINDRED_WEB: cannot listen on"):
        await other.start()


async def test_one_connection_more_takes_the_place_of_a_quiet_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are as many connections as can be, the one that was quiet for longest goes."""
    monkeypatch.setattr("streams.web.server.CONNECTIONS_MAX", 3)
    call = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    opened = []
    for _ in range(4):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.settings.web_port)
        writer.write(call)
        assert b"200" in await reader.readline()
        opened.append((reader, writer))

    await asyncio.wait_for(opened[0][0].read(), 10)
    assert opened[0][0].at_eof()
    for reader, writer in opened[1:]:
        writer.write(call)
        while b"HTTP/1.1 200" not in await asyncio.wait_for(reader.readline(), 10):
            assert not reader.at_eof()
        writer.close()


# Admission


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_share_of_the_loop() -> None:
    """A full bucket lets a burst through; after that HTTP has its share of each second and no more."""
    clock = Clock()
    share = Share(0.25, clock)
    share.spend(BURST_S)
    assert share.wait_s() == 0

    share.spend(0.010)
    assert share.wait_s() == pytest.approx(0.040)
    clock.now_s += 0.040
    assert share.wait_s() == pytest.approx(0, abs=1e-9)
    clock.now_s += 1_000
    share.spend(BURST_S + 0.001)
    assert share.wait_s() == pytest.approx(0.004), "credit does not pile up"
    with share.spent():
        clock.now_s += 0.004
    assert share.wait_s() == pytest.approx(0.016)


def test_slots() -> None:
    """The limit is exact, and a slot is free again after an error too."""
    slots = Slots(2, "calls")
    with slots, slots, pytest.raises(Overloaded, match="2 calls"):
        slots.__enter__()
    with pytest.raises(ValueError), slots:
        raise ValueError
    assert slots.taken == 0


def test_refusals_are_spaced_out() -> None:
    """The first is told at once, the next ones later and later, and none so late that no client would hear it."""
    clock = Clock()
    refusals = Refusals(clock)
    waits = [refusals.wait_s() for _ in range(1_000)]

    assert waits[0] == 0
    assert sorted(waits) == waits
    assert waits[30] == pytest.approx(30 / REFUSALS_PER_S)
    assert waits[-1] == pytest.approx(REFUSAL_S_MAX)
    clock.now_s += 10
    assert refusals.wait_s() == 0


async def test_too_many_calls_are_told_to_come_again() -> None:
    """Beyond the limit a call is a 429 with Retry-After; those within it are answered, later ones too."""
    async with Server(http_waiting_max=3) as server:
        server.gateway.share.spend(0.4)  # so that they wait
        answers = await asyncio.gather(*(server.ask("POST", RECOMMEND, {"objectID": "b"}) for _ in range(10)))

        assert [200] * 3 + [429] * 7 == sorted(status for status, _, _ in answers)
        for status, body, headers in answers:
            if status == 429:
                assert int(headers["Retry-After"]) >= 1
                assert body["status"] == 429
                assert headers["Access-Control-Allow-Origin"] == "*"
        assert 200 == (await server.ask("POST", RECOMMEND, {"objectID": "b"}))[0]


async def test_a_flood_leaves_the_loop_to_others() -> None:
    """However many calls come, what they do on the loop takes their share of the time, and others have the rest."""
    async with Server(http_share=0.2, http_waiting_max=64) as server:

        def slow(entries: list[Any], images: Any) -> list[Any]:
            until_s = time.perf_counter() + 0.002 * len(entries)
            while time.perf_counter() < until_s:
                pass
            return plain(entries, images)

        plain = server.gateway.answerer.answer
        server.gateway.answerer.answer = slow  # type: ignore
        spent: list[float] = []
        server.gateway.share.spend = counted(server.gateway.share.spend, spent)  # type: ignore
        began_s = time.perf_counter()
        answers = await asyncio.gather(*(server.ask("POST", RECOMMEND, {"objectID": "b"}) for _ in range(60)))
        took_s = time.perf_counter() - began_s

        assert {200} == {status for status, _, _ in answers}
        assert sum(spent) <= 0.2 * took_s + BURST_S + 0.05


def counted(spend: Callable[[float], None], spent: list[float]) -> Callable[[float], None]:
    def count(seconds: float) -> None:
        spent.append(seconds)
        spend(seconds)

    return count


async def test_a_long_call_is_answered_in_slices() -> None:
    """Fifty entries of many hits do not hold the loop at once, and each gets its own result."""
    sizes: list[int] = []

    class Counting:
        def answer(self, entries: list[Any], images: object) -> list[Any]:
            sizes.append(len(entries))
            return [entry.count for entry in entries]

    queue = AnswerQueue(Counting(), Share(0.9))  # type: ignore
    entries = [SimpleNamespace(count=number) for number in range(50)]
    gone = asyncio.ensure_future(queue.answer(entries, {}))  # type: ignore
    got, single = await asyncio.gather(queue.answer(entries, {}), queue.answer(entries[:1], {}))  # type: ignore

    expected: list[Any] = list(range(50))
    assert expected == got == await gone
    assert expected[:1] == single
    assert max(sizes) <= 16


async def test_a_call_whose_client_has_gone_is_not_answered() -> None:
    """Entries of a call that was given up are not searched for."""
    asked: list[Any] = []

    class Counting:
        def answer(self, entries: list[Any], images: object) -> list[Any]:
            asked.extend(entries)
            return list(entries)

    queue = AnswerQueue(Counting(), Share(0.9))  # type: ignore
    queue.share.spend(BURST_S + 0.05)
    gone = asyncio.ensure_future(queue.answer(["gone"], {}))  # type: ignore
    await asyncio.sleep(0)
    gone.cancel()

    await queue.answer(["here"], {})  # type: ignore
    assert asked == ["here"]
