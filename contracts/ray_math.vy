# pragma version ~=0.4.3
"""
@title Ray arithmetic, to nearest with halves up, as Aave's WadRayMath does it
@dev A module. Products are held in 512 bits, so only a result beyond 256 bits reverts.
"""
from snekmate.utils import math

RAY: constant(uint256) = 10**27


@internal
@pure
def _ray_mul(a: uint256, b: uint256) -> uint256:
    return self._nearest(a, b, RAY)


@internal
@pure
def _ray_div(a: uint256, b: uint256) -> uint256:
    return self._nearest(a, RAY, b)


@internal
@pure
def _nearest(a: uint256, b: uint256, c: uint256) -> uint256:
    quotient: uint256 = math._mul_div(a, b, c, False)
    remainder: uint256 = uint256_mulmod(a, b, c)
    # Half or more goes up. `c - remainder` instead of `2 * remainder`, which could overflow.
    if remainder >= c - remainder:
        quotient += 1
    return quotient
