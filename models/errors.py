"""The four errors, named by what happens next.

    KindredError
    ├── BadEvent       the event can never be used: dead letter, go on
    ├── BadRequest     the caller's mistake: an error reply, go on
    ├── Unavailable    may work later: try again with backoff, then dead letter
    └── CorruptIndex   a file of ours is not what it was: drop it, rebuild from the topics

Anything else that is raised is a bug: the event is set aside with its traceback and the worker stops.
Every message says what was expected and what came.
"""

from __future__ import annotations

from typing import Self


class KindredError(Exception):
    """Base of the errors that Kindred expects and knows how to go on from."""

    def kept(self) -> Self:
        """The error, to be kept as a value.

        Its traceback would keep the frames that it came through, and they the error: what a caller had sent, ten
        megabytes maybe, would stay until the collector came by.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class BadEvent(KindredError):
    """An event that no retry can mend.  It becomes a dead letter."""


class BadRequest(KindredError):
    """A request that cannot be answered as asked.

    `status` is what the reply carries: 400 not understood, 404 unknown item or index, 422 image cannot be used.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Unavailable(KindredError):
    """Something did not answer; asking again later may help, after `retry_after_s` seconds where it said so."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CorruptIndex(KindredError):
    """An index file is damaged or does not belong here.  It is dropped and rebuilt."""
