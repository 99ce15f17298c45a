"""What every operation of the reference syncer needs: the operation under way, prices and times, how to book.

Small methods are steps that a syncer can get wrong; ``harness.syncers.broken`` overrides one at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from harness.books.records import AssetIdentifier, BalanceEventRef, BalanceUpdate, BalanceUpdateCause, Books
from harness.errors import SyncRefused
from harness.syncers.protocol import ChainView, Target
from harness.syncers.reference.arithmetic import worth
from harness.syncers.reference.decoding import Log, checksum
from harness.syncers.reference.holdings import Holding, Holdings
from harness.syncers.reference.reading import Reader, utc
from harness.units import to_decimal, usd_float


@dataclass(slots=True, kw_only=True)
class Work:
    """One operation under way: the copy it writes into, and what it has read so far."""

    view: ChainView
    reader: Reader
    books: Books
    holdings: Holdings
    found: dict[str, Any] = field(default_factory=dict)
    """The checkpoints before this operation."""
    cycle: datetime | None = None
    prices: dict[tuple[str, int], int] = field(default_factory=dict)
    """Feed answers by (asset identifier, block)."""
    share_moves: list[Log] = field(default_factory=list)
    """Transfers of shares in the range that is read, in order."""
    moved: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Positions that a correction opened, or opened again, by id; for its update's ``other_data``."""
    doubts: set[int] = field(default_factory=set)
    """Blocks whose logs do not fit together unless there are more of them."""

    def price(self, asset: AssetIdentifier, block: int) -> int:
        """A feed's answer that has been read."""
        return self.prices[asset.identifier, block]


class Bookkeeping:
    """A target's tokens, their prices, and updates in the books.

    Args:
        target: What to sync.
        pause: Waits for so many seconds before a node that failed is asked again.
    """

    def __init__(self, target: Target, *, pause: Callable[[float], None] = time.sleep) -> None:
        self.target = target
        self.vault = checksum(target.vault)
        self._pause = pause
        self._feeds = {asset.identifier: feed for asset, feed in target.feeds.items()}
        self._dust = {asset.identifier: dust for asset, dust in target.dust.items()}
        self._assets = {asset.identifier: asset for asset in (target.reserve, *target.feeds)}

    # -- prices and times

    def block_time(self, work: Work, block: int) -> datetime:
        """When a block was mined, naive UTC."""
        return self.time_of(work.reader.header(block).timestamp)

    def time_of(self, timestamp: int) -> datetime:
        """A block's timestamp as a naive UTC datetime; the process may run in any zone."""
        return utc(timestamp)

    def read_prices(self, work: Work, needs: dict[str, list[int]]) -> None:
        for identifier, blocks in needs.items():
            feed = self._feeds.get(identifier)
            if feed is None:
                raise SyncRefused(f"no price feed for {self._name(identifier)}")
            for block, answer in work.reader.answers(feed, blocks).items():
                work.prices[identifier, block] = answer

    # -- updates

    def decimals(self, asset: AssetIdentifier) -> int:
        """How many decimals an asset has."""
        return asset.decimals

    def worth(self, asset: AssetIdentifier, raw: int, price: int) -> float:
        """What base units are worth in USD, with their sign."""
        return usd_float(worth(raw, self.decimals(asset), price))

    def book(
        self, work: Work, holding: Holding, cause: BalanceUpdateCause, raw: int, *, block: int, price: int
    ) -> BalanceUpdate:
        """Add an update of so many base units to a holding, under the next id."""
        portfolio = work.books.portfolio
        update = BalanceUpdate(
            balance_update_id=portfolio.next_balance_update_id,
            cause=cause,
            position_type=holding.position_type,
            asset=holding.asset,
            block_mined_at=self.block_time(work, block),
            strategy_cycle_included_at=None,
            chain_id=self.target.chain_id,
            quantity=to_decimal(raw, holding.decimals),
            old_balance=to_decimal(holding.balance, holding.decimals),
            usd_value=self.worth(holding.asset, raw, price),
            created_at=work.view.now,
            position_id=holding.position_id,
            block_number=block,
        )
        portfolio.next_balance_update_id += 1
        holding.add(update, raw)
        return update

    def refer(self, refs: list[BalanceEventRef], update: BalanceUpdate) -> None:
        """Add a reference to an update."""
        refs.append(
            BalanceEventRef(
                balance_event_id=update.balance_update_id,
                strategy_cycle_included_at=update.strategy_cycle_included_at,
                cause=update.cause,
                position_type=update.position_type,
                position_id=update.position_id,
                usd_value=update.usd_value,
            )
        )

    # -- names

    def _identifier(self, address: str) -> str:
        return f"{self.target.chain_id}-{address.lower()}"

    def _name(self, identifier: str) -> str:
        asset = self._assets.get(identifier)
        return asset.token_symbol if asset is not None else identifier
