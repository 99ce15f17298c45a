# pragma version ~=0.4.3
"""
@title The comptroller of an Enzyme-like fund: investors buy and redeem shares here
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from snekmate.utils import math


interface EnzymeVault:
    def getOwner() -> address: view
    def getTrackedAssets() -> DynArray[address, 64]: view
    def mintShares(target: address, amount: uint256): nonpayable
    def burnShares(target: address, amount: uint256): nonpayable
    def withdrawAssetTo(asset: address, target: address, amount: uint256): nonpayable


interface ValueInterpreter:
    def value_of(asset: address, amount: uint256, quote: address) -> uint256: view


event SharesBought:
    buyer: indexed(address)
    investmentAmount: uint256
    sharesIssued: uint256
    sharesReceived: uint256


event SharesRedeemed:
    redeemer: indexed(address)
    recipient: indexed(address)
    sharesAmount: uint256
    receivedAssets: DynArray[address, 128]
    receivedAssetQuantities: DynArray[uint256, 128]


SHARES_UNIT: constant(uint256) = 10**18

getVaultProxy: public(immutable(address))
getDenominationAsset: public(immutable(address))
getFundDeployer: public(immutable(address))
getValueInterpreter: public(immutable(address))
_DENOMINATION_UNIT: immutable(uint256)


@deploy
def __init__(vault: address, denomination: address, value_interpreter: address, fund_deployer: address):
    getVaultProxy = vault
    getDenominationAsset = denomination
    getValueInterpreter = value_interpreter
    getFundDeployer = fund_deployer
    _DENOMINATION_UNIT = 10 ** convert(staticcall IERC20Detailed(denomination).decimals(), uint256)


@external
@view
def calcGav() -> uint256:
    """
    @return Gross asset value: what each tracked asset is worth, each floored, in base units of the denomination.
    """
    return self._gav()


@external
@view
def calcGrossShareValue() -> uint256:
    """
    @return What one share is worth, floored, in base units of the denomination; with no shares, its one unit.
    """
    supply: uint256 = self._supply()
    if supply == 0:
        return _DENOMINATION_UNIT
    return math._mul_div(self._gav(), SHARES_UNIT, supply, False)


@external
def buyShares(investment_amount: uint256, min_shares: uint256) -> uint256:
    return self._buy(msg.sender, investment_amount, min_shares)


@external
def buySharesOnBehalf(buyer: address, investment_amount: uint256, min_shares: uint256) -> uint256:
    return self._buy(buyer, investment_amount, min_shares)


@external
def redeemSharesInKind(
    recipient: address,
    shares_quantity: uint256,
    additional_assets: DynArray[address, 64],
    assets_to_skip: DynArray[address, 64],
) -> (DynArray[address, 128], DynArray[uint256, 128]):
    """
    @dev Pays the redeemer's part of each tracked asset, in their order, then of those named besides.
    """
    assets: DynArray[address, 128] = []
    for asset: address in staticcall EnzymeVault(getVaultProxy).getTrackedAssets():
        if asset not in assets_to_skip:
            assets.append(asset)
    for asset: address in additional_assets:
        if asset not in assets and asset not in assets_to_skip:
            assets.append(asset)
    return self._redeem(recipient, shares_quantity, assets)


@external
def redeemSharesForSpecificAssets(
    recipient: address, shares_quantity: uint256, payout_assets: DynArray[address, 64]
) -> (DynArray[address, 128], DynArray[uint256, 128]):
    """
    @dev Pays the redeemer's part of the named assets alone, in the order named; the rest stays in the vault.
    """
    assets: DynArray[address, 128] = []
    for asset: address in payout_assets:
        assert asset not in assets, "comptroller: asset is named twice"
        assets.append(asset)
    return self._redeem(recipient, shares_quantity, assets)


@external
def charge_fee(receiver: address, shares_quantity: uint256, as_deposit: bool):
    """
    @dev Shares for nothing, as a fee is taken by dilution.
    @param as_deposit Whether to log it as if so many whole tokens as shares had been deposited.
    """
    assert msg.sender == staticcall EnzymeVault(getVaultProxy).getOwner(), "comptroller: caller is not the fund's owner"
    extcall EnzymeVault(getVaultProxy).mintShares(receiver, shares_quantity)
    if as_deposit:
        log SharesBought(
            buyer=receiver,
            investmentAmount=math._mul_div(shares_quantity, _DENOMINATION_UNIT, SHARES_UNIT, False),
            sharesIssued=shares_quantity,
            sharesReceived=shares_quantity,
        )


@external
def announce(investment_amount: uint256, shares_quantity: uint256):
    """
    @dev Logs a deposit that never was, for anybody, and in an accessor that the vault has left too.
    """
    log SharesBought(
        buyer=msg.sender,
        investmentAmount=investment_amount,
        sharesIssued=shares_quantity,
        sharesReceived=shares_quantity,
    )


@internal
def _buy(buyer: address, investment_amount: uint256, min_shares: uint256) -> uint256:
    # Shares are priced by what the vault held before the deposit, and issued for what arrives, as Enzyme does it: the
    # denomination asset may keep a fee.
    supply: uint256 = self._supply()
    worth: uint256 = _DENOMINATION_UNIT
    priced: uint256 = SHARES_UNIT
    if supply != 0:
        worth = self._gav()
        priced = supply
        assert worth != 0, "comptroller: shares have no price, gross asset value is zero"
    denomination: IERC20 = IERC20(getDenominationAsset)
    before: uint256 = staticcall denomination.balanceOf(getVaultProxy)
    assert extcall denomination.transferFrom(msg.sender, getVaultProxy, investment_amount, default_return_value=True)
    received: uint256 = staticcall denomination.balanceOf(getVaultProxy) - before
    shares: uint256 = math._mul_div(received, priced, worth, False)
    assert shares >= min_shares, "comptroller: shares issued below minimum"
    extcall EnzymeVault(getVaultProxy).mintShares(buyer, shares)
    log SharesBought(buyer=buyer, investmentAmount=received, sharesIssued=shares, sharesReceived=shares)
    return shares


@internal
def _redeem(
    recipient: address, shares_quantity: uint256, assets: DynArray[address, 128]
) -> (DynArray[address, 128], DynArray[uint256, 128]):
    assert shares_quantity <= staticcall IERC20(getVaultProxy).balanceOf(msg.sender), "comptroller: insufficient shares"
    assert shares_quantity != 0, "comptroller: no shares to redeem"
    supply: uint256 = self._supply()
    extcall EnzymeVault(getVaultProxy).burnShares(msg.sender, shares_quantity)
    quantities: DynArray[uint256, 128] = []
    for asset: address in assets:
        held: uint256 = staticcall IERC20(asset).balanceOf(getVaultProxy)
        quantity: uint256 = math._mul_div(held, shares_quantity, supply, False)
        # A leg of nothing is reported, as Enzyme does, but not transferred.
        if quantity != 0:
            extcall EnzymeVault(getVaultProxy).withdrawAssetTo(asset, recipient, quantity)
        quantities.append(quantity)
    log SharesRedeemed(
        redeemer=msg.sender,
        recipient=recipient,
        sharesAmount=shares_quantity,
        receivedAssets=assets,
        receivedAssetQuantities=quantities,
    )
    return assets, quantities


@internal
@view
def _supply() -> uint256:
    return staticcall IERC20(getVaultProxy).totalSupply()


@internal
@view
def _gav() -> uint256:
    gav: uint256 = 0
    for asset: address in staticcall EnzymeVault(getVaultProxy).getTrackedAssets():
        held: uint256 = staticcall IERC20(asset).balanceOf(getVaultProxy)
        gav += staticcall ValueInterpreter(getValueInterpreter).value_of(asset, held, getDenominationAsset)
    return gav
