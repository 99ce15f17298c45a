"""What books must say from operation to operation, through reorganisations.

A rewind is worked out from what books must come to, and not by undoing what was written: they are the books that the
last surviving operation left, with the trades since then booked anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile

from harness.books.executor import BookedTrade, Undo, book_trade, orphan_trades, trade_record, undo_of
from harness.books.records import Books, Portfolio, Position, ReservePosition
from harness.books.state_file import copy_books
from harness.errors import BooksError
from harness.ledger.bookkeeping import Operation, Refusal, belongs_elsewhere, expected_books
from harness.ledger.facts import Ledger

HASHES_KEPT = 128
"""Books keep the hashes of so many scanned blocks, the last ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """An operation that succeeded, and what it left."""

    end_block: int
    books: Books
    trades: int
    """How many trades had been booked before it."""
    kept: tuple[int, ...]
    """Blocks whose hashes the books keep then, in order."""


class Foreteller:
    """Keeps the books that must be, and what it takes to go back.

    ``books`` are as the last operation, trade or reorganisation left them. ``pending_rewind`` is the last common block
    of reorganisations that no operation has followed up yet, None if there is none.
    """

    def __init__(self) -> None:
        self.books = Books()
        self.pending_rewind: int | None = None
        self._done: list[_Done] = []
        self._booked: list[Undo] = []
        """Every trade, as what it takes to take it out again."""
        self._failed: dict[int, datetime] = {}
        """When trades failed whose blocks were replaced, by their ids."""

    def copy(self) -> Foreteller:
        """An independent copy; books are shared, nobody changes them."""
        other = Foreteller()
        other.books = self.books
        other.pending_rewind = self.pending_rewind
        other._done = list(self._done)
        other._booked = list(self._booked)
        other._failed = dict(self._failed)
        return other

    def operate(self, ledger: Ledger, operation: Operation) -> Books | Refusal:
        """Give the books that an operation must leave, or why it must be refused; then the books stay as they are.

        Args:
            ledger: What happened on the branch that there is now; may reach beyond the operation's end block.
            operation: What is asked.
        """
        elsewhere = belongs_elsewhere(self.books, operation)
        if elsewhere is not None:
            return Refusal(reason=elsewhere)
        books, done = self.books, self._done
        common = self._common(operation.head)
        if common is not None:
            done = self._surviving(common)
            if not done:
                return Refusal(reason=f"blocks above {common} were replaced, and the books keep no hash so far back")
            books = self._rewound(done)
        after = expected_books(ledger, books, operation)
        if isinstance(after, Refusal):
            return after
        # What no scanned block shows needs no way back.
        if common is not None or not self._is_above(self.pending_rewind):
            self.pending_rewind = None
        latest = self._done[-1].kept if self._done else ()
        kept = [block for block in latest if common is None or block <= common]
        kept = sorted({*kept, *_scanned(ledger, books, operation)})[-HASHES_KEPT:]
        self.books = after
        self._done = [
            *done,
            _Done(end_block=operation.end_block, books=after, trades=len(self._booked), kept=tuple(kept)),
        ]
        return after

    def book(self, trade: BookedTrade) -> Books:
        """Book a manager's trade.

        Raises:
            BooksError: If the books have no place for it, or if it builds on what a pending rewind takes away: an
                executor would sync first.
        """
        undo = undo_of(self.books, trade)
        after = book_trade(self.books, trade)
        surviving = self._surviving(self.pending_rewind)
        if surviving and self._is_above(self.pending_rewind):
            rewound = self._rewound(surviving, undo)
            if (undo.position_id in rewound.portfolio.closed_positions) is not undo.closed:
                raise BooksError(
                    _path_of(undo), "is another after the reorganisation: a sync must come before the trade"
                )
        self._booked.append(undo)
        self.books = after
        return after

    def reorganise(self, common: int, failed_at: datetime) -> Books:
        """Take the trades out whose blocks were replaced, as the executor does before the next operation.

        Args:
            common: The highest block that stays.
            failed_at: The time that the trades get for their failure.
        """
        orphaned = [
            undo for undo in self._booked if undo.trade.block_number > common and undo.trade_id not in self._failed
        ]
        self.books = orphan_trades(self.books, orphaned, failed_at)
        self._failed.update((undo.trade_id, failed_at) for undo in orphaned)
        self.pending_rewind = common if self.pending_rewind is None else min(common, self.pending_rewind)
        return self.books

    def _common(self, head: int) -> int | None:
        """The highest kept block that is still on the chain, if a block up to the head shows that others are not."""
        if self.pending_rewind is None or not self._done:
            return None
        kept = self._done[-1].kept
        if not any(self.pending_rewind < block <= head for block in kept):
            return None
        return self.pending_rewind

    def _is_above(self, common: int | None) -> bool:
        """Tell whether the books keep a block above one, which a reorganisation down to it replaced."""
        return common is not None and bool(self._done) and any(block > common for block in self._done[-1].kept)

    def _surviving(self, common: int | None) -> list[_Done]:
        """The operations before the first one that ended above the common block; none if no kept block is that low."""
        if common is None or not self._done or not any(block <= common for block in self._done[-1].kept):
            return []
        # What was found out about the deployment stays: its block is never replaced.
        begun = self._done[:1]
        return [*begun, *takewhile(lambda done: done.end_block <= common, self._done[1:])]

    def _rewound(self, surviving: Sequence[_Done], *more: Undo) -> Books:
        """The books that the last of these operations left, with the trades since."""
        base = surviving[-1]
        books = copy_books(base.books)
        for undo in (*self._booked[base.trades :], *more):
            books = self._booked_anew(books, undo)
        portfolio, latest = books.portfolio, self.books.portfolio
        for name in ("next_balance_update_id", "next_position_id", "next_trade_id"):
            setattr(portfolio, name, max(getattr(portfolio, name), getattr(latest, name)))
        interest = books.sync.interest
        if interest.last_distribution != self.books.sync.interest.last_distribution:
            interest.last_distribution = None
        return books

    def _booked_anew(self, books: Books, undo: Undo) -> Books:
        # The first treasury sync makes the reserve's entry. A trade may stand after none that survives.
        books.portfolio.reserves.setdefault(undo.trade.reserve.identifier, ReservePosition(asset=undo.trade.reserve))
        numbered = replace(books.portfolio, next_trade_id=undo.trade_id)
        if undo.opened:
            numbered.next_position_id = undo.position_id
        books = replace(books, portfolio=numbered)
        trade = replace(undo.trade, position="new" if undo.opened else undo.position_id)
        failed_at = self._failed.get(undo.trade_id)
        if failed_at is None:
            return book_trade(books, trade)
        if undo.opened:
            # The first treasury sync may have gone as well, and the reserve with it: the trade moves nothing of it.
            reserves = {trade.reserve.identifier: ReservePosition(asset=trade.reserve)}
            alone = replace(books, portfolio=replace(books.portfolio, reserves=reserves))
            void = orphan_trades(book_trade(alone, trade), [undo_of(alone, trade)], failed_at)
            return replace(books, portfolio=replace(void.portfolio, reserves=books.portfolio.reserves))
        return replace(books, portfolio=_with_failed(books.portfolio, undo, failed_at))


def _with_failed(portfolio: Portfolio, undo: Undo, failed_at: datetime) -> Portfolio:
    """Note a failed trade in its position; where only an orphaned correction brought that about, both are gone."""

    def noted(group: dict[int, Position]) -> dict[int, Position]:
        position = group.get(undo.position_id)
        if position is None:
            return group
        record = replace(trade_record(undo.trade, undo.trade_id, position.asset), failed_at=failed_at)
        return {**group, undo.position_id: replace(position, trades=[*position.trades, record])}

    return replace(
        portfolio,
        open_positions=noted(portfolio.open_positions),
        frozen_positions=noted(portfolio.frozen_positions),
        closed_positions=noted(portfolio.closed_positions),
    )


def _scanned(ledger: Ledger, books: Books, operation: Operation) -> Sequence[int]:
    """The blocks that an operation scans."""
    match operation.kind:
        case "initialise":
            return (operation.end_block,)
        case "sync_interest":
            return ()
        case _:
            cursor = books.sync.treasury.last_block_scanned
            start = ledger.setting.deployment_block if cursor is None else cursor + 1
            return range(max(start, operation.end_block - HASHES_KEPT), operation.end_block + 1)


def _path_of(undo: Undo) -> str:
    return f"portfolio.open_positions['{undo.position_id}']"
