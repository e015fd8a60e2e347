"""The manifest: written whole, read back, and believed only where nothing can have been missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from indexes import atomic_file
from indexes.manifest import FILE, Manifest, distrust, read_manifest, write_manifest
from models.errors import CorruptIndex

HOUR_MS = 3_600_000
MANIFEST = Manifest(
    format=1,
    cluster_id="c",
    shard=3,
    model="m",
    dimension=128,
    next_offsets={"item-records": 10, "item-stocks": 0},
    caught_up_ms=100 * HOUR_MS,
    watermark={"item-records": 5},
    segments={1: "segment-00000004"},
    snapshot="snapshot-00000005",
    snapshot_checksums={".items": "aa"},
    next_number=6,
)
ASKED: dict[str, Any] = {
    "cluster_id": "c",
    "shard": 3,
    "model": "m",
    "dimension": 128,
    "now_ms": 110 * HOUR_MS,
    "retention_ms": 24 * HOUR_MS,
    "margin_ms": HOUR_MS,
    "offsets": {"item-records": (10, 10), "item-stocks": (0, 99)},
}


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """Nothing at first; then the last one written."""
    assert read_manifest(tmp_path) is None
    write_manifest(tmp_path, replace(MANIFEST, shard=1))
    write_manifest(tmp_path, MANIFEST)

    assert MANIFEST == read_manifest(tmp_path)
    assert [FILE] == [path.name for path in tmp_path.iterdir()]


@given(st.integers(0, 400))
def test_a_cut_manifest_is_corrupt(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    """However little is missing at its end, it is refused."""
    folder = tmp_path_factory.mktemp("manifest")
    content = msgspec.json.encode(MANIFEST)
    (folder / FILE).write_bytes(content[: min(length, len(content) - 1)])
    with pytest.raises(CorruptIndex, match="manifest"):
        read_manifest(folder)


def test_what_is_no_manifest_is_corrupt(tmp_path: Path) -> None:
    """Other JSON, bytes that are no text, a folder of that name."""
    for content in (b"[]", b'{"format": 1}', b"\xff\xfe"):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(CorruptIndex, match="manifest"):
            read_manifest(tmp_path)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    with pytest.raises(CorruptIndex, match="manifest"):
        read_manifest(tmp_path)


def test_a_failed_write_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash before the new name is given: the old checkpoint is whole."""
    write_manifest(tmp_path, MANIFEST)

    def fails(*_: object) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(atomic_file, "publish", fails)
    with pytest.raises(OSError, match="power cut"):
        write_manifest(tmp_path, replace(MANIFEST, shard=9))

    assert MANIFEST == read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cluster_id": "d"}, "cluster_id 'c', expected 'd'"),
        ({"shard": 2}, "shard 3, expected 2"),
        ({"model": "n"}, "model 'm', expected 'n'"),
        ({"dimension": 64}, "dimension 128, expected 64"),
        ({"now_ms": 123 * HOUR_MS}, "delete.retention.ms"),
        ({"now_ms": 98 * HOUR_MS}, "everything 7,200 s from now: a clock was wrong"),
        ({"retention_ms": 11 * HOUR_MS}, "delete.retention.ms"),
        ({"margin_ms": 14 * HOUR_MS}, "delete.retention.ms"),
        (
            {"offsets": {"item-records": (11, 20), "item-stocks": (0, 99)}},
            "offset 10 of item-records, which has 11",
        ),
        ({"offsets": {"item-records": (0, 9), "item-stocks": (0, 99)}}, "offset 10 of item-records, which has 0 to 9"),
        ({"offsets": {"item-stocks": (0, 99)}}, "offset 10 of item-records"),
    ],
)
def test_what_makes_it_untrustworthy(change: dict[str, Any], reason: str) -> None:
    """Each with a sentence that says what was found and what was expected."""
    assert distrust(MANIFEST, **ASKED) is None
    assert distrust(MANIFEST, **ASKED | {"now_ms": 123 * HOUR_MS - 1}) is None
    found = distrust(MANIFEST, **ASKED | change)

    assert found is not None
    assert reason in found


def test_another_format_and_a_shard_that_never_caught_up_are_not_trusted() -> None:
    """Whatever else is right."""
    other = distrust(replace(MANIFEST, format=2), **ASKED)
    never = distrust(replace(MANIFEST, caught_up_ms=0), **ASKED)

    assert other is not None
    assert "format 2, expected 1" in other
    assert never == "its shard had not read everything yet"
