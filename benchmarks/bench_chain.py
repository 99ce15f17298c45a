"""How fast the chain is: steps against py-evm's own mining, logs near the head and far from it.

Each function returns rows of name, value, unit, and the ratio to the baseline in the same run (None for a baseline).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple

from eth.vm.forks.prague.transactions import PragueLegacyTransaction
from eth_tester import EthereumTester
from web3 import EthereumTesterProvider, Web3

from harness.chain import Account, Artifact, Call, Chain, Node, Outcome, Pending, load_artifact

Row = tuple[str, float, str, float | None]

GENESIS = 1_704_067_200
BLOCK_TIME = 12
ALICE, BOB = Account.named("alice"), Account.named("bob")


class World(NamedTuple):
    """A chain with a token and a vault on it, and an actor who has approved the vault."""

    chain: Chain
    token: str
    vault: str


def world() -> World:
    """Deploy a token and an ERC-4626 vault, and give Alice tokens to put into it."""
    chain = Chain(chain_id=1337, genesis_timestamp=GENESIS, accounts=[ALICE, BOB])
    token, vault = load_artifact("Erc20"), load_artifact("Erc4626Vault")
    addresses = []

    def deploy(_: Pending) -> Generator[Call, Outcome, None]:
        outcome = yield Call(ALICE, None, token.deploy_data("USD Coin", "USDC", 6))
        addresses.append(_address(outcome))
        outcome = yield Call(ALICE, None, vault.deploy_data(addresses[0], "Vault", "VLT", ALICE.address))
        addresses.append(_address(outcome))
        yield Call(ALICE, addresses[0], token.encode("mint", ALICE.address, 10**18))
        yield Call(ALICE, addresses[0], token.encode("approve", addresses[1], 2**256 - 1))

    chain.mine(deploy, timestamp=GENESIS + BLOCK_TIME)
    return World(chain, *addresses)


def _address(outcome: Outcome) -> str:
    if outcome.contract_address is None:
        raise RuntimeError(outcome.revert_reason)
    return outcome.contract_address


def steps(count: int = 120, rounds: int = 3) -> list[Row]:
    """Deposits a second, one and forty a block, with four reads after each, against py-evm's `mine_all` alone."""
    template = world()
    rows: list[Row] = []
    for per_block in (1, 40):
        ratios, ours, theirs = [], [], []
        for _ in range(rounds):
            chain = template.chain.clone()
            duration = _timed(partial(_mine_deposits, template, chain, count, per_block))
            baseline = _mine_again(template, chain)
            ours.append(count / duration)
            theirs.append(count / baseline)
            ratios.append(duration / baseline)
        name = f"{per_block} a block"
        rows.append((f"py-evm's mine_all, signed beforehand, {name}", statistics.median(theirs), "deposits/s", None))
        rows.append(
            (
                f"Chain: encode, sign, mine, index, four reads each, {name}",
                statistics.median(ours),
                "deposits/s",
                statistics.median(ratios),
            )
        )
    rate = _web3_route(template, 20)
    rows.append(("web3: gas estimated, receipt waited for, 1 a block", rate, "deposits/s", rows[0][1] / rate))
    return rows


def _mine_deposits(template: World, chain: Chain, count: int, per_block: int) -> None:
    token, vault = load_artifact("Erc20"), load_artifact("Erc4626Vault")
    timestamp = chain.header(chain.head).timestamp

    def build(pending: Pending) -> Generator[Call, Outcome, None]:
        for step in range(per_block):
            outcome = yield Call(ALICE, template.vault, vault.encode("deposit", 1_000_000 + step, BOB.address))
            if not outcome.succeeded:
                raise RuntimeError(outcome.revert_reason)
            for holder in (template.vault, ALICE.address):
                token.decode("balanceOf", pending.call(template.token, token.encode("balanceOf", holder)))
            vault.decode("balanceOf", pending.call(template.vault, vault.encode("balanceOf", BOB.address)))
            vault.decode("totalSupply", pending.call(template.vault, vault.encode("totalSupply")))

    for _ in range(count // per_block):
        timestamp += BLOCK_TIME
        chain.mine(build, timestamp=timestamp)


def _mine_again(template: World, mined: Chain) -> float:
    """Seconds that py-evm's own `mine_all` takes for the transactions of another chain's blocks."""
    copy = template.chain.clone()
    blocks = [
        # Decoded anew: nothing is known of them but their bytes.
        [PragueLegacyTransaction.decode(transaction.encode()) for transaction in mined.index.block(number).transactions]
        for number in range(copy.head + 1, mined.head + 1)
    ]
    chain = copy.backend.chain

    def run() -> None:
        for transactions in blocks:
            _, receipts, _ = chain.mine_all(transactions)
            if any(receipt.state_root != b"\x01" for receipt in receipts):
                raise RuntimeError("a deposit failed")

    return _timed(run)


def _web3_route(template: World, count: int) -> float:
    w3 = Web3(EthereumTesterProvider(EthereumTester(template.chain.clone().backend)))
    vault: Any = w3.eth.contract(template.vault, abi=list(load_artifact("Erc4626Vault").abi))

    def run() -> None:
        for step in range(count):
            sent = vault.functions.deposit(1_000_000 + step, BOB.address).transact({"from": ALICE.address})
            w3.eth.wait_for_transaction_receipt(sent)

    return count / _timed(run)


def logs(length: int = 10_000, per_block: int = 40, wanted: int = 1_000) -> list[Row]:
    """Milliseconds to read 1,000 logs from a long chain, near its head and 9,000 blocks back."""
    template = world()
    chain, token = template.chain.clone(), load_artifact("Erc20")
    starts = []
    for first in (length // 10 - 2 * wanted // per_block, length - 2 * wanted // per_block):
        _mine_empty(chain, first - 1 - chain.head)
        starts.append(chain.head + 1)
        _mine_transfers(template, chain, token, wanted // per_block, per_block)
    _mine_empty(chain, length - chain.head)

    node = Node(chain)
    rows: list[Row] = []
    near = 0.0
    for name, start in (("near the head", starts[1]), (f"{length - starts[0]:,} blocks back", starts[0])):
        query = {
            "fromBlock": hex(start),
            "toBlock": hex(start + wanted // per_block - 1),
            "address": template.token,
        }
        durations = []
        for _ in range(7):
            durations.append(_timed(partial(_read_logs, node, query, wanted)))
        duration = statistics.median(durations) * 1_000
        near = near or duration
        rows.append((f"{wanted:,} logs by eth_getLogs, {name}", duration, "ms", duration / near))
    everything = statistics.median(
        _timed(lambda: node.request("eth_getLogs", [{"fromBlock": "0x0", "topics": [None, "0x" + "11" * 32]}]))
        for _ in range(7)
    )
    rows.append((f"no log among {length:,} blocks", everything * 1_000, "ms", everything * 1_000 / near))
    rows.append(_eth_tester_logs(template, near / wanted))
    return rows


def _eth_tester_logs(template: World, near: float, blocks: int = 60) -> Row:
    """eth-tester's own path, at a size that it survives: its time a log grows with the chain."""
    chain, token = template.chain.clone(), load_artifact("Erc20")
    start = chain.head + 1
    _mine_transfers(template, chain, token, blocks, 1)
    w3 = Web3(EthereumTesterProvider(EthereumTester(chain.backend)))
    duration = _timed(lambda: w3.eth.get_logs({"fromBlock": start, "toBlock": chain.head, "address": template.token}))
    each = duration * 1_000 / blocks
    return (f"eth-tester's own path, {blocks} logs from a {chain.head}-block chain, each", each, "ms", each / near)


def _mine_empty(chain: Chain, count: int) -> None:
    timestamp = chain.header(chain.head).timestamp
    for step in range(count):
        chain.mine_empty(timestamp=timestamp + BLOCK_TIME * (step + 1))


def _mine_transfers(template: World, chain: Chain, token: Artifact, blocks: int, per_block: int) -> None:
    call = Call(ALICE, template.token, token.encode("transfer", BOB.address, 1))
    timestamp = chain.header(chain.head).timestamp
    for step in range(blocks):
        chain.mine([call] * per_block, timestamp=timestamp + BLOCK_TIME * (step + 1))


def _read_logs(node: Node, query: dict[str, Any], wanted: int) -> None:
    answer = node.request("eth_getLogs", [query])
    if len(answer["result"]) != wanted:
        raise RuntimeError(f"{len(answer['result'])} logs, not {wanted}")


def small() -> list[Row]:
    """Milliseconds of what a scenario does most: clone a world, mine an empty block, read old and pending state."""
    template = world()
    chain = template.chain.clone()
    _mine_empty(chain, 20)
    token = load_artifact("Erc20")
    data = token.encode("balanceOf", ALICE.address)
    rows: list[Row] = [
        ("clone a world", _each(template.chain.clone, 50), "ms", None),
        ("mine an empty block", _timed(lambda: _mine_empty(chain, 100)) * 10, "ms", None),
        ("Chain.call at the head", _each(lambda: chain.call(template.token, data), 200), "ms", None),
        ("Chain.call 20 blocks back", _each(lambda: chain.call(template.token, data, block=1), 200), "ms", None),
    ]

    def build(pending: Pending) -> Generator[Call, Outcome, None]:
        yield Call(ALICE, template.token, token.encode("transfer", BOB.address, 1))
        rows.append(("Pending.call", _each(lambda: pending.call(template.token, data), 200), "ms", None))

    chain.mine(build, timestamp=chain.header(chain.head).timestamp + BLOCK_TIME)
    return rows


def _each(function: Callable[[], object], count: int) -> float:
    return _timed(lambda: [function() for _ in range(count)]) * 1_000 / count


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def table(rows: list[Row]) -> str:
    """Rows as a Markdown table."""
    lines = ["| what | value | unit | ratio |", "| --- | ---: | --- | ---: |"]
    for name, value, unit, ratio in rows:
        lines.append(f"| {name} | {value:,.3g} | {unit} | {'' if ratio is None else f'{ratio:.2f}'} |")
    return "\n".join(lines)


def main() -> None:
    """Run everything and print the table."""
    print(table([*steps(), *logs(), *small()]))


if __name__ == "__main__":
    main()
