"""A run made by hand, for the tests of the reports: several breaks, errors, and whatever is unpleasant to draw.

``python -m tests.report_sample`` writes the golden files anew; their diff is what to review.
"""

from __future__ import annotations

import pathlib
from dataclasses import replace
from datetime import date, datetime, timedelta
from fractions import Fraction

from harness.errors import Location, Problem
from harness.reconcile.diff import Break, BreakKind, ItemKind, ReconcilingItem, Statement
from harness.reconcile.rules import ToleranceUse
from harness.report.html import to_html
from harness.report.junit import to_junit
from harness.report.results import (
    DiagnosisResult,
    NodeOutcome,
    RunResult,
    ScenarioResult,
    SidesAt,
    SyncPointResult,
    TimelineBlock,
    TimelineEntry,
    Verdict,
    to_json,
)
from harness.report.terminal import render_summary
from harness.scenario.language import NODE_PROFILES
from harness.scenario.model import Known, KnownBreak, LawOff, Tolerance
from harness.units import Token

USDC = Token(symbol="USDC", decimals=6)
WETH = Token(symbol="WETH", decimals=18)
ATTO = Token(symbol="ATTO", decimals=36)
START = datetime(2024, 1, 1)
HOSTILE = "<script>alert(1)</script> ]]> \x1b[31mred\x00 \u202eevil\u2066 [bold]x[/bold] &amp; \"' \ud800 \uffff"
HEBREW = "קרן לדוגמה"
LONG = "Ünïcödé fund of funds " * 11
"""More than 256 bytes, as a real vault's name may be."""


def _hash(seed: int) -> str:
    return f"0x{seed * 0x9E3779B97F4A7C15F39CC0605CEDC8341082276BF3A27251F86C6A11D0C18E95 % 2**256:064x}"


def _at(block: int) -> datetime:
    return START + timedelta(seconds=12 * block)


def _statement(token: Token = USDC, price: int = 1, **amounts: int) -> Statement:
    lines = {"opening": 0, "deposits": 0, "redemptions": 0, "interest": 0, "trades": 0, "corrections": 0} | amounts
    closing = sum(lines[name] for name in lines if name != "on_chain")
    lines.setdefault("on_chain", closing)
    return Statement(token=token, closing=closing, price=Fraction(price), items=(), **lines)


def _point(block: int, line: int | None, *statements: Statement, operation: str = "sync") -> SyncPointResult:
    return SyncPointResult(
        operation=operation,
        block=block,
        cycle=_at(block) if operation == "sync" else None,
        line=line,
        books={"sync": {"treasury": {"last_block_scanned": block}}},
        statements=statements,
    )


def _block(number: int, *entries: tuple[int, str], syncs: tuple[tuple[int, str], ...] = ()) -> TimelineBlock:
    made = [TimelineEntry(line=line, text=text, transaction=_hash(100 * number + line)) for line, text in entries]
    made += [TimelineEntry(line=line, text=text, is_sync=True) for line, text in syncs]
    return TimelineBlock(number=number, mined_at=_at(number), entries=tuple(made))


def scenario(id: str, **changes: object) -> ScenarioResult:
    """A reconciled scenario of one deposit, but for the changes."""
    result = ScenarioResult(
        id=id,
        file=f"scenarios/{id}",
        title="The first deposit is at par",
        tags=("enzyme", "deposit"),
        verdict=Verdict.reconciled,
        error=None,
        problems=(),
        internal=False,
        breaks=(),
        sync_points=(
            _point(2, None, operation="initialise"),
            _point(3, 7, _statement(deposits=500_000_000)),
        ),
        timeline=(
            _block(1),
            _block(2),
            _block(3, (6, "alice deposits 500 USDC"), syncs=((7, "sync to block 3"),)),
        ),
        source=(
            "title: The first deposit is at par\n"
            "tags: [enzyme, deposit]\n"
            "tokens: {USDC: {decimals: 6, usd: 1}}\n"
            "vault: {kind: enzyme, name: Example Fund, symbol: EXAMPLE, reserve: USDC}\n"
            "steps:\n"
            "  - deposit: {caller: alice, assets: 500 USDC}\n"
            "  - sync:\n"
        ),
        sweeps=("chunk-1", "twice", "save-load"),
        checks=31,
        seconds=0.21,
    )
    return replace(result, **changes)  # type: ignore[arg-type]


REDEMPTION_SOURCE = """\
# yaml-language-server: $schema=../schema/scenario.json
title: In-kind redemption pays from the reserve and from an open position
tags: [enzyme, redemption, case-43]
tokens:
  USDC: {decimals: 6, usd: 1}
  WETH: {decimals: 18, usd: 1600}
vault: {kind: enzyme, name: Example Fund, symbol: EXAMPLE, reserve: USDC}
steps:
  - deposit: {caller: alice, assets: 500 USDC}
  - sync:
  - trade: {sell: 100 USDC, buy: 0.0625 WETH}
  - mine: 3
  - redeem: {caller: alice, shares: 50%}
  - donate: {caller: bob, assets: 2 raw USDC}
  - sync: {cycle: 2024-01-02 00:00}
    expect:
      updates:
        - {cause: redemption, position_type: reserve, quantity: -200 USDC, usd_value: -200, owner: alice}
        - {cause: redemption, position_type: open_position, quantity: -0.03125 WETH, usd_value: -50}
      balances: {USDC: 200, WETH: 0.03125}
  - redeem: {caller: alice, shares: 300}
    refused: insufficient
"""


def redemption() -> ScenarioResult:
    """An in-kind redemption of which the syncer misses one leg and turns the other's sign."""
    name = "enzyme/redemption_pays_from_open_positions.yaml"
    file = f"scenarios/{name}"
    cause, found_at = (Location(file=file, line=line, column=5) for line in (13, 15))
    missing = Break(
        kind=BreakKind.missing,
        cause="missed",
        sentence="The books have no redemption of 0.031250000000000000 WETH by alice, which block 8 paid out "
        "of position 1: they hold 50.00 USD too much.",
        field="quantity",
        asset="WETH",
        position_id=1,
        expected="-0.031250000000000000 WETH",
        gap_raw=31250000000000000,
        gap="0.031250000000000000",
        gap_usd=50.0,
        block=8,
        transaction=_hash(813),
        log_index=4,
        location=cause,
        found_at=found_at,
    )
    sign = Break(
        kind=BreakKind.different,
        cause="sign",
        sentence="The books add 200.000000 USDC to the reserve for alice's redemption in block 8; "
        "the chain paid them out.",
        field="quantity",
        asset="USDC",
        expected="-200.000000 USDC",
        actual="200.000000 USDC",
        gap_raw=400_000_000,
        gap="400.000000",
        gap_usd=400.0,
        block=8,
        transaction=_hash(813),
        log_index=4,
        location=cause,
        found_at=found_at,
    )
    swept = Break(
        kind=BreakKind.different,
        cause="chunk-dependent",
        sentence="Read one block at a time, the same chain gives other books: last_block_scanned is 7, not 9.",
        field="sync.treasury.last_block_scanned",
        expected="9",
        actual="7",
        location=found_at,
        found_at=found_at,
        sweep="chunk-1",
    )
    reserve = replace(
        _statement(opening=400_000_000, redemptions=200_000_000, on_chain=200_000_002),
        items=(ReconcilingItem(kind=ItemKind.donated, raw=2),),
    )
    held = 62_500_000_000_000_000
    position = _statement(WETH, 1600, opening=held, on_chain=held // 2)
    diagnosis = DiagnosisResult(
        block=8,
        guilty=sign,
        cause="sign",
        evidence="actual = −expected: 200.",
        sides=(
            SidesAt(token=USDC, block=7, books=400_000_000, chain=400_000_000),
            SidesAt(token=WETH, block=7, books=held, chain=held),
            SidesAt(token=USDC, block=8, books=600_000_000, chain=200_000_000),
            SidesAt(token=WETH, block=8, books=held, chain=held // 2),
        ),
        syncs=4,
        command=f"harness run {file} --syncer acme_fund.sync:Syncer",
    )
    return scenario(
        name,
        diagnosis=diagnosis,
        title="In-kind redemption pays from the reserve and from an open position",
        tags=("enzyme", "redemption", "case-43"),
        verdict=Verdict.differ,
        breaks=(missing, sign, swept),
        sync_points=(
            _point(2, None, operation="initialise"),
            _point(3, 10, _statement(deposits=500_000_000), _statement(WETH, 1600)),
            _point(9, 15, reserve, position),
        ),
        timeline=(
            _block(1),
            _block(2),
            _block(3, (9, "alice deposits 500 USDC"), syncs=((10, "sync to block 3"),)),
            _block(4, (11, "the manager sells 100 USDC for 0.0625 WETH")),
            _block(5),
            _block(6),
            _block(7),
            _block(8, (13, "alice redeems 50% of her shares")),
            _block(9, (14, "bob donates 2 raw USDC"), syncs=((15, "sync to block 9"),)),
            TimelineBlock(
                number=10,
                mined_at=_at(10),
                entries=(
                    TimelineEntry(
                        line=21,
                        text="alice redeems 300 shares",
                        transaction=_hash(10),
                        failed="ERC20: insufficient balance",
                    ),
                ),
            ),
        ),
        source=REDEMPTION_SOURCE,
        checks=47,
        seconds=0.34,
    )


def interest() -> ScenarioResult:
    """Large amounts, every line of the statement, several reasons for a difference."""
    full = replace(
        _statement(
            opening=1_234_567_890_123_456,
            deposits=98_765_432_100,
            redemptions=-4_298_875_509,
            interest=1_733,
            trades=-500_000_000,
            corrections=-1,
            on_chain=1_234_662_356_682_000,
        ),
        items=(
            ReconcilingItem(kind=ItemKind.rounded, raw=-2),
            ReconcilingItem(kind=ItemKind.taken, raw=-1_500_000),
        ),
    )
    explained = full.difference - sum(item.raw for item in full.items)
    items = (*full.items, ReconcilingItem(kind=ItemKind.interest_not_synced, raw=explained))
    file = "scenarios/enzyme/interest_over_a_year.yaml"

    def use(line: int, field: str | None, reason: str, *, largest: int, differences: int) -> ToleranceUse:
        place = Location(file=file, line=line, column=5)
        tolerance = Tolerance(location=place, asset="USDC", raw=2_000, field=field, reason=reason)
        return ToleranceUse(
            tolerance=tolerance, token=USDC, price=Fraction(1), differences=differences, largest_raw=largest
        )

    return scenario(
        "enzyme/interest_over_a_year.yaml",
        laws_off=(
            LawOff(
                location=Location(file=file, line=2, column=5),
                law="schedules-agree",
                reason="interest is read once a day, whatever the schedule",
            ),
        ),
        tolerances=(
            use(3, "quantity", "a gain is split over three positions", largest=-1_500, differences=3),
            use(4, None, "the feed has 8 decimals", largest=0, differences=0),
        ),
        known=Known(
            location=Location(file=file, line=5, column=5),
            reason="the owner of a redemption is mended in the next release",
            until=date(2024, 3, 31),
            breaks=(KnownBreak(location=Location(file=file, line=6, column=5), kind="different"),),
        ),
        accepted=(
            Break(
                kind=BreakKind.different,
                sentence="The redemption in block 3 belongs to alice by the chain, and to bob by the books.",
                field="owner_address",
                asset="USDC",
                expected="alice",
                actual="bob",
                block=3,
                transaction=_hash(306),
                log_index=2,
                location=Location(file=file, line=6, column=5),
                cause="wrong owner",
            ),
        ),
        title="Interest over a year of rebases in both directions",
        tags=("enzyme", "interest", "rebase", "case-77"),
        sync_points=(
            _point(3, 7, replace(full, items=items)),
            replace(_point(3, 7), refusal="cycle 2023-12-31 is before the last one", operation="sync_interest"),
        ),
        checks=1204,
        seconds=1.5,
    )


def reorganised() -> ScenarioResult:
    """A chain that was reorganised twice, the second time while a sync read it: what stood in block 4 first is kept."""
    name = "reorg/orphaned_deposit.yaml"
    file = f"scenarios/{name}"
    cause, found_at = (Location(file=file, line=line, column=5) for line in (8, 11))
    again = Break(
        kind=BreakKind.unexpected,
        cause="orphaned block kept",
        sentence="The deposit of 20.000000 USDC of bob at block 4 is in the books with nothing on chain behind it.",
        asset="USDC",
        expected="nothing",
        actual="20.000000 USDC",
        gap_raw=20_000_000,
        gap="20.000000",
        gap_usd=20.0,
        block=4,
        transaction=_hash(408),
        log_index=2,
        location=cause,
        found_at=found_at,
    )
    lacking = replace(
        again,
        kind=BreakKind.missing,
        sentence="The deposit of 5.000000 USDC of carol at block 4 is not in the books.",
        expected="5.000000 USDC",
        actual=None,
        gap_raw=-5_000_000,
        gap="-5.000000",
        gap_usd=-5.0,
        transaction=_hash(410),
        location=replace(cause, line=10),
    )
    kept = replace(
        _statement(opening=520_000_000, deposits=7_000_000, orphaned=-15_000_000, on_chain=505_000_000),
        items=(ReconcilingItem(kind=ItemKind.owned, raw=-1), ReconcilingItem(kind=ItemKind.orphaned, raw=-20_000_000)),
    )
    turn = TimelineEntry(line=10, text="reorganisation: blocks 4 to 5 are replaced", is_reorg=True)
    first, _, last = _block(3), _block(4), _block(5, (9, "alice redeems 3 shares"), syncs=((9, "sync the treasury"),))
    crashed = replace(_block(5, syncs=((11, "sync the treasury"),)), branch=1)
    notes = ("its node misbehaves: silent-cap, logs 2", "before its read 3 the chain is reorganised")
    return scenario(
        name,
        title="A deposit whose block was replaced is nobody's",
        tags=("reorg",),
        verdict=Verdict.differ,
        breaks=(again, lacking),
        diagnosis=DiagnosisResult(
            block=4,
            guilty=again,
            cause="orphaned block kept",
            evidence="It was booked in block 4; blocks above 3 were replaced, and it still is.",
            sides=(SidesAt(token=USDC, block=4, books=520_000_000, chain=505_000_000),),
            syncs=2,
            command=f"harness run '{file}::second row' --syncer acme_fund.sync:Syncer",
        ),
        sync_points=(
            _point(2, None, operation="initialise"),
            _point(5, 9, _statement(deposits=520_000_000)),
            replace(_point(5, 11, kept), branch=1),
        ),
        timeline=(
            first,
            replace(_block(4, (8, "bob deposits 20 USDC")), replaced=True),
            replace(last, entries=(*last.entries, turn), replaced=True),
            replace(_block(4, (10, "carol deposits 5 USDC")), branch=1),
            replace(crashed, entries=(replace(crashed.entries[0], notes=notes),), replaced=True),
            replace(_block(5, (12, "alice redeems 3 shares")), branch=2),
        ),
        source="".join(f"# line {number}\n" for number in range(1, 13)),
        checks=61,
        seconds=0.4,
    )


def broken_file() -> ScenarioResult:
    """A file with two problems."""
    file = "scenarios/enzyme/broken_file.yaml"
    problems = (
        Problem(
            location=Location(file=file, line=6, column=5),
            message="unknown step 'depositt'",
            expected="one of: deposit, mine, mint, rebase, redeem, sync, withdraw",
            suggestion="deposit",
        ),
        Problem(location=Location(file=file, line=7, column=12), message="'5OO USDC' is not an amount"),
    )
    return scenario(
        "enzyme/broken_file.yaml",
        title="A typing mistake",
        verdict=Verdict.error,
        error="\n".join(str(problem) for problem in problems),
        problems=problems,
        source="title: A typing mistake\ntags: []\ntokens: {}\nvault: {}\nsteps:\n"
        "  - depositt: {caller: alice, assets: 500 USDC}\n  - deposit: {assets: 5OO USDC}\n",
        sync_points=(),
        timeline=(),
        sweeps=(),
        checks=0,
        seconds=0.004,
    )


def internal_failure() -> ScenarioResult:
    """The harness itself failed."""
    return scenario(
        "harness_failed.yaml",
        title="The harness's own mistake",
        verdict=Verdict.error,
        error="IndexError: tuple index out of range\n  in harness.world.play, step 3",
        internal=True,
        sync_points=(),
        timeline=(),
        source="",
        checks=0,
        seconds=0.1,
    )


def hostile() -> ScenarioResult:
    """Everything that a scenario or a syncer can say, said with bad intent."""
    name = f"hostile/{HOSTILE}.yaml"
    file = f"scenarios/{name}"
    token = Token(symbol=HOSTILE, decimals=0)
    return scenario(
        name,
        diagnosis=DiagnosisResult(
            block=2,
            guilty=Break(
                kind=BreakKind.raised,
                sentence=f"Another one: {HOSTILE}\n::error::{LONG}{HEBREW}",
                expected=HOSTILE,
                transaction=HOSTILE,
                location=Location(file=file, line=2, column=1),
            ),
            cause=HOSTILE,
            evidence=f"{HOSTILE}\n::error::{LONG}",
            sides=(
                SidesAt(token=token, block=2, books=10**40, chain=-(10**40)),
                SidesAt(token=ATTO, block=2, books=1, chain=123456789012345678901234567890 * 10**36),
            ),
            syncs=12,
            command=f"harness run '{file}\n::error::' --syncer '{HOSTILE}'",
        ),
        laws_off=(LawOff(location=Location(file=file, line=1, column=1), law=HOSTILE, reason=HOSTILE + LONG),),
        title=f"{HOSTILE} {HEBREW} {LONG}",
        tags=(HOSTILE, "javascript:alert(1)", LONG),
        verdict=Verdict.differ,
        breaks=(
            Break(
                kind=BreakKind.raised,
                sentence=f"The syncer raised: {HOSTILE}\n::error::{LONG}{HEBREW}",
                field=HOSTILE,
                expected=HOSTILE,
                actual=f"{HOSTILE}\n\n  {LONG}",
                asset=HOSTILE,
                gap=HOSTILE,
                gap_usd=float("nan"),
                transaction=HOSTILE,
                location=Location(file=file, line=2, column=1),
                found_at=Location(file=f"other/{HOSTILE}", line=2, column=1),
                cause=HOSTILE,
                sweep=HOSTILE,
            ),
            Break(
                kind=BreakKind.law,
                sentence="Position 7 holds 0.000000000000000000000000000000000001 ATTO more than its events add up to.",
                field="quantity",
                asset="ATTO",
                expected="123456789012345678901234567890.000000000000000000000000000000000000 ATTO",
                actual="123456789012345678901234567890.000000000000000000000000000000000001 ATTO",
                gap_raw=1,
                gap="+0.000000000000000000000000000000000001 ATTO",
                gap_usd=1e-36,
                block=3,
            ),
        ),
        sync_points=(
            replace(
                _point(
                    3,
                    2,
                    _statement(token, deposits=10**40),
                    _statement(ATTO, deposits=123456789012345678901234567890 * 10**36, on_chain=1),
                    operation=HOSTILE,
                ),
                books={HOSTILE: float("inf"), "nested": [{"a": (1, 2)}]},
                refusal=HOSTILE,
            ),
        ),
        timeline=(
            TimelineBlock(
                number=3,
                mined_at=_at(3),
                entries=(TimelineEntry(line=1, text=HOSTILE + LONG, transaction=HOSTILE, failed=HOSTILE),),
            ),
        ),
        source=f"title: {HOSTILE}\nnote: {HEBREW} {LONG}\r\nend: </pre></style></script>\n",
        sweeps=(HOSTILE,),
        checks=3,
        seconds=12.0,
    )


def outcomes(**changes: NodeOutcome) -> dict[str, NodeOutcome]:
    """What came of a scenario behind misbehaving nodes: exact, a refusal where one is due, and the changes."""
    names = [name for name in NODE_PROFILES if name not in ("silent-cap", "too-large")]
    return dict.fromkeys(names, NodeOutcome.exact) | {"lagging": NodeOutcome.refused} | changes


def sample_run() -> RunResult:
    """Every verdict, and everything unpleasant."""
    return RunResult(
        syncer="reference",
        scenarios=(
            scenario("enzyme/first_deposit_is_at_par.yaml", nodes=outcomes()),
            replace(interest(), nodes=outcomes(lagging=NodeOutcome.wrong, twin=NodeOutcome.raised)),
            broken_file(),
            redemption(),
            hostile(),
            internal_failure(),
        ),
    )


def calm_run() -> RunResult:
    """A run as an ordinary day has it: one scenario differs among many."""
    others = tuple(scenario(f"erc4626/deposit_{number:02}.yaml") for number in range(1, 13))
    return RunResult(syncer="acme_fund.sync:Syncer", scenarios=(interest(), redemption(), broken_file(), *others))


def large_run(scenarios: int = 300, breaks: int = 2) -> RunResult:
    """Hundreds of scenarios, one in ten wrong."""
    wrong = redemption()
    return RunResult(
        syncer="reference",
        scenarios=tuple(
            replace(wrong, id=f"many/{number:03}.yaml", file=wrong.file, breaks=wrong.breaks[:breaks])
            if number % 10 == 0
            else replace(wrong, id=f"many/{number:03}.yaml", verdict=Verdict.reconciled, breaks=())
            for number in range(scenarios)
        ),
    )


def goldens() -> dict[str, str]:
    """What each golden file must hold."""
    run = sample_run()
    return {
        "report.html": to_html(run),
        "report.json": to_json(run),
        "report.junit.xml": to_junit(run),
        "report.txt": render_summary(run),
    }


if __name__ == "__main__":
    for name, text in goldens().items():
        (pathlib.Path(__file__).parent / "golden" / name).write_bytes(text.encode())
