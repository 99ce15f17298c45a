"""What one point of a session shows: its breaks and statements. Pure: points in, values out."""

from __future__ import annotations

from collections.abc import Sequence

from harness.books import Books
from harness.errors import Location
from harness.ledger.bookkeeping import Refusal
from harness.reconcile.compare import compare_books, entries
from harness.reconcile.diff import Break, BreakKind, Diff
from harness.reconcile.expect import Mismatch, added_updates, judge_books, judge_chain
from harness.reconcile.laws import LAWS, Checkpoint, judge_laws
from harness.reconcile.rules import Tolerated, tolerate
from harness.reconcile.statement import statements
from harness.session import Point
from harness.units import format_units
from harness.world.acts import BookAct, CheckAct, OrphanAct, Played, SyncAct


def judge(played: Played, point: Point) -> Diff:
    """Hold one point against the ledger, the laws and what the author expects of it."""
    if isinstance(point.act, BookAct | OrphanAct):
        return Diff(breaks=(_unbooked(point.act, point),))
    played = played.on(point.act.branch)
    expected = _expected(point)
    if isinstance(point.act, SyncAct):
        failed = _failed(point.act, point)
        if failed is not None:
            return Diff(breaks=(failed, *_manners(point.act, point)))
        if isinstance(expected, Refusal):
            return Diff(breaks=_manners(point.act, point))
    assert not isinstance(expected, Refusal), "refusals are judged above"
    # A sync that ends below the cursor changes nothing: its books still stand where they were read to.
    block = max(block_of(point), expected.sync.treasury.last_block_scanned or 0)
    location = place_of(point)
    act = point.act
    # Until an operation follows a reorganisation up, books hold what they held of the blocks that are gone.
    lingering = act.rewinds if isinstance(act, CheckAct) else None
    drawn = statements(point.before, point.after, expected, played.ledger, block, rewinds=lingering)
    compared, within = _tolerate(played, compare_books(expected, point.after, played.ledger, location))
    laws = judge_laws(
        Checkpoint(
            before=point.before,
            books=point.after,
            statements=drawn,
            found_at=location,
            rewinds=act.rewinds if isinstance(act, SyncAct) else None,
            end_block=act.operation.end_block if isinstance(act, SyncAct) else None,
        ),
        off={off.law for off in played.laws_off},
    )
    unlawful, within_laws = _tolerate(played, laws.breaks)
    # Where books differ from the ledger's already, an `expect` that the ledger meets says nothing new.
    expects, within_expects = ((), ()) if compared else _tolerate(played, _expect_breaks(played, point))
    manners = _manners(point.act, point) if isinstance(point.act, SyncAct) else ()
    return Diff(
        breaks=(*compared, *unlawful, *expects, *manners),
        tolerated=(*within, *within_laws, *within_expects),
        failures=laws.failures,
        statements=drawn,
    )


def _expected(point: Point) -> Books | Refusal:
    """What must have come of it. Where a faulty node makes a refusal due, books may come, if they are right."""
    act = point.act
    if isinstance(act, SyncAct) and act.otherwise is not None and point.refusal is None and point.failure is None:
        return act.otherwise
    return act.expected


def _tolerate(played: Played, breaks: tuple[Break, ...]) -> tuple[tuple[Break, ...], tuple[Tolerated, ...]]:
    return tolerate(breaks, played.tolerances, played.ledger) if played.tolerances else (breaks, ())


def block_of(point: Point) -> int:
    """The block at which a point looks at the chain."""
    match point.act:
        case SyncAct():
            return point.act.operation.end_block
        case BookAct():
            return point.act.trade.block_number
        case CheckAct():
            return point.act.block
        case OrphanAct():
            return point.act.common


def place_of(point: Point) -> Location:
    """The step that a point belongs to."""
    return point.act.operation.location if isinstance(point.act, SyncAct) else point.act.location


def count_checks(point: Point) -> int:
    """How many things a point's judgement holds against each other: updates, refs, holdings, checkpoints, laws."""
    books = _expected(point)
    if isinstance(books, Refusal):
        return 1
    portfolio = books.portfolio
    holdings = len(portfolio.reserves) + len(portfolio.open_positions) + len(portfolio.closed_positions)
    return len(entries(books)) + len(books.sync.treasury.balance_update_refs) + holdings + 4 + len(LAWS)


def _unbooked(act: BookAct | OrphanAct, point: Point) -> Break:
    if isinstance(act, OrphanAct):
        return _not_taken_out(act, point)
    trade = act.trade
    reason = "" if point.failure is None else point.failure.message
    return Break(
        kind=BreakKind.different,
        sentence=f"The trade at block {trade.block_number} cannot be booked into the syncer's books: {reason}.",
        field="portfolio",
        expected="books that the trade fits into",
        actual=reason,
        asset=trade.asset.token_symbol,
        block=trade.block_number,
        transaction=trade.tx_hash,
        location=act.location,
        found_at=act.location,
    )


def _not_taken_out(act: OrphanAct, point: Point) -> Break:
    reason = "" if point.failure is None else point.failure.message
    return Break(
        kind=BreakKind.different,
        sentence=f"Trades of replaced blocks (above {act.common}) cannot be taken out of the syncer's books: {reason}.",
        field="portfolio",
        expected="books in which those trades stand",
        actual=reason,
        block=act.common,
        location=act.location,
        found_at=act.location,
    )


def _failed(act: SyncAct, point: Point) -> Break | None:
    """Judge how an operation ended, before any books are looked at."""
    operation = act.operation
    what = f"{operation.kind} at block {operation.end_block}"

    def broken(kind: BreakKind, sentence: str, expected: str, actual: str) -> Break:
        return Break(
            kind=kind,
            sentence=sentence,
            field=operation.kind,
            expected=expected,
            actual=actual,
            block=operation.end_block,
            location=operation.location,
            found_at=operation.location,
        )

    if point.failure is not None:
        words = {
            BreakKind.raised: "raised an error",
            BreakKind.timeout: "did not come back",
            BreakKind.memory: "took too much memory",
            BreakKind.no_books: "returned something that is no books",
        }[point.failure.kind]
        due = "a refusal" if isinstance(act.expected, Refusal) else "books"
        return broken(
            point.failure.kind, f"The syncer {words} in {what}: {point.failure.message}.", due, point.failure.message
        )
    if isinstance(act.expected, Refusal):
        if point.refusal is None and act.otherwise is not None:
            return None
        if point.refusal is None:
            sentence = f"The syncer did not refuse {what}, and {act.expected.reason}."
            return broken(BreakKind.not_refused, sentence, f"a refusal: {act.expected.reason}", "books")
        if act.announced and act.announced not in point.refusal:
            sentence = f"The syncer refused {what} as {point.refusal!r}, which does not contain {act.announced!r}."
            return broken(BreakKind.not_refused, sentence, f"a reason with {act.announced!r}", point.refusal)
        return None
    if point.refusal is not None:
        sentence = f"The syncer refused {what}, and nothing there is a reason to refuse: {point.refusal}."
        return broken(BreakKind.refused, sentence, "books", f"a refusal: {point.refusal}")
    return None


def _manners(act: SyncAct, point: Point) -> tuple[Break, ...]:
    """What a syncer did beside its answer, whatever that was."""
    operation = act.operation
    what = f"{operation.kind} at block {operation.end_block}"
    found = []
    if point.wrote is not None:
        sentence = f"The syncer wrote to stdout in {what}: {point.wrote.strip()!r}."
        found.append((BreakKind.wrote_output, "stdout", sentence))
    if point.changed_given:
        then = "refused" if point.refusal is not None else "returned others"
        sentence = f"The syncer changed the books that it was given in {what}, and then {then}."
        found.append((BreakKind.changed_books, operation.kind, sentence))
    return tuple(
        Break(
            kind=kind,
            sentence=sentence,
            field=field,
            block=operation.end_block,
            location=operation.location,
            found_at=operation.location,
        )
        for kind, field, sentence in found
    )


def _expect_breaks(played: Played, point: Point) -> tuple[Break, ...]:
    expectation = None if isinstance(point.act, BookAct | OrphanAct) else point.act.expectation
    if expectation is None or isinstance(point.act.expected, Refusal):
        return ()
    added = added_updates(point.before, point.after)
    mismatches = judge_books(expectation, point.after, added, played.ledger.setting)
    return tuple(_as_break(played, mismatch, place_of(point)) for mismatch in mismatches)


def _as_break(played: Played, mismatch: Mismatch, found_at: Location) -> Break:
    setting = played.ledger.setting
    update = mismatch.update
    asset = setting.assets.get(mismatch.asset or "")
    gap = None if mismatch.gap_raw is None or asset is None else format_units(mismatch.gap_raw, asset.decimals)
    return Break(
        kind=BreakKind.different,
        sentence=f"{mismatch.path} should be {mismatch.expected}, and is {mismatch.actual}.",
        field=mismatch.path,
        expected=mismatch.expected,
        actual=mismatch.actual,
        asset=mismatch.asset,
        position_id=None if update is None else update.position_id,
        gap_raw=mismatch.gap_raw,
        gap=gap,
        block=None if update is None else update.block_number,
        transaction=None if update is None else update.tx_hash,
        log_index=None if update is None else update.log_index,
        location=mismatch.location,
        found_at=found_at,
    )


def contradictions(played: Played) -> tuple[Mismatch, ...]:
    """Find what authors expect that the ledger itself contradicts: their mistake, whatever the syncer does."""
    found: list[Mismatch] = []
    for act in played.acts:
        if isinstance(act, SyncAct | CheckAct) and act.expectation is not None:
            found.extend(_contradicted(played, act))
    return tuple(found)


def _contradicted(played: Played, act: SyncAct | CheckAct) -> Sequence[Mismatch]:
    played = played.on(act.branch)
    expectation = act.expectation
    expected = act.expected
    if expectation is None or isinstance(expected, Refusal):
        return ()
    before = act.before if isinstance(act, SyncAct) else expected
    block = act.operation.end_block if isinstance(act, SyncAct) else act.block
    mismatches = list(judge_books(expectation, expected, added_updates(before, expected), played.ledger.setting))
    if expectation.chain is not None:
        mismatches += judge_chain(expectation.chain, played.ledger, played.share_price(block), block)
    return mismatches
