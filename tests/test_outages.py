"""Scenarios behind misbehaving nodes: who trusts a fault is silently wrong and found, who takes care is exact."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness.books import Books
from harness.errors import NodeError, SyncRefused
from harness.report.nodes import node_table, nodes_text
from harness.report.results import NodeOutcome, RunResult, ScenarioResult, Verdict
from harness.runner import run_scenario
from harness.scenario.language import NODE_PROFILES
from harness.scenario.loader import loads
from harness.sweeps import NODE_SWEEPS
from harness.syncers.balances import BalancesSyncer
from harness.syncers.protocol import ChainView, Target
from harness.syncers.reference import ReferenceSyncer

SCENARIO = loads(
    """\
title: Deposits behind bad nodes
tokens: {USDC: {decimals: 6, usd: 1}}
vault: {kind: erc4626}
steps:
  - deposit: {caller: alice, assets: 100}
  - deposit: {caller: bob, assets: 50}
  - mine: 2
  - sync:
  - block:
      - deposit: {caller: alice, assets: 10}
      - deposit: {caller: bob, assets: 20}
  - deposit: {caller: bob, assets: 30}
  - sync:
""",
    "nodes.yaml",
)


def run(syncer: Any, **options: Any) -> ScenarioResult:
    return run_scenario(SCENARIO, syncer, id="nodes", **({"strict_nodes": True} | options))


def trusting() -> Any:
    """The documented example, but that it believes its node: logs as they come, times as they are told."""
    path = Path(__file__).parents[1] / "docs" / "examples" / "erc4626_syncer.py"
    spec = importlib.util.spec_from_file_location("erc4626_syncer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    careful: Any = module.Erc4626Syncer

    class Trusting(careful):  # type: ignore[misc]
        def _logs(self, view: ChainView, address: str, topics: Any, start_block: int, end_block: int) -> list[Any]:
            span = view.chunk or max(end_block - start_block + 1, 1)
            chunks = ((first, min(first + span - 1, end_block)) for first in range(start_block, end_block + 1, span))
            return [log for first, last in chunks for log in view.get_logs(address, topics, first, last)]

        def _mined_at(self, view: ChainView, block: int) -> datetime:
            return datetime.fromtimestamp(view.header(block).timestamp, tz=UTC).replace(tzinfo=None)

    return Trusting


def test_outcomes_of_a_syncer_that_believes_its_node() -> None:
    result = run(trusting())
    assert result.error is None
    wrong = {name for name, outcome in result.nodes.items() if outcome is NodeOutcome.wrong}
    assert {
        *("silent-cap", "lagging", "hole", "repeated", "shuffled", "removed", "twin", "head-back", "zero-time"),
    } == wrong
    loud = {name for name, outcome in result.nodes.items() if outcome is NodeOutcome.refused}
    assert {"range-cap", "too-large"} == loud, "it asks again, but never for less"
    assert NodeOutcome.raised is result.nodes["hex-numbers"]
    # What is silently wrong is a break, in the profile's words; what is loud is none.
    assert Verdict.differ is result.verdict
    assert {f"node-{name}" for name in wrong} == {broken.sweep for broken in result.breaks}
    sentences = [broken.sentence for broken in result.breaks if broken.sweep == "node-repeated"]
    assert all(sentence.startswith("With a node where every log is given twice: ") for sentence in sentences)
    assert any("once too often" in sentence for sentence in sentences)
    assert any("block 8 are missing" in one.sentence for one in result.breaks if one.sweep == "node-hole")


def test_the_table_tells_alone_unless_it_is_to_be_judged() -> None:
    lenient, strict = run(trusting(), strict_nodes=False), run(trusting())
    assert lenient.nodes == strict.nodes
    assert (Verdict.reconciled, ()) == (lenient.verdict, lenient.breaks)
    assert Verdict.differ is strict.verdict


@pytest.mark.parametrize("syncer", [ReferenceSyncer, BalancesSyncer])
def test_the_references_are_exact_wherever_they_can_be(syncer: Any) -> None:
    result = run(syncer)
    assert (Verdict.reconciled, ()) == (result.verdict, result.breaks)
    assert len(NODE_PROFILES) - 3 <= len(result.nodes), "all but those that its way of asking does not meet"
    assert {name: outcome for name, outcome in result.nodes.items() if outcome is not NodeOutcome.exact} == {
        "lagging": NodeOutcome.refused
    }


def test_no_sweeps_no_nodes() -> None:
    assert {} == run(ReferenceSyncer, sweeps=False).nodes


def test_node_sweeps_are_told_apart_from_others() -> None:
    result = run(ReferenceSyncer)
    assert not set(result.sweeps) & set(NODE_SWEEPS)
    assert [f"node-{name}" for name in NODE_PROFILES] == list(NODE_SWEEPS)


def test_what_could_change_nothing_is_left_out() -> None:
    empty = loads("title: Nothing\ntokens: {USDC: {decimals: 6}}\nvault: {kind: erc4626}\nsteps: [sync: ]\n", "no.yaml")
    nodes = run_scenario(empty, ReferenceSyncer, id="no").nodes
    assert "hole" not in nodes, "no update stands anywhere"
    assert {"rate-limit", "time-out", "twin"} <= set(nodes)

    class Idle:
        """Reads nothing at all."""

        def __init__(self, target: Target) -> None: ...

        def initialise(self, view: ChainView, books: Books) -> Books:
            return books

        def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
            return books

        sync_interest = correct_accounts = initialise

    result = run(Idle)
    assert set(result.nodes) <= {"rate-limit", "time-out", "lagging", "twin", "head-back"}
    assert {NodeOutcome.exact} == set(result.nodes.values())


def failing(error: Callable[[], Exception]) -> Any:
    """The reference, ending a treasury sync in an error wherever its node fails the first time."""

    class Failing(ReferenceSyncer):
        def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
            try:
                view.header(view.end_block)
            except NodeError as cause:
                raise error() from (cause if isinstance(error(), RuntimeError) else None)
            return super().sync_treasury(view, books, cycle)

    return Failing


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (lambda: SyncRefused("the node fails"), NodeOutcome.refused),
        (lambda: NodeError(-32000, "gone"), NodeOutcome.refused),
        (lambda: ConnectionError("gone"), NodeOutcome.refused),
        (lambda: RuntimeError("raised from the node's error"), NodeOutcome.refused),
        (lambda: KeyError("what is this"), NodeOutcome.raised),
    ],
)
def test_loud_is_no_break_and_the_scenario_goes_on(error: Callable[[], Exception], outcome: NodeOutcome) -> None:
    result = run(failing(error))
    assert (Verdict.reconciled, ()) == (result.verdict, result.breaks)
    assert (outcome, NodeOutcome.exact) == (result.nodes["time-out"], result.nodes["repeated"])


def test_a_refusal_that_is_due_anyway_is_no_outcome() -> None:
    refused = loads(
        "title: Refused\ntokens: {USDC: {decimals: 6}}\nvault: {kind: erc4626}\n"
        "steps:\n  - initialise:\n  - deposit: {caller: alice, assets: 1}\n  - sync:\n"
        "  - initialise:\n    refused: initialised\n",
        "refused.yaml",
    )
    result = run_scenario(refused, ReferenceSyncer, id="refused")
    assert (None, ()) == (result.error, result.breaks)
    assert NodeOutcome.exact is result.nodes["repeated"]


def test_a_syncer_that_keeps_what_a_fault_left_is_found() -> None:
    """Asked again without the fault it goes on with half of it: books of a sync that was refused."""

    class Keeping(ReferenceSyncer):
        def sync_treasury(self, view: Any, books: Books, cycle: datetime) -> Books:
            done = super().sync_treasury(view, books, cycle)
            if any(log["removed"] for log in view.get_logs(None, None, view.end_block, view.end_block)):
                done.sync.treasury.last_block_scanned = view.end_block - 1
            return done

    result = run(Keeping)
    assert NodeOutcome.wrong is result.nodes["removed"]
    assert {"node-removed"} == {broken.sweep for broken in result.breaks}
    assert result.diagnosis is not None


def test_table_has_the_worst_first_and_says_it_in_a_line() -> None:
    calm = run(ReferenceSyncer)
    odd = ScenarioResult(
        **{name: getattr(calm, name) for name in ScenarioResult.__dataclass_fields__}
        | {"id": "odd", "nodes": {**calm.nodes, "twin": NodeOutcome.wrong, "hole": NodeOutcome.raised}}
    )
    table = node_table(RunResult(syncer="x", scenarios=(calm, odd)))
    assert table is not None
    assert ["twin", "hole", "lagging"] == [column.name for column in table.columns][:3]
    assert ["odd", "nodes"] == [result.id for result, _ in table.rows]
    assert (NodeOutcome.wrong, NodeOutcome.raised, NodeOutcome.refused) == table.rows[0][1][:3]
    assert "Behind misbehaving nodes: 26 exact, 2 refused, 1 raised, 1 silently wrong." == nodes_text(
        RunResult(syncer="x", scenarios=(calm, odd))
    )
    assert node_table(RunResult(syncer="x", scenarios=(run(ReferenceSyncer, sweeps=False),))) is None
