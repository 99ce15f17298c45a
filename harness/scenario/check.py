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
    Borrow,
    Close,
    CorrectAccounts,
    Crash,
    Deposit,
    Emit,
    Expectation,
    ExpectedRecord,
    ManagerStep,
    Mine,
    Mint,
    NodeStep,
    Place,
    Rebase,
    Redeem,
    Reorg,
    Repay,
    ReplaceAccessor,
    Step,
    Supply,
    SyncingBase,
    SyncInterest,
    SyncTreasury,
    Trade,
    Transaction,
    Unsupply,
    Wait,
    Withdraw,
)
from harness.scenario.nodes import a_kind
from harness.scenario.plan import SETUP_BLOCKS, Clock, lay_out, transactions_of

_LAST_TIME = datetime(2242, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A step as it was read: without ``step`` it could not be; ``places`` of its values by key."""

    location: Location
    verb: Verb | None = None
    step: Step | None = None
    places: Mapping[str, Location] = field(default_factory=dict)
    inner: tuple[Entry, ...] = ()
    """The steps of a block, a transaction, a branch or a hook."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What of the header the steps are judged by; ``steps`` is the place of that key."""

    reserve: str | None
    start: datetime
    block_time: timedelta
    steps: Location
    tokens: tuple[str, ...] = ()


def problems_of(header: Header, deploy: Sequence[Entry], steps: Sequence[Entry]) -> list[Problem]:
    """Everything impossible in a file's steps, in their order."""
    walk = _Walk(header)
    walk.deploy(deploy)
    for entry in steps:
        if not walk.step(entry):
            break
    else:
        walk.end()
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
        self._tokens = header.tokens
        self._clock = Clock(header.start, header.block_time)
        self._clock.mine()
        self._synced = -1
        """The last block that an unrefused sync has read, -1 before the first."""
        self._branch: dict[int, list[Entry]] = {}
        """The transactions of the branch that stands, by block; blocks without any left out."""
        self._flow: tuple[int, Location] | None = None
        """The last investor's flow of the branch: its block and place."""
        self._trade: tuple[int, Location] | None = None
        """The last booked manager step of the branch."""
        self._accessors = 1
        """How many accessors the branch has deployed."""
        self._borrowed: set[str] = set()
        """Debt tokens that the branch has borrowed."""
        self._opened: list[str] = []
        """Assets of which a step may have opened a position, in order; no more positions than these."""
        self._held: set[str] = set()
        """Index tokens that the books hold for sure."""
        self._rebased: dict[str, Location] = {}
        """Rebases of those since the last interest sync."""
        self._crash: Entry | None = None
        """A crash that no operation has met yet."""
        self._node: Entry | None = None
        """A node step that no operation has met yet."""
        self._hook: Entry | None = None
        """What the next operation mines while it runs."""

    def report(self, location: Location, message: str, expected: str | None = None) -> None:
        self.problems.append(Problem(location=location, message=message, expected=expected))

    def deploy(self, entries: Sequence[Entry]) -> None:
        """Block 2."""
        self._clock.mine()
        self._transactions(entries, self._clock.number)

    def end(self) -> None:
        """Say what waits for an operation that does not come."""
        if self._crash is not None:
            self.report(self._crash.location, "nothing syncs after this crash", "a syncing step after it")
        if self._node is not None:
            self.report(self._node.location, "nothing syncs after this node step", "a syncing step after it")

    def step(self, entry: Entry) -> bool:
        """Go past one step; False when nothing after it can be judged."""
        step = entry.step
        if entry.verb is None and step is None:
            return False
        if isinstance(step, Wait):
            return self._wait(step, entry)
        if entry.verb is not None and (entry.verb.chain or entry.verb.name in ("block", "mine", "reorg")):
            if not self._mined(entry):
                return False
        elif step is None:
            return False
        if isinstance(step, Crash):
            if self._crash is not None:
                self.report(
                    entry.location,
                    f"a second crash before anything syncs after the one of line {self._crash.location.line}",
                    "a syncing step between them",
                )
            self._crash = entry
        if isinstance(step, NodeStep):
            self._node_step(step, entry)
        if isinstance(step, SyncingBase):
            self._sync(step, entry)
            if not self._hooked():
                return False
        if step is not None and step.expect is not None:
            self._expect(step.expect)
        return True

    def _mined(self, entry: Entry) -> bool:
        """Go past a step that mines blocks, wherever it stands; False when nothing after it can be judged."""
        step = entry.step
        name = entry.verb.name if entry.verb is not None else ""
        if name == "reorg":
            return isinstance(step, Reorg) and self._reorg(step, entry)
        if not self._mine(step.blocks if isinstance(step, Mine) else 1, entry):
            return False
        if name == "mine":
            return step is not None
        inner = entry.inner if name == "block" else (entry,)
        return self._transactions(inner, self._clock.number) and step is not None

    # -- nodes and crashes

    def _node_step(self, step: NodeStep, entry: Entry) -> None:
        if self._hook is not None and self._hook is self._node:
            self.report(
                entry.location,
                f"a node step before anything syncs after the one of line {self._hook.location.line}, whose steps are "
                "never mined",
                "a syncing step between them",
            )
        says = step.head is not None or step.profile is not None or step.steps
        self._node = entry if says else None
        self._hook = entry if step.steps else None

    def _hooked(self) -> bool:
        """Mine what a node step lets happen while an operation runs."""
        node, hook = self._node, self._hook
        self._crash = self._node = self._hook = None
        if node is not None and isinstance(node.step, NodeStep):
            head = node.step.head
            if head is not None and head > self._clock.number:
                self.report(
                    node.places.get("head", node.location),
                    f"block {head} is beyond the head, which is {self._clock.number} at the next operation",
                    f"a block up to {self._clock.number}",
                )
        return hook is None or all(self._mined(inner) for inner in hook.inner)

    # -- reorganisations

    def _reorg(self, step: Reorg, entry: Entry) -> bool:
        head = self._clock.number
        common = head - step.depth
        if common < SETUP_BLOCKS:
            most = f"at most {head - SETUP_BLOCKS}" if head > SETUP_BLOCKS else "a block after the set-up before it"
            self.report(
                entry.places.get("depth", entry.location),
                f"a depth of {step.depth} reaches into the set-up blocks: the head is {head} then",
                most,
            )
            return False
        if not self._named_rightly(step, entry, common, head):
            return False
        laid = lay_out(step, head, self._count)
        if laid[-1].number > MAX_BLOCKS:
            self.report(entry.location, f"this makes more than {MAX_BLOCKS} blocks", "fewer")
            return False
        old = {number: held for number, held in self._branch.items() if number > common}
        self._fork(common)
        for block in laid:
            if block.number > head and not self._mine(1, entry):
                return False
            for number, place in block.again:
                self._again(old[number][place - 1], block.number, entry)
            if block.added is None:
                continue
            added = entry.inner[block.added]
            if added.verb is not None and added.verb.name == "mine":
                continue
            inner = added.inner if added.verb is not None and added.verb.name == "block" else (added,)
            if not self._transactions(inner, block.number):
                return False
        return True

    def _count(self, number: int) -> int:
        return len(self._branch.get(number, ()))

    def _named_rightly(self, step: Reorg, entry: Entry, common: int, head: int) -> bool:
        """Whether a reorganisation names each transaction of the blocks that go, once, and nothing else."""
        said = len(self.problems)
        named: dict[tuple[int, int], Place] = {}
        for place in (*step.drop, *step.keep, *(place for place, _ in step.move)):
            held = self._count(place.block)
            if not common < place.block <= head:
                gone = f"block {head}" if step.depth == 1 else f"one of blocks {common + 1} to {head}"
                self.report(
                    place.location,
                    f"block {place.block} is none of those that go",
                    f"{gone}, which this replaces",
                )
            elif held == 0:
                self.report(place.location, f"block {place.block} holds no transaction", "no word of it")
            elif place.transaction is not None and place.transaction > held:
                most = "one transaction" if held == 1 else f"{held} transactions"
                self.report(place.location, f"block {place.block} has only {most}", f"up to {place.block}/{held}")
            else:
                for each in transactions_of(place, held):
                    if each in named:
                        what = f"{each[0]}/{each[1]}" if held > 1 else f"block {each[0]}"
                        first = named[each].location
                        self.report(
                            place.location,
                            f"{what} is named twice, first in line {first.line}, column {first.column}",
                            "each transaction once",
                        )
                        break
                    named[each] = place
        for place, target in step.move:
            if target <= common:
                self.report(
                    place.location,
                    f"block {target} is not replaced, so nothing can be moved to it",
                    f"a block from {common + 1}",
                )
            elif target > MAX_BLOCKS:
                self.report(place.location, f"this makes more than {MAX_BLOCKS} blocks", "fewer")
        missing = [
            (number, place)
            for number, held in sorted(self._branch.items())
            if number > common
            for place in range(1, len(held) + 1)
            if (number, place) not in named
        ]
        if missing and len(self.problems) == said:
            lacking = [_shown(number, places, self._count(number)) for number, places in _grouped(missing)]
            self.report(
                entry.location,
                f"the reorg does not say what becomes of {', '.join(lacking)}",
                "each transaction of the blocks that go, under drop, keep or move",
            )
        return len(self.problems) == said

    def _fork(self, common: int) -> None:
        """Forget what stood above the last common block."""
        kept = {number: held for number, held in self._branch.items() if number <= common}
        self._branch = {}
        self._flow = self._trade = None
        self._accessors = 1
        self._borrowed.clear()
        self._held.clear()
        self._rebased.clear()
        self._synced = min(self._synced, common)
        for number in sorted(kept):
            for entry in kept[number]:
                self._note(entry, number)

    def _again(self, entry: Entry, number: int, reorg: Entry) -> None:
        """Go past a transaction that is mined again."""
        step = entry.step
        for call in step.calls if isinstance(step, Transaction) else (step,):
            if isinstance(call, Emit) and call.accessor > self._accessors:
                self.report(
                    reorg.location,
                    f"the emit of line {call.location.line} is mined again in block {number}, where there is no "
                    f"accessor {call.accessor}",
                    "to drop it too",
                )
        if isinstance(step, Trade) and step.refused is None and self._reserve == step.sell.token:
            self._opened.append(step.buy.token)
        if isinstance(step, Supply) and step.refused is None:
            self._opened.append(step.into)
        self._note(entry, number)

    def _note(self, entry: Entry, number: int) -> None:
        """Take a transaction down, in its block."""
        step = entry.step
        self._branch.setdefault(number, []).append(entry)
        if step is None or step.refused is not None:
            return
        if any(_flows(call) for call in (step.calls if isinstance(step, Transaction) else (step,))):
            self._flow = (number, entry.location)
        if isinstance(step, ManagerStep):
            self._trade = (number, entry.location)
        if isinstance(step, ReplaceAccessor):
            self._accessors += 1
        if isinstance(step, Borrow):
            self._borrowed.add(step.debt)

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

    def _transactions(self, entries: Sequence[Entry], number: int) -> bool:
        """Go past a block's transactions; False if some could not be read."""
        readable = True
        for entry in entries:
            readable = self._transaction(entry, number) and readable
        return readable

    def _transaction(self, entry: Entry, number: int) -> bool:
        """Go past one transaction of a block; False if it could not be read."""
        step = entry.step
        if step is None:
            return False
        match step:
            case Redeem():
                if _flows(step) and step.refused is None:
                    self._held.clear()
            case Transaction():
                for call, inner in zip(step.calls, entry.inner, strict=True):
                    if isinstance(call, Emit):
                        self._emit(call, inner)
                    if isinstance(call, Redeem) and _flows(call):
                        self._held.clear()
            case Rebase():
                if step.token in self._held and step.refused is None:
                    self._rebased[step.token] = entry.location
            case Emit():
                self._emit(step, entry)
            case Trade() | Supply() | Unsupply() | Close() | Borrow() | Repay():
                self._manager(step, entry)
        self._note(entry, number)
        return True

    def _emit(self, step: Emit, entry: Entry) -> None:
        if step.accessor > self._accessors:
            there = "is only the first" if self._accessors == 1 else f"are only {self._accessors}"
            self.report(
                entry.places.get("accessor", entry.location),
                f"there is no accessor {step.accessor}: by then there {there}",
                f"1 to {self._accessors}" if self._accessors > 1 else "1, or a replace_accessor step before it",
            )

    def _manager(self, step: ManagerStep, entry: Entry) -> None:
        name = entry.verb.name if entry.verb is not None else "the step"
        if self._synced < 0:
            self.report(
                entry.location,
                f"{a_kind(name)} before a sync",
                "a sync step before it: an executor syncs before it trades",
            )
        elif self._flow is not None and self._flow[0] > self._synced and not step.unsynced:
            where = f"the flow of block {self._flow[0]}, line {self._flow[1].line}"
            self.report(
                entry.location,
                f"{a_kind(name)} after {where}, which no sync has read",
                "a sync before it, or 'unsynced: true'",
            )
        self._position(step, entry)
        if isinstance(step, Trade):
            self._spot(step, entry)
        else:
            self._credit(step, entry, name)

    def _position(self, step: ManagerStep, entry: Entry) -> None:
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

    def _credit(self, step: Supply | Unsupply | Close | Borrow | Repay, entry: Entry, name: str) -> None:
        if isinstance(step, Close | Borrow | Repay):
            supplied = [asset for asset in self._opened if asset != self._reserve]
            if not supplied and step.refused is None:
                what = {"close": "close", "borrow": "borrow against"}.get(name, "repay")
                self.report(
                    entry.location,
                    f"there is nothing to {what}: nothing was supplied before",
                    "a supply step before it",
                )
            elif isinstance(step, Repay) and step.debt not in self._borrowed and step.refused is None:
                self.report(
                    entry.location,
                    f"there is nothing to repay: no {step.debt} was borrowed before",
                    "a borrow step before it",
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
            message = f"{a_kind(name)} after {where}, which no sync_interest has read"
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
        elif isinstance(step, CorrectAccounts):
            # It owns every flow up to its end, and may open a position of each token that it finds.
            self._synced = max(self._synced, end)
            self._opened += [symbol for symbol in self._tokens if symbol != self._reserve]

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


def _flows(step: object) -> bool:
    """Whether it is a flow of this vault, were it not refused."""
    match step:
        case Deposit(second_vault=True) | Redeem(second_vault=True):
            return False
        case Deposit(assets=amount) | Withdraw(assets=amount) | Mint(shares=amount) | Redeem(shares=amount):
            return amount.raw != 0
    return False


def _grouped(missing: Sequence[tuple[int, int]]) -> Iterator[tuple[int, list[int]]]:
    for number in dict.fromkeys(number for number, _ in missing):
        yield number, [place for block, place in missing if block == number]


def _shown(number: int, places: Sequence[int], count: int) -> str:
    """Transactions of a block as a reorg names them."""
    return f"block {number}" if len(places) == count else ", ".join(f"{number}/{place}" for place in places)
