# pragma version ~=0.4.3
"""
@title An ERC-20 that keeps a part of each transfer: what is asked leaves the sender, what is left of it arrives
@dev The fee is in 1e18 parts of the amount, rounded down, and goes to a collector with a `Transfer` of its own, after
     the receiver's. Minting is free of it.
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from snekmate.auth import ownable
from snekmate.tokens import erc20
from snekmate.utils import math
import guarded
import named_token

implements: IERC20
implements: IERC20Detailed

initializes: ownable
initializes: erc20[ownable := ownable]
initializes: guarded[ownable := ownable]
initializes: named_token[erc20 := erc20]

exports: (
    ownable.owner,
    erc20.allowance,
    erc20.approve,
    erc20.balanceOf,
    erc20.decimals,
    erc20.totalSupply,
    guarded.blocked,
    guarded.paused,
    guarded.set_blocked,
    guarded.set_paused,
    named_token.name,
    named_token.symbol,
)


WAD: constant(uint256) = 10**18

fee: public(immutable(uint256))
collector: public(immutable(address))


@deploy
def __init__(name: String[256], symbol: String[64], decimals: uint8, fee_: uint256, collector_: address):
    assert fee_ <= WAD, "fee token: a fee of more than everything"
    fee = fee_
    collector = collector_
    ownable.__init__()
    erc20.__init__("", "", decimals, "", "")
    named_token.__init__(name, symbol)


@external
def transfer(to: address, amount: uint256) -> bool:
    guarded._check(msg.sender, to)
    self._transfer(msg.sender, to, amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    guarded._check(owner, to)
    erc20._spend_allowance(owner, msg.sender, amount)
    self._transfer(owner, to, amount)
    return True


@external
def mint(to: address, amount: uint256):
    ownable._check_owner()
    erc20._mint(to, amount)


@internal
def _transfer(sender: address, to: address, amount: uint256):
    named_token._check_balance(sender, amount)
    taken: uint256 = math._mul_div(amount, fee, WAD, False)
    erc20._transfer(sender, to, amount - taken)
    if taken != 0:
        erc20._transfer(sender, collector, taken)
