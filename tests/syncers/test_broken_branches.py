"""Broken syncers of reorganisations and corrections: each is wrong where blocks were replaced or accounts corrected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.books import Books, dump_books, load_books
from harness.errors import SyncRefused
from harness.syncers.broken import BROKEN

USDC = 10**6

Story = Callable[[Any, str], Books]


def corrected(world: Any, books: Books, name: str = "reference") -> Books:
    return world.syncer(name).correct_accounts(world.view(), load_books(dump_books(books)))


def begun(world: Any) -> Books:
    """Books with a deposit in each of two blocks, the second of which was the last one scanned."""
    world.block(world.deposit(500 * USDC))
    world.block(world.deposit(7 * USDC))
    return world.synced()


def replaced(world: Any, name: str) -> Books:
    """Two blocks are replaced, and one is added."""
    books = begun(world)
    world.fork(3)
    world.block(world.deposit(9 * USDC))
    world.blocks(2)
    return world.synced(books, world.syncer(name))


def synced_at_each(world: Any, name: str) -> Books:
    """Two blocks are replaced that were scanned one after the other."""
    world.block(world.deposit(500 * USDC))
    world.block(world.deposit(7 * USDC))
    books = world.synced(world.synced(world.synced(end_block=2), end_block=3), end_block=4)
    world.fork(3)
    world.blocks(3)
    return world.synced(books, world.syncer(name))


def replaced_and_no_more(world: Any, name: str) -> Books:
    """The last block scanned is replaced by an empty one."""
    books = begun(world)
    world.fork(4)
    world.block()
    return world.synced(books, world.syncer(name))


def mined_again(world: Any, name: str) -> Books:
    """The same transaction is in the block of the same number, which is later now."""
    books = begun(world)
    world.fork(4)
    world.wait = 60
    world.block(world.deposit(7 * USDC))
    world.blocks(1)
    return world.synced(books, world.syncer(name))


def deep(world: Any, name: str) -> Books:
    """Twelve blocks are replaced."""
    world.block(world.deposit(500 * USDC))
    books = world.synced()
    world.blocks(12)
    books = world.synced(books, world.syncer(name))
    world.fork(5)
    world.blocks(12)
    return world.synced(books, world.syncer(name))


def shorter(world: Any, name: str) -> Books:
    """The new branch is not as long as the old one."""
    begun(world)
    world.blocks(2)
    books = world.synced()
    world.fork(5)
    world.block()
    return world.synced(books, world.syncer(name))


def behind(world: Any, name: str) -> Books:
    """A node is behind the books."""
    begun(world)
    world.blocks(2)
    books = world.synced(world.synced(end_block=4))
    return world.synced(books, world.syncer(name), end_block=5, head=5)


def read_to_the_end(world: Any, name: str) -> Books:
    """A sync's last block is replaced, and the flows that it read before are read again with the next one."""
    books = world.initialised()
    world.block(world.deposit(500 * USDC))
    world.blocks(2)
    books = world.synced(books)
    world.fork(5)
    world.blocks(2)
    return world.synced(books, world.syncer(name))


def with_interest(world: Any, name: str) -> Books:
    """The block of an interest sync is replaced."""
    world.block(world.deposit(500 * USDC))
    books = world.supplied(world.synced(), 1_000, paid=1_000)
    books = world.synced(books)
    world.rebase(world.ausdc, 7)
    world.block()
    books = world.interest(world.synced(books))
    world.fork(5)
    world.blocks(2)
    return world.synced(books, world.syncer(name))


def with_correction(world: Any, name: str) -> Books:
    """The block of a correction that opened a position is replaced."""
    books = begun(world)
    world.rebase(world.weth, 10**18)
    world.rebase(world.usdc, -100)
    world.block()
    books = corrected(world, books)
    world.fork(5)
    world.blocks(2)
    return world.synced(books, world.syncer(name))


def with_closing(world: Any, name: str) -> Books:
    """The block of a correction that closed a position is replaced."""
    books = world.supplied(begun(world), 10**18, token=world.weth, paid=5)
    books = world.synced(books)
    world.rebase(world.weth, -(10**18))
    world.block()
    books = corrected(world, books)
    world.fork(6)
    world.blocks(2)
    return world.synced(books, world.syncer(name))


def donated(world: Any, name: str) -> Books:
    """A little of a token appears of which there is no position, and some reserve is gone; then accounts are corrected
    twice, and synced."""
    books = begun(world)
    world.rebase(world.weth, 10**18)
    world.rebase(world.usdc, -100)
    world.block()
    books = corrected(world, books, name)
    world.block(world.deposit(3 * USDC))
    books = corrected(world, books, name)
    world.block()
    return world.synced(books, world.syncer(name))


def taken(world: Any, name: str) -> Books:
    """Of a position all is gone."""
    books = world.supplied(begun(world), 10**18, token=world.weth, paid=5)
    world.rebase(world.weth, -(10**18))
    world.block()
    return corrected(world, books, name)


def taken_and_given_back(world: Any, name: str) -> Books:
    """Of a position all is gone, and then it is there again."""
    books = taken(world, "reference")
    world.rebase(world.weth, 10**18)
    world.block()
    return corrected(world, books, name)


def shared(world: Any, name: str) -> Books:
    """Two positions of a rebasing token, of which some is gone."""
    books = world.supplied(world.supplied(begun(world), 1_000, paid=1_000), 3_000, paid=3_000)
    world.rebase(world.ausdc, -100)
    world.block()
    return corrected(world, books, name)


def another_accessor(world: Any, name: str) -> Books:
    """A deposit, a new accessor, and another deposit, in one block."""
    world.block(world.deposit(500 * USDC), world.replace_accessor(), world.deposit(7 * USDC))
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name))


def one_transaction(world: Any, name: str) -> Books:
    """Two deposits of one transaction, the first of them after a gift."""
    gift = [world.transfer(world.usdc, "0x" + "11" * 20, world.vault, 7)]
    world.block([*gift, *world.deposit(500 * USDC), *world.deposit(7 * USDC)])
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name))


def less_than_said(world: Any, name: str) -> Books:
    """A deposit of which its token keeps something."""
    world.block(world.deposit(500 * USDC, fee=5 * USDC))
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name))


def said_alone(world: Any, name: str) -> Books:
    """The event of a deposit without any, and one with shares for nothing."""
    someone = "0x" + "11" * 20
    world.block([world.deposit_event(5, someone, someone)])
    world.block([*world.shares(5, someone), world.deposit_event(5, someone, someone)])
    return world.synced(world.initialised(world.syncer(name)), world.syncer(name))


STORIES: dict[str, Story] = {
    "reorganisations_unseen": replaced,
    "idle_sync_compares_nothing": replaced_and_no_more,
    "only_newest_block_taken_back": synced_at_each,
    "hashes_of_eight_blocks": deep,
    "only_last_end_block_known": deep,
    "lower_head_believed": behind,
    "lower_head_always_refused": shorter,
    "orphaned_flows_kept": replaced,
    "orphaned_interest_kept": with_interest,
    "orphaned_corrections_kept": with_correction,
    "orphaned_position_stays_open": with_correction,
    "orphaned_closing_kept": with_closing,
    "tracker_stamps_kept": with_interest,
    "last_distribution_kept": with_interest,
    "cursor_not_taken_back": replaced,
    "interest_checkpoint_not_taken_back": with_interest,
    "accounting_checkpoint_not_taken_back": with_correction,
    "flows_of_kept_blocks_stay": read_to_the_end,
    "ids_used_again": replaced,
    "re_included_flow_taken_for_known": mined_again,
    "time_of_orphaned_block_kept": mined_again,
    "flow_left_in_its_old_block": mined_again,
    "correction_leaves_treasury_cursor": donated,
    "accounting_cursor_unmoved": donated,
    "little_difference_is_dust": donated,
    "earlier_corrections_forgotten": donated,
    "token_without_a_position_ignored": donated,
    "shortfalls_ignored": donated,
    "closed_positions_stay_closed": taken_and_given_back,
    "difference_to_first_position": shared,
    "corrected_to_nothing_stays_open": taken,
    "correction_leaves_the_loan": shared,
    "correction_worth_unsigned": taken,
    "correction_with_opposite_sign": shared,
    "correction_as_interest": shared,
    "correction_as_deposit": shared,
    "replaced_accessor_not_followed": another_accessor,
    "accessor_switched_at_its_block": another_accessor,
    "one_flow_a_transaction": one_transaction,
    "gift_of_a_transaction_joins": one_transaction,
    "deposits_of_a_transaction_summed": one_transaction,
    "gross_of_a_tokens_fee": less_than_said,
    "event_alone_is_a_deposit": said_alone,
    "fee_with_an_event_is_a_deposit": said_alone,
}


def played(make_world: Callable[[], Any], story: Story, name: str) -> str:
    try:
        return dump_books(story(make_world(), name))
    except SyncRefused as error:
        return str(error)


@pytest.fixture
def make_world(enzyme) -> Callable[[], Any]:
    return lambda: type(enzyme)("enzyme")


@pytest.mark.parametrize("name", sorted(STORIES))
def test_broken_syncer_differs_from_the_reference(make_world, name):
    assert name in BROKEN
    expected = played(make_world, STORIES[name], "reference")
    assert expected != played(make_world, STORIES[name], f"harness.syncers.broken:{name}")


def test_reference_goes_through_every_story_but_that_of_a_node_behind(make_world):
    refused = {story for story in set(STORIES.values()) if not played(make_world, story, "reference").startswith("{")}
    assert {behind} == refused
