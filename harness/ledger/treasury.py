"""Treasury syncs: deposits and redemptions that a range of blocks holds, booked in the order of the chain."""

from __future__ import annotations

from fractions import Fraction

from harness.books.records import (
    AssetIdentifier,
    BalanceUpdate,
    BalanceUpdateCause,
    BalanceUpdatePositionType,
    Books,
    Position,
    ReservePosition,
    reserve_raw,
)
from harness.books.state_file import copy_books
from harness.ledger.facts import Flow, Ledger
from harness.ledger.holdings import move_principal, open_positions, redeemed_since_interest, ref_to, split
from harness.ledger.operations import CLOCK, Operation, Refusal
from harness.units import to_decimal, usd_float


def sync_treasury(ledger: Ledger, books: Books, operation: Operation) -> Books | Refusal:
    """Give the books after a treasury sync, or why it must be refused."""
    setting = ledger.setting
    after = copy_books(books)
    treasury = after.sync.treasury
    treasury.last_updated_at = CLOCK
    treasury.last_cycle_at = operation.cycle
    cursor = treasury.last_block_scanned
    if cursor is not None and cursor >= operation.end_block:
        return after

    start_block = setting.deployment_block if cursor is None else cursor + 1
    identifier = setting.reserve_asset.identifier
    if identifier not in after.portfolio.reserves:
        after.portfolio.reserves[identifier] = ReservePosition(asset=setting.reserve_asset)
    reserve = after.portfolio.reserves[identifier]
    bookkeeper = _Bookkeeper(ledger, after, reserve, operation)
    for flow in ledger.flows_between(start_block, operation.end_block):
        refusal = bookkeeper.book(flow)
        if refusal is not None:
            return refusal
    reserve.reserve_token_price = usd_float(ledger.price(setting.reserve, operation.end_block))
    reserve.last_pricing_at = ledger.mined_at(operation.end_block)
    reserve.last_sync_at = ledger.mined_at(operation.end_block)
    treasury.last_block_scanned = operation.end_block
    return after


class _Bookkeeper:
    """Writes flows into books, in order."""

    def __init__(self, ledger: Ledger, books: Books, reserve: ReservePosition, operation: Operation) -> None:
        self._ledger = ledger
        self._setting = ledger.setting
        self._books = books
        self._reserve = reserve
        self._cycle = operation.cycle
        self._positions = {
            position_id: position.quantity_raw for position_id, position in books.portfolio.open_positions.items()
        }
        self._redeemed = redeemed_since_interest(books)

    def book(self, flow: Flow) -> Refusal | None:
        first: BalanceUpdate | None = None
        skipped: list[tuple[AssetIdentifier, int]] = []
        for leg in flow.legs:
            if leg.raw == 0:
                continue
            asset = self._setting.assets[leg.symbol]
            if leg.symbol == self._setting.reserve:
                update = self._write(flow, leg.symbol, asset, leg.raw, None)
                first = first or update
                continue
            positions = open_positions(self._books, asset)
            if not positions:
                if Fraction(-leg.raw, 10**asset.decimals) > Fraction(self._setting.dust_absolute[leg.symbol]):
                    return Refusal(reason=f"{leg.symbol} was paid out, and the books have no open position of it")
                skipped.append((asset, leg.raw))
                continue
            weights = [self._weight(position) for position in positions]
            for position, part in zip(positions, split(leg.raw, weights), strict=True):
                if part:
                    update = self._write(flow, leg.symbol, asset, part, position)
                    first = first or update
        if first is not None and skipped:
            first.other_data = {
                "skipped_legs": [
                    {"asset": asset.identifier, "quantity": str(to_decimal(raw, asset.decimals))}
                    for asset, raw in skipped
                ]
            }
        return None

    def _weight(self, position: Position) -> int:
        if not position.asset.is_rebase():
            return self._positions[position.position_id]
        return self._positions[position.position_id] + self._redeemed.get(position.position_id, 0)

    def _write(
        self, flow: Flow, symbol: str, asset: AssetIdentifier, raw: int, position: Position | None
    ) -> BalanceUpdate:
        portfolio = self._books.portfolio
        if position is None:
            old_raw = reserve_raw(self._reserve)
            self._reserve.quantity = to_decimal(old_raw + raw, asset.decimals)
        else:
            old_raw = self._positions[position.position_id]
            self._positions[position.position_id] = old_raw + raw
            self._redeemed[position.position_id] = self._redeemed.get(position.position_id, 0) - raw
            move_principal(position, raw, self._ledger.mined_at(flow.block), flow.block)
        update = BalanceUpdate(
            balance_update_id=portfolio.next_balance_update_id,
            cause=BalanceUpdateCause(flow.cause),
            position_type=BalanceUpdatePositionType.reserve
            if position is None
            else BalanceUpdatePositionType.open_position,
            asset=asset,
            block_mined_at=self._ledger.mined_at(flow.block),
            strategy_cycle_included_at=self._cycle,
            chain_id=self._setting.chain_id,
            quantity=to_decimal(raw, asset.decimals),
            old_balance=to_decimal(old_raw, asset.decimals),
            usd_value=usd_float(self._ledger.worth(symbol, raw, flow.block)),
            created_at=CLOCK,
            owner_address=flow.owner,
            tx_hash=flow.transaction,
            log_index=flow.log_index,
            position_id=None if position is None else position.position_id,
            block_number=flow.block,
        )
        portfolio.next_balance_update_id += 1
        (self._reserve if position is None else position).balance_updates[update.balance_update_id] = update
        self._books.sync.treasury.balance_update_refs.append(ref_to(update))
        return update
