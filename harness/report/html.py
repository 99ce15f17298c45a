"""A run as one HTML page that needs nothing else: no network, no folder beside it, no scripts.

What differs comes first. Everything that a scenario or a syncer can say is escaped by Jinja2, and
the page's Content-Security-Policy allows the style and the script that stand in it, by their hashes,
and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Final

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from harness.reconcile.diff import ItemKind
from harness.report.allowances import allowances_text, allowed_text, used_text
from harness.report.nodes import count_nodes, node_table, nodes_text
from harness.report.results import (
    Verdict,
    block_meant,
    counts_text,
    diagnosis_of,
    entry_meant,
    error_text,
    gap_text,
    gap_tokens,
    gap_worth,
    guilty_of,
    headline,
    in_order,
    is_at,
    largest_gap,
    name_text,
    place_text,
    portable,
    printable,
    sides_of,
    usd,
    worst,
    worth_at_stake,
)
from harness.units import usd_float

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.reconcile.diff import Break, Statement
    from harness.report.results import (
        DiagnosisResult,
        RunResult,
        ScenarioResult,
        SidesAt,
        SyncPointResult,
        TimelineEntry,
    )
    from harness.units import Token

OPENED: Final = 10
"""So many failures stand open when the page is opened; a run that fails everywhere stays readable."""

DETAILED: Final = 50
"""So many breaks of one scenario are drawn with both sides, the others in a line or two each."""

_MARKS = 6
"""So many links to breaks stand beside a line of YAML or a block."""
_SLUG_LENGTH = 48
_COMPARED = 400
"""Two sides longer than this are shown without marking where they part."""
_STARTS_AS_AMOUNT = re.compile(r"[+-]?\d")


def to_html(run: RunResult) -> str:
    """Draw the whole run as one self-contained page; the same bytes for the same result."""
    run = portable(run)
    style, script = _template_text("report.css"), _template_text("report.js")
    views = _views(run)
    failing = [view for view in views if view.result.verdict is not Verdict.reconciled]
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            policy=policy,
            detailed=DETAILED,
            marks=_MARKS,
            # Both are this package's own files.
            style=Markup(style),  # noqa: S704
            script=Markup(script),  # noqa: S704
            headline=headline(run),
            largest=_largest(run, views),
            allowances=allowances_text(run),
            allowing=[view for view in views if _allows(view.result)],
            counts=counts_text(run),
            nodes=node_table(run),
            nodes_said=nodes_text(run),
            outcomes=count_nodes(run),
            slug_of={view.result.id: view.slug for view in views},
            verdict=_run_verdict(run),
            tally=_tally(run),
            checks=sum(result.checks for result in run.scenarios),
            failing=failing,
            reconciled=[view for view in views if view.result.verdict is Verdict.reconciled],
        )
    )


# -- what the template draws


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """A break, numbered within its scenario."""

    number: int
    found: Break
    expected: Markup | None
    actual: Markup | None
    is_amount: bool

    @property
    def gaps(self) -> tuple[str, ...]:
        """The gap in tokens, money and base units, as far as it has them."""
        worth, raw = gap_worth(self.found), self.found.gap_raw
        parts = (
            gap_tokens(self.found),
            None if worth is None else usd(worth, signed=True),
            None if raw is None else f"{raw:+d} raw",
        )
        return tuple(part for part in parts if part is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line of YAML; ``causes`` are the numbers of the breaks that come from it, ``finds`` of those found at it."""

    number: int
    text: str
    causes: tuple[int, ...]
    finds: tuple[int, ...]
    has_problem: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """A block with something in it, or a row of empty ones."""

    first: int
    last: int
    mined_at: datetime | None
    """None of a block that the result does not tell of."""
    entries: tuple[TimelineEntry, ...]
    breaks: tuple[int, ...]
    is_first_bad: bool = False
    event: int | None = None
    """Which of its entries is the guilty transaction."""
    replaced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One line of a reconciliation statement, over all assets of the sync point."""

    label: str
    sign: str
    values: tuple[int, ...]
    style: str = ""

    @property
    def is_zero(self) -> bool:
        return not any(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """A sync point, its statements turned so that assets are columns."""

    point: SyncPointResult
    number: int
    tokens: tuple[Token, ...]
    rows: tuple[_Row, ...]
    worths: tuple[float, ...]
    """What is unexplained of each asset, in USD."""
    unexplained: tuple[tuple[Token, int], ...]
    explained: tuple[str, ...]
    breaks: int
    is_replaced: bool
    """Whether the block that it ended at was replaced later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """Chain beside books of one asset; ``is_wrong``: the gap is there since the first bad block."""

    at: SidesAt
    is_wrong: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """A diagnosis, prepared for drawing."""

    diagnosis: DiagnosisResult
    finding: _Finding
    """The guilty break; its number is 0 where the run itself has none like it."""
    before: tuple[_Side, ...]
    there: tuple[_Side, ...]
    step: str | None
    """The YAML line of the step that caused it."""
    on_timeline: bool
    """Whether the guilty transaction stands on the timeline."""

    @property
    def has_explained(self) -> bool:
        """Whether books that are right hold something else than the chain."""
        return any(side.at.books != side.at.chain for side in self.before)

    @property
    def holds_the_same(self) -> bool:
        """Whether no quantity went wrong at the first bad block: what differs is said of them."""
        return not any(side.is_wrong for side in self.there)


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """A scenario, prepared for drawing; ``slug`` begins the names of its anchors."""

    slug: str
    result: ScenarioResult
    is_open: bool
    findings: tuple[_Finding, ...]
    panel: _Panel | None
    lines: tuple[_Line, ...]
    timeline: tuple[_Span, ...]
    points: tuple[_Point, ...]
    worst: Break | None
    blocks: int

    @property
    def others(self) -> tuple[_Finding, ...]:
        """The findings but for the one that the panel shows."""
        return self.findings[1:] if self.panel is not None and self.panel.finding.number else self.findings

    @property
    def other_kinds(self) -> str:
        """What else differs, counted, e.g. ``3 doubled, 1 law``."""
        kinds = Counter(each.found.kind.value.replace("_", " ") for each in self.others)
        return ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())


def _views(run: RunResult) -> list[_View]:
    """Prepare all scenarios: breaks by money at stake, then errors, then what is reconciled."""
    rank = {Verdict.differ: 0, Verdict.error: 1, Verdict.reconciled: 2}

    def order(pair: tuple[str, ScenarioResult]) -> tuple[int, float]:
        found = worst(pair[1].breaks)
        return rank[pair[1].verdict], 0.0 if found is None else -worth_at_stake(found)

    named = sorted(zip(_slugs(run.scenarios), run.scenarios, strict=True), key=order)
    return [
        _view(slug, result, is_open=index < OPENED and result.verdict is not Verdict.reconciled)
        for index, (slug, result) in enumerate(named)
    ]


def _slugs(results: Sequence[ScenarioResult]) -> list[str]:
    """Name each scenario for URLs: from its id, so that links hold from run to run."""
    short = [re.sub(r"[^a-z0-9]+", "-", result.id.lower()).strip("-") for result in results]
    count = Counter(short)
    taken: Counter[str] = Counter()
    slugs = []
    for result, slug in zip(results, short, strict=True):
        name = slug
        if not slug or len(slug) > _SLUG_LENGTH or count[slug] > 1:
            digest = hashlib.sha256(result.id.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            name = f"{slug[:_SLUG_LENGTH]}-{digest}"
        taken[name] += 1
        slugs.append(f"s-{name}" if taken[name] == 1 else f"s-{name}-{taken[name]}")
    return slugs


def _view(slug: str, result: ScenarioResult, *, is_open: bool) -> _View:
    findings = tuple(_finding(number, found) for number, found in enumerate(in_order(result), 1))
    diagnosis = diagnosis_of(result)
    return _View(
        slug=slug,
        result=result,
        is_open=is_open,
        findings=findings,
        panel=None if diagnosis is None else _panel(result, diagnosis, findings),
        lines=_lines(result, findings),
        timeline=_timeline(result, findings, diagnosis),
        points=tuple(_point(number, point, result) for number, point in enumerate(result.sync_points, 1)),
        worst=worst(result.breaks),
        blocks=max((block.number for block in result.timeline), default=0),
    )


def _panel(result: ScenarioResult, diagnosis: DiagnosisResult, findings: Sequence[_Finding]) -> _Panel:
    finding = _finding(0, diagnosis.guilty) if guilty_of(result) is None else findings[0]
    sides = sides_of(result, diagnosis)
    gaps = {side.token.symbol: side.books - side.chain for side in sides if side.block < diagnosis.block}
    place, lines = finding.found.location, printable(result.source).split("\n")
    is_here = place is not None and place.file == result.file and 0 < place.line <= len(lines)
    return _Panel(
        diagnosis=diagnosis,
        finding=finding,
        before=tuple(_Side(at=side, is_wrong=False) for side in sides if side.block < diagnosis.block),
        there=tuple(
            _Side(at=side, is_wrong=side.books - side.chain != gaps.get(side.token.symbol, 0))
            for side in sides
            if side.block == diagnosis.block
        ),
        step=lines[place.line - 1].strip() if is_here and place is not None else None,
        on_timeline=any(entry_meant(block, finding.found) is not None for block in result.timeline),
    )


def _allows(result: ScenarioResult) -> bool:
    return bool(result.laws_off or result.tolerances or result.known is not None)


def _finding(number: int, found: Break) -> _Finding:
    expected, actual = found.expected, found.actual
    if expected is None or actual is None or max(len(expected), len(actual)) > _COMPARED:
        sides = [None if side is None else escape(printable(side)) for side in (expected, actual)]
    else:
        sides = list(_marked(printable(expected), printable(actual)))
    shown = [side for side in (expected, actual) if side is not None]
    return _Finding(
        number=number,
        found=found,
        expected=sides[0],
        actual=sides[1],
        is_amount=bool(shown and found.gap) and all(_STARTS_AS_AMOUNT.match(side) for side in shown),
    )


def _marked(expected: str, actual: str) -> tuple[Markup, Markup]:
    """Mark what two texts do not share, between their common beginning and end."""
    start, shorter = 0, min(len(expected), len(actual))
    while start < shorter and expected[start] == actual[start]:
        start += 1
    end = 0
    while end < shorter - start and expected[-1 - end] == actual[-1 - end]:
        end += 1

    def mark(text: str) -> Markup:
        middle = text[start : len(text) - end]
        marked = Markup("<mark>{}</mark>").format(middle) if middle else Markup("")
        return escape(text[:start]) + marked + escape(text[len(text) - end :])

    return mark(expected), mark(actual)


def _lines(result: ScenarioResult, findings: Sequence[_Finding]) -> tuple[_Line, ...]:
    problems = {problem.location.line for problem in result.problems if problem.location.file == result.file}

    def numbers(line: int, place: str) -> tuple[int, ...]:
        return tuple(
            finding.number
            for finding in findings
            if (location := getattr(finding.found, place)) is not None
            and location.file == result.file
            and location.line == line
        )

    return tuple(
        _Line(
            number=number,
            text=text,
            causes=numbers(number, "location") if findings else (),
            finds=tuple(sorted(set(numbers(number, "found_at")) - set(numbers(number, "location"))))
            if findings
            else (),
            has_problem=number in problems,
        )
        for number, text in enumerate(printable(result.source).rstrip("\n").split("\n"), 1)
        if result.source
    )


def _timeline(
    result: ScenarioResult, findings: Sequence[_Finding], diagnosis: DiagnosisResult | None
) -> tuple[_Span, ...]:
    blocks = result.timeline
    at: dict[int, list[int]] = {}
    for finding in findings:
        index = block_meant(result, finding.found.block, finding.found)
        if index is not None:
            at.setdefault(index, []).append(finding.number)
    first_bad = event_at = event = None
    if diagnosis is not None:
        guilty = guilty_of(result) or diagnosis.guilty
        # The branch that was read went wrong there; the event may stand on one that was left.
        first_bad = block_meant(result, diagnosis.block, replace(guilty, transaction=None))
        event_at = block_meant(result, guilty.block, guilty)
        event = None if event_at is None else entry_meant(blocks[event_at], guilty)
        if event is None:
            # The event's block is not said, or says otherwise; its transaction may stand somewhere all the same.
            holding = [index for index, block in enumerate(blocks) if entry_meant(block, guilty) is not None]
            event_at = max(holding, default=None)
            event = None if event_at is None else entry_meant(blocks[event_at], guilty)
    spans: list[_Span] = []
    groups = groupby(
        enumerate(blocks),
        key=lambda pair: (
            not pair[1].entries and pair[0] not in at and pair[0] != first_bad,
            pair[1].branch,
            pair[1].replaced,
        ),
    )
    for (is_empty, _, replaced), group in groups:
        members = list(group)
        if is_empty:
            first, last = members[0][1], members[-1][1]
            spans.append(
                _Span(
                    first=first.number,
                    last=last.number,
                    mined_at=last.mined_at,
                    entries=(),
                    breaks=(),
                    replaced=replaced,
                )
            )
            continue
        spans.extend(
            _Span(
                first=block.number,
                last=block.number,
                mined_at=block.mined_at,
                entries=block.entries,
                breaks=tuple(at.get(index, ())),
                is_first_bad=index == first_bad,
                event=event if index == event_at else None,
                replaced=replaced,
            )
            for index, block in members
        )
    if diagnosis is not None and first_bad is None:
        # Nothing happened in it, so the result does not tell of it; the books went wrong there all the same.
        bad = _Span(
            first=diagnosis.block, last=diagnosis.block, mined_at=None, entries=(), breaks=(), is_first_bad=True
        )
        before = [index for index, span in enumerate(spans) if span.first < diagnosis.block]
        spans.insert(before[-1] + 1 if before else 0, bad)
    return tuple(spans)


def _point(number: int, point: SyncPointResult, result: ScenarioResult) -> _Point:
    statements = point.statements
    return _Point(
        point=point,
        number=number,
        tokens=tuple(statement.token for statement in statements),
        rows=_rows(statements),
        worths=tuple(_worth(statement) for statement in statements),
        unexplained=tuple(
            (statement.token, statement.unexplained) for statement in statements if statement.unexplained
        ),
        explained=tuple(
            kind.value
            for kind in ItemKind
            if any(item.kind is kind and item.raw for statement in statements for item in statement.items)
        ),
        breaks=sum(1 for found in result.breaks if is_at(result, point, found.found_at) and found.sweep is None),
        is_replaced=any(block.branch > point.branch and block.number <= point.block for block in result.timeline),
    )


def _worth(statement: Statement) -> float:
    return usd_float(statement.price * statement.unexplained / 10**statement.token.decimals)


def _rows(statements: Sequence[Statement]) -> tuple[_Row, ...]:
    def row(label: str, sign: str, name: str, style: str = "") -> _Row:
        values = tuple(getattr(statement, name) for statement in statements)
        return _Row(label=label, sign=sign, values=values, style=style)

    def items(kind: ItemKind) -> _Row:
        values = (sum(item.raw for item in statement.items if item.kind is kind) for statement in statements)
        return _Row(label=kind.value, sign="", values=tuple(values), style="item")

    rare_rows = (row("Replaced blocks", "+", "orphaned"), row("Booked by nothing", "+", "unaccounted"))
    kinds = [kind for kind in ItemKind if any(item.kind is kind for each in statements for item in each.items)]
    return (
        row("Opening", "", "opening"),
        row("Deposits", "+", "deposits"),
        row("Redemptions", "+", "redemptions"),
        row("Interest", "+", "interest"),
        row("Trades", "+", "trades"),
        row("Corrections", "+", "corrections"),
        *(rare for rare in rare_rows if not rare.is_zero),
        row("Closing, by the books", "=", "closing", "total"),
        row("On chain", "", "on_chain"),
        row("Difference, chain − books", "=", "difference", "total"),
        *(items(kind) for kind in kinds),
        row("Unexplained", "=", "unexplained", "total last"),
    )


def _run_verdict(run: RunResult) -> str:
    for verdict in (Verdict.differ, Verdict.error, Verdict.reconciled):
        if run.count(verdict):
            return verdict.value
    return Verdict.error.value


def _largest(run: RunResult, views: Sequence[_View]) -> tuple[_View, Break] | None:
    largest = largest_gap(run)
    if largest is None:
        return None
    return next(view for view in views if view.result is largest[0]), largest[1]


def _tally(run: RunResult) -> list[tuple[str, int, float, float]]:
    """The verdicts' shares of the run, for a bar of 100: name, count, left end, width."""
    bars, left = [], 0.0
    for verdict in (Verdict.differ, Verdict.error, Verdict.reconciled):
        count = run.count(verdict)
        width = round(100 * count / len(run.scenarios), 2) if run.scenarios else 0.0
        bars.append((verdict.value, count, round(left, 2), width))
        left += width
    return bars


# -- Jinja2


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=DictLoader({"report.html.j2": _template_text("report.html.j2")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        allowed=allowed_text,
        amount=_amount,
        error=error_text,
        gap=gap_text,
        name=name_text,
        place=place_text,
        said=printable,
        signed_usd=lambda worth: usd(worth, signed=True),
        time=_time,
        tokens=gap_tokens,
        used=used_text,
        what=lambda found: name_text(replace(found, cause=None)),
        worth=gap_worth,
    )
    return environment


@cache
def _template_text(name: str) -> str:
    return (files("harness.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _time(moment: datetime) -> Markup:
    return Markup('<time datetime="{}Z">{}</time>').format(moment.isoformat(), moment.isoformat(" "))


def _amount(text: str) -> Markup:
    """Set an amount for reading: thousands spaced by style alone (a copy has none), closing zeros muted."""
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, _, fraction = digits.partition(".")
    if not (whole + fraction).strip("0"):
        return Markup('<span class="z">0</span>')
    head = len(whole) % 3 or 3
    groups = [whole[:head], *(whole[at : at + 3] for at in range(head, len(whole), 3))]
    shown = whole if len(whole) < 5 else groups[0] + "".join(f"<i>{group}</i>" for group in groups[1:])
    kept = fraction.rstrip("0")
    zeros = fraction[len(kept) :]
    point = "." if kept else ""
    tail = f'<span class="z">{"." if fraction and not kept else ""}{zeros}</span>' if zeros else ""
    # Digits of a formatted integer and our own tags only.
    return Markup(f"{sign}{shown}{point}{kept}{tail}")  # noqa: S704
