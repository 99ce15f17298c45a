# pragma version ~=0.4.3
"""
@title Scaled balances under an index in ray, as Aave v3's ScaledBalanceTokenBase keeps them
@dev A module. A balance is the scaled one times the index, to nearest. The index of this moment is the caller's to
     say: it may have grown since it was written down.
"""
import ray_math


event IndexUpdated:
    index: uint256


liquidity_index: public(uint256)
scaledBalanceOf: public(HashMap[address, uint256])
scaledTotalSupply: public(uint256)


@deploy
def __init__():
    self._set_index(ray_math.RAY)


@internal
def _set_index(index: uint256):
    assert index != 0, "token: the index would be zero"
    self.liquidity_index = index
    log IndexUpdated(index=index)


@internal
@view
def _balance_of(holder: address, index: uint256) -> uint256:
    return ray_math._ray_mul(self.scaledBalanceOf[holder], index)


@internal
@view
def _index_for(holder: address, balance: uint256) -> uint256:
    """
    @return The index at which `holder` has `balance`, as near as an index in ray comes to it.
    """
    units: uint256 = self.scaledBalanceOf[holder]
    assert units != 0, "token: holder has no balance to rebase"
    return ray_math._ray_div(balance, units)


@internal
def _mint(to: address, amount: uint256, index: uint256):
    units: uint256 = ray_math._ray_div(amount, index)
    self.scaledBalanceOf[to] += units
    self.scaledTotalSupply += units


@internal
def _burn(holder: address, amount: uint256, index: uint256):
    units: uint256 = self._take(holder, amount, index)
    self.scaledTotalSupply -= units


@internal
def _move(sender: address, to: address, amount: uint256, index: uint256):
    units: uint256 = self._take(sender, amount, index)
    self.scaledBalanceOf[to] += units


@internal
def _take(holder: address, amount: uint256, index: uint256) -> uint256:
    """
    @dev A balance that was rounded up can be a little more than what is held: then all of it goes, no more.
    """
    assert amount <= self._balance_of(holder, index), "token: insufficient balance"
    held: uint256 = self.scaledBalanceOf[holder]
    units: uint256 = min(ray_math._ray_div(amount, index), held)
    self.scaledBalanceOf[holder] = held - units
    return units
