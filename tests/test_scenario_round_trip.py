"""What is written reads as it was: whole scenarios, and amounts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import Location
from harness.scenario import language as lang
from harness.scenario import model
from harness.scenario.dump import dump
from harness.scenario.loader import loads, loads_all
from harness.scenario.plan import blocks_of, plan
from harness.units import format_units
from tests.scenario_samples import SAMPLES

HERE = Location(file="x.yaml", line=1, column=1)
ACTORS = ("alice", "bob", "no", "null_", "carol-2")
SYMBOLS = ("USDC", "WETH", "aUSDC", "yes", "USD₮0", "vdUSDC")
KINDS: Mapping[str, model.TokenKind] = {
    "USDC": "plain",
    "WETH": "fee_on_transfer",
    "aUSDC": "index_rebase",
    "yes": "share_rebase",
    "USD₮0": "opt_in_rebase",
    "vdUSDC": "debt",
}


def bare(value: Any) -> Any:
    """A value without places and the author's text."""
    if dataclasses.is_dataclass(value):
        fields = {
            f.name: bare(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.name not in ("location", "text")
        }
        return type(value).__name__, fields
    if isinstance(value, Mapping):
        return [(key, bare(inner)) for key, inner in value.items()]
    return tuple(bare(inner) for inner in value) if isinstance(value, tuple) else value


texts = st.text(
    st.one_of(
        st.sampled_from("ab5 :#-'\"{}[]&*!|>%@`,?\\\n\t"),
        st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="\ufeff\ufffe\uffff"),
    ),
    min_size=1,
    max_size=20,
)
lines = st.one_of(
    texts.filter(lambda text: text.strip() and not set(text) & set("\n\t")),
    st.sampled_from(
        ["no", "true", "null", "~", "010", "1e18", "5", "- x", "a: b", " x ", "2024-01-01 00:00", "{}", "0x10"]
    ),
)
times = st.datetimes(datetime(2024, 1, 1), datetime(2100, 1, 1)).map(lambda at: at.replace(microsecond=0))
lengths = st.integers(1, 10**7).map(lambda seconds: timedelta(seconds=seconds))
decimals = st.builds(
    lambda number, places: Fraction(number, 10**places), st.integers(-(10**12), 10**12), st.integers(0, 20)
)
sizes = st.integers(0, 10**12).flatmap(
    lambda number: st.integers(0, 12).map(lambda places: Decimal((0, tuple(map(int, str(number))), -places)))
)
raws = st.one_of(st.integers(0, 3), st.integers(0, 2**128))


def amounts(token: str, *, exact: bool = False) -> st.SearchStrategy[model.Amount]:
    fixed = st.builds(model.Amount, location=st.just(HERE), text=st.just(""), token=st.just(token), raw=raws)
    if exact:
        return fixed
    percents = st.integers(0, 10**6).map(lambda parts: Fraction(parts, 10**6))
    part = st.builds(model.Amount, location=st.just(HERE), text=st.just(""), token=st.just(token), percent=percents)
    return st.one_of(fixed, part, st.just(model.Amount(location=HERE, text="", token=token)))


def _record(record: str, depth: int = 0, asset: str | None = None) -> st.SearchStrategy[model.ExpectedRecord]:
    fields = {**lang.RECORDS[record], **lang.DERIVED.get(record, {})}
    usable = {name: field for name, field in fields.items() if field.kind not in lang.NOT_COMPARED}

    def build(asset: str) -> st.SearchStrategy[model.ExpectedRecord]:
        options = {}
        for name, field in usable.items():
            value = st.just(asset) if name in ("asset", "base") else _value(field.kind, asset, depth)
            options[name] = st.one_of(value, st.none()) if field.nullable else value
        named = st.fixed_dictionaries({}, optional=options)
        return named.map(
            lambda values: model.ExpectedRecord(
                location=HERE,
                fields=tuple(
                    model.ExpectedField(location=HERE, name=name, value=value) for name, value in values.items()
                ),
            )
        )

    return build(asset) if asset is not None else st.sampled_from(SYMBOLS).flatmap(build)


def _value(kind: str, asset: str, depth: int) -> st.SearchStrategy[Any]:
    shape, _, record = kind.partition(":")
    if record and depth > 1:
        return (
            st.just(model.ExpectedRecord(location=HERE, fields=()))
            if shape == "record"
            else st.just(() if shape == "list" else {})
        )
    if shape == "record":
        return _record(record, depth + 1, asset if record == "TradingPair" else None)
    if shape == "list":
        return st.lists(_record(record, depth + 1), max_size=2).map(tuple)
    if shape == "map":
        total = st.builds(
            lambda raw: model.ExpectedRecord(
                location=HERE, fields=(model.ExpectedField(location=HERE, name="effective_rate", value=raw),)
            ),
            decimals,
        )
        return st.dictionaries(st.sampled_from(SYMBOLS), total, max_size=2)
    plain: dict[str, st.SearchStrategy[Any]] = {
        "cause": st.sampled_from(lang.CAUSES),
        "position_type": st.sampled_from(lang.POSITION_TYPES),
        "symbol": st.sampled_from(SYMBOLS),
        "time": times,
        "integer": st.integers(0, 10**9),
        "position_id": st.integers(1, 2),
        "number": decimals,
        "owner": st.sampled_from([*ACTORS, "vault"]).map(lambda name: model.Actor(name=name)),
        "address": st.one_of(st.just(model.Actor(name="vault")), st.just("0x" + "aB" * 20)),
        "hash": st.integers(0, 2**256 - 1).map(lambda number: f"0x{number:064x}"),
        "text": texts,
        "quantity": st.one_of(
            st.builds(model.Quantity, raw=st.integers(-(2**128), 2**128), token=st.just(asset)),
            st.integers(-(10**6), 10**6).map(Fraction),
        ),
        "assets": st.lists(st.sampled_from(SYMBOLS), max_size=3).map(
            lambda symbols: tuple(
                model.ExpectedRecord(
                    location=HERE, fields=(model.ExpectedField(location=HERE, name="token_symbol", value=symbol),)
                )
                for symbol in symbols
            )
        ),
        "free": st.dictionaries(lines, st.one_of(st.none(), decimals, st.just("text")), max_size=3).map(
            lambda found: model.ExpectedRecord(
                location=HERE,
                fields=tuple(
                    model.ExpectedField(location=HERE, name=name, value=value) for name, value in found.items()
                ),
            )
        ),
    }
    return plain[kind]


balances = st.dictionaries(st.sampled_from(SYMBOLS), st.integers(-(2**128), 2**128), max_size=3).map(
    lambda found: tuple(model.ExpectedBalance(location=HERE, token=token, raw=raw) for token, raw in found.items())
)
positive_balances = balances.map(
    lambda found: tuple(dataclasses.replace(balance, raw=abs(balance.raw)) for balance in found)
)
chains = st.builds(
    model.ExpectedChain,
    location=st.just(HERE),
    balances=positive_balances,
    share_count=st.integers(0, 2**128).map(lambda raw: Fraction(raw, 10**18)),
    share_price=st.one_of(st.none(), decimals.map(abs)),
)
positions = st.dictionaries(st.integers(1, 2), _record("Position"), max_size=2)


def expectations(*, syncing: bool, inner: bool = False) -> st.SearchStrategy[model.Expectation]:
    parts: dict[str, st.SearchStrategy[Any]] = {
        "positions": positions,
        "closed_positions": st.one_of(st.none(), positions),
        "deployment": st.one_of(st.none(), _record("Deployment")),
        "treasury": st.one_of(st.none(), _record("Treasury")),
        "accounting": st.one_of(st.none(), _record("Accounting")),
        "interest": st.one_of(st.none(), _record("InterestSync")),
        "balances": balances,
    }
    if syncing:
        parts["updates"] = st.one_of(st.none(), st.lists(_record("BalanceUpdate"), max_size=3).map(tuple))
    if not inner:
        parts["chain"] = st.one_of(st.none(), chains)
        parts["contains"] = st.one_of(st.none(), expectations(syncing=syncing, inner=True))
    return st.builds(model.Expectation, location=st.just(HERE), **parts)


actors = st.sampled_from(ACTORS)
remarks = st.one_of(st.none(), texts)
refused = st.one_of(st.none(), st.just(""), lines.map(str.strip))
index = "aUSDC"


def _steps(
    step: Any, *, expect: bool = True, refusable: bool = True, notes: bool = True, **fields: Any
) -> st.SearchStrategy[Any]:
    syncing = issubclass(step, model.SyncingBase)
    beside: dict[str, Any] = {"location": st.just(HERE)}
    if notes:
        beside["note"] = remarks
    if refusable:
        beside["refused"] = refused
    if expect:
        beside["expect"] = st.one_of(st.none(), expectations(syncing=syncing))
    return st.builds(step, **beside, **fields)


def flows(*, expect: bool, beside: bool = True) -> st.SearchStrategy[Any]:
    """Investors' steps, which may stand in a transaction."""
    more: dict[str, Any] = {"expect": expect, "refusable": beside, "notes": beside}
    return st.one_of(
        _steps(
            model.Deposit,
            caller=actors,
            assets=amounts("USDC"),
            receiver=actors,
            second_vault=st.booleans(),
            **more,
        ),
        _steps(
            model.Redeem,
            caller=st.just("bob"),
            owner=st.just("bob"),
            shares=amounts(model.SHARES),
            receiver=actors,
            assets=st.one_of(
                st.none(), st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True, max_size=3).map(tuple)
            ),
            **more,
        ),
        _steps(
            model.Redeem,
            caller=st.just("bob"),
            owner=st.just("bob"),
            shares=amounts(model.SHARES),
            receiver=actors,
            second_vault=st.just(True),
            **more,
        ),
        _steps(
            model.Emit,
            caller=actors,
            accessor=st.just(1),
            assets=amounts("USDC", exact=True),
            shares=amounts(model.SHARES, exact=True),
            **more,
        ),
    )


def _by(caller: str, call: Any) -> dict[str, str]:
    return {"caller": caller, "owner": caller} if isinstance(call, model.Redeem) else {"caller": caller}


def chain_steps(*, expect: bool = True) -> st.SearchStrategy[Any]:
    position = st.one_of(st.none(), st.just("new"), st.integers(1, 2))
    unsynced = st.just(True)
    return st.one_of(
        flows(expect=expect),
        st.lists(flows(expect=False, beside=False), min_size=1, max_size=3).flatmap(
            lambda calls: _steps(
                model.Transaction,
                expect=expect,
                calls=st.just(tuple(dataclasses.replace(call, **_by("bob", call)) for call in calls)),
            )
        ),
        _steps(model.TransferShares, expect=expect, caller=actors, receiver=actors, shares=amounts(model.SHARES)),
        _steps(model.Donate, expect=expect, caller=actors, assets=st.sampled_from(SYMBOLS).flatmap(amounts)),
        _steps(model.Take, expect=expect, assets=st.sampled_from(SYMBOLS).flatmap(amounts)),
        _steps(
            model.Trade,
            expect=expect,
            sell=amounts("USDC"),
            buy=amounts("WETH", exact=True),
            position=position,
            unsynced=unsynced,
        ),
        _steps(
            model.Supply,
            expect=expect,
            assets=amounts("USDC"),
            into=st.just(index),
            position=position,
            unsynced=unsynced,
        ),
        _steps(
            model.Unsupply,
            expect=expect,
            assets=amounts(index),
            position=st.one_of(st.none(), st.integers(1, 2)),
            unsynced=unsynced,
        ),
        _steps(model.Close, expect=expect, position=st.one_of(st.none(), st.integers(1, 2)), unsynced=unsynced),
        _steps(
            model.Borrow,
            expect=expect,
            assets=amounts("USDC", exact=True),
            debt=st.just("vdUSDC"),
            position=st.one_of(st.none(), st.integers(1, 2)),
            unsynced=unsynced,
        ),
        _steps(model.Repay, expect=expect, assets=amounts("USDC"), debt=st.just("vdUSDC"), unsynced=unsynced),
        _steps(
            model.ChargeFee,
            expect=expect,
            shares=amounts(model.SHARES, exact=True),
            receiver=actors,
            event=st.booleans(),
        ),
        _steps(model.ReplaceAccessor, expect=expect),
        _steps(
            model.Pause,
            expect=expect,
            token=st.sampled_from(SYMBOLS),
            actor=st.one_of(st.none(), actors),
            paused=st.booleans(),
        ),
        _steps(model.Accrue, expect=expect, token=st.sampled_from((index, "vdUSDC")), rate_ray=st.integers(0, 10**29)),
        _steps(model.OptIn, expect=expect, token=st.just("USD₮0")),
        _steps(
            model.Rebase,
            expect=expect,
            token=st.sampled_from((index, "yes", "USD₮0")),
            factor_ray=st.integers(1, 10**28),
        ),
        _steps(model.Rebase, expect=expect, token=st.just(index), balance=amounts(index, exact=True)),
        _steps(model.Price, expect=expect, token=st.sampled_from(SYMBOLS), price_raw=st.integers(1, 10**20)),
    )


ends = st.one_of(
    st.none(),
    st.just(model.EndBlock(number=4)),
    st.just(model.EndBlock(below_head=0)),
)
chunks = st.one_of(st.none(), st.integers(1, 10**6))
blocks = st.lists(chain_steps(expect=False), min_size=1, max_size=3).map(
    lambda inner: model.Block(location=HERE, steps=tuple(inner))
)
empty_blocks = st.integers(1, 3).map(lambda count: model.Mine(location=HERE, blocks=count))
profiles = st.sampled_from(sorted(lang.NODE_PROFILES)).flatmap(
    lambda name: _steps(
        model.NodeStep,
        refusable=False,
        profile=st.just(name),
        **{key: st.integers(1, 99) for key in lang.NODE_PROFILES[name].takes},
    )
)
hooks = _steps(
    model.NodeStep,
    refusable=False,
    after=st.integers(1, 9),
    steps=st.lists(st.one_of(chain_steps(expect=False), blocks, empty_blocks), min_size=1, max_size=3).map(tuple),
)
crashes = _steps(model.Crash, refusable=False, after=st.integers(1, 99))
steps = st.one_of(
    chain_steps(),
    blocks,
    profiles,
    _steps(model.NodeStep, refusable=False, head=st.one_of(st.none(), st.just(2))),
    _steps(model.CorrectAccounts, end_block=ends, chunk=chunks),
    _steps(model.Wait, refusable=False, duration=lengths),
    _steps(model.Mine, refusable=False, blocks=st.integers(1, 9)),
    _steps(model.Initialise, end_block=ends, chunk=chunks, start_block=st.one_of(st.none(), st.integers(0, 99))),
    _steps(model.SyncTreasury, end_block=st.just(None), chunk=chunks, cycle=st.one_of(st.none(), times)),
    _steps(model.SyncInterest, end_block=ends, chunk=chunks),
    _steps(
        model.Restart, refusable=False, chain_id=st.one_of(st.none(), st.integers(1, 10**6)), second_vault=st.booleans()
    ),
    st.builds(model.Check, location=st.just(HERE), note=remarks, expect=expectations(syncing=False)),
)


def _amount(token: str, raw: int) -> model.Amount:
    return model.Amount(location=HERE, text="", token=token, raw=raw)


OPENING: tuple[model.Step, ...] = (
    model.SyncTreasury(location=HERE),
    model.Trade(location=HERE, sell=_amount("USDC", 5), buy=_amount("WETH", 1)),
    model.Supply(location=HERE, assets=_amount("USDC", 5), into=index),
    model.Borrow(location=HERE, assets=_amount("USDC", 5), debt="vdUSDC"),
    model.Wait(location=HERE, until=datetime(2111, 1, 1)),
)


maybe = st.one_of(st.none(), st.integers(1, 99))
known = st.builds(
    model.Known,
    location=st.just(HERE),
    reason=lines,
    until=st.dates(date(2024, 1, 1), date(2100, 1, 1)),
    breaks=st.lists(
        st.builds(
            model.KnownBreak,
            location=st.just(HERE),
            kind=st.sampled_from(lang.BREAK_KINDS),
            field=st.one_of(st.none(), lines),
            asset=st.one_of(st.none(), st.sampled_from(SYMBOLS)),
            position_id=maybe,
            block=maybe,
            line=maybe,
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
)


@st.composite
def reorgs(draw: st.DrawFn, head: int) -> tuple[model.Step, ...]:
    """Some blocks on top of a head, and a reorganisation that takes them back."""
    flow = model.Deposit(location=HERE, caller="bob", assets=_amount("USDC", 5), receiver="bob")
    sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    mined: list[model.Step] = [
        model.Block(location=HERE, steps=(flow,) * size) if size else model.Mine(location=HERE, blocks=1)
        for size in sizes
    ]
    fates: dict[str, list[Any]] = {"drop": [], "keep": [], "move": []}
    for number, size in enumerate(sizes, head + 1):
        single = draw(st.booleans())
        for place in range(1, size + 1) if single else (None,) if size else ():
            named = model.Place(location=HERE, block=number, transaction=place)
            fate = draw(st.sampled_from(sorted(fates)))
            target = draw(st.integers(head + 1, head + len(sizes) + 3))
            fates[fate].append((named, target) if fate == "move" else named)
    added = draw(st.lists(st.one_of(chain_steps(expect=False), blocks, empty_blocks), max_size=3))
    reorg = model.Reorg(
        location=HERE,
        depth=len(sizes),
        drop=tuple(fates["drop"]),
        keep=tuple(fates["keep"]),
        move=tuple(fates["move"]),
        add=tuple(added),
    )
    return (*mined, reorg)


@st.composite
def scenarios(draw: st.DrawFn) -> model.Scenario:
    plain = {symbol: draw(st.integers(0, 36)) for symbol in SYMBOLS if symbol not in (index, "vdUSDC")}
    tokens = {
        symbol: model.TokenSpec(
            location=HERE,
            symbol=symbol,
            name=draw(lines),
            decimals=plain.get(symbol, plain["USDC"]),
            kind=KINDS[symbol],
            underlying="USDC" if symbol in (index, "vdUSDC") else None,
            fee=Fraction(draw(st.integers(0, 9_999)), 10_000) if symbol == "WETH" else Fraction(0),
            price_raw=draw(st.integers(1, 10**20)),
            dust_absolute=draw(sizes),
            dust_relative=draw(sizes),
        )
        for symbol in draw(st.permutations(SYMBOLS))
    }
    tracked = draw(st.one_of(st.none(), st.lists(st.sampled_from(SYMBOLS), unique=True).map(tuple)))
    scenario = model.Scenario(
        location=HERE,
        title=draw(lines),
        tags=tuple(draw(st.lists(st.sampled_from(["enzyme", "case-43", "5", "no", "x:y"]), unique=True))),
        tokens=tokens,
        vault=model.VaultSpec(
            location=HERE,
            kind="enzyme",
            name=draw(lines),
            symbol=draw(lines.filter(lambda text: len(text.encode()) < 65)),
            reserve="USDC",
            tracked=tracked,
        ),
        actors=dict(
            sorted(
                {
                    name: draw(st.one_of(st.none(), st.dictionaries(st.sampled_from(SYMBOLS), raws, max_size=2)))
                    for name in ACTORS
                }.items()
            )
        ),
        approvals=(),
        start=draw(times),
        block_time=draw(lengths),
        chain_id=draw(st.integers(1, 10**9)),
        deploy_block=(),
        interest_bound=draw(sizes),
        steps=(*OPENING, *draw(st.lists(steps, max_size=4))),
        text="",
        laws_off=tuple(
            model.LawOff(location=HERE, law=law, reason=draw(lines))
            for law in draw(st.lists(st.sampled_from(sorted(lang.LAWS)), unique=True, max_size=2))
        ),
        tolerances=tuple(
            model.Tolerance(location=HERE, asset=asset, raw=draw(raws) + 1, field=field, reason=draw(lines))
            for asset, field in draw(
                st.lists(st.tuples(st.sampled_from(SYMBOLS), st.one_of(st.none(), lines)), unique=True, max_size=2)
            )
        ),
        known=draw(st.one_of(st.none(), known)),
    )
    ending = draw(reorgs(len(blocks_of(scenario)) - 1))
    sync = model.SyncTreasury(location=HERE)
    unsettled = (draw(crashes), draw(hooks), sync)
    return dataclasses.replace(scenario, steps=(*scenario.steps, *ending, *unsettled))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(scenarios())
def test_what_is_dumped_loads_as_it_was(scenario: model.Scenario) -> None:
    text = dump(scenario)
    loaded = loads(text, "x.yaml")
    assert bare(scenario) == bare(loaded)
    assert text == dump(loaded)
    assert text == loaded.text
    assert bare(plan(scenario)) == bare(plan(loaded))


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_samples_survive_a_round_trip(name: str) -> None:
    scenario = loads(SAMPLES[name], "x.yaml")
    assert bare(scenario) == bare(loads(dump(scenario), "x.yaml"))


@given(st.integers(0, 2**256 - 1), st.integers(0, 36))
def test_amounts_go_to_text_and_back(raw: int, decimals: int) -> None:
    text = f"tokens: {{X: {{decimals: {decimals}}}}}\nvault: {{kind: erc4626}}\nsteps:\n"
    for amount in (f"{raw} raw X", f"{format_units(raw, decimals)} X", format_units(raw, decimals)):
        step = loads(f"{text}  - donate: {{caller: alice, assets: {amount}}}\n  - sync:\n", "x.yaml").steps[0]
        assert isinstance(step, model.Donate)
        assert raw == step.assets.raw


def test_variant_is_written_out_in_full() -> None:
    text = "variants: [{id: a, n: 1}, {id: b, n: 2}]\n" + SAMPLES["erc4626"].replace("1_000", "$n")
    for scenario, n in zip(loads_all(text, "x.yaml"), (1, 2), strict=True):
        loaded = loads(dump(scenario), "x.yaml")
        assert bare(dataclasses.replace(scenario, variant=None)) == bare(loaded)
        assert loaded.variant is None
        assert isinstance(sync := loaded.steps[-1], model.SyncTreasury)
        assert n == sync.chunk


def test_number_without_end_cannot_be_dumped() -> None:
    scenario = loads(SAMPLES["erc4626"], "x.yaml")
    third = model.ExpectedChain(location=HERE, share_price=Fraction(1, 3))
    check = model.Check(location=HERE, expect=model.Expectation(location=HERE, chain=third))
    with pytest.raises(ValueError, match="no finite decimal form"):
        dump(dataclasses.replace(scenario, steps=(*scenario.steps, check)))


def test_scenario_with_nobody_in_it_survives_a_round_trip() -> None:
    scenario = loads("tokens: {X: }\nvault: {kind: enzyme}\nsteps: [sync: ]\n", "x.yaml")
    assert bare(scenario) == bare(loads(dump(scenario), "x.yaml"))


def test_what_is_no_value_of_the_language_cannot_be_dumped() -> None:
    scenario = loads(SAMPLES["erc4626"], "x.yaml")
    with pytest.raises(ValueError, match="cannot be written"):
        dump(dataclasses.replace(scenario, start=object()))  # type: ignore[arg-type]
