"""What all tests share."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from types import ModuleType

import pytest
from hypothesis import settings

from tests import runner_stand_in

pytest_plugins = ["pytester"]

# The same examples in every run: a red build is red on every machine. Time is measured in benchmarks/, not here.
settings.register_profile("harness", deadline=None, derandomize=True)
settings.load_profile("harness")


@pytest.fixture
def stand_in_runner(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put a runner in place that goes by the file's name and starts no chain; forked processes have it, too."""
    monkeypatch.setitem(sys.modules, "harness.runner", runner_stand_in)
    return runner_stand_in


@pytest.fixture(scope="session")
def plugin_arguments() -> tuple[str, ...]:
    """What pytest needs to be told so as to load the plug-in: nothing, where the harness is installed."""
    installed = any(point.name == "harness" for point in entry_points(group="pytest11"))
    return () if installed else ("-p", "harness.pytest_plugin")
