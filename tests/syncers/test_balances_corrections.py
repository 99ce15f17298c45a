"""The balances-first syncer bringing books to the chain: what is dust, where a difference goes, what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from harness.books import Books, copy_books, dump_books
from harness.books.records import AssetIdentifier, Position, Trade, TradingPair
from harness.errors import SyncRefused
from harness.judging import judge
from harness.scenario.loader import loads
from harness.session import Session
from harness.syncers.balances import BalancesSyncer
from harness.syncers.balances.correcting import Difference
from harness.syncers.protocol import Dust
from harness.world.play import play

HEADER = """
title: Corrections
tokens:
  USDC: {decimals: 6, usd: 1}
  WETH: {decimals: 18, usd: 1600, dust: {absolute: 0.001, relative: 0.0005}}
  aUSDC: {kind: index_rebase, underlying: USDC}
  vdUSDC: {kind: debt, underlying: USDC}
vault: {kind: enzyme, reserve: USDC}
steps:
  - deposit: {caller: alice, assets: 500}
"""
EVERYTHING = f"""{HEADER}
  - sync:
  - trade: {{sell: 100 USDC, buy: 0.0625 WETH}}
  - supply: {{assets: 100 USDC, into: aUSDC}}
  - supply: {{assets: 50 USDC, into: aUSDC, position: new}}
  - deposit: {{caller: bob, assets: 400}}
  - take: {{assets: 0.02 WETH}}
  - take: {{assets: 10 aUSDC}}
  - correct_accounts: {{end_block: head-1}}
  - correct_accounts:
  - correct_accounts:
  - sync:
  - sync_interest:
  - take: {{assets: all WETH}}
  - correct_accounts:
  - donate: {{caller: mallory, assets: 0.001 WETH}}
  - correct_accounts:
  - donate: {{caller: mallory, assets: 2 WETH}}
  - correct_accounts:
  - rebase: {{token: aUSDC, factor: 1.01}}
  - sync:
  - sync_interest:
  - take: {{assets: all aUSDC}}
  - correct_accounts:
  - donate: {{caller: mallory, assets: 2 aUSDC}}
  - correct_accounts:
  - correct_accounts: {{end_block: 5}}
    refused: treasury
  - deposit: {{caller: bob, assets: 4}}
  - sync:
"""
NEVER_HELD = f"""{HEADER}
  - correct_accounts:
  - donate: {{caller: mallory, assets: 2 WETH}}
  - donate: {{caller: mallory, assets: 2 aUSDC}}
  - correct_accounts:
  - rebase: {{token: aUSDC, factor: 1.01}}
  - sync:
  - sync_interest:
  - donate: {{caller: mallory, assets: 2 aUSDC}}
  - redeem: {{caller: alice, shares: 10%}}
  - correct_accounts:
"""
OWED = f"""{HEADER}
  - sync:
  - supply: {{assets: 100 USDC, into: aUSDC}}
  - borrow: {{assets: 40 USDC}}
  - accrue: {{token: vdUSDC, rate: 10%}}
  - wait: 30 days
  - mine: 1
  - correct_accounts:
  - take: {{assets: all aUSDC}}
  - correct_accounts:
  - accrue: {{token: vdUSDC, rate: 0}}
  - correct_accounts:
  - repay: {{assets: all}}
"""


@pytest.mark.parametrize("text", [EVERYTHING, NEVER_HELD, OWED], ids=["everything", "never held", "owed"])
def test_books_are_those_of_the_ledger(text):
    played = play(loads(text, "history.yaml"))
    points = list(Session(played, BalancesSyncer).points())
    assert [] == [broken.sentence for point in points for broken in judge(played, point).breaks]


WETH = AssetIdentifier(chain_id=1, address="0x" + "11" * 20, token_symbol="WETH", decimals=4)


@pytest.mark.parametrize(
    ("held", "booked", "absolute", "relative", "is_dust"),
    [
        (500, 0, "0.05", "0", True),
        (501, 0, "0.05", "0", False),
        (0, 501, "0.05", "0", False),
        (500, 400, "0.05", "0", True),
        (0, -600, "0.05", "0", False),
        (10_004, 10_000, "0", "0.0005", True),
        (10_006, 10_000, "0", "0.0005", False),
        (9_995, 10_000, "0", "0.0005", True),
        (100_500, 100_000, "0.1", "0.0005", False),
        (1, 0, "0", "0.5", False),
        (1, 0, "0", "0", False),
    ],
)
def test_dust_is_little_on_both_sides_or_little_beside_the_books(held, booked, absolute, relative, is_dust):
    dust = Dust(absolute=Decimal(absolute), relative=Decimal(relative))
    assert is_dust is Difference(asset=WETH, held=held, booked=booked, price=Fraction(1)).is_dust(dust)


class Correcting(BalancesSyncer):
    """Corrects other books than it is given, once, and remembers what it said."""

    said: str | None = None
    change: Any = None

    def correct_accounts(self, view: Any, books: Books) -> Books:
        changed = copy_books(books)
        type(self).change(self, changed)
        before = dump_books(changed)
        with pytest.raises(SyncRefused) as refused:
            super().correct_accounts(view, changed)
        assert before == dump_books(changed)
        type(self).said = str(refused.value)
        return super().correct_accounts(view, books)


def said_of(text: str, change: Any) -> str:
    kind = type("Changed", (Correcting,), {"change": change})
    points = list(Session(play(loads(text, "history.yaml")), kind).points())
    assert not any(point.failure for point in points), points
    return str(kind.said)


def spot(syncer: Any, **fields: Any) -> Position:
    assets = {asset.token_symbol: asset for asset in syncer._target.feeds}
    pair = TradingPair(base=assets["WETH"], quote=assets["USDC"], kind="spot_market_hold")
    return Position(position_id=9, pair=pair, **fields)


def test_pending_trade_is_waited_for():
    def change(syncer: Any, books: Books) -> None:
        books.portfolio.open_positions[9] = spot(syncer, trades=[Trade(trade_id=7)])

    assert said_of(f"{HEADER}  - correct_accounts:\n", change) == "trade 7 of position 9 is pending"


def test_debt_that_nobody_owes_is_refused_by_name():
    def change(syncer: Any, books: Books) -> None:
        position = next(iter(books.portfolio.open_positions.values()))
        assert position.loan is not None
        position.loan.borrowed = position.loan.borrowed_interest = None

    text = OWED.partition("  - take")[0]
    assert "40.330123 vdUSDC are owed on chain beyond the books, and no position owes any" == said_of(text, change)


def test_position_of_which_nothing_is_left_is_not_opened_again():
    """It was opened in a block that is gone, and all its trades with it: a new one is opened."""
    failed = Trade(
        trade_id=1, executed_at=datetime(2024, 1, 1), executed_quantity=Decimal(1), failed_at=datetime(2024, 1, 1)
    )

    class Void(BalancesSyncer):
        def correct_accounts(self, view: Any, books: Books) -> Books:
            books.portfolio.closed_positions[9] = spot(self, trades=[failed], closed_at=datetime(2024, 1, 1))
            books.portfolio.next_position_id = 10
            return super().correct_accounts(view, books)

    text = f"{HEADER}  - donate: {{caller: bob, assets: 2 WETH}}\n  - correct_accounts:\n"
    portfolio = list(Session(play(loads(text, "history.yaml")), Void).points())[-1].after.portfolio
    assert ([10], [9]) == (list(portfolio.open_positions), list(portfolio.closed_positions))


def test_assets_come_in_the_order_of_the_feeds():
    """Ids of the positions that are opened for them are compared."""

    class Turned(BalancesSyncer):
        def __init__(self, target: Any) -> None:
            super().__init__(replace(target, feeds=dict(reversed(target.feeds.items()))))

    def opened(kind: Any) -> list[str]:
        points = list(Session(play(loads(NEVER_HELD.partition("  - rebase")[0], "history.yaml")), kind).points())
        return [one.asset.token_symbol for _, one in sorted(points[-1].after.portfolio.open_positions.items())]

    assert (["WETH", "aUSDC"], ["aUSDC", "WETH"]) == (opened(BalancesSyncer), opened(Turned))
