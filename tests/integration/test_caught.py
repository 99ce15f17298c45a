"""Every broken syncer turns some scenario red with no typed number to go by, and the references none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

from harness.report.matrix import Strength
from harness.scenario.loader import load_all
from harness.scenario.model import Check, Expectation
from harness.strength import Plan, measure, without_expectations
from harness.syncers.broken import BROKEN
from harness.syncers.reference import ReferenceSyncer
from tests.integration.caught import PAGE, SCENARIOS, corpus, files, page

ANY = next(iter(BROKEN.values()))


@pytest.fixture(scope="module")
def caught() -> Strength:
    return corpus()


def test_every_scenario_can_be_tried(caught: Strength) -> None:
    assert [] == [f"{tried.id}: {tried.error}" for tried in caught.scenarios if tried.error is not None]


def test_the_references_are_blamed_for_nothing(caught: Strength) -> None:
    assert [] == [f"{alarm.syncer} in {alarm.scenario}: {alarm.sentence}" for alarm in caught.alarms]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_syncer_is_caught(caught: Strength, name: str) -> None:
    assert caught.catches[name], f"no scenario turns red: {BROKEN[name].wrong}"


def test_the_page_says_what_is_caught(caught: Strength) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(caught), "python tests/integration/caught.py --write renews it"


def test_a_survivor_is_seen_and_sweeps_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class DropsSmallChunks(ReferenceSyncer):
        """Wrong only where chunks are of one block, which this scenario never asks for."""

        def flow_ranges(self, start_block: int, end_block: int, chunk: int | None) -> Iterator[tuple[int, int]]:
            ranges = list(super().flow_ranges(start_block, end_block, chunk))
            return iter(ranges if chunk != 1 else ranges[:-1])

    for name in list(BROKEN):
        monkeypatch.delitem(BROKEN, name)
    for name, factory in (("right", ReferenceSyncer), ("wrong_in_chunks", DropsSmallChunks)):
        monkeypatch.setitem(BROKEN, name, replace(ANY, name=name, factory=factory))
    shutil.copy(SCENARIOS / "block_times_are_utc.yaml", tmp_path)
    found = measure(files(tmp_path), Plan())
    assert () == found.catches["right"]
    assert ["chunk-1"] == [cell.sweep for cell in found.catches["wrong_in_chunks"]]
    assert "| `right` |" in page(found)


def test_no_typed_number_is_left() -> None:
    scenarios = [scenario for path in sorted(SCENARIOS.glob("*.yaml")) for scenario in load_all(str(path))]
    assert any(_expectations(scenario) for scenario in scenarios)
    for scenario in scenarios:
        bare = without_expectations(scenario)
        assert 0 == _expectations(bare)
        assert not any(isinstance(step, Check) for step in bare.steps)


def _expectations(value: object) -> int:
    """Count what is expected, however deep it stands."""
    if isinstance(value, Expectation):
        return 1
    if isinstance(value, tuple):
        return sum(_expectations(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return sum(_expectations(getattr(value, field.name)) for field in fields(value))
    return 0
