"""What sweeps cost beside the plain run, how many reads memory answers, what a broken syncer costs, and how that grows.

CPU time. Each function returns rows of name, value, unit, and the ratio to the baseline in the same run (None for a
baseline).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.judging import judge
from harness.scenario.loader import load_all, loads
from harness.scenario.model import Scenario
from harness.schedules import SCHEDULES
from harness.session import Point, Session
from harness.sweeps import NODE_SWEEPS, judged_json, sweep
from harness.syncers.broken import BROKEN
from harness.syncers.reference.syncer import ReferenceSyncer
from harness.world.acts import Played
from harness.world.play import play

Row = tuple[str, float, str, float | None]

SCENARIOS = Path(__file__).parents[1] / "scenarios"
SCHEDULE_NAMES = {schedule.name for schedule in SCHEDULES}
SOME = 12
"""How many broken syncers are run over a long history."""


class _Counting(dict[Any, Any]):
    """A view's memory that counts how often it is asked, and how often it knows."""

    asked = 0
    knew = 0

    def get(self, key: Any, default: Any = None) -> Any:
        found = super().get(key, default)
        self.asked += 1
        self.knew += found is not None
        return found


def corpus() -> list[Row]:
    """Every scenario: played and synced plainly, then swept."""
    played = plain = 0.0
    swept: Counter[str] = Counter()
    memory_asked = memory_knew = 0
    scenarios = [scenario for path in sorted(SCENARIOS.glob("*.yaml")) for scenario in load_all(path)]
    for scenario in scenarios:
        memory = _Counting()
        began = time.process_time()
        scene = play(scenario)
        played += time.process_time() - began
        points, seconds = _plain(scene, memory)
        plain += seconds
        swept += _swept(scene, points, memory, scenario.file)
        memory_asked += memory.asked
        memory_knew += memory.knew
    whole = played + plain
    return [
        ("scenarios played, synced and judged once", whole, "s CPU", None),
        ("of that: the chain", played, "s CPU", played / whole),
        ("all sweeps beside it (at most 4)", swept.total(), "s CPU", swept.total() / whole),
        *((f"of that: {kind}", seconds, "s CPU", seconds / whole) for kind, seconds in swept.most_common()),
        ("view calls answered from memory", 100 * memory_knew / memory_asked, "%", None),
    ]


def growing(sizes: Sequence[int] = (50, 500, 5_000)) -> list[Row]:
    """One history, ever longer: a deposit every tenth block, five syncs."""
    rows: list[Row] = []
    bases: list[float] = []
    for blocks in sizes:
        memory = _Counting()
        began = time.process_time()
        scene = play(_history(blocks))
        points, plain = _plain(scene, memory)
        whole = time.process_time() - began
        swept = _swept(scene, points, memory, "history").total()
        broken = _broken(scene, memory)
        costs = (("plain run", whole), ("sweeps", swept), ("a broken syncer, to its first break", broken))
        first = not bases
        for index, (name, seconds) in enumerate(costs):
            per_block = seconds / blocks
            if first:
                bases.append(per_block)
            rows.append((f"{blocks:,} blocks: {name}", seconds, "s CPU", None if first else per_block / bases[index]))
        rows.append((f"{blocks:,} blocks: sweeps to plain run", swept / whole, "", swept / whole))
        del plain
    return rows


def _history(blocks: int) -> Scenario:
    steps = []
    for number in range(blocks // 10):
        steps.append("  - deposit: {caller: alice, assets: 1}")
        steps.append("  - mine: 9")
        if (number + 1) % max(blocks // 50, 1) == 0:
            steps.append("  - sync:")
    header = (
        "title: A long history\ntokens:\n  USDC: {decimals: 6, usd: 1}\nvault: {kind: erc4626, reserve: USDC}\nsteps:\n"
    )
    return loads(header + "\n".join(steps) + "\n", "benchmark.yaml")


def _plain(scene: Played, memory: _Counting) -> tuple[list[Point], float]:
    began = time.process_time()
    points = list(Session(scene, ReferenceSyncer, memory=memory).points())
    for point in points:
        judge(scene, point)
    return points, time.process_time() - began


def _swept(scene: Played, points: Sequence[Point], memory: _Counting, seed: str) -> Counter[str]:
    """CPU seconds of all sweeps, by kind."""
    seconds: Counter[str] = Counter()
    began = time.process_time()
    states = [judged_json(point.after) for point in points]
    for one in sweep(scene, ReferenceSyncer, points, states, (), seed=seed, timeout=None, memory=memory):
        if one.breaks:
            raise AssertionError(f"{seed}: {one.breaks[0].sentence}")
        seconds[_kind(one.name)] += time.process_time() - began
        began = time.process_time()
    return seconds


def _kind(sweep: str) -> str:
    if sweep in NODE_SWEEPS:
        return "nodes that misbehave"
    if sweep in ("killed", "there-and-back"):
        return sweep
    return "other operations" if sweep in SCHEDULE_NAMES else "the same operations in other ways"


def _broken(scene: Played, memory: _Counting) -> float:
    """Mean over some broken syncers."""
    chosen = list(BROKEN.values())[:: max(len(BROKEN) // SOME, 1)]
    began = time.process_time()
    for broken in chosen:
        for point in Session(scene, broken.factory, memory=memory).points():
            if judge(scene, point).breaks:
                break
    return (time.process_time() - began) / len(chosen)
