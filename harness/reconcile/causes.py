"""Why books differ: a cause from a closed list, each decided by evidence that can be shown. Unknown is an answer.

Rules are tried from the most telling to the most general; the first that its evidence bears out names the cause.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from harness.books.records import BalanceUpdate, BalanceUpdateCause, Books, Position, ReservePosition
from harness.ledger.facts import Ledger, Move
from harness.reconcile.compare import Entry, close, compare_books, entries, every_position, holdings, plain_hash
from harness.reconcile.diff import Break, BreakKind
from harness.units import exact, format_units

_SINGLE_PRECISION = 1e-6
"""A worth that is off by less has been rounded on the way; prices differ by more."""
DUST_RAW = 2
"""A leg of at most so many base units is dust to whoever drops it, whatever the scenario's own limit says."""


class Cause(enum.StrEnum):
    """The closed list."""

    missed = "missed"
    doubled = "doubled"
    phantom = "phantom"
    sign = "sign"
    scale = "scale"
    float = "float"
    gross_for_net = "gross for net"
    zero_or_dust_leg = "zero or dust leg"
    wrong_owner = "wrong owner"
    wrong_position = "wrong position"
    wrong_cause = "wrong cause"
    wrong_cycle = "wrong cycle"
    wrong_price = "wrong price"
    balance_booked_as_flow = "balance booked as flow"
    cursor_behind = "cursor behind"
    cursor_ahead = "cursor ahead"
    hole_after_resume = "hole after resume"
    orphaned_block_kept = "orphaned block kept"
    re_included_event_lost = "re-included event lost"
    moving_head_read = "moving head read"
    plugged_balance = "plugged balance"
    donation_booked_as_deposit = "donation booked as deposit"
    fee_shares_booked = "fee shares booked"
    not_restart_safe = "not restart-safe"
    not_repeatable = "not repeatable"
    chunk_dependent = "chunk-dependent"
    order_dependent = "order-dependent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What asking for the same operation in other ways shows; None: not tried."""

    lost_by_resuming: bool | None = None
    """Whether a sync that did not stop where this one began finds what is missing."""
    right_in_one_chunk: bool | None = None
    """Whether the operation is right when everything is one chunk."""
    right_at_the_head: bool | None = None
    """Whether it is right when there are no blocks above its end."""
    right_without_restarts: bool | None = None
    """Whether it is right when the syncer was never started anew."""
    right_without_crashes: bool | None = None
    """Whether it is right when the syncer never died on the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is known of one failure at its first bad block."""

    broken: Break
    """The break to explain."""
    breaks: tuple[Break, ...]
    """Everything that is wrong there."""
    expected: Books
    """What must be; where a refusal is due, the books as they were."""
    actual: Books
    ledger: Ledger
    operation: str
    """``initialise``, ``sync``, ``sync_interest`` or ``correct_accounts``."""
    cursor: int | None
    """The last block scanned when the operation began."""
    end_block: int
    head: int
    idle: bool = False
    """Whether the operation's end was reached before, so that nothing but time stamps may change."""
    due_refusal: str | None = None
    """Why the operation must be refused, if it must."""
    refused_up_to: int | None = None
    """Where an operation ended that was rightly refused just before this one."""
    probes: Probes = Probes()
    given: Books | None = None
    """The syncer's own books when the operation began."""
    rewinds: int | None = None
    """The last block that stayed, where blocks were replaced since the operation before."""
    orphaned: tuple[Ledger, ...] = ()
    """What happened on the branches that lost, so far."""
    token_fees: Mapping[str, Fraction] = field(default_factory=dict)
    """What tokens keep of each transfer, by symbol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A cause, and the evidence for it in one sentence."""

    cause: Cause
    evidence: str


Rule = Callable[[Case], Finding | None]


def find_cause(case: Case) -> Finding | None:
    """Name the cause of a failure, or None if no evidence decides it."""
    for rule in _RULES:
        finding = rule(case)
        if finding is not None:
            return finding
    return None


# -- how it was found


_CAUSE_OF_SWEEP = {
    "twice": (Cause.not_repeatable, "The same sync done twice leaves other books than once."),
    "saved-and-loaded": (
        Cause.not_restart_safe,
        "A fresh syncer with the saved books goes on otherwise than the one that wrote them.",
    ),
    "late": (Cause.moving_head_read, "With more blocks on top the same operation leaves other books."),
}


def _by_sweep(case: Case) -> Finding | None:
    sweep = case.broken.sweep
    if sweep is None:
        return None
    if sweep.startswith("chunk"):
        return Finding(cause=Cause.chunk_dependent, evidence="Another chunk size leaves other books.")
    if sweep == "killed":
        missing = case.broken.kind is BreakKind.missing
        return Finding(
            cause=Cause.hole_after_resume if missing else Cause.not_restart_safe,
            evidence="It shows only after the syncer was stopped half way and a fresh one asked again.",
        )
    named = _CAUSE_OF_SWEEP.get(sweep)
    return Finding(cause=named[0], evidence=named[1]) if named is not None else None


def _by_probe(case: Case) -> Finding | None:
    """What another way of asking for the same operation shows."""
    if case.probes.right_without_restarts:
        return Finding(
            cause=Cause.not_restart_safe, evidence="The same syncer that is never started anew gets it right."
        )
    if case.probes.right_without_crashes:
        missing = case.broken.kind is BreakKind.missing
        return Finding(
            cause=Cause.hole_after_resume if missing else Cause.not_restart_safe,
            evidence="A syncer that does not die on the way gets it right.",
        )
    if case.probes.right_in_one_chunk:
        return Finding(cause=Cause.chunk_dependent, evidence="Read in one chunk, the same blocks give the right books.")
    return None


def _idle(case: Case) -> Finding | None:
    refusal = case.broken.kind in (BreakKind.refused, BreakKind.not_refused)
    if not case.idle or refusal or case.broken.field in _STAMPS:
        return None
    return Finding(
        cause=Cause.not_repeatable,
        evidence=f"Block {case.end_block} was synced before; synced again, nothing but time stamps may change.",
    )


_STAMPS = frozenset({"treasury.last_cycle_at", "treasury.last_updated_at"})


def _refusals(case: Case) -> Finding | None:
    """Operations that should have been refused, or should not."""
    broken = case.broken
    if broken.kind is BreakKind.not_refused and case.due_refusal is not None:
        if "cycle" in case.due_refusal:
            return Finding(cause=Cause.wrong_cycle, evidence=f"It is booked although {case.due_refusal}.")
        if "paid out" in case.due_refusal:
            return _leg_without_position(case)
        if "were replaced" in case.due_refusal:
            return Finding(cause=Cause.orphaned_block_kept, evidence=f"It goes on, and {case.due_refusal}.")
    if broken.kind is BreakKind.refused and _new_skipped(case.expected, case.cursor):
        return Finding(
            cause=Cause.zero_or_dust_leg, evidence="The leg that it refuses is within the asset's dust limit."
        )
    if (broken.field or "").endswith("other_data.skipped_legs"):
        return Finding(
            cause=Cause.zero_or_dust_leg,
            evidence=f"The call skips {broken.expected} as dust, and the books list {broken.actual}.",
        )
    return None


def _leg_without_position(case: Case) -> Finding | None:
    if case.refused_up_to is not None:
        return Finding(
            cause=Cause.hole_after_resume,
            evidence=f"It was refused once, up to block {case.refused_up_to}; asked again, it passes over it.",
        )
    if _new_skipped(case.actual, case.cursor):
        return Finding(
            cause=Cause.zero_or_dust_leg, evidence="The leg is skipped as dust, and it is above the asset's dust limit."
        )
    return Finding(cause=Cause.missed, evidence="The leg is nowhere in the books, neither booked nor skipped.")


def _new_skipped(books: Books, cursor: int | None) -> bool:
    return any(
        (entry.update.other_data or {}).get("skipped_legs")
        for entry in entries(books)
        if cursor is None or (entry.update.block_number or 0) > cursor
    )


def _at_the_head(case: Case) -> Finding | None:
    if not case.probes.right_at_the_head:
        return None
    return Finding(
        cause=Cause.moving_head_read,
        evidence=f"With no blocks above its end, {case.end_block}, the operation is right; with {case.head} as the "
        "newest it is not.",
    )


def _by_schedule(case: Case) -> Finding | None:
    if case.broken.sweep is None:
        return None
    return Finding(
        cause=Cause.order_dependent, evidence="It shows only when the same blocks are synced at other moments."
    )


# -- blocks that were replaced


def _of_replaced_blocks(case: Case) -> Finding | None:
    """What the books still say of blocks that are gone, and what they lost with them."""
    if case.broken.kind is BreakKind.missing and case.broken.field is None:
        return _lost_with_its_block(case)
    entry = _actual_entry(case)
    if entry is not None:
        return _update_of_gone_block(case, entry)
    return _unchanged_since(case)


def _lost_with_its_block(case: Case) -> Finding | None:
    """An event that was booked, and that is in another block, or in one of that number, of the branch that won."""
    due = _expected_entry(case)
    if due is None or due.update.tx_hash is None or case.rewinds is None or case.given is None:
        return None
    old = _known_before(case, due)
    if old is None:
        return None
    return Finding(
        cause=Cause.re_included_event_lost,
        evidence=f"It was booked in block {old.update.block_number}; blocks above {case.rewinds} were replaced, its "
        f"transaction is in block {due.update.block_number} now, and no update says so.",
    )


def _update_of_gone_block(case: Case, entry: Entry) -> Finding | None:
    broken, update = case.broken, entry.update
    block = update.block_number or 0
    if case.rewinds is not None and case.given is not None:
        same = entry if _stood(case.given, entry) else None
        if same is None and broken.kind is BreakKind.doubled and update.tx_hash is not None:
            again = (other for other in entries(case.actual) if _is_of_transaction(other, update))
            same = next((other for other in again if _stood(case.given, other)), None)
        gone = 0 if same is None else same.update.block_number or 0
        if gone > case.rewinds:
            return Finding(
                cause=Cause.orphaned_block_kept,
                evidence=f"It was booked in block {gone}; blocks above {case.rewinds} were replaced, and it still is.",
            )
        if same is not None and broken.field == "strategy_cycle_included_at":
            return Finding(
                cause=Cause.orphaned_block_kept,
                evidence=f"Blocks above {case.rewinds} were replaced, with them the end of the sync that booked it: "
                "it is read again by this one, and still counted to that one's cycle.",
            )
        old = _known_before(case, entry)
        name = (broken.field or "").rpartition(".")[2]
        was_above = old is not None and (old.update.block_number or 0) > case.rewinds
        if old is not None and was_above and name in _PLACE and getattr(old.update, name) == getattr(update, name):
            return Finding(
                cause=Cause.orphaned_block_kept,
                evidence=f"Its {name} is that of block {old.update.block_number}, which was replaced.",
            )
    if broken.kind in (BreakKind.unexpected, BreakKind.doubled) and update.tx_hash is not None:
        place = block, plain_hash(update.tx_hash)
        if _is_mined(case.ledger, *place) or not any(_is_mined(ledger, *place) for ledger in case.orphaned):
            return None
        return Finding(
            cause=Cause.orphaned_block_kept,
            evidence=f"Its transaction was in block {block} of a branch that lost, and is not in that of this chain.",
        )
    return None


_PLACE = frozenset({"block_number", "block_mined_at", "log_index"})


def _unchanged_since(case: Case) -> Finding | None:
    """What is no update, and wrong in just the way in which it was before the operation."""
    broken = case.broken
    if case.rewinds is None or case.given is None or broken.field is None or broken.found_at is None:
        return None
    if broken.kind in (BreakKind.law, BreakKind.refused, BreakKind.not_refused) or broken.field in _CURSORS:
        return None
    if broken.asset is not None and broken.field == "quantity":
        return None
    stamp = _stamp_of_gone_block(case)
    if stamp is not None:
        return stamp
    for old in compare_books(case.expected, case.given, case.ledger, broken.found_at):
        if (old.kind, old.field, old.position_id, old.actual) == (
            broken.kind,
            broken.field,
            broken.position_id,
            broken.actual,
        ):
            return Finding(
                cause=Cause.orphaned_block_kept,
                evidence=f"{broken.field} says {broken.actual}, as it did before blocks above {case.rewinds} were "
                f"replaced; by the blocks that are left it is {broken.expected}.",
            )
    return None


_STAMP = re.compile(
    r"position (\d+) (collateral|borrowed)_interest\.(last_updated_at|last_event_at|last_updated_block_number)"
)


def _stamp_of_gone_block(case: Case) -> Finding | None:
    """A tracker that tells of a block which was replaced."""
    named = _STAMP.fullmatch(case.broken.field or "")
    if named is None or case.rewinds is None or case.given is None:
        return None
    trackers = []
    for books in (case.given, case.actual):
        position = next((one for one in every_position(books) if one.position_id == int(named[1])), None)
        loan = None if position is None else position.loan
        trackers.append(None if loan is None else getattr(loan, f"{named[2]}_interest"))
    then, now = trackers
    block = None if then is None else then.last_updated_block_number
    if block is None or block <= case.rewinds or now is None or getattr(then, named[3]) != getattr(now, named[3]):
        return None
    return Finding(
        cause=Cause.orphaned_block_kept,
        evidence=f"The tracker tells of block {block}, as it did before blocks above {case.rewinds} were replaced.",
    )


def _known_before(case: Case, entry: Entry) -> Entry | None:
    """The update that books had of a transaction's leg when the operation began."""
    assert case.given is not None
    return next((old for old in entries(case.given) if _is_of_transaction(old, entry.update)), None)


def _is_of_transaction(entry: Entry, update: BalanceUpdate) -> bool:
    known = entry.update
    return (
        known.tx_hash is not None
        and update.tx_hash is not None
        and plain_hash(known.tx_hash) == plain_hash(update.tx_hash)
        and (known.asset, known.cause) == (update.asset, update.cause)
    )


def _stood(books: Books, entry: Entry) -> bool:
    """Whether books had this very update."""

    def key(other: Entry) -> tuple[object, ...]:
        update = other.update
        return update.balance_update_id, update.cause, update.block_number, update.quantity, update.created_at

    return any(key(old) == key(entry) for old in entries(books))


def _is_mined(ledger: Ledger, block: int, plain: str) -> bool:
    return any(one.block == block and plain_hash(one.hash) == plain for one in ledger.transactions)


# -- updates that are there and should not be, or the other way round


def _beyond_the_end(case: Case) -> Finding | None:
    """Something of a block after the operation's last one."""
    if case.end_block >= case.head:
        return None
    # What another operation booked, of a branch that lost, is no reading ahead of this one's.
    known = set() if case.given is None else {entry.update.balance_update_id for entry in entries(case.given)}
    for entry in entries(case.actual):
        block = entry.update.block_number
        if block is not None and block > case.end_block and entry.update.balance_update_id not in known:
            return Finding(
                cause=Cause.moving_head_read,
                evidence=f"The operation ends at block {case.end_block}, and an update of block {block} is booked.",
            )
    return None


def _surplus(case: Case) -> Finding | None:
    broken = case.broken
    if broken.kind not in (BreakKind.unexpected, BreakKind.doubled):
        return None
    entry = _actual_entry(case)
    if entry is None:
        return None
    update = entry.update
    if not update.quantity:
        return Finding(cause=Cause.zero_or_dust_leg, evidence="The update moves nothing: its quantity is 0.")
    if update.cause is BalanceUpdateCause.correction:
        return None
    if broken.kind is BreakKind.doubled:
        return _doubled(case, update)
    fee = _share_fee_behind(case, update)
    if fee is not None:
        return fee
    move = _move_behind(case, update)
    if move is not None:
        return _of_move(move, update)
    if _is_remainder(entry):
        return Finding(
            cause=Cause.balance_booked_as_flow,
            evidence=f"Its quantity, {_text(update.quantity)}, is what balance and books differ by; no call moved it.",
        )
    if _trade_behind(case, update):
        return Finding(
            cause=Cause.phantom, evidence="Its transaction is a trade of the manager's: nobody invested or redeemed."
        )
    known = {plain_hash(transaction.hash) for transaction in case.ledger.transactions}
    if update.tx_hash is None or plain_hash(update.tx_hash) not in known:
        return Finding(
            cause=Cause.phantom, evidence="No transaction of this vault is behind it (another fund's, or none at all)."
        )
    return Finding(cause=Cause.phantom, evidence="Its transaction is no deposit and no redemption of this vault.")


def _corrected_already(case: Case) -> Finding | None:
    """A correction that is there twice: of nothing that happened since."""
    entry = _actual_entry(case)
    if case.broken.kind not in (BreakKind.unexpected, BreakKind.doubled) or entry is None:
        return None
    update = entry.update
    if update.cause is not BalanceUpdateCause.correction:
        return None
    for old in entries(case.actual):
        known = old.update
        if known.cause is not update.cause or known.balance_update_id == update.balance_update_id:
            continue
        if (old.holder_id, known.asset, known.quantity) == (entry.holder_id, update.asset, update.quantity):
            return Finding(
                cause=Cause.doubled,
                evidence=f"Block {known.block_number} corrects the same {_text(update.quantity)} "
                f"{update.asset.token_symbol} already.",
            )
    return None


def _share_fee_behind(case: Case, update: BalanceUpdate) -> Finding | None:
    """Shares that were minted as a fee in an update's transaction, for which nothing was paid."""
    if update.tx_hash is None or update.cause is not BalanceUpdateCause.deposit:
        return None
    wanted = plain_hash(update.tx_hash)
    if any(plain_hash(flow.transaction) == wanted for flow in case.ledger.flows):
        return None
    for fee in case.ledger.share_fees:
        if plain_hash(fee.transaction) == wanted:
            shares = format_units(fee.raw, case.ledger.setting.share_decimals)
            return Finding(
                cause=Cause.fee_shares_booked,
                evidence=f"{shares} shares were minted as a fee in block {fee.block}, and no token was paid for them.",
            )
    return None


def _doubled(case: Case, update: BalanceUpdate) -> Finding:
    block = update.block_number
    if case.cursor is not None and block is not None and block <= case.cursor:
        return Finding(
            cause=Cause.doubled,
            evidence=f"Block {block} was scanned before (the last one was {case.cursor}), and is read again.",
        )
    return Finding(cause=Cause.doubled, evidence=f"One log of block {block} gives two updates in one sync.")


def _of_move(move: Move, update: BalanceUpdate) -> Finding:
    quantity = f"{_text(update.quantity)} {update.asset.token_symbol}"
    if move.kind == "taken" and update.tx_hash is not None:
        return Finding(cause=Cause.phantom, evidence=f"Tokens were taken out in block {move.block}, by no investor.")
    if move.kind == "donated":
        return Finding(
            cause=Cause.donation_booked_as_deposit,
            evidence=f"{quantity} were sent straight to the holder in block {move.block}, and no shares were bought.",
        )
    return Finding(
        cause=Cause.balance_booked_as_flow,
        evidence=f"The balance changed in block {move.block} because it was {move.kind}, and that is no flow.",
    )


def _ref(case: Case) -> Finding | None:
    """Refs that do not repeat their update."""
    field, kind = case.broken.field or "", case.broken.kind
    if "balance_update_refs" not in field:
        return None
    if field.endswith("balance_update_refs"):
        if kind is BreakKind.doubled:
            return Finding(cause=Cause.doubled, evidence="Several refs point to one update.")
        return None
    if field.endswith("usd_value"):
        expected, actual = _real(case.broken.expected), _real(case.broken.actual)
        if expected is not None and actual and close(-expected, actual):
            return Finding(cause=Cause.sign, evidence=f"The ref says {actual!r}, and its update {expected!r}.")
    return None


def _real(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _missing(case: Case) -> Finding | None:
    if case.broken.kind is not BreakKind.missing or case.broken.field is not None:
        return None
    entry = _expected_entry(case)
    if entry is None:
        return None
    update = entry.update
    plugged = _plugged(case, entry)
    if plugged is not None:
        return plugged
    block = update.block_number or 0
    if case.refused_up_to is not None and case.cursor is not None and case.cursor < block <= case.refused_up_to:
        return Finding(
            cause=Cause.hole_after_resume,
            evidence=f"A sync up to block {case.refused_up_to} was refused; asked again, block {block} is passed over.",
        )
    if case.probes.lost_by_resuming:
        return Finding(
            cause=Cause.hole_after_resume,
            evidence=f"A sync that did not stop at block {case.cursor} has the update, the resumed one lacks it.",
        )
    legs = [other for other in entries(case.expected) if _same_call(other.update, update)]
    booked = [other for other in legs if _twin(case.actual, other) is not None]
    raw = abs(exact(update.quantity)) * 10**update.asset.decimals
    if booked and raw <= DUST_RAW and update.cause is BalanceUpdateCause.redemption:
        return Finding(
            cause=Cause.zero_or_dust_leg,
            evidence=f"The other legs of the call are booked, and this one is {raw} base units.",
        )
    return Finding(cause=Cause.missed, evidence=_how_missed(update, bool(booked)))


def _how_missed(update: BalanceUpdate, others_booked: bool) -> str:
    if update.tx_hash is None:
        return (
            f"The balance moved by {_text(update.quantity)} up to block {update.block_number}, and no update says so."
        )
    if others_booked:
        return "Other legs of the same call are booked."
    return f"Its log is on chain in block {update.block_number}, and no sync books it."


def _plugged(case: Case, entry: Entry) -> Finding | None:
    holding = _holding(case.actual, entry.holder_id, entry.update)
    wanted = _holding(case.expected, entry.holder_id, entry.update)
    if holding is None or wanted is None or isinstance(holding, Position):
        return None
    if not isinstance(wanted, ReservePosition):
        return None
    due, booked = (sum(exact(update.quantity) for update in one.balance_updates.values()) for one in (wanted, holding))
    if exact(holding.quantity) == exact(wanted.quantity) and due != booked:
        return Finding(
            cause=Cause.plugged_balance,
            evidence=f"The balance is right, {_text(holding.quantity)}, and the updates do not add up to it.",
        )
    return None


def _balance_without_updates(case: Case) -> Finding | None:
    """The reserve equals the chain, and no update makes the difference to what must be booked."""
    broken = case.broken
    if broken.kind is not BreakKind.different or broken.field != "quantity" or broken.transaction is not None:
        return None
    symbol = broken.asset
    if symbol is None or symbol not in case.ledger.setting.assets:
        return None
    asset = case.ledger.setting.assets[symbol]
    for block in (case.end_block, case.head):
        on_chain = Fraction(case.ledger.balance(symbol, block), 10**asset.decimals)
        for _, holding in holdings(case.actual):
            held = exact(holding.quantity) if isinstance(holding, ReservePosition) else holding.quantity
            if holding.asset == asset and held == on_chain:
                return Finding(
                    cause=Cause.plugged_balance if block == case.end_block else Cause.moving_head_read,
                    evidence=f"The books' balance is the chain's at block {block}, "
                    f"{format_units(case.ledger.balance(symbol, block), asset.decimals)} {symbol}, "
                    "and the updates do not add up to it.",
                )
    return None


# -- updates with a wrong value


def _wrong_value(case: Case) -> Finding | None:
    broken = case.broken
    if broken.kind is not BreakKind.different:
        return None
    expected, actual = _expected_entry(case), _actual_entry(case)
    if expected is None or actual is None:
        return None
    match (broken.field or "").rpartition(".")[2]:
        case "quantity":
            return _wrong_quantity(case, expected.update, actual.update)
        case "usd_value":
            return _wrong_worth(case, expected.update, actual.update)
        case "owner_address":
            return Finding(
                cause=Cause.wrong_owner,
                evidence=f"Owner is {_who(case, actual.update)} in the books, "
                f"and {_who(case, expected.update)} on chain.",
            )
        case "position_id" | "position_type":
            return Finding(cause=Cause.wrong_position, evidence="Everything but the place of the update is right.")
        case "cause":
            return Finding(
                cause=Cause.wrong_cause,
                evidence=f"Booked as {actual.update.cause}, and it is a {expected.update.cause}.",
            )
        case "strategy_cycle_included_at":
            return Finding(
                cause=Cause.wrong_cycle,
                evidence=f"Cycle {actual.update.strategy_cycle_included_at} is booked, and "
                f"{expected.update.strategy_cycle_included_at} was asked for.",
            )
    return None


def _wrong_quantity(case: Case, expected: BalanceUpdate, actual: BalanceUpdate) -> Finding | None:
    wanted, found = exact(expected.quantity), exact(actual.quantity)
    if found == -wanted:
        return Finding(cause=Cause.sign, evidence=f"actual = −expected: {_text(actual.quantity)}.")
    power = _power_of_ten(found, wanted)
    if power is not None:
        return Finding(
            cause=Cause.scale, evidence=f"actual / expected = {'−' if found * wanted < 0 else ''}10^{power}."
        )
    decimals = expected.asset.decimals
    if expected.cause is BalanceUpdateCause.correction:
        again = _corrected_again(case, expected, found - wanted)
        if again is not None:
            return again
    gross = _gross(case, expected, wanted * 10**decimals, found * 10**decimals)
    if gross is not None:
        return gross
    donated = _donated(case, expected, (found - wanted) * 10**decimals)
    if donated is not None:
        return donated
    alone = expected.tx_hash is not None or len(_alike(case.expected, expected)) == 1
    if alone and _through_a_double(wanted, found, decimals):
        return Finding(
            cause=Cause.float,
            evidence=f"{_text(actual.quantity)} is {_text(expected.quantity)} after a pass through a float.",
        )
    if found in _balances(case, expected, actual, wanted):
        return Finding(
            cause=Cause.balance_booked_as_flow, evidence="The quantity booked is the whole balance after the event."
        )
    return None


def _corrected_again(case: Case, expected: BalanceUpdate, gap: Fraction) -> Finding | None:
    """A correction that is off by what earlier ones of the same holding came to."""
    earlier = [
        entry.update
        for entry in entries(case.expected)
        if entry.update.cause is expected.cause
        and (entry.update.asset, entry.update.position_id) == (expected.asset, expected.position_id)
        and entry.update.balance_update_id < expected.balance_update_id
    ]
    if not gap or gap != sum(exact(update.quantity) for update in earlier):
        return None
    blocks = ", ".join(str(update.block_number) for update in earlier)
    return Finding(
        cause=Cause.doubled, evidence=f"It is off by just what was corrected before, in block {blocks}, once more."
    )


def _gross(case: Case, expected: BalanceUpdate, wanted: Fraction, found: Fraction) -> Finding | None:
    """A deposit before what its token keeps of a transfer."""
    symbol = case.ledger.setting.symbol_of(expected.asset)
    if expected.cause is BalanceUpdateCause.deposit and expected.asset.is_rebase() and abs(found - wanted) <= DUST_RAW:
        places = 10**expected.asset.decimals
        if found / places not in _float_images(wanted / places, expected.asset.decimals):
            return Finding(
                cause=Cause.gross_for_net,
                evidence=f"{symbol} moves whole shares: what arrived is {wanted - found} raw off what was sent.",
            )
    fee = None if symbol is None else case.token_fees.get(symbol)
    if not fee or expected.cause is not BalanceUpdateCause.deposit or found.denominator != 1:
        return None
    kept = found.numerator * fee.numerator // fee.denominator
    if found - kept != wanted:
        return None
    return Finding(
        cause=Cause.gross_for_net,
        evidence=f"{symbol} keeps {format_units(kept, expected.asset.decimals)} of such a transfer, and what is booked "
        "is what was sent.",
    )


def _balances(case: Case, expected: BalanceUpdate, actual: BalanceUpdate, wanted: Fraction) -> set[Fraction]:
    """What the whole balance was: after the event by either books, or at the end of a block by the chain."""
    balances = {exact(expected.old_balance) + wanted, exact(actual.old_balance) + wanted}
    symbol = case.ledger.setting.symbol_of(expected.asset)
    for block in {case.end_block, expected.block_number or case.end_block}:
        if symbol is not None:
            balances.add(Fraction(case.ledger.balance(symbol, block), 10**expected.asset.decimals))
    return balances


def _donated(case: Case, expected: BalanceUpdate, gap: Fraction) -> Finding | None:
    """A deposit that is too large by what was sent straight to the holder."""
    symbol, block = case.ledger.setting.symbol_of(expected.asset), expected.block_number
    if symbol is None or block is None or gap <= 0:
        return None
    for move in case.ledger.moves_between(symbol, block, block):
        if move.kind == "donated" and move.raw == gap:
            return Finding(
                cause=Cause.donation_booked_as_deposit,
                evidence=f"It is too large by {format_units(move.raw, expected.asset.decimals)} {symbol}, just what "
                f"was sent straight to the holder in block {block}.",
            )
    return None


def _alike(books: Books, like: BalanceUpdate) -> list[Entry]:
    """The interest updates of one asset and block, or the corrections."""
    return [
        entry
        for entry in entries(books)
        if entry.update.cause is like.cause
        and entry.update.asset == like.asset
        and entry.update.block_number == like.block_number
    ]


def _parts(case: Case) -> Finding | None:
    """A gain, or a leg, that is booked in full and in the wrong places."""
    broken = case.broken
    if broken.field not in (None, "quantity") or broken.kind is BreakKind.law:
        return None
    found, due_entry = _actual_entry(case), _expected_entry(case)
    entry = found if broken.kind is BreakKind.unexpected else due_entry or found
    if entry is None:
        return None
    update = entry.update
    if not update.quantity:
        return None
    if update.cause in (BalanceUpdateCause.interest, BalanceUpdateCause.correction):
        due, booked = _alike(case.expected, update), _alike(case.actual, update)
    else:
        due = [other for other in entries(case.expected) if _same_leg(other.update, update)]
        booked = [other for other in entries(case.actual) if _same_leg(other.update, update)]
    if len(due) + len(booked) <= 2 or {_part(part) for part in due} == {_part(part) for part in booked}:
        return None
    total = sum(exact(part.update.quantity) for part in due)
    if not booked or total != sum(exact(part.update.quantity) for part in booked):
        return None
    return Finding(
        cause=Cause.wrong_position,
        evidence=f"The parts add up to {_number(Fraction(total))} {update.asset.token_symbol}, as they must, "
        "and the positions get others than they should.",
    )


def _same_leg(left: BalanceUpdate, right: BalanceUpdate) -> bool:
    return _same_call(left, right) and left.asset == right.asset


def _part(entry: Entry) -> tuple[int | None, Decimal]:
    return entry.holder_id, entry.update.quantity


def _wrong_worth(case: Case, expected: BalanceUpdate, actual: BalanceUpdate) -> Finding | None:
    symbol = case.ledger.setting.symbol_of(expected.asset)
    if symbol is None:
        return None
    if actual.usd_value != 0 and close(-expected.usd_value, actual.usd_value):
        return Finding(cause=Cause.sign, evidence=f"actual = −expected: {actual.usd_value!r}.")
    power = _power_of_ten(Fraction(actual.usd_value), Fraction(expected.usd_value), relative=True)
    if power is not None:
        return Finding(cause=Cause.scale, evidence=f"actual / expected = 10^{power}.")
    whole = exact(expected.old_balance) + exact(expected.quantity)
    block = expected.block_number or case.end_block
    price = case.ledger.price(symbol, block)
    for held, words in ((whole, "after"), (exact(expected.old_balance), "before")):
        if (held or words == "after") and close(float(held * price), actual.usd_value):
            return Finding(
                cause=Cause.balance_booked_as_flow,
                evidence=f"It is the worth of the whole balance {words} the event, {_number(held)} {symbol}.",
            )
    if not expected.quantity or not expected.usd_value:
        return None
    if abs(actual.usd_value / expected.usd_value - 1) < _SINGLE_PRECISION:
        return Finding(
            cause=Cause.float, evidence=f"{actual.usd_value!r} is {expected.usd_value!r} but for rounding too coarse."
        )
    implied = Fraction(actual.usd_value) / exact(expected.quantity)
    where = _where_priced(case, symbol, implied, block)
    if where is not None:
        return Finding(cause=Cause.wrong_price, evidence=where)
    return None


def _where_priced(case: Case, symbol: str, implied: Fraction, block: int) -> str | None:
    """Whose price it is, if it is one at all."""
    if implied < 0:
        return None
    for other in range(case.ledger.head, 0, -1):
        if other != block and close(float(case.ledger.price(symbol, other)), float(implied)):
            return (
                f"{symbol} is valued at {float(implied):.8g} USD, its price at block {other}; at block {block} it was "
                f"{float(case.ledger.price(symbol, block)):.8g}."
            )
    if close(1.0, float(implied)):
        return f"{symbol} is valued at par; at block {block} it was {float(case.ledger.price(symbol, block)):.8g} USD."
    return (
        f"{symbol} is valued at {float(implied):.8g} USD; at block {block} it was "
        f"{float(case.ledger.price(symbol, block)):.8g}."
    )


def _plugged_tracker(case: Case) -> Finding | None:
    """A loan's tracker set to the chain's balance."""
    field, symbol = case.broken.field or "", case.broken.asset
    if not field.endswith("last_token_amount") or symbol not in case.ledger.setting.assets or symbol is None:
        return None
    decimals = case.ledger.setting.assets[symbol].decimals
    balance = f"{format_units(case.ledger.balance(symbol, case.end_block), decimals)} {symbol}"
    if case.broken.actual != balance:
        return None
    return Finding(
        cause=Cause.plugged_balance,
        evidence=f"The tracker is the chain's balance at block {case.end_block}, {balance}, and no update makes it so.",
    )


def _misplaced(case: Case) -> Finding | None:
    if case.broken.kind is not BreakKind.misplaced:
        return None
    if case.broken.field == "position_id":
        return Finding(
            cause=Cause.wrong_position,
            evidence=f"The update stands in {case.broken.actual} instead of {case.broken.expected}.",
        )
    return Finding(cause=Cause.order_dependent, evidence="Everything is there, in another order than on chain.")


def _old_balance(case: Case) -> Finding | None:
    """Updates that are all there and chained in another order."""
    if case.broken.kind is not BreakKind.different or case.broken.field != "old_balance":
        return None
    due, booked = ([_identity(entry) for entry in entries(books)] for books in (case.expected, case.actual))
    if set(due) != set(booked) or due == booked:
        return None
    return Finding(
        cause=Cause.order_dependent, evidence="The same updates are there, applied in another order than on chain."
    )


# -- checkpoints


_CURSORS = frozenset(
    {
        "treasury.last_block_scanned",
        "accounting.last_block_scanned",
        "interest.last_sync_block",
        "interest.last_sync_at",
    }
)


def _cursor(case: Case) -> Finding | None:
    if case.broken.field not in _CURSORS:
        return None
    found, wanted = _integer(case.broken.actual), _integer(case.broken.expected)
    if case.broken.field == "interest.last_sync_at":
        found, wanted = case.actual.sync.interest.last_sync_block, case.expected.sync.interest.last_sync_block
        if found == wanted:
            return None
    if wanted is None and found is None:
        return None
    where = f"{case.broken.field} is {case.broken.actual} and should be {case.broken.expected}."
    if found is None or (wanted is not None and found < wanted):
        return Finding(cause=Cause.cursor_behind, evidence=where)
    return Finding(cause=Cause.cursor_ahead, evidence=where)


def _cycle(case: Case) -> Finding | None:
    if case.broken.field in ("treasury.last_cycle_at",):
        return Finding(
            cause=Cause.wrong_cycle,
            evidence=f"The treasury stands at cycle {case.broken.actual}, and {case.broken.expected} was asked for.",
        )
    return None


def _price_of_reserve(case: Case) -> Finding | None:
    if (case.broken.field or "").endswith("reserve_token_price"):
        return Finding(
            cause=Cause.wrong_price,
            evidence=f"The reserve is priced at {case.broken.actual}; the feed says {case.broken.expected} "
            f"at block {case.end_block}.",
        )
    return None


_RULES: tuple[Rule, ...] = (
    _by_sweep,
    _by_probe,
    _of_replaced_blocks,
    _balance_without_updates,
    _corrected_already,
    _idle,
    _refusals,
    _ref,
    _beyond_the_end,
    _parts,
    _surplus,
    _missing,
    _wrong_value,
    _plugged_tracker,
    _misplaced,
    _old_balance,
    _cursor,
    _cycle,
    _price_of_reserve,
    _at_the_head,
    _by_schedule,
)


# -- looking things up


def _expected_entry(case: Case) -> Entry | None:
    return _entry_of(case.expected, case.broken)


def _actual_entry(case: Case) -> Entry | None:
    return _entry_of(case.actual, case.broken)


def _entry_of(books: Books, broken: Break) -> Entry | None:
    """The update that a break is about: by transaction and log, else by block, asset and holding."""
    candidates = [entry for entry in entries(books) if entry.update.asset.token_symbol == broken.asset]
    tests: tuple[Callable[[Entry], bool], ...]
    if broken.transaction is not None:
        wanted = plain_hash(broken.transaction)
        same = [
            entry
            for entry in candidates
            if entry.update.tx_hash is not None and plain_hash(entry.update.tx_hash) == wanted
        ]
        tests = (
            lambda entry: entry.update.log_index == broken.log_index and entry.holder_id == broken.position_id,
            lambda entry: entry.update.log_index == broken.log_index,
            lambda entry: entry.holder_id == broken.position_id,
            lambda _: True,
        )
        return _first(same, tests)
    if broken.block is None:
        return None
    same = [entry for entry in candidates if entry.update.block_number == broken.block and entry.update.tx_hash is None]
    tests = (lambda entry: entry.holder_id == broken.position_id, lambda _: True)
    return _first(same, tests)


def _first(candidates: Iterable[Entry], tests: Iterable[Callable[[Entry], bool]]) -> Entry | None:
    found = list(candidates)
    for test in tests:
        for entry in found:
            if test(entry):
                return entry
    return None


def _twin(books: Books, entry: Entry) -> Entry | None:
    return next((other for other in entries(books) if other.event_key == entry.event_key), None)


def _same_call(left: BalanceUpdate, right: BalanceUpdate) -> bool:
    return (
        left.tx_hash is not None
        and right.tx_hash is not None
        and plain_hash(left.tx_hash) == plain_hash(right.tx_hash)
        and left.log_index == right.log_index
    )


def _identity(entry: Entry) -> tuple[object, ...]:
    return (*entry.event_key, entry.update.quantity)


def _holding(books: Books, holder_id: int | None, update: BalanceUpdate) -> ReservePosition | Position | None:
    for found_id, holding in holdings(books):
        if found_id == holder_id and holding.asset == update.asset:
            return holding
    return None


def _move_behind(case: Case, update: BalanceUpdate) -> Move | None:
    """What unseen move an update books: by its transaction, else by block and amount."""
    symbol = case.ledger.setting.symbol_of(update.asset)
    if symbol is None:
        return None
    raw = exact(update.quantity) * 10**update.asset.decimals
    for move in case.ledger.moves_between(symbol, 0, case.ledger.head):
        if update.tx_hash is not None and plain_hash(move.transaction) == plain_hash(update.tx_hash):
            return move
        if update.tx_hash is None and move.raw == raw:
            return move
    return None


def _is_remainder(entry: Entry) -> bool:
    """Whether a treasury update without a transaction books what balance and books differ by."""
    update = entry.update
    return update.tx_hash is None and update.cause in (BalanceUpdateCause.deposit, BalanceUpdateCause.redemption)


def _trade_behind(case: Case, update: BalanceUpdate) -> bool:
    if update.tx_hash is None:
        return False
    wanted = plain_hash(update.tx_hash)
    for _, holding in holdings(case.expected):
        if isinstance(holding, Position):
            for trade in holding.trades:
                if trade.tx_hash is not None and plain_hash(trade.tx_hash) == wanted:
                    return True
    return False


def _who(case: Case, update: BalanceUpdate) -> str:
    return "nobody" if update.owner_address is None else case.ledger.setting.actor_of(update.owner_address)


def _power_of_ten(found: Fraction, wanted: Fraction, *, relative: bool = False) -> int | None:
    """The exponent, not 0, if one number is a power of ten times the other."""
    if not found or not wanted:
        return None
    ratio = abs(found / wanted)
    for exponent in range(1, 40):
        for power, value in ((exponent, Fraction(10**exponent)), (-exponent, Fraction(1, 10**exponent))):
            if ratio == value or (relative and close(float(value), float(ratio))):
                return power
    return None


def _through_a_double(wanted: Fraction, found: Fraction, decimals: int) -> bool:
    """Whether a quantity is what a float leaves of it: in tokens or base units, cut or rounded to the decimals."""
    if not wanted or found == wanted:
        return False
    if found in _float_images(wanted, decimals):
        return True
    # A sum or product of floats is off by some units in the last place.
    return abs(found - wanted) <= abs(wanted) * Fraction(1, 2**50)


def _float_images(wanted: Fraction, decimals: int) -> set[Fraction]:
    """What a float may leave of a quantity."""
    scale = 10**decimals
    in_tokens, in_raw = Fraction(float(wanted)), Fraction(float(wanted * scale)) / scale
    candidates = {in_tokens, in_raw, Fraction(Decimal(repr(float(wanted))))}
    for value in list(candidates):
        raw = value * scale
        candidates.update((Fraction(int(raw), scale), Fraction(round(raw), scale)))
    return candidates


_INTEGER = re.compile(r"-?\d+")


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and _INTEGER.fullmatch(text) else None


def _text(value: Decimal) -> str:
    return format(value, "f")


def _number(value: Fraction) -> str:
    return f"{float(value):.12g}"
