"""What the first bytes of an image file say: its format, and of a WebP file its size.

They are read before Pillow sees the file: it is to try no other format, and to open no WebP file that is too large.
"""

from __future__ import annotations

from models.errors import BadEvent

_AVIF_BRANDS = {b"avif", b"avis"}
"""Other media of the same container (HEIC, MP4) carry none of them."""
_FTYP_BYTES_MAX = 256


def format_of(data: bytes) -> str:
    """Pillow's name of the format, by the first bytes alone."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[4:8] == b"ftyp" and _AVIF_BRANDS & _brands(data):
        return "AVIF"
    if data.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    found = f"begins with {data[:16]!r}" if data else "is empty"
    raise BadEvent(f"expected a JPEG, PNG, WebP, GIF, AVIF, TIFF or BMP image, but it {found}")


def _brands(data: bytes) -> set[bytes]:
    """What an ISO media file says it is (ISO 14496-12, 4.3): its major brand, a version, and brands it is also."""
    end = min(int.from_bytes(data[:4]), _FTYP_BYTES_MAX)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}


def webp_size(data: bytes) -> tuple[int, int]:
    """Canvas size of a WebP file, from its first chunk.

    Layout: https://developers.google.com/speed/webp/docs/riff_container and RFC 6386, section 9.1 (lossy).
    """
    chunk = data[12:16]
    if len(data) < 30:
        raise BadEvent("WebP image ends within its header")
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    raise BadEvent(f"WebP image begins with a chunk {chunk!r}, expected VP8, VP8L or VP8X")
