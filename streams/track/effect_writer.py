"""What a tracker asks for as messages on their topics, in two rounds: requests and alerts first, truths last."""

from __future__ import annotations

from typing import Any

import orjson

from models.effects import Effects
from models.truth_messages import write_message
from streams import topics
from streams.kafka.outbox import Message, Outbox
from streams.metrics import Metrics
from streams.track.owned_truths import WRITER


class EffectWriter:
    """Puts effects of partitions into an outbox."""

    def __init__(self, outbox: Outbox, metrics: Metrics, prefix: str, writer: str, alert_partitions: int) -> None:
        self.outbox = outbox
        self.metrics = metrics
        self.alert_partitions = alert_partitions
        self._tombstone_headers = [(WRITER, writer.encode())]
        self._image_changes = prefix + topics.IMAGE_CHANGES
        self._item_alerts = prefix + topics.ITEM_ALERTS
        self._item_records = prefix + topics.ITEM_RECORDS
        self._item_stocks = prefix + topics.ITEM_STOCKS

    def put_requests(self, partition: int, effects: Effects) -> None:
        """The first round: what has to be asked and told before the truths say that it was."""
        for item_id, request in effects.image_requests:
            self.outbox.put(self._image_changes, partition, Message(item_id.encode(), write_message(request)))
        for alert in effects.alerts:
            key = alert.objectID.encode()
            home = topics.partition_of(key, self.alert_partitions)
            self.outbox.put(self._item_alerts, home, Message(key, orjson.dumps(_fields(alert))))
            self.metrics.alerts.labels(alert.alert).inc()

    def put_truths(self, partition: int, effects: Effects) -> None:
        """The second round."""
        put = self.outbox.put
        for item_id, record in effects.records:
            key = item_id.encode()
            if record:
                put(self._item_records, partition, Message(key, write_message(record)))
            else:
                put(self._item_records, partition, Message(key, None, self._tombstone_headers))
        if effects.stocks:
            levels = [Message(item_id.encode(), write_message(stock)) for item_id, stock in effects.stocks]
            self.outbox.extend(self._item_stocks, partition, levels)


def _fields(alert: Any) -> dict[str, Any]:
    return {name: getattr(alert, name) for name in alert.__struct_fields__}
