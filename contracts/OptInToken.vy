# pragma version ~=0.4.3
"""
@title A token that rebases for people, and for contracts once they have opted in, with the arithmetic of Origin's OUSD
@dev Kept are credits. balance = credits * 1e18 / credits per token, credits = amount * credits per token / 1e18, both
     rounded down, so that a transfer between accounts that rebase may arrive a raw unit short; `Transfer` says what was
     asked. A contract (not a delegated account, EIP-7702) keeps the rate at which it first got tokens. Here the owner
     opts others in, as OUSD's governor may. With a rate, balances that rebase grow with time: simple interest.
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


event RebasingCreditsPerTokenSet:
    credits_per_token: uint256


event OptedIn:
    account: indexed(address)


WAD: constant(uint256) = 10**18
DELEGATION_SIZE: constant(uint256) = 23

creditsOf: public(HashMap[address, uint256])
opted_in: public(HashMap[address, bool])
_fixed_rate: HashMap[address, uint256]
_rebasing_rate: uint256
rebasingCredits: public(uint256)
nonRebasingSupply: public(uint256)


@deploy
def __init__(name: String[256], symbol: String[64], decimals: uint8, underlying: address):
    ownable.__init__()
    pool_token.__init__(name, symbol, decimals, underlying)
    self._set_rebasing_rate(ray_math.RAY)


@external
@view
def rebasingCreditsPerToken() -> uint256:
    return self._current_rate()


@external
@view
def totalSupply() -> uint256:
    return self.nonRebasingSupply + self._tokens(self.rebasingCredits, self._current_rate())


@external
@view
def balanceOf(holder: address) -> uint256:
    return self._balance_of(holder)


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
    self._give(to, amount)
    log IERC20.Transfer(sender=empty(address), receiver=to, value=amount)


@external
def burn(holder: address, amount: uint256):
    pool_token._check_pool()
    guarded._check(holder, empty(address))
    self._take(holder, amount)
    log IERC20.Transfer(sender=holder, receiver=empty(address), value=amount)


@external
def opt_in(account: address):
    """
    @dev The balance stays; its credits become those of the current rate.
    """
    ownable._check_owner()
    self._settle(account)
    fixed: uint256 = self._fixed_rate[account]
    assert fixed != 0, "token: account rebases already"
    self.nonRebasingSupply -= self._balance_of(account)
    credits: uint256 = math._mul_div(self.creditsOf[account], self._current_rate(), fixed, False)
    self.creditsOf[account] = credits
    self.rebasingCredits += credits
    self._fixed_rate[account] = 0
    self.opted_in[account] = True
    log OptedIn(account=account)


@external
def accrue(rate: uint256):
    """
    @param rate What a year adds to balances that rebase, in ray.
    """
    ownable._check_owner()
    self._set_rebasing_rate(self._current_rate())
    accrual._set_rate(rate)


@external
def rebase_by(factor: uint256):
    """
    @param factor What balances that rebase are multiplied with, in ray.
    """
    ownable._check_owner()
    assert factor != 0, "token: balances would be zero"
    self._set_rebasing_rate(math._mul_div(self._current_rate(), ray_math.RAY, factor, False))


@external
def rebase_to(holder: address, balance: uint256):
    """
    @dev Sets the rate at which `holder` has `balance`, as near as a rate comes to it.
    """
    ownable._check_owner()
    self._settle(holder)
    assert self._fixed_rate[holder] == 0, "token: holder does not rebase, it has not opted in"
    assert self.creditsOf[holder] != 0, "token: holder has no balance to rebase"
    assert balance != 0, "token: balances would be zero"
    self._set_rebasing_rate(math._mul_div(self.creditsOf[holder], WAD, balance, False))


@internal
def _transfer(sender: address, to: address, amount: uint256):
    assert to != empty(address), "token: transfer to the zero address"
    guarded._check(sender, to)
    self._take(sender, amount)
    self._give(to, amount)
    log IERC20.Transfer(sender=sender, receiver=to, value=amount)


@internal
def _give(account: address, amount: uint256):
    self._settle(account)
    credits: uint256 = self._credits(account, amount)
    self.creditsOf[account] += credits
    if self._fixed_rate[account] == 0:
        self.rebasingCredits += credits
    else:
        self.nonRebasingSupply += amount


@internal
def _take(account: address, amount: uint256):
    self._settle(account)
    assert amount <= self._balance_of(account), "token: insufficient balance"
    credits: uint256 = self._credits(account, amount)
    self.creditsOf[account] -= credits
    if self._fixed_rate[account] == 0:
        self.rebasingCredits -= credits
    else:
        self.nonRebasingSupply -= amount


@internal
def _settle(account: address):
    """
    @dev A contract that was not asked keeps its rate from here on.
    """
    if self._fixed_rate[account] != 0 or self.opted_in[account]:
        return
    if account.codesize == 0 or account.codesize == DELEGATION_SIZE:
        return
    credits: uint256 = self.creditsOf[account]
    if credits == 0:
        self._fixed_rate[account] = ray_math.RAY
        return
    self._fixed_rate[account] = self._current_rate()
    self.rebasingCredits -= credits
    self.nonRebasingSupply += self._balance_of(account)


@internal
@view
def _credits(account: address, amount: uint256) -> uint256:
    return math._mul_div(amount, self._rate_of(account), WAD, False)


@internal
@view
def _balance_of(account: address) -> uint256:
    return self._tokens(self.creditsOf[account], self._rate_of(account))


@internal
@view
def _rate_of(account: address) -> uint256:
    fixed: uint256 = self._fixed_rate[account]
    return fixed if fixed != 0 else self._current_rate()


@internal
@pure
def _tokens(credits: uint256, rate: uint256) -> uint256:
    return math._mul_div(credits, WAD, rate, False)


@internal
@view
def _current_rate() -> uint256:
    """
    @return Credits per token: the fewer, the more a credit is worth.
    """
    if accrual.rate == 0:
        return self._rebasing_rate
    return math._mul_div(self._rebasing_rate, ray_math.RAY, accrual._linear(), False)


@internal
def _set_rebasing_rate(rate: uint256):
    assert rate != 0, "token: a credit would be worth too much"
    self._rebasing_rate = rate
    accrual._stamp()
    log RebasingCreditsPerTokenSet(credits_per_token=rate)
