"""Which block each step comes to stand in, from the file alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from harness.errors import Location
from harness.scenario.model import (
    Block,
    ChainStep,
    Check,
    Crash,
    Mine,
    NodeStep,
    Place,
    Reorg,
    Restart,
    Scenario,
    SyncingBase,
    SyncingStep,
    Wait,
)

EPOCH = datetime(1970, 1, 1)
SETUP_BLOCKS = 2
"""Block 1 sets up tokens, feeds and actors; block 2 deploys the vault."""


def timestamp_of(at: datetime) -> int:
    """A naive UTC time as seconds since 1970.

    >>> timestamp_of(datetime(2024, 1, 1))
    1704067200
    """
    return (at - EPOCH) // timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBlock:
    """A block to mine (0: genesis, which is there already).

    ``step`` is the `Block`, `Mine` or chain step that it comes from, None for set-up blocks; ``last`` tells
    whether the step is done with it, so that its ``expect`` can be judged.
    """

    number: int
    timestamp: int
    steps: tuple[ChainStep, ...]
    location: Location
    step: Block | Mine | Reorg | ChainStep | None = None
    last: bool = True
    origins: tuple[tuple[int, int] | None, ...] = ()
    """In a block of a reorganisation, for each step: the block and the place in it (from 1) of the transaction that is
    mined again here, or None for a step of its own. Empty: each step is one of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedReorg:
    """The blocks above ``common`` are replaced by these."""

    step: Reorg
    common: int
    blocks: tuple[PlannedBlock, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step that mines nothing; ``head`` is the newest block then, ``timestamp`` that block's."""

    step: SyncingStep | Restart | Crash | NodeStep | Check | Wait
    head: int
    timestamp: int
    hook: tuple[PlannedBlock | PlannedReorg, ...] = ()
    """A syncing step's: what is mined while it runs, on top of (or in place of) what stood when it began."""


PlannedItem = PlannedBlock | PlannedReorg | PlannedStep


class Clock:
    """Counts blocks and their times as a scenario's steps go by.

    A length of time adds to the next block's distance from its parent; ``wait_until`` sets the next
    block's time. OverflowError when the calendar ends.
    """

    def __init__(self, start: datetime, block_time: timedelta) -> None:
        self.number = 0
        self.time = start
        self._block_time = block_time
        self._next = start + block_time

    def wait(self, duration: timedelta) -> None:
        """Put the next block off."""
        self._next += duration

    def wait_until(self, until: datetime) -> None:
        """Set the next block's time."""
        self._next = until

    def mine(self, blocks: int = 1) -> None:
        """Go on by so many blocks; waiting counts for the first of them."""
        self.number += blocks
        self.time = self._next + self._block_time * (blocks - 1)
        self._next = self.time + self._block_time


@dataclass(frozen=True, slots=True, kw_only=True)
class LaidBlock:
    """A block of a new branch: the transactions mined again in it, as (block, place from 1) of the old branch.

    ``added`` is the index of the step of ``add`` that it is for, None if it is for none.
    """

    number: int
    again: tuple[tuple[int, int], ...] = ()
    added: int | None = None


def transactions_of(place: Place, count: int) -> tuple[tuple[int, int], ...]:
    """The transactions that a place names, if its block holds so many."""
    if place.transaction is not None:
        return ((place.block, place.transaction),)
    return tuple((place.block, each) for each in range(1, count + 1))


def lay_out(step: Reorg, head: int, count: Callable[[int], int]) -> tuple[LaidBlock, ...]:
    """Lay out the blocks that take the place of the newest ones.

    What is kept stands in its block, in order; what is moved behind it, in the order written; each added step in the
    first block that nothing else is in. There are at least as many blocks as were replaced.

    Args:
        step: The reorganisation.
        head: The newest block before it.
        count: How many transactions a block of the old branch holds.
    """
    common = head - step.depth
    again: dict[int, list[tuple[int, int]]] = {}
    for place in step.keep:
        again.setdefault(place.block, []).extend(transactions_of(place, count(place.block)))
    for held in again.values():
        held.sort()
    for place, target in step.move:
        again.setdefault(target, []).extend(transactions_of(place, count(place.block)))
    again = {number: held for number, held in again.items() if held}
    last = max([head, *again])
    number = common
    added: dict[int, int] = {}
    for index, each in enumerate(step.add):
        for _ in range(each.blocks if isinstance(each, Mine) else 1):
            number += 1
            while number in again:
                number += 1
            added[number] = index
    return tuple(
        LaidBlock(number=number, again=tuple(again.get(number, ())), added=added.get(number))
        for number in range(common + 1, max(last, number) + 1)
    )


def plan(scenario: Scenario) -> tuple[PlannedItem, ...]:
    """Lay a scenario out: each block with number, time and steps, and between them what mines nothing.

    The first items are blocks 0 (genesis), 1 (tokens, feeds, actors) and 2 (the vault, then ``deploy_block``).
    """
    return tuple(_Planner(scenario).items())


def blocks_of(scenario: Scenario) -> tuple[PlannedBlock, ...]:
    """The blocks of the branch that stands at the end, genesis first; the number is the index."""
    planner = _Planner(scenario)
    for _ in planner.items():
        pass
    return tuple(planner.branch)


class _Planner:
    """Goes through a scenario's steps once; ``branch`` holds the blocks that stand by then, by number."""

    def __init__(self, scenario: Scenario) -> None:
        self.branch: list[PlannedBlock] = []
        self._scenario = scenario
        self._clock = Clock(scenario.start, scenario.block_time)
        self._hook: tuple[ChainStep | Block | Mine | Reorg, ...] = ()

    def items(self) -> Iterator[PlannedItem]:
        scenario = self._scenario
        yield self._block((), scenario.location)
        for number in range(1, SETUP_BLOCKS + 1):
            self._clock.mine()
            yield self._block(scenario.deploy_block if number == SETUP_BLOCKS else (), scenario.location)
        for step in scenario.steps:
            match step:
                case Wait():
                    if step.duration is not None:
                        self._clock.wait(step.duration)
                    if step.until is not None:
                        self._clock.wait_until(step.until)
                    yield self._still(step)
                case SyncingBase():
                    still = self._still(step)
                    hook, self._hook = self._hook, ()
                    mined = tuple(item for inner in hook for item in self._mined(inner))
                    yield replace(still, hook=mined) if mined else still
                case NodeStep():
                    self._hook = step.steps
                    yield self._still(step)
                case Restart() | Crash() | Check():
                    yield self._still(step)
                case _:
                    yield from self._mined(step)

    def _still(self, step: SyncingStep | Restart | Crash | NodeStep | Check | Wait) -> PlannedStep:
        return PlannedStep(step=step, head=self._clock.number, timestamp=timestamp_of(self._clock.time))

    def _block(
        self,
        steps: tuple[ChainStep, ...],
        location: Location,
        step: Block | Mine | ChainStep | None = None,
        last: bool = True,
    ) -> PlannedBlock:
        block = PlannedBlock(
            number=self._clock.number,
            timestamp=timestamp_of(self._clock.time),
            steps=steps,
            location=location,
            step=step,
            last=last,
        )
        self.branch.append(block)
        return block

    def _mined(self, step: ChainStep | Block | Mine | Reorg) -> Iterator[PlannedBlock | PlannedReorg]:
        match step:
            case Mine():
                for left in reversed(range(step.blocks)):
                    self._clock.mine()
                    yield self._block((), step.location, step, last=left == 0)
            case Block():
                self._clock.mine()
                yield self._block(step.steps, step.location, step)
            case Reorg():
                yield self._reorg(step)
            case _:
                self._clock.mine()
                yield self._block((step,), step.location, step)

    def _reorg(self, step: Reorg) -> PlannedReorg:
        head = self._clock.number
        common = head - step.depth
        laid = lay_out(step, head, lambda number: len(self.branch[number].steps))
        blocks = []
        for each in laid:
            if each.number <= head:
                timestamp = self.branch[each.number].timestamp
            else:
                self._clock.mine()
                timestamp = timestamp_of(self._clock.time)
            steps = tuple(self.branch[block].steps[place - 1] for block, place in each.again)
            origins: tuple[tuple[int, int] | None, ...] = each.again
            location = step.location
            if each.added is not None:
                added = step.add[each.added]
                location = added.location
                if not isinstance(added, Mine):
                    steps = added.steps if isinstance(added, Block) else (added,)
                    origins = (None,) * len(steps)
            blocks.append(
                PlannedBlock(
                    number=each.number,
                    timestamp=timestamp,
                    steps=steps,
                    location=location,
                    step=step,
                    last=each is laid[-1],
                    origins=origins,
                )
            )
        self.branch[common + 1 :] = blocks
        return PlannedReorg(step=step, common=common, blocks=tuple(blocks))
