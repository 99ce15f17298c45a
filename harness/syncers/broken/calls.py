"""Mistakes about who speaks for a vault, about transactions of several calls, and about fees."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from harness.books.records import BalanceUpdateCause
from harness.syncers.broken.registry import broken
from harness.syncers.reference import ReferenceSyncer
from harness.syncers.reference.decoding import NOBODY, TRANSFER, Flow, Leg, Log, decode_transfer, transfer_parties
from harness.syncers.reference.kinds import Kind, Say
from harness.syncers.reference.reading import Reader
from harness.syncers.reference.syncer import Work

# -- who speaks


@broken("replaced_accessor_not_followed", cause="missed")
class ReplacedAccessorNotFollowed(ReferenceSyncer):
    """The accessor that the vault was deployed with is the only one that is listened to."""

    def who_says(self, work: Work, kind: Kind, start_block: int, end_block: int) -> Say:
        deployed_at = self._deployed_at(work.books)
        say = kind.say(work.reader, self.target, deployed_at, deployed_at, max(end_block, deployed_at))
        return Say(places=say.places[:1], emitters=say.emitters[:1])


@broken("abandoned_accessor_believed", cause="phantom")
class AbandonedAccessorBelieved(ReferenceSyncer):
    """Whoever ever spoke for the vault is listened to for good."""

    def who_says(self, work: Work, kind: Kind, start_block: int, end_block: int) -> Say:
        deployed_at = self._deployed_at(work.books)
        self.say = kind.say(work.reader, self.target, deployed_at, deployed_at, end_block)
        return self.say

    def flow_logs(self, reader: Reader, kind: Kind, say: Say, first: int, last: int) -> Iterator[Log]:
        return reader.logs(sorted(set(say.emitters)), [list(kind.flow_topics)], first, last)

    def own_mint(self, flow: Flow, moves: Sequence[Log]) -> int | None:
        mint = super().own_mint(flow, moves)
        return mint if mint or self.say.counts(flow.log) else flow.log.log_index

    def paid(self, flow: Flow, mint: int | None, own: Sequence[Log]) -> int:
        return super().paid(flow, mint, own) if self.say.counts(flow.log) else _assets_of(flow)


@broken("accessor_switched_at_its_block", cause="missed")
class AccessorSwitchedAtItsBlock(ReferenceSyncer):
    """A new accessor has the say from the beginning of the block in which it is set."""

    def who_says(self, work: Work, kind: Kind, start_block: int, end_block: int) -> Say:
        say = super().who_says(work, kind, start_block, end_block)
        return Say(places=tuple((block, -1) for block, _ in say.places), emitters=say.emitters)


# -- transactions of several calls


@broken("one_flow_a_transaction", cause="missed")
class OneFlowATransaction(ReferenceSyncer):
    """Events are told apart by transaction, so only the first flow of each is booked."""

    def flow_key(self, log: Log) -> tuple[int, ...]:
        return (int(log.tx_hash, 16),)


@broken("gift_of_a_transaction_joins", cause="donation booked as deposit")
class GiftOfATransactionJoins(ReferenceSyncer):
    """Whatever reaches the vault in a deposit's transaction before its shares are minted is part of it."""

    def own_arrivals(self, brought: Sequence[Log]) -> Sequence[Log]:
        return brought


@broken("deposits_of_a_transaction_summed", cause="missed")
class DepositsOfATransactionSummed(ReferenceSyncer):
    """The deposits of a transaction are booked as one, with the last one's event."""

    def with_arrivals(self, work: Work, flows: list[Flow]) -> list[Flow]:
        told: list[Flow] = []
        for flow in super().with_arrivals(work, flows):
            if told and told[-1].log.tx_hash == flow.log.tx_hash and _are_deposits(told[-1], flow):
                told.append(_summed(told.pop(), flow))
            else:
                told.append(flow)
        return told


def _are_deposits(*flows: Flow) -> bool:
    return all(flow.cause is BalanceUpdateCause.deposit and flow.legs[0].raw for flow in flows)


def _summed(first: Flow, second: Flow) -> Flow:
    leg = second.legs[0]
    return dataclasses.replace(second, legs=(Leg(address=leg.address, raw=first.legs[0].raw + leg.raw),))


# -- what an event says, and what moved


@broken("event_alone_is_a_deposit", cause="phantom")
class EventAloneIsADeposit(ReferenceSyncer):
    """The event of a deposit is booked though no shares were minted, nor anything paid."""

    def paid(self, flow: Flow, mint: int | None, own: Sequence[Log]) -> int:
        return _assets_of(flow) if mint is None else super().paid(flow, mint, own)


@broken("gross_of_a_tokens_fee", cause="gross for net")
class GrossOfATokensFee(ReferenceSyncer):
    """A deposit is what its event says, though the token's own fee was taken on the way."""

    def paid(self, flow: Flow, mint: int | None, own: Sequence[Log]) -> int:
        return _assets_of(flow) if own else 0


@broken("fee_with_an_event_is_a_deposit", cause="fee shares booked")
class FeeWithAnEventIsADeposit(ReferenceSyncer):
    """Shares that are minted as a fee, with the event of a deposit, are booked as one, though nothing was paid."""

    def paid(self, flow: Flow, mint: int | None, own: Sequence[Log]) -> int:
        return _assets_of(flow) if mint is not None and not own else super().paid(flow, mint, own)


@broken("fee_shares_are_a_deposit", cause="fee shares booked")
class FeeSharesAreADeposit(ReferenceSyncer):
    """Shares that are minted without the event of a deposit are booked as one, at par."""

    def read_flows(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        flows = super().read_flows(work, kind, start_block, end_block)
        known = {flow.log.tx_hash for flow in flows}
        unit = 10 ** int(work.reader.call(self.target.vault, "decimals()(uint8)"))
        more = []
        for log in work.reader.logs([self.target.vault], [TRANSFER], start_block, end_block):
            giver, receiver = transfer_parties(log)
            if giver == NOBODY and log.tx_hash not in known:
                raw = decode_transfer(log) * 10**self.target.reserve.decimals // unit
                legs = (Leg(address=self.target.reserve.address, raw=raw),)
                deposit = BalanceUpdateCause.deposit
                more.append(Flow(log=log, cause=deposit, owner=receiver, counterparty=receiver, legs=legs))
        return sorted([*flows, *more], key=lambda flow: flow.log.place)


def _assets_of(flow: Flow) -> int:
    """What a deposit's event says was paid."""
    return int.from_bytes(flow.log.data[:32], "big")
