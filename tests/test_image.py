"""Images: whatever shops send becomes RGB pixels, or a reason in words."""

from __future__ import annotations

import contextlib
import io
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from models.errors import BadEvent
from models.image import ImageLimits, decode, encode_jpeg, encode_png, thumbnail

# Pytest lifts the filter that models.image sets.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

WHITE = (255, 255, 255)


def picture(width: int = 96, height: int = 64) -> Image.Image:
    """Smooth and asymmetric, so that a wrong turn or channel shows and lossy formats come close."""
    y, x = np.mgrid[0:height, 0:width]
    red, green, blue = 255 * x / width, 255 * y / height, 255 * (x + y < width / 3)
    return Image.fromarray(np.stack([red, green, blue], -1).astype(np.uint8))


def file(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def squashed(image: Image.Image, size: int) -> np.ndarray:
    """The oracle: how quality is measured (`fit` of the evaluation)."""
    return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


SAMPLES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: file(picture(), "JPEG", quality=95),
    "jpeg progressive": lambda: file(picture(), "JPEG", quality=95, progressive=True),
    "jpeg grey": lambda: file(picture().convert("L"), "JPEG", quality=95),
    "jpeg cmyk": lambda: file(picture().convert("CMYK"), "JPEG", quality=95),
    "mpo": lambda: file(picture(), "MPO", save_all=True, append_images=[picture()], quality=95),
    "png": lambda: file(picture(), "PNG"),
    "png rgba": lambda: file(picture().convert("RGBA"), "PNG"),
    "png palette": lambda: file(picture().quantize(64), "PNG", transparency=3),
    "png animated": lambda: file(picture(), "PNG", save_all=True, append_images=[picture().rotate(180)]),
    "webp": lambda: file(picture(), "WEBP", quality=95),
    "webp lossless rgba": lambda: file(picture().convert("RGBA"), "WEBP", lossless=True),
    "webp animated": lambda: file(picture(), "WEBP", save_all=True, append_images=[picture().rotate(180)]),
    "gif": lambda: file(picture(), "GIF"),
    "gif animated": lambda: file(picture(), "GIF", save_all=True, append_images=[picture().rotate(180)]),
    "bmp": lambda: file(picture(), "BMP"),
    "tiff": lambda: file(picture(), "TIFF"),
    "tiff lzw": lambda: file(picture(), "TIFF", compression="tiff_lzw"),
    "tiff jpeg": lambda: file(picture(), "TIFF", compression="jpeg"),
    "avif": lambda: file(picture(), "AVIF", quality=95),
}


@pytest.mark.parametrize(
    ("width", "height", "size"), [(96, 64, 32), (10, 300, 64), (1, 1, 16), (700, 500, 128), (33, 21, 224)]
)
def test_squash_is_that_of_the_evaluation(width: int, height: int, size: int) -> None:
    """A lossless picture of any shape gives exactly the pixels that quality is measured with."""
    pixels = decode(file(picture(width, height), "PNG"), size)

    assert pixels.dtype == np.uint8
    assert pixels.shape == (size, size, 3)
    assert np.array_equal(squashed(picture(width, height), size), pixels)


def test_photos_of_the_packs_decode_as_in_the_evaluation(shared_folder: Path) -> None:
    """Real photos of up to 192 pixels give exactly the evaluation's pixels: its figures are ours."""
    with tarfile.open(shared_folder / "data" / "clothing" / "test.tar") as pack:
        members = [member for member in pack.getmembers() if member.isfile()][:40]
        for member in members:
            stored = pack.extractfile(member)
            assert stored is not None
            data = stored.read()
            assert np.array_equal(squashed(Image.open(io.BytesIO(data)), 128), decode(data, 128))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_format_gives_the_picture(name: str) -> None:
    """Each format that shops use comes close to the picture it was made from, first frame if several."""
    source = picture().convert("L") if "grey" in name else picture()

    assert difference(squashed(source, 48), decode(SAMPLES[name](), 48)) < 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_of_lossless_formats(kind: str, mode: str) -> None:
    """Bits, grey, grey with alpha, palette and colour all become RGB."""
    image = picture().convert("RGBA").convert(mode) if mode == "LA" else picture().convert(mode)
    grey_is_exact = squashed(image.convert("L"), 32) if mode in ("1", "LA") else squashed(image, 32)

    assert difference(grey_is_exact, decode(file(image, kind), 32)) < 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_sixteen_bits_keeps_its_upper_eight(kind: str) -> None:
    """16-bit grey spans black to white, instead of being clipped at 255."""
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)

    pixels = decode(file(Image.fromarray(grey), kind), 16)

    assert np.array_equal(np.repeat((grey >> 8)[..., None], 3, axis=2), pixels)


def test_big_endian_tiff_of_sixteen_bits() -> None:
    """Byte order of 16-bit grey is the file's."""
    grey = np.linspace(0, 65535, 256).astype(">u2").reshape(16, 16)
    entries = [(256, 16), (257, 16), (258, 16), (259, 1), (262, 1), (273, 8 + 2 + 12 * 8 + 4), (278, 16), (279, 512)]
    header = b"MM\0*" + struct.pack(">IH", 8, len(entries))
    header += b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in entries) + bytes(4)

    assert np.array_equal((grey >> 8)[..., None].repeat(3, axis=2), decode(header + grey.tobytes(), 16))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_grey_of_thirty_two_bits_is_refused(mode: str) -> None:
    """Numbers without a known white cannot be shown."""
    with pytest.raises(BadEvent, match="32 bits"):
        decode(file(picture().convert("L").convert(mode), "TIFF"), 16)


def test_cmyk_and_ycck_jpeg() -> None:
    """Print colours, in both of Adobe's ways, become those that the decoder's own conversion gives."""
    data = file(picture().convert("CMYK"), "JPEG", quality=95)
    adobe = data.index(b"Adobe") + 11  # APP14's transform: 0 CMYK, 2 YCCK
    ycck = data[:adobe] + b"\2" + data[adobe + 1 :]

    for content in (data, ycck):
        assert np.array_equal(squashed(Image.open(io.BytesIO(content)), 32), decode(content, 32))
    assert difference(decode(data, 32), decode(ycck, 32)) > 10


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(kind: str, orientation: int) -> None:
    """All eight EXIF orientations come out as the camera was held, in thumbnails too."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    data = file(picture(), kind, exif=exif, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))

    assert difference(squashed(upright, 32), decode(data, 32)) < 1.5
    assert Image.open(io.BytesIO(thumbnail(data, 48))).size == ((48, 32) if orientation <= 4 else (32, 48))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientations_change_nothing(orientation: int) -> None:
    """A number that EXIF does not define leaves the picture as it is."""
    exif = Image.Exif()
    exif[0x0112] = orientation

    assert np.array_equal(squashed(picture(), 32), decode(file(picture(), "PNG", exif=exif), 32))


@pytest.mark.parametrize(
    "note",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\4\0\0\0abc\0\0\0\0\0",  # an orientation that is text
    ],
)
def test_a_damaged_exif_note_does_not_spoil_the_picture(note: bytes) -> None:
    """The pixels are whole, so the picture is used, as it lies."""
    plain, noted = file(picture(), "JPEG"), file(picture(), "JPEG", exif=note)

    assert np.array_equal(decode(plain, 32), decode(noted, 32))


def test_transparent_parts_are_white_whatever_colour_hides_there() -> None:
    """Alpha is composited on white, and colours under full transparency do not bleed over the edge."""
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[:, :32] = (200, 0, 0, 255)
    rgba[:, 32:] = (0, 255, 0, 0)  # green that nobody sees
    pixels = decode(file(Image.fromarray(rgba), "PNG"), 16)

    assert tuple(pixels[8, 15]) == WHITE
    assert tuple(pixels[8, 0]) == (200, 0, 0)
    assert (pixels[..., 1] == pixels[..., 2]).all()


@pytest.mark.parametrize("alpha", [0, 1, 100, 128, 254, 255])
def test_half_transparent_is_mixed_with_white(alpha: int) -> None:
    """One pixel's colour is alpha parts its own and the rest white."""
    data = file(Image.new("RGBA", (8, 8), (10, 100, 250, alpha)), "PNG")
    expected = np.array([10, 100, 250]) * alpha / 255 + 255 - alpha

    assert np.abs(decode(data, 8)[0, 0] - expected).max() <= 1


def test_a_palette_or_a_colour_may_be_transparent() -> None:
    """GIF's and PNG's transparent entry, and PNG's transparent RGB colour, are white."""
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 0, 0, 200])

    assert tuple(decode(file(palette, "GIF", transparency=1), 4)[0, 0]) == WHITE
    assert tuple(decode(file(palette, "PNG", transparency=1), 4)[0, 0]) == WHITE
    assert tuple(decode(file(palette, "PNG", transparency=0), 4)[0, 0]) == (0, 0, 200)
    assert tuple(decode(file(Image.new("RGB", (8, 8), (1, 2, 3)), "PNG", transparency=(1, 2, 3)), 4)[0, 0]) == WHITE


@pytest.mark.parametrize("scale", [5, 9, 20])
def test_reading_large_jpegs_at_a_fraction_hardly_moves_the_pixels(scale: int) -> None:
    """JPEG's own scaling comes within two grey levels of decoding everything."""
    large = picture().resize((96 * scale, 64 * scale), Image.Resampling.BICUBIC)
    data = file(large, "JPEG", quality=90)

    assert difference(squashed(Image.open(io.BytesIO(data)), 64), decode(data, 64)) < 2


def test_an_image_of_too_many_bytes_is_refused_unread() -> None:
    """The message says both sizes."""
    with pytest.raises(BadEvent, match="^image is 41.2 MB, at most 20.0 MB are accepted$"):
        decode(bytes(41_200_000), 16)


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def webp_header(chunk: bytes, content: bytes) -> bytes:
    body = b"WEBP" + chunk + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body + bytes(16)


def jpeg_header(width: int, height: int) -> bytes:
    data = bytearray(SAMPLES["jpeg"]())
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def avif_header(width: int, height: int) -> bytes:
    data = bytearray(SAMPLES["avif"]())
    start = data.index(b"ispe") + 8
    data[start : start + 8] = struct.pack(">II", width, height)
    return bytes(data)


BOMBS = {
    "png": png_header(60_000, 60_000),
    "png of the greatest sides": png_header(2**31 - 1, 2**31 - 1),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;",
    "gif frame beyond its screen": b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;",
    "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "webp canvas": webp_header(b"VP8X", bytes(4) + b"\xff\xff\xff" * 2),
    "webp lossy": webp_header(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383)),
    "webp lossless": webp_header(b"VP8L", b"\x2f" + struct.pack("<I", 16382 | 16382 << 14)),
    "jpeg": jpeg_header(65_000, 65_000),
    "avif": avif_header(16_000, 16_000),
    "tiff": b"II*\0\x08\0\0\0"
    + struct.pack("<H", 5)
    + b"".join(
        struct.pack("<HHII", tag, 4, 1, value)
        for tag, value in ((256, 90_000), (257, 90_000), (258, 8), (262, 1), (273, 8))
    )
    + bytes(4),
}


BOMB_REASONS = {"gif frame beyond its screen": "too many pixels"}


@pytest.mark.parametrize("name", BOMBS)
def test_decompression_bombs_are_refused_by_their_header(name: str) -> None:
    """Few bytes that claim many pixels are refused before those pixels exist."""
    with pytest.raises(BadEvent, match=BOMB_REASONS.get(name, r"image is \d+ x \d+ pixels .* at most 50.0 megapixels")):
        decode(BOMBS[name], 16)


def test_the_limit_on_pixels_is_ours_not_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our limit holds exactly, and holds whatever a library does to Pillow's global one."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    data = file(picture(), "PNG")

    assert decode(data, 16, ImageLimits(image_pixels_max=96 * 64)).shape == (16, 16, 3)
    with pytest.raises(BadEvent, match="96 x 64 pixels"):
        decode(data, 16, ImageLimits(image_pixels_max=96 * 64 - 1))


def test_tiff_tiles_count_as_pixels() -> None:
    """A small picture cut into monstrous tiles is refused too."""
    entries = [(256, 8), (257, 8), (258, 8), (259, 5), (262, 1), (322, 65536), (323, 65536), (324, 8), (325, 10)]
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    data += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries) + bytes(4)

    with pytest.raises(BadEvent, match="65536 x 65536 pixels"):
        decode(data, 8)


def test_tiff_codecs_that_no_shop_uses_are_refused() -> None:
    """Fax compression is never handed to its parser."""
    fax = file(picture().convert("1"), "TIFF", compression="group4")

    with pytest.raises(BadEvent, match="compression 4, expected none, LZW"):
        decode(fax, 16)


def pixels_end(name: str, data: bytes) -> int:
    """Where the bytes that the first frame's pixels need come to their end."""
    if name == "png animated":
        return data.index(b"fdAT") - 60
    if name == "gif animated":
        return data.rindex(b",\0\0\0\0" + struct.pack("<HH", 96, 64)) - 3
    if name == "mpo":
        return data.index(b"\xff\xd9")
    # After the pixels: PNG's last checksum and IEND, GIF's end marks.
    return len(data) - {"png": 24, "gif": 3}.get(name.split()[0], 0)


@pytest.mark.parametrize("name", SAMPLES)
def test_truncated_images_are_refused(name: str) -> None:
    """However little of its pixels is missing, a part of a picture is no picture."""
    data = SAMPLES[name]()
    end = pixels_end(name, data)

    for length in {*range(0, end, max(1, end // 60)), end // 2, end - 1}:
        with pytest.raises(BadEvent):
            decode(data[:length], 16)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>not found</html>", "<!DOCTYPE html"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "<svg"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "%!PS"),
        (b"%PDF-1.7\n", "%PDF"),
        (b"8BPS\0\1" + bytes(40), "8BPS"),
        (b"\0\0\1\0\1\0" + bytes(40), "begins with"),
        (b"P6 4 4 255\n" + bytes(48), "P6"),
        (bytes(1000), "begins with"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(40), "ftypmif1"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(40), "ftypmp42"),
        (b"\xff\xff\xff\xffftypheic" + bytes(40), "ftypheic"),
        (b"RIFF\0\0\0\0WAVE" + bytes(30), "RIFF"),
    ],
)
def test_what_is_no_image_of_a_shop_is_refused_by_its_first_bytes(data: bytes, found: str) -> None:
    """No other parser of Pillow's is ever reached, and the reason shows what came instead."""
    with pytest.raises(BadEvent, match="expected a JPEG, PNG") as refused:
        decode(data, 16)

    assert found in str(refused.value)


def test_an_avif_may_name_another_brand_first() -> None:
    """`mif1` says only that the file holds pictures; the brands that follow say of which codec."""
    data = bytearray(SAMPLES["avif"]())
    assert data[8:12] == b"avif"
    expected = decode(bytes(data), 16)
    data[8:12] = b"mif1"

    assert b"avif" in data[16 : int.from_bytes(data[:4])]
    assert np.array_equal(decode(bytes(data), 16), expected)


@pytest.mark.parametrize("chunk", [b"RIFF\0\0\0\0WEBPVP8 ", b"RIFF\0\0\0\0WEBPALPH" + bytes(40)])
def test_webp_headers_that_are_none(chunk: bytes) -> None:
    """A WebP file ends within its header, or begins with a chunk that cannot come first."""
    with pytest.raises(BadEvent, match="WebP image"):
        decode(chunk, 16)


@settings(max_examples=300)
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12),
    cut=st.none() | st.tuples(st.floats(0, 1), st.floats(0, 1)),
    head_only=st.booleans(),
)
def test_damaged_images_are_decoded_or_refused(
    name: str, changes: list[tuple[float, int]], cut: tuple[float, float] | None, head_only: bool
) -> None:
    """Whatever bytes change or are missing: pixels or a BadEvent, nothing else."""
    data = bytearray(SAMPLES[name]())
    reach = min(len(data), 200) if head_only else len(data)
    for where, value in changes:
        data[int(where * (reach - 1))] = value
    if cut is not None:
        low, high = sorted(int(each * reach) for each in cut)
        del data[low:high]

    for use in (lambda: decode(bytes(data), 16).shape, lambda: len(thumbnail(bytes(data), 16))):
        with contextlib.suppress(BadEvent):
            use()


def test_thumbnails_keep_the_ratio_and_do_not_enlarge() -> None:
    """The longer side is what was asked for, never more than the picture has, and no side vanishes."""
    sizes = [(picture(400, 200), 100), (picture(20, 10), 100), (picture(1000, 1), 50)]
    found = [Image.open(io.BytesIO(thumbnail(file(image, "PNG"), side))).size for image, side in sizes]

    assert found == [(100, 50), (20, 10), (50, 1)]


def test_png_is_lossless_and_jpeg_close() -> None:
    """What is encoded comes back when it is decoded, also from a view of other memory order."""
    pixels = np.asarray(picture(64, 64))

    assert np.array_equal(pixels, decode(encode_png(pixels), 64))
    assert np.array_equal(pixels[:, ::-1], decode(encode_png(pixels[:, ::-1]), 64))
    assert difference(pixels, decode(encode_jpeg(pixels, quality=95), 64)) < 3
    assert len(encode_jpeg(pixels, quality=30)) < len(encode_jpeg(pixels, quality=95))


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)])
def test_only_rgb_bytes_are_encoded(wrong: np.ndarray) -> None:
    """Another type or shape is the caller's bug."""
    with pytest.raises(ValueError, match=r"expected uint8\[H, W, 3\]"):
        encode_png(wrong)


def crop_of(image: Image.Image, crop: tuple[float, float, float, float]) -> Image.Image:
    """The part of an upright picture that a crop names, whole pixels."""
    x, y, width, height = crop
    edges = (x * image.width, y * image.height, (x + width) * image.width, (y + height) * image.height)
    return image.crop(tuple(map(round, edges)))  # type: ignore[arg-type]


@pytest.mark.parametrize("crop", [(0, 0, 0.5, 0.5), (0.25, 0.5, 0.75, 0.25), (0.5, 0, 0.5, 1), (0, 0, 1, 0.125)])
def test_a_crop_is_a_part_of_the_picture(crop: tuple[float, float, float, float]) -> None:
    """Cut out and then squashed, as if the part were a file of its own."""
    expected = squashed(crop_of(picture(96, 64), crop), 32)

    assert difference(expected, decode(file(picture(96, 64), "PNG"), 32, crop=crop)) < 1


@pytest.mark.parametrize("orientation", range(1, 10))
def test_a_crop_is_that_of_the_upright_picture(orientation: int) -> None:
    """However the camera was held: what people see at the left is the left."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file(picture(96, 64), "PNG", exif=exif)
    crop = (0.25, 0.5, 0.5, 0.25)
    whole = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))

    assert difference(squashed(crop_of(whole, crop), 32), decode(data, 32, crop=crop)) < 1


def test_a_crop_of_a_large_jpeg_is_read_at_the_size_that_it_needs() -> None:
    """A small part of a large photo keeps its details: it is not cut out of a picture that was shrunk before."""
    large = picture(1600, 1200)
    crop = (0.5, 0.25, 0.125, 0.125)

    pixels = decode(file(large, "JPEG", quality=95), 64, crop=crop)

    assert difference(squashed(crop_of(large, crop), 64), pixels) < 4


@pytest.mark.parametrize("crop", [(0.9999, 0.9999, 0.0001, 0.0001), (0, 0, 0.001, 1), (1 / 3, 0, 2 / 3 + 1e-7, 1)])
def test_a_crop_has_at_least_a_pixel(crop: tuple[float, float, float, float]) -> None:
    """A sliver of a small picture is its nearest pixels; a hair over the edge ends at the edge."""
    assert decode(file(picture(7, 5), "PNG"), 16, crop=crop).shape == (16, 16, 3)
