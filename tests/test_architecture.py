"""What holds the packages and the folders of `streams/` apart, and the style that matters enough to be checked."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
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
    "confluent_kafka": "streams/brokers/embedded.py",
}
"""What is imported in one file only."""

OUTSIDE = {"aiohttp", "aiokafka", "asyncio", "click", "faust", "mode", "prometheus_client", "rich", "socket"}
"""What knows of Kafka, of the network, of terminals: for `streams/` alone."""

STAGES = {"streams.track.stage", "streams.embed.stage", "streams.index.stage", "streams.serve.stage"}
FOLDERS = {
    "brokers": set(),
    "kafka": set(),
    "web": set(),
    "track": {"kafka"},
    "embed": {"kafka"},
    "index": {"kafka"},
    "serve": {"embed", "kafka", "web"},
    "watch": {"kafka", "serve", "web"},
    "gateway": {"embed", "kafka", "serve", "web"},
    "publishing": {"kafka"},
    "reports": {"embed", "kafka", "watch"},
    "trials": {"gateway", "kafka", "reports", "serve", "web"},
    "demo": {"brokers", "kafka", "publishing", "reports"},
    "commands": {"brokers", "demo", "kafka", "publishing", "reports", "trials", "watch"},
}
"""The folders of `streams/`, and which others each of them imports."""

ON_FOLDERS = {"client": {"kafka"}, "worker": {*FOLDERS} - {"brokers", "commands", "demo", "publishing", "reports"}}
"""The files beside them that are made of folders; all others are what folders are made of, and import none."""

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


def part(module: str) -> str:
    """The folder of `streams/` that a module is in, or the file of its own beside them."""
    return module.split(".")[1]


def parts_imported(of: str) -> set[str]:
    """The other folders and files of `streams/` that one of them imports."""
    modules = {module_name(path): path for path in PRODUCT if module_name(path).startswith("streams.")}
    named = {name for module, path in modules.items() if part(module) == of for name in imports(path)}
    return {part(name) for name in named & modules.keys()} - {of}


def test_arrows_between_folders() -> None:
    """Each folder of streams imports just those that are named for it here, and none of them comes back to it."""
    folders = {path.name for path in (ROOT / "streams").iterdir() if (path / "__init__.py").is_file()}

    assert FOLDERS == {name: parts_imported(name) & folders for name in folders}
    assert folders == set(TopologicalSorter(FOLDERS).static_order())


def test_files_beside_the_folders() -> None:
    """What all folders are made of imports none of them; what is made of folders is for demo and commands alone."""
    files = {path.stem for path in (ROOT / "streams").glob("*.py")} - {"__init__"}
    on_folders = {name: parts_imported(name) & FOLDERS.keys() for name in files}

    assert ON_FOLDERS == {name: folders for name, folders in on_folders.items() if folders}
    assert {"demo", "commands"} == {name for name in FOLDERS if parts_imported(name) & ON_FOLDERS.keys()}


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
    assert path.parent.name not in path.stem.split("_"), "its folder says that already"
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
