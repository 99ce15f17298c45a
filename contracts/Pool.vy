# pragma version ~=0.4.3
"""
@title A lending pool that turns underlying tokens into index tokens and back, one to one in balances
@dev One pool serves any number of index tokens that name it as theirs. Interest comes from rebases, so the
     underlying to pay it with is put here at set-up.
"""
from ethereum.ercs import IERC20


interface IndexToken:
    def UNDERLYING_ASSET_ADDRESS() -> address: view
    def mint(to: address, amount: uint256): nonpayable
    def burn(holder: address, amount: uint256): nonpayable


@external
def supply(index_token: address, amount: uint256, on_behalf_of: address):
    underlying: IERC20 = IERC20(staticcall IndexToken(index_token).UNDERLYING_ASSET_ADDRESS())
    assert extcall underlying.transferFrom(msg.sender, self, amount, default_return_value=True)
    extcall IndexToken(index_token).mint(on_behalf_of, amount)


@external
def withdraw(index_token: address, amount: uint256, to: address) -> uint256:
    underlying: IERC20 = IERC20(staticcall IndexToken(index_token).UNDERLYING_ASSET_ADDRESS())
    extcall IndexToken(index_token).burn(msg.sender, amount)
    assert extcall underlying.transfer(to, amount, default_return_value=True)
    return amount
