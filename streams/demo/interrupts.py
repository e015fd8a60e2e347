"""What ends the demo from outside: Ctrl-C, SIGTERM, SIGHUP (a closed terminal); each once and in order.

The first one cancels the task that is at work, or raises KeyboardInterrupt where there is none.  Those that follow
change nothing: Python would raise them in the middle of whatever cleans up.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Hears the signals of the process inside its `with` block."""

    def __init__(self) -> None:
        self.heard = False
        self._task: asyncio.Task[Any] | None = None
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Interrupts:
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # in the background of a script: it stays so
        heard = [each for each in SIGNALS if not (ignored and each is signal.SIGINT)]
        self._exits.enter_context(handling(dict.fromkeys(heard, self._hear)))
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    @contextlib.contextmanager
    def cancelling(self, task: asyncio.Task[Any] | None) -> Iterator[None]:
        """Inside the block a signal cancels the task of the running loop."""
        self._task = task
        try:
            yield
        finally:
            self._task = None

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if self.heard:
            return
        self.heard = True
        if self._task is None:
            raise KeyboardInterrupt
        self._task.get_loop().call_soon_threadsafe(self._task.cancel)


@contextlib.contextmanager
def handling(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Set signal handlers for the time of a block; elsewhere than in the main thread there are none to set."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
