"""The command line: options, files, exit codes; no decisions about vaults.

Nothing heavy is imported here: `check` and `schema` run without web3, py-evm and Hypothesis.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

import harness
from harness.errors import HarnessError, OutputError, ScenarioError
from harness.scenario.files import BETWEEN, SUFFIXES, is_collected, row_id, rows_of
from harness.scenario.loader import load_all

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report.results import RunResult, ScenarioResult

EXIT_CODES = """\b
Exit codes, the first that applies:
  3  the harness itself failed
  2  bad input or set-up: a scenario, an option, a path, a syncer's name
  1  books and chain differ (a syncer that crashes or times out included)
  4  nothing was selected
  0  all reconciled
130  interrupted
"""
CHECK_EXIT_CODES = """\b
Exit codes, the first that applies:
  3  the harness itself failed
  2  a problem in any file, or a path that is not there
  4  nothing was selected
  0  no problem
"""
STRENGTH_EXIT_CODES = """\b
Exit codes, the first that applies:
  3  the harness itself failed
  2  bad input or set-up: a scenario, an option, a path, a syncer's name
  1  a kill rate below --min-kill, a false alarm, or a syncer that differs with no fault around it
  4  nothing was selected
  0  else
130  interrupted
"""
INTERRUPTED = 130
LONGEST_SECONDS = 7 * 86_400
MOST_MIB = 1 << 24
TIMEOUT_SECONDS = 60.0
MEMORY_MIB = 2_048


# -- which files


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """A scenario file, or one variant of it."""

    id: str
    """The path below the folder given, with forward slashes; a file given by itself: its name. A variant's goes on
    with its name, as in ``chunks.yaml::chunk-1``."""
    path: str
    """As it was given, so that editors can open it; relative where it lies below the current directory."""
    root: str | None = None
    """The folder that what it includes must lie below; None: the file's own."""
    variant: str | None = None
    """The one variant that is meant; None: all, or there are none."""


def find_files(paths: Sequence[str]) -> list[Selected]:
    """Find scenario files: those given, and `*.yaml` and `*.yml` at any depth below folders given.

    Returns:
        One entry per file, in the order of ``paths``, each folder's sorted by id; hidden files and folders
        are left out, and those whose name begins with ``_``. Ids are unique: files that would share one go by their
        whole path. A path may name one variant, as in ``chunks.yaml::chunk-1``.

    Raises:
        click.BadParameter: If a path is not there, cannot be read, or has a name that is no text.
    """
    found: dict[tuple[str, str | None], Selected] = {}
    for given in paths:
        for file in _files_of(given):
            found.setdefault((os.path.abspath(file.path), file.variant), file)
    ids = [file.id for file in found.values()]
    return [
        file if ids.count(file.id) == 1 else replace(file, id=row_id(file.path, file.variant))
        for file in found.values()
    ]


def _files_of(given: str) -> list[Selected]:
    path, variant = _shortest(given), None
    if BETWEEN in path and not os.path.exists(path):
        path, _, variant = path.rpartition(BETWEEN)
    if os.path.isdir(path) and variant is None:
        below = sorted(_below(path))
        return [Selected(id=name, path=name if path == "." else f"{path}/{name}", root=path) for name in below]
    if not os.path.exists(path):
        raise click.BadParameter(f"{given}: no such file or folder", param_hint="PATHS")
    if not path.endswith(SUFFIXES):
        raise click.BadParameter(f"{given}: a scenario file ends in {' or '.join(SUFFIXES)}", param_hint="PATHS")
    path = _text(path)
    root = None if os.path.isabs(path) or path.startswith("../") else "."
    return [Selected(id=row_id(os.path.basename(path), variant), path=path, root=root, variant=variant)]


def _below(folder: str) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        raise click.BadParameter(f"{error.filename}: {error.strerror}", param_hint="PATHS") from error

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in files:
            if is_collected([name]):
                yield _text(Path(os.path.relpath(os.path.join(parent, name), folder)).as_posix())


def _shortest(given: str) -> str:
    """Leave a path as given, but for `./` and what stands above the current directory."""
    path = os.path.normpath(given)
    if os.path.isabs(path):
        relative = os.path.relpath(path, os.getcwd())
        if relative != os.pardir and not relative.startswith(os.pardir + os.sep):
            path = relative
    return Path(path).as_posix()


def _text(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        name = path.encode(errors="backslashreplace").decode()
        raise click.BadParameter(f"{name}: the file's name is not UTF-8", param_hint="PATHS") from None
    return path


# -- which of them: -k and --tag

_TOKEN = re.compile(r"\s*(?:(?P<symbol>[()])|'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\"|(?P<word>[^\s()'\"]+))")
Match = Callable[[str], bool]


def parse_expression(text: str) -> Match:
    """Turn ``-k``'s expression into a predicate: words (case does not matter) with and, or, not and brackets.

    Args:
        text: A word matches where it occurs in what is asked about. Quotes keep a phrase, or the
            words ``and``, ``or``, ``not``, together.

    Raises:
        click.BadParameter: If the expression is none.

    >>> matches = parse_expression("deposit and not (zero or 'at par')")
    >>> matches("First deposit"), matches("First deposit at par")
    (True, False)
    """
    tokens = _tokens(text)

    def fail(found: str | None) -> click.BadParameter:
        where = "at the end" if found is None else f"before {found!r}"
        return click.BadParameter(f"{text!r}: something is missing {where}", param_hint="-k")

    def either() -> Match:
        left = both()
        while tokens and tokens[0] == (True, "or"):
            tokens.pop(0)
            left = _either(left, both())
        return left

    def both() -> Match:
        left = one()
        while tokens and tokens[0] == (True, "and"):
            tokens.pop(0)
            left = _both(left, one())
        return left

    def one() -> Match:
        is_operator, found = tokens.pop(0) if tokens else (True, None)
        if found is not None and not is_operator:
            return _contains(found.casefold())
        if found == "not":
            return _opposite(one())
        if found == "(":
            inner = either()
            if not tokens or tokens[0] != (True, ")"):
                raise fail(tokens[0][1] if tokens else None)
            tokens.pop(0)
            return inner
        raise fail(found)

    expression = either()
    if tokens:
        raise fail(tokens[0][1])
    return expression


def _tokens(text: str) -> list[tuple[bool, str]]:
    """Cut an expression up: (is it an operator, text)."""
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise click.BadParameter(f"{text!r}: a quote is never closed", param_hint="-k")
        at = match.end()
        if match["word"] is not None:
            word = match["word"].lower()
            tokens.append((word in ("and", "or", "not"), word))
        elif match["symbol"] is not None:
            tokens.append((True, match["symbol"]))
        else:
            tokens.append((False, match["single"] if match["single"] is not None else match["double"]))
    return tokens


def _contains(word: str) -> Match:
    return lambda text: word in text.casefold()


def _opposite(inner: Match) -> Match:
    return lambda text: not inner(text)


def _both(left: Match, right: Match) -> Match:
    return lambda text: left(text) and right(text)


def _either(left: Match, right: Match) -> Match:
    return lambda text: left(text) or right(text)


def select(files: Sequence[Selected], expression: str | None, tags: Sequence[str]) -> list[Selected]:
    """Keep the scenarios that ``-k`` and ``--tag`` ask for (any of the tags), one for each variant of a file.

    A file that cannot be read has no title and no tags: ``-k`` goes by its id, and ``--tag`` keeps it, for what
    cannot be shown not to be meant must not go unreported.
    """
    matches = parse_expression(expression) if expression is not None else None
    kept: dict[tuple[str, str | None], Selected] = {}
    for file in files:
        for variant, scenario in rows_of(file.path, root=file.root, variant=file.variant):
            row = file if file.variant is not None else replace(file, id=row_id(file.id, variant), variant=variant)
            if scenario is None:
                text, tagged = row.id, True
            else:
                text, tagged = f"{row.id}\n{scenario.title}", not tags or bool(set(tags) & set(scenario.tags))
            if tagged and (matches is None or matches(text)):
                kept.setdefault((os.path.abspath(row.path), row.variant), row)
    return list(kept.values())


# -- running them


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How each scenario is run."""

    syncer: str
    sweeps: bool
    timeout: float | None
    memory_mib: int | None
    every_block: bool
    strict_nodes: bool
    today: date


def run_all(files: Sequence[Selected], plan: Plan, jobs: int) -> Generator[ScenarioResult]:
    """Run scenarios in processes of their own, ``jobs`` at a time; results in the files' order.

    A process that dies takes no other scenario with it: what it had been given, or was waiting with it, is
    run again one by one, so that the guilty one is known.
    """
    if files:
        importlib.import_module("harness.runner")  # the chain's imports, paid once, before the processes part
    left = list(files)
    width = min(jobs, max(1, len(left)))
    while left:
        try:
            with contextlib.closing(_run_in_pool(tuple(left), plan, width)) as results:
                for result in results:
                    del left[0]
                    yield result
        except BrokenProcessPool:
            if width == 1:
                file = left.pop(0)
                yield _lost(file, plan, f"The process that ran {file.id} ended early: a crash, an exit, or a kill.")
            # One at a time from here on: there is a killer about, maybe several.
            width = 1


def _run_in_pool(files: Sequence[Selected], plan: Plan, width: int) -> Generator[ScenarioResult]:
    """Yield results in order. Nobody who stops asking has more than ``width`` scenarios running for nothing."""
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    _flush()  # what is buffered would be written once by each process
    pool = ProcessPoolExecutor(width, mp_context=context, initializer=_leave_interrupts_to_parent)
    try:
        waiting: list[Future[ScenarioResult]] = [pool.submit(_run_one, file, plan) for file in files]
        for future in waiting:
            yield future.result()
    except BaseException:
        # Somebody stopped asking (a failure with --fail-fast), or interrupted. With its processes gone the pool's
        # thread ends by itself, and is waited for below: at the interpreter's exit it would trip over its own pipe.
        for process in multiprocessing.active_children():
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_one(file: Selected, plan: Plan) -> ScenarioResult:
    from harness.runner import run_file

    try:
        return run_file(
            file.path,
            id=file.id,
            file=file.path,
            root=file.root,
            variant=file.variant,
            syncer=plan.syncer,
            sweeps=plan.sweeps,
            timeout=plan.timeout,
            memory_mib=plan.memory_mib,
            every_block=plan.every_block,
            strict_nodes=plan.strict_nodes,
            today=plan.today,
        )
    except KeyboardInterrupt:  # nobody's at the keyboard: those are left to the parent
        return _lost(file, plan, f"Something that ran in {file.id} raised KeyboardInterrupt.")


def _lost(file: Selected, plan: Plan, sentence: str) -> ScenarioResult:
    """Say that a scenario was not seen to its end: another's syncer is the likelier culprit, where there is one."""
    from harness.reconcile.diff import Break, BreakKind
    from harness.reconcile.rules import accept_known
    from harness.report.results import ScenarioResult, Verdict
    from harness.syncers.find import DEFAULT

    ours = plan.syncer == DEFAULT
    scenario = rows_of(file.path, root=file.root, variant=file.variant)[0][1]
    known = None if scenario is None or ours else scenario.known
    judged = accept_known(() if ours else (Break(kind=BreakKind.raised, sentence=sentence),), known, plan.today)
    return ScenarioResult(
        id=file.id,
        file=file.path,
        title=file.id if scenario is None else scenario.title,
        tags=() if scenario is None else scenario.tags,
        verdict=Verdict.error if ours else Verdict.differ if judged.breaks else Verdict.reconciled,
        error=sentence if ours else None,
        problems=(),
        internal=ours,
        breaks=judged.breaks,
        sync_points=(),
        timeline=(),
        source="" if scenario is None else scenario.text,
        sweeps=(),
        checks=0,
        seconds=0.0,
        known=known,
        accepted=judged.accepted,
    )


# -- what it writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Where the reports go."""

    html: str
    junit: str
    json: str

    @property
    def timings(self) -> str:
        """Beside the JSON: durations are in no other file."""
        return os.path.join(os.path.dirname(self.json), "timings.json")


def prepare(outputs: Outputs, inputs: Iterable[str] = ()) -> None:
    """Make the reports' folders, and see that each report can be written, before anything is run.

    Raises:
        OutputError: If one cannot, if two would be the same file, or if one is an input.
    """
    prepare_files(
        {"--html": outputs.html, "--junit": outputs.junit, "--json": outputs.json, "timings": outputs.timings}, inputs
    )


def prepare_files(options: Mapping[str, str], inputs: Iterable[str] = ()) -> None:
    """See that each file can be written; they are given by the option that names each.

    Raises:
        OutputError: If one cannot, if two would be the same file, or if one is an input.
    """
    read = {os.path.realpath(path) for path in inputs}
    for option, path in options.items():
        if os.path.realpath(path) in read:
            raise OutputError(f"{path}: {option} would overwrite a scenario")
    taken: dict[str, str] = {}
    for option, path in options.items():
        other = taken.setdefault(os.path.realpath(path), option)
        if other != option:
            raise OutputError(f"{path}: {other} and {option} are the same file")
        if os.path.isdir(path):
            raise OutputError(f"{path}: cannot be written: it is a folder")
        draft = _draft(path)
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with draft.open("x", encoding="utf-8"):
                pass
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()


def write_reports(outputs: Outputs, run: RunResult, seconds: float) -> None:
    """Write all reports, each whole or not at all; the old ones stay until all new ones are on disk.

    Raises:
        OutputError: If one cannot be written.
    """
    from harness.report.html import to_html
    from harness.report.junit import to_junit
    from harness.report.results import to_json

    write_files(
        {
            outputs.json: to_json(run),
            outputs.timings: _timings(run, seconds),
            outputs.junit: to_junit(run),
            outputs.html: to_html(run),
        }
    )


def write_files(texts: Mapping[str, str]) -> None:
    """Write texts to files, by path: each whole or not at all; the old ones stay until all new ones are on disk.

    Raises:
        OutputError: If one cannot be written.
    """
    drafts = {path: _draft(path) for path in texts}
    path = ""
    try:
        for path, text in texts.items():
            with contextlib.suppress(FileNotFoundError):
                drafts[path].unlink()
            with drafts[path].open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
        for path, draft in drafts.items():
            draft.replace(os.path.realpath(path))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        for draft in drafts.values():
            with contextlib.suppress(OSError):
                draft.unlink()


def _draft(path: str) -> Path:
    target = Path(os.path.realpath(path))
    return target.with_name(f".{target.name}.{os.getpid()}.draft")


def _timings(run: RunResult, seconds: float) -> str:
    scenarios = [{"id": result.id, "seconds": round(result.seconds, 6)} for result in run.scenarios]
    return json.dumps({"schema": 1, "seconds": round(seconds, 6), "scenarios": scenarios}, indent=2) + "\n"


class _Output(io.TextIOBase):
    """Standard output that outlives its reader: after a broken pipe, what is said goes nowhere, and the run goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._unbroken():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._unbroken():
            self._stream.flush()

    @contextlib.contextmanager
    def _unbroken(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # What is buffered is tried again, and flushed once more as the interpreter ends: give it a place to go.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


# -- the commands


def _a_number(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse NaN, which lies in no range and outside of none."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("not a number")
    return value


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="With HARNESS_DEBUG=1 in the environment, a failure of the harness shows its traceback.",
)
@click.version_option(harness.__version__, prog_name="harness")
def cli() -> None:
    """Prove that a vault's off-chain books equal the chain."""


@cli.command("run", epilog=EXIT_CODES)
@click.argument("paths", nargs=-1, metavar="[PATHS]...")
@click.option(
    "-k", "expression", metavar="EXPR", help="Only scenarios whose id or title matches: words, and, or, not, brackets."
)
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only scenarios with this tag; several: any of them.")
@click.option("--syncer", default="reference", show_default=True, metavar="NAME", help="NAME, or module:attribute.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Scenarios run at a time.")
@click.option("--fail-fast", is_flag=True, help="Stop after the first scenario that is not reconciled.")
@click.option("--no-sweeps", is_flag=True, help="Do not repeat each scenario's syncs in other ways.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, max=LONGEST_SECONDS),
    callback=_a_number,
    default=TIMEOUT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="For each operation of a syncer; 0 sets no limit.",
)
@click.option(
    "--memory",
    type=click.IntRange(min=0, max=MOST_MIB),
    default=MEMORY_MIB,
    show_default=True,
    metavar="MIB",
    help="How much more memory each operation may take, on Linux; 0 sets no limit.",
)
@click.option("--every-block", is_flag=True, help="Judge the chain's own laws at every block, not at syncs alone.")
@click.option(
    "--strict-nodes",
    is_flag=True,
    help="Count books that come out silently wrong behind a misbehaving node as a break; else a table tells of them.",
)
@click.option(
    "--today",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="The day that `known: until` is held against, such as 2026-12-31.  [default: today's, in UTC]",
)
@click.option("--html", default="reports/index.html", show_default=True, metavar="FILE", help="The report for people.")
@click.option("--junit", default="reports/junit.xml", show_default=True, metavar="FILE", help="The report for CI.")
@click.option(
    "--json",
    "json_file",
    default="reports/results.json",
    show_default=True,
    metavar="FILE",
    help="The report for programs; timings.json goes beside it.",
)
def run_command(
    paths: tuple[str, ...],
    expression: str | None,
    tags: tuple[str, ...],
    syncer: str,
    jobs: int,
    fail_fast: bool,
    no_sweeps: bool,
    timeout: float,
    memory: int,
    every_block: bool,
    strict_nodes: bool,
    today: datetime | None,
    html: str,
    junit: str,
    json_file: str,
) -> int:
    """Play scenarios, sync them, and reconcile books and chain.

    PATHS are scenario files, or folders of them at any depth; `scenarios` if none is given.
    """
    outputs = Outputs(html=html, junit=junit, json=json_file)
    files = select(find_files(paths or ("scenarios",)), expression, tags)
    _check_syncer(syncer)
    prepare(outputs, [file.path for file in files])
    plan = Plan(
        syncer=syncer,
        sweeps=not no_sweeps,
        timeout=timeout or None,
        memory_mib=memory or None,
        every_block=every_block,
        strict_nodes=strict_nodes,
        today=(today or datetime.now(UTC)).date(),
    )
    started = time.perf_counter()
    results = _run_and_show(files, plan, jobs, fail_fast)
    return _report(results, syncer, outputs, time.perf_counter() - started)


def _check_syncer(name: str) -> None:
    from harness.syncers.find import find_syncer

    find_syncer(name)


def _run_and_show(files: Sequence[Selected], plan: Plan, jobs: int, fail_fast: bool) -> list[ScenarioResult]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from harness.report.results import Verdict
    from harness.report.terminal import print_scenario

    console = _console()
    width = max((len(file.id) for file in files), default=0)
    results: list[ScenarioResult] = []
    with contextlib.closing(run_all(files, plan, jobs)) as incoming:
        first = next(incoming, None)  # the processes part before the bar's thread begins
        bar = Progress(
            TextColumn("{task.fields[doing]}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        with bar:
            task = bar.add_task("", total=len(files), doing="scenarios")
            while first is not None:
                results.append(first)
                print_scenario(console, first, width=width)
                bar.advance(task)
                if fail_fast and first.verdict is not Verdict.reconciled:
                    break
                first = next(incoming, None)
    return results


def _report(results: Sequence[ScenarioResult], syncer: str, outputs: Outputs, seconds: float) -> int:
    from harness.report.results import RunResult, exit_code
    from harness.report.terminal import print_slowest, print_summary

    run = RunResult(syncer=syncer, scenarios=tuple(results))
    write_reports(outputs, run, seconds)
    console = _console()
    print_slowest(console, results)
    print_summary(console, run)
    print(f"report: {outputs.html}")
    return exit_code(results)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


@cli.command("check", epilog=CHECK_EXIT_CODES)
@click.argument("paths", nargs=-1, metavar="[PATHS]...")
def check_command(paths: tuple[str, ...]) -> int:
    """Read scenario files and print every problem in them; no chain is started.

    PATHS are scenario files, or folders of them at any depth; `scenarios` if none is given.
    """
    from harness.report.results import printable

    files = list({os.path.abspath(file.path): file for file in find_files(paths or ("scenarios",))}.values())
    problems = 0
    for file in files:
        try:
            load_all(file.path, root=file.root)
        except ScenarioError as error:
            problems += len(error.problems)
            print(printable(str(error)))
    if not files:
        click.echo("nothing to check: no .yaml or .yml file there", err=True)
        return 4
    counts = f"{len(files)} file{'s' * (len(files) != 1)}, {problems or 'no'} problem{'s' * (problems != 1)}"
    print(counts)
    return 2 if problems else 0


@cli.command("schema")
def schema_command() -> int:
    """Print the JSON Schema of scenario files, for editors."""
    from harness.scenario.schema import json_schema

    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0


@cli.command("strength", epilog=STRENGTH_EXIT_CODES)
@click.argument("paths", nargs=-1, metavar="[PATHS]...")
@click.option(
    "-k", "expression", metavar="EXPR", help="Only scenarios whose id or title matches: words, and, or, not, brackets."
)
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only scenarios with this tag; several: any of them.")
@click.option("--syncer", metavar="NAME", help="Put faults around this syncer, instead of running broken ones.")
@click.option(
    "--min-kill",
    type=click.FloatRange(min=0, max=100),
    callback=_a_number,
    metavar="PERCENT",
    help="The least kill rate that will do; a lower one exits with 1.",
)
@click.option(
    "--with-expect", is_flag=True, help="Leave what scenarios expect in them; else ledger and laws judge alone."
)
@click.option(
    "--full",
    is_flag=True,
    help="Try every broken syncer in every scenario, not only until one catches it, and sweep those that are right.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Scenarios tried at a time.  [default: one per processor]")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, max=LONGEST_SECONDS),
    callback=_a_number,
    default=TIMEOUT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="For each operation of a syncer; 0 sets no limit.",
)
@click.option("--html", default="reports/strength.html", show_default=True, metavar="FILE", help="The kill matrix.")
@click.option(
    "--json",
    "json_file",
    default="reports/strength.json",
    show_default=True,
    metavar="FILE",
    help="The same for programs.",
)
def strength_command(
    paths: tuple[str, ...],
    expression: str | None,
    tags: tuple[str, ...],
    syncer: str | None,
    min_kill: float | None,
    with_expect: bool,
    full: bool,
    jobs: int | None,
    timeout: float,
    html: str,
    json_file: str,
) -> int:
    """Tell how strong scenarios are: which of many wrong syncers they catch.

    Every broken syncer is run over scenarios until one catches it; with --syncer, faults are put around one of yours.
    PATHS are scenario files, or folders of them at any depth; `scenarios` if none is given.
    """
    from harness.report.matrix import exit_code, print_strength, to_html, to_json
    from harness.strength import File, Plan, measure

    files = select(find_files(paths or ("scenarios",)), expression, tags)
    prepare_files({"--html": html, "--json": json_file}, [file.path for file in files])
    plan = Plan(syncer=syncer, with_expect=with_expect, timeout=timeout or None, full=full)
    chosen = [File(id=file.id, path=file.path, root=file.root, variant=file.variant) for file in files]
    console = _console()
    with _bar(console) as progress:
        found = measure(chosen, plan, jobs=jobs or _processors(), progress=progress)
    write_files({json_file: to_json(found), html: to_html(found)})
    print_strength(console, found)
    print(f"report: {html}")
    return exit_code(found, None if min_kill is None else Fraction(str(min_kill)) / 100)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _bar(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar that has no thread of its own, for processes are started while it stands there."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        auto_refresh=False,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("scenarios", total=None)

        def draw(done: int, total: int, what: str) -> None:
            bar.update(task, description=what, completed=done, total=total, refresh=True)

        yield draw


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know fewer characters than a scenario
    with contextlib.redirect_stdout(_Output(sys.stdout)):
        code = _exit_code(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    sys.exit(code)


def _exit_code(arguments: list[str]) -> int:
    debug = os.environ.get("HARNESS_DEBUG", "") not in ("", "0")
    try:
        code = cli.main(arguments, prog_name="harness", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _interrupted()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except HarnessError as error:
        click.echo(f"harness: {error}", err=True)
        return 2
    except Exception as error:  # noqa: BLE001 - the last line of defence: short, and with its own exit code
        if debug:
            traceback.print_exc()
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        click.echo(f"harness failed: {said}", err=True)
        if not debug:
            click.echo("    the same command with HARNESS_DEBUG=1 shows where", err=True)
        return 3
    return code if isinstance(code, int) else 0


def _interrupted() -> int:
    click.echo("harness: interrupted; no report was written", err=True)
    return INTERRUPTED
