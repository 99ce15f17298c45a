"""What was mined, by block: receipts, transactions and logs, found in time proportional to what is returned."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from eth.abc import BlockHeaderAPI, SignedTransactionAPI

Topics = Sequence[bytes | Sequence[bytes] | None]
"""Per position: None (anything), one topic, or any of several."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A log as it was mined."""

    address: str
    """Checksummed."""
    topics: tuple[bytes, ...]
    data: bytes
    log_index: int
    """Counts through the block, as on a real node."""
    transaction_index: int
    transaction_hash: str
    block_number: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a transaction; ``output`` is what its call returned, or what a revert carried."""

    transaction_hash: str
    transaction_index: int
    block_number: int
    succeeded: bool
    gas_used: int
    """By this transaction alone."""
    contract_address: str | None
    """Checksummed; of the contract that a create made."""
    logs: tuple[LogEntry, ...]
    output: bytes
    revert_reason: str | None
    """None if it succeeded."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block with all that its transactions did."""

    header: BlockHeaderAPI
    hash: bytes
    transactions: tuple[SignedTransactionAPI, ...]
    transaction_hashes: tuple[bytes, ...]
    receipts: tuple[Receipt, ...]

    @property
    def number(self) -> int:
        return self.header.block_number

    @property
    def logs(self) -> Iterator[LogEntry]:
        return (log for receipt in self.receipts for log in receipt.logs)


class Index:
    """The canonical blocks in order, and where in them everything is.

    Logs stand in one list in chain order; for each address, and each topic at each position, there is a list of the
    ordinals of its logs. A query bisects those lists, so blocks without matching logs cost nothing.
    """

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._known: dict[bytes, Block] = {}
        self._transactions: dict[bytes, tuple[int, int]] = {}
        self._logs: list[LogEntry] = []
        self._log_blocks: list[int] = []
        self._postings: dict[str | tuple[int, bytes], list[int]] = {}

    def copy(self) -> Index:
        """An index of its own with the same blocks."""
        other = Index()
        other._blocks = self._blocks.copy()
        other._known = self._known.copy()
        other._transactions = self._transactions.copy()
        other._logs = self._logs.copy()
        other._log_blocks = self._log_blocks.copy()
        other._postings = {key: ordinals.copy() for key, ordinals in self._postings.items()}
        return other

    @property
    def head(self) -> int:
        """The newest block's number."""
        return len(self._blocks) - 1

    def append(self, block: Block) -> None:
        """Take in the next block."""
        number = len(self._blocks)
        self._blocks.append(block)
        self._known[block.hash] = block
        for index, transaction_hash in enumerate(block.transaction_hashes):
            self._transactions[transaction_hash] = (number, index)
        for log in block.logs:
            ordinal = len(self._logs)
            self._logs.append(log)
            self._log_blocks.append(number)
            for key in _posting_keys(log):
                self._postings.setdefault(key, []).append(ordinal)

    def truncate(self, number: int) -> None:
        """Forget that the blocks above ``number`` are part of the chain."""
        for block in self._blocks[number + 1 :]:
            for transaction_hash in block.transaction_hashes:
                del self._transactions[transaction_hash]
        del self._blocks[number + 1 :]
        keep = bisect_right(self._log_blocks, number)
        for log in reversed(self._logs[keep:]):
            for key in _posting_keys(log):
                ordinals = self._postings[key]
                ordinals.pop()
                if not ordinals:
                    del self._postings[key]
        del self._logs[keep:]
        del self._log_blocks[keep:]

    def go_to(self, block_hash: bytes) -> Block:
        """Make a block that was once part of the chain its newest one, whichever branch it stands on.

        Raises:
            KeyError: If this index never held the block.
        """
        branch = [self._known[block_hash]]
        while not self._holds(branch[-1]):
            branch.append(self._known[branch[-1].header.parent_hash])
        self.truncate(branch.pop().number)
        for block in reversed(branch):
            self.append(block)
        return self._blocks[-1]

    def block(self, number: int) -> Block:
        """The block of that number.

        Raises:
            IndexError: If there is none.
        """
        if not 0 <= number < len(self._blocks):
            raise IndexError(f"block {number} does not exist; the newest is {self.head}")
        return self._blocks[number]

    def number_of(self, block_hash: bytes) -> int | None:
        """The number of the canonical block with this hash, or None."""
        block = self._known.get(block_hash)
        return block.number if block is not None and self._holds(block) else None

    def find_transaction(self, transaction_hash: bytes) -> tuple[int, int] | None:
        """Block number and index of a transaction, or None if no block of the chain holds it."""
        return self._transactions.get(transaction_hash)

    def logs(
        self,
        start_block: int,
        end_block: int,
        addresses: Iterable[str] | None = None,
        topics: Topics | None = None,
    ) -> list[LogEntry]:
        """The logs of a range of blocks, both ends included, that match; in chain order.

        Args:
            start_block: The first block.
            end_block: The last block; may lie above the head.
            addresses: Checksummed; None means any, and so does an empty list (as on a node).
            topics: By position; a log with fewer topics than positions does not match.
        """
        first = bisect_left(self._log_blocks, start_block)
        last = bisect_right(self._log_blocks, end_block)
        criteria: list[set[str] | set[tuple[int, bytes]]] = []
        wanted = set(addresses or ())
        if wanted:
            criteria.append(wanted)
        least_topics = len(topics or ())
        for position, choice in enumerate(topics or ()):
            choices = (choice,) if isinstance(choice, bytes) else choice
            if choices:
                criteria.append({(position, bytes(topic)) for topic in choices})

        candidates: Iterable[int] = range(first, last)
        fewest = last - first
        for keys in criteria:
            slices = [self._posting_slice(key, first, last) for key in keys]
            count = sum(end - start for _, start, end in slices)
            if count <= fewest:
                fewest = count
                # The keys of one criterion exclude each other, so no ordinal comes twice.
                candidates = sorted(ordinal for ordinals, start, end in slices for ordinal in ordinals[start:end])
        found = (self._logs[ordinal] for ordinal in candidates)
        return [log for log in found if len(log.topics) >= least_topics and _matches(log, criteria)]

    def _posting_slice(self, key: str | tuple[int, bytes], first: int, last: int) -> tuple[list[int], int, int]:
        ordinals = self._postings.get(key, [])
        return ordinals, bisect_left(ordinals, first), bisect_left(ordinals, last)

    def _holds(self, block: Block) -> bool:
        return block.number < len(self._blocks) and self._blocks[block.number].hash == block.hash


def _posting_keys(log: LogEntry) -> Iterator[str | tuple[int, bytes]]:
    yield log.address
    yield from enumerate(log.topics)


def _matches(log: LogEntry, criteria: Iterable[set[str] | set[tuple[int, bytes]]]) -> bool:
    keys = set(_posting_keys(log))
    return all(not keys.isdisjoint(wanted) for wanted in criteria)
