"""The scenario language as a JSON Schema, for editors, and as a page, for people; both from the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.scenario import language as lang
from harness.scenario.language import Key, RecordField, Verb

_SIGNED = f"[+-]?{lang.NUMBER}"
_NAMED = r"(?: +\S.*)?"


def _pattern(regex: str, like: str | None = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "string", "pattern": f"^(?:{regex})$", **more}
    return found if like is None else {**found, "type": ["string", like]}


def _whole(low: int, high: int | None = None) -> dict[str, Any]:
    # `1_000` is text to an editor's YAML, a number to ours.
    found: dict[str, Any] = {"type": ["integer", "string"], "pattern": "^[1-9][0-9]*(?:_[0-9]+)+$", "minimum": low}
    return found if high is None else {**found, "maximum": high}


_EXACT = _pattern(rf"\+?{lang.NUMBER}(?: +raw)?{_NAMED}", "number", minimum=0)
_ANY = _pattern(rf"\+?(?:all|{lang.NUMBER}(?: ?%)?(?: +raw)?){_NAMED}", "number", minimum=0)
_SYMBOL = {"type": "string", "minLength": 1}

_RATIO = _pattern(rf"\+?{lang.NUMBER}(?: ?%)?", "number", minimum=0)
_PLACE = rf"{lang.INTEGER}(?:/{lang.INTEGER})?"

KINDS: Mapping[str, Mapping[str, Any]] = {
    "accruing_token": _SYMBOL,
    "actor": _pattern(lang.ACTOR, not_={"enum": list(lang.RESERVED_ACTORS)}),
    "address": _pattern("vault|0x[0-9a-fA-F]{40}"),
    "any_amount": _ANY,
    "assets": {"type": "array", "items": _SYMBOL},
    "balance": _EXACT,
    "block_number": _whole(0),
    "break_kind": {"enum": list(lang.BREAK_KINDS)},
    "cause": {"enum": list(lang.CAUSES)},
    "chain_id": _whole(1),
    "count": _whole(1),
    "date": _pattern(lang.DATE),
    "debt_token": _SYMBOL,
    "decimals": _whole(0, lang.MAX_DECIMALS),
    "deposit_event": {"const": "deposit"},
    "depth": _whole(1, lang.MAX_REORG_DEPTH),
    "end_block": _pattern(lang.END_BLOCK, "integer", minimum=0),
    "exact_amount": _EXACT,
    "exact_reserve": _EXACT,
    "exact_shares": _EXACT,
    "factor": _pattern(rf"\+?{lang.NUMBER}", "number", exclusiveMinimum=0),
    "fee": _RATIO,
    "field": {"type": "string", "minLength": 1, "maxLength": 100},
    "flag": {"type": "boolean"},
    "fraction": _pattern(rf"\+?{lang.NUMBER}", "number", minimum=0),
    "free": {"type": "object"},
    "hash": _pattern("0x[0-9a-fA-F]{64}"),
    "index_amount": _ANY,
    "index_token": _SYMBOL,
    "integer": _whole(0),
    "length": _pattern(lang.LENGTH),
    "moves": {
        "type": "object",
        "propertyNames": {"pattern": f"^(?:{_PLACE})$"},
        "additionalProperties": _whole(0),
    },
    "name": {"type": ["string", "number", "boolean"], "minLength": 1, "maxLength": lang.MAX_NAME_BYTES},
    "number": _pattern(_SIGNED, "number"),
    "opt_in_token": _SYMBOL,
    "owner": _pattern(f"{lang.ACTOR}|0x[0-9a-fA-F]{{40}}"),
    "places": {"type": "array", "items": _pattern(_PLACE, "integer", minimum=0)},
    "position": {"anyOf": [_whole(1), {"const": "new"}]},
    "position_id": _whole(1),
    "position_type": {"enum": list(lang.POSITION_TYPES)},
    "profile": {"enum": list(lang.NODE_PROFILES)},
    "quantity": _pattern(rf"{_SIGNED}(?: +raw)?{_NAMED}", "number"),
    "rate": _RATIO,
    "row_id": _pattern(lang.ROW_ID, "number"),
    "rebase_token": _SYMBOL,
    "refused": {"anyOf": [{"type": ["string", "number"], "minLength": 1}, {"const": True}]},
    "reason": {"type": ["string", "number", "boolean"], "minLength": 1},
    "reserve_amount": _ANY,
    "second": {"const": "second"},
    "share_count": _EXACT,
    "share_symbol": {"type": ["string", "number", "boolean"], "minLength": 1, "maxLength": lang.MAX_SYMBOL_BYTES},
    "shares": _ANY,
    "symbol": _SYMBOL,
    "symbols": {"type": "array", "items": _SYMBOL, "uniqueItems": True},
    "tags": {"type": "array", "items": {"type": ["string", "number"], "pattern": r"^\S+$"}, "uniqueItems": True},
    "text": {"type": ["string", "number", "boolean"]},
    "time": _pattern(lang.TIME),
    "title": {"type": ["string", "number", "boolean"], "minLength": 1},
    "token_kind": {"enum": list(lang.TOKEN_KINDS)},
    "usd": _pattern(rf"\+?{lang.NUMBER}", "number", exclusiveMinimum=0),
    "vault_kind": {"enum": list(lang.VAULT_KINDS)},
}
"""What may stand for each kind, as far as a schema can say it."""

_BALANCES = {
    "type": "object",
    "additionalProperties": {"$ref": "#/$defs/quantity"},
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a scenario file, as plain data.

    It knows what a schema can: keys, words and shapes. What depends on the file (tokens, decimals, the
    order of steps) only ``harness check`` knows.
    """
    defs: dict[str, Any] = {kind: _fixed(shape) for kind, shape in KINDS.items()}
    defs |= {f"record.{record}": _record(record) for record in lang.RECORDS}
    defs["dust"] = _mapping(lang.DUST)
    defs["token"] = {**_mapping(lang.TOKEN), "type": ["object", "null"]}
    defs["vault"] = _mapping(lang.VAULT)
    defs["tolerance"] = _mapping(lang.TOLERANCE)
    defs["known"] = _mapping(lang.KNOWN)
    defs["known_break"] = _mapping(lang.KNOWN_BREAK)
    defs["expect"] = _mapping(lang.EXPECT, minProperties=1)
    defs["contains"] = _mapping([key for key in lang.EXPECT if key.name not in ("chain", "contains")], minProperties=1)
    defs["chain"] = _mapping(lang.CHAIN, minProperties=1)
    defs["chain_step"] = _step([verb for verb in lang.VERBS if verb.chain], ("refused", "note"))
    defs["call"] = _step([verb for verb in lang.VERBS if verb.name in lang.CALLS], ())
    defs["branch_step"] = _step([lang.VERB[name] for name in lang.allowed("branch")], ("refused", "note"))
    defs["hook_step"] = _step([lang.VERB[name] for name in lang.allowed("hook")], ("refused", "note"))
    defs["step"] = _step(lang.VERBS, ("expect", "refused", "note"))
    defs = {name: _open_to_variables(shape) for name, shape in defs.items()}
    defs["variable"] = {"type": "string", "pattern": "^\\$[A-Za-z_][A-Za-z0-9_-]*$"}
    schema = _open_to_variables(_mapping([key for key in lang.HEADER if key.name not in ("variants", "include")]))
    literal = _mapping([key for key in lang.HEADER if key.name in ("variants", "include")])
    schema["properties"] |= literal["properties"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Scenario",
        "description": "What happens to a vault, block by block, and what its books must say.",
        **schema,
        "$defs": defs,
    }


def _open_to_variables(shape: Any) -> Any:
    """A schema whose values, one and all, may be a variant's `$name` instead."""
    if isinstance(shape, list):
        return [_open_to_variables(inner) for inner in shape]
    if not isinstance(shape, dict):
        return shape

    def opened(inner: dict[str, Any]) -> dict[str, Any]:
        inner = _open_to_variables(inner)
        about = {name: inner.pop(name) for name in ("description",) if name in inner}
        return {**about, "anyOf": [inner, {"$ref": "#/$defs/variable"}]}

    found: dict[str, Any] = {}
    for name, inner in shape.items():
        if name == "properties":
            found[name] = {key: opened(dict(value)) for key, value in inner.items()}
        elif name in ("items", "additionalProperties") and isinstance(inner, dict):
            found[name] = opened(dict(inner))
        else:
            found[name] = _open_to_variables(inner)
    return found


def schema_text() -> str:
    """The schema as the JSON text that is committed."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _fixed(shape: Mapping[str, Any]) -> dict[str, Any]:
    return {"not" if name == "not_" else name: value for name, value in shape.items()}


def _described(about: str, default: str | None, shape: Mapping[str, Any]) -> dict[str, Any]:
    text = about if default is None else f"{about} Default: {default}."
    return {"description": text, **shape}


def _mapping(keys: Iterable[Key], **more: Any) -> dict[str, Any]:
    usable = [key for key in keys if not key.planned]
    found: dict[str, Any] = {
        "type": "object",
        "properties": {key.name: _described(key.about, key.default, _shape(key.kind, key.name)) for key in usable},
        "additionalProperties": False,
        **more,
    }
    required = [key.name for key in usable if key.required]
    return {**found, "required": required} if required else found


def _shape(kind: str, name: str = "") -> dict[str, Any]:
    """What may stand under a key of this kind."""
    shape, _, record = kind.partition(":")
    if shape == "record":
        return {"$ref": f"#/$defs/record.{record}"}
    if shape == "list":
        return {"type": "array", "items": {"$ref": f"#/$defs/record.{record}"}}
    if shape == "map":
        return {"type": "object", "additionalProperties": {"$ref": f"#/$defs/record.{record}"}}
    match kind:
        case "balances":
            return _BALANCES
        case "positions":
            position = {"anyOf": [{"$ref": "#/$defs/record.Position"}, {"type": "null"}]}
            return {"type": "object", "propertyNames": {"pattern": "^[1-9][0-9]*$"}, "additionalProperties": position}
        case "laws_off":
            reason = {"$ref": "#/$defs/reason"}
            laws = {name: {"description": about, **reason} for name, about in lang.LAWS.items()}
            return {"type": "object", "properties": laws, "additionalProperties": False}
        case "variants":
            row = {
                "type": "object",
                "properties": {"id": _described("The row's id.", None, {"$ref": "#/$defs/row_id"})},
            }
            return {
                "type": "array",
                "minItems": 1,
                "maxItems": lang.MAX_VARIANTS,
                "items": {**row, "required": ["id"]},
            }
        case "include":
            path = {"type": "string", "minLength": 1}
            return {"anyOf": [path, {"type": "array", "minItems": 1, "items": path}]}
        case "defaults":
            verbs = [verb for verb in lang.VERBS if verb.keys and verb.body in ("keys", "optional")]
            steps = {
                verb.name: {
                    "description": f"For each `{verb.name}` step.",
                    **_mapping([replace(key, required=False) for key in verb.keys], minProperties=1),
                }
                for verb in verbs
            }
            return {"type": "object", "properties": steps, "additionalProperties": False}
        case "tolerances":
            return {"type": "array", "items": {"$ref": "#/$defs/tolerance"}}
        case "known_breaks":
            return {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/known_break"}}
        case "tokens":
            return {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#/$defs/token"}}
        case "actors":
            owned = {"type": ["object", "null"], "additionalProperties": {"$ref": "#/$defs/exact_amount"}}
            return {"type": "object", "propertyNames": {"$ref": "#/$defs/actor"}, "additionalProperties": owned}
        case "branch_steps":
            return {"type": "array", "items": {"$ref": "#/$defs/branch_step"}}
        case "hook_steps":
            return {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/hook_step"}}
        case "steps" if name == "deploy_block":
            return {"type": "array", "items": {"$ref": "#/$defs/chain_step"}}
        case "steps":
            return {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/step"}}
    return {"$ref": f"#/$defs/{kind}"}


def _step(verbs: Sequence[Verb], beside: Sequence[str]) -> dict[str, Any]:
    """A step: exactly one of the verbs, or an ``expect`` alone where that may stand."""
    properties = {verb.name: {"description": verb.about, **_body(verb)} for verb in verbs}
    properties |= {key.name: _described(key.about, None, _shape(key.kind)) for key in lang.BESIDE if key.name in beside}
    alone: list[dict[str, Any]] = [{"required": [verb.name]} for verb in verbs]
    one: list[dict[str, Any]] = list(alone)
    if "expect" in beside:
        one.append({"required": ["expect"], "not": {"anyOf": alone}})
    return {"type": "object", "properties": properties, "additionalProperties": False, "oneOf": one}


def _body(verb: Verb) -> dict[str, Any]:
    match verb.body:
        case "blocks":
            return _whole(1, lang.MAX_BLOCKS)
        case "steps":
            return {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/chain_step"}}
        case "calls":
            return {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/call"}}
        case "length":
            return {"anyOf": [{"$ref": "#/$defs/length"}, _mapping(verb.keys)]}
        case "optional":
            return {**_mapping(verb.keys), "type": ["object", "null"]}
    return _mapping(verb.keys)


def _record(record: str) -> dict[str, Any]:
    fields = {**lang.RECORDS[record], **lang.DERIVED.get(record, {})}
    named = {name: field for name, field in fields.items() if field.kind not in lang.NOT_COMPARED}
    for alias, name in lang.ALIASES.get(record, {}).items():
        named[alias] = fields[name]
    return {
        "type": "object",
        "properties": {name: {"description": field.about, **_field(field)} for name, field in named.items()},
        "additionalProperties": False,
    }


def _field(field: RecordField) -> dict[str, Any]:
    shape = _shape(field.kind)
    return {"anyOf": [shape, {"type": "null"}]} if field.nullable else shape


# -- the page


_VALUES = (
    (
        "amount",
        "`1_000.5 USDC`, `1 raw USDC`; a bare number, or `5 raw`, where only one token is possible; no exponents",
    ),
    ("part of an amount", "`40%`, `12.5% WETH`, `all`, `all WETH`; rounded down to a whole raw unit"),
    ("shares", "`300`, `300 shares`, `5 raw`, `50%`, `all`; the vault's symbol may stand for `shares`"),
    ("signed quantity, in `expect`", "`-200 USDC`, `-1 raw USDC`, `-200` in tokens of the record's asset"),
    ("time", "`2024-01-01 00:00` or `2024-01-01T00:00:12`, UTC"),
    ("length of time", "`12 s`, `5 minutes`, `6 hours`, `30 days`, `2 weeks`; whole seconds"),
    ("variant's value", "`$chunk`, as a whole value, in quotes just text; see `variants`"),
    ("end block", "`12`, `head`, `head-4`"),
    ("rate, fee", "`5%` or `0.05`"),
    ("transactions, in `reorg`", "`5`: all that block 5 holds; `5/2`: the second of them"),
)


def language_reference() -> str:
    """The language's keys as a Markdown page."""
    lines = [
        "# Scenario language: every key",
        "",
        "Printed from the tables that the loader reads by; `harness schema` prints the JSON Schema of the same.",
        "",
        "## Values",
        "",
        "| value | how it is written |",
        "| --- | --- |",
        *(f"| {name} | {how} |" for name, how in _VALUES),
        "",
        "Anchors, aliases, tags and merge keys are refused; every problem of a file is reported at once, at its place.",
        "",
        "## Header",
        "",
        *_table(lang.HEADER),
        "",
        "A token under `tokens:`",
        "",
        *_table(lang.TOKEN),
        "",
        "`dust:`",
        "",
        *_table(lang.DUST),
        "",
        "`vault:`",
        "",
        *_table(lang.VAULT),
        "",
        "`laws_off:`, a reason for each",
        "",
        "| law | what it says |",
        "| --- | --- |",
        *(f"| `{name}` | {about} |" for name, about in lang.LAWS.items()),
        "",
        "An entry of `tolerances:`",
        "",
        *_table(lang.TOLERANCE),
        "",
        "`known:`",
        "",
        *_table(lang.KNOWN),
        "",
        "An entry of its `breaks:`; a break is meant if it has each value that stands here",
        "",
        *_table(lang.KNOWN_BREAK),
        "",
        "## Steps",
        "",
        "Beside the verb of a step may stand:",
        "",
        *_table(lang.BESIDE),
    ]
    group = ""
    for verb in lang.VERBS:
        if verb.group != group:
            group = verb.group
            lines += ["", f"### {group[0].upper()}{group[1:]}"]
        only = "" if verb.vaults == lang.VAULT_KINDS else f" Only on {' and '.join(verb.vaults)}."
        lines += ["", f"#### `{verb.name}`", "", verb.about + only]
        if verb.keys:
            lines += ["", *_table(verb.keys)]
        if verb.name == "node":
            lines += ["", *_profiles()]
    lines += ["", "Not supported yet: " + ", ".join(f"`{name}`" for name in lang.VERBS_PLANNED) + "."]
    lines += ["", "## `expect`", "", *_table(lang.EXPECT), "", "`chain:`", "", *_table(lang.CHAIN)]
    for record, fields in lang.RECORDS.items():
        lines += ["", f"### {record}", "", "| field | what it is |", "| --- | --- |"]
        for name, field in {**fields, **lang.DERIVED.get(record, {})}.items():
            if field.kind not in lang.NOT_COMPARED:
                aliases = [alias for alias, real in lang.ALIASES.get(record, {}).items() if real == name]
                names = " or ".join(f"`{each}`" for each in [name, *aliases])
                lines.append(f"| {names} | {field.about} |")
    return "\n".join(lines) + "\n"


def _profiles() -> list[str]:
    lines = ["| profile | what it does | takes | a good syncer |", "| --- | --- | --- | --- |"]
    for name, profile in lang.NODE_PROFILES.items():
        takes = []
        for key, default in profile.takes.items():
            said = f" ({default})" if default is not None else " (required)" if key in profile.needs else ""
            takes.append(f"`{key}`{said}")
        ends = "gets through" if profile.recovers else "refuses"
        lines.append(f"| `{name}` | {profile.about} | {', '.join(takes)} | {ends} |")
    return lines


def _table(keys: Iterable[Key]) -> list[str]:
    lines = ["| key | what it says | default |", "| --- | --- | --- |"]
    for key in keys:
        if not key.planned:
            lines.append(f"| `{key.name}` | {key.about} | {'required' if key.required else key.default or ''} |")
    return lines
