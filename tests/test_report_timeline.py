"""A timeline tells every branch of a chain, in the order played, and what was done to each operation on it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.reconcile.diff import Break, BreakKind
from harness.report.html import to_html
from harness.report.results import RunResult, ScenarioResult, TimelineBlock, to_json
from harness.runner import run_file
from tests.report_sample import reorganised, scenario
from tests.test_report_html import Page

HEADER = """\
title: a chain that turns
tokens:
  USDC: {decimals: 6, usd: 1}
vault: {kind: erc4626, reserve: USDC}
steps:
  - deposit: {caller: alice, assets: 100}
  - sync:
  - deposit: {caller: bob, assets: 20}
  - deposit: {caller: carol, assets: 3}
"""
SLUG = "s-reorg-orphaned-deposit-yaml"


@pytest.fixture
def run(tmp_path: Path) -> object:
    def run(steps: str, **options: str) -> ScenarioResult:
        path = tmp_path / "turning.yaml"
        path.write_text(HEADER + steps, encoding="utf-8")
        return run_file(str(path), id="turning.yaml", file="turning.yaml", sweeps=False, **options)  # type: ignore[arg-type]

    return run


def told(result: ScenarioResult) -> list[tuple[int, int, bool, list[str]]]:
    return [
        (block.number, block.branch, block.replaced, [f"{entry.text} @{entry.line}" for entry in block.entries])
        for block in result.timeline
        if block.number > 3
    ]


def test_branches_follow_each_other_as_they_were_played(run) -> None:  # type: ignore[no-untyped-def]
    result = run(
        """\
  - sync:
  - reorg: {depth: 2, drop: [5], move: {4: 5}}
  - sync:
  - reorg: {depth: 1, drop: [5]}
  - mine: 1
  - sync:
"""
    )
    assert [
        (4, 0, True, ["bob deposits 20.000000 USDC @8"]),
        (
            5,
            0,
            True,
            [
                "carol deposits 3.000000 USDC @9",
                "sync the treasury, cycle 2024-01-01 00:01:00 @10",
                "reorganisation: blocks 4 to 5 are replaced @11",
            ],
        ),
        (4, 1, False, []),
        (
            5,
            1,
            True,
            [
                "bob deposits 20.000000 USDC @8",
                "sync the treasury, cycle 2024-01-01 00:01:00 @12",
                "reorganisation: block 5 is replaced @13",
            ],
        ),
        (5, 2, False, []),
        (6, 2, False, ["sync the treasury, cycle 2024-01-01 00:01:12 @15"]),
    ] == told(result)
    assert [0, 0, 0, 1, 2] == [point.branch for point in result.sync_points]
    for point in json.loads(to_json(RunResult(syncer="x", scenarios=(result,))))["scenarios"][0]["sync_points"]:
        for statement in point["statement"]:
            lines = ("opening", "deposits", "redemptions", "interest", "trades", "corrections", "orphaned")
            assert int(statement["closing"]["raw"]) == sum(int(statement[line]["raw"]) for line in lines)
            assert statement["unaccounted"]["raw"] == statement["unexplained"]["raw"] == "0"


def test_what_is_done_to_an_operation_stands_beside_it(run) -> None:  # type: ignore[no-untyped-def]
    result = run(
        """\
  - node: {after: 2, steps: [{reorg: {depth: 1, keep: [5]}}, {mine: 1}]}
  - sync:
  - crash: {after: 3}
  - node: {profile: range-cap, blocks: 3}
  - sync:
  - node: {head: 5}
  - sync:
    refused: true
"""
    )
    noted = [
        (block.number, block.branch, entry.notes) for block in result.timeline for entry in block.entries if entry.notes
    ]
    assert [
        (5, 0, ("before its read 2 the chain is reorganised",)),
        (5, 1, ("its node's newest block is 5",)),
        (
            6,
            1,
            (
                "its node misbehaves: range-cap, blocks 3",
                "it dies at its read 3 (or its answer is lost), and a fresh syncer is asked again",
            ),
        ),
    ] == noted


def test_a_step_of_an_included_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "_part.yaml").write_text(HEADER.replace("title: a chain that turns\n", ""), encoding="utf-8")
    path = tmp_path / "whole.yaml"
    path.write_text("title: whole\ninclude: _part.yaml\nsteps:\n  - sync:\n", encoding="utf-8")
    result = run_file(str(path), id="whole.yaml", file="whole.yaml", root=str(tmp_path), sweeps=False)
    assert result.error is None
    files = {entry.text[:5]: entry.file for block in result.timeline for entry in block.entries}
    assert (files["carol"] or "").endswith("_part.yaml")
    text = re.sub(r"\s+", " ", " ".join(Page(to_html(RunResult(syncer="x", scenarios=(result,)))).text))
    assert "carol deposits 3.000000 USDC _part.yaml:8" in text


# -- the page


def page_of(result: ScenarioResult) -> tuple[Page, str]:
    page = Page(to_html(RunResult(syncer="x", scenarios=(result,))))
    return page, re.sub(r"\s+", " ", " ".join(page.text))


def test_replaced_blocks_say_so_in_words() -> None:
    _, text = page_of(reorganised())
    assert text.count("replaced later") == 5, "three blocks, and the two sync points that ended at them"
    assert "reorganisation: blocks 4 to 5 are replaced line 10" in text
    assert (
        "sync the treasury its node misbehaves: silent-cap, logs 2 before its read 3 the chain is reorganised" in text
    )


def test_an_orphaned_event_is_shown_where_it_stood_and_the_bad_block_where_it_was_read() -> None:
    result = reorganised()
    page, text = page_of(result)
    assert len(page.all("p", id=f"{SLUG}-event")) == len(page.all("li", id=f"{SLUG}-block")) == 1
    assert "4 2024-01-01 00:00:48 replaced later bob deposits 20 USDC" in text
    assert "4 2024-01-01 00:00:48 first bad block carol deposits 5 USDC" in text
    assert text.count("first bad block") == 2, "in the table of sides, and on the timeline"
    assert result.diagnosis is not None
    lacking = replace(result, diagnosis=replace(result.diagnosis, guilty=result.breaks[1]))
    page, text = page_of(lacking)
    assert "4 2024-01-01 00:00:48 first bad block carol deposits 5 USDC" in text
    assert len(page.all("p", id=f"{SLUG}-event")) == len(page.all("li", id=f"{SLUG}-block")) == 1


def test_a_block_is_that_of_the_branch_that_was_read() -> None:
    entries = reorganised().timeline[0].entries
    blocks = [
        TimelineBlock(number=4, mined_at=each.mined_at, entries=entries, branch=number, replaced=number < 2)
        for number, each in enumerate(reorganised().timeline[:3])
    ]
    result = replace(reorganised(), timeline=tuple(blocks))
    late = Break(kind=BreakKind.law, sentence="wrong", block=4, found_at=result.breaks[0].found_at)
    _, text = page_of(replace(result, breaks=(late,), diagnosis=None))
    assert "break 1" in text.split("Timeline")[1].split("4 2024")[2]


def test_statements_have_the_lines_that_make_them_add_up() -> None:
    _, text = page_of(reorganised())
    assert "Replaced blocks" in text
    assert "flow owned by a correction" in text
    assert "orphaned, not yet dropped" in text
    assert "Replaced blocks" not in page_of(scenario("a.yaml"))[1], "most scenarios have none"
    odd = reorganised()
    wrong = replace(odd.sync_points[2].statements[0], closing=1)
    odd = replace(odd, sync_points=(replace(odd.sync_points[2], statements=(wrong,)),))
    assert "Booked by nothing" in page_of(odd)[1]


def test_first_bad_block_lies_on_the_branch_that_was_read(run) -> None:  # type: ignore[no-untyped-def]
    steps = "  - mine: 2\n  - sync:\n  - reorg: {depth: 4, drop: [5], move: {4: 6}}\n  - sync:\n"
    result = run(steps, syncer="harness.syncers.broken:orphaned_flows_kept")
    assert result.diagnosis is not None
    assert (4, "orphaned block kept") == (result.diagnosis.block, result.diagnosis.cause), "not 7, where it was found"
    page, _ = page_of(result)
    bad = page.all("li", id="s-turning-yaml-block")
    assert "replaced" not in bad[0]["class"].split()
    assert len(page.all("p", id="s-turning-yaml-event")) == 1
