"""What an author expects, held against books and chain.

The same function judges the ledger's books (a contradiction there is the author's mistake) and the syncer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from harness.books.records import AssetIdentifier, BalanceUpdate, Books, LoanSide, Position, ReservePosition, Trade
from harness.errors import Location
from harness.ledger.facts import Ledger, Setting
from harness.reconcile.compare import close, entries, plain_hash
from harness.scenario.model import (
    Actor,
    Expectation,
    ExpectedBalance,
    ExpectedChain,
    ExpectedField,
    ExpectedRecord,
    Quantity,
)
from harness.units import Token, exact, format_units


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One thing that an ``expect`` names and that is otherwise."""

    location: Location
    path: str
    """E.g. ``updates[0].quantity``."""
    expected: str
    actual: str
    asset: str | None = None
    gap_raw: int | None = None
    update: BalanceUpdate | None = None
    """The update that it is about."""


def judge_books(
    expectation: Expectation, books: Books, added: Sequence[BalanceUpdate], setting: Setting
) -> tuple[Mismatch, ...]:
    """Hold an ``expect`` against books.

    Args:
        expectation: What it says; ``chain`` is left to :func:`judge_chain`.
        books: As they are.
        added: The updates that the step added, see :func:`added_updates`.
        setting: To resolve symbols and actors.
    """
    return tuple(_BooksJudge(books, added, setting).judge(expectation, ""))


def judge_chain(
    expected: ExpectedChain, ledger: Ledger, share_price: Fraction | None, block: int
) -> tuple[Mismatch, ...]:
    """Hold the ``chain:`` of an ``expect`` against the chain at a block."""
    return tuple(_chain_mismatches(expected, ledger, share_price, block))


def added_updates(before: Books, after: Books) -> tuple[BalanceUpdate, ...]:
    """List the updates that are in ``after`` only: from events in the order of their ids, then those without a
    transaction by position (the reserve first), since nothing orders them among themselves.
    """
    known = {entry.update.balance_update_id for entry in entries(before)}
    new = [entry.update for entry in entries(after) if entry.update.balance_update_id not in known]
    from_events = [update for update in new if update.tx_hash is not None]
    from_balances = [update for update in new if update.tx_hash is None]
    from_balances.sort(key=lambda update: (update.position_id or 0, update.balance_update_id))
    return (*from_events, *from_balances)


class _BooksJudge:
    def __init__(self, books: Books, added: Sequence[BalanceUpdate], setting: Setting) -> None:
        self._books = books
        self._added = added
        self._setting = setting

    def judge(self, expectation: Expectation, prefix: str, *, complete: bool = True) -> Iterator[Mismatch]:
        if expectation.updates is not None:
            yield from self._records(
                expectation.location, f"{prefix}updates", expectation.updates, self._added, complete=complete
            )
        yield from self._balances(expectation.balances)
        portfolio = self._books.portfolio
        if expectation.positions is not None:
            opened = {**portfolio.open_positions, **portfolio.frozen_positions}
            yield from self._positions(
                expectation, f"{prefix}positions", expectation.positions, opened, complete=complete, all_named=complete
            )
        if expectation.closed_positions is not None:
            yield from self._positions(
                expectation,
                f"{prefix}closed_positions",
                expectation.closed_positions,
                portfolio.closed_positions,
                complete=complete,
                all_named=False,
            )
        for name in ("deployment", "treasury", "accounting", "interest"):
            wanted: ExpectedRecord | None = getattr(expectation, name)
            if wanted is not None:
                yield from self._record(
                    wanted, getattr(self._books.sync, name), f"{prefix}{name}", None, complete=complete
                )
        if expectation.contains is not None:
            yield from self.judge(expectation.contains, f"{prefix}contains.", complete=False)

    def _balances(self, balances: Iterable[ExpectedBalance]) -> Iterator[Mismatch]:
        for balance in balances:
            asset = self._setting.assets[balance.token]
            holdings: list[ReservePosition | Position] = [
                *self._books.portfolio.reserves.values(),
                *self._books.portfolio.open_positions.values(),
                *self._books.portfolio.frozen_positions.values(),
            ]
            held = sum(
                (
                    holding.quantity if isinstance(holding, Position) else exact(holding.quantity)
                    for holding in holdings
                    if holding.asset == asset
                ),
                Fraction(0),
            )
            gap = held * 10**asset.decimals - balance.raw
            if gap:
                token = Token(symbol=balance.token, decimals=asset.decimals)
                yield Mismatch(
                    location=balance.location,
                    path=f"balances.{balance.token}",
                    expected=f"{token.format(balance.raw)} {token.symbol}",
                    actual=f"{_number(held)} {token.symbol}",
                    asset=token.symbol,
                    gap_raw=int(gap),
                )

    def _positions(
        self,
        expectation: Expectation,
        path: str,
        wanted: Mapping[int, ExpectedRecord],
        found: Mapping[int, Position],
        *,
        complete: bool,
        all_named: bool,
    ) -> Iterator[Mismatch]:
        for position_id, record in wanted.items():
            position = found.get(position_id)
            if position is None:
                yield Mismatch(
                    location=record.location, path=f"{path}.{position_id}", expected="a position", actual="none"
                )
            else:
                yield from self._record(record, position, f"{path}.{position_id}", position.asset, complete=complete)
        surplus = sorted(found.keys() - wanted.keys()) if all_named else []
        if surplus:
            yield Mismatch(
                location=expectation.location,
                path=path,
                expected=", ".join(map(str, wanted)) or "none",
                actual=", ".join(map(str, sorted(found))),
            )

    def _records(
        self,
        location: Location,
        path: str,
        wanted: Sequence[ExpectedRecord],
        found: Sequence[object],
        *,
        complete: bool,
    ) -> Iterator[Mismatch]:
        if not complete:
            yield from self._contained(path, wanted, found)
            return
        if len(wanted) != len(found):
            yield Mismatch(location=location, path=path, expected=_count(len(wanted)), actual=_listed(found))
        for index, (record, actual) in enumerate(zip(wanted, found, strict=False)):
            yield from self._record(record, actual, f"{path}[{index}]", _asset_of(actual), complete=True)

    def _contained(self, path: str, wanted: Sequence[ExpectedRecord], found: Sequence[object]) -> Iterator[Mismatch]:
        spare = list(found)
        for index, record in enumerate(wanted):
            for actual in spare:
                if not any(self._record(record, actual, path, _asset_of(actual), complete=True)):
                    spare = [other for other in spare if other is not actual]
                    break
            else:
                yield Mismatch(
                    location=record.location,
                    path=f"{path}[{index}]",
                    expected="one that fits",
                    actual=_listed(found),
                )

    def _record(
        self, wanted: ExpectedRecord, actual: object, path: str, asset: AssetIdentifier | None, *, complete: bool
    ) -> Iterator[Mismatch]:
        for field in wanted.fields:
            value = getattr(actual, field.name)
            yield from self._field(field, value, f"{path}.{field.name}", asset, actual, complete=complete)

    def _field(
        self,
        field: ExpectedField,
        value: object,
        path: str,
        asset: AssetIdentifier | None,
        record: object,
        *,
        complete: bool,
    ) -> Iterator[Mismatch]:
        wanted = field.value
        update = record if isinstance(record, BalanceUpdate) else None
        if isinstance(wanted, ExpectedRecord):
            if value is None:
                yield Mismatch(location=field.location, path=path, expected="present", actual="nothing", update=update)
            else:
                yield from self._record(wanted, value, path, _asset_of(value) or asset, complete=complete)
        elif isinstance(wanted, tuple):
            # A position's updates stand under their ids, in the order in which they were booked.
            found = (
                list(value.values())
                if isinstance(value, Mapping)
                else list(value)
                if isinstance(value, (list, tuple))
                else []
            )
            yield from self._records(field.location, path, wanted, found, complete=complete)
        elif isinstance(wanted, Mapping):
            yield from self._by_asset(field.location, path, wanted, value, complete=complete)
        elif not self._scalar_equal(field.name, wanted, value, asset):
            yield self._mismatch(field, value, path, asset, update)

    def _by_asset(
        self, location: Location, path: str, wanted: Mapping[str, ExpectedRecord], value: object, *, complete: bool
    ) -> Iterator[Mismatch]:
        found = {str(key).lower(): item for key, item in value.items()} if isinstance(value, Mapping) else {}
        for symbol, record in wanted.items():
            asset = self._setting.assets[symbol]
            actual = found.pop(asset.identifier, None)
            if actual is None:
                yield Mismatch(location=record.location, path=f"{path}.{symbol}", expected="present", actual="nothing")
            else:
                yield from self._record(record, actual, f"{path}.{symbol}", asset, complete=complete)
        if found and complete:
            yield Mismatch(location=location, path=path, expected=", ".join(wanted) or "none", actual=", ".join(found))

    def _scalar_equal(self, name: str, wanted: object, value: object, asset: AssetIdentifier | None) -> bool:
        if wanted is None or value is None:
            return wanted is value
        if isinstance(wanted, Actor):
            address = self._setting.vault if wanted.name == "vault" else self._setting.actors.get(wanted.name, "")
            return isinstance(value, str) and value.lower() == address.lower()
        if isinstance(wanted, Quantity):
            known = self._setting.assets.get(wanted.token)
            return (
                known is not None
                and isinstance(value, (Decimal, Fraction))
                and (asset is None or asset == known)
                and _fraction(value) * 10**known.decimals == wanted.raw
            )
        if isinstance(wanted, Fraction):
            if isinstance(value, float):
                return close(float(wanted), value)
            return isinstance(value, (Decimal, Fraction, int)) and Fraction(value) == wanted
        if isinstance(value, AssetIdentifier):
            return self._setting.symbol_of(value) == wanted
        if name == "tx_hash" and isinstance(wanted, str) and isinstance(value, str):
            return plain_hash(wanted) == plain_hash(value)
        return wanted == value

    def _mismatch(
        self,
        field: ExpectedField,
        value: object,
        path: str,
        asset: AssetIdentifier | None,
        update: BalanceUpdate | None,
    ) -> Mismatch:
        wanted = field.value
        gap_raw: int | None = None
        if isinstance(wanted, (Quantity, Fraction)) and isinstance(value, (Decimal, Fraction)) and asset is not None:
            raw = Fraction(wanted.raw) if isinstance(wanted, Quantity) else wanted * 10**asset.decimals
            gap_raw = int(_fraction(value) * 10**asset.decimals - raw)
        return Mismatch(
            location=field.location,
            path=path,
            expected=self._text(wanted),
            actual=self._text(value, asset),
            asset=None if asset is None else asset.token_symbol,
            gap_raw=gap_raw,
            update=update,
        )

    def _text(self, value: object, asset: AssetIdentifier | None = None) -> str:
        if value is None:
            return "nothing"
        if isinstance(value, Quantity):
            return f"{format_units(value.raw, self._setting.assets[value.token].decimals)} {value.token}"
        if isinstance(value, Actor):
            return value.name
        if isinstance(value, Fraction):
            return _number(value) + (f" {asset.token_symbol}" if asset is not None else "")
        if isinstance(value, datetime):
            return value.isoformat(sep=" ")
        if isinstance(value, Decimal):
            return format(value, "f") + (f" {asset.token_symbol}" if asset is not None else "")
        if isinstance(value, AssetIdentifier):
            return value.token_symbol
        if isinstance(value, str) and value.startswith("0x"):
            return self._setting.actor_of(value)
        return str(value)


def _chain_mismatches(
    expected: ExpectedChain, ledger: Ledger, share_price: Fraction | None, block: int
) -> Iterator[Mismatch]:
    setting = ledger.setting
    for balance in expected.balances:
        token = Token(symbol=balance.token, decimals=setting.assets[balance.token].decimals)
        actual = ledger.balance(balance.token, block)
        if actual != balance.raw:
            yield Mismatch(
                location=balance.location,
                path=f"chain.balances.{balance.token}",
                expected=f"{token.format(balance.raw)} {token.symbol}",
                actual=f"{token.format(actual)} {token.symbol}",
                asset=token.symbol,
                gap_raw=actual - balance.raw,
            )
    supply = Fraction(ledger.supply(block), 10**setting.share_decimals)
    if expected.share_count is not None and supply != expected.share_count:
        yield Mismatch(
            location=expected.location,
            path="chain.share_count",
            expected=_number(expected.share_count),
            actual=_number(supply),
        )
    if expected.share_price is not None:
        wanted = expected.share_price
        if share_price is None or abs(share_price - wanted) > abs(wanted) / 10**9:
            yield Mismatch(
                location=expected.location,
                path="chain.share_price",
                expected=_number(wanted),
                actual="no shares" if share_price is None else _number(share_price),
            )


def _asset_of(record: object) -> AssetIdentifier | None:
    if isinstance(record, (BalanceUpdate, Position, ReservePosition, LoanSide)):
        return record.asset
    return None


def _fraction(value: Decimal | Fraction) -> Fraction:
    """A stored quantity, or a position's, which is summed up and no Decimal."""
    return value if isinstance(value, Fraction) else exact(value)


def _number(value: Fraction) -> str:
    """A fraction as a decimal number if it is one, else cut after 18 decimals."""
    places = 36
    scaled = value * 10**places
    text = format_units(int(scaled), places).rstrip("0").rstrip(".")
    return text if scaled.denominator == 1 else f"about {text[: text.index('.') + 19] if '.' in text else text}"


def _count(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"


def _listed(found: Sequence[object]) -> str:
    """How many there are, and which."""
    shown = "; ".join(_brief(item) for item in found[:5])
    return f"{_count(len(found))}{': ' if shown else ''}{shown}{'; ...' if len(found) > 5 else ''}"


def _brief(item: object) -> str:
    if isinstance(item, BalanceUpdate):
        return f"{item.cause} {format(item.quantity, 'f')} {item.asset.token_symbol}"
    if isinstance(item, Trade):
        return f"trade {item.trade_id}"
    if is_dataclass(item):
        return ", ".join(str(getattr(item, field.name)) for field in fields(item)[:3])
    return str(item)
