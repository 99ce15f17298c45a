"""A history to mine, with everything in it that reaches a block hash; run as a script, it prints the hashes."""

from __future__ import annotations

import json
from collections.abc import Generator

from harness.chain import Account, Call, Chain, Outcome, Pending
from tests.chain_bytecode import COUNTER, EMITTER, SPINNER, SURROUNDINGS, deployment, emission, word

GENESIS = 1_704_067_200
BLOCK_TIME = 12
ALICE, BOB = Account.named("alice"), Account.named("bob")


class History:
    """A chain with the contracts on it, and what to call them."""

    def __init__(self) -> None:
        self.chain = Chain(chain_id=1337, genesis_timestamp=GENESIS, accounts=[ALICE, BOB])
        mined = self.chain.mine(
            [Call(ALICE, None, deployment(code)) for code in (COUNTER, EMITTER, SURROUNDINGS, SPINNER)],
            timestamp=GENESIS + BLOCK_TIME,
        )
        addresses = [receipt.contract_address for receipt in mined.receipts]
        assert None not in addresses
        self.counter, self.emitter, self.surroundings, self.spinner = (str(address) for address in addresses)


def next_time(chain: Chain) -> int:
    """When the chain's next block is due."""
    return chain.header(chain.head).timestamp + BLOCK_TIME


def count(chain: Chain, counter: str, block: int | None = None) -> int:
    """What the counter stands at."""
    return int.from_bytes(chain.call(counter, b"", block=block), "big")


def golden_history() -> Chain:
    """Deployments, blocks of several transactions, failures, logs, reads in between, empty blocks, a reorganisation."""
    history = History()
    chain = history.chain

    def build(pending: Pending) -> Generator[Call, Outcome, None]:
        yield Call(ALICE, history.counter, word(5))
        pending.call(history.counter, word(7))  # would change storage and log; leaves no trace
        yield Call(BOB, history.counter, word(0))
        yield Call(BOB, history.emitter, emission((word(1), word(2), word(3)), 4))
        yield Call(ALICE, history.spinner, b"", gas=100_000)

    chain.mine(build, timestamp=next_time(chain))
    chain.mine_empty(timestamp=next_time(chain))
    snapshot = chain.snapshot()
    chain.mine([Call(ALICE, history.counter, word(9))], timestamp=next_time(chain))
    chain.mine_empty(timestamp=next_time(chain))
    chain.revert(snapshot)
    chain.mine([Call(BOB, history.counter, word(1)), Call(ALICE, history.counter, word(9))], timestamp=next_time(chain))
    return chain


def hashes(chain: Chain) -> list[str]:
    """The chain's block hashes, from genesis on."""
    return [chain.header(number).hash.to_0x_hex() for number in range(chain.head + 1)]


if __name__ == "__main__":
    print(json.dumps(hashes(golden_history()), indent=1))
