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

TokenKind = Literal["plain", "index_rebase"]
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
class Deposit(StepBase):
    """ERC-4626 deposit: so many assets in. Percent: of the caller's balance."""

    caller: str
    assets: Amount
    receiver: str


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
class Restart(StepBase):
    """A fresh syncer, the books through JSON; maybe pointed at another chain id or the second fund."""

    chain_id: int | None = None
    second_vault: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(StepBase):
    """An ``expect`` that is a step of its own: judges the books as they are, the chain at the head."""


FlowStep = Deposit | Mint | Withdraw | Redeem
ManagerStep = Trade | Supply | Unsupply | Close
ChainStep = FlowStep | TransferShares | Donate | ManagerStep | Take | Rebase | Price
"""Steps that send one transaction; each mines a block unless it stands in a ``block``."""
SyncingStep = Initialise | SyncTreasury | SyncInterest
Step = Wait | Mine | Block | ChainStep | SyncingStep | Restart | Check


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
