"""What is kept of items between answers: beginnings of hits, and attributes of sources."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from indexes.hit_heads import FORMS_MAX, HitHeads, head_key
from indexes.record_values import RecordValues
from indexes.shard import EMBEDDINGS, RECORDS
from indexes.stored import StoredRecord
from models.answer import hit_head, record_part, retrieved
from models.truth_messages import Facts
from tests.look_catalog import apply, turned, without_default


def stored(name: str, images: int = 2) -> StoredRecord:
    record = b'{"objectID":"%b","_score":1}' % name.encode()
    return StoredRecord(record, Facts(), tuple([f"{name}-{number}" for number in range(images)]), 1, 0)


FORMS = [(retrieved(None), False), (retrieved(("objectID",)), False), (retrieved(None), True)]


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 1), st.sampled_from(["change", *range(len(FORMS))])), max_size=30
    ),
    st.sampled_from([200, 10_000]),
)
def test_a_head_is_that_of_the_item_as_it_is(steps: list[tuple[int, int, str | int]], bytes_max: int) -> None:
    """Whatever was asked and changed before, in any form, however little room there is; the bytes are counted."""
    records: list[StoredRecord | None] = [stored(f"item-{number}") for number in range(4)]
    heads = HitHeads(records, bytes_max)
    for at, (ordinal, image, step) in enumerate(steps):
        if isinstance(step, str):
            heads.forget(ordinal, 2)
            records[ordinal] = stored(f"new-{at}")
        else:
            record = records[ordinal]
            assert record is not None
            asked, highlight = FORMS[step]
            form = heads.form(asked, highlight)
            head = form.get(head_key(ordinal, image)) or form.make(ordinal, image)
            assert head == hit_head(record_part(record.record, asked, highlight=highlight), record.images[image])
            assert form.get(head_key(ordinal, image)) is head
        forms = [heads.form(*form) for form in FORMS]
        kept = [form.get(head_key(number, image)) for form in forms for number in range(4) for image in range(2)]
        assert heads.bytes == sum([len(head) for head in kept if head]) <= bytes_max


def test_few_forms_are_kept() -> None:
    """The one that was asked for longest ago goes, with its bytes."""
    heads = HitHeads([stored("a")])
    first = heads.form(*FORMS[0])
    first.make(0, 0)
    for number in range(FORMS_MAX - 1):
        heads.form(retrieved((f"name-{number}",)), False).make(0, 0)
    assert heads.form(*FORMS[0]) is first

    heads.form(retrieved(("other",)), False)

    assert heads.form(*FORMS[0]) is first
    assert heads.form(retrieved(("name-0",)), False).get(head_key(0, 0)) is None
    heads.clear()
    assert heads.bytes == 0


def test_a_form_that_lost_its_place_keeps_nothing() -> None:
    """Whoever still has it gets right beginnings, and no bytes are counted that nobody forgets."""
    heads = HitHeads([stored("a")])
    first = heads.form(*FORMS[0])
    before = first.make(0, 0)
    for number in range(FORMS_MAX):
        heads.form(retrieved((f"name-{number}",)), False)

    assert first.ended
    assert first.make(0, 0) == before
    assert first.get(head_key(0, 0)) is None
    assert heads.bytes == 0
    assert not heads.form(*FORMS[0]).ended


def test_attributes_are_read_once_a_record() -> None:
    """And forgotten all at once when there are too many."""
    records: list[StoredRecord | None] = [stored("a"), stored("b")]
    values = RecordValues(records, items_max=1)

    first = values.of(0)
    assert values.of(0) is first
    records[0] = stored("c")
    assert values.of(0)["objectID"] == ("c",)
    assert values.of(1)["objectID"] == ("b",)
    assert len(values._read) == 1


def test_hits_and_sources_are_what_the_newest_record_says(tmp_path: Path) -> None:
    """Another record, another picture, no record, and one again."""
    catalog = without_default(tmp_path)
    catalog.put("s", [turned(0)], kind="x")
    catalog.put("a", [turned(10)], title="one", kind="x")
    catalog.rule("r", condition={"filters": "kind:y"}, consequence={"hide": [{"objectID": "a"}]})
    assert catalog.one(objectID="s")["hits"][0]["title"] == "one"

    catalog.put("a", [turned(90), turned(5)], title="two", kind="x")
    hit = catalog.one(objectID="s")["hits"][0]
    assert (hit["title"], hit["_matchedImage"]) == ("two", "a-1.jpg")
    catalog.put("s", [turned(0)], kind="y")
    assert catalog.hits(objectID="s") == ""
    catalog.put("s", [turned(0)], kind="x")
    apply(catalog.shard_of("a"), RECORDS, "a", None)
    assert catalog.hits(objectID="s") == ""
    apply(catalog.shard_of("a"), EMBEDDINGS, "a", None)
    catalog.put("b", [turned(1)], title="three", kind="x")
    catalog.put("a", [turned(10)], title="four", kind="x")
    assert [hit["title"] for hit in catalog.one(objectID="s")["hits"]] == ["three", "four"]
