"""Bodies of HTTP calls, read with every limit checked before it costs anything.

1. The length that is announced, and the bytes that come, are at most `KINDRED_HTTP_BODY_BYTES_MAX`, packed or not.
2. All bodies together take at most `TOGETHER_BYTES_MAX`, and each must be there within `BODY_S_MAX`.
3. JSON of very many values or escapes is refused unread: a megabyte of brackets would become sixty of lists, and hold
   the loop meanwhile.

The content type says nothing here: Algolia's clients call their JSON text or a form.
"""

from __future__ import annotations

import asyncio
import zlib

from aiohttp import web

from models.errors import BadRequest
from streams.web.answers import Overloaded

TOGETHER_BYTES_MAX = 64_000_000
BODY_S_MAX = 10.0
VALUES_MAX = 100_000
"""Of a body, about: they take some 10 MB and 50 ms.  50 requests of 100 items each are 15,000."""
_WINDOWS = {"": 0, "identity": 0, "gzip": 31, "x-gzip": 31, "deflate": 15}
"""`Content-Encoding` by the window bits that zlib wants."""


class Bodies:
    """Reads the bodies of a server's calls."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held_bytes = 0

    async def read(self, request: web.BaseRequest, values_max: int | None = VALUES_MAX) -> bytes:
        """The body, unpacked.  BadRequest: 413 too large, 415 packed in a way that is not known, 408 too slow, 400.

        `values_max` None: whoever reads it does so bit by bit.
        """
        encoding = request.headers.get("Content-Encoding", "").strip().lower()
        window = _WINDOWS.get(encoding)
        if window is None:
            raise BadRequest(f"content-encoding: expected gzip, deflate or none, got {encoding[:40]!r}", 415)
        if (request.content_length or 0) > self.bytes_max:
            raise self._too_large()
        body = await self._received(request)
        if window:
            body = self._unpacked(body, window)
        if values_max is not None and values_about(body, values_max) > values_max:
            raise BadRequest(f"expected at most {values_max:,} values and escapes in a body")
        return body

    async def _received(self, request: web.BaseRequest) -> bytes:
        if not request.body_exists:
            return b""
        if request.content.is_eof():  # it came together with the head, as nearly all do
            body = request.content.read_nowait()
            if len(body) > self.bytes_max:  # in chunks, which announce no length
                raise self._too_large()
            return body
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # nothing of the answer itself is on its way yet
        parts: list[bytes] = []
        taken = 0
        try:
            async with asyncio.timeout(BODY_S_MAX):
                while part := await request.content.readany():
                    taken += len(part)
                    self.held_bytes += len(part)
                    if taken > self.bytes_max:
                        raise self._too_large()
                    if self.held_bytes > TOGETHER_BYTES_MAX:
                        raise Overloaded("too many large bodies at once; come again")
                    parts.append(part)
        except TimeoutError:
            raise BadRequest(f"the body was not there within {BODY_S_MAX:g} s", 408) from None
        except web.RequestPayloadError as error:
            raise BadRequest(f"the body cannot be read: {error}") from error
        finally:
            self.held_bytes -= taken
        return b"".join(parts)

    def _unpacked(self, body: bytes, window: int) -> bytes:
        unpacker = zlib.decompressobj(window)
        try:
            unpacked = unpacker.decompress(body, self.bytes_max + 1)
        except zlib.error as error:
            raise BadRequest(f"the packed body cannot be unpacked: {error}") from error
        if len(unpacked) > self.bytes_max:
            raise self._too_large()
        if not unpacker.eof:
            raise BadRequest("the packed body ends in the middle")
        if unpacker.unused_data:
            raise BadRequest("the packed body goes on after its end")
        return unpacked

    def _too_large(self) -> BadRequest:
        return BadRequest(f"expected a body of at most {self.bytes_max:,} bytes", 413)


def values_about(body: bytes, least: int) -> int:
    """About how many values and escapes there are; not counted where there cannot be `least`."""
    return 0 if len(body) <= least else sum(map(body.count, (b",", b"[", b"{", b"\\")))
