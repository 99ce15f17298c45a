"""Corrections: bring the books to the chain's balances, asset by asset."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from harness.books.executor import CREDIT, SPOT
from harness.books.records import (
    AssetIdentifier,
    BalanceUpdate,
    BalanceUpdateCause,
    Books,
    InterestTracker,
    Loan,
    LoanSide,
    Position,
    TradingPair,
)
from harness.errors import SyncRefused
from harness.syncers.reference.arithmetic import split_by_weight
from harness.syncers.reference.bookkeeping import Bookkeeping, Work
from harness.syncers.reference.branching import CLOSED, OPENED, REOPENED
from harness.syncers.reference.holdings import Holding, tracked_side
from harness.units import PRICE_DECIMALS, exact, format_units, to_decimal, usd_float

DEBT = ("borrowed", "debt")
"""``AssetIdentifier.type`` of a token whose balance is owed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far the books of an asset are from the chain; base units, positive where the chain has more."""

    asset: AssetIdentifier
    booked: int
    held: int

    @property
    def raw(self) -> int:
        """What a correction has to add."""
        return self.held - self.booked


class AccountCorrecting(Bookkeeping):
    """What a correction does between reading the first balance and moving the cursors."""

    def check_no_pending_trade(self, books: Books) -> None:
        """Refuse while a trade is under way: what it moves is neither quite there nor quite gone."""
        portfolio = books.portfolio
        for positions in (portfolio.open_positions, portfolio.frozen_positions, portfolio.closed_positions):
            for position in positions.values():
                for trade in position.trades:
                    if trade.executed_at is None and trade.failed_at is None:
                        raise SyncRefused(
                            f"trade {trade.trade_id} of position {position.position_id} is pending: "
                            "accounts are corrected when it is done"
                        )

    def check_cursor(self, books: Books, end_block: int) -> None:
        """Refuse to correct by balances that are older than what is booked."""
        cursor, deployed_at = books.sync.treasury.last_block_scanned, books.sync.deployment.block_number or 0
        if cursor is not None and end_block < cursor:
            raise SyncRefused(f"a correction at block {end_block}: the treasury stands at block {cursor} already")
        if end_block < deployed_at:
            raise SyncRefused(f"end block {end_block} lies before the deployment block {deployed_at}")

    def correction_block(self, work: Work) -> int:
        """The block whose balances are believed."""
        return work.view.end_block

    def differences(self, work: Work) -> list[Difference]:
        """The assets whose books need a correction, in the target's order."""
        found = [self.measure_difference(work, asset) for asset in self.target.feeds]
        return [difference for difference in found if difference.raw and not self.is_dust(difference)]

    def measure_difference(self, work: Work, asset: AssetIdentifier) -> Difference:
        """An asset's balance beside what the books say of it."""
        block = self.correction_block(work)
        held = work.reader.call(asset.address, "balanceOf(address)(uint256)", self.target.holder, block=block)
        booked = sum(holding.balance for holding in work.holdings.of_asset(asset.identifier))
        return Difference(asset=asset, booked=booked + work.holdings.frozen_units(asset.identifier), held=held)

    def is_dust(self, difference: Difference) -> bool:
        """Tell whether a difference does not matter: hardly anything on both sides, or hardly anything beside the
        books'."""
        dust = self._dust.get(difference.asset.identifier)
        if dust is None:
            return False
        few = exact(dust.absolute) * 10 ** self.decimals(difference.asset)
        is_little = abs(difference.held) <= few and abs(difference.booked) <= few
        return is_little or abs(difference.raw) <= exact(dust.relative) * abs(difference.booked)

    def correct(self, work: Work, difference: Difference) -> None:
        """Book a difference to whatever holds the asset, or owes in it, or to a position opened for it."""
        for holding, part in self.corrected_parts(work, difference):
            if part:
                self.book_correction(work, holding, part)
                if not holding.balance:
                    self.close_corrected(work, holding)

    def corrected_parts(self, work: Work, difference: Difference) -> list[tuple[Holding, int]]:
        """Whose a difference is, split as a redemption is."""
        asset = difference.asset
        if asset.identifier == self.target.reserve.identifier:
            return [(work.holdings.reserve(self.target.reserve), difference.raw)]
        holdings = work.holdings.of_asset(asset.identifier)
        if not holdings:
            if asset.type in DEBT or difference.raw < 0:
                told = f"{difference.raw} ({format_units(difference.raw, self.decimals(asset))} {asset.token_symbol})"
                raise SyncRefused(f"{asset.token_symbol}: no open position can take a difference of {told}")
            holdings = [self.find_position(work, difference)]
        weights = [holding.weight for holding in holdings]
        return list(zip(holdings, split_by_weight(difference.raw, weights), strict=True))

    def find_position(self, work: Work, difference: Difference) -> Holding:
        """The last closed position of an asset, open again, or else a new one."""
        closed = [
            position
            for position in work.books.portfolio.closed_positions.values()
            if position.asset.identifier == difference.asset.identifier and not is_void(position)
        ]
        if not closed:
            return work.holdings.opened(self.new_position(work, difference))
        position = max(closed, key=lambda one: (one.closed_at is not None, one.closed_at, one.position_id))
        del work.books.portfolio.closed_positions[position.position_id]
        work.moved[position.position_id] = {REOPENED: position.closed_at.isoformat() if position.closed_at else None}
        position.closed_at = None
        return work.holdings.opened(position)

    def new_position(self, work: Work, difference: Difference) -> Position:
        """A position without trades, opened and priced at the end block."""
        portfolio, asset = work.books.portfolio, difference.asset
        at = self.block_time(work, work.view.end_block)
        nothing = to_decimal(0, self.decimals(asset))
        loan = Loan(
            collateral=LoanSide(asset=asset, quantity=nothing, created_at=at),
            collateral_interest=InterestTracker(
                opening_amount=to_decimal(difference.raw, self.decimals(asset)),
                last_token_amount=nothing,
                last_updated_at=at,
                last_event_at=at,
                last_updated_block_number=work.view.end_block,
            ),
        )
        position = Position(
            position_id=portfolio.next_position_id,
            pair=TradingPair(base=asset, quote=self.target.reserve, kind=CREDIT if asset.is_rebase() else SPOT),
            opened_at=at,
            reserve_currency=self.target.reserve,
            last_token_price=usd_float(Fraction(work.price(asset, work.view.end_block), 10**PRICE_DECIMALS)),
            last_pricing_at=at,
            loan=loan if asset.is_rebase() else None,
        )
        portfolio.next_position_id += 1
        work.moved[position.position_id] = {OPENED: True}
        return position

    def book_correction(self, work: Work, holding: Holding, raw: int) -> BalanceUpdate:
        """Book a part of a difference, and refer to it."""
        block = work.view.end_block
        price = work.price(holding.asset, block)
        update = self.book(work, holding, BalanceUpdateCause.correction, raw, block=block, price=price)
        if holding.position_id is not None and holding.position_id in work.moved:
            update.other_data = work.moved.pop(holding.position_id)
        self.refer(work.books.sync.accounting.balance_update_refs, update)
        return update

    def close_corrected(self, work: Work, holding: Holding) -> None:
        """Close a position that was corrected to nothing and owes nothing."""
        position, portfolio = holding.record, work.books.portfolio
        if not isinstance(position, Position) or position.quantity != 0:
            return
        _, debt = tracked_side(position, is_debt=True)
        if debt is not None and debt.last_token_amount != 0:
            return
        update = position.balance_updates[max(position.balance_updates)]
        update.other_data = {**(update.other_data or {}), CLOSED: True}
        position.closed_at = self.block_time(work, work.view.end_block)
        del portfolio.open_positions[position.position_id]
        portfolio.closed_positions[position.position_id] = position

    def correction_scanned(self, work: Work) -> int:
        """The last block whose flows a correction owns."""
        return work.view.end_block


def is_void(position: Position) -> bool:
    """Tell whether nothing is left of a position: it has trades, all failed, and no updates."""
    return bool(position.trades) and all(t.failed_at for t in position.trades) and not position.balance_updates
