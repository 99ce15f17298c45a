"""What is asked of chain and syncer beside the scenario's own steps, to see that laws hold.

Chain: state is read at sync points, or at every block, and held against conservation laws. Syncer: asked once, at the
end, to sync its books on another chain and for another vault.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from harness.judging import place_of
from harness.ledger.bookkeeping import Operation, Refusal
from harness.ledger.foretelling import Foreteller
from harness.reconcile.conservation import Reading, Unlawful, judge_chain_laws
from harness.reconcile.diff import Break, BreakKind
from harness.session import Point, Session, SyncerFactory
from harness.world.acts import CheckAct, Played, RestartAct, SyncAct

ELSEWHERE = "elsewhere-refused"
"""The law's name."""


def read_chain(played: Played, block: int) -> Reading:
    """Read what conservation laws are judged on from the chain's state at the end of a block."""
    state = played.state(block)
    kind, holder = played.world.kind, played.world.deployed.holder
    return Reading(
        block=block,
        balances={symbol: state.balance(token, holder) for symbol, token in played.world.around.tokens.items()},
        supply=kind.share_supply(state),
        gross=kind.gross_assets(state),
        counted=kind.counted_assets(state),
    )


def conservation(played: Played, *, every_block: bool, off: Collection[str] = ()) -> tuple[Unlawful, ...]:
    """Judge the chain by the conservation laws, at every sync point or at every block from the vault's deployment."""
    found: dict[Unlawful, None] = {}
    for number in range(len(played.branches)):
        branch = played.on(number)
        first, head = branch.ledger.setting.deployment_block, branch.ledger.head
        blocks = range(first, head + 1) if every_block else sorted({first, *_points(played, number)})
        readings = [read_chain(branch, block) for block in blocks if block >= first]
        found.update(dict.fromkeys(judge_chain_laws(branch.ledger, readings, off)))
    return tuple(found)


def _points(played: Played, branch: int) -> Iterable[int]:
    for act in played.acts:
        if isinstance(act, SyncAct) and act.branch == branch:
            yield act.operation.end_block
        elif isinstance(act, CheckAct) and act.branch == branch:
            yield act.block


def ask_elsewhere(
    played: Played,
    factory: SyncerFactory,
    last: Point,
    *,
    timeout: float | None = None,
    memory_mib: int | None = None,
    memory: dict[object, object] | None = None,
) -> tuple[Break, ...]:
    """Ask a fresh syncer to sync books on another chain id, and for the second fund: both must be refused (law 7).

    Args:
        played: The scenario.
        factory: The syncer.
        last: The last point of its plain run: whose books they are.
        timeout: Seconds per operation.
        memory_mib: Memory per operation.
        memory: Reads that are remembered.

    Returns:
        A break for each that was not refused, or was with the books changed; none for books that nobody initialised.
    """
    books, setting = last.after, played.ledger.setting
    if not books.sync.is_initialised():
        return ()
    found = []
    for where, chain_id, vault in (
        (f"chain {setting.chain_id + 1}", setting.chain_id + 1, setting.vault),
        ("another vault", setting.chain_id, setting.second_vault),
    ):
        restart = RestartAct(chain_id=chain_id, vault=vault, location=place_of(last))
        session = Session(played, factory, acts=(restart,), timeout=timeout, memory_mib=memory_mib, memory=memory)
        for _ in session.points():
            pass
        point = session.ask_alone(_elsewhere(played, last, restart), books)
        if point.refusal is None or point.changed_given:
            found.append(_not_refused(point, where))
    return tuple(found)


def _elsewhere(played: Played, last: Point, restart: RestartAct) -> SyncAct:
    head, cycle = played.ledger.head, last.after.sync.treasury.last_cycle_at
    operation = Operation(
        kind="sync",
        location=restart.location,
        end_block=head,
        head=head,
        cycle=max(played.ledger.mined_at(head), cycle or played.ledger.mined_at(head)),
        chain_id=restart.chain_id,
        vault=restart.vault,
    )
    refusal = Refusal(reason="the books are of another chain or vault")
    foretold = Foreteller()
    foretold.books = last.after
    return SyncAct(
        operation=operation,
        expectation=None,
        announced=None,
        foretold=foretold,
        expected=refusal,
        branch=len(played.branches) - 1,
    )


def _not_refused(point: Point, where: str) -> Break:
    assert isinstance(point.act, SyncAct), "it was asked to sync"
    operation = point.act.operation
    if point.failure is not None:
        ending = f"it ended otherwise: {point.failure.message}"
    elif point.refusal is None:
        ending = "it returned books"
    else:
        ending = f"it changed the books that it was given before it did: {point.refusal}"
    did = "refuse" if point.refusal is None else "leave them alone when it refused"
    return Break(
        kind=BreakKind.law,
        sentence=f"Pointed at {where} and asked to sync these books at block {operation.end_block}, the syncer did not "
        f"{did}; {ending}.",
        field=ELSEWHERE,
        expected=f"{where} is refused, the books untouched",
        actual=ending,
        block=operation.end_block,
        location=operation.location,
        found_at=operation.location,
    )
