"""What is always true of chain and ledger themselves, to the raw unit: nothing comes from nowhere, nothing is lost.

No syncer has a part in it. A chain that breaks one of these laws convicts the harness, or a contract of its world. What
the chain shows is read from state at the end of a block; what must stand there is added up from genesis, out of
what the ledger says was sent.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from harness.ledger.facts import Flow, Ledger
from harness.units import format_units


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the chain's state shows at the end of a block, base units."""

    block: int
    balances: Mapping[str, int]
    """The holder's, by symbol."""
    supply: int
    """Of shares."""
    gross: int
    """What all shares together stand for, in the reserve."""
    counted: tuple[str, ...]
    """Symbols of the assets that the vault counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlawful:
    """One way in which the chain breaks a law: which, where, and how."""

    law: str
    block: int
    sentence: str


ChainLaw = Callable[[Ledger, Sequence[Reading]], Iterator[Unlawful]]


def assets_conserved(ledger: Ledger, readings: Sequence[Reading]) -> Iterator[Unlawful]:
    """Hold the holder's balance of each asset against the sum of all that was sent, from genesis.

    Balance = legs of flows + trades + donated + taken + rebase + rounded, exactly.

    Precondition: none.
    """
    walk = _Walk(ledger)
    for reading in readings:
        walk.go_to(reading.block)
        for symbol in ledger.setting.assets:
            expected, actual = walk.balances[symbol], reading.balances.get(symbol, 0)
            if expected != actual:
                decimals = ledger.setting.assets[symbol].decimals
                yield Unlawful(
                    law="assets-conserved",
                    block=reading.block,
                    sentence=f"the vault holds {format_units(actual, decimals)} {symbol}, and flows, trades and "
                    f"everything else since genesis come to {format_units(expected, decimals)}: "
                    f"{actual - expected:+d} raw have no reason",
                )


def shares_conserved(ledger: Ledger, readings: Sequence[Reading]) -> Iterator[Unlawful]:
    """Hold the share supply against what flows minted and burned, as their owners' balances showed it, and fees.

    Precondition: only flows and fees mint shares, only flows burn them; the vault deploys with none.
    """
    walk = _Walk(ledger)
    for reading in readings:
        walk.go_to(reading.block)
        if walk.supply != reading.supply:
            decimals = ledger.setting.share_decimals
            yield Unlawful(
                law="shares-conserved",
                block=reading.block,
                sentence=f"there are {format_units(reading.supply, decimals)} shares, and flows and fees "
                f"minted {format_units(walk.supply, decimals)} more than were burned: "
                f"{reading.supply - walk.supply:+d} raw have no reason",
            )


def share_price_moves_for_a_reason(ledger: Ledger, readings: Sequence[Reading]) -> Iterator[Unlawful]:
    """Want gross assets to be what the counted assets are worth, and flows to move the share price by rounding alone.

    What may move gross assets per share: a donation, something taken, a rebase, an index token's rounding, a feed's new
    price, a trade at another price than the feeds', a trade that makes the vault count an asset that it holds already,
    what is borrowed and paid back (debts are not counted), shares minted as a fee.
    Each of them is in the ledger. Between them gross assets are, to the raw unit, the sum over the counted assets of
    ⌊balance × price / reserve's price⌋ (an ERC-4626 vault counts its asset), and a flow moves the price by no
    more than its own rounding. Write G and S for gross assets and shares before a flow, with the virtual unit of each
    that an ERC-4626 vault adds, G' and S' for those after it, and D = G'S − GS', which is 0 if the price stays:

    - shares for assets a are ⌊aS / G⌋ or, given the shares, assets are rounded up; going out likewise, always in the
      vault's favour: 0 ≤ D < max(G, S); f × S less where a fee f on the transfer took part of a deposit;
    - in kind each of the counted assets is paid out rounded down, and what is left is valued rounded down: with n
      counted assets besides the reserve and an asset's raw unit worth r raw units of the reserve,
      −nS < D < S(n + Σ r), and |rounded| × r × S more on either side where an index token rounds.

    Several flows of one transaction are judged one after the other. Where an index token rounds, which of them rounded
    is not known: |rounded| × r counts for G and G' of each, |rounded| × r × (S + S') on either side.

    Precondition: there are shares before and after the flow, no feed's answer changed in its block (the price in
    the middle of a block is not known), and its transaction holds flows alone. The first reading is of the block that
    deploys the vault: what is counted there counts from the start.
    """
    walk = _Walk(ledger)
    for reading in readings:
        yield from walk.go_to(reading.block, counted=reading.counted)
        gross = walk.gross(reading.block)
        if gross != reading.gross:
            reserve = ledger.setting.reserve_asset
            yield Unlawful(
                law=PRICE,
                block=reading.block,
                sentence=f"gross assets are {format_units(reading.gross, reserve.decimals)} {ledger.setting.reserve}, "
                f"and what the vault counts is worth {format_units(gross, reserve.decimals)}: "
                f"{reading.gross - gross:+d} raw have no reason",
            )


PRICE = "share-price-moves-for-a-reason"

CHAIN_LAWS: Mapping[str, ChainLaw] = {
    "assets-conserved": assets_conserved,
    "shares-conserved": shares_conserved,
    PRICE: share_price_moves_for_a_reason,
}


def judge_chain_laws(ledger: Ledger, readings: Sequence[Reading], off: Collection[str] = ()) -> tuple[Unlawful, ...]:
    """Judge the chain by every conservation law that is not switched off; one that raises leaves the others be.

    Args:
        ledger: What was sent.
        readings: What the chain shows, in the order of blocks.
        off: Names of laws that do not hold here.
    """
    found: list[Unlawful] = []
    for name, law in CHAIN_LAWS.items():
        if name in off:
            continue
        try:
            found += law(ledger, readings)
        except Exception as error:  # noqa: BLE001 - a law that fails must not hide what the others find
            found.append(
                Unlawful(
                    law=name,
                    block=readings[-1].block if readings else 0,
                    sentence=f"the law could not be judged: {type(error).__name__}: {error}",
                )
            )
    return tuple(found)


@dataclass(slots=True, kw_only=True)
class _Step:
    """All that one transaction did to holder and shares."""

    block: int
    flows: list[Flow] = field(default_factory=list)
    fees: int = 0
    """Shares minted as a fee."""
    moved: Counter[str] = field(default_factory=Counter)
    """Of the holder's balances beside flows, by symbol."""
    rounded: Counter[str] = field(default_factory=Counter)
    """What of it an index token's rounding did."""
    bought: list[str] = field(default_factory=list)
    """What a trade brought in."""

    @property
    def is_mixed(self) -> bool:
        """Tell whether something beside flows is in it that moves the share price."""
        return bool(self.fees) or any(raw != self.rounded[symbol] for symbol, raw in self.moved.items())


class _Walk:
    """Goes through a ledger's transactions in order, adding up balances and shares."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._reserve = ledger.setting.reserve
        self._virtual = 1 if ledger.setting.kind == "erc4626" else 0
        self._steps = _steps(ledger)
        self._at = 0
        self.balances: Counter[str] = Counter()
        self.supply = 0
        self._counted: set[str] = {self._reserve}
        self._repriced = {block for symbol in ledger.setting.assets for block in ledger.price_blocks(symbol)}

    def go_to(self, block: int, *, counted: Sequence[str] | None = None) -> list[Unlawful]:
        """Go on to the end of a block.

        Args:
            counted: What the vault counts there. An asset begins to count when a trade first brings it in, else from
                the start. None: flows' rounding is of no interest.
        """
        found = []
        if counted is not None:
            ahead = self._steps[self._at : bisect.bisect_right(self._steps, block, key=lambda step: step.block)]
            self._counted |= set(counted) - {symbol for step in ahead for symbol in step.bought}
        while self._at < len(self._steps) and self._steps[self._at].block <= block:
            step = self._steps[self._at]
            self._at += 1
            # Rounding is seen for the transaction as a whole: it counts with its last flow.
            for flow in step.flows[:-1]:
                found += self._flow(step, flow, Counter(), judged=counted is not None)
            for flow in step.flows[-1:]:
                found += self._flow(step, flow, step.moved, judged=counted is not None)
            if not step.flows:
                self.balances.update(step.moved)
            self.supply += step.fees
            if counted is not None:
                self._counted.update(symbol for symbol in step.bought if symbol in counted)
        return found

    def _flow(self, step: _Step, flow: Flow, beside: Counter[str], *, judged: bool) -> list[Unlawful]:
        gross, supply = (self.gross(step.block), self.supply) if judged else (0, 0)
        for leg in flow.legs:
            self.balances[leg.symbol] += leg.raw
        self.balances.update(beside)
        self.supply += flow.shares
        if not judged or step.is_mixed or step.block in self._repriced:
            return []
        return self._judge(step, flow, gross, supply)

    def gross(self, block: int) -> int:
        """What the counted assets are worth at a block's prices, raw reserve units."""
        return sum(
            (self.balances[symbol] * rate.numerator) // rate.denominator
            for symbol in self._counted
            for rate in (self._rate(symbol, block),)
        )

    def _rate(self, symbol: str, block: int) -> Fraction:
        """Raw reserve units that one raw unit of an asset is worth."""
        if symbol == self._reserve:
            return Fraction(1)
        assets = self._ledger.setting.assets
        scale = Fraction(10 ** assets[self._reserve].decimals, 10 ** assets[symbol].decimals)
        return self._ledger.price(symbol, block) / self._ledger.price(self._reserve, block) * scale

    def _judge(self, step: _Step, flow: Flow, gross_before: int, supply_before: int) -> list[Unlawful]:
        gross, supply = gross_before + self._virtual, supply_before + self._virtual
        supply_after = self.supply + self._virtual
        if not supply or not supply_after:
            return []
        moved = (self.gross(step.block) + self._virtual) * supply - gross * supply_after
        low, high = self._bounds(step, flow, gross, supply, supply_after)
        if low <= moved < high:
            return []
        reserve = self._ledger.setting.reserve_asset
        size = Fraction(moved, supply * supply_after) * 10**self._ledger.setting.share_decimals
        return [
            Unlawful(
                law=PRICE,
                block=step.block,
                sentence=f"the {flow.cause} of line {flow.location.line} moves the share price by "
                f"{float(size / 10**reserve.decimals):.6g} {self._reserve}, more than its rounding",
            )
        ]

    def _bounds(self, step: _Step, flow: Flow, gross: int, supply: int, supply_after: int) -> tuple[Fraction, Fraction]:
        rounded = sum(
            (abs(raw) * self._rate(symbol, step.block) for symbol, raw in step.rounded.items()),
            Fraction(0),
        )
        slack = rounded * (supply if len(step.flows) == 1 else supply + supply_after)
        if flow.cause == "deposit" or self._virtual:
            return -slack - flow.short * supply, max(gross, supply) + slack
        # Whoever takes some assets alone leaves the others' share to those who stay.
        paid = {leg.symbol: leg.raw for leg in flow.legs}
        left = sum(
            (
                -flow.shares * self.balances[symbol] * self._rate(symbol, step.block)
                for symbol in self._counted
                if symbol not in paid
            ),
            Fraction(0),
        )
        others = len(self._counted) - 1
        worth = sum((self._rate(symbol, step.block) for symbol in self._counted), Fraction(0))
        return -others * supply - slack, (others + worth) * supply + slack + left


def _steps(ledger: Ledger) -> list[_Step]:
    """Gather what each transaction did, in chain order."""
    steps: dict[tuple[int, str], _Step] = {}
    # What time alone does is in no transaction: it stands before a block's first one.
    for move in ledger.moves:
        if not move.transaction:
            steps.setdefault((move.block, ""), _Step(block=move.block)).moved[move.symbol] += move.raw
    for transaction in ledger.transactions:
        steps[transaction.block, transaction.hash] = _Step(block=transaction.block)
    for flow in ledger.flows:
        steps[flow.block, flow.transaction].flows.append(flow)
    for fee in ledger.share_fees:
        steps[fee.block, fee.transaction].fees += fee.raw
    for traded in ledger.traded:
        step = steps[traded.block, traded.transaction]
        step.moved[traded.symbol] += traded.raw
        if traded.raw > 0:
            step.bought.append(traded.symbol)
    for move in ledger.moves:
        if move.transaction:
            step = steps[move.block, move.transaction]
            step.moved[move.symbol] += move.raw
            if move.kind == "rounded":
                step.rounded[move.symbol] += move.raw
    return sorted(steps.values(), key=lambda step: step.block)
