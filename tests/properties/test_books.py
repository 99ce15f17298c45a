"""Laws of books: what is saved loads, what is copied is apart, what is traded adds up."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.books import (
    Accounting,
    AssetIdentifier,
    AssetInterestData,
    BalanceEventRef,
    BalanceUpdate,
    BalanceUpdateCause,
    BalanceUpdatePositionType,
    BookedTrade,
    Books,
    Deployment,
    InterestDistributionEntry,
    InterestDistributionOperation,
    InterestSync,
    InterestTracker,
    Loan,
    LoanSide,
    Portfolio,
    Position,
    ReservePosition,
    Sync,
    Trade,
    TradingPair,
    Treasury,
    add_raw,
    book_trade,
    check_books,
    copy_books,
    dump_books,
    load_books,
    open_positions_of,
)
from harness.units import to_decimal

# ---------------------------------------------------------------- strategies

# Values are drawn by Hypothesis, a few of each kind; a seed, drawn too, says which goes into which field. Drawing
# each field of a whole state file by itself takes seconds an example.

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
floats = st.floats(allow_nan=False, allow_infinity=False)
times = st.datetimes(datetime(1970, 1, 1), datetime(2242, 1, 1)).map(lambda at: at.replace(fold=0))
decimals = st.one_of(
    st.builds(to_decimal, st.integers(-(2**256), 2**256), st.integers(0, 36)),
    st.builds(
        lambda sign, digits, exponent: Decimal((sign, tuple(map(int, str(digits))), exponent)),
        st.integers(0, 1),
        st.integers(0, 10**60),
        st.integers(-300, 300),
    ),
    floats.map(Decimal),
)
foreign = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**300), 2**300) | floats | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
POOL = {
    "text": texts,
    "word": texts.filter(bool),
    "number": st.integers(0, 2**63 - 1),
    "float": floats,
    "time": times,
    "decimal": decimals,
    "foreign": foreign,
    # Keys of real files that are none of our fields have places of their own in what is saved.
    "key": texts | st.sampled_from(["internal_id", "info_url", "initial_deposit", "last_usd_price"]),
}
pools = st.fixed_dictionaries({kind: st.lists(values, min_size=1, max_size=4) for kind, values in POOL.items()})


class Drawn:
    """Books made of a pool of values."""

    def __init__(self, pool: dict[str, list[Any]], seed: int) -> None:
        self.pool = pool
        self.random = random.Random(seed)

    def some(self, kind: str) -> Any:
        return deepcopy(self.random.choice(self.pool[kind]))

    def maybe(self, kind: str) -> Any:
        return self.some(kind) if self.random.random() < 0.7 else None

    def several(self, make: Callable[[], Any]) -> list[Any]:
        return [make() for _ in range(self.random.choice([0, 1, 1, 2]))]

    def objects(self, kind: str = "key") -> dict[str, Any]:
        return {self.some(kind): self.some("foreign") for _ in range(self.random.choice([0, 0, 1, 3]))}

    def record(self, cls: type[Any], **values: Any) -> Any:
        """Fill a record: values given as text are kinds to draw, with ``?`` for one that may be None."""
        names = {field.name for field in fields(cls)}
        assert names == {*values, "unknown_keys"}, cls
        filled = {
            name: (self.maybe(kind[:-1]) if kind.endswith("?") else self.some(kind)) if type(kind) is str else kind
            for name, kind in values.items()
        }
        unknown = {key: item for key, item in self.objects().items() if key not in names}
        return cls(**filled, unknown_keys=unknown)

    def asset(self, wraps: int = 2) -> AssetIdentifier:
        inner = self.asset(wraps - 1) if wraps and self.random.random() < 0.3 else None
        kinds = {"chain_id": "number", "address": "word", "token_symbol": "text", "type": "text?"}
        made: AssetIdentifier = self.record(
            AssetIdentifier, **kinds, decimals=self.random.randrange(256), underlying=inner
        )
        return made

    def update(self) -> BalanceUpdate:
        made: BalanceUpdate = self.record(
            BalanceUpdate,
            balance_update_id="number",
            cause=self.random.choice(list(BalanceUpdateCause)),
            position_type=self.random.choice(list(BalanceUpdatePositionType)),
            asset=self.asset(),
            block_mined_at="time",
            strategy_cycle_included_at="time?",
            chain_id="number",
            quantity="decimal",
            old_balance="decimal",
            usd_value="float",
            created_at="time?",
            previous_update_at="time?",
            owner_address="text?",
            tx_hash="text?",
            log_index="number?",
            position_id="number?",
            notes="text?",
            block_number="number?",
            other_data=self.random.choice([None, self.objects("text")]),
        )
        return made

    def updates(self) -> dict[int, BalanceUpdate]:
        return {update.balance_update_id: update for update in self.several(self.update)}

    def ref(self) -> BalanceEventRef:
        made: BalanceEventRef = self.record(
            BalanceEventRef,
            balance_event_id="number",
            strategy_cycle_included_at="time?",
            cause=self.random.choice(list(BalanceUpdateCause)),
            position_type=self.random.choice(list(BalanceUpdatePositionType)),
            position_id="number?",
            usd_value="float?",
        )
        return made

    def side(self) -> LoanSide | None:
        made: LoanSide = self.record(LoanSide, asset=self.asset(), quantity="decimal", created_at="time?")
        return self.random.choice([None, made])

    def tracker(self) -> InterestTracker | None:
        amounts = ("opening_amount", "last_token_amount", "last_accrued_interest", "interest_payments")
        stamps = {"last_updated_at": "time?", "last_event_at": "time?", "last_updated_block_number": "number?"}
        made: InterestTracker = self.record(InterestTracker, **dict.fromkeys(amounts, "decimal"), **stamps)
        return self.random.choice([None, made])

    def loan(self) -> Loan | None:
        made: Loan = self.record(
            Loan,
            collateral=self.side(),
            borrowed=self.side(),
            collateral_interest=self.tracker(),
            borrowed_interest=self.tracker(),
        )
        return self.random.choice([None, made])

    def trade(self) -> Trade:
        made: Trade = self.record(
            Trade,
            trade_id="number",
            executed_at="time?",
            executed_quantity="decimal?",
            executed_reserve="decimal?",
            borrowed_quantity="decimal?",
            failed_at="time?",
            block_number="number?",
            tx_hash="text?",
        )
        return made

    def position(self) -> Position:
        made: Position = self.record(
            Position,
            position_id="number",
            pair=self.record(TradingPair, base=self.asset(), quote=self.asset(), kind="text?"),
            opened_at="time?",
            closed_at="time?",
            frozen_at="time?",
            reserve_currency=self.random.choice([None, self.asset()]),
            last_token_price="float?",
            last_pricing_at="time?",
            trades=self.several(self.trade),
            loan=self.loan(),
            balance_updates=self.updates(),
        )
        return made

    def positions(self) -> dict[int, Position]:
        return {position.position_id: position for position in self.several(self.position)}

    def reserve(self) -> ReservePosition:
        made: ReservePosition = self.record(
            ReservePosition,
            asset=self.asset(),
            quantity="decimal",
            balance_updates=self.updates(),
            last_sync_at="time?",
            reserve_token_price="float?",
            last_pricing_at="time?",
        )
        return made

    def entry(self) -> InterestDistributionEntry:
        made: InterestDistributionEntry = self.record(
            InterestDistributionEntry,
            side="text?",
            position=self.random.choice([None, {"position_id": self.some("number")}]),
            tracker=self.random.choice([None, {"mine": self.some("foreign")}]),
            weight=None,
            price="float?",
        )
        made.weight = self.random.choice([None, str(self.some("decimal"))])
        return made

    def distribution(self) -> InterestDistributionOperation | None:
        data = self.several(lambda: self.record(AssetInterestData, total="decimal", effective_rate="float"))
        made: InterestDistributionOperation = self.record(
            InterestDistributionOperation,
            start="time",
            end="time",
            assets=self.several(self.asset),
            asset_interest_data={self.some("word"): item for item in data},
            entries=self.several(self.entry),
            effective_rate="float?",
        )
        return self.random.choice([None, made])

    def sync(self) -> Sync:
        deployment = self.record(
            Deployment,
            chain_id="number?",
            address="word?",
            block_number="number?",
            tx_hash="text?",
            block_mined_at="time?",
            vault_token_name="text?",
            vault_token_symbol="text?",
            initialised_at="time?",
        )
        treasury = self.record(
            Treasury,
            last_updated_at="time?",
            last_cycle_at="time?",
            last_block_scanned="number?",
            balance_update_refs=self.several(self.ref),
            pending_deposits="float?",
            pending_redemptions="float?",
            share_count=self.random.choice([None, self.some("float"), self.some("decimal")]),
            last_lagoon_settlement_block_scanned="number?",
        )
        accounting = self.record(
            Accounting,
            last_updated_at="time?",
            last_block_scanned="number?",
            balance_update_refs=self.several(self.ref),
        )
        interest = self.record(
            InterestSync, last_sync_at="time?", last_sync_block="number?", last_distribution=self.distribution()
        )
        made: Sync = self.record(
            Sync, deployment=deployment, treasury=treasury, accounting=accounting, interest=interest
        )
        return made

    def books(self) -> Books:
        portfolio = self.record(
            Portfolio,
            reserves={reserve.asset.identifier: reserve for reserve in self.several(self.reserve)},
            open_positions=self.positions(),
            frozen_positions=self.positions(),
            closed_positions=self.positions(),
            next_balance_update_id="number",
            next_position_id="number",
            next_trade_id="number",
        )
        hashes = {self.some("number"): self.some("foreign") for _ in range(2)}
        made: Books = self.record(Books, sync=self.sync(), portfolio=portfolio, block_hashes=hashes)
        return made


all_books = st.builds(lambda pool, seed: Drawn(pool, seed).books(), pools, st.integers(0, 2**32))


def told(value: Any) -> Any:
    """Everything that a value says: digits of decimals, types of numbers, all of an asset, the order of keys."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return (type(value), *((field.name, told(getattr(value, field.name))) for field in fields(value)))
    if isinstance(value, dict):
        return dict, sorted(((key, told(item)) for key, item in value.items()), key=lambda pair: str(pair[0]))
    if isinstance(value, list):
        return list, [told(item) for item in value]
    return type(value), repr(value)


def say_the_same(books: Books, other: Books) -> bool:
    # Not compared in an assertion: pytest would explain the difference of two whole books, example by example.
    return bool(told(books) == told(other))


# ---------------------------------------------------------------- laws

slow = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slow
@given(all_books)
def test_what_is_saved_loads_to_equal_books(books: Books) -> None:
    text = dump_books(books)
    loaded = load_books(text)
    assert books == loaded
    assert say_the_same(books, loaded)
    assert text == dump_books(loaded)
    assert loaded == load_books(dump_books(books, indent=None))


@slow
@given(all_books)
def test_a_checked_or_copied_book_says_the_same_and_is_apart(books: Books) -> None:
    kept = deepcopy(books)
    for other in (check_books(books), copy_books(books)):
        assert say_the_same(kept, other)
        spoil(other)
        assert say_the_same(kept, books)


def spoil(value: Any) -> None:
    """Change everything in place that can be changed; assets cannot."""
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, AssetIdentifier)):
        for field in fields(value):
            spoil(getattr(value, field.name))
            setattr(value, field.name, "spoilt")
    elif isinstance(value, dict):
        for item in value.values():
            spoil(item)
        value["spoilt"] = True
    elif isinstance(value, list):
        for item in value:
            spoil(item)
        value.append("spoilt")


@given(decimals, st.integers(-(2**256), 2**256), st.integers(0, 36))
def test_adding_base_units_is_exact(quantity: Decimal, raw: int, places: int) -> None:
    assert Fraction(quantity) + Fraction(raw, 10**places) == Fraction(add_raw(quantity, raw, places))


@given(times)
def test_a_time_keeps_its_microseconds(at: datetime) -> None:
    books = Books()
    books.sync.treasury.last_cycle_at = at
    assert at == load_books(dump_books(books)).sync.treasury.last_cycle_at


# ---------------------------------------------------------------- trades add up

USDC = AssetIdentifier(1, "0x" + "aa" * 20, "USDC", 6)
WETH = AssetIdentifier(1, "0x" + "bb" * 20, "WETH", 18)
AUSDC = AssetIdentifier(1, "0x" + "cc" * 20, "aUSDC", 6, underlying=USDC)
START = datetime(2024, 1, 1)

actions = st.lists(
    st.tuples(
        st.sampled_from(["trade", "supply", "unsupply", "close", "interest", "redemption"]),
        st.sampled_from([WETH, AUSDC]),
        st.integers(1, 10**12),
        st.integers(-(10**12), 10**12),
        st.sampled_from([None, "new", 0, 1]),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(actions)
def test_books_add_up_under_any_trades(steps: list[Any]) -> None:
    """Law 1: trades and updates make the balances, and a loan's parts make its position's quantity."""
    books = Books()
    books.portfolio.reserves[USDC.identifier] = ReservePosition(asset=USDC, quantity=Decimal("5000.000000"))
    reserve = 5_000_000_000
    held: dict[int, int] = {}
    opened: set[int] = set()
    block = 1
    for kind, asset, size, moved, wish, sells in steps:
        block += 1
        found = open_positions_of(books, asset)
        if kind in ("interest", "redemption"):
            if found:
                held[found[0].position_id] += moved
                books = updated(books, found[0].position_id, kind, moved)
            continue
        if kind != "trade" and asset is WETH:
            continue
        position: Any = (
            wish if wish == "new" else found[wish % len(found)].position_id if found and wish is not None else None
        )
        if position is None and len(found) > 1:
            position = found[0].position_id
        takes = kind in ("unsupply", "close") or (kind == "trade" and sells)
        if takes and (not found or position == "new"):
            continue
        target = position if isinstance(position, int) else found[0].position_id if found and position is None else None
        quantity = size
        if takes:
            quantity = -held[target] if kind == "close" or size % 3 == 0 else -size
        before = deepcopy(books)
        after = book_trade(
            books,
            BookedTrade(
                kind=kind,
                asset=asset,
                reserve=USDC,
                quantity_raw=quantity,
                reserve_raw=moved,
                position=position,
                executed_at=START + timedelta(seconds=12 * block),
                block_number=block,
                tx_hash=hex(block),
                price=Fraction(size, 10**8),
            ),
        )
        assert say_the_same(before, books)
        books = after
        if target is None:
            (target,) = set(books.portfolio.open_positions) - opened
            opened.add(target)
            held[target] = 0
        held[target] += quantity
        reserve += moved
        holds(books, reserve, held)


def updated(books: Books, position_id: int, kind: str, raw: int) -> Books:
    """Do what a sync does to a position: interest moves the accrued part, a redemption the principal."""
    books = copy_books(books)
    position = books.portfolio.open_positions[position_id]
    update_id = books.portfolio.next_balance_update_id
    books.portfolio.next_balance_update_id += 1
    quantity = to_decimal(raw, position.asset.decimals)
    position.balance_updates[update_id] = BalanceUpdate(
        balance_update_id=update_id,
        cause=BalanceUpdateCause(kind),
        position_type=BalanceUpdatePositionType.open_position,
        asset=position.asset,
        block_mined_at=START,
        strategy_cycle_included_at=None,
        chain_id=1,
        quantity=quantity,
        old_balance=Decimal(0),
        usd_value=0.0,
    )
    if position.loan is not None:
        side, tracker = position.loan.collateral, position.loan.collateral_interest
        assert side is not None
        assert tracker is not None
        tracker.last_token_amount = add_raw(tracker.last_token_amount, raw, 6)
        if kind == "interest":
            tracker.last_accrued_interest = add_raw(tracker.last_accrued_interest, raw, 6)
        else:
            side.quantity = add_raw(side.quantity, raw, 6)
    return books


def holds(books: Books, reserve: int, held: dict[int, int]) -> None:
    portfolio = books.portfolio
    assert Fraction(reserve, 10**6) == Fraction(portfolio.reserves[USDC.identifier].quantity)
    everything = {**portfolio.open_positions, **portfolio.closed_positions}
    assert held == {position_id: position.quantity_raw for position_id, position in everything.items()}
    assert portfolio.next_position_id == len(everything) + 1
    ids = [trade.trade_id for position in everything.values() for trade in position.trades]
    assert sorted(ids) == list(range(1, portfolio.next_trade_id))
    for position in everything.values():
        assert (position.position_id in portfolio.closed_positions) == (position.closed_at is not None)
        assert position.closed_at is None or position.quantity == 0
        assert (position.loan is not None) == (position.asset is AUSDC)
        if position.loan is not None:
            side, tracker = position.loan.collateral, position.loan.collateral_interest
            assert side is not None
            assert tracker is not None
            parts = map(Fraction, (side.quantity, tracker.last_accrued_interest, -tracker.interest_payments))
            assert sum(parts) == Fraction(tracker.last_token_amount) == position.quantity
        assert position.last_token_price is not None
        assert math.isfinite(position.last_token_price)
    assert say_the_same(books, check_books(books))
