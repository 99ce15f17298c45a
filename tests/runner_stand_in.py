"""A runner without a chain: what it finds depends on the scenario's file name.

``differ`` gives a break, ``refused`` an error of the run, ``internal`` a failure of the harness, ``slow`` and ``later``
take their time, ``dies`` ends the process; a file that is no scenario gives its problems. All else reconciles.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import date
from pathlib import Path

from harness.errors import Location, ScenarioError
from harness.reconcile.diff import Break, BreakKind
from harness.report.results import ScenarioResult, Verdict
from harness.scenario.loader import load

CALLS = "HARNESS_TEST_CALLS"
"""An environment variable that names a file: each call is noted there."""


def run_file(
    path: str,
    *,
    id: str,
    file: str,
    root: str | None = None,
    variant: str | None = None,
    syncer: str = "reference",
    sweeps: bool = True,
    timeout: float | None = 60,
    memory_mib: int | None = None,
    every_block: bool = False,
    strict_nodes: bool = False,
    today: date | None = None,
) -> ScenarioResult:
    if CALLS in os.environ:
        with Path(os.environ[CALLS]).open("a", encoding="utf-8") as calls:
            calls.write(f"{id} {file} {syncer} {sweeps} {timeout} {memory_mib} {every_block} {today}\n")
    name = Path(path).name
    if "dies" in name:
        os._exit(0)
    if "raises" in name:
        raise RuntimeError("out of order\nand more")
    if "interrupts" in name:
        raise KeyboardInterrupt
    if "slow" in name:
        time.sleep(0.4)
    if "forever" in name:
        time.sleep(60)
    try:
        scenario = load(path, name=file, root=root, variant=variant)
    except ScenarioError as error:
        return _result(id, file, id, verdict=Verdict.error, error=str(error), problems=error.problems)
    found = Break(
        kind=BreakKind.missing,
        sentence="The deposit of 500 USDC by alice is not in the books.",
        expected="500.000000 USDC",
        location=Location(file=file, line=7, column=5),
    )
    if "differ" in name:
        return _result(id, file, scenario.title, verdict=Verdict.differ, breaks=(found,))
    if "refused" in name:
        return _result(id, file, scenario.title, verdict=Verdict.error, error=f"{file}:7:5: the deposit failed")
    if "internal" in name:
        return _result(id, file, scenario.title, verdict=Verdict.error, error="KeyError: 'x'", internal=True)
    return _result(id, file, scenario.title)


def _result(id: str, file: str, title: str, **changes: object) -> ScenarioResult:
    plain: dict[str, object] = {
        "tags": (),
        "verdict": Verdict.reconciled,
        "error": None,
        "problems": (),
        "internal": False,
        "breaks": (),
        "sync_points": (),
        "timeline": (),
        "source": "title: x\n",
        "sweeps": (),
        "checks": 3,
        "seconds": 0.25,
    }
    return ScenarioResult(id=id, file=file, title=title, **(plain | changes))  # type: ignore[arg-type]


def main() -> None:
    """Run the command line with this runner, as a process of its own."""
    from harness.cli import main as run

    sys.modules["harness.runner"] = sys.modules[__name__]
    run()


if __name__ == "__main__":
    main()
