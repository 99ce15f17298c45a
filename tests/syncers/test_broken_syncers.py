"""Each broken syncer is wrong where it says so, on a history where the reference is right; and only there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.books import Books, dump_books, load_books
from harness.errors import SyncerNotFound, SyncRefused
from harness.syncers import broken, find_syncer
from harness.syncers.broken import BROKEN

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


STORIES: dict[str, Story] = {
    "resume_off_by_one": two_syncs,
    "block_read_twice": two_syncs,
    "last_block_of_chunk_dropped": last_block,
    "cursor_at_head": behind_the_head,
    "late_hint_believed": late_hint,
    "idle_sync_unnoted": idle,
    "key_without_log_index": one_block,
    "foreign_fund_taken": one_block,
    "zero_leg_booked": zero_leg,
    "owner_is_counterparty": one_block,
    "redemption_sign": one_block,
    "usd_sign": one_block,
    "decimals_assumed": two_syncs,
    "float_quantities": fine_amounts,
    "price_of_end_block": last_block,
    "reserve_at_par": one_block,
    "local_time_zone": two_syncs,
    "interest_worth_whole_balance": shared_gain,
    "gain_rounded_per_position": shared_gain,
    "gain_to_first_position": shared_gain,
}

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
    assert sorted(STORIES) == sorted(BROKEN)
    assert all(one.wrong.endswith(".") and one.name == name for name, one in BROKEN.items())


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_syncer_differs_from_the_reference(make_world, name):
    expected = played(make_world, STORIES[name], "reference")
    actual = played(make_world, STORIES[name], f"harness.syncers.broken:{name}")
    assert isinstance(expected, Books)
    assert isinstance(actual, str) or dump_books(expected) != dump_books(actual)


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
        assert books == load_books(dump_books(books))


def test_misspelt_broken_syncer_is_suggested():
    with pytest.raises(SyncerNotFound, match=r"did you mean 'harness\.syncers\.broken:usd_sign'"):
        find_syncer("harness.syncers.broken:usd_sing")
