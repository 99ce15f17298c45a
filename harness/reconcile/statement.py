"""The reconciliation statement: how an asset's books came from opening to closing, and why the chain may differ."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from harness.books.records import AssetIdentifier, BalanceUpdateCause, Books
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
    drawn = []
    for symbol, asset in ledger.setting.assets.items():
        statement = _statement(symbol, asset, before, actual, expected, ledger, block)
        if statement is not None:
            drawn.append(statement)
    return tuple(drawn)


def _statement(
    symbol: str, asset: AssetIdentifier, before: Books, actual: Books, expected: Books, ledger: Ledger, block: int
) -> Statement | None:
    opening, closing = _held(before, asset), _held(actual, asset)
    on_chain = ledger.balance(symbol, block)
    items = _items(symbol, asset, expected, ledger, block)
    known = asset.address == ledger.setting.reserve_asset.address or any(
        position.asset == asset for position in every_position(actual)
    )
    if not (known or opening or closing or on_chain or items):
        return None
    moved = _moved_by_cause(before, actual, asset)
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


def _held(books: Books, asset: AssetIdentifier) -> int:
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


def _moved_by_cause(before: Books, actual: Books, asset: AssetIdentifier) -> dict[BalanceUpdateCause, int]:
    known = {entry.update.balance_update_id for entry in entries(before)}
    moved = dict.fromkeys(BalanceUpdateCause, Fraction(0))
    for entry in entries(actual):
        if entry.update.asset == asset and entry.update.balance_update_id not in known:
            moved[entry.update.cause] += exact(entry.update.quantity)
    return {cause: _units(tokens, asset) for cause, tokens in moved.items()}


def _items(
    symbol: str, asset: AssetIdentifier, expected: Books, ledger: Ledger, block: int
) -> tuple[ReconcilingItem, ...]:
    """Why the chain rightly differs from books that are right: what happened and no sync was meant to see yet."""
    totals = dict.fromkeys(ItemKind, 0)
    absorbed = _absorbed_until(asset, expected)
    for move in ledger.moves_between(symbol, absorbed + 1, block):
        totals[_ITEM_OF_MOVE[move.kind]] += move.raw
    cursor = expected.sync.treasury.last_block_scanned
    for flow in ledger.flows_between(0 if cursor is None else cursor + 1, block):
        totals[ItemKind.flow_not_synced] += sum(leg.raw for leg in flow.legs if leg.symbol == symbol)
    totals[ItemKind.skipped] += _skipped(symbol, asset, expected, ledger, absorbed, cursor)
    return tuple(ReconcilingItem(kind=kind, raw=raw) for kind, raw in totals.items() if raw)


def _absorbed_until(asset: AssetIdentifier, expected: Books) -> int:
    """Give the block up to which interest took whatever moved an asset's balance into the books; 0 if it never did."""
    blocks = [
        entry.update.block_number or 0
        for entry in entries(expected)
        if entry.update.cause is BalanceUpdateCause.interest and entry.update.asset == asset
    ]
    return max(blocks, default=0)


def _skipped(
    symbol: str, asset: AssetIdentifier, expected: Books, ledger: Ledger, absorbed: int, cursor: int | None
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
            exact(entry.update.quantity)
            for entry in entries(expected)
            if entry.update.asset == asset
            and entry.update.tx_hash is not None
            and (entry.update.block_number or 0) > absorbed
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
