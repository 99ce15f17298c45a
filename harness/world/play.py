"""Carry a scenario's steps out on the chain, and write down what happened and what was asked of the syncer.

The whole chain is played before any syncer runs: nothing on it depends on one. Every syncing operation is
pinned to its blocks, so it can be run afterwards, as often and in as many ways as anybody likes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NoReturn, assert_never

from harness.books import Books
from harness.books.executor import BookedTrade, TradeKind, book_trade, open_positions_of
from harness.books.records import AssetIdentifier, Position, reserve_raw
from harness.chain import Call, Chain, Outcome, Pending
from harness.errors import BooksError, ExecutionError, Location, Problem, ScenarioError
from harness.ledger.bookkeeping import InconsistentLedger, Operation, Refusal, expected_books
from harness.ledger.facts import Flow, Ledger, MinedBlock, Move, Transaction, utc
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
    Trade,
    TransferShares,
    Unsupply,
    Wait,
    Withdraw,
)
from harness.scenario.plan import PlannedBlock, PlannedStep, plan
from harness.units import PRICE_DECIMALS, format_units
from harness.world.setup import ERC20, INDEX_TOKEN, PRICE_FEED, Foundation, World
from harness.world.vault import FlowIntent, Prepared, State, share

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

    def share_price(self, block: int) -> Fraction | None:
        """Assets per share at the end of a block, in tokens; None without shares."""
        setting = self.ledger.setting
        supply = self.ledger.supply(block)
        if not supply:
            return None
        state = State(lambda to, data: self.chain.call(to, data, block=block))
        gross = self.world.kind.gross_assets(state)
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
        return Played(chain=self._chain, ledger=self._ledger, world=self._world, acts=tuple(self._acts))

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

        recorder: list[_Recorder] = []

        def second_block(pending: Pending) -> Generator[Call, Outcome, None]:
            self._world = yield from foundation.deploy_vault()
            self._ledger = Ledger(self._world.setting(self._scenario))
            for number, header in ((0, self._chain.header(0)), (1, self._chain.header(1))):
                self._ledger.add_block(
                    MinedBlock(number=number, hash="0x" + bytes(header.hash).hex(), timestamp=header.timestamp)
                )
            for symbol, spec in self._scenario.tokens.items():
                self._ledger.set_price(symbol, 1, spec.price_raw)
            recorder.append(_Recorder(self._ledger, pending))
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
            recorder: list[_Recorder] = []

            def build(pending: Pending) -> Generator[Call, Outcome, None]:
                recorder.append(_Recorder(self._ledger, pending))
                yield from self._steps(block, pending, recorder[0])

            mined = self._chain.mine(build, timestamp=block.timestamp)
            self._finish(block, mined.hash, recorder[0])
        for step in block.steps:
            self._judge_later(step, block.number)
        if block.last and block.step is not None and block.step not in block.steps:
            self._judge_later(block.step, block.number)

    def _finish(self, block: PlannedBlock, block_hash: str, recorder: _Recorder) -> None:
        self._ledger.add_block(MinedBlock(number=block.number, hash=block_hash, timestamp=block.timestamp))
        recorder.write(block.number)
        if self._failure is not None:
            raise self._failure

    def _judge_later(self, step: StepBase, block: int) -> None:
        if step.expect is not None:
            self._acts.append(
                CheckAct(expectation=step.expect, block=block, expected=self._books, location=step.location)
            )

    def _steps(self, block: PlannedBlock, pending: Pending, recorder: _Recorder) -> Generator[Call, Outcome, None]:
        flows = False
        state = State(pending.call)
        for step in block.steps:
            order: BookedTrade | None = None
            if isinstance(step, Trade | Supply | Unsupply | Close):
                prepared, order = self._prepare_manager(step, state, block)
            else:
                prepared = self._prepare(step, state)
            outcome = yield prepared.call
            self._judge(step, outcome, prepared)
            recorder.record(step, prepared, outcome, self._balances(state), self._world.kind.share_supply(state))
            flows = flows or isinstance(step, Deposit | Mint | Withdraw | Redeem)
            if not outcome.succeeded:
                continue
            if order is not None:
                self._book(replace(order, tx_hash=outcome.transaction_hash), step.location)
            if isinstance(step, Rebase) and self._books_hold(step.token):
                self._rebased[step.token] = (block.number, step.location)
            if isinstance(step, Price):
                recorder.set_price(step.token, step.price_raw)
        if flows:
            second = yield self._world.kind.second_fund_flow(self._turn)
            if not second.succeeded:
                raise InconsistentLedger(f"the second fund's flow failed: {second.revert_reason}")
            self._turn += 1

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

    # -- the manager's steps

    def _prepare_manager(
        self, step: Trade | Supply | Unsupply | Close, state: State, block: PlannedBlock
    ) -> tuple[Prepared, BookedTrade]:
        self._refuse_after_unsynced_flows(step, block.number)
        reserve = self._scenario.vault.reserve
        kind = self._world.kind
        verb: TradeKind
        position: Position | None
        match step:
            case Trade() if step.sell.token == reserve:
                symbol = step.buy.token
                paid = share(step.sell, self._reserve_books())
                self._must_hold(step, reserve, paid, self._reserve_books())
                bought = share(step.buy, 0)
                position = self._position(step, symbol, step.position, may_open=True)
                call = kind.trade(reserve, paid, symbol, bought)
                text = f"the manager sells {self._format(step.sell, paid)} for {self._format(step.buy, bought)}"
                verb, quantity, moved = "trade", bought, -paid
            case Trade():
                symbol = step.sell.token
                position = self._position(step, symbol, step.position)
                held = position.quantity_raw if position else 0
                sold = share(step.sell, held)
                self._must_hold(step, symbol, sold, held)
                received = share(step.buy, 0)
                call = kind.trade(symbol, sold, reserve, received)
                text = f"the manager sells {self._format(step.sell, sold)} for {self._format(step.buy, received)}"
                verb, quantity, moved = "trade", -sold, received
            case Supply():
                symbol = step.into
                self._refuse_after_rebase(step, symbol)
                supplied = share(step.assets, self._reserve_books())
                self._must_hold(step, reserve, supplied, self._reserve_books())
                position = self._position(step, symbol, step.position, may_open=True)
                call = kind.supply(supplied, symbol)
                text = f"the manager supplies {self._format(step.assets, supplied)} for {symbol}"
                verb, quantity, moved = "supply", supplied, -supplied
            case Unsupply():
                symbol = step.assets.token
                self._refuse_after_rebase(step, symbol)
                position = self._position(step, symbol, step.position)
                held = position.quantity_raw if position else 0
                withdrawn = share(step.assets, held)
                self._must_hold(step, symbol, withdrawn, held)
                call = kind.unsupply(withdrawn, symbol)
                text = f"the manager withdraws {self._format(step.assets, withdrawn)}"
                verb, quantity, moved = "unsupply", -withdrawn, withdrawn
            case Close():
                position = self._credit_position(step)
                symbol = self._symbol(position.asset)
                self._refuse_after_rebase(step, symbol)
                tracked = position.quantity_raw
                paid = min(tracked, state.balance(self._world.around.tokens[symbol], self._world.deployed.holder))
                call = kind.unsupply(paid, symbol)
                text = f"the manager closes position {position.position_id}"
                verb, quantity, moved = "close", -tracked, paid
            case _:
                assert_never(step)
        prepared = Prepared(call=call, text=text, asked={symbol: quantity, reserve: moved})
        trade = BookedTrade(
            kind=verb,
            asset=self._ledger.setting.assets[symbol],
            reserve=self._ledger.setting.reserve_asset,
            quantity_raw=quantity,
            reserve_raw=moved,
            position="new" if position is None else position.position_id,
            executed_at=utc(block.timestamp),
            block_number=block.number,
            tx_hash="",
            price=self._ledger.price(symbol, block.number),
        )
        return prepared, trade

    def _symbol(self, asset: AssetIdentifier) -> str:
        symbol = self._ledger.setting.symbol_of(asset)
        assert symbol is not None, "positions are in tokens of this world"
        return symbol

    def _reserve_books(self) -> int:
        reserve = self._books.portfolio.reserves.get(self._ledger.setting.reserve_asset.identifier)
        return reserve_raw(reserve) if reserve else 0

    def _must_hold(self, step: StepBase, symbol: str, raw: int, held: int) -> None:
        if raw > held and step.refused is None:
            token = self._scenario.token(symbol)
            self._stop(
                step.location,
                f"this takes {token.format(raw)} {symbol}, and the books hold {token.format(held)}",
            )

    def _position(
        self, step: StepBase, symbol: str, wanted: int | str | None, *, may_open: bool = False
    ) -> Position | None:
        positions = open_positions_of(self._books, self._ledger.setting.assets[symbol])
        if wanted == "new":
            if not may_open:
                self._stop(step.location, "only a step that buys can open a new position")
            return None
        if wanted is not None:
            for position in positions:
                if position.position_id == wanted:
                    return position
            self._stop(step.location, f"no position {wanted} of {symbol} is open", _names(positions))
        if len(positions) > 1:
            self._stop(step.location, f"several positions of {symbol} are open: say which", _names(positions))
        if positions:
            return positions[0]
        if not may_open and step.refused is None:
            self._stop(step.location, f"no position of {symbol} is open")
        return None

    def _credit_position(self, step: Close) -> Position:
        positions = [
            position
            for _, position in sorted(self._books.portfolio.open_positions.items())
            if position.loan is not None
        ]
        if step.position is not None:
            positions = [position for position in positions if position.position_id == step.position]
        if len(positions) != 1:
            found = (
                "no such credit position is open" if not positions else "several credit positions are open: say which"
            )
            self._stop(step.location, found, _names(positions) if positions else None)
        return positions[0]

    def _refuse_after_unsynced_flows(self, step: Trade | Supply | Unsupply | Close, block: int) -> None:
        cursor = self._books.sync.treasury.last_block_scanned
        start = self._ledger.setting.deployment_block if cursor is None else cursor + 1
        unsynced = next(self._ledger.flows_between(start, block), None)
        if unsynced is not None and not step.unsynced:
            self._stop(
                step.location,
                f"a manager step after a flow that is not synced yet (line {unsynced.location.line})",
                "a `sync` before it, or `unsynced: true` in the step",
            )

    def _refuse_after_rebase(self, step: StepBase, symbol: str) -> None:
        rebased = self._rebased.get(symbol)
        if rebased is not None:
            self._stop(
                step.location,
                f"{symbol} rebased (line {rebased[1].line}) since the last interest sync",
                "a `sync_interest` before this step",
            )

    def _books_hold(self, symbol: str) -> bool:
        asset = self._ledger.setting.assets[symbol]
        return bool(open_positions_of(self._books, asset)) or (
            symbol == self._scenario.vault.reserve and self._reserve_books() != 0
        )

    def _book(self, trade: BookedTrade, location: Location) -> None:
        try:
            self._books = book_trade(self._books, trade)
        except (BooksError, ValueError) as error:
            self._stop(location, f"this cannot be booked: {error}")
        self._last_trade_block = trade.block_number
        self._acts.append(BookAct(trade=trade, location=location, expected=self._books))

    def _stop(self, location: Location, message: str, expected: str | None = None) -> NoReturn:
        raise ScenarioError([Problem(location=location, message=message, expected=expected)])

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
                self._stop(
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
            self._stop(location, f"end block {number} is not on the chain", f"a block from 0 to {head}")
        return number

    def _operate(self, operation: Operation, *, expectation: Expectation | None, announced: str | None) -> None:
        expected = expected_books(self._ledger, self._books, operation)
        if isinstance(expected, Refusal) and announced is None:
            self._stop(
                operation.location,
                f"this must be refused ({expected.reason})",
                "`refused` beside the step, or another step",
            )
        if not isinstance(expected, Refusal) and announced is not None:
            self._stop(operation.location, "nothing here is a reason to refuse", "no `refused` beside the step")
        self._acts.append(
            SyncAct(
                operation=operation, expectation=expectation, announced=announced, before=self._books, expected=expected
            )
        )
        if isinstance(expected, Refusal):
            return
        self._books = expected
        if operation.kind == "sync_interest":
            self._rebased = {
                symbol: rebase for symbol, rebase in self._rebased.items() if rebase[0] > operation.end_block
            }


class _Recorder:
    """Collects what one block does, and writes it into the ledger once the block is mined."""

    def __init__(self, ledger: Ledger, pending: Pending) -> None:
        self._ledger = ledger
        self._number = pending.number
        previous = pending.number - 1
        self._balances = {symbol: ledger.balance(symbol, previous) for symbol in ledger.setting.assets}
        self._supply = ledger.supply(previous)

    def set_price(self, symbol: str, price_raw: int) -> None:
        self._ledger.set_price(symbol, self._number, price_raw)

    def record(
        self, step: ChainStep, prepared: Prepared, outcome: Outcome, balances: Mapping[str, int], supply: int
    ) -> None:
        """Note one transaction: its flow, and whatever else it did to the holder's balances."""
        location = step.location
        self._ledger.add_transaction(
            Transaction(
                hash=outcome.transaction_hash,
                block=self._number,
                location=location,
                text=prepared.text,
                failed=None if outcome.succeeded else outcome.revert_reason or "no reason given",
            )
        )
        asked = prepared.asked if outcome.succeeded else {}
        for symbol, raw in balances.items():
            rest = raw - self._balances[symbol] - asked.get(symbol, 0)
            if rest:
                self._check_rest(prepared, symbol, rest, outcome.succeeded)
                move = Move(
                    kind=prepared.rest,
                    symbol=symbol,
                    raw=rest,
                    block=self._number,
                    transaction=outcome.transaction_hash,
                    location=location,
                )
                self._ledger.add_move(move)
        self._balances = dict(balances)
        self._supply = supply
        if outcome.succeeded and prepared.flow is not None:
            self._ledger.add_flow(
                Flow(
                    cause=prepared.flow.cause,
                    block=self._number,
                    transaction=outcome.transaction_hash,
                    log_index=_mark(outcome, prepared.flow),
                    owner=prepared.flow.owner,
                    legs=prepared.flow.legs,
                    location=location,
                )
            )

    def _check_rest(self, prepared: Prepared, symbol: str, rest: int, succeeded: bool) -> None:
        """Only some changes may differ from what was asked: anything else means that the harness misreads the world."""
        rounds = self._ledger.setting.assets[symbol].is_rebase()
        if not succeeded or (prepared.rest == "rounded" and not rounds):
            raise InconsistentLedger(f"{prepared.text}: {symbol} moved by {rest} base units that nobody asked for")

    def write(self, number: int) -> None:
        """Note balances and supply as the block leaves them."""
        for symbol, raw in self._balances.items():
            self._ledger.set_balance(symbol, number, raw)
        self._ledger.set_supply(number, self._supply)


def _mark(outcome: Outcome, flow: FlowIntent) -> int:
    """Find a flow's log index: its transaction holds one log of the mark's emitter and topic 0; no more of it is read."""
    places = [
        log.log_index
        for log in outcome.logs
        if log.address == flow.mark.emitter and log.topics and bytes(log.topics[0]) == flow.mark.topic
    ]
    if len(places) != 1:
        raise InconsistentLedger(f"a flow's transaction shows {len(places)} marks instead of one")
    return places[0]


def _usd(price_raw: int) -> str:
    return format_units(price_raw, PRICE_DECIMALS).rstrip("0").rstrip(".")


def _names(positions: list[Position]) -> str | None:
    return "one of " + ", ".join(str(position.position_id) for position in positions) if positions else None
