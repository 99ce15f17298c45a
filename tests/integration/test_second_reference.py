"""The two references, of unlike design, agree on every scenario: with the ledger, and with each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.books import Books
from harness.judging import judge
from harness.scenario.loader import load_all
from harness.scenario.model import Scenario
from harness.session import Point, Session
from harness.sweeps import judged_json
from harness.syncers import Syncer, Target, find_syncer
from harness.world.play import play

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "scenarios").rglob("*.y*ml")
    if not any(part.startswith("_") for part in path.relative_to(ROOT).parts)
)
"""But for what others include."""


class TakingTurns:
    """Each operation by another reference than the one before, on the same books, but for each one's memory."""

    def __init__(self, target: Target) -> None:
        self._references: list[Syncer] = [find_syncer(name)(target) for name in ("reference", "balances")]

    def __getattr__(self, verb: str) -> Any:
        def operate(view: Any, books: Books, *more: Any) -> Any:
            books.block_hashes.clear()
            return getattr(self._references[0], verb)(view, books, *more)

        self._references.reverse()
        return operate


def outcome(point: Point) -> tuple[object, ...]:
    return point.refusal is None, point.failure, compared(point.after)


def compared(books: Books) -> dict[str, Any]:
    """What of some books is compared: neither clocks, nor a syncer's memory, nor what is free.

    Ids of updates are free, and so is the order of those that one operation writes without a transaction.
    """
    state = judged_json(books)
    (state["sync"]["interest"]["last_distribution"] or {}).pop("entries", None)
    portfolio = state["portfolio"]
    groups = ("reserves", "open_positions", "frozen_positions", "closed_positions")
    for holder in (holder for group in groups for holder in portfolio[group].values()):
        holder["balance_updates"] = without_ids(list(holder["balance_updates"].values()))
    for records in (state["sync"]["treasury"], state["sync"]["accounting"]):
        records["balance_update_refs"] = without_ids(records["balance_update_refs"])
    return state


def without_ids(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Updates or refs without what is free, in an order that their ids do not decide."""
    free = {"balance_update_id", "balance_event_id", "other_data", "notes"}
    plain = [
        {key: value for key, value in record.items() if key not in free}
        | {"skipped": len((record.get("other_data") or {}).get("skipped_legs", []))}
        for record in records
    ]
    return sorted(plain, key=repr)


@pytest.mark.parametrize("file", FILES)
def test_references_agree(file: str) -> None:
    for scenario in load_all(str(ROOT / file), name=file, root=ROOT / "scenarios"):
        agree(scenario)


def agree(scenario: Scenario) -> None:
    """Hold each reference to the ledger and to the other, and both to what they come to in turns."""
    played = play(scenario)
    memory: dict[object, object] = {}
    points = list(Session(played, find_syncer("balances"), memory=memory).points())
    assert [] == [broken.sentence for point in points for broken in judge(played, point).breaks]
    expected = [outcome(point) for point in points]
    # Without its own memory of blocks, no syncer can go back.
    turns = [TakingTurns] if len(played.branches) == 1 else []
    for factory in (find_syncer("reference"), *turns):
        assert expected == [outcome(point) for point in Session(played, factory, memory=memory).points()]
