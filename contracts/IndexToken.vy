# pragma version ~=0.4.3
"""
@title A token whose balances grow (or shrink) with an index, modelled on Aave's aToken
@dev The index moves when the owner says so, and with time once the owner has set a rate: simple interest, written
     down at each mint, burn and rebase. Nothing but transfer, mint and burn emits `Transfer`.
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from snekmate.auth import ownable
import accrual
import guarded
import scaled
import pool_token
import ray_math

implements: IERC20
implements: IERC20Detailed

initializes: ownable
initializes: accrual
initializes: guarded[ownable := ownable]
initializes: scaled
initializes: pool_token[ownable := ownable]

exports: (
    ownable.owner,
    accrual.rate,
    accrual.updated_at,
    guarded.blocked,
    guarded.paused,
    guarded.set_blocked,
    guarded.set_paused,
    scaled.liquidity_index,
    scaled.scaledBalanceOf,
    scaled.scaledTotalSupply,
    pool_token.UNDERLYING_ASSET_ADDRESS,
    pool_token.allowance,
    pool_token.approve,
    pool_token.decimals,
    pool_token.name,
    pool_token.pool,
    pool_token.set_pool,
    pool_token.symbol,
)


@deploy
def __init__(name: String[256], symbol: String[64], decimals: uint8, underlying: address):
    ownable.__init__()
    scaled.__init__()
    pool_token.__init__(name, symbol, decimals, underlying)


@external
@view
def index() -> uint256:
    return self._index()


@external
@view
def balanceOf(holder: address) -> uint256:
    return scaled._balance_of(holder, self._index())


@external
@view
def totalSupply() -> uint256:
    return ray_math._ray_mul(scaled.scaledTotalSupply, self._index())


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
    self._write_down()
    scaled._mint(to, amount, scaled.liquidity_index)
    log IERC20.Transfer(sender=empty(address), receiver=to, value=amount)


@external
def burn(holder: address, amount: uint256):
    pool_token._check_pool()
    guarded._check(holder, empty(address))
    self._write_down()
    scaled._burn(holder, amount, scaled.liquidity_index)
    log IERC20.Transfer(sender=holder, receiver=empty(address), value=amount)


@external
def accrue(rate: uint256):
    """
    @param rate What a year adds, in ray.
    """
    ownable._check_owner()
    self._write_down()
    accrual._set_rate(rate)
    accrual._stamp()


@external
def rebase_by(factor: uint256):
    """
    @param factor What the index is multiplied with, in ray.
    """
    ownable._check_owner()
    scaled._set_index(ray_math._ray_mul(self._index(), factor))
    accrual._stamp()


@external
def rebase_to(holder: address, balance: uint256):
    ownable._check_owner()
    scaled._set_index(scaled._index_for(holder, balance))
    accrual._stamp()


@internal
@view
def _index() -> uint256:
    if accrual.rate == 0:
        return scaled.liquidity_index
    return ray_math._ray_mul(accrual._linear(), scaled.liquidity_index)


@internal
def _write_down():
    if accrual.rate != 0:
        scaled._set_index(self._index())
        accrual._stamp()


@internal
def _transfer(sender: address, to: address, amount: uint256):
    assert to != empty(address), "token: transfer to the zero address"
    guarded._check(sender, to)
    scaled._move(sender, to, amount, self._index())
    log IERC20.Transfer(sender=sender, receiver=to, value=amount)
