"""What the balances-first syncer counts and cuts by itself: words of logs, bloom filters, parts of a whole."""

from __future__ import annotations

import ast
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from eth_abi import encode
from eth_utils import keccak, to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import SyncRefused
from harness.syncers import balances
from harness.syncers.balances.shares import apportion, rate_per_year, worth_of
from harness.syncers.balances.words import (
    Words,
    address_bytes,
    address_text,
    as_address,
    as_topic,
    bloom_of,
    may_hold,
    signature_hash,
)

HOLDER = bytes(range(20))


# -- parts of a whole


@given(st.integers(-(10**30), 10**30), st.lists(st.integers(-5, 10**24), min_size=1, max_size=8))
def test_parts_add_up_and_the_largest_remainders_get_what_is_left(units, weights):
    parts = apportion(units, weights)
    sizes = [max(weight, 0) for weight in weights]
    assert units == sum(parts)
    if not any(sizes):
        assert (units, *[0] * (len(weights) - 1)) == parts
        return
    ideals = [Fraction(abs(units) * size, sum(sizes)) for size in sizes]
    floors = [ideal.numerator // ideal.denominator for ideal in ideals]
    extras = [abs(part) - floor for part, floor in zip(parts, floors, strict=True)]
    assert set(extras) <= {0, 1}
    assert all(part * units >= 0 for part in parts)
    ranks = [(-(ideal - floor), at) for at, (ideal, floor) in enumerate(zip(ideals, floors, strict=True))]
    with_extra = [rank for rank, extra in zip(ranks, extras, strict=True) if extra]
    without = [rank for rank, extra in zip(ranks, extras, strict=True) if not extra]
    assert not with_extra or not without or max(with_extra) < min(without)


@pytest.mark.parametrize(
    ("units", "weights", "parts"),
    [
        (10, [1, 1, 1], (4, 3, 3)),
        (-2, [100, 100, 100], (-1, -1, 0)),
        (2, [100, 300], (1, 1)),
        (1, [1, 2], (0, 1)),
        (7, [0, -3], (7, 0)),
        (7, [-3, 1], (0, 7)),
        (0, [5, 5], (0, 0)),
    ],
)
def test_apportion(units, weights, parts):
    assert parts == apportion(units, weights)


@pytest.mark.parametrize(
    ("gain", "total", "days", "rate"), [(1, 100, 365, 0.01), (-1, 100, 73, -0.05), (1, 0, 365, 0.0), (1, 100, 0, 0.0)]
)
def test_rate_per_year(gain, total, days, rate):
    assert rate == rate_per_year(Fraction(gain), Fraction(total), timedelta(days=days))


def test_worth_is_exact():
    assert Fraction(-99, 200) == worth_of(-500_000, 6, Fraction(99, 100))
    assert Fraction(3, 10**36) == worth_of(3, 36, Fraction(1))


# -- words


@given(st.lists(st.tuples(st.binary(min_size=20, max_size=20), st.integers(0, 2**256 - 1)), max_size=9))
def test_arrays_are_cut_as_they_were_encoded(legs):
    addresses, quantities = [address for address, _ in legs], [quantity for _, quantity in legs]
    data = encode(
        ["uint256", "address[]", "uint256[]"], [7, [to_checksum_address(one) for one in addresses], quantities]
    )
    words = Words(data, "log 0 of block 1")
    assert 7 == words.number(0)
    assert addresses == [words.address(at) for at in words.array(1)]
    assert quantities == [words.number(at) for at in words.array(2)]


@pytest.mark.parametrize(
    "words",
    [
        [],
        [31],
        [64],
        [32, 1],
        [32, 2**200],
        [2**256 - 32],
        [0],
    ],
)
def test_arrays_that_do_not_fit_are_refused(words):
    data = b"".join(word.to_bytes(32, "big") for word in words)
    if words == [0]:  # an array that begins with its own offset is empty
        assert [] == list(Words(data, "here").array(0))
        return
    with pytest.raises(SyncRefused, match=r"here: the (array of word 0 does not fit|data ends before word 0)"):
        Words(data, "here").array(0)


def test_data_that_ends_within_a_word_is_refused():
    with pytest.raises(SyncRefused, match="here: the data ends before word 1"):
        Words(bytes(63), "here").number(1)


def test_what_is_more_than_an_address_is_refused():
    assert HOLDER == as_address(as_topic(HOLDER), "here")
    with pytest.raises(SyncRefused, match=r"here: 0x.* is no address"):
        as_address(b"\1" + as_topic(HOLDER)[1:], "here")
    with pytest.raises(SyncRefused, match="is no address"):
        as_address(HOLDER, "here")


def test_address_text_is_checksummed():
    text = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # an example of EIP-55
    assert text == address_text(address_bytes(text.lower()))


def test_signature_hash_is_the_first_topic():
    known = "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    assert known == signature_hash("Transfer(address,address,uint256)").hex()


# -- bloom filters


def test_bloom_filter_holds_what_went_in_and_little_else():
    elements = [keccak(text=str(number)) for number in range(20)]
    bloom = bloom_of(elements)
    assert all(may_hold(bloom, element) for element in elements)
    assert may_hold(bloom, *elements)
    others = [keccak(text=f"other {number}") for number in range(1_000)]
    assert sum(may_hold(bloom, other) for other in others) < 5
    assert not may_hold(bloom, elements[0], *others)


def test_bloom_filter_of_nothing_holds_nothing():
    assert bytes(256) == bloom_of([])
    assert not may_hold(bytes(256), HOLDER)


# -- independence


def test_nothing_is_shared_with_the_first_reference():
    """Nor a decoder of other people's: two that count with the same code would agree on the same mistake."""
    modules = sorted(Path(balances.__file__).parent.glob("*.py"))
    assert len(modules) > 5
    imported = {
        name
        for module in modules
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    own = {name for name in imported if name.startswith("harness.syncers.balances")}
    allowed = {"harness.books", "harness.books.records", "harness.errors", "harness.syncers.protocol", "harness.units"}
    assert {name for name in imported - own if name.startswith("harness")} <= allowed
    assert not any(name.startswith(("eth_abi", "web3")) for name in imported)
