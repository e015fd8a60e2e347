"""Pictures a second from links to vectors, against the barest loop of Pillow and onnxruntime on the same cores.

Both have two threads that decode and one that runs the network, on batches of 16, with the same option for exact 8-bit
products.  Kindred reads files by their links, judges and digests them, and packs the vectors as messages carry them;
the bare loop is given the bytes.  A fresh `ImageVectors` each round, else it would know the pictures.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from bench.ground import Ground
from bench.meter import Meter, Spent, median, ratio
from bench.pictures import pictures
from bench.report import Cell, Goal, Table
from models.embedder import SHIPPED, Embedder
from models.image import ImageLimits
from models.processor import adds_exactly
from models.vectors import unpack_half
from streams.embed.fetch import ImageFetcher
from streams.embed.vectors import BATCH_MAX, DECODERS, ImageVectors
from streams.metrics import Metrics

AS_FAST = Goal(at_least=0.9)
COLUMNS = ("pictures/s", "CPU ms", "CPU ratio", "pictures")
WAITING_MAX = 64
"""Pictures in work at once, as the embed stage has them."""


async def measure(ground: Ground) -> list[Table]:
    """The table."""
    table = Table("embed", "pictures from JPEG bytes to vectors, one process", COLUMNS)
    count, rounds = ground.pick(150, 500), ground.pick(3, 5)
    source, files = await asyncio.to_thread(pictures, count)
    folder = ground.folder / "embed"
    folder.mkdir(exist_ok=True)
    for number, content in enumerate(files):
        (folder / f"{number}.jpg").write_bytes(content)
    bare, embedder = Bare(), Embedder()
    ours: list[Spent] = []
    its: list[Spent] = []
    await asyncio.to_thread(bare.run, files[:BATCH_MAX])
    for number in range(rounds):
        meter = Meter()
        vectors = await asyncio.to_thread(bare.run, files)
        its.append(meter.spent())
        spent, packed = await _kindred(embedder, folder, len(files))
        ours.append(spent)
        _check(vectors, packed)
        told = [len(files) / each[-1].wall_s for each in (its, ours)]
        ground.say(f"round {number + 1} of {rounds}: bare {told[0]:.0f}, Kindred {told[1]:.0f} pictures/s")
    of_bare, of_ours = ([len(files) / each.wall_s for each in spent] for spent in (its, ours))
    cpu_bare, cpu_ours = ([each.cpu_s / len(files) * 1000 for each in spent] for spent in (its, ours))
    figures: dict[str, Cell] = {
        "pictures/s": median(of_bare),
        "CPU ms": median(cpu_bare),
        "pictures": len(files),
    }
    table.add("Pillow + onnxruntime", figures)
    figures = {
        "pictures/s": median(of_ours),
        "CPU ms": median(cpu_ours),
        "CPU ratio": ratio(cpu_bare, cpu_ours),
        "pictures": len(files),
    }
    table.add("Kindred", figures, ratio=ratio(of_ours, of_bare), goal=AS_FAST)
    kilobytes = sum(map(len, files)) / len(files) / 1000
    table.notes.append(f"Pictures: {source}, {kilobytes:.0f} kB each; {rounds} rounds in turn, medians.")
    return [table]


async def _kindred(embedder: Embedder, folder: Path, count: int) -> tuple[Spent, list[str]]:
    """All pictures of the folder through fetcher, decoders and network; what it took, and the packed vectors."""
    fetcher = ImageFetcher(image_root=folder, allowed_hosts=(), bytes_max=20_000_000, timeout_s=10.0)
    vectors = ImageVectors(embedder, fetcher, ImageLimits(), Metrics())
    slots = asyncio.Semaphore(WAITING_MAX)

    async def one(number: int) -> str:
        async with slots:
            return (await vectors.of_link(f"{number}.jpg")).packed.vector

    meter = Meter()
    packed = await asyncio.gather(*map(one, range(count)))
    spent = meter.spent()
    await vectors.close()
    return spent, packed


class Bare:
    """JPEG bytes to unit vectors with nothing around it."""

    def __init__(self, model: Path = SHIPPED) -> None:
        said = json.loads(model.with_suffix(".json").read_text())
        self.size = said["size"]
        scale = 1 / np.array(said["std"], np.float32)[:, None, None]
        self.scale, self.shift = scale, -np.array(said["mean"], np.float32)[:, None, None] * scale
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        if not adds_exactly():
            options.add_session_config_entry("session.x64quantprecision", "1")
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        assert said["layout"] == "NCHW", "the bare loop is written for the shipped model"
        assert said["channels"] == "RGB", "the bare loop is written for the shipped model"

    def decode(self, content: bytes) -> NDArray[np.float32]:
        """float32[3, S, S]."""
        with Image.open(io.BytesIO(content)) as image:
            image.draft("RGB", (self.size * 2, self.size * 2))
            small = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR, reducing_gap=2.0)
        pixels = np.asarray(small, np.float32).transpose(2, 0, 1)
        return np.asarray(pixels * self.scale + self.shift, np.float32)

    def run(self, files: list[bytes]) -> NDArray[np.float32]:
        """float32[N, D] unit vectors."""
        found = []
        with ThreadPoolExecutor(DECODERS) as pool:
            decoded = pool.map(self.decode, files)
            while batch := list(itertools.islice(decoded, BATCH_MAX)):
                features = self.session.run(None, {self.input: np.stack(batch)})[0].reshape(len(batch), -1)
                found.append(features / np.linalg.norm(features, axis=1, keepdims=True))
        return np.concatenate(found)


def _check(vectors: NDArray[np.float32], packed: list[str]) -> None:
    """Both must have done the same work."""
    ours = np.array([unpack_half(text, vectors.shape[1]) for text in packed])
    alike = (ours * vectors).sum(axis=1)
    if float(np.median(alike)) < 0.99:
        raise RuntimeError(f"the bare loop's vectors are others: cosine {alike.min():.3f} to {alike.max():.3f}")
