"""Syncers that misbehave: each ends in a break of its kind, told without a traceback, and harms nobody else."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from web3 import Web3

from harness.books import Books
from harness.errors import BooksError, SyncRefused
from harness.judging import judge
from harness.reconcile.diff import Break
from harness.report.results import ScenarioResult, Verdict
from harness.runner import run_scenario
from harness.scenario.loader import loads
from harness.session import CLOCK_START, PLAIN, Point, Session, Variation
from harness.syncers.protocol import ChainView, Target
from harness.syncers.reference import ReferenceSyncer
from harness.world.acts import SyncAct
from harness.world.play import play

HEADER = """\
title: Two deposits
tokens: {USDC: {decimals: 6, usd: 1}}
vault: {kind: enzyme}
steps:
"""
PLAIN_STEPS = """\
  - deposit: {caller: alice, assets: 100}
  - sync:
  - deposit: {caller: bob, assets: 50}
  - sync:
"""
REFUSED_STEPS = """\
  - deposit: {caller: alice, assets: 100}
  - sync:
  - restart: {chain_id: 2}
  - sync:
    refused: chain
"""
SCENARIO = loads(HEADER + PLAIN_STEPS, "tiny.yaml")
REFUSING = loads(HEADER + REFUSED_STEPS, "refusing.yaml")

Sync = Callable[[ReferenceSyncer, ChainView, Books, datetime], Any]


def syncer_that(sync: Sync) -> type[ReferenceSyncer]:
    """The reference with another `sync_treasury`."""

    class Odd(ReferenceSyncer):
        def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Any:
            return sync(self, view, books, cycle)

    return Odd


def run(factory: Callable[[Target], Any], **options: Any) -> ScenarioResult:
    return run_scenario(options.pop("scenario", SCENARIO), factory, id="tiny", **({"sweeps": False} | options))


def honest(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
    return ReferenceSyncer.sync_treasury(self, view, books, cycle)


def only_break(result: ScenarioResult) -> Break:
    assert Verdict.differ is result.verdict
    assert result.error is None
    for broken in result.breaks:
        assert "Traceback" not in broken.sentence
        assert "/" not in broken.sentence.replace("n/a", ""), "no path is told"
    return result.breaks[0]


def test_the_reference_reconciles_it() -> None:
    assert Verdict.reconciled is run(ReferenceSyncer, sweeps=True).verdict


# -- raising


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class UnspeakableRefusal(SyncRefused):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raises(error: BaseException) -> Sync:
    def sync(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Any:
        raise error

    return sync


def recurses(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Any:
    return recurses(self, view, books, cycle)


def recurses_through_c(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Any:
    return sorted([cycle], key=lambda one: recurses_through_c(self, view, books, one))


def exits(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Any:
    sys.exit(3)


@pytest.mark.parametrize(
    ("sync", "told"),
    [
        (raises(ValueError("out of order")), "ValueError: out of order"),
        (raises(KeyError()), "KeyError"),
        (raises(Unspeakable()), "Unspeakable"),
        (raises(GeneratorExit()), "GeneratorExit"),
        (exits, "SystemExit: 3"),
        (recurses, "RecursionError"),
        (recurses_through_c, "RecursionError"),
    ],
)
def test_a_syncer_that_raises_has_a_break_for_it(sync: Sync, told: str) -> None:
    result = run(syncer_that(sync))
    broken = only_break(result)
    assert "raised" == broken.kind
    assert told in (broken.actual or "")
    assert "sync at block 3" in broken.sentence
    assert 6 == (broken.location and broken.location.line)
    assert (result.breaks, result.sync_points) == (run(syncer_that(sync)).breaks, result.sync_points)


def test_a_verb_that_is_not_there_is_an_error_of_the_syncer() -> None:
    class Half:
        def __init__(self, target: Target) -> None:
            self.inner = ReferenceSyncer(target)

        def initialise(self, view: ChainView, books: Books) -> Books:
            return self.inner.initialise(view, books)

    broken = only_break(run(Half))
    assert "raised" == broken.kind
    assert "sync_treasury" in (broken.actual or "")


def test_a_syncer_that_cannot_be_made_has_a_break_for_it() -> None:
    def factory(target: Target) -> Any:
        raise LookupError("no configuration")

    broken = only_break(run(factory))
    assert ("raised", "initialise") == (broken.kind, broken.field)
    assert "LookupError: no configuration" in (broken.actual or "")


def test_a_factory_that_makes_nothing_has_a_break_for_it() -> None:
    assert "raised" == only_break(run(lambda target: None)).kind


# -- hanging


def spins(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Any:
    while True:
        pass


def swallows(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Any:
    while True:
        try:
            time.sleep(5)
        except:  # noqa: E722 - the worst there is
            continue


def swallows_twice(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Any:
    while True:
        try:
            swallows(self, view, books, cycle)
        except BaseException:  # noqa: BLE001
            continue


def retries_in_finally(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Any:
    try:
        while True:
            pass
    finally:
        while True:
            pass


@pytest.mark.parametrize("sync", [spins, swallows, swallows_twice, retries_in_finally])
def test_a_syncer_that_hangs_is_out_of_time(sync: Sync) -> None:
    found = sys.gettrace(), sys.getprofile()
    began = time.perf_counter()
    broken = only_break(run(syncer_that(sync), timeout=0.2))
    assert time.perf_counter() - began < 5
    assert ("timeout", "no answer within 0.2 seconds") == (broken.kind, broken.actual)
    assert found == (sys.gettrace(), sys.getprofile())


def test_after_a_time_out_nothing_more_is_asked() -> None:
    result = run(syncer_that(spins), timeout=0.1)
    assert ["initialise", "sync"] == [point.operation for point in result.sync_points]
    assert 1 == len(result.breaks)


def test_a_slow_syncer_in_time_is_as_good_as_any() -> None:
    def slow(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        time.sleep(0.05)
        return honest(self, view, books, cycle)

    assert Verdict.reconciled is run(syncer_that(slow), timeout=30).verdict


# -- returning something else


def returns(answer: Callable[[Books], Any]) -> Sync:
    def sync(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Any:
        return answer(honest(self, view, books, cycle))

    return sync


def with_update(**changes: Any) -> Callable[[Books], Any]:
    def change(books: Books) -> Books:
        (reserve,) = books.portfolio.reserves.values()
        for name, value in changes.items():
            setattr(reserve.balance_updates[1], name, value)
        return books

    return change


def with_treasury(**changes: Any) -> Callable[[Books], Any]:
    def change(books: Books) -> Books:
        for name, value in changes.items():
            setattr(books.sync.treasury, name, value)
        return books

    return change


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda books: None, "null"),
        (lambda books: 5, "5"),
        (lambda books: {"sync": {}}, ""),
        (lambda books: books.sync, "Sync"),
        (lambda books: Books, ""),
        (with_update(quantity=100.0), "quantity"),
        (with_update(quantity=Decimal("NaN")), "quantity"),
        (with_update(old_balance=Decimal("Infinity")), "old_balance"),
        (with_update(usd_value=float("nan")), "usd_value"),
        (with_update(usd_value=float("inf")), "usd_value"),
        (with_update(block_mined_at=datetime(2024, 1, 1, tzinfo=UTC)), "block_mined_at"),
        (with_update(log_index="0x3"), "log_index"),
        (with_update(cause="gift"), "cause"),
        (with_update(block_number=3.0), "block_number"),
        (with_treasury(last_cycle_at=datetime(2024, 1, 1, tzinfo=UTC)), "last_cycle_at"),
        (with_treasury(last_block_scanned="3"), "last_block_scanned"),
        (with_treasury(last_block_scanned=True), "last_block_scanned"),
        (with_treasury(balance_update_refs=None), "balance_update_refs"),
        (with_treasury(share_count=float("nan")), "share_count"),
        (lambda books: replace(books, portfolio=None), "portfolio"),
        (lambda books: replace(books, block_hashes={1: object()}), "block_hashes"),
    ],
)
def test_what_is_no_books_is_told_by_field(answer: Callable[[Books], Any], told: str) -> None:
    broken = only_break(run(syncer_that(returns(answer))))
    assert "no_books" == broken.kind
    assert told in (broken.actual or "")
    assert "0x7f" not in (broken.actual or ""), "no address of this process"


def test_a_syncer_may_change_what_it_was_given_and_return_it() -> None:
    def in_place(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        after = honest(self, view, books, cycle)
        books.sync, books.portfolio, books.block_hashes = after.sync, after.portfolio, after.block_hashes
        return books

    assert Verdict.reconciled is run(syncer_that(in_place), sweeps=True).verdict


def test_a_syncer_may_keep_what_it_returned_and_change_it_later() -> None:
    class Stateful(ReferenceSyncer):
        kept: Books | None = None

        def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
            if self.kept is not None:
                self.kept.sync.treasury.balance_update_refs.clear()
                self.kept.portfolio.reserves.clear()
            self.kept = super().sync_treasury(view, books, cycle)
            return self.kept

    assert Verdict.reconciled is run(Stateful, sweeps=True).verdict


# -- refusing


def spoils_and_refuses(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Any:
    books.sync.deployment.chain_id = 5
    books.portfolio.reserves.clear()
    raise SyncRefused("not today")


def test_refusing_unasked_is_a_break_and_the_books_stay() -> None:
    result = run(syncer_that(spoils_and_refuses))
    broken = only_break(result)
    assert "refused" == broken.kind
    assert "not today" in broken.sentence
    first, *others = result.sync_points
    assert all(first.books == other.books for other in others)
    assert ["not today", "not today"] == [point.refusal for point in others]


@pytest.mark.parametrize("refusal", [SyncRefused(), SyncRefused(""), UnspeakableRefusal("x")])
def test_refusing_without_a_word_is_a_refusal_still(refusal: SyncRefused) -> None:
    assert "refused" == only_break(run(syncer_that(raises(refusal)))).kind


def test_an_error_of_books_that_a_syncer_raises_is_no_books() -> None:
    assert "no_books" == only_break(run(syncer_that(raises(BooksError("sync.treasury", "is torn"))))).kind


def test_doing_what_must_be_refused_is_a_break() -> None:
    def obliging(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        self.target = replace(self.target, chain_id=1337)
        return honest(self, view, books, cycle)

    broken = only_break(run(syncer_that(obliging), scenario=REFUSING))
    assert "not_refused" == broken.kind
    assert "a refusal: the books are of chain 1337, not 2" == broken.expected


def test_another_reason_than_announced_is_a_break() -> None:
    def reasons(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        if self.target.chain_id == 2:
            raise SyncRefused("I do not like it")
        return honest(self, view, books, cycle)

    broken = only_break(run(syncer_that(reasons), scenario=REFUSING))
    assert ("not_refused", "a reason with 'chain'", "I do not like it") == (
        broken.kind,
        broken.expected,
        broken.actual,
    )
    assert Verdict.reconciled is run(ReferenceSyncer, scenario=REFUSING, sweeps=True).verdict


# -- the process around it


def test_what_a_syncer_prints_does_not_reach_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    def chats(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        print("syncing ...")
        return honest(self, view, books, cycle)

    assert ["wrote_output"] == [broken.kind for broken in run(syncer_that(chats)).breaks]
    assert "" == capsys.readouterr().out


def test_a_syncer_without_memory_has_a_break_for_it() -> None:
    assert "memory" == only_break(run(syncer_that(raises(MemoryError())))).kind


def test_a_zone_that_a_syncer_sets_ends_with_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    seen = []

    def moves(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        seen.append(time.localtime(0).tm_hour)
        os.environ["TZ"] = "America/New_York"
        time.tzset()
        return honest(self, view, books, cycle)

    def forgets(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        os.environ.pop("TZ")
        return moves(self, view, books, cycle)

    assert Verdict.reconciled is run(syncer_that(moves)).verdict
    assert Verdict.reconciled is run(syncer_that(forgets)).verdict
    assert {9} == set(seen)  # Tokyo, each time
    assert ("Europe/Berlin", 1) == (os.environ["TZ"], time.localtime(0).tm_hour)
    monkeypatch.undo()
    time.tzset()


def test_state_kept_in_the_module_is_caught_when_the_books_come_another_time() -> None:
    seen: set[str] = set()

    class Remembering(ReferenceSyncer):
        """Books each transaction once in the life of its process."""

        def book_flow(self, work: Any, flow: Any) -> None:
            if flow.log.tx_hash not in seen:
                seen.add(flow.log.tx_hash)
                super().book_flow(work, flow)

    result = run(Remembering, sweeps=True)
    broken = only_break(result)
    assert "missing" == broken.kind
    assert broken.sweep is not None
    assert Verdict.reconciled is run(ReferenceSyncer, sweeps=True).verdict


# -- the chain as it is given


def test_the_clock_is_the_harnesses_and_a_second_later_each_time() -> None:
    seen = []

    def notes(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        seen.append((view.now - CLOCK_START).total_seconds())
        return honest(self, view, books, cycle)

    run(syncer_that(notes))
    assert [1, 2] == seen[:2]  # then it is asked elsewhere


def test_one_that_takes_the_clock_for_the_chains_time_is_seen() -> None:
    def now(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        return with_treasury(last_cycle_at=view.now)(honest(self, view, books, cycle))

    assert "treasury.last_cycle_at" == only_break(run(syncer_that(now))).field


MOVED = loads(
    HEADER
    + """\
  - deposit: {caller: alice, assets: 100}
  - deposit: {caller: bob, assets: 50}
  - sync: {end_block: head-1}
  - sync:
""",
    "moved.yaml",
)


def test_one_that_reads_the_moving_head_is_seen() -> None:
    def latest(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        head = view.web3.eth.block_number
        return with_treasury(last_block_scanned=head)(honest(self, view, books, cycle))

    broken = only_break(run(syncer_that(latest), scenario=MOVED))
    assert ("treasury.last_block_scanned", "3", "4") == (broken.field, broken.expected, broken.actual)
    assert Verdict.reconciled is run(ReferenceSyncer, scenario=MOVED, sweeps=True).verdict


def test_the_head_is_that_of_the_operations_time() -> None:
    seen = []

    def notes(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        seen.append((view.head, view.web3.eth.block_number, view.web3.eth.get_block("latest")["number"]))
        return honest(self, view, books, cycle)

    run(syncer_that(notes))
    assert [(3, 3, 3), (4, 4, 4)] == seen[:2]  # then it is asked elsewhere


def sends(web3: Web3) -> None:
    web3.eth.send_transaction({"to": "0x" + "11" * 20, "value": 1})


def sends_raw(web3: Web3) -> None:
    web3.eth.send_raw_transaction(b"\x01\x02")


def rpc(method: str, *params: Any) -> Callable[[Web3], None]:
    def ask(web3: Web3) -> None:
        answer = web3.provider.make_request(method, list(params))  # type: ignore[arg-type]
        if "error" in answer:
            raise RuntimeError(str(answer["error"]))

    return ask


@pytest.mark.parametrize(
    "meddle",
    [sends, sends_raw, rpc("evm_mine"), rpc("evm_revert", "0x1"), rpc("evm_snapshot"), rpc("evm_increaseTime", 9)],
)
def test_a_syncer_cannot_change_the_chain(meddle: Callable[[Web3], None]) -> None:
    def meddles(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        meddle(view.web3)
        return honest(self, view, books, cycle)

    played = play(SCENARIO)
    before = [played.chain.header(number).hash for number in range(played.chain.head + 1)]
    points = list(Session(played, syncer_that(meddles), variation=PLAIN).points())
    assert ["raised", "raised"] == [point.failure.kind for point in points if point.failure is not None]
    assert before == [played.chain.header(number).hash for number in range(played.chain.head + 1)]
    assert Verdict.reconciled is run(ReferenceSyncer).verdict


# -- what a session gives


def test_points_tell_what_was_given_and_what_came_of_it() -> None:
    points: list[Point] = list(Session(play(SCENARIO), ReferenceSyncer).points())
    kinds = [point.act.operation.kind for point in points if isinstance(point.act, SyncAct)]
    assert ["initialise", "sync", "sync"] == kinds
    for earlier, later in itertools.pairwise(points):
        assert earlier.after == later.before
    assert not points[0].before.sync.is_initialised()


@pytest.mark.parametrize("name", ["raises", "hangs"])
def test_results_are_the_same_every_time(name: str) -> None:
    odd = syncer_that(raises(RuntimeError("x")) if name == "raises" else spins)
    first, second = (replace(run(odd, timeout=0.1, sweeps=True), seconds=0.0) for _ in range(2))
    assert first == second


# -- a chain that moves on during an operation, and a process that dies in it

TURNING = """\
  - deposit: {caller: alice, assets: 100}
  - crash: {after: CRASH}
  - node:
      after: HOOK
      steps:
        - reorg: {depth: 1, drop: [3], add: [{deposit: {caller: carol, assets: 3}}]}
        - deposit: {caller: bob, assets: 20}
  - sync:
"""


def hashes_read(crash: int, hook: int, variation: Variation = PLAIN) -> list[list[bytes]]:
    """The hash of block 3 at each of the first five reads, of each syncer that is asked to sync."""
    asked: list[list[bytes]] = []

    def looks(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        asked.append([])
        for _ in range(5):
            asked[-1].append(view.header(3).hash)
        return honest(self, view, books, cycle)

    text = HEADER + TURNING.replace("CRASH", str(crash)).replace("HOOK", str(hook))
    played = play(loads(text, "turning.yaml"))
    points = list(Session(played, syncer_that(looks), variation=variation).points())
    assert not any(judge(played, point).breaks for point in points)
    return asked


@pytest.mark.parametrize(
    ("crash", "hook", "lives"),
    [
        (3, 5, [2, 5]),  # it dies first; the chain moves on while the next one reads
        (4, 4, [3, 5]),  # both at one read
        (5, 2, [4, 5]),  # the chain moves on first: the next one knows the new branch only
        (3, 900, [2, 5, 5]),  # the chain has not moved by the end, so a third is asked when it has
    ],
)
def test_after_a_crash_the_chain_goes_on_from_where_it_was(crash: int, hook: int, lives: list[int]) -> None:
    asked = hashes_read(crash, hook)
    assert lives == [len(reads) for reads in asked]
    old, new = hashes_read(900, 900)[0][0], asked[-1][-1]
    assert old != new
    if hook == 900:
        assert [old] * 7 + [new] * 5 == [read for reads in asked for read in reads]
        return
    # The read at which one dies counts, and answers nothing.
    by_request = dict(enumerate(asked[0], start=1))
    by_request |= dict(enumerate(asked[1], start=crash + 1))
    assert {request: old if request < hook else new for request in by_request} == by_request


def test_an_answer_that_was_lost_is_asked_for_on_the_chain_as_it_stands_then() -> None:
    first, second = hashes_read(900, 4)
    assert [first[0]] * 3 + [second[0]] * 2 == first
    assert {second[0]} == set(second)


def test_a_syncer_is_stopped_on_either_side_of_a_hook() -> None:
    asked = hashes_read(900, 4, Variation(name="killed", words="", killed=True))
    old, new = asked[-1][0], asked[-1][-1]
    assert [len(reads) for reads in asked[:6]] == [0, 1, 2, 3, 4, 5]
    assert all(reads == [old, old, old, new, new][: len(reads)] for reads in asked)


def test_done_twice_the_second_time_finds_the_chain_that_moved_on() -> None:
    first, second = hashes_read(900, 4, Variation(name="twice", words="", twice=True))[-2:]
    assert {second[0]} == set(first[3:]) | set(second)


def test_what_is_mined_during_an_operation_is_there_for_it_to_see() -> None:
    seen: list[int] = []

    def looks(self: ReferenceSyncer, view: ChainView, books: Books, cycle: datetime) -> Books:
        for _ in range(3):
            seen.append(len(view.get_logs(None, None, view.end_block + 1, view.end_block + 9)))
        return honest(self, view, books, cycle)

    text = HEADER + TURNING.replace("  - crash: {after: CRASH}\n", "").replace("HOOK", "3")
    played = play(loads(text, "mined.yaml"))
    assert not any(judge(played, point).breaks for point in Session(played, syncer_that(looks)).points())
    assert [0, 0] == seen[:2]
    assert seen[2] > 0
