"""Where a scenario went wrong, and why: in every report, first, and in the same words."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from harness.reconcile.diff import Break, BreakKind
from harness.report.html import to_html
from harness.report.junit import to_junit
from harness.report.results import (
    DiagnosisResult,
    RunResult,
    ScenarioResult,
    SidesAt,
    Verdict,
    diagnosis_lines,
    diagnosis_of,
    guilty_of,
    in_order,
    sides_of,
    to_json,
)
from harness.report.terminal import BREAKS_SHOWN, render_breaks, render_summary
from tests.report_sample import USDC, WETH, hostile, interest, redemption
from tests.test_report_html import Page

if TYPE_CHECKING:
    from typing import Any

SLUG = "s-enzyme-redemption-pays-from-open-positions-yaml"


def _run(*results: ScenarioResult) -> RunResult:
    return RunResult(syncer="reference", scenarios=results)


def _diagnosis(result: ScenarioResult) -> DiagnosisResult:
    assert result.diagnosis is not None
    return result.diagnosis


def _changed(result: ScenarioResult, **changes: Any) -> ScenarioResult:
    return replace(result, diagnosis=replace(_diagnosis(result), **changes))


def _text(*results: ScenarioResult) -> str:
    return re.sub(r"\s+", " ", " ".join(Page(to_html(_run(*results))).text))


# -- which break it is


def test_the_guilty_break_comes_first_in_every_report() -> None:
    result = redemption()
    guilty = result.breaks[1]
    assert guilty_of(result) is guilty
    assert [result.breaks[n] for n in (1, 0, 2)] == list(in_order(result))
    sentences = [found.sentence for found in in_order(result)]
    failure = ElementTree.fromstring(to_junit(_run(result))).find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.attrib == {"message": guilty.sentence, "type": "different"}
    for text in (failure.text or "", render_breaks(result), _text(result)):
        places = [text.index(sentence) for sentence in sentences]
        assert sorted(places) == places


def test_the_guilty_break_is_printed_however_many_others_there_are() -> None:
    result = redemption()
    others = tuple(replace(result.breaks[0], log_index=n) for n in range(100, 110 + BREAKS_SHOWN))
    text = render_breaks(replace(result, breaks=(*others, *result.breaks)))
    assert text.count(_diagnosis(result).guilty.sentence) == 1


def test_another_gap_at_another_block_is_the_same_finding_still() -> None:
    result = redemption()
    later = replace(result.breaks[1], gap_raw=7, sentence="later")
    assert guilty_of(replace(result, breaks=(later,))) is later
    assert guilty_of(replace(result, breaks=(later, result.breaks[1]))) is result.breaks[1]


def test_a_break_that_only_the_diagnosis_saw_is_shown_beside_all_of_the_run() -> None:
    result = redemption()
    alone = _changed(result, guilty=Break(kind=BreakKind.raised, sentence="It raised at block 8."))
    assert guilty_of(alone) is None
    assert in_order(alone) == alone.breaks
    page = Page(to_html(_run(alone)))
    assert len(page.all("article", **{"class": "guilty"})) == 1
    assert len(page.all("article", **{"class": "break"})) == 3
    assert "3 more: 2 different, 1 missing" in _text(alone)


def test_a_known_break_s_diagnosis_does_not_explain_another_failure() -> None:
    result = redemption()
    gone = Break(kind=BreakKind.known_gone, sentence="A known break is gone.")
    known = replace(interest(), verdict=Verdict.differ, breaks=(gone,), accepted=result.breaks)
    known = replace(known, diagnosis=result.diagnosis)
    assert diagnosis_of(known) is None
    assert diagnosis_lines(known) == ()
    assert 'class="diagnosis"' not in to_html(_run(known))
    assert "What differs" in _text(known)


def test_what_is_reconciled_shows_no_diagnosis() -> None:
    result = replace(redemption(), verdict=Verdict.reconciled, breaks=(), accepted=redemption().breaks)
    assert diagnosis_of(result) is None
    assert 'class="diagnosis"' not in to_html(_run(result))


# -- chain beside books


def test_sides_before_come_from_the_sync_before_where_none_can_end_in_between() -> None:
    result = redemption()
    there = tuple(side for side in _diagnosis(result).sides if side.block == 8)
    alone = _changed(result, sides=there)
    expected = (
        SidesAt(token=USDC, block=3, books=500_000_000, chain=500_000_000),
        SidesAt(token=WETH, block=3, books=0, chain=0),
        *there,
    )
    assert expected == sides_of(alone, _diagnosis(alone))
    found = json.loads(to_json(_run(alone)))["scenarios"][0]["diagnosis"]["sides"]
    assert [(side["asset"], side["block"]) for side in found] == [(s.token.symbol, s.block) for s in expected]
    assert "Block 3 the sync before, right" in _text(alone)
    assert "the sync before it, up to block 3, was right" in _text(alone)


def test_sides_before_are_not_made_up() -> None:
    result = redemption()
    there = tuple(side for side in _diagnosis(result).sides if side.block == 8)
    first = replace(_changed(result, sides=there), sync_points=result.sync_points[2:])
    assert there == sides_of(first, _diagnosis(first))
    swept = replace(_changed(result, sides=there), breaks=(replace(result.breaks[1], sweep="chunk-1"),))
    assert there == sides_of(swept, _diagnosis(swept))
    assert "right" not in re.sub("copyright", "", " ".join(re.findall(r'<tr class="at">.*', to_html(_run(swept)))))


def test_only_a_gap_that_was_not_there_before_is_marked() -> None:
    result = redemption()
    sides = (
        SidesAt(token=USDC, block=7, books=398, chain=400),
        SidesAt(token=USDC, block=8, books=198, chain=200),
        SidesAt(token=WETH, block=8, books=1, chain=0),
    )
    rows = Page(to_html(_run(_changed(result, sides=sides)))).all("tr", **{"class": "wrong"})
    assert len(rows) == 1
    calm = _changed(result, sides=sides[:2])
    assert not Page(to_html(_run(calm))).all("tr", **{"class": "wrong"})
    assert "A gap that was there before is explained" in _text(calm)
    assert "Totals alone do not show this one." in _text(calm)
    assert "Totals alone" not in _text(result)
    assert "was there before" not in _text(result)


def test_an_event_without_a_transaction_leads_to_the_first_bad_block() -> None:
    result = redemption()
    guilty = replace(result.breaks[1], transaction=None, log_index=None)
    for block, leads in ((8, True), (7, False)):
        there = replace(guilty, block=block)
        text = to_html(_run(_changed(replace(result, breaks=(there,)), guilty=there)))
        assert (f'<a href="#{SLUG}-block">block {block}</a>' in text) is leads
        assert f"{SLUG}-event" not in text


def test_a_gap_in_money_alone_stands_beside_its_label() -> None:
    result = redemption()
    guilty = replace(result.breaks[1], gap=None, gap_raw=None, gap_usd=247.5)
    text = _text(_changed(replace(result, breaks=(guilty,)), guilty=guilty))
    assert "Gap +$247.50 different" in text


# -- the panel


def test_panel_says_all_of_it_and_leads_on() -> None:
    page = Page(to_html(_run(redemption())))
    text = _text(redemption())
    for words in (
        "First bad block 8 synced up to block 7, the books are right",
        "Cause sign actual = −expected: 200.",
        "block 8, log 4",
        "line 13 - redeem: {caller: alice, shares: 50%}",
        "Block 7 right",
        "Block 8 first bad block",
        "harness run scenarios/enzyme/redemption_pays_from_open_positions.yaml --syncer acme_fund.sync:Syncer",
        "Also different 2 more: 1 missing, 1 different",
        "+400.000000",
    ):
        assert words in text, words
    links = {link["href"] for link in page.all("a")}
    assert {f"#{SLUG}-{end}" for end in ("d", "block", "event", "L13", "b1")} <= links
    assert page.all("li", id=f"{SLUG}-block", **{"class": "bad"})
    assert page.all("p", id=f"{SLUG}-event")
    assert ["open" in each for each in page.all("details", **{"class": "also"})] == [False]


def test_panel_comes_before_everything_else_of_its_scenario() -> None:
    text = to_html(_run(replace(redemption(), laws_off=interest().laws_off)))
    order = [text.index(mark) for mark in ('class="diagnosis"', 'class="also"', 'class="allowed"', 'class="timeline"')]
    assert sorted(order) == order


def test_unknown_is_an_answer() -> None:
    result = _changed(redemption(), cause=None, evidence=None, command="")
    assert ("cause", "unknown") in diagnosis_lines(result)
    assert "evidence" not in dict(diagnosis_lines(result))
    assert "reproduce" not in dict(diagnosis_lines(result))
    assert "cause unknown no evidence decides it" in _text(result)
    assert "Reproduce" not in _text(result)


@pytest.mark.parametrize("block", [4, 6, 11])
def test_first_bad_block_is_on_the_timeline_though_nothing_happened_in_it(block: int) -> None:
    result = _changed(redemption(), block=block, sides=())
    kept = tuple(each for each in result.timeline if each.entries or each.number == 6)
    for timeline in (result.timeline, kept, ()):
        page = Page(to_html(_run(replace(result, timeline=timeline))))
        assert len(page.all("li", id=f"{SLUG}-block")) == 1
        assert {link["href"][1:] for link in page.all("a")} <= {each.get("id") for _, each in page.elements}


def test_first_bad_block_stands_alone_among_empty_ones() -> None:
    assert "5–7 2024-01-01 00:01:24 empty blocks" in _text(redemption())
    text = _text(_changed(redemption(), block=6, sides=()))
    assert "5–7" not in text
    assert "6 2024-01-01 00:01:12 first bad block empty block 7 2024-01-01 00:01:24 empty block" in text


def test_a_break_without_place_or_sides_still_has_a_panel() -> None:
    guilty = Break(kind=BreakKind.timeout, sentence="The syncer did not come back.")
    result = replace(redemption(), breaks=(guilty,))
    result = _changed(result, guilty=guilty, sides=())
    text = _text(replace(result, source=""))
    assert "First bad block 8 Cause" in text
    assert "Event" not in text
    assert "Chain beside books" not in text
    assert "Also different" not in text


def test_a_step_of_another_file_is_named_and_not_quoted() -> None:
    result = redemption()
    place = result.breaks[1].location
    assert place is not None
    elsewhere = replace(result.breaks[1], location=replace(place, file="scenarios/part.yaml"))
    text = _text(replace(result, breaks=(elsewhere,)))
    assert "Step scenarios/part.yaml:13 Found" in text


# -- lines


def test_terminal_and_junit_say_it_in_a_line_each() -> None:
    lines = [
        "first bad block: 8",
        "cause: sign",
        "evidence: actual = −expected: 200.",
        "reproduce: harness run scenarios/enzyme/redemption_pays_from_open_positions.yaml "
        "--syncer acme_fund.sync:Syncer",
    ]
    junit = to_junit(_run(redemption())).splitlines()
    start = junit.index(lines[0])
    assert lines == junit[start : start + 4]
    terminal = render_summary(_run(redemption())).splitlines()[2:6]
    assert [re.sub(": ", "", line, count=1).replace(" ", "") for line in lines] == [
        line.replace(" ", "") for line in terminal
    ]


def test_what_others_said_makes_no_lines_of_its_own() -> None:
    assert all("\n" not in text for _, text in diagnosis_lines(hostile()))
    lines = render_summary(_run(hostile())).split("\n")
    assert any(line.startswith("    evidence") and "::error::" in line for line in lines)
    assert not any(line.lstrip().startswith("::") for line in lines)
    assert to_html(_run(hostile())).count("<script") == 1


def test_absolute_paths_leave_diagnosis_and_command() -> None:
    result = redemption()
    home = "/home/me/it's mine"
    file = f"{home}/redemption.yaml"
    place = result.breaks[1].location
    assert place is not None
    guilty = replace(result.breaks[1], location=replace(place, file=file), sentence=f"see {file}")
    moved = _changed(
        replace(result, file=file, breaks=(guilty,)),
        guilty=guilty,
        evidence=f"see {file}",
        command="harness run '/home/me/it'\"'\"'s mine/redemption.yaml' --syncer x",
    )
    for text in (to_json(_run(moved)), to_html(_run(moved)), to_junit(_run(moved))):
        assert "/home/me" not in text
    found = json.loads(to_json(_run(moved)))["scenarios"][0]["diagnosis"]
    assert found["command"] == "harness run enzyme/redemption_pays_from_open_positions.yaml --syncer x"
