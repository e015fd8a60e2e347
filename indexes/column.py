"""One attribute's values over all ordinals: facet codes and numbers, a list's further elements at the side.

Most items have one value, or none, of an attribute: it stands in an array by ordinal.  An item with several has all of
them in `Several`, and none in the array.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.filter_tree import Operator, Scalar, facet_text, facet_texts, number_of

Mask = NDArray[np.bool_]
NO_CODE = -1
_COMPARE = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def compare_numbers(numbers: NDArray[np.float64], operator: Operator, number: float) -> Mask:
    """bool[N] `numbers operator number`; a missing number (NaN) compares to nothing, `!=` included."""
    mask: Mask = _COMPARE[operator](numbers, number)
    if operator == "!=":
        mask &= ~np.isnan(numbers)
    return mask


class Column:
    """The values of one attribute, for `capacity` ordinals; none has any at first."""

    def __init__(self, capacity: int) -> None:
        self._codes = np.full(capacity, NO_CODE, np.int32)
        self._numbers = np.full(capacity, np.nan)
        self._code_of: dict[str, int] = {}
        self._several = Several()

    def grow(self, capacity: int) -> None:
        """Make room for ordinals below `capacity`."""
        more = capacity - len(self._codes)
        self._codes = np.concatenate((self._codes, np.full(more, NO_CODE, np.int32)))
        self._numbers = np.concatenate((self._numbers, np.full(more, np.nan)))

    def put(self, ordinal: int, values: Sequence[Scalar]) -> None:
        """These are the ordinal's values now."""
        self._codes[ordinal] = NO_CODE
        self._numbers[ordinal] = np.nan
        self._several.remove(ordinal)
        if len(values) == 1:
            self._codes[ordinal] = self._code(values[0])
            number = number_of(values[0])
            self._numbers[ordinal] = np.nan if number is None else number
        elif values:
            codes = [self._code(value) for value in values]
            numbers = [np.nan if (number := number_of(value)) is None else number for value in values]
            self._several.put(ordinal, codes, numbers)

    def facet(self, value: str) -> Mask:
        """bool[N] which items have the value, as `attribute:value` compares it."""
        codes = [self._code_of[text] for text in facet_texts(value) if text in self._code_of]
        mask = np.zeros(len(self._codes), np.bool_)
        for code in codes:
            mask |= self._codes == code
            self._several.mark(mask, self._several.codes == code)
        return mask

    def equal(self, values: Sequence[Scalar]) -> Mask:
        """bool[N] which items have one of the values, compared as texts of facets."""
        codes = [self._code_of[text] for text in {facet_text(value) for value in values} if text in self._code_of]
        mask: Mask = np.isin(self._codes, codes)
        self._several.mark(mask, np.isin(self._several.codes, codes))
        return mask

    def compare(self, operator: Operator, number: float) -> Mask:
        """bool[N] which items have a number for which `number_of operator number` holds."""
        mask = compare_numbers(self._numbers, operator, number)
        self._several.mark(mask, compare_numbers(self._several.numbers, operator, number))
        return mask

    def within(self, low: float, high: float) -> Mask:
        """bool[N] which items have a number from `low` to `high`, both included."""
        mask: Mask = (self._numbers >= low) & (self._numbers <= high)
        numbers = self._several.numbers
        self._several.mark(mask, (numbers >= low) & (numbers <= high))
        return mask

    def _code(self, value: Scalar) -> int:
        text = facet_text(value)
        return self._code_of.setdefault(text, len(self._code_of))


class Several:
    """The elements of list values: `owners` int32[E], `codes` int32[E], `numbers` float64[E].

    Appended at the end; elements of a removed list stay as holes that match nothing until half are holes.
    """

    def __init__(self) -> None:
        self._place: dict[int, slice] = {}
        self._size = 0
        self._live = 0
        self._owners = np.zeros(16, np.int32)
        self._codes = np.full(16, NO_CODE, np.int32)
        self._numbers = np.full(16, np.nan)

    @property
    def codes(self) -> NDArray[np.int32]:
        return self._codes[: self._size]

    @property
    def numbers(self) -> NDArray[np.float64]:
        return self._numbers[: self._size]

    def mark(self, mask: Mask, hits: Mask) -> None:
        """Set `mask` bool[N] for the owners of the elements that `hits` bool[E] names."""
        mask[self._owners[: self._size][hits]] = True

    def put(self, ordinal: int, codes: Sequence[int], numbers: Sequence[float]) -> None:
        """Append the elements of an ordinal that has none."""
        if self._size + len(codes) > len(self._owners):
            self._rebuild(2 * (self._live + len(codes)))
        place = slice(self._size, self._size + len(codes))
        self._owners[place] = ordinal
        self._codes[place] = codes
        self._numbers[place] = numbers
        self._place[ordinal] = place
        self._size = place.stop
        self._live += len(codes)

    def remove(self, ordinal: int) -> None:
        """Forget an ordinal's elements, if it has any."""
        place = self._place.pop(ordinal, None)
        if place is not None:
            self._codes[place] = NO_CODE
            self._numbers[place] = np.nan
            self._live -= place.stop - place.start

    def _rebuild(self, capacity: int) -> None:
        old_codes, old_numbers = self._codes, self._numbers
        capacity = max(capacity, 16)
        self._owners = np.zeros(capacity, np.int32)
        self._codes = np.full(capacity, NO_CODE, np.int32)
        self._numbers = np.full(capacity, np.nan)
        at = 0
        for ordinal, old in self._place.items():
            new = slice(at, at + old.stop - old.start)
            self._owners[new], self._codes[new], self._numbers[new] = ordinal, old_codes[old], old_numbers[old]
            self._place[ordinal] = new
            at = new.stop
        self._size = at
