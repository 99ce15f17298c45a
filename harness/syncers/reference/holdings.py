"""Books at work: what each reserve and position holds in whole base units, while updates are added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from harness.books.records import (
    AssetIdentifier,
    BalanceUpdate,
    BalanceUpdateCause,
    BalanceUpdatePositionType,
    Books,
    InterestSync,
    InterestTracker,
    Position,
    ReservePosition,
)
from harness.errors import SyncRefused
from harness.units import exact, to_decimal


@dataclass(slots=True, kw_only=True)
class Holding:
    """A reserve or an open position; ``balance`` and ``taken`` are base units.

    ``taken`` is what redemptions took since the last interest sync, unsigned.
    """

    record: ReservePosition | Position
    decimals: int
    balance: int
    tracked: int
    taken: int

    @property
    def asset(self) -> AssetIdentifier:
        """The token held."""
        return self.record.asset

    @property
    def position_id(self) -> int | None:
        """None for a reserve."""
        return self.record.position_id if isinstance(self.record, Position) else None

    @property
    def position_type(self) -> BalanceUpdatePositionType:
        """Reserve or open position."""
        if isinstance(self.record, Position):
            return BalanceUpdatePositionType.open_position
        return BalanceUpdatePositionType.reserve

    @property
    def tracker(self) -> InterestTracker | None:
        """The tracker of a credit position's collateral."""
        loan = self.record.loan if isinstance(self.record, Position) else None
        return loan.collateral_interest if loan is not None else None

    @property
    def base(self) -> int:
        """What has earned the interest since the last sync of it."""
        return self.tracked + self.taken

    @property
    def weight(self) -> int:
        """This holding's claim on a part of what moves the asset as a whole."""
        return self.base if self.asset.is_rebase() else self.balance

    def add(self, update: BalanceUpdate, raw: int) -> None:
        """Take in an update of so many base units: balance, principal or accrued interest, stamps."""
        self.record.balance_updates[update.balance_update_id] = update
        self.balance += raw
        self.tracked += raw
        if isinstance(self.record, ReservePosition):
            self.record.quantity = to_decimal(self.balance, self.decimals)
        else:
            self._move_loan(update, raw)
        if update.cause is BalanceUpdateCause.redemption:
            self.taken -= raw

    def _move_loan(self, update: BalanceUpdate, raw: int) -> None:
        assert isinstance(self.record, Position)
        loan = self.record.loan
        if loan is None or loan.collateral is None or loan.collateral_interest is None:
            return
        tracker = loan.collateral_interest
        tracker.last_token_amount = to_decimal(self.tracked, self.decimals)
        if update.cause is BalanceUpdateCause.interest:
            tracker.last_accrued_interest = self._plus(tracker.last_accrued_interest, raw)
        else:
            loan.collateral.quantity = self._plus(loan.collateral.quantity, raw)
        self._stamp(tracker, update)

    def _plus(self, amount: Decimal, raw: int) -> Decimal:
        return to_decimal(whole_units(exact(amount), self.decimals, self.asset) + raw, self.decimals)

    def _stamp(self, tracker: InterestTracker, update: BalanceUpdate) -> None:
        # A trade may have been booked past a flow that is read only now: stamps tell of the later one.
        block, stamped = update.block_number, tracker.last_updated_block_number
        if block is not None and stamped is not None and block < stamped:
            return
        tracker.last_event_at = tracker.last_updated_at = update.block_mined_at
        tracker.last_updated_block_number = block


def whole_units(amount: Fraction, decimals: int, asset: AssetIdentifier) -> int:
    """Tokens as base units.

    Raises:
        SyncRefused: If the books hold a fraction of the token's smallest unit.
    """
    scaled = Fraction(amount * 10**decimals)
    if scaled.denominator != 1:
        raise SyncRefused(f"the books hold {asset.token_symbol} with more than its {decimals} decimals")
    return scaled.numerator


class Holdings:
    """The holdings of some books, each summed up once, when first asked for."""

    def __init__(self, books: Books, decimals: Callable[[AssetIdentifier], int]) -> None:
        self.books = books
        self._decimals = decimals
        self._of_asset: dict[str, list[Holding]] = {}

    def reserve(self, asset: AssetIdentifier) -> Holding:
        """The reserve of an asset, made if there is none yet."""
        reserves = self.books.portfolio.reserves
        if all(record.asset.identifier != asset.identifier for record in reserves.values()):
            reserves[asset.identifier] = ReservePosition(asset=asset)
        return self.of_asset(asset.identifier)[0]

    def of_asset(self, identifier: str) -> list[Holding]:
        """Whatever holds an asset: its reserve first, then open positions by id."""
        if identifier not in self._of_asset:
            records = [record for record in self._records() if record.asset.identifier == identifier]
            self._of_asset[identifier] = [self._holding(record) for record in records]
        return self._of_asset[identifier]

    def rebasing(self) -> list[AssetIdentifier]:
        """The rebase tokens held: those of reserves first, then by the lowest position id."""
        found: dict[str, AssetIdentifier] = {}
        for record in self._records():
            if record.asset.is_rebase():
                found.setdefault(record.asset.identifier, record.asset)
        return list(found.values())

    def _records(self) -> list[ReservePosition | Position]:
        portfolio = self.books.portfolio
        return [*portfolio.reserves.values(), *(position for _, position in sorted(portfolio.open_positions.items()))]

    def _holding(self, record: ReservePosition | Position) -> Holding:
        decimals = self._decimals(record.asset)
        quantity = exact(record.quantity) if isinstance(record, ReservePosition) else record.quantity
        balance = whole_units(quantity, decimals, record.asset)
        taken = sum(
            (-exact(update.quantity) for update in record.balance_updates.values() if self._is_recent(update)),
            Fraction(0),
        )
        holding = Holding(
            record=record,
            decimals=decimals,
            balance=balance,
            tracked=balance,
            taken=whole_units(taken, decimals, record.asset),
        )
        if holding.tracker is not None:
            holding.tracked = whole_units(exact(holding.tracker.last_token_amount), decimals, record.asset)
        return holding

    def _is_recent(self, update: BalanceUpdate) -> bool:
        return update.cause is BalanceUpdateCause.redemption and is_after(
            self.books.sync.interest, update.block_number, update.block_mined_at
        )


def is_after(interest: InterestSync, block: int | None, at: datetime) -> bool:
    """Tell whether a block lies after the last interest sync; old files know only its time."""
    if interest.last_sync_block is not None and block is not None:
        return block > interest.last_sync_block
    return interest.last_sync_at is None or at > interest.last_sync_at
