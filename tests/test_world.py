"""Scenarios that cannot be played as they are written: each ends in one clear sentence with its place."""

from __future__ import annotations

import pytest

from harness.errors import ExecutionError, ScenarioError
from harness.ledger.bookkeeping import Refusal
from harness.scenario.loader import loads
from harness.world.acts import BookAct, CheckAct, Played, RestartAct, SyncAct
from harness.world.play import play

HEADER = """\
title: Tiny
tokens: {USDC: {decimals: 6, usd: 1}, aUSDC: {kind: index_rebase, underlying: USDC, decimals: 6}, WETH: {usd: 1600}}
vault: {kind: enzyme, reserve: USDC}
steps:
"""
OPENING = "  - deposit: {caller: alice, assets: 1_000}\n  - sync:\n"


def played(steps: str, header: str = HEADER) -> Played:
    return play(loads(header + steps, "tiny.yaml"))


def told(steps: str, header: str = HEADER) -> str:
    """What a scenario ends in; the steps are the lines from 5 on."""
    with pytest.raises((ScenarioError, ExecutionError)) as caught:
        played(steps, header)
    return str(caught.value)


# -- steps on chain


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            "  - sync:\n  - redeem: {caller: alice, shares: 5}\n",
            "tiny.yaml:6:5: alice redeems 5 shares: failed on chain: comptroller: insufficient",
        ),
        (
            OPENING + "  - redeem: {caller: alice, shares: 1_001}\n",
            "tiny.yaml:7:5: alice redeems 1001 shares: failed on chain: comptroller: insufficient",
        ),
        (
            OPENING + "  - transfer_shares: {caller: alice, receiver: bob, shares: 2_000}\n",
            "tiny.yaml:7:5: alice hands 2000.000000000000000000 shares to bob: failed on chain: ",
        ),
        (
            OPENING + "  - deposit: {caller: bob, assets: 5}\n    refused: true\n",
            "tiny.yaml:7:5: bob deposits 5.000000 USDC: should be refused, but went through",
        ),
        (
            OPENING + "  - redeem: {caller: alice, shares: 1_001}\n    refused: paused\n",
            "tiny.yaml:7:5: alice redeems 1001 shares: refused as 'comptroller: insufficient",
        ),
        (
            OPENING + "  - take: {assets: 2_000 USDC}\n",
            "tiny.yaml:7:5: 2000.000000 USDC is taken out, unbooked: failed on chain: ",
        ),
    ],
)
def test_a_step_that_does_something_else_than_it_says_ends_the_scenario(steps: str, message: str) -> None:
    assert told(steps).startswith(message)


def test_an_actor_with_too_little_is_told_with_the_reason() -> None:
    header = HEADER.replace("steps:", "actors: {alice: {USDC: 500}}\nsteps:")
    message = told("  - deposit: {caller: alice, assets: 600}\n  - sync:\n", header)
    assert message.startswith("tiny.yaml:6:5: alice deposits 600.000000 USDC: failed on chain: ")


def test_the_first_failure_of_a_block_is_told() -> None:
    steps = """\
  - block:
      - deposit: {caller: alice, assets: 5}
      - redeem: {caller: bob, shares: 1}
      - redeem: {caller: carol, shares: 2}
  - sync:
"""
    assert told(steps).startswith("tiny.yaml:7:9: bob redeems 1 shares: failed on chain")


def test_a_failed_step_mines_its_block_and_moves_nothing() -> None:
    result = played(OPENING + "  - redeem: {caller: bob, shares: 5}\n    refused: true\n  - sync:\n")
    assert 4 == result.ledger.head
    assert [None, "comptroller: insufficient shares"] == [one.failed for one in result.ledger.transactions]
    assert 1 == len(result.ledger.flows)


# -- the manager


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            "  - trade: {sell: 1_001 USDC, buy: 1 WETH}\n",
            "tiny.yaml:7:5: this takes 1001.000000 USDC, and the books hold 1000.000000 USDC",
        ),
        (
            "  - supply: {assets: 1_000.000001, into: aUSDC}\n",
            "tiny.yaml:7:5: this takes 1000.000001 USDC, and the books hold 1000.000000 USDC",
        ),
        (
            "  - supply: {assets: 10, into: aUSDC}\n  - unsupply: {assets: 11 aUSDC}\n",
            "tiny.yaml:8:5: this takes 11.000000 aUSDC, and the books hold 10.000000 aUSDC",
        ),
        (
            "  - trade: {sell: 10 USDC, buy: 1 WETH}\n  - trade: {sell: 2 WETH, buy: 10 USDC}\n",
            "tiny.yaml:8:5: this takes 2.000000000000000000 WETH, and the books hold 1.000000000000000000 WETH",
        ),
        (
            "  - supply: {assets: 10, into: aUSDC}\n  - supply: {assets: 5, into: aUSDC, position: new}\n"
            "  - unsupply: {assets: 1 aUSDC}\n",
            "tiny.yaml:9:5: several positions of aUSDC are open\n    expected `position:` with one of 1, 2",
        ),
        (
            "  - supply: {assets: 10, into: aUSDC}\n  - close: {}\n  - close: {}\n",
            "tiny.yaml:9:5: no credit position is open",
        ),
    ],
)
def test_a_manager_cannot_take_what_the_books_do_not_hold(steps: str, message: str) -> None:
    assert told(OPENING + steps + "  - sync:\n").startswith(message)


def test_a_donation_is_nothing_to_trade_with() -> None:
    steps = OPENING + "  - donate: {caller: bob, assets: 500 USDC}\n  - trade: {sell: 1_200 USDC, buy: 1 WETH}\n"
    assert "the books hold 1000.000000 USDC" in told(steps)


def test_a_manager_syncs_before_trading_unless_the_step_says_otherwise() -> None:
    flow = OPENING + "  - deposit: {caller: bob, assets: 5}\n"
    message = told(flow + "  - trade: {sell: 10 USDC, buy: 1 WETH}\n")
    assert message.startswith("tiny.yaml:8:5: ")
    assert "unsynced: true" in message
    result = played(flow + "  - trade: {sell: 10 USDC, buy: 1 WETH, unsynced: true}\n  - sync:\n")
    (trade,) = (act.trade for act in result.acts if isinstance(act, BookAct))
    assert (10**18, -10_000_000, 5) == (trade.quantity_raw, trade.reserve_raw, trade.block_number)


@pytest.mark.parametrize(
    "step", ["supply: {assets: 5, into: aUSDC", "unsupply: {assets: 5 aUSDC", "close: {position: 1"]
)
def test_credit_steps_wait_for_the_interest_unless_they_say_otherwise(step: str) -> None:
    rebased = OPENING + "  - supply: {assets: 100, into: aUSDC}\n  - rebase: {token: aUSDC, factor: 1.01}\n"
    message = told(rebased + f"  - {step}}}\n  - sync:\n")
    assert message.startswith("tiny.yaml:9:5: ")
    assert "sync_interest" in message
    assert isinstance(played(rebased + f"  - {step}, unsynced: true}}\n  - sync:\n"), Played)
    assert isinstance(played(rebased + f"  - sync:\n  - sync_interest:\n  - {step}}}\n  - sync:\n"), Played)


def test_a_rebase_of_what_the_books_do_not_hold_bothers_nobody() -> None:
    steps = OPENING + "  - rebase: {token: aUSDC, factor: 1.01}\n  - supply: {assets: 100, into: aUSDC}\n  - sync:\n"
    assert isinstance(played(steps), Played)


# -- syncing steps


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            "  - restart: {chain_id: 2}\n  - sync:\n",
            "tiny.yaml:8:5: this must be refused (the books are of chain 1337, not 2)\n    expected `refused`",
        ),
        ("  - restart: {vault: second}\n  - sync:\n", "tiny.yaml:8:5: this must be refused (the books are of another"),
        ("  - sync: {cycle: 2023-01-01 00:00}\n", "tiny.yaml:7:5: this must be refused (cycle 2023-01-01"),
        ("  - mine: 1\n  - sync_interest:\n", "tiny.yaml:8:5: this must be refused (the treasury stands at block 3"),
        (
            "  - donate: {caller: bob, assets: 1 WETH}\n  - trade: {sell: 1 USDC, buy: 1 WETH}\n"
            "  - trade: {sell: all WETH, buy: 1 USDC}\n  - redeem: {caller: alice, shares: 10%}\n  - sync:\n",
            "tiny.yaml:11:5: this must be refused (WETH was paid out, and the books have no open position of it)",
        ),
        (
            "  - supply: {assets: 100, into: aUSDC}\n  - rebase: {token: aUSDC, factor: 1.06}\n  - sync:\n"
            "  - sync_interest:\n",
            "tiny.yaml:10:5: this must be refused (aUSDC changed by 6.000000 on a base of 100.000000, beyond the",
        ),
        ("  - sync:\n    refused: true\n", "tiny.yaml:7:5: nothing here is a reason to refuse"),
        (
            "  - trade: {sell: 10 USDC, buy: 1 WETH}\n  - sync: {end_block: 3}\n",
            "tiny.yaml:8:23: the sync ends at block 3, before the trade of block 4, line 7",
        ),
        (
            "  - trade: {sell: 10 USDC, buy: 1 WETH}\n  - sync_interest: {end_block: 3}\n",
            "tiny.yaml:8:5: a sync_interest that ends at block 3, before the trade booked at block 4",
        ),
        (
            "  - trade: {sell: 10 USDC, buy: 1 WETH}\n  - correct_accounts: {end_block: 3}\n",
            "tiny.yaml:8:5: a correct_accounts that ends at block 3, before the trade booked at block 4",
        ),
        ("  - sync: {end_block: 9}\n", "tiny.yaml:7:23: block 9 is beyond the head, which is 3 then"),
        ("  - sync: {end_block: 1}\n", "tiny.yaml:7:5: a sync that ends at block 1, before the vault's deployment"),
    ],
)
def test_a_sync_that_cannot_be_as_written_is_told(steps: str, message: str) -> None:
    found = told(OPENING + steps)
    assert found.startswith(message), found


@pytest.mark.parametrize("where", ["chain_id: 2", "vault: second"])
def test_books_are_not_initialised_while_the_syncer_is_pointed_elsewhere(where: str) -> None:
    message = told(f"  - restart: {{{where}}}\n  - initialise: {{}}\n  - sync:\n")
    assert message.startswith("tiny.yaml:6:5: books that are initialised while the syncer is pointed elsewhere")


def test_an_uninitialised_sync_is_predicted() -> None:
    result = played(
        "  - sync:\n    refused: initialised\n  - initialise:\n  - initialise:\n    refused: true\n  - sync:\n"
    )
    acts = [act for act in result.acts if isinstance(act, SyncAct)]
    assert [True, False, True, False] == [isinstance(act.expected, Refusal) for act in acts]


# -- what is played


def test_acts_stand_in_the_files_order_with_what_must_come_of_them() -> None:
    result = played(
        OPENING
        + "  - trade: {sell: 10 USDC, buy: 1 WETH}\n  - restart:\n  - sync: {chunk: 3}\n    expect: {balances: {}}\n"
        + "  - expect: {positions: {1: {}}}\n"
    )
    assert [SyncAct, SyncAct, BookAct, RestartAct, SyncAct, CheckAct] == [type(act) for act in result.acts]
    last = next(act for act in reversed(result.acts) if isinstance(act, SyncAct))
    assert (4, 4, 3, "sync") == (
        last.operation.end_block,
        last.operation.head,
        last.operation.chunk,
        last.operation.kind,
    )


def test_cycles_never_go_back_by_themselves() -> None:
    result = played("  - sync: {cycle: 2030-01-01 00:00}\n  - mine: 1\n  - sync:\n")
    cycles = [act.operation.cycle for act in result.acts if isinstance(act, SyncAct) and act.operation.cycle]
    assert cycles[0] == cycles[1]


def test_the_ledger_has_balances_supply_prices_and_both_legs() -> None:
    result = played(
        OPENING
        + "  - price: {token: USDC, usd: 0.5}\n  - donate: {caller: bob, assets: 7 USDC}\n"
        + "  - take: {assets: 50% USDC}\n  - redeem: {caller: alice, shares: 50%, receiver: bob}\n  - sync:\n"
    )
    ledger = result.ledger
    assert [1_000_000_000, 1_007_000_000, 503_500_000, 251_750_000] == [
        ledger.balance("USDC", block) for block in (3, 5, 6, 7)
    ]
    assert [10**8, 5 * 10**7] == [ledger.price_raw("USDC", block) for block in (3, 4)]
    assert [0, 1_000 * 10**18, 500 * 10**18] == [ledger.supply(block) for block in (2, 6, 7)]
    assert [("donated", 7_000_000), ("taken", -503_500_000)] == [
        (move.kind, move.raw) for move in ledger.moves_between("USDC", 0, 9)
    ]
    deposit, redemption = ledger.flows
    assert (ledger.setting.actors["alice"], -251_750_000) == (redemption.owner, redemption.legs[0].raw)
    assert (deposit.block, redemption.block) == (3, 7)


def test_a_rebase_is_an_unseen_move() -> None:
    result = played(
        OPENING
        + "  - supply: {assets: 100, into: aUSDC}\n  - rebase: {token: aUSDC, factor: 1.01}\n"
        + "  - rebase: {token: aUSDC, balance: 100.5}\n  - sync:\n"
    )
    moves = [(move.kind, move.raw) for move in result.ledger.moves_between("aUSDC", 0, 9)]
    assert [("rebase", 1_000_000), ("rebase", -500_000)] == moves


def test_equal_scenarios_have_equal_chains() -> None:
    steps = OPENING + "  - trade: {sell: 10 USDC, buy: 1 WETH}\n  - sync:\n"
    first, second = (played(steps) for _ in range(2))
    assert first.ledger.blocks == second.ledger.blocks
    assert first.ledger.flows == second.ledger.flows
    assert first.chain is not second.chain


def test_share_price_is_gross_assets_per_share() -> None:
    result = played(OPENING + "  - donate: {caller: bob, assets: 500 USDC}\n  - sync:\n")
    assert [None, 1, 1.5] == [result.share_price(block) for block in (2, 3, 4)]


DEPLOYED = """\
title: What the deploy block sets going
tokens:
  USDC: {decimals: 6}
  aUSDC: {kind: index_rebase, underlying: USDC}
vault: {kind: enzyme, reserve: USDC}
deploy_block:
  - accrue: {token: aUSDC, rate: 10%}
  - deposit: {caller: alice, assets: 1000}
steps:
  - sync:
  - supply: {assets: 600 USDC, into: aUSDC}
  - wait: 10 days
  - mine: 1
  - sync:
  - sync_interest:
"""


def test_a_world_taken_from_one_that_stands_goes_on_as_the_first_one_did() -> None:
    first, second = (play(loads(DEPLOYED, "deployed.yaml")) for _ in range(2))
    assert first.ledger.moves == second.ledger.moves != ()
    for played in (first, second):
        held = played.state(4).balance(played.world.around.tokens["aUSDC"], played.world.deployed.holder)
        assert held == played.ledger.balance("aUSDC", 4)
