"""``harness strength`` over our own corpus, and what the command line makes of good and bad input."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness import cli
from harness.books import Books
from harness.diagnosis import Run
from harness.judging import judge
from harness.report.matrix import Outcome, to_html, to_json
from harness.scenario.loader import load
from harness.session import Session
from harness.strength import as_it_was, without_expectations
from harness.syncers.broken import BROKEN
from harness.world.acts import Played, SyncAct
from harness.world.play import play
from tests.integration.caught import corpus, files

ROOT = Path(__file__).parents[2]
SCENARIOS = ROOT / "scenarios"
SMALL = "deposit_and_redemption_in_one_block_are_told_apart.yaml"


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["strength", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_causes_are_named_right() -> None:
    for right, found in (corpus().named_right, corpus().cells_right):
        assert right >= 0.95 * found


def test_the_page_names_every_broken_syncer_and_scenario() -> None:
    drawn = to_html(corpus())
    assert set(BROKEN) == set(re.findall(r'id="w-([^"]+)"', drawn))
    assert all(tried.id in drawn for tried in corpus().scenarios)


def test_no_folder_of_this_machine_is_named() -> None:
    assert str(ROOT) not in to_html(corpus()) + to_json(corpus())


# -- the first bad block, against a search that spares nothing


@functools.cache
def _played(scenario: str) -> Played:
    file = next(file for file in files() if file.id == scenario)
    return play(without_expectations(load(file.path, name=file.path, root=file.root, variant=file.variant)))


def _bad_blocks(played: Played, name: str) -> tuple[dict[int, bool], bool]:
    """For each block that the operation that fails could have ended at, whether it is wrong then.

    And whether that depends on the block alone: behind a node that misbehaves it does not.
    """
    run = Run(played=played, factory=BROKEN[name].factory, memory={})
    for point in Session(played, run.factory, memory=run.memory).points():
        breaks = judge(played, point).breaks
        if not breaks:
            continue
        act = point.act
        if not isinstance(act, SyncAct):
            named = breaks[0].block
            assert named is not None
            return {named: True}, True
        bad = {act.operation.end_block: True}
        if act.operation.kind == "sync" and isinstance(act.expected, Books):
            for block in _blocks_read(played, act):
                retold = run.retold(act, replace(act.operation, end_block=block), act.before)
                bad[block] = bool(judge(played, run.session().ask_alone(retold, point.given)).breaks)
        return dict(sorted(bad.items())), act.node is None
    return {played.ledger.head: True}, True  # only elsewhere, where it is asked at the head


def _blocks_read(played: Played, act: SyncAct) -> Iterator[int]:
    """From the first block that is new to an operation, and none before a trade that its books know of."""
    cursor = act.before.sync.treasury.last_block_scanned
    portfolio = act.before.portfolio
    traded = [
        trade.block_number or 0
        for position in (*portfolio.open_positions.values(), *portfolio.closed_positions.values())
        for trade in position.trades
        if not trade.failed_at
    ]
    first = played.ledger.setting.deployment_block if cursor is None else cursor + 1
    if act.rewinds is not None:
        first = min(first, act.rewinds + 1)
    yield from range(max([first, *traded]), act.operation.end_block + 1)


@pytest.mark.parametrize("name", BROKEN)
def test_the_first_bad_block_is_exact(name: str) -> None:
    found = corpus().catches[name][0]
    assert Outcome.plain is found.outcome
    assert found.block is not None
    with as_it_was(BROKEN[name].factory):
        bad, alone = _bad_blocks(_played(found.scenario), name)
    if not alone:
        assert bad[found.block]
        return
    first = min(block for block, wrong in bad.items() if wrong)
    if all(wrong for block, wrong in bad.items() if block >= first):
        assert first == found.block
    else:
        # What is wrong depends on where the operation ends as well: then right before, and wrong there.
        assert bad[found.block]
        assert not bad.get(found.block - 1, False)


# -- the command line


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one scenario, which becomes the current directory, and a few broken syncers."""
    (tmp_path / "scenarios").mkdir()
    shutil.copy(SCENARIOS / SMALL, tmp_path / "scenarios")
    monkeypatch.chdir(tmp_path)
    for name in set(BROKEN) - {"usd_sign", "interest_is_balance"}:
        monkeypatch.delitem(BROKEN, name)
    return tmp_path


def test_survivors_are_printed_and_a_low_kill_rate_is_an_exit_code(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == _run("--jobs", "1")
    said = capsys.readouterr().out
    assert "1 scenario catches 1 of 2 broken syncers: 50 %" in said
    assert "nothing catches interest_is_balance" in said
    assert Path("reports/strength.html").is_file()
    assert "50" == json.loads(Path("reports/strength.json").read_text(encoding="utf-8"))["summary"]["kill_rate"]
    assert 0 == _run("--jobs", "1", "--min-kill", "50")
    assert 1 == _run("--jobs", "1", "--min-kill", "50.1")


def test_nothing_selected(project: Path) -> None:
    assert 4 == _run("-k", "absent")


@pytest.mark.parametrize(
    "arguments",
    [
        ("no/such/folder",),
        ("--syncer", "no_such_module:thing"),
        ("--min-kill", "101"),
        ("--html", "same", "--json", "same"),
        ("--jobs", "0"),
    ],
)
def test_bad_input(project: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == _run(*arguments)
    assert capsys.readouterr().err
    assert not Path("reports/strength.html").exists()


def test_a_wrong_scenario_is_bad_input(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("scenarios/bad.yaml").write_text("title: 3\n", encoding="utf-8")
    assert 2 == _run("--jobs", "1")
    assert "bad.yaml" in capsys.readouterr().out


def test_somebody_elses_syncer_that_differs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 1 == _run("--jobs", "1", "--syncer", "harness.syncers.broken:usd_sign")
    said = capsys.readouterr().out
    assert "cannot be told with a syncer that differs" in said
    assert "is blamed" in said


def test_an_example_that_is_right_is_measured(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert os.getcwd() == str(project)
    assert 0 == _run("--jobs", "1", "--syncer", "reference")
    assert re.search(r"1 scenario catches \d+ of \d+ faults around reference", capsys.readouterr().out)
