"""The reconciliation statement: how an asset's books came from opening to closing, and why the chain may differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from harness.books.records import AssetIdentifier, BalanceUpdate, BalanceUpdateCause, Books
from harness.ledger.facts import Ledger, MoveKind
from harness.reconcile.compare import entries, every_position
from harness.reconcile.diff import ItemKind, ReconcilingItem, Statement
from harness.units import Token, exact

_ITEM_OF_MOVE: Mapping[MoveKind, ItemKind] = {
    "donated": ItemKind.donated,
    "taken": ItemKind.taken,
    "rounded": ItemKind.rounded,
    "rebase": ItemKind.interest_not_synced,
}


def statements(before: Books, actual: Books, expected: Books, ledger: Ledger, block: int) -> tuple[Statement, ...]:
    """Draw up the statement of every asset that books or holder have, in the world's order.

    Args:
        before: The syncer's books at the previous sync point: opening.
        actual: The syncer's books now: closing, and what came between.
        expected: The ledger's books now. They say up to where flows and interest must have been read.
        ledger: The truth.
        block: At which the chain is looked at.
    """
    known = {entry.update.balance_update_id for entry in entries(before)}
    new = [entry.update for entry in entries(actual) if entry.update.balance_update_id not in known]
    told = [entry.update for entry in entries(expected)]
    drawn = []
    for symbol, asset in ledger.setting.assets.items():
        items = _items(symbol, asset, told, expected.sync.treasury.last_block_scanned, ledger, block)
        statement = _statement(symbol, asset, before, actual, new, items, ledger, block)
        if statement is not None:
            drawn.append(statement)
    return tuple(drawn)


def _statement(
    symbol: str,
    asset: AssetIdentifier,
    before: Books,
    actual: Books,
    new: Sequence[BalanceUpdate],
    items: tuple[ReconcilingItem, ...],
    ledger: Ledger,
    block: int,
) -> Statement | None:
    opening, closing = held_raw(before, asset), held_raw(actual, asset)
    on_chain = ledger.balance(symbol, block)
    known = asset.address == ledger.setting.reserve_asset.address or any(
        position.asset == asset for position in every_position(actual)
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
    )


def held_raw(books: Books, asset: AssetIdentifier) -> int:
    """What the books hold of an asset in reserves and positions not closed, base units (fractions of one cut off)."""
    return _units(
        sum(
            (exact(reserve.quantity) for reserve in books.portfolio.reserves.values() if reserve.asset == asset),
            Fraction(0),
        )
        + sum(
            (
                position.quantity
                for position in (*books.portfolio.open_positions.values(), *books.portfolio.frozen_positions.values())
                if position.asset == asset
            ),
            Fraction(0),
        ),
        asset,
    )


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
    cursor: int | None,
    ledger: Ledger,
    block: int,
) -> tuple[ReconcilingItem, ...]:
    """Why the chain rightly differs from books that are right: what happened and no sync was meant to see yet.

    ``told`` are the updates that the ledger's books have, ``cursor`` is the last block that they have read.
    """
    totals = dict.fromkeys(ItemKind, 0)
    absorbed = _absorbed_until(asset, told)
    for move in ledger.moves_between(symbol, absorbed + 1, block):
        totals[_ITEM_OF_MOVE[move.kind]] += move.raw
    for flow in ledger.flows_between(0 if cursor is None else cursor + 1, block):
        totals[ItemKind.flow_not_synced] += sum(leg.raw for leg in flow.legs if leg.symbol == symbol)
    totals[ItemKind.skipped] += _skipped(symbol, asset, told, ledger, absorbed, cursor)
    return tuple(ReconcilingItem(kind=kind, raw=raw) for kind, raw in totals.items() if raw)


def _absorbed_until(asset: AssetIdentifier, told: Iterable[BalanceUpdate]) -> int:
    """Give the block up to which interest took whatever moved an asset's balance into the books; 0 if it never did."""
    blocks = [
        update.block_number or 0
        for update in told
        if update.cause is BalanceUpdateCause.interest and update.asset == asset
    ]
    return max(blocks, default=0)


def _skipped(
    symbol: str,
    asset: AssetIdentifier,
    told: Iterable[BalanceUpdate],
    ledger: Ledger,
    absorbed: int,
    cursor: int | None,
) -> int:
    """Dust legs that were read, and paid out of no position: base units, negative.

    What flows paid is held against what the books took in of them: a call that paid nothing but dust has no update
    that could list it.
    """
    if cursor is None:
        return 0
    paid = sum(
        leg.raw for flow in ledger.flows_between(absorbed + 1, cursor) for leg in flow.legs if leg.symbol == symbol
    )
    booked = sum(
        (
            exact(update.quantity)
            for update in told
            if update.asset == asset and update.tx_hash is not None and (update.block_number or 0) > absorbed
        ),
        Fraction(0),
    )
    return paid - _units(booked, asset)


def _traded(before: Books, actual: Books, asset: AssetIdentifier) -> int:
    """What trades since the last sync point moved of an asset, as a position's base or as the reserve."""
    known = {trade.trade_id for position in every_position(before) for trade in position.trades}
    moved = Fraction(0)
    for position in every_position(actual):
        for trade in position.trades:
            if trade.trade_id in known or trade.failed_at or trade.executed_quantity is None:
                continue
            quantity = exact(trade.executed_quantity)
            if position.asset == asset:
                moved += quantity
            if position.reserve_currency == asset and trade.executed_reserve is not None:
                moved -= exact(trade.executed_reserve) * (1 if quantity > 0 else -1)
    return _units(moved, asset)
