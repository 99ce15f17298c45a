"""A manager's trade is booked the same way into any syncer's books."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from harness.books import (
    CREDIT,
    SPOT,
    AssetIdentifier,
    BookedTrade,
    Books,
    InterestTracker,
    Position,
    ReservePosition,
    add_raw,
    book_trade,
    check_books,
    copy_books,
    dump_books,
    open_positions_of,
)
from harness.errors import BooksError

USDC = AssetIdentifier(1, "0x" + "Aa" * 20, "USDC", 6)
WETH = AssetIdentifier(1, "0x" + "bb" * 20, "WETH", 18)
AUSDC = AssetIdentifier(1, "0x" + "cc" * 20, "aUSDC", 6, underlying=USDC)
NOON = datetime(2024, 1, 1, 12)
ONE = datetime(2024, 1, 1, 13)


def books_with(reserve: str = "1000.000000") -> Books:
    books = Books()
    books.portfolio.reserves[USDC.identifier] = ReservePosition(asset=USDC, quantity=Decimal(reserve))
    return books


def trade(**changes: Any) -> BookedTrade:
    """100 USDC for 0.0625 WETH unless told otherwise."""
    values: dict[str, Any] = {
        "kind": "trade",
        "asset": WETH,
        "reserve": USDC,
        "quantity_raw": 62_500_000_000_000_000,
        "reserve_raw": -100_000_000,
        "executed_at": NOON,
        "block_number": 5,
        "tx_hash": "0x05",
        "price": Fraction(1600),
    }
    return BookedTrade(**(values | changes))


def supply(**changes: Any) -> BookedTrade:
    values = {"kind": "supply", "asset": AUSDC, "quantity_raw": 400_000_000, "reserve_raw": -400_000_000, "price": 1}
    return trade(**(values | changes))


def reserve_of(books: Books) -> Decimal:
    return next(iter(books.portfolio.reserves.values())).quantity


def tracker_of(books: Books, position_id: int = 1) -> tuple[str, str, str, str]:
    """Principal, tracked amount, accrued interest, payments; the law of loans is held on the way."""
    portfolio = books.portfolio
    position = {**portfolio.open_positions, **portfolio.closed_positions}[position_id]
    assert position.loan is not None
    assert position.loan.collateral is not None
    tracker = position.loan.collateral_interest
    assert tracker is not None
    principal = position.loan.collateral.quantity
    assert principal + tracker.last_accrued_interest - tracker.interest_payments == tracker.last_token_amount
    assert Fraction(tracker.last_token_amount) == position.quantity
    amounts = (principal, tracker.last_token_amount, tracker.last_accrued_interest, tracker.interest_payments)
    return tuple(map(str, amounts))  # type: ignore[return-value]


def with_interest(books: Books, raw: int, position_id: int = 1) -> Books:
    """What an interest sync does: an update, and the tracker with it."""
    from harness.books import BalanceUpdate, BalanceUpdateCause, BalanceUpdatePositionType
    from harness.units import to_decimal

    books = copy_books(books)
    position = books.portfolio.open_positions[position_id]
    assert position.loan is not None
    tracker = position.loan.collateral_interest
    assert tracker is not None
    update_id = books.portfolio.next_balance_update_id
    books.portfolio.next_balance_update_id += 1
    gain = to_decimal(raw, position.asset.decimals)
    position.balance_updates[update_id] = BalanceUpdate(
        balance_update_id=update_id,
        cause=BalanceUpdateCause.interest,
        position_type=BalanceUpdatePositionType.open_position,
        asset=position.asset,
        block_mined_at=NOON,
        strategy_cycle_included_at=None,
        chain_id=1,
        quantity=gain,
        old_balance=tracker.last_token_amount,
        usd_value=0.0,
    )
    tracker.last_token_amount += gain
    tracker.last_accrued_interest += gain
    return books


def test_a_buy_opens_a_position_and_takes_from_the_reserve() -> None:
    books = book_trade(books_with(), trade())
    position = books.portfolio.open_positions[1]
    assert Decimal("900.000000") == reserve_of(books)
    assert (2, 2) == (books.portfolio.next_position_id, books.portfolio.next_trade_id)
    assert (NOON, None, 1600.0, NOON) == (
        position.opened_at,
        position.closed_at,
        position.last_token_price,
        position.last_pricing_at,
    )
    assert (WETH, USDC, SPOT, USDC, None) == (
        position.pair.base,
        position.pair.quote,
        position.pair.kind,
        position.reserve_currency,
        position.loan,
    )
    (entry,) = position.trades
    assert (1, NOON, 5, "0x05", None) == (
        entry.trade_id,
        entry.executed_at,
        entry.block_number,
        entry.tx_hash,
        entry.failed_at,
    )
    assert ("0.062500000000000000", "100.000000") == (str(entry.executed_quantity), str(entry.executed_reserve))
    assert 62_500_000_000_000_000 == position.quantity_raw


def test_a_second_buy_keeps_when_the_position_opened_and_refreshes_its_price() -> None:
    books = book_trade(
        book_trade(books_with(), trade()), trade(executed_at=ONE, price=Fraction(1650, 7), block_number=9)
    )
    (position,) = open_positions_of(books, WETH)
    assert (NOON, 1650 / 7, ONE) == (position.opened_at, position.last_token_price, position.last_pricing_at)
    assert 125_000_000_000_000_000 == position.quantity_raw
    assert [1, 2] == [entry.trade_id for entry in position.trades]
    assert 2 == books.portfolio.next_position_id


def test_selling_all_closes_the_position() -> None:
    books = book_trade(books_with(), trade())
    sold = trade(quantity_raw=-62_500_000_000_000_000, reserve_raw=101_000_000, executed_at=ONE)
    books = book_trade(books, sold)
    assert {} == books.portfolio.open_positions
    position = books.portfolio.closed_positions[1]
    assert (ONE, 0) == (position.closed_at, position.quantity)
    assert "101.000000" == str(position.trades[1].executed_reserve)
    assert Decimal("1001.000000") == reserve_of(books)
    reopened = book_trade(books, trade())
    assert [2] == list(reopened.portfolio.open_positions)


def test_a_raw_unit_left_or_lacking_keeps_the_position_open() -> None:
    books = book_trade(books_with(), trade())
    for quantity in (-62_499_999_999_999_999, -62_500_000_000_000_001):
        after = book_trade(books, trade(quantity_raw=quantity, reserve_raw=1))
        assert 62_500_000_000_000_000 + quantity == after.portfolio.open_positions[1].quantity_raw


def test_a_failed_trade_does_not_count_when_it_closes() -> None:
    books = book_trade(book_trade(books_with(), trade()), trade())
    books.portfolio.open_positions[1].trades[1].failed_at = ONE
    books = book_trade(books, trade(quantity_raw=-62_500_000_000_000_000, reserve_raw=100_000_000))
    assert [1] == list(books.portfolio.closed_positions)


def test_a_new_position_stands_beside_the_old_one_and_then_must_be_named() -> None:
    books = book_trade(book_trade(books_with(), trade()), trade(position="new"))
    assert [1, 2] == [position.position_id for position in open_positions_of(books, WETH)]
    with pytest.raises(BooksError, match="positions 1 and 2 of WETH are open: the trade must name one"):
        book_trade(books, trade())
    books = book_trade(books, trade(position=2, quantity_raw=5))
    assert 62_500_000_000_000_005 == books.portfolio.open_positions[2].quantity_raw
    assert 62_500_000_000_000_000 == books.portfolio.open_positions[1].quantity_raw


def test_a_supply_opens_a_loan() -> None:
    books = book_trade(books_with(), supply())
    position = books.portfolio.open_positions[1]
    assert CREDIT == position.pair.kind
    assert ("400.000000", "400.000000", "0", "0") == tracker_of(books)
    assert position.loan is not None
    assert position.loan.collateral is not None
    assert (AUSDC, NOON) == (position.loan.collateral.asset, position.loan.collateral.created_at)
    assert (None, None) == (position.loan.borrowed, position.loan.borrowed_interest)
    assert (
        InterestTracker(
            opening_amount=Decimal("400.000000"),
            last_token_amount=Decimal("400.000000"),
            last_updated_at=NOON,
            last_event_at=NOON,
            last_updated_block_number=5,
        )
        == position.loan.collateral_interest
    )
    assert Decimal("600.000000") == reserve_of(books)


@pytest.mark.parametrize("buy", [supply(), supply(kind="trade"), supply(asset=replace(AUSDC, underlying=None))])
def test_buying_a_rebase_token_books_like_supplying_it(buy: BookedTrade) -> None:
    assert dump_books(book_trade(books_with(), supply())).replace('"underlying": {', "") != ""
    books = book_trade(books_with(), buy)
    assert CREDIT == books.portfolio.open_positions[1].pair.kind
    assert ("400.000000", "400.000000", "0", "0") == tracker_of(books)
    books = book_trade(books, replace(buy, kind="trade", quantity_raw=-1, reserve_raw=1))
    assert ("399.999999", "399.999999", "0", "0") == tracker_of(books)


def test_supply_and_unsupply_move_the_principal_alone() -> None:
    books = with_interest(book_trade(books_with(), supply()), 7)
    books = book_trade(books, supply(quantity_raw=100, reserve_raw=-101, executed_at=ONE, block_number=9))
    assert ("400.000100", "400.000107", "0.000007", "0") == tracker_of(books)
    books = book_trade(books, supply(kind="unsupply", quantity_raw=-200_000_000, reserve_raw=200_000_000))
    assert ("200.000100", "200.000107", "0.000007", "0") == tracker_of(books)
    tracker = books.portfolio.open_positions[1].loan.collateral_interest  # type: ignore[union-attr]
    assert tracker is not None
    # Stamps never go back, even when a trade of an earlier block comes late.
    assert (Decimal("400.000000"), ONE, ONE, 9) == (
        tracker.opening_amount,
        tracker.last_updated_at,
        tracker.last_event_at,
        tracker.last_updated_block_number,
    )


@pytest.mark.parametrize("gain", [0, 7, -7])
def test_close_turns_accrued_interest_into_payments(gain: int) -> None:
    books = with_interest(book_trade(books_with(), supply()), gain)
    tracked = 400_000_000 + gain
    books = book_trade(books, supply(kind="close", quantity_raw=-tracked, reserve_raw=tracked - 1, executed_at=ONE))
    assert [1] == list(books.portfolio.closed_positions)
    principal, amount, accrued, payments = map(Decimal, tracker_of(books))
    interest = Decimal(gain).scaleb(-6)
    assert (0, 0, interest, interest) == (principal, amount, accrued, payments)
    assert Decimal(1_000_000_000 + gain - 1).scaleb(-6) == reserve_of(books)


def test_close_of_an_amount_that_the_books_do_not_track_leaves_the_difference_open() -> None:
    books = with_interest(book_trade(books_with(), supply()), 7)
    books = book_trade(books, supply(kind="close", quantity_raw=-400_000_000, reserve_raw=400_000_000))
    assert ("0.000007", "0.000007", "0.000007", "0.000007") == tracker_of(books)
    # What was paid is not paid again.
    books = book_trade(with_interest(books, 3), supply(kind="close", quantity_raw=-10, reserve_raw=10))
    assert ("0.000000", "0.000000", "0.000010", "0.000010") == tracker_of(books)
    assert [1] == list(books.portfolio.closed_positions)


def test_quantities_with_more_digits_than_the_token_stay_exact() -> None:
    exact = "1000.00000000000000017692514120426494628190994262695"
    books = book_trade(books_with(exact), trade(reserve_raw=-1))
    assert "999.99999900000000017692514120426494628190994262695" == str(reserve_of(books))
    big = book_trade(books_with(), trade(quantity_raw=10**60 + 1))
    assert 10**60 + 1 == big.portfolio.open_positions[1].quantity_raw
    assert Decimal("1E+3") + 1 == add_raw(Decimal("1E+3"), 1, 0)
    with pytest.raises(ValueError, match="finite"):
        add_raw(Decimal("NaN"), 1, 0)


def test_the_books_that_come_in_are_left_alone_and_those_that_come_out_are_books() -> None:
    books = with_interest(book_trade(books_with(), supply()), 7)
    before = dump_books(books)
    kept = copy_books(books)
    for step in (
        supply(),
        supply(position="new"),
        supply(kind="close", quantity_raw=-400_000_007, reserve_raw=1),
        trade(),
    ):
        after = book_trade(books, step)
        assert after == check_books(after)
    assert before == dump_books(books)
    assert kept == books


def test_what_a_trade_does_not_touch_is_shared_not_copied() -> None:
    books = book_trade(book_trade(books_with(), trade()), supply())
    after = book_trade(books, supply())
    assert books.portfolio.open_positions[1] is after.portfolio.open_positions[1]
    assert books.sync is after.sync


def test_a_reserve_under_an_old_file_s_key_is_found() -> None:
    books = Books()
    books.portfolio.reserves[USDC.address.lower()] = ReservePosition(asset=USDC, quantity=Decimal(100))
    after = book_trade(books, trade())
    assert {USDC.address.lower(): Decimal("0.000000")} == {
        key: reserve.quantity for key, reserve in after.portfolio.reserves.items()
    }


def test_an_asset_is_found_whatever_the_case_of_its_address() -> None:
    books = book_trade(books_with(), trade())
    shouting = replace(WETH, address="0x" + "BB" * 20)
    assert [1] == [position.position_id for position in open_positions_of(books, shouting)]
    assert [] == open_positions_of(books, replace(WETH, chain_id=2))


def spoilt(change: Any) -> Books:
    books = book_trade(book_trade(books_with(), supply()), trade())
    change(books.portfolio)
    return books


@pytest.mark.parametrize(
    ("change", "step", "path", "message"),
    [
        (lambda p: p.reserves.clear(), trade(), f"portfolio.reserves['{USDC.identifier}']", "is missing"),
        (
            lambda p: p.open_positions.clear(),
            trade(position=2),
            "portfolio.open_positions['2']",
            "is missing: the trade in WETH moves it",
        ),
        (
            lambda p: p.closed_positions.update({2: p.open_positions.pop(2)}),
            trade(position=2),
            "portfolio.open_positions['2']",
            "is closed",
        ),
        (
            lambda p: p.frozen_positions.update({2: p.open_positions.pop(2)}),
            trade(position=2),
            "portfolio.open_positions['2']",
            "is frozen",
        ),
        (
            lambda p: None,
            trade(position=1),
            "portfolio.open_positions['1']",
            "a position of aUSDC, expected one of WETH",
        ),
        (lambda p: p.open_positions.clear(), trade(quantity_raw=-1), "portfolio.open_positions", "takes from"),
        (
            lambda p: p.open_positions.clear(),
            supply(kind="unsupply", quantity_raw=-1),
            "portfolio.open_positions",
            "has no position of aUSDC",
        ),
        (
            lambda p: p.open_positions.clear(),
            supply(kind="close", quantity_raw=0),
            "portfolio.open_positions",
            "has no",
        ),
        (
            lambda p: setattr(p.open_positions[1], "loan", None),
            supply(),
            "portfolio.open_positions['1'].loan",
            "is missing: a supply of aUSDC moves it",
        ),
        (
            lambda p: setattr(p.open_positions[1], "loan", None),
            supply(kind="trade"),
            "portfolio.open_positions['1'].loan",
            "is missing",
        ),
        (
            lambda p: setattr(p.open_positions[1].loan, "collateral", None),
            supply(),
            "portfolio.open_positions['1'].loan.collateral",
            "is missing",
        ),
        (
            lambda p: setattr(p.open_positions[1].loan, "collateral_interest", None),
            supply(),
            "portfolio.open_positions['1'].loan.collateral_interest",
            "is missing",
        ),
        (
            lambda p: setattr(p, "next_position_id", 2),
            trade(position="new"),
            "portfolio.next_position_id",
            "is 2, the id of a position that is there already",
        ),
    ],
)
def test_books_that_lack_what_the_trade_moves_are_refused_with_the_path(
    change: Any, step: BookedTrade, path: str, message: str
) -> None:
    with pytest.raises(BooksError, match=message) as caught:
        book_trade(spoilt(change), step)
    assert path == caught.value.path


@pytest.mark.parametrize("quantity", [0, -1])
def test_nothing_or_less_opens_no_position(quantity: int) -> None:
    with pytest.raises(ValueError, match="opens no position of WETH"):
        book_trade(books_with(), trade(quantity_raw=quantity, position="new"))


def test_a_spot_position_without_a_loan_needs_none() -> None:
    books = book_trade(book_trade(books_with(), trade()), trade())
    position: Position = books.portfolio.open_positions[1]
    assert position.loan is None
