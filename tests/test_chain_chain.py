"""Mining: deterministic, lazy, exception-safe; snapshots, clones, reads of old states."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from eth_tester import EthereumTester

from harness.chain import Account, Call, Chain, MinedBlock, Outcome, Pending
from harness.errors import CallReverted
from tests.chain_bytecode import ADDED, COUNTER, deployment, emission, word
from tests.chain_history import ALICE, BLOCK_TIME, BOB, GENESIS, History, count, golden_history, hashes, next_time

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "chain_block_hashes.json"


@pytest.fixture(scope="module")
def template() -> History:
    return History()


@pytest.fixture
def history(template: History) -> History:
    copy = object.__new__(History)
    copy.__dict__ = template.__dict__ | {"chain": template.chain.clone()}
    return copy


def mine(chain: Chain, *calls: Call) -> MinedBlock:
    return chain.mine(calls, timestamp=next_time(chain))


def test_block_hashes_are_those_of_every_other_run() -> None:
    assert json.loads(GOLDEN.read_text()) == hashes(golden_history())


@pytest.mark.parametrize(
    ("seed", "zone", "language"), [("0", "UTC", "C"), ("4242", "Pacific/Apia", "tr_TR.UTF-8")], ids=["plain", "odd"]
)
def test_block_hashes_do_not_depend_on_surroundings(tmp_path: Path, seed: str, zone: str, language: str) -> None:
    surroundings = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": seed,
        "TZ": zone,
        "LANG": language,
        "LC_ALL": language,
    }
    printed = subprocess.run(
        [sys.executable, "-m", "tests.chain_history"],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(GOLDEN.read_text()) == json.loads(printed)


def test_same_name_is_same_account() -> None:
    assert Account.named("alice") == ALICE
    assert ALICE.address != BOB.address
    assert ALICE.address == "0x09cBd50a4F63F2308491A900b9CB76F0C10FEbd8"


def test_headers_have_the_times_given(history: History) -> None:
    chain = history.chain
    chain.mine_empty(timestamp=GENESIS + 86_400)
    assert [GENESIS, GENESIS + BLOCK_TIME, GENESIS + 86_400] == [chain.header(n).timestamp for n in range(3)]
    assert chain.header(1).hash == chain.header(2).parent_hash


def test_contracts_see_number_time_chain_id_and_caller(history: History) -> None:
    chain = Chain(chain_id=77, genesis_timestamp=GENESIS, accounts=[ALICE])
    chain.mine_empty(timestamp=GENESIS + 5)
    seen: list[bytes] = []

    def build(pending: Pending) -> Generator[Call, Outcome, None]:
        outcome = yield Call(ALICE, None, deployment(history_surroundings))
        assert outcome.contract_address is not None
        seen.append(pending.call(outcome.contract_address, b"", BOB.address))
        outcome = yield Call(ALICE, outcome.contract_address, b"")
        seen.append(outcome.output)

    history_surroundings = history.chain.code(history.surroundings)
    mined = chain.mine(build, timestamp=GENESIS + 86_400)
    pending_words, mined_words = ([one[at : at + 32] for at in range(0, 160, 32)] for one in seen)
    assert [word(2), word(GENESIS + 86_400), word(77)] == mined_words[:3] == pending_words[:3]
    assert word(int(ALICE.address, 16)) == mined_words[4]
    assert word(int(BOB.address, 16)) == pending_words[4]
    address = mined.receipts[0].contract_address
    assert address is not None
    chain.mine_empty(timestamp=GENESIS + 86_500)
    assert word(2) + word(GENESIS + 86_400) == chain.call(address, b"", block=2)[:64]
    assert word(3) + word(GENESIS + 86_500) == chain.call(address, b"")[:64]


def test_log_index_counts_through_the_block(history: History) -> None:
    chain = history.chain
    mined = mine(
        chain,
        Call(ALICE, history.counter, word(1)),
        Call(ALICE, history.counter, word(0)),
        Call(BOB, history.emitter, emission((word(8),), 3)),
        Call(BOB, history.counter, word(2)),
    )
    logs = [log for receipt in mined.receipts for log in receipt.logs]
    assert [(0, 0), (1, 2), (2, 3)] == [(log.log_index, log.transaction_index) for log in logs]
    assert logs == chain.logs(mined.number, mined.number)
    assert (ADDED, word(int(BOB.address, 16))) == logs[2].topics
    assert word(3) == logs[2].data


def test_build_sees_what_the_block_did_so_far(history: History) -> None:
    chain, seen = history.chain, []

    def build(pending: Pending) -> Generator[Call, Outcome, None]:
        seen.append((pending.number, pending.timestamp, pending.call(history.counter, b"")))
        outcome = yield Call(ALICE, history.counter, word(5))
        seen.append((outcome.succeeded, outcome.output, pending.call(history.counter, b"")))
        # What follows depends on what came before.
        outcome = yield Call(BOB, history.counter, pending.call(history.counter, b""))
        seen.append((outcome.succeeded, outcome.logs[0].log_index, pending.call(history.counter, b"")))

    mined = chain.mine(build, timestamp=next_time(chain))
    assert [
        (2, GENESIS + 2 * BLOCK_TIME, word(0)),
        (True, word(5), word(5)),
        (True, 1, word(10)),
    ] == seen
    assert 10 == count(chain, history.counter)
    assert mined.receipts == chain.receipts(2)


def test_pending_reads_leave_no_trace(history: History) -> None:
    quiet, chatty = history.chain.clone(), history.chain.clone()

    def build(reads: bool) -> object:
        def steps(pending: Pending) -> Generator[Call, Outcome, None]:
            for step in (3, 4):
                yield Call(ALICE, history.counter, word(step))
                if reads:
                    before = pending.call(history.counter, b"")
                    # A call that would write, as somebody who does not exist, and one that fails.
                    assert pending.call(history.counter, word(100)) != before
                    assert before == pending.call(history.counter, b"")
                    with pytest.raises(CallReverted, match="zero"):
                        pending.call(history.counter, word(0))
                    pending.call(Account.named("nobody").address, b"")

        return steps

    for chain, reads in ((quiet, False), (chatty, True)):
        chain.mine(build(reads), timestamp=next_time(chain))  # type: ignore[arg-type]
    assert hashes(quiet) == hashes(chatty)
    assert quiet.receipts(2) == chatty.receipts(2)


def test_exception_in_build_leaves_the_chain_as_it_was(history: History) -> None:
    chain = history.chain
    before, expected = hashes(chain), history.chain.clone()
    closed = []

    def build(pending: Pending) -> Generator[Call, Outcome, None]:
        try:
            yield Call(ALICE, history.counter, word(5))
            yield Call(ALICE, history.counter, word(5))
            raise ZeroDivisionError(pending.number)
        finally:
            closed.append(True)

    with pytest.raises(ZeroDivisionError):
        chain.mine(build, timestamp=next_time(chain))
    assert [True] == closed
    assert before == hashes(chain)
    assert 0 == count(chain, history.counter)
    assert [] == chain.logs(2, 99)
    for one in (chain, expected):
        assert mine(one, Call(ALICE, history.counter, word(6))).receipts[0].succeeded
    assert hashes(expected) == hashes(chain)


def test_call_that_no_block_can_hold_is_refused_whole(history: History) -> None:
    chain, closed = history.chain, []

    def build(_: Pending) -> Generator[Call, Outcome, None]:
        try:
            yield Call(ALICE, history.counter, word(5))
            yield Call(ALICE, history.counter, word(5), gas=100)
        finally:
            closed.append(True)

    # The exception is held on to, and with it the frames: nothing is closed by the garbage collector.
    with pytest.raises(ValueError, match="call of alice cannot be in a block") as caught:
        chain.mine(build, timestamp=next_time(chain))
    assert [True] == closed, caught
    with pytest.raises(ValueError, match=r"call of carol cannot be in a block.*afford"):
        mine(chain, Call(Account.named("carol"), history.counter, word(5)))
    assert (1, 0) == (chain.head, count(chain, history.counter))


@pytest.mark.parametrize("late_by", [0, -1])
def test_time_must_rise(history: History, late_by: int) -> None:
    chain = history.chain
    with pytest.raises(ValueError, match="cannot follow"):
        chain.mine_empty(timestamp=chain.header(1).timestamp + late_by)
    assert 1 == chain.head


def test_failed_transaction_stays_in_the_block(history: History) -> None:
    mined = mine(
        history.chain,
        Call(ALICE, history.counter, word(0)),
        Call(ALICE, history.counter, word(4)),
        Call(ALICE, history.spinner, b"", gas=50_000),
        Call(ALICE, history.emitter, word(5)),
        Call(ALICE, None, deployment(COUNTER), gas=60_000),
    )
    assert [
        (False, "zero"),
        (True, None),
        (False, "out of gas"),
        (False, "invalid instruction"),
        (False, "out of gas"),
    ] == [(receipt.succeeded, receipt.revert_reason) for receipt in mined.receipts]
    assert 50_000 == mined.receipts[2].gas_used
    assert mined.receipts[4].contract_address is None
    assert 4 == count(history.chain, history.counter)
    assert mined.receipts[0].output.startswith(b"\x08\xc3y\xa0")


def test_revert_takes_everything_back(history: History) -> None:
    chain = history.chain
    mine(chain, Call(ALICE, history.counter, word(1)))
    snapshot, before = chain.snapshot(), hashes(chain)
    first = mine(chain, Call(ALICE, history.counter, word(2)), Call(BOB, history.counter, word(4)))
    chain.mine_empty(timestamp=next_time(chain))
    assert 2 == len(chain.logs(3, 4, [history.counter]))

    chain.revert(snapshot)
    assert before == hashes(chain)
    assert [] == chain.logs(3, 4, [history.counter])
    assert 1 == len(chain.logs(0, 99, [history.counter]))
    assert 1 == count(chain, history.counter)
    with pytest.raises(IndexError, match="block 3 does not exist; the newest is 2"):
        chain.receipts(3)
    with pytest.raises(IndexError):
        chain.logs_of(first.hash)

    again = chain.mine(
        [Call(BOB, history.counter, word(4)), Call(ALICE, history.counter, word(2))], timestamp=first.timestamp
    )
    assert first.hash != again.hash
    assert [receipt.transaction_hash for receipt in first.receipts] == [
        receipt.transaction_hash for receipt in reversed(again.receipts)
    ]
    assert [0, 1] == [log.log_index for log in chain.logs_of(again.hash)]


def test_revert_goes_to_a_branch_that_was_left(history: History) -> None:
    chain = history.chain
    fork = chain.snapshot()
    for step in (1, 2):
        mine(chain, Call(ALICE, history.counter, word(step)))
    left, left_hashes, left_logs = chain.snapshot(), hashes(chain), chain.logs(0, 99)
    chain.revert(fork)
    mine(chain, Call(ALICE, history.counter, word(8)))
    other = chain.snapshot()

    chain.revert(left)
    assert (left_hashes, left_logs, 3) == (hashes(chain), chain.logs(0, 99), count(chain, history.counter))
    mine(chain, Call(ALICE, history.counter, word(1)))
    assert 4 == count(chain, history.counter)
    chain.revert(other)
    assert 8 == count(chain, history.counter)
    assert chain.backend.head.hash == chain.header(chain.head).hash


def test_snapshot_of_another_chain_is_refused(history: History) -> None:
    other = history.chain.clone()
    mine(other, Call(ALICE, history.counter, word(1)))
    with pytest.raises(ValueError, match="never part of this chain"):
        history.chain.revert(other.snapshot())
    assert 1 == history.chain.head


def test_clones_do_not_see_each_other(history: History) -> None:
    chain = history.chain
    mine(chain, Call(ALICE, history.counter, word(1)))
    clone = chain.clone()
    assert hashes(chain) == hashes(clone)
    mine(chain, Call(ALICE, history.counter, word(2)))
    mine(clone, Call(BOB, history.counter, word(4)))
    assert (3, 5) == (count(chain, history.counter), count(clone, history.counter))
    assert (1, 1) == (len(chain.logs(3, 3)), len(clone.logs(3, 3)))
    assert chain.header(3).hash != clone.header(3).hash
    assert chain.header(2).hash == clone.header(2).hash


def test_old_states_can_be_read(history: History) -> None:
    chain = history.chain
    for step in range(1, 25):
        mine(chain, Call(ALICE, history.counter, word(step)))
    assert [sum(range(block)) for block in range(1, 26)] == [
        count(chain, history.counter, block) for block in range(1, 26)
    ]
    assert 0 == count(chain, history.counter, 0)
    assert (b"", COUNTER) == (chain.code(history.counter, block=0), chain.code(history.counter, block=1))
    with pytest.raises(IndexError):
        chain.call(history.counter, b"", block=26)
    with pytest.raises(IndexError):
        chain.call(history.counter, b"", block=-1)


def test_backend_serves_eth_tester(history: History) -> None:
    chain = history.chain
    mined = mine(chain, Call(ALICE, history.counter, word(1)))
    tester = EthereumTester(chain.clone().backend)
    assert mined.hash == tester.get_block_by_number("latest")["hash"]
    sent = tester.send_transaction(
        {"from": ALICE.address, "to": history.counter, "data": "0x" + word(2).hex(), "gas": 200_000}
    )
    assert 1 == tester.get_transaction_receipt(sent)["status"]
    other = EthereumTester(chain.clone().backend)
    for one in (tester, other):
        one.mine_block()
    assert GENESIS + 3 * BLOCK_TIME > tester.get_block_by_number("latest")["timestamp"]  # not the wall clock
    assert 2 == chain.head


def test_many_calls_fit_in_one_block(history: History) -> None:
    mined = mine(history.chain, *[Call(ALICE, history.counter, word(1))] * 120)
    assert 120 == sum(receipt.succeeded for receipt in mined.receipts)
    assert list(range(120)) == [log.log_index for log in history.chain.logs(2, 2)]
