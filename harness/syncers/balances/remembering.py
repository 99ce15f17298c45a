"""What is kept to go back by: hashes of the blocks scanned last, and what each operation found before it began.

``Books.block_hashes`` maps each such block to its hash. Where an operation ended that moved a checkpoint, its hash
stands beside a memory: the checkpoints as the first operation that ended there found them, and which positions
corrections opened, re-opened or closed there.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from harness.books.records import (
    BalanceUpdate,
    BalanceUpdateCause,
    Books,
    Loan,
    Portfolio,
    Position,
    ReservePosition,
)
from harness.errors import SyncRefused
from harness.syncers.balances.observing import Observer
from harness.units import exact, to_decimal

HASHES_KEPT = 128
_MEMORY = "balances"
_STAMPING = {BalanceUpdateCause.redemption, BalanceUpdateCause.correction, BalanceUpdateCause.interest}
"""Causes of updates that a tracker's stamps tell of."""

Memory = dict[str, Any]


# -- keeping


def checkpoints(books: Books) -> Memory:
    """Where the books stand, as JSON."""
    sync = books.sync
    return {
        "treasury": [
            sync.treasury.last_block_scanned,
            _text(sync.treasury.last_cycle_at),
            _text(sync.treasury.last_updated_at),
        ],
        "accounting": [sync.accounting.last_block_scanned, _text(sync.accounting.last_updated_at)],
        "interest": [sync.interest.last_sync_block, _text(sync.interest.last_sync_at)],
        "reserves": {
            key: [
                None if reserve.reserve_token_price is None else repr(reserve.reserve_token_price),
                _text(reserve.last_pricing_at),
                _text(reserve.last_sync_at),
            ]
            for key, reserve in books.portfolio.reserves.items()
        },
    }


def keep_hashes(observer: Observer, books: Books, start_block: int, end_block: int) -> None:
    """Keep the hashes of the blocks of a range, its end at least, the last of all kept."""
    for block in range(max(min(start_block, end_block), end_block - HASHES_KEPT + 1), end_block + 1):
        known = books.block_hashes.get(block)
        if not (isinstance(known, dict) and hash_of(known) == observer.block_hash(block)):
            books.block_hashes[block] = observer.block_hash(block)
    for block in sorted(books.block_hashes)[:-HASHES_KEPT]:
        del books.block_hashes[block]


def remember(books: Books, block: int, found: Memory, moves: list[list[Any]]) -> None:
    """Remember, at a block whose hash is kept, what an operation that ended there found and did."""
    entry = books.block_hashes[block]
    if not isinstance(entry, dict):
        entry = {"hash": entry}
    memory = entry.get(_MEMORY) or {"found": found, "moves": []}
    books.block_hashes[block] = entry | {_MEMORY: {**memory, "moves": [*memory["moves"], *moves]}}


def hash_of(entry: Any) -> str | None:
    """The hash in what is kept of a block, whoever kept it; None if there is none."""
    found = entry.get("hash") if isinstance(entry, dict) else entry
    return found.lower() if isinstance(found, str) else None


# -- going back


def last_common_block(observer: Observer, books: Books) -> int | None:
    """The highest kept block that is still on the chain, if a higher one is not; None if none was replaced.

    Looked at are all kept blocks up to the node's head, from above: where one is still there, all before it are.

    Raises:
        SyncRefused: If none is left.
    """
    kept = [(block, hash_of(entry)) for block, entry in books.block_hashes.items() if block <= observer.view.head]
    known = sorted((block, digest) for block, digest in kept if digest is not None)
    for place, (block, digest) in enumerate(reversed(known)):
        if digest == observer.block_hash(block):
            return block if place else None
    if known:
        raise SyncRefused(
            f"blocks {known[0][0]} to {known[-1][0]} were all replaced, and no hash of an earlier block is kept"
        )
    return None


def go_back(observer: Observer, books: Books, common: int) -> None:
    """Bring books to what the operations left that came before the first that ended above the last common block.

    Raises:
        SyncRefused: If a checkpoint lies above it, and nothing is remembered of how it came there.
    """
    gone = sorted(block for block in books.block_hashes if block > common)
    memories = [memory for block in gone if (memory := _memory(books.block_hashes[block])) is not None]
    if memories:
        _restore(books, memories[0]["found"])
    sync = books.sync
    standing = (sync.treasury.last_block_scanned, sync.accounting.last_block_scanned, sync.interest.last_sync_block)
    if any(block is not None and block > common for block in standing):
        raise SyncRefused(f"blocks after {common} were replaced, and the books do not tell how they stood before")
    distribution = sync.interest.last_distribution
    if distribution is not None and distribution.end > observer.mined_at(common):
        sync.interest.last_distribution = None
    cursor = -1 if sync.treasury.last_block_scanned is None else sync.treasury.last_block_scanned
    _drop_updates(books, cursor)
    for memory in reversed(memories):
        for move in reversed(memory["moves"]):
            _undo(books.portfolio, *move)
    for position in _positions(books.portfolio):
        if position.loan is not None:
            _restamp(position, position.loan, cursor)
    for block in gone:
        del books.block_hashes[block]


def _memory(entry: Any) -> Memory | None:
    return entry.get(_MEMORY) if isinstance(entry, dict) else None


def _restore(books: Books, found: Memory) -> None:
    sync = books.sync
    cursor, cycle, updated = found["treasury"]
    sync.treasury.last_block_scanned = cursor
    sync.treasury.last_cycle_at, sync.treasury.last_updated_at = _time(cycle), _time(updated)
    block, updated = found["accounting"]
    sync.accounting.last_block_scanned, sync.accounting.last_updated_at = block, _time(updated)
    block, at = found["interest"]
    sync.interest.last_sync_block, sync.interest.last_sync_at = block, _time(at)
    for key, reserve in books.portfolio.reserves.items():
        price, priced, synced = found["reserves"].get(key, (None, None, None))
        reserve.reserve_token_price = None if price is None else float(price)
        reserve.last_pricing_at, reserve.last_sync_at = _time(priced), _time(synced)


def _drop_updates(books: Books, cursor: int) -> None:
    """Take out each update of a block after the cursor, and what followed from it."""
    dropped: set[int] = set()
    for reserve in books.portfolio.reserves.values():
        for update in _later(reserve, cursor):
            reserve.quantity = _less(reserve.quantity, update)
            dropped.add(update.balance_update_id)
            del reserve.balance_updates[update.balance_update_id]
    for position in _positions(books.portfolio):
        later = _later(position, cursor)
        for update in later:
            if position.loan is not None and update.asset == position.asset:
                _take_back(position.loan, update)
            dropped.add(update.balance_update_id)
            del position.balance_updates[update.balance_update_id]
        if position.loan is not None and any(update.asset != position.asset for update in later):
            _recount_debt(position, position.loan)
    for refs in (books.sync.treasury.balance_update_refs, books.sync.accounting.balance_update_refs):
        refs[:] = [ref for ref in refs if ref.balance_event_id not in dropped]


def _later(record: ReservePosition | Position, cursor: int) -> list[BalanceUpdate]:
    return [
        update
        for update in record.balance_updates.values()
        if update.block_number is not None and update.block_number > cursor
    ]


def _take_back(loan: Loan, update: BalanceUpdate) -> None:
    if loan.collateral_interest is None or loan.collateral is None:
        return
    side, tracker = loan.collateral, loan.collateral_interest
    tracker.last_token_amount = _less(tracker.last_token_amount, update)
    if update.cause is BalanceUpdateCause.interest:
        tracker.last_accrued_interest = _less(tracker.last_accrued_interest, update)
    else:
        side.quantity = _less(side.quantity, update)


def _recount_debt(position: Position, loan: Loan) -> None:
    """Let a debt be what trades and updates come to: a first borrow that is gone took it away, whatever it was."""
    side, tracker = loan.borrowed, loan.borrowed_interest
    if side is None or tracker is None:
        return
    decimals = side.asset.decimals
    owed = [
        exact(trade.borrowed_quantity) for trade in position.trades if trade.borrowed_quantity and not trade.failed_at
    ]
    updates = [update for update in position.balance_updates.values() if update.asset == side.asset]
    owed += [exact(update.quantity) for update in updates]
    total = _raw(sum(owed, Fraction(0)), decimals)
    grown = [exact(update.quantity) for update in updates if update.cause is BalanceUpdateCause.interest]
    accrued = _raw(sum(grown, Fraction(0)), decimals)
    tracker.last_token_amount = to_decimal(total, decimals)
    tracker.last_accrued_interest = to_decimal(accrued, decimals)
    side.quantity = to_decimal(total - accrued + _raw(exact(tracker.interest_payments), decimals), decimals)


def _less(tokens: Decimal, update: BalanceUpdate) -> Decimal:
    decimals = update.asset.decimals
    return to_decimal(_raw(exact(tokens) - exact(update.quantity), decimals), decimals)


def _raw(tokens: Fraction, decimals: int) -> int:
    units = tokens * 10**decimals
    if units.denominator != 1:
        raise SyncRefused(f"the books hold quantities finer than {decimals} decimals")
    return int(units)


def _undo(portfolio: Portfolio, move: str, position_id: int, closed_at: str | None) -> None:
    """Undo what a correction did to a position: ``opened``, ``reopened`` or ``closed`` it."""
    groups = (portfolio.open_positions, portfolio.frozen_positions, portfolio.closed_positions)
    found = [group.pop(position_id) for group in groups if position_id in group]
    for position in found[:1]:
        if move == "reopened" or (move == "closed" and is_void(position)):
            position.closed_at = _time(closed_at) or position.closed_at
            portfolio.closed_positions[position_id] = position
        elif move == "closed":
            position.closed_at = None
            portfolio.open_positions[position_id] = position


def is_void(position: Position) -> bool:
    """Tell whether all that happened to a position has been undone: its trades failed, and no update is left."""
    return bool(position.trades) and all(trade.failed_at for trade in position.trades) and not position.balance_updates


def _positions(portfolio: Portfolio) -> Iterator[Position]:
    for group in (portfolio.open_positions, portfolio.frozen_positions, portfolio.closed_positions):
        yield from group.values()


def _restamp(position: Position, loan: Loan, cursor: int) -> None:
    """Let a tracker that was moved after the cursor tell of the last that moved it and is still there."""
    for tracker, owed in ((loan.collateral_interest, False), (loan.borrowed_interest, True)):
        if tracker is None or (tracker.last_updated_block_number or 0) <= cursor:
            continue
        moved = [
            (trade.block_number, trade.executed_at)
            for trade in position.trades
            if not trade.failed_at and trade.block_number is not None and (trade.borrowed_quantity is not None) is owed
        ] + [
            (update.block_number, update.block_mined_at)
            for update in position.balance_updates.values()
            if update.cause in _STAMPING and update.block_number is not None
            if (update.asset != position.asset) is owed
        ]
        if moved:
            block, at = max(moved, key=lambda event: event[0] or 0)
            tracker.last_updated_block_number, tracker.last_updated_at, tracker.last_event_at = block, at, at


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
