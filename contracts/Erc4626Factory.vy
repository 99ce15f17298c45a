# pragma version ~=0.4.3
"""
@title Deploys ERC-4626 vaults from a blueprint
"""

event VaultCreated:
    creator: indexed(address)
    vault: address


VAULT_BLUEPRINT: public(immutable(address))


@deploy
def __init__(vault_blueprint: address):
    VAULT_BLUEPRINT = vault_blueprint


@external
def create_vault(asset: address, name: String[256], symbol: String[64], manager: address) -> address:
    vault: address = create_from_blueprint(VAULT_BLUEPRINT, asset, name, symbol, manager)
    log VaultCreated(creator=msg.sender, vault=vault)
    return vault
