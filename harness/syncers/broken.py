"""Broken syncers: each is the reference with one thing wrong, a mistake that somebody has made.

They show what scenarios can catch. ``BROKEN`` lists them; each is also an attribute of this module, so
``--syncer harness.syncers.broken:resume_off_by_one`` runs one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from harness.books.records import AssetIdentifier, BalanceUpdate, BalanceUpdateCause, Books
from harness.syncers.protocol import Syncer, Target
from harness.syncers.reference import ReferenceSyncer
from harness.syncers.reference.decoding import TRANSFER, Flow, Log
from harness.syncers.reference.holdings import Holding
from harness.syncers.reference.kinds import Kind, Say
from harness.syncers.reference.reading import Reader
from harness.syncers.reference.syncer import Work
from harness.units import PRICE_DECIMALS, Rounding, mul_div


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenSyncer:
    """A syncer with one thing wrong: its name, what is wrong in a sentence, and what makes one."""

    name: str
    wrong: str
    factory: Callable[[Target], Syncer]


BROKEN: dict[str, BrokenSyncer] = {}
"""By name."""

_Class = TypeVar("_Class", bound=type[ReferenceSyncer])


def _broken(name: str) -> Callable[[_Class], _Class]:
    def register(factory: _Class) -> _Class:
        BROKEN[name] = BrokenSyncer(name=name, wrong=inspect.cleandoc(factory.__doc__ or ""), factory=factory)
        return factory

    return register


def __getattr__(name: str) -> Callable[[Target], Syncer]:
    if name in BROKEN:
        return BROKEN[name].factory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *BROKEN})


# -- which blocks are read


@_broken("resume_off_by_one")
class ResumeOffByOne(ReferenceSyncer):
    """A resumed sync skips the first block after the last block scanned."""

    def first_block(self, books: Books) -> int:
        cursor = books.sync.treasury.last_block_scanned
        return super().first_block(books) if cursor is None else cursor + 2


@_broken("block_read_twice")
class BlockReadTwice(ReferenceSyncer):
    """A resumed sync starts at the last block scanned and books its flows again."""

    def first_block(self, books: Books) -> int:
        cursor = books.sync.treasury.last_block_scanned
        return super().first_block(books) if cursor is None else cursor


@_broken("last_block_of_chunk_dropped")
class LastBlockOfChunkDropped(ReferenceSyncer):
    """The last block of each chunk is left out, as if a range's end were exclusive."""

    def flow_ranges(self, start_block: int, end_block: int, chunk: int | None) -> Iterator[tuple[int, int]]:
        for first, last in super().flow_ranges(start_block, end_block, chunk):
            if first < last:
                yield first, last - 1


@_broken("cursor_at_head")
class CursorAtHead(ReferenceSyncer):
    """The node's head is kept as the last block scanned, though only the blocks to the end block were read."""

    def cursor_after(self, work: Work) -> int:
        return work.view.head


@_broken("late_hint_believed")
class LateHintBelieved(ReferenceSyncer):
    """The deployment is looked for from the start hint on, and not before it."""

    def search_ranges(self, end_block: int) -> list[tuple[int, int]]:
        return super().search_ranges(end_block)[:1]


@_broken("idle_sync_unnoted")
class IdleSyncUnnoted(ReferenceSyncer):
    """A sync without new blocks leaves both timestamps as they were."""

    def note_idle_sync(self, work: Work, cycle: datetime) -> None:
        pass


# -- which events are flows


@_broken("key_without_log_index")
class KeyWithoutLogIndex(ReferenceSyncer):
    """Events are told apart by block alone, so only the first flow of each block is booked."""

    def flow_key(self, log: Log) -> tuple[int, ...]:
        return (log.block,)


@_broken("foreign_fund_taken")
class ForeignFundTaken(ReferenceSyncer):
    """Whoever emits such an event is believed, another fund of the same deployer too."""

    def flow_logs(self, reader: Reader, kind: Kind, say: Say, first: int, last: int) -> Iterator[Log]:
        return reader.logs(None, [list(kind.flow_topics)], first, last)

    def arrival_topics(self) -> list[str | bytes | None]:
        return [TRANSFER]


@_broken("zero_leg_booked")
class ZeroLegBooked(ReferenceSyncer):
    """Legs and parts of nothing get an update."""

    def is_booked(self, raw: int) -> bool:
        return True


@_broken("owner_is_counterparty")
class OwnerIsCounterparty(ReferenceSyncer):
    """The owner of a flow is who was paid or who paid, not whose shares were burned or minted."""

    def owner_of(self, work: Work, flow: Flow) -> str | None:
        return flow.counterparty


# -- quantities and worth


@_broken("redemption_sign")
class RedemptionSign(ReferenceSyncer):
    """Redemptions are booked as positive quantities."""

    def book(
        self, work: Work, holding: Holding, cause: BalanceUpdateCause, raw: int, *, block: int, price: int
    ) -> BalanceUpdate:
        signed = abs(raw) if cause is BalanceUpdateCause.redemption else raw
        return super().book(work, holding, cause, signed, block=block, price=price)


@_broken("usd_sign")
class UsdSign(ReferenceSyncer):
    """Worth is always positive, whatever the sign of the quantity."""

    def worth(self, asset: AssetIdentifier, raw: int, price: int) -> float:
        return abs(super().worth(asset, raw, price))


@_broken("decimals_assumed")
class DecimalsAssumed(ReferenceSyncer):
    """Every token is taken to have 18 decimals."""

    def decimals(self, asset: AssetIdentifier) -> int:
        return 18


@_broken("float_quantities")
class FloatQuantities(ReferenceSyncer):
    """Quantities pass through a float on their way into the books."""

    def book(
        self, work: Work, holding: Holding, cause: BalanceUpdateCause, raw: int, *, block: int, price: int
    ) -> BalanceUpdate:
        unit = 10**holding.decimals
        return super().book(work, holding, cause, int(raw / unit * unit), block=block, price=price)


@_broken("price_of_end_block")
class PriceOfEndBlock(ReferenceSyncer):
    """A flow is valued at the price of the sync's end block, not of its own block."""

    def price_block(self, work: Work, block: int) -> int:
        return work.view.end_block


@_broken("reserve_at_par")
class ReserveAtPar(ReferenceSyncer):
    """The reserve is valued at one dollar, whatever its feed says."""

    def worth(self, asset: AssetIdentifier, raw: int, price: int) -> float:
        is_reserve = asset.identifier == self.target.reserve.identifier
        return super().worth(asset, raw, 10**PRICE_DECIMALS if is_reserve else price)


@_broken("local_time_zone")
class LocalTimeZone(ReferenceSyncer):
    """Block times are taken in the zone that the process runs in."""

    def time_of(self, timestamp: int) -> datetime:
        return datetime.fromtimestamp(timestamp)  # noqa: DTZ006 - the mistake itself


# -- interest


@_broken("interest_worth_whole_balance")
class InterestWorthWholeBalance(ReferenceSyncer):
    """An interest update is valued as the whole balance, not as the gain."""

    def book(
        self, work: Work, holding: Holding, cause: BalanceUpdateCause, raw: int, *, block: int, price: int
    ) -> BalanceUpdate:
        update = super().book(work, holding, cause, raw, block=block, price=price)
        if cause is BalanceUpdateCause.interest:
            update.usd_value = self.worth(holding.asset, holding.balance, price)
        return update


@_broken("gain_rounded_per_position")
class GainRoundedPerPosition(ReferenceSyncer):
    """Each position's part of a gain is rounded by itself, so the parts need not add up to it."""

    def split_gain(self, gain: int, weights: Sequence[int]) -> list[int]:
        return [mul_div(gain, weight, sum(weights), Rounding.NEAREST) for weight in weights]


@_broken("gain_to_first_position")
class GainToFirstPosition(ReferenceSyncer):
    """The first position of an asset gets the whole gain."""

    def split_gain(self, gain: int, weights: Sequence[int]) -> list[int]:
        return [gain] + [0] * (len(weights) - 1)
