"""The reference syncer on nodes that misbehave: exact books or a refusal, and nothing in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from harness.books import Books, dump_books
from harness.errors import CallReverted, NodeError, SyncRefused
from harness.syncers.reference.reading import FIRST_PAUSE, TRIES, is_too_much

USDC = 10**6


class Node:
    """A view that a test puts something in front of, by overriding one of its reads."""

    def __init__(self, world: Any, **changes: Callable[..., Any]) -> None:
        self.view = world.view()
        self.world = world
        self.changes = changes
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.view, name)
        if name not in ("get_logs", "call", "header"):
            return found

        def answer(*arguments: Any, **keywords: Any) -> Any:
            self.asked[name] += 1
            change = self.changes.get(name)
            if change is None:
                return found(*arguments, **keywords)
            return change(self, found, *arguments, **keywords)

        return answer

    @property
    def web3(self) -> Any:
        change = self.changes.get("web3")
        return change(self) if change else self.view.web3


def history(world: Any) -> None:
    for raw in range(1, 9):
        world.block(world.deposit(raw * USDC), world.redeem([(world.usdc, raw)]), world.deposit(raw, "bob"))
        world.block()


def synced(world: Any, books: Books, node: Node) -> Books:
    pauses: list[float] = []
    syncer = type(world.syncer())(world.target, pause=pauses.append)
    after = syncer.sync_treasury(node, books, world.time(world.head))
    node.pauses = pauses
    return after


def told(books: Books) -> list[Any]:
    (reserve,) = books.portfolio.reserves.values()
    return [
        (one.quantity, one.block_number, one.log_index, one.block_mined_at, one.usd_value, one.tx_hash)
        for one in reserve.balance_updates.values()
    ]


def failing(error: Exception, times: int) -> Callable[..., Any]:
    """Each read fails so many times before it succeeds."""
    asked: Counter[Any] = Counter()

    def change(node: Node, read: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        key = repr((arguments, keywords))
        asked[key] += 1
        if asked[key] <= times:
            raise error
        return read(*arguments, **keywords)

    return change


# -- a node that fails


@pytest.mark.parametrize(
    "error",
    [
        NodeError(429, "Too Many Requests"),
        NodeError(-32002, "request timed out"),
        NodeError(-32000, "header not found"),
        NodeError(-32005, "daily request count exceeded, request rate limited"),
        TimeoutError("read timed out"),
        ConnectionError("connection reset by peer"),
    ],
)
@pytest.mark.parametrize("read", ["get_logs", "call", "header"])
def test_failed_reads_are_tried_again(world, error, read):
    books = world.initialised()
    history(world)
    node = Node(world, **{read: failing(error, TRIES - 1)})
    assert told(world.synced(books)) == told(synced(world, books, node))
    assert {FIRST_PAUSE * 2**step for step in range(TRIES - 1)} == set(node.pauses)


@pytest.mark.parametrize("read", ["get_logs", "call", "header"])
def test_node_that_never_answers_is_refused(world, read):
    books = world.initialised()
    history(world)
    before = dump_books(books)
    node = Node(world, **{read: failing(NodeError(-32000, "no"), 10**9)})
    with pytest.raises(SyncRefused, match=f"the node failed {TRIES} times: no"):
        synced(world, books, node)
    assert TRIES == max(node.asked.values()) or read != "header"
    assert before == dump_books(books)


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (-32005, "eth_getLogs is limited to a range of 10 blocks", True),
        (-32005, "query returned more than 10000 results", True),
        (413, "Request Entity Too Large", True),
        (-32602, "block range is too wide", True),
        (-32000, "exceed maximum block range: 50000", True),
        (429, "Too Many Requests", False),
        (-32005, "daily request count exceeded, request rate limited", False),
        (-32000, "rate limit exceeded", False),
        (-32000, "header not found", False),
    ],
)
def test_complaints_about_size_are_told_from_those_about_frequency(code, message, expected):
    assert expected == is_too_much(NodeError(code, message))


@pytest.mark.parametrize("most", [1, 2, 5, 10])
def test_range_that_is_too_long_is_split(world, most):
    def capped(node: Node, read: Callable[..., Any], addresses: Any, topics: Any, start: int, end: int) -> Any:
        if end - start >= most:
            raise NodeError(-32005, f"eth_getLogs is limited to a range of {most} blocks")
        return read(addresses, topics, start, end)

    books = world.initialised()
    history(world)
    node = Node(world, get_logs=capped)
    assert told(world.synced(books)) == told(synced(world, books, node))
    assert [] == node.pauses


@pytest.mark.parametrize("most", [1, 2, 7])
def test_answer_that_is_too_large_is_split_and_a_block_read_from_its_receipts(world, most):
    def capped(node: Node, read: Callable[..., Any], *query: Any) -> Any:
        found = read(*query)
        if len(found) > most:
            raise NodeError(413, "Request Entity Too Large")
        return found

    books = world.initialised()
    history(world)
    assert told(world.synced(books)) == told(synced(world, books, Node(world, get_logs=capped)))


# -- logs that are not there


def hole(block: int, times: int = 10**9) -> Callable[..., Any]:
    left = [times]

    def change(node: Node, read: Callable[..., Any], *query: Any) -> Any:
        found = read(*query)
        others = [log for log in found if log["blockNumber"] != block]
        if len(others) < len(found) and left[0]:
            left[0] -= 1
            return others
        return found

    return change


def without_receipts(node: Node) -> None:
    return None


@pytest.mark.parametrize("times", [1, 2, 10**9])
def test_missing_block_is_found_by_its_header(world, times):
    books = world.initialised()
    history(world)
    assert told(world.synced(books)) == told(synced(world, books, Node(world, get_logs=hole(5, times))))


def test_missing_block_that_cannot_be_verified_is_refused(world):
    books = world.initialised()
    history(world)
    with pytest.raises(SyncRefused, match="the node withholds logs of block 5"):
        synced(world, books, Node(world, get_logs=hole(5), web3=without_receipts))


@pytest.mark.parametrize("withheld", range(1, 9))
def test_answer_that_is_silently_cut_is_noticed(world, withheld):
    """Only the first logs of any answer are given, also within a block."""

    def cut(node: Node, read: Callable[..., Any], *query: Any) -> Any:
        return read(*query)[:withheld]

    books = world.initialised()
    history(world)
    assert told(world.synced(books)) == told(synced(world, books, Node(world, get_logs=cut)))


@pytest.mark.parametrize("at", range(11))
def test_any_single_log_that_is_missing_is_noticed(world, at, who):
    """A block of a gift, deposits, a redemption and fee shares, one of whose logs no answer holds."""
    books = world.initialised()
    world.block(world.deposit(5 * USDC))
    gift = world.transfer(world.usdc, who("alice"), world.vault, 3)
    block = world.block([gift, *world.deposit(7)], world.redeem([(world.usdc, 2)]), world.deposit(9, "bob"))
    world.block()

    def drop(node: Node, read: Callable[..., Any], *query: Any) -> Any:
        return [log for log in read(*query) if (log["blockNumber"], log["logIndex"]) != (block, at)]

    assert told(world.synced(books)) == told(synced(world, books, Node(world, get_logs=drop)))
    with_luck = Node(world, get_logs=drop, web3=without_receipts)
    try:
        alone = synced(world, books, with_luck)
    except SyncRefused:
        return
    assert told(world.synced(books)) == told(alone)


def test_call_that_is_missing_as_a_whole_shows_in_the_supply(world):
    """Its block has other logs of each kind, so neither the header nor what is left tells that there was more."""
    books = world.initialised()
    block = world.block(world.deposit(7), world.deposit(9))

    def drop(node: Node, read: Callable[..., Any], *query: Any) -> Any:
        return [log for log in read(*query) if (log["blockNumber"], log["logIndex"] < 3) != (block, False)]

    assert 2 == len(told(synced(world, books, Node(world, get_logs=drop))))
    with pytest.raises(SyncRefused, match="withholds logs of block 3"):
        synced(world, books, Node(world, get_logs=drop, web3=without_receipts))


def lagging(blocks: int) -> Callable[..., Any]:
    def change(node: Node, read: Callable[..., Any], *query: Any) -> Any:
        return [log for log in read(*query) if log["blockNumber"] <= node.view.head - blocks]

    return change


def test_node_whose_logs_lag_behind_its_headers_is_refused(world):
    books = world.initialised()
    history(world)
    with pytest.raises(SyncRefused, match="withholds logs of block"):
        synced(world, books, Node(world, get_logs=lagging(4), web3=without_receipts))


class Receipts:
    """What `web3` is to a syncer that asks for receipts."""

    def __init__(self, answer: Any) -> None:
        self.provider, self.answer = self, answer

    def make_request(self, method: str, params: list[str]) -> Any:
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        {"result": None},
        {"result": []},
        {"error": {"code": -32601, "message": "no such method"}},
        {"result": [{"logs": []}]},
        {"result": [{"logs": None}]},
        {"result": [5]},
        [],
    ],
)
def test_receipts_that_prove_nothing_are_not_believed(world, answer):
    books = world.initialised()
    history(world)
    with pytest.raises(SyncRefused, match="withholds logs of block 5"):
        synced(world, books, Node(world, get_logs=hole(5), web3=lambda node: Receipts(answer)))


def test_fee_shares_have_no_event_and_the_header_says_so(world):
    books = world.initialised()
    world.block(world.shares(50, world.vault))
    assert [] == told(synced(world, books, Node(world, web3=without_receipts)))


def test_block_alone_shows_that_there_is_no_flow(erc4626):
    """Our shares and another vault's event: together they pass the filter for an event of ours."""
    world = erc4626
    books = world.initialised()
    shares = [world.shares(1, world.vault)[0], world.shares(-1, world.vault)[0]]
    world.block(shares, world.foreign())
    with pytest.raises(SyncRefused, match="withholds logs of block 3"):
        synced(world, books, Node(world, web3=without_receipts))
    assert [] == told(synced(world, books, Node(world)))


def test_accessor_that_no_log_sets_is_refused(enzyme, who):
    """Another vault's accessor was replaced in the same block, so the header does not show that a log is missing."""
    books = enzyme.initialised()
    enzyme.block(enzyme.deposit(5))
    books = enzyme.synced(books)
    enzyme.accessor = who("somebody")
    enzyme.block()
    with pytest.raises(SyncRefused, match="speaks for the vault at block 4, but no log says since when"):
        synced(enzyme, books, Node(enzyme))


def test_shares_that_never_add_up_are_refused(world):
    def more(node: Node, read: Callable[..., Any], address: str, signature: str, *rest: Any, block: int) -> Any:
        answer = read(address, signature, *rest, block=block)
        return answer + 1 if signature.startswith("totalSupply") and block == node.view.end_block else answer

    books = world.initialised()
    history(world)
    with pytest.raises(SyncRefused, match="raw shares at block"):
        synced(world, books, Node(world, call=more))


# -- logs and headers that are odd


@pytest.mark.parametrize("prefix", ["0x", ""])
def test_numbers_and_hashes_as_text_are_read(world, prefix):
    def as_text(node: Node, read: Callable[..., Any], *query: Any) -> Any:
        return [
            {
                **log,
                "blockNumber": hex(log["blockNumber"]),
                "logIndex": hex(log["logIndex"]),
                "transactionHash": prefix + log["transactionHash"].hex(),
                "blockHash": prefix + log["blockHash"].hex(),
                "topics": [prefix + one.hex() for one in log["topics"]],
                "data": prefix + log["data"].hex(),
            }
            for log in read(*query)
        ]

    books = world.initialised()
    history(world)
    assert told(world.synced(books)) == told(synced(world, books, Node(world, get_logs=as_text)))


def test_removed_and_repeated_logs_in_any_order_are_read_once(world):
    def muddled(node: Node, read: Callable[..., Any], *query: Any) -> Any:
        found = read(*query)
        return [*({**log, "removed": True, "blockHash": b"\x07" * 32} for log in found), *found[::-1], *found]

    books = world.initialised()
    history(world)
    assert told(world.synced(books)) == told(synced(world, books, Node(world, get_logs=muddled)))


def test_logs_of_another_branch_are_asked_for_again(world):
    left = [3]

    def stray(node: Node, read: Callable[..., Any], *query: Any) -> Any:
        found = read(*query)
        if found and left[0]:
            left[0] -= 1
            return [{**log, "blockHash": b"\x07" * 32, "data": log["data"][:-1] + b"\x63"} for log in found]
        return found

    books = world.initialised()
    history(world)
    assert told(world.synced(books)) == told(synced(world, books, Node(world, get_logs=stray)))


@pytest.mark.parametrize("change", [lambda header: None, "number", "timestamp"])
@pytest.mark.parametrize("times", [1, TRIES - 1])
def test_header_that_cannot_be_is_read_again(world, change, times):
    asked: Counter[int] = Counter()

    def odd(node: Node, read: Callable[..., Any], block: int) -> Any:
        asked[block] += 1
        header = read(block)
        if asked[block] > times:
            return header
        return None if callable(change) else type(header)(**{**vars(header), change: 0})

    books = world.initialised()
    history(world)
    assert told(world.synced(books)) == told(synced(world, books, Node(world, header=odd)))


@pytest.mark.parametrize(("field", "said"), [("number", "has no header of block"), ("timestamp", "no time")])
def test_header_that_stays_odd_is_refused(world, field, said):
    def odd(node: Node, read: Callable[..., Any], block: int) -> Any:
        return type(read(block))(**{**vars(read(block)), field: 0})

    books = world.initialised()
    history(world)
    with pytest.raises(SyncRefused, match=said):
        synced(world, books, Node(world, header=odd))


def test_headers_of_two_branches_are_not_mixed(world):
    def mixed(node: Node, read: Callable[..., Any], block: int) -> Any:
        header = read(block)
        return type(header)(**{**vars(header), "hash": b"\x07" * 32}) if block == 4 else header

    books = world.initialised()
    history(world)
    with pytest.raises(SyncRefused, match="block 4 changed while it was read"):
        synced(world, books, Node(world, header=mixed))


@pytest.mark.parametrize("behind", [3, 8])
def test_every_second_answer_of_a_node_that_is_behind_does_no_harm(world, behind):
    requests = [0]

    def twin(node: Node, read: Callable[..., Any], *rest: Any, **keywords: Any) -> Any:
        requests[0] += 1
        if requests[0] % 2:
            return read(*rest, **keywords)
        head = node.view.head - behind
        if len(rest) == 4:  # logs
            return [log for log in read(*rest) if log["blockNumber"] <= head]
        block = keywords.get("block", rest[0])
        if block > head:
            raise NodeError(-32000, "header not found")
        return read(*rest, **keywords)

    books = world.initialised()
    history(world)
    node = Node(world, get_logs=twin, call=twin, header=twin)
    assert told(world.synced(books)) == told(synced(world, books, node))


def test_a_contract_that_fails_is_a_refusal(world):
    def failing_call(*_: Any, **__: Any) -> Any:
        raise CallReverted("no contract is there")

    books = world.initialised()
    history(world)
    with pytest.raises(SyncRefused, match="no contract is there"):
        synced(world, books, Node(world, call=failing_call))


def test_good_nodes_are_not_asked_for_receipts(world):
    books = world.initialised()
    history(world)
    node = Node(world)
    synced(world, books, node)
    assert (0, []) == (node.view.calls["receipts"], node.pauses)
    assert Decimal(36) == sum(one[0] for one in told(world.synced(books)))
