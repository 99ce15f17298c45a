"""What stands around a syncer's call: it stops what is too long or too big, hears what is said, and leaves no trace."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from harness.books import Books
from harness.errors import SyncRefused
from harness.guard import OUTPUT_KEPT_BYTES, OutOfTime, captured_output, deadline, foreign_zone, memory_limit
from harness.report.results import ScenarioResult, Verdict
from harness.runner import run_scenario
from harness.scenario.loader import loads
from harness.syncers.protocol import ChainView
from harness.syncers.reference import ReferenceSyncer

SCENARIO = loads(
    "tokens: {USDC: {decimals: 6}}\nvault: {kind: enzyme}\nsteps:\n"
    "  - deposit: {caller: alice, assets: 100}\n  - sync:\n  - sync:\n",
    "x.yaml",
)
Sync = Callable[[ReferenceSyncer, ChainView, Books, datetime], Any]


def run(sync: Sync, **options: Any) -> ScenarioResult:
    class Odd(ReferenceSyncer):
        def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Any:
            return sync(self, view, books, cycle)

    return run_scenario(SCENARIO, Odd, id="x", **({"sweeps": False} | options))


def kinds(result: ScenarioResult) -> list[str]:
    return [broken.kind.value for broken in result.breaks]


def honest(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
    return ReferenceSyncer.sync_treasury(self, view, books, cycle)


# -- time


def spin() -> None:
    while True:
        pass


def sleep() -> None:
    time.sleep(60)


def swallow() -> None:
    while True:
        with contextlib.suppress(Exception):
            time.sleep(60)


@pytest.mark.parametrize("hang", [spin, sleep, swallow])
def test_a_deadline_is_kept_within_a_tenth(hang: Callable[[], None]) -> None:
    took = []
    for _ in range(3):  # the best of three: others use the machine, too
        began = time.perf_counter()
        with pytest.raises(OutOfTime), deadline(0.5):
            hang()
        took.append((time.perf_counter() - began) / 0.5)
        if took[-1] <= 1.1:
            break
    assert 1 <= min(took) <= 1.1


def test_what_is_done_in_time_is_not_stopped_afterwards() -> None:
    with deadline(0.05):
        pass
    time.sleep(0.1)
    with deadline(None):
        pass


def test_a_deadline_elsewhere_than_in_the_main_thread_is_none() -> None:
    done: list[bool] = []

    def inside() -> None:
        with deadline(0.01), memory_limit(1), captured_output() as output:
            time.sleep(0.05)
            done.append(output.text is None)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert [True] == done


# -- memory


needs_limits = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="address space is not told here")


@needs_limits
def test_more_memory_than_allowed_is_an_error_and_the_limit_ends_with_the_call() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError), memory_limit(64):
        bytearray(128 << 20)
    with memory_limit(256):
        bytearray(128 << 20)
    assert before == resource.getrlimit(resource.RLIMIT_AS)
    bytearray(512 << 20)


@needs_limits
def test_a_limit_that_stands_already_is_not_widened() -> None:
    text = (
        "import resource\n"
        "from harness.guard import memory_limit\n"
        "soft = 4 << 30\n"
        "resource.setrlimit(resource.RLIMIT_AS, (soft, resource.RLIM_INFINITY))\n"
        "with memory_limit(1 << 20):\n"
        "    assert resource.getrlimit(resource.RLIMIT_AS)[0] == soft\n"
    )
    assert 0 == subprocess.run([sys.executable, "-c", text], check=False).returncode


@needs_limits
def test_a_syncer_that_eats_memory_has_a_break_and_is_asked_no_more() -> None:
    calls = []

    def eats(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        calls.append(bytearray(512 << 20))
        return honest(self, view, books, cycle)

    result = run(eats, memory_mib=128)
    assert ["memory"] == kinds(result)
    assert "took too much memory in sync at block 3" in result.breaks[0].sentence
    assert "within 128 MiB more than before" in result.breaks[0].sentence
    assert 2 == len(result.sync_points)  # initialised, and asked once
    assert Verdict.reconciled is run(eats, memory_mib=None).verdict


# -- output


def test_what_is_printed_is_heard_and_goes_on_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with captured_output() as output:
        print("hello", end="")
        sys.stdout.buffer.write(b" there\xff")
    assert "hello there\ufffd" == output.text
    assert ("", "hello there\ufffd") == capsys.readouterr()
    with captured_output() as output:
        print("to stderr", file=sys.stderr)
    assert (None, 0) == (output.text, output.size)


def test_what_goes_past_python_is_heard_too(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_output() as output:
        os.write(1, b"raw ")
        subprocess.run([sys.executable, "-c", "print('child', end='')"], check=True)
    assert "raw child" == output.text
    with captured_output() as output:
        pass
    assert output.text is None
    os.write(1, b"afterwards")
    assert "afterwards" == capfd.readouterr().out


def test_a_flood_is_counted_and_only_its_beginning_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with captured_output() as output:
        for _ in range(1_000):
            print("x" * 999)
        os.write(1, b"y" * 5_000)
    assert 1_005_000 == output.size
    assert OUTPUT_KEPT_BYTES == len(output.text or "")
    assert len(capsys.readouterr().err) < 70_000


def test_a_syncer_that_closes_stdout_harms_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    def closes(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        sys.stdout.close()
        return honest(self, view, books, cycle)

    assert Verdict.reconciled is run(closes).verdict
    print("still there")
    assert "still there\n" == capsys.readouterr().out


def test_a_syncer_that_writes_to_stdout_has_a_break_of_its_own_once() -> None:
    def chats(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        print(f"synced to {view.end_block}")
        return honest(self, view, books, cycle)

    result = run(chats, sweeps=True)
    assert ["wrote_output"] == kinds(result)
    assert "The syncer wrote to stdout in sync at block 3: 'synced to 3'." == result.breaks[0].sentence


# -- the books that are given


def in_place(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
    after = honest(self, view, books, cycle)
    books.sync, books.portfolio, books.block_hashes = after.sync, after.portfolio, after.block_hashes
    return books


def beside(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
    after = honest(self, view, books, cycle)
    books.sync.treasury.last_block_scanned = 1
    return after


def then_refuses(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
    books.sync.treasury.last_block_scanned = view.end_block
    raise SyncRefused("not today")


def test_books_may_be_changed_in_place_if_they_are_returned() -> None:
    assert Verdict.reconciled is run(in_place, sweeps=True).verdict


def test_books_that_are_given_and_not_returned_stay_as_they_were() -> None:
    result = run(beside)
    assert ["changed_books"] == kinds(result)
    assert (
        "changed the books that it was given in sync at block 3, and then returned others" in result.breaks[0].sentence
    )


def test_who_refuses_leaves_the_books_as_they_were() -> None:
    result = run(then_refuses)
    assert {"refused", "changed_books", "law"} == set(kinds(result))  # elsewhere it does the same
    told = next(broken.sentence for broken in result.breaks if broken.kind.value == "changed_books")
    assert "and then refused" in told


# -- zone


def test_the_zone_is_another_inside_and_the_same_after() -> None:
    before = os.environ.get("TZ"), time.localtime(0).tm_hour
    with foreign_zone():
        assert 9 == time.localtime(0).tm_hour
        os.environ.pop("TZ")
    assert before == (os.environ.get("TZ"), time.localtime(0).tm_hour)
