"""The JSON Schema: committed, complete, and of one mind with the loader."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from harness.books import records
from harness.chain.profiles import PROFILES
from harness.scenario import language as lang
from harness.scenario import model
from harness.scenario.loader import loads
from harness.scenario.schema import KINDS, json_schema, language_reference, schema_text
from harness.scenario.values import Values
from tests.scenario_samples import SAMPLES

ROOT = Path(__file__).parent.parent
VALIDATOR = jsonschema.Draft202012Validator(json_schema())

WRONG_FOR_A_SCHEMA_TOO = (
    "unknown_header_key", "nothing_but_a_title", "no_tokens", "decimals_out_of_range",
    "unknown_token_key", "price_of_nothing", "token_kind_unknown", "vault_kind_unknown",
    "dust_negative", "start_is_a_date", "block_time_without_unit", "chain_id_zero", "tags_as_text", "unknown_step",
    "step_is_a_word", "two_verbs", "keys_beside_the_verb", "unknown_key_in_step", "missing_key", "note_misspelt",
    "steps_not_yet", "steps_as_mapping", "no_steps", "amount_negative", "amount_is_a_list",
    "length_with_wrong_unit", "mine_nothing", "sync_in_a_block", "block_in_a_block", "empty_block",
    "expect_in_a_block", "mint_takes_no_percentage", "restart_with_unknown_vault", "flag_in_words", "chunk_zero",
    "cycle_is_no_time", "sync_with_a_word", "end_block_misspelt", "expect_unknown_key", "expect_nothing",
    "expect_unknown_field", "expect_unknown_cause", "expect_unknown_position_type", "expect_clock_fields",
    "expect_ids", "expect_null_where_none_is", "expect_position_by_name", "expect_chain_within_contains",
    "actor_with_reserved_name", "many_at_once",
    "law_off_unknown", "laws_off_as_list", "tolerance_without_a_reason", "tolerance_wrongly",
    "tolerances_as_mapping", "known_lacks_everything", "known_wrongly", "known_without_breaks", "known_as_word",
    "transaction_of_nothing", "transaction_is_a_mapping", "transaction_with_a_trade", "transaction_call_refused",
    "transaction_call_misspelt", "reorg_without_a_depth", "reorg_with_nothing", "reorg_of_no_depth", "reorg_too_deep",
    "reorg_places_wrongly", "reorg_place_as_number", "reorg_moves_as_list", "reorg_moves_to_nowhere",
    "reorg_adds_a_sync", "reorg_adds_with_expect", "reorg_in_a_block", "reorg_key_misspelt", "charge_fee_in_percent",
    "charge_fee_to_nobody", "charge_fee_with_another_event", "replace_accessor_with_keys", "emit_of_no_accessor",
    "emit_in_percent", "emit_lacks_everything", "pause_in_words", "pause_of_the_vault", "accrue_backwards",
    "accrue_without_a_rate", "accrue_in_words", "borrow_in_percent", "borrow_at_a_new_position",
    "deposit_into_a_third_vault", "redeem_assets_wrongly", "fee_negative", "crash_without_a_number",
    "crash_at_nothing", "node_profile_unknown", "node_hook_of_nothing", "node_hook_with_a_sync", "node_with_a_word",
    "node_number_of_nothing", "correct_accounts_with_a_cycle", "variants_of_nothing", "variants_as_mapping",
    "variants_without_an_id", "variants_ids_wrongly", "variants_of_unlike_keys", "include_of_nothing",
    "include_as_mapping", "defaults_of_an_unknown_step", "defaults_of_an_unknown_key", "defaults_wrong",
    "defaults_as_list",
)  # fmt: skip


class _Core(yaml.SafeLoader):
    """YAML as editors read it (1.2, core schema): no dates, no `yes`, no `1_000`."""


_Core.yaml_implicit_resolvers = {}
for _tag, _regex, _first in (
    ("tag:yaml.org,2002:bool", r"^(?:true|false)$", "tf"),
    ("tag:yaml.org,2002:int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("tag:yaml.org,2002:null", r"^(?:~|null|)$", ["~", "n", ""]),
):
    _Core.add_implicit_resolver(_tag, re.compile(_regex), list(_first))


def _data(text: str) -> Any:
    return _with_text_keys(yaml.load(text, Loader=_Core))


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_text_keys(inner) for key, inner in value.items()}
    return [_with_text_keys(inner) for inner in value] if isinstance(value, list) else value


def _properties(schema: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _properties(inner)


def test_committed_schema_is_the_one_that_the_tables_give() -> None:
    assert schema_text() == (ROOT / "schema" / "scenario.json").read_text(encoding="utf-8")


def test_committed_page_is_the_one_that_the_tables_give() -> None:
    assert language_reference() == (ROOT / "docs" / "scenario_language.md").read_text(encoding="utf-8")


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_every_key_is_described() -> None:
    described = list(_properties(json_schema()))
    assert len(described) > 150
    assert [name for name, schema in described if not schema.get("description")] == []


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_what_loads_is_valid(name: str) -> None:
    loads(SAMPLES[name], name)
    assert [error.message for error in VALIDATOR.iter_errors(_data(SAMPLES[name]))] == []


@pytest.mark.parametrize("name", WRONG_FOR_A_SCHEMA_TOO)
def test_what_a_schema_can_see_to_be_wrong_is_invalid(name: str) -> None:
    text = (ROOT / "tests" / "broken" / f"{name}.yaml").read_text(encoding="utf-8")
    assert not VALIDATOR.is_valid(_data(text))


def test_each_kind_has_one_reader_and_one_definition() -> None:
    header = [*lang.HEADER, *lang.TOKEN, *lang.DUST, *lang.VAULT, *lang.TOLERANCE, *lang.KNOWN, *lang.KNOWN_BREAK]
    keys = [*header, *(key for verb in lang.VERBS for key in verb.keys)]
    used = {key.kind for key in keys} | {
        field.kind for record in lang.RECORDS.values() for field in record.values() if ":" not in field.kind
    }
    ruled = {"laws_off", "tolerances", "known", "known_breaks", "variants", "include", "defaults"}
    elsewhere = ruled | {"tags", "tokens", "vault", "actors", "steps", "planned", "dust", "quantity", "free", "assets"}
    elsewhere |= {"branch_steps", "hook_steps"}
    reader = Values("x.yaml")
    assert used - elsewhere - set(lang.NOT_COMPARED) <= set(reader.kinds)
    defined = {"tokens", "vault", "actors", "steps", "planned", "dust", "branch_steps", "hook_steps", *ruled}
    assert used - defined - set(lang.NOT_COMPARED) <= set(KINDS)


def test_records_have_the_fields_that_the_books_have() -> None:
    expected = {
        name: [field.name for field in dataclasses.fields(getattr(records, name)) if field.name != "unknown_keys"]
        for name in lang.RECORDS
    }
    assert expected == {name: list(fields) for name, fields in lang.RECORDS.items()}
    assert hasattr(records.Position, "quantity")


def test_records_may_be_null_where_the_books_may() -> None:
    for name, fields in lang.RECORDS.items():
        for field in dataclasses.fields(getattr(records, name)):
            if field.name in fields and fields[field.name].kind not in lang.NOT_COMPARED:
                assert ("None" in str(field.type)) == fields[field.name].nullable, (name, field.name)


def test_profiles_are_those_of_the_nodes() -> None:
    told = {name: (dict(profile.takes), profile.recovers) for name, profile in lang.NODE_PROFILES.items()}
    real = {
        name: ({key: getattr(profile, key) for key in profile.parameters}, profile.recovers)
        for name, profile in PROFILES.items()
    }
    assert list(real.items()) == list(told.items())
    assert set(lang.NODE_NUMBERS) == {key for takes, _ in told.values() for key in takes}
    assert all(set(profile.needs) <= set(profile.takes) for profile in lang.NODE_PROFILES.values())


def test_a_variants_name_may_stand_for_any_value() -> None:
    text = """\
variants: [{id: a, n: 1, who: bob, steps: [mine: 1]}]
tokens: {USDC: {decimals: $n}}
vault: {kind: erc4626}
steps:
  - deposit: {caller: $who, assets: $n}
  - block: $steps
  - mine: $n
  - node: {profile: range-cap, blocks: $n}
  - reorg: {depth: $n, drop: [$n], move: {5: $n}}
  - sync: {chunk: $n}
    expect: {positions: {1: {quantity: $n}}, updates: [$n]}
"""
    assert [error.message for error in VALIDATOR.iter_errors(_data(text))] == []
    assert not VALIDATOR.is_valid(_data(text.replace("mine: $n", "mine: $")))


def test_causes_and_position_types_are_those_of_the_books() -> None:
    assert tuple(cause.value for cause in records.BalanceUpdateCause) == lang.CAUSES
    assert tuple(kind.value for kind in records.BalanceUpdatePositionType) == lang.POSITION_TYPES


def test_each_step_has_a_key_for_each_field() -> None:
    beside = {field.name for field in dataclasses.fields(model.StepBase)}
    for verb in lang.VERBS:
        fields = {field.name for field in dataclasses.fields(verb.step)} - beside
        keys = {key.field or key.name for key in verb.keys if not key.planned}
        bodies = {"length": {"duration"}, "blocks": {"blocks"}, "steps": {"steps"}, "calls": {"calls"}}
        assert fields == keys | bodies.get(verb.body, set()), verb.name
