"""Trying rules at a worker, from a command: its calls one after the other, until all requests are through.

A worker answers a part of a call when it runs out of time; what is left goes into the next.  Where another trial is in
work, or the worker is busy, it is asked again for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from models.errors import BadRequest, Unavailable
from models.request import MODEL
from streams.settings import Settings
from streams.trials.messages import PinCount, Replayed, RuleCount, TrialAnswer, TrialCall, TriedEntry, read_answer
from streams.web.keys import KEY

CALL_REQUESTS = 100
CALL_BYTES = 4_000_000
CALL_S_MAX = 60.0
"""A worker answers within some seconds, unless it waits for images or is very busy."""
BUSY_S_MAX = 60.0
"""For so long a worker that is busy is asked again."""
PAGE_RULES = 500


@dataclass
class TrialOutcome:
    """All answers of one trial, added up."""

    last: TrialAnswer | None = None
    """What the newest answer says of the rules."""
    offsets: set[int] = field(default_factory=set)
    """More than one: rules changed meanwhile."""
    entries: list[TriedEntry] = field(default_factory=list)
    rules: dict[str, RuleCount] = field(default_factory=dict)
    pins: dict[tuple[str, str, int, str], PinCount] = field(default_factory=dict)
    contexts: set[str] = field(default_factory=set)
    with_rules: int = 0

    def add(self, answer: TrialAnswer) -> None:
        """One more call."""
        self.last = answer
        self.offsets.add(answer.rules_offset)
        self.entries += answer.entries
        self.contexts.update(answer.contexts)
        self.with_rules += answer.with_rules
        for rule_id, count in answer.rules.items():
            known = self.rules.setdefault(rule_id, RuleCount())
            known.before += count.before
            known.after += count.after
            known.changed += count.changed
        for pin in answer.pins:
            key = (pin.rule, pin.item_id, pin.position, pin.fate)
            if key in self.pins:
                self.pins[key].times += pin.times
            else:
                self.pins[key] = pin


class TrialClient:
    """Asks one worker.  An async context manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.path = f"/1/indexes/{quote(settings.index, safe='')}/{MODEL}/recommend/rules/"
        key = settings.admin_key or settings.search_key
        self._headers = {KEY: key} if key else {}

    _session: aiohttp.ClientSession

    async def __aenter__(self) -> TrialClient:
        self._session = aiohttp.ClientSession(
            f"http://{self.settings.web}", headers=self._headers, timeout=aiohttp.ClientTimeout(total=CALL_S_MAX)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def try_rules(
        self, call: TrialCall, bodies: Mapping[bytes, int], told: Callable[[int], None] = lambda count: None
    ) -> TrialOutcome:
        """The call's rules tried with bodies, each asked so many times.  `told` hears how many are through.

        Raises BadRequest for what the worker does not take, Unavailable when none answers.
        """
        outcome = TrialOutcome()
        waiting = [Replayed(msgspec.Raw(body), times) for body, times in bodies.items()]
        size = CALL_REQUESTS
        while waiting or outcome.last is None:
            part = _part(waiting, size, min(CALL_BYTES, self.settings.http_body_bytes_max // 2))
            try:
                answer = await self._tried(msgspec.structs.replace(call, requests=part))
            except BadRequest as error:
                if error.status != 413 or not part:
                    raise
                if len(part) == 1:  # no call can have it
                    outcome.entries.append(TriedEntry("", part[0].times, None, error.status, str(error)))
                    waiting = waiting[1:]
                size = max(1, len(part) // 2)
                continue
            outcome.add(answer)
            told(sum(each.times for each in part[: answer.done]))
            if part and answer.done < 1:
                raise Unavailable("the worker answered none of the requests it was given")
            waiting = waiting[answer.done :]
        return outcome

    async def _tried(self, call: TrialCall) -> TrialAnswer:
        body = await self._asked("try", msgspec.json.encode(call))
        try:
            return read_answer(body)
        except msgspec.DecodeError as error:
            raise Unavailable(f"the worker at {self.settings.web} answered what is no trial: {error}") from error

    async def stored_rules(self) -> list[dict[str, Any]]:
        """All rules on the topic that are understood, as they were written, in the order of precedence."""
        rules: list[dict[str, Any]] = []
        page = 0
        while True:
            body = await self._asked("search", msgspec.json.encode({"page": page, "hitsPerPage": PAGE_RULES}))
            answer = msgspec.json.decode(body, type=dict[str, Any])
            rules += answer.get("hits", [])
            page += 1
            if page >= answer.get("nbPages", 0):
                return rules

    async def _asked(self, name: str, body: bytes) -> bytes:
        """The body of a good answer."""
        until_s = time.monotonic() + BUSY_S_MAX
        while True:
            try:
                async with self._session.post(self.path + name, data=body) as response:
                    answer = await response.read()
                    status, wait_s = response.status, float(response.headers.get("Retry-After", "1"))
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                unheard = isinstance(error, aiohttp.ClientConnectorError)
                reason = "nobody listens there" if unheard else str(error) or type(error).__name__
                raise Unavailable(
                    f"no worker answers at {self.settings.web} (KINDRED_WEB): {reason}; "
                    "one with the stage serve has to run"
                ) from None
            if status == 200:
                return answer
            if status not in (429, 503) or time.monotonic() + wait_s > until_s:
                raise self._failure(status, answer)
            await asyncio.sleep(wait_s)

    def _failure(self, status: int, answer: bytes) -> BadRequest | Unavailable:
        try:
            message = str(msgspec.json.decode(answer, type=dict[str, Any])["message"])
        except (msgspec.DecodeError, KeyError):
            message = "it is no worker of Kindred's"
        if status == 403:
            message += " (KINDRED_ADMIN_KEY)"
        where = f"the worker at {self.settings.web} answers {status}: {message}"
        if status == 404 and "nothing at" in message:
            where += "; has it the stage serve, and this version of Kindred?"
        return Unavailable(where) if status >= 500 or status == 429 else BadRequest(where, status)


def _part(waiting: Sequence[Replayed], count: int, size_bytes: int) -> list[Replayed]:
    """The first of them, at least one, that go into a call."""
    part: list[Replayed] = []
    for each in waiting[:count]:
        size_bytes -= len(bytes(each.body))
        if part and size_bytes < 0:
            break
        part.append(each)
    return part
