"""The same history synced at other moments: which operations, in which order. What must come of each the ledger says.

Only treasury syncs move: books are initialised, interest is synced and trades are booked when the scenario says,
because what they find depends on it. A sync never ends before a trade that is booked already.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from harness.books import Books
from harness.ledger.bookkeeping import Operation, Refusal
from harness.ledger.facts import Ledger
from harness.ledger.foretelling import Foreteller
from harness.world.acts import Act, BookAct, CheckAct, OrphanAct, Played, RestartAct, SyncAct

EVERY_BLOCK_AT_MOST = 200
"""A sync that spans more blocks is stopped at those with flows, their neighbours, and a spread of others."""
RANDOM_STOPS_AT_MOST = 8
"""How many extra stops a random schedule makes within one sync."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A way to time treasury syncs; ``rewrite`` gives the acts, or nothing where it would change nothing."""

    name: str
    words: str
    """How a difference begins, e.g. ``With a sync at every block``."""
    rewrite: Callable[[Played, str], tuple[Act, ...] | None]
    """Takes the played scenario and its id, the seed of whatever is random."""


def _in_one_go(played: Played, _: str) -> tuple[Act, ...] | None:
    """Leave out each treasury sync that another one follows before anything else looks at the books."""
    acts: list[Act] = []
    for index, act in enumerate(played.acts):
        if _is_booked_sync(act) and _is_booked_sync(_next_operation(played.acts[index + 1 :])):
            continue
        acts.append(act)
    return _foretold(played, acts) if len(acts) < len(played.acts) else None


def _at_every_block(played: Played, _: str) -> tuple[Act, ...] | None:
    """Sync at each block on the way to where each treasury sync ends."""
    return _with_stops(played, _every_block)


def _at_random_blocks(played: Played, seed: str) -> tuple[Act, ...] | None:
    """Sync at some blocks on the way, drawn by the scenario's name."""
    draw = random.Random(seed)  # noqa: S311 - a seed that repeats is the point

    def stops(_: Ledger, start: int, end: int) -> Sequence[int]:
        between = range(start, end)
        return sorted(draw.sample(between, min(len(between), draw.randint(0, RANDOM_STOPS_AT_MOST))))

    return _with_stops(played, stops)


SCHEDULES: tuple[Schedule, ...] = (
    Schedule(name="in-one-go", words="With one sync between trades", rewrite=_in_one_go),
    Schedule(name="every-block", words="With a sync at every block", rewrite=_at_every_block),
    Schedule(name="random-blocks", words="With syncs at random blocks", rewrite=_at_random_blocks),
)


def _every_block(ledger: Ledger, start: int, end: int) -> Sequence[int]:
    if end - start <= EVERY_BLOCK_AT_MOST:
        return range(start, end)
    step = (end - start) // (EVERY_BLOCK_AT_MOST // 4)
    chosen = set(range(start, end, step))
    for flow in ledger.flows_between(start, end):
        chosen.update((flow.block - 1, flow.block))
    return sorted(block for block in chosen if start <= block < end)[:EVERY_BLOCK_AT_MOST]


def _is_booked_sync(act: Act | None) -> bool:
    return isinstance(act, SyncAct) and act.operation.kind == "sync" and isinstance(act.expected, Books)


def _next_operation(acts: Iterable[Act]) -> Act | None:
    """What looks at the books next; an ``expect`` step of the author's is not asked in a schedule."""
    return next((act for act in acts if not isinstance(act, CheckAct)), None)


def _with_stops(played: Played, stops: Callable[[Ledger, int, int], Iterable[int]]) -> tuple[Act, ...] | None:
    """Put treasury syncs in front of each one: at the stops between where it starts and where it ends."""
    acts: list[Act] = []
    last_trade = 0
    for act in played.acts:
        if isinstance(act, BookAct):
            last_trade = max(last_trade, act.trade.block_number)
        if isinstance(act, SyncAct) and _is_booked_sync(act) and act.hook is None:
            ledger = played.branches[act.branch].ledger
            cursor = act.before.sync.treasury.last_block_scanned
            start = ledger.setting.deployment_block if cursor is None else cursor + 1
            if act.rewinds is not None:
                start = min(start, act.rewinds + 1)
            for block in stops(ledger, max(start, last_trade), act.operation.end_block):
                operation = replace(act.operation, end_block=block, cycle=_cycle(ledger, act.operation, block))
                acts.append(replace(act, operation=operation, expectation=None, announced=None, crash=None))
        acts.append(act)
    return _foretold(played, acts) if len(acts) > len(played.acts) else None


def _foretold(played: Played, acts: Sequence[Act]) -> tuple[Act, ...]:
    """Work out anew what must come of each operation in this order."""
    foreteller = Foreteller()
    told: list[Act] = []
    for act in acts:
        match act:
            case SyncAct():
                operation = _not_going_back(foreteller.books, act)
                before = foreteller.copy()
                expected = foreteller.operate(played.branches[act.branch].ledger, operation)
                if act.otherwise is not None or isinstance(expected, Refusal) is not isinstance(act.expected, Refusal):
                    # A faulty node decides otherwise where the sync ends elsewhere: nobody has said how.
                    foreteller = before
                    continue
                told.append(
                    replace(
                        act,
                        operation=operation,
                        expectation=None,
                        foretold=before,
                        expected=expected,
                        rewinds=before.pending_rewind,
                    )
                )
            case BookAct():
                told.append(replace(act, expected=foreteller.book(act.trade)))
            case OrphanAct():
                told.append(replace(act, expected=foreteller.reorganise(act.common, act.failed_at)))
            case RestartAct():
                told.append(act)
            case CheckAct():
                pass
    return tuple(told)


def _cycle(ledger: Ledger, operation: Operation, block: int) -> datetime | None:
    """Give an early stop a cycle of its own time, but none after its sync's."""
    return None if operation.cycle is None else min(operation.cycle, ledger.mined_at(block))


def _not_going_back(books: Books, act: SyncAct) -> Operation:
    """Keep cycles in order; one that is refused for its order keeps it."""
    operation, last = act.operation, books.sync.treasury.last_cycle_at
    if operation.cycle is None or last is None or isinstance(act.expected, Refusal):
        return operation
    return replace(operation, cycle=max(operation.cycle, last))
