"""Blocks follow from the file alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scenario import model
from harness.scenario.loader import loads
from harness.scenario.plan import PlannedBlock, PlannedReorg, PlannedStep, blocks_of, plan, timestamp_of

HEADER = "tokens: {USDC: {decimals: 6}}\nvault: {kind: erc4626}\nsteps:\n"
DEPOSIT = "  - deposit: {caller: alice, assets: 5}\n"
START = timestamp_of(datetime(2024, 1, 1))


def _times(steps: str, header: str = HEADER) -> list[int]:
    blocks = blocks_of(loads(header + steps, "x.yaml"))
    assert list(range(len(blocks))) == [block.number for block in blocks]
    return [block.timestamp - START for block in blocks]


def test_genesis_and_two_set_up_blocks_come_first() -> None:
    assert _times("  - sync:\n") == [0, 12, 24]


def test_each_chain_step_mines_a_block_and_a_block_of_several_one() -> None:
    steps = (
        DEPOSIT
        + "  - block:\n    - deposit: {caller: alice, assets: 5}\n    - donate: {caller: bob, assets: 5}\n  - sync:\n"
    )
    assert _times(steps) == [0, 12, 24, 36, 48]
    blocks = blocks_of(loads(HEADER + steps, "x.yaml"))
    assert [len(block.steps) for block in blocks] == [0, 0, 0, 1, 2]


def test_deploy_block_is_block_two() -> None:
    header = HEADER.replace("steps:", "deploy_block:\n" + DEPOSIT + "steps:")
    blocks = blocks_of(loads(header + "  - sync:\n", "x.yaml"))
    assert [len(block.steps) for block in blocks] == [0, 0, 1]


def test_refused_chain_step_still_mines_its_block() -> None:
    assert len(_times(DEPOSIT + "    refused: true\n  - sync:\n")) == 4


def test_wait_counts_for_the_next_block_only_and_adds_up() -> None:
    assert _times("  - wait: 30 s\n  - wait: 30 s\n  - sync:\n" + DEPOSIT + DEPOSIT) == [0, 12, 24, 96, 108]


def test_wait_counts_for_the_first_of_several_mined_blocks() -> None:
    assert _times("  - wait: 10 s\n  - mine: 3\n  - sync:\n") == [0, 12, 24, 46, 58, 70]


def test_wait_until_sets_the_next_blocks_time() -> None:
    assert _times("  - wait: {until: 2024-01-01 01:00}\n  - sync:\n" + DEPOSIT + DEPOSIT) == [0, 12, 24, 3600, 3612]


def test_wait_after_wait_until_adds_to_it() -> None:
    assert _times("  - wait: {until: 2024-01-01 01:00}\n  - wait: 1 minute\n  - sync:\n" + DEPOSIT) == [0, 12, 24, 3660]


def test_block_time_and_start_are_the_headers() -> None:
    header = "start: 2024-01-01 00:00:05\nblock_time: 2 minutes\n" + HEADER
    assert _times(DEPOSIT + "  - sync:\n", header) == [5, 125, 245, 365]


def test_steps_that_mine_nothing_know_the_head() -> None:
    items = plan(
        loads(HEADER + DEPOSIT + "  - sync:\n  - mine: 2\n  - restart:\n  - expect: {balances: {USDC: 5}}\n", "x.yaml")
    )
    found = [(type(item.step), item.head, item.timestamp - START) for item in items if isinstance(item, PlannedStep)]
    assert [(model.SyncTreasury, 3, 36), (model.Restart, 5, 60), (model.Check, 5, 60)] == found


def test_blocks_name_their_step_and_the_last_of_it() -> None:
    items = plan(loads(HEADER + DEPOSIT + "  - mine: 2\n  - sync:\n", "x.yaml"))
    blocks = [item for item in items if isinstance(item, PlannedBlock)][3:]
    assert [(model.Deposit, True), (model.Mine, False), (model.Mine, True)] == [(type(b.step), b.last) for b in blocks]
    assert [block.location.line for block in blocks] == [4, 5, 5]


# -- reorganisations


ENZYME = "tokens: {USDC: {decimals: 6}}\nvault: {kind: enzyme}\nsteps:\n"
TWO = "  - block:\n    - deposit: {caller: alice, assets: 1}\n    - deposit: {caller: bob, assets: 2}\n"


def _deposit(assets: int) -> str:
    return f"  - deposit: {{caller: alice, assets: {assets}}}\n"


def _planned(steps: str) -> list[PlannedReorg]:
    return [item for item in plan(loads(ENZYME + steps, "x.yaml")) if isinstance(item, PlannedReorg)]


def _shown(blocks: Iterable[PlannedBlock]) -> list[tuple[int, int, list[int]]]:
    """Number, time and the deposited amounts of each block."""
    return [
        (
            block.number,
            block.timestamp - START,
            [step.assets.raw // 10**6 for step in block.steps if isinstance(step, model.Deposit) and step.assets.raw],
        )
        for block in blocks
    ]


def test_reorg_keeps_drops_and_moves_whole_blocks() -> None:
    steps = _deposit(1) + _deposit(2) + _deposit(3) + "  - reorg: {depth: 3, drop: [3], keep: [4], move: {5: 3}}\n"
    (reorg,) = _planned(steps + "  - sync:\n")
    assert reorg.common == 2
    assert [(3, 36, [3]), (4, 48, [2]), (5, 60, [])] == _shown(reorg.blocks)
    assert [((5, 1),), ((4, 1),), ()] == [block.origins for block in reorg.blocks]
    assert [False, False, True] == [block.last for block in reorg.blocks]
    assert {reorg.step} == {block.step for block in reorg.blocks}


def test_moved_transactions_stand_behind_kept_ones_in_the_order_written() -> None:
    steps = TWO + TWO.replace("1}", "3}").replace("2}", "4}")
    (reorg,) = _planned(steps + "  - reorg: {depth: 2, move: {4/2: 3, 4/1: 3, 3/1: 4}, keep: [3/2]}\n  - sync:\n")
    assert [(3, 36, [2, 4, 3]), (4, 48, [1])] == _shown(reorg.blocks)
    assert [((3, 2), (4, 2), (4, 1)), ((3, 1),)] == [block.origins for block in reorg.blocks]


def test_kept_transactions_of_a_block_keep_their_order_however_they_are_named() -> None:
    (reorg,) = _planned(TWO + "  - reorg: {depth: 1, keep: [3/2, 3/1]}\n  - sync:\n")
    assert [(3, 36, [1, 2])] == _shown(reorg.blocks)


def test_added_steps_take_the_first_blocks_that_hold_nothing_else() -> None:
    steps = _deposit(1) + _deposit(2) + _deposit(3)
    steps += "  - reorg:\n      depth: 3\n      drop: [3, 5]\n      keep: [4]\n      add:\n"
    steps += "".join(f"      {line}\n" for line in (_deposit(7) + "  - mine: 2\n" + TWO).splitlines())
    (reorg,) = _planned(steps + "  - sync:\n")
    assert [(3, 36, [7]), (4, 48, [2]), (5, 60, []), (6, 72, []), (7, 84, [1, 2])] == _shown(reorg.blocks)
    assert [(None,), ((4, 1),), (), (), (None, None)] == [block.origins for block in reorg.blocks]
    assert [12, 7, 13, 13, 14] == [block.location.line for block in reorg.blocks], (
        "an added block is where it is written"
    )


def test_branch_is_as_long_as_what_it_replaces_or_longer_and_time_goes_on() -> None:
    steps = _deposit(1) + "  - wait: 5 minutes\n" + _deposit(2) + "  - wait: 1 minute\n"
    (reorg,) = _planned(steps + "  - reorg: {depth: 2, drop: [3], move: {4: 6}}\n" + _deposit(3) + "  - sync:\n")
    assert [(3, 36, []), (4, 348, []), (5, 420, []), (6, 432, [2])] == _shown(reorg.blocks)
    assert [0, 12, 24, 36, 348, 420, 432, 444] == _times(
        steps + "  - reorg: {depth: 2, drop: [3], move: {4: 6}}\n" + _deposit(3) + "  - sync:\n", ENZYME
    )


def test_wait_before_a_reorg_that_makes_no_further_block_counts_for_the_next_one() -> None:
    steps = _deposit(1) + "  - wait: 1 minute\n  - reorg: {depth: 1, keep: [3]}\n" + _deposit(2) + "  - sync:\n"
    assert _times(steps, ENZYME) == [0, 12, 24, 36, 108]


def test_later_reorg_speaks_of_the_branch_that_stands_then() -> None:
    steps = _deposit(1) + _deposit(2) + "  - reorg: {depth: 2, move: {3: 4}, drop: [4]}\n"
    _, second = _planned(steps + "  - reorg: {depth: 1, move: {4: 5}}\n  - sync:\n")
    assert second.common == 3
    assert [(4, 48, []), (5, 60, [1])] == _shown(second.blocks)
    assert [(), ((4, 1),)] == [block.origins for block in second.blocks]


def test_transaction_of_several_calls_counts_as_one() -> None:
    calls = "  - block:\n    - transaction:\n      - deposit: {caller: alice, assets: 1}\n"
    calls += "      - donate: {caller: alice, assets: 1}\n    - deposit: {caller: bob, assets: 2}\n"
    (reorg,) = _planned(calls + "  - reorg: {depth: 1, keep: [3/2], drop: [3/1]}\n  - sync:\n")
    assert [(3, 36, [2])] == _shown(reorg.blocks)


def test_steps_of_a_hook_are_mined_while_the_next_operation_runs() -> None:
    steps = _deposit(1) + "  - node: {after: 2, steps: [mine: 2, reorg: {depth: 3, keep: [3]}]}\n"
    steps += "  - restart:\n  - sync:\n  - sync:\n" + _deposit(2)
    items = [item for item in plan(loads(ENZYME + steps, "x.yaml")) if isinstance(item, PlannedStep)]
    told = [(type(item.step).__name__, item.head, len(item.hook)) for item in items]
    assert [("NodeStep", 3, 0), ("Restart", 3, 0), ("SyncTreasury", 3, 3), ("SyncTreasury", 5, 0)] == told
    blocks, reorg = items[2].hook[:2], items[2].hook[2]
    assert [4, 5] == [block.number for block in blocks if isinstance(block, PlannedBlock)]
    assert isinstance(reorg, PlannedReorg)
    assert [(3, 36, [1]), (4, 48, []), (5, 60, [])] == _shown(reorg.blocks)
    assert _times(steps, ENZYME) == [0, 12, 24, 36, 48, 60, 72]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nothing_that_a_reorg_names_is_lost_or_doubled(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=64))
    blocks = ["  - mine: 1\n" if not size else "  - block:\n" + ("  " + _deposit(1)) * size for size in sizes]
    places = [(number, place) for number, size in enumerate(sizes, 3) for place in range(1, size + 1)]
    fates = data.draw(st.lists(st.sampled_from("dkm"), min_size=len(places), max_size=len(places)))
    shown = {fate: [place for place, one in zip(places, fates, strict=True) if one == fate] for fate in "dkm"}
    targets = {place: data.draw(st.integers(3, 80)) for place in shown["m"]}
    drop, keep = ([f"{number}/{place}" for number, place in shown[fate]] for fate in "dk")
    move = ", ".join(f"{number}/{place}: {target}" for (number, place), target in targets.items())
    added = data.draw(st.integers(0, 5))
    add = ", ".join(["mine: 1", *["deposit: {caller: bob, assets: 5}"] * added])
    said = (
        f"{{depth: {len(sizes)}, drop: [{', '.join(drop)}], keep: [{', '.join(keep)}], move: {{{move}}}, add: [{add}]}}"
    )
    (reorg,) = _planned("".join(blocks) + f"  - reorg: {said}\n  - sync:\n")
    stands = [(block.number, origin) for block in reorg.blocks for origin in block.origins]
    assert sorted(shown["k"] + shown["m"]) == sorted(origin for _, origin in stands if origin is not None)
    assert added == sum(origin is None for _, origin in stands)
    assert all(targets.get(origin, origin[0]) == number for number, origin in stands if origin is not None)
    assert list(range(3, 3 + len(reorg.blocks))) == [block.number for block in reorg.blocks]
    assert len(reorg.blocks) >= len(sizes)
    times = [block.timestamp for block in reorg.blocks]
    assert times == sorted(set(times))
    assert all(len(block.steps) == len(block.origins) for block in reorg.blocks)
    assert all(None not in block.origins or set(block.origins) == {None} for block in reorg.blocks)
