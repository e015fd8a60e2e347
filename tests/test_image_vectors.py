"""Vectors of image links: embedded once a picture, and once a part of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from models.colour import NUMBERS, colours
from models.errors import BadEvent
from models.image import ImageLimits, encode_png
from models.vectors import unpack_half
from streams.embed.vectors import ImageVectors
from streams.metrics import Metrics
from tests.waiting import wait_until


class Halves:
    """A fetcher of pictures whose left half is red and right half blue, and a model that tells their mean colour."""

    model, size, dimension = "colours@1", 8, 3

    def __init__(self) -> None:
        self.embedded = 0

    def reader(self, link: str) -> None:
        """Its links lead to a host."""

    async def fetch(self, link: str) -> bytes:
        pixels = np.zeros((16, 32, 3), np.uint8)
        pixels[:, :16, 0] = pixels[:, 16:, 2] = 255
        return encode_png(pixels)

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.embedded += len(pixels)
        mean = pixels.reshape(len(pixels), -1, 3).mean(axis=1).astype(np.float32)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    async def close(self) -> None:
        """Nothing is open."""


async def test_parts_of_a_picture_are_known_apart() -> None:
    """The same bytes, whole or in part, have vectors of their own, each embedded once; the digest is the file's."""
    halves = Halves()
    vectors = ImageVectors(halves, halves, ImageLimits(), Metrics())  # type: ignore[arg-type]
    left, right = (0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 0.4, 1.0)

    asked = [await vectors.of_link(link, crop) for crop in (None, left, right) for link in ("a.png", "b.png")]

    await vectors.close()
    assert [each.outcome for each in asked] == ["embedded", "known"] * 3
    assert halves.embedded == 3
    assert len({each.digest for each in asked}) == 1
    means = [unpack_half(each.packed.vector, 3).round(1).tolist() for each in asked[::2]]
    assert means[1:] == [[1, 0, 0], [0, 0, 1]]
    assert means[0][0] == means[0][2]
    tints = [unpack_half(each.packed.colour, NUMBERS) for each in asked]
    plain = [np.full((1, 8, 8, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255))]
    assert np.allclose(np.concatenate([colours(each) for each in plain]), tints[2::2], atol=0.002)
    assert np.array_equal(tints[::2], tints[1::2])
    assert abs(tints[0] - tints[2]).max() > 0.1


class Greys:
    """A fetcher of evenly grey pictures, by their number, and a model that waits until it is told to go on.

    Number 13 is a picture that the model finds nothing in, a negative one is no picture at all.
    """

    model, size, dimension = "greys@1", 8, 2

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go_on = threading.Event()

    def reader(self, link: str) -> Callable[[], bytes]:
        return lambda: encode_png(np.full((4, 4, 3), int(link), np.uint8)) if int(link) >= 0 else b"no picture"

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(pixels))
        self.go_on.wait(30)
        greys = pixels[:, 0, 0, 0].astype(np.float32)
        if (greys == 13).any():
            raise BadEvent("nothing in it")
        return np.stack([greys, 1 - greys], axis=1)

    async def close(self) -> None:
        """Nothing is open."""


async def test_pictures_that_wait_for_the_model_are_one_batch() -> None:
    """While it runs others are decoded; each gets its own vector, and one that cannot be used costs nobody else his."""
    greys = Greys()
    vectors = ImageVectors(greys, greys, ImageLimits(), Metrics())  # type: ignore[arg-type]

    first = asyncio.ensure_future(vectors.of_link("100"))
    await wait_until(lambda: greys.batches == [1])
    others = [asyncio.ensure_future(vectors.of_link(str(number))) for number in range(-1, 20)]
    await wait_until(lambda: others[0].done() and len(vectors._waiting) == 20)
    left = others.pop()
    left.cancel()
    greys.go_on.set()
    outcomes = await asyncio.gather(first, *others, return_exceptions=True)

    await vectors.close()
    assert greys.batches[:2] == [1, 16]
    assert sum(greys.batches[1:]) in (20 + 16, 20 + 4), "all of them, and those of the bad picture's batch once more"
    for number, outcome in zip([100, *range(-1, 19)], outcomes, strict=True):
        if number in (-1, 13):
            assert isinstance(outcome, BadEvent)
        else:
            assert not isinstance(outcome, BaseException)
            assert unpack_half(outcome.packed.vector, 2)[0] == number
    with pytest.raises(asyncio.CancelledError):
        await left


async def test_a_picture_by_itself_stays_in_one_thread() -> None:
    """Nobody waits for the thread that reads it; when others come with it, it goes the way of all."""
    greys = Greys()
    greys.go_on.set()
    read_in: dict[str, int] = {}
    embedded_in: dict[int, int] = {}
    reader, embed = greys.reader, greys.embed

    def reading(link: str) -> Callable[[], bytes]:
        def read() -> bytes:
            read_in[link] = threading.get_ident()
            return reader(link)()

        return read

    def embedding(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        embedded_in.update(dict.fromkeys(pixels[:, 0, 0, 0].tolist(), threading.get_ident()))
        return embed(pixels)

    greys.reader, greys.embed = reading, embedding  # type: ignore[method-assign]
    vectors = ImageVectors(greys, greys, ImageLimits(), Metrics())  # type: ignore[arg-type]

    await vectors.of_link("1")
    assert read_in["1"] == embedded_in[1]

    await asyncio.gather(*(vectors.of_link(str(number)) for number in range(2, 6)))
    assert {embedded_in[number] for number in range(3, 6)}.isdisjoint({*read_in.values()} - {read_in["2"]})

    await vectors.of_link("6")
    assert read_in["6"] == embedded_in[6]
    await vectors.close()


class Counted(Greys):
    """Greys that wait for nobody, read in turn; counts how often each link was read."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on.set()
        self.read: Counter[str] = Counter()

    def reader(self, link: str) -> Callable[[], bytes]:
        read = super().reader(link)

        def counting() -> bytes:
            self.read[link] += 1
            return read()

        return counting


async def test_a_picture_that_was_begun_is_read_once() -> None:
    """Whoever asks for its link next gets it, be it done or in work; who asks after that has it read anew."""
    greys = Counted()
    vectors = ImageVectors(greys, greys, ImageLimits(), Metrics())  # type: ignore[arg-type]

    vectors.begin("1")
    in_work = await vectors.of_link("1")
    vectors.begin("2")
    await wait_until(lambda: bool(greys.batches[1:]) and not vectors._in_work)
    done = await vectors.of_link("2")
    assert greys.read == {"1": 1, "2": 1}
    assert [unpack_half(each.packed.vector, 2)[0] for each in (in_work, done)] == [1, 2]

    assert (await vectors.of_link("2")).outcome == "known"
    assert greys.read == {"1": 1, "2": 2}
    await vectors.close()


async def test_one_picture_is_begun_while_no_other_is_in_work() -> None:
    """So what is begun takes no turn from what was asked for; nor its place from what is still to be asked for."""
    greys = Counted()
    vectors = ImageVectors(greys, greys, ImageLimits(), Metrics())  # type: ignore[arg-type]
    greys.go_on.clear()

    asked = asyncio.ensure_future(vectors.of_link("1"))
    await wait_until(lambda: greys.batches == [1])
    vectors.begin("2")
    greys.go_on.set()
    await asked
    vectors.begin("3")
    vectors.begin("4")
    await wait_until(lambda: greys.read["3"] == 1 and not vectors._in_work)
    vectors.begin("3")
    vectors.begin("5")
    await vectors.of_link("3")
    vectors.begin("6")
    await vectors.of_link("6")

    assert greys.read == {"1": 1, "3": 1, "6": 1}
    await vectors.close()


async def test_a_picture_begun_long_ago_or_in_part_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its link may lead to another one by now; and a part of a picture is another picture."""
    greys = Counted()
    vectors = ImageVectors(greys, greys, ImageLimits(), Metrics())  # type: ignore[arg-type]

    vectors.begin("1")
    await wait_until(lambda: greys.read["1"] == 1 and not vectors._in_work)
    await vectors.of_link("1", (0.0, 0.0, 0.5, 0.5))
    assert greys.read["1"] == 2
    monkeypatch.setattr("streams.embed.vectors.BEGUN_S_MAX", -1.0)
    await vectors.of_link("1")
    assert greys.read["1"] == 3

    vectors.begin("2")
    await wait_until(lambda: greys.read["2"] == 1 and not vectors._in_work)
    vectors.begin("2")
    await wait_until(lambda: greys.read["2"] == 2 and not vectors._in_work)
    greys.go_on.clear()
    vectors.begin("3")
    await wait_until(lambda: greys.read["3"] == 1)
    asked = asyncio.ensure_future(vectors.of_link("3"))
    await asyncio.sleep(0)
    greys.go_on.set()
    await asked
    assert greys.read["3"] == 1, "it is in work: it comes now"
    await vectors.close()


async def test_what_was_begun_fails_for_who_asks_and_for_nobody_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error is told to who asks for the picture; if nobody does, it is nobody's; close gives up the rest."""
    greys = Counted()
    vectors = ImageVectors(greys, greys, ImageLimits(), Metrics())  # type: ignore[arg-type]

    vectors.begin("-1")
    with pytest.raises(BadEvent):
        await vectors.of_link("-1")
    vectors.begin("-2")
    await wait_until(lambda: greys.read["-2"] == 1 and not vectors._in_work)
    greys.go_on.clear()
    monkeypatch.setattr("streams.embed.vectors.BEGUN_S_MAX", -1.0)
    vectors.begin("7")
    await wait_until(lambda: greys.read["7"] == 1)
    begun = vectors._begun
    assert begun is not None
    await vectors.close()
    greys.go_on.set()
    await wait_until(begun.made.done)
    gc.collect()

    assert begun.made.cancelled()
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []
