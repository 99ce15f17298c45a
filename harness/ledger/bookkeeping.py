"""What books must say at a sync point, or why an operation must be refused: worked out from the ledger alone.

This is the contract for every syncer, as arithmetic on what happened. It never looks at a log, and no
syncer's code is used in it. What each kind of operation does has a module of its own; here is what they share.
"""

from __future__ import annotations

from harness.books.records import Books
from harness.books.state_file import copy_books
from harness.ledger.corrections import correct_accounts, pending_trade
from harness.ledger.facts import Ledger
from harness.ledger.holdings import redeemed_since_interest, split
from harness.ledger.interest import sync_interest
from harness.ledger.operations import CLOCK, InconsistentLedger, Operation, OperationKind, Refusal
from harness.ledger.treasury import sync_treasury

__all__ = [
    "CLOCK",
    "InconsistentLedger",
    "Operation",
    "OperationKind",
    "Refusal",
    "belongs_elsewhere",
    "expected_books",
    "redeemed_since_interest",
    "split",
]


def expected_books(ledger: Ledger, books: Books, operation: Operation) -> Books | Refusal:
    """Give the books that an operation must leave behind, or why it must be refused.

    Args:
        ledger: What happened; may reach beyond the operation's end block.
        books: The books before, as this function and the executor left them; they stay untouched.
        operation: What is asked.
    """
    refusal = _refusal_before_reading(ledger, books, operation)
    if refusal is not None:
        return Refusal(reason=refusal)
    match operation.kind:
        case "initialise":
            return _initialise(ledger, books, operation)
        case "sync":
            return sync_treasury(ledger, books, operation)
        case "sync_interest":
            return sync_interest(ledger, books, operation)
        case "correct_accounts":
            return correct_accounts(ledger, books, operation)


def belongs_elsewhere(books: Books, operation: Operation) -> str | None:
    """Say why books and operation do not belong together, whatever stands on the chain; None if they do."""
    deployment = books.sync.deployment
    if operation.kind == "initialise":
        return "the books are initialised already" if books.sync.is_initialised() else None
    if not books.sync.is_initialised():
        return "the books are not initialised"
    if deployment.chain_id != operation.chain_id:
        return f"the books are of chain {deployment.chain_id}, not {operation.chain_id}"
    if deployment.address is None or deployment.address.lower() != operation.vault.lower():
        return f"the books are of another vault than {operation.vault}"
    return None


def _refusal_before_reading(ledger: Ledger, books: Books, operation: Operation) -> str | None:
    elsewhere = belongs_elsewhere(books, operation)
    if elsewhere is not None:
        return elsewhere
    treasury = books.sync.treasury
    if operation.kind == "initialise":
        if operation.end_block > operation.head:
            return f"the node has no block {operation.end_block}, its head is {operation.head}"
        if operation.end_block < ledger.setting.deployment_block:
            return f"the vault is not deployed at block {operation.end_block}"
        return None
    cursor = treasury.last_block_scanned
    if cursor is not None and operation.head < cursor:
        return f"the head {operation.head} is below the last block scanned, {cursor}"
    if operation.end_block > operation.head:
        return f"the node has no block {operation.end_block}, its head is {operation.head}"
    if operation.kind == "sync":
        if (
            operation.cycle is not None
            and treasury.last_cycle_at is not None
            and operation.cycle < treasury.last_cycle_at
        ):
            return f"cycle {operation.cycle} is before the last one, {treasury.last_cycle_at}"
        return None
    if operation.kind == "correct_accounts":
        return _refusal_to_correct(books, operation)
    last_interest = books.sync.interest.last_sync_block
    if last_interest is not None and operation.end_block < last_interest:
        return f"interest was synced at block {last_interest} already, after block {operation.end_block}"
    if cursor != operation.end_block:
        return f"the treasury stands at block {cursor}, not {operation.end_block}"
    return None


def _refusal_to_correct(books: Books, operation: Operation) -> str | None:
    pending = pending_trade(books)
    if pending is not None:
        return f"trade {pending} is neither executed nor failed"
    cursor = books.sync.treasury.last_block_scanned
    if cursor is not None and operation.end_block < cursor:
        return f"the treasury was read up to block {cursor} already, after block {operation.end_block}"
    return None


def _initialise(ledger: Ledger, books: Books, operation: Operation) -> Books:
    setting = ledger.setting
    after = copy_books(books)
    deployment = after.sync.deployment
    deployment.chain_id = setting.chain_id
    deployment.address = setting.vault
    deployment.block_number = setting.deployment_block
    deployment.tx_hash = setting.deployment_transaction
    deployment.block_mined_at = ledger.mined_at(setting.deployment_block)
    deployment.vault_token_name = setting.vault_name
    deployment.vault_token_symbol = setting.vault_symbol
    deployment.initialised_at = ledger.mined_at(operation.end_block)
    return after
