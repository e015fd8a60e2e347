"""A command's session with the broker: connect or say why not, do one thing, end with an exit code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiokafka.errors import KafkaError

from models.errors import Unavailable
from streams.connection import Connection, is_embedded
from streams.settings import BadSetting, Settings

BROKER_WAIT_S = 10.0
"""For the first answer; a person at a terminal is told rather than kept waiting."""

Work = Callable[[Connection], Awaitable[int | None]]


def with_broker(settings: Settings, work: Work) -> int:
    """Do some work with a connection to the broker of the settings; its exit code, 0 unless the work says another.

    Raises BadSetting when no broker is configured, Unavailable when it does not answer.
    """
    return asyncio.run(_session(required_broker(settings), work))


def required_broker(settings: Settings) -> str:
    """The broker's address.  Raises BadSetting when there is none, with what to do about it."""
    if settings.broker is None:
        raise BadSetting(
            "KINDRED_BROKER is not set: expected bootstrap servers, host:port[,host:port] "
            "(`kindred broker` starts one in memory, `make kafka` a real one; `kindred demo` needs none)"
        )
    return settings.broker


async def _session(broker: str, work: Work) -> int:
    # aiokafka would tell at length what is said below in one line.
    for name in ("aiokafka", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        async with asyncio.timeout(BROKER_WAIT_S):
            embedded = await is_embedded(broker)
    except TimeoutError:
        raise Unavailable(f"the broker {broker} (KINDRED_BROKER) did not answer within {BROKER_WAIT_S:.0f} s") from None
    try:
        return await work(Connection(broker, embedded=embedded)) or 0
    except KafkaError as error:
        raise Unavailable(f"the broker {broker} refused: {type(error).__name__}: {error}") from error
