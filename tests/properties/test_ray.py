"""Arithmetic of the contracts against Python's, to the raw unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from math import floor

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.chain import Account, Call, Chain, Outcome, load_artifact
from harness.chain.chain import Pending
from harness.units import RAY, Rounding, mul_div, ray_div, ray_mul

OWNER, ALICE, BOB, CAROL = (Account.named(name) for name in ("ray owner", "alice", "bob", "carol"))
HOLDERS = (ALICE, BOB, CAROL)
TOKEN = load_artifact("IndexToken")
ERC20, FEED, INTERPRETER = (load_artifact(name) for name in ("Erc20", "PriceFeed", "ValueInterpreter"))
ZERO = "0x" + "00" * 20

naturals = st.integers(0, 10**50)
indexes = st.integers(1, 1000 * RAY)
# Small amounts at simple indexes make ties, which is where roundings differ.
amounts = st.integers(0, 20) | st.integers(0, 10**38)
factors = st.sampled_from([RAY // 2, RAY * 3 // 2, RAY * 5 // 4, RAY]) | st.integers(RAY // 1000, 1000 * RAY)
steps = st.one_of(
    st.tuples(st.just("mint"), st.sampled_from(HOLDERS), amounts),
    st.tuples(st.just("burn"), st.sampled_from(HOLDERS), amounts | st.just("all")),
    st.tuples(st.just("transfer"), st.permutations(HOLDERS) | st.just((ALICE, ALICE)), amounts | st.just("all")),
    st.tuples(st.just("rebase_by"), factors),
    st.tuples(st.just("rebase_to"), st.sampled_from(HOLDERS), factors),
)


def half_up(exact: Fraction) -> int:
    return floor(exact + Fraction(1, 2))


@given(naturals, indexes)
def test_ray_multiplication_is_the_nearest_with_halves_up(a: int, index: int) -> None:
    assert half_up(Fraction(a * index, RAY)) == ray_mul(a, index)


@given(naturals, indexes)
def test_ray_division_is_the_nearest_with_halves_up(a: int, index: int) -> None:
    assert half_up(Fraction(a * RAY, index)) == ray_div(a, index)


@given(naturals, indexes)
def test_a_balance_put_on_the_index_comes_back_within_half_a_scaled_unit(balance: int, index: int) -> None:
    error = abs(ray_mul(ray_div(balance, index), index) - balance)
    assert error <= Fraction(index, 2 * RAY) + Fraction(1, 2)


@dataclass
class Model:
    """What an index token is meant to do; the contract's owner is also its pool."""

    index: int = RAY
    scaled: Counter[str] = field(default_factory=Counter)
    total: int = 0

    def balance(self, holder: Account) -> int:
        return ray_mul(self.scaled[holder.address], self.index)

    def take(self, holder: Account, amount: int) -> int | None:
        if amount > self.balance(holder):
            return None
        scaled = min(ray_div(amount, self.index), self.scaled[holder.address])
        self.scaled[holder.address] -= scaled
        return scaled

    def give(self, holder: Account, scaled: int) -> None:
        self.scaled[holder.address] += scaled

    def rebase(self, index: int) -> bool:
        self.index = index or self.index
        return index != 0

    def play(self, verb: str, who: object, number: object) -> tuple[bool, Account, tuple[object, ...]]:
        """Do a step: whether the contract must allow it, who calls, and with which arguments."""
        match verb, who, number:
            case "mint", Account() as holder, int(amount):
                self.give(holder, ray_div(amount, self.index))
                self.total += ray_div(amount, self.index)
                return True, OWNER, (holder.address, amount)
            case "burn", Account() as holder, _:
                amount = self.balance(holder) if number == "all" else number
                scaled = self.take(holder, amount)
                self.total -= scaled or 0
                return scaled is not None, OWNER, (holder.address, amount)
            case "transfer", (Account() as sender, Account() as receiver, *_), _:
                amount = self.balance(sender) if number == "all" else number
                scaled = self.take(sender, amount)
                self.give(receiver, scaled or 0)
                return scaled is not None, sender, (receiver.address, amount)
            case "rebase_by", None, int(factor):
                return self.rebase(ray_mul(self.index, factor)), OWNER, (factor,)
            case "rebase_to", Account() as holder, int(factor):
                held, balance = self.scaled[holder.address], ray_mul(self.balance(holder), factor)
                allowed = held != 0 and self.rebase(ray_div(balance, held))
                return allowed, OWNER, (holder.address, balance)
        raise AssertionError(verb)


@cache
def token_chain() -> tuple[Chain, str]:
    chain = Chain(chain_id=1337, genesis_timestamp=1_704_067_200, accounts=(OWNER, *HOLDERS))
    data = TOKEN.deploy_data("Index", "IDX", 18, ZERO)
    address = chain.mine([Call(OWNER, None, data)], timestamp=1_704_067_212).receipts[0].contract_address
    assert address is not None
    chain.mine([Call(OWNER, address, TOKEN.encode("set_pool", OWNER.address))], timestamp=1_704_067_224)
    return chain, address


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, min_size=1, max_size=8))
def test_index_token_is_its_model_to_the_raw_unit(drawn: list[tuple[object, ...]]) -> None:
    template, token = token_chain()
    model = Model()

    def number(pending: Pending, view: str, *arguments: object) -> object:
        return TOKEN.decode(view, pending.call(token, TOKEN.encode(view, *arguments)))

    def play(pending: Pending) -> Generator[Call, Outcome, None]:
        for verb, *rest in drawn:
            who, amount = rest if len(rest) == 2 else (None, rest[0])
            allowed, caller, arguments = model.play(str(verb), who, amount)
            outcome = yield Call(caller, token, TOKEN.encode(str(verb), *arguments))
            assert allowed == outcome.succeeded, (verb, arguments, outcome.revert_reason)
            assert model.index == number(pending, "liquidity_index")
            assert model.total == number(pending, "scaledTotalSupply")
            assert ray_mul(model.total, model.index) == number(pending, "totalSupply")
            for holder in HOLDERS:
                assert model.scaled[holder.address] == number(pending, "scaledBalanceOf", holder.address)
                assert model.balance(holder) == number(pending, "balanceOf", holder.address)

    template.clone().mine(play, timestamp=1_704_067_236)
    assert model.total == sum(model.scaled.values())


@cache
def priced_chain(asset_decimals: int, quote_decimals: int) -> tuple[Chain, str, tuple[str, str], tuple[str, str]]:
    chain = Chain(chain_id=1337, genesis_timestamp=1_704_067_200, accounts=(OWNER,))
    deployments = [
        INTERPRETER.deploy_data(),
        ERC20.deploy_data("Asset", "A", asset_decimals),
        ERC20.deploy_data("Quote", "Q", quote_decimals),
        FEED.deploy_data("A / USD", 1),
        FEED.deploy_data("Q / USD", 1),
    ]
    mined = chain.mine([Call(OWNER, None, data) for data in deployments], timestamp=1_704_067_212)
    interpreter, asset, quote, *feeds = (str(receipt.contract_address) for receipt in mined.receipts)
    pairs = zip((asset, quote), feeds, strict=True)
    chain.mine(
        [Call(OWNER, interpreter, INTERPRETER.encode("set_feed", *pair)) for pair in pairs], timestamp=1_704_067_224
    )
    return chain, interpreter, (asset, quote), (feeds[0], feeds[1])


prices = st.integers(1, 10**13)


@settings(max_examples=60, deadline=None)
@given(
    decimals=st.tuples(st.sampled_from([0, 6, 18, 36]), st.sampled_from([0, 6, 18, 36])),
    price=prices,
    quote_price=prices,
    part=st.integers(0, 10**48),
)
def test_value_of_is_the_exact_value_floored_once(
    decimals: tuple[int, int], price: int, quote_price: int, part: int
) -> None:
    template, interpreter, pair, feeds = priced_chain(*decimals)
    amount = part // 10 ** (36 - decimals[0])  # at most 10^12 tokens
    exact = Fraction(amount * price * 10 ** decimals[1], quote_price * 10 ** decimals[0])
    chain = template.clone()
    answers = zip(feeds, (price, quote_price), strict=True)
    chain.mine(
        [Call(OWNER, feed, FEED.encode("set_answer", answer)) for feed, answer in answers], timestamp=1_704_067_236
    )
    data = INTERPRETER.encode("value_of", pair[0], amount, pair[1])
    value = INTERPRETER.decode("value_of", chain.call(interpreter, data))
    assert floor(exact) == value
    assert mul_div(amount * price, 10 ** decimals[1], quote_price * 10 ** decimals[0], Rounding.DOWN) == value
