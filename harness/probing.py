"""What is asked of chain and syncer beside the scenario's own steps, to see that laws hold.

Chain: state is read at sync points, or at every block, and held against conservation laws.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from harness.reconcile.conservation import Reading, Unlawful, judge_chain_laws
from harness.world.play import CheckAct, Played, SyncAct


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
    first, head = played.ledger.setting.deployment_block, played.ledger.head
    blocks = range(first, head + 1) if every_block else sorted({first, *_points(played)})
    return judge_chain_laws(played.ledger, [read_chain(played, block) for block in blocks if block >= first], off)


def _points(played: Played) -> Iterable[int]:
    for act in played.acts:
        if isinstance(act, SyncAct):
            yield act.operation.end_block
        elif isinstance(act, CheckAct):
            yield act.block
