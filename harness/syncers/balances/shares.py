"""Sums of this syncer's own: whole units split by weight, worth, yearly rates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction

from harness.units import usd_float

_YEAR_SECONDS = Fraction(365 * 24 * 60 * 60)


def apportion(units: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Split whole units in proportion to weights, by largest remainder.

    The remainders, all over the sum of weights, add up to a whole number of units: just those left over. A
    weight gets one of them if fewer weights than these stand before it, by remainder, then by place.

    Args:
        units: What to split. What is below zero is split by size.
        weights: Not empty; below zero counts as nothing. If none is left, the first takes all.

    >>> apportion(10, [1, 1, 1]), apportion(-5, [600, 400]), apportion(3, [-1, 0])
    ((4, 3, 3), (-3, -2), (3, 0))
    """
    sign = -1 if units < 0 else 1
    counted = [weight if weight > 0 else 0 for weight in weights]
    total = sum(counted)
    if total == 0:
        counted[0] = total = 1
    ideals = [Fraction(sign * units * weight, total) for weight in counted]
    remainders = [ideal % 1 for ideal in ideals]
    left_over = sum(remainders, Fraction(0))
    return tuple(
        sign * (int(ideal) + (_standing_before(remainders, place) < left_over)) for place, ideal in enumerate(ideals)
    )


def _standing_before(remainders: Sequence[Fraction], place: int) -> int:
    own = remainders[place]
    return sum(other > own or (other == own and at < place) for at, other in enumerate(remainders))


def worth_of(raw: int, decimals: int, price: Fraction) -> Fraction:
    """What base units are worth in dollars, exactly, at a price in dollars a token."""
    return Fraction(raw, 10**decimals) * price


def rate_per_year(gain: Fraction, total: Fraction, span: timedelta) -> float:
    """What a gain on a total over a span comes to in 365 days; 0 if there is no span or no total.

    >>> rate_per_year(Fraction(1), Fraction(50), timedelta(days=730))
    0.01
    """
    seconds = span // timedelta(seconds=1)
    if seconds <= 0 or total <= 0:
        return 0.0
    return usd_float(gain / total * (_YEAR_SECONDS / seconds))
