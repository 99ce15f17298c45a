# pragma version ~=0.4.3
"""
@title The parts of an ERC-20 that snekmate's module bounds too tightly or words differently
@dev A module. snekmate's `erc20` holds balances, allowances and supply; its name and symbol are bounded to
     25 and 5 characters, too short for real vaults, so they live here. Transfers check the balance first, so
     that every reason for a lack of tokens contains the word "insufficient" and says of what.
"""
from snekmate.tokens import erc20

uses: erc20

name: public(immutable(String[256]))
symbol: public(immutable(String[64]))


@deploy
def __init__(name_: String[256], symbol_: String[64]):
    name = name_
    symbol = symbol_


@external
def transfer(to: address, amount: uint256) -> bool:
    self._move(msg.sender, to, amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    erc20._spend_allowance(owner, msg.sender, amount)
    self._move(owner, to, amount)
    return True


@internal
def _move(sender: address, to: address, amount: uint256):
    self._check_balance(sender, amount)
    erc20._transfer(sender, to, amount)


@internal
@view
def _check_balance(holder: address, amount: uint256):
    assert amount <= erc20.balanceOf[holder], "erc20: insufficient balance"
