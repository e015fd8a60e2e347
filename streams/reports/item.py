"""What is known of one item, read from the truths: what `kindred item` shows.

The three truths are read from the beginning of the item's home partition to the end they have now; the last message of
its key counts, exactly as for a shard.  Nothing is asked of a worker, so it also tells of items that no worker has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import TopicPartition

from models.stock import Flags, flags
from models.truth_messages import (
    ImageEmbedding,
    ItemEmbedding,
    ItemRecord,
    ItemStock,
    read_item_embedding,
    read_item_record,
    read_item_stock,
)
from streams.connection import Connection
from streams.kafka.log_reader import partitions_of, read_to_end
from streams.reports.moments import moment
from streams.reports.terminal import Terminal
from streams.settings import Settings
from streams.topics import ITEM_EMBEDDINGS, ITEM_RECORDS, ITEM_STOCKS, TRUTHS, partition_of

LINK_LENGTH_MAX = 120
VALUE_LENGTH_MAX = 200


@dataclass(frozen=True)
class ItemReport:
    """The newest messages of an item, None where there is none, and what follows from them."""

    item_id: str
    partition: int
    record: ItemRecord | None
    stock: ItemStock | None
    embedding: ItemEmbedding | None
    now_ms: int
    low_stock: float

    @property
    def known(self) -> bool:
        """Whether any truth has a word on it."""
        return any(each is not None for each in (self.record, self.stock, self.embedding))

    @property
    def there(self) -> bool:
        """Whether the catalog has it now."""
        return self.record is not None and not self.record.gone

    @property
    def flags(self) -> Flags | None:
        """Its flags now; None when the catalog does not have it."""
        if self.record is None or self.record.gone:
            return None
        return flags(self.record.facts, self.stock.quantity if self.stock else None, self.now_ms, self.low_stock)

    @property
    def images(self) -> tuple[ImageEmbedding, ...]:
        """Its images as they stand; one of which no stage has told yet has neither vector nor error."""
        told = {image.link: image for image in self.embedding.images} if self.embedding else {}
        links = self.record.images if self.there and self.record else ()
        return tuple(told.get(link) or ImageEmbedding(link) for link in links)

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Why it is not recommended; empty when it can be."""
        if self.record is None:
            return ("the catalog has no record of it: it was deleted, or never there",)
        if self.record.gone:
            return ("it was deleted from the catalog",)
        reasons = []
        if not self.record.images:
            reasons.append("its record has no image")
        elif not any(image.vector for image in self.images):
            waiting = any(image.error is None or image.retry_at is not None for image in self.images)
            reasons.append("no image is embedded yet" if waiting else "none of its images can be used")
        if self.flags is not None and self.flags.out_of_stock:
            reasons.append("it is out of stock")
        return tuple(reasons)

    def as_json(self) -> dict[str, Any]:
        """All of it for scripts; vectors are left out, `embedded` says whether there is one."""
        record, stock, embedding, now = self.record, self.stock, self.embedding, self.flags
        return {
            "objectID": self.item_id,
            "partition": self.partition,
            "recommendable": not self.obstacles,
            "obstacles": self.obstacles,
            "record": msgspec.json.decode(record.record) if record and self.there else None,
            "recordAt": record.at if record else None,
            "gone": bool(record and record.gone),
            "stock": {"quantity": stock.quantity, "at": stock.at} if stock else None,
            "flags": {name: getattr(now, name) for name in now.__struct_fields__} if now else None,
            "imageVersion": record.image_version if record else None,
            "embeddedVersion": embedding.image_version if embedding else None,
            "model": embedding.model if embedding else None,
            "images": [
                {
                    "link": image.link,
                    "embedded": image.vector is not None,
                    "digest": image.digest,
                    "error": image.error,
                    "attempt": image.attempt,
                    "rests": image.rests,
                    "retryAt": image.retry_at,
                }
                for image in self.images
            ],
        }


async def read_item(
    connection: Connection,
    settings: Settings,
    item_id: str,
    now_ms: int,
    told: Callable[[int], None] = lambda count: None,
) -> ItemReport:
    """What the truths say of an item at `now_ms` (Unix ms); `told` hears how many messages were read.

    Raises Unavailable when a truth does not exist or the broker stops answering.
    """
    key = item_id.encode()
    partitions: dict[TopicPartition, str] = {}
    for name in TRUTHS:
        count = len(await partitions_of(connection, settings.topic_prefix + name))
        partitions[TopicPartition(settings.topic_prefix + name, partition_of(key, count))] = name
    newest: dict[str, bytes | None] = {}
    async for messages in read_to_end(connection, list(partitions)):
        name = partitions[TopicPartition(messages[0].topic, messages[0].partition)]
        newest.update((name, message.value) for message in messages if message.key == key)
        told(len(messages))
    record, stock, embedding = (newest.get(name) for name in (ITEM_RECORDS, ITEM_STOCKS, ITEM_EMBEDDINGS))
    return ItemReport(
        item_id=item_id,
        partition=next(iter(partitions)).partition,
        record=read_item_record(record) if record else None,
        stock=read_item_stock(stock) if stock else None,
        embedding=read_item_embedding(embedding) if embedding else None,
        now_ms=now_ms,
        low_stock=settings.low_stock,
    )


def show_item(terminal: Terminal, report: ItemReport) -> None:
    """The report for people."""
    verdict = "can be recommended" if not report.obstacles else "is not recommended: " + "; ".join(report.obstacles)
    terminal.line(f"{report.item_id} {verdict}", style="green" if not report.obstacles else "yellow")
    lines: list[tuple[str, object]] = [("home partition", report.partition)]
    record, stock, embedding, now = report.record, report.stock, report.embedding, report.flags
    if record is not None:
        lines.append(("deleted at" if record.gone else "record of", moment(record.at)))
    if stock is not None:
        level = "not known any more" if stock.quantity is None else f"{stock.quantity:g}"
        lines.append(("stock", f"{level}, as of {moment(stock.at)}"))
    elif report.there:
        lines.append(("stock", "never told, counts as in stock"))
    if now is not None:
        lines.append(("flags now", ", ".join(_flag_texts(now))))
    if record is not None and report.there:
        lines.append(("images", _images_state(record, embedding)))
    terminal.table(("what", "known"), lines)
    if report.images:
        rows = [
            (terminal.brief(image.link, LINK_LENGTH_MAX), _image_state(image), image.attempt or None)
            for image in report.images
        ]
        terminal.table(("image", "state", "attempts"), rows, numbers=("attempts",))
    if record is not None and report.there:
        attributes = msgspec.json.decode(record.record, type=dict[str, Any])
        shown = [(name, terminal.brief(_attribute(value), VALUE_LENGTH_MAX)) for name, value in attributes.items()]
        terminal.table(("attribute", "value"), shown)


def _images_state(record: ItemRecord, embedding: ItemEmbedding | None) -> str:
    version = f"version {record.image_version}"
    if embedding is None:
        return f"{version}, nothing embedded yet"
    same = embedding.image_version == record.image_version
    return f"{version}, embedded " + ("" if same else f"version {embedding.image_version} ") + f"by {embedding.model}"


def _flag_texts(now: Flags) -> list[str]:
    texts = [f"on sale at {now.discount:.0%} off" if now.discount else "on sale"] if now.on_sale else []
    texts.append("out of stock" if now.out_of_stock else "low stock" if now.low_stock else "in stock")
    return texts


def _image_state(image: ImageEmbedding) -> str:
    if image.vector is not None:
        return f"embedded, digest {image.digest or 'not known'}"
    if image.error is None:
        return "waiting to be embedded"
    return f"{image.error}; " + ("given up" if image.retry_at is None else f"next attempt {moment(image.retry_at)}")


def _attribute(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
