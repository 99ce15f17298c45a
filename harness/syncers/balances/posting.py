"""Updates written into books: which reserve or position a quantity belongs to, and what moves with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
    InterestSync,
    InterestTracker,
    Loan,
    LoanSide,
    Position,
    ReservePosition,
)
from harness.errors import SyncRefused
from harness.syncers.balances.words import address_bytes
from harness.units import exact, to_decimal, usd_float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A block as updates tell of it."""

    block: int
    mined_at: datetime


class Account:
    """A reserve, an open position, or what one owes; figures are base units, summed up once, then kept up to date."""

    def __init__(self, record: ReservePosition | Position, interest: InterestSync, *, is_debt: bool = False) -> None:
        self.record = record
        self.is_debt = is_debt
        tracker = self.tracker
        if is_debt and tracker is not None:
            self.balance = self.tracked = self.raw(tracker.last_token_amount)
        else:
            self.balance = self.raw(record.quantity)
            self.tracked = self.balance if tracker is None else self.raw(tracker.last_token_amount)
        """What interest was last counted up to."""
        self.redeemed = 0 if is_debt else -self.raw(sum(_recent_redemptions(record, interest), Fraction(0)))
        """What redemptions took since the last interest sync, unsigned."""

    @property
    def asset(self) -> AssetIdentifier:
        """The token held, or owed in."""
        return self.side.asset if self.is_debt and self.side is not None else self.record.asset

    @property
    def position_id(self) -> int | None:
        """None for a reserve."""
        return None if isinstance(self.record, ReservePosition) else self.record.position_id

    @property
    def _loan(self) -> Loan | None:
        return None if isinstance(self.record, ReservePosition) else self.record.loan

    @property
    def side(self) -> LoanSide | None:
        """The side of a position's loan that it is."""
        if self._loan is None:
            return None
        return self._loan.borrowed if self.is_debt else self._loan.collateral

    @property
    def tracker(self) -> InterestTracker | None:
        """What that side has come to."""
        if self._loan is None:
            return None
        return self._loan.borrowed_interest if self.is_debt else self._loan.collateral_interest

    @property
    def base(self) -> int:
        """What has earned since the last interest sync: the tracked amount and what redemptions took from it."""
        return self.tracked + self.redeemed

    @property
    def weight(self) -> int:
        """What it counts for where something of its asset is split."""
        return self.base if self.asset.is_rebase() else self.balance

    def raw(self, tokens: Decimal | Fraction) -> int:
        """Tokens of the asset as base units.

        Raises:
            SyncRefused: If there is less than a base unit in it.
        """
        units = Fraction(tokens) * Fraction(10**self.asset.decimals)
        if units.denominator != 1:
            raise SyncRefused(f"the books hold {self.asset.token_symbol} finer than its {self.asset.decimals} decimals")
        return units.numerator

    def move(self, cause: BalanceUpdateCause, raw: int, moment: Moment) -> None:
        """Take in an update of so many base units: figures, the reserve's quantity or the loan, stamps."""
        self.balance += raw
        self.tracked += raw
        self.redeemed -= raw if cause is BalanceUpdateCause.redemption else 0
        if isinstance(self.record, ReservePosition):
            self.record.quantity = to_decimal(self.balance, self.asset.decimals)
        if self.tracker is not None:
            self._move_loan(self.tracker, cause, raw, moment)

    def _move_loan(self, tracker: InterestTracker, cause: BalanceUpdateCause, raw: int, moment: Moment) -> None:
        tracker.last_token_amount = to_decimal(self.tracked, self.asset.decimals)
        if cause is BalanceUpdateCause.interest:
            tracker.last_accrued_interest = self._moved(tracker.last_accrued_interest, raw)
        elif self.side is not None:
            self.side.quantity = self._moved(self.side.quantity, raw)
        # Books may hold a trade of a later block than the redemption that is only now read: stamps tell of the trade.
        if (tracker.last_updated_block_number or 0) <= moment.block:
            tracker.last_updated_block_number = moment.block
            tracker.last_updated_at = tracker.last_event_at = moment.mined_at

    def _moved(self, tokens: Decimal, raw: int) -> Decimal:
        return to_decimal(self.raw(tokens) + raw, self.asset.decimals)


def _recent_redemptions(record: ReservePosition | Position, interest: InterestSync) -> Iterator[Fraction]:
    for update in record.balance_updates.values():
        if update.cause is BalanceUpdateCause.redemption and _is_after(update, interest):
            yield exact(update.quantity)


def _is_after(update: BalanceUpdate, interest: InterestSync) -> bool:
    """By block; where old files know none, by time."""
    if interest.last_sync_block is not None and update.block_number is not None:
        return update.block_number > interest.last_sync_block
    return interest.last_sync_at is None or update.block_mined_at > interest.last_sync_at


class Poster:
    """Posts updates to a copy of some books, in the order in which they are given."""

    def __init__(self, books: Books, chain_id: int, now: datetime) -> None:
        self.books = books
        self._chain_id = chain_id
        self._now = now
        self._accounts: dict[tuple[int, bool], Account] = {}

    # -- accounts

    def all_accounts(self) -> list[Account]:
        """Reserves, then open positions by id, then what these owe."""
        portfolio = self.books.portfolio
        records = sorted(portfolio.open_positions.items())
        reserves = [self._account(record) for record in portfolio.reserves.values()]
        debts = [self._account(record, is_debt=True) for _, record in records if owes(record)]
        return reserves + [self._account(record) for _, record in records] + debts

    def reserve(self, asset: AssetIdentifier) -> ReservePosition:
        """The reserve of an asset, made at nothing if there is none."""
        for record in self.books.portfolio.reserves.values():
            if record.asset == asset:
                return record
        made = self.books.portfolio.reserves[asset.identifier] = ReservePosition(asset=asset)
        return made

    def reserve_account(self, asset: AssetIdentifier) -> Account:
        """The account of an asset's reserve."""
        return self._account(self.reserve(asset))

    def positions(self, token: bytes) -> list[Account]:
        """The accounts of open positions in a token, or of debts in it, by position id."""
        return [
            account
            for account in self.all_accounts()
            if account.position_id is not None and address_bytes(account.asset.address) == token
        ]

    def position_account(self, position: Position) -> Account:
        """The account of a position."""
        return self._account(position)

    def _account(self, record: ReservePosition | Position, *, is_debt: bool = False) -> Account:
        # Records are mutable and cannot key a dict; they live as long as the books do.
        key = id(record), is_debt
        if key not in self._accounts:
            self._accounts[key] = Account(record, self.books.sync.interest, is_debt=is_debt)
        return self._accounts[key]

    # -- updates

    def post(
        self, account: Account, cause: BalanceUpdateCause, raw: int, *, moment: Moment, worth: Fraction
    ) -> BalanceUpdate:
        """Add an update of so many base units, worth so many dollars, and move what follows from it."""
        is_interest, tracker, portfolio = cause is BalanceUpdateCause.interest, account.tracker, self.books.portfolio
        decimals, kinds = account.asset.decimals, BalanceUpdatePositionType
        update = BalanceUpdate(
            balance_update_id=portfolio.next_balance_update_id,
            cause=cause,
            position_type=kinds.reserve if account.position_id is None else kinds.open_position,
            asset=account.asset,
            block_mined_at=moment.mined_at,
            strategy_cycle_included_at=None,
            chain_id=self._chain_id,
            quantity=to_decimal(raw, decimals),
            old_balance=to_decimal(account.tracked if is_interest else account.balance, decimals),
            usd_value=usd_float(worth),
            created_at=self._now,
            previous_update_at=tracker.last_event_at if is_interest and tracker is not None else None,
            position_id=account.position_id,
            block_number=moment.block,
        )
        portfolio.next_balance_update_id += 1
        account.record.balance_updates[update.balance_update_id] = update
        account.move(cause, raw, moment)
        return update


def reference_to(update: BalanceUpdate) -> BalanceEventRef:
    """What ``Sync`` remembers of an update."""
    return BalanceEventRef(
        balance_event_id=update.balance_update_id,
        strategy_cycle_included_at=update.strategy_cycle_included_at,
        cause=update.cause,
        position_type=update.position_type,
        position_id=update.position_id,
        usd_value=update.usd_value,
    )


def owes(position: Position) -> bool:
    """Tell whether a position's loan has a borrowed side, be it at zero."""
    loan = position.loan
    return loan is not None and loan.borrowed is not None and loan.borrowed_interest is not None
