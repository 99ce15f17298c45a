"""A syncer behind a node that misbehaves: asked again without, where it said so; what it said is kept.

The books that come out are a session's like any others. What must become of them is ``harness.sweeps``' affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from harness.books import Books, copy_books
from harness.chain.node import Node, is_node_error
from harness.chain.profiles import PROFILES, Profile, Seen, WatchingNode, make_profile, matters, profiled
from harness.chain.view import in_front
from harness.errors import SyncRefused
from harness.report.results import NodeOutcome
from harness.session import Point, SyncerFactory
from harness.syncers.find import ImportedSyncer
from harness.syncers.protocol import ChainView, Syncer, Target


@dataclass(slots=True)
class Behind:
    """Makes a factory's syncers read through another node, a fresh one for each operation.

    An operation that ends there in a refusal or an exception is asked again without it, of a fresh syncer, so that the
    scenario goes on; ``said`` holds how each of them ended. Operations whose view or node fails of itself are left
    alone.
    """

    factory: SyncerFactory
    front: Callable[[Node], Node]
    said: list[NodeOutcome] = field(default_factory=list)

    def __call__(self, target: Target) -> Syncer:
        return _Troubled(self, target)

    def make(self, target: Target) -> Syncer:
        """Make one of the factory's own syncers, as in a new process."""
        if isinstance(self.factory, ImportedSyncer):
            self.factory = self.factory.renewed()
        return self.factory(target)


class _Troubled:
    """A syncer whose node is another one at first."""

    def __init__(self, behind: Behind, target: Target) -> None:
        self._behind = behind
        self._target = target
        self._syncer = behind.make(target)

    def initialise(self, view: ChainView, books: Books) -> Books:
        return self._ask("initialise", view, books)

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        return self._ask("sync_treasury", view, books, cycle)

    def sync_interest(self, view: ChainView, books: Books) -> Books:
        return self._ask("sync_interest", view, books)

    def correct_accounts(self, view: ChainView, books: Books) -> Books:
        return self._ask("correct_accounts", view, books)

    def _ask(self, verb: str, view: ChainView, books: Books, *more: datetime) -> Books:
        faulty = in_front(view, self._behind.front)
        answer: Books
        if faulty is not None:
            try:
                answer = getattr(self._syncer, verb)(faulty, copy_books(books), *more)
                return answer
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a syncer raises is an answer of its
                loud = isinstance(error, SyncRefused) or is_node_error(error)
                self._behind.said.append(NodeOutcome.refused if loud else NodeOutcome.raised)
            self._syncer = self._behind.make(self._target)
        answer = getattr(self._syncer, verb)(view, books, *more)
        return answer


def behind(factory: SyncerFactory, profile: Profile) -> Behind:
    """Put a profile between a syncer and its node."""
    return Behind(factory, lambda node: profiled(node, profile))


def watching(factory: SyncerFactory, seen: Seen) -> Behind:
    """Note what a syncer asks its node for."""
    return Behind(factory, lambda node: WatchingNode(node, seen))


def worth_running(seen: Seen, points: Sequence[Point]) -> Iterator[Profile]:
    """Give the profiles that can change an answer to a syncer that asks for what was seen.

    They have their defaults, but for a cap that nothing would reach: that one is set to where it is felt. The hole is
    where the books of these points have their last update.
    """
    felt: dict[str, dict[str, int | None]] = {
        "range-cap": {"blocks": seen.blocks // 2},
        "silent-cap": {"logs": seen.logs - 1},
        "too-large": {"logs": seen.logs_of_range - 1},
        "hole": {"block": max(_blocks_of_updates(points), default=None)},
    }
    for name, profile in PROFILES.items():
        values = {key: value for key, value in felt.get(name, {}).items() if value and value > 0}
        chosen = make_profile(name, **values) if values and not matters(profile, seen) else profile
        if matters(chosen, seen):
            yield chosen


def _blocks_of_updates(points: Sequence[Point]) -> Iterator[int]:
    if not points:
        return
    portfolio = points[-1].after.portfolio
    for group in (
        portfolio.reserves,
        portfolio.open_positions,
        portfolio.frozen_positions,
        portfolio.closed_positions,
    ):
        for holding in group.values():
            for update in holding.balance_updates.values():
                if update.block_number is not None:
                    yield update.block_number
