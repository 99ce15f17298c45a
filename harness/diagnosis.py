"""Where books went wrong, and why: the first bad block by bisection, then the guilty event, then the cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from harness.books import Books, copy_books
from harness.judging import block_of, judge
from harness.ledger.bookkeeping import Operation, Refusal
from harness.reconcile.causes import Case, Finding, Probes, find_cause
from harness.reconcile.compare import entries
from harness.reconcile.diff import Break, BreakKind, Diff
from harness.reconcile.statement import held_raw
from harness.report.results import DiagnosisResult, SidesAt
from harness.session import PLAIN, Point, Session, SyncerFactory, Variation
from harness.sweeps import Swept
from harness.units import Token
from harness.world.acts import Act, Played, RestartAct, SyncAct

_AFTER_ALL = 2**63
_WHOLE = Variation(name="whole", words="In one chunk", whole=True)
_EARLY = Variation(name="early", words="With no blocks above its end", early=True)
MOST_SYNCS = 12
"""How often one failure may be synced again to find its block and its cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is known of the first failure of a run."""

    block: int
    """The first bad block: syncing up to the block before it leaves books that are right."""
    guilty: Break
    """The break that it begins with."""
    finding: Finding | None
    """The cause and its evidence; None: unknown."""
    before: Books | None
    """The syncer's books at the block before, where they are right; None if no such block can be synced to."""
    after: Books
    """The syncer's books at the first bad block."""
    syncs: int
    """How many extra syncs it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How the run was made that failed: enough to make parts of it again."""

    played: Played
    factory: SyncerFactory
    variation: Variation = PLAIN
    acts: tuple[Act, ...] | None = None
    """What was asked, if not the scenario's own acts."""
    sweep: str | None = None
    """The sweep's name, if it was one."""
    timeout: float | None = None
    memory_mib: int | None = None
    memory: dict[object, object] | None = None

    def session(self) -> Session:
        """A session like the run's, to ask for single operations."""
        return Session(
            self.played,
            self.factory,
            acts=self.acts,
            variation=self.variation,
            timeout=self.timeout,
            memory_mib=self.memory_mib,
            memory=self.memory,
        )

    def retold(self, act: SyncAct, operation: Operation, before: Books) -> SyncAct:
        """Give an act another operation, and what must come of that."""
        foretold = act.foretold.copy()
        foretold.books = before
        told = replace(act, operation=operation, expectation=None, announced=None, foretold=foretold)
        if act.otherwise is not None:
            return told
        return replace(told, expected=foretold.copy().operate(self.played.branches[act.branch].ledger, operation))


class _Prober:
    """Asks for one operation again, ended elsewhere, and counts how often."""

    def __init__(self, run: Run, act: SyncAct, given: Books) -> None:
        self.run = run
        self.act = act
        self.given = given
        self._known: dict[int, tuple[Point, tuple[Break, ...]]] = {}
        self.syncs = 0

    def know(self, block: int, point: Point, breaks: tuple[Break, ...]) -> None:
        """Take an answer that is there already."""
        self._known[block] = point, breaks

    def at(self, block: int) -> tuple[Point, tuple[Break, ...]]:
        """The operation ended at a block: its point and breaks."""
        if block not in self._known:
            self.syncs += 1
            act = self.run.retold(self.act, replace(self.act.operation, end_block=block), self.act.before)
            point = self.run.session().ask_alone(act, self.given)
            self._known[block] = point, judge(self.run.played, point).breaks
        return self._known[block]

    def right(self, variation: Variation, block: int) -> bool | None:
        """Whether the operation, carried out in another way, is right; None if there have been syncs enough."""
        if self.syncs >= MOST_SYNCS:
            return None
        self.syncs += 1
        act = self.run.retold(self.act, replace(self.act.operation, end_block=block), self.act.before)
        point = replace(self.run, variation=variation).session().ask_alone(act, self.given)
        return not judge(self.run.played, point).breaks

    def without_restarts(self) -> bool | None:
        """Whether the operation is right after all that came before it, by a syncer that was never started anew."""
        return self._after(
            [act for act in _acts_until(self.run, self.act) if not _is_restart_or_elsewhere(act, self.act)], self.act
        )

    def without_crashes(self) -> bool | None:
        """Whether the operation is right after all that came before it, by a syncer that never died on the way."""
        return self._after([_uncrashed(act) for act in _acts_until(self.run, self.act)], _uncrashed(self.act))

    def _after(self, kept: Sequence[Act], last_act: Act) -> bool | None:
        operations = sum(isinstance(act, SyncAct) for act in kept) + 1
        if self.syncs + operations > MOST_SYNCS:
            return None
        self.syncs += operations
        last = None
        for last in replace(self.run, acts=(*kept, last_act)).session().points():
            if last.act is not last_act and judge(self.run.played, last).breaks:
                return None
        return last is not None and last.act is last_act and not judge(self.run.played, last).breaks

    def rewound(self, block: int) -> tuple[Break, ...] | None:
        """Ask again with the last block scanned set one back, so that the sync does not resume where it did.

        What that block held is due again then, and booked again by whoever reads it.
        """
        cursor = self.act.before.sync.treasury.last_block_scanned
        if self.syncs >= MOST_SYNCS or cursor is None or self.act.operation.kind != "sync":
            return None
        self.syncs += 1
        before, given = _set_back(self.act.before, cursor - 1), _set_back(self.given, cursor - 1)
        act = self.run.retold(self.act, replace(self.act.operation, end_block=block), before)
        return judge(self.run.played, self.run.session().ask_alone(act, given)).breaks


def _is_restart_or_elsewhere(act: Act, like: SyncAct) -> bool:
    """Tell restarts, and operations for which the syncer was pointed somewhere else."""
    if isinstance(act, SyncAct):
        operation, here = act.operation, like.operation
        return (operation.chain_id, operation.vault) != (here.chain_id, here.vault)
    return isinstance(act, RestartAct)


def _uncrashed(act: Act) -> Act:
    return replace(act, crash=None) if isinstance(act, SyncAct) else act


def _set_back(books: Books, cursor: int) -> Books:
    copy = copy_books(books)
    copy.sync.treasury.last_block_scanned = cursor
    return copy


def _position(acts: Sequence[Act], wanted: Act) -> int:
    return next(index for index, act in enumerate(acts) if act is wanted)


def first_failure(run: Run, plain: Sequence[Point], diffs: Sequence[Diff], swept: Sequence[Swept]) -> Diagnosis | None:
    """Diagnose the plain run, or if that is right the first sweep that is not."""
    found = diagnose(run, plain, [diff.breaks for diff in diffs])
    for one in swept:
        if found is not None:
            break
        sweeping = replace(run, acts=one.acts, variation=one.variation, sweep=one.name)
        sweeping = replace(sweeping, factory=one.factory or run.factory)
        found = diagnose(sweeping, one.points[-1:], [one.breaks])
    return found


def diagnose(run: Run, points: Sequence[Point], found: Sequence[Sequence[Break]]) -> Diagnosis | None:
    """Find the first bad block of a run, its first break, and the cause.

    Args:
        run: How it was made.
        points: Its points, up to the failing one at least.
        found: The breaks of each point.

    Returns:
        The diagnosis of the first failure, or None if there is none.
    """
    for index, (point, breaks) in enumerate(zip(points, found, strict=False)):
        if breaks:
            return _diagnose(run, points[:index], point, tuple(breaks))
    return None


def _diagnose(run: Run, earlier: Sequence[Point], point: Point, breaks: tuple[Break, ...]) -> Diagnosis:
    act = point.act
    if not isinstance(act, SyncAct) or point.failure is not None:
        # No wrong books: it stands where it was found.
        return Diagnosis(
            block=block_of(point), guilty=_first_in_chain(breaks), finding=None, before=None, after=point.after, syncs=0
        )
    prober = _Prober(run, act, point.given)
    block = act.operation.end_block
    prober.know(block, point, breaks)
    if act.operation.kind == "sync" and isinstance(act.expected, Books):
        block = _first_bad(prober, _first_reached(run.played, act), block, breaks)
    there, wrong = prober.at(block)
    guilty = _first_in_chain(wrong)
    case = replace(
        _case(run, there, guilty, wrong),
        refused_up_to=_refused_up_to(earlier),
        probes=_probed(prober, block, guilty),
    )
    return Diagnosis(
        block=block,
        guilty=guilty,
        finding=find_cause(case),
        before=_books_before(prober, run.played, act, block),
        after=there.after,
        syncs=prober.syncs,
    )


def _refused_up_to(earlier: Sequence[Point]) -> int | None:
    """Where the operation just before ended, if it was rightly refused."""
    for point in reversed(earlier):
        if isinstance(point.act, SyncAct) and point.act.operation.kind == "sync":
            return point.act.operation.end_block if isinstance(point.act.expected, Refusal) else None
    return None


def _probed(prober: _Prober, block: int, guilty: Break) -> Probes:
    """Ask in other ways, as far as they can tell anything and the number of syncs allows."""
    act, run = prober.act, prober.run
    operation = act.operation
    due = isinstance(act.expected, Books)
    restarted = due and any(isinstance(other, RestartAct) for other in _acts_until(run, act))
    crashed = due and any(
        isinstance(other, SyncAct) and other.crash is not None for other in (*_acts_until(run, act), act)
    )
    chunked = operation.chunk is not None and run.sweep is None
    cursor = act.before.sync.treasury.last_block_scanned
    at_the_cursor = due and (cursor is None or cursor <= operation.end_block)
    grows = operation.head > operation.end_block or act.hook is not None
    below = at_the_cursor and grows and not run.variation.late
    lost: bool | None = None
    if guilty.kind is BreakKind.missing and guilty.transaction is not None:
        whole = prober.rewound(block)
        lost = None if whole is None else all(_event_of(broken) != _event_of(guilty) for broken in whole)
    return Probes(
        lost_by_resuming=lost,
        right_without_restarts=prober.without_restarts() if restarted else None,
        right_without_crashes=prober.without_crashes() if crashed else None,
        right_in_one_chunk=prober.right(_WHOLE, block) if chunked else None,
        # Below the cursor that it found, only a head further up tells of a reorganisation.
        right_at_the_head=prober.right(_EARLY, block if act.rewinds is None else operation.end_block)
        if below
        else None,
    )


def _acts_until(run: Run, act: Act) -> Sequence[Act]:
    acts = run.played.acts if run.acts is None else run.acts
    return acts[: _position(acts, act)] if any(other is act for other in acts) else ()


def explain(run: Run, point: Point, broken: Break, breaks: Sequence[Break]) -> Finding | None:
    """Name the cause of one break of a point by what the point itself shows."""
    if not isinstance(point.act, SyncAct) or point.failure is not None:
        return None
    return find_cause(_case(run, point, broken, breaks))


def _case(run: Run, point: Point, broken: Break, breaks: Sequence[Break]) -> Case:
    act = point.act
    assert isinstance(act, SyncAct), "only operations are explained"
    operation, sync = act.operation, act.before.sync
    reached = {"sync_interest": sync.interest.last_sync_block, "correct_accounts": sync.accounting.last_block_scanned}
    refusal = act.expected if isinstance(act.expected, Refusal) else None
    return Case(
        broken=broken if run.sweep is None else replace(broken, sweep=run.sweep),
        breaks=tuple(breaks),
        expected=act.before if isinstance(act.expected, Refusal) else act.expected,
        actual=point.after,
        ledger=run.played.branches[act.branch].ledger,
        operation=operation.kind,
        cursor=sync.treasury.last_block_scanned,
        end_block=operation.end_block,
        head=operation.head,
        idle=act.rewinds is None and _is_idle(act, reached.get(operation.kind, sync.treasury.last_block_scanned)),
        due_refusal=None if refusal is None else refusal.reason,
        given=point.given,
        rewinds=act.rewinds,
        orphaned=tuple(branch.ledger for branch in run.played.branches[: act.branch]),
        token_fees={
            symbol: Fraction(spec.fee)
            for symbol, spec in run.played.world.around.specs.items()
            if spec.kind == "fee_on_transfer"
        },
    )


def _is_idle(act: SyncAct, reached: int | None) -> bool:
    """Whether an operation's end was reached before, and by right no update comes of it."""
    if act.operation.kind == "initialise" or reached is None or reached < act.operation.end_block:
        return False
    return isinstance(act.expected, Refusal) or len(entries(act.expected)) == len(entries(act.before))


def _first_reached(played: Played, act: SyncAct) -> int:
    """The first block that an operation reads, and none before a trade that its books know of.

    Of one that goes back with its chain, the first block that is new to it.
    """
    cursor = act.before.sync.treasury.last_block_scanned
    start = played.ledger.setting.deployment_block if cursor is None else cursor + 1
    if act.rewinds is not None:
        start = min(start, act.rewinds + 1)
    traded = [
        trade.block_number or 0
        for position in (
            *act.before.portfolio.open_positions.values(),
            *act.before.portfolio.closed_positions.values(),
        )
        for trade in position.trades
        if not trade.failed_at
    ]
    return max([start, *traded])


def _first_bad(prober: _Prober, low: int, high: int, breaks: Sequence[Break]) -> int:
    """Bisect: ``high`` is known to be bad. Where a break names an event, its block is tried first."""

    def bad(block: int) -> bool:
        return bool(prober.at(block)[1])

    named = [broken.block for broken in breaks if broken.block is not None and low <= broken.block < high]
    if named:
        guess = min(named)
        if bad(guess):
            high = guess
            if guess == low or not bad(guess - 1):
                return guess
            high = guess - 1
        else:
            low = guess + 1
    if low >= high or bad(low):
        return min(low, high)
    # Books change where something happened: those blocks first.
    ledger = prober.run.played.branches[prober.act.branch].ledger
    happened = sorted({transaction.block for transaction in ledger.transactions} | {high})
    candidates = [block for block in happened if low < block <= high]
    first, last = 0, len(candidates) - 1
    while first < last and prober.syncs < MOST_SYNCS - 1:
        middle = (first + last) // 2
        if bad(candidates[middle]):
            last = middle
        else:
            first = middle + 1
    low, high = (candidates[last - 1] + 1 if last else low + 1), candidates[last]
    if _first_in_chain(prober.at(high)[1]).transaction is not None:
        return high
    # What names no event may begin where nothing happened.
    while low < high and prober.syncs < MOST_SYNCS:
        middle = (low + high) // 2
        if bad(middle):
            high = middle
        else:
            low = middle + 1
    return high


def _first_in_chain(breaks: Sequence[Break]) -> Break:
    """The break that all begins with: of the earliest event, and there an update before what follows from it."""

    def rank(broken: Break) -> tuple[bool, int, int]:
        from_event = broken.transaction is not None and broken.block is not None
        block = broken.block if from_event and broken.block is not None else _AFTER_ALL
        return broken.kind is BreakKind.law, block, _AFTER_ALL if broken.log_index is None else broken.log_index

    return min(breaks, key=rank)


def _event_of(broken: Break) -> tuple[object, ...]:
    return broken.kind, broken.asset, broken.transaction, broken.log_index, broken.position_id


def _books_before(prober: _Prober, played: Played, act: SyncAct, block: int) -> Books | None:
    """The syncer's books at the block before the first bad one."""
    previous = block - 1
    if act.operation.kind != "sync" or previous < _first_reached(played, act) or prober.syncs >= MOST_SYNCS:
        return None
    point, wrong = prober.at(previous)
    return None if wrong else point.after


def told(run: Run, diagnosis: Diagnosis, command: str) -> DiagnosisResult:
    """Give a diagnosis as results have it.

    Args:
        run: The run that failed.
        diagnosis: What was found of it.
        command: What reproduces it.
    """
    finding = diagnosis.finding
    sides = _sides(run.played, diagnosis.block, diagnosis.after)
    if diagnosis.before is not None:
        sides = (*_sides(run.played, diagnosis.block - 1, diagnosis.before), *sides)
    return DiagnosisResult(
        block=diagnosis.block,
        guilty=diagnosis.guilty if finding is None else replace(diagnosis.guilty, cause=finding.cause.value),
        cause=None if finding is None else finding.cause.value,
        evidence=None if finding is None else finding.evidence,
        sides=sides,
        syncs=diagnosis.syncs,
        command=command,
    )


def _sides(played: Played, block: int, books: Books) -> tuple[SidesAt, ...]:
    """Chain beside books at a block, for each asset that either has."""
    ledger = played.ledger
    sides = []
    for symbol, asset in ledger.setting.assets.items():
        held, chain = held_raw(books, asset), ledger.balance(symbol, block)
        if held or chain or symbol == ledger.setting.reserve:
            token = Token(symbol=symbol, decimals=asset.decimals)
            sides.append(SidesAt(token=token, block=block, books=held, chain=chain))
    return tuple(sides)
