"""Carry a scenario's steps out on the chain, and write down what happened and what was asked of the syncer.

The whole chain is played before any syncer runs: nothing on it depends on one. Every syncing operation is
pinned to its blocks and to a branch, so it can be run afterwards, as often and in as many ways as anybody likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from harness.books import Books
from harness.errors import Location
from harness.ledger.bookkeeping import Operation, OperationKind, Refusal
from harness.ledger.foretelling import Foreteller
from harness.scenario.language import NODE_PROFILES
from harness.scenario.model import (
    Check,
    CorrectAccounts,
    Crash,
    EndBlock,
    Expectation,
    Initialise,
    NodeStep,
    Restart,
    Scenario,
    StepBase,
    SyncingStep,
    SyncInterest,
    SyncTreasury,
    Wait,
)
from harness.scenario.plan import PlannedBlock, PlannedReorg, PlannedStep, plan
from harness.world.acts import Act, BookAct, Branch, CheckAct, Hook, OrphanAct, Played, RestartAct, SyncAct
from harness.world.manager import stop
from harness.world.mining import Miner

_WORDS: Mapping[OperationKind, str] = {
    "initialise": "an initialise",
    "sync": "a sync",
    "sync_interest": "a sync_interest",
    "correct_accounts": "a correct_accounts",
}


def play(scenario: Scenario) -> Played:
    """Play a scenario from genesis to its last step.

    Raises:
        ExecutionError: If a step does on chain what the file does not say.
        ScenarioError: If a step cannot be carried out as written, or announces a refusal that is not due, or
            fails to announce one that is.
    """
    return _Player(scenario).play()


class _Player:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._foretold = Foreteller()
        self._miner = Miner(scenario, self._foretold)
        self._acts: list[Act] = []
        self._left: list[Branch] = []
        """Branches that were left."""
        self._chain_id = scenario.chain_id
        self._vault = ""
        self._node: NodeStep | None = None
        self._crash: int | None = None
        self._after: int | None = None
        """At which view call of the next operation the chain moves on, if a hook says so."""

    def play(self) -> Played:
        items = plan(self._scenario)
        self._miner.set_up([item for item in items if isinstance(item, PlannedBlock) and item.step is None])
        self._vault = self._miner.ledger.setting.vault
        if not any(isinstance(step, Initialise) for step in self._scenario.steps):
            self._initialise_unasked()
        for item in items:
            match item:
                case PlannedStep():
                    self._step(item)
                case PlannedReorg():
                    self._reorganise(item)
                case PlannedBlock():
                    if item.step is not None:
                        self._mine(item)
        return Played(
            branches=(*self._left, Branch(chain=self._miner.chain, ledger=self._miner.ledger)),
            world=self._miner.world,
            acts=tuple(self._acts),
            laws_off=self._scenario.laws_off,
            tolerances=self._scenario.tolerances,
        )

    @property
    def _branch(self) -> int:
        """The number of the branch that stands."""
        return len(self._left)

    def _initialise_unasked(self) -> None:
        """The books are initialised at the last set-up block unless a step says when."""
        operation = Operation(
            kind="initialise",
            location=self._scenario.location,
            end_block=2,
            head=2,
            start_block=2,
            chain_id=self._chain_id,
            vault=self._vault,
        )
        self._operate(operation, expectation=None, announced=None, hook=None)

    # -- blocks

    def _mine(self, block: PlannedBlock) -> None:
        for booked in self._miner.mine(block):
            self._acts.append(
                BookAct(
                    trade=booked.trade,
                    location=booked.location,
                    expected=booked.books,
                    branch=self._branch,
                    rewinds=self._foretold.pending_rewind,
                )
            )
        for step in block.steps if not block.origins else ():
            self._judge_later(step, block.number)
        if block.last and block.step is not None and block.step not in block.steps:
            self._judge_later(block.step, block.number)

    def _reorganise(self, reorg: PlannedReorg) -> None:
        """Leave the newest blocks; the executor hears of it, then the new ones are mined."""
        failed_at = self._miner.ledger.mined_at(self._miner.ledger.head)
        self._left.append(self._miner.fork(reorg.common))
        books = self._foretold.reorganise(reorg.common, failed_at)
        self._acts.append(
            OrphanAct(
                common=reorg.common,
                failed_at=failed_at,
                location=reorg.step.location,
                expected=books,
                branch=self._branch,
            )
        )
        for block in reorg.blocks:
            self._mine(block)

    def _judge_later(self, step: StepBase, block: int) -> None:
        if step.expect is not None:
            self._acts.append(
                CheckAct(
                    expectation=step.expect,
                    block=block,
                    expected=self._foretold.books,
                    location=step.location,
                    branch=self._branch,
                    rewinds=self._foretold.pending_rewind,
                )
            )

    # -- steps that mine nothing

    def _step(self, item: PlannedStep) -> None:
        step = item.step
        match step:
            case Wait() | Check():
                self._judge_later(step, item.head)
            case Restart():
                setting = self._miner.ledger.setting
                self._chain_id = step.chain_id if step.chain_id is not None else setting.chain_id
                self._vault = setting.second_vault if step.second_vault else setting.vault
                self._acts.append(RestartAct(chain_id=self._chain_id, vault=self._vault, location=step.location))
                self._judge_later(step, item.head)
            case Crash():
                self._crash = step.after
                self._judge_later(step, item.head)
            case NodeStep():
                # A hook is carried out by the operation that it hangs on: it stands in the plan there.
                self._node = step if step.profile is not None or step.head is not None else None
                self._after = step.after
                self._judge_later(step, item.head)
            case Initialise() | SyncTreasury() | SyncInterest() | CorrectAccounts():
                operation = self._operation(step, item.head)
                hook = self._run_hook(item)
                self._operate(operation, expectation=step.expect, announced=step.refused, hook=hook)
            case _:
                assert_never(step)

    def _run_hook(self, item: PlannedStep) -> Hook | None:
        """Mine what is mined while an operation runs; no step of it has an `expect` or is the manager's."""
        after, self._after = self._after, None
        if after is None:
            return None
        branch, trades = self._branch, list(self._miner.trades)
        for planned in item.hook:
            if isinstance(planned, PlannedReorg):
                self._reorganise(planned)
            else:
                self._mine(planned)
        if self._miner.trades != trades:
            stop(
                item.step.location,
                "a manager's step is mined, or mined away, while this operation runs",
                "investors' and token steps alone in a node's hook",
            )
        return Hook(after=after, branch=branch, head=item.head, then_head=self._miner.ledger.head)

    def _operation(self, step: SyncingStep, head: int) -> Operation:
        end_block = self._end_block(step.location, step.end_block, head)
        cycle = None
        if isinstance(step, SyncTreasury):
            if end_block < self._miner.last_trade_block:
                stop(
                    step.location,
                    f"a sync that ends at block {end_block}, before the trade booked at block "
                    f"{self._miner.last_trade_block}",
                )
            mined_at = self._miner.ledger.mined_at(end_block)
            last = self._foretold.books.sync.treasury.last_cycle_at
            cycle = step.cycle or (mined_at if last is None else max(mined_at, last))
        kind: OperationKind
        match step:
            case Initialise():
                kind = "initialise"
            case SyncTreasury():
                kind = "sync"
            case SyncInterest():
                kind = "sync_interest"
            case CorrectAccounts():
                kind = "correct_accounts"
        return Operation(
            kind=kind,
            location=step.location,
            end_block=end_block,
            head=head if self._node is None or self._node.head is None else min(head, self._node.head),
            cycle=cycle,
            chunk=step.chunk,
            start_block=(step.start_block or 2) if isinstance(step, Initialise) else None,
            chain_id=self._chain_id,
            vault=self._vault,
        )

    def _end_block(self, location: Location, end: EndBlock | None, head: int) -> int:
        if end is None:
            return head
        number = end.number if end.number is not None else head - (end.below_head or 0)
        if not 0 <= number <= head:
            stop(location, f"end block {number} is not on the chain", f"a block from 0 to {head}")
        return number

    def _operate(
        self, operation: Operation, *, expectation: Expectation | None, announced: str | None, hook: Hook | None
    ) -> None:
        self._refuse_beside_the_point(operation)
        before, rewinds = self._foretold.copy(), self._foretold.pending_rewind
        hides = self._hides(operation)
        foretold = self._foretold.copy() if hides else self._foretold
        expected: Books | Refusal = foretold.operate(self._miner.ledger, operation)
        otherwise = None
        if hides and not isinstance(expected, Refusal):
            otherwise, expected = expected, Refusal(reason="the node hides logs that are there")
        if isinstance(expected, Refusal) and announced is None:
            stop(
                operation.location,
                f"this must be refused ({expected.reason})",
                "`refused` beside the step, or another step",
            )
        if not isinstance(expected, Refusal) and announced is not None:
            stop(operation.location, "nothing here is a reason to refuse", "no `refused` beside the step")
        crash, self._crash = self._crash, None
        self._acts.append(
            SyncAct(
                operation=operation,
                expectation=expectation,
                announced=announced,
                foretold=before,
                expected=expected,
                branch=self._branch,
                otherwise=otherwise,
                node=self._node,
                hook=hook,
                crash=crash,
                rewinds=rewinds,
            )
        )
        if isinstance(expected, Refusal):
            return
        if operation.kind in ("sync_interest", "correct_accounts"):
            last = self._miner.last_trade_block
            if operation.end_block < last:
                stop(
                    operation.location,
                    f"{_WORDS[operation.kind]} that ends at block {operation.end_block}, before the trade booked at "
                    f"block {last}",
                )
        if operation.kind == "sync_interest":
            self._miner.note_interest(operation.end_block)

    def _hides(self, operation: Operation) -> bool:
        """Whether the node keeps back, for good, something that this operation needs."""
        node = self._node
        if operation.kind != "sync" or node is None or node.profile is None:
            return False
        profile = NODE_PROFILES[node.profile]
        if profile.recovers:
            return False
        hidden = node.blocks if node.blocks is not None else profile.takes.get("blocks") or 0
        cursor = self._foretold.books.sync.treasury.last_block_scanned
        start = 0 if cursor is None else cursor + 1
        return self._miner.is_told(max(start, operation.head - hidden + 1), operation.end_block)

    def _refuse_beside_the_point(self, operation: Operation) -> None:
        """End a scenario that asks for what nobody has said the answer to."""
        setting = self._miner.ledger.setting
        elsewhere = (operation.chain_id, operation.vault) != (setting.chain_id, setting.vault)
        if operation.kind == "initialise" and elsewhere and not self._foretold.books.sync.is_initialised():
            stop(operation.location, "books that are initialised while the syncer is pointed elsewhere", "a `restart`")
        if operation.kind in ("sync", "correct_accounts") and operation.end_block < setting.deployment_block:
            stop(
                operation.location,
                f"{_WORDS[operation.kind]} that ends at block {operation.end_block}, before the vault's deployment",
                f"a block from {setting.deployment_block} on",
            )
