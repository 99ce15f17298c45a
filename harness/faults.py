"""Faults around a syncer that is not ours: each lets it do its work, and spoils from outside what it reads or returns.

They are what broken syncers are to the reference: mistakes that somebody has made, put where they can be put without
knowing the syncer. A corpus is as strong as the share of them that it notices. ``FAULTS`` lists them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Context, Decimal, localcontext
from typing import Any, ClassVar, TypeVar

from harness.books.records import (
    BalanceEventRef,
    BalanceUpdate,
    BalanceUpdateCause,
    Books,
    Position,
    ReservePosition,
)
from harness.books.state_file import copy_books
from harness.errors import SyncRefused
from harness.syncers.protocol import ChainView, Syncer, Target
from harness.syncers.reference.decoding import DEPOSIT, SHARES_BOUGHT, SHARES_REDEEMED, TRANSFER, WITHDRAW

SyncerFactory = Callable[[Target], Syncer]
_EXACT = Context(prec=400)
"""Digits enough for any token's amounts: a fault changes what it means to change and rounds nothing else."""


@dataclass(slots=True)
class Effect:
    """What a fault came to, while its syncer ran."""

    offered: bool = False
    """Whether the syncer went through the door at which the fault stands, e.g. asked for logs at all."""
    changed: bool = False
    """Whether there was anything to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong around a syncer.

    ``wrong`` says in a sentence what it is; ``cause`` is what a diagnosis should name, as for a broken syncer.
    """

    name: str
    wrong: str
    cause: str | None
    wrapper: type[Around]
    harmless_if_sound: bool = False
    """Whether a careful syncer takes no harm, e.g. of a node that repeats a log, or keeps one back."""

    def around(self, factory: SyncerFactory, effect: Effect) -> SyncerFactory:
        """Make syncers with the fault around them.

        Args:
            factory: Makes the syncers themselves.
            effect: Where it is noted what the fault came to.
        """
        return lambda target: self.wrapper(factory(target), target, effect)


FAULTS: dict[str, Fault] = {}
"""By name."""

_Class = TypeVar("_Class", bound="type[Around]")


def fault(name: str, *, cause: str | None, harmless_if_sound: bool = False) -> Callable[[_Class], _Class]:
    """List a wrapper under a name; its docstring says what is wrong."""

    def register(wrapper: _Class) -> _Class:
        wrong = " ".join(inspect.cleandoc(wrapper.__doc__ or "").split())
        FAULTS[name] = Fault(name=name, wrong=wrong, cause=cause, wrapper=wrapper, harmless_if_sound=harmless_if_sound)
        return wrapper

    return register


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One operation that the syncer has carried out: ``after`` may be changed, ``before`` is what it was given."""

    verb: str
    view: ChainView
    before: Books
    after: Books


class Around:
    """A syncer with nothing wrong around it; a fault overrides one of the hooks."""

    verbs: ClassVar[tuple[str, ...]] = ("sync_treasury",)
    """The operations that a fault has to do with."""
    swallows_refusals: ClassVar[bool] = False

    def __init__(self, inner: Syncer, target: Target, effect: Effect) -> None:
        self.inner = inner
        self.target = target
        self.effect = effect
        self.cursor: int | None = None
        """The last block scanned when the operation began."""

    # The verbs of a syncer.

    def initialise(self, view: ChainView, books: Books) -> Books:
        """Ask the syncer to initialise."""
        return self._ask("initialise", view, books)

    def sync_treasury(self, view: ChainView, books: Books, cycle: datetime) -> Books:
        """Ask the syncer to sync its treasury."""
        return self._ask("sync_treasury", view, books, self.cycle_for(cycle))

    def sync_interest(self, view: ChainView, books: Books) -> Books:
        """Ask the syncer to sync interest."""
        return self._ask("sync_interest", view, books)

    def correct_accounts(self, view: ChainView, books: Books) -> Books:
        """Ask the syncer to correct accounts."""
        return self._ask("correct_accounts", view, books)

    def _ask(self, verb: str, view: ChainView, books: Books, *more: datetime) -> Books:
        self.cursor = books.sync.treasury.last_block_scanned
        meant = verb in self.verbs
        given = copy_books(books)  # a syncer may work on them in place; whoever is around it may not
        if meant:
            given = self.given_for(verb, given)
        seen: Any = _View(view, self) if meant else view
        before = copy_books(given)
        try:
            answer = getattr(self.inner, verb)(seen, given, *more)
        except SyncRefused:
            if not self.swallows_refusals:
                raise
            self.note(True)
            return copy_books(books)
        if not meant or not isinstance(answer, Books):
            return answer  # type: ignore[no-any-return] # no books: the session's to judge
        work = Work(verb=verb, view=view, before=before, after=copy_books(answer))
        with localcontext(_EXACT):
            self.note(self.spoil(work))
        return work.after

    def note(self, changed: bool | None) -> None:
        """Note what came of an offer to change something; None: it was none."""
        if changed is not None:
            self.effect.offered = True
            self.effect.changed |= changed

    # What faults override.

    def given_for(self, verb: str, books: Books) -> Books:
        """The books that the syncer is given."""
        return books

    def cycle_for(self, cycle: datetime) -> datetime:
        """The cycle that the syncer is told."""
        return cycle

    def seen_logs(self, view: ChainView, logs: list[Any], first: int, last: int) -> list[Any]:
        """The logs that it sees of those that a range has."""
        return logs

    def block_for(self, view: ChainView, signature: str, block: int) -> int:
        """The block at whose end a contract is asked, instead of the one that the syncer means."""
        return block

    def spoil(self, work: Work) -> bool | None:
        """Change the books that it returns.

        Returns:
            Whether there was anything to change; None from faults that are none of books.
        """
        return None


class _View:
    """A chain view through which a fault looks; the node behind it as well, for those who ask it themselves."""

    def __init__(self, view: ChainView, around: Around) -> None:
        self._view = view
        self._around = around
        self._web3: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def get_logs(
        self, addresses: Sequence[str] | str | None, topics: Sequence[Any] | None, start_block: int, end_block: int
    ) -> list[Any]:
        logs = self._view.get_logs(addresses, topics, start_block, end_block)
        return self._around.seen_logs(self._view, logs, start_block, end_block)

    def call(self, address: str, signature: str, *arguments: Any, block: int | None = None) -> Any:
        meant = self._view.end_block if block is None else block
        return self._view.call(
            address, signature, *arguments, block=self._around.block_for(self._view, signature, meant)
        )

    @property
    def web3(self) -> Any:
        if self._web3 is None:
            self._web3 = self._view.web3
            provider: Any = self._web3.provider
            ask = provider.make_request

            def answered(method: str, params: Any) -> Any:
                answer = ask(method, params)
                if method != "eth_getLogs" or not isinstance(answer.get("result"), list):
                    return answer
                first, last = (self._number(params[0].get(key)) for key in ("fromBlock", "toBlock"))
                return {**answer, "result": self._around.seen_logs(self._view, list(answer["result"]), first, last)}

            provider.make_request = answered
        return self._web3

    def _number(self, name: Any) -> int:
        if isinstance(name, int):
            return name
        if isinstance(name, str) and name.startswith("0x"):
            return int(name, 16)
        return 0 if name == "earliest" else self._view.head


def _block_of(log: Any) -> int:
    """A log's block, as a view has it or as a node does."""
    number = log["blockNumber"]
    return int(number, 16) if isinstance(number, str) else int(number)


def _kind_of(log: Any) -> str:
    """A log's topic 0, as hex."""
    topic = log["topics"][0] if log["topics"] else b""
    return topic.removeprefix("0x") if isinstance(topic, str) else bytes(topic).hex()


_FLOWS = frozenset(topic.hex() for topic in (SHARES_BOUGHT, SHARES_REDEEMED, DEPOSIT, WITHDRAW))
_MOVES = _FLOWS | {TRANSFER.hex()}
"""What flows show in. Other events say which contracts there are: a syncer that misses those sees at once."""


# -- logs that are not seen, or not as they are


class _Logs(Around):
    """Shows other logs than there are."""

    def seen_logs(self, view: ChainView, logs: list[Any], first: int, last: int) -> list[Any]:
        shown = self.shown(view, logs, first, last)
        self.note(shown != logs)
        return shown

    def shown(self, view: ChainView, logs: list[Any], first: int, last: int) -> list[Any]:
        raise NotImplementedError


def _without(logs: list[Any], block: int | None) -> list[Any]:
    return [log for log in logs if _block_of(log) != block or _kind_of(log) not in _MOVES]


@fault("last_block_of_range_hidden", cause="missed", harmless_if_sound=True)
class LastBlockOfRangeHidden(_Logs):
    """The last block of each range of logs is left out, as if the range's end were exclusive."""

    def shown(self, view: ChainView, logs: list[Any], first: int, last: int) -> list[Any]:
        return _without(logs, last)


@fault("block_after_cursor_hidden", cause="hole after resume", harmless_if_sound=True)
class BlockAfterCursorHidden(_Logs):
    """A resumed sync sees no logs of the first block after the last block scanned."""

    def shown(self, view: ChainView, logs: list[Any], first: int, last: int) -> list[Any]:
        return logs if self.cursor is None else _without(logs, self.cursor + 1)


@fault("deployment_block_hidden", cause="missed", harmless_if_sound=True)
class DeploymentBlockHidden(_Logs):
    """The first sync sees no logs of the block in which the vault was deployed."""

    deployed_at: int | None = None

    def given_for(self, verb: str, books: Books) -> Books:
        self.deployed_at = books.sync.deployment.block_number
        return books

    def shown(self, view: ChainView, logs: list[Any], first: int, last: int) -> list[Any]:
        return logs if self.cursor is not None else _without(logs, self.deployed_at)


@fault("seam_of_chunks_hidden", cause="chunk-dependent", harmless_if_sound=True)
class SeamOfChunksHidden(_Logs):
    """Where one chunk ends and the next begins, the next one's first block is not seen."""

    begun_at: int | None = None

    def given_for(self, verb: str, books: Books) -> Books:
        self.begun_at = books.sync.deployment.block_number if self.cursor is None else self.cursor + 1
        return books

    def shown(self, view: ChainView, logs: list[Any], first: int, last: int) -> list[Any]:
        if view.chunk is None or self.begun_at is None or first <= self.begun_at:
            return logs
        is_seam = (first - self.begun_at) % view.chunk == 0 and last - first < view.chunk
        return _without(logs, first) if is_seam else logs


@fault("second_log_of_block_hidden", cause="missed", harmless_if_sound=True)
class SecondLogOfBlockHidden(_Logs):
    """Of each emitter's deposits in one block only the first is seen, and of its redemptions."""

    def shown(self, view: ChainView, logs: list[Any], first: int, last: int) -> list[Any]:
        seen: set[tuple[int, str, str]] = set()
        left = []
        for log in logs:
            key = (_block_of(log), str(log["address"]).lower(), _kind_of(log))
            if key not in seen or key[-1] not in _FLOWS:
                left.append(log)
            seen.add(key)
        return left


@fault("logs_repeated", cause="doubled", harmless_if_sound=True)
class LogsRepeated(_Logs):
    """A node gives each log twice, one after the other."""

    def shown(self, view: ChainView, logs: list[Any], first: int, last: int) -> list[Any]:
        return [again for log in logs for again in (log, log)]


@fault("logs_reversed", cause="order-dependent", harmless_if_sound=True)
class LogsReversed(_Logs):
    """A node gives the logs of a range in the opposite order."""

    def shown(self, view: ChainView, logs: list[Any], first: int, last: int) -> list[Any]:
        return logs[::-1]


# -- contracts that are asked elsewhere


class _Calls(Around):
    """Asks contracts at another block than the syncer means."""

    called: ClassVar[str]

    def block_for(self, view: ChainView, signature: str, block: int) -> int:
        if not signature.startswith(self.called):
            return block
        self.note(self.elsewhere(view, block) != block)
        return self.elsewhere(view, block)

    def elsewhere(self, view: ChainView, block: int) -> int:
        raise NotImplementedError


@fault("price_of_end_block", cause="wrong price")
class PriceOfEndBlock(_Calls):
    """Whatever block a price is asked for, it is that of the sync's end block."""

    called = "latestRoundData("

    def elsewhere(self, view: ChainView, block: int) -> int:
        return view.end_block


@fault("price_of_block_before", cause="wrong price")
class PriceOfBlockBefore(_Calls):
    """A price is read as it stood in the block before."""

    called = "latestRoundData("

    def elsewhere(self, view: ChainView, block: int) -> int:
        return max(block - 1, 2)  # no feed answers before it is there, and it is since block 1 or 2


@fault("balances_of_the_head", cause="moving head read")
class BalancesOfTheHead(_Calls):
    """Balances are read at the node's newest block when interest is synced, whatever the end block."""

    verbs = ("sync_interest",)
    called = "balanceOf("

    def elsewhere(self, view: ChainView, block: int) -> int:
        return view.head


# -- books that are returned with something wrong in them

_Holding = ReservePosition | Position


def _holdings(books: Books) -> Iterator[_Holding]:
    portfolio = books.portfolio
    yield from portfolio.reserves.values()
    for positions in (portfolio.open_positions, portfolio.frozen_positions, portfolio.closed_positions):
        yield from positions.values()


def _new(work: Work) -> list[tuple[_Holding, BalanceUpdate]]:
    """The updates that the operation added, in the order of their ids."""
    known = {
        update.balance_update_id for holding in _holdings(work.before) for update in holding.balance_updates.values()
    }
    added = [
        (holding, update)
        for holding in _holdings(work.after)
        for update in holding.balance_updates.values()
        if update.balance_update_id not in known
    ]
    return sorted(added, key=lambda pair: pair[1].balance_update_id)


def _new_in_reserve(work: Work) -> list[tuple[ReservePosition, BalanceUpdate]]:
    return [(holding, update) for holding, update in _new(work) if isinstance(holding, ReservePosition)]


def _refs(books: Books) -> tuple[list[BalanceEventRef], list[BalanceEventRef]]:
    return books.sync.treasury.balance_update_refs, books.sync.accounting.balance_update_refs


def _refs_of(books: Books, update: BalanceUpdate) -> list[BalanceEventRef]:
    return [ref for refs in _refs(books) for ref in refs if ref.balance_event_id == update.balance_update_id]


def _unrefer(books: Books, update: BalanceUpdate) -> None:
    for refs in _refs(books):
        refs[:] = [ref for ref in refs if ref.balance_event_id != update.balance_update_id]


def _move(reserve: ReservePosition, since: BalanceUpdate, gap: Decimal) -> None:
    """Let a reserve, and the updates after one, stand ``gap`` higher."""
    reserve.quantity += gap
    for update in reserve.balance_updates.values():
        if update.balance_update_id > since.balance_update_id:
            update.old_balance += gap


def _requantify(reserve: ReservePosition, update: BalanceUpdate, quantity: Decimal) -> bool:
    """Book another quantity, and let the balance follow."""
    gap = quantity - update.quantity
    update.quantity = quantity
    _move(reserve, update, gap)
    return gap != 0


def _book_again(work: Work, reserve: ReservePosition, update: BalanceUpdate, quantity: Decimal) -> None:
    """Book an update once more, last, under an id of its own, with what goes with it."""
    portfolio = work.after.portfolio
    own_id = portfolio.next_balance_update_id
    portfolio.next_balance_update_id += 1
    usd_value = update.usd_value if quantity else 0.0
    reserve.balance_updates[own_id] = replace(
        update, balance_update_id=own_id, quantity=quantity, old_balance=reserve.quantity, usd_value=usd_value
    )
    reserve.quantity += quantity
    for refs in _refs(work.after):
        refs.extend(
            [
                replace(ref, balance_event_id=own_id, usd_value=usd_value)
                for ref in refs
                if ref.balance_event_id == update.balance_update_id
            ]
        )


class _Updates(Around):
    """Changes each update that the operation added."""

    def spoil(self, work: Work) -> bool | None:
        changed = [self.change(work, holding, update) for holding, update in _new(work)]  # each of them, not up to one
        return any(changed)

    def change(self, work: Work, holding: _Holding, update: BalanceUpdate) -> bool:
        raise NotImplementedError


class _ReserveUpdates(_Updates):
    """Changes each update of a reserve that the operation added, and what follows from it."""

    def change(self, work: Work, holding: _Holding, update: BalanceUpdate) -> bool:
        return isinstance(holding, ReservePosition) and self.change_reserve(work, holding, update)

    def change_reserve(self, work: Work, reserve: ReservePosition, update: BalanceUpdate) -> bool:
        raise NotImplementedError


# Which updates there are.


@fault("update_lost", cause="missed")
class UpdateLost(Around):
    """The last of a sync's reserve updates is not booked, nor its reference, and the balance lacks it."""

    def spoil(self, work: Work) -> bool | None:
        for reserve, update in _new_in_reserve(work)[-1:]:
            _requantify(reserve, update, Decimal(0))
            del reserve.balance_updates[update.balance_update_id]
            _unrefer(work.after, update)
            return True
        return False


@fault("balance_without_update", cause="plugged balance")
class BalanceWithoutUpdate(Around):
    """The last of a sync's reserve updates is not booked, nor its reference, and the balance has it all the same."""

    def spoil(self, work: Work) -> bool | None:
        for reserve, update in _new_in_reserve(work)[-1:]:
            del reserve.balance_updates[update.balance_update_id]
            _unrefer(work.after, update)
            return True
        return False


@fault("update_doubled", cause="doubled")
class UpdateDoubled(Around):
    """The last of a sync's reserve updates is booked twice."""

    def spoil(self, work: Work) -> bool | None:
        for reserve, update in _new_in_reserve(work)[-1:]:
            _book_again(work, reserve, update, update.quantity)
            return True
        return False


@fault("zero_leg_added", cause="zero or dust leg")
class ZeroLegAdded(Around):
    """Beside the last of a sync's reserve updates there is one of nothing."""

    def spoil(self, work: Work) -> bool | None:
        for reserve, update in _new_in_reserve(work)[-1:]:
            if update.log_index is not None:
                _book_again(work, reserve, replace(update, log_index=update.log_index + 1), Decimal(0))
            else:
                _book_again(work, reserve, update, Decimal(0))
            return True
        return False


@fault("idle_sync_books_again", cause="not repeatable")
class IdleSyncBooksAgain(Around):
    """A sync that has no new block to read books the last reserve update of its block once more."""

    def spoil(self, work: Work) -> bool | None:
        if self.cursor is None or self.cursor < work.view.end_block:
            return False
        for reserve in work.after.portfolio.reserves.values():
            for update in list(reserve.balance_updates.values())[-1:]:
                _book_again(work, reserve, update, update.quantity)
                return True
        return False


@fault("interest_not_booked", cause="missed")
class InterestNotBooked(Around):
    """An interest sync moves its checkpoint and books nothing."""

    verbs = ("sync_interest",)

    def spoil(self, work: Work) -> bool | None:
        changed = bool(_new(work))
        if changed:
            work.after.portfolio = copy_books(work.before).portfolio
        return changed


@fault("correction_not_booked", cause="missed")
class CorrectionNotBooked(Around):
    """A correction moves its checkpoints and books nothing."""

    verbs = ("correct_accounts",)

    def spoil(self, work: Work) -> bool | None:
        changed = bool(_new(work))
        if changed:
            work.after.portfolio = copy_books(work.before).portfolio
            work.after.sync.accounting.balance_update_refs = copy_books(work.before).sync.accounting.balance_update_refs
        return changed


@fault("treasury_cursor_left_by_correction", cause="cursor behind")
class TreasuryCursorLeftByCorrection(Around):
    """A correction leaves the last block scanned where it was."""

    verbs = ("correct_accounts",)

    def spoil(self, work: Work) -> bool | None:
        before, after = work.before.sync.treasury, work.after.sync.treasury
        changed = before.last_block_scanned != after.last_block_scanned
        after.last_block_scanned = before.last_block_scanned
        return changed


@fault("orphaned_updates_kept", cause="orphaned block kept")
class OrphanedUpdatesKept(Around):
    """What a sync takes out of the reserve, as its blocks were replaced, is put back with its references."""

    def spoil(self, work: Work) -> bool | None:
        gone: set[int] = set()
        for identifier, was in work.before.portfolio.reserves.items():
            now = work.after.portfolio.reserves.get(identifier)
            for number, update in was.balance_updates.items() if now is not None else ():
                assert now is not None
                if number not in now.balance_updates:
                    now.balance_updates[number] = update
                    now.quantity = (now.quantity or Decimal(0)) + update.quantity
                    gone.add(number)
        treasury = work.after.sync.treasury
        treasury.balance_update_refs += [
            ref for ref in work.before.sync.treasury.balance_update_refs if ref.balance_event_id in gone
        ]
        return bool(gone)


# What updates say.


@fault("sign_flipped", cause="sign")
class SignFlipped(_ReserveUpdates):
    """What leaves the reserve is booked as if it came."""

    def change_reserve(self, work: Work, reserve: ReservePosition, update: BalanceUpdate) -> bool:
        if update.quantity >= 0:
            return False
        update.usd_value = -update.usd_value
        for ref in _refs_of(work.after, update):
            ref.usd_value = update.usd_value
        return _requantify(reserve, update, -update.quantity)


@fault("worth_sign_flipped", cause="sign")
class WorthSignFlipped(_Updates):
    """Worth is booked with the opposite sign, in updates and references."""

    def change(self, work: Work, holding: _Holding, update: BalanceUpdate) -> bool:
        update.usd_value = -update.usd_value
        for ref in _refs_of(work.after, update):
            ref.usd_value = update.usd_value
        return update.usd_value != 0


@fault("raw_for_tokens", cause="scale")
class RawForTokens(_ReserveUpdates):
    """Base units are booked as if they were tokens."""

    def change_reserve(self, work: Work, reserve: ReservePosition, update: BalanceUpdate) -> bool:
        return _requantify(reserve, update, update.quantity.scaleb(update.asset.decimals))


@fault("decimals_taken_for_18", cause="scale")
class DecimalsTakenFor18(_ReserveUpdates):
    """Base units are turned to tokens as if every token had 18 decimals."""

    def change_reserve(self, work: Work, reserve: ReservePosition, update: BalanceUpdate) -> bool:
        return _requantify(reserve, update, update.quantity.scaleb(update.asset.decimals - 18))


@fault("quantity_through_float", cause="float")
class QuantityThroughFloat(_ReserveUpdates):
    """Quantities pass through a float and are rounded to the token's decimals."""

    def change_reserve(self, work: Work, reserve: ReservePosition, update: BalanceUpdate) -> bool:
        passed = Decimal(float(update.quantity)).quantize(Decimal(1).scaleb(-update.asset.decimals))
        return _requantify(reserve, update, passed)


@fault("quantity_is_balance", cause="balance booked as flow")
class QuantityIsBalance(_ReserveUpdates):
    """An update's quantity is the whole balance after it, not what was added."""

    def change_reserve(self, work: Work, reserve: ReservePosition, update: BalanceUpdate) -> bool:
        return _requantify(reserve, update, update.old_balance + update.quantity)


@fault("worth_of_whole_balance", cause="balance booked as flow")
class WorthOfWholeBalance(_Updates):
    """An update is valued as the whole balance after it, not as what was added."""

    def change(self, work: Work, holding: _Holding, update: BalanceUpdate) -> bool:
        if not update.quantity or not update.old_balance:
            return False
        whole = (update.old_balance + update.quantity) / update.quantity
        update.usd_value *= float(whole)
        for ref in _refs_of(work.after, update):
            ref.usd_value = update.usd_value
        return True


@fault("reserve_at_par", cause="wrong price")
class ReserveAtPar(Around):
    """The reserve's price is one dollar, whatever its feed says."""

    def spoil(self, work: Work) -> bool | None:
        changed = False
        for reserve in work.after.portfolio.reserves.values():
            if reserve.reserve_token_price is not None:
                changed |= reserve.reserve_token_price != 1.0
                reserve.reserve_token_price = 1.0
        return changed


@fault("old_balance_after", cause=None)
class OldBalanceAfter(_Updates):
    """Where the balance before an update belongs stands the balance after it."""

    def change(self, work: Work, holding: _Holding, update: BalanceUpdate) -> bool:
        update.old_balance += update.quantity
        return bool(update.quantity)


@fault("owner_is_vault", cause="wrong owner")
class OwnerIsVault(_Updates):
    """The vault itself is booked as the owner of each flow."""

    def change(self, work: Work, holding: _Holding, update: BalanceUpdate) -> bool:
        if update.owner_address is None:
            return False
        update.owner_address = self.target.vault
        return True


@fault("cause_swapped", cause="wrong cause")
class CauseSwapped(_Updates):
    """Deposits are booked as redemptions, and redemptions as deposits."""

    def change(self, work: Work, holding: _Holding, update: BalanceUpdate) -> bool:
        pair = (BalanceUpdateCause.deposit, BalanceUpdateCause.redemption)
        if update.cause not in pair:
            return False
        update.cause = pair[update.cause is pair[0]]
        for ref in _refs_of(work.after, update):
            ref.cause = update.cause
        return True


@fault("cycle_is_block_time", cause="wrong cycle")
class CycleIsBlockTime(_Updates):
    """Flows are counted to a cycle of their own block's time."""

    def change(self, work: Work, holding: _Holding, update: BalanceUpdate) -> bool:
        changed = update.strategy_cycle_included_at != update.block_mined_at
        update.strategy_cycle_included_at = update.block_mined_at
        for ref in _refs_of(work.after, update):
            ref.strategy_cycle_included_at = update.block_mined_at
        return changed


@fault("cycle_a_day_late", cause="wrong cycle")
class CycleADayLate(Around):
    """The syncer is told a cycle that is a day late."""

    def cycle_for(self, cycle: datetime) -> datetime:
        self.note(True)
        return cycle + timedelta(days=1)


@fault("local_time_zone", cause=None)
class LocalTimeZone(_Updates):
    """Block times are booked in a zone nine hours east."""

    def change(self, work: Work, holding: _Holding, update: BalanceUpdate) -> bool:
        update.block_mined_at += timedelta(hours=9)
        return True


@fault("transaction_forgotten", cause=None)
class TransactionForgotten(_Updates):
    """Updates say neither their transaction nor their log."""

    def change(self, work: Work, holding: _Holding, update: BalanceUpdate) -> bool:
        changed = update.tx_hash is not None
        update.tx_hash = update.log_index = None
        return changed


# What refers to updates.


@fault("reference_lost", cause=None)
class ReferenceLost(Around):
    """The last of a sync's updates has no reference."""

    def spoil(self, work: Work) -> bool | None:
        for _, update in _new(work)[-1:]:
            _unrefer(work.after, update)
            return True
        return False


@fault("reference_doubled", cause="doubled")
class ReferenceDoubled(Around):
    """The last of a sync's updates is referred to twice."""

    def spoil(self, work: Work) -> bool | None:
        for _, update in _new(work)[-1:]:
            for refs in _refs(work.after):
                refs.extend([replace(ref) for ref in refs if ref.balance_event_id == update.balance_update_id])
            return True
        return False


# How far it has read.


class _Cursor(Around):
    """Notes another last block scanned."""

    def spoil(self, work: Work) -> bool | None:
        treasury = work.after.sync.treasury
        scanned = treasury.last_block_scanned
        treasury.last_block_scanned = self.noted(work.view)
        return treasury.last_block_scanned != scanned

    def noted(self, view: ChainView) -> int:
        raise NotImplementedError


@fault("cursor_one_behind", cause="cursor behind")
class CursorOneBehind(_Cursor):
    """The block before the end block is noted as the last one scanned."""

    def noted(self, view: ChainView) -> int:
        return view.end_block - 1


@fault("cursor_one_ahead", cause="cursor ahead")
class CursorOneAhead(_Cursor):
    """The block after the end block is noted as the last one scanned."""

    def noted(self, view: ChainView) -> int:
        return view.end_block + 1


@fault("cursor_at_head", cause="cursor ahead")
class CursorAtHead(_Cursor):
    """The node's newest block is noted as the last one scanned, whatever the end block."""

    def noted(self, view: ChainView) -> int:
        return max(view.head, view.end_block)


# What it keeps, and what it does not say.


@fault("books_kept_in_memory", cause="not restart-safe")
class BooksKeptInMemory(Around):
    """References are kept by the process, and what the given books had of them is thrown away."""

    kept: list[BalanceEventRef] | None = None

    def spoil(self, work: Work) -> bool | None:
        refs = work.after.sync.treasury.balance_update_refs
        known = len(work.before.sync.treasury.balance_update_refs)
        kept = self.kept or []
        changed = refs[:known] != kept
        refs[:known] = kept
        self.kept = [replace(ref) for ref in refs]
        return changed


@fault("refusal_unsaid", cause=None)
class RefusalUnsaid(Around):
    """Where the syncer refuses, its books come back as if all was well."""

    verbs = ("initialise", "sync_treasury", "sync_interest", "correct_accounts")
    swallows_refusals = True
