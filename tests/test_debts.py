"""What loans borrow, what that grows by, and what it takes to take trades out again."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from harness.books import (
    BookedTrade,
    Books,
    LoanSide,
    Position,
    book_trade,
    dump_books,
    load_books,
    orphan_trades,
    undo_of,
)
from harness.books.records import InterestTracker
from harness.errors import BooksError
from harness.reconcile.laws import Checkpoint, sums_add_up
from harness.reconcile.statement import statements
from tests.hand_ledger import AUSDC, DUSDC, USDC, WETH, Hand, place


def lent() -> Hand:
    """Position 1 holds 400 raw aUSDC."""
    hand = Hand()
    hand.deposit(1_000)
    hand.sync()
    hand.trade(AUSDC, 400, -400)
    return hand


def debt_of(hand: Hand, position_id: int = 1) -> tuple[LoanSide, InterestTracker]:
    loan = hand.books.portfolio.open_positions[position_id].loan
    assert loan is not None
    assert loan.borrowed is not None
    assert loan.borrowed_interest is not None
    return loan.borrowed, loan.borrowed_interest


def position_of(hand: Hand) -> Position:
    return hand.books.portfolio.open_positions[1]


def raw(quantity: Decimal) -> int:
    return int(quantity.scaleb(6))


def lawful(hand: Hand, before: Books) -> None:
    drawn = statements(before, hand.books, hand.books, hand.ledger, hand.ledger.head)
    assert [] == [
        one.sentence
        for one in sums_add_up(Checkpoint(before=before, books=hand.books, statements=drawn, found_at=place(1)))
    ]
    assert [0] * len(drawn) == [one.unexplained for one in drawn]


def test_a_borrow_moves_the_reserve_and_what_the_loan_owes_and_not_the_position() -> None:
    hand = lent()
    before = hand.books
    hand.borrow(100)
    side, tracker = debt_of(hand)
    assert (DUSDC, 100, hand.time(5)) == (side.asset, raw(side.quantity), side.created_at)
    assert (100, 100, 0, 5) == (
        raw(tracker.opening_amount),
        raw(tracker.last_token_amount),
        raw(tracker.last_accrued_interest),
        tracker.last_updated_block_number,
    )
    position, trade = position_of(hand), position_of(hand).trades[-1]
    assert (400, before.portfolio.open_positions[1].last_pricing_at) == (
        position.quantity_raw,
        position.last_pricing_at,
    )
    assert (Decimal(0), Decimal("0.000100"), Decimal("0.000100")) == (
        trade.executed_quantity,
        trade.executed_reserve,
        trade.borrowed_quantity,
    )
    assert Decimal("0.000700") == hand.books.portfolio.reserves[USDC.identifier].quantity
    collateral = position.loan.collateral_interest if position.loan else None
    assert collateral is not None
    assert 4 == collateral.last_updated_block_number
    lawful(hand, before)
    assert load_books(dump_books(hand.books)) == hand.books


def test_a_debt_grows_beside_what_the_position_earns() -> None:
    hand = lent()
    hand.borrow(100)
    hand.rebase("dUSDC", 5)
    hand.rebase("aUSDC", 8)
    hand.sync()
    before = hand.books
    hand.sync_interest()
    side, tracker = debt_of(hand)
    assert (100, 105, 5, 7) == (
        raw(side.quantity),
        raw(tracker.last_token_amount),
        raw(tracker.last_accrued_interest),
        tracker.last_updated_block_number,
    )
    grown = next(update for update in hand.updates() if update.asset == DUSDC)
    assert ("interest", 1, 5, 100, 0.000005, hand.time(5)) == (
        str(grown.cause),
        grown.position_id,
        raw(grown.quantity),
        raw(grown.old_balance),
        grown.usd_value,
        grown.previous_update_at,
    )
    assert 408 == position_of(hand).quantity_raw
    distribution = hand.books.sync.interest.last_distribution
    assert distribution is not None
    assert {AUSDC, DUSDC} == set(distribution.assets)
    assert Decimal("0.000100") == distribution.asset_interest_data[DUSDC.identifier].total
    lawful(hand, before)


def test_a_debt_out_of_bounds_is_refused() -> None:
    hand = lent()
    hand.borrow(100)
    hand.rebase("dUSDC", 6)
    hand.sync()
    assert "dUSDC changed by 0.000006 on a base of 0.000100" in hand.refusal("sync_interest")


def test_what_several_loans_owe_is_split_by_it_when_corrected() -> None:
    hand = lent()
    hand.trade(AUSDC, 100, -100, "new")
    hand.borrow(100, 1)
    hand.borrow(50, 2)
    hand.sync()
    hand.rebase("dUSDC", 30)
    before = hand.books
    hand.correct()
    assert [(1, 20), (2, 10)] == [(one.position_id, raw(one.quantity)) for one in hand.updates() if one.asset == DUSDC]
    side, tracker = debt_of(hand, 2)
    assert (60, 60, 0) == (raw(side.quantity), raw(tracker.last_token_amount), raw(tracker.last_accrued_interest))
    lawful(hand, before)


def test_a_position_that_owes_stays_open_at_zero_until_it_has_paid_back() -> None:
    hand = lent()
    hand.borrow(100)
    hand.trade(AUSDC, -400, 400)
    assert [1] == list(hand.books.portfolio.open_positions)
    before = hand.books
    hand.borrow(-100)
    assert ([], [1]) == (list(hand.books.portfolio.open_positions), list(hand.books.portfolio.closed_positions))
    lawful(hand, before)


def test_a_correction_to_zero_leaves_a_position_open_that_owes() -> None:
    hand = lent()
    hand.borrow(100)
    hand.sync()
    hand.move("taken", "aUSDC", -400)
    hand.correct()
    assert [1] == list(hand.books.portfolio.open_positions)


def test_who_borrows_must_be_known_and_have_something_to_borrow_against() -> None:
    hand = Hand()
    hand.deposit(1_000)
    hand.sync()
    with pytest.raises(BooksError, match="no credit position whose loan may owe dUSDC"):
        hand.borrow(5)
    hand = lent()
    hand.trade(AUSDC, 100, -100, "new")
    with pytest.raises(BooksError, match="positions 1 and 2"):
        hand.borrow(5)
    with pytest.raises(BooksError, match="no credit position"):
        hand.borrow(-5)


def test_a_debt_that_breaks_the_first_law_is_told() -> None:
    hand = lent()
    before = hand.books
    hand.borrow(100)
    _, tracker = debt_of(hand)
    tracker.last_token_amount += 1
    drawn = statements(before, hand.books, hand.books, hand.ledger, hand.ledger.head)
    told = [
        one.sentence
        for one in sums_add_up(Checkpoint(before=before, books=hand.books, statements=drawn, found_at=place(1)))
    ]
    assert any("The debt of position 1 does not add up" in one for one in told)


# -- taking trades out again


def undone(hand: Hand, *trades: BookedTrade) -> tuple[Books, Books]:
    """Books after trades were booked and taken out again, and before."""
    start = books = hand.books
    undos = []
    for trade in trades:
        undos.append(undo_of(books, trade))
        books = book_trade(books, trade)
    return orphan_trades(books, undos, hand.time(0)), start


def test_what_was_taken_out_is_as_if_it_had_never_been_but_for_failed_trades_and_ids() -> None:
    hand = lent()
    hand.rebase("aUSDC", 8)
    hand.sync()
    hand.sync_interest()
    books, start = undone(hand, *trades_of(hand))
    position, was = books.portfolio.open_positions[1], start.portfolio.open_positions[1]
    assert (was.loan, was.quantity, was.last_token_price, was.last_pricing_at) == (
        position.loan,
        position.quantity,
        position.last_token_price,
        position.last_pricing_at,
    )
    assert start.portfolio.reserves == books.portfolio.reserves
    assert [None, *[hand.time(0)] * 3] == [trade.failed_at for trade in position.trades]
    assert start.portfolio.next_trade_id + 3 == books.portfolio.next_trade_id


def trades_of(hand: Hand) -> list[BookedTrade]:
    """A borrow, its repayment, and the close of position 1, none of them booked."""
    given = hand.foreteller
    hand.foreteller = given.copy()
    trades = [hand.borrow(100), hand.borrow(-100), hand.close(1, 408)]
    hand.foreteller = given
    return trades


def test_a_trade_that_books_do_not_have_cannot_be_taken_out() -> None:
    hand = lent()
    trade = hand.trade(WETH, 5, -5)
    undo = undo_of(lent().books, trade)
    with pytest.raises(BooksError, match="no position 2"):
        orphan_trades(lent().books, [undo], hand.time(0))
    with pytest.raises(BooksError, match="lacks trade 9"):
        orphan_trades(hand.books, [replace(undo, trade_id=9)], hand.time(0))
