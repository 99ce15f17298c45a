"""What the reference syncer takes for a deposit where one transaction, or one block, holds more than a call."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from harness.books import BookedTrade, Books, book_trade
from harness.books.records import AssetIdentifier, BalanceUpdateCause
from harness.errors import SyncRefused
from harness.syncers import Dust, Target

USDC = 10**6


def told(updates: Any, books: Books) -> list[tuple[str, int]]:
    return [(update.cause.value, int(update.quantity * USDC)) for update in updates(books)]


def gift(world: Any, who: Any, raw: int) -> Any:
    return world.transfer(world.usdc, who("carol"), world.vault, raw)


# -- which tokens are a deposit's


def test_gift_in_the_same_transaction_is_no_part_of_a_deposit(world, updates, who):
    world.block([gift(world, who, 3), *world.deposit(50), gift(world, who, 4), *world.deposit(70, "bob")])
    assert [("deposit", 50), ("deposit", 70)] == told(updates, world.synced())


def test_gift_after_the_shares_were_minted_is_no_part_of_a_deposit(world, updates, who):
    moved, *rest = world.deposit(50)
    shares, event = rest
    world.block([moved, shares, gift(world, who, 4), event])
    assert [("deposit", 50)] == told(updates, world.synced())


def test_deposit_after_a_redemption_in_one_transaction_counts_what_it_brought(world, updates):
    world.block([*world.redeem([(world.usdc, 30)]), *world.deposit(50), *world.redeem([(world.usdc, 20)])])
    assert [("redemption", -30), ("deposit", 50), ("redemption", -20)] == told(updates, world.synced())


def test_event_without_shares_is_no_deposit(world, updates, who):
    """Whoever may emit such an event; tokens may even have come in before it."""
    carol = who("carol")
    world.block([gift(world, who, 9), world.deposit_event(9, carol, carol)])
    assert [] == told(updates, world.synced())


def test_fee_shares_with_a_deposit_shaped_event_are_no_deposit(world, updates, who):
    fee = [*world.shares(10, who("carol")), world.deposit_event(10, world.vault, who("carol"))]
    world.block(world.deposit(50), fee)
    world.block([*world.deposit(70), *world.shares(10, who("carol"))])
    assert [("deposit", 50), ("deposit", 70)] == told(updates, world.synced())


def test_shares_minted_to_somebody_else_are_not_this_calls(world, updates, who):
    """A fee may be minted in the same call, before the owner's own shares or after them."""
    for before in (True, False):
        moved, shares, event = world.deposit(50)
        fee = world.shares(1, who("treasurer"))
        world.block([moved, *fee, shares, event] if before else [moved, shares, *fee, event])
    assert [("deposit", 50), ("deposit", 50)] == told(updates, world.synced())


def test_what_the_vault_sends_itself_has_not_arrived(world, updates, who):
    own = world.transfer(world.usdc, world.vault, world.vault, 5)
    world.block([own, *world.shares(5, who("carol")), world.deposit_event(5, world.vault, who("carol"))])
    assert [] == told(updates, world.synced())


# -- whose events count


def test_accessor_replaced_in_the_middle_of_a_transaction(enzyme, updates):
    old = enzyme.accessor
    first, switch, second = enzyme.deposit(1), enzyme.replace_accessor(), enzyme.deposit(2)
    late = enzyme.deposit_event(4, old, old, accessor=old)
    enzyme.block([*first, *switch, *second, late])
    assert [("deposit", 1), ("deposit", 2)] == told(updates, enzyme.synced())


def test_abandoned_accessor_is_not_heard_even_with_tokens_and_shares(enzyme, updates, who):
    old = enzyme.accessor
    enzyme.block(enzyme.deposit(1), enzyme.replace_accessor())
    alice = who("alice")
    moved = enzyme.transfer(enzyme.usdc, alice, enzyme.vault, 8)
    enzyme.block([moved, *enzyme.shares(8, alice), enzyme.deposit_event(8, alice, alice, accessor=old)])
    assert [("deposit", 1)] == told(updates, enzyme.synced())


def test_redemption_of_chosen_assets_has_their_legs_in_their_order(enzyme, updates):
    enzyme.block(enzyme.deposit(1_000))
    books = enzyme.supplied(enzyme.synced(), 600, paid=600)
    enzyme.block(enzyme.redeem([(enzyme.ausdc, 60), (enzyme.usdc, 40)]), enzyme.redeem([(enzyme.ausdc, 6)]))
    legs = [(update.position_id, int(update.quantity * USDC)) for update in updates(enzyme.synced(books))[1:]]
    assert [(1, -60), (None, -40), (1, -6)] == legs


# -- debts


@pytest.fixture
def debt(enzyme) -> AssetIdentifier:
    """A token whose balance the vault owes, with a feed of its own."""
    token = AssetIdentifier(
        chain_id=enzyme.usdc.chain_id,
        address="0x" + "dE" * 20,
        token_symbol="vdUSDC",
        decimals=6,
        type="debt",
        underlying=enzyme.usdc,
    )
    made = type(enzyme).target.fget

    def target(world: Any) -> Target:
        found: Target = made(world)
        return type(found)(
            **{name: getattr(found, name) for name in found.__dataclass_fields__ if name not in ("feeds", "dust")},
            feeds={**found.feeds, token: found.feeds[world.usdc]},
            dust={**found.dust, token: world.dust.get(token, Dust())},
        )

    enzyme.__class__ = type("Indebted", (type(enzyme),), {"target": property(target)})
    return token


def borrowed(world: Any, books: Books, token: AssetIdentifier, raw: int, position: int = 1) -> Books:
    world.rebase(token, raw)
    block = world.block([world.transfer(world.usdc, "0x" + "11" * 20, world.vault, raw)])
    trade = BookedTrade(
        kind="borrow" if raw > 0 else "repay",
        asset=token,
        quantity_raw=raw,
        reserve=world.reserve,
        reserve_raw=raw,
        position=position,
        price=Fraction(1),
        executed_at=world.time(block),
        block_number=block,
        tx_hash="0x" + "77" * 32,
    )
    return book_trade(books, trade)


def indebted(world: Any, token: AssetIdentifier) -> Books:
    """A vault with two credit positions that owe 300 and 100."""
    world.block(world.deposit(10_000))
    books = world.synced()
    for raw in (600, 500):
        books = world.supplied(books, raw, paid=raw)
    books = borrowed(world, books, token, 300)
    return borrowed(world, books, token, 100, 2)


def owed(books: Books) -> list[tuple[int, int, int]]:
    found = []
    for position in books.portfolio.open_positions.values():
        tracker = position.loan.borrowed_interest
        amounts = (tracker.last_token_amount, tracker.last_accrued_interest, position.loan.borrowed.quantity)
        found.append(tuple(int(amount * USDC) for amount in amounts))
    return found


def test_growth_of_a_debt_is_split_by_what_is_owed(enzyme, debt, updates):
    books = enzyme.synced(indebted(enzyme, debt))
    enzyme.rebase(debt, 8)
    enzyme.rebase(enzyme.ausdc, 11)
    enzyme.block()
    after = enzyme.interest(enzyme.synced(books))
    interest = [one for one in updates(after) if one.cause is BalanceUpdateCause.interest]
    told = [(one.asset.token_symbol, one.position_id, int(one.quantity * USDC)) for one in interest]
    assert [("aUSDC", 1, 6), ("aUSDC", 2, 5), ("vdUSDC", 1, 6), ("vdUSDC", 2, 2)] == told
    assert [(306, 6, 300), (102, 2, 100)] == owed(after)
    assert [606, 505] == [one.quantity_raw for one in after.portfolio.open_positions.values()]
    grown = interest[2]
    assert (300, 6e-06) == (int(grown.old_balance * USDC), grown.usd_value)
    first = books.portfolio.open_positions[1].loan.borrowed_interest.last_event_at
    assert first == grown.previous_update_at
    tracker = after.portfolio.open_positions[1].loan.borrowed_interest
    assert (enzyme.head, enzyme.time(enzyme.head)) == (tracker.last_updated_block_number, tracker.last_event_at)
    last = after.sync.interest.last_distribution
    assert int(last.asset_interest_data[debt.identifier].total * USDC) == 400


def test_growth_of_a_debt_goes_back(enzyme, debt, updates):
    books = enzyme.synced(indebted(enzyme, debt))
    enzyme.rebase(debt, 8)
    enzyme.block()
    after = enzyme.interest(enzyme.synced(books))
    enzyme.fork(enzyme.head)
    enzyme.block()
    back = enzyme.synced(after)
    assert [(300, 0, 300), (100, 0, 100)] == owed(back)
    stamps = [one.loan.borrowed_interest.last_updated_block_number for one in books.portfolio.open_positions.values()]
    assert stamps == [
        one.loan.borrowed_interest.last_updated_block_number for one in back.portfolio.open_positions.values()
    ]


def test_debt_beyond_the_bound_is_refused(enzyme, debt):
    books = enzyme.synced(indebted(enzyme, debt))
    enzyme.rebase(debt, 21)
    enzyme.block()
    with pytest.raises(SyncRefused, match="vdUSDC: a gain of 21"):
        enzyme.interest(enzyme.synced(books))


def test_debt_is_corrected_where_it_is_owed(enzyme, debt):
    books = enzyme.synced(indebted(enzyme, debt))
    enzyme.rebase(debt, -40)
    enzyme.block()
    after = enzyme.syncer().correct_accounts(enzyme.view(), books)
    assert [(270, 0, 270), (90, 0, 90)] == owed(after)
    assert [600, 500] == [one.quantity_raw for one in after.portfolio.open_positions.values()]


def test_debt_nobody_owes_is_refused_beyond_dust(enzyme, debt):
    books = enzyme.synced()
    enzyme.rebase(debt, 5)
    enzyme.block()
    with pytest.raises(SyncRefused, match="vdUSDC: no open position can take a difference of 5"):
        enzyme.syncer().correct_accounts(enzyme.view(), books)
    enzyme.dust[debt] = Dust(absolute=Decimal("0.000005"))
    assert [] == list(enzyme.syncer().correct_accounts(enzyme.view(), books).portfolio.open_positions)


def test_position_that_owes_stays_open_at_zero(enzyme, debt):
    books = enzyme.synced(indebted(enzyme, debt))
    enzyme.rebase(enzyme.ausdc, -1_100)
    enzyme.block()
    books = enzyme.syncer().correct_accounts(enzyme.view(), books)
    assert [1, 2] == list(books.portfolio.open_positions)
    enzyme.rebase(debt, -400)
    enzyme.block()
    books = enzyme.syncer().correct_accounts(enzyme.view(), books)
    assert ([], [1, 2]) == (list(books.portfolio.open_positions), sorted(books.portfolio.closed_positions))


def test_redemption_does_not_touch_debts(enzyme, debt):
    books = enzyme.synced(indebted(enzyme, debt))
    enzyme.block(enzyme.redeem([(debt, 5)]))
    with pytest.raises(SyncRefused, match="vdUSDC, of which no position is open"):
        enzyme.synced(books)


# -- a reserve that changes by itself


@pytest.mark.parametrize("gain", [40, -40])
def test_rebasing_reserve_gains_and_loses(enzyme, updates, gain):
    enzyme.reserve = enzyme.ausdc
    enzyme.block(enzyme.deposit(1_000))
    books = enzyme.synced()
    enzyme.rebase(enzyme.ausdc, gain)
    enzyme.block()
    after = enzyme.interest(enzyme.synced(books))
    assert [("deposit", 1_000), ("interest", gain)] == told(updates, after)
    (reserve,) = after.portfolio.reserves.values()
    assert 1_000 + gain == int(reserve.quantity * USDC)
