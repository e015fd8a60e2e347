"""Structured logs: text for a terminal, one JSON object a line for machines, and no floods.

While a broker is away aiokafka writes some four hundred lines a second.  `Calm` lets the first of its kind through,
then one a minute with the number of those held back.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import orjson

from models.errors import KindredError

FLOOD_INTERVAL_S = 60.0
TEXT = "%(asctime)s %(levelname)-7s %(name)s  %(message)s"
NOISY = ("aiokafka", "faust", "mode", "asyncio")


class Calm(logging.Filter):
    """Lets a message of a noisy library through once a minute; the text's numbers do not make it another one."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a record; adds how many like it were held back."""
        if record.levelno <= logging.INFO and str(record.msg).startswith("[^"):
            return False  # mode's own words on every service that starts and stops
        if not record.name.startswith(NOISY):
            return True
        key = (record.name, str(record.msg)[:80], record.lineno)
        last, held = self._seen.get(key, (0.0, 0))
        now = time.monotonic()
        if last and now - last < FLOOD_INTERVAL_S:
            self._seen[key] = (last, held + 1)
            return False
        self._seen[key] = (now, 0)
        if held:
            record.msg, record.args = f"{record.getMessage()} (and {held} more like it)", ()
        return True


class Expected(logging.Filter):
    """Tells in its own words why the worker stops, if it is an error that we expect; only bugs need a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the records in which mode tells of such an error; nothing is written of a crash but its reason."""
        if "We experienced a crash!" in str(record.msg):
            return False
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, KindredError) and str(record.msg).startswith("[^"):
            record.msg, record.args = "the worker stops: %s", (error,)
            record.exc_info = record.exc_text = None
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line: at (Unix ms), level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line: dict[str, Any] = {
            "at": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logs(level: str, style: str) -> None:
    """Send all logs to standard error.  `style`: text, json, or auto (text where that is a terminal)."""
    handler = logging.StreamHandler(sys.stderr)
    as_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    handler.setFormatter(JsonLines() if as_json else logging.Formatter(TEXT))
    handler.addFilter(Calm())
    handler.addFilter(Expected())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
