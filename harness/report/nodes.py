"""What came of the scenarios where the syncer's node misbehaves: one line, and a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.results import NodeOutcome, RunResult, ScenarioResult
from harness.scenario.language import NODE_PROFILES

_WORDS = {
    NodeOutcome.exact: "exact",
    NodeOutcome.refused: "refused",
    NodeOutcome.raised: "raised",
    NodeOutcome.wrong: "silently wrong",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeColumn:
    """A profile, and how a table heads its column."""

    name: str
    about: str
    """Names of parameters stand between backticks."""
    recovers: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTable:
    """Scenario by profile; a row begins with the scenario, and None stands where nothing could change."""

    columns: tuple[NodeColumn, ...]
    rows: tuple[tuple[ScenarioResult, tuple[NodeOutcome | None, ...]], ...]
    """Columns and rows have the worst first: of what is equal, profiles and scenarios keep their order."""


def count_nodes(run: RunResult) -> Counter[NodeOutcome]:
    """Count the outcomes of a run."""
    return Counter(outcome for result in run.scenarios for outcome in result.nodes.values())


def nodes_text(run: RunResult) -> str | None:
    """Count the outcomes in a sentence; None where no node misbehaved.

    >>> nodes_text(RunResult(syncer="reference", scenarios=())) is None
    True
    """
    counts = count_nodes(run)
    shown = [one for one in NodeOutcome if counts[one] or one is not NodeOutcome.raised]
    words = ", ".join(f"{counts[one]:,} {_WORDS[one]}" for one in shown)
    return f"Behind misbehaving nodes: {words}." if counts else None


def node_table(run: RunResult) -> NodeTable | None:
    """Put the outcomes of a run in a table; None where no node misbehaved."""
    ran = {name for result in run.scenarios for name in result.nodes}
    if not ran:
        return None
    profiles = sorted(
        (name for name in NODE_PROFILES if name in ran),
        key=lambda name: _rank([result.nodes.get(name) for result in run.scenarios]),
    )
    rows = [(result, tuple(result.nodes.get(name) for name in profiles)) for result in run.scenarios if result.nodes]
    return NodeTable(
        columns=tuple(
            NodeColumn(name=name, about=NODE_PROFILES[name].about, recovers=NODE_PROFILES[name].recovers)
            for name in profiles
        ),
        rows=tuple(sorted(rows, key=lambda row: _rank(row[1]))),
    )


def _rank(outcomes: Sequence[NodeOutcome | None]) -> list[int]:
    return [-outcomes.count(outcome) for outcome in (NodeOutcome.wrong, NodeOutcome.raised, NodeOutcome.refused)]
