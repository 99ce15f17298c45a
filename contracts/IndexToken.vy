# pragma version ~=0.4.3
"""
@title A token whose balances grow (or shrink) with an index, modelled on Aave's aToken
@dev Kept are scaled balances; a balance is the scaled one times the index, to nearest. The index moves when the
     owner says so, not by itself. Neither a rebase nor anything else but transfer, mint and burn emits `Transfer`.
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from snekmate.auth import ownable
import ray_math

implements: IERC20
implements: IERC20Detailed

initializes: ownable

exports: ownable.owner


event IndexUpdated:
    index: uint256


event PoolSet:
    pool: indexed(address)


name: public(immutable(String[256]))
symbol: public(immutable(String[64]))
decimals: public(immutable(uint8))
UNDERLYING_ASSET_ADDRESS: public(immutable(address))

liquidity_index: public(uint256)
pool: public(address)
scaledBalanceOf: public(HashMap[address, uint256])
scaledTotalSupply: public(uint256)
allowance: public(HashMap[address, HashMap[address, uint256]])


@deploy
def __init__(name_: String[256], symbol_: String[64], decimals_: uint8, underlying: address):
    ownable.__init__()
    name = name_
    symbol = symbol_
    decimals = decimals_
    UNDERLYING_ASSET_ADDRESS = underlying
    self._set_index(ray_math.RAY)


@external
@view
def balanceOf(holder: address) -> uint256:
    return self._balance_of(holder)


@external
@view
def totalSupply() -> uint256:
    return ray_math._ray_mul(self.scaledTotalSupply, self.liquidity_index)


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    log IERC20.Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@external
def transfer(to: address, amount: uint256) -> bool:
    self._transfer(msg.sender, to, amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    allowed: uint256 = self.allowance[owner][msg.sender]
    # As in snekmate's ERC-20, the largest allowance is endless.
    if allowed != max_value(uint256):
        assert amount <= allowed, "index token: insufficient allowance"
        self.allowance[owner][msg.sender] = allowed - amount
    self._transfer(owner, to, amount)
    return True


@external
def mint(to: address, amount: uint256):
    assert msg.sender in [ownable.owner, self.pool], "index token: caller is neither the owner nor the pool"
    assert to != empty(address), "index token: mint to the zero address"
    scaled: uint256 = ray_math._ray_div(amount, self.liquidity_index)
    self.scaledBalanceOf[to] += scaled
    self.scaledTotalSupply += scaled
    log IERC20.Transfer(sender=empty(address), receiver=to, value=amount)


@external
def burn(holder: address, amount: uint256):
    assert msg.sender == self.pool, "index token: caller is not the pool"
    scaled: uint256 = self._take_scaled(holder, amount)
    self.scaledTotalSupply -= scaled
    log IERC20.Transfer(sender=holder, receiver=empty(address), value=amount)


@external
def set_pool(pool: address):
    ownable._check_owner()
    self.pool = pool
    log PoolSet(pool=pool)


@external
def rebase_by(factor: uint256):
    """
    @param factor What the index is multiplied with, in ray.
    """
    ownable._check_owner()
    self._set_index(ray_math._ray_mul(self.liquidity_index, factor))


@external
def rebase_to(holder: address, balance: uint256):
    """
    @dev Sets the index at which `holder` has `balance`, as near as an index in ray comes to it.
    """
    ownable._check_owner()
    scaled: uint256 = self.scaledBalanceOf[holder]
    assert scaled != 0, "index token: holder has no balance to rebase"
    self._set_index(ray_math._ray_div(balance, scaled))


@internal
def _set_index(index: uint256):
    assert index != 0, "index token: the index would be zero"
    self.liquidity_index = index
    log IndexUpdated(index=index)


@internal
def _transfer(sender: address, to: address, amount: uint256):
    assert to != empty(address), "index token: transfer to the zero address"
    scaled: uint256 = self._take_scaled(sender, amount)
    self.scaledBalanceOf[to] += scaled
    log IERC20.Transfer(sender=sender, receiver=to, value=amount)


@internal
def _take_scaled(holder: address, amount: uint256) -> uint256:
    """
    @dev A balance that was rounded up can be a little more than what is held: then all of it goes, no more.
    """
    assert amount <= self._balance_of(holder), "index token: insufficient balance"
    held: uint256 = self.scaledBalanceOf[holder]
    scaled: uint256 = min(ray_math._ray_div(amount, self.liquidity_index), held)
    self.scaledBalanceOf[holder] = held - scaled
    return scaled


@internal
@view
def _balance_of(holder: address) -> uint256:
    return ray_math._ray_mul(self.scaledBalanceOf[holder], self.liquidity_index)
