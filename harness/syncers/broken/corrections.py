"""Mistakes about corrections: which balances are believed, what is left alone, where a difference goes."""

from __future__ import annotations

from fractions import Fraction

from harness.books.records import (
    AssetIdentifier,
    BalanceUpdate,
    BalanceUpdateCause,
    Books,
    InterestDistributionEntry,
    Position,
)
from harness.syncers.broken.registry import broken
from harness.syncers.protocol import ChainView
from harness.syncers.reference import ReferenceSyncer
from harness.syncers.reference.branching import REOPENED
from harness.syncers.reference.correcting import DEBT, Difference
from harness.syncers.reference.holdings import Holding, tracked_side, whole_units
from harness.syncers.reference.syncer import Gain, Work
from harness.units import exact

# -- up to where


@broken("correction_at_head", cause="moving head read")
class CorrectionAtHead(ReferenceSyncer):
    """Accounts are corrected by the balances of the node's newest block, whatever the end block."""

    def correction_block(self, work: Work) -> int:
        return int(work.view.web3.eth.block_number)


@broken("correction_leaves_treasury_cursor", cause="cursor behind")
class CorrectionLeavesTreasuryCursor(ReferenceSyncer):
    """A correction leaves the last block scanned where it was, and what it owns is booked by the next sync as well."""

    def correct_accounts(self, view: ChainView, books: Books) -> Books:
        cursor = books.sync.treasury.last_block_scanned
        books = super().correct_accounts(view, books)
        books.sync.treasury.last_block_scanned = cursor
        return books


@broken("accounting_cursor_unmoved", cause="cursor behind")
class AccountingCursorUnmoved(ReferenceSyncer):
    """To which block accounts are corrected is not noted."""

    def correct_accounts(self, view: ChainView, books: Books) -> Books:
        cursor = books.sync.accounting.last_block_scanned
        books = super().correct_accounts(view, books)
        books.sync.accounting.last_block_scanned = cursor
        return books


@broken("correction_below_cursor", cause=None)
class CorrectionBelowCursor(ReferenceSyncer):
    """Accounts are corrected by balances that are older than what is booked."""

    def check_cursor(self, books: Books, end_block: int) -> None:
        pass


# -- what is a difference


@broken("dust_limits_swapped", cause=None)
class DustLimitsSwapped(ReferenceSyncer):
    """The relative limit of dust is taken for tokens, and the absolute one for a share of what is booked."""

    def is_dust(self, difference: Difference) -> bool:
        dust = self._dust.get(difference.asset.identifier)
        if dust is None:
            return False
        few = exact(dust.relative) * 10 ** self.decimals(difference.asset)
        is_little = abs(difference.held) <= few and abs(difference.booked) <= few
        return is_little or bool(abs(difference.raw) <= exact(dust.absolute) * difference.booked)


@broken("dust_is_corrected", cause=None)
class DustIsCorrected(ReferenceSyncer):
    """Every difference is corrected, however little it is."""

    def is_dust(self, difference: Difference) -> bool:
        return False


@broken("only_relative_dust_left_alone", cause=None)
class OnlyRelativeDustLeftAlone(ReferenceSyncer):
    """What is little beside the books is left alone; a few units of next to nothing are corrected."""

    def is_dust(self, difference: Difference) -> bool:
        dust = self._dust.get(difference.asset.identifier)
        return dust is not None and bool(abs(difference.raw) <= exact(dust.relative) * difference.booked)


@broken("little_difference_is_dust", cause="missed")
class LittleDifferenceIsDust(ReferenceSyncer):
    """A difference of up to one token is left alone."""

    def is_dust(self, difference: Difference) -> bool:
        return super().is_dust(difference) or bool(abs(difference.raw) <= 10 ** self.decimals(difference.asset))


@broken("earlier_corrections_forgotten", cause="doubled")
class EarlierCorrectionsForgotten(ReferenceSyncer):
    """A balance is compared with what flows and interest come to: what was corrected before is corrected again."""

    def measure_difference(self, work: Work, asset: AssetIdentifier) -> Difference:
        difference = super().measure_difference(work, asset)
        corrected = sum(
            (
                exact(update.quantity)
                for holding in work.holdings.of_asset(asset.identifier)
                for update in holding.record.balance_updates.values()
                if update.cause is BalanceUpdateCause.correction and update.asset.identifier == asset.identifier
            ),
            Fraction(0),
        )
        less = whole_units(corrected, self.decimals(asset), asset)
        return Difference(asset=asset, booked=difference.booked - less, held=difference.held)


@broken("token_without_a_position_ignored", cause="missed")
class TokenWithoutAPositionIgnored(ReferenceSyncer):
    """A balance of which the books have no open position is passed over."""

    def differences(self, work: Work) -> list[Difference]:
        return [one for one in super().differences(work) if work.holdings.of_asset(one.asset.identifier)]


@broken("shortfalls_ignored", cause="missed")
class ShortfallsIgnored(ReferenceSyncer):
    """Where the chain has less than the books, nothing is corrected."""

    def differences(self, work: Work) -> list[Difference]:
        return [one for one in super().differences(work) if one.raw > 0]


@broken("debts_uncorrected", cause="missed")
class DebtsUncorrected(ReferenceSyncer):
    """What is owed is never held against the chain."""

    def differences(self, work: Work) -> list[Difference]:
        return [one for one in super().differences(work) if one.asset.type not in DEBT]


# -- where it goes


@broken("first_closed_position_reopened", cause="wrong position")
class FirstClosedPositionReopened(ReferenceSyncer):
    """A balance without a position opens the first closed one of its asset again, not the last one."""

    def find_position(self, work: Work, difference: Difference) -> Holding:
        holding = super().find_position(work, difference)
        position, portfolio = holding.record, work.books.portfolio
        assert isinstance(position, Position)
        if REOPENED not in work.moved.get(position.position_id, {}):
            return holding
        same = [
            one for one in portfolio.closed_positions.values() if one.asset.identifier == difference.asset.identifier
        ]
        first = min(same, key=lambda one: one.position_id, default=position)
        if first is position or first.position_id > position.position_id:
            return holding
        at = work.moved.pop(position.position_id)
        del portfolio.open_positions[position.position_id]
        portfolio.closed_positions[position.position_id] = position
        position.closed_at = first.closed_at
        del portfolio.closed_positions[first.position_id]
        work.moved[first.position_id] = at
        first.closed_at = None
        return work.holdings.opened(first)


@broken("closed_positions_stay_closed", cause="wrong position")
class ClosedPositionsStayClosed(ReferenceSyncer):
    """A balance without a position opens a new one, though one of its asset was there before."""

    def find_position(self, work: Work, difference: Difference) -> Holding:
        return work.holdings.opened(self.new_position(work, difference))


@broken("difference_to_first_position", cause="wrong position")
class DifferenceToFirstPosition(ReferenceSyncer):
    """The first position of an asset gets the whole difference."""

    def corrected_parts(self, work: Work, difference: Difference) -> list[tuple[Holding, int]]:
        parts = super().corrected_parts(work, difference)
        return [(holding, difference.raw if at == 0 else 0) for at, (holding, _) in enumerate(parts)]


@broken("corrected_to_nothing_stays_open", cause=None)
class CorrectedToNothingStaysOpen(ReferenceSyncer):
    """A position that is corrected to nothing stays open."""

    def close_corrected(self, work: Work, holding: Holding) -> None:
        pass


@broken("correction_leaves_the_loan", cause=None)
class CorrectionLeavesTheLoan(ReferenceSyncer):
    """A correction of a credit position is in its updates and leaves its tracker as it was."""

    def book_correction(self, work: Work, holding: Holding, raw: int) -> BalanceUpdate:
        tracker = holding.tracker
        amount = None if tracker is None else tracker.last_token_amount
        update = super().book_correction(work, holding, raw)
        if tracker is not None and amount is not None:
            tracker.last_token_amount = amount
        return update


# -- how it is booked


@broken("correction_worth_unsigned", cause="sign")
class CorrectionWorthUnsigned(ReferenceSyncer):
    """What a correction is worth is positive, whichever way it goes."""

    def book_correction(self, work: Work, holding: Holding, raw: int) -> BalanceUpdate:
        update = super().book_correction(work, holding, raw)
        update.usd_value = work.books.sync.accounting.balance_update_refs[-1].usd_value = abs(update.usd_value)
        return update


@broken("correction_with_opposite_sign", cause="sign")
class CorrectionWithOppositeSign(ReferenceSyncer):
    """A correction takes what the chain has more, and adds what it has less."""

    def book_correction(self, work: Work, holding: Holding, raw: int) -> BalanceUpdate:
        return super().book_correction(work, holding, -raw)


class _Renamed(ReferenceSyncer):
    cause: BalanceUpdateCause

    def book_correction(self, work: Work, holding: Holding, raw: int) -> BalanceUpdate:
        update = super().book_correction(work, holding, raw)
        update.cause = work.books.sync.accounting.balance_update_refs[-1].cause = self.cause
        return update


@broken("correction_as_interest", cause="wrong cause")
class CorrectionAsInterest(_Renamed):
    """A correction is booked as interest."""

    cause = BalanceUpdateCause.interest


@broken("correction_as_deposit", cause="wrong cause")
class CorrectionAsDeposit(_Renamed):
    """A correction is booked as a deposit."""

    cause = BalanceUpdateCause.deposit


# -- debts


@broken("debt_interest_ignored", cause="missed")
class DebtInterestIgnored(ReferenceSyncer):
    """What a debt grows by is not booked."""

    def book_gain(self, work: Work, gain: Gain, price: int) -> list[InterestDistributionEntry]:
        return [] if any(holding.is_debt for holding in gain.holdings) else super().book_gain(work, gain, price)


@broken("debt_interest_sign", cause="sign")
class DebtInterestSign(ReferenceSyncer):
    """What a debt grows by is booked as less than nothing, as it is a loss."""

    def book_interest(self, work: Work, holding: Holding, part: int, price: int) -> BalanceUpdate:
        return super().book_interest(work, holding, -part if holding.is_debt else part, price)


@broken("debt_interest_raises_principal", cause=None)
class DebtInterestRaisesPrincipal(ReferenceSyncer):
    """What a debt grows by is added to what was borrowed."""

    def book_interest(self, work: Work, holding: Holding, part: int, price: int) -> BalanceUpdate:
        update = super().book_interest(work, holding, part, price)
        if holding.is_debt and isinstance(holding.record, Position):
            side, _ = tracked_side(holding.record, is_debt=True)
            if side is not None:
                side.quantity += update.quantity
        return update
