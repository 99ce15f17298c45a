"""Writes one block's transactions into the ledger, from what was asked and what state shows."""

from __future__ import annotations

from collections.abc import Mapping

from harness.chain import Outcome, Pending
from harness.ledger.bookkeeping import InconsistentLedger
from harness.ledger.facts import Flow, Ledger, Move, Traded, Transaction
from harness.scenario.model import ChainStep
from harness.world.vault import FlowIntent, Prepared


class Recorder:
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
        self,
        step: ChainStep,
        prepared: Prepared,
        outcome: Outcome,
        balances: Mapping[str, int],
        supply: int,
        shares: int = 0,
    ) -> None:
        """Note one transaction: its flow, and whatever else it did to the holder's balances.

        Args:
            balances: The holder's, after it.
            supply: Of shares, after it.
            shares: How those of the flow's owner changed with it.
        """
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
                    shares=shares,
                )
            )
        elif prepared.flow is None:
            for symbol, raw in asked.items():
                self._ledger.add_traded(
                    Traded(
                        symbol=symbol,
                        raw=raw,
                        block=self._number,
                        transaction=outcome.transaction_hash,
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
    """Find a flow's log index: the place of the mark's emitter and topic 0; no more of any log is read."""
    places = [
        log.log_index
        for log in outcome.logs
        if log.address == flow.mark.emitter and log.topics and bytes(log.topics[0]) == flow.mark.topic
    ]
    if len(places) != 1:
        raise InconsistentLedger(f"a flow's transaction shows {len(places)} marks instead of one")
    return places[0]
