"""Measure everything and write ``docs/benchmarks.md``.

``python -m benchmarks [PART ...]`` measures some parts only, and prints them.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from benchmarks import bench_chain, bench_judging, bench_scenarios, bench_sweeps, bench_syncer

Row = tuple[str, float, str, float | None]

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


class Part(NamedTuple):
    """One table of the page."""

    title: str
    words: str
    measure: Callable[[], list[Row]]


PARTS: Mapping[str, Part] = {
    "corpus": Part(
        "Running the scenarios",
        "What somebody waits for. The ratio is CPU to wall time, or with the plug-in to without it.",
        bench_scenarios.commands,
    ),
    "parts": Part(
        "Where that time goes",
        "All scenarios in one process, each world deployed once. The ratio is the share of the whole.",
        bench_scenarios.parts,
    ),
    "sweeps": Part(
        "Sweeps",
        "All scenarios in one process. The ratio is to playing, syncing and judging them once.",
        bench_sweeps.corpus,
    ),
    "growing": Part(
        "How it grows",
        "A deposit every tenth block, five syncs. The ratio is the time per block to the shortest history's (linear is "
        "1); in the rows that say so, sweeps to plain run.",
        bench_sweeps.growing,
    ),
    "fixed": Part(
        "What each scenario costs before it does anything",
        "One deposit and one sync. Playing it in a world that stands may take 50 ms. The ratio is to that.",
        bench_scenarios.fixed,
    ),
    "syncer": Part(
        "The reference syncer",
        "Deposits, every fourth flow a redemption, 40 a block, read from a real chain with no read remembered. "
        "At least 5,000 flows a second. The ratio is the time per flow to the shorter history's (linear is 1), or "
        "of a block at a time to all at once.",
        lambda: [*bench_syncer.growing("erc4626"), *bench_syncer.growing("enzyme")],
    ),
    "judging": Part(
        "Judging",
        "One judgement, by the number of balance updates in the books. The ratio is the time per update to the "
        "smaller books' (linear is 1).",
        bench_judging.growing,
    ),
    "steps": Part(
        "Mining",
        "The ratio is time to py-evm's own mining of the same transactions, signed beforehand.",
        bench_chain.steps,
    ),
    "logs": Part(
        "Reading logs",
        "The ratio is time to the first row's.",
        bench_chain.logs,
    ),
    "small": Part(
        "Small things of a chain",
        "What a scenario does most.",
        bench_chain.small,
    ),
}


def main() -> None:
    """Measure the parts asked for, or all of them and write the page."""
    asked = sys.argv[1:]
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        sys.exit(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    sections = []
    for name in asked or PARTS:
        part = PARTS[name]
        sections.append(f"## {part.title}\n\n{part.words}\n\n{bench_chain.table(part.measure())}\n")
        print(sections[-1], flush=True)
    if not asked:
        PAGE.write_text("\n".join([_head(), *sections]), encoding="utf-8")
        print(f"written: {PAGE}")


def _head() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("py-evm", "eth-tester", "web3"))
    return (
        "# Benchmarks\n\n"
        "Written by `tox -e bench`. Times are medians or best of several; `CPU` is processor time, anything else is "
        "what a clock on the wall shows.\n\n"
        f"Measured with Python {platform.python_version()}, {packages}, on {os.cpu_count()} processors "
        f"({platform.machine()}, {platform.system()}).\n"
    )


if __name__ == "__main__":
    main()
