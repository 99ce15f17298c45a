"""Laws that hold for any books, judged without knowing what they should say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest

from harness.books import Books, copy_books
from harness.books.records import BalanceUpdate, BalanceUpdateCause
from harness.reconcile.compare import entries
from harness.reconcile.laws import (
    Checkpoint,
    Violation,
    books_equal_chain,
    ids_and_refs_match,
    judge_laws,
    nothing_lies_outside,
    orphaned_blocks_leave_nothing,
    sums_add_up,
)
from harness.reconcile.statement import statements
from tests.hand_ledger import AUSDC, USDC, Hand, full_history, place

BooksLaw = Callable[[Checkpoint], object]
LAWS = (sums_add_up, books_equal_chain, ids_and_refs_match, nothing_lies_outside)


@pytest.fixture(scope="module")
def hand() -> Hand:
    return full_history()


def checkpoint(hand: Hand, before: Books, after: Books) -> Checkpoint:
    drawn = statements(before, after, hand.books, hand.ledger, hand.ledger.head)
    return Checkpoint(before=before, books=after, statements=drawn, found_at=place(1))


def violations(
    hand: Hand, law: Callable[[Checkpoint], object], spoil: Callable[[Books], object], before: Books | None = None
) -> list[Violation]:
    after = copy_books(hand.books)
    spoil(after)
    return list(law(checkpoint(hand, before or hand.opening, after)))  # type: ignore[call-overload]


def nothing(books: Books) -> None:
    pass


def update_of(books: Books, update_id: int) -> BalanceUpdate:
    return next(entry.update for entry in entries(books) if entry.update.balance_update_id == update_id)


@pytest.mark.parametrize("law", LAWS)
def test_books_that_are_right_break_no_law(hand: Hand, law: BooksLaw) -> None:
    assert [] == violations(hand, law, nothing)
    assert [] == violations(hand, law, nothing, hand.books)


# -- 1: sums


def test_a_reserve_that_is_not_the_sum_of_its_moves_breaks_the_first_law(hand: Hand) -> None:
    def plug(books: Books) -> None:
        books.portfolio.reserves[USDC.identifier].quantity += 1

    first, *_ = violations(hand, sums_add_up, plug)
    assert ("USDC", 1_000_000, "1.000000", 1.0) == (first.asset, first.gap_raw, first.gap, first.gap_usd)


def test_a_balance_that_does_not_start_where_the_last_one_ended_breaks_it(hand: Hand) -> None:
    def skew(books: Books) -> None:
        update_of(books, 3).old_balance += 1

    found = violations(hand, sums_add_up, skew)
    assert [3] == [one.update.balance_update_id for one in found if one.update is not None]


def test_an_old_balance_of_an_earlier_operation_is_judged_when_it_was_new(hand: Hand) -> None:
    def skew(books: Books) -> None:
        update_of(books, 3).old_balance += 1

    assert [] == violations(hand, sums_add_up, skew, hand.books)


@pytest.mark.parametrize("field", ["last_token_amount", "last_accrued_interest", "interest_payments", "quantity"])
def test_a_loan_that_does_not_add_up_breaks_it(hand: Hand, field: str) -> None:
    def skew(books: Books) -> None:
        loan = books.portfolio.open_positions[2].loan
        assert loan is not None
        record = loan.collateral if field == "quantity" else loan.collateral_interest
        setattr(record, field, getattr(record, field) + 1)

    (found,) = violations(hand, sums_add_up, skew)
    assert ("aUSDC", 2) == (found.asset, found.position_id)


def test_the_smallest_unit_of_many_digits_shows(hand: Hand) -> None:
    def skew(books: Books) -> None:
        loan = books.portfolio.open_positions[2].loan
        assert loan is not None
        assert loan.collateral is not None
        loan.collateral.quantity = Decimal("12345678901234567890123456789.000001")

    (found,) = violations(hand, sums_add_up, skew)
    assert "12345678901234567890123456791.700002" in found.sentence


# -- 2: books and chain


@pytest.mark.parametrize(("gap", "told"), [(-5, "-0.000005"), (7, "0.000007")])
def test_a_difference_without_a_reason_breaks_the_second_law(hand: Hand, gap: int, told: str) -> None:
    def plug(books: Books) -> None:
        books.portfolio.reserves[USDC.identifier].quantity += Decimal(gap).scaleb(-6)

    (found,) = violations(hand, books_equal_chain, plug)
    assert (gap, told, "USDC") == (found.gap_raw, found.gap, found.asset)


def test_what_no_sync_is_meant_to_see_breaks_nothing() -> None:
    hand = Hand()
    hand.deposit(1_000)
    hand.sync()
    for kind, raw in (("donated", 5), ("taken", -7), ("rounded", 1)):
        hand.move(kind, "USDC", raw)  # type: ignore[arg-type]
    hand.deposit(3)
    assert [] == violations(hand, books_equal_chain, nothing)


# -- 3: ids and refs


def test_an_id_used_twice_breaks_the_third_law(hand: Hand) -> None:
    def twice(books: Books) -> None:
        books.portfolio.open_positions[1].balance_updates[1] = replace(update_of(books, 6), balance_update_id=1)

    assert any("id 1 is used 2 times" in one.sentence for one in violations(hand, ids_and_refs_match, twice))


def test_a_new_id_below_an_old_one_breaks_it(hand: Hand) -> None:
    before = copy_books(hand.books)
    for holding in (*before.portfolio.reserves.values(), *before.portfolio.open_positions.values()):
        holding.balance_updates.pop(5, None)
    (found,) = violations(hand, ids_and_refs_match, nothing, before)
    assert "id 5 is new and not above 8" in found.sentence


def test_a_next_id_that_is_in_use_breaks_it(hand: Hand) -> None:
    def rewind(books: Books) -> None:
        books.portfolio.next_balance_update_id = 8

    (found,) = violations(hand, ids_and_refs_match, rewind)
    assert "next balance update id is 8" in found.sentence


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda refs: refs.pop(0), "1 (deposit) has 0 refs in treasury instead of 1"),
        (lambda refs: refs.append(refs[0]), "1 (deposit) has 2 refs in treasury instead of 1"),
        (lambda refs: refs.append(replace(refs[0], balance_event_id=7)), "7 (interest) has 1 refs in treasury"),
        (lambda refs: refs.append(replace(refs[0], balance_event_id=70)), "update 70, which does not exist"),
        (
            lambda refs: refs.__setitem__(0, replace(refs[0], cause=BalanceUpdateCause.redemption)),
            "describes another update",
        ),
        (lambda refs: refs.__setitem__(3, replace(refs[3], position_id=3)), "describes another update"),
    ],
)
def test_refs_and_updates_match_one_to_one(hand: Hand, spoil: Callable[[object], object], told: str) -> None:
    found = violations(hand, ids_and_refs_match, lambda books: spoil(books.sync.treasury.balance_update_refs))
    assert any(told in one.sentence for one in found), [one.sentence for one in found]


def test_a_flow_referred_to_from_accounting_breaks_it(hand: Hand) -> None:
    def move(books: Books) -> None:
        books.sync.accounting.balance_update_refs.append(books.sync.treasury.balance_update_refs.pop(0))

    told = [one.sentence for one in violations(hand, ids_and_refs_match, move)]
    assert any("has 0 refs in treasury" in one for one in told)
    assert any("has 1 refs in accounting instead of 0" in one for one in told)


# -- 6: nothing outside


@pytest.mark.parametrize("block", [1, 99])
def test_an_update_outside_what_was_scanned_breaks_the_sixth_law(hand: Hand, block: int) -> None:
    def misdate(books: Books) -> None:
        update_of(books, 1).block_number = block

    (found,) = violations(hand, nothing_lies_outside, misdate)
    assert f"of block {block}, outside what was scanned (2 to 10)" in found.sentence


@pytest.mark.parametrize(
    ("record", "field", "back"),
    [
        ("treasury", "last_block_scanned", 10),
        ("treasury", "last_block_scanned", None),
        ("treasury", "last_cycle_at", datetime(2023, 1, 1)),
        ("interest", "last_sync_block", 3),
        ("interest", "last_sync_at", None),
    ],
)
def test_a_checkpoint_that_goes_back_breaks_it(hand: Hand, record: str, field: str, back: object) -> None:
    before = copy_books(hand.books)
    if field == "last_block_scanned":
        before.sync.treasury.last_block_scanned = 11

    def rewind(books: Books) -> None:
        setattr(getattr(books.sync, record), field, back)

    found = violations(hand, nothing_lies_outside, rewind, before)
    assert any(f"{record}.{field} went back from" in one.sentence for one in found)


def test_books_that_are_not_initialised_have_no_outside() -> None:
    hand = Hand()
    assert [] == list(nothing_lies_outside(checkpoint(hand, Books(), Books())))


# -- 5: orphaned blocks


def rewound() -> tuple[Hand, Books]:
    """Books up to block 4 of a branch that is left, and those that still have all of blocks 5 to 9 of another."""
    hand = Hand()
    hand.deposit(1_000)
    hand.sync()
    hand.trade(AUSDC, 100, -100)
    hand.sync()
    hand.deposit(7)
    hand.rebase("aUSDC", 3)
    hand.sync()
    hand.sync_interest()
    hand.move("donated", "USDC", 9)
    hand.correct()
    before = hand.books
    hand.reorganise(4)
    while hand.ledger.head < 9:
        hand.block()
    hand.sync()
    return hand, before


def orphans(spoil: Callable[[Books, Books], object], rewinds: int | None = 4) -> list[str]:
    hand, before = rewound()
    after = copy_books(hand.books)
    spoil(after, copy_books(before))
    drawn = statements(before, after, hand.books, hand.ledger, hand.ledger.head)
    point = Checkpoint(
        before=before, books=after, statements=drawn, found_at=place(1), rewinds=rewinds, end_block=hand.ledger.head
    )
    return [one.sentence for one in orphaned_blocks_leave_nothing(point)]


def test_books_that_went_back_break_no_law() -> None:
    hand, before = rewound()
    drawn = statements(before, hand.books, hand.books, hand.ledger, hand.ledger.head)
    point = Checkpoint(before=before, books=hand.books, statements=drawn, found_at=place(1), rewinds=4, end_block=9)
    assert [] == [one.sentence for one in judge_laws(point).breaks]
    back = [one.sentence for one in nothing_lies_outside(replace(point, rewinds=None))]
    assert ["interest.last_sync_block", "interest.last_sync_at"] == [
        one.split(" went back")[0] for one in back if "interest" in one
    ]


def keep_update(after: Books, before: Books) -> None:
    after.portfolio.reserves = before.portfolio.reserves


def keep_treasury_refs(after: Books, before: Books) -> None:
    after.sync.treasury.balance_update_refs = before.sync.treasury.balance_update_refs


def keep_accounting(after: Books, before: Books) -> None:
    after.sync.accounting = before.sync.accounting


def keep_interest(after: Books, before: Books) -> None:
    after.sync.interest = before.sync.interest


def keep_distribution(after: Books, before: Books) -> None:
    after.sync.interest.last_distribution = before.sync.interest.last_distribution


def keep_stamps(after: Books, before: Books) -> None:
    after.portfolio.open_positions[1].loan = before.portfolio.open_positions[1].loan


def keep_cursor(after: Books, before: Books) -> None:
    after.sync.treasury.last_block_scanned = 7


@pytest.mark.parametrize(
    ("keep", "told"),
    [
        (keep_update, "Balance update 2 (deposit) is of block 5, and blocks above 4 were replaced."),
        (keep_treasury_refs, "A ref in treasury is to balance update 2"),
        (keep_accounting, "A ref in accounting is to balance update"),
        (keep_accounting, "accounting.last_block_scanned is 7"),
        (keep_interest, "interest.last_sync_block is 6"),
        (keep_distribution, "interest.last_distribution is of block 6"),
        (keep_stamps, "A tracker of position 1 last moved at block 6"),
        (keep_cursor, "treasury.last_block_scanned is 7"),
    ],
)
def test_whatever_is_left_of_an_orphaned_block_breaks_the_fifth_law(
    keep: Callable[[Books, Books], object], told: str
) -> None:
    found = orphans(keep)
    assert any(told in one for one in found), found
    assert [] == orphans(keep, rewinds=None)


def test_an_id_that_an_orphaned_update_had_is_not_used_again() -> None:
    hand, _ = rewound()
    hand.deposit(5)
    earlier = hand.books
    hand.sync()
    after = copy_books(hand.books)
    assert 5 == hand.updates()[-1].balance_update_id
    reserve = after.portfolio.reserves[USDC.identifier]
    reserve.balance_updates[2] = replace(reserve.balance_updates.pop(5), balance_update_id=2)
    after.sync.treasury.balance_update_refs[-1].balance_event_id = 2
    point = Checkpoint(before=earlier, books=after, statements=(), found_at=place(1))
    (found,) = ids_and_refs_match(point)
    assert "id 2 is new and not above 4" in found.sentence
