# pragma version ~=0.4.3
"""
@title A lending pool that turns underlying tokens into index tokens and back, one to one in balances, and lends
@dev One pool serves any number of index and debt tokens that name it as theirs. Interest comes from rebases, so the
     underlying to pay it with is put here at set-up. Nobody's collateral is asked for.
"""
from ethereum.ercs import IERC20


interface PoolToken:
    def UNDERLYING_ASSET_ADDRESS() -> address: view
    def mint(to: address, amount: uint256): nonpayable
    def burn(holder: address, amount: uint256): nonpayable


@external
def supply(index_token: address, amount: uint256, on_behalf_of: address):
    underlying: IERC20 = IERC20(staticcall PoolToken(index_token).UNDERLYING_ASSET_ADDRESS())
    assert extcall underlying.transferFrom(msg.sender, self, amount, default_return_value=True)
    extcall PoolToken(index_token).mint(on_behalf_of, amount)


@external
def withdraw(index_token: address, amount: uint256, to: address) -> uint256:
    underlying: IERC20 = IERC20(staticcall PoolToken(index_token).UNDERLYING_ASSET_ADDRESS())
    extcall PoolToken(index_token).burn(msg.sender, amount)
    assert extcall underlying.transfer(to, amount, default_return_value=True)
    return amount


@external
def borrow(debt_token: address, amount: uint256):
    underlying: IERC20 = IERC20(staticcall PoolToken(debt_token).UNDERLYING_ASSET_ADDRESS())
    extcall PoolToken(debt_token).mint(msg.sender, amount)
    assert extcall underlying.transfer(msg.sender, amount, default_return_value=True)


@external
def repay(debt_token: address, amount: uint256):
    underlying: IERC20 = IERC20(staticcall PoolToken(debt_token).UNDERLYING_ASSET_ADDRESS())
    extcall PoolToken(debt_token).burn(msg.sender, amount)
    assert extcall underlying.transferFrom(msg.sender, self, amount, default_return_value=True)
