"""A call that tries rules, and its answer, as they go over HTTP: one JSON object each.

    POST /1/indexes/{index}/looking-similar/recommend/rules/try

What the worker does with it is `streams/trials/call.py`, who asks is `streams/trials/client.py`.
"""

from __future__ import annotations

import msgspec

from models.rule_trial import Comparison


class Replayed(msgspec.Struct, frozen=True):
    """A recorded request: the body as on `similar-requests`, and how often it was asked."""

    body: msgspec.Raw
    times: int = 1


class TrialCall(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is to be tried: rules laid over those in force, and the requests to answer both ways."""

    rules: list[msgspec.Raw] = []
    deleted: list[str] = []
    only: bool = False
    """These rules instead of all in force."""
    at: int | None = None
    """Unix ms at which the rules' windows are judged; None: now."""
    requests: list[Replayed] = []


class Refused(msgspec.Struct, frozen=True, rename="camel"):
    """A rule that cannot be understood; without it the rest is tried, and its earlier version stays in force."""

    number: int
    """From 1, in the order they came."""
    message: str


class TriedEntry(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One entry of a body."""

    source: str
    """What it is to look like, for people."""
    times: int = 1
    comparison: Comparison | None = None
    """None: it failed."""
    status: int = 200
    message: str = ""


class RuleCount(msgspec.Struct, rename="camel"):
    """How often a rule applied."""

    before: int = 0
    after: int = 0
    changed: int = 0
    """Of these, requests whose answer changes."""


class PinCount(msgspec.Struct, rename="camel"):
    """What became of one pin of the candidate, in so many answers."""

    rule: str
    item_id: str = msgspec.field(name="objectID")
    position: int = 0
    fate: str = ""
    """`placed`, `elsewhere`, or the code of its obstacle (`indexes/pins.py`)."""
    words: str = ""
    times: int = 0


class TrialAnswer(msgspec.Struct, rename="camel"):
    """What came of a call.  If `done` is less than the bodies it had, the rest is to be asked again."""

    done: int
    at: int
    """Unix ms at which windows were judged."""
    rules_offset: int
    """Of `rule-changes`: all before it is in force.  Two calls with different ones have other rules to start from."""
    in_force: int
    """Rules that are enabled, the built-in one counted."""
    candidate: int
    states: dict[str, str]
    """By id of each rule that was sent: `new`, `changed`, `same`, `deleted`, `absent` (nothing to delete)."""
    dropped: int
    """With `only`: rules in force that the candidate does not have."""
    refused: list[Refused]
    unusable: list[str]
    """Ids on `rule-changes` of which only what cannot be understood stands there."""
    entries: list[TriedEntry]
    rules: dict[str, RuleCount]
    pins: list[PinCount]
    contexts: list[str]
    """That any request came in."""
    with_rules: int
    """Entries that could be answered and did not turn rules off, by `times`."""


read_call = msgspec.json.Decoder(TrialCall).decode
read_answer = msgspec.json.Decoder(TrialAnswer).decode
