"""Numbers, prices, booleans and moments as shops and Debezium write them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadEvent
from models.field_values import INSTANT_MS_MAX, boolean, date_ms, decimal_number, instant_ms, number, price, shown

# 2026-09-01T08:15:30.123Z
MOMENT_MS = 1_788_250_530_123


def base64_of(unscaled: int) -> str:
    """As Java's BigInteger.toByteArray and Connect's JsonConverter write it."""
    size = 1
    while not -(1 << (8 * size - 1)) <= unscaled < 1 << (8 * size - 1):
        size += 1
    return base64.b64encode(unscaled.to_bytes(size, "big", signed=True)).decode()


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (19.99, 19.99),
        (0, 0.0),
        ("19.99", 19.99),
        (" 19.99 ", 19.99),
        ("1E+3", 1000.0),
        ("19.99 EUR", 19.99),
        ("19.99EUR", 19.99),
        ("EUR 19.99", 19.99),
        ("EUR19.99", 19.99),
        ("eur 20", 20.0),
        ("$19.99", 19.99),
        ("$ 20", 20.0),
        ("$20", 20.0),
        ("19.99€", 19.99),
        ("19.99\u202f€", 19.99),
        ("¥1500", 1500.0),
        ({"scale": 2, "value": "Ix4="}, 89.90),
        (None, None),
        ("", None),
        ("  ", None),
    ],
)
def test_a_price_is_a_number_or_text_that_is_one(told, expected):
    """A currency code or sign may stand before or after; blank text is not told."""
    assert expected == price("price", told)


@pytest.mark.parametrize(
    "told",
    [
        "1.299,00",
        "1,299.00",
        "1299,00",
        "1 299",
        "19.99 euros",
        "from 19.99",
        "19.99 / 24.99",
        "EUR 19.99 EUR",
        "$19.99€",
        "€€19",
        "EUR",
        "-5",
        "$-5",
        "-0.01 EUR",
        -1,
        True,
        False,
        [19.99],
        {"amount": 19.99},
        {"scale": "2", "value": "Ix4="},
        {"scale": 2, "value": "Ix4=", "more": 1},
        float("nan"),
        float("inf"),
        "NaN",
        "Infinity",
        "1e999",
        "٣",
        "9" * 65,
        "EUR " + "9" * 80,
        10**400,
        "0x10",
        "1_000",
    ],
)
def test_what_could_mean_something_else_is_no_price(told):
    """A separator, two currencies, a negative or an endless number: refused, and the field is named."""
    with pytest.raises(BadEvent, match="price: expected .*, got "):
        price("price", told)


@given(st.integers(1, 2**40), st.integers(0, 6))
def test_a_decimal_in_base64_without_its_scale_is_never_a_price(unscaled, scale):
    """Whatever base64 a decimal of Debezium's has, no price is read from it, and the error names the setting."""
    with pytest.raises(BadEvent, match="decimal.handling.mode"):
        price("price", base64_of(unscaled))


@given(st.integers(0, 0xFFFFFF))
def test_a_short_decimal_in_base64_is_never_a_price(unscaled):
    """The same for 1 to 3 bytes, where three letters and a digit look like a currency and an amount."""
    with pytest.raises(BadEvent):
        price("sale_price", base64_of(unscaled))
    with pytest.raises(BadEvent):
        price("sale_price", "EUR1")


@pytest.mark.parametrize("told", ["12 EUR", "Ix4=", True, [1], "", None, "-3", -3, "1.5"])
def test_a_number_has_no_currency(told):
    """A plain number, or text that is one; it may be negative."""
    if told in ("", None):
        assert number("stock", told) is None
    elif told in ("-3", -3, "1.5"):
        assert float(told) == number("stock", told)
    else:
        with pytest.raises(BadEvent, match="stock: expected a number"):
            number("stock", told)


@given(st.integers(-(10**40), 10**40), st.integers(-20, 60))
def test_decimals_come_out_as_the_nearest_number(unscaled, scale):
    """A whole number of 64 bits comes exactly where the scale has no fraction; any other as the nearest float."""
    exact = Fraction(unscaled) / Fraction(10) ** scale
    found = decimal_number("price", base64_of(unscaled), scale)

    if scale <= 0 and abs(exact) < 2**63:
        assert type(found) is int
        assert exact == found
    else:
        assert type(found) is float
        assert float(exact) == found


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("Ix4", 2),
        ("Ix4=\n", 2),
        ("!!!!", 2),
        ("", 2),
        ("Ix4=", 10**9),
        ("Ix4=", -(10**9)),
        (base64.b64encode(b"\x7f" * 513).decode(), 2),
        (base64.b64encode(b"\x7f" * 500).decode(), 0),
        (base64.b64encode(b"\x7f" * 500).decode(), 2),
        ("größe", 2),
    ],
)
def test_a_hostile_decimal_is_refused(text, scale):
    """What is not base64, or would take or give an absurd number, is a bad event and costs nothing."""
    with pytest.raises(BadEvent, match="price: expected a decimal"):
        decimal_number("price", text, scale)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (True, True),
        (False, False),
        (1, True),
        (0, False),
        (1.0, True),
        ("true", True),
        (" FALSE ", False),
        ("", None),
        (None, None),
    ],
)
def test_a_boolean_may_be_a_number_or_a_word(told, expected):
    """1 and 0, and the two words, are booleans too."""
    assert expected is boolean("on_sale", told)


@pytest.mark.parametrize("told", [2, -1, "yes", "1", [], {}, 0.5])
def test_anything_else_is_no_boolean(told):
    """Refused, with the field's name."""
    with pytest.raises(BadEvent, match="on_sale: expected true or false, got"):
        boolean("on_sale", told)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (MOMENT_MS, MOMENT_MS),
        (float(MOMENT_MS), MOMENT_MS),
        (str(MOMENT_MS), MOMENT_MS),
        (MOMENT_MS * 1000 + 999, MOMENT_MS),  # Debezium's timestamp
        (MOMENT_MS * 1_000_000 + 999_999, MOMENT_MS),
        ("2026-09-01T08:15:30.123Z", MOMENT_MS),
        ("2026-09-01T08:15:30.123456Z", MOMENT_MS),  # Debezium's timestamptz
        ("2026-09-01T10:15:30.123+02:00", MOMENT_MS),
        ("2026-09-01 08:15:30.123", MOMENT_MS),
        ("2026-09-01", MOMENT_MS - MOMENT_MS % 86_400_000),
        ("20260901", MOMENT_MS - MOMENT_MS % 86_400_000),
        ("1969-12-31T23:59:59.999Z", -1),
        (0, 0),
        (-1, -1),
        (None, None),
        ("", None),
    ],
)
def test_a_moment_is_unix_ms_or_iso_8601(told, expected):
    """No zone is UTC; microseconds and nanoseconds are told by their size."""
    assert expected == instant_ms("at", told)


@pytest.mark.parametrize(
    "told",
    [
        *("tomorrow", "01.09.2026", "2026-13-01", "2026-09-01x08:15", "2026-09-01T25:00", "1" * 21, "2026" * 99),
        *(True, [], 1e300, float("inf"), -(10**18), 10**30),
    ],
)
def test_what_is_no_moment_is_refused(told):
    """Neither a guess nor an overflow."""
    with pytest.raises(BadEvent, match="sale_from: expected"):
        instant_ms("sale_from", told)
    with pytest.raises(BadEvent, match="sale_from: expected"):
        date_ms("sale_from", told)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (20_513, 20_513 * 86_400_000),  # Debezium's date, 2026-03-01
        (1_788_250_530, 1_788_250_530_000),
        (MOMENT_MS, MOMENT_MS),
        (9_999, 9_999),
        (0, 0),
        (100_000, 100_000),
        ("1970-01-01T00:00:20Z", 20_000),
        (None, None),
    ],
)
def test_a_date_may_be_days_or_seconds(told, expected):
    """Numbers that would be the first hours of 1970 are days or seconds since then."""
    assert expected == date_ms("sale_until", told)


@given(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001  (the zone is drawn beside it)
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_every_iso_moment_is_read_exactly(naive, zone):
    """Rounded down to the ms, whatever its zone."""
    moment = naive.replace(tzinfo=zone)
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    expected_ms = since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000

    assert expected_ms == instant_ms("at", moment.isoformat())


@given(st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none()))
def test_readers_never_fail_otherwise(told):
    """A reader gives its value or a BadEvent, and a moment lies in the years 1 to 9999."""
    for read in (number, price, boolean, instant_ms, date_ms):
        try:
            found = read("field", told)
        except BadEvent:
            continue
        if found is not None and read in (instant_ms, date_ms):
            assert -62_135_596_800_000 <= found <= INSTANT_MS_MAX


@pytest.mark.parametrize(
    "value", [None, True, 1, 10**30, 1e300, "a" * 10**6, "\ud800" * 500, [1] * 10**5, {"a": 1}, (1,), object()]
)
def test_an_error_shows_any_value_in_one_short_line(value):
    """Messages stay short whatever came."""
    assert len(shown(value)) <= 450
    assert "\n" not in shown(value)
