"""A read-only JSON-RPC node on a chain: standard methods, answers as geth gives them, nothing about scenarios."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rlp
from eth.abc import SignedTransactionAPI, StateAPI
from eth.exceptions import VMError
from eth_bloom.bloom import BloomFilter
from eth_typing import Address
from web3 import Web3
from web3.exceptions import BlockNotFound, TransactionNotFound, Web3RPCError
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from harness.chain.backend import BASE_FEE, GAS_PRICE, NOBODY, READ_GAS, estimate, failure_reason, read
from harness.chain.chain import Chain, as_address, checksummed
from harness.chain.index import Block, LogEntry, Receipt
from harness.errors import NodeError

CLIENT_VERSION = "py-evm/harness"
_TAGS = ("latest", "safe", "finalized", "pending")
_MOST_TOPICS = 4
_HASH_LENGTH = 66
"""Of a block's hash as text: a request may name a block by it wherever a number may stand."""

_INVALID_PARAMS = -32602
_NO_SUCH_METHOD = -32601
_SERVER_ERROR = -32000
_REVERTED = 3


class RpcError(NodeError):
    """What a JSON-RPC answer carries under ``error``, with the ``data`` that a revert has beside code and message."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        self.data = data
        super().__init__(code, message)


_FROM_NODES = (NodeError, ConnectionError, TimeoutError, Web3RPCError, BlockNotFound, TransactionNotFound)


def is_node_error(error: BaseException) -> bool:
    """Whether an exception is a node's error as a view or web3 raises it, or was raised from one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, _FROM_NODES):
        cause = cause.__cause__
    return cause is not None


def header_not_found() -> NodeError:
    """What a node says of a block that it does not have."""
    return RpcError(_SERVER_ERROR, "header not found")


def _error_json(error: NodeError) -> dict[str, Any]:
    fields: dict[str, Any] = {"code": error.code, "message": error.message}
    data = error.data if isinstance(error, RpcError) else None
    return fields if data is None else fields | {"data": data}


@dataclass(frozen=True, slots=True)
class LogAnswer:
    """A log as a node gives it out."""

    log: LogEntry
    block_hash: bytes
    removed: bool = False
    timestamp: int | None = None
    """Of its block, where the node gives it with the log."""
    is_text: bool = False
    """Numbers as hex text through a view too, hashes without ``0x``."""


class Node:
    """A node on a chain, as if block ``head`` were the newest.

    Args:
        chain: What it serves; what is mined later is seen, unless ``head`` says otherwise.
        head: The newest block it knows of; None follows the chain.
        chain_id: What it says its chain id is; None tells the truth.
    """

    def __init__(self, chain: Chain, *, head: int | None = None, chain_id: int | None = None) -> None:
        self._chain = chain
        self._head = head
        self._chain_id = chain.chain_id if chain_id is None else chain_id

    @property
    def chain(self) -> Chain:
        """What it serves."""
        return self._chain

    @property
    def head(self) -> int:
        """The newest block's number."""
        return self.chain.head if self._head is None else min(self._head, self.chain.head)

    @property
    def chain_id(self) -> int:
        """What the node says its chain id is."""
        return self._chain_id

    def request(self, method: str, params: Sequence[Any] = ()) -> dict[str, Any]:
        """Answer a JSON-RPC request: ``jsonrpc``, ``id`` and either ``result`` or ``error``; raises nothing."""
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": 1}
        function = _METHODS.get(method)
        try:
            node = self.answering(method)
            if function is None:
                raise RpcError(_NO_SUCH_METHOD, f"the method {method} does not exist/is not available")
            return answer | {"result": function(node, *params)}
        except NodeError as error:
            return answer | {"error": _error_json(error)}
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            return answer | {"error": _error_json(RpcError(_INVALID_PARAMS, f"invalid argument: {error}"))}

    def web3(self) -> Web3:
        """A Web3 on this node, as if it were reached over HTTP."""
        return Web3(_NodeProvider(self))

    # What follows serves the view, which reads what a node knows without turning it into JSON and back. Nodes that
    # misbehave override it, so that both doors misbehave alike.

    def answering(self, method: str) -> Node:
        """The node that answers the request which now begins: itself, unless others stand behind it.

        Called once for each JSON-RPC request and each of a view's reads, with the method that it comes to.

        Raises:
            NodeError: If the request fails before anything is read.
        """
        return self

    def answer_logs(
        self, start_block: int, end_block: int, addresses: Sequence[str] | None, topics: Sequence[Any] | None
    ) -> list[LogAnswer]:
        """Give out the logs of a range, see :meth:`find_logs`."""
        return self.dress(self.find_logs(start_block, end_block, addresses, topics))

    def dress(self, logs: Iterable[LogEntry]) -> list[LogAnswer]:
        """Put logs as this node gives them out, one by one, by range and in receipts."""
        block = self.chain.index.block
        return [LogAnswer(log, block(log.block_number).hash) for log in logs]

    def header_time(self, block: Block) -> int | None:
        """The timestamp that a header's answer has; None: the answer is null."""
        return block.header.timestamp

    def has_receipts(self, block: Block) -> bool:
        """Whether it gives out a block's receipts."""
        return True

    def find_block(self, number: int) -> Block:
        """The block of that number.

        Raises:
            RpcError: If the node has none.
        """
        if not 0 <= number <= self.head:
            raise header_not_found()
        return self.chain.index.block(number)

    def find_logs(
        self, start_block: int, end_block: int, addresses: Sequence[str] | None, topics: Sequence[Any] | None
    ) -> list[LogEntry]:
        """Logs of a range as geth answers it: none above the head, an error for a range that ends before it starts.

        Raises:
            RpcError: For such a range, or more than four topics.
        """
        if start_block > end_block > 0:
            raise RpcError(_INVALID_PARAMS, "invalid block range params")
        return self.chain.logs(
            start_block, min(end_block, self.head), [_checksum(one) for one in addresses or ()], _topics(topics)
        )

    def find_state(self, number: int) -> StateAPI:
        """The state at the end of a block.

        Raises:
            RpcError: If the node has no such block.
        """
        self.find_block(number)
        return self.chain.state(number)

    def find_code(self, address: str, number: int) -> bytes:
        """The code at an address at the end of a block.

        Raises:
            RpcError: If the node has no such block.
        """
        return self.find_state(number).get_code(as_address(address))

    # Blocks by what a request calls them.

    def _number(self, name: Any) -> int:
        """The number that a tag, a quantity or an EIP-1898 object stands for; it may lie above the head."""
        if isinstance(name, Mapping):
            name = name["blockHash"] if "blockHash" in name else name["blockNumber"]
        if isinstance(name, str) and len(name) == _HASH_LENGTH:
            number = self._number_of(name)
            if number is None:
                raise RpcError(_SERVER_ERROR, "header for hash not found")
            return number
        if name is None or name in _TAGS:
            return self.head
        return 0 if name == "earliest" else _quantity(name)

    def _number_of(self, block_hash: Any) -> int | None:
        number = self.chain.index.number_of(_bytes(block_hash, 32))
        return None if number is None or number > self.head else number

    def _block_or_none(self, name: Any) -> Block | None:
        number = self._number(name)
        return self.find_block(number) if 0 <= number <= self.head else None

    def _block_of_hash(self, block_hash: Any) -> Block | None:
        number = self._number_of(block_hash)
        return None if number is None else self.find_block(number)

    def _find_transaction(self, transaction_hash: Any) -> tuple[Block, int] | None:
        found = self.chain.index.find_transaction(_bytes(transaction_hash, 32))
        if found is None or found[0] > self.head:
            return None
        return self.find_block(found[0]), found[1]


class Front(Node):
    """A node in front of another, which does the answering; what is behind may change (see :class:`Switch`)."""

    def __init__(self, inner: Node) -> None:
        self._inner = inner
        self.asked = 0
        """How many requests came so far, the present one included."""

    @property
    def chain(self) -> Chain:
        """What the node behind it serves."""
        return self._inner.chain

    @property
    def head(self) -> int:
        """The newest block's number, as this node says it."""
        return self._inner.head

    @property
    def chain_id(self) -> int:
        """What the node behind it says its chain id is."""
        return self._inner.chain_id

    def answering(self, method: str) -> Node:
        """Count a request; the one behind counts it, too."""
        self.asked += 1
        self._inner.answering(method)
        return self


class Switch(Node):
    """An address behind which another node stands from the n-th request on.

    Args:
        first: The node that answers until then.
        after: The number, from 1, of the first request that goes to the other one.
        then: That node, or what makes it when that request comes.
    """

    def __init__(self, first: Node, *, after: int, then: Node | Callable[[], Node]) -> None:
        self._current = first
        self._left = after
        self._then = then

    @property
    def switched(self) -> bool:
        """Whether the other node stands there by now."""
        return self._left <= 0

    @property
    def chain(self) -> Chain:
        """What the node that stands there now serves."""
        return self._current.chain

    @property
    def head(self) -> int:
        """The newest block of the node that stands there now."""
        return self._current.head

    @property
    def chain_id(self) -> int:
        """What the node that stands there now says its chain id is."""
        return self._current.chain_id

    def answering(self, method: str) -> Node:
        """Count a request, and hand it to the node that stands there."""
        if self._left > 0:
            self._left -= 1
            if self._left == 0:
                self._current = self._then if isinstance(self._then, Node) else self._then()
        return self._current.answering(method)


class _NodeProvider(JSONBaseProvider):
    """Lets a Web3 talk to a node in this process."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._answer = node.request

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        answer: Any = self._answer(method, [_plain(parameter) for parameter in params])
        return answer  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    """What JSON would make of a request's parameter."""
    if isinstance(value, bytes | bytearray):
        return f"0x{value.hex()}"
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


# Reading parameters.


def _quantity(text: Any) -> int:
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ValueError(f"{text!r} is no quantity like '0x10'")
    return int(text, 16)


def _bytes(text: Any, length: int | None = None) -> bytes:
    if isinstance(text, bytes):
        data = text
    else:
        if not isinstance(text, str) or not text.startswith("0x"):
            raise ValueError(f"{text!r} is no hex data like '0x00'")
        data = bytes.fromhex(text[2:])
    if length is not None and len(data) != length:
        raise ValueError(f"{text!r} has {len(data)} bytes, not {length}")
    return data


def _address(text: Any) -> Address:
    return Address(_bytes(text, 20))


def _checksum(address: Any) -> str:
    return checksummed(_address(address))


def _topics(topics: Sequence[Any] | None) -> list[bytes | list[bytes] | None]:
    if topics is not None and len(topics) > _MOST_TOPICS:
        raise RpcError(_SERVER_ERROR, "exceed max topics")
    return [_topic_choice(choice) for choice in topics or ()]


def _topic_choice(choice: Any) -> bytes | list[bytes] | None:
    if choice is None:
        return None
    if isinstance(choice, list | tuple):
        # As geth: an empty list, or a null among the alternatives, lets anything through.
        return None if None in choice else [_bytes(one, 32) for one in choice]
    return _bytes(choice, 32)


# Writing answers.


def _hex(data: bytes) -> str:
    return f"0x{data.hex()}"


def _log_json(answer: LogAnswer) -> dict[str, Any]:
    log, prefix = answer.log, "" if answer.is_text else "0x"
    fields = {
        "address": log.address.lower(),
        "topics": [_hex(topic) for topic in log.topics],
        "data": _hex(log.data),
        "blockNumber": hex(log.block_number),
        "transactionHash": prefix + log.transaction_hash[2:],
        "transactionIndex": hex(log.transaction_index),
        "blockHash": prefix + answer.block_hash.hex(),
        "logIndex": hex(log.log_index),
        "removed": answer.removed,
    }
    return fields if answer.timestamp is None else fields | {"blockTimestamp": hex(answer.timestamp)}


def _block_json(block: Block, full: bool, timestamp: int) -> dict[str, Any]:
    header: Any = block.header
    hash_text = _hex(block.hash)
    return {
        "number": hex(block.number),
        "hash": hash_text,
        "parentHash": _hex(header.parent_hash),
        "nonce": _hex(header.nonce),
        "sha3Uncles": _hex(header.uncles_hash),
        "logsBloom": f"0x{header.bloom:0512x}",
        "transactionsRoot": _hex(header.transaction_root),
        "stateRoot": _hex(header.state_root),
        "receiptsRoot": _hex(header.receipt_root),
        "miner": _hex(header.coinbase),
        "difficulty": hex(header.difficulty),
        "extraData": _hex(header.extra_data),
        "size": hex(_block_size(block)),
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "timestamp": hex(timestamp),
        "baseFeePerGas": hex(header.base_fee_per_gas),
        "mixHash": _hex(header.mix_hash),
        "withdrawals": [],
        "withdrawalsRoot": _hex(header.withdrawals_root),
        "blobGasUsed": hex(header.blob_gas_used),
        "excessBlobGas": hex(header.excess_blob_gas),
        "parentBeaconBlockRoot": _hex(header.parent_beacon_block_root),
        "requestsHash": _hex(header.requests_hash),
        "uncles": [],
        "transactions": [
            _transaction_json(block, index) if full else receipt.transaction_hash
            for index, receipt in enumerate(block.receipts)
        ],
    }


def _block_size(block: Block) -> int:
    """Bytes of the block in RLP: header, transactions, no uncles, no withdrawals."""
    transactions = sum(len(transaction.encode()) for transaction in block.transactions)
    return _list_size(len(rlp.encode(block.header)) + _list_size(transactions) + 2)


def _list_size(payload: int) -> int:
    return payload + (1 if payload < 56 else 1 + (payload.bit_length() + 7) // 8)


def _transaction_json(block: Block, index: int) -> dict[str, Any]:
    transaction: Any = block.transactions[index]
    return {
        "blockHash": _hex(block.hash),
        "blockNumber": hex(block.number),
        "from": _hex(transaction.sender),
        "gas": hex(transaction.gas),
        "gasPrice": hex(transaction.gas_price),
        "hash": block.receipts[index].transaction_hash,
        "input": _hex(transaction.data),
        "nonce": hex(transaction.nonce),
        "to": _recipient(transaction),
        "transactionIndex": hex(index),
        "value": hex(transaction.value),
        "type": "0x0",
        "chainId": hex(transaction.chain_id),
        "v": hex(transaction.v),
        "r": hex(transaction.r),
        "s": hex(transaction.s),
    }


def _recipient(transaction: SignedTransactionAPI) -> str | None:
    return _hex(transaction.to) if transaction.to else None


def _receipts_json(node: Node, block: Block, only: int | None = None) -> list[dict[str, Any]]:
    answers, gas_used, hash_text = [], 0, _hex(block.hash)
    for index, receipt in enumerate(block.receipts):
        gas_used += receipt.gas_used
        if only is None or only == index:
            logs = node.dress(receipt.logs)
            answers.append(_receipt_json(receipt, block.transactions[index], gas_used, hash_text, logs))
    return answers


def _receipt_json(
    receipt: Receipt,
    transaction: SignedTransactionAPI,
    cumulative_gas_used: int,
    block_hash: str,
    logs: Sequence[LogAnswer],
) -> dict[str, Any]:
    created = receipt.contract_address
    return {
        "transactionHash": receipt.transaction_hash,
        "transactionIndex": hex(receipt.transaction_index),
        "blockHash": block_hash,
        "blockNumber": hex(receipt.block_number),
        "from": _hex(transaction.sender),
        "to": _recipient(transaction),
        "cumulativeGasUsed": hex(cumulative_gas_used),
        "gasUsed": hex(receipt.gas_used),
        "contractAddress": None if created is None else created.lower(),
        "logs": [_log_json(log) for log in logs],
        "logsBloom": f"0x{_bloom(receipt.logs):0512x}",
        "status": hex(receipt.succeeded),
        "type": "0x0",
        "effectiveGasPrice": hex(GAS_PRICE),
    }


def _bloom(logs: Sequence[LogEntry]) -> int:
    bloom = BloomFilter()
    for log in logs:
        bloom.add(as_address(log.address))
        for topic in log.topics:
            bloom.add(topic)
    return int(bloom)


# The methods.


def _get_logs(node: Node, query: Mapping[str, Any]) -> list[dict[str, Any]]:
    addresses = query.get("address")
    if isinstance(addresses, str | bytes):
        addresses = [addresses]
    if query.get("blockHash") is not None:
        if query.get("fromBlock") is not None or query.get("toBlock") is not None:
            raise RpcError(
                _INVALID_PARAMS, "cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other"
            )
        number = node._number_of(query["blockHash"])
        if number is None:
            raise RpcError(_SERVER_ERROR, "unknown block")
        start = end = number
    else:
        start, end = node._number(query.get("fromBlock")), node._number(query.get("toBlock"))
    return [_log_json(log) for log in node.answer_logs(start, end, addresses, query.get("topics"))]


def _call(node: Node, call: Mapping[str, Any], block: Any = "latest") -> str:
    if call.get("to") is None:
        raise RpcError(_SERVER_ERROR, "a call that creates a contract is not available")
    state = node.find_state(node._number(block))
    gas = _quantity(call.get("gas", READ_GAS))
    try:
        computation = read(state, **_message(call), gas=min(gas, READ_GAS))
    except VMError as error:  # before the contract ran: not enough ether for the call's value
        raise RpcError(_SERVER_ERROR, str(error)) from error
    if computation.is_error:
        raise _execution_error(computation.error, computation.output)
    return _hex(computation.output)


def _estimate_gas(node: Node, call: Mapping[str, Any], block: Any = "latest") -> str:
    state = node.find_state(node._number(block))
    gas, computation = estimate(state, **_message(call))
    if computation.is_error:
        raise _execution_error(computation.error, computation.output)
    return hex(gas)


def _message(call: Mapping[str, Any]) -> dict[str, Any]:
    data = call.get("input", call.get("data"))
    sender, to = call.get("from"), call.get("to")
    return {
        "to": None if to is None else _bytes(to, 20),
        "data": b"" if data is None else _bytes(data),
        "sender": NOBODY if sender is None else _bytes(sender, 20),
        "value": _quantity(call.get("value", 0)),
    }


def _execution_error(error: VMError, output: bytes) -> RpcError:
    reason = failure_reason(error, output)
    if type(error).__name__ != "Revert":
        return RpcError(_SERVER_ERROR, reason)
    plain = not output or reason.startswith("0x")
    return RpcError(_REVERTED, "execution reverted" + ("" if plain else f": {reason}"), _hex(output))


def _transaction_count_of(block: Block | None) -> str | None:
    return None if block is None else hex(len(block.receipts))


def _block_answer(node: Node, block: Block | None, full: bool) -> dict[str, Any] | None:
    timestamp = None if block is None else node.header_time(block)
    return None if block is None or timestamp is None else _block_json(block, full, timestamp)


def _transaction_of(block: Block | None, index: Any) -> dict[str, Any] | None:
    if block is None or not 0 <= _quantity(index) < len(block.receipts):
        return None
    return _transaction_json(block, _quantity(index))


def _transaction_by_hash(node: Node, transaction_hash: Any) -> dict[str, Any] | None:
    found = node._find_transaction(transaction_hash)
    return None if found is None else _transaction_json(*found)


def _transaction_receipt(node: Node, transaction_hash: Any) -> dict[str, Any] | None:
    found = node._find_transaction(transaction_hash)
    return _receipts_json(node, *found)[0] if found is not None and node.has_receipts(found[0]) else None


def _block_receipts(node: Node, name: Any) -> list[dict[str, Any]] | None:
    try:
        block = node._block_or_none(name)
    except RpcError:  # no block has that hash
        return None
    return _receipts_json(node, block) if block is not None and node.has_receipts(block) else None


def _state(node: Node, block: Any) -> StateAPI:
    return node.find_state(node._number(block))


_METHODS: dict[str, Callable[..., Any]] = {
    "web3_clientVersion": lambda _: CLIENT_VERSION,
    "net_version": lambda node: str(node.chain_id),
    "net_listening": lambda _: True,
    "eth_chainId": lambda node: hex(node.chain_id),
    "eth_syncing": lambda _: False,
    "eth_accounts": lambda _: [],
    "eth_gasPrice": lambda _: hex(GAS_PRICE),
    "eth_maxPriorityFeePerGas": lambda _: hex(BASE_FEE),
    "eth_blockNumber": lambda node: hex(node.head),
    "eth_getBlockByNumber": lambda node, name, full=False: _block_answer(node, node._block_or_none(name), full),
    "eth_getBlockByHash": lambda node, name, full=False: _block_answer(node, node._block_of_hash(name), full),
    "eth_getBlockTransactionCountByNumber": lambda node, name: _transaction_count_of(node._block_or_none(name)),
    "eth_getBlockTransactionCountByHash": lambda node, name: _transaction_count_of(node._block_of_hash(name)),
    "eth_getTransactionByHash": _transaction_by_hash,
    "eth_getTransactionByBlockNumberAndIndex": lambda node, name, index: _transaction_of(
        node._block_or_none(name), index
    ),
    "eth_getTransactionByBlockHashAndIndex": lambda node, name, index: _transaction_of(
        node._block_of_hash(name), index
    ),
    "eth_getTransactionReceipt": _transaction_receipt,
    "eth_getBlockReceipts": _block_receipts,
    "eth_getLogs": _get_logs,
    "eth_call": _call,
    "eth_estimateGas": _estimate_gas,
    "eth_getBalance": lambda node, address, block="latest": hex(_state(node, block).get_balance(_address(address))),
    "eth_getCode": lambda node, address, block="latest": _hex(_state(node, block).get_code(_address(address))),
    "eth_getStorageAt": lambda node, address, slot, block="latest": (
        f"0x{_state(node, block).get_storage(_address(address), _quantity(slot)):064x}"
    ),
    "eth_getTransactionCount": lambda node, address, block="latest": hex(
        _state(node, block).get_nonce(_address(address))
    ),
}
