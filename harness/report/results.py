"""The one model that every report is drawn from, and its JSON."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from harness.errors import Problem
from harness.reconcile.diff import Break, Statement


class Verdict(enum.StrEnum):
    """How a scenario ended."""

    reconciled = "reconciled"
    differ = "differ"
    """A break: the syncer is wrong."""
    error = "error"
    """We cannot tell: the scenario or its set-up is wrong, or the harness failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPointResult:
    """One syncing operation, and how the books stood after it."""

    operation: str
    """The step's verb: ``initialise``, ``sync``, ``sync_interest``, ``expect``."""
    block: int
    cycle: datetime | None
    line: int | None
    books: Mapping[str, Any] | None
    """The state's JSON, clock fields left out."""
    statements: tuple[Statement, ...]
    refusal: str | None = None
    """The syncer's words, where it refused as it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One transaction, or one syncing operation, as the timeline shows it."""

    line: int | None
    text: str
    """E.g. ``alice deposits 500 USDC``."""
    transaction: str | None = None
    failed: str | None = None
    """The revert reason of a transaction that failed as the scenario said."""
    is_sync: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineBlock:
    """One block (syncing operations stand at the block that was newest then)."""

    number: int
    mined_at: datetime
    entries: tuple[TimelineEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioResult:
    """What came out of one scenario."""

    id: str
    """The file's path below the folder given, with forward slashes."""
    file: str
    title: str
    tags: tuple[str, ...]
    verdict: Verdict
    error: str | None
    """Why we cannot tell."""
    problems: tuple[Problem, ...]
    """The same, place by place, where the file is at fault."""
    internal: bool
    """The harness itself failed."""
    breaks: tuple[Break, ...]
    sync_points: tuple[SyncPointResult, ...]
    timeline: tuple[TimelineBlock, ...]
    source: str
    """The YAML, as it was read."""
    sweeps: tuple[str, ...]
    """Names of the sweeps that ran."""
    checks: int
    """How many values were compared."""
    seconds: float
    """Wall time; for the terminal and timings.json alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What came out of a run, in the order of the files."""

    syncer: str
    scenarios: tuple[ScenarioResult, ...]

    def count(self, verdict: Verdict) -> int:
        """How many scenarios ended so."""
        return sum(1 for scenario in self.scenarios if scenario.verdict is verdict)


def exit_code(results: Sequence[ScenarioResult]) -> int:
    """Give the process's exit code: 3 harness failed, 2 bad input, 1 breaks, 4 nothing selected, 0 reconciled."""
    if any(result.internal for result in results):
        return 3
    if any(result.verdict is Verdict.error for result in results):
        return 2
    if any(result.verdict is Verdict.differ for result in results):
        return 1
    return 0 if results else 4
