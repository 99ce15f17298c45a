"""What a comparison finds: breaks and statements, as values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from harness.errors import Location
from harness.units import Token

if TYPE_CHECKING:
    from harness.reconcile.laws import LawFailure
    from harness.reconcile.rules import Tolerated


class BreakKind(enum.StrEnum):
    """What is wrong. The first five are what comparing two sides can find."""

    missing = "missing"
    """Expected, and not in the books."""
    unexpected = "unexpected"
    """In the books, and nothing on chain is behind it."""
    doubled = "doubled"
    """In the books more than once."""
    different = "different"
    """In the books, with another value in one field."""
    misplaced = "misplaced"
    """Right, but in the wrong place: another position, another order."""
    law = "law"
    """A law that holds for any books does not hold for these."""
    refused = "refused"
    """The syncer refused what it should have done."""
    not_refused = "not_refused"
    """The syncer did what it should have refused, or gave another reason than announced."""
    raised = "raised"
    """The syncer raised something else than a refusal."""
    timeout = "timeout"
    """The syncer did not come back in time."""
    memory = "memory"
    """The syncer took more memory than it may."""
    wrote_output = "wrote_output"
    """The syncer wrote to stdout, which belongs to whoever runs it."""
    changed_books = "changed_books"
    """The syncer changed the books that it was given, and then refused, or returned others."""
    no_books = "no_books"
    """The syncer returned something that is no books."""
    known_gone = "known_gone"
    """A break that the scenario accepts is not there any more, or the day until which it does is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One thing wrong with a syncer's books, and where it comes from.

    ``expected`` and ``actual`` are text, ready to read; ``gap_raw`` is actual − expected in base
    units of ``asset`` (a symbol), where the field is a quantity of it. ``gap_usd`` is that gap's
    worth, or the gap itself where the field is a worth. ``cause`` comes from a closed list, and None means
    that nobody looked for one or none fits.
    """

    kind: BreakKind
    sentence: str
    """For a tired person: what is wrong, by how much, and where."""
    field: str | None = None
    expected: str | None = None
    actual: str | None = None
    asset: str | None = None
    position_id: int | None = None
    gap_raw: int | None = None
    gap: str | None = None
    gap_usd: float | None = None
    block: int | None = None
    transaction: str | None = None
    log_index: int | None = None
    location: Location | None = None
    """The step that caused the event, else the step that found it."""
    found_at: Location | None = None
    """The syncing step at which it was found."""
    cause: str | None = None
    sweep: str | None = None
    """The sweep that found it, where the plain run did not."""


class ItemKind(enum.StrEnum):
    """Why books may rightly differ from the chain."""

    donated = "donated"
    taken = "taken"
    rounded = "rounded"
    interest_not_synced = "interest not yet synced"
    flow_not_synced = "flow not yet synced"
    skipped = "dust leg, skipped"
    owned = "flow owned by a correction"
    """It lies before a correction that found the difference to be dust."""
    orphaned = "orphaned, not yet dropped"
    """Of blocks that a reorganisation replaced, and no operation has run since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilingItem:
    """One reason why an asset's balance on chain differs from the books: chain − books, base units."""

    kind: ItemKind
    raw: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The reconciliation statement of one asset at one sync point, in base units.

    opening + deposits + redemptions + interest + trades + corrections + orphaned = closing (redemptions are
    negative); on_chain − closing = difference = sum of items + unexplained. Of a debt token all of it is what is owed.
    """

    token: Token
    opening: int
    deposits: int
    redemptions: int
    interest: int
    trades: int
    corrections: int
    closing: int
    on_chain: int
    items: tuple[ReconcilingItem, ...]
    price: Fraction
    """USD per token at the sync point's block."""
    orphaned: int = 0
    """What went with the blocks that a reorganisation replaced: updates that were dropped, trades that failed."""

    @property
    def unaccounted(self) -> int:
        """What of the closing neither the opening nor any booked move accounts for; 0 in books that add up."""
        booked = self.deposits + self.redemptions + self.interest + self.trades + self.corrections + self.orphaned
        return self.closing - self.opening - booked

    @property
    def difference(self) -> int:
        """What the chain has more than the books."""
        return self.on_chain - self.closing

    @property
    def unexplained(self) -> int:
        """What of the difference no reconciling item explains."""
        return self.difference - sum(item.raw for item in self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What one sync point's reconciliation found."""

    breaks: tuple[Break, ...] = ()
    tolerated: tuple[Tolerated, ...] = ()
    """Differences within the scenario's tolerances: no breaks."""
    failures: tuple[LawFailure, ...] = ()
    """Laws that could not be judged."""
    statements: tuple[Statement, ...] = ()
