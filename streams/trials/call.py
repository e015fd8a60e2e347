"""The call that tries rules: recorded requests answered with the rules in force and with a candidate's, side by side.

    POST /1/indexes/{index}/looking-similar/recommend/rules/try        streams/trials/messages.py

Nothing is written anywhere.  It must not disturb what the worker is there for, so

1. one such call is in work at a time, and it takes a share of the loop of its own, within that of all HTTP calls;
2. it goes on in slices of a few ms, as every call does, and between them the stages and other calls have the loop;
3. after some seconds it answers with what it has come to, and its caller asks for the rest.

What is easy to get wrong: rules may change while it runs.  Both books are made of the rules of one moment, so that a
change by somebody else never looks like one by the candidate.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from aiohttp import web

from indexes.pins import Fate
from indexes.tried_answers import Tried, try_rules
from models.errors import BadRequest, Unavailable
from models.field_values import shown
from models.request import ImageSeed, Request
from streams.gateway.recommendations import CALL_S, Gateway
from streams.gateway.rules import PATH, RULES_MAX
from streams.serve.answer_queue import SLICE_ENTRIES_MAX, Slice
from streams.serve.answerer import Entry, Images, images_of, shards_at
from streams.trials.books import TrialBooks
from streams.trials.messages import PinCount, RuleCount, TrialAnswer, TrialCall, TriedEntry, read_call
from streams.web.admission import Pace, Share, Slots
from streams.web.answers import json_answer
from streams.web.bodies import VALUES_MAX, values_about
from streams.web.server import Web

REQUESTS_MAX = 500
"""Bodies of a call."""
ENTRIES_MAX = 2_000
"""Entries after which a call ends with what it has."""
CALL_S_MAX = 5.0
"""After which it does too."""
SHARE_MAX = 0.2
"""Of the loop."""
ANSWERS = 2
"""Of each entry."""
LARGE_BYTES = 10_000
"""Of a body, from which on reading it is a slice of its own."""
CONTEXTS_MAX = 100
"""That are told."""
TIMES_MAX = 1_000_000_000


class TrialCalls:
    """The call, and what it may take."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.slots = Slots(1, "trials of rules")
        self.pace = Pace(Share(min(SHARE_MAX, gateway.settings.http_share / 2)), gateway.share)

    def register(self, web: Web) -> None:
        """Add the call to the web server."""
        web.add("POST", PATH + "try", self.call, "try")

    async def call(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.Response:
        """Try rules."""
        gateway = self.gateway
        gateway.share.spend(CALL_S)
        gateway.keys.check_rules(request)
        gateway.check_place(parts[0], parts[1])
        gateway.check_ready()
        with self.slots:
            body = await gateway.bodies.read(request, values_max=None)
            with self.pace.spent():
                asked = _read(body)
            trial = Trial(self, asked)
            answer = await trial.run()
            with self.pace.spent():
                return json_answer(request, msgspec.json.encode(answer))


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
        self.gateway = calls.gateway
        self.pace = calls.pace
        self.asked = asked
        self.answerer = calls.gateway.answerer
        self.books = TrialBooks(calls.gateway.rules, asked, calls.pace)
        self._pins: dict[tuple[str, str, int, str], PinCount] = {}
        self._contexts: dict[str, None] = {}

    async def run(self) -> TrialAnswer:
        """Answer the requests, as many as there is time for."""
        self.answer = await self.books.prepared(self.answerer.clock_ms())
        ends_s = time.monotonic() + CALL_S_MAX  # from here on, or a call with many rules would never come to an answer
        waiting: list[Replay] = []
        for each in self.asked.requests:
            body = bytes(each.body)
            if len(body) > LARGE_BYTES:
                await self.pace.turn()
            with self.pace.spent():
                replays = [Replay(entry, each.times) for entry in self._entries(body)]
            if wanted := images_of([replay.entry for replay in replays]):
                await self._answered(replays, await self._images(wanted))
            else:
                waiting += replays
                if len(waiting) >= SLICE_ENTRIES_MAX // ANSWERS:
                    await self._answered(waiting, {})
                    waiting = []
            self.answer.done += 1
            if time.monotonic() > ends_s or len(self.answer.entries) + len(waiting) >= ENTRIES_MAX:
                break
        await self._answered(waiting, {})
        self.answer.pins = list(self._pins.values())
        self.answer.contexts = list(self._contexts)
        return self.answer

    # The requests.

    def _entries(self, body: bytes) -> Sequence[Entry]:
        if values_about(body, VALUES_MAX) > VALUES_MAX:
            return [BadRequest(f"expected at most {VALUES_MAX:,} values and escapes in a body")]
        return self.answerer.parse(body).entries

    async def _answered(self, replays: Sequence[Replay], images: Images) -> None:
        """Answer these, in slices."""
        start = 0
        while start < len(replays):
            await self.pace.turn()
            if self.gateway.stopping:
                raise Unavailable("this worker is stopping; ask another")
            end = _currentend(replays, start)
            with self.pace.spent():
                self._answer(replays[start:end], images)
            start = end

    async def _images(self, wanted: list[ImageSeed]) -> Images:
        with self.gateway.image_slots:
            return await self.answerer.images(wanted)

    def _answer(self, replays: Sequence[Replay], images: Images) -> None:
        answerer, books = self.answerer, self.books
        now_ms = answerer.clock_ms()
        shards = shards_at(answerer.index, now_ms)
        entries = [replay.entry for replay in replays]
        tried = try_rules(entries, images, shards, books.before, books.after, now_ms, mean=answerer.index.mean)
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
        if len(self._contexts) < CONTEXTS_MAX:
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


def _currentend(replays: Sequence[Replay], start: int) -> int:
    """Where a slice ends that begins at `start`."""
    current = Slice(ANSWERS)
    for number in range(start, len(replays)):
        if not current.takes(replays[number].entry):
            return number
    return len(replays)


def _source(entry: Entry) -> str:
    """What an entry is to look like: the first of its sources."""
    if isinstance(entry, BadRequest):
        return ""
    wanted = [item.item_id for item in entry.items if item.weight > 0]
    wanted += [image.link[:80] for image in entry.images if image.weight > 0]
    return wanted[0] if len(wanted) == 1 else f"{wanted[0]} and {len(wanted) - 1} more"
