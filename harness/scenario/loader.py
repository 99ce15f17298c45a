"""YAML text to a `Scenario`, and back: the only place that knows YAML.

The node graph is read, never plain data: nodes keep the author's text (``no`` stays a word, ``010`` no
octal, nothing is a float) and its place. What may stand where is said by the tables of `language`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any, Literal, NoReturn, TypeVar

import yaml

from harness.errors import Location, Problem, ScenarioError, nearest
from harness.scenario import language as lang
from harness.scenario.check import Entry, Header, problems_of
from harness.scenario.dump import dump
from harness.scenario.language import Key, RecordField, Verb
from harness.scenario.model import (
    SHARES,
    Actor,
    Amount,
    Block,
    Check,
    Deposit,
    EndBlock,
    ExpectedBalance,
    ExpectedChain,
    ExpectedField,
    ExpectedRecord,
    Expectation,
    Mine,
    Mint,
    Quantity,
    Rebase,
    Redeem,
    Scenario,
    Supply,
    TokenSpec,
    Trade,
    VaultSpec,
    Wait,
    Withdraw,
)
from harness.units import PRICE_DECIMALS, parse_decimal, to_decimal

__all__ = ["dump", "load", "loads"]

_MAX_PROBLEMS = 500
_UINT256 = 1 << 256
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_AMOUNT = re.compile(rf"(?P<sign>[+-]?)(?:(?P<all>all)|(?P<number>{lang.NUMBER})(?: ?(?P<percent>%))?(?: +(?P<raw>raw))?)(?: +(?P<token>\S.*))?")
_EXPONENT = re.compile(r"[+-]?[0-9][0-9_.]*[eE][+-]?[0-9]+(?![^ ])")
_UNKNOWN_DECIMALS = 77
"""For a token whose own decimals are wrong: its amounts give no further problem."""

T = TypeVar("T")
_Where = Literal["steps", "block"]


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
        if not stat.S_ISREG(os.stat(path).st_mode):
            kind = "a folder" if os.path.isdir(path) else "no regular file"
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
        raise ScenarioError([Problem(location=_place(file, before, len(before)), message="this is not UTF-8", expected="text in UTF-8")]) from error
    return loads(text, file)


def loads(text: str, file: str) -> Scenario:
    """Read a scenario from text; ``file`` is what problems and breaks call it.

    Raises:
        ScenarioError: With every problem found, sorted by place.
    """
    if len(text) > lang.MAX_BYTES or len(text.encode("utf-8", "replace")) > lang.MAX_BYTES:
        raise _too_big(file)
    reader = _Reader(file)
    scenario = None
    try:
        root = _compose(text, file, reader.report)
        scenario = reader.scenario(root, text) if root is not None else None
    except _Enough:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """A value with its place. An empty value stands where its key stands."""

    kind: Literal["scalar", "mapping", "sequence"]
    location: Location
    text: str = ""
    plain: bool = True
    items: tuple[_Node, ...] = ()
    pairs: tuple[tuple[_Node, _Node], ...] = ()

    @property
    def null(self) -> bool:
        return self.kind == "scalar" and self.plain and self.text in ("", "~", "null", "Null", "NULL")

    @property
    def shown(self) -> str:
        """The author's text, quoted, cut where it is long."""
        if self.kind != "scalar":
            return "a mapping" if self.kind == "mapping" else "a list"
        return "nothing" if self.null and not self.text else _quoted(self.text)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


class _Enough(Exception):
    """No use in reading on."""


Report = Callable[[Problem], None]


def _compose(text: str, file: str, report: Report) -> _Node | None:
    """Make nodes of YAML's events. None if there is no document; what is refused is reported and left out."""
    controls = list(_CONTROL.finditer(text))
    if controls:
        for match in controls:
            name = f"U+{ord(match[0]):04X}"
            report(Problem(location=_place(file, text, match.start()), message=f"the control character {name} is not allowed"))
        return None
    composer = _Composer(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), file, report)
    try:
        return composer.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        location = Location(file=file, line=mark.line + 1, column=mark.column + 1) if mark else Location(file=file, line=1, column=1)
        told = f"{error.problem or error} {error.context or ''}".strip()
        report(Problem(location=location, message=f"this is not YAML: {told}"))
    except yaml.YAMLError as error:
        report(Problem(location=Location(file=file, line=1, column=1), message=f"this is not YAML: {error}"))
    return None


class _Composer:
    def __init__(self, events: Iterable[Any], file: str, report: Report) -> None:
        self._events = iter(events)
        self._file = file
        self._report = report

    def document(self) -> _Node | None:
        root = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._problem(event, "a second document begins here", "one scenario in a file")
                    raise _Enough
            elif not isinstance(event, (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentEndEvent)):
                root = self._node(event, 1)
        if root is None:
            self._report(Problem(location=Location(file=self._file, line=1, column=1), message="the file is empty", expected="a scenario"))
        return root

    def _at(self, event: Any) -> Location:
        return Location(file=self._file, line=event.start_mark.line + 1, column=event.start_mark.column + 1)

    def _problem(self, event: Any, message: str, expected: str | None = None) -> None:
        self._report(Problem(location=self._at(event), message=message, expected=expected))

    def _node(self, event: Any, depth: int) -> _Node:
        location = self._at(event)
        if isinstance(event, yaml.AliasEvent):
            self._problem(event, f"the alias {_quoted('*' + event.anchor)} is not allowed", "the value itself")
            return _Node(kind="scalar", location=location, text="*", plain=False)
        if event.anchor is not None:
            self._problem(event, f"the anchor {_quoted('&' + event.anchor)} is not allowed", "the value itself")
        if event.tag is not None:
            self._problem(event, f"the tag {_quoted(event.tag)} is not allowed", "the value itself")
        if isinstance(event, yaml.ScalarEvent):
            match = _CONTROL.search(event.value)
            if match is not None:
                self._problem(event, f"the control character U+{ord(match[0]):04X} is not allowed")
            return _Node(kind="scalar", location=location, text=event.value, plain=event.implicit[0])
        if depth > lang.MAX_DEPTH:
            self._problem(event, "this is nested too deeply", f"at most {lang.MAX_DEPTH} levels")
            raise _Enough
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(inner, depth + 1))
            return _Node(kind="sequence", location=location, items=tuple(items))
        pairs = []
        while not isinstance(inner := next(self._events), yaml.MappingEndEvent):
            key = self._node(inner, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if value.null and not value.text:
                value = _Node(kind="scalar", location=key.location)
            pairs.append((key, value))
        return _Node(kind="mapping", location=location, pairs=tuple(pairs))


# -- nodes to a scenario


class _Fault(Exception):
    """A value cannot be read; without a problem if the reason has been reported elsewhere."""

    def __init__(self, problem: Problem | None = None) -> None:
        super().__init__(problem)
        self.problem = problem


def _fail(node: _Node, message: str, expected: str | None = None, suggestion: str | None = None) -> NoReturn:
    raise _Fault(Problem(location=node.location, message=message, expected=expected, suggestion=suggestion))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _near(name: str, candidates: Iterable[str]) -> str | None:
    return nearest(name, candidates) if len(name) <= 64 else None


def _scalar(node: _Node, expected: str) -> str:
    if node.kind != "scalar" or node.null:
        _fail(node, f"found {node.shown}", expected)
    return node.text.strip()


def _number_fault(node: _Node, expected: str) -> NoReturn:
    text = node.text.strip()
    if _EXPONENT.match(text):
        _fail(node, f"{_quoted(text)} is a floating-point number", f"{expected}, written out")
    if re.match(r"[+-]?0[0-9_]", text):
        _fail(node, f"{_quoted(text)} has leading zeros", expected)
    _fail(node, f"found {node.shown}", expected)


def _decimal(node: _Node, expected: str, *, signed: bool = False) -> Fraction:
    text = _scalar(node, expected)
    if not re.fullmatch(f"[+-]?{lang.NUMBER}", text):
        _number_fault(node, expected)
    if len(text) > 200:
        _fail(node, f"{_quoted(text)} is too long", expected)
    number = parse_decimal(text)
    if number < 0 and not signed:
        _fail(node, f"{_quoted(text)} is negative", expected)
    return number


def _integer(node: _Node, low: int, high: int, expected: str) -> int:
    text = _scalar(node, expected)
    if not node.plain or not re.fullmatch(f"-?{lang.INTEGER}", text):
        _number_fault(node, expected)
    number = int(text) if len(text) <= 90 else high + 1
    if not low <= number <= high:
        _fail(node, f"{_quoted(text)} is out of range", expected)
    return number


def _scaled(node: _Node, decimals: int, expected: str) -> int:
    scaled = _decimal(node, expected) * 10**decimals
    if scaled.denominator != 1:
        _fail(node, f"{node.shown} has more than {decimals} decimals", expected)
    if not 0 < scaled.numerator < 1 << 127:
        _fail(node, f"{node.shown} is out of range", expected)
    return scaled.numerator


def _time(node: _Node) -> datetime:
    expected = "a time (UTC) such as 2024-01-01 00:00 or 2024-01-01 00:00:12"
    text = _scalar(node, expected)
    if not re.fullmatch(lang.TIME, text):
        _fail(node, f"found {node.shown}", expected)
    try:
        at = datetime.fromisoformat(text.rstrip("Z"))
    except ValueError as error:
        _fail(node, f"{node.shown} is no time: {error}", expected)
    if not 1970 <= at.year <= 9000:
        _fail(node, f"{node.shown} is out of range", "a year from 1970 to 9000")
    return at


def _length(node: _Node) -> timedelta:
    expected = "a length of time such as 12 s, 5 minutes, 6 hours or 30 days"
    text = _scalar(node, expected)
    match = re.fullmatch(rf"(?P<number>{lang.NUMBER}) ?(?P<unit>[A-Za-z]+)?", text)
    if match is None:
        _number_fault(node, expected)
    if match["unit"] is None:
        _fail(node, f"{node.shown} has no unit", expected)
    if match["unit"] not in lang.UNITS:
        _fail(node, f"unknown unit {_quoted(match['unit'])}", expected, _near(match["unit"], lang.UNITS))
    if len(match["number"]) > 30:
        _fail(node, f"{node.shown} is out of range", expected)
    seconds = parse_decimal(match["number"]) * lang.UNITS[match["unit"]]
    if seconds.denominator != 1:
        _fail(node, f"{node.shown} is no whole number of seconds", expected)
    if not 0 < seconds <= lang.MAX_LENGTH_SECONDS:
        _fail(node, f"{node.shown} is out of range", "more than 0 and at most 36500 days")
    return timedelta(seconds=seconds.numerator)


def _flag(node: _Node) -> bool:
    text = _scalar(node, "true or false")
    if not node.plain or text not in ("true", "false"):
        _fail(node, f"found {node.shown}", "true or false", _near(text, ("true", "false")))
    return text == "true"


def _word(node: _Node, names: Sequence[str], what: str, planned: Sequence[str] = ()) -> str:
    expected = f"one of: {_listed(names)}"
    text = _scalar(node, expected)
    if text in planned:
        _fail(node, f"{what} {_quoted(text)} is not supported yet", expected)
    if text not in names:
        _fail(node, f"unknown {what} {_quoted(text)}", expected, _near(text, names))
    return text


def _text(node: _Node, most: int = 10_000) -> str:
    expected = "text"
    if node.kind != "scalar" or node.null:
        _fail(node, f"found {node.shown}", expected)
    if len(node.text.encode("utf-8", "replace")) > most:
        _fail(node, f"{node.shown} is too long", f"at most {most} bytes")
    return node.text


def _line(node: _Node, most: int) -> str:
    text = _text(node, most)
    if not text.strip() or "\n" in text or "\t" in text:
        _fail(node, f"found {node.shown}", "text in one line")
    return text


def _decimal_of(number: Fraction) -> Decimal:
    """A number that came from decimal text, as a Decimal, exactly."""
    places = 0
    while number.denominator != 1:
        number *= 10
        places += 1
    return to_decimal(number.numerator, places)


_END_BLOCK = re.compile(lang.END_BLOCK)


class _Reader:
    """Reads one file; collects problems as it goes and reads on with what is right."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.tokens: dict[str, TokenSpec] = {}
        self.kind: str | None = None
        self.reserve: str | None = None
        self.share_symbol = "VAULT"
        self.share_decimals = _UNKNOWN_DECIMALS
        self.actors: dict[str, Mapping[str, int] | None] = {}
        self.approvals: set[tuple[str, str]] = set()
        self.awaited: list[tuple[_Node, str]] = []
        self._kinds: Mapping[str, Callable[[_Node], object]] = {
            "actor": self._actor,
            "any_amount": lambda node: self._amount(node, tuple(self.tokens)),
            "assets": self._assets,
            "balance": self._balance,
            "block_number": lambda node: _integer(node, 0, 1 << 63, "a block number"),
            "cause": lambda node: _word(node, lang.CAUSES, "cause"),
            "chain_id": lambda node: _integer(node, 1, (1 << 53) - 1, "a chain id from 1"),
            "count": lambda node: _integer(node, 1, 1 << 53, "a whole number from 1"),
            "decimals": lambda node: _integer(node, 0, lang.MAX_DECIMALS, f"decimals from 0 to {lang.MAX_DECIMALS}"),
            "dust": lambda node: self._values(node, lang.DUST, "dust"),
            "end_block": self._end_block,
            "exact_amount": lambda node: self._amount(node, tuple(self.tokens), exact=True),
            "exact_shares": lambda node: self._amount(node, (SHARES,), exact=True),
            "factor": lambda node: _scaled(node, 27, "a factor above 0 such as 1.05, at most 27 decimals"),
            "flag": _flag,
            "fraction": self._fraction,
            "hash": self._hash,
            "index_amount": self._index_amount,
            "index_token": self._index_token,
            "integer": lambda node: _integer(node, 0, 1 << 63, "a whole number"),
            "length": _length,
            "name": lambda node: _line(node, lang.MAX_NAME_BYTES),
            "number": lambda node: _decimal(node, "a number", signed=True),
            "owner": self._owner,
            "address": self._address,
            "planned": lambda node: None,
            "position": self._position,
            "position_id": lambda node: _integer(node, 1, 1 << 31, "the id of a position, from 1"),
            "position_type": lambda node: _word(node, lang.POSITION_TYPES, "position type"),
            "reserve_amount": lambda node: self._amount(node, (self.reserve,) if self.reserve else ()),
            "second": lambda node: _word(node, ("second",), "vault") == "second",
            "share_symbol": lambda node: _line(node, lang.MAX_SYMBOL_BYTES),
            "shares": lambda node: self._amount(node, (SHARES,)),
            "symbol": self._symbol,
            "symbols": self._symbols,
            "text": _text,
            "time": _time,
            "title": lambda node: _line(node, 1_000),
            "token_kind": lambda node: _word(node, lang.TOKEN_KINDS, "token kind", lang.TOKEN_KINDS_PLANNED),
            "usd": lambda node: _scaled(node, PRICE_DECIMALS, f"a price above 0 in US dollars, at most {PRICE_DECIMALS} decimals"),
            "vault_kind": lambda node: _word(node, lang.VAULT_KINDS, "vault kind", lang.VAULT_KINDS_PLANNED),
        }

    # -- collecting

    def report(self, problem: Problem) -> None:
        self.problems.append(problem)
        if len(self.problems) >= _MAX_PROBLEMS:
            last = self.problems[-1].location
            self.problems.append(Problem(location=last, message=f"more than {_MAX_PROBLEMS} problems; the rest is not shown"))
            raise _Enough

    def problem(self, node: _Node, message: str, expected: str | None = None, suggestion: str | None = None) -> None:
        self.report(Problem(location=node.location, message=message, expected=expected, suggestion=suggestion))

    def attempt(self, read: Callable[[_Node], T], node: _Node) -> T | None:
        """What ``read`` gives; None with a problem noted if it cannot."""
        try:
            return read(node)
        except _Fault as fault:
            if fault.problem is not None:
                self.report(fault.problem)
            return None

    def pairs(self, node: _Node, what: str) -> list[tuple[str, _Node, _Node]]:
        """A mapping's entries under plain, different keys."""
        if node.kind != "mapping":
            _fail(node, f"found {node.shown}", f"a mapping for {what}")
        entries: dict[str, tuple[_Node, _Node]] = {}
        for key, value in node.pairs:
            if key.kind != "scalar" or key.null:
                self.problem(key, f"{key.shown} is no key", "text")
            elif key.plain and key.text == "<<":
                self.problem(key, "merge keys are not allowed", "the keys themselves")
            elif key.text in entries:
                first = entries[key.text][0].location
                self.problem(key, f"{_quoted(key.text)} stands here twice, first in line {first.line}", "each key once")
            else:
                entries[key.text] = (key, value)
        return [(name, key, value) for name, (key, value) in entries.items()]

    def keyed(self, node: _Node, keys: Sequence[Key], what: str, place: _Node | None = None) -> dict[str, tuple[_Node, _Node]]:
        """A mapping's entries, each a key of the table that may be used already."""
        table = {key.name: key for key in keys}
        names = [key.name for key in keys if not key.planned]
        found: dict[str, tuple[_Node, _Node]] = {}
        for name, key, value in self.pairs(node, what):
            if name not in table:
                self.problem(key, f"unknown key {_quoted(name)} in {what}", f"one of: {_listed(names)}", _near(name, names))
            elif table[name].planned:
                self.problem(key, f"key {_quoted(name)} in {what} is not supported yet", f"one of: {_listed(names)}")
            else:
                found[name] = (key, value)
        lacking = [key.name for key in keys if key.required and key.name not in found]
        if lacking:
            self.problem(place or node, f"{what} lacks {_listed(repr(name) for name in lacking)}", f"the keys: {_listed(names)}")
        return found

    def _values(self, node: _Node, keys: Sequence[Key], what: str, place: _Node | None = None) -> dict[str, Any]:
        """A mapping's values, read by kind, under the keys' names; without those that are wrong."""
        found = self.keyed(node, keys, what, place)
        values: dict[str, Any] = {}
        for key in keys:
            if key.name in found:
                value = self.attempt(self._kinds[key.kind], found[key.name][1])
                if value is not None:
                    values[key.name] = value
        return values

    # -- header

    def scenario(self, root: _Node, text: str) -> Scenario | None:
        try:
            found = self.keyed(root, lang.HEADER, "the scenario")
        except _Fault as fault:
            if fault.problem is not None:
                self.report(fault.problem)
            return None
        self._tokens(found.get("tokens"))
        vault = self._vault(found.get("vault"), root)
        if "actors" in found:
            self.attempt(self._actors, found["actors"][1])
        simple: dict[str, Any] = {}
        for name in ("title", "start", "block_time", "chain_id", "interest_bound"):
            if name in found:
                kind = next(key.kind for key in lang.HEADER if key.name == name)
                value = self.attempt(self._kinds[kind], found[name][1])
                if value is not None:
                    simple[name] = value
        tags = self.attempt(self._tags, found["tags"][1]) if "tags" in found else ()
        deploy = self._steps(found["deploy_block"][1], "block") if "deploy_block" in found else []
        steps_node = found["steps"][1] if "steps" in found else None
        steps = self._steps(steps_node, "steps") if steps_node is not None else []
        for node, name in self.awaited:
            if name not in self.actors:
                self.problem(node, f"unknown actor {_quoted(name)}", f"one of: {_listed(sorted([*self.actors, 'vault']))}", _near(name, [*self.actors, "vault"]))
        start = simple.get("start", datetime(2024, 1, 1))
        block_time = simple.get("block_time", timedelta(seconds=12))
        if steps_node is not None and steps_node.kind == "sequence":
            header = Header(reserve=self.reserve, start=start, block_time=block_time, steps=found["steps"][0].location)
            for problem in problems_of(header, deploy, steps):
                self.report(problem)
        if self.problems or vault is None or tags is None:
            return None
        return Scenario(
            location=root.location,
            title=simple.get("title", _title(self.file)),
            tags=tags,
            tokens=self.tokens,
            vault=vault,
            actors=dict(sorted(self.actors.items())),
            approvals=tuple(sorted(self.approvals)),
            start=start,
            block_time=block_time,
            chain_id=simple.get("chain_id", 1337),
            deploy_block=tuple(entry.step for entry in deploy if entry.step is not None),  # type: ignore[misc]
            interest_bound=simple.get("interest_bound", Decimal("0.05")),
            steps=tuple(entry.step for entry in steps if entry.step is not None),
            text=text,
        )

    def _tags(self, node: _Node) -> tuple[str, ...]:
        if node.kind != "sequence":
            _fail(node, f"found {node.shown}", "a list of tags such as [enzyme, case-43]")
        tags: list[str] = []
        for item in node.items:
            tag = self.attempt(lambda item: _line(item, 100), item)
            if tag is not None and re.search(r"\s", tag):
                self.problem(item, f"the tag {_quoted(tag)} has a space", "a single word")
            elif tag is not None and tag in tags:
                self.problem(item, f"the tag {_quoted(tag)} stands here twice", "each tag once")
            elif tag is not None:
                tags.append(tag)
        return tuple(tags)

    def _tokens(self, pair: tuple[_Node, _Node] | None) -> None:
        if pair is None:
            return
        node = pair[1]
        entries = self.attempt(lambda node: self.pairs(node, "the tokens, by symbol"), node) or []
        if node.kind == "mapping" and not node.pairs:
            self.problem(pair[0], "there are no tokens", "at least one, such as USDC: {decimals: 6}")
        read: dict[str, tuple[_Node, dict[str, Any], dict[str, tuple[_Node, _Node]]]] = {}
        # Every symbol must be known before an underlying can be looked up, wherever it stands.
        for symbol, key, _ in entries:
            self._check_symbol(symbol, key)
            self.tokens[symbol] = self._spec(symbol, key, {})
        for symbol, key, value in entries:
            if value.null:
                value = _Node(kind="mapping", location=key.location)
            values = self.attempt(lambda value, symbol=symbol: self._values(value, lang.TOKEN, f"token {symbol}"), value)  # type: ignore[misc]
            nodes = {name.text: (name, inner) for name, inner in value.pairs}
            read[symbol] = (key, values or {}, nodes)
        for symbol, (key, values, nodes) in read.items():
            self._underlying(symbol, values, nodes, read)
            wrong = "decimals" in nodes and "decimals" not in values
            if "decimals" not in values:
                values["decimals"] = _UNKNOWN_DECIMALS if wrong else 18
            self.tokens[symbol] = self._spec(symbol, key, values)

    def _check_symbol(self, symbol: str, key: _Node) -> None:
        expected = f"a symbol without spaces, at most {lang.MAX_SYMBOL_BYTES} bytes, that is no number and none of {_listed(lang.RESERVED_SYMBOLS)}"
        if (
            re.search(r"\s|%", symbol)
            or len(symbol.encode()) > lang.MAX_SYMBOL_BYTES
            or symbol in lang.RESERVED_SYMBOLS
            or re.fullmatch(f"[+-]?{lang.NUMBER}", symbol)
            or not symbol
        ):
            self.problem(key, f"{_quoted(symbol)} cannot be a token's symbol", expected)

    def _spec(self, symbol: str, key: _Node, values: Mapping[str, Any]) -> TokenSpec:
        dust = values.get("dust", {})
        return TokenSpec(
            location=key.location,
            symbol=symbol,
            name=values.get("name", symbol),
            decimals=values.get("decimals", _UNKNOWN_DECIMALS),
            kind=values.get("kind", "plain"),
            underlying=values.get("underlying"),
            price_raw=values.get("usd", 10**PRICE_DECIMALS),
            dust_absolute=_decimal_of(dust["absolute"]) if "absolute" in dust else Decimal(0),
            dust_relative=dust.get("relative", Decimal(0)),
        )

    def _underlying(
        self,
        symbol: str,
        values: dict[str, Any],
        nodes: Mapping[str, tuple[_Node, _Node]],
        read: Mapping[str, tuple[_Node, dict[str, Any], Mapping[str, tuple[_Node, _Node]]]],
    ) -> None:
        """Check what a token says of its underlying, and take over what it leaves to it."""
        name = values.get("underlying")
        if "dust" in values and values["dust"].get("absolute", Fraction(0)) < 0:
            self.problem(nodes["dust"][1], "dust is negative", "a number from 0")
        if name is None:
            return
        at = nodes["underlying"][1]
        _, base, base_nodes = read[name]
        if name == symbol:
            self.problem(at, f"{symbol} cannot be its own underlying", "another token")
            return
        if values.get("kind", "plain") != "index_rebase" and "kind" not in nodes:
            self.problem(at, f"{symbol} has an underlying but is a plain token", "kind: index_rebase beside it")
        elif values.get("kind") == "plain":
            self.problem(at, f"{symbol} has an underlying but is a plain token", "kind: index_rebase beside it")
        if "underlying" in base:
            self.problem(at, f"{name} has an underlying itself", "a token without one")
        if "decimals" in base_nodes and "decimals" not in base:
            values.setdefault("decimals", _UNKNOWN_DECIMALS)
        else:
            decimals = base.get("decimals", 18)
            if values.setdefault("decimals", decimals) not in (decimals, _UNKNOWN_DECIMALS):
                self.problem(nodes["decimals"][1], f"{symbol} has {values['decimals']} decimals, its underlying {name} has {decimals}", "equal decimals")
        if "usd" in base:
            values.setdefault("usd", base["usd"])

    def _vault(self, pair: tuple[_Node, _Node] | None, root: _Node) -> VaultSpec | None:
        if pair is None:
            self._settle_reserve(None)
            return None
        node = pair[1]
        try:
            values = self._values(node, lang.VAULT, "the vault", pair[0])
        except _Fault as fault:
            if fault.problem is not None:
                self.report(fault.problem)
            self._settle_reserve(None)
            return None
        nodes = {name.text: inner for name, inner in node.pairs}
        self.kind = values.get("kind")
        if "reserve" not in nodes and len(self.tokens) > 1:
            self.problem(pair[0], "the vault lacks 'reserve', and there are several tokens", f"reserve: one of {_listed(self.tokens)}")
        self._settle_reserve(values.get("reserve") if "reserve" in nodes else next(iter(self.tokens), None) if len(self.tokens) == 1 else None)
        if self.kind == "erc4626" and "tracked" in nodes:
            self.problem(next(name for name, _ in node.pairs if name.text == "tracked"), "only enzyme tracks assets", "no 'tracked' on erc4626")
        self.share_symbol = values.get("symbol", "VAULT")
        if self.kind is None or self.reserve is None:
            return None
        return VaultSpec(
            location=node.location,
            kind=self.kind,  # type: ignore[arg-type]
            name=values.get("name", "Vault"),
            symbol=self.share_symbol,
            reserve=self.reserve,
            tracked=values.get("tracked"),
        )

    def _settle_reserve(self, reserve: str | None) -> None:
        self.reserve = reserve
        if self.kind == "enzyme":
            self.share_decimals = 18
        elif self.kind == "erc4626" and reserve is not None:
            self.share_decimals = self.tokens[reserve].decimals

    def _actors(self, node: _Node) -> None:
        for name, key, value in self.pairs(node, "the actors, by name"):
            if self.attempt(self._actor, key) is None or value.null:
                continue
            balances = self.attempt(lambda value, name=name: self._balances(value, f"what {name} owns"), value)  # type: ignore[misc]
            self.actors[name] = {balance.token: balance.raw for balance in balances or ()}

    # -- kinds

    def _actor(self, node: _Node) -> str:
        expected = "an actor's name: letters, digits, _ . -, at most 64"
        name = _scalar(node, expected)
        if name in lang.RESERVED_ACTORS:
            _fail(node, f"nobody can be called {_quoted(name)}: the harness calls an address of its own so", expected)
        if not re.fullmatch(lang.ACTOR, name):
            _fail(node, f"{node.shown} is no actor's name", expected)
        self.actors.setdefault(name, None)
        return name

    def _named(self, name: str, node: _Node, *, shares: bool = False) -> str:
        """The token that an amount or a key names."""
        if shares and name in (SHARES, "share", self.share_symbol):
            return SHARES
        if name not in self.tokens:
            known = [*self.tokens, SHARES] if shares else list(self.tokens)
            _fail(node, f"unknown token {_quoted(name)}", f"one of: {_listed(known)}", _near(name, known))
        return name

    def _symbol(self, node: _Node) -> str:
        return self._named(_scalar(node, f"a token, one of: {_listed(self.tokens)}"), node)

    def _symbols(self, node: _Node) -> tuple[str, ...]:
        if node.kind != "sequence":
            _fail(node, f"found {node.shown}", "a list of tokens")
        symbols: list[str] = []
        for item in node.items:
            symbol = self.attempt(self._symbol, item)
            if symbol in symbols:
                self.problem(item, f"{symbol} stands here twice", "each token once")
            elif symbol is not None:
                symbols.append(symbol)
        return tuple(symbols)

    def _index_token(self, node: _Node) -> str:
        names = [symbol for symbol, spec in self.tokens.items() if spec.kind == "index_rebase"]
        expected = f"a token of kind index_rebase: {_listed(names) or 'the file has none'}"
        symbol = self._named(_scalar(node, expected), node)
        if symbol not in names:
            _fail(node, f"{symbol} is a plain token", expected, names[0] if len(names) == 1 else None)
        return symbol

    def _decimals(self, token: str) -> int:
        return self.share_decimals if token == SHARES else self.tokens[token].decimals

    def _amount(self, node: _Node, tokens: Sequence[str], *, exact: bool = False, signed: bool = False) -> Amount:
        """An amount of one of ``tokens``; which one may be left out where there is just one."""
        names = [self.share_symbol if token == SHARES else token for token in tokens]
        sample = names[0] if names else "USDC"
        expected = f"an amount such as 100 {sample} or 1 raw {sample}" + ("" if exact else f", 40% or all of {sample}")
        text = _scalar(node, expected)
        match = _AMOUNT.fullmatch(text)
        if match is None:
            self._amount_fault(node, expected)
        token = self._amount_token(node, match["token"], tokens, names, expected)
        number = match["number"]
        if match["sign"] == "-" and not signed:
            _fail(node, f"{_quoted(text)} is negative", expected)
        if number is None or match["percent"]:
            return self._part(node, match, token, exact, expected)
        return Amount(location=node.location, text=node.text, token=token, raw=self._raw(node, match, token, expected))

    def _amount_fault(self, node: _Node, expected: str) -> NoReturn:
        text = node.text.strip()
        glued = re.fullmatch(rf"([+-]?{lang.NUMBER})([^\W\d_]\S*)", text)
        if glued and not _EXPONENT.match(text):
            _fail(node, f"{_quoted(text)} lacks a space before the token", expected, f"{glued[1]} {glued[2]}")
        _number_fault(node, expected)

    def _amount_token(self, node: _Node, name: str | None, tokens: Sequence[str], names: Sequence[str], expected: str) -> str:
        if name is None:
            if len(tokens) == 1:
                return tokens[0]
            if not tokens:
                raise _Fault
            _fail(node, f"{_quoted(node.text.strip())} names no token", f"one of {_listed(names)} after it")
        token = self._named(name, node, shares=SHARES in tokens)
        if tokens and token not in tokens:
            _fail(node, f"{_quoted(node.text.strip())} is in {name}", f"an amount of {_listed(names)}")
        return token

    def _part(self, node: _Node, match: re.Match[str], token: str, exact: bool, expected: str) -> Amount:
        """``40%`` or ``all``."""
        if exact:
            _fail(node, f"{node.shown} is no exact amount", expected)
        if match["raw"]:
            _fail(node, f"{node.shown} is both a percentage and raw", expected)
        if match["percent"] is None:
            return Amount(location=node.location, text=node.text, token=token)
        if len(match["number"]) > 100:
            _fail(node, f"{node.shown} is too long", expected)
        percent = parse_decimal(match["number"]) / 100
        if percent > 1:
            _fail(node, f"{node.shown} is more than there is", "at most 100%")
        return Amount(location=node.location, text=node.text, token=token, percent=percent)

    def _raw(self, node: _Node, match: re.Match[str], token: str, expected: str) -> int:
        number = match["number"]
        if len(number) > 200:
            _fail(node, f"{node.shown} is too long", expected)
        decimals = 0 if match["raw"] else self._decimals(token)
        scaled = parse_decimal(match["sign"] + number) * 10**decimals
        if scaled.denominator != 1:
            if match["raw"]:
                _fail(node, f"{node.shown}: raw units are whole", expected)
            _fail(node, f"{node.shown} has too many decimals", f"at most {decimals} decimals, as {self._shown_token(token)} has")
        if abs(scaled.numerator) >= _UINT256 and decimals != _UNKNOWN_DECIMALS:
            _fail(node, f"{node.shown} does not fit into 256 bits", expected)
        return scaled.numerator

    def _shown_token(self, token: str) -> str:
        return "the share" if token == SHARES else token

    def _index_amount(self, node: _Node) -> Amount:
        tokens = tuple(symbol for symbol, spec in self.tokens.items() if spec.kind == "index_rebase")
        if not tokens:
            _fail(node, "there is no rebase token to withdraw", "a token of kind index_rebase in the header")
        return self._amount(node, tokens)

    def _balance(self, node: _Node) -> _Node:
        """The token of a rebase's balance is known only with the whole step."""
        return node

    def _position(self, node: _Node) -> int | str:
        if node.kind == "scalar" and node.text == "new":
            return "new"
        return _integer(node, 1, 1 << 31, "the id of a position, from 1, or new")

    def _end_block(self, node: _Node) -> EndBlock:
        expected = "a block number, or head-4"
        text = _scalar(node, expected)
        if not _END_BLOCK.fullmatch(text):
            if text.startswith("head"):
                _fail(node, f"found {node.shown}", expected)
            return EndBlock(number=_integer(node, 0, 1 << 63, expected))
        digits = text.removeprefix("head").strip(" -").replace("_", "")
        if len(digits) > 18:
            _fail(node, f"{node.shown} is out of range", expected)
        return EndBlock(below_head=int(digits or 0))

    def _fraction(self, node: _Node) -> Decimal:
        number = _decimal(node, "a fraction such as 0.05")
        return _decimal_of(number)

    def _hash(self, node: _Node) -> str:
        text = _scalar(node, "a transaction hash, 0x and 64 hex digits")
        if not re.fullmatch("0x[0-9a-fA-F]{64}", text):
            _fail(node, f"found {node.shown}", "a transaction hash, 0x and 64 hex digits")
        return text.lower()

    def _owner(self, node: _Node) -> Actor | str:
        expected = "an actor's name, vault, or an address"
        text = _scalar(node, expected)
        if re.fullmatch("0x[0-9a-fA-F]{40}", text):
            return text
        if text != "vault":
            if not re.fullmatch(lang.ACTOR, text):
                _fail(node, f"found {node.shown}", expected)
            self.awaited.append((node, text))
        return Actor(name=text)

    def _address(self, node: _Node) -> Actor | str:
        expected = "vault, or an address"
        text = _scalar(node, expected)
        if re.fullmatch("0x[0-9a-fA-F]{40}", text):
            return text
        if text != "vault":
            _fail(node, f"found {node.shown}", expected, _near(text, ["vault"]))
        return Actor(name=text)

    # -- steps

    def _steps(self, node: _Node, where: _Where) -> list[Entry]:
        if node.kind != "sequence":
            self.problem(node, f"found {node.shown}", "a list of steps")
            return []
        return [self._step(item, where) for item in node.items]

    def _step(self, node: _Node, where: _Where) -> Entry:
        """One step; without a value where it cannot be read."""
        broken = Entry(location=node.location)
        names = [*lang.VERB, "expect"]
        if node.kind == "scalar" and not node.null:
            word = node.text.strip()
            if word in lang.VERBS_PLANNED:
                self.problem(node, f"step {_quoted(word)} is not supported yet", f"one of: {_listed(names)}")
                return broken
            suggestion = word if word in lang.VERB else _near(word, names)
            self.problem(node, f"the step {node.shown} is a word", "a mapping such as 'sync:'", f"{suggestion}:" if suggestion else None)
            return broken
        pairs = self.attempt(lambda node: self.pairs(node, "a step"), node)
        if pairs is None:
            return broken
        found = {name: (key, value) for name, key, value in pairs}
        beside = {key.name for key in lang.BESIDE}
        verbs = [name for name in found if name in lang.VERB or name in lang.VERBS_PLANNED]
        strangers = [name for name in found if name not in beside and name not in verbs]
        for name in strangers:
            self._stranger(name, found[name][0], verbs, "expect" in found)
        for name in verbs[1:]:
            self.problem(found[name][0], f"a second verb, {_quoted(name)}, beside {_quoted(verbs[0])}", "a step of its own for each verb")
        if not verbs:
            if strangers:
                self._beside(found, None, where)
                return broken
            return self._check(node, found, where)
        key, body = found[verbs[0]]
        if verbs[0] in lang.VERBS_PLANNED:
            self.problem(key, f"step {_quoted(verbs[0])} is not supported yet", f"one of: {_listed(names)}")
            return broken
        verb = lang.VERB[verbs[0]]
        extras = self._beside(found, verb, where)
        if where == "block" and not verb.chain:
            self.problem(key, f"{_quoted(verb.name)} cannot stand inside a block", f"one of: {_listed(v.name for v in lang.VERBS if v.chain)}")
            return Entry(location=key.location, verb=verb)
        if self.kind is not None and self.kind not in verb.vaults:
            self.problem(key, f"{_quoted(verb.name)} is not possible on {self.kind}", f"one of: {_listed(v.name for v in lang.VERBS if self.kind in v.vaults)}")
        return self._body(verb, key, body, extras)

    def _stranger(self, name: str, key: _Node, verbs: Sequence[str], expects: bool) -> None:
        """A key of a step that is neither verb nor anything that stands beside one."""
        beside = [key.name for key in lang.BESIDE]
        if verbs or expects:
            verb = verbs[0] if verbs else "expect"
            self.problem(key, f"unknown key {_quoted(name)} beside {_quoted(verb)}", f"one of: {_listed(beside)}", _near(name, [*beside, *lang.VERB]))
        else:
            names = sorted([*lang.VERB, "expect"])
            self.problem(key, f"unknown step {_quoted(name)}", f"one of: {_listed(names)}", _near(name, names))

    def _check(self, node: _Node, found: Mapping[str, tuple[_Node, _Node]], where: _Where) -> Entry:
        """A step that is nothing but an ``expect``."""
        if "expect" not in found:
            self.problem(node, "a step without a verb", f"one of: {_listed(sorted([*lang.VERB, 'expect']))}")
            return Entry(location=node.location)
        extras = self._beside(found, None, where)
        location = found["expect"][0].location
        if where == "block" or "expect" not in extras:
            return Entry(location=location)
        return Entry(location=location, step=Check(location=location, **extras))

    def _beside(self, found: Mapping[str, tuple[_Node, _Node]], verb: Verb | None, where: _Where) -> dict[str, Any]:
        """``expect``, ``refused`` and ``note``."""
        extras: dict[str, Any] = {}
        if "note" in found:
            note = self.attempt(_text, found["note"][1])
            if note is not None:
                extras["note"] = note
        if "refused" in found:
            key, value = found["refused"]
            if verb is None or not verb.refusable:
                name = verb.name if verb else "expect"
                self.problem(key, f"{_quoted(name)} cannot be refused", "'refused' beside steps that chain or syncer carry out")
            refused = self.attempt(self._refused, value)
            if refused is not None:
                extras["refused"] = refused
        if "expect" in found:
            key, value = found["expect"]
            if where == "block":
                self.problem(key, "'expect' cannot stand inside a block", "it beside the block, or in a step of its own")
            syncing = verb is not None and verb.syncing
            expect = self.attempt(lambda value: self._expect(value, key, syncing=syncing, inner=False), value)
            if expect is not None:
                extras["expect"] = expect
        return extras

    def _refused(self, node: _Node) -> str:
        expected = "text of the reason, or true for any"
        text = _scalar(node, expected)
        if node.plain and text == "true":
            return ""
        if node.plain and text == "false":
            _fail(node, "'refused: false' says nothing", expected)
        return _text(node, 1_000)

    def _body(self, verb: Verb, key: _Node, body: _Node, extras: dict[str, Any]) -> Entry:
        location = key.location
        nothing = Entry(location=location, verb=verb)
        try:
            if verb.body == "steps":
                return self._block(verb, key, body, extras)
            if verb.body == "blocks":
                blocks = _integer(body, 1, lang.MAX_BLOCKS, f"a number of blocks from 1 to {lang.MAX_BLOCKS}")
                return Entry(location=location, verb=verb, step=Mine(location=location, blocks=blocks, **extras))
            if verb.body == "length" and body.kind == "scalar":
                return Entry(location=location, verb=verb, step=Wait(location=location, duration=_length(body), **extras))
            if verb.body == "optional" and body.null:
                body = _Node(kind="mapping", location=location)
            if verb.body == "keys" and body.null:
                lacking = [k.name for k in verb.keys if k.required]
                _fail(key, f"{_quoted(verb.name)} lacks {_listed(map(repr, lacking))}", f"the keys: {_listed(k.name for k in verb.keys if not k.planned)}")
            values = self._values(body, verb.keys, repr(verb.name), key)
        except _Fault as fault:
            if fault.problem is not None:
                self.report(fault.problem)
            return nothing
        places = {name.text: value.location for name, value in body.pairs if name.kind == "scalar"}
        if any(k.required and k.name not in values for k in verb.keys):
            return nothing
        self._complete(verb, values, {name.text: (name, value) for name, value in body.pairs}, key)
        if values.pop("broken", False):
            return nothing
        fields = {(k.field or k.name): values[k.name] for k in verb.keys if k.name in values}
        step: Any = verb.step(location=location, **fields, **extras)
        return Entry(location=location, verb=verb, step=step, places=places)

    def _block(self, verb: Verb, key: _Node, body: _Node, extras: dict[str, Any]) -> Entry:
        inner = self._steps(body, "block")
        if body.kind == "sequence" and not body.items:
            self.problem(key, "the block is empty", "chain steps, or 'mine' for an empty block")
        steps: Any = tuple(entry.step for entry in inner)
        if not inner or None in steps:
            return Entry(location=key.location, verb=verb, inner=tuple(inner))
        return Entry(location=key.location, verb=verb, step=Block(location=key.location, steps=steps, **extras), inner=tuple(inner))

    def _complete(self, verb: Verb, values: dict[str, Any], nodes: Mapping[str, tuple[_Node, _Node]], key: _Node) -> None:
        """Fill in what a step leaves out, and check what its keys say together."""
        if verb.step in (Deposit, Mint):
            values.setdefault("receiver", values["caller"])
        elif verb.step in (Withdraw, Redeem):
            values.setdefault("owner", values["caller"])
            values.setdefault("receiver", values["caller"])
            if values["owner"] != values["caller"]:
                if self.kind == "enzyme":
                    self.problem(nodes["owner"][1], "on enzyme nobody redeems another's shares", f"the caller, {values['caller']}", values["caller"])
                self.approvals.add((values["owner"], values["caller"]))
        elif verb.step is Trade:
            self._trade(values, nodes)
        elif verb.step is Supply:
            spec = self.tokens[values["into"]]
            if self.reserve is not None and spec.underlying != self.reserve:
                wraps = f"wraps {spec.underlying}" if spec.underlying else "wraps nothing"
                self.problem(nodes["into"][1], f"{spec.symbol} {wraps}, not the reserve {self.reserve}", f"a token whose underlying is {self.reserve}")
        elif verb.step is Rebase:
            self._rebase(values, nodes, key)

    def _trade(self, values: Mapping[str, Any], nodes: Mapping[str, tuple[_Node, _Node]]) -> None:
        sold, bought = values["sell"].token, values["buy"].token
        if sold == bought:
            self.problem(nodes["buy"][1], f"{sold} is sold for itself", "another token")
        elif self.reserve is not None and self.reserve not in (sold, bought):
            self.problem(nodes["buy"][1], f"neither {sold} nor {bought} is the reserve", f"one side in {self.reserve}")
        elif values.get("position") == "new" and bought == self.reserve:
            self.problem(nodes["position"][1], "a sale opens no position", "the id of a position")

    def _rebase(self, values: dict[str, Any], nodes: Mapping[str, tuple[_Node, _Node]], key: _Node) -> None:
        if ("factor" in nodes) == ("balance" in nodes):
            at = nodes["balance"][0] if "balance" in nodes else key
            self.problem(at, "a rebase says 'factor' or 'balance', one of them", "factor: 1.05, or balance: 1_050 aUSDC")
            values["broken"] = True
        elif "balance" in nodes:
            amount = self.attempt(lambda node: self._amount(node, (values["token"],), exact=True), values["balance"])
            values["balance"] = amount
            values["broken"] = amount is None
        elif "factor" not in values:
            values["broken"] = True

    # -- expectations

    def _expect(self, node: _Node, key: _Node, *, syncing: bool, inner: bool) -> Expectation:
        what = "'contains'" if inner else "'expect'"
        if node.null or node.kind == "mapping" and not node.pairs:
            _fail(key, f"{what} names nothing", f"one of: {_listed(k.name for k in lang.EXPECT)}")
        keys = [k for k in lang.EXPECT if not (inner and k.name in ("contains", "chain"))]
        values: dict[str, Any] = {}
        for name, (at, value) in self.keyed(node, keys, what).items():
            if name == "updates" and not syncing:
                self.problem(at, "'updates' are those that a syncing step added", "it beside sync, sync_interest or initialise")
            kind = next(k.kind for k in keys if k.name == name)
            read: Callable[[_Node], Any]
            if kind == "contains":
                read = lambda value, at=at: self._expect(value, at, syncing=syncing, inner=True)  # noqa: E731
            elif kind == "chain":
                read = lambda value, at=at: self._chain(value, at)  # noqa: E731
            elif kind == "balances":
                read = lambda value: self._balances(value, "balances", signed=True)  # noqa: E731
            elif kind == "positions":
                read = self._positions
            else:
                read = lambda value, kind=kind, name=name: self._compound(value, kind, repr(name))  # noqa: E731
            result = self.attempt(read, value)
            if result is not None:
                values[name] = result
        return Expectation(location=key.location, **values)

    def _balances(self, node: _Node, what: str, *, signed: bool = False) -> tuple[ExpectedBalance, ...]:
        balances = []
        for name, key, value in self.pairs(node, f"{what}, such as {{USDC: 200}}"):
            if self.attempt(lambda key, name=name: self._named(name, key), key) is None:  # type: ignore[misc]
                continue
            amount = self.attempt(lambda value, name=name: self._amount(value, (name,), exact=True, signed=signed), value)  # type: ignore[misc]
            if amount is not None and amount.raw is not None:
                balances.append(ExpectedBalance(location=key.location, token=name, raw=amount.raw))
        return tuple(balances)

    def _chain(self, node: _Node, key: _Node) -> ExpectedChain:
        if node.null or node.kind == "mapping" and not node.pairs:
            _fail(key, "'chain' names nothing", f"one of: {_listed(k.name for k in lang.CHAIN)}")
        found = self.keyed(node, lang.CHAIN, "'chain'")
        values: dict[str, Any] = {}
        if "balances" in found:
            values["balances"] = self.attempt(lambda value: self._balances(value, "balances"), found["balances"][1]) or ()
        if "share_count" in found:
            amount = self.attempt(lambda value: self._amount(value, (SHARES,), exact=True), found["share_count"][1])
            if amount is not None and amount.raw is not None:
                values["share_count"] = Fraction(amount.raw, 10**self.share_decimals)
        if "share_price" in found:
            price = self.attempt(lambda value: _decimal(value, "assets per share, a number"), found["share_price"][1])
            values["share_price"] = price
        return ExpectedChain(location=key.location, **values)

    def _positions(self, node: _Node) -> dict[int, ExpectedRecord]:
        positions: dict[int, ExpectedRecord] = {}
        for name, key, value in self.pairs(node, "positions by id, such as {1: {quantity: 0.03 WETH}}"):
            number = self.attempt(lambda key: _integer(key, 1, 1 << 31, "the id of a position, from 1"), key)
            if number is None:
                continue
            if value.null:
                record: ExpectedRecord | None = ExpectedRecord(location=key.location, fields=())
            else:
                record = self.attempt(lambda value, name=name: self._record(value, "Position", f"position {name}"), value)  # type: ignore[misc]
            if record is not None:
                positions[number] = ExpectedRecord(location=key.location, fields=record.fields)
        return positions

    def _compound(self, node: _Node, kind: str, what: str) -> ExpectedRecord | tuple[ExpectedRecord, ...] | dict[str, ExpectedRecord]:
        """``record:X``, ``list:X`` or ``map:X``."""
        shape, _, record = kind.partition(":")
        if shape == "record":
            return self._record(node, record, what)
        if shape == "list":
            if node.kind != "sequence":
                _fail(node, f"found {node.shown}", f"a list for {what}")
            entries = [self.attempt(lambda item: self._record(item, record, f"an entry of {what}"), item) for item in node.items]
            return tuple(entry for entry in entries if entry is not None)
        mapping: dict[str, ExpectedRecord] = {}
        for name, key, value in self.pairs(node, f"{what}, by token"):
            if self.attempt(lambda key, name=name: self._named(name, key), key) is None:  # type: ignore[misc]
                continue
            entry = self.attempt(lambda value, name=name: self._record(value, record, f"{what} of {name}", asset=name), value)  # type: ignore[misc]
            if entry is not None:
                mapping[name] = entry
        return mapping

    def _record(self, node: _Node, record: str, what: str, asset: str | None = None) -> ExpectedRecord:
        aliases = lang.ALIASES.get(record, {})
        table = {**lang.RECORDS[record], **lang.DERIVED.get(record, {})}
        names = [*aliases, *(name for name, field in table.items() if field.kind not in lang.NOT_COMPARED)]
        entries = self.pairs(node, what)
        asset = self._asset_of(entries, record) or asset
        fields: dict[str, ExpectedField] = {}
        for name, key, value in entries:
            field = aliases.get(name, name)
            if field not in table:
                self.problem(key, f"unknown field {_quoted(name)} in {what}", f"one of: {_listed(names)}", _near(name, names))
                continue
            kind = table[field].kind
            if kind in lang.NOT_COMPARED:
                self.problem(key, f"{_quoted(name)} cannot be expected: {lang.NOT_COMPARED[kind]}", f"one of: {_listed(names)}")
                continue
            if field in fields:
                self.problem(key, f"{_quoted(name)} is named twice, by another name in line {fields[field].location.line}", "each field once")
                continue
            try:
                read = self._field(value, table[field], name, asset)
            except _Fault as fault:
                if fault.problem is not None:
                    self.report(fault.problem)
                continue
            fields[field] = ExpectedField(location=key.location, name=field, value=read)
        return ExpectedRecord(location=node.location, fields=tuple(fields.values()))

    def _asset_of(self, entries: Sequence[tuple[str, _Node, _Node]], record: str) -> str | None:
        """The token that a record says itself, so that its raw quantities need not name it."""
        if record == "Position":
            for name, _, value in entries:
                if name == "pair" and value.kind == "mapping":
                    return next((inner.text for key, inner in value.pairs if key.text == "base" and inner.text in self.tokens), None)
        return next((value.text for name, _, value in entries if name == "asset" and value.text in self.tokens), None)

    def _field(self, node: _Node, field: RecordField, name: str, asset: str | None) -> Any:
        if node.null:
            if field.nullable:
                return None
            _fail(node, f"{_quoted(name)} is never null", "a value")
        if field.kind == "quantity":
            return self._quantity(node, asset)
        if field.kind == "free":
            return self._free(node, name)
        if ":" in field.kind:
            return self._compound(node, field.kind, repr(name))
        return self._kinds[field.kind](node)

    def _quantity(self, node: _Node, asset: str | None) -> Quantity | Fraction:
        expected = "a quantity such as -200 USDC, -1 raw USDC or -200"
        text = _scalar(node, expected)
        match = _AMOUNT.fullmatch(text)
        if match is None:
            self._amount_fault(node, expected)
        if match["all"] or match["percent"]:
            _fail(node, f"{node.shown} is no exact quantity", expected)
        if match["token"] is not None:
            token = self._named(match["token"], node)
            if asset is not None and token != asset:
                _fail(node, f"{node.shown} is in {token}, the asset is {asset}", f"a quantity of {asset}")
        elif asset is not None or len(self.tokens) == 1:
            token = asset or next(iter(self.tokens))
            self._raw(node, match, token, expected)
        elif match["raw"]:
            _fail(node, f"{node.shown} names no token", f"one of {_listed(self.tokens)} after it")
        if match["token"] is None and not match["raw"]:
            if len(text) > 200:
                _fail(node, f"{node.shown} is too long", expected)
            return parse_decimal(text)
        return Quantity(raw=self._raw(node, match, token, expected), token=token)

    def _assets(self, node: _Node) -> tuple[ExpectedRecord, ...]:
        """A list of tokens, as records that name their symbols."""
        if node.kind != "sequence":
            _fail(node, f"found {node.shown}", "a list of tokens")
        records = []
        for item in node.items:
            symbol = self.attempt(self._symbol, item)
            if symbol is not None:
                field = ExpectedField(location=item.location, name="token_symbol", value=symbol)
                records.append(ExpectedRecord(location=item.location, fields=(field,)))
        return tuple(records)

    def _free(self, node: _Node, what: str) -> ExpectedRecord:
        """What a syncer keeps beside: names and plain values, mappings in them too."""
        fields = []
        for name, key, value in self.pairs(node, what):
            read: Any = None
            if value.kind == "sequence":
                self.problem(value, "found a list", "a plain value")
                continue
            if value.kind == "mapping":
                read = self.attempt(lambda value, name=name: self._free(value, repr(name)), value)  # type: ignore[misc]
            elif not value.null:
                number = value.plain and re.fullmatch(f"[+-]?{lang.NUMBER}", value.text) and len(value.text) < 200
                read = parse_decimal(value.text) if number else value.text
            fields.append(ExpectedField(location=key.location, name=name, value=read))
        return ExpectedRecord(location=node.location, fields=tuple(fields))


def _title(file: str) -> str:
    """A title from the file's name: ``first_deposit_is_at_par.yaml``."""
    words = PurePath(file).stem.replace("_", " ").strip()
    return words[:1].upper() + words[1:] if words else "Scenario"
