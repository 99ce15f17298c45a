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
    """A reserve or an open position; its figures are base units, summed up once and then kept up to date."""

    def __init__(self, record: ReservePosition | Position, interest: InterestSync) -> None:
        self.record = record
        self.balance = self.raw(record.quantity)
        self.tracked = self.balance if self.tracker is None else self.raw(self.tracker.last_token_amount)
        """What interest was last counted up to."""
        self.redeemed = -self.raw(sum(_recent_redemptions(record, interest), Fraction(0)))
        """What redemptions took since the last interest sync, unsigned."""

    @property
    def asset(self) -> AssetIdentifier:
        """The token held."""
        return self.record.asset

    @property
    def position_id(self) -> int | None:
        """None for a reserve."""
        return None if isinstance(self.record, ReservePosition) else self.record.position_id

    @property
    def loan(self) -> Loan | None:
        """A position's loan."""
        return None if isinstance(self.record, ReservePosition) else self.record.loan

    @property
    def tracker(self) -> InterestTracker | None:
        """What its loan's collateral has come to, if it has one."""
        return None if self.loan is None else self.loan.collateral_interest

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
        if self.loan is not None and self.tracker is not None:
            self._move_loan(self.loan, self.tracker, cause, raw, moment)

    def _move_loan(
        self, loan: Loan, tracker: InterestTracker, cause: BalanceUpdateCause, raw: int, moment: Moment
    ) -> None:
        tracker.last_token_amount = to_decimal(self.tracked, self.asset.decimals)
        if cause is BalanceUpdateCause.interest:
            tracker.last_accrued_interest = self._moved(tracker.last_accrued_interest, raw)
        elif loan.collateral is not None:
            loan.collateral.quantity = self._moved(loan.collateral.quantity, raw)
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
        self._accounts: dict[int | str, Account] = {}

    # -- accounts

    def all_accounts(self) -> list[Account]:
        """Reserves, then open positions by id."""
        portfolio = self.books.portfolio
        reserves = [self._account(record.asset.identifier, record) for record in portfolio.reserves.values()]
        return reserves + [self._account(key, record) for key, record in sorted(portfolio.open_positions.items())]

    def reserve(self, asset: AssetIdentifier) -> ReservePosition:
        """The reserve of an asset, made at nothing if there is none."""
        for record in self.books.portfolio.reserves.values():
            if record.asset == asset:
                return record
        made = self.books.portfolio.reserves[asset.identifier] = ReservePosition(asset=asset)
        return made

    def reserve_account(self, asset: AssetIdentifier) -> Account:
        """The account of an asset's reserve."""
        return self._account(asset.identifier, self.reserve(asset))

    def positions(self, token: bytes) -> list[Account]:
        """The accounts of a token's open positions, by id."""
        return [
            account
            for account in self.all_accounts()
            if account.position_id is not None and address_bytes(account.asset.address) == token
        ]

    def _account(self, key: int | str, record: ReservePosition | Position) -> Account:
        if key not in self._accounts:
            self._accounts[key] = Account(record, self.books.sync.interest)
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

    def refer(self, update: BalanceUpdate) -> None:
        """Let the treasury refer to an update."""
        self.books.sync.treasury.balance_update_refs.append(
            BalanceEventRef(
                balance_event_id=update.balance_update_id,
                strategy_cycle_included_at=update.strategy_cycle_included_at,
                cause=update.cause,
                position_type=update.position_type,
                position_id=update.position_id,
                usd_value=update.usd_value,
            )
        )
