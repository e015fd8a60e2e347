"""The visitor of a demo: sends events and asks, over the topics alone, as any client would, and keeps the time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaProducer

from models.stock import DERIVED
from streams.client import SimilarClient
from streams.demo.alerts import AlertListener
from streams.demo.tour_steps import ShownAlert, ShownEvent
from streams.settings import Settings

ANSWER_S_MAX = 10.0
SEEN_S_MAX = 15.0
"""After so long an event counts as not come out."""
ALERT_S_MAX = 5.0
"""So long an alert is waited for after the answer that its event shows in; it is sent before."""

Hit = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A reply to a look-alike request."""

    hits: tuple[Hit, ...]
    rules: tuple[str, ...]
    took_ms: float
    """From sending the request to having its reply."""

    def place(self, item_id: str) -> int | None:
        """Where an item stands, from 0; None when it is not there."""
        return next((place for place, hit in enumerate(self.hits) if hit["objectID"] == item_id), None)

    def hit(self, item_id: str) -> Hit | None:
        """An item's hit; None when it is not there."""
        place = self.place(item_id)
        return None if place is None else self.hits[place]


class Seen(NamedTuple):
    """The first answer in which an event shows, or the last one in which it does not."""

    answer: Answer
    after_ms: float | None
    """From before the event was sent to having the answer; None: it does not show."""
    alert: ShownAlert | None
    """What `item-alerts` says of it; None: nothing."""


class Visitor:
    """Writes to topics by a producer, asks by a client, and listens for alerts."""

    def __init__(
        self, settings: Settings, client: SimilarClient, producer: AIOKafkaProducer, alerts: AlertListener
    ) -> None:
        self._settings = settings
        self._client = client
        self._producer = producer
        self._alerts = alerts

    def request(self, item_id: str, count: int, *, out_of_stock: bool = False) -> dict[str, Any]:
        """The request as it is sent: records whole, and the derived attributes as they are now."""
        request = {
            "objectID": item_id,
            "maxRecommendations": count,
            "queryParameters": {"attributesToRetrieve": ["*", *DERIVED]},
        }
        return request | ({"outOfStock": True} if out_of_stock else {})

    async def ask(self, item_id: str, count: int, *, out_of_stock: bool = False) -> Answer:
        """What looks like an item.  Raises RequestFailed or NoReply."""
        return await self.ask_for(self.request(item_id, count, out_of_stock=out_of_stock), item_id)

    async def ask_for(self, request: Mapping[str, Any], key: str | None = None) -> Answer:
        """The answer to any request.  Raises RequestFailed or NoReply."""
        started = time.perf_counter()
        result = await self._client.ask(request, ANSWER_S_MAX, key=None if key is None else key.encode())
        took_ms = (time.perf_counter() - started) * 1000
        return Answer(tuple(result["hits"]), tuple(result.get("appliedRules") or ()), took_ms)

    async def send(self, topic: str, key: str, value: Any) -> None:
        """Write an event (None: a tombstone) and wait until the broker has it."""
        body = None if value is None else orjson.dumps(value)
        await self._producer.send_and_wait(self._settings.topic_prefix + topic, body, key=key.encode())

    async def send_and_see(
        self, event: ShownEvent, ask: Callable[[], Awaitable[Answer]], shows: Callable[[Answer], bool]
    ) -> Seen:
        """Write an event, ask again and again until it shows, or does not for too long, and wait for its alert."""
        started_s = time.perf_counter()
        await self.send(event.topic, event.key, event.value)
        while True:
            answer = await ask()
            after_s = time.perf_counter() - started_s
            if shows(answer):
                return Seen(answer, after_s * 1000, await self._alert(event, started_s))
            if after_s > SEEN_S_MAX:
                return Seen(answer, None, await self._alert(event, started_s))

    async def _alert(self, event: ShownEvent, since_s: float) -> ShownAlert | None:
        alert = await self._alerts.alert(event.key, event.alert, since_s, ALERT_S_MAX)
        return None if alert is None else ShownAlert(event.key, alert.value, (alert.read_s - since_s) * 1000)
