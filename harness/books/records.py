"""Everything that a syncer persists, as records.

Names and types are those of trade-executor's ``tradeexecutor.state.sync`` and the records that it
refers to. Records are mutable, and lists and dicts are plain, because syncers in that style change
their state in place; whoever hands books out hands out a copy (:func:`copy_books`).

Times are naive UTC datetimes; quantities are Decimals in tokens, exactly as a file had them.
``unknown_keys`` keeps what a state file said beyond the fields we know.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from harness.units import to_raw


class BalanceUpdateCause(enum.StrEnum):
    """Why a balance changed."""

    deposit = "deposit"
    redemption = "redemption"
    deposit_and_redemption = "deposit_and_redemption"
    interest = "interest"
    correction = "correction"
    vault_flow = "vault_flow"


class BalanceUpdatePositionType(enum.StrEnum):
    """What kind of holding a balance update moves."""

    reserve = "reserve"
    open_position = "open_position"


@dataclass(frozen=True, slots=True)
class AssetIdentifier:
    """A token on a chain; ``underlying`` is what a rebase token wraps. Hashable, so it can key a dict.

    Two identifiers are equal when chain and address are: the rest is description.
    """

    chain_id: int
    address: str
    token_symbol: str = field(compare=False)
    decimals: int = field(compare=False)
    type: str | None = field(default=None, compare=False)
    underlying: AssetIdentifier | None = field(default=None, compare=False)
    unknown_keys: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def identifier(self) -> str:
        """``{chain_id}-{lower-case address}``, the key of a reserve."""
        return f"{self.chain_id}-{self.address.lower()}"

    def is_same(self, other: AssetIdentifier) -> bool:
        """Tell whether it is the same token of the same chain, in whatever case its address is written."""
        return self is other or (self.chain_id == other.chain_id and self.address.lower() == other.address.lower())

    def is_rebase(self) -> bool:
        """Tell whether balances of this token change by themselves."""
        return self.underlying is not None


def _no_keys() -> dict[str, Any]:
    return {}


@dataclass(slots=True)
class BalanceUpdate:
    """One change of a reserve's or position's balance that no trade made.

    ``quantity`` is positive into the vault; ``usd_value`` is its worth and has its sign.
    """

    balance_update_id: int
    cause: BalanceUpdateCause
    position_type: BalanceUpdatePositionType
    asset: AssetIdentifier
    block_mined_at: datetime
    strategy_cycle_included_at: datetime | None
    chain_id: int
    quantity: Decimal
    old_balance: Decimal
    usd_value: float
    created_at: datetime | None = None
    previous_update_at: datetime | None = None
    owner_address: str | None = None
    tx_hash: str | None = None
    log_index: int | None = None
    position_id: int | None = None
    notes: str | None = None
    block_number: int | None = None
    other_data: dict[str, Any] | None = None
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class BalanceEventRef:
    """What `Sync` remembers of a balance update; ``balance_event_id`` is the update's id."""

    balance_event_id: int
    strategy_cycle_included_at: datetime | None
    cause: BalanceUpdateCause
    position_type: BalanceUpdatePositionType
    position_id: int | None = None
    usd_value: float | None = None
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class Deployment:
    """Which vault these books are of, and where it began."""

    chain_id: int | None = None
    address: str | None = None
    block_number: int | None = None
    tx_hash: str | None = None
    block_mined_at: datetime | None = None
    vault_token_name: str | None = None
    vault_token_symbol: str | None = None
    initialised_at: datetime | None = None
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class Treasury:
    """How far deposits and redemptions have been read, and which there were."""

    last_updated_at: datetime | None = None
    last_cycle_at: datetime | None = None
    last_block_scanned: int | None = None
    balance_update_refs: list[BalanceEventRef] = field(default_factory=list)
    pending_deposits: float | None = None
    pending_redemptions: float | None = None
    share_count: float | Decimal | None = None
    """A float; old files keep exact text, which stays a Decimal."""
    last_lagoon_settlement_block_scanned: int | None = None
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class Accounting:
    """How far corrections have looked, and which there were."""

    last_updated_at: datetime | None = None
    last_block_scanned: int | None = None
    balance_update_refs: list[BalanceEventRef] = field(default_factory=list)
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class AssetInterestData:
    """One asset's part in an interest sync: base that earned it, and yearly rate (365 days)."""

    total: Decimal
    effective_rate: float
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class InterestDistributionEntry:
    """One position's part in an interest sync. Never compared."""

    side: str | None = None
    position: Any = None
    tracker: Any = None
    weight: Any = None
    price: Any = None
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class InterestDistributionOperation:
    """The last interest sync: its span, and what each asset earned (keyed by asset identifier)."""

    start: datetime
    end: datetime
    assets: list[AssetIdentifier] = field(default_factory=list)
    asset_interest_data: dict[str, AssetInterestData] = field(default_factory=dict)
    entries: list[InterestDistributionEntry] = field(default_factory=list)
    effective_rate: float | None = None
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)

    @property
    def duration(self) -> timedelta:
        """How long the interest took to accrue."""
        return self.end - self.start


@dataclass(slots=True)
class InterestSync:
    """The checkpoint of interest syncs."""

    last_sync_at: datetime | None = None
    last_sync_block: int | None = None
    last_distribution: InterestDistributionOperation | None = None
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class Sync:
    """The state of syncing: deployment, treasury, accounting, interest."""

    deployment: Deployment = field(default_factory=Deployment)
    treasury: Treasury = field(default_factory=Treasury)
    accounting: Accounting = field(default_factory=Accounting)
    interest: InterestSync = field(default_factory=InterestSync)
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)

    def is_initialised(self) -> bool:
        """Tell whether these books know their vault."""
        return self.deployment.block_number is not None


@dataclass(slots=True)
class ReservePosition:
    """Cash: what of the reserve asset the books say is there."""

    asset: AssetIdentifier
    quantity: Decimal = Decimal(0)
    balance_updates: dict[int, BalanceUpdate] = field(default_factory=dict)
    last_sync_at: datetime | None = None
    reserve_token_price: float | None = None
    last_pricing_at: datetime | None = None
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class Trade:
    """One trade: ``executed_quantity`` is of the base and signed, ``executed_reserve`` is unsigned.

    A borrow or repayment moves no base: its ``executed_quantity`` is zero, and ``borrowed_quantity`` is what it moved
    of the loan's borrowed side, signed as the debt moves. It is None in every other trade.
    """

    trade_id: int
    executed_at: datetime | None = None
    executed_quantity: Decimal | None = None
    executed_reserve: Decimal | None = None
    failed_at: datetime | None = None
    block_number: int | None = None
    tx_hash: str | None = None
    borrowed_quantity: Decimal | None = None
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class TradingPair:
    """What a position trades; ``kind`` is e.g. ``spot_market_hold`` or ``credit_supply``."""

    base: AssetIdentifier
    quote: AssetIdentifier
    kind: str | None = None
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class LoanSide:
    """One side of a loan: its principal."""

    asset: AssetIdentifier
    quantity: Decimal
    created_at: datetime | None = None
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class InterestTracker:
    """What one side of a loan has come to, and when it last moved."""

    opening_amount: Decimal
    last_token_amount: Decimal
    last_accrued_interest: Decimal = Decimal(0)
    interest_payments: Decimal = Decimal(0)
    last_updated_at: datetime | None = None
    last_event_at: datetime | None = None
    last_updated_block_number: int | None = None
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class Loan:
    """A credit position's loan. Without a borrowed side it only earns."""

    collateral: LoanSide | None = None
    borrowed: LoanSide | None = None
    collateral_interest: InterestTracker | None = None
    borrowed_interest: InterestTracker | None = None
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class Position:
    """Anything held beside the reserve. Its quantity is not stored: it follows from trades and updates."""

    position_id: int
    pair: TradingPair
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    frozen_at: datetime | None = None
    reserve_currency: AssetIdentifier | None = None
    last_token_price: float | None = None
    last_pricing_at: datetime | None = None
    trades: list[Trade] = field(default_factory=list)
    loan: Loan | None = None
    balance_updates: dict[int, BalanceUpdate] = field(default_factory=dict)
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)

    @property
    def asset(self) -> AssetIdentifier:
        """The token that the position holds."""
        return self.pair.base

    @property
    def quantity(self) -> Fraction:
        """Sum of trades that did not fail and of balance updates in the position's own asset, in tokens, exact.

        Updates of what its loan owes stand beside them, and are no part of what it holds.
        """
        traded = sum(
            (
                Fraction(trade.executed_quantity)
                for trade in self.trades
                if trade.executed_quantity and not trade.failed_at
            ),
            Fraction(0),
        )
        own = self.pair.base
        updates = (update for update in self.balance_updates.values() if own.is_same(update.asset))
        return traded + sum((Fraction(update.quantity) for update in updates), Fraction(0))

    @property
    def owed_asset(self) -> AssetIdentifier | None:
        """The debt token of the loan's borrowed side, if it has one."""
        return None if self.loan is None or self.loan.borrowed is None else self.loan.borrowed.asset

    @property
    def owed(self) -> Fraction:
        """What the loan owes, interest included, in tokens of the debt, exact."""
        tracker = None if self.loan is None else self.loan.borrowed_interest
        return Fraction(0) if tracker is None else Fraction(tracker.last_token_amount)

    @property
    def is_void(self) -> bool:
        """Tell whether nothing that was booked in it stands: its trades all failed, and there are no updates."""
        return bool(self.trades) and not self.balance_updates and all(trade.failed_at for trade in self.trades)

    @property
    def quantity_raw(self) -> int:
        """The quantity in base units.

        Raises:
            ValueError: If it has more decimals than the token.
        """
        scaled = self.quantity * 10**self.asset.decimals
        if scaled.denominator != 1:
            raise ValueError(f"position {self.position_id} has more decimals than {self.asset.token_symbol}")
        raw: int = scaled.numerator
        return raw


@dataclass(slots=True)
class Portfolio:
    """What `Sync`'s refs point into."""

    reserves: dict[str, ReservePosition] = field(default_factory=dict)
    """By asset identifier."""
    open_positions: dict[int, Position] = field(default_factory=dict)
    frozen_positions: dict[int, Position] = field(default_factory=dict)
    closed_positions: dict[int, Position] = field(default_factory=dict)
    next_balance_update_id: int = 1
    next_position_id: int = 1
    next_trade_id: int = 1
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


@dataclass(slots=True)
class Books:
    """Everything a syncer persists.

    ``block_hashes`` maps the last scanned blocks to their hashes (0x text) with whatever a syncer
    needs to go back to them; its values are the syncer's own JSON.
    """

    sync: Sync = field(default_factory=Sync)
    portfolio: Portfolio = field(default_factory=Portfolio)
    block_hashes: dict[int, Any] = field(default_factory=dict)
    unknown_keys: dict[str, Any] = field(default_factory=_no_keys, repr=False)


def reserve_raw(reserve: ReservePosition) -> int:
    """A reserve's quantity in base units.

    Raises:
        ValueError: If it has more decimals than the token.
    """
    return to_raw(reserve.quantity, reserve.asset.decimals)
