"""How topics are configured on the broker, and where that is not what Kindred needs.

Somebody else may have made a topic, or a broker made one by itself: a truth that is not compacted forgets items after a
week, and a topic with a smaller limit refuses what was accepted on another.  The partitions are checked in `topics.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.connection import Connection
from streams.topics import Topic

POLICY, MESSAGE_BYTES, DELETE_RETENTION_MS = "cleanup.policy", "max.message.bytes", "delete.retention.ms"
Configs = Mapping[str, Mapping[str, str]]
"""By topic what the broker says of it."""


async def topic_configs(connection: Connection, names: Iterable[str]) -> Configs:
    """The configs of topics; without those of which the broker does not say them, and none of the embedded one."""
    if connection.embedded:
        return {}
    admin = connection.admin()
    await admin.start()
    try:
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    finally:
        await admin.close()
    return {
        name: {entry[0]: entry[1] for entry in entries if entry[1] is not None}
        for answer in answers
        for code, _, _, name, entries in answer.resources
        if code == 0
    }


class Wrong(NamedTuple):
    """What is wrong with a topic."""

    words: str
    """That, and what comes of it."""
    mend: str
    """The command that mends it, with Kafka's own tool."""


def differences(table: Iterable[Topic], configs: Configs) -> dict[str, Wrong]:
    """By name the topics that are configured in a way that would lose something."""
    wrong: dict[str, Wrong] = {}
    for topic in table:
        said, found = configs.get(topic.name, {}), []
        policy = said.get(POLICY, topic.config[POLICY])
        if topic.config[POLICY] == "compact" and policy != "compact":
            found.append((POLICY, policy, "compact", "what it holds is forgotten after a while"))
        size = said.get(MESSAGE_BYTES, topic.config[MESSAGE_BYTES])
        if topic.ours and int(size) < int(topic.config[MESSAGE_BYTES]):
            found.append((MESSAGE_BYTES, size, topic.config[MESSAGE_BYTES], "a larger message stops the worker"))
        if found:
            words = [f"{name} is {got}, expected {wanted}: {then}" for name, got, wanted, then in found]
            configs_wanted = ",".join([f"{name}={wanted}" for name, _, wanted, _ in found])
            command = "kafka-configs.sh --bootstrap-server HOST:PORT --alter"
            wrong[topic.name] = Wrong("; ".join(words), f"{command} --topic {topic.name} --add-config {configs_wanted}")
    return wrong
