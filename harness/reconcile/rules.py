"""A scenario's own rules on breaks: differences that it tolerates, breaks that it knows of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from harness.ledger.facts import Ledger
from harness.reconcile.diff import Break, BreakKind
from harness.scenario.model import Known, KnownBreak, Tolerance
from harness.units import Token

_TOLERABLE = frozenset({BreakKind.different, BreakKind.law})
"""A difference has a size. Whether something is there at all has none."""
_WORTH_SLACK = 1 + 1e-9
"""A worth is compared at 1e-9 relative, so its tolerance is that much wider."""


# -- tolerances


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerated:
    """A difference that a tolerance covers."""

    tolerance: Tolerance
    broken: Break


@dataclass(frozen=True, slots=True, kw_only=True)
class ToleranceUse:
    """How much of a tolerance was used in a run."""

    tolerance: Tolerance
    token: Token
    price: Fraction
    """USD per token at the head."""
    differences: int
    """How many it covered: the same one is counted once, at however many sync points it shows."""
    largest_raw: int
    """The largest of them in size, with its sign, base units; 0 if there is none with a quantity."""

    @property
    def used(self) -> bool:
        """Whether it covered anything."""
        return self.differences > 0

    @property
    def allowed_usd(self) -> float:
        """What is allowed, in money."""
        return self._usd(self.tolerance.raw)

    @property
    def largest_usd(self) -> float:
        """The largest use, in money, with its sign."""
        return self._usd(self.largest_raw)

    def _usd(self, raw: int) -> float:
        return float(raw * self.price / 10**self.token.decimals)


def tolerate(
    breaks: Iterable[Break], tolerances: Sequence[Tolerance], ledger: Ledger
) -> tuple[tuple[Break, ...], tuple[Tolerated, ...]]:
    """Part breaks into those that stay and those that a tolerance covers; the first tolerance that fits has it."""
    kept: list[Break] = []
    tolerated: list[Tolerated] = []
    for broken in breaks:
        fitting = next((tolerance for tolerance in tolerances if _covers(tolerance, broken, ledger)), None)
        if fitting is None:
            kept.append(broken)
        else:
            tolerated.append(Tolerated(tolerance=fitting, broken=broken))
    return tuple(kept), tuple(tolerated)


def _covers(tolerance: Tolerance, broken: Break, ledger: Ledger) -> bool:
    if broken.kind not in _TOLERABLE or broken.asset != tolerance.asset:
        return False
    if tolerance.field is not None and not _is_field(broken.field, tolerance.field):
        return False
    if broken.gap_raw is not None:
        return abs(broken.gap_raw) <= tolerance.raw
    if broken.gap_usd is None:
        return False
    block = ledger.head if broken.block is None else broken.block
    return abs(broken.gap_usd) <= float(abs(ledger.worth(tolerance.asset, tolerance.raw, block))) * _WORTH_SLACK


def _is_field(found: str | None, named: str) -> bool:
    """A field goes by its last name: ``quantity`` is that of ``updates[0].quantity``, too."""
    return found is not None and (found == named or found.endswith(f".{named}"))


def tolerance_uses(
    tolerances: Sequence[Tolerance], tolerated: Iterable[Tolerated], ledger: Ledger
) -> tuple[ToleranceUse, ...]:
    """Say of each tolerance how much of it was used."""
    used = list(tolerated)
    uses = []
    for tolerance in tolerances:
        covered = [each.broken for each in used if each.tolerance is tolerance]
        asset = ledger.setting.assets[tolerance.asset]
        uses.append(
            ToleranceUse(
                tolerance=tolerance,
                token=Token(symbol=tolerance.asset, decimals=asset.decimals),
                price=ledger.price(tolerance.asset, ledger.head),
                differences=len({_difference(broken) for broken in covered}),
                largest_raw=max((broken.gap_raw or 0 for broken in covered), key=abs, default=0),
            )
        )
    return tuple(uses)


def _difference(broken: Break) -> tuple[object, ...]:
    return (
        *(broken.kind, broken.field, broken.position_id, broken.transaction, broken.log_index),
        broken.gap_raw if broken.gap_raw is not None else broken.gap_usd,
    )


# -- known breaks


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What became of a scenario's known breaks."""

    breaks: tuple[Break, ...]
    """What stays: breaks that are not known, and `known_gone`."""
    accepted: tuple[Break, ...]
    """Breaks that are known and whose day has not passed."""


def accept_known(breaks: Sequence[Break], known: Known | None, today: date | None) -> Accepted:
    """Take breaks out that a scenario knows of; break where they are gone, or the day has passed.

    Args:
        breaks: All that were found.
        known: What the scenario accepts, or None.
        today: The day to hold ``until`` against; None: no day has passed.
    """
    if known is None:
        return Accepted(breaks=tuple(breaks), accepted=())
    if today is not None and today > known.until:
        return Accepted(breaks=(*breaks, _over(known, today)), accepted=())
    gone = [_gone(each) for each in known.breaks if not any(is_meant(each, broken) for broken in breaks)]
    accepted = tuple(broken for broken in breaks if any(is_meant(each, broken) for each in known.breaks))
    return Accepted(
        breaks=(*(broken for broken in breaks if broken not in accepted), *gone),
        accepted=accepted,
    )


def is_meant(known: KnownBreak, broken: Break) -> bool:
    """Whether a break has each value that a known one names."""
    lines = {place.line for place in (broken.location, broken.found_at) if place is not None}
    return (
        known.kind == broken.kind.value
        and (known.field is None or _is_field(broken.field, known.field))
        and known.asset in (None, broken.asset)
        and known.position_id in (None, broken.position_id)
        and known.block in (None, broken.block)
        and (known.line is None or known.line in lines)
    )


def _gone(each: KnownBreak) -> Break:
    named = {
        "field": each.field,
        "asset": each.asset,
        "position": each.position_id,
        "block": each.block,
        "line": each.line,
    }
    words = " ".join([each.kind.replace("_", " "), *(f"{name} {value}" for name, value in named.items() if value)])
    return Break(
        kind=BreakKind.known_gone,
        sentence=f"A known break is gone: nothing is found any more that is {words!r}. Take it out of `known`, so that "
        "it is seen if it comes back.",
        field=each.field,
        asset=each.asset,
        position_id=each.position_id,
        block=each.block,
        expected=words,
        actual="no such break",
        location=each.location,
        found_at=each.location,
    )


def _over(known: Known, today: date) -> Break:
    return Break(
        kind=BreakKind.known_gone,
        sentence=f"The breaks under `known` were accepted until {known.until} ({known.reason}), and it is {today}: "
        "they count again.",
        field="until",
        expected=f"no later than {known.until}",
        actual=str(today),
        location=known.location,
        found_at=known.location,
    )
