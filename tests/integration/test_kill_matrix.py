"""The reference, stopped at every view call of every operation of every scenario: nothing is lost, nothing doubled.

The second reference, which reads more often, is stopped so in every fifth file.

Each operation is asked for once for each of its view calls, and stopped at that call; then it is asked for once more
and comes through. The books must be those of a run that nobody stopped: every record and id, every remembered hash,
every time. This is done twice. First each stop is the end of a process, and a fresh syncer is asked. Then the process
lives through it, and the same syncer is asked again, with whatever it kept from the way that it did not finish.

Nothing is left out, for it can be afforded. Over 305 scenarios (variants counted) the reference has 16,689 view calls
in 1,695 operations, the longest of 136, and the second one 30,684, the longest of 285. Stopping at each takes 0.17
and 0.53 million calls in each of the two ways, most of them answered from memory. All 333 of a later day took 316
seconds of CPU on a machine that had six times as much to do as it has processors: 70 to play, 99 for the one and 148
for the other. To stop more sparsely beyond the 64th call would save a tenth.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import pytest

from harness.books import Books
from harness.scenario.files import rows_of
from harness.scenario.loader import loads
from harness.session import EVERY_CALL_UP_TO, Point, Session, SyncerFactory, Variation
from harness.syncers import ChainView, Syncer, Target, find_syncer
from harness.syncers.reference import ReferenceSyncer
from harness.world.acts import Act, Played, SyncAct
from harness.world.play import play

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "scenarios").rglob("*.y*ml")
    if not any(part.startswith("_") for part in path.relative_to(ROOT).parts)
)
"""But for what others include."""
SYNCERS = ("reference", "balances")
KILLED = Variation(name="killed", words="", killed=True)
NEVER = sys.maxsize
"""More view calls than any operation has."""


def new_processes(factory: SyncerFactory) -> SyncerFactory:
    """Give a fresh syncer each time."""
    return factory


def one_process(factory: SyncerFactory) -> SyncerFactory:
    """Give the same syncer whenever the same one is asked for, as long as the scenario lasts."""
    made: dict[object, Syncer] = {}

    def make(target: Target) -> Syncer:
        key = (target.chain_id, target.vault, target.start_block)
        if key not in made:
            made[key] = factory(target)
        return made[key]

    return make


def unhurt(played: Played) -> tuple[Act, ...]:
    """A scenario's acts, but that nothing dies in them."""
    return tuple(replace(act, crash=None) if isinstance(act, SyncAct) else act for act in played.acts)


def outcome(point: Point) -> tuple[object, ...]:
    """All that a point has to say, but the words of a refusal."""
    return point.refusal is None, point.failure, point.given, point.after


def differences(
    played: Played,
    factory: SyncerFactory,
    memory: dict[object, object] | None = None,
) -> Iterator[tuple[str, int]]:
    """Where the books of a run with stops are not those of the run without: way and point."""
    memory = {} if memory is None else memory
    acts = unhurt(played)
    plain = [outcome(point) for point in Session(played, factory, acts=acts, memory=memory).points()]
    for way in (new_processes, one_process):
        session = Session(played, way(factory), acts=acts, variation=KILLED, every_call_up_to=NEVER, memory=memory)
        points = [outcome(point) for point in session.points()]
        if len(points) != len(plain):
            yield way.__name__, len(points)
        for index, (expected, actual) in enumerate(zip(plain, points, strict=False)):
            if expected != actual:
                yield way.__name__, index


@pytest.mark.parametrize("file", FILES)
def test_stopped_anywhere_books_are_those_of_a_run_that_was_not(file: str) -> None:
    rows = rows_of(str(ROOT / file), root=str(ROOT / "scenarios"))
    for variant, scenario in rows:
        assert scenario is not None
        played = play(scenario)
        memory: dict[object, object] = {}
        for name in SYNCERS if FILES.index(file) % 5 == 0 else SYNCERS[:1]:
            assert [] == list(differences(played, find_syncer(name), memory)), (variant, name)


# -- that it would be seen

LONG = """\
title: One deposit in many chunks
tokens: {USDC: {decimals: 6, usd: 1}}
vault: {kind: enzyme}
steps:
  - deposit: {caller: alice, assets: 100}
  - sync:
  - deposit: {caller: bob, assets: 50}
  - mine: 20
  - sync: {chunk: 1}
"""


@pytest.fixture(scope="module")
def long() -> Played:
    return play(loads(LONG, "long.yaml"))


class Noting(ReferenceSyncer):
    """Notes how far each sync came, in view calls."""

    reads: ClassVar[list[int]]

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        try:
            return super().sync_treasury(view, books, cycle)
        finally:
            self.reads.append(view.reads)  # type: ignore[attr-defined]


def test_each_call_is_one_at_which_it_is_stopped(long: Played) -> None:
    class Noted(Noting):
        reads: ClassVar[list[int]] = []

    list(Session(long, Noted, acts=long.acts).points())
    calls = Noted.reads[-1]
    assert calls > EVERY_CALL_UP_TO
    Noted.reads.clear()
    list(Session(long, Noted, acts=long.acts, variation=KILLED, every_call_up_to=NEVER).points())
    # The reference tries again, and dies of that: one call more than the one at which it was stopped.
    assert [*range(2, calls + 2), calls] == Noted.reads[-calls - 1 :]


class Lets(ReferenceSyncer):
    """Takes books that it did not finish for finished, if it is stopped late enough in a sync."""

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        try:
            return super().sync_treasury(view, books, cycle)
        except BaseException:
            if view.reads < EVERY_CALL_UP_TO + 6:  # type: ignore[attr-defined]
                raise
            books.sync.treasury.last_block_scanned = view.end_block
            return books


def test_one_that_ends_too_early_is_seen_at_any_call(long: Played) -> None:
    assert {"new_processes", "one_process"} == {way for way, _ in differences(long, Lets)}


class Remembers(ReferenceSyncer):
    """Goes on where it was stopped, without what it had read until then."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.begun: int | None = None

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        if self.begun == view.end_block and books.sync.treasury.last_block_scanned is not None:
            books.sync.treasury.last_block_scanned = view.end_block - 1
        self.begun = view.end_block
        return super().sync_treasury(view, books, cycle)


def test_one_that_keeps_what_it_did_not_finish_is_seen_where_its_process_lives(long: Played) -> None:
    assert {"one_process"} == {way for way, _ in differences(long, Remembers)}
