"""Turns of the loop: bulk work rests after its large pieces, while visitors ask."""

from __future__ import annotations

import asyncio

import pytest

from streams.kafka import turns
from streams.kafka.turns import Turns


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of every rest that was taken."""
    taken: list[float] = []
    sleep = asyncio.sleep

    async def instead(delay_s: float) -> None:
        taken.append(delay_s)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", instead)
    return taken


async def test_rests_only_while_visitors_ask(rests: list[float]) -> None:
    """As long as the piece was large, from a request on until none has come for a second."""
    now_s = 100.0
    mine = Turns(lambda: now_s)

    await mine.give(500)
    mine.asked()
    await mine.give(500)
    await mine.give(1_000)
    await mine.give(20)
    now_s += turns.VISITORS_S - 0.01
    await mine.give(500)
    now_s += 0.01
    await mine.give(500)

    assert [0, 0.003, 0.006, 0, 0.003, 0] == pytest.approx(rests)


async def test_requests_wait_for_single_changes_alone(rests: list[float]) -> None:
    """Some turns while a change is on its way; none for a feed, for nothing, or when the change is through."""
    now_s = 100.0
    mine = Turns(lambda: now_s)

    async def turns_taken() -> int:
        rests.clear()
        await mine.after_changes()
        return len(rests)

    assert await turns_taken() == 0
    mine.changed(0)
    mine.changed(turns.CHANGE_MESSAGES_MAX + 1)
    assert await turns_taken() == 0
    mine.changed(1)
    assert await turns_taken() == turns.CHANGE_TURNS
    now_s += turns.CHANGE_S - 0.001
    assert await turns_taken() == turns.CHANGE_TURNS
    assert set(rests) == {0}
    now_s += 0.002
    assert await turns_taken() == 0
