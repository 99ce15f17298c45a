"""What a scenario file says, as values.

Amounts are already exact: the loader knows each token's decimals. A step keeps the `Location` that it was
read from, so that a break can point at its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from harness.errors import Location
from harness.units import Token

SHARES = "shares"
"""Stands for the vault's share token where an amount names its token."""

TokenKind = Literal["plain", "fee_on_transfer", "index_rebase", "share_rebase", "opt_in_rebase", "debt"]
VaultKindName = Literal["enzyme", "erc4626"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much of one token: exactly one of ``raw``, ``percent``, ``everything`` is set.

    ``token`` is a symbol of the header's ``tokens``, or ``SHARES``. None only where the step leaves
    the token to the position (``supply``/``unsupply``/``trade`` always name it).
    """

    location: Location
    text: str
    token: str
    raw: int | None = None
    percent: Fraction | None = None
    """A fraction of one: ``40%`` is 2/5."""

    @property
    def everything(self) -> bool:
        """``all``."""
        return self.raw is None and self.percent is None


# -- header


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpec:
    """A token of the world. ``symbol`` is its name in the file and on chain."""

    location: Location
    symbol: str
    name: str
    decimals: int
    kind: TokenKind
    underlying: str | None
    """Symbol of the token that a rebase token wraps."""
    price_raw: int
    """USD with 8 decimals, at the start."""
    dust_absolute: Decimal
    dust_relative: Decimal
    fee: Fraction = Fraction(0)
    """Of a ``fee_on_transfer`` token: the part of each transfer that does not arrive, rounded down."""

    @property
    def token(self) -> Token:
        """Symbol and decimals."""
        return Token(symbol=self.symbol, decimals=self.decimals)


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultSpec:
    """The vault that the books are of."""

    location: Location
    kind: VaultKindName
    name: str
    symbol: str
    reserve: str
    tracked: tuple[str, ...] | None
    """Enzyme: the tracked assets in order, if the file lists them outright."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LawOff:
    """A law that the scenario switches off, and why it does not hold there."""

    location: Location
    law: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far books may differ from what they must say of one token, in base units, and why."""

    location: Location
    asset: str
    raw: int
    field: str | None
    """The one field it holds for; None: every quantity of the token, and its worth."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBreak:
    """A break that is accepted for now: one that has each of the values named here."""

    location: Location
    kind: str
    field: str | None = None
    asset: str | None = None
    position_id: int | None = None
    block: int | None = None
    line: int | None = None
    """Of the step that it comes from, or at which it was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Breaks of a syncer that are accepted until a date, the day itself included."""

    location: Location
    reason: str
    until: date
    breaks: tuple[KnownBreak, ...]


# -- expectations


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A signed quantity that names its token."""

    raw: int
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Somebody, by name; ``vault`` is the vault itself."""

    name: str


ExpectedScalar = Quantity | Fraction | int | str | datetime | Actor | None
"""A bare number for a quantity is a Fraction, in tokens of whatever asset the record is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedField:
    """One field that an ``expect`` names, and the value that it should have.

    A nested record is an `ExpectedRecord`; a list (refs, trades, a position's ``balance_updates``) a tuple of
    them; a map keyed by asset (``asset_interest_data``) a mapping from symbol. ``assets`` is a tuple of
    records with a ``token_symbol`` each, ``other_data`` a record whose fields are its keys.
    """

    location: Location
    name: str
    value: ExpectedScalar | ExpectedRecord | tuple[ExpectedRecord, ...] | Mapping[str, ExpectedRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedRecord:
    """What an ``expect`` says of one record: the fields it names and nothing else."""

    location: Location
    fields: tuple[ExpectedField, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedBalance:
    """A balance that an ``expect`` names."""

    location: Location
    token: str
    raw: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedChain:
    """What the chain itself should show."""

    location: Location
    balances: tuple[ExpectedBalance, ...] = ()
    share_count: Fraction | None = None
    """In shares."""
    share_price: Fraction | None = None
    """Gross or total assets per share, in tokens; at 1e-9 relative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """An ``expect`` block. None: not named. Lists are complete and in order, but under ``contains``."""

    location: Location
    updates: tuple[ExpectedRecord, ...] | None = None
    balances: tuple[ExpectedBalance, ...] = ()
    positions: Mapping[int, ExpectedRecord] | None = None
    closed_positions: Mapping[int, ExpectedRecord] | None = None
    deployment: ExpectedRecord | None = None
    treasury: ExpectedRecord | None = None
    accounting: ExpectedRecord | None = None
    interest: ExpectedRecord | None = None
    chain: ExpectedChain | None = None
    contains: Expectation | None = None
    """Updates, positions, refs that must be among those there are, in any number of others."""


# -- steps


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBase:
    """What may stand beside any step's verb."""

    location: Location
    expect: Expectation | None = None
    refused: str | None = None
    """Text that the reason must contain; empty: any reason; None: no refusal expected."""
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait(StepBase):
    """Let time pass before the next block: a length, or a time to wait for."""

    duration: timedelta | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine(StepBase):
    """Mine empty blocks."""

    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block(StepBase):
    """Put several chain steps into one block, in order."""

    steps: tuple[ChainStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction(StepBase):
    """Several calls in one transaction, in order, by their one common caller."""

    calls: tuple[FlowStep | TransferShares | Donate | Emit, ...]

    @property
    def caller(self) -> str:
        """Whose transaction it is."""
        return self.calls[0].caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Transactions that a reorganisation is about: all of a block's, or one (counting from 1)."""

    location: Location
    block: int
    transaction: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorg(StepBase):
    """Replace the newest blocks by others."""

    depth: int
    drop: tuple[Place, ...] = ()
    keep: tuple[Place, ...] = ()
    move: tuple[tuple[Place, int], ...] = ()
    """What is mined again in which other block."""
    add: tuple[ChainStep | Block | Mine, ...] = ()
    """Steps of the new branch, each in a block that nothing else is in, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit(StepBase):
    """ERC-4626 deposit: so many assets in. Percent: of the caller's balance."""

    caller: str
    assets: Amount
    receiver: str
    second_vault: bool = False
    """Into the second fund: no flow of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mint(StepBase):
    """ERC-4626 mint: so many shares out. No percentages."""

    caller: str
    shares: Amount
    receiver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw(StepBase):
    """ERC-4626 withdraw: so many assets out. Percent: of the most withdrawable by the owner."""

    caller: str
    assets: Amount
    owner: str
    receiver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeem(StepBase):
    """Give up shares (in kind on enzyme). Percent: of the owner's shares."""

    caller: str
    shares: Amount
    owner: str
    receiver: str
    assets: tuple[str, ...] | None = None
    """Enzyme: only these are paid out, in this order; None: every tracked asset."""
    second_vault: bool = False
    """Of the second fund's shares: no flow of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferShares(StepBase):
    """Hand shares over. Percent: of the caller's."""

    caller: str
    receiver: str
    shares: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Donate(StepBase):
    """Send tokens straight to the holder. Percent: of the caller's balance."""

    caller: str
    assets: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade(StepBase):
    """Swap reserve for a token, or back. Percent: of what position or reserve holds in the ledger's books."""

    sell: Amount
    buy: Amount
    position: int | Literal["new"] | None = None
    unsynced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply(StepBase):
    """Supply reserve to a pool for its rebase token."""

    assets: Amount
    into: str
    position: int | Literal["new"] | None = None
    unsynced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsupply(StepBase):
    """Withdraw from a pool; ``assets`` names the rebase token."""

    assets: Amount
    position: int | Literal["new"] | None = None
    unsynced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(StepBase):
    """Close a credit position: withdraw the lesser of the tracked amount and the balance."""

    position: int | None = None
    unsynced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Borrow(StepBase):
    """Borrow reserve against a credit position; its loan's borrowed side is in the debt token."""

    assets: Amount
    """Exact, of the reserve."""
    debt: str
    """Symbol of the debt token."""
    position: int | None = None
    unsynced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Repay(StepBase):
    """Pay reserve back to whom it was borrowed from. Percent: of the debt in the ledger's books."""

    assets: Amount
    """Of the reserve."""
    debt: str
    position: int | None = None
    unsynced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeFee(StepBase):
    """Mint shares to somebody for nothing; maybe with an event shaped like a deposit's."""

    shares: Amount
    """Exact only."""
    receiver: str
    event: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceAccessor(StepBase):
    """Deploy a new accessor (comptroller) and let the vault listen to it from here on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Emit(StepBase):
    """A deposit event of the n-th accessor (1: the first); nothing moves."""

    caller: str
    accessor: int
    assets: Amount
    shares: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(StepBase):
    """Stop (or let go on) all transfers of a token, or those from and to one actor (a blocklist)."""

    token: str
    actor: str | None = None
    paused: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Accrue(StepBase):
    """Let a rebase or debt token's index grow with time at a yearly rate, from this block on."""

    token: str
    rate_ray: int
    """Per 365 days, in ray; 0 stops it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptIn(StepBase):
    """Let the vault's balance of an ``opt_in_rebase`` token rebase from here on."""

    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Take(StepBase):
    """Tokens leave the holder, booked nowhere. Percent: of the holder's balance."""

    assets: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebase(StepBase):
    """Move a rebase token's index: by a factor, or so that the holder's balance becomes ``balance``."""

    token: str
    factor_ray: int | None = None
    balance: Amount | None = None
    """Exact only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price(StepBase):
    """Set a token's feed."""

    token: str
    price_raw: int
    """USD with 8 decimals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndBlock:
    """Where a syncing step ends: a block number, or so many blocks below the head. Exactly one is set."""

    number: int | None = None
    below_head: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncingBase(StepBase):
    """What every syncing step takes."""

    end_block: EndBlock | None = None
    chunk: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialise(SyncingBase):
    """Find the vault's deployment."""

    start_block: int | None = None
    """A hint for the syncer, may be late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncTreasury(SyncingBase):
    """Book deposits and redemptions (``sync``)."""

    cycle: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncInterest(SyncingBase):
    """Book interest (``sync_interest``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectAccounts(SyncingBase):
    """Bring the books to the chain's balances (``correct_accounts``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(StepBase):
    """The next operation dies at its n-th view call, or after them all; then a fresh syncer is asked again."""

    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStep(StepBase):
    """What stands between syncer and chain until the next such step; without anything: nothing does.

    ``after`` and ``steps`` are a hook: before the n-th view call of the next operation these steps are mined (chain
    steps, ``block``, ``mine``, ``reorg``); an operation with fewer calls is asked again after them.
    """

    head: int | None = None
    """As if this block were the newest."""
    profile: str | None = None
    """A way to misbehave, of `language.NODE_PROFILES`."""
    blocks: int | None = None
    logs: int | None = None
    times: int | None = None
    block: int | None = None
    after: int | None = None
    steps: tuple[ChainStep | Block | Mine | Reorg, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart(StepBase):
    """A fresh syncer, the books through JSON; maybe pointed at another chain id or the second fund."""

    chain_id: int | None = None
    second_vault: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(StepBase):
    """An ``expect`` that is a step of its own: judges the books as they are, the chain at the head."""


FlowStep = Deposit | Mint | Withdraw | Redeem
ManagerStep = Trade | Supply | Unsupply | Close | Borrow | Repay
ChainStep = (
    FlowStep
    | TransferShares
    | Donate
    | Transaction
    | ManagerStep
    | Take
    | ChargeFee
    | ReplaceAccessor
    | Emit
    | Pause
    | Rebase
    | Accrue
    | OptIn
    | Price
)
"""Steps that send one transaction; each mines a block unless it stands in a ``block``."""
SyncingStep = Initialise | SyncTreasury | SyncInterest | CorrectAccounts
Step = Wait | Mine | Block | Reorg | ChainStep | SyncingStep | Restart | Crash | NodeStep | Check


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario file."""

    location: Location
    title: str
    tags: tuple[str, ...]
    tokens: Mapping[str, TokenSpec]
    """By symbol, in the file's order."""
    vault: VaultSpec
    actors: Mapping[str, Mapping[str, int] | None]
    """Everybody named anywhere in the file, sorted; base units by symbol for those whose holdings
    the header gives exactly, None for those with plenty of everything."""
    approvals: tuple[tuple[str, str], ...]
    """(owner, caller) pairs in which a caller acts for another's shares, sorted."""
    start: datetime
    block_time: timedelta
    chain_id: int
    deploy_block: tuple[ChainStep, ...]
    interest_bound: Decimal
    steps: tuple[Step, ...]
    text: str = field(repr=False)
    """The source."""
    laws_off: tuple[LawOff, ...] = ()
    tolerances: tuple[Tolerance, ...] = ()
    known: Known | None = None
    variant: str | None = None
    """The row of ``variants`` that this is, where the file has some."""

    @property
    def file(self) -> str:
        """The path as it was given."""
        return self.location.file

    @property
    def share(self) -> Token:
        """The share token: enzyme's has 18 decimals, an ERC-4626 vault's those of its asset."""
        decimals = 18 if self.vault.kind == "enzyme" else self.tokens[self.vault.reserve].decimals
        return Token(symbol=self.vault.symbol, decimals=decimals)

    def token(self, symbol: str) -> Token:
        """The token of a symbol, ``SHARES`` included."""
        return self.share if symbol == SHARES else self.tokens[symbol].token
