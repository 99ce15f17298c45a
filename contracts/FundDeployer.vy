# pragma version ~=0.4.3
"""
@title Deploys Enzyme-like funds: a vault and its comptroller, from blueprints
"""


interface EnzymeVault:
    def getAccessor() -> address: view
    def getOwner() -> address: view
    def set_accessor(accessor: address): nonpayable


interface Comptroller:
    def getDenominationAsset() -> address: view


event NewFundCreated:
    creator: indexed(address)
    vaultProxy: address
    comptrollerProxy: address


VAULT_BLUEPRINT: public(immutable(address))
COMPTROLLER_BLUEPRINT: public(immutable(address))
VALUE_INTERPRETER: public(immutable(address))


@deploy
def __init__(vault_blueprint: address, comptroller_blueprint: address, value_interpreter: address):
    VAULT_BLUEPRINT = vault_blueprint
    COMPTROLLER_BLUEPRINT = comptroller_blueprint
    VALUE_INTERPRETER = value_interpreter


@external
def create_fund(
    owner: address,
    name: String[256],
    symbol: String[64],
    denomination: address,
    tracked: DynArray[address, 64],
) -> (address, address):
    """
    @param tracked The assets that the vault tracks for good; none: the denomination asset, then whatever a trade
           or supply first brings in.
    @return Vault and comptroller.
    """
    automatic: bool = len(tracked) == 0
    assets: DynArray[address, 64] = tracked
    if automatic:
        assets = [denomination]
    vault: address = create_from_blueprint(VAULT_BLUEPRINT, owner, name, symbol, assets, automatic)
    comptroller: address = create_from_blueprint(
        COMPTROLLER_BLUEPRINT, vault, denomination, VALUE_INTERPRETER, self
    )
    extcall EnzymeVault(vault).set_accessor(comptroller)
    log NewFundCreated(creator=msg.sender, vaultProxy=vault, comptrollerProxy=comptroller)
    return vault, comptroller


@external
def replace_accessor(vault: address) -> address:
    """
    @dev What Enzyme does in two steps, a request and its execution: the vault listens to a new comptroller from here on.
    @return The new comptroller.
    """
    assert msg.sender == staticcall EnzymeVault(vault).getOwner(), "fund deployer: caller is not the fund's owner"
    denomination: address = staticcall Comptroller(
        staticcall EnzymeVault(vault).getAccessor()
    ).getDenominationAsset()
    comptroller: address = create_from_blueprint(
        COMPTROLLER_BLUEPRINT, vault, denomination, VALUE_INTERPRETER, self
    )
    extcall EnzymeVault(vault).set_accessor(comptroller)
    return comptroller
