"""Replies that cannot be delivered: each is counted once, and none stops those who wait beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from streams.connection import Connection
from streams.kafka.outbox import Message, Outbox
from streams.metrics import Metrics
from streams.serve import replies as of_replies
from streams.serve.replies import ECHOED_BYTES_MAX, Address, Replies, Reply

TOPIC = "similar-responses"


class Topic:
    """A reply topic, and what it does with messages."""

    def __init__(self, accepts: int = 1_000_000, late: int = 0) -> None:
        self.accepts = accepts
        self.late = late
        """How many deliveries the broker does not answer."""
        self.asked = 0
        self.partitions = 1
        self.messages: list[Message] = []

    async def count(self, topic: str) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        return self.partitions

    async def deliver(self, outbox: Outbox) -> None:
        messages = [message for each in outbox._waiting.values() for message in each]
        if self.late:
            self.late -= 1
            await asyncio.Event().wait()
        taken = [message if size(message) <= self.accepts else message.instead for message in messages]
        if any(message is None or size(message) > self.accepts for message in taken):
            raise MessageSizeTooLargeError
        self.messages += [message for message in taken if message]


def size(message: Message) -> int:
    return len(message.key or b"") + len(message.value or b"") + sum(len(value) for _, value in message.headers)


def replies_to(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> Replies:
    nobody: Any = None
    made = Replies(Connection("nowhere:1"), nobody, Metrics(), [TOPIC], "", TOPIC)
    monkeypatch.setattr(made, "_count", topic.count)
    monkeypatch.setattr(of_replies, "begin_together", lambda outboxes: None)
    monkeypatch.setattr(Outbox, "deliver", lambda outbox: topic.deliver(outbox))
    return made


def reply(body: bytes = b"{}", key: bytes = b"k", correlation: bytes = b"1") -> Reply:
    return Reply(Address(TOPIC, None, correlation), key, body, 200)


def lost(replies: Replies) -> float:
    return float(replies.metrics.replies_lost._value.get())


async def test_several_that_the_broker_does_not_answer_are_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gives up at the same time, and asks whether the topic is still there."""
    monkeypatch.setattr(of_replies, "DELIVERY_S_MAX", 0.01)
    topic = Topic(late=3)
    replies = replies_to(topic, monkeypatch)

    await asyncio.gather(*(replies.finish(replies.begin([reply(b"%d" % number)])) for number in range(3)))

    assert [b"0", b"1", b"2"] == sorted(message.value or b"" for message in topic.messages)
    assert topic.asked > 1
    assert lost(replies) == 0


async def test_one_that_is_on_its_way_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when what was known of its topic is too old by then, and the topic is gone."""
    topic = Topic()
    replies = replies_to(topic, monkeypatch)
    await replies.ask(TOPIC)
    sent = replies.begin([reply(b"sent")])
    replies._partitions[TOPIC] = (0.0, 1)
    topic.partitions = 0

    await replies.finish(sent)

    assert [b"sent"] == [message.value for message in topic.messages]
    assert topic.asked == 1
    assert lost(replies) == 0


@pytest.mark.parametrize("large", ["key", "correlation"])
async def test_what_a_request_wants_echoed_may_be_so_large(large: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it the reply is lost before the broker sees it, which would hang up; others go."""
    topic = Topic(accepts=200_000_000)
    replies = replies_to(topic, monkeypatch)

    await replies.finish(replies.begin([reply(b"large", **{large: bytes(ECHOED_BYTES_MAX)}), reply(b"other")]))

    assert [b"other"] == [message.value for message in topic.messages]
    assert lost(replies) == 1


async def test_a_reply_for_which_even_an_error_is_too_large_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others that went with it arrive, one of them as an error."""
    topic = Topic(accepts=2_000)
    replies = replies_to(topic, monkeypatch)

    made = [reply(b"first"), reply(correlation=bytes(2_000)), reply(bytes(2_000)), reply(b"last")]
    await replies.finish(replies.begin(made))

    assert [b"first", b"last"] == [message.value for message in topic.messages if len(message.value or b"") < 10]
    assert len(topic.messages) == 3
    assert lost(replies) == 1
