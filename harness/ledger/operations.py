"""What a syncer is asked, and how it may be answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from harness.errors import Location

CLOCK = datetime(2030, 1, 1)
"""Stands in the ledger's own books where a syncer puts its clock; never compared."""

OperationKind = Literal["initialise", "sync", "sync_interest", "correct_accounts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One syncing operation, with every default filled in."""

    kind: OperationKind
    location: Location
    end_block: int
    head: int
    """The newest block when it began."""
    cycle: datetime | None = None
    """Treasury syncs only."""
    chunk: int | None = None
    start_block: int | None = None
    """``initialise``: the hint."""
    chain_id: int
    """What the syncer is pointed at, as is ``vault``."""
    vault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An operation that must be refused, and why."""

    reason: str


class InconsistentLedger(Exception):
    """The two legs of the truth disagree: what was sent, and what state shows. The harness is at fault."""
