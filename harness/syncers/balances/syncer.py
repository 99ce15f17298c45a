"""The verbs: books kept from balances and share supply, with logs to say whose each change was."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from harness.books import copy_books
from harness.books.records import (
    AssetIdentifier,
    AssetInterestData,
    BalanceUpdate,
    BalanceUpdateCause,
    Books,
    InterestDistributionOperation,
)
from harness.errors import SyncRefused
from harness.syncers.balances.asking import Doubt, Patience, Pause
from harness.syncers.balances.attributing import DEPLOYED, ROUNDING_UNITS, InvestorCall, Watch
from harness.syncers.balances.correcting import Corrector, Difference, booked_of
from harness.syncers.balances.observing import Observer, Witness, name_of
from harness.syncers.balances.posting import Account, Moment, Poster, reference_to
from harness.syncers.balances.remembering import checkpoints, go_back, keep_hashes, last_common_block, remember
from harness.syncers.balances.shares import apportion, rate_per_year, worth_of
from harness.syncers.balances.words import Words, address_bytes, address_text
from harness.syncers.protocol import ChainView, Dust, Target
from harness.units import exact, format_units, to_decimal, usd_float

STARTS = 3
"""How often an operation is begun before what it doubts counts as refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Growth:
    """How much more is held of a rebase asset than the books say; base units."""

    asset: AssetIdentifier
    accounts: list[Account]
    bases: list[int]
    gain: int
    price: Fraction

    @property
    def total(self) -> int:
        return sum(self.bases)

    def worth(self, raw: int) -> Fraction:
        return worth_of(raw, self.asset.decimals, self.price)


class BalancesSyncer:
    """Books for one vault of kind ``enzyme`` or ``erc4626``; holds no state but what it is pointed at.

    Args:
        target: What to sync.
        pause: Lets so many seconds pass before something is asked again.
    """

    def __init__(self, target: Target, pause: Pause = time.sleep) -> None:
        self._target = target
        self._pause = pause
        self._vault = address_bytes(target.vault)
        self._reserve = address_bytes(target.reserve.address)
        self._feeds = {address_bytes(asset.address): feed for asset, feed in target.feeds.items()}
        self._dust = {address_bytes(asset.address): dust.absolute for asset, dust in target.dust.items()}
        self._assets = {address_bytes(asset.address): asset for asset in (target.reserve, *target.feeds)}

    # -- the verbs

    def initialise(self, view: ChainView, books: Books) -> Books:
        """Find where the vault began, by bisecting its code, and fill ``Deployment``.

        Raises:
            SyncRefused: If the books know a vault already, or this one is not there.
        """
        self._check_kind()
        if books.sync.is_initialised():
            raise SyncRefused(f"the books are initialised already, for vault {books.sync.deployment.address}")
        return self._on_one_branch(view, books, self._initialise)

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        """Book what investors brought and took in the blocks not yet scanned.

        Raises:
            SyncRefused: For books of another vault, a cycle before the last, a node that is behind, a leg that
                the books have no position for, and whenever state and logs contradict each other.
        """
        self._check_books(books)
        return self._on_one_branch(view, books, lambda observer, after: self._sync_treasury(observer, after, cycle))

    def sync_interest(self, view: ChainView, books: Books) -> Books:
        """Book what rebase assets grew or shrank by since the last interest sync.

        Raises:
            SyncRefused: For books of another vault or of another block, and for a gain beyond the bound.
        """
        self._check_books(books)
        return self._on_one_branch(view, books, self._sync_interest)

    def correct_accounts(self, view: ChainView, books: Books) -> Books:
        """Bring the books to what is on chain, wherever they differ by more than dust.

        Raises:
            SyncRefused: For books of another vault or with a trade pending, an end block below the cursor, and
                a debt that nobody has.
        """
        self._check_books(books)
        portfolio = books.portfolio
        for position in (*portfolio.open_positions.values(), *portfolio.frozen_positions.values()):
            for trade in position.trades:
                if trade.executed_at is None and trade.failed_at is None:
                    raise SyncRefused(f"trade {trade.trade_id} of position {position.position_id} is pending")
        return self._on_one_branch(view, books, self._correct_accounts)

    # -- one operation

    def _on_one_branch(self, view: ChainView, books: Books, work: Callable[[Observer, Books], None]) -> Books:
        """Do an operation on a copy of the books, brought back to the chain's branch, of blocks of one branch alone.

        What the node contradicts itself in, and whatever came of blocks that were replaced meanwhile, is started
        over a few times.
        """
        if view.end_block > view.head:
            raise SyncRefused(f"the node is behind: its head is {view.head}, and block {view.end_block} is needed")
        refusal: SyncRefused | None = None
        for attempt in range(STARTS):
            Patience(self._pause).wait(attempt)
            observer, after = Observer(view, self._pause), copy_books(books)
            try:
                observer.header(view.end_block)
                self._follow_branch(observer, after)
                work(observer, after)
                observer.check_unmoved()
                return after
            except Doubt as doubt:
                refusal = doubt
            except SyncRefused as asked:
                refusal = asked
                if self._stands(observer):
                    break
        assert refusal is not None
        raise refusal

    def _stands(self, observer: Observer) -> bool:
        try:
            return observer.is_unmoved()
        except Doubt:
            return False

    def _follow_branch(self, observer: Observer, books: Books) -> None:
        """Take the books back to the last block that they have in common with the chain."""
        common = last_common_block(observer, books)
        if common is not None:
            go_back(observer, books, common)
        cursor = books.sync.treasury.last_block_scanned
        if cursor is not None and observer.view.head < cursor:
            raise SyncRefused(f"the node is behind: its head is {observer.view.head}, and block {cursor} is needed")

    def _initialise(self, observer: Observer, after: Books) -> None:
        end_block = observer.view.end_block
        event = self._deployment(observer)
        deployment = after.sync.deployment
        deployment.chain_id = self._target.chain_id
        deployment.address = address_text(self._vault)
        deployment.block_number = event.block
        deployment.tx_hash = event.transaction
        deployment.block_mined_at = observer.mined_at(event.block)
        deployment.vault_token_name = observer.text(self._target.vault, "name")
        deployment.vault_token_symbol = observer.text(self._target.vault, "symbol")
        deployment.initialised_at = observer.mined_at(end_block)
        keep_hashes(observer, after, end_block, end_block)

    def _sync_treasury(self, observer: Observer, after: Books, cycle: datetime) -> None:
        view, treasury, found = observer.view, after.sync.treasury, checkpoints(after)
        if treasury.last_cycle_at is not None and cycle < treasury.last_cycle_at:
            raise SyncRefused(f"cycle {cycle} is earlier than the last cycle, {treasury.last_cycle_at}")
        treasury.last_updated_at = view.now
        treasury.last_cycle_at = cycle
        if treasury.last_block_scanned is not None and treasury.last_block_scanned >= view.end_block:
            return
        start_block = self._next_block(after)
        poster = Poster(after, self._target.chain_id, view.now)
        reserve = poster.reserve(self._target.reserve)
        for call in self._calls(observer, start_block):
            self._post_call(observer, poster, call, cycle)
        reserve.reserve_token_price = usd_float(self._price(observer, self._reserve, view.end_block))
        reserve.last_pricing_at = reserve.last_sync_at = observer.mined_at(view.end_block)
        treasury.last_block_scanned = view.end_block
        keep_hashes(observer, after, start_block, view.end_block)
        remember(after, view.end_block, found, [])

    def _sync_interest(self, observer: Observer, after: Books) -> None:
        view, interest, found = observer.view, after.sync.interest, checkpoints(after)
        cursor, last = after.sync.treasury.last_block_scanned, interest.last_sync_block
        if last is not None and view.end_block < last:
            raise SyncRefused(f"interest is synced up to block {last} already, and the end block is {view.end_block}")
        if cursor != view.end_block:
            stand = "nowhere yet" if cursor is None else f"at block {cursor}"
            raise SyncRefused(f"the treasury stands {stand}, interest is asked for at block {view.end_block}")
        if last == view.end_block:
            return
        poster = Poster(after, self._target.chain_id, view.now)
        growths = self._growths(observer, poster)
        for growth in growths:
            self._check_growth(growth)
        moment = Moment(block=view.end_block, mined_at=observer.mined_at(view.end_block))
        if growths:
            start = interest.last_sync_at or _first_opening(poster, moment.mined_at)
            interest.last_distribution = _distribution(growths, start, moment.mined_at)
        for growth in growths:
            if growth.total > 0:
                self._post_growth(poster, growth, moment)
        interest.last_sync_at = moment.mined_at
        interest.last_sync_block = view.end_block
        keep_hashes(observer, after, view.end_block, view.end_block)
        remember(after, view.end_block, found, [])

    def _correct_accounts(self, observer: Observer, after: Books) -> None:
        view, treasury, found = observer.view, after.sync.treasury, checkpoints(after)
        if treasury.last_block_scanned is not None and view.end_block < treasury.last_block_scanned:
            raise SyncRefused(
                f"the treasury stands at block {treasury.last_block_scanned}, "
                f"accounts are to be corrected at block {view.end_block}"
            )
        start_block = self._next_block(after)
        poster = Poster(after, self._target.chain_id, view.now)
        moment = Moment(block=view.end_block, mined_at=observer.mined_at(view.end_block))
        corrector = Corrector(poster, self._target.reserve, moment)
        for difference in self._differences(observer, after):
            if difference.raw and not difference.is_dust(self._target.dust.get(difference.asset, Dust())):
                corrector.correct(difference)
        accounting = after.sync.accounting
        accounting.last_updated_at = view.now
        accounting.last_block_scanned = treasury.last_block_scanned = view.end_block
        keep_hashes(observer, after, start_block, view.end_block)
        remember(after, view.end_block, found, corrector.moves)

    def _next_block(self, books: Books) -> int:
        """The first block not yet scanned."""
        cursor = books.sync.treasury.last_block_scanned
        return (books.sync.deployment.block_number or 0) if cursor is None else cursor + 1

    # -- what is refused unread

    def _check_kind(self) -> None:
        if self._target.kind not in DEPLOYED:
            raise SyncRefused(f"vaults of kind {self._target.kind!r} are not supported yet")

    def _check_books(self, books: Books) -> None:
        self._check_kind()
        known = books.sync.deployment
        if not books.sync.is_initialised():
            raise SyncRefused("the books are not initialised")
        if known.chain_id != self._target.chain_id:
            raise SyncRefused(f"these are books of chain {known.chain_id}, and the chain is {self._target.chain_id}")
        if known.address is None or address_bytes(known.address) != self._vault:
            raise SyncRefused(f"these are books of vault {known.address}, and the vault is {self._target.vault}")

    # -- deployment

    def _deployment(self, observer: Observer) -> Witness:
        """The event that announces the vault: in the block where its code appears, or else the first one after."""
        vault, end_block = self._target.vault, observer.view.end_block
        if not observer.exists(vault, end_block):
            raise SyncRefused(f"vault {vault} is not deployed at block {end_block}")
        without, present = -1, end_block
        while present - without > 1:
            middle = (without + present) // 2
            if observer.exists(vault, middle):
                present = middle
            else:
                without = middle
        deployer, announced = address_bytes(self._target.deployer), DEPLOYED[self._target.kind]
        for block in range(present, end_block + 1):
            if not observer.may_have_logs(block, deployer, announced):
                continue
            for witness in observer.witnesses(block):
                if (witness.emitter, witness.topics[:1]) != (deployer, (announced,)):
                    continue
                if Words(witness.data, witness.where).address(0) == self._vault:
                    return witness
        raise SyncRefused(f"vault {vault} is there since block {present}, and its deployer never announced it")

    # -- treasury

    def _calls(self, observer: Observer, start_block: int) -> list[InvestorCall]:
        """The calls of the range; blocks are left out only where their headers rule them out."""
        end_block = observer.view.end_block
        if start_block > end_block:
            return []
        watch = Watch(observer, self._target, start_block)
        calls: list[InvestorCall] = []
        for block in range(start_block, end_block + 1):
            if watch.concerns(block):
                calls += watch.read(block)
        watch.check_unmoved(end_block)
        return calls

    def _post_call(self, observer: Observer, poster: Poster, call: InvestorCall, cycle: datetime) -> None:
        posted: list[BalanceUpdate] = []
        skipped: list[dict[str, str]] = []
        moment = Moment(block=call.block, mined_at=observer.mined_at(call.block))
        for token, raw in call.moved:
            if not raw:
                continue
            accounts = self._accounts(poster, token)
            if not accounts:
                skipped.append(self._skipped(token, raw))
                continue
            price = self._price(observer, token, call.block)
            parts = apportion(raw, [account.weight for account in accounts])
            for account, part in zip(accounts, parts, strict=True):
                if part:
                    worth = worth_of(part, account.asset.decimals, price)
                    posted.append(poster.post(account, call.cause, part, moment=moment, worth=worth))
        for update in posted:
            update.strategy_cycle_included_at = cycle
            update.owner_address = call.owner
            update.tx_hash = call.transaction
            update.log_index = call.log_index
            poster.books.sync.treasury.balance_update_refs.append(reference_to(update))
        if posted and skipped:
            posted[0].other_data = {"skipped_legs": skipped}

    def _accounts(self, poster: Poster, token: bytes) -> list[Account]:
        if token == self._reserve:
            return [poster.reserve_account(self._target.reserve)]
        return poster.positions(token)

    def _skipped(self, token: bytes, raw: int) -> dict[str, str]:
        """How a leg that no position takes is listed.

        Raises:
            SyncRefused: If it is no dust.
        """
        asset = self._assets[token]  # a leg of any other was refused when no transfer of it was seen to leave
        quantity = format_units(raw, asset.decimals)
        if Fraction(-raw, 10**asset.decimals) > exact(self._dust.get(token, Decimal(0))):
            raise SyncRefused(f"{quantity} {asset.token_symbol} were paid out, and no position of it is open")
        return {"asset": asset.identifier, "quantity": quantity}

    def _price(self, observer: Observer, token: bytes, block: int) -> Fraction:
        feed = self._feeds.get(token)
        if feed is None:
            names = {address: asset.token_symbol for address, asset in self._assets.items()}
            raise SyncRefused(f"{name_of(token, names)} has no price feed")
        return observer.price(feed, block)

    # -- corrections

    def _differences(self, observer: Observer, books: Books) -> list[Difference]:
        end_block = observer.view.end_block
        return [
            Difference(
                asset=asset,
                held=observer.balance(asset.address, self._target.holder, end_block),
                booked=booked_of(books, asset),
                price=self._price(observer, address_bytes(asset.address), end_block),
            )
            for asset in self._target.feeds
        ]

    # -- interest

    def _growths(self, observer: Observer, poster: Poster) -> list[_Growth]:
        by_token: dict[bytes, list[Account]] = {}
        for account in poster.all_accounts():
            if account.asset.is_rebase() or account.is_debt:
                by_token.setdefault(address_bytes(account.asset.address), []).append(account)
        end_block = observer.view.end_block
        return [
            _Growth(
                asset=accounts[0].asset,
                accounts=accounts,
                bases=[account.base for account in accounts],
                gain=observer.balance(accounts[0].asset.address, self._target.holder, end_block)
                - sum(account.balance for account in accounts),
                price=self._price(observer, token, end_block),
            )
            for token, accounts in by_token.items()
        ]

    def _check_growth(self, growth: _Growth) -> None:
        bound = exact(self._target.interest_bound)
        most = bound * growth.total if growth.total > 0 else ROUNDING_UNITS
        if abs(growth.gain) > most:
            decimals, symbol = growth.asset.decimals, growth.asset.token_symbol
            raise SyncRefused(
                f"{format_units(growth.gain, decimals)} {symbol} are too much for interest on "
                f"{format_units(growth.total, decimals)} {symbol}: the bound is {self._target.interest_bound}"
            )

    def _post_growth(self, poster: Poster, growth: _Growth, moment: Moment) -> None:
        parts = apportion(growth.gain, growth.bases)
        for account, part in zip(growth.accounts, parts, strict=True):
            if part:
                poster.post(account, BalanceUpdateCause.interest, part, moment=moment, worth=growth.worth(part))


def _first_opening(poster: Poster, otherwise: datetime) -> datetime:
    """When the oldest side of a loan was opened."""
    loans = [position.loan for position in poster.books.portfolio.open_positions.values() if position.loan is not None]
    sides = [side for loan in loans for side in (loan.collateral, loan.borrowed) if side is not None]
    return min((side.created_at for side in sides if side.created_at is not None), default=otherwise)


def _distribution(growths: list[_Growth], start: datetime, end: datetime) -> InterestDistributionOperation:
    """What the operation is remembered by."""
    operation = InterestDistributionOperation(start=start, end=end)
    gained = total = Fraction(0)
    for growth in growths:
        gain, decimals = growth.gain if growth.total > 0 else 0, growth.asset.decimals
        rate = rate_per_year(Fraction(gain), Fraction(growth.total), operation.duration)
        operation.assets.append(growth.asset)
        operation.asset_interest_data[growth.asset.identifier] = AssetInterestData(
            total=to_decimal(growth.total, decimals), effective_rate=rate
        )
        gained += growth.worth(gain)
        total += growth.worth(growth.total)
    operation.effective_rate = rate_per_year(gained, total, operation.duration)
    return operation
