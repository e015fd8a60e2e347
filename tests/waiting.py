"""Wait for the thing itself, never for a while: both functions poll a condition until a deadline."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

POLL_S = 0.02


What = str | Callable[[], object]


@overload
async def wait_until(condition: Callable[[], Awaitable[T | None]], deadline_s: float = ..., what: What = ...) -> T: ...
@overload
async def wait_until(condition: Callable[[], T | None], deadline_s: float = ..., what: What = ...) -> T: ...
async def wait_until(condition: Callable[[], object], deadline_s: float = 30.0, what: What = "") -> object:
    """The condition's first true value.  It may be a coroutine function; `what` names it if it never comes."""
    deadline = time.monotonic() + deadline_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(_missed(condition, deadline_s, what))
        await asyncio.sleep(POLL_S)


def wait_until_sync(condition: Callable[[], T], deadline_s: float = 30.0, what: What = "") -> T:
    """The condition's first true value, for tests without a loop."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(_missed(condition, deadline_s, what))
        time.sleep(POLL_S)
    return value


def _missed(condition: Callable[[], object], deadline_s: float, what: What) -> str:
    """What was waited for; a callable `what` is asked last, so that it can tell how far things had come."""
    wanted = what() if callable(what) else what
    return f"waited {deadline_s:g} s in vain for: {wanted or getattr(condition, '__name__', condition)}"
