"""The demo's page: what it shows of a tour, and that it is one file that runs and fetches nothing."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.image import decode, encode_jpeg, encode_png
from streams.demo.page import PICTURE_SIDE_MAX, moves, tour_page
from streams.demo.tour_steps import ShownAlert, ShownEvent, ShownItem, TourStep, TourTotals

HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=alert(1)> & ' ` ]]> \u202e\x00"
TOTALS = TourTotals(items=300, embeds_per_s=212.4, freshness_ms=84.2, answer_ms=2.31, notes=(("broker", "embedded"),))


class Page(HTMLParser):
    """A page as a browser reads it: its elements, and the text of those that carry a class."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert not self._open, f"elements that are never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append((tag, dict(attrs).get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self._open.pop()[0]

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1][1], data))

    def text(self, name: str) -> list[str]:
        """Texts of the elements that have this class."""
        return [data for classes, data in self.texts if name in classes.split()]

    def all_of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


def item(item_id: str, **more: object) -> ShownItem:
    shown: dict[str, object] = {
        "title": f"Item {item_id}",
        "price": 20.0,
        "stock": 12,
        "score": 80.0,
        "rank_score": 80.0,
    }
    return ShownItem(item_id, **(shown | more))  # type: ignore[arg-type]


def page(*steps: TourStep, totals: TourTotals = TOTALS) -> Page:
    return Page(tour_page(steps, totals))


def test_the_head_tells_what_the_tour_came_to() -> None:
    """Totals, notes and the steps with how they came out stand on the page; what was not measured does not."""
    shown = page(TourStep("First", "why"), TourStep("Second", "why", passed=False))
    words = " ".join(data for _, data in shown.texts)

    assert all(figure in words for figure in ("300", "212", "84 ms", "2.3 ms", "broker: embedded"))
    assert ["✓"] == shown.text("good")
    assert ["✗"] == shown.text("bad")
    assert 1 == len(shown.text("failed"))
    assert "second" not in " ".join(data for _, data in page(totals=TourTotals(5)).texts)


def test_a_step_shows_event_answers_times_and_reason() -> None:
    """A step's title, reason, events, both rows and times are there, the changed attribute marked."""
    step = TourStep(
        "On sale",
        "The default rule says so.",
        (ShownEvent("catalog-changes", "b", {"title": "B", "price": 9.5, "tags": ["x", "y"]}, ("price",)),),
        item("s", score=None, rank_score=None),
        (item("a"), item("b", in_focus=True)),
        (item("b", in_focus=True, rank_score=92.0, on_sale=True, list_price=30.0, reason="on sale"), item("a")),
        (("to the answer", 84.2), ("in all", 1234.0)),
        ShownAlert("b", {"objectID": "b", "alert": "on_sale", "at": 7}, 9.87),
    )
    html = tour_page([step], TOTALS)
    shown = Page(html)

    assert ["Like this", "Before", "After"] == shown.text("label")
    assert ["catalog-changes", "item-alerts"] == shown.text("topic")
    assert ["9.9 ms"] == shown.text("after")
    assert "<mark>&quot;alert&quot;: &quot;on_sale&quot;</mark>" in html
    assert "<mark>&quot;price&quot;: 9.5</mark>" in html
    assert "&quot;tags&quot;: [&quot;x&quot;, &quot;y&quot;]" in html
    assert "<b>84 ms</b> to the answer" in html
    assert "<b>1.2 s</b> in all" in html
    assert ["×1.15"] == shown.text("raised")
    assert ["on sale"] == shown.text("sale")
    assert ["on sale"] == shown.text("why")
    assert "<s>30.00</s>" in html
    assert ["1", "2", "1", "2"] == shown.text("place")
    assert ["▲ up 1", "▼ 1"] == shown.text("move")


def test_moves_are_told() -> None:
    """What goes is marked in the row before, what comes in the row after; those a step is not about more quietly."""
    before = (item("a", in_focus=True), item("b"), item("c"))
    after = (item("n", in_focus=True), item("c"), item("d"))
    shown = page(TourStep("Step", "why", before=before, after=after))

    assert ["✕ gone", "▼ out", "✦ new", "▲ 1", "▲ in"] == shown.text("move")


@given(st.lists(st.sampled_from("abcdefgh"), unique=True), st.lists(st.sampled_from("abcdefgh"), unique=True))
def test_a_move_is_the_difference_of_places(before: list[str], after: list[str]) -> None:
    """Every item of the row after has a move: by how many places it rose, or that it is new."""
    found = moves([item(each) for each in before], [item(each) for each in after])

    assert after == list(found)
    for each, by in found.items():
        assert (before.index(each) - after.index(each) if each in before else None) == by


@pytest.mark.parametrize(
    ("shown", "badges"),
    [
        (item("a", stock=3, low_stock=True), ["only 3 left"]),
        (item("a", stock=2.5, low_stock=True), ["only 2.5 left"]),
        (item("a", stock=None, low_stock=True), ["low stock"]),
        (item("a", stock=0, out_of_stock=True, low_stock=True), ["sold out"]),
        (item("a", stock=1200, on_sale=True), ["on sale"]),
        (item("a", stock=None), []),
    ],
)
def test_badges_say_sale_and_stock(shown: ShownItem, badges: list[str]) -> None:
    """A card says that an item is on sale, runs low or is sold out."""
    assert badges == page(TourStep("Step", "why", after=(shown,))).text("badge")


def test_what_is_not_known_is_left_out() -> None:
    """An item without price, stock, scores or picture still has a card, and an empty answer says so."""
    bare = ShownItem("a", "A")
    shown = page(TourStep("Step", "why", before=(bare,), after=()))

    assert ["A"] == shown.text("title")
    assert ["no picture"] == shown.text("no-picture")
    assert ["Nothing is recommended."] == shown.text("none")
    assert not shown.text("price") + shown.text("scores") + shown.text("in-stock")


def test_negative_and_zero_scores_have_no_factor() -> None:
    """A factor is only told where it can be: of a score above nothing."""
    hits = (
        item("a", score=0.0, rank_score=1.0),
        item("b", score=-3.0, rank_score=-4.0),
        item("c", score=50.0, rank_score=35.0),
    )
    shown = page(TourStep("Step", "why", after=hits))

    assert ["×0.70"] == shown.text("factor")


def test_pictures_are_small_and_inside() -> None:
    """Pictures of any format become JPEG data URLs of bounded size; broken ones are said to be none."""
    large = encode_png(np.random.default_rng(0).integers(0, 255, (500, 900, 3), dtype=np.uint8))
    hits = (
        item("a", picture=large),
        item("b", picture=encode_jpeg(np.zeros((20, 20, 3), np.uint8))),
        item("c", picture=b"no"),
    )
    shown = page(TourStep("Step", "why", after=hits))
    sources = [attributes["src"] or "" for attributes in shown.all_of("img")]

    assert 2 == len(sources)
    assert ["no picture"] == shown.text("no-picture")
    for source in sources:
        assert source.startswith("data:image/jpeg;base64,")
        content = base64.b64decode(source.partition(",")[2])
        assert len(content) < 40_000
        assert decode(content, PICTURE_SIDE_MAX).shape == (PICTURE_SIDE_MAX, PICTURE_SIDE_MAX, 3)


def test_long_texts_of_events_are_cut() -> None:
    """A picture in an event does not fill the page; a tombstone is null."""
    link = "data:image/jpeg;base64," + "A" * 20_000
    events = (
        ShownEvent("catalog-changes", "a", {"image": [link], "images": {"url": link}}),
        ShownEvent("catalog-changes", "a", None),
    )
    html = tour_page([TourStep("Step", "why", events)], TOTALS)

    assert "AAAA" * 20 not in html
    assert 2 == html.count("(20,023 characters)")
    assert ">null</pre>" in html
    assert ["tombstone"] == Page(html).text("tombstone")


@settings(max_examples=60)
@given(st.text() | st.just(HOSTILE))
def test_texts_of_others_are_only_texts(text: str) -> None:
    """Whatever stands in titles, ids, events, reasons and notes, the page has the same elements as with plain words."""

    def built(word: str) -> str:
        shown = ShownItem(word, word, None, 1.0, stock=1, score=1.0, rank_score=2.0, in_focus=True, reason=word)
        event = ShownEvent(word, word, {word: word, "list": [word, {word: word}]}, (word,))
        step = TourStep(word, word, (event, ShownEvent(word, word, word)), shown, (shown,), (shown,), ((word, 1.0),))
        step = replace(step, alert=ShownAlert(word, {word: word, "alert": word}, 1.0))
        return tour_page([step], TourTotals(1, notes=((word, word),)))

    names = [
        [(tag, sorted(attributes)) for tag, attributes in Page(built(word)).elements] for word in ("x" + text, "plain")
    ]

    assert names[0] == names[1]


def test_the_page_is_one_file() -> None:
    """No scripts, no links to anywhere but into itself, and a policy that forbids them; readable on a phone."""
    html = tour_page([TourStep(HOSTILE, HOSTILE, after=(item("a", title=HOSTILE),))], TOTALS)
    shown = Page(html)
    style = html.partition("<style>")[2].partition("</style>")[0]

    assert not {"script", "link", "iframe", "object", "form", "base"} & {tag for tag, _ in shown.elements}
    assert all((each["href"] or "").startswith("#step-") for each in shown.all_of("a"))
    assert not any(name.startswith("on") for _, attributes in shown.elements for name in attributes)
    assert not re.search(r"url\(|@import|https?:", style)
    assert any("default-src 'none'" in (each.get("content") or "") for each in shown.all_of("meta"))
    assert any("width=device-width" in (each.get("content") or "") for each in shown.all_of("meta"))
    assert "prefers-color-scheme: dark" in style


def test_every_class_has_its_style() -> None:
    """What the page calls by a class, the style sheet knows, and the other way round."""
    steps = [
        TourStep(
            "Step",
            "why",
            (ShownEvent("t", "k", None),),
            item("s"),
            (item("a", in_focus=True), item("b"), item("c"), item("e", stock=0, out_of_stock=True)),
            (
                item("c", in_focus=True, low_stock=True, rank_score=60.0, reason="r"),
                item("d", on_sale=True, rank_score=90.0),
                item("b"),
            ),
            (("t", 1.0),),
            ShownAlert("k", {"alert": "gone"}, 1.0),
            passed=False,
        ),
        TourStep("Step", "why", after=()),
        TourStep("Step", "why", before=(item("a"), item("b")), after=(item("b"), item("n", in_focus=True), item("a"))),
    ]
    html = tour_page(steps, TOTALS)
    used = {name for _, attributes in Page(html).elements for name in (attributes.get("class") or "").split()}
    style = html.partition("<style>")[2].partition("</style>")[0]
    known = set(re.findall(r"\.([a-z][a-z-]*)", re.sub(r"\{[^{}]*\}", "", style)))
    plain = {"in", "out", "shown", "row"}  # moves of what a step is not about, and frames, look as they are

    assert used - plain <= known
    assert known <= used
