"""A syncer's view: logs as web3 gives them, decoded calls, nothing beyond the node's head, reads remembered."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from eth_abi import encode
from eth_utils.crypto import keccak

from harness.chain import Call, Node, View
from harness.chain.artifacts import parse_signature
from harness.errors import CallReverted
from harness.syncers.protocol import ChainView
from tests.chain_bytecode import ADDED, COUNTER, assemble, deployment, emission, word
from tests.chain_history import ALICE, BOB, History, next_time

NOW = datetime(2030, 1, 1)


@pytest.fixture(scope="module")
def history() -> History:
    made = History()
    for number in (5, 6):
        made.chain.mine(
            [
                Call(ALICE, made.counter, word(number)),
                Call(BOB, made.emitter, emission((word(1), word(2)), number)),
            ],
            timestamp=next_time(made.chain),
        )
    made.chain.mine_empty(timestamp=next_time(made.chain))
    return made


def view_of(history: History, **options: Any) -> View:
    return View(Node(history.chain), **({"end_block": 3, "now": NOW, "chunk": None, "memory": None} | options))


def test_view_is_what_a_syncer_is_promised(history: History) -> None:
    view: ChainView = view_of(history, chunk=7)
    assert (3, 4, NOW, 7) == (view.end_block, view.head, view.now, view.chunk)
    assert history.chain.header(2) == view.header(2)
    assert COUNTER == view.code(history.counter)
    assert b"" == view.code(history.counter, 0)
    assert 4 == view.web3.eth.block_number


@pytest.mark.parametrize(
    ("addresses", "topics", "start", "end"),
    [
        (None, None, 0, 99),
        (None, None, 3, 3),
        (None, None, 5, 9),
        ("counter", None, 0, 4),
        (["counter", "emitter"], [[ADDED, word(1)]], 0, 4),
        (None, [None, word(2)], 2, 4),
        (None, ["0x" + ADDED.hex()], 2, 4),
    ],
)
def test_logs_are_those_of_web3(history: History, addresses: Any, topics: Any, start: int, end: int) -> None:
    named = vars(history)
    if addresses is not None:
        addresses = named[addresses] if isinstance(addresses, str) else [named[name] for name in addresses]
    query: dict[str, Any] = {"fromBlock": start, "toBlock": end}
    query |= {} if addresses is None else {"address": addresses}
    query |= {} if topics is None else {"topics": topics}
    view = view_of(history)
    expected = view.web3.eth.get_logs(query)  # type: ignore[arg-type]
    got = view.get_logs(addresses, topics, start, end)
    assert expected == got
    assert [{key: type(value) for key, value in log.items()} for log in expected] == [
        {key: type(value) for key, value in log.items()} for log in got
    ]
    assert (start > 4) == (not got)


def test_logs_of_a_range_that_ends_before_it_starts_are_an_error(history: History) -> None:
    with pytest.raises(Exception, match="invalid block range params"):
        view_of(history).get_logs(None, None, 3, 2)


def test_view_shows_no_more_than_the_node_knows(history: History) -> None:
    view = View(Node(history.chain, head=2), end_block=2, now=NOW, chunk=None, memory=None)
    assert {2} == {log["blockNumber"] for log in view.get_logs(None, None, 0, 4)}
    reads: list[Any] = [
        lambda: view.header(3),
        lambda: view.code(history.counter, 3),
        lambda: view.call(history.counter, "count()(uint256)", block=3),
    ]
    for read in reads:
        with pytest.raises(Exception, match="header not found"):
            read()


def answering(history: History, answer: bytes) -> str:
    """The address of a contract, on this history's chain, that always answers the same."""
    chain = history.chain
    stores = " ".join(f"$w{at} {at * 32} MSTORE" for at in range(len(answer) // 32))
    words = {f"w{at}": answer[at * 32 : at * 32 + 32] for at in range(len(answer) // 32)}
    runtime = assemble(f"{stores} {len(answer)} 0 RETURN", **words)
    mined = chain.mine([Call(ALICE, None, deployment(runtime))], timestamp=next_time(chain))
    return str(mined.receipts[0].contract_address)


@pytest.mark.parametrize(
    ("outputs", "values"),
    [
        (["uint256"], (7,)),
        (["uint80", "int256", "uint256", "uint256", "uint80"], (1, -2, 3, 4, 5)),
        (["address"], (ALICE.address,)),
        (["address[]", "bool"], ((ALICE.address, BOB.address), True)),
        (["string"], ("Example Fund",)),
        (["(address,uint256)[]"], (((ALICE.address, 1), (BOB.address, 2)),)),
        (["((address,bytes32),int8[2])", "bytes"], (((BOB.address, word(9)), (-1, 1)), b"\x01\x02")),
    ],
)
def test_call_decodes_its_answer(outputs: list[str], values: tuple[Any, ...]) -> None:
    history = History()
    address = answering(history, encode(outputs, values))
    view = View(Node(history.chain), end_block=2, now=NOW)
    answer = view.call(address, f"anything()({','.join(outputs)})")
    assert (values[0] if len(values) == 1 else values) == answer


def test_call_sends_its_arguments(history: History) -> None:
    # The selector is the first word's beginning, so the counter adds a huge number; what counts is that it is sent.
    view = view_of(history)
    signature = "f(uint256,address[],(bytes32,bool))(uint256)"
    arguments = (5, [ALICE.address, BOB.address], (word(3), True))
    data = parse_signature(signature).encode(arguments)
    assert (int.from_bytes(data[:32], "big") + 11) % 2**256 == view.call(history.counter, signature, *arguments)
    with pytest.raises(TypeError, match="takes 3 arguments, not 1"):
        view.call(history.counter, signature, 5)


def test_call_reads_the_end_block_unless_told(history: History) -> None:
    view = view_of(history)
    assert (11, 5, 3) == (
        view.call(history.counter, "count()(uint256)") - _selector("count()"),
        view.call(history.counter, "count()(uint256)", block=2) - _selector("count()"),
        view.call(history.surroundings, "all()(uint256,uint256)")[0],
    )


def _selector(function: str) -> int:
    return int.from_bytes(keccak(function.encode())[:4].ljust(32, b"\x00"), "big")


def test_call_that_fails_says_what_and_where(history: History) -> None:
    view = view_of(history)
    with pytest.raises(CallReverted, match=r"f of 0x.* at block 3: no contract is there"):
        view.call(ALICE.address, "f()(uint256)")
    with pytest.raises(CallReverted, match=r"f of 0x.* at block 0: no contract is there"):
        view.call(history.counter, "f()(uint256)", block=0)
    with pytest.raises(CallReverted, match=r"answered no \(string\)"):
        view.call(history.surroundings, "f()(string)")
    with pytest.raises(CallReverted, match=r"f of 0x.* at block 3: invalid instruction"):
        view.call(history.emitter, "f()(string)")


@pytest.mark.parametrize("signature", ["f", "f()", "f(uint256)", "f()(uint257)", "f((uint256)(uint256)", "(a)(b)", ""])
def test_wrong_signature_is_refused(history: History, signature: str) -> None:
    with pytest.raises(ValueError, match="is no signature like"):
        view_of(history).call(history.counter, signature)


def test_reads_are_remembered_by_block_hash(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    memory: dict[Any, Any] = {}
    first = view_of(history, memory=memory).call(history.counter, "count()(uint256)")
    chain = history.chain.clone()
    monkeypatch.setattr(type(chain), "state", lambda *_: pytest.fail("read again"))
    second = View(Node(chain), end_block=3, now=NOW, chunk=None, memory=memory)
    assert first == second.call(history.counter, "count()(uint256)")
    assert 1 == second.reads
    # The same block number on another branch is another block.
    monkeypatch.undo()
    other = History()
    for number in (1, 2):
        other.chain.mine([Call(ALICE, other.counter, word(number))], timestamp=next_time(other.chain))
    assert other.counter == history.counter
    third = View(Node(other.chain), end_block=3, now=NOW, chunk=None, memory=memory)
    assert first - 11 + 3 == third.call(history.counter, "count()(uint256)")


def test_reads_are_counted(history: History) -> None:
    view = view_of(history)
    view.get_logs(None, None, 0, 3)
    view.header(1)
    view.code(history.counter)
    for _ in range(2):
        view.call(history.surroundings, "all()(uint256)")
    assert 5 == view.reads


def test_view_hides_chain_and_node(history: History) -> None:
    view = view_of(history)
    public = {name for name in dir(view) if not name.startswith("_")}
    assert {
        "call",
        "chunk",
        "code",
        "end_block",
        "get_logs",
        "head",
        "header",
        "now",
        "reads",
        "web3",
    } == public
