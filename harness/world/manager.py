"""The manager's steps: what they take and where they are booked, by the ledger's books and never a syncer's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NoReturn, assert_never

from harness.books import Books
from harness.books.executor import BookedTrade, TradeKind, open_positions_of
from harness.books.records import Position, reserve_raw
from harness.chain import Call
from harness.errors import Location, Problem, ScenarioError
from harness.ledger.facts import Ledger, utc
from harness.scenario.model import (
    Amount,
    Borrow,
    Close,
    ManagerStep,
    Repay,
    Scenario,
    StepBase,
    Supply,
    Trade,
    Unsupply,
)
from harness.units import to_raw
from harness.world.setup import World
from harness.world.vault import Prepared, State, share


def stop(location: Location, message: str, expected: str | None = None) -> NoReturn:
    """End a scenario that cannot be carried out as it is written."""
    raise ScenarioError([Problem(location=location, message=message, expected=expected)])


def books_hold(books: Books, ledger: Ledger, symbol: str) -> bool:
    """Tell whether books have an open position in a token, or hold it as the reserve."""
    asset = ledger.setting.assets[symbol]
    return bool(open_positions_of(books, asset)) or (
        symbol == ledger.setting.reserve and _reserve_held(books, ledger) != 0
    )


def _reserve_held(books: Books, ledger: Ledger) -> int:
    reserve = books.portfolio.reserves.get(ledger.setting.reserve_asset.identifier)
    return reserve_raw(reserve) if reserve else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What a step comes to: the call, and what it moves of position and reserve, base units."""

    kind: TradeKind
    symbol: str
    position: Position | None
    """None: a new one."""
    quantity: int
    reserve: int
    call: Call
    text: str
    settled: ManagerStep
    """The step with its amounts counted out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """Prepares manager steps as of one moment."""

    scenario: Scenario
    world: World
    ledger: Ledger
    books: Books
    """The ledger's, as they are just before the step."""
    rebased: Mapping[str, tuple[int, Location]]
    """Tokens that rebased while the books held them and whose interest is not synced: block and step."""
    again: bool = False
    """Whether a reorganisation mines the step again: it was sent when the books were in order."""

    def prepare(
        self, step: ManagerStep, state: State, *, block: int, timestamp: int
    ) -> tuple[Prepared, BookedTrade, ManagerStep]:
        """Turn a step into a call, its booking (still without the transaction's hash), and the step as signed.

        Raises:
            ScenarioError: If the books do not allow the step.
        """
        self._refuse_after_unsynced_flows(step, block)
        order = self._order(step, state)
        setting = self.ledger.setting
        prepared = Prepared(
            call=order.call, text=order.text, asked={order.symbol: order.quantity, setting.reserve: order.reserve}
        )
        trade = BookedTrade(
            kind=order.kind,
            asset=setting.assets[order.symbol],
            reserve=setting.reserve_asset,
            quantity_raw=order.quantity,
            reserve_raw=order.reserve,
            position="new" if order.position is None else order.position.position_id,
            executed_at=utc(timestamp),
            block_number=block,
            tx_hash="",
            price=self.ledger.price(order.symbol, block),
        )
        return prepared, trade, order.settled

    def _order(self, step: ManagerStep, state: State) -> _Order:
        match step:
            case Trade() if step.sell.token == self.scenario.vault.reserve:
                return self._buy(step)
            case Trade():
                return self._sell(step)
            case Supply():
                return self._supply(step)
            case Unsupply():
                return self._unsupply(step)
            case Close():
                return self._close(step, state)
            case Borrow():
                return self._borrow(step)
            case Repay():
                return self._repay(step)
            case _:
                assert_never(step)

    def _buy(self, step: Trade) -> _Order:
        paid, bought = self._from_reserve(step, step.sell), share(step.buy, 0)
        return _Order(
            kind="trade",
            symbol=step.buy.token,
            position=self._position(step, step.buy.token, step.position, may_open=True),
            quantity=bought,
            reserve=-paid,
            call=self.world.kind.trade(step.sell.token, paid, step.buy.token, bought),
            text=f"the manager sells {self._text(step.sell, paid)} for {self._text(step.buy, bought)}",
            settled=replace(step, sell=_exact(step.sell, paid)),
        )

    def _sell(self, step: Trade) -> _Order:
        position = self._position(step, step.sell.token, step.position)
        sold, received = self._from_position(step, step.sell, position), share(step.buy, 0)
        return _Order(
            kind="trade",
            symbol=step.sell.token,
            position=position,
            quantity=-sold,
            reserve=received,
            call=self.world.kind.trade(step.sell.token, sold, step.buy.token, received),
            text=f"the manager sells {self._text(step.sell, sold)} for {self._text(step.buy, received)}",
            settled=replace(step, sell=_exact(step.sell, sold)),
        )

    def _supply(self, step: Supply) -> _Order:
        self._refuse_after_rebase(step, step.into)
        supplied = self._from_reserve(step, step.assets)
        return _Order(
            kind="supply",
            symbol=step.into,
            position=self._position(step, step.into, step.position, may_open=True),
            quantity=supplied,
            reserve=-supplied,
            call=self.world.kind.supply(supplied, step.into),
            text=f"the manager supplies {self._text(step.assets, supplied)} for {step.into}",
            settled=replace(step, assets=_exact(step.assets, supplied)),
        )

    def _unsupply(self, step: Unsupply) -> _Order:
        symbol = step.assets.token
        self._refuse_after_rebase(step, symbol)
        position = self._position(step, symbol, step.position)
        withdrawn = self._from_position(step, step.assets, position)
        return _Order(
            kind="unsupply",
            symbol=symbol,
            position=position,
            quantity=-withdrawn,
            reserve=withdrawn,
            call=self.world.kind.unsupply(withdrawn, symbol),
            text=f"the manager withdraws {self._text(step.assets, withdrawn)}",
            settled=replace(step, assets=_exact(step.assets, withdrawn)),
        )

    def _close(self, step: Close, state: State) -> _Order:
        position = self._credit_position(step)
        symbol = self.ledger.setting.symbol_of(position.asset)
        assert symbol is not None, "positions are in tokens of this world"
        self._refuse_after_rebase(step, symbol)
        tracked = position.quantity_raw
        balance = state.balance(self.world.around.tokens[symbol], self.world.deployed.holder)
        paid = min(tracked, balance)
        return _Order(
            kind="close",
            symbol=symbol,
            position=position,
            quantity=-tracked,
            reserve=paid,
            call=self.world.kind.unsupply(paid, symbol),
            text=f"the manager closes position {position.position_id}",
            settled=step,
        )

    def _borrow(self, step: Borrow) -> _Order:
        self._refuse_after_rebase(step, step.debt)
        position = self._credit_position(step)
        raw = share(step.assets, 0)
        return _Order(
            kind="borrow",
            symbol=step.debt,
            position=position,
            quantity=raw,
            reserve=raw,
            call=self.world.kind.borrow(raw, step.debt),
            text=f"the manager borrows {self._text(step.assets, raw)}",
            settled=step,
        )

    def _repay(self, step: Repay) -> _Order:
        self._refuse_after_rebase(step, step.debt)
        position = self._credit_position(step)
        owed = _owed(position)
        raw = share(step.assets, owed)
        if not self.again and raw > _reserve_held(self.books, self.ledger) and step.refused is None:
            stop(step.location, f"this takes {self._text(step.assets, raw)}, more than the reserve holds")
        return _Order(
            kind="repay",
            symbol=step.debt,
            position=position,
            quantity=-raw,
            reserve=-raw,
            call=self.world.kind.repay(raw, step.debt),
            text=f"the manager repays {self._text(step.assets, raw)}",
            settled=replace(step, assets=_exact(step.assets, raw)),
        )

    # -- how much, and of which position

    def _from_reserve(self, step: StepBase, amount: Amount) -> int:
        held = _reserve_held(self.books, self.ledger)
        return self._held(step, amount, share(amount, held), held)

    def _from_position(self, step: StepBase, amount: Amount, position: Position | None) -> int:
        held = position.quantity_raw if position is not None else 0
        return self._held(step, amount, share(amount, held), held)

    def _held(self, step: StepBase, amount: Amount, raw: int, held: int) -> int:
        if raw > held and step.refused is None and not self.again:
            stop(step.location, f"this takes {self._text(amount, raw)}, and the books hold {self._text(amount, held)}")
        return raw

    def _position(
        self, step: StepBase, symbol: str, wanted: int | str | None, *, may_open: bool = False
    ) -> Position | None:
        positions = open_positions_of(self.books, self.ledger.setting.assets[symbol])
        if wanted == "new":
            if not may_open:
                stop(step.location, "only a step that buys can open a new position", _one_of(positions))
            return None
        if wanted is not None:
            positions = [position for position in positions if position.position_id == wanted]
            if not positions:
                stop(step.location, f"no position {wanted} of {symbol} is open")
        if len(positions) > 1:
            stop(step.location, f"several positions of {symbol} are open", _one_of(positions))
        if not positions and not may_open and step.refused is None:
            stop(step.location, f"no position of {symbol} is open")
        return positions[0] if positions else None

    def _credit_position(self, step: Close | Borrow | Repay) -> Position:
        positions = [
            position
            for _, position in sorted(self.books.portfolio.open_positions.items())
            if position.loan is not None and step.position in (None, position.position_id)
        ]
        if not positions:
            which = "no credit position" if step.position is None else f"no credit position {step.position}"
            stop(step.location, f"{which} is open")
        if len(positions) > 1:
            stop(step.location, "several credit positions are open", _one_of(positions))
        return positions[0]

    # -- what an executor would not do

    def _refuse_after_unsynced_flows(self, step: ManagerStep, block: int) -> None:
        cursor = self.books.sync.treasury.last_block_scanned
        start = self.ledger.setting.deployment_block if cursor is None else cursor + 1
        unsynced = next(self.ledger.flows_between(start, block), None)
        if unsynced is not None and not step.unsynced and not self.again:
            stop(
                step.location,
                f"a manager step after a flow that is not synced yet (line {unsynced.location.line})",
                "a `sync` before it, or `unsynced: true` in the step",
            )

    def _refuse_after_rebase(self, step: ManagerStep, symbol: str) -> None:
        rebased = self.rebased.get(symbol)
        if rebased is not None and not step.unsynced and not self.again:
            stop(
                step.location,
                f"{symbol} rebased (line {rebased[1].line}) since the last interest sync",
                "a `sync_interest` before it, or `unsynced: true` in the step",
            )

    def _text(self, amount: Amount, raw: int) -> str:
        token = self.scenario.token(amount.token)
        return f"{token.format(raw)} {token.symbol}"


def _exact(amount: Amount, raw: int) -> Amount:
    return replace(amount, raw=raw, percent=None)


def _owed(position: Position) -> int:
    tracker = position.loan.borrowed_interest if position.loan is not None else None
    if tracker is None or position.loan is None or position.loan.borrowed is None:
        return 0
    return to_raw(tracker.last_token_amount, position.loan.borrowed.asset.decimals)


def _one_of(positions: list[Position]) -> str | None:
    if not positions:
        return None
    return "`position:` with one of " + ", ".join(str(position.position_id) for position in positions)
