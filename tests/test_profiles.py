"""Nodes that misbehave: each profile through a view and over JSON-RPC, and what a syncer can do about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hexbytes import HexBytes
from web3.exceptions import BlockNotFound, Web3RPCError

from harness.chain import Call, Node, Switch, View
from harness.chain.profiles import PARAMETERS, PATIENCE, PROFILES, FaultyNode, make_profile, profiled
from harness.errors import NodeError
from harness.scenario.language import NODE_PROFILES
from tests.chain_bytecode import emission, word
from tests.chain_history import ALICE, BOB, History, next_time

HEAD = 30
FIRST = 2
"""The first block with logs; every one after it has two."""


@pytest.fixture(scope="module")
def history() -> History:
    made = History()
    while made.chain.head < HEAD:
        number = made.chain.head + 1
        calls = [
            Call(ALICE, made.emitter, emission((word(1),), number)),
            Call(BOB, made.emitter, emission((word(2),), 0)),
        ]
        made.chain.mine(calls, timestamp=next_time(made.chain))
    return made


def faulty(history: History, name: str, **parameters: int) -> FaultyNode:
    return profiled(Node(history.chain), make_profile(name, **parameters))


def view_of(node: Node, memory: dict[Any, Any] | None = None) -> View:
    return View(node, end_block=HEAD, now=datetime(2030, 1, 1), memory=memory)


Logs = Callable[[int, int], list[Any]]


def through_a_view(node: Node) -> Logs:
    view = view_of(node)
    return lambda start, end: view.get_logs(None, None, start, end)


def over_json_rpc(node: Node) -> Logs:
    web3 = node.web3()
    return lambda start, end: list(web3.eth.get_logs({"fromBlock": start, "toBlock": end}))


DOORS = pytest.mark.parametrize("door", [through_a_view, over_json_rpc])


def places(logs: list[Any]) -> list[tuple[int, int]]:
    return [(log["blockNumber"], log["logIndex"]) for log in logs]


def all_places(start: int, end: int) -> list[tuple[int, int]]:
    return [(block, index) for block in range(start, end + 1) for index in (0, 1)]


def fails(code: int, what: Callable[[], object]) -> None:
    """The request ends in an error with that code, as a view raises it, or as web3 does."""
    with pytest.raises((NodeError, Web3RPCError)) as caught:
        what()
    error: Any = caught.value
    assert code == (error.code if isinstance(error, NodeError) else error.rpc_response["error"]["code"])


def test_language_and_profiles_say_the_same() -> None:
    assert list(PROFILES) == list(NODE_PROFILES)
    for name, profile in PROFILES.items():
        said = NODE_PROFILES[name]
        assert (dict(said.takes), said.recovers) == (
            {one: getattr(profile, one) for one in profile.parameters},
            profile.recovers,
        ), name


def test_a_profile_without_a_fault_to_show_changes_nothing(history: History) -> None:
    plain = Node(history.chain)
    for name in ("range-cap", "silent-cap", "too-large", "repeated", "shuffled", "removed", "hex-numbers", "zero-time"):
        node = faulty(history, name)
        assert through_a_view(plain)(0, 0) == through_a_view(node)(0, 0), name
        assert plain.request("eth_getCode", [history.emitter]) == node.request("eth_getCode", [history.emitter])
        assert (plain.head, plain.chain_id, plain.chain) == (node.head, node.chain_id, node.chain)


@DOORS
def test_range_cap(history: History, door: Callable[[Node], Logs]) -> None:
    logs = door(faulty(history, "range-cap", blocks=4))
    assert all_places(3, 6) == places(logs(3, 6))
    fails(-32005, lambda: logs(3, 7))
    assert all_places(7, 10) == places(logs(7, 10))


@DOORS
def test_silent_cap(history: History, door: Callable[[Node], Logs]) -> None:
    node = faulty(history, "silent-cap", logs=5)
    logs = door(node)
    assert all_places(3, 5)[:5] == places(logs(3, 9))
    assert all_places(5, 6) == places(logs(5, 6))
    receipts: Any = node.web3().eth.get_block_receipts(5)
    assert [0, 1] == [log["logIndex"] for receipt in receipts for log in receipt["logs"]]


@DOORS
def test_too_large(history: History, door: Callable[[Node], Logs]) -> None:
    logs = door(faulty(history, "too-large", logs=1))
    fails(413, lambda: logs(3, 4))
    assert all_places(3, 3) == places(logs(3, 3))
    assert [] == logs(0, 0)


@DOORS
def test_rate_limit(history: History, door: Callable[[Node], Logs]) -> None:
    logs = door(faulty(history, "rate-limit"))
    ended = []
    for _ in range(16):
        try:
            ended.append(len(logs(3, 3)) == 2)
        except (NodeError, Web3RPCError):
            ended.append(False)
    assert [False] * 2 + [True] * 6 + [False] + [True] * 6 + [False] == ended
    # It counts whatever is asked, at both doors together.
    node = faulty(history, "rate-limit")
    view = view_of(node)
    fails(429, lambda: view.code(history.emitter))
    fails(429, lambda: view.web3.eth.block_number)
    assert HEAD == view.header(HEAD).number


@DOORS
def test_time_out(history: History, door: Callable[[Node], Logs]) -> None:
    logs = door(faulty(history, "time-out", times=2))
    fails(-32002, lambda: logs(3, 3))
    fails(-32002, lambda: logs(3, 3))
    assert all_places(3, 3) == places(logs(3, 3))


@DOORS
def test_lagging(history: History, door: Callable[[Node], Logs]) -> None:
    node = faulty(history, "lagging", blocks=3)
    logs = door(node)
    assert all_places(25, 27) == places(logs(25, 30))
    assert [] == logs(28, 30)
    header = view_of(node).header(30)
    assert header == view_of(Node(history.chain)).header(30)
    assert any(header.logs_bloom), "the header shows that something is missing"
    assert node.request("eth_getBlockReceipts", ["0x1e"])["result"] is None
    transaction = history.chain.receipts(30)[0].transaction_hash
    assert node.request("eth_getTransactionReceipt", [transaction])["result"] is None
    assert node.request("eth_getTransactionByHash", [transaction])["result"] is not None
    assert 2 == len(node.request("eth_getBlockReceipts", ["0x1b"])["result"])


@DOORS
def test_hole(history: History, door: Callable[[Node], Logs]) -> None:
    node = faulty(history, "hole", block=5)
    logs = door(node)
    for _ in range(3):
        assert all_places(4, 4) + all_places(6, 6) == places(logs(4, 6))
        assert [] == logs(5, 5)
    query = {"blockHash": history.chain.header(5).hash.to_0x_hex()}
    assert [] == node.request("eth_getLogs", [query])["result"]
    receipts: Any = node.web3().eth.get_block_receipts(5)
    assert all_places(5, 5) == places([log for receipt in receipts for log in receipt["logs"]])
    mends = door(faulty(history, "hole", block=5, times=2))
    assert [all_places(6, 7)] * 2 == [places(mends(6, 7)) for _ in range(2)], "answers without it do not count"
    assert [0, 0, 2] == [len(mends(5, 5)) for _ in range(3)]


@DOORS
def test_repeated(history: History, door: Callable[[Node], Logs]) -> None:
    logs = door(faulty(history, "repeated"))(3, 4)
    assert [place for place in all_places(3, 4) for _ in range(2)] == places(logs)
    assert logs[0] == logs[1]


@DOORS
def test_shuffled(history: History, door: Callable[[Node], Logs]) -> None:
    node = faulty(history, "shuffled")
    logs = places(door(node)(2, 9))
    assert logs == places(door(node)(2, 9))
    assert sorted(logs) == all_places(2, 9)
    assert logs not in (all_places(2, 9), all_places(2, 9)[::-1])
    for block in range(2, 9):
        assert all_places(block, block)[::-1] == places(door(node)(block, block)), "however few there are"


@DOORS
def test_removed(history: History, door: Callable[[Node], Logs]) -> None:
    logs = door(faulty(history, "removed"))(3, 4)
    assert [True, False] * 4 == [log["removed"] for log in logs]
    assert [place for place in all_places(3, 4) for _ in range(2)] == places(logs)
    for gone, there in zip(logs[::2], logs[1::2], strict=True):
        assert history.chain.header(there["blockNumber"]).hash == there["blockHash"] != gone["blockHash"]
        assert there["data"] == gone["data"]


@DOORS
def test_twin(history: History, door: Callable[[Node], Logs]) -> None:
    node = faulty(history, "twin", blocks=3)
    logs = door(node)
    assert [all_places(25, 30), all_places(25, 27)] * 2 == [places(logs(25, 30)) for _ in range(4)]
    view = view_of(node)
    assert HEAD == view.head
    reads: list[Callable[[], object]] = [
        lambda: view.header(30),
        lambda: view.code(history.emitter),
        lambda: view.call(history.counter, "count()(uint256)", block=29),
    ]
    for read in reads:
        read()
        fails(-32000, read)
        read()
        view.header(27)
    assert [30, 27] == [view.web3.eth.block_number for _ in range(2)]


@DOORS
def test_head_back(history: History, door: Callable[[Node], Logs]) -> None:
    logs = door(faulty(history, "head-back"))
    seen = [places(logs(28, 30)) for _ in range(7)]
    assert [all_places(28, 30)] * 2 + [[]] * 3 + [all_places(28, 30)] * 2 == seen
    node = faulty(history, "head-back")
    view = view_of(node)
    assert [30, 30, 27, 27, 27, 30] == [view.web3.eth.block_number for _ in range(6)]
    assert HEAD == view.head


def test_null_header(history: History) -> None:
    node = faulty(history, "null-header")
    memory: dict[Any, Any] = {}
    view = view_of(node, memory)
    fails(-32000, lambda: view.header(30))
    assert Node(history.chain).web3().eth.get_block(30) == view.web3.eth.get_block(30), "of the same block"
    with pytest.raises(BlockNotFound):
        view.web3.eth.get_block(29)
    assert 29 == view.header(29).number
    assert node.request("eth_getBlockByHash", [history.chain.header(28).hash.to_0x_hex()])["result"] is None
    assert all_places(20, 22) == places(view.get_logs(None, None, 20, 22)), "logs need no header read"
    assert 2 == len(node.request("eth_getBlockReceipts", ["0x1b"])["result"]), "nor do receipts"
    fails(-32000, lambda: view_of(faulty(history, "null-header"), memory).header(30))


def test_zero_time(history: History) -> None:
    node = faulty(history, "zero-time")
    view = view_of(node)
    truth = view_of(Node(history.chain)).header(30)
    assert [0, truth.timestamp] == [view.header(30).timestamp for _ in range(2)]
    assert [truth.hash] * 2 == [view.header(30).hash for _ in range(2)]
    assert [0, truth.timestamp - 12] == [view.web3.eth.get_block(29)["timestamp"] for _ in range(2)]
    logs = view.get_logs(None, None, 3, 4)
    assert ["0x0"] * 4 == [log["blockTimestamp"] for log in logs]
    assert logs == view.web3.eth.get_logs({"fromBlock": 3, "toBlock": 4})
    receipts = node.request("eth_getBlockReceipts", ["0x3"])["result"]
    assert {"0x0"} == {log["blockTimestamp"] for receipt in receipts for log in receipt["logs"]}
    assert "blockTimestamp" not in view_of(Node(history.chain)).get_logs(None, None, 3, 4)[0]


def test_hex_numbers(history: History) -> None:
    node = faulty(history, "hex-numbers")
    plain = view_of(Node(history.chain)).get_logs(None, None, 3, 12)
    logs = view_of(node).get_logs(None, None, 3, 12)
    for log, true in zip(logs, plain, strict=True):
        for name in ("blockNumber", "logIndex", "transactionIndex"):
            assert hex(true[name]) == log[name]
        for name in ("transactionHash", "blockHash"):
            assert true[name].hex() == log[name]
            assert "0x" != log[name][:2]
        assert (true["topics"], true["data"], true["address"]) == (log["topics"], log["data"], log["address"])
    raw = node.request("eth_getLogs", [{"fromBlock": "0x3", "toBlock": "0xc"}])["result"]
    assert [log["blockHash"] for log in logs] == [log["blockHash"] for log in raw]
    assert plain == node.web3().eth.get_logs({"fromBlock": 3, "toBlock": 12}), "web3 makes them alike"
    receipt = node.request("eth_getBlockReceipts", ["0x3"])["result"][0]["logs"][0]
    assert HexBytes(receipt["transactionHash"]) == plain[0]["transactionHash"]
    assert not receipt["transactionHash"].startswith("0x")


def test_each_profile_begins_anew(history: History) -> None:
    profile = make_profile("time-out")
    for _ in range(2):
        fails(-32002, lambda: through_a_view(profiled(Node(history.chain), profile))(3, 3))


@pytest.mark.parametrize("name", PROFILES)
def test_faults_are_there_and_the_same_each_time(history: History, name: str) -> None:
    parameters = {"hole": {"block": 5}, "silent-cap": {"logs": 3}}.get(name, {})
    requests: list[tuple[str, list[Any]]] = [
        *(("eth_getLogs", [{"fromBlock": hex(block), "toBlock": "0x1e"}]) for block in range(20)),
        *(("eth_getBlockByNumber", [hex(block // 2), False]) for block in range(20, 62)),
    ]

    def answers(node: Node) -> list[object]:
        return [node.request(*request) for request in requests]

    assert answers(faulty(history, name, **parameters)) == answers(faulty(history, name, **parameters))
    assert answers(faulty(history, name, **parameters)) != answers(Node(history.chain))


def test_what_a_good_syncer_gets_through() -> None:
    assert {"lagging"} == {name for name, profile in PROFILES.items() if not profile.recovers}
    assert make_profile("time-out", times=PATIENCE).recovers
    assert not make_profile("time-out", times=PATIENCE + 1).recovers
    assert "the first 3 requests of an operation time out" == make_profile("time-out", times=3).about
    assert "the logs of block 9 are missing from the first answer" == make_profile("hole", block=9, times=1).about


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("range-kap", {}, "no profile is called 'range-kap'; there are range-cap, silent-cap"),
        ("range-cap", {"logs": 3}, "range-cap takes no logs (parameters: blocks)"),
        ("shuffled", {"times": 3}, "shuffled takes no times (parameters: none)"),
        ("range-cap", {"blocks": 0}, "blocks is 0, and must be at least 1"),
        ("hole", {"block": -1}, "block is -1, and must be at least 0"),
    ],
)
def test_wrong_parameters_are_told(name: str, parameters: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        make_profile(name, **parameters)
    assert words in str(caught.value)


def test_a_hole_is_nowhere_without_its_block(history: History) -> None:
    with pytest.raises(ValueError, match="hole needs block"):
        profiled(Node(history.chain), PROFILES["hole"])
    assert set(PARAMETERS) == {"blocks", "logs", "times", "block"}


def test_switch_changes_the_node_at_the_nth_request_of_both_doors(history: History) -> None:
    other = History()
    switch = Switch(Node(history.chain), after=3, then=Node(other.chain, chain_id=5))
    view = view_of(switch)
    assert 30 == view.header(30).number
    assert 30 == view.web3.eth.block_number
    before = switch.switched
    assert [] == view.get_logs(None, None, 2, 30)
    assert (False, True) == (before, switch.switched)
    assert (30, 1, 5) == (view.head, view.web3.eth.block_number, view.web3.eth.chain_id)


def test_switch_makes_its_node_when_the_time_comes(history: History) -> None:
    made = []

    def make() -> Node:
        made.append(Node(history.chain, head=4))
        return made[0]

    # A profile in front keeps its state while the node behind it changes.
    node = profiled(Switch(Node(history.chain), after=2, then=make), make_profile("rate-limit", times=1))
    logs = through_a_view(node)
    fails(429, lambda: logs(3, 9))
    assert [] == made
    assert (4, all_places(3, 4)) == (node.head if logs(3, 3) else 0, places(logs(3, 9)))
    assert 1 == len(made)
    # And one behind it counts and misbehaves when its time comes.
    late = Switch(Node(history.chain), after=2, then=faulty(history, "time-out"))
    logs = through_a_view(late)
    assert all_places(3, 3) == places(logs(3, 3))
    fails(-32002, lambda: logs(3, 3))
    assert all_places(3, 3) == places(logs(3, 3))
