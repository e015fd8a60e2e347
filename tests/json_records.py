"""JSON objects as a catalog could hold, drawn by hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

names = st.text("abc.", max_size=3) | st.text(max_size=4)
scalars = (
    st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
json_values = st.recursive(
    st.none() | scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(names, json_values, max_size=5)


def nested(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value
