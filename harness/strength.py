"""How strong a set of scenarios is: every broken syncer over it, or faults around somebody's own syncer.

Each scenario is played once, and its reads are shared by all who sync it. What each expects is taken out first, so
that a wrong syncer is caught by ledger and laws alone. A syncer is stopped at its first break; a broken one that is
caught is tried no more, unless the whole matrix is asked for. Sweeps are made only for those that no plain run catches,
in the scenarios that cost least first, until one does.
"""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from harness.diagnosis import Diagnosis, Run, diagnose, first_failure
from harness.errors import ExecutionError, ScenarioError
from harness.faults import FAULTS, Effect
from harness.judging import contradictions, judge
from harness.ledger.bookkeeping import InconsistentLedger
from harness.probing import ELSEWHERE, ask_elsewhere
from harness.reconcile.diff import Break, Diff
from harness.reconcile.laws import LawRaised
from harness.report.matrix import Alarm, Cell, Outcome, Strength, Tried, Wrong
from harness.scenario.loader import load
from harness.scenario.model import Block, Check, Mine, Scenario, StepBase
from harness.session import Point, Session, SyncerFactory
from harness.sweeps import Swept, judged_json, sweep
from harness.syncers.broken import BROKEN
from harness.syncers.find import find_syncer
from harness.world.acts import Played, SyncAct
from harness.world.play import play

CONTROLS = ("reference", "balances")
"""The syncers of unlike design in which nothing is wrong: whoever blames them is wrong himself."""

ROUND = 16
"""So many scenarios are tried before those that are caught are left out."""

Progress = Callable[[int, int, str], None]
"""Told how many tasks are done, of how many, and what they are."""
StepT = TypeVar("StepT", bound=StepBase)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A scenario file: where it is, how results name it, and what `harness.scenario.loader.load` takes beside."""

    id: str
    path: str
    root: str | None = None
    variant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a set is measured."""

    syncer: str | None = None
    """Around which faults are put; None: broken syncers are run."""
    with_expect: bool = False
    """Whether scenarios keep what they expect."""
    timeout: float | None = None
    """Seconds for each operation, or None."""
    memory_mib: int | None = None
    full: bool = False
    """Whether every broken syncer is run over every scenario, and the controls are swept too."""

    @property
    def controls(self) -> tuple[str, ...]:
        """The syncers that must be blamed for nothing."""
        return CONTROLS if self.syncer is None else (self.syncer,)

    @property
    def wrongs(self) -> tuple[Wrong, ...]:
        """The wrong syncers, in the order of their list."""
        if self.syncer is None:
            return tuple(Wrong(name=one.name, wrong=one.wrong, cause=one.cause) for one in BROKEN.values())
        return tuple(
            Wrong(name=one.name, wrong=one.wrong, cause=one.cause, harmless_if_sound=one.harmless_if_sound)
            for one in FAULTS.values()
        )


def measure(files: Sequence[File], plan: Plan, *, jobs: int = 1, progress: Progress | None = None) -> Strength:
    """Measure how strong a set of scenarios is.

    Args:
        files: The scenarios, in the order in which results show them.
        plan: Which wrong syncers, and how.
        jobs: How many processes work at a time; the outcome is the same for any number.
        progress: Told how far it is.

    Returns:
        The measurement. Where the user's own syncer differs with no fault around it, only what differs.

    Raises:
        SyncerNotFound: If there is no such syncer.
    """
    if plan.syncer is not None:
        find_syncer(plan.syncer)
    wrongs = plan.wrongs
    every = tuple(wrong.name for wrong in wrongs)

    def task(file: File, *, controls: bool = False, wrongs: tuple[str, ...] = (), sweeps: bool = False) -> _Task:
        return _Task(file=file, plan=plan, controls=controls, wrongs=wrongs, sweeps=sweeps)

    def strength(outcomes: Sequence[_Outcome], cells: Sequence[Cell]) -> Strength:
        return Strength(
            syncer=plan.syncer,
            controls=plan.controls,
            with_expect=plan.with_expect,
            wrongs=wrongs,
            scenarios=tuple(outcome.tried for outcome in outcomes),
            cells=tuple(cells),
            alarms=tuple(alarm for outcome in outcomes for alarm in outcome.alarms),
            full=plan.full or not ours,
        )

    ours = plan.syncer is None
    if ours and not plan.full:
        outcomes = _until_caught(files, plan, every, jobs, progress)
    else:
        tasks = [task(file, controls=True, wrongs=every if ours else ()) for file in files]
        outcomes = list(_told(tasks, jobs, progress, "scenarios"))
    found = strength(outcomes, [cell for outcome in outcomes for cell in outcome.cells])
    sound = [file for file, outcome in zip(files, outcomes, strict=True) if outcome.tried.error is None]
    if not ours:
        if found.alarms:
            return found
        more = list(_told([task(file, wrongs=every) for file in sound], jobs, progress, "scenarios with faults"))
        outcomes = _merged(outcomes, more)
        found = strength(outcomes, [cell for outcome in outcomes for cell in outcome.cells])
    costs = {outcome.tried.id: outcome.cost for outcome in outcomes}
    cheapest = sorted(sound, key=lambda file: (costs[file.id], file.id))
    cells = list(found.cells)
    left = [wrong.name for wrong in wrongs if not found.catches[wrong.name]]
    for at in range(0, len(cheapest), max(1, jobs)):
        if not left:
            break
        batch = [task(file, wrongs=tuple(left), sweeps=True) for file in cheapest[at : at + jobs]]
        for outcome in _told(batch, jobs, progress, "sweeps for what is left", at, len(cheapest)):
            outcomes = _merged(outcomes, [replace(outcome, cells=())])
            # What an earlier scenario of the batch has caught was not needed here: the same for any number of jobs.
            swept = {cell.wrong: cell for cell in outcome.cells if cell.wrong in left}
            cells = [swept.pop(cell.wrong) if _is(cell, outcome, swept) else cell for cell in cells]
            left = [name for name in left if not any(cell.wrong == name and cell.is_caught for cell in cells)]
    return strength(outcomes, cells)


def _until_caught(
    files: Sequence[File], plan: Plan, every: tuple[str, ...], jobs: int, progress: Progress | None
) -> list[_Outcome]:
    """Try every scenario, the smallest first, each with the syncers that no earlier round of scenarios has caught.

    Rounds are of the same size for any number of jobs, so that the outcome is the same.
    """
    weights = {file: _weight(file) for file in files}
    ordered = sorted(files, key=lambda file: (weights[file], file.id))
    found: dict[File, _Outcome] = {}
    left = every
    with _pool(min(jobs, max(1, len(files)))) as pool:
        for at in range(0, len(ordered), ROUND):
            batch = ordered[at : at + ROUND]
            tasks = [_Task(file=file, plan=plan, controls=True, wrongs=left, sweeps=False) for file in batch]
            for file, outcome in zip(batch, _in_pool(tasks, pool), strict=True):
                found[file] = outcome
                if progress is not None:
                    progress(len(found), len(files), "scenarios")
            caught = {cell.wrong for file in batch for cell in found[file].cells if cell.is_caught}
            left = tuple(name for name in left if name not in caught)
    return [found[file] for file in files]


def _weight(file: File) -> int:
    """How much there is to play in a scenario, roughly; nothing in one that cannot be loaded."""
    try:
        scenario = load(file.path, name=file.path, root=file.root, variant=file.variant)
    except ScenarioError:
        return 0
    return sum(step.blocks if isinstance(step, Mine) else 1 for step in scenario.steps)


def _is(cell: Cell, outcome: _Outcome, swept: dict[str, Cell]) -> bool:
    return cell.scenario == outcome.tried.id and cell.wrong in swept


def without_expectations(scenario: Scenario) -> Scenario:
    """The same scenario without a single typed number to compare with."""
    deploy_block = tuple(_bare(step) for step in scenario.deploy_block)
    steps = tuple(_bare(step) for step in scenario.steps if not isinstance(step, Check))
    return replace(scenario, deploy_block=deploy_block, steps=steps)


def _bare(step: StepT) -> StepT:
    if isinstance(step, Block):
        step = replace(step, steps=tuple(_bare(inner) for inner in step.steps))
    return replace(step, expect=None)


# -- one scenario, in a process that does nothing else meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    file: File
    plan: Plan
    controls: bool
    """Whether the controls are run."""
    wrongs: tuple[str, ...]
    """The wrong syncers that are."""
    sweeps: bool
    """Whether the wrong syncers are swept: they pass the plain run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    tried: Tried
    cost: int = 0
    """How much there is to sync, roughly; the same on every machine."""
    alarms: tuple[Alarm, ...] = ()
    cells: tuple[Cell, ...] = ()


def _merged(outcomes: Sequence[_Outcome], more: Sequence[_Outcome]) -> list[_Outcome]:
    """Add cells, and failures, of the same scenarios' further tasks."""
    found = {outcome.tried.id: outcome for outcome in more}
    merged = []
    for outcome in outcomes:
        other = found.get(outcome.tried.id, _Outcome(tried=outcome.tried))
        tried = outcome.tried if other.tried.error is None else other.tried
        merged.append(replace(outcome, tried=tried, cells=(*outcome.cells, *other.cells)))
    return merged


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """A scenario that was played, with what was read of its chain."""

    file: File
    plan: Plan
    scenario: Scenario
    played: Played
    memory: dict[object, object]

    @property
    def limits(self) -> dict[str, Any]:
        return {"timeout": self.plan.timeout, "memory_mib": self.plan.memory_mib, "memory": self.memory}

    @property
    def off(self) -> set[str]:
        return {law.law for law in self.scenario.laws_off}


_STAGES: dict[tuple[str, str | None, bool], _Stage] = {}
"""What this process has played."""


def _staged(file: File, plan: Plan) -> _Stage:
    key = (file.path, file.variant, plan.with_expect)
    if key not in _STAGES:
        scenario = load(file.path, name=file.path, root=file.root, variant=file.variant)
        if not plan.with_expect:
            scenario = without_expectations(scenario)
        played = play(scenario)
        _STAGES[key] = _Stage(file=file, plan=plan, scenario=scenario, played=played, memory={})
    return replace(_STAGES[key], file=file, plan=plan)


def _carry_out(task: _Task) -> _Outcome:
    """Carry out a task; whatever goes wrong in it, but for the syncers, is said of its scenario."""
    title = task.file.id
    try:
        stage = _staged(task.file, task.plan)
        title = stage.scenario.title
        wrong = [
            f"{found.location}: {found.path} is expected to be {found.expected}, and by the ledger it is {found.actual}"
            for found in contradictions(stage.played)
        ]
        if wrong:
            return _Outcome(tried=Tried(id=task.file.id, title=title, error="\n".join(wrong)))
        if task.plan.syncer is None:
            return _in_process(stage, task)
        return _apart(lambda: _in_process(stage, task), lambda: _died(stage, task))
    except (ScenarioError, ExecutionError) as error:
        return _Outcome(tried=Tried(id=task.file.id, title=title, error=str(error)))
    except (InconsistentLedger, LawRaised) as error:
        return _Outcome(tried=Tried(id=task.file.id, title=title, error=str(error), internal=True))
    except Exception:  # noqa: BLE001 - what the harness itself gets wrong is said of the scenario, and ends in 3
        said = f"the harness failed:\n{traceback.format_exc(limit=-6)}"
        return _Outcome(tried=Tried(id=task.file.id, title=title, error=said, internal=True))


def _died(stage: _Stage, task: _Task) -> _Outcome:
    """Say that somebody's syncer took the process with it."""
    alarm = Alarm(
        syncer=task.plan.controls[0],
        scenario=stage.file.id,
        sentence=f"The process that ran {stage.file.id} ended early: a crash, an exit, or a kill.",
        block=None,
        line=None,
        sweep=None,
    )
    return _Outcome(tried=Tried(id=stage.file.id, title=stage.scenario.title), alarms=(alarm,))


def _in_process(stage: _Stage, task: _Task) -> _Outcome:
    operations = sum(isinstance(act, SyncAct) for act in stage.played.acts)
    alarms = [alarm for name in task.plan.controls if task.controls for alarm in _alarms(stage, name)]
    cells: list[Cell] = []
    if task.wrongs and not (task.plan.syncer is not None and alarms):
        cells += _cells_around(stage, task) if task.plan.syncer is not None else _cells_broken(stage, task)
    return _Outcome(
        tried=Tried(id=stage.file.id, title=stage.scenario.title),
        cost=operations * stage.played.ledger.head,
        alarms=tuple(alarms),
        cells=tuple(cells),
    )


def _cells_broken(stage: _Stage, task: _Task) -> Iterator[Cell]:
    for name in task.wrongs:
        factory = BROKEN[name].factory
        with as_it_was(factory):
            yield _cell(stage, name, factory, Effect(offered=True, changed=True), None, sweeps=task.sweeps)


def _cells_around(stage: _Stage, task: _Task) -> Iterator[Cell]:
    assert task.plan.syncer is not None, "faults are put around somebody's syncer"
    factory = find_syncer(task.plan.syncer)
    right = _plainly(stage, factory).points
    for name in task.wrongs:

        def cell(name: str = name) -> Cell:
            effect = Effect()
            around = FAULTS[name].around(factory, effect)
            return _cell(stage, name, around, effect, right, sweeps=task.sweeps)

        def died(name: str = name) -> Cell:
            outcome = Outcome.sweep if task.sweeps else Outcome.plain
            sentence = "The process ended early: a crash, an exit, or a kill."
            return Cell(scenario=stage.file.id, wrong=name, outcome=outcome, sentence=sentence)

        yield _apart(cell, died)  # what a fault leaves in the syncer's modules, no other one may find


@contextlib.contextmanager
def as_it_was(factory: object) -> Iterator[None]:
    """Give a class back what it remembers: some are wrong in just that, and no cell may know of another."""
    kept = [
        (part, name, copy.deepcopy(value))
        for part in getattr(factory, "__mro__", ())
        for name, value in vars(part).items()
        if isinstance(value, dict | list | set) and not name.startswith("__")
    ]
    try:
        yield
    finally:
        for part, name, value in kept:
            setattr(part, name, value)


# -- one syncer in one scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plain:
    """A plain run up to its first break."""

    points: tuple[Point, ...]
    diffs: tuple[Diff, ...]
    elsewhere: tuple[Break, ...] = ()
    """What it did on another chain and for another vault, if it was right until then."""

    @property
    def breaks(self) -> tuple[Break, ...]:
        return (*(broken for diff in self.diffs for broken in diff.breaks), *self.elsewhere)


def _plainly(stage: _Stage, factory: SyncerFactory) -> _Plain:
    points: list[Point] = []
    diffs: list[Diff] = []
    for point in Session(stage.played, factory, **stage.limits).points():
        points.append(point)
        diffs.append(judge(stage.played, point))
        if diffs[-1].failures:
            raise LawRaised(diffs[-1].failures)
        if diffs[-1].breaks:
            return _Plain(points=tuple(points), diffs=tuple(diffs))
    elsewhere: tuple[Break, ...] = ()
    if points and points[-1].failure is None and ELSEWHERE not in stage.off:
        elsewhere = ask_elsewhere(stage.played, factory, points[-1], **stage.limits)
    return _Plain(points=tuple(points), diffs=tuple(diffs), elsewhere=elsewhere)


def _swept(stage: _Stage, factory: SyncerFactory, plain: _Plain) -> Iterator[Swept]:
    """The sweeps of a syncer whose plain run is right."""
    if "schedules-agree" in stage.off:
        return
    states = [judged_json(point.after) for point in plain.points]
    yield from sweep(stage.played, factory, plain.points, states, (), seed=stage.file.id, **stage.limits)


def _alarms(stage: _Stage, name: str) -> Iterator[Alarm]:
    """What a control is blamed for: the first break of the plain run, or of each sweep."""
    factory = find_syncer(name)
    plain = _plainly(stage, factory)
    found: list[tuple[Break, str | None]] = [(broken, None) for broken in plain.breaks[:1]]
    if not found and (stage.plan.full or stage.plan.syncer is not None):
        found = [(broken, one.name) for one in _swept(stage, factory, plain) for broken in one.breaks[:1]]
    for broken, swept in found:
        yield Alarm(
            syncer=name,
            scenario=stage.file.id,
            sentence=broken.sentence,
            block=broken.block,
            line=_line(broken),
            sweep=swept,
        )


def _cell(
    stage: _Stage,
    name: str,
    factory: SyncerFactory,
    effect: Effect,
    right: Sequence[Point] | None,
    *,
    sweeps: bool,
) -> Cell:
    """Try a wrong syncer in a scenario.

    Args:
        stage: The scenario.
        name: The wrong syncer's name.
        factory: What makes it.
        effect: Where a fault notes what it came to.
        right: The points of the same syncer without the fault; None: that is not known.
        sweeps: Whether to sweep it if its plain run is right.
    """
    run = Run(played=stage.played, factory=factory, **stage.limits)
    plain = _plainly(stage, factory)
    cell = Cell(
        scenario=stage.file.id,
        wrong=name,
        outcome=Outcome.swept if sweeps else Outcome.passed,
        offered=effect.offered,
        changed=effect.changed,
        differs=right is None or _differ(right, plain.points),
    )
    if plain.breaks:
        diagnosis = diagnose(run, plain.points, [diff.breaks for diff in plain.diffs])
        return _caught(cell, Outcome.plain, diagnosis, plain.breaks[0])
    if sweeps:
        for one in _swept(stage, factory, plain):
            if one.breaks:
                diagnosis = first_failure(run, plain.points, plain.diffs, [one])
                return replace(_caught(cell, Outcome.sweep, diagnosis, one.breaks[0]), sweep=one.name)
    return cell


def _differ(right: Sequence[Point], points: Sequence[Point]) -> bool:
    """Whether two runs left other books, the clock aside."""
    return len(right) != len(points) or any(
        (one.refusal is None) is not (other.refusal is None)
        or (one.after != other.after and judged_json(one.after) != judged_json(other.after))
        for one, other in zip(right, points, strict=True)
    )


def _caught(cell: Cell, outcome: Outcome, diagnosis: Diagnosis | None, first: Break) -> Cell:
    guilty = first if diagnosis is None else diagnosis.guilty
    finding = None if diagnosis is None else diagnosis.finding
    return replace(
        cell,
        outcome=outcome,
        cause=None if finding is None else finding.cause.value,
        block=guilty.block if diagnosis is None else diagnosis.block,
        line=_line(guilty),
        sentence=guilty.sentence,
    )


def _line(broken: Break) -> int | None:
    place = broken.location or broken.found_at
    return None if place is None else place.line


# -- processes


def _context() -> Any:
    return multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")


def _apart(work: Callable[[], _T], died: Callable[[], _T]) -> _T:
    """Do something in a copy of this process: what it leaves behind in modules, or crashes, is gone with the copy.

    Where processes cannot be copied it is done here.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return work()
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)

    def copied() -> None:
        try:
            answer: tuple[bool, object] = True, work()
        except Exception:  # noqa: BLE001 - the harness's own failure, raised again where it is waited for
            answer = False, traceback.format_exc(limit=-6)
        sending.send(answer)

    child = context.Process(target=copied)
    child.start()
    sending.close()
    try:
        succeeded, answer = receiving.recv()
    except EOFError:
        return died()
    finally:
        child.join()
        receiving.close()
    if not succeeded:
        raise RuntimeError(answer)
    result: _T = answer
    return result


def _told(
    tasks: Sequence[_Task], jobs: int, progress: Progress | None, what: str, before: int = 0, total: int | None = None
) -> Iterator[_Outcome]:
    if not tasks:
        return
    with _pool(min(jobs, len(tasks))) as pool:
        for done, outcome in enumerate(_in_pool(tasks, pool), start=before + 1):
            if progress is not None:
                progress(done, len(tasks) if total is None else total, what)
            yield outcome


def _in_pool(tasks: Sequence[_Task], pool: ProcessPoolExecutor) -> Iterator[_Outcome]:
    """Carry out tasks in processes of their own, and yield what came of them in their order."""
    waiting: list[Future[_Outcome]] = [pool.submit(_carry_out, task) for task in tasks]
    for future in waiting:
        yield future.result()


@contextlib.contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # what is buffered would be written once by each process
    pool = ProcessPoolExecutor(processes, mp_context=_context(), initializer=_leave_interrupts_to_parent)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
