"""The terminal's text."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.report.results import RunResult, Verdict
from harness.report.terminal import (
    BREAKS_SHOWN,
    print_scenario,
    print_slowest,
    print_summary,
    render_breaks,
    render_summary,
)
from tests.report_sample import broken_file, hostile, redemption, sample_run, scenario

GOLDEN = Path(__file__).parent / "golden"


def _console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    system = "truecolor" if terminal else None
    return Console(file=out, force_terminal=terminal, color_system=system, width=40, _environ={}), out


def test_summary_is_what_it_was() -> None:
    assert (GOLDEN / "report.txt").read_bytes() == render_summary(sample_run()).encode()


@pytest.mark.parametrize("variable", ["COLUMNS", "FORCE_COLOR", "NO_COLOR", "TERM", "JUPYTER_COLUMNS"])
def test_environment_does_not_change_the_summary(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    before = render_summary(sample_run())
    monkeypatch.setenv(variable, "7")
    assert before == render_summary(sample_run())


def test_a_pipe_gets_neither_colour_nor_broken_paths() -> None:
    console, out = _console(terminal=False)
    print_summary(console, sample_run())
    assert "\x1b" not in out.getvalue()
    assert "scenarios/enzyme/redemption_pays_from_open_positions.yaml:13: The books have no" in out.getvalue()


def test_a_terminal_gets_colour_and_no_escape_of_the_scenario_s_own() -> None:
    console, out = _console(terminal=True)
    print_summary(console, RunResult(syncer="x", scenarios=(hostile(),)))
    assert "\x1b[" in out.getvalue()
    assert "\x1b[31mred" not in out.getvalue()
    assert "[bold]x[/bold]" in out.getvalue()


def test_no_line_of_what_a_syncer_said_stands_alone() -> None:
    lines = render_summary(RunResult(syncer="x", scenarios=(hostile(),))).split("\n")
    assert any("::error::" in line for line in lines)
    assert not any(line.lstrip().startswith("::") for line in lines)


def test_one_line_a_scenario() -> None:
    console, out = _console(terminal=False)
    for result in (scenario("enzyme/first.yaml"), redemption(), broken_file(), scenario("a\nb.yaml")):
        print_scenario(console, result, width=20)
    assert out.getvalue().split("\n") == [
        "ok      enzyme/first.yaml         3 blocks      31 checks    0.21 s",
        "DIFFER  enzyme/redemption_pays_from_open_positions.yaml     10 blocks      47 checks    0.34 s",
        "ERROR   enzyme/broken_file.yaml      0 blocks       0 checks    0.00 s",
        "ok      a␊b.yaml                  3 blocks      31 checks    0.21 s",
        "",
    ]


def test_the_slowest_ten_are_told_where_there_are_more() -> None:
    results = [replace(scenario(f"s{number}.yaml"), seconds=number / 4) for number in range(12)]
    console, out = _console(terminal=False)
    print_slowest(console, results[:10])
    assert out.getvalue() == ""
    print_slowest(console, results)
    lines = out.getvalue().split("\n")
    assert ["", "slowest 10: 16.2 s of 16.5 s", "    2.75 s  s11.yaml", "    2.50 s  s10.yaml"] == lines[:4]
    assert "    0.50 s  s2.yaml" == lines[-2]


def test_problems_begin_with_their_place() -> None:
    lines = render_summary(RunResult(syncer="x", scenarios=(broken_file(),))).split("\n")
    assert "scenarios/enzyme/broken_file.yaml:6:5: unknown step 'depositt'" in lines
    assert "scenarios/enzyme/broken_file.yaml:7:12: '5OO USDC' is not an amount" in lines


def test_what_was_found_before_an_error_is_not_lost() -> None:
    result = replace(redemption(), verdict=Verdict.error, error="the chain refused a step")
    text = render_summary(RunResult(syncer="x", scenarios=(result,)))
    assert "enzyme/redemption_pays_from_open_positions.yaml: the chain refused a step" in text
    assert all(found.sentence in text for found in result.breaks)


def test_what_is_not_printed_is_said() -> None:
    found = redemption().breaks[0]
    many = replace(redemption(), breaks=(found,) * (BREAKS_SHOWN + 2))
    text = render_breaks(many)
    assert text.count(found.sentence) == BREAKS_SHOWN
    assert "and 2 more, in the HTML report and in results.json" in text


def test_a_good_run_ends_with_its_verdict() -> None:
    text = render_summary(RunResult(syncer="x", scenarios=(scenario("a.yaml"), scenario("b.yaml"))))
    assert text == "\nBooks equal the chain in all 2 scenarios.\n0 differ, 0 errors, 2 reconciled; 62 checks\n"


def test_no_scenario_is_no_good_run() -> None:
    console, out = _console(terminal=True)
    print_summary(console, RunResult(syncer="x", scenarios=()))
    assert "\x1b[1;31mNo scenario was run" in out.getvalue()
