"""Requests: round trips and requests a core at 10,000 items, against a bare echo whose replies have the same bytes.

1. Alone: one request at a time, Kindred's and the echo's in turn.
2. Queued up: both are stopped (SIGSTOP) while requests pile up, then each works its pile off alone.
3. Beside a stock feed: all stages are stopped while stock events pile up; from when they go on until the feed is
   worked off, requests are asked as in 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Any

from bench.asker import Answer, Asker, asking
from bench.embeddings import many_vectors, real_vectors
from bench.ground import SHARDS, Child, CommittedOffsets, Ground, load_items, make_topics
from bench.meter import Meter, Spent, median, p50, p99, ratio
from bench.report import Cell, Goal, Table
from bench.stock import Levels, write_levels
from streams import topics

ITEMS = 10_000
HITS = 20
ROUND_TRIP = Goal(at_most=1.2)
A_CORE = Goal(at_least=8_000, column="/s a core")
COLUMNS = ("p50 ms", "p99 ms", "/s", "/s a core", "CPU us", "requests")


async def measure(ground: Ground) -> list[Table]:
    """The table."""
    table = Table("requests", f"{HITS} hits of {ITEMS:,} items, one worker with all stages", COLUMNS)
    async with ground.installation("requests") as installed:
        item_ids = await load_items(
            ground.broker, installed.prefix, many_vectors(ITEMS, real_vectors()), progress=ground.say
        )
        worker = await installed.worker().ready()
        async with asking(ground.broker, installed.prefix) as ours:
            reply = (await ours.ask(_request(item_ids))).body
            async with _echo(ground, installed.prefix, reply) as (echo, echo_pid):
                await _alone(ground, table, item_ids, ours, echo)
                await _queued(ground, table, item_ids, (ours, worker.process.pid), (echo, echo_pid))
                group = installed.prefix + "kindred-track"
                topic = installed.prefix + topics.STOCK_LEVELS
                async with CommittedOffsets(ground.broker, group, topic) as offsets:
                    await _beside(ground, table, item_ids, (ours, worker.process.pid), echo, offsets, topic)
    table.notes.append(f"The echo answers each request with one of Kindred's replies, {len(reply):,} bytes.")
    return [table]


def _request(item_ids: Sequence[str]) -> dict[str, Any]:
    return {"objectID": random.choice(item_ids), "maxRecommendations": HITS}


@contextlib.asynccontextmanager
async def _echo(ground: Ground, prefix: str, reply: bytes) -> AsyncIterator[tuple[Asker, int]]:
    """A running echo and who asks it."""
    prefix = f"{prefix}echo-"
    requests, replies = prefix + topics.SIMILAR_REQUESTS, prefix + topics.SIMILAR_RESPONSES
    await make_topics(ground.broker, [requests, replies], SHARDS)
    body = ground.folder / "reply.json"
    body.write_bytes(reply)
    arguments = {"broker": ground.broker, "requests": requests, "replies": replies, "body": str(body)}
    with Child("bench.bare", ground.folder, what="echo", **arguments) as child:
        await child.line()
        async with asking(ground.broker, prefix) as asker:
            await asker.ask({})
            yield asker, child.process.pid


async def _in_turn(item_ids: Sequence[str], ours: Asker, echo: Asker, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of `count` round trips each."""
    pairs: list[tuple[Answer, Answer]] = []
    for _ in range(count):
        pairs.append((await ours.ask(_request(item_ids)), await echo.ask({})))
    return [mine.took_ms for mine, _ in pairs], [its.took_ms for _, its in pairs]


async def _alone(ground: Ground, table: Table, item_ids: Sequence[str], ours: Asker, echo: Asker) -> None:
    count, rounds = ground.pick(150, 400), 3
    await _in_turn(item_ids, ours, echo, 50)
    found = [await _in_turn(item_ids, ours, echo, count) for _ in range(rounds)]
    ground.say(f"round trip {median(p50(mine) for mine, _ in found):.2f} ms")
    of_echo, of_kindred = [its for _, its in found], [mine for mine, _ in found]
    compared = ratio(list(map(p50, of_kindred)), list(map(p50, of_echo)))
    table.add("echo, one at a time", _times(of_echo))
    table.add("Kindred, one at a time", _times(of_kindred), ratio=compared, goal=ROUND_TRIP)


def _times(rounds: Sequence[Sequence[float]]) -> dict[str, Cell]:
    every = [took_ms for each in rounds for took_ms in each]
    return {"p50 ms": median(map(p50, rounds)), "p99 ms": p99(every), "requests": len(every)}


async def _queued(
    ground: Ground, table: Table, item_ids: Sequence[str], ours: tuple[Asker, int], echo: tuple[Asker, int]
) -> None:
    count, rounds = ground.pick(2_000, 6_000), 3
    spent: dict[str, list[Spent]] = {"echo": [], "Kindred": []}
    for _ in range(rounds):
        for what, (asker, pid) in (("echo", echo), ("Kindred", ours)):
            os.kill(pid, signal.SIGSTOP)
            answers = await asker.queue([_request(item_ids) for _ in range(count)])
            meter = Meter(pid)
            os.kill(pid, signal.SIGCONT)
            await asyncio.wait_for(asyncio.gather(*answers), 120)
            spent[what].append(meter.spent())
    of_echo = [count / each.cpu_s for each in spent["echo"]]
    of_kindred = [count / each.cpu_s for each in spent["Kindred"]]
    for what, rates in (("echo", of_echo), ("Kindred", of_kindred)):
        figures: dict[str, Cell] = {
            "/s": median(count / each.wall_s for each in spent[what]),
            "/s a core": median(rates),
            "CPU us": 1e6 / median(rates),
            "requests": count * rounds,
        }
        ours_now = rates is of_kindred
        table.add(
            f"{what}, {count:,} queued up",
            figures,
            ratio=ratio(of_kindred, of_echo) if ours_now else None,
            goal=A_CORE if ours_now else None,
        )
        ground.say(f"{what}: {median(rates):,.0f} requests a second of CPU")
    table.notes.append("Requests a second a core are those a second of the process's own CPU.")


async def _beside(
    ground: Ground,
    table: Table,
    item_ids: list[str],
    ours: tuple[Asker, int],
    echo: Asker,
    offsets: CommittedOffsets,
    topic: str,
) -> None:
    count = ground.pick(100_000, 1_000_000)
    asker, pid = ours
    os.kill(pid, signal.SIGSTOP)
    await write_levels(ground.broker, topic, Levels(item_ids), count)
    end = await offsets.ends()
    ground.say(f"{count:,} stock events wait")
    meter = Meter(pid)
    os.kill(pid, signal.SIGCONT)
    mine: list[float] = []
    its: list[float] = []
    while (done := await offsets.done()) < end and meter.spent().wall_s < ground.pick(30, 90):
        for found, took in zip((mine, its), await _in_turn(item_ids, asker, echo, 5), strict=True):
            found += took
    handled = count - (end - done)
    what = f"with {count:,} stock events waiting"
    table.add(f"echo, {what}", _times([its]))
    table.add(f"Kindred, {what}", _times([mine]), ratio=p50(mine) / p50(its))
    table.notes.append(f"Meanwhile {handled:,} stock events were handled, {handled / meter.spent().wall_s:,.0f}/s.")
