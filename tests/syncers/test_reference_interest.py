"""The reference syncer's `sync_interest`, and its sums."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.books import Books, dump_books
from harness.books.records import BalanceUpdateCause
from harness.errors import SyncRefused
from harness.syncers.reference.arithmetic import split_by_weight, yearly_rate

USDC = 10**6


def supplied(world: Any, *quantities: int) -> Books:
    """A fund with one credit position per quantity, just bought."""
    world.block(world.deposit(10_000 * USDC))
    books = world.synced()
    for raw in quantities:
        books = world.supplied(books, raw, paid=raw)
    return books


def gained(world: Any, books: Books, raw: int, **wait: float) -> Books:
    """Books after a rebase of so many raw units and both syncs."""
    world.wait = int(timedelta(**wait).total_seconds())
    world.rebase(world.ausdc, raw)
    world.block()
    return world.interest(world.synced(books))


def interest(books: Books) -> list[tuple[int, int]]:
    """(position, base units) of each interest update."""
    return [
        (position.position_id, int(update.quantity * USDC))
        for position in books.portfolio.open_positions.values()
        for update in position.balance_updates.values()
        if update.cause is BalanceUpdateCause.interest
    ]


def refused(world: Any, books: Books, text: str, **view: Any) -> None:
    before = dump_books(books)
    with pytest.raises(SyncRefused, match=text):
        world.syncer().sync_interest(world.view(**view), books)
    assert before == dump_books(books)


def test_gain_of_one_position(enzyme):
    books = supplied(enzyme, 9_000 * USDC)
    opened_at = enzyme.time(enzyme.head)
    enzyme.price("aUSDC", 99_000_000)
    books = gained(enzyme, books, 10_000, days=1)
    position, ended_at = books.portfolio.open_positions[1], enzyme.time(enzyme.head)
    (update,) = position.balance_updates.values()

    assert (Decimal("0.01"), Decimal(9_000), 0.0099) == (update.quantity, update.old_balance, update.usd_value)
    assert (ended_at, enzyme.head, opened_at) == (update.block_mined_at, update.block_number, update.previous_update_at)
    absent = (update.strategy_cycle_included_at, update.tx_hash, update.log_index, update.owner_address)
    assert (None, None, None, None) == absent
    assert 2030 == update.created_at.year
    tracker = position.loan.collateral_interest
    assert (Decimal("9000.01"), Decimal("0.01")) == (tracker.last_token_amount, tracker.last_accrued_interest)
    assert (Decimal(9_000), Decimal(9_000)) == (position.loan.collateral.quantity, tracker.opening_amount)
    assert ended_at == tracker.last_event_at == tracker.last_updated_at
    assert (enzyme.head, enzyme.head) == (tracker.last_updated_block_number, books.sync.interest.last_sync_block)
    assert ended_at == books.sync.interest.last_sync_at
    assert 1 == len(books.sync.treasury.balance_update_refs)


def test_distribution_of_the_first_sync_starts_at_the_oldest_opening(enzyme):
    books = supplied(enzyme, 9_000 * USDC, 50 * USDC)
    opened_at = enzyme.time(enzyme.head - 1)
    books = gained(enzyme, books, 905, days=365)
    operation = books.sync.interest.last_distribution
    (data,) = operation.asset_interest_data.values()

    assert (opened_at, enzyme.time(enzyme.head)) == (operation.start, operation.end)
    assert [enzyme.ausdc] == operation.assets
    assert [enzyme.ausdc.identifier] == list(operation.asset_interest_data)
    assert Decimal(9_050) == data.total
    seconds = int(operation.duration.total_seconds())
    rate = float(Fraction(905, 9_050 * USDC) * Fraction(365 * 86_400, seconds))
    assert rate == data.effective_rate == operation.effective_rate


def test_distribution_starts_at_the_last_checkpoint(enzyme):
    books = gained(enzyme, supplied(enzyme, 1_000 * USDC), 5, days=1)
    checkpoint = enzyme.time(enzyme.head)
    operation = gained(enzyme, books, 5, days=1).sync.interest.last_distribution
    assert checkpoint == operation.start


def test_rate_of_the_operation_weighs_assets_by_worth(enzyme):
    enzyme.reserve = enzyme.ausdc
    enzyme.block(enzyme.deposit(1_000 * USDC))
    books = enzyme.interest(enzyme.synced())
    assert 0.0 == books.sync.interest.last_distribution.effective_rate
    enzyme.wait = 365 * 86_400 - 12
    enzyme.rebase(enzyme.ausdc, 20 * USDC)
    enzyme.price("aUSDC", 50_000_000)
    enzyme.block()
    operation = enzyme.interest(enzyme.synced(books)).sync.interest.last_distribution
    assert 0.02 == operation.effective_rate


@pytest.mark.parametrize(
    ("quantities", "gain", "parts"),
    [
        ((600 * USDC, 400 * USDC), 10 * USDC, [(1, 6 * USDC), (2, 4 * USDC)]),
        ((100, 100, 100), 10, [(1, 4), (2, 3), (3, 3)]),
        ((100, 100, 100), 1, [(1, 1)]),
        ((100, 100, 100), -2, [(1, -1), (2, -1)]),
        ((100, 300), 2, [(1, 1), (2, 1)]),
        ((100, 100), 0, []),
    ],
)
def test_gain_is_split_by_base_exactly(enzyme, quantities, gain, parts):
    assert parts == interest(gained(enzyme, supplied(enzyme, *quantities), gain))


def test_position_without_a_part_keeps_its_stamps(enzyme):
    books = gained(enzyme, supplied(enzyme, 100, 100), 1)
    first, second = (position.loan.collateral_interest for position in books.portfolio.open_positions.values())
    assert (enzyme.head, enzyme.head - 1) == (first.last_updated_block_number, second.last_updated_block_number)


def test_base_counts_what_redemptions_took(enzyme):
    books = supplied(enzyme, 1_000, 1_000)
    enzyme.block(enzyme.redeem([(enzyme.ausdc, 1_500)]))
    books = gained(enzyme, books, 100)
    assert [(1, 50), (2, 50)] == interest(books)
    assert Decimal("0.002") == books.sync.interest.last_distribution.asset_interest_data[enzyme.ausdc.identifier].total
    books = gained(enzyme, books, 10)
    total = books.sync.interest.last_distribution.asset_interest_data[enzyme.ausdc.identifier].total
    assert Decimal("0.0006") == total, "redemptions before the last interest sync count no more"


def test_unsynced_interest_paid_out_is_still_interest(enzyme):
    """A redemption pays part of what has accrued; the gain is whole all the same."""
    books = supplied(enzyme, 1_000)
    enzyme.rebase(enzyme.ausdc, 40)
    enzyme.block(enzyme.redeem([(enzyme.ausdc, 1_040)]))
    books = gained(enzyme, books, 0)
    assert [(1, 40)] == interest(books)
    assert 0 == books.portfolio.open_positions[1].quantity_raw


def test_rebase_reserve_takes_part_before_any_position(enzyme, updates):
    enzyme.reserve = enzyme.ausdc
    enzyme.block(enzyme.deposit(1_000))
    enzyme.block(enzyme.redeem([(enzyme.ausdc, 400)]))
    enzyme.rebase(enzyme.ausdc, 50)
    enzyme.block()
    books = enzyme.interest(enzyme.synced())
    update = updates(books)[-1]
    assert (Decimal("0.00005"), Decimal("0.0006"), None) == (update.quantity, update.old_balance, update.position_id)
    assert ("reserve", None) == (update.position_type, update.previous_update_at)
    assert Decimal("0.00065") == next(iter(books.portfolio.reserves.values())).quantity
    assert Decimal("0.001") == books.sync.interest.last_distribution.asset_interest_data[enzyme.ausdc.identifier].total


@pytest.mark.parametrize("sign", [1, -1])
def test_exactly_the_bound_passes(enzyme, sign):
    assert [(1, sign * 50)] == interest(gained(enzyme, supplied(enzyme, 1_000), sign * 50))


@pytest.mark.parametrize("gain", [51, -51])
def test_gain_beyond_the_bound_is_refused_with_the_figures(enzyme, gain):
    books = supplied(enzyme, 1_000)
    enzyme.rebase(enzyme.ausdc, gain)
    enzyme.block()
    text = rf"aUSDC: a gain of {gain} \(-?0\.000051 aUSDC\) on a base of 1000 .* beyond the bound of 0\.05"
    refused(enzyme, enzyme.synced(books), text)


@pytest.mark.parametrize("left", [2, -2])
def test_units_without_a_base_are_left_to_a_correction(enzyme, left):
    books = gained(enzyme, supplied(enzyme, 1_000), 0)
    enzyme.block(enzyme.redeem([(enzyme.ausdc, 1_000)]))
    books = gained(enzyme, books, 0)
    enzyme.rebase(enzyme.ausdc, left)
    enzyme.block()
    books = enzyme.interest(enzyme.synced(books))
    assert [] == interest(books)
    operation = books.sync.interest.last_distribution
    assert (Decimal(0), 0.0) == (operation.asset_interest_data[enzyme.ausdc.identifier].total, operation.effective_rate)
    assert enzyme.head == books.sync.interest.last_sync_block
    enzyme.rebase(enzyme.ausdc, left // 2)
    enzyme.block()
    refused(enzyme, enzyme.synced(books), "on a base of 0")


def test_without_rebase_assets_only_the_checkpoint_moves(world):
    world.block(world.deposit(5 * USDC))
    before = world.synced()
    after = world.interest(before)
    assert (world.head, world.time(world.head)) == (
        after.sync.interest.last_sync_block,
        after.sync.interest.last_sync_at,
    )
    assert after.sync.interest.last_distribution is None
    after.sync.interest = before.sync.interest
    after.block_hashes = before.block_hashes
    assert dump_books(before) == dump_books(after)


def test_interest_at_the_same_block_again_changes_nothing(enzyme):
    books = gained(enzyme, supplied(enzyme, 1_000), 7)
    assert dump_books(books) == dump_books(enzyme.interest(books))


def test_treasury_at_another_block_is_refused(enzyme):
    refused(enzyme, enzyme.initialised(), "the treasury has not been synced")
    books = enzyme.synced()
    enzyme.blocks(2)
    refused(enzyme, books, "interest to block 4: the treasury stands at block 2")
    refused(enzyme, enzyme.synced(books), "the treasury stands at block 4", end_block=3)


def test_earlier_block_is_refused(enzyme):
    enzyme.blocks(2)
    books = enzyme.interest(enzyme.synced())
    refused(enzyme, books, "synced to block 4, after the end block 3", end_block=3)


def test_missing_feed_is_refused(enzyme):
    books = enzyme.synced(supplied(enzyme, 1_000))
    target = enzyme.target
    feeds = {asset: feed for asset, feed in target.feeds.items() if asset != enzyme.ausdc}
    syncer = type(enzyme.syncer())(dataclasses.replace(target, feeds=feeds))
    with pytest.raises(SyncRefused, match="no price feed for 1337-0x"):
        syncer.sync_interest(enzyme.view(), books)


# -- sums


@given(st.integers(-(10**30), 10**30), st.lists(st.integers(-5, 10**24), min_size=1, max_size=8))
def test_split_adds_up_and_is_fair(total, weights):
    parts = split_by_weight(total, weights)
    assert total == sum(parts)
    sizes = [max(weight, 0) for weight in weights]
    if sum(sizes):
        assert all(abs(part - Fraction(total * size, sum(sizes))) < 1 for part, size in zip(parts, sizes, strict=True))
        assert all(part * total >= 0 for part in parts)
    else:
        assert [total] + [0] * (len(weights) - 1) == parts


@pytest.mark.parametrize(("gain", "base", "days", "rate"), [(1, 100, 365, 0.01), (1, 0, 365, 0.0), (1, 100, 0, 0.0)])
def test_yearly_rate(gain, base, days, rate):
    assert rate == yearly_rate(gain, base, timedelta(days=days))
