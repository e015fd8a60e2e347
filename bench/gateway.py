"""The HTTP gateway: what it costs beside the answer itself, and what a flood of calls leaves to the Kafka stages.

1. One shard without Kafka: CPU of an answer in process, and of the same asked over HTTP, on one connection and on many.
2. A whole worker: round trips on the topic, alone and while `CALLERS` ask over HTTP without pause; stock events are
   worked off meanwhile, both times.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp
import orjson

from bench.asker import Asker, asking
from bench.embeddings import many_vectors, real_vectors
from bench.flood import call_of, exchange
from bench.ground import Child, CommittedOffsets, Ground, load_items
from bench.meter import Meter, median, p50, p99
from bench.report import Cell, Goal, Table
from bench.stock import Levels, write_levels
from streams import topics
from tests.installation import WorkerProcess, free_port

ITEMS = 10_000
HITS = 20
CALLERS = 200
COST = Goal(at_most=500, column="gateway us")
COLUMNS = ("/s", "CPU us", "gateway us", "p50 ms", "p99 ms", "calls")
FLOOD_COLUMNS = ("p50 ms", "p99 ms", "stock events/s", "HTTP 200/s", "HTTP 429/s")


async def measure(ground: Ground) -> list[Table]:
    """Both tables."""
    return [await _cost(ground), await _flood(ground)]


def _body(item_id: str) -> str:
    return orjson.dumps({"requests": [{"objectID": item_id, "maxRecommendations": HITS}]}).decode()


async def _cost(ground: Ground) -> Table:
    table = Table("gateway", f"{HITS} hits of {ITEMS:,} items over HTTP, one shard, without Kafka", COLUMNS)
    port = free_port()
    arguments = {"items": ITEMS, "hits": HITS, "port": port, "folder": str(ground.folder)}
    with Child("bench.gateway_host", ground.folder, **arguments) as child:
        answer_us = float((await child.line())["answer_us"])
        table.add("in process", {"/s": 1e6 / answer_us, "CPU us": answer_us})
        for connections in (1, 16):
            rounds = []
            for _ in range(3):
                rounds.append(await _asked(port, child.process.pid, connections, ground.pick(1_000, 4_000)))
            every = [took for each in rounds for took in each.times_ms]
            table.add(
                f"HTTP, {connections} connection{'s' * (connections > 1)}",
                {
                    "/s": median(each.rate for each in rounds),
                    "CPU us": median(each.cpu_us for each in rounds),
                    "gateway us": median(each.cpu_us - each.answer_us for each in rounds),
                    "p50 ms": p50(every),
                    "p99 ms": p99(every),
                    "calls": len(every),
                },
                ratio=median(answer_us / each.cpu_us for each in rounds),
                goal=COST,
            )
            ground.say(f"{connections} connections: {median(each.cpu_us for each in rounds):,.0f} us a call")
    table.notes.append("Ratio: calls a second of CPU to answers a second of CPU in process.")
    table.notes.append("CPU us: of the process, a call.  Gateway us: without what parsing and answering took of it.")
    return table


class Asked(NamedTuple):
    """One round: CPU us a call, us of them for parsing and answering, calls a second, and ms of each."""

    cpu_us: float
    answer_us: float
    rate: float
    times_ms: list[float]


async def _asked(port: int, pid: int, connections: int, count: int) -> Asked:
    numbers, times = itertools.count(), []

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        while (number := next(numbers)) < count:
            began = time.perf_counter()
            status = await exchange(reader, writer, call_of(_body(f"{number % ITEMS}")))
            times.append((time.perf_counter() - began) * 1000)
            assert status == 200
        writer.close()

    answers_s = await _answers_s(port)
    meter = Meter(pid)
    await asyncio.gather(*(caller() for _ in range(connections)))
    spent = meter.spent()
    answers_s = await _answers_s(port) - answers_s
    return Asked(spent.cpu_s / count * 1e6, answers_s / count * 1e6, count / spent.wall_s, times)


async def _answers_s(port: int) -> float:
    async with aiohttp.request("GET", f"http://127.0.0.1:{port}/spent") as answer:
        return float(await answer.text())


async def _flood(ground: Ground) -> Table:
    share = "0.5"
    table = Table("gateway flood", f"the topic beside {CALLERS} HTTP callers, one worker, share {share}", FLOOD_COLUMNS)
    async with ground.installation("flood", http_share=share) as installed:
        item_ids = await load_items(
            ground.broker, installed.prefix, many_vectors(ITEMS, real_vectors()), progress=ground.say
        )
        worker = await installed.worker().ready()
        group, topic = installed.prefix + "kindred-track", installed.prefix + topics.STOCK_LEVELS
        async with (
            asking(ground.broker, installed.prefix) as asker,
            CommittedOffsets(ground.broker, group, topic) as offsets,
        ):
            await _round_trips(asker, item_ids, 100)
            await _stock_rate(ground, worker.process.pid, item_ids, offsets, topic, 50_000)  # the first is slower
            bodies = [_body(item_id) for item_id in random.sample(item_ids, 1_000)]
            for what, callers in (("alone", 0), ("beside the flood", CALLERS), ("alone again", 0)):
                with contextlib.ExitStack() as stack:
                    if callers:
                        arguments = {"port": worker.port, "bodies": bodies, "callers": callers}
                        await stack.enter_context(Child("bench.flood", ground.folder, **arguments)).line()
                    before, began = _answered(worker), time.perf_counter()
                    trips = await _round_trips(asker, item_ids, ground.pick(100, 300))
                    wall_s, after = time.perf_counter() - began, _answered(worker)
                    figures: dict[str, Cell] = {"p50 ms": p50(trips), "p99 ms": p99(trips)}
                    if callers:
                        figures |= {f"HTTP {code}/s": (after[code] - before[code]) / wall_s for code in after}
                    events = ground.pick(100_000, 300_000)
                    figures["stock events/s"] = await _stock_rate(
                        ground, worker.process.pid, item_ids, offsets, topic, events
                    )
                table.add(what, figures)
                ground.say(f"{what}: " + ", ".join(f"{name} {value:,.1f}" for name, value in figures.items()))
    table.notes.append("Each caller asks again as soon as it is answered, also where the answer is a 429.")
    return table


def _answered(worker: WorkerProcess) -> dict[int, float]:
    """Calls so far, by status."""
    return {code: worker.metric("kindred_http_requests_total", status=str(code)) for code in (200, 429)}


async def _round_trips(asker: Asker, item_ids: Sequence[str], count: int) -> list[float]:
    request = {"maxRecommendations": HITS}
    return [(await asker.ask(request | {"objectID": item_id})).took_ms for item_id in random.choices(item_ids, k=count)]


async def _stock_rate(
    ground: Ground, pid: int, item_ids: list[str], offsets: CommittedOffsets, topic: str, count: int
) -> float:
    """Events a second from when a stopped worker goes on until all that waited are committed."""
    os.kill(pid, signal.SIGSTOP)
    await write_levels(ground.broker, topic, Levels(item_ids), count)
    end = await offsets.ends()
    began = time.perf_counter()
    os.kill(pid, signal.SIGCONT)
    begin = await offsets.done()
    while (done := await offsets.done()) < end and time.perf_counter() - began < 60:  # noqa: ASYNC110  nobody tells
        await asyncio.sleep(0.02)
    return (done - min(begin, end - count)) / (time.perf_counter() - began)
