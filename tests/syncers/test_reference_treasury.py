"""The reference syncer's `initialise` and `sync_treasury`, on histories written by hand."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from harness.books import Books, dump_books, load_books
from harness.books.records import BalanceUpdateCause, BalanceUpdatePositionType
from harness.errors import SyncRefused
from harness.syncers import Dust

USDC = 10**6
ETHER = 10**18


@pytest.fixture(autouse=True)
def another_zone() -> Iterator[None]:
    """Syncers run where local time is not UTC."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def hash_in(entry: Any) -> str:
    return entry if isinstance(entry, str) else entry["hash"]


def without_clock(books: Books) -> Books:
    """Books that differ only in clock fields become equal."""
    books = load_books(dump_books(books))
    books.sync.treasury.last_updated_at = None
    books.block_hashes = {block: hash_in(entry) for block, entry in books.block_hashes.items()}
    for holder in (*books.portfolio.reserves.values(), *books.portfolio.open_positions.values()):
        for update in holder.balance_updates.values():
            update.created_at = None
    return books


def refused(world: Any, books: Books, text: str, **view: Any) -> None:
    """A treasury sync is refused with this text, and the books it was given are untouched."""
    before = dump_books(books)
    pinned = world.view(**view)
    with pytest.raises(SyncRefused, match=text):
        world.syncer().sync_treasury(pinned, books, books.sync.treasury.last_cycle_at or world.time(2))
    assert before == dump_books(books)


# -- initialise


def test_initialise_fills_the_deployment(world):
    world.blocks(3)
    deployment = world.initialised().sync.deployment

    assert (1337, world.vault, 2) == (deployment.chain_id, deployment.address, deployment.block_number)
    assert deployment.tx_hash == "0x" + world.logs[2][0]["transactionHash"].hex()
    assert (world.time(2), world.time(5)) == (deployment.block_mined_at, deployment.initialised_at)
    assert ("Example Fund", "EXAMPLE") == (deployment.vault_token_name, deployment.vault_token_symbol)


@pytest.mark.parametrize("chunk", [None, 1, 3])
@pytest.mark.parametrize("hint", [0, 2, 3, 6, 400])
def test_deployment_is_found_whatever_the_hint(world, hint, chunk):
    world.blocks(4)
    world.start_block = hint
    books = world.syncer().initialise(world.view(chunk=chunk), Books())
    assert 2 == books.sync.deployment.block_number


def test_vault_that_was_not_deployed_yet_is_refused(world):
    with pytest.raises(SyncRefused, match="no deployment event up to block 1"):
        world.syncer().initialise(world.view(end_block=1), Books())


def test_second_initialise_is_refused(world):
    books = world.initialised()
    view = world.view()
    with pytest.raises(SyncRefused, match="already initialised"):
        world.syncer().initialise(view, books)
    assert not view.calls


# -- deposits


def test_first_deposit(world, updates, who):
    world.block(world.deposit(500 * USDC, "alice", "bob"))
    books = world.synced()
    (update,), treasury = updates(books), books.sync.treasury

    assert (1, BalanceUpdateCause.deposit) == (update.balance_update_id, update.cause)
    assert (Decimal(500), Decimal(0), 500.0) == (update.quantity, update.old_balance, update.usd_value)
    assert who("bob") == update.owner_address
    assert (3, world.time(3), 2) == (update.block_number, update.block_mined_at, update.log_index)
    assert world.time(3) == update.strategy_cycle_included_at == treasury.last_cycle_at
    assert (1337, None, None) == (update.chain_id, update.position_id, update.previous_update_at)
    assert (3, 2030) == (treasury.last_block_scanned, treasury.last_updated_at.year)
    (ref,) = treasury.balance_update_refs
    assert (1, "reserve", 500.0) == (ref.balance_event_id, ref.position_type, ref.usd_value)
    (reserve,) = books.portfolio.reserves.values()
    assert (Decimal(500), 1.0) == (reserve.quantity, reserve.reserve_token_price)
    assert world.time(3) == reserve.last_sync_at == reserve.last_pricing_at


def test_deposit_in_the_deployment_block_is_found(world, updates):
    """The first sync starts at the deployment block itself."""
    world.fork(2)
    world.block(world.deployment(), world.deposit(5 * USDC))
    assert [Decimal(5)] == [update.quantity for update in updates(world.synced())]


def test_deposit_counts_what_arrived(enzyme, updates):
    """A fee on transfer is not the vault's."""
    enzyme.block(enzyme.deposit(1_000 * USDC, fee=10 * USDC))
    assert [Decimal(990)] == [update.quantity for update in updates(enzyme.synced())]


def test_each_deposit_of_a_transaction_gets_its_own_transfers(world, updates):
    world.block([*world.deposit(1), *world.deposit(20, "bob"), *world.redeem([(world.usdc, 5)]), *world.deposit(300)])
    found = [(update.quantity, update.log_index) for update in updates(world.synced())]
    raw = [(int(quantity * USDC), index) for quantity, index in found]
    assert [(1, 2), (20, 5), (-5, 8), (300, 11)] == raw


def test_deposit_shaped_event_without_tokens_is_no_deposit(world, updates):
    world.block([world.deposit_event(50, world.vault, world.vault)])
    world.block(world.deposit(0))
    assert [] == updates(world.synced())


def test_donation_is_no_deposit(world, updates, who):
    world.block([world.transfer(world.usdc, who("carol"), world.vault, 9 * USDC)])
    assert [] == updates(world.synced())


def test_other_vaults_of_the_deployer_are_none_of_ours(world, updates):
    if world.kind == "erc4626":
        world.accessor = world.vault
    world.block(world.deposit(5 * USDC), world.foreign())
    assert [Decimal(5)] == [update.quantity for update in updates(world.synced())]


@pytest.mark.parametrize("resumed", [False, True])
def test_replaced_accessor_ends_its_say_at_that_log(enzyme, updates, who, resumed):
    old = enzyme.accessor
    enzyme.block(enzyme.deposit(1))
    books = enzyme.synced() if resumed else enzyme.initialised()
    early = enzyme.deposit_event(64, old, old, accessor=who("comptroller 2"))
    gift = enzyme.transfer(enzyme.usdc, who("carol"), enzyme.vault, 64)
    enzyme.block([gift, early], enzyme.deposit(2), enzyme.replace_accessor(), enzyme.deposit(4))
    gift = enzyme.transfer(enzyme.usdc, who("carol"), enzyme.vault, 8)
    enzyme.block([gift, enzyme.deposit_event(8, old, old, accessor=old)], enzyme.deposit(16))
    enzyme.block(enzyme.deposit(32))
    if resumed:
        books = enzyme.synced(books, end_block=4)
    books = enzyme.synced(books)
    assert [1, 2, 4, 16, 32] == [int(update.quantity * USDC) for update in updates(books)]


# -- redemptions


def test_redemption_is_the_owners(world, updates, who):
    world.block(world.deposit(500 * USDC))
    world.block(world.redeem([(world.usdc, 200 * USDC)], "alice", "bob"))
    update = updates(world.synced())[1]
    assert (Decimal(-200), Decimal(500), -200.0) == (update.quantity, update.old_balance, update.usd_value)
    assert (BalanceUpdateCause.redemption, who("alice")) == (update.cause, update.owner_address)


def test_redemption_in_kind_has_a_leg_per_asset(enzyme, updates):
    enzyme.block(enzyme.deposit(500 * USDC))
    books = enzyme.supplied(enzyme.synced(), ETHER // 16, token=enzyme.weth, paid=100 * USDC)
    legs = [(enzyme.usdc, 200 * USDC), (enzyme.ausdc, 0), (enzyme.weth, 31140726347915564)]
    block = enzyme.block(enzyme.redeem(legs))
    books = enzyme.synced(books)
    _, cash, weth = updates(books)

    assert (Decimal(-200), Decimal(400)) == (cash.quantity, cash.old_balance)
    assert (Decimal("-0.031140726347915564"), Decimal("0.0625")) == (weth.quantity, weth.old_balance)
    assert (1, BalanceUpdatePositionType.open_position) == (weth.position_id, weth.position_type)
    assert (weth.tx_hash, weth.log_index) == (cash.tx_hash, cash.log_index)
    assert -49.8251621566649024 == pytest.approx(weth.usd_value, rel=1e-15)
    assert [None, None, 1] == [ref.position_id for ref in books.sync.treasury.balance_update_refs]
    assert block == books.sync.treasury.last_block_scanned
    assert books.portfolio.open_positions[1].quantity_raw == ETHER // 16 - 31140726347915564


def test_redemption_may_take_books_below_zero(enzyme, updates, who):
    """What was donated is paid out as well."""
    enzyme.block(enzyme.deposit(1 * USDC))
    enzyme.block([enzyme.transfer(enzyme.usdc, who("bob"), enzyme.vault, 9 * USDC)])
    enzyme.block(enzyme.redeem([(enzyme.usdc, 10 * USDC)]))
    books = enzyme.synced()
    assert Decimal(-9) == next(iter(books.portfolio.reserves.values())).quantity


def test_leg_is_split_between_positions_by_quantity(enzyme, updates):
    enzyme.block(enzyme.deposit(500 * USDC))
    books = enzyme.synced()
    for raw in (1, 1, 1):
        books = enzyme.supplied(books, raw, token=enzyme.weth, paid=USDC)
    enzyme.block(enzyme.redeem([(enzyme.weth, 2)]))
    taken = [(update.position_id, int(update.quantity * ETHER)) for update in updates(enzyme.synced(books))[1:]]
    assert [(1, -1), (2, -1)] == taken


def test_leg_of_a_rebase_token_is_split_by_base(enzyme, updates):
    """A redemption does not change the weights of the next: a base counts what redemptions took."""
    enzyme.block(enzyme.deposit(500 * USDC))
    books = enzyme.synced()
    for raw in (2, 3):
        books = enzyme.supplied(books, raw, paid=raw)
    enzyme.block(enzyme.redeem([(enzyme.ausdc, 1)]))
    enzyme.block(enzyme.redeem([(enzyme.ausdc, 1)]))
    at_once = updates(enzyme.synced(books))[1:]
    apart = updates(enzyme.synced(enzyme.synced(books, end_block=6)))[1:]
    assert [2, 2] == [update.position_id for update in at_once] == [update.position_id for update in apart]


def test_redemption_moves_principal_and_stamps_of_the_loan(enzyme):
    enzyme.block(enzyme.deposit(500 * USDC))
    books = enzyme.supplied(enzyme.synced(), 100 * USDC, paid=100 * USDC)
    block = enzyme.block(enzyme.redeem([(enzyme.ausdc, 30 * USDC)]))
    enzyme.blocks(2)
    loan = enzyme.synced(books).portfolio.open_positions[1].loan
    tracker = loan.collateral_interest

    assert (Decimal(70), Decimal(70), Decimal(0)) == (
        loan.collateral.quantity,
        tracker.last_token_amount,
        tracker.last_accrued_interest,
    )
    assert enzyme.time(block) == tracker.last_event_at == tracker.last_updated_at
    assert block == tracker.last_updated_block_number


def test_stamps_tell_of_the_later_of_trade_and_redemption(enzyme):
    """A trade may be booked past a redemption that is read only now."""
    enzyme.block(enzyme.deposit(500 * USDC))
    books = enzyme.supplied(enzyme.synced(), 100 * USDC, paid=100 * USDC)
    enzyme.block(enzyme.redeem([(enzyme.ausdc, 30 * USDC)]))
    books = enzyme.supplied(books, 5 * USDC, paid=5 * USDC, new=False)
    traded_at = enzyme.head
    enzyme.block()
    tracker = enzyme.synced(books).portfolio.open_positions[1].loan.collateral_interest
    assert (traded_at, enzyme.time(traded_at)) == (tracker.last_updated_block_number, tracker.last_event_at)
    assert Decimal(75) == tracker.last_token_amount


def test_leg_without_a_position_is_refused_as_a_whole(enzyme):
    enzyme.block(enzyme.deposit(500 * USDC))
    books = enzyme.synced()
    enzyme.block(enzyme.redeem([(enzyme.usdc, 200 * USDC), (enzyme.weth, 7)]))
    refused(enzyme, books, r"0\.000000000000000007 WETH, of which no position is open")


def test_leg_within_dust_is_skipped_and_told(enzyme, updates):
    enzyme.dust[enzyme.weth] = Dust(absolute=Decimal("0.000000000000000007"))
    enzyme.block(enzyme.deposit(500 * USDC))
    enzyme.block(enzyme.redeem([(enzyme.weth, 7), (enzyme.usdc, 200 * USDC)]))
    enzyme.block(enzyme.redeem([(enzyme.weth, 7)]))
    first, second = updates(enzyme.synced())
    skipped = {"asset": enzyme.weth.identifier, "quantity": "-0.000000000000000007"}
    assert (None, {"skipped_legs": [skipped]}) == (first.other_data, second.other_data)


# -- worth


def test_flow_is_valued_at_its_own_blocks_price(world, updates):
    world.price("USDC", 98_000_000)
    world.block(world.deposit(100 * USDC))
    world.price("USDC", 50_000_000)
    world.block()
    world.block(world.deposit(100 * USDC))
    world.price("USDC", 101_000_000)
    world.block()
    books = world.synced()
    assert [98.0, 50.0] == [update.usd_value for update in updates(books)]
    assert 1.01 == next(iter(books.portfolio.reserves.values())).reserve_token_price


def test_prices_are_read_as_often_as_they_change(world, updates):
    """Forth and back between the same two prices, so that only the round tells."""
    for count in range(60):
        if count in (20, 40):
            world.price("USDC", 10**8 if count == 40 else 10**8 // 2)
        world.block(world.deposit(2 * USDC))
    view, books = world.view(), world.initialised()
    books = world.syncer().sync_treasury(view, books, world.time(world.head))
    assert [2.0] * 20 + [1.0] * 20 + [2.0] * 20 == [update.usd_value for update in updates(books)]
    assert view.calls["latestRoundData"] < 25


# -- resuming


def test_sync_without_events_sets_everything(world):
    books = world.synced()
    treasury = books.sync.treasury
    assert (2, world.time(2), []) == (treasury.last_block_scanned, treasury.last_cycle_at, treasury.balance_update_refs)
    assert treasury.last_updated_at is not None
    assert [Decimal(0)] == [reserve.quantity for reserve in books.portfolio.reserves.values()]


def test_second_sync_at_same_block_changes_the_two_timestamps_alone(world):
    world.block(world.deposit(5 * USDC))
    books = world.synced()
    view = world.view()
    cycle = books.sync.treasury.last_cycle_at + timedelta(days=1)
    again = world.syncer().sync_treasury(view, books, cycle)

    assert (view.now, cycle) == (again.sync.treasury.last_updated_at, again.sync.treasury.last_cycle_at)
    assert {"header"} == set(view.calls)
    again.block_hashes = books.block_hashes
    again.sync.treasury.last_updated_at = books.sync.treasury.last_updated_at
    again.sync.treasury.last_cycle_at = books.sync.treasury.last_cycle_at
    assert dump_books(books) == dump_books(again)


def history(world: Any) -> None:
    for count in range(1, 9):
        world.block(world.deposit(count * USDC), world.redeem([(world.usdc, count)]))
        world.blocks(count % 3)


@pytest.mark.parametrize("chunk", [1, 2, 5, 1000])
def test_chunks_change_nothing(world, chunk):
    history(world)
    assert without_clock(world.synced()) == without_clock(world.synced(chunk=chunk))


def test_schedule_of_syncs_changes_no_update(world, updates):
    history(world)
    books = world.initialised()
    for end_block in range(2, world.head + 1):
        books = world.synced(books, end_block=end_block, chunk=2)
    told = [(update.tx_hash, update.log_index, update.quantity, update.usd_value) for update in updates(books)]
    at_once = updates(world.synced())
    assert told == [(update.tx_hash, update.log_index, update.quantity, update.usd_value) for update in at_once]
    assert list(range(1, len(told) + 1)) == [update.balance_update_id for update in updates(books)]


def test_flow_after_the_end_block_waits(world, updates):
    world.block(world.deposit(1 * USDC))
    world.block(world.deposit(2 * USDC))
    books = world.synced(end_block=3)
    assert (1, 3) == (len(updates(books)), books.sync.treasury.last_block_scanned)
    assert [Decimal(1), Decimal(2)] == [update.quantity for update in updates(world.synced(books))]


def test_repeated_shuffled_and_removed_logs_are_each_read_once(world):
    history(world)
    view = world.view()
    view.spoil = lambda found: [*reversed(found), *found, *({**one, "removed": True, "logIndex": 99} for one in found)]
    books = world.syncer().sync_treasury(view, world.initialised(), world.time(world.head))
    assert without_clock(world.synced()) == without_clock(books)


def test_hashes_of_the_last_blocks_are_kept(world):
    history(world)
    books = world.synced()
    assert "0x" + world.headers[world.head].hash.hex() == hash_in(books.block_hashes[world.head])
    for _ in range(150):
        world.block(world.deposit(1))
    kept = world.synced(books).block_hashes
    assert (128, world.head - 127, world.head) == (len(kept), min(kept), max(kept))


def test_reads_grow_with_events_not_with_blocks(world):
    for _ in range(40):
        world.block(world.deposit(1 * USDC))
    world.blocks(2000)
    view, books = world.view(), world.initialised()
    world.syncer().sync_treasury(view, books, world.time(world.head))
    assert view.calls["header"] <= len(world.headers) + 3  # a bloom filter each, to see that no log is withheld
    assert view.calls["get_logs"] <= 5
    assert view.calls["receipts"] == 0
    assert view.calls["latestRoundData"] <= 2


def test_books_given_are_left_alone(world):
    world.block(world.deposit(5 * USDC))
    books = world.synced()
    world.block(world.deposit(6 * USDC))
    before = dump_books(books)
    world.syncer().sync_treasury(world.view(), books, world.time(world.head))
    assert before == dump_books(books)


# -- refusals


def test_uninitialised_other_chain_and_other_vault_are_refused_before_reading(world):
    initialised = world.initialised()
    for books, change, text in (
        (Books(), {}, "not initialised"),
        (initialised, {"chain_id": 2}, "of chain id 1337, not 2"),
        (initialised, {"vault": world.other_vault}, f"of vault {world.vault}, not {world.other_vault}"),
        (initialised, {"kind": "wallet"}, "'wallet' is not supported"),
    ):
        syncer, view = type(world.syncer())(dataclasses.replace(world.target, **change)), world.view()
        for verb, rest in (("sync_treasury", (world.time(2),)), ("sync_interest", ()), ("correct_accounts", ())):
            with pytest.raises(SyncRefused, match=text):
                getattr(syncer, verb)(view, books, *rest)
        assert not view.calls


def test_cycle_before_the_last_is_refused(world):
    books = world.synced()
    with pytest.raises(SyncRefused, match="before the last cycle"):
        world.syncer().sync_treasury(world.view(), books, books.sync.treasury.last_cycle_at - timedelta(seconds=1))


def test_node_that_is_behind_is_refused(world):
    world.blocks(8)
    books = world.synced()
    refused(world, books, "head 9 is below the last block scanned, 10", head=9, end_block=9)
    world.blocks(3)
    refused(world, books, "head 11 is below the end block 13", head=11)


def test_chain_without_a_known_block_is_refused(world):
    world.block(world.deposit(1 * USDC))
    books = world.synced()
    world.fork(2)
    world.block(world.deployment())
    world.block(world.deposit(1 * USDC))
    refused(world, books, "none of the blocks 2 to 3 that the books know is on this chain")


def test_log_of_another_branch_than_its_header_is_refused(world):
    books = world.initialised()
    world.block(world.deposit(1 * USDC))
    world.logs[3][1]["blockHash"] = b"\x01" * 32
    refused(world, books, "block 3 changed while it was read")


def test_end_before_the_deployment_is_refused(world):
    refused(world, world.initialised(), "end block 1 lies before the deployment block 2", end_block=1)


def test_negative_price_is_refused(world):
    books = world.initialised()
    world.price("USDC", -1)
    world.block(world.deposit(1 * USDC))
    refused(world, books, "says -1 at block 3")


def test_log_of_another_shape_is_refused(world):
    books = world.initialised()
    world.block(world.deposit(1 * USDC))
    world.logs[3][2]["data"] = b"\x01"
    refused(world, books, "log 2 of block 3 cannot be decoded")
    world.logs[3][2]["topics"] = world.logs[3][2]["topics"][:1]
    refused(world, books, "log 2 of block 3 has 0 indexed fields")
    world.logs[3][1]["topics"] = world.logs[3][1]["topics"][:1]
    with_shares = "log [12] of block 3 has 0 indexed fields"
    refused(world, books, with_shares)


def test_books_finer_than_the_token_are_refused(world):
    books = world.synced()
    next(iter(books.portfolio.reserves.values())).quantity = Decimal("0.0000001")
    world.block(world.deposit(1 * USDC))
    refused(world, books, "USDC with more than its 6 decimals")
