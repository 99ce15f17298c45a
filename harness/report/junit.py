"""A run as JUnit XML, for CI servers."""

from __future__ import annotations

from xml.etree import ElementTree

from harness.report.results import (
    RunResult,
    ScenarioResult,
    Verdict,
    diagnosis_lines,
    error_text,
    gap_text,
    in_order,
    name_text,
    place_text,
    portable,
    printable,
)


def to_junit(run: RunResult) -> str:
    """Write one test suite with a test case for each scenario.

    A break is a failure, what could not be judged an error; the text holds every sentence. Durations
    are left out, so that the same result gives the same bytes.
    """
    run = portable(run)
    counts = {
        "tests": str(len(run.scenarios)),
        "failures": str(run.count(Verdict.differ)),
        "errors": str(run.count(Verdict.error)),
        "skipped": "0",
        "time": "0",
    }
    root = ElementTree.Element("testsuites", {"name": "harness", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": printable(f"scenarios with {run.syncer}"), **counts})
    for result in run.scenarios:
        _add_case(suite, result)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_case(suite: ElementTree.Element, result: ScenarioResult) -> None:
    folder, _, _ = result.id.rpartition("/")
    attributes = {
        "classname": printable(folder.replace("/", ".") or "scenarios"),
        "name": printable(result.id),
        "file": printable(result.file),
        "assertions": str(result.checks),
        "time": "0",
    }
    case = ElementTree.SubElement(suite, "testcase", attributes)
    if result.verdict is Verdict.differ:
        first = next(iter(in_order(result)), None)
        message = "books and chain differ" if first is None else printable(first.sentence)
        kind = "differ" if first is None else first.kind.value
        failure = ElementTree.SubElement(case, "failure", {"message": message, "type": kind})
        failure.text = _sentences(result)
    elif result.verdict is Verdict.error:
        text = error_text(result)
        kind = "internal" if result.internal else "error"
        error = ElementTree.SubElement(case, "error", {"message": text.split("\n", 1)[0], "type": kind})
        error.text = "\n" + text + _sentences(result)


def _sentences(result: ScenarioResult) -> str:
    lines = ["", *(f"{label}: {text}" for label, text in diagnosis_lines(result))]
    for found in in_order(result):
        where = "" if found.location is None else printable(f"{found.location.file}:{found.location.line}: ")
        lines.append(where + printable(found.sentence))
        lines.append(f"    {name_text(found)}")
        details = {
            "expected": None if found.expected is None else printable(found.expected),
            "actual": None if found.actual is None else printable(found.actual),
            "gap": gap_text(found),
            "at": place_text(found),
        }
        lines.extend(f"    {label}: {text}" for label, text in details.items() if text is not None)
    return "\n".join(lines) + "\n"
