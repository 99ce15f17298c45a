"""All reports say the same: one run, four drawings, and where one could differ a test looks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from harness.report.html import to_html
from harness.report.junit import to_junit
from harness.report.results import RunResult, Verdict, printable, to_json, usd
from harness.report.terminal import render_summary
from tests.report_sample import calm_run, large_run, redemption, sample_run
from tests.test_report_html import Page

RUNS = pytest.mark.parametrize("run", [sample_run(), calm_run(), large_run(30), RunResult(syncer="x", scenarios=())])


def _squeezed(text: str) -> str:
    """Without white space, which each drawing lays out as it likes."""
    return re.sub(r"[\s|]+", "", text)


@RUNS
def test_counts_agree(run: RunResult) -> None:
    summary = json.loads(to_json(run))["summary"]
    suite = ElementTree.fromstring(to_junit(run).encode()).find("testsuite")
    assert suite is not None
    page = Page(to_html(run))
    last = render_summary(run).rstrip("\n").rsplit("\n", 1)[-1]
    differ, errors, reconciled = re.findall(r"([\d,]+) (?:differ|errors?|reconciled)", last)
    for verdict, terminal, junit in (
        (Verdict.differ, differ, int(suite.attrib["failures"])),
        (Verdict.error, errors, int(suite.attrib["errors"])),
        (Verdict.reconciled, reconciled, len([case for case in suite if not len(case)])),
    ):
        drawn = page.all("details", **{"data-verdict": verdict.value})
        assert summary[verdict.value] == int(terminal) == junit == len(drawn) == run.count(verdict)
    assert sum(summary.values()) == int(suite.attrib["tests"]) == len(run.scenarios)
    assert last in "".join(page.text)


@RUNS
def test_sentences_and_figures_agree(run: RunResult) -> None:
    document = json.loads(to_json(run))
    drawings = {
        "junit": "".join(ElementTree.fromstring(to_junit(run).encode()).itertext()),
        "html": "".join(Page(to_html(run)).text),
        "terminal": render_summary(run),
    }
    for name, text in drawings.items():
        squeezed = _squeezed(text)
        for scenario in document["scenarios"]:
            for found in scenario["breaks"]:
                worth = None if found["gap_usd"] is None else usd(found["gap_usd"], signed=True)
                raw = None if found["gap_raw"] is None else f"{int(found['gap_raw']):+d} raw"
                said = [
                    found[key] for key in ("sentence", "expected", "actual", "gap", "transaction", "cause", "sweep")
                ]
                for part in (*said, worth, raw):
                    assert part is None or _squeezed(printable(part)) in squeezed, (name, part)


@RUNS
def test_reasons_of_errors_agree(run: RunResult) -> None:
    for scenario in json.loads(to_json(run))["scenarios"]:
        if scenario["verdict"] == "error":
            messages = [problem["message"] for problem in scenario["problems"]] or [scenario["error"]]
            for message in messages:
                for text in (to_junit(run), "".join(Page(to_html(run)).text), render_summary(run)):
                    assert _squeezed(message) in _squeezed(text)


def test_a_wrong_figure_would_be_seen() -> None:
    run = RunResult(syncer="x", scenarios=(redemption(),))
    page = _squeezed("".join(Page(to_html(run)).text))
    assert _squeezed("+400000000 raw") in page
    assert _squeezed("+400000001 raw") not in page


PROGRAM = """
import hashlib, sys
from tests.report_sample import goldens
for name, text in goldens().items():
    print(name, hashlib.sha256(text.encode()).hexdigest())
"""


def test_same_bytes_in_any_surroundings(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = os.fspath(__import__("pathlib").Path(__file__).parent.parent)
    outputs = set()
    for seed, zone, language in (("0", "UTC", "C"), ("1234", "Asia/Kathmandu", "tr_TR.UTF-8")):
        environment = {
            "PYTHONHASHSEED": seed,
            "TZ": zone,
            "LANG": language,
            "PYTHONPATH": root,
            "PATH": os.environ["PATH"],
        }
        outputs.add(
            subprocess.run(
                [sys.executable, "-c", PROGRAM],
                env=environment,
                cwd=tmp_path_factory.mktemp("folder"),
                check=True,
                capture_output=True,
            ).stdout
        )
    assert len(outputs) == 1
