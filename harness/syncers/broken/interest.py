"""Mistakes about interest: how much it is, who gets it, when it is synced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from fractions import Fraction

from harness.books.records import (
    AssetIdentifier,
    BalanceUpdate,
    BalanceUpdateCause,
    Books,
    InterestDistributionEntry,
    Position,
    ReservePosition,
)
from harness.syncers.broken.registry import broken
from harness.syncers.protocol import ChainView, Target
from harness.syncers.reference import ReferenceSyncer
from harness.syncers.reference.holdings import Holding, Holdings
from harness.syncers.reference.syncer import Gain, Work
from harness.units import Rounding, mul_div

# -- how much


@broken("bound_in_floats", cause=None)
class BoundInFloats(ReferenceSyncer):
    """Whether a gain is beyond the bound is decided by floats, which cannot tell one raw unit of 18 decimals."""

    def check_gain(self, gain: Gain) -> None:
        if gain.base > 0 and float(abs(gain.raw)) / float(gain.base) <= float(self.target.interest_bound):
            return
        super().check_gain(gain)


@broken("interest_is_balance", cause="balance booked as flow")
class InterestIsBalance(ReferenceSyncer):
    """Interest is booked as the whole new balance, not as the gain."""

    def book(
        self, work: Work, holding: Holding, cause: BalanceUpdateCause, raw: int, *, block: int, price: int
    ) -> BalanceUpdate:
        booked = holding.balance + raw if cause is BalanceUpdateCause.interest else raw
        return super().book(work, holding, cause, booked, block=block, price=price)


@broken("interest_worth_whole_balance", cause="balance booked as flow")
class InterestWorthWholeBalance(ReferenceSyncer):
    """An interest update is valued as the whole balance, not as the gain."""

    def book(
        self, work: Work, holding: Holding, cause: BalanceUpdateCause, raw: int, *, block: int, price: int
    ) -> BalanceUpdate:
        update = super().book(work, holding, cause, raw, block=block, price=price)
        if cause is BalanceUpdateCause.interest:
            update.usd_value = self.worth(holding.asset, holding.balance, price)
        return update


@broken("interest_at_underlying_price", cause="wrong price")
class InterestAtUnderlyingPrice(ReferenceSyncer):
    """Interest is valued at the price of the token that the rebase token wraps."""

    def book_gain(self, work: Work, gain: Gain, price: int) -> list[InterestDistributionEntry]:
        wrapped, block = gain.asset.underlying, work.view.end_block
        feed = self._feeds.get(wrapped.identifier) if wrapped is not None else None
        price = price if feed is None else work.reader.answers(feed, [block])[block]
        return super().book_gain(work, gain, price)


@broken("interest_at_head", cause="moving head read")
class InterestAtHead(ReferenceSyncer):
    """Balances are read at the node's newest block, whatever the end block."""

    def balance_block(self, work: Work) -> int:
        return int(work.view.web3.eth.block_number)


@broken("losses_not_booked", cause="missed")
class LossesNotBooked(ReferenceSyncer):
    """Only a gain is booked: what a rebase took is passed over."""

    def split_gain(self, gain: int, weights: Sequence[int]) -> list[int]:
        return super().split_gain(max(gain, 0), weights)


@broken("loss_sign", cause="sign")
class LossSign(ReferenceSyncer):
    """What a rebase took is booked as if it had been given."""

    def split_gain(self, gain: int, weights: Sequence[int]) -> list[int]:
        return super().split_gain(abs(gain), weights)


@broken("small_gains_passed_over", cause="missed")
class SmallGainsPassedOver(ReferenceSyncer):
    """A gain of a hundredth of a token or less is not booked, though the checkpoint moves past it."""

    def book_gain(self, work: Work, gain: Gain, price: int) -> list[InterestDistributionEntry]:
        if abs(gain.raw) * 100 <= 10 ** self.decimals(gain.asset):
            return []
        return super().book_gain(work, gain, price)


@broken("bound_not_enforced", cause=None)
class BoundNotEnforced(ReferenceSyncer):
    """However large it is, a gain is taken for interest."""

    def check_gain(self, gain: Gain) -> None:
        pass


@broken("year_of_360_days", cause=None)
class YearOf360Days(ReferenceSyncer):
    """Rates are for a year of 360 days."""

    def yearly_rate(self, gain: Fraction | int, base: Fraction | int, duration: timedelta) -> float:
        return super().yearly_rate(gain, base, duration) * 360 / 365


# -- whose


@broken("gain_rounded_per_position", cause=None)
class GainRoundedPerPosition(ReferenceSyncer):
    """Each position's part of a gain is rounded by itself, so the parts need not add up to it."""

    def split_gain(self, gain: int, weights: Sequence[int]) -> list[int]:
        return [mul_div(gain, weight, sum(weights), Rounding.NEAREST) for weight in weights]


@broken("gain_to_first_position", cause="wrong position")
class GainToFirstPosition(ReferenceSyncer):
    """The first position of an asset gets the whole gain."""

    def split_gain(self, gain: int, weights: Sequence[int]) -> list[int]:
        return [gain] + [0] * (len(weights) - 1)


class _Remembered(Holdings):
    """Holdings that know what redemptions took from a memory, not from the books."""

    def __init__(
        self, books: Books, decimals: Callable[[AssetIdentifier], int], memory: Mapping[int | None, int]
    ) -> None:
        super().__init__(books, decimals)
        self.memory = memory

    def _holding(self, record: ReservePosition | Position) -> Holding:
        holding = super()._holding(record)
        holding.taken = self.memory.get(holding.position_id, 0)
        return holding


@broken("redeemed_principal_in_memory", cause="not restart-safe")
class RedeemedPrincipalInMemory(ReferenceSyncer):
    """What redemptions took since the last interest sync is remembered by the process, and not read from the books."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.memory: dict[int | None, int] = {}

    def open_holdings(self, books: Books) -> Holdings:
        return _Remembered(books, self.decimals, self.memory)

    def book(
        self, work: Work, holding: Holding, cause: BalanceUpdateCause, raw: int, *, block: int, price: int
    ) -> BalanceUpdate:
        update = super().book(work, holding, cause, raw, block=block, price=price)
        self.memory[holding.position_id] = holding.taken
        return update

    def sync_interest(self, view: ChainView, books: Books) -> Books:
        books = super().sync_interest(view, books)
        self.memory.clear()
        return books


# -- where it is written down, and when


@broken("interest_as_correction", cause="wrong cause")
class InterestAsCorrection(ReferenceSyncer):
    """Interest is booked as a correction."""

    def book_interest(self, work: Work, holding: Holding, part: int, price: int) -> BalanceUpdate:
        update = super().book_interest(work, holding, part, price)
        update.cause = BalanceUpdateCause.correction
        return update


@broken("interest_again_at_same_block", cause="not repeatable")
class InterestAgainAtSameBlock(ReferenceSyncer):
    """A second interest sync at a block is a distribution of its own, of nothing over no time."""

    def is_interest_synced(self, books: Books, end_block: int) -> bool:
        return False


@broken("interest_ahead_of_treasury", cause=None)
class InterestAheadOfTreasury(ReferenceSyncer):
    """Interest is synced to a block to which the treasury is not."""

    def check_treasury_stands(self, view: ChainView, books: Books) -> None:
        pass
