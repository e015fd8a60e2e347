"""The asker of watched lists, without a broker: rules are chosen again when their windows turn, and by the clock."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from streams.settings import Settings
from streams.watch import list_asker
from streams.watch.list_asker import ListAsker
from tests.watch_world import BEGIN_MS, World


async def test_rules_are_those_of_the_time_that_a_clock_is_set_back_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule whose window opened by a clock ahead is out of force, and its list is asked again, when that is mended."""
    monkeypatch.setattr(list_asker, "WHOLE_INTERVAL_S", 0.0)
    world = World(tmp_path, 1)
    for item_id in ("s", "a", "b"):
        world.record(item_id)
        world.look(item_id, [1.0, 0.1 * len(item_id), 0, 0, 0, 0])
    begin = BEGIN_MS // 1000 + 3_600
    hide = {"hide": [{"objectID": "a"}]}
    world.rule("r", consequence=hide, validity=[{"from": begin, "until": begin + 7_200}])
    index = SimpleNamespace(shards=dict(enumerate(world.shards)), mean=None, lags_ms=lambda now_ms: {})
    rules = SimpleNamespace(book=world.rules, next_offset=1)
    asker = ListAsker(Settings.read({}), lambda: world.now_ms, index, rules, world.watches)  # type: ignore[arg-type]
    world.watch("s", maxRecommendations=5)

    async def hidden() -> bool | None:
        """Whether the list hides the item; None if it is not asked again."""
        await asker.see()
        asked = asker.ask_some()
        return None if asked is None else b'"objectID":"a"' not in asked[0].result.body

    assert await hidden() is False
    world.now_ms += 4_000_000
    assert await hidden() is True
    world.now_ms += 1_500
    assert await hidden() is None
    world.set_back(4_000_000)
    world.set_back_ms += 1_500  # a list is asked once in a second
    assert await hidden() is False
    world.now_ms += 4_000_000
    assert await hidden() is True

    world.set_back(4_000_000)
    world.set_back_ms += 1_500
    world.watch("s", maxRecommendations=4)
    asked = asker.ask_some()  # before anybody looks at rules
    assert asked is not None
    assert b'"objectID":"a"' in asked[0].result.body
    world.now_ms += 4_000_000 + 1_500
    assert await hidden() is True
