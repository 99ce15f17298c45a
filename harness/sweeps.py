"""The same scenario synced in other ways.

Variations keep the operations and change how each is carried out: by law the books come out equal to the plain run's,
but for the clock. Schedules change which operations there are: what must come of them the ledger works out anew.
Node sweeps keep the operations and have the syncer's node misbehave: it may say that it cannot go on, and whatever
books it gives must be those of the plain run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.books import Books, books_to_json
from harness.chain.profiles import PROFILES, Profile, Seen
from harness.judging import judge, place_of
from harness.outages import Behind, behind, watching, worth_running
from harness.reconcile.diff import Break, BreakKind
from harness.reconcile.laws import LawRaised
from harness.report.results import NodeOutcome
from harness.schedules import SCHEDULES, Schedule
from harness.session import PLAIN, Point, Session, SyncerFactory, Variation
from harness.world.acts import Act, Played, SyncAct

PRIME_CHUNK = 7

VARIATIONS: tuple[Variation, ...] = (
    Variation(name="chunk-1", words="With chunks of one block", chunk=1),
    Variation(name="chunk-prime", words=f"With chunks of {PRIME_CHUNK} blocks", chunk=PRIME_CHUNK),
    Variation(name="chunk-whole", words="With one chunk for everything", whole=True),
    Variation(name="twice", words="With each sync done twice", twice=True),
    Variation(
        name="saved-and-loaded", words="With the books saved and loaded between any two operations", reloaded=True
    ),
    Variation(name="late", words="With the whole chain there from the start", late=True),
    Variation(
        name="there-and-back",
        words="With the blocks that were read replaced by empty ones, and then back again",
        there_and_back=True,
    ),
    Variation(name="killed", words="With the syncer stopped at each of its view calls and asked again", killed=True),
)
SWEEPS: tuple[str, ...] = (
    *(variation.name for variation in VARIATIONS),
    *(schedule.name for schedule in SCHEDULES),
)
"""Every sweep's name. One that could change nothing in a scenario is left out there."""
NODE_SWEEPS: Mapping[str, str] = {f"node-{name}": name for name in PROFILES}
"""The names of the sweeps in which nodes misbehave, each with its profile. They come last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """One sweep that ran: where it parted from what it should have come to, if it did."""

    name: str
    words: str
    variation: Variation
    acts: tuple[Act, ...]
    points: tuple[Point, ...]
    """Up to the one that differs."""
    breaks: tuple[Break, ...]
    outcome: NodeOutcome | None = None
    """What came of it, where a node misbehaved."""
    factory: SyncerFactory | None = None
    """What was asked then: the syncer behind that node."""


def sweep(
    played: Played,
    factory: SyncerFactory,
    plain: Sequence[Point],
    states: Sequence[Mapping[str, Any]],
    known: Iterable[Break],
    *,
    seed: str,
    timeout: float | None,
    memory_mib: int | None = None,
    memory: dict[object, object],
) -> Iterator[Swept]:
    """Run every sweep that can change something, over a scenario that was played and run plainly.

    Args:
        played: The scenario.
        factory: The syncer.
        plain: The plain run's points.
        states: Their books by :func:`judged_json`.
        known: What the plain run broke already; only what is new is a sweep's break.
        seed: What random schedules are drawn by, e.g. the scenario's id.
        timeout: Seconds per operation.
        memory_mib: How much more memory an operation may take.
        memory: Reads that are remembered.

    Raises:
        LawRaised: If a law cannot be judged in a sweep, and could be before.
    """
    seen = {identity(broken) for broken in known}
    limits: dict[str, Any] = {"timeout": timeout, "memory_mib": memory_mib}
    for variation in VARIATIONS:
        if _changes_something(variation, played):
            session = Session(played, factory, variation=variation, memory=memory, **limits)
            yield _vary(played, variation, session, plain, states, seen)
    for schedule in SCHEDULES:
        acts = schedule.rewrite(played, seed)
        if acts is not None:
            session = Session(played, factory, acts=acts, memory=memory, **limits)
            yield _reschedule(played, schedule, acts, session, seen)
    asked = Seen()
    for _ in Session(played, watching(factory, asked), memory=memory, **limits).points():
        pass
    for profile in worth_running(asked, plain):
        troubled = behind(factory, profile)
        session = Session(played, troubled, memory=memory, **limits)
        yield _misbehave(played, profile, troubled, session, plain, states, seen)


def _changes_something(variation: Variation, played: Played) -> bool:
    operations = [act.operation for act in played.acts if isinstance(act, SyncAct)]
    if variation.whole:
        return any(operation.chunk is not None for operation in operations)
    if variation.late:
        return any(
            act.operation.head != played.branches[act.branch].chain.head
            for act in played.acts
            if isinstance(act, SyncAct)
        )
    if variation.there_and_back:
        return any(played.replaceable(act) for act in played.acts if isinstance(act, SyncAct))
    return True


def _vary(
    played: Played,
    variation: Variation,
    session: Session,
    plain: Sequence[Point],
    states: Sequence[Mapping[str, Any]],
    seen: set[tuple[object, ...]],
) -> Swept:
    points: list[Point] = []
    breaks: tuple[Break, ...] = ()
    for index, (reference, point) in enumerate(zip(plain, session.points(), strict=False)):
        points.append(point)
        if _same(reference, point):
            continue
        # Ids are not used twice, so books that went there and back have others: the ledger sees through that.
        parted = None if variation.there_and_back else _parted(reference, point, states[index])
        new = _new(played, point, seen) if parted is not None or variation.there_and_back else ()
        if parted is not None or new:
            breaks = _in_words(variation.name, variation.words, new or ((parted,) if parted is not None else ()))
            break
    return Swept(
        name=variation.name,
        words=variation.words,
        variation=variation,
        acts=played.acts,
        points=tuple(points),
        breaks=breaks,
    )


def _reschedule(
    played: Played, schedule: Schedule, acts: tuple[Act, ...], session: Session, seen: set[tuple[object, ...]]
) -> Swept:
    points: list[Point] = []
    breaks: tuple[Break, ...] = ()
    for point in session.points():
        points.append(point)
        breaks = _new(played, point, seen)
        if breaks:
            breaks = _in_words(schedule.name, schedule.words, breaks)
            break
    return Swept(
        name=schedule.name,
        words=schedule.words,
        variation=PLAIN,
        acts=acts,
        points=tuple(points),
        breaks=breaks,
    )


def _misbehave(
    played: Played,
    profile: Profile,
    troubled: Behind,
    session: Session,
    plain: Sequence[Point],
    states: Sequence[Mapping[str, Any]],
    seen: set[tuple[object, ...]],
) -> Swept:
    name, words = f"node-{profile.name}", f"With a node where {profile.about}"
    points: list[Point] = []
    breaks: tuple[Break, ...] = ()
    outcomes = {NodeOutcome.exact}
    for index, (reference, point) in enumerate(zip(plain, session.points(), strict=False)):
        points.append(point)
        # To refuse what is to be refused is no news.
        due = {NodeOutcome.refused} if reference.refusal is not None else set()
        outcomes |= set(troubled.said) - due
        troubled.said.clear()
        parted = None if _same(reference, point) else _parted(reference, point, states[index])
        if parted is not None and point.failure is not None:
            outcomes.add(NodeOutcome.raised)
            break
        if parted is not None:
            outcomes.add(NodeOutcome.wrong)
            breaks = _in_words(name, words, _new(played, point, seen) or (parted,))
            break
    return Swept(
        name=name,
        words=words,
        variation=PLAIN,
        acts=played.acts,
        points=tuple(points),
        breaks=breaks,
        outcome=max(outcomes, key=list(NodeOutcome).index),
        factory=troubled,
    )


def _new(played: Played, point: Point, seen: set[tuple[object, ...]]) -> tuple[Break, ...]:
    diff = judge(played, point)
    if diff.failures:
        raise LawRaised(diff.failures)
    return tuple(broken for broken in diff.breaks if identity(broken) not in seen)


def _in_words(name: str, words: str, breaks: Iterable[Break]) -> tuple[Break, ...]:
    return tuple(replace(broken, sweep=name, sentence=f"{words}: {broken.sentence}") for broken in breaks)


def _same(reference: Point, point: Point) -> bool:
    """Tell quickly that two runs of an operation are equal; often they are, clock and all."""
    return (
        reference.failure is None
        and point.failure is None
        and (reference.refusal is None) is (point.refusal is None)
        and replace(reference.after, block_hashes={}) == replace(point.after, block_hashes={})
    )


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
