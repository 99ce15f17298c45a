"""A ledger written by hand, and books kept by it: everything that tests of bookkeeping and comparison start from.

Blocks are ten seconds apart; block 2 deploys the vault. Quantities are base units: USDC, aUSDC and its debt token dUSDC
(both of USDC) have 6 decimals, WETH 18.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from harness.books import BookedTrade, Books, TradeKind
from harness.books.records import AssetIdentifier, BalanceUpdate
from harness.errors import Location
from harness.ledger.bookkeeping import Operation, OperationKind, Refusal
from harness.ledger.facts import Flow, Ledger, Leg, MinedBlock, Move, MoveKind, Setting, utc
from harness.ledger.foretelling import Foreteller
from harness.reconcile.compare import entries

GENESIS = 1_704_067_200
BLOCK_SECONDS = 10
CHAIN_ID = 1337
DEPLOYED = 2


def address(name: str) -> str:
    """Any address, not checksummed: nobody looks."""
    return "0x" + hashlib.sha256(name.encode()).hexdigest()[:40]


def asset(
    symbol: str, decimals: int, underlying: AssetIdentifier | None = None, type: str | None = None
) -> AssetIdentifier:
    return AssetIdentifier(
        chain_id=CHAIN_ID,
        address=address(symbol),
        token_symbol=symbol,
        decimals=decimals,
        type=type,
        underlying=underlying,
    )


USDC = asset("USDC", 6)
AUSDC = asset("aUSDC", 6, USDC)
WETH = asset("WETH", 18)
DUSDC = asset("dUSDC", 6, USDC, "borrowed")
ASSETS = {"USDC": USDC, "aUSDC": AUSDC, "WETH": WETH, "dUSDC": DUSDC}


def place(line: int) -> Location:
    return Location(file="hand.yaml", line=line, column=5)


def setting(**changes: Any) -> Setting:
    fields: dict[str, Any] = {
        "kind": "enzyme",
        "chain_id": CHAIN_ID,
        "vault": "0xVault",
        "deployer": "0xDeployer",
        "holder": "0xVault",
        "second_vault": "0xSecond",
        "assets": ASSETS,
        "feeds": {symbol: f"0xFeed{symbol}" for symbol in ASSETS},
        "dust_absolute": dict.fromkeys(ASSETS, Decimal(0)),
        "dust_relative": dict.fromkeys(ASSETS, Decimal(0)),
        "reserve": "USDC",
        "actors": {"alice": "0xA11CE", "bob": "0xB0B"},
        "interest_bound": Decimal("0.05"),
        "vault_name": "Example Fund",
        "vault_symbol": "EXAMPLE",
        "share_decimals": 18,
        "deployment_block": DEPLOYED,
        "deployment_transaction": "0xdeploy",
        "deployment_location": place(1),
    }
    return Setting(**(fields | changes))


class Hand:
    """Writes a ledger block by block and keeps the ledger's books; ``line`` is the last step's."""

    def __init__(self, **changes: Any) -> None:
        self.ledger = Ledger(setting(**changes))
        self.balances = dict.fromkeys(ASSETS, 0)
        self.line = 10
        self._logs = 0
        self._branch = ""
        for symbol, usd in (("USDC", 1), ("aUSDC", 1), ("WETH", 1600), ("dUSDC", 1)):
            self.ledger.set_price(symbol, 0, usd * 10**8)
        for _ in range(DEPLOYED + 1):
            self.block()
        self.foreteller = Foreteller()
        self._operate("initialise")
        self.opening = self.books
        """The books at some earlier sync point, for what compares two."""

    @property
    def books(self) -> Books:
        return self.foreteller.books

    @books.setter
    def books(self, books: Books) -> None:
        self.foreteller.books = books

    # -- writing

    def block(self, seconds: int = 0) -> int:
        """Mine the next block, so many seconds later than usual."""
        number = self.ledger.head + 1
        before = self.ledger.block(number - 1).timestamp if number else GENESIS - BLOCK_SECONDS
        self.ledger.add_block(
            MinedBlock(number=number, hash=f"0x{number:064x}", timestamp=before + BLOCK_SECONDS + seconds)
        )
        self._logs = 0
        return number

    def _moved(self, symbol: str, raw: int) -> None:
        self.balances[symbol] += raw
        self.ledger.set_balance(symbol, self.ledger.head, self.balances[symbol])

    def flow(
        self, cause: Literal["deposit", "redemption"], legs: Sequence[tuple[str, int]], owner: str = "0xA11CE"
    ) -> Flow:
        """A flow in the newest block; legs are signed."""
        self.line += 1
        self._logs += 3
        head = self.ledger.head
        flow = Flow(
            cause=cause,
            block=head,
            transaction=f"0x{head:02x}{self._logs:02x}{self._branch}",
            log_index=self._logs,
            owner=owner,
            legs=tuple(Leg(symbol=symbol, raw=raw) for symbol, raw in legs),
            location=place(self.line),
        )
        self.ledger.add_flow(flow)
        for symbol, raw in legs:
            self._moved(symbol, raw)
        return flow

    def deposit(self, raw: int, owner: str = "0xA11CE") -> Flow:
        self.block()
        return self.flow("deposit", [("USDC", raw)], owner)

    def redeem(self, *legs: tuple[str, int], owner: str = "0xA11CE") -> Flow:
        """Legs as they are paid, unsigned."""
        self.block()
        return self.flow("redemption", [(symbol, -raw) for symbol, raw in legs], owner)

    def move(self, kind: MoveKind, symbol: str, raw: int) -> None:
        """Something that no treasury sync sees, in a block of its own."""
        self.line += 1
        head = self.block()
        self.ledger.add_move(
            Move(
                kind=kind,
                symbol=symbol,
                raw=raw,
                block=head,
                transaction=f"0x{head:02x}ff{self._branch}",
                location=place(self.line),
            )
        )
        self._moved(symbol, raw)

    def rebase(self, symbol: str, raw: int) -> None:
        self.move("rebase", symbol, raw)

    def trade(
        self, asset: AssetIdentifier, quantity: int, reserve: int, position: int | Literal["new"] | None = None
    ) -> BookedTrade:
        """A trade in a block of its own, booked into the ledger's books; signed as the balances move."""
        credit = asset.is_rebase()
        kind: TradeKind = ("supply" if quantity > 0 else "unsupply") if credit else "trade"
        return self._book(kind, asset, quantity, reserve, position)

    def borrow(self, raw: int, position: int | None = None) -> BookedTrade:
        """Borrow, or, below zero, pay back."""
        return self._book("borrow" if raw > 0 else "repay", DUSDC, raw, raw, position)

    def close(self, position: int, paid: int) -> BookedTrade:
        """Close a credit position: so much comes back."""
        tracked = self.books.portfolio.open_positions[position].quantity_raw
        return self._book("close", AUSDC, -tracked, paid, position)

    def _book(
        self,
        kind: TradeKind,
        asset: AssetIdentifier,
        quantity: int,
        reserve: int,
        position: int | Literal["new"] | None,
    ) -> BookedTrade:
        block = self.block()
        self._moved(asset.token_symbol, quantity)
        self._moved("USDC", reserve)
        trade = BookedTrade(
            kind=kind,
            asset=asset,
            reserve=USDC,
            quantity_raw=quantity,
            reserve_raw=reserve,
            position=position,
            executed_at=utc(self.ledger.block(block).timestamp),
            block_number=block,
            tx_hash=f"0x{block:02x}aa{self._branch}",
            price=Fraction(1),
        )
        self.foreteller.book(trade)
        return trade

    def reorganise(self, common: int) -> None:
        """Replace every block above one; the next block is the new branch's first."""
        self.foreteller.reorganise(common, self.time(self.ledger.head))
        self.ledger = self.ledger.cut(common)
        self.balances = {symbol: self.ledger.balance(symbol, common) for symbol in ASSETS}
        self._branch += "~"

    # -- syncing

    def operation(self, kind: OperationKind, **changes: Any) -> Operation:
        head = self.ledger.head
        fields: dict[str, Any] = {
            "kind": kind,
            "location": place(self.line),
            "end_block": head,
            "head": head,
            "chain_id": CHAIN_ID,
            "vault": self.ledger.setting.vault,
        }
        if kind == "sync":
            fields["cycle"] = self.time(min(changes.get("end_block", head), self.ledger.head))
        return Operation(**(fields | changes))

    def answer(self, kind: OperationKind, **changes: Any) -> Books | Refusal:
        """What must come of an operation; the ledger's books stay as they are."""
        return self.foreteller.copy().operate(self.ledger, self.operation(kind, **changes))

    def expected(self, kind: OperationKind, **changes: Any) -> Books:
        answer = self.answer(kind, **changes)
        assert isinstance(answer, Books), answer
        return answer

    def _operate(self, kind: OperationKind, **changes: Any) -> Books:
        answer = self.foreteller.operate(self.ledger, self.operation(kind, **changes))
        assert isinstance(answer, Books), answer
        return answer

    def sync(self, **changes: Any) -> Books:
        return self._operate("sync", **changes)

    def sync_interest(self, **changes: Any) -> Books:
        return self._operate("sync_interest", **changes)

    def correct(self, **changes: Any) -> Books:
        return self._operate("correct_accounts", **changes)

    def refusal(self, kind: OperationKind, **changes: Any) -> str:
        answer = self.answer(kind, **changes)
        assert isinstance(answer, Refusal), "not refused"
        return answer.reason

    # -- reading

    def time(self, block: int) -> datetime:
        return self.ledger.mined_at(block)

    def updates(self) -> list[BalanceUpdate]:
        return [entry.update for entry in entries(self.books)]

    def figures(self) -> list[tuple[str, int | None, Decimal]]:
        """Cause, position and quantity of each update."""
        return [(str(one.cause), one.position_id, one.quantity) for one in self.updates()]


def full_history() -> Hand:
    """Something of everything: deposits, trades, credit positions, a redemption in kind, a rebase, an interest sync."""
    hand = Hand()
    hand.deposit(1_000_000_000)
    hand.opening = hand.sync()
    hand.trade(WETH, 10**17, -160_000_000)
    hand.trade(AUSDC, 300_000_000, -300_000_000)
    hand.trade(AUSDC, 100_000_000, -100_000_000, "new")
    hand.trade(WETH, 10**16, -16_000_000, "new")
    hand.trade(WETH, -(10**16), 16_000_000, 4)
    hand.block()
    hand.flow("deposit", [("USDC", 7_000_000)], "0xB0B")
    hand.flow("redemption", [("USDC", -44_700_000), ("aUSDC", -40_000_000), ("WETH", -(10**16))])
    hand.rebase("aUSDC", 3_600_001)
    hand.sync()
    hand.sync_interest()
    return hand


def prices(hand: Hand, usd: Mapping[str, str]) -> None:
    """Set prices from the newest block on."""
    for symbol, price in usd.items():
        hand.ledger.set_price(symbol, hand.ledger.head, int(Decimal(price) * 10**8))
