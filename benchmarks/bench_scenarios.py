"""What a scenario costs beside what it does, what the corpus costs and where that goes, and what is paid on import.

CPU time where it can be, since machines are shared; wall time only where the time is what somebody waits.
Each function returns rows of name, value, unit, and the ratio to the baseline in the same run (None for a baseline).
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from harness.judging import contradictions, judge
from harness.report.html import to_html
from harness.report.junit import to_junit
from harness.report.results import RunResult, to_json
from harness.runner import run_scenario
from harness.scenario.files import row_id
from harness.scenario.loader import load_all, loads
from harness.scenario.model import Scenario
from harness.session import Session
from harness.syncers.reference.syncer import ReferenceSyncer
from harness.world.play import play

Row = tuple[str, float, str, float | None]

ROOT = Path(__file__).parents[1]
SCENARIOS = ROOT / "scenarios"
LONGEST = "a_real_vault_history.yaml"
HEAVY = ("web3", "eth", "eth_tester")
MINIMAL = """\
title: {name}
tokens:
  USDC: {{decimals: 6, usd: 1}}
vault: {{kind: {kind}, name: {name}, reserve: USDC}}
steps:
  - deposit: {{caller: alice, assets: 1}}
  - sync:
"""


def fixed(rounds: int = 9) -> list[Row]:
    """CPU milliseconds of a scenario of one deposit and one sync: its world deployed anew, or cloned."""
    rows: list[Row] = []
    for kind in ("erc4626", "enzyme"):
        # Another name is another world: no template serves it.
        worlds = [loads(MINIMAL.format(kind=kind, name=f"Fund {number}"), "benchmark.yaml") for number in range(rounds)]
        deployed = statistics.median(_cpu(partial(play, world)) for world in worlds)
        scenario = worlds[-1]
        cloned = statistics.median(_cpu(partial(play, scenario)) for _ in range(3 * rounds))
        plain = statistics.median(_cpu(partial(_run, scenario, sweeps=False)) for _ in range(rounds))
        swept = statistics.median(_cpu(partial(_run, scenario, sweeps=True)) for _ in range(rounds))
        rows += [
            (f"{kind}: play one deposit in a world that stands", cloned * 1_000, "ms CPU", None),
            (f"{kind}: deploy the world and play it", deployed * 1_000, "ms CPU", deployed / cloned),
            (f"{kind}: play, sync and judge", plain * 1_000, "ms CPU", plain / cloned),
            (f"{kind}: the same with every sweep", swept * 1_000, "ms CPU", swept / cloned),
        ]
    return rows


def _run(scenario: Scenario, *, sweeps: bool) -> None:
    result = run_scenario(scenario, ReferenceSyncer, id="benchmark", sweeps=sweeps)
    if result.error is not None or result.breaks:
        raise RuntimeError(result.error or result.breaks[0].sentence)


def parts() -> list[Row]:
    """CPU seconds of the whole corpus in one process, by where they go, and of its longest scenario."""
    files = sorted(SCENARIOS.rglob("*.yaml"))
    spent = dict.fromkeys(("read files", "deploy worlds", "play", "plain run", "judge it", "sweeps", "reports"), 0.0)
    results = []
    longest = 0.0
    for file in files:
        name = file.relative_to(SCENARIOS).as_posix()
        began = time.process_time()
        scenarios = load_all(str(file), name=name)
        spent["read files"] += time.process_time() - began
        for scenario in scenarios:
            began = time.process_time()
            play(scenario)
            first = time.process_time()
            # Once more, in a world that stands now: the difference is what its deployment took, if it was deployed.
            played = play(scenario)
            second = time.process_time()
            points = list(Session(played, ReferenceSyncer).points())
            synced = time.process_time()
            wrong = contradictions(played)
            if wrong or any(judge(played, point).breaks for point in points):
                raise RuntimeError(f"{name} does not reconcile")
            judged = time.process_time()
            results.append(run_scenario(scenario, ReferenceSyncer, id=row_id(name, scenario.variant)))
            whole = time.process_time() - judged
            playing, syncing, judging = second - first, synced - second, judged - synced
            deploying = max(first - began - playing, 0.0)
            spent["deploy worlds"] += deploying
            spent["play"] += playing
            spent["plain run"] += syncing
            spent["judge it"] += judging
            spent["sweeps"] += max(whole - playing - syncing - judging, 0.0)
            if name == LONGEST:
                longest = deploying + whole
    run = RunResult(syncer="reference", scenarios=tuple(results))
    spent["reports"] = _cpu(lambda: (to_json(run), to_junit(run), to_html(run)))
    total = sum(spent.values())
    return [
        (f"all {len(results)} scenarios, in one process", total, "s CPU", None),
        *((f"of that: {name}", seconds, "s CPU", seconds / total) for name, seconds in spent.items()),
        (f"`{LONGEST}`, world and sweeps included", longest, "s CPU", longest / total),
    ]


def commands(rounds: int = 3) -> list[Row]:
    """Seconds that somebody waits: the whole corpus, the check of it, imports, a pytest run without scenarios."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        reports = [f"--{name}={folder}/{file}" for name, file in _REPORTS]
        wall, cpu = _waited([sys.executable, "-m", "harness", "run", str(SCENARIOS), "--jobs", "2", *reports])
        rows.append(("`harness run scenarios --jobs 2`, sweeps included", wall, "s", None))
        rows.append(("the same, CPU of all its processes", cpu, "s CPU", cpu / wall))
        check = [_waited([sys.executable, "-m", "harness", "check", str(SCENARIOS)]) for _ in range(rounds)]
        rows.append(("`harness check scenarios`", *_median(check)))
        idle = Path(folder, "test_nothing.py")
        idle.write_text(_IDLE_TEST, encoding="utf-8")
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", str(idle)]
        without = [_waited([*pytest, "-p", "no:harness"], folder) for _ in range(rounds)]
        idling = [_waited([*pytest, *_plugin()], folder) for _ in range(rounds)]
    base = statistics.median(cpu for _, cpu in without)
    rows.append(("pytest of one empty test, without the plug-in", base, "s CPU", None))
    with_plugin = statistics.median(cpu for _, cpu in idling)
    rows.append(
        (
            "the same with the plug-in idle; neither web3 nor py-evm is imported",
            with_plugin,
            "s CPU",
            with_plugin / base,
        )
    )
    for module in ("harness", "harness.scenario.loader", "harness.runner"):
        bare = [_waited([sys.executable, "-c", "pass"]) for _ in range(rounds)]
        loaded = [_waited([sys.executable, "-c", f"import {module}"]) for _ in range(rounds)]
        seconds = statistics.median(cpu for _, cpu in loaded) - statistics.median(cpu for _, cpu in bare)
        rows.append((f"`import {module}`", seconds, "s CPU", None))
    return rows


_REPORTS = (("html", "index.html"), ("junit", "junit.xml"), ("json", "results.json"))
_IDLE_TEST = f"""\
import sys


def test_nothing_heavy_is_imported():
    assert not set({HEAVY!r}) & set(sys.modules)
"""


def _plugin() -> Sequence[str]:
    """Load the plug-in by hand where it is not installed."""
    from importlib.metadata import entry_points

    return (
        ()
        if any(point.name == "harness" for point in entry_points(group="pytest11"))
        else ("-p", "harness.pytest_plugin")
    )


def _median(runs: Sequence[tuple[float, float]]) -> tuple[float, str, None]:
    return statistics.median(wall for wall, _ in runs), "s", None


def _waited(command: Sequence[str], folder: str | None = None) -> tuple[float, float]:
    """Wall and CPU seconds of a process and its children, which must end well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    ended = subprocess.run(command, cwd=folder or ROOT, env=environment, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _cpu(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started
