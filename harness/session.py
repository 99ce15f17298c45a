"""One syncer over one played scenario: asked for every operation in turn, guarded, its answers kept.

A session never judges. It isolates: copies of books go in, only what is really books comes out, a syncer that
raises or hangs is an answer like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from harness.books import Books, check_books, copy_books, dump_books, load_books
from harness.books.executor import Undo, book_trade, orphan_trades, undo_of
from harness.chain import Chain, Front, Node, Switch, View, make_profile, profiled
from harness.errors import BooksError, SyncRefused
from harness.guard import OutOfTime, bounded_depth, captured_output, deadline, foreign_zone, memory_limit, same_folder
from harness.ledger.bookkeeping import Operation, Refusal
from harness.reconcile.diff import BreakKind
from harness.syncers.find import ImportedSyncer
from harness.syncers.protocol import ChainView, Dust, Syncer, Target
from harness.world.acts import Act, BookAct, CheckAct, OrphanAct, Played, RestartAct, SyncAct

SyncerFactory = Callable[[Target], Syncer]
CLOCK_START = datetime(2030, 1, 1)
"""The clock that syncers are given; it is never the chain's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """Another way to run the same operations. By law the books come out equal."""

    name: str
    words: str
    """How the difference begins, e.g. ``With chunks of one block``."""
    chunk: int | None = None
    """The chunk size instead of the scenario's."""
    whole: bool = False
    """One chunk for everything, whatever the scenario says."""
    twice: bool = False
    """Each sync is done twice."""
    reloaded: bool = False
    """Books go through JSON, and a fresh syncer takes over, between any two operations."""
    late: bool = False
    """Each operation is asked for when the whole chain is there, with more blocks on top of its end block."""
    early: bool = False
    """No block stands above an operation's end."""
    killed: bool = False
    """Each operation is stopped at its first view call, then asked again of a fresh syncer and stopped at its second,
    and so on until it comes through."""
    there_and_back: bool = False
    """After each treasury sync the blocks that it read are replaced by empty ones, it is asked again, and then the
    first ones come back and it is asked a third time."""


PLAIN = Variation(name="plain", words="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An operation that did not end in books or a refusal."""

    kind: BreakKind
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What came of one operation, what an ``expect`` step found, or a trade that could not be booked.

    ``before`` are the syncer's books as the point before this one left them: trades booked since lie in between.
    """

    act: SyncAct | CheckAct | BookAct | OrphanAct
    """Trades booked or failed only if the syncer's books are so wrong that this cannot be written into them."""
    before: Books
    given: Books
    """What the operation was given: ``before`` with the trades booked since."""
    after: Books
    refusal: str | None = None
    """The syncer's words, if it refused."""
    failure: Failure | None = None
    wrote: str | None = None
    """The beginning of what the syncer wrote to stdout, if it did."""
    changed_given: bool = False
    """Whether it changed the books that it was given and did not return them."""


EVERY_CALL_UP_TO = 64
"""An operation with more view calls than that is stopped at some of the later ones only, unless a session says more."""


class NodeFailed(ConnectionError):
    """What a view raises where a syncer is to be stopped."""


class SyncerKilled(BaseException):
    """What ends a syncer that asks for the same again: nothing that looks after errors is meant to look after this."""


@dataclass(slots=True)
class _Death:
    """When a syncer is stopped, in view calls and requests, and whether it was.

    One that takes no notice goes on, and what it comes to must be right. One that tries again dies of it: its way ends
    at that call all the same.
    """

    calls_left: int
    came: bool = False
    _failed: str | None = None

    def count(self, method: str) -> None:
        failed, self._failed = self._failed, None
        if failed == method:
            raise SyncerKilled
        self.calls_left -= 1
        if self.calls_left == 0:
            self.came = True
            self._failed = method
            raise NodeFailed("the node does not answer")


class _DeadlyNode(Front):
    """A node at whose n-th request the syncer that asks it dies; until then the one behind it answers as it would."""

    def __init__(self, inner: Node, death: _Death) -> None:
        super().__init__(inner)
        self._death = death

    def answering(self, method: str) -> Node:
        self.asked += 1
        try:
            return self._inner.answering(method)
        finally:
            self._death.count(method)


class Session:
    """Runs a syncer's operations over a played scenario.

    Args:
        played: The scenario.
        factory: Makes a syncer for a target; called anew at each restart.
        acts: What to ask, in order: the scenario's own acts unless a schedule has others.
        variation: How to run them.
        timeout: Seconds per operation, or None. Kept in the main thread of a POSIX process.
        memory_mib: How much more memory an operation may take, or None. Kept in the main thread on Linux.
        every_call_up_to: Up to which view call a variation that kills does so at each of them.
        memory: Reads of this chain that are remembered from session to session.
    """

    def __init__(
        self,
        played: Played,
        factory: SyncerFactory,
        *,
        acts: Sequence[Act] | None = None,
        variation: Variation = PLAIN,
        timeout: float | None = None,
        memory_mib: int | None = None,
        every_call_up_to: int = EVERY_CALL_UP_TO,
        memory: dict[object, object] | None = None,
    ) -> None:
        self._played = played
        self._acts = played.acts if acts is None else acts
        self._factory = factory
        self._variation = variation
        self._timeout = timeout
        self._memory_mib = memory_mib
        self._every_call_up_to = every_call_up_to
        self._elsewhere: Chain | None = None
        """Another branch to read from, in between."""
        self._switch: Switch | None = None
        """Where the chain moves on during the operation that is asked for: once it has, it has for whoever asks."""
        self._has_moved = False
        """Whether it moved on with nobody asking."""
        self._wrote: str | None = None
        self._changed_given = False
        self._memory = memory if memory is not None else {}
        self._syncer: Syncer | None = None
        self._operations = 0
        setting = played.ledger.setting
        self._chain_id = setting.chain_id
        self._vault = setting.vault
        self._hint = setting.deployment_block
        self._books = Books()
        self._opening = self._books
        self._undos: list[Undo] = []
        """How to take each booked trade out of these books again."""
        self._start_anew()

    def points(self) -> Iterator[Point]:
        """Run every operation in turn; one point for each, and for each ``expect`` step.

        A syncer that ran out of time or memory is asked no more, nor one whose books a trade cannot be booked into.
        """
        for act in self._acts:
            match act:
                case SyncAct():
                    point = self._sync(act)
                    # Where a refusal was due, whatever came instead is not built upon.
                    refused = isinstance(act.expected, Refusal)
                    self._books = self._opening = point.given if refused else point.after
                    yield point
                    if _is_exhausted(point.failure):
                        return
                case OrphanAct():
                    failure = self._orphan(act)
                    if failure is not None:
                        yield Point(
                            act=act, before=self._opening, given=self._books, after=self._books, failure=failure
                        )
                        return
                case BookAct():
                    failure = self._book(act)
                    if failure is not None:
                        yield Point(
                            act=act, before=self._opening, given=self._books, after=self._books, failure=failure
                        )
                        return
                case RestartAct():
                    self._restart(act.chain_id, act.vault)
                case CheckAct():
                    yield Point(act=act, before=self._opening, given=self._books, after=self._books)
                    self._opening = self._books

    def _book(self, act: BookAct) -> Failure | None:
        try:
            undo = undo_of(self._books, act.trade)
            self._books = book_trade(self._books, act.trade)
        except (BooksError, ValueError) as error:
            return Failure(kind=BreakKind.different, message=str(error))
        self._undos.append(undo)
        return None

    def _orphan(self, act: OrphanAct) -> Failure | None:
        orphaned = [undo for undo in self._undos if undo.trade.block_number > act.common]
        self._undos = [undo for undo in self._undos if undo.trade.block_number <= act.common]
        try:
            self._books = orphan_trades(self._books, orphaned, failed_at=act.failed_at)
        except (BooksError, ValueError) as error:
            return Failure(kind=BreakKind.different, message=str(error))
        return None

    def _start_anew(self) -> None:
        """Do as if the syncer's process had ended: what its module kept is gone where the module can be run again."""
        self._syncer = None
        if isinstance(self._factory, ImportedSyncer):
            self._factory = self._factory.renewed()

    def _restart(self, chain_id: int, vault: str) -> None:
        self._chain_id, self._vault = chain_id, vault
        self._start_anew()
        self._books = load_books(dump_books(self._books, indent=None))

    def _sync(self, act: SyncAct) -> Point:
        self._wrote, self._changed_given = None, False
        return replace(self._answer(act), wrote=self._wrote, changed_given=self._changed_given)

    def _answer(self, act: SyncAct) -> Point:
        operation = act.operation
        self._begin_the_day()
        if operation.kind == "initialise" and operation.start_block not in (None, self._hint):
            self._hint = operation.start_block or self._hint
            self._syncer = None
        given = self._books
        if self._variation.reloaded:
            self._start_anew()
            given = load_books(dump_books(given, indent=None))
        if self._variation.killed:
            answer = self._ask_until_it_lives(act, given)
        elif act.crash is not None:
            answer = self._ask_after_a_crash(act, given)
        else:
            answer = self._ask(act, given)
        if self._variation.there_and_back and isinstance(answer, Books):
            answer = self._ask_there_and_back(act, answer)
        if self._variation.twice and operation.kind != "initialise" and isinstance(answer, Books):
            answer = self._ask(act, answer)
        match answer:
            case Books():
                return Point(act=act, before=self._opening, given=given, after=answer)
            case str():
                return Point(act=act, before=self._opening, given=given, after=given, refusal=answer)
            case _:
                return Point(act=act, before=self._opening, given=given, after=given, failure=answer)

    def _begin_the_day(self) -> None:
        """Let the chain stand again where the operation that comes finds it."""
        self._switch, self._has_moved = None, False

    def ask_alone(self, act: SyncAct, given: Books) -> Point:
        """Ask a fresh syncer for one operation, whatever the session has come to."""
        self._syncer = None
        self._opening = self._books = given
        return self._sync(act)

    def _ask_until_it_lives(self, act: SyncAct, given: Books) -> Books | str | Failure:
        calls, clock = 1, self._operations
        in_spite_of_it: list[Books] = []
        while True:
            self._start_anew()
            self._begin_the_day()
            self._operations = clock
            death = _Death(calls)
            answer = self._ask(act, given, death)
            if _is_exhausted(answer):
                return answer
            if not death.came:
                # Books from a syncer that would not die must be as good as those of one that lived.
                return next((books for books in in_spite_of_it if books != answer), answer)
            if isinstance(answer, Books):
                in_spite_of_it.append(answer)
            calls += 1 if calls < self._every_call_up_to else calls // 4

    def _ask_after_a_crash(self, act: SyncAct, given: Books) -> Books | str | Failure:
        """Let the syncer die at the call that the file says, or lose its answer, and ask a fresh one.

        What the chain did meanwhile it has done, and what is still to come comes to the fresh one.
        """
        assert act.crash is not None
        first = self._ask_once(act, given, _Death(act.crash))
        if _is_exhausted(first):
            return first
        self._start_anew()
        return self._ask(act, given)

    def _ask_there_and_back(self, act: SyncAct, answer: Books) -> Books | str | Failure:
        """Let a syncer see the blocks that it read replaced by empty ones, and then come back."""
        away = self._played.emptied(act)
        if away is None:
            return answer
        for branch in (away, None):
            self._elsewhere = branch
            try:
                came = self._ask(act, answer)
            finally:
                self._elsewhere = None
            if not isinstance(came, Books):
                return came
            answer = came
        return answer

    def _node_for(self, act: SyncAct) -> Node:
        chain = self._played.branches[act.branch].chain if self._elsewhere is None else self._elsewhere
        node = Node(chain, head=self._head(act), chain_id=self._chain_id)
        hook, said = act.hook, act.node
        if hook is not None and not self._has_moved:
            if self._switch is None:
                before = self._played.branches[hook.branch].chain
                first = Node(before, head=hook.head, chain_id=self._chain_id)
                self._switch = Switch(first, after=hook.after, then=node)
            node = self._switch
        if said is None or said.profile is None:
            return node
        return profiled(
            node, make_profile(said.profile, blocks=said.blocks, logs=said.logs, times=said.times, block=said.block)
        )

    def _ask(self, act: SyncAct, before: Books, death: _Death | None = None) -> Books | str | Failure:
        """Ask for one operation: books, or the words of a refusal, or how it failed."""
        answer = self._ask_once(act, before, death)
        has_died = death is not None and death.came and not isinstance(answer, Books)
        if self._switch is None or self._switch.switched or has_died or _is_exhausted(answer):
            return answer
        # It was done before anything changed: now that it has, it is asked again, as on any later day.
        self._switch, self._has_moved = None, True
        return self._ask_once(act, before)

    def _ask_once(self, act: SyncAct, before: Books, death: _Death | None = None) -> Books | str | Failure:
        operation = act.operation
        node = self._node_for(act)
        view = View(
            node if death is None else _DeadlyNode(node, death),
            end_block=operation.end_block,
            now=CLOCK_START + timedelta(seconds=self._operations),
            chunk=self._chunk(operation),
            memory=self._memory,
        )
        self._operations += 1
        return self._answered(operation, view, before)

    def _answered(self, operation: Operation, view: View, before: Books) -> Books | str | Failure:
        given = copy_books(before)
        try:
            answer = self._guarded(operation, view, given)
            self._note_change(before, given, answer)
            return check_books(answer)
        except SyncRefused as refusal:
            self._note_change(before, given, None)
            return _words(refusal)
        except BooksError as error:
            return Failure(kind=BreakKind.no_books, message=str(error))
        except MemoryError:
            more = "" if self._memory_mib is None else f" within {self._memory_mib} MiB more than before"
            return Failure(kind=BreakKind.memory, message=f"memory ran out{more}")
        except OutOfTime:
            return Failure(kind=BreakKind.timeout, message=f"no answer within {self._timeout:g} seconds")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a syncer raises is an answer of its
            return Failure(kind=BreakKind.raised, message=_describe(error))

    def _guarded(self, operation: Operation, view: ChainView, given: Books) -> object:
        output = None
        try:
            # The deadline is the innermost: no shot of it disturbs the others on their way out.
            with (
                foreign_zone(),
                same_folder(),
                bounded_depth(),
                captured_output() as output,
                memory_limit(self._memory_mib),
                deadline(self._timeout),
            ):
                if self._syncer is None:
                    self._syncer = self._factory(self._target())
                return _call(self._syncer, operation, view, given)
        finally:
            if output is not None:
                self._wrote = self._wrote or output.text

    def _note_change(self, before: Books, given: Books, answer: object) -> None:
        """Note a change of the books that were given.

        A syncer may work on them in place and return them. Whoever returns others, or refuses, has no business in
        them: where nobody hands out copies, a refusal would leave half an operation behind.
        """
        if answer is not given and given != before:
            self._changed_given = True

    def _head(self, act: SyncAct) -> int:
        operation = act.operation
        if act.node is not None and act.node.head is not None:
            return operation.head
        if self._variation.early or self._elsewhere is not None:
            return operation.end_block
        if self._variation.late:
            return self._played.branches[act.branch].chain.head
        return operation.head if act.hook is None else act.hook.then_head

    def _chunk(self, operation: Operation) -> int | None:
        if self._variation.whole:
            return None
        return operation.chunk if self._variation.chunk is None else self._variation.chunk

    def _target(self) -> Target:
        setting = self._played.ledger.setting
        return Target(
            kind=setting.kind,
            chain_id=self._chain_id,
            vault=self._vault,
            deployer=setting.deployer,
            holder=setting.holder if self._vault == setting.vault else self._vault,
            reserve=setting.reserve_asset,
            feeds={asset: setting.feeds[symbol] for symbol, asset in setting.assets.items()},
            dust={
                asset: Dust(absolute=setting.dust_absolute[symbol], relative=setting.dust_relative[symbol])
                for symbol, asset in setting.assets.items()
            },
            interest_bound=setting.interest_bound,
            start_block=self._hint,
        )


def _is_exhausted(answer: Books | str | Failure | None) -> bool:
    return isinstance(answer, Failure) and answer.kind in (BreakKind.timeout, BreakKind.memory)


def _call(syncer: Syncer, operation: Operation, view: ChainView, books: Books) -> object:
    match operation.kind:
        case "initialise":
            return syncer.initialise(view, books)
        case "sync":
            assert operation.cycle is not None, "a treasury sync has its cycle"
            return syncer.sync_treasury(view, books, operation.cycle)
        case "sync_interest":
            return syncer.sync_interest(view, books)
        case "correct_accounts":
            return syncer.correct_accounts(view, books)


def _words(error: BaseException) -> str:
    """What an error says; an error that cannot even say it is no reason to fail."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the syncer's own code runs here
        return ""


def _describe(error: BaseException) -> str:
    """Name an error and where in the syncer it was raised, without a path."""
    if isinstance(error, RecursionError):
        return "RecursionError: calls nest too deep"  # where it ends depends on how deep the harness itself stood
    said = _words(error)
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return text
    return f"{text} (in {trace.tb_frame.f_code.co_qualname}, line {trace.tb_lineno})"
