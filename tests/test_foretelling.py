"""Books through reorganisations: what goes, what stays, what is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest

from harness.errors import BooksError
from harness.ledger.foretelling import HASHES_KEPT
from tests.hand_ledger import AUSDC, USDC, WETH, Hand


def reserve_of(hand: Hand) -> Decimal:
    return hand.books.portfolio.reserves[USDC.identifier].quantity


def synced(blocks: int) -> Hand:
    """A deposit in block 3, and a treasury sync so many blocks later."""
    hand = Hand()
    hand.deposit(1_000)
    hand.sync()
    for _ in range(blocks):
        hand.block()
    return hand


def test_updates_refs_and_checkpoints_of_replaced_blocks_go() -> None:
    hand = synced(0)
    hand.deposit(500)
    hand.sync()
    hand.reorganise(3)
    assert Decimal("0.001500") == reserve_of(hand), "until an operation runs, books are as they were"
    hand.block()
    hand.sync()
    assert (Decimal("0.001000"), None) == (reserve_of(hand), hand.foreteller.pending_rewind)
    assert [("deposit", None, Decimal("0.001000"))] == hand.figures()
    assert [1] == [ref.balance_event_id for ref in hand.books.sync.treasury.balance_update_refs]
    assert (4, 3) == (hand.books.sync.treasury.last_block_scanned, hand.books.portfolio.next_balance_update_id)


def test_what_a_dropped_sync_read_of_blocks_that_stay_is_read_again_with_the_new_cycle() -> None:
    hand = synced(0)
    hand.deposit(7)
    hand.block()
    hand.sync()
    hand.reorganise(4)
    hand.block()
    hand.block()
    hand.sync()
    assert (3, hand.time(6)) == (hand.updates()[1].balance_update_id, hand.updates()[1].strategy_cycle_included_at)


def test_a_reorganisation_above_all_that_was_scanned_changes_nothing() -> None:
    hand = synced(3)
    hand.reorganise(4)
    books = hand.books
    hand.block()
    assert Decimal("0.001000") == reserve_of(hand)
    hand.sync()
    assert (
        books.portfolio.reserves[USDC.identifier].balance_updates
        == hand.books.portfolio.reserves[USDC.identifier].balance_updates
    )
    hand.block()
    hand.sync()
    assert (6, None) == (hand.books.sync.treasury.last_block_scanned, hand.foreteller.pending_rewind)


def test_a_head_that_shows_no_other_block_is_one_that_is_behind() -> None:
    hand = synced(3)
    hand.sync()
    hand.reorganise(4)
    assert "head 4 is below the last block scanned, 6" in hand.refusal("sync")
    hand.block()
    assert "no block 6" in hand.refusal("sync", end_block=6)
    hand.sync()
    assert 5 == hand.books.sync.treasury.last_block_scanned


def test_no_block_in_common_is_refused_and_changes_nothing() -> None:
    hand = Hand()
    hand.block()
    hand.sync()
    hand.reorganise(1)
    books = hand.books
    for _ in range(3):
        hand.block()
    assert "keep no hash so far back" in hand.refusal("sync")
    assert (1, books) == (hand.foreteller.pending_rewind, hand.books)


@pytest.mark.parametrize(("below", "refused"), [(HASHES_KEPT - 1, False), (HASHES_KEPT, True)])
def test_so_many_hashes_are_kept(below: int, refused: bool) -> None:
    hand = synced(0)
    hand.sync()
    for _ in range(200):
        hand.block()
    hand.sync()
    head = hand.ledger.head
    hand.reorganise(head - below)
    while hand.ledger.head <= head:
        hand.block()
    if refused:
        assert "no hash so far back" in hand.refusal("sync")
    else:
        hand.sync()


def test_hashes_that_were_forgotten_do_not_come_back_with_a_rewind() -> None:
    hand = synced(300)
    hand.sync(end_block=200)
    hand.sync()
    hand.reorganise(239)
    hand.block()
    hand.sync()
    hand.reorganise(175)
    for _ in range(70):
        hand.block()
    assert "no hash so far back" in hand.refusal("sync")


def test_interest_after_the_treasury_was_lost_is_refused_and_a_correction_rewinds() -> None:
    hand = synced(0)
    hand.deposit(5)
    hand.sync()
    hand.reorganise(3)
    hand.block()
    hand.move("donated", "USDC", 9)
    assert "the treasury stands at block 3, not 5" in hand.refusal("sync_interest")
    assert 3 == hand.foreteller.pending_rewind, "what is refused leaves books as they are"
    hand.correct()
    assert [("deposit", None, Decimal("0.001000")), ("correction", None, Decimal("0.000009"))] == hand.figures()


def test_the_last_distribution_goes_with_its_block_and_the_one_before_does_not_come_back() -> None:
    hand = synced(0)
    hand.trade(AUSDC, 500, -500)
    hand.sync()
    hand.sync_interest()
    hand.rebase("aUSDC", 3)
    hand.sync()
    hand.sync_interest()
    kept = hand.foreteller.copy()
    hand.reorganise(4)
    hand.block()
    hand.block()
    hand.sync()
    interest = hand.books.sync.interest
    assert (4, hand.time(4), None) == (interest.last_sync_block, interest.last_sync_at, interest.last_distribution)
    assert 5 == kept.books.sync.interest.last_sync_block, "a copy goes its own way"


def test_a_position_that_an_orphaned_trade_opened_is_void_and_its_id_stays_used() -> None:
    hand = synced(0)
    hand.trade(WETH, 10**15, -100)
    hand.trade(WETH, 10**15, -100)
    hand.reorganise(3)
    position = hand.books.portfolio.closed_positions[1]
    assert position.is_void
    assert (hand.time(3) < position.closed_at, None, None) == (True, position.loan, position.last_token_price)  # type: ignore[operator]
    assert Decimal("0.001000") == reserve_of(hand)
    hand.trade(WETH, 10**15, -100)
    hand.sync()
    assert [2] == list(hand.books.portfolio.open_positions)
    assert [3] == [trade.trade_id for trade in hand.books.portfolio.open_positions[2].trades]


def test_a_trade_that_needs_what_an_orphaned_correction_opened_must_wait_for_a_sync() -> None:
    hand = synced(0)
    hand.move("donated", "WETH", 10**15)
    hand.correct()
    assert [1] == list(hand.books.portfolio.open_positions)
    hand.reorganise(3)
    with pytest.raises(BooksError):
        hand.trade(WETH, 10**15, -100)


def test_a_position_that_a_correction_closed_is_open_again_and_one_it_reopened_closed() -> None:
    hand = synced(0)
    hand.trade(WETH, 5, -10)
    hand.trade(AUSDC, 5, -10)
    hand.trade(AUSDC, -5, 10)
    hand.sync()
    block = hand.ledger.head
    hand.move("taken", "WETH", -5)
    hand.move("donated", "aUSDC", 7)
    hand.correct()
    portfolio = hand.books.portfolio
    assert ([2], [1]) == (list(portfolio.open_positions), list(portfolio.closed_positions))
    hand.reorganise(block)
    hand.block()
    hand.sync()
    portfolio = hand.books.portfolio
    assert ([1], [2]) == (list(portfolio.open_positions), list(portfolio.closed_positions))
    assert (None, hand.time(6)) == (portfolio.open_positions[1].closed_at, portfolio.closed_positions[2].closed_at)
