"""The one model that every report is drawn from, and its JSON."""

from __future__ import annotations

import enum
import itertools
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from harness.errors import Location, Problem
from harness.reconcile.diff import Break, Statement
from harness.reconcile.rules import ToleranceUse
from harness.scenario.files import BETWEEN
from harness.scenario.model import Known, LawOff
from harness.units import Token

SCHEMA = 1
"""Version of the JSON's shape."""

STATEMENT_LINES = (
    "opening",
    "deposits",
    "redemptions",
    "interest",
    "trades",
    "corrections",
    "orphaned",
    "unaccounted",
    "closing",
    "on_chain",
    "difference",
)
"""A statement's amounts, in the order in which they are read."""

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Verdict(enum.StrEnum):
    """How a scenario ended."""

    reconciled = "reconciled"
    differ = "differ"
    """A break: the syncer is wrong."""
    error = "error"
    """We cannot tell: the scenario or its set-up is wrong, or the harness failed."""


class NodeOutcome(enum.StrEnum):
    """What came of a scenario where the syncer's node misbehaves."""

    exact = "exact"
    """All books are those of the plain run."""
    refused = "refused"
    """An operation was refused, or ended in the node's error; all books that came out are right."""
    raised = "raised"
    """An operation ended in another exception: loud as well, but nobody meant it."""
    wrong = "wrong"
    """Books came out that are not those of the plain run, and nothing was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPointResult:
    """One syncing operation, and how the books stood after it."""

    operation: str
    """The step's verb: ``initialise``, ``sync``, ``sync_interest``, ``expect``."""
    block: int
    cycle: datetime | None
    line: int | None
    books: Mapping[str, Any] | None
    """The state's JSON, clock fields left out."""
    statements: tuple[Statement, ...]
    refusal: str | None = None
    """The syncer's words, where it refused as it should."""
    file: str | None = None
    """Where ``line`` stands, if not in the scenario's own file but in one that it includes."""
    branch: int = 0
    """Which of the chain's branches it read: 0, and one more with each reorganisation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One transaction, or one syncing operation, as the timeline shows it."""

    line: int | None
    text: str
    """E.g. ``alice deposits 500 USDC``."""
    transaction: str | None = None
    failed: str | None = None
    """The revert reason of a transaction that failed as the scenario said."""
    is_sync: bool = False
    is_reorg: bool = False
    """Blocks were replaced here, from the one that follows in the timeline on."""
    file: str | None = None
    """Where ``line`` stands, if not in the scenario's own file but in one that it includes."""
    notes: tuple[str, ...] = ()
    """What the scenario does to a syncing operation: its node misbehaves, it dies, the chain moves meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineBlock:
    """One block (syncing operations stand at the block that was newest then).

    A timeline tells of one branch after the other, each from its first block of its own, so numbers may come again.
    """

    number: int
    mined_at: datetime
    entries: tuple[TimelineEntry, ...]
    branch: int = 0
    """Which of the chain's branches it stands on: 0, and one more with each reorganisation."""
    replaced: bool = False
    """A later reorganisation took it away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SidesAt:
    """What books and chain held of one asset at a block, base units."""

    token: Token
    block: int
    books: int
    chain: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosisResult:
    """Where a scenario's books first went wrong, and why."""

    block: int
    """The first bad block: synced up to the one before, the books are right."""
    guilty: Break
    """The break that it begins with."""
    cause: str | None
    """From the closed list; None: unknown."""
    evidence: str | None
    """What the cause was decided by."""
    sides: tuple[SidesAt, ...]
    """Chain beside books: at the block before, where that can be synced to, and at the first bad block."""
    syncs: int
    """How many extra syncs it took to find."""
    command: str
    """What reproduces it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioResult:
    """What came out of one scenario."""

    id: str
    """The file's path below the folder given, with forward slashes."""
    file: str
    title: str
    tags: tuple[str, ...]
    verdict: Verdict
    error: str | None
    """Why we cannot tell."""
    problems: tuple[Problem, ...]
    """The same, place by place, where the file is at fault."""
    internal: bool
    """The harness itself failed."""
    breaks: tuple[Break, ...]
    sync_points: tuple[SyncPointResult, ...]
    timeline: tuple[TimelineBlock, ...]
    source: str
    """The YAML, as it was read."""
    sweeps: tuple[str, ...]
    """Names of the sweeps that ran."""
    checks: int
    """How many values were compared."""
    seconds: float
    """Wall time; for the terminal and timings.json alone."""
    laws_off: tuple[LawOff, ...] = ()
    """Laws that the scenario switches off."""
    tolerances: tuple[ToleranceUse, ...] = ()
    """What it tolerates, and how much of that was used."""
    known: Known | None = None
    """The breaks that it accepts, and until when."""
    diagnosis: DiagnosisResult | None = None
    """Of the first failure, if there is one."""
    accepted: tuple[Break, ...] = ()
    """Those of them that were found: no breaks for the verdict."""
    nodes: Mapping[str, NodeOutcome] = field(default_factory=dict)
    """What came of it behind misbehaving nodes, by profile; only those that could change something here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What came out of a run, in the order of the files."""

    syncer: str
    scenarios: tuple[ScenarioResult, ...]

    def count(self, verdict: Verdict) -> int:
        """How many scenarios ended so."""
        return sum(1 for scenario in self.scenarios if scenario.verdict is verdict)


def exit_code(results: Sequence[ScenarioResult]) -> int:
    """Give the process's exit code: 3 harness failed, 2 bad input, 1 breaks, 4 nothing selected, 0 reconciled."""
    if any(result.internal for result in results):
        return 3
    if any(result.verdict is Verdict.error for result in results):
        return 2
    if any(result.verdict is Verdict.differ for result in results):
        return 1
    return 0 if results else 4


# -- where to look first


def guilty_of(result: ScenarioResult) -> Break | None:
    """Find the break of the run that a diagnosis is about, with all that the run knows of it; None if there is none."""
    return None if result.diagnosis is None else _same(result.diagnosis.guilty, result.breaks)


def diagnosis_of(result: ScenarioResult) -> DiagnosisResult | None:
    """Give the diagnosis that explains why a scenario is red.

    None where it is not red, where nothing was diagnosed, and where only a break that the scenario
    accepts was: then something else is why it is red.
    """
    found = result.diagnosis
    if found is None or result.verdict is Verdict.reconciled:
        return None
    if guilty_of(result) is None and _same(found.guilty, result.accepted) is not None:
        return None
    return found


def in_order(result: ScenarioResult) -> tuple[Break, ...]:
    """Give a scenario's breaks with the one first that the others begin with, the others as they were found."""
    guilty = guilty_of(result)
    if guilty is None or diagnosis_of(result) is None:
        return result.breaks
    return guilty, *(found for found in result.breaks if found is not guilty)


def _same(guilty: Break, breaks: Sequence[Break]) -> Break | None:
    """The same finding among breaks, at whatever sync point and by whatever sweep it was found.

    The guilty event was judged at the first bad block, the breaks at sync points, so the gap may be
    another; it is asked for first.
    """

    def what(found: Break) -> tuple[object, ...]:
        return found.kind, found.field, found.asset, found.position_id, found.transaction, found.log_index

    alike = [found for found in breaks if what(found) == what(guilty)]
    equal = (found for found in alike if found.gap_raw == guilty.gap_raw and found.expected == guilty.expected)
    return next(equal, alike[0] if alike else None)


def sides_of(result: ScenarioResult, diagnosis: DiagnosisResult) -> tuple[SidesAt, ...]:
    """Give chain beside books at the first bad block, and before it.

    Where no sync can end at the block before, because the last one did, that one's own statement
    says what was held then.
    """
    guilty = guilty_of(result)
    is_whole = not diagnosis.sides or any(side.block < diagnosis.block for side in diagnosis.sides)
    if is_whole or guilty is None or guilty.sweep is not None:
        return diagnosis.sides
    earlier = list(itertools.takewhile(lambda point: point.block < diagnosis.block, result.sync_points))
    point = next((point for point in reversed(earlier) if point.statements), None)
    if point is None:
        return diagnosis.sides
    shown = {side.token.symbol for side in diagnosis.sides}
    before = (
        SidesAt(token=each.token, block=point.block, books=each.closing, chain=each.on_chain)
        for each in point.statements
        if each.closing or each.on_chain or each.token.symbol in shown
    )
    return *before, *diagnosis.sides


def diagnosis_lines(result: ScenarioResult) -> tuple[tuple[str, str], ...]:
    """Put a red scenario's diagnosis in lines, one for each label; empty where there is none."""
    found = diagnosis_of(result)
    if found is None:
        return ()
    lines = {
        "first bad block": str(found.block),
        "cause": found.cause or "unknown",
        "evidence": found.evidence,
        "reproduce": found.command or None,
    }
    return tuple((label, printable(text).replace("\n", "\u240a")) for label, text in lines.items() if text is not None)


# -- where on the timeline


def block_meant(result: ScenarioResult, number: int | None, found: Break) -> int | None:
    """Find the block of the timeline, by its index, that a number means in a finding; None if it is not told of.

    A number may come again after a reorganisation. Meant is the block with the finding's transaction, else the one
    that stood when the syncer was asked.
    """
    branches = [point.branch for point in result.sync_points if is_at(result, point, found.found_at)]
    newest = max(branches, default=None)
    numbered = [
        index
        for index, block in enumerate(result.timeline)
        if block.number == number and (newest is None or block.branch <= newest)
    ]
    holding = [index for index in numbered if entry_meant(result.timeline[index], found) is not None]
    return max(holding or numbered, default=None)


def is_at(result: ScenarioResult, point: SyncPointResult, place: Location | None) -> bool:
    """Tell whether a sync point's step stands at a place."""
    if place is None or point.line is None:
        return False
    return (result.file if point.file is None else point.file, point.line) == (place.file, place.line)


def entry_meant(block: TimelineBlock, found: Break) -> int | None:
    """Find the entry of a block, by its index, that has a finding's transaction."""
    return next(
        (
            index
            for index, entry in enumerate(block.entries)
            if entry.transaction is not None and entry.transaction == found.transaction
        ),
        None,
    )


# -- what every report says in the same words

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_REPLACEMENT = "\ufffd"


def _shown(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if character in _BIDI or 0x80 <= code < 0xA0 or character in "\u2028\u2029":
        return f"<U+{code:04X}>"
    # Lone surrogates cannot be encoded; XML 1.0 has no U+FFFE and U+FFFF.
    return _REPLACEMENT if 0xD800 <= code < 0xE000 or code & 0xFFFE == 0xFFFE else character


def printable(text: str) -> str:
    """Make every character visible and harmless: what a scenario or a syncer says may hold anything.

    Control characters become their pictures (an escape sequence cannot reach a terminal), marks that
    turn the direction of reading become ``<U+202E>``, what XML cannot say becomes U+FFFD. Line ends
    become plain ones; line ends and tabs stay. JSON alone keeps the text as it was.

    >>> printable("a\\x1b[31m\\r\\nb")
    'a␛[31m\\nb'
    """
    text = text.replace("\r\n", "\n")
    return text if text.isascii() and text.isprintable() else "".join(map(_shown, text))


def usd(worth: float, *, signed: bool = False) -> str:
    """Print a worth in dollars: cents, or two significant digits where cents would show nothing.

    >>> usd(-4298.875509), usd(0.0000012345, signed=True), usd(1e-30)
    ('-$4,298.88', '+$0.0000012', '<$0.000000001')
    """
    sign = "-" if worth < 0 else "+" if signed and worth > 0 else ""
    size = abs(worth)
    if size == 0 or size >= 0.005:
        return f"{sign}${size:,.2f}"
    if size < 1e-9:
        return "<$0.000000001"
    return f"{sign}${size:.{1 - math.floor(math.log10(size))}f}"


def gap_tokens(found: Break) -> str | None:
    """A break's gap in tokens, with its sign and, where the break has only the number, its symbol.

    >>> from harness.reconcile.diff import Break, BreakKind
    >>> gap_tokens(Break(kind=BreakKind.law, sentence="", gap_raw=5, gap="0.05", asset="USDC"))
    '+0.05 USDC'
    """
    if found.gap is None or found.gap_raw is None or not _NUMBER.fullmatch(found.gap):
        return found.gap
    sign = "+" if found.gap_raw > 0 and not found.gap.startswith("+") else ""
    return f"{sign}{found.gap}" if found.asset is None else f"{sign}{found.gap} {found.asset}"


def gap_text(found: Break) -> str | None:
    """Put a break's gap in one line: base units, tokens, money; None where it has no size."""
    parts = []
    if found.gap_raw is not None:
        parts.append(f"{found.gap_raw:+d} raw")
    if (tokens := gap_tokens(found)) is not None:
        parts.append(tokens)
    if (worth := gap_worth(found)) is not None:
        parts.append(usd(worth, signed=True))
    return printable(" · ".join(parts)) if parts else None


def place_text(found: Break) -> str | None:
    """Say where on chain a break comes from: block, transaction, log; None where it has no place."""
    parts = []
    if found.block is not None:
        parts.append(f"block {found.block}")
    if found.transaction is not None:
        parts.append(f"transaction {found.transaction}")
    if found.log_index is not None:
        parts.append(f"log {found.log_index}")
    return printable(", ".join(parts)) if parts else None


def name_text(found: Break) -> str:
    """Name a break: its kind, and what is known of cause, field, asset, position and sweep."""
    parts = [found.kind.value.replace("_", " ")]
    if found.cause is not None:
        parts.append(f"cause: {found.cause}")
    if found.field is not None:
        parts.append(f"field {found.field}")
    if found.asset is not None:
        parts.append(found.asset)
    if found.position_id is not None:
        parts.append(f"position {found.position_id}")
    if found.sweep is not None:
        parts.append(f"found by the sweep: {found.sweep}")
    return printable(" · ".join(parts))


def gap_worth(found: Break) -> float | None:
    """A break's gap in USD; None where it has none, or a syncer's NaN or infinity stands for it."""
    return found.gap_usd if found.gap_usd is not None and math.isfinite(found.gap_usd) else None


def worth_at_stake(found: Break) -> float:
    """The size of a break's gap in USD, 0 where it has none; what breaks are ranked by."""
    return abs(gap_worth(found) or 0.0)


def worst(breaks: Sequence[Break]) -> Break | None:
    """Find the break with most money at stake; the first among equals."""
    return max(breaks, key=worth_at_stake, default=None)


def error_text(result: ScenarioResult) -> str:
    """Say why a scenario could not be judged, place by place where the file is at fault."""
    lines = [str(problem) for problem in result.problems] or [result.error or "no reason given"]
    return printable("\n".join(lines))


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def counts_text(run: RunResult) -> str:
    """Count the verdicts, e.g. ``2 differ, 1 error, 115 reconciled; 4,902 checks``."""
    checks = sum(result.checks for result in run.scenarios)
    errors = run.count(Verdict.error)
    return (
        f"{run.count(Verdict.differ):,} differ, {_plural(errors, 'error')}, "
        f"{run.count(Verdict.reconciled):,} reconciled; {_plural(checks, 'check')}"
    )


def headline(run: RunResult) -> str:
    """Give the run's verdict as one sentence."""
    total, differ, errors = len(run.scenarios), run.count(Verdict.differ), run.count(Verdict.error)
    if not total:
        return "No scenario was run, so nothing is proved."
    if differ:
        rest = f", and {errors:,} could not be judged" if errors else ""
        where = "the one scenario" if total == 1 else f"{differ:,} of {total:,} scenarios"
        return f"Books and chain differ in {where}{rest}."
    if errors:
        return f"{'The one scenario' if total == 1 else f'{errors:,} of {total:,} scenarios'} could not be judged."
    return f"Books equal the chain in {'the one scenario' if total == 1 else f'all {total:,} scenarios'}."


def largest_gap(run: RunResult) -> tuple[ScenarioResult, Break] | None:
    """Find the break with most money at stake, and its scenario; None where no break has a worth."""
    breaks = [(result, found) for result in run.scenarios for found in result.breaks]
    result, found = max(breaks, key=lambda pair: worth_at_stake(pair[1]), default=(None, None))
    return None if result is None or found is None or not worth_at_stake(found) else (result, found)


def largest_gap_text(run: RunResult) -> str | None:
    """Say how much money is at stake, and where; one sentence, or None where no break has a worth."""
    largest = largest_gap(run)
    if largest is None:
        return None
    result, found = largest
    money = usd(gap_worth(found) or 0.0, signed=True)
    tokens = gap_tokens(found)
    size = money if tokens is None else f"{tokens} ({money})"
    line = "" if found.location is None else f", line {found.location.line}"
    return printable(f"The largest gap is {size}, in {result.id}{line}.")


# -- the same bytes from any folder


def _is_absolute(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()


def portable(run: RunResult) -> RunResult:
    """Take absolute paths out of a result, so that reports are the same bytes from any folder.

    A file that was given by its absolute path goes by its path below the folder given (its id), any
    other absolute path by its last part.
    """
    return replace(run, scenarios=tuple(_portable(result) for result in run.scenarios))


def _portable(result: ScenarioResult) -> ScenarioResult:
    if not _is_absolute(result.file):
        return result
    suffix = PureWindowsPath(result.file).suffix
    own = result.id.partition(BETWEEN)[0]
    file = own if own.endswith(suffix) else own + suffix

    def text(said: str) -> str:
        return said.replace(result.file, file)

    def place(location: Location) -> Location:
        if location.file == result.file:
            return replace(location, file=file)
        shown = PureWindowsPath(location.file).name if _is_absolute(location.file) else location.file
        return replace(location, file=shown)

    def moved(found: Break) -> Break:
        return replace(
            found,
            sentence=text(found.sentence),
            location=None if found.location is None else place(found.location),
            found_at=None if found.found_at is None else place(found.found_at),
        )

    def included(shown: str | None) -> str | None:
        return PureWindowsPath(shown).name if shown is not None and _is_absolute(shown) else shown

    def diagnosed(found: DiagnosisResult) -> DiagnosisResult:
        command = found.command.replace(shlex.quote(result.file), shlex.quote(file))
        return replace(
            found,
            guilty=moved(found.guilty),
            evidence=None if found.evidence is None else text(found.evidence),
            command=text(command),
        )

    return replace(
        result,
        file=file,
        error=None if result.error is None else text(result.error),
        problems=tuple(
            replace(problem, location=place(problem.location), message=text(problem.message))
            for problem in result.problems
        ),
        breaks=tuple(map(moved, result.breaks)),
        accepted=tuple(map(moved, result.accepted)),
        timeline=tuple(
            replace(block, entries=tuple(replace(entry, file=included(entry.file)) for entry in block.entries))
            for block in result.timeline
        ),
        sync_points=tuple(replace(point, file=included(point.file)) for point in result.sync_points),
        diagnosis=None if result.diagnosis is None else diagnosed(result.diagnosis),
    )


# -- JSON


def to_json(run: RunResult) -> str:
    """Write a run as JSON: exact numbers as text, times in UTC, the same bytes for the same result.

    Neither durations nor absolute paths are in it. What a scenario or a syncer said stands as it was,
    control characters escaped.
    """
    run = portable(run)
    document = {
        "schema": SCHEMA,
        "summary": {verdict.value: run.count(verdict) for verdict in Verdict},
        "syncer": run.syncer,
        "scenarios": [_scenario_json(result) for result in run.scenarios],
    }
    text = json.dumps(_plain(document), ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    # Half a surrogate pair has no UTF-8; JSON can spell it.
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _scenario_json(result: ScenarioResult) -> dict[str, Any]:
    return {
        "id": result.id,
        "file": result.file,
        "title": result.title,
        "tags": result.tags,
        "verdict": result.verdict.value,
        "error": result.error,
        "internal": result.internal,
        "problems": [
            {
                "file": problem.location.file,
                "line": problem.location.line,
                "column": problem.location.column,
                "message": problem.message,
                "expected": problem.expected,
                "suggestion": problem.suggestion,
            }
            for problem in result.problems
        ],
        "breaks": [_break_json(found) for found in result.breaks],
        "timeline": [_timeline_json(block) for block in result.timeline],
        "sync_points": [_sync_point_json(point) for point in result.sync_points],
        "laws_off": [{"law": off.law, "reason": off.reason, "line": off.location.line} for off in result.laws_off],
        "tolerances": [_tolerance_json(use) for use in result.tolerances],
        "known": None if result.known is None else _known_json(result.known, result.accepted),
        "diagnosis": None if result.diagnosis is None else _diagnosis_json(result, result.diagnosis),
        "sweeps": result.sweeps,
        "nodes": {name: outcome.value for name, outcome in result.nodes.items()},
        "checks": result.checks,
    }


def _tolerance_json(use: ToleranceUse) -> dict[str, Any]:
    tolerance, token = use.tolerance, use.token

    def amount(raw: int, worth: float) -> dict[str, Any]:
        return {"raw": str(raw), "tokens": token.format(raw), "usd": worth}

    return {
        "asset": tolerance.asset,
        "field": tolerance.field,
        "reason": tolerance.reason,
        "line": tolerance.location.line,
        "allowed": amount(tolerance.raw, use.allowed_usd),
        "largest": amount(use.largest_raw, use.largest_usd),
        "differences": use.differences,
        "unused": not use.used,
    }


def _known_json(known: Known, accepted: Sequence[Break]) -> dict[str, Any]:
    return {
        "reason": known.reason,
        "until": known.until.isoformat(),
        "line": known.location.line,
        "accepted": [_break_json(found) for found in accepted],
    }


def _diagnosis_json(result: ScenarioResult, found: DiagnosisResult) -> dict[str, Any]:
    def amount(token: Token, raw: int) -> dict[str, str]:
        return {"raw": str(raw), "tokens": token.format(raw)}

    return {
        "first_bad_block": found.block,
        "cause": found.cause,
        "evidence": found.evidence,
        "break": _break_json(found.guilty),
        "sides": [
            {
                "asset": at.token.symbol,
                "block": at.block,
                "chain": amount(at.token, at.chain),
                "books": amount(at.token, at.books),
                "gap": amount(at.token, at.books - at.chain),
            }
            for at in sides_of(result, found)
        ],
        "syncs": found.syncs,
        "command": found.command,
    }


def _break_json(found: Break) -> dict[str, Any]:
    return {
        "kind": found.kind.value,
        "cause": found.cause,
        "field": found.field,
        "asset": found.asset,
        "position_id": found.position_id,
        "expected": found.expected,
        "actual": found.actual,
        "gap_raw": None if found.gap_raw is None else str(found.gap_raw),
        "gap": found.gap,
        "gap_usd": gap_worth(found),
        "block": found.block,
        "transaction": found.transaction,
        "log_index": found.log_index,
        "file": None if found.location is None else found.location.file,
        "line": None if found.location is None else found.location.line,
        "found_at_line": None if found.found_at is None else found.found_at.line,
        "sweep": found.sweep,
        "sentence": found.sentence,
    }


def _timeline_json(block: TimelineBlock) -> dict[str, Any]:
    return {
        "block": block.number,
        "mined_at": block.mined_at,
        "branch": block.branch,
        "replaced": block.replaced,
        "entries": [
            {
                "kind": "sync" if entry.is_sync else "reorg" if entry.is_reorg else "transaction",
                "text": entry.text,
                "file": entry.file,
                "line": entry.line,
                "transaction": entry.transaction,
                "failed": entry.failed,
                "notes": entry.notes,
            }
            for entry in block.entries
        ],
    }


def _sync_point_json(point: SyncPointResult) -> dict[str, Any]:
    return {
        "operation": point.operation,
        "block": point.block,
        "branch": point.branch,
        "cycle": point.cycle,
        "file": point.file,
        "line": point.line,
        "refusal": point.refusal,
        "statement": [_statement_json(statement) for statement in point.statements],
        "books": point.books,
    }


def _statement_json(statement: Statement) -> dict[str, Any]:
    def amount(raw: int) -> dict[str, str]:
        return {"raw": str(raw), "tokens": statement.token.format(raw)}

    lines = {name: amount(getattr(statement, name)) for name in STATEMENT_LINES}
    return {
        "asset": statement.token.symbol,
        "decimals": statement.token.decimals,
        **lines,
        "items": [{"kind": item.kind.value, **amount(item.raw)} for item in statement.items],
        "unexplained": amount(statement.unexplained),
    }


def _plain(value: Any) -> Any:
    """Turn a value into what JSON can say; a syncer's books may hold a NaN, which it cannot."""
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case datetime():
            return value.isoformat() + "Z"
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value
