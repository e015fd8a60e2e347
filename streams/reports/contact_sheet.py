"""A contact sheet: pictures that were asked for, and beside each what was found alike, as one picture for people.

Everything is painted on an array with plain assignments; letters come from `models.image.lettering`.  Titles are
strangers' text: they are cut to the width of their card, and can do no harm in a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.image import Pixels, lettering, resized

Colour = tuple[int, int, int]

SIDE = 168
"""Pixels of a card's picture, both ways."""
GAP = 14
MARGIN = 28
COLUMNS_MAX = 8
"""Hits of one line; more go on below."""
TITLE, TEXT = 15, 13
HEADING = 24
LINE = 19
BADGE_HEIGHT = 18
CHARACTERS_MAX = 300
"""Of a line: more than any has room for."""
CARD_HEIGHT = SIDE + 8 + 2 * LINE
PAGE: Colour = (250, 249, 246)
PAPER: Colour = (255, 255, 255)
INK: Colour = (28, 30, 34)
FAINT: Colour = (112, 114, 120)
RULE: Colour = (222, 220, 214)
TONES: dict[str, Colour] = {
    "plain": (214, 212, 206),
    "query": (28, 30, 34),
    "good": (38, 132, 84),
    "bad": (196, 62, 52),
    "sale": (190, 30, 70),
    "low": (176, 104, 0),
    "out": (96, 98, 104),
    "note": (52, 88, 150),
}
"""By what is said: frames of cards and grounds of badges."""


@dataclass(frozen=True)
class Badge:
    """A word on a picture, as "on sale"; `tone` is one of TONES."""

    text: str
    tone: str


@dataclass(frozen=True)
class Card:
    """One picture with what is to be read below it."""

    picture: Pixels | None
    """uint8[H, W, 3] RGB of any size; None: there is none to show."""
    title: str = ""
    detail: str = ""
    """A fainter line below the title."""
    badges: tuple[Badge, ...] = ()
    """On the picture's upper edge; those for which there is no room are left out."""
    flags: tuple[Badge, ...] = ()
    """The same on its lower edge."""
    tone: str = "plain"
    """Of its frame."""


@dataclass(frozen=True)
class Row:
    """What was asked for, and what was found, best first."""

    queries: Sequence[Card]
    """Below each other: mostly one."""
    hits: Sequence[Card]


def contact_sheet(title: str, subtitle: str, rows: Sequence[Row]) -> Pixels:
    """uint8[H, W, 3] RGB of all rows below a heading."""
    most = max((len(row.hits) for row in rows), default=0)
    lines = max(1, -(-most // COLUMNS_MAX))
    columns = max(3, -(-most // lines))
    left = MARGIN + SIDE + 2 * GAP + 10
    width = left + columns * (SIDE + GAP) - GAP + MARGIN
    top = MARGIN + HEADING + 10 + (LINE if subtitle else 0) + 14
    heights = [max(1, len(row.queries), -(-len(row.hits) // columns)) * (CARD_HEIGHT + GAP) + GAP for row in rows]
    page = np.empty((top + sum(heights) + MARGIN - GAP, width, 3), np.uint8)
    page[:] = PAGE
    _write(page, title, MARGIN, MARGIN, HEADING, INK, width - 2 * MARGIN)
    _write(page, subtitle, MARGIN, MARGIN + HEADING + 10, TEXT, FAINT, width - 2 * MARGIN)
    for row, height in zip(rows, heights, strict=True):
        page[top : top + 1, MARGIN : width - MARGIN] = RULE
        start = top + GAP
        for number, query in enumerate(row.queries):
            _card(page, query, MARGIN, start + number * (CARD_HEIGHT + GAP))
        page[start : start + height - 2 * GAP, left - GAP - 6 : left - GAP - 5] = RULE
        for number, hit in enumerate(row.hits):
            across, down = number % columns, number // columns
            _card(page, hit, left + across * (SIDE + GAP), start + down * (CARD_HEIGHT + GAP))
        if not row.hits:
            _write(page, "nothing was found", left, start + SIDE // 2 - 8, TITLE, FAINT, 300)
        top += height
    return page


def _card(page: Pixels, card: Card, x: int, y: int) -> None:
    frame = 3 if card.tone != "plain" else 1
    page[y : y + SIDE, x : x + SIDE] = TONES[card.tone]
    inside = SIDE - 2 * frame
    page[y + frame : y + SIDE - frame, x + frame : x + SIDE - frame] = PAPER
    if card.picture is None:
        _write(page, "no picture", x + SIDE // 2 - 32, y + SIDE // 2 - 8, TEXT, FAINT, inside)
    else:
        picture = _within(card.picture, inside)
        height, width = picture.shape[:2]
        rows, across = y + (SIDE - height) // 2, x + (SIDE - width) // 2
        page[rows : rows + height, across : across + width] = picture
    for badges, at in ((card.badges, y + frame + 5), (card.flags, y + SIDE - frame - 5 - BADGE_HEIGHT)):
        place = x + frame + 5
        for badge in badges:
            place += _badge(page, badge, place, at, x + SIDE - frame - 5 - place) + 4
    _write(page, card.title, x + 1, y + SIDE + 5, TITLE, INK, SIDE)
    _write(page, card.detail, x + 1, y + SIDE + 6 + LINE, TEXT, FAINT, SIDE)


def _badge(page: Pixels, badge: Badge, x: int, y: int, room: int) -> int:
    """Paint it if there is room; the pixels that it took across."""
    letters = lettering(badge.text[:CHARACTERS_MAX], TEXT)
    height, width = letters.shape
    if width + 10 > room:
        return 0
    page[y : y + BADGE_HEIGHT, x : x + width + 10] = TONES[badge.tone]
    _mix(page, letters, x + 5, y + (BADGE_HEIGHT - height) // 2, PAPER)
    return width + 10


def _write(page: Pixels, text: str, x: int, y: int, height: int, colour: Colour, width_max: int) -> None:
    """A line of text, cut with an ellipsis where it is too long."""
    text = text[:CHARACTERS_MAX]
    letters = lettering(text, height)
    if letters.shape[1] > width_max:
        low, high = 0, len(text)  # the longest beginning that fits
        while low < high:
            middle = (low + high + 1) // 2
            fits = lettering(text[:middle].rstrip() + "…", height).shape[1] <= width_max
            low, high = (middle, high) if fits else (low, middle - 1)
        letters = lettering(text[:low].rstrip() + "…", height)[:, :width_max]
    _mix(page, letters, x, y, colour)


def _mix(page: Pixels, letters: NDArray[np.uint8], x: int, y: int, colour: Colour) -> None:
    under = page[y : y + letters.shape[0], x : x + letters.shape[1]]
    cover = letters[: under.shape[0], : under.shape[1], None].astype(np.float32) / 255
    under[:] = (under + (np.array(colour, np.float32) - under) * cover + 0.5).astype(np.uint8)


def _within(picture: Pixels, side: int) -> Pixels:
    """The picture at the size at which it fits into a square, smaller or larger, its ratio kept."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    rows, across = (max(1, round(length * scale)) for length in (height, width))
    if (rows, across) == (height, width):
        return picture
    return resized(picture, across, rows)
