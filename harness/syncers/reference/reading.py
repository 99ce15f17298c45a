"""What one operation reads of the chain, through its view and nothing else.

A node may fail, lie by omission, lag, or stand on another branch than a moment ago. Whatever it says is asked for
again a few times, held against the headers, and where it still does not fit the operation is refused.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from rlp.exceptions import RLPException

from harness.errors import CallReverted, NodeError, SyncRefused
from harness.syncers.protocol import ChainView, Header
from harness.syncers.reference.decoding import Log, read_log
from harness.syncers.reference.proving import BLOOM_BYTES, Sieve, bloom_of, logs_of, receipts_root

ROUND = "latestRoundData()(uint80,int256,uint256,uint256,uint80)"
ROUND_ANSWER, ROUND_UPDATED_AT = 1, 3

TRIES = 6
"""How often one thing is asked for before the node is given up."""
FIRST_PAUSE = 0.0001
"""Seconds before the second try; each pause is twice the one before. A node in the same process needs no more."""
NODE_FAULTS = (NodeError, OSError)
"""What a view raises when its node fails: what the node said, or a connection that broke or took too long."""

_TOO_OFTEN = re.compile(r"429|too many requests|rate.?limit|(request|daily|capacity).*(exceeded|limit)", re.IGNORECASE)
_TOO_OFTEN_CODES = (429, -32005)
_TOO_MUCH = re.compile(r"range|413|too large|too big|too many|more than|limit|exceed|response size", re.IGNORECASE)

_WITHHELD = "the node withholds logs of block {block}, or cannot show that it does not"

_Answer = TypeVar("_Answer")


class ChainMoved(Exception):
    """The chain is another one than at the beginning of the operation: what was read does not belong together."""


class _Absent(Exception):
    """A node's answer has nothing in it, or something that cannot be."""


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
    """A view with headers remembered and logs decoded and checked; lives as long as one operation.

    Args:
        view: What is read.
        pause: Waits for so many seconds before something is asked for again.
    """

    def __init__(self, view: ChainView, pause: Callable[[float], None] = time.sleep) -> None:
        self._view = view
        self._pause = pause
        self._headers: dict[int, Header] = {}
        self._blooms: dict[int, int | None] = {}
        self._proved: dict[int, list[Log]] = {}
        self._span = view.chunk

    # -- logs

    def logs(
        self, addresses: Sequence[str] | None, topics: Sequence[Any], start_block: int, end_block: int
    ) -> Iterator[Log]:
        """Logs of a range in (block, log index) order, each place once, read in the view's chunks.

        Ranges that are too much for the node are halved. What it says it removed is not there. A block whose
        header does not exclude such logs, but of which none was given, is asked for alone, then proved.

        Raises:
            SyncRefused: If the node does not answer, or what it answers cannot be true.
            ChainMoved: If a block is not the one any more that it was.
        """
        asked, sieve = [_hex(topic) for topic in topics], Sieve(addresses, topics)
        for first, last in block_ranges(start_block, end_block, self._view.chunk):
            found: dict[int, list[Log]] = {}
            for log in self._ask_range(addresses, asked, first, last):
                found.setdefault(log.block, []).append(log)
            for block in range(first, last + 1):
                yield from self._checked(addresses, asked, sieve, block, found.get(block, []))

    def _checked(
        self, addresses: Sequence[str] | None, topics: list[Any], sieve: Sieve, block: int, given: list[Log]
    ) -> list[Log]:
        """A block's logs, once they are of this block and not fewer than its header promises."""
        if block in self._proved:
            return [log for log in self._proved[block] if sieve.passes(log)]
        if given and not self._is_of_this_branch(given):
            given = self._ask_again(addresses, topics, block)
        if given or addresses is None:
            return given
        bloom = self.bloom(block)
        if bloom is None or not sieve.may_pass(bloom):
            return given
        given = self._ask_range(addresses, topics, block, block)
        if given and self._is_of_this_branch(given):
            return given
        return [log for log in self._all_of(block) if sieve.passes(log)]

    def _is_of_this_branch(self, logs: list[Log]) -> bool:
        expected = bytes(self.header(logs[0].block).hash)
        return all(log.block_hash == expected for log in logs)

    def _ask_again(self, addresses: Sequence[str] | None, topics: list[Any], block: int) -> list[Log]:
        """Logs of a block of which the node gave some of another branch: either it moved, or the node is wrong."""

        def ask() -> list[Log]:
            self._check_unmoved(block)
            logs = self._ask_range(addresses, topics, block, block)
            if logs and not self._is_of_this_branch(logs):
                raise _Absent(f"block {block} changed while it was read")
            return logs

        return self._tried(ask)

    def _ask_range(self, addresses: Sequence[str] | None, topics: list[Any], first: int, last: int) -> list[Log]:
        """What the node gives of a range, in order, each place once; a range that is too much for it in halves."""
        ranges = [(first, last)]
        found: dict[tuple[int, int], Log] = {}
        while ranges:
            start, end = ranges.pop()
            if self._span is not None and end - start + 1 > self._span:
                ranges += reversed(list(block_ranges(start, end, self._span)))
                continue
            receipts = self._answered(addresses, topics, start, end)
            if receipts is None:
                self._span = (end - start + 1) // 2
                ranges.append((start, end))
                continue
            logs = (read_log(item) for item in receipts if not item.get("removed"))
            found.update((log.place, log) for log in logs if start <= log.block <= end)
        return [found[place] for place in sorted(found)]

    def _answered(self, addresses: Sequence[str] | None, topics: list[Any], start: int, end: int) -> list[Any] | None:
        """A node's answer for a range, or None if the range is too much for it."""

        def ask() -> list[Any] | None:
            try:
                return self._view.get_logs(addresses, topics, start, end)
            except NodeError as error:
                if start < end and is_too_much(error):
                    return None
                if start == end and is_too_much(error):
                    return [_as_receipt(log) for log in self.prove(start) if Sieve(addresses, topics).passes(log)]
                raise

        return self._tried(ask)

    # -- proofs

    def bloom(self, block: int) -> int | None:
        """The bloom filter in a block's header, None if the node does not give it."""
        if block not in self._blooms:
            bloom = bytes(self.header(block).logs_bloom or b"")
            self._blooms[block] = int.from_bytes(bloom, "big") if len(bloom) == BLOOM_BYTES else None
        return self._blooms[block]

    def may_hold(self, block: int, addresses: Sequence[str], topics: Sequence[Any]) -> bool:
        """Tell whether a block may hold such a log, by its header; False is certain."""
        bloom = self.bloom(block)
        return bloom is None or Sieve(addresses, topics).may_pass(bloom)

    def is_proved(self, block: int) -> bool:
        """Tell whether a block's logs are known to be all there are."""
        return block in self._proved

    def prove(self, block: int) -> list[Log]:
        """All logs of a block, held against the root of its receipts; from now on they are what ``logs`` gives.

        Raises:
            SyncRefused: If the node does not have the receipts of this block.
        """

        def ask() -> list[Log]:
            # Twice in a row: behind one address may stand nodes that take turns, and one of them may be behind.
            logs = self._by_receipts(block)
            if logs is None:
                logs = self._by_receipts(block)
            if logs is None:
                self._check_unmoved(block)
                raise _Absent(_WITHHELD.format(block=block))
            return logs

        if block not in self._proved:
            self._proved[block] = self._tried(ask)
        return self._proved[block]

    def _all_of(self, block: int) -> list[Log]:
        """All logs of a block, proved or, from a node without receipts, as its bloom filter sums them up.

        The filter cannot tell a log that is like others of the block. So much is left to the syncer: logs that do
        not fit together are a reason to ask for a proof.
        """

        def ask() -> list[Log]:
            logs = self._by_receipts(block)
            if logs is not None:
                self._proved[block] = logs
                return logs
            return self._by_bloom(block)

        return self._tried(ask)

    def _by_receipts(self, block: int) -> list[Log] | None:
        header = self.header(block)
        root = bytes(header.receipts_root or b"")
        web3: Any = self._view.web3
        if web3 is None or not root:
            return None
        try:
            answer = web3.provider.make_request("eth_getBlockReceipts", [hex(block)])
            receipts = answer.get("result")
            if receipts is None or receipts_root(receipts) != root:
                return None
            return logs_of(receipts, block, bytes(header.hash))
        except (KeyError, TypeError, ValueError, AttributeError, RLPException):
            return None  # an answer of another shape proves nothing

    def _by_bloom(self, block: int) -> list[Log]:
        try:
            receipts = self._view.get_logs(None, None, block, block)
        except NodeError as error:
            raise _Absent(f"the logs of block {block} cannot be verified: {error}") from error
        logs = {log.place: log for log in (read_log(item) for item in receipts if not item.get("removed"))}
        listed = [logs[place] for place in sorted(logs)]
        numbered = [log.place for log in listed] == [(block, number) for number in range(len(listed))]
        if self.bloom(block) is None or not numbered or bloom_of(listed) != self.bloom(block):
            self._check_unmoved(block)
            raise _Absent(_WITHHELD.format(block=block))
        return listed

    # -- headers

    def header(self, block: int) -> Header:
        """The header of a block.

        Raises:
            SyncRefused: If the node does not have it.
        """
        if block not in self._headers:
            self._headers[block] = self._fresh_header(block)
        return self._headers[block]

    def _fresh_header(self, block: int) -> Header:
        def ask() -> Header:
            header: Header | None = self._view.header(block)  # a node may answer null
            if header is None or header.number != block:
                raise _Absent(f"the node has no header of block {block}")
            if header.timestamp <= 0 < block:
                raise _Absent(f"the node gives block {block} no time")
            return header

        return self._tried(ask)

    def hash(self, block: int) -> str:
        """The hash of a block as 0x text."""
        return "0x" + bytes(self.header(block).hash).hex()

    def _check_unmoved(self, block: int) -> None:
        if bytes(self._fresh_header(block).hash) != bytes(self.header(block).hash):
            raise ChainMoved(f"block {block} changed while it was read")

    def check_unmoved(self) -> None:
        """Check at the end that all that was read is of one chain, and that it is still the node's.

        A header says who its parent is, so only the last one of each row that was read is read again.

        Raises:
            ChainMoved: If it is not.
        """
        for block, header in list(self._headers.items()):
            above = self._headers.get(block + 1)
            if above is None:
                self._check_unmoved(block)
            elif above.parent_hash and bytes(above.parent_hash) != bytes(header.hash):
                raise ChainMoved(f"block {block} changed while it was read")

    # -- state

    def call(self, address: str, signature: str, *arguments: Any, block: int | None = None) -> Any:
        """The decoded answer of a view function, at the end block unless told.

        Raises:
            SyncRefused: If the contract fails, or is not there.
        """
        at = self._view.end_block if block is None else block
        try:
            return self._tried(lambda: self._view.call(address, signature, *arguments, block=at))
        except CallReverted as error:
            raise SyncRefused(f"{signature.partition('(')[0]} of {address} at block {at}: {error.reason}") from error

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

    # -- a node that fails

    def _tried(self, ask: Callable[[], _Answer]) -> _Answer:
        """An answer, asked for a few times if the node fails.

        Raises:
            SyncRefused: If it never answers.
        """
        wait = FIRST_PAUSE
        for tried in range(1, TRIES + 1):
            try:
                return ask()
            except _Absent as error:
                if tried == TRIES:
                    raise SyncRefused(str(error)) from error
            except NODE_FAULTS as error:
                if tried == TRIES:
                    raise SyncRefused(f"the node failed {TRIES} times: {error}") from error
            self._pause(wait)
            wait *= 2
        raise AssertionError("unreachable")


def is_too_much(error: NodeError) -> bool:
    """Tell a node's complaint about the size of a question or an answer from one about how often it is asked."""
    if error.code in _TOO_OFTEN_CODES and not _TOO_MUCH.search(_TOO_OFTEN.sub("", error.message)):
        return False
    return not _TOO_OFTEN.search(error.message) and bool(error.code == 413 or _TOO_MUCH.search(error.message))


def _as_receipt(log: Log) -> dict[str, Any]:
    return {
        "blockNumber": log.block,
        "logIndex": log.log_index,
        "transactionHash": log.tx_hash,
        "blockHash": log.block_hash,
        "address": log.address,
        "topics": log.topics,
        "data": log.data,
    }


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
