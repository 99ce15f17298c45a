"""What really happened, block by block.

Everything in here comes from the calls that were sent and from state read before and after each of
them. No log is decoded: a transaction's log index is known because the i-th call of a block owns the i-th
mark (emitter and topic 0), which whoever fills the ledger looks up.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from harness.books.records import AssetIdentifier
from harness.errors import Location
from harness.units import PRICE_DECIMALS


def utc(timestamp: int) -> datetime:
    """Turn POSIX seconds into a naive UTC datetime, whatever the local zone."""
    return datetime.fromtimestamp(timestamp, tz=UTC).replace(tzinfo=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Who and what there is in a scenario's world; fixed once the vault is deployed."""

    kind: str
    chain_id: int
    vault: str
    """Checksummed, as all addresses here."""
    deployer: str
    holder: str
    second_vault: str
    assets: Mapping[str, AssetIdentifier]
    """By symbol."""
    feeds: Mapping[str, str]
    """Price feed by symbol."""
    dust_absolute: Mapping[str, Decimal]
    dust_relative: Mapping[str, Decimal]
    reserve: str
    """Symbol."""
    actors: Mapping[str, str]
    """Address by name."""
    interest_bound: Decimal
    vault_name: str
    vault_symbol: str
    share_decimals: int
    deployment_block: int
    deployment_transaction: str
    deployment_location: Location

    @property
    def reserve_asset(self) -> AssetIdentifier:
        """What deposits are made in."""
        return self.assets[self.reserve]

    def symbol_of(self, asset: AssetIdentifier) -> str | None:
        """The symbol of an asset by its address, or None for a token of no world of ours."""
        address = asset.address.lower()
        for symbol, known in self.assets.items():
            if known.address.lower() == address:
                return symbol
        return None

    def actor_of(self, address: str) -> str:
        """The name behind an address, or the address."""
        for name, known in self.actors.items():
            if known.lower() == address.lower():
                return name
        return address


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """What one flow moves of one asset: base units, positive into the vault."""

    symbol: str
    raw: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A deposit or redemption that happened. A redemption's legs stand in the order of payment, zero ones included."""

    cause: Literal["deposit", "redemption"]
    block: int
    transaction: str
    log_index: int
    owner: str
    """Who got the shares, or whose were burned; checksummed."""
    legs: tuple[Leg, ...]
    location: Location
    shares: int = 0
    """How the owner's shares changed with it, raw: what was minted, or, negative, burned. Read from state."""
    short: int = 0
    """Of a deposit: what was sent and did not arrive, a fee on the transfer; base units of the reserve."""

    @property
    def place(self) -> tuple[int, int]:
        """Where in the chain: block and log index."""
        return self.block, self.log_index


MoveKind = Literal["donated", "taken", "rounded", "rebase"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A change of the holder's balance that no treasury sync is meant to see. Base units, signed."""

    kind: MoveKind
    symbol: str
    raw: int
    block: int
    transaction: str
    location: Location


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareFee:
    """Shares that were minted for nothing, raw."""

    raw: int
    block: int
    transaction: str
    location: Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Traded:
    """What a manager step was to move of one asset: base units, positive into the holder."""

    symbol: str
    raw: int
    block: int
    transaction: str
    location: Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One transaction that was sent for a step."""

    hash: str
    block: int
    location: Location
    text: str
    """What it did, in words."""
    failed: str | None
    """The revert reason, if it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinedBlock:
    """A block's number, hash (0x text) and time."""

    number: int
    hash: str
    timestamp: int

    @property
    def mined_at(self) -> datetime:
        """Naive UTC."""
        return utc(self.timestamp)


@dataclass(slots=True)
class _Series:
    """A value that changes at some blocks."""

    blocks: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)

    def put(self, block: int, value: int) -> None:
        if self.blocks and self.blocks[-1] == block:
            self.values[-1] = value
        elif not self.values or self.values[-1] != value:
            self.blocks.append(block)
            self.values.append(value)

    def at(self, block: int) -> int:
        index = bisect.bisect_right(self.blocks, block)
        return self.values[index - 1] if index else 0

    def copy(self) -> _Series:
        return _Series(list(self.blocks), list(self.values))

    def cut(self, block: int) -> _Series:
        kept = bisect.bisect_right(self.blocks, block)
        return _Series(self.blocks[:kept], self.values[:kept])


class Ledger:
    """The truth. Grows while a scenario is played; every query names its block."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._blocks: list[MinedBlock] = []
        self._flows: list[Flow] = []
        self._moves: list[Move] = []
        self._traded: list[Traded] = []
        self._share_fees: list[ShareFee] = []
        self._transactions: list[Transaction] = []
        self._prices: dict[str, _Series] = {}
        self._balances: dict[str, _Series] = {}
        self._supply = _Series()

    def copy(self, setting: Setting) -> Ledger:
        """An independent copy in a setting of its own; the facts themselves are shared, they never change."""
        other = Ledger(setting)
        other._blocks = list(self._blocks)
        other._flows = list(self._flows)
        other._moves = list(self._moves)
        other._traded = list(self._traded)
        other._share_fees = list(self._share_fees)
        other._transactions = list(self._transactions)
        other._prices = {symbol: series.copy() for symbol, series in self._prices.items()}
        other._balances = {symbol: series.copy() for symbol, series in self._balances.items()}
        other._supply = self._supply.copy()
        return other

    def cut(self, block: int) -> Ledger:
        """What is left of it when every block above one is replaced: an independent copy."""
        other = Ledger(self.setting)
        other._blocks = self._blocks[: block + 1]
        other._flows = [flow for flow in self._flows if flow.block <= block]
        other._moves = [move for move in self._moves if move.block <= block]
        other._traded = [traded for traded in self._traded if traded.block <= block]
        other._share_fees = [fee for fee in self._share_fees if fee.block <= block]
        other._transactions = [transaction for transaction in self._transactions if transaction.block <= block]
        other._prices = {symbol: series.cut(block) for symbol, series in self._prices.items()}
        other._balances = {symbol: series.cut(block) for symbol, series in self._balances.items()}
        other._supply = self._supply.cut(block)
        return other

    # -- writing

    def add_block(self, block: MinedBlock) -> None:
        """Append the next block (0 is genesis).

        Raises:
            ValueError: If it is not the next one.
        """
        if block.number != len(self._blocks):
            raise ValueError(f"block {block.number} does not follow block {len(self._blocks) - 1}")
        self._blocks.append(block)

    def add_flow(self, flow: Flow) -> None:
        """Append a deposit or redemption; they come in chain order."""
        if self._flows and self._flows[-1].place >= flow.place:
            raise ValueError(f"flow at {flow.place} does not follow {self._flows[-1].place}")
        self._flows.append(flow)

    def add_move(self, move: Move) -> None:
        """Append an unseen move; a move of nothing is none."""
        if move.raw:
            self._moves.append(move)

    def add_traded(self, traded: Traded) -> None:
        """Append what a manager step moves of one asset; nothing is not noted."""
        if traded.raw:
            self._traded.append(traded)

    def add_share_fee(self, fee: ShareFee) -> None:
        """Append a fee that was paid by minting shares."""
        self._share_fees.append(fee)

    def add_transaction(self, transaction: Transaction) -> None:
        """Append a transaction."""
        self._transactions.append(transaction)

    def set_price(self, symbol: str, block: int, price_raw: int) -> None:
        """Note a feed's answer from a block on (USD, 8 decimals)."""
        self._prices.setdefault(symbol, _Series()).put(block, price_raw)

    def set_balance(self, symbol: str, block: int, raw: int) -> None:
        """Note the holder's balance from a block on."""
        self._balances.setdefault(symbol, _Series()).put(block, raw)

    def set_supply(self, block: int, raw: int) -> None:
        """Note the share supply from a block on."""
        self._supply.put(block, raw)

    # -- reading

    @property
    def head(self) -> int:
        """The newest block."""
        return len(self._blocks) - 1

    @property
    def blocks(self) -> tuple[MinedBlock, ...]:
        """Every block, in order."""
        return tuple(self._blocks)

    @property
    def flows(self) -> tuple[Flow, ...]:
        """Every flow, in chain order."""
        return tuple(self._flows)

    @property
    def moves(self) -> tuple[Move, ...]:
        """Every unseen move, in chain order."""
        return tuple(self._moves)

    @property
    def traded(self) -> tuple[Traded, ...]:
        """What manager steps moved, in chain order."""
        return tuple(self._traded)

    @property
    def share_fees(self) -> tuple[ShareFee, ...]:
        """Every fee paid by minting shares, in chain order."""
        return tuple(self._share_fees)

    @property
    def transactions(self) -> tuple[Transaction, ...]:
        """Every transaction sent for a step, in chain order."""
        return tuple(self._transactions)

    def block(self, number: int) -> MinedBlock:
        """The block of a number."""
        return self._blocks[number]

    def mined_at(self, number: int) -> datetime:
        """A block's time, naive UTC."""
        return self._blocks[number].mined_at

    def flows_between(self, start_block: int, end_block: int) -> Iterator[Flow]:
        """Flows of a range of blocks, both ends included."""
        first = bisect.bisect_left(self._flows, (start_block, -1), key=lambda flow: flow.place)
        for flow in self._flows[first:]:
            if flow.block > end_block:
                return
            yield flow

    def moves_between(self, symbol: str, start_block: int, end_block: int) -> Iterator[Move]:
        """Unseen moves of an asset in a range of blocks, both ends included."""
        return (move for move in self._moves if move.symbol == symbol and start_block <= move.block <= end_block)

    def balance(self, symbol: str, block: int) -> int:
        """The holder's balance at the end of a block, base units."""
        series = self._balances.get(symbol)
        return series.at(block) if series else 0

    def supply(self, block: int) -> int:
        """The share supply at the end of a block."""
        return self._supply.at(block)

    def price(self, symbol: str, block: int) -> Fraction:
        """USD per token at the end of a block."""
        return Fraction(self.price_raw(symbol, block), 10**PRICE_DECIMALS)

    def price_raw(self, symbol: str, block: int) -> int:
        """A feed's answer at the end of a block (8 decimals)."""
        return self._prices[symbol].at(block)

    def price_blocks(self, symbol: str) -> tuple[int, ...]:
        """The blocks at whose end a feed's answer is another than before them, the first one included."""
        return tuple(self._prices[symbol].blocks)

    def worth(self, symbol: str, raw: int, block: int) -> Fraction:
        """USD that base units of an asset are worth at the end of a block, exact."""
        return Fraction(raw, 10 ** self.setting.assets[symbol].decimals) * self.price(symbol, block)

    def held_symbols(self) -> Iterable[str]:
        """Assets that the holder ever had, in the world's order."""
        return [
            symbol for symbol in self.setting.assets if symbol in self._balances and any(self._balances[symbol].values)
        ]
