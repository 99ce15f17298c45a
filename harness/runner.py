"""One scenario file and one syncer to a result."""

from __future__ import annotations

import time
import traceback
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.errors import ExecutionError, Problem, ScenarioError
from harness.judging import block_of, contradictions, count_checks, judge, place_of
from harness.ledger.bookkeeping import Refusal
from harness.reconcile.diff import Break, Diff
from harness.report.results import (
    ScenarioResult,
    SyncPointResult,
    TimelineBlock,
    TimelineEntry,
    Verdict,
)
from harness.scenario.loader import load
from harness.scenario.model import Scenario
from harness.session import Point, Session, SyncerFactory
from harness.sweeps import Swept, identity, judged_json, sweep
from harness.syncers.find import find_syncer
from harness.world.play import BookAct, Played, SyncAct, play

DEFAULT_TIMEOUT_SECONDS = 60.0


def run_file(
    path: str,
    *,
    id: str,
    file: str,
    syncer: str = "reference",
    sweeps: bool = True,
    timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
) -> ScenarioResult:
    """Run one scenario file.

    Args:
        path: Where it is.
        id: How results name the scenario.
        file: How results name the file.
        syncer: The syncer's name, see ``find_syncer``.
        sweeps: Whether to sync it in other ways as well.
        timeout: Seconds for each of the syncer's operations, or None.

    Returns:
        The result. A wrong file, a wrong syncer, a fault of the harness: all are results, none is raised.

    Raises:
        SyncerNotFound: If there is no such syncer.
    """
    began = time.perf_counter()
    factory = find_syncer(syncer)
    try:
        scenario = load(path, name=file)
    except ScenarioError as error:
        return _error(id, file, str(error), problems=error.problems, source=_source(path), began=began)
    return run_scenario(scenario, factory, id=id, sweeps=sweeps, timeout=timeout)


def run_scenario(
    scenario: Scenario,
    factory: SyncerFactory,
    *,
    id: str,
    sweeps: bool = True,
    timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
) -> ScenarioResult:
    """Run a scenario that is loaded already; see :func:`run_file`."""
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
        return _run(scenario, factory, id=id, sweeps=sweeps, timeout=timeout, began=began)
    except ScenarioError as error:
        return failed(str(error), error.problems)
    except ExecutionError as error:
        return failed(str(error), [Problem(location=error.location, message=error.message)])
    except Exception:  # noqa: BLE001 - whatever the harness itself gets wrong is a result of its own
        return failed(f"the harness failed:\n{traceback.format_exc(limit=-6)}", internal=True)


def _run(
    scenario: Scenario,
    factory: SyncerFactory,
    *,
    id: str,
    sweeps: bool,
    timeout: float | None,
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
    memory: dict[object, object] = {}
    breaks: dict[tuple[object, ...], Break] = {}
    plain: list[Point] = []
    diffs: list[Diff] = []
    for point in Session(played, factory, timeout=timeout, memory=memory).points():
        plain.append(point)
        diffs.append(judge(played, point))
        for broken in diffs[-1].breaks:
            breaks.setdefault(identity(broken), broken)
    states = [judged_json(point.after) for point in plain]
    swept: list[Swept] = []
    if sweeps:
        found = list(breaks.values())
        swept.extend(sweep(played, factory, plain, states, found, seed=id, timeout=timeout, memory=memory))
        for run in swept:
            for broken in run.breaks:
                breaks.setdefault((run.name, *identity(broken)), broken)
    return ScenarioResult(
        id=id,
        file=scenario.file,
        title=scenario.title,
        tags=scenario.tags,
        verdict=Verdict.differ if breaks else Verdict.reconciled,
        error=None,
        problems=(),
        internal=False,
        breaks=tuple(breaks.values()),
        sync_points=tuple(
            _sync_point(point, diff, state)
            for point, diff, state in zip(plain, diffs, states, strict=True)
            if not isinstance(point.act, BookAct)
        ),
        timeline=_timeline(played),
        source=scenario.text,
        sweeps=tuple(run.name for run in swept),
        checks=sum(count_checks(point) for point in (*plain, *(point for run in swept for point in run.points))),
        seconds=time.perf_counter() - began,
    )


def _sync_point(point: Point, diff: Diff, state: Mapping[str, Any]) -> SyncPointResult:
    operation = point.act.operation if isinstance(point.act, SyncAct) else None
    return SyncPointResult(
        operation="expect" if operation is None else operation.kind,
        block=block_of(point),
        cycle=None if operation is None else operation.cycle,
        line=place_of(point).line,
        books=state,
        statements=diff.statements,
        refusal=point.refusal,
    )


def _timeline(played: Played) -> tuple[TimelineBlock, ...]:
    ledger = played.ledger
    entries: dict[int, list[TimelineEntry]] = defaultdict(list)
    for transaction in ledger.transactions:
        entries[transaction.block].append(
            TimelineEntry(
                line=transaction.location.line,
                text=transaction.text,
                transaction=transaction.hash,
                failed=transaction.failed,
            )
        )
    for act in played.acts:
        if isinstance(act, SyncAct):
            entries[act.operation.head].append(
                TimelineEntry(line=act.operation.location.line, text=_operation_text(act), is_sync=True)
            )
    quiet = {0, 1}
    return tuple(
        TimelineBlock(number=block.number, mined_at=block.mined_at, entries=tuple(entries[block.number]))
        for block in ledger.blocks
        if entries[block.number] or block.number in quiet or block.number == ledger.head
    )


def _operation_text(act: SyncAct) -> str:
    operation = act.operation
    words = {"initialise": "initialise the books", "sync": "sync the treasury", "sync_interest": "sync interest"}
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
