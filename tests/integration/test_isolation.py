"""What a syncer keeps outside its books is gone after a restart, and touches no other scenario."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SYNCERS = """\
import os

from harness.books import copy_books
from harness.syncers.reference import ReferenceSyncer

NAMES = {}


class Memory(ReferenceSyncer):
    cursor = None

    def initialise(self, view, books):
        books = super().initialise(view, books)
        Memory.cursor = None
        return books

    def sync_treasury(self, view, books, cycle):
        books = copy_books(books)
        books.sync.treasury.last_block_scanned = Memory.cursor
        books = super().sync_treasury(view, books, cycle)
        Memory.cursor = books.sync.treasury.last_block_scanned
        return books


class Cache(ReferenceSyncer):
    def initialise(self, view, books):
        books = super().initialise(view, books)
        deployment = books.sync.deployment
        key = deployment.chain_id, deployment.address
        deployment.vault_token_name = NAMES.setdefault(key, deployment.vault_token_name)
        return books


class Wanders(ReferenceSyncer):
    def __init__(self, target):
        os.chdir("/")
        super().__init__(target)


class SwallowsRequests(ReferenceSyncer):
    def sync_treasury(self, view, books, cycle):
        try:
            behind = view.web3.eth.block_number < view.end_block
        except Exception:
            behind = True
        if behind:
            books = copy_books(books)
            books.sync.treasury.last_updated_at = view.now
            books.sync.treasury.last_cycle_at = cycle
            books.sync.treasury.last_block_scanned = view.end_block
            return books
        return super().sync_treasury(view, books, cycle)
"""
SCENARIO = """\
title: Two deposits
tokens: {{USDC: {{decimals: 6}}}}
vault: {{kind: erc4626, name: {name}, reserve: USDC}}
steps:
  - deposit: {{caller: alice, assets: 5}}
  - sync:
  - deposit: {{caller: alice, assets: 7}}
  - sync:
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "theirs.py").write_text(SYNCERS)
    (tmp_path / "scenarios").mkdir()
    for name in "AB":
        (tmp_path / "scenarios" / f"{name}.yaml").write_text(SCENARIO.format(name=name))
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", "run", "scenarios", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_cursor_kept_at_class_level_does_not_outlive_a_restart(folder: Path) -> None:
    done = run(folder, "--syncer", "theirs:Memory")
    assert 1 == done.returncode, done.stdout
    results = json.loads((folder / "reports" / "results.json").read_text())
    sweeps = {broken["sweep"] for scenario in results["scenarios"] for broken in scenario["breaks"]}
    assert {"saved-and-loaded"} <= sweeps


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_cache_of_one_scenario_is_not_there_in_the_next(folder: Path, jobs: str) -> None:
    done = run(folder, "--syncer", "theirs:Cache", "--jobs", jobs)
    assert 0 == done.returncode, done.stdout


def test_a_syncer_that_changes_the_folder_takes_no_scenario_away(folder: Path) -> None:
    done = run(folder, "--syncer", "theirs:Wanders", "--jobs", "1")
    assert 0 == done.returncode, done.stdout


def test_an_error_of_the_raw_node_that_is_swallowed_is_caught(folder: Path) -> None:
    done = run(folder, "--syncer", "theirs:SwallowsRequests")
    assert 1 == done.returncode, done.stdout
    assert "found by the sweep: killed" in done.stdout


@pytest.mark.parametrize("arguments", [("--html", "scenarios/A.yaml"), ("--timeout", "nan"), ("--timeout", "inf")])
def test_options_that_would_do_harm_are_refused(folder: Path, arguments: tuple[str, str]) -> None:
    done = run(folder, *arguments)
    assert 2 == done.returncode, done.stdout
    assert SCENARIO.format(name="A") == (folder / "scenarios" / "A.yaml").read_text()


@pytest.mark.parametrize("option", ["--timeout", "--min-kill"])
def test_strength_refuses_what_is_no_number(folder: Path, option: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "strength", "scenarios", option, "nan"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 2 == done.returncode
    assert "not a number" in done.stderr
