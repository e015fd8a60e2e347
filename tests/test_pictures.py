"""The picture call of the gateway, of an item that changes while it is asked; the rest is in `test_console.py`."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from PIL import Image

from models.errors import BadRequest
from models.image import ImageLimits
from models.truth_messages import image_name
from streams.embed.fetch import ImageFetcher
from streams.gateway.pictures import PictureCalls
from streams.settings import Settings
from streams.topics import partition_of


def data_link(colour: str) -> str:
    written = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(written, "PNG")
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


def calls(record: dict[str, Any], *names: str) -> PictureCalls:
    """The call over an item that has this record, and the pictures of these names."""
    images = tuple(SimpleNamespace(link=name) for name in names)
    item = SimpleNamespace(item_id="a/b", record=orjson.dumps(record), images=images)
    settings = Settings()
    shards = {partition_of(b"a/b", settings.shards): SimpleNamespace(item={"a/b": item}.get)}
    gateway: Any = SimpleNamespace(settings=settings, answerer=SimpleNamespace(index=SimpleNamespace(shards=shards)))
    return PictureCalls(gateway, ImageFetcher(), ImageLimits(1_000_000, 1_000_000))


def test_a_data_link_is_found_by_its_name() -> None:
    """The one that is named, or the first."""
    red, blue = data_link("red"), data_link("blue")
    found = calls({"images": [red, blue]}, image_name(red), image_name(blue))

    assert blue == found._link("a/b", image_name(blue))
    assert red == found._link("a/b", None)


def test_a_picture_that_the_newest_record_has_no_more_is_not_there() -> None:
    """It is shown in answers until the new one is embedded, but its bytes were in the record before."""
    red, blue = data_link("red"), data_link("blue")
    with pytest.raises(BadRequest, match="has no picture 'data:.*' any more") as refused:
        calls({"image": blue}, image_name(red))._link("a/b", None)

    assert refused.value.status == 404


def test_an_item_without_pictures_has_none() -> None:
    """Whether one is named or not."""
    for name, words in ((None, "item 'a/b' has no picture at all"), ("x.jpg", "item 'a/b' has no picture 'x.jpg'")):
        with pytest.raises(BadRequest, match=words):
            calls({})._link("a/b", name)
