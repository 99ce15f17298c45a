"""Going back where the chain was replaced: which blocks the books know, and what they said before each of them.

``Books.block_hashes`` holds the last blocks that were scanned. An entry is a block's hash as 0x text or, where an
operation ended, ``{"hash": …, "left": …}`` with the checkpoints that it left. What lies above the last common block
follows from the books themselves: each update tells its block, and a correction what it did to its position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from harness.books.records import (
    AssetIdentifier,
    BalanceUpdate,
    BalanceUpdateCause,
    Books,
    InterestTracker,
    Position,
    ReservePosition,
)
from harness.errors import SyncRefused
from harness.syncers.reference.holdings import tracked_side, whole_units
from harness.syncers.reference.reading import Reader
from harness.units import exact, to_decimal

KEPT_HASHES = 128

OPENED, REOPENED, CLOSED = "opened", "reopened", "closed"
"""What a correction notes in its ``other_data``: that it opened its position, re-opened one closed at that time, or
closed it."""

_Record = ReservePosition | Position
_Decimals = Callable[[AssetIdentifier], int]


# -- what is kept


def known_hash(entry: Any) -> str:
    """The hash in an entry of ``block_hashes``.

    Raises:
        SyncRefused: If there is none.
    """
    found = entry.get("hash") if isinstance(entry, dict) else entry
    if not isinstance(found, str):
        raise SyncRefused(f"the books keep {entry!r} where a block's hash should be")
    return found.lower()


def _left(entry: Any) -> Any:
    return entry.get("left") if isinstance(entry, dict) else None


def checkpoints(books: Books) -> dict[str, Any]:
    """How far the books are, as JSON: what an operation leaves beside updates."""
    sync = books.sync
    return {
        "treasury": [
            _text(sync.treasury.last_updated_at),
            _text(sync.treasury.last_cycle_at),
            sync.treasury.last_block_scanned,
        ],
        "accounting": [_text(sync.accounting.last_updated_at), sync.accounting.last_block_scanned],
        "interest": [_text(sync.interest.last_sync_at), sync.interest.last_sync_block],
        "reserves": {
            record.asset.identifier: [
                _text(record.last_sync_at),
                _text(record.last_pricing_at),
                record.reserve_token_price,
            ]
            for record in books.portfolio.reserves.values()
        },
    }


def keep_hashes(books: Books, found: dict[str, Any], reader: Reader, first: int, last: int) -> None:
    """Keep the hashes of the blocks from ``first`` to ``last`` and, with the last one, the checkpoints as they are.

    Args:
        books: Where to; the oldest beyond the last 128 go.
        found: The checkpoints before this operation.
        reader: Who knows the hashes.
        first: The first block that was scanned.
        last: The block in which the operation ended.
    """
    kept = dict(books.block_hashes)
    if kept and all(_left(entry) is None for entry in kept.values()):
        # Books from before entries told more than the hash: all that they say was there at their newest block.
        kept[max(kept)] = _entry(known_hash(kept[max(kept)]), found)
    for block in range(max(first, last - KEPT_HASHES + 1), last + 1):
        before = _left(kept.get(block))
        kept[block] = reader.hash(block) if before is None else _entry(reader.hash(block), before)
    kept[last] = _entry(reader.hash(last), checkpoints(books))
    gone, stay = sorted(kept)[:-KEPT_HASHES], sorted(kept)[-KEPT_HASHES:]
    oldest = stay[0]
    if _left(kept[oldest]) is None:
        older = [_left(kept[block]) for block in gone if _left(kept[block]) is not None]
        kept[oldest] = _entry(known_hash(kept[oldest]), older[-1] if older else found)
    books.block_hashes = {block: kept[block] for block in stay}


def note_again(books: Books) -> None:
    """Bring the checkpoints of the last operation up to date: one without new blocks came after it."""
    ended = [block for block, entry in books.block_hashes.items() if _left(entry) is not None]
    if ended:
        block = max(ended)
        books.block_hashes[block] = _entry(known_hash(books.block_hashes[block]), checkpoints(books))


def _entry(block_hash: str, left: dict[str, Any]) -> dict[str, Any]:
    return {"hash": block_hash, "left": left}


# -- going back


def last_common_block(books: Books, reader: Reader, head: int) -> int | None:
    """The last block up to the node's head that the books and the chain have in common.

    Returns:
        None if nothing that the books know was replaced.

    Raises:
        SyncRefused: If all of it was.
    """
    kept = sorted(block for block in books.block_hashes if block <= head)
    if not kept or _is_common(books, reader, kept[-1]):
        return None
    # A block has one parent: below a common block all are common, so few headers tell.
    low, high = 0, len(kept) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if _is_common(books, reader, kept[middle]) else (low, middle)
    if not low:
        raise SyncRefused(f"none of the blocks {kept[0]} to {kept[-1]} that the books know is on this chain")
    return kept[low - 1]


def _is_common(books: Books, reader: Reader, block: int) -> bool:
    return known_hash(books.block_hashes[block]) == reader.hash(block)


def rewind(books: Books, common: int, decimals: _Decimals) -> None:
    """Make books what the operations left that ended up to a block, apart from trades and ids.

    Raises:
        SyncRefused: If they do not tell what that was.
    """
    left = [_left(books.block_hashes[block]) for block in sorted(books.block_hashes) if block <= common]
    told = [one for one in left if one is not None]
    if not told:
        raise SyncRefused(f"the books do not tell what they were at block {common}, to which they would go back")
    if (books.sync.deployment.block_number or 0) > common:
        raise SyncRefused(f"the block of the deployment was replaced: only block {common} is left")
    try:
        _restore(books, told[-1])
    except (KeyError, TypeError, ValueError) as error:
        raise SyncRefused(f"what the books tell of block {common} cannot be read: {error!r}") from error
    cursor = books.sync.treasury.last_block_scanned
    _drop_updates(books, -1 if cursor is None else cursor, decimals)
    books.block_hashes = {block: entry for block, entry in books.block_hashes.items() if block <= common}


def _restore(books: Books, left: dict[str, Any]) -> None:
    sync = books.sync
    updated, cycle, sync.treasury.last_block_scanned = left["treasury"]
    sync.treasury.last_updated_at, sync.treasury.last_cycle_at = _time(updated), _time(cycle)
    updated, sync.accounting.last_block_scanned = left["accounting"]
    sync.accounting.last_updated_at = _time(updated)
    synced, sync.interest.last_sync_block = left["interest"]
    sync.interest.last_sync_at = _time(synced)
    last = sync.interest.last_distribution
    if last is not None and (sync.interest.last_sync_at is None or last.end > sync.interest.last_sync_at):
        sync.interest.last_distribution = None
    for record in books.portfolio.reserves.values():
        synced, priced, price = left["reserves"].get(record.asset.identifier, (None, None, None))
        record.last_sync_at, record.last_pricing_at, record.reserve_token_price = _time(synced), _time(priced), price


def _drop_updates(books: Books, cursor: int, decimals: _Decimals) -> None:
    """Drop updates above a block, with all that they moved; the newest first, as corrections open and close."""
    dropped = [
        (update, record)
        for record in _records(books)
        for update in record.balance_updates.values()
        if update.block_number is not None and update.block_number > cursor
    ]
    dropped.sort(key=lambda pair: pair[0].balance_update_id, reverse=True)
    for update, record in dropped:
        del record.balance_updates[update.balance_update_id]
        _take_back(update, record, decimals)
        if isinstance(record, Position):
            _undo_move(books, update, record)
    ids = {update.balance_update_id for update, _ in dropped}
    for refs in (books.sync.treasury.balance_update_refs, books.sync.accounting.balance_update_refs):
        refs[:] = [ref for ref in refs if ref.balance_event_id not in ids]
    for position in _positions(books):
        _stamp_anew(position, cursor)


def _take_back(update: BalanceUpdate, record: _Record, decimals: _Decimals) -> None:
    places = decimals(update.asset)
    raw = whole_units(exact(update.quantity), places, update.asset)

    def less(amount: Any) -> Any:
        return to_decimal(whole_units(exact(amount), places, update.asset) - raw, places)

    if isinstance(record, ReservePosition):
        record.quantity = less(record.quantity)
        return
    side, tracker = tracked_side(record, is_debt=update.asset.identifier != record.asset.identifier)
    if side is None or tracker is None:
        return
    tracker.last_token_amount = less(tracker.last_token_amount)
    if update.cause is BalanceUpdateCause.interest:
        tracker.last_accrued_interest = less(tracker.last_accrued_interest)
    else:
        side.quantity = less(side.quantity)


def _undo_move(books: Books, update: BalanceUpdate, position: Position) -> None:
    """Undo what a correction did to its position: it opened it, re-opened it, or closed it."""
    noted, portfolio = update.other_data or {}, books.portfolio
    if CLOSED in noted and not _is_void(position):
        portfolio.closed_positions.pop(position.position_id, None)
        portfolio.open_positions[position.position_id] = position
        position.closed_at = None
    if OPENED in noted and not position.balance_updates and _is_void(position, even_untraded=True):
        for positions in (portfolio.open_positions, portfolio.frozen_positions, portfolio.closed_positions):
            positions.pop(position.position_id, None)
    elif REOPENED in noted and position.quantity == 0 and position.position_id in portfolio.open_positions:
        del portfolio.open_positions[position.position_id]
        portfolio.closed_positions[position.position_id] = position
        position.closed_at = _time(noted[REOPENED])


def _is_void(position: Position, *, even_untraded: bool = False) -> bool:
    """Tell whether no trade of a position stands, though there were some; ``even_untraded``: or there were none."""
    return (even_untraded or bool(position.trades)) and all(trade.failed_at for trade in position.trades)


def _stamp_anew(position: Position, cursor: int) -> None:
    """Let trackers tell of the last trade or update that is left, where what they tell of is gone."""
    for is_debt in (False, True):
        _, tracker = tracked_side(position, is_debt=is_debt)
        if tracker is None or (tracker.last_updated_block_number or 0) <= cursor:
            continue
        stamps = [*_trade_stamps(position, is_debt), *_update_stamps(position, is_debt)]
        if stamps:
            _stamp(tracker, *max(stamps))


def _stamp(tracker: InterestTracker, block: int, at: datetime) -> None:
    tracker.last_event_at = tracker.last_updated_at = at
    tracker.last_updated_block_number = block


def _trade_stamps(position: Position, is_debt: bool) -> Iterator[tuple[int, datetime]]:
    for trade in position.trades:
        of_debt = trade.borrowed_quantity is not None
        if of_debt == is_debt and not trade.failed_at and trade.executed_at is not None:
            yield trade.block_number or 0, trade.executed_at


def _update_stamps(position: Position, is_debt: bool) -> Iterator[tuple[int, datetime]]:
    for update in position.balance_updates.values():
        if (update.asset.identifier != position.asset.identifier) == is_debt and update.block_mined_at is not None:
            yield update.block_number or 0, update.block_mined_at


def _positions(books: Books) -> list[Position]:
    portfolio = books.portfolio
    return [
        *portfolio.open_positions.values(),
        *portfolio.frozen_positions.values(),
        *portfolio.closed_positions.values(),
    ]


def _records(books: Books) -> list[_Record]:
    return [*books.portfolio.reserves.values(), *_positions(books)]


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
