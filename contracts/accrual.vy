# pragma version ~=0.4.3
"""
@title Growth with time at a yearly rate in ray, as Aave v3's MathUtils counts it
@dev A module. Interest is simple (`calculateLinearInterest`) or compounded by the first terms of the binomial
     (`calculateCompoundedInterest`), from the last time at which what grows was written down.
"""
import ray_math


event RateSet:
    rate: uint256


YEAR: constant(uint256) = 365 * 24 * 60 * 60

rate: public(uint256)
updated_at: public(uint256)


@internal
@view
def _linear() -> uint256:
    return ray_math.RAY + self.rate * (block.timestamp - self.updated_at) // YEAR


@internal
@view
def _compounded() -> uint256:
    time: uint256 = block.timestamp - self.updated_at
    rate: uint256 = self.rate
    if time == 0 or rate == 0:
        return ray_math.RAY
    time_less_two: uint256 = 0
    if time > 2:
        time_less_two = time - 2
    squared: uint256 = ray_math._ray_mul(rate, rate) // (YEAR * YEAR)
    cubed: uint256 = ray_math._ray_mul(squared, rate) // YEAR
    second: uint256 = time * (time - 1) * squared // 2
    third: uint256 = time * (time - 1) * time_less_two * cubed // 6
    return ray_math.RAY + rate * time // YEAR + second + third


@internal
def _set_rate(rate: uint256):
    """
    @dev What grows must have been written down just before.
    """
    self.rate = rate
    log RateSet(rate=rate)


@internal
def _stamp():
    self.updated_at = block.timestamp
