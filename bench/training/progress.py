"""How far a long computation is: one line that renews itself on a terminal, now and then a plain line on a pipe."""

from __future__ import annotations

import sys
import time
from typing import TextIO

BAR_WIDTH = 28


class Progress:
    """Counts towards `total`; `unit` names what is counted.  Nothing is printed more often than it can be read."""

    def __init__(self, name: str, total: int, unit: str, done: int = 0, stream: TextIO | None = None) -> None:
        self.name, self.total, self.unit, self.done = name, total, unit, done
        self._stream = sys.stdout if stream is None else stream
        self._terminal = self._stream.isatty()
        self._start_s, self._start_done, self._shown_s = time.monotonic(), done, 0.0
        self._every_s = 0.2 if self._terminal else 60.0

    @property
    def rate(self) -> float:
        """Units a second since this process began."""
        return (self.done - self._start_done) / max(time.monotonic() - self._start_s, 1e-9)

    def advance(self, count: int, note: str = "") -> None:
        self.done += count
        now = time.monotonic()
        if now - self._shown_s >= self._every_s or (self.done >= self.total and self._terminal):
            self._shown_s = now
            self._show(note)

    def say(self, line: str) -> None:
        """A lasting line, also on a terminal."""
        self._stream.write(("\r\x1b[K" if self._terminal else "") + line + "\n")
        self._stream.flush()

    def _show(self, note: str) -> None:
        share = self.done / max(self.total, 1)
        left_h = max(self.total - self.done, 0) / max(self.rate, 1e-9) / 3600
        count = f"{self.done:,}/{self.total:,} {self.unit} {share:.1%}"
        text = f"{self.name} {count} {self.rate:.1f}/s {left_h:.1f} h left {note}"
        if self._terminal:
            full = round(min(share, 1.0) * BAR_WIDTH)
            self._stream.write(f"\r\x1b[K[{'#' * full}{'.' * (BAR_WIDTH - full)}] {text}")
            if self.done >= self.total:
                self._stream.write("\n")
            self._stream.flush()
        else:
            self.say(time.strftime("%H:%M:%S ") + text)
