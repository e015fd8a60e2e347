"""Fetching: what a link leads to comes within limits, from where it may come, or not at all.

Real connections go to 127.0.0.1 only: the sockets' stand-in opens nothing else, even if the guard were broken.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import os
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from models.errors import BadEvent, Unavailable
from streams.embed.data_link import DATA_BYTES_MAX, read_data_link
from streams.embed.fetch import ImageFetcher
from streams.embed.silent_hosts import SILENCES_MAX, HostRests, HostSilent
from streams.fetch_guard import AddressGuard, AddrInfo, GuardedResolver, RefusedAddress

IMAGE = b"\xff\xd8\xff not looked into"
PRIVATE = "10.1.2.3"
PUBLIC = "93.184.215.14"


class Names(AbstractResolver):
    """Answers from a table, and remembers who was asked for."""

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = {name.replace("_", "."): found for name, found in addresses.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        host = host.lower().rstrip(".")
        self.asked.append(host)
        if host not in self.addresses:
            raise OSError(f"unknown name {host}")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self.addresses[host]
        ]

    async def close(self) -> None:
        pass


class Sockets:
    """Opens real sockets to 127.0.0.1, none to elsewhere, and remembers every address."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def __call__(self, addr_info: AddrInfo) -> socket.socket:
        family, kind, protocol, _, address = addr_info
        self.opened.append(address[0])
        if address[0] != "127.0.0.1":
            raise ConnectionRefusedError(111, "stand-in: nothing leaves this machine")
        return socket.socket(family, kind, protocol)


class Visit:
    """A fetcher on stand-ins."""

    def __init__(self, names: Names | None = None, **options: Any) -> None:
        self.names = names or Names()
        self.sockets = Sockets()
        self.fetcher = ImageFetcher(resolver=self.names, open_socket=self.sockets, **options)

    async def __aenter__(self) -> Visit:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.fetcher.close()


def local(**options: Any) -> Visit:
    """A fetcher that may visit the test's own server, as 127.0.0.1, shop.test and other.test."""
    names = Names(shop_test=["127.0.0.1"], other_test=["127.0.0.1"], inner_test=[PRIVATE], mixed_test=[PUBLIC, PRIVATE])
    return Visit(names, **{"allowed_hosts": ["127.0.0.1"], **options})


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server on 127.0.0.1 whose every path is answered by a handler; gives its address without a slash."""
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server(shutdown_timeout=0.1)
        servers.append(server)
        return f"http://127.0.0.1:{server.port}"

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
async def raw_server() -> AsyncIterator[Callable[[bytes], Awaitable[str]]]:
    """A server on 127.0.0.1 that sends fixed bytes, whatever it is asked, and hangs up."""
    servers: list[asyncio.Server] = []

    async def start(content: bytes) -> str:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(content)
            writer.close()

        servers.append(await asyncio.start_server(answer, "127.0.0.1", 0))
        return f"http://127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}/"

    yield start
    for server in servers:
        server.close()


async def image(request: web.Request) -> web.StreamResponse:
    return web.Response(body=IMAGE, content_type="text/html")


async def test_bytes_come_as_they_are(serve: Serve) -> None:
    """The content type is not trusted, and links are asked for exactly as they were signed."""
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.raw_path)
        return await image(request)

    base = await serve(handler)
    async with local() as visit:
        assert await visit.fetcher.fetch(base + "/a%2Fb%7E.jpg?sig=%2B%3d#part") == IMAGE
        assert await visit.fetcher.fetch(base + "/rote Schuhe/ä.jpg") == IMAGE

    assert asked == ["/a%2Fb%7E.jpg?sig=%2B%3d", "/rote%20Schuhe/%C3%A4.jpg"]


async def test_requests_say_who_asks_and_carry_nothing_else(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user agent names Kindred; no cookie comes back, nor is packing asked for, nor a proxy used."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    seen: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers)
        response = web.Response(body=IMAGE)
        response.set_cookie("session", "secret")
        return response

    base = await serve(handler)
    async with local() as visit:
        await visit.fetcher.fetch(base + "/1")
        await visit.fetcher.fetch(base + "/2")

    assert "Kindred" in seen[0]["User-Agent"]
    assert seen[0]["Accept-Encoding"] == "identity"
    assert not {"Cookie", "Authorization", "Referer"} & set(seen[1])


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 410, 451])
async def test_statuses_that_stay(serve: Serve, status: int) -> None:
    """The host has spoken: never ask again."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    base = await serve(handler)
    async with local() as visit:
        with pytest.raises(BadEvent, match=rf"127.0.0.1 answered {status} \("):
            await visit.fetcher.fetch(base + "/x")


@pytest.mark.parametrize(
    ("status", "headers", "retry_after_s"),
    [
        (408, {}, None),
        (500, {}, None),
        (599, {}, None),
        (503, {"Retry-After": "120"}, 120),
        (429, {"Retry-After": "99999999"}, 86400),
        (429, {"Retry-After": "-5"}, None),
        (429, {"Retry-After": "soon"}, None),
        (429, {"Retry-After": "Fri, 31 Dec 2021 23:59:59 GMT", "Date": "Fri, 31 Dec 2021 23:58:59 GMT"}, 60),
        (429, {"Retry-After": "Fri, 31 Dec 2021 23:59:59 GMT", "Date": "Sat, 01 Jan 2022 23:58:59 GMT"}, 0),
        (429, {"Retry-After": "Fri, 31 Dec 2021 23:59:59 GMT", "Date": "today"}, None),
    ],
)
async def test_statuses_that_pass(
    serve: Serve, status: int, headers: dict[str, str], retry_after_s: float | None
) -> None:
    """Ask again later, and not before the host said."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers=headers)

    base = await serve(handler)
    async with local() as visit:
        with pytest.raises(Unavailable, match=f"answered {status}") as raised:
            await visit.fetcher.fetch(base + "/x")

    assert raised.value.retry_after_s == retry_after_s


def redirecting(locations: dict[str, str], status: int = 302) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path in locations:
            return web.Response(status=status, headers={"Location": locations[request.path]})
        return web.Response(body=IMAGE)

    return handler


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(serve: Serve, status: int) -> None:
    """Five of them, relative, from the root, and to another host."""
    base = await serve(redirecting({"/0": "1", "/1": "/a/2", "/a/2": "../3?x", "/3": "./4"}, status))
    other = await serve(redirecting({"/go": base.replace("127.0.0.1", "shop.test") + "/0"}, status))
    async with local() as visit:
        assert await visit.fetcher.fetch(other + "/go") == IMAGE
        assert visit.names.asked == ["shop.test"]


async def test_redirects_have_an_end(serve: Serve) -> None:
    """A sixth is not followed, nor is a circle."""
    base = await serve(redirecting({"/0": "/0"} | {f"/{k}": f"/{k + 1}" for k in range(1, 7)}))
    async with local() as visit:
        assert await visit.fetcher.fetch(base + "/2") == IMAGE
        for start in ("/0", "/1"):
            with pytest.raises(BadEvent, match="more than 5 redirects"):
                await visit.fetcher.fetch(base + start)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        (f"http://{PRIVATE}/", "a private address"),
        ("http://169.254.169.254/latest/meta-data/", "a link-local address"),
        ("http://inner.test/", f"inner.test is at {PRIVATE}, a private address"),
        ("http://mixed.test/", "a private address"),
        ("http://0x7f000001/", "an address in disguise"),
        ("//[::1]/", "a loopback address"),
        ("http://user:secret@shop.test/", "user name or password"),
        ("file:///etc/passwd", "not an http or https URL"),
        ("data:image/gif;base64,R0lG", "not an http or https URL"),
        ("ftp://shop.test/", "not an http or https URL"),
        ("http://shop.test:99999/", "not a URL"),
        ("http://[bad/", "not a URL"),
        ("/" + "x" * 8000, "characters"),
        ("", "without saying where to"),
    ],
)
async def test_redirects_are_judged_anew(serve: Serve, location: str, reason: str) -> None:
    """Where a link itself may not lead, no redirect does; nothing but the first host is connected to."""
    base = await serve(redirecting({"/": location}))
    async with local() as visit:
        with pytest.raises(BadEvent, match=reason):
            await visit.fetcher.fetch(base + "/")

        assert set(visit.sockets.opened) == {"127.0.0.1"}


async def test_too_large_by_its_own_word(serve: Serve) -> None:
    """A length above the limit is refused unread; one at the limit is read."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=bytes(int(request.query["size"])))

    base = await serve(handler)
    async with local(bytes_max=1000) as visit:
        assert await visit.fetcher.fetch(base + "/?size=1000") == bytes(1000)
        with pytest.raises(BadEvent, match="more than the 0.0 MB"):
            await visit.fetcher.fetch(base + "/?size=1001")


async def test_an_endless_body_is_left_at_the_limit(serve: Serve) -> None:
    """The host is hung up on, instead of being read to the end."""
    hung_up = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(50_000))
        finally:
            hung_up.set()

    base = await serve(handler)
    async with local(bytes_max=300_000) as visit:
        with pytest.raises(BadEvent, match="more than the 0.3 MB"):
            await visit.fetcher.fetch(base + "/")
        await asyncio.wait_for(hung_up.wait(), 30)


def packed(content: bytes, encoding: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=content, headers={"Content-Encoding": encoding})

    return handler


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (gzip.compress(IMAGE, mtime=0), "gzip"),
        (gzip.compress(IMAGE, mtime=0), "X-GZIP"),
        (zlib.compress(IMAGE), "deflate"),
        (IMAGE, "identity"),
    ],
)
async def test_bodies_packed_unasked_are_unpacked(serve: Serve, content: bytes, encoding: str) -> None:
    """Some hosts pack whatever is asked."""
    base = await serve(packed(content, encoding))
    async with local() as visit:
        assert await visit.fetcher.fetch(base + "/") == IMAGE


@pytest.mark.parametrize(
    ("content", "encoding", "error", "reason"),
    [
        (gzip.compress(bytes(50_000_000), mtime=0), "gzip", BadEvent, "more than the 1.0 MB"),
        (b"no gzip at all", "gzip", BadEvent, "encoding is damaged"),
        (gzip.compress(bytes(1000), mtime=0)[:-12], "gzip", Unavailable, "ended the image early"),
        (IMAGE, "br", BadEvent, "encoding 'br', which was not asked for"),
        (gzip.compress(gzip.compress(IMAGE, mtime=0), mtime=0), "gzip, gzip", BadEvent, "which was not asked for"),
    ],
)
async def test_packed_bodies_have_the_same_limits(
    serve: Serve, content: bytes, encoding: str, error: type[Exception], reason: str
) -> None:
    """A bomb of gzip's goes no further than the limit, and what cannot be unpacked says so."""
    base = await serve(packed(content, encoding))
    async with local(bytes_max=1_000_000) as visit:
        with pytest.raises(error, match=reason):
            await visit.fetcher.fetch(base + "/")


async def test_seconds_are_limited_in_all(serve: Serve) -> None:
    """A host that is silent, one that drips, one that redirects and then is silent, a look-up without an answer."""
    never = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/redirect":
            return web.Response(status=302, headers={"Location": "/silent"})
        response = web.StreamResponse()
        if request.path == "/drip":
            await response.prepare(request)
            await response.write(b"x")
        await never.wait()
        return response

    base = await serve(handler)
    async with local(timeout_s=0.2) as visit:
        for path in ("/silent", "/drip", "/redirect"):
            with pytest.raises(Unavailable, match="127.0.0.1 did not send the image within 0.2 s"):
                await visit.fetcher.fetch(base + path)

        async def no_answer(*_: object) -> list[ResolveResult]:
            await never.wait()
            return []

        visit.names.resolve = no_answer  # type: ignore[method-assign, assignment]
        with pytest.raises(Unavailable, match="slow.test did not send the image within"):
            await visit.fetcher.fetch("http://slow.test/")
    never.set()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
    ],
)
async def test_hosts_that_break_off_or_speak_nonsense_may_mend(
    raw_server: Callable[[bytes], Awaitable[str]], content: bytes
) -> None:
    """Half an answer, or none that is HTTP: ask again later."""
    link = await raw_server(content)
    async with local() as visit:
        with pytest.raises(Unavailable, match="127.0.0.1 broke off"):
            await visit.fetcher.fetch(link)


async def test_hosts_that_cannot_be_reached_may_mend() -> None:
    """No address, and no connection."""
    async with Visit(Names(shop_test=[PUBLIC])) as visit:
        with pytest.raises(Unavailable, match="gone.test has no address at present"):
            await visit.fetcher.fetch("https://gone.test/x.jpg")
        for link in ("http://shop.test/", "https://shop.test/", f"http://{PUBLIC}/"):
            with pytest.raises(Unavailable, match="could not be connected to"):
                await visit.fetcher.fetch(link)

        assert visit.sockets.opened == [PUBLIC] * 3


async def test_a_server_without_a_certificate_is_not_trusted(serve: Serve) -> None:
    """https to something that is not TLS fails, and may mend."""
    base = await serve(image)
    async with local() as visit:
        with pytest.raises(Unavailable, match="could not be reached safely"):
            await visit.fetcher.fetch(base.replace("http:", "https:") + "/")


# fmt: off
REFUSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.0", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255",
    "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1",
    "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::ffff:0:10.0.0.1",
    "64:ff9b::a00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:a00:1::", "2001:2::1",
    "2001:10::1", "2001:db8::1", "2002:a00:1::1", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fec0::1", "ff02::1", "ff0e::1",
]
# fmt: on


@pytest.mark.parametrize("address", REFUSED)
async def test_addresses_that_are_not_public_are_never_connected_to(address: str) -> None:
    """Neither written in the link, nor as what a name leads to."""
    host = f"[{address}]" if ":" in address else address
    async with Visit(Names(evil_test=[address])) as visit:
        for link in (f"http://{host}/", f"https://{host}:8443/x", "http://evil.test/", "http://EVIL.test:22/"):
            with pytest.raises(BadEvent, match=r"refused: .*(an?|this|not) .*KINDRED_IMAGE_HOSTS"):
                await visit.fetcher.fetch(link)

        assert visit.sockets.opened == []


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "9.255.255.255", "100.128.0.1", "172.32.0.1", "192.0.1.1", "223.255.255.255", "2606:4700::1111"],
)
async def test_public_addresses_are_connected_to(address: str) -> None:
    """The guard lets through what is anybody's to visit, right beside the refused networks."""
    host = f"[{address}]" if ":" in address else address
    async with Visit(Names(shop_test=[address])) as visit:
        for link in (f"http://{host}/", "http://shop.test/"):
            with pytest.raises(Unavailable, match="could not be connected to"):
                await visit.fetcher.fetch(link)

        assert visit.sockets.opened == [address, address]


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.01", "017700000001", "0x7f.0.0.0x1",
        "0", "0x", "127.0.0.1.", "1.2.3.4.5", "256.256.256.256", "127。0。0。1", "１２７.0.0.1", "⑫7.0.0.1",
        "%31%32%37.0.0.1", "127.0.0.1%00.shop.test", "[fe80::1%25eth0]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]",
        "evil.test/..", "-evil.test", "a b.test", "shop.test\\@10.1.2.3", "shop.test@10.1.2.3",
        "user:secret@shop.test", "@shop.test", ":@shop.test",
    ],
)  # fmt: skip
async def test_hosts_in_disguise_are_refused_unasked(host: str) -> None:
    """Numbers in other bases, other digits, escapes, and users that look like hosts: no look-up, no connection."""
    async with Visit(Names(shop_test=[PUBLIC])) as visit:
        with pytest.raises((BadEvent, Unavailable)) as raised:
            await visit.fetcher.fetch(f"http://{host}/x.jpg")

        assert visit.sockets.opened == []
        assert isinstance(raised.value, BadEvent) or visit.names.asked == ["evil.test"]


@pytest.mark.parametrize("addresses", [[PUBLIC, PRIVATE], [PRIVATE, PUBLIC], ["2606:4700::1111", "::1"]])
async def test_a_name_is_refused_whole(addresses: list[str]) -> None:
    """One refused address among good ones is enough: the next look-up might give that one."""
    async with Visit(Names(evil_test=addresses)) as visit:
        with pytest.raises(BadEvent, match="refused: evil.test is at"):
            await visit.fetcher.fetch("http://evil.test/")

        assert visit.sockets.opened == []


async def test_a_name_that_moves_inside_is_refused_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that was public and now is private (rebinding) is judged by what it is now."""
    names = Names(evil_test=[PUBLIC])
    async with Visit(names) as visit:
        with pytest.raises(Unavailable):
            await visit.fetcher.fetch("http://evil.test/")
        names.addresses["evil.test"] = [PRIVATE]
        with pytest.raises(BadEvent, match="a private address"):
            await visit.fetcher.fetch("http://evil.test:81/")

        assert visit.sockets.opened == [PUBLIC]


async def test_the_last_gate_holds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the gates at the link and at the resolver broken, the socket's still lets nothing private through."""

    async def unguarded(self: GuardedResolver, *arguments: Any, **more: Any) -> list[ResolveResult]:
        return await self._resolver.resolve(*arguments, **more)

    monkeypatch.setattr(GuardedResolver, "resolve", unguarded)
    monkeypatch.setattr(AddressGuard, "check_host", lambda self, host: None)
    async with Visit(Names(evil_test=[PRIVATE], both_test=[PRIVATE, "::1"])) as visit:
        for link in ("http://evil.test/", f"http://{PRIVATE}/", "http://[::ffff:10.1.2.3]/", "http://10.66051/"):
            with pytest.raises(BadEvent, match="refused: "):
                await visit.fetcher.fetch(link)
        with pytest.raises((BadEvent, Unavailable)):
            await visit.fetcher.fetch("http://both.test/")

        assert visit.sockets.opened == []


@pytest.mark.parametrize(
    ("allowed", "link", "reached"),
    [
        ("photos.test", "http://photos.test/", True),
        ("PHOTOS.test", "http://photos.TEST/", True),
        ("photos.test", "http://photos.test./", True),
        ("photos.test", "http://other.test/", False),
        ("photos.test", f"http://{PRIVATE}/", False),
        ("photos.test", "http://sub.photos.test/", False),
        (PRIVATE, f"http://{PRIVATE}/", True),
        (PRIVATE, "http://photos.test/", True),
        (PRIVATE, "http://10.1.2.4/", False),
        ("10.1.0.0/16", "http://other.test/", True),
        ("10.1.2.3/16", "http://other.test/", True),
        ("10.2.0.0/16", "http://other.test/", False),
        ("[::1]", "http://[::1]/", True),
        ("::1", "http://127.0.0.1/", False),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]/", False),
        ("64:ff9b::/96", "http://[64:ff9b::808:808]/", True),
        ("64:ff9b::/96", "http://[64:ff9b::a00:1]/", False),
        ("::/0", "http://[2002:a00:1::1]/", False),
        ("0.0.0.0/0", "http://169.254.169.254/", True),
        ("photos.test", "http://0x0a010203/", False),
    ],
)
async def test_what_is_allowed_by_name_or_network(allowed: str, link: str, reached: bool) -> None:
    """A name opens what it leads to for that name alone; a network for all, but not what an IPv6 form hides."""
    inner = {"photos_test": [PRIVATE], "other_test": [PRIVATE], "sub_photos_test": [PRIVATE]}
    async with Visit(Names(**inner), allowed_hosts=[allowed]) as visit:
        # "Reached" is the stand-in refusing: the guard let it try.
        with pytest.raises(Unavailable if reached else BadEvent):
            await visit.fetcher.fetch(link)

        assert bool([each for each in visit.sockets.opened if each != "127.0.0.1"]) == reached


@pytest.mark.parametrize(
    "wrong", ["http://a.test", "a.test:80", "a.test/x", "", "10.0.0.0/33", "a b", "*.test", "u@a.test", "[a"]
)
def test_settings_that_are_no_host_are_refused(wrong: str) -> None:
    """A mistake in the setting is told at start, not at the first image."""
    with pytest.raises(ValueError, match="neither a host's name nor a network"):
        ImageFetcher(allowed_hosts=[wrong])


def test_names_of_other_alphabets_may_be_allowed() -> None:
    """They are compared as they go over the wire."""
    guard = AddressGuard(["bücher.test"])
    guard.check_address("xn--bcher-kva.test", PRIVATE)

    with pytest.raises(RefusedAddress):
        guard.check_address("xn--bcher-kvb.test", PRIVATE)


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("ftp://shop.test/x", "not one of http, https"),
        ("javascript:alert(1)", "not one of http, https"),
        ("C:\\photos\\x.jpg", "not one of http, https"),
        ("//shop.test/x.jpg", "not one of http, https"),
        ("x.jpg", "no image folder is set"),
        ("file:///etc/passwd", "no image folder is set"),
        ("http://", "with a host"),
        ("http:///x.jpg", "with a host"),
        ("https:x.jpg", "with a host"),
        ("http://shop.test:port/", "not a URL"),
        ("http://shop.test/\r\nHost: x", "control characters"),
        ("http://shop.test/\0", "control characters"),
        ("http://shop.test/" + "x" * 9000, "9017 characters, at most 8000"),
    ],
)
async def test_links_that_are_none(link: str, reason: str) -> None:
    """Nothing is looked up for them."""
    async with Visit(Names(shop_test=[PUBLIC])) as visit:
        with pytest.raises(BadEvent, match=reason):
            await visit.fetcher.fetch(link)

        assert visit.names.asked == visit.sockets.opened == []


@given(st.text(max_size=60), st.sampled_from(["http://", "https://", "http:", "data:", "file:", ""]))
def test_any_text_gives_one_of_the_two_errors(text: str, scheme: str) -> None:
    """Whatever stands in a link, nothing but BadEvent and Unavailable escapes, and nothing private is connected to."""

    async def attempt() -> None:
        async with Visit() as visit:
            with contextlib.suppress(BadEvent, Unavailable):
                await visit.fetcher.fetch(scheme + text)
            assert all(address not in REFUSED for address in visit.sockets.opened)

    asyncio.run(attempt())


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("data:image/png;base64," + base64.b64encode(IMAGE).decode(), IMAGE),
        ("DATA:image/png;charset=x;BASE64," + base64.b64encode(IMAGE).decode(), IMAGE),
        ("data:;base64,/+8=", b"\xff\xef"),
        ("data:;base64,/+8", b"\xff\xef"),
        ("data:;base64,%2F%2B8%3D", b"\xff\xef"),
        ("data:;base64, /+\n8= ", b"\xff\xef"),
        ("data:image/gif,GIF89a%00%ff,", b"GIF89a\x00\xff,"),
        ("data:,", b""),
    ],
)
async def test_data_links_carry_their_bytes(link: str, expected: bytes) -> None:
    """In base64 or percent-encoded, with or without padding, with blanks in between."""
    async with Visit() as visit:
        assert await visit.fetcher.fetch(link) == expected


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("data:image/png;base64", "no comma"),
        ("data:;base64,a", "not base64"),
        ("data:;base64,!!!!", "not base64"),
        ("data:;base64,AA==AA==", "not base64"),
        ("data:;base64,Ä", "not base64"),
        ("data:;base64," + "A" * 1_398_108, "more than the 1.0 MB"),
        ("data:," + "x" * 1_048_577, "more than the 1.0 MB"),
        ("data:," + "%20" * 10_000_000, "more than the 1.0 MB"),
    ],
)
def test_data_links_that_are_refused(link: str, reason: str) -> None:
    """Not base64, or too large, before or after unpacking."""
    with pytest.raises(BadEvent, match=reason):
        read_data_link(link)


async def test_a_data_link_of_the_greatest_size() -> None:
    """One mebibyte goes; with a smaller limit for images that limit holds."""
    content = os.urandom(DATA_BYTES_MAX)
    link = "data:;base64," + base64.b64encode(content).decode()
    async with Visit() as visit, Visit(bytes_max=1000) as smaller:
        assert await visit.fetcher.fetch(link) == content
        with pytest.raises(BadEvent, match="more than"):
            await smaller.fetcher.fetch(link)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of images, beside it a secret, and in it links of every kind."""
    folder = tmp_path / "photos"
    (folder / "shoes").mkdir(parents=True)
    (folder / "shoes" / "red.jpg").write_bytes(IMAGE)
    (folder / "50% off?#1 ä.jpg").write_bytes(IMAGE)
    (folder / "..hidden").write_bytes(IMAGE)
    (folder / "large.jpg").write_bytes(bytes(2001))
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "photos-of-others").mkdir()
    (tmp_path / "photos-of-others" / "secret").write_bytes(b"secret")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "outside").symlink_to(tmp_path)
    (folder / "inside").symlink_to(folder / "shoes")
    os.mkfifo(folder / "pipe")
    return folder


async def test_files_are_read_below_the_folder(root: Path) -> None:
    """Relative, absolute, and as `file:` links, with names that need escapes there and none as a path."""
    links = ["shoes/red.jpg", "./shoes//red.jpg", str(root / "shoes" / "red.jpg"), (root / "shoes/red.jpg").as_uri()]
    links += ["50% off?#1 ä.jpg", (root / "50% off?#1 ä.jpg").as_uri(), "..hidden", "file:shoes/red.jpg"]
    links += [f"file:{root}/shoes/red.jpg", f"FILE://localhost{root}/shoes/red.jpg"]
    async with Visit(image_root=root, bytes_max=2000) as visit:
        for link in links:
            assert await visit.fetcher.fetch(link) == IMAGE, link


async def test_the_folder_itself_may_be_a_link(root: Path) -> None:
    """The setting is the operator's: it may name a link, and files by either name."""
    alias = root.parent / "alias"
    alias.symlink_to(root)
    async with Visit(image_root=alias) as visit:
        for link in ("shoes/red.jpg", f"{alias}/shoes/red.jpg", f"file://{root}/shoes/red.jpg"):
            assert await visit.fetcher.fetch(link) == IMAGE


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("../secret", "not a path below"),
        ("shoes/../../secret", "not a path below"),
        ("shoes/../shoes/red.jpg", "not a path below"),
        ("{root}/../secret", "not a path below"),
        ("{parent}/secret", "outside the image folder"),
        ("{root}-of-others/secret", "outside the image folder"),
        ("/etc/passwd", "outside the image folder"),
        ("file:///etc/passwd", "outside the image folder"),
        ("file:/etc/passwd", "outside the image folder"),
        ("file:////etc/passwd", "outside the image folder"),
        ("file:../secret", "not a path below"),
        ("file://{root}/%2e%2e/secret", "not a path below"),
        ("file://{root}/..%2fsecret", "not a path below"),
        ("file://{root}/%252e%252e/secret", "is not there"),
        ("file://elsewhere{root}/shoes/red.jpg", "of another host"),
        ("file://{root}/shoes/red.jpg?x", "query or fragment"),
        ("%2e%2e/secret", "is not there"),
        ("shoes/red.jpg\0.png", "not a path below"),
        ("file://{root}/shoes/red.jpg%00.png", "not a path below"),
        ("\ud800.jpg", "not a path"),
        ("", "not a path below"),
        (".", "not a path below"),
        ("{root}", "outside the image folder"),
        ("out", "is a link"),
        ("outside/secret", "links are not followed"),
        ("inside/red.jpg", "links are not followed"),
        ("shoes", "is not a file"),
        ("shoes/", "is not a file"),
        ("shoes/red.jpg/x", "not a folder"),
        ("pipe", "is not a file"),
        ("missing.jpg", "is not there"),
        ("x" * 300, "too long a name"),
        ("large.jpg", "more than"),
    ],
)
async def test_files_that_are_refused(root: Path, link: str, reason: str) -> None:
    """Outside the folder, through links, escapes or dots; not files; not there; too large."""
    async with Visit(image_root=root, bytes_max=2000) as visit:
        with pytest.raises(BadEvent, match=reason):
            await visit.fetcher.fetch(link.replace("{root}", str(root)).replace("{parent}", str(root.parent)))


async def test_a_folder_swapped_for_a_link_is_not_followed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write in the folder cannot win a race: each part is opened below the one before it."""
    opened, real = [], os.open

    def swapping(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if path == b"red.jpg":  # its folder was opened already: now it is replaced
            (root / "shoes").rename(root / "moved")
            (root / "shoes").symlink_to(root.parent)
            (root.parent / "red.jpg").write_bytes(b"secret")
        opened.append(path)
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", swapping)
    async with Visit(image_root=root) as visit:
        assert await visit.fetcher.fetch("shoes/red.jpg") == IMAGE

    assert opened[-2:] == [b"shoes", b"red.jpg"]


async def test_a_folder_or_disk_that_is_away_may_come_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing mount and a failing disk are asked again."""
    async with Visit(image_root=root / "unmounted") as visit:
        with pytest.raises(Unavailable, match="image folder .*unmounted cannot be opened: No such file"):
            await visit.fetcher.fetch("x.jpg")

    def failing(path: Any, *rest: Any, real: Any = os.open, **more: Any) -> int:
        if path == b"red.jpg":
            raise OSError(5, "Input/output error")
        return int(real(path, *rest, **more))

    monkeypatch.setattr(os, "open", failing)
    async with Visit(image_root=root) as visit:
        with pytest.raises(Unavailable, match="cannot be read now: Input/output error"):
            await visit.fetcher.fetch("shoes/red.jpg")


async def test_files_leave_no_descriptor_open(root: Path) -> None:
    """Neither a success nor any failure keeps a file or folder open."""
    async with Visit(image_root=root, bytes_max=2000) as visit:
        await visit.fetcher.fetch("shoes/red.jpg")
        before = len(list(Path("/proc/self/fd").iterdir()))
        for link in ("shoes/red.jpg", "out", "outside/x", "shoes", "pipe", "large.jpg", "shoes/missing", "a/b/c"):
            with contextlib.suppress(BadEvent):
                await visit.fetcher.fetch(link)

        assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_fetches_take_turns(serve: Serve) -> None:
    """No more than a few at once of one host, nor in all; those who wait for one host do not hold up another."""
    under_way: dict[str, int] = {"shop.test": 0, "other.test": 0}
    most: dict[str, int] = dict(under_way)
    release, both = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        host = request.url.host or ""
        under_way[host] += 1
        most[host] = max(most[host], under_way[host])
        most["all"] = max(most.get("all", 0), sum(under_way.values()))
        if sum(under_way.values()) == 3:
            both.set()
        await release.wait()
        under_way[host] -= 1
        return web.Response(body=IMAGE)

    port = (await serve(handler)).rpartition(":")[2]
    async with local(at_once_per_host_max=2, at_once_max=3) as visit:
        links = [f"http://shop.test:{port}/{k}" for k in range(9)] + [f"http://other.test:{port}/{k}" for k in range(4)]
        tasks = [asyncio.ensure_future(visit.fetcher.fetch(link)) for link in links]
        await asyncio.wait_for(both.wait(), 30)  # two of shop.test, and one of other.test although it came last
        release.set()

        assert await asyncio.gather(*tasks) == [IMAGE] * 13
    assert most["shop.test"] == 2
    assert most["other.test"] <= 2
    assert most["all"] == 3


async def test_waiting_behind_others_does_not_count_as_time(serve: Serve) -> None:
    """A fetch whose turn comes late has all its seconds, and one given up while waiting leaves its place."""
    release = asyncio.Event()
    arrived = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        arrived.set()
        if request.path == "/first":
            await release.wait()
        return web.Response(body=IMAGE)

    base = await serve(handler)
    async with local(at_once_per_host_max=1) as visit:
        first = asyncio.ensure_future(visit.fetcher.fetch(base + "/first"))
        await asyncio.wait_for(arrived.wait(), 30)
        second, third = (asyncio.ensure_future(visit.fetcher.fetch(f"{base}/{k}")) for k in range(2))
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        release.set()

        assert [await first, await third] == [IMAGE, IMAGE]
        assert visit.fetcher._turns._hosts == {}


async def test_those_who_wait_for_a_silent_host_are_sent_away(serve: Serve) -> None:
    """When it let the first run into their time limit, the others do not do so one after the other."""
    never = asyncio.Event()
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        if request.url.host == "shop.test":
            await never.wait()
        return web.Response(body=IMAGE)

    port = (await serve(handler)).rpartition(":")[2]
    async with local(timeout_s=0.5) as visit:
        links = [f"http://shop.test:{port}/{k}" for k in range(100)]
        outcomes = await asyncio.gather(*map(visit.fetcher.fetch, links), return_exceptions=True)

        assert await visit.fetcher.fetch(f"http://other.test:{port}/") == IMAGE
    never.set()
    silent = sum(isinstance(each, HostSilent) for each in outcomes)
    assert sum(isinstance(each, HostRests) for each in outcomes) == len(links) - silent
    assert SILENCES_MAX <= silent < 2 * SILENCES_MAX, "some begin between the first that ends in silence and the last"
    assert len(asked) == silent + 1


async def test_a_host_that_was_left_little_time_is_not_called_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another that redirects to it took nine of ten seconds: its own pictures are asked for all the same."""
    now_s = 0.0

    async def visited(url: URL, host: str, left_s: float) -> URL:
        nonlocal now_s
        if host == "other.test":
            raise HostSilent("nothing came")
        now_s += 9
        return URL("http://other.test/")

    async with local(timeout_s=10) as visit:
        with monkeypatch.context() as patched:
            patched.setattr(visit.fetcher, "_visit", visited)
            patched.setattr(asyncio.get_running_loop(), "time", lambda: now_s)
            for _ in range(SILENCES_MAX):
                with pytest.raises(HostSilent):
                    await visit.fetcher.fetch("http://shop.test/")

            with pytest.raises(HostSilent):  # and not HostRests
                await visit.fetcher.fetch("http://other.test/")


async def test_the_systems_sockets_and_names(serve: Serve) -> None:
    """Without stand-ins, as in the worker: `localhost` is found by the system, and allowed by its name."""
    base = await serve(image)
    async with ImageFetcher(allowed_hosts=["localhost"]) as fetcher:
        assert await fetcher.fetch(base.replace("127.0.0.1", "localhost") + "/x.jpg") == IMAGE
        with pytest.raises(BadEvent, match="127.0.0.1 is a loopback address"):
            await fetcher.fetch(base + "/x.jpg")


async def test_closing_twice_and_without_use_is_harmless() -> None:
    """A fetcher that never fetched has nothing to close."""
    async with ImageFetcher() as fetcher:
        await fetcher.close()
