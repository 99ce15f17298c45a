"""What all operations do alike: find holdings, split a quantity among them, write updates, stamp trackers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from harness.books.records import (
    AssetIdentifier,
    BalanceEventRef,
    BalanceUpdate,
    BalanceUpdateCause,
    BalanceUpdatePositionType,
    Books,
    InterestTracker,
    Position,
    ReservePosition,
)
from harness.ledger.facts import Ledger
from harness.ledger.operations import CLOCK
from harness.units import to_decimal, to_raw, usd_float


def open_positions(books: Books, asset: AssetIdentifier) -> list[Position]:
    """List the open positions of an asset, the lowest id first."""
    return [position for _, position in sorted(books.portfolio.open_positions.items()) if position.asset.is_same(asset)]


def open_debts(books: Books, asset: AssetIdentifier) -> list[Position]:
    """List the open positions whose loans have borrowed in a debt token, the lowest id first."""
    return [
        position
        for _, position in sorted(books.portfolio.open_positions.items())
        if position.owed_asset is not None and position.owed_asset.is_same(asset)
    ]


def owed_raw(position: Position) -> int:
    """What a position's loan owes, interest included, base units of the debt token."""
    if position.loan is None or position.loan.borrowed is None or position.loan.borrowed_interest is None:
        return 0
    return to_raw(position.loan.borrowed_interest.last_token_amount, position.loan.borrowed.asset.decimals)


def split(total: int, weights: Sequence[int]) -> list[int]:
    """Split base units by weight: parts add up to the total exactly.

    Weights below zero count as zero; with no weight at all the first takes everything. What rounding
    towards zero leaves goes, a unit each, to the largest remainders, ties to the earlier one.
    """
    counted = [max(weight, 0) for weight in weights]
    whole = sum(counted)
    if whole == 0:
        return [total if index == 0 else 0 for index in range(len(counted))]
    size = abs(total)
    shares = [Fraction(size * weight, whole) for weight in counted]
    parts = [share.numerator // share.denominator for share in shares]
    by_remainder = sorted(range(len(parts)), key=lambda index: (parts[index] - shares[index], index))
    for index in by_remainder[: size - sum(parts)]:
        parts[index] += 1
    return parts if total >= 0 else [-part for part in parts]


def redeemed_since_interest(books: Books) -> dict[int | None, int]:
    """Sum up what redemptions took from each holding since the last interest sync.

    Returns:
        Base units, positive, by position id (None: the reserve).
    """
    checkpoint = books.sync.interest.last_sync_block
    taken: dict[int | None, int] = {}
    holdings: Iterable[tuple[int | None, ReservePosition | Position]] = [
        *((None, reserve) for reserve in books.portfolio.reserves.values()),
        *books.portfolio.open_positions.items(),
    ]
    for position_id, holding in holdings:
        taken[position_id] = taken.get(position_id, 0) - sum(
            to_raw(update.quantity, update.asset.decimals)
            for update in holding.balance_updates.values()
            if update.cause is BalanceUpdateCause.redemption
            and (checkpoint is None or (update.block_number or 0) > checkpoint)
        )
    return taken


def without_event(
    ledger: Ledger,
    books: Books,
    cause: BalanceUpdateCause,
    symbol: str,
    raw: int,
    old_raw: int,
    position: Position | None,
    block: int,
    *,
    previous_update_at: datetime | None = None,
) -> BalanceUpdate:
    """Write an update that no event is behind, with the next id, and put it where it belongs (None: the reserve).

    Args:
        ledger: For the time and the price of the block.
        books: Those that it is written into.
        cause: Interest or correction.
        symbol: Of the asset.
        raw: What is booked, base units.
        old_raw: What the books held before it.
        position: That of ``books``.
        block: At which balances were looked at.
        previous_update_at: When the tracker last moved.
    """
    asset = ledger.setting.assets[symbol]
    portfolio = books.portfolio
    update = BalanceUpdate(
        balance_update_id=portfolio.next_balance_update_id,
        cause=cause,
        position_type=BalanceUpdatePositionType.reserve
        if position is None
        else BalanceUpdatePositionType.open_position,
        asset=asset,
        block_mined_at=ledger.mined_at(block),
        strategy_cycle_included_at=None,
        chain_id=ledger.setting.chain_id,
        quantity=to_decimal(raw, asset.decimals),
        old_balance=to_decimal(old_raw, asset.decimals),
        usd_value=usd_float(ledger.worth(symbol, raw, block)),
        created_at=CLOCK,
        previous_update_at=previous_update_at,
        position_id=None if position is None else position.position_id,
        block_number=block,
    )
    portfolio.next_balance_update_id += 1
    holding = portfolio.reserves[asset.identifier] if position is None else position
    holding.balance_updates[update.balance_update_id] = update
    return update


def ref_to(update: BalanceUpdate) -> BalanceEventRef:
    """What `Sync` remembers of an update."""
    return BalanceEventRef(
        balance_event_id=update.balance_update_id,
        strategy_cycle_included_at=update.strategy_cycle_included_at,
        cause=update.cause,
        position_type=update.position_type,
        position_id=update.position_id,
        usd_value=update.usd_value,
    )


def move_principal(position: Position, raw: int, moved_at: datetime, block: int, *, owed: bool = False) -> None:
    """Move one side of a position's loan, and what its tracker has come to, by base units; nothing without a loan."""
    loan = position.loan
    if loan is None:
        return
    side, tracker = (loan.borrowed, loan.borrowed_interest) if owed else (loan.collateral, loan.collateral_interest)
    if side is None or tracker is None:
        return
    side.quantity = moved(side.quantity, raw, side.asset.decimals)
    tracker.last_token_amount = moved(tracker.last_token_amount, raw, side.asset.decimals)
    stamp(tracker, moved_at, block)


def moved(quantity: Decimal, raw: int, decimals: int) -> Decimal:
    """Add base units to a quantity in tokens."""
    return to_decimal(to_raw(quantity, decimals) + raw, decimals)


def stamp(tracker: InterestTracker, moved_at: datetime, block: int) -> None:
    """Note the last block that moved a tracker; an event found late does not turn the stamp back."""
    if tracker.last_updated_block_number is None or tracker.last_updated_block_number <= block:
        tracker.last_event_at = moved_at
        tracker.last_updated_at = moved_at
        tracker.last_updated_block_number = block
