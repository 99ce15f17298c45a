"""The JSON of state files, and the one judgement on what are books.

Three ways over the same tables of fields: *decode* reads parsed JSON, *check* judges records (what a
syncer returned), *encode* writes JSON of what has been judged. Books that pass :func:`check_books`
can be saved, and load to equal books. What a save normalises is listed in
``docs/state-files.md``.

Source: the state files of trade-executor (datetimes as POSIX seconds, decimals as text, enums by
value, log index as number or hex text).
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import math
import operator
import os
import pickle
import re
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from harness.books.records import (
    Accounting,
    AssetIdentifier,
    AssetInterestData,
    BalanceEventRef,
    BalanceUpdate,
    BalanceUpdateCause,
    BalanceUpdatePositionType,
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
)
from harness.errors import BooksError, OutputError, nearest

MAX_FILE_BYTES = 256 * 1024 * 1024
"""A state file that is larger is refused unread."""
_DRAFT = ".draft"
"""How the name ends under which a file is written before it takes its place."""
_DRAFT_SECONDS = 3600
_PARSER_DEPTH = 500
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKETS = re.compile(r"[\[{]+|[\]}]+")
MAX_DEPTH = 64
"""How deep a value that is not ours (an unknown key, ``other_data``) may nest."""
MAX_DECIMAL_DIGITS = 2_000
"""Digits, and size of the exponent, of a decimal: the exact text of any double fits."""

_MAX_UNDERLYING = 4
_MAX_INT = 2**63 - 1
_MAX_FOREIGN_BITS = 8_192
_EPOCH = datetime(1970, 1, 1)
_END_OF_TIME = 2**33
"""Up to here (the year 2242) a double tells microseconds apart; above it, seconds are really milliseconds."""
_DECIMAL = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,5})?")
_ID = re.compile(r"0|[1-9][0-9]{0,18}")
_HEX = re.compile(r"0[xX][0-9a-fA-F]{1,16}")


class _Wrong(Exception):
    """Something is no books; ``steps`` is the way to it, innermost first."""

    def __init__(self, message: str, *steps: str) -> None:
        super().__init__(message)
        self.message = message
        self.steps = list(steps)

    def under(self, step: str) -> _Wrong:
        self.steps.append(step)
        return self

    def error(self) -> BooksError:
        return BooksError("".join(reversed(self.steps)).removeprefix("."), self.message)


class _RepeatedKey(dict[str, Any]):
    """A JSON object that says a key twice; whoever meets it knows where it stands."""

    key = ""


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _found(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() > 256:
            return "a number of more than 256 bits"
        case str() | int() | float() | Decimal() | bytes():
            return _short(ascii(value))
        case dict():
            return "an object"
        case list() | tuple():
            return "a list"
        case datetime():
            return f"{value} ({'naive' if value.tzinfo is None else value.tzinfo})"
        case _:
            return f"a value of type {type(value).__name__}"


def _expected(what: str, value: object) -> _Wrong:
    return _Wrong(f"found {_found(value)}, expected {what}")


def _at_key(key: object) -> str:
    return f"[{_short(ascii(str(key)))}]"


# ---------------------------------------------------------------- kinds of values


class _Kind:
    """One kind of value: how it is read from JSON, judged in memory, and written."""

    what = "a value"

    def decode(self, value: Any) -> Any:
        """Turn parsed JSON into the value in memory."""
        return self.check(value)

    def check(self, value: Any) -> Any:
        """Judge a value in memory; give it back as records have it, sharing nothing that can change."""
        raise NotImplementedError  # pragma: no cover

    def encode(self, value: Any) -> Any:
        """Turn a value that has been judged into JSON."""
        return value

    def copy(self, value: Any) -> Any:
        """Copy a value that has been judged."""
        return value


class _Int(_Kind):
    what = "a whole number from 0"

    def check(self, value: Any) -> int:
        if type(value) is not int:
            if not isinstance(value, int) or isinstance(value, bool):
                raise _expected(self.what, value)
            value = int(value)
        if not 0 <= value <= _MAX_INT:
            raise _expected(self.what, value)
        return cast(int, value)


class _Decimals(_Int):
    what = "a whole number from 0 to 255"

    def check(self, value: Any) -> int:
        number = super().check(value)
        if number > 255:
            raise _expected(self.what, value)
        return number


class _LogIndex(_Int):
    what = "a whole number from 0, or hex text"

    def decode(self, value: Any) -> int:
        # Which of the two an old file has depends on the node that it was synced from.
        if type(value) is str and _HEX.fullmatch(value):
            return int(value, 16)
        return self.check(value)


class _Float(_Kind):
    what = "a finite number"

    def check(self, value: Any) -> float:
        if type(value) is not float:
            value = self._other(value)
        if not math.isfinite(value):
            raise _expected(self.what, value)
        return cast(float, value)

    def _other(self, value: Any) -> float:
        if isinstance(value, float):
            return float(value)
        if isinstance(value, int) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                if float(value) == value:
                    return float(value)
        raise _expected(self.what, value)


class _Text(_Kind):
    what = "text"

    def check(self, value: Any) -> str:
        if type(value) is not str:
            if not isinstance(value, str):
                raise _expected(self.what, value)
            value = str.__str__(value)
        if not value.isascii():
            _refuse_surrogates(value)
        return cast(str, value)


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Wrong(f"found {_found(text)}, which has half a surrogate pair and is no text") from error


class _Word(_Text):
    what = "text that is not empty"

    def check(self, value: Any) -> str:
        text = super().check(value)
        if not text:
            raise _expected(self.what, value)
        return text


class _Time(_Kind):
    what = "a time in POSIX seconds, from 1970 to 2242"

    def decode(self, value: Any) -> datetime:
        if type(value) is int:
            if 0 <= value < _END_OF_TIME:
                return _EPOCH + timedelta(seconds=value)
        elif type(value) is float and 0 <= value < _END_OF_TIME:
            return _EPOCH + timedelta(microseconds=round(Fraction(value) * 1_000_000))
        raise _expected(self.what, value)

    def check(self, value: Any) -> datetime:
        if not isinstance(value, datetime) or value.tzinfo is not None:
            raise _expected("a naive UTC datetime", value)
        if type(value) is not datetime or value.fold:
            parts = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
            value = datetime(*parts)
        if not 0 <= (value - _EPOCH).total_seconds() < _END_OF_TIME:
            raise _expected("a time from 1970 to 2242", value)
        return cast(datetime, value)

    def encode(self, value: Any) -> int | float:
        passed: timedelta = value - _EPOCH
        return passed / timedelta(seconds=1) if passed.microseconds else passed // timedelta(seconds=1)


class _Decimal(_Kind):
    what = "a decimal number as text"

    def decode(self, value: Any) -> Decimal:
        if type(value) is not str or not _DECIMAL.fullmatch(value):
            raise _expected(self.what, value)
        return self.check(Decimal(value))

    def check(self, value: Any) -> Decimal:
        if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 512:
            return Decimal(int(value))
        if type(value) is not Decimal:
            raise _expected("a Decimal", value)
        parts = value.as_tuple()
        if not isinstance(parts.exponent, int):
            raise _expected("a finite number", value)
        if len(parts.digits) > MAX_DECIMAL_DIGITS or abs(parts.exponent) > MAX_DECIMAL_DIGITS:
            raise _Wrong(f"found {_found(value)}, expected at most {MAX_DECIMAL_DIGITS} digits and exponent")
        return value

    def encode(self, value: Any) -> str:
        return str(value)


class _ShareCount(_Float):
    """A float; exact text in some files, which stays a Decimal."""

    what = "a finite number, or a decimal number as text"

    def decode(self, value: Any) -> float | Decimal:
        return _DECIMAL_KIND.decode(value) if type(value) is str else super().check(value)

    def check(self, value: Any) -> float | Decimal:  # type: ignore[override]
        return _DECIMAL_KIND.check(value) if type(value) is Decimal else super().check(value)

    def encode(self, value: Any) -> float | str:
        return str(value) if type(value) is Decimal else cast(float, value)


class _Enum(_Kind):
    def __init__(self, members: type[enum.StrEnum]) -> None:
        self.members = members
        self.what = f"one of {', '.join(members)}"

    def check(self, value: Any) -> enum.StrEnum:
        try:
            if isinstance(value, str):
                return self.members(value)
        except ValueError:
            close = nearest(value, self.members)
            hint = f"; did you mean '{close}'?" if close else ""
            raise _Wrong(f"found {_found(value)}, expected {self.what}{hint}") from None
        raise _expected(self.what, value)

    def encode(self, value: Any) -> str:
        return cast(enum.StrEnum, value).value


class _Json(_Kind):
    """Somebody else's JSON: kept as it is, but it must be JSON."""

    what = "JSON"

    def check(self, value: Any) -> Any:
        return _copy_json(value, 0)

    def copy(self, value: Any) -> Any:
        # What is copied was checked when it came in, so this needs no second look, and pickle copies at C's speed.
        return pickle.loads(pickle.dumps(value, -1)) if isinstance(value, (dict, list)) else value  # noqa: S301


class _JsonObject(_Json):
    what = "an object"

    def check(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise _expected(self.what, value)
        return _copy_json(value, 0)


class _PartialRecord(_JsonObject):
    """An object that stays JSON, yet those fields in it that we know have their types."""

    def __init__(self, fields: dict[str, _Kind]) -> None:
        self.fields = fields

    def check(self, value: Any) -> Any:
        for name, kind in self.fields.items():
            if isinstance(value, dict) and value.get(name) is not None:
                try:
                    kind.decode(value[name])
                except _Wrong as wrong:
                    raise wrong.under(f".{name}") from wrong.__cause__
        return super().check(value)


def _copy_json(value: Any, depth: int) -> Any:
    """Copy what is JSON; refuse what JSON cannot say, or would say as something else."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str or isinstance(value, str):
        return _TEXT.check(value)
    if isinstance(value, int):
        if value.bit_length() > _MAX_FOREIGN_BITS:
            raise _Wrong("found a number that is too long to be one")
        return int(value)
    if isinstance(value, float):
        return _FLOAT.check(value)
    if depth >= MAX_DEPTH:
        raise _Wrong(f"is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        return _copy_json_object(value, depth + 1)
    if isinstance(value, (list, tuple)):
        items = []
        for index, item in enumerate(value):
            try:
                items.append(_copy_json(item, depth + 1))
            except _Wrong as wrong:
                raise wrong.under(f"[{index}]") from wrong.__cause__
        return items
    raise _expected("what JSON can say", value)


def _copy_json_object(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    _refuse_repeated(value)
    copied = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise _Wrong(f"has the key {_found(key)}, expected text: JSON has no other keys")
        try:
            copied[_TEXT.check(key)] = _copy_json(item, depth)
        except _Wrong as wrong:
            raise wrong.under(_at_key(key)) from wrong.__cause__
    return copied


def _refuse_repeated(value: dict[Any, Any]) -> None:
    if isinstance(value, _RepeatedKey):
        raise _Wrong("stands twice in one object", _at_key(value.key))


class _List(_Kind):
    what = "a list"

    def __init__(self, item: _Kind) -> None:
        self.item = item

    def decode(self, value: Any) -> list[Any]:
        return self._each(self.item.decode, value)

    def check(self, value: Any) -> list[Any]:
        return self._each(self.item.check, value)

    def encode(self, value: Any) -> list[Any]:
        encode = self.item.encode
        return [encode(item) for item in value]

    def copy(self, value: Any) -> list[Any]:
        return [self.item.copy(item) for item in value]

    def _each(self, read: Callable[[Any], Any], value: Any) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            raise _expected(self.what, value)
        items = []
        try:
            for item in value:
                items.append(read(item))
        except _Wrong as wrong:
            raise wrong.under(f"[{len(items)}]") from wrong.__cause__
        return items


class _Map(_Kind):
    """An object whose keys are data. ``own`` names the item's field that repeats the key, ``agrees`` compares them."""

    what = "an object"

    def __init__(
        self, item: _Kind, *, by_id: bool, own: str = "", agrees: Callable[[Any, Any], bool] = operator.eq
    ) -> None:
        self.item = item
        self.by_id = by_id
        self.own = own
        self.agrees = agrees

    def decode(self, value: Any) -> dict[Any, Any]:
        return self._each(value, self._decode_key, self.item.decode)

    def check(self, value: Any) -> dict[Any, Any]:
        return self._each(value, self._check_key, self.item.check)

    def encode(self, value: Any) -> dict[str, Any]:
        encode = self.item.encode
        return {str(key): encode(item) for key, item in value.items()}

    def copy(self, value: Any) -> dict[Any, Any]:
        copy = self.item.copy
        return {key: copy(item) for key, item in value.items()}

    def _decode_key(self, key: Any) -> int | str:
        if not self.by_id:
            return _WORD.check(key)
        if type(key) is not str or not _ID.fullmatch(key):
            raise _Wrong("is no key that is a whole number from 0")
        return _INT.check(int(key))

    def _check_key(self, key: Any) -> int | str:
        if isinstance(key, AssetIdentifier):
            key = key.identifier  # a syncer may key "per asset" by the asset itself
        try:
            return _INT.check(key) if self.by_id else _WORD.check(key)
        except _Wrong as wrong:
            raise _Wrong(f"has a key that is none of books: {wrong.message}") from wrong

    def _each(self, value: Any, read_key: Callable[[Any], Any], read: Callable[[Any], Any]) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise _expected(self.what, value)
        _refuse_repeated(value)
        items: dict[Any, Any] = {}
        for key, item in value.items():
            found = self._under(key, read, item)
            known = self._under(key, read_key, key)
            if self.own and not self.agrees(known, own := getattr(found, self.own)):
                shown = getattr(own, "identifier", own)
                message = f"found {shown}, expected that of the key that it stands under"
                raise _Wrong(message, f".{self.own}", _at_key(key))
            items[known] = found
        return items

    @staticmethod
    def _under(key: Any, read: Callable[[Any], Any], item: Any) -> Any:
        try:
            return read(item)
        except _Wrong as wrong:
            raise wrong.under(_at_key(key)) from wrong.__cause__


class _Rate(_Float):
    """A yearly rate; some files have a map of rates by asset in its place, which stays a map."""

    what = "a finite number, or an object of them"

    def check(self, value: Any) -> Any:
        return _RATES.check(value) if isinstance(value, dict) else super().check(value)

    def copy(self, value: Any) -> Any:
        return dict(value) if isinstance(value, dict) else value


class _DecimalText(_Decimal):
    """A decimal that stays text in memory, for fields that are never compared."""

    def decode(self, value: Any) -> str:  # type: ignore[override]
        super().decode(value)
        return cast(str, value)

    def check(self, value: Any) -> Any:
        return self.decode(value) if type(value) is str else str(super().check(value))


class _PositionEntry(_PartialRecord):
    """An interest entry's position: an object with an id; the id alone passes in memory."""

    def decode(self, value: Any) -> Any:
        return super().check(value)

    def check(self, value: Any) -> Any:
        return {"position_id": _INT.check(value)} if isinstance(value, int) else super().check(value)


# ---------------------------------------------------------------- records


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """What a file may do with a field: say null, leave it out; and what a save does with null."""

    kind: _Kind
    null: bool = False
    missing: bool = False
    left_out: bool = False


_FOREIGN = None
"""A key of production files that is none of ours: only its place is known, so that a save keeps it there."""


def _must(kind: _Kind) -> _Field:
    return _Field(kind)


def _null(kind: _Kind) -> _Field:
    return _Field(kind, null=True)


def _lax(kind: _Kind) -> _Field:
    """May be missing, which means null; saved as null."""
    return _Field(kind, null=True, missing=True)


def _spare(kind: _Kind) -> _Field:
    """May be missing, which means null; left out of a save when null."""
    return _Field(kind, null=True, missing=True, left_out=True)


class _Record(_Kind):
    """One record: its fields by name, in the order of production's files."""

    def __init__(self, cls: type[Any], table: Mapping[str, _Field | None]) -> None:
        self.cls = cls
        self.what = f"an object ({cls.__name__})"
        self.order = tuple(table)
        names = [field.name for field in dataclasses.fields(cls) if field.name != "unknown_keys"]
        self.plan: list[tuple[str, _Field]] = []
        for name in names:
            field = table[name]
            assert field is not None
            self.plan.append((name, field))
        self.names = frozenset(names)
        self.written = [(name, field) for name, field in table.items() if field is not None]
        self.values: Callable[[Any], tuple[Any, ...]] = operator.attrgetter(*names, "unknown_keys")
        self.deep = [
            (index, field.kind)
            for index, (_, field) in enumerate(self.plan)
            if isinstance(field.kind, (_Record, _List, _Map, _Json, _Rate))
        ]
        assert self.names == {name for name, _ in self.written}, cls

    def decode(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise _expected(self.what, value)
        _refuse_repeated(value)
        values: list[Any] = []
        name = ""
        try:
            for name, field in self.plan:
                if name not in value:
                    self._refuse_missing(name, field, value)
                    values.append(None)
                elif (found := value[name]) is None and field.null:
                    values.append(None)
                else:
                    values.append(field.kind.decode(found))
        except _Wrong as wrong:
            raise wrong.under(f".{name}") from wrong.__cause__
        others = {key: item for key, item in value.items() if key not in self.names}
        return self.cls(*values, _unknown(others))

    def _refuse_missing(self, name: str, field: _Field, value: dict[str, Any]) -> None:
        if field.missing:
            return
        close = nearest(name, (key for key in value if key not in self.names))
        hint = f"; {_short(ascii(close))} stands there, which we do not know" if close else ""
        raise _Wrong(f"is missing, expected {field.kind.what}{hint}")

    def _read(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, self.cls):
            raise _expected(f"the record {self.cls.__name__}", value)
        try:
            return self.values(value)
        except AttributeError as error:
            raise _Wrong(f"is a {self.cls.__name__} without its field {error.name!r}") from error

    def check(self, value: Any) -> Any:
        *found, unknown = self._read(value)
        values: list[Any] = []
        try:
            for (_, field), item in zip(self.plan, found, strict=True):
                values.append(None if item is None and field.null else field.kind.check(item))
        except _Wrong as wrong:
            raise wrong.under(f".{self.plan[len(values)][0]}") from wrong.__cause__
        return self.cls(*values, self._own_unknown(unknown))

    def encode(self, value: Any) -> dict[str, Any]:
        written: dict[str, Any] = {}
        for name, field in self.written:
            item = getattr(value, name)
            if item is not None:
                written[name] = field.kind.encode(item)
            elif not field.left_out:
                written[name] = None
        if not value.unknown_keys:
            return written
        written |= value.unknown_keys
        return {name: written[name] for name in self.order if name in written} | written

    def _own_unknown(self, unknown: Any) -> dict[str, Any]:
        if type(unknown) is dict and not unknown:
            return {}
        if not isinstance(unknown, dict):
            raise _expected("an object", unknown).under(".unknown_keys")
        for key in unknown:
            if key in self.names:
                raise _Wrong("is a known field and cannot be an unknown key", _at_key(key), ".unknown_keys")
        return _unknown(unknown, ".unknown_keys")

    def copy(self, value: Any) -> Any:
        if value is None:
            return None
        values = list(self.values(value))
        for index, kind in self.deep:
            if values[index] is not None:
                values[index] = kind.copy(values[index])
        values[-1] = _JSON.copy(values[-1]) if values[-1] else {}
        return self.cls(*values)


def _unknown(others: dict[Any, Any], step: str = "") -> dict[str, Any]:
    try:
        return _copy_json_object(others, 0) if others else {}
    except _Wrong as wrong:
        # In a file, the unknown key stands beside the fields that we know.
        raise (wrong.under(step) if step else wrong) from wrong.__cause__


class _AssetRecord(_Record):
    """Assets nest (what a rebase token wraps), but not without end; they never change, so copies share them."""

    def _bounded(self, read: Callable[[Any], Any], value: Any, inner: Callable[[Any], Any]) -> Any:
        depth, wrapped = 0, value
        while (wrapped := inner(wrapped)) is not None:
            depth += 1
            if depth > _MAX_UNDERLYING:
                raise _Wrong(f"wraps more than {_MAX_UNDERLYING} tokens", ".underlying")
        return read(value)

    def decode(self, value: Any) -> Any:
        inner = lambda item: item.get("underlying") if isinstance(item, dict) else None  # noqa: E731
        return self._bounded(super().decode, value, inner)

    def check(self, value: Any) -> Any:
        return self._bounded(super().check, value, lambda item: getattr(item, "underlying", None))

    def copy(self, value: Any) -> Any:
        return value


class _PortfolioRecord(_Record):
    """Production keeps two of the counters elsewhere: without them, they follow from the ids in use."""

    def decode(self, value: Any) -> Any:
        portfolio = super().decode(value)
        groups = (portfolio.open_positions, portfolio.frozen_positions, portfolio.closed_positions)
        if portfolio.next_position_id is None:
            portfolio.next_position_id = max((key for group in groups for key in group), default=0) + 1
        if portfolio.next_trade_id is None:
            positions = (position for group in groups for position in group.values())
            ids = (trade.trade_id for position in positions for trade in position.trades)
            portfolio.next_trade_id = max(ids, default=0) + 1
        return portfolio


def _is_reserve_key(key: str, asset: AssetIdentifier) -> bool:
    # Old files have the address alone.
    return key.lower() in (asset.identifier, asset.address.lower())


_INT, _FLOAT, _TEXT, _WORD, _TIME, _JSON = _Int(), _Float(), _Text(), _Word(), _Time(), _Json()
_DECIMAL_KIND = _Decimal()
_RATES = _Map(_FLOAT, by_id=False)
_CAUSE, _POSITION_TYPE = _Enum(BalanceUpdateCause), _Enum(BalanceUpdatePositionType)

_ASSET_TABLE: dict[str, _Field | None] = {
    "chain_id": _must(_INT),
    "address": _must(_WORD),
    "token_symbol": _must(_TEXT),
    "decimals": _must(_Decimals()),
    "internal_id": _FOREIGN,
    "info_url": _FOREIGN,
    "underlying": _lax(_INT),
    "type": _lax(_TEXT),
    "liquidation_threshold": _FOREIGN,
    "other_data": _FOREIGN,
}
_ASSET = _AssetRecord(AssetIdentifier, _ASSET_TABLE)
# A token wraps a token: the record is its own field.
_ASSET.plan = [(name, _lax(_ASSET) if name == "underlying" else field) for name, field in _ASSET.plan]
_ASSET.written = [(name, _lax(_ASSET) if name == "underlying" else field) for name, field in _ASSET.written]

_UPDATE = _Record(
    BalanceUpdate,
    {
        "balance_update_id": _must(_INT),
        "cause": _must(_CAUSE),
        "position_type": _must(_POSITION_TYPE),
        "asset": _must(_ASSET),
        "block_mined_at": _must(_TIME),
        "strategy_cycle_included_at": _null(_TIME),
        "chain_id": _must(_INT),
        "quantity": _must(_DECIMAL_KIND),
        "old_balance": _must(_DECIMAL_KIND),
        "usd_value": _must(_FLOAT),
        "created_at": _lax(_TIME),
        "previous_update_at": _lax(_TIME),
        "owner_address": _null(_TEXT),
        "tx_hash": _null(_TEXT),
        "log_index": _null(_LogIndex()),
        "position_id": _null(_INT),
        "notes": _lax(_TEXT),
        "block_number": _null(_INT),
        "other_data": _lax(_JsonObject()),
    },
)
_UPDATES = _Map(_UPDATE, by_id=True, own="balance_update_id")

_REF = _Record(
    BalanceEventRef,
    {
        "balance_event_id": _must(_INT),
        "strategy_cycle_included_at": _null(_TIME),
        "cause": _must(_CAUSE),
        "position_type": _must(_POSITION_TYPE),
        "position_id": _null(_INT),
        "usd_value": _null(_FLOAT),
    },
)

_SYNC = _Record(
    Sync,
    {
        "deployment": _must(
            _Record(
                Deployment,
                {
                    "chain_id": _null(_INT),
                    "address": _null(_WORD),
                    "block_number": _null(_INT),
                    "tx_hash": _null(_TEXT),
                    "block_mined_at": _null(_TIME),
                    "vault_token_name": _lax(_TEXT),
                    "vault_token_symbol": _lax(_TEXT),
                    "initialised_at": _null(_TIME),
                },
            )
        ),
        "treasury": _must(
            _Record(
                Treasury,
                {
                    "last_updated_at": _null(_TIME),
                    "last_cycle_at": _null(_TIME),
                    "last_block_scanned": _null(_INT),
                    "balance_update_refs": _must(_List(_REF)),
                    "pending_deposits": _spare(_FLOAT),
                    "pending_redemptions": _spare(_FLOAT),
                    "share_count": _spare(_ShareCount()),
                    "last_lagoon_settlement_block_scanned": _spare(_INT),
                },
            )
        ),
        "accounting": _must(
            _Record(
                Accounting,
                {
                    "last_updated_at": _null(_TIME),
                    "last_block_scanned": _null(_INT),
                    "balance_update_refs": _must(_List(_REF)),
                },
            )
        ),
        "interest": _must(
            _Record(
                InterestSync,
                {
                    "last_sync_at": _null(_TIME),
                    "last_sync_block": _null(_INT),
                    "last_distribution": _null(
                        _Record(
                            InterestDistributionOperation,
                            {
                                "start": _must(_TIME),
                                "end": _must(_TIME),
                                "assets": _must(_List(_ASSET)),
                                "asset_interest_data": _must(
                                    _Map(
                                        _Record(
                                            AssetInterestData,
                                            {"total": _must(_DECIMAL_KIND), "effective_rate": _must(_FLOAT)},
                                        ),
                                        by_id=False,
                                    )
                                ),
                                "entries": _must(
                                    _List(
                                        _Record(
                                            InterestDistributionEntry,
                                            {
                                                "side": _null(_TEXT),
                                                "position": _null(_PositionEntry({"position_id": _INT})),
                                                "tracker": _null(
                                                    _PartialRecord(
                                                        {
                                                            "asset": _ASSET,
                                                            "quantity": _DECIMAL_KIND,
                                                            "created_at": _TIME,
                                                        }
                                                    )
                                                ),
                                                "weight": _null(_DecimalText()),
                                                "price": _null(_FLOAT),
                                            },
                                        )
                                    )
                                ),
                                "effective_rate": _null(_Rate()),
                            },
                        )
                    ),
                },
            )
        ),
    },
)

_RESERVE = _Record(
    ReservePosition,
    {
        "asset": _must(_ASSET),
        "quantity": _must(_DECIMAL_KIND),
        "last_sync_at": _null(_TIME),
        "reserve_token_price": _null(_FLOAT),
        "last_pricing_at": _null(_TIME),
        "initial_deposit": _FOREIGN,
        "initial_deposit_reserve_token_price": _FOREIGN,
        "balance_updates": _must(_UPDATES),
    },
)

_LOAN_SIDE = _Record(
    LoanSide,
    {
        "asset": _must(_ASSET),
        "quantity": _must(_DECIMAL_KIND),
        "last_usd_price": _FOREIGN,
        "last_pricing_at": _FOREIGN,
        "created_at": _null(_TIME),
    },
)
_TRACKER = _Record(
    InterestTracker,
    {
        "opening_amount": _must(_DECIMAL_KIND),
        "last_token_amount": _must(_DECIMAL_KIND),
        "last_updated_at": _null(_TIME),
        "last_event_at": _null(_TIME),
        "last_accrued_interest": _must(_DECIMAL_KIND),
        "last_updated_block_number": _null(_INT),
        "interest_payments": _must(_DECIMAL_KIND),
    },
)
_POSITION = _Record(
    Position,
    {
        "position_id": _must(_INT),
        "opened_at": _null(_TIME),
        "closed_at": _null(_TIME),
        "frozen_at": _null(_TIME),
        "balance_updates": _must(_UPDATES),
        "reserve_currency": _null(_ASSET),
        "last_token_price": _null(_FLOAT),
        "last_pricing_at": _null(_TIME),
        "pair": _must(
            _Record(TradingPair, {"base": _must(_ASSET), "quote": _must(_ASSET), "kind": _null(_TEXT)}),
        ),
        "loan": _null(
            _Record(
                Loan,
                {
                    "collateral": _null(_LOAN_SIDE),
                    "collateral_interest": _null(_TRACKER),
                    "borrowed": _null(_LOAN_SIDE),
                    "borrowed_interest": _null(_TRACKER),
                },
            )
        ),
        "trades": _must(
            _List(
                _Record(
                    Trade,
                    {
                        "trade_id": _must(_INT),
                        "executed_at": _null(_TIME),
                        "executed_quantity": _null(_DECIMAL_KIND),
                        "executed_reserve": _null(_DECIMAL_KIND),
                        "failed_at": _null(_TIME),
                        "block_number": _spare(_INT),
                        "tx_hash": _spare(_TEXT),
                        "borrowed_quantity": _spare(_DECIMAL_KIND),
                    },
                )
            )
        ),
    },
)
_POSITIONS = _Map(_POSITION, by_id=True, own="position_id")


_PORTFOLIO = _PortfolioRecord(
    Portfolio,
    {
        "next_balance_update_id": _must(_INT),
        "next_position_id": _Field(_INT, missing=True),
        "next_trade_id": _Field(_INT, missing=True),
        "reserves": _must(_Map(_RESERVE, by_id=False, own="asset", agrees=_is_reserve_key)),
        "open_positions": _must(_POSITIONS),
        "closed_positions": _must(_POSITIONS),
        "frozen_positions": _must(_POSITIONS),
    },
)


class _BooksRecord(_Record):
    """The file as a whole; ``block_hashes`` is ours, and absent in files of others."""

    def decode(self, value: Any) -> Any:
        books = super().decode(value)
        if books.block_hashes is None:
            books.block_hashes = {}
        return books

    def encode(self, value: Any) -> dict[str, Any]:
        written = super().encode(value)
        if not written["block_hashes"]:
            del written["block_hashes"]
        return written


_BOOKS = _BooksRecord(
    Books,
    {
        "sync": _must(_SYNC),
        "portfolio": _must(_PORTFOLIO),
        "block_hashes": _Field(_Map(_JSON, by_id=True), missing=True),
    },
)


# ---------------------------------------------------------------- the doors


def check_books(value: object) -> Books:
    """Judge what a syncer returned: books of our own that say the same, or an error with the field's path.

    Tuples pass for lists, whole numbers for floats and decimals, an enum's text for the enum; all
    are turned into what the records say. The result shares nothing with ``value`` that can change.

    Raises:
        BooksError: If it is no books: another type, a float for a decimal, a time with a zone, ...
    """
    return cast(Books, _judged(_BOOKS.check, value))


def copy_books(books: Books) -> Books:
    """Copy books so deeply that no change in one is seen in the other; assets, which never change, are shared."""
    return cast(Books, _BOOKS.copy(books))


def books_to_json(books: Books, *, checked: bool = False) -> dict[str, Any]:
    """Turn books into what :mod:`json` writes, in the shape of a state file.

    Args:
        books: The books.
        checked: Whether they are known to be books (:func:`check_books` and :func:`load_books` give such), so
            that they need not be judged again, which takes as long as writing them.

    Raises:
        BooksError: If a field has a type that the record does not.
    """
    return _BOOKS.encode(books if checked else check_books(books))


def books_from_json(value: object) -> Books:
    """Turn the parsed JSON of a state file into books.

    Raises:
        BooksError: If a field is missing or has another type; ``path`` names it.
    """
    return cast(Books, _judged(_BOOKS.decode, value))


def _judged(read: Callable[[Any], Any], value: object) -> Any:
    try:
        return read(value)
    except _Wrong as wrong:
        raise wrong.error() from wrong.__cause__


def load_books(source: str | bytes | Mapping[str, Any]) -> Books:
    """Read a state file's text (or its parsed JSON).

    Raises:
        BooksError: If it is no JSON, or no books; ``path`` names the field, or is empty.
    """
    if isinstance(source, Mapping):
        return books_from_json(source if isinstance(source, dict) else dict(source))
    try:
        text = source.decode() if isinstance(source, bytes) else source
        _refuse_abyss(text)
        parsed = json.loads(text, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise BooksError("", f"is no UTF-8 text: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise BooksError("", f"is no JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise BooksError("", "is nested too deeply to be books") from error
    except ValueError as error:  # A number of thousands of digits.
        raise BooksError("", f"is no JSON that can be read: {error}") from error
    return books_from_json(parsed)


def _refuse_abyss(text: str) -> None:
    """Refuse nesting far beyond any books' before the parser, which recurses: some library may have lifted the limit
    that would stop it short of a crash.
    """
    depth = 0
    for brackets in _BRACKETS.findall(_STRINGS.sub("", text)):
        depth += len(brackets) if brackets[0] in "[{" else -len(brackets)
        if depth > _PARSER_DEPTH:
            raise BooksError("", "is nested too deeply to be books")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    repeated = _RepeatedKey(result)
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            repeated.key = key
            break
        seen.add(key)
    return repeated


def dump_books(books: Books, *, indent: int | None = 1) -> str:
    """Write books as a state file's text: the same books give the same text.

    ``indent`` 1 is how production writes them; None is several times faster.

    Raises:
        BooksError: If a field has a type that the record does not.
    """
    return json.dumps(books_to_json(books), indent=indent, allow_nan=False)


def read_state_file(path: str | os.PathLike[str]) -> Books:
    """Read books from a file.

    Raises:
        BooksError: If it cannot be read, is too large, or is no books. The file's name is the caller's to add.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BooksError("", f"cannot be read: {reason}") from error
    if len(content) > MAX_FILE_BYTES:
        raise BooksError("", f"is larger than {MAX_FILE_BYTES} bytes")
    return load_books(content)


def save_books(path: str | os.PathLike[str], books: Books) -> None:
    """Replace a state file as a whole: whatever happens on the way, the old or the new one is there.

    The text is written to a draft beside it, a hidden file of another suffix, and is on the disk before it takes the
    file's place. A process that is killed meanwhile leaves its draft behind; a save removes those that nobody has
    written to for an hour.

    Raises:
        BooksError: If these are no books; the file stays as it was.
        OutputError: If it cannot be written; the file stays as it was.
    """
    text = dump_books(books)
    try:
        target = Path(os.path.realpath(path))
        draft = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_native_id()}{_DRAFT}")
        _replace(target, draft, text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutputError(f"{os.fspath(path)!r}: cannot be written: {reason}") from error


def _replace(target: Path, draft: Path, text: str) -> None:
    try:
        draft.unlink(missing_ok=True)
        with draft.open("x", encoding="utf-8", newline="\n") as file:
            if target.exists():
                os.fchmod(file.fileno(), target.stat().st_mode & 0o7777)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    with contextlib.suppress(OSError):
        _sync_folder(target.parent)
    _remove_drafts(target)


def _sync_folder(folder: Path) -> None:
    """Have the folder on the disk, too: where that is not possible, the file is whole all the same."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_drafts(target: Path) -> None:
    """Remove what killed processes left, by the folder's own clock: who still writes a draft touches it."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9]+-[0-9]+{re.escape(_DRAFT)}")
    with contextlib.suppress(OSError):
        now = target.stat().st_mtime
        for left in target.parent.iterdir():
            if name.fullmatch(left.name) and now - left.stat().st_mtime > _DRAFT_SECONDS:
                left.unlink()
