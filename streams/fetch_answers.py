"""The answer to a fetch, taken apart by its layout.

aiokafka reads it field by field, by a table: some two hundred calls for four partitions, which is most of what happens
between the socket and whoever waits for a message.
"""

from __future__ import annotations

import io
import struct

from aiokafka.protocol.fetch import FetchResponse_v11

_ANSWER = struct.Struct(">ihii")
"""Throttle time, error, session, number of topics."""
_SIZE, _COUNT = struct.Struct(">h"), struct.Struct(">i")
_PARTITION = struct.Struct(">ihqqqi")
"""Number, error, high watermark, last stable offset, beginning of the log, number of aborted transactions."""
_ABORTED = struct.Struct(">qq")
"""Producer and first offset."""
_RECORDS = struct.Struct(">ii")
"""Replica to prefer, and how many bytes of records follow; -1: none."""


class QuickAnswer(FetchResponse_v11):
    """Version 11 of a fetch's response."""

    @classmethod
    def decode(cls, data: io.BytesIO) -> QuickAnswer:
        """Of what is left of `data`; as aiokafka's.  struct.error or ValueError where it ends too soon."""
        content = data.getvalue()
        throttle_ms, error, session, topics = _ANSWER.unpack_from(content, data.tell())
        at = data.tell() + _ANSWER.size
        found = []
        for _ in range(topics):
            (size,) = _SIZE.unpack_from(content, at)
            at += _SIZE.size + size
            name = content[at - size : at].decode()
            (count,) = _COUNT.unpack_from(content, at)
            at += _COUNT.size
            partitions = []
            for _ in range(count):
                *numbers, aborted = _PARTITION.unpack_from(content, at)
                at += _PARTITION.size
                transactions = None
                if aborted >= 0:
                    end = at + aborted * _ABORTED.size
                    transactions = [_ABORTED.unpack_from(content, each) for each in range(at, end, _ABORTED.size)]
                    at = end
                replica, size = _RECORDS.unpack_from(content, at)
                at += _RECORDS.size
                records = None
                if size >= 0:
                    records = content[at : at + size]
                    at += size
                    if at > len(content):
                        raise ValueError(f"expected {size} bytes of records, got {len(records)}")
                partitions.append((*numbers, transactions, replica, records))
            found.append((name, partitions))
        return cls(throttle_ms, error, session, found)
