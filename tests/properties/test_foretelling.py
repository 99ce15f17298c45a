"""After reorganisations books are those of the branch that is left, whatever stood on the others (law 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from harness.books import Books, Position, copy_books
from harness.books.records import BalanceEventRef, BalanceUpdate, BalanceUpdateCause, Loan, ReservePosition
from harness.ledger.bookkeeping import Refusal
from harness.reconcile.compare import entries, every_position
from harness.reconcile.laws import Checkpoint, judge_laws
from harness.reconcile.statement import statements
from tests.hand_ledger import AUSDC, WETH, Hand, place

Action = tuple[Any, ...]

_RAW = st.integers(1, 10**9)
_SHARE = st.sampled_from([1, 3, 50, 97, 100])
_CHAIN = st.one_of(
    st.tuples(st.just("deposit"), _RAW),
    st.tuples(st.just("redeem"), _SHARE),
    st.tuples(st.just("rebase"), st.integers(-3, 4)),
    st.tuples(st.just("owes more"), st.integers(0, 4)),
    st.tuples(st.just("donated"), st.sampled_from(["USDC", "aUSDC", "WETH"]), st.integers(1, 10**7)),
    st.tuples(st.just("taken"), st.sampled_from(["USDC", "aUSDC", "WETH"]), _SHARE),
    st.tuples(st.just("buy"), st.sampled_from([WETH, AUSDC]), _SHARE, st.booleans()),
    st.tuples(st.just("sell"), st.sampled_from([WETH, AUSDC]), _SHARE, st.integers(0, 2)),
    st.tuples(st.just("close"), st.integers(0, 2)),
    st.tuples(st.just("borrow"), st.integers(1, 10**6), st.integers(0, 2)),
    st.tuples(st.just("repay"), _SHARE, st.integers(0, 2)),
)
_SYNCING = st.one_of(
    st.tuples(st.just("sync"), st.integers(0, 2)),
    st.tuples(st.just("sync"), st.just(0)),
    st.just(("sync_interest",)),
    st.just(("correct_accounts",)),
)
_ACTIONS = st.lists(st.one_of(_CHAIN, _CHAIN, _SYNCING), min_size=1, max_size=12)


@dataclass(frozen=True)
class Done:
    """One thing that was done, in figures, so that it can be done again elsewhere."""

    kind: str
    block: int
    """Where it stands; of an operation, where it ended."""
    figures: tuple[Any, ...] = ()


def share(raw: int, percent: int) -> int:
    return raw * percent // 100


class Branches:
    """Carries actions out on a hand-made ledger, and notes what of them is left after reorganisations."""

    def __init__(self) -> None:
        self.hand = Hand()
        self.left: list[Done] = []
        self.last_trade = 0
        self.highest = 0
        """The highest block that any branch has come to."""
        self.unlawful: list[str] = []

    def do(self, action: Action) -> None:
        kind, *given = action
        if kind in ("sync", "sync_interest", "correct_accounts"):
            below = given[0] if given else 0
            self.operate(Done(kind, max(self.hand.ledger.head - below, 2, self.last_trade)))
            return
        figures = self.figures(kind, given)
        self.chain(Done("block" if figures is None else kind, self.hand.ledger.head + 1, figures or ()))

    def figures(self, kind: str, given: list[Any]) -> tuple[Any, ...] | None:
        """What an action comes to here and now; None if it cannot be done."""
        hand = self.hand
        match kind:
            case "block":
                return None
            case "redeem":
                legs = [(symbol, share(hand.balances[symbol], given[0])) for symbol in ("USDC", "aUSDC", "WETH")]
                return tuple((symbol, raw) for symbol, raw in legs if raw > 0) or None
            case "rebase" | "owes more":
                symbol = "aUSDC" if kind == "rebase" else "dUSDC"
                return symbol, share(hand.balances[symbol], given[0]), "rebase"
            case "donated":
                return given[0], given[1], kind
            case "taken":
                return given[0], -share(max(hand.balances[given[0]], 0), given[1]), kind
            case "deposit":
                return (given[0],)
        if hand.foreteller.pending_rewind is not None:
            return None
        reserve = next(iter(hand.books.portfolio.reserves.values()), None)
        if reserve is None:
            return None
        cash = int(reserve.quantity.scaleb(6))
        if kind == "buy":
            paid = share(max(cash, 0), given[1] // 2)
            return None if not paid else (given[0], paid, -paid, "new" if given[2] else 0)
        if kind == "sell":
            found = self.open(given[0])
            rank = given[2] % len(found) if found else 0
            sold = share(max(found[rank].quantity_raw, 0), given[1]) if found else 0
            return None if not sold else (given[0], -sold, sold, rank)
        if kind == "close":
            found = self.open(AUSDC)
            return (given[0] % len(found),) if found else None
        found = self.open(AUSDC)
        if not found:
            return None
        rank = given[1] % len(found)
        owed = int(found[rank].owed * 10**6)
        raw = given[0] if kind == "borrow" else -share(max(owed, 0), given[0])
        return (raw, rank) if raw else None

    def open(self, asset: Any) -> list[Position]:
        positions = sorted(self.hand.books.portfolio.open_positions.items())
        return [position for _, position in positions if position.asset == asset]

    def chain(self, done: Done) -> None:
        """Do one thing in a block of its own."""
        hand, figures = self.hand, done.figures
        self.left.append(done)
        match done.kind:
            case "block":
                hand.block()
            case "deposit":
                hand.deposit(*figures)
            case "redeem":
                hand.redeem(*figures)
            case "buy" | "sell":
                asset, quantity, reserve, rank = figures
                whole = None if not self.open(asset) else self.open(asset)[rank].position_id if rank != "new" else rank
                hand.trade(asset, quantity, reserve, whole)
            case "close":
                position = self.open(AUSDC)[figures[0]]
                hand.close(position.position_id, min(position.quantity_raw, max(hand.balances["aUSDC"], 0)))
            case "borrow" | "repay":
                hand.borrow(figures[0], self.open(AUSDC)[figures[1]].position_id)
            case _:
                hand.move(figures[2], figures[0], figures[1])
        if done.kind in ("buy", "sell", "close", "borrow", "repay"):
            self.last_trade = done.block
        assert done.block == hand.ledger.head
        self.highest = max(self.highest, done.block)

    def operate(self, done: Done) -> bool:
        hand = self.hand
        before, rewinds = hand.books, hand.foreteller.pending_rewind
        operation = hand.operation(done.kind, end_block=done.block)  # type: ignore[arg-type]
        answer = hand.foreteller.operate(hand.ledger, operation)
        event(f"{done.kind}: {'refused' if isinstance(answer, Refusal) else 'done'}")
        if isinstance(answer, Refusal):
            return False
        self.left.append(done)
        block = max(done.block, answer.sync.treasury.last_block_scanned or 0)
        drawn = statements(before, answer, answer, hand.ledger, block)
        checkpoint = Checkpoint(
            before=before, books=answer, statements=drawn, found_at=place(1), rewinds=rewinds, end_block=done.block
        )
        verdict = judge_laws(checkpoint)
        self.unlawful += [one.sentence for one in verdict.breaks] + [str(one) for one in verdict.failures]
        return True

    def reorganise(self, depth: int) -> None:
        common = max(2, self.hand.ledger.head - depth)
        self.hand.reorganise(common)
        left: list[Done] = []
        operating = True
        for done in self.left:
            is_operation = done.kind in ("sync", "sync_interest", "correct_accounts")
            operating = operating and not (is_operation and done.block > common)
            if done.block <= common and (operating or not is_operation):
                left.append(done)
        self.left = left
        self.last_trade = min(self.last_trade, common)
        books, block = self.hand.books, self.hand.ledger.head
        self.dropped_as_foretold()
        rewinds = self.hand.foreteller.pending_rewind
        drawn = statements(books, books, books, self.hand.ledger, block, rewinds=rewinds)
        self.unlawful += [f"{one.token.symbol} between: {one.unexplained}" for one in drawn if one.unexplained]

    def dropped_as_foretold(self) -> None:
        """Drop what syncs wrote of orphaned blocks, as a syncer would, and hold it against what is foretold."""
        hand, common = self.hand, self.hand.foreteller.pending_rewind
        cursor = max((done.block for done in self.left if done.kind in ("sync", "correct_accounts")), default=None)
        if common is None or cursor is None or (hand.books.sync.treasury.last_block_scanned or 0) <= common:
            return
        # A sync up to where the books go back to changes nothing further.
        idle = hand.operation("sync", end_block=cursor, head=common + 1, cycle=hand.time(hand.ledger.head))
        foretold = hand.foreteller.copy().operate(hand.ledger, idle)
        assert isinstance(foretold, Books), foretold
        event("dropped")
        assert held(foretold) == held(dropped(hand.books, cursor))

    def again(self) -> Hand:
        """What is left, as if nothing else had ever been."""
        other = Branches()
        for done in self.left:
            if done.kind in ("sync", "sync_interest", "correct_accounts"):
                assert other.operate(done), "what came through stays so"
            else:
                other.chain(done)
        assert [] == other.unlawful
        return other.hand


def dropped(books: Books, cursor: int) -> Books:
    """Books without the updates above a block, what they moved, and the positions that they opened."""
    books = copy_books(books)
    holders: list[ReservePosition | Position] = [*books.portfolio.reserves.values(), *every_position(books)]
    for holding in holders:
        for update_id, update in list(holding.balance_updates.items()):
            if (update.block_number or 0) <= cursor:
                continue
            del holding.balance_updates[update_id]
            if isinstance(holding, ReservePosition):
                holding.quantity -= update.quantity
            elif holding.loan is not None:
                take_back(holding.loan, update)
        if isinstance(holding, Position) and holding.loan is not None:
            restamp(holding, holding.loan)
    for group in (books.portfolio.open_positions, books.portfolio.closed_positions):
        for position in list(group.values()):
            opened_by_trade = bool(position.trades) and position.opened_at == position.trades[0].executed_at
            standing = position.balance_updates or not all(trade.failed_at for trade in position.trades)
            if not opened_by_trade and not standing:
                del group[position.position_id]
    return books


def take_back(loan: Loan, update: BalanceUpdate) -> None:
    owed = loan.borrowed is not None and update.asset == loan.borrowed.asset
    side, tracker = (loan.borrowed, loan.borrowed_interest) if owed else (loan.collateral, loan.collateral_interest)
    if side is None or tracker is None or side.asset != update.asset:
        return
    tracker.last_token_amount -= update.quantity
    if update.cause is BalanceUpdateCause.interest:
        tracker.last_accrued_interest -= update.quantity
    else:
        side.quantity -= update.quantity


def restamp(position: Position, loan: Loan) -> None:
    for side, tracker in ((loan.collateral, loan.collateral_interest), (loan.borrowed, loan.borrowed_interest)):
        if side is None or tracker is None:
            continue
        of_side = [update for update in position.balance_updates.values() if update.asset == side.asset]
        trades = [
            trade
            for trade in position.trades
            if not trade.failed_at and (trade.borrowed_quantity is None) is (side is loan.collateral)
        ]
        moved: list[tuple[int | None, datetime | None]] = [
            *((update.block_number, update.block_mined_at) for update in of_side),
            *((trade.block_number, trade.executed_at) for trade in trades),
        ]
        block, at = max(moved, key=lambda one: one[0] or 0, default=(None, None))
        tracker.last_updated_block_number, tracker.last_event_at, tracker.last_updated_at = block, at, at


def held(books: Books) -> dict[int | str, Any]:
    """What is in each holding, and what its loan says."""
    portfolio = books.portfolio
    found: dict[int | str, Any] = {key: one.quantity for key, one in portfolio.reserves.items() if one.quantity}
    for position in every_position(books):
        trades = [(trade.trade_id, trade.failed_at) for trade in position.trades]
        price = (position.last_token_price, position.last_pricing_at)
        found[position.position_id] = (position.quantity, position.loan, trades, price, position.balance_updates)
    return found


def plain(books: Books) -> Books:
    """Books without what failed, and numbered anew."""
    books = copy_books(books)
    portfolio = books.portfolio
    for group in (portfolio.open_positions, portfolio.closed_positions):
        for position_id, position in list(group.items()):
            if position.is_void:
                del group[position_id]
            position.trades = [trade for trade in position.trades if not trade.failed_at]
    positions = sorted(every_position(books), key=lambda position: position.position_id)
    new_position = {position.position_id: rank for rank, position in enumerate(positions)}
    trades = sorted((trade for position in positions for trade in position.trades), key=lambda trade: trade.trade_id)
    for rank, trade in enumerate(trades):
        trade.trade_id, trade.tx_hash = rank, (trade.tx_hash or "").rstrip("~")
    new_update = {entry.update.balance_update_id: rank for rank, entry in enumerate(entries(books))}

    def renumbered(update: BalanceUpdate) -> BalanceUpdate:
        return replace(
            update,
            balance_update_id=new_update[update.balance_update_id],
            position_id=None if update.position_id is None else new_position[update.position_id],
            tx_hash=None if update.tx_hash is None else update.tx_hash.rstrip("~"),
        )

    def referring(ref: BalanceEventRef) -> BalanceEventRef:
        position_id = None if ref.position_id is None else new_position[ref.position_id]
        return replace(ref, balance_event_id=new_update[ref.balance_event_id], position_id=position_id)

    holders: list[ReservePosition | Position] = [*portfolio.reserves.values(), *positions]
    for holding in holders:
        updates = map(renumbered, holding.balance_updates.values())
        holding.balance_updates = {update.balance_update_id: update for update in updates}
    for position in positions:
        position.position_id = new_position[position.position_id]
    portfolio.open_positions = {one.position_id: one for one in portfolio.open_positions.values()}
    portfolio.closed_positions = {one.position_id: one for one in portfolio.closed_positions.values()}
    for record in (books.sync.treasury, books.sync.accounting):
        record.balance_update_refs = [referring(ref) for ref in record.balance_update_refs]
    portfolio.next_balance_update_id = portfolio.next_position_id = portfolio.next_trade_id = 0
    return books


@settings(max_examples=150)
@given(data=st.data())
def test_books_are_those_of_the_branch_that_is_left_alone(data: st.DataObject) -> None:
    branches = Branches()
    for action in data.draw(_ACTIONS, label="at first"):
        branches.do(action)
    for turn in range(data.draw(st.integers(1, 3), label="reorganisations")):
        branches.reorganise(data.draw(st.integers(1, 8), label=f"depth {turn}"))
        for action in data.draw(_ACTIONS, label=f"branch {turn}"):
            branches.do(action)
    while branches.hand.ledger.head < branches.highest:
        branches.do(("block",))
    branches.do(("deposit", 1))
    branches.do(("sync", 0))
    assert [] == branches.unlawful
    if branches.hand.foreteller.pending_rewind is not None:
        event("the last sync was refused")
        return
    found, alone = plain(branches.hand.books), plain(branches.again().books)
    if found.sync.interest.last_distribution is None:
        # It goes with its block, and the one before it does not come back.
        alone.sync.interest.last_distribution = None
    assert alone == found
