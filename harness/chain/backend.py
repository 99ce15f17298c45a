"""py-evm made deterministic and quick, still behind eth-tester's backend interface.

What eth-tester leaves to chance is pinned: genesis and header times, the mix hash, the chain id. Blocks are built
one transaction at a time on py-evm's VM, so that a block's author can look at the state between two of them; each
transaction is executed exactly once. Nothing upstream is patched.

Mining or sending through eth-tester itself works, but a :class:`~harness.chain.Chain` on top would not know of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import rlp
from eth.abc import (
    BlockHeaderAPI,
    ComputationAPI,
    MessageAPI,
    ReceiptAPI,
    SignedTransactionAPI,
    StateAPI,
    TransactionContextAPI,
)
from eth.chains.base import MiningChain
from eth.constants import (
    BLANK_ROOT_HASH,
    CREATE_CONTRACT_ADDRESS,
    GAS_TX,
    GAS_TXCREATE,
    GAS_TXDATAZERO,
    GENESIS_PARENT_HASH,
    POST_MERGE_DIFFICULTY,
    POST_MERGE_NONCE,
    ZERO_ADDRESS,
)
from eth.db.atomic import AtomicDB
from eth.db.backends.memory import MemoryDB
from eth.db.trie import make_trie_root_and_nodes
from eth.exceptions import InvalidInstruction, OutOfGas, Revert, VMError
from eth.vm.code_stream import CodeStream
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.constants import (
    DELEGATION_DESIGNATION_PREFIX,
    STANDARD_TOKEN_COST,
    TOTAL_COST_FLOOR_PER_TOKEN,
)
from eth.vm.forks.prague.state import PragueState
from eth.vm.forks.prague.transactions import PragueLegacyTransaction
from eth.vm.message import Message
from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey
from eth_tester.backends.pyevm.main import PyEVMBackend
from eth_typing import Address, BlockNumber, Hash32
from eth_utils.encoding import int_to_big_endian

GAS_LIMIT = 10**10
"""Of every block: room for as many calls as anybody wants in one."""
GAS_PRICE = 10**11
"""What every transaction pays, in wei; a hundred times the base fee of genesis, which then only falls."""
BASE_FEE = 10**9
ACCOUNT_BALANCE = 10**30
"""Wei of each account in genesis."""
READ_GAS = 10**9
"""What a call that is no transaction may use."""
NOBODY = ZERO_ADDRESS
"""Who makes a call that is no transaction, unless somebody is named."""

_PANICS = {
    0x01: "assertion failed",
    0x11: "arithmetic overflow",
    0x12: "division by zero",
    0x21: "no such enum value",
    0x31: "pop from an empty array",
    0x32: "index out of bounds",
    0x41: "out of memory",
}


def _hash_quickly() -> None:
    """Let eth-hash take pysha3 where it is installed, unless the environment or an earlier hash has chosen.

    Left alone it takes pycryptodome, which needs ten times as long for the short texts that a trie hashes.
    """
    if os.environ.get("ETH_HASH_BACKEND"):
        return
    os.environ["ETH_HASH_BACKEND"] = "pysha3"
    try:
        with contextlib.suppress(ImportError):
            keccak(b"")  # the first hash chooses for the whole process
    finally:
        del os.environ["ETH_HASH_BACKEND"]  # processes of ours may run where there is no pysha3


_hash_quickly()


class OwnTransaction(PragueLegacyTransaction):
    """A transaction that this process signed itself: who sent it is known, and its signature not checked again.

    Both cost an elliptic-curve recovery each. Bytes and hash are those of any other transaction.
    """

    known_sender: Address | None = None

    def get_sender(self) -> Address:
        return self.known_sender or super().get_sender()

    def check_signature_validity(self) -> None:
        return None


@lru_cache(maxsize=1024)
def private_key(key: bytes) -> PrivateKey:
    """A key that signs; by coincurve where that is installed."""
    return PrivateKey(key)


def sign(
    *, key: bytes, sender: bytes, nonce: int, gas: int, to: bytes | None, data: bytes, chain_id: int
) -> OwnTransaction:
    """Sign a transaction without value for one chain (EIP-155); the same input gives the same bytes (RFC 6979)."""
    target = CREATE_CONTRACT_ADDRESS if to is None else Address(to)
    message = rlp.encode(
        [
            _minimal(nonce),
            _minimal(GAS_PRICE),
            _minimal(gas),
            target,
            b"",
            data,
            _minimal(chain_id),
            b"",
            b"",
        ]
    )
    v, r, s = private_key(key).sign_msg_hash(keccak(message)).vrs
    transaction = OwnTransaction(
        nonce,
        GAS_PRICE,
        gas,
        target,
        0,
        data,
        v + 35 + 2 * chain_id,
        r,
        s,
    )
    transaction.known_sender = Address(sender)
    return transaction


def failure_reason(error: VMError, output: bytes) -> str:
    """Say why an execution failed: the text of ``Error(string)``, a panic's meaning, else raw bytes or the fault."""
    if isinstance(error, Revert):
        return decode_revert(output)
    if isinstance(error, OutOfGas):
        return "out of gas"
    if isinstance(error, InvalidInstruction):
        return "invalid instruction"
    name = type(error).__name__
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def decode_revert(output: bytes) -> str:
    """Read what a revert returned, as text.

    >>> decode_revert(b"")
    'reverted without a reason'
    >>> decode_revert(bytes.fromhex("4e487b71") + (17).to_bytes(32, "big"))
    'panic 0x11 (arithmetic overflow)'
    """
    if not output:
        return "reverted without a reason"
    if output[:4] == b"\x08\xc3y\xa0":  # Error(string)
        try:
            return str(abi_decode(["string"], output[4:])[0])
        except (DecodingError, UnicodeDecodeError):
            return f"0x{output.hex()}"
    if output[:4] == b"NH{q" and len(output) == 36:  # Panic(uint256)
        code = int.from_bytes(output[4:], "big")
        meaning = _PANICS.get(code)
        return f"panic 0x{code:02x}" + (f" ({meaning})" if meaning else "")
    return f"0x{output.hex()}"


def read(
    state: StateAPI, *, to: bytes | None, data: bytes, sender: bytes = NOBODY, value: int = 0, gas: int = READ_GAS
) -> ComputationAPI:
    """Call a contract on a state and leave no trace in it; with ``to`` None, create one and leave none either.

    Raises:
        eth.exceptions.InsufficientFunds: If the sender has less than ``value``.
    """
    snapshot = state.snapshot()
    try:
        context = state.get_transaction_context_class()(gas_price=0, origin=Address(sender))
        machine = state.computation_class
        if to is None:
            created = contract_address(sender, state.get_nonce(Address(sender)))
            creation = Message(gas, CREATE_CONTRACT_ADDRESS, Address(sender), value, b"", data, create_address=created)
            return machine.apply_create_message(state, creation, context)
        message = Message(gas, Address(to), Address(sender), value, data, _code_that_runs(state, Address(to)))
        # `apply_message` moves the value and takes a snapshot of its own: of no use to most calls.
        run = machine.apply_message if value else machine.apply_computation
        return run(state, message, context)
    finally:
        state.revert(snapshot)


def _code_that_runs(state: StateAPI, address: Address) -> bytes:
    """The code at an address, or that which it delegates to."""
    code = state.get_code(address)
    if not code.startswith(DELEGATION_DESIGNATION_PREFIX):
        return code
    return state.get_code(Address(code[len(DELEGATION_DESIGNATION_PREFIX) :]))


def estimate(
    state: StateAPI, *, to: bytes | None, data: bytes, sender: bytes = NOBODY, value: int = 0
) -> tuple[int, ComputationAPI]:
    """Find the least gas that a transaction needs to succeed, and the execution that says so (or why it fails)."""
    zeros = data.count(0)
    tokens = zeros + STANDARD_TOKEN_COST * (len(data) - zeros)
    intrinsic = GAS_TX + GAS_TXDATAZERO * tokens + (GAS_TXCREATE if to is None else 0)

    def run(gas: int) -> ComputationAPI:
        return read(state, to=to, data=data, sender=sender, value=value, gas=gas - intrinsic)

    most = intrinsic + READ_GAS
    computation = run(most)
    enough = intrinsic + computation.get_gas_used()
    if computation.is_error:
        return enough, computation
    # A call may only pass on 63/64 of its gas, so what was used need not be enough.
    short = enough - 1
    while run(enough).is_error:
        short, enough = enough, min(2 * enough, most)
    while enough - short > 1:
        middle = (enough + short) // 2
        short, enough = (middle, enough) if run(middle).is_error else (short, middle)
    return max(enough, GAS_TX + TOTAL_COST_FLOOR_PER_TOKEN * tokens), computation  # EIP-7623


def contract_address(creator: bytes, nonce: int) -> Address:
    """Where the contract will be that ``creator`` creates with its transaction of that nonce."""
    return Address(keccak(rlp.encode([creator, _minimal(nonce)]))[12:])


def _minimal(number: int) -> bytes:
    """A number as RLP wants it: big endian without leading zeros."""
    return int_to_big_endian(number) if number else b""


class Applied(NamedTuple):
    """A transaction that ran in the block being built."""

    transaction: SignedTransactionAPI
    receipt: ReceiptAPI
    computation: ComputationAPI
    gas_used: int


class BlockBuilder:
    """The next block while it is put together; until it is sealed, the chain knows nothing of it."""

    def __init__(self, chain: _PinnedChain, header: BlockHeaderAPI) -> None:
        self._chain = chain
        self._vm = chain.get_vm(header)
        self._header = header
        self._transactions: list[SignedTransactionAPI] = []
        self._receipts: list[ReceiptAPI] = []

    @property
    def state(self) -> StateAPI:
        """What the chain's state is after the transactions applied so far."""
        return self._vm.state

    @property
    def transaction_count(self) -> int:
        """How many transactions the block holds so far."""
        return len(self._transactions)

    def apply(self, *, key: bytes, sender: bytes, to: bytes | None, data: bytes, gas: int) -> Applied:
        """Sign a transaction with its sender's next nonce and execute it, once.

        Raises:
            eth_utils.ValidationError: If no block could hold it (too little gas to begin with, say).
        """
        transaction = sign(
            key=key,
            sender=sender,
            nonce=self._vm.state.get_nonce(Address(sender)),
            gas=gas,
            to=to,
            data=data,
            chain_id=self._chain.chain_id,
        )
        before = self._header.gas_used
        receipt, computation = self._vm.apply_transaction(self._header, transaction)
        self._header = self._vm.add_receipt_to_header(self._header, receipt)
        self._transactions.append(transaction)
        self._receipts.append(receipt)
        return Applied(transaction, receipt, computation, receipt.gas_used - before)

    def seal(self) -> tuple[BlockHeaderAPI, tuple[SignedTransactionAPI, ...]]:
        """Finish the block, make it the chain's newest and return its header and transactions."""
        # What `MiningChain.mine_all` does, but nothing is checked a second time that was computed here, and no
        # block is copied: py-evm's copies are deep, transactions included.
        header, transactions = self._header, tuple(self._transactions)
        if transactions:
            transaction_root, transaction_nodes = make_trie_root_and_nodes(transactions)
            receipt_root, receipt_nodes = make_trie_root_and_nodes(tuple(self._receipts))
            self._chain.chaindb.persist_trie_data_dict(transaction_nodes | receipt_nodes)
            self._vm.state.persist()
            header = header.copy(
                transaction_root=transaction_root, receipt_root=receipt_root, state_root=self._vm.state.state_root
            )
        block = self._vm.get_block_class()(header=header, transactions=transactions, uncles=(), withdrawals=())
        self._chain.chaindb.persist_block(block)
        self._chain.header = None
        return header, transactions


@lru_cache(maxsize=256)
def _landings(_code: bytes) -> tuple[set[int], set[int]]:
    """Where jumps in this code may and may not land, as far as anybody has found out."""
    return set(), set()


class _Computation(PragueComputation):
    """Prague's, which does not find out anew in each call where the same code's jumps may land."""

    def __init__(self, state: StateAPI, message: MessageAPI, transaction_context: TransactionContextAPI) -> None:
        super().__init__(state, message, transaction_context)
        stream = cast(CodeStream, self.code)
        stream.valid_positions, stream.invalid_positions = _landings(message.code)


class _State(PragueState):
    computation_class = _Computation


class _VM(PragueVM):
    _state_class = _State


class _PinnedChain(MiningChain):
    """A mining chain whose headers depend on their parents alone."""

    vm_configuration = ((BlockNumber(0), _VM),)
    _next_header: BlockHeaderAPI | None = None

    @property
    def header(self) -> BlockHeaderAPI:
        """The block after the newest one, as py-evm's own mining fills it; made when somebody asks."""
        if self._next_header is None:
            self._next_header = self.create_header_from_parent(self.get_canonical_head())
        return self._next_header

    @header.setter
    def header(self, header: BlockHeaderAPI | None) -> None:
        self._next_header = header

    def create_header_from_parent(self, parent_header: BlockHeaderAPI, **header_params: Any) -> BlockHeaderAPI:
        fields: dict[str, Any] = {
            "gas_limit": parent_header.gas_limit,
            # py-evm would ask the clock.
            "timestamp": parent_header.timestamp + 1,
            "mix_hash": mix_hash(parent_header.block_number + 1),
        }
        return super().create_header_from_parent(parent_header, **(fields | header_params))

    def get_transaction_builder(self) -> Any:
        """What eth-tester's backend asks its chain for."""
        return PragueVM.get_transaction_builder()


def mix_hash(number: int, branch: int = 0) -> Hash32:
    """The block's randomness (`block.prevrandao`): different in each block and branch, the same in each run."""
    return Hash32(keccak(b"vault harness mix hash: %d" % number + (b" on branch %d" % branch if branch else b"")))


@lru_cache(maxsize=64)
def _chain_class(chain_id: int) -> type[_PinnedChain]:
    return cast(type[_PinnedChain], type("PinnedChain", (_PinnedChain,), {"chain_id": chain_id}))


class PinnedBackend(PyEVMBackend):  # type: ignore[misc]  # eth-tester has no types
    """eth-tester's py-evm backend with chain id, genesis time, header times and mix hash pinned.

    Args:
        chain_id: Seen by contracts, transactions and headers alike.
        genesis_timestamp: UTC seconds.
        keys: Private keys of the accounts that genesis funds.
        delegates: Whose code runs as which of these accounts' own (EIP-7702), from genesis on.
    """

    chain: _PinnedChain

    def __init__(
        self,
        *,
        chain_id: int,
        genesis_timestamp: int,
        keys: Sequence[bytes],
        delegates: Mapping[bytes, bytes] | None = None,
    ) -> None:
        # Not the parent's: that one would build its own genesis, with the wall clock in it.
        self.account_keys = tuple(private_key(key) for key in keys)
        self._genesis = {"chain_id": chain_id, "timestamp": genesis_timestamp}
        self._delegates = dict(delegates or {})
        self.reset_to_genesis()

    def reset_to_genesis(self, *_arguments: object, **_options: object) -> None:
        """Start again from the genesis this backend was made with."""
        state: dict[Address, Any] = {}
        for key in self.account_keys:
            address = Address(key.public_key.to_canonical_address())
            target = self._delegates.get(address)
            code = b"" if target is None else DELEGATION_DESIGNATION_PREFIX + target
            state[address] = {"balance": ACCOUNT_BALANCE, "nonce": 0, "code": code, "storage": {}}
        parameters: dict[str, Any] = {
            "coinbase": ZERO_ADDRESS,
            "difficulty": POST_MERGE_DIFFICULTY,
            "extra_data": b"",
            "gas_limit": GAS_LIMIT,
            "mix_hash": mix_hash(0),
            "nonce": POST_MERGE_NONCE,
            "receipt_root": BLANK_ROOT_HASH,
            "timestamp": self._genesis["timestamp"],
            "transaction_root": BLANK_ROOT_HASH,
            "base_fee_per_gas": BASE_FEE,
        }
        self._store = MemoryDB({})
        chain_class = _chain_class(self._genesis["chain_id"])
        self.chain = cast(_PinnedChain, chain_class.from_genesis(AtomicDB(self._store), parameters, state))

    def clone(self) -> PinnedBackend:
        """Copy the backend; neither sees what the other mines."""
        copy = object.__new__(type(self))
        copy.account_keys = self.account_keys
        copy._genesis = self._genesis
        copy._delegates = self._delegates
        copy._store = MemoryDB(dict(self._store.kv_store))
        copy.chain = type(self.chain)(AtomicDB(copy._store), self.chain.header)
        return copy

    @property
    def head(self) -> BlockHeaderAPI:
        """The newest block's header."""
        return self.chain.get_canonical_head()

    def begin(self, parent: BlockHeaderAPI, *, timestamp: int, branch: int = 0) -> BlockBuilder:
        """Start the block after ``parent``, at a time of UTC seconds; on another branch it has another hash."""
        randomness = mix_hash(parent.block_number + 1, branch)
        header = self.chain.create_header_from_parent(parent, timestamp=timestamp, mix_hash=randomness)
        return BlockBuilder(self.chain, header)

    def set_head(self, header: BlockHeaderAPI) -> None:
        """Make a block that was mined before the newest one; what stood on it is no part of the chain any more."""
        database = self.chain.chaindb
        with database.db.atomic_batch() as batch:
            database._set_as_canonical_chain_head(batch, header, GENESIS_PARENT_HASH)  # type: ignore[attr-defined]
        self.chain.header = None

    def revert_to_snapshot(self, snapshot: Hash32) -> None:
        """Go back to a block by its hash (eth-tester's snapshot)."""
        self.set_head(self.chain.get_block_header_by_hash(snapshot))

    def state_at(self, header: BlockHeaderAPI) -> StateAPI:
        """The state at the end of a block, in which its number and time are the current ones."""
        return self.chain.get_vm(header).state

    def mine_blocks(self, num_blocks: int = 1, coinbase: bytes = ZERO_ADDRESS) -> Any:
        """Mine what eth-tester's own methods have put into the pending block, without a random mix hash."""
        return tuple(self.chain.mine_block(coinbase=coinbase).hash for _ in range(num_blocks))
