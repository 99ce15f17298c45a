"""How long judging takes as books grow: right books, books short of every other deposit, books with wrong hashes.

Each function returns rows of name, value, unit, and the ratio to the baseline in the same run (None for a baseline).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial

from harness.books import AssetIdentifier, Books, copy_books
from harness.errors import Location
from harness.ledger.bookkeeping import Operation, Refusal, expected_books
from harness.ledger.facts import Flow, Ledger, Leg, MinedBlock, Setting, utc
from harness.reconcile.compare import compare_books
from harness.reconcile.laws import Checkpoint, judge_laws
from harness.reconcile.statement import statements
from harness.sweeps import first_difference, judged_json

Row = tuple[str, float, str, float | None]

GENESIS = 1_704_067_200
BLOCK_TIME = 12
DEPLOYED = 2
HERE = Location(file="benchmark", line=1, column=1)
USDC = AssetIdentifier(1, "0x" + "aa" * 20, "USDC", 6)
VAULT = "0x" + "bb" * 20


def _ledger(flows: int, per_block: int = 40) -> Ledger:
    """A truth of deposits and, as every fourth flow, redemptions."""
    setting = Setting(
        kind="erc4626",
        chain_id=1,
        vault=VAULT,
        deployer=VAULT,
        holder=VAULT,
        second_vault=VAULT,
        assets={"USDC": USDC},
        feeds={"USDC": VAULT},
        dust_absolute={"USDC": Decimal(0)},
        dust_relative={"USDC": Decimal(0)},
        reserve="USDC",
        actors={"alice": "0x" + "cc" * 20},
        interest_bound=Decimal("0.1"),
        vault_name="Vault",
        vault_symbol="VLT",
        share_decimals=18,
        deployment_block=DEPLOYED,
        deployment_transaction="0x" + "00" * 32,
        deployment_location=HERE,
    )
    ledger = Ledger(setting)
    last = DEPLOYED + -(-flows // per_block)
    for number in range(last + 1):
        ledger.add_block(MinedBlock(number=number, hash=f"0x{number:064x}", timestamp=GENESIS + BLOCK_TIME * number))
    ledger.set_price("USDC", 1, 10**8)
    balance = 0
    for index in range(flows):
        block, log_index = DEPLOYED + 1 + index // per_block, index % per_block
        raw = -250_000 if index % 4 == 3 else 1_000_000 + index
        balance += raw
        ledger.add_flow(
            Flow(
                cause="deposit" if raw > 0 else "redemption",
                block=block,
                transaction=f"0x{index + 1:064x}",
                log_index=log_index,
                owner="0x" + "cc" * 20,
                legs=(Leg(symbol="USDC", raw=raw),),
                location=HERE,
            )
        )
        ledger.set_balance("USDC", block, balance)
    return ledger


def _booked(ledger: Ledger, books: Books, kind: str, end_block: int) -> Books:
    operation = Operation(
        kind=kind,  # type: ignore[arg-type]
        location=HERE,
        end_block=end_block,
        head=ledger.head,
        cycle=utc(GENESIS) + timedelta(seconds=BLOCK_TIME * end_block),
        chain_id=1,
        vault=VAULT,
    )
    after = expected_books(ledger, books, operation)
    if isinstance(after, Refusal):
        raise RuntimeError(after.reason)
    return after


def growing(sizes: tuple[int, ...] = (200, 2_000), rounds: int = 5) -> list[Row]:
    """CPU milliseconds of one judgement, by the number of updates; the ratio is that per update to the first size's."""
    rows: list[Row] = []
    first: dict[str, float] = {}
    for size in sizes:
        ledger = _ledger(size)
        opening = _booked(ledger, Books(), "initialise", DEPLOYED)
        books = _booked(ledger, opening, "sync", ledger.head)
        for name, work in _works(ledger, opening, books).items():
            spent = min(_timed(work) for _ in range(rounds)) * 1_000
            each = spent / size
            rows.append((f"{name}, {size:,} updates", spent, "ms CPU", each / first[name] if name in first else None))
            first.setdefault(name, each)
    return rows


def _works(ledger: Ledger, opening: Books, books: Books) -> dict[str, Callable[[], object]]:
    short, foreign = copy_books(books), copy_books(books)
    for reserve in short.portfolio.reserves.values():
        for update_id in list(reserve.balance_updates)[::2]:
            del reserve.balance_updates[update_id]
    for reserve in foreign.portfolio.reserves.values():
        for update in reserve.balance_updates.values():
            update.tx_hash = "0x" + (update.tx_hash or "")[2:][::-1]
    state = judged_json(books)
    head = ledger.head

    def compare(actual: Books, some: bool) -> None:
        if bool(compare_books(books, actual, ledger, HERE)) is not some:
            raise RuntimeError("the comparison is wrong")

    def laws() -> None:
        drawn = statements(opening, books, books, ledger, head)
        if judge_laws(Checkpoint(before=opening, books=books, statements=drawn, found_at=HERE)).breaks:
            raise RuntimeError("right books break a law")

    def sweep() -> None:
        if first_difference(state, judged_json(copy_books(books))) is not None:
            raise RuntimeError("a copy differs")

    return {
        "work the books out from the ledger": lambda: _booked(ledger, opening, "sync", head),
        "compare books that are right": partial(compare, copy_books(books), False),
        "compare books that lack every other update": partial(compare, short, True),
        "compare books whose hashes are all wrong": partial(compare, foreign, True),
        "statement and laws": laws,
        "compare one state of a sweep": sweep,
    }


def _timed(function: Callable[[], object]) -> float:
    """CPU seconds."""
    started = time.process_time()
    function()
    return time.process_time() - started
