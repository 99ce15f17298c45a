"""Corrections: what the chain has and the books do not, and the other way round, booked without a reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from harness.books.executor import CREDIT, SPOT
from harness.books.records import (
    AssetIdentifier,
    BalanceUpdateCause,
    Books,
    InterestTracker,
    Loan,
    LoanSide,
    Position,
    ReservePosition,
    TradingPair,
    reserve_raw,
)
from harness.books.state_file import copy_books
from harness.ledger.facts import Ledger
from harness.ledger.holdings import (
    move_principal,
    moved,
    open_debts,
    open_positions,
    owed_raw,
    redeemed_since_interest,
    ref_to,
    split,
    without_event,
)
from harness.ledger.operations import CLOCK, Operation, Refusal
from harness.units import to_decimal, usd_float


def correct_accounts(ledger: Ledger, books: Books, operation: Operation) -> Books | Refusal:
    """Give the books after a correction, or why it must be refused."""
    after = copy_books(books)
    for symbol in ledger.setting.feeds:
        refusal = _correct(ledger, after, symbol, operation.end_block)
        if refusal is not None:
            return refusal
    accounting = after.sync.accounting
    accounting.last_updated_at = CLOCK
    accounting.last_block_scanned = operation.end_block
    after.sync.treasury.last_block_scanned = operation.end_block
    return after


def pending_trade(books: Books) -> int | None:
    """The id of a trade that is neither executed nor failed, if there is one."""
    portfolio = books.portfolio
    for group in (portfolio.open_positions, portfolio.frozen_positions, portfolio.closed_positions):
        for position in group.values():
            for trade in position.trades:
                if trade.executed_at is None and trade.failed_at is None:
                    return trade.trade_id
    return None


def is_dust(books_raw: int, chain_raw: int, decimals: int, *, absolute: Decimal, relative: Decimal) -> bool:
    """Tell whether a difference between books and chain is too small to correct.

    It is if both sides are at most ``absolute`` (in tokens), or if it is at most ``relative`` of what the books hold.
    """
    limit = Fraction(absolute) * 10**decimals
    if abs(books_raw) <= limit and abs(chain_raw) <= limit:
        return True
    return abs(chain_raw - books_raw) <= Fraction(relative) * abs(books_raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Something that a difference may go to, what it holds and by what it is weighed, base units."""

    position: Position | None
    """None: the reserve."""
    held: int
    weight: int
    owes: bool = False


def _correct(ledger: Ledger, books: Books, symbol: str, block: int) -> Refusal | None:
    """Bring one asset to what the chain says at the end of a block."""
    setting = ledger.setting
    asset = setting.assets[symbol]
    parts = list(_parts(books, asset, setting.reserve_asset))
    frozen = sum(one.quantity_raw for one in books.portfolio.frozen_positions.values() if one.asset.is_same(asset))
    held, on_chain = sum(part.held for part in parts) + frozen, ledger.balance(symbol, block)
    limits = {"absolute": setting.dust_absolute[symbol], "relative": setting.dust_relative[symbol]}
    if held == on_chain or is_dust(held, on_chain, asset.decimals, **limits):
        return None
    if not parts:
        if asset.type == DEBT:
            return Refusal(reason=f"{symbol} is owed on chain, and the books have no loan that could owe it")
        parts = [_Part(position=_found_or_opened(ledger, books, symbol, block), held=0, weight=0)]
    weights = [part.weight for part in parts]
    for part, raw in zip(parts, split(on_chain - held, weights), strict=True):
        if raw:
            _write(ledger, books, symbol, part, raw, block)
    return None


DEBT = "borrowed"
"""``AssetIdentifier.type`` of a debt token."""


def _parts(books: Books, asset: AssetIdentifier, reserve_asset: AssetIdentifier) -> Iterator[_Part]:
    if asset.is_same(reserve_asset):
        reserve = books.portfolio.reserves.setdefault(asset.identifier, ReservePosition(asset=asset))
        yield _Part(position=None, held=reserve_raw(reserve), weight=1)
        return
    redeemed = redeemed_since_interest(books)
    for position in open_positions(books, asset):
        quantity = position.quantity_raw
        left_since = redeemed.get(position.position_id, 0) if asset.is_rebase() else 0
        yield _Part(position=position, held=quantity, weight=quantity + left_since)
    for position in open_debts(books, asset):
        owed = owed_raw(position)
        yield _Part(position=position, held=owed, weight=owed, owes=True)


def _found_or_opened(ledger: Ledger, books: Books, symbol: str, block: int) -> Position:
    """Open the last closed position of an asset again, or a new one with nothing in it."""
    portfolio = books.portfolio
    asset = ledger.setting.assets[symbol]
    closed = [one for one in portfolio.closed_positions.values() if one.asset.is_same(asset) and not one.is_void]
    if closed:
        position = max(closed, key=lambda one: (one.closed_at or ledger.mined_at(0), one.position_id))
        del portfolio.closed_positions[position.position_id]
        position.closed_at = None
    else:
        at = ledger.mined_at(block)
        nothing = to_decimal(0, asset.decimals)
        position = Position(
            position_id=portfolio.next_position_id,
            pair=TradingPair(
                base=asset, quote=ledger.setting.reserve_asset, kind=CREDIT if asset.is_rebase() else SPOT
            ),
            opened_at=at,
            reserve_currency=ledger.setting.reserve_asset,
            last_token_price=usd_float(ledger.price(symbol, block)),
            last_pricing_at=at,
            loan=Loan(
                collateral=LoanSide(asset=asset, quantity=nothing, created_at=at),
                collateral_interest=InterestTracker(opening_amount=nothing, last_token_amount=nothing),
            )
            if asset.is_rebase()
            else None,
        )
        portfolio.next_position_id += 1
    portfolio.open_positions[position.position_id] = position
    return position


def _write(ledger: Ledger, books: Books, symbol: str, part: _Part, raw: int, block: int) -> None:
    position, at = part.position, ledger.mined_at(block)
    asset = ledger.setting.assets[symbol]
    cause = BalanceUpdateCause.correction
    update = without_event(ledger, books, cause, symbol, raw, part.held, position, block)
    books.sync.accounting.balance_update_refs.append(ref_to(update))
    if position is None:
        reserve = books.portfolio.reserves[asset.identifier]
        reserve.quantity = moved(reserve.quantity, raw, asset.decimals)
        return
    _note_opening(position, raw)
    move_principal(position, raw, at, block, owed=part.owes)
    if not position.quantity and not position.owed:
        position.closed_at = at
        del books.portfolio.open_positions[position.position_id]
        books.portfolio.closed_positions[position.position_id] = position


def _note_opening(position: Position, raw: int) -> None:
    """A loan that the correction itself opens began with what it brings."""
    tracker = None if position.loan is None else position.loan.collateral_interest
    if tracker is not None and tracker.last_updated_block_number is None:
        tracker.opening_amount = moved(tracker.opening_amount, raw, position.asset.decimals)
