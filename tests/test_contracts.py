"""What the contracts do, and that the artifacts are what their sources compile to."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from eth_abi.abi import decode
from eth_utils import keccak

from harness.chain import Account, Call, Chain, load_artifact
from harness.chain.backend import contract_address
from harness.errors import CallReverted
from harness.units import RAY, Rounding, mul_div

CONTRACTS = Path(__file__).resolve().parents[1] / "contracts"
NAMES = sorted(path.stem for path in (CONTRACTS / "artifacts").glob("*.json"))
ZERO = "0x" + "00" * 20
ENDLESS = 2**256 - 1
OWNER, ALICE, BOB, CAROL, MANAGER = (
    Account.named(name) for name in ("contracts' owner", "alice", "bob", "carol", "manager")
)
EVERYBODY = (OWNER, ALICE, BOB, CAROL, MANAGER)


# The chain that contracts run on, and how the tests talk to it.


@dataclass
class World:
    chain: Chain

    def mine(self, sender: Account, to: str | None, data: bytes) -> Any:
        timestamp = self.chain.header(self.chain.head).timestamp + 12
        (receipt,) = self.chain.mine([Call(sender, to, data)], timestamp=timestamp).receipts
        return receipt

    def deploy(self, name: str, *arguments: object) -> Contract:
        receipt = self.mine(OWNER, None, load_artifact(name).deploy_data(*arguments))
        assert receipt.succeeded, receipt.revert_reason
        return Contract(self, name, receipt.contract_address)

    def deploy_blueprint(self, name: str) -> str:
        fields = json.loads((CONTRACTS / "artifacts" / f"{name}.json").read_text(encoding="utf-8"))
        receipt = self.mine(OWNER, None, bytes.fromhex(fields["blueprint_bytecode"][2:]))
        assert receipt.succeeded
        return str(receipt.contract_address)

    def token(self, symbol: str, decimals: int) -> Contract:
        return self.deploy("Erc20", f"{symbol} token", symbol, decimals)


@dataclass
class Contract:
    world: World
    name: str
    address: str

    def read(self, function: str, *arguments: object, sender: Account | None = None) -> Any:
        artifact = load_artifact(self.name)
        caller = None if sender is None else sender.address
        answer = self.world.chain.call(self.address, artifact.encode(function, *arguments), sender=caller)
        return artifact.decode(function, answer)

    def send(self, sender: Account, function: str, *arguments: object) -> Any:
        receipt = self.world.mine(sender, self.address, load_artifact(self.name).encode(function, *arguments))
        assert receipt.succeeded, receipt.revert_reason
        return receipt

    def refusal(self, sender: Account, function: str, *arguments: object) -> str:
        receipt = self.world.mine(sender, self.address, load_artifact(self.name).encode(function, *arguments))
        assert not receipt.succeeded, f"{function} was not refused"
        return str(receipt.revert_reason)

    def balance(self, holder: Account | Contract | str) -> int:
        return int(self.read("balanceOf", holder if isinstance(holder, str) else holder.address))

    def events(self, receipt: Any) -> list[tuple[Any, ...]]:
        """The logs of this contract, each as its name and arguments in the order of the event."""
        entries = {topic0(entry): entry for entry in load_artifact(self.name).abi if entry["type"] == "event"}
        return [event(entries[log.topics[0]], log) for log in receipt.logs if log.address == self.address]


def topic0(entry: Any) -> bytes:
    return keccak(text=f"{entry['name']}({','.join(parameter['type'] for parameter in entry['inputs'])})")


def event(entry: Any, log: Any) -> tuple[Any, ...]:
    topics = iter(log.topics[1:])
    plain = iter(decode([parameter["type"] for parameter in entry["inputs"] if not parameter["indexed"]], log.data))
    values = (
        decode([parameter["type"]], next(topics))[0] if parameter["indexed"] else next(plain)
        for parameter in entry["inputs"]
    )
    return (entry["name"], *values)


def low(*parties: Account | Contract) -> tuple[str, ...]:
    """Addresses as eth-abi decodes them."""
    return tuple(party.address.lower() for party in parties)


@pytest.fixture(scope="module")
def empty_chain() -> Chain:
    return Chain(chain_id=1337, genesis_timestamp=1_704_067_200, accounts=EVERYBODY)


@pytest.fixture
def world(empty_chain: Chain) -> World:
    return World(empty_chain.clone())


@dataclass
class Fund:
    """An Enzyme-like fund around USDC, with WETH at 1600 USD to trade and aUSDC to supply to."""

    world: World
    usdc: Contract
    weth: Contract
    ausdc: Contract
    pool: Contract
    venue: Contract
    weth_feed: Contract
    interpreter: Contract
    deployer: Contract
    vault: Contract
    comptroller: Contract

    def another(self, *tracked: Contract) -> tuple[Contract, Contract]:
        arguments = (MANAGER.address, "Other Fund", "OTHER", self.usdc.address, [asset.address for asset in tracked])
        vault, comptroller = self.deployer.read("create_fund", *arguments, sender=OWNER)
        self.deployer.send(OWNER, "create_fund", *arguments)
        return Contract(self.world, "EnzymeVault", vault), Contract(self.world, "Comptroller", comptroller)

    def deposit(self, investor: Account, raw: int) -> Any:
        self.usdc.send(OWNER, "mint", investor.address, raw)
        self.usdc.send(investor, "approve", self.comptroller.address, raw)
        return self.comptroller.send(investor, "buyShares", raw, 1)

    def trade(self, sold: int, bought: int) -> Any:
        return self.vault.send(MANAGER, "trade", self.venue.address, self.usdc.address, sold, self.weth.address, bought)

    def tracked(self) -> list[str]:
        return list(self.vault.read("getTrackedAssets"))


def set_up_fund(world: World) -> Fund:
    usdc, weth = world.token("USDC", 6), world.token("WETH", 18)
    ausdc = world.deploy("IndexToken", "Aave USDC", "aUSDC", 6, usdc.address)
    pool, venue, interpreter = world.deploy("Pool"), world.deploy("Venue"), world.deploy("ValueInterpreter")
    ausdc.send(OWNER, "set_pool", pool.address)
    usdc.send(OWNER, "mint", pool.address, 10**12)
    weth.send(OWNER, "mint", venue.address, 10**30)
    usdc_feed = world.deploy("PriceFeed", "USDC / USD", 10**8)
    weth_feed = world.deploy("PriceFeed", "WETH / USD", 1600 * 10**8)
    for asset, feed in ((usdc, usdc_feed), (ausdc, usdc_feed), (weth, weth_feed)):
        interpreter.send(OWNER, "set_feed", asset.address, feed.address)
    blueprints = world.deploy_blueprint("EnzymeVault"), world.deploy_blueprint("Comptroller")
    deployer = world.deploy("FundDeployer", *blueprints, interpreter.address)
    fund = Fund(world, usdc, weth, ausdc, pool, venue, weth_feed, interpreter, deployer, usdc, usdc)
    fund.vault, fund.comptroller = fund.another()
    return fund


@pytest.fixture(scope="module")
def fund_template(empty_chain: Chain) -> Fund:
    return set_up_fund(World(empty_chain.clone()))


@pytest.fixture
def fund(fund_template: Fund) -> Iterator[Fund]:
    chain = fund_template.world.chain
    start = chain.snapshot()
    yield replace(fund_template)
    chain.revert(start)


@dataclass
class Plain:
    """An ERC-4626 vault around USDC, from the factory."""

    world: World
    usdc: Contract
    factory: Contract
    vault: Contract

    def give(self, holder: Account, raw: int) -> None:
        self.usdc.send(OWNER, "mint", holder.address, raw)
        self.usdc.send(holder, "approve", self.vault.address, ENDLESS)

    def deposit(self, investor: Account, raw: int) -> Any:
        self.give(investor, raw)
        return self.vault.send(investor, "deposit", raw, investor.address)


@pytest.fixture
def plain(world: World) -> Plain:
    usdc = world.token("USDC", 6)
    factory = world.deploy("Erc4626Factory", world.deploy_blueprint("Erc4626Vault"))
    arguments = (usdc.address, "n" * 256, "s" * 64, MANAGER.address)
    address = factory.read("create_vault", *arguments)
    receipt = factory.send(OWNER, "create_vault", *arguments)
    assert factory.events(receipt) == [("VaultCreated", OWNER.address.lower(), address.lower())]
    assert receipt.logs[-1].address == factory.address
    return Plain(world, usdc, factory, Contract(world, "Erc4626Vault", address))


# Artifacts.


@pytest.fixture(scope="module")
def compiler() -> ModuleType:
    spec = importlib.util.spec_from_file_location("contracts_compile", CONTRACTS / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def artifact(name: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((CONTRACTS / "artifacts" / f"{name}.json").read_text(encoding="utf-8"))
    return fields


def test_each_contract_has_an_artifact(compiler: ModuleType) -> None:
    assert compiler.contract_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_artifact_belongs_to_its_source(compiler: ModuleType, name: str) -> None:
    fields = artifact(name)
    assert (name, f"{name}.vy", compiler.EVM_VERSION) == (fields["contract"], fields["source"], fields["evm_version"])
    assert compiler.source_sha256(name) == fields["source_sha256"]
    assert ("blueprint_bytecode" in fields) == (name in compiler.BLUEPRINTS)


@pytest.mark.contracts
@pytest.mark.parametrize("name", NAMES)
def test_source_compiles_to_its_artifact(compiler: ModuleType, name: str) -> None:
    pytest.importorskip("vyper", reason="vyper is not installed (the contracts extra has it)")
    pytest.importorskip("snekmate", reason="snekmate is not installed (the contracts extra has it)")
    assert compiler.artifact_path(name).read_text(encoding="utf-8") == compiler.compile_contract(name)


@pytest.mark.contracts
def test_check_names_what_is_stale(
    compiler: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("vyper", reason="vyper is not installed (the contracts extra has it)")
    pytest.importorskip("snekmate", reason="snekmate is not installed (the contracts extra has it)")
    monkeypatch.setattr(compiler, "ARTIFACTS", tmp_path)
    monkeypatch.setattr(compiler, "contract_names", lambda: ["Pool", "Venue"])
    (tmp_path / "Gone.json").write_text("{}")
    assert compiler.main([]) == 0
    assert {"Pool.json", "Venue.json"} == {path.name for path in tmp_path.iterdir()}
    assert compiler.main(["--check"]) == 0
    (tmp_path / "Venue.json").write_text("{}")
    assert compiler.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("artifacts/Venue.json is not what its source compiles to")


@pytest.mark.parametrize("name", ["Comptroller", "EnzymeVault", "Erc4626Vault"])
def test_blueprint_has_the_preamble_of_erc_5202(world: World, name: str) -> None:
    code = world.chain.code(world.deploy_blueprint(name))
    assert bytes.fromhex("fe7100") + bytes.fromhex(artifact(name)["bytecode"][2:]) == code


# Erc20.


def test_erc20_has_long_names_and_any_decimals(world: World) -> None:
    token = world.deploy("Erc20", "é" * 128, "S" * 64, 36)
    assert ("é" * 128, "S" * 64, 36) == tuple(token.read(view) for view in ("name", "symbol", "decimals"))


def test_erc20_mint_is_the_owners_and_comes_from_zero(world: World) -> None:
    token = world.token("TKN", 0)
    receipt = token.send(OWNER, "mint", ALICE.address, 7)
    assert [("Transfer", ZERO, *low(ALICE), 7)] == token.events(receipt)
    assert (7, 7) == (token.balance(ALICE), token.read("totalSupply"))
    assert "not the owner" in token.refusal(ALICE, "mint", ALICE.address, 1)


def test_erc20_transfers_and_says_what_is_insufficient(world: World) -> None:
    token = world.token("TKN", 6)
    token.send(OWNER, "mint", ALICE.address, 10)
    assert [("Transfer", *low(ALICE, BOB), 4)] == token.events(token.send(ALICE, "transfer", BOB.address, 4))
    assert "insufficient balance" in token.refusal(ALICE, "transfer", BOB.address, 7)
    assert "insufficient allowance" in token.refusal(CAROL, "transferFrom", ALICE.address, BOB.address, 1)
    approval = token.send(ALICE, "approve", CAROL.address, 8)
    assert [("Approval", *low(ALICE, CAROL), 8)] == token.events(approval)
    assert "insufficient balance" in token.refusal(CAROL, "transferFrom", ALICE.address, BOB.address, 7)
    token.send(CAROL, "transferFrom", ALICE.address, BOB.address, 6)
    assert (0, 10, 2) == (token.balance(ALICE), token.balance(BOB), token.read("allowance", *addresses(ALICE, CAROL)))


def addresses(*parties: Account | Contract) -> tuple[str, ...]:
    return tuple(party.address for party in parties)


# IndexToken and Pool.


@pytest.fixture
def index_token(world: World) -> Contract:
    token = world.deploy("IndexToken", "Aave USDC", "aUSDC", 6, world.token("USDC", 6).address)
    token.send(OWNER, "mint", ALICE.address, 1000)
    return token


def test_index_token_starts_at_one_ray(index_token: Contract) -> None:
    assert RAY == index_token.read("liquidity_index")
    assert (1000, 1000) == (index_token.balance(ALICE), index_token.read("scaledBalanceOf", ALICE.address))


def test_rebase_moves_balances_without_a_transfer(index_token: Contract) -> None:
    receipt = index_token.send(OWNER, "rebase_by", RAY * 11 // 10)
    assert [("IndexUpdated", RAY * 11 // 10)] == index_token.events(receipt)
    assert (1100, 1100) == (index_token.balance(ALICE), index_token.read("totalSupply"))
    assert (1000, 1000) == (
        index_token.read("scaledBalanceOf", ALICE.address),
        index_token.read("scaledTotalSupply"),
    )


def test_rebase_to_sets_the_nearest_index(index_token: Contract) -> None:
    index_token.send(OWNER, "mint", BOB.address, 7)
    index_token.send(OWNER, "rebase_to", BOB.address, 5)
    assert mul_div(5, RAY, 7, Rounding.NEAREST) == index_token.read("liquidity_index")
    assert (5, 714) == (index_token.balance(BOB), index_token.balance(ALICE))


def test_rebase_is_refused_without_a_balance_or_to_nothing(index_token: Contract) -> None:
    assert "no balance to rebase" in index_token.refusal(OWNER, "rebase_to", BOB.address, 5)
    assert "index would be zero" in index_token.refusal(OWNER, "rebase_to", ALICE.address, 0)
    assert "index would be zero" in index_token.refusal(OWNER, "rebase_by", 0)
    assert "not the owner" in index_token.refusal(ALICE, "rebase_by", RAY)
    assert "not the owner" in index_token.refusal(ALICE, "rebase_to", ALICE.address, 5)
    assert "not the owner" in index_token.refusal(ALICE, "set_pool", ALICE.address)


def test_transfer_is_logged_as_asked_and_moves_no_more_than_is_held(index_token: Contract) -> None:
    # At index 0.6 one scaled unit is shown as 1, and 1 / 0.6 to nearest would be 2 scaled units.
    index_token.send(OWNER, "mint", BOB.address, 1)
    index_token.send(OWNER, "rebase_by", RAY * 6 // 10)
    assert 1 == index_token.balance(BOB)
    receipt = index_token.send(BOB, "transfer", CAROL.address, 1)
    assert [("Transfer", *low(BOB, CAROL), 1)] == index_token.events(receipt)
    assert [0, 1] == [index_token.read("scaledBalanceOf", party.address) for party in (BOB, CAROL)]
    assert 1001 == index_token.read("scaledTotalSupply")


def test_transfer_to_oneself_changes_nothing(index_token: Contract) -> None:
    index_token.send(ALICE, "transfer", ALICE.address, 400)
    assert 1000 == index_token.balance(ALICE)


def test_index_token_says_what_is_insufficient(index_token: Contract) -> None:
    assert "insufficient balance" in index_token.refusal(ALICE, "transfer", BOB.address, 1001)
    assert "insufficient allowance" in index_token.refusal(CAROL, "transferFrom", ALICE.address, BOB.address, 1)
    index_token.send(ALICE, "approve", CAROL.address, 1500)
    assert "insufficient balance" in index_token.refusal(CAROL, "transferFrom", ALICE.address, BOB.address, 1001)
    index_token.send(CAROL, "transferFrom", ALICE.address, BOB.address, 900)
    assert (100, 600) == (index_token.balance(ALICE), index_token.read("allowance", *addresses(ALICE, CAROL)))


def test_index_token_is_minted_by_owner_or_pool_and_burned_by_the_pool(index_token: Contract) -> None:
    assert "neither the owner nor the pool" in index_token.refusal(CAROL, "mint", ALICE.address, 1)
    index_token.send(OWNER, "set_pool", CAROL.address)
    index_token.send(CAROL, "mint", BOB.address, 5)
    receipt = index_token.send(CAROL, "burn", BOB.address, 5)
    assert [("Transfer", *low(BOB), ZERO, 5)] == index_token.events(receipt)
    assert (0, 1000) == (index_token.balance(BOB), index_token.read("scaledTotalSupply"))
    assert "insufficient balance" in index_token.refusal(CAROL, "burn", BOB.address, 1)
    assert "not the pool" in index_token.refusal(OWNER, "burn", ALICE.address, 1)


def test_index_token_holds_ten_to_the_twelfth_of_36_decimals(world: World) -> None:
    token = world.deploy("IndexToken", "Wide", "WIDE", 36, ZERO)
    for holder in EVERYBODY:
        token.send(OWNER, "mint", holder.address, 10**48)
    token.send(OWNER, "rebase_by", 1000 * RAY)
    token.send(ALICE, "transfer", BOB.address, 10**51)
    assert (0, 2 * 10**51, 5 * 10**51) == (token.balance(ALICE), token.balance(BOB), token.read("totalSupply"))


def test_pool_swaps_underlying_for_index_tokens_and_back(fund: Fund) -> None:
    fund.usdc.send(OWNER, "mint", ALICE.address, 1000)
    fund.usdc.send(ALICE, "approve", fund.pool.address, 1000)
    fund.ausdc.send(OWNER, "rebase_by", RAY * 3 // 2)
    receipt = fund.pool.send(ALICE, "supply", fund.ausdc.address, 1000, BOB.address)
    assert [("Transfer", ZERO, *low(BOB), 1000)] == fund.ausdc.events(receipt)
    assert [("Transfer", *low(ALICE, fund.pool), 1000)] == fund.usdc.events(receipt)[-1:]
    # 1000 / 1.5 to nearest is 667, which shows as 1001: the last raw unit that an index token rounds.
    assert (667, 1001) == (fund.ausdc.read("scaledBalanceOf", BOB.address), fund.ausdc.balance(BOB))
    assert 1001 == fund.pool.read("withdraw", fund.ausdc.address, 1001, CAROL.address, sender=BOB)
    receipt = fund.pool.send(BOB, "withdraw", fund.ausdc.address, 1001, CAROL.address)
    assert [("Transfer", *low(fund.pool, CAROL), 1001)] == fund.usdc.events(receipt)
    assert (0, 1001) == (fund.ausdc.balance(BOB), fund.usdc.balance(CAROL))
    assert "insufficient balance" in fund.pool.refusal(BOB, "withdraw", fund.ausdc.address, 1, BOB.address)


def test_pool_serves_several_index_tokens(fund: Fund) -> None:
    aweth = fund.world.deploy("IndexToken", "Aave WETH", "aWETH", 18, fund.weth.address)
    aweth.send(OWNER, "set_pool", fund.pool.address)
    fund.weth.send(OWNER, "mint", ALICE.address, 5)
    fund.weth.send(ALICE, "approve", fund.pool.address, 5)
    fund.pool.send(ALICE, "supply", aweth.address, 5, ALICE.address)
    assert (5, 0, 5) == (aweth.balance(ALICE), fund.ausdc.balance(ALICE), fund.weth.balance(fund.pool))


# Pausing, blocking, growth with time: all kinds of token.

KINDS = ("Erc20", "FeeToken", "IndexToken", "ShareToken", "OptInToken", "DebtToken")
GROWING = KINDS[2:]


def token_of(world: World, kind: str) -> Contract:
    """A token of a kind, 10^6 of it Alice's; those of a pool's kinds have the owner as their pool."""
    last: dict[str, tuple[object, ...]] = {"Erc20": (), "FeeToken": (10**16, CAROL.address)}
    token = world.deploy(kind, "Token", "TKN", 6, *last.get(kind, (ZERO,)))
    if kind in GROWING:
        token.send(OWNER, "set_pool", OWNER.address)
    token.send(OWNER, "mint", ALICE.address, 10**6)
    return token


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "DebtToken"])
def test_transfers_can_be_paused_and_go_on_again(world: World, kind: str) -> None:
    token = token_of(world, kind)
    token.send(ALICE, "approve", BOB.address, ENDLESS)
    assert token.events(token.send(OWNER, "set_paused", True)) == [("PausedSet", True)]
    assert "transfers are paused" in token.refusal(ALICE, "transfer", BOB.address, 1)
    assert "transfers are paused" in token.refusal(BOB, "transferFrom", ALICE.address, BOB.address, 1)
    token.send(OWNER, "set_paused", False)
    token.send(ALICE, "transfer", BOB.address, 1000)
    assert token.balance(BOB) in (990, 1000)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "DebtToken"])
def test_an_address_can_be_blocked_from_sending_and_receiving(world: World, kind: str) -> None:
    token = token_of(world, kind)
    token.send(OWNER, "mint", BOB.address, 1000)
    token.send(OWNER, "set_blocked", ALICE.address, True)
    assert "sender is blocked" in token.refusal(ALICE, "transfer", BOB.address, 1)
    assert "receiver is blocked" in token.refusal(BOB, "transfer", ALICE.address, 1)
    token.send(BOB, "transfer", CAROL.address, 1)
    token.send(OWNER, "set_blocked", ALICE.address, False)
    token.send(BOB, "transfer", ALICE.address, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_pausing_and_blocking_are_the_owners(world: World, kind: str) -> None:
    token = token_of(world, kind)
    assert "not the owner" in token.refusal(ALICE, "set_paused", True)
    assert "not the owner" in token.refusal(ALICE, "set_blocked", BOB.address, True)


@pytest.mark.parametrize("kind", GROWING)
def test_a_pool_neither_mints_nor_burns_what_is_paused(world: World, kind: str) -> None:
    token = token_of(world, kind)
    token.send(OWNER, "set_paused", True)
    assert "transfers are paused" in token.refusal(OWNER, "mint", ALICE.address, 1)
    assert "transfers are paused" in token.refusal(OWNER, "burn", ALICE.address, 1)


@pytest.mark.parametrize("kind", GROWING)
def test_growth_is_the_owners_and_a_burn_the_pools(world: World, kind: str) -> None:
    token = token_of(world, kind)
    calls: tuple[tuple[Any, ...], ...] = (("accrue", 1), ("rebase_by", RAY), ("rebase_to", ALICE.address, 1))
    for call in calls:
        assert "not the owner" in token.refusal(BOB, *call)
    assert "neither the owner nor the pool" in token.refusal(BOB, "mint", BOB.address, 1)
    assert "not the pool" in token.refusal(ALICE, "burn", ALICE.address, 1)


@pytest.mark.parametrize(
    ("kind", "after_a_year"),
    # 5 % simple; and compounded, where Aave's rounding of the third term pays a little less than e^0.05 = 1.051271.
    [("IndexToken", 1_050_000), ("ShareToken", 1_050_000), ("OptInToken", 1_050_000), ("DebtToken", 1_051_266)],
)
def test_balances_grow_with_time_at_the_yearly_rate(world: World, kind: str, after_a_year: int) -> None:
    token = token_of(world, kind)
    token.send(OWNER, "accrue", RAY // 20)
    begun = world.chain.header(world.chain.head).timestamp
    assert token.balance(ALICE) == 10**6
    world.chain.mine_empty(timestamp=begun + 365 * 24 * 3600)
    assert after_a_year == token.balance(ALICE) == token.read("totalSupply")
    token.send(OWNER, "accrue", 0)
    world.chain.mine_empty(timestamp=begun + 9 * 365 * 24 * 3600)
    assert after_a_year == token.balance(ALICE)


# FeeToken, ShareToken, OptInToken, DebtToken.


def test_fee_token_tells_of_net_and_fee(world: World) -> None:
    token = token_of(world, "FeeToken")
    assert [("Transfer", *low(ALICE, BOB), 990), ("Transfer", *low(ALICE, CAROL), 9)] == token.events(
        token.send(ALICE, "transfer", BOB.address, 999)
    )
    assert [("Transfer", *low(ALICE, BOB), 99)] == token.events(token.send(ALICE, "transfer", BOB.address, 99))
    assert (10**6 - 999 - 99, 9) == (token.balance(ALICE), token.balance(CAROL))
    assert "insufficient balance" in token.refusal(BOB, "transfer", ALICE.address, 1090)


def test_no_token_takes_a_fee_of_more_than_everything(world: World) -> None:
    data = load_artifact("FeeToken").deploy_data("Fee", "FEE", 6, 10**18 + 1, CAROL.address)
    assert "more than everything" in world.mine(OWNER, None, data).revert_reason


def test_share_token_moves_less_than_it_says(world: World) -> None:
    token = token_of(world, "ShareToken")
    token.send(OWNER, "rebase_by", RAY * 137 // 100)
    assert (1_370_000, 1_370_000) == (token.balance(ALICE), token.read("totalSupply"))
    receipt = token.send(ALICE, "transfer", BOB.address, 10_000)
    # 10,000 / 1.37 is 7299.27: 7299 shares, worth 9999.63.
    assert [("Transfer", *low(ALICE, BOB), 10_000), ("TransferShares", *low(ALICE, BOB), 7299)] == token.events(receipt)
    assert (9_999, 1_360_000) == (token.balance(BOB), token.balance(ALICE))


def test_share_token_can_be_slashed_and_set_to_a_balance(world: World) -> None:
    token = token_of(world, "ShareToken")
    token.send(OWNER, "mint", BOB.address, 3)
    token.send(OWNER, "rebase_by", RAY * 9 // 10)
    # A pot of 900,002 for 1,000,003 shares.
    assert (899_999, 2) == (token.balance(ALICE), token.balance(BOB))
    token.send(OWNER, "rebase_to", ALICE.address, 777_777)
    assert 777_777 == token.balance(ALICE)
    assert "no balance" in token.refusal(OWNER, "rebase_to", CAROL.address, 1)
    assert "insufficient balance" in token.refusal(CAROL, "transfer", BOB.address, 5)


def test_contracts_rebase_only_once_they_have_opted_in(world: World) -> None:
    token, contract = token_of(world, "OptInToken"), world.token("OTHER", 6)
    token.send(ALICE, "transfer", contract.address, 200_000)
    token.send(OWNER, "rebase_by", RAY * 105 // 100)
    assert (840_000, 200_000, 1_040_000) == (token.balance(ALICE), token.balance(contract), token.read("totalSupply"))
    assert "has not opted in" in token.refusal(OWNER, "rebase_to", contract.address, 1)
    assert "not the owner" in token.refusal(ALICE, "opt_in", contract.address)
    before = token.balance(contract)
    assert [("OptedIn", *low(contract))] == token.events(token.send(OWNER, "opt_in", contract.address))
    assert before - token.balance(contract) in (0, 1)
    assert "rebases already" in token.refusal(OWNER, "opt_in", contract.address)
    assert "rebases already" in token.refusal(OWNER, "opt_in", ALICE.address)
    token.send(OWNER, "rebase_to", contract.address, 300_000)
    assert 300_000 == token.balance(contract)


def test_debts_cannot_be_handed_over(world: World) -> None:
    token = token_of(world, "DebtToken")
    for call in (("transfer", BOB.address, 1), ("approve", BOB.address, 1)):
        assert "cannot be handed over" in token.refusal(ALICE, *call)
    assert "cannot be handed over" in token.refusal(BOB, "transferFrom", ALICE.address, BOB.address, 1)
    assert token.read("allowance", ALICE.address, BOB.address) == 0


def test_a_fund_borrows_and_repays(fund: Fund) -> None:
    debt = fund.world.deploy("DebtToken", "Debt USDC", "vdUSDC", 6, fund.usdc.address)
    debt.send(OWNER, "set_pool", fund.pool.address)
    fund.deposit(ALICE, 1000)
    receipt = fund.vault.send(MANAGER, "borrow", fund.pool.address, debt.address, 500)
    assert [("Transfer", ZERO, *low(fund.vault), 500)] == debt.events(receipt)
    assert (1500, 500) == (fund.usdc.balance(fund.vault), debt.balance(fund.vault))
    debt.send(OWNER, "rebase_by", RAY * 11 // 10)
    receipt = fund.vault.send(MANAGER, "repay", fund.pool.address, fund.usdc.address, 550, debt.address)
    assert [("Transfer", *low(fund.vault), ZERO, 550)] == debt.events(receipt)
    assert (950, 0) == (fund.usdc.balance(fund.vault), debt.balance(fund.vault))
    over = (fund.pool.address, fund.usdc.address, 1, debt.address)
    assert "insufficient balance" in fund.vault.refusal(MANAGER, "repay", *over)
    for call in (("borrow", fund.pool.address, debt.address, 1), ("repay", *over)):
        assert "not the owner" in fund.vault.refusal(ALICE, *call)


# Batch.


def test_an_account_makes_several_calls_at_once_as_itself() -> None:
    batch, erc20 = load_artifact("Batch"), load_artifact("Erc20")
    target = "0x" + contract_address(bytes.fromhex(BOB.address[2:]), 0).hex()
    delegates = {ALICE.address: target}
    chain = Chain(chain_id=1337, genesis_timestamp=1_704_067_200, accounts=EVERYBODY, delegates=delegates)
    world = World(chain)
    assert world.mine(BOB, None, batch.deploy_data()).contract_address.lower() == target
    token = world.token("TKN", 0)
    token.send(OWNER, "mint", ALICE.address, 10)

    def calls(*amounts: int) -> bytes:
        return batch.encode("execute", [(token.address, erc20.encode("transfer", BOB.address, raw)) for raw in amounts])

    receipt = world.mine(ALICE, ALICE.address, calls(3, 4))
    assert [("Transfer", *low(ALICE, BOB), 3), ("Transfer", *low(ALICE, BOB), 4)] == token.events(receipt)
    failed = world.mine(ALICE, ALICE.address, calls(1, 3))
    assert (False, "erc20: insufficient balance", 3) == (failed.succeeded, failed.revert_reason, token.balance(ALICE))
    assert "not the account itself" in world.mine(BOB, ALICE.address, calls(1)).revert_reason
    token.send(ALICE, "transfer", BOB.address, 1)
    assert chain.code(ALICE.address) == bytes.fromhex("ef0100" + target[2:])


# PriceFeed, Venue, ValueInterpreter.


def test_price_feed_answers_as_a_chainlink_aggregator(world: World) -> None:
    feed = world.deploy("PriceFeed", "WETH / USD", 1600 * 10**8)
    assert (8, "WETH / USD") == (feed.read("decimals"), feed.read("description"))
    receipt = feed.send(OWNER, "set_answer", -5)
    now = world.chain.header(world.chain.head).timestamp
    assert [("AnswerUpdated", -5, 2, now)] == feed.events(receipt)
    assert (2, -5, now, now, 2) == tuple(feed.read("latestRoundData"))
    assert -5 == feed.read("latestAnswer")
    assert "not the owner" in feed.refusal(ALICE, "set_answer", 1)


def test_price_feed_has_its_first_round_at_deployment(world: World) -> None:
    feed = world.deploy("PriceFeed", "USDC / USD", 10**8)
    now = world.chain.header(world.chain.head).timestamp
    assert (1, 10**8, now, now, 1) == tuple(feed.read("latestRoundData"))


def test_venue_swaps_for_the_caller(fund: Fund) -> None:
    fund.usdc.send(OWNER, "mint", ALICE.address, 100)
    swap = ("swap", fund.usdc.address, 100, fund.weth.address, 7)
    assert "insufficient allowance" in fund.venue.refusal(ALICE, *swap)
    fund.usdc.send(ALICE, "approve", fund.venue.address, 200)
    fund.venue.send(ALICE, *swap)
    assert (0, 7, 100) == (fund.usdc.balance(ALICE), fund.weth.balance(ALICE), fund.usdc.balance(fund.venue))
    assert "insufficient balance" in fund.venue.refusal(ALICE, *swap)


@pytest.mark.parametrize("quote_decimals", [0, 6, 36])
@pytest.mark.parametrize("asset_decimals", [0, 8, 36])
@pytest.mark.parametrize(
    ("price", "quote_price"),
    [(1, 10**8), (158257736200, 99_987_654), (10**8, 7 * 10**13), (0, 1), (10**30, 10**30 - 1)],
)
@pytest.mark.parametrize("tokens", [Fraction(1, 10**36), Fraction(10**9, 3), Fraction(10**12)])
def test_value_is_exact_and_rounded_once(
    pricing: Pricing, asset_decimals: int, quote_decimals: int, price: int, quote_price: int, tokens: Fraction
) -> None:
    asset, quote = pricing.priced(asset_decimals, price), pricing.priced(quote_decimals, quote_price)
    amount = ceil(tokens * 10**asset_decimals)
    exact = Fraction(amount * price * 10**quote_decimals, quote_price * 10**asset_decimals)
    assert floor(exact) == pricing.read("value_of", asset, amount, quote)


class Pricing(Contract):
    """An interpreter that makes priced tokens on demand, each once."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "ValueInterpreter", world.deploy("ValueInterpreter").address)
        self._made: dict[tuple[int, int], str] = {}

    def priced(self, decimals: int, price: int) -> str:
        key = decimals, price
        if key not in self._made:
            token, feed = self.world.token("TKN", decimals), self.world.deploy("PriceFeed", "TKN / USD", price)
            self.send(OWNER, "set_feed", token.address, feed.address)
            self._made[key] = token.address
        return self._made[key]


@pytest.fixture(scope="module")
def pricing(empty_chain: Chain) -> Pricing:
    return Pricing(World(empty_chain.clone()))


def test_nothing_is_worth_nothing_and_an_asset_itself(pricing: Pricing) -> None:
    unpriced, dollar = pricing.world.token("TKN", 6).address, pricing.priced(6, 10**8)
    assert (0, 9) == (
        pricing.read("value_of", unpriced, 0, dollar),
        pricing.read("value_of", unpriced, 9, unpriced),
    )


def test_an_asset_without_a_usable_price_is_refused(pricing: Pricing) -> None:
    dollar = pricing.priced(6, 10**8)
    with pytest.raises(CallReverted, match="no price feed"):
        pricing.read("value_of", pricing.world.token("TKN", 6).address, 1, dollar)
    with pytest.raises(CallReverted, match="price is negative"):
        pricing.read("value_of", pricing.priced(6, -1), 1, dollar)
    with pytest.raises(CallReverted, match="quote asset has no price"):
        pricing.read("value_of", dollar, 1, pricing.priced(6, 0))
    assert "not the owner" in pricing.refusal(ALICE, "set_feed", dollar, dollar)
    assert "other decimals than 8" in pricing.refusal(OWNER, "set_feed", dollar, dollar)


# Enzyme.


def test_fund_is_announced_last_by_its_deployer(fund: Fund) -> None:
    arguments = (MANAGER.address, "n" * 256, "s" * 64, fund.usdc.address, [])
    vault, comptroller = fund.deployer.read("create_fund", *arguments, sender=ALICE)
    receipt = fund.deployer.send(ALICE, "create_fund", *arguments)
    announced = ("NewFundCreated", *low(ALICE), vault.lower(), comptroller.lower())
    assert [announced] == fund.deployer.events(receipt)
    assert receipt.logs[-1].address == fund.deployer.address
    events = Contract(fund.world, "EnzymeVault", vault).events(receipt)
    assert ("TrackedAssetAdded", fund.usdc.address.lower()) in events
    assert ("AccessorSet", ZERO, comptroller.lower()) == events[-1]


def test_fund_answers_what_enzyme_readers_ask(fund: Fund) -> None:
    vault, comptroller = fund.vault, fund.comptroller
    assert ("Other Fund", "OTHER", 18) == tuple(vault.read(view) for view in ("name", "symbol", "decimals"))
    assert addresses(comptroller) == (vault.read("getAccessor"),)
    assert (MANAGER.address, fund.deployer.address) == (vault.read("getOwner"), vault.read("getCreator"))
    assert vault.address == comptroller.read("getVaultProxy")
    assert fund.usdc.address == comptroller.read("getDenominationAsset")
    assert fund.deployer.address == comptroller.read("getFundDeployer")
    assert [fund.usdc.address] == fund.tracked()
    assert (True, False) == tuple(vault.read("isTrackedAsset", token.address) for token in (fund.usdc, fund.weth))


def test_first_deposit_mints_one_share_per_reserve_token(fund: Fund) -> None:
    receipt = fund.deposit(ALICE, 500 * 10**6)
    shares = 500 * 10**18
    assert [("SharesBought", *low(ALICE), 500 * 10**6, shares, shares)] == fund.comptroller.events(receipt)
    assert [("Transfer", ZERO, *low(ALICE), shares)] == fund.vault.events(receipt)
    assert receipt.logs[-1].address == fund.comptroller.address
    assert shares == fund.vault.balance(ALICE)
    assert 10**6 == fund.comptroller.read("calcGrossShareValue")


def test_share_value_without_shares_is_one(fund: Fund) -> None:
    assert (0, 10**6) == (fund.comptroller.read("calcGav"), fund.comptroller.read("calcGrossShareValue"))


def test_later_deposits_are_priced_before_the_deposit(fund: Fund) -> None:
    fund.deposit(ALICE, 1000)
    fund.usdc.send(OWNER, "mint", fund.vault.address, 2)
    fund.deposit(BOB, 7)
    assert 7 * 1000 * 10**12 // 1002 == fund.vault.balance(BOB)


def test_deposit_for_another_pays_from_the_caller(fund: Fund) -> None:
    fund.usdc.send(OWNER, "mint", ALICE.address, 50)
    fund.usdc.send(ALICE, "approve", fund.comptroller.address, 50)
    receipt = fund.comptroller.send(ALICE, "buySharesOnBehalf", BOB.address, 50, 0)
    assert [("SharesBought", *low(BOB), 50, 50 * 10**12, 50 * 10**12)] == fund.comptroller.events(receipt)
    assert (0, 0, 50 * 10**12) == (fund.usdc.balance(ALICE), fund.vault.balance(ALICE), fund.vault.balance(BOB))


def test_deposit_is_refused_below_the_minimum_or_without_tokens(fund: Fund) -> None:
    assert "insufficient allowance" in fund.comptroller.refusal(ALICE, "buyShares", 1, 1)
    fund.usdc.send(ALICE, "approve", fund.comptroller.address, 1)
    assert "insufficient balance" in fund.comptroller.refusal(ALICE, "buyShares", 1, 1)
    fund.usdc.send(OWNER, "mint", ALICE.address, 1)
    assert "shares issued below minimum" in fund.comptroller.refusal(ALICE, "buyShares", 1, 10**12 + 1)


def test_deposit_of_nothing_mints_nothing(fund: Fund) -> None:
    receipt = fund.comptroller.send(ALICE, "buyShares", 0, 0)
    assert [("SharesBought", *low(ALICE), 0, 0, 0)] == fund.comptroller.events(receipt)


def test_deposit_is_refused_while_shares_are_worth_nothing(fund: Fund) -> None:
    fund.deposit(ALICE, 100)
    fund.vault.send(MANAGER, "take", fund.usdc.address, 100, BOB.address)
    assert "shares have no price" in fund.comptroller.refusal(BOB, "buyShares", 100, 0)


def test_trade_tracks_what_it_buys_and_gross_value_follows_the_feed(fund: Fund) -> None:
    fund.deposit(ALICE, 500 * 10**6)
    receipt = fund.trade(100 * 10**6, 62_500_000_000_000_000)
    assert [("TrackedAssetAdded", fund.weth.address.lower())] == fund.vault.events(receipt)
    assert [fund.usdc.address, fund.weth.address] == fund.tracked()
    assert 500 * 10**6 == fund.comptroller.read("calcGav")
    fund.weth_feed.send(OWNER, "set_answer", 158257736200)
    assert 400 * 10**6 + 98911085 == fund.comptroller.read("calcGav")
    assert [] == fund.vault.events(fund.trade(10**6, 1))


def test_supply_tracks_the_index_token_and_unsupply_drops_nothing(fund: Fund) -> None:
    fund.deposit(ALICE, 1000)
    fund.vault.send(MANAGER, "supply", fund.pool.address, fund.usdc.address, 600, fund.ausdc.address)
    assert [fund.usdc.address, fund.ausdc.address] == fund.tracked()
    assert (400, 600) == (fund.usdc.balance(fund.vault), fund.ausdc.balance(fund.vault))
    fund.vault.send(MANAGER, "unsupply", fund.pool.address, fund.ausdc.address, 600)
    assert (1000, 0) == (fund.usdc.balance(fund.vault), fund.ausdc.balance(fund.vault))
    assert [fund.usdc.address, fund.ausdc.address] == fund.tracked()


def test_assets_listed_outright_are_all_that_is_tracked(fund: Fund) -> None:
    fund.vault, fund.comptroller = fund.another(fund.ausdc, fund.usdc)
    fund.deposit(ALICE, 1000)
    fund.trade(100, 5)
    assert [fund.ausdc.address, fund.usdc.address] == fund.tracked()
    assert 900 == fund.comptroller.read("calcGav")


def test_an_asset_cannot_be_listed_twice(fund: Fund) -> None:
    arguments = (MANAGER.address, "Twice", "TWICE", fund.usdc.address, [fund.usdc.address] * 2)
    assert "tracked already" in fund.deployer.refusal(OWNER, "create_fund", *arguments)


def test_manager_sells_no_more_than_the_vault_holds(fund: Fund) -> None:
    fund.deposit(ALICE, 100)
    trade = ("trade", fund.venue.address, fund.usdc.address, 101, fund.weth.address, 1)
    assert "insufficient balance" in fund.vault.refusal(MANAGER, *trade)
    supply = ("supply", fund.pool.address, fund.usdc.address, 101, fund.ausdc.address)
    assert "insufficient balance" in fund.vault.refusal(MANAGER, *supply)
    assert "insufficient balance" in fund.vault.refusal(MANAGER, "take", fund.usdc.address, 101, BOB.address)
    assert "insufficient" in fund.vault.refusal(MANAGER, "unsupply", fund.pool.address, fund.ausdc.address, 1)


def test_manager_alone_manages_and_the_accessor_alone_moves_shares(fund: Fund) -> None:
    usdc, vault = fund.usdc.address, fund.vault
    for call in (
        ("trade", fund.venue.address, usdc, 0, usdc, 0),
        ("supply", fund.pool.address, usdc, 0, fund.ausdc.address),
        ("unsupply", fund.pool.address, fund.ausdc.address, 0),
        ("take", usdc, 0, ALICE.address),
    ):
        assert "not the owner" in vault.refusal(ALICE, *call)
    for call in (
        ("mintShares", ALICE.address, 1),
        ("burnShares", ALICE.address, 0),
        ("withdrawAssetTo", usdc, ALICE.address, 0),
        ("addTrackedAsset", usdc),
    ):
        assert "not the accessor" in vault.refusal(MANAGER, *call)
    assert "neither the fund deployer nor the owner" in vault.refusal(ALICE, "set_accessor", ALICE.address)


def test_owner_replaces_the_accessor(fund: Fund) -> None:
    before = fund.vault.read("getAccessor").lower()
    receipt = fund.vault.send(MANAGER, "set_accessor", CAROL.address)
    assert [("AccessorSet", before, *low(CAROL))] == fund.vault.events(receipt)
    fund.vault.send(CAROL, "mintShares", ALICE.address, 5)
    assert "insufficient shares" in fund.vault.refusal(CAROL, "burnShares", ALICE.address, 6)
    fund.vault.send(CAROL, "burnShares", ALICE.address, 5)
    receipt = fund.vault.send(CAROL, "addTrackedAsset", fund.weth.address)
    assert [("TrackedAssetAdded", fund.weth.address.lower())] == fund.vault.events(receipt)
    assert [] == fund.vault.events(fund.vault.send(CAROL, "addTrackedAsset", fund.weth.address))
    assert "not the accessor" in fund.comptroller.refusal(ALICE, "buyShares", 0, 0)


def replaced(fund: Fund) -> Contract:
    address = fund.deployer.read("replace_accessor", fund.vault.address, sender=MANAGER)
    receipt = fund.deployer.send(MANAGER, "replace_accessor", fund.vault.address)
    assert [("AccessorSet", fund.comptroller.address.lower(), address.lower())] == fund.vault.events(receipt)
    assert [log.address for log in receipt.logs] == [fund.vault.address]
    return Contract(fund.world, "Comptroller", address)


def test_a_new_accessor_takes_over_and_the_old_one_can_only_talk(fund: Fund) -> None:
    fund.deposit(ALICE, 100)
    assert "not the fund's owner" in fund.deployer.refusal(ALICE, "replace_accessor", fund.vault.address)
    new, old = replaced(fund), fund.comptroller
    views = ("getVaultProxy", "getDenominationAsset", "getValueInterpreter", "getFundDeployer", "calcGav")
    assert [old.read(view) for view in views] == [new.read(view) for view in views]
    assert new.address == fund.vault.read("getAccessor")
    fund.usdc.send(OWNER, "mint", BOB.address, 10)
    for comptroller in (old, new):
        fund.usdc.send(BOB, "approve", comptroller.address, 10)
    assert "not the accessor" in old.refusal(BOB, "buyShares", 10, 0)
    assert "not the accessor" in old.refusal(ALICE, "redeemSharesInKind", ALICE.address, 1, [], [])
    assert "not the accessor" in old.refusal(MANAGER, "charge_fee", BOB.address, 1, False)
    receipt = old.send(BOB, "announce", 7, 8)
    assert [("SharesBought", *low(BOB), 7, 8, 8)] == old.events(receipt)
    assert len(receipt.logs) == 1
    new.send(BOB, "buyShares", 10, 0)
    assert 10 * 10**12 == fund.vault.balance(BOB)


def test_a_fee_is_charged_in_shares_for_nothing(fund: Fund) -> None:
    fund.deposit(ALICE, 100)
    shares = 3 * 10**18 // 2
    assert "not the fund's owner" in fund.comptroller.refusal(ALICE, "charge_fee", CAROL.address, shares, True)
    receipt = fund.comptroller.send(MANAGER, "charge_fee", CAROL.address, shares, False)
    assert [] == fund.comptroller.events(receipt)
    receipt = fund.comptroller.send(MANAGER, "charge_fee", CAROL.address, shares, True)
    assert [("SharesBought", *low(CAROL), 1_500_000, shares, shares)] == fund.comptroller.events(receipt)
    assert (2 * shares, 100) == (fund.vault.balance(CAROL), fund.usdc.balance(fund.vault))


def test_shares_are_issued_for_what_a_fee_on_transfers_leaves(world: World) -> None:
    token = world.deploy("FeeToken", "Fee", "FEE", 6, 10**16, CAROL.address)
    fund = set_up_fund(world)
    arguments: tuple[Any, ...] = (MANAGER.address, "Fee Fund", "FEEFUND", token.address, [])
    _, comptroller = fund.deployer.read("create_fund", *arguments, sender=OWNER)
    fund.deployer.send(OWNER, "create_fund", *arguments)
    accessor = Contract(world, "Comptroller", comptroller)
    token.send(OWNER, "mint", ALICE.address, 2000)
    token.send(ALICE, "approve", comptroller, ENDLESS)
    for _ in range(2):
        receipt = accessor.send(ALICE, "buyShares", 1000, 0)
        assert [("SharesBought", *low(ALICE), 990, 990 * 10**12, 990 * 10**12)] == accessor.events(receipt)


def test_redemption_pays_each_tracked_asset_in_order(fund: Fund) -> None:
    fund.deposit(ALICE, 500 * 10**6)
    fund.trade(100 * 10**6, 62_281_452_695_831_129)
    receipt = fund.comptroller.send(ALICE, "redeemSharesInKind", BOB.address, 250 * 10**18, [], [])
    quantities = (200 * 10**6, 31_140_726_347_915_564)
    redeemed = ("SharesRedeemed", *low(ALICE, BOB), 250 * 10**18, low(fund.usdc, fund.weth), quantities)
    assert [redeemed] == fund.comptroller.events(receipt)
    assert receipt.logs[-1].address == fund.comptroller.address
    assert [
        ("Transfer", *low(ALICE), ZERO, 250 * 10**18),
        ("AssetWithdrawn", *low(fund.usdc, BOB), quantities[0]),
        ("AssetWithdrawn", *low(fund.weth, BOB), quantities[1]),
    ] == fund.vault.events(receipt)
    assert quantities == (fund.usdc.balance(BOB), fund.weth.balance(BOB))
    # What the division left over stays in the vault.
    assert 31_140_726_347_915_565 == fund.weth.balance(fund.vault)


def test_zero_legs_are_reported_but_not_transferred(fund: Fund) -> None:
    fund.deposit(ALICE, 3)
    fund.trade(1, 1)
    receipt = fund.comptroller.send(ALICE, "redeemSharesInKind", ALICE.address, 10**12, [], [])
    assert ((0, 0),) == fund.comptroller.events(receipt)[0][-1:]
    assert 2 == len(receipt.logs)


def test_redemption_adds_and_skips_assets(fund: Fund) -> None:
    fund.deposit(ALICE, 1000)
    fund.trade(500, 40)
    fund.ausdc.send(OWNER, "mint", fund.vault.address, 60)
    arguments = (ALICE.address, 500 * 10**12, [fund.ausdc.address, fund.usdc.address], [fund.weth.address])
    answer = fund.comptroller.read("redeemSharesInKind", *arguments, sender=ALICE)
    assert ((fund.usdc.address, fund.ausdc.address), (250, 30)) == tuple(map(tuple, answer))
    receipt = fund.comptroller.send(ALICE, "redeemSharesInKind", *arguments)
    assert (low(fund.usdc, fund.ausdc), (250, 30)) == fund.comptroller.events(receipt)[0][-2:]
    assert 40 == fund.weth.balance(fund.vault)


def test_redemption_pays_named_assets_in_their_order(fund: Fund) -> None:
    fund.deposit(ALICE, 1000)
    fund.trade(500, 40)
    arguments = (BOB.address, 250 * 10**12, [fund.weth.address, fund.usdc.address])
    receipt = fund.comptroller.send(ALICE, "redeemSharesForSpecificAssets", *arguments)
    redeemed = ("SharesRedeemed", *low(ALICE, BOB), 250 * 10**12, low(fund.weth, fund.usdc), (10, 125))
    assert [redeemed] == fund.comptroller.events(receipt)
    twice = (BOB.address, 1, [fund.weth.address] * 2)
    assert "named twice" in fund.comptroller.refusal(ALICE, "redeemSharesForSpecificAssets", *twice)


def test_redemption_of_more_than_is_held_or_of_nothing_is_refused(fund: Fund) -> None:
    fund.deposit(ALICE, 10)
    held = 10 * 10**12
    arguments = (ALICE.address, held + 1, [], [])
    assert "insufficient shares" in fund.comptroller.refusal(ALICE, "redeemSharesInKind", *arguments)
    assert "no shares" in fund.comptroller.refusal(ALICE, "redeemSharesInKind", ALICE.address, 0, [], [])
    fund.comptroller.send(ALICE, "redeemSharesInKind", ALICE.address, held, [], [])
    assert (0, 10) == (fund.vault.read("totalSupply"), fund.usdc.balance(ALICE))


def test_shares_move_like_any_token(fund: Fund) -> None:
    fund.deposit(ALICE, 10)
    fund.vault.send(ALICE, "transfer", BOB.address, 4)
    assert 4 == fund.vault.balance(BOB)
    assert "insufficient balance" in fund.vault.refusal(BOB, "transfer", ALICE.address, 5)
    fund.vault.send(BOB, "approve", CAROL.address, 3)
    assert "insufficient allowance" in fund.vault.refusal(CAROL, "transferFrom", *addresses(BOB, CAROL), 4)
    fund.vault.send(CAROL, "transferFrom", *addresses(BOB, CAROL), 3)
    assert 1 == fund.vault.balance(BOB)


@pytest.mark.parametrize("decimals", [0, 36])
def test_fund_works_at_both_ends_of_decimals(fund: Fund, decimals: int) -> None:
    reserve, much = fund.world.token("RES", decimals), 10 ** (12 + decimals)
    feed = fund.world.deploy("PriceFeed", "RES / USD", 10**8)
    fund.interpreter.send(OWNER, "set_feed", reserve.address, feed.address)
    fund.usdc = reserve
    fund.vault, fund.comptroller = fund.another()
    for investor in (ALICE, BOB):
        fund.deposit(investor, much)
        assert 10**30 == fund.vault.balance(investor)
    fund.trade(much // 2, 10**20)
    assert much * 3 // 2 + 160_000 * 10**decimals == fund.comptroller.read("calcGav")
    fund.comptroller.send(BOB, "redeemSharesInKind", BOB.address, 10**30, [], [])
    assert (much * 3 // 4, 5 * 10**19) == (reserve.balance(BOB), fund.weth.balance(BOB))


# ERC-4626.


def test_erc4626_has_long_names_and_its_assets_decimals(plain: Plain) -> None:
    vault = plain.vault
    assert ("n" * 256, "s" * 64, 6) == tuple(vault.read(view) for view in ("name", "symbol", "decimals"))
    assert (plain.usdc.address, MANAGER.address) == (vault.read("asset"), vault.read("manager"))


def test_erc4626_deposit_and_mint_are_logged_as_the_standard_says(plain: Plain) -> None:
    plain.give(ALICE, 1000)
    receipt = plain.vault.send(ALICE, "deposit", 600, BOB.address)
    deposited = ("Deposit", *low(ALICE, BOB), 600, 600)
    assert [("Transfer", ZERO, *low(BOB), 600), deposited] == plain.vault.events(receipt)
    receipt = plain.vault.send(ALICE, "mint", 400, BOB.address)
    assert ("Deposit", *low(ALICE, BOB), 400, 400) == plain.vault.events(receipt)[-1]
    assert (1000, 1000) == (plain.vault.balance(BOB), plain.vault.read("totalAssets"))


def test_erc4626_withdrawal_and_redemption_are_logged_as_the_standard_says(plain: Plain) -> None:
    plain.deposit(ALICE, 1000)
    receipt = plain.vault.send(ALICE, "withdraw", 300, BOB.address, ALICE.address)
    withdrawn = ("Withdraw", *low(ALICE, BOB, ALICE), 300, 300)
    assert [("Transfer", *low(ALICE), ZERO, 300), withdrawn] == plain.vault.events(receipt)
    plain.vault.send(ALICE, "approve", CAROL.address, 200)
    receipt = plain.vault.send(CAROL, "redeem", 200, BOB.address, ALICE.address)
    assert ("Withdraw", *low(CAROL, BOB, ALICE), 200, 200) == plain.vault.events(receipt)[-1]
    assert (500, 500) == (plain.usdc.balance(BOB), plain.vault.balance(ALICE))


def test_erc4626_previews_keep_their_word_and_round_for_the_vault(plain: Plain) -> None:
    plain.deposit(ALICE, 1000)
    plain.usdc.send(OWNER, "mint", plain.vault.address, 500)
    plain.give(BOB, 10_000)
    # 1001 virtual shares to 1501 virtual assets.
    assert (66, 150, 67, 148) == (
        plain.vault.read("previewDeposit", 100),
        plain.vault.read("previewMint", 100),
        plain.vault.read("previewWithdraw", 100),
        plain.vault.read("previewRedeem", 99),
    )
    for verb, amount, tail in (
        ("deposit", 100, (BOB.address,)),
        ("mint", 100, (BOB.address,)),
        ("withdraw", 100, (BOB.address, BOB.address)),
        ("redeem", 99, (BOB.address, BOB.address)),
    ):
        preview = plain.vault.read(f"preview{verb.capitalize()}", amount)
        assert preview == plain.vault.read(verb, amount, *tail, sender=BOB)
        plain.vault.send(BOB, verb, amount, *tail)
    assert plain.vault.balance(ALICE) == plain.vault.read("maxRedeem", ALICE.address)
    assert plain.vault.read("convertToAssets", 1000) == plain.vault.read("maxWithdraw", ALICE.address)
    assert (ENDLESS, ENDLESS) == tuple(plain.vault.read(view, BOB.address) for view in ("maxDeposit", "maxMint"))


def test_erc4626_says_what_is_insufficient(plain: Plain) -> None:
    plain.deposit(ALICE, 10)
    assert "insufficient balance" in plain.vault.refusal(ALICE, "deposit", 1, ALICE.address)
    assert "insufficient allowance" in plain.vault.refusal(BOB, "mint", 1, BOB.address)
    for verb in ("withdraw", "redeem"):
        refusal = plain.vault.refusal(ALICE, verb, 11, ALICE.address, ALICE.address)
        assert f"insufficient shares, {verb} more than maximum" in refusal
        refusal = plain.vault.refusal(BOB, verb, 1, BOB.address, ALICE.address)
        assert "insufficient allowance" in refusal
    assert "insufficient balance" in plain.vault.refusal(ALICE, "transfer", BOB.address, 11)


def test_erc4626_manager_moves_assets_out(plain: Plain) -> None:
    plain.deposit(ALICE, 10)
    receipt = plain.vault.send(MANAGER, "transfer_out", plain.usdc.address, 4, CAROL.address)
    assert [] == plain.vault.events(receipt)
    assert (4, 6, 10) == (plain.usdc.balance(CAROL), plain.vault.read("totalAssets"), plain.vault.balance(ALICE))
    assert "not the manager" in plain.vault.refusal(ALICE, "transfer_out", plain.usdc.address, 1, ALICE.address)
    assert "insufficient balance" in plain.vault.refusal(MANAGER, "transfer_out", plain.usdc.address, 7, CAROL.address)


def test_erc4626_fee_is_charged_in_shares_for_nothing(plain: Plain) -> None:
    plain.deposit(ALICE, 100)
    assert "not the manager" in plain.vault.refusal(ALICE, "charge_fee", CAROL.address, 5, True)
    assert len(plain.vault.send(MANAGER, "charge_fee", CAROL.address, 5, False).logs) == 1
    receipt = plain.vault.send(MANAGER, "charge_fee", CAROL.address, 5, True)
    assert ("Deposit", *low(plain.vault, CAROL), 5, 5) == plain.vault.events(receipt)[-1]
    assert (10, 110) == (plain.vault.balance(CAROL), plain.vault.read("totalSupply"))
    assert plain.vault.read("totalAssets") == 100


def test_donation_lets_the_first_depositor_take_what_others_deposit(plain: Plain) -> None:
    plain.deposit(ALICE, 1)
    plain.usdc.send(OWNER, "mint", plain.vault.address, 100)
    for _ in range(3):
        plain.deposit(BOB, 50)
    assert (1, 0) == (plain.vault.balance(ALICE), plain.vault.balance(BOB))
    plain.vault.send(ALICE, "redeem", 1, ALICE.address, ALICE.address)
    assert (126, 125) == (plain.usdc.balance(ALICE), plain.vault.read("totalAssets"))


@pytest.mark.parametrize("decimals", [0, 36])
def test_erc4626_works_at_both_ends_of_decimals(plain: Plain, decimals: int) -> None:
    plain.usdc = plain.world.token("RES", decimals)
    address = plain.factory.read("create_vault", plain.usdc.address, "V", "V", MANAGER.address)
    plain.factory.send(OWNER, "create_vault", plain.usdc.address, "V", "V", MANAGER.address)
    plain.vault = Contract(plain.world, "Erc4626Vault", address)
    much = 10 ** (12 + decimals)
    for investor in (ALICE, BOB):
        plain.deposit(investor, much)
    assert (decimals, much) == (plain.vault.read("decimals"), plain.vault.balance(BOB))
    plain.vault.send(BOB, "redeem", much, BOB.address, BOB.address)
    assert much == plain.usdc.balance(BOB)
