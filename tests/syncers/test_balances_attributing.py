"""How a block's change is told apart into calls, in blocks written by hand: what no scenario can yet say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from eth_abi import encode
from eth_utils import keccak, to_checksum_address

from harness.books.records import AssetIdentifier
from harness.errors import SyncRefused
from harness.syncers import Target
from harness.syncers.balances.attributing import InvestorCall, Watch
from harness.syncers.balances.observing import Observer
from harness.syncers.balances.words import address_bytes, bloom_of

ZERO = "0x" + "00" * 20


def named(name: str) -> str:
    return to_checksum_address(hashlib.sha256(name.encode()).digest()[:20])


USDC, VAULT, ACCESSOR = named("USDC"), named("vault"), named("accessor")
ALICE, BOB, FEES = named("alice"), named("bob"), named("fees")
BLOCK = 8

Log = dict[str, Any]


def log(emitter: str, signature: str, indexed: Sequence[str], types: Sequence[str], values: Sequence[Any]) -> Log:
    topics = [keccak(text=signature), *(address_bytes(one).rjust(32, b"\0") for one in indexed)]
    return {"address": emitter, "topics": topics, "data": encode(types, values)}


def transfer(sender: str, receiver: str, raw: int, token: str = USDC) -> Log:
    return log(token, "Transfer(address,address,uint256)", [sender, receiver], ["uint256"], [raw])


def minted(owner: str, shares: int) -> Log:
    return transfer(ZERO, owner, shares, VAULT)


def burned(owner: str, shares: int) -> Log:
    return transfer(owner, ZERO, shares, VAULT)


def bought(owner: str, raw: int, shares: int, accessor: str = ACCESSOR) -> Log:
    values = [raw, shares, shares]
    return log(accessor, "SharesBought(address,uint256,uint256,uint256)", [owner], ["uint256"] * 3, values)


def redeemed(owner: str, shares: int, raw: int, accessor: str = ACCESSOR) -> Log:
    signature = "SharesRedeemed(address,address,uint256,address[],uint256[])"
    return log(accessor, signature, [owner, owner], ["uint256", "address[]", "uint256[]"], [shares, [USDC], [raw]])


def deposit(owner: str, raw: int, shares: int, accessor: str = ACCESSOR) -> list[Log]:
    return [transfer(owner, VAULT, raw), minted(owner, shares), bought(owner, raw, shares, accessor)]


def redemption(owner: str, shares: int, raw: int) -> list[Log]:
    return [burned(owner, shares), transfer(VAULT, owner, raw), redeemed(owner, shares, raw)]


def accessor_set(accessor: str) -> Log:
    return log(VAULT, "AccessorSet(address,address)", [], ["address", "address"], [ACCESSOR, accessor])


@dataclass
class OneBlock:
    """A chain on which one block happens; state before and after it."""

    transactions: list[list[Log]]
    cash: tuple[int, int]
    supply: tuple[int, int]
    accessor: tuple[str, str] = (ACCESSOR, ACCESSOR)
    end_block: int = BLOCK + 1
    head: int = BLOCK + 1
    chunk: int | None = None
    now: datetime = datetime(2030, 1, 1)
    web3: Any = None
    logs: list[Log] = field(default_factory=list)

    def __post_init__(self) -> None:
        for at, transaction in enumerate(self.transactions):
            for one in transaction:
                place = {"blockNumber": BLOCK, "blockHash": bytes([BLOCK] * 32), "logIndex": len(self.logs)}
                self.logs.append(one | place | {"transactionHash": bytes([at] * 32), "removed": False})

    def get_logs(self, addresses: Any, topics: Any, start_block: int, end_block: int) -> list[Any]:
        assert (BLOCK, BLOCK) == (start_block, end_block), "no other block has logs"
        return self.logs

    def header(self, block: int) -> Any:
        elements = [one for log in self.logs for one in (address_bytes(log["address"]), *log["topics"])]
        bloom = bloom_of(elements if block == BLOCK else [])
        hashes = {"hash": bytes([block] * 32), "parent_hash": bytes([block - 1] * 32)}
        return SimpleNamespace(number=block, timestamp=12 * block, logs_bloom=bloom, **hashes)

    def code(self, address: str, block: int | None = None) -> bytes:
        return b"code"

    def call(self, address: str, signature: str, *arguments: Any, block: int | None = None) -> Any:
        assert block is not None
        after = block >= BLOCK
        match signature.partition("(")[0], address:
            case "totalSupply", _ if address == VAULT:
                return self.supply[after]
            case "balanceOf", _ if address.lower() == USDC.lower():
                return self.cash[after]
            case "getAccessor", _ if address == VAULT:
                return self.accessor[after].lower()
        raise AssertionError(f"unexpected call {signature} of {address}")

    def calls(self) -> list[InvestorCall]:
        usdc = AssetIdentifier(chain_id=1, address=USDC.lower(), token_symbol="USDC", decimals=6)
        target = Target(
            kind="enzyme",
            chain_id=1,
            vault=VAULT,
            deployer=named("deployer"),
            holder=VAULT,
            reserve=usdc,
            feeds={usdc: named("feed")},
            dust={},
            interest_bound=0,
            start_block=0,
        )
        watch = Watch(Observer(self), target, BLOCK - 1)
        found = [call for block in range(BLOCK - 1, BLOCK + 2) if watch.concerns(block) for call in watch.read(block)]
        watch.check_unmoved(BLOCK + 1)
        return found

    def told(self) -> list[tuple[str, int]]:
        return [(call.owner, sum(raw for _, raw in call.moved)) for call in self.calls()]


def test_calls_of_one_transaction_are_told_apart():
    block = OneBlock([[*deposit(ALICE, 10, 10), *redemption(BOB, 4, 3), *deposit(BOB, 7, 8)]], (5, 19), (4, 18))
    assert [(ALICE, 10), (BOB, -3), (BOB, 7)] == block.told()
    assert [2, 5, 8] == [call.log_index for call in block.calls()]


def test_gift_in_the_transaction_of_a_deposit_is_no_part_of_it():
    gift = transfer(ALICE, VAULT, 5)
    assert [(ALICE, 10)] == OneBlock([[gift, *deposit(ALICE, 10, 10)]], (0, 15), (0, 10)).told()


def test_fee_on_transfer_is_not_the_vaults():
    logs = [transfer(ALICE, VAULT, 9), transfer(ALICE, FEES, 1), minted(ALICE, 10), bought(ALICE, 10, 10)]
    assert [(ALICE, 9)] == OneBlock([logs], (0, 9), (0, 10)).told()


def test_deposit_is_what_arrived_last_before_its_shares():
    logs = [transfer(BOB, VAULT, 4), transfer(ALICE, VAULT, 6), minted(ALICE, 10), bought(ALICE, 6, 10)]
    assert [(ALICE, 6)] == OneBlock([logs], (0, 10), (0, 10)).told()


def test_gift_between_shares_and_event_is_no_part_of_a_deposit():
    logs = [transfer(ALICE, VAULT, 6), minted(ALICE, 10), transfer(BOB, VAULT, 4), bought(ALICE, 6, 10)]
    assert [(ALICE, 6)] == OneBlock([logs], (0, 10), (0, 10)).told()


def test_what_one_call_brought_is_no_part_of_the_next():
    """Also if the next brings nothing: shares for nothing, with a deposit's event."""
    logs = [*deposit(ALICE, 6, 6), minted(FEES, 3), bought(FEES, 3, 3)]
    assert [(ALICE, 6)] == OneBlock([logs], (0, 6), (0, 9)).told()


def test_fee_shares_are_no_deposit():
    assert [] == OneBlock([[minted(FEES, 3)]], (5, 5), (4, 7)).told()
    assert [] == OneBlock([[minted(FEES, 3), bought(FEES, 3, 3)]], (5, 5), (4, 7)).told(), "with a deposit's event"


def test_fee_shares_within_a_deposit_are_not_its_own():
    logs = [transfer(ALICE, VAULT, 10), minted(FEES, 1), minted(ALICE, 10), bought(ALICE, 10, 10)]
    assert [(ALICE, 10)] == OneBlock([logs], (0, 10), (0, 11)).told()


def test_event_for_which_no_shares_were_minted_is_no_deposit():
    assert [] == OneBlock([[bought(ALICE, 10, 10)]], (5, 5), (4, 4)).told()
    gift = transfer(ALICE, VAULT, 10)
    assert [] == OneBlock([[gift, bought(ALICE, 10, 10)]], (5, 15), (4, 4)).told()


def test_trade_beside_fee_shares_is_no_hidden_deposit():
    trade = [transfer(VAULT, BOB, 2), transfer(BOB, VAULT, 3)]
    assert [] == OneBlock([[*trade, minted(FEES, 1)], [*trade, burned(FEES, 1)]], (5, 7), (4, 4)).told()


def test_replaced_accessor_ends_its_say_at_that_log():
    new = named("new accessor")
    early, late = bought(BOB, 1, 1, new), bought(BOB, 1, 1, ACCESSOR)
    logs = [early, *deposit(ALICE, 2, 2), accessor_set(new), late, *deposit(ALICE, 4, 4, new)]
    block = OneBlock([logs[:4], logs[4:]], (0, 6), (0, 6), accessor=(ACCESSOR, new))
    assert [(ALICE, 2), (ALICE, 4)] == block.told()


def test_shares_of_nothing_may_be_bought_and_nothing_redeemed():
    logs = [*deposit(ALICE, 3, 0), *redemption(ALICE, 0, 0)]
    assert [(ALICE, 3), (ALICE, 0)] == OneBlock([logs], (0, 3), (0, 0)).told()


def test_logs_of_others_are_none_of_ours():
    junk = {"address": BOB, "topics": [], "data": b""}
    strange = log(BOB, "Transfer(address,address,uint256)", [VAULT], ["uint256"], [1])
    other = [bought(ALICE, 1, 1, BOB), redeemed(ALICE, 1, 1, BOB), junk, strange]
    assert [(ALICE, 2)] == OneBlock([[*other, *deposit(ALICE, 2, 2)]], (0, 2), (0, 2)).told()


def test_block_in_which_only_others_act_is_not_read():
    block = OneBlock([[bought(ALICE, 1, 1, BOB)]], (0, 0), (0, 0))
    block.get_logs = None  # type: ignore[assignment, method-assign]
    assert [] == block.told()


@pytest.mark.parametrize(
    ("transactions", "cash", "supply", "text"),
    [
        ([deposit(ALICE, 10, 10)[:2]], (0, 10), (0, 10), "minted shares and paid assets in, and no event tells"),
        ([redemption(ALICE, 4, 4)[:2]], (9, 5), (9, 5), "burned shares and paid assets out, and no event tells"),
        ([redemption(ALICE, 4, 4)[:2], []], (9, 5), (9, 5), "burned shares and paid assets out, and no event tells"),
        ([redemption(ALICE, 4, 4)[1:]], (9, 5), (9, 9), "tells of 4 shares redeemed, and they were not burned"),
        ([[burned(ALICE, 4), redeemed(ALICE, 4, 4)]], (9, 9), (9, 5), "tells of 4 raw USDC paid out, and 0 left"),
        ([redemption(ALICE, 4, 4)[:1] * 2], (9, 9), (9, 5), "supply moved by -4 .* the logs tell of -8"),
        ([deposit(ALICE, 10, 10)], (0, 11), (0, 10), "USDC held moved by 11 in block 8, and the logs tell of 10"),
        (
            [deposit(ALICE, 10, 10)],
            (0, 10),
            (0, 12),
            "the share supply moved by 12 in block 8, and the logs tell of 10",
        ),
        ([], (0, 1), (0, 0), "the USDC held are 1 at block 9, and no log tells why not 0"),
        ([], (0, 0), (0, 1), "the share supply is 1 at block 9, and no log tells why not 0"),
    ],
)
def test_contradictions_are_refused(transactions, cash, supply, text):
    with pytest.raises(SyncRefused, match=text):
        OneBlock(transactions, cash, supply).calls()


def test_accessor_that_no_log_names_is_refused():
    with pytest.raises(SyncRefused, match="the vault's accessor at block 9 is one that no log names"):
        OneBlock([], (0, 0), (0, 0), accessor=(ACCESSOR, BOB)).calls()


def test_before_the_first_block_there_is_nothing():
    observer = Observer(OneBlock([], (7, 7), (7, 7)))
    assert (0, 0, None) == (observer.supply(VAULT, -1), observer.balance(USDC, VAULT, -1), observer.accessor(VAULT, -1))
