"""Conservation laws: silent on the chain that the harness plays, and broken by the smallest thing out of nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.ledger.facts import Flow, Ledger, Traded
from harness.probing import conservation, read_chain
from harness.reconcile import conservation as laws
from harness.reconcile.conservation import CHAIN_LAWS, Reading, judge_chain_laws
from harness.report.results import Verdict
from harness.runner import run_scenario
from harness.scenario.loader import loads
from harness.syncers.reference import ReferenceSyncer
from harness.world.acts import Played
from harness.world.play import play

ENZYME = """\
tokens:
  USDC: {decimals: 6, usd: 0.9}
  WETH: {decimals: 18, usd: 1613.77}
  aUSDC: {kind: index_rebase, underlying: USDC}
vault: {kind: enzyme, reserve: USDC}
steps:
  - deposit: {caller: alice, assets: 1000.000001 USDC}
  - sync:
  - trade: {sell: 100 USDC, buy: 0.0625 WETH}
  - supply: {assets: 300.000001 USDC, into: aUSDC}
  - rebase: {token: aUSDC, factor: 1.000123456789}
  - sync:
  - redeem: {caller: alice, shares: 12.3456789}
  - block:
      - deposit: {caller: bob, assets: 77.777777 USDC}
      - donate: {caller: bob, assets: 3 raw WETH}
      - redeem: {caller: alice, shares: 33%}
  - sync:
  - sync_interest:
  - mine: 2
  - price: {token: WETH, usd: 1500.00000001}
  - take: {assets: 1 raw USDC}
  - redeem: {caller: bob, shares: all}
  - redeem: {caller: alice, shares: all}
  - deposit: {caller: carol, assets: 5 USDC}
  - sync:
"""
ERC4626 = """\
tokens: {USDC: {decimals: 6}}
vault: {kind: erc4626}
steps:
  - deposit: {caller: alice, assets: 100.000003}
  - donate: {caller: bob, assets: 33.333333}
  - mint: {caller: bob, shares: 7 raw}
  - deposit: {caller: bob, assets: 10}
  - withdraw: {caller: alice, assets: 1 raw}
  - redeem: {caller: alice, shares: 50%}
  - sync:
  - redeem: {caller: alice, shares: all}
  - redeem: {caller: bob, shares: all}
  - deposit: {caller: bob, assets: 9}
  - sync:
"""


@pytest.fixture(scope="module", params=["enzyme", "erc4626"])
def played(request: pytest.FixtureRequest) -> Played:
    return play(loads({"enzyme": ENZYME, "erc4626": ERC4626}[request.param], "x.yaml"))


def readings(played: Played) -> list[Reading]:
    return [read_chain(played, block) for block in range(2, played.ledger.head + 1)]


def broken(ledger: Ledger, found: Sequence[Reading]) -> dict[str, int]:
    """The first block at which each law is broken."""
    blocks: dict[str, int] = {}
    for one in judge_chain_laws(ledger, found):
        blocks.setdefault(one.law, one.block)
    return blocks


def test_what_is_played_obeys_at_every_block_and_at_sync_points(played: Played) -> None:
    assert () == conservation(played, every_block=True)
    assert () == conservation(played, every_block=False)


@pytest.mark.parametrize("raw", [1, -1])
def test_one_raw_unit_more_or_less_breaks_each_law(played: Played, raw: int) -> None:
    found = readings(played)
    at = 4
    reserve = played.ledger.setting.reserve
    balances = {**found[at].balances, reserve: found[at].balances[reserve] + raw}
    for law, wrong in (
        ("assets-conserved", replace(found[at], balances=balances)),
        ("shares-conserved", replace(found[at], supply=found[at].supply + raw)),
        ("share-price-moves-for-a-reason", replace(found[at], gross=found[at].gross + raw)),
    ):
        unlawful = judge_chain_laws(played.ledger, [*found[:at], wrong, *found[at + 1 :]])
        assert [(law, found[at].block)] == [(one.law, one.block) for one in unlawful]
        assert f"{raw:+d} raw have no reason" in unlawful[0].sentence
        assert () == judge_chain_laws(played.ledger, [*found[:at], wrong, *found[at + 1 :]], off={law})


def rewritten(played: Played, **changes: Any) -> Ledger:
    """The ledger with its first redemption of a size changed."""
    ledger = played.ledger.copy(played.ledger.setting)
    flows = list(ledger.flows)
    index = flows.index(first_redemption(played))
    flows[index] = replace(flows[index], **{name: change(flows[index]) for name, change in changes.items()})
    ledger._flows = flows
    return ledger


def first_redemption(played: Played) -> Flow:
    return next(flow for flow in played.ledger.flows if flow.cause == "redemption" and flow.legs[0].raw < -1_000)


def test_a_flow_whose_shares_are_noted_wrongly_breaks_the_laws_of_shares(played: Played) -> None:
    block = first_redemption(played).block
    found = broken(rewritten(played, shares=lambda flow: flow.shares + 1), readings(played))
    assert block == found["shares-conserved"]
    assert "assets-conserved" not in found


def test_a_redemption_that_pays_more_than_its_share_moves_the_price(played: Played) -> None:
    """All figures agree, and the flow was unfair: twice the shares' worth went out, on chain and in the ledger."""
    ledger = rewritten(played, shares=lambda flow: flow.shares // 2)
    burned = first_redemption(played).shares - first_redemption(played).shares // 2
    block = first_redemption(played).block
    found = [
        replace(reading, supply=reading.supply - (burned if reading.block >= block else 0))
        for reading in readings(played)
    ]
    unlawful = [one for one in judge_chain_laws(ledger, found) if one.block == block]
    assert ["share-price-moves-for-a-reason"] == [
        one.law for one in unlawful if "moves the share price" in one.sentence
    ]


def test_a_redemption_that_pays_less_than_its_share_moves_the_price(played: Played) -> None:
    ledger = rewritten(played, shares=lambda flow: flow.shares * 3 // 2)
    block = first_redemption(played).block
    unlawful = [one for one in judge_chain_laws(ledger, readings(played)) if one.block == block]
    assert any("moves the share price" in one.sentence for one in unlawful)


def test_an_asset_counts_from_its_first_trade_though_nobody_looked_just_before() -> None:
    text = ENZYME.replace(
        "  - sync:\n  - trade: {sell: 100 USDC, buy: 0.0625 WETH}\n"
        "  - supply: {assets: 300.000001 USDC, into: aUSDC}\n",
        "  - donate: {caller: bob, assets: 500 WETH}\n  - sync:\n  - deposit: {caller: dave, assets: 50 USDC}\n"
        "  - trade: {sell: 100 USDC, buy: 0.0625 WETH, unsynced: true}\n"
        "  - supply: {assets: 300.000001 USDC, into: aUSDC, unsynced: true}\n",
    )
    played = play(loads(text, "x.yaml"))
    assert () == conservation(played, every_block=False)
    assert () == conservation(played, every_block=True)


def test_a_trade_that_nobody_noted_breaks_the_law_of_assets() -> None:
    played = play(loads(ENZYME, "x.yaml"))
    played.ledger._traded = [traded for traded in played.ledger.traded if traded.symbol != "WETH"]
    assert 4 == broken(played.ledger, readings(played))["assets-conserved"]


def test_a_deposit_of_more_shares_than_it_paid_for_moves_the_price() -> None:
    played = play(loads(ERC4626, "x.yaml"))
    ledger = played.ledger.copy(played.ledger.setting)
    ledger._flows = [replace(flow, shares=flow.shares + 1) if flow.block == 5 else flow for flow in ledger.flows]
    assert 5 == broken(ledger, readings(played))["share-price-moves-for-a-reason"]


def test_an_asset_that_is_counted_without_a_trade_counts_from_the_start() -> None:
    text = ENZYME.replace("reserve: USDC}", "reserve: USDC, tracked: [USDC, WETH, aUSDC]}").replace(
        "  - sync:\n  - trade",
        "  - donate: {caller: bob, assets: 0.5 WETH}\n  - deposit: {caller: dave, assets: 50 USDC}\n"
        "  - sync:\n  - trade",
        1,
    )
    assert () == conservation(play(loads(text, "x.yaml")), every_block=True)


def test_what_was_donated_before_it_counted_is_a_reason() -> None:
    text = ENZYME.replace(
        "  - sync:\n  - trade",
        "  - donate: {caller: bob, assets: 0.5 WETH}\n  - deposit: {caller: dave, assets: 50 USDC}\n"
        "  - sync:\n  - trade",
        1,
    )
    played = play(loads(text, "x.yaml"))
    assert () == conservation(played, every_block=True)
    assert () == conservation(played, every_block=False)


def test_trades_and_shares_are_in_the_ledger() -> None:
    ledger = play(loads(ENZYME, "x.yaml")).ledger
    assert [
        ("WETH", 62_500_000_000_000_000),
        ("USDC", -100_000_000),
        ("aUSDC", 300_000_001),
        ("USDC", -300_000_001),
    ] == [(traded.symbol, traded.raw) for traded in ledger.traded]
    assert all(isinstance(traded, Traded) and traded.location.line for traded in ledger.traded)
    assert ledger.supply(ledger.head) == sum(flow.shares for flow in ledger.flows)
    assert 1000_000_001 * 10**12 == ledger.flows[0].shares
    assert ["rebase"] == sorted({move.kind for move in ledger.moves if move.symbol == "aUSDC"} - {"rounded"})


def test_a_law_that_raises_is_told_and_the_others_go_on(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(ledger: Ledger, found: Sequence[Reading]) -> Any:
        raise ZeroDivisionError("no shares")

    monkeypatch.setattr(laws, "CHAIN_LAWS", {**CHAIN_LAWS, "assets-conserved": fails})
    found = readings(played)
    wrong = [*found[:-1], replace(found[-1], supply=found[-1].supply + 1)]
    unlawful = judge_chain_laws(played.ledger, wrong)
    assert ["assets-conserved", "shares-conserved"] == [one.law for one in unlawful]
    assert "could not be judged: ZeroDivisionError: no shares" in unlawful[0].sentence


def test_an_unlawful_chain_is_the_harnesses_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def unlawful(ledger: Ledger, found: Sequence[Reading]) -> Any:
        yield laws.Unlawful(law="assets-conserved", block=3, sentence="1 USDC came from nowhere")

    monkeypatch.setattr(laws, "CHAIN_LAWS", {"assets-conserved": unlawful})
    result = run_scenario(loads(ERC4626, "x.yaml"), ReferenceSyncer, id="x", sweeps=False)
    assert (Verdict.error, True) == (result.verdict, result.internal)
    assert "in x: assets-conserved, block 3: 1 USDC came from nowhere" in (result.error or "")
    off = loads("laws_off: {assets-conserved: seen}\n" + ERC4626, "x.yaml")
    result = run_scenario(off, ReferenceSyncer, id="x", sweeps=False)
    assert (Verdict.reconciled, ["assets-conserved"]) == (result.verdict, [each.law for each in result.laws_off])


MIXED = """\
tokens:
  USDC: {decimals: 6}
  aUSDC: {kind: index_rebase, underlying: USDC}
  dUSDC: {kind: debt, underlying: USDC}
vault: {kind: enzyme, reserve: USDC}
steps:
  - deposit: {caller: alice, assets: 1000.000001 USDC}
  - sync:
  - supply: {assets: 500.000001 USDC, into: aUSDC}
  - borrow: {assets: 100 USDC}
  - accrue: {token: aUSDC, rate: 5%}
  - wait: 30 days
  - mine: 1
  - charge_fee: {shares: 10, receiver: carol}
  - transaction:
    - deposit: {caller: bob, assets: 50 USDC}
    - redeem: {caller: bob, shares: 33%}
    - deposit: {caller: bob, assets: 33.333333 USDC}
  - redeem: {caller: alice, shares: 50%}
  - sync:
"""


def test_fees_debts_growth_and_several_flows_of_a_transaction_obey() -> None:
    played = play(loads(MIXED, "x.yaml"))
    assert () == conservation(played, every_block=True)
    assert () == conservation(played, every_block=False)


def test_shares_that_nobody_charged_as_a_fee_break_the_law_of_shares() -> None:
    played = play(loads(MIXED, "x.yaml"))
    fee = played.ledger.share_fees[0]
    ledger = played.ledger.copy(played.ledger.setting)
    ledger._share_fees = [replace(fee, raw=fee.raw - 1)]
    assert fee.block == broken(ledger, readings(played))["shares-conserved"]


def test_growth_that_nobody_noted_breaks_the_law_of_assets() -> None:
    played = play(loads(MIXED, "x.yaml"))
    grown = next(move for move in played.ledger.moves if not move.transaction)
    ledger = played.ledger.copy(played.ledger.setting)
    ledger._moves = [move for move in ledger.moves if move != grown]
    assert grown.block == broken(ledger, readings(played))["assets-conserved"]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_each_flow_of_a_transaction_is_judged(which: int) -> None:
    """One got a thousandth more shares than it should have, and another as many less: the supply is right."""
    played = play(loads(MIXED, "x.yaml"))
    ledger = played.ledger.copy(played.ledger.setting)
    flows = list(ledger.flows)
    mixed = [index for index, flow in enumerate(flows) if flow.transaction == flows[1].transaction]
    assert 3 == len(mixed)
    index, other = mixed[which], mixed[which - 1]
    moved = abs(flows[index].shares) // 1_000
    flows[index] = replace(flows[index], shares=flows[index].shares + moved)
    flows[other] = replace(flows[other], shares=flows[other].shares - moved)
    ledger._flows = flows
    assert {"share-price-moves-for-a-reason": flows[index].block} == broken(ledger, readings(played))
