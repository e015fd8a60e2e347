"""The filter grammar: text to tree.  All of Algolia's, without its limits on what may be nested in what.

    filters   := either ("AND" either)*
    either    := clause ("OR" clause)*                   OR binds tighter than AND, as Algolia documents it:
    clause    := "NOT" clause | "(" filters ")"          x AND y OR z  is  x AND (y OR z)
               | name ":" value                          a facet; the value may be in quotes
               | name ":" number "TO" number             both ends included
               | name ("=" | "!=" | "<" | "<=" | ">" | ">=") number
               | value                                   short for _tags:value
               | '"' name ":" value '"'                  a whole clause in quotes, as some of Algolia's examples have it

What is easy to get wrong:

* AND, OR, NOT and TO are capitals (Algolia's rule); as a name or a value they need quotes.
* Quotes are ' or "; inside them a backslash stands before the same quote or a backslash, and is itself anywhere else.
* A value ends at a space or a parenthesis; it may hold colons: `link:https://a/b`.
* The parser keeps its own stack, so deep text cannot exhaust Python's.  Positions in errors count from 1.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

from models.errors import BadRequest
from models.filter_tree import (
    OPERATORS,
    And,
    Compare,
    Facet,
    Filter,
    Not,
    Operator,
    Or,
    Range,
    all_of,
    any_of,
    attributes_of,
    compare,
    facet_text,
    facet_texts,
    format_filter,
    matches,
    number_of,
    quoted,
)

__all__ = [
    "OPERATORS", "And", "Compare", "Facet", "Filter", "Not", "Operator", "Or", "Range", "all_of", "any_of",
    "attributes_of", "compare", "facet_text", "facet_texts", "format_filter", "matches", "number_of", "parse_filter",
    "quoted",
]  # fmt: skip

DEPTH_MAX = 100
"""Of parentheses, and of the tree: far more than people write, far less than Python's stack holds."""
CLAUSES_MAX = 1_000
TEXT_LENGTH_MAX = 65_536

_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[^\s()\"':<>=!]+")
_VALUE = re.compile(r"[^\s()\"]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)
_ESCAPED = re.compile(r"""\\(["'\\])""")
_COMPARISON = re.compile(r"<=|>=|!=|=|<|>")
_TO = re.compile(r"\s+TO(?=[\s()]|$)")
_JOINTS = ("AND", "OR")
_KEYWORDS = ("AND", "OR", "NOT")


def parse_filter(text: str) -> Filter:
    """The tree of a filter's text.

    Raises BadRequest, which names the position (from 1), if the text is no filter, is empty, is longer than 65,536
    characters, nests deeper than 100 or has more than 1,000 clauses.
    """
    if len(text) > TEXT_LENGTH_MAX:
        raise BadRequest(f"at position {TEXT_LENGTH_MAX + 1}: at most {TEXT_LENGTH_MAX:,} characters are accepted")
    return _parse_short(text) if len(text) <= _SHORT else _Parser(text).parse()


_SHORT = 1_000
"""Texts up to this length are remembered: a page's requests all carry the same few."""


@lru_cache(maxsize=1_000)
def _parse_short(text: str) -> Filter:
    return _Parser(text).parse()


class _Group:
    """What stands between two parentheses, as far as it has been read: parts joined by AND, the last of them by OR."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.conjuncts: list[tuple[Filter, int]] = []
        self.disjuncts: list[tuple[Filter, int]] = []
        self.nots = 0

    def add(self, tree: Filter, depth: int) -> None:
        for _ in range(self.nots):
            tree, depth = Not(tree), depth + 1
        self.nots = 0
        self.disjuncts.append((tree, depth))

    def close_either(self) -> None:
        self.conjuncts.append(_joined(Or, self.disjuncts))
        self.disjuncts = []

    def close(self) -> tuple[Filter, int]:
        self.close_either()
        return _joined(And, self.conjuncts)


def _joined(node: type[And] | type[Or], parts: list[tuple[Filter, int]]) -> tuple[Filter, int]:
    if len(parts) == 1:
        return parts[0]
    return node(tuple([tree for tree, _ in parts])), 1 + max([depth for _, depth in parts])


class _Parser:
    """Reads clauses from left to right; `groups` is the stack of open parentheses."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.clauses = 0

    def parse(self) -> Filter:
        groups = [_Group(0)]
        while True:
            self._open(groups)
            groups[-1].add(self._clause(), 0)
            if not self._joint(groups):
                return self._close(groups[0])[0]

    def _open(self, groups: list[_Group]) -> None:
        """The NOTs and opening parentheses before a clause."""
        while True:
            self._skip_space()
            if self.text.startswith("(", self.at):
                groups.append(_Group(self.at))
                step = 1
            elif self._word() == "NOT":
                groups[-1].nots += 1
                step = 3
            else:
                return
            if len(groups) - 1 + groups[-1].nots > DEPTH_MAX:
                raise self._error(f"nested deeper than {DEPTH_MAX}", self.at)
            self.at += step

    def _joint(self, groups: list[_Group]) -> bool:
        """The closing parentheses after a clause and the AND or OR that follows; False at the end of the text."""
        while True:
            self._skip_space()
            if self.text.startswith(")", self.at):
                if len(groups) == 1:
                    raise self._error('")" closes nothing', self.at)
                closed = groups.pop()
                groups[-1].add(*self._close(closed))
                self.at += 1
                continue
            if self.at == len(self.text):
                if len(groups) > 1:
                    raise self._error(f'expected ")" for the "(" at position {groups[-1].start + 1}', self.at)
                return False
            word = self._word()
            if word not in _JOINTS:
                raise self._expected_joint(word, groups)
            if word == "AND":
                groups[-1].close_either()
            self.at += len(word)
            return True

    def _clause(self) -> Filter:
        start = self.at
        self.clauses += 1
        if self.clauses > CLAUSES_MAX:
            raise self._error(f"more than {CLAUSES_MAX:,} clauses", start)
        if self.at == len(self.text):
            raise self._error("expected a filter such as attribute:value", start)
        in_quotes = self.text.startswith(('"', "'"), start)
        name = self._quoted() if in_quotes else self._word()
        if not name and not in_quotes:
            raise self._error("expected a filter such as attribute:value", start)
        if not in_quotes and name in (*_KEYWORDS, "TO"):
            raise self._error(f"expected a filter such as attribute:value; as a name, {name} needs quotes", start)
        end_of_name = self.at = self.at if in_quotes else start + len(name)
        self._skip_space()
        if self.text.startswith(":", self.at):
            self.at += 1
            return self._facet_or_range(name)
        if operator := _COMPARISON.match(self.text, self.at):
            self._refuse_score(self.at)
            self.at = operator.end()
            return Compare(name, operator.group(), self._number(f"after {name} {operator.group()}"))  # type: ignore[arg-type]
        self.at = end_of_name
        attribute, colon, value = name.partition(":")
        return Facet(attribute, value) if in_quotes and colon and attribute and value else Facet("_tags", name)

    def _facet_or_range(self, name: str) -> Filter:
        self._skip_space()
        start = self.at
        if self.text.startswith(('"', "'"), start):
            return Facet(name, self._quoted())
        found = _VALUE.match(self.text, start)
        if not found:
            raise self._error(f"expected a value after {name}:", start)
        value = found.group()
        if value in _KEYWORDS:
            raise self._error(f"expected a value after {name}:; as a value, {value} needs quotes", start)
        if (score := value.find("<score=")) >= 0:
            self._refuse_score(start + score)
        if value[0] in "<>=!":
            raise self._error(f"expected a value after {name}: (a comparison has no colon, as in {name} > 5)", start)
        self.at = found.end()
        if self.text.startswith('"', self.at):
            raise self._error(f"a quote inside the value of {name}; put the whole value in quotes", self.at)
        if not (to := _TO.match(self.text, self.at)):
            return Facet(name, value)
        self.at = start
        low = self._number(f"before TO in {name}:")
        self.at = to.end()
        high = self._number(f"after TO in {name}:")
        if low > high:
            raise self._error(f"the range of {name} begins above its end", start)
        return Range(name, low, high)

    def _number(self, where: str) -> float:
        self._skip_space()
        found = _VALUE.match(self.text, self.at)
        number = number_of(found.group()) if found else None
        if not found or number is None or not math.isfinite(number):
            raise self._error(f"expected a number {where}", self.at)
        self.at = found.end()
        return number

    def _quoted(self) -> str:
        found = _QUOTED.match(self.text, self.at)
        if not found:
            raise self._error("a quote that is not closed", self.at)
        self.at = found.end()
        inside = found.group(1) if found.group(1) is not None else found.group(2)
        return _ESCAPED.sub(r"\1", inside)

    def _word(self) -> str:
        """The word that begins here, "" if none does; it is not passed over."""
        found = _WORD.match(self.text, self.at)
        return found.group() if found else ""

    def _skip_space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _close(self, group: _Group) -> tuple[Filter, int]:
        tree, depth = group.close()
        if depth > DEPTH_MAX:
            raise self._error(f"nested deeper than {DEPTH_MAX}", self.at)
        return tree, depth

    def _refuse_score(self, at: int) -> None:
        if self.text.startswith("<score=", at):
            raise self._error("a <score=N> belongs to optionalFilters", at)

    def _expected_joint(self, word: str, groups: list[_Group]) -> BadRequest:
        expected = 'AND, OR or ")"' if len(groups) > 1 else "AND or OR"
        hint = ""
        if word.upper() in _KEYWORDS and word != "NOT":
            hint = f"; {word.upper()} is written in capitals"
        elif word == "NOT":
            hint = " before NOT"
        elif word:
            hint = '; a value with spaces needs quotes, as in attribute:"a b"'
        return self._error(f"expected {expected}{hint}", self.at)

    def _error(self, message: str, at: int) -> BadRequest:
        came = self.text[at : at + 20]
        more = "..." if len(self.text) > at + 20 else ""
        found = f"{came!r}{more}" if came else "the end"
        return BadRequest(f"at position {at + 1} ({found}): {message}")
