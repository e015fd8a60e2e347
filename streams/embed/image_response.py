"""A host's answer to the question for an image: its status, and its body within the limits.

4xx is for ever (BadEvent) unless it says "later"; that and 5xx are not (Unavailable).  Of the body no more is read or
unpacked than is accepted, whatever its headers say.
"""

from __future__ import annotations

import re
import zlib
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp

from models.errors import BadEvent, Unavailable

CHUNK_BYTES = 1 << 16
RETRY_AFTER_S_MAX = 86_400.0


def check_status(host: str, response: aiohttp.ClientResponse) -> None:
    """Raises unless the answer carries the image."""
    status = response.status
    if status in (200, 203):
        return
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "unknown"
    message = f"{host} answered {status} ({phrase})"
    if status < 500 and status not in (408, 425, 429):
        raise BadEvent(message)
    retry_after_s = _retry_after_s(response.headers.get("Retry-After"), response.headers.get("Date"))
    raise Unavailable(message, retry_after_s)


def _retry_after_s(text: str | None, date: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3); a date is compared with the host's own `Date`."""
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return min(float(text), RETRY_AFTER_S_MAX)
    try:
        seconds = (parsedate_to_datetime(text) - parsedate_to_datetime(date or "")).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_S_MAX)


async def read_body(host: str, response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The whole body, stopped as soon as it is too large; unpacked where the host packed it without being asked."""
    if (response.content_length or 0) > bytes_max:
        raise _too_large(host, bytes_max)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise BadEvent(f"{host} sends the image in encoding {encoding[:40]!r}, which was not asked for")
    inflate = zlib.decompressobj(wbits=47) if encoding not in ("", "identity") else None  # 47: zlib's or gzip's
    content = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        if inflate is not None:
            try:
                chunk = inflate.decompress(chunk, bytes_max - len(content) + 1)
            except zlib.error as error:
                raise BadEvent(f"{host} sends an image whose {encoding} encoding is damaged") from error
        content += chunk
        if len(content) > bytes_max:
            raise _too_large(host, bytes_max)
    if inflate is not None and not inflate.eof:
        raise Unavailable(f"{host} ended the image early")
    return bytes(content)


def _too_large(host: str, bytes_max: int) -> BadEvent:
    return BadEvent(f"image at {host} has more than the {bytes_max / 1e6:.1f} MB that are accepted")
