"""Requests that go to brokers all the time, written by their layout: aiokafka's bytes in a third of the time.

aiokafka writes field by field, by a table.  A fetch of twelve partitions takes it some two hundred calls, and a worker
sends one after each message that it reads.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11
from aiokafka.protocol.produce import ProduceRequest, ProduceRequest_v7

from streams.fetch_answers import QuickAnswer

_HEADER = struct.Struct(">hhi")
"""Which request, in which version, correlation id; the client's id follows."""
_SIZE, _COUNT = struct.Struct(">h"), struct.Struct(">i")
_FETCH = struct.Struct(">iiiibiii")
"""Replica, longest wait, least and most bytes, isolation, session, its epoch, number of topics."""
_FETCHED = struct.Struct(">iiqqi")
"""Partition, leader's epoch, offset, beginning of the log, most bytes."""
_FETCH_END = struct.Struct(">i")
"""Number of topics that are forgotten; the rack follows."""
_PRODUCE = struct.Struct(">hii")
"""Acknowledgements, timeout, number of topics; the transaction's id stands before."""
_PRODUCED = struct.Struct(">ii")
"""Partition, bytes of its records, which follow."""
_NONE = -1


class QuickRequest:
    """A request that is written by its layout where the broker speaks that version, else as aiokafka writes it."""

    def __init__(self, request: Any, laid_out: type[_Fetch | _Produce]) -> None:
        self._request = request
        self._laid_out = laid_out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        """The request in the version that this broker understands."""
        laid_out = self._laid_out
        oldest, newest = versions.get(laid_out.API_KEY, (0, _NONE))
        return laid_out(self._request) if oldest <= laid_out.API_VERSION <= newest else self._request.prepare(versions)


def quick_fetch(request: FetchRequest) -> QuickRequest:
    """A fetch; its answer is read by its layout, too."""
    return QuickRequest(request, _Fetch)


def quick_produce(request: ProduceRequest) -> QuickRequest:
    """Batches to be produced."""
    return QuickRequest(request, _Produce)


class _Header(NamedTuple):
    content: bytes

    def encode(self) -> bytes:
        return self.content


def _header(request: Any, correlation_id: int, client_id: str) -> _Header:
    return _Header(_HEADER.pack(request.API_KEY, request.API_VERSION, correlation_id) + _text(client_id))


def _text(text: str | None) -> bytes:
    if text is None:
        return _SIZE.pack(_NONE)
    content = text.encode()
    return _SIZE.pack(len(content)) + content


class _LaidOut:
    """A request in one version.  Its fields are made for aiokafka's log alone: nobody else looks at them."""

    plain: type
    """The same as aiokafka has it."""

    def __init__(self, asked: Any) -> None:
        self._asked = asked

    def build_request_header(self, correlation_id: int, client_id: str) -> Any:
        """What stands before it."""
        return _header(self, correlation_id, client_id)

    def __repr__(self) -> str:
        return repr(self._asked.build(self.plain))


class _Fetch(_LaidOut, FetchRequest_v11):
    """Version 11 of a fetch."""

    RESPONSE_TYPE = QuickAnswer
    plain = FetchRequest_v11

    def encode(self) -> bytes:
        """What follows the header."""
        asked = self._asked
        topics = asked._topics
        pieces = [
            _FETCH.pack(
                _NONE,
                asked._max_wait_ms,
                asked._min_bytes,
                asked._max_bytes,
                asked._isolation_level,
                0,
                _NONE,
                len(topics),
            )
        ]
        for topic, partitions in topics:
            pieces += (_text(topic), _COUNT.pack(len(partitions)))
            pieces += [_FETCHED.pack(number, _NONE, offset, _NONE, most) for number, offset, most in partitions]
        pieces += (_FETCH_END.pack(0), _text(asked._rack_id))
        return b"".join(pieces)


class _Produce(_LaidOut, ProduceRequest_v7):
    """Version 7 of what is produced."""

    plain = ProduceRequest_v7

    def encode(self) -> bytes:
        """What follows the header."""
        asked = self._asked
        topics = asked._topics
        pieces = [_text(asked._transactional_id), _PRODUCE.pack(asked._required_acks, asked._timeout, len(topics))]
        for topic, partitions in topics:
            pieces += (_text(topic), _COUNT.pack(len(partitions)))
            for number, records in partitions:
                pieces += (_PRODUCED.pack(number, len(records)), records)
        return b"".join(pieces)
