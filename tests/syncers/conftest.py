"""A vault's history in memory: logs, balances, prices and headers, without any chain."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from eth_abi import encode
from eth_bloom import BloomFilter
from eth_utils import keccak, to_canonical_address, to_checksum_address
from rlp import encode as rlp_encode
from trie import HexaryTrie

from harness.books import BookedTrade, Books, book_trade, dump_books, load_books
from harness.books.records import AssetIdentifier, BalanceUpdate
from harness.syncers import Dust, Syncer, Target, find_syncer

CHAIN_ID = 1337
GENESIS = datetime(2024, 1, 1, tzinfo=UTC)
BLOCK_TIME = 12
DEPLOYED = 2
NOBODY = "0x" + "00" * 20


def address(name: str) -> str:
    return to_checksum_address(hashlib.sha256(name.encode()).digest()[:20])


def topic(value: str) -> bytes:
    return bytes.fromhex(value[2:].rjust(64, "0"))


def asset(symbol: str, decimals: int, underlying: AssetIdentifier | None = None) -> AssetIdentifier:
    return AssetIdentifier(
        chain_id=CHAIN_ID, address=address(symbol), token_symbol=symbol, decimals=decimals, underlying=underlying
    )


@dataclass(frozen=True)
class FakeHeader:
    number: int
    hash: bytes
    timestamp: int
    parent_hash: bytes = b""
    logs_bloom: bytes = b""
    receipts_root: bytes = b""


@dataclass(frozen=True)
class RawLog:
    address: str
    topics: tuple[bytes, ...]
    data: bytes


def event(emitter: str, signature: str, indexed: Sequence[str], types: Sequence[str], values: Sequence[Any]) -> RawLog:
    return RawLog(emitter, (keccak(text=signature), *(topic(one) for one in indexed)), encode(types, values))


@dataclass
class FakeView:
    world: World
    end_block: int
    head: int
    now: datetime
    chunk: int | None
    calls: Counter[str]
    spoil: Any = None
    """What a test does to the log receipts of a `get_logs`."""

    @property
    def web3(self) -> FakeWeb3:
        return FakeWeb3(self)

    def get_logs(self, addresses: Any, topics: Any, start_block: int, end_block: int) -> list[Any]:
        self.calls["get_logs"] += 1
        assert 0 <= start_block <= end_block <= self.end_block
        assert self.chunk is None or end_block - start_block < self.chunk
        listed = [addresses] if isinstance(addresses, str) else addresses
        found = [
            receipt
            for block in range(start_block, end_block + 1)
            for receipt in self.world.logs.get(block, ())
            if (listed is None or receipt["address"] in listed) and _matches(receipt["topics"], topics or [])
        ]
        return self.spoil(found) if self.spoil else found

    def call(self, address: str, signature: str, *arguments: Any, block: int | None = None) -> Any:
        self.calls[signature.partition("(")[0]] += 1
        block = self.end_block if block is None else block
        assert block <= self.end_block
        return self.world.answer(address, signature, arguments, block)

    def header(self, block: int) -> FakeHeader:
        self.calls["header"] += 1
        assert block <= max(self.end_block, self.head)
        return self.world.headers[block]

    def code(self, address: str, block: int | None = None) -> bytes:
        return b""


@dataclass
class FakeWeb3:
    """Knows receipts, and nothing else."""

    view: FakeView

    @property
    def provider(self) -> FakeWeb3:
        return self

    def make_request(self, method: str, params: list[str]) -> dict[str, Any]:
        assert method == "eth_getBlockReceipts"
        self.view.calls["receipts"] += 1
        return {"jsonrpc": "2.0", "id": 1, "result": self.view.world.receipts(int(params[0], 16))}


def _matches(topics: Sequence[bytes], wanted: Sequence[Any]) -> bool:
    for at, want in enumerate(wanted):
        options = want if isinstance(want, list) else [want]
        if want is not None and (at >= len(topics) or "0x" + topics[at].hex() not in options):
            return False
    return True


@dataclass
class World:
    """A vault whose blocks a test writes by hand. Quantities are base units."""

    kind: str
    usdc: AssetIdentifier = field(default_factory=lambda: asset("USDC", 6))
    vault: str = address("vault")
    accessor: str = address("comptroller")
    deployer: str = address("deployer")
    other_vault: str = address("other vault")
    other_accessor: str = address("other comptroller")
    start_block: int = DEPLOYED
    bound: Decimal = Decimal("0.05")
    salt: str = ""

    def __post_init__(self) -> None:
        self.ausdc = asset("aUSDC", 6, underlying=self.usdc)
        self.weth = asset("WETH", 18)
        self.reserve = self.usdc
        self.dust: dict[AssetIdentifier, Dust] = {}
        self.headers: dict[int, FakeHeader] = {}
        self.logs: dict[int, list[dict[str, Any]]] = {}
        self.sizes: dict[int, list[int]] = {}
        """How many logs each transaction of a block has."""
        self.balances: Counter[tuple[str, str]] = Counter()
        self.prices = {"USDC": 10**8, "aUSDC": 10**8, "WETH": 1600 * 10**8}
        self.rounds = {symbol: (1, int(GENESIS.timestamp())) for symbol in self.prices}
        self.states: list[Any] = []
        self.operations = 0
        self.wait = 0
        self.block()
        self.block()
        self.block(self.deployment())

    def deployment(self) -> list[RawLog]:
        return {"enzyme": self._new_funds, "erc4626": self._new_vaults}[self.kind]()

    def _new_funds(self) -> list[RawLog]:
        signature, types = "NewFundCreated(address,address,address)", ["address", "address"]
        return [
            event(self.deployer, signature, [address("else")], types, [self.other_vault, self.other_accessor]),
            event(self.vault, "AccessorSet(address,address)", [], types, [address("none"), self.accessor]),
            event(self.deployer, signature, [address("owner")], types, [self.vault, self.accessor]),
        ]

    def _new_vaults(self) -> list[RawLog]:
        signature = "VaultCreated(address,address)"
        return [
            event(self.deployer, signature, [address("owner")], ["address"], [vault])
            for vault in (self.other_vault, self.vault)
        ]

    # -- writing history

    def block(self, *transactions: list[RawLog]) -> int:
        """Mine a block of transactions, each a list of logs; gives its number."""
        number = len(self.headers)
        parent = self.headers[number - 1].timestamp if number else int(GENESIS.timestamp()) - BLOCK_TIME
        digest = hashlib.sha256(f"{number} {self.salt}".encode()).digest()
        receipts: list[dict[str, Any]] = []
        for at, transaction in enumerate(transactions):
            for log in transaction:
                receipts.append(
                    {
                        "address": log.address,
                        "topics": list(log.topics),
                        "data": log.data,
                        "blockNumber": number,
                        "blockHash": digest,
                        "logIndex": len(receipts),
                        "transactionHash": hashlib.sha256(f"{number}/{at}".encode()).digest(),
                        "removed": False,
                    }
                )
        self.logs[number] = receipts
        self.sizes[number] = [len(transaction) for transaction in transactions]
        bloom = BloomFilter()
        for log in receipts:
            bloom.extend([to_canonical_address(log["address"]), *log["topics"]])
        self.headers[number] = FakeHeader(
            number=number,
            hash=digest,
            timestamp=parent + BLOCK_TIME + self.wait,
            parent_hash=self.headers[number - 1].hash if number else b"",
            logs_bloom=int(bloom).to_bytes(256, "big"),
            receipts_root=self._receipts_root(number),
        )
        self.wait = 0
        self.states.append((copy.copy(self.balances), dict(self.prices), dict(self.rounds), self.accessor))
        return number

    def fork(self, first: int) -> None:
        """Forget the blocks from this one on; those that are mined now are another branch's."""
        for block in range(first, len(self.headers)):
            del self.headers[block], self.logs[block], self.sizes[block]
        del self.states[first:]
        balances, prices, rounds, self.accessor = self.states[-1]
        self.balances, self.prices, self.rounds = copy.copy(balances), dict(prices), dict(rounds)
        self.salt += "'"

    def receipts(self, number: int) -> list[dict[str, Any]]:
        """A block's receipts as JSON; the first is of a typed transaction."""
        logs, found = iter(self.logs[number]), []
        for at, size in enumerate(self.sizes[number]):
            own = [next(logs) for _ in range(size)]
            found.append(
                {
                    "status": "0x1",
                    "cumulativeGasUsed": hex(21_000 * (at + 1)),
                    "logsBloom": "0x" + "00" * 256,
                    "type": "0x0" if at else "0x2",
                    "transactionHash": "0x" + hashlib.sha256(f"{number}/{at}".encode()).hexdigest(),
                    "logs": [
                        {
                            "address": log["address"].lower(),
                            "topics": ["0x" + one.hex() for one in log["topics"]],
                            "data": "0x" + log["data"].hex(),
                        }
                        for log in own
                    ],
                }
            )
        return found

    def _receipts_root(self, number: int) -> bytes:
        tree, logs = HexaryTrie({}), iter(self.logs[number])
        for at, size in enumerate(self.sizes[number]):
            own = [next(logs) for _ in range(size)]
            listed = [[to_canonical_address(one["address"]), one["topics"], one["data"]] for one in own]
            body = rlp_encode([1, 21_000 * (at + 1), bytes(256), listed])
            tree[rlp_encode(at)] = body if at else b"\x02" + body
        return bytes(tree.root_hash)

    def blocks(self, count: int) -> None:
        for _ in range(count):
            self.block()

    def transfer(self, token: AssetIdentifier, sender: str, receiver: str, raw: int) -> RawLog:
        self.balances[token.address, sender] -= raw
        self.balances[token.address, receiver] += raw
        return event(token.address, "Transfer(address,address,uint256)", [sender, receiver], ["uint256"], [raw])

    def deposit(self, raw: int, payer: str = "alice", owner: str | None = None, fee: int = 0) -> list[RawLog]:
        payer_address, owner_address = address(payer), address(owner or payer)
        moved = [self.transfer(self.reserve, payer_address, self.vault, raw - fee)] if raw else []
        if fee:
            moved.append(self.transfer(self.reserve, payer_address, address("fees"), fee))
        return [*moved, *self.shares(raw, owner_address), self.deposit_event(raw, payer_address, owner_address)]

    def shares(self, raw: int, owner: str) -> list[RawLog]:
        """Shares minted to an owner; burned if there are less than none."""
        self.balances["supply", self.vault] += raw
        parties = [NOBODY, owner] if raw >= 0 else [owner, NOBODY]
        return [event(self.vault, "Transfer(address,address,uint256)", parties, ["uint256"], [abs(raw)])]

    def deposit_event(self, raw: int, payer: str, owner: str, accessor: str | None = None) -> RawLog:
        if self.kind == "enzyme":
            signature, emitter = "SharesBought(address,uint256,uint256,uint256)", accessor or self.accessor
            return event(emitter, signature, [owner], ["uint256"] * 3, [raw, raw, raw])
        signature = "Deposit(address,address,uint256,uint256)"
        return event(self.vault, signature, [payer, owner], ["uint256"] * 2, [raw, raw])

    def redeem(
        self, legs: Sequence[tuple[AssetIdentifier, int]], owner: str = "alice", receiver: str | None = None
    ) -> list[RawLog]:
        owner_address, receiver_address = address(owner), address(receiver or owner)
        moved = self.shares(-1, owner_address)
        moved += [self.transfer(token, self.vault, receiver_address, raw) for token, raw in legs if raw]
        if self.kind == "enzyme":
            signature = "SharesRedeemed(address,address,uint256,address[],uint256[])"
            types, values = (
                ["uint256", "address[]", "uint256[]"],
                [1, [one.address for one, _ in legs], [r for _, r in legs]],
            )
            return [*moved, event(self.accessor, signature, [owner_address, receiver_address], types, values)]
        signature = "Withdraw(address,address,address,uint256,uint256)"
        indexed = [owner_address, receiver_address, owner_address]
        return [*moved, event(self.vault, signature, indexed, ["uint256"] * 2, [legs[0][1], legs[0][1]])]

    def foreign(self) -> list[RawLog]:
        """A deposit into and a redemption from another vault of the same deployer."""
        mine = self.vault, self.accessor
        self.vault, self.accessor = self.other_vault, self.other_accessor
        logs = [*self.deposit(7_000_000, "eve"), *self.redeem([(self.reserve, 3_000_000)], "eve")]
        self.vault, self.accessor = mine
        return logs

    def replace_accessor(self) -> list[RawLog]:
        old, self.accessor = self.accessor, address("comptroller 2")
        return [event(self.vault, "AccessorSet(address,address)", [], ["address"] * 2, [old, self.accessor])]

    def price(self, symbol: str, raw: int) -> None:
        """Set a price in the next block."""
        self.prices[symbol] = raw
        at = self.headers[len(self.headers) - 1].timestamp + BLOCK_TIME + self.wait
        self.rounds[symbol] = (self.rounds[symbol][0] + 1, at)

    def rebase(self, token: AssetIdentifier, raw: int) -> None:
        self.balances[token.address, self.vault] += raw

    # -- reading it

    def answer(self, to: str, signature: str, arguments: Sequence[Any], block: int) -> Any:
        balances, prices, rounds, accessor = self.states[block]
        match signature.partition("(")[0]:
            case "name":
                return "Example Fund"
            case "symbol":
                return "EXAMPLE"
            case "getAccessor":
                return accessor.lower()
            case "totalSupply":
                return balances["supply", to]
            case "balanceOf":
                return balances[to, arguments[0]]
            case "latestRoundData":
                symbol = next(symbol for symbol in prices if address(f"feed {symbol}") == to)
                round_id, updated_at = rounds[symbol]
                return round_id, prices[symbol], updated_at, updated_at, round_id
        raise AssertionError(f"unexpected call {signature} of {to}")

    @property
    def target(self) -> Target:
        tokens = (self.usdc, self.ausdc, self.weth)
        return Target(
            kind=self.kind,
            chain_id=CHAIN_ID,
            vault=self.vault,
            deployer=self.deployer,
            holder=self.vault,
            reserve=self.reserve,
            feeds={token: address(f"feed {token.token_symbol}") for token in tokens},
            dust={token: self.dust.get(token, Dust()) for token in tokens},
            interest_bound=self.bound,
            start_block=self.start_block,
        )

    @property
    def head(self) -> int:
        return len(self.headers) - 1

    def view(self, end_block: int | None = None, chunk: int | None = None, head: int | None = None) -> FakeView:
        self.operations += 1
        return FakeView(
            world=self,
            end_block=self.head if end_block is None else end_block,
            head=self.head if head is None else head,
            now=datetime(2030, 1, 1) + timedelta(seconds=self.operations),
            chunk=chunk,
            calls=Counter(),
        )

    def time(self, block: int) -> datetime:
        return datetime.fromtimestamp(self.headers[block].timestamp, tz=UTC).replace(tzinfo=None)

    def syncer(self, name: str = "reference") -> Syncer:
        return find_syncer(name)(self.target)

    def initialised(self, syncer: Syncer | None = None) -> Books:
        return (syncer or self.syncer()).initialise(self.view(), Books())

    def synced(self, books: Books | None = None, syncer: Syncer | None = None, **view: Any) -> Books:
        """Books after a treasury sync by a fresh syncer, cycle as by default; through JSON on the way in."""
        one = syncer or self.syncer()
        books = load_books(dump_books(books)) if books is not None else self.initialised(syncer)
        pinned = self.view(**view)
        at = self.time(pinned.end_block)
        return one.sync_treasury(pinned, books, max(at, books.sync.treasury.last_cycle_at or at))

    def interest(self, books: Books, syncer: Syncer | None = None, **view: Any) -> Books:
        one = syncer or self.syncer()
        return one.sync_interest(self.view(**view), load_books(dump_books(books)))

    # -- trading

    def supplied(
        self, books: Books, raw: int, *, token: AssetIdentifier | None = None, paid: int, new: bool = True
    ) -> Books:
        """Mine the purchase of so many base units of a token and book it as the executor does."""
        token = token or self.ausdc
        pool = address("pool")
        moved = [self.transfer(self.reserve, self.vault, pool, paid), self.transfer(token, pool, self.vault, raw)]
        block = self.block(moved)
        trade = BookedTrade(
            kind="supply" if token.is_rebase() else "trade",
            asset=token,
            quantity_raw=raw,
            reserve=self.reserve,
            reserve_raw=-paid,
            position="new" if new else None,
            price=Fraction(self.prices[token.token_symbol], 10**8),
            executed_at=self.time(block),
            block_number=block,
            tx_hash="0x" + "77" * 32,
        )
        return book_trade(books, trade)


@pytest.fixture
def enzyme() -> World:
    return World("enzyme")


@pytest.fixture
def erc4626() -> World:
    return World("erc4626")


@pytest.fixture(params=["enzyme", "erc4626"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def all_updates(books: Books) -> list[BalanceUpdate]:
    holders = [*books.portfolio.reserves.values(), *books.portfolio.open_positions.values()]
    return sorted(
        (update for holder in holders for update in holder.balance_updates.values()),
        key=lambda update: update.balance_update_id,
    )


@pytest.fixture
def updates() -> Any:
    """All balance updates of some books, in id order."""
    return all_updates


@pytest.fixture
def who() -> Any:
    """The address of a name."""
    return address
