"""The reference syncer: reads the chain through a view, keeps books as the contract says.

Every operation works on a copy and returns it, so that one which raises has changed nothing. An instance
holds no state but its target: all that a later operation needs stands in the books.

Small methods are steps that a syncer can get wrong; ``harness.syncers.broken`` overrides one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from harness.books import copy_books
from harness.books.records import Books, Deployment
from harness.errors import SyncRefused
from harness.syncers.protocol import ChainView
from harness.syncers.reference.bookkeeping import Work
from harness.syncers.reference.branching import checkpoints, keep_hashes, last_common_block, note_again, rewind
from harness.syncers.reference.correcting import AccountCorrecting
from harness.syncers.reference.decoding import Log
from harness.syncers.reference.holdings import Holdings
from harness.syncers.reference.interest import Gain, InterestSyncing
from harness.syncers.reference.kinds import KINDS, Kind
from harness.syncers.reference.reading import FIRST_PAUSE, ChainMoved, Reader
from harness.syncers.reference.treasury import TreasurySync

__all__ = ["Gain", "ReferenceSyncer", "Work"]

STARTS = 4
"""How often an operation is begun while the chain is replaced under it, before it is given up."""


class ReferenceSyncer(TreasurySync, InterestSyncing, AccountCorrecting):
    """Books for one vault of kind ``enzyme`` or ``erc4626``.

    A node that answers nonsense, or nothing, is asked again a few times; what cannot be verified is refused. That
    the node is of the right chain is told by the hashes in the books: on another chain none of them is found.
    """

    # -- operations

    def initialise(self, view: ChainView, books: Books) -> Books:
        """Find the vault's deployment event up to the end block and fill ``Deployment``.

        Raises:
            SyncRefused: If the books have a vault already, or the vault has no such event.
        """
        kind = self._kind()
        self.check_uninitialised(books)

        def work_out(work: Work) -> None:
            self.check_head(view)
            work.reader.header(view.end_block)
            self.fill_deployment(work, self.find_deployment(work, kind))
            self.keep_scanned(work, view.end_block)

        return self._settled(view, books, work_out)

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        """Book the deposits and redemptions of the blocks not yet scanned, up to the end block.

        Raises:
            SyncRefused: For other books, a cycle before the last, a node behind the books, a redemption
                of something that the books do not hold.
        """
        kind = self._check_books(books)

        def work_out(work: Work) -> None:
            self.go_back(work)
            self.check_cycle(work.books, cycle)
            treasury = work.books.sync.treasury
            if treasury.last_block_scanned is not None and treasury.last_block_scanned >= view.end_block:
                self.note_idle_sync(work, cycle)
                note_again(work.books)
                return
            first = (
                self._deployed_at(work.books)
                if treasury.last_block_scanned is None
                else treasury.last_block_scanned + 1
            )
            reserve = work.holdings.reserve(self.target.reserve)
            flows = self.in_order(self.read_flows(work, kind, self.first_block(work.books), self.last_block(work)))
            self.book_flows(work, flows)
            self._price_reserve(work, reserve)
            treasury.last_updated_at = view.now
            treasury.last_cycle_at = cycle
            treasury.last_block_scanned = self.cursor_after(work)
            self.keep_scanned(work, first)

        return self._settled(view, books, work_out, cycle)

    def sync_interest(self, view: ChainView, books: Books) -> Books:
        """Book what rebases did to balances since the last interest sync, and move the checkpoint.

        Raises:
            SyncRefused: If the treasury stands at another block, the checkpoint lies later, or a gain
                is too large to be interest.
        """
        self._check_books(books)

        def work_out(work: Work) -> None:
            self.go_back(work)
            self.check_checkpoint(view, work.books)
            if self.is_interest_synced(work.books, view.end_block):
                return
            gains = [self.measure_gain(work, asset) for asset in work.holdings.rebasing()]
            for gain in gains:
                self.check_gain(gain)
            self.read_prices(work, {gain.asset.identifier: [view.end_block] for gain in gains})
            interest = work.books.sync.interest
            ended_at = self.block_time(work, view.end_block)
            if gains:
                interest.last_distribution = self.distribute(work, gains, ended_at)
            interest.last_sync_at = ended_at
            interest.last_sync_block = view.end_block
            self.keep_scanned(work, view.end_block)

        return self._settled(view, books, work_out)

    def correct_accounts(self, view: ChainView, books: Books) -> Books:
        """Bring the books to the chain's balances at the end block, and own all flows up to there.

        Raises:
            SyncRefused: If a trade is pending, the treasury stands at a later block, or a difference belongs
                nowhere.
        """
        self._check_books(books)
        self.check_no_pending_trade(books)

        def work_out(work: Work) -> None:
            self.go_back(work)
            self.check_cursor(work.books, view.end_block)
            sync = work.books.sync
            cursor = sync.treasury.last_block_scanned
            first = self._deployed_at(work.books) if cursor is None else min(cursor + 1, view.end_block)
            differences = self.differences(work)
            self.read_prices(work, {one.asset.identifier: [view.end_block] for one in differences})
            for difference in differences:
                self.correct(work, difference)
            sync.accounting.last_updated_at = view.now
            sync.accounting.last_block_scanned = sync.treasury.last_block_scanned = self.correction_scanned(work)
            self.keep_scanned(work, first)

        return self._settled(view, books, work_out)

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

    def check_head(self, view: ChainView) -> None:
        """Refuse a node that is behind what it is asked to read."""
        if view.head < view.end_block:
            raise SyncRefused(f"the node's head {view.head} is below the end block {view.end_block}")

    def check_checkpoint(self, view: ChainView, books: Books) -> None:
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
        asked = [self.target.deployer], [kind.deployment_topic]
        for prove in (False, True):  # a cut answer may lack it: then what receipts say decides
            for start, end in self.search_ranges(end_block):
                for block in range(start, end + 1) if prove else ():
                    if work.reader.may_hold(block, *asked):
                        work.reader.prove(block)
                for log in work.reader.logs(*asked, start, end):
                    if kind.deployed_vault(log) == self.vault:
                        return log
        raise SyncRefused(f"vault {self.target.vault} has no deployment event up to block {end_block}")

    # -- checkpoints

    def cursor_after(self, work: Work) -> int:
        """The last block that has been read completely."""
        return work.view.end_block

    def note_idle_sync(self, work: Work, cycle: datetime) -> None:
        """Leave a sync's trace where there was nothing to read: when it was, and for which cycle."""
        work.books.sync.treasury.last_updated_at = work.view.now
        work.books.sync.treasury.last_cycle_at = cycle

    # -- one operation

    def _settled(
        self, view: ChainView, books: Books, work_out: Callable[[Work], None], cycle: datetime | None = None
    ) -> Books:
        """Work an operation out on a copy, and begin anew if the chain is replaced meanwhile.

        Raises:
            SyncRefused: If it is replaced again and again.
        """
        wait = FIRST_PAUSE
        for started in range(1, STARTS + 1):
            work = self._start(view, books, cycle)
            try:
                work_out(work)
                self.check_unmoved(work)
                return work.books
            except ChainMoved as moved:
                if started == STARTS:
                    raise SyncRefused(str(moved)) from moved
            self._pause(wait)
            wait *= 2
        raise AssertionError("unreachable")

    def _start(self, view: ChainView, books: Books, cycle: datetime | None = None) -> Work:
        copy = copy_books(books)
        return Work(
            view=view,
            reader=self.open_reader(view),
            books=copy,
            holdings=self.open_holdings(copy),
            found=checkpoints(copy),
            cycle=cycle,
        )

    def open_reader(self, view: ChainView) -> Reader:
        """What the chain is read through in one operation."""
        return Reader(view, self._pause)

    def check_unmoved(self, work: Work) -> None:
        """Check at the end that the chain was not replaced meanwhile."""
        work.reader.check_unmoved()

    def open_holdings(self, books: Books) -> Holdings:
        """What the books hold, to be moved."""
        return Holdings(books, self.decimals)

    def go_back(self, work: Work) -> None:
        """Compare the blocks that the books know with the chain's, and go back to the last common one.

        Raises:
            SyncRefused: If no block is common, or the node is behind: behind the books, without a hash that says why,
                or behind what it is asked to read.
        """
        view, cursor = work.view, work.books.sync.treasury.last_block_scanned
        common = self.find_common_block(work)
        if common is not None:
            rewind(work.books, common, self.decimals)
            work.holdings = self.open_holdings(work.books)
            work.found = checkpoints(work.books)
        elif cursor is not None and view.head < cursor:
            raise SyncRefused(f"the node's head {view.head} is below the last block scanned, {cursor}")
        self.check_head(view)
        work.reader.header(view.end_block)  # before anything else of that block, so that a change of it shows

    def find_common_block(self, work: Work) -> int | None:
        """The last block that the books and the chain have in common, None if none was replaced."""
        return last_common_block(work.books, work.reader, work.view.head)

    def keep_scanned(self, work: Work, first: int) -> None:
        """Keep the hashes of the blocks from the first one scanned to the end block."""
        keep_hashes(work.books, work.found, work.reader, first, work.view.end_block)
