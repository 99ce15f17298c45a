"""Blocks follow from the file alone."""

from __future__ import annotations

from datetime import datetime

from harness.scenario import model
from harness.scenario.loader import loads
from harness.scenario.plan import PlannedBlock, PlannedStep, blocks_of, plan, timestamp_of

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
