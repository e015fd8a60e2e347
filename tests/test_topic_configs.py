"""Topics that somebody else made, in a way that would lose something."""

from __future__ import annotations

import asyncio
import re

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from click.testing import CliRunner

from streams.commands.__main__ import main
from streams.connection import Connection
from streams.settings import Settings
from streams.topic_configs import differences, topic_configs
from streams.topics import ITEM_CHANGES, ITEM_RECORDS, TRUTHS, topic_table
from tests.brokers import TestBroker
from tests.waiting import wait_until

pytestmark = pytest.mark.needs_kafka
SHARDS = Settings().shards


async def test_topics_that_others_made_wrong(broker: TestBroker, topic_prefix: str) -> None:
    """What is wrong with them is told with what mends it; done as it says, all is well."""
    small, forgetful = topic_prefix + ITEM_CHANGES, topic_prefix + ITEM_RECORDS
    await broker.create_topics({small: SHARDS}, {"max.message.bytes": "1000000"})
    await broker.create_topics({forgetful: SHARDS}, {"cleanup.policy": "delete"})
    runner = CliRunner(env={"KINDRED_BROKER": broker.bootstrap, "KINDRED_TOPIC_PREFIX": topic_prefix})

    wrong = await asyncio.to_thread(runner.invoke, main, ["topics"])

    assert 1 == wrong.exit_code, wrong.output
    assert 2 == wrong.stdout.count("\twrong, see below")
    assert f"{forgetful}\t{SHARDS}\tdelete\twrong" in wrong.stdout
    mends = dict(re.findall(r"--alter --topic (\S+) --add-config (\S+)", wrong.stderr))
    assert {
        small: "max.message.bytes=4000000",
        forgetful: "cleanup.policy=compact,max.message.bytes=4000000",
    } == mends

    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    for name, mend in mends.items():
        configs = dict(each.split("=") for each in mend.split(","))
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs)])
    await admin.close()

    async def mended() -> bool:
        return (await asyncio.to_thread(runner.invoke, main, ["topics"])).exit_code == 0

    await wait_until(mended, 20, "the mended topics")


def test_what_the_broker_does_not_tell_is_not_wrong() -> None:
    """Where nobody may ask for configs all is as Kindred would have made it; a topic of several policies forgets."""
    table = topic_table(Settings())

    assert {} == differences(table, {})
    assert {*TRUTHS} == differences(table, {name: {"cleanup.policy": "compact,delete"} for name in TRUTHS}).keys()


async def test_a_topic_that_is_not_there_has_no_configs(broker: TestBroker) -> None:
    """It is left out, and no error."""
    assert {} == await topic_configs(Connection(broker.bootstrap), ["nobody-made-it"])
