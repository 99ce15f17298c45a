"""Mistakes about blocks that are replaced: what is compared, what is taken back, what is read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import ClassVar

from harness.books import copy_books
from harness.books.records import BalanceUpdate, BalanceUpdateCause, Books, Position, ReservePosition
from harness.syncers.broken.registry import broken
from harness.syncers.protocol import ChainView, Target
from harness.syncers.reference import ReferenceSyncer
from harness.syncers.reference.branching import checkpoints
from harness.syncers.reference.decoding import Flow, Log
from harness.syncers.reference.holdings import Holding, tracked_side, whole_units
from harness.syncers.reference.kinds import Kind
from harness.syncers.reference.reading import Reader
from harness.syncers.reference.syncer import Work
from harness.units import exact

FLOWS = (BalanceUpdateCause.deposit, BalanceUpdateCause.redemption)

# -- what is compared


@broken("reorganisations_unseen", cause="orphaned block kept")
class ReorganisationsUnseen(ReferenceSyncer):
    """No hash is ever compared: what was read once is believed for ever."""

    def find_common_block(self, work: Work) -> int | None:
        return None


@broken("idle_sync_compares_nothing", cause="orphaned block kept")
class IdleSyncComparesNothing(ReferenceSyncer):
    """Where there is no new block to read, nobody looks whether the last one is still the same."""

    def find_common_block(self, work: Work) -> int | None:
        is_idle = work.books.sync.treasury.last_block_scanned == work.view.end_block
        return None if is_idle else super().find_common_block(work)


@broken("only_newest_block_taken_back", cause="orphaned block kept")
class OnlyNewestBlockTakenBack(ReferenceSyncer):
    """Where the last block scanned is another one, the one before it is taken to be the same."""

    def find_common_block(self, work: Work) -> int | None:
        if super().find_common_block(work) is None:
            return None
        return sorted(block for block in work.books.block_hashes if block <= work.view.head)[-2]


@broken("hashes_of_eight_blocks", cause=None)
class HashesOfEightBlocks(ReferenceSyncer):
    """Hashes of eight blocks are kept, and what goes deeper is refused."""

    def keep_scanned(self, work: Work, first: int) -> None:
        super().keep_scanned(work, first)
        work.books.block_hashes = dict(sorted(work.books.block_hashes.items())[-8:])


@broken("only_last_end_block_known", cause=None)
class OnlyLastEndBlockKnown(ReferenceSyncer):
    """Of all blocks only the last one's hash is kept: that it was replaced shows, and not how many others were."""

    def keep_scanned(self, work: Work, first: int) -> None:
        super().keep_scanned(work, first)
        work.books.block_hashes = {max(work.books.block_hashes): work.books.block_hashes[max(work.books.block_hashes)]}


@broken("lower_head_believed", cause=None)
class LowerHeadBelieved(ReferenceSyncer):
    """A node whose head is below the last block scanned is taken to have another chain, though its hashes are ours."""

    def find_common_block(self, work: Work) -> int | None:
        common, cursor = super().find_common_block(work), work.books.sync.treasury.last_block_scanned
        if common is not None or cursor is None or cursor <= work.view.head:
            return common
        return max((block for block in work.books.block_hashes if block <= work.view.head), default=None)


@broken("lower_head_always_refused", cause=None)
class LowerHeadAlwaysRefused(ReferenceSyncer):
    """A head below the last block scanned is refused, though a hash shows that the chain is another one."""

    def find_common_block(self, work: Work) -> int | None:
        cursor = work.books.sync.treasury.last_block_scanned
        return None if cursor is not None and work.view.head < cursor else super().find_common_block(work)


class _AnyBranch(Reader):
    def _is_of_this_branch(self, logs: list[Log]) -> bool:
        return True

    def _check_unmoved(self, block: int) -> None:
        pass


@broken("turn_under_way_unseen", cause=None)
class TurnUnderWayUnseen(ReferenceSyncer):
    """What was read before and after the chain turned is put together."""

    def open_reader(self, view: ChainView) -> Reader:
        return _AnyBranch(view, self._pause)

    def check_unmoved(self, work: Work) -> None:
        pass


# -- what is taken back


class _Keeping(ReferenceSyncer):
    """Goes back, and then puts something of it in its old place again."""

    def go_back(self, work: Work) -> None:
        before = copy_books(work.books)
        self.recall(work, before, set())
        super().go_back(work)
        if work.books.block_hashes != before.block_hashes:
            gone = {update.balance_update_id for update in _updates(before)}
            self.recall(work, before, gone - {update.balance_update_id for update in _updates(work.books)})
            self.keep(work, before, max(work.books.block_hashes))
            work.holdings = self.open_holdings(work.books)
            work.found = checkpoints(work.books)

    def recall(self, work: Work, before: Books, gone: set[int]) -> None:
        """Look at what was taken back: ids of updates."""

    def keep(self, work: Work, before: Books, common: int) -> None:
        """Put something back."""

    def put_back(self, work: Work, before: Books, which: Callable[[BalanceUpdate], bool]) -> None:
        """Book updates again as they were, with their refs."""
        holdings = self.open_holdings(work.books)
        there = {update.balance_update_id for update in _updates(work.books)}
        again = set()
        for update in sorted(_updates(before), key=lambda one: one.balance_update_id):
            if update.balance_update_id in there or not which(update):
                continue
            for holding in holdings.of_asset(update.asset.identifier):
                if holding.position_id == update.position_id:
                    raw = whole_units(exact(update.quantity), holding.decimals, update.asset)
                    holding.add(dataclasses.replace(update), raw)
                    again.add(update.balance_update_id)
        for now, then in (
            (work.books.sync.treasury, before.sync.treasury),
            (work.books.sync.accounting, before.sync.accounting),
        ):
            now.balance_update_refs += [ref for ref in then.balance_update_refs if ref.balance_event_id in again]
            now.balance_update_refs.sort(key=lambda ref: ref.balance_event_id)


@broken("orphaned_flows_kept", cause="orphaned block kept")
class OrphanedFlowsKept(_Keeping):
    """The cursor goes back, and what was booked of the blocks above it stays."""

    def keep(self, work: Work, before: Books, common: int) -> None:
        self.put_back(work, before, lambda update: update.cause in FLOWS and (update.block_number or 0) > common)


@broken("orphaned_interest_kept", cause="orphaned block kept")
class OrphanedInterestKept(_Keeping):
    """Interest of blocks that were replaced stays booked."""

    def keep(self, work: Work, before: Books, common: int) -> None:
        self.put_back(work, before, lambda update: update.cause is BalanceUpdateCause.interest)


@broken("orphaned_corrections_kept", cause="orphaned block kept")
class OrphanedCorrectionsKept(_Keeping):
    """Corrections at blocks that were replaced stay booked."""

    def keep(self, work: Work, before: Books, common: int) -> None:
        self.put_back(work, before, lambda update: update.cause is BalanceUpdateCause.correction)


@broken("orphaned_position_stays_open", cause="orphaned block kept")
class OrphanedPositionStaysOpen(_Keeping):
    """A position that a correction opened stays there when the correction's block is replaced."""

    def keep(self, work: Work, before: Books, common: int) -> None:
        now = work.books.portfolio
        known = {*now.open_positions, *now.frozen_positions, *now.closed_positions}
        for position_id, position in before.portfolio.open_positions.items():
            if position_id not in known:
                now.open_positions[position_id] = dataclasses.replace(position, balance_updates={})


@broken("orphaned_closing_kept", cause="orphaned block kept")
class OrphanedClosingKept(_Keeping):
    """A position that a correction closed stays closed when the correction's block is replaced."""

    def keep(self, work: Work, before: Books, common: int) -> None:
        now = work.books.portfolio
        for position_id, position in before.portfolio.closed_positions.items():
            if position_id in now.open_positions:
                now.closed_positions[position_id] = now.open_positions.pop(position_id)
                now.closed_positions[position_id].closed_at = position.closed_at


@broken("tracker_stamps_kept", cause="orphaned block kept")
class TrackerStampsKept(_Keeping):
    """Trackers go on telling of blocks that were replaced."""

    def keep(self, work: Work, before: Books, common: int) -> None:
        for position_id, then in before.portfolio.open_positions.items():
            now = work.books.portfolio.open_positions.get(position_id)
            for is_debt in (False, True) if now is not None else ():
                assert now is not None
                kept, tracker = (tracked_side(one, is_debt=is_debt)[1] for one in (then, now))
                if kept is not None and tracker is not None:
                    tracker.last_event_at, tracker.last_updated_at = kept.last_event_at, kept.last_updated_at
                    tracker.last_updated_block_number = kept.last_updated_block_number


@broken("last_distribution_kept", cause="orphaned block kept")
class LastDistributionKept(_Keeping):
    """What was distributed last stays noted, though its block was replaced."""

    def keep(self, work: Work, before: Books, common: int) -> None:
        work.books.sync.interest.last_distribution = before.sync.interest.last_distribution


@broken("cursor_not_taken_back", cause="re-included event lost")
class CursorNotTakenBack(_Keeping):
    """What was booked of replaced blocks goes, and the last block scanned stays: nothing is read again."""

    def keep(self, work: Work, before: Books, common: int) -> None:
        work.books.sync.treasury.last_block_scanned = before.sync.treasury.last_block_scanned


@broken("interest_checkpoint_not_taken_back", cause="cursor ahead")
class InterestCheckpointNotTakenBack(_Keeping):
    """Interest is taken back, and the block to which it is synced stays."""

    def keep(self, work: Work, before: Books, common: int) -> None:
        now, then = work.books.sync.interest, before.sync.interest
        now.last_sync_at, now.last_sync_block = then.last_sync_at, then.last_sync_block


@broken("accounting_checkpoint_not_taken_back", cause="cursor ahead")
class AccountingCheckpointNotTakenBack(_Keeping):
    """Corrections are taken back, and the block to which accounts are corrected stays."""

    def keep(self, work: Work, before: Books, common: int) -> None:
        now, then = work.books.sync.accounting, before.sync.accounting
        now.last_updated_at, now.last_block_scanned = then.last_updated_at, then.last_block_scanned


@broken("flows_of_kept_blocks_stay", cause="orphaned block kept")
class FlowsOfKeptBlocksStay(_Keeping):
    """Of a sync whose end was replaced, what lies below the fork stays booked, in that sync's cycle."""

    def keep(self, work: Work, before: Books, common: int) -> None:
        self.put_back(work, before, lambda update: (update.block_number or 0) <= common)
        treasury, blocks = work.books.sync.treasury, [update.block_number or 0 for update in _updates(work.books)]
        treasury.last_block_scanned = max([treasury.last_block_scanned or 0, *blocks]) or None


@broken("ids_used_again", cause=None)
class IdsUsedAgain(_Keeping):
    """Ids of updates that were taken back are given to others."""

    def keep(self, work: Work, before: Books, common: int) -> None:
        ids = [update.balance_update_id for update in _updates(work.books)]
        work.books.portfolio.next_balance_update_id = max(ids, default=0) + 1


# -- what is read again


class _Recalling(_Keeping):
    """Knows, for the operation that goes back, which updates it took away."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.gone: dict[str, BalanceUpdate] = {}
        """By transaction."""

    def recall(self, work: Work, before: Books, gone: set[int]) -> None:
        self.gone = {
            update.tx_hash: update
            for update in _updates(before)
            if update.balance_update_id in gone and update.tx_hash is not None
        }


@broken("re_included_flow_taken_for_known", cause="re-included event lost")
class ReIncludedFlowTakenForKnown(_Recalling):
    """A transaction that was booked in a block that is gone is taken for booked, and not booked in its new block."""

    def read_flows(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        flows = super().read_flows(work, kind, start_block, end_block)
        return [flow for flow in flows if flow.log.tx_hash not in self.gone]


@broken("time_of_orphaned_block_kept", cause="orphaned block kept")
class TimeOfOrphanedBlockKept(_Recalling):
    """A transaction that is mined again keeps the time of the block in which it was first."""

    def book_event(self, work: Work, flow: Flow, holding: Holding, raw: int) -> BalanceUpdate:
        update = super().book_event(work, flow, holding, raw)
        known = self.gone.get(flow.log.tx_hash)
        if known is not None:
            update.block_mined_at = known.block_mined_at
        return update


@broken("flow_left_in_its_old_block", cause="orphaned block kept")
class FlowLeftInItsOldBlock(_Recalling):
    """A transaction that is mined again stays booked as it was first, with its old block."""

    def read_flows(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        flows = super().read_flows(work, kind, start_block, end_block)
        self.again = {flow.log.tx_hash for flow in flows}
        return flows

    def book_event(self, work: Work, flow: Flow, holding: Holding, raw: int) -> BalanceUpdate:
        update = super().book_event(work, flow, holding, raw)
        known = self.gone.get(flow.log.tx_hash)
        if known is not None:
            update.block_mined_at, update.block_number = known.block_mined_at, known.block_number
            update.log_index = known.log_index
        return update


# -- what is remembered before it is complete


@broken("seen_before_it_is_booked", cause="hole after resume")
class SeenBeforeItIsBooked(ReferenceSyncer):
    """Events are noted as seen when they are read, outside the books: after a crash they are never booked."""

    seen: ClassVar[dict[str, set[tuple[int, int]]]] = {}
    """By vault: it outlives a process's syncers, as a file would."""

    def initialise(self, view: ChainView, books: Books) -> Books:
        self.seen.pop(self.vault, None)
        return super().initialise(view, books)

    def read_flows(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        flows = super().read_flows(work, kind, start_block, end_block)
        seen = self.seen.setdefault(self.vault, set())
        fresh = [flow for flow in flows if flow.log.place not in seen]
        seen.update(flow.log.place for flow in flows)
        return fresh

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        after = super().sync_treasury(view, books, cycle)
        self.seen.pop(self.vault, None)
        return after


def _updates(books: Books) -> Iterator[BalanceUpdate]:
    for record in _records(books):
        yield from record.balance_updates.values()


def _records(books: Books) -> Iterator[ReservePosition | Position]:
    portfolio = books.portfolio
    yield from portfolio.reserves.values()
    for positions in (portfolio.open_positions, portfolio.frozen_positions, portfolio.closed_positions):
        yield from positions.values()
