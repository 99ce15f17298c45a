"""What authors expect, held against books: a ledger that contradicts it is their mistake, books that do are a break."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from harness.books import Books
from harness.reconcile.expect import added_updates, judge_books
from harness.report.results import Verdict
from harness.runner import run_scenario
from harness.scenario.loader import loads
from harness.scenario.model import Expectation, StepBase
from harness.syncers.protocol import ChainView
from harness.syncers.reference import ReferenceSyncer
from tests.hand_ledger import full_history

HEADER = """\
title: Expected
tokens: {USDC: {decimals: 6, usd: 1}, aUSDC: {kind: index_rebase, underlying: USDC, decimals: 6}, WETH: {usd: 1600}}
vault: {kind: enzyme, reserve: USDC, name: Example Fund, symbol: EXAMPLE}
steps:
  - deposit: {caller: alice, assets: 1_000}
  - sync:
  - trade: {sell: 160 USDC, buy: 0.1 WETH}
  - redeem: {caller: alice, shares: 10%}
  - sync:
    expect:
"""
RIGHT = """\
      updates:
        - {cause: redemption, quantity: -84 USDC, old_balance: 840, usd_value: -84, owner: alice, position_id: ~}
        - {cause: redemption, quantity: -0.01 WETH, usd_value: -16, position_type: open_position, position_id: 1}
      balances: {USDC: 756, WETH: 0.09, aUSDC: 0}
      positions: {1: {quantity: 0.09 WETH, pair: {kind: spot_market_hold}, trades: [{executed_quantity: 0.1 WETH}]}}
      deployment: {address: vault, block_number: 2, vault_token_name: Example Fund}
      treasury: {last_block_scanned: 5}
      accounting: {balance_update_refs: []}
      interest: {last_sync_block: null}
      chain: {balances: {USDC: 756}, share_count: 900, share_price: 1}
      contains: {updates: [{asset: WETH}]}
"""


def outcome(expect: str, factory: Any = ReferenceSyncer) -> Any:
    return run_scenario(loads(HEADER + expect, "expected.yaml"), factory, id="x", sweeps=False)


def test_what_is_right_reconciles() -> None:
    result = outcome(RIGHT)
    assert Verdict.reconciled is result.verdict, (result.error, result.breaks)


@pytest.mark.parametrize(
    ("right", "wrong", "path", "expected", "actual"),
    [
        ("-84 USDC", "-83 USDC", "updates[0].quantity", "-83.000000 USDC", "-84.000000 USDC"),
        ("-84 USDC", "-84 aUSDC", "updates[0].quantity", "-84.000000 aUSDC", "-84.000000 USDC"),
        ("usd_value: -84", "usd_value: -84.01", "updates[0].usd_value", "-84.01", "-84.0"),
        ("old_balance: 840", "old_balance: 8.4", "updates[0].old_balance", "8.4", "840.000000 USDC"),
        ("owner: alice", "owner: vault", "updates[0].owner_address", "vault", "alice"),
        ("position_id: ~", "position_id: 1", "updates[0].position_id", "1", "nothing"),
        ("position_id: 1", "position_id: ~", "updates[1].position_id", "nothing", "1"),
        ("cause: redemption, quantity: -0.01", "cause: deposit, quantity: -0.01", "updates[1].cause", "deposit", ""),
        ("WETH: 0.09,", "WETH: 0.1,", "balances.WETH", "0.100000000000000000 WETH", "0.09 WETH"),
        ("aUSDC: 0}", "aUSDC: 1 raw}", "balances.aUSDC", "0.000001 aUSDC", "0 aUSDC"),
        ("quantity: 0.09 WETH, pair", "quantity: 0.1 WETH, pair", "positions.1.quantity", "0.1", "0.09 WETH"),
        ("spot_market_hold", "credit_supply", "positions.1.pair.kind", "credit_supply", "spot_market_hold"),
        ("executed_quantity: 0.1", "executed_quantity: 1", "positions.1.trades[0].executed_quantity", "1.0", "0.1"),
        ("block_number: 2", "block_number: 3", "deployment.block_number", "3", "2"),
        (
            "Example Fund}\n      treasury",
            "Fund}\n      treasury",
            "deployment.vault_token_name",
            "Fund",
            "Example Fund",
        ),
        ("last_block_scanned: 5", "last_block_scanned: 4", "treasury.last_block_scanned", "4", "5"),
        ("refs: []", "refs: [{cause: correction}]", "accounting.balance_update_refs", "1 entry", "0 entries"),
        ("last_sync_block: null", "last_sync_block: 5", "interest.last_sync_block", "5", "nothing"),
        ("{USDC: 756}", "{USDC: 755}", "chain.balances.USDC", "755.000000 USDC", "756.000000 USDC"),
        ("share_count: 900", "share_count: 1_000", "chain.share_count", "1000", "900"),
        ("share_price: 1}", "share_price: 1.001}", "chain.share_price", "1.001", "1"),
        ("[{asset: WETH}]", "[{asset: aUSDC}]", "contains.updates[0]", "one that fits", "2 entries"),
        ("positions: {1:", "closed_positions: {1:", "closed_positions.1", "a position", "none"),
    ],
)
def test_what_the_ledger_contradicts_is_an_error_of_the_scenario(
    right: str, wrong: str, path: str, expected: str, actual: str
) -> None:
    assert 1 == RIGHT.count(right)
    text = RIGHT.replace(right, wrong)
    line = 1 + next(
        index
        for index, (a, b) in enumerate(zip((HEADER + RIGHT).splitlines(), (HEADER + text).splitlines(), strict=True))
        if a != b
    )
    result = outcome(text)
    assert Verdict.error is result.verdict
    assert not result.internal
    assert () == result.breaks
    problem = next(one for one in result.problems if path in one.message)
    assert problem.message.startswith(f"{path} is expected to be ")
    assert expected in problem.message
    assert actual in problem.message
    assert ("expected.yaml", line) == (problem.location.file, problem.location.line)


def test_all_that_is_contradicted_is_told_at_once() -> None:
    result = outcome(
        "      balances: {USDC: 1, WETH: 2}\n      treasury: {last_block_scanned: 9}\n      positions: {}\n"
    )
    told = [one.message.partition(" is expected")[0] for one in result.problems]
    assert ["balances.USDC", "balances.WETH", "positions", "treasury.last_block_scanned"] == sorted(told)


def test_lists_are_complete_but_under_contains() -> None:
    one = "[{cause: redemption, quantity: -84 USDC}]"
    assert Verdict.error is outcome(f"      updates: {one}\n").verdict
    assert Verdict.reconciled is outcome(f"      contains: {{updates: {one}}}\n").verdict


def test_lists_are_in_order_and_one_entry_fits_once() -> None:
    both = "[{quantity: -0.01 WETH}, {quantity: -84 USDC}]"
    assert Verdict.error is outcome(f"      updates: {both}\n").verdict
    assert Verdict.reconciled is outcome(f"      contains: {{updates: {both}}}\n").verdict
    twice = "[{quantity: -0.01 WETH}, {quantity: -0.01 WETH}]"
    assert Verdict.error is outcome(f"      contains: {{updates: {twice}}}\n").verdict


def test_books_that_fail_an_expectation_that_the_ledger_meets_are_a_break_of_the_syncer() -> None:
    class Annotating(ReferenceSyncer):
        """Notes are free for the comparison, not for an author who names them."""

        def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
            after = super().sync_treasury(view, books, cycle)
            for reserve in after.portfolio.reserves.values():
                for update in reserve.balance_updates.values():
                    update.notes = "mine"
            return after

    expect = "      contains: {updates: [{quantity: -84 USDC, notes: null}]}\n"
    assert Verdict.reconciled is outcome(expect).verdict
    result = outcome(expect, Annotating)
    assert Verdict.differ is result.verdict
    (broken,) = result.breaks
    assert ("different", "contains.updates[0]") == (broken.kind, broken.field)


# -- pure


def _expectation(text: str) -> Expectation:
    step = loads(HEADER + text, "x.yaml").steps[-1]
    assert isinstance(step, StepBase)
    assert step.expect is not None
    return step.expect


def test_updates_added_by_a_step_come_in_order_those_without_a_transaction_by_position() -> None:
    hand = full_history()
    added = added_updates(Books(), hand.books)
    assert [1, 2, 3, 4, 5, 6, 7, 8] == [one.balance_update_id for one in added]
    one, two = hand.books.portfolio.open_positions[2], hand.books.portfolio.open_positions[3]
    first, second = one.balance_updates.pop(7), two.balance_updates.pop(8)
    first.balance_update_id, second.balance_update_id = 8, 7
    one.balance_updates[8], two.balance_updates[7] = first, second
    assert [2, 3] == [update.position_id for update in added_updates(Books(), hand.books)[-2:]]
    assert () == added_updates(hand.books, hand.books)


def test_nothing_expected_is_never_contradicted() -> None:
    hand = full_history()
    expectation = _expectation("      chain: {share_count: 5}\n")
    assert () == judge_books(expectation, hand.books, (), hand.ledger.setting)


def test_rates_of_an_asset_are_found_by_symbol() -> None:
    hand = full_history()
    text = "      interest: {last_distribution: {asset_interest_data: {aUSDC: {total: %s}}, assets: [aUSDC]}}\n"
    right, wrong = _expectation(text % "400"), _expectation(text % "399")
    assert () == judge_books(right, hand.books, (), hand.ledger.setting)
    (mismatch,) = judge_books(wrong, hand.books, (), hand.ledger.setting)
    assert ("interest.last_distribution.asset_interest_data.aUSDC.total", 1_000_000) == (
        mismatch.path,
        mismatch.gap_raw,
    )
