"""A command that tries rules, against a worker that is slow, busy, small or none: all requests get through, once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import orjson
import pytest
from aiohttp import web

from models.errors import BadRequest, Unavailable
from streams.settings import Settings
from streams.trials.client import CALL_REQUESTS, TrialClient
from streams.trials.messages import PinCount, RuleCount, TrialAnswer, TrialCall, TriedEntry, read_call
from streams.web.answers import error_answer
from tests.installation import free_port

Handle = Callable[[TrialCall, int], web.Response | TrialAnswer]
BODIES = {orjson.dumps({"objectID": f"i{number}"}): 1 + number % 3 for number in range(250)}


def answered(call: TrialCall, done: int, offset: int = 7) -> TrialAnswer:
    """A worker's answer to the first `done` requests, each of one entry named as its body."""
    part = call.requests[:done]
    times = sum(each.times for each in part)
    return TrialAnswer(
        done=done,
        at=5,
        rules_offset=offset,
        in_force=1,
        candidate=1,
        states={},
        dropped=0,
        refused=[],
        unusable=[],
        entries=[TriedEntry(bytes(each.body).decode(), each.times) for each in part],
        rules={"r": RuleCount(0, times, times)},
        pins=[PinCount("r", "x", 0, "placed", "", times)],
        contexts=["m"],
        with_rules=times,
    )


@asynccontextmanager
async def worker(handle: Handle) -> AsyncIterator[Settings]:
    """Somebody who answers calls; `handle` is given the call and how many came before it."""
    calls = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        answer = handle(read_call(await request.read()), calls - 1)
        return answer if isinstance(answer, web.Response) else web.Response(body=msgspec.json.encode(answer))

    settings = Settings(web=f"127.0.0.1:{free_port()}")
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, settings.web_host, settings.web_port).start()
    try:
        yield settings
    finally:
        await runner.cleanup()


def busy(status: int, after_s: str = "0") -> web.Response:
    """An answer that asks to come again."""
    answer = error_answer("come again", status)
    answer.headers["Retry-After"] = after_s
    return answer


HANDLES: dict[str, Handle] = {
    "at once": lambda call, before: answered(call, len(call.requests)),
    "bit by bit": lambda call, before: answered(call, min(len(call.requests), 1 + before % 60)),
    "busy now and then": lambda call, before: (
        busy(429 if before % 4 else 503) if before % 2 else answered(call, min(len(call.requests), 40))
    ),
    "small": lambda call, before: (
        error_answer("too large", 413) if len(call.requests) > 9 else answered(call, len(call.requests))
    ),
}


@pytest.mark.parametrize("handle", HANDLES.values(), ids=HANDLES)
async def test_every_request_gets_through_once(handle: Handle) -> None:
    """However the worker takes them; the counts are those of all calls together."""
    told: list[int] = []
    async with worker(handle) as settings, TrialClient(settings) as client:
        outcome = await client.try_rules(TrialCall(), BODIES, told.append)

    total = sum(BODIES.values())
    assert {each.source.encode(): each.times for each in outcome.entries} == BODIES
    assert len(outcome.entries) == len(BODIES)
    assert sum(told) == outcome.with_rules == outcome.rules["r"].after == total
    assert [pin.times for pin in outcome.pins.values()] == [total]
    assert (outcome.offsets, outcome.contexts) == ({7}, {"m"})


async def test_a_body_that_no_call_can_have_fails_alone() -> None:
    """The others are tried."""
    large = b'{"objectID":"i7"}'

    def handle(call: TrialCall, before: int) -> web.Response | TrialAnswer:
        if any(bytes(each.body) == large for each in call.requests):
            return error_answer("too large", 413)
        return answered(call, len(call.requests))

    async with worker(handle) as settings, TrialClient(settings) as client:
        outcome = await client.try_rules(TrialCall(), BODIES)

    assert [(each.status, each.times) for each in outcome.entries if each.status != 200] == [(413, BODIES[large])]
    assert {each.source.encode() for each in outcome.entries if each.status == 200} == BODIES.keys() - {large}


async def test_rules_are_tried_without_requests() -> None:
    """One call, so that what there is to say of the rules is said; and a changed offset is remembered."""
    seen: list[int] = []

    def handle(call: TrialCall, before: int) -> TrialAnswer:
        seen.append(len(call.requests))
        return answered(call, len(call.requests), offset=before)

    async with worker(handle) as settings, TrialClient(settings) as client:
        assert (await client.try_rules(TrialCall(), {})).offsets == {0}
        assert (await client.try_rules(TrialCall(), BODIES)).offsets == {1, 2, 3}
    assert seen == [0, CALL_REQUESTS, CALL_REQUESTS, 50]


@pytest.mark.parametrize(
    ("handle", "error", "words"),
    [
        (lambda call, before: answered(call, 0), Unavailable, "answered none"),
        (lambda call, before: busy(503, "3600"), Unavailable, "come again"),
        (lambda call, before: error_answer("wrong", 403), BadRequest, "KINDRED_ADMIN_KEY"),
        (lambda call, before: error_answer("there is nothing at /1", 404), BadRequest, "stage serve"),
        (lambda call, before: web.Response(body=b"<html>", status=500), Unavailable, "no worker of Kindred's"),
        (lambda call, before: web.Response(body=b"{}"), Unavailable, "what is no trial"),
    ],
)
async def test_what_ends_a_trial(handle: Any, error: type[Exception], words: str) -> None:
    """Said in one line, whoever it is that answers there."""
    async with worker(handle) as settings, TrialClient(settings) as client:
        with pytest.raises(error, match=words):
            await client.try_rules(TrialCall(), BODIES)
