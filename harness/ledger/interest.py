"""Interest syncs: what rebase assets, and debts, have grown by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from harness.books.records import (
    AssetIdentifier,
    AssetInterestData,
    BalanceUpdateCause,
    Books,
    InterestDistributionOperation,
    InterestTracker,
    Position,
    reserve_raw,
)
from harness.books.state_file import copy_books
from harness.ledger.facts import Ledger
from harness.ledger.holdings import moved, owed_raw, redeemed_since_interest, split, stamp, without_event
from harness.ledger.operations import Operation, Refusal
from harness.units import to_decimal, usd_float

YEAR_SECONDS = 365 * 86_400
ZERO_BASE_TOLERANCE_RAW = 2
"""With nothing that could earn, so many base units are left to a correction (an index token's rounding)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Earner:
    """A holding of a rebase asset, or a loan that owes in it."""

    position: Position | None
    tracked: int
    base: int
    owes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gain:
    symbol: str
    asset: AssetIdentifier
    earners: tuple[_Earner, ...]
    raw: int

    @property
    def base(self) -> int:
        return sum(earner.base for earner in self.earners)


def sync_interest(ledger: Ledger, books: Books, operation: Operation) -> Books | Refusal:
    """Give the books after an interest sync, or why it must be refused."""
    interest = books.sync.interest
    if interest.last_sync_block == operation.end_block:
        return copy_books(books)
    gains: list[_Gain] = []
    for symbol, earners in _earners(ledger, books):
        gain = _gain(ledger, symbol, earners, operation.end_block)
        if isinstance(gain, Refusal):
            return gain
        gains.append(gain)

    after = copy_books(books)
    end = ledger.mined_at(operation.end_block)
    start = _accrual_start(books, end)
    for gain in gains:
        _book_gain(ledger, after, gain, operation.end_block)
    after.sync.interest.last_sync_at = end
    after.sync.interest.last_sync_block = operation.end_block
    if gains:
        after.sync.interest.last_distribution = _distribution(ledger, gains, start, end, operation.end_block)
    return after


def _earners(ledger: Ledger, books: Books) -> list[tuple[str, tuple[_Earner, ...]]]:
    redeemed = redeemed_since_interest(books)
    by_symbol: dict[str, list[_Earner]] = {}
    for reserve in books.portfolio.reserves.values():
        symbol = ledger.setting.symbol_of(reserve.asset)
        if symbol is not None and reserve.asset.is_rebase():
            tracked = reserve_raw(reserve)
            by_symbol.setdefault(symbol, []).append(
                _Earner(position=None, tracked=tracked, base=tracked + redeemed.get(None, 0))
            )
    for position_id, position in sorted(books.portfolio.open_positions.items()):
        symbol = ledger.setting.symbol_of(position.asset)
        if symbol is not None and position.asset.is_rebase():
            tracked = position.quantity_raw
            by_symbol.setdefault(symbol, []).append(
                _Earner(position=position, tracked=tracked, base=tracked + redeemed.get(position_id, 0))
            )
        # Redemptions take nothing from a debt: its base is what is owed.
        owed = None if position.owed_asset is None else ledger.setting.symbol_of(position.owed_asset)
        if owed is not None:
            tracked = owed_raw(position)
            by_symbol.setdefault(owed, []).append(_Earner(position=position, tracked=tracked, base=tracked, owes=True))
    return [(symbol, tuple(earners)) for symbol, earners in by_symbol.items()]


def _gain(ledger: Ledger, symbol: str, earners: tuple[_Earner, ...], end_block: int) -> _Gain | Refusal:
    asset = ledger.setting.assets[symbol]
    raw = ledger.balance(symbol, end_block) - sum(earner.tracked for earner in earners)
    gain = _Gain(symbol=symbol, asset=asset, earners=earners, raw=raw)
    if gain.base <= 0:
        if abs(raw) > ZERO_BASE_TOLERANCE_RAW:
            return Refusal(
                reason=f"{symbol} changed by {to_decimal(raw, asset.decimals)} with nothing that could earn it"
            )
        return _Gain(symbol=symbol, asset=asset, earners=earners, raw=0)
    if abs(raw) > Fraction(ledger.setting.interest_bound) * gain.base:
        return Refusal(
            reason=f"{symbol} changed by {to_decimal(raw, asset.decimals)} on a base of "
            f"{to_decimal(gain.base, asset.decimals)}, beyond the interest bound {ledger.setting.interest_bound}"
        )
    return gain


def _accrual_start(books: Books, end: datetime) -> datetime:
    """The last checkpoint's time; the first time when the oldest tracker opened."""
    if books.sync.interest.last_sync_at is not None:
        return books.sync.interest.last_sync_at
    opened = [
        side.created_at
        for position in books.portfolio.open_positions.values()
        if position.loan is not None
        for side in (position.loan.collateral, position.loan.borrowed)
        if side is not None and side.created_at is not None
    ]
    return min(opened, default=end)


def _book_gain(ledger: Ledger, after: Books, gain: _Gain, end_block: int) -> None:
    portfolio = after.portfolio
    decimals = gain.asset.decimals
    for earner, part in zip(gain.earners, split(gain.raw, [earner.base for earner in gain.earners]), strict=True):
        if part == 0:
            continue
        position = None if earner.position is None else portfolio.open_positions[earner.position.position_id]
        tracker = _tracker_of(position, owes=earner.owes)
        without_event(
            ledger,
            after,
            BalanceUpdateCause.interest,
            gain.symbol,
            part,
            earner.tracked,
            position,
            end_block,
            previous_update_at=None if tracker is None else tracker.last_event_at,
        )
        if position is None:
            portfolio.reserves[gain.asset.identifier].quantity = to_decimal(earner.tracked + part, decimals)
        if tracker is not None:
            tracker.last_token_amount = moved(tracker.last_token_amount, part, decimals)
            tracker.last_accrued_interest = moved(tracker.last_accrued_interest, part, decimals)
            stamp(tracker, ledger.mined_at(end_block), end_block)


def _tracker_of(position: Position | None, *, owes: bool) -> InterestTracker | None:
    if position is None or position.loan is None:
        return None
    return position.loan.borrowed_interest if owes else position.loan.collateral_interest


def _distribution(
    ledger: Ledger, gains: Sequence[_Gain], start: datetime, end: datetime, end_block: int
) -> InterestDistributionOperation:
    seconds = int((end - start).total_seconds())
    data = {
        gain.asset.identifier: AssetInterestData(
            total=to_decimal(gain.base, gain.asset.decimals),
            effective_rate=_yearly_rate(Fraction(gain.raw), Fraction(gain.base), seconds),
        )
        for gain in gains
    }
    earned = sum((ledger.worth(gain.symbol, gain.raw, end_block) for gain in gains), Fraction(0))
    totals = sum((ledger.worth(gain.symbol, gain.base, end_block) for gain in gains), Fraction(0))
    return InterestDistributionOperation(
        start=start,
        end=end,
        assets=[gain.asset for gain in gains],
        asset_interest_data=data,
        effective_rate=_yearly_rate(earned, totals, seconds),
    )


def _yearly_rate(gain: Fraction, base: Fraction, seconds: int) -> float:
    if seconds <= 0 or base <= 0:
        return 0.0
    return usd_float(gain / base * Fraction(YEAR_SECONDS, seconds))
