"""The call that tries rules: recorded requests answered with the rules in force and with a candidate's, side by side.

    POST /1/indexes/{index}/looking-similar/recommend/rules/try        streams/trial_messages.py

Nothing is written anywhere.  It must not disturb what the worker is there for, so

1. one such call is in work at a time, and it takes a share of the loop of its own, within that of all HTTP calls;
2. it goes on in slices of a few ms, as every call does, and between them the stages and other calls have the loop;
3. after some seconds it answers with what it has come to, and its caller asks for the rest.

What is easy to get wrong: rules may change while it runs.  Both books are made of the rules of one moment, so that a
change by somebody else never looks like one by the candidate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
from aiohttp import web

from indexes.pins import Fate
from indexes.tried_answers import Tried, try_rules
from models.errors import BadEvent, BadRequest, Unavailable
from models.field_values import shown
from models.request import MODEL, ImageSeed, Request
from models.rule import Rule
from models.rule_trial import RulesAt, candidate_rules, same_meaning
from models.rules import DEFAULT_RULE_ID, parse_rule
from streams.admission import Share, Slots
from streams.answer_queue import SLICE_ENTRIES_MAX, SLICE_HITS_MAX, hits_asked
from streams.answerer import Entry, Images, images_of
from streams.gateway import CALL_S, Gateway
from streams.gateway_rules import PATH, RULE_ID_BYTES_MAX, RULES_MAX
from streams.http_answers import json_answer
from streams.http_bodies import VALUES_MAX, values_about
from streams.trial_messages import PinCount, Refused, RuleCount, TrialAnswer, TrialCall, TriedEntry, read_call
from streams.web import Web

REQUESTS_MAX = 500
"""Bodies of a call."""
ENTRIES_MAX = 2_000
"""Entries after which a call ends with what it has."""
CALL_S_MAX = 5.0
"""After which it does too."""
SHARE_MAX = 0.2
"""Of the loop."""
RULES_TOGETHER = 40
"""Rules that are read before the loop turns: 2 ms."""
LARGE_BYTES = 10_000
"""Of a body, from which on reading it is a slice of its own."""
NAMES_MAX = 100
"""Contexts and ids that are told."""
TIMES_MAX = 1_000_000_000


class TrialCalls:
    """The call, and what it may take."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.slots = Slots(1, "trials of rules")
        self.share = Share(min(SHARE_MAX, gateway.settings.http_share / 2))

    def register(self, web: Web) -> None:
        """Add the call to the web server."""
        web.add("POST", PATH + "try", self.call, "try")

    async def call(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.Response:
        """Try rules."""
        gateway = self.gateway
        gateway.share.spend(CALL_S)
        gateway.keys.check_rules(request)
        if parts[0] != gateway.settings.index:
            raise BadRequest(f"the index {shown(parts[0])} is not here, only {shown(gateway.settings.index)}", 404)
        if parts[1] != MODEL:
            raise BadRequest(f"the model {shown(parts[1])} is not here, only {shown(MODEL)}", 404)
        gateway.check_ready()
        with self.slots:
            body = await gateway.bodies.read(request, values_max=None)
            with self.spent():
                asked = _read(body)
            trial = Trial(self, asked)
            answer = await trial.run()
            with self.spent():
                return json_answer(request, msgspec.json.encode(answer))

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Spend the time that the block takes, of both shares."""
        with self.share.spent(), self.gateway.share.spent():
            yield

    async def turn(self) -> None:
        """Let the loop turn, for as long as the shares ask for."""
        await asyncio.sleep(max(self.share.wait_s(), self.gateway.share.wait_s()))


def _read(body: bytes) -> TrialCall:
    """The call of a body.  BadRequest says what was expected."""
    try:
        asked = read_call(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"expected rules and requests as JSON: {error}") from error
    if len(asked.rules) > RULES_MAX or len(asked.deleted) > RULES_MAX:
        raise BadRequest(f"expected at most {RULES_MAX:,} rules, got {max(len(asked.rules), len(asked.deleted)):,}")
    if len(asked.requests) > REQUESTS_MAX:
        raise BadRequest(f"requests: expected at most {REQUESTS_MAX}, got {len(asked.requests):,}")
    if asked.at is not None and not 0 <= asked.at <= 253_402_300_799_999:
        raise BadRequest(f"at: expected Unix ms, got {shown(asked.at)}")
    for number, each in enumerate(asked.requests):
        if not 1 <= each.times <= TIMES_MAX:
            raise BadRequest(f"requests[{number}].times: expected 1 to {TIMES_MAX:,}, got {shown(each.times)}")
    return asked


class Replay(NamedTuple):
    """An entry of a recorded request, and how often it was asked."""

    entry: Entry
    times: int


class Trial:
    """One call in work."""

    def __init__(self, calls: TrialCalls, asked: TrialCall) -> None:
        self.calls = calls
        self.asked = asked
        self.answerer = calls.gateway.answerer
        self.before = RulesAt()
        self.after = RulesAt()
        self._pins: dict[tuple[str, str, int, str], PinCount] = {}
        self._contexts: dict[str, None] = {}

    async def run(self) -> TrialAnswer:
        """Answer the requests, as many as there is time for."""
        ends_s = time.monotonic() + CALL_S_MAX
        self.answer = await self._prepared()
        waiting: list[Replay] = []
        for each in self.asked.requests:
            body = bytes(each.body)
            if len(body) > LARGE_BYTES:
                await self.calls.turn()
            with self.calls.spent():
                replays = [Replay(entry, each.times) for entry in self._entries(body)]
            if wanted := images_of([replay.entry for replay in replays]):
                await self._answered(replays, await self._images(wanted))
            else:
                waiting += replays
                if len(waiting) >= SLICE_ENTRIES_MAX:
                    await self._answered(waiting, {})
                    waiting = []
            self.answer.done += 1
            if time.monotonic() > ends_s or len(self.answer.entries) + len(waiting) >= ENTRIES_MAX:
                break
        await self._answered(waiting, {})
        self.answer.pins = list(self._pins.values())
        self.answer.contexts = list(self._contexts)
        return self.answer

    # The two books.

    async def _prepared(self) -> TrialAnswer:
        rules = self.calls.gateway.rules
        stored = {rule_id: each.rule for rule_id, each in rules.stored.items()}
        offset, unusable = rules.next_offset, sorted(rules.unusable)[:NAMES_MAX]
        put, refused = await self._read_rules()
        candidate = candidate_rules(stored.values(), put.values(), set(self.asked.deleted), only=self.asked.only)
        await self._fill(self.before, stored.values())
        if put or self.asked.deleted or self.asked.only:
            await self._fill(self.after, candidate)
        else:
            self.after = self.before
        self.before.at_ms = self.after.at_ms = self.asked.at
        states = {rule_id: _state(rule, stored.get(rule_id)) for rule_id, rule in put.items()}
        states |= {rule_id: "deleted" if rule_id in stored else "absent" for rule_id in self.asked.deleted}
        kept = {rule.rule_id for rule in candidate}
        return TrialAnswer(
            done=0,
            at=self.asked.at if self.asked.at is not None else self.answerer.clock_ms(),
            rules_offset=offset,
            in_force=len(self.before.in_force()),
            candidate=len(self.after.in_force()),
            states=states,
            dropped=sum(rule_id not in kept for rule_id in stored) if self.asked.only else 0,
            refused=refused,
            unusable=unusable,
            entries=[],
            rules={},
            pins=[],
            contexts=[],
            with_rules=0,
        )

    async def _read_rules(self) -> tuple[dict[str, Rule], list[Refused]]:
        """By id the rules that are understood, and why others are not."""
        put: dict[str, Rule] = {}
        refused: list[Refused] = []
        for start in range(0, len(self.asked.rules), RULES_TOGETHER):
            await self.calls.turn()
            with self.calls.spent():
                for number, raw in enumerate(self.asked.rules[start : start + RULES_TOGETHER], start + 1):
                    try:
                        rule = _rule(bytes(raw))
                        put.pop(rule.rule_id, None)
                        put[rule.rule_id] = rule
                    except (BadEvent, BadRequest) as error:
                        refused.append(Refused(number, str(error)))
        return put, refused

    async def _fill(self, book: RulesAt, rules: Iterable[Rule]) -> None:
        every = list(rules)
        for start in range(0, len(every), 5 * RULES_TOGETHER):
            await self.calls.turn()
            with self.calls.spent():
                for rule in every[start : start + 5 * RULES_TOGETHER]:
                    book.put(rule)

    # The requests.

    def _entries(self, body: bytes) -> Sequence[Entry]:
        if values_about(body, VALUES_MAX) > VALUES_MAX:
            return [BadRequest(f"expected at most {VALUES_MAX:,} values and escapes in a body")]
        return self.answerer.parse(body).entries

    async def _answered(self, replays: Sequence[Replay], images: Images) -> None:
        """Answer these, in slices."""
        start = 0
        while start < len(replays):
            await self.calls.turn()
            if self.calls.gateway.stopping:
                raise Unavailable("this worker is stopping; ask another")
            end = _slice_end(replays, start)
            with self.calls.spent():
                self._answer(replays[start:end], images)
            start = end

    async def _images(self, wanted: list[ImageSeed]) -> Images:
        with self.calls.gateway.image_slots:
            return await self.answerer.images(wanted)

    def _answer(self, replays: Sequence[Replay], images: Images) -> None:
        answerer = self.answerer
        now_ms = answerer.clock_ms()
        shards = list(answerer.index.shards.values())
        for shard in shards:
            shard.advance(now_ms)
        entries = [replay.entry for replay in replays]
        tried = try_rules(entries, images, shards, self.before, self.after, now_ms, mean=answerer.index.mean)
        for (entry, times), each in zip(replays, tried, strict=True):
            source = _source(entry)
            if isinstance(each, BadRequest):
                self.answer.entries.append(TriedEntry(source, times, None, each.status, str(each)))
                continue
            assert isinstance(entry, Request), "what was answered was understood"
            self.answer.entries.append(TriedEntry(source, times, each.comparison))
            self._count(entry, each, times)

    def _count(self, entry: Request, tried: Tried, times: int) -> None:
        counts = self.answer.rules
        changed = times * tried.comparison.changed
        for rule in tried.rules_before:
            counts.setdefault(rule.rule_id, RuleCount()).before += times
        after = {rule.rule_id for rule in tried.rules_after}
        for rule_id in after:
            count = counts.setdefault(rule_id, RuleCount())
            count.after += times
            count.changed += changed
        for rule in tried.rules_before:
            if rule.rule_id not in after:
                counts[rule.rule_id].changed += changed
        for fate in tried.fates:
            self._count_pin(fate, times)
        if entry.rules_enabled:
            self.answer.with_rules += times
        if len(self._contexts) < NAMES_MAX:
            self._contexts |= dict.fromkeys(entry.contexts)

    def _count_pin(self, fate: Fate, times: int) -> None:
        pin, words = fate.pin, ""
        if fate.obstacle is not None:
            code, words = fate.obstacle
            if code == "beyond":
                words = "its position is beyond the hits asked for"  # which differ
        elif fate.place == pin.position:
            code = "placed"
        else:
            code, words = "elsewhere", f"it stands at {fate.place}: another pin has its place, or hits are too few"
        key = (fate.rule_id, pin.item_id, pin.position, code)
        count = self._pins.get(key)
        if count is None:
            count = self._pins[key] = PinCount(fate.rule_id, pin.item_id, pin.position, code, words)
        count.times += times


class _Named(msgspec.Struct):
    """As much of a rule as says which it is."""

    rule_id: str = msgspec.field(name="objectID")


_named = msgspec.json.Decoder(_Named).decode


def _rule(raw: bytes) -> Rule:
    """A rule of the candidate.  BadEvent or BadRequest says why it is none."""
    try:
        rule_id = _named(raw).rule_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"expected a rule as JSON: {error}") from error
    if not 1 <= len(rule_id.encode()) <= RULE_ID_BYTES_MAX:
        raise BadRequest(f"objectID: expected 1 to {RULE_ID_BYTES_MAX} bytes, got {shown(rule_id)}")
    return parse_rule(rule_id, raw)


def _state(rule: Rule, stored: Rule | None) -> str:
    if stored is not None:
        return "same" if same_meaning(rule, stored) else "changed"
    return "changed" if rule.rule_id == DEFAULT_RULE_ID else "new"


def _slice_end(replays: Sequence[Replay], start: int) -> int:
    """Where a slice ends that begins at `start`.  A hit counts twice, since there are two answers."""
    hits = 0
    for number in range(start, len(replays)):
        hits += 2 * hits_asked(replays[number].entry)
        if number > start and (hits > SLICE_HITS_MAX or number - start >= SLICE_ENTRIES_MAX):
            return number
    return len(replays)


def _source(entry: Entry) -> str:
    """What an entry is to look like: the first of its sources."""
    if isinstance(entry, BadRequest):
        return ""
    wanted = [item.item_id for item in entry.items if item.weight > 0]
    wanted += [image.link[:80] for image in entry.images if image.weight > 0]
    return wanted[0] if len(wanted) == 1 else f"{wanted[0]} and {len(wanted) - 1} more"
