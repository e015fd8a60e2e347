"""What a model gives on some pictures: how fast, in how much memory, what it finds alike, and how near another one is.

Everything goes the way that a worker's pictures go: the same decoding, the same `Embedder`, unit length, the projection
of a wide model's vectors, centred by the mean, cosine.  Speed and memory are those of a process of its own that does
nothing else.
"""

from __future__ import annotations

import itertools
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.embedder import Embedder
from models.errors import BadEvent, BadRequest
from models.image import ImageLimits, Pixels, decode, shrunk
from models.projection import fitted, is_wide
from models.vectors import Vectors, centre
from streams.publishing.picture_folder import picture_files
from streams.reports.contact_sheet import Badge, Card, Row, contact_sheet

BATCH = 16
"""Pictures of one run, as a worker takes them."""
MEASURED_S = 2.0
MEASURED_RUNS_MIN = 3
NEIGHBOURS = 10
SHEET_ROWS, SHEET_HITS = 8, 8
PICTURES_MIN = 3
COMPANY_COSINE_MIN = 0.999
"""Below it a picture's place among its look-alikes depends on what it was embedded with."""
SHOWN_SIDE_MAX = 336
"""Pixels of a picture that is kept to be shown: twice a card's, for the little that is lost by scaling twice."""


@dataclass(frozen=True)
class Picture:
    """A picture to try a model on."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Tried:
    """A model's vectors of those pictures that can be used."""

    model: str
    pictures: Sequence[Picture]
    vectors: Vectors
    """float32[N, D], of unit length."""
    unusable: Sequence[tuple[str, str]]
    """Names of the others, and why."""
    company_cosine: float = 1.0
    """The least cosine of a picture's vector alone and of that which it gets in one run with others; should be 1."""

    @cached_property
    def searched(self) -> Vectors:
        """float32[N, D], what a catalog of many pictures is searched by: of a wide model's vectors the projections.

        They are fitted on these pictures, as a worker does on the catalog's first.
        """
        return fitted(self.vectors).of(self.vectors) if is_wide(self.vectors.shape[1]) else self.vectors

    @cached_property
    def similarities(self) -> NDArray[np.float32]:
        """float32[N, N] cosines as they are searched by; a picture's with itself is -inf, so that it is never found."""
        centred = centre(self.searched, self.searched.mean(axis=0))
        found = centred @ centred.T
        np.fill_diagonal(found, -np.inf)
        return found


class Cost(msgspec.Struct, frozen=True):
    """What a model costs on one thread, from decoded pixels on."""

    pictures_per_s: float
    """Of CPU: what a core that is free gives, also when this one was not."""
    clock_pictures_per_s: float
    memory_bytes: int
    """What the process grew by, at its peak."""
    load_s: float


class Agreement(msgspec.Struct, frozen=True):
    """How near two models' answers on the same pictures are."""

    other: str
    pictures: int
    neighbours_kept: float
    """Share of one's nearest that are the other's too."""
    cosine_mean: float | None
    """Of the two vectors of a picture; None where the models have different dimensions."""
    cosine_min: float | None
    worst: str | None
    """The picture with the least cosine."""


def folder_pictures(folder: Path, count: int) -> Iterator[Picture]:
    """Up to `count` pictures of a folder and below, spread evenly.  BadRequest where there are none."""
    paths = list(picture_files(folder))
    if not paths:
        raise BadRequest(f"{folder} has no pictures (.jpg, .png, .webp, ...)")
    for number in range(min(count, len(paths))):
        path = paths[number * len(paths) // min(count, len(paths))]
        try:
            yield Picture(path.relative_to(folder).as_posix(), path.read_bytes())
        except OSError:
            continue


def drawn_pictures(count: int) -> Iterator[Picture]:
    """The first items of the demo's shop, drawn on the way."""
    from streams.demo.catalog import drawn_items
    from streams.demo.showcase import SEED

    for item in drawn_items(count, SEED):
        yield Picture(str(item.record["title"]), item.picture)


def tried(embedder: Embedder, pictures: Sequence[Picture], told: Callable[[int], None] = lambda count: None) -> Tried:
    """Embed the pictures; `told` hears of them.  BadRequest where too few can be used to compare them."""
    kept: list[Picture] = []
    vectors: list[Vectors] = []
    unusable: list[tuple[str, str]] = []
    run: list[Pixels] = []
    waiting = iter(pictures)
    while batch := list(itertools.islice(waiting, BATCH)):
        for picture in batch:
            try:
                pixels = decode(picture.content, embedder.size, ImageLimits())
                vectors.append(embedder.embed(pixels[None])[0])
                kept.append(picture)
                if len(run) < BATCH:
                    run.append(pixels)
            except BadEvent as error:
                unusable.append((picture.name, str(error)))
        told(len(batch))
    if len(kept) < PICTURES_MIN:
        why = f": {unusable[0][0]}: {unusable[0][1]}" if unusable else ""
        raise BadRequest(f"expected at least {PICTURES_MIN} pictures that can be used, got {len(kept)}{why}")
    return Tried(embedder.model, kept, np.stack(vectors), unusable, _company_cosine(embedder, run, vectors))


def _company_cosine(embedder: Embedder, run: Sequence[Pixels], alone: Sequence[Vectors]) -> float:
    """Of the pictures of one run; `alone` begins with their vectors.

    A worker embeds whatever waits together, and a request's picture by itself.  Networks that were exported in training
    mode, or whose steps of int8 are chosen while they run, give other vectors then.
    """
    try:
        together = embedder.embed(np.stack(run))
    except BadEvent:  # no direction at all
        return 0.0
    return float(min(np.einsum("nd,nd->n", together, np.stack(alone[: len(run)]))))


def agreement(one: Tried, other: Tried) -> Agreement:
    """Of two models on the pictures that both could use."""
    places = {picture.name: number for number, picture in enumerate(other.pictures)}
    shared = [(number, places[p.name]) for number, p in enumerate(one.pictures) if p.name in places]
    if len(shared) < PICTURES_MIN:
        raise BadRequest(f"expected at least {PICTURES_MIN} pictures that both models can use, got {len(shared)}")
    mine, theirs = ([pair[side] for pair in shared] for side in (0, 1))
    pictures = [one.pictures[number] for number in mine]
    sides = [Tried(each.model, pictures, each.vectors[which], ()) for each, which in ((one, mine), (other, theirs))]
    count = min(NEIGHBOURS, len(shared) - 1)
    nearest = [np.argsort(-side.similarities, axis=1, kind="stable")[:, :count] for side in sides]
    kept = np.mean([len(set(a.tolist()) & set(b.tolist())) / count for a, b in zip(*nearest, strict=True)])
    cosines = None
    if one.vectors.shape[1] == other.vectors.shape[1]:
        cosines = np.einsum("nd,nd->n", sides[0].vectors, sides[1].vectors)
    return Agreement(
        other.model,
        len(shared),
        float(kept),
        None if cosines is None else float(cosines.mean()),
        None if cosines is None else float(cosines.min()),
        None if cosines is None else pictures[int(cosines.argmin())].name,
    )


def look_alikes(found: Tried, *, rows: int = SHEET_ROWS, hits: int = SHEET_HITS) -> Pixels:
    """uint8[H, W, 3]: some of the pictures, spread evenly, each with those that the model finds most alike."""
    similarities = found.similarities
    count = len(found.pictures)
    asked = [number * count // min(rows, count) for number in range(min(rows, count))]
    shown = []
    for number in asked:
        best = np.argsort(-similarities[number], kind="stable")[: min(hits, count - 1)]
        cards = [
            _card(found.pictures[other], badge=f"{100 * similarities[number, other]:.1f}") for other in best.tolist()
        ]
        shown.append(Row([_card(found.pictures[number], tone="query")], cards))
    width, searched = found.vectors.shape[1], found.searched.shape[1]
    numbers = f"{width:,} numbers" if width == searched else f"by {searched} of {width:,} numbers, as it is searched"
    about = f"{found.model}, {numbers}, {count:,} pictures, centred by their mean"
    return contact_sheet("What the model finds alike", f"{about}; 0 = as two random pictures, 100 = the same", shown)


def _card(picture: Picture, badge: str = "", tone: str = "plain") -> Card:
    badges = (Badge(badge, "note"),) if badge else ()
    folder, _, name = picture.name.rpartition("/")
    return Card(shrunk(picture.content, SHOWN_SIDE_MAX), name, folder, badges, tone=tone)


def measured(path: Path) -> Cost:
    """What the model at `path` costs.  BadModel as `Embedder` raises it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, path).result()


def _measure(path: Path) -> Cost:
    before, started = _peak_bytes(), time.perf_counter()
    embedder = Embedder(path)
    load_s = time.perf_counter() - started
    pixels = np.random.default_rng(1).integers(0, 256, (BATCH, embedder.size, embedder.size, 3), np.uint8)
    embedder.embed(pixels)  # the first run is a slow one: it allocates
    runs, started, cpu = 0, time.perf_counter(), time.thread_time()
    while runs < MEASURED_RUNS_MIN or time.perf_counter() - started < MEASURED_S:
        embedder.embed(pixels)
        runs += 1
    took, cpu_took = time.perf_counter() - started, time.thread_time() - cpu
    count = runs * BATCH
    return Cost(count / max(cpu_took, 1e-9), count / took, max(0, _peak_bytes() - before), load_s)


def _peak_bytes() -> int:
    """The most that this process has held so far."""
    try:  # Linux's ru_maxrss would have the peak of the process that started this one, too
        status = Path("/proc/self/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
