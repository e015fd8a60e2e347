"""Dead letters: events set aside as they came, with the reason and where they came from.

Headers of a dead letter, all text: `kindred_reason`, `kindred_stage`, `kindred_topic`, `kindred_partition`,
`kindred_offset`, `kindred_at` (Unix ms of the event).  Key, value and the event's own headers are kept.

An event that is too large for `dead-letters`, which may accept less than the topic it came on, is cut, or it would stop
the worker for ever: then `kindred_cut` says how many bytes its value had.  Whether it is too large, the broker says;
but what a compressed batch unpacked to may be more than a request to it may have, and to that it never answers.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from models.errors import KindredError
from streams.kafka.origin import Origin
from streams.kafka.outbox import Message

REASON_CHARACTERS_MAX = 4_000
PREFIX = "kindred_"
CUT = "kindred_cut"
CUT_BYTES = 50_000
"""What is kept of a value that is too large, and of a key or headers at most."""
OFFERED_BYTES_MAX = 16_000_000
"""Of a dead letter: more is cut at once.  A broker hangs up at requests of 100 MiB (`socket.request.max.bytes`)."""


class TooManyDeadLetters(RuntimeError):
    """Most of the recent events were dead letters, so the fault is ours (or a setting's): the worker stops."""


def dead_letter(origin: Origin, stage: str, error: BaseException) -> Message:
    """The event of `origin` as a message of `dead-letters`; a bug's reason carries its traceback."""
    if isinstance(error, KindredError):
        reason = f"{type(error).__name__}: {error}"
    else:
        reason = "".join(traceback.format_exception(error))
    own = [
        ("kindred_reason", reason[-REASON_CHARACTERS_MAX:]),
        ("kindred_stage", stage),
        ("kindred_topic", origin.topic),
        ("kindred_partition", str(origin.partition)),
        ("kindred_offset", str(origin.offset)),
        ("kindred_at", str(origin.timestamp_ms)),
    ]
    kept = [(name, value or b"") for name, value in origin.headers if not name.startswith(PREFIX)]
    told = [(name, text.encode("utf-8", "backslashreplace")) for name, text in own]
    key, value = origin.key or b"", origin.value or b""
    headers_bytes = sum(len(name) + len(text) for name, text in kept)
    whole = Message(origin.key, origin.value, kept + told)
    if max(len(key), len(value), headers_bytes) <= CUT_BYTES:
        return whole
    fitting = [*(kept if headers_bytes <= CUT_BYTES else ()), *told, (CUT, b"%d" % len(value))]
    cut = Message(key[:CUT_BYTES] if origin.key else origin.key, value[:CUT_BYTES], fitting)
    return cut if len(key) + len(value) + headers_bytes > OFFERED_BYTES_MAX else replace(whole, instead=cut)


@dataclass
class DeadLetterLimit:
    """Raises TooManyDeadLetters when more than `share_max` of the last events were dead letters.

    A share needs a number of events below it, at least `events_min`: a first bad event alone says nothing.
    """

    share_max: float
    events_min: int = 1_000
    events: int = field(default=0, init=False)
    dead: int = field(default=0, init=False)

    def count(self, events: int, dead: int) -> None:
        """Count a batch; older batches weigh half as much after every `events_min` further events."""
        self.events += events
        self.dead += dead
        if self.events < self.events_min:
            return
        if self.dead > self.share_max * self.events:
            raise TooManyDeadLetters(
                f"{self.dead} of the last {self.events} events could not be used, "
                f"more than the share of {self.share_max:.0%} that is accepted: see the topic dead-letters"
            )
        if self.events >= 2 * self.events_min:
            self.events //= 2
            self.dead //= 2


def header(headers: Sequence[tuple[str, bytes | None]], name: str) -> bytes | None:
    """The last header of that name, as clients expect; None when it is absent or null."""
    for each, value in reversed(headers):
        if each == name:
            return value
    return None
