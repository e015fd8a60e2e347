"""Image links become bytes: `http:`, `https:`, `data:`, `file:` and relative ones, each within limits.

Easy to get wrong:

* What a link leads to is a stranger's.  Nothing it says of itself (content type, length, encoding) is trusted, and
  every step (redirect, look-up, connection) is judged anew: see `streams/fetch_guard.py` for addresses,
  `image_response.py` for answers and `image_root.py` for files.
* Of the two errors one is for ever and one is not: BadEvent (never ask again) and Unavailable (ask again later).
* The seconds count for looking up, connecting and reading over all redirects, not for waiting behind other fetches.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from models.errors import BadEvent, Unavailable
from streams.embed.data_link import DATA_BYTES_MAX, read_data_link
from streams.embed.image_response import check_status, read_body
from streams.embed.image_root import ImageRoot
from streams.embed.silent_hosts import HostSilent, SilentHosts
from streams.fetch_guard import (
    AddressGuard,
    OpenSocket,
    RefusedAddress,
    guarded_connector,
    open_tcp_socket,
    visited_host,
)

LINK_CHARACTERS_MAX = 8_000
"""Of a link that is not a `data:` link; more than any browser or server is known to take."""

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")
_ENCODED = re.compile(r"(?:[A-Za-z0-9:/?#\[\]@!$&'()*+,;=._~|^{}-]|%[0-9A-Fa-f]{2})*")
_HEADERS = {
    "User-Agent": "Kindred (fetches product images)",
    "Accept": "image/jpeg, image/png, image/webp, image/*;q=0.8, */*;q=0.1",
    "Accept-Encoding": "identity",
}


class ImageFetcher:
    """Fetches image links.  One for a process: it keeps connections and counts what is under way.

    `async with`, or `close()` when done.
    """

    def __init__(
        self,
        *,
        image_root: Path | None = None,
        allowed_hosts: Sequence[str] = (),
        bytes_max: int = 20_000_000,
        timeout_s: float = 10.0,
        redirects_max: int = 5,
        at_once_max: int = 64,
        at_once_per_host_max: int = 8,
        resolver: AbstractResolver | None = None,
        open_socket: OpenSocket = open_tcp_socket,
    ) -> None:
        """ValueError: `allowed_hosts` has something that is neither a name nor a network.

        `resolver` and `open_socket` stand in for the system's in tests; the guard is in front of both.
        """
        self._root = ImageRoot(image_root) if image_root is not None else None
        self._guard = AddressGuard(allowed_hosts)
        self._bytes_max = bytes_max
        self._timeout_s = timeout_s
        self._redirects_max = redirects_max
        self._turns = _Turns(at_once_max, at_once_per_host_max)
        self._silent = SilentHosts(timeout_s)
        self._resolver = resolver
        self._open_socket = open_socket
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, link: str) -> bytes:
        """The bytes that `link` leads to, not looked into.

        BadEvent: a link that is none, leads where nothing may be fetched, to nothing, or to too much.
        Unavailable: the host does not answer now; with `retry_after_s` when it said how long, or was not asked.
        """
        read = self.reader(link)
        return await (asyncio.to_thread(read) if read else self._follow(self._checked_url(link)))

    def reader(self, link: str) -> Callable[[], bytes] | None:
        """What gives the bytes of a link that no host is asked for, for a thread: it blocks, and raises as `fetch`.

        None: a link to a host.  BadEvent: a link that is neither.
        """
        scheme = match[1].lower() if (match := _SCHEME.match(link)) else None
        if scheme == "data":
            return partial(read_data_link, link, min(DATA_BYTES_MAX, self._bytes_max))
        if len(link) > LINK_CHARACTERS_MAX:
            raise BadEvent(f"image link has {len(link)} characters, at most {LINK_CHARACTERS_MAX} are accepted")
        if scheme in ("http", "https"):
            return None
        if scheme not in (None, "file") or link.startswith("//"):
            raise BadEvent(f"image link {link[:80]!r} is not one of http, https, data, file, or a relative path")
        if self._root is None:
            raise BadEvent(f"image link {link[:80]!r} names a file, and no image folder is set (KINDRED_IMAGE_ROOT)")
        return partial(self._root.read, link, self._bytes_max)

    async def close(self) -> None:
        """Close what connections are open."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> ImageFetcher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _checked_url(self, link: str) -> URL:
        """The link as the URL that will be asked for.  BadEvent where it is none, or its host is refused (gate 1)."""
        if _UNSAFE.search(link):
            raise BadEvent(f"image link {link[:80]!r} has backslashes or control characters")
        try:
            # A link that is encoded already is taken as it is: signatures of many hosts are over the exact text.
            url = URL(link, encoded=_ENCODED.fullmatch(link) is not None).with_fragment(None)
            host, _ = url.raw_host, url.port
        except ValueError as error:
            raise BadEvent(f"image link {link[:80]!r} is not a URL: {error}") from error
        if url.scheme not in ("http", "https") or not host:
            raise BadEvent(f"image link {link[:80]!r} is not an http or https URL with a host")
        if url.raw_user is not None or url.raw_password is not None or "@" in url.raw_authority:
            raise BadEvent(f"image link to {host} has a user name or password in it")
        try:
            self._guard.check_host(host)
        except RefusedAddress as refused:
            raise BadEvent(f"image link refused: {refused}") from refused
        return url

    async def _follow(self, url: URL) -> bytes:
        """The bytes at `url`, over redirects, within the seconds that one fetch has."""
        left_s = self._timeout_s
        clock = asyncio.get_running_loop().time
        for _ in range(self._redirects_max + 1):
            host = (url.raw_host or "").lower()
            async with self._turns.turn(host):
                began = clock()
                with self._silent.asking(f"{host}:{url.port}", whole=left_s > self._timeout_s / 2):
                    found = await self._visit(url, host, left_s)
                left_s -= clock() - began
            if isinstance(found, bytes):
                return found
            url = found
        raise BadEvent(f"image link leads through more than {self._redirects_max} redirects, lately to {url.raw_host}")

    async def _visit(self, url: URL, host: str, timeout_s: float) -> bytes | URL:
        """One request: the bytes, or where it redirects to."""
        visited_host.set(host)
        try:
            async with asyncio.timeout(timeout_s):
                async with self._opened_session().get(url, allow_redirects=False) as response:
                    try:
                        if response.status in (301, 302, 303, 307, 308):
                            return self._redirected(url, response)
                        check_status(host, response)
                        return await read_body(host, response, self._bytes_max)
                    except BadEvent:
                        response.close()  # not back to the pool: the rest is not wanted
                        raise
        except TimeoutError as error:
            raise HostSilent(f"{host} did not send the image within {self._timeout_s:g} s") from error
        except aiohttp.InvalidURL as error:
            raise BadEvent(f"image link refused: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            if (refused := _refusal(error)) is not None:
                raise BadEvent(f"image link refused: {refused}") from error
            raise Unavailable(_failure(host, error)) from error

    def _opened_session(self) -> aiohttp.ClientSession:
        """Made at the first use, inside the running loop."""
        if self._session is None:
            resolver = self._resolver or aiohttp.ThreadedResolver()
            self._session = aiohttp.ClientSession(
                connector=guarded_connector(self._guard, resolver, self._open_socket),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=_HEADERS,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    def _redirected(self, url: URL, response: aiohttp.ClientResponse) -> URL:
        location = response.headers.get("Location")
        if not location:
            raise BadEvent(f"{url.raw_host} answered {response.status} without saying where to")
        try:
            target = urljoin(str(url), location)
        except ValueError as error:
            raise BadEvent(f"{url.raw_host} redirects to {location[:80]!r}, which is not a URL") from error
        if len(target) > LINK_CHARACTERS_MAX:
            raise BadEvent(f"{url.raw_host} redirects to a link of {len(target)} characters")
        return self._checked_url(target)


class _Turns:
    """How many fetches are under way, in all and of each host; further ones wait their turn."""

    def __init__(self, total: int, per_host: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._per_host = per_host
        self._hosts: dict[str, tuple[asyncio.Semaphore, list[None]]] = {}

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """First a turn of the host, then one of all: those who wait for a slow host must not hold up the others."""
        own, users = self._hosts.setdefault(host, (asyncio.Semaphore(self._per_host), []))
        users.append(None)
        try:
            async with own, self._total:
                yield
        finally:
            users.pop()
            if not users:
                del self._hosts[host]


def _refusal(error: BaseException | None) -> RefusedAddress | None:
    """The guard's refusal among the causes of aiohttp's error."""
    while error is not None:
        if isinstance(error, RefusedAddress):
            return error
        error = error.__cause__ or error.__context__
    return None


def _failure(host: str, error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"{host} has no address at present"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return f"{host} could not be reached safely: {error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{host} could not be connected to: {error.os_error.strerror or error.os_error}"
    return f"{host} broke off: {error or type(error).__name__}"
