"""What one operation sees of the chain: state at the end of blocks, and the logs of one block, proved complete.

A block's logs are asked for without any filter, so that they can be held against the header's bloom filter and
their own numbering: a node that withholds one is noticed before anything is booked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from harness.errors import CallReverted, SyncRefused
from harness.syncers.balances.words import BLOOM_BYTES, address_bytes, address_text, bloom_of, may_hold
from harness.syncers.protocol import ChainView, Header

_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """One log of a block."""

    block: int
    number: int
    """Its log index: which of the block's logs it is."""
    transaction: str
    emitter: bytes
    topics: tuple[bytes, ...]
    data: bytes

    @property
    def where(self) -> str:
        """How messages name it."""
        return f"log {self.number} of block {self.block}"


class Observer:
    """One view, with headers remembered."""

    def __init__(self, view: ChainView) -> None:
        self.view = view
        self._headers: dict[int, Header] = {}
        self._there_since: dict[str, int] = {}

    # -- headers

    def header(self, block: int) -> Header:
        """The header of a block.

        Raises:
            SyncRefused: If the node has none.
        """
        if block not in self._headers:
            header: Header | None = self.view.header(block)  # some nodes answer null
            if header is None or header.number != block:
                raise SyncRefused(f"the node gives no header of block {block}")
            self._headers[block] = header
        return self._headers[block]

    def block_hash(self, block: int) -> str:
        """The hash of a block, 0x text."""
        return "0x" + bytes(self.header(block).hash).hex()

    def mined_at(self, block: int) -> datetime:
        """When a block was mined, naive UTC. No zone is asked: seconds are added to 1970."""
        return _EPOCH + timedelta(seconds=self.header(block).timestamp)

    def bloom(self, block: int) -> bytes | None:
        """The bloom filter in a block's header, None if the node does not give it."""
        bloom = bytes(self.header(block).logs_bloom or b"")
        return bloom if len(bloom) == BLOOM_BYTES else None

    def may_have_logs(self, block: int, *elements: bytes) -> bool:
        """Tell whether a block may have logs with all of these addresses and topics; False is certain."""
        bloom = self.bloom(block)
        return bloom is None or may_hold(bloom, *elements)

    # -- state

    def exists(self, address: str, block: int) -> bool:
        """Tell whether a contract is there at the end of a block."""
        if block < 0:
            return False
        since = self._there_since.get(address)
        if since is None or block < since:
            if not self.view.code(address, block):
                return False
            self._there_since[address] = block
        return True

    def balance(self, token: str, holder: str, block: int) -> int:
        """A holder's balance at the end of a block, base units; 0 where the token is not there yet."""
        return int(self._read(token, "balanceOf(address)(uint256)", holder, block=block) or 0)

    def supply(self, token: str, block: int) -> int:
        """How much of a token there is at the end of a block, base units; 0 where it is not there yet."""
        return int(self._read(token, "totalSupply()(uint256)", block=block) or 0)

    def accessor(self, vault: str, block: int) -> bytes | None:
        """Who speaks for an Enzyme vault at the end of a block; None where the vault is not there yet."""
        accessor = self._read(vault, "getAccessor()(address)", block=block)
        return None if accessor is None else address_bytes(accessor)

    def text(self, token: str, what: str) -> str:
        """A token's ``name`` or ``symbol`` at the end block."""
        return str(self._read(token, f"{what}()(string)", block=self.view.end_block) or "")

    def price(self, feed: str, block: int) -> Fraction:
        """A feed's price at the end of a block, dollars a token.

        Raises:
            SyncRefused: If there is no feed, or it says less than nothing.
        """
        decimals = self._read(feed, "decimals()(uint8)", block=block)
        latest = self._read(feed, "latestRoundData()(uint80,int256,uint256,uint256,uint80)", block=block)
        if decimals is None or latest is None:
            raise SyncRefused(f"price feed {feed} is not there at block {block}")
        if latest[1] < 0:
            raise SyncRefused(f"price feed {feed} says {latest[1]} at block {block}")
        return Fraction(latest[1], 10**decimals)

    def _read(self, address: str, signature: str, *arguments: Any, block: int) -> Any:
        if not self.exists(address, block):
            return None
        try:
            return self.view.call(address, signature, *arguments, block=block)
        except CallReverted as error:
            raise SyncRefused(f"{signature.partition('(')[0]} of {address} at block {block}: {error.reason}") from error

    # -- logs

    def witnesses(self, block: int) -> tuple[Witness, ...]:
        """All logs of a block, whoever emitted them, in order.

        Raises:
            SyncRefused: If the node's logs are of another block, contradict each other, or are not all there are.
        """
        found: dict[int, Witness] = {}
        for receipt in self.view.get_logs(None, None, block, block):
            if receipt.get("removed"):
                continue
            witness = self._witness(receipt, block)
            if found.setdefault(witness.number, witness) != witness:
                raise SyncRefused(f"{witness.where} is two different ones")
        witnesses = tuple(found[number] for number in sorted(found))
        self._check_complete(block, witnesses)
        return witnesses

    def _witness(self, receipt: Mapping[str, Any], block: int) -> Witness:
        if receipt["blockNumber"] != block or bytes(receipt["blockHash"]) != bytes(self.header(block).hash):
            raise SyncRefused(f"asked for logs of block {block}, the node gave one of another block")
        return Witness(
            block=block,
            number=int(receipt["logIndex"]),
            transaction="0x" + bytes(receipt["transactionHash"]).hex(),
            emitter=address_bytes(receipt["address"]),
            topics=tuple(bytes(topic) for topic in receipt["topics"]),
            data=bytes(receipt["data"]),
        )

    def _check_complete(self, block: int, witnesses: tuple[Witness, ...]) -> None:
        for number, witness in enumerate(witnesses):
            if witness.number != number:
                raise SyncRefused(f"log {number} of block {block} is missing: the node gave the {witness.where}")
        elements = {element for witness in witnesses for element in (witness.emitter, *witness.topics)}
        if self.bloom(block) not in (None, bloom_of(elements)):
            raise SyncRefused(
                f"the {len(witnesses)} logs that the node gave of block {block} are not those that its header sums up"
            )


def name_of(address: bytes, names: Mapping[bytes, str]) -> str:
    """A token's symbol where it is known, else its address."""
    return names.get(address, address_text(address))
