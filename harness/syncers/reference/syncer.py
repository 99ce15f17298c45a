"""The reference syncer: reads the chain through a view, keeps books as the contract says.

Every operation works on a copy and returns it, so that one which raises has changed nothing. An instance
holds no state but its target: all that a later operation needs stands in the books.

Small methods are steps that a syncer can get wrong; ``harness.syncers.broken`` overrides one at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction

from harness.books import copy_books
from harness.books.records import (
    AssetIdentifier,
    AssetInterestData,
    BalanceEventRef,
    BalanceUpdate,
    BalanceUpdateCause,
    Books,
    Deployment,
    InterestDistributionEntry,
    InterestDistributionOperation,
    Position,
    ReservePosition,
)
from harness.errors import SyncRefused
from harness.syncers.protocol import ChainView, Target
from harness.syncers.reference.arithmetic import split_by_weight, worth, yearly_rate
from harness.syncers.reference.decoding import TRANSFER, Flow, Leg, Log, address_topic, checksum, decode_transfer
from harness.syncers.reference.holdings import Holding, Holdings
from harness.syncers.reference.kinds import KINDS, Kind, Say
from harness.syncers.reference.reading import Reader, block_ranges, utc
from harness.units import PRICE_DECIMALS, exact, format_units, to_decimal, usd_float

KEPT_HASHES = 128
UNBASED_GAIN = 2
"""Raw units that may appear on an asset of which the books hold nothing: rounding of an index token."""


@dataclass(slots=True, kw_only=True)
class Work:
    """One operation under way: the copy it writes into, and what it has read so far."""

    view: ChainView
    reader: Reader
    books: Books
    holdings: Holdings
    cycle: datetime | None = None
    prices: dict[tuple[str, int], int] = field(default_factory=dict)
    """Feed answers by (asset identifier, block)."""

    def price(self, asset: AssetIdentifier, block: int) -> int:
        """A feed's answer that has been read."""
        return self.prices[asset.identifier, block]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What one asset came to since the books last looked; base units."""

    asset: AssetIdentifier
    holdings: tuple[Holding, ...]
    base: int
    raw: int


class ReferenceSyncer:
    """Books for one vault of kind ``enzyme`` or ``erc4626``."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.vault = checksum(target.vault)
        self._feeds = {asset.identifier: feed for asset, feed in target.feeds.items()}
        self._dust = {asset.identifier: dust for asset, dust in target.dust.items()}
        self._assets = {asset.identifier: asset for asset in (target.reserve, *target.feeds)}

    # -- operations

    def initialise(self, view: ChainView, books: Books) -> Books:
        """Find the vault's deployment event up to the end block and fill ``Deployment``.

        Raises:
            SyncRefused: If the books have a vault already, or the vault has no such event.
        """
        kind = self._kind()
        self.check_uninitialised(books)
        self._check_head(view)
        work = self._start(view, books)
        event = self.find_deployment(work, kind)
        self.fill_deployment(work, event)
        self._keep_hashes(work, {event.block, view.end_block})
        return work.books

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        """Book the deposits and redemptions of the blocks not yet scanned, up to the end block.

        Raises:
            SyncRefused: For other books, a cycle before the last, a node behind the books, a redemption
                of something that the books do not hold.
        """
        kind = self._check_books(books)
        self.check_cycle(books, cycle)
        self._check_head(view, books)
        work = self._start(view, books, cycle)
        treasury = work.books.sync.treasury
        if treasury.last_block_scanned is not None and treasury.last_block_scanned >= view.end_block:
            self.note_idle_sync(work, cycle)
            return work.books
        self._check_branch(work)
        reserve = work.holdings.reserve(self.target.reserve)
        flows = self.in_order(self.read_flows(work, kind, self.first_block(work.books), self.last_block(work)))
        self.book_flows(work, flows)
        self._price_reserve(work, reserve)
        treasury.last_updated_at = view.now
        treasury.last_cycle_at = cycle
        treasury.last_block_scanned = self.cursor_after(work)
        self._keep_hashes(work, {view.end_block, *(flow.log.block for flow in flows)})
        return work.books

    def sync_interest(self, view: ChainView, books: Books) -> Books:
        """Book what rebases did to balances since the last interest sync, and move the checkpoint.

        Raises:
            SyncRefused: If the treasury stands at another block, the checkpoint lies later, or a gain
                is too large to be interest.
        """
        self._check_books(books)
        self._check_head(view, books)
        self._check_checkpoint(view, books)
        work = self._start(view, books)
        if self.is_interest_synced(books, view.end_block):
            return work.books
        self._check_branch(work)
        gains = [self.measure_gain(work, asset) for asset in work.holdings.rebasing()]
        for gain in gains:
            self.check_gain(gain)
        self._read_prices(work, {gain.asset.identifier: [view.end_block] for gain in gains})
        interest = work.books.sync.interest
        ended_at = self.block_time(work, view.end_block)
        if gains:
            interest.last_distribution = self.distribute(work, gains, ended_at)
        interest.last_sync_at = ended_at
        interest.last_sync_block = view.end_block
        self._keep_hashes(work, {view.end_block})
        return work.books

    def correct_accounts(self, view: ChainView, books: Books) -> Books:
        """Decline: bringing books to the chain's balances is not supported yet.

        Raises:
            SyncRefused: Always.
        """
        self._check_books(books)
        raise SyncRefused("correcting accounts is not supported yet")

    # -- what is refused before anything is read

    def _kind(self) -> Kind:
        kind = KINDS.get(self.target.kind)
        if kind is None:
            raise SyncRefused(f"vault kind {self.target.kind!r} is not supported yet")
        return kind

    def _check_books(self, books: Books) -> Kind:
        deployment = books.sync.deployment
        if not books.sync.is_initialised():
            raise SyncRefused("not initialised: the books do not know their vault")
        self.check_chain(deployment)
        self.check_vault(deployment)
        return self._kind()

    def check_uninitialised(self, books: Books) -> None:
        """Refuse books that have a vault already."""
        if books.sync.is_initialised():
            raise SyncRefused(f"already initialised for vault {books.sync.deployment.address}")

    def check_chain(self, deployment: Deployment) -> None:
        """Refuse books of another chain."""
        if deployment.chain_id != self.target.chain_id:
            raise SyncRefused(f"the books are of chain id {deployment.chain_id}, not {self.target.chain_id}")

    def check_vault(self, deployment: Deployment) -> None:
        """Refuse books of another vault."""
        if (deployment.address or "").lower() != self.target.vault.lower():
            raise SyncRefused(f"the books are of vault {deployment.address}, not {self.target.vault}")

    def check_cycle(self, books: Books, cycle: datetime) -> None:
        """Refuse a cycle before the last one."""
        last = books.sync.treasury.last_cycle_at
        if last is not None and cycle < last:
            raise SyncRefused(f"cycle {cycle} lies before the last cycle {last}")

    def _check_head(self, view: ChainView, books: Books | None = None) -> None:
        """Refuse a node that is behind: behind the books, or behind what it is asked to read."""
        cursor = books.sync.treasury.last_block_scanned if books is not None else None
        if cursor is not None and view.head < cursor:
            raise SyncRefused(f"the node's head {view.head} is below the last block scanned, {cursor}")
        if view.head < view.end_block:
            raise SyncRefused(f"the node's head {view.head} is below the end block {view.end_block}")

    def _check_checkpoint(self, view: ChainView, books: Books) -> None:
        checkpoint = books.sync.interest.last_sync_block
        if checkpoint is not None and view.end_block < checkpoint:
            raise SyncRefused(f"interest is synced to block {checkpoint}, after the end block {view.end_block}")
        self.check_treasury_stands(view, books)

    def check_treasury_stands(self, view: ChainView, books: Books) -> None:
        """Refuse to look at balances of a block of which not all flows are booked."""
        cursor = books.sync.treasury.last_block_scanned
        if cursor != view.end_block:
            stands = "has not been synced" if cursor is None else f"stands at block {cursor}"
            raise SyncRefused(f"interest to block {view.end_block}: the treasury {stands}")

    def is_interest_synced(self, books: Books, end_block: int) -> bool:
        """Tell whether there is nothing left to do: interest is synced to this very block."""
        return books.sync.interest.last_sync_block == end_block

    # -- deployment

    def fill_deployment(self, work: Work, event: Log) -> None:
        """Write down what the deployment event and the share token say."""
        deployment = work.books.sync.deployment
        deployment.chain_id = self.target.chain_id
        deployment.address = self.vault
        deployment.block_number = event.block
        deployment.tx_hash = event.tx_hash
        deployment.block_mined_at = self.block_time(work, event.block)
        deployment.vault_token_name = work.reader.call(self.target.vault, "name()(string)")
        deployment.vault_token_symbol = work.reader.call(self.target.vault, "symbol()(string)")
        deployment.initialised_at = self.block_time(work, work.view.end_block)

    def search_ranges(self, end_block: int) -> list[tuple[int, int]]:
        """Where to look for the deployment: from the hint on, then, as the hint may be late, before it."""
        hint = min(max(self.target.start_block, 0), end_block + 1)
        return [(hint, end_block), (0, hint - 1)]

    def find_deployment(self, work: Work, kind: Kind) -> Log:
        """The vault's deployment event."""
        end_block = work.view.end_block
        for start, end in self.search_ranges(end_block):
            for log in work.reader.logs([self.target.deployer], [kind.deployment_topic], start, end):
                if kind.deployed_vault(log) == self.vault:
                    return log
        raise SyncRefused(f"vault {self.target.vault} has no deployment event up to block {end_block}")

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
        """The flows of a range in order; deposits with what arrived as their one leg."""
        deployed_at = self._deployed_at(work.books)
        if end_block < deployed_at:
            raise SyncRefused(f"end block {end_block} lies before the deployment block {deployed_at}")
        say = kind.say(work.reader, self.target, deployed_at, start_block, end_block)
        flows: list[Flow] = []
        for first, last in self.flow_ranges(start_block, end_block, work.view.chunk):
            marks = self._distinct(self.flow_logs(work.reader, kind, say, first, last))
            flows += self.with_arrivals(work, [kind.decode(log, self.target) for log in marks])
        for flow in flows:
            self._check_log(work, flow.log)
        return flows

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
        """Give each deposit what really arrived: its call's transfers of the reserve to the holder.

        A call's transfers stand in its transaction, after the event of the call before it.
        """
        blocks = [flow.log.block for flow in flows if flow.cause is BalanceUpdateCause.deposit]
        if not blocks:
            return flows
        reserve = self.target.reserve.address
        arrivals: dict[str, list[Log]] = {}
        for log in work.reader.logs([reserve], self.arrival_topics(), min(blocks), max(blocks)):
            arrivals.setdefault(self.arrival_key(log), []).append(log)
        for of_transaction in arrivals.values():
            of_transaction.reverse()
        told = []
        for flow in flows:
            waiting, arrived = arrivals.get(self.arrival_key(flow.log), []), 0
            while waiting and waiting[-1].log_index < flow.log.log_index:
                arrived += decode_transfer(waiting.pop())
            told.append(_paid_in(flow, reserve, arrived) if flow.cause is BalanceUpdateCause.deposit else flow)
        return told

    def _check_log(self, work: Work, log: Log) -> None:
        """Refuse logs of one branch beside headers of another."""
        if bytes(work.reader.header(log.block).hash) != log.block_hash:
            raise SyncRefused(f"block {log.block} changed while it was read")

    # -- prices and times

    def block_time(self, work: Work, block: int) -> datetime:
        """When a block was mined, naive UTC."""
        return self.time_of(work.reader.header(block).timestamp)

    def time_of(self, timestamp: int) -> datetime:
        """A block's timestamp as a naive UTC datetime; the process may run in any zone."""
        return utc(timestamp)

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

    def _read_prices(self, work: Work, needs: dict[str, list[int]]) -> None:
        for identifier, blocks in needs.items():
            feed = self._feeds.get(identifier)
            if feed is None:
                raise SyncRefused(f"no price feed for {self._name(identifier)}")
            for block, answer in work.reader.answers(feed, blocks).items():
                work.prices[identifier, block] = answer

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
        self._read_prices(work, self._priced(work, flows))
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
        return work.holdings.of_asset(identifier)

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
        work.books.sync.treasury.balance_update_refs.append(
            BalanceEventRef(
                balance_event_id=update.balance_update_id,
                strategy_cycle_included_at=update.strategy_cycle_included_at,
                cause=update.cause,
                position_type=update.position_type,
                position_id=update.position_id,
                usd_value=update.usd_value,
            )
        )

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

    # -- interest

    def balance_block(self, work: Work) -> int:
        """The block whose balances are compared with the books."""
        return work.view.end_block

    def measure_gain(self, work: Work, asset: AssetIdentifier) -> Gain:
        """What an asset came to since the books last looked."""
        holdings = tuple(work.holdings.of_asset(asset.identifier))
        block = self.balance_block(work)
        held = work.reader.call(asset.address, "balanceOf(address)(uint256)", self.target.holder, block=block)
        return Gain(
            asset=asset,
            holdings=holdings,
            base=sum(holding.base for holding in holdings),
            raw=held - sum(holding.balance for holding in holdings),
        )

    def check_gain(self, gain: Gain) -> None:
        """Refuse what is too large to be interest; exactly the bound passes."""
        bound = self.target.interest_bound
        allowed = exact(bound) * gain.base if gain.base > 0 else Fraction(UNBASED_GAIN)
        if abs(gain.raw) > allowed:
            symbol, decimals = gain.asset.token_symbol, self.decimals(gain.asset)
            raise SyncRefused(
                f"{symbol}: a gain of {gain.raw} ({format_units(gain.raw, decimals)} {symbol}) on a base of "
                f"{gain.base} ({format_units(gain.base, decimals)} {symbol}) is beyond the bound of {bound}"
            )

    def split_gain(self, gain: int, weights: Sequence[int]) -> list[int]:
        """Split a gain between holdings so that the parts add up to it."""
        return split_by_weight(gain, weights)

    def yearly_rate(self, gain: Fraction | int, base: Fraction | int, duration: timedelta) -> float:
        """A gain on a base as a rate per year."""
        return yearly_rate(gain, base, duration)

    def distribute(self, work: Work, gains: list[Gain], ended_at: datetime) -> InterestDistributionOperation:
        """Book every asset's gain; what came of it, for the books."""
        block = work.view.end_block
        operation = InterestDistributionOperation(start=self.started_at(work, gains, ended_at), end=ended_at)
        gained = total = Fraction(0)
        for gain in gains:
            price, decimals = work.price(gain.asset, block), self.decimals(gain.asset)
            operation.assets.append(gain.asset)
            operation.asset_interest_data[gain.asset.identifier] = AssetInterestData(
                total=to_decimal(gain.base, decimals),
                effective_rate=self.yearly_rate(gain.raw, gain.base, operation.duration),
            )
            if gain.base > 0:  # what came without a base is left to a correction: it is nobody's interest
                operation.entries += self.book_gain(work, gain, price)
                gained += worth(gain.raw, decimals, price)
            total += worth(gain.base, decimals, price)
        operation.effective_rate = self.yearly_rate(gained, total, operation.duration)
        return operation

    def started_at(self, work: Work, gains: list[Gain], ended_at: datetime) -> datetime:
        """The last checkpoint's time; the first time when the oldest tracker was opened."""
        last = work.books.sync.interest.last_sync_at
        if last is not None:
            return last
        positions = [holding.record for gain in gains for holding in gain.holdings]
        openings = [_opened_at(record) for record in positions if isinstance(record, Position)]
        return min((opening for opening in openings if opening is not None), default=ended_at)

    def book_gain(self, work: Work, gain: Gain, price: int) -> list[InterestDistributionEntry]:
        """Book an asset's gain to its holdings; one entry for each that gets a part."""
        entries = []
        weights = [holding.base for holding in gain.holdings]
        for holding, weight, part in zip(gain.holdings, weights, self.split_gain(gain.raw, weights), strict=True):
            if part:
                self.book_interest(work, holding, part, price)
                entries.append(
                    InterestDistributionEntry(
                        side="collateral",
                        position=None if holding.position_id is None else {"position_id": holding.position_id},
                        weight=format_units(weight, holding.decimals),
                        price=usd_float(Fraction(price, 10**PRICE_DECIMALS)),
                    )
                )
        return entries

    def book_interest(self, work: Work, holding: Holding, part: int, price: int) -> BalanceUpdate:
        """Book a holding's part of a gain."""
        # Read before booking: booking moves both.
        tracked, last_event_at = holding.tracked, holding.tracker.last_event_at if holding.tracker else None
        update = self.book(work, holding, BalanceUpdateCause.interest, part, block=work.view.end_block, price=price)
        update.old_balance = to_decimal(tracked, holding.decimals)
        update.previous_update_at = last_event_at
        return update

    # -- checkpoints

    def cursor_after(self, work: Work) -> int:
        """The last block that has been read completely."""
        return work.view.end_block

    def note_idle_sync(self, work: Work, cycle: datetime) -> None:
        """Leave a sync's trace where there was nothing to read: when it was, and for which cycle."""
        work.books.sync.treasury.last_updated_at = work.view.now
        work.books.sync.treasury.last_cycle_at = cycle

    def _start(self, view: ChainView, books: Books, cycle: datetime | None = None) -> Work:
        copy = copy_books(books)
        return Work(view=view, reader=Reader(view), books=copy, holdings=self.open_holdings(copy), cycle=cycle)

    def open_holdings(self, books: Books) -> Holdings:
        """What the books hold, to be moved."""
        return Holdings(books, self.decimals)

    def _keep_hashes(self, work: Work, blocks: set[int]) -> None:
        """Keep the hashes of the last scanned blocks that hold flows or end an operation."""
        kept = work.books.block_hashes
        for block in sorted(blocks)[-KEPT_HASHES:]:
            kept[block] = work.reader.hash(block)
        work.books.block_hashes = {block: kept[block] for block in sorted(kept)[-KEPT_HASHES:]}

    def _check_branch(self, work: Work) -> None:
        """Refuse a chain on which the last block known by its hash is another one now."""
        known = [block for block in work.books.block_hashes if block <= work.view.end_block]
        if known and work.books.block_hashes[max(known)] != work.reader.hash(max(known)):
            raise SyncRefused(f"block {max(known)} was replaced: reorganisations are not supported yet")

    # -- names

    def _identifier(self, address: str) -> str:
        return f"{self.target.chain_id}-{address.lower()}"

    def _name(self, identifier: str) -> str:
        asset = self._assets.get(identifier)
        return asset.token_symbol if asset is not None else identifier


def _paid_in(flow: Flow, reserve: str, arrived: int) -> Flow:
    return dataclasses.replace(flow, legs=(Leg(address=reserve, raw=arrived),))


def _opened_at(position: Position) -> datetime | None:
    loan = position.loan
    return loan.collateral.created_at if loan is not None and loan.collateral is not None else None
