"""What a file alone shows to be impossible: blocks, times, positions, the order of syncs and trades.

Only what is certain is reported. After a step that could not be read nothing that depends on it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from harness.errors import Location, Problem
from harness.scenario.language import MAX_BLOCKS, Verb
from harness.scenario.model import (
    Amount,
    Close,
    Deposit,
    Expectation,
    ExpectedRecord,
    Mine,
    Mint,
    Rebase,
    Redeem,
    Step,
    Supply,
    SyncingBase,
    SyncInterest,
    SyncTreasury,
    Trade,
    Unsupply,
    Wait,
    Withdraw,
)
from harness.scenario.plan import Clock

_LAST_TIME = datetime(2242, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A step as it was read: without ``step`` it could not be; ``places`` of its values by key."""

    location: Location
    verb: Verb | None = None
    step: Step | None = None
    places: Mapping[str, Location] = field(default_factory=dict)
    inner: tuple[Entry, ...] = ()
    """A block's steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What of the header the steps are judged by; ``steps`` is the place of that key."""

    reserve: str | None
    start: datetime
    block_time: timedelta
    steps: Location


def problems_of(header: Header, deploy: Sequence[Entry], steps: Sequence[Entry]) -> list[Problem]:
    """Everything impossible in a file's steps, in their order."""
    walk = _Walk(header)
    walk.deploy(deploy)
    for entry in steps:
        if not walk.step(entry):
            break
    if not steps:
        walk.report(header.steps, "the scenario has no steps, so it checks nothing", "at least one step that syncs")
    elif not any(entry.verb is not None and entry.verb.syncing for entry in steps) and all(
        entry.verb or entry.step for entry in steps
    ):
        walk.report(header.steps, "the scenario never syncs, so it checks nothing", "at least one step that syncs")
    return walk.problems


class _Walk:
    """Goes through the steps once, counting blocks, flows and positions."""

    def __init__(self, header: Header) -> None:
        self.problems: list[Problem] = []
        self._reserve = header.reserve
        self._clock = Clock(header.start, header.block_time)
        self._clock.mine()
        self._synced = -1
        """The last block that an unrefused sync has read, -1 before the first."""
        self._flow: tuple[int, Location] | None = None
        """The last investor's flow: its block and place."""
        self._trade: tuple[int, Location] | None = None
        """The last booked manager step."""
        self._opened: list[str] = []
        """Assets of which a step may have opened a position, in order; no more positions than these."""
        self._held: set[str] = set()
        """Index tokens that the books hold for sure."""
        self._rebased: dict[str, Location] = {}
        """Rebases of those since the last interest sync."""

    def report(self, location: Location, message: str, expected: str | None = None) -> None:
        self.problems.append(Problem(location=location, message=message, expected=expected))

    def deploy(self, entries: Sequence[Entry]) -> None:
        """Block 2."""
        self._clock.mine()
        for entry in entries:
            self._chain_step(entry)

    def step(self, entry: Entry) -> bool:
        """Go past one step; False when nothing after it can be judged."""
        step = entry.step
        if entry.verb is None and step is None:
            return False
        if isinstance(step, Wait):
            return self._wait(step, entry)
        if entry.verb is not None and (entry.verb.chain or entry.verb.name in ("block", "mine")):
            if not self._mine(step.blocks if isinstance(step, Mine) else 1, entry):
                return False
            readable = all(
                [self._chain_step(inner) for inner in entry.inner or (entry,)] if entry.verb.name != "mine" else [True]
            )
            if not readable or step is None:
                return False
        elif step is None:
            return False
        if isinstance(step, SyncingBase):
            self._sync(step, entry)
        if step.expect is not None:
            self._expect(step.expect)
        return True

    # -- time

    def _wait(self, step: Wait, entry: Entry) -> bool:
        if step.until is not None:
            if step.until <= self._clock.time:
                at = entry.places.get("until", entry.location)
                self.report(
                    at,
                    f"{step.until} is not after block {self._clock.number}, which is of {self._clock.time}",
                    "a later time",
                )
                return False
            self._clock.wait_until(step.until)
        if step.duration is not None:
            try:
                self._clock.wait(step.duration)
            except OverflowError:
                self.report(entry.location, "time runs out: this is after the year 2241")
                return False
        if step.expect is not None:
            self._expect(step.expect)
        return True

    def _mine(self, blocks: int, entry: Entry) -> bool:
        if self._clock.number + blocks > MAX_BLOCKS:
            self.report(entry.location, f"this makes more than {MAX_BLOCKS} blocks", "fewer")
            return False
        try:
            self._clock.mine(blocks)
            late = self._clock.time > _LAST_TIME
        except OverflowError:
            late = True
        if late:
            self.report(entry.location, "time runs out: this block is after the year 2241")
        return not late

    # -- chain steps

    def _chain_step(self, entry: Entry) -> bool:
        """Go past one transaction in the newest block; False if it could not be read."""
        step = entry.step
        match step:
            case None:
                return False
            case Deposit(assets=amount) | Withdraw(assets=amount) | Mint(shares=amount) | Redeem(shares=amount):
                if step.refused is None and amount.raw != 0:
                    self._flow = (self._clock.number, entry.location)
                    if isinstance(step, Redeem):
                        self._held.clear()
            case Rebase():
                if step.token in self._held and step.refused is None:
                    self._rebased[step.token] = entry.location
            case Trade() | Supply() | Unsupply() | Close():
                self._manager(step, entry)
        return True

    def _manager(self, step: Trade | Supply | Unsupply | Close, entry: Entry) -> None:
        name = entry.verb.name if entry.verb is not None else "the step"
        if self._synced < 0:
            self.report(
                entry.location, f"{_a(name)} before a sync", "a sync step before it: an executor syncs before it trades"
            )
        elif self._flow is not None and self._flow[0] > self._synced and not step.unsynced:
            where = f"the flow of block {self._flow[0]}, line {self._flow[1].line}"
            self.report(
                entry.location,
                f"{_a(name)} after {where}, which no sync has read",
                "a sync before it, or 'unsynced: true'",
            )
        self._position(step, entry)
        if isinstance(step, Trade):
            self._spot(step, entry)
        else:
            self._credit(step, entry, name)
        if step.refused is None:
            self._trade = (self._clock.number, entry.location)

    def _position(self, step: Trade | Supply | Unsupply | Close, entry: Entry) -> None:
        if isinstance(step.position, int):
            self._known(step.position, entry.places.get("position", entry.location))

    def _known(self, position: int, at: Location) -> None:
        if position > len(self._opened):
            most = f"at most {len(self._opened)}" if self._opened else "none"
            self.report(
                at, f"there is no position {position}: {most} can have been opened by then", "the id of a position"
            )

    def _spot(self, step: Trade, entry: Entry) -> None:
        if self._reserve is None:
            return
        if step.sell.token == self._reserve:
            if step.refused is None and step.buy.token != self._reserve:
                self._opened.append(step.buy.token)
        elif step.buy.token == self._reserve and step.sell.token not in self._opened and step.refused is None:
            at = entry.places.get("sell", entry.location)
            self.report(
                at,
                f"no position of {step.sell.token} can be open: none was bought before",
                "a trade that buys it first",
            )

    def _credit(self, step: Supply | Unsupply | Close, entry: Entry, name: str) -> None:
        if isinstance(step, Close):
            supplied = [asset for asset in self._opened if asset != self._reserve]
            if not supplied and step.refused is None:
                self.report(
                    entry.location, "there is nothing to close: nothing was supplied before", "a supply step before it"
                )
            asset = next(iter(self._held)) if len(self._held) == 1 else None
        elif isinstance(step, Unsupply):
            asset = step.assets.token
            if asset not in self._opened and step.refused is None:
                at = entry.places.get("assets", entry.location)
                self.report(
                    at, f"no position of {asset} can be open: nothing was supplied before", "a supply step before it"
                )
        else:
            asset = step.into
        if asset in self._rebased and not step.unsynced:
            where = f"the rebase of {asset} in line {self._rebased[asset].line}"
            message = f"{_a(name)} after {where}, which no sync_interest has read"
            self.report(entry.location, message, "a sync_interest before it, or 'unsynced: true'")
        if step.refused is not None:
            return
        if isinstance(step, Supply):
            self._opened.append(step.into)
            if step.assets.raw:
                self._held.add(step.into)
        elif isinstance(step, Unsupply) and not _is_part(step.assets):
            self._held.discard(step.assets.token)
        elif isinstance(step, Close):
            self._held.clear()

    # -- syncing steps

    def _sync(self, step: SyncingBase, entry: Entry) -> None:
        end = self._end_block(step, entry)
        if end is None or step.refused is not None:
            return
        if isinstance(step, SyncTreasury):
            if self._trade is not None and end < self._trade[0]:
                at = entry.places.get("end_block", entry.location)
                where = f"block {self._trade[0]}, line {self._trade[1].line}"
                self.report(
                    at, f"the sync ends at block {end}, before the trade of {where}", "an end block at or after it"
                )
            self._synced = max(self._synced, end)
        elif isinstance(step, SyncInterest):
            self._rebased.clear()

    def _end_block(self, step: SyncingBase, entry: Entry) -> int | None:
        head = self._clock.number
        if step.end_block is None:
            return head
        at = entry.places.get("end_block", entry.location)
        if step.end_block.number is not None:
            if step.end_block.number > head:
                self.report(
                    at,
                    f"block {step.end_block.number} is beyond the head, which is {head} then",
                    f"a block up to {head}",
                )
                return None
            return step.end_block.number
        end = head - (step.end_block.below_head or 0)
        if end < 0:
            self.report(
                at,
                f"head-{step.end_block.below_head} is below block 0: the head is {head} then",
                f"head-{head} at most",
            )
            return None
        return end

    # -- expectations

    def _expect(self, expect: Expectation) -> None:
        for positions in (expect.positions, expect.closed_positions):
            for position, record in (positions or {}).items():
                self._known(position, record.location)
        for update in expect.updates or ():
            self._update(update)
        for holder in (expect.treasury, expect.accounting):
            for ref in _refs(holder):
                self._update(ref)
        if expect.contains is not None:
            self._expect(expect.contains)

    def _update(self, record: ExpectedRecord) -> None:
        for named in record.fields:
            if named.name == "position_id" and isinstance(named.value, int):
                self._known(named.value, named.location)


def _refs(record: ExpectedRecord | None) -> Iterator[ExpectedRecord]:
    for named in record.fields if record is not None else ():
        if named.name == "balance_update_refs" and isinstance(named.value, tuple):
            yield from named.value


def _is_part(amount: Amount) -> bool:
    """Whether something is left for sure."""
    return amount.percent is not None and amount.percent < 1


def _a(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
