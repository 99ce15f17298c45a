"""The balances-first syncer behind nodes that fail: it asks again, takes another way, and in the end refuses."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from harness.books import Books
from harness.chain.profiles import PROFILES, Profile, make_profile, profiled
from harness.errors import NodeError, SyncRefused
from harness.outages import Behind
from harness.report.results import NodeOutcome
from harness.scenario.loader import loads
from harness.session import Point, Session
from harness.sweeps import judged_json
from harness.syncers.balances import BalancesSyncer
from harness.syncers.balances.asking import FIRST_PAUSE, TRIES, Doubt, Patience, as_bytes, as_number
from harness.world.acts import Played, SyncAct
from harness.world.play import play

TEXT = """
title: A fund with something of everything
tokens:
  USDC: {decimals: 6, usd: 1}
  aUSDC: {kind: index_rebase, underlying: USDC}
vault: {kind: enzyme, reserve: USDC}
steps:
  - deposit: {caller: alice, assets: 500}
  - sync:
  - supply: {assets: 100 USDC, into: aUSDC}
  - block:
      - deposit: {caller: bob, assets: 50}
      - deposit: {caller: carol, assets: 60}
      - redeem: {caller: alice, shares: 10}
  - rebase: {token: aUSDC, factor: 1.01}
  - redeem: {caller: alice, shares: 10%}
  - sync:
  - sync_interest:
  - donate: {caller: mallory, assets: 5 USDC}
  - correct_accounts:
"""


@cache
def played() -> Played:
    return play(loads(TEXT, "history.yaml"))


class Unwaiting(BalancesSyncer):
    """Lets no time pass."""

    def __init__(self, target: Any) -> None:
        super().__init__(target, pause=lambda seconds: None)


def states(points: list[Point]) -> list[Any]:
    return [judged_json(point.after) for point in points if isinstance(point.act, SyncAct)]


def behind(profile: Profile) -> Behind:
    return Behind(Unwaiting, lambda node: profiled(node, profile))


@pytest.mark.parametrize(
    "profile",
    [
        *[profile for name, profile in PROFILES.items() if name not in ("hole", "lagging")],
        make_profile("hole", block=5),
        make_profile("hole", block=5, times=2),
        make_profile("silent-cap", logs=2),
        make_profile("too-large", logs=2),
        make_profile("range-cap", blocks=1),
        make_profile("rate-limit", times=4),
        make_profile("time-out", times=4),
        make_profile("null-header", times=4),
        make_profile("twin", blocks=20),
    ],
    ids=lambda profile: profile.about,
)
def test_node_that_can_be_lived_with_leaves_exact_books(profile):
    front = behind(profile)
    assert states(list(Session(played(), Unwaiting).points())) == states(list(Session(played(), front).points()))
    assert [] == front.said, "nothing was refused"


@pytest.mark.parametrize("profile", [PROFILES["lagging"], make_profile("lagging", blocks=2)], ids=["20", "2"])
def test_node_that_withholds_the_newest_logs_is_refused(profile):
    front = behind(profile)
    points = list(Session(played(), front).points())
    assert states(list(Session(played(), Unwaiting).points())) == states(points), "asked again without it"
    assert {NodeOutcome.refused} == set(front.said)


# -- patience


def test_pauses_start_small_double_and_end():
    pauses: list[float] = []

    def fail() -> None:
        raise NodeError(429, "too many requests")

    with pytest.raises(Doubt, match=r"the node does not give a header: .*too many requests"):
        Patience(pauses.append).ask("a header", fail)
    assert [FIRST_PAUSE * 2**step for step in range(5)] == pauses
    assert TRIES == len(pauses) + 1


def test_first_answer_ends_the_asking():
    answers: list[Any] = [TimeoutError("late"), NodeError(-32000, "header not found"), Doubt("odd"), "block"]
    pauses: list[float] = []

    def read() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    assert "block" == Patience(pauses.append).ask("a block", read)
    assert [FIRST_PAUSE * 2**step for step in range(3)] == pauses


def test_what_is_no_failure_of_a_node_is_not_asked_again():
    asked: list[int] = []

    def read() -> None:
        asked.append(1)
        raise SyncRefused("never")

    with pytest.raises(SyncRefused, match="never"):
        Patience(lambda seconds: None).ask("anything", read)
    assert [1] == asked


def test_silent_node_is_asked_so_often_and_no_more():
    """By each operation: one question, as often as there are tries and starts."""
    asked: list[int] = []

    class Dead:
        end_block = head = 5
        web3 = None

        def header(self, block: int) -> Any:
            asked.append(block)
            raise ConnectionError("no route")

    with pytest.raises(Doubt, match="the node does not give the header of block 5: no route"):
        Unwaiting(_target()).initialise(Dead(), Books())  # type: ignore[arg-type]
    assert [5] * (3 * TRIES) == asked


def _target() -> Any:
    found: list[Any] = []

    class Noting(Unwaiting):
        def __init__(self, target: Any) -> None:
            found.append(target)
            super().__init__(target)

    list(Session(played(), Noting).points())
    return found[0]


@pytest.mark.parametrize("value", [255, "0xff", "0xFF", "255"])
def test_numbers_are_read_in_any_spelling(value):
    assert 255 == as_number(value)


@pytest.mark.parametrize("value", [b"\x00\xff", bytearray(b"\x00\xff"), "0x00ff", "00ff", "0X00FF"])
def test_bytes_are_read_in_any_spelling(value):
    assert b"\x00\xff" == as_bytes(value)
