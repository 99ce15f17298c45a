"""Mistakes about which events are flows, whose they are, in which order and in which cycle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from harness.books.records import BalanceUpdate, BalanceUpdateCause, Books
from harness.errors import SyncRefused
from harness.syncers.broken.registry import broken
from harness.syncers.reference import ReferenceSyncer
from harness.syncers.reference.decoding import TRANSFER, Flow, Leg, Log, address_topic, checksummed, decode_transfer
from harness.syncers.reference.holdings import Holding
from harness.syncers.reference.kinds import Kind, Say
from harness.syncers.reference.reading import Reader
from harness.syncers.reference.syncer import Work

NOBODY = "0x" + "00" * 20

# -- which events count


@broken("key_without_log_index", cause="missed")
class KeyWithoutLogIndex(ReferenceSyncer):
    """Events are told apart by block alone, so only the first flow of each block is booked."""

    def flow_key(self, log: Log) -> tuple[int, ...]:
        return (log.block,)


@broken("payment_to_another_missed", cause="missed")
class PaymentToAnotherMissed(ReferenceSyncer):
    """A redemption that is paid to somebody else than the owner is passed over."""

    def read_flows(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        flows = super().read_flows(work, kind, start_block, end_block)
        deposit = BalanceUpdateCause.deposit
        return [flow for flow in flows if flow.cause is deposit or flow.owner == flow.counterparty]


@broken("foreign_fund_taken", cause="phantom")
class ForeignFundTaken(ReferenceSyncer):
    """Whoever emits such an event is believed, another fund of the same deployer too."""

    def flow_logs(self, reader: Reader, kind: Kind, say: Say, first: int, last: int) -> Iterator[Log]:
        return reader.logs(None, [list(kind.flow_topics)], first, last)

    def arrival_topics(self) -> list[str | bytes | None]:
        return [TRANSFER]

    def own_mint(self, flow: Flow, moves: Sequence[Log]) -> int | None:
        return super().own_mint(flow, moves) or flow.log.log_index


class _TransfersBooked(ReferenceSyncer):
    """Books transfers that belong to no flow's transaction as flows of their own."""

    def read_flows(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        flows = super().read_flows(work, kind, start_block, end_block)
        known = {flow.log.tx_hash for flow in flows}
        more = [flow for flow in self.transfers(work, start_block, end_block) if flow.log.tx_hash not in known]
        return sorted([*flows, *more], key=lambda flow: flow.log.place)

    def transfers(self, work: Work, start_block: int, end_block: int) -> Iterator[Flow]:
        raise NotImplementedError

    def received(self, work: Work, start_block: int, end_block: int) -> Iterator[Log]:
        """Transfers of the reserve to the holder."""
        topics = [TRANSFER, None, address_topic(self.target.holder)]
        return work.reader.logs([self.target.reserve.address], topics, start_block, end_block)

    def paying(self, work: Work, start_block: int, end_block: int) -> set[str]:
        """Transactions in which the holder pays something out."""
        topics = [TRANSFER, address_topic(self.target.holder)]
        return {log.tx_hash for log in work.reader.logs(None, topics, start_block, end_block)}

    def as_flow(self, log: Log, cause: BalanceUpdateCause, raw: int) -> Flow:
        """A transfer as if it were an investor's."""
        sender, receiver = (checksummed(topic[-20:]) for topic in log.topics[1:3])
        owner = receiver if cause is BalanceUpdateCause.redemption else sender
        legs = (Leg(address=self.target.reserve.address, raw=raw),)
        return Flow(log=log, cause=cause, owner=owner, counterparty=owner, legs=legs)


@broken("donation_is_a_deposit", cause="donation booked as deposit")
class DonationIsADeposit(_TransfersBooked):
    """Tokens that somebody sends straight to the vault are booked as a deposit."""

    def transfers(self, work: Work, start_block: int, end_block: int) -> Iterator[Flow]:
        paying = self.paying(work, start_block, end_block)
        for log in self.received(work, start_block, end_block):
            if log.tx_hash not in paying:
                yield self.as_flow(log, BalanceUpdateCause.deposit, decode_transfer(log))


@broken("donation_joins_a_deposit", cause="donation booked as deposit")
class DonationJoinsADeposit(ReferenceSyncer):
    """All that arrived in a block before a deposit's event is taken to be of that deposit."""

    def arrival_key(self, log: Log) -> str:
        return str(log.block)

    def own_arrivals(self, brought: Sequence[Log]) -> Sequence[Log]:
        return brought


@broken("proceeds_are_a_deposit", cause="phantom")
class ProceedsAreADeposit(_TransfersBooked):
    """What a trade of the vault's own brings in is booked as a deposit."""

    def transfers(self, work: Work, start_block: int, end_block: int) -> Iterator[Flow]:
        paying = self.paying(work, start_block, end_block)
        for log in self.received(work, start_block, end_block):
            if log.tx_hash in paying:
                yield self.as_flow(log, BalanceUpdateCause.deposit, decode_transfer(log))


@broken("payment_is_a_redemption", cause="phantom")
class PaymentIsARedemption(_TransfersBooked):
    """Whatever the vault pays out of its reserve is booked as a redemption."""

    def transfers(self, work: Work, start_block: int, end_block: int) -> Iterator[Flow]:
        topics = [TRANSFER, address_topic(self.target.holder)]
        for log in work.reader.logs([self.target.reserve.address], topics, start_block, end_block):
            yield self.as_flow(log, BalanceUpdateCause.redemption, decode_transfer(log))


@broken("shares_received_are_a_deposit", cause="phantom")
class SharesReceivedAreADeposit(_TransfersBooked):
    """Shares that somebody hands to another are booked as a deposit by the receiver, at par."""

    def transfers(self, work: Work, start_block: int, end_block: int) -> Iterator[Flow]:
        unit = 10 ** int(work.reader.call(self.target.vault, "decimals()(uint8)"))
        for log in work.reader.logs([self.target.vault], [TRANSFER], start_block, end_block):
            raw = decode_transfer(log) * 10**self.target.reserve.decimals // unit
            flow = self.as_flow(log, BalanceUpdateCause.deposit, raw)
            receiver = checksummed(log.topics[2][-20:])
            if NOBODY not in (receiver, checksummed(log.topics[1][-20:])):
                yield Flow(log=log, cause=flow.cause, owner=receiver, counterparty=flow.owner, legs=flow.legs)


# -- which legs count


@broken("zero_leg_booked", cause="zero or dust leg")
class ZeroLegBooked(ReferenceSyncer):
    """Legs and parts of nothing get an update."""

    def is_booked(self, raw: int) -> bool:
        return True


@broken("dust_leg_unlisted", cause="zero or dust leg")
class DustLegUnlisted(ReferenceSyncer):
    """A dust leg that is skipped leaves no trace in the books."""

    def note_skipped(self, update: BalanceUpdate, skipped: list[dict[str, str]]) -> None:
        pass


@broken("dust_leg_refused", cause="zero or dust leg")
class DustLegRefused(ReferenceSyncer):
    """A leg without a position is refused however little it is, and the whole sync with it."""

    def skip_leg(self, leg: Leg) -> dict[str, str]:
        raise SyncRefused(f"a redemption paid out {self._name(self._identifier(leg.address))}, of which none is held")


@broken("any_leg_is_dust", cause="zero or dust leg")
class AnyLegIsDust(ReferenceSyncer):
    """A leg without a position is skipped as dust however much it is."""

    def skip_leg(self, leg: Leg) -> dict[str, str]:
        return {"asset": self._identifier(leg.address), "quantity": str(-leg.raw)}


@broken("only_reserve_leg_booked", cause="missed")
class OnlyReserveLegBooked(ReferenceSyncer):
    """Of what a redemption pays out, only the reserve is booked."""

    def paid_legs(self, flow: Flow) -> list[Leg]:
        reserve = self.target.reserve.address
        return [leg for leg in super().paid_legs(flow) if leg.address == reserve]


@broken("only_first_leg_booked", cause="missed")
class OnlyFirstLegBooked(ReferenceSyncer):
    """Of what a redemption pays out, only the first asset is booked."""

    def paid_legs(self, flow: Flow) -> list[Leg]:
        return list(super().paid_legs(flow)[:1])


# -- in which order


@broken("deposits_before_redemptions", cause="order-dependent")
class DepositsBeforeRedemptions(ReferenceSyncer):
    """Each kind of event is read by itself, so a sync books all deposits before all redemptions."""

    def in_order(self, flows: list[Flow]) -> list[Flow]:
        return sorted(flows, key=lambda flow: flow.cause is not BalanceUpdateCause.deposit)


@broken("flows_by_transaction_hash", cause="order-dependent")
class FlowsByTransactionHash(ReferenceSyncer):
    """The flows of a block are booked in the order of their transactions' hashes."""

    def in_order(self, flows: list[Flow]) -> list[Flow]:
        return sorted(flows, key=lambda flow: (flow.log.block, flow.log.tx_hash))


@broken("newest_flow_first", cause="order-dependent")
class NewestFlowFirst(ReferenceSyncer):
    """Flows are booked as an explorer lists them, the newest first."""

    def in_order(self, flows: list[Flow]) -> list[Flow]:
        return flows[::-1]


# -- whose, what and when


@broken("owner_is_counterparty", cause="wrong owner")
class OwnerIsCounterparty(ReferenceSyncer):
    """The owner of a flow is who was paid or who paid, not whose shares were burned or minted."""

    def owner_of(self, work: Work, flow: Flow) -> str | None:
        return flow.counterparty


@broken("owner_is_sender", cause="wrong owner")
class OwnerIsSender(ReferenceSyncer):
    """The owner of a flow is who sent its transaction."""

    def owner_of(self, work: Work, flow: Flow) -> str | None:
        return str(work.view.web3.eth.get_transaction(flow.log.tx_hash)["from"])  # type: ignore[arg-type]


@broken("redemption_is_a_deposit", cause="wrong cause")
class RedemptionIsADeposit(ReferenceSyncer):
    """A redemption is booked as a deposit of less than nothing."""

    def book_event(self, work: Work, flow: Flow, holding: Holding, raw: int) -> BalanceUpdate:
        update = super().book_event(work, flow, holding, raw)
        update.cause = work.books.sync.treasury.balance_update_refs[-1].cause = BalanceUpdateCause.deposit
        return update


@broken("cycle_is_block_time", cause="wrong cycle")
class CycleIsBlockTime(ReferenceSyncer):
    """A flow is counted to a cycle of its own block's time, not to its sync's."""

    def cycle_of(self, work: Work, flow: Flow) -> datetime | None:
        return self.block_time(work, flow.log.block)


@broken("cycle_left_out", cause="wrong cycle")
class CycleLeftOut(ReferenceSyncer):
    """Flows are counted to no cycle."""

    def cycle_of(self, work: Work, flow: Flow) -> datetime | None:
        return None


@broken("cycle_goes_back", cause="wrong cycle")
class CycleGoesBack(ReferenceSyncer):
    """A cycle before the last one is taken."""

    def check_cycle(self, books: Books, cycle: datetime) -> None:
        pass
