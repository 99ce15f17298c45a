"""The pytest plug-in, run by pytest's own tester."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCENARIO = """\
title: The first deposit is at par
tags: [case-43]
tokens:
  USDC: {decimals: 6, usd: 1}
vault: {kind: erc4626, name: Example Fund, symbol: EXAMPLE, reserve: USDC}
steps:
  - deposit: {caller: alice, assets: 500 USDC}
  - sync:
"""
STAND_IN = """\
import sys
import tests.runner_stand_in
sys.modules["harness.runner"] = tests.runner_stand_in
"""


class Project:
    """A project of somebody's, with scenarios and a runner that starts no chain."""

    def __init__(self, pytester: pytest.Pytester, arguments: tuple[str, ...]) -> None:
        self.pytester = pytester
        self.arguments = arguments
        pytester.makeconftest(STAND_IN)
        pytester.makeini("[pytest]\nharness_scenarios = scenarios more/one.yaml\n")
        self.write("scenarios/first.yaml", "more/one.yaml")

    def write(self, *names: str, text: str = SCENARIO) -> None:
        for name in names:
            path = self.pytester.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", *self.arguments, *arguments)


@pytest.fixture
def project(
    pytester: pytest.Pytester,
    plugin_arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    stand_in_runner: object,
) -> Project:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Project(pytester, plugin_arguments)


def test_one_test_per_scenario_below_declared_paths_and_nowhere_else(project: Project) -> None:
    project.write("scenarios/deep/second.yml", "scenarios/.hidden.yaml", "scenarios/.git/x.yaml")
    project.write("more/two.yaml", "docker-compose.yml")
    result = project.run("--collect-only", "-q")
    assert sorted(line for line in result.outlines if "::" in line) == [
        "more/one.yaml::reconciles",
        "scenarios/deep/second.yml::reconciles",
        "scenarios/first.yaml::reconciles",
    ]


def test_nothing_is_collected_where_nothing_is_declared(project: Project) -> None:
    project.pytester.makeini("[pytest]\n")
    assert project.run("scenarios/first.yaml").ret == pytest.ExitCode.USAGE_ERROR
    assert project.run().ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_reconciled_scenarios_pass(project: Project) -> None:
    project.run().assert_outcomes(passed=2)


def test_books_that_differ_are_a_failure_told_in_sentences(project: Project) -> None:
    project.write("scenarios/differ.yaml")
    result = project.run()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "* differ.yaml: The first deposit is at par *",
            "scenarios/differ.yaml:7: The deposit of 500 USDC by alice is not in the books.",
            "*expected*500.000000 USDC*",
            "FAILED scenarios/differ.yaml::reconciles*",
        ]
    )
    for word in ("Traceback", "raise ", "pytest_plugin.py", "def runtest"):
        result.stdout.no_fnmatch_line(f"*{word}*")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("refused", "*scenarios/refused.yaml:7:5: the deposit failed*"),
        ("internal", "The harness itself failed; this says nothing about the syncer."),
    ],
)
def test_what_says_nothing_about_the_syncer_is_an_error_not_a_failure(project: Project, name: str, said: str) -> None:
    project.write(f"scenarios/{name}.yaml")
    result = project.run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines([said])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_a_broken_file_is_an_error_at_its_place_and_stops_no_other(project: Project) -> None:
    project.write("scenarios/broken.yaml", text=SCENARIO.replace("deposit:", "depositt:"))
    result = project.run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["scenarios/broken.yaml:7:5: *", "*did you mean 'deposit'?*"])


def test_a_failure_of_the_runner_itself_keeps_its_call_stack(project: Project) -> None:
    project.write("scenarios/raises.yaml")
    result = project.run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*RuntimeError: out of order*"])


def test_tags_and_titles_select(project: Project) -> None:
    project.write("scenarios/other.yaml", text=SCENARIO.replace("case-43", "case-44"))
    project.run("-k", "case-44").assert_outcomes(passed=1, deselected=2)


def test_a_declared_path_that_is_not_there_is_an_error(project: Project) -> None:
    project.pytester.makeini("[pytest]\nharness_scenarios = scenarioss\n")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*harness_scenarios: scenarioss: no such file or folder*"])


def test_the_option_goes_before_the_ini_file(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = project.pytester.path / "calls"
    monkeypatch.setenv("HARNESS_TEST_CALLS", str(calls))
    project.write("my_syncer.py", text="def make(target): ...\nother = make\n")
    project.pytester.makeini("[pytest]\nharness_scenarios = scenarios\nharness_syncer = my_syncer:make\n")
    project.run().stdout.fnmatch_lines(["harness: syncer my_syncer:make"])
    project.run("--harness-syncer", "my_syncer:other").assert_outcomes(passed=1)
    days = [line.rpartition(" ") for line in calls.read_text().splitlines()]
    assert [line for line, _, _ in days] == [
        "first.yaml scenarios/first.yaml my_syncer:make True 60 None False",
        "first.yaml scenarios/first.yaml my_syncer:other True 60 None False",
    ]
    assert all(date.fromisoformat(day) for _, _, day in days)


def test_a_syncer_that_is_not_there_is_named(project: Project) -> None:
    result = project.run("--harness-syncer", "referense")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*no syncer 'referense'*", "*did you mean 'reference'?*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_scenarios_are_spread_over_the_workers_of_xdist(project: Project) -> None:
    pytest.importorskip("xdist")
    project.write(*(f"scenarios/{number}.yaml" for number in range(4)), "scenarios/differ.yaml")
    result = project.pytester.runpytest_subprocess("-p", "no:cacheprovider", *project.arguments, "-n", "2")
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["scenarios/differ.yaml:7: The deposit of 500 USDC by alice is not in the books."])


@pytest.mark.parametrize(
    "declared", ["", "harness_scenarios = scenarios\n"], ids=["not declared", "declared, not asked for"]
)
def test_an_idle_plug_in_imports_nothing_heavy(project: Project, declared: str) -> None:
    project.pytester.makeini(f"[pytest]\n{declared}")
    (project.pytester.path / "conftest.py").unlink()
    project.write("unit/test_unit.py", text="def test_nothing(): pass\n")
    heavy = ("web3", "eth_tester", "eth", "hypothesis", "eth_abi", "yaml", "rich", "jinja2", "harness.scenario.loader")
    # Hypothesis's own plug-in is left out, for it imports Hypothesis.
    code = (
        "import sys, pytest\n"
        "assert pytest.main(sys.argv[1:]) == 0\n"
        "assert 'harness.pytest_plugin' in sys.modules\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "-q", "-p", "no:hypothesispytest", *project.arguments, "unit"],
        cwd=project.pytester.path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout.splitlines()[-1] == "[]", ended.stdout + ended.stderr


VARIANTS = """\
title: Chunks leave no seam
tags: [seams]
variants: [{id: chunk-1, chunk: 1}, {id: chunk-2, chunk: 2}]
include: _common/flows.yaml
steps:
  - sync: {chunk: $chunk}
"""


def test_each_variant_is_a_test_and_what_is_included_is_none(project: Project) -> None:
    project.write("scenarios/x.yaml", text=VARIANTS)
    project.write("scenarios/_common/flows.yaml", "scenarios/_other.yaml")
    common = project.pytester.path / "scenarios/_common/flows.yaml"
    common.write_text(SCENARIO.partition("\n")[2].replace("  - sync:\n", ""), encoding="utf-8")
    result = project.run("scenarios", "-v", "-k", "seams")
    result.assert_outcomes(passed=2, deselected=1)
    result.stdout.fnmatch_lines(["scenarios/x.yaml::chunk-1*PASSED*", "scenarios/x.yaml::chunk-2*PASSED*"])
    result = project.run("scenarios/x.yaml::chunk-2")
    result.assert_outcomes(passed=1)
