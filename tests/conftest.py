"""Fixtures for all tests: the broker, names of its topics, the shared folder."""

from __future__ import annotations

import os

# Before NumPy is imported: more threads make small matrix products slower, and the figures of two runs differ.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Before onnxruntime is imported, which some tests do by themselves: see models/embedder.py.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings as hypothesis_settings

from streams.brokers.apache_kafka import KafkaBroker
from streams.brokers.jars import why_not
from tests import brokers
from tests.installation import Installation, Shop

ROOT = Path(__file__).parents[1]
CHOICE = brokers.choose()

# A busy machine is no failure: the number of examples bounds a test, not the clock.
hypothesis_settings.register_profile("kindred", deadline=None, print_blob=True)
hypothesis_settings.load_profile("kindred")


def shared_path() -> Path:
    """Where data, models and samples for tests lie: KINDRED_SHARED, else `../shared` beside the checkout."""
    return Path(os.environ.get("KINDRED_SHARED") or ROOT.parent / "shared")


def about_this_run() -> list[str]:
    """What the run rests on, and what it leaves out."""
    shared = shared_path()
    lines = [f"broker: {CHOICE.name}"]
    if CHOICE.skipped:
        lines.append(f"skipped: tests marked needs_kafka ({CHOICE.skipped})")
    if not shared.is_dir():
        lines.append(
            f"skipped: tests on shared data and models (there is no folder {shared}; KINDRED_SHARED names one)"
        )
    return lines


def pytest_report_header() -> list[str]:
    return about_this_run()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Again at the end, where it is read."""
    for line in about_this_run():
        terminalreporter.write_line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHOICE.skipped:
        for item in items:
            if item.get_closest_marker("needs_kafka"):
                item.add_marker(pytest.mark.skip(reason=CHOICE.skipped))


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[brokers.TestBroker]:
    """The broker that all tests share: `.bootstrap`, `.embedded` (None: a real one), `await .create_topics({...})`."""
    with brokers.running(CHOICE, tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Callable[..., KafkaBroker]]:
    """Makes a Kafka broker that the test may stop, kill, restart: `own_kafka(log_cleaner_backoff_ms="100")`."""
    reason = CHOICE.skipped or why_not()
    if reason:
        pytest.skip(reason)
    with brokers.own_brokers(tmp_path) as make:
        yield make


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> str:
    """A prefix for topics and groups that no other test, run or checkout uses."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40]
    return f"{name}-{uuid.uuid4().hex[:8]}-"


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """Data, models and samples that are not part of the project; the test is skipped where they are not."""
    folder = shared_path()
    if not folder.is_dir():
        pytest.skip(f"there is no folder {folder} of shared data and models; KINDRED_SHARED names one")
    return folder


@pytest_asyncio.fixture
async def shop(installation: Installation) -> AsyncIterator[Shop]:
    """The outside of the `installation` that a file's tests share, once its first worker is ready."""
    await installation.workers[0].ready()
    async with installation.shop() as shop:
        yield shop
