"""How a manager's trade is booked: one pure function, the same for every syncer's books.

A syncer never trades, so after each manager step the harness writes the trade into its books. Books
that come in are left alone; those that come out share with them whatever did not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from harness.books.records import (
    AssetIdentifier,
    Books,
    InterestTracker,
    Loan,
    LoanSide,
    Portfolio,
    Position,
    ReservePosition,
    Trade,
    TradingPair,
)
from harness.errors import BooksError
from harness.units import to_decimal, usd_float

SPOT = "spot_market_hold"
"""``TradingPair.kind`` of a position in a token that does not grow by itself."""
CREDIT = "credit_supply"
"""``TradingPair.kind`` of a position with a loan: a rebase token, or whatever was supplied."""

TradeKind = Literal["trade", "supply", "unsupply", "close", "borrow", "repay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedTrade:
    """A manager's trade as it is booked; one side of it is the reserve.

    ``quantity_raw`` is of the asset, ``reserve_raw`` of the reserve, both in base units and signed as
    the holder's balance moves: a buy is positive and negative. ``position`` is the id of an open position,
    ``"new"`` to open one beside others, or None where there is no choice. ``price`` is the feed's at the
    end of the trade's block, in dollars a token.

    In ``borrow`` and ``repay`` the asset is the debt token, of which a borrow brings in some and a repayment
    burns some, and ``position`` that whose loan owes it.
    """

    kind: TradeKind
    asset: AssetIdentifier
    reserve: AssetIdentifier
    quantity_raw: int
    reserve_raw: int
    position: int | Literal["new"] | None = None
    executed_at: datetime
    block_number: int
    tx_hash: str
    price: Fraction

    @property
    def is_credit(self) -> bool:
        """Tell whether the position that it moves has a loan."""
        return self.kind != "trade" or self.asset.is_rebase()

    @property
    def is_debt(self) -> bool:
        """Tell whether it moves what a loan owes, and not what the position holds."""
        return self.kind in ("borrow", "repay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """What it takes to take a booked trade out of books again.

    ``principal`` and ``payments`` are what it moved of the loan beyond its own quantity, in tokens. Price and tracker
    (that of the side that it moves, for its stamps) are those before it.
    """

    trade: BookedTrade
    trade_id: int
    position_id: int
    opened: bool
    closed: bool
    borrowed_first: bool
    """Whether it made the loan's borrowed side."""
    principal: Decimal
    payments: Decimal
    tracker: InterestTracker | None
    last_token_price: float | None
    last_pricing_at: datetime | None


def book_trade(books: Books, trade: BookedTrade) -> Books:
    """Book a trade: append it, move the reserve, open, move or close the position and its loan.

    Returns:
        New books, which share every record that the trade does not touch with ``books``.

    Raises:
        BooksError: If the books lack the reserve, or the position or loan that the trade moves, or hold
            several positions of the asset and the trade names none; ``path`` says where.
        ValueError: If the trade would open a position with nothing or less in it.
    """
    portfolio = books.portfolio
    key, reserve = _reserve_of(portfolio, trade.reserve)
    position = _position_of(books, trade)
    opens = position is None
    if position is None:
        position = _opened(portfolio, trade)
    moved = _with_trade(position, portfolio.next_trade_id, trade, opens)
    open_positions = {**portfolio.open_positions, moved.position_id: moved}
    closed_positions = portfolio.closed_positions
    if not moved.quantity and not moved.owed:
        moved.closed_at = trade.executed_at
        del open_positions[moved.position_id]
        closed_positions = {**closed_positions, moved.position_id: moved}
    left = add_raw(reserve.quantity, trade.reserve_raw, trade.reserve.decimals)
    return replace(
        books,
        portfolio=replace(
            portfolio,
            reserves={**portfolio.reserves, key: replace(reserve, quantity=left)},
            open_positions=open_positions,
            closed_positions=closed_positions,
            next_trade_id=portfolio.next_trade_id + 1,
            next_position_id=portfolio.next_position_id + opens,
        ),
    )


def undo_of(books: Books, trade: BookedTrade) -> Undo:
    """Note what :func:`book_trade` is about to overwrite in these books, so that the trade can be taken out again.

    Raises:
        BooksError, ValueError: As :func:`book_trade`.
    """
    found = _position_of(books, trade)
    after = book_trade(books, trade).portfolio
    position_id = books.portfolio.next_position_id if found is None else found.position_id
    moved = after.closed_positions.get(position_id) or after.open_positions[position_id]
    principal = payments = Decimal(0)
    loan, later = (None if found is None else found.loan), moved.loan
    if not trade.is_debt and loan is not None and later is not None:
        principal, payments = _beyond(loan, later, trade)
    return Undo(
        trade=trade,
        trade_id=books.portfolio.next_trade_id,
        position_id=position_id,
        opened=found is None,
        closed=position_id in after.closed_positions,
        borrowed_first=trade.is_debt and (loan is None or loan.borrowed is None),
        principal=principal,
        payments=payments,
        tracker=None if loan is None else loan.borrowed_interest if trade.is_debt else loan.collateral_interest,
        last_token_price=None if found is None else found.last_token_price,
        last_pricing_at=None if found is None else found.last_pricing_at,
    )


def _beyond(loan: Loan, later: Loan, trade: BookedTrade) -> tuple[Decimal, Decimal]:
    """What a trade moved of principal and payments besides its own quantity."""
    assert loan.collateral is not None, "the trade was booked, so it is there"
    assert loan.collateral_interest is not None, "likewise"
    assert later.collateral is not None, "a trade takes no side away"
    assert later.collateral_interest is not None, "likewise"
    moved = _minus(later.collateral.quantity, loan.collateral.quantity)
    return (
        _minus(moved, to_decimal(trade.quantity_raw, trade.asset.decimals)),
        _minus(later.collateral_interest.interest_payments, loan.collateral_interest.interest_payments),
    )


def orphan_trades(books: Books, undos: Sequence[Undo], failed_at: datetime) -> Books:
    """Mark trades failed whose blocks a reorganisation has replaced, and take them out of the books.

    A position that one of them closed is open again. One that one of them opened is void: it goes to the closed
    positions and keeps nothing but its failed trades, and updates until the next operation drops them. What syncs have
    written of orphaned blocks stays for that operation, too.

    Args:
        books: The books; they stay untouched.
        undos: What :func:`undo_of` gave for each of the trades, in the order in which they were booked.
        failed_at: The time that the trades get for their failure.

    Raises:
        BooksError: If the books lack one of the trades, or what it moved; ``path`` says where.
    """
    for undo in reversed(undos):
        books = _without(books, undo, failed_at)
    return books


def _without(books: Books, undo: Undo, failed_at: datetime) -> Books:
    portfolio = books.portfolio
    trade = undo.trade
    key, reserve = _reserve_of(portfolio, trade.reserve)
    name, position = _holder_of(portfolio, undo)
    position = replace(
        position,
        trades=[replace(one, failed_at=failed_at) if one.trade_id == undo.trade_id else one for one in position.trades],
        loan=None if undo.opened else _loan_without(position.loan, undo),
    )
    if not trade.is_debt:
        position.last_token_price, position.last_pricing_at = undo.last_token_price, undo.last_pricing_at
    groups = {group: getattr(portfolio, group) for group in ("open_positions", "frozen_positions", "closed_positions")}
    goes_to = "closed_positions" if undo.opened else "open_positions" if undo.closed else name
    if goes_to != name:
        position.closed_at = failed_at if undo.opened else None
        groups[name] = {one: other for one, other in groups[name].items() if one != position.position_id}
    groups[goes_to] = {**groups[goes_to], position.position_id: position}
    left = add_raw(reserve.quantity, -trade.reserve_raw, trade.reserve.decimals)
    reserves = {**portfolio.reserves, key: replace(reserve, quantity=left)}
    return replace(books, portfolio=replace(portfolio, reserves=reserves, **groups))


def _holder_of(portfolio: Portfolio, undo: Undo) -> tuple[str, Position]:
    """Find the position in which a trade is booked, and what holds it."""
    for name in ("open_positions", "frozen_positions", "closed_positions"):
        position: Position | None = getattr(portfolio, name).get(undo.position_id)
        if position is not None:
            if any(trade.trade_id == undo.trade_id for trade in position.trades):
                return name, position
            raise BooksError(
                f"portfolio.{name}['{undo.position_id}'].trades",
                f"lacks trade {undo.trade_id}, whose block was replaced",
            )
    raise BooksError(
        "portfolio",
        f"has no position {undo.position_id}, with trade {undo.trade_id}, whose block was replaced",
    )


def _loan_without(loan: Loan | None, undo: Undo) -> Loan | None:
    if loan is None:
        return None
    quantity = to_decimal(-undo.trade.quantity_raw, undo.trade.asset.decimals)
    if undo.trade.is_debt:
        if undo.borrowed_first:
            return replace(loan, borrowed=None, borrowed_interest=None)
        if loan.borrowed is None or loan.borrowed_interest is None:
            return loan
        return replace(
            loan,
            borrowed=replace(loan.borrowed, quantity=_plus(loan.borrowed.quantity, quantity)),
            borrowed_interest=_stamped_back(
                replace(
                    loan.borrowed_interest, last_token_amount=_plus(loan.borrowed_interest.last_token_amount, quantity)
                ),
                undo,
            ),
        )
    if loan.collateral is None or loan.collateral_interest is None:
        return loan
    tracker = loan.collateral_interest
    return replace(
        loan,
        collateral=replace(loan.collateral, quantity=_minus(_plus(loan.collateral.quantity, quantity), undo.principal)),
        collateral_interest=_stamped_back(
            replace(
                tracker,
                last_token_amount=_plus(tracker.last_token_amount, quantity),
                interest_payments=_minus(tracker.interest_payments, undo.payments),
            ),
            undo,
        ),
    )


def _stamped_back(tracker: InterestTracker, undo: Undo) -> InterestTracker:
    if undo.tracker is None:
        return tracker
    return replace(
        tracker,
        last_updated_at=undo.tracker.last_updated_at,
        last_event_at=undo.tracker.last_event_at,
        last_updated_block_number=undo.tracker.last_updated_block_number,
    )


def trade_record(trade: BookedTrade, trade_id: int, base: AssetIdentifier) -> Trade:
    """Turn a trade into the record that stands in a position of ``base``."""
    quantity = to_decimal(trade.quantity_raw, trade.asset.decimals)
    return Trade(
        trade_id=trade_id,
        executed_at=trade.executed_at,
        executed_quantity=to_decimal(0, base.decimals) if trade.is_debt else quantity,
        executed_reserve=to_decimal(abs(trade.reserve_raw), trade.reserve.decimals),
        block_number=trade.block_number,
        tx_hash=trade.tx_hash,
        borrowed_quantity=quantity if trade.is_debt else None,
    )


def open_positions_of(books: Books, asset: AssetIdentifier) -> list[Position]:
    """List the open positions of an asset, the lowest id first; frozen ones are not open."""
    identifier = asset.identifier
    found = [
        position for position in books.portfolio.open_positions.values() if position.asset.identifier == identifier
    ]
    return sorted(found, key=lambda position: position.position_id)


def add_raw(quantity: Decimal, raw: int, decimals: int) -> Decimal:
    """Add base units to a quantity in tokens, exactly: also to one with more digits than the token has.

    >>> add_raw(Decimal("1.0000001"), 500_000, 6)
    Decimal('1.5000001')

    Raises:
        ValueError: If the quantity is a NaN or infinite.
    """
    # Decimal's own sum would round to the context's 28 digits.
    sign, digits, exponent = quantity.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"{quantity} is not a finite number")
    scale = max(decimals, -exponent)
    units = int("".join(map(str, digits)) or "0") * 10 ** (scale + exponent)
    return to_decimal((-units if sign else units) + raw * 10 ** (scale - decimals), scale)


def _reserve_of(portfolio: Portfolio, asset: AssetIdentifier) -> tuple[str, ReservePosition]:
    identifier = asset.identifier
    for key, reserve in portfolio.reserves.items():
        # Old files key reserves by the address alone.
        if reserve.asset.identifier == identifier:
            return key, reserve
    raise BooksError(f"portfolio.reserves['{identifier}']", f"is missing: a trade in {asset.token_symbol} moves it")


def _position_of(books: Books, trade: BookedTrade) -> Position | None:
    """Find the position that the trade moves; None if it opens one."""
    if trade.position == "new" and not trade.is_debt:
        return None
    found = _that_may_owe(books, trade) if trade.is_debt else open_positions_of(books, trade.asset)
    symbol = trade.asset.token_symbol
    if isinstance(trade.position, int):
        for position in found:
            if position.position_id == trade.position:
                return position
        raise BooksError(
            f"portfolio.open_positions['{trade.position}']", _why_missing(books.portfolio, trade.position, symbol)
        )
    if len(found) > 1:
        ids = " and ".join(str(position.position_id) for position in found)
        raise BooksError(
            "portfolio.open_positions", f"positions {ids} of {symbol} are open: the trade must name one of them"
        )
    if not found and trade.is_debt:
        raise BooksError("portfolio.open_positions", f"has no credit position whose loan may owe {symbol}")
    if not found and (trade.kind in ("unsupply", "close") or trade.quantity_raw < 0):
        raise BooksError("portfolio.open_positions", f"has no position of {symbol}, which the trade takes from")
    return found[0] if found else None


def _that_may_owe(books: Books, trade: BookedTrade) -> list[Position]:
    """List the open positions whose loan owes in the debt token, and for a borrow those whose loan owes nothing yet."""
    return [
        position
        for _, position in sorted(books.portfolio.open_positions.items())
        if position.loan is not None
        and (
            (position.owed_asset is None and trade.kind == "borrow")
            or (position.owed_asset is not None and position.owed_asset.is_same(trade.asset))
        )
    ]


def _why_missing(portfolio: Portfolio, position_id: int, symbol: str) -> str:
    if other := portfolio.open_positions.get(position_id):
        return f"is a position of {other.asset.token_symbol}, expected one of {symbol}"
    if position_id in portfolio.closed_positions:
        return f"is missing: position {position_id} is closed, the trade in {symbol} needs it open"
    if position_id in portfolio.frozen_positions:
        return f"is missing: position {position_id} is frozen, the trade in {symbol} needs it open"
    return f"is missing: the trade in {symbol} moves it"


def _opened(portfolio: Portfolio, trade: BookedTrade) -> Position:
    if trade.quantity_raw <= 0:
        raise ValueError(f"a trade of {trade.quantity_raw} base units opens no position of {trade.asset.token_symbol}")
    position_id = portfolio.next_position_id
    groups = (portfolio.open_positions, portfolio.frozen_positions, portfolio.closed_positions)
    if any(position_id in group for group in groups):
        raise BooksError("portfolio.next_position_id", f"is {position_id}, the id of a position that is there already")
    kind = CREDIT if trade.is_credit else SPOT
    return Position(
        position_id=position_id,
        pair=TradingPair(base=trade.asset, quote=trade.reserve, kind=kind),
        opened_at=trade.executed_at,
        reserve_currency=trade.reserve,
        loan=_opened_loan(trade) if trade.is_credit else None,
    )


def _opened_loan(trade: BookedTrade) -> Loan:
    quantity = to_decimal(trade.quantity_raw, trade.asset.decimals)
    return Loan(
        collateral=LoanSide(asset=trade.asset, quantity=quantity, created_at=trade.executed_at),
        collateral_interest=InterestTracker(
            opening_amount=quantity,
            last_token_amount=quantity,
            last_updated_at=trade.executed_at,
            last_event_at=trade.executed_at,
            last_updated_block_number=trade.block_number,
        ),
    )


def _with_trade(position: Position, trade_id: int, trade: BookedTrade, opens: bool) -> Position:
    if trade.is_debt:
        return _with_debt(position, trade_id, trade)
    entry = trade_record(trade, trade_id, position.asset)
    return replace(
        position,
        trades=[*position.trades, entry],
        last_token_price=usd_float(trade.price),
        last_pricing_at=trade.executed_at,
        loan=position.loan if opens else _moved_loan(position, trade),
    )


def _with_debt(position: Position, trade_id: int, trade: BookedTrade) -> Position:
    """Book what a loan borrows or pays back: the position itself holds what it held."""
    assert position.loan is not None, "only a position with a loan is asked"
    moved = to_decimal(trade.quantity_raw, trade.asset.decimals)
    entry = trade_record(trade, trade_id, position.asset)
    side, tracker = position.loan.borrowed, position.loan.borrowed_interest
    if side is None or tracker is None:
        side = LoanSide(asset=trade.asset, quantity=moved, created_at=trade.executed_at)
        tracker = InterestTracker(opening_amount=moved, last_token_amount=moved)
    else:
        side = replace(side, quantity=add_raw(side.quantity, trade.quantity_raw, trade.asset.decimals))
        amount = add_raw(tracker.last_token_amount, trade.quantity_raw, trade.asset.decimals)
        tracker = replace(tracker, last_token_amount=amount)
    loan = replace(position.loan, borrowed=side, borrowed_interest=_stamped(tracker, trade))
    return replace(position, trades=[*position.trades, entry], loan=loan)


def _stamped(tracker: InterestTracker, trade: BookedTrade) -> InterestTracker:
    return replace(
        tracker,
        last_updated_at=_later(tracker.last_updated_at, trade.executed_at),
        last_event_at=_later(tracker.last_event_at, trade.executed_at),
        last_updated_block_number=max(tracker.last_updated_block_number or 0, trade.block_number),
    )


def _moved_loan(position: Position, trade: BookedTrade) -> Loan | None:
    path = f"portfolio.open_positions['{position.position_id}'].loan"
    loan = position.loan
    if loan is None:
        if trade.is_credit:
            raise BooksError(path, f"is missing: a {trade.kind} of {trade.asset.token_symbol} moves it")
        return None
    if loan.collateral is None or loan.collateral_interest is None:
        lacking = "collateral" if loan.collateral is None else "collateral_interest"
        raise BooksError(f"{path}.{lacking}", f"is missing: a {trade.kind} of {trade.asset.token_symbol} moves it")
    tracker = loan.collateral_interest
    payments = tracker.interest_payments
    principal_raw = trade.quantity_raw
    principal = loan.collateral.quantity
    if trade.kind == "close":
        # All interest that accrued is paid out by now. What of the tracked amount was interest and not paid
        # before does not come off the principal: collateral + accrued - payments = tracked amount stays true.
        payments = tracker.last_accrued_interest
        principal = _minus(_plus(principal, payments), tracker.interest_payments)
    return replace(
        loan,
        collateral=replace(loan.collateral, quantity=add_raw(principal, principal_raw, trade.asset.decimals)),
        collateral_interest=_stamped(
            replace(
                tracker,
                last_token_amount=add_raw(tracker.last_token_amount, trade.quantity_raw, trade.asset.decimals),
                interest_payments=payments,
            ),
            trade,
        ),
    )


def _plus(a: Decimal, b: Decimal) -> Decimal:
    sign, digits, exponent = b.as_tuple()
    assert isinstance(exponent, int)
    units = int("".join(map(str, digits)) or "0") * (-1 if sign else 1)
    return add_raw(a, units * 10 ** max(exponent, 0), max(-exponent, 0))


def _minus(a: Decimal, b: Decimal) -> Decimal:
    return _plus(a, b.copy_negate())


def _later(found: datetime | None, at: datetime) -> datetime:
    return at if found is None or found < at else found
