"""YAML text to a `Scenario`, and back: the only place that knows YAML.

The node graph is read, never plain data: nodes keep the author's text (``no`` stays a word, ``010`` no
octal, nothing is a float) and its place. What may stand where is said by the tables of `language`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from harness.errors import Location, Problem, ScenarioError, nearest
from harness.scenario import language as lang
from harness.scenario.assembly import (
    Including,
    Report,
    Row,
    Unreadable,
    Variants,
    filled,
    get,
    read_bytes,
    without,
)
from harness.scenario.dump import dump
from harness.scenario.model import Scenario
from harness.scenario.nodes import Enough, Node, quoted
from harness.scenario.reader import Reader
from harness.scenario.values import Values

__all__ = ["dump", "load", "load_all", "loads", "loads_all"]

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""What no text may hold; a byte order mark may begin the file."""


def load_all(
    path: Path | str, *, name: str | None = None, root: Path | str | None = None, variant: str | None = None
) -> tuple[Scenario, ...]:
    """Read a scenario file: one scenario for each row of its ``variants``, one if it has none.

    Args:
        path: The file.
        name: How problems and breaks call it; default: the path as given.
        root: The folder that what is included must lie below; default: the file's own.
        variant: The one row to read; the others are only looked at.

    Raises:
        ScenarioError: With every problem found, sorted by place. A file that is missing, unreadable, a
            folder, too big or not UTF-8 is a problem at its first character.
    """
    file = name if name is not None else str(path)
    try:
        data = read_bytes(path)
    except Unreadable as error:
        raise _refusal(file, error.message, error.expected) from error
    text, problem = _decoded(data, file)
    if problem is not None:
        raise ScenarioError([problem])
    return loads_all(text, file, path=path, root=root, variant=variant)


def load(
    path: Path | str, *, name: str | None = None, root: Path | str | None = None, variant: str | None = None
) -> Scenario:
    """Read the scenario of a file that has one, or, with ``variant``, that row's; see :func:`load_all`.

    Raises:
        ScenarioError: As there; and if the file has several scenarios and none is named, or not the one that is.
    """
    return _only(load_all(path, name=name, root=root, variant=variant))


def loads_all(
    text: str,
    file: str,
    *,
    path: Path | str | None = None,
    root: Path | str | None = None,
    variant: str | None = None,
) -> tuple[Scenario, ...]:
    """Read the scenarios of a text; ``file`` is what problems and breaks call it.

    Without ``path``, the file that the text is of, nothing can be included.

    Raises:
        ScenarioError: With every problem found, sorted by place.
    """
    if len(text) > lang.MAX_BYTES or len(text.encode("utf-8", "replace")) > lang.MAX_BYTES:
        raise _too_big(file)
    values = Values(file)
    problems = values.problems
    scenarios: list[Scenario] = []
    try:
        tree = _compose(text, file, values.report)
        if tree is not None:
            tree = _included(tree, values, path, root)
            variants = Variants(values)
            variants.read(tree)
            scenarios = _scenarios(tree, variants, file, text, variant, problems)
    except Enough:
        pass
    if problems or not scenarios:
        raise ScenarioError(sorted(dict.fromkeys(problems), key=lambda problem: problem.location))
    return tuple(scenarios)


def loads(text: str, file: str) -> Scenario:
    """Read the scenario of a text that has one; ``file`` is what problems and breaks call it.

    Raises:
        ScenarioError: With every problem found, sorted by place; and if there are several scenarios.
    """
    return _only(loads_all(text, file))


def _only(scenarios: Sequence[Scenario]) -> Scenario:
    if len(scenarios) == 1:
        return scenarios[0]
    first = scenarios[0]
    names = ", ".join(f"{first.file}::{scenario.variant}" for scenario in scenarios[:5])
    more = ", ..." if len(scenarios) > 5 else ""
    message = f"the file has {len(scenarios)} variants, and none of them is named"
    raise ScenarioError([Problem(location=first.location, message=message, expected=f"one of: {names}{more}")])


def _included(tree: Node, values: Values, path: Path | str | None, root: Path | str | None) -> Node:
    entry = get(tree, "include")
    if entry is None:
        return tree
    if path is None:
        values.problem(entry[0], "a text that is no file cannot include files", "the scenario in a file")
        return without(tree, "include")

    def decode(data: bytes, name: str, report: Report) -> Node | None:
        text, problem = _decoded(data, name)
        if problem is not None:
            report(problem)
            return None
        return _compose(text, name, report)

    own = Path(os.path.abspath(path)).parent
    return Including(values, own if root is None else root, decode).merged(tree, path, values.file)


def _scenarios(
    tree: Node, variants: Variants, file: str, text: str, variant: str | None, problems: list[Problem]
) -> list[Scenario]:
    """Read each row's scenario; what is wrong in several of them is said once."""
    body = without(tree, "variants") if tree.kind == "mapping" else tree
    rows: Sequence[Row | None] = variants.rows if get(tree, "variants") is not None else (None,)
    if variant is not None:
        ids = [row.id for row in rows if row is not None]
        if variant not in ids and not problems:
            place = get(tree, "variants")
            message = f"there is no variant {quoted(variant)}" if ids else "the file has no variants"
            location = tree.location if place is None else place[0].location
            expected = f"one of: {', '.join(ids)}" if ids else "no name of one"
            problems.append(
                Problem(location=location, message=message, expected=expected, suggestion=nearest(variant, ids))
            )
        rows = [row for row in rows if row is not None and row.id == variant]
    found = []
    for row in rows or (None,) if problems else rows:
        reader = Reader(file)
        scenario = None
        with suppress(Enough):
            scenario = reader.scenario(filled(body, row), text)
        problems += variants.said(row, reader.problems) if row is not None else reader.problems
        if scenario is not None:
            found.append(scenario if row is None else replace(scenario, variant=row.id))
        if len(problems) > lang.MAX_PROBLEMS:
            break
    return found


def _decoded(data: bytes, file: str) -> tuple[str, Problem | None]:
    """A file's text, or what is wrong with its bytes."""
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError as error:
        if len(data) > lang.MAX_BYTES:
            return "", _too_big(file).problems[0]
        before = data[: error.start].decode("utf-8")
        place = _place(file, before, len(before))
        return "", Problem(location=place, message="this is not UTF-8", expected="text in UTF-8")


def _refusal(file: str, message: str, expected: str | None = None) -> ScenarioError:
    return ScenarioError([Problem(location=Location(file=file, line=1, column=1), message=message, expected=expected)])


def _too_big(file: str) -> ScenarioError:
    return _refusal(file, "the file is too big", f"at most {lang.MAX_BYTES} bytes")


def _place(file: str, text: str, index: int) -> Location:
    """The place of a character that YAML's own marks do not give."""
    before = re.split("\r\n|\r|\n", text[:index])
    return Location(file=file, line=len(before), column=len(before[-1]) + 1)


# -- YAML to nodes


def _compose(text: str, file: str, report: Report) -> Node | None:
    """Make nodes of YAML's events. None if there is no document; what is refused is reported and left out."""
    controls = list(_CONTROL.finditer(text, 1 if text.startswith("\ufeff") else 0))
    if controls:
        for match in controls:
            name = f"U+{ord(match[0]):04X}"
            report(
                Problem(
                    location=_place(file, text, match.start()), message=f"the control character {name} is not allowed"
                )
            )
        return None
    composer = _Composer(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), file, report)
    try:
        return composer.document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, column = (mark.line, mark.column) if mark else (0, 0)
        told = f"{getattr(error, 'problem', None) or error} {getattr(error, 'context', None) or ''}".strip()
        location = Location(file=file, line=line + 1, column=column + 1)
        report(Problem(location=location, message=f"this is not YAML: {told}"))
    return None


class _Composer:
    def __init__(self, events: Iterable[Any], file: str, report: Report) -> None:
        self._events = iter(events)
        self._file = file
        self._report = report

    def document(self) -> Node | None:
        root = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._problem(event, "a second document begins here", "one scenario in a file")
                    raise Enough
            elif not isinstance(event, (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentEndEvent)):
                root = self._node(event, 1)
        if root is None:
            self._report(
                Problem(
                    location=Location(file=self._file, line=1, column=1),
                    message="the file is empty",
                    expected="a scenario",
                )
            )
        return root

    def _at(self, event: Any) -> Location:
        return Location(file=self._file, line=event.start_mark.line + 1, column=event.start_mark.column + 1)

    def _problem(self, event: Any, message: str, expected: str | None = None) -> None:
        self._report(Problem(location=self._at(event), message=message, expected=expected))

    def _node(self, event: Any, depth: int) -> Node:
        location = self._at(event)
        if isinstance(event, yaml.AliasEvent):
            name = f"*{event.anchor}"
            self._problem(event, f"the alias {quoted(name)} is not allowed", "the value itself")
            return Node(kind="refused", location=location)
        if event.anchor is not None:
            name = f"&{event.anchor}"
            self._problem(event, f"the anchor {quoted(name)} is not allowed", "the value itself")
        if event.tag is not None:
            self._problem(event, f"the tag {quoted(event.tag)} is not allowed", "the value itself")
        if isinstance(event, yaml.ScalarEvent):
            match = _CONTROL.search(event.value)
            if match is not None:
                self._problem(event, f"the control character U+{ord(match[0]):04X} is not allowed")
            return Node(kind="scalar", location=location, text=event.value, plain=event.implicit[0])
        if depth > lang.MAX_DEPTH:
            self._problem(event, "this is nested too deeply", f"at most {lang.MAX_DEPTH} levels")
            raise Enough
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(inner, depth + 1))
            return Node(kind="sequence", location=location, items=tuple(items))
        pairs = []
        while not isinstance(inner := next(self._events), yaml.MappingEndEvent):
            key = self._node(inner, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if value.null and not value.text:
                value = Node(kind="scalar", location=key.location)
            pairs.append((key, value))
        return Node(kind="mapping", location=location, pairs=tuple(pairs))
