"""What is always true, whatever happened.

Laws of books are judged here, at every sync point; each is a function that gives the sentences by which books break
it. A law that its precondition does not cover says nothing. The other laws are judged elsewhere; ``EVERY_LAW`` has
them all.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from harness.books.records import (
    BalanceEventRef,
    BalanceUpdate,
    BalanceUpdateCause,
    Books,
    InterestTracker,
    LoanSide,
    Position,
    ReservePosition,
)
from harness.errors import Location
from harness.reconcile.compare import Entry, entries, every_position, holdings
from harness.reconcile.conservation import CHAIN_LAWS
from harness.reconcile.diff import Break, BreakKind, Statement
from harness.units import exact, format_units

IN_TREASURY = frozenset(
    {BalanceUpdateCause.deposit, BalanceUpdateCause.redemption, BalanceUpdateCause.deposit_and_redemption}
)
IN_ACCOUNTING = frozenset({BalanceUpdateCause.correction, BalanceUpdateCause.vault_flow})


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What laws are judged on: the books before and after one operation, and the statements then."""

    before: Books
    books: Books
    statements: Sequence[Statement]
    found_at: Location
    rewinds: int | None = None
    """Where this is the first operation since a reorganisation: the last block that the books before it and the chain
    have in common."""
    end_block: int | None = None
    """Where the operation ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One way in which a law is broken."""

    sentence: str
    asset: str | None = None
    position_id: int | None = None
    update: BalanceUpdate | None = None
    gap_raw: int | None = None
    gap: str | None = None
    gap_usd: float | None = None


BooksLaw = Callable[[Checkpoint], Iterator[Violation]]


def sums_add_up(checkpoint: Checkpoint) -> Iterator[Violation]:
    """Hold each position's trades and updates, and each update's old balance, against its quantity (law 1).

    Precondition: none. A reserve's own trades are known from the positions.
    """
    for statement in checkpoint.statements:
        if statement.unaccounted:
            raw = format_units(statement.unaccounted, statement.token.decimals)
            yield Violation(
                sentence=f"The {statement.token.symbol} in the books does not add up: opening and everything booked "
                f"since leave {raw} {statement.token.symbol} unaccounted for.",
                asset=statement.token.symbol,
                gap_raw=statement.unaccounted,
                gap=raw,
                gap_usd=float(statement.unaccounted * statement.price / 10**statement.token.decimals),
            )
    for position in every_position(checkpoint.books):
        yield from _loan_adds_up(position)
    known = {entry.update.balance_update_id for entry in entries(checkpoint.before)}
    yield from _old_balances(checkpoint, known)


def _loan_adds_up(position: Position) -> Iterator[Violation]:
    loan = position.loan
    if loan is None:
        return
    if loan.collateral is not None and loan.collateral_interest is not None:
        tracked = _tracked(loan.collateral, loan.collateral_interest)
        last = exact(loan.collateral_interest.last_token_amount)
        if not tracked == last == position.quantity:
            yield Violation(
                sentence=f"The loan of position {position.position_id} does not add up: principal and interest make "
                f"{_text(tracked)}, the tracker says {_text(last)}, the position holds {_text(position.quantity)}.",
                asset=position.asset.token_symbol,
                position_id=position.position_id,
            )
    if loan.borrowed is not None and loan.borrowed_interest is not None:
        tracked, booked = _tracked(loan.borrowed, loan.borrowed_interest), _borrowed(position)
        last = exact(loan.borrowed_interest.last_token_amount)
        if not tracked == last == booked:
            yield Violation(
                sentence=f"The debt of position {position.position_id} does not add up: principal and interest make "
                f"{_text(tracked)}, the tracker says {_text(last)}, trades and updates come to {_text(booked)}.",
                asset=loan.borrowed.asset.token_symbol,
                position_id=position.position_id,
            )


def _borrowed(position: Position) -> Fraction:
    """What trades and updates have made a position owe, in tokens of the debt."""
    owed = position.owed_asset
    moves = [trade.borrowed_quantity for trade in position.trades if not trade.failed_at]
    grown = [update.quantity for update in position.balance_updates.values() if owed and owed.is_same(update.asset)]
    return sum((exact(quantity) for quantity in (*moves, *grown) if quantity is not None), Fraction(0))


def _tracked(side: LoanSide, tracker: InterestTracker) -> Fraction:
    return exact(side.quantity) + exact(tracker.last_accrued_interest) - exact(tracker.interest_payments)


def _old_balances(checkpoint: Checkpoint, known: set[int]) -> Iterator[Violation]:
    """Each new update starts where the one before it in its holding ended; trades lie between operations only."""
    for holder_id, holding in holdings(checkpoint.books):
        updates = [update for update_id, update in sorted(holding.balance_updates.items()) if update_id not in known]
        own = [update for update in updates if holding.asset.is_same(update.asset)]
        yield from _chained(holder_id, own, exact_quantity(holding))
        if isinstance(holding, Position):
            of_debt = [update for update in updates if not holding.asset.is_same(update.asset)]
            yield from _chained(holder_id, of_debt, holding.owed)


def _chained(holder_id: int | None, updates: Sequence[BalanceUpdate], closing: Fraction) -> Iterator[Violation]:
    balance = closing - sum((exact(update.quantity) for update in updates), Fraction(0))
    for update in updates:
        if exact(update.old_balance) != balance:
            yield Violation(
                sentence=f"Balance update {update.balance_update_id} ({update.cause}) starts at "
                f"{_plain(update.old_balance)} {update.asset.token_symbol}, and the one before it ended at "
                f"{_text(balance)}.",
                asset=update.asset.token_symbol,
                position_id=holder_id,
                update=update,
            )
        balance = exact(update.old_balance) + exact(update.quantity)


def exact_quantity(holding: ReservePosition | Position) -> Fraction:
    """What a holding holds, in tokens."""
    return holding.quantity if isinstance(holding, Position) else exact(holding.quantity)


def books_equal_chain(checkpoint: Checkpoint) -> Iterator[Violation]:
    """Hold closing balances against the chain's, apart from what no sync is meant to see yet (law 2).

    Precondition: the reconciling items are the ledger's, so they hold for books that are right.
    """
    for statement in checkpoint.statements:
        if statement.unexplained:
            symbol, decimals = statement.token.symbol, statement.token.decimals
            gap = -statement.unexplained
            off = f"{format_units(abs(gap), decimals)} {symbol} too {'much' if gap > 0 else 'little'}"
            yield Violation(
                sentence=f"The books hold {format_units(statement.closing, decimals)} {symbol}, {off}: "
                f"{_explained(statement)}.",
                asset=symbol,
                gap_raw=gap,
                gap=format_units(gap, decimals),
                gap_usd=float(gap * statement.price / 10**decimals),
            )


def _explained(statement: Statement) -> str:
    """What the chain holds, and what of the difference to the books has a reason."""
    token = statement.token
    words = f"the chain holds {token.format(statement.on_chain)}"
    reasons = [f"{token.format(item.raw)} {item.kind}" for item in statement.items]
    return words if not reasons else f"{words}, of which {', '.join(reasons)} need not be in them"


def ids_and_refs_match(checkpoint: Checkpoint) -> Iterator[Violation]:
    """Want update ids unique and rising, and one ref for each update whose cause has refs (law 3).

    Precondition: none.
    """
    found = entries(checkpoint.books)
    count = Counter(entry.update.balance_update_id for entry in found)
    for update_id, times in count.items():
        if times > 1:
            yield Violation(sentence=f"Balance update id {update_id} is used {times} times.")
    before = {entry.update.balance_update_id for entry in entries(checkpoint.before)}
    # Those of updates that a reorganisation took away are not used again.
    highest = max(checkpoint.before.portfolio.next_balance_update_id - 1, *before, 0)
    for entry in found:
        update_id = entry.update.balance_update_id
        if update_id not in before and update_id <= highest:
            yield Violation(
                sentence=f"Balance update id {update_id} is new and not above {highest}, the last one before it.",
                update=entry.update,
            )
    last = max(count, default=0)
    if checkpoint.books.portfolio.next_balance_update_id <= last:
        yield Violation(
            sentence=f"The next balance update id is {checkpoint.books.portfolio.next_balance_update_id}, "
            f"and {last} is in use."
        )
    sync = checkpoint.books.sync
    yield from _refs("treasury", sync.treasury.balance_update_refs, IN_TREASURY, found)
    yield from _refs("accounting", sync.accounting.balance_update_refs, IN_ACCOUNTING, found)


def _refs(
    name: str, refs: Sequence[BalanceEventRef], causes: frozenset[BalanceUpdateCause], found: Sequence[Entry]
) -> Iterator[Violation]:
    updates = {entry.update.balance_update_id: entry.update for entry in found}
    count = Counter(ref.balance_event_id for ref in refs)
    for update_id, update in updates.items():
        times = count.get(update_id, 0)
        due = 1 if update.cause in causes else 0
        if times != due:
            yield Violation(
                sentence=f"Balance update {update_id} ({update.cause}) has {times} refs in {name} instead of {due}.",
                update=update,
            )
    for ref in refs:
        target = updates.get(ref.balance_event_id)
        if target is None:
            yield Violation(
                sentence=f"A ref in {name} points to balance update {ref.balance_event_id}, which does not exist."
            )
        elif (ref.cause, ref.position_type, ref.position_id) != (
            target.cause,
            target.position_type,
            target.position_id,
        ):
            yield Violation(
                sentence=f"The ref in {name} to balance update {ref.balance_event_id} describes another update.",
                update=target,
            )


def nothing_lies_outside(checkpoint: Checkpoint) -> Iterator[Violation]:
    """Want every update between deployment and the last block scanned, and no checkpoint to go back (law 6).

    Precondition: the books are initialised. After a reorganisation checkpoints may go back.
    """
    sync, before = checkpoint.books.sync, checkpoint.before.sync
    start, cursor = sync.deployment.block_number, sync.treasury.last_block_scanned
    if start is None:
        return
    for entry in entries(checkpoint.books):
        block = entry.update.block_number
        if block is not None and (block < start or (cursor is not None and block > cursor)):
            yield Violation(
                sentence=f"Balance update {entry.update.balance_update_id} is of block {block}, outside what was "
                f"scanned ({start} to {cursor}).",
                update=entry.update,
            )
    if checkpoint.rewinds is not None:
        return
    checkpoints: tuple[tuple[str, datetime | int | None, datetime | int | None], ...] = (
        ("treasury.last_block_scanned", before.treasury.last_block_scanned, cursor),
        ("treasury.last_cycle_at", before.treasury.last_cycle_at, sync.treasury.last_cycle_at),
        ("accounting.last_block_scanned", before.accounting.last_block_scanned, sync.accounting.last_block_scanned),
        ("interest.last_sync_block", before.interest.last_sync_block, sync.interest.last_sync_block),
        ("interest.last_sync_at", before.interest.last_sync_at, sync.interest.last_sync_at),
    )
    for name, earlier, later in checkpoints:
        if earlier is not None and (later is None or later < earlier):  # type: ignore[operator]
            yield Violation(sentence=f"{name} went back from {earlier} to {later}.")


def orphaned_blocks_leave_nothing(checkpoint: Checkpoint) -> Iterator[Violation]:
    """Want nothing left of orphaned blocks once an operation has run on the new branch (law 5).

    No update, ref, stamp or checkpoint of a block above the last common one that was there before the operation.

    Precondition: it is the first operation since a reorganisation, and the books had read further than the last common
    block.
    """
    common = checkpoint.rewinds
    if common is None:
        return
    orphaned = {
        entry.update.balance_update_id
        for entry in entries(checkpoint.before)
        if (entry.update.block_number or 0) > common
    }
    for entry in entries(checkpoint.books):
        update = entry.update
        if update.balance_update_id in orphaned:
            yield Violation(
                sentence=f"Balance update {update.balance_update_id} ({update.cause}) is of block "
                f"{update.block_number}, and blocks above {common} were replaced.",
                update=update,
            )
    sync = checkpoint.books.sync
    for name, refs in (
        ("treasury", sync.treasury.balance_update_refs),
        ("accounting", sync.accounting.balance_update_refs),
    ):
        for ref in refs:
            if ref.balance_event_id in orphaned:
                yield Violation(
                    sentence=f"A ref in {name} is to balance update {ref.balance_event_id}, whose block was replaced."
                )
    for name, block in (
        ("treasury.last_block_scanned", sync.treasury.last_block_scanned),
        ("accounting.last_block_scanned", sync.accounting.last_block_scanned),
        ("interest.last_sync_block", sync.interest.last_sync_block),
    ):
        if block is not None and block > common and block != checkpoint.end_block:
            yield Violation(sentence=f"{name} is {block}, and blocks above {common} were replaced.")
    yield from _orphaned_distribution(checkpoint, common)
    for position in every_position(checkpoint.books):
        yield from _orphaned_stamps(position, common)


def _orphaned_distribution(checkpoint: Checkpoint, common: int) -> Iterator[Violation]:
    before, after = checkpoint.before.sync.interest, checkpoint.books.sync.interest
    written_at = before.last_sync_block
    gone = (
        before.last_distribution is not None
        and before.last_distribution.end == before.last_sync_at
        and written_at is not None
        and written_at > common
    )
    if gone and before.last_distribution == after.last_distribution and after.last_sync_block != checkpoint.end_block:
        yield Violation(
            sentence=f"interest.last_distribution is of block {written_at}, and blocks above {common} were replaced."
        )


def _orphaned_stamps(position: Position, common: int) -> Iterator[Violation]:
    loan = position.loan
    there = {trade.block_number for trade in position.trades if not trade.failed_at}
    there |= {update.block_number for update in position.balance_updates.values()}
    for tracker in () if loan is None else (loan.collateral_interest, loan.borrowed_interest):
        block = None if tracker is None else tracker.last_updated_block_number
        if block is not None and block > common and block not in there:
            yield Violation(
                sentence=f"A tracker of position {position.position_id} last moved at block {block}, and blocks above "
                f"{common} were replaced.",
                asset=position.asset.token_symbol,
                position_id=position.position_id,
            )


LAWS: Mapping[str, BooksLaw] = {
    "sums-add-up": sums_add_up,
    "books-equal-chain": books_equal_chain,
    "ids-and-refs-match": ids_and_refs_match,
    "nothing-lies-outside": nothing_lies_outside,
    "orphaned-blocks-leave-nothing": orphaned_blocks_leave_nothing,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """Something that is always true, by its name."""

    name: str
    text: str
    """What it says, and on what condition."""
    judged: Literal["books", "chain", "sweeps", "probe", "not yet"]
    """Where: on books at a sync point, on the chain there, by sweeps, by asking once at the end."""


def _laws() -> Iterator[Law]:
    for name, law in LAWS.items():
        yield Law(name=name, text=inspect.getdoc(law) or "", judged="books")
    yield Law(
        name="schedules-agree",
        text="Hold books that were synced in another way against the plain run's (law 4).\n\n"
        "Updates from events are equal under any schedule, apart from ids, old balances and stamps; those from "
        "balances in their sums; everything but the clock with another chunk size, done twice, saved and loaded, or "
        "killed.\n\n"
        "Precondition: sweeps are not switched off.",
        judged="sweeps",
    )
    yield Law(
        name="elsewhere-refused",
        text="Want books of one chain or vault refused on another, unchanged (law 7).\n\n"
        "Asked once at a scenario's end, besides what its own steps ask. Precondition: the books are initialised.",
        judged="probe",
    )
    for name, chain_law in CHAIN_LAWS.items():
        yield Law(name=name, text=inspect.getdoc(chain_law) or "", judged="chain")


EVERY_LAW: Mapping[str, Law] = {law.name: law for law in _laws()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LawFailure:
    """A law that could not be judged: it raised, which is the harness's fault."""

    law: str
    error: str

    def __str__(self) -> str:
        return f"the law {self.law} could not be judged: {self.error}"


class LawRaised(Exception):
    """Laws could not be judged, where nobody has a place to note it."""

    def __init__(self, failures: Sequence[LawFailure]) -> None:
        super().__init__("; ".join(map(str, failures)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LawVerdict:
    """What the laws say of books."""

    breaks: tuple[Break, ...] = ()
    failures: tuple[LawFailure, ...] = ()


def judge_laws(checkpoint: Checkpoint, off: Collection[str] = ()) -> LawVerdict:
    """Judge books by every law of books that is not switched off.

    Returns:
        One break for each violation, in the order of the laws. A law that raises leaves the others be.
    """
    breaks: list[Break] = []
    failures: list[LawFailure] = []
    for name, law in LAWS.items():
        if name in off:
            continue
        try:
            breaks += [_as_break(name, violation, checkpoint.found_at) for violation in law(checkpoint)]
        except Exception as error:  # noqa: BLE001 - a law that fails must not hide what the others find
            failures.append(LawFailure(law=name, error=f"{type(error).__name__}: {error}"))
    return LawVerdict(breaks=tuple(breaks), failures=tuple(failures))


def _as_break(name: str, violation: Violation, found_at: Location) -> Break:
    update = violation.update
    return Break(
        kind=BreakKind.law,
        sentence=violation.sentence,
        field=name,
        asset=violation.asset or (update.asset.token_symbol if update is not None else None),
        position_id=violation.position_id,
        gap_raw=violation.gap_raw,
        gap=violation.gap,
        gap_usd=violation.gap_usd,
        block=update.block_number if update is not None else None,
        transaction=update.tx_hash if update is not None else None,
        log_index=update.log_index if update is not None else None,
        location=found_at,
        found_at=found_at,
    )


def _text(value: Fraction) -> str:
    """A sum of decimals as one, with all its digits: a division would round to the context's 28."""
    places = 0
    while 10**places % value.denominator:
        places += 1
    return format_units(int(value * 10**places), places)


def _plain(value: Decimal) -> str:
    return format(value, "f")
