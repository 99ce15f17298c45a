"""Histories drawn at random: ledger and references, who share no arithmetic, agree on each; broken syncers do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, find, given, note, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from harness.reconcile.diff import Break
from harness.report.results import ScenarioResult, Verdict
from harness.runner import run_scenario
from harness.scenario.loader import dump, loads
from harness.scenario.model import Scenario
from harness.syncers.find import find_syncer
from tests.properties.histories import FILE, Step, enzyme_drawn, erc4626_drawn, settle

Drawn = tuple[Mapping[str, Any], Sequence[Step]]
SOME = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
FEW = settings(SOME, max_examples=5)
"""With every sweep, each of which syncs the whole history anew."""


def outcome(scenario: Scenario, syncer: str = "reference", *, sweeps: bool = True) -> ScenarioResult:
    return run_scenario(scenario, find_syncer(syncer), id="drawn", sweeps=sweeps)


def reconciles(drawn: Drawn, *, sweeps: bool) -> None:
    settled = settle(*drawn)
    assume(settled is not None)
    assert settled is not None
    scenario, _ = settled
    for syncer in ("reference", "balances"):
        result = outcome(scenario, syncer, sweeps=sweeps)
        if result.verdict is not Verdict.reconciled:
            note(dump(scenario))
            note(_told(result.breaks) or str(result.error))
        assert Verdict.reconciled is result.verdict, syncer


def _told(breaks: Sequence[Break]) -> str:
    return "\n".join(f"line {one.location and one.location.line}: {one.sentence}" for one in breaks)


@SOME
@given(drawn=enzyme_drawn)
def test_any_history_of_a_fund_reconciles(drawn: Drawn) -> None:
    reconciles(drawn, sweeps=False)


@SOME
@given(drawn=erc4626_drawn)
def test_any_history_of_a_share_token_vault_reconciles(drawn: Drawn) -> None:
    reconciles(drawn, sweeps=False)


@FEW
@given(drawn=enzyme_drawn | erc4626_drawn)
def test_any_history_stands_every_sweep(drawn: Drawn) -> None:
    reconciles(drawn, sweeps=True)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=enzyme_drawn | erc4626_drawn)
def test_a_drawn_history_is_kept_as_yaml(drawn: Drawn) -> None:
    settled = settle(*drawn)
    assume(settled is not None)
    assert settled is not None
    written = dump(settled[0])
    assert written == dump(loads(written, FILE))


def _caught(syncer: str, kind: str, drawn: st.SearchStrategy[Drawn]) -> Drawn | None:
    def differs(history: Drawn) -> bool:
        settled = settle(*history)
        return settled is not None and Verdict.differ is outcome(settled[0], syncer, sweeps=False).verdict

    seek = settings(
        max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None
    )
    try:
        return find(drawn, differs, settings=seek)
    except NoSuchExample:
        return None


@pytest.mark.parametrize("kind", ["enzyme", "erc4626"])
@pytest.mark.parametrize("syncer", ["redemption_sign", "block_read_twice"])
def test_a_drawn_history_catches_a_broken_syncer(syncer: str, kind: str) -> None:
    drawn = enzyme_drawn if kind == "enzyme" else erc4626_drawn
    found = _caught(f"harness.syncers.broken:{syncer}", kind, drawn)
    assert found is not None
    settled = settle(*found)
    assert settled is not None
    assert Verdict.reconciled is outcome(settled[0], sweeps=False).verdict
