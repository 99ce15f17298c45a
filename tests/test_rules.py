"""A scenario's own rules, through the runner: laws off, tolerances, known breaks; and what is asked at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from harness.books import Books
from harness.errors import SyncRefused
from harness.reconcile import laws
from harness.reconcile.conservation import CHAIN_LAWS
from harness.reconcile.diff import Break, BreakKind
from harness.reconcile.laws import EVERY_LAW, LAWS, Checkpoint
from harness.reconcile.rules import tolerate
from harness.report.results import ScenarioResult, Verdict, exit_code
from harness.runner import run_scenario
from harness.scenario import language
from harness.scenario.loader import loads
from harness.sweeps import SWEEPS
from harness.syncers.protocol import ChainView, Target
from harness.syncers.reference import ReferenceSyncer
from harness.world.play import play

STEPS = """\
tokens:
  USDC: {decimals: 6, usd: 2}
vault: {kind: enzyme}
steps:
  - deposit: {caller: alice, assets: 100}
  - sync:
  - deposit: {caller: bob, assets: 50}
  - sync:
"""


def run(factory: Callable[[Target], Any], header: str = "", **options: Any) -> ScenarioResult:
    return run_scenario(loads(header + STEPS, "x.yaml"), factory, id="x", **({"sweeps": False} | options))


class Generous(ReferenceSyncer):
    """Books three raw units too much for each deposit of bob's; in all other ways it is consistent."""

    more = Decimal("0.000003")

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        after = super().sync_treasury(view, books, cycle)
        for reserve in after.portfolio.reserves.values():
            for update_id, update in reserve.balance_updates.items():
                if update.quantity == 50:
                    worth = float((update.quantity + self.more) * 2)
                    reserve.balance_updates[update_id] = replace(
                        update, quantity=update.quantity + self.more, usd_value=worth
                    )
                    reserve.quantity += self.more
                    refs = after.sync.treasury.balance_update_refs
                    refs[-1] = replace(refs[-1], usd_value=worth)
        return after


class Lavish(Generous):
    more = Decimal("0.000004")


# -- laws


def test_every_law_that_a_scenario_may_switch_off_is_one() -> None:
    judged = {name for name, law in EVERY_LAW.items() if law.judged != "not yet"}
    assert set(language.LAWS) == judged
    assert set(language.LAWS_PLANNED) == set(EVERY_LAW) - judged
    assert {*LAWS, *CHAIN_LAWS} <= judged
    for law in EVERY_LAW.values():
        assert "Precondition" in law.text, law.name


def test_each_kind_of_break_may_be_known_but_the_one_that_says_so() -> None:
    assert {kind.value for kind in BreakKind} - {"known_gone"} == set(language.BREAK_KINDS)


def test_a_law_that_is_off_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def always(_: Checkpoint) -> Any:
        yield laws.Violation(sentence="as always")

    monkeypatch.setattr(laws, "LAWS", {**LAWS, "sums-add-up": always})
    found = run(ReferenceSyncer)
    assert [("law", "sums-add-up")] == [(broken.kind.value, broken.field) for broken in found.breaks]
    off = run(ReferenceSyncer, "laws_off: {sums-add-up: known to differ}\n")
    assert (Verdict.reconciled, ()) == (off.verdict, off.breaks)
    assert [("sums-add-up", "known to differ")] == [(each.law, each.reason) for each in off.laws_off]


def test_sweeps_are_a_law(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(run(ReferenceSyncer, sweeps=True).sweeps) <= set(SWEEPS)
    assert run(ReferenceSyncer, sweeps=True).sweeps
    assert () == run(ReferenceSyncer, "laws_off: {schedules-agree: why}\n", sweeps=True).sweeps


@pytest.mark.parametrize("sweeps", [False, True])
def test_a_law_that_raises_is_an_internal_failure_and_the_others_go_on(
    sweeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Checkpoint) -> Any:
        raise KeyError("nothing")
        yield

    monkeypatch.setattr(laws, "LAWS", {"sums-add-up": fails, **{k: v for k, v in LAWS.items() if k != "sums-add-up"}})
    result = run(Generous, sweeps=sweeps)
    assert (Verdict.error, True, 3) == (result.verdict, result.internal, exit_code([result]))
    assert "the harness failed in x: the law sums-add-up could not be judged: KeyError: 'nothing'" == result.error
    assert "books-equal-chain" in {broken.field for broken in result.breaks}


# -- asked elsewhere


class Gullible(ReferenceSyncer):
    """Syncs whatever books it is given: it makes them its target's."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.theirs = target

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        deployment = books.sync.deployment
        moved = (deployment.chain_id, deployment.address) != (self.theirs.chain_id, self.theirs.vault)
        return books if moved else super().sync_treasury(view, books, cycle)


class Clumsy(ReferenceSyncer):
    """Refuses elsewhere, after it has begun."""

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        try:
            return super().sync_treasury(view, books, cycle)
        except SyncRefused:
            books.sync.treasury.last_cycle_at = cycle
            books.sync.treasury.last_block_scanned = None
            raise


def elsewhere(result: ScenarioResult) -> list[Break]:
    return [broken for broken in result.breaks if broken.field == "elsewhere-refused"]


def test_books_are_refused_elsewhere_though_no_step_asks() -> None:
    found = elsewhere(run(Gullible))
    assert 2 == len(found)
    assert "Pointed at chain 1338 and asked to sync these books at block 4" in found[0].sentence
    assert "another vault" in found[1].sentence
    assert {(BreakKind.law, 8)} == {(broken.kind, broken.location.line) for broken in found if broken.location}
    assert () == run(Gullible, "laws_off: {elsewhere-refused: it has one vault}\n").breaks
    assert () == run(ReferenceSyncer).breaks


def test_a_refusal_elsewhere_leaves_the_books_alone() -> None:
    found = elsewhere(run(Clumsy))
    assert 2 == len(found)
    assert "did not leave them alone when it refused" in found[0].sentence


def test_who_fails_elsewhere_did_not_refuse() -> None:
    class Falls(ReferenceSyncer):
        def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
            try:
                return super().sync_treasury(view, books, cycle)
            except SyncRefused as error:
                raise LookupError("lost") from error

    found = elsewhere(run(Falls))
    assert ["it ended otherwise: LookupError: lost"] == sorted({str(b.actual).split(" (in")[0] for b in found})


# -- tolerances


def test_a_difference_is_a_break_by_default() -> None:
    found = run(Generous)
    assert {3} == {broken.gap_raw for broken in found.breaks if broken.gap_raw is not None}
    assert {"quantity", "books-equal-chain"} <= {broken.field for broken in found.breaks}


def test_a_tolerance_covers_quantities_and_their_worth_and_says_how_much_was_used() -> None:
    found = run(Generous, "tolerances: [{allow: 3 raw USDC, reason: it is generous}]\n")
    assert (Verdict.reconciled, ()) == (found.verdict, found.breaks)
    (use,) = found.tolerances
    assert (True, 3, 6e-6, 6e-6) == (use.used, use.largest_raw, use.largest_usd, use.allowed_usd)
    assert len(run(Generous).breaks) == use.differences


def test_a_tolerance_one_unit_too_small_covers_nothing() -> None:
    found = run(Lavish, "tolerances: [{allow: 3 raw USDC, reason: it is generous}]\n")
    assert [broken.gap_raw for broken in run(Lavish).breaks] == [broken.gap_raw for broken in found.breaks]
    assert [(False, 0, 0)] == [(use.used, use.differences, use.largest_raw) for use in found.tolerances]


def test_a_tolerance_of_one_field_covers_no_other() -> None:
    header = "tolerances: [{allow: 1 USDC, field: quantity, reason: why not}]\n"
    found = run(Generous, header)
    assert "quantity" not in {broken.field for broken in found.breaks}
    assert "books-equal-chain" in {broken.field for broken in found.breaks}
    law = run(Generous, "tolerances: [{allow: 1 USDC, field: books-equal-chain, reason: why not}]\n")
    assert "books-equal-chain" not in {broken.field for broken in law.breaks}
    assert "quantity" in {broken.field for broken in law.breaks}


def test_what_is_not_there_at_all_is_within_no_tolerance() -> None:
    class Forgets(ReferenceSyncer):
        def book_flow(self, work: Any, flow: Any) -> None:
            return None

    found = run(Forgets, "tolerances: [{allow: 1_000 USDC, reason: far too much}]\n")
    assert "missing" in {broken.kind.value for broken in found.breaks}


def test_a_worth_is_tolerated_as_far_as_the_quantity_would_be() -> None:
    ledger = play(loads(STEPS, "x.yaml")).ledger
    three = loads("tolerances: [{allow: 3 raw USDC, reason: why}]\n" + STEPS, "x.yaml").tolerances
    one_field = (replace(three[0], field="quantity"),)
    worth = Break(kind=BreakKind.different, sentence="", field="usd_value", asset="USDC", block=3, gap_usd=-6e-6)
    assert ((), 1) == (tolerate([worth], three, ledger)[0], len(tolerate([worth], three, ledger)[1]))
    for broken, tolerances in (
        (replace(worth, gap_usd=6.1e-6), three),
        (replace(worth, asset="WETH"), three),
        (replace(worth, gap_usd=None), three),
        (replace(worth, gap_usd=float("nan")), three),
        (replace(worth, kind=BreakKind.unexpected), three),
        (worth, one_field),
    ):
        assert ((broken,), ()) == tolerate([broken], tolerances, ledger)
    nested = Break(kind=BreakKind.different, sentence="", field="updates[0].quantity", asset="USDC", gap_raw=3)
    assert ((), 1) == (tolerate([nested], one_field, ledger)[0], len(tolerate([nested], one_field, ledger)[1]))


def test_nothing_is_tolerated_in_a_sweep_that_is_not_in_the_plain_run() -> None:
    found = run(Generous, "tolerances: [{allow: 3 raw USDC, reason: it is generous}]\n", sweeps=True)
    assert (Verdict.reconciled, ()) == (found.verdict, found.breaks)
    assert run(Lavish, "tolerances: [{allow: 3 raw USDC, reason: it is generous}]\n", sweeps=True).breaks


# -- known breaks


def known(breaks: str, until: str = "2026-12-31") -> str:
    return f"known:\n  reason: mended in March\n  until: {until}\n  breaks: [{breaks}]\n"


EVERYTHING = "{kind: different}, {kind: law, field: books-equal-chain, asset: USDC}"


def test_known_breaks_are_accepted_until_their_day() -> None:
    every = run(Generous).breaks
    for today in (None, date(2026, 1, 1), date(2026, 12, 31)):
        found = run(Generous, known(EVERYTHING), today=today)
        assert (Verdict.reconciled, (), len(every)) == (found.verdict, found.breaks, len(found.accepted))
        assert found.diagnosis is None


def test_after_their_day_they_count_again() -> None:
    found = run(Generous, known(EVERYTHING), today=date(2027, 1, 1))
    assert (Verdict.differ, ()) == (found.verdict, found.accepted)
    assert len(run(Generous).breaks) + 1 == len(found.breaks)
    last = found.breaks[-1]
    assert (BreakKind.known_gone, 1) == (last.kind, last.location.line if last.location else None)
    assert "were accepted until 2026-12-31 (mended in March), and it is 2027-01-01" in last.sentence


def test_one_that_is_gone_is_a_break_of_its_own() -> None:
    found = run(ReferenceSyncer, known("{kind: different, field: quantity, asset: USDC, line: 12}"))
    (gone,) = found.breaks
    assert (BreakKind.known_gone, Verdict.differ, 4) == (
        gone.kind, found.verdict, gone.location.line if gone.location else None
    )  # fmt: skip
    assert "'different field quantity asset USDC line 12'" in gone.sentence


@pytest.mark.parametrize(
    "named",
    ["field: usd_value", "asset: USDC, block: 99", "line: 2", "position_id: 7", "field: uantity"],
)
def test_a_known_break_has_each_value_that_is_named(named: str) -> None:
    found = run(
        Generous, known(f"{{kind: different, field: quantity, {named}}}".replace("field: quantity, field", "field"))
    )
    assert "quantity" in {broken.field for broken in found.breaks}


def test_lines_and_blocks_tell_known_breaks_apart() -> None:
    broken = next(one for one in run(Generous, known("{kind: raised}")).breaks if one.field == "quantity")
    assert broken.location is not None
    found = run(
        Generous, known(f"{{kind: different, field: quantity, block: {broken.block}, line: {broken.location.line}}}")
    )
    assert "quantity" not in {one.field for one in found.breaks}
    assert {"quantity"} == {one.field for one in found.accepted}
