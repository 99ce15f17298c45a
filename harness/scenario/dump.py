"""A `Scenario` as YAML, so that the loader reads an equal one."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from harness.scenario import language as lang
from harness.scenario.language import Key
from harness.scenario.model import (
    Actor,
    Amount,
    Block,
    Check,
    EndBlock,
    Expectation,
    ExpectedBalance,
    ExpectedChain,
    ExpectedField,
    ExpectedRecord,
    KnownBreak,
    Mine,
    Place,
    Quantity,
    Scenario,
    Step,
    TokenSpec,
    Tolerance,
    Transaction,
    Wait,
)
from harness.units import PRICE_DECIMALS, exact, format_units

_PLAIN = re.compile(r"[+-]?[A-Za-z_0-9][A-Za-z0-9_.+%-]*(?: [A-Za-z0-9_.+%-]+)*(?::[0-9]{2}){0,2}")
_WORDS = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
"""What YAML readers take for something else than text, in any case."""


class _Text(str):
    """Text that must stay text: quoted where YAML or we would take it for something else."""


def dump(scenario: Scenario) -> str:
    """Write a scenario as YAML that loads to an equal one, but for places and text.

    Raises:
        ValueError: If it holds a number that has no finite decimal form.
    """
    return "\n".join(_lines(_scenario(scenario), 0)) + "\n"


# -- values to plain data


def _scenario(scenario: Scenario) -> dict[str, Any]:
    data: dict[str, Any] = {"title": _Text(scenario.title)}
    if scenario.tags:
        data["tags"] = [_Text(tag) for tag in scenario.tags]
    data["start"] = _plain(scenario.start)
    data["block_time"] = _plain(scenario.block_time)
    data["chain_id"] = scenario.chain_id
    data["interest_bound"] = _plain(scenario.interest_bound)
    data["tokens"] = {symbol: _token(spec) for symbol, spec in scenario.tokens.items()}
    vault = scenario.vault
    data["vault"] = {
        "kind": vault.kind,
        "name": _Text(vault.name),
        "symbol": _Text(vault.symbol),
        "reserve": _Text(vault.reserve),
    }
    if vault.tracked is not None:
        data["vault"]["tracked"] = [_Text(symbol) for symbol in vault.tracked]
    if scenario.actors:
        data["actors"] = {
            name: None
            if holdings is None
            else {symbol: _units(scenario, raw, symbol) for symbol, raw in holdings.items()}
            for name, holdings in scenario.actors.items()
        }
    if scenario.laws_off:
        data["laws_off"] = {off.law: _Text(off.reason) for off in scenario.laws_off}
    if scenario.tolerances:
        data["tolerances"] = [_tolerance(tolerance, scenario) for tolerance in scenario.tolerances]
    if scenario.known is not None:
        data["known"] = {
            "reason": _Text(scenario.known.reason),
            "until": _plain(scenario.known.until),
            "breaks": [_known_break(each) for each in scenario.known.breaks],
        }
    if scenario.deploy_block:
        data["deploy_block"] = [_step(step, scenario) for step in scenario.deploy_block]
    data["steps"] = [_step(step, scenario) for step in scenario.steps]
    return data


def _token(spec: TokenSpec) -> dict[str, Any]:
    data: dict[str, Any] = {
        "decimals": spec.decimals,
        "usd": _number(Fraction(spec.price_raw, 10**PRICE_DECIMALS)),
        "name": _Text(spec.name),
        "kind": spec.kind,
    }
    if spec.underlying is not None:
        data["underlying"] = _Text(spec.underlying)
    if spec.kind == "fee_on_transfer":
        data["fee"] = _number(spec.fee)
    if spec.dust_absolute or spec.dust_relative:
        data["dust"] = {"absolute": _plain(spec.dust_absolute), "relative": _plain(spec.dust_relative)}
    return data


def _tolerance(tolerance: Tolerance, scenario: Scenario) -> dict[str, Any]:
    data: dict[str, Any] = {"allow": _units(scenario, tolerance.raw, tolerance.asset)}
    if tolerance.field is not None:
        data["field"] = _Text(tolerance.field)
    return {**data, "reason": _Text(tolerance.reason)}


def _known_break(known: KnownBreak) -> dict[str, Any]:
    values = {key.name: getattr(known, key.name) for key in lang.KNOWN_BREAK}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _step(step: Step, scenario: Scenario) -> dict[str, Any]:
    data: dict[str, Any] = {}
    match step:
        case Check():
            pass
        case Mine():
            data["mine"] = step.blocks
        case Block():
            data["block"] = [_step(inner, scenario) for inner in step.steps]
        case Transaction():
            data["transaction"] = [_step(call, scenario) for call in step.calls]
        case Wait():
            data["wait"] = _plain(step.duration) if step.duration is not None else {"until": _plain(step.until)}
        case _:
            verb = next(verb for verb in lang.VERBS if verb.step is type(step))
            data[verb.name] = dict(_keys(step, verb.keys, scenario)) or None
    if step.expect is not None:
        data["expect"] = _expect(step.expect, scenario)
    if step.refused is not None:
        data["refused"] = _Text(step.refused) if step.refused else True
    if step.note is not None:
        data["note"] = _Text(step.note)
    return data


def _keys(step: Step, keys: Sequence[Key], scenario: Scenario) -> Iterator[tuple[str, Any]]:
    defaults = {field.name: field.default for field in dataclasses.fields(step)}
    for key in keys:
        if key.planned:
            continue
        value = getattr(step, key.field or key.name)
        if value == defaults[key.field or key.name]:
            continue
        if key.kind in ("factor", "rate"):
            yield key.name, _number(Fraction(value, 10**27))
        elif key.kind == "usd":
            yield key.name, _number(Fraction(value, 10**PRICE_DECIMALS))
        elif key.kind == "second":
            yield key.name, "second"
        elif key.kind == "deposit_event":
            yield key.name, "deposit"
        elif key.kind == "symbols":
            yield key.name, [_Text(symbol) for symbol in value]
        elif key.kind == "places":
            yield key.name, [_place(place) for place in value]
        elif key.kind == "moves":
            yield key.name, {_place(place): target for place, target in value}
        elif key.kind in ("branch_steps", "hook_steps"):
            yield key.name, [_step(inner, scenario) for inner in value]
        elif isinstance(value, Amount):
            yield key.name, _amount(value, scenario)
        else:
            yield key.name, _plain(value)


def _place(place: Place) -> int | str:
    return place.block if place.transaction is None else f"{place.block}/{place.transaction}"


def _amount(amount: Amount, scenario: Scenario) -> str:
    if amount.raw is not None:
        return _units(scenario, amount.raw, amount.token)
    part = "all" if amount.percent is None else f"{_number(amount.percent * 100)}%"
    return f"{part} {amount.token}"


def _units(scenario: Scenario, raw: int, token: str) -> str:
    return f"{_trimmed(format_units(raw, scenario.token(token).decimals))} {token}"


def _expect(expect: Expectation, scenario: Scenario) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if expect.updates is not None:
        data["updates"] = [_record(record, scenario) for record in expect.updates]
    if expect.balances:
        data["balances"] = _balances(expect.balances, scenario)
    for name in ("positions", "closed_positions"):
        positions: Mapping[int, ExpectedRecord] | None = getattr(expect, name)
        if positions is not None:
            data[name] = {number: _record(record, scenario) for number, record in positions.items()}
    for name in ("deployment", "treasury", "accounting", "interest"):
        record: ExpectedRecord | None = getattr(expect, name)
        if record is not None:
            data[name] = _record(record, scenario)
    if expect.chain is not None:
        data["chain"] = _chain(expect.chain, scenario)
    if expect.contains is not None:
        data["contains"] = _expect(expect.contains, scenario)
    return data


def _balances(balances: Sequence[ExpectedBalance], scenario: Scenario) -> dict[str, str]:
    return {balance.token: _units(scenario, balance.raw, balance.token) for balance in balances}


def _chain(chain: ExpectedChain, scenario: Scenario) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if chain.balances:
        data["balances"] = _balances(chain.balances, scenario)
    if chain.share_count is not None:
        data["share_count"] = _number(chain.share_count)
    if chain.share_price is not None:
        data["share_price"] = _number(chain.share_price)
    return data


def _record(record: ExpectedRecord, scenario: Scenario) -> dict[str, Any]:
    return {named.name: _value(named, scenario) for named in record.fields}


def _value(named: ExpectedField, scenario: Scenario) -> Any:
    value = named.value
    if isinstance(value, ExpectedRecord):
        return _record(value, scenario)
    if isinstance(value, tuple):
        if named.name == "assets":
            return [_plain(inner.fields[0].value) for inner in value]
        return [_record(inner, scenario) for inner in value]
    if isinstance(value, Mapping):
        return {symbol: _record(inner, scenario) for symbol, inner in value.items()}
    if isinstance(value, Quantity):
        return _units(scenario, value.raw, value.token)
    return _plain(value)


def _plain(value: object) -> Any:
    match value:
        case None | bool() | int():
            return value
        case Actor():
            return _Text(value.name)
        case str():
            return _Text(value)
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
        case date():
            return value.isoformat()
        case timedelta():
            return f"{value // timedelta(seconds=1)} s"
        case Decimal():
            return _number(exact(value))
        case Fraction():
            return _number(value)
        case EndBlock():
            return value.number if value.number is not None else f"head-{value.below_head}"
    raise ValueError(f"{value!r} cannot be written")


def _number(number: Fraction) -> str:
    """A number in decimals, exactly."""
    places = 0
    scaled = number
    while scaled.denominator != 1:
        places += 1
        scaled = number * 10**places
        if places > 400:
            raise ValueError(f"{number} has no finite decimal form")
    return format_units(scaled.numerator, places)


def _trimmed(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


# -- plain data to YAML


def _lines(data: Mapping[Any, Any], indent: int) -> Iterator[str]:
    pad = " " * indent
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield f"{pad}{_scalar(key)}:"
            yield from _lines(value, indent + 2)
        elif isinstance(value, list) and value:
            yield f"{pad}{_scalar(key)}:"
            yield from _items(value, indent + 2)
        else:
            shown = _scalar(value)
            yield f"{pad}{_scalar(key)}:" + (f" {shown}" if shown else "")


def _items(items: Sequence[Any], indent: int) -> Iterator[str]:
    pad = " " * indent
    for item in items:
        if isinstance(item, dict) and item:
            first, *rest = _lines(item, indent + 2)
            yield f"{pad}- {first.lstrip(' ')}"
            yield from rest
        else:
            yield f"{pad}- {_scalar(item)}"


def _scalar(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value == {} and isinstance(value, dict):
        return "{}"
    if value == [] and isinstance(value, list):
        return "[]"
    text = str(value)
    if isinstance(value, int):
        return text
    if not _PLAIN.fullmatch(text) or text.lower() in _WORDS or (isinstance(value, _Text) and _is_number(text)):
        return json.dumps(text, ensure_ascii=False)
    return text


def _is_number(text: str) -> bool:
    return re.fullmatch(f"[+-]?{lang.NUMBER}", text) is not None
