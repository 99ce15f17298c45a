"""The model that reports are drawn from, and its JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import Location
from harness.reconcile.diff import Break, BreakKind
from harness.report.results import (
    RunResult,
    Verdict,
    counts_text,
    exit_code,
    gap_text,
    gap_tokens,
    headline,
    largest_gap_text,
    portable,
    printable,
    to_json,
    usd,
)
from tests.report_sample import HOSTILE, hostile, redemption, sample_run, scenario

GOLDEN = Path(__file__).parent / "golden"

BREAK_KEYS = [
    *("kind", "cause", "field", "asset", "position_id", "expected", "actual", "gap_raw", "gap", "gap_usd"),
    *("block", "transaction", "log_index", "file", "line", "found_at_line", "sweep", "sentence"),
]


def test_json_is_what_it_was() -> None:
    assert (GOLDEN / "report.json").read_bytes() == to_json(sample_run()).encode()


def test_json_has_the_published_shape() -> None:
    document = json.loads(to_json(sample_run()))
    assert list(document) == ["schema", "summary", "syncer", "scenarios"]
    assert document["schema"] == 1
    assert document["summary"] == {"reconciled": 2, "differ": 2, "error": 2}
    for each in document["scenarios"]:
        assert {"id", "file", "title", "tags", "verdict", "error", "breaks", "sync_points", "sweeps", "checks"} <= set(
            each
        )
        for found in each["breaks"]:
            assert list(found) == BREAK_KEYS
        for point in each["sync_points"]:
            assert {"operation", "block", "branch", "cycle", "file", "line", "books", "statement", "refusal"} == set(
                point
            )
        for block in each["timeline"]:
            assert ["block", "mined_at", "branch", "replaced", "entries"] == list(block)


def test_exact_numbers_are_text_and_worth_is_a_number() -> None:
    document = json.loads(to_json(RunResult(syncer="reference", scenarios=(redemption(),))))
    found = document["scenarios"][0]["breaks"][1]
    assert found["gap_raw"] == "400000000"
    assert found["gap_usd"] == 400.0
    statement = document["scenarios"][0]["sync_points"][2]["statement"][0]
    assert statement["asset"] == "USDC"
    assert statement["opening"] == {"raw": "400000000", "tokens": "400.000000"}
    assert statement["difference"] == {"raw": "-399999998", "tokens": "-399.999998"}
    assert statement["items"] == [{"kind": "donated", "raw": "2", "tokens": "0.000002"}]
    assert statement["unexplained"] == {"raw": "-400000000", "tokens": "-400.000000"}


def test_times_are_utc_and_say_so() -> None:
    document = json.loads(to_json(RunResult(syncer="reference", scenarios=(scenario("a.yaml"),))))
    assert document["scenarios"][0]["sync_points"][1]["cycle"] == "2024-01-01T00:00:36Z"


def test_json_keeps_hostile_text_as_it_was_and_is_strict() -> None:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    text = to_json(RunResult(syncer=HOSTILE, scenarios=(hostile(),)))
    text.encode()
    document = json.loads(text, parse_constant=refuse)
    assert document["syncer"] == HOSTILE
    assert document["scenarios"][0]["breaks"][0]["cause"] == HOSTILE
    assert document["scenarios"][0]["breaks"][0]["gap_usd"] is None
    assert document["scenarios"][0]["sync_points"][0]["books"] == {HOSTILE: "inf", "nested": [{"a": [1, 2]}]}


def test_durations_are_in_no_json() -> None:
    quick, slow = (RunResult(syncer="x", scenarios=(scenario("a.yaml", seconds=seconds),)) for seconds in (0.1, 9.9))
    assert to_json(quick) == to_json(slow)


@pytest.mark.parametrize("folder", ["/home/somebody/scenarios", "C:\\work\\scenarios"])
def test_absolute_paths_are_taken_out(folder: str) -> None:
    file = f"{folder}/enzyme/one.yaml"
    place = Location(file=file, line=3, column=1)
    found = Break(kind=BreakKind.law, sentence=f"wrong, see {file}:3", location=place, found_at=place)
    included = replace(found, location=replace(place, file=f"{folder}/parts/other.yaml"), found_at=None)
    result = scenario(
        "enzyme/one", file=file, verdict=Verdict.differ, breaks=(found, included), error=f"{file}: no", problems=()
    )
    run = portable(RunResult(syncer="x", scenarios=(result,)))
    assert folder not in repr(run)
    assert run.scenarios[0].file == "enzyme/one.yaml"
    assert run.scenarios[0].breaks[0].sentence == "wrong, see enzyme/one.yaml:3"
    assert [each.location and each.location.file for each in run.scenarios[0].breaks] == [
        "enzyme/one.yaml",
        "other.yaml",
    ]
    assert folder not in to_json(RunResult(syncer="x", scenarios=(result,)))
    row = replace(result, id="enzyme/one.yaml::chunk-1")
    assert portable(RunResult(syncer="x", scenarios=(row,))).scenarios[0].file == "enzyme/one.yaml"


def test_headline_says_what_differs_first() -> None:
    assert headline(sample_run()) == "Books and chain differ in 2 of 6 scenarios, and 2 could not be judged."
    assert largest_gap_text(sample_run()) == (
        "The largest gap is +400.000000 USDC (+$400.00), in enzyme/redemption_pays_from_open_positions.yaml, line 13."
    )
    assert counts_text(sample_run()) == "2 differ, 2 errors, 2 reconciled; 1,285 checks"


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([], "No scenario was run, so nothing is proved."),
        ([Verdict.reconciled], "Books equal the chain in the one scenario."),
        ([Verdict.reconciled] * 3, "Books equal the chain in all 3 scenarios."),
        ([Verdict.error], "The one scenario could not be judged."),
        ([Verdict.error, Verdict.reconciled], "1 of 2 scenarios could not be judged."),
        ([Verdict.differ], "Books and chain differ in the one scenario."),
        ([Verdict.differ, Verdict.reconciled], "Books and chain differ in 1 of 2 scenarios."),
    ],
)
def test_headline_of_every_kind_of_run(verdicts: list[Verdict], said: str) -> None:
    results = tuple(scenario(f"{index}.yaml", verdict=verdict) for index, verdict in enumerate(verdicts))
    run = RunResult(syncer="x", scenarios=results)
    assert headline(run) == said
    assert largest_gap_text(run) is None


@pytest.mark.parametrize(
    ("raw", "gap", "asset", "said"),
    [
        (5, "0.05", "USDC", "+0.05 USDC"),
        (5, "+0.05", "USDC", "+0.05 USDC"),
        (-5, "-0.05", "USDC", "-0.05 USDC"),
        (0, "0.00", None, "0.00"),
        (5, "+0.05 USDC", "USDC", "+0.05 USDC"),
        (None, "3 blocks", None, "3 blocks"),
        (5, None, "USDC", None),
    ],
)
def test_gap_in_tokens_has_sign_and_symbol_once(raw: int | None, gap: str | None, asset: str | None, said: str) -> None:
    assert gap_tokens(Break(kind=BreakKind.law, sentence="", gap_raw=raw, gap=gap, asset=asset)) == said


def test_a_gap_of_no_number_is_no_gap() -> None:
    assert gap_text(Break(kind=BreakKind.law, sentence="", gap_usd=float("inf"))) is None
    assert gap_text(Break(kind=BreakKind.law, sentence="", gap_usd=-0.5)) == "-$0.50"


@pytest.mark.parametrize(
    ("worth", "said"),
    [(0.0, "$0.00"), (-0.0, "$0.00"), (1e15, "$1,000,000,000,000,000.00"), (0.005, "$0.01"), (-0.0049, "-$0.0049")],
)
def test_worth_in_dollars(worth: float, said: str) -> None:
    assert usd(worth) == said


def test_printable_leaves_no_character_that_acts() -> None:
    shown = printable("".join(map(chr, [*range(0x2100), *range(0xD700, 0xE100), *range(0xFE00, 0x10010)])))
    acting = [character for character in shown if not character.isprintable() and character not in "\n\t"]
    controls = {chr(code) for code in [*range(0x20), *range(0x7F, 0xA0)]} - {"\n", "\t"}
    assert not controls & set(acting)
    assert not set("\u202e\u2066\u2028\ufffe\uffff\ud800") & set(acting)
    assert printable("a\r\nb\rc") == "a\nb␍c"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ([], 4),
        ([{}], 0),
        ([{}, {"verdict": Verdict.differ}], 1),
        ([{"verdict": Verdict.differ}, {"verdict": Verdict.error}], 2),
        ([{"verdict": Verdict.error}, {"verdict": Verdict.error, "internal": True}], 3),
    ],
)
def test_exit_code_is_the_first_that_applies(changes: list[dict[str, object]], code: int) -> None:
    assert exit_code([scenario("a.yaml", **change) for change in changes]) == code
