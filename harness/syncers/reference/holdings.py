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
    LoanSide,
    Position,
    ReservePosition,
)
from harness.errors import SyncRefused
from harness.units import exact, to_decimal


@dataclass(slots=True, kw_only=True)
class Holding:
    """A reserve, an open position, or what an open position owes; ``balance`` and ``taken`` are base units.

    ``taken`` is what redemptions took since the last interest sync, unsigned. A debt counts upwards: it is
    what the debt token's balance is.
    """

    record: ReservePosition | Position
    decimals: int
    balance: int
    tracked: int
    taken: int
    is_debt: bool = False

    @property
    def asset(self) -> AssetIdentifier:
        """The token held, or owed."""
        if self.is_debt:
            assert isinstance(self.record, Position)
            side, _ = tracked_side(self.record, is_debt=True)
            assert side is not None
            return side.asset
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
        """The tracker of a credit position's collateral, or of its debt."""
        return tracked_side(self.record, is_debt=self.is_debt)[1] if isinstance(self.record, Position) else None

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
        side, tracker = tracked_side(self.record, is_debt=self.is_debt)
        if side is None or tracker is None:
            return
        tracker.last_token_amount = to_decimal(self.tracked, self.decimals)
        if update.cause is BalanceUpdateCause.interest:
            tracker.last_accrued_interest = self._plus(tracker.last_accrued_interest, raw)
        else:
            side.quantity = self._plus(side.quantity, raw)
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


def tracked_side(position: Position, *, is_debt: bool) -> tuple[LoanSide | None, InterestTracker | None]:
    """A side of a position's loan and its tracker: the collateral or, for a debt, what is borrowed."""
    loan = position.loan
    if loan is None:
        return None, None
    return (loan.borrowed, loan.borrowed_interest) if is_debt else (loan.collateral, loan.collateral_interest)


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
            self._of_asset.pop(asset.identifier, None)
        return self.of_asset(asset.identifier)[0]

    def of_asset(self, identifier: str) -> list[Holding]:
        """Whatever holds an asset, or owes in it: its reserve first, then open positions by id."""
        if identifier not in self._of_asset:
            records = [record for record in self._records() if record.asset.identifier == identifier]
            found = [self._holding(record) for record in records]
            self._of_asset[identifier] = found + [debt for debt in self._debts() if debt.asset.identifier == identifier]
        return self._of_asset[identifier]

    def rebasing(self) -> list[AssetIdentifier]:
        """The rebase tokens held: those of reserves first, then by the lowest position id; then those owed in."""
        found: dict[str, AssetIdentifier] = {}
        for record in self._records():
            if record.asset.is_rebase():
                found.setdefault(record.asset.identifier, record.asset)
        for debt in self._debts():
            found.setdefault(debt.asset.identifier, debt.asset)
        return list(found.values())

    def opened(self, position: Position) -> Holding:
        """Take in a position that was opened just now, or again."""
        self._of_asset.pop(position.asset.identifier, None)
        self.books.portfolio.open_positions[position.position_id] = position
        return next(one for one in self.of_asset(position.asset.identifier) if one.record is position)

    def frozen_units(self, identifier: str) -> int:
        """What frozen positions hold of an asset, in base units: it is in the books, but no sync moves it."""
        return sum(
            whole_units(position.quantity, self._decimals(position.asset), position.asset)
            for position in self.books.portfolio.frozen_positions.values()
            if position.asset.identifier == identifier
        )

    def _debts(self) -> list[Holding]:
        found = []
        for _, position in sorted(self.books.portfolio.open_positions.items()):
            side, tracker = tracked_side(position, is_debt=True)
            if side is not None and tracker is not None:
                decimals = self._decimals(side.asset)
                owed = whole_units(exact(tracker.last_token_amount), decimals, side.asset)
                found.append(
                    Holding(record=position, decimals=decimals, balance=owed, tracked=owed, taken=0, is_debt=True)
                )
        return found

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
