"""What books must say, sentence by sentence, on ledgers written by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from harness.books import Books, copy_books
from harness.books.records import BalanceUpdate
from harness.ledger.bookkeeping import CLOCK, expected_books
from tests.hand_ledger import AUSDC, DEPLOYED, USDC, WETH, Hand, full_history, prices


def tokens(text: str) -> Decimal:
    return Decimal(text)


# -- initialise


def test_initialise_fills_the_deployment() -> None:
    hand = Hand()
    deployment = hand.books.sync.deployment
    assert ("0xVault", 1337, DEPLOYED, "0xdeploy", hand.time(2), "Example Fund", "EXAMPLE", hand.time(2)) == (
        deployment.address,
        deployment.chain_id,
        deployment.block_number,
        deployment.tx_hash,
        deployment.block_mined_at,
        deployment.vault_token_name,
        deployment.vault_token_symbol,
        deployment.initialised_at,
    )
    assert {} == hand.books.portfolio.reserves
    assert hand.books.sync.is_initialised()


def test_initialise_later_tells_the_end_blocks_time() -> None:
    hand = Hand()
    hand.block()
    hand.block()
    operation = hand.operation("initialise", end_block=3)
    books = expected_books(hand.ledger, Books(), operation)
    assert isinstance(books, Books)
    assert hand.time(3) == books.sync.deployment.initialised_at
    assert hand.time(2) == books.sync.deployment.block_mined_at


def test_initialise_is_refused_the_second_time_and_before_the_deployment() -> None:
    hand = Hand()
    assert "initialised already" in hand.refusal("initialise")
    hand.books = Books()
    assert "not deployed at block 1" in hand.refusal("initialise", end_block=1)


@pytest.mark.parametrize("kind", ["sync", "sync_interest"])
def test_books_that_are_of_nothing_or_of_another_are_refused(kind: str) -> None:
    hand = Hand()
    hand.sync()
    assert "chain 1337, not 2" in hand.refusal(kind, chain_id=2)
    assert "another vault" in hand.refusal(kind, vault="0xSecond")
    hand.books = Books()
    assert "not initialised" in hand.refusal(kind)


# -- treasury


def test_first_sync_reads_from_the_deployment_block_both_ends_included() -> None:
    hand = Hand()
    hand.flow("deposit", [("USDC", 5)])  # in the deployment's own block
    hand.deposit(6)
    hand.deposit(7)
    hand.sync(end_block=3)
    assert [("deposit", None, tokens("0.000005")), ("deposit", None, tokens("0.000006"))] == hand.figures()
    assert 3 == hand.books.sync.treasury.last_block_scanned
    hand.sync()
    assert tokens("0.000007") == hand.updates()[-1].quantity


def test_a_sync_leaves_cursor_cycle_clock_and_the_reserves_price() -> None:
    hand = Hand()
    hand.deposit(5)
    prices(hand, {"USDC": "0.99"})
    hand.sync(cycle=datetime(2025, 1, 1))
    treasury, reserve = hand.books.sync.treasury, hand.books.portfolio.reserves[USDC.identifier]
    assert (3, datetime(2025, 1, 1), CLOCK) == (
        treasury.last_block_scanned,
        treasury.last_cycle_at,
        treasury.last_updated_at,
    )
    assert (0.99, hand.time(3), hand.time(3)) == (
        reserve.reserve_token_price,
        reserve.last_pricing_at,
        reserve.last_sync_at,
    )


def test_a_range_without_events_is_no_error() -> None:
    hand = Hand()
    hand.block()
    hand.sync()
    assert [] == hand.updates()
    assert 3 == hand.books.sync.treasury.last_block_scanned
    assert Decimal(0) == hand.books.portfolio.reserves[USDC.identifier].quantity


@pytest.mark.parametrize("end_block", [3, 4])
def test_an_idle_sync_changes_nothing_but_the_two_timestamps(end_block: int) -> None:
    hand = Hand()
    hand.deposit(5)
    hand.deposit(6)
    before = copy_books(hand.sync())
    before.sync.treasury.last_updated_at = None
    prices(hand, {"USDC": "2"})
    after = hand.sync(end_block=end_block, cycle=datetime(2026, 1, 1))
    assert datetime(2026, 1, 1) == after.sync.treasury.last_cycle_at
    after.sync.treasury.last_updated_at, after.sync.treasury.last_cycle_at = None, before.sync.treasury.last_cycle_at
    assert before == after


def test_a_head_below_the_cursor_and_an_earlier_cycle_are_refused() -> None:
    hand = Hand()
    hand.deposit(5)
    hand.sync(cycle=datetime(2025, 1, 1))
    assert "head 2 is below the last block scanned, 3" in hand.refusal("sync", head=2, end_block=2)
    assert "before the last one" in hand.refusal("sync", cycle=datetime(2024, 12, 31))
    assert isinstance(hand.answer("sync", cycle=datetime(2025, 1, 1)), Books)


def test_a_deposit_is_one_update_with_all_its_fields_and_one_ref() -> None:
    hand = Hand()
    flow = hand.deposit(1_000_000)
    hand.deposit(2_500_000, "0xB0B")
    prices(hand, {"USDC": "0.9"})
    hand.sync()
    first, second = hand.updates()
    assert second == BalanceUpdate(
        balance_update_id=2,
        cause=second.cause,
        position_type=second.position_type,
        asset=USDC,
        block_mined_at=hand.time(4),
        strategy_cycle_included_at=hand.time(4),
        chain_id=1337,
        quantity=tokens("2.5"),
        old_balance=tokens("1"),
        usd_value=2.25,
        created_at=CLOCK,
        owner_address="0xB0B",
        tx_hash=hand.ledger.flows[1].transaction,
        log_index=3,
        block_number=4,
    )
    assert ("deposit", "reserve") == (str(second.cause), str(second.position_type))
    assert (flow.transaction, 1.0) == (first.tx_hash, first.usd_value)
    refs = hand.books.sync.treasury.balance_update_refs
    assert [(1, 1.0), (2, 2.25)] == [(ref.balance_event_id, ref.usd_value) for ref in refs]
    assert [None, None] == [ref.position_id for ref in refs]


def test_no_token_moved_no_update() -> None:
    hand = Hand()
    hand.deposit(0)
    hand.redeem(("USDC", 0), ("WETH", 0))
    hand.sync()
    assert [] == hand.updates()
    assert [] == hand.books.sync.treasury.balance_update_refs


def test_a_redemption_is_one_update_per_asset_in_the_events_order() -> None:
    hand = Hand()
    hand.deposit(1_000_000_000)
    hand.sync()
    hand.trade(WETH, 10**18, -500_000_000)
    hand.redeem(("WETH", 10**17), ("aUSDC", 0), ("USDC", 50_000_000), owner="0xB0B")
    prices(hand, {"WETH": "2000"})
    hand.sync()
    *_, weth, usdc = hand.updates()
    assert (WETH, tokens("-0.1"), tokens("1"), -200.0, 1, "open_position") == (
        weth.asset,
        weth.quantity,
        weth.old_balance,
        weth.usd_value,
        weth.position_id,
        str(weth.position_type),
    )
    assert (USDC, tokens("-50"), tokens("500"), -50.0, None, "reserve") == (
        usdc.asset,
        usdc.quantity,
        usdc.old_balance,
        usdc.usd_value,
        usdc.position_id,
        str(usdc.position_type),
    )
    assert {"0xB0B"} == {weth.owner_address, usdc.owner_address}
    assert 9 * 10**17 == hand.books.portfolio.open_positions[1].quantity_raw


def test_several_positions_of_a_plain_asset_share_by_quantity() -> None:
    hand = Hand()
    hand.deposit(1_000_000_000)
    hand.sync()
    for quantity in (3, 1, 3):
        hand.trade(WETH, quantity, -1, "new")
    hand.redeem(("WETH", 2))
    hand.sync()
    # 6/7, 2/7, 6/7: two whole units, the largest remainders, ties to the lower id; zero parts give none.
    assert [("redemption", 1, Decimal(-1)), ("redemption", 3, Decimal(-1))] == [
        (cause, position, quantity * 10**18) for cause, position, quantity in hand.figures()[1:]
    ]
    hand.redeem(("WETH", 9))  # more than there is: what was donated is paid out, too
    hand.sync()
    assert [-2, -1, -1] == [position.quantity_raw for position in hand.books.portfolio.open_positions.values()]
    hand.redeem(("WETH", 5))  # no weight is left: the lowest id takes all
    hand.sync()
    assert [-7, -1, -1] == [position.quantity_raw for position in hand.books.portfolio.open_positions.values()]


def test_several_positions_of_a_rebase_asset_share_by_base() -> None:
    hand = Hand()
    hand.deposit(1_000)
    hand.sync()
    hand.trade(AUSDC, 100, -100)
    hand.redeem(("aUSDC", 60))
    hand.sync()
    hand.trade(AUSDC, 100, -100, "new")
    hand.redeem(("aUSDC", 50))
    hand.sync()
    # Position 1 has 40 left of a base of 100, position 2 100 of 100: halves, by base.
    assert [(1, -25), (2, -25)] == [(one.position_id, int(one.quantity * 10**6)) for one in hand.updates()[-2:]]


def test_a_redemption_lowers_principal_and_tracker_and_stamps_it() -> None:
    hand = full_history()
    loan = hand.books.portfolio.open_positions[2].loan
    assert loan is not None
    assert loan.collateral is not None
    assert loan.collateral_interest is not None
    tracker = loan.collateral_interest
    assert (tokens("270"), tokens("272.700001"), tokens("2.700001"), tokens("300"), Decimal(0)) == (
        loan.collateral.quantity,
        tracker.last_token_amount,
        tracker.last_accrued_interest,
        tracker.opening_amount,
        tracker.interest_payments,
    )


def test_a_redemption_found_late_does_not_turn_the_stamps_back() -> None:
    hand = Hand()
    hand.deposit(1_000)
    hand.sync()
    hand.trade(AUSDC, 100, -100)
    hand.redeem(("aUSDC", 10))
    hand.trade(AUSDC, 100, -100)
    hand.sync()
    loan = hand.books.portfolio.open_positions[1].loan
    assert loan is not None
    assert loan.collateral_interest is not None
    assert (6, hand.time(6)) == (
        loan.collateral_interest.last_updated_block_number,
        loan.collateral_interest.last_event_at,
    )


def test_a_balance_may_fall_below_zero() -> None:
    hand = Hand()
    hand.move("donated", "USDC", 50)
    hand.redeem(("USDC", 50))
    hand.sync()
    assert tokens("-0.00005") == hand.books.portfolio.reserves[USDC.identifier].quantity


def test_a_leg_without_a_position_is_refused_or_skipped_as_dust() -> None:
    hand = Hand()
    hand.move("donated", "WETH", 10)
    hand.redeem(("USDC", 1), ("WETH", 10))
    assert "WETH was paid out" in hand.refusal("sync")
    within = Hand(dust_absolute={"USDC": Decimal(0), "aUSDC": Decimal(0), "WETH": Decimal("0.00000000000000001")})
    within.move("donated", "WETH", 11)
    within.redeem(("USDC", 1), ("WETH", 10))
    within.sync()
    (update,) = within.updates()
    assert update.other_data is not None
    (leg,) = update.other_data["skipped_legs"]
    assert (WETH.identifier, Decimal("-0.00000000000000001")) == (leg["asset"], Decimal(leg["quantity"]))
    within.redeem(("WETH", 1))  # nothing but dust: no update to list it
    within.sync()
    assert 1 == len(within.updates())
    beyond = Hand(dust_absolute={"USDC": Decimal(0), "aUSDC": Decimal(0), "WETH": Decimal("0.000000000000000009")})
    beyond.move("donated", "WETH", 10)
    beyond.redeem(("USDC", 1), ("WETH", 10))
    assert "WETH was paid out" in beyond.refusal("sync")


def test_what_is_refused_leaves_the_books_alone() -> None:
    hand = Hand()
    hand.deposit(5)
    hand.sync()
    hand.move("donated", "WETH", 10)
    hand.deposit(6)
    hand.redeem(("WETH", 10))
    before = copy_books(hand.books)
    hand.refusal("sync")
    assert before == hand.books


def test_moves_are_no_flows() -> None:
    hand = Hand()
    for kind in ("donated", "taken", "rounded"):
        hand.move(kind, "USDC", 5)
    hand.sync()
    assert [] == hand.updates()


# -- interest


def test_the_treasury_must_stand_at_the_same_block() -> None:
    hand = Hand()
    hand.block()
    assert "stands at block None, not 3" in hand.refusal("sync_interest")
    hand.sync()
    assert "stands at block 3, not 2" in hand.refusal("sync_interest", end_block=2)
    hand.block()
    assert "stands at block 3, not 4" in hand.refusal("sync_interest")


def test_without_a_rebase_asset_only_the_checkpoint_moves() -> None:
    hand = Hand()
    hand.deposit(5)
    hand.move("donated", "USDC", 7)
    hand.sync()
    before = copy_books(hand.books)
    after = hand.sync_interest()
    assert (4, hand.time(4), None) == (
        after.sync.interest.last_sync_block,
        after.sync.interest.last_sync_at,
        after.sync.interest.last_distribution,
    )
    after.sync.interest = before.sync.interest
    assert before == after


def credit(*quantities: int, seconds: int = 0, **changes: object) -> Hand:
    """Credit positions of these sizes."""
    hand = Hand(**changes)
    hand.deposit(sum(quantities) + 1000)
    hand.sync()
    for quantity in quantities:
        hand.trade(AUSDC, quantity, -quantity, "new")
    hand.block(seconds)
    return hand


def test_a_gain_is_one_update_per_position_with_a_part() -> None:
    hand = credit(600, 400, 1)
    hand.rebase("aUSDC", 3)
    prices(hand, {"aUSDC": "2"})
    hand.sync()
    hand.sync_interest()
    *_, first, second = hand.updates()
    assert [(1, 2), (2, 1)] == [(one.position_id, int(one.quantity * 10**6)) for one in (first, second)]
    assert (None, None, None, None, hand.time(8), 8, tokens("0.0006"), 4e-06, hand.time(4)) == (
        first.strategy_cycle_included_at,
        first.tx_hash,
        first.log_index,
        first.owner_address,
        first.block_mined_at,
        first.block_number,
        first.old_balance,
        first.usd_value,
        first.previous_update_at,
    )
    assert 1 == len(hand.books.sync.treasury.balance_update_refs)  # the deposit's: interest has none
    assert [] == hand.books.sync.accounting.balance_update_refs


def test_trackers_move_with_the_gain_and_are_stamped_only_by_a_part() -> None:
    hand = credit(600, 1)
    hand.rebase("aUSDC", 30)
    hand.sync()
    hand.sync_interest()
    stamps, amounts = [], []
    for position in hand.books.portfolio.open_positions.values():
        assert position.loan is not None
        assert position.loan.collateral is not None
        tracker = position.loan.collateral_interest
        assert tracker is not None
        stamps.append(tracker.last_updated_block_number)
        amounts.append([int(one * 10**6) for one in (tracker.last_token_amount, tracker.last_accrued_interest)])
    assert [7, 5] == stamps
    assert [[630, 30], [1, 0]] == amounts


def test_redeemed_principal_earned_until_the_interest_sync() -> None:
    hand = credit(500, 500)
    hand.redeem(("aUSDC", 100))
    hand.sync()
    hand.redeem(("aUSDC", 100))
    hand.rebase("aUSDC", 8)
    hand.sync()
    hand.sync_interest()
    assert [4, 4] == [int(one.quantity * 10**6) for one in hand.updates()[-2:]]
    distribution = hand.books.sync.interest.last_distribution
    assert distribution is not None
    assert tokens("0.001") == distribution.asset_interest_data[AUSDC.identifier].total
    # After it, what was redeemed before counts no more.
    hand.rebase("aUSDC", 4)
    hand.sync()
    hand.sync_interest()
    assert distribution is not hand.books.sync.interest.last_distribution
    later = hand.books.sync.interest.last_distribution
    assert later is not None
    assert tokens("0.000808") == later.asset_interest_data[AUSDC.identifier].total


@pytest.mark.parametrize(("gain", "refused"), [(50, False), (51, True), (-50, False), (-51, True)])
def test_exactly_the_bound_passes(gain: int, refused: bool) -> None:
    hand = credit(600, 400)
    hand.rebase("aUSDC", gain)
    hand.sync()
    if refused:
        reason = hand.refusal("sync_interest")
        assert "aUSDC changed by" in reason
        assert "base of 0.001000" in reason
        assert "0.05" in reason
    else:
        hand.sync_interest()
        assert gain == sum(int(one.quantity * 10**6) for one in hand.updates()[-2:])


@pytest.mark.parametrize(("gain", "refused"), [(1, False), (2, False), (3, True)])
def test_with_nothing_that_earns_two_units_are_left_to_a_correction(gain: int, refused: bool) -> None:
    hand = credit(5)
    hand.redeem(("aUSDC", 5))
    hand.sync()
    hand.sync_interest()
    hand.rebase("aUSDC", gain)
    hand.sync()
    if refused:
        assert "nothing that could earn it" in hand.refusal("sync_interest")
        return
    count = len(hand.updates())
    hand.sync_interest()
    distribution = hand.books.sync.interest.last_distribution
    assert distribution is not None
    data = distribution.asset_interest_data[AUSDC.identifier]
    assert (count, Decimal(0), 0.0, 0.0) == (
        len(hand.updates()),
        data.total,
        data.effective_rate,
        distribution.effective_rate,
    )


def test_the_whole_base_counts_what_lies_below_zero() -> None:
    hand = credit(100)
    hand.redeem(("aUSDC", 95))
    hand.sync()
    hand.trade(AUSDC, 100, -100, "new")
    hand.redeem(("aUSDC", 60))  # by base: 30 each, which leaves 5 - 30 and 100 - 30
    hand.sync()
    hand.sync_interest()
    assert [-25, 70] == [position.quantity_raw for position in hand.books.portfolio.open_positions.values()]
    hand.rebase("aUSDC", 2)
    hand.sync()
    hand.sync_interest()
    assert [-25, 72] == [position.quantity_raw for position in hand.books.portfolio.open_positions.values()]
    distribution = hand.books.sync.interest.last_distribution
    assert distribution is not None
    assert tokens("0.000045") == distribution.asset_interest_data[AUSDC.identifier].total


def test_rates_are_per_365_days_and_start_at_the_oldest_opening_then_at_the_checkpoint() -> None:
    hand = credit(1_000, seconds=73 * 86_400 - 20)
    hand.rebase("aUSDC", 10)
    hand.sync()
    hand.sync_interest()
    distribution = hand.books.sync.interest.last_distribution
    assert distribution is not None
    assert (hand.time(4), hand.time(6)) == (distribution.start, distribution.end)
    assert timedelta(days=73) == distribution.duration
    assert 0.05 == distribution.effective_rate
    assert 0.05 == distribution.asset_interest_data[AUSDC.identifier].effective_rate
    assert [AUSDC] == distribution.assets
    hand.block()
    hand.sync()
    hand.sync_interest()
    later = hand.books.sync.interest.last_distribution
    assert later is not None
    assert (hand.time(6), hand.time(7), 0.0) == (later.start, later.end, later.effective_rate)


def test_the_operations_rate_weighs_assets_by_worth() -> None:
    hand = Hand(reserve="aUSDC")
    hand.block()
    hand.flow("deposit", [("aUSDC", 1_000)])
    hand.sync()
    hand.sync_interest()
    hand.block(365 * 86_400 - 20)
    hand.rebase("aUSDC", 20)
    hand.sync()
    hand.sync_interest()
    distribution = hand.books.sync.interest.last_distribution
    assert distribution is not None
    assert 0.02 == pytest.approx(distribution.effective_rate or 0, rel=1e-6)
    *_, gain = hand.updates()
    assert ("interest", None, "reserve", tokens("0.00002"), tokens("0.001"), None) == (
        str(gain.cause),
        gain.position_id,
        str(gain.position_type),
        gain.quantity,
        gain.old_balance,
        gain.previous_update_at,
    )
    assert tokens("0.00102") == hand.books.portfolio.reserves[AUSDC.identifier].quantity


def test_interest_at_the_same_block_changes_nothing_and_at_an_earlier_one_is_refused() -> None:
    hand = credit(1_000)
    hand.sync()
    before = copy_books(hand.sync_interest())
    assert before == hand.sync_interest()
    hand.block()
    hand.sync()
    hand.sync_interest()
    assert "interest was synced at block 6 already" in hand.refusal("sync_interest", end_block=5)


def test_at_once_the_rates_are_zero() -> None:
    hand = Hand(reserve="aUSDC")
    hand.flow("deposit", [("aUSDC", 100)])
    hand.ledger.set_balance("aUSDC", 2, 102)
    hand.sync()
    hand.sync_interest()
    distribution = hand.books.sync.interest.last_distribution
    assert distribution is not None
    assert distribution.start == distribution.end
    assert (0.0, 0.0) == (
        distribution.effective_rate,
        distribution.asset_interest_data[AUSDC.identifier].effective_rate,
    )


def test_worth_is_the_double_nearest_to_the_exact_product() -> None:
    hand = Hand()
    hand.deposit(333_333_333_333_333_333)
    prices(hand, {"USDC": "1.00000007"})
    hand.sync()
    exact = Fraction(333_333_333_333_333_333, 10**6) * Fraction(100_000_007, 10**8)
    assert exact.numerator / exact.denominator == hand.updates()[0].usd_value


def test_interest_starts_at_the_oldest_of_several_openings() -> None:
    hand = credit(600, 400)
    hand.sync()
    hand.sync_interest()
    distribution = hand.books.sync.interest.last_distribution
    assert distribution is not None
    assert hand.time(4) == distribution.start


def test_a_second_redemption_in_one_sync_is_shared_by_the_same_bases() -> None:
    hand = credit(100, 100)
    for _ in range(2):
        hand.redeem(("aUSDC", 1))
    hand.sync()
    # What the first one took still counts: halves again, and the odd unit to the lower id.
    assert [(1, -1), (1, -1)] == [(one.position_id, int(one.quantity * 10**6)) for one in hand.updates()[-2:]]
