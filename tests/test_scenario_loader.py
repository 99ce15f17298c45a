"""Loading: what a file's text comes to, and files that are no files."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import Location, Problem, ScenarioError
from harness.scenario import language as lang
from harness.scenario import model
from harness.scenario.loader import load, loads
from tests.scenario_samples import EVERYTHING, REDEMPTION

HEADER = """\
title: Test
tokens:
  USDC: {decimals: 6}
  WETH: {}
  aUSDC: {kind: index_rebase, underlying: USDC}
vault: {kind: enzyme, symbol: EXAMPLE, reserve: USDC}
steps:
"""
DEPOSIT_AND_SYNC = "  - deposit: {caller: alice, assets: 500}\n  - sync:\n"


def _steps(steps: str, header: str = HEADER) -> tuple[model.Step, ...]:
    return loads(header + steps, "x.yaml").steps


def _problems(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        loads(text, "x.yaml")
    return [str(problem) for problem in caught.value.problems]


def _amount(text: str, header: str = HEADER) -> model.Amount:
    step = _steps(f"  - donate: {{caller: alice, assets: {text}}}\n  - sync:\n", header)[0]
    assert isinstance(step, model.Donate)
    return step.assets


# -- files


def test_path_and_name_are_what_places_show(tmp_path: Path) -> None:
    path = tmp_path / "first_deposit.yaml"
    path.write_text(REDEMPTION)
    assert str(path) == load(path).file
    assert load(str(path), name="a/b.yaml").steps[0].location.file == "a/b.yaml"


def test_title_defaults_to_the_files_name_in_words(tmp_path: Path) -> None:
    path = tmp_path / "first_deposit_is_at_par.yaml"
    path.write_text(HEADER.split("\n", 1)[1] + DEPOSIT_AND_SYNC)
    assert load(path).title == "First deposit is at par"


@pytest.mark.parametrize(
    ("kind", "message"),
    [("missing", "there is no such file"), ("folder", "this is a folder"), ("pipe", "this is no regular file")],
)
def test_what_is_no_file_is_a_problem_at_its_first_character(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ScenarioError, match=message) as caught:
        load(path, name="x.yaml")
    assert [str(problem.location) for problem in caught.value.problems] == ["x.yaml:1:1"]


def test_path_with_a_null_byte_is_a_problem() -> None:
    with pytest.raises(ScenarioError, match="cannot be read"):
        load("a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(REDEMPTION)
    path.chmod(0)
    with pytest.raises(ScenarioError, match="cannot be read: Permission denied"):
        load(path)


def test_bytes_that_are_no_utf8_are_a_problem_at_their_place(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes("title: x\r\ntags: [ä, ".encode() + b"\xff]")
    with pytest.raises(ScenarioError, match=r"x\.yaml:2:11: this is not UTF-8"):
        load(path, name="x.yaml")


@pytest.mark.parametrize("filler", [b"# \n", b"\xff", "ä".encode()])
def test_file_of_more_than_a_mebibyte_is_a_problem(tmp_path: Path, filler: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(filler * (lang.MAX_BYTES // len(filler) + 1))
    with pytest.raises(ScenarioError, match="the file is too big"):
        load(path)


def test_file_of_a_mebibyte_loads(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(REDEMPTION + "#" * (lang.MAX_BYTES - len(REDEMPTION)))
    assert load(path).title


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm() -> None:
    scenario = loads("\ufeff" + REDEMPTION.replace("\n", "\r\n"), "x.yaml")
    assert (scenario.steps[0].location.line, scenario.steps[0].location.column) == (9, 5)


def test_columns_count_characters() -> None:
    problems = _problems(HEADER + DEPOSIT_AND_SYNC + "  - {note: 'äöü😀', depositt: {}}\n")
    assert problems[0].startswith("x.yaml:10:20: unknown step 'depositt'")


# -- hostile files


def test_lone_surrogate_is_a_control_character() -> None:
    assert _problems("title: \ud800")[0] == "x.yaml:1:8: the control character U+D800 is not allowed"


def test_very_deep_nesting_ends_quickly() -> None:
    assert "nest" in _problems("title: " + "[" * 500_000)[0]


def test_very_many_problems_are_cut() -> None:
    problems = _problems(HEADER + "  - depositt:\n" * 5_000)
    assert len(problems) == 501
    assert any("the rest is not shown" in problem for problem in problems)


def test_very_long_words_are_cut_and_not_compared() -> None:
    (problem,) = _problems(
        HEADER + DEPOSIT_AND_SYNC + f"  - {'x' * 100_000}: {{}}\n".replace("  - ", "  - ? ").replace(": {", "\n    : {")
    )
    assert len(problem) < 500


@pytest.mark.parametrize("digits", [201, 5_000, 500_000])
def test_very_long_numbers_are_refused(digits: int) -> None:
    number = "9" * digits
    for step in (
        f"deposit: {{caller: alice, assets: {number}}}",
        f"sync: {{end_block: {number}}}",
        f"sync: {{end_block: head-{number}}}",
        f"mine: {number}",
        f"wait: {number} s",
        f"redeem: {{caller: alice, shares: {number}%}}",
        f"price: {{token: WETH, usd: {number}}}",
        f"rebase: {{token: aUSDC, factor: 0.{number}}}",
    ):
        assert _problems(HEADER + DEPOSIT_AND_SYNC + f"  - {step}\n")
    for field in (f"quantity: {number} USDC", f"quantity: {number}", f"usd_value: {number}", f"log_index: {number}"):
        assert _problems(HEADER + f"  - sync:\n    expect:\n      updates: [{{{field}}}]\n")


# -- header


def test_defaults_of_the_header() -> None:
    scenario = loads(HEADER + DEPOSIT_AND_SYNC, "x.yaml")
    assert datetime(2024, 1, 1) == scenario.start
    assert timedelta(seconds=12) == scenario.block_time
    assert scenario.chain_id == 1337
    assert Decimal("0.05") == scenario.interest_bound
    assert scenario.vault.name == "Vault"
    assert scenario.vault.tracked is None
    assert scenario.actors == {"alice": None}
    assert tuple(spec.decimals for spec in scenario.tokens.values()) == (6, 18, 6)
    assert [spec.name for spec in scenario.tokens.values()] == ["USDC", "WETH", "aUSDC"]
    assert {10**8} == {spec.price_raw for spec in scenario.tokens.values()}


def test_index_token_takes_price_and_decimals_from_its_underlying_wherever_that_stands() -> None:
    text = "tokens:\n  aX: {kind: index_rebase, underlying: X}\n  X: {decimals: 3, usd: 7.5}\n"
    text += "vault: {kind: enzyme, reserve: X}\nsteps: [sync: ]\n"
    spec = loads(text, "x.yaml").tokens["aX"]
    assert (spec.decimals, spec.price_raw) == (3, 750_000_000)


def test_names_up_to_256_and_symbols_up_to_64_bytes() -> None:
    header = HEADER.replace("symbol: EXAMPLE", f"symbol: {'É' * 32}, name: {'é' * 128}")
    vault = loads(header + DEPOSIT_AND_SYNC, "x.yaml").vault
    assert (len(vault.symbol.encode()), len(vault.name.encode())) == (64, 256)
    for wrong in (f"symbol: {'É' * 33}", f"symbol: EXAMPLE, name: {'é' * 129}"):
        assert "is too long" in _problems(HEADER.replace("symbol: EXAMPLE", wrong) + DEPOSIT_AND_SYNC)[0]


def test_words_that_yaml_would_change_stay_as_written() -> None:
    header = HEADER.replace("symbol: EXAMPLE", "symbol: no, name: 1e3")
    vault = loads(header + DEPOSIT_AND_SYNC, "x.yaml").vault
    assert (vault.symbol, vault.name) == ("no", "1e3")


def test_actors_are_all_who_are_named_with_what_the_header_gives() -> None:
    scenario = loads(EVERYTHING, "x.yaml")
    assert scenario.actors == {"alice": {"USDC": 500_000_000, "WETH": 5}, "bob": None, "carol": {}, "dave": None}
    assert list(scenario.actors) == sorted(scenario.actors)


def test_approvals_are_owners_with_other_callers() -> None:
    header = HEADER.replace("enzyme", "erc4626")
    steps = (
        "  - redeem: {caller: bob, owner: alice, shares: 5}\n  - withdraw: {caller: carol, owner: alice, assets: 5}\n"
    )
    scenario = loads(header + DEPOSIT_AND_SYNC + steps + "  - redeem: {caller: bob, shares: 1}\n", "x.yaml")
    assert scenario.approvals == (("alice", "bob"), ("alice", "carol"))


def test_wrong_decimals_are_one_problem_not_one_for_each_amount() -> None:
    text = (
        HEADER.replace("decimals: 6", "decimals: six") + "  - deposit: {caller: alice, assets: 0.0000001}\n  - sync:\n"
    )
    assert len(_problems(text)) == 1


# -- amounts


@pytest.mark.parametrize(
    ("text", "token", "raw"),
    [
        ("1_000.5 USDC", "USDC", 1_000_500_000),
        ("1 raw USDC", "USDC", 1),
        ("0 USDC", "USDC", 0),
        ("0.000000000000000001 WETH", "WETH", 1),
        ("'+5 USDC'", "USDC", 5_000_000),
        ("5  raw   USDC", "USDC", 5),
        ("5.50 USDC", "USDC", 5_500_000),
        ("9007199254740993 USDC", "USDC", 9_007_199_254_740_993_000_000),
    ],
)
def test_exact_amounts(text: str, token: str, raw: int) -> None:
    amount = _amount(text)
    assert (token, raw, None) == (amount.token, amount.raw, amount.percent)
    assert not amount.everything


@pytest.mark.parametrize(
    ("text", "percent"), [("40% USDC", Fraction(2, 5)), ("12.5% WETH", Fraction(1, 8)), ("100 % WETH", 1)]
)
def test_percentages_are_fractions(text: str, percent: Fraction) -> None:
    amount = _amount(text)
    assert (None, percent, False) == (amount.raw, amount.percent, amount.everything)


def test_all_is_everything() -> None:
    assert _amount("all WETH").everything


def test_token_may_be_left_out_where_there_is_just_one() -> None:
    header = "tokens: {DAI: {decimals: 2}}\nvault: {kind: erc4626}\nsteps:\n"
    assert (_amount("5.5", header).token, _amount("5.5", header).raw) == ("DAI", 550)
    assert (_amount("7 raw", header).token, _amount("7 raw", header).raw) == ("DAI", 7)


@pytest.mark.parametrize("text", ["300", "300 shares", "300 EXAMPLE", "300_000000000000000000 raw", "300.0"])
def test_shares_may_be_called_by_any_of_their_names(text: str) -> None:
    step = _steps(DEPOSIT_AND_SYNC + f"  - redeem: {{caller: alice, shares: {text}}}\n")[2]
    assert isinstance(step, model.Redeem)
    assert (step.shares.token, step.shares.raw) == (model.SHARES, 300 * 10**18)


def test_shares_of_an_erc4626_vault_have_its_assets_decimals() -> None:
    step = _steps("  - mint: {caller: alice, shares: 1.5}\n  - sync:\n", HEADER.replace("enzyme", "erc4626"))[0]
    assert isinstance(step, model.Mint)
    assert step.shares.raw == 1_500_000


def test_unsupply_needs_no_token_while_there_is_one_index_token() -> None:
    steps = DEPOSIT_AND_SYNC + "  - supply: {assets: 5, into: aUSDC}\n  - unsupply: {assets: all}\n"
    step = _steps(steps)[3]
    assert isinstance(step, model.Unsupply)
    assert step.assets.token == "aUSDC"
    header = HEADER.replace("vault:", "  bUSDC: {kind: index_rebase, underlying: USDC}\nvault:")
    assert "'all' names no token" in _problems(header + steps)[0]
    assert "'all USDC' is in USDC" in _problems(HEADER + steps.replace("all}", "all USDC}"))[0]


# -- times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12 s", 12),
        ("1 second", 1),
        ("5 minutes", 300),
        ("1.5 hours", 5_400),
        ("6h", 21_600),
        ("30 days", 2_592_000),
        ("2 weeks", 1_209_600),
    ],
)
def test_lengths(text: str, seconds: int) -> None:
    step = _steps(f"  - wait: {text}\n  - sync:\n")[0]
    assert isinstance(step, model.Wait)
    assert timedelta(seconds=seconds) == step.duration


@pytest.mark.parametrize(
    "text",
    ["2024-02-29 06:07", "2024-02-29T06:07", "2024-02-29 06:07:00", "2024-02-29T06:07:00Z", "'2024-02-29 06:07'"],
)
def test_times(text: str) -> None:
    step = _steps(f"  - sync: {{cycle: {text}}}\n")[0]
    assert isinstance(step, model.SyncTreasury)
    assert datetime(2024, 2, 29, 6, 7) == step.cycle


# -- steps


def test_end_blocks() -> None:
    steps = _steps(
        DEPOSIT_AND_SYNC + "  - sync: {end_block: 3}\n  - sync: {end_block: head-2}\n  - sync: {end_block: head}\n"
    )
    ends = [step.end_block for step in steps if isinstance(step, model.SyncTreasury)]
    assert [None, model.EndBlock(number=3), model.EndBlock(below_head=2), model.EndBlock(below_head=0)] == ends


def test_sync_with_or_without_a_body_is_the_same() -> None:
    for body in ("", " {}", " null", " ~"):
        assert isinstance(_steps(f"  - sync:{body}\n")[0], model.SyncTreasury)


def test_refused_true_is_any_reason_and_text_is_text() -> None:
    steps = _steps(
        DEPOSIT_AND_SYNC + "  - sync:\n    refused: true\n  - sync:\n    refused: 'true'\n  - sync:\n    refused: 5\n"
    )
    assert [step.refused for step in steps[2:]] == ["", "true", "5"]


def test_verb_may_stand_anywhere_in_its_step() -> None:
    step = _steps("  - {note: first, refused: true, sync: }\n  - sync:\n")[0]
    assert (step.note, step.refused, step.location.column) == ("first", "", 34)


def test_expectation_of_nothing_differs_from_none() -> None:
    steps = _steps(
        "  - sync:\n    expect: {updates: [], positions: {}}\n  - sync:\n    expect: {balances: {USDC: 0}}\n"
    )
    first, second = steps[0].expect, steps[1].expect
    assert first is not None
    assert second is not None
    assert (first.updates, first.positions) == ((), {})
    assert (second.updates, second.positions) == (None, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quantity: -200 USDC", model.Quantity(raw=-200_000_000, token="USDC")),
        ("quantity: -1 raw USDC", model.Quantity(raw=-1, token="USDC")),
        ("quantity: -200.5", Fraction(-401, 2)),
        ("usd_value: -0.1", Fraction(-1, 10)),
        ("asset: WETH", "WETH"),
        ("owner: alice", model.Actor(name="alice")),
        ("owner_address: vault", model.Actor(name="vault")),
        ("owner: null", None),
        ("position_id: ~", None),
        ("log_index: 3", 3),
        ("cause: deposit_and_redemption", "deposit_and_redemption"),
        ("block_mined_at: 2024-01-01 00:00:36", datetime(2024, 1, 1, 0, 0, 36)),
    ],
)
def test_fields_of_an_update(field: str, value: object) -> None:
    expect = _steps(DEPOSIT_AND_SYNC + f"  - sync:\n    expect: {{updates: [{{{field}}}]}}\n")[2].expect
    assert expect is not None
    assert expect.updates is not None
    (named,) = expect.updates[0].fields
    assert value == named.value
    name = field.split(":", maxsplit=1)[0]
    assert named.name == {"owner": "owner_address"}.get(name, name)


def test_raw_quantity_takes_the_records_own_asset() -> None:
    expect = _steps("  - sync:\n    expect: {updates: [{quantity: -1 raw, asset: WETH}]}\n")[0].expect
    assert expect is not None
    assert expect.updates is not None
    assert model.Quantity(raw=-1, token="WETH") == expect.updates[0].fields[0].value


# -- what must not be reported


@pytest.mark.parametrize(
    "steps",
    [
        # a refused flow is no flow, nor is one of nothing
        DEPOSIT_AND_SYNC
        + "  - deposit: {caller: alice, assets: 5}\n    refused: true\n  - trade: {sell: 5 USDC, buy: 1 WETH}\n",
        DEPOSIT_AND_SYNC + "  - deposit: {caller: alice, assets: 0}\n  - trade: {sell: 5 USDC, buy: 1 WETH}\n",
        # the trade comes first in its block
        DEPOSIT_AND_SYNC + "  - block: [{trade: {sell: 5 USDC, buy: 1 WETH}}, {deposit: {caller: alice, assets: 5}}]\n",
        # a short sync does not undo an earlier one
        DEPOSIT_AND_SYNC + "  - sync: {end_block: 2}\n  - trade: {sell: 5 USDC, buy: 1 WETH}\n",
        # interest synced between rebase and supply
        DEPOSIT_AND_SYNC + "  - supply: {assets: 5, into: aUSDC}\n  - rebase: {token: aUSDC, factor: 1.01}\n"
        "  - sync:\n  - sync_interest:\n  - supply: {assets: 5, into: aUSDC}\n",
        # nothing is held any more, for all that the file tells
        DEPOSIT_AND_SYNC + "  - supply: {assets: 5, into: aUSDC}\n  - close:\n"
        "  - rebase: {token: aUSDC, factor: 1.01}\n  - supply: {assets: 5, into: aUSDC}\n",
        # a second position of the same asset
        DEPOSIT_AND_SYNC
        + "  - trade: {sell: 5 USDC, buy: 1 WETH}\n  - trade: {sell: 5 USDC, buy: 1 WETH, position: new}\n"
        "  - trade: {sell: 1 WETH, buy: 1 USDC, position: 2}\n",
        # a flow of the second fund is none of this vault's
        DEPOSIT_AND_SYNC + "  - deposit: {caller: bob, assets: 5, vault: second}\n"
        "  - redeem: {caller: bob, shares: 5, vault: second}\n  - trade: {sell: 5 USDC, buy: 1 WETH}\n",
        # a reorganisation took the unsynced flow away
        DEPOSIT_AND_SYNC + "  - deposit: {caller: bob, assets: 5}\n  - reorg: {depth: 1, drop: [4]}\n"
        "  - trade: {sell: 5 USDC, buy: 1 WETH}\n",
        # and the trade that a sync may not end before
        DEPOSIT_AND_SYNC + "  - trade: {sell: 5 USDC, buy: 1 WETH}\n  - reorg: {depth: 1, drop: [4]}\n"
        "  - sync: {end_block: 3}\n",
        # a trade that is mined again is nobody's new decision
        DEPOSIT_AND_SYNC + "  - trade: {sell: 5 USDC, buy: 1 WETH}\n  - reorg: {depth: 2, keep: [3, 4]}\n  - sync:\n"
        "  - trade: {sell: 1 WETH, buy: 1 USDC, position: 2}\n",
        # a hook is for one operation
        DEPOSIT_AND_SYNC + "  - node: {after: 1, steps: [deposit: {caller: bob, assets: 5}]}\n  - sync:\n  - sync:\n"
        "  - trade: {sell: 5 USDC, buy: 1 WETH}\n",
    ],
)
def test_what_may_be_right_is_left_to_the_run(steps: str) -> None:
    assert _steps(steps)


def test_one_problem_does_not_hide_another_nor_bring_consequences() -> None:
    problems = _problems(HEADER + "  - depositt: {}\n  - trade: {sell: 5 USDC, buy: 1 WETH}\n  - sync: {cycle: soon}\n")
    assert [":".join(problem.split(":")[:3]) for problem in problems] == ["x.yaml:8:5", "x.yaml:10:19"]


def test_problems_are_sorted_by_place() -> None:
    problems = _problems("steps:\n  - depositt: {}\nvault: {kind: enzyme}\ntokens: {USDC: {decimals: 99}}\n")
    assert [int(problem.split(":")[1]) for problem in problems] == [2, 4]


def test_loading_needs_no_chain() -> None:
    code = (
        "import sys, harness.scenario.loader, harness.scenario.schema, harness.scenario.plan;"
        "print([name for name in ('web3', 'eth', 'eth_tester', 'hypothesis') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
    )
    assert found.stdout.strip() == "[]"


def test_waiting_until_a_second_after_the_last_block_is_possible() -> None:
    assert _steps("  - deposit: {caller: alice, assets: 5}\n  - wait: {until: 2024-01-01 00:00:37}\n  - sync:\n")


def test_addresses_in_expectations_are_text() -> None:
    address = "0x" + "aB" * 20
    expect = _steps(
        f"  - sync:\n    expect: {{updates: [{{owner: '{address}'}}], deployment: {{address: '{address}'}}}}\n"
    )[0].expect
    assert expect is not None
    assert expect.updates is not None
    assert expect.deployment is not None
    assert address == expect.updates[0].fields[0].value == expect.deployment.fields[0].value


def test_hashes_in_expectations_are_lower_case() -> None:
    expect = _steps(f"  - sync:\n    expect: {{deployment: {{tx_hash: '0x{'aB' * 32}'}}}}\n")[0].expect
    assert expect is not None
    assert expect.deployment is not None
    assert expect.deployment.fields[0].value == "0x" + "ab" * 32


def test_part_of_a_position_leaves_something_that_a_rebase_moves() -> None:
    steps = "  - supply: {assets: 5, into: aUSDC}\n  - unsupply: {assets: 40%}\n  - rebase: {token: aUSDC, factor: 2}\n"
    problems = _problems(HEADER + DEPOSIT_AND_SYNC + steps + "  - close:\n")
    assert problems[0].startswith("x.yaml:13:5: a close after the rebase of aUSDC in line 12")


def test_chain_may_be_judged_by_its_share_price_alone() -> None:
    expect = _steps("  - sync:\n    expect: {chain: {share_price: 1}}\n")[0].expect
    assert expect is not None
    assert expect.chain is not None
    assert (expect.chain.share_price, expect.chain.share_count, expect.chain.balances) == (1, None, ())


FRAGMENTS = (
    "{}", "[]", "~", "- ", ": ", "\n", "  ", "&a ", "*a", "!!int ", "1e9", "-1", "40%", "all", "head-1", '"', "'", "#",
    "5 raw", "new", "true", "0x12", "updates", "quantity", "USDC", "vault", "[a, b]", "{a: b}", "|", "?", "\t",
    "9" * 90,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from(FRAGMENTS), st.integers(0, 8)), min_size=1, max_size=4))
def test_whatever_a_file_says_it_loads_or_has_problems_at_places(edits: list[tuple[float, str, int]]) -> None:
    text = EVERYTHING
    for where, fragment, cut in edits:
        index = int(where * len(text))
        text = text[:index] + fragment + text[index + cut :]
    problems: tuple[Problem, ...] = ()
    try:
        loads(text, "x.yaml")
    except ScenarioError as error:
        problems = error.problems or (Problem(location=Location(file="", line=0, column=0), message="none"),)
    assert all(1 <= problem.location.line <= text.count("\n") + 2 for problem in problems)
