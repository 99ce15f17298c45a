"""Which block each step comes to stand in, from the file alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from harness.errors import Location
from harness.scenario.model import (
    Block,
    ChainStep,
    Check,
    Crash,
    Mine,
    NodeStep,
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


def plan(scenario: Scenario) -> tuple[PlannedItem, ...]:
    """Lay a scenario out: each block with number, time and steps, and between them what mines nothing.

    The first items are blocks 0 (genesis), 1 (tokens, feeds, actors) and 2 (the vault, then ``deploy_block``).
    """
    return tuple(_items(scenario))


def blocks_of(scenario: Scenario) -> tuple[PlannedBlock, ...]:
    """The blocks of the plan, genesis first; the number is the index."""
    return tuple(item for item in _items(scenario) if isinstance(item, PlannedBlock))


def _items(scenario: Scenario) -> Iterator[PlannedItem]:
    clock = Clock(scenario.start, scenario.block_time)

    def block(
        steps: tuple[ChainStep, ...],
        location: Location,
        step: Block | Mine | ChainStep | None = None,
        last: bool = True,
    ) -> PlannedBlock:
        timestamp = timestamp_of(clock.time)
        return PlannedBlock(
            number=clock.number, timestamp=timestamp, steps=steps, location=location, step=step, last=last
        )

    yield block((), scenario.location)
    for number in range(1, SETUP_BLOCKS + 1):
        clock.mine()
        yield block(scenario.deploy_block if number == SETUP_BLOCKS else (), scenario.location)
    for step in scenario.steps:
        match step:
            case Mine():
                for left in reversed(range(step.blocks)):
                    clock.mine()
                    yield block((), step.location, step, last=left == 0)
            case Block():
                clock.mine()
                yield block(step.steps, step.location, step)
            case Wait():
                if step.duration is not None:
                    clock.wait(step.duration)
                if step.until is not None:
                    clock.wait_until(step.until)
                yield PlannedStep(step=step, head=clock.number, timestamp=timestamp_of(clock.time))
            case SyncingBase() | Restart() | Check():
                yield PlannedStep(step=step, head=clock.number, timestamp=timestamp_of(clock.time))
            case _:
                clock.mine()
                yield block((step,), step.location, step)
