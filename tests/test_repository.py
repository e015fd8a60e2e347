"""What stands in the repository: nothing of one machine, nothing large, nothing undocumented."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from dataclasses import fields
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from streams import topics
from streams.brokers.jars import kafka_version
from streams.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
BYTES_MAX = 500_000
LARGE = {"models/kindred.onnx": 10_000_000}
"""Files that may be larger, and how large: our own weights."""

TOP = {
    *(".ci", ".dockerignore", ".gitignore", "CHANGELOG.md", "Dockerfile", "LICENSE", "Makefile", "README.md"),
    *("bench", "constraints.txt", "docker-compose.yml", "docs", "indexes", "models", "pyproject.toml", "streams"),
    "tests",
}

MACHINE_PATHS = re.compile(r"(?<![\w.<-])/(?:work|root|home|Users|opt/wheels|mnt)/[\w.]")
REGISTRIES = re.compile(
    r"(?:pypi\.org|pythonhosted\.org|repo1?\.maven\.(?:apache\.)?org|repo\.maven\.apache\.org|registry\.npmjs|crates\.io|"
    r"proxy\.golang\.org|--(?:extra-)?index-url|--find-links|--trusted-host)"
)


def tracked() -> list[Path]:
    """The files under version control; those of the working tree where there is no git."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def texts() -> dict[str, str]:
    found = {}
    for path in tracked():
        if path == Path(__file__):
            continue
        content = path.read_bytes()
        if b"\0" not in content:
            found[path.relative_to(ROOT).as_posix()] = content.decode()
    return found


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_path_of_one_machine() -> None:
    """No file names a folder that only one machine has."""
    assert [] == lines_with(MACHINE_PATHS)


def test_no_registry_is_named() -> None:
    """Where packages come from is the machine's setting, never the project's."""
    assert [] == lines_with(REGISTRIES)


def test_the_readme_maps_every_folder() -> None:
    """Each folder of streams has its place in the README's map."""
    readme = (ROOT / "README.md").read_text()
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "streams").glob("*/__init__.py")}

    assert set() == {folder for folder in folders if f"]({folder})" not in readme}


def test_no_large_file() -> None:
    """Nothing is large but our own weights."""
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in tracked()}

    assert {} == {name: size for name, size in sizes.items() if size > LARGE.get(name, BYTES_MAX)}


def test_the_top_level_is_the_designs() -> None:
    """Nothing lies on the top level that nobody would look for there."""
    assert set() == {path.relative_to(ROOT).parts[0] for path in tracked()} - TOP


def test_versions_are_pinned() -> None:
    """What pyproject.toml names stands in constraints.txt with one version, within the bounds, and from nowhere."""
    constraints = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [] == [line for line in constraints if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+", line)]

    normal = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower(): line.partition("==")[2] for line in constraints}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["test"],
        *project["optional-dependencies"]["bench"],
    ]
    for requirement in wanted:
        name, exact = re.fullmatch(r"([A-Za-z0-9._-]+)(?:==([\w.]+))?.*", requirement).groups()  # type: ignore[union-attr]
        assert name.lower().replace("_", "-") in normal, f"{requirement} is not in constraints.txt"
        if exact:
            assert exact == normal[name.lower()], f"{requirement} and constraints.txt differ"


def readme() -> str:
    path = ROOT / "README.md"
    if not path.is_file():
        pytest.skip("there is no README.md")
    documents = sorted((ROOT / "docs").rglob("*.md"))
    return "\n".join(each.read_text() for each in [path, *documents])


@pytest.mark.parametrize("name", [each.name for each in fields(Settings)])
def test_every_setting_is_documented(name: str) -> None:
    """README or docs/ name every setting that there is."""
    assert f"`{PREFIX}{name.upper()}`" in readme()


def test_no_setting_is_documented_that_does_not_exist() -> None:
    """README and docs/ name no setting that nothing reads."""
    known = {PREFIX + each.name.upper() for each in fields(Settings)} | {"KINDRED_TEST_BROKER", "KINDRED_SHARED"}

    assert set() == set(re.findall(r"\bKINDRED_[A-Z_]*[A-Z]\b", readme())) - known


def test_every_link_between_documents_leads_somewhere() -> None:
    """A relative link in a document names a file of the repository."""
    broken = []
    for path in (each for each in tracked() if each.suffix == ".md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            if not re.match(r"[a-z]+:|#", target) and not (path.parent / target.partition("#")[0]).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")

    assert [] == broken


def test_programs_can_be_executed() -> None:
    """Whatever begins with #! has its bit set."""
    scripts = [path for path in tracked() if path.read_bytes()[:2] == b"#!"]

    assert [] == [path.relative_to(ROOT).as_posix() for path in scripts if not os.access(path, os.X_OK)]


def test_make_help_names_every_target() -> None:
    """`make` lists all targets, each with its line."""
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    listed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert phony == set(re.findall(r"^  make ([a-z-]+) +\S", listed, re.MULTILINE))


@pytest.fixture(scope="module")
def compose() -> dict[str, dict]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_compose_waits_for_health_in_order(compose: dict[str, dict]) -> None:
    """Kafka healthy, then topics made, then the worker; what is waited for exists, and can be told."""
    services = compose["services"]
    for name, service in services.items():
        for other, wanted in service.get("depends_on", {}).items():
            assert other in services, f"{name} waits for {other}"
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in services[other]
    assert "service_healthy" == services["topics"]["depends_on"]["kafka"]["condition"]
    assert "service_completed_successfully" == services["worker"]["depends_on"]["topics"]["condition"]
    assert "/readyz" in str(services["worker"]["healthcheck"]["test"])


def test_compose_builds_each_image_once(compose: dict[str, dict]) -> None:
    """Two services that build the same image do so at the same time, and the later one fails: it exists already."""
    services = compose["services"].values()
    built = [each["image"] for each in services if "build" in each]

    assert len(set(built)) == len(built)
    assert {each["image"] for each in services if each["image"].startswith("kindred:")} == set(built)


def test_compose_runs_the_kafka_that_the_tests_run(compose: dict[str, dict]) -> None:
    """The image is of the version that `make test` and `make kafka` fetch."""
    assert f"apache/kafka:{kafka_version()}" == compose["services"]["kafka"]["image"]


def test_compose_keeps_data_in_volumes(compose: dict[str, dict]) -> None:
    """Every named volume is declared and used; Kafka's log and the worker's shards are on one each."""
    used = {mount.partition(":")[0] for service in compose["services"].values() for mount in service.get("volumes", [])}

    assert set(compose["volumes"]) == used
    assert compose["services"]["kafka"]["volumes"]
    assert compose["services"]["worker"]["volumes"]


def test_compose_sets_only_settings_that_exist(compose: dict[str, dict]) -> None:
    """A misspelt variable would silently do nothing."""
    known = {PREFIX + each.name.upper() for each in fields(Settings)}
    ours = {
        name
        for service in compose["services"].values()
        for name in service.get("environment", {})
        if name.startswith(PREFIX)
    }

    assert set() == ours - known
    for service in ("topics", "worker"):
        assert "kafka:9092" == compose["services"][service]["environment"]["KINDRED_BROKER"]


def test_the_readme_lists_every_setting_with_its_default() -> None:
    """And none that there is not."""
    rows = re.findall(r"^\| (`KINDRED_[^|]*)\|([^|]*)\|", (ROOT / "README.md").read_text(), re.MULTILINE)
    told = {name: default.strip() for names, default in rows for name in re.findall(r"KINDRED_(\w+)", names)}
    defaults = {each.name.upper(): each.default for each in fields(Settings)}

    assert defaults.keys() == told.keys()
    for name, default in defaults.items():
        if isinstance(default, int | float):
            assert default == float(told[name]), name
        elif name not in ("MODEL", "TOPIC_PREFIX"):  # they say it in words
            text = ",".join(default) if isinstance(default, tuple) else str(default or "")
            assert text == told[name].strip("`"), name


def test_the_readme_lists_every_topic_as_it_is_made() -> None:
    """Its partitions, whether their number is ours to say, and what it keeps for how long."""
    rows = re.findall(
        r"^\| `([a-z.-]+)` \|[^|]*\|[^|]*\|([^|]*)\|([^|]*)\|$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    keeps = {str(topics.WEEK_MS): ", a week", str(topics.DAY_MS): ", a day", None: ""}
    shards = 7

    assert {name: (partitions.strip(), policy.strip()) for name, partitions, policy in rows} == {
        each.name: (
            ("n" if each.partitions == shards else str(each.partitions)) + ", exact" * each.ours,
            each.config["cleanup.policy"] + keeps[each.config.get("retention.ms")],
        )
        for each in topics.topic_table(Settings(shards=shards))
    }


def test_the_image_gets_what_it_copies_and_no_more() -> None:
    """What the Dockerfile copies is there and not kept out by .dockerignore; environments and caches are kept out."""
    ignored = [line for line in (ROOT / ".dockerignore").read_text().split() if not line.startswith("#")]
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = [source for line in copies for source in line.split()]

    assert sources
    for source in sources:
        assert (ROOT / source).exists(), f"the Dockerfile copies {source}"
        assert not any(fnmatch(source.rstrip("/"), pattern.rstrip("/")) for pattern in ignored)
    assert {".venv", ".git"} <= set(ignored)
