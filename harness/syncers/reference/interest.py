"""Interest: what balances came to by themselves, and whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from harness.books.records import (
    AssetIdentifier,
    AssetInterestData,
    BalanceUpdate,
    BalanceUpdateCause,
    InterestDistributionEntry,
    InterestDistributionOperation,
    Position,
)
from harness.errors import SyncRefused
from harness.syncers.reference.arithmetic import split_by_weight, worth, yearly_rate
from harness.syncers.reference.bookkeeping import Bookkeeping, Work
from harness.syncers.reference.holdings import Holding, tracked_side
from harness.units import PRICE_DECIMALS, exact, format_units, to_decimal, usd_float

UNBASED_GAIN = 2
"""Raw units that may appear on an asset of which the books hold nothing: rounding of an index token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What one asset came to since the books last looked; base units. A debt's gain is debt."""

    asset: AssetIdentifier
    holdings: tuple[Holding, ...]
    base: int
    raw: int


class InterestSyncing(Bookkeeping):
    """What an interest sync does between reading the first balance and moving its checkpoint."""

    # -- interest

    def balance_block(self, work: Work) -> int:
        """The block whose balances are compared with the books."""
        return work.view.end_block

    def measure_gain(self, work: Work, asset: AssetIdentifier) -> Gain:
        """What an asset came to since the books last looked."""
        holdings = tuple(work.holdings.of_asset(asset.identifier))
        block = self.balance_block(work)
        held = work.reader.call(asset.address, "balanceOf(address)(uint256)", self.target.holder, block=block)
        return Gain(
            asset=asset,
            holdings=holdings,
            base=sum(holding.base for holding in holdings),
            raw=held - sum(holding.balance for holding in holdings),
        )

    def check_gain(self, gain: Gain) -> None:
        """Refuse what is too large to be interest; exactly the bound passes."""
        bound = self.target.interest_bound
        allowed = exact(bound) * gain.base if gain.base > 0 else Fraction(UNBASED_GAIN)
        if abs(gain.raw) > allowed:
            symbol, decimals = gain.asset.token_symbol, self.decimals(gain.asset)
            raise SyncRefused(
                f"{symbol}: a gain of {gain.raw} ({format_units(gain.raw, decimals)} {symbol}) on a base of "
                f"{gain.base} ({format_units(gain.base, decimals)} {symbol}) is beyond the bound of {bound}"
            )

    def split_gain(self, gain: int, weights: Sequence[int]) -> list[int]:
        """Split a gain between holdings so that the parts add up to it."""
        return split_by_weight(gain, weights)

    def yearly_rate(self, gain: Fraction | int, base: Fraction | int, duration: timedelta) -> float:
        """A gain on a base as a rate per year."""
        return yearly_rate(gain, base, duration)

    def distribute(self, work: Work, gains: list[Gain], ended_at: datetime) -> InterestDistributionOperation:
        """Book every asset's gain; what came of it, for the books."""
        block = work.view.end_block
        operation = InterestDistributionOperation(start=self.started_at(work, gains, ended_at), end=ended_at)
        gained = total = Fraction(0)
        for gain in gains:
            price, decimals = work.price(gain.asset, block), self.decimals(gain.asset)
            operation.assets.append(gain.asset)
            operation.asset_interest_data[gain.asset.identifier] = AssetInterestData(
                total=to_decimal(gain.base, decimals),
                effective_rate=self.yearly_rate(gain.raw, gain.base, operation.duration),
            )
            if gain.base > 0:  # what came without a base is left to a correction: it is nobody's interest
                operation.entries += self.book_gain(work, gain, price)
                gained += worth(gain.raw, decimals, price)
            total += worth(gain.base, decimals, price)
        operation.effective_rate = self.yearly_rate(gained, total, operation.duration)
        return operation

    def started_at(self, work: Work, gains: list[Gain], ended_at: datetime) -> datetime:
        """The last checkpoint's time; the first time when the oldest tracker was opened."""
        last = work.books.sync.interest.last_sync_at
        if last is not None:
            return last
        openings = [_opened_at(holding) for gain in gains for holding in gain.holdings]
        return min((opening for opening in openings if opening is not None), default=ended_at)

    def book_gain(self, work: Work, gain: Gain, price: int) -> list[InterestDistributionEntry]:
        """Book an asset's gain to its holdings; one entry for each that gets a part."""
        entries = []
        weights = [holding.base for holding in gain.holdings]
        for holding, weight, part in zip(gain.holdings, weights, self.split_gain(gain.raw, weights), strict=True):
            if part:
                self.book_interest(work, holding, part, price)
                entries.append(
                    InterestDistributionEntry(
                        side="borrowed" if holding.is_debt else "collateral",
                        position=None if holding.position_id is None else {"position_id": holding.position_id},
                        weight=format_units(weight, holding.decimals),
                        price=usd_float(Fraction(price, 10**PRICE_DECIMALS)),
                    )
                )
        return entries

    def book_interest(self, work: Work, holding: Holding, part: int, price: int) -> BalanceUpdate:
        """Book a holding's part of a gain."""
        # Read before booking: booking moves both.
        tracked, last_event_at = holding.tracked, holding.tracker.last_event_at if holding.tracker else None
        update = self.book(work, holding, BalanceUpdateCause.interest, part, block=work.view.end_block, price=price)
        update.old_balance = to_decimal(tracked, holding.decimals)
        update.previous_update_at = last_event_at
        return update


def _opened_at(holding: Holding) -> datetime | None:
    if not isinstance(holding.record, Position):
        return None
    side, _ = tracked_side(holding.record, is_debt=holding.is_debt)
    return side.created_at if side is not None else None
