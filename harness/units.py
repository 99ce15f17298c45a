"""Exact money: base units as integers, rounding that is named, amounts as text.

Nothing in here is a float but the return value of :func:`usd_float`, the one place where worth
becomes a float.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import NewType

Assets = NewType("Assets", int)
"""Base units of an asset."""
Shares = NewType("Shares", int)
"""Base units of a vault's share token."""
Ray = NewType("Ray", int)
"""A fraction with 27 decimals, as Aave keeps its indexes."""
BlockNumber = NewType("BlockNumber", int)

RAY = Ray(10**27)
PRICE_DECIMALS = 8
"""Decimals of a price feed's answer (Chainlink's USD feeds)."""

_NUMBER = re.compile(r"(?P<sign>[+-]?)(?P<whole>\d+(?:_\d+)*)(?:\.(?P<fraction>\d+(?:_\d+)*))?")


class Rounding(enum.Enum):
    """Which way a division goes when it does not come out even."""

    DOWN = "down"
    UP = "up"
    NEAREST = "nearest"
    """Half away from zero (Aave's half up, for the non-negative numbers that it knows)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """How many decimals a symbol has; enough to read and print its amounts."""

    symbol: str
    decimals: int

    def format(self, raw: int) -> str:
        """Print base units in tokens, with every decimal that the token has.

        >>> Token(symbol="USDC", decimals=6).format(-1_500_000)
        '-1.500000'
        """
        return format_units(raw, self.decimals)


def mul_div(a: int, b: int, c: int, rounding: Rounding) -> int:
    """Compute a x b / c on integers of any size.

    Raises:
        ZeroDivisionError: If c is 0.

    >>> mul_div(7, 1, 2, Rounding.DOWN), mul_div(7, 1, 2, Rounding.UP), mul_div(7, 1, 2, Rounding.NEAREST)
    (3, 4, 4)
    >>> mul_div(-7, 1, 2, Rounding.DOWN), mul_div(-7, 1, 2, Rounding.UP)
    (-4, -3)
    """
    product = a * b
    if c < 0:
        product, c = -product, -c
    if rounding is Rounding.DOWN:
        return product // c
    if rounding is Rounding.UP:
        return -(-product // c)
    half_away = (2 * abs(product) + c) // (2 * c)
    return half_away if product >= 0 else -half_away


def ray_mul(a: int, b: int) -> int:
    """Multiply by a ray (27 decimals), to nearest, halves up: a scaled balance x the index = the balance.

    Source: Aave v3, WadRayMath.rayMul ("Multiplies two ray, rounding half up to the nearest ray").

    >>> ray_mul(3, 10**27 + 10**27 // 2), ray_mul(1, 10**27 // 2 - 1)
    (5, 0)
    """
    return mul_div(a, b, RAY, Rounding.NEAREST)


def ray_div(a: int, b: int) -> int:
    """Divide by a ray (27 decimals), to nearest, halves up: a balance / the index = the scaled balance.

    Raises:
        ZeroDivisionError: If b is 0.

    Source: Aave v3, WadRayMath.rayDiv ("Divides two ray, rounding half up to the nearest ray").

    >>> ray_div(5, 2 * 10**27), ray_div(1, 3 * 10**27)
    (3, 0)
    """
    return mul_div(a, RAY, b, Rounding.NEAREST)


def parse_decimal(text: str) -> Fraction:
    """Read a plain decimal number (``1_000.5``, ``-3``); no exponent, no float on the way.

    Raises:
        ValueError: If the text is no such number.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a decimal number")
    whole = match["whole"].replace("_", "")
    fraction = (match["fraction"] or "").replace("_", "")
    number = Fraction(int(whole + fraction), 10 ** len(fraction))
    return -number if match["sign"] == "-" else number


def parse_units(text: str, decimals: int) -> int:
    """Read a number of tokens as base units.

    Raises:
        ValueError: If the text is no number, or has more decimals than the token.

    >>> parse_units("1_000.5", 6)
    1000500000
    """
    scaled = parse_decimal(text) * Fraction(10**decimals)
    if scaled.denominator != 1:
        raise ValueError(f"{text.strip()!r} has more than {decimals} decimals")
    return scaled.numerator


def format_units(raw: int, decimals: int) -> str:
    """Print base units in tokens, with all of ``decimals``.

    >>> format_units(1, 18)
    '0.000000000000000001'
    >>> format_units(-5, 0)
    '-5'
    """
    sign = "-" if raw < 0 else ""
    digits = str(abs(raw)).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}" if decimals else f"{sign}{digits}"


def to_decimal(raw: int, decimals: int) -> Decimal:
    """Turn base units into tokens, exactly: no decimal context can round it.

    >>> to_decimal(-1_500_000, 6)
    Decimal('-1.500000')
    """
    return Decimal(f"{raw}E{-decimals}")  # from text no context rounds, and it is several times faster than by digits


def exact(value: Decimal) -> Fraction:
    """The number that a finite Decimal is.

    Raises:
        ValueError: If it is a NaN or infinite.
    """
    if not value.is_finite():
        raise ValueError(f"{value} is not a finite number")
    return Fraction(value)


def to_raw(value: Decimal, decimals: int) -> int:
    """Turn tokens into base units.

    Raises:
        ValueError: If the value has more decimals than the token, or is not finite.

    >>> to_raw(Decimal("1.5"), 6)
    1500000
    """
    scaled = exact(value) * Fraction(10**decimals)
    if scaled.denominator != 1:
        raise ValueError(f"{value} has more than {decimals} decimals")
    return scaled.numerator


def usd_float(worth: Fraction) -> float:
    """The double nearest to an exact worth: the one place where money becomes a float."""
    return worth.numerator / worth.denominator
