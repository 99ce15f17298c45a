# pragma version ~=0.4.3
"""
@title The vault proxy of an Enzyme-like fund: its share token, and the holder of its assets
@dev Shares and payouts move only as the accessor (the comptroller) says; the owner, as manager, trades.
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


interface Venue:
    def swap(sell: address, sell_amount: uint256, buy: address, buy_amount: uint256): nonpayable


interface Pool:
    def supply(index_token: address, amount: uint256, on_behalf_of: address): nonpayable
    def withdraw(index_token: address, amount: uint256, to: address) -> uint256: nonpayable
    def borrow(debt_token: address, amount: uint256): nonpayable
    def repay(debt_token: address, amount: uint256): nonpayable


event AccessorSet:
    prevAccessor: address
    nextAccessor: address


event AssetWithdrawn:
    asset: indexed(address)
    target: indexed(address)
    amount: uint256


event TrackedAssetAdded:
    asset: address


SHARE_DECIMALS: constant(uint8) = 18

getCreator: public(immutable(address))
getOwner: public(immutable(address))
TRACKS_AUTOMATICALLY: public(immutable(bool))

getAccessor: public(address)
isTrackedAsset: public(HashMap[address, bool])
_tracked: DynArray[address, 64]


@deploy
def __init__(
    owner: address, name: String[256], symbol: String[64], tracked: DynArray[address, 64], tracks_automatically: bool
):
    ownable.__init__()
    erc20.__init__("", "", SHARE_DECIMALS, "", "")
    named_token.__init__(name, symbol)
    getCreator = msg.sender
    getOwner = owner
    TRACKS_AUTOMATICALLY = tracks_automatically
    for asset: address in tracked:
        assert not self.isTrackedAsset[asset], "vault: asset is tracked already"
        self._track(asset)


@external
@view
def getTrackedAssets() -> DynArray[address, 64]:
    return self._tracked


@external
def set_accessor(accessor: address):
    assert msg.sender in [getCreator, getOwner], "vault: caller is neither the fund deployer nor the owner"
    log AccessorSet(prevAccessor=self.getAccessor, nextAccessor=accessor)
    self.getAccessor = accessor


# What the accessor does.


@external
def mintShares(target: address, amount: uint256):
    self._check_accessor()
    erc20._mint(target, amount)


@external
def burnShares(target: address, amount: uint256):
    self._check_accessor()
    assert amount <= erc20.balanceOf[target], "vault: insufficient shares"
    erc20._burn(target, amount)


@external
def withdrawAssetTo(asset: address, target: address, amount: uint256):
    self._check_accessor()
    assert extcall IERC20(asset).transfer(target, amount, default_return_value=True)
    log AssetWithdrawn(asset=asset, target=target, amount=amount)


@external
def addTrackedAsset(asset: address):
    self._check_accessor()
    if not self.isTrackedAsset[asset]:
        self._track(asset)


# What the owner does, as the manager.


@external
def trade(venue: address, sell: address, sell_amount: uint256, buy: address, buy_amount: uint256):
    self._check_owner()
    assert extcall IERC20(sell).approve(venue, sell_amount, default_return_value=True)
    extcall Venue(venue).swap(sell, sell_amount, buy, buy_amount)
    self._track_if_automatic(buy)


@external
def supply(pool: address, asset: address, amount: uint256, into: address):
    self._check_owner()
    assert extcall IERC20(asset).approve(pool, amount, default_return_value=True)
    extcall Pool(pool).supply(into, amount, self)
    self._track_if_automatic(into)


@external
def unsupply(pool: address, index_token: address, amount: uint256):
    self._check_owner()
    extcall Pool(pool).withdraw(index_token, amount, self)


@external
def borrow(pool: address, debt_token: address, amount: uint256):
    self._check_owner()
    extcall Pool(pool).borrow(debt_token, amount)


@external
def repay(pool: address, asset: address, amount: uint256, debt_token: address):
    self._check_owner()
    assert extcall IERC20(asset).approve(pool, amount, default_return_value=True)
    extcall Pool(pool).repay(debt_token, amount)


@external
def take(asset: address, amount: uint256, to: address):
    self._check_owner()
    assert extcall IERC20(asset).transfer(to, amount, default_return_value=True)


@internal
def _track_if_automatic(asset: address):
    if TRACKS_AUTOMATICALLY and not self.isTrackedAsset[asset]:
        self._track(asset)


@internal
def _track(asset: address):
    assert len(self._tracked) < 64, "vault: tracks no more than 64 assets"
    self._tracked.append(asset)
    self.isTrackedAsset[asset] = True
    log TrackedAssetAdded(asset=asset)


@internal
@view
def _check_accessor():
    assert msg.sender == self.getAccessor, "vault: caller is not the accessor"


@internal
@view
def _check_owner():
    assert msg.sender == getOwner, "vault: caller is not the owner"
