"""What one operation reads of the chain, through its view and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from harness.errors import SyncRefused
from harness.syncers.protocol import ChainView, Header
from harness.syncers.reference.decoding import Log, read_log

ROUND = "latestRoundData()(uint80,int256,uint256,uint256,uint80)"
ROUND_ANSWER, ROUND_UPDATED_AT = 1, 3


def block_ranges(start_block: int, end_block: int, chunk: int | None) -> Iterator[tuple[int, int]]:
    """Cut a range into pieces of at most ``chunk`` blocks; both ends of each piece are included.

    >>> list(block_ranges(3, 9, 3))
    [(3, 5), (6, 8), (9, 9)]
    >>> list(block_ranges(3, 9, None)), list(block_ranges(4, 3, None))
    ([(3, 9)], [])
    """
    if start_block > end_block:
        return
    span = chunk or end_block - start_block + 1
    for first in range(start_block, end_block + 1, span):
        yield first, min(first + span - 1, end_block)


class Reader:
    """A view with headers remembered and logs decoded; lives as long as one operation."""

    def __init__(self, view: ChainView) -> None:
        self._view = view
        self._headers: dict[int, Header] = {}

    def logs(
        self, addresses: Sequence[str] | None, topics: Sequence[Any], start_block: int, end_block: int
    ) -> Iterator[Log]:
        """Logs of a range in (block, log index) order, each place once, read in the view's chunks.

        A node may repeat, shuffle or withdraw logs; what it says it removed is not there.
        """
        asked = [_hex(topic) for topic in topics]
        for first, last in block_ranges(start_block, end_block, self._view.chunk):
            receipts = self._view.get_logs(addresses, asked, first, last)
            found = {log.place: log for log in (read_log(item) for item in receipts if not item.get("removed"))}
            yield from (found[place] for place in sorted(found) if first <= place[0] <= last)

    def header(self, block: int) -> Header:
        """The header of a block.

        Raises:
            SyncRefused: If the node does not have it.
        """
        if block not in self._headers:
            header: Header | None = self._view.header(block)  # a node may answer null
            if header is None or header.number != block:
                raise SyncRefused(f"the node has no header of block {block}")
            self._headers[block] = header
        return self._headers[block]

    def hash(self, block: int) -> str:
        """The hash of a block as 0x text."""
        return "0x" + bytes(self.header(block).hash).hex()

    def call(self, address: str, signature: str, *arguments: Any, block: int | None = None) -> Any:
        """The decoded answer of a view function, at the end block unless told."""
        return self._view.call(address, signature, *arguments, block=self._view.end_block if block is None else block)

    def answers(self, feed: str, blocks: Iterable[int]) -> dict[int, int]:
        """A price feed's answer at the end of each of some blocks, in few calls.

        A feed says when its answer was set. Where the answer at a later block was set no later than an
        earlier block, it is also the answer of every block between them, so the calls needed grow with
        the price changes and not with the blocks.

        Raises:
            SyncRefused: If an answer is negative.
        """
        wanted = sorted(set(blocks))
        rounds: dict[int, Any] = {}

        def read(index: int) -> Any:
            block = wanted[index]
            if block not in rounds:
                rounds[block] = self.call(feed, ROUND, block=block)
                if rounds[block][ROUND_ANSWER] < 0:
                    raise SyncRefused(f"feed {feed} says {rounds[block][ROUND_ANSWER]} at block {block}")
            return rounds[block]

        spans = [(0, len(wanted) - 1)] if wanted else []
        while spans:
            low, high = spans.pop()
            earlier, later = read(low), read(high)
            if high - low < 2:
                continue
            unchanged = tuple(earlier) == tuple(later)
            if unchanged and 0 < later[ROUND_UPDATED_AT] <= self.header(wanted[low]).timestamp:
                rounds.update((block, earlier) for block in wanted[low + 1 : high])
                continue
            middle = (low + high) // 2
            spans += [(low, middle), (middle, high)]
        return {block: int(rounds[block][ROUND_ANSWER]) for block in wanted}


def _hex(topic: Any) -> Any:
    if isinstance(topic, bytes):
        return "0x" + topic.hex()
    if isinstance(topic, (list, tuple)):
        return [_hex(one) for one in topic]
    return topic


def utc(timestamp: int) -> datetime:
    """A block's time as a naive UTC datetime, whatever zone the process runs in.

    >>> utc(0)
    datetime.datetime(1970, 1, 1, 0, 0)
    """
    return datetime.fromtimestamp(timestamp, tz=UTC).replace(tzinfo=None)
