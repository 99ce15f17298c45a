"""The reference syncer where blocks are replaced: books go back to the last common block and read on."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from harness.books import Books, dump_books, load_books
from harness.errors import SyncRefused

USDC = 10**6
CLOCK = ("last_updated_at", "created_at")


def plain(books: Books) -> Any:
    """Books without ids, clock fields and what only a syncer reads in them."""
    book = load_books(dump_books(books))
    book.sync.treasury.last_updated_at = book.sync.accounting.last_updated_at = None
    book.block_hashes = {}
    portfolio = book.portfolio
    portfolio.next_balance_update_id = portfolio.next_position_id = 0
    for ref in (*book.sync.treasury.balance_update_refs, *book.sync.accounting.balance_update_refs):
        ref.balance_event_id = 0
    for holder in (
        *portfolio.reserves.values(),
        *portfolio.open_positions.values(),
        *portfolio.closed_positions.values(),
    ):
        told = sorted(holder.balance_updates.values(), key=lambda update: update.balance_update_id)
        for update in told:
            update.balance_update_id, update.created_at, update.other_data = 0, None, None
        holder.balance_updates = dict(enumerate(told))
    return book


def corrected(world: Any, books: Books, **view: Any) -> Books:
    return world.syncer().correct_accounts(world.view(**view), load_books(dump_books(books)))


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("ends", [(4,), (5, 7), (4, 6, 7, 7), (3, 4, 5, 6, 7)])
def test_books_are_those_of_the_new_branch_alone(world, depth, ends):
    def mine(count: int) -> None:
        for at in range(count):
            world.block(world.deposit((at + 1) * USDC), world.redeem([(world.usdc, 10 + at)]) if at else [])

    books = alone = world.initialised()
    mine(5)
    fork = 8 - depth
    for end in ends:
        books = world.synced(books, end_block=end)
        if end < fork:
            alone = world.synced(alone, end_block=end)
    world.fork(fork)
    world.blocks(1)
    mine(4)
    assert plain(world.synced(alone)) == plain(world.synced(books))


def test_transaction_mined_again_counts_once(world, updates):
    world.block()
    world.block(world.deposit(5 * USDC))
    books = world.synced()
    world.fork(4)
    world.blocks(2)
    world.block(world.deposit(5 * USDC))
    (update,) = updates(world.synced(books))
    assert (6, 2) == (update.block_number, update.balance_update_id)


def test_idle_sync_finds_a_reorganisation(world, updates):
    world.blocks(3)
    world.block(world.deposit(5 * USDC))
    books = world.synced()
    world.fork(6)
    world.blocks(2)
    after = world.synced(books, end_block=6)
    assert ([], 6) == (updates(after), after.sync.treasury.last_block_scanned)


def test_shorter_branch_is_believed_for_its_hashes_alone(world, updates):
    world.blocks(3)
    world.block(world.deposit(5 * USDC))
    books = world.synced()
    with pytest.raises(SyncRefused, match="head 5 is below the last block scanned, 6"):
        world.synced(books, end_block=5, head=5)
    world.fork(5)
    world.block()
    after = world.synced(books)
    assert ([], 5) == (updates(after), after.sync.treasury.last_block_scanned)


def test_end_block_above_a_shorter_branch_is_refused(world):
    world.blocks(4)
    books = world.synced()
    world.fork(4)
    world.block()
    with pytest.raises(SyncRefused, match="head 4 is below the end block 5"):
        world.syncer().sync_treasury(world.view(end_block=5, head=4), books, world.time(4))


def test_deep_reorganisation_goes_back_to_an_operation_whose_hash_is_gone(world, updates):
    """The checkpoints of the last operation before the kept blocks go with the oldest of them."""
    world.block(world.deposit(5 * USDC))
    first = world.synced()
    world.blocks(200)
    books = world.synced(first)
    assert min(books.block_hashes) == world.head - 127 > 3
    world.fork(world.head - 100)
    world.blocks(120)
    assert plain(world.synced(first)) == plain(world.synced(books))


def test_checkpoints_of_operations_long_gone_are_handed_down(world):
    """Each time the oldest blocks are let go, what they tell goes to the oldest that stays."""
    world.block(world.deposit(5 * USDC))
    first = world.synced()
    world.blocks(200)
    books = world.synced(first)
    world.blocks(60)
    books = world.synced(books)
    world.fork(150)
    world.block(world.deposit(6 * USDC))
    world.blocks(120)
    assert plain(world.synced(first)) == plain(world.synced(books))


def test_cycle_of_an_idle_sync_is_kept(world):
    books = world.synced()
    late = books.sync.treasury.last_cycle_at + timedelta(days=1)
    books = world.syncer().sync_treasury(world.view(), books, late)
    world.block(world.deposit(5))
    books = world.synced(books)
    world.fork(3)
    world.block()
    with pytest.raises(SyncRefused, match="before the last cycle"):
        world.syncer().sync_treasury(world.view(), books, late - timedelta(seconds=1))
    assert late == world.syncer().sync_treasury(world.view(), books, late).sync.treasury.last_cycle_at


def test_books_that_know_hashes_alone_are_taken_on(world, updates):
    """Books from before entries of `block_hashes` told more than the hash."""
    world.block(world.deposit(5 * USDC))
    old = world.synced()
    old.block_hashes = {3: old.block_hashes[3]["hash"]}
    world.block(world.deposit(6 * USDC))
    books = world.synced(old)
    world.fork(4)
    world.blocks(3)
    assert plain(world.synced(old)) == plain(world.synced(books))
    world.fork(3)
    world.block()
    with pytest.raises(SyncRefused, match="none of the blocks 3 to"):
        world.synced(books)


@pytest.mark.parametrize("entry", [None, 5, {"left": {}}])
def test_entry_without_a_hash_is_refused(world, entry):
    books = world.synced()
    books.block_hashes[2] = entry
    with pytest.raises(SyncRefused, match="where a block's hash should be"):
        world.synced(books)


def test_checkpoints_that_cannot_be_read_are_refused(world):
    world.block()
    books = world.synced()
    books.block_hashes[2]["left"] = {"treasury": 5}
    world.fork(3)
    world.block()
    with pytest.raises(SyncRefused, match="cannot be read"):
        world.synced(books)


def test_interest_goes_back_with_its_trackers(enzyme):
    world = enzyme
    world.block(world.deposit(1_000 * USDC))
    books = world.supplied(world.synced(), 400 * USDC, paid=400 * USDC)
    world.rebase(world.ausdc, 3 * USDC)
    world.block()
    base = world.interest(world.synced(books))
    world.rebase(world.ausdc, 5 * USDC)
    world.block(world.redeem([(world.usdc, 10), (world.ausdc, 20)]))
    books = world.interest(world.synced(base))
    assert books.sync.interest.last_distribution is not None
    world.fork(world.head)
    world.blocks(2)
    with pytest.raises(SyncRefused, match="the treasury stands at block"):
        world.interest(books)
    expected, actual = world.synced(base), world.synced(books)
    assert actual.sync.interest.last_distribution is None
    actual.sync.interest.last_distribution = expected.sync.interest.last_distribution
    assert plain(expected) == plain(actual)
    position = next(iter(actual.portfolio.open_positions.values()))
    assert world.head - 2 == position.loan.collateral_interest.last_updated_block_number
    expected, actual = world.interest(expected), world.interest(actual)
    assert plain(expected) == plain(actual)


def test_corrections_go_back_with_what_they_opened_and_closed(enzyme):
    world = enzyme
    world.block(world.deposit(1_000 * USDC))
    base = world.supplied(world.synced(), 400 * USDC, paid=400 * USDC)
    world.block()
    base = world.synced(base)
    world.rebase(world.ausdc, -400 * USDC)
    world.rebase(world.weth, 7)
    world.block()
    closing = corrected(world, base)
    assert ([2], [1]) == (list(closing.portfolio.open_positions), list(closing.portfolio.closed_positions))
    world.rebase(world.ausdc, 9)
    world.block()
    reopening = corrected(world, closing)
    assert [1, 2] == sorted(reopening.portfolio.open_positions)
    world.fork(world.head)
    world.block()
    assert plain(corrected(world, closing)) == plain(corrected(world, reopening))
    assert plain(world.synced(closing)) == plain(world.synced(reopening))
    world.fork(world.head - 1)
    world.blocks(2)
    for books in (closing, reopening):
        assert plain(world.synced(base)) == plain(world.synced(books))
    assert 3 == world.synced(reopening).portfolio.next_position_id


def test_deployment_that_was_replaced_is_refused(world):
    world.start_block = 0
    books = world.initialised()
    books.block_hashes[1] = {"hash": "0x" + world.headers[1].hash.hex(), "left": books.block_hashes[2]["left"]}
    world.fork(2)
    world.block(world.deployment())
    with pytest.raises(SyncRefused, match="the block of the deployment was replaced"):
        world.synced(books)


# -- in the middle of an operation


def moving(world: Any, books: Books, after: int, times: int = 1) -> Books:
    """A sync under which the chain is replaced at a certain read of logs, so many times."""
    view, left, reads = world.view(), [times], [0]

    def spoil(found: list[Any]) -> list[Any]:
        reads[0] += 1
        if left[0] and reads[0] >= after:
            left[0] -= 1
            reads[0] = 0
            end = world.head
            world.fork(4)
            world.blocks(end - 4)
            world.block(world.deposit(77))
        return found

    view.spoil = spoil
    syncer = type(world.syncer())(world.target, pause=lambda seconds: None)
    return syncer.sync_treasury(view, books, world.time(world.head))


@pytest.mark.parametrize("after", [1, 2, 3])
def test_chain_replaced_in_the_middle_is_read_anew(world, after):
    books = world.initialised()
    for raw in range(1, 5):
        world.block(world.deposit(raw))
    synced = moving(world, books, after)
    assert plain(world.synced(books)) == plain(synced)


@pytest.mark.parametrize("verb", ["sync_interest", "correct_accounts"])
def test_balances_of_a_chain_replaced_in_the_middle_are_read_anew(enzyme, verb):
    world = enzyme
    world.block(world.deposit(1_000 * USDC))
    books = world.supplied(world.synced(), 400 * USDC, paid=400 * USDC)
    world.block()
    books = world.synced(books)
    world.rebase(world.ausdc, 3 * USDC)
    world.block()
    books = world.synced(books) if verb == "sync_interest" else books

    class Moving:
        """A view whose chain is replaced right after a balance was read that is another one then."""

        def __init__(self) -> None:
            self.view, self.left = world.view(), 1

        def __getattr__(self, name: str) -> Any:
            return getattr(self.view, name)

        def call(self, *arguments: Any, **keywords: Any) -> Any:
            answer = self.view.call(*arguments, **keywords)
            if self.left and arguments[:2] == (world.ausdc.address, "balanceOf(address)(uint256)"):
                self.left = 0
                world.fork(world.head)
                world.rebase(world.ausdc, 7 * USDC)
                world.block()
            return answer

    if verb == "sync_interest":
        with pytest.raises(SyncRefused, match="the treasury stands at block"):
            getattr(world.syncer(), verb)(Moving(), books)
    else:
        after = getattr(world.syncer(), verb)(Moving(), books)
        assert plain(corrected(world, books)) == plain(after)


def test_chain_that_keeps_changing_is_refused(world):
    books = world.initialised()
    for raw in range(1, 5):
        world.block(world.deposit(raw))
    with pytest.raises(SyncRefused, match="changed while it was read"):
        moving(world, books, after=2, times=99)


def test_operation_is_not_begun_anew_without_a_reason(world):
    world.block(world.deposit(1))
    books = world.initialised()
    pauses: list[float] = []
    syncer = type(world.syncer())(world.target, pause=pauses.append)
    assert dataclasses.replace(syncer.sync_treasury(world.view(), books, world.time(3)))
    assert [] == pauses
