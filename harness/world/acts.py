"""What came of playing a scenario: its branches, and what is asked of a syncer on them, in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction

from harness.books import Books
from harness.books.executor import BookedTrade
from harness.chain import Chain
from harness.errors import Location
from harness.ledger.bookkeeping import Operation, Refusal
from harness.ledger.facts import Ledger
from harness.ledger.foretelling import Foreteller
from harness.scenario.model import Expectation, LawOff, NodeStep, Tolerance
from harness.world.setup import World
from harness.world.vault import State

_DEEPEST = 64
"""The most blocks that are ever replaced at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One way that the chain went, to its end: the chain as it stood, and the truth about it."""

    chain: Chain
    ledger: Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """What the chain does while an operation runs: before its ``after``-th view call it is as the act says.

    ``branch`` and ``head`` are what the node shows until then, ``then_head`` is the newest block after it.
    """

    after: int
    branch: int
    head: int
    then_head: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncAct:
    """A syncing operation, the ledger's books before it, and what must come of it."""

    operation: Operation
    expectation: Expectation | None
    announced: str | None
    """The refusal that the file announces (text that the reason must contain), if it does."""
    foretold: Foreteller
    """The ledger's books before it, and what it takes to tell what any other operation must leave there."""
    expected: Books | Refusal
    branch: int = 0
    """Which of the played branches it reads."""
    otherwise: Books | None = None
    """Beside a refusal that a faulty node makes due: books that are as good, if a syncer finds a way to them.

    Nothing is built upon them."""
    node: NodeStep | None = None
    """What stands between syncer and chain."""
    hook: Hook | None = None
    crash: int | None = None
    """At which view call it dies the first time."""
    rewinds: int | None = None
    """The last block that the books' branch and this one have in common, where it is another branch."""

    @property
    def before(self) -> Books:
        """The ledger's books before it."""
        return self.foretold.books


@dataclass(frozen=True, slots=True, kw_only=True)
class BookAct:
    """A trade that the executor books into whoever's books."""

    trade: BookedTrade
    location: Location
    expected: Books
    """The ledger's books after it."""
    branch: int = 0
    rewinds: int | None = None
    """As a check's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanAct:
    """Blocks were replaced: the executor marks the trades that stood in them failed, in whoever's books."""

    common: int
    """The last block that both branches have."""
    failed_at: datetime
    location: Location
    expected: Books
    branch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartAct:
    """A fresh syncer, books through JSON, pointed at this chain id and vault."""

    chain_id: int
    vault: str
    location: Location


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckAct:
    """An ``expect`` that judges the books as they are, and the chain at the head."""

    expectation: Expectation
    block: int
    expected: Books
    location: Location
    branch: int = 0
    rewinds: int | None = None
    """Where the books still hold what stood above this block on another branch: no operation has run since."""


Act = SyncAct | BookAct | OrphanAct | RestartAct | CheckAct


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A scenario that was played: the branches of its chain with the truth about each, and what to ask of a syncer."""

    branches: tuple[Branch, ...]
    """In the order in which they came to be: the last one stands at the end."""
    world: World
    acts: tuple[Act, ...]
    laws_off: tuple[LawOff, ...] = ()
    """Laws that the scenario switches off."""
    tolerances: tuple[Tolerance, ...] = ()
    """How far a syncer's books may differ in it."""

    @property
    def chain(self) -> Chain:
        """The chain as it stands at the end; :meth:`on` for an earlier branch."""
        return self.branches[-1].chain

    @property
    def ledger(self) -> Ledger:
        """The truth about it."""
        return self.branches[-1].ledger

    def on(self, branch: int) -> Played:
        """The same, as it stood at the end of one branch."""
        if branch == len(self.branches) - 1:
            return self
        return replace(self, branches=self.branches[: branch + 1])

    def emptied(self, act: SyncAct) -> Chain | None:
        """The chain of a treasury sync with the blocks that it reads replaced by empty ones, up to its end block.

        None where there is nothing to replace, or the executor would have to hear of it too: trades among them.
        """
        blocks = self.replaceable(act)
        if not blocks:
            return None
        branch = self.branches[act.branch]
        chain = branch.chain.clone()
        chain.fork(blocks.start - 1)
        for number in blocks:
            chain.mine_empty(timestamp=branch.ledger.block(number).timestamp)
        return chain

    def replaceable(self, act: SyncAct) -> range:
        """The blocks that :meth:`emptied` replaces; none where it gives no chain."""
        operation = act.operation
        if operation.kind != "sync" or act.hook is not None or act.node is not None or act.rewinds is not None:
            return range(0)
        cursor = act.before.sync.treasury.last_block_scanned
        trades = [
            other.trade.block_number
            for other in self.acts
            if isinstance(other, BookAct) and other.trade.block_number <= operation.end_block
        ]
        start = self.ledger.setting.deployment_block if cursor is None else cursor
        common = max([start, operation.end_block - _DEEPEST, *trades])
        return range(common + 1, operation.end_block + 1)

    def state(self, block: int) -> State:
        """The chain's state at the end of a block, to read by ABI."""
        return State(lambda to, data: self.chain.call(to, data, block=block))

    def gross_assets(self, block: int) -> int:
        """What all shares together stand for at the end of a block, raw reserve units."""
        return self.world.kind.gross_assets(self.state(block))

    def share_price(self, block: int) -> Fraction | None:
        """Assets per share at the end of a block, in tokens; None without shares."""
        setting = self.ledger.setting
        supply = self.ledger.supply(block)
        if not supply:
            return None
        gross = self.gross_assets(block)
        return Fraction(gross, 10**setting.reserve_asset.decimals) / Fraction(supply, 10**setting.share_decimals)
