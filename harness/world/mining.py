"""Blocks: mines what a plan says, and writes down what happened in each of them.

Nothing here knows of syncing operations. What the manager does depends on books, so the ledger's are at hand.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace

from harness.books import Books
from harness.books.executor import BookedTrade
from harness.chain import Call, Chain, Outcome, Pending
from harness.errors import BooksError, ExecutionError, Location
from harness.ledger.bookkeeping import InconsistentLedger
from harness.ledger.facts import Ledger, MinedBlock
from harness.ledger.foretelling import Foreteller
from harness.scenario.model import (
    Accrue,
    ChainStep,
    ChargeFee,
    Emit,
    FlowStep,
    ManagerStep,
    Pause,
    Price,
    Rebase,
    ReplaceAccessor,
    Scenario,
    Transaction,
)
from harness.scenario.plan import PlannedBlock
from harness.world.acts import Branch
from harness.world.manager import Manager, books_hold, stop
from harness.world.recorder import Part, Recorder
from harness.world.setup import Foundation, Needs, World
from harness.world.steps import PlainStep, Preparer
from harness.world.vault import Prepared, State

_TEMPLATES_KEPT = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """A trade of a block just mined, and the ledger's books after it."""

    trade: BookedTrade
    location: Location
    books: Books


# -- the world, deployed once and cloned


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    """A world that stands, what the ledger knows of its first blocks, and the second fund's next turn."""

    chain: Chain
    world: World
    ledger: Ledger
    turn: int
    accruals: tuple[tuple[int, Accrue], ...]
    """What ``deploy_block`` leaves behind besides, as a `Miner` keeps it."""
    pauses: tuple[int, ...]
    told: tuple[int, ...]


_templates: OrderedDict[object, _Template] = OrderedDict()


def _fingerprint(scenario: Scenario) -> object:
    """All that reaches the first two blocks, as something hashable."""
    tokens = tuple(
        (spec.symbol, spec.name, spec.decimals, spec.kind, spec.underlying, spec.price_raw)
        for spec in scenario.tokens.values()
    )
    vault = scenario.vault
    actors = tuple((name, None if given is None else tuple(given.items())) for name, given in scenario.actors.items())
    return (
        scenario.start,
        scenario.block_time,
        scenario.chain_id,
        tokens,
        (vault.kind, vault.name, vault.symbol, vault.reserve, vault.tracked),
        actors,
        scenario.approvals,
        Needs.of(scenario),
        repr(scenario.deploy_block) if scenario.deploy_block else None,
    )


class Miner:
    """A chain that grows by a scenario's blocks, and its ledger.

    Args:
        scenario: What the steps are of.
        foretold: The ledger's books: manager steps count by them and are booked into them.
    """

    chain: Chain
    world: World
    ledger: Ledger

    def __init__(self, scenario: Scenario, foretold: Foreteller) -> None:
        self._scenario = scenario
        self._foretold = foretold
        self._turns: dict[int, int] = {}
        """The second fund's next turn after each block that moved it on."""
        self._sent: dict[tuple[int, int], ChainStep] = {}
        """What each transaction of a step was, with amounts as signed, by block and place in it."""
        self._left: dict[tuple[int, int], ChainStep] = {}
        """Of the branch that was left last."""
        self._rebases: list[tuple[int, str, Location]] = []
        """Rebases of tokens that the books held."""
        self._interest: list[int] = []
        """Where interest was synced."""
        self._accruals: list[tuple[int, Accrue]] = []
        self._pauses: list[int] = []
        self._told: list[int] = []
        """Blocks in which something beside a flow has an event that a syncer goes by."""
        self._failure: ExecutionError | None = None
        self.trades: list[BookedTrade] = []
        """Those that stand on the chain as it is."""

    # -- set-up

    def set_up(self, blocks: list[PlannedBlock]) -> None:
        """Mine genesis and the two blocks of the set-up, or take them from one that was mined before."""
        key = _fingerprint(self._scenario)
        found = _templates.get(key)
        if found is None:
            self._deploy(blocks)
            _templates[key] = _Template(
                chain=self.chain.clone(),
                world=self.world,
                ledger=self.ledger.copy(self.ledger.setting),
                turn=self._turns[2],
                accruals=tuple(self._accruals),
                pauses=tuple(self._pauses),
                told=tuple(self._told),
            )
            if len(_templates) > _TEMPLATES_KEPT:
                _templates.popitem(last=False)
            return
        self.chain = found.chain.clone()
        self.world = found.world
        self.ledger = found.ledger.copy(self.world.setting(self._scenario))
        self._turns[2] = found.turn
        self._accruals, self._pauses, self._told = list(found.accruals), list(found.pauses), list(found.told)

    def _deploy(self, blocks: list[PlannedBlock]) -> None:
        genesis, tokens, vault = blocks
        foundation = Foundation(self._scenario)
        self.chain = Chain(
            chain_id=self._scenario.chain_id,
            genesis_timestamp=genesis.timestamp,
            accounts=foundation.accounts(),
            delegates=foundation.delegates(),
        )
        self.chain.mine(lambda _: foundation.deploy_tokens(), timestamp=tokens.timestamp)

        recorder: list[Recorder] = []

        def second_block(pending: Pending) -> Generator[Call, Outcome, None]:
            self.world = yield from foundation.deploy_vault()
            self.ledger = Ledger(self.world.setting(self._scenario))
            for number, header in ((0, self.chain.header(0)), (1, self.chain.header(1))):
                self.ledger.add_block(
                    MinedBlock(number=number, hash="0x" + bytes(header.hash).hex(), timestamp=header.timestamp)
                )
            for symbol, spec in self._scenario.tokens.items():
                self.ledger.set_price(symbol, 1, spec.price_raw)
            recorder.append(Recorder(self.ledger, pending, self.world.rounds))
            yield from _Building(self, vault, pending, recorder[0], []).run()

        self._turns[1] = 1
        mined = self.chain.mine(second_block, timestamp=vault.timestamp)
        self._turns[2] = self.turn
        self._finish(vault, mined.hash, recorder[0])

    # -- blocks

    def mine(self, block: PlannedBlock) -> tuple[Booked, ...]:
        """Mine one block.

        Raises:
            ExecutionError: If a step does on chain what the file does not say.
            ScenarioError: If a manager step cannot be carried out as written.
        """
        booked: list[Booked] = []
        accruing = self._accruing()
        if not block.steps and accruing is None:
            mined = self.chain.mine_empty(timestamp=block.timestamp)
            self.ledger.add_block(MinedBlock(number=mined.number, hash=mined.hash, timestamp=mined.timestamp))
            return ()
        recorder: list[Recorder] = []

        def build(pending: Pending) -> Generator[Call, Outcome, None]:
            recorder.append(Recorder(self.ledger, pending, self.world.rounds))
            if accruing is not None:
                recorder[0].note_growth(self.balances(State(pending.call)), accruing)
            yield from _Building(self, block, pending, recorder[0], booked).run()

        mined = self.chain.mine(build, timestamp=block.timestamp)
        self._finish(block, mined.hash, recorder[0])
        return tuple(booked)

    def _finish(self, block: PlannedBlock, block_hash: str, recorder: Recorder) -> None:
        self.ledger.add_block(MinedBlock(number=block.number, hash=block_hash, timestamp=block.timestamp))
        recorder.write(block.number)
        if self._failure is not None:
            raise self._failure

    def fork(self, common: int) -> Branch:
        """Leave the blocks above ``common``; gives the branch that was left, as it stood."""
        left = Branch(chain=self.chain.clone(), ledger=self.ledger)
        self.chain.fork(common)
        self.ledger = self.ledger.cut(common)
        self._left = {place: step for place, step in self._sent.items() if place[0] > common}
        self._sent = {place: step for place, step in self._sent.items() if place[0] <= common}
        self._turns = {block: turn for block, turn in self._turns.items() if block <= common}
        self._rebases = [rebase for rebase in self._rebases if rebase[0] <= common]
        self._interest = [block for block in self._interest if block <= common]
        self._accruals = [accrual for accrual in self._accruals if accrual[0] <= common]
        self._pauses = [block for block in self._pauses if block <= common]
        self._told = [block for block in self._told if block <= common]
        self.trades = [trade for trade in self.trades if trade.block_number <= common]
        return left

    # -- what is remembered from block to block

    @property
    def turn(self) -> int:
        """The second fund's next turn."""
        return self._turns[max(self._turns)]

    @property
    def last_trade_block(self) -> int:
        """The newest block with a booked trade, or 0."""
        return max((trade.block_number for trade in self.trades), default=0)

    @property
    def rebased(self) -> Mapping[str, tuple[int, Location]]:
        """Block and step of the last rebase of each token that the books held, until interest is synced."""
        synced = max(self._interest, default=-1)
        return {symbol: (block, location) for block, symbol, location in self._rebases if block > synced}

    def is_told(self, start_block: int, end_block: int) -> bool:
        """Whether blocks of a range hold events that a treasury sync goes by."""
        if next(self.ledger.flows_between(start_block, end_block), None) is not None:
            return True
        return any(start_block <= block <= end_block for block in self._told)

    def note_interest(self, end_block: int) -> None:
        """Note that interest was synced up to a block."""
        self._interest.append(end_block)

    def balances(self, state: State) -> dict[str, int]:
        """The holder's balance of each token."""
        holder = self.world.deployed.holder
        return {symbol: state.balance(address, holder) for symbol, address in self.world.around.tokens.items()}

    def _accruing(self) -> Location | None:
        """The step by which some token grows with time, if one does."""
        rates = {accrual.token: accrual for _, accrual in self._accruals}
        return next((accrual.location for accrual in rates.values() if accrual.rate_ray), None)


class _Building:
    """One block while it is put together."""

    def __init__(
        self, miner: Miner, block: PlannedBlock, pending: Pending, recorder: Recorder, booked: list[Booked]
    ) -> None:
        self._miner = miner
        self._block = block
        self._pending = pending
        self._recorder = recorder
        self._booked = booked
        self._state = State(pending.call)
        self._preparer = Preparer(scenario=miner._scenario, world=miner.world)

    def run(self) -> Generator[Call, Outcome, None]:
        origins = self._block.origins or (None,) * len(self._block.steps)
        flows = False
        for place, (written, origin) in enumerate(zip(self._block.steps, origins, strict=True), start=1):
            step = written if origin is None else self._miner._left[origin]
            if isinstance(step, Transaction):
                settled = yield from self._transaction(step, origin is not None)
            elif isinstance(step, ManagerStep):
                settled = yield from self._manager(step, origin is not None)
            else:
                settled = yield from self._plain(step, origin is not None)
            self._miner._sent[self._block.number, place] = settled
            flows = flows or any(isinstance(call, FlowStep) for call in _calls(step))
        if flows:
            yield from self._second_fund()

    def _second_fund(self) -> Generator[Call, Outcome, None]:
        turn = self._miner.turn
        second = yield self._miner.world.kind.second_fund_flow(turn)
        if second.succeeded:
            self._miner._turns[self._block.number] = turn + 1
        elif not self._miner._pauses:
            raise InconsistentLedger(f"the second fund's flow failed: {second.revert_reason}")

    # -- one call in a transaction

    def _plain(self, step: PlainStep, again: bool) -> Generator[Call, Outcome, ChainStep]:
        settled = self._preparer.settled(step, self._state)
        prepared = self._preparer.prepare(settled, self._state)
        outcome = yield from self._send(step, prepared, again)
        if not outcome.succeeded:
            return settled
        miner, number = self._miner, self._block.number
        match step:
            case Rebase() if books_hold(miner._foretold.books, miner.ledger, step.token):
                miner._rebases.append((number, step.token, step.location))
            case Accrue():
                miner._accruals.append((number, step))
            case Pause():
                miner._pauses.append(number)
            case Price():
                self._recorder.set_price(step.token, step.price_raw)
            case ChargeFee() | ReplaceAccessor() | Emit():
                miner._told.append(number)
        return settled

    def _manager(self, step: ManagerStep, again: bool) -> Generator[Call, Outcome, ChainStep]:
        miner = self._miner
        manager = Manager(
            scenario=miner._scenario,
            world=miner.world,
            ledger=miner.ledger,
            books=miner._foretold.books,
            rebased=miner.rebased,
            again=again,
        )
        prepared, order, settled = manager.prepare(
            step, self._state, block=self._block.number, timestamp=self._block.timestamp
        )
        outcome = yield from self._send(step, prepared, again)
        if outcome.succeeded:
            self._book(replace(order, tx_hash=outcome.transaction_hash), step.location)
        return settled

    def _book(self, trade: BookedTrade, location: Location) -> None:
        try:
            books = self._miner._foretold.book(trade)
        except (BooksError, ValueError) as error:
            stop(location, f"this cannot be booked: {error}")
        self._miner.trades.append(trade)
        self._booked.append(Booked(trade=trade, location=location, books=books))

    def _send(self, step: ChainStep, prepared: Prepared, again: bool) -> Generator[Call, Outcome, Outcome]:
        held = self._owners_shares(prepared)
        outcome = yield prepared.call
        self._judge(step, outcome, prepared.text, again)
        part = Part(
            location=step.location,
            prepared=prepared,
            balances=self._miner.balances(self._state),
            supply=self._miner.world.kind.share_supply(self._state),
            shares=self._owners_shares(prepared) - held,
        )
        self._recorder.record(step.location, prepared.text, outcome, (part,))
        return outcome

    def _owners_shares(self, prepared: Prepared) -> int:
        return 0 if prepared.flow is None else self._miner.world.kind.share_balance(self._state, prepared.flow.owner)

    # -- several calls in a transaction

    def _transaction(self, step: Transaction, again: bool) -> Generator[Call, Outcome, ChainStep]:
        miner = self._miner
        settled, parts = self._rehearsed(step)
        caller = miner.world.around.actors[step.caller]
        text = "in one transaction: " + "; ".join(part.prepared.text for part in parts)
        outcome = yield miner.world.batch(caller, [part.prepared.call for part in parts])
        self._judge(step, outcome, text, again)
        if outcome.succeeded and parts[-1].balances != miner.balances(self._state):
            raise InconsistentLedger(f"{text}: the transaction moved other amounts than its calls one by one")
        if not outcome.succeeded:
            supply = miner.world.kind.share_supply(self._state)
            parts = [replace(parts[0], balances=miner.balances(self._state), supply=supply, shares=0)]
        self._recorder.record(step.location, text, outcome, parts)
        return settled

    def _rehearsed(self, step: Transaction) -> tuple[Transaction, list[Part]]:
        """Do the calls one by one on the side: each counts what the ones before it leave."""
        calls, parts = [], []
        failed = False
        with self._pending.rehearsal():
            for call in step.calls:
                settled = self._preparer.settled(call, self._state)
                prepared = self._preparer.prepare(settled, self._state)
                held = self._owners_shares(prepared)
                # Where one fails the whole will, so what would follow is of no matter; it must be sent all the same.
                failed = failed or self._pending.rehearse(prepared.call) is not None
                calls.append(settled)
                parts.append(
                    Part(
                        location=call.location,
                        prepared=prepared,
                        balances=self._miner.balances(self._state),
                        supply=self._miner.world.kind.share_supply(self._state),
                        shares=self._owners_shares(prepared) - held,
                    )
                )
        return replace(step, calls=tuple(calls)), parts

    # -- how a transaction ended

    def _judge(self, step: ChainStep, outcome: Outcome, text: str, again: bool) -> None:
        """Compare how a transaction ended with what the step says; the first that differs ends the scenario."""
        reason = outcome.revert_reason or "no reason given"
        where = f" (mined again in block {self._block.number})" if again else ""
        if outcome.succeeded and step.refused is not None:
            self._fail(step.location, f"{text}{where}: should be refused, but went through")
        elif not outcome.succeeded and step.refused is None:
            self._fail(step.location, f"{text}{where}: failed on chain: {reason}")
        elif not outcome.succeeded and step.refused is not None and step.refused not in reason:
            self._fail(step.location, f"{text}{where}: refused as {reason!r}, which does not contain {step.refused!r}")

    def _fail(self, location: Location, message: str) -> None:
        self._miner._failure = self._miner._failure or ExecutionError(location, message)


def _calls(step: ChainStep) -> tuple[ChainStep, ...]:
    return step.calls if isinstance(step, Transaction) else (step,)
