"""How strong a set of scenarios is: which wrong syncers it catches, and which of its scenarios do.

The values that a measurement gives, and how they are drawn: JSON, the kill matrix as a page of its own, and lines for
the terminal. The same measurement gives the same bytes; there are no durations in it.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from importlib.resources import files
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from harness.report.results import printable

if TYPE_CHECKING:
    from rich.console import Console


class Outcome(enum.StrEnum):
    """What became of one wrong syncer in one scenario."""

    plain = "plain"
    """Caught by syncing as the scenario says."""
    sweep = "sweep"
    """Caught only when the same scenario is synced in another way."""
    passed = "passed"
    """Not caught by syncing as the scenario says. Sweeps were not needed: another scenario catches it."""
    swept = "swept"
    """Not caught, and no sweep of this scenario catches it either."""


class Fate(enum.StrEnum):
    """What became of one wrong syncer in the whole set."""

    killed = "killed"
    survived = "survived"
    withstood = "withstood"
    """The syncer took no harm from the fault around it: its books were right all the same."""
    not_applicable = "not applicable"
    """The syncer never did what the fault goes about, so that nothing can be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """A syncer with one thing wrong: a broken one, or a fault around somebody's own."""

    name: str
    wrong: str
    """What is wrong, in a sentence."""
    cause: str | None
    """What a diagnosis should name; None: unknown is the right answer."""
    harmless_if_sound: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One wrong syncer in one scenario."""

    scenario: str
    wrong: str
    """Its name."""
    outcome: Outcome
    sweep: str | None = None
    """The sweep that caught it."""
    cause: str | None = None
    """What the diagnosis names."""
    block: int | None = None
    """The first bad block."""
    line: int | None = None
    """The line of the scenario's file that the break comes from."""
    sentence: str | None = None
    """What is wrong, in the words of the first break."""
    offered: bool = True
    """Whether the syncer did what the fault goes about."""
    changed: bool = True
    """Whether the fault found anything to change."""
    differs: bool = True
    """Whether the syncer's books came out otherwise than without the fault."""

    @property
    def is_caught(self) -> bool:
        """Whether the scenario catches it."""
        return self.outcome in (Outcome.plain, Outcome.sweep)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that a syncer is blamed for in which nothing is meant to be wrong."""

    syncer: str
    scenario: str
    sentence: str
    block: int | None
    line: int | None
    sweep: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A scenario of the set."""

    id: str
    title: str
    error: str | None = None
    """Why it could not be tried."""
    internal: bool = False
    """Whether that is the harness's own failure."""


@dataclass(frozen=True, kw_only=True)
class Strength:
    """What a set of scenarios catches."""

    syncer: str | None
    """Around which faults were put; None: broken syncers were run."""
    controls: tuple[str, ...]
    """The syncers that must be blamed for nothing."""
    with_expect: bool
    """Whether scenarios kept what they expect; else a wrong syncer is caught by ledger and laws alone."""
    wrongs: tuple[Wrong, ...]
    scenarios: tuple[Tried, ...]
    cells: tuple[Cell, ...]
    """By scenario, then by wrong syncer; none where a scenario could not be tried."""
    alarms: tuple[Alarm, ...] = field(default=())
    full: bool = True
    """Whether every wrong syncer was tried in every scenario; else only until one caught it."""

    @cached_property
    def catches(self) -> dict[str, tuple[Cell, ...]]:
        """The cells that caught each wrong syncer, by its name: plain ones first, each in the scenarios' order."""
        caught: dict[str, list[Cell]] = {wrong.name: [] for wrong in self.wrongs}
        for cell in self.cells:
            if cell.is_caught:
                caught[cell.wrong].append(cell)
        return {
            name: tuple(sorted(cells, key=lambda cell: cell.outcome is not Outcome.plain))
            for name, cells in caught.items()
        }

    @cached_property
    def _of_wrong(self) -> dict[str, list[Cell]]:
        cells: dict[str, list[Cell]] = {wrong.name: [] for wrong in self.wrongs}
        for cell in self.cells:
            cells[cell.wrong].append(cell)
        return cells

    def fate(self, wrong: Wrong) -> Fate:
        """What became of a wrong syncer in the whole set."""
        cells = self._of_wrong[wrong.name]
        if any(cell.is_caught for cell in cells):
            return Fate.killed
        if not any(cell.offered for cell in cells):
            return Fate.not_applicable if cells else Fate.survived
        unharmed = any(cell.changed for cell in cells) and not any(cell.differs for cell in cells)
        return Fate.withstood if wrong.harmless_if_sound and unharmed else Fate.survived

    def of_fate(self, fate: Fate) -> tuple[Wrong, ...]:
        """The wrong syncers that something became of."""
        return tuple(wrong for wrong in self.wrongs if self.fate(wrong) is fate)

    def is_unreached(self, wrong: Wrong) -> bool:
        """Whether nothing in the set gave a fault anything to change."""
        return not any(cell.changed for cell in self._of_wrong[wrong.name])

    @property
    def killed(self) -> int:
        """How many wrong syncers are caught."""
        return len(self.of_fate(Fate.killed))

    @property
    def rated(self) -> int:
        """How many the kill rate is of: all that could be caught."""
        return self.killed + len(self.of_fate(Fate.survived))

    @property
    def kill_rate(self) -> Fraction | None:
        """The share of wrong syncers that are caught; None if there is none."""
        return Fraction(self.killed, self.rated) if self.rated else None

    def is_right(self, cell: Cell) -> bool:
        """Whether a catch is given the cause that it should be given."""
        return cell.cause == self._causes[cell.wrong]

    @cached_property
    def _causes(self) -> dict[str, str | None]:
        return {wrong.name: wrong.cause for wrong in self.wrongs}

    @property
    def named_right(self) -> tuple[int, int]:
        """Of how many first catches the cause is right, and of how many there are."""
        first = [cells[0] for cells in self.catches.values() if cells]
        return sum(map(self.is_right, first)), len(first)

    @property
    def cells_right(self) -> tuple[int, int]:
        """Of how many catches of all scenarios the cause is right, and of how many there are."""
        caught = [cell for cell in self.cells if cell.is_caught]
        return sum(map(self.is_right, caught)), len(caught)

    @cached_property
    def caught_by(self) -> dict[str, tuple[str, ...]]:
        """The wrong syncers that each scenario catches, by its id."""
        found: dict[str, list[str]] = {tried.id: [] for tried in self.scenarios}
        for cell in self.cells:
            if cell.is_caught:
                found[cell.scenario].append(cell.wrong)
        return {scenario: tuple(names) for scenario, names in found.items()}

    def only_by(self, id: str) -> tuple[str, ...]:
        """What a scenario catches and, as far as it was tried, no other one."""
        return tuple(name for name in self.caught_by[id] if len(self.catches[name]) == 1)

    @property
    def idle(self) -> tuple[str, ...]:
        """The scenarios that catch nothing; none is known of unless the matrix is full."""
        if not self.full:
            return ()
        return tuple(tried.id for tried in self.scenarios if tried.error is None and not self.caught_by[tried.id])

    @property
    def spare(self) -> tuple[str, ...]:
        """The scenarios that catch something, and nothing that no other one catches; known of a full matrix alone."""
        if not self.full:
            return ()
        return tuple(scenario for scenario, names in self.caught_by.items() if names and not self.only_by(scenario))

    @property
    def is_told(self) -> bool:
        """Whether the strength can be told at all: not from a syncer that differs with no fault around it."""
        return self.syncer is None or not self.alarms


def exit_code(strength: Strength, min_kill: Fraction | None = None) -> int:
    """The exit code.

    Args:
        strength: What was measured.
        min_kill: The least kill rate that will do, as a fraction; None: any.

    Returns:
        3 if the harness failed, 2 if a scenario is wrong, 1 for a false alarm or too low a kill rate, 4 if there are
        no scenarios, else 0.
    """
    if any(tried.internal for tried in strength.scenarios):
        return 3
    if any(tried.error is not None for tried in strength.scenarios):
        return 2
    if not strength.scenarios:
        return 4
    too_weak = min_kill is not None and (strength.kill_rate is None or strength.kill_rate < min_kill)
    return 1 if strength.alarms or too_weak else 0


def percent(part: int, whole: int) -> str:
    """Print a share, rounded down, so that 100 % is all.

    >>> percent(86, 87), percent(87, 87), percent(0, 0)
    ('98.8 %', '100 %', 'none')
    """
    if not whole:
        return "none"
    tenths = 1000 * part // whole
    return f"{tenths // 10}.{tenths % 10} %" if tenths % 10 else f"{tenths // 10} %"


# -- JSON


def to_json(strength: Strength) -> str:
    """Write a measurement as JSON, the same bytes for the same measurement."""
    right, first = strength.named_right
    cells_right, cells = strength.cells_right
    document = {
        "schema": 1,
        "syncer": _plain_name(strength.syncer),
        "controls": [_plain_name(name) for name in strength.controls],
        "expect": "kept" if strength.with_expect else "stripped",
        "matrix": "full" if strength.full else "until caught",
        "summary": {
            "scenarios": len(strength.scenarios),
            "wrong_syncers": len(strength.wrongs),
            "rated": strength.rated,
            "killed": strength.killed,
            "kill_rate": _share(strength.killed, strength.rated),
            "causes_right": _share(right, first),
            "causes_right_everywhere": _share(cells_right, cells),
            "false_alarms": len(strength.alarms),
        },
        "survivors": [wrong.name for wrong in strength.of_fate(Fate.survived)],
        "catch_nothing": list(strength.idle) if strength.full else None,
        "catch_nothing_of_their_own": list(strength.spare) if strength.full else None,
        "alarms": [
            {
                "syncer": _plain_name(alarm.syncer),
                "scenario": alarm.scenario,
                "sweep": alarm.sweep,
                "block": alarm.block,
                "line": alarm.line,
                "sentence": alarm.sentence,
            }
            for alarm in strength.alarms
        ],
        "wrong_syncers": [_wrong_json(strength, wrong) for wrong in strength.wrongs],
        "scenarios": [_tried_json(strength, tried) for tried in strength.scenarios],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _share(part: int, whole: int) -> str | None:
    """An exact share as text, in percent, rounded down."""
    return None if not whole else percent(part, whole).removesuffix(" %")


def _plain_name(name: str | None) -> str | None:
    """A syncer's name without a folder of this machine's, should it have one."""
    return None if name is None else PureWindowsPath(name).name


def _wrong_json(strength: Strength, wrong: Wrong) -> dict[str, Any]:
    catches = strength.catches[wrong.name]
    return {
        "name": wrong.name,
        "wrong": wrong.wrong,
        "cause": wrong.cause,
        "fate": strength.fate(wrong).value,
        "scenarios": len(catches),
        "first": _cell_json(strength, catches[0], with_place=True) if catches else None,
    }


def _tried_json(strength: Strength, tried: Tried) -> dict[str, Any]:
    cells = [cell for cell in strength.cells if cell.scenario == tried.id]
    return {
        "id": tried.id,
        "title": tried.title,
        "error": tried.error,
        "catches": len(strength.caught_by[tried.id]),
        "only_here": list(strength.only_by(tried.id)),
        # What merely passed is left out: it is most of the matrix.
        "cells": [_cell_json(strength, cell) for cell in cells if cell.outcome is not Outcome.passed],
    }


def _cell_json(strength: Strength, cell: Cell, *, with_place: bool = False) -> dict[str, Any]:
    named = {"scenario": cell.scenario} if with_place else {"wrong_syncer": cell.wrong}
    found: dict[str, Any] = {**named, "outcome": cell.outcome.value}
    if not cell.is_caught:
        return found
    found |= {"sweep": cell.sweep, "block": cell.block, "cause": cell.cause, "cause_right": strength.is_right(cell)}
    return {**found, "line": cell.line, "sentence": cell.sentence} if with_place else found


# -- the page


def to_html(strength: Strength) -> str:
    """Draw a measurement as one self-contained page: the kill matrix, and what each part of it says."""
    style = _template("report.css") + _template("matrix.css")
    policy = f"default-src 'none'; style-src '{_hash(style)}'; img-src data:; base-uri 'none'; form-action 'none'"
    environment = Environment(
        loader=DictLoader({"matrix.html.j2": _template("matrix.html.j2")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(said=printable)
    right, first = strength.named_right
    return environment.get_template("matrix.html.j2").render(
        strength=strength,
        policy=policy,
        style=Markup(style),  # noqa: S704 - this package's own file
        headline=headline(strength),
        verdict=_verdict(strength),
        survivors=strength.of_fate(Fate.survived),
        set_aside=(*strength.of_fate(Fate.withstood), *strength.of_fate(Fate.not_applicable)),
        kill_rate=percent(strength.killed, strength.rated),
        causes=percent(right, first),
        causes_text=f"{right} of {first}",
        rows=[_row(strength, wrong) for wrong in strength.wrongs] if strength.is_told else [],
    )


def _template(name: str) -> str:
    return (files("harness.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _verdict(strength: Strength) -> str:
    if any(tried.error is not None for tried in strength.scenarios):
        return "error"
    return "differ" if strength.alarms or strength.of_fate(Fate.survived) else "reconciled"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """One cell as it is drawn."""

    sign: str
    style: str
    says: str


def _row(strength: Strength, wrong: Wrong) -> tuple[Wrong, str, list[_Mark | None]]:
    found = {cell.scenario: cell for cell in strength.cells if cell.wrong == wrong.name}
    return wrong, strength.fate(wrong).value, [_mark(strength, found.get(tried.id)) for tried in strength.scenarios]


def _mark(strength: Strength, cell: Cell | None) -> _Mark | None:
    if cell is None or cell.outcome is Outcome.passed:
        return None
    if cell.outcome is Outcome.swept:
        return _Mark(sign="·", style="swept", says=f"{cell.scenario}: no sweep catches it")
    right = strength.is_right(cell)
    how = f"caught in the sweep {cell.sweep}" if cell.sweep else "caught"
    block = "" if cell.block is None else f" at block {cell.block}"
    named = f"named {cell.cause or 'unknown'}, {'as it is' if right else 'which is wrong'}"
    return _Mark(
        sign=("S" if right else "s") if cell.sweep else ("●" if right else "○"),
        style="right" if right else "other",
        says=f"{cell.scenario}: {how}{block}; {named}",
    )


def headline(strength: Strength) -> str:
    """The measurement in a sentence."""
    count = len(strength.scenarios)
    scenarios = f"{count} scenario{'s' * (count != 1)}"
    if not strength.is_told:
        return f"The strength of {scenarios} cannot be told with a syncer that differs by itself"
    what = "broken syncers" if strength.syncer is None else f"faults around {printable(strength.syncer)}"
    rated = strength.rated
    if rated and strength.killed == rated:
        return f"{scenarios} catch{'es' * (count == 1)} all {rated} {what}"
    return f"{scenarios} catch{'es' * (count == 1)} {strength.killed} of {rated} {what}"


# -- the terminal


def print_strength(console: Console, strength: Strength, *, verbose: bool = True) -> None:
    """Print a measurement: a line per wrong syncer, then the summary."""
    for line in _lines(strength, verbose):
        console.print(printable(line), markup=False, soft_wrap=True)


def _lines(strength: Strength, verbose: bool) -> Iterator[str]:
    yield from (f"ERROR  {tried.id}: {tried.error}" for tried in strength.scenarios if tried.error is not None)
    for alarm in strength.alarms:
        place = f", block {alarm.block}" if alarm.block is not None else ""
        yield f"FALSE ALARM  {alarm.scenario}{place}: {alarm.syncer} is blamed: {alarm.sentence}"
    if not strength.is_told:
        yield f"{headline(strength)}: put it right first, then ask again"
        return
    if verbose:
        width = max((len(wrong.name) for wrong in strength.wrongs), default=0)
        yield from (_wrong_line(strength, wrong, width) for wrong in strength.wrongs)
        yield ""
    yield f"{headline(strength)}: {percent(strength.killed, strength.rated)}"
    for wrong in strength.of_fate(Fate.survived):
        reason = " (nothing here gives it anything to change)" if strength.is_unreached(wrong) else ""
        yield f"    nothing catches {wrong.name}: {wrong.wrong}{reason}"
    yield from _listed("no harm was done by", (wrong.name for wrong in strength.of_fate(Fate.withstood)))
    yield from _listed("not applicable", (wrong.name for wrong in strength.of_fate(Fate.not_applicable)))
    right, first = strength.named_right
    everywhere, cells = strength.cells_right
    yield (
        f"causes named right: {right} of {first} first catches ({percent(right, first)}), "
        f"{everywhere} of {cells} catches ({percent(everywhere, cells)})"
    )
    for cells_of in strength.catches.values():
        if cells_of and not strength.is_right(cells_of[0]):
            cell = cells_of[0]
            expected = next(wrong.cause for wrong in strength.wrongs if wrong.name == cell.wrong)
            yield f"    {cell.wrong} in {cell.scenario}: {cell.cause or 'unknown'} instead of {expected or 'unknown'}"
    yield from _listed("scenarios that catch nothing", strength.idle)
    yield from _listed("scenarios that catch nothing of their own", strength.spare)
    if not strength.full:
        yield "each was tried until a scenario caught it; --full also tells which scenarios catch nothing"
    alarms = len(strength.alarms)
    yield f"false alarms of {' and '.join(strength.controls)}: {alarms or 'none'}"


def _listed(what: str, names: Iterable[str]) -> Iterator[str]:
    found = list(names)
    if found:
        yield f"{what} ({len(found)}): {', '.join(found)}"


def _wrong_line(strength: Strength, wrong: Wrong, width: int) -> str:
    catches: Sequence[Cell] = strength.catches[wrong.name]
    if not catches:
        return f"{strength.fate(wrong).value.upper():9}  {wrong.name:{width}}"
    first = catches[0]
    block = "" if first.block is None else f", block {first.block}"
    sweep = "" if first.sweep is None else f" ({first.sweep})"
    named = first.cause or "unknown"
    if not strength.is_right(first):
        named += f" instead of {wrong.cause or 'unknown'}"
    return f"killed     {wrong.name:{width}}  {first.scenario}{sweep}{block}: {named}; in {len(catches)}"
