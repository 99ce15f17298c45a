"""A scenario's YAML as nodes that know their places, and the plain values that nodes can be read as.

Every reader takes a node and gives its value, or raises `Fault` with the problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Literal, NoReturn

from harness.errors import Location, Problem, nearest
from harness.scenario import language as lang
from harness.units import parse_decimal, to_decimal

EXPONENT = re.compile(r"[+-]?[0-9][0-9_.]*[eE][+-]?[0-9]+(?![^ ])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value with its place. An empty value stands where its key stands; a refused one has been reported."""

    kind: Literal["scalar", "mapping", "sequence", "refused"]
    location: Location
    text: str = ""
    plain: bool = True
    items: tuple[Node, ...] = ()
    pairs: tuple[tuple[Node, Node], ...] = ()

    @property
    def null(self) -> bool:
        return self.kind == "scalar" and self.plain and self.text in ("", "~", "null", "Null", "NULL")

    @property
    def shown(self) -> str:
        """The author's text, quoted, cut where it is long."""
        if self.kind != "scalar":
            return "a mapping" if self.kind == "mapping" else "a list"
        return "nothing" if self.null and not self.text else quoted(self.text)


def quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


class Enough(Exception):
    """No use in reading on."""


class Fault(Exception):
    """A value cannot be read; without a problem if the reason has been reported elsewhere."""

    def __init__(self, problem: Problem | None = None) -> None:
        super().__init__(problem)
        self.problem = problem


def fail(node: Node, message: str, expected: str | None = None, suggestion: str | None = None) -> NoReturn:
    if node.kind == "refused":
        raise Fault
    raise Fault(Problem(location=node.location, message=message, expected=expected, suggestion=suggestion))


def listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def a_kind(name: str) -> str:
    """A word with its article: ``a trade``, ``an unsupply``."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def near(name: str, candidates: Iterable[str]) -> str | None:
    return nearest(name, candidates) if len(name) <= 64 else None


def scalar(node: Node, expected: str) -> str:
    if node.kind != "scalar" or node.null:
        fail(node, f"found {node.shown}", expected)
    return node.text.strip()


def number_fault(node: Node, expected: str) -> NoReturn:
    text = node.text.strip()
    if EXPONENT.match(text):
        fail(node, f"{quoted(text)} is a floating-point number", f"{expected}, written out")
    if re.match(r"[+-]?0[0-9_]", text):
        fail(node, f"{quoted(text)} has leading zeros", expected)
    fail(node, f"found {node.shown}", expected)


def decimal_number(node: Node, expected: str, *, signed: bool = False) -> Fraction:
    text = scalar(node, expected)
    if not re.fullmatch(f"[+-]?{lang.NUMBER}", text):
        number_fault(node, expected)
    if len(text) > 200:
        fail(node, f"{quoted(text)} is too long", expected)
    number = parse_decimal(text)
    if number < 0 and not signed:
        fail(node, f"{quoted(text)} is negative", expected)
    return number


def integer(node: Node, low: int, high: int, expected: str) -> int:
    text = scalar(node, expected)
    if not node.plain or not re.fullmatch(f"-?{lang.INTEGER}", text):
        number_fault(node, expected)
    number = int(text) if len(text) <= 90 else high + 1
    if not low <= number <= high:
        fail(node, f"{quoted(text)} is out of range", expected)
    return number


def scaled(node: Node, decimals: int, expected: str) -> int:
    scale: int = 10**decimals
    scaled = decimal_number(node, expected) * scale
    if scaled.denominator != 1:
        fail(node, f"{node.shown} has more than {decimals} decimals", expected)
    if not 0 < scaled.numerator < 1 << 127:
        fail(node, f"{node.shown} is out of range", expected)
    return scaled.numerator


def time_at(node: Node) -> datetime:
    expected = "a time (UTC) such as 2024-01-01 00:00 or 2024-01-01 00:00:12"
    text = scalar(node, expected)
    if not re.fullmatch(lang.TIME, text):
        fail(node, f"found {node.shown}", expected)
    try:
        at = datetime.fromisoformat(text.rstrip("Z"))
    except ValueError as error:
        fail(node, f"{node.shown} is no time: {error}", expected)
    if not 1970 <= at.year <= 2241:
        fail(node, f"{node.shown} is out of range", "a year from 1970 to 2241, as books can say it")
    return at


def date_at(node: Node) -> date:
    expected = "a date such as 2026-12-31"
    text = scalar(node, expected)
    if not re.fullmatch(lang.DATE, text):
        fail(node, f"found {node.shown}", expected)
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        fail(node, f"{node.shown} is no date: {error}", expected)


def reason_of(node: Node, expected: str = "the reason, in words") -> str:
    if node.kind != "scalar" or node.null or not node.text.strip():
        fail(node, "found no reason" if node.kind == "scalar" else f"found {node.shown}", expected)
    return text_of(node, 1_000)


def length_of_time(node: Node) -> timedelta:
    expected = "a length of time such as 12 s, 5 minutes, 6 hours or 30 days"
    text = scalar(node, expected)
    match = re.fullmatch(rf"(?P<number>{lang.NUMBER}) ?(?P<unit>[A-Za-z]+)?", text)
    if match is None:
        number_fault(node, expected)
    if match["unit"] is None:
        fail(node, f"{node.shown} has no unit", expected)
    if match["unit"] not in lang.UNITS:
        fail(node, f"unknown unit {quoted(match['unit'])}", expected, near(match["unit"], lang.UNITS))
    if len(match["number"]) > 30:
        fail(node, f"{node.shown} is out of range", expected)
    seconds = parse_decimal(match["number"]) * lang.UNITS[match["unit"]]
    if seconds.denominator != 1:
        fail(node, f"{node.shown} is no whole number of seconds", expected)
    if not 0 < seconds <= lang.MAX_LENGTH_SECONDS:
        fail(node, f"{node.shown} is out of range", "more than 0 and at most 36500 days")
    return timedelta(seconds=seconds.numerator)


def flag(node: Node) -> bool:
    text = scalar(node, "true or false")
    if not node.plain or text not in ("true", "false"):
        fail(node, f"found {node.shown}", "true or false", near(text, ("true", "false")))
    return text == "true"


def word(node: Node, names: Sequence[str], what: str, planned: Sequence[str] = ()) -> str:
    expected = f"one of: {listed(names)}"
    text = scalar(node, expected)
    if text in planned:
        fail(node, f"{what} {quoted(text)} is not supported yet", expected)
    if text not in names:
        fail(node, f"unknown {what} {quoted(text)}", expected, near(text, names))
    return text


def text_of(node: Node, most: int = 10_000) -> str:
    expected = "text"
    if node.kind != "scalar" or node.null:
        fail(node, f"found {node.shown}", expected)
    if len(node.text.encode("utf-8", "replace")) > most:
        fail(node, f"{node.shown} is too long", f"at most {most} bytes")
    return node.text


def line_of(node: Node, most: int) -> str:
    text = text_of(node, most)
    if not text.strip() or re.search(r"[\n\r\t]", text):
        fail(node, f"found {node.shown}", "text in one line")
    return text


def decimal_of(number: Fraction) -> Decimal:
    """A number that came from decimal text, as a Decimal, exactly."""
    places = 0
    while number.denominator != 1:
        number *= 10
        places += 1
    return to_decimal(number.numerator, places)
