"""The chain as one operation of a syncer may read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
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
from harness.chain.node import Front, LogAnswer, Node, Switch, header_not_found
from harness.errors import CallReverted

Memory = dict[Any, Any]
"""What was read before, by (block hash, method, parameters)."""


class View:
    """A node's chain, pinned to an end block for one operation.

    Every read asks the node anew which one answers, so another may take its place between two of them; ``head`` stays
    what it was at the beginning.

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

        Raises:
            NodeError: For such a range, or if the node cannot answer.
        """
        self.reads += 1
        chosen = [addresses] if isinstance(addresses, str) else addresses
        node = self._node.answering("eth_getLogs")
        return [_log_receipt(log) for log in node.answer_logs(start_block, end_block, chosen, topics)]

    def call(self, address: str, signature: str, *arguments: Any, block: int | None = None) -> Any:
        """The decoded answer of e.g. ``"balanceOf(address)(uint256)"`` at the end of a block.

        Returns:
            One value, or a tuple of several; addresses are checksummed.

        Raises:
            CallReverted: If the call fails, no contract is there, or what it answers is of another type.
            NodeError: If the node has no such block, or cannot answer.
            ValueError: If the signature is none.
        """
        self.reads += 1
        function = parse_signature(signature)
        data = function.encode(arguments)
        number = self.end_block if block is None else block
        node = self._node.answering("eth_call")
        key = (node.find_block(number).hash, "call", as_address(address), data)
        answer = self._memory.get(key)
        if answer is None:
            answer = self._memory[key] = _read(node, address, data, number)
        output, failure = answer
        if failure is not None:
            raise CallReverted(f"{function.name} of {address} at block {number}: {failure}", output)
        try:
            return function.decode(output)
        except DecodingError as error:
            raise CallReverted(
                f"{function.name} of {address} at block {number} answered no {function.outputs}: {error}", output
            ) from error

    def header(self, block: int) -> Header:
        """The header of a block.

        Raises:
            NodeError: If the node has no such block, or answers null.
        """
        self.reads += 1
        node = self._node.answering("eth_getBlockByNumber")
        found = node.find_block(block)
        timestamp = node.header_time(found)
        if timestamp is None:
            raise header_not_found()
        key = (found.hash, "header")
        header: Header | None = self._memory.get(key)
        if header is None:
            header = self._memory[key] = as_header(found)
        return header if header.timestamp == timestamp else replace(header, timestamp=timestamp)

    def code(self, address: str, block: int | None = None) -> bytes:
        """The code at an address at the end of a block (None: the end block).

        Raises:
            NodeError: If the node has no such block, or cannot answer.
        """
        self.reads += 1
        return self._node.answering("eth_getCode").find_code(address, self.end_block if block is None else block)


def in_front(view: object, front: Callable[[Node], Node]) -> View | None:
    """Make another view like one, on a node that stands in front of its own.

    None if that is no plain view (one that fails, say), or its node misbehaves already, or will be another's.
    """
    if not isinstance(view, View) or isinstance(view._node, Front | Switch):
        return None
    return View(front(view._node), end_block=view.end_block, now=view.now, chunk=view.chunk, memory=view._memory)


def _read(node: Node, address: str, data: bytes, number: int) -> tuple[bytes, str | None]:
    if not node.find_code(address, number):
        return b"", "no contract is there"
    computation = read(node.find_state(number), to=as_address(address), data=data, sender=NOBODY)
    failure = failure_reason(computation.error, computation.output) if computation.is_error else None
    return computation.output, failure


def _log_receipt(answer: LogAnswer) -> AttributeDict[str, Any]:
    log = answer.log
    fields: dict[str, Any] = {
        "address": log.address,
        "topics": [HexBytes(topic) for topic in log.topics],
        "data": HexBytes(log.data),
        "blockNumber": log.block_number,
        "transactionHash": HexBytes(log.transaction_hash),
        "transactionIndex": log.transaction_index,
        "blockHash": HexBytes(answer.block_hash),
        "logIndex": log.log_index,
        "removed": answer.removed,
    }
    if answer.timestamp is not None:
        fields["blockTimestamp"] = hex(answer.timestamp)  # web3 leaves this one as the node gave it
    if answer.is_text:
        fields |= {name: hex(fields[name]) for name in ("blockNumber", "transactionIndex", "logIndex")}
        fields |= {name: fields[name].hex() for name in ("transactionHash", "blockHash")}
    return AttributeDict(fields)
