"""A catalog record: validated, and what is derived from it.

    attributes as they came ──► parse_record ──► Record: facts for the flags, image links, the record's canonical bytes

Easy to get wrong:

* The size limit is for the record without its `data:` links; those have a limit of their own.
* A sale is judged by prices alone here; whether its window is open is for `stock.flags` to say.
* "The same record" means the same canonical bytes: the order of an object's fields does not count, 5 and 5.0 differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
import orjson

from models import field_values
from models.attributes import AttributeNames, attribute_values, unpacked
from models.errors import BadEvent
from models.field_values import shown
from models.truth_messages import Facts

__all__ = ["AttributeNames", "Record", "RecordLimits", "attribute_values", "canonical", "parse_record"]

IMAGE_NAMES = ("image", "images", "image_url", "image_link", "additional_image_link")
"""In the order in which their links are an item's images."""

_SCHEMES = ("https", "http", "data", "file")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class RecordLimits(msgspec.Struct, frozen=True):
    """How much one record may be."""

    record_bytes_max: int = 100_000
    """Canonical bytes without the image links that are `data:`."""
    images_max: int = 10
    attributes_max: int = 1000
    """Dotted paths that can be filtered on."""
    item_id_bytes_max: int = 512
    data_link_bytes_max: int = 1_400_000
    """A link's own bytes; base64 of 1 MB is 1.33 MB."""


class Record(msgspec.Struct, frozen=True):
    """A catalog record that Kindred can use."""

    item_id: str
    attributes: dict[str, Any]
    """As they came, and `objectID`."""
    facts: Facts
    images: tuple[str, ...]
    """Image links in the record's order, each once."""
    stock: float | None
    """The level that the record tells; None: it tells none."""
    canonical: bytes
    """`canonical(attributes)`."""


def parse_record(
    item_id: str,
    attributes: dict[str, Any],
    names: AttributeNames | None = None,
    limits: RecordLimits | None = None,
) -> Record:
    """The record of `item_id`, from JSON's own types.  Raises BadEvent, naming the attribute, if it cannot be used."""
    names = names or AttributeNames()
    limits = limits or RecordLimits()
    id_bytes = len(item_id.encode("utf-8", "surrogatepass"))
    if not 1 <= id_bytes <= limits.item_id_bytes_max:
        raise BadEvent(f"item id: expected 1 to {limits.item_id_bytes_max} bytes, got {id_bytes:,}")
    attributes = attributes | {"objectID": _object_id(item_id, attributes.get("objectID"))}
    written = canonical(attributes)
    images, data_bytes = _images(attributes, names, limits)
    if len(written) - data_bytes > limits.record_bytes_max:
        raise BadEvent(
            f"record: expected at most {limits.record_bytes_max:,} bytes beside data: links, "
            f"got {len(written) - data_bytes:,}"
        )
    count = len(attribute_values(attributes))
    if count > limits.attributes_max:
        raise BadEvent(f"record: expected at most {limits.attributes_max:,} attributes, got {count:,}")
    stock = field_values.number("stock", names.find(attributes, "stock"))
    return Record(item_id, attributes, _facts(attributes, names), images, stock, written)


def canonical(attributes: Mapping[str, Any]) -> bytes:
    """JSON with sorted names: equal records, and no others, give equal bytes.

    Raises BadEvent for what JSON cannot say: more than 254 levels, integers beyond 64 bits, lone surrogates.
    """
    try:
        return orjson.dumps(attributes, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise BadEvent(f"record: expected what JSON can say, at most 254 levels deep; {error}") from error


def _object_id(item_id: str, told: object) -> str:
    whole = isinstance(told, int) and not isinstance(told, bool)
    if told is not None and told != item_id and not (whole and str(told) == item_id):
        raise BadEvent(f"objectID: expected the key {shown(item_id)}, got {shown(told)}")
    return item_id


def _facts(attributes: Mapping[str, Any], names: AttributeNames) -> Facts:
    def told(name: str) -> Any:
        return names.find(attributes, name)

    price = field_values.price("price", told("price"))
    list_price = field_values.price("list_price", told("list_price"))
    sale_price = field_values.price("sale_price", told("sale_price"))
    on_sale = field_values.boolean("on_sale", told("on_sale"))
    cheaper, discount = _saving(price, list_price, sale_price)
    sale = cheaper if on_sale is None else on_sale
    return Facts(
        sale=sale,
        discount=discount if sale else 0.0,
        sale_from=field_values.date_ms("sale_from", told("sale_from")),
        sale_until=field_values.date_ms("sale_until", told("sale_until")),
        in_stock=field_values.boolean("in_stock", told("in_stock")),
        low_stock_at=field_values.number("low_stock_at", told("low_stock_at")),
        group=_text("group", told("group")) or _text("item_group_id", told("item_group_id")),
    )


def _saving(price: float | None, list_price: float | None, sale_price: float | None) -> tuple[bool, float]:
    """Whether the prices say sale, and the share of the old price that is saved, 0..1.

    Shops say it in two ways: price below list_price, or sale_price below price.  Who says both has marked down twice:
    the saving is that of sale_price on list_price.
    """
    if price is None:
        return False, 0.0
    now = price if sale_price is None else min(price, sale_price)
    old = price if list_price is None else max(price, list_price)
    return now < old, (old - now) / old if now < old else 0.0


def _text(name: str, value: object) -> str | None:
    """Text, or a whole number as its text; blank is None."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None:
        return None
    raise BadEvent(f"{name}: expected text or a whole number, got {shown(value)}")


def _images(attributes: Mapping[str, Any], names: AttributeNames, limits: RecordLimits) -> tuple[tuple[str, ...], int]:
    """Each link once, and the bytes of all `data:` links, repeated ones too."""
    links: dict[str, None] = {}
    data_bytes = 0
    for name in IMAGE_NAMES:
        for link in _links(name, names.find(attributes, name)):
            size = len(link.encode()) if _check_link(name, link) == "data" else 0
            if size > limits.data_link_bytes_max:
                raise BadEvent(
                    f"{name}: expected a data: link of at most {limits.data_link_bytes_max:,} bytes, got {size:,}"
                )
            data_bytes += size
            links[link] = None
            if len(links) > limits.images_max:
                raise BadEvent(f"{name}: expected at most {limits.images_max} image links in all, got more")
    return tuple(links), data_bytes


def _links(name: str, value: object) -> Iterator[str]:
    """One link or a list of them, also a list in a text (as Debezium writes `jsonb`); null and blank are none."""
    told = unpacked(value)
    for link in told if isinstance(told, list) else [told]:
        if isinstance(link, str):
            if link := link.strip():
                yield link
        elif link is not None:
            raise BadEvent(
                f"{name}: expected a link or a list of links, got {shown(link)}; "
                f"if the links are further down, KINDRED_ATTRIBUTES says where, as {name}=photos.url"
            )


def _check_link(name: str, link: str) -> str:
    """The link's scheme, lower case; "" for a relative one.  What it leads to is for the fetcher to judge."""
    found = _SCHEME.match(link)
    scheme = found[1].lower() if found else ""
    if scheme != "data" and _CONTROL.search(link):  # in data: line breaks are harmless, and usual
        raise BadEvent(f"{name}: expected a link without control characters, got {shown(link)}")
    if (scheme and scheme not in _SCHEMES) or link.startswith("//"):
        raise BadEvent(f"{name}: expected a link that is https:, http:, data:, file: or relative, got {shown(link)}")
    if scheme in ("https", "http") and not _has_host(link):
        raise BadEvent(f"{name}: expected a link with a host, as https://shop.example/1.jpg, got {shown(link)}")
    return scheme


def _has_host(link: str) -> bool:
    try:
        return bool(urlsplit(link).hostname)
    except ValueError:  # an address in brackets that is none
        return False
