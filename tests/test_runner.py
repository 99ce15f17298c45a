"""One file and one syncer to a result: whatever goes wrong is a result, and equal input gives equal results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import SyncerNotFound
from harness.ledger import foretelling
from harness.report.results import ScenarioResult, Verdict
from harness.runner import run_file, run_scenario
from harness.scenario.loader import loads
from harness.syncers.find import find_syncer

TEXT = """\
title: Two deposits
tags: [small]
tokens: {USDC: {decimals: 6, usd: 1}}
vault: {kind: enzyme}
steps:
  - deposit: {caller: alice, assets: 100}
  - sync:
  - mine: 1
  - block:
      - deposit: {caller: bob, assets: 50}
      - redeem: {caller: alice, shares: 5}
  - sync: {cycle: 2024-02-01 00:00}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def run(file: Path, **options: object) -> ScenarioResult:
    return run_file(str(file), id="two", file="two.yaml", **options)  # type: ignore[arg-type]


def test_a_good_file_reconciles(file: Path) -> None:
    result = run(file)
    assert (Verdict.reconciled, None, (), (), False) == (
        result.verdict,
        result.error,
        result.problems,
        result.breaks,
        result.internal,
    )
    assert ("two", "two.yaml", "Two deposits", ("small",), TEXT) == (
        result.id,
        result.file,
        result.title,
        result.tags,
        result.source,
    )
    assert result.checks > 20
    assert result.seconds > 0


def test_sync_points_and_timeline_tell_what_was_done(file: Path) -> None:
    result = run(file, sweeps=False)
    assert [("initialise", 2, 1), ("sync", 3, 7), ("sync", 5, 12)] == [
        (point.operation, point.block, point.line) for point in result.sync_points
    ]
    assert "last_updated_at" not in result.sync_points[1].books["sync"]["treasury"]
    assert [(0, []), (1, []), (2, [1]), (3, [6, 7]), (5, [10, 11, 12])] == [
        (block.number, [entry.line for entry in block.entries]) for block in result.timeline
    ]
    texts = [entry.text for block in result.timeline for entry in block.entries]
    assert "sync the treasury, cycle 2024-02-01 00:00:00" in texts
    assert "bob deposits 50.000000 USDC" in texts
    assert () == result.sweeps


def test_equal_input_gives_equal_results(file: Path) -> None:
    for syncer in ("reference", "harness.syncers.broken:redemption_sign"):
        first, second = (replace(run(file, syncer=syncer), seconds=0.0) for _ in range(2))
        assert first == second


def test_a_broken_syncer_differs(file: Path) -> None:
    result = run(file, syncer="harness.syncers.broken:redemption_sign")
    assert Verdict.differ is result.verdict
    first = result.breaks[0]
    assert ("different", "quantity", 11, 5, 10_000_000) == (
        first.kind,
        first.field,
        first.location and first.location.line,
        first.block,
        first.gap_raw,
    )


def test_no_finding_is_told_twice(file: Path) -> None:
    result = run(file, syncer="harness.syncers.broken:redemption_sign")
    assert len(set(result.breaks)) == len(result.breaks)
    sentences = [broken.sentence for broken in result.breaks]
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("title: [", ""),
        ("", ""),
        (TEXT.replace("deposit: {caller: alice", "depositt: {caller: alice"), "did you mean 'deposit'?"),
        (TEXT.replace("shares: 5}", "shares: 500}"), "failed on chain"),
        (TEXT.replace("2024-02-01", "2023-02-01"), "must be refused"),
    ],
)
def test_a_wrong_file_is_a_result_with_problems(file: Path, text: str, told: str) -> None:
    file.write_text(text, encoding="utf-8")
    result = run(file)
    assert Verdict.error is result.verdict
    assert not result.internal
    assert result.problems
    assert told in (result.error or "")
    assert "Traceback" not in (result.error or "")
    assert text == result.source
    assert all(problem.location.file == "two.yaml" for problem in result.problems)


def test_a_file_that_is_not_there_is_a_result(tmp_path: Path) -> None:
    result = run(tmp_path / "none.yaml")
    assert (Verdict.error, "") == (result.verdict, result.source)
    assert "two.yaml:1:1: there is no such file" in (result.error or "")


def test_a_syncer_that_is_not_there_is_for_the_caller_to_tell(file: Path) -> None:
    with pytest.raises(SyncerNotFound, match="did you mean 'reference'"):
        run(file, syncer="referense")


def test_what_the_harness_gets_wrong_is_no_fault_of_the_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(foretelling, "expected_books", fails)
    result = run_scenario(loads(TEXT, "two.yaml"), find_syncer(), id="two")
    assert (Verdict.error, True) == (result.verdict, result.internal)
    assert "ZeroDivisionError: ours" in (result.error or "")


def test_a_trade_that_fits_into_no_books_is_a_break_of_the_syncer() -> None:
    two_tokens = "USDC: {decimals: 6, usd: 1}, WETH: {usd: 1}"
    text = (
        TEXT.replace("USDC: {decimals: 6, usd: 1}", two_tokens)
        .replace("enzyme}", "enzyme, reserve: USDC}")
        .replace("  - mine: 1\n", "  - trade: {sell: 10 USDC, buy: 1 WETH}\n  - mine: 1\n")
    )

    class Forgetful(find_syncer()):  # type: ignore[misc]
        def sync_treasury(self, view: object, books: object, cycle: object) -> object:
            after = super().sync_treasury(view, books, cycle)
            after.portfolio.reserves.clear()
            return after

    result = run_scenario(loads(text, "two.yaml"), Forgetful, id="two")
    assert Verdict.differ is result.verdict
    unbooked = [broken for broken in result.breaks if "cannot be booked" in broken.sentence]
    assert [("portfolio", 8)] == [(one.field, one.location and one.location.line) for one in unbooked[:1]]


def test_files_of_one_world_do_not_touch_each_other(file: Path) -> None:
    alone = replace(run(file), seconds=0.0)
    other = file.with_name("other.yaml")
    other.write_text(TEXT.replace("assets: 100", "assets: 777"), encoding="utf-8")
    assert Verdict.reconciled is run(other).verdict
    run(file, syncer="harness.syncers.broken:block_read_twice")
    assert alone == replace(run(file), seconds=0.0)
