"""Logs to values: the events of Enzyme v4, ERC-20 and ERC-4626, decoded with ``eth_abi`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from harness.books.records import BalanceUpdateCause
from harness.errors import SyncRefused


def _topic(signature: str) -> bytes:
    return keccak(text=signature)


# Enzyme v4's fund deployer: event NewFundCreated(address indexed creator, address vaultProxy, address comptrollerProxy)
NEW_FUND_CREATED = _topic("NewFundCreated(address,address,address)")
# Enzyme v4's vault proxy: event AccessorSet(address prevAccessor, address nextAccessor)
ACCESSOR_SET = _topic("AccessorSet(address,address)")
# Enzyme v4's comptroller: event SharesBought(
#     address indexed buyer, uint256 investmentAmount, uint256 sharesIssued, uint256 sharesReceived)
SHARES_BOUGHT = _topic("SharesBought(address,uint256,uint256,uint256)")
# Enzyme v4's comptroller: event SharesRedeemed(address indexed redeemer, address indexed recipient,
#     uint256 sharesAmount, address[] receivedAssets, uint256[] receivedAssetAmounts)
SHARES_REDEEMED = _topic("SharesRedeemed(address,address,uint256,address[],uint256[])")
# A factory of ERC-4626 vaults: event VaultCreated(address indexed creator, address vault)
VAULT_CREATED = _topic("VaultCreated(address,address)")
# EIP-4626: event Deposit(address indexed sender, address indexed owner, uint256 assets, uint256 shares)
DEPOSIT = _topic("Deposit(address,address,uint256,uint256)")
# EIP-4626: event Withdraw(address indexed sender, address indexed receiver, address indexed owner,
#     uint256 assets, uint256 shares)
WITHDRAW = _topic("Withdraw(address,address,address,uint256,uint256)")
# EIP-20: event Transfer(address indexed from, address indexed to, uint256 value)
TRANSFER = _topic("Transfer(address,address,uint256)")


NOBODY = "0x" + "00" * 20
"""Who shares come from when they are minted, and go to when they are burned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One log; hashes are 0x text, the address is checksummed."""

    block: int
    log_index: int
    tx_hash: str
    block_hash: bytes
    address: str
    topics: tuple[bytes, ...]
    data: bytes

    @property
    def place(self) -> tuple[int, int]:
        """(block, log index): where it stands on the chain."""
        return self.block, self.log_index


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One asset that a flow moves: checksummed address and base units, unsigned."""

    address: str
    raw: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One investor's call, as the vault's event tells it.

    ``owner`` is whose shares these are: minted to, or burned from. ``counterparty`` is who paid or who
    was paid, as far as the event says. A deposit has no legs here, because what arrived is told by the
    token's transfers, not by this event.
    """

    log: Log
    cause: BalanceUpdateCause
    owner: str
    counterparty: str
    legs: tuple[Leg, ...] = ()


@lru_cache(maxsize=4096)
def checksummed(raw: bytes) -> str:
    """The text of a 20-byte address."""
    return to_checksum_address(raw)


def as_bytes(value: Any) -> bytes:
    """Bytes as they are, or of hex text with or without its 0x."""
    return bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value)


def as_int(value: Any) -> int:
    """A number as it is, or of hex text; some nodes leave numbers of logs as they came over the wire."""
    return int(value, 16) if isinstance(value, str) else int(value)


def read_log(receipt: Mapping[str, Any]) -> Log:
    """Take what matters from a web3 log receipt."""
    return Log(
        block=as_int(receipt["blockNumber"]),
        log_index=as_int(receipt["logIndex"]),
        tx_hash="0x" + as_bytes(receipt["transactionHash"]).hex(),
        block_hash=as_bytes(receipt["blockHash"]),
        address=checksummed(as_bytes(receipt["address"])),
        topics=tuple(as_bytes(topic) for topic in receipt["topics"]),
        data=as_bytes(receipt["data"]),
    )


def address_topic(address: str) -> str:
    """An address as ``eth_getLogs`` wants it in a topic filter."""
    return "0x" + address.lower().removeprefix("0x").rjust(64, "0")


def _fields(log: Log, indexed: int, types: list[str]) -> tuple[list[str], tuple[Any, ...]]:
    """The addresses in the topics, and the rest from the data.

    Raises:
        SyncRefused: If the log has another shape than its first topic promises.
    """
    topics = log.topics[1:]
    if len(topics) != indexed:
        raise SyncRefused(f"log {log.log_index} of block {log.block} has {len(topics)} indexed fields, not {indexed}")
    try:
        values = decode(types, log.data)
    except DecodingError as error:
        raise SyncRefused(f"log {log.log_index} of block {log.block} cannot be decoded: {error}") from error
    return [checksummed(topic[-20:]) for topic in topics], values


def checksum(address: str) -> str:
    """An address in its checksummed spelling."""
    return checksummed(as_bytes(address))


def decode_new_fund(log: Log) -> tuple[str, str]:
    """(vault, accessor) of a ``NewFundCreated``."""
    _, (vault, accessor) = _fields(log, 1, ["address", "address"])
    return checksum(vault), checksum(accessor)


def decode_vault_created(log: Log) -> str:
    """The vault of a ``VaultCreated``."""
    _, (vault,) = _fields(log, 1, ["address"])
    return checksum(vault)


def decode_accessor_set(log: Log) -> str:
    """The accessor that has the say from this log on."""
    _, (_previous, accessor) = _fields(log, 0, ["address", "address"])
    return checksum(accessor)


def decode_transfer(log: Log) -> int:
    """The base units of a ``Transfer``."""
    if len(log.topics) == 3 and len(log.data) == 32:  # as nearly all are: there are many, and decoding takes its time
        return int.from_bytes(log.data, "big")
    _, (raw,) = _fields(log, 2, ["uint256"])
    return int(raw)


def transfer_parties(log: Log) -> tuple[str, str]:
    """(sender, receiver) of a ``Transfer``; nobody where tokens come into being or end."""
    if len(log.topics) != 3:
        _fields(log, 2, ["uint256"])
    return checksummed(log.topics[1][-20:]), checksummed(log.topics[2][-20:])


def decode_shares_bought(log: Log) -> Flow:
    """A purchase: the event's buyer is who gets the shares, whoever pays."""
    (buyer,), _ = _fields(log, 1, ["uint256"] * 3)
    return Flow(log=log, cause=BalanceUpdateCause.deposit, owner=buyer, counterparty=buyer)


def decode_shares_redeemed(log: Log) -> Flow:
    """A redemption in kind, one leg per asset in the event's order, zero legs included."""
    (redeemer, recipient), (_shares, assets, amounts) = _fields(log, 2, ["uint256", "address[]", "uint256[]"])
    if len(assets) != len(amounts):
        raise SyncRefused(f"log {log.log_index} of block {log.block} has {len(assets)} assets, {len(amounts)} amounts")
    legs = tuple(Leg(address=checksum(asset), raw=raw) for asset, raw in zip(assets, amounts, strict=True))
    return Flow(log=log, cause=BalanceUpdateCause.redemption, owner=redeemer, counterparty=recipient, legs=legs)


def decode_deposit(log: Log) -> Flow:
    """An ERC-4626 deposit or mint: the event's owner is who gets the shares."""
    (sender, owner), _ = _fields(log, 2, ["uint256"] * 2)
    return Flow(log=log, cause=BalanceUpdateCause.deposit, owner=owner, counterparty=sender)


def decode_withdraw(log: Log, reserve: str) -> Flow:
    """An ERC-4626 withdraw or redeem: one leg, in the vault's asset."""
    (_sender, receiver, owner), (assets, _shares) = _fields(log, 3, ["uint256"] * 2)
    legs = (Leg(address=reserve, raw=assets),)
    return Flow(log=log, cause=BalanceUpdateCause.redemption, owner=owner, counterparty=receiver, legs=legs)
