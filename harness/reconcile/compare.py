"""Books against books: what the ledger says they must be, and what a syncer made of them.

Updates are matched one to one by where they come from, then every field of them is compared, then
everything else in the books. What only follows from a break that is already named (a balance that is
short by the deposit that is missing) is not named again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from math import isfinite
from operator import attrgetter
from typing import Any

from harness.books.records import (
    AssetIdentifier,
    BalanceEventRef,
    BalanceUpdate,
    BalanceUpdateCause,
    Books,
    InterestDistributionOperation,
    Loan,
    LoanSide,
    Position,
    ReservePosition,
    Trade,
)
from harness.errors import Location
from harness.ledger.facts import Ledger
from harness.reconcile.diff import Break, BreakKind
from harness.units import Token, exact, format_units

RELATIVE_TOLERANCE = Fraction(1, 10**9)
"""Floats (worth, rates) are equal when this close, relative to the expected one."""


Account = tuple[int | None, bool]
"""A holding (None: the reserve), and whether it is what its loan owes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A balance update and the holding that it stands in (None: the reserve)."""

    update: BalanceUpdate
    holder_id: int | None
    owes: bool = False
    """Whether it moves what a position's loan owes, and not what the position holds."""

    @property
    def account(self) -> Account:
        """What it moves."""
        return self.holder_id, self.owes

    @property
    def asset_key(self) -> tuple[int, str]:
        """Chain and address of the asset."""
        return self.update.asset.chain_id, self.update.asset.address.lower()

    @property
    def event_key(self) -> tuple[object, ...]:
        """What an update is matched by."""
        update = self.update
        if update.tx_hash is not None:
            return (
                "event",
                update.chain_id,
                plain_hash(update.tx_hash),
                update.log_index,
                self.asset_key,
                self.holder_id,
            )
        return "balance", update.cause, self.asset_key, self.holder_id, update.block_number


def plain_hash(text: str) -> str:
    """A transaction hash as 0x and lower-case hex digits: old books leave the 0x out."""
    digits = text.lower()
    return digits if digits.startswith("0x") else f"0x{digits}"


def entries(books: Books) -> list[Entry]:
    """Every balance update in the books, in the order of their ids."""
    found = [
        Entry(
            update=update,
            holder_id=holder_id,
            owes=isinstance(holding, Position) and not holding.asset.is_same(update.asset),
        )
        for holder_id, holding in holdings(books)
        for update in holding.balance_updates.values()
    ]
    return sorted(found, key=lambda entry: entry.update.balance_update_id)


def holdings(books: Books) -> list[tuple[int | None, ReservePosition | Position]]:
    """Everything that holds balance updates, with its position id (None: a reserve)."""
    return [
        *((None, reserve) for reserve in books.portfolio.reserves.values()),
        *((position.position_id, position) for position in every_position(books)),
    ]


def every_position(books: Books) -> list[Position]:
    """Open, frozen and closed positions."""
    portfolio = books.portfolio
    return [
        *portfolio.open_positions.values(),
        *portfolio.frozen_positions.values(),
        *portfolio.closed_positions.values(),
    ]


def compare_books(expected: Books, actual: Books, ledger: Ledger, found_at: Location) -> tuple[Break, ...]:
    """Find every difference between the books that must be and those that are.

    Args:
        expected: By the ledger.
        actual: By the syncer; already checked to be books.
        ledger: To say where an update comes from and what a gap is worth.
        found_at: The step at which they are compared.
    """
    return tuple(_Comparison(expected, actual, ledger, found_at).run())


class _Comparison:
    def __init__(self, expected: Books, actual: Books, ledger: Ledger, found_at: Location) -> None:
        self._expected = expected
        self._actual = actual
        self._ledger = ledger
        self._found_at = found_at
        self._breaks: list[Break] = []
        self._explained: dict[Account, int] = defaultdict(int)
        """Gap in each holding's quantity that breaks of its updates explain, base units."""
        self._explained_interest: dict[Account, int] = defaultdict(int)
        """What of that is interest: it moves no principal."""
        self._restamped: set[Account] = set()
        """Holdings with an update too few or too many: when they last moved follows from that."""
        self._lacking: list[tuple[Account, int, int]] = []
        """Updates that are missing: holding, expected id, gap."""
        self._surplus_ids: list[tuple[Account, int, int]] = []
        """Updates too many: holding, actual id, gap."""
        self._without_ref: set[int] = set()
        """Ids of the actual updates that have a break of their own: their refs are not judged."""
        self._counterparts: dict[int, int] = {}
        """Actual update id by expected update id."""
        self._by_id: dict[int, Entry] = {}
        """The expected updates."""
        self._actual_by_id: dict[int, BalanceUpdate] = {}
        """The first of each id."""

    def run(self) -> list[Break]:
        pairs = self._match()
        self._compare_pairs(pairs)
        self._compare_refs()
        self._compare_holdings()
        self._compare_sync()
        return self._breaks

    # -- updates

    def _match(self) -> list[tuple[Entry, Entry]]:
        expected, actual = entries(self._expected), entries(self._actual)
        self._by_id = {entry.update.balance_update_id: entry for entry in expected}
        pool: dict[tuple[object, ...], list[Entry]] = defaultdict(list)
        for entry in actual:
            pool[entry.event_key].append(entry)
            self._actual_by_id.setdefault(entry.update.balance_update_id, entry.update)
        pairs: list[tuple[Entry, Entry]] = []
        left: list[Entry] = []
        matched: set[tuple[object, ...]] = set()
        for entry in expected:
            key = entry.event_key
            if candidates := pool.get(key):
                # Where one event is booked twice in a holding, the right one is that of the right quantity.
                same = (i for i, other in enumerate(candidates) if other.update.quantity == entry.update.quantity)
                pairs.append((entry, candidates.pop(next(same, 0))))
                matched.add(key)
            else:
                left.append(entry)
        spare = [entry for candidates in pool.values() for entry in candidates]
        spare.sort(key=lambda entry: entry.update.balance_update_id)
        doubled = [entry for entry in spare if entry.event_key in matched]
        spare = [entry for entry in spare if entry.event_key not in matched]
        among = _Spare(spare)
        elsewhere = {_booking(entry): entry for entry in doubled if entry.update.tx_hash is not None}
        for entry in left:
            # One part of an event that stands beside another part of it is no double: it is in the wrong holding.
            counterpart = elsewhere.pop(_booking(entry), None)
            if counterpart is not None:
                doubled.remove(counterpart)
            else:
                counterpart = among.take_closest(entry)
            if counterpart is None:
                self._missing(entry)
            else:
                pairs.append((entry, counterpart))
        for entry in doubled:
            self._surplus(entry, BreakKind.doubled)
        # An update that books again what another one has booked: same event, asset and quantity.
        booked = {_booking(mate) for _, mate in pairs if mate.update.tx_hash is not None}
        for entry in among.rest():
            repeats = entry.update.tx_hash is not None and _booking(entry) in booked
            self._surplus(entry, BreakKind.doubled if repeats else BreakKind.unexpected)
        return sorted(pairs, key=lambda pair: pair[0].update.balance_update_id)

    def _explain(self, entry: Entry, gap: int, *, restamped: bool = False) -> None:
        """Note what a break of an update does to its holding."""
        self._explained[entry.account] += gap
        if entry.update.cause is BalanceUpdateCause.interest:
            self._explained_interest[entry.account] += gap
        if restamped:
            self._restamped.add(entry.account)

    def _missing(self, entry: Entry) -> None:
        update = entry.update
        raw, token = self._raw(update)
        self._explain(entry, -raw, restamped=True)
        self._lacking.append((entry.account, update.balance_update_id, -raw))
        self._add(
            BreakKind.missing,
            sentence=f"{self._what(entry)} is not in the books, which leaves them {self._short(-raw, token)}.",
            expected=f"{format_units(raw, token.decimals)} {token.symbol}",
            actual="nothing",
            gap_raw=-raw,
            token=token,
            entry=entry,
        )

    def _surplus(self, entry: Entry, kind: BreakKind) -> None:
        update = entry.update
        raw, token = self._raw(update)
        self._explain(entry, raw, restamped=True)
        self._surplus_ids.append((entry.account, update.balance_update_id, raw))
        self._without_ref.add(update.balance_update_id)
        why = (
            "is in the books once too often"
            if kind is BreakKind.doubled
            else "is in the books with nothing on chain behind it"
        )
        self._add(
            kind,
            sentence=f"{self._what(entry)} {why}, which leaves them {self._short(raw, token)}.",
            expected="nothing" if kind is BreakKind.unexpected else f"{_plain(update.quantity)} {token.symbol}, once",
            actual=f"{_plain(update.quantity)} {token.symbol}" + (", again" if kind is BreakKind.doubled else ""),
            gap_raw=raw,
            token=token,
            entry=entry,
        )

    def _compare_pairs(self, pairs: Sequence[tuple[Entry, Entry]]) -> None:
        shifted: dict[Account, int] = defaultdict(int)
        lacking, surplus = _Shifts(self._lacking), _Shifts(self._surplus_ids)
        for wanted, found in pairs:
            expected, actual = wanted.update, found.update
            self._counterparts[expected.balance_update_id] = actual.balance_update_id
            token = _token(expected.asset)
            if wanted.holder_id != found.holder_id:
                raw, moved = self._misplaced(wanted, found)
                shifted[wanted.account] -= raw
                shifted[found.account] += moved
                continue
            if _update_fields(expected) != _update_fields(actual):
                for name in _UPDATE_FIELDS:
                    self._field(name, getattr(expected, name), getattr(actual, name), wanted)
            if not _same_asset(expected.asset, actual.asset):
                self._field("asset", _asset_text(expected.asset), _asset_text(actual.asset), wanted)
            gap = _gap(expected.quantity, actual.quantity, token)
            if gap != 0:
                self._explain(wanted, _whole(gap))
                self._quantity("quantity", expected.quantity, actual.quantity, token, wanted)
            old_gap = _gap(expected.old_balance, actual.old_balance, token)
            skewed = lacking.before(wanted) + surplus.before(found)
            if old_gap != shifted[wanted.account] + skewed:
                self._quantity("old_balance", expected.old_balance, actual.old_balance, token, wanted)
                shifted[wanted.account] = _whole(old_gap) - skewed
            shifted[wanted.account] += _whole(gap)
            self._worth(expected, actual, gap, wanted)
            self._skipped(expected, actual, wanted)
            if actual.created_at is None:
                self._field("created_at", "a time", None, wanted)

    def _misplaced(self, wanted: Entry, found: Entry) -> tuple[int, int]:
        raw, token = self._raw(wanted.update)
        self._explain(wanted, -raw, restamped=True)
        moved, _ = self._raw(found.update)
        self._explain(found, moved, restamped=True)
        self._without_ref.add(found.update.balance_update_id)
        self._add(
            BreakKind.misplaced,
            sentence=f"{self._what(wanted)} is booked in {_holding(found.holder_id)} "
            f"instead of {_holding(wanted.holder_id)}.",
            field="position_id",
            expected=_holding(wanted.holder_id),
            actual=_holding(found.holder_id),
            gap_raw=moved - raw,
            token=token,
            entry=wanted,
        )
        return raw, moved

    def _worth(self, expected: BalanceUpdate, actual: BalanceUpdate, gap: Fraction, wanted: Entry) -> None:
        if close(expected.usd_value, actual.usd_value):
            return
        if gap != 0 and expected.quantity:
            # A quantity that is wrong is worth wrongly much: only another price is news.
            implied = float(Fraction(expected.usd_value) / exact(expected.quantity) * exact(actual.quantity))
            if close(implied, actual.usd_value):
                return
        difference = actual.usd_value - expected.usd_value
        self._add(
            BreakKind.different,
            sentence=f"{self._what(wanted)} is worth {_money(expected.usd_value)}, "
            f"and the books say {_money(actual.usd_value)}.",
            field="usd_value",
            expected=repr(expected.usd_value),
            actual=repr(actual.usd_value),
            gap_usd=difference,
            entry=wanted,
        )

    def _skipped(self, expected: BalanceUpdate, actual: BalanceUpdate, wanted: Entry) -> None:
        due = len((expected.other_data or {}).get("skipped_legs", ()))
        listed = (actual.other_data or {}).get("skipped_legs", ())
        count = len(listed) if isinstance(listed, (list, tuple)) else -1
        if due != count:
            self._field("other_data.skipped_legs", f"{due} legs", f"{count} legs" if count >= 0 else "no list", wanted)

    def _field(self, name: str, expected: object, actual: object, entry: Entry) -> None:
        if _equal(name, expected, actual):
            return
        expected_text, actual_text = self._text(name, expected), self._text(name, actual)
        self._add(
            BreakKind.different,
            sentence=f"{self._what(entry)} has {name} {actual_text} in the books instead of {expected_text}.",
            field=name,
            expected=expected_text,
            actual=actual_text,
            entry=entry,
        )

    def _quantity(self, name: str, expected: Decimal, actual: Decimal, token: Token, entry: Entry) -> None:
        gap = _gap(expected, actual, token)
        self._add(
            BreakKind.different,
            sentence=f"{self._what(entry)} has {name} {_plain(actual)} {token.symbol} in the books "
            f"instead of {_plain(expected)}: {_signed(gap, token)}.",
            field=name,
            expected=f"{_plain(expected)} {token.symbol}",
            actual=f"{_plain(actual)} {token.symbol}",
            gap_raw=_whole(gap),
            token=token,
            entry=entry,
        )

    # -- refs

    def _compare_refs(self) -> None:
        for name in ("treasury", "accounting"):
            wanted: list[BalanceEventRef] = getattr(self._expected.sync, name).balance_update_refs
            found: list[BalanceEventRef] = getattr(self._actual.sync, name).balance_update_refs
            self._compare_ref_lists(f"{name}.balance_update_refs", wanted, found)

    def _compare_ref_lists(
        self, path: str, wanted: Sequence[BalanceEventRef], found: Sequence[BalanceEventRef]
    ) -> None:
        count = Counter(ref.balance_event_id for ref in found)
        rank = {ref.balance_event_id: index for index, ref in reversed(list(enumerate(found)))}
        last = -1
        for ref in wanted:
            counterpart = self._counterparts.get(ref.balance_event_id)
            if counterpart is None or counterpart in self._without_ref:
                continue
            entry = self._by_id[ref.balance_event_id]
            if not count[counterpart]:
                self._ref_break(BreakKind.missing, path, f"{self._what(entry)} has no ref in {path}.", entry)
                continue
            if count[counterpart] > 1:
                self._ref_break(BreakKind.doubled, path, f"{self._what(entry)} has several refs in {path}.", entry)
            if rank[counterpart] < last:
                self._ref_break(
                    BreakKind.misplaced, path, f"The ref of {self._what(entry)} stands out of order in {path}.", entry
                )
            last = max(last, rank[counterpart])
            self._compare_ref(path, ref, found[rank[counterpart]], entry)
        known = set(self._counterparts.values()) | self._without_ref
        for ref in found:
            if ref.balance_event_id not in known:
                self._add(
                    BreakKind.unexpected,
                    sentence=f"{path} has a ref to balance update {ref.balance_event_id}, which is not in the books.",
                    field=path,
                    expected="nothing",
                    actual=f"ref to {ref.balance_event_id}",
                )

    def _ref_break(self, kind: BreakKind, path: str, sentence: str, entry: Entry) -> None:
        texts = {
            BreakKind.missing: ("one ref", "none"),
            BreakKind.doubled: ("one ref", "several"),
            BreakKind.misplaced: ("chain order", "another order"),
        }
        expected, actual = texts[kind]
        self._add(kind, sentence=sentence, field=path, expected=expected, actual=actual, entry=entry)

    def _compare_ref(self, path: str, expected: BalanceEventRef, actual: BalanceEventRef, entry: Entry) -> None:
        update = self._actual_by_id.get(actual.balance_event_id)
        for name in ("strategy_cycle_included_at", "cause", "position_type", "position_id"):
            wanted, found = getattr(expected, name), getattr(actual, name)
            if wanted != found and not (update is not None and getattr(update, name) == found):
                self._field(f"{path}.{name}", wanted, found, entry)
        worth = actual.usd_value
        # A ref that repeats a wrong update says nothing new.
        repeats = update is not None and worth is not None and close(update.usd_value, worth)
        if not repeats and (worth is None or not close(expected.usd_value or 0.0, worth)):
            self._field(f"{path}.usd_value", repr(expected.usd_value), repr(worth), entry)

    # -- holdings

    def _compare_holdings(self) -> None:
        expected, actual = self._expected.portfolio, self._actual.portfolio
        self._compare_reserves(expected.reserves, actual.reserves)
        for state in ("open", "frozen", "closed"):
            self._compare_positions(
                state, getattr(expected, f"{state}_positions"), getattr(actual, f"{state}_positions")
            )
        # The executor counts positions and trades: a syncer that does so, too, moves the ids of later ones.
        for name in ("next_position_id", "next_trade_id"):
            self._plain_field(f"portfolio.{name}", getattr(expected, name), getattr(actual, name))

    def _compare_reserves(self, expected: Mapping[str, ReservePosition], actual: Mapping[str, ReservePosition]) -> None:
        wanted = {_address_key(reserve.asset): reserve for reserve in expected.values()}
        found: dict[tuple[int, str], ReservePosition] = {}
        for one in actual.values():
            if found.setdefault(_address_key(one.asset), one) is not one:
                self._plain_break(BreakKind.doubled, "reserves", "one such reserve", _asset_text(one.asset))
        for key in sorted(wanted.keys() | found.keys()):
            reserve, other = wanted.get(key), found.get(key)
            if reserve is None and other is not None:
                # One of zero equals none until a treasury sync has made it.
                first = key == _address_key(self._ledger.setting.reserve_asset)
                if not first or other.quantity or other.balance_updates:
                    self._plain_break(BreakKind.unexpected, "reserves", "no such reserve", _asset_text(other.asset))
                continue
            if reserve is None:
                continue
            if other is None:
                if reserve.last_sync_at is not None or reserve.quantity or reserve.balance_updates:
                    self._plain_break(BreakKind.missing, "reserves", _asset_text(reserve.asset), "no such reserve")
                continue
            name = f"reserve {reserve.asset.token_symbol}"
            token = _token(reserve.asset)
            self._plain_asset(f"{name} asset", reserve.asset, other.asset)
            self._holding_quantity(name, None, exact(reserve.quantity), exact(other.quantity), token)
            for field_name in ("last_sync_at", "last_pricing_at"):
                self._plain_field(f"{name} {field_name}", getattr(reserve, field_name), getattr(other, field_name))
            self._plain_float(f"{name} reserve_token_price", reserve.reserve_token_price, other.reserve_token_price)

    def _holding_quantity(
        self, name: str, position_id: int | None, expected: Fraction, actual: Fraction, token: Token
    ) -> None:
        gap = (actual - expected) * 10**token.decimals
        if gap == self._explained[position_id, False]:
            return
        self._add(
            BreakKind.different,
            sentence=f"The books hold {_tokens(actual, token)} {token.symbol} in {name} instead of "
            f"{_tokens(expected, token)}: {_signed(gap, token)}.",
            field="quantity",
            expected=f"{_tokens(expected, token)} {token.symbol}",
            actual=f"{_tokens(actual, token)} {token.symbol}",
            gap_raw=_whole(gap),
            token=token,
            position_id=position_id,
        )

    def _compare_positions(self, state: str, expected: Mapping[int, Position], actual: Mapping[int, Position]) -> None:
        for position_id in sorted(expected.keys() | actual.keys()):
            wanted, found = expected.get(position_id), actual.get(position_id)
            name = f"position {position_id}"
            if wanted is None or found is None:
                elsewhere = self._whereabouts(position_id, self._actual if found is None else self._expected)
                if found is None:
                    self._plain_break(
                        BreakKind.missing, f"{state}_positions", f"{name}, {state}", elsewhere, position_id=position_id
                    )
                elif elsewhere == "nowhere" or position_id in getattr(self._actual.portfolio, f"{elsewhere}_positions"):
                    # One that only stands in the wrong state is missing from the right one, and told there.
                    self._plain_break(
                        BreakKind.unexpected,
                        f"{state}_positions",
                        "no such position" if elsewhere == "nowhere" else f"{name}, {elsewhere} only",
                        f"{name}, {state}",
                        position_id=position_id,
                    )
                continue
            self._compare_position(name, wanted, found)

    def _whereabouts(self, position_id: int, books: Books) -> str:
        for state in ("open", "frozen", "closed"):
            if position_id in getattr(books.portfolio, f"{state}_positions"):
                return state
        return "nowhere"

    def _compare_position(self, name: str, wanted: Position, found: Position) -> None:
        token = _token(wanted.asset)
        self._holding_quantity(name, wanted.position_id, wanted.quantity, found.quantity, token)
        for side in ("base", "quote"):
            left, right = getattr(wanted.pair, side), getattr(found.pair, side)
            self._plain_asset(f"{name} pair.{side}", left, right)
        self._plain_field(f"{name} pair.kind", wanted.pair.kind, found.pair.kind)
        self._plain_asset(f"{name} reserve_currency", wanted.reserve_currency, found.reserve_currency)
        for field_name in ("opened_at", "closed_at", "frozen_at", "last_pricing_at"):
            self._plain_field(f"{name} {field_name}", getattr(wanted, field_name), getattr(found, field_name))
        self._plain_float(f"{name} last_token_price", wanted.last_token_price, found.last_token_price)
        self._compare_trades(name, wanted.trades, found.trades)
        self._compare_loan(name, wanted, wanted.loan, found.loan, token)

    def _compare_trades(self, name: str, expected: Sequence[Trade], actual: Sequence[Trade]) -> None:
        if len(expected) != len(actual):
            self._plain_break(BreakKind.different, f"{name} trades", f"{len(expected)} trades", f"{len(actual)} trades")
            return
        for wanted, found in zip(expected, actual, strict=True):
            for field_name in _TRADE_FIELDS:
                self._plain_field(
                    f"{name} trade {wanted.trade_id} {field_name}",
                    getattr(wanted, field_name),
                    getattr(found, field_name),
                )

    def _compare_loan(
        self, name: str, position: Position, expected: Loan | None, actual: Loan | None, token: Token
    ) -> None:
        if expected is None or actual is None:
            if expected is not actual:
                self._plain_break(BreakKind.different, f"{name} loan", _presence(expected), _presence(actual))
            return
        for side in ("collateral", "borrowed"):
            account = position.position_id, side == "borrowed"
            wanted = getattr(expected, side)
            token = token if wanted is None else _token(wanted.asset)
            self._compare_side(f"{name} {side}", account, wanted, getattr(actual, side), token)
            tracker, other = getattr(expected, f"{side}_interest"), getattr(actual, f"{side}_interest")
            if tracker is None or other is None:
                if tracker is not other:
                    self._plain_break(
                        BreakKind.different, f"{name} {side}_interest", _presence(tracker), _presence(other)
                    )
                continue
            explained = {
                "last_token_amount": self._explained[account],
                "last_accrued_interest": self._explained_interest[account],
            }
            for field_name in ("opening_amount", "last_token_amount", "last_accrued_interest", "interest_payments"):
                self._loan_quantity(
                    f"{name} {side}_interest.{field_name}",
                    position.position_id,
                    getattr(tracker, field_name),
                    getattr(other, field_name),
                    token,
                    explained=explained.get(field_name, 0),
                )
            if account in self._restamped:
                continue
            for field_name in ("last_updated_at", "last_event_at", "last_updated_block_number"):
                self._plain_field(
                    f"{name} {side}_interest.{field_name}", getattr(tracker, field_name), getattr(other, field_name)
                )

    def _compare_side(
        self, name: str, account: Account, expected: LoanSide | None, actual: LoanSide | None, token: Token
    ) -> None:
        if expected is None or actual is None:
            if expected is not actual:
                self._plain_break(BreakKind.different, name, _presence(expected), _presence(actual))
            return
        self._plain_asset(f"{name}.asset", expected.asset, actual.asset)
        principal = self._explained[account] - self._explained_interest[account]
        self._loan_quantity(
            f"{name}.quantity",
            account[0],
            expected.quantity,
            actual.quantity,
            token,
            explained=principal,
        )
        self._plain_field(f"{name}.created_at", expected.created_at, actual.created_at)

    def _loan_quantity(
        self, path: str, position_id: int | None, expected: Decimal, actual: Decimal, token: Token, *, explained: int
    ) -> None:
        gap = _gap(expected, actual, token)
        if gap in (0, explained):
            return
        self._add(
            BreakKind.different,
            sentence=f"{path} is {_plain(actual)} {token.symbol} in the books "
            f"instead of {_plain(expected)}: {_signed(gap, token)}.",
            field=path,
            expected=f"{_plain(expected)} {token.symbol}",
            actual=f"{_plain(actual)} {token.symbol}",
            gap_raw=_whole(gap),
            token=token,
            position_id=position_id,
        )

    # -- sync

    def _compare_sync(self) -> None:
        expected, actual = self._expected.sync, self._actual.sync
        for name in (
            "chain_id",
            "address",
            "block_number",
            "block_mined_at",
            "vault_token_name",
            "vault_token_symbol",
            "initialised_at",
        ):
            self._plain_field(
                f"deployment.{name}", getattr(expected.deployment, name), getattr(actual.deployment, name)
            )
        self._plain_field("deployment.tx_hash", _hash(expected.deployment.tx_hash), _hash(actual.deployment.tx_hash))
        for name in (
            "last_cycle_at",
            "last_block_scanned",
            "pending_deposits",
            "pending_redemptions",
            "share_count",
            "last_lagoon_settlement_block_scanned",
        ):
            self._plain_field(f"treasury.{name}", getattr(expected.treasury, name), getattr(actual.treasury, name))
        self._clock("treasury.last_updated_at", expected.treasury.last_updated_at, actual.treasury.last_updated_at)
        self._plain_field(
            "accounting.last_block_scanned",
            expected.accounting.last_block_scanned,
            actual.accounting.last_block_scanned,
        )
        self._clock(
            "accounting.last_updated_at", expected.accounting.last_updated_at, actual.accounting.last_updated_at
        )
        for name in ("last_sync_at", "last_sync_block"):
            self._plain_field(f"interest.{name}", getattr(expected.interest, name), getattr(actual.interest, name))
        self._compare_distribution(expected.interest.last_distribution, actual.interest.last_distribution)

    def _compare_distribution(
        self, expected: InterestDistributionOperation | None, actual: InterestDistributionOperation | None
    ) -> None:
        path = "interest.last_distribution"
        if expected is None or actual is None:
            if expected is not actual:
                self._plain_break(BreakKind.different, path, _presence(expected), _presence(actual))
            return
        self._plain_field(f"{path}.start", expected.start, actual.start)
        self._plain_field(f"{path}.end", expected.end, actual.end)
        self._plain_field(
            f"{path}.assets",
            ", ".join(sorted(map(_asset_text, expected.assets))),
            ", ".join(sorted(map(_asset_text, actual.assets))),
        )
        self._plain_float(f"{path}.effective_rate", expected.effective_rate, actual.effective_rate)
        by_asset = {key.lower(): data for key, data in actual.asset_interest_data.items()}
        symbols = {asset.identifier: asset for asset in expected.assets}
        for key, data in expected.asset_interest_data.items():
            found = by_asset.pop(key.lower(), None)
            asset = symbols[key]
            name = f"{path}.asset_interest_data[{asset.token_symbol}]"
            if found is None:
                self._plain_break(BreakKind.missing, name, "present", "nothing")
                continue
            self._plain_field(f"{name}.total", data.total, found.total)
            self._plain_float(f"{name}.effective_rate", data.effective_rate, found.effective_rate)
        for key in by_asset:
            self._plain_break(BreakKind.unexpected, f"{path}.asset_interest_data", "nothing", key)

    # -- making breaks

    def _clock(self, path: str, expected: datetime | None, actual: datetime | None) -> None:
        """A clock field must be there; what it says is the syncer's own affair."""
        if (expected is None) != (actual is None):
            self._plain_break(BreakKind.different, path, _presence(expected), _presence(actual))

    def _plain_float(self, path: str, expected: float | None, actual: float | None) -> None:
        if expected is None or actual is None:
            self._plain_field(path, expected, actual)
        elif not close(expected, actual):
            self._plain_break(BreakKind.different, path, repr(expected), repr(actual))

    def _plain_asset(self, path: str, expected: AssetIdentifier | None, actual: AssetIdentifier | None) -> None:
        if expected is None or actual is None or not _same_asset(expected, actual):
            self._plain_field(path, _asset_text(expected), _asset_text(actual))

    def _plain_field(self, path: str, expected: object, actual: object) -> None:
        if not _equal(path.rpartition(".")[2].rpartition(" ")[2], expected, actual):
            self._plain_break(BreakKind.different, path, self._text(path, expected), self._text(path, actual))

    def _plain_break(
        self, kind: BreakKind, path: str, expected: str, actual: str, *, position_id: int | None = None
    ) -> None:
        words = {
            BreakKind.missing: f"{path} lacks {expected} (found: {actual}).",
            BreakKind.unexpected: f"{path} holds {actual}, which should not be there.",
        }
        sentence = words.get(kind, f"{path} is {actual} in the books instead of {expected}.")
        self._add(kind, sentence=sentence, field=path, expected=expected, actual=actual, position_id=position_id)

    def _add(
        self,
        kind: BreakKind,
        *,
        sentence: str,
        expected: str,
        actual: str,
        field: str | None = None,
        gap_raw: int | None = None,
        gap_usd: float | None = None,
        token: Token | None = None,
        position_id: int | None = None,
        entry: Entry | None = None,
    ) -> None:
        update = entry.update if entry is not None else None
        block = update.block_number if update is not None else None
        location = self._origin(update) if update is not None else self._found_at
        if token is not None and gap_raw is not None:
            gap_usd = self._worth_of(token, gap_raw, block)
        self._breaks.append(
            Break(
                kind=kind,
                sentence=sentence[0].upper() + sentence[1:],
                field=field,
                expected=expected,
                actual=actual,
                asset=token.symbol if token is not None else update.asset.token_symbol if update is not None else None,
                position_id=entry.holder_id if entry is not None else position_id,
                gap_raw=gap_raw,
                gap=None if token is None or gap_raw is None else format_units(gap_raw, token.decimals),
                gap_usd=gap_usd,
                block=block,
                transaction=_hash(update.tx_hash) if update is not None else None,
                log_index=update.log_index if update is not None else None,
                location=location,
                found_at=self._found_at,
            )
        )

    @cached_property
    def _places(self) -> Mapping[tuple[str, int], Location]:
        """The step behind each flow; only breaks ask."""
        return {(plain_hash(flow.transaction), flow.log_index): flow.location for flow in self._ledger.flows}

    def _origin(self, update: BalanceUpdate) -> Location:
        if update.tx_hash is not None and update.log_index is not None:
            return self._places.get((plain_hash(update.tx_hash), update.log_index), self._found_at)
        return self._found_at

    def _worth_of(self, token: Token, raw: int, block: int | None) -> float | None:
        if token.symbol not in self._ledger.setting.assets:
            return None
        at = block if block is not None and 0 < block <= self._ledger.head else self._ledger.head
        return float(self._ledger.worth(token.symbol, raw, at))

    def _raw(self, update: BalanceUpdate) -> tuple[int, Token]:
        symbol = self._ledger.setting.symbol_of(update.asset)
        token = _token(self._ledger.setting.assets[symbol]) if symbol is not None else _token(update.asset)
        return _whole(exact(update.quantity) * 10**token.decimals), token

    def _what(self, entry: Entry) -> str:
        update = entry.update
        who = f" of {self._ledger.setting.actor_of(update.owner_address)}" if update.owner_address else ""
        where = f" at block {update.block_number}" if update.block_number is not None else ""
        log = f", log {update.log_index}" if update.log_index is not None else ""
        return f"the {update.cause} of {_plain(abs(update.quantity))} {update.asset.token_symbol}{who}{where}{log}"

    def _short(self, raw: int, token: Token) -> str:
        direction = "over" if raw > 0 else "short"
        return f"{format_units(abs(raw), token.decimals)} {token.symbol} {direction}" if raw else "unchanged"

    def _text(self, name: str, value: object) -> str:
        if value is None:
            return "nothing"
        if isinstance(value, datetime):
            return value.isoformat(sep=" ")
        if isinstance(value, Decimal):
            return _plain(value)
        if name.endswith("owner_address") and isinstance(value, str):
            name_of = self._ledger.setting.actor_of(value)
            return value if name_of == value else f"{name_of} ({value})"
        return str(value)


class _Shifts:
    """How much updates too few or too many shift a holding's balance before another one, in the order of the books.

    That order is what ids tell: a block that is read again is booked after all that was there, whatever its number.
    """

    def __init__(self, gaps: Iterable[tuple[Account, int, int]]) -> None:
        shifts: dict[Account, list[tuple[int, int]]] = defaultdict(list)
        for account, update_id, gap in gaps:
            shifts[account].append((update_id, gap))
        self._shifts: dict[Account, tuple[list[int], list[int]]] = {}
        """By holding: ids in order, and the base units shifted before each of them and after the last."""
        for account, found in shifts.items():
            found.sort()
            sums = accumulate((gap for _, gap in found), initial=0)
            self._shifts[account] = ([update_id for update_id, _ in found], list(sums))

    def before(self, entry: Entry) -> int:
        ids, sums = self._shifts.get(entry.account, ([], [0]))
        return sums[bisect_left(ids, entry.update.balance_update_id)]


_UPDATE_FIELDS = (
    "cause",
    "position_type",
    "block_mined_at",
    "strategy_cycle_included_at",
    "chain_id",
    "previous_update_at",
    "owner_address",
    "tx_hash",
    "log_index",
    "position_id",
    "block_number",
)
_update_fields = attrgetter(*_UPDATE_FIELDS)
_TRADE_FIELDS = (
    "trade_id",
    "executed_at",
    "executed_quantity",
    "executed_reserve",
    "failed_at",
    "block_number",
    "tx_hash",
    "borrowed_quantity",
)


Clue = tuple[object, ...]


def _clues(entry: Entry) -> Iterator[tuple[Clue, ...]]:
    """What shows that two updates are probably the same, the strongest first; any one of a group will do."""
    update, asset = entry.update, entry.asset_key
    if update.tx_hash is not None:
        transaction = plain_hash(update.tx_hash)
        yield (("log", transaction, asset, update.log_index),)
        yield (("holding", transaction, asset, entry.holder_id),)
        yield (("asset", transaction, asset),)
        yield (("amount", transaction, update.log_index, update.quantity),)
    place = (update.cause, asset, update.block_number)
    yield ("block and holding", *place, entry.holder_id), ("block and amount", *place, update.quantity)
    yield (("time and amount", asset, entry.holder_id, update.quantity, update.block_mined_at),)


class _Spare:
    """Updates of the syncer that no expected one has the key of: what it may have made of those."""

    def __init__(self, spare: Iterable[Entry]) -> None:
        self._left = dict(enumerate(spare))
        self._by_clue: dict[Clue, deque[int]] = defaultdict(deque)
        for rank, entry in self._left.items():
            for clues in _clues(entry):
                for clue in clues:
                    self._by_clue[clue].append(rank)

    def take_closest(self, wanted: Entry) -> Entry | None:
        """Find what a syncer probably made of an update that its key does not show; it is found only once."""
        for clues in _clues(wanted):
            ranks = [rank for rank in map(self._first, clues) if rank is not None]
            if ranks:
                return self._left.pop(min(ranks))
        return None

    def _first(self, clue: Clue) -> int | None:
        ranks = self._by_clue.get(clue)
        while ranks and ranks[0] not in self._left:
            ranks.popleft()
        return ranks[0] if ranks else None

    def rest(self) -> list[Entry]:
        """Those that nothing was found to be."""
        return list(self._left.values())


def _booking(entry: Entry) -> tuple[object, ...]:
    """What an update of a transaction books: event, asset and quantity."""
    update = entry.update
    return plain_hash(update.tx_hash or ""), entry.asset_key, update.log_index, update.quantity


def close(expected: float | int | Decimal, actual: float | int | Decimal) -> bool:
    """Tell whether two floats are equal at 1e-9 relative; zero only equals zero."""
    if type(expected) is float and expected == actual and isfinite(expected):
        return True
    try:
        left, right = Fraction(expected), Fraction(actual)
    except (ValueError, OverflowError):
        return False
    return abs(left - right) <= RELATIVE_TOLERANCE * abs(left)


def _equal(name: str, expected: object, actual: object) -> bool:
    if isinstance(expected, float) and isinstance(actual, (float, int)) and not isinstance(actual, bool):
        return close(expected, actual)
    if isinstance(expected, str) and isinstance(actual, str):
        if name == "tx_hash":
            return plain_hash(expected) == plain_hash(actual)
        if name == "owner_address":
            return expected.lower() == actual.lower()
    return expected == actual


def _token(asset: AssetIdentifier) -> Token:
    return Token(symbol=asset.token_symbol, decimals=asset.decimals)


def _same_asset(expected: AssetIdentifier, actual: AssetIdentifier) -> bool:
    return _asset_text(expected) == _asset_text(actual)


def _asset_text(asset: AssetIdentifier | None) -> str:
    """All that an asset says of itself; two that say the same are the same."""
    if asset is None:
        return "nothing"
    kind = "" if asset.type is None else f", {asset.type}"
    wraps = "" if asset.underlying is None else f", of {_asset_text(asset.underlying)}"
    return f"{asset.token_symbol} ({asset.decimals} decimals{kind}) at {asset.identifier}{wraps}"


def _address_key(asset: AssetIdentifier) -> tuple[int, str]:
    return asset.chain_id, asset.address.lower()


def _gap(expected: Decimal, actual: Decimal, token: Token) -> Fraction:
    """actual − expected in base units; no whole number when the books have more decimals than the token."""
    if expected == actual:
        return Fraction(0)
    return (exact(actual) - exact(expected)) * Fraction(10**token.decimals)


def _whole(gap: Fraction) -> int:
    """The gap as a whole number of base units, away from zero, so that the smallest difference still shows."""
    return -(-gap.numerator // gap.denominator) if gap > 0 else gap.numerator // gap.denominator


def _plain(value: Decimal) -> str:
    return format(value, "f")


def _tokens(value: Fraction, token: Token) -> str:
    raw = value * 10**token.decimals
    if raw.denominator == 1:
        return format_units(raw.numerator, token.decimals)
    return f"{float(value)!r}"


def _signed(gap: Fraction, token: Token) -> str:
    raw = _whole(gap)
    return f"{'+' if raw > 0 else ''}{format_units(raw, token.decimals)} {token.symbol}"


def _money(value: float) -> str:
    return f"{value:,.2f} USD" if abs(value) >= 0.01 else f"{value!r} USD"


def _holding(holder_id: int | None) -> str:
    return "the reserve" if holder_id is None else f"position {holder_id}"


def _hash(text: str | None) -> str | None:
    return None if text is None else plain_hash(text)


def _presence(value: Any) -> str:
    return "nothing" if value is None else "present"
