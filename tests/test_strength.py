"""The strength of a set of scenarios: what is counted, what is drawn, and that cells know nothing of each other."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness import strength as measuring
from harness.report.matrix import (
    Alarm,
    Cell,
    Fate,
    Outcome,
    Strength,
    Tried,
    Wrong,
    exit_code,
    headline,
    percent,
    to_html,
    to_json,
)
from harness.strength import File, Plan, measure
from harness.syncers.broken import BROKEN
from harness.syncers.reference import ReferenceSyncer

SCENARIOS = Path(__file__).parents[1] / "scenarios"
SMALL = "deposit_and_redemption_in_one_block_are_told_apart.yaml"
CHUNKED = "chunks_of_blocks_leave_no_seam.yaml"


# -- what is counted


def _sample(**changes: Any) -> Strength:
    def wrong(name: str, cause: str | None = "missed", **more: Any) -> Wrong:
        return Wrong(name=name, wrong=f"What is wrong in {name}.", cause=cause, **more)

    def cell(
        scenario: str, name: str, outcome: Outcome = Outcome.plain, cause: str | None = "missed", **m: Any
    ) -> Cell:
        caught = outcome in (Outcome.plain, Outcome.sweep)
        return Cell(scenario=scenario, wrong=name, outcome=outcome, cause=cause if caught else None, **m)

    made = Strength(
        syncer=None,
        controls=("reference",),
        with_expect=False,
        wrongs=(wrong("everywhere"), wrong("once"), wrong("swept", None), wrong("never")),
        scenarios=tuple(Tried(id=name, title=f"Title of {name}") for name in ("a", "b", "idle", "spare")),
        cells=(
            cell("a", "everywhere"),
            cell("a", "once", cause="sign", block=7, line=3, sentence="<b>1 is missing</b>"),
            cell("b", "everywhere"),
            cell("b", "swept", Outcome.sweep, None, sweep="chunk-1"),
            cell("spare", "everywhere"),
            *(cell(name, "never", Outcome.swept) for name in ("a", "b", "idle", "spare")),
        ),
    )
    return replace(made, **changes)


def test_the_kill_rate_is_of_all_that_could_be_caught() -> None:
    sample = _sample()
    assert Fraction(3, 4) == sample.kill_rate
    assert ["never"] == [wrong.name for wrong in sample.of_fate(Fate.survived)]
    assert "4 scenarios catch 3 of 4 broken syncers" == headline(sample)


def test_scenarios_that_catch_nothing_and_nothing_of_their_own_are_named() -> None:
    sample = _sample()
    assert ("idle",) == sample.idle
    assert ("spare",) == sample.spare
    assert ("once",) == sample.only_by("a")
    assert ("swept",) == sample.only_by("b")


def test_causes_are_right_only_if_they_are_those_expected_unknown_included() -> None:
    assert (2, 3) == _sample().named_right
    assert (4, 5) == _sample().cells_right


def test_a_fault_that_does_no_harm_or_finds_no_door_is_no_survivor() -> None:
    wrongs = tuple(Wrong(name=name, wrong=".", cause=None, harmless_if_sound=name != "harm") for name in "xyz")
    harm = Wrong(name="harm", wrong=".", cause=None)

    def passed(name: str, **effect: bool) -> Cell:
        return Cell(scenario="a", wrong=name, outcome=Outcome.passed, **effect)

    sample = _sample(
        wrongs=(*wrongs, harm),
        cells=(
            passed("x", differs=False),
            passed("y", differs=True),
            passed("z", offered=False, changed=False, differs=False),
            passed("harm", changed=False, differs=False),
        ),
    )
    fates = {wrong.name: sample.fate(wrong) for wrong in sample.wrongs}
    assert {
        "x": Fate.withstood,
        "y": Fate.survived,
        "z": Fate.not_applicable,
        "harm": Fate.survived,
    } == fates
    assert sample.is_unreached(harm)
    assert 2 == sample.rated


@pytest.mark.parametrize(
    ("changes", "min_kill", "expected"),
    [
        ({}, None, 0),
        ({}, Fraction(3, 4), 0),
        ({}, Fraction(76, 100), 1),
        ({"alarms": (Alarm(syncer="reference", scenario="a", sentence="x", block=1, line=1, sweep=None),)}, None, 1),
        ({"scenarios": ()}, Fraction(1), 4),
        ({"scenarios": (Tried(id="a", title="a", error="wrong"),)}, None, 2),
        ({"scenarios": (Tried(id="a", title="a", error="wrong", internal=True),)}, None, 3),
    ],
)
def test_exit_codes(changes: dict[str, Any], min_kill: Fraction | None, expected: int) -> None:
    assert expected == exit_code(
        _sample(**changes, **({"cells": ()} if changes.get("scenarios") == () else {})), min_kill
    )


def test_a_hundred_percent_is_all() -> None:
    assert "99.9 %" == percent(9999, 10000)
    assert "100 %" == percent(3, 3)


# -- how it is drawn


def test_the_page_escapes_what_is_said_and_allows_its_own_style_alone() -> None:
    page = to_html(_sample())
    assert "<b>1 is missing</b>" not in page
    assert "&lt;b&gt;1 is missing&lt;/b&gt;" in page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1] or "default-src 'none'" in policy[1]
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page), "nothing outside the page is asked for"


def test_the_matrix_shows_each_catch_in_its_place() -> None:
    page = to_html(_sample())
    row = re.search(r"<tr[^>]*><th[^>]*><a href=\"#w-once\">.*?</tr>", page, re.DOTALL)
    assert row is not None
    assert ["○", "", "", ""] == re.findall(r"<td[^>]*>([^<]*)</td>", row[0])
    row = re.search(r"<tr[^>]*><th[^>]*><a href=\"#w-never\">.*?</tr>", page, re.DOTALL)
    assert row is not None
    assert "survived" in row[0]
    assert ["·"] * 4 == re.findall(r"<td[^>]*>([^<]*)</td>", row[0])


def test_the_json_says_what_the_page_says() -> None:
    told = json.loads(to_json(_sample()))
    assert {"killed": 3, "rated": 4, "kill_rate": "75"}.items() <= told["summary"].items()
    assert ["never"] == told["survivors"]
    assert {"scenario": "a", "block": 7, "line": 3, "cause": "sign", "cause_right": False}.items() <= told[
        "wrong_syncers"
    ][1]["first"].items()


# -- a measurement


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[File]]:
    def copied(*names: str) -> list[File]:
        for name in names:
            shutil.copy(SCENARIOS / name, tmp_path)
        return [File(id=name, path=str(tmp_path / name)) for name in names]

    return copied


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leave only some broken syncers, or others in their place."""

    def left(*names: str, **others: Any) -> None:
        monkeypatch.setattr(measuring, "CONTROLS", ("reference",))
        some = {name: BROKEN[name] for name in names}
        template = BROKEN["resume_off_by_one"]
        some |= {name: replace(template, name=name, factory=made) for name, made in others.items()}
        for name in list(BROKEN):
            monkeypatch.delitem(BROKEN, name)
        for name, broken in some.items():
            monkeypatch.setitem(BROKEN, name, broken)

    return left


def _fates(strength: Strength) -> dict[str, str]:
    return {wrong.name: strength.fate(wrong).value for wrong in strength.wrongs}


def test_one_scenario_lets_others_mistakes_live(files: Callable[..., list[File]], only: Callable[..., None]) -> None:
    only("usd_sign", "interest_is_balance", "chunk_seam_skipped")
    found = measure(files(SMALL), Plan())
    assert {"usd_sign": "killed", "interest_is_balance": "survived", "chunk_seam_skipped": "killed"} == _fates(found)
    assert ["plain", "sweep"] == [found.catches[name][0].outcome.value for name in ("usd_sign", "chunk_seam_skipped")]
    assert "chunk-1" == found.catches["chunk_seam_skipped"][0].sweep
    assert [] == list(found.alarms)


def test_sweeps_are_needed_only_for_what_no_plain_run_catches(
    files: Callable[..., list[File]], only: Callable[..., None]
) -> None:
    only("chunk_seam_skipped")
    found = measure(files(SMALL, CHUNKED), Plan())
    assert ["passed", "plain"] == [cell.outcome.value for cell in found.cells]


def test_any_number_of_jobs_gives_the_same_bytes(files: Callable[..., list[File]], only: Callable[..., None]) -> None:
    only("usd_sign", "interest_is_balance", "only_first_chunk_read")
    chosen = files(SMALL, "percentages_round_down.yaml", "longest_name_is_kept_whole.yaml")
    one, three = (measure(chosen, Plan(), jobs=jobs) for jobs in (1, 3))
    assert to_json(one) == to_json(three)
    assert to_html(one) == to_html(three)


def test_a_wrong_cause_is_counted(files: Callable[..., list[File]], only: Callable[..., None]) -> None:
    only("usd_sign")
    chosen = files(SMALL)
    assert (1, 1) == measure(chosen, Plan()).named_right
    BROKEN["usd_sign"] = replace(BROKEN["usd_sign"], cause="scale")
    assert (0, 1) == measure(chosen, Plan()).named_right


def test_a_false_alarm_is_seen(
    files: Callable[..., list[File]], only: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    only("usd_sign")
    monkeypatch.setattr(measuring, "CONTROLS", ("reference", "harness.syncers.broken:usd_sign"))
    found = measure(files(SMALL), Plan())
    assert ["harness.syncers.broken:usd_sign"] == [alarm.syncer for alarm in found.alarms]
    assert 1 == exit_code(found)


class Remembers(ReferenceSyncer):
    """Wrong in the first scenario that a class sees, and in no other one, unless it is made to forget."""

    met: ClassVar[list[str]] = []

    def sync_treasury(self, view: Any, books: Any, cycle: Any) -> Any:
        books = super().sync_treasury(view, books, cycle)
        if not self.met:
            books.sync.treasury.last_block_scanned -= 1
        self.met.append(self.vault)
        return books


def test_no_cell_knows_of_another(files: Callable[..., list[File]], only: Callable[..., None]) -> None:
    only(remembers=Remembers)
    found = measure(files(SMALL, CHUNKED), Plan(), jobs=1)
    assert ["plain", "plain"] == [cell.outcome.value for cell in found.cells]


def test_a_wrong_scenario_is_named_and_the_others_go_on(
    files: Callable[..., list[File]], only: Callable[..., None], tmp_path: Path
) -> None:
    only("usd_sign")
    chosen = files(SMALL)
    (tmp_path / "bad.yaml").write_text("title: 1\nsteps: [nothing]\n", encoding="utf-8")
    found = measure([File(id="bad.yaml", path=str(tmp_path / "bad.yaml")), *chosen], Plan())
    assert [True, False] == [tried.error is not None for tried in found.scenarios]
    assert {"usd_sign": "killed"} == _fates(found)
    assert 2 == exit_code(found)


def test_expectations_are_taken_out_unless_they_are_asked_for(
    tmp_path: Path, only: Callable[..., None], files: Callable[..., list[File]]
) -> None:
    only("usd_sign")
    path = files(SMALL)[0].path
    text = Path(path).read_text(encoding="utf-8")
    Path(path).write_text(text + "  - expect: {balances: {DAI: 123456789}}\n", encoding="utf-8")
    assert [None] == [tried.error for tried in measure([File(id="a", path=path)], Plan()).scenarios]
    kept = measure([File(id="a", path=path)], Plan(with_expect=True))
    assert "123456789" in (kept.scenarios[0].error or "")


# -- faults around somebody's syncer


def _around(syncer: str, chosen: list[File]) -> Strength:
    return measure(chosen, Plan(syncer=syncer))


def test_faults_around_a_right_syncer_are_caught(files: Callable[..., list[File]]) -> None:
    found = _around("reference", files(SMALL))
    fates = _fates(found)
    assert {"killed", "survived", "withstood", "not applicable"} == set(fates.values())
    assert "killed" == fates["worth_sign_flipped"]
    assert "survived" == fates["reserve_at_par"]
    assert "withstood" == fates["logs_repeated"]
    assert "not applicable" == fates["interest_not_booked"]


def test_the_strength_is_not_told_with_a_syncer_that_differs(files: Callable[..., list[File]]) -> None:
    found = _around("harness.syncers.broken:usd_sign", files(SMALL))
    assert not found.is_told
    assert found.alarms
    assert () == found.cells
    assert 1 == exit_code(found)
    assert "cannot be told" in to_html(found)


def test_a_syncer_that_ends_the_process_is_an_alarm(
    files: Callable[..., list[File]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone_syncer.py").write_text("import os\n\ndef make(target):\n    os._exit(9)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found = _around("gone_syncer:make", files(SMALL))
    assert ["ended early"] == [re.findall("ended early", alarm.sentence)[0] for alarm in found.alarms]
