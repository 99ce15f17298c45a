"""A run on a terminal, and in a pipe: the same words, colour only where there is a terminal.

Everything goes out as `Text`, never as markup, and in lines that nobody wraps: what a scenario says
cannot colour the screen, and a path stays in one piece for editors to open.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from harness.reconcile.diff import Break
from harness.report.allowances import allowances_text
from harness.report.nodes import count_nodes, nodes_text
from harness.report.results import (
    NodeOutcome,
    RunResult,
    ScenarioResult,
    Verdict,
    counts_text,
    diagnosis_lines,
    error_text,
    gap_text,
    headline,
    in_order,
    largest_gap_text,
    name_text,
    place_text,
    printable,
)

BREAKS_SHOWN: Final = 25
"""So many breaks of one scenario are printed; the other reports hold all of them."""
SLOWEST_SHOWN: Final = 10

_WORDS = {Verdict.reconciled: "ok", Verdict.differ: "DIFFER", Verdict.error: "ERROR"}
_STYLES = {Verdict.reconciled: "green", Verdict.differ: "bold red", Verdict.error: "bold yellow"}
_WIDEST = 60
"""Longer ids are not lined up."""


def print_scenario(console: Console, result: ScenarioResult, *, width: int = 0) -> None:
    """Print a scenario's one line, as it ends: verdict, id, blocks, checks, seconds.

    Args:
        width: The longest id of the run, so that the figures stand in columns.
    """
    blocks = max((block.number for block in result.timeline), default=0)
    line = _verdict(result.verdict)
    line.append(_one_line(result.id).ljust(min(width, _WIDEST)))
    line.append(f"  {blocks:>5,} blocks  {result.checks:>6,} checks  {result.seconds:>6.2f} s", style="dim")
    _print(console, line)


def print_slowest(console: Console, results: Sequence[ScenarioResult]) -> None:
    """Print which scenarios took longest; where there are no more than that, their lines say it."""
    if len(results) <= SLOWEST_SHOWN:
        return
    slowest = sorted(results, key=lambda result: -result.seconds)[:SLOWEST_SHOWN]
    share = sum(result.seconds for result in slowest)
    whole = sum(result.seconds for result in results)
    _print(console, Text())
    _print(console, Text(f"slowest {SLOWEST_SHOWN}: {share:,.1f} s of {whole:,.1f} s", style="dim"))
    for result in slowest:
        _print(console, Text(f"{result.seconds:>8.2f} s  {_one_line(result.id)}", style="dim"))


def print_summary(console: Console, run: RunResult) -> None:
    """Print the failures, breaks before errors, and the verdict as the last lines."""
    for verdict in (Verdict.differ, Verdict.error):
        for result in run.scenarios:
            if result.verdict is verdict:
                _print(console, Text())
                _print_failure(console, result)
    _print(console, Text())
    style = "bold green" if run.scenarios and run.count(Verdict.reconciled) == len(run.scenarios) else "bold red"
    _print(console, Text(headline(run), style=style))
    if (largest := largest_gap_text(run)) is not None:
        _print(console, _indented(largest))
    if (allowed := allowances_text(run)) is not None:
        _print(console, Text(allowed))
    if (nodes := nodes_text(run)) is not None:
        _print(console, Text(nodes, style="bold red" if count_nodes(run)[NodeOutcome.wrong] else ""))
    _print(console, Text(counts_text(run)))


def render_summary(run: RunResult) -> str:
    """Give what `print_summary` prints where there is no terminal."""
    console, out = _paper()
    print_summary(console, run)
    return out.getvalue()


def render_breaks(result: ScenarioResult) -> str:
    """Give one scenario's breaks as `print_summary` shows them where there is no terminal."""
    console, out = _paper()
    _print_breaks(console, result)
    return out.getvalue()


def _paper() -> tuple[Console, io.StringIO]:
    """A console that the environment cannot change, and what is written to it."""
    out = io.StringIO()
    return Console(file=out, force_terminal=False, color_system=None, width=100), out


def _print(console: Console, line: Text) -> None:
    console.print(line, soft_wrap=True)


def _verdict(verdict: Verdict) -> Text:
    return Text(f"{_WORDS[verdict]:<8}", style=_STYLES[verdict]).append("", style="none")


def _print_failure(console: Console, result: ScenarioResult) -> None:
    _print(console, _verdict(result.verdict).append(f"{_one_line(result.id)}  {_one_line(result.title)}", style="bold"))
    if result.verdict is Verdict.error:
        if result.internal:
            _print(console, Text("The harness itself failed; this says nothing about the syncer.", style="yellow"))
        _print_error(console, result)
    _print_breaks(console, result)


def _print_breaks(console: Console, result: ScenarioResult) -> None:
    for label, text in diagnosis_lines(result):
        style = "bold" if label == "cause" else ""
        _print(console, Text(f"    {label:<16}").append(text, style=style))
    for found in in_order(result)[:BREAKS_SHOWN]:
        _print_break(console, result, found)
    left = len(result.breaks) - BREAKS_SHOWN
    if left > 0:
        _print(console, Text(f"    and {left} more, in the HTML report and in results.json"))


def _print_error(console: Console, result: ScenarioResult) -> None:
    if not result.problems:
        _print(console, _place(result.id).append_text(_indented(error_text(result))))
    for problem in result.problems:
        _print(console, _place(str(problem.location)).append_text(_indented(printable(problem.message))))
        if problem.expected is not None:
            _print(console, Text("    expected ").append_text(_indented(printable(problem.expected))))
        if problem.suggestion is not None:
            _print(console, Text("    did you mean ").append_text(_indented(printable(repr(problem.suggestion) + "?"))))


def _print_break(console: Console, result: ScenarioResult, found: Break) -> None:
    place = result.id if found.location is None else f"{found.location.file}:{found.location.line}"
    _print(console, _place(place).append_text(_indented(printable(found.sentence))))
    _print(console, Text("    ").append_text(_indented(name_text(found), "dim")))
    details = {
        "expected": found.expected,
        "actual": found.actual,
        "gap": gap_text(found),
        "at": place_text(found),
        "found at": None if found.found_at is None else f"{found.found_at.file}:{found.found_at.line}",
    }
    for label, text in details.items():
        if text is not None:
            style = "bold" if label == "gap" else ""
            _print(console, Text(f"    {label:<10}").append_text(_indented(printable(text), style)))


def _one_line(text: str) -> str:
    return printable(text).replace("\n", "\u240a")


def _place(text: str) -> Text:
    """What a line begins with, so that editors can jump and nothing said by others comes first."""
    return Text().append(f"{_one_line(text)}: ", style="cyan")


def _indented(text: str, style: str = "") -> Text:
    """Mark the second and later lines as continued: none can pass for a line (or a CI server's command) of its own."""
    return Text(text.replace("\n", "\n    | "), style=style)
