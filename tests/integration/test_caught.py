"""Every broken syncer turns some scenario red with no typed number to go by, and the reference none."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest

from harness.scenario.loader import load
from harness.scenario.model import Check, Expectation
from harness.syncers.broken import BROKEN
from tests.integration.caught import PAGE, SCENARIOS, Caught, without_expectations


@pytest.fixture(scope="module")
def caught() -> Caught:
    return Caught()


def test_the_reference_is_blamed_for_nothing(caught: Caught) -> None:
    assert [] == [f"{alarm.scenario}: {alarm.broken.sentence}" for alarm in caught.false_alarms]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_syncer_is_caught(caught: Caught, name: str) -> None:
    assert caught.catches[name], f"no scenario turns red: {BROKEN[name].wrong}"


def test_every_scenario_catches_something(caught: Caught) -> None:
    catching = {catch.scenario for catches in caught.catches.values() for catch in catches}
    assert [] == [scenario for scenario in caught.names if scenario not in catching]


def test_the_page_says_what_is_caught(caught: Caught) -> None:
    assert PAGE.read_text(encoding="utf-8") == caught.page(), "python tests/integration/caught.py --write renews it"


def test_no_typed_number_is_left() -> None:
    scenarios = [load(str(path)) for path in sorted(SCENARIOS.glob("*.yaml"))]
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
