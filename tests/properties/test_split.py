"""Laws of splitting whole units by weight, on the ledger's side and on the reference's: two codes, one answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.ledger.bookkeeping import split
from harness.syncers.reference.arithmetic import split_by_weight

Split = Callable[[int, Sequence[int]], list[int]]
both = pytest.mark.parametrize("splits", [split, split_by_weight])

TOTALS = st.integers(-(10**6), 10**6) | st.integers(-(2**128), 2**128)
WEIGHTS = st.lists(st.integers(-3, 5) | st.integers(0, 2**100), min_size=1, max_size=8)


def modelled(total: int, weights: Sequence[int]) -> list[int]:
    """Hand out units one by one: each to whom the most is still owed beyond whole units, the earlier one first."""
    counted = [max(weight, 0) for weight in weights]
    if not any(counted):
        return [total, *[0] * (len(counted) - 1)]
    owed = [Fraction(abs(total)) * weight / sum(counted) for weight in counted]
    parts = [int(one) for one in owed]
    while sum(parts) < abs(total):
        most = max(one - part for one, part in zip(owed, parts, strict=True))
        first = next(i for i, (one, part) in enumerate(zip(owed, parts, strict=True)) if one - part == most)
        parts[first] += 1
    return [part if total >= 0 else -part for part in parts]


@both
@given(total=TOTALS, weights=WEIGHTS)
def test_parts_add_up_and_follow_the_largest_remainders(splits: Split, total: int, weights: list[int]) -> None:
    parts = splits(total, weights)
    assert total == sum(parts)
    assert modelled(total, weights) == parts


@both
@given(total=TOTALS, weights=WEIGHTS)
def test_each_part_is_less_than_a_unit_from_its_exact_share(splits: Split, total: int, weights: list[int]) -> None:
    counted = [max(weight, 0) for weight in weights]
    if any(counted):
        for part, weight in zip(splits(total, weights), counted, strict=True):
            assert abs(part - Fraction(total) * weight / sum(counted)) < 1


@both
@given(total=TOTALS, weights=WEIGHTS)
def test_a_loss_is_split_as_the_gain_of_its_size(splits: Split, total: int, weights: list[int]) -> None:
    assert splits(total, weights) == [-part for part in splits(-total, weights)]


@both
def test_ties_go_to_the_earlier_and_everything_to_the_first_without_weight(splits: Split) -> None:
    assert [3, 2] == splits(5, [1, 1])
    assert [-3, -2] == splits(-5, [7, 7])
    assert [0, 0, 1] == splits(1, [1, 1, 3])
    assert [7, 0, 0] == splits(7, [0, -5, 0])
    assert [0, 7] == splits(7, [-5, 1])
    assert [0, 0] == splits(0, [1, 2])


@given(total=TOTALS, weights=WEIGHTS)
def test_ledger_and_reference_split_alike(total: int, weights: list[int]) -> None:
    assert split(total, weights) == split_by_weight(total, weights)
