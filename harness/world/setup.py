"""The world that a scenario starts from: tokens, feeds, actors (block 1), the vault and a second fund (block 2).

Deployed once per process for all scenarios whose first blocks are equal, and cloned for each.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.books.records import AssetIdentifier
from harness.chain import Account, Call, Outcome, load_artifact
from harness.chain.backend import contract_address
from harness.chain.chain import as_address, checksummed
from harness.ledger.facts import Setting
from harness.scenario.model import (
    Block,
    Deposit,
    NodeStep,
    Redeem,
    Reorg,
    ReplaceAccessor,
    Scenario,
    StepBase,
    TokenSpec,
    Transaction,
)
from harness.world import tokens
from harness.world.vault import Calls, Deployed, Surroundings, VaultKind, deploy, kind_of, send

PLENTY_TOKENS = 10**12
"""What an actor has of each token unless the header says otherwise."""
STOCK_TOKENS = 10**13
"""What venue and pool hold of each token."""
UNLIMITED = 2**256 - 1

BATCH = load_artifact("Batch")
BATCH_GAS = 40_000_000
ERC20 = load_artifact("Erc20")
PRICE_FEED = load_artifact("PriceFeed")
POOL = load_artifact("Pool")
VENUE = load_artifact("Venue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a scenario's later steps ask of its first two blocks; hashable."""

    accessors: int
    """How many accessors the vault comes to have, at most."""
    second_investors: tuple[str, ...]
    """Who goes into the second fund, or out."""
    batchers: tuple[str, ...]
    """Who puts several calls into one transaction."""
    fees: tuple[tuple[str, int, int], ...]
    """Fees on transfers: symbol, and the fee as a fraction."""

    @classmethod
    def of(cls, scenario: Scenario) -> Needs:
        """Look through all steps, wherever they stand."""
        steps = list(_all_steps((*scenario.deploy_block, *scenario.steps)))
        investors = {step.caller for step in steps if isinstance(step, Deposit | Redeem) and step.second_vault}
        return cls(
            accessors=1 + sum(isinstance(step, ReplaceAccessor) for step in steps),
            second_investors=tuple(sorted(investors)),
            batchers=tuple(sorted({step.caller for step in steps if isinstance(step, Transaction)})),
            fees=tuple(
                (spec.symbol, spec.fee.numerator, spec.fee.denominator)
                for spec in scenario.tokens.values()
                if spec.kind == "fee_on_transfer"
            ),
        )


def _all_steps(steps: Iterable[StepBase]) -> Iterator[StepBase]:
    for step in steps:
        yield step
        match step:
            case Block() | NodeStep():
                yield from _all_steps(step.steps)
            case Transaction():
                yield from _all_steps(step.calls)
            case Reorg():
                yield from _all_steps(step.add)


@dataclass(slots=True)
class World:
    """Who and what is on the chain of a scenario."""

    kind: VaultKind
    around: Surroundings
    deployed: Deployed
    underlyings: dict[str, str]
    """Address of what each rebase token wraps, by the rebase token's symbol."""

    def setting(self, scenario: Scenario) -> Setting:
        """What ledger and syncers are told of it."""
        return Setting(
            kind=scenario.vault.kind,
            chain_id=scenario.chain_id,
            vault=self.deployed.vault,
            deployer=self.deployed.deployer,
            holder=self.deployed.holder,
            second_vault=self.deployed.second_vault,
            assets={symbol: self._asset(scenario, spec) for symbol, spec in scenario.tokens.items()},
            feeds=dict(self.around.feeds),
            dust_absolute={symbol: spec.dust_absolute for symbol, spec in scenario.tokens.items()},
            dust_relative={symbol: spec.dust_relative for symbol, spec in scenario.tokens.items()},
            reserve=scenario.vault.reserve,
            actors={name: account.address for name, account in self.around.actors.items()},
            interest_bound=scenario.interest_bound,
            vault_name=scenario.vault.name,
            vault_symbol=scenario.vault.symbol,
            share_decimals=scenario.share.decimals,
            deployment_block=2,
            deployment_transaction=self.deployed.deployment_transaction,
            deployment_location=scenario.vault.location,
        )

    def _asset(self, scenario: Scenario, spec: TokenSpec) -> AssetIdentifier:
        underlying: AssetIdentifier | None = None
        if tokens.grows(spec.kind):
            symbol = spec.underlying or _hidden_underlying(spec)
            underlying = AssetIdentifier(
                chain_id=scenario.chain_id,
                address=self.underlyings[spec.symbol].lower(),
                token_symbol=symbol,
                decimals=spec.decimals,
            )
        return AssetIdentifier(
            chain_id=scenario.chain_id,
            address=self.around.tokens[spec.symbol].lower(),
            token_symbol=spec.symbol,
            decimals=spec.decimals,
            type=tokens.BORROWED if spec.kind == "debt" else None,
            underlying=underlying,
        )

    def batch(self, caller: Account, calls: Sequence[Call]) -> Call:
        """Several calls of one caller as one transaction, in which each has the caller itself as its sender.

        The caller must be one of the scenario's `Needs.batchers`. A call that fails undoes all, for its own reason.
        """
        if any(call.sender != caller for call in calls):
            raise ValueError("the calls of a transaction have one caller")
        steps = [call.packed() for call in calls]
        return Call(sender=caller, to=caller.address, data=BATCH.encode("execute", steps), gas=BATCH_GAS)

    def rounds(self, symbol: str) -> bool:
        """Tell whether a transfer of this token may move other than asked: by its own rounding, or by a fee."""
        return self.around.specs[symbol].kind != "plain"


def _hidden_underlying(spec: TokenSpec) -> str:
    """Name the token behind a rebase token that says of none: nobody but its pool ever sees it."""
    return f"{spec.symbol}-underlying"


class Foundation:
    """Carries the set-up out, in two blocks."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._needs = Needs.of(scenario)
        self._deployer = Account.named("deployer")
        self._manager = Account.named("manager")
        self._stranger = Account.named("stranger")
        self._actors = {name: Account.named(f"actor {name}") for name in scenario.actors}
        self._tokens: dict[str, str] = {}
        self._underlyings: dict[str, str] = {}
        self._kind: VaultKind | None = None
        self._around: Surroundings | None = None

    def accounts(self) -> list[Account]:
        """Everybody who sends transactions."""
        return [self._deployer, self._manager, self._stranger, *self._actors.values()]

    def delegates(self) -> Mapping[str, str]:
        """Which accounts run which contract's code as their own: those that put several calls into a transaction."""
        batch = checksummed(contract_address(as_address(self._deployer.address), 0))
        return {self._actors[name].address: batch for name in self._needs.batchers}

    def deploy_tokens(self) -> Calls:
        """Block 1: tokens, feeds, venue, pool, what comes before the vault; everybody gets theirs."""
        deployer = self._deployer
        if self._needs.batchers:
            yield from deploy(deployer, BATCH)  # the deployer's first creation: see `delegates`
        pool = yield from deploy(deployer, POOL)
        venue = yield from deploy(deployer, VENUE)
        feeds: dict[str, str] = {}
        for spec in _underlyings_first(self._scenario):
            self._tokens[spec.symbol] = yield from self._deploy_token(spec, pool)
            feeds[spec.symbol] = yield from deploy(deployer, PRICE_FEED, f"{spec.symbol} / USD"[:64], spec.price_raw)
        for spec in self._scenario.tokens.values():
            yield from self._stock(spec, pool, venue)
        symbols = list(self._scenario.tokens)
        self._around = Surroundings(
            deployer=deployer,
            manager=self._manager,
            stranger=self._stranger,
            tokens={symbol: self._tokens[symbol] for symbol in symbols},
            decimals={symbol: spec.token for symbol, spec in self._scenario.tokens.items()},
            feeds={symbol: feeds[symbol] for symbol in symbols},
            pool=pool,
            venue=venue,
            actors=self._actors,
            specs=dict(self._scenario.tokens),
            accessors=self._needs.accessors,
        )
        self._kind = kind_of(self._scenario.vault, self._around)
        yield from self._kind.deploy_factory()

    def _deploy_token(self, spec: TokenSpec, pool: str) -> Generator[Call, Outcome, str]:
        if not tokens.grows(spec.kind):
            return (yield from tokens.deploy_token(self._deployer, spec, None, pool))
        underlying = self._tokens.get(spec.underlying or "")
        if underlying is None:
            name = _hidden_underlying(spec)
            underlying = yield from deploy(self._deployer, ERC20, name, name[:64], spec.decimals)
        self._underlyings[spec.symbol] = underlying
        return (yield from tokens.deploy_token(self._deployer, spec, underlying, pool))

    def _stock(self, spec: TokenSpec, pool: str, venue: str) -> Calls:
        one = 10**spec.decimals
        holdings = {} if spec.kind == "debt" else {venue: STOCK_TOKENS * one}
        if not tokens.grows(spec.kind) or self._wrapped(spec):
            holdings[pool] = STOCK_TOKENS * one
        if spec.symbol == self._scenario.vault.reserve:
            holdings[self._stranger.address] = PLENTY_TOKENS * one
        for name, account in self._actors.items():
            given = self._scenario.actors[name]
            plenty = 0 if spec.kind == "debt" else PLENTY_TOKENS * one
            holdings[account.address] = plenty if given is None else given.get(spec.symbol, 0)
        for holder, raw in holdings.items():
            if raw:
                yield from send(self._deployer, self._tokens[spec.symbol], ERC20.encode("mint", holder, raw))

    def _wrapped(self, spec: TokenSpec) -> bool:
        """Whether the pool lends or wraps this token."""
        return any(other.underlying == spec.symbol for other in self._scenario.tokens.values())

    def deploy_vault(self) -> Generator[Call, Outcome, World]:
        """Block 2: the vault, the second fund, everybody's approvals."""
        assert self._kind is not None, "block 1 comes first"
        assert self._around is not None, "block 1 comes first"
        deployed = yield from self._kind.deploy()
        reserve = self._tokens[self._scenario.vault.reserve]
        for spender in self._kind.spenders():
            for account in self._actors.values():
                yield from send(account, reserve, ERC20.encode("approve", spender, UNLIMITED))
        for name in self._needs.second_investors:
            approve = ERC20.encode("approve", self._kind.second_spender(), UNLIMITED)
            yield from send(self._actors[name], reserve, approve)
        for owner, caller in self._scenario.approvals:
            approval = self._kind.approve_shares(self._actors[owner], self._actors[caller].address)
            outcome: Outcome = yield approval
            assert outcome.succeeded, "an approval cannot fail"
        return World(kind=self._kind, around=self._around, deployed=deployed, underlyings=self._underlyings)


def _underlyings_first(scenario: Scenario) -> list[TokenSpec]:
    wrapped = {spec.underlying for spec in scenario.tokens.values()}
    return sorted(
        scenario.tokens.values(),
        key=lambda spec: tokens.grows(spec.kind) and (spec.symbol not in wrapped or spec.underlying is not None),
    )
