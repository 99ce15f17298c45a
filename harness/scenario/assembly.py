"""Several files as one scenario (`include`), one file as several scenarios (`variants`): nodes to nodes.

Each node keeps the place where it was written, in its own file.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import Location, Problem
from harness.scenario import language as lang
from harness.scenario.nodes import Enough, Fault, Node, fail, listed, near, quoted, scalar
from harness.scenario.values import Values

Report = Callable[[Problem], None]

_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_-]*)")
_MAX_NODES = 500_000
"""The most values that all rows of a file may come to: a bound on what a small file can ask for."""


def get(root: Node, name: str) -> tuple[Node, Node] | None:
    """The first entry of a mapping under a key."""
    return next(((key, value) for key, value in root.pairs if key.kind == "scalar" and key.text == name), None)


def without(root: Node, *names: str) -> Node:
    """A mapping without some keys."""
    return replace(
        root, pairs=tuple(pair for pair in root.pairs if pair[0].kind != "scalar" or pair[0].text not in names)
    )


# -- files


class Unreadable(Exception):
    """A file cannot be read: what is wrong with it, and what would be right."""

    def __init__(self, message: str, expected: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected


def read_bytes(path: Path | str) -> bytes:
    """The bytes of a regular file, one more than a scenario may have at most.

    Raises:
        Unreadable: If it is missing, unreadable or no file.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            kind = "a folder" if Path(path).is_dir() else "no regular file"
            raise Unreadable(f"this is {kind}", "a scenario file (YAML)")
        with open(path, "rb") as stream:
            return stream.read(lang.MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise Unreadable("there is no such file") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreadable(f"the file cannot be read: {reason}") from error


class Including:
    """Takes over what a file includes, and what those files include; only files below ``root`` are read.

    Files come in the order in which they are named. Steps are put before the file's own, tokens and actors beside its
    own, and of any other key of the header the file's own stands, or else the last that an included file has.
    """

    def __init__(self, values: Values, root: Path | str, decode: Callable[[bytes, str, Report], Node | None]) -> None:
        self._values = values
        self._root = os.path.realpath(root)
        self._decode = decode
        self._files = 0
        self._bytes = 0

    def merged(self, node: Node, path: Path | str, file: str) -> Node:
        """The scenario of the file at ``path``, whose nodes are ``node`` and which problems call ``file``."""
        return self._merged(node, ((os.path.realpath(path), file),))

    def _merged(self, node: Node, chain: tuple[tuple[str, str], ...]) -> Node:
        entry = get(node, "include")
        if node.kind != "mapping" or entry is None:
            return node
        base: Node | None = None
        value = entry[1]
        named = value.items if value.kind == "sequence" else (value,)
        if not named:
            self._values.problem(value, "no file is included", "a file, or a list of files")
        for each in named:
            included = self._values.attempt(self._included, each, chain)
            if included is not None:
                base = included if base is None else merge(base, included)
        own = without(node, "include")
        return own if base is None else merge(base, own)

    def _included(self, node: Node, chain: tuple[tuple[str, str], ...]) -> Node | None:
        path, name = self._resolved(node, chain[-1])
        if path in [real for real, _ in chain]:
            first = [real for real, _ in chain].index(path)
            around = " -> ".join([*(file for _, file in chain[first:]), chain[first][1]])
            fail(node, f"{chain[first][1]} includes itself: {around}", "files that do not go round in a circle")
        if len(chain) > lang.MAX_INCLUDE_DEPTH:
            fail(node, "files include each other too deeply", f"at most {lang.MAX_INCLUDE_DEPTH} levels")
        self._files += 1
        if self._files > lang.MAX_INCLUDES:
            fail(node, "too many files are included", f"at most {lang.MAX_INCLUDES}, each counted as often as it is")
        try:
            data = read_bytes(path)
        except Unreadable as error:
            fail(node, f"{quoted(node.text)}: {error.message}", error.expected)
        self._bytes += len(data)
        if len(data) > lang.MAX_BYTES or self._bytes > 4 * lang.MAX_BYTES:
            fail(node, f"{quoted(node.text)} is too big", f"at most {lang.MAX_BYTES} bytes, four times that in all")
        root = self._decode(data, name, self._values.report)
        if root is None:
            return None
        if root.kind != "mapping":
            fail(root, f"found {root.shown}", "a mapping for what a scenario includes")
        for key, _ in root.pairs:
            if key.kind == "scalar" and key.text in lang.NOT_INCLUDED:
                self._values.problem(key, f"{quoted(key.text)} cannot be included", "it in the scenario itself")
        return self._merged(without(root, *lang.NOT_INCLUDED), (*chain, (path, name)))

    def _resolved(self, node: Node, where: tuple[str, str]) -> tuple[str, str]:
        """The real path of an included file, and what it is called."""
        expected = "a file below the scenarios' folder, by its path from this file"
        text = scalar(node, expected)
        if text.startswith("$"):
            fail(node, f"{quoted(text)}: variants do not choose what is included", expected)
        if "\0" in text or "\\" in text or text.startswith("/") or re.match("[A-Za-z]:", text):
            what = "is an absolute path" if "\\" not in text else "has a backslash"
            fail(node, f"{quoted(text)} {what}", expected)
        path = os.path.realpath(os.path.join(os.path.dirname(where[0]), text))
        if os.path.commonpath((path, self._root)) != self._root or path == self._root:
            fail(node, f"{quoted(text)} lies outside the scenarios' folder", expected)
        return path, posixpath.normpath(posixpath.join(posixpath.dirname(where[1]), text))


def merge(base: Node, own: Node) -> Node:
    """Two files' headers as one: ``own`` wins, but that steps are one after the other and names are put together."""
    if own.kind != "mapping":
        return own
    pairs: list[tuple[Node, Node]] = []
    names = {key.text for key, _ in own.pairs if key.kind == "scalar"}
    pairs += [pair for pair in base.pairs if pair[0].kind != "scalar" or pair[0].text not in names]
    for key, value in own.pairs:
        entry = get(base, key.text) if key.kind == "scalar" else None
        joined = value
        if entry is not None and entry[1].kind == value.kind:
            if key.text == "steps" and value.kind == "sequence":
                joined = replace(value, items=(*entry[1].items, *value.items))
            elif key.text in ("tokens", "actors") and value.kind == "mapping":
                mine = {inner.text for inner, _ in value.pairs if inner.kind == "scalar"}
                taken = [pair for pair in entry[1].pairs if pair[0].kind != "scalar" or pair[0].text not in mine]
                joined = replace(value, pairs=(*taken, *value.pairs))
        pairs.append((key, joined))
    return replace(own, pairs=tuple(pairs))


# -- variants


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of ``variants``: its id, and the values that stand for its names."""

    id: str
    location: Location
    values: Mapping[str, tuple[Node, Node]]


@dataclass(slots=True)
class Variants:
    """A file's rows, and where their names are used."""

    values: Values
    rows: tuple[Row, ...] = ()
    broken: bool = False
    """Whether there are rows that cannot be read."""
    uses: dict[str, list[Location]] = field(default_factory=dict)

    def read(self, root: Node) -> None:
        """Read the rows, and find where their names are used."""
        entry = get(root, "variants")
        if entry is not None:
            self.rows = tuple(self._rows(*entry))
        body = without(root, "variants")
        if entry is not None and self._size(body) > _MAX_NODES:
            self.values.problem(entry[0], "all rows together are too much to read", "fewer rows, or less in each")
            raise Enough
        names = list(self.rows[0].values) if self.rows else []
        for node in _each(body):
            match = _variable(node)
            if match is None:
                continue
            self.uses.setdefault(match, []).append(node.location)
            if match in names or self.broken:
                continue
            if entry is None:
                self.values.problem(
                    node, f"{quoted(node.text)} stands for a variant's value, and there are no variants",
                    "a value, or quotes around it",
                )  # fmt: skip
            else:
                shown = [f"${name}" for name in names]
                self.values.problem(
                    node, f"no variant has {quoted(node.text)}", f"one of: {listed(shown)}", near(node.text, shown)
                )
        for name in names:
            if name not in self.uses and name != "id" and not self.broken:
                key = self.rows[0].values[name][0]
                self.values.problem(key, f"nothing uses {quoted(name)}", f"${name} somewhere, or no such key")

    def _size(self, body: Node) -> int:
        """How many values there are to read, the rows' own where they are used included."""
        size = 0
        used: dict[str, int] = {}
        for node in _each(body):
            size += 1
            name = _variable(node)
            if name is not None:
                used[name] = used.get(name, 0) + 1
        total = size * len(self.rows)
        for row in self.rows:
            for name, times in used.items():
                if name in row.values:
                    total += times * sum(1 for _ in _each(row.values[name][1]))
        return total

    def _rows(self, key: Node, node: Node) -> Iterator[Row]:
        if node.kind != "sequence" or not node.items:
            what = node.shown if node.kind != "sequence" else "no rows"
            self.values.problem(node, f"found {what}", "a list of rows such as [{id: chunk-1, chunk: 1}]")
            self.broken = True
            return
        if len(node.items) > lang.MAX_VARIANTS:
            self.values.problem(key, f"{len(node.items)} variants are too many", f"at most {lang.MAX_VARIANTS}")
            self.broken = True
            return
        first: Row | None = None
        ids: dict[str, Location] = {}
        for item in node.items:
            row = self.values.attempt(self._row, item, ids)
            if row is None:
                self.broken = True
                continue
            ids[row.id] = row.location
            if first is None:
                first = row
            lacking = [name for name in first.values if name not in row.values]
            if lacking:
                self.values.problem(
                    item, f"row {quoted(row.id)} lacks {listed(map(repr, lacking))}", "the same keys in every row"
                )
                self.broken = True
            for name, (at, _) in row.values.items():
                if name not in first.values:
                    self.values.problem(
                        at,
                        f"the first row has no {quoted(name)}",
                        "the same keys in every row",
                        near(name, first.values),
                    )
                    self.broken = True
            yield row

    def _row(self, node: Node, ids: Mapping[str, Location]) -> Row:
        entries = {name: (key, value) for name, key, value in self.values.pairs(node, "a row of variants")}
        if "id" not in entries:
            fail(node, "the row lacks 'id'", "an id, under which results and tests name it")
        expected = "an id: letters, digits, _ . -, at most 64"
        at = entries["id"][1]
        text = scalar(at, expected)
        if not re.fullmatch(lang.ROW_ID, text):
            fail(at, f"{at.shown} is no id", expected)
        if text in ids:
            fail(at, f"the id {quoted(text)} stands here twice, first in line {ids[text].line}", "each id once")
        broken = False
        for name, (key, _) in entries.items():
            if not _VARIABLE.fullmatch(f"${name}"):
                self.values.problem(key, f"{quoted(name)} is no variant's key", "letters, digits, _ and -")
                broken = True
        if broken:
            raise Fault
        return Row(id=text, location=at.location, values=entries)

    def said(self, row: Row, problems: Sequence[Problem]) -> list[Problem]:
        """The problems of a row's scenario, each that stands at one of the row's values with a word of it."""
        names = {node.location: name for name, (_, value) in row.values.items() for node in _each(value)}
        found = []
        for problem in problems:
            name = names.get(problem.location)
            if name is None or name not in self.uses:
                found.append(problem)
                continue
            where = self.uses[name]
            here = problem.location.file
            uses = [f"line {use.line}" if use.file == here else f"{use.file}:{use.line}" for use in where[:3]]
            lines = listed(dict.fromkeys(uses)) + (", ..." if len(where) > 3 else "")
            found.append(replace(problem, message=f"{problem.message} (${name} of {lines})"))
        return found


def filled(node: Node, row: Row | None) -> Node:
    """The nodes with a row's values in place of their names; names that it does not have become unreadable."""
    name = _variable(node)
    if name is not None:
        if row is None or name not in row.values:
            return Node(kind="refused", location=node.location)
        return row.values[name][1]
    if node.kind == "sequence":
        return replace(node, items=tuple(filled(item, row) for item in node.items))
    if node.kind == "mapping":
        return replace(node, pairs=tuple((key, filled(value, row)) for key, value in node.pairs))
    return node


def _variable(node: Node) -> str | None:
    if node.kind != "scalar" or not node.plain:
        return None
    match = _VARIABLE.fullmatch(node.text)
    return match[1] if match else None


def _each(node: Node) -> Iterator[Node]:
    """A node's values, itself first; no keys."""
    waiting = [node]
    while waiting:
        each = waiting.pop()
        yield each
        waiting += reversed(each.items)
        waiting += [value for _, value in reversed(each.pairs)]
