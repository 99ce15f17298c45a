"""The pytest plug-in: one test per scenario (a file, or each of its variants) under declared paths, nowhere else.

```toml
[tool.pytest.ini_options]
harness_scenarios = ["scenarios"]           # relative to pytest's root folder
harness_syncer = "my_fund.sync:make_syncer"  # default: reference
```

pytest loads plug-ins in every run, so nothing heavy is imported here: neither the chain nor a YAML reader,
until a declared scenario is there to collect.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import SyncerNotFound
from harness.scenario.files import SUFFIXES, is_collected, row_id

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from harness.report.results import ScenarioResult
    from harness.scenario.model import Scenario

_FOLDERS = pytest.StashKey[tuple[Path, ...]]()
_SYNCER = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini options and ``--harness-syncer``."""
    parser.addini(
        "harness_scenarios",
        "scenario files, or folders of them, to collect; relative to the root folder",
        type="args",
        default=[],
    )
    parser.addini("harness_syncer", "the syncer that scenarios are run with: a name, or module:attribute")
    parser.getgroup("harness", "vault reconciliation").addoption(
        "--harness-syncer",
        metavar="NAME",
        help="the syncer that scenarios are run with: a name, or module:attribute (default: reference)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Resolve the declared paths; one that is not there is an error, for else its tests would silently be gone."""
    declared = config.getini("harness_scenarios")
    for path in declared:
        if not (config.rootpath / path).exists():
            raise pytest.UsageError(f"harness_scenarios: {path}: no such file or folder")
    config.stash[_FOLDERS] = tuple((config.rootpath / path).resolve() for path in declared)
    config.stash[_SYNCER] = config.getoption("--harness-syncer") or config.getini("harness_syncer") or "reference"


def pytest_report_header(config: pytest.Config) -> str | None:
    """Name the syncer, where scenarios are declared."""
    return f"harness: syncer {config.stash[_SYNCER]}" if config.stash[_FOLDERS] else None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ScenarioFile | None:
    """Collect YAML files at or below a declared path, without hidden ones and those that others include."""
    if file_path.suffix not in SUFFIXES:
        return None
    for folder in parent.config.stash[_FOLDERS]:
        below = _below(folder, file_path)
        if below is not None and (folder.is_file() or is_collected(below.parts)):
            root = None if folder.is_file() else str(folder)
            return ScenarioFile.from_parent(parent, path=file_path, scenario_id=below.as_posix(), scenario_root=root)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a scenario's report say what is wrong and where, in place of the harness's own call stack."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, _Outcome):
        report.longrepr = str(call.excinfo.value)
    return report


def _below(folder: Path, path: Path) -> Path | None:
    """The path below a folder, or the bare name of a file that was declared itself."""
    path = path.resolve()
    if path == folder:
        return Path(path.name)
    return path.relative_to(folder) if folder in path.parents else None


class ScenarioFile(pytest.File):
    """A scenario file."""

    def __init__(self, *, scenario_id: str, scenario_root: str | None, **rest: Any) -> None:
        super().__init__(**rest)
        self.scenario_id = scenario_id
        self.scenario_root = scenario_root

    def collect(self) -> Iterable[pytest.Item]:
        """Give a test for each of the file's scenarios.

        The syncer is looked for first: with a wrong name, nothing can be told.
        """
        from harness.scenario.files import rows_of
        from harness.syncers.find import find_syncer

        try:
            find_syncer(self.config.stash[_SYNCER])
        except SyncerNotFound as error:
            raise self.CollectError(str(error)) from error
        for variant, scenario in rows_of(str(self.path), root=self.scenario_root):
            yield ScenarioItem.from_parent(self, name=variant or "reconciles", variant=variant, scenario=scenario)


class ScenarioItem(pytest.Item):
    """One scenario.

    It is run in the setup phase, so that pytest tells the two apart: a scenario that says nothing about the
    syncer (a mistake in the file, a failed step) is an error, books that differ from the chain a failure.
    """

    parent: ScenarioFile

    def __init__(self, *, variant: str | None, scenario: Scenario | None, **rest: Any) -> None:
        super().__init__(**rest)
        self._variant = variant
        self._title = ""
        self._scenario_id = row_id(self.parent.scenario_id, variant)
        if scenario is not None:  # a file that cannot be read says so when its test runs
            self._title = scenario.title
            self.extra_keyword_matches.update(scenario.tags)

    def setup(self) -> None:
        """Run the scenario."""
        from harness.report.results import Verdict
        from harness.runner import run_file

        self._result = run_file(
            str(self.path),
            id=self._scenario_id,
            file=self._file(),
            root=self.parent.scenario_root,
            variant=self._variant,
            syncer=self.config.stash[_SYNCER],
            today=datetime.now(UTC).date(),
        )
        if self._result.verdict is Verdict.error:
            raise CannotTell(self._result)

    def runtest(self) -> None:
        """Fail if the books differ from the chain."""
        from harness.report.results import Verdict

        if self._result.verdict is Verdict.differ:
            raise BooksDiffer(self._result)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Head the report with id and title."""
        return self.path, 0, f"{self._scenario_id}: {self._title}" if self._title else self._scenario_id

    def _file(self) -> str:
        root = self.config.rootpath
        return self.path.relative_to(root).as_posix() if root in self.path.parents else self.path.as_posix()


class _Outcome(Exception):
    """A scenario that is not reconciled; its text is the report."""

    def __init__(self, result: ScenarioResult) -> None:
        super().__init__(self.text(result))

    @staticmethod
    def text(result: ScenarioResult) -> str:
        raise NotImplementedError


class CannotTell(_Outcome):
    """A scenario that says nothing about the syncer."""

    @staticmethod
    def text(result: ScenarioResult) -> str:
        """Give every problem of the file, or the reason why the scenario ended."""
        from harness.report.results import error_text

        said = error_text(result)
        return f"The harness itself failed; this says nothing about the syncer.\n{said}" if result.internal else said


class BooksDiffer(_Outcome):
    """A scenario whose books differ from the chain."""

    @staticmethod
    def text(result: ScenarioResult) -> str:
        """Give every break: its sentence, where it is from, and the two sides."""
        from harness.report.terminal import render_breaks

        return render_breaks(result)
