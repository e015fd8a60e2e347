"""The environment, read once: one frozen `Settings`, each bound checked at start.

Every field is the variable `KINDRED_` + its name in capitals, so this file is also the list of all settings
(`kindred worker --settings` prints it).  A value that cannot be understood is a `BadSetting` that names the variable,
what was expected and what came; commands then end with exit code 2.
"""

# ruff: noqa: RUF009  (the call makes a field of the dataclass)

from __future__ import annotations

import ipaddress
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from models.record import AttributeNames
from streams.fetch_guard import AddressGuard

PREFIX = "KINDRED_"
_SERVER = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:/,\[\]]+)(?::[0-9]{1,5})?")
"""Of the broker's.  Without a port Kafka's own is meant."""
_TOPIC_PREFIX = re.compile(r"[a-zA-Z0-9._-]{0,200}")
"""What Kafka takes in a topic's name, and as much of it as our longest name leaves."""


class BadSetting(ValueError):
    """A setting that cannot be used.  Nothing is started."""


def _setting(default: Any, meaning: str, low: float | None = None, high: float | None = None) -> Any:
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a worker and of the commands."""

    broker: str | None = _setting(None, "bootstrap servers, host:port[,host:port]")
    topic_prefix: str = _setting("", "put before every topic, group and application id")
    index: str = _setting("items", "the name that requests give as indexName")
    shards: int = _setting(4, "partitions of our item topics; fixed once they exist", 1, 1024)
    data: Path = _setting(Path("data"), "folder of shard files and checkpoints")
    model: Path | None = _setting(None, "path of an ONNX model with its .json beside it; unset: the shipped one")
    web: str = _setting("127.0.0.1:6066", "address of pages, gateway, metrics")
    search_key: str | None = _setting(None, "key that reads, for the HTTP gateway")
    admin_key: str | None = _setting(None, "key that writes, for the HTTP gateway")
    reply_topics: tuple[str, ...] = _setting(
        ("similar-responses", "similar-requests.reply", "similar-responses-*"),
        "reply topics that a request may name (shell patterns, without the prefix)",
    )
    low_stock: float = _setting(5, "at or below it an item runs low, unless its record has low_stock_at", 0)
    colour: float = _setting(0.02, "what colour counts beside the look, unless a request says otherwise", 0, 1)
    image_root: Path | None = _setting(None, "folder that relative and file: image links are read from")
    image_hosts: tuple[str, ...] = _setting((), "hosts or networks allowed although private or loopback")
    attributes: str = _setting("", "ours=theirs pairs (dotted paths) for records that name things otherwise")

    record_bytes_max: int = _setting(100_000, "bytes of a record, data: links not counted", 1_000, 900_000)
    images_max: int = _setting(10, "images of an item", 1, 100)
    attributes_max: int = _setting(1_000, "attributes of a record, nested ones counted", 10, 100_000)
    image_bytes_max: int = _setting(20_000_000, "bytes of an image", 1_000, 1_000_000_000)
    image_pixels_max: int = _setting(50_000_000, "pixels of an image", 1_000, 1_000_000_000)
    image_timeout_s: float = _setting(10.0, "seconds until an image must be there, redirects included", 0.05, 300)
    image_attempts_max: int = _setting(8, "how often a host that does not answer is asked", 1, 100)
    image_retry_s: float = _setting(2.0, "seconds until the second attempt; doubles with every further one", 0.01, 3600)
    hits_max: int = _setting(1_000, "hits of an answer", 1, 10_000)
    entries_max: int = _setting(50, "requests of a batch", 1, 1_000)
    http_body_bytes_max: int = _setting(8_000_000, "bytes of an HTTP body, unpacked", 1_000, 100_000_000)
    http_waiting_max: int = _setting(64, "HTTP calls in work at once; more are told to come again", 1, 10_000)
    http_share: float = _setting(0.5, "share of a worker's time that HTTP calls may take from its stages", 0.05, 0.95)
    watches_max: int = _setting(20_000, "items whose lists a worker watches", 1, 10_000_000)
    watch_hits_max: int = _setting(100, "hits of a watched list", 1, 1_000)
    watch_share: float = _setting(0.25, "share of a worker's time that watched lists may take", 0.01, 0.95)

    embed_threads: int = _setting(1, "threads of onnxruntime in a worker", 1, 64)
    embed_waiting_max: int = _setting(64, "image requests in work at once in a worker", 1, 10_000)
    delta_rows_max: int = _setting(30_000, "rows of a shard's delta at which a segment is sealed", 16)
    segment_rows_min: int = _setting(30_000, "rows below which no Annoy segment is built", 16)
    checkpoint_interval_s: float = _setting(300.0, "seconds between checkpoints of a shard", 0.05)
    replication: int = _setting(1, "replicas of topics that Kindred creates", 1, 9)
    compaction_lag_s: float = _setting(3_600.0, "min.compaction.lag of the truths that Kindred creates", 0)
    delete_retention_s: float = _setting(86_400.0, "delete.retention of the truths that Kindred creates", 0)
    session_timeout_s: float = _setting(10.0, "seconds without a heartbeat after which a worker is replaced", 1, 300)
    heartbeat_s: float = _setting(3.0, "seconds between heartbeats", 0.1, 100)
    stop_timeout_s: float = _setting(10.0, "seconds a worker may take to stop", 1, 300)
    dead_letter_share_max: float = _setting(0.5, "share of dead letters above which a worker stops", 0, 1)
    log_format: str = _setting("auto", "text, json, or auto: text on a terminal, json elsewhere")
    log_level: str = _setting("info", "debug, info, warning or error")

    @property
    def web_host(self) -> str:
        """Host that pages are served on."""
        return self.web.rpartition(":")[0].strip("[]")

    @property
    def web_port(self) -> int:
        """Port that pages are served on."""
        return int(self.web.rpartition(":")[2])

    @property
    def web_is_loopback(self) -> bool:
        """Whether only this machine reaches the pages."""
        return _is_loopback(self.web_host)

    @classmethod
    def read(cls, environment: Mapping[str, str], **overrides: Any) -> Settings:
        """Settings of an environment; `overrides` (a command's options) win when they are not None.

        Raises BadSetting for a value that is not of its type or out of bounds.
        """
        known = {PREFIX + each.name.upper(): each.name for each in fields(cls)}
        hints = typing.get_type_hints(cls)
        values: dict[str, Any] = {}
        for variable, name in known.items():
            text = environment.get(variable, "").strip()
            if text:
                values[name] = _parse(variable, text, hints[name])
        values |= {name: value for name, value in overrides.items() if value is not None}
        settings = cls(**values)
        settings.check()
        return settings

    def check(self) -> None:
        """Raise BadSetting where a value lies outside its bounds or two do not go together."""
        for each in fields(self):
            value, low, high = getattr(self, each.name), each.metadata["low"], each.metadata["high"]
            if isinstance(value, float) and not math.isfinite(value):
                raise BadSetting(f"{PREFIX}{each.name.upper()}: expected a number, got {value}")
            if value is not None and ((low is not None and value < low) or (high is not None and value > high)):
                bounds = f"at least {low}" if high is None else f"{low} to {high}"
                raise BadSetting(f"{PREFIX}{each.name.upper()}: expected {bounds}, got {value}")
        if self.broker is not None and not all(map(_SERVER.fullmatch, self.broker.split(","))):
            raise BadSetting(f"KINDRED_BROKER: expected host:port[,host:port], got {self.broker!r}")
        if not _TOPIC_PREFIX.fullmatch(self.topic_prefix):
            raise BadSetting(
                "KINDRED_TOPIC_PREFIX: expected at most 200 of the characters that a topic's name may have "
                f"(a-z, A-Z, 0-9, '.', '_', '-'), got {self.topic_prefix[:250]!r}"
            )
        host, _, port = self.web.rpartition(":")
        if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
            raise BadSetting(f"KINDRED_WEB: expected host:port, got {self.web!r}")
        if not self.web_is_loopback and not (self.search_key and self.admin_key):
            raise BadSetting(
                f"KINDRED_WEB: {self.web_host} can be reached from other machines, "
                "so KINDRED_SEARCH_KEY and KINDRED_ADMIN_KEY must be set"
            )
        if self.search_key and self.search_key == self.admin_key:
            raise BadSetting(
                "KINDRED_ADMIN_KEY: expected another key than KINDRED_SEARCH_KEY, which every browser of the shop gets"
            )
        if self.heartbeat_s * 2 > self.session_timeout_s:
            raise BadSetting(
                f"KINDRED_HEARTBEAT_S: expected at most half of the session's {self.session_timeout_s} s, "
                f"got {self.heartbeat_s}"
            )
        _understood("KINDRED_ATTRIBUTES", lambda: AttributeNames.parse(self.attributes))
        _understood("KINDRED_IMAGE_HOSTS", lambda: AddressGuard(self.image_hosts))
        if self.log_format not in ("auto", "text", "json"):
            raise BadSetting(f"KINDRED_LOG_FORMAT: expected text, json or auto, got {self.log_format!r}")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise BadSetting(f"KINDRED_LOG_LEVEL: expected debug, info, warning or error, got {self.log_level!r}")


def _understood(variable: str, read: Callable[[], object]) -> None:
    """Raise BadSetting with the reason that `read` has."""
    try:
        read()
    except ValueError as error:
        raise BadSetting(f"{variable}: {error}") from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parse(variable: str, text: str, kind: Any) -> Any:
    """`text` as the type that the field is annotated with."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return kind(text)
    except ValueError:
        expected = {int: "a whole number", float: "a number"}.get(kind, kind.__name__)
        raise BadSetting(f"{variable}: expected {expected}, got {text!r}") from None
