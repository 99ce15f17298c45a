"""Every file in ``scenarios/`` reconciles with the reference, and is there for whoever asks for scenarios."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.chain import PROFILES
from harness.cli import find_files
from harness.report.results import NodeOutcome, Verdict
from harness.runner import run_file
from harness.scenario.files import is_collected, row_id, rows_of
from harness.scenario.loader import load_all

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "scenarios").rglob("*.y*ml")
    if is_collected(path.relative_to(ROOT / "scenarios").parts)
)
"""But for what others include."""
ROWS = [(file, variant) for file in FILES for variant, _ in rows_of(str(ROOT / file), root=str(ROOT / "scenarios"))]
CASES = (3, 4, 13, 20, 35, 38, 39, 43, 47, 53, 54, 61, 77, 106, 107, 112)
"""Public failures that must stay reproduced."""


@pytest.mark.parametrize(("file", "variant"), ROWS, ids=[row_id(*row) for row in ROWS])
def test_scenario_reconciles(file: str, variant: str | None) -> None:
    # Plainly, at every block: the sweeps of all of them are `tox -e scenarios`, which CI runs as well.
    root = str(ROOT / "scenarios")
    result = run_file(
        str(ROOT / file),
        id=row_id(file, variant),
        file=file,
        root=root,
        variant=variant,
        sweeps=ROWS.index((file, variant)) % 16 == 0,
        every_block=True,
    )
    said = [result.error or "", *(broken.sentence for broken in result.breaks)]
    assert Verdict.reconciled == result.verdict, "\n".join(said)
    assert result.checks > 0
    loud = {name for name, outcome in result.nodes.items() if outcome is not NodeOutcome.exact}
    assert loud <= {name for name, profile in PROFILES.items() if not profile.recovers}, "a fault can be recovered from"


@pytest.mark.parametrize("file", FILES)
def test_scenario_is_named_for_a_behaviour_and_says_so(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.fullmatch(r"scenarios/[a-z0-9]+(_[a-z0-9]+)+\.yaml", file)
    assert text.startswith("# yaml-language-server: $schema=../schema/scenario.json\n")
    assert re.search(r"^title: .{15}", text, re.M), "a title that a person can read"
    assert re.search(r"^tags: \[", text, re.M), "tags to select it by"
    assert not re.search(r"\t| $", text, re.M)


def test_titles_are_told_apart() -> None:
    titles = [load_all(ROOT / file, root=ROOT / "scenarios")[0].title for file in FILES]
    assert len(set(titles)) == len(titles)


def test_known_failures_have_a_scenario() -> None:
    tags = {tag for file in FILES for tag in load_all(ROOT / file, root=ROOT / "scenarios")[0].tags}
    assert [] == [f"case-{case:02}" for case in CASES if f"case-{case:02}" not in tags]


def test_some_scenarios_type_no_number_and_most_do() -> None:
    typed = [file for file in FILES if "expect:" in (ROOT / file).read_text(encoding="utf-8")]
    assert len(FILES) / 2 < len(typed) < len(FILES)


def test_command_line_finds_every_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert FILES == sorted(found.path for found in find_files(["scenarios"]))


def test_plug_in_collects_every_scenario(plugin_arguments: tuple[str, ...]) -> None:
    asked = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *plugin_arguments]
    ended = subprocess.run(
        [*asked, "-o", "harness_scenarios=scenarios", "-o", "addopts=", "scenarios"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = [line.partition("::")[0] for line in ended.stdout.splitlines() if "::" in line]
    assert FILES == sorted(set(found)), ended.stdout + ended.stderr
