"""Books against books: which differences are breaks, of which kind, and what is not told twice."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from harness.books import Books, copy_books
from harness.books.records import (
    AssetIdentifier,
    BalanceUpdate,
    BalanceUpdateCause,
    BalanceUpdatePositionType,
    ReservePosition,
)
from harness.ledger.facts import Ledger
from harness.reconcile.compare import close, compare_books, entries
from harness.reconcile.diff import Break, BreakKind
from tests.hand_ledger import AUSDC, USDC, WETH, Hand, full_history, place

FOUND_AT = place(99)


@pytest.fixture(scope="module")
def hand() -> Hand:
    return full_history()


def compare(expected: Books, actual: Books, ledger: Ledger) -> list[Break]:
    return list(compare_books(expected, actual, ledger, FOUND_AT))


def breaks_of(hand: Hand, spoil: Callable[[Books], object]) -> list[Break]:
    """What a comparison finds once the ledger's books have been spoiled."""
    actual = copy_books(hand.books)
    spoil(actual)
    return compare(hand.books, actual, hand.ledger)


def reserve_of(books: Books) -> ReservePosition:
    return books.portfolio.reserves[USDC.identifier]


def update_of(books: Books, update_id: int) -> BalanceUpdate:
    return next(entry.update for entry in entries(books) if entry.update.balance_update_id == update_id)


def test_equal_books_have_no_breaks(hand: Hand) -> None:
    assert [] == compare(hand.books, hand.books, hand.ledger)
    assert [] == breaks_of(hand, lambda books: None)


# -- every field, damaged in turn

FREE = {
    # clocks: must be there, and what they say is the syncer's own affair
    ("Treasury", "last_updated_at"),
    ("Accounting", "last_updated_at"),
    ("BalanceUpdate", "created_at"),
    # free by contract
    ("BalanceUpdate", "notes"),
    ("BalanceUpdate", "other_data"),
    ("InterestDistributionOperation", "entries"),
    ("Portfolio", "next_balance_update_id"),
    ("Books", "block_hashes"),
}
"""(record, field) pairs whose value no comparison looks at."""
STRUCTURE = {
    # keys, by which one record finds another: see the tests of refs, ids and positions further down
    ("BalanceEventRef", "balance_event_id"),
    ("BalanceUpdate", "balance_update_id"),
    ("Position", "position_id"),
}


def records(value: object, path: str = "books") -> Iterator[tuple[str, Any]]:
    """Every record in some books with its path; assets are leaves."""
    if isinstance(value, AssetIdentifier):
        return
    if is_dataclass(value) and not isinstance(value, type):
        yield path, value
        for field in fields(value):
            if field.name not in ("unknown_keys", "block_hashes", "other_data", "entries"):
                yield from records(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from records(item, f"{path}[{key}]")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from records(item, f"{path}[{index}]")


def damaged(value: object, name: str) -> object:
    """Another value of the same type; something where there was nothing."""
    match value:
        case enum.Enum():
            others = [other for other in type(value) if other is not value]
            return others[0]
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 1.001 + 0.001
        case Decimal():
            return value + Decimal(1).scaleb(-6)
        case str():
            return f"{value}0"
        case datetime():
            return value + timedelta(seconds=1)
        case AssetIdentifier():
            return replace(value, decimals=value.decimals + 1)
        case None if name.endswith("_at"):
            return datetime(2024, 1, 1)
        case None if name in ("tx_hash", "owner_address", "notes", "address"):
            return "0xdead"
        case None if name == "strategy_cycle_included_at":
            return datetime(2024, 1, 1)
        case None if name in ("pending_deposits", "pending_redemptions", "share_count", "last_token_price"):
            return 1.5
        case None if name == "other_data":
            return {"of": "my own"}
        case None:
            return 5
    raise AssertionError(f"cannot damage {name} of {type(value).__name__}")


def leaves() -> list[tuple[str, str, str]]:
    """(path, record, field) of everything in the books that is neither record nor container."""
    found = []
    for path, record in records(full_history().books):
        for field in fields(record):
            value = getattr(record, field.name)
            container = isinstance(value, (dict, list)) or (
                is_dataclass(value) and not isinstance(value, AssetIdentifier)
            )
            if field.name not in ("unknown_keys", "loan", "borrowed", "borrowed_interest") and not container:
                found.append((path, type(record).__name__, field.name))
    return found


LEAVES = leaves()


def spoilt(path: str, name: str) -> Callable[[Books], None]:
    def spoil(books: Books) -> None:
        record = next(record for found, record in records(books) if found == path)
        value = getattr(record, name)
        changed = damaged(value, name)
        if isinstance(value, float) and name == "usd_value":
            changed = value * 1.5
        setattr(record, name, changed)

    return spoil


def test_no_record_of_the_books_is_forgotten() -> None:
    reached = {record for _, record, _ in LEAVES}
    assert {
        "Accounting",
        "AssetInterestData",
        "BalanceEventRef",
        "BalanceUpdate",
        "Deployment",
        "InterestDistributionOperation",
        "InterestSync",
        "InterestTracker",
        "LoanSide",
        "Portfolio",
        "Position",
        "ReservePosition",
        "Trade",
        "TradingPair",
        "Treasury",
    } == reached


@pytest.mark.parametrize(("path", "record", "name"), LEAVES, ids=str)
def test_each_field_is_compared_or_free(hand: Hand, path: str, record: str, name: str) -> None:
    found = breaks_of(hand, spoilt(path, name))
    if (record, name) in FREE:
        assert [] == found or (record, name) == ("Accounting", "last_updated_at")  # there was no correction yet
        return
    if (record, name) in STRUCTURE:
        return
    assert found, f"{path}.{name} may be anything"
    told = " ".join(f"{one.field} {one.sentence}" for one in found)
    # A quantity of a trade is told by the position that it sums up to, as well.
    assert name in told or (record, name) in {("Trade", "executed_quantity")}, told
    for one in found:
        assert one.sentence.endswith(".")
        assert FOUND_AT == one.found_at


@pytest.mark.parametrize(("record", "name"), sorted(FREE))
def test_what_is_free_is_a_field_there_is(record: str, name: str) -> None:
    from harness.books import records as module

    assert name in {field.name for field in fields(getattr(module, record))}


def test_a_field_that_should_say_nothing_is_told(hand: Hand) -> None:
    def fill(books: Books) -> None:
        books.sync.treasury.share_count = 1.0
        books.sync.treasury.last_lagoon_settlement_block_scanned = 3
        books.portfolio.open_positions[1].frozen_at = datetime(2024, 1, 1)

    assert ["position 1 frozen_at", "treasury.share_count", "treasury.last_lagoon_settlement_block_scanned"] == [
        one.field for one in breaks_of(hand, fill)
    ]


@pytest.mark.parametrize("field", ["loan", "collateral", "collateral_interest", "borrowed", "borrowed_interest"])
def test_a_loan_or_its_sides_that_come_or_go_are_told(hand: Hand, field: str) -> None:
    def spoil(books: Books) -> None:
        position = books.portfolio.open_positions[2]
        assert position.loan is not None
        if field == "loan":
            position.loan = None
        elif field.startswith("borrowed"):
            setattr(position.loan, field, getattr(position.loan, field.replace("borrowed", "collateral")))
        else:
            setattr(position.loan, field, None)

    (broken,) = breaks_of(hand, spoil)
    assert (BreakKind.different, f"position 2 {field}") == (broken.kind, broken.field)


def test_clocks_must_be_there(hand: Hand) -> None:
    def spoil(books: Books) -> None:
        books.sync.treasury.last_updated_at = None
        update_of(books, 1).created_at = None

    assert ["created_at", "treasury.last_updated_at"] == [one.field for one in breaks_of(hand, spoil)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"decimals": 18}, "18 decimals"),
        ({"token_symbol": "USDT"}, "USDT"),
        ({"type": "token"}, "token"),
        ({"underlying": WETH}, "of WETH"),
    ],
)
def test_all_that_an_asset_says_is_compared(hand: Hand, change: dict[str, Any], told: str) -> None:
    def spoil(books: Books) -> None:
        reserve_of(books).asset = replace(USDC, **change)

    (broken,) = breaks_of(hand, spoil)
    assert "reserve USDC asset" == broken.field
    assert told in (broken.actual or "")


# -- the five kinds


def remove(books: Books, update_id: int, *, with_ref: bool = True) -> BalanceUpdate:
    """Take an update out, with what follows from it: balance and ref."""
    for holding in (*books.portfolio.reserves.values(), *books.portfolio.open_positions.values()):
        if update_id in holding.balance_updates:
            update = holding.balance_updates.pop(update_id)
            if isinstance(holding, ReservePosition):
                holding.quantity -= update.quantity
            elif holding.loan is not None:
                assert holding.loan.collateral is not None
                assert holding.loan.collateral_interest is not None
                tracker = holding.loan.collateral_interest
                tracker.last_token_amount -= update.quantity
                if update.cause is BalanceUpdateCause.interest:
                    tracker.last_accrued_interest -= update.quantity
                else:
                    holding.loan.collateral.quantity -= update.quantity
                tracker.last_event_at = datetime(2024, 1, 1)
            for later in holding.balance_updates.values():
                if later.balance_update_id > update_id:
                    later.old_balance -= update.quantity
    if with_ref:
        refs = books.sync.treasury.balance_update_refs
        refs[:] = [ref for ref in refs if ref.balance_event_id != update_id]
    return update


def test_missing_is_told_once_with_its_origin(hand: Hand) -> None:
    (broken,) = breaks_of(hand, lambda books: remove(books, 1))
    flow = hand.ledger.flows[0]
    assert (BreakKind.missing, None, "USDC", -1_000_000_000, "-1000.000000", -1000.0) == (
        broken.kind,
        broken.position_id,
        broken.asset,
        broken.gap_raw,
        broken.gap,
        broken.gap_usd,
    )
    assert (flow.block, flow.transaction, flow.log_index, flow.location) == (
        broken.block,
        broken.transaction,
        broken.log_index,
        broken.location,
    )
    assert ("1000.000000 USDC", "nothing") == (broken.expected, broken.actual)
    assert "deposit of 1000.000000 USDC of alice at block 3" in broken.sentence
    assert "1000.000000 USDC short" in broken.sentence


@pytest.mark.parametrize("update_id", range(1, 9))
def test_any_missing_update_is_one_break_and_no_more(hand: Hand, update_id: int) -> None:
    assert [BreakKind.missing] == [one.kind for one in breaks_of(hand, lambda books: remove(books, update_id))]


def add(books: Books, update_id: int, **changes: Any) -> None:
    """Book an update again, as another one maybe, with what follows from it."""
    update = replace(update_of(books, update_id), balance_update_id=50, **changes)
    holding: Any = reserve_of(books)
    if update.position_id is not None:
        holding = books.portfolio.open_positions[update.position_id]
    holding.balance_updates[50] = update
    if isinstance(holding, ReservePosition):
        holding.quantity += update.quantity
    ref = next(ref for ref in books.sync.treasury.balance_update_refs if ref.balance_event_id == update_id)
    books.sync.treasury.balance_update_refs.append(replace(ref, balance_event_id=50))


def test_doubled_is_told_once(hand: Hand) -> None:
    (broken,) = breaks_of(hand, lambda books: add(books, 1))
    assert (BreakKind.doubled, "1000.000000 USDC, once", "1000.000000 USDC, again", 1_000_000_000) == (
        broken.kind,
        broken.expected,
        broken.actual,
        broken.gap_raw,
    )
    assert hand.ledger.flows[0].location == broken.location
    assert "once too often" in broken.sentence


def test_doubled_by_reading_a_block_again_is_told_once() -> None:
    hand = Hand()
    for raw in (5, 6):
        hand.deposit(raw)
    hand.sync()
    hand.deposit(7)
    hand.sync()

    def spoil(books: Books) -> None:
        again = replace(update_of(books, 2), balance_update_id=3, old_balance=Decimal("0.000011"))
        last = replace(update_of(books, 3), balance_update_id=4, old_balance=Decimal("0.000017"))
        reserve_of(books).balance_updates |= {3: again, 4: last}
        reserve_of(books).quantity += again.quantity
        refs = books.sync.treasury.balance_update_refs
        refs[2:] = [replace(refs[1], balance_event_id=3), replace(refs[2], balance_event_id=4)]

    (broken,) = breaks_of(hand, spoil)
    assert (BreakKind.doubled, 4, 6) == (broken.kind, broken.block, broken.gap_raw)


def test_unexpected_is_told_once(hand: Hand) -> None:
    (broken,) = breaks_of(hand, lambda books: add(books, 2, tx_hash="0xf00", log_index=77))
    assert (BreakKind.unexpected, "nothing", "7.000000 USDC", 7_000_000) == (
        broken.kind,
        broken.expected,
        broken.actual,
        broken.gap_raw,
    )
    assert ("0xf00", 77, FOUND_AT) == (broken.transaction, broken.log_index, broken.location)


def test_different_says_in_which_field_and_nothing_else(hand: Hand) -> None:
    def spoil(books: Books) -> None:
        update = update_of(books, 2)
        update.quantity += 1
        update.usd_value += 1
        reserve_of(books).quantity += 1
        update_of(books, 3).old_balance += 1
        books.sync.treasury.balance_update_refs[1].usd_value = update.usd_value

    (broken,) = breaks_of(hand, spoil)
    assert (BreakKind.different, "quantity", 1_000_000, "7.000000 USDC", "8.000000 USDC") == (
        broken.kind,
        broken.field,
        broken.gap_raw,
        broken.expected,
        broken.actual,
    )


def test_misplaced_in_another_position_is_told_once(hand: Hand) -> None:
    def spoil(books: Books) -> None:
        one, two = books.portfolio.open_positions[2], books.portfolio.open_positions[3]
        update = one.balance_updates.pop(4)
        two.balance_updates[4] = replace(update, position_id=3, old_balance=Decimal(100))
        for position, moved in ((one, -update.quantity), (two, update.quantity)):
            for later in position.balance_updates.values():
                if later.balance_update_id > 4:
                    later.old_balance += moved
            assert position.loan is not None
            assert position.loan.collateral is not None
            assert position.loan.collateral_interest is not None
            position.loan.collateral.quantity += moved
            position.loan.collateral_interest.last_token_amount += moved
        books.sync.treasury.balance_update_refs[3].position_id = 3

    (broken,) = breaks_of(hand, spoil)
    assert (BreakKind.misplaced, "position_id", "position 2", "position 3") == (
        broken.kind,
        broken.field,
        broken.expected,
        broken.actual,
    )


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda refs: refs.pop(0), BreakKind.missing),
        (lambda refs: refs.append(refs[-1]), BreakKind.doubled),
        (lambda refs: refs.append(replace(refs[-1], balance_event_id=77)), BreakKind.unexpected),
        (lambda refs: refs.insert(0, refs.pop(1)), BreakKind.misplaced),
    ],
)
def test_refs_have_breaks_of_their_own(hand: Hand, spoil: Callable[[list[Any]], object], kind: BreakKind) -> None:
    (broken,) = breaks_of(hand, lambda books: spoil(books.sync.treasury.balance_update_refs))
    assert (kind, "treasury.balance_update_refs") == (broken.kind, broken.field)


def test_a_ref_of_interest_is_none_of_the_books(hand: Hand) -> None:
    def spoil(books: Books) -> None:
        refs = books.sync.accounting.balance_update_refs
        refs.append(replace(books.sync.treasury.balance_update_refs[0], balance_event_id=99))

    (broken,) = breaks_of(hand, spoil)
    assert (BreakKind.unexpected, "accounting.balance_update_refs") == (broken.kind, broken.field)


# -- what makes two updates the same


def test_hashes_compare_with_and_without_0x_and_in_any_case(hand: Hand) -> None:
    def spoil(books: Books) -> None:
        for entry in entries(books):
            if entry.update.tx_hash is not None:
                entry.update.tx_hash = entry.update.tx_hash.removeprefix("0x").upper()

    assert [] == breaks_of(hand, spoil)


def test_owners_compare_in_any_case(hand: Hand) -> None:
    def spoil(books: Books) -> None:
        update_of(books, 1).owner_address = "0xa11ce"

    assert [] == breaks_of(hand, spoil)


def test_another_owner_is_told_by_name(hand: Hand) -> None:
    def spoil(books: Books) -> None:
        update_of(books, 1).owner_address = "0xB0B"

    (broken,) = breaks_of(hand, spoil)
    assert ("owner_address", "alice (0xA11CE)", "bob (0xB0B)") == (broken.field, broken.expected, broken.actual)


def test_updates_without_a_transaction_may_stand_in_any_order(hand: Hand) -> None:
    def spoil(books: Books) -> None:
        one, two = books.portfolio.open_positions[2], books.portfolio.open_positions[3]
        first, second = one.balance_updates.pop(7), two.balance_updates.pop(8)
        one.balance_updates[8] = replace(first, balance_update_id=8)
        two.balance_updates[7] = replace(second, balance_update_id=7)

    assert [] == breaks_of(hand, spoil)


def test_ids_are_never_expected(hand: Hand) -> None:
    def spoil(books: Books) -> None:
        for holding in (*books.portfolio.reserves.values(), *books.portfolio.open_positions.values()):
            holding.balance_updates = {
                key * 10: replace(update, balance_update_id=key * 10) for key, update in holding.balance_updates.items()
            }
        for ref in books.sync.treasury.balance_update_refs:
            ref.balance_event_id *= 10

    assert [] == breaks_of(hand, spoil)


def test_worth_is_compared_at_one_part_in_a_billion() -> None:
    assert close(1.0, 1.0 + 9e-10)
    assert close(-5.0, -5.0 * (1 - 9e-10))
    assert not close(1.0, 1.0 + 1.1e-9)
    assert not close(1.0, -1.0)
    assert not close(0.0, 1e-300)
    assert not close(1.0, float("nan"))
    assert not close(1.0, float("inf"))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cause": BalanceUpdateCause.correction}, "cause"),
        ({"position_type": BalanceUpdatePositionType.open_position}, "position_type"),
        ({"log_index": 4}, "log_index"),
        ({"log_index": None}, "log_index"),
        ({"tx_hash": None, "log_index": None}, "tx_hash"),
        ({"chain_id": 1}, "chain_id"),
        ({"asset": replace(AUSDC, token_symbol="USDC")}, "asset"),
    ],
)
def test_a_key_that_is_wrong_is_a_difference_and_no_pair_of_breaks(
    hand: Hand, change: dict[str, Any], field: str
) -> None:
    def spoil(books: Books) -> None:
        update = update_of(books, 1)
        for name, value in change.items():
            setattr(update, name, value)

    found = breaks_of(hand, spoil)
    assert {BreakKind.different} == {one.kind for one in found}
    assert field in {one.field for one in found}


def test_more_decimals_than_the_token_has_still_show(hand: Hand) -> None:
    def spoil(books: Books) -> None:
        update_of(books, 1).quantity += Decimal("0.0000001")
        reserve_of(books).quantity += Decimal("0.0000001")

    (first, *_) = breaks_of(hand, spoil)
    assert ("quantity", 1) == (first.field, first.gap_raw)


# -- what must be listed


def test_skipped_legs_must_be_listed() -> None:
    hand = Hand(dust_absolute={"USDC": Decimal(0), "aUSDC": Decimal(0), "WETH": Decimal(1)})
    hand.move("donated", "WETH", 10)
    hand.redeem(("USDC", 1), ("WETH", 10))
    hand.sync()

    for listed in (None, {"skipped_legs": []}, {"skipped_legs": "two"}):
        (broken,) = breaks_of(hand, lambda books, listed=listed: setattr(update_of(books, 1), "other_data", listed))
        assert ("other_data.skipped_legs", "1 legs") == (broken.field, broken.expected)


# -- reserves and positions that should not be there


def test_a_reserve_at_zero_equals_none_until_the_first_sync() -> None:
    hand = Hand()
    actual = copy_books(hand.books)
    actual.portfolio.reserves[USDC.identifier] = ReservePosition(asset=USDC)
    assert [] == compare(hand.books, actual, hand.ledger)
    reserve_of(actual).quantity = Decimal(1)
    assert [BreakKind.unexpected] == [one.kind for one in compare(hand.books, actual, hand.ledger)]
    hand.sync()
    assert [BreakKind.missing] == [one.kind for one in breaks_of(hand, lambda books: books.portfolio.reserves.clear())]


def test_a_reserve_of_another_asset_is_unexpected_and_one_kept_twice_doubled(hand: Hand) -> None:
    def foreign(books: Books) -> None:
        for asset in (AUSDC, WETH):
            books.portfolio.reserves[asset.identifier] = ReservePosition(asset=asset)

    found = breaks_of(hand, foreign)
    assert [BreakKind.unexpected] * 2 == [one.kind for one in found]
    assert found == breaks_of(hand, foreign)

    def twice(books: Books) -> None:
        books.portfolio.reserves[USDC.address] = ReservePosition(asset=USDC)

    assert [(BreakKind.doubled, "reserves")] == [(one.kind, one.field) for one in breaks_of(hand, twice)]


def test_positions_that_come_go_or_change_state_are_told(hand: Hand) -> None:
    portfolio = hand.books.portfolio

    def gone(books: Books) -> None:
        del books.portfolio.closed_positions[4]

    def new(books: Books) -> None:
        books.portfolio.frozen_positions[9] = replace(portfolio.closed_positions[4], position_id=9)

    def closed(books: Books) -> None:
        books.portfolio.closed_positions[1] = books.portfolio.open_positions.pop(1)

    def both(books: Books) -> None:
        books.portfolio.frozen_positions[4] = books.portfolio.closed_positions[4]

    told = {
        spoil.__name__: [(str(one.kind), one.field, one.actual, one.position_id) for one in breaks_of(hand, spoil)]
        for spoil in (gone, new, closed, both)
    }
    assert {
        "gone": [("missing", "closed_positions", "nowhere", 4)],
        "new": [("unexpected", "frozen_positions", "position 9, frozen", 9)],
        "closed": [("missing", "open_positions", "closed", 1)],
        "both": [("unexpected", "frozen_positions", "position 4, frozen", 4)],
    } == told


def test_a_trade_that_is_missing_or_made_up_is_told(hand: Hand) -> None:
    (first, *_) = breaks_of(hand, lambda books: books.portfolio.closed_positions[4].trades.clear())
    assert ("position 4 trades", "2 trades", "0 trades") == (first.field, first.expected, first.actual)


def test_breaks_come_in_the_same_order_every_time(hand: Hand) -> None:
    def spoil(books: Books) -> None:
        for path, record in list(records(books)):
            for field in dataclasses.fields(record):
                value = getattr(record, field.name)
                if isinstance(value, (datetime, float)):
                    setattr(record, field.name, damaged(value, field.name))
            del path

    found = breaks_of(hand, spoil)
    assert len(found) > 40
    assert found == breaks_of(hand, spoil)


# -- debts


def indebted() -> Hand:
    hand = Hand()
    hand.deposit(1_000)
    hand.sync()
    hand.trade(AUSDC, 400, -400)
    hand.borrow(100)
    hand.rebase("dUSDC", 5)
    hand.rebase("aUSDC", 8)
    hand.sync()
    hand.sync_interest()
    return hand


def test_debts_that_are_right_are_no_break() -> None:
    assert [] == breaks_of(indebted(), lambda _: None)


def test_a_debts_interest_that_is_missing_is_one_break_and_says_nothing_of_what_the_position_holds() -> None:
    hand = indebted()

    def forget(books: Books) -> None:
        position = books.portfolio.open_positions[1]
        position.balance_updates = {
            update_id: update for update_id, update in position.balance_updates.items() if update.asset == AUSDC
        }
        assert position.loan is not None
        tracker = position.loan.borrowed_interest
        assert tracker is not None
        tracker.last_token_amount -= Decimal("0.000005")
        tracker.last_accrued_interest -= Decimal("0.000005")

    (broken,) = breaks_of(hand, forget)
    assert (BreakKind.missing, "dUSDC", 1, -5) == (broken.kind, broken.asset, broken.position_id, broken.gap_raw)


@pytest.mark.parametrize(
    ("record", "field"),
    [("borrowed", "quantity"), ("borrowed", "created_at"), ("borrowed_interest", "last_token_amount")],
)
def test_what_a_loan_owes_is_compared(record: str, field: str) -> None:
    def spoil(books: Books) -> None:
        loan = books.portfolio.open_positions[1].loan
        found = getattr(loan, record)
        setattr(found, field, damaged(getattr(found, field), field))

    (broken,) = breaks_of(indebted(), spoil)
    assert f"position 1 {record}.{field}" == broken.field


def test_a_reserve_of_nothing_equals_none_until_a_treasury_sync_makes_it() -> None:
    hand = Hand()
    hand.block()
    hand.correct()

    def without(books: Books) -> None:
        books.portfolio.reserves.clear()

    assert [] == breaks_of(hand, without)
    hand.block()
    hand.sync()
    assert ["reserves"] == [one.field for one in breaks_of(hand, without)]
