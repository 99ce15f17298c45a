"""JUnit XML."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from harness.report.junit import to_junit
from harness.report.results import RunResult, Verdict, printable
from tests.report_sample import sample_run, scenario

GOLDEN = Path(__file__).parent / "golden"


def test_junit_is_what_it_was() -> None:
    assert (GOLDEN / "report.junit.xml").read_bytes() == to_junit(sample_run()).encode()


def test_counts_agree_with_the_cases() -> None:
    suite = ElementTree.fromstring(to_junit(sample_run())).find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == len(cases) == 6
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) == 2
    assert int(suite.attrib["errors"]) == len(suite.findall("testcase/error")) == 2


def test_case_is_named_by_folder_and_id() -> None:
    run = RunResult(syncer="x", scenarios=(scenario("enzyme/deep/one.yaml"), scenario("two.yaml")))
    cases = ElementTree.fromstring(to_junit(run)).findall("testsuite/testcase")
    assert [(case.attrib["classname"], case.attrib["name"]) for case in cases] == [
        ("enzyme.deep", "enzyme/deep/one.yaml"),
        ("scenarios", "two.yaml"),
    ]


def test_any_character_gives_well_formed_xml() -> None:
    nasty = "".join(map(chr, [*range(0x300), *range(0xD7F0, 0xE010), *range(0xFFF0, 0x10010)])) + "]]><!--"
    result = scenario(nasty, title=nasty, verdict=Verdict.error, error=nasty, file=nasty)
    text = to_junit(RunResult(syncer=nasty, scenarios=(result,)))
    error = ElementTree.fromstring(text.encode()).find("testsuite/testcase/error")
    assert error is not None
    assert printable(nasty) in (error.text or "")


def test_a_failure_without_a_break_still_is_one() -> None:
    run = RunResult(syncer="x", scenarios=(scenario("a.yaml", verdict=Verdict.differ),))
    failure = ElementTree.fromstring(to_junit(run)).find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.attrib == {"message": "books and chain differ", "type": "differ"}


def test_durations_are_in_no_xml() -> None:
    quick, slow = (RunResult(syncer="x", scenarios=(scenario("a.yaml", seconds=seconds),)) for seconds in (0.1, 9.9))
    assert to_junit(quick) == to_junit(slow)
