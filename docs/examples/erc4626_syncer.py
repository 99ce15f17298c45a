"""A complete small syncer: deposits and withdrawals of an ERC-4626 vault, corrections, reorganisations.

Run it from the checkout's top folder:

    PYTHONPATH=docs/examples harness run scenarios/donation_attack_books_flows_only.yaml \
        --syncer erc4626_syncer:Erc4626Syncer

It works on a copy of the books that it is given: a node may fail it at any call, and then they are as they were.
What it leaves out, and refuses: interest on a reserve that rebases, and corrections of other tokens than the reserve.
"""

import time
from datetime import UTC, datetime
from fractions import Fraction

from eth_abi import decode
from eth_utils import keccak, to_checksum_address
from hexbytes import HexBytes

from harness import NodeError, SyncRefused
from harness.books import (
    BalanceEventRef,
    BalanceUpdate,
    BalanceUpdateCause,
    BalanceUpdatePositionType,
    ReservePosition,
    copy_books,
)
from harness.units import to_decimal, to_raw, usd_float

VAULT_CREATED, DEPOSIT, WITHDRAW, TRANSFER = (
    "0x" + keccak(text=signature).hex()
    for signature in (
        "VaultCreated(address,address)",
        "Deposit(address,address,uint256,uint256)",
        "Withdraw(address,address,address,uint256,uint256)",
        "Transfer(address,address,uint256)",
    )
)

KEPT = 128  # hashes of so many scanned blocks are kept: no reorganisation is deeper
OVERWRITTEN = (
    ("treasury", "last_block_scanned last_cycle_at last_updated_at"),
    ("accounting", "last_block_scanned last_updated_at"),
    ("interest", "last_sync_at last_sync_block"),
    ("reserve", "reserve_token_price last_pricing_at last_sync_at"),
)


class Erc4626Syncer:
    def __init__(self, target):
        if target.kind != "erc4626":
            raise SyncRefused(f"vault kind {target.kind!r} is not supported")
        self.target = target

    def initialise(self, view, books):
        if books.sync.is_initialised():
            raise SyncRefused("the books are initialised already")
        view, books = Patient(view), copy_books(books)
        for log in self._logs(view, self.target.deployer, [VAULT_CREATED], 0, view.end_block):
            if decode(["address"], log["data"])[0] == self.target.vault.lower():  # the factory deploys others as well
                break
        else:
            raise SyncRefused(f"{self.target.vault} is not deployed at block {view.end_block}")
        deployment = books.sync.deployment
        deployment.chain_id = self.target.chain_id
        deployment.address = self.target.vault
        deployment.block_number = log["blockNumber"]
        deployment.tx_hash = "0x" + log["transactionHash"].hex()
        deployment.block_mined_at = self._mined_at(view, log["blockNumber"])
        deployment.vault_token_name = view.call(self.target.vault, "name()(string)")
        deployment.vault_token_symbol = view.call(self.target.vault, "symbol()(string)")
        deployment.initialised_at = self._mined_at(view, view.end_block)
        books.block_hashes[view.end_block] = {"hash": self._hash(view, view.end_block)}
        return books

    def sync_treasury(self, view, books, cycle):
        return _until_it_stands(lambda: self._sync_treasury(view, books, cycle))

    def correct_accounts(self, view, books):
        return _until_it_stands(lambda: self._correct_accounts(view, books))

    def _sync_treasury(self, view, books, cycle):
        view, books, reserve, end_hash = self._begin(view, books)
        treasury = books.sync.treasury
        if treasury.last_cycle_at is not None and cycle < treasury.last_cycle_at:
            raise SyncRefused(f"cycle {cycle} is before the last one, {treasury.last_cycle_at}")
        cursor = treasury.last_block_scanned
        found = self._found(books, reserve)
        treasury.last_updated_at = view.now
        treasury.last_cycle_at = cycle
        if cursor is not None and cursor >= view.end_block:
            return books  # nothing to read
        start_block = books.sync.deployment.block_number if cursor is None else cursor + 1
        logs = self._logs(view, self.target.vault, [[DEPOSIT, WITHDRAW]], start_block, view.end_block)
        for log in logs:
            owner = to_checksum_address(log["topics"][-1][-20:])  # the last indexed field of either event
            if "0x" + log["topics"][0].hex() == DEPOSIT:
                cause, raw = BalanceUpdateCause.deposit, self._arrived(view, logs, log)
            else:
                cause, raw = BalanceUpdateCause.redemption, -decode(["uint256"] * 2, log["data"])[0]
            if raw != 0:
                self._book(view, books, reserve, cause, raw, log, cycle, owner)
        reserve.reserve_token_price = usd_float(self._price(view, view.end_block))
        reserve.last_pricing_at = reserve.last_sync_at = self._mined_at(view, view.end_block)
        treasury.last_block_scanned = view.end_block
        self._end(view, books, start_block, found, end_hash)
        return books

    def sync_interest(self, view, books):
        view, books, reserve, _ = self._begin(view, books)
        interest = books.sync.interest
        if books.sync.treasury.last_block_scanned != view.end_block:
            raise SyncRefused(f"the treasury stands at block {books.sync.treasury.last_block_scanned}")
        if reserve.asset.is_rebase():
            raise SyncRefused("interest on the reserve is not supported")
        interest.last_sync_at = self._mined_at(view, view.end_block)
        interest.last_sync_block = view.end_block
        return books

    def _correct_accounts(self, view, books):
        view, books, reserve, end_hash = self._begin(view, books)
        cursor = books.sync.treasury.last_block_scanned
        if cursor is not None and view.end_block < cursor:
            raise SyncRefused(f"block {view.end_block} is before the last block scanned, {cursor}")
        found = self._found(books, reserve)
        for asset in self.target.feeds:
            held = Fraction(reserve.quantity) if asset == reserve.asset else Fraction(0)
            there = view.call(asset.address, "balanceOf(address)(uint256)", self.target.holder)
            there = Fraction(there, 10**asset.decimals)
            dust = self.target.dust[asset]
            if max(abs(there), abs(held)) <= dust.absolute or abs(there - held) <= Fraction(dust.relative) * abs(held):
                continue
            if asset != reserve.asset:
                raise SyncRefused(f"the vault holds {asset.token_symbol}, which is not supported")
            raw = int((there - held) * 10**asset.decimals)
            self._book(view, books, reserve, BalanceUpdateCause.correction, raw)
        start_block = books.sync.deployment.block_number if cursor is None else cursor + 1
        books.sync.accounting.last_updated_at = view.now
        books.sync.accounting.last_block_scanned = books.sync.treasury.last_block_scanned = view.end_block
        self._end(view, books, start_block, found, end_hash)
        return books

    # -- books and blocks that belong to them

    def _begin(self, view, books):
        """Refuse what is not ours; go back where blocks were replaced. Gives what the operation works with."""
        deployment, cursor = books.sync.deployment, books.sync.treasury.last_block_scanned
        if not books.sync.is_initialised():
            raise SyncRefused("the books are not initialised")
        if (deployment.chain_id, deployment.address) != (self.target.chain_id, self.target.vault):
            raise SyncRefused(f"the books are of {deployment.address} on chain {deployment.chain_id}")
        if view.end_block > view.head:
            raise SyncRefused(f"block {view.end_block} is above the node's head, {view.head}")
        view, books, asset = Patient(view), copy_books(books), self.target.reserve
        reserve = books.portfolio.reserves.setdefault(asset.identifier, ReservePosition(asset=asset))
        kept = sorted((block for block in books.block_hashes if block <= view.head), reverse=True)
        common = next((one for one in kept if books.block_hashes[one]["hash"] == self._hash(view, one)), None)
        if kept and common != kept[0]:
            if common is None:
                raise SyncRefused("blocks were replaced deeper than the books reach")
            self._go_back(books, reserve, common)
        elif cursor is not None and view.head < cursor:
            raise SyncRefused(f"the node's head {view.head} is below the last block scanned, {cursor}")
        return view, books, reserve, self._hash(view, view.end_block)

    def _found(self, books, reserve):
        """What an operation finds and will overwrite, as JSON: with it the operation can be undone."""
        found = {"next_balance_update_id": books.portfolio.next_balance_update_id}
        for name, fields in OVERWRITTEN:
            record = reserve if name == "reserve" else getattr(books.sync, name)
            values = {field: getattr(record, field) for field in fields.split()}
            found[name] = {
                field: value.isoformat() if isinstance(value, datetime) else value for field, value in values.items()
            }
        return found

    def _go_back(self, books, reserve, common):
        """Undo the first operation that ended above the last common block, and all after it."""
        kept = books.block_hashes
        gone = {block: kept.pop(block) for block in sorted(kept) if block > common}
        found = next((entry["found"] for entry in gone.values() if "found" in entry), None)
        if found is None:
            return
        first = found["next_balance_update_id"]  # ids themselves never go back
        raw = to_raw(reserve.quantity, reserve.asset.decimals)
        for update_id in [each for each in reserve.balance_updates if each >= first]:
            raw -= to_raw(reserve.balance_updates.pop(update_id).quantity, reserve.asset.decimals)
        reserve.quantity = to_decimal(raw, reserve.asset.decimals)
        for records in (books.sync.treasury, books.sync.accounting):
            refs = records.balance_update_refs
            refs[:] = [ref for ref in refs if ref.balance_event_id < first]
        for name, fields in OVERWRITTEN:
            record = reserve if name == "reserve" else getattr(books.sync, name)
            for field in fields.split():
                value = found[name][field]
                setattr(record, field, datetime.fromisoformat(value) if isinstance(value, str) else value)

    def _end(self, view, books, start_block, found, end_hash):
        """Keep the hash of every block scanned, unless they changed while they were read."""
        kept = books.block_hashes
        for block in range(max(start_block, view.end_block - KEPT + 1), view.end_block + 1):
            kept.setdefault(block, {})["hash"] = self._hash(view, block)
        if kept[view.end_block]["hash"] != end_hash:
            raise Turned("blocks were replaced while they were read")
        kept[view.end_block].setdefault("found", found)
        for block in sorted(kept)[:-KEPT]:
            del kept[block]

    def _book(self, view, books, reserve, cause, raw, log=None, cycle=None, owner=None):
        """One update of the reserve, and its ref: a flow has a log, a correction has none."""
        decimals, portfolio = reserve.asset.decimals, books.portfolio
        block = view.end_block if log is None else log["blockNumber"]
        update = BalanceUpdate(
            balance_update_id=portfolio.next_balance_update_id,
            cause=cause,
            position_type=BalanceUpdatePositionType.reserve,
            asset=reserve.asset,
            block_mined_at=self._mined_at(view, block),
            strategy_cycle_included_at=cycle,
            chain_id=self.target.chain_id,
            quantity=to_decimal(raw, decimals),
            old_balance=reserve.quantity,
            usd_value=usd_float(Fraction(raw, 10**decimals) * self._price(view, block)),
            created_at=view.now,
            owner_address=owner,
            tx_hash=None if log is None else "0x" + log["transactionHash"].hex(),
            log_index=None if log is None else log["logIndex"],
            block_number=block,
        )
        portfolio.next_balance_update_id += 1
        # Whole raw units: a sum of Decimals would be rounded to 28 digits.
        reserve.quantity = to_decimal(to_raw(reserve.quantity, decimals) + raw, decimals)
        reserve.balance_updates[update.balance_update_id] = update
        booked_by = books.sync.accounting if log is None else books.sync.treasury
        booked_by.balance_update_refs.append(
            BalanceEventRef(
                balance_event_id=update.balance_update_id,
                strategy_cycle_included_at=cycle,
                cause=cause,
                position_type=update.position_type,
                usd_value=update.usd_value,
            )
        )

    # -- what is on chain

    def _arrived(self, view, flows, deposit):
        """What this very call brought: the last transfer to the holder before its shares were minted."""
        block, transaction, place = deposit["blockNumber"], deposit["transactionHash"], deposit["logIndex"]
        same = [log["logIndex"] for log in flows if log["transactionHash"] == transaction]
        before = max((index for index in same if index < place), default=-1)

        def between(address, topics, end):
            logs = self._logs(view, address, topics, block, block)
            return [log for log in logs if log["transactionHash"] == transaction and before < log["logIndex"] < end]

        minted = between(self.target.vault, [TRANSFER, "0x" + "0" * 64], place)
        if not minted:
            return 0
        to_holder = "0x" + self.target.holder[2:].lower().rjust(64, "0")
        paid = between(self.target.reserve.address, [TRANSFER, None, to_holder], minted[-1]["logIndex"])
        return decode(["uint256"], paid[-1]["data"])[0] if paid else 0

    def _logs(self, view, address, topics, start_block, end_block):
        """Logs in order, each once. Nodes lose some: each header's bloom tells whether a block may have any."""
        wanted = [[address], *([topic] if isinstance(topic, str) else topic for topic in topics if topic is not None)]
        logs = []
        for block in range(start_block, end_block + 1):
            bloom = int.from_bytes(view.header(block).logs_bloom, "big")
            if all(any(bloom & _bits(one) == _bits(one) for one in choices) for choices in wanted):
                logs += (log for log in self._logs_of(view, block, bloom) if _is_wanted(log, address, topics))
        return logs

    def _logs_of(self, view, block, bloom):
        """All logs of a block, from its receipts if need be: they must count through and make up its bloom."""
        for source in (lambda: view.get_logs(None, None, block, block), lambda: _from_receipts(view, block)):
            logs, seen = {}, 0
            for given in source():
                if not given["removed"]:
                    index = given["logIndex"]
                    index = int(index, 16) if isinstance(index, str) else index
                    hash_ = HexBytes(given["transactionHash"])
                    logs[index] = {**given, "blockNumber": block, "logIndex": index, "transactionHash": hash_}
                    for part in (given["address"], *given["topics"]):
                        seen |= _bits(part)
            if seen == bloom and sorted(logs) == list(range(len(logs))):
                return [logs[index] for index in sorted(logs)]
        raise SyncRefused(f"the node does not give all logs of block {block}")

    def _price(self, view, block):
        """US dollars per token at the end of a block, exact."""
        feed = self.target.feeds[self.target.reserve]
        answer = view.call(feed, "latestRoundData()(uint80,int256,uint256,uint256,uint80)", block=block)[1]
        return Fraction(answer, 10**8)

    def _hash(self, view, block):
        return "0x" + view.header(block).hash.hex()

    def _mined_at(self, view, block):
        timestamp = view.header(block).timestamp
        if timestamp == 0:
            raise SyncRefused(f"the node does not give the time of block {block}")
        return datetime.fromtimestamp(timestamp, tz=UTC).replace(tzinfo=None)


class Turned(SyncRefused):
    """The chain was reorganised during an operation."""


def _until_it_stands(operation):
    for _ in range(4):
        try:
            return operation()
        except Turned:
            continue
    return operation()


class Patient:
    """A view that asks again, up to five times and a little later each time, what the node failed at."""

    def __init__(self, view):
        self._view = view

    def __getattr__(self, name):
        member = getattr(self._view, name)
        return self._asked(member) if name in ("get_logs", "call", "header") else member

    def _asked(self, member):
        def ask(*arguments, **named):
            for attempt in range(4):
                try:
                    return member(*arguments, **named)
                except NodeError:
                    time.sleep(0.001 * 2**attempt)
            return member(*arguments, **named)

        return ask


def _from_receipts(view, block):
    return [log for receipt in view.web3.eth.get_block_receipts(block) for log in receipt["logs"]]


def _bits(part):
    """The bits of a block's bloom that a log's address or topic sets."""
    digest = keccak(HexBytes(part))
    return sum({1 << (int.from_bytes(digest[at : at + 2], "big") % 2048) for at in (0, 2, 4)})


def _is_wanted(log, address, topics):
    """As a node would filter: by address, and topics by position."""
    if log["address"].lower() != address.lower() or len(log["topics"]) < len(topics):
        return False
    given = ("0x" + topic.hex() for topic in log["topics"])
    return all(want is None or one in want for one, want in zip(given, topics, strict=False))
