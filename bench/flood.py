"""Callers of the HTTP gateway who ask without pause, in a process of their own: `python -m bench.flood JSON`.

They write the same bytes again and again and hardly read what comes, so that as little as possible of the machine is
theirs.  They ask until they are ended.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
from collections.abc import Iterator, Sequence

from bench.bare import tell

PATH = "/1/indexes/*/recommendations"


async def flood(port: int, bodies: Sequence[str], callers: int) -> None:
    """Ask until ended; tells once when every caller has had an answer."""
    calls = [call_of(body) for body in bodies]
    random.shuffle(calls)
    turn = itertools.cycle(calls)
    answered = [asyncio.Event() for _ in range(callers)]
    asking = [asyncio.create_task(_ask(port, turn, event)) for event in answered]
    await asyncio.gather(*(event.wait() for event in answered))
    tell(flooding=True)
    await asyncio.gather(*asking)


def call_of(body: str) -> bytes:
    """The bytes of a call on the wire."""
    return f"POST {PATH} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, call: bytes) -> int:
    """Write a call and read its answer; its status.  A client's library would take as much time as the gateway."""
    writer.write(call)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    return int(head[9:12])


async def _ask(port: int, turn: Iterator[bytes], answered: asyncio.Event) -> None:
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            while True:
                await exchange(reader, writer, next(turn))
                answered.set()
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(flood(**json.loads(sys.argv[1])))
