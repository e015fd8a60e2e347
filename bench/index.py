"""The index: recall and queries a second, and what keeping it up costs, beside exact NumPy, one Annoy file and hnswlib.

Vectors are real embeddings of the shipped model, perturbed to reach the number; queries are others of the same kind.
Searches run on one thread, in turn, several rounds, timed by the CPU they take: that is what a core that is free gives.
"""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from pathlib import Path

import numpy as np

from bench.contenders import CONTENDERS, Ids
from bench.embeddings import Vectors, many_vectors, real_vectors
from bench.ground import Ground
from bench.hosted import Host, hosted
from bench.meter import median, p50, p99, ratio
from bench.report import Cell, Table
from models.vectors import centre

COUNT = 10
TOGETHER = 32
SHARES = (None, 10, 1)
SEARCHES = ("recall@10", "queries/s", f"/s in {TOGETHER}s")
UPKEEP = ("insert us", "visible p50 ms", "visible p99 ms", "build s", "seal s", "merge s", "reopen s", "memory MB")


async def measure(ground: Ground) -> list[Table]:
    """Both tables."""
    searching = Table("index", f"the {COUNT} nearest on one thread", SEARCHES)
    upkeep = Table("index upkeep", "changes, restarts, memory", UPKEEP)
    real = real_vectors()
    for size in ground.pick(5_000, 10_000), ground.pick(35_000, 100_000):
        _measure(ground, searching, upkeep, size, real)
    searching.notes += [
        "Queries a second of CPU; the ratio is that of queries one by one to exact NumPy's.",
        "Filters: every contender is given the mask; Annoy and hnswlib look for 1.5 times as many as would be needed.",
    ]
    upkeep.notes += [
        "Insert: a vector in a batch of 500.  Visible: from one vector's message until a search has found it.",
        "Memory: what the process grew by, mapped files that it touched included; Kindred's has the records as well.",
        "Annoy takes no insert: a new file is built.  Builds and graphs use two threads; a seal one, at low priority.",
    ]
    if importlib.util.find_spec("hnswlib") is None:
        searching.notes.append("hnswlib is not installed (make bench installs it).")
    return [searching, upkeep]


def _measure(ground: Ground, searching: Table, upkeep: Table, size: int, real: Vectors) -> None:
    asked, inserted = ground.pick(64, 192), 100
    vectors = many_vectors(size + asked + inserted, real)
    raw, extra = vectors[:size], vectors[size : size + inserted]
    mean = raw.mean(axis=0)
    queries = centre(vectors[size + inserted :], mean)
    lots = np.random.default_rng(2).integers(100, size=size)
    names = [name for name in CONTENDERS if name != "hnswlib" or importlib.util.find_spec("hnswlib")]
    with contextlib.ExitStack() as stack:
        hosts = {name: stack.enter_context(hosted(name)) for name in names}
        built = {}
        for name, host in hosts.items():
            folder = Path(tempfile.mkdtemp(dir=ground.folder))
            built[name] = host.call("build", raw, mean, lots, folder)
            told = ", ".join(f"{what} {value:.1f}" for what, value in built[name].items())
            ground.say(f"{size:,} vectors: {name} is built ({told})")
        for share in SHARES:
            _search(ground, searching, hosts, queries, size, share)
        memory = {name: host.call("memory") for name, host in hosts.items()}
        for name, host in hosts.items():
            _upkeep(upkeep, host, name, size, built[name], memory[name], extra, mean)


def _search(
    ground: Ground, table: Table, hosts: dict[str, Host], queries: Vectors, size: int, share: int | None
) -> None:
    rounds = 3
    truth = hosts["exact NumPy"].call("search", queries, COUNT, share, TOGETHER)
    rates: dict[str, list[float]] = {name: [] for name in hosts}
    batched: dict[str, list[float]] = {name: [] for name in hosts}
    recalls: dict[str, float] = {}
    for _ in range(rounds):
        for name, host in hosts.items():
            ids, seconds = host.timed(queries, COUNT, share, 1)
            rates[name].append(len(queries) / seconds)
            recalls[name] = _recall(truth, ids)
            batched[name].append(len(queries) / host.timed(queries, COUNT, share, TOGETHER)[1])
    what = f"{size:,}" if share is None else f"{size:,}, {share} % match"
    for name in hosts:
        table.add(
            f"{what}: {name}",
            {
                "recall@10": recalls[name],
                "queries/s": median(rates[name]),
                f"/s in {TOGETHER}s": median(batched[name]) if name != "Annoy, one file" else None,
            },
            ratio=None if name == "exact NumPy" else ratio(rates[name], rates["exact NumPy"]),
        )
    ground.say(f"{what}: Kindred {median(rates['Kindred']):,.0f} queries/s, recall {recalls['Kindred']:.3f}")


def _recall(truth: Ids, found: Ids) -> float:
    return sum(len(set(right) & set(got)) for right, got in zip(truth, found, strict=True)) / sum(map(len, truth))


def _upkeep(
    table: Table,
    host: Host,
    name: str,
    size: int,
    built: dict[str, float],
    memory_bytes: int,
    extra: Vectors,
    mean: Vectors,
) -> None:
    took_ms = [seconds * 1000 for seconds in host.call("insert", extra, mean)]
    kindred = "insert" in built
    insert_s = built["insert"] if kindred else built["build"] if name == "hnswlib" else None
    figures: dict[str, Cell] = {
        "insert us": None if insert_s is None else insert_s / size * 1e6,
        "visible p50 ms": p50(took_ms) if took_ms else built["build"] * 1000,
        "visible p99 ms": p99(took_ms) if took_ms else built["build"] * 1000,
        "build s": built.get("build"),
        "seal s": built["seal"] / built["seals"] if built.get("seals") else None,
        "merge s": built["merge"] / built["merges"] if built.get("merges") else None,
        "reopen s": host.call("reopen"),
        "memory MB": memory_bytes / 1e6,
    }
    table.add(f"{size:,}: {name}", figures)
