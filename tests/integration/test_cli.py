"""The command line: selection, exit codes, files written whole, and what is not imported."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from harness import cli
from harness.cli import parse_expression
from tests import runner_stand_in

ROOT = Path(__file__).parents[2]
SCENARIO = """\
title: {title}
tags: [{tags}]
tokens:
  USDC: {{decimals: 6, usd: 1}}
vault: {{kind: erc4626, name: Example Fund, symbol: EXAMPLE, reserve: USDC}}
steps:
  - deposit: {{caller: alice, assets: 500 USDC}}
  - sync:
"""
HEAVY = ("web3", "eth_tester", "eth", "hypothesis", "eth_account", "jinja2")

Write = Callable[..., Path]
Harness = Callable[..., int]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write scenario files into a project of their own, which becomes the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # where syncers are looked for is added to it

    def put(*names: str, title: str = "A first deposit", tags: str = "", text: str = SCENARIO) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.format(title=title, tags=tags) if text is SCENARIO else text, encoding="utf-8")
        return tmp_path

    return put


@pytest.fixture
def harness_(stand_in_runner: object) -> Harness:
    """Run the command line here, with the runner's stand-in; gives the exit code."""

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


def _ids(path: Path = Path("reports/results.json")) -> list[str]:
    return [scenario["id"] for scenario in json.loads(path.read_text(encoding="utf-8"))["scenarios"]]


def _start(*arguments: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """The command line with the stand-in, as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.runner_stand_in", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


# -- selection


def test_all_scenarios_below_the_default_folder_run_in_the_order_of_their_paths(
    write: Write, harness_: Harness
) -> None:
    write("scenarios/b.yml", "scenarios/a.yaml", "scenarios/deep/er/c.yaml")
    write("scenarios/.hidden.yaml", "scenarios/.git/d.yaml", "scenarios/notes.txt", "elsewhere/e.yaml")
    assert harness_("run") == 0
    assert _ids() == ["a.yaml", "b.yml", "deep/er/c.yaml"]


def test_an_id_is_the_path_below_the_folder_given_or_the_name_of_the_file_given(
    write: Write, harness_: Harness, tmp_path: Path
) -> None:
    write("scenarios/a.yaml", "scenarios/deep/c.yaml")
    assert harness_("run", "scenarios/deep/c.yaml", str(tmp_path / "scenarios")) == 0
    assert _ids() == ["c.yaml", "a.yaml"]  # the same file is not run twice
    files = json.loads(Path("reports/results.json").read_text())["scenarios"]
    assert [scenario["file"] for scenario in files] == ["scenarios/deep/c.yaml", "scenarios/a.yaml"]


VARIANTS = """\
title: Chunks leave no seam
tags: [seams]
variants: [{id: chunk-1, chunk: 1}, {id: chunk-2, chunk: 2}]
tokens:
  USDC: {decimals: 6}
vault: {kind: erc4626}
include: _common/flows.yaml
steps:
  - sync: {chunk: $chunk}
"""
FLOWS = "steps:\n  - deposit: {caller: alice, assets: 500 USDC}\n"


def test_each_variant_is_a_scenario_and_what_is_included_is_none(write: Write, harness_: Harness) -> None:
    write("scenarios/x.yaml", text=VARIANTS)
    write("scenarios/_common/flows.yaml", "scenarios/_more.yaml", text=FLOWS)
    assert harness_("run") == 0
    assert _ids() == ["x.yaml::chunk-1", "x.yaml::chunk-2"]
    assert harness_("check") == 0
    assert harness_("run", "-k", "chunk-2") == 0
    assert _ids() == ["x.yaml::chunk-2"]
    assert harness_("run", "--tag", "seams", "scenarios") == 0
    assert _ids() == ["x.yaml::chunk-1", "x.yaml::chunk-2"]


def test_one_variant_can_be_asked_for(write: Write, harness_: Harness, capsys: pytest.CaptureFixture[str]) -> None:
    write("scenarios/x.yaml", text=VARIANTS)
    write("scenarios/_common/flows.yaml", text=FLOWS)
    assert harness_("run", "scenarios/x.yaml::chunk-2") == 0
    assert _ids() == ["x.yaml::chunk-2"]
    assert harness_("run", "scenarios/x.yaml::chunk-2", "scenarios") == 0
    assert _ids() == ["x.yaml::chunk-2", "x.yaml::chunk-1"]
    assert harness_("check", "scenarios/x.yaml::chunk-2", "scenarios") == 0
    assert "1 file, no problems" in capsys.readouterr().out
    assert harness_("run", "scenarios/x.yaml::chunk-3") == 2
    assert "did you mean 'chunk-2'?" in capsys.readouterr().out
    assert harness_("run", "scenarios/y.yaml::chunk-1") == 2


def test_problem_of_one_variant_is_found_by_check_and_run(
    write: Write, harness_: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    write("scenarios/x.yaml", text=VARIANTS.replace("chunk: 2", "chunk: 0"))
    write("scenarios/_common/flows.yaml", text=FLOWS)
    assert harness_("check") == 2
    assert "scenarios/x.yaml:3:58: '0' is out of range ($chunk of line 9)" in capsys.readouterr().out
    assert harness_("run") == 2
    assert _ids() == ["x.yaml"]


def test_files_of_one_id_in_two_folders_go_by_their_whole_path(write: Write, harness_: Harness) -> None:
    write("one/a.yaml", "two/a.yaml", "two/b.yaml")
    assert harness_("run", "one", "two") == 0
    assert _ids() == ["one/a.yaml", "two/a.yaml", "b.yaml"]


@pytest.mark.parametrize("path", [".", "./", "scenarios/.."])
def test_the_current_directory_can_be_given(path: str, write: Write, harness_: Harness) -> None:
    write("scenarios/a.yaml")
    assert harness_("run", path) == 0
    assert _ids() == ["scenarios/a.yaml"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("redeem", ["redeem.yaml"]),
        ("FIRST", ["deposit.yaml"]),
        ("first or redeem", ["deposit.yaml", "redeem.yaml"]),
        ("not (first or redeem)", ["zero.yaml"]),
        ("yaml and not zero", ["deposit.yaml", "redeem.yaml"]),
        ("'leg is' and zero", ["zero.yaml"]),
    ],
)
def test_k_selects_by_id_and_title(expression: str, expected: list[str], write: Write, harness_: Harness) -> None:
    write("scenarios/deposit.yaml", title="The first of them")
    write("scenarios/redeem.yaml", title="Paid in kind")
    write("scenarios/zero.yaml", title="A leg is nought")
    assert harness_("run", "-k", expression) == 0
    assert _ids() == expected


@pytest.mark.parametrize("expression", ["", "and", "a or", "(a", "a)", "a b", "not", "'a", "a and or b", "()"])
def test_an_expression_that_is_none_is_refused(
    expression: str, write: Write, harness_: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    write("scenarios/a.yaml")
    assert harness_("run", "-k", expression) == 2
    assert "-k" in capsys.readouterr().err
    assert not Path("reports").exists()


def test_and_binds_closer_than_or() -> None:
    matches = parse_expression("a or b and c")
    assert (matches("a"), matches("b"), matches("bc")) == (True, False, True)


def test_any_of_several_tags_selects(write: Write, harness_: Harness) -> None:
    write("scenarios/a.yaml", tags="enzyme, case-43")
    write("scenarios/b.yaml", tags="erc4626")
    write("scenarios/c.yaml", tags="enzyme")
    assert harness_("run", "--tag", "case-43", "--tag", "erc4626") == 0
    assert _ids() == ["a.yaml", "b.yaml"]


def test_a_broken_file_is_not_lost_behind_a_tag(write: Write, harness_: Harness) -> None:
    write("scenarios/a.yaml", tags="enzyme")
    write("scenarios/broken.yaml", text="title: [")
    assert harness_("run", "--tag", "enzyme") == 2
    assert _ids() == ["a.yaml", "broken.yaml"]


# -- exit codes


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["fine"], 0),
        (["fine", "differ"], 1),
        (["fine", "differ", "refused"], 2),
        (["differ", "refused", "internal"], 3),
        ([], 4),
    ],
)
def test_the_first_exit_code_that_applies_is_given(
    names: list[str], expected: int, write: Write, harness_: Harness
) -> None:
    write("scenarios/none.txt", *(f"scenarios/{name}.yaml" for name in names))
    assert harness_("run") == expected
    assert len(_ids()) == len(names)


def test_a_broken_file_does_not_stop_the_others(
    write: Write, harness_: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    write("scenarios/a.yaml", "scenarios/c.yaml")
    write("scenarios/b.yaml", text=SCENARIO.format(title="x", tags="").replace("deposit:", "depositt:"))
    assert harness_("run") == 2
    verdicts = [scenario["verdict"] for scenario in json.loads(Path("reports/results.json").read_text())["scenarios"]]
    assert verdicts == ["reconciled", "error", "reconciled"]
    out = capsys.readouterr().out
    assert "scenarios/b.yaml:7:5" in out
    assert "did you mean 'deposit'?" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("missing",),
        ("scenarios/missing.yaml",),
        ("scenarios", "missing"),
        ("notes.txt",),
        ("--jobs", "0"),
        ("--jobs", "two"),
        ("--timeout", "-1"),
        ("--nonsense",),
        ("--syncer", "nobody"),
        ("--syncer", "no_such_module:thing"),
        ("--html", "reports/a", "--junit", "reports/a"),
        ("--html", "reports/timings.json"),
        ("--json", "scenarios"),
        ("--html", "notes.txt/index.html"),
    ],
    ids=" ".join,
)
def test_bad_input_is_said_before_anything_is_run(
    arguments: tuple[str, ...],
    write: Write,
    harness_: Harness,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("scenarios/a.yaml", "notes.txt")
    monkeypatch.setenv(runner_stand_in.CALLS, "calls")
    assert harness_("run", *arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.strip()
    assert "Traceback" not in printed.err
    assert not Path("calls").exists()
    assert not any(Path("reports").glob("*")) if Path("reports").exists() else True


def test_a_missing_path_and_a_wrong_syncer_are_named(
    write: Write, harness_: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    write("scenarios/a.yaml")
    harness_("run", "nowhere")
    assert "nowhere: no such file or folder" in capsys.readouterr().err
    harness_("run", "--syncer", "referense")
    assert "did you mean 'reference'?" in capsys.readouterr().err


def test_a_failure_of_the_harness_is_short_and_says_how_to_see_more(
    write: Write, harness_: Harness, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("scenarios/raises.yaml")
    assert harness_("run") == 3
    err = capsys.readouterr().err
    assert err.startswith("harness failed: RuntimeError: out of order\n")
    assert "HARNESS_DEBUG=1" in err
    assert "Traceback" not in err
    assert not Path("reports/index.html").exists()
    monkeypatch.setenv("HARNESS_DEBUG", "1")
    assert harness_("run") == 3
    assert "Traceback" in capsys.readouterr().err


# -- many at a time


def test_results_keep_the_files_order_whichever_is_done_first(write: Write, harness_: Harness) -> None:
    write("scenarios/a_slow.yaml", "scenarios/b.yaml", "scenarios/c_slow.yaml", "scenarios/d_differ.yaml")
    assert harness_("run", "--jobs", "2") == 1
    assert _ids() == ["a_slow.yaml", "b.yaml", "c_slow.yaml", "d_differ.yaml"]


def test_reports_are_the_same_bytes_however_many_run_at_a_time(write: Write, harness_: Harness) -> None:
    write("scenarios/a_slow.yaml", "scenarios/b.yaml", "scenarios/c_differ.yaml", "scenarios/d_refused.yaml")
    reports = ("index.html", "junit.xml", "results.json")
    harness_("run")
    one = [Path("reports", name).read_bytes() for name in reports]
    harness_("run", "--jobs", "3")
    assert one == [Path("reports", name).read_bytes() for name in reports]


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_fail_fast_ends_with_the_first_failure_in_the_files_order(jobs: str, write: Write, harness_: Harness) -> None:
    write(
        "scenarios/a_slow.yaml", "scenarios/b_slow_differ.yaml", "scenarios/c_differ.yaml", "scenarios/d_forever.yaml"
    )
    started = time.perf_counter()
    assert harness_("run", "--fail-fast", "--jobs", jobs) == 1
    assert time.perf_counter() - started < 20
    assert _ids() == ["a_slow.yaml", "b_slow_differ.yaml"]


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_process_that_dies_takes_no_other_scenario_with_it(jobs: str, write: Write, harness_: Harness) -> None:
    write(
        "scenarios/a_slow.yaml",
        "scenarios/b_dies.yaml",
        "scenarios/c.yaml",
        "scenarios/d_dies.yaml",
        "scenarios/e.yaml",
    )
    assert harness_("run", "--jobs", jobs) == 3
    scenarios = json.loads(Path("reports/results.json").read_text())["scenarios"]
    assert [scenario["verdict"] for scenario in scenarios] == [
        "reconciled",
        "error",
        "reconciled",
        "error",
        "reconciled",
    ]
    assert scenarios[1]["title"] == "A first deposit"


def test_a_process_that_dies_with_anothers_syncer_is_a_break(write: Write, harness_: Harness) -> None:
    write("scenarios/dies.yaml")
    Path("deadly_syncer.py").write_text("def make(target): ...\n")
    assert harness_("run", "--syncer", "deadly_syncer:make") == 1
    file = Path("scenarios/dies.yaml")
    file.write_text("known: {reason: mended soon, until: 2026-12-31, breaks: [{kind: raised}]}\n" + file.read_text())
    assert harness_("run", "--syncer", "deadly_syncer:make", "--today", "2026-12-31") == 0
    (found,) = json.loads(Path("reports/results.json").read_text())["scenarios"]
    assert ["raised"] == [each["kind"] for each in found["known"]["accepted"]]
    assert harness_("run", "--syncer", "deadly_syncer:make", "--today", "2027-01-01") == 1
    del sys.modules["deadly_syncer"]


def test_options_reach_the_runner(write: Write, harness_: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    write("scenarios/a.yaml")
    monkeypatch.setenv(runner_stand_in.CALLS, "calls")
    harness_("run", "--today", "2026-12-31")
    harness_("run", "--no-sweeps", "--timeout", "2.5", "--memory", "64", "--today", "2024-02-29", "scenarios/a.yaml")
    harness_("run", "--timeout", "0", "--memory", "0", "--every-block", "--today", "2026-12-31")
    harness_("run")
    *calls, without_today = Path("calls").read_text().splitlines()
    assert calls == [
        "a.yaml scenarios/a.yaml reference True 60.0 2048 False 2026-12-31",
        "a.yaml scenarios/a.yaml reference False 2.5 64 False 2024-02-29",
        "a.yaml scenarios/a.yaml reference True None None True 2026-12-31",
    ]
    today = date.fromisoformat(without_today.split()[-1])
    assert abs(today - datetime.now(UTC).date()) <= timedelta(days=1)


@pytest.mark.parametrize("day", ["31.12.2026", "2026-02-30", "tomorrow"])
def test_a_day_that_is_none_is_refused(day: str, write: Write, harness_: Harness) -> None:
    write("scenarios/a.yaml")
    assert harness_("run", "--today", day) == 2


def test_an_interrupt_ends_the_run_at_once_without_reports_or_processes(write: Write) -> None:
    folder = write("scenarios/a.yaml", "scenarios/b_forever.yaml", "scenarios/c_forever.yaml")
    process = _start("run", "--jobs", "2", cwd=folder, **{runner_stand_in.CALLS: "calls"})
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (folder / "calls").exists() is False:
        time.sleep(0.05)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: every process of the group
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.strip() == "harness: interrupted; no report was written"
    assert list((folder / "reports").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_reader_that_goes_away_does_not_stop_the_run(write: Write) -> None:
    folder = write(*(f"scenarios/{number:02}.yaml" for number in range(30)), "scenarios/99_differ.yaml")
    process = _start("run", cwd=folder)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert err == ""
    assert len(_ids(folder / "reports/results.json")) == 31


# -- what is written


def test_four_files_are_left_and_agree(write: Write, harness_: Harness) -> None:
    write("scenarios/a.yaml", "scenarios/b_differ.yaml", "scenarios/c_refused.yaml")
    harness_("run", "--html", "out/x/page.html", "--junit", "out/unit.xml", "--json", "out/all.json")
    assert sorted(path.name for path in Path("out").rglob("*")) == [
        "all.json", "page.html", "timings.json", "unit.xml", "x",
    ]  # fmt: skip
    assert not Path("reports").exists()
    assert json.loads(Path("out/all.json").read_text())["summary"] == {"reconciled": 1, "differ": 1, "error": 1}
    suite = ElementTree.parse("out/unit.xml").getroot()
    assert len(suite.findall(".//testcase")) == 3
    assert len(suite.findall(".//failure")) == len(suite.findall(".//error")) == 1
    timings = json.loads(Path("out/timings.json").read_text())
    assert [one["seconds"] for one in timings["scenarios"]] == [0.25] * 3
    assert "0.25" not in Path("out/all.json").read_text()


def test_an_unwritable_folder_is_found_before_anything_is_run(
    write: Write, harness_: Harness, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("scenarios/a.yaml")
    monkeypatch.setenv(runner_stand_in.CALLS, "calls")
    # Root may write anywhere, so a folder without write permission would prove nothing; /proc refuses root, too.
    assert harness_("run", "--html", "/proc/harness/index.html") == 2
    assert "/proc/harness/index.html: cannot be written" in capsys.readouterr().err
    assert not Path("calls").exists()


def test_reports_stay_as_they_were_when_one_cannot_be_written(
    write: Write, harness_: Harness, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("scenarios/a.yaml")
    assert harness_("run") == 0
    before = {path.name: path.read_bytes() for path in Path("reports").iterdir()}
    opened = Path.open

    def full(self: Path, *arguments: object, **rest: object) -> object:
        file = opened(self, *arguments, **rest)  # type: ignore[call-overload]
        if self.name.startswith(".junit.xml"):

            def refuse(text: str) -> int:
                raise OSError(28, "No space left on device")

            file.write = refuse
        return file

    write("scenarios/b.yaml")
    monkeypatch.setattr(Path, "open", full)
    assert harness_("run") == 2
    assert "reports/junit.xml: cannot be written: No space left on device" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in Path("reports").iterdir()}


def test_a_report_keeps_the_link_that_it_is_written_through(write: Write, harness_: Harness) -> None:
    write("scenarios/a.yaml", "kept/index.html")
    Path("reports").mkdir()
    Path("reports/index.html").symlink_to("../kept/index.html")
    assert harness_("run") == 0
    assert Path("reports/index.html").is_symlink()
    assert "<html" in Path("kept/index.html").read_text(encoding="utf-8")


def test_a_pipe_sees_lines_and_no_control_characters(write: Write) -> None:
    folder = write("scenarios/a.yaml", "scenarios/b_differ.yaml", title="Ünïcödé 資金")
    process = _start("run", cwd=folder, PYTHONIOENCODING="ascii", FORCE_COLOR="")
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert "\x1b" not in out
    assert "\r" not in out
    assert out.isascii()
    assert "b_differ.yaml" in out


def test_a_terminal_sees_a_progress_bar_and_the_same_reports(write: Write, harness_: Harness) -> None:
    folder = write("scenarios/a_slow.yaml", "scenarios/b_slow.yaml", "scenarios/c_slow.yaml")
    harness_("run")
    before = Path("reports/results.json").read_bytes()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.runner_stand_in", "run"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"},
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
    )
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # how a terminal says that the other side is gone
        while chunk := os.read(ours, 4096):
            seen += chunk
    os.close(ours)
    assert process.wait(timeout=60) == 0
    assert b"1/3" in seen
    assert b"2/3" in seen
    assert Path("reports/results.json").read_bytes() == before


# -- check and schema


def test_check_prints_every_problem_of_every_file(
    write: Write, harness_: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    write("scenarios/a.yaml")
    broken = SCENARIO.format(title="x", tags="").replace("deposit:", "depositt:").replace("decimals", "decimal")
    write("scenarios/b.yaml", "scenarios/c.yaml", text=broken)
    assert harness_("check") == 2
    out = capsys.readouterr().out
    for file in ("b", "c"):
        assert f"scenarios/{file}.yaml:4:" in out
        assert f"scenarios/{file}.yaml:7:5: " in out
    assert "scenarios/a.yaml" not in out
    assert out.splitlines()[-1].startswith("3 files, ")


def test_check_says_so_when_all_is_well_or_nothing_is_there(
    write: Write, harness_: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    write("scenarios/a.yaml", "empty/notes.txt")
    assert harness_("check") == 0
    assert capsys.readouterr().out == "1 file, no problems\n"
    assert harness_("check", "empty") == 4
    assert harness_("check", "missing") == 2
    assert not Path("reports").exists()


def test_the_schema_beside_the_scenarios_is_the_one_that_is_printed(
    harness_: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness_("schema") == 0
    assert capsys.readouterr().out == (ROOT / "schema/scenario.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [["check", "scenarios"], ["schema"], ["--help"], ["run", "--help"], ["--version"]])
def test_what_needs_no_chain_imports_none(command: list[str], write: Write) -> None:
    folder = write("scenarios/a.yaml")
    code = (
        "import sys\n"
        "from harness.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stderr == "[]\n"
    assert ended.returncode == 0


def test_help_gives_the_exit_codes(harness_: Harness, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness_("run", "--help") == 0
    out = capsys.readouterr().out
    for line in cli.EXIT_CODES.splitlines()[2:]:
        assert " ".join(line.split()) in " ".join(out.split())


def test_a_name_that_is_no_text_is_refused(write: Write) -> None:
    folder = write("scenarios/a.yaml")
    try:
        os.close(os.open(os.fsencode(folder) + b"/scenarios/\xff.yaml", os.O_CREAT | os.O_WRONLY))
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(click.BadParameter, match="not UTF-8"):
        cli.find_files(["scenarios"])


# -- the real runner, in processes of their own

SYNCERS = """\
import os, sys, time


class _Syncer:
    def __init__(self, target): pass
    def initialise(self, view, books): return self.answer(books)
    sync_treasury = sync_interest = correct_accounts = lambda self, view, books, cycle=None: books


class Raises(_Syncer):
    def answer(self, books): raise KeyError("boom")


class Hangs(_Syncer):
    def answer(self, books): time.sleep(60)


class Spins(_Syncer):
    def answer(self, books):
        while True: pass


class NoBooks(_Syncer):
    def answer(self, books): return {"sync": 1}


class Exits(_Syncer):
    def answer(self, books): sys.exit(0)


class Dies(_Syncer):
    def answer(self, books): os._exit(0)


class Interrupts(_Syncer):
    def answer(self, books): raise KeyboardInterrupt
"""


def _real(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_reports_are_the_same_bytes_on_every_machine_and_in_every_folder(write: Write) -> None:
    folder = write("one/scenarios/a.yaml", "another/place/scenarios/a.yaml", title="Ünïcödé 資金")
    one, other = folder / "one", folder / "another/place"
    ended = _real("run", cwd=one, PYTHONHASHSEED="1", TZ="UTC", LANG="C.UTF-8")
    assert (ended.returncode, ended.stderr) == (0, "")
    ended = _real(
        "run", str(other / "scenarios"), "--jobs", "2",
        cwd=other, PYTHONHASHSEED="2", TZ="Asia/Kathmandu", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0",
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    for name in ("index.html", "junit.xml", "results.json"):
        assert (one / "reports" / name).read_bytes() == (other / "reports" / name).read_bytes(), name


@pytest.mark.parametrize("syncer", ["Raises", "Hangs", "Spins", "NoBooks", "Exits", "Dies", "Interrupts"])
def test_a_syncer_that_misbehaves_is_a_break_told_without_a_call_stack(syncer: str, write: Write) -> None:
    folder = write("scenarios/a.yaml")
    (folder / "bad.py").write_text(SYNCERS)
    ended = _real("run", "--syncer", f"bad:{syncer}", "--timeout", "0.5", "--no-sweeps", cwd=folder)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert ended.stderr == ""
    assert "Traceback" not in ended.stdout
    assert "DIFFER" in ended.stdout
