"""Parts of a record's JSON: what is read of it alone is what the whole record says."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexes.record_parts import names_of, reader_of, record_values
from models.attributes import PATH_LENGTH_MAX

names = st.sampled_from(["a", "b", "a.b", "a.b.c", "", ".", "a.", ".b", 'q"', "back\\slash", "ünï"]) | st.text(
    max_size=3
)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5)
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
records = st.dictionaries(names, values, max_size=5)


@given(records, st.text(max_size=5))
def test_a_part_says_what_the_whole_says(record: dict[str, Any], odd: str) -> None:
    """For every attribute that the record has, and for one that it may not have, the same values in the same order."""
    body = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    whole = record_values(body)

    for attribute in (*whole, odd, "a", "a.b", "a.b.c", "."):
        assert whole.get(attribute, ()) == reader_of(attribute)(body)
    assert set(whole) <= set(names_of(body))


@pytest.mark.parametrize("record", [{"x" * (PATH_LENGTH_MAX + 1): 1}, {"x" * PATH_LENGTH_MAX: {"y": 1}}])
def test_a_path_that_is_too_long_is_no_attribute(record: dict[str, Any]) -> None:
    """What cannot be filtered on is neither named nor read."""
    body = orjson.dumps(record)

    assert [] == list(names_of(body))
    for attribute in ("x" * (PATH_LENGTH_MAX + 1), "x" * PATH_LENGTH_MAX + ".y"):
        assert () == reader_of(attribute)(body)
