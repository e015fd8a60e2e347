"""What one field of a shop's record says: a number, a price, a yes or no, a moment.

Shops send the same thing in several ways; each function here takes the ways that can mean one thing only and raises
BadEvent, with the field's name, for the rest.  Null and blank text mean "not told" and give None.
Easy to get wrong:

* A bool is an int to Python, and never a number here.
* Debezium's default for decimals is base64 of an integer whose scale is only in the schema.  Without the schema such a
  text is refused: some of them look like a price (`"EUR1"` is 11316.37 at scale 2), so a currency code that stands
  directly before a whole number is not believed.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import unicodedata
from datetime import UTC, datetime, timedelta

from models.errors import BadEvent

INSTANT_MS_MAX = 253_402_300_799_999
"""The last ms of the year 9999; anything larger cannot be meant as Unix ms."""
INSTANT_MS_MIN = -62_135_596_800_000
"""The first ms of the year 1."""
_DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_TEXT_MAX = 64
"""Characters of a text that is to be a number or a moment; a longer one is not looked at."""
_SCALE_MAX = 1_000
_UNSCALED_BYTES_MAX = 512
"""PostgreSQL's numeric(1000) has 416 bytes; more would only burn time."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_PRICE = re.compile(r"([^\s\d.,+-]{1,3})?(\s*)([+-]?[0-9]+(?:\.[0-9]+)?)(?:\s*([^\s\d.,+-]{1,3}))?")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})")
_DIGITS = re.compile(r"[+-]?[0-9]{9,19}")
_ISO = re.compile(r"[0-9]{4}-?(?:[0-9]{2}-?[0-9]{2}|W[0-9]{2}-?[0-9])(?:[Tt ].+)?")
"""A check before Python's parser, which takes any character between date and time, a digit too."""
_DECIMAL_HINT = (
    "; if it is a decimal of Debezium's in base64, its scale is only in the schema: "
    "set decimal.handling.mode to string or double, or send the schema along"
)


def shown(value: object) -> str:
    """The value as an error message shows it, short whatever it is."""
    if isinstance(value, str):
        return repr(value) if len(value) <= _TEXT_MAX else f"{value[:_TEXT_MAX]!r}... ({len(value):,} characters)"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value) if abs(value) < 1e20 or isinstance(value, float) else "a number beyond 64 bits"
    if isinstance(value, dict):
        return f"an object of {len(value):,} fields"
    if isinstance(value, list | tuple):
        return f"a list of {len(value):,}"
    return f"a {type(value).__name__}"


def number(name: str, value: object) -> float | None:
    """A finite number, or text that is one."""
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        if len(text) <= _TEXT_MAX and _NUMBER.fullmatch(text):
            return _finite(name, float(text), value)
        raise _not_a_number("a number", name, text)
    return _plain_number("a number", name, value)


def price(name: str, value: object) -> float | None:
    """A price of at least 0: a number, or text that is one, with a currency code or sign before or after it."""
    if isinstance(value, str):
        text = value.strip()
        amount = number(name, value) if _NUMBER.fullmatch(text[:_TEXT_MAX]) or not text else _amount(name, text)
    else:
        amount = _plain_number("a price", name, value)
    if amount is not None and amount < 0:
        raise BadEvent(f"{name}: expected a price of at least 0, got {shown(value)}")
    return amount


def boolean(name: str, value: object) -> bool | None:
    """true or false; also 1 and 0 (MySQL has no other), and the two words as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return value == 1
    if isinstance(value, str):
        text = value.strip().lower()
        if text in ("", "true", "false"):
            return None if text == "" else text == "true"
    raise _not("true or false", name, value)


def instant_ms(name: str, value: object) -> int | None:
    """A moment in Unix ms: Unix ms, or ISO 8601 text (UTC where it names no zone; a date is its first moment).

    What would lie beyond the year 9999 is microseconds or nanoseconds, as Debezium writes a `timestamp`.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        if not _DIGITS.fullmatch(text):
            return _iso_ms(name, text)
        moment = int(text)
    else:
        plain = _plain_number("Unix ms or ISO 8601", name, value)
        if plain is None:
            return None
        moment = value if isinstance(value, int) else math.floor(plain)
    for _ in range(2):
        if moment > INSTANT_MS_MAX:
            moment //= 1000
    if not INSTANT_MS_MIN <= moment <= INSTANT_MS_MAX:
        raise _not("Unix ms or ISO 8601", name, value)
    return moment


def date_ms(name: str, value: object) -> int | None:
    """Like `instant_ms`, for a field whose moment cannot lie in the first hours of 1970.

    There a number of 10,000 to 99,999 is days since 1970 (Debezium's `date`; 1997 to 2243) and one of 10^8 to 10^11
    seconds (1973 to 5138): as Unix ms they would be a sale that was over long ago, and nobody would see why.
    """
    moment = instant_ms(name, value)
    if moment is None or isinstance(value, str):
        return moment
    if 10_000 <= moment < 100_000:
        return moment * _DAY_MS
    return moment * 1000 if 10**8 <= moment < 10**11 else moment


def decimal_number(name: str, text: str, scale: int) -> float | int:
    """The number that Connect's Decimal means: base64 of a big-endian two's-complement integer, times 10^-scale.

    `"Ix4="` is 0x231E = 8990, at scale 2 89.9.  (`org.apache.kafka.connect.data.Decimal`)
    """
    try:
        unscaled_bytes = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadEvent(f"{name}: expected a decimal in base64, got {shown(text)}") from error
    if not 0 < len(unscaled_bytes) <= _UNSCALED_BYTES_MAX or abs(scale) > _SCALE_MAX:
        raise BadEvent(
            f"{name}: expected a decimal of 1 to {_UNSCALED_BYTES_MAX} bytes and a scale of at most {_SCALE_MAX}, "
            f"got {len(unscaled_bytes):,} bytes at scale {shown(scale)}"
        )
    unscaled = int.from_bytes(unscaled_bytes, "big", signed=True)
    if scale <= 0:
        whole: int = unscaled * 10**-scale
        if abs(whole) < 2**63:
            return whole
        unscaled, scale = whole, 0
    try:
        nearest: float = unscaled / 10**scale  # true division of integers
    except OverflowError as error:
        raise BadEvent(f"{name}: expected a decimal that fits a float, got {shown(text)} at scale {scale}") from error
    return nearest


def variable_decimal(name: str, value: dict[str, object]) -> float | int:
    """Debezium's decimal of a column without a scale: `{"scale": 2, "value": "Ix4="}`."""
    scale, text = value.get("scale"), value.get("value")
    if len(value) == 2 and type(scale) is int and isinstance(text, str):
        return decimal_number(name, text, scale)
    raise _not("a number", name, value)


def _plain_number(expected: str, name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, dict):
        value = variable_decimal(name, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _not(expected, name, value)
    return _finite(name, value, value)


def _finite(name: str, found: float, value: object) -> float:
    try:
        finite = math.isfinite(found)
    except OverflowError:
        finite = False
    if not finite:
        raise _not("a finite number", name, value)
    return float(found)


def _amount(name: str, text: str) -> float:
    """The number in `19.99 EUR`, `EUR 19.99`, `$19.99`, `19.99€`; no thousands separators, no decimal comma."""
    found = _PRICE.fullmatch(text) if len(text) <= _TEXT_MAX else None
    if found:
        before, space, digits, after = found.groups()
        currency = before or after
        could_be_base64 = before and len(before) == 3 and not space and "." not in digits
        if not (before and after) and _is_currency(currency) and not could_be_base64:
            return float(digits)
    raise _not_a_number("a price, as 19.99 or 19.99 EUR", name, text)


def _is_currency(text: str) -> bool:
    return (len(text) == 3 and text.isascii() and text.isalpha()) or (
        len(text) == 1 and unicodedata.category(text) == "Sc"
    )


def _iso_ms(name: str, text: str) -> int:
    if len(text) > _TEXT_MAX or not _ISO.fullmatch(text):
        raise _not("Unix ms or ISO 8601", name, text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _not("Unix ms or ISO 8601", name, text) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _not(expected: str, name: str, value: object, hint: str = "") -> BadEvent:
    return BadEvent(f"{name}: expected {expected}, got {shown(value)}{hint}")


def _not_a_number(expected: str, name: str, text: str) -> BadEvent:
    could_be_base64 = len(text) <= _TEXT_MAX and _BASE64.fullmatch(text) is not None
    return _not(expected, name, text, _DECIMAL_HINT if could_be_base64 else "")
