"""Deposits and redemptions: which events are flows, what they moved, how they are booked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from fractions import Fraction

from harness.books.records import AssetIdentifier, BalanceUpdate, BalanceUpdateCause, Books, ReservePosition
from harness.errors import SyncRefused
from harness.syncers.reference.arithmetic import split_by_weight
from harness.syncers.reference.bookkeeping import Bookkeeping, Work
from harness.syncers.reference.decoding import (
    NOBODY,
    TRANSFER,
    Flow,
    Leg,
    Log,
    address_topic,
    decode_transfer,
    transfer_parties,
)
from harness.syncers.reference.holdings import Holding
from harness.syncers.reference.kinds import Kind, Say
from harness.syncers.reference.reading import Reader, block_ranges
from harness.units import PRICE_DECIMALS, exact, format_units, usd_float

SUPPLY = "totalSupply()(uint256)"


class TreasurySync(Bookkeeping):
    """What a treasury sync does between reading its first log and moving its cursor."""

    # -- reading flows

    def first_block(self, books: Books) -> int:
        """The first block that the books have not scanned."""
        cursor = books.sync.treasury.last_block_scanned
        return self._deployed_at(books) if cursor is None else cursor + 1

    def last_block(self, work: Work) -> int:
        """The last block to read."""
        return work.view.end_block

    def _deployed_at(self, books: Books) -> int:
        block = books.sync.deployment.block_number
        assert block is not None
        return block

    def flow_ranges(self, start_block: int, end_block: int, chunk: int | None) -> Iterator[tuple[int, int]]:
        """The ranges to ask for flows, both ends included."""
        return block_ranges(start_block, end_block, chunk)

    def read_flows(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        """The flows of a range in order; deposits with what arrived as their one leg.

        Blocks whose logs do not fit together are proved, and all is read again with what was proved.
        """
        deployed_at = self._deployed_at(work.books)
        if end_block < deployed_at:
            raise SyncRefused(f"end block {end_block} lies before the deployment block {deployed_at}")
        while True:
            flows = self._flows_given(work, kind, start_block, end_block)
            doubtful = sorted(block for block in work.doubts if not work.reader.is_proved(block))
            if not doubtful:
                return flows
            for block in doubtful:
                work.reader.prove(block)

    def _flows_given(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        work.doubts.clear()
        work.share_moves = list(work.reader.logs([self.target.vault], [TRANSFER], start_block, end_block))
        say = self.who_says(work, kind, start_block, end_block)
        flows: list[Flow] = []
        for first, last in self.flow_ranges(start_block, end_block, work.view.chunk):
            marks = self._distinct(self.flow_logs(work.reader, kind, say, first, last))
            flows += self.with_arrivals(work, [kind.decode(log, self.target) for log in marks])
        self._doubt_lone_shares(work, kind, say, flows)
        self._doubt_supply(work, start_block, end_block)
        return flows

    def who_says(self, work: Work, kind: Kind, start_block: int, end_block: int) -> Say:
        """Whose events are this vault's flows in a range."""
        return kind.say(work.reader, self.target, self._deployed_at(work.books), start_block, end_block)

    def in_order(self, flows: list[Flow]) -> list[Flow]:
        """Flows in the order in which they are booked: that of the chain."""
        return flows

    def flow_logs(self, reader: Reader, kind: Kind, say: Say, first: int, last: int) -> Iterator[Log]:
        """Events of this vault's flows: other vaults emit the same ones."""
        emitters = sorted(set(say.emitters))
        return (log for log in reader.logs(emitters, [list(kind.flow_topics)], first, last) if say.counts(log))

    def flow_key(self, log: Log) -> tuple[int, ...]:
        """What makes a flow the same flow."""
        return log.place

    def _distinct(self, logs: Iterable[Log]) -> list[Log]:
        found: dict[tuple[int, ...], Log] = {}
        for log in logs:
            found.setdefault(self.flow_key(log), log)
        return list(found.values())

    def arrival_topics(self) -> list[str | bytes | None]:
        """The transfers that bring something to the vault."""
        return [TRANSFER, None, address_topic(self.target.holder)]

    def arrival_key(self, log: Log) -> str:
        """What a deposit's event and the transfers that may belong to it have in common."""
        return log.tx_hash

    def with_arrivals(self, work: Work, flows: list[Flow]) -> list[Flow]:
        """Give each deposit what really arrived: its call's transfer of the reserve to the holder.

        A call's logs stand in its transaction, after the event of the call before it. What is paid for shares is
        moved last before they are minted; what came earlier is a gift. An event without shares minted in its call,
        or without anything that moved, is no deposit: it is given nothing.
        """
        blocks = [flow.log.block for flow in flows if flow.cause is BalanceUpdateCause.deposit]
        if not blocks:
            return flows
        reserve = self.target.reserve.address
        arrivals = self._by_key(work.reader.logs([reserve], self.arrival_topics(), min(blocks), max(blocks)))
        moves = self._by_transaction(work.share_moves)
        ended: dict[str, int] = {}
        told = []
        for flow in flows:
            key = self.arrival_key(flow.log)
            since, ended[key] = ended.get(key, -1), flow.log.log_index
            if flow.cause is not BalanceUpdateCause.deposit:
                told.append(flow)
                continue
            mint = self.own_mint(flow, [log for log in moves.get(flow.log.tx_hash, ()) if log.log_index > since])
            brought = [log for log in arrivals.get(key, ()) if mint is not None and since < log.log_index < mint]
            own = self.own_arrivals(brought)
            if not own or own[-1].log_index + 1 != mint:
                work.doubts.add(flow.log.block)
            told.append(_paid_in(flow, reserve, self.paid(flow, mint, own)))
        return told

    def own_mint(self, flow: Flow, moves: Sequence[Log]) -> int | None:
        """The log index at which a deposit's call minted its owner's shares, None if it minted none."""
        minted = [log for log in moves if log.log_index < flow.log.log_index and _is_mint(log)]
        own = [log.log_index for log in minted if transfer_parties(log)[1] == flow.owner]
        return own[-1] if own else None

    def own_arrivals(self, brought: Sequence[Log]) -> Sequence[Log]:
        """Of what was brought before shares were minted, what was paid for them."""
        return brought[-1:]

    def paid(self, flow: Flow, mint: int | None, own: Sequence[Log]) -> int:
        """What a deposit paid: what arrived of it, whatever its event says."""
        return sum(decode_transfer(log) for log in own)

    def _by_key(self, logs: Iterable[Log]) -> dict[str, list[Log]]:
        found: dict[str, list[Log]] = {}
        for log in logs:
            if transfer_parties(log)[0].lower() != self.target.holder.lower():  # to oneself nothing arrives
                found.setdefault(self.arrival_key(log), []).append(log)
        return found

    def _by_transaction(self, logs: Iterable[Log]) -> dict[str, list[Log]]:
        found: dict[str, list[Log]] = {}
        for log in logs:
            found.setdefault(log.tx_hash, []).append(log)
        return found

    # -- whether all logs are there

    def _doubt_lone_shares(self, work: Work, kind: Kind, say: Say, flows: list[Flow]) -> None:
        """Doubt blocks in which shares came or went without a flow that says so, or a flow without any."""
        told = {(flow.log.tx_hash, flow.cause): flow.log.block for flow in flows}
        moved: dict[tuple[str, BalanceUpdateCause], int] = {}
        for log in work.share_moves:
            if _is_mint(log):
                moved[log.tx_hash, BalanceUpdateCause.deposit] = log.block
            elif _is_burn(log):
                moved[log.tx_hash, BalanceUpdateCause.redemption] = log.block
        work.doubts.update(block for key, block in told.items() if key not in moved)
        emitters = sorted(set(say.emitters))
        for key, block in moved.items():
            # Shares minted as fees have no event, and mostly the header shows that there is none.
            if key not in told and work.reader.may_hold(block, emitters, [list(kind.flow_topics)]):
                work.doubts.add(block)

    def _doubt_supply(self, work: Work, start_block: int, end_block: int) -> None:
        """Doubt blocks with share transfers if those known do not add up to how the supply changed.

        Raises:
            SyncRefused: If they are all known for certain.
        """
        supply = 0
        if start_block > self._deployed_at(work.books):
            supply = work.reader.call(self.target.vault, SUPPLY, block=start_block - 1)
        supply += sum(decode_transfer(log) for log in work.share_moves if _is_mint(log))
        supply -= sum(decode_transfer(log) for log in work.share_moves if _is_burn(log))
        found = work.reader.call(self.target.vault, SUPPLY, block=end_block)
        if found == supply:
            return
        doubtful = [
            block
            for block in range(start_block, end_block + 1)
            if not work.reader.is_proved(block) and work.reader.may_hold(block, [self.target.vault], [TRANSFER])
        ]
        if not doubtful and not work.doubts:
            raise SyncRefused(f"there are {found} raw shares at block {end_block}, but by their transfers {supply}")
        work.doubts.update(doubtful)

    def price_block(self, work: Work, block: int) -> int:
        """The block whose price values an update of a block."""
        return block

    def price_of(self, work: Work, asset: AssetIdentifier, block: int) -> int:
        """The price that values an update of a block."""
        return work.price(asset, self.price_block(work, block))

    def _priced(self, work: Work, flows: list[Flow]) -> dict[str, list[int]]:
        """Which assets' prices are needed at which blocks."""
        needs = {self.target.reserve.identifier: [work.view.end_block]}
        for flow in flows:
            for leg in self.paid_legs(flow):
                identifier = self._identifier(leg.address)
                if work.holdings.of_asset(identifier):
                    needs.setdefault(identifier, []).append(self.price_block(work, flow.log.block))
        return needs

    def _price_reserve(self, work: Work, holding: Holding) -> None:
        reserve = holding.record
        assert isinstance(reserve, ReservePosition)
        price = work.price(reserve.asset, work.view.end_block)
        reserve.reserve_token_price = usd_float(Fraction(price, 10**PRICE_DECIMALS))
        reserve.last_sync_at = reserve.last_pricing_at = self.block_time(work, work.view.end_block)

    # -- booking flows

    def paid_legs(self, flow: Flow) -> Sequence[Leg]:
        """The legs to book."""
        return [leg for leg in flow.legs if self.is_booked(leg.raw)]

    def is_booked(self, raw: int) -> bool:
        """Tell whether so much is worth an update: nothing is not."""
        return raw != 0

    def owner_of(self, work: Work, flow: Flow) -> str | None:
        """Whose shares were minted or burned, not who paid or was paid."""
        return flow.owner

    def cycle_of(self, work: Work, flow: Flow) -> datetime | None:
        """The strategy cycle that a flow is counted to: the one that its sync is told."""
        return work.cycle

    def book_flows(self, work: Work, flows: list[Flow]) -> None:
        """Book flows one after the other, once all their prices are read."""
        self.read_prices(work, self._priced(work, flows))
        for flow in flows:
            self.book_flow(work, flow)

    def book_flow(self, work: Work, flow: Flow) -> None:
        """Book a flow's legs, and list those skipped with the first update."""
        sign = 1 if flow.cause is BalanceUpdateCause.deposit else -1
        updates: list[BalanceUpdate] = []
        skipped: list[dict[str, str]] = []
        for leg in self.paid_legs(flow):
            holdings = self.touched(work, leg)
            if not holdings:
                skipped.append(self.skip_leg(leg))
                continue
            weights = [self.weight_of(holding) for holding in holdings]
            for holding, part in zip(holdings, self.split_leg(leg.raw, weights), strict=True):
                if self.is_booked(part):
                    updates.append(self.book_event(work, flow, holding, sign * part))
        if skipped and updates:
            self.note_skipped(updates[0], skipped)

    def note_skipped(self, update: BalanceUpdate, skipped: list[dict[str, str]]) -> None:
        """List with a flow's first update the legs that were skipped."""
        update.other_data = {"skipped_legs": skipped}

    def weight_of(self, holding: Holding) -> int:
        """What a holding counts for when a leg is split."""
        return holding.weight

    def split_leg(self, raw: int, weights: Sequence[int]) -> list[int]:
        """Split what was paid out of an asset between its holdings, oldest first."""
        return split_by_weight(raw, weights)

    def touched(self, work: Work, leg: Leg) -> list[Holding]:
        """The reserve for the reserve's asset, else the asset's open positions by id."""
        identifier = self._identifier(leg.address)
        if identifier == self.target.reserve.identifier:
            return [work.holdings.reserve(self.target.reserve)]
        return [holding for holding in work.holdings.of_asset(identifier) if not holding.is_debt]

    def skip_leg(self, leg: Leg) -> dict[str, str]:
        """What to note of a leg that the books have no position for.

        Raises:
            SyncRefused: If it is more than dust. The books hold none, so only the absolute limit can tell.
        """
        identifier = self._identifier(leg.address)
        asset, dust = self._assets.get(identifier), self._dust.get(identifier)
        if asset is None:
            raise SyncRefused(f"a redemption paid out {leg.raw} raw of {leg.address}, an unknown asset")
        decimals = self.decimals(asset)
        if dust is None or Fraction(leg.raw, 10**decimals) > exact(dust.absolute):
            paid = format_units(leg.raw, decimals)
            raise SyncRefused(f"a redemption paid out {paid} {asset.token_symbol}, of which no position is open")
        return {"asset": identifier, "quantity": format_units(-leg.raw, decimals)}

    def book_event(self, work: Work, flow: Flow, holding: Holding, raw: int) -> BalanceUpdate:
        """Book a part of a flow, and refer to it."""
        log = flow.log
        price = self.price_of(work, holding.asset, log.block)
        update = self.book(work, holding, flow.cause, raw, block=log.block, price=price)
        update.strategy_cycle_included_at = self.cycle_of(work, flow)
        update.owner_address = self.owner_of(work, flow)
        update.tx_hash = log.tx_hash
        update.log_index = log.log_index
        self.add_ref(work, update)
        return update

    def add_ref(self, work: Work, update: BalanceUpdate) -> None:
        """Refer to an update from the treasury."""
        self.refer(work.books.sync.treasury.balance_update_refs, update)


def _is_mint(log: Log) -> bool:
    return transfer_parties(log)[0] == NOBODY != transfer_parties(log)[1]


def _is_burn(log: Log) -> bool:
    return transfer_parties(log)[1] == NOBODY != transfer_parties(log)[0]


def _paid_in(flow: Flow, reserve: str, arrived: int) -> Flow:
    return dataclasses.replace(flow, legs=(Leg(address=reserve, raw=arrived),))
