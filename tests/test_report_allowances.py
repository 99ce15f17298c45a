"""Laws off, tolerances and known breaks: in every report, in the same words."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from fractions import Fraction

from harness.errors import Location
from harness.reconcile.rules import ToleranceUse
from harness.report.html import to_html
from harness.report.results import RunResult, ScenarioResult, to_json
from harness.report.terminal import render_summary
from harness.scenario.model import Known, KnownBreak, LawOff, Tolerance
from tests.report_sample import HOSTILE, USDC, redemption, scenario
from tests.test_report_html import Page


def _at(line: int) -> Location:
    return Location(file="scenarios/allowing.yaml", line=line, column=3)


def _use(
    line: int, *, largest: int, differences: int, field: str | None = None, reason: str = "it rounds"
) -> ToleranceUse:
    tolerance = Tolerance(location=_at(line), asset="USDC", raw=2_000, field=field, reason=reason)
    return ToleranceUse(
        tolerance=tolerance, token=USDC, price=Fraction(3, 2), differences=differences, largest_raw=largest
    )


def allowing() -> ScenarioResult:
    known = Known(
        location=_at(4),
        reason=f"mended soon {HOSTILE}",
        until=date(2026, 12, 31),
        breaks=(KnownBreak(location=_at(5), kind="different"),),
    )
    return scenario(
        "allowing.yaml",
        laws_off=(LawOff(location=_at(1), law="books-equal-chain", reason=f"no {HOSTILE}"),),
        tolerances=(
            _use(2, largest=-1_500, differences=3, field="quantity"),
            _use(3, largest=0, differences=0, reason=HOSTILE),
        ),
        known=known,
        accepted=redemption().breaks[:2],
    )


def test_json_has_them_all() -> None:
    found = json.loads(to_json(RunResult(syncer="reference", scenarios=(allowing(),))))["scenarios"][0]
    assert [{"law": "books-equal-chain", "reason": f"no {HOSTILE}", "line": 1}] == found["laws_off"]
    assert {
        "asset": "USDC",
        "field": "quantity",
        "reason": "it rounds",
        "line": 2,
        "allowed": {"raw": "2000", "tokens": "0.002000", "usd": 0.003},
        "largest": {"raw": "-1500", "tokens": "-0.001500", "usd": -0.00225},
        "differences": 3,
        "unused": False,
    } == found["tolerances"][0]
    assert (True, 0) == (found["tolerances"][1]["unused"], found["tolerances"][1]["differences"])
    assert ("2026-12-31", 2, []) == (found["known"]["until"], len(found["known"]["accepted"]), found["breaks"])
    none = json.loads(to_json(RunResult(syncer="reference", scenarios=(scenario("a.yaml"),))))["scenarios"][0]
    assert ([], [], None) == (none["laws_off"], none["tolerances"], none["known"])


def test_page_and_terminal_count_and_show_them() -> None:
    run = RunResult(syncer="reference", scenarios=(allowing(), scenario("a.yaml")))
    counted = "Allowed by the scenarios: 1 law switched off, 2 tolerances (1 unused), 2 known breaks accepted."
    assert counted in render_summary(run).splitlines()
    page = "".join(Page(to_html(run)).text)
    for words in (
        counted,
        "The law books-equal-chain is switched off",
        "2000 raw · 0.002000 USDC · $0.0030",
        "at most -1500 raw · -0.001500 USDC · -$0.0022, 3 differences",
        "unused",
        "Known breaks are accepted until 2026-12-31",
        "2 accepted",
    ):
        assert words in page, words
    assert "<script>alert" not in to_html(run)


def test_nothing_is_said_where_nothing_is_allowed() -> None:
    run = RunResult(syncer="reference", scenarios=(redemption(), scenario("a.yaml")))
    assert "Allowed by" not in render_summary(run)
    assert "What the scenario allows" not in to_html(run)


def test_summary_leads_to_each_scenario_that_allows_something() -> None:
    few, many = (
        Page(to_html(RunResult(syncer="x", scenarios=tuple(replace(allowing(), id=f"{n}.yaml") for n in range(count)))))
        for count in (2, 9)
    )
    assert {"#s-0-yaml-a", "#s-1-yaml-a"} <= {link["href"] for link in few.all("a")}
    assert not few.all("section", id="allowing")
    assert "and 3 more" in "".join(many.text)
    assert {f"#s-{n}-yaml-a" for n in range(9)} <= {link["href"] for link in many.all("a")}
    assert many.all("section", id="allowing")


def test_absolute_paths_leave_accepted_breaks_too() -> None:
    moved = replace(allowing(), file="/home/me/scenarios/allowing.yaml")
    found = replace(moved.accepted[0], sentence="see /home/me/scenarios/allowing.yaml")
    run = RunResult(syncer="reference", scenarios=(replace(moved, accepted=(found,)),))
    assert "/home/me" not in to_json(run)
