"""A wide model on a real broker: its projection is the same after a restart, on a second worker, after a rebuild."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import orjson
import pytest

from models.colour import NUMBERS
from models.image import encode_png
from models.projection import PROJECTED, SAMPLE_MIN, Projection
from models.truth_messages import read_catalog_projection
from models.vectors import centre, unit
from streams import topics
from tests.brokers import TestBroker
from tests.installation import Installation, Shop, WorkerProcess, installed
from tests.test_embedder import graph
from tests.waiting import wait_until

SIDE = 16
WIDTH = 3 * SIDE * SIDE
FEW, MANY = 40, SAMPLE_MIN + 20


@pytest.fixture(scope="module")
def installation(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A worker whose model gives the pixels themselves: 768 numbers."""
    folder = tmp_path_factory.mktemp("wide")
    path = folder / "pixels.onnx"
    path.write_bytes(graph("Flatten", shape=["N", 3, SIDE, SIDE]))
    said = {"mean": [100, 100, 100], "std": [64, 64, 64], "channels": "RGB"}
    path.with_suffix(".json").write_text(json.dumps(said))
    with installed(broker, folder, model=str(path), shards="1") as made:
        yield made


def pictures(count: int) -> np.ndarray:
    """uint8[count, S, S, 3]: soft shapes in many colours, each unlike the others."""
    numbers = np.random.default_rng(0)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    waves = numbers.uniform(-6, 6, (count, 4, 3, 2, 1, 1))
    phases = numbers.uniform(0, 7, (count, 4, 3, 1, 1))
    drawn = np.sin(waves[..., 0, :, :] * x + waves[..., 1, :, :] * y + phases).sum(axis=1)
    pixels: np.ndarray = np.clip(127 + 40 * drawn, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return pixels


def record(pixels: np.ndarray) -> dict[str, Any]:
    return {"image": "data:image/png;base64," + base64.b64encode(encode_png(pixels)).decode()}


ASKED: list[dict[str, Any]] = [
    {"objectID": f"i{number}", "colour": weight, "maxRecommendations": 10}
    for number in (0, 7, 33)
    for weight in (0, 0.5)
]


def answers(worker: WorkerProcess, asked: list[dict[str, Any]] = ASKED) -> list[Any]:
    """What this worker answers, by HTTP: hits with their scores."""
    import urllib.request

    call = urllib.request.Request(
        f"http://127.0.0.1:{worker.port}/1/indexes/*/recommendations",
        orjson.dumps({"requests": [{"indexName": "items", "model": "looking-similar", **each} for each in asked]}),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(call, timeout=20) as answer:
        return [result["hits"] for result in orjson.loads(answer.read())["results"]]


def index_of(worker: WorkerProcess) -> dict[str, Any]:
    found: dict[str, Any] = worker.status().get("stages", {}).get("index", {})
    return found


def complete(worker: WorkerProcess, items: int, projected: int | None) -> bool:
    index = index_of(worker)
    shards = index.get("shards", {}).values()
    return index.get("projected") == projected and sum(shard["items_searchable"] for shard in shards) == items


def same_mean(*workers: WorkerProcess) -> bool:
    return len({index_of(worker).get("mean_version") for worker in workers}) == 1


@pytest.mark.timeout(300)
async def test_the_same_projection_everywhere(installation: Installation) -> None:
    """In full width first; then all workers project at the same message, and whoever comes later has the same bytes."""
    first = await installation.workers[0].ready()
    pixels = pictures(MANY)
    async with installation.shop() as shop:
        await shop.catalog({f"i{number}": record(pixels[number]) for number in range(FEW)})
        await wait_until(lambda: complete(first, FEW, None), 60, first.tail)
        assert index_of(first)["dimension"] == WIDTH
        assert [len(hits) for hits in answers(first)] == [10] * len(ASKED)
        second = await installation.worker("--stage", "index", "--stage", "serve").ready()

        for start in range(FEW, MANY, 200):
            stop = min(start + 200, MANY)
            await shop.catalog({f"i{number}": record(pixels[number]) for number in range(start, stop)})
        for worker in (first, second):
            await wait_until(partial(complete, worker, MANY, PROJECTED), 120, worker.tail)
        await wait_until(lambda: same_mean(first, second), 30, "one mean")
        expected = answers(first)
        assert answers(second) == expected
        await agrees(shop, pixels, expected)

        first.stop()
        restarted = await installation.worker(data="worker-0", colour="0").ready()
        rebuilt = await installation.worker("--stage", "index", "--stage", "serve", data="new", colour="0.5").ready()
        for worker in (restarted, rebuilt):
            await wait_until(partial(complete, worker, MANY, PROJECTED), 60, worker.tail)
            assert answers(worker) == expected
        assert "not trusted" not in restarted.tail(200)
        unsaid = [{name: value for name, value in each.items() if name != "colour"} for each in ASKED]
        assert answers(restarted, unsaid)[1::2] == expected[::2]
        assert answers(rebuilt, unsaid)[::2] == expected[1::2], "by KINDRED_COLOUR"
        assert len(await projections(shop)) == 1, "it was fitted once"
        restarted.stop()
        second.stop()
        rebuilt.stop()


async def test_another_projection_is_fitted_when_it_is_deleted(installation: Installation) -> None:
    """By the owner, at once; a worker whose rows went through the former one says so, stops, and starts right."""
    worker = await installation.worker(data="worker-0").ready()
    pixels = pictures(MANY + 20)[MANY:]
    async with installation.shop() as shop:
        before = await projections(shop)
        await shop.catalog({f"j{number}": record(each) for number, each in enumerate(pixels)})
        await wait_until(partial(complete, worker, MANY + 20, PROJECTED), 60, worker.tail)
        await shop.send(topics.CATALOG_STATISTICS, "projection", None)
        await wait_until(lambda: worker.process.poll() is not None, 60, worker.tail)
        assert worker.process.poll() == 1
        assert "has another projection" in worker.tail(60)

        again = await installation.worker(data="worker-0").ready()
        await wait_until(partial(complete, again, MANY + 20, PROJECTED), 60, again.tail)
        after = await projections(shop)
        assert (len(after), after[1]) == (3, None)
        assert after[0] == before[0]
        assert after[2] is not None
        assert read_catalog_projection(after[2]).count > read_catalog_projection(after[0] or b"").count
        assert [len(hits) for hits in answers(again)] == [10] * len(ASKED)


async def projections(shop: Shop) -> list[bytes | None]:
    """What was ever said of projections."""
    return [each.value for each in await shop.read(topics.CATALOG_STATISTICS) if each.key == b"projection"]


async def agrees(shop: Shop, pixels: np.ndarray, found: list[Any]) -> None:
    """Hits and scores are those of a plain evaluation: projected, centred, compared."""
    stated = await shop.last(topics.CATALOG_STATISTICS)
    message, mean = read_catalog_projection(stated["projection"]), json.loads(stated["mean"])
    projection = Projection.unpack(message.basis, WIDTH)
    assert (message.width, message.count >= SAMPLE_MIN) == (WIDTH, True)
    looks = unit((pixels.astype(np.float32).transpose(0, 3, 1, 2).reshape(MANY, -1) - 100) / 64).astype(np.float16)
    told = np.frombuffer(base64.b64decode(mean["mean"]), "<f4")
    tint = np.frombuffer(base64.b64decode(mean["colour"]), "<f4")
    assert (len(told), len(tint)) == (WIDTH, NUMBERS)
    rows = centre(projection.of(looks), projection.of(told))
    for number, hits in zip((0, 7, 33), found[::2], strict=True):
        similarity = rows @ rows[number]
        similarity[number] = -1
        places = [int(hit["objectID"][1:]) for hit in hits]
        assert len(set(places)) == 10
        assert similarity[places].min() > np.sort(similarity)[-10] - 0.001, "the ten best, but for rounding"
        assert [hit["_score"] for hit in hits] == pytest.approx((100 * similarity[places]).tolist(), abs=0.1)
