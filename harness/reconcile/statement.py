"""The reconciliation statement: how an asset's books came from opening to closing, and why the chain may differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from harness.books.records import AssetIdentifier, BalanceUpdate, BalanceUpdateCause, Books, Position, Trade
from harness.ledger.facts import Ledger, MoveKind
from harness.reconcile.compare import entries, every_position, holdings
from harness.reconcile.diff import ItemKind, ReconcilingItem, Statement
from harness.units import Token, exact

_ITEM_OF_MOVE: Mapping[MoveKind, ItemKind] = {
    "donated": ItemKind.donated,
    "taken": ItemKind.taken,
    "rounded": ItemKind.rounded,
    "rebase": ItemKind.interest_not_synced,
}


def statements(
    before: Books, actual: Books, expected: Books, ledger: Ledger, block: int, *, rewinds: int | None = None
) -> tuple[Statement, ...]:
    """Draw up the statement of every asset that books or holder have, in the world's order.

    Args:
        before: The syncer's books at the previous sync point: opening.
        actual: The syncer's books now: closing, and what came between.
        expected: The ledger's books now. They say up to where flows and interest must have been read.
        ledger: The truth.
        block: At which the chain is looked at.
        rewinds: Where blocks above this one were replaced and no operation has run since. Books hold then what they
            held of those blocks.
    """
    new, dropped = _came_and_went(before, actual)
    told = [
        entry.update for entry in entries(expected) if rewinds is None or (entry.update.block_number or 0) <= rewinds
    ]
    drawn = []
    for symbol, asset in ledger.setting.assets.items():
        items = _items(symbol, asset, told, expected, rewinds, ledger, block)
        statement = _statement(symbol, asset, before, actual, new, dropped, items, ledger, block)
        if statement is not None:
            drawn.append(statement)
    return tuple(drawn)


def _came_and_went(before: Books, actual: Books) -> tuple[list[BalanceUpdate], list[BalanceUpdate]]:
    """Updates that only the later books have, and that only the earlier ones have."""
    earlier, later = (
        {update.balance_update_id: update for _, holding in _standing(books) for update in holding.values()}
        for books in (before, actual)
    )
    return (
        [update for update_id, update in later.items() if update_id not in earlier],
        [update for update_id, update in earlier.items() if update_id not in later],
    )


def _standing(books: Books) -> Iterable[tuple[int | None, Mapping[int, BalanceUpdate]]]:
    """All updates by holding, but for what orphaned blocks have left in positions that they opened."""
    for position_id, holding in holdings(books):
        if not (isinstance(holding, Position) and _is_void(holding)):
            yield position_id, holding.balance_updates


def _is_void(position: Position) -> bool:
    """Tell whether the trade that opened it has failed, and so each one after it."""
    trades = position.trades
    return (
        bool(trades)
        and position.closed_at is not None
        and position.opened_at == trades[0].executed_at
        and all(trade.failed_at for trade in trades)
    )


def _statement(
    symbol: str,
    asset: AssetIdentifier,
    before: Books,
    actual: Books,
    new: Sequence[BalanceUpdate],
    dropped: Sequence[BalanceUpdate],
    items: tuple[ReconcilingItem, ...],
    ledger: Ledger,
    block: int,
) -> Statement | None:
    opening, closing = held_raw(before, asset), held_raw(actual, asset)
    on_chain = ledger.balance(symbol, block)
    known = asset.address == ledger.setting.reserve_asset.address or any(
        asset in (position.asset, position.owed_asset) for position in every_position(actual)
    )
    if not (known or opening or closing or on_chain or items):
        return None
    moved = _moved_by_cause(new, asset)
    return Statement(
        token=Token(symbol=symbol, decimals=asset.decimals),
        opening=opening,
        deposits=moved[BalanceUpdateCause.deposit],
        redemptions=moved[BalanceUpdateCause.redemption],
        interest=moved[BalanceUpdateCause.interest],
        trades=_traded(before, actual, asset),
        corrections=moved[BalanceUpdateCause.correction],
        closing=closing,
        on_chain=on_chain,
        items=items,
        price=ledger.price(symbol, block),
        orphaned=-sum(_moved_by_cause(dropped, asset).values()) - _failed(before, actual, asset),
    )


def held_raw(books: Books, asset: AssetIdentifier) -> int:
    """What the books hold of an asset in reserves and positions not closed, or what their loans owe in it.

    Base units (fractions of one cut off).
    """
    positions = (*books.portfolio.open_positions.values(), *books.portfolio.frozen_positions.values())
    held = sum(
        (exact(reserve.quantity) for reserve in books.portfolio.reserves.values() if reserve.asset == asset),
        Fraction(0),
    )
    held += sum((position.quantity for position in positions if position.asset == asset), Fraction(0))
    held += sum((position.owed for position in positions if position.owed_asset == asset), Fraction(0))
    return _units(held, asset)


def _units(tokens: Fraction, asset: AssetIdentifier) -> int:
    return int(tokens * 10**asset.decimals)


def _moved_by_cause(new: Iterable[BalanceUpdate], asset: AssetIdentifier) -> dict[BalanceUpdateCause, int]:
    moved = dict.fromkeys(BalanceUpdateCause, Fraction(0))
    for update in new:
        if update.asset == asset:
            moved[update.cause] += exact(update.quantity)
    return {cause: _units(tokens, asset) for cause, tokens in moved.items()}


def _items(
    symbol: str,
    asset: AssetIdentifier,
    told: Sequence[BalanceUpdate],
    expected: Books,
    rewinds: int | None,
    ledger: Ledger,
    block: int,
) -> tuple[ReconcilingItem, ...]:
    """Why the chain rightly differs from books that are right: what happened and no sync was meant to see yet.

    ``told`` are the updates that the ledger's books have of blocks that are still there.
    """
    cursor, corrected = expected.sync.treasury.last_block_scanned, expected.sync.accounting.last_block_scanned
    if rewinds is not None and cursor is not None:
        cursor = min(cursor, rewinds)
    totals = dict.fromkeys(ItemKind, 0)
    absorbed = _absorbed_until(asset, told)
    for move in ledger.moves_between(symbol, absorbed + 1, block):
        totals[_ITEM_OF_MOVE[move.kind]] += move.raw
    for flow in ledger.flows_between(0 if cursor is None else cursor + 1, block):
        totals[ItemKind.flow_not_synced] += sum(leg.raw for leg in flow.legs if leg.symbol == symbol)
    if cursor is not None:
        owned = 0 if corrected is None else min(corrected, cursor)
        totals[ItemKind.owned] += _passed_over(symbol, asset, told, ledger, absorbed, owned)
        totals[ItemKind.skipped] += _passed_over(symbol, asset, told, ledger, max(absorbed, owned), cursor)
    if rewinds is not None:
        totals[ItemKind.orphaned] += _not_dropped(expected, asset, rewinds)
    return tuple(ReconcilingItem(kind=kind, raw=raw) for kind, raw in totals.items() if raw)


def _not_dropped(books: Books, asset: AssetIdentifier, common: int) -> int:
    """What books change by when they drop all updates above a block: base units."""
    gone = Fraction(0)
    for _, updates in _standing(books):
        gone += sum(
            (
                exact(update.quantity)
                for update in updates.values()
                if update.asset == asset and (update.block_number or 0) > common
            ),
            Fraction(0),
        )
    return -_units(gone, asset)


def _absorbed_until(asset: AssetIdentifier, told: Iterable[BalanceUpdate]) -> int:
    """Give the block up to which interest, or a correction, took whatever moved an asset's balance into the books.

    0 if none ever did.
    """
    blocks = [
        update.block_number or 0
        for update in told
        if update.cause in (BalanceUpdateCause.interest, BalanceUpdateCause.correction) and update.asset == asset
    ]
    return max(blocks, default=0)


def _passed_over(
    symbol: str,
    asset: AssetIdentifier,
    told: Iterable[BalanceUpdate],
    ledger: Ledger,
    above: int,
    end_block: int,
) -> int:
    """What flows moved, above a block and up to another, that the books have passed and never take in: base units.

    Dust legs that were paid out of no position, and what a correction left alone as dust. What flows moved is held
    against what the books took in of them: a call that paid nothing but dust has no update that could list it.
    """
    paid = sum(
        leg.raw for flow in ledger.flows_between(above + 1, end_block) for leg in flow.legs if leg.symbol == symbol
    )
    booked = sum(
        (
            exact(update.quantity)
            for update in told
            if update.asset == asset and update.tx_hash is not None and above < (update.block_number or 0) <= end_block
        ),
        Fraction(0),
    )
    return paid - _units(booked, asset)


def _traded(before: Books, actual: Books, asset: AssetIdentifier) -> int:
    """What trades since the last sync point moved of an asset: of positions, of what loans owe, of the reserve."""
    known = {trade.trade_id for position in every_position(before) for trade in position.trades}
    moved = Fraction(0)
    for position in every_position(actual):
        for trade in position.trades:
            if trade.trade_id not in known and not trade.failed_at:
                moved += _moved_by(position, trade, asset)
    return _units(moved, asset)


def _failed(before: Books, actual: Books, asset: AssetIdentifier) -> int:
    """What trades had moved of an asset that have failed since the last sync point."""
    failed = {trade.trade_id for position in every_position(actual) for trade in position.trades if trade.failed_at}
    gone = {trade.trade_id for position in every_position(actual) for trade in position.trades}
    moved = Fraction(0)
    for position in every_position(before):
        for trade in position.trades:
            if not trade.failed_at and (trade.trade_id in failed or trade.trade_id not in gone):
                moved += _moved_by(position, trade, asset)
    return _units(moved, asset)


def _moved_by(position: Position, trade: Trade, asset: AssetIdentifier) -> Fraction:
    if trade.executed_quantity is None:
        return Fraction(0)
    quantity = exact(trade.executed_quantity)
    moved = quantity if position.asset == asset else Fraction(0)
    borrowed = None if trade.borrowed_quantity is None else exact(trade.borrowed_quantity)
    if borrowed is not None and position.owed_asset == asset:
        moved += borrowed
    if position.reserve_currency == asset and trade.executed_reserve is not None:
        comes_in = quantity <= 0 if borrowed is None else borrowed > 0
        moved += exact(trade.executed_reserve) * (1 if comes_in else -1)
    return moved
