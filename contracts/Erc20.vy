# pragma version ~=0.4.3
"""
@title A plain ERC-20 with any decimals and a long name; whoever deploys it may mint
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from snekmate.auth import ownable
from snekmate.tokens import erc20
import named_token

implements: IERC20
implements: IERC20Detailed

initializes: ownable
initializes: erc20[ownable := ownable]
initializes: named_token[erc20 := erc20]

exports: (
    ownable.owner,
    erc20.allowance,
    erc20.approve,
    erc20.balanceOf,
    erc20.decimals,
    erc20.totalSupply,
    named_token.name,
    named_token.symbol,
    named_token.transfer,
    named_token.transferFrom,
)


@deploy
def __init__(name: String[256], symbol: String[64], decimals: uint8):
    ownable.__init__()
    erc20.__init__("", "", decimals, "", "")
    named_token.__init__(name, symbol)


@external
def mint(to: address, amount: uint256):
    ownable._check_owner()
    erc20._mint(to, amount)
