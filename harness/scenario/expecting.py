"""What an ``expect`` says, field by field of the books' records."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from harness.scenario import language as lang
from harness.scenario.language import RecordField
from harness.scenario.model import (
    SHARES,
    Expectation,
    ExpectedBalance,
    ExpectedChain,
    ExpectedField,
    ExpectedRecord,
    Quantity,
)
from harness.scenario.nodes import (
    Fault,
    Node,
    decimal_number,
    fail,
    integer,
    listed,
    near,
    quoted,
    scalar,
)
from harness.scenario.values import AMOUNT, Values
from harness.units import parse_decimal


class Expectations(Values):
    """Reads ``expect`` blocks."""

    def _expect(self, node: Node, key: Node, *, syncing: bool, inner: bool) -> Expectation:
        what = "'contains'" if inner else "'expect'"
        if node.null or (node.kind == "mapping" and not node.pairs):
            fail(key, f"{what} names nothing", f"one of: {listed(k.name for k in lang.EXPECT)}")
        keys = [k for k in lang.EXPECT if not (inner and k.name in ("contains", "chain"))]
        values: dict[str, Any] = {}
        for name, (at, value) in self.keyed(node, keys, what).items():
            if name == "updates" and not syncing:
                self.problem(
                    at, "'updates' are those that a syncing step added", "it beside sync, sync_interest or initialise"
                )
            kind = next(k.kind for k in keys if k.name == name)
            result: Any
            if kind == "contains":
                result = self.attempt(self._expect, value, at, syncing=syncing, inner=True)
            elif kind == "chain":
                result = self.attempt(self._chain, value, at)
            elif kind == "balances":
                result = self.attempt(self._balances, value, "balances", signed=True)
            elif kind == "positions":
                result = self.attempt(self._positions, value)
            else:
                result = self.attempt(self._compound, value, kind, repr(name))
            if result is not None:
                values[name] = result
        return Expectation(location=key.location, **values)

    def _balances(self, node: Node, what: str, *, signed: bool = False) -> tuple[ExpectedBalance, ...]:
        balances = []
        for name, key, value in self.pairs(node, f"{what}, such as {{USDC: 200}}"):
            if self.attempt(self._named_by, key) is None:
                continue
            amount = self.attempt(self._amount, value, (name,), exact=True, signed=signed)
            if amount is not None and amount.raw is not None:
                balances.append(ExpectedBalance(location=key.location, token=name, raw=amount.raw))
        return tuple(balances)

    def _chain(self, node: Node, key: Node) -> ExpectedChain:
        if node.null or (node.kind == "mapping" and not node.pairs):
            fail(key, "'chain' names nothing", f"one of: {listed(k.name for k in lang.CHAIN)}")
        found = self.keyed(node, lang.CHAIN, "'chain'")
        values: dict[str, Any] = {}
        if "balances" in found:
            values["balances"] = self.attempt(self._balances, found["balances"][1], "balances") or ()
        if "share_count" in found:
            amount = self.attempt(self._amount, found["share_count"][1], (SHARES,), exact=True)
            if amount is not None and amount.raw is not None:
                values["share_count"] = Fraction(amount.raw, 10**self.share_decimals)
        if "share_price" in found:
            price = self.attempt(decimal_number, found["share_price"][1], "assets per share, a number")
            values["share_price"] = price
        return ExpectedChain(location=key.location, **values)

    def _positions(self, node: Node) -> dict[int, ExpectedRecord]:
        positions: dict[int, ExpectedRecord] = {}
        for name, key, value in self.pairs(node, "positions by id, such as {1: {quantity: 0.03 WETH}}"):
            number = self.attempt(integer, key, 1, 1 << 31, "the id of a position, from 1")
            if number is None:
                continue
            if value.null:
                record: ExpectedRecord | None = ExpectedRecord(location=key.location, fields=())
            else:
                record = self.attempt(self._record, value, "Position", f"position {name}")
            if record is not None:
                positions[number] = ExpectedRecord(location=key.location, fields=record.fields)
        return positions

    def _compound(
        self, node: Node, kind: str, what: str
    ) -> ExpectedRecord | tuple[ExpectedRecord, ...] | dict[str, ExpectedRecord]:
        """``record:X``, ``list:X`` or ``map:X``."""
        shape, _, record = kind.partition(":")
        if shape == "record":
            return self._record(node, record, what)
        if shape == "list":
            if node.kind != "sequence":
                fail(node, f"found {node.shown}", f"a list for {what}")
            entries = [self.attempt(self._record, item, record, f"an entry of {what}") for item in node.items]
            return tuple(entry for entry in entries if entry is not None)
        mapping: dict[str, ExpectedRecord] = {}
        for name, key, value in self.pairs(node, f"{what}, by token"):
            if self.attempt(self._named_by, key) is None:
                continue
            entry = self.attempt(self._record, value, record, f"{what} of {name}", asset=name)
            if entry is not None:
                mapping[name] = entry
        return mapping

    def _record(self, node: Node, record: str, what: str, asset: str | None = None) -> ExpectedRecord:
        aliases = lang.ALIASES.get(record, {})
        table = {**lang.RECORDS[record], **lang.DERIVED.get(record, {})}
        names = [*aliases, *(name for name, field in table.items() if field.kind not in lang.NOT_COMPARED)]
        entries = self.pairs(node, what)
        asset = self._asset_of(entries, record) or asset
        fields: dict[str, ExpectedField] = {}
        for name, key, value in entries:
            field = aliases.get(name, name)
            if field not in table:
                self.problem(
                    key, f"unknown field {quoted(name)} in {what}", f"one of: {listed(names)}", near(name, names)
                )
                continue
            kind = table[field].kind
            if kind in lang.NOT_COMPARED:
                self.problem(
                    key, f"{quoted(name)} cannot be expected: {lang.NOT_COMPARED[kind]}", f"one of: {listed(names)}"
                )
                continue
            if field in fields:
                self.problem(
                    key,
                    f"{quoted(name)} is named twice, by another name in line {fields[field].location.line}",
                    "each field once",
                )
                continue
            try:
                read = self._field(value, table[field], name, asset)
            except Fault as fault:
                if fault.problem is not None:
                    self.report(fault.problem)
                continue
            fields[field] = ExpectedField(location=key.location, name=field, value=read)
        return ExpectedRecord(location=node.location, fields=tuple(fields.values()))

    def _asset_of(self, entries: Sequence[tuple[str, Node, Node]], record: str) -> str | None:
        """The token that a record says itself, so that its raw quantities need not name it."""
        if record == "Position":
            for name, _, value in entries:
                if name == "pair" and value.kind == "mapping":
                    return next(
                        (inner.text for key, inner in value.pairs if key.text == "base" and inner.text in self.tokens),
                        None,
                    )
        return next((value.text for name, _, value in entries if name == "asset" and value.text in self.tokens), None)

    def _field(self, node: Node, field: RecordField, name: str, asset: str | None) -> Any:
        if node.null:
            if field.nullable:
                return None
            fail(node, f"{quoted(name)} is never null", "a value")
        if field.kind == "quantity":
            return self._quantity(node, asset)
        if field.kind == "assets":
            return self._assets(node)
        if field.kind == "free":
            return self._free(node, name)
        if ":" in field.kind:
            return self._compound(node, field.kind, repr(name))
        return self.kinds[field.kind](node)

    def _quantity(self, node: Node, asset: str | None) -> Quantity | Fraction:
        expected = "a quantity such as -200 USDC, -1 raw USDC or -200"
        text = scalar(node, expected)
        match = AMOUNT.fullmatch(text)
        if match is None:
            self._amount_fault(node, expected)
        if match["all"] or match["percent"]:
            fail(node, f"{node.shown} is no exact quantity", expected)
        if match["token"] is not None:
            token = self._named(match["token"], node)
            if asset is not None and token != asset:
                fail(node, f"{node.shown} is in {token}, the asset is {asset}", f"a quantity of {asset}")
        elif asset is not None or len(self.tokens) == 1:
            token = asset or next(iter(self.tokens))
            self._raw(node, match, token, expected)
        elif match["raw"]:
            fail(node, f"{node.shown} names no token", f"one of {listed(self.tokens)} after it")
        if match["token"] is None and not match["raw"]:
            if len(text) > 200:
                fail(node, f"{node.shown} is too long", expected)
            return parse_decimal(text)
        return Quantity(raw=self._raw(node, match, token, expected), token=token)

    def _assets(self, node: Node) -> tuple[ExpectedRecord, ...]:
        """A list of tokens, as records that name their symbols."""
        if node.kind != "sequence":
            fail(node, f"found {node.shown}", "a list of tokens")
        records = []
        for item in node.items:
            symbol = self.attempt(self._symbol, item)
            if symbol is not None:
                field = ExpectedField(location=item.location, name="token_symbol", value=symbol)
                records.append(ExpectedRecord(location=item.location, fields=(field,)))
        return tuple(records)

    def _free(self, node: Node, what: str) -> ExpectedRecord:
        """What a syncer keeps beside: names and plain values, mappings in them too."""
        fields = []
        for name, key, value in self.pairs(node, what):
            read: Any = None
            if value.kind == "sequence":
                self.problem(value, "found a list", "a plain value")
                continue
            if value.kind == "mapping":
                read = self.attempt(self._free, value, repr(name))
            elif not value.null:
                number = value.plain and re.fullmatch(f"[+-]?{lang.NUMBER}", value.text) and len(value.text) < 200
                read = parse_decimal(value.text) if number else value.text
            fields.append(ExpectedField(location=key.location, name=name, value=read))
        return ExpectedRecord(location=node.location, fields=tuple(fields))
