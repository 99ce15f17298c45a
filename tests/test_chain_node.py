"""The node: answers of a real one, through web3 as a syncer would use it, and bare JSON-RPC."""

from __future__ import annotations

from typing import Any

import pytest
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import BlockNotFound, ContractLogicError, MethodUnavailable, TransactionNotFound, Web3RPCError

from harness.chain import Call, Chain, Node
from tests.chain_bytecode import ADDED, COUNTER, deployment, emission, word
from tests.chain_history import ALICE, BOB, GENESIS, History, next_time

ABI: list[dict[str, Any]] = [
    {
        "type": "event",
        "name": "Counted",
        "anonymous": True,
        "inputs": [{"name": "count", "type": "uint256", "indexed": False}],
    }
]


@pytest.fixture(scope="module")
def history() -> History:
    """Blocks 2 and 4 have transactions, 3 and 5 none."""
    made = History()
    made.chain.mine(
        [
            Call(ALICE, made.counter, word(5)),
            Call(BOB, made.counter, word(0)),
            Call(BOB, made.emitter, emission((word(1), word(2)), 7)),
        ],
        timestamp=next_time(made.chain),
    )
    made.chain.mine_empty(timestamp=next_time(made.chain))
    made.chain.mine([Call(BOB, made.counter, word(6))], timestamp=next_time(made.chain))
    made.chain.mine_empty(timestamp=next_time(made.chain))
    return made


@pytest.fixture(scope="module")
def node(history: History) -> Node:
    return Node(history.chain)


@pytest.fixture(scope="module")
def w3(node: Node) -> Web3:
    return node.web3()


def result(node: Node, method: str, *params: Any) -> Any:
    answer = node.request(method, list(params))
    assert "error" not in answer, answer
    return answer["result"]


def error(node: Node, method: str, *params: Any) -> tuple[int, str]:
    answer = node.request(method, list(params))
    assert "result" not in answer, answer
    return answer["error"]["code"], answer["error"]["message"]


def log_places(logs: Any) -> list[tuple[int, int]]:
    return [(int(log["blockNumber"], 16), int(log["logIndex"], 16)) for log in logs]


def test_web3_reads_blocks(history: History, w3: Web3) -> None:
    assert w3.is_connected()
    assert (1337, 5, [], False) == (w3.eth.chain_id, w3.eth.block_number, w3.eth.accounts, w3.eth.syncing)
    header = history.chain.header(2)
    block: Any = w3.eth.get_block(2)
    assert (header.hash, header.parent_hash, header.timestamp) == (block.hash, block.parentHash, block.timestamp)
    assert (header.logs_bloom, header.receipts_root) == (block.logsBloom, block.receiptsRoot)
    assert [receipt.transaction_hash for receipt in history.chain.receipts(2)] == [
        one.to_0x_hex() for one in block.transactions
    ]
    assert block == w3.eth.get_block(header.hash)
    full: Any = w3.eth.get_block(2, full_transactions=True)
    assert [ALICE.address, BOB.address, BOB.address] == [one["from"] for one in full.transactions]
    assert w3.eth.get_transaction(block.transactions[1]) == full.transactions[1]
    assert w3.eth.get_transaction_by_block(2, 1) == full.transactions[1]
    assert (3, 0) == (w3.eth.get_block_transaction_count(2), w3.eth.get_block_transaction_count(3))
    assert 0 == w3.eth.get_block("earliest").number  # type: ignore[typeddict-item]
    for tag in ("latest", "safe", "finalized", "pending"):
        assert 5 == w3.eth.get_block(tag).number  # type: ignore[arg-type, typeddict-item]
    with pytest.raises(BlockNotFound):
        w3.eth.get_block(6)
    with pytest.raises(BlockNotFound):
        w3.eth.get_block(bytes(32))  # type: ignore[arg-type]


def test_block_size_is_that_of_its_encoding(history: History, node: Node) -> None:
    import rlp

    block = history.chain.index.block(2)
    fields = [rlp.sedes.raw, rlp.sedes.CountableList(rlp.sedes.raw)]
    header = rlp.decode(rlp.encode(block.header), fields[1])
    transactions = [rlp.decode(transaction.encode()) for transaction in block.transactions]
    assert len(rlp.encode([header, transactions, [], []])) == int(
        result(node, "eth_getBlockByNumber", "0x2", False)["size"], 16
    )


def test_web3_reads_receipts(history: History, w3: Web3) -> None:
    receipts = history.chain.receipts(2)
    for receipt in receipts:
        got: Any = w3.eth.get_transaction_receipt(HexBytes(receipt.transaction_hash))
        assert receipt.succeeded == bool(got.status)
        assert (receipt.gas_used, receipt.transaction_index) == (got.gasUsed, got.transactionIndex)
        assert [log.log_index for log in receipt.logs] == [log.logIndex for log in got.logs]
    assert sum(receipt.gas_used for receipt in receipts) == got.cumulativeGasUsed
    assert got.cumulativeGasUsed == w3.eth.get_block(2)["gasUsed"]
    all_receipts: Any = w3.eth.get_block_receipts(2)
    assert got == all_receipts[-1]
    union = 0
    for one in all_receipts:
        union |= int.from_bytes(one.logsBloom, "big")
    assert history.chain.header(2).logs_bloom == union.to_bytes(256, "big")
    created: Any = w3.eth.get_block_receipts(1)
    assert history.counter == created[0].contractAddress
    with pytest.raises(TransactionNotFound):
        w3.eth.get_transaction_receipt(bytes(32))  # type: ignore[arg-type]


def test_web3_reads_state_of_any_block(history: History, w3: Web3) -> None:
    assert [word(5), word(11)] == [
        bytes(w3.eth.call({"to": history.counter}, block))
        for block in (history.chain.header(3).hash, 4)  # type: ignore[typeddict-item]
    ]
    assert bytes(w3.eth.get_storage_at(history.counter, 0, 3)) == word(5)  # type: ignore[arg-type]
    assert (b"", COUNTER) == tuple(bytes(w3.eth.get_code(history.counter, block)) for block in (0, 5))  # type: ignore[arg-type]
    assert (4, 5) == tuple(w3.eth.get_transaction_count(ALICE.address, block) for block in (1, 2))  # type: ignore[arg-type]
    assert w3.eth.get_balance(ALICE.address, 1) > w3.eth.get_balance(ALICE.address)  # type: ignore[arg-type]
    with pytest.raises(Web3RPCError, match="header not found"):
        w3.eth.call({"to": history.counter}, 6)  # type: ignore[typeddict-item]


def test_call_reads_the_block_named_by_hash_or_object(history: History, node: Node) -> None:
    call = {"to": history.counter}
    block_hash = history.chain.header(3).hash.to_0x_hex()
    assert "0x" + word(5).hex() == result(node, "eth_call", call, {"blockHash": block_hash})
    assert "0x" + word(11).hex() == result(node, "eth_call", call, {"blockNumber": "0x4"})
    assert (-32000, "header for hash not found") == error(node, "eth_call", call, {"blockHash": "0x" + "ab" * 32})


def test_call_that_reverts_says_why(history: History, node: Node, w3: Web3) -> None:
    with pytest.raises(ContractLogicError, match="execution reverted: zero"):
        w3.eth.call({"to": history.counter, "data": word(0)})  # type: ignore[typeddict-item]
    answer = node.request("eth_call", [{"to": history.counter, "data": "0x" + "00" * 32}, "latest"])["error"]
    assert (3, "execution reverted: zero") == (answer["code"], answer["message"])
    assert answer["data"].startswith("0x08c379a0")
    assert (-32000, "invalid instruction") == error(
        node, "eth_call", {"to": history.emitter, "data": "0x" + word(5).hex(), "gas": "0xffff"}
    )


def test_call_leaves_no_trace(history: History, node: Node) -> None:
    call = {"to": history.counter, "data": "0x" + word(3).hex(), "from": BOB.address}
    assert ["0x" + word(14).hex()] * 2 == [result(node, "eth_call", call, "latest") for _ in range(2)]
    value = call | {"value": "0x1"}
    assert "0x" + word(14).hex() == result(node, "eth_call", value, "latest")
    assert "0x0" == result(node, "eth_getBalance", history.counter, "latest")
    poor = {"to": history.counter, "value": "0x1", "from": "0x" + "00" * 19 + "01"}
    assert "Insufficient funds" in error(node, "eth_call", poor)[1]


def test_estimated_gas_is_enough_and_no_more(history: History, node: Node) -> None:
    chain = history.chain.clone()
    for to, data, least in (
        (history.counter, word(1), True),
        (None, deployment(COUNTER), True),
        (ALICE.address, b"\xff" * 400, False),  # EIP-7623's floor, which py-evm charges but does not demand
    ):
        call = {"from": ALICE.address, "data": "0x" + data.hex()} | ({} if to is None else {"to": to})
        gas = int(result(node, "eth_estimateGas", call), 16)
        mined = chain.mine(
            [Call(ALICE, to, data, gas=gas), Call(ALICE, to, data, gas=gas - 1)], timestamp=next_time(chain)
        )
        assert mined.receipts[0].succeeded
        assert least != mined.receipts[1].succeeded
        assert gas == mined.receipts[0].gas_used or least
    reverting = {"to": history.counter, "data": "0x" + "00" * 32}
    assert (3, "execution reverted: zero") == error(node, "eth_estimateGas", reverting)


def test_web3_contract_reads_logs(history: History, w3: Web3) -> None:
    logs: Any = w3.eth.get_logs({"fromBlock": 0, "toBlock": "latest", "address": history.counter})  # type: ignore[typeddict-item]
    assert [(2, 0), (4, 0)] == [(log.blockNumber, log.logIndex) for log in logs]
    assert [history.counter] * 2 == [log.address for log in logs]
    assert [5, 11] == [int.from_bytes(log.data, "big") for log in logs]
    assert not any(log.removed for log in logs)
    contract: Any = w3.eth.contract(history.counter, abi=ABI)  # type: ignore[call-overload]
    assert history.counter == contract.address


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"fromBlock": "0x0"}, [(2, 0), (2, 1), (4, 0)]),
        ({"fromBlock": "earliest", "toBlock": "latest"}, [(2, 0), (2, 1), (4, 0)]),
        ({"fromBlock": "0x2", "toBlock": "0x2"}, [(2, 0), (2, 1)]),
        ({"fromBlock": "0x3", "toBlock": "0x4"}, [(4, 0)]),
        ({"fromBlock": "0x3", "toBlock": "0x3"}, []),
        ({}, []),
        ({"fromBlock": "0x4", "toBlock": "0xffff"}, [(4, 0)]),
        ({"fromBlock": "0x6", "toBlock": "0x7"}, []),
        ({"fromBlock": "0x0", "topics": [None, None]}, [(2, 0), (2, 1), (4, 0)]),
        ({"fromBlock": "0x0", "topics": [None, None, None]}, []),
        ({"fromBlock": "0x0", "topics": [["0x" + ADDED.hex(), "0x" + word(1).hex()]]}, [(2, 0), (2, 1), (4, 0)]),
        ({"fromBlock": "0x0", "topics": [["0x" + ADDED.hex()], None]}, [(2, 0), (4, 0)]),
        ({"fromBlock": "0x0", "topics": [None, "0x" + word(2).hex()]}, [(2, 1)]),
        ({"fromBlock": "0x0", "topics": [[], ["0x" + word(2).hex(), None]]}, [(2, 0), (2, 1), (4, 0)]),
        ({"fromBlock": "0x0", "address": []}, [(2, 0), (2, 1), (4, 0)]),
    ],
)
def test_get_logs_answers_as_geth_does(node: Node, query: dict[str, Any], expected: list[tuple[int, int]]) -> None:
    assert expected == log_places(result(node, "eth_getLogs", query))


def test_get_logs_by_block_hash(history: History, node: Node) -> None:
    block_hash = history.chain.header(2).hash.to_0x_hex()
    assert [(2, 0), (2, 1)] == log_places(result(node, "eth_getLogs", {"blockHash": block_hash}))
    assert [(2, 1)] == log_places(
        result(node, "eth_getLogs", {"blockHash": block_hash, "address": history.emitter.lower()})
    )
    assert "cannot specify both" in error(node, "eth_getLogs", {"blockHash": block_hash, "fromBlock": "0x2"})[1]
    assert (-32000, "unknown block") == error(node, "eth_getLogs", {"blockHash": "0x" + "12" * 32})


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"fromBlock": "0x4", "toBlock": "0x3"}, "invalid block range params"),
        ({"fromBlock": "0x9", "toBlock": "0x8"}, "invalid block range params"),
        ({"topics": [None] * 5}, "exceed max topics"),
        ({"topics": ["0x12"]}, "invalid argument"),
        ({"address": "0x12"}, "invalid argument"),
        ({"fromBlock": "twelve"}, "invalid argument"),
    ],
)
def test_get_logs_refuses_what_geth_refuses(node: Node, query: dict[str, Any], message: str) -> None:
    assert message in error(node, "eth_getLogs", query)[1]


def test_node_behind_the_chain_knows_nothing_newer(history: History) -> None:
    chain = history.chain
    node = Node(chain, head=3)
    w3 = node.web3()
    assert (3, 3) == (node.head, w3.eth.block_number)
    assert 3 == w3.eth.get_block("latest")["number"]
    assert [(2, 0), (2, 1)] == log_places(result(node, "eth_getLogs", {"fromBlock": "0x0", "toBlock": "0x4"}))
    assert result(node, "eth_getBlockByNumber", "0x4", False) is None
    assert result(node, "eth_getBlockByHash", chain.header(4).hash.to_0x_hex(), False) is None
    newer = chain.receipts(4)[0].transaction_hash
    assert result(node, "eth_getTransactionByHash", newer) is None
    assert result(node, "eth_getTransactionReceipt", newer) is None
    assert result(node, "eth_getBlockReceipts", "0x4") is None
    assert "0x" + word(5).hex() == result(node, "eth_call", {"to": history.counter}, "latest")
    assert (-32000, "header not found") == error(node, "eth_call", {"to": history.counter}, "0x4")
    assert (-32000, "header not found") == error(node, "eth_getBalance", ALICE.address, "0x4")


def test_node_follows_the_chain_through_a_reorganisation(history: History) -> None:
    chain = history.chain.clone()
    node, snapshot = Node(chain), chain.snapshot()
    mined = chain.mine([Call(ALICE, history.counter, word(1))], timestamp=next_time(chain))
    assert 6 == node.head
    chain.revert(snapshot)
    assert 5 == node.head
    assert result(node, "eth_getBlockByHash", mined.hash, False) is None
    assert result(node, "eth_getTransactionReceipt", mined.receipts[0].transaction_hash) is None


def test_node_says_the_chain_id_that_it_is_told(history: History) -> None:
    node = Node(history.chain, chain_id=2)
    assert (2, "2") == (node.web3().eth.chain_id, result(node, "net_version"))


@pytest.mark.parametrize(
    "method",
    [
        "eth_sendTransaction",
        "eth_sendRawTransaction",
        "evm_mine",
        "evm_snapshot",
        "anvil_setBalance",
        "debug_traceTransaction",
        "harness_scenario",
        "eth_mining",
    ],
)
def test_other_methods_are_not_there(node: Node, method: str) -> None:
    assert (-32601, f"the method {method} does not exist/is not available") == error(node, method, {})


def test_web3_cannot_write(history: History, w3: Web3) -> None:
    with pytest.raises(MethodUnavailable):
        w3.eth.send_raw_transaction(b"\x01")
    with pytest.raises((MethodUnavailable, Web3RPCError)):
        w3.eth.send_transaction({"from": ALICE.address, "to": BOB.address, "value": 1})  # type: ignore[typeddict-item]
    assert 5 == history.chain.head


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("eth_getBlockByNumber", []),
        ("eth_getBlockByNumber", ["0x1", False, 3]),
        ("eth_getBlockByHash", ["0x12", False]),
        ("eth_getBalance", ["0x12", "latest"]),
        ("eth_call", [{"to": "0x" + "00" * 20, "data": "0xzz"}, "latest"]),
        ("eth_call", [{"to": "0x" + "00" * 20}, {"requireCanonical": True}]),
        ("eth_getTransactionByHash", [7]),
    ],
)
def test_bad_parameters_are_answered_not_raised(node: Node, method: str, params: list[Any]) -> None:
    assert -32602 == error(node, method, *params)[0]


def test_node_gives_away_no_scenario() -> None:
    chain = Chain(chain_id=1, genesis_timestamp=GENESIS, accounts=[ALICE])
    w3 = Node(chain).web3()
    public = {name for name in vars(w3.provider) if not name.startswith("_")}
    assert not any(isinstance(getattr(w3.provider, name), Chain | Node) for name in public)
