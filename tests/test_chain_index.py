"""Logs found by the index are those that looking at every log would find."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.chain import Call, Chain, LogEntry
from harness.chain.index import Index
from tests.chain_bytecode import EMITTER, deployment, emission, word
from tests.chain_history import ALICE, BLOCK_TIME, GENESIS, next_time

TOPICS = tuple(word(number) for number in (1, 2, 3))
EMITTERS = 3
UNKNOWN = "0x" + "00" * 19 + "01"


@pytest.fixture(scope="module")
def emitters() -> tuple[Chain, tuple[str, ...]]:
    chain = Chain(chain_id=1, genesis_timestamp=GENESIS, accounts=[ALICE])
    mined = chain.mine([Call(ALICE, None, deployment(EMITTER))] * EMITTERS, timestamp=GENESIS + BLOCK_TIME)
    return chain, tuple(str(receipt.contract_address) for receipt in mined.receipts)


@dataclass(frozen=True)
class Branch:
    """Blocks of emissions; the first ``kept`` of them survive a revert."""

    blocks: list[list[tuple[int, tuple[bytes, ...]]]]
    kept: int


emissions = st.lists(
    st.tuples(st.integers(0, EMITTERS - 1), st.lists(st.sampled_from(TOPICS), max_size=4).map(tuple)), max_size=3
)
branches = st.lists(emissions, max_size=5).flatmap(
    lambda blocks: st.builds(Branch, st.just(blocks), st.integers(0, len(blocks)))
)
topic_choices = st.one_of(st.none(), st.sampled_from(TOPICS), st.lists(st.sampled_from(TOPICS), max_size=2))
queries = st.tuples(
    st.integers(0, 14),
    st.integers(0, 14),
    st.one_of(st.none(), st.lists(st.integers(0, EMITTERS), max_size=3)),
    st.one_of(st.none(), st.lists(topic_choices, max_size=4)),
)


def matches(log: LogEntry, addresses: list[str] | None, topics: list[object] | None) -> bool:
    """Whether a log is wanted, told the slow way."""
    if addresses and log.address not in addresses:
        return False
    if len(topics or ()) > len(log.topics):
        return False
    for choice, topic in zip(topics or (), log.topics, strict=False):
        choices = [choice] if isinstance(choice, bytes) else choice
        if choices and topic not in choices:  # type: ignore[operator]
            return False
    return True


@settings(max_examples=30, deadline=None)
@given(first=branches, second=branches, drawn=st.lists(queries, min_size=1, max_size=8))
def test_found_logs_are_those_that_match(
    emitters: tuple[Chain, tuple[str, ...]],
    first: Branch,
    second: Branch,
    drawn: list[tuple[int, int, list[int] | None, list[object] | None]],
) -> None:
    template, addresses = emitters
    chain = template.clone()
    for branch in (first, second):
        snapshots = [chain.snapshot()]
        for block in branch.blocks:
            calls = [Call(ALICE, addresses[which], emission(topics, 9)) for which, topics in block]
            chain.mine(calls, timestamp=next_time(chain))
            snapshots.append(chain.snapshot())
        chain.revert(snapshots[branch.kept])
    # However it came to be, the index is the one that these blocks make.
    rebuilt = Index()
    for number in range(chain.head + 1):
        rebuilt.append(chain.index.block(number))
    for name in vars(rebuilt).keys() - {"_known"}:
        assert getattr(rebuilt, name) == getattr(chain.index, name), name
    everything = [log for number in range(chain.head + 1) for receipt in chain.receipts(number) for log in receipt.logs]
    for start, end, chosen, topics in drawn:
        wanted = None if chosen is None else [(*addresses, UNKNOWN)[which] for which in chosen]
        expected = [log for log in everything if start <= log.block_number <= end and matches(log, wanted, topics)]
        assert expected == chain.logs(start, end, wanted, topics)  # type: ignore[arg-type]
        if start <= chain.head:
            of_block = [log for log in everything if log.block_number == start and matches(log, wanted, topics)]
            hash_text = chain.header(start).hash.to_0x_hex()
            assert of_block == chain.logs_of(hash_text, wanted, topics)  # type: ignore[arg-type]


def test_transaction_is_found_where_it_is(emitters: tuple[Chain, tuple[str, ...]]) -> None:
    template, addresses = emitters
    chain = template.clone()
    snapshot = chain.snapshot()
    call = Call(ALICE, addresses[0], emission((), 1))
    mined = chain.mine([call], timestamp=next_time(chain))
    transaction_hash = bytes.fromhex(mined.receipts[0].transaction_hash[2:])
    assert (2, 0) == chain.index.find_transaction(transaction_hash)
    chain.revert(snapshot)
    assert chain.index.find_transaction(transaction_hash) is None
    assert chain.index.number_of(bytes.fromhex(mined.hash[2:])) is None
    chain.mine_empty(timestamp=next_time(chain))
    chain.mine([call], timestamp=next_time(chain))
    assert (3, 0) == chain.index.find_transaction(transaction_hash)
