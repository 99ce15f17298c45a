# pragma version ~=0.4.3
"""
@title A token whose balances are parts of a pot, with the arithmetic of Lido's stETH
@dev Kept are shares. shares = amount * all shares / pot, balance = shares * pot / all shares, both rounded down, so
     that a transfer may move a raw unit or two less than asked; `Transfer` says what was asked. The pot grows or
     shrinks (slashing) when the owner says so, and with time once there is a rate: simple interest.
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from snekmate.auth import ownable
from snekmate.utils import math
import accrual
import guarded
import pool_token
import ray_math

implements: IERC20
implements: IERC20Detailed

initializes: ownable
initializes: accrual
initializes: guarded[ownable := ownable]
initializes: pool_token[ownable := ownable]

exports: (
    ownable.owner,
    accrual.rate,
    accrual.updated_at,
    guarded.blocked,
    guarded.paused,
    guarded.set_blocked,
    guarded.set_paused,
    pool_token.UNDERLYING_ASSET_ADDRESS,
    pool_token.allowance,
    pool_token.approve,
    pool_token.decimals,
    pool_token.name,
    pool_token.pool,
    pool_token.set_pool,
    pool_token.symbol,
)


event TransferShares:
    sender: indexed(address)
    receiver: indexed(address)
    shares: uint256


event PotUpdated:
    pot: uint256


sharesOf: public(HashMap[address, uint256])
getTotalShares: public(uint256)
_pot: uint256


@deploy
def __init__(name: String[256], symbol: String[64], decimals: uint8, underlying: address):
    ownable.__init__()
    pool_token.__init__(name, symbol, decimals, underlying)


@external
@view
def totalSupply() -> uint256:
    return self._current_pot()


@external
@view
def balanceOf(holder: address) -> uint256:
    return self._worth(self.sharesOf[holder])


@external
def transfer(to: address, amount: uint256) -> bool:
    self._transfer(msg.sender, to, amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    pool_token._spend_allowance(owner, msg.sender, amount)
    self._transfer(owner, to, amount)
    return True


@external
def mint(to: address, amount: uint256):
    pool_token._check_minter()
    assert to != empty(address), "token: mint to the zero address"
    guarded._check(empty(address), to)
    shares: uint256 = amount
    if self.getTotalShares != 0:
        shares = self._shares(amount)
    self._set_pot(self._current_pot() + amount)
    self.getTotalShares += shares
    self.sharesOf[to] += shares
    self._tell(empty(address), to, amount, shares)


@external
def burn(holder: address, amount: uint256):
    pool_token._check_pool()
    guarded._check(holder, empty(address))
    shares: uint256 = self._shares(amount)
    pot: uint256 = self._current_pot()
    assert shares <= self.sharesOf[holder] and amount <= pot, "token: insufficient balance"
    self._set_pot(pot - amount)
    self.getTotalShares -= shares
    self.sharesOf[holder] -= shares
    self._tell(holder, empty(address), amount, shares)


@external
def accrue(rate: uint256):
    """
    @param rate What a year adds to the pot, in ray.
    """
    ownable._check_owner()
    self._set_pot(self._current_pot())
    accrual._set_rate(rate)


@external
def rebase_by(factor: uint256):
    """
    @param factor What the pot is multiplied with, in ray; rounded down.
    """
    ownable._check_owner()
    self._set_pot(math._mul_div(self._current_pot(), factor, ray_math.RAY, False))


@external
def rebase_to(holder: address, balance: uint256):
    """
    @dev Sets the least pot with which `holder` has exactly `balance`.
    """
    ownable._check_owner()
    shares: uint256 = self.sharesOf[holder]
    assert shares != 0, "token: holder has no balance to rebase"
    self._set_pot(math._mul_div(balance, self.getTotalShares, shares, True))


@internal
def _transfer(sender: address, to: address, amount: uint256):
    assert to != empty(address), "token: transfer to the zero address"
    guarded._check(sender, to)
    shares: uint256 = self._shares(amount)
    assert shares <= self.sharesOf[sender], "token: insufficient balance"
    self.sharesOf[sender] -= shares
    self.sharesOf[to] += shares
    self._tell(sender, to, amount, shares)


@internal
def _tell(sender: address, receiver: address, amount: uint256, shares: uint256):
    log IERC20.Transfer(sender=sender, receiver=receiver, value=amount)
    log TransferShares(sender=sender, receiver=receiver, shares=shares)


@internal
@view
def _current_pot() -> uint256:
    if accrual.rate == 0:
        return self._pot
    return math._mul_div(self._pot, accrual._linear(), ray_math.RAY, False)


@internal
def _set_pot(pot: uint256):
    self._pot = pot
    accrual._stamp()
    log PotUpdated(pot=pot)


@internal
@view
def _shares(amount: uint256) -> uint256:
    pot: uint256 = self._current_pot()
    assert pot != 0, "token: insufficient balance, there is nothing in the pot"
    return math._mul_div(amount, self.getTotalShares, pot, False)


@internal
@view
def _worth(shares: uint256) -> uint256:
    if shares == 0:
        return 0
    return math._mul_div(shares, self._current_pot(), self.getTotalShares, False)
