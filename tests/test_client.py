"""The Python client, over the topics of a real broker, against a responder that a test tells what to answer."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from models.errors import Unavailable
from streams.brokers.embedded import EmbeddedBroker
from streams.client import NoReply, RequestFailed, SimilarClient
from streams.connection import Connection
from streams.kafka.dead_letters import header
from streams.settings import Settings
from streams.topics import SIMILAR_REQUESTS, SIMILAR_RESPONSES
from tests.brokers import TestBroker, create_topics
from tests.responder import Answer, answer, connection_of, failure, responding, sent_to
from tests.waiting import wait_until

PARTITIONS = 3


@pytest.fixture
def settings(broker: TestBroker, topic_prefix: str) -> Settings:
    return Settings(broker=broker.bootstrap, topic_prefix=topic_prefix)


@pytest.fixture
async def connection(broker: TestBroker, settings: Settings) -> Connection:
    names = (SIMILAR_REQUESTS, SIMILAR_RESPONSES)
    await broker.create_topics({settings.topic_prefix + name: PARTITIONS for name in names})
    return connection_of(broker)


async def test_request_headers(connection, settings):
    """A request carries a correlation id, where its reply is to go, and the time after which nobody wants it."""
    before_ms = time.time() * 1000
    async with (
        responding(connection, settings) as seen,
        SimilarClient(connection, settings, reply_partition=2) as client,
    ):
        result = await client.ask({"objectID": "größe-42"}, timeout_s=20, key=b"k")

    (request,) = seen
    assert {"objectID": "größe-42"} == result == orjson.loads(request.value)
    assert b"k" == request.key
    assert (settings.topic_prefix + SIMILAR_RESPONSES).encode() == header(request.headers, "kafka_replyTopic")
    assert b"2" == header(request.headers, "kafka_replyPartition")
    assert len(header(request.headers, "kafka_correlationId") or b"") == 16
    deadline = header(request.headers, "kindred_deadline") or b""
    assert before_ms + 20_000 <= int(deadline) + 1 <= time.time() * 1000 + 20_001


async def test_each_its_own_reply(connection, settings):
    """A thousand requests at once get a thousand different correlation ids, and each its own reply."""
    requests = [{"objectID": f"item-{number}"} for number in range(1_000)]

    async with responding(connection, settings) as seen, SimilarClient(connection, settings) as client:
        results = await client.ask_many(requests, timeout_s=60)

        assert requests == results
        assert 0 == client.waiting
        assert len({header(each.headers, "kafka_correlationId") for each in seen}) == 1_000


async def test_error_reply(connection, settings):
    """An error reply is raised with its message and status; one entry's failure in a batch is not."""
    replies = {
        "unknown": failure(404, "no item unknown"),
        "batch": answer({"results": [{"hits": [], "status": 404, "message": "no item"}]}),
        "no status": Answer(b'{"message": "broken"}', [("kafka_nest-err", b"{}")]),
        "no reason": Answer(b'{"status": 503}', [("kafka_nest-err", b"{}")]),
    }

    async with (
        responding(connection, settings, lambda each: [replies[orjson.loads(each.value)["objectID"]]]),
        SimilarClient(connection, settings) as client,
    ):
        unknown, batch, no_status, no_reason = await client.ask_many([{"objectID": name} for name in replies], 20)

        assert isinstance(unknown, RequestFailed)
        assert ("no item unknown", 404) == (str(unknown), unknown.status)
        assert {"results": [{"hits": [], "status": 404, "message": "no item"}]} == batch
        assert isinstance(no_status, RequestFailed)
        assert ("broken", 500) == (str(no_status), no_status.status)
        assert isinstance(no_reason, RequestFailed)
        assert ("the request failed without a reason", 503) == (str(no_reason), no_reason.status)


@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe", b"[1]", b'"text"', b"{", b"null"])
async def test_reply_that_is_no_object(connection, settings, value):
    """A reply that is not a JSON object is an error that says so."""
    async with (
        responding(connection, settings, lambda _: [Answer(value)]),
        SimilarClient(connection, settings) as client,
    ):
        with pytest.raises(RequestFailed, match="not a JSON object") as error:
            await client.ask({"objectID": "a"}, timeout_s=20, key=b"a null value needs a key")

        assert 502 == error.value.status


async def test_late_reply(connection, settings):
    """A request that is given up leaves nothing behind, and its late reply disturbs nobody."""
    held = []

    def respond(request):
        if b"slow" in request.value:
            held.append(header(request.headers, "kafka_correlationId"))
            return []
        return [*(Answer(b'{"late": true}', correlation=each) for each in held), answer({"late": False})]

    async with responding(connection, settings, respond) as seen, SimilarClient(connection, settings) as client:
        with pytest.raises(NoReply, match=r"within 0\.05 s"):
            await client.ask({"objectID": "slow"}, timeout_s=0.05)

        assert 0 == client.waiting
        await wait_until(lambda: seen, what="the request to arrive")
        assert {"late": False} == await client.ask({"objectID": "b"}, timeout_s=20)
        assert 1 == client.unclaimed


async def test_cancelled(connection, settings):
    """A caller that goes away leaves nothing behind."""
    async with responding(connection, settings, lambda _: []) as seen, SimilarClient(connection, settings) as client:
        asking = asyncio.create_task(client.ask({"objectID": "a"}, timeout_s=60))
        await wait_until(lambda: seen, what="the request to arrive")
        assert 1 == client.waiting

        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

        assert 0 == client.waiting


async def test_strangers_replies(connection, settings):
    """Other clients' replies, doubled ones and such without a correlation id are left alone."""
    stranger = Answer(b'{"whose": "another\'s"}', correlation=b"\xff\x00")
    mine = answer({"whose": "mine"})

    async with (
        responding(connection, settings, lambda _: [stranger, mine, mine]),
        SimilarClient(connection, settings, reply_partition=1) as client,
    ):
        await sent_to(connection, client.reply_topic, b"no headers at all", partition=1)

        assert {"whose": "mine"} == await client.ask({"objectID": "a"}, timeout_s=20)
        await wait_until(lambda: client.unclaimed == 3, what="the three others")


async def test_shared_partition(connection, settings):
    """Two clients on one reply partition each get the replies to their own requests."""
    async with (
        responding(connection, settings),
        SimilarClient(connection, settings, reply_partition=0) as one,
        SimilarClient(connection, settings, reply_partition=0) as other,
    ):
        ours = [{"objectID": f"one-{number}"} for number in range(50)]
        theirs = [{"objectID": f"other-{number}"} for number in range(50)]

        got = await asyncio.gather(one.ask_many(ours, 20), other.ask_many(theirs, 20))

        assert [ours, theirs] == list(got)


async def test_starts_at_the_end(connection, settings):
    """What was on the reply topic before is not read."""
    topic = settings.topic_prefix + SIMILAR_RESPONSES
    await sent_to(connection, topic, b"old", b"older")

    async with responding(connection, settings), SimilarClient(connection, settings, reply_partition=0) as client:
        await client.ask({"objectID": "a"}, timeout_s=20)

        assert 0 == client.unclaimed


async def test_stopped_while_waiting(connection, settings):
    """A client that is stopped tells those that still wait; afterwards it says that it is not started."""
    client = SimilarClient(connection, settings)
    await client.start()
    asking = asyncio.create_task(client.ask({"objectID": "a"}, timeout_s=60))
    await wait_until(lambda: client.waiting, what="the request to wait")

    await client.stop()
    await client.stop()

    with pytest.raises(NoReply, match="stopped"):
        await asking
    with pytest.raises(RuntimeError, match="not been started, or was stopped"):
        await client.ask({"objectID": "a"})


async def test_too_large(connection, settings):
    """A request that no broker would take is refused before it is sent."""
    async with SimilarClient(connection, settings) as client:
        with pytest.raises(RequestFailed, match="at most 900,000") as error:
            await client.ask({"image": "data:image/jpeg;base64," + "A" * 1_000_000})

        assert 400 == error.value.status
        assert 0 == client.waiting


async def test_no_such_partition(connection, settings):
    """A reply partition that the topic does not have is an error that names both numbers."""
    with pytest.raises(Unavailable, match="has 3 partitions, no number 3"):
        await SimilarClient(connection, settings, reply_partition=PARTITIONS).start()


@pytest.mark.needs_kafka
async def test_no_such_topic(broker, settings):
    """Without its topics a client says at once which is missing."""
    with pytest.raises(Unavailable, match=f"topic {settings.topic_prefix}similar-requests does not exist"):
        await SimilarClient(connection_of(broker), settings).start()


async def test_outage():
    """While the broker is away requests time out; afterwards the same client goes on."""
    settings = Settings()
    with EmbeddedBroker() as broker:
        connection = Connection(broker.start({SIMILAR_REQUESTS: 1, SIMILAR_RESPONSES: 1}), embedded=True)
        async with responding(connection, settings), SimilarClient(connection, settings) as client:
            assert {"objectID": "a"} == await client.ask({"objectID": "a"}, timeout_s=20)

            broker.interrupt()
            with pytest.raises(NoReply):
                await client.ask({"objectID": "b"}, timeout_s=0.3)
            assert 0 == client.waiting
            broker.resume()

            assert {"objectID": "c"} == await client.ask({"objectID": "c"}, timeout_s=60)


@pytest.mark.needs_kafka
async def test_restarted_kafka(own_kafka):
    """A client outlives a restart of Kafka: requests meanwhile fail in time, those afterwards are answered."""
    kafka, settings = own_kafka(), Settings()
    await create_topics(kafka.bootstrap, {SIMILAR_REQUESTS: 1, SIMILAR_RESPONSES: 1})
    connection = Connection(kafka.bootstrap)
    async with responding(connection, settings), SimilarClient(connection, settings) as client:
        assert {"objectID": "a"} == await client.ask({"objectID": "a"}, timeout_s=20)

        await asyncio.to_thread(kafka.stop)
        with pytest.raises(NoReply):
            await client.ask({"objectID": "b"}, timeout_s=0.3)
        await asyncio.to_thread(kafka.start)

        assert {"objectID": "c"} == await client.ask({"objectID": "c"}, timeout_s=60)
        assert 0 == client.waiting
