"""State files load, save and load to equal books; what is no books is refused with the field's path."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from harness.books import (
    AssetIdentifier,
    BalanceUpdate,
    BalanceUpdateCause,
    Books,
    InterestDistributionEntry,
    InterestDistributionOperation,
    Portfolio,
    Position,
    books_from_json,
    books_to_json,
    check_books,
    copy_books,
    dump_books,
    load_books,
    read_state_file,
    records,
    save_books,
    state_file,
)
from harness.errors import BooksError, OutputError

FILES = sorted((Path(__file__).parent / "state_files").glob("*.json"))
CREDIT = Path(__file__).parent / "state_files" / "credit_supply.json"
OLD = Path(__file__).parent / "state_files" / "older_version.json"
RESERVE = "portfolio.reserves['31337-0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa']"


def ids(path: Path) -> str:
    return path.stem


def credit() -> Any:
    return json.loads(CREDIT.read_text())


def only_reserve(parsed: Any) -> Any:
    return next(iter(parsed["portfolio"]["reserves"].values()))


# ---------------------------------------------------------------- load, save, load


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_saved_file_loads_to_equal_books(path: Path) -> None:
    books = read_state_file(path)
    again = load_books(dump_books(books))
    assert books == again
    # Equality of records overlooks digits of decimals and what describes an asset; text does not.
    assert dump_books(books) == dump_books(again)
    assert dump_books(books, indent=None) == dump_books(again, indent=None)


@pytest.mark.parametrize("path", [path for path in FILES if path != OLD], ids=ids)
def test_a_file_in_production_s_shape_is_saved_byte_for_byte(path: Path) -> None:
    assert path.read_text() == dump_books(read_state_file(path))


def test_an_old_file_is_saved_with_the_documented_normalisations_only() -> None:
    def saved(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            items = {name: saved(item, name) for name, item in value.items()}
            return items | {"other_data": None} if "balance_update_id" in value else items
        if isinstance(value, list):
            return [saved(item) for item in value]
        if key == "log_index" and value is not None:
            return int(value, 16)
        return {"0.00000001": "1E-8"}.get(value, value) if isinstance(value, str) else value

    expected = saved(json.loads(OLD.read_text()))
    expected["portfolio"] |= {"next_position_id": 5, "next_trade_id": 10}
    actual = books_to_json(read_state_file(OLD))
    assert expected == actual
    assert isinstance(actual["sync"]["treasury"]["last_updated_at"], int)


def test_fields_have_the_types_of_the_records() -> None:
    books = read_state_file(CREDIT)
    update = books.portfolio.open_positions[1].balance_updates[3]
    assert BalanceUpdateCause.redemption is update.cause
    assert datetime(2023, 11, 14, 23, 15) == update.block_mined_at
    assert Decimal("-4.003409") == update.quantity
    assert {"skipped_legs": [{"asset": "0x" + "bb" * 20, "quantity": "1E-18"}], "note": "über €"} == update.other_data
    assert datetime(2023, 11, 14, 23, 20, 0, 500_000) == books.sync.treasury.last_updated_at
    assert "0x" + "19" * 32 == books.block_hashes[319]
    assert 6 == books.portfolio.next_trade_id
    assert books.portfolio.open_positions[1].asset.is_rebase()
    assert 454 == next(iter(read_state_file(OLD).portfolio.reserves.values())).balance_updates[1].log_index


def test_unknown_keys_are_kept_at_every_level_and_in_order() -> None:
    parsed = credit()
    unknown = {"z": 1, "a": {"2": [None, 1.5], "1": "x"}, "m": []}
    count = 0
    for record in _records(parsed):
        record.update(unknown)
        count += 1
    books = books_from_json(parsed)
    assert count > 30
    assert parsed == books_to_json(books)
    assert ["z", "a", "m"] == list(books.unknown_keys)
    assert [*unknown] == [key for key in books_to_json(books)["sync"]["treasury"] if key in unknown]
    assert dump_books(books) == dump_books(check_books(books)) == dump_books(copy_books(books))


def _records(parsed: Any) -> Iterator[dict[str, Any]]:
    return (obj for obj, _, _ in {id(obj): (obj, 0, 0) for obj, _, _, _ in _known_fields(parsed)}.values())


@pytest.mark.parametrize(
    "text", ["0", "-0", "0E-18", "1.50", "-1E-18", "1E+5", "76.0137467500001709995558485", "0." + "3" * 1074]
)
def test_decimals_stay_exactly_as_written(text: str) -> None:
    parsed = credit()
    only_reserve(parsed)["quantity"] = text
    assert text == only_reserve(books_to_json(books_from_json(parsed)))["quantity"]


@pytest.mark.parametrize("seconds", [0.000_249, 1.001001, 1_700_000_000.000001, 2**33 - 0.000001])
def test_a_fraction_of_a_second_is_read_to_the_nearest_microsecond(seconds: float) -> None:
    parsed = credit()
    parsed["sync"]["treasury"]["last_cycle_at"] = seconds
    books = books_from_json(parsed)
    assert books.sync.treasury.last_cycle_at is not None
    assert books.sync.treasury.last_cycle_at.microsecond == round(seconds % 1 * 1_000_000)
    assert seconds == books_to_json(books)["sync"]["treasury"]["last_cycle_at"]


def test_a_missing_counter_follows_from_the_ids_in_use() -> None:
    parsed = credit()
    del parsed["portfolio"]["next_position_id"], parsed["portfolio"]["next_trade_id"]
    books = books_from_json(parsed)
    assert (4, 6) == (books.portfolio.next_position_id, books.portfolio.next_trade_id)


def test_books_of_nothing_save_and_load() -> None:
    assert Books() == load_books(dump_books(Books()))
    assert "block_hashes" not in books_to_json(Books())
    assert not read_state_file(CREDIT.with_name("not_initialised.json")).sync.is_initialised()


# ---------------------------------------------------------------- damage

WRONG = [None, True, False, {}, {"no": "field"}, [], ["x"], "", "text", -1, 7, 7.5, 1e300, 2**64, "1e999999999", "NaN"]


def _known_fields(parsed: Any) -> Iterator[tuple[dict[str, Any], str, str, state_file._Field]]:
    """Each field that a file has, with the object that it stands in, and its path."""
    yield from _fields_of(state_file._BOOKS, parsed, "")


def _fields_of(kind: Any, value: Any, path: str) -> Iterator[tuple[dict[str, Any], str, str, state_file._Field]]:
    if isinstance(kind, state_file._Record) and isinstance(value, dict):
        for name, field in kind.written:
            if name in value:
                here = f"{path}.{name}".removeprefix(".")
                yield value, name, here, field
                yield from _fields_of(field.kind, value[name], here)
    elif isinstance(kind, state_file._Map) and isinstance(value, dict):
        for key, item in value.items():
            yield from _fields_of(kind.item, item, f"{path}[{key!r}]")
    elif isinstance(kind, state_file._List) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _fields_of(kind.item, item, f"{path}[{index}]")


# What may stand there beside the type that the file has, by field: SYNC-wise both are right.
ALSO = {
    "share_count": (int, float, str),
    "log_index": (int, str),
    "effective_rate": (int, float, dict),
}
FLOATS = {
    "usd_value", "pending_deposits", "pending_redemptions", "reserve_token_price", "last_token_price", "price",
}  # fmt: skip


def _same_type(name: str, old: Any, wrong: Any, nullable: bool) -> bool:
    """Tell whether a value is of a type that this field may have; judged here apart from the code."""
    if wrong is None:
        return nullable
    if isinstance(wrong, bool):
        return False
    if old is None:
        return True
    if name in ALSO:
        return isinstance(wrong, ALSO[name])
    if name in FLOATS or name.endswith("_at") or name in ("start", "end"):
        return isinstance(wrong, (int, float))
    return type(wrong) is type(old)


NULLABLE = {
    "strategy_cycle_included_at", "created_at", "previous_update_at", "owner_address", "tx_hash", "log_index",
    "position_id", "notes", "block_number", "other_data", "usd_value", "last_updated_at", "last_cycle_at",
    "last_block_scanned", "pending_deposits", "pending_redemptions", "share_count",
    "last_lagoon_settlement_block_scanned", "last_sync_at", "last_sync_block", "last_distribution", "effective_rate",
    "side", "position", "tracker", "weight", "price", "reserve_token_price", "last_pricing_at", "opened_at",
    "closed_at", "frozen_at", "reserve_currency", "last_token_price", "loan", "collateral", "collateral_interest",
    "borrowed", "borrowed_interest", "last_event_at", "last_updated_block_number", "executed_at", "executed_quantity",
    "executed_reserve", "failed_at", "kind", "type", "underlying", "chain_id", "address", "block_mined_at",
    "vault_token_name", "vault_token_symbol", "initialised_at",
}  # fmt: skip


def _is_nullable(path: str, name: str) -> bool:
    if name in ("chain_id", "address", "block_mined_at"):
        return path.startswith("sync.deployment.")
    if name == "usd_value":
        return "balance_update_refs" in path
    if name == "effective_rate":
        return "asset_interest_data" not in path
    if name == "position_id":
        return "balance_updates" in path or "balance_update_refs" in path
    return name in NULLABLE


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_any_known_field_of_another_type_is_refused_with_its_path(path: Path) -> None:
    parsed = json.loads(path.read_text())
    damaged = 0
    for obj, name, field_path, _ in list(_known_fields(parsed)):
        old = obj[name]
        for wrong in WRONG:
            if _same_type(name, old, wrong, _is_nullable(field_path, name)):
                continue
            obj[name] = wrong
            with pytest.raises(BooksError) as caught:
                books_from_json(parsed)
            assert caught.value.path == field_path or caught.value.path.startswith((field_path + "[", field_path + "."))
            assert caught.value.message
            damaged += 1
        obj[name] = old
    books_from_json(parsed)
    assert damaged > 300 or path.stem == "not_initialised"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_value_out_of_its_range_is_refused(path: Path) -> None:
    parsed = json.loads(path.read_text())
    for obj, name, field_path, field in list(_known_fields(parsed)):
        old = obj[name]
        worse: list[Any] = {
            state_file._Int: [-1, 2**63],
            state_file._Time: [-1, 2**33, 1_700_000_000_000, float("nan"), float("inf")],
            state_file._Float: [float("nan"), float("inf"), 2**53 + 1, 10**400],
            state_file._Decimal: ["NaN", "Infinity", "1e999999999", "1" * 2001, " 1", "1_0", "٣", ".5", "1.", "1e3001"],
            state_file._Enum: ["Deposit", "reserves", "", "\ud800"],
            state_file._Word: ["", "\ud800"],
            state_file._Text: ["a\udc00b"],
            state_file._LogIndex: ["0x", "1c6", "0x-1", "0x" + "f" * 17, -1],
        }.get(type(field.kind), [])
        for wrong in worse:
            obj[name] = wrong
            with pytest.raises(BooksError) as caught:
                books_from_json(parsed)
            assert field_path == caught.value.path
        obj[name] = old


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_field_that_is_missing_is_refused_with_its_path_unless_it_may_be(path: Path) -> None:
    parsed = json.loads(path.read_text())
    optional = set()
    for obj, name, field_path, _ in list(_known_fields(parsed)):
        old = obj.pop(name)
        refused: BooksError | None = None
        try:
            books_from_json(parsed)
            optional.add(name)
        except BooksError as error:
            refused = error
        if refused is not None:
            assert (field_path, True) == (refused.path, "missing" in refused.message)
        obj[name] = old
    assert optional <= {
        "pending_deposits", "pending_redemptions", "share_count", "last_lagoon_settlement_block_scanned",
        "other_data", "notes", "created_at", "previous_update_at", "vault_token_name", "vault_token_symbol",
        "type", "underlying", "block_number", "tx_hash", "next_position_id", "next_trade_id", "block_hashes",
    }  # fmt: skip


def test_an_update_s_and_a_deployment_s_block_and_transaction_may_not_be_missing() -> None:
    for name in ("block_number", "tx_hash"):
        parsed = credit()
        del only_reserve(parsed)["balance_updates"]["1"][name]
        with pytest.raises(BooksError, match="missing"):
            books_from_json(parsed)
        del (parsed := credit())["sync"]["deployment"][name]
        with pytest.raises(BooksError, match="missing"):
            books_from_json(parsed)


def test_a_misspelt_field_is_named() -> None:
    parsed = credit()
    parsed["sync"]["treasury"]["last_block_scaned"] = parsed["sync"]["treasury"].pop("last_block_scanned")
    with pytest.raises(
        BooksError, match=r"^sync\.treasury\.last_block_scanned: is missing.*'last_block_scaned' stands"
    ):
        books_from_json(parsed)


def test_a_misspelt_cause_is_told_the_nearest() -> None:
    parsed = credit()
    only_reserve(parsed)["balance_updates"]["1"]["cause"] = "deposits"
    with pytest.raises(BooksError, match="did you mean 'deposit'") as caught:
        books_from_json(parsed)
    assert f"{RESERVE}.balance_updates['1'].cause" == caught.value.path


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda p: p["open_positions"].update({"01": p["open_positions"].pop("1")}), "portfolio.open_positions['01']"),
        (lambda p: p["open_positions"].update({"-1": p["open_positions"].pop("1")}), "portfolio.open_positions['-1']"),
        (lambda p: p["open_positions"].update({"x": p["open_positions"].pop("1")}), "portfolio.open_positions['x']"),
        (
            lambda p: p["open_positions"].update({"9": p["open_positions"].pop("1")}),
            "portfolio.open_positions['9'].position_id",
        ),
        (
            lambda p: p["open_positions"].update({"9" * 19: p["open_positions"].pop("1")}),
            f"portfolio.open_positions['{'9' * 19}']",
        ),
        (
            lambda p: p["open_positions"]["1"]["balance_updates"].update(
                {"7": p["open_positions"]["1"]["balance_updates"].pop("2")}
            ),
            "portfolio.open_positions['1'].balance_updates['7'].balance_update_id",
        ),
        (
            lambda p: p["reserves"].update({"1-0xaa": p["reserves"].popitem()[1]}),
            "portfolio.reserves['1-0xaa'].asset",
        ),
        (lambda p: p["reserves"].update({"": p["reserves"].popitem()[1]}), "portfolio.reserves['']"),
    ],
)
def test_a_key_that_is_not_its_record_s_is_refused(change: Any, path: str) -> None:
    parsed = credit()
    change(parsed["portfolio"])
    with pytest.raises(BooksError) as caught:
        books_from_json(parsed)
    assert path == caught.value.path


def test_an_entry_s_position_and_tracker_have_their_known_fields_checked() -> None:
    for name, field, wrong in (("position", "position_id", "1"), ("tracker", "quantity", 1.5), ("tracker", "asset", 7)):
        parsed = credit()
        parsed["sync"]["interest"]["last_distribution"]["entries"][0][name][field] = wrong
        with pytest.raises(BooksError) as caught:
            books_from_json(parsed)
        assert f"sync.interest.last_distribution.entries[0].{name}.{field}" == caught.value.path


# ---------------------------------------------------------------- text that is no JSON, or not of this kind


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("", "", "is no JSON: line 1, column 1"),
        ('{"sync": {', "", "is no JSON: line 1, column 11"),
        ("\ufeff{}", "", "is no JSON"),
        ("[]", "", "found a list, expected an object"),
        ("null", "", "found null, expected an object"),
        ("{}", "sync", "is missing"),
        (b"\xff", "", "is no UTF-8 text"),
        ("[" * 100_000, "", "nested too deeply"),
        ('{"a":' * 100_000, "", "nested too deeply"),
        ('{"x": ' + "1" * 5_000 + "}", "", "cannot|can be read"),
    ],
)
def test_text_that_is_no_state_file_is_refused(text: str | bytes, path: str, message: str) -> None:
    with pytest.raises(BooksError, match=message) as caught:
        load_books(text)
    assert path == caught.value.path


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["usd_value", "somebody_else_s"])
def test_numbers_that_are_none_are_refused_even_under_unknown_keys(number: str, place: str) -> None:
    parsed = credit()
    only_reserve(parsed)["balance_updates"]["1"][place] = 987654321.5
    text = json.dumps(parsed).replace("987654321.5", number)
    with pytest.raises(BooksError) as caught:
        load_books(text)
    field = ".usd_value" if place == "usd_value" else "['somebody_else_s']"
    assert f"{RESERVE}.balance_updates['1']{field}" == caught.value.path


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ('"treasury": {', '"treasury": {"last_block_scanned": 1, ', "sync.treasury['last_block_scanned']"),
        ('"notes": null', '"notes": {"a": 1, "a": 2}', "notes"),
        ('"skipped_legs": [', '"skipped_legs": [{"k": {"a": 1, "a": 1}}, ', "other_data['skipped_legs'][0]['k']['a']"),
        ('"open_positions": {', '"open_positions": {"2": 1, ', "portfolio.open_positions['2']"),
        ('"internal_id": null', '"internal_id": {"a": 1, "a": 1}', "['internal_id']['a']"),
    ],
)
def test_a_repeated_key_is_refused_where_it_stands(old: str, new: str, path: str) -> None:
    text = json.dumps(credit())
    assert old in text
    with pytest.raises(BooksError) as caught:
        load_books(text.replace(old, new, 1))
    assert path in caught.value.path


def test_half_a_surrogate_pair_is_refused_everywhere() -> None:
    for place in ("['k']", "key"):
        parsed = credit()
        parsed["sync"]["mine"] = {"k": "\ud83d"} if place != "key" else {"\ud83d": 1}
        with pytest.raises(BooksError, match="surrogate") as caught:
            load_books(json.dumps(parsed))
        assert caught.value.path.startswith("sync['mine']")
        str(caught.value).encode()


def test_unknown_keys_nest_to_a_bound() -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return value

    assert nested(60) == books_from_json(credit() | {"mine": nested(60)}).unknown_keys["mine"]
    with pytest.raises(BooksError, match="nested"):
        books_from_json(credit() | {"mine": nested(70)})


def test_a_token_that_wraps_without_end_is_refused() -> None:
    parsed = credit()
    asset = only_reserve(parsed)["asset"]
    for _ in range(5):
        asset["underlying"] = dict(asset)
        asset = asset["underlying"]
    with pytest.raises(BooksError, match="wraps more than") as caught:
        books_from_json(parsed)
    assert f"{RESERVE}.asset.underlying" == caught.value.path


def test_a_mapping_loads_like_its_text() -> None:
    from types import MappingProxyType

    assert read_state_file(CREDIT) == load_books(MappingProxyType(credit())) == load_books(CREDIT.read_bytes())


# ---------------------------------------------------------------- what a syncer returned


def test_check_gives_books_of_our_own() -> None:
    books = read_state_file(CREDIT)
    checked = check_books(books)
    assert books == checked
    books.portfolio.open_positions[1].balance_updates[3].other_data["note"] = "changed"  # type: ignore[index]
    assert "über €" == checked.portfolio.open_positions[1].balance_updates[3].other_data["note"]  # type: ignore[index]


def test_check_turns_what_is_as_good_into_what_the_records_say() -> None:
    class Address(str):
        pass

    books = read_state_file(CREDIT)
    reserve = next(iter(books.portfolio.reserves.values()))
    update = reserve.balance_updates[1]
    loose: Any = books
    loose.sync.treasury.balance_update_refs = tuple(books.sync.treasury.balance_update_refs)
    loose.portfolio.open_positions[1].trades = tuple(loose.portfolio.open_positions[1].trades)
    vague: Any = update
    vague.usd_value, vague.quantity, vague.cause, vague.owner_address = 1000, 1000, "deposit", Address("0x01")
    vague.other_data = {"pair": (1, 2)}
    loose.sync.interest.last_distribution.entries[0].position = 1
    loose.sync.interest.last_distribution.entries[0].weight = Decimal(1)
    checked = check_books(books)
    found = next(iter(checked.portfolio.reserves.values())).balance_updates[1]
    assert [list, list] == [
        type(checked.sync.treasury.balance_update_refs),
        type(checked.portfolio.open_positions[1].trades),
    ]
    types = (type(found.usd_value), type(found.quantity), type(found.cause), type(found.owner_address))
    assert (float, Decimal, BalanceUpdateCause, str) == types
    assert {"pair": [1, 2]} == found.other_data
    assert checked == load_books(dump_books(checked))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("quantity", 1.5), ("quantity", "1.5"), ("quantity", Decimal("NaN")), ("quantity", Decimal("Infinity")),
        ("quantity", Decimal("1e5000")), ("quantity", True), ("old_balance", None), ("usd_value", Decimal(1)),
        ("usd_value", float("nan")), ("usd_value", "1"), ("tx_hash", b"\x01" * 32), ("tx_hash", 7),
        ("block_mined_at", 1_700_000_000), ("block_mined_at", None),
        ("block_mined_at", datetime(2024, 1, 1, tzinfo=UTC)),
        ("block_mined_at", datetime(1969, 12, 31)), ("block_mined_at", datetime(9999, 1, 1)), ("log_index", "0x1"),
        ("log_index", -1), ("log_index", 1.0), ("chain_id", True), ("cause", "deposits"), ("cause", None),
        ("position_type", 3), ("asset", "0xaa"), ("asset", None), ("notes", 1), ("notes", "\ud800"),
        ("other_data", []), ("other_data", {1: 2}), ("other_data", {"x": Decimal(1)}), ("other_data", {"x": {1, 2}}),
        ("other_data", {"x": 2 ** 9000}), ("unknown_keys", {"quantity": 1}), ("unknown_keys", None),
        ("balance_update_id", 99), ("balance_update_id", "1"),
    ],
)  # fmt: skip
def test_check_refuses_a_field_of_another_type_with_its_path(field: str, wrong: Any) -> None:
    books = read_state_file(CREDIT)
    setattr(next(iter(books.portfolio.reserves.values())).balance_updates[1], field, wrong)
    for judge in (check_books, dump_books):
        with pytest.raises(BooksError) as caught:
            judge(books)  # type: ignore[operator]
        assert caught.value.path.startswith(f"{RESERVE}.balance_updates['1'].{field}")


@pytest.mark.parametrize("value", [None, 7, "books", {}, object(), Books, Portfolio()])
def test_what_is_no_books_at_all_is_refused(value: object) -> None:
    with pytest.raises(BooksError, match="expected the record Books"):
        check_books(value)


def test_check_refuses_containers_and_keys_of_another_type() -> None:
    def broken(change: Any) -> str:
        books: Any = read_state_file(CREDIT)
        change(books)
        with pytest.raises(BooksError) as caught:
            check_books(books)
        return caught.value.path

    def put(owner: Any, name: str, value: Any) -> None:
        setattr(owner, name, value)

    assert "sync" == broken(lambda b: put(b, "sync", None))
    assert "sync.treasury.balance_update_refs" == broken(lambda b: put(b.sync.treasury, "balance_update_refs", {}))
    assert "sync.treasury.balance_update_refs[1]" == broken(
        lambda b: b.sync.treasury.balance_update_refs.__setitem__(1, 5)
    )
    assert "portfolio.open_positions['1']" == broken(
        lambda b: put(b.portfolio, "open_positions", {"1": b.portfolio.open_positions[1]})
    )
    assert "portfolio.open_positions['4']" == broken(lambda b: b.portfolio.open_positions.update({4: None}))
    assert "block_hashes['x']" == broken(lambda b: b.block_hashes.update(x="0x"))
    assert "block_hashes['5']" == broken(lambda b: b.block_hashes.update({5: b"\x00"}))
    assert "portfolio.open_positions['1'].pair.base" == broken(
        lambda b: put(b.portfolio.open_positions[1].pair, "base", "aMUSD")
    )


def test_check_refuses_a_record_that_lost_a_field() -> None:
    books = read_state_file(CREDIT)
    del books.sync.treasury.last_cycle_at
    with pytest.raises(BooksError, match="without its field 'last_cycle_at'") as caught:
        check_books(books)
    assert "sync.treasury" == caught.value.path


def test_check_ends_on_data_that_contains_itself() -> None:
    books = read_state_file(CREDIT)
    books.unknown_keys["me"] = books.unknown_keys
    with pytest.raises(BooksError, match="nested"):
        check_books(books)


def test_check_takes_a_datetime_of_a_subclass_as_a_plain_one() -> None:
    class Stamp(datetime):
        pass

    books = Books()
    books.sync.treasury.last_cycle_at = Stamp(2024, 1, 2, 3, 4, 5, 6)
    assert datetime is type(check_books(books).sync.treasury.last_cycle_at)


def test_check_is_fast_on_thousands_of_updates() -> None:
    from time import process_time

    books = read_state_file(CREDIT)
    position = books.portfolio.open_positions[1]
    template = position.balance_updates[2]
    position.balance_updates = {n: dataclasses.replace(template, balance_update_id=n) for n in range(1, 5_001)}
    began = process_time()
    check_books(books)
    checked_at = process_time()
    copy_books(books)
    copied_in = process_time() - checked_at
    assert checked_at - began < 3
    assert copied_in < 0.5


# ---------------------------------------------------------------- copies


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_copy_is_equal_and_shares_nothing_that_can_change(path: Path) -> None:
    books = read_state_file(path)
    copied = copy_books(books)
    assert books == copied
    assert dump_books(books) == dump_books(copied)
    assert not _mutable(books) & _mutable(copied)


def _mutable(value: Any) -> set[int]:
    if isinstance(value, AssetIdentifier):
        return set()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {id(value)}.union(*(_mutable(getattr(value, field.name)) for field in dataclasses.fields(value)))
    if isinstance(value, dict):
        return {id(value)}.union(*map(_mutable, value.values()))
    if isinstance(value, list):
        return {id(value)}.union(*map(_mutable, value))
    return set()


def test_a_copy_of_a_map_of_rates_is_its_own() -> None:
    rates: Any = {"1-0x": 0.5}
    books = Books()
    books.sync.interest.last_distribution = InterestDistributionOperation(
        start=datetime(2024, 1, 1), end=datetime(2024, 1, 2), effective_rate=rates
    )
    books.sync.interest.last_distribution.entries = [InterestDistributionEntry(position={"position_id": 1})]
    copied = copy_books(books)
    assert not _mutable(books) & _mutable(copied)
    assert check_books(books) == copied == load_books(dump_books(books))


def test_every_field_of_every_record_has_a_row_in_the_tables() -> None:
    seen = set()
    todo: list[Any] = [state_file._BOOKS]
    while todo:
        kind = todo.pop()
        if isinstance(kind, state_file._Record) and kind.cls not in seen:
            seen.add(kind.cls)
            names = {field.name for field in dataclasses.fields(kind.cls)} - {"unknown_keys"}
            assert names == {name for name, _ in kind.written} == {name for name, _ in kind.plan}
            todo += [field.kind for _, field in kind.written]
        elif isinstance(kind, (state_file._Map, state_file._List)):
            todo.append(kind.item)
    declared = {value for value in vars(records).values() if dataclasses.is_dataclass(value)}
    assert {Books, BalanceUpdate, Position, AssetIdentifier} <= declared
    assert declared == seen


# ---------------------------------------------------------------- files


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    books = read_state_file(CREDIT)
    save_books(path, Books())
    path.chmod(0o640)
    save_books(path, books)
    assert CREDIT.read_bytes() == path.read_bytes()
    assert 0o640 == path.stat().st_mode & 0o777
    assert [path] == list(tmp_path.iterdir())


def test_a_link_to_a_state_file_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    save_books(real, Books())
    link.symlink_to(real)
    save_books(link, read_state_file(CREDIT))
    assert link.is_symlink()
    assert read_state_file(CREDIT) == read_state_file(real)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    save_books(path, Books())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        save_books(path, read_state_file(CREDIT))
    assert before == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def _in_a_process(task: Callable[[], None]) -> int:
    """Fork a process that does something, and ends without a word."""
    child = os.fork()
    if child:
        return child
    try:
        task()
    finally:
        os._exit(0)


def _dies_in(name: str, path: Path, books: Books, *, after: bool) -> None:
    """Save books in a process that kills itself right before or after it calls something of the system."""
    owner: Any = Path if name == "replace" else os
    real = getattr(owner, name)

    def deadly(*arguments: Any) -> Any:
        if after:
            real(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    def task() -> None:
        setattr(owner, name, deadly)
        save_books(path, books)

    assert os.WTERMSIG(os.waitpid(_in_a_process(task), 0)[1]) == signal.SIGKILL


@pytest.mark.parametrize("name", ["fchmod", "fsync", "replace"])
@pytest.mark.parametrize("after", [False, True])
def test_a_process_that_dies_at_a_step_of_a_save_leaves_a_whole_file(tmp_path: Path, name: str, after: bool) -> None:
    path = tmp_path / "state.json"
    save_books(path, Books())
    old, new = path.read_bytes(), CREDIT.read_bytes()
    _dies_in(name, path, read_state_file(CREDIT), after=after)
    assert (new if (name, after) == ("replace", True) else old) == path.read_bytes()
    assert [path] == list(tmp_path.glob("*.json"))


def test_a_process_that_is_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    """Two states are saved in turn, over and over; the moments lie ever later in the first few saves."""
    path = tmp_path / "state.json"
    books = read_state_file(CREDIT)
    save_books(path, Books())
    whole = {path.read_bytes(), CREDIT.read_bytes()}

    def task() -> None:
        while True:
            save_books(path, books)
            save_books(path, Books())

    for moment in range(100):
        child = _in_a_process(task)
        time.sleep(moment * 0.000_1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert path.read_bytes() in whole
        assert [path] == list(tmp_path.glob("*.json"))


def test_drafts_of_the_dead_are_removed_when_they_are_old(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    old, fresh, other = (
        tmp_path / name for name in (".state.json.7-7.draft", ".state.json.8-8.draft", ".state.json.x")
    )
    for left in (old, fresh, other):
        left.write_text("{")
    os.utime(old, (1_000_000, 1_000_000))
    os.utime(other, (1_000_000, 1_000_000))
    save_books(path, Books())
    assert {path, fresh, other} == set(tmp_path.iterdir())


def test_threads_that_save_one_file_leave_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    books = read_state_file(CREDIT)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda turn: save_books(path, books if turn % 2 else Books()), range(40)))
    assert read_state_file(path) in (books, Books())
    assert [path] == list(tmp_path.iterdir())


def test_books_that_are_none_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    bad: Any = Books(sync=None)  # type: ignore[arg-type]
    with pytest.raises(BooksError):
        save_books(path, bad)
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError):
        save_books(tmp_path / "no" / "folder.json", Books())


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "\0"):
        with pytest.raises(BooksError, match="cannot be read") as caught:
            read_state_file(path)
        assert "" == caught.value.path
    monkeypatch.setattr(state_file, "MAX_FILE_BYTES", 100)
    with pytest.raises(BooksError, match="larger than 100 bytes"):
        read_state_file(CREDIT)
