"""YAML text to a `Scenario`, and back: the only place that knows YAML.

The node graph is read, never plain data: nodes keep the author's text (``no`` stays a word, ``010`` no
octal, nothing is a float) and its place. What may stand where is said by the tables of `language`.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from harness.errors import Location, Problem, ScenarioError
from harness.scenario import language as lang
from harness.scenario.dump import dump
from harness.scenario.model import Scenario
from harness.scenario.nodes import Enough, Node, quoted
from harness.scenario.reader import Reader

__all__ = ["dump", "load", "loads"]

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""What no text may hold; a byte order mark may begin the file."""

Report = Callable[[Problem], None]


def load(path: Path | str, *, name: str | None = None) -> Scenario:
    """Read a scenario file.

    Args:
        path: The file.
        name: How problems and breaks call it; default: the path as given.

    Raises:
        ScenarioError: With every problem found, sorted by place. A file that is missing, unreadable, a
            folder, too big or not UTF-8 is a problem at its first character.
    """
    file = name if name is not None else str(path)
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            kind = "a folder" if Path(path).is_dir() else "no regular file"
            raise _refusal(file, f"this is {kind}", "a scenario file (YAML)")
        with open(path, "rb") as stream:
            data = stream.read(lang.MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise _refusal(file, "there is no such file") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _refusal(file, f"the file cannot be read: {reason}") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(data) > lang.MAX_BYTES:
            raise _too_big(file) from error
        before = data[: error.start].decode("utf-8")
        raise ScenarioError(
            [Problem(location=_place(file, before, len(before)), message="this is not UTF-8", expected="text in UTF-8")]
        ) from error
    return loads(text, file)


def loads(text: str, file: str) -> Scenario:
    """Read a scenario from text; ``file`` is what problems and breaks call it.

    Raises:
        ScenarioError: With every problem found, sorted by place.
    """
    if len(text) > lang.MAX_BYTES or len(text.encode("utf-8", "replace")) > lang.MAX_BYTES:
        raise _too_big(file)
    reader = Reader(file)
    scenario = None
    try:
        root = _compose(text, file, reader.report)
        scenario = reader.scenario(root, text) if root is not None else None
    except Enough:
        pass
    if reader.problems or scenario is None:
        unique = dict.fromkeys(reader.problems)
        raise ScenarioError(sorted(unique, key=lambda problem: problem.location))
    return scenario


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
