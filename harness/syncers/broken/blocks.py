"""Mistakes about which blocks are read, up to where, and what is remembered between two syncs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import ClassVar

from harness.books.records import Books, Position, ReservePosition
from harness.syncers.broken.registry import broken
from harness.syncers.protocol import ChainView, Target
from harness.syncers.reference import ReferenceSyncer
from harness.syncers.reference.decoding import Flow
from harness.syncers.reference.kinds import Kind
from harness.syncers.reference.syncer import Work

# -- where a sync begins


@broken("resume_off_by_one", cause="hole after resume")
class ResumeOffByOne(ReferenceSyncer):
    """A resumed sync skips the first block after the last block scanned."""

    def first_block(self, books: Books) -> int:
        cursor = books.sync.treasury.last_block_scanned
        return super().first_block(books) if cursor is None else cursor + 2


@broken("block_read_twice", cause="doubled")
class BlockReadTwice(ReferenceSyncer):
    """A resumed sync starts at the last block scanned and books its flows again."""

    def first_block(self, books: Books) -> int:
        cursor = books.sync.treasury.last_block_scanned
        return super().first_block(books) if cursor is None else cursor


@broken("deployment_block_skipped", cause="missed")
class DeploymentBlockSkipped(ReferenceSyncer):
    """The first sync starts in the block after the deployment."""

    def first_block(self, books: Books) -> int:
        never_synced = books.sync.treasury.last_block_scanned is None
        return super().first_block(books) + (1 if never_synced else 0)


@broken("older_flows_ignored", cause="missed")
class OlderFlowsIgnored(ReferenceSyncer):
    """Flows from before the books were initialised are passed over."""

    def read_flows(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        since = work.books.sync.deployment.initialised_at
        flows = super().read_flows(work, kind, start_block, end_block)
        return [flow for flow in flows if since is None or self.block_time(work, flow.log.block) >= since]


@broken("late_hint_believed", cause=None)
class LateHintBelieved(ReferenceSyncer):
    """The deployment is looked for from the start hint on, and not before it."""

    def search_ranges(self, end_block: int) -> list[tuple[int, int]]:
        return super().search_ranges(end_block)[:1]


# -- in which pieces blocks are read


@broken("last_block_of_chunk_dropped", cause="missed")
class LastBlockOfChunkDropped(ReferenceSyncer):
    """The last block of each chunk is left out, as if a range's end were exclusive."""

    def flow_ranges(self, start_block: int, end_block: int, chunk: int | None) -> Iterator[tuple[int, int]]:
        for first, last in super().flow_ranges(start_block, end_block, chunk):
            if first < last:
                yield first, last - 1


@broken("chunk_seam_skipped", cause="chunk-dependent")
class ChunkSeamSkipped(ReferenceSyncer):
    """Between two chunks a block is left out: the next one starts at the last one's end plus two."""

    def flow_ranges(self, start_block: int, end_block: int, chunk: int | None) -> Iterator[tuple[int, int]]:
        for index, (first, last) in enumerate(super().flow_ranges(start_block, end_block, chunk)):
            begin = first if index == 0 else first + 1
            if begin <= last:
                yield begin, last


@broken("chunk_seam_read_twice", cause="chunk-dependent")
class ChunkSeamReadTwice(ReferenceSyncer):
    """A chunk starts at the block at which the last one ended, and that block's flows are booked twice."""

    def flow_ranges(self, start_block: int, end_block: int, chunk: int | None) -> Iterator[tuple[int, int]]:
        for index, (first, last) in enumerate(super().flow_ranges(start_block, end_block, chunk)):
            yield (first if index == 0 else first - 1), last


@broken("only_first_chunk_read", cause="chunk-dependent")
class OnlyFirstChunkRead(ReferenceSyncer):
    """One request is made for logs, and the blocks beyond the first chunk count as read."""

    def flow_ranges(self, start_block: int, end_block: int, chunk: int | None) -> Iterator[tuple[int, int]]:
        yield from list(super().flow_ranges(start_block, end_block, chunk))[:1]


# -- where a sync ends


@broken("cursor_at_head", cause="cursor ahead")
class CursorAtHead(ReferenceSyncer):
    """The node's head is kept as the last block scanned, though only the blocks to the end block were read."""

    def cursor_after(self, work: Work) -> int:
        return work.view.head


@broken("cursor_at_initialise", cause="cursor ahead")
class CursorAtInitialise(ReferenceSyncer):
    """Initialising the books counts the blocks so far as scanned."""

    def initialise(self, view: ChainView, books: Books) -> Books:
        books = super().initialise(view, books)
        books.sync.treasury.last_block_scanned = view.end_block
        return books


@broken("cursor_one_behind", cause="cursor behind")
class CursorOneBehind(ReferenceSyncer):
    """The last block scanned is kept as the block before it."""

    def cursor_after(self, work: Work) -> int:
        return work.view.end_block - 1


@broken("cursor_at_last_flow", cause="cursor behind")
class CursorAtLastFlow(ReferenceSyncer):
    """The last block scanned is the block of the last flow; blocks without any do not move it."""

    def cursor_after(self, work: Work) -> int:
        refs = {ref.balance_event_id for ref in work.books.sync.treasury.balance_update_refs}
        portfolio = work.books.portfolio
        holders: list[ReservePosition | Position] = [*portfolio.reserves.values(), *portfolio.open_positions.values()]
        updates = (update for holder in holders for update in holder.balance_updates.values())
        blocks = [update.block_number or 0 for update in updates if update.balance_update_id in refs]
        return max(blocks, default=self._deployed_at(work.books))


@broken("head_read_for_end_block", cause="moving head read")
class HeadReadForEndBlock(ReferenceSyncer):
    """Flows are read up to the node's newest block, whatever the end block, which is kept as the last one scanned."""

    def last_block(self, work: Work) -> int:
        return int(work.view.web3.eth.block_number)


@broken("initialised_at_head", cause="moving head read")
class InitialisedAtHead(ReferenceSyncer):
    """The books take the newest block's time for when they were initialised."""

    def initialise(self, view: ChainView, books: Books) -> Books:
        books = super().initialise(view, books)
        newest = view.web3.eth.get_block("latest")
        books.sync.deployment.initialised_at = self.time_of(newest["timestamp"])
        return books


# -- what is remembered between two syncs


@broken("cursor_moved_before_events", cause="hole after resume")
class CursorMovedBeforeEvents(ReferenceSyncer):
    """A range is noted as read before it is, outside the books, and a sync after one that failed goes on behind it."""

    under_way: ClassVar[dict[str, int]] = {}
    """The last block of the range being read, by vault: it outlives a process's syncers, as a file would."""

    def initialise(self, view: ChainView, books: Books) -> Books:
        self.under_way.pop(self.vault, None)
        return super().initialise(view, books)

    def first_block(self, books: Books) -> int:
        return max(super().first_block(books), self.under_way.get(self.vault, 0) + 1)

    def flow_ranges(self, start_block: int, end_block: int, chunk: int | None) -> Iterator[tuple[int, int]]:
        self.under_way[self.vault] = end_block
        return super().flow_ranges(start_block, end_block, chunk)

    def cursor_after(self, work: Work) -> int:
        self.under_way.pop(self.vault, None)
        return super().cursor_after(work)


@broken("seen_events_in_memory", cause="not restart-safe")
class SeenEventsInMemory(ReferenceSyncer):
    """A resumed sync reads the last block again and leaves out the events that this process remembers."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.seen: set[tuple[int, int]] = set()

    def first_block(self, books: Books) -> int:
        cursor = books.sync.treasury.last_block_scanned
        return super().first_block(books) if cursor is None else cursor

    def read_flows(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        flows = super().read_flows(work, kind, start_block, end_block)
        return [flow for flow in flows if flow.log.place not in self.seen]

    def book_flows(self, work: Work, flows: list[Flow]) -> None:
        super().book_flows(work, flows)
        self.seen.update(flow.log.place for flow in flows)


@broken("idle_sync_reads_again", cause="not repeatable")
class IdleSyncReadsAgain(ReferenceSyncer):
    """A sync at the last block scanned books that block's flows once more."""

    def note_idle_sync(self, work: Work, cycle: datetime) -> None:
        super().note_idle_sync(work, cycle)
        block = work.view.end_block
        if work.books.sync.treasury.last_block_scanned == block:
            self.book_flows(work, self.read_flows(work, self._kind(), block, block))


@broken("idle_sync_unnoted", cause="wrong cycle")
class IdleSyncUnnoted(ReferenceSyncer):
    """A sync without new blocks leaves both timestamps as they were."""

    def note_idle_sync(self, work: Work, cycle: datetime) -> None:
        pass
