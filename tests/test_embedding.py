"""The embed stage on the broker: only new images are fetched and embedded, hosts that fail are asked again."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from models.truth_messages import ImageEmbedding, read_item_embedding
from streams import topics
from tests.brokers import TestBroker
from tests.installation import Installation, Shop, installed
from tests.pictures import write_pictures
from tests.waiting import wait_until


class PictureHost:
    """An HTTP server on loopback that counts, and fails when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.failing: set[str] = set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self.asked[name] += 1
        if name in self.failing:
            return web.Response(status=503)
        path = self.folder / name
        return web.FileResponse(path) if path.exists() else web.Response(status=404)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of drawn pictures `0.jpg` to `9.jpg`."""
    folder = tmp_path_factory.mktemp("hosted")
    for number, link in enumerate(write_pictures(folder, None, 10)):
        (folder / link).rename(folder / f"{number}.jpg")
    return folder


@pytest.fixture(scope="module")
def installation(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A worker that may fetch from loopback and does not wait long for another attempt."""
    folder = tmp_path_factory.mktemp("embedding")
    retry = {"image_retry_s": "0.2", "image_attempts_max": "4"}
    with installed(broker, folder, image_hosts="127.0.0.1", **retry) as made:
        yield made


@pytest_asyncio.fixture
async def host(pictures: Path) -> AsyncIterator[tuple[PictureHost, str]]:
    """The host and the beginning of its links."""
    served = PictureHost(pictures)
    app = web.Application()
    app.router.add_get("/{name}", served.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield served, f"http://127.0.0.1:{port}/"
    await runner.cleanup()


async def images(shop: Shop, item_id: str, count: int) -> dict[str, ImageEmbedding]:
    """The item's images by link, once the embedding has this number of them, each with a vector or a final reason."""

    async def settled() -> dict[str, ImageEmbedding]:
        value = (await shop.last(topics.ITEM_EMBEDDINGS)).get(item_id)
        found = {each.link: each for each in read_item_embedding(value).images} if value else {}
        final = all(each.vector or (each.error and each.retry_at is None) for each in found.values())
        return found if final and len(found) == count else {}

    return await wait_until(settled, 30, f"{count} settled images of {item_id}")


async def test_only_new_links_are_fetched(shop: Shop, host: tuple[PictureHost, str]) -> None:
    """A second image is fetched alone; a changed price and a removed image fetch nothing."""
    served, base = host
    await shop.catalog({"two": {"image": base + "0.jpg", "price": 1}})
    first = await images(shop, "two", 1)

    await shop.catalog({"two": {"images": [base + "0.jpg", base + "1.jpg"], "price": 2}})
    both = await images(shop, "two", 2)
    assert both[base + "0.jpg"] == first[base + "0.jpg"]
    assert served.asked == {"0.jpg": 1, "1.jpg": 1}

    await shop.catalog({"two": {"images": [base + "1.jpg"], "price": 2}})
    assert await images(shop, "two", 1) == {base + "1.jpg": both[base + "1.jpg"]}
    assert served.asked == {"0.jpg": 1, "1.jpg": 1}


async def test_the_same_bytes_are_embedded_once(
    shop: Shop, host: tuple[PictureHost, str], installation: Installation
) -> None:
    """Another link, or a data: link, to the bytes of a known picture costs no run of the model."""
    served, base = host
    worker = installation.workers[0]
    await shop.catalog({"original": {"image": base + "2.jpg"}})
    original = (await images(shop, "original", 1))[base + "2.jpg"]
    runs = worker.metric("kindred_images_total", outcome="embedded")

    content = (served.folder / "2.jpg").read_bytes()
    await shop.catalog(
        {
            "copy": {"image": base + "2.jpg?size=large"},
            "inline": {"image": "data:image/jpeg;base64," + base64.b64encode(content).decode()},
        }
    )
    for item_id in ("copy", "inline"):
        ((name, copy),) = (await images(shop, item_id, 1)).items()
        assert (copy.digest, copy.vector) == (original.digest, original.vector)
        assert len(name) < 100, "a data: link is named by its digest"
    assert worker.metric("kindred_images_total", outcome="embedded") == runs

    async def both_found() -> bool:
        hits = await shop.similar("original", maxRecommendations=2)
        return {(hit["objectID"], hit["_score"]) for hit in hits} == {("copy", 100.0), ("inline", 100.0)}

    await wait_until(both_found, 10, "both to look exactly like the original")


async def test_a_host_that_fails_is_asked_again(shop: Shop, host: tuple[PictureHost, str]) -> None:
    """While a host fails its item waits and others go on; when it answers the item is recommended."""
    served, base = host
    served.failing.add("3.jpg")
    await shop.catalog({"waiting": {"image": base + "3.jpg"}, "going": {"image": base + "4.jpg"}})
    await images(shop, "going", 1)
    await wait_until(lambda: served.asked["3.jpg"] >= 2, 20, "a second attempt")
    answer = await shop.client.ask({"requests": [{"objectID": "waiting"}]}, timeout_s=10)
    assert answer["results"][0]["status"] == 404

    served.failing.clear()

    assert (await images(shop, "waiting", 1))[base + "3.jpg"].vector


async def test_a_host_that_goes_on_failing_is_given_up(shop: Shop, host: tuple[PictureHost, str]) -> None:
    """After the last attempt the reason stays with the image, and the request becomes a dead letter."""
    served, base = host
    served.failing.add("5.jpg")
    await shop.catalog({"lost": {"images": [base + "5.jpg", base + "6.jpg"]}})

    found = await images(shop, "lost", 2)

    assert found[base + "6.jpg"].vector
    assert found[base + "5.jpg"].attempt == 4
    assert "503" in (found[base + "5.jpg"].error or "")
    assert served.asked == {"5.jpg": 4, "6.jpg": 1}

    async def letter() -> list[str]:
        return [h["kindred_reason"] for key, _, h in await shop.dead_letters() if key == b"lost"]

    (reason,) = await wait_until(letter, 10, "the dead letter")
    assert reason.startswith("Unavailable: ")
    assert "asked 4 times" in reason


async def test_images_that_cannot_be_used_say_why(shop: Shop, host: tuple[PictureHost, str]) -> None:
    """One image of each kind of fault: its reason stands beside it, the good one is used, nothing is asked again."""
    served, base = host
    (served.folder / "broken.jpg").write_bytes((served.folder / "7.jpg").read_bytes()[:900])
    (served.folder / "text.jpg").write_bytes(b"<html>not a picture</html>")
    links = {
        base + "7.jpg": None,
        base + "missing.jpg": "404",
        base + "broken.jpg": "",
        base + "text.jpg": "",
        "http://10.1.2.3/x.jpg": "10.1.2.3",
        "http://localhost:1/x.jpg": "",
        "relative.jpg": "KINDRED_IMAGE_ROOT",
        "data:image/png;base64,AAAA": "",
    }
    await shop.catalog({"faults": {"images": list(links)}})

    found = await images(shop, "faults", len(links))

    assert {link for link, each in found.items() if each.vector} == {base + "7.jpg"}
    for link, words in links.items():
        if words:
            assert words in (found[link].error or ""), link
    assert served.asked["missing.jpg"] == 1
