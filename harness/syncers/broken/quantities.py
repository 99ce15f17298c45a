"""Mistakes about how much, and what it is worth."""

from __future__ import annotations

import dataclasses
import struct
from datetime import datetime
from decimal import Context, Decimal

from harness.books.records import AssetIdentifier, BalanceUpdate, BalanceUpdateCause, Books
from harness.syncers.broken.registry import broken
from harness.syncers.protocol import ChainView
from harness.syncers.reference import ReferenceSyncer
from harness.syncers.reference.decoding import Flow, Leg
from harness.syncers.reference.holdings import Holding
from harness.syncers.reference.reading import Reader
from harness.syncers.reference.syncer import Work
from harness.units import PRICE_DECIMALS, to_decimal

BALANCE = "balanceOf(address)(uint256)"

# -- sign, scale, precision


@broken("redemption_sign", cause="sign")
class RedemptionSign(ReferenceSyncer):
    """Redemptions are booked as positive quantities."""

    def book(
        self, work: Work, holding: Holding, cause: BalanceUpdateCause, raw: int, *, block: int, price: int
    ) -> BalanceUpdate:
        signed = abs(raw) if cause is BalanceUpdateCause.redemption else raw
        return super().book(work, holding, cause, signed, block=block, price=price)


@broken("usd_sign", cause="sign")
class UsdSign(ReferenceSyncer):
    """Worth is always positive, whatever the sign of the quantity."""

    def worth(self, asset: AssetIdentifier, raw: int, price: int) -> float:
        return abs(super().worth(asset, raw, price))


@broken("ref_usd_sign", cause="sign")
class RefUsdSign(ReferenceSyncer):
    """The refs' worth is always positive, though the updates' is signed."""

    def add_ref(self, work: Work, update: BalanceUpdate) -> None:
        super().add_ref(work, update)
        ref = work.books.sync.treasury.balance_update_refs[-1]
        ref.usd_value = abs(update.usd_value)


@broken("decimals_assumed", cause="scale")
class DecimalsAssumed(ReferenceSyncer):
    """Every token is taken to have 18 decimals."""

    def decimals(self, asset: AssetIdentifier) -> int:
        return 18


@broken("feed_decimals_assumed", cause="scale")
class FeedDecimalsAssumed(ReferenceSyncer):
    """Every price feed is taken to have 18 decimals."""

    def worth(self, asset: AssetIdentifier, raw: int, price: int) -> float:
        return super().worth(asset, raw, price) * 10.0 ** (PRICE_DECIMALS - 18)


@broken("float_quantities", cause="float")
class FloatQuantities(ReferenceSyncer):
    """Quantities pass through a float on their way into the books."""

    def book(
        self, work: Work, holding: Holding, cause: BalanceUpdateCause, raw: int, *, block: int, price: int
    ) -> BalanceUpdate:
        unit = 10**holding.decimals
        return super().book(work, holding, cause, int(raw / unit * unit), block=block, price=price)


@broken("decimals_of_28_digits", cause="float")
class DecimalsOf28Digits(ReferenceSyncer):
    """Quantities are divided in the decimal module's usual context, which keeps 28 digits."""

    def book(
        self, work: Work, holding: Holding, cause: BalanceUpdateCause, raw: int, *, block: int, price: int
    ) -> BalanceUpdate:
        unit = Decimal(10**holding.decimals)
        tokens = Context(prec=28).divide(Decimal(raw), unit)
        return super().book(
            work, holding, cause, int(Context(prec=200).multiply(tokens, unit)), block=block, price=price
        )


@broken("single_precision_worth", cause="float")
class SinglePrecisionWorth(ReferenceSyncer):
    """Worth is kept in a float of 32 bits."""

    def worth(self, asset: AssetIdentifier, raw: int, price: int) -> float:
        (worth,) = struct.unpack("f", struct.pack("f", super().worth(asset, raw, price)))
        return float(worth)


@broken("shares_for_assets", cause=None)
class SharesForAssets(ReferenceSyncer):
    """A deposit is booked as the shares it bought, one token each: the wrong field of the event."""

    def with_arrivals(self, work: Work, flows: list[Flow]) -> list[Flow]:
        told = super().with_arrivals(work, flows)
        unit = 10 ** int(work.reader.call(self.target.vault, "decimals()(uint8)"))
        return [self._in_shares(flow, unit) if flow.cause is BalanceUpdateCause.deposit else flow for flow in told]

    def _in_shares(self, flow: Flow, unit: int) -> Flow:
        shares = int.from_bytes(flow.log.data[-32:])
        raw = shares * 10**self.target.reserve.decimals // unit
        return dataclasses.replace(flow, legs=(Leg(address=self.target.reserve.address, raw=raw),))


# -- balances where flows belong


@broken("deposit_is_balance", cause="balance booked as flow")
class DepositIsBalance(ReferenceSyncer):
    """A deposit is booked as all that the vault holds after its block."""

    def with_arrivals(self, work: Work, flows: list[Flow]) -> list[Flow]:
        return [
            self._whole(work, flow) if flow.cause is BalanceUpdateCause.deposit else flow
            for flow in super().with_arrivals(work, flows)
        ]

    def _whole(self, work: Work, flow: Flow) -> Flow:
        reserve = self.target.reserve.address
        held = int(work.reader.call(reserve, BALANCE, self.target.holder, block=flow.log.block))
        return dataclasses.replace(flow, legs=(Leg(address=reserve, raw=held),))


@broken("reserve_plugged", cause="plugged balance")
class ReservePlugged(ReferenceSyncer):
    """After each sync the reserve's quantity is set to what the chain holds."""

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        books = super().sync_treasury(view, books, cycle)
        asset = self.target.reserve
        for reserve in books.portfolio.reserves.values():
            held = int(Reader(view).call(asset.address, BALANCE, self.target.holder))
            reserve.quantity = to_decimal(held, asset.decimals)
        return books


@broken("tracker_plugged", cause="plugged balance")
class TrackerPlugged(ReferenceSyncer):
    """After each treasury sync a tracked amount is set to what the chain holds, and no update says why."""

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        books = super().sync_treasury(view, books, cycle)
        for position in books.portfolio.open_positions.values():
            if position.loan is not None and position.loan.collateral_interest is not None:
                asset = position.asset
                held = int(Reader(view).call(asset.address, BALANCE, self.target.holder))
                position.loan.collateral_interest.last_token_amount = to_decimal(held, asset.decimals)
        return books


# -- prices


@broken("price_of_end_block", cause="wrong price")
class PriceOfEndBlock(ReferenceSyncer):
    """A flow is valued at the price of the sync's end block, not of its own block."""

    def price_block(self, work: Work, block: int) -> int:
        return work.view.end_block


@broken("price_of_block_before", cause="wrong price")
class PriceOfBlockBefore(ReferenceSyncer):
    """A flow is valued at the price that stood before its block."""

    def price_block(self, work: Work, block: int) -> int:
        return block - 1


@broken("reserve_at_par", cause="wrong price")
class ReserveAtPar(ReferenceSyncer):
    """The reserve is valued at one dollar, whatever its feed says."""

    def worth(self, asset: AssetIdentifier, raw: int, price: int) -> float:
        is_reserve = asset.identifier == self.target.reserve.identifier
        return super().worth(asset, raw, 10**PRICE_DECIMALS if is_reserve else price)


@broken("positions_at_reserve_price", cause="wrong price")
class PositionsAtReservePrice(ReferenceSyncer):
    """What leaves a position is valued at the reserve's price."""

    def price_of(self, work: Work, asset: AssetIdentifier, block: int) -> int:
        return work.reader.answers(self._feeds[self.target.reserve.identifier], [block])[block]


@broken("price_in_whole_cents", cause="wrong price")
class PriceInWholeCents(ReferenceSyncer):
    """Prices are cut to whole cents."""

    def worth(self, asset: AssetIdentifier, raw: int, price: int) -> float:
        cent = 10 ** (PRICE_DECIMALS - 2)
        return super().worth(asset, raw, price // cent * cent)


# -- times


@broken("local_time_zone", cause=None)
class LocalTimeZone(ReferenceSyncer):
    """Block times are taken in the zone that the process runs in."""

    def time_of(self, timestamp: int) -> datetime:
        return datetime.fromtimestamp(timestamp)  # noqa: DTZ006 - the mistake itself


@broken("time_of_end_block", cause=None)
class TimeOfEndBlock(ReferenceSyncer):
    """A flow is dated with the time of the sync's end block, not of its own block."""

    def book_event(self, work: Work, flow: Flow, holding: Holding, raw: int) -> BalanceUpdate:
        update = super().book_event(work, flow, holding, raw)
        update.block_mined_at = self.block_time(work, work.view.end_block)
        return update
