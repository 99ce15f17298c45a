"""Arithmetic of the tokens that do not simply add up, against Python's, to the raw unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.chain import Account, Call, Chain, load_artifact
from harness.units import RAY, ray_div, ray_mul

OWNER, ALICE, BOB = (Account.named(name) for name in ("token owner", "alice", "bob"))
COLLECTOR = "0x000000000000000000000000000000000000fEE5"
ZERO = "0x" + "00" * 20
WAD = 10**18
YEAR = 365 * 24 * 60 * 60
START = 1_704_067_200
DECIMALS = st.sampled_from([0, 1, 6, 18, 36])

people = st.sampled_from(["alice", "bob"])
holders = st.sampled_from(["alice", "bob", "contract"])
# Small amounts show how things round; 10^12 tokens of 36 decimals are the most that a scenario has.
amounts = st.integers(0, 30) | st.integers(0, 10**48)
factors = st.sampled_from([RAY // 2, RAY * 3 // 2, RAY]) | st.integers(RAY // 100, 100 * RAY)
rates = st.sampled_from([0, RAY // 20]) | st.integers(0, 5 * RAY)
times = st.sampled_from([1, 2, 3, 12]) | st.integers(1, 2 * YEAR)
parts = st.integers(0, 120)
transfers = st.one_of(
    st.tuples(st.just("mint"), holders, amounts),
    st.tuples(st.just("burn"), holders, parts),
    st.tuples(st.just("transfer"), people, holders, parts),
)
growth = st.one_of(
    st.tuples(st.just("rebase_by"), factors),
    st.tuples(st.just("rebase_to"), holders, amounts),
    st.tuples(st.just("accrue"), rates),
)
opting = st.tuples(st.just("opt_in"), holders)
Step = tuple[object, ...]
OPENING: tuple[tuple[int, Step], ...] = (
    (12, ("mint", "alice", 10**20 + 7)),
    (12, ("mint", "contract", 10**12 + 1)),
    (12, ("accrue", RAY // 20)),
    (10**7, ("rebase_by", RAY * 137 // 100)),
)
"""So that there is always something to move, at a rate that is not round."""


class Model(Protocol):
    """What a token is meant to do. A refusal is an `AssertionError` that leaves everything as it was."""

    def balance(self, holder: str, now: int) -> int: ...
    def supply(self, now: int) -> int: ...
    def mint(self, to: str, amount: int, now: int) -> None: ...
    def burn(self, holder: str, amount: int, now: int) -> None: ...
    def transfer(self, sender: str, to: str, amount: int, now: int) -> None: ...


@dataclass
class Indexed:
    """Aave v3: ScaledBalanceTokenBase, and MathUtils for the growth with time."""

    compounds: bool
    index: int = RAY
    rate: int = 0
    at: int = 0
    scaled: Counter[str] = field(default_factory=Counter)
    total: int = 0

    def growth(self, now: int) -> int:
        time = now - self.at
        if not self.compounds:
            return RAY + self.rate * time // YEAR
        if not time:
            return RAY
        squared = ray_mul(self.rate, self.rate) // YEAR**2
        cubed = ray_mul(squared, self.rate) // YEAR
        second = time * (time - 1) * squared // 2
        third = time * (time - 1) * max(time - 2, 0) * cubed // 6
        return RAY + self.rate * time // YEAR + second + third

    def current(self, now: int) -> int:
        return ray_mul(self.growth(now), self.index) if self.rate else self.index

    def balance(self, holder: str, now: int) -> int:
        return ray_mul(self.scaled[holder], self.current(now))

    def supply(self, now: int) -> int:
        return ray_mul(self.total, self.current(now))

    def put(self, index: int, now: int) -> None:
        assert index
        self.index, self.at = index, now

    def mint(self, to: str, amount: int, now: int) -> None:
        self.put(self.current(now), now)
        units = ray_div(amount, self.index)
        self.scaled[to] += units
        self.total += units

    def take(self, holder: str, amount: int, now: int) -> int:
        assert amount <= self.balance(holder, now)
        units = min(ray_div(amount, self.current(now)), self.scaled[holder])
        self.scaled[holder] -= units
        return units

    def burn(self, holder: str, amount: int, now: int) -> None:
        assert amount <= self.balance(holder, now)
        self.put(self.current(now), now)
        self.total -= self.take(holder, amount, now)

    def transfer(self, sender: str, to: str, amount: int, now: int) -> None:
        assert not self.compounds  # a debt
        units = self.take(sender, amount, now)
        self.scaled[to] += units

    def rebase_by(self, factor: int, now: int) -> None:
        self.put(ray_mul(self.current(now), factor), now)

    def rebase_to(self, holder: str, balance: int, now: int) -> None:
        assert self.scaled[holder]
        self.put(ray_div(balance, self.scaled[holder]), now)

    def accrue(self, rate: int, now: int) -> None:
        self.put(self.current(now), now)
        self.rate = rate


@dataclass
class Shares:
    """Lido's stETH: getSharesByPooledEth, getPooledEthByShares, both rounded down."""

    pot: int = 0
    rate: int = 0
    at: int = 0
    shares: Counter[str] = field(default_factory=Counter)
    total: int = 0

    def current(self, now: int) -> int:
        return self.pot * (RAY + self.rate * (now - self.at) // YEAR) // RAY

    def balance(self, holder: str, now: int) -> int:
        return self.shares[holder] * self.current(now) // self.total if self.shares[holder] else 0

    def supply(self, now: int) -> int:
        return self.current(now)

    def for_amount(self, amount: int, now: int) -> int:
        assert self.current(now)
        return amount * self.total // self.current(now)

    def put(self, pot: int, now: int) -> None:
        self.pot, self.at = pot, now

    def mint(self, to: str, amount: int, now: int) -> None:
        shares = self.for_amount(amount, now) if self.total else amount
        self.put(self.current(now) + amount, now)
        self.shares[to] += shares
        self.total += shares

    def burn(self, holder: str, amount: int, now: int) -> None:
        shares = self.for_amount(amount, now)
        assert shares <= self.shares[holder]
        assert amount <= self.current(now)
        self.put(self.current(now) - amount, now)
        self.shares[holder] -= shares
        self.total -= shares

    def transfer(self, sender: str, to: str, amount: int, now: int) -> None:
        shares = self.for_amount(amount, now)
        assert shares <= self.shares[sender]
        self.shares[sender] -= shares
        self.shares[to] += shares

    def rebase_by(self, factor: int, now: int) -> None:
        self.put(self.current(now) * factor // RAY, now)

    def rebase_to(self, holder: str, balance: int, now: int) -> None:
        assert self.shares[holder]
        self.put(-(-balance * self.total // self.shares[holder]), now)
        assert self.balance(holder, now) == balance

    def accrue(self, rate: int, now: int) -> None:
        self.put(self.current(now), now)
        self.rate = rate


@dataclass
class Credits:
    """Origin's OUSD: mulTruncate into credits, divPrecisely out of them; contracts keep theirs until they opt in."""

    per_token: int = RAY
    rate: int = 0
    at: int = 0
    credits: Counter[str] = field(default_factory=Counter)
    kept: set[str] = field(default_factory=lambda: {"contract"})

    def current(self, now: int) -> int:
        return self.per_token * RAY // (RAY + self.rate * (now - self.at) // YEAR)

    def of(self, holder: str, now: int) -> int:
        return RAY if holder in self.kept else self.current(now)

    def balance(self, holder: str, now: int) -> int:
        return self.credits[holder] * WAD // self.of(holder, now)

    def supply(self, now: int) -> int:
        rebasing = sum(self.credits[holder] for holder in self.credits if holder not in self.kept)
        kept = sum(self.balance(holder, now) for holder in self.kept)
        return kept + rebasing * WAD // self.current(now)

    def put(self, per_token: int, now: int) -> None:
        assert per_token
        self.per_token, self.at = per_token, now

    def mint(self, to: str, amount: int, now: int) -> None:
        self.credits[to] += amount * self.of(to, now) // WAD

    def burn(self, holder: str, amount: int, now: int) -> None:
        assert amount <= self.balance(holder, now)
        self.credits[holder] -= amount * self.of(holder, now) // WAD

    def transfer(self, sender: str, to: str, amount: int, now: int) -> None:
        self.burn(sender, amount, now)
        self.mint(to, amount, now)

    def rebase_by(self, factor: int, now: int) -> None:
        self.put(self.current(now) * RAY // factor, now)

    def rebase_to(self, holder: str, balance: int, now: int) -> None:
        assert holder not in self.kept
        assert self.credits[holder]
        assert balance
        self.put(self.credits[holder] * WAD // balance, now)

    def accrue(self, rate: int, now: int) -> None:
        self.put(self.current(now), now)
        self.rate = rate

    def opt_in(self, holder: str, now: int) -> None:
        assert holder in self.kept
        self.credits[holder] = self.credits[holder] * self.current(now) // RAY
        self.kept.remove(holder)


@dataclass
class Charging:
    """A fee in 1e18 parts, rounded down, on every transfer; what is left arrives."""

    fee: int
    balances: Counter[str] = field(default_factory=Counter)

    def balance(self, holder: str, now: int) -> int:
        return self.balances[holder]

    def supply(self, now: int) -> int:
        return self.balances.total()

    def mint(self, to: str, amount: int, now: int) -> None:
        self.balances[to] += amount

    def burn(self, holder: str, amount: int, now: int) -> None:
        raise NotImplementedError("nobody burns these")

    def transfer(self, sender: str, to: str, amount: int, now: int) -> None:
        assert amount <= self.balances[sender]
        taken = amount * self.fee // WAD
        self.balances[sender] -= amount
        self.balances[to] += amount - taken
        self.balances["collector"] += taken


@cache
def deployed(name: str, decimals: int, fee: int) -> tuple[Chain, str, dict[str, str]]:
    """A chain with the token; its owner is its pool. The contract that holds some is a token too."""
    artifact = load_artifact(name)
    last: tuple[object, ...] = (fee, COLLECTOR) if name == "FeeToken" else (ZERO,)
    chain = Chain(chain_id=1337, genesis_timestamp=START, accounts=(OWNER, ALICE, BOB))
    data = [artifact.deploy_data("Token", "TKN", decimals, *last), load_artifact("Erc20").deploy_data("H", "H", 0)]
    mined = chain.mine([Call(OWNER, None, one) for one in data], timestamp=START + 12)
    token, holder = (str(receipt.contract_address) for receipt in mined.receipts)
    if name != "FeeToken":
        chain.mine([Call(OWNER, token, artifact.encode("set_pool", OWNER.address))], timestamp=START + 24)
    addresses = {"alice": ALICE.address, "bob": BOB.address, "contract": holder, "collector": COLLECTOR}
    return chain, token, addresses


def settled(step: Step, model: Model, now: int) -> Step:
    """With percentages of a balance as amounts; above 100 they are what nobody has."""
    match step:
        case ("burn", str(holder), int(part)):
            return "burn", holder, model.balance(holder, now) * part // 100
        case ("transfer", str(sender), to, int(part)):
            return "transfer", sender, to, model.balance(sender, now) * part // 100
    return step


def compare(name: str, model: Model, decimals: int, drawn: Sequence[tuple[int, Step]], fee: int = 0) -> None:
    """Play steps, each in a block of its own, and hold every balance against the model's after each."""
    template, token, addresses = deployed(name, decimals, fee)
    artifact = load_artifact(name)
    chain = template.clone()

    def number(view: str, *arguments: object) -> object:
        return artifact.decode(view, chain.call(token, artifact.encode(view, *arguments)))

    opening = OPENING if name != "FeeToken" else OPENING[:2]
    for time, step in (*opening, *drawn):
        now = chain.header(chain.head).timestamp + time
        verb, *arguments = settled(step, model, now)
        caller = OWNER
        values = [addresses[value] if isinstance(value, str) else value for value in arguments]
        if verb == "transfer":
            caller = {"alice": ALICE, "bob": BOB}[str(arguments[0])]
            values = values[1:]
        try:
            getattr(model, str(verb))(*arguments, now)
            allowed = True
        except AssertionError:
            allowed = False
        (receipt,) = chain.mine([Call(caller, token, artifact.encode(str(verb), *values))], timestamp=now).receipts
        assert allowed == receipt.succeeded, (verb, arguments, receipt.revert_reason)
        for holder, address in addresses.items():
            assert model.balance(holder, now) == number("balanceOf", address), (verb, arguments, holder)
        assert model.supply(now) == number("totalSupply")


def steps(*kinds: st.SearchStrategy[Step]) -> st.SearchStrategy[list[tuple[int, Step]]]:
    return st.lists(st.tuples(times, st.one_of(*kinds)), min_size=1, max_size=8)


without_burns = transfers.filter(lambda step: step[0] != "burn")
fees = st.sampled_from([0, 1, WAD // 100, WAD // 3, WAD])
few = settings(max_examples=25, deadline=None)


@few
@given(DECIMALS, steps(transfers, growth))
def test_index_token_grows_as_aave_counts_simple_interest(decimals: int, drawn: list[tuple[int, Step]]) -> None:
    compare("IndexToken", Indexed(compounds=False), decimals, drawn)


@few
@given(DECIMALS, steps(transfers, growth))
def test_debt_token_grows_as_aave_compounds(decimals: int, drawn: list[tuple[int, Step]]) -> None:
    compare("DebtToken", Indexed(compounds=True), decimals, drawn)


@few
@given(DECIMALS, steps(transfers, growth))
def test_share_token_counts_as_lido_does(decimals: int, drawn: list[tuple[int, Step]]) -> None:
    compare("ShareToken", Shares(), decimals, drawn)


@few
@given(DECIMALS, steps(transfers, growth, opting))
def test_opt_in_token_counts_as_origin_does(decimals: int, drawn: list[tuple[int, Step]]) -> None:
    compare("OptInToken", Credits(), decimals, drawn)


@few
@given(
    DECIMALS, st.sampled_from([0, 1, WAD // 100, WAD // 3, WAD]), steps(transfers.filter(lambda one: one[0] != "burn"))
)
def test_fee_token_keeps_its_part(decimals: int, fee: int, drawn: list[tuple[int, Step]]) -> None:
    compare("FeeToken", Charging(fee), decimals, drawn, fee)


@pytest.mark.parametrize("amount", [1, 10_000, 33_333_333_333_333_333_331])
def test_a_share_transfer_loses_a_unit_or_two_and_no_more(amount: int) -> None:
    model = Shares()
    for number in range(60):
        model.mint("alice", 10**20 + number, 0)
        model.rebase_by(RAY + RAY // (100 * (number + 7)), 0)
        before = model.balance("bob", 0)
        model.transfer("alice", "bob", amount, 0)
        assert 0 <= amount - (model.balance("bob", 0) - before) <= 2
