"""The chain as one operation of a syncer may read it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from eth_abi.exceptions import DecodingError
from hexbytes import HexBytes
from web3 import Web3
from web3.datastructures import AttributeDict

from harness.chain.artifacts import parse_signature
from harness.chain.backend import NOBODY, failure_reason, read
from harness.chain.chain import Header, as_address, as_header
from harness.chain.index import LogEntry
from harness.chain.node import Node
from harness.errors import CallReverted

Memory = dict[Any, Any]
"""What was read before, by (block hash, method, parameters)."""


class View:
    """A node's chain, pinned to an end block for one operation.

    Args:
        node: What is read.
        end_block: The last block to read, and the one whose state calls read unless they name another.
        now: The clock for this operation.
        chunk: The most blocks that one ``get_logs`` should span, or None.
        memory: Where reads are remembered; share it between views, never between chains.
    """

    def __init__(
        self, node: Node, *, end_block: int, now: datetime, chunk: int | None = None, memory: Memory | None = None
    ) -> None:
        self._node = node
        self._memory = {} if memory is None else memory
        self.head = node.head
        self.end_block = end_block
        self.now = now
        self.chunk = chunk
        self.reads = 0
        """How often this view was asked, remembered answers included."""

    @cached_property
    def web3(self) -> Web3:
        """A plain Web3 on the node, not pinned to the end block."""
        return self._node.web3()

    def get_logs(
        self,
        addresses: Sequence[str] | str | None,
        topics: Sequence[Any] | None,
        start_block: int,
        end_block: int,
    ) -> list[Any]:
        """web3 log receipts of a range, both ends included, in (block, log index) order.

        Blocks above the node's head have no logs; a range that ends before it starts is an error, as with geth.

        Args:
            addresses: One, several, or None for any.
            topics: As in ``eth_getLogs``: by position a topic, None, or a list of alternatives.
            start_block: The first block.
            end_block: The last block.
        """
        self.reads += 1
        chosen = [addresses] if isinstance(addresses, str) else addresses
        hashes: dict[int, HexBytes] = {}
        receipts = []
        for log in self._node.find_logs(start_block, end_block, chosen, topics):
            if log.block_number not in hashes:
                hashes[log.block_number] = HexBytes(self._node.find_block(log.block_number).hash)
            receipts.append(_log_receipt(log, hashes[log.block_number]))
        return receipts

    def call(self, address: str, signature: str, *arguments: Any, block: int | None = None) -> Any:
        """The decoded answer of e.g. ``"balanceOf(address)(uint256)"`` at the end of a block.

        Returns:
            One value, or a tuple of several; addresses are checksummed.

        Raises:
            CallReverted: If the call fails, no contract is there, or what it answers is of another type.
            ValueError: If the signature is none.
        """
        self.reads += 1
        function = parse_signature(signature)
        data = function.encode(arguments)
        number = self.end_block if block is None else block
        key = (self._node.find_block(number).hash, "call", as_address(address), data)
        answer = self._memory.get(key)
        if answer is None:
            answer = self._memory[key] = self._read(address, data, number)
        output, failure = answer
        if failure is not None:
            raise CallReverted(f"{function.name} of {address} at block {number}: {failure}", output)
        try:
            return function.decode(output)
        except DecodingError as error:
            raise CallReverted(
                f"{function.name} of {address} at block {number} answered no {function.outputs}: {error}", output
            ) from error

    def _read(self, address: str, data: bytes, number: int) -> tuple[bytes, str | None]:
        if not self._node.find_code(address, number):
            return b"", "no contract is there"
        computation = read(self._node.find_state(number), to=as_address(address), data=data, sender=NOBODY)
        failure = failure_reason(computation.error, computation.output) if computation.is_error else None
        return computation.output, failure

    def header(self, block: int) -> Header:
        """The header of a block; an error if the node has no such block."""
        self.reads += 1
        return as_header(self._node.find_block(block))

    def code(self, address: str, block: int | None = None) -> bytes:
        """The code at an address at the end of a block (None: the end block)."""
        self.reads += 1
        return self._node.find_code(address, self.end_block if block is None else block)


def _log_receipt(log: LogEntry, block_hash: HexBytes) -> AttributeDict[str, Any]:
    return AttributeDict(
        {
            "address": log.address,
            "topics": [HexBytes(topic) for topic in log.topics],
            "data": HexBytes(log.data),
            "blockNumber": log.block_number,
            "transactionHash": HexBytes(log.transaction_hash),
            "transactionIndex": log.transaction_index,
            "blockHash": block_hash,
            "logIndex": log.log_index,
            "removed": False,
        }
    )
