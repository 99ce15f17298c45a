"""Writes one block's transactions into the ledger, from what was asked and what state shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.chain import Outcome, Pending
from harness.errors import Location
from harness.ledger.bookkeeping import InconsistentLedger
from harness.ledger.facts import Flow, Ledger, Move, ShareFee, Traded, Transaction
from harness.world.vault import Mark, Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One call of a transaction, and how things stood after it."""

    location: Location
    prepared: Prepared
    balances: Mapping[str, int]
    """The holder's."""
    supply: int
    """Of shares."""
    shares: int
    """How those of the flow's owner changed with it."""


class Recorder:
    """Collects what one block does, and writes it into the ledger once the block is mined.

    Args:
        ledger: Where to.
        pending: The block.
        rounds: Whether a transfer of a token may move other than it was asked to.
    """

    def __init__(self, ledger: Ledger, pending: Pending, rounds: Callable[[str], bool]) -> None:
        self._ledger = ledger
        self._number = pending.number
        self._rounds = rounds
        previous = pending.number - 1
        self._balances = {symbol: ledger.balance(symbol, previous) for symbol in ledger.setting.assets}
        self._supply = ledger.supply(previous)

    def set_price(self, symbol: str, price_raw: int) -> None:
        self._ledger.set_price(symbol, self._number, price_raw)

    def note_growth(self, balances: Mapping[str, int], location: Location) -> None:
        """Note what time alone did to balances since the block before; by which step, if no later one is known."""
        for symbol, raw in balances.items():
            self._ledger.add_move(
                Move(
                    kind="rebase",
                    symbol=symbol,
                    raw=raw - self._balances[symbol],
                    block=self._number,
                    transaction="",
                    location=location,
                )
            )
        self._balances = dict(balances)

    def record(self, location: Location, text: str, outcome: Outcome, parts: Sequence[Part]) -> None:
        """Note one transaction: the flows of its calls, and whatever else they did to the holder's balances.

        Args:
            location: Of the step that sent it.
            text: What it did, in words.
            outcome: What became of it.
            parts: Its calls in order; of one that failed the first alone, with balances as they are after it.
        """
        self._ledger.add_transaction(
            Transaction(
                hash=outcome.transaction_hash,
                block=self._number,
                location=location,
                text=text,
                failed=None if outcome.succeeded else outcome.revert_reason or "no reason given",
            )
        )
        places = _marks(outcome, [_mark_of(part.prepared) for part in parts]) if outcome.succeeded else [None]
        for part, place in zip(parts, places, strict=True):
            self._record(part, outcome, place)

    def _record(self, part: Part, outcome: Outcome, log_index: int | None) -> None:
        prepared = part.prepared
        asked = prepared.asked if outcome.succeeded else {}
        for symbol, raw in part.balances.items():
            rest = raw - self._balances[symbol] - asked.get(symbol, 0)
            if rest:
                self._check_rest(prepared, symbol, rest, outcome.succeeded)
                move = Move(
                    kind=prepared.rest,
                    symbol=symbol,
                    raw=rest,
                    block=self._number,
                    transaction=outcome.transaction_hash,
                    location=part.location,
                )
                self._ledger.add_move(move)
        self._balances = dict(part.balances)
        self._supply = part.supply
        if not outcome.succeeded:
            return
        if prepared.fee_shares:
            self._ledger.add_share_fee(
                ShareFee(
                    raw=prepared.fee_shares,
                    block=self._number,
                    transaction=outcome.transaction_hash,
                    location=part.location,
                )
            )
        if prepared.flow is not None:
            assert log_index is not None, "a flow has its mark"
            self._ledger.add_flow(
                Flow(
                    cause=prepared.flow.cause,
                    block=self._number,
                    transaction=outcome.transaction_hash,
                    log_index=log_index,
                    owner=prepared.flow.owner,
                    legs=prepared.flow.legs,
                    location=part.location,
                    shares=part.shares,
                    short=prepared.flow.short,
                )
            )
            return
        for symbol, raw in asked.items():
            self._ledger.add_traded(
                Traded(
                    symbol=symbol,
                    raw=raw,
                    block=self._number,
                    transaction=outcome.transaction_hash,
                    location=part.location,
                )
            )

    def _check_rest(self, prepared: Prepared, symbol: str, rest: int, succeeded: bool) -> None:
        """Only some changes may differ from what was asked: anything else means that the harness misreads the world."""
        if not succeeded or (prepared.rest == "rounded" and not self._rounds(symbol)):
            raise InconsistentLedger(f"{prepared.text}: {symbol} moved by {rest} base units that nobody asked for")

    def write(self, number: int) -> None:
        """Note balances and supply as the block leaves them."""
        for symbol, raw in self._balances.items():
            self._ledger.set_balance(symbol, number, raw)
        self._ledger.set_supply(number, self._supply)


def _mark_of(prepared: Prepared) -> Mark | None:
    return prepared.extra_mark if prepared.flow is None else prepared.flow.mark


def _marks(outcome: Outcome, marks: Sequence[Mark | None]) -> list[int | None]:
    """Find the log index of each call's mark: by emitter and topic 0, in order; no more of any log is read."""
    places: dict[Mark, list[int]] = {mark: [] for mark in marks if mark is not None}
    for log in outcome.logs:
        if not (log.topics and log.address):
            continue
        mark = Mark(emitter=log.address, topic=bytes(log.topics[0]))
        if mark in places:
            places[mark].append(log.log_index)
    for mark, count in Counter(mark for mark in marks if mark is not None).items():
        if len(places[mark]) != count:
            raise InconsistentLedger(f"a transaction shows {len(places[mark])} marks instead of {count}")
    return [None if mark is None else places[mark].pop(0) for mark in marks]
