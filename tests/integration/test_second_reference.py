"""The two references, of unlike design, agree on every scenario: with the ledger, and with each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.books import Books
from harness.judging import judge
from harness.scenario.loader import load
from harness.session import Point, Session
from harness.sweeps import judged_json
from harness.syncers import Syncer, Target, find_syncer
from harness.world.play import play

ROOT = Path(__file__).parents[2]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "scenarios").rglob("*.y*ml"))


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
    """What of some books is compared: neither clocks, nor a syncer's memory, nor the entries of a distribution."""
    state = judged_json(books)
    (state["sync"]["interest"]["last_distribution"] or {}).pop("entries", None)
    return state


@pytest.mark.parametrize("file", FILES)
def test_references_agree(file: str) -> None:
    played = play(load(str(ROOT / file), name=file))
    memory: dict[object, object] = {}
    points = list(Session(played, find_syncer("balances"), memory=memory).points())
    assert [] == [broken.sentence for point in points for broken in judge(played, point).breaks]
    expected = [outcome(point) for point in points]
    for factory in (find_syncer("reference"), TakingTurns):
        assert expected == [outcome(point) for point in Session(played, factory, memory=memory).points()]
