"""What books must say at a sync point, or why an operation must be refused: worked out from the ledger alone.

This is the contract for every syncer, as arithmetic on what happened. It never looks at a log, and no
syncer's code is used in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Literal

from harness.books import copy_books
from harness.books.records import (
    AssetIdentifier,
    AssetInterestData,
    BalanceEventRef,
    BalanceUpdate,
    BalanceUpdateCause,
    BalanceUpdatePositionType,
    Books,
    InterestDistributionOperation,
    InterestTracker,
    Position,
    ReservePosition,
    reserve_raw,
)
from harness.errors import Location
from harness.ledger.facts import Flow, Ledger
from harness.units import to_decimal, to_raw, usd_float

CLOCK = datetime(2030, 1, 1)
"""Stands in the ledger's own books where a syncer puts its clock; never compared."""
YEAR_SECONDS = 365 * 86_400
ZERO_BASE_TOLERANCE_RAW = 2
"""With nothing that could earn, so many base units are left to a correction (an index token's rounding)."""

OperationKind = Literal["initialise", "sync", "sync_interest", "correct_accounts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One syncing operation, with every default filled in."""

    kind: OperationKind
    location: Location
    end_block: int
    head: int
    """The newest block when it began."""
    cycle: datetime | None = None
    """Treasury syncs only."""
    chunk: int | None = None
    start_block: int | None = None
    """``initialise``: the hint."""
    chain_id: int
    """What the syncer is pointed at, as is ``vault``."""
    vault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An operation that must be refused, and why."""

    reason: str


class InconsistentLedger(Exception):
    """The two legs of the truth disagree: what was sent, and what state shows. The harness is at fault."""


def expected_books(ledger: Ledger, books: Books, operation: Operation) -> Books | Refusal:
    """Give the books that an operation must leave behind, or why it must be refused.

    Args:
        ledger: What happened; may reach beyond the operation's end block.
        books: The books before, as this function and the executor left them; they stay untouched.
        operation: What is asked.
    """
    refusal = _refusal_before_reading(ledger, books, operation)
    if refusal is not None:
        return Refusal(reason=refusal)
    match operation.kind:
        case "initialise":
            return _initialise(ledger, books, operation)
        case "sync":
            return _sync_treasury(ledger, books, operation)
        case "sync_interest":
            return _sync_interest(ledger, books, operation)
        case "correct_accounts":
            raise NotImplementedError


def belongs_elsewhere(books: Books, operation: Operation) -> str | None:
    """Say why books and operation do not belong together, whatever stands on the chain; None if they do."""
    deployment = books.sync.deployment
    if operation.kind == "initialise":
        return "the books are initialised already" if books.sync.is_initialised() else None
    if not books.sync.is_initialised():
        return "the books are not initialised"
    if deployment.chain_id != operation.chain_id:
        return f"the books are of chain {deployment.chain_id}, not {operation.chain_id}"
    if deployment.address is None or deployment.address.lower() != operation.vault.lower():
        return f"the books are of another vault than {operation.vault}"
    return None


def _refusal_before_reading(ledger: Ledger, books: Books, operation: Operation) -> str | None:
    elsewhere = belongs_elsewhere(books, operation)
    if elsewhere is not None:
        return elsewhere
    treasury = books.sync.treasury
    if operation.kind == "initialise":
        if operation.end_block > operation.head:
            return f"the node has no block {operation.end_block}, its head is {operation.head}"
        if operation.end_block < ledger.setting.deployment_block:
            return f"the vault is not deployed at block {operation.end_block}"
        return None
    cursor = treasury.last_block_scanned
    if cursor is not None and operation.head < cursor:
        return f"the head {operation.head} is below the last block scanned, {cursor}"
    if operation.end_block > operation.head:
        return f"the node has no block {operation.end_block}, its head is {operation.head}"
    if operation.kind == "sync":
        if (
            operation.cycle is not None
            and treasury.last_cycle_at is not None
            and operation.cycle < treasury.last_cycle_at
        ):
            return f"cycle {operation.cycle} is before the last one, {treasury.last_cycle_at}"
        return None
    last_interest = books.sync.interest.last_sync_block
    if last_interest is not None and operation.end_block < last_interest:
        return f"interest was synced at block {last_interest} already, after block {operation.end_block}"
    if cursor != operation.end_block:
        return f"the treasury stands at block {cursor}, not {operation.end_block}"
    return None


def _initialise(ledger: Ledger, books: Books, operation: Operation) -> Books:
    setting = ledger.setting
    after = copy_books(books)
    deployment = after.sync.deployment
    deployment.chain_id = setting.chain_id
    deployment.address = setting.vault
    deployment.block_number = setting.deployment_block
    deployment.tx_hash = setting.deployment_transaction
    deployment.block_mined_at = ledger.mined_at(setting.deployment_block)
    deployment.vault_token_name = setting.vault_name
    deployment.vault_token_symbol = setting.vault_symbol
    deployment.initialised_at = ledger.mined_at(operation.end_block)
    return after


# -- treasury


def _sync_treasury(ledger: Ledger, books: Books, operation: Operation) -> Books | Refusal:
    setting = ledger.setting
    after = copy_books(books)
    treasury = after.sync.treasury
    treasury.last_updated_at = CLOCK
    treasury.last_cycle_at = operation.cycle
    cursor = treasury.last_block_scanned
    if cursor is not None and cursor >= operation.end_block:
        return after

    start_block = setting.deployment_block if cursor is None else cursor + 1
    identifier = setting.reserve_asset.identifier
    if identifier not in after.portfolio.reserves:
        after.portfolio.reserves[identifier] = ReservePosition(asset=setting.reserve_asset)
    reserve = after.portfolio.reserves[identifier]
    bookkeeper = _Bookkeeper(ledger, after, reserve, operation)
    for flow in ledger.flows_between(start_block, operation.end_block):
        refusal = bookkeeper.book(flow)
        if refusal is not None:
            return refusal
    reserve.reserve_token_price = usd_float(ledger.price(setting.reserve, operation.end_block))
    reserve.last_pricing_at = ledger.mined_at(operation.end_block)
    reserve.last_sync_at = ledger.mined_at(operation.end_block)
    treasury.last_block_scanned = operation.end_block
    return after


class _Bookkeeper:
    """Writes flows into books, in order."""

    def __init__(self, ledger: Ledger, books: Books, reserve: ReservePosition, operation: Operation) -> None:
        self._ledger = ledger
        self._setting = ledger.setting
        self._books = books
        self._reserve = reserve
        self._cycle = operation.cycle
        self._positions = {
            position_id: position.quantity_raw for position_id, position in books.portfolio.open_positions.items()
        }
        self._redeemed = redeemed_since_interest(books)

    def book(self, flow: Flow) -> Refusal | None:
        first: BalanceUpdate | None = None
        skipped: list[tuple[AssetIdentifier, int]] = []
        for leg in flow.legs:
            if leg.raw == 0:
                continue
            asset = self._setting.assets[leg.symbol]
            if leg.symbol == self._setting.reserve:
                update = self._write(flow, leg.symbol, asset, leg.raw, None)
                first = first or update
                continue
            positions = _open_positions(self._books, asset)
            if not positions:
                if Fraction(-leg.raw, 10**asset.decimals) > Fraction(self._setting.dust_absolute[leg.symbol]):
                    return Refusal(reason=f"{leg.symbol} was paid out, and the books have no open position of it")
                skipped.append((asset, leg.raw))
                continue
            weights = [self._weight(position) for position in positions]
            for position, part in zip(positions, split(leg.raw, weights), strict=True):
                if part:
                    update = self._write(flow, leg.symbol, asset, part, position)
                    first = first or update
        if first is not None and skipped:
            first.other_data = {
                "skipped_legs": [
                    {"asset": asset.identifier, "quantity": str(to_decimal(raw, asset.decimals))}
                    for asset, raw in skipped
                ]
            }
        return None

    def _weight(self, position: Position) -> int:
        if not position.asset.is_rebase():
            return self._positions[position.position_id]
        return self._positions[position.position_id] + self._redeemed.get(position.position_id, 0)

    def _write(
        self, flow: Flow, symbol: str, asset: AssetIdentifier, raw: int, position: Position | None
    ) -> BalanceUpdate:
        portfolio = self._books.portfolio
        if position is None:
            old_raw = reserve_raw(self._reserve)
            self._reserve.quantity = to_decimal(old_raw + raw, asset.decimals)
        else:
            old_raw = self._positions[position.position_id]
            self._positions[position.position_id] = old_raw + raw
            self._redeemed[position.position_id] = self._redeemed.get(position.position_id, 0) - raw
            _move_principal(position, raw, self._ledger.mined_at(flow.block), flow.block)
        update = BalanceUpdate(
            balance_update_id=portfolio.next_balance_update_id,
            cause=BalanceUpdateCause(flow.cause),
            position_type=BalanceUpdatePositionType.reserve
            if position is None
            else BalanceUpdatePositionType.open_position,
            asset=asset,
            block_mined_at=self._ledger.mined_at(flow.block),
            strategy_cycle_included_at=self._cycle,
            chain_id=self._setting.chain_id,
            quantity=to_decimal(raw, asset.decimals),
            old_balance=to_decimal(old_raw, asset.decimals),
            usd_value=usd_float(self._ledger.worth(symbol, raw, flow.block)),
            created_at=CLOCK,
            owner_address=flow.owner,
            tx_hash=flow.transaction,
            log_index=flow.log_index,
            position_id=None if position is None else position.position_id,
            block_number=flow.block,
        )
        portfolio.next_balance_update_id += 1
        (self._reserve if position is None else position).balance_updates[update.balance_update_id] = update
        self._books.sync.treasury.balance_update_refs.append(_ref(update))
        return update


def _ref(update: BalanceUpdate) -> BalanceEventRef:
    return BalanceEventRef(
        balance_event_id=update.balance_update_id,
        strategy_cycle_included_at=update.strategy_cycle_included_at,
        cause=update.cause,
        position_type=update.position_type,
        position_id=update.position_id,
        usd_value=update.usd_value,
    )


def _move_principal(position: Position, raw: int, moved_at: datetime, block: int) -> None:
    loan = position.loan
    if loan is None or loan.collateral is None or loan.collateral_interest is None:
        return
    decimals = position.asset.decimals
    loan.collateral.quantity = to_decimal(to_raw(loan.collateral.quantity, decimals) + raw, decimals)
    tracker = loan.collateral_interest
    tracker.last_token_amount = to_decimal(to_raw(tracker.last_token_amount, decimals) + raw, decimals)
    _stamp(tracker, moved_at, block)


def _stamp(tracker: InterestTracker, moved_at: datetime, block: int) -> None:
    """Note the last block that moved a tracker; an event found late does not turn the stamp back."""
    if tracker.last_updated_block_number is None or tracker.last_updated_block_number <= block:
        tracker.last_event_at = moved_at
        tracker.last_updated_at = moved_at
        tracker.last_updated_block_number = block


def _open_positions(books: Books, asset: AssetIdentifier) -> list[Position]:
    return [
        position
        for _, position in sorted(books.portfolio.open_positions.items())
        if position.asset.address.lower() == asset.address.lower()
    ]


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


# -- interest


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Earner:
    """A holding of a rebase asset."""

    position: Position | None
    tracked: int
    base: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gain:
    symbol: str
    asset: AssetIdentifier
    earners: tuple[_Earner, ...]
    raw: int

    @property
    def base(self) -> int:
        return sum(earner.base for earner in self.earners)


def _sync_interest(ledger: Ledger, books: Books, operation: Operation) -> Books | Refusal:
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
        position.loan.collateral.created_at
        for position in books.portfolio.open_positions.values()
        if position.loan is not None
        and position.loan.collateral is not None
        and position.loan.collateral.created_at is not None
    ]
    return min(opened, default=end)


def _book_gain(ledger: Ledger, after: Books, gain: _Gain, end_block: int) -> None:
    portfolio = after.portfolio
    decimals = gain.asset.decimals
    moved_at = ledger.mined_at(end_block)
    for earner, part in zip(gain.earners, split(gain.raw, [earner.base for earner in gain.earners]), strict=True):
        if part == 0:
            continue
        previous_update_at: datetime | None = None
        position = None if earner.position is None else portfolio.open_positions[earner.position.position_id]
        if position is None:
            reserve = portfolio.reserves[gain.asset.identifier]
            reserve.quantity = to_decimal(earner.tracked + part, decimals)
            updates = reserve.balance_updates
        else:
            updates = position.balance_updates
            tracker = position.loan.collateral_interest if position.loan is not None else None
            if tracker is not None:
                previous_update_at = tracker.last_event_at
                tracker.last_token_amount = to_decimal(to_raw(tracker.last_token_amount, decimals) + part, decimals)
                tracker.last_accrued_interest = to_decimal(
                    to_raw(tracker.last_accrued_interest, decimals) + part, decimals
                )
                _stamp(tracker, moved_at, end_block)
        update = BalanceUpdate(
            balance_update_id=portfolio.next_balance_update_id,
            cause=BalanceUpdateCause.interest,
            position_type=BalanceUpdatePositionType.reserve
            if position is None
            else BalanceUpdatePositionType.open_position,
            asset=gain.asset,
            block_mined_at=moved_at,
            strategy_cycle_included_at=None,
            chain_id=ledger.setting.chain_id,
            quantity=to_decimal(part, decimals),
            old_balance=to_decimal(earner.tracked, decimals),
            usd_value=usd_float(ledger.worth(gain.symbol, part, end_block)),
            created_at=CLOCK,
            previous_update_at=previous_update_at,
            position_id=None if position is None else position.position_id,
            block_number=end_block,
        )
        portfolio.next_balance_update_id += 1
        updates[update.balance_update_id] = update


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
