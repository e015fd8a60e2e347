"""What holds the three packages apart, and the style that matters enough to be checked."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "indexes", "streams")
PRODUCT = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").glob("*.py"))

MAY_IMPORT = {"models": {"models"}, "indexes": {"models", "indexes"}, "streams": {"models", "indexes", "streams"}}
"""The arrows: streams → indexes → models."""

HOME = {
    "annoy": "indexes/segment.py",
    "onnxruntime": "models/embedder.py",
    "PIL": "models/image.py",
    "confluent_kafka": "streams/embedded_broker.py",
}
"""What is imported in one file only."""

OUTSIDE = {"aiohttp", "aiokafka", "asyncio", "click", "faust", "mode", "prometheus_client", "rich", "socket"}
"""What knows of Kafka, of the network, of terminals: for `streams/` alone."""

STAGES = {"streams.track", "streams.embed", "streams.index", "streams.serve"}
LINES_MAX = 330
CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
NO_NAMES = re.compile(r"(?:^|_)(?:utils?|helpers?|common|managers?|misc|stuff|base)(?:_|$)")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, only_at_import: bool = False) -> Iterator[str]:
    """Full names of the modules that a file imports, and of what it takes from them; `TYPE_CHECKING` counts too."""
    module = tree(path)
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    for node in _at_import(module) if only_at_import else ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*up, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _at_import(module: ast.Module) -> Iterator[ast.AST]:
    """The statements that run when a module is imported."""
    waiting: list[ast.AST] = list(module.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", PRODUCT, ids=relative)
def test_arrows_between_packages(path: Path) -> None:
    """streams may import indexes and models, indexes models, models neither; none of them tests or bench."""
    ours = {name for name in roots(path) if name in {*PACKAGES, "tests", "bench"}}

    assert set() == ours - MAY_IMPORT[path.relative_to(ROOT).parts[0]]


@pytest.mark.parametrize("library", HOME)
def test_one_home(library: str) -> None:
    """A library with one home is imported nowhere else."""
    assert {HOME[library]} >= {relative(path) for path in PRODUCT if library in roots(path)}


@pytest.mark.parametrize("path", [path for path in PRODUCT if not relative(path).startswith("streams/")], ids=relative)
def test_the_core_knows_nothing_outside(path: Path) -> None:
    """models and indexes import neither Kafka nor network nor loop nor terminal, and read no clock."""
    assert set() == roots(path) & OUTSIDE

    called = {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}
    assert set() == {name for name in called if any(name == clock or name.endswith(f".{clock}") for clock in CLOCKS)}


def test_stages_meet_on_topics_only() -> None:
    """No stage imports another, not even by way of a third module."""
    direct = {module_name(path): set(imports(path)) for path in PRODUCT}

    for stage in STAGES & direct.keys():
        reached: set[str] = set()
        waiting = [stage]
        while waiting:
            for name in direct[waiting.pop()] & direct.keys() - reached:
                reached.add(name)
                waiting.append(name)
        assert set() == reached & (STAGES - {stage}), f"{stage} reaches another stage"


def test_no_circles() -> None:
    """Modules of ours do not import each other in a circle."""
    direct = {module_name(path): set(imports(path, only_at_import=True)) for path in PRODUCT}
    graph = {name: {other for other in named & direct.keys() if other != name} for name, named in direct.items()}
    for name in [name for name in graph if (ROOT / name.replace(".", "/") / "__init__.py").is_file()]:
        del graph[name]  # a package is imported with every module in it; that is no circle of ours
    left = dict(graph)
    while free := [name for name, named in left.items() if not named & left.keys()]:
        for name in free:
            del left[name]

    assert {} == {name: named & left.keys() for name, named in left.items()}


@pytest.mark.parametrize("path", PRODUCT, ids=relative)
def test_a_file_is_one_noun_and_short(path: Path) -> None:
    """No file is longer than 330 lines, none has a name that tells nothing, each begins by saying what it is."""
    lines = len(path.read_text().splitlines())
    assert lines <= LINES_MAX
    assert not NO_NAMES.search(path.stem)
    if path.read_text().strip():
        assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", [*PRODUCT, *TESTS], ids=relative)
def test_nothing_is_left_for_some_day(path: Path) -> None:
    """No file says what it will be: there are no marks for work to come."""
    marks = re.findall(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b", path.read_text())

    assert [] == marks


def functions_of_tests(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_every_test_says_what_it_specifies(path: Path) -> None:
    """Each test has a docstring: read one after the other they are the specification."""
    assert [] == [node.name for node in functions_of_tests(path) if not ast.get_docstring(node)]


@pytest.mark.parametrize("path", [path for path in TESTS if path.name != "waiting.py"], ids=relative)
def test_no_test_waits_for_a_while(path: Path) -> None:
    """Tests wait for the thing itself (tests/waiting.py), so none sleeps; giving way with sleep(0) is no sleep."""
    sleeps = [
        node.lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep", "sleep"}
        and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    ]

    assert [] == sleeps


def test_tests_are_flat() -> None:
    """A folder tests/models/ would hide the package models."""
    assert [] == [relative(path) for path in (ROOT / "tests").rglob("*.py") if path.parent != ROOT / "tests"]
