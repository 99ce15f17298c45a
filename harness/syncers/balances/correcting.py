"""Corrections: what is on chain and not in the books, token by token, and where it is booked."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from harness.books.records import (
    AssetIdentifier,
    BalanceUpdateCause,
    Books,
    InterestTracker,
    Loan,
    LoanSide,
    Position,
    TradingPair,
)
from harness.errors import SyncRefused
from harness.syncers.balances.posting import Account, Moment, Poster, owes, reference_to
from harness.syncers.balances.remembering import is_void
from harness.syncers.balances.shares import apportion, worth_of
from harness.syncers.balances.words import address_bytes
from harness.syncers.protocol import Dust
from harness.units import exact, format_units, to_decimal, usd_float

_DEBT_TYPES = ("borrowed", "debt")
"""``AssetIdentifier.type`` of a token of which a balance is owed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much of a token is on chain and how much in the books; base units."""

    asset: AssetIdentifier
    held: int
    booked: int
    price: Fraction

    @property
    def raw(self) -> int:
        """What the books lack."""
        return self.held - self.booked

    def is_dust(self, dust: Dust) -> bool:
        """Tell whether it is too little to matter: both sides are small, or it is small beside the books."""
        absolute = exact(dust.absolute) * 10**self.asset.decimals
        if max(abs(self.held), abs(self.booked)) <= absolute:
            return True
        return abs(self.raw) <= exact(dust.relative) * abs(self.booked)


def booked_of(books: Books, asset: AssetIdentifier) -> int:
    """How much of a token the books hold in all, or owe; closed positions hold nothing."""
    portfolio = books.portfolio
    interest = books.sync.interest
    accounts = [Account(record, interest) for record in portfolio.reserves.values()]
    for position in (*portfolio.open_positions.values(), *portfolio.frozen_positions.values()):
        accounts.append(Account(position, interest))
        if owes(position):
            accounts.append(Account(position, interest, is_debt=True))
    return sum(account.balance for account in accounts if account.asset == asset)


class Corrector:
    """Books differences into some books as corrections of one block."""

    def __init__(self, poster: Poster, reserve: AssetIdentifier, moment: Moment) -> None:
        self._poster = poster
        self._reserve = reserve
        self._moment = moment
        self.moves: list[list[Any]] = []
        """Which positions were opened, re-opened or closed: how, which, and when a re-opened one had been closed."""

    def correct(self, difference: Difference) -> None:
        """Book a difference.

        Raises:
            SyncRefused: If it is a debt that nobody has.
        """
        accounts = self._accounts(difference)
        parts = apportion(difference.raw, [account.weight for account in accounts])
        for account, part in zip(accounts, parts, strict=True):
            if not part:
                continue
            worth = worth_of(part, difference.asset.decimals, difference.price)
            update = self._poster.post(account, BalanceUpdateCause.correction, part, moment=self._moment, worth=worth)
            self._poster.books.sync.accounting.balance_update_refs.append(reference_to(update))
            if isinstance(account.record, Position):
                self._close_if_empty(account.record)

    def _accounts(self, difference: Difference) -> list[Account]:
        asset = difference.asset
        if asset == self._reserve:
            return [self._poster.reserve_account(asset)]
        accounts = self._poster.positions(address_bytes(asset.address))
        if accounts:
            return accounts
        if asset.type in _DEBT_TYPES:
            raw = format_units(difference.raw, asset.decimals)
            raise SyncRefused(
                f"{raw} {asset.token_symbol} are owed on chain beyond the books, and no position owes any"
            )
        position = self._reopened(asset) or self._opened(difference)
        return [self._poster.position_account(position)]

    def _reopened(self, asset: AssetIdentifier) -> Position | None:
        """The position of an asset that was closed last, open again."""
        portfolio = self._poster.books.portfolio
        closed = [one for one in portfolio.closed_positions.values() if one.asset == asset and not is_void(one)]
        if not closed:
            return None
        position = max(closed, key=lambda one: (_when_closed(one), one.position_id))
        self.moves.append(["reopened", position.position_id, _when_closed(position) or None])
        position.closed_at = None
        portfolio.open_positions[position.position_id] = portfolio.closed_positions.pop(position.position_id)
        return position

    def _opened(self, difference: Difference) -> Position:
        """A new position, of nothing yet."""
        portfolio, asset, mined_at = self._poster.books.portfolio, difference.asset, self._moment.mined_at
        position = Position(
            position_id=portfolio.next_position_id,
            pair=TradingPair(
                base=asset, quote=self._reserve, kind="credit_supply" if asset.is_rebase() else "spot_market_hold"
            ),
            opened_at=mined_at,
            reserve_currency=self._reserve,
            last_token_price=usd_float(difference.price),
            last_pricing_at=mined_at,
        )
        if asset.is_rebase():
            nothing = to_decimal(0, asset.decimals)
            position.loan = Loan(
                collateral=LoanSide(asset=asset, quantity=nothing, created_at=mined_at),
                collateral_interest=InterestTracker(
                    opening_amount=to_decimal(difference.raw, asset.decimals), last_token_amount=nothing
                ),
            )
        portfolio.next_position_id += 1
        portfolio.open_positions[position.position_id] = position
        self.moves.append(["opened", position.position_id, None])
        return position

    def _close_if_empty(self, position: Position) -> None:
        """Close a position that neither holds nor owes anything any more."""
        debt = position.loan.borrowed_interest if position.loan is not None else None
        if position.quantity or (debt is not None and debt.last_token_amount):
            return
        position.closed_at = self._moment.mined_at
        portfolio = self._poster.books.portfolio
        portfolio.closed_positions[position.position_id] = portfolio.open_positions.pop(position.position_id)
        self.moves.append(["closed", position.position_id, None])


def _when_closed(position: Position) -> str:
    """As text of which the later is the greater; empty where nobody knows."""
    return "" if position.closed_at is None else position.closed_at.isoformat()
