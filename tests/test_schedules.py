"""The same history synced at other moments, and what the ledger foretells of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.books import Books
from harness.judging import judge
from harness.scenario.loader import loads
from harness.schedules import EVERY_BLOCK_AT_MOST, SCHEDULES, Schedule
from harness.session import PLAIN, NodeFailed, Session, Variation
from harness.syncers.reference import ReferenceSyncer
from harness.world.acts import Act, Played, SyncAct
from harness.world.play import play

HISTORY = """\
title: Flows before and after a trade
tokens:
  USDC: {decimals: 6, usd: 1}
  WETH: {decimals: 18, usd: 1600}
vault: {kind: enzyme, reserve: USDC}
steps:
  - deposit: {caller: alice, assets: 500}
  - deposit: {caller: bob, assets: 70}
  - sync:
  - mine: 3
  - sync:
  - trade: {sell: 100 USDC, buy: 0.0625 WETH}
  - mine: 2
  - redeem: {caller: alice, shares: 40%}
  - sync:
  - deposit: {caller: bob, assets: 3}
  - sync:
"""


@pytest.fixture(scope="module")
def played() -> Played:
    return play(loads(HISTORY, "history.yaml"))


def schedule(name: str) -> Schedule:
    return next(each for each in SCHEDULES if each.name == name)


def ends(acts: tuple[Act, ...] | None) -> list[int]:
    return [act.operation.end_block for act in acts or () if isinstance(act, SyncAct) and act.operation.kind == "sync"]


def test_one_go_leaves_out_what_nothing_separates(played: Played) -> None:
    assert [4, 7, 11, 12] == ends(played.acts)
    assert [7, 12] == ends(schedule("in-one-go").rewrite(played, "x"))


def test_every_block_stops_at_each_but_at_none_before_a_booked_trade(played: Played) -> None:
    assert [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] == ends(schedule("every-block").rewrite(played, "x"))


def test_random_blocks_are_drawn_by_the_seed(played: Played) -> None:
    rewrite = schedule("random-blocks").rewrite
    drawn = [ends(rewrite(played, seed)) for seed in ("a", "a", "b", "c", "d")]
    assert drawn[0] == drawn[1]
    assert len({tuple(each) for each in drawn}) > 1
    assert all(each == sorted(each) for each in drawn)


def test_a_schedule_that_would_change_nothing_is_none() -> None:
    still = loads(
        HISTORY[: HISTORY.index("  - mine: 3")].replace("  - deposit: {caller: bob, assets: 70}\n", ""), "one.yaml"
    )
    assert schedule("in-one-go").rewrite(play(still), "x") is None


def test_long_ways_are_stopped_at_so_often_and_no_more() -> None:
    text = HISTORY.replace("mine: 3", "mine: 900")
    long = play(loads(text, "long.yaml"))
    assert EVERY_BLOCK_AT_MOST * 2 > len(ends(schedule("every-block").rewrite(long, "x"))) > 50


@pytest.mark.parametrize("name", [each.name for each in SCHEDULES])
def test_books_come_to_the_same_balances_whenever_they_are_synced(played: Played, name: str) -> None:
    """Law 4 (a): under any schedule the same updates from events, ids and old balances aside."""
    acts = schedule(name).rewrite(played, "x")
    assert acts is not None
    last = [act.expected for act in acts if isinstance(act, SyncAct)][-1]
    plain = [act.expected for act in played.acts if isinstance(act, SyncAct)][-1]
    assert isinstance(last, Books)
    assert isinstance(plain, Books)
    assert [update(each) for each in updates(plain)] == [update(each) for each in updates(last)]
    for point in Session(played, ReferenceSyncer, acts=acts).points():
        assert () == judge(played, point).breaks


def updates(books: Books) -> list[object]:
    portfolio = books.portfolio
    held = [*portfolio.reserves.values(), *portfolio.open_positions.values()]
    return [each for holding in held for each in holding.balance_updates.values()]


def update(each: object) -> tuple[object, ...]:
    names = ("cause", "asset", "quantity", "usd_value", "tx_hash", "log_index", "position_id", "owner_address")
    return tuple(getattr(each, name) for name in names)


class Swallows(ReferenceSyncer):
    """Takes a node that fails for one with nothing to say."""

    def sync_treasury(self, view: object, books: Books, cycle: object) -> Books:
        try:
            view.code(self.target.vault)  # type: ignore[attr-defined]
        except NodeFailed:
            books.sync.treasury.last_block_scanned = view.end_block  # type: ignore[attr-defined]
            return books
        return super().sync_treasury(view, books, cycle)  # type: ignore[arg-type]


def test_stopped_at_each_call_the_reference_comes_through(played: Played) -> None:
    killed = Variation(name="killed", words="", killed=True)
    plain = [point.after for point in Session(played, ReferenceSyncer, variation=PLAIN).points()]
    stopped = [point.after for point in Session(played, ReferenceSyncer, variation=killed).points()]
    assert [len(updates(books)) for books in plain] == [len(updates(books)) for books in stopped]


def test_a_syncer_that_swallows_a_failing_node_is_caught(played: Played) -> None:
    killed = Variation(name="killed", words="", killed=True)
    points = list(Session(played, Swallows, variation=killed).points())
    assert any(judge(played, point).breaks for point in points)
    assert not any(judge(played, point).breaks for point in Session(played, Swallows).points())


class BelievesTheHead(ReferenceSyncer):
    """Takes the newest block for the end of its operation."""

    def sync_treasury(self, view: object, books: Books, cycle: object) -> Books:
        synced = super().sync_treasury(view, books, cycle)  # type: ignore[arg-type]
        synced.sync.treasury.last_block_scanned = view.head  # type: ignore[attr-defined]
        return synced


def test_late_shows_who_reads_the_head(played: Played) -> None:
    late = Variation(name="late", words="", late=True)
    assert not any(judge(played, point).breaks for point in Session(played, BelievesTheHead).points())
    first = next(
        broken
        for point in Session(played, BelievesTheHead, variation=late).points()
        for broken in judge(played, point).breaks
    )
    assert "treasury.last_block_scanned" == first.field
    assert replace(late, late=False) != late
