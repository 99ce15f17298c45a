"""Carry a scenario's steps out on the chain, and write down what happened and what was asked of the syncer.

The whole chain is played before any syncer runs: nothing on it depends on one. Every syncing operation is
pinned to its blocks, so it can be run afterwards, as often and in as many ways as anybody likes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import assert_never

from harness.books import Books
from harness.books.executor import BookedTrade, book_trade
from harness.chain import Call, Chain, Outcome, Pending
from harness.errors import BooksError, ExecutionError, Location
from harness.ledger.bookkeeping import InconsistentLedger, Operation, Refusal, expected_books
from harness.ledger.facts import Ledger, MinedBlock
from harness.scenario.model import (
    Amount,
    ChainStep,
    Check,
    Close,
    Deposit,
    Donate,
    EndBlock,
    Expectation,
    Initialise,
    LawOff,
    Mint,
    Price,
    Rebase,
    Redeem,
    Restart,
    Scenario,
    StepBase,
    Supply,
    SyncInterest,
    SyncTreasury,
    Take,
    Tolerance,
    Trade,
    TransferShares,
    Unsupply,
    Wait,
    Withdraw,
)
from harness.scenario.plan import PlannedBlock, PlannedStep, plan
from harness.units import PRICE_DECIMALS, format_units
from harness.world.manager import Manager, books_hold, stop
from harness.world.recorder import Recorder
from harness.world.setup import ERC20, INDEX_TOKEN, PRICE_FEED, Foundation, World
from harness.world.vault import Prepared, State, share

SINK = "0x000000000000000000000000000000000000dEaD"
"""Where taken tokens go."""
_TEMPLATES_KEPT = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncAct:
    """A syncing operation, the ledger's books before it, and what must come of it."""

    operation: Operation
    expectation: Expectation | None
    announced: str | None
    """The refusal that the file announces (text that the reason must contain), if it does."""
    before: Books
    expected: Books | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class BookAct:
    """A trade that the executor books into whoever's books."""

    trade: BookedTrade
    location: Location
    expected: Books
    """The ledger's books after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartAct:
    """A fresh syncer, books through JSON, pointed at this chain id and vault."""

    chain_id: int
    vault: str
    location: Location


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckAct:
    """An ``expect`` that judges the books as they are, and the chain at the head."""

    expectation: Expectation
    block: int
    expected: Books
    location: Location


Act = SyncAct | BookAct | RestartAct | CheckAct


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A scenario that was played: the chain, the truth, and what to ask of a syncer, in order."""

    chain: Chain
    ledger: Ledger
    world: World
    acts: tuple[Act, ...]
    laws_off: tuple[LawOff, ...] = ()
    """Laws that the scenario switches off."""
    tolerances: tuple[Tolerance, ...] = ()
    """How far a syncer's books may differ in it."""

    def state(self, block: int) -> State:
        """The chain's state at the end of a block, to read by ABI."""
        return State(lambda to, data: self.chain.call(to, data, block=block))

    def gross_assets(self, block: int) -> int:
        """What all shares together stand for at the end of a block, raw reserve units."""
        return self.world.kind.gross_assets(self.state(block))

    def share_price(self, block: int) -> Fraction | None:
        """Assets per share at the end of a block, in tokens; None without shares."""
        setting = self.ledger.setting
        supply = self.ledger.supply(block)
        if not supply:
            return None
        gross = self.gross_assets(block)
        return Fraction(gross, 10**setting.reserve_asset.decimals) / Fraction(supply, 10**setting.share_decimals)


def play(scenario: Scenario) -> Played:
    """Play a scenario from genesis to its last step.

    Raises:
        ExecutionError: If a step does on chain what the file does not say.
        ScenarioError: If a step cannot be carried out as written, or announces a refusal that is not due, or
            fails to announce one that is.
    """
    return _Player(scenario).play()


# -- the world, deployed once and cloned


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    """A world that stands, what the ledger knows of its first blocks, and the second fund's next turn."""

    chain: Chain
    world: World
    ledger: Ledger
    turn: int


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
        repr(scenario.deploy_block) if scenario.deploy_block else None,
    )


class _Player:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._acts: list[Act] = []
        self._books = Books()
        self._last_trade_block = 0
        self._rebased: dict[str, tuple[int, Location]] = {}
        """Block and step of the last rebase of a token that the books held, until interest is synced."""
        self._turn = 1
        self._failure: ExecutionError | None = None
        self._chain: Chain
        self._world: World
        self._ledger: Ledger
        self._chain_id = scenario.chain_id
        self._vault = ""

    def play(self) -> Played:
        items = plan(self._scenario)
        setup = [item for item in items if isinstance(item, PlannedBlock) and item.step is None]
        self._set_up(setup)
        self._vault = self._ledger.setting.vault
        if not any(isinstance(step, Initialise) for step in self._scenario.steps):
            self._initialise_unasked()
        for item in items:
            if isinstance(item, PlannedStep):
                self._step(item)
            elif item.step is not None:
                self._mine(item)
        return Played(
            chain=self._chain,
            ledger=self._ledger,
            world=self._world,
            acts=tuple(self._acts),
            laws_off=self._scenario.laws_off,
            tolerances=self._scenario.tolerances,
        )

    # -- set-up

    def _set_up(self, blocks: list[PlannedBlock]) -> None:
        key = _fingerprint(self._scenario)
        found = _templates.get(key)
        if found is None:
            self._deploy(blocks)
            _templates[key] = _Template(
                chain=self._chain.clone(),
                world=self._world,
                ledger=self._ledger.copy(self._ledger.setting),
                turn=self._turn,
            )
            if len(_templates) > _TEMPLATES_KEPT:
                _templates.popitem(last=False)
            return
        self._chain = found.chain.clone()
        self._world = found.world
        self._ledger = found.ledger.copy(self._world.setting(self._scenario))
        self._turn = found.turn

    def _deploy(self, blocks: list[PlannedBlock]) -> None:
        genesis, tokens, vault = blocks
        foundation = Foundation(self._scenario)
        self._chain = Chain(
            chain_id=self._scenario.chain_id, genesis_timestamp=genesis.timestamp, accounts=foundation.accounts()
        )
        self._chain.mine(lambda _: foundation.deploy_tokens(), timestamp=tokens.timestamp)

        recorder: list[Recorder] = []

        def second_block(pending: Pending) -> Generator[Call, Outcome, None]:
            self._world = yield from foundation.deploy_vault()
            self._ledger = Ledger(self._world.setting(self._scenario))
            for number, header in ((0, self._chain.header(0)), (1, self._chain.header(1))):
                self._ledger.add_block(
                    MinedBlock(number=number, hash="0x" + bytes(header.hash).hex(), timestamp=header.timestamp)
                )
            for symbol, spec in self._scenario.tokens.items():
                self._ledger.set_price(symbol, 1, spec.price_raw)
            recorder.append(Recorder(self._ledger, pending))
            yield from self._steps(vault, pending, recorder[0])

        mined = self._chain.mine(second_block, timestamp=vault.timestamp)
        self._finish(vault, mined.hash, recorder[0])

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
        self._operate(operation, expectation=None, announced=None)

    # -- blocks

    def _mine(self, block: PlannedBlock) -> None:
        if not block.steps:
            mined = self._chain.mine_empty(timestamp=block.timestamp)
            self._ledger.add_block(MinedBlock(number=mined.number, hash=mined.hash, timestamp=mined.timestamp))
        else:
            recorder: list[Recorder] = []

            def build(pending: Pending) -> Generator[Call, Outcome, None]:
                recorder.append(Recorder(self._ledger, pending))
                yield from self._steps(block, pending, recorder[0])

            mined = self._chain.mine(build, timestamp=block.timestamp)
            self._finish(block, mined.hash, recorder[0])
        for step in block.steps:
            self._judge_later(step, block.number)
        if block.last and block.step is not None and block.step not in block.steps:
            self._judge_later(block.step, block.number)

    def _finish(self, block: PlannedBlock, block_hash: str, recorder: Recorder) -> None:
        self._ledger.add_block(MinedBlock(number=block.number, hash=block_hash, timestamp=block.timestamp))
        recorder.write(block.number)
        if self._failure is not None:
            raise self._failure

    def _judge_later(self, step: StepBase, block: int) -> None:
        if step.expect is not None:
            self._acts.append(
                CheckAct(expectation=step.expect, block=block, expected=self._books, location=step.location)
            )

    def _steps(self, block: PlannedBlock, pending: Pending, recorder: Recorder) -> Generator[Call, Outcome, None]:
        flows = False
        state = State(pending.call)
        for step in block.steps:
            order: BookedTrade | None = None
            if isinstance(step, Trade | Supply | Unsupply | Close):
                manager = Manager(
                    scenario=self._scenario,
                    world=self._world,
                    ledger=self._ledger,
                    books=self._books,
                    rebased=self._rebased,
                )
                prepared, order = manager.prepare(step, state, block=block.number, timestamp=block.timestamp)
            else:
                prepared = self._prepare(step, state)
            held = self._owners_shares(prepared, state)
            outcome = yield prepared.call
            self._judge(step, outcome, prepared)
            supply = self._world.kind.share_supply(state)
            shares = self._owners_shares(prepared, state) - held
            recorder.record(step, prepared, outcome, self._balances(state), supply, shares)
            flows = flows or isinstance(step, Deposit | Mint | Withdraw | Redeem)
            if not outcome.succeeded:
                continue
            if order is not None:
                self._book(replace(order, tx_hash=outcome.transaction_hash), step.location)
            if isinstance(step, Rebase) and books_hold(self._books, self._ledger, step.token):
                self._rebased[step.token] = (block.number, step.location)
            if isinstance(step, Price):
                recorder.set_price(step.token, step.price_raw)
        if flows:
            second = yield self._world.kind.second_fund_flow(self._turn)
            if not second.succeeded:
                raise InconsistentLedger(f"the second fund's flow failed: {second.revert_reason}")
            self._turn += 1

    def _owners_shares(self, prepared: Prepared, state: State) -> int:
        return 0 if prepared.flow is None else self._world.kind.share_balance(state, prepared.flow.owner)

    def _balances(self, state: State) -> dict[str, int]:
        holder = self._world.deployed.holder
        return {symbol: state.balance(address, holder) for symbol, address in self._world.around.tokens.items()}

    def _judge(self, step: ChainStep, outcome: Outcome, prepared: Prepared) -> None:
        """Compare how a transaction ended with what the step says; the first that differs ends the scenario."""
        reason = outcome.revert_reason or "no reason given"
        if outcome.succeeded and step.refused is not None:
            self._fail(step.location, f"{prepared.text}: should be refused, but went through")
        elif not outcome.succeeded and step.refused is None:
            self._fail(step.location, f"{prepared.text}: failed on chain: {reason}")
        elif not outcome.succeeded and step.refused is not None and step.refused not in reason:
            self._fail(
                step.location, f"{prepared.text}: refused as {reason!r}, which does not contain {step.refused!r}"
            )

    def _fail(self, location: Location, message: str) -> None:
        self._failure = self._failure or ExecutionError(location, message)

    # -- steps without a position

    def _prepare(self, step: ChainStep, state: State) -> Prepared:
        around = self._world.around
        kind = self._world.kind
        match step:
            case Deposit() | Mint() | Withdraw() | Redeem():
                return kind.prepare(step, state)
            case TransferShares():
                caller = around.actors[step.caller]
                raw = share(step.shares, kind.share_balance(state, caller.address))
                call = kind.transfer_shares(caller, around.actors[step.receiver].address, raw)
                text = f"{step.caller} hands {self._scenario.share.format(raw)} shares to {step.receiver}"
                return Prepared(call=call, text=text, asked={})
            case Donate():
                caller = around.actors[step.caller]
                token = around.tokens[step.assets.token]
                raw = share(step.assets, state.balance(token, caller.address))
                call = Call(sender=caller, to=token, data=ERC20.encode("transfer", self._world.deployed.holder, raw))
                return Prepared(
                    call=call, text=f"{step.caller} donates {self._format(step.assets, raw)}", asked={}, rest="donated"
                )
            case Take():
                raw = share(step.assets, state.balance(around.tokens[step.assets.token], self._world.deployed.holder))
                call = kind.take(step.assets.token, raw, SINK)
                return Prepared(
                    call=call, text=f"{self._format(step.assets, raw)} is taken out, unbooked", asked={}, rest="taken"
                )
            case Rebase():
                return self._prepare_rebase(step)
            case Price():
                call = Call(
                    sender=around.deployer,
                    to=around.feeds[step.token],
                    data=PRICE_FEED.encode("set_answer", step.price_raw),
                )
                return Prepared(call=call, text=f"{step.token} is priced at {_usd(step.price_raw)} USD", asked={})
            case Trade() | Supply() | Unsupply() | Close():
                raise TypeError("manager steps are prepared with their booking")
            case _:
                assert_never(step)

    def _prepare_rebase(self, step: Rebase) -> Prepared:
        token = self._world.around.tokens[step.token]
        if step.balance is None:
            data = INDEX_TOKEN.encode("rebase_by", step.factor_ray)
            text = f"{step.token} rebases by {Fraction(step.factor_ray or 0, 10**27)}"
        else:
            raw = share(step.balance, 0)
            data = INDEX_TOKEN.encode("rebase_to", self._world.deployed.holder, raw)
            text = f"{step.token} rebases: the vault's balance becomes {self._format(step.balance, raw)}"
        return Prepared(
            call=Call(sender=self._world.around.deployer, to=token, data=data), text=text, asked={}, rest="rebase"
        )

    def _format(self, amount: Amount, raw: int) -> str:
        token = self._scenario.token(amount.token)
        return f"{token.format(raw)} {token.symbol}"

    def _book(self, trade: BookedTrade, location: Location) -> None:
        try:
            self._books = book_trade(self._books, trade)
        except (BooksError, ValueError) as error:
            stop(location, f"this cannot be booked: {error}")
        self._last_trade_block = trade.block_number
        self._acts.append(BookAct(trade=trade, location=location, expected=self._books))

    # -- steps that mine nothing

    def _step(self, item: PlannedStep) -> None:
        step = item.step
        match step:
            case Wait():
                self._judge_later(step, item.head)
            case Check():
                self._judge_later(step, item.head)
            case Restart():
                setting = self._ledger.setting
                self._chain_id = step.chain_id if step.chain_id is not None else setting.chain_id
                self._vault = setting.second_vault if step.second_vault else setting.vault
                self._acts.append(RestartAct(chain_id=self._chain_id, vault=self._vault, location=step.location))
                self._judge_later(step, item.head)
            case Initialise() | SyncTreasury() | SyncInterest():
                self._operate(self._operation(step, item.head), expectation=step.expect, announced=step.refused)
            case _:
                assert_never(step)

    def _operation(self, step: Initialise | SyncTreasury | SyncInterest, head: int) -> Operation:
        end_block = self._end_block(step.location, step.end_block, head)
        cycle = None
        if isinstance(step, SyncTreasury):
            if end_block < self._last_trade_block:
                stop(
                    step.location,
                    f"a sync that ends at block {end_block}, before the trade booked at block {self._last_trade_block}",
                )
            mined_at = self._ledger.mined_at(end_block)
            last = self._books.sync.treasury.last_cycle_at
            cycle = step.cycle or (mined_at if last is None else max(mined_at, last))
        return Operation(
            kind="initialise"
            if isinstance(step, Initialise)
            else "sync"
            if isinstance(step, SyncTreasury)
            else "sync_interest",
            location=step.location,
            end_block=end_block,
            head=head,
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

    def _operate(self, operation: Operation, *, expectation: Expectation | None, announced: str | None) -> None:
        self._refuse_beside_the_point(operation)
        expected = expected_books(self._ledger, self._books, operation)
        if isinstance(expected, Refusal) and announced is None:
            stop(
                operation.location,
                f"this must be refused ({expected.reason})",
                "`refused` beside the step, or another step",
            )
        if not isinstance(expected, Refusal) and announced is not None:
            stop(operation.location, "nothing here is a reason to refuse", "no `refused` beside the step")
        self._acts.append(
            SyncAct(
                operation=operation, expectation=expectation, announced=announced, before=self._books, expected=expected
            )
        )
        if isinstance(expected, Refusal):
            return
        if operation.kind == "sync_interest" and operation.end_block < self._last_trade_block:
            stop(
                operation.location,
                f"a sync_interest that ends at block {operation.end_block}, before the trade booked at block "
                f"{self._last_trade_block}",
            )
        self._books = expected
        if operation.kind == "sync_interest":
            self._rebased = {
                symbol: rebase for symbol, rebase in self._rebased.items() if rebase[0] > operation.end_block
            }

    def _refuse_beside_the_point(self, operation: Operation) -> None:
        """End a scenario that asks for what nobody has said the answer to."""
        setting = self._ledger.setting
        elsewhere = (operation.chain_id, operation.vault) != (setting.chain_id, setting.vault)
        if operation.kind == "initialise" and elsewhere and not self._books.sync.is_initialised():
            stop(operation.location, "books that are initialised while the syncer is pointed elsewhere", "a `restart`")
        if operation.kind == "sync" and operation.end_block < setting.deployment_block:
            stop(
                operation.location,
                f"a sync that ends at block {operation.end_block}, before the vault's deployment",
                f"a block from {setting.deployment_block} on",
            )


def _usd(price_raw: int) -> str:
    return format_units(price_raw, PRICE_DECIMALS).rstrip("0").rstrip(".")
