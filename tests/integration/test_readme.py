"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from harness.report.results import Verdict
from harness.runner import run_file

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    found = re.search(rf"<!-- checked: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found is not None, name
    return found[1]


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "donation_is_no_deposit.yaml"
    path.write_text(example("scenario"), encoding="utf-8")
    return path


def test_the_first_scenario_reconciles(scenario: Path) -> None:
    result = run_file(str(scenario), id="a", file="a")
    assert (result.verdict, result.error) == (Verdict.reconciled, None)


def test_the_broken_syncer_is_caught(scenario: Path) -> None:
    result = run_file(str(scenario), id="a", file="a", syncer="harness.syncers.broken:resume_off_by_one")
    assert result.verdict is Verdict.differ
    assert any("250.500000 USDC of bob" in found.sentence for found in result.breaks)


def test_the_syncer_that_books_nothing_gets_a_list_of_what_is_missing(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_fund.py").write_text(example("syncer"), encoding="utf-8")
    result = run_file(str(scenario), id="a", file="a", syncer="my_fund:MySyncer", sweeps=False)
    monkeypatch.delitem(sys.modules, "my_fund")
    assert result.verdict is Verdict.differ
    assert sum("is not in the books" in found.sentence for found in result.breaks) == 3


def test_each_file_that_is_pointed_to_is_there() -> None:
    root = Path(__file__).parents[2]
    named = re.findall(r"^\| `([\w./-]+)` \|", README, re.MULTILINE)
    named += re.findall(r"`(harness/[\w./]+)`", README)
    assert named
    assert [name for name in named if not name.isdigit() and not (root / name).exists()] == []
