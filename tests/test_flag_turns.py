"""When time alone turns flags: each item once for the moment that it was told last, whatever was told before."""

from __future__ import annotations

from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st

from models import flag_turns
from models.flag_turns import FlagTurns

ITEMS = st.sampled_from("ab")
MOMENTS = st.integers(0, 6)
TOLD = st.tuples(ITEMS, MOMENTS | st.none())


@example([("a", 2), ("a", 5), 3, 5], 1_000)
@given(st.lists(TOLD | MOMENTS, max_size=60), st.sampled_from([0, 1, 1_000]))
def test_as_a_dictionary_of_moments_would(steps: list[tuple[str, int | None] | int], outdated_max: int) -> None:
    """Told moments, and times that come: with and without outdated moments being thrown away."""
    turns, expected = FlagTurns(), dict[str, int]()
    with mock.patch.object(flag_turns, "OUTDATED_MAX", outdated_max):
        for step in steps:
            if isinstance(step, int):
                due = {item_id for item_id, moment in expected.items() if moment <= step}
                taken = list(turns.take(step))
                assert sorted(due) == sorted(taken)
                expected = {item_id: moment for item_id, moment in expected.items() if item_id not in due}
            else:
                item_id, moment = step
                turns.schedule(item_id, moment)
                expected |= {item_id: moment} if moment is not None else {}
                if moment is None:
                    expected.pop(item_id, None)
            earliest = turns.next_due_ms()
            assert not expected or (earliest is not None and earliest <= min(expected.values()))


def test_what_is_taken_may_be_scheduled_meanwhile() -> None:
    """A window that opens is one that closes later, maybe before now."""
    turns = FlagTurns()
    turns.schedule("a", 1)
    taken = []
    for item_id in turns.take(5):
        taken.append(item_id)
        turns.schedule(item_id, {1: 3, 2: 9}[len(taken)])

    assert ["a", "a"] == taken
    assert turns.next_due_ms() == 9
