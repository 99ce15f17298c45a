"""Corrections, sentence by sentence, on ledgers written by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from harness.books import CREDIT, SPOT, copy_books
from harness.books.records import BalanceUpdate
from harness.ledger.bookkeeping import CLOCK
from harness.ledger.corrections import is_dust
from tests.hand_ledger import ASSETS, AUSDC, USDC, WETH, Hand


def started(**changes: object) -> Hand:
    hand = Hand(**changes)
    hand.deposit(1_000_000)
    hand.sync()
    return hand


def test_a_correction_is_one_update_with_all_its_fields_and_one_ref_in_accounting() -> None:
    hand = started()
    hand.move("donated", "USDC", 2_500_000)
    hand.correct()
    update = hand.updates()[-1]
    assert update == BalanceUpdate(
        balance_update_id=2,
        cause=update.cause,
        position_type=update.position_type,
        asset=USDC,
        block_mined_at=hand.time(4),
        strategy_cycle_included_at=None,
        chain_id=1337,
        quantity=Decimal("2.5"),
        old_balance=Decimal("1"),
        usd_value=2.5,
        created_at=CLOCK,
        block_number=4,
    )
    accounting, treasury = hand.books.sync.accounting, hand.books.sync.treasury
    assert ("correction", "reserve") == (str(update.cause), str(update.position_type))
    assert (CLOCK, 4, 4) == (accounting.last_updated_at, accounting.last_block_scanned, treasury.last_block_scanned)
    assert [(2, 2.5)] == [(ref.balance_event_id, ref.usd_value) for ref in accounting.balance_update_refs]
    assert hand.time(3) == treasury.last_cycle_at
    assert hand.time(3) == hand.books.portfolio.reserves[USDC.identifier].last_sync_at


def test_a_second_run_finds_nothing() -> None:
    hand = started()
    hand.move("donated", "WETH", 10**17)
    hand.move("taken", "USDC", -5)
    first = hand.correct()
    assert first == hand.correct()


def test_what_lay_unsynced_before_it_is_never_booked_as_a_flow_again() -> None:
    hand = started()
    hand.deposit(400_000)
    hand.correct()
    hand.block()
    hand.sync()
    assert [("deposit", None, Decimal("1.000000")), ("correction", None, Decimal("0.400000"))] == hand.figures()


def test_a_correction_before_the_first_treasury_sync_makes_the_reserve() -> None:
    hand = Hand()
    hand.deposit(7)
    hand.correct()
    assert Decimal("0.000007") == hand.books.portfolio.reserves[USDC.identifier].quantity
    assert hand.books.portfolio.reserves[USDC.identifier].last_sync_at is None


@pytest.mark.parametrize(
    ("books", "chain", "absolute", "relative", "dust"),
    [
        (0, 50_000, "0.1", "0.0005", True),
        (0, 100_000, "0.1", "0", True),
        (0, 100_001, "0.1", "0", False),
        (1_000_000_000, 1_000_400_000, "0.1", "0.0005", True),
        (1_000_000_000, 1_000_500_000, "0.1", "0.0005", True),
        (1_000_000_000, 1_000_500_001, "0.1", "0.0005", False),
        (10_000_000, 10_050_000, "0.1", "0.0005", False),
        (5_000_000, 0, "0.1", "0.0005", False),
        (-5_000_000, 0, "0.1", "0.0005", False),
    ],
)
def test_dust_is_where_both_sides_are_small_or_the_difference_is(
    books: int, chain: int, absolute: str, relative: str, dust: bool
) -> None:
    assert dust is is_dust(books, chain, 6, absolute=Decimal(absolute), relative=Decimal(relative))


def test_dust_is_left_alone_and_the_cursor_moves_all_the_same() -> None:
    hand = started(dust_relative=dict.fromkeys(ASSETS, Decimal("0.1")))
    hand.deposit(100_000)
    hand.correct()
    hand.block()
    hand.sync()
    assert [("deposit", None, Decimal("1.000000"))] == hand.figures()


def test_several_positions_share_a_correction_by_what_they_hold() -> None:
    hand = started()
    hand.trade(WETH, 10, -10)
    hand.trade(WETH, 20, -10, "new")
    hand.sync()
    hand.move("taken", "WETH", -7)
    hand.correct()
    assert [("correction", 1, Decimal(-2).scaleb(-18)), ("correction", 2, Decimal(-5).scaleb(-18))] == hand.figures()[
        1:
    ]


def test_a_rebase_assets_weight_counts_what_was_redeemed_since_the_last_interest() -> None:
    hand = started()
    hand.trade(AUSDC, 100, -100)
    hand.trade(AUSDC, 100, -100, "new")
    hand.redeem(("aUSDC", 100))
    hand.sync()
    hand.trade(AUSDC, 200, -200, 2)
    hand.move("donated", "aUSDC", 400)
    hand.correct()
    assert [(1, Decimal("0.000100")), (2, Decimal("0.000300"))] == [figure[1:] for figure in hand.figures()[-2:]]


def test_a_correction_to_zero_closes_and_what_comes_back_opens_the_last_closed_one_again() -> None:
    hand = started()
    hand.trade(WETH, 5, -10)
    hand.trade(WETH, 6, -10, "new")
    hand.trade(WETH, -6, 10, 2)
    hand.sync()
    hand.move("taken", "WETH", -5)
    hand.correct()
    closed = hand.books.portfolio.closed_positions
    assert ([], {1, 2}) == (list(hand.books.portfolio.open_positions), set(closed))
    assert hand.time(hand.ledger.head) == closed[1].closed_at
    hand.move("donated", "WETH", 3)
    hand.correct()
    position = hand.books.portfolio.open_positions[1]
    assert (None, 3) == (position.closed_at, position.quantity_raw)


@pytest.mark.parametrize(("asset", "kind"), [(WETH, SPOT), (AUSDC, CREDIT)])
def test_a_token_that_was_never_held_opens_a_position(asset: object, kind: str) -> None:
    hand = started()
    symbol = asset.token_symbol  # type: ignore[attr-defined]
    hand.move("donated", symbol, 10**6)
    hand.correct()
    position, at = hand.books.portfolio.open_positions[1], hand.time(4)
    assert (asset, USDC, kind, USDC) == (
        position.pair.base,
        position.pair.quote,
        position.pair.kind,
        position.reserve_currency,
    )
    price = 1600.0 if symbol == "WETH" else 1.0
    assert (at, price, at, [], 10**6) == (
        position.opened_at,
        position.last_token_price,
        position.last_pricing_at,
        position.trades,
        position.quantity_raw,
    )
    assert 2 == hand.books.portfolio.next_position_id
    if position.loan is None:
        assert kind == SPOT
        return
    assert position.loan.collateral is not None
    tracker = position.loan.collateral_interest
    assert tracker is not None
    assert (Decimal(1), at) == (position.loan.collateral.quantity, position.loan.collateral.created_at)
    assert (Decimal(1), Decimal(1), 4, at) == (
        tracker.opening_amount,
        tracker.last_token_amount,
        tracker.last_updated_block_number,
        tracker.last_event_at,
    )


def test_a_credit_positions_principal_and_tracked_amount_move() -> None:
    hand = started()
    hand.trade(AUSDC, 100, -100)
    hand.rebase("aUSDC", 2)
    hand.sync()
    hand.sync_interest()
    hand.move("taken", "aUSDC", -40)
    hand.correct()
    loan = hand.books.portfolio.open_positions[1].loan
    assert loan is not None
    assert loan.collateral is not None
    assert loan.collateral_interest is not None
    assert ("0.000060", "0.000062", "0.000002", 6) == (
        str(loan.collateral.quantity),
        str(loan.collateral_interest.last_token_amount),
        str(loan.collateral_interest.last_accrued_interest),
        loan.collateral_interest.last_updated_block_number,
    )


def test_a_correction_is_refused_while_a_trade_is_pending_or_below_the_cursor() -> None:
    hand = started()
    hand.trade(WETH, 5, -10)
    hand.sync()
    assert "read up to block 4 already" in hand.refusal("correct_accounts", end_block=3)
    books = copy_books(hand.books)
    books.portfolio.open_positions[1].trades[0].executed_at = None
    hand.books = books
    assert "trade 1 is neither executed nor failed" in hand.refusal("correct_accounts")
    books.portfolio.open_positions[1].trades[0].failed_at = hand.time(4)
    hand.correct()


def test_a_void_position_is_not_opened_again() -> None:
    hand = started()
    hand.trade(WETH, 5, -10)
    hand.reorganise(3)
    hand.move("donated", "WETH", 5)
    hand.correct()
    assert ([2], [1]) == (list(hand.books.portfolio.open_positions), list(hand.books.portfolio.closed_positions))


def test_a_debt_that_nobody_owes_is_refused() -> None:
    hand = started()
    hand.move("rebase", "dUSDC", 5)
    assert "dUSDC is owed on chain" in hand.refusal("correct_accounts")
