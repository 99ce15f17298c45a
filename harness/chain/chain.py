"""The chain: mines when told to, at the times told, and knows everything that it mined."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from eth.abc import BlockHeaderAPI, ComputationAPI, StateAPI
from eth.vm.message import Message
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address
from eth_utils.exceptions import ValidationError
from hexbytes import HexBytes

from harness.chain.backend import (
    NOBODY,
    Applied,
    BlockBuilder,
    PinnedBackend,
    failure_reason,
    private_key,
    read,
)
from harness.chain.index import Block, Index, LogEntry, Receipt, Topics
from harness.errors import CallReverted

CALL_GAS = 10_000_000
"""What a transaction may use unless its :class:`Call` says otherwise."""
_STATES_KEPT = 16


@dataclass(frozen=True)
class Account:
    """Somebody who can send transactions."""

    name: str
    key: bytes
    """The private key; of no worth outside the harness."""
    address: str
    """Checksummed."""

    @classmethod
    def named(cls, name: str) -> Account:
        """The account of that name: the same name has the same key and address everywhere."""
        key = keccak(b"vault harness account: " + name.encode())
        return cls(name, key, private_key(key).public_key.to_checksum_address())


@dataclass(frozen=True)
class Call:
    """A transaction to be; ``to`` is None to create a contract."""

    sender: Account
    to: str | None
    data: bytes
    gas: int = CALL_GAS

    def packed(self) -> tuple[str, bytes]:
        """Target and data, for a contract that makes the call itself.

        Raises:
            ValueError: If it creates a contract.
        """
        if self.to is None:
            raise ValueError("a creation has no target")
        return self.to, self.data


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call did in the block that is being built."""

    transaction_hash: str
    succeeded: bool
    revert_reason: str | None
    output: bytes
    contract_address: str | None
    logs: tuple[LogEntry, ...]


@dataclass(frozen=True, slots=True)
class MinedBlock:
    """A block just mined."""

    number: int
    hash: str
    timestamp: int
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What a block says of itself."""

    number: int
    hash: HexBytes
    parent_hash: HexBytes
    timestamp: int
    logs_bloom: HexBytes
    receipts_root: HexBytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of a chain, to go back to."""

    number: int
    hash: bytes


class Pending:
    """The block being built, as its author sees it between two transactions."""

    def __init__(self, builder: BlockBuilder, number: int, timestamp: int) -> None:
        self.number = number
        self.timestamp = timestamp
        self._builder = builder

    def call(self, to: str, data: bytes, sender: str | None = None) -> bytes:
        """Read from a contract as of the last transaction; leaves no trace in the block.

        Raises:
            CallReverted: If the call fails.
        """
        return _read(self._builder.state, to, data, sender)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Take back whatever is rehearsed inside."""
        state = self._builder.state
        snapshot = state.snapshot()
        try:
            yield
        finally:
            state.revert(snapshot)

    def rehearse(self, call: Call) -> str | None:
        """Do in a rehearsal what a call would do, outside any transaction; gives its revert reason if it fails."""
        if call.to is None:
            raise ValueError("a contract cannot be created in a rehearsal")
        state, target, sender = self._builder.state, as_address(call.to), as_address(call.sender.address)
        context = state.get_transaction_context_class()(gas_price=0, origin=sender)
        message = Message(call.gas, target, sender, 0, call.data, state.get_code(target))
        computation = state.computation_class.apply_message(state, message, context)
        return failure_reason(computation.error, computation.output) if computation.is_error else None


Build = Callable[[Pending], Generator[Call, Outcome, None]] | Sequence[Call]


class Chain:
    """A chain in this process: deterministic, indexed, mined only by :meth:`mine` and :meth:`mine_empty`.

    Args:
        chain_id: The id that contracts, transactions and nodes see.
        genesis_timestamp: UTC seconds of block 0.
        accounts: Who holds ether in genesis, more than they can ever spend.
        delegates: Accounts that run a contract's code as their own (EIP-7702), and that contract, from genesis on.
    """

    def __init__(
        self,
        *,
        chain_id: int,
        genesis_timestamp: int,
        accounts: Sequence[Account],
        delegates: Mapping[str, str] | None = None,
    ) -> None:
        self.chain_id = chain_id
        self._backend = PinnedBackend(
            chain_id=chain_id,
            genesis_timestamp=genesis_timestamp,
            keys=[account.key for account in accounts],
            delegates={as_address(account): as_address(target) for account, target in (delegates or {}).items()},
        )
        self._index = Index()
        genesis = self._backend.head
        self._index.append(Block(genesis, genesis.hash, (), (), ()))
        self._states: OrderedDict[bytes, StateAPI] = OrderedDict()
        self._branch = 0

    def clone(self) -> Chain:
        """Copy the chain; neither sees what the other mines."""
        copy = object.__new__(type(self))
        copy.chain_id = self.chain_id
        copy._backend = self._backend.clone()
        copy._index = self._index.copy()
        copy._states = OrderedDict()
        copy._branch = self._branch
        return copy

    @property
    def backend(self) -> PinnedBackend:
        """eth-tester's view of this chain, to read from: what is mined through it is not in the index."""
        return self._backend

    @property
    def index(self) -> Index:
        """What was mined, by block; to read from."""
        return self._index

    @property
    def head(self) -> int:
        """The newest block's number."""
        return self._index.head

    def mine(self, build: Build, *, timestamp: int) -> MinedBlock:
        """Mine one block with the transactions that ``build`` gives, in that order.

        ``build`` is a sequence of calls, or a function that is called with the pending block and yields calls. Each
        yielded call runs at once, and the generator is resumed with its outcome, after the last one too. A call that
        fails stays in the block as a failed transaction.

        Args:
            build: The calls.
            timestamp: UTC seconds of the block, later than its parent's.

        Raises:
            ValueError: If the timestamp is not later, or a call cannot be in any block. Nothing is mined then, nor
                when ``build`` itself raises.
        """
        parent = self._index.block(self.head).header
        if timestamp <= parent.timestamp:
            raise ValueError(f"a block at {timestamp} cannot follow one at {parent.timestamp}")
        builder = self._backend.begin(parent, timestamp=timestamp, branch=self._branch)
        number = parent.block_number + 1
        receipts: list[Receipt] = []
        if isinstance(build, Sequence):
            for call in build:
                receipts.append(_apply(builder, call, number, receipts))
        else:
            steps = build(Pending(builder, number, timestamp))
            try:
                call = next(steps)
                while True:
                    receipts.append(_apply(builder, call, number, receipts))
                    call = steps.send(_outcome(receipts[-1]))
            except StopIteration:
                pass
            finally:
                steps.close()
        header, transactions = builder.seal()
        hashes = tuple(bytes.fromhex(receipt.transaction_hash[2:]) for receipt in receipts)
        block = Block(header, header.hash, transactions, hashes, tuple(receipts))
        self._index.append(block)
        return MinedBlock(number, "0x" + block.hash.hex(), timestamp, block.receipts)

    def mine_empty(self, *, timestamp: int) -> MinedBlock:
        """Mine a block without transactions."""
        return self.mine((), timestamp=timestamp)

    def header(self, number: int) -> Header:
        """The header of a block.

        Raises:
            IndexError: If there is no such block.
        """
        return as_header(self._index.block(number))

    def call(self, to: str, data: bytes, *, block: int | None = None, sender: str | None = None) -> bytes:
        """Call a contract on the state at the end of a block (None: the newest).

        Raises:
            CallReverted: If the call fails.
            IndexError: If there is no such block.
        """
        return _read(self.state(block), to, data, sender)

    def code(self, address: str, *, block: int | None = None) -> bytes:
        """The code at an address at the end of a block."""
        return self.state(block).get_code(as_address(address))

    def state(self, block: int | None = None) -> StateAPI:
        """py-evm's state at the end of a block, to read from; states lately asked for are kept."""
        found = self._index.block(self.head if block is None else block)
        state = self._states.pop(found.hash, None)
        if state is None:
            state = self._backend.state_at(found.header)
        self._states[found.hash] = state
        if len(self._states) > _STATES_KEPT:
            self._states.popitem(last=False)
        return state

    def receipts(self, number: int) -> tuple[Receipt, ...]:
        """The receipts of a block, in order.

        Raises:
            IndexError: If there is no such block.
        """
        return self._index.block(number).receipts

    def logs(
        self,
        start_block: int,
        end_block: int,
        addresses: Sequence[str] | None = None,
        topics: Topics | None = None,
    ) -> list[LogEntry]:
        """The logs of a range of blocks, both ends included, in order; see :meth:`Index.logs`."""
        return self._index.logs(start_block, end_block, addresses, topics)

    def logs_of(
        self, block_hash: str, addresses: Sequence[str] | None = None, topics: Topics | None = None
    ) -> list[LogEntry]:
        """The logs of the block with this hash.

        Raises:
            IndexError: If no block of the chain has it.
        """
        number = self._index.number_of(bytes.fromhex(block_hash.removeprefix("0x")))
        if number is None:
            raise IndexError(f"no block of the chain has the hash {block_hash}")
        return self._index.logs(number, number, addresses, topics)

    def fork(self, number: int) -> None:
        """Leave every block above ``number``; those mined from here on differ from them, even with equal content.

        Raises:
            IndexError: If there is no such block.
        """
        block = self._index.block(number)
        self.revert(Snapshot(block.number, block.hash))
        self._branch += 1

    def snapshot(self) -> Snapshot:
        """Remember this moment."""
        head = self._index.block(self.head)
        return Snapshot(head.number, head.hash)

    def revert(self, snapshot: Snapshot) -> None:
        """Go back to a moment, index and all; or forth again, to one on a branch that was left.

        Raises:
            ValueError: If the snapshot is of another chain.
        """
        try:
            block = self._index.go_to(snapshot.hash)
        except KeyError:
            raise ValueError(f"block {snapshot.number} of the snapshot was never part of this chain") from None
        self._backend.set_head(block.header)


def as_header(block: Block) -> Header:
    """What a mined block says of itself."""
    header: BlockHeaderAPI = block.header
    return Header(
        number=header.block_number,
        hash=HexBytes(block.hash),
        parent_hash=HexBytes(header.parent_hash),
        timestamp=header.timestamp,
        logs_bloom=HexBytes(header.bloom.to_bytes(256, "big")),
        receipts_root=HexBytes(header.receipt_root),
    )


@lru_cache(maxsize=8192)
def as_address(text: str) -> Any:
    """The 20 bytes of an address given as text.

    Raises:
        ValueError: If it is no address.
    """
    address = bytes.fromhex(text.removeprefix("0x"))
    if len(address) != 20:
        raise ValueError(f"{text!r} is no address")
    return address


@lru_cache(maxsize=8192)
def checksummed(address: bytes) -> str:
    """An address as text with a checksum (EIP-55)."""
    return to_checksum_address(address)


def _read(state: StateAPI, to: str, data: bytes, sender: str | None) -> bytes:
    computation = read(state, to=as_address(to), data=data, sender=NOBODY if sender is None else as_address(sender))
    if computation.is_error:
        raise CallReverted(failure_reason(computation.error, computation.output), computation.output)
    return computation.output


def _apply(builder: BlockBuilder, call: Call, number: int, before: Sequence[Receipt]) -> Receipt:
    try:
        applied = builder.apply(
            key=call.sender.key,
            sender=as_address(call.sender.address),
            to=None if call.to is None else as_address(call.to),
            data=call.data,
            gas=call.gas,
        )
    except ValidationError as error:
        raise ValueError(f"the call of {call.sender.name} cannot be in a block: {error}") from error
    return _receipt(applied, number, len(before), sum(len(receipt.logs) for receipt in before))


def _receipt(applied: Applied, number: int, index: int, first_log_index: int) -> Receipt:
    computation = applied.computation
    transaction_hash = "0x" + applied.transaction.hash.hex()
    failed = computation.is_error
    created = computation.msg.storage_address if computation.msg.is_create and not failed else None
    return Receipt(
        transaction_hash=transaction_hash,
        transaction_index=index,
        block_number=number,
        succeeded=not failed,
        gas_used=applied.gas_used,
        contract_address=None if created is None else checksummed(created),
        logs=tuple(_logs(computation, transaction_hash, number, index, first_log_index)),
        output=computation.output,
        revert_reason=failure_reason(computation.error, computation.output) if failed else None,
    )


def _logs(
    computation: ComputationAPI, transaction_hash: str, number: int, index: int, first_log_index: int
) -> Iterator[LogEntry]:
    for log_index, (address, topics, data) in enumerate(computation.get_log_entries(), start=first_log_index):
        yield LogEntry(
            address=checksummed(address),
            topics=tuple(topic.to_bytes(32, "big") for topic in topics),
            data=bytes(data),
            log_index=log_index,
            transaction_index=index,
            transaction_hash=transaction_hash,
            block_number=number,
        )


def _outcome(receipt: Receipt) -> Outcome:
    return Outcome(
        transaction_hash=receipt.transaction_hash,
        succeeded=receipt.succeeded,
        revert_reason=receipt.revert_reason,
        output=receipt.output,
        contract_address=receipt.contract_address,
        logs=receipt.logs,
    )
