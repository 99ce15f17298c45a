"""Sweeps find what one way of syncing does not show, and nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from harness.books import Books
from harness.errors import SyncRefused
from harness.reconcile.diff import Break, BreakKind
from harness.report.results import ScenarioResult, Verdict
from harness.runner import run_scenario
from harness.scenario.loader import loads
from harness.sweeps import SWEEPS, first_difference, identity, judged_json
from harness.syncers.protocol import ChainView
from harness.syncers.reference import ReferenceSyncer
from tests.hand_ledger import full_history

SCENARIO = loads(
    """\
title: Some deposits
tokens: {USDC: {decimals: 6, usd: 1}}
vault: {kind: enzyme}
steps:
  - deposit: {caller: alice, assets: 100}
  - deposit: {caller: bob, assets: 50}
  - sync:
  - redeem: {caller: bob, shares: 10}
  - mine: 2
  - sync:
  - sync_interest:
""",
    "swept.yaml",
)


def run(syncer: Any, **options: Any) -> ScenarioResult:
    return run_scenario(SCENARIO, syncer, id="swept", **options)


def sweeps_that_found(syncer: Any) -> set[str | None]:
    """The sweeps that a syncer's breaks come from; the plain run must show nothing."""
    assert Verdict.reconciled is run(syncer, sweeps=False).verdict
    result = run(syncer)
    assert Verdict.differ is result.verdict
    return {broken.sweep for broken in result.breaks}


def test_the_reference_stands_every_sweep() -> None:
    result = run(ReferenceSyncer)
    assert Verdict.reconciled is result.verdict, [broken.sentence for broken in result.breaks]
    assert {"chunk-1", "twice", "saved-and-loaded"} <= set(result.sweeps) <= set(SWEEPS)


def test_one_that_depends_on_the_chunk_is_found() -> None:
    class LastBlockOfChunkLost(ReferenceSyncer):
        def flow_ranges(self, start_block: int, end_block: int, chunk: int | None) -> Any:
            for first, last in super().flow_ranges(start_block, end_block, chunk):
                yield first, last if chunk is None or last == end_block else last - 1

    assert "chunk-1" in sweeps_that_found(LastBlockOfChunkLost)


def test_one_that_does_not_bear_being_asked_again_is_found() -> None:
    class Refusing(ReferenceSyncer):
        def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
            if books.sync.treasury.last_block_scanned == view.end_block:
                raise SyncRefused("that is done")
            return super().sync_treasury(view, books, cycle)

    assert "twice" in sweeps_that_found(Refusing)


def test_one_that_keeps_its_place_in_itself_is_found() -> None:
    class Forgetting(ReferenceSyncer):
        asked = 0

        def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
            self.asked += 1
            after = super().sync_treasury(view, books, cycle)
            if self.asked == 1 and books.sync.treasury.last_block_scanned is not None:
                after.sync.treasury.last_block_scanned = 3
            return after

    assert "saved-and-loaded" in sweeps_that_found(Forgetting)


def test_a_sweep_says_in_words_how_it_differs() -> None:
    class Once(ReferenceSyncer):
        asked = 0

        def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
            self.asked += 1
            if self.asked > 2:
                raise RuntimeError("asked too often")
            return super().sync_treasury(view, books, cycle)

    broken = next(one for one in run(Once).breaks if one.sweep == "twice")
    assert broken.sentence.startswith("With each sync done twice: ")
    assert "asked too often" in broken.sentence


def test_what_the_plain_run_broke_is_not_told_again_by_sweeps() -> None:
    from harness.syncers.broken import BROKEN

    result = run(BROKEN["usd_sign"].factory)
    assert Verdict.differ is result.verdict
    assert {None} == {broken.sweep for broken in result.breaks}


# -- comparing states


def test_clocks_and_a_syncers_own_memory_are_not_compared() -> None:
    books = full_history().books
    state = judged_json(books)
    books.sync.treasury.last_updated_at = datetime(2031, 1, 1)
    books.block_hashes[5] = {"mine": 1}
    for reserve in books.portfolio.reserves.values():
        for update in reserve.balance_updates.values():
            update.created_at = datetime(2031, 1, 1)
    assert state == judged_json(books)
    books.portfolio.next_trade_id += 1
    assert ("portfolio.next_trade_id", "6", "7") == first_difference(state, judged_json(books))


@pytest.mark.parametrize(
    ("expected", "actual", "found"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ("a.b[1]", "2", "3")),
        ({"a": 1}, {}, ("a", "present", "nothing")),
        ({}, {"a": 1}, ("a", "nothing", "present")),
        ([1], [1, 2], ("", "1 entries", "2 entries")),
        ({"a": "1"}, {"a": None}, ("a", "1", "None")),
    ],
)
def test_the_first_difference_has_its_path(expected: object, actual: object, found: object) -> None:
    assert found == first_difference(expected, actual)


def test_the_same_finding_at_another_point_is_the_same() -> None:
    one = Break(kind=BreakKind.missing, sentence="here", asset="USDC", transaction="0x1", log_index=3, gap_raw=-5)
    other = Break(kind=BreakKind.missing, sentence="there", asset="USDC", transaction="0x1", log_index=3, gap_raw=-5)
    assert identity(one) == identity(other)
    assert identity(one) != identity(
        Break(kind=BreakKind.missing, sentence="here", asset="USDC", transaction="0x1", log_index=4, gap_raw=-5)
    )
