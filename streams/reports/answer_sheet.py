"""An answer as a contact sheet: what was looked for and its hits, with scores and flags, for `kindred similar --sheet`.

The pictures are fetched as a worker would fetch them, with this command's own settings: relative links need its
KINDRED_IMAGE_ROOT.  A picture that cannot be had costs its card nothing but the picture, and it is told why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from models.errors import BadEvent, Unavailable
from models.image import ImageLimits, Pixels, encode_png, shrunk
from models.record import AttributeNames, RecordLimits, parse_record
from models.stock import Flags
from models.truth_messages import image_name
from streams.connection import Connection
from streams.embed.fetch import ImageFetcher
from streams.reports.contact_sheet import Badge, Card, Row, contact_sheet
from streams.reports.item import read_item
from streams.settings import Settings

SHOWN_SIDE_MAX = 336
"""Pixels of a picture before it is fitted into its card."""
LINK_SHOWN = 200
"""Characters of a link in a reason: data: links have the whole picture."""
MOVED_MIN = 0.05
"""Of a score: less is not seen with one decimal."""
FLAGS = {
    "on_sale": Badge("on sale", "sale"),
    "low_stock": Badge("low stock", "low"),
    "out_of_stock": Badge("out of stock", "out"),
}
LIMITS = RecordLimits(1 << 30, 1000, 1 << 30, 1 << 20, 1 << 30)
"""What is on the topics was let in by a worker, with its limits."""


@dataclass(frozen=True)
class AnswerSheet:
    """A PNG, and why the pictures that are missing on it are: a reason each."""

    png: bytes
    missing: Sequence[str]


async def answer_sheet(
    connection: Connection,
    settings: Settings,
    items: Sequence[str],
    image: str | None,
    result: Mapping[str, Any],
) -> AnswerSheet:
    """The items and the image that were asked for, and the result's hits."""
    fetcher = ImageFetcher(
        image_root=settings.image_root,
        allowed_hosts=settings.image_hosts,
        bytes_max=settings.image_bytes_max,
        timeout_s=settings.image_timeout_s,
    )
    hits = result.get("hits") or []
    async with fetcher:
        pictures = _Pictures(fetcher, settings)
        queries = [_asked(connection, settings, pictures, item_id) for item_id in items]
        seeds = list(await asyncio.gather(*queries))
        if image is not None:
            seeds.append(
                Card(
                    await pictures.of_text(image),
                    _brief(image.rpartition("/")[2]) or "a picture",
                    "a picture",
                    tone="query",
                )
            )
        cards = await asyncio.gather(*(_found(pictures, rank, hit) for rank, hit in enumerate(hits, 1)))
    rules = ", ".join(map(str, result.get("appliedRules") or ()))
    about = f"{len(hits)} hits; 0 = no more alike than two random items, 100 = the same picture"
    title = "Looks like " + " and ".join(seed.title for seed in seeds)
    page = contact_sheet(title, about + (f"; rules: {rules}" if rules else ""), [Row(seeds, cards)])
    return AnswerSheet(encode_png(page), pictures.missing)


class _Pictures:
    """Pictures by record or link, each at the size for showing it; None where it cannot be had."""

    def __init__(self, fetcher: ImageFetcher, settings: Settings) -> None:
        self._fetcher = fetcher
        self._names = AttributeNames.parse(settings.attributes)
        self._limits = ImageLimits(settings.image_bytes_max, settings.image_pixels_max)
        self.missing: list[str] = []

    async def of_record(self, record: Mapping[str, Any], name: str | None) -> Pixels | None:
        """The picture of that name, or the first."""
        try:
            links = parse_record(str(record["objectID"]), dict(record), self._names, LIMITS).images
        except (BadEvent, KeyError):
            return None
        link = next((link for link in links if image_name(link) == name), links[0] if links else None)
        return None if link is None else await self.of_link(link)

    async def of_link(self, link: str) -> Pixels | None:
        try:
            return await asyncio.to_thread(shrunk, await self._fetcher.fetch(link), SHOWN_SIDE_MAX, self._limits)
        except (BadEvent, Unavailable) as error:
            self.missing.append(f"{link[:LINK_SHOWN]}: {error}")
            return None

    async def of_text(self, text: str) -> Pixels | None:
        """Of a link, or of a file of this machine."""
        if text.startswith(("http://", "https://", "data:")):
            return await self.of_link(text)
        try:
            return shrunk(Path(text).read_bytes(), SHOWN_SIDE_MAX, self._limits)
        except (BadEvent, OSError) as error:
            self.missing.append(f"{text}: {error}")
            return None


async def _asked(connection: Connection, settings: Settings, pictures: _Pictures, item_id: str) -> Card:
    """The card of an item that was asked for, as the truths have it."""
    report = await read_item(connection, settings, item_id, int(time.time() * 1000))
    record: dict[str, Any] = {}
    if report.record is not None and report.there:
        record = msgspec.json.decode(report.record.record, type=dict[str, Any])
    picture = await pictures.of_record({"objectID": item_id} | record, None)
    return Card(picture, _title(record, item_id), _detail(record, item_id), flags=_flags(report.flags), tone="query")


async def _found(pictures: _Pictures, rank: int, hit: Mapping[str, Any]) -> Card:
    record = {name: value for name, value in hit.items() if not name.startswith("_")}
    picture = await pictures.of_record(record, hit.get("_matchedImage"))
    score, ranked = hit.get("_score"), hit.get("_rankScore")
    badges = [Badge(f"{rank}", "query")]
    if isinstance(score, int | float):
        badges.append(Badge(f"{score:.1f}", "note"))
    if isinstance(score, int | float) and isinstance(ranked, int | float) and abs(ranked - score) >= MOVED_MIN:
        badges.append(Badge(f"ranked {ranked:.1f}", "good" if ranked > score else "bad"))
    flags = [badge for name, badge in FLAGS.items() if hit.get(name) is True]
    if hit.get("_source") not in (None, "model"):
        flags.append(Badge(str(hit["_source"]), "note"))
    item_id = str(hit.get("objectID", ""))
    return Card(picture, _title(record, item_id), _detail(record, item_id), tuple(badges), tuple(flags))


def _flags(now: Flags | None) -> tuple[Badge, ...]:
    return () if now is None else tuple(badge for name, badge in FLAGS.items() if getattr(now, name))


def _title(record: Mapping[str, Any], item_id: str) -> str:
    return _brief(str(record.get("title") or record.get("name") or item_id))


def _detail(record: Mapping[str, Any], item_id: str) -> str:
    price, stock = _number(record.get("price")), _number(record.get("stock"))
    return _brief(" · ".join([item_id, *([price] if price else []), *([f"{stock} left"] if stock else [])]))


def _number(value: object) -> str:
    """A number as a shop writes it; nothing for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    return f"{value:.2f}".removesuffix(".00")


def _brief(text: str) -> str:
    """Not more of it than could ever be shown."""
    return " ".join(text[:200].split())
