"""The reconciliation statement: it adds up, and says why the chain may rightly differ."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from harness.books import Books, copy_books
from harness.ledger.facts import MoveKind
from harness.reconcile.diff import ItemKind, Statement
from harness.reconcile.statement import statements
from tests.hand_ledger import ASSETS, AUSDC, USDC, WETH, Hand, full_history, prices


def drawn(hand: Hand, before: Books | None = None, actual: Books | None = None) -> dict[str, Statement]:
    found = statements(before or Books(), actual or hand.books, hand.books, hand.ledger, hand.ledger.head)
    return {one.token.symbol: one for one in found}


def items(statement: Statement) -> dict[str, int]:
    return {str(item.kind): item.raw for item in statement.items}


def test_each_asset_comes_from_opening_to_closing() -> None:
    hand = full_history()
    prices(hand, {"WETH": "1234.5"})
    found = drawn(hand)
    usdc = found["USDC"]
    assert ["USDC", "aUSDC", "WETH"] == list(found)
    assert (0, 1_007_000_000, -44_700_000, 0, -560_000_000, 0, 402_300_000, 402_300_000) == (
        usdc.opening,
        usdc.deposits,
        usdc.redemptions,
        usdc.interest,
        usdc.trades,
        usdc.corrections,
        usdc.closing,
        usdc.on_chain,
    )
    ausdc = found["aUSDC"]
    assert (-40_000_000, 3_600_001, 400_000_000, 363_600_001) == (
        ausdc.redemptions,
        ausdc.interest,
        ausdc.trades,
        ausdc.closing,
    )
    assert Fraction(2469, 2) == found["WETH"].price
    for one in found.values():
        assert (0, 0, 0, ()) == (one.unaccounted, one.difference, one.unexplained, one.items)


def test_the_opening_is_what_the_books_held_before() -> None:
    hand = full_history()
    before = copy_books(hand.books)
    hand.deposit(5)
    hand.sync()
    usdc = drawn(hand, before)["USDC"]
    assert (402_300_000, 5, 0, 402_300_005) == (usdc.opening, usdc.deposits, usdc.trades, usdc.closing)


def test_an_asset_that_nobody_has_gets_no_statement() -> None:
    hand = Hand()
    hand.sync()
    assert ["USDC"] == list(drawn(hand))
    hand.move("donated", "WETH", 1)
    assert ["USDC", "WETH"] == list(drawn(hand))


@pytest.mark.parametrize(
    ("kind", "raw", "item"),
    [
        ("donated", 5, ItemKind.donated),
        ("taken", -6, ItemKind.taken),
        ("rounded", -1, ItemKind.rounded),
        ("rebase", 9, ItemKind.interest_not_synced),
    ],
)
def test_moves_that_no_treasury_sync_sees_explain_the_difference(kind: MoveKind, raw: int, item: ItemKind) -> None:
    hand = Hand()
    hand.deposit(100)
    hand.sync()
    hand.move(kind, "USDC", raw)
    usdc = drawn(hand)["USDC"]
    assert (raw, {str(item): raw}, 0) == (usdc.difference, items(usdc), usdc.unexplained)


def test_flows_that_are_not_synced_yet_explain_the_difference() -> None:
    hand = Hand()
    hand.deposit(100)
    hand.sync()
    hand.deposit(7)
    hand.redeem(("USDC", 20))
    usdc = drawn(hand)["USDC"]
    assert (-13, {"flow not yet synced": -13}, 0) == (usdc.difference, items(usdc), usdc.unexplained)


def test_interest_takes_in_what_came_before_it() -> None:
    hand = full_history()
    hand.move("donated", "aUSDC", 11)
    assert {"donated": 11} == items(drawn(hand)["aUSDC"])
    hand.sync()
    hand.sync_interest()
    hand.rebase("aUSDC", -3)
    ausdc = drawn(hand)["aUSDC"]
    assert ({"interest not yet synced": -3}, 0) == (items(ausdc), ausdc.unexplained)


def test_dust_legs_that_are_skipped_explain_the_difference_listed_or_not() -> None:
    hand = Hand(dust_absolute={"USDC": Decimal(0), "aUSDC": Decimal(1), "WETH": Decimal(1)})
    hand.move("donated", "WETH", 10)
    hand.redeem(("USDC", 1), ("WETH", 4))
    hand.redeem(("WETH", 3))  # has no update that could list it
    hand.sync()
    weth = drawn(hand)["WETH"]
    assert ({"donated": 10, "dust leg, skipped": -7}, 3, 0) == (items(weth), weth.difference, weth.unexplained)


def test_a_dust_leg_from_before_the_interest_is_taken_in_by_it() -> None:
    hand = Hand(dust_absolute={"USDC": Decimal(0), "aUSDC": Decimal(1), "WETH": Decimal(1)})
    hand.deposit(1_000)
    hand.move("donated", "aUSDC", 10)
    hand.redeem(("USDC", 1), ("aUSDC", 4))
    hand.sync()
    hand.trade(AUSDC, 500, -500)
    hand.block()
    hand.sync()
    hand.sync_interest()
    ausdc = drawn(hand)["aUSDC"]
    assert (0, {}, 0) == (ausdc.difference, items(ausdc), ausdc.unexplained)


def test_a_syncers_mistake_stays_unexplained() -> None:
    hand = full_history()
    actual = copy_books(hand.books)
    actual.portfolio.reserves[USDC.identifier].quantity -= 1
    usdc = drawn(hand, actual=actual)["USDC"]
    assert (1_000_000, 1_000_000, -1_000_000) == (usdc.difference, usdc.unexplained, usdc.unaccounted)


def test_a_trade_that_failed_moves_nothing() -> None:
    hand = Hand()
    hand.deposit(1_000)
    hand.sync()
    hand.trade(WETH, 10, -10)
    actual = copy_books(hand.books)
    actual.portfolio.open_positions[1].trades[0].failed_at = hand.time(4)
    assert [0, 0] == [drawn(hand, actual=actual)[symbol].trades for symbol in ("USDC", "WETH")]
    assert [-10, 10] == [drawn(hand)[symbol].trades for symbol in ("USDC", "WETH")]


def test_a_debt_has_a_statement_of_its_own_and_the_reserve_shows_what_was_borrowed() -> None:
    hand = Hand()
    hand.deposit(1_000)
    hand.sync()
    hand.trade(AUSDC, 400, -400)
    before = hand.books
    hand.borrow(100)
    hand.borrow(-40)
    hand.rebase("dUSDC", 2)
    hand.sync()
    found = drawn(hand, before)
    owed = found["dUSDC"]
    assert (0, 60, 60, 62) == (owed.opening, owed.trades, owed.closing, owed.on_chain)
    assert [(ItemKind.interest_not_synced, 2)] == [(item.kind, item.raw) for item in owed.items]
    reserve = found["USDC"]
    assert (600, 60, 660, 0) == (reserve.opening, reserve.trades, reserve.closing, reserve.unaccounted)


def test_a_flow_that_a_correction_owns_is_a_reason_by_itself() -> None:
    hand = Hand(dust_relative=dict.fromkeys(ASSETS, Decimal("0.1")))
    hand.deposit(1_000)
    hand.sync()
    hand.deposit(50)
    hand.correct()
    (reserve,) = statements(hand.books, hand.books, hand.books, hand.ledger, hand.ledger.head)
    assert [(ItemKind.owned, 50)] == [(item.kind, item.raw) for item in reserve.items]
    assert 0 == reserve.unexplained


def test_what_orphaned_blocks_left_is_a_reason_until_it_is_dropped_and_a_row_then() -> None:
    hand = Hand()
    hand.deposit(1_000)
    hand.sync()
    hand.deposit(50)
    hand.trade(WETH, 10, -100)
    hand.sync()
    before = hand.books
    hand.reorganise(3)
    hand.deposit(7)
    hand.block()
    between = statements(before, hand.books, hand.books, hand.ledger, hand.ledger.head, rewinds=3)
    reserve = between[0]
    assert (950, 100, 1_050, 1_007) == (reserve.opening, reserve.orphaned, reserve.closing, reserve.on_chain)
    assert {ItemKind.orphaned: -50, ItemKind.flow_not_synced: 7} == {item.kind: item.raw for item in reserve.items}
    assert [0, 0] == [one.unexplained for one in between]
    hand.sync()
    reserve, weth = statements(before, hand.books, hand.books, hand.ledger, hand.ledger.head)
    assert (950, 7, 50, 1_007, ()) == (
        reserve.opening,
        reserve.deposits,
        reserve.orphaned,
        reserve.closing,
        reserve.items,
    )
    assert (10, -10, 0) == (weth.opening, weth.orphaned, weth.closing)
    assert [0, 0] == [reserve.unaccounted, weth.unaccounted]
