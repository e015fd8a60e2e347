"""Images: the bytes of a file become RGB pixels, and pixels a file.  Pillow's only home.

Easy to get wrong:

* Every failure is a `BadEvent` with its reason in words; a picture that Pillow only half understands is refused.
* Size is judged by the header, before anything of that size is allocated, by our own limit: Pillow's
  `MAX_IMAGE_PIXELS` is one global for the whole process and only warns up to twice its value.
* Only the formats that shops use are tried (`image_header.py`).  Pillow knows forty more, among them EPS, which runs
  Ghostscript.
* The picture is *squashed* into the square (its sides' ratio is lost): the whole item stays visible to the network.
"""

from __future__ import annotations

import io
import threading
import unicodedata
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (  # the plugins are imported here, so that no thread has to
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFont,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from models.errors import BadEvent
from models.image_header import format_of, webp_size
from models.request_seeds import Crop

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]

REDUCING_GAP = 2.0
"""Pillow first shrinks by averaging to this many times the wanted size, and reads JPEG files at 1/2, 1/4 or 1/8.

Twice as fast on large JPEG files.  Measured on 60 of them with the shipped model: cosine with the vector of a full
decode .9991 in the mean, .995 at worst (without any of this: .9991, .997); P@10 of 571 pictures moves by .002.
"""

# Pillow warns of every oddity of a stranger's file in words of its own: a flood in the log that nobody can act on.
warnings.filterwarnings("ignore", module=r"PIL\.")

_ONE_AVIF = threading.Lock()
"""One at a time: an AVIF file may claim 64 x 64 pixels while its AV1 data has as many as libavif allows, 16,384
x 16,384, which Pillow cannot lower.  36 million of them took 77 MB, so a small file may take 0.6 GB for a moment.
"""

EXIF_ORIENTATION = 0x0112
TIFF_COMPRESSION, TIFF_TILE_WIDTH, TIFF_TILE_LENGTH = 259, 322, 323
TIFF_COMPRESSIONS = (1, 5, 7, 8, 32773, 32946)
"""None, LZW, JPEG, deflate (twice), PackBits.  Fax and experimental codecs are parsers that no shop needs."""


@dataclass(frozen=True)
class ImageLimits:
    """What an image may cost: bytes of its file, and pixels (width x height) of its first frame."""

    image_bytes_max: int = 20_000_000
    image_pixels_max: int = 50_000_000


def decode(data: bytes, size: int, limits: ImageLimits = ImageLimits(), crop: Crop | None = None) -> Pixels:
    """uint8[size, size, 3] RGB of an image file: first frame, upright, on white, squashed (bilinear).

    `crop`: only that part of the upright picture, at least a pixel of it.  BadEvent says why an image cannot be used.
    """
    return _decoded(data, limits, lambda width, height: (size, size), crop)


def thumbnail(data: bytes, side_max: int, limits: ImageLimits = ImageLimits()) -> bytes:
    """A small JPEG of an image file, as `shrunk` has it."""
    return encode_jpeg(shrunk(data, side_max, limits))


def shrunk(data: bytes, side_max: int, limits: ImageLimits = ImageLimits()) -> Pixels:
    """uint8[H, W, 3] RGB of an image file, its longer side at most `side_max`, its ratio kept.  Raises as `decode`."""

    def fitted(width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, side_max / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    return _decoded(data, limits, fitted)


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """uint8[height, width, 3] of `pixels` uint8[H, W, 3] RGB, for people to look at."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def lettering(text: str, height: int) -> NDArray[np.uint8]:
    """uint8[H, W]: how much of each pixel one line of text covers, in letters of `height` pixels.

    Pillow's own font, so that it looks the same everywhere.  It has ASCII and little more: accents are left out, and
    other scripts are question marks.  H depends on `height` alone, so that lines stand in line.
    """
    font = ImageFont.load_default(height)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("expected Pillow with FreeType, which its own wheels have")
    ascent, descent = font.getmetrics()
    drawn = "".join(map(_drawable, unicodedata.normalize("NFKD", text)))
    mask, offset = font.getmask2(drawn or " ", mode="L", anchor="ls")
    width, rows = mask.size
    lines = np.zeros((ascent + descent, max(1, width + max(0, offset[0]))), np.uint8)
    top, left = max(0, ascent + offset[1]), max(0, offset[0])
    letters = np.frombuffer(bytes(mask), np.uint8).reshape(rows, width)[: len(lines) - top]
    lines[top : top + len(letters), left : left + width] = letters
    return lines


def _drawable(character: str) -> str:
    if unicodedata.combining(character):
        return ""
    return character if " " <= character <= "~" or character in "…·×°" else "?"


def encode_jpeg(pixels: Pixels, quality: int = 85) -> bytes:
    """A JPEG file of `pixels` uint8[H, W, 3] RGB."""
    return _encoded(pixels, format="JPEG", quality=quality)


def encode_png(pixels: Pixels) -> bytes:
    """A PNG file of `pixels` uint8[H, W, 3] RGB, lossless."""
    return _encoded(pixels, format="PNG")


def _encoded(pixels: Pixels, **options: Any) -> bytes:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"expected uint8[H, W, 3], got {pixels.dtype}{list(pixels.shape)}")
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, **options)
    return file.getvalue()


def _decoded(
    data: bytes, limits: ImageLimits, target: Callable[[int, int], tuple[int, int]], crop: Crop | None = None
) -> Pixels:
    """Pixels of `data`, or of a part of it, shrunk to `target(width, height)` before they are turned upright."""
    if len(data) > limits.image_bytes_max:
        raise BadEvent(f"image is {_megabytes(len(data))}, at most {_megabytes(limits.image_bytes_max)} are accepted")
    kind = format_of(data)
    try:
        if kind == "WEBP":  # Pillow's decoder allocates the whole canvas as it opens the file
            _check_pixels(*webp_size(data), limits)
        turn: AbstractContextManager[Any] = _ONE_AVIF if kind == "AVIF" else nullcontext()
        # Not Image.open: it would judge the size by Pillow's global limit, and try other formats.
        with turn, Image.OPEN[kind][0](io.BytesIO(data), "") as image:
            _check_pixels(*image.size, limits)
            if kind == "TIFF":
                _check_tiff(image, limits)
            size = target(*image.size)
            # JPEG only: decodes to 1/2, 1/4 or 1/8 where that still leaves more pixels than are needed.
            gap = REDUCING_GAP if crop is None else REDUCING_GAP / min(crop[2:])
            image.draft("RGB", (int(size[0] * gap), int(size[1] * gap)))
            image.load()
            orientation = _orientation(image)
            box = None if crop is None else _box(crop, image.size, orientation)
            return _upright(_on_white(image, size, box), orientation)
    except BadEvent:
        raise
    except Image.DecompressionBombError as error:  # a GIF frame that is larger than the file's header says
        raise BadEvent(f"image has too many pixels: {error}") from error
    except Exception as error:
        # Pillow's parsers raise whatever a damaged file leads them to (struct.error, KeyError, MemoryError, ...).
        raise BadEvent(f"{kind} image cannot be decoded: {error or type(error).__name__}") from error


def _check_pixels(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.image_pixels_max:
        raise BadEvent(
            f"image is {width} x {height} pixels ({width * height / 1e6:.1f} megapixels), "
            f"at most {limits.image_pixels_max / 1e6:.1f} megapixels are accepted"
        )


def _check_tiff(image: Image.Image, limits: ImageLimits) -> None:
    """BadEvent for a TIFF file with tiles larger than a picture may be, or a codec that shops do not use."""
    tags: dict[int, Any] = image.tag_v2  # type: ignore[attr-defined]
    if (compression := tags.get(TIFF_COMPRESSION, 1)) not in TIFF_COMPRESSIONS:
        raise BadEvent(f"TIFF image has compression {compression}, expected none, LZW, deflate, PackBits or JPEG")
    if TIFF_TILE_WIDTH in tags and TIFF_TILE_LENGTH in tags:  # a whole tile is allocated, however small the picture
        _check_pixels(tags[TIFF_TILE_WIDTH], tags[TIFF_TILE_LENGTH], limits)


def _box(crop: Crop, size: tuple[int, int], orientation: int) -> Box:
    """Where a part of the upright picture is in the picture as it is stored: left, top, right, bottom in pixels."""
    x, y, width, height = crop
    if orientation in (3, 4, 7, 8):
        y = 1 - y - height
    if orientation in (2, 3, 6, 7):
        x = 1 - x - width
    if 5 <= orientation <= 8:
        x, y, width, height = y, x, height, width
    left, right = _pixels(x, width, size[0])
    top, bottom = _pixels(y, height, size[1])
    return left, top, right, bottom


def _pixels(start: float, length: float, side: int) -> tuple[float, float]:
    """Begin and end within a side, at least one pixel apart."""
    begin = min(max(start, 0.0) * side, side - 1)
    return begin, min(max((start + length) * side, begin + 1), side)


def _on_white(image: Image.Image, size: tuple[int, int], box: Box | None = None) -> Pixels:
    """uint8[H, W, 3] RGB of a loaded image of any mode, resized to `size` (W, H), transparent parts on white.

    `box`: of that part of it.
    """
    if image.mode.startswith("I;16"):  # grey of 16 bits: the upper eight
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise BadEvent("image has grey values of 32 bits, whose black and white are not known; expected 8 or 16 bits")
    if image.has_transparency_data:
        # Premultiplied, so that the colours of transparent pixels do not bleed into their neighbours; white then
        # shines through by what alpha leaves.  No channel exceeds alpha, so the sum never exceeds 255.
        straight = image if image.mode == "RGBA" else image.convert("RGBA")
        rgba: Pixels = np.asarray(_resized(straight.convert("RGBa"), size, box))
        on_white: Pixels = rgba[..., :3] + (255 - rgba[..., 3:])
        return on_white
    if image.mode in ("L", "1"):
        grey = np.asarray(_resized(image.convert("L"), size, box))
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(_resized(image if image.mode == "RGB" else image.convert("RGB"), size, box))


def _resized(image: Image.Image, size: tuple[int, int], box: Box | None) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR, box, reducing_gap=REDUCING_GAP)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none or it cannot be read: a damaged note does not spoil a picture."""
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:
        return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """`pixels` uint8[H, W, 3] as the camera was held (EXIF 2.32, tag 0x0112); unknown numbers change nothing."""
    if orientation >= 5:  # 5..8: rows and columns are exchanged
        pixels = pixels.swapaxes(0, 1) if orientation <= 8 else pixels
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
