"""Mistakes about what nodes say: that it is all, that it is so, that nothing is an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from harness.errors import NodeError
from harness.syncers.broken.registry import broken
from harness.syncers.protocol import ChainView, Header
from harness.syncers.reference import ReferenceSyncer
from harness.syncers.reference.decoding import Flow, Log, read_log
from harness.syncers.reference.kinds import Kind
from harness.syncers.reference.proving import Sieve
from harness.syncers.reference.reading import Reader, is_too_much
from harness.syncers.reference.syncer import Work


class BelievingReader(Reader):
    """Takes the logs that a node gives of a range for those that there are, of whatever block they are."""

    def _checked(
        self, addresses: Sequence[str] | None, topics: list[Any], sieve: Sieve, block: int, given: list[Log]
    ) -> list[Log]:
        return given


class _Believing(ReferenceSyncer):
    """Holds nothing that a node says against anything else."""

    def open_reader(self, view: ChainView) -> Reader:
        return BelievingReader(view, self._pause)

    def read_flows(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        return self._flows_given(work, kind, start_block, end_block)

    def _doubt_supply(self, work: Work, start_block: int, end_block: int) -> None:
        pass


@broken("empty_answer_believed", cause="missed")
class EmptyAnswerBelieved(_Believing):
    """Where a node gives no logs there are none, whatever the block's header says."""


@broken("short_answer_believed", cause="missed")
class ShortAnswerBelieved(ReferenceSyncer):
    """Where a node gives some logs of a block, those are all, whether they fit together or not."""

    def read_flows(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        return self._flows_given(work, kind, start_block, end_block)

    def _doubt_supply(self, work: Work, start_block: int, end_block: int) -> None:
        pass


class _TooMuchIsNothing(BelievingReader):
    def _answered(self, addresses: Sequence[str] | None, topics: list[Any], start: int, end: int) -> list[Any] | None:
        try:
            return self._view.get_logs(addresses, topics, start, end)
        except NodeError as error:
            if is_too_much(error):
                return []
        return super()._answered(addresses, topics, start, end)


@broken("refused_range_is_empty", cause="missed")
class RefusedRangeIsEmpty(_Believing):
    """A range that a node will not answer, as too wide or too full, is taken for one without logs."""

    def open_reader(self, view: ChainView) -> Reader:
        return _TooMuchIsNothing(view, self._pause)


class _AsGiven(ReferenceSyncer):
    """Checks that all logs are there, and then looks at them again as its node gives them."""

    def given(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Any]:
        """What a node gives of flows if it is asked once; nothing if it fails."""
        topics = ["0x" + topic.hex() for topic in kind.flow_topics]
        found: list[Any] = []
        for first, last in self.flow_ranges(start_block, end_block, work.view.chunk):
            try:
                found += work.view.get_logs(None, [topics], first, last)
            except (NodeError, OSError):
                return []
        return found


class _Repeating(_AsGiven):
    def read_flows(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        flows = super().read_flows(work, kind, start_block, end_block)
        given = self.given(work, kind, start_block, end_block)
        return [flow for flow in flows for _ in range(self.times(flow.log, given))]

    def times(self, log: Log, given: list[Any]) -> int:
        """How often a log counts."""
        raise NotImplementedError


@broken("repeated_logs_booked", cause="doubled")
class RepeatedLogsBooked(_Repeating):
    """A log that a node gives twice is booked twice."""

    def times(self, log: Log, given: list[Any]) -> int:
        return max(1, sum(read_log(item).place == log.place for item in given if not item.get("removed")))


@broken("removed_logs_booked", cause="doubled")
class RemovedLogsBooked(_Repeating):
    """A log that its node marks as removed counts like any other."""

    def times(self, log: Log, given: list[Any]) -> int:
        return 1 + len({read_log(item) for item in given if item.get("removed") and read_log(item).place == log.place})


@broken("logs_in_the_nodes_order", cause="order-dependent")
class LogsInTheNodesOrder(_AsGiven):
    """Flows are booked in the order in which the node gives their logs."""

    def read_flows(self, work: Work, kind: Kind, start_block: int, end_block: int) -> list[Flow]:
        flows = super().read_flows(work, kind, start_block, end_block)
        order: dict[tuple[int, int], int] = {}
        for at, item in enumerate(self.given(work, kind, start_block, end_block)):
            order.setdefault(read_log(item).place, at)
        return sorted(flows, key=lambda flow: order.get(flow.log.place, 0))


class _AnyTime(Reader):
    def _fresh_header(self, block: int) -> Header:
        header: Header | None = self._view.header(block)
        return super()._fresh_header(block) if header is None else header


@broken("time_of_nothing_believed", cause=None)
class TimeOfNothingBelieved(ReferenceSyncer):
    """A header whose time is 0 is believed: its block is booked in 1970."""

    def open_reader(self, view: ChainView) -> Reader:
        return _AnyTime(view, self._pause)


class _Noting(Reader):
    """Notes the blocks whose headers the node did not have when it was first asked."""

    def __init__(self, view: ChainView, pause: Callable[[float], None]) -> None:
        super().__init__(view, pause)
        self.unknown: set[int] = set()

    def _fresh_header(self, block: int) -> Header:
        first: Header | None = self._view.header(block)
        if first is None:
            self.unknown.add(block)
        return super()._fresh_header(block)


@broken("own_clock_for_a_lost_header", cause=None)
class OwnClockForALostHeader(ReferenceSyncer):
    """Where the node has no header for a block, its time is taken from the syncer's own clock."""

    def open_reader(self, view: ChainView) -> Reader:
        return _Noting(view, self._pause)

    def block_time(self, work: Work, block: int) -> datetime:
        at = super().block_time(work, block)
        return work.view.now if isinstance(work.reader, _Noting) and block in work.reader.unknown else at
