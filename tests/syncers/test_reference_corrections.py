"""The reference syncer's `correct_accounts`, on histories written by hand."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from harness.books import Books, dump_books, load_books
from harness.books.records import AssetIdentifier, BalanceUpdateCause, Position, Trade
from harness.errors import SyncRefused
from harness.syncers import Dust

USDC = 10**6


def corrected(world: Any, books: Books, **view: Any) -> Books:
    return world.syncer().correct_accounts(world.view(**view), load_books(dump_books(books)))


def corrections(books: Books) -> list[Any]:
    holders = (
        *books.portfolio.reserves.values(),
        *books.portfolio.open_positions.values(),
        *books.portfolio.closed_positions.values(),
    )
    found = [update for holder in holders for update in holder.balance_updates.values()]
    return sorted(
        (update for update in found if update.cause is BalanceUpdateCause.correction),
        key=lambda update: update.balance_update_id,
    )


def test_gift_is_booked_as_a_correction(world, who):
    world.block(world.deposit(5 * USDC))
    books = world.synced()
    world.price("USDC", 99_000_000)
    world.block([world.transfer(world.usdc, who("carol"), world.vault, 2 * USDC)])
    world.block()
    after = corrected(world, books)
    (update,), (ref,) = corrections(after), after.sync.accounting.balance_update_refs
    assert (Decimal(2), Decimal(5), 1.98) == (update.quantity, update.old_balance, update.usd_value)
    assert (5, world.time(5), None) == (update.block_number, update.block_mined_at, update.position_id)
    assert [None] * 4 == [update.strategy_cycle_included_at, update.tx_hash, update.log_index, update.owner_address]
    assert (update.balance_update_id, None, 1.98) == (
        ref.balance_event_id,
        ref.strategy_cycle_included_at,
        ref.usd_value,
    )
    assert (5, 5) == (after.sync.accounting.last_block_scanned, after.sync.treasury.last_block_scanned)
    assert 2030 == after.sync.accounting.last_updated_at.year
    assert books.sync.treasury.balance_update_refs == after.sync.treasury.balance_update_refs
    assert [Decimal(7)] == [reserve.quantity for reserve in after.portfolio.reserves.values()]


def test_second_run_finds_nothing(world):
    world.block(world.deposit(5 * USDC))
    world.rebase(world.weth, 3)
    world.block()
    once = corrected(world, world.initialised())
    twice = corrected(world, once)
    assert 2 == len(corrections(twice))
    once.sync.accounting.last_updated_at = twice.sync.accounting.last_updated_at
    once.block_hashes = twice.block_hashes
    assert dump_books(once) == dump_books(twice)


def test_balances_are_those_of_the_end_block(world):
    books = world.synced()
    world.rebase(world.usdc, 3 * USDC)
    world.block()
    world.rebase(world.usdc, 8 * USDC)
    world.block()
    assert [Decimal(3)] == [update.quantity for update in corrections(corrected(world, books, end_block=3))]


def test_unsynced_flows_are_owned_by_the_correction(world, updates):
    world.block(world.deposit(5 * USDC))
    books = corrected(world, world.initialised())
    world.block(world.deposit(6 * USDC))
    told = [(update.cause.value, update.quantity) for update in updates(world.synced(books))]
    assert [("correction", Decimal(5)), ("deposit", Decimal(6))] == told


@pytest.mark.parametrize(
    ("dust", "booked", "more", "is_corrected"),
    [
        ({"absolute": Decimal("0.000010")}, 6, 4, False),
        ({"absolute": Decimal("0.000010")}, 6, 5, True),
        ({"absolute": Decimal("0.000010")}, 11, -1, True),
        ({"relative": Decimal("0.01")}, 1_000, 10, False),
        ({"relative": Decimal("0.01")}, 1_000, -10, False),
        ({"relative": Decimal("0.01")}, 1_000, 11, True),
        ({"relative": Decimal("0.01")}, 1_000, -11, True),
        ({"relative": Decimal(1)}, 0, 1, True),
        ({}, 1_000, 1, True),
    ],
)
def test_dust_is_left(world, dust, booked, more, is_corrected):
    world.dust[world.usdc] = Dust(**dust)
    world.block(world.deposit(booked))
    books = world.synced()
    world.rebase(world.usdc, more)
    world.block()
    assert is_corrected == bool(corrections(corrected(world, books)))


def test_debt_beyond_the_books_is_no_dust(world):
    """Dust is little on both sides, and what was paid out beyond the books is not little."""
    world.dust[world.usdc] = Dust(absolute=Decimal(1))
    world.block(world.redeem([(world.usdc, 50 * USDC)]))
    books = world.synced()
    world.rebase(world.usdc, 50 * USDC)
    world.block()
    assert [Decimal(50)] == [update.quantity for update in corrections(corrected(world, books))]


@pytest.mark.parametrize(("symbol", "kind"), [("weth", "spot_market_hold"), ("ausdc", "credit_supply")])
def test_token_nobody_holds_opens_a_position(enzyme, symbol, kind):
    token: AssetIdentifier = getattr(enzyme, symbol)
    books = enzyme.synced()
    enzyme.rebase(token, 70)
    enzyme.block()
    after = corrected(enzyme, books)
    (position,) = after.portfolio.open_positions.values()
    assert (1, kind, []) == (position.position_id, position.pair.kind, position.trades)
    assert (token, enzyme.usdc, enzyme.usdc) == (position.pair.base, position.pair.quote, position.reserve_currency)
    assert enzyme.time(3) == position.opened_at == position.last_pricing_at
    assert enzyme.prices[token.token_symbol] / 1e8 == position.last_token_price
    assert (70, 2) == (position.quantity_raw, after.portfolio.next_position_id)
    (ref,) = after.sync.accounting.balance_update_refs
    assert (1, "open_position") == (ref.position_id, ref.position_type)
    if token.is_rebase():
        loan, amount = position.loan, Decimal("0.000070")
        assert (amount, enzyme.time(3)) == (loan.collateral.quantity, loan.collateral.created_at)
        tracker = loan.collateral_interest
        assert (amount, amount, 0) == (
            tracker.last_token_amount,
            tracker.opening_amount,
            tracker.last_accrued_interest,
        )
        assert (3, enzyme.time(3)) == (tracker.last_updated_block_number, tracker.last_event_at)
    else:
        assert position.loan is None


def test_last_closed_position_is_opened_again(enzyme):
    books = enzyme.synced()
    for _ in range(2):
        enzyme.rebase(enzyme.weth, 70)
        enzyme.block()
        books = corrected(enzyme, books)
        enzyme.rebase(enzyme.weth, -70)
        enzyme.block()
        books = corrected(enzyme, books)
    (position,) = books.portfolio.closed_positions.values()
    assert (1, enzyme.time(6), 0) == (position.position_id, position.closed_at, position.quantity)
    other = Position(
        position_id=2, pair=position.pair, opened_at=enzyme.time(2), closed_at=enzyme.time(6) - timedelta(seconds=1)
    )
    void = Position(
        position_id=3,
        pair=position.pair,
        trades=[Trade(trade_id=1, executed_at=enzyme.time(6), failed_at=enzyme.time(6))],
        closed_at=enzyme.time(6) + timedelta(seconds=1),
    )
    books.portfolio.closed_positions.update({2: other, 3: void})
    books.portfolio.next_position_id = 4
    enzyme.rebase(enzyme.weth, 5)
    enzyme.block()
    after = corrected(enzyme, books)
    assert ([1], [2, 3]) == (list(after.portfolio.open_positions), sorted(after.portfolio.closed_positions))
    assert (None, 5) == (after.portfolio.open_positions[1].closed_at, after.portfolio.open_positions[1].quantity_raw)


def test_difference_is_split_as_a_redemption_is(enzyme):
    enzyme.block(enzyme.deposit(10_000))
    books = enzyme.synced()
    for raw in (600, 300, 100):
        books = enzyme.supplied(books, raw, paid=raw)
    books = enzyme.synced(books)
    enzyme.rebase(enzyme.ausdc, -7)
    enzyme.block()
    after = corrected(enzyme, books)
    told = [(int(one.quantity * USDC), one.position_id, int(one.old_balance * USDC)) for one in corrections(after)]
    assert [(-4, 1, 600), (-2, 2, 300), (-1, 3, 100)] == told
    for position in after.portfolio.open_positions.values():
        loan = position.loan
        assert loan.collateral.quantity == loan.collateral_interest.last_token_amount
        assert position.quantity == loan.collateral.quantity
        assert enzyme.head == loan.collateral_interest.last_updated_block_number


def test_correction_to_nothing_closes(enzyme):
    enzyme.block(enzyme.deposit(10_000))
    books = enzyme.synced()
    for raw in (600, 300):
        books = enzyme.supplied(books, raw, paid=raw)
    enzyme.rebase(enzyme.ausdc, -900)
    enzyme.block()
    after = corrected(enzyme, books)
    assert ([], [1, 2]) == (list(after.portfolio.open_positions), sorted(after.portfolio.closed_positions))
    assert {enzyme.time(enzyme.head)} == {one.closed_at for one in after.portfolio.closed_positions.values()}


def test_pending_trade_is_refused(enzyme):
    enzyme.block(enzyme.deposit(10_000))
    books = enzyme.supplied(enzyme.synced(), 600, paid=600)
    trades = books.portfolio.open_positions[1].trades
    trades.append(Trade(trade_id=2))
    with pytest.raises(SyncRefused, match="trade 2 of position 1 is pending"):
        corrected(enzyme, books)
    trades[1].failed_at = enzyme.time(3)
    assert [] == corrections(corrected(enzyme, books))


def test_correction_below_the_cursor_or_the_deployment_is_refused(world):
    books = world.initialised()
    with pytest.raises(SyncRefused, match="end block 1 lies before the deployment block 2"):
        corrected(world, books, end_block=1)
    world.blocks(3)
    books = world.synced(books)
    with pytest.raises(SyncRefused, match="the treasury stands at block 5 already"):
        corrected(world, books, end_block=4)
    assert 5 == corrected(world, books, end_block=5).sync.treasury.last_block_scanned


def test_books_are_left_alone(world):
    books = world.synced()
    world.rebase(world.usdc, 5)
    world.block()
    before = dump_books(books)
    world.syncer().correct_accounts(world.view(), books)
    assert before == dump_books(books)


def test_difference_that_belongs_nowhere_is_refused(enzyme):
    """A frozen position counts, but no sync moves it."""
    enzyme.block(enzyme.deposit(10_000))
    books = enzyme.supplied(enzyme.synced(), 600, paid=600)
    books.portfolio.frozen_positions[1] = books.portfolio.open_positions.pop(1)
    assert [] == corrections(corrected(enzyme, books))
    enzyme.rebase(enzyme.ausdc, -5)
    enzyme.block()
    with pytest.raises(SyncRefused, match="aUSDC: no open position can take a difference of -5"):
        corrected(enzyme, books)
