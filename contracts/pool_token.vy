# pragma version ~=0.4.3
"""
@title What tokens have in common that a pool mints and burns: description, pool, allowances
@dev A module.
"""
from ethereum.ercs import IERC20
from snekmate.auth import ownable

uses: ownable


event PoolSet:
    pool: indexed(address)


name: public(immutable(String[256]))
symbol: public(immutable(String[64]))
decimals: public(immutable(uint8))
UNDERLYING_ASSET_ADDRESS: public(immutable(address))

pool: public(address)
allowance: public(HashMap[address, HashMap[address, uint256]])


@deploy
def __init__(name_: String[256], symbol_: String[64], decimals_: uint8, underlying: address):
    name = name_
    symbol = symbol_
    decimals = decimals_
    UNDERLYING_ASSET_ADDRESS = underlying


@external
def set_pool(pool: address):
    ownable._check_owner()
    self.pool = pool
    log PoolSet(pool=pool)


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    log IERC20.Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@internal
def _spend_allowance(owner: address, spender: address, amount: uint256):
    allowed: uint256 = self.allowance[owner][spender]
    # As in snekmate's ERC-20, the largest allowance is endless.
    if allowed != max_value(uint256):
        assert amount <= allowed, "token: insufficient allowance"
        self.allowance[owner][spender] = allowed - amount


@internal
@view
def _check_minter():
    assert msg.sender in [ownable.owner, self.pool], "token: caller is neither the owner nor the pool"


@internal
@view
def _check_pool():
    assert msg.sender == self.pool, "token: caller is not the pool"
