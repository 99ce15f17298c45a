"""The balances-first syncer where blocks are replaced: between operations, in the middle of one, too deep, or never."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from harness.books import Books, copy_books, dump_books, load_books
from harness.errors import SyncRefused
from harness.judging import judge
from harness.scenario.loader import loads
from harness.session import Point, Session
from harness.syncers import Target
from harness.syncers.balances import BalancesSyncer
from harness.syncers.balances.asking import Doubt
from harness.world.acts import Played
from harness.world.play import play

TOKENS = """
tokens:
  USDC: {decimals: 6, usd: 1}
  WETH: {decimals: 18, usd: 1600}
  aUSDC: {kind: index_rebase, underlying: USDC}
  vdUSDC: {kind: debt, underlying: USDC}
vault: {kind: enzyme, reserve: USDC}
"""
FLOWS = f"""
title: Flows that are dropped, moved and kept, read by syncs that ended above and below
{TOKENS}
steps:
  - deposit: {{caller: alice, assets: 500}}
  - sync:
  - deposit: {{caller: bob, assets: 50}}
  - deposit: {{caller: carol, assets: 60}}
  - redeem: {{caller: alice, shares: 10}}
  - sync:
  - sync: {{end_block: 5}}
  - reorg: {{depth: 2, move: {{5: 6}}, drop: [6], add: [{{deposit: {{caller: dave, assets: 7}}}}]}}
  - sync: {{end_block: 5}}
  - sync:
  - sync:
  - mine: 2
  - reorg: {{depth: 1}}
  - sync:
"""
INTEREST = f"""
title: Interest and trades of blocks that go
{TOKENS}
steps:
  - deposit: {{caller: alice, assets: 500}}
  - sync:
  - supply: {{assets: 100 USDC, into: aUSDC}}
  - trade: {{sell: 100 USDC, buy: 0.0625 WETH}}
  - rebase: {{token: aUSDC, factor: 1.01}}
  - sync:
  - sync_interest:
  - redeem: {{caller: alice, shares: 50%}}
  - rebase: {{token: aUSDC, factor: 1.01}}
  - sync:
  - sync_interest:
  - rebase: {{token: aUSDC, factor: 1.01}}
  - sync:
  - sync_interest:
  - supply: {{assets: 10 USDC, into: aUSDC}}
  - trade: {{sell: 0.01 WETH, buy: 16 USDC}}
  - mine: 1
  - sync: {{end_block: 11}}
  - reorg: {{depth: 5, move: {{11: 12}}, drop: [9, 8], keep: [10]}}
  - sync_interest:
    refused: treasury
  - sync:
  - sync_interest:
  - reorg: {{depth: 7, drop: [6, 10], move: {{7: 9}}, keep: [12]}}
  - sync:
  - sync_interest:
"""
CORRECTIONS = f"""
title: Positions that corrections open, re-open and close in blocks that go
{TOKENS}
steps:
  - deposit: {{caller: alice, assets: 500}}
  - sync:
  - supply: {{assets: 100 USDC, into: aUSDC}}
  - trade: {{sell: 50 USDC, buy: 0.03 WETH}}
  - borrow: {{assets: 40 USDC, position: 1}}
  - take: {{assets: all WETH}}
  - correct_accounts:
  - donate: {{caller: bob, assets: 1 WETH}}
  - correct_accounts:
  - take: {{assets: all WETH}}
  - take: {{assets: all aUSDC}}
  - correct_accounts:
  - repay: {{assets: all}}
  - mine: 1
  - sync:
  - sync_interest:
  - reorg: {{depth: 5, drop: [8, 9, 10, 11]}}
  - sync:
  - sync_interest:
  - accrue: {{token: vdUSDC, rate: 10%}}
  - wait: 30 days
  - mine: 1
  - correct_accounts:
  - reorg: {{depth: 9, keep: [7, 6], drop: [13]}}
  - sync:
  - correct_accounts:
  - donate: {{caller: bob, assets: 2 WETH}}
  - donate: {{caller: bob, assets: 3 aUSDC}}
  - correct_accounts:
  - reorg: {{depth: 2, drop: [15], keep: [16]}}
  - correct_accounts:
"""
DEBTS = f"""
title: Debts that grow in blocks that go
{TOKENS}
steps:
  - deposit: {{caller: alice, assets: 500}}
  - sync:
  - supply: {{assets: 100 USDC, into: aUSDC}}
  - borrow: {{assets: 40 USDC}}
  - accrue: {{token: vdUSDC, rate: 10%}}
  - wait: 3 days
  - mine: 1
  - sync:
  - sync_interest:
  - redeem: {{caller: alice, shares: 10%}}
  - wait: 3 days
  - mine: 1
  - sync:
  - sync_interest:
  - repay: {{assets: 20 USDC}}
  - mine: 1
  - sync:
  - reorg: {{depth: 3, drop: [10]}}
  - sync:
  - sync_interest:
  - reorg: {{depth: 7, move: {{5: 7}}, keep: [6, 8]}}
  - sync:
  - sync_interest:
"""
HOOK = f"""
title: A chain that moves on while it is read
{TOKENS}
steps:
  - deposit: {{caller: alice, assets: 500}}
  - sync:
  - supply: {{assets: 100 USDC, into: aUSDC}}
  - deposit: {{caller: bob, assets: 50}}
  - rebase: {{token: aUSDC, factor: 1.01}}
  - deposit: {{caller: carol, assets: 60}}
  - sync: {{end_block: 6}}
  - sync_interest: {{end_block: 6}}
  - node:
      after: AFTER
      steps:
        - reorg: {{depth: 3, move: {{5: 6}}, drop: [6], keep: [7], add: [{{deposit: {{caller: dave, assets: 7}}}}]}}
  - sync:
  - node: {{}}
  - sync:
  - sync_interest:
"""


@cache
def played(text: str) -> Played:
    return play(loads(text, "history.yaml"))


def points_of(text: str) -> list[Point]:
    return list(Session(played(text), BalancesSyncer).points())


def broken(text: str) -> list[str]:
    return [one.sentence for point in points_of(text) for one in judge(played(text), point).breaks]


@pytest.mark.parametrize(
    "text", [FLOWS, INTEREST, CORRECTIONS, DEBTS], ids=["flows", "interest", "corrections", "debts"]
)
def test_books_are_those_of_the_new_branch(text):
    assert [] == broken(text)


@pytest.mark.parametrize("after", [1, 2, 4, 8, 16, 32])
def test_chain_that_moves_on_in_the_middle_is_read_anew(after):
    assert [] == broken(HOOK.replace("AFTER", str(after)))


def test_hashes_of_every_block_scanned_are_kept_and_travel_through_json():
    books = points_of(CORRECTIONS)[-1].after
    assert list(range(2, 17)) == sorted(books.block_hashes)
    assert books.block_hashes == json.loads(
        json.dumps(load_books(dump_books(books)).block_hashes), object_hook=_numbered
    )


def _numbered(pairs: dict[str, Any]) -> dict[Any, Any]:
    return {int(key) if key.isdigit() else key: value for key, value in pairs.items()}


# -- on the last view of a history, with other books


class Asked:
    """What the last operation of a history was given, to be asked again otherwise."""

    def __init__(self, text: str, verb: str = "sync_treasury") -> None:
        asked: list[Any] = []

        class Noting(BalancesSyncer):
            def sync_treasury(self, view: Any, books: Books, cycle: Any) -> Books:
                asked.append(("sync_treasury", self._target, view, copy_books(books), (cycle,)))
                return super().sync_treasury(view, books, cycle)

        list(Session(played(text), Noting).points())
        _, self.target, self.view, self.books, self.more = [one for one in asked if one[0] == verb][-1]

    def again(self, books: Books, view: Any = None, target: Target | None = None) -> Books:
        pauses: list[float] = []
        syncer = BalancesSyncer(target or self.target, pause=pauses.append)
        before = dump_books(books)
        try:
            return syncer.sync_treasury(view or self.view, books, *self.more)
        finally:
            assert before == dump_books(books), "the books that were given stay as they are"


class Over:
    """A view of which a test overrides what it wants."""

    def __init__(self, view: Any) -> None:
        self._view = view

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)


PLAIN = f"""
title: Two deposits
{TOKENS}
steps:
  - deposit: {{caller: alice, assets: 500}}
  - sync:
  - deposit: {{caller: bob, assets: 50}}
  - mine: 1
  - sync:
  - mine: 1
  - sync:
"""


def test_books_without_a_common_block_are_refused():
    asked = Asked(PLAIN)
    for block in asked.books.block_hashes:
        asked.books.block_hashes[block] = f"0x{block:064x}"
    with pytest.raises(SyncRefused, match="blocks 2 to 5 were all replaced, and no hash of an earlier block is kept"):
        asked.again(asked.books)


def test_books_that_do_not_tell_how_to_go_back_are_refused():
    """Kept by somebody else, without what the operations found."""
    asked = Asked(PLAIN)
    for block, kept in asked.books.block_hashes.items():
        asked.books.block_hashes[block] = kept["hash"] if isinstance(kept, dict) else kept
    asked.books.block_hashes[5] = "0x" + "11" * 32
    with pytest.raises(SyncRefused, match="blocks after 4 were replaced, and the books do not tell how they stood"):
        asked.again(asked.books)


def test_books_without_hashes_are_read_on():
    """Old files have none: nothing is compared, and nothing refused."""
    asked = Asked(PLAIN)
    asked.books.block_hashes = {3: None, 4: {"other": 1}}
    after = asked.again(asked.books)
    assert 6 == after.sync.treasury.last_block_scanned
    assert 6 in after.block_hashes


def test_replaced_block_takes_its_sync_along():
    """Block 5 alone is another: all that the sync to it read is read again, from where the one before ended."""
    asked = Asked(PLAIN)
    kept = asked.books.block_hashes[5]
    asked.books.block_hashes[5] = kept | {"hash": "0x" + "11" * 32}
    ids = [ref.balance_event_id for ref in asked.again(asked.books).sync.treasury.balance_update_refs]
    assert [1, 3] == ids, "the second deposit was booked anew, and its id not used again"


@pytest.mark.parametrize("head", [4, 5])
def test_node_behind_the_cursor_is_not_believed(head):
    asked = Asked(PLAIN)
    view = Over(asked.view)
    view.head, view.end_block = head, 4
    if head >= 5:
        assert 5 == asked.again(asked.books, view).sync.treasury.last_block_scanned
    else:
        with pytest.raises(SyncRefused, match="the node is behind: its head is 4, and block 5 is needed"):
            asked.again(asked.books, view)


def test_head_below_the_cursor_is_believed_if_a_hash_proves_it():
    asked = Asked(PLAIN)
    asked.books.block_hashes[4] = "0x" + "11" * 32
    view = Over(asked.view)
    view.head = view.end_block = 4
    after = asked.again(asked.books, view)
    assert (4, [2, 3, 4]) == (after.sync.treasury.last_block_scanned, sorted(after.block_hashes))
    assert 550 == after.portfolio.reserves[asked.target.reserve.identifier].quantity


def test_end_block_above_the_head_is_refused_whatever_hashes_say():
    asked = Asked(PLAIN)
    asked.books.block_hashes[4] = "0x" + "11" * 32
    view = Over(asked.view)
    view.head = 5
    with pytest.raises(SyncRefused, match="the node is behind: its head is 5, and block 6 is needed"):
        asked.again(asked.books, view)


def test_idle_sync_looks_for_replaced_blocks_too():
    asked = Asked(PLAIN)
    asked.books.block_hashes[5] = asked.books.block_hashes[5] | {"hash": "0x" + "11" * 32}
    view = Over(asked.view)
    view.end_block = 3
    after = asked.again(asked.books, view)
    assert 3 == after.sync.treasury.last_block_scanned, "the sync to block 5 is gone"
    assert [1] == [ref.balance_event_id for ref in after.sync.treasury.balance_update_refs]


class Restless(Over):
    """A node whose end block is another one each time it is asked for."""

    reads = 0

    def header(self, block: int) -> Any:
        found = self._view.header(block)
        if block == self._view.end_block:
            self.reads += 1
            found = Over(found)
            found.hash = bytes([self.reads]) * 32
        return found


def test_chain_that_never_comes_to_rest_is_refused():
    asked = Asked(PLAIN)
    view = Restless(asked.view)
    with pytest.raises(Doubt, match="block 6 was replaced while it was read"):
        asked.again(asked.books, view)
    assert 6 == view.reads, "three starts, with a look before and after each"


def test_refusal_of_a_replaced_block_is_no_answer():
    """What is refused because of a block that is gone meanwhile is looked at again."""
    asked = Asked(PLAIN)
    view = Restless(asked.view)
    books = copy_books(asked.books)
    books.sync.treasury.last_cycle_at = asked.more[0].replace(year=2029)
    with pytest.raises(SyncRefused, match="is earlier than the last cycle"):
        asked.again(books, view)
    assert 6 == view.reads


def test_headers_that_do_not_follow_on_each_other_are_refused():
    asked = Asked(PLAIN)

    class Torn(Over):
        def header(self, block: int) -> Any:
            found = Over(self._view.header(block))
            if block == 6:
                found.parent_hash = bytes(32)
            return found

    with pytest.raises(Doubt, match="block 6 does not follow the block 5 that the node gave"):
        asked.again(asked.books, Torn(asked.view))
