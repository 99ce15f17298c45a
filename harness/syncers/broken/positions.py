"""Mistakes about which position something belongs to, and about ids and refs."""

from __future__ import annotations

from collections.abc import Sequence

from harness.books.records import BalanceUpdate, BalanceUpdateCause, BalanceUpdatePositionType
from harness.syncers.broken.registry import broken
from harness.syncers.protocol import Target
from harness.syncers.reference import ReferenceSyncer
from harness.syncers.reference.holdings import Holding
from harness.syncers.reference.syncer import Work

# -- which position


@broken("split_equally", cause="wrong position")
class SplitEqually(ReferenceSyncer):
    """What a redemption takes of an asset is split over its positions in equal parts, not by what they hold."""

    def split_leg(self, raw: int, weights: Sequence[int]) -> list[int]:
        return super().split_leg(raw, [1] * len(weights))


@broken("leg_split_by_what_is_left", cause="wrong position")
class LegSplitByWhatIsLeft(ReferenceSyncer):
    """What a redemption takes of a rebase token is split by what positions hold, not by what earned since interest."""

    def weight_of(self, holding: Holding) -> int:
        return holding.balance


@broken("leg_to_last_position", cause="wrong position")
class LegToLastPosition(ReferenceSyncer):
    """What a redemption takes of an asset is taken from the position opened last."""

    def split_leg(self, raw: int, weights: Sequence[int]) -> list[int]:
        return [0] * (len(weights) - 1) + [raw]


@broken("remainder_to_last_position", cause="wrong position")
class RemainderToLastPosition(ReferenceSyncer):
    """Parts are rounded down, and the position opened last gets what is over."""

    def split_leg(self, raw: int, weights: Sequence[int]) -> list[int]:
        sizes = [max(weight, 0) for weight in weights]
        if not sum(sizes):
            return super().split_leg(raw, weights)
        parts = [raw * size // sum(sizes) for size in sizes]
        parts[-1] += raw - sum(parts)
        return parts


@broken("always_the_reserve", cause="wrong position")
class AlwaysTheReserve(ReferenceSyncer):
    """Whatever a redemption pays out is said to come from the reserve."""

    def book(
        self, work: Work, holding: Holding, cause: BalanceUpdateCause, raw: int, *, block: int, price: int
    ) -> BalanceUpdate:
        update = super().book(work, holding, cause, raw, block=block, price=price)
        if cause is BalanceUpdateCause.redemption:
            update.position_type = BalanceUpdatePositionType.reserve
        return update


# -- loans


@broken("principal_not_lowered", cause=None)
class PrincipalNotLowered(ReferenceSyncer):
    """A redemption lowers a credit position's tracked amount, and leaves the principal of its loan."""

    def book(
        self, work: Work, holding: Holding, cause: BalanceUpdateCause, raw: int, *, block: int, price: int
    ) -> BalanceUpdate:
        loan = getattr(holding.record, "loan", None)
        principal = loan.collateral.quantity if loan is not None and loan.collateral is not None else None
        update = super().book(work, holding, cause, raw, block=block, price=price)
        if loan is not None and cause is BalanceUpdateCause.redemption:
            loan.collateral.quantity = principal
        return update


# -- ids and refs


@broken("position_legs_without_ref", cause=None)
class PositionLegsWithoutRef(ReferenceSyncer):
    """The treasury refers to what reaches or leaves the reserve only."""

    def add_ref(self, work: Work, update: BalanceUpdate) -> None:
        if update.position_id is None:
            super().add_ref(work, update)


@broken("ids_counted_in_memory", cause="not restart-safe")
class IdsCountedInMemory(ReferenceSyncer):
    """Ids of balance updates are counted by the process, from 1, and not by the books."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.counted = 0

    def book(
        self, work: Work, holding: Holding, cause: BalanceUpdateCause, raw: int, *, block: int, price: int
    ) -> BalanceUpdate:
        self.counted += 1
        work.books.portfolio.next_balance_update_id = self.counted
        return super().book(work, holding, cause, raw, block=block, price=price)
