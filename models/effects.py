"""What the events of some items ask for: image requests, alerts, truths."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from models.truth_messages import ImageRequest, ItemRecord, ItemStock


class Alert(msgspec.Struct, frozen=True, gc=False):
    """A message of `item-alerts`."""

    objectID: str  # noqa: N815  (the name that clients of Algolia know)
    alert: str
    at: int


@dataclass
class Effects:
    """Messages of one round, by item; None is a tombstone."""

    image_requests: list[tuple[str, ImageRequest]] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    records: list[tuple[str, ItemRecord | None]] = field(default_factory=list)
    stocks: list[tuple[str, ItemStock]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.image_requests or self.alerts or self.records or self.stocks)
