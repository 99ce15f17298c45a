"""What one operation sees of the chain: state at the end of blocks, and the logs of one block, proved complete.

A block's logs are asked for without any filter, so that they can be held against the header's bloom filter and
their own numbering: a node that withholds one is noticed before anything is booked. What is read of one branch
of the chain is never mixed with another's: headers must follow on each other, logs carry their header's hash, and
in the end the end block must still be the one that it was in the beginning.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from harness.errors import CallReverted
from harness.syncers.balances.asking import Doubt, Patience, Pause, as_bytes, as_number
from harness.syncers.balances.words import BLOOM_BYTES, address_bytes, address_text, bloom_of, may_hold
from harness.syncers.protocol import ChainView

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What a header says that is of use here."""

    hash: bytes
    parent_hash: bytes
    """Empty if the node does not give it."""
    timestamp: int
    bloom: bytes | None


class Observer:
    """One view, with headers remembered. ``pause`` lets seconds pass between tries."""

    def __init__(self, view: ChainView, pause: Pause = time.sleep) -> None:
        self.view = view
        self._patience = Patience(pause)
        self._headers: dict[int, Seal] = {}
        self._there_since: dict[str, int] = {}

    # -- one branch

    def is_unmoved(self) -> bool:
        """Tell whether the end block is still the one that was read.

        Raises:
            Doubt: If the node does not give it any more.
        """
        known = self._headers.get(self.view.end_block)
        found = self._patience.ask(
            f"the header of block {self.view.end_block}", lambda: self._seal(self.view.end_block)
        )
        return known is None or known.hash == found.hash

    def check_unmoved(self) -> None:
        """Doubt everything read if the end block has become another one meanwhile.

        Raises:
            Doubt: If it has, or is gone.
        """
        if not self.is_unmoved():
            raise Doubt(f"block {self.view.end_block} was replaced while it was read")

    # -- headers

    def header(self, block: int) -> Seal:
        """The header of a block.

        Raises:
            Doubt: If the node has none, or none that fits to its neighbours'.
        """
        if block not in self._headers:
            seal = self._patience.ask(f"the header of block {block}", lambda: self._seal(block))
            self._check_link(block - 1, self._headers.get(block - 1), seal)
            self._check_link(block, seal, self._headers.get(block + 1))
            self._headers[block] = seal
        return self._headers[block]

    def _seal(self, block: int) -> Seal:
        found: Any = self.view.header(block)
        if found is None or as_number(found.number) != block:
            raise Doubt(f"the node gives no header of block {block}")
        timestamp, bloom = as_number(found.timestamp or 0), as_bytes(found.logs_bloom or b"")
        if block and not timestamp:
            raise Doubt(f"the node gives no time of block {block}")
        return Seal(
            hash=as_bytes(found.hash),
            parent_hash=as_bytes(found.parent_hash or b""),
            timestamp=timestamp,
            bloom=bloom if len(bloom) == BLOOM_BYTES else None,
        )

    def _check_link(self, block: int, seal: Seal | None, following: Seal | None) -> None:
        if seal is None or following is None:
            return
        if following.parent_hash and following.parent_hash != seal.hash:
            raise Doubt(f"block {block + 1} does not follow the block {block} that the node gave")
        if following.timestamp < seal.timestamp:
            raise Doubt(f"block {block + 1} is older than block {block}")

    def block_hash(self, block: int) -> str:
        """The hash of a block, 0x text."""
        return "0x" + self.header(block).hash.hex()

    def mined_at(self, block: int) -> datetime:
        """When a block was mined, naive UTC. No zone is asked: seconds are added to 1970."""
        return _EPOCH + timedelta(seconds=self.header(block).timestamp)

    def may_have_logs(self, block: int, *elements: bytes) -> bool:
        """Tell whether a block may have logs with all of these addresses and topics; False is certain."""
        bloom = self.header(block).bloom
        return bloom is None or may_hold(bloom, *elements)

    # -- state

    def exists(self, address: str, block: int) -> bool:
        """Tell whether a contract is there at the end of a block."""
        if block < 0:
            return False
        since = self._there_since.get(address)
        if since is None or block < since:
            if not self._patience.ask(f"the code of {address}", lambda: self.view.code(address, block)):
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
            Doubt: If there is no feed, or it says less than nothing.
        """
        decimals = self._read(feed, "decimals()(uint8)", block=block)
        latest = self._read(feed, "latestRoundData()(uint80,int256,uint256,uint256,uint80)", block=block)
        if decimals is None or latest is None:
            raise Doubt(f"price feed {feed} is not there at block {block}")
        if latest[1] < 0:
            raise Doubt(f"price feed {feed} says {latest[1]} at block {block}")
        return Fraction(latest[1], 10**decimals)

    def _read(self, address: str, signature: str, *arguments: Any, block: int) -> Any:
        if not self.exists(address, block):
            return None
        what = f"{signature.partition('(')[0]} of {address} at block {block}"
        try:
            return self._patience.ask(what, lambda: self.view.call(address, signature, *arguments, block=block))
        except CallReverted as error:
            raise Doubt(f"{what}: {error.reason}") from error

    # -- logs

    def witnesses(self, block: int) -> tuple[Witness, ...]:
        """All logs of a block, whoever emitted them, in order.

        Where the node does not give them by the block's number, they are put together from receipts.

        Raises:
            Doubt: If the node's logs are of another block, contradict each other, or are not all there are.
        """
        seal = self.header(block)
        try:
            return self._patience.ask(
                f"the logs of block {block}",
                lambda: self._proved(block, seal, self.view.get_logs(None, None, block, block)),
            )
        except Doubt as doubt:
            receipts = self._receipts(seal)
            if receipts is None:
                raise
            try:
                return self._proved(block, seal, (log for receipt in receipts for log in receipt["logs"]))
            except Doubt:
                raise doubt from None

    def _receipts(self, seal: Seal) -> list[Mapping[str, Any]] | None:
        """The receipts of a block's transactions, asked for one by one; None if there is no way to."""
        try:
            block = self._request("eth_getBlockByHash", "0x" + seal.hash.hex(), False)
            return [self._request("eth_getTransactionReceipt", hash_) for hash_ in block["transactions"]]
        except Doubt:
            return None

    def _request(self, method: str, *parameters: Any) -> Any:
        def result() -> Any:
            provider: Any = getattr(self.view.web3, "provider", None)
            if provider is None:
                raise Doubt("the node has no other door")
            answer = provider.make_request(method, parameters)
            if answer.get("result") is None:
                raise Doubt(f"the node does not answer {method}: {answer.get('error')}")
            return answer["result"]

        return self._patience.ask(method, result)

    def _proved(self, block: int, seal: Seal, receipts: Iterable[Mapping[str, Any]]) -> tuple[Witness, ...]:
        found: dict[int, Witness] = {}
        for receipt in receipts:
            if receipt.get("removed"):
                continue
            witness = _witness(receipt, block, seal)
            if found.setdefault(witness.number, witness) != witness:
                raise Doubt(f"{witness.where} is two different ones")
        witnesses = tuple(found[number] for number in sorted(found))
        _check_complete(block, seal, witnesses)
        return witnesses


def _witness(receipt: Mapping[str, Any], block: int, seal: Seal) -> Witness:
    if as_number(receipt["blockNumber"]) != block or as_bytes(receipt["blockHash"]) != seal.hash:
        raise Doubt(f"asked for logs of block {block}, the node gave one of another block")
    return Witness(
        block=block,
        number=as_number(receipt["logIndex"]),
        transaction="0x" + as_bytes(receipt["transactionHash"]).hex(),
        emitter=as_bytes(receipt["address"]),
        topics=tuple(as_bytes(topic) for topic in receipt["topics"]),
        data=as_bytes(receipt["data"]),
    )


def _check_complete(block: int, seal: Seal, witnesses: tuple[Witness, ...]) -> None:
    for number, witness in enumerate(witnesses):
        if witness.number != number:
            raise Doubt(f"log {number} of block {block} is missing: the node gave the {witness.where}")
    elements = {element for witness in witnesses for element in (witness.emitter, *witness.topics)}
    if seal.bloom not in (None, bloom_of(elements)):
        raise Doubt(
            f"the {len(witnesses)} logs that the node gave of block {block} are not those that its header sums up"
        )


def name_of(address: bytes, names: Mapping[bytes, str]) -> str:
    """A token's symbol where it is known, else its address."""
    return names.get(address, address_text(address))
