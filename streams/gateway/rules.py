"""Algolia's rule calls: rules are written through to `rule-changes`, and read as this worker has them in force.

    POST   .../recommend/rules/batch     a bare list of rules; `?clearExistingRules=true` removes all others
    POST   .../recommend/rules/search    {"query", "context", "enabled", "filters", "facets", "page", "hitsPerPage"}
    GET    .../recommend/rules/{id}      a rule
    DELETE .../recommend/rules/{id}
    GET    .../task/{taskID}             whether a write is in force here

What is easy to get wrong:

* Nothing of a batch is written unless all of it is understood.
* A write is answered when the broker has it, and not much later: browsers give up after a second.  It then waits a
  little for this worker to have read it back, so that who writes and looks finds it.
* `taskID` comes from the place of the last message on the topic, so that any worker can say whether it is there yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from models.errors import BadEvent, BadRequest, Unavailable
from models.field_values import shown
from models.outside_json import read_object
from models.rule import Rule
from models.rules import parse_rule
from streams import topics
from streams.gateway.recommendations import CALL_S, Gateway
from streams.gateway.rule_search import RuleSearch, iso_time, written_rule
from streams.kafka.outbox import Message, Outbox
from streams.web.admission import Slots
from streams.web.answers import json_answer
from streams.web.server import Web

PATH = "/1/indexes/{}/{}/recommend/rules/"
RULES_MAX = 20_000
"""Of a batch."""
RULE_ID_BYTES_MAX = 512
WRITE_S_MAX = 5.0
"""A broker that has not confirmed by then is away; the clients have long given up."""
READ_BACK_S_MAX = 0.3
TOGETHER = 100
"""Rules that are read or searched before the loop turns."""
WRITES_MAX = 8
"""At once; those that wait for a broker that is away must not keep questions waiting."""

_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Named(msgspec.Struct):
    """As much of a rule as says which it is."""

    rule_id: str = msgspec.field(name="objectID")


_named = msgspec.json.Decoder(_Named).decode


class RuleCalls:
    """The rule calls of the gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.rules = gateway.rules
        self.settings = gateway.settings
        self.topic = gateway.settings.topic_prefix + topics.RULE_CHANGES
        self.slots = Slots(WRITES_MAX, "rule writes")
        self._writing = asyncio.Lock()

    def register(self, web: Web) -> None:
        """Add the calls to the web server."""
        web.add("POST", PATH + "batch", self.batch, "rules")
        web.add("POST", PATH + "search", self.search, "rules")
        web.add("GET", PATH + "{}", self.get, "rules")
        web.add("DELETE", PATH + "{}", self.delete, "rules")
        web.add("GET", "/1/indexes/{}/{}/task/{}", self.task, "task")

    def _check(self, parts: tuple[str, ...]) -> None:
        """Raise unless the path names our index and model, and the rules are loaded."""
        self.gateway.share.spend(CALL_S)
        self.gateway.check_place(parts[0], parts[1])
        if self.gateway.stopping:
            raise Unavailable("this worker is stopping; ask another")
        if not self.rules.loaded:
            raise Unavailable("this worker has not read the rules yet; /readyz says when it has")

    # Writing.

    async def batch(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.Response:
        """Write rules, all or none."""
        self.gateway.keys.check_rules(request)
        self._check(parts)
        clear = _flag(request, "clearExistingRules")
        body = await self.gateway.bodies.read(request, values_max=None)
        with self.slots:
            rules = await self._read(body)
            messages = [Message(rule_id.encode(), raw) for rule_id, raw in rules.items()]
            async with self._writing:
                if clear:
                    messages += [Message(name.encode(), None) for name in await self._others(rules)]
                offset = await self._write(messages)
        return json_answer(request, {"taskID": _task_id(offset), "updatedAt": self._now()})

    async def delete(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.Response:
        """Remove a rule; one that is not there is removed already."""
        self.gateway.keys.check_rules(request)
        self._check(parts)
        with self.slots:
            async with self._writing:
                offset = await self._write([Message(_checked_id(parts[2]).encode(), None)])
        return json_answer(request, {"taskID": _task_id(offset), "deletedAt": self._now()})

    async def _read(self, body: bytes) -> dict[str, bytes]:
        """By id the rules of a batch, as they came.  BadRequest names the first that is not understood."""
        if body.strip() in (b"", b"{}"):  # what the client sends when its caller gave no rules
            return {}
        try:
            raws = _list(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(f"expected a list of rules as JSON: {error}") from error
        if len(raws) > RULES_MAX:
            raise BadRequest(f"expected at most {RULES_MAX:,} rules in a batch, got {len(raws):,}")
        rules: dict[str, bytes] = {}
        for start in range(0, len(raws), TOGETHER):
            with self.gateway.share.spent():
                for number in range(start, min(start + TOGETHER, len(raws))):
                    raw = bytes(raws[number])
                    try:
                        rules[read_rule(raw).rule_id] = raw
                    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                        raise BadRequest(f"rule {number} of the batch: {error}") from error
                    except (BadEvent, BadRequest) as error:
                        raise BadRequest(str(error)) from error
            await asyncio.sleep(0)
        return rules

    async def _others(self, kept: dict[str, bytes]) -> list[str]:
        """Ids of all rules on the topic that are not among these."""
        try:
            async with asyncio.timeout(WRITE_S_MAX):
                await self.rules.reached(await self.rules.end(), READ_BACK_S_MAX)
        except (TimeoutError, KafkaError) as error:
            raise Unavailable(f"the broker does not say which rules there are: {error!r}") from error
        return [name for name in (*self.rules.stored, *self.rules.unusable) if name not in kept]

    async def _write(self, messages: Sequence[Message]) -> int:
        """Offset after the last message, once the broker has all of them; goes on when the client has gone."""
        offset = await asyncio.shield(asyncio.create_task(self._deliver(messages), name="rule write"))
        await self.rules.reached(offset, READ_BACK_S_MAX)
        return offset

    async def _deliver(self, messages: Sequence[Message]) -> int:
        ends = [self.rules.next_offset]
        outbox = Outbox(self.rules.producer, lambda topic, partition, base, count: ends.append(base + count))
        for message in messages:
            outbox.put(self.topic, 0, message)
        try:
            async with asyncio.timeout(WRITE_S_MAX):
                await outbox.deliver()
        except TimeoutError as error:
            raise Unavailable(
                f"the broker has not confirmed the rules within {WRITE_S_MAX:g} s; write them again"
            ) from error
        except MessageSizeTooLargeError as error:
            raise BadRequest("a rule is larger than the topic accepts (max.message.bytes)", 413) from error
        except KafkaError as error:
            raise Unavailable(f"the broker does not take the rules: {error!r}") from error
        return ends[-1]

    # Reading.

    async def get(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.Response:
        """One rule, as it was written."""
        self.gateway.keys.check_rules(request)
        self._check(parts)
        stored = self.rules.stored.get(parts[2])
        if stored is None:
            raise BadRequest(f"there is no rule {shown(parts[2])}", 404)
        return json_answer(request, written_rule(stored))

    async def search(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.Response:
        """Rules that fit, first the one that goes first when they are applied."""
        self.gateway.keys.check_rules(request)
        self._check(parts)
        body = await self.gateway.bodies.read(request)
        with self.gateway.slots:
            asked = RuleSearch(read_object(body or b"{}", self.settings.http_body_bytes_max))
            found: list[dict[str, Any]] = []
            every = sorted(self.rules.stored.values(), key=lambda stored: stored.rule.precedence())
            for start in range(0, len(every), TOGETHER):
                with self.gateway.share.spent():
                    found += filter(
                        asked.finds, map(written_rule, filter(asked.may_find, every[start : start + TOGETHER]))
                    )
                await asyncio.sleep(0)
            with self.gateway.share.spent():
                return json_answer(request, asked.answer(found))

    async def task(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.Response:
        """Whether this worker has read a write."""
        self.gateway.keys.check_read(request)
        self._check(parts)
        if not parts[2].isdecimal() or len(parts[2]) > 16:
            raise BadRequest(f"expected a taskID as a number, got {shown(parts[2])}", 404)
        published = int(parts[2]) <= _task_id(self.rules.next_offset)
        return json_answer(request, {"status": "published" if published else "notPublished"})

    def _now(self) -> str:
        return iso_time(self.gateway.answerer.clock_ms())


def read_rule(raw: bytes) -> Rule:
    """A rule that names itself, as calls bring it; an error of msgspec, BadEvent or BadRequest says why it is none."""
    rule_id = _checked_id(_named(raw).rule_id)
    return parse_rule(rule_id, raw)


def _checked_id(rule_id: str) -> str:
    if not 1 <= len(rule_id.encode()) <= RULE_ID_BYTES_MAX:
        raise BadRequest(f"objectID: expected 1 to {RULE_ID_BYTES_MAX} bytes, got {shown(rule_id)}")
    return rule_id


def _task_id(offset: int) -> int:
    """Never 0, which clients in JavaScript would take for none."""
    return offset + 1


def _flag(request: web.BaseRequest, name: str) -> bool:
    text = request.rel_url.query.get(name) or "false"
    if text not in ("true", "false"):
        raise BadRequest(f"{name}: expected true or false, got {shown(text)}")
    return text == "true"
