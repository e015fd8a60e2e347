"""The benchmarks' command line, tables and statistics, and a tiny run of what needs no broker.  No figure is judged."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest

from bench.__main__ import RESULTS, TABLES, chosen, main, write
from bench.embed import Bare
from bench.embeddings import many_vectors
from bench.environment import environment, environment_line
from bench.freshness import Seen
from bench.ground import loaded_record
from bench.index import _recall
from bench.meter import Meter, cpu_s, memory_bytes, p50, p99, ratio
from bench.report import Goal, Row, Table, figure
from bench.rules import asked_each_time, elsewhere, touching
from bench.stock import Levels
from models.embedder import Embedder
from models.image import encode_jpeg
from models.rules import DEFAULT_RULE, RuleBook
from models.vectors import unit
from streams import topics
from streams.reports.terminal import Terminal
from tests.installation import ROOT
from tests.waiting import wait_until_sync


def test_all_tables_by_default_and_each_once_in_order() -> None:
    """Without names every table runs; named ones run once each, in the order of the list."""
    assert list(TABLES) == chosen([]).tables
    assert ["stock", "index"] == chosen(["index", "stock", "index"]).tables
    assert not chosen([]).quick
    assert chosen(["embed", "--quick"]).quick


def test_an_unknown_table_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    """A table that there is not ends with status 2 and the names of those that there are."""
    with pytest.raises(SystemExit) as ended:
        chosen(["speed"])

    assert 2 == ended.value.code
    assert (
        "'speed'; choose from stock, freshness, requests, gateway, embed, index, watch, rules"
        in capsys.readouterr().err
    )


def test_every_table_has_a_module() -> None:
    """Each name stands for a file of its own beside the command."""
    assert [] == [name for name in TABLES if not (RESULTS.parent / f"{name}.py").is_file()]


@pytest.mark.parametrize(
    ("goal", "value", "text", "met"),
    [
        (Goal(at_least=0.5), 0.5, ">= 0.500×", True),
        (Goal(at_least=0.5), 0.49, ">= 0.500×", False),
        (Goal(at_most=1.2), 1.3, "<= 1.20×", False),
        (Goal(at_most=1.2), float("nan"), "<= 1.20×", False),
        (Goal(at_least=1, at_most=2), 1.5, ">= 1.00× <= 2.00×", True),
        (Goal(at_least=8_000, column="/s"), 9_000, ">= 8,000", True),
    ],
)
def test_a_goal_says_its_bounds_and_who_meets_them(goal: Goal, value: float, text: str, met: bool) -> None:
    """Bounds count as within; what is not a number meets nothing."""
    goal_of_ratio = Goal(goal.at_least, goal.at_most)

    assert text == str(goal).replace("1×", "1.00×").replace("2×", "2.00×")
    assert met == goal.met(value)
    assert ("met" if met else "missed") == Row("x", {}, value, goal_of_ratio).verdict


def test_verdicts() -> None:
    """A goal judges the ratio, or the column that it names; without a number or a goal there is no verdict."""
    assert "met" == Row("x", {"/s": 10}, 0.1, Goal(at_least=5, column="/s")).verdict
    assert "" == Row("x", {}, None, Goal(at_least=5)).verdict
    assert "" == Row("x", {}, 3.0).verdict


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), ("a", "a"), (0, "0"), (0.0, "0"), (7, "7"), (0.0123, "0.012"), (1.234, "1.23"), (12.34, "12.3")],
)
def test_figures_have_the_digits_that_count(value: float | str | None, text: str) -> None:
    """Three digits that count, whole numbers as they are."""
    assert text == figure(value)


def test_large_figures_have_commas() -> None:
    """Thousands are told apart."""
    assert "123,457" == figure(123_456.7)
    assert "8,000" == figure(8000)


def _table() -> Table:
    table = Table("stock", "levels", ["events/s", "CPU us"], notes=["a note"])
    table.add("bare", {"events/s": 200_000.4, "CPU us": 2.5})
    table.add("track", {"events/s": 90_000}, ratio=0.45, goal=Goal(at_least=0.5))
    return table


def test_a_table_on_a_pipe_has_its_cells_between_tabs() -> None:
    """On a pipe every column keeps its place, missing figures too."""
    out = io.StringIO()
    _table().show(Terminal(out, io.StringIO()))

    assert [
        "stock: levels",
        "\tevents/s\tCPU us\tratio\tgoal\tverdict",
        "bare\t200,000\t2.50\t\t\t",
        "track\t90,000\t\t0.450×\t>= 0.500×\tmissed",
        "  a note",
        "",
    ] == out.getvalue().splitlines()


def test_a_table_as_json_is_unrounded() -> None:
    """Programs get the figures as they were measured."""
    told = orjson.loads(orjson.dumps(_table().json()))

    assert {"events/s": 200_000.4, "CPU us": 2.5} == told["rows"][0]["figures"]
    assert {"ratio": 0.45, "goal": ">= 0.500×", "verdict": "missed"}.items() <= told["rows"][1].items()


def test_a_figure_without_a_column_is_refused() -> None:
    """A misspelt column is an error, not a figure that nobody sees."""
    with pytest.raises(ValueError, match="stock has no column event/s"):
        _table().add("x", {"event/s": 1})


def test_results_that_are_no_numbers_become_null(tmp_path: Path) -> None:
    """JSON has no NaN; NumPy's numbers are written as numbers."""
    write(tmp_path / "r.json", {"a": float("nan"), "b": np.float32(0.5)})

    assert {"a": None, "b": 0.5} == orjson.loads((tmp_path / "r.json").read_bytes())


def test_ratio_is_the_median_of_the_rounds() -> None:
    """A disturbed round disturbs both of its parts, and one that is far off does not count."""
    assert 2 == ratio([2, 4, 900], [1, 2, 3])


def test_percentiles_of_nothing_are_no_number() -> None:
    """What was never seen has no p50."""
    assert np.isnan([p50([]), p99([])]).all()
    assert 2 == p50([1, 2, 3])


def test_clocks_of_this_process() -> None:
    """CPU and memory of a process are read from the kernel, and only go on."""
    meter = Meter(os.getpid())

    assert cpu_s(os.getpid()) >= 0 <= meter.spent().cpu_s
    assert memory_bytes() > 1_000_000


def test_environment_on_one_line() -> None:
    """Cores, load and versions are told, and that a busy machine's seconds mean little."""
    found = environment() | {"cores": 2, "load_average": [5.0, 1.0, 1.0]}

    line = environment_line(found)
    assert line.startswith("2 cores of ")
    assert "load 5.0 1.0 1.0 (busy" in line
    assert "aiokafka " in line
    assert "busy" not in environment_line(found | {"load_average": [0.1, 1.0, 1.0]})


def test_levels_sell_out_and_are_filled_up() -> None:
    """Stock events go to their home, in the order of time, and few of them turn a flag."""
    levels = Levels(["a", "b", "c"])
    events = [levels.next() for _ in range(2_000)]
    told = [orjson.loads(message.value or b"") for _, message in events]

    assert all(home == topics.partition_of(message.key or b"", 4) for home, message in events)
    assert sorted({each["at"] for each in told}) == [each["at"] for each in told]
    quantities = [each["quantity"] for each in told]
    assert min(quantities) == 0
    assert 0.02 > sum(each == 0 for each in quantities) / len(quantities)


def test_many_vectors_are_real_ones_then_ones_like_them() -> None:
    """Perturbed vectors are of unit length, near a real one, and the same for the same seed."""
    rng = np.random.default_rng(0)
    real = unit(rng.standard_normal((50, 16)).astype(np.float32) + 2)
    many = many_vectors(300, real)

    assert (real == many[:50]).all()
    np.testing.assert_allclose(1, np.linalg.norm(many, axis=1), atol=1e-5)
    assert np.median((many[50:] @ real.T).max(axis=1)) > 0.85
    assert (many == many_vectors(300, real)).all()
    assert 20 == len(many_vectors(20, real))


def test_recall_counts_what_was_found_of_the_nearest() -> None:
    """Order does not matter, and too few found are too few."""
    assert 0.75 == _recall([[1, 2], [3, 4]], [[2, 1], [4]])


def test_the_middle_between_the_last_without_and_the_first_with() -> None:
    """Freshness lies between two replies; an event cannot have been seen before it was sent."""
    assert 6 == Seen(4, 8, 20).middle
    assert 4 == Seen(-3, 8, 20).middle


def test_the_bare_loop_makes_the_product_s_vectors() -> None:
    """The baseline of embedding does the same work: its vectors are the embedder's."""
    rng = np.random.default_rng(3)
    embedder = Embedder()
    pixels = np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((embedder.size // 8,) * 2 + (1,))).astype(np.uint8)
    vector = Bare().run([encode_jpeg(pixels, quality=98)])[0]

    assert embedder.dimension == len(vector)
    assert 0.98 < float(vector @ embedder.embed(pixels[None])[0])


def test_rules_of_the_benchmark_touch_what_they_should() -> None:
    """Of a large book no rule applies to the catalog's items, however they are asked; the four of the other do."""
    sources = [{name: (value,) for name, value in loaded_record(number)[1].items()} for number in range(90)]

    assert RuleBook(elsewhere(200)).applicable(sources, (), 1_700_000_000_000) == (DEFAULT_RULE,)
    assert RuleBook(asked_each_time(20)).applicable(sources, (), 0) == (DEFAULT_RULE,)
    assert len(RuleBook(touching()).applicable(sources, (), 0)) == 5


def test_a_tiny_run_without_a_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`embed`, `index` and `rules` run as a whole with few pictures and vectors, and print and write their tables."""
    from bench import embed, index, rules
    from bench.ground import Ground

    rng = np.random.default_rng(4)
    files = [encode_jpeg(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)) for _ in range(6)]
    monkeypatch.setattr(embed, "pictures", lambda count: ("random", files))
    monkeypatch.setattr(rules, "real_vectors", lambda: unit(rng.standard_normal((60, 16)).astype(np.float32)))
    monkeypatch.setattr(rules, "ITEMS", 60)
    monkeypatch.setattr(index, "real_vectors", lambda: unit(rng.standard_normal((60, 16)).astype(np.float32)))
    monkeypatch.setattr(Ground, "pick", lambda self, quick, full: min(quick, 200))
    monkeypatch.setattr("bench.__main__.RESULTS", tmp_path / "results")

    assert 0 == main(["embed", "index", "rules", "--quick", "--json", str(tmp_path / "all.json")])
    found = orjson.loads((tmp_path / "all.json").read_bytes())
    assert ["embed", "index", "rules"] == [each["name"] for each in found]
    assert ["rules", "explain"] == [table["name"] for table in found[2]["tables"]]
    recalls = [row["figures"]["recall@10"] for row in found[1]["tables"][0]["rows"] if "Kindred" in row["what"]]
    assert [1.0] * len(recalls) == recalls
    assert orjson.loads((tmp_path / "results" / "index.json").read_bytes()) == found[1]
    assert "pictures from JPEG bytes to vectors" in capsys.readouterr().out


def test_a_table_that_cannot_be_measured_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The others still run, and the status is 1."""

    async def broken(ground: object) -> list[Table]:
        await asyncio.sleep(0)
        raise RuntimeError("no pictures")

    monkeypatch.setattr("bench.embed.measure", broken)
    monkeypatch.setattr("bench.__main__.RESULTS", tmp_path)

    assert 1 == main(["embed"])
    assert "embed could not be measured" in caplog.text


@pytest.mark.skipif(
    not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="reads Linux' list of child processes"
)
def test_a_run_that_is_stopped_leaves_no_baseline_behind(tmp_path: Path) -> None:
    """SIGTERM in the middle of a table: its child ends, its folder is gone, the status is 143."""
    command = [sys.executable, "-m", "bench", "gateway", "--quick", "--broker", "127.0.0.1:1"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    listed = Path(f"/proc/{run.pid}/task/{run.pid}/children")

    def is_baseline(child: Path) -> bool:
        return child.exists() and b"bench.gateway_host" in (child / "cmdline").read_bytes()

    def baselines() -> list[Path]:
        return [each for child in listed.read_text().split() if is_baseline(each := Path(f"/proc/{child}"))]

    try:
        (baseline,) = wait_until_sync(baselines, 60, "the baseline to start")
        run.terminate()
        code = run.wait(30)
    finally:
        run.kill()
        run.wait()

    assert 128 + signal.SIGTERM == code
    wait_until_sync(lambda: not is_baseline(baseline), 10, "the baseline to end")
    assert [] == list(tmp_path.iterdir())
