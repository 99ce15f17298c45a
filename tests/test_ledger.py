"""The ledger's facts: written in chain order, read as of a block."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction

import pytest

from harness.ledger.facts import Flow, Leg, MinedBlock, utc
from tests.hand_ledger import CHAIN_ID, GENESIS, Hand, address, asset, place, setting


def test_blocks_come_one_by_one() -> None:
    hand = Hand()
    with pytest.raises(ValueError, match="block 5 does not follow block 2"):
        hand.ledger.add_block(MinedBlock(number=5, hash="0x5", timestamp=GENESIS))


def test_flows_come_in_chain_order() -> None:
    hand = Hand()
    flow = hand.deposit(5)
    with pytest.raises(ValueError, match="does not follow"):
        hand.ledger.add_flow(flow)


def test_values_are_those_of_the_block_asked_for() -> None:
    hand = Hand()
    for raw in (5, 7):
        hand.deposit(raw)
        hand.ledger.set_supply(hand.ledger.head, raw * 10)
        hand.ledger.set_price("USDC", hand.ledger.head, raw)
    assert [0, 5, 12, 12] == [hand.ledger.balance("USDC", block) for block in (2, 3, 4, 9)]
    assert [0, 50, 70] == [hand.ledger.supply(block) for block in (2, 3, 4)]
    assert [10**8, 5, 7] == [hand.ledger.price_raw("USDC", block) for block in (0, 3, 4)]
    assert Fraction(7, 10**8) == hand.ledger.price("USDC", 4)
    assert Fraction(5 * 3, 10**14) == hand.ledger.worth("USDC", 3, 3)
    assert 0 == hand.ledger.balance("nothing", 4)


def test_a_value_set_twice_in_a_block_is_the_last() -> None:
    hand = Hand()
    for raw in (5, 6):
        hand.ledger.set_balance("USDC", 2, raw)
    assert 6 == hand.ledger.balance("USDC", 2)


def test_ranges_of_flows_and_moves_include_both_ends() -> None:
    hand = Hand()
    flows = [hand.deposit(1), hand.deposit(2), hand.deposit(3)]
    hand.move("donated", "USDC", 4)
    assert flows[:2] == list(hand.ledger.flows_between(3, 4))
    assert [] == list(hand.ledger.flows_between(0, 2))
    assert flows == list(hand.ledger.flows_between(0, 99))
    assert [4] == [move.raw for move in hand.ledger.moves_between("USDC", 6, 6)]
    assert [] == list(hand.ledger.moves_between("USDC", 7, 9))
    assert [] == list(hand.ledger.moves_between("WETH", 0, 9))


def test_a_move_of_nothing_is_none() -> None:
    hand = Hand()
    hand.move("taken", "USDC", 0)
    assert [] == list(hand.ledger.moves_between("USDC", 0, 9))


def test_a_copy_goes_its_own_way() -> None:
    hand = Hand()
    hand.deposit(5)
    other = hand.ledger.copy(setting(vault_name="Other"))
    hand.deposit(6)
    assert ("Other", 3, 5, 1) == (
        other.setting.vault_name,
        other.head,
        other.balance("USDC", 9),
        len(other.flows),
    )
    other.set_price("USDC", 3, 1)
    other.set_supply(3, 9)
    assert (10**8, 0) == (hand.ledger.price_raw("USDC", 4), hand.ledger.supply(4))


def test_held_assets_are_those_ever_held() -> None:
    hand = Hand()
    hand.move("donated", "WETH", 5)
    hand.move("taken", "WETH", -5)
    hand.ledger.set_balance("aUSDC", 3, 0)
    assert ["WETH"] == list(hand.ledger.held_symbols())


def test_assets_and_actors_go_by_address_in_any_spelling() -> None:
    world = setting()
    upper = asset("WETH", 18)
    shouted = type(upper)(chain_id=CHAIN_ID, address="0x" + upper.address[2:].upper(), token_symbol="?", decimals=0)
    assert "WETH" == world.symbol_of(shouted)
    assert world.symbol_of(asset("FOREIGN", 6)) is None
    assert ["alice", "0xelse"] == [world.actor_of("0xa11ce"), world.actor_of("0xelse")]


def test_a_flow_knows_its_place_and_times_are_utc() -> None:
    flow = Flow(
        cause="deposit",
        block=7,
        transaction="0x1",
        log_index=4,
        owner=address("alice"),
        legs=(Leg(symbol="USDC", raw=1),),
        location=place(3),
    )
    assert (7, 4) == flow.place
    assert datetime(2024, 1, 1) == utc(GENESIS)
