"""The reference syncer's own sums: splitting whole units, worth, yearly rates.

Deliberately not shared with the side that says what books should hold: two sides that add up with the
same code would agree on the same mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction

from harness.units import PRICE_DECIMALS

YEAR = timedelta(days=365)


def split_by_weight(total: int, weights: Sequence[int]) -> list[int]:
    """Split whole units by weight so that the parts add up to the total exactly (largest remainder).

    Args:
        total: Units to split; a negative total is split by size and each part gets its sign.
        weights: In order of precedence; below zero counts as zero. Not empty.

    Returns:
        One part per weight. Left-over units go to the largest remainders, ties to the earlier
        weight. Without any weight the first takes all.

    >>> split_by_weight(10, [1, 1, 1])
    [4, 3, 3]
    >>> split_by_weight(-5, [600, 400]), split_by_weight(7, [0, -3])
    ([-3, -2], [7, 0])
    """
    sizes = [max(weight, 0) for weight in weights]
    whole = sum(sizes)
    if not whole:
        return [total] + [0] * (len(sizes) - 1)
    quotients, remainders = zip(*(divmod(abs(total) * size, whole) for size in sizes), strict=True)
    parts = list(quotients)
    by_remainder = sorted(range(len(sizes)), key=lambda index: (-remainders[index], index))
    for index in by_remainder[: abs(total) - sum(parts)]:
        parts[index] += 1
    return parts if total >= 0 else [-part for part in parts]


def worth(raw: int, decimals: int, price: int) -> Fraction:
    """Value base units in USD, exactly, at a feed's answer of 8 decimals.

    >>> worth(-500_000, 6, 99_000_000)
    Fraction(-99, 200)
    """
    return Fraction(raw * price, 10 ** (decimals + PRICE_DECIMALS))


def yearly_rate(gain: Fraction | int, base: Fraction | int, duration: timedelta) -> float:
    """Scale gain / base to 365 days; 0 without a base (or with less than none) or without any time.

    >>> yearly_rate(1, 100, timedelta(days=73))
    0.05
    """
    if base <= 0 or duration <= timedelta(0):
        return 0.0
    seconds = duration // timedelta(seconds=1)
    rate = Fraction(gain) / Fraction(base) * Fraction(YEAR // timedelta(seconds=1), seconds)
    return rate.numerator / rate.denominator
