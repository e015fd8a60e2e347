"""Data links: a picture inside its own link (RFC 2397)."""

from __future__ import annotations

import binascii
from urllib.parse import unquote_to_bytes

from models.errors import BadEvent

DATA_BYTES_MAX = 1 << 20
"""Of the picture inside a `data:` link."""


def read_data_link(link: str, bytes_max: int = DATA_BYTES_MAX) -> bytes:
    """The bytes inside a `data:` link (RFC 2397), base64 or percent-encoded.  BadEvent: too large, or neither."""
    head, comma, body = link.partition(",")
    if not comma:
        raise BadEvent("data link has no comma between its kind and its content")
    base64 = head.lower().rstrip().endswith(";base64")
    too_large = f"data link has more than the {bytes_max / 1e6:.1f} MB that are accepted"
    if len(body) > bytes_max * 4:  # percent-encoded takes at most 3 characters a byte, and some blanks
        raise BadEvent(too_large)
    content = unquote_to_bytes(body)
    if base64:
        content = content.translate(None, b" \t\r\n\f")
        content += b"=" * (-len(content) % 4)
        try:
            content = binascii.a2b_base64(content, strict_mode=True)
        except binascii.Error as error:
            raise BadEvent(f"data link is not base64: {error}") from error
    if len(content) > bytes_max:
        raise BadEvent(too_large)
    return content
