"""One scenario file and one syncer to a result."""

from __future__ import annotations

import shlex
import time
import traceback
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypedDict

from harness.diagnosis import Diagnosis, Run, explain, first_failure, told
from harness.errors import ExecutionError, Location, Problem, ScenarioError
from harness.judging import block_of, contradictions, count_checks, judge, place_of
from harness.ledger.bookkeeping import InconsistentLedger, Refusal
from harness.probing import ELSEWHERE, ask_elsewhere, conservation
from harness.reconcile.causes import Cause
from harness.reconcile.diff import Break, Diff
from harness.reconcile.laws import LawRaised
from harness.reconcile.rules import accept_known, tolerance_uses
from harness.report.results import (
    ScenarioResult,
    SyncPointResult,
    TimelineBlock,
    TimelineEntry,
    Verdict,
)
from harness.scenario.files import row_id
from harness.scenario.loader import load
from harness.scenario.model import Scenario
from harness.session import Point, Session, SyncerFactory
from harness.sweeps import NODE_SWEEPS, Swept, identity, judged_json, sweep
from harness.syncers.find import import_syncer
from harness.world.acts import BookAct, OrphanAct, Played, SyncAct
from harness.world.play import play

DEFAULT_TIMEOUT_SECONDS = 60.0
DEFAULT_MEMORY_MIB = 2_048


def run_file(
    path: str,
    *,
    id: str,
    file: str,
    root: str | None = None,
    variant: str | None = None,
    syncer: str = "reference",
    sweeps: bool = True,
    timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
    memory_mib: int | None = DEFAULT_MEMORY_MIB,
    every_block: bool = False,
    strict_nodes: bool = False,
    today: date | None = None,
) -> ScenarioResult:
    """Run one scenario file.

    Args:
        path: Where it is.
        id: How results name the scenario.
        file: How results name the file.
        root: The folder that what the file includes must lie below; None: its own.
        variant: The row of its variants to run, where it has some.
        syncer: The syncer's name, see ``harness.syncers.find``.
        sweeps: Whether to sync it in other ways as well.
        timeout: Seconds for each of the syncer's operations, or None.
        memory_mib: How much more memory each of them may take, or None.
        every_block: Whether to judge the chain's own laws at every block, not at sync points alone.
        strict_nodes: Whether books that come out silently wrong behind a faulty node are a break; else the table of
            outcomes tells of them.
        today: The day to hold ``known.until`` against; None: no day has passed.

    Returns:
        The result. A wrong file, a wrong syncer, a fault of the harness: all are results, none is raised.

    Raises:
        SyncerNotFound: If there is no such syncer.
    """
    began = time.perf_counter()
    factory = import_syncer(syncer)
    try:
        scenario = load(path, name=file, root=root, variant=variant)
    except ScenarioError as error:
        return _error(id, file, str(error), problems=error.problems, source=_source(path), began=began)
    return run_scenario(
        scenario,
        factory,
        id=id,
        sweeps=sweeps,
        timeout=timeout,
        memory_mib=memory_mib,
        every_block=every_block,
        strict_nodes=strict_nodes,
        today=today,
        command=f"harness run {shlex.quote(row_id(file, variant))} --syncer {shlex.quote(syncer)}",
    )


def run_scenario(
    scenario: Scenario,
    factory: SyncerFactory,
    *,
    id: str,
    sweeps: bool = True,
    timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
    memory_mib: int | None = DEFAULT_MEMORY_MIB,
    every_block: bool = False,
    strict_nodes: bool = False,
    today: date | None = None,
    command: str = "",
) -> ScenarioResult:
    """Run a scenario that is loaded already; see :func:`run_file`.

    ``command`` is what a diagnosis says reproduces it.
    """
    began = time.perf_counter()

    def failed(message: str, problems: Sequence[Problem] = (), *, internal: bool = False) -> ScenarioResult:
        return _error(
            id,
            scenario.file,
            message,
            problems=problems,
            source=scenario.text,
            began=began,
            scenario=scenario,
            internal=internal,
        )

    try:
        limits = _Limits(timeout=timeout, memory_mib=memory_mib)
        result = _run(
            scenario,
            factory,
            id=id,
            sweeps=sweeps,
            limits=limits,
            every_block=every_block,
            strict_nodes=strict_nodes,
            command=command,
            began=began,
        )
    except ScenarioError as error:
        return failed(str(error), error.problems)
    except ExecutionError as error:
        return failed(str(error), [Problem(location=error.location, message=error.message)])
    except (InconsistentLedger, LawRaised) as error:
        return failed(f"the harness failed in {id}: {error}", internal=True)
    except Exception:  # noqa: BLE001 - whatever the harness itself gets wrong is a result of its own
        return failed(f"the harness failed:\n{traceback.format_exc(limit=-6)}", internal=True)
    if scenario.known is None:
        return result
    accepted = accept_known(result.breaks, scenario.known, today)
    return replace(
        result,
        verdict=_verdict(accepted.breaks, internal=result.internal),
        breaks=accepted.breaks,
        accepted=accepted.accepted,
        # Where nothing is left to explain, nothing is explained.
        diagnosis=result.diagnosis if accepted.breaks else None,
    )


class _Limits(TypedDict):
    """What an operation may take."""

    timeout: float | None
    memory_mib: int | None


def _verdict(breaks: Sequence[Break], *, internal: bool) -> Verdict:
    return Verdict.error if internal else Verdict.differ if breaks else Verdict.reconciled


def _run(
    scenario: Scenario,
    factory: SyncerFactory,
    *,
    id: str,
    sweeps: bool,
    limits: _Limits,
    every_block: bool,
    strict_nodes: bool,
    command: str,
    began: float,
) -> ScenarioResult:
    played = play(scenario)
    wrong = contradictions(played)
    if wrong:
        raise ScenarioError(
            Problem(
                location=mismatch.location,
                message=f"{mismatch.path} is expected to be {mismatch.expected}, "
                f"and by the ledger it is {mismatch.actual}",
            )
            for mismatch in wrong
        )
    off = {law.law for law in scenario.laws_off}
    unlawful = conservation(played, every_block=every_block, off=off)
    if unlawful:
        raise InconsistentLedger("; ".join(f"{one.law}, block {one.block}: {one.sentence}" for one in unlawful))
    memory: dict[object, object] = {}
    breaks: dict[tuple[object, ...], Break] = {}
    plain: list[Point] = []
    diffs: list[Diff] = []
    for point in Session(played, factory, memory=memory, **limits).points():
        plain.append(point)
        diffs.append(judge(played, point))
        for broken in diffs[-1].breaks:
            breaks.setdefault(identity(broken), broken)
    states = [judged_json(point.after) for point in plain]
    swept: list[Swept] = []
    if plain and plain[-1].failure is None and ELSEWHERE not in off:
        for broken in ask_elsewhere(played, factory, plain[-1], memory=memory, **limits):
            breaks.setdefault(identity(broken), broken)
    failures = {str(failure): failure for diff in diffs for failure in diff.failures}
    if sweeps and "schedules-agree" not in off and not failures:
        found = list(breaks.values())
        swept.extend(sweep(played, factory, plain, states, found, seed=id, memory=memory, **limits))
    # What comes of a faulty node is told in a table of its own; whoever wants it judged says so.
    judged = [one for one in swept if one.outcome is None or strict_nodes]
    for one in judged:
        for broken in one.breaks:
            breaks.setdefault((one.name, *identity(broken)), broken)
    run = Run(played=played, factory=factory, memory=memory, **limits)
    diagnosis = first_failure(run, plain, diffs, judged)
    if diagnosis is not None:
        breaks.update(_explained(run, plain, diffs, breaks, diagnosis))
        breaks.update(_with_cause(breaks, diagnosis))
    return ScenarioResult(
        id=id,
        file=scenario.file,
        title=scenario.title,
        tags=scenario.tags,
        diagnosis=None if diagnosis is None else told(run, diagnosis, command),
        verdict=_verdict(tuple(breaks.values()), internal=bool(failures)),
        error=f"the harness failed in {id}: {'; '.join(failures)}" if failures else None,
        problems=(),
        internal=bool(failures),
        breaks=tuple(breaks.values()),
        sync_points=tuple(
            _sync_point(point, diff, state, scenario.file)
            for point, diff, state in zip(plain, diffs, states, strict=True)
            if not isinstance(point.act, BookAct | OrphanAct)
        ),
        timeline=_timeline(played, scenario.file),
        source=scenario.text,
        sweeps=tuple(one.name for one in swept if one.outcome is None),
        nodes={NODE_SWEEPS[one.name]: one.outcome for one in swept if one.outcome is not None},
        checks=sum(count_checks(point) for point in (*plain, *(point for one in swept for point in one.points))),
        seconds=time.perf_counter() - began,
        laws_off=scenario.laws_off,
        tolerances=tolerance_uses(
            scenario.tolerances, (within for diff in diffs for within in diff.tolerated), played.ledger
        ),
        known=scenario.known,
    )


_Breaks = dict[tuple[object, ...], Break]


_WEAK = (Cause.missed, Cause.doubled)
"""What is left when nothing more telling is known: only the guilty break has been asked about in other ways."""


def _explained(
    run: Run, points: Sequence[Point], diffs: Sequence[Diff], breaks: _Breaks, diagnosis: Diagnosis
) -> _Breaks:
    """Give every break of the plain run its cause, where evidence decides it."""
    guilty = None if diagnosis.finding is None else diagnosis.finding.cause
    explained: _Breaks = {}
    for point, diff in zip(points, diffs, strict=True):
        for broken in diff.breaks:
            key = identity(broken)
            finding = explain(run, point, broken, diff.breaks) if key in breaks and key not in explained else None
            if finding is not None and (finding.cause not in _WEAK or finding.cause is guilty):
                explained[key] = replace(broken, cause=finding.cause.value)
    return explained


def _with_cause(breaks: _Breaks, diagnosis: Diagnosis) -> _Breaks:
    """Give the guilty break the cause that the diagnosis found, which knows more than the break alone."""
    if diagnosis.finding is None:
        return {}
    wanted = identity(diagnosis.guilty)
    return {
        key: replace(broken, cause=diagnosis.finding.cause.value)
        for key, broken in breaks.items()
        if identity(broken) == wanted
    }


def _sync_point(point: Point, diff: Diff, state: Mapping[str, Any], file: str) -> SyncPointResult:
    operation = point.act.operation if isinstance(point.act, SyncAct) else None
    place = place_of(point)
    return SyncPointResult(
        operation="expect" if operation is None else operation.kind,
        block=block_of(point),
        cycle=None if operation is None else operation.cycle,
        line=place.line,
        file=None if place.file == file else place.file,
        books=state,
        statements=diff.statements,
        refusal=point.refusal,
        branch=point.act.branch,
    )


def _timeline(played: Played, file: str) -> tuple[TimelineBlock, ...]:
    """Tell of one branch after the other, each from the block on that it has to itself."""

    def entry(location: Location, text: str, **more: Any) -> TimelineEntry:
        return TimelineEntry(
            line=location.line, file=None if location.file == file else location.file, text=text, **more
        )

    turns = [act for act in played.acts if isinstance(act, OrphanAct)]
    starts = [0, *(turn.common + 1 for turn in turns)]
    ends = [branch.ledger.head for branch in played.branches]
    entries: dict[tuple[int, int], list[TimelineEntry]] = defaultdict(list)
    for number, branch in enumerate(played.branches):
        for transaction in branch.ledger.transactions:
            entries[number, transaction.block].append(
                entry(transaction.location, transaction.text, transaction=transaction.hash, failed=transaction.failed)
            )
    for act in played.acts:
        if isinstance(act, SyncAct):
            # One that a hook hangs on begins on the chain as it was before.
            number, head = (act.branch, act.operation.head) if act.hook is None else (act.hook.branch, act.hook.head)
            entries[number, max(head, starts[number])].append(
                entry(act.operation.location, _operation_text(act), is_sync=True, notes=_notes(act))
            )
    for turn in turns:
        first, last = turn.common + 1, ends[turn.branch - 1]
        gone = f"block {first} is" if first == last else f"blocks {first} to {last} are"
        entries[turn.branch - 1, last].append(entry(turn.location, f"reorganisation: {gone} replaced", is_reorg=True))
    return tuple(
        TimelineBlock(
            number=block.number,
            mined_at=block.mined_at,
            entries=tuple(entries[number, block.number]),
            branch=number,
            replaced=any(turn.branch > number and turn.common < block.number for turn in turns),
        )
        for number, branch in enumerate(played.branches)
        for block in branch.ledger.blocks[starts[number] :]
        if entries[number, block.number] or block.number in (*_QUIET, starts[number], ends[number])
    )


_QUIET = (0, 1)
"""Blocks that are told of though no step happens in them."""


def _notes(act: SyncAct) -> tuple[str, ...]:
    notes = []
    node, hook = act.node, act.hook
    if node is not None and node.head is not None:
        notes.append(f"its node's newest block is {act.operation.head}")
    if node is not None and node.profile is not None:
        numbers = {name: getattr(node, name) for name in ("blocks", "logs", "times", "block")}
        said = "".join(f", {name} {value}" for name, value in numbers.items() if value is not None)
        notes.append(f"its node misbehaves: {node.profile}{said}")
    if hook is not None:
        moves = "is reorganised" if hook.branch != act.branch else f"goes on to block {hook.then_head}"
        notes.append(f"before its read {hook.after} the chain {moves}")
    if act.crash is not None:
        notes.append(f"it dies at its read {act.crash} (or its answer is lost), and a fresh syncer is asked again")
    return tuple(notes)


def _operation_text(act: SyncAct) -> str:
    operation = act.operation
    words = {
        "initialise": "initialise the books",
        "sync": "sync the treasury",
        "sync_interest": "sync interest",
        "correct_accounts": "correct the accounts",
    }
    where = "" if operation.end_block == operation.head else f" up to block {operation.end_block}"
    cycle = "" if operation.cycle is None else f", cycle {_time(operation.cycle)}"
    refused = ", to be refused" if isinstance(act.expected, Refusal) else ""
    return f"{words[operation.kind]}{where}{cycle}{refused}"


def _time(at: datetime) -> str:
    return at.isoformat(sep=" ")


def _source(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")[: 1 << 20]
    except OSError:
        return ""


def _error(
    id: str,
    file: str,
    message: str,
    *,
    problems: Sequence[Problem],
    source: str,
    began: float,
    scenario: Scenario | None = None,
    internal: bool = False,
) -> ScenarioResult:
    return ScenarioResult(
        id=id,
        file=file,
        title=scenario.title if scenario is not None else file,
        tags=scenario.tags if scenario is not None else (),
        verdict=Verdict.error,
        error=message,
        problems=tuple(problems),
        internal=internal,
        breaks=(),
        sync_points=(),
        timeline=(),
        source=source,
        sweeps=(),
        checks=0,
        seconds=time.perf_counter() - began,
    )
