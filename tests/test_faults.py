"""Faults around a syncer: each does what it says, and none of them anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.faults import FAULTS, Around, Effect, Fault
from harness.judging import judge
from harness.reconcile.causes import Cause
from harness.scenario.loader import load
from harness.session import Point, Session, SyncerFactory
from harness.sweeps import judged_json
from harness.syncers.broken import BROKEN
from harness.syncers.protocol import Target
from harness.syncers.reference import ReferenceSyncer
from harness.world.acts import Played
from harness.world.play import play

SCENARIO = """\
title: Two syncs, a donation, interest, a redemption of two assets, an idle sync and a refusal
tokens:
  USDC: {decimals: 6, usd: 0.97}
  aUSDC: {decimals: 6, usd: 1, kind: index_rebase, underlying: USDC}
vault: {kind: enzyme, name: Example Fund, symbol: EXAMPLE, reserve: USDC}
deploy_block:
  - deposit: {caller: alice, assets: 100_000_000_000.123457 USDC}
steps:
  - sync: {end_block: head}
  - block:
      - deposit: {caller: alice, assets: 500 USDC}
      - deposit: {caller: bob, assets: 250.1 USDC}
  - deposit: {caller: bob, assets: 1.000001 USDC}
  - price: {token: USDC, usd: 0.98}
  - sync: {chunk: 1, cycle: 2024-01-05 00:00}
  - supply: {assets: 1000 USDC, into: aUSDC}
  - rebase: {token: aUSDC, factor: 1.01}
  - sync: {cycle: 2024-01-06 00:00}
  - sync_interest:
  - redeem: {caller: bob, shares: 50%}
  - rebase: {token: aUSDC, factor: 1.01}
  - sync: {cycle: 2024-01-07 00:00}
  - sync: {cycle: 2024-01-08 00:00}
  - sync_interest: {end_block: head}
  - mine: 2
  - sync: {end_block: head-1, cycle: 2024-01-09 00:00}
  - rebase: {token: aUSDC, factor: 1.01}
  - sync_interest: {end_block: head-2}
  - sync: {cycle: 2024-01-01 00:00}
    refused: cycle
  - donate: {caller: alice, assets: 9 USDC}
  - mine: 1
  - correct_accounts:
  - deposit: {caller: alice, assets: 3 USDC}
  - sync: {cycle: 2024-01-10 00:00}
  - reorg: {depth: 1, drop: [15]}
  - mine: 1
  - sync: {cycle: 2024-01-11 00:00}
"""


class Stage:
    """One scenario, played once, and how the reference syncs it."""

    def __init__(self, path: Path) -> None:
        path.write_text(SCENARIO, encoding="utf-8")
        self.played: Played = play(load(str(path)))
        self.memory: dict[object, object] = {}
        self.right = self.sync(ReferenceSyncer)

    def sync(self, factory: SyncerFactory) -> list[Point]:
        return list(Session(self.played, factory, memory=self.memory).points())

    def is_red(self, points: list[Point]) -> bool:
        return any(judge(self.played, point).breaks for point in points)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("faults") / "all.yaml")


def test_the_reference_is_right_without_them(stage: Stage) -> None:
    assert not stage.is_red(stage.right)


def test_a_wrapper_without_a_fault_changes_nothing(stage: Stage) -> None:
    effect = Effect()
    points = stage.sync(lambda target: Around(ReferenceSyncer(target), target, effect))
    assert [judged_json(point.after) for point in stage.right] == [judged_json(point.after) for point in points]
    assert [point.refusal for point in stage.right] == [point.refusal for point in points]
    assert not effect.changed


def test_there_are_enough_and_their_causes_are_of_the_list() -> None:
    assert len(FAULTS) >= 20
    known = {cause.value for cause in Cause}
    assert {fault.cause for fault in FAULTS.values()} - known == {None}
    assert all(fault.wrong.endswith(".") for fault in FAULTS.values())


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_takes_effect_and_is_seen(stage: Stage, fault: Fault) -> None:
    effect = Effect()
    points = stage.sync(fault.around(ReferenceSyncer, effect))
    assert effect.offered
    assert not any(point.changed_given for point in points), "what it was given is not its to change"
    assert effect.changed
    if not fault.harmless_if_sound:
        assert stage.is_red(points)


class Believes(BROKEN["empty_answer_believed"].factory):  # type: ignore[name-defined,misc]
    """Takes its node's word for everything."""


@pytest.mark.parametrize("name", [fault.name for fault in FAULTS.values() if fault.name.endswith("_hidden")])
def test_what_a_careful_syncer_finds_out_the_others_do_not(stage: Stage, name: str) -> None:
    assert FAULTS[name].harmless_if_sound
    assert not stage.is_red(stage.sync(FAULTS[name].around(ReferenceSyncer, Effect())))
    assert not stage.is_red(stage.sync(Believes))
    assert stage.is_red(stage.sync(FAULTS[name].around(Believes, Effect())))


class AsksTheNode(ReferenceSyncer):
    """Notes the logs that the node itself gives, and those that the view does."""

    seen: list[tuple[list[Any], list[Any]]]

    def sync_treasury(self, view: Any, books: Any, cycle: Any) -> Any:
        through_view = view.get_logs(None, [], 0, view.end_block)
        asked = {"fromBlock": 0, "toBlock": view.end_block}
        self.seen.append((through_view, view.web3.eth.get_logs(asked)))
        return super().sync_treasury(view, books, cycle)


@pytest.mark.parametrize("name", ["last_block_of_range_hidden", "logs_reversed", "second_log_of_block_hidden"])
def test_whoever_asks_the_node_himself_sees_the_same(stage: Stage, name: str) -> None:
    AsksTheNode.seen = []
    stage.sync(FAULTS[name].around(AsksTheNode, Effect()))
    assert AsksTheNode.seen
    for through_view, from_node in AsksTheNode.seen:
        assert _places(through_view) == _places(from_node)


def _places(logs: list[Any]) -> list[tuple[int, int]]:
    return [(log["blockNumber"], log["logIndex"]) for log in logs]


def test_books_that_are_none_are_left_to_the_session(stage: Stage) -> None:
    class Lost(ReferenceSyncer):
        def sync_treasury(self, view: Any, books: Any, cycle: Any) -> Any:
            return None

    points = stage.sync(FAULTS["sign_flipped"].around(Lost, Effect()))
    assert any(point.failure is not None for point in points)


def test_a_fault_stays_with_its_syncer(stage: Stage) -> None:
    def made(target: Target) -> ReferenceSyncer:
        return ReferenceSyncer(target)

    stage.sync(FAULTS["worth_sign_flipped"].around(made, Effect()))
    assert not stage.is_red(stage.sync(made))


def test_the_page_lists_them_all() -> None:
    page = (Path(__file__).parents[1] / "docs" / "strength.md").read_text(encoding="utf-8")
    rows = [f"| `{fault.name}` | {fault.wrong} | {fault.cause or 'unknown'} |" for fault in FAULTS.values()]
    assert [] == [row for row in rows if row not in page.splitlines()]
