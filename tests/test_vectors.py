"""Vectors: their length, their centre, and their text in messages."""

from __future__ import annotations

import base64
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.errors import BadEvent
from models.vectors import centre, pack_half, pack_mean, unit, unpack_half, unpack_mean

ROWS = arrays.arrays(np.float32, st.tuples(st.integers(0, 6), st.integers(2, 9)), elements=st.floats(-1, 1, width=32))


@given(ROWS)
def test_unit_rows_have_length_one_or_zero(rows: np.ndarray) -> None:
    """Every row keeps its direction and gets the length 1; what has no length to speak of becomes zero."""
    lengths = np.linalg.norm(unit(rows).astype(np.float64), axis=1)
    long = np.linalg.norm(rows.astype(np.float64), axis=1) > 2e-6

    assert unit(rows).dtype == np.float32
    assert np.allclose(1, lengths[long], atol=1e-5)
    assert np.all((np.abs(lengths - 1) < 1e-5) | (lengths == 0))
    assert np.allclose(rows[long], unit(rows)[long] * np.linalg.norm(rows[long], axis=1)[:, None], atol=1e-5)


def test_unit_takes_one_vector_or_many() -> None:
    """The last axis is the vector's, whatever comes before it."""
    assert np.allclose([0.6, 0.8], unit([3, 4]))
    assert unit(np.ones((2, 3, 4))).shape == (2, 3, 4)


@given(st.integers(2, 30), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_centred_rows_are_differences_of_unit_length(count: int, dimension: int, seed: int) -> None:
    """Against the formula in float64: (v - mean) / |v - mean|."""
    rows = unit(np.random.default_rng(seed).normal(size=(count, dimension)))
    mean = rows.mean(axis=0)
    differences = rows.astype(np.float64) - mean
    lengths = np.linalg.norm(differences, axis=1, keepdims=True)
    expected = np.divide(differences, lengths, out=np.zeros_like(differences), where=lengths > 1e-3)
    clear = lengths[:, 0] > 1e-3

    assert centre(rows, mean).dtype == np.float32
    assert np.allclose(expected[clear], centre(rows, mean)[clear], atol=1e-3)


def test_rows_without_direction_stay_zero_when_centred() -> None:
    """No picture (a zero row) and the mean itself, also when it was rounded, are like nothing, and nothing is NaN."""
    mean = unit([[1, 2, 3]])[0]
    rows = np.stack([np.zeros(3, np.float32), mean, mean + np.float32(6e-8), unit([3, 2, 1])])
    centred = centre(rows, mean)

    assert not centred[:3].any()
    assert np.isclose(1, np.linalg.norm(centred[3]))
    assert centre(np.empty((0, 3), np.float32), mean).shape == (0, 3)


def test_centring_leaves_its_input_alone() -> None:
    """The shard's raw vectors are views that must not change."""
    rows = unit([[1, 2], [3, 4]])
    before = rows.copy()
    centre(rows, rows.mean(axis=0))

    assert np.array_equal(before, rows)


@given(arrays.arrays(np.float16, st.integers(1, 200), elements=st.floats(-100, 100, width=16)))
def test_half_text_comes_back_exactly(vector: np.ndarray) -> None:
    """What float16 holds survives, and the text is what another language would write."""
    text = pack_half(vector)

    assert base64.b64encode(struct.pack(f"<{len(vector)}e", *vector.tolist())).decode() == text
    assert np.array_equal(vector.astype(np.float32), unpack_half(text, len(vector)))
    assert unpack_half(text, len(vector)).dtype == np.float32


@given(arrays.arrays(np.float32, st.integers(1, 200), elements=st.floats(-100, 100, width=32)))
def test_mean_text_comes_back_exactly(mean: np.ndarray) -> None:
    """The mean keeps all of float32."""
    text = pack_mean(mean)

    assert base64.b64encode(struct.pack(f"<{len(mean)}f", *mean.tolist())).decode() == text
    assert np.array_equal(mean, unpack_mean(text, len(mean)))


def test_half_of_a_unit_vector_stays_a_unit_vector() -> None:
    """Rounding to float16 moves the length by less than 5e-4."""
    rows = unit(np.random.default_rng(3).normal(size=(200, 128)))
    lengths = [np.linalg.norm(unpack_half(pack_half(row), 128)) for row in rows]

    assert np.abs(np.array(lengths) - 1).max() < 5e-4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("AAAA", "3 bytes, expected 4"),
        ("", "0 bytes, expected 4"),
        ("AAAAAAAAAAA=", "8 bytes, expected 4"),
        ("AAAA AA==", "not base64"),
        ("AAAAAA==\n", "not base64"),
        ("AAAAAA", "not base64"),
        ("AAAAAA====", "not base64"),
        ("AA_-AA==", "not base64"),
        ("ÄAAAAA==", "not base64"),
        ("AHwAAA==", "not finite"),
        ("AH4AAA==", "not finite"),
    ],
)
def test_text_that_is_no_half_vector_is_refused(text: str, reason: str) -> None:
    """Another length, another alphabet, infinity: each with its reason."""
    with pytest.raises(BadEvent, match=reason):
        unpack_half(text, 2)


def test_text_that_is_no_mean_is_refused() -> None:
    """A mean is read as strictly."""
    with pytest.raises(BadEvent, match="4 bytes, expected 8"):
        unpack_mean(pack_half([1, 2]), 2)
    with pytest.raises(BadEvent, match="not finite"):
        unpack_mean(base64.b64encode(struct.pack("<2f", 1, float("nan"))).decode(), 2)


@given(st.text(max_size=40), st.integers(1, 10))
def test_any_text_is_a_vector_or_a_bad_event(text: str, dimension: int) -> None:
    """Nothing else escapes."""
    try:
        vector = unpack_half(text, dimension)
    except BadEvent:
        return

    assert vector.shape == (dimension,)


@pytest.mark.parametrize("vector", [[1.0, float("nan")], [1e6, 0.0], [[1.0, 2.0]], 1.0])
def test_only_finite_rows_are_packed(vector: object) -> None:
    """What nobody could read again is never written."""
    with pytest.raises(ValueError, match="expected one row"):
        pack_half(vector)  # type: ignore[arg-type]
