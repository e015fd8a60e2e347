"""The shard against brute force: fresh, sealed, merged, reopened, damaged; the truths in any order."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from indexes import sealing, search
from indexes.manifest import Manifest, write_manifest
from indexes.seal_job import SealJob
from indexes.search import Field
from indexes.shard import EMBEDDINGS, RECORDS, STOCKS
from indexes.truth_reading import OtherModel
from models.truth_messages import Facts
from tests.shard_oracle import (
    DAY_MS,
    DIMENSION,
    MODEL,
    NOW_MS,
    SMALL,
    Pair,
    embedding_message,
    gone_message,
    record_message,
    stock_message,
    unit_vectors,
)
from tests.waiting import wait_until_sync


def build(pair: Pair) -> None:
    """Have a segment built, not taken over yet."""
    pair.shard.tend(pair.now_ms)
    job = pair.shard._upkeep.job
    assert job is not None
    wait_until_sync(job.finished, 60, "the job")


def seal(pair: Pair) -> None:
    """Let the shard do all that its policy asks for, and wait for it."""
    while pair.shard.seal_due or pair.shard.sealing:
        pair.shard.tend(pair.now_ms)
        if pair.shard.sealing:
            wait_until_sync(lambda: not pair.shard.sealing or pair.shard.tend(pair.now_ms), 60, "sealing")


@pytest.fixture
def sealed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments are built in this process: a property test builds hundreds."""
    monkeypatch.setattr(SealJob, "_build", lambda self, job_folder: sealing.main(job_folder))


def segment_names(pair: Pair) -> set[str]:
    return {path.stem for path in pair.folder.glob("segment-*.json")}


# One contract, many states


def fresh(pair: Pair) -> None:
    pair.add_items(0, 90, images=lambda number: number % 3)


def sealed(pair: Pair) -> None:
    fresh(pair)
    seal(pair)
    pair.add_items(200, 220)
    pair.tell(EMBEDDINGS, ("i1", None), ("i2", embedding_message({"i2-0.jpg": unit_vectors(pair.rng, 1)[0]}, 2)))
    pair.tell(RECORDS, ("i4", gone_message()), ("i5", None))

    assert pair.shard.statistics()["segments"] == 1


def two_segments(pair: Pair) -> None:
    pair.add_items(0, 160)
    seal(pair)
    pair.add_items(200, 251)
    seal(pair)
    pair.tell(RECORDS, ("i3", None), ("i203", gone_message()))

    assert pair.shard.statistics()["segments"] == 2


def merged(pair: Pair) -> None:
    two_segments(pair)
    pair.add_items(300, 360, images=lambda number: 2)
    seal(pair)

    assert pair.shard.statistics()["merges"] >= 1
    assert pair.shard.statistics()["segments"] <= 2


def reopened(pair: Pair) -> None:
    two_segments(pair)
    pair.shard.checkpoint()
    pair.add_items(400, 420)
    pair.tell(RECORDS, ("i6", None))
    pair.tell(EMBEDDINGS, ("i400", None))
    pair.reopen()

    assert pair.shard.statistics()["segments"] == 2


def damaged(pair: Pair) -> None:
    two_segments(pair)
    pair.shard.checkpoint()
    with sorted(pair.folder.glob("segment-*.ann"))[0].open("r+b") as file:
        file.seek(100)
        file.write(b"\xff\xff\xff\xff")
    pair.reopen()

    assert pair.shard.statistics()["segments"] == 1


def rebuilt(pair: Pair) -> None:
    merged(pair)
    pair.shard.close()
    pair.reopen(cluster_id="another")

    assert pair.shard.statistics()["segments"] == 0


STATES = (fresh, sealed, two_segments, merged, reopened, damaged, rebuilt)


@pytest.mark.parametrize("state", STATES)
def test_finds_what_brute_force_finds(state: Callable[[Pair], None], tmp_path: Path) -> None:
    """Whatever has happened to the shard, it answers as brute force over the last messages does, centred or not."""
    pair = Pair(tmp_path)
    state(pair)
    for mean in (None, unit_vectors(pair.rng, 200).mean(axis=0)):
        pair.use_mean(mean)
        for count, batch in ((1, 1), (10, 6), (40, 9), (500, 2)):
            pair.check(count, batch)


@pytest.mark.parametrize("state", STATES)
def test_every_layout_gives_the_same_bytes(state: Callable[[Pair], None], tmp_path: Path) -> None:
    """Two shards with the same truths in another layout, asked in other batches, answer with identical bytes."""
    pair = Pair(tmp_path / "a")
    state(pair)
    other = Pair(tmp_path / "b")
    other.oracle = pair.oracle
    other.read_on()
    mean = unit_vectors(pair.rng, 200).mean(axis=0)
    pair.use_mean(mean)
    other.use_mean(mean)
    queries = unit_vectors(pair.rng, 11).astype(np.float32)

    def told(pair: Pair, batch: int) -> list[Any]:
        answers = []
        for start in range(0, len(queries), batch):
            some = queries[start : start + batch]
            allowed, factors = pair.shard.columns.in_stock, np.where(pair.shard.columns.on_sale, 1.15, 1.0)
            answers += pair.shard.search(some, 12, [allowed] * len(some), [factors] * len(some))
        return [
            (
                [pair.shard.item_ids[ordinal] for ordinal in answer.ordinals],
                answer.similarity.tobytes(),
                answer.image.tolist(),
            )
            for answer in answers
        ]

    assert told(other, 11) == told(pair, 1) == told(pair, 4)


def test_equal_items_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """Items with the same picture are ordered by id, and the first of them are the answer."""
    pair = Pair(tmp_path)
    vector = unit_vectors(pair.rng, 1)[0]
    for number in np.random.default_rng(1).permutation(120).tolist():
        item_id = f"i{number:03d}"
        pair.tell(EMBEDDINGS, (item_id, embedding_message({"b.jpg": vector, "a.jpg": vector})))
        pair.tell(RECORDS, (item_id, record_message(item_id, ["a.jpg", "b.jpg"])))
    for query in (vector, -vector, np.zeros(DIMENSION)):
        answer = pair.shard.search(query.astype(np.float32)[None], 5, [None], [None])[0]

        assert [pair.shard.item_ids[ordinal] for ordinal in answer.ordinals] == [f"i{n:03d}" for n in range(5)]
        assert answer.image.tolist() == [0] * 5


def test_the_same_mean_again_changes_nothing(tmp_path: Path) -> None:
    """A mean that is told again is not centred by anew; another one, or none, is."""
    pair = Pair(tmp_path)
    pair.add_items(0, 60)
    seal(pair)
    pair.add_items(60, 70)
    mean = unit_vectors(pair.rng, 50).mean(axis=0)
    for told in (None, mean, mean.copy(), None, None, mean):
        pair.use_mean(told)
        pair.check(20)


def test_several_shards_are_searched_as_one(tmp_path: Path) -> None:
    """A search over the fields of two shards gives the best of both, and says which shard each is in."""
    one, two = Pair(tmp_path / "1"), Pair(tmp_path / "2", seed=1)
    one.add_items(0, 70)
    two.add_items(100, 200, images=lambda number: 2)
    queries = unit_vectors(one.rng, 5).astype(np.float32)
    fields: list[Field] = [pair.shard.field([None] * 5, [None] * 5) for pair in (one, two)]
    for query, answer in zip(queries, search.search(fields, queries, 20), strict=True):
        expected = one.oracle.similarities(query) | two.oracle.similarities(query)
        best = sorted(expected, key=lambda item_id: -expected[item_id][0])[:20]
        ids = [
            (one, two)[field].shard.item_ids[ordinal]
            for field, ordinal in zip(answer.fields.tolist(), answer.ordinals.tolist(), strict=True)
        ]

        assert best == ids


def test_nothing_to_search_is_no_error(tmp_path: Path) -> None:
    """No shard, no query, no item: empty answers."""
    pair = Pair(tmp_path)
    query = np.ones((1, DIMENSION), np.float32)

    assert [0] == [len(answer.ordinals) for answer in search.search([], query, 5)]
    assert pair.shard.search(query[:0], 5, [], []) == []
    assert [0] == [len(answer.ordinals) for answer in pair.shard.search(query, 5, [None], [None])]


def test_large_gathers_are_done_in_lots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matching rows beyond the limit are scored some at a time, with the same answer."""
    monkeypatch.setattr(search, "GATHER_ROWS_MAX", 9)
    pair = Pair(tmp_path)
    sealed(pair)
    for batch in (1, 8):
        pair.check(7, batch)


# The join


ITEMS = [f"i{number}" for number in range(6)]
LINKS = [f"{letter}.jpg" for letter in "abc"]
VECTORS = unit_vectors(np.random.default_rng(9), 40)

records = st.one_of(
    st.none(),
    st.just("gone"),
    st.just("bad"),
    st.tuples(
        st.lists(st.sampled_from(LINKS), unique=True),
        st.integers(1, 4),
        st.sampled_from(["red", "blue"]),
        st.booleans(),
    ),
)
embeddings = st.one_of(
    st.none(),
    st.just("bad"),
    st.tuples(
        st.dictionaries(st.sampled_from(LINKS), st.one_of(st.none(), st.integers(0, 39)), max_size=3), st.integers(1, 4)
    ),
)
stocks = st.one_of(st.none(), st.just("bad"), st.tuples(st.sampled_from([None, -1.0, 0.0, 3.0, 50.0])))
changes = st.one_of(
    st.tuples(st.just(RECORDS), st.sampled_from(ITEMS), records),
    st.tuples(st.just(STOCKS), st.sampled_from(ITEMS), stocks),
    st.tuples(st.just(EMBEDDINGS), st.sampled_from(ITEMS), embeddings),
)
commands = st.sampled_from(["tend", "finish", "checkpoint", "crash", "close", "mean", "no mean", "time", "rebuild"])


def message(truth: str, item_id: str, change: Any) -> bytes | None:
    if change is None:
        return None
    if change == "bad":
        return b'{"half": '
    if truth == STOCKS:
        return stock_message(change[0])
    if truth == EMBEDDINGS:
        vectors = {link: None if number is None else VECTORS[number] for link, number in change[0].items()}
        return embedding_message(vectors, change[1])
    if change == "gone":
        return gone_message()
    images, version, colour, sale = change
    return record_message(item_id, images, version, Facts(sale=sale), colour=colour)


def state_of(pair: Pair) -> dict[str, Any]:
    """All that can be seen of each item, and the columns."""
    columns = pair.shard.columns
    seen: dict[str, Any] = {}
    for item_id in ITEMS:
        item = pair.shard.item(item_id)
        if item is not None:
            flags = item.flags(pair.now_ms)
            at = item.ordinal
            assert (columns.in_stock[at], columns.on_sale[at], columns.low_stock[at]) == (
                flags.in_stock,
                flags.on_sale,
                flags.low_stock,
            )
            seen[item_id] = (item.record, item.level, item.images, item.image_version, item.embedded_version)
            seen[item_id] += (pair.shard.vectors(item_id).tobytes(),)
    return seen


def expect_state(pair: Pair) -> None:
    """Items, levels and images are those of the last messages."""
    oracle, shard = pair.oracle, pair.shard
    records, levels = oracle.last(RECORDS), oracle.last(STOCKS)
    rows: dict[str, list[int]] = {}
    for item_id, image, _ in oracle.rows():
        rows.setdefault(item_id, []).append(image)

    assert {item_id for item_id in ITEMS if shard.item(item_id)} == set(records)
    for item_id, record in records.items():
        item = shard.item(item_id)
        assert item is not None
        assert record["images"] == [image.link for image in item.images]
        assert rows.get(item_id, []) == [number for number, image in enumerate(item.images) if image.embedded]
        assert levels.get(item_id, {}).get("quantity") == (item.level.quantity if item.level else None)
    assert len(rows) == shard.statistics()["items_searchable"]
    assert sum(map(len, rows.values())) == shard.statistics()["rows_searchable"]


@given(st.lists(st.one_of(changes, commands), max_size=60))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_is_a_function_of_the_logs(
    tmp_path_factory: pytest.TempPathFactory, sealed_here: None, sequence: list[Any]
) -> None:
    """After any changes, seals, merges, crashes and reopenings the shard is what the last messages say."""
    small = replace(SMALL, delta_rows_max=3, segment_rows_min=2, mean_distance_max=0.5)
    pair = Pair(tmp_path_factory.mktemp("shard"), small)
    for step in sequence:
        if step == "tend":
            pair.shard.tend(pair.now_ms)
        elif step == "finish":
            seal(pair)
        elif step == "checkpoint":
            pair.shard.checkpoint()
        elif step == "crash":
            pair.reopen()
        elif step == "close":
            pair.shard.close()
            pair.reopen()
        elif step == "rebuild":
            pair.reopen(cluster_id="another")
            pair.reopen()
        elif step == "mean":
            pair.use_mean(VECTORS[:20].mean(axis=0))
        elif step == "no mean":
            pair.use_mean(None)
        elif step == "time":
            pair.now_ms += 1000
            pair.shard.advance(pair.now_ms)
        else:
            truth, item_id, change = step
            rejected = pair.tell(truth, (item_id, message(truth, item_id, change)))
            assert [one.key for one in rejected] == ([item_id] if change == "bad" else [])
    expect_state(pair)
    pair.check(3, 7)
    replayed = Pair(tmp_path_factory.mktemp("replayed"), small)
    replayed.oracle = pair.oracle
    replayed.read_on()
    assert state_of(replayed) == state_of(pair)
    pair.shard.close(checkpoint=False)


@given(st.lists(changes, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_order_between_truths_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, sequence: list[Any], random: Any
) -> None:
    """An embedding before its record, a level before either: the end is the same."""
    one, two = Pair(tmp_path_factory.mktemp("one")), Pair(tmp_path_factory.mktemp("two"))
    for truth, item_id, change in sequence:
        one.tell(truth, (item_id, message(truth, item_id, change)))
    queues = {truth: list(log) for truth, log in one.oracle.logs.items()}
    while remaining := [truth for truth, queue in queues.items() if queue]:
        truth = random.choice(remaining)
        two.tell(truth, queues[truth].pop(0))

    assert state_of(one) == state_of(two)


def test_a_batch_is_as_its_messages_one_by_one(tmp_path: Path) -> None:
    """Of several messages of a key in one call the last one counts."""
    pair = Pair(tmp_path)
    pair.tell(EMBEDDINGS, ("a", embedding_message({"x": VECTORS[0]})), ("a", embedding_message({"x": VECTORS[1]})))
    pair.tell(RECORDS, ("a", record_message("a", ["x"])), ("b", record_message("b", [])), ("b", None))
    pair.tell(STOCKS, ("a", stock_message(1)), ("a", None), ("a", stock_message(7)))

    assert pair.shard.vectors("a").tolist() == [VECTORS[1].astype(np.float16).tolist()]
    assert pair.shard.item("b") is None
    item = pair.shard.item("a")
    assert item is not None
    assert item.level is not None
    assert item.level.quantity == 7


def test_old_embeddings_serve_until_the_new_one_comes(tmp_path: Path) -> None:
    """A record that changes its images keeps those rows whose links stay, and shows no others."""
    pair = Pair(tmp_path)
    pair.tell(RECORDS, ("a", record_message("a", ["x", "y"], 1)))
    pair.tell(EMBEDDINGS, ("a", embedding_message({"x": VECTORS[0], "y": VECTORS[1]}, 1)))
    pair.tell(RECORDS, ("a", record_message("a", ["z", "y"], 2)))
    item = pair.shard.item("a")

    assert item is not None
    assert [("z", False), ("y", True)] == [(image.link, image.embedded) for image in item.images]
    assert (2, 1) == (item.image_version, item.embedded_version)
    assert pair.shard.vectors("a").tolist() == [VECTORS[1].astype(np.float16).tolist()]
    pair.check()


def test_a_carried_over_vector_keeps_its_row(tmp_path: Path) -> None:
    """A second image does not move the first: no tombstone, one more row."""
    pair = Pair(tmp_path)
    pair.add_items(0, 60)
    seal(pair)
    raw = pair.shard.vectors("i7")[0]
    pair.tell(EMBEDDINGS, ("i7", embedding_message({"i7-0.jpg": raw, "new": VECTORS[0]}, 2)))

    assert pair.shard.statistics()["tombstones"] == 0
    assert pair.shard.statistics()["delta_rows"] == 1


# What cannot be used


BAD = {
    RECORDS: [
        b"",
        b"\xff",
        b"null",
        b"{}",
        b'{"record": 5}',
        record_message("a", ["x"]).replace(b'{"objectID":"a"}', b"[1]"),
        record_message("a", ["x"]).replace(b'"a"', b'"\xff\xfe"'),
        record_message("a", ["x"]).replace(b'"at":1', b'"at":"1"'),
    ],
    STOCKS: [
        b"",
        b"[]",
        b'{"quantity": "7"}',
        b'{"quantity": 1e999, "at": 1, "written": [1, 1]}',
        stock_message(3)[:-1],
    ],
    EMBEDDINGS: [
        b"",
        b'{"image_version": 1}',
        embedding_message({"x": VECTORS[0] * 0.5}),
        embedding_message({"x": np.full(DIMENSION, np.nan)}),
        embedding_message({"x": VECTORS[0]}).replace(b'"vector":"', b'"vector":"!'),
        embedding_message({"x": VECTORS[0]}).replace(b'"vector":"', b'"vector":"" ,"digest":"'),
    ],
}


@pytest.mark.parametrize(("truth", "value"), [(truth, value) for truth, values in BAD.items() for value in values])
def test_bad_messages_are_told_and_the_rest_goes_on(truth: str, value: bytes, tmp_path: Path) -> None:
    """A message that cannot be read counts as null for its item, is told with a reason, and harms no other."""
    pair = Pair(tmp_path)
    good = {
        RECORDS: record_message("b", ["x"]),
        STOCKS: stock_message(2),
        EMBEDDINGS: embedding_message({"x": VECTORS[3]}),
    }
    for name, content in good.items():
        pair.tell(name, ("a", content))
    rejected = pair.tell(truth, ("a", value), ("b", good[truth]))

    assert ["a"] == [one.key for one in rejected]
    assert len(rejected[0].reason) > 10
    assert pair.shard.next_offsets[truth] == 3
    item = pair.shard.item("a")
    if truth == RECORDS:
        assert item is None
    elif truth == STOCKS:
        assert item is not None
        assert item.level is None
    else:
        assert len(pair.shard.vectors("a")) == 0


def test_another_model_stops_the_worker(tmp_path: Path) -> None:
    """An embedding of another model or dimension raises an error that names both."""
    pair = Pair(tmp_path)
    with pytest.raises(OtherModel, match=r"'other@2', this index is of 'tests@1' \(16 dimensions\)"):
        pair.tell(EMBEDDINGS, ("a", embedding_message({"x": None}, model="other@2")))
    with pytest.raises(OtherModel, match=r"'other@2' \(24 dimensions\), this index is of 'tests@1' \(16 dimensions\)"):
        pair.tell(EMBEDDINGS, ("a", embedding_message({"x": np.full(24, 24**-0.5)}, model="other@2")))
    with pytest.raises(OtherModel, match=r"24 dimensions, this index has 16"):
        pair.tell(EMBEDDINGS, ("a", embedding_message({"x": np.full(24, 24**-0.5)})))
    assert MODEL == pair.settings.model


# Time, watermark, figures


def test_a_sale_window_turns_by_itself(tmp_path: Path) -> None:
    """`advance` opens and closes a sale; the columns say what the flags of the item say."""
    pair = Pair(tmp_path)
    facts = Facts(sale=True, discount=0.5, sale_from=NOW_MS + 10, sale_until=NOW_MS + 20)
    pair.tell(RECORDS, ("a", record_message("a", [], facts=facts)))
    item = pair.shard.item("a")
    assert item is not None
    seen = []
    for ms in (0, 9, 10, 19, 20, 30):
        pair.shard.advance(NOW_MS + ms)
        seen.append(bool(pair.shard.columns.on_sale[item.ordinal]))
        assert item.flags(NOW_MS + ms).on_sale is seen[-1]

    assert [False, False, True, True, False, False] == seen


def test_the_watermark_is_the_newest_change_of_each_truth(tmp_path: Path) -> None:
    """Records, deletes and stocks by their `at`, embeddings by the record of their images; reopening keeps it."""
    pair = Pair(tmp_path)
    pair.tell(EMBEDDINGS, ("a", embedding_message({"x": VECTORS[0]}, 1)))
    assert pair.shard.watermark == {}
    pair.tell(RECORDS, ("a", record_message("a", ["x"], 1, at=50)), ("b", record_message("b", ["y"], 1, at=40)))
    pair.tell(STOCKS, ("a", stock_message(1, at=70)), ("b", stock_message(1, at=60)))
    pair.tell(RECORDS, ("a", record_message("a", ["x", "z"], 2, at=90)))
    expected = {RECORDS: 90, STOCKS: 70, EMBEDDINGS: 50}

    assert expected == pair.shard.watermark
    pair.tell(RECORDS, ("a", gone_message(110)))
    assert 110 == pair.shard.watermark[RECORDS]
    pair.tell(RECORDS, ("a", None), ("c", gone_message(100)), ("c", None), ("b", gone_message(130)), ("b", None))
    expected[RECORDS] = 130

    assert expected == pair.shard.watermark
    pair.shard.close()
    pair.reopen()
    assert expected == pair.shard.watermark


def test_views_by_ordinal(tmp_path: Path) -> None:
    """Record, facts, image names and ids are had by ordinal; an ordinal without an item is a bug of the caller."""
    pair = Pair(tmp_path)
    pair.add_items(0, 3, images=lambda number: 2)
    item = pair.shard.item("i1")
    assert item is not None

    assert pair.shard.item_ids[item.ordinal] == "i1"
    assert pair.shard.record(item.ordinal) == item.record
    assert pair.shard.facts(item.ordinal) == item.facts
    assert pair.shard.image_name(item.ordinal, 1) == "i1-1.jpg"
    assert pair.shard.items == 3
    pair.tell(RECORDS, ("i1", None))
    for view in (pair.shard.record, pair.shard.facts, lambda ordinal: pair.shard.image_name(ordinal, 0)):
        with pytest.raises(AssertionError):
            view(item.ordinal)


def test_ordinals_are_used_again(tmp_path: Path) -> None:
    """Items that come and go do not make the arrays grow; beyond their capacity they do."""
    pair = Pair(tmp_path)
    capacity = pair.shard.capacity
    for turn in range(4):
        ids = [f"i{number}" for number in range(turn * 400, turn * 400 + 400)]
        vectors = unit_vectors(pair.rng, len(ids))
        for vector, item_id in zip(vectors, ids, strict=True):
            pair.tell(EMBEDDINGS, (item_id, embedding_message({"x": vector})))
        pair.tell(RECORDS, *[(item_id, record_message(item_id, ["x"])) for item_id in ids])
        for truth in (RECORDS, EMBEDDINGS):
            pair.tell(truth, *[(item_id, None) for item_id in ids])
    assert capacity == pair.shard.capacity
    assert pair.shard.statistics()["rows"] == 0
    pair.add_items(5000, 5100)
    pair.tell(RECORDS, *[(f"j{number}", record_message(f"j{number}", [])) for number in range(capacity)])

    assert pair.shard.capacity == 2 * capacity
    pair.check()


# Sealing


def test_changes_while_sealing_are_not_lost(tmp_path: Path) -> None:
    """What is deleted, replaced or added while the other process builds is so after the takeover."""
    pair = Pair(tmp_path)
    pair.add_items(0, 80)
    assert pair.shard.tend(pair.now_ms) is False
    assert pair.shard.sealing
    for number in range(30):
        pair.tell(EMBEDDINGS, (f"i{number}", None))  # frees positions and row ids ...
    pair.add_items(500, 530)  # ... which these take
    pair.tell(EMBEDDINGS, ("i40", embedding_message({"i40-0.jpg": VECTORS[0]}, 2)))
    pair.tell(RECORDS, ("i41", None), ("i42", record_message("i42", ["other"], 2)))
    pair.use_mean(VECTORS.mean(axis=0))
    wait_until_sync(lambda: pair.shard.tend(pair.now_ms), 60, "takeover")

    figures = pair.shard.statistics()
    assert (1, 1, 31, 49) == (figures["segments"], figures["seals"], figures["delta_rows"], figures["segment_rows"])
    pair.check(20, 9)
    seal(pair)
    pair.check(20, 9)


def test_a_killed_sealing_process_costs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After `kill -9` of the sealing process every row is there, nothing is left behind, and it is tried again."""
    pair = Pair(tmp_path)
    pair.add_items(0, 80)
    pair.shard.tend(pair.now_ms)
    job = pair.shard._upkeep.job
    assert job is not None
    process_id = wait_until_sync(lambda: job.process_id, 60, "the sealing process")
    assert process_id is not None
    os.kill(process_id, signal.SIGKILL)
    wait_until_sync(lambda: pair.shard.tend(pair.now_ms) or not pair.shard.sealing, 60, "the end of the job")

    assert pair.shard.statistics()["seal_failures"] == 1
    assert "status -9" in caplog.text
    assert not list(pair.folder.glob("segment-*"))
    assert not list(pair.folder.glob("job-*"))
    pair.check()
    pair.shard.tend(pair.now_ms)
    assert not pair.shard.sealing, "it is not tried again at once"
    pair.now_ms += SMALL.seal_retry_ms
    seal(pair)
    assert pair.shard.statistics()["segments"] == 1
    pair.check()


def test_a_failing_sealing_process_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What the process printed last is in the log."""
    pair = Pair(tmp_path)
    pair.add_items(0, 60)
    build(pair)
    assert pair.shard.tend(pair.now_ms)
    for path in pair.folder.glob("segment-*.f16"):
        path.write_bytes(b"123")
    pair.add_items(100, 160)
    pair.shard.tend(pair.now_ms)
    wait_until_sync(lambda: pair.shard.tend(pair.now_ms) or not pair.shard.sealing, 60, "the end of the job")

    assert "Error" in caplog.text
    pair.shard.close(checkpoint=False)


def test_closing_stops_a_sealing(tmp_path: Path) -> None:
    """`close` in the middle of sealing leaves neither process nor files, and the checkpoint has every row."""
    pair = Pair(tmp_path)
    pair.add_items(0, 80)
    pair.shard.tend(pair.now_ms)
    pair.shard.close()

    assert not list(pair.folder.glob("job-*"))
    assert not list(pair.folder.glob("segment-*"))
    pair.reopen()
    assert pair.shard.statistics()["delta_rows"] == 80
    pair.check()


def test_closing_drops_a_segment_that_nobody_took_over(tmp_path: Path) -> None:
    """A segment that was built but not taken over goes, too."""
    pair = Pair(tmp_path)
    pair.add_items(0, 80)
    build(pair)
    pair.shard.close()

    assert not list(pair.folder.glob("segment-*"))


def test_a_shrunken_segment_goes_back_into_the_delta(tmp_path: Path) -> None:
    """With most of its rows deleted a segment is scanned exactly again."""
    pair = Pair(tmp_path)
    pair.add_items(0, 60)
    seal(pair)
    for number in range(40):
        pair.tell(EMBEDDINGS, (f"i{number}", None))
    assert pair.shard.tend(pair.now_ms)

    figures = pair.shard.statistics()
    assert (0, 20, 20) == (figures["segments"], figures["delta_rows"], figures["rows"])
    pair.check()


def test_a_filter_that_leaves_few_in_the_trees_still_fills_the_answer(tmp_path: Path) -> None:
    """When the trees' neighbours do not match, the matching rows are scanned instead."""
    pair = Pair(tmp_path, replace(SMALL, trees=1, search_k=1, oversample=1.0))
    pair.add_items(0, 400)
    seal(pair)
    query = pair.shard.vectors("i0")[0]
    far = np.zeros(pair.shard.capacity, np.bool_)
    similar = pair.oracle.similarities(query)
    for item_id in sorted(similar, key=lambda item_id: similar[item_id][0])[:30]:
        item = pair.shard.item(item_id)
        assert item is not None
        far[item.ordinal] = True
    every = np.ones(pair.shard.capacity, np.bool_)
    answers = pair.shard.search(np.array([query, query]), 12, [far, far], [None, None])
    mixed = pair.shard.search(np.array([query, query]), 12, [far, every], [None, None])

    assert [12, 12] == [len(answer.ordinals) for answer in answers]
    assert all(far[answer.ordinals].all() for answer in answers)
    assert [12, 12] == [len(answer.ordinals) for answer in mixed]


# Checkpoints


def test_a_checkpoint_is_read_on_from(tmp_path: Path) -> None:
    """After reopening only what came later is read, and offsets stand where they stood."""
    pair = Pair(tmp_path)
    pair.add_items(0, 30)
    pair.shard.checkpoint()
    offsets = dict(pair.shard.next_offsets)
    pair.add_items(30, 40)
    pair.shard.close(checkpoint=False)
    shard = pair.open()

    assert offsets == shard.next_offsets
    assert shard.items == 30
    shard.close(checkpoint=False)


def test_a_checkpoint_written_while_things_go_on_is_of_its_moment(tmp_path: Path) -> None:
    """What changes between capture and write is not in the checkpoint, whatever happens to segments meanwhile."""
    pair = Pair(tmp_path)
    pair.add_items(0, 80)
    pair.shard.caught_up(pair.now_ms)
    captured = pair.shard.capture()
    pair.add_items(80, 120)
    pair.tell(RECORDS, ("i5", None))
    pair.tell(EMBEDDINGS, ("i6", None))
    seal(pair)
    captured.write()
    pair.check()
    pair.reopen()
    pair.check()
    assert pair.shard.item("i5") is None


def test_a_checkpoint_spares_a_segment_that_waits(tmp_path: Path) -> None:
    """A segment that is built but not yet taken over is not rubbish to a checkpoint written just then."""
    pair = Pair(tmp_path)
    pair.add_items(0, 80)
    build(pair)
    pair.shard.checkpoint()
    assert pair.shard.tend(pair.now_ms)
    pair.shard.checkpoint()
    pair.reopen()

    assert (1, 80) == (pair.shard.statistics()["segments"], pair.shard.statistics()["segment_rows"])
    pair.check()


def test_a_checkpoint_does_not_take_the_place_of_a_later_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Captured before a segment was merged away and written after the later one had removed its files."""
    pair = Pair(tmp_path)
    pair.add_items(0, 80)
    seal(pair)
    early = pair.shard.capture()
    pair.add_items(80, 200)
    for number in range(60):
        pair.tell(EMBEDDINGS, (f"i{number}", None))
    before = {*pair.shard._upkeep.segment_names().values()}
    seal(pair)
    assert not before & {*pair.shard._upkeep.segment_names().values()}
    pair.shard.checkpoint()

    early.write()

    pair.shard.close(checkpoint=False)
    offsets = dict(pair.shard.next_offsets)
    pair.shard = pair.open()
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert offsets == pair.shard.next_offsets
    pair.check()


def test_checkpoints_are_written_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is captured while another is being written waits for it, in its own thread, and takes its place."""
    pair = Pair(tmp_path)
    pair.add_items(0, 20)
    early = pair.shard.capture()
    pair.add_items(20, 30)
    late = pair.shard.capture()
    begun, go_on, written = threading.Event(), threading.Event(), []

    def slow(folder: Path, manifest: Manifest) -> None:
        begun.set()
        assert go_on.wait(30)
        written.append(manifest.snapshot)
        write_manifest(folder, manifest)

    monkeypatch.setattr("indexes.shard_files.write_manifest", slow)
    threads = [threading.Thread(target=each.write) for each in (early, late)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(30)

    assert written == [early._name, late._name]
    pair.shard.close(checkpoint=False)
    pair.shard = pair.open()
    pair.check()


def test_an_unchanged_shard_writes_its_manifest_alone(tmp_path: Path) -> None:
    """Being caught up later renews the checkpoint without writing the snapshot again."""
    pair = Pair(tmp_path)
    pair.add_items(0, 20)
    pair.shard.checkpoint()
    before = sorted(path.name for path in tmp_path.glob("snapshot-*"))
    pair.shard.caught_up(pair.now_ms + 5)
    pair.shard.checkpoint()

    assert before == sorted(path.name for path in tmp_path.glob("snapshot-*"))
    assert len(before) == 3
    pair.reopen()
    assert pair.shard.statistics()["caught_up_ms"] == NOW_MS + 5


def test_a_checkpoint_is_of_the_time_that_a_clock_is_set_back_to(tmp_path: Path) -> None:
    """What a clock ahead said would keep it trusted for longer than deletes are kept."""
    pair = Pair(tmp_path)
    pair.add_items(0, 20)
    pair.shard.caught_up(pair.now_ms + DAY_MS)
    pair.shard.caught_up(pair.now_ms)

    assert pair.shard.statistics()["caught_up_ms"] == pair.now_ms


def test_a_failed_checkpoint_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing fails the old checkpoint stands, and the next attempt writes everything."""
    pair = Pair(tmp_path)
    pair.add_items(0, 20)
    pair.shard.checkpoint()
    pair.add_items(20, 30)
    with monkeypatch.context() as patch:
        patch.setattr("indexes.shard_files.write_manifest", _disk_full)
        with pytest.raises(OSError, match="full"):
            pair.shard.checkpoint()
    pair.reopen()
    pair.check()
    pair.shard.checkpoint()
    pair.reopen()
    assert pair.shard.items == 30


@pytest.mark.parametrize("full", ["indexes.snapshot.os.fsync", "indexes.atomic_file.publish"])
def test_a_checkpoint_that_does_not_fit_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    """Neither its snapshot, of which each attempt has a new name and would fill the disk, nor a manifest begun."""
    pair = Pair(tmp_path)
    pair.add_items(0, 20)
    pair.shard.checkpoint()
    before = sorted(tmp_path.iterdir())
    pair.add_items(20, 30)
    with monkeypatch.context() as patch:
        patch.setattr(full, _disk_full)
        for _ in range(2):
            with pytest.raises(OSError, match="full"):
                pair.shard.checkpoint()

    assert before == sorted(tmp_path.iterdir())
    pair.reopen()
    pair.check()


def test_a_manifest_that_is_there_keeps_its_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name was to be made last, and that failed; it has taken the former one's place all the same."""
    pair = Pair(tmp_path)
    pair.add_items(0, 20)
    pair.shard.checkpoint()
    pair.add_items(20, 30)

    def replaced(written: Path, path: Path) -> None:
        written.replace(path)
        _disk_full()

    with monkeypatch.context() as patch:
        patch.setattr("indexes.atomic_file.publish", replaced)
        with pytest.raises(OSError, match="full"):
            pair.shard.checkpoint()
    pair.reopen()

    assert pair.shard.items == 30
    pair.check()


def _disk_full(*_: Any) -> None:
    raise OSError("disk full")


def test_replaced_segments_go_with_the_next_checkpoint(tmp_path: Path) -> None:
    """Files that the valid checkpoint names stay until another one is written."""
    pair = Pair(tmp_path)
    two_segments(pair)
    pair.shard.checkpoint()
    before = segment_names(pair)
    pair.add_items(300, 360)
    seal(pair)
    assert before < segment_names(pair)
    pair.shard.checkpoint()

    assert len(segment_names(pair)) == pair.shard.statistics()["segments"]
    assert not before <= segment_names(pair)


@pytest.mark.parametrize("suffix", [".items", ".rows", ".delta"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_snapshot_means_building_anew(suffix: str, damage: str, tmp_path: Path) -> None:
    """Without its snapshot the checkpoint is nothing: the shard starts empty and reads everything."""
    pair = Pair(tmp_path)
    pair.add_items(0, 20)
    pair.shard.checkpoint()
    file = next(tmp_path.glob(f"snapshot-*{suffix}"))
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    pair.shard.close(checkpoint=False)
    shard = pair.open()

    assert shard.next_offsets == {}
    assert shard.items == 0
    assert not list(tmp_path.glob("snapshot-*"))
    shard.close(checkpoint=False)
    pair.reopen()
    pair.check()


@pytest.mark.parametrize("suffix", [".json", ".ann", ".f16"])
def test_a_lost_segment_is_read_again_from_the_embeddings(suffix: str, tmp_path: Path) -> None:
    """Only the embeddings are read from their beginning; what is not in that segment is there at once."""
    pair = Pair(tmp_path)
    sealed(pair)
    pair.shard.checkpoint()
    next(tmp_path.glob(f"segment-*{suffix}")).unlink()
    pair.shard.close(checkpoint=False)
    shard = pair.open()

    assert EMBEDDINGS not in shard.next_offsets
    assert {RECORDS, STOCKS} <= set(shard.next_offsets)
    assert shard.statistics()["rows"] == 21
    assert shard.statistics()["caught_up_ms"] == 0
    shard.close(checkpoint=False)
    pair.reopen()
    pair.check()
    assert pair.shard.statistics()["caught_up_ms"] == NOW_MS


def test_deletes_that_were_compacted_away_do_not_come_back(tmp_path: Path) -> None:
    """A checkpoint from before deletes whose tombstones are gone is not used once it is older than the retention."""
    pair = Pair(tmp_path)
    pair.add_items(0, 20)
    pair.shard.caught_up(pair.now_ms)
    pair.shard.checkpoint()
    for log in pair.oracle.logs.values():  # compaction has removed i3, tombstone and all
        log[:] = [(key, value) for key, value in log if key != "i3"] + [("x", None)]
    pair.now_ms += DAY_MS
    pair.reopen()

    assert pair.shard.item("i3") is None
    assert pair.shard.items == 19


def test_a_checkpoint_before_the_end_was_read_is_not_trusted(tmp_path: Path) -> None:
    """In the middle of the first read tombstones may be missed, so it starts from the beginning again."""
    pair = Pair(tmp_path)
    pair.add_items(0, 10)
    pair.shard.close(checkpoint=False)
    shard = pair.open(now_ms=NOW_MS)
    shard.apply(RECORDS, pair.oracle.logs[RECORDS][:5], 5, NOW_MS)
    shard.close()
    shard = pair.open()

    assert shard.next_offsets == {}
    for truth, log in pair.oracle.logs.items():
        shard.apply(truth, log, len(log), NOW_MS)
    shard.close()
    shard = pair.open()
    assert shard.next_offsets == dict.fromkeys((RECORDS, STOCKS, EMBEDDINGS), 10)
    shard.close()


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """No test leaves a sealing process behind."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("seal ")]
