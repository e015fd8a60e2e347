"""Pictures of items that no browser can fetch by their link: files below the image folder, and `data:` links by name.

    GET /1/indexes/{index}/{model}/picture/{objectID}?name=...     a small JPEG

A picture is shown if it is one of the item's own and lies here already.  For a link to a host a browser needs nobody;
this call fetches none, so that it cannot be used to make the worker visit anything.
"""

from __future__ import annotations

import asyncio
import time

import orjson
from aiohttp import web

from indexes.stored import ShardItem
from models.errors import BadEvent, BadRequest, Unavailable
from models.field_values import shown
from models.image import ImageLimits, thumbnail
from models.record import AttributeNames, RecordLimits, parse_record
from models.truth_messages import image_name
from streams.embed.fetch import ImageFetcher
from streams.gateway.recommendations import CALL_S, Gateway
from streams.topics import partition_of
from streams.web.admission import Slots
from streams.web.server import Web

SIDE_MAX = 320
"""Pixels of a picture's longer side: enough for a card on a screen of double density."""
PICTURES_MAX = 16
"""In work at once; a browser asks for six."""
HEADERS = {
    "Content-Type": "image/jpeg",
    "Cache-Control": "private, max-age=300",
    "X-Content-Type-Options": "nosniff",
    "Server": "kindred",
}
LIMITS = RecordLimits(1 << 30, 1000, 1 << 30, 1 << 20, 1 << 30)
"""None: the record has been let in already."""


class PictureCalls:
    """The picture call of the gateway."""

    def __init__(self, gateway: Gateway, fetcher: ImageFetcher, limits: ImageLimits) -> None:
        self.gateway = gateway
        self.settings = gateway.settings
        self.fetcher = fetcher
        self.limits = limits
        self.names = AttributeNames.parse(self.settings.attributes)
        self.slots = Slots(PICTURES_MAX, "pictures")

    def register(self, web: Web) -> None:
        """Add the call to the web server."""
        web.add("GET", "/1/indexes/{}/{}/picture/{}", self.picture, "picture")

    async def picture(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.Response:
        """A picture of an item: the one of that name, else its first.  404 where there is none that lies here."""
        self.gateway.share.spend(CALL_S)
        self.gateway.keys.check_read(request)
        self.gateway.check_ready()
        index, model, item_id = parts
        self.gateway.check_place(index, model)
        link = self._link(item_id, request.rel_url.query.get("name"))
        with self.slots:
            try:
                jpeg, took_s = await asyncio.to_thread(self._small, link)
            except BadEvent as error:
                raise BadRequest(str(error), 422) from error
        self.gateway.share.spend(took_s)
        return web.Response(body=jpeg, headers=HEADERS)

    def _link(self, item_id: str, name: str | None) -> str:
        """The link of the item's picture of that name; BadRequest 404 unless it is one of its own."""
        shard = self.gateway.answerer.index.shards.get(partition_of(item_id.encode(), self.settings.shards))
        item = shard.item(item_id) if shard is not None else None
        if item is None:
            raise BadRequest(f"item {shown(item_id)} is not known", 404)
        names = [image.link for image in item.images]
        if not names or (name is not None and name not in names):
            raise BadRequest(f"item {shown(item_id)} has no picture {shown(name) if name else 'at all'}", 404)
        wanted = name or names[0]
        if wanted.lower().startswith(("http:", "https:")):
            raise BadRequest("a picture of another host is fetched from there, by its link", 404)
        return self._data_link(item, wanted) if wanted.startswith("data:") else wanted

    def _data_link(self, item: ShardItem, name: str) -> str:
        """The `data:` link that has this name, out of the record; 404 where that has another by now.

        An item keeps its pictures until those of its newest record are embedded.
        """
        for link in parse_record(item.item_id, orjson.loads(item.record), self.names, LIMITS).images:
            if image_name(link) == name:
                return link
        raise BadRequest(f"the record of item {shown(item.item_id)} has no picture {shown(name)} any more", 404)

    def _small(self, link: str) -> tuple[bytes, float]:
        """In a thread: a small JPEG, and the CPU seconds it took."""
        begin_s = time.thread_time()
        read = self.fetcher.reader(link)
        if read is None:
            raise Unavailable("a picture of another host is fetched from there, by its link")
        return thumbnail(read(), SIDE_MAX, self.limits), time.thread_time() - begin_s
