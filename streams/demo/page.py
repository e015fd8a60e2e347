"""The demo's page: one self-contained HTML file that shows a tour over the topics, step by step.

Everything that it shows stands in it: pictures as small JPEG data URLs, the style sheet (`page.css`), no scripts; a
content policy forbids the rest, so that it holds from `file://` too.  All text is escaped: titles come from catalogs.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from models.errors import BadEvent
from models.image import thumbnail
from streams.demo.tour_steps import ShownAlert, ShownEvent, ShownItem, TourStep, TourTotals
from streams.topics import ITEM_ALERTS

PICTURE_SIDE_MAX = 200
"""Pixels of a picture's longer side: enough for the largest card on a screen of double density."""

_TEXT_CHARACTERS_MAX = 96
"""A longer string in an event (a picture as a `data:` URL) is shown cut off, with its size."""


def tour_page(steps: Sequence[TourStep], totals: TourTotals) -> str:
    """Return the page as HTML."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Kindred: a tour of a live catalog</title>
<style>
{style}</style>
</head>
<body>
<header class="top">
<p class="brand">Kindred</p>
<h1>What looks alike, while the catalog changes</h1>
<p class="lead">Each step sends one event to a Kafka topic and asks again. What you see are the answers before and after
it, as they came back on the reply topic, and the alert that the event set off.</p>
{_totals(totals)}
{_contents(steps)}
</header>
<main>
{"".join(_step(number, step) for number, step in enumerate(steps, start=1))}</main>
<footer>{_notes(totals)}</footer>
</body>
</html>
"""


def moves(before: Sequence[ShownItem], after: Sequence[ShownItem]) -> dict[str, int | None]:
    """Return by how many places each item of `after` has moved up (down: negative); None is new."""
    places = {item.item_id: place for place, item in enumerate(before)}
    return {
        item.item_id: places[item.item_id] - place if item.item_id in places else None
        for place, item in enumerate(after)
    }


def _totals(totals: TourTotals) -> str:
    figures = [(f"{totals.items:,}", "items in the catalog")]
    if totals.embeds_per_s is not None:
        figures.append((f"{totals.embeds_per_s:,.0f}", "pictures embedded a second"))
    if totals.freshness_ms is not None:
        figures.append((_time(totals.freshness_ms), "from event to answer"))
    if totals.answer_ms is not None:
        figures.append((_time(totals.answer_ms), "for an answer"))
    tiles = "".join(f"<div><dd>{escape(figure)}</dd><dt>{escape(what)}</dt></div>" for figure, what in figures)
    return f'<dl class="totals">{tiles}</dl>'


def _contents(steps: Sequence[TourStep]) -> str:
    links = "".join(
        f'<li><a href="#step-{number}"><span class="{"good" if step.passed else "bad"}">'
        f"{'✓' if step.passed else '✗'}</span> {escape(step.title)}</a></li>"
        for number, step in enumerate(steps, start=1)
    )
    return f'<nav aria-label="Steps"><ol>{links}</ol></nav>'


def _notes(totals: TourTotals) -> str:
    return " · ".join(f"{escape(what)}: {escape(value)}" for what, value in totals.notes)


def _step(number: int, step: TourStep) -> str:
    failed = "" if step.passed else '<p class="failed">This step did not come out as it should.</p>'
    return f"""<section class="step" id="step-{number}" aria-labelledby="title-{number}">
<div class="told"><div>
<p class="number">Step {number}</p>
<h2 id="title-{number}">{escape(step.title).replace("No. ", "No.&nbsp;")}</h2>
<p class="reason">{escape(step.reason)}</p>
{failed}{_timings(step.timings)}
</div><div>
{"".join(_event(event) for event in step.events)}{_alert(step.alert)}
</div></div>
<div class="shown">
{_rows(step)}
</div>
</section>
"""


def _timings(timings: Sequence[tuple[str, float]]) -> str:
    if not timings:
        return ""
    chips = "".join(f"<li><b>{escape(_time(ms))}</b> {escape(what)}</li>" for what, ms in timings)
    return f'<ul class="timings">{chips}</ul>'


def _event(event: ShownEvent) -> str:
    tombstone = ' <span class="tombstone">tombstone</span>' if event.value is None else ""
    return (
        f'<figure class="event"><figcaption><span class="topic">{escape(event.topic)}</span> '
        f'<span class="key">{escape(event.key)}</span>{tombstone}</figcaption>'
        f'<pre tabindex="0">{_json(event.value, event.changed)}</pre></figure>'
    )


def _alert(alert: ShownAlert | None) -> str:
    """Return what `item-alerts` said: an event that is read, with how soon after its cause."""
    if alert is None:
        return ""
    return (
        f'<figure class="event alert"><figcaption><span class="topic">{ITEM_ALERTS}</span> '
        f'<span class="key read">{escape(alert.key)}</span> '
        f'<span class="after">{escape(_time(alert.after_ms))}</span></figcaption>'
        f'<pre tabindex="0">{_json(dict(alert.value), ("alert",))}</pre></figure>'
    )


def _json(value: Any, marked: Collection[str]) -> str:
    """Return a message's value as escaped JSON, an attribute a line, some of them marked."""
    value = _cut(value)
    if not isinstance(value, dict):
        return escape(_text(value))
    lines = []
    for key, each in value.items():
        line = escape(f"{_text(key)}: {_text(each)}")
        lines.append(f"  <mark>{line}</mark>" if key in marked else f"  {line}")
    return "{\n" + ",\n".join(lines) + "\n}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _cut(value: Any) -> Any:
    """Return the value with its long strings cut off."""
    if isinstance(value, str) and len(value) > _TEXT_CHARACTERS_MAX:
        return f"{value[:40]}… ({len(value):,} characters)"
    if isinstance(value, dict):
        return {key: _cut(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cut(each) for each in value]
    return value


def _rows(step: TourStep) -> str:
    source = ""
    if step.source is not None:
        source = f'<div class="source"><p class="label">Like this</p><ol>{_card(step.source, None, "")}</ol></div>'
    if step.before is None:
        rows = _row("Answer", step.after, {})
    else:
        kept = {item.item_id for item in step.after}
        left = {item.item_id: "gone" if item.in_focus else "out" for item in step.before if item.item_id not in kept}
        rows = _row("Before", step.before, left) + _row("After", step.after, _moves_in_words(step.before, step.after))
    return f'<div class="answer">{source}<div class="rows">{rows}</div></div>'


def _row(label: str, items: Sequence[ShownItem], moved: Mapping[str, str]) -> str:
    cards = "".join(_card(item, place, moved.get(item.item_id, "")) for place, item in enumerate(items, start=1))
    if not items:
        cards = '<li class="none">Nothing is recommended.</li>'
    return f'<div class="row"><p class="label">{escape(label)}</p><ol>{cards}</ol></div>'


def _moves_in_words(before: Sequence[ShownItem], after: Sequence[ShownItem]) -> dict[str, str]:
    """Return "up 3", "down 1", "new", or "in": what a step is not about has only come into view."""
    focus = {item.item_id for item in after if item.in_focus}
    words = {}
    for item_id, by in moves(before, after).items():
        if by is None:
            words[item_id] = "new" if item_id in focus else "in"
        elif by:
            words[item_id] = f"up {by}" if by > 0 else f"down {-by}"
    return words


_ARROWS = {"up": "▲", "in": "▲", "down": "▼", "out": "▼", "new": "✦", "gone": "✕"}


def _card(item: ShownItem, place: int | None, move: str) -> str:
    sort, _, places = move.partition(" ")
    words = move if item.in_focus else places or sort
    arrow = f'<span class="move {sort}" title="{move}">{_ARROWS[sort]} {words}</span>' if move else ""
    rank = f'<span class="place">{place}</span>' if place is not None else ""
    why = f'<p class="why">{escape(item.reason)}</p>' if item.reason else ""
    classes = " ".join(["card", *(["focus"] if item.in_focus else []), *(["leaving"] if sort == "gone" else [])])
    return (
        f'<li class="{classes}"><div class="picture">{_picture(item)}{rank}{arrow}</div>'
        f'<p class="title" title="{escape(item.item_id)}">{escape(item.title)}</p>'
        f"{_price(item)}{_stock(item)}{_scores(item)}{why}</li>"
    )


def _picture(item: ShownItem) -> str:
    if item.picture is not None:
        try:
            small = base64.b64encode(thumbnail(item.picture, PICTURE_SIDE_MAX)).decode("ascii")
        except BadEvent:
            return '<span class="no-picture">no picture</span>'
        return f'<img alt="{escape(item.title)}" src="data:image/jpeg;base64,{small}">'
    return '<span class="no-picture">no picture</span>'


def _price(item: ShownItem) -> str:
    if item.price is None:
        return ""
    was = ""
    if item.on_sale and item.list_price is not None and item.list_price > item.price:
        was = f" <s>{item.list_price:,.2f}</s>"
    return f'<p class="price{" reduced" if item.on_sale else ""}">{item.price:,.2f}{was}</p>'


def _stock(item: ShownItem) -> str:
    badges = []
    if item.on_sale:
        badges.append('<span class="badge sale">on sale</span>')
    if item.out_of_stock:
        badges.append('<span class="badge out">sold out</span>')
    elif item.low_stock:
        badges.append(
            f'<span class="badge low">only {_count(item.stock)} left</span>'
            if item.stock is not None
            else '<span class="badge low">low stock</span>'
        )
    elif item.stock is not None:
        badges.append(f'<span class="in-stock">{_count(item.stock)} in stock</span>')
    return f'<p class="badges">{"".join(badges)}</p>' if badges else ""


def _scores(item: ShownItem) -> str:
    if item.score is None:
        return ""
    rank, factor = "", ""
    if item.rank_score is not None:
        rank = f'<span title="_rankScore: after rules">ranks <b>{item.rank_score:.1f}</b></span>'
        if item.score > 0 and abs(item.rank_score / item.score - 1) > 0.005:
            sort = "raised" if item.rank_score > item.score else "lowered"
            factor = f'<span class="factor {sort}">×{item.rank_score / item.score:.2f}</span>'
    bar = f'<span class="bar" aria-hidden="true"><i style="width:{min(100.0, max(0.0, item.score)):.0f}%"></i></span>'
    looks = f'<span title="_score: how alike it looks">looks <b>{item.score:.1f}</b></span>'
    return f'<p class="scores">{looks}{factor}{rank}</p>{bar}'


def _count(stock: float) -> str:
    return f"{stock:,.0f}" if float(stock).is_integer() else f"{stock:,.1f}"


def _time(ms: float) -> str:
    return f"{ms / 1000:.1f} s" if ms >= 1000 else f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"
