# pragma version ~=0.4.3
"""
@title snekmate's ERC-4626 vault with long names, and a manager who can move assets out of it
@dev Offset 0: one virtual share and one virtual base unit of the asset, the weakest guard against donations.
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from ethereum.ercs import IERC4626
from snekmate.extensions import erc4626
from snekmate.tokens import erc20
import named_token

implements: IERC20
implements: IERC20Detailed
implements: IERC4626

uses: erc20
initializes: erc4626
initializes: named_token[erc20 := erc20]

exports: (
    erc20.allowance,
    erc20.approve,
    erc20.balanceOf,
    erc20.decimals,
    erc20.totalSupply,
    erc4626.asset,
    erc4626.convertToAssets,
    erc4626.convertToShares,
    erc4626.deposit,
    erc4626.maxDeposit,
    erc4626.maxMint,
    erc4626.maxRedeem,
    erc4626.maxWithdraw,
    erc4626.mint,
    erc4626.previewDeposit,
    erc4626.previewMint,
    erc4626.previewRedeem,
    erc4626.previewWithdraw,
    erc4626.totalAssets,
    named_token.name,
    named_token.symbol,
    named_token.transfer,
    named_token.transferFrom,
)

manager: public(immutable(address))


@deploy
def __init__(asset: address, name: String[256], symbol: String[64], manager_: address):
    erc4626.__init__("", "", IERC20(asset), 0, "", "")
    named_token.__init__(name, symbol)
    manager = manager_


@external
def withdraw(assets: uint256, receiver: address, owner: address) -> uint256:
    assert assets <= erc4626._max_withdraw(owner), "vault: insufficient shares, withdraw more than maximum"
    shares: uint256 = erc4626._preview_withdraw(assets)
    erc4626._withdraw(msg.sender, receiver, owner, assets, shares)
    return shares


@external
def redeem(shares: uint256, receiver: address, owner: address) -> uint256:
    assert shares <= erc20.balanceOf[owner], "vault: insufficient shares, redeem more than maximum"
    assets: uint256 = erc4626._preview_redeem(shares)
    erc4626._withdraw(msg.sender, receiver, owner, assets, shares)
    return assets


@external
def charge_fee(receiver: address, shares: uint256, as_deposit: bool):
    """
    @dev Shares for nothing, as a fee is taken by dilution.
    @param as_deposit Whether to log it as if so many whole tokens as shares had been deposited.
    """
    assert msg.sender == manager, "vault: caller is not the manager"
    erc20._mint(receiver, shares)
    if as_deposit:
        log IERC4626.Deposit(sender=self, owner=receiver, assets=shares, shares=shares)


@external
def transfer_out(asset: address, amount: uint256, to: address):
    """
    @dev Tokens leave and no share is burned; nothing but the token's own `Transfer` tells of it.
    """
    assert msg.sender == manager, "vault: caller is not the manager"
    assert extcall IERC20(asset).transfer(to, amount, default_return_value=True)
