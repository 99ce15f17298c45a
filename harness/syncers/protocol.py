"""The door between harness and syncers: what a syncer is given and what it must offer.

A syncer is anything with the four verbs of :class:`Syncer`. ``module:attribute`` is called with a
:class:`Target` and returns one. Each verb takes books and returns new ones, or raises
``SyncRefused`` and leaves them alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from harness.books.records import AssetIdentifier, Books

if TYPE_CHECKING:
    from web3 import Web3


@dataclass(frozen=True, slots=True, kw_only=True)
class Dust:
    """How little of an asset does not matter: ``absolute`` in tokens, ``relative`` as a fraction."""

    absolute: Decimal = Decimal(0)
    relative: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What to sync. Addresses are checksummed text."""

    kind: str
    """``enzyme`` or ``erc4626``."""
    chain_id: int
    vault: str
    deployer: str
    """Who emits the deployment event; it deploys other vaults as well."""
    holder: str
    """Whose token balances are the vault's."""
    reserve: AssetIdentifier
    feeds: Mapping[AssetIdentifier, str]
    """Price feed per asset, every token of the world."""
    dust: Mapping[AssetIdentifier, Dust]
    """Every token of the world, zero unless set."""
    interest_bound: Decimal
    start_block: int
    """A hint where to look for the deployment; may be late."""


class Header(Protocol):
    """What a block says of itself."""

    @property
    def number(self) -> int: ...
    @property
    def hash(self) -> bytes: ...
    @property
    def parent_hash(self) -> bytes: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def logs_bloom(self) -> bytes: ...
    @property
    def receipts_root(self) -> bytes: ...


class ChainView(Protocol):
    """The chain as one operation may read it, pinned to ``end_block``.

    Any read may fail as a node fails: with a ``NodeError`` (its code and words), or as a connection that breaks or
    takes too long (``OSError``). A node may also answer what is not so: no header, too few logs, logs of another
    branch. The header of a block tells: its hash, its bloom filter, the root of its receipts.
    """

    @property
    def end_block(self) -> int:
        """The last block to read."""

    @property
    def head(self) -> int:
        """The node's newest block when the operation began."""

    @property
    def now(self) -> datetime:
        """The clock to use for ``last_updated_at`` and ``created_at``; never the chain's time."""

    @property
    def chunk(self) -> int | None:
        """The most blocks that one ``get_logs`` should span, or None."""

    @property
    def web3(self) -> Web3:
        """A plain Web3 on the node, not pinned to ``end_block``."""

    def get_logs(
        self,
        addresses: Sequence[str] | str | None,
        topics: Sequence[Any] | None,
        start_block: int,
        end_block: int,
    ) -> list[Any]:
        """web3 log receipts in (block, log index) order; both ends included.

        A node that misbehaves may repeat, shuffle, withhold or withdraw (``removed``) them, and say numbers as hex
        text.
        """

    def call(self, address: str, signature: str, *arguments: Any, block: int | None = None) -> Any:
        """The decoded answer of e.g. ``"balanceOf(address)(uint256)"``; several values as a tuple."""

    def header(self, block: int) -> Header:
        """The header of a block; from some nodes None, or one without its time."""

    def code(self, address: str, block: int | None = None) -> bytes:
        """The code at an address."""


class Syncer(Protocol):
    """The verbs of a syncer."""

    def initialise(self, view: ChainView, books: Books) -> Books:
        """Find the vault's deployment and fill ``books.sync.deployment``."""

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        """Book deposits and redemptions up to ``view.end_block``."""

    def sync_interest(self, view: ChainView, books: Books) -> Books:
        """Book what rebases did to balances up to ``view.end_block``."""

    def correct_accounts(self, view: ChainView, books: Books) -> Books:
        """Bring the books to the chain's balances at ``view.end_block``."""
