"""One syncer over one played scenario: asked for every operation in turn, guarded, its answers kept.

A session never judges. It isolates: copies of books go in, only what is really books comes out, a syncer that
raises or hangs is an answer like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from harness.books import Books, check_books, copy_books, dump_books, load_books
from harness.books.executor import book_trade
from harness.chain import Chain, Node, View
from harness.errors import BooksError, SyncRefused
from harness.guard import OutOfTime, bounded_depth, captured_output, deadline, foreign_zone, memory_limit, same_folder
from harness.ledger.bookkeeping import Operation, Refusal
from harness.reconcile.diff import BreakKind
from harness.syncers.find import ImportedSyncer
from harness.syncers.protocol import ChainView, Dust, Syncer, Target
from harness.world.play import Act, BookAct, CheckAct, Played, RestartAct, SyncAct

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

    act: SyncAct | CheckAct | BookAct
    """A trade only if the syncer's books are so wrong that it cannot be booked into them."""
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


_EVERY_CALL_UP_TO = 64
"""An operation with more view calls than that is stopped at some of the later ones only."""


class NodeFailed(ConnectionError):
    """What a view raises when the sweep stops the syncer there."""


@dataclass(slots=True)
class _Outage:
    """When a node fails, in view calls, and whether it has."""

    calls_left: int
    came: bool = False

    def count(self) -> None:
        self.calls_left -= 1
        if self.calls_left == 0:
            self.came = True
            raise NodeFailed("the node does not answer")


class _FailingNode(Node):
    """A node whose n-th request over JSON-RPC fails; what a view reads is counted by the view."""

    outage: _Outage

    def request(self, method: str, params: Sequence[Any] = ()) -> dict[str, Any]:
        self.outage.count()
        return super().request(method, params)


def _node(chain: Chain, head: int, chain_id: int, outage: _Outage | None) -> Node:
    if outage is None:
        return Node(chain, head=head, chain_id=chain_id)
    node = _FailingNode(chain, head=head, chain_id=chain_id)
    node.outage = outage
    return node


class _FailingView:
    """A view whose n-th call fails."""

    def __init__(self, view: View, outage: _Outage) -> None:
        self._view = view
        self._outage = outage

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._view, name)
        if name not in ("get_logs", "call", "header", "code"):
            return found

        def counted(*arguments: Any, **keywords: Any) -> Any:
            self._outage.count()
            return found(*arguments, **keywords)

        return counted


class Session:
    """Runs a syncer's operations over a played scenario.

    Args:
        played: The scenario.
        factory: Makes a syncer for a target; called anew at each restart.
        acts: What to ask, in order: the scenario's own acts unless a schedule has others.
        variation: How to run them.
        timeout: Seconds per operation, or None. Kept in the main thread of a POSIX process.
        memory_mib: How much more memory an operation may take, or None. Kept in the main thread on Linux.
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
        memory: dict[object, object] | None = None,
    ) -> None:
        self._played = played
        self._acts = played.acts if acts is None else acts
        self._factory = factory
        self._variation = variation
        self._timeout = timeout
        self._memory_mib = memory_mib
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
            self._books = book_trade(self._books, act.trade)
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
        if operation.kind == "initialise" and operation.start_block not in (None, self._hint):
            self._hint = operation.start_block or self._hint
            self._syncer = None
        given = self._books
        if self._variation.reloaded:
            self._start_anew()
            given = load_books(dump_books(given, indent=None))
        answer = self._ask_until_it_lives(operation, given) if self._variation.killed else self._ask(operation, given)
        if self._variation.twice and operation.kind != "initialise" and isinstance(answer, Books):
            answer = self._ask(operation, answer)
        match answer:
            case Books():
                return Point(act=act, before=self._opening, given=given, after=answer)
            case str():
                return Point(act=act, before=self._opening, given=given, after=given, refusal=answer)
            case _:
                return Point(act=act, before=self._opening, given=given, after=given, failure=answer)

    def ask_alone(self, act: SyncAct, given: Books) -> Point:
        """Ask a fresh syncer for one operation, whatever the session has come to."""
        self._syncer = None
        self._opening = self._books = given
        return self._sync(act)

    def _ask_until_it_lives(self, operation: Operation, given: Books) -> Books | str | Failure:
        calls, clock = 1, self._operations
        in_spite_of_it: list[Books] = []
        while True:
            self._start_anew()
            self._operations = clock
            outage = _Outage(calls)
            answer = self._ask(operation, given, outage)
            if _is_exhausted(answer):
                return answer
            if not outage.came:
                # Books from a syncer that went on after its node failed must be as good as those without a failure.
                return next((books for books in in_spite_of_it if books != answer), answer)
            if isinstance(answer, Books):
                in_spite_of_it.append(answer)
            calls += 1 if calls < _EVERY_CALL_UP_TO else calls // 4

    def _ask(self, operation: Operation, before: Books, outage: _Outage | None = None) -> Books | str | Failure:
        """Ask for one operation: books, or the words of a refusal, or how it failed."""
        head = self._head(operation)
        view = View(
            _node(self._played.chain, head, self._chain_id, outage),
            end_block=operation.end_block,
            now=CLOCK_START + timedelta(seconds=self._operations),
            chunk=self._chunk(operation),
            memory=self._memory,
        )
        self._operations += 1
        given = copy_books(before)
        try:
            answer = self._guarded(operation, view if outage is None else _FailingView(view, outage), given)
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

    def _head(self, operation: Operation) -> int:
        if self._variation.early:
            return operation.end_block
        return self._played.chain.head if self._variation.late else operation.head

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
