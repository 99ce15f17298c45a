"""Every depth, every place of the last sync, every fate of the transactions: books must be the new branch's alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.books import BalanceUpdate, Books
from harness.judging import judge
from harness.scenario.loader import loads
from harness.session import Session
from harness.syncers.balances import BalancesSyncer
from harness.syncers.protocol import Syncer, Target
from harness.syncers.reference import ReferenceSyncer
from harness.world.play import play

SYNCERS: tuple[Callable[[Target], Syncer], ...] = (ReferenceSyncer, BalancesSyncer)
COMMON = 4
BOTH = (1, 2, 3, 4, 5, 8, 13, 21, 34, 55, 63, 64)
"""Depths at which the second reference is asked too."""
HEAD = """\
title: A reorganisation
tokens:
  USDC: {decimals: 6, usd: 1}
vault: {kind: VAULT}
steps:
  - deposit: {caller: alice, assets: 1_000.5}
"""
FIRST = "deposit: {caller: bob, assets: 70}"
SECOND = "redeem: {caller: alice, shares: 12.25}"


def written(vault: str, *steps: str) -> str:
    return HEAD.replace("VAULT", vault) + "".join(f"  - {step}\n" for step in steps)


def block(*steps: str) -> str:
    return "block: [" + ", ".join(f"{{{step}}}" for step in steps) + "]"


def blocks(count: int, at: dict[int, list[str]]) -> list[str]:
    """So many blocks above the common one, with these steps in some of them."""
    laid: list[str] = []
    for number in range(COMMON + 1, COMMON + count + 1):
        laid.append(block(*at[number]) if at.get(number) else "mine: 1")
    return laid


def with_syncs(place: str, depth: int, branch: list[str], then: list[str]) -> list[str]:
    """The steps up to the reorganisation, synced last before, at or after the common block."""
    steps = ["deposit: {caller: carol, assets: 30}"]
    if place == "before":
        steps.insert(0, "sync:")
    if place == "at":
        steps.append("sync:")
    steps += branch
    if place == "after":
        steps.insert(1 + (depth + 1) // 2, "sync:")
        steps.append("sync:")
    return [*steps, *then]


def fates(depth: int) -> dict[str, tuple[str, dict[int, list[str]], int]]:
    """For each fate: how the step says it, what stands in the new branch, and how many blocks that has."""
    low, high = COMMON + 1, COMMON + depth
    named = f"{low}, {high}" if high > low else f"{low}"
    kept = {low: [FIRST, SECOND]} if low == high else {low: [FIRST], high: [SECOND]}
    moved = f"{{{low}: {high + 1}, {high}: {low}}}" if high > low else f"{{{low}: {high + 1}}}"
    there = {high + 1: [FIRST], low: [SECOND]} if high > low else {high + 1: [FIRST, SECOND]}
    return {
        "dropped": (f"drop: [{named}]", {}, depth),
        "kept": (f"keep: [{named}]", kept, depth),
        "moved": (f"move: {moved}", there, depth + 1),
    }


def synced(text: str, syncers: Sequence[Callable[[Target], Syncer]] = SYNCERS) -> list[object]:
    """What each syncer comes to; at each point it must be what the ledger says."""
    played = play(loads(text, "reorganised.yaml"))
    memory: dict[object, object] = {}
    ends = []
    for factory in syncers:
        last = None
        for last in Session(played, factory, memory=memory).points():
            assert () == judge(played, last).breaks, text
        assert last is not None
        ends.append(bare(last.after))
    return ends


def bare(books: Books) -> object:
    """Books without ids, clock, and which transaction it was: a chain of its own has other nonces."""

    def of(update: BalanceUpdate) -> tuple[object, ...]:
        return (
            *(update.cause, update.quantity, update.old_balance, update.usd_value, update.owner_address),
            *(update.block_number, update.log_index, update.block_mined_at, update.strategy_cycle_included_at),
        )

    (reserve,) = books.portfolio.reserves.values()
    treasury = books.sync.treasury
    return (
        [of(update) for _, update in sorted(reserve.balance_updates.items())],
        (reserve.quantity, reserve.last_sync_at, reserve.reserve_token_price),
        (treasury.last_block_scanned, treasury.last_cycle_at),
        [ref.usd_value for ref in treasury.balance_update_refs],
    )


@pytest.mark.parametrize("place", ["before", "at", "after"])
@pytest.mark.parametrize("fate", ["dropped", "kept", "moved"])
@pytest.mark.parametrize("depth", [*range(1, 65)])
def test_books_are_the_new_branchs_alone(depth: int, fate: str, place: str) -> None:
    # Each cell on one vault kind, and the kinds in turns: a cell's neighbours are on the other.
    vault = ("enzyme", "erc4626")[depth % 2]
    how, there, count = fates(depth)[fate]
    old = blocks(depth, fates(depth)["kept"][1])
    reorganised = with_syncs(place, depth, old, [f"reorg: {{depth: {depth}, {how}}}", "mine: 1", "sync:"])
    alone = with_syncs("before" if place == "before" else "at" if place == "at" else "", depth, [], [])
    alone += [*blocks(count, there), "mine: 1", "sync:"]
    # Both ledgers are held to both syncers at some depths, to the first one at all.
    syncers = SYNCERS if depth in BOTH else SYNCERS[:1]
    assert synced(written(vault, *reorganised), syncers) == synced(written(vault, *alone), syncers)


@st.composite
def histories(draw: st.DrawFn) -> str:
    """Deposits, redemptions, syncs and reorganisations of them, one after another."""
    vault = draw(st.sampled_from(["enzyme", "erc4626"]))
    steps: list[str] = []
    content: list[int] = [1]  # how many transactions each block from 3 on holds
    for _ in range(draw(st.integers(3, 9))):
        kind = draw(st.sampled_from(["flow", "flow", "pair", "sync", "mine", "reorg"]))
        if kind == "sync":
            steps.append("sync:")
        elif kind == "mine":
            count = draw(st.integers(1, 3))
            steps.append(f"mine: {count}")
            content += [0] * count
        elif kind == "reorg":
            depth = draw(st.integers(1, min(len(content), 6)))
            steps.append(_reorganised(draw, content, depth))
        else:
            flows = [
                f"deposit: {{caller: bob, assets: {draw(st.integers(1, 50))}}}"
                if draw(st.booleans())
                else "redeem: {caller: alice, shares: 1.5}"
                for _ in range(1 if kind == "flow" else 2)
            ]
            steps.append(flows[0] if kind == "flow" else block(*flows))
            content.append(len(flows))
    return written(vault, *steps, "mine: 1", "sync:")


def _reorganised(draw: st.DrawFn, content: list[int], depth: int) -> str:
    fork = 3 + len(content) - depth
    words: dict[str, list[str]] = {"drop": [], "keep": [], "move": []}
    new = [0] * depth
    for offset, count in enumerate(content[-depth:]):
        for place in range(1, count + 1):
            # The first deposit of all stays: whoever redeems must have shares.
            fate = "keep" if fork + offset == 3 else draw(st.sampled_from(["drop", "keep", "move"]))
            name = f"{fork + offset}/{place}"
            if fate == "move":
                to = draw(st.integers(0, depth))
                new += [0] * (to + 1 - len(new))
                new[to] += 1
                words["move"].append(f"{name}: {fork + to}")
            else:
                words[fate].append(name)
                new[offset] += fate == "keep"
    content[-depth:] = new
    said = [f"depth: {depth}"]
    said += [f"{fate}: [{', '.join(words[fate])}]" for fate in ("drop", "keep") if words[fate]]
    said += [f"move: {{{', '.join(words['move'])}}}"] if words["move"] else []
    return f"reorg: {{{', '.join(said)}}}"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(text=histories())
def test_drawn_reorganisations_leave_what_the_ledger_says(text: str) -> None:
    synced(text)
