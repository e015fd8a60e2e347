"""The demo: what it chooses, shows and judges; and the whole of it, run as a visitor would, leaving nothing behind."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from models.embedder import SHIPPED, Embedder
from models.image import decode
from streams import topics
from streams.client import RequestFailed
from streams.commands.__main__ import main
from streams.connection import Connection
from streams.demo import steps as steps_module
from streams.demo import targets
from streams.demo.alerts import AlertListener
from streams.demo.capacity import SHIPPED_DIMENSION, bytes_of_item, items_max
from streams.demo.catalog import drawn_items, file_links
from streams.demo.display import SHOWN
from streams.demo.narrator import Narrator
from streams.demo.showcase import (
    SEED,
    Showcase,
    drawn_showcase,
    folder_records,
    folder_showcase,
    sample_records,
    spread,
)
from streams.demo.steps import LOW, SALE, LeftOut, Steps
from streams.demo.studio import draw_catalog
from streams.demo.studio import main as draw_share
from streams.demo.targets import Hit
from streams.demo.tour import run
from streams.demo.tour_steps import ShownAlert, ShownEvent, ShownItem, TourStep
from streams.demo.visitor import Answer, Seen, Visitor
from streams.reports.terminal import Terminal
from streams.settings import PREFIX, Settings
from tests.brokers import TestBroker
from tests.waiting import wait_until_sync

ROOT = Path(__file__).parents[1]

# What a tour is about.

hits = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from([1.0, SALE, LOW, SALE * LOW])), min_size=0, max_size=15
).map(
    lambda rows: sorted(
        (
            Hit(f"i{n}", score / 100, round(score * factor) / 100, factor in (SALE, SALE * LOW), factor < 1)
            for n, (score, factor) in enumerate(rows)
        ),
        key=lambda hit: -hit.rank_score,
    )
)


def place_in(found: Sequence[Hit], target: targets.Target, factor: float, *, before_equals: bool) -> int:
    """Where the target stands after all are sorted anew, before or behind its equals: the oracle."""
    again = [
        (-hit.rank_score * factor, not before_equals, hit.item_id)
        if hit.item_id == target.item_id
        else (-hit.rank_score, before_equals, hit.item_id)
        for hit in found
    ]
    return [item_id for _, _, item_id in sorted(again)].index(target.item_id)


@given(hits)
def test_a_raised_hit_moves_up_in_sight(found: list[Hit]) -> None:
    """What is chosen to go on sale is shown, not on sale yet, and rises at least as far as it is said to."""
    target = targets.to_raise(found, SHOWN, SALE)
    if target is not None:
        assert target.place < SHOWN
        assert found[target.place].item_id == target.item_id
        assert not found[target.place].on_sale
        assert place_in(found, target, SALE, before_equals=False) <= target.place_after < target.place
    else:
        for before, hit in pairwise(found[:SHOWN]):
            assert hit.on_sale or hit.rank_score * SALE <= before.rank_score + targets.MARGIN


@given(hits)
def test_a_lowered_hit_moves_down(found: list[Hit]) -> None:
    """What is chosen to run low is shown, not low yet, and falls at least as far as it is said to."""
    target = targets.to_lower(found, SHOWN, LOW)
    if target is not None:
        assert target.place < SHOWN
        assert not found[target.place].low_stock
        assert target.place < target.place_after <= place_in(found, target, LOW, before_equals=True)
    else:
        for hit, after in pairwise(found[: SHOWN + 1]):
            assert hit.low_stock or after.rank_score <= hit.rank_score * LOW + targets.MARGIN


def test_a_lowered_hit_stays_in_sight_where_one_can() -> None:
    """A hit that would fall out of sight is not chosen while another one would fall within it."""
    found = [Hit(f"i{n}", 90 - n, 90 - n) for n in range(SHOWN + 3)] + [Hit("last", 30.0, 30.0)]
    assert targets.to_lower(found, SHOWN, LOW) is not None
    found = [
        Hit("top", 100, 100),
        Hit("near", 99, 99),
        *found[2:3],
        Hit("far", 60, 60),
        *[Hit(f"x{n}", 50, 50) for n in range(9)],
    ]
    target = targets.to_lower(found, SHOWN, LOW)
    assert target is not None
    assert target.place_after < SHOWN


def test_the_source_that_shows_most_is_chosen() -> None:
    """Moves in sight and alike hits make a source better; so does an answer in which the newcomer will be seen."""
    good = [Hit("a", 90, 90), Hit("b", 85, 85), Hit("c", 80, 80), Hit("d", 60, 60)]
    dull = [Hit("a", 90, 90), Hit("b", 20, 20)]

    assert targets.best_source({"dull": dull, "good": good, "none": []}, SHOWN, SALE, LOW) == "good"
    both = {"first": good, "second": good}
    assert targets.best_source(both, SHOWN, SALE, LOW) == "first"
    assert targets.best_source(both, SHOWN, SALE, LOW, {"second": 50.0}) == "second"
    assert targets.place_of_newcomer(good, 82.0) == 2


# How much fits.


def test_a_size_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """The embedded broker's room is counted; the refusal names the largest size and the way to a real broker."""
    result = CliRunner(env={"KINDRED_BROKER": ""}).invoke(main, ["demo", "--items", "100000", "--exit"])

    assert result.exit_code == 2
    most = items_max(sample_records(100), 4, shipped_model=True)
    assert f"--items {most}" in result.output
    assert "KINDRED_BROKER" in result.output
    assert 10_000 < most < 60_000
    assert items_max(sample_records(10), 8, shipped_model=True) > items_max(sample_records(10), 4, shipped_model=True)
    assert items_max(sample_records(10), 4, shipped_model=False) < items_max(sample_records(10), 4, shipped_model=True)


def test_bytes_are_counted_by_the_vectors_of_the_shipped_model() -> None:
    """The dimension that the count rests on is the shipped model's; a longer record takes more."""
    record = sample_records(1)[0]

    assert Embedder(SHIPPED).dimension == SHIPPED_DIMENSION
    assert bytes_of_item(record | {"text": "x" * 5_000}, 128) >= bytes_of_item(record, 128) + 4_000
    assert bytes_of_item(record, 2_048) > 2_048 * 2


# The catalog.


def test_pictures_are_drawn_by_several_processes(tmp_path: Path) -> None:
    """Processes draw exactly what one would, and each picture is told of."""
    told: list[int] = []
    drawn = draw_catalog(35, SEED, tmp_path / "many", told.append)
    (tmp_path / "one").mkdir()
    expected = list(drawn_items(35, SEED, file_links(tmp_path / "one")))

    assert [(item.item_id, item.record) for item in drawn] == [(item.item_id, item.record) for item in expected]
    assert sum(told) == 35
    for item in expected:
        assert (tmp_path / "many" / item.record["image"]).read_bytes() == item.picture


def test_a_folder_that_is_gone_stays_gone(tmp_path: Path) -> None:
    """A drawing process that starts after the demo was stopped leaves no folder behind."""
    with pytest.raises(FileNotFoundError):
        draw_share([str(tmp_path / "gone"), str(SEED), "0", "1", "1"])
    assert not (tmp_path / "gone").exists()


def test_a_failure_to_draw_is_told(tmp_path: Path) -> None:
    """A drawing process that fails ends the drawing with what it wrote."""
    (tmp_path / "file").write_text("")
    with pytest.raises((RuntimeError, FileExistsError, NotADirectoryError)):
        draw_catalog(3, SEED, tmp_path / "file" / "below", lambda count: None)


def test_one_more_of_a_line_is_drawn(tmp_path: Path) -> None:
    """The item that comes in is new, has a picture, and is of the kind and line of the one it is to look like."""
    shop = drawn_showcase(20, tmp_path, lambda count: None)
    source = shop.sources[0]
    new = shop.draw_like(source)

    assert new["objectID"] not in shop.records
    assert new["category"] == shop.records[source]["category"]
    picture = shop.picture(new)
    assert picture is not None
    assert decode(picture, 64).shape == (64, 64, 3)
    assert picture != shop.picture(shop.records[source])


def test_of_a_folder_one_picture_is_kept_back(tmp_path: Path) -> None:
    """A picture that can be shown is kept back; the others are the catalog, broken ones included."""
    pictures = [item.picture for item in drawn_items(4, SEED)]
    for number, content in enumerate([pictures[0], pictures[1], b"broken", pictures[2]]):
        (tmp_path / f"{number}.jpg").write_bytes(content)
    records = folder_records(tmp_path)
    shop = folder_showcase(records, tmp_path)

    assert len(folder_records(tmp_path, 2)) == 2
    assert shop.newcomer is not None
    assert shop.newcomer["objectID"] == "3.jpg"
    assert sorted(shop.records) == ["0.jpg", "1.jpg", "2.jpg"]
    (tmp_path / "0.jpg").unlink()
    assert shop.picture(shop.records["0.jpg"]) is None


def test_of_pictures_that_cannot_be_shown_none_is_kept_back(tmp_path: Path) -> None:
    """A folder of broken files has no newcomer."""
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"broken")
    assert folder_showcase(folder_records(tmp_path), tmp_path).newcomer is None


@given(st.lists(st.integers(), max_size=40), st.integers(1, 50))
def test_a_part_is_spread_evenly(things: list[int], count: int) -> None:
    """So many of the things, in their order, from all of their range."""
    part = spread(list(enumerate(things)), count)

    assert len(part) == min(count, len(things))
    assert part == sorted(part)
    if 1 < count < len(things):
        gaps = [after - before for (before, _), (after, _) in pairwise(part)]
        assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("count", [0, 2])
def test_a_folder_with_too_few_pictures_is_refused(tmp_path: Path, count: int) -> None:
    """With nothing to show the demo says so, before it starts anything."""
    for item in drawn_items(count, SEED):
        (tmp_path / f"{item.item_id}.jpg").write_bytes(item.picture)
    result = CliRunner(env={"KINDRED_BROKER": ""}).invoke(main, ["demo", "--images", str(tmp_path)])

    assert result.exit_code == 1
    assert f"has {count}" in result.output


# The steps, against a shop that does as it is told, or wrongly.


class FakeShop(Visitor):
    """Answers as Kindred would, from scores alone; `wrong` names what it gets wrong."""

    def __init__(self, records: dict[str, dict[str, Any]], scores: dict[str, float], wrong: str = "") -> None:
        self.records = {item_id: dict(record) for item_id, record in records.items()}
        self.scores = scores
        self.wrong = wrong
        self.sent: list[ShownEvent] = []

    async def ask(self, item_id: str, count: int, *, out_of_stock: bool = False) -> Answer:
        if item_id not in self.records and self.wrong != "deleted":
            raise RequestFailed(f"item {item_id!r} is not known", 404)
        if self.wrong == "silent":
            raise RequestFailed("not now", 503)
        found = [self.hit(each) for each in self.records if each != item_id]
        found = [hit for hit in found if out_of_stock or not hit["out_of_stock"] or self.wrong == "sold"]
        found.sort(key=lambda hit: (-hit["_rankScore"], hit["objectID"]))
        return Answer(tuple(found[:count]), ("default",), 2.0)

    def hit(self, item_id: str) -> dict[str, Any]:
        record = self.records[item_id]
        stock = record["stock"]
        on_sale, low = record["price"] < record["list_price"], 0 < stock <= 5
        factor = (SALE if on_sale and self.wrong != "factor" else 1) * (LOW if low and self.wrong != "factor" else 1)
        score = self.scores[item_id] - (3 if on_sale and self.wrong == "score" else 0)
        return record | {
            "on_sale": on_sale,
            "low_stock": low,
            "out_of_stock": stock <= 0,
            "_score": score,
            "_rankScore": round(score * factor, 2),
        }

    async def send_and_see(self, event: ShownEvent, ask: Callable[[], Any], shows: Callable[[Answer], bool]) -> Seen:
        topic, key, value = event.topic, event.key, event.value
        if topic == topics.STOCK_LEVELS:
            self.records[key] = self.records[key] | {"stock": value["quantity"]}
        elif value is None:
            self.records.pop(key)
        elif key not in self.records and self.wrong == "new":
            pass
        else:
            self.records[key] = value
            self.scores.setdefault(key, 75.0)
        answer = await ask()
        alert = ShownAlert(key, {"objectID": key, "alert": event.alert, "at": 1}, 5.0)
        after_ms = (2_000.0 if self.wrong == "late" else 20.0) if shows(answer) else None
        return Seen(answer, after_ms, alert if self.wrong != "no alert" else None)


def tour(tmp_path: Path, scores: Sequence[float], wrong: str = "") -> list[TourStep | LeftOut]:
    """All steps on a shop of plain items with these scores, asked for an item of its own."""
    names = [f"i{number}" for number in range(len(scores))]
    records = {
        name: {"objectID": name, "title": f"Item {name}", "price": 10.0, "list_price": 10.0, "stock": 20, "image": "x"}
        for name in ("source", *names)
    }
    newcomer = records["source"] | {"objectID": "new", "title": "New"}
    shop = FakeShop(records, dict(zip(names, scores, strict=True)) | {"source": 100.0}, wrong)
    steps = Steps(shop, Showcase(tmp_path, records, newcomer), "source")

    async def all_steps() -> list[TourStep | LeftOut]:
        return [await steps.take(step) for step in steps.all]

    return asyncio.run(all_steps())


SCORES = (90.0, 88.0, 80.0, 79.0, 70.0, 60.0, 50.0, 40.0, 30.0)


def test_all_steps_come_out_of_a_shop_that_does_as_told(tmp_path: Path) -> None:
    """Each step has its event, its rows before and after, the item in focus moved as the event wants it."""
    taken = tour(tmp_path, SCORES)
    assert all(isinstance(step, TourStep) and step.passed for step in taken), taken
    asked, sale, low, sold, deleted, new = [step for step in taken if isinstance(step, TourStep)]

    def place(rows: tuple[ShownItem, ...] | None) -> int | None:
        return next((number for number, item in enumerate(rows or ()) if item.in_focus), None)

    assert asked.before is None
    assert len(asked.after) == SHOWN
    assert place(sale.after) is not None
    assert (place(sale.before) or 0) > (place(sale.after) or 0)
    assert (place(low.after) or 0) > (place(low.before) or 0)
    assert sold.events[0].key == low.events[0].key
    for gone in (sold, deleted):
        assert place(gone.before) is not None
        assert place(gone.after) is None
    assert deleted.events[0].value is None
    assert place(new.before) is None
    assert place(new.after) is not None
    alerts = [step.alert and step.alert.value["alert"] for step in (asked, sale, low, sold, deleted, new)]
    assert alerts == [None, "on_sale", "low_stock", "out_of_stock", "gone", "new"]
    assert "on_sale:true ×1.15" in sale.reason
    assert "404" in deleted.reason


@pytest.mark.parametrize(
    ("wrong", "failed", "said"),
    [
        ("factor", {1, 2}, "expected a rank score"),
        ("score", {1}, "expected its score to stay"),
        ("sold", {3}, "still recommended"),
        ("deleted", {4}, "answered with 404"),
        ("new", {5}, "is not"),
        ("late", {5}, "within 1000 ms"),
        ("no alert", {1, 2, 3, 4, 5}, "on item-alerts, and it did not come"),
        ("silent", {0, 1, 2, 3, 4, 5}, "A request failed: not now"),
    ],
)
def test_a_step_that_comes_out_otherwise_has_not_passed(
    tmp_path: Path, wrong: str, failed: set[int], said: str
) -> None:
    """Every check finds the fault it is there for, and says what was expected."""
    taken = tour(tmp_path, SCORES, wrong)
    not_passed = {number for number, step in enumerate(taken) if isinstance(step, TourStep) and not step.passed}

    assert failed <= not_passed
    assert all(said in taken[number].reason for number in failed)
    assert wrong in ("silent", "factor", "score") or failed == not_passed


def test_what_cannot_be_seen_is_left_out(tmp_path: Path) -> None:
    """With hits too few or too far apart for a factor to move one, the step says so instead of failing."""
    far, alone, none = tour(tmp_path, (90.0, 20.0)), tour(tmp_path, (50.0,)), tour(tmp_path, ())

    assert [number for number, step in enumerate(far) if isinstance(step, LeftOut)] == [1, 2]
    assert [number for number, step in enumerate(alone) if isinstance(step, LeftOut)] == [1, 2, 4]
    assert all(isinstance(step, LeftOut) for step in none[1:5])
    assert all(step.passed for step in (*far, *alone) if isinstance(step, TourStep))


# What is said.


def test_a_step_is_told_as_text() -> None:
    """On a pipe: rank, former rank and move of each hit, what vanished at its old place, no control characters."""
    hostile = "Bad \x1b[31m\u202e title [bold]x[/bold] " + "long " * 30
    kept, gone = ShownItem("a", hostile, price=5.0, stock=3, score=90.0, rank_score=63.0, low_stock=True), "b"
    left = ShownItem(gone, "Gone", in_focus=True, score=95.0, rank_score=95.0)
    out = io.StringIO()
    narrator = Narrator(Terminal(out, io.StringIO()))
    event = ShownEvent("catalog-changes", gone, None)
    alert = ShownAlert(gone, {"objectID": gone, "alert": "gone", "at": 7}, 12.4)
    shown = (None, (left, kept), (kept,), (("to see", 84.2),), alert)
    narrator.step(5, TourStep("It goes", "Because.", (event,), *shown))
    narrator.left_out(6, LeftOut("No step", "Too few."))
    narrator.verdict(5, 1, 1)
    lines = out.getvalue().splitlines()

    assert all(line.isprintable() and len(line) <= 120 for line in lines)
    assert any("catalog-changes ← b  null  (a tombstone)" in line for line in lines)
    assert '   item-alerts → b  after 12 ms  {"alert": "gone", …}' in lines
    rows = [line.split() for line in lines if "✕ gone" in line or "▲ 1" in line]
    assert [["1", "✕", "gone", "b", "Gone"], ["1", "2", "▲", "1", "a"]] == [row[:5] for row in rows]
    assert any("low 3" in line and "…" in line for line in lines)
    assert any("✓ 84 ms to see. Because." in line for line in lines)
    assert any("not shown: Too few." in line for line in lines)
    assert any("1 of 5 steps did not come out" in line for line in lines)


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_table_fits_its_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On 80 columns only ids and titles are cut; every number, move and mark is there whole."""
    monkeypatch.setenv("COLUMNS", str(width))
    out = io.StringIO()
    terminal = Terminal(out, io.StringIO())
    terminal._console._force_terminal = True
    narrator = Narrator(terminal)
    marks: dict[str, Any] = {"price": 1_046.36, "stock": 12, "score": 100.0, "rank_score": 115.0, "on_sale": True}
    before = [
        ShownItem(f"dresses/{n}-of-a-long-name.jpg", f"A dress of a long name, number {n}", **marks) for n in range(7)
    ]
    gone = ShownItem("cushion-001", "A cushion of a long name", in_focus=True, low_stock=True, **marks)
    narrator.step(1, TourStep("Step", "Why.", before=(*before[:3], gone, *before[3:]), after=tuple(before)))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()

    assert all(len(line) <= width for line in shown)
    rows = [line for line in shown if "115.0" in line]
    assert len(rows) == 8
    assert all("sale 1,046.36" in row and "100.0" in row for row in rows)
    assert ["✕ gone" in row and "low 12" in row for row in rows].count(True) == 1
    assert sum("▲ 1" in row for row in rows) == 4
    assert "ranks" in " ".join(shown) if width == 80 else "rank score" in " ".join(shown)


# The whole of it.


def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of a visitor without any setting, whose temporary files can be seen."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    (tmp_path / "tmp").mkdir()
    (tmp_path / "here").mkdir()
    return kept | {"TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "110"}


def start(tmp_path: Path, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
    """The demo as a person's shell starts it: with Ctrl-C heard, which whoever runs the tests may have ignored."""
    command = ["env", "--default-signal=INT", sys.executable, "-m", "streams.commands", "demo", *arguments]
    return subprocess.Popen(command, cwd=tmp_path / "here", env=environment(tmp_path), **more)


def nothing_left(tmp_path: Path, output: str) -> bool:
    """Whether the worker that the output names has ended, and the temporary folder is empty."""
    (worker,) = {int(number) for number in re.findall(r"all stages, process (\d+)", output)}

    def gone() -> bool:
        return not Path(f"/proc/{worker}").exists() and not list((tmp_path / "tmp").iterdir())

    return wait_until_sync(gone, 10, lambda: f"the end of {worker} and of {list((tmp_path / 'tmp').rglob('*'))}")


class Screen:
    """A terminal of its own for a command, read as it goes."""

    def __init__(self) -> None:
        self.mine, self.its = pty.openpty()
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while part := os.read(self.mine, 65_536):
                self.text += part.decode(errors="replace")
        except OSError:
            pass  # the other side is closed

    @property
    def plain(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text).replace("\r\n", "\n")

    def wait_for(self, text: str, demo: subprocess.Popen[bytes], deadline_s: float = 150.0) -> None:
        def there() -> bool:
            assert text in self.plain or demo.poll() is None, f"ended with {demo.poll()}:\n{self.plain}"
            return text in self.plain

        wait_until_sync(there, deadline_s, lambda: f"{text!r} on the screen:\n{self.plain}")


def test_on_a_terminal_it_stays_up_until_ctrl_c(tmp_path: Path) -> None:
    """After the tour the commands that it prints work as they stand; Ctrl-C ends it with the tour's own status."""
    screen = Screen()
    demo = start(
        tmp_path, "--items", "60", stdin=screen.its, stdout=screen.its, stderr=screen.its, start_new_session=True
    )
    try:
        screen.wait_for("web page", demo)
        shown = screen.plain
        for command in re.findall(r"^   (kindred (?:similar|item) .*)$", shown, re.MULTILINE):
            (export,) = re.findall(r"^   (export .*)$", shown, re.MULTILINE)
            asked = subprocess.run(["bash", "-c", f"{export}; {command}"], capture_output=True, text=True, check=False)
            assert asked.returncode == 0, asked.stderr
            assert asked.stdout.count("\n") > 3
        os.kill(demo.pid, signal.SIGINT)
        code = demo.wait(90)
    finally:
        demo.kill()
        os.close(screen.its)

    assert code == (0 if "✓ all 6 steps came out" in shown else 1)
    assert "stopped; nothing is left behind" in screen.plain
    assert "Traceback" not in screen.plain
    assert (tmp_path / "here" / "demo.html").read_text().count('class="step"') == 6
    assert nothing_left(tmp_path, screen.plain)


@pytest.mark.parametrize("at", ["process", "1  What looks like"])
def test_a_stop_in_the_middle_leaves_nothing_behind(tmp_path: Path, at: str) -> None:
    """SIGTERM while it draws, and while it shows: status 130, worker and temporary files gone."""
    output = tmp_path / "output"
    with output.open("wb") as file:
        demo = start(tmp_path, "--items", "40", stdout=file, stderr=file)
        try:
            wait_until_sync(lambda: at in output.read_text() or demo.poll() is not None, 150, output.read_text)
            demo.send_signal(signal.SIGTERM)
            demo.send_signal(signal.SIGINT)
            code = demo.wait(90)
        finally:
            demo.kill()

    assert code == 130, output.read_text()
    assert "Traceback" not in output.read_text()
    assert nothing_left(tmp_path, output.read_text())


def test_a_worker_that_dies_ends_the_demo_with_its_log(tmp_path: Path) -> None:
    """The end of the worker's log is shown, the status is 1, nothing is left behind."""
    output = tmp_path / "output"
    with output.open("wb") as file:
        demo = start(tmp_path, "--items", "40", stdout=file, stderr=file)
        try:
            wait_until_sync(lambda: "1  What" in output.read_text() or demo.poll() is not None, 150, output.read_text)
            (worker,) = re.findall(r"all stages, process (\d+)", output.read_text())
            os.kill(int(worker), signal.SIGKILL)
            code = demo.wait(30)
        finally:
            demo.kill()

    assert code == 1, output.read_text()
    assert "the worker ended with status -9; the end of its log" in output.read_text()
    assert "kindred-track: took over" in output.read_text()
    assert nothing_left(tmp_path, output.read_text())


def test_a_folder_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Sub-folders become categories, a picture that cannot be used is told with its reason, all steps come out."""
    monkeypatch.setattr(steps_module, "NEW_ITEM_MS_MAX", 60_000.0)  # a busy machine is no failure
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my shop"
    for item in drawn_items(30, SEED):
        (folder / item.record["category"]).mkdir(parents=True, exist_ok=True)
        (folder / item.record["category"] / f"{item.record['title']}.jpg").write_bytes(item.picture)
    (folder / "broken one.jpg").write_bytes(b"not a picture")

    code = run(Settings(), items=None, images=folder, exit_at_end=True)
    shown, _ = capfd.readouterr()

    assert code == 0, shown
    told = re.findall(r'^   item-alerts → .* after [\d.]+ m?s  {"alert": "(\w+)", …', shown, re.MULTILINE)
    assert told[-3:] == ["out_of_stock", "gone", "new"]
    assert "29 of 30 items can be recommended" in shown
    assert "broken one.jpg: expected a JPEG" in shown
    assert (tmp_path / "demo.html").read_text().count('class="step"') + shown.count("not shown") == 6
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == sorted(
        ["broken one.jpg", *(f"{item.record['title']}.jpg" for item in drawn_items(30, SEED))]
    )


def test_a_page_that_cannot_be_written_costs_no_more_than_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """How the tour came out is told, then that there is no page of it; the status says it, too."""
    monkeypatch.setattr(steps_module, "NEW_ITEM_MS_MAX", 60_000.0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.html").mkdir()

    code = run(Settings(), items=40, images=None, exit_at_end=True)
    shown, errors = capfd.readouterr()

    assert code == 1, shown
    assert re.search(r"✓ all \d steps came out", shown)
    assert "side by side" not in shown
    assert f"error: {tmp_path}/demo.html cannot be written: Is a directory" in errors
    assert "Traceback" not in shown + errors


async def test_alerts_are_heard_from_the_listening_on(broker: TestBroker, topic_prefix: str) -> None:
    """Of an item only the alert of that name and of that time counts; what was there before and what is none do not."""
    topic = f"{topic_prefix}{topics.ITEM_ALERTS}"
    await broker.create_topics({topic: 2})
    connection = Connection(broker.bootstrap)
    producer = await connection.started(connection.producer, "test")

    async def send(value: Any) -> None:
        await producer.send_and_wait(topic, None if value is None else orjson.dumps(value), key=b"a")

    try:
        await send({"objectID": "a", "alert": "gone", "at": 1})
        async with AlertListener(connection, Settings(topic_prefix=topic_prefix)) as alerts:
            await producer.send_and_wait(topic, b"{no json", key=b"a")
            for value in (None, ["gone"], {"objectID": "b", "alert": "gone"}, {"objectID": "a", "alert": "new"}):
                await send(value)
            heard = await alerts.alert("a", "new", 0.0, 30)
            assert await alerts.alert("a", "gone", 0.0, 0.01) is None
            await send({"objectID": "a", "alert": "gone", "at": 2})
            gone = await alerts.alert("a", "gone", 0.0, 30)
            assert heard is not None
            assert gone is not None
            assert gone.value["at"] == 2
            assert await alerts.alert("a", "new", gone.read_s + 1, 0.01) is None
    finally:
        await producer.stop()


@pytest.mark.needs_kafka
async def test_a_configured_broker_keeps_nothing_of_it(
    broker: TestBroker,
    topic_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """On a real broker the demo has topics of its own under the visitor's prefix, and deletes them."""
    monkeypatch.setattr(steps_module, "NEW_ITEM_MS_MAX", 60_000.0)
    monkeypatch.chdir(tmp_path)
    settings = Settings(broker=broker.bootstrap, topic_prefix=topic_prefix)
    code = await asyncio.to_thread(run, settings, items=40, images=None, exit_at_end=True)
    shown, _ = capfd.readouterr()

    assert code == 0, shown
    assert f"topics {topic_prefix}demo-" in shown
    connection = Connection(broker.bootstrap)
    admin = await connection.started(connection.admin, "test")
    try:
        assert [name for name in await admin.list_topics() if name.startswith(topic_prefix)] == []
    finally:
        await admin.close()
