"""The same scenario synced in other ways, by whose law the books come out equal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.books import Books, books_to_json
from harness.judging import judge, place_of
from harness.reconcile.diff import Break, BreakKind
from harness.session import Point, Variation
from harness.world.play import Played, SyncAct

SWEEPS: tuple[Variation, ...] = (
    Variation(name="chunk-1", words="With chunks of one block", chunk=1),
    Variation(name="twice", words="With each sync done twice", twice=True),
    Variation(
        name="saved-and-loaded", words="With the books saved and loaded between any two operations", reloaded=True
    ),
)
"""What is run beside every plain run, on the chain that it played."""


def sweep_breaks(
    played: Played,
    variation: Variation,
    plain: Sequence[Point],
    swept: Iterable[Point],
    known: Iterable[Break],
    *,
    states: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[Break, ...]:
    """Compare a sweep with the plain run, point by point, up to the first point where they part.

    Args:
        played: The scenario.
        variation: The sweep.
        plain: The plain run's points.
        swept: The sweep's; not taken further than needed.
        known: What the plain run broke already; only what is new is a sweep's break.
        states: The plain points' books by :func:`judged_json`, from whoever has them.
    """
    seen = {identity(broken) for broken in known}
    for index, (reference, point) in enumerate(zip(plain, swept, strict=False)):
        parted = _parted(reference, point, judged_json(reference.after) if states is None else states[index])
        if parted is None:
            continue
        new = [broken for broken in judge(played, point).breaks if identity(broken) not in seen]
        return tuple(
            replace(broken, sweep=variation.name, sentence=f"{variation.words}: {broken.sentence}")
            for broken in new or [parted]
        )
    return ()


def identity(broken: Break) -> tuple[object, ...]:
    """What makes two breaks the same finding, at whatever sync point they show."""
    what = (broken.kind, broken.field, broken.asset, broken.position_id, broken.transaction, broken.log_index)
    value = broken.gap_raw if broken.gap_raw is not None else (broken.expected, broken.actual)
    return (
        (*what, value)
        if broken.kind is not BreakKind.law
        else (*what, broken.sentence if value == (None, None) else value)
    )


def _parted(reference: Point, point: Point, state: Mapping[str, Any]) -> Break | None:
    """Say how two runs of one operation differ, if they do; the clock aside.

    ``state`` are the books that the first one left, as JSON.
    """
    path, expected, actual = "", _ending(reference), _ending(point)
    if expected == actual:
        found = first_difference(state, judged_json(point.after))
        if found is None:
            return None
        path, expected, actual = found
    where = f" at block {reference.act.operation.end_block}" if isinstance(reference.act, SyncAct) else ""
    subject = f"{path} is" if path else "the operation ends in"
    return Break(
        kind=BreakKind.different,
        sentence=f"{subject} {actual}{where}, and {expected} in the plain run.",
        field=path or None,
        expected=expected,
        actual=actual,
        block=reference.act.operation.end_block if isinstance(reference.act, SyncAct) else None,
        location=place_of(reference),
        found_at=place_of(reference),
    )


def _ending(point: Point) -> str:
    if point.failure is not None:
        return f"{point.failure.kind}: {point.failure.message}"
    return "a refusal" if point.refusal is not None else "books"


def judged_json(books: Books) -> dict[str, Any]:
    """Give a state's JSON without the syncer's own affairs: clock fields, and its memory of block hashes.

    The books come from a session, so they are checked.
    """
    state = {key: part for key, part in books_to_json(books, checked=True).items() if key in ("sync", "portfolio")}
    for record in ("treasury", "accounting"):
        state["sync"][record].pop("last_updated_at", None)
    for group in ("reserves", "open_positions", "frozen_positions", "closed_positions"):
        for holding in state["portfolio"][group].values():
            for update in holding["balance_updates"].values():
                update.pop("created_at", None)
    return state


def first_difference(expected: object, actual: object, path: str = "") -> tuple[str, str, str] | None:
    """Find the first place in which two states differ: its path, and what stands there on either side.

    >>> first_difference({"a": [1, 2]}, {"a": [1, 3]})
    ('a[1]', '2', '3')
    """
    if expected == actual:
        return None
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for key in [*expected, *(key for key in actual if key not in expected)]:
            here = f"{path}.{key}" if path else str(key)
            if key not in expected or key not in actual:
                return here, _presence(key in expected), _presence(key in actual)
            found = first_difference(expected[key], actual[key], here)
            if found is not None:
                return found
        return None
    if isinstance(expected, list) and isinstance(actual, list):
        for index, (left, right) in enumerate(zip(expected, actual, strict=False)):
            found = first_difference(left, right, f"{path}[{index}]")
            if found is not None:
                return found
        if len(expected) != len(actual):
            return path, f"{len(expected)} entries", f"{len(actual)} entries"
        return None
    return path, str(expected), str(actual)


def _presence(there: bool) -> str:
    return "present" if there else "nothing"
