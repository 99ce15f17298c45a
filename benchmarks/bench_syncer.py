"""How fast the reference syncer books flows of a real chain, and whether its time per flow grows with history.

Each function returns rows of name, value, unit, and the ratio to the baseline in the same run (None for a baseline).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from datetime import datetime
from typing import NamedTuple

from harness.books import Books
from harness.chain import Call, Chain, Node, Outcome, Pending, View, load_artifact
from harness.scenario.loader import loads
from harness.scenario.model import Scenario
from harness.syncers.protocol import Dust, Target
from harness.syncers.reference.syncer import ReferenceSyncer
from harness.world.setup import Foundation, World

Row = tuple[str, float, str, float | None]

GENESIS = 1_704_067_200
BLOCK_TIME = 12
PER_BLOCK = 40
NOW = datetime(2030, 1, 1)
CYCLE = datetime(2025, 1, 1)
SCENARIO = """\
title: The world of a benchmark
tokens:
  USDC: {{decimals: 6, usd: 1}}
vault: {{kind: {kind}, reserve: USDC}}
steps:
  - deposit: {{caller: alice, assets: 1}}
  - sync:
"""


class Vault(NamedTuple):
    """A vault on a chain of its own, with an investor who has approved it."""

    chain: Chain
    world: World
    scenario: Scenario


def deploy(kind: str) -> Vault:
    """Deploy a world of one token and one vault, by the harness's own pieces."""
    scenario = loads(SCENARIO.format(kind=kind), "benchmark.yaml")
    foundation = Foundation(scenario)
    chain = Chain(chain_id=scenario.chain_id, genesis_timestamp=GENESIS, accounts=foundation.accounts())
    worlds: list[World] = []

    def vault(_: Pending) -> Generator[Call, Outcome, None]:
        worlds.append((yield from foundation.deploy_vault()))

    chain.mine(lambda _: foundation.deploy_tokens(), timestamp=GENESIS + BLOCK_TIME)
    chain.mine(vault, timestamp=GENESIS + 2 * BLOCK_TIME)
    return Vault(chain, worlds[0], scenario)


def mine_flows(vault: Vault, count: int) -> None:
    """Mine deposits and, as every fourth flow, redemptions, 40 a block."""
    alice = vault.world.around.actors["alice"]
    (spender,) = vault.world.kind.spenders()
    enzyme = vault.scenario.vault.kind == "enzyme"
    artifact = load_artifact("Comptroller" if enzyme else "Erc4626Vault")

    def flow(index: int) -> bytes:
        raw = 1_000_000 + index
        if index % 4 == 3:
            if enzyme:
                return artifact.encode("redeemSharesInKind", alice.address, 10**18 // 4, [], [])
            return artifact.encode("redeem", 10**6 // 4, alice.address, alice.address)
        return artifact.encode("buyShares", raw, 0) if enzyme else artifact.encode("deposit", raw, alice.address)

    def build(first: int) -> Callable[[Pending], Generator[Call, Outcome, None]]:
        def block(_: Pending) -> Generator[Call, Outcome, None]:
            for index in range(first, first + PER_BLOCK):
                outcome = yield Call(alice, spender, flow(index))
                if not outcome.succeeded:
                    raise RuntimeError(outcome.revert_reason)

        return block

    for first in range(0, count, PER_BLOCK):
        timestamp = vault.chain.header(vault.chain.head).timestamp + BLOCK_TIME
        vault.chain.mine(build(first), timestamp=timestamp)


def syncer_of(vault: Vault) -> ReferenceSyncer:
    """The reference syncer for a vault."""
    setting = vault.world.setting(vault.scenario)
    dust = {
        asset: Dust(absolute=setting.dust_absolute[symbol], relative=setting.dust_relative[symbol])
        for symbol, asset in setting.assets.items()
    }
    return ReferenceSyncer(
        Target(
            kind=setting.kind,
            chain_id=setting.chain_id,
            vault=setting.vault,
            deployer=setting.deployer,
            holder=setting.holder,
            reserve=setting.reserve_asset,
            feeds={asset: setting.feeds[symbol] for symbol, asset in setting.assets.items()},
            dust=dust,
            interest_bound=setting.interest_bound,
            start_block=setting.deployment_block,
        )
    )


def growing(kind: str, sizes: tuple[int, ...] = (2_000, 8_000), rounds: int = 3) -> list[Row]:
    """Flows booked a second of CPU; the ratio is that of the time per flow to the shortest history's."""
    vault = deploy(kind)
    syncer = syncer_of(vault)
    rows: list[Row] = []
    mined, baseline = 0, 0.0
    for size in sizes:
        mine_flows(vault, size - mined)
        mined = size
        head = vault.chain.head
        opening = syncer.initialise(_view(vault, head), Books())
        spent = min(_synced(vault, syncer, opening, head, None, size) for _ in range(rounds))
        each = spent / size
        rows.append(
            (f"{kind}: {size:,} flows in one sync", size / spent, "flows/s CPU", each / baseline if baseline else None)
        )
        baseline = baseline or each
        chunked = min(_synced(vault, syncer, opening, head, 1, size) for _ in range(rounds))
        rows.append((f"{kind}: {size:,} flows, a block at a time", size / chunked, "flows/s CPU", chunked / spent))
        before = syncer.sync_treasury(_view(vault, head - 1), opening, CYCLE)
        last = min(_synced(vault, syncer, before, head, None, size) for _ in range(rounds))
        rows.append((f"{kind}: the last {PER_BLOCK} flows after {size - PER_BLOCK:,}", last * 1_000, "ms CPU", None))
    return rows


def _synced(vault: Vault, syncer: ReferenceSyncer, books: Books, head: int, chunk: int | None, flows: int) -> float:
    """CPU seconds of a treasury sync to the head, which must leave so many updates."""
    view = _view(vault, head, chunk)
    started = time.process_time()
    after = syncer.sync_treasury(view, books, CYCLE)
    spent = time.process_time() - started
    found = sum(len(reserve.balance_updates) for reserve in after.portfolio.reserves.values())
    if found != flows:
        raise RuntimeError(f"{found} updates instead of {flows}")
    return spent


def _view(vault: Vault, end_block: int, chunk: int | None = None) -> View:
    """A view that remembers nothing."""
    return View(Node(vault.chain), end_block=end_block, now=NOW, chunk=chunk)
