"""Each broken syncer is wrong where it says so, on a history where the reference is right; and only there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from harness.books import Books, dump_books, load_books
from harness.errors import SyncerNotFound, SyncRefused
from harness.reconcile.causes import Cause
from harness.syncers import Dust, broken, find_syncer
from harness.syncers.broken import BROKEN
from tests.syncers import test_broken_branches

USDC = 10**6


@pytest.fixture(autouse=True)
def another_zone() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


Story = Callable[[Any, str], Books]


def two_syncs(world: Any, name: str) -> Books:
    """Flows in the blocks on both sides of a cursor, then blocks without any."""
    world.block(world.deposit(500 * USDC))
    books = world.synced(world.initialised(world.syncer(name)), world.syncer(name))
    world.block(world.deposit(30 * USDC))
    world.blocks(2)
    return world.synced(books, world.syncer(name))


def one_block(world: Any, name: str) -> Books:
    """Two flows in one block, the second by others than its owner, and other funds' beside."""
    world.price("USDC", 99_000_000)
    world.block(world.deposit(500 * USDC + 1), world.redeem([(world.usdc, 1)], "alice", "bob"), world.foreign())
    world.blocks(1)
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name))


def last_block(world: Any, name: str) -> Books:
    """A flow in the very last block, at a price that another sync's end block does not have."""
    world.block(world.deposit(5 * USDC))
    world.price("USDC", 99_000_000)
    world.block(world.deposit(5 * USDC))
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name))


def zero_leg(world: Any, name: str) -> Books:
    """A redemption with a leg of nothing."""
    world.block(world.deposit(5 * USDC))
    books = world.supplied(world.synced(), 10, paid=10)
    world.block(world.redeem([(world.usdc, 5), (world.ausdc, 0)]))
    return world.synced(books, world.syncer(name))


def fine_amounts(world: Any, name: str) -> Books:
    """An amount that no float holds."""
    world.block(world.deposit(10**17 + 1))
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name))


def idle(world: Any, name: str) -> Books:
    """A sync twice at the same block."""
    books = world.synced(world.initialised(world.syncer(name)), world.syncer(name))
    return world.syncer(name).sync_treasury(
        world.view(), books, world.time(world.head) + (world.time(1) - world.time(0))
    )


def behind_the_head(world: Any, name: str) -> Books:
    """A sync that ends before the head."""
    world.blocks(4)
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name), end_block=3)


def late_hint(world: Any, name: str) -> Books:
    """A hint that lies after the deployment."""
    world.blocks(4)
    world.start_block = 5
    return world.initialised(world.syncer(name))


def shared_gain(world: Any, name: str) -> Books:
    """A gain that does not split evenly between three positions."""
    world.block(world.deposit(500 * USDC))
    books = world.synced()
    for _ in range(3):
        books = world.supplied(books, 1_000, paid=1_000)
    world.rebase(world.ausdc, 11)
    world.block()
    return world.interest(world.synced(books), world.syncer(name))


def in_chunks(world: Any, name: str) -> Books:
    """A flow in each of six blocks, read two blocks at a time."""
    for _ in range(6):
        world.block(world.deposit(5 * USDC))
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name), chunk=2)


def after_a_failure(world: Any, name: str) -> Books:
    """A sync whose node answers no more, and the sync after it by another process."""
    books = world.initialised(world.syncer(name))
    world.block(world.deposit(5 * USDC))
    view = world.view()

    def spoil(found: list[Any]) -> list[Any]:
        if any(receipt["address"] == world.usdc.address for receipt in found):
            raise ConnectionError
        return found

    view.spoil = spoil
    with pytest.raises(SyncRefused, match="the node failed"):
        world.syncer(name).sync_treasury(view, books, world.time(world.head))
    return world.synced(books, world.syncer(name))


def at_the_cursor(world: Any, name: str) -> Books:
    """A second sync at a block with a flow."""
    world.block(world.deposit(5 * USDC))
    books = world.synced(world.initialised(world.syncer(name)), world.syncer(name))
    return world.synced(books, world.syncer(name))


def unbooked_transfers(world: Any, name: str) -> Books:
    """A donation, what the vault pays and gets in its own trade, and tokens that leave."""
    someone, pool = "0x" + "11" * 20, "0x" + "22" * 20
    world.block([world.transfer(world.usdc, someone, world.vault, 7)], world.deposit(500 * USDC))
    books = world.supplied(world.synced(world.initialised(world.syncer(name)), world.syncer(name)), 50, paid=50)
    world.block([world.transfer(world.ausdc, world.vault, pool, 3), world.transfer(world.usdc, pool, world.vault, 3)])
    world.block([world.transfer(world.usdc, someone, world.vault, 11)])
    return world.synced(books, world.syncer(name))


def dust(world: Any, name: str) -> Books:
    """A leg without a position that is exactly dust."""
    world.dust[world.weth] = Dust(absolute=Decimal("0.000000000000000001"))
    world.block(world.deposit(500 * USDC))
    world.block(world.redeem([(world.usdc, 5), (world.weth, 1)]))
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name))


def more_than_dust(world: Any, name: str) -> Books:
    """A leg without a position that is no dust."""
    world.block(world.deposit(500 * USDC))
    world.block(world.redeem([(world.usdc, 5), (world.weth, 1)]))
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name))


def in_kind(world: Any, name: str) -> Books:
    """A redemption from the reserve and from two positions of one asset, whose price the reserve does not have."""
    world.block(world.deposit(500 * USDC))
    books = world.synced()
    world.price("aUSDC", 99_000_000)
    books = world.supplied(world.supplied(books, 1_000, paid=1_000), 3_001, paid=3_001)
    world.block(world.redeem([(world.usdc, 5), (world.ausdc, 7)]))
    return world.synced(books, world.syncer(name))


def many_in_a_block(world: Any, name: str) -> Books:
    """A redemption between deposits, all in one block."""
    world.block(world.deposit(500 * USDC))
    deposits = [world.deposit(one * USDC) for one in range(1, 7)]
    world.block(*deposits[:3], world.redeem([(world.usdc, 1)]), *deposits[3:])
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name))


def cycle_before_the_last(world: Any, name: str) -> Books:
    """A sync that is told a cycle before the last one."""
    books = world.synced(world.initialised(world.syncer(name)), world.syncer(name))
    world.block()
    return world.syncer(name).sync_treasury(world.view(), books, world.time(0))


def digits(world: Any, name: str) -> Books:
    """An amount of thirty digits."""
    world.block(world.deposit(10**29 + 1))
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name))


def fine_price(world: Any, name: str) -> Books:
    """A price with a fraction of a cent."""
    world.price("USDC", 99_123_456)
    world.block(world.deposit(500 * USDC))
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name))


def two_deposits(world: Any, name: str) -> Books:
    """A deposit into a vault that holds something."""
    world.block(world.deposit(500 * USDC))
    world.block(world.deposit(30 * USDC))
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name))


def rebased(world: Any, raw: int, supplied: int = 1_000) -> Books:
    """Books with one credit position whose token has moved by so much since, and the treasury synced."""
    world.block(world.deposit(500 * USDC))
    books = world.supplied(world.synced(), supplied, paid=supplied)
    world.rebase(world.ausdc, raw)
    world.wait = 86_400
    world.block()
    return world.synced(books)


def tracked(world: Any, name: str) -> Books:
    """A treasury sync while interest waits to be synced."""
    books = rebased(world, 7)
    world.block()
    return world.synced(books, world.syncer(name))


def gained(world: Any, name: str) -> Books:
    """A gain, at a price that the underlying does not have."""
    world.price("aUSDC", 99_000_000)
    return world.interest(rebased(world, 7), world.syncer(name))


def lost(world: Any, name: str) -> Books:
    """A loss."""
    return world.interest(rebased(world, -7), world.syncer(name))


def beyond_the_bound(world: Any, name: str) -> Books:
    """A gain that is too large to be interest."""
    return world.interest(rebased(world, 51), world.syncer(name))


def interest_twice(world: Any, name: str) -> Books:
    """Interest synced twice at one block."""
    return world.interest(world.interest(rebased(world, 7), world.syncer(name)), world.syncer(name))


def interest_first(world: Any, name: str) -> Books:
    """Interest synced to a block to which the treasury is not."""
    books = rebased(world, 7)
    world.block()
    return world.interest(books, world.syncer(name))


def interest_after_a_redemption(world: Any, name: str) -> Books:
    """Interest synced by another process than the one that booked a redemption."""
    books = rebased(world, 7)
    world.block(world.redeem([(world.usdc, 5), (world.ausdc, 100)]))
    return world.interest(world.synced(books, world.syncer(name)), world.syncer(name))


def other_chain(world: Any, name: str) -> Books:
    """Books of one chain on another."""
    world.block(world.deposit(5 * USDC))
    elsewhere = find_syncer(name)(replace(world.target, chain_id=2))
    return elsewhere.sync_treasury(world.view(), world.initialised(), world.time(world.head))


def other_vault(world: Any, name: str) -> Books:
    """Books of one vault with another's address."""
    books = world.synced()
    world.block()
    elsewhere = find_syncer(name)(replace(world.target, vault=world.other_vault))
    return elsewhere.sync_treasury(world.view(), books, world.time(world.head))


def initialised_again(world: Any, name: str) -> Books:
    """Books initialised twice."""
    books = world.initialised(world.syncer(name))
    world.block()
    return world.syncer(name).initialise(world.view(), books)


STORIES: dict[str, Story] = {
    "resume_off_by_one": two_syncs,
    "block_read_twice": two_syncs,
    "older_flows_ignored": in_chunks,
    "late_hint_believed": late_hint,
    "last_block_of_chunk_dropped": last_block,
    "chunk_seam_skipped": in_chunks,
    "chunk_seam_read_twice": in_chunks,
    "only_first_chunk_read": in_chunks,
    "cursor_at_head": behind_the_head,
    "cursor_at_initialise": two_syncs,
    "cursor_one_behind": two_syncs,
    "cursor_at_last_flow": two_syncs,
    "cursor_moved_before_events": after_a_failure,
    "seen_events_in_memory": two_syncs,
    "idle_sync_reads_again": at_the_cursor,
    "idle_sync_unnoted": idle,
    "key_without_log_index": one_block,
    "payment_to_another_missed": one_block,
    "foreign_fund_taken": one_block,
    "donation_is_a_deposit": unbooked_transfers,
    "donation_joins_a_deposit": unbooked_transfers,
    "proceeds_are_a_deposit": unbooked_transfers,
    "payment_is_a_redemption": unbooked_transfers,
    "zero_leg_booked": zero_leg,
    "dust_leg_unlisted": dust,
    "dust_leg_refused": dust,
    "any_leg_is_dust": more_than_dust,
    "only_reserve_leg_booked": in_kind,
    "only_first_leg_booked": in_kind,
    "deposits_before_redemptions": many_in_a_block,
    "flows_by_transaction_hash": many_in_a_block,
    "newest_flow_first": many_in_a_block,
    "owner_is_counterparty": one_block,
    "redemption_is_a_deposit": one_block,
    "cycle_is_block_time": two_syncs,
    "cycle_left_out": two_syncs,
    "cycle_goes_back": cycle_before_the_last,
    "redemption_sign": one_block,
    "usd_sign": one_block,
    "ref_usd_sign": one_block,
    "decimals_assumed": two_syncs,
    "feed_decimals_assumed": two_syncs,
    "float_quantities": fine_amounts,
    "decimals_of_28_digits": digits,
    "single_precision_worth": one_block,
    "deposit_is_balance": two_deposits,
    "reserve_plugged": unbooked_transfers,
    "tracker_plugged": tracked,
    "price_of_end_block": last_block,
    "price_of_block_before": last_block,
    "reserve_at_par": one_block,
    "positions_at_reserve_price": in_kind,
    "price_in_whole_cents": fine_price,
    "local_time_zone": two_syncs,
    "time_of_end_block": two_syncs,
    "split_equally": in_kind,
    "leg_to_last_position": in_kind,
    "remainder_to_last_position": in_kind,
    "always_the_reserve": in_kind,
    "principal_not_lowered": in_kind,
    "position_legs_without_ref": in_kind,
    "ids_counted_in_memory": two_syncs,
    "interest_is_balance": gained,
    "interest_worth_whole_balance": shared_gain,
    "interest_at_underlying_price": gained,
    "losses_not_booked": lost,
    "loss_sign": lost,
    "small_gains_passed_over": gained,
    "bound_not_enforced": beyond_the_bound,
    "year_of_360_days": gained,
    "gain_rounded_per_position": shared_gain,
    "gain_to_first_position": shared_gain,
    "redeemed_principal_in_memory": interest_after_a_redemption,
    "interest_as_correction": gained,
    "interest_again_at_same_block": interest_twice,
    "interest_ahead_of_treasury": interest_first,
    "other_chain_accepted": other_chain,
    "other_vault_accepted": other_vault,
    "initialised_twice": initialised_again,
    "name_and_symbol_swapped": late_hint,
}

NEEDS_A_NODE = {
    "abandoned_accessor_believed",
    "bound_in_floats",
    "correction_at_head",
    "correction_below_cursor",
    "debt_interest_ignored",
    "debt_interest_raises_principal",
    "debt_interest_sign",
    "debts_uncorrected",
    "deployment_block_skipped",
    "dust_is_corrected",
    "dust_limits_swapped",
    "empty_answer_believed",
    "fee_shares_are_a_deposit",
    "first_closed_position_reopened",
    "head_read_for_end_block",
    "initialised_at_head",
    "interest_at_head",
    "leg_split_by_what_is_left",
    "logs_in_the_nodes_order",
    "only_relative_dust_left_alone",
    "own_clock_for_a_lost_header",
    "owner_is_sender",
    "refused_range_is_empty",
    "removed_logs_booked",
    "repeated_logs_booked",
    "seen_before_it_is_booked",
    "short_answer_believed",
    "shares_received_are_a_deposit",
    "shares_for_assets",
    "time_of_nothing_believed",
    "turn_under_way_unseen",
}
"""Those that read what only a chain has; the scenarios show what they get wrong."""

REFUSED = {
    more_than_dust,
    cycle_before_the_last,
    beyond_the_bound,
    interest_first,
    other_chain,
    other_vault,
    initialised_again,
}
"""Stories that the reference refuses."""

WRONG: dict[str, Callable[[Books, Any], object]] = {
    "resume_off_by_one": lambda books, told: [one.quantity for one in told],
    "block_read_twice": lambda books, told: [one.quantity for one in told],
    "cursor_at_head": lambda books, told: books.sync.treasury.last_block_scanned,
    "idle_sync_unnoted": lambda books, told: books.sync.treasury.last_cycle_at,
    "owner_is_counterparty": lambda books, told: [one.owner_address for one in told],
    "usd_sign": lambda books, told: [one.usd_value for one in told],
    "price_of_end_block": lambda books, told: [one.usd_value for one in told],
    "reserve_at_par": lambda books, told: [one.usd_value for one in told],
    "interest_worth_whole_balance": lambda books, told: [one.usd_value for one in told],
}
"""What each gets wrong, where it is a field of its own: quantities are right then."""


def played(make_world: Callable[[], Any], story: Story, name: str) -> Books | str:
    try:
        return story(make_world(), name)
    except SyncRefused as error:
        return str(error)


@pytest.fixture
def make_world(enzyme) -> Callable[[], Any]:
    return lambda: type(enzyme)("enzyme")


def test_every_broken_syncer_has_a_story():
    assert sorted(BROKEN) == sorted([*STORIES, *test_broken_branches.STORIES, *NEEDS_A_NODE])
    assert all(one.wrong.endswith(".") and one.name == name for name, one in BROKEN.items())
    assert len({one.wrong for one in BROKEN.values()}) == len(BROKEN)


def test_every_cause_is_one_of_the_closed_list():
    assert {one.cause for one in BROKEN.values()} - {None} == {cause.value for cause in Cause}


@pytest.mark.parametrize("name", sorted(STORIES))
def test_broken_syncer_differs_from_the_reference(make_world, name):
    expected = played(make_world, STORIES[name], "reference")
    actual = played(make_world, STORIES[name], f"harness.syncers.broken:{name}")
    assert _text(expected) != _text(actual)


def _text(played: Books | str) -> str:
    return played if isinstance(played, str) else dump_books(played)


@pytest.mark.parametrize("name", sorted(WRONG))
def test_it_is_wrong_in_what_it_says(make_world, updates, name):
    expected = played(make_world, STORIES[name], "reference")
    actual = played(make_world, STORIES[name], f"harness.syncers.broken:{name}")
    assert WRONG[name](expected, updates(expected)) != WRONG[name](actual, updates(actual))
    if "usd" in name or "worth" in name or "price" in name or "par" in name:
        assert [one.quantity for one in updates(expected)] == [one.quantity for one in updates(actual)]


def test_figures_of_some(make_world, updates):
    """The gaps that reports will show."""

    def raw(name: str) -> list[int]:
        books = played(make_world, STORIES[name], f"harness.syncers.broken:{name}")
        return [int(one.quantity * USDC) for one in updates(books)]

    assert [500 * USDC] == raw("resume_off_by_one")
    assert [500 * USDC, 500 * USDC, 30 * USDC] == raw("block_read_twice")
    assert [5 * USDC] == raw("last_block_of_chunk_dropped")
    assert [500 * USDC + 1] == raw("key_without_log_index")
    assert [500 * USDC + 1, -1, 7 * USDC, -3 * USDC] == raw("foreign_fund_taken")
    assert [5 * USDC, -5, 0] == raw("zero_leg_booked")
    assert [500 * USDC + 1, 1] == raw("redemption_sign")
    assert [10**17] == raw("float_quantities")
    assert [500 * USDC, 4, 4, 4] == raw("gain_rounded_per_position")
    assert [500 * USDC, 11] == raw("gain_to_first_position")
    refusal = played(make_world, late_hint, "harness.syncers.broken:late_hint_believed")
    assert "no deployment event" in refusal


def test_each_is_an_attribute_to_call_with_a_target(enzyme):
    for name in BROKEN:
        assert isinstance(getattr(broken, name)(enzyme.target), BROKEN[name].factory)
        assert name in dir(broken)
    with pytest.raises(AttributeError, match="no attribute 'resume'"):
        broken.resume  # noqa: B018


def test_reference_is_right_in_every_story(make_world):
    for story in set(STORIES.values()):
        books = played(make_world, story, "reference")
        if story in REFUSED:
            assert isinstance(books, str)
        else:
            assert isinstance(books, Books)
            assert books == load_books(dump_books(books))


def test_misspelt_broken_syncer_is_suggested():
    with pytest.raises(SyncerNotFound, match=r"did you mean 'harness\.syncers\.broken:usd_sign'"):
        find_syncer("harness.syncers.broken:usd_sing")
