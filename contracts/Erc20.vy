# pragma version ~=0.4.3
"""
@title A plain ERC-20 with any decimals and a long name; whoever deploys it may mint
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from snekmate.auth import ownable
from snekmate.tokens import erc20
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


@deploy
def __init__(name: String[256], symbol: String[64], decimals: uint8):
    ownable.__init__()
    erc20.__init__("", "", decimals, "", "")
    named_token.__init__(name, symbol)


@external
def transfer(to: address, amount: uint256) -> bool:
    guarded._check(msg.sender, to)
    named_token._move(msg.sender, to, amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    guarded._check(owner, to)
    erc20._spend_allowance(owner, msg.sender, amount)
    named_token._move(owner, to, amount)
    return True


@external
def mint(to: address, amount: uint256):
    ownable._check_owner()
    erc20._mint(to, amount)
