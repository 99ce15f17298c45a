"""What every vault kind offers to the player of a scenario, and how it reads state.

A kind is one module: which contracts it deploys, which call carries out a step, which legs it pays out in which
order, and for each flow its mark.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from harness.chain import Account, Artifact, Call, Outcome, load_artifact
from harness.ledger.facts import Leg, MoveKind
from harness.scenario.model import Amount, FlowStep, TokenSpec, VaultSpec
from harness.units import Token

SETUP_GAS = 12_000_000
"""For deployments; an ordinary call takes the chain's default."""

SECOND_FUND_DEPOSIT_TOKENS = 5
SECOND_FUND_REDEMPTION_SHARES = 2
"""What the second fund's investor puts in and takes out, in turns."""

Calls = Generator[Call, Outcome, None]
"""Yields calls, is sent what became of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The event that a flow shows itself by: who emits it, and its topic 0."""

    emitter: str
    topic: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowIntent:
    """What a flow's call asks for, worked out from the step and the state just before it."""

    cause: Literal["deposit", "redemption"]
    owner: str
    legs: tuple[Leg, ...]
    mark: Mark
    short: int = 0
    """Of a deposit: what is sent and does not arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A step ready to be sent: its call, and what it should move in the holder's balances."""

    call: Call
    text: str
    """In words, for the timeline."""
    flow: FlowIntent | None = None
    asked: Mapping[str, int]
    """The holder's change by symbol, base units, as asked."""
    rest: MoveKind = "rounded"
    """What a change beyond the asked one is."""
    fee_shares: int = 0
    """Shares that are minted for nothing."""
    extra_mark: Mark | None = None
    """An event in it that looks like a flow's and is none."""


class State:
    """Reads of contracts in the block being built, or at a mined one: by ABI, never by logs."""

    def __init__(self, call: Callable[[str, bytes], bytes]) -> None:
        self._call = call

    def read(self, artifact: Artifact, address: str, function: str, *arguments: object) -> object:
        """The decoded answer of a view function."""
        return artifact.decode(function, self._call(address, artifact.encode(function, *arguments)))

    def number(self, artifact: Artifact, address: str, function: str, *arguments: object) -> int:
        """The answer of a view function that gives one integer."""
        value = self.read(artifact, address, function, *arguments)
        if not isinstance(value, int):
            raise TypeError(f"{function} gives {type(value).__name__}, not an integer")
        return value

    def balance(self, token: str, holder: str) -> int:
        """A token balance, base units."""
        return self.number(load_artifact("Erc20"), token, "balanceOf", holder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What of the world a vault kind needs to know."""

    deployer: Account
    """Sets the world up; owns tokens and feeds."""
    manager: Account
    stranger: Account
    """Invests in the second fund."""
    tokens: Mapping[str, str]
    """Addresses by symbol, in the file's order."""
    decimals: Mapping[str, Token]
    feeds: Mapping[str, str]
    pool: str
    venue: str
    actors: Mapping[str, Account]
    specs: Mapping[str, TokenSpec]
    accessors: int = 1
    """How many accessors the vault comes to have, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A vault that stands."""

    vault: str
    deployer: str
    """Who emitted the deployment event."""
    holder: str
    second_vault: str
    deployment_transaction: str


class VaultKind(Protocol):
    """One kind of vault, deployed or about to be."""

    def deploy_factory(self) -> Calls:
        """Deploy what comes before the vault (block 1)."""

    def deploy(self) -> Generator[Call, Outcome, Deployed]:
        """Deploy the vault and the second fund (block 2)."""

    def prepare(self, step: FlowStep, state: State) -> Prepared:
        """Turn an investor's flow into a call; amounts count what stands just before it."""

    def transfer_shares(self, caller: Account, receiver: str, raw: int) -> Call:
        """Hand shares over."""

    def share_balance(self, state: State, holder: str) -> int:
        """Somebody's shares, raw."""

    def share_supply(self, state: State) -> int:
        """All shares, raw."""

    def gross_assets(self, state: State) -> int:
        """What all shares together stand for, raw reserve units."""

    def counted_assets(self, state: State) -> tuple[str, ...]:
        """Symbols of the assets that gross assets count."""

    def approve_shares(self, owner: Account, spender: str) -> Call:
        """Let somebody act for another's shares."""

    def spenders(self) -> tuple[str, ...]:
        """Who pulls the reserve from an investor, now or once the accessor has been replaced."""

    def second_spender(self) -> str:
        """Who pulls it for the second fund."""

    def second_share_balance(self, state: State, holder: str) -> int:
        """Somebody's shares of the second fund, raw."""

    def charge_fee(self, state: State, receiver: str, shares_raw: int, event: bool) -> Call:
        """Mint shares to somebody for nothing; with an event shaped like a deposit's, or without."""

    def replace_accessor(self, state: State) -> Call:
        """Let the vault listen to a new accessor."""

    def emit(self, state: State, caller: Account, accessor: int, assets_raw: int, shares_raw: int) -> Call:
        """A deposit's event of the n-th accessor (1: the first), and nothing else.

        Raises:
            ValueError: If the vault has had no such accessor yet.
        """

    def emitted_mark(self, call: Call) -> Mark:
        """The event of a call of `emit`."""

    def borrow(self, raw: int, debt: str) -> Call:
        """Borrow reserve from the pool, owed in a debt token."""

    def repay(self, raw: int, debt: str) -> Call:
        """Pay reserve back to the pool."""

    def second_fund_flow(self, turn: int) -> Call:
        """The second fund's next flow: deposits and redemptions in turn; turn 0 is its first deposit."""

    def trade(self, sell: str, sell_raw: int, buy: str, buy_raw: int) -> Call:
        """Swap at the venue."""

    def supply(self, raw: int, into: str) -> Call:
        """Supply reserve to the pool."""

    def unsupply(self, raw: int, token: str) -> Call:
        """Withdraw from the pool."""

    def take(self, symbol: str, raw: int, receiver: str) -> Call:
        """Let tokens leave the holder."""


def deploy(sender: Account, artifact: Artifact, *arguments: object) -> Generator[Call, Outcome, str]:
    """Deploy a contract; gives its address."""
    return (yield from create(sender, artifact.deploy_data(*arguments)))


def deploy_blueprint(sender: Account, artifact: Artifact) -> Generator[Call, Outcome, str]:
    """Deploy a contract's code as a blueprint (ERC-5202) for a factory to create from; gives its address."""
    blueprint = b"\xfe\x71\x00" + artifact.bytecode
    return (
        yield from create(
            sender, b"\x61" + len(blueprint).to_bytes(2, "big") + bytes.fromhex("3d81600a3d39f3") + blueprint
        )
    )


def create(sender: Account, data: bytes) -> Generator[Call, Outcome, str]:
    """Send a creation; gives the new contract's address."""
    outcome = yield Call(sender=sender, to=None, data=data, gas=SETUP_GAS)
    if outcome.contract_address is None or not outcome.succeeded:
        raise SetupFailed(f"a contract could not be deployed: {outcome.revert_reason}")
    return outcome.contract_address


def send(sender: Account, to: str, data: bytes) -> Generator[Call, Outcome, Outcome]:
    """Send a set-up call that must succeed."""
    outcome = yield Call(sender=sender, to=to, data=data, gas=SETUP_GAS)
    if not outcome.succeeded:
        raise SetupFailed(f"the world could not be set up: {outcome.revert_reason}")
    return outcome


class SetupFailed(Exception):
    """A call of the set-up failed."""


def share(amount: Amount, whole: int) -> int:
    """Resolve an amount: exact as it is, a percentage or ``all`` of ``whole``, rounded down."""
    if amount.raw is not None:
        return amount.raw
    if amount.percent is not None:
        return whole * amount.percent.numerator // amount.percent.denominator
    return whole


def kind_of(spec: VaultSpec, surroundings: Surroundings) -> VaultKind:
    """The module for a vault's kind."""
    from harness.world.enzyme import EnzymeKind
    from harness.world.erc4626 import Erc4626Kind

    match spec.kind:
        case "enzyme":
            return EnzymeKind(spec, surroundings)
        case "erc4626":
            return Erc4626Kind(spec, surroundings)
