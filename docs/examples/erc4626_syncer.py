"""A complete small syncer: deposits and withdrawals of an ERC-4626 vault.

Run it from the checkout's top folder:

    PYTHONPATH=docs/examples harness run scenarios/donation_attack_books_flows_only.yaml \
        --syncer erc4626_syncer:Erc4626Syncer

It works on a copy of the books that it is given: a node may fail it at any call, and then they are as they were.
"""

from datetime import UTC, datetime
from fractions import Fraction

from eth_abi import decode
from eth_utils import keccak, to_checksum_address
from hexbytes import HexBytes

from harness import SyncRefused
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


class Erc4626Syncer:
    def __init__(self, target):
        if target.kind != "erc4626":
            raise SyncRefused(f"vault kind {target.kind!r} is not supported")
        self.target = target

    def initialise(self, view, books):
        if books.sync.is_initialised():
            raise SyncRefused("the books are initialised already")
        books = copy_books(books)
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
        return books

    def sync_treasury(self, view, books, cycle):
        self._refuse_other_books(view, books)
        books = copy_books(books)
        treasury = books.sync.treasury
        if treasury.last_cycle_at is not None and cycle < treasury.last_cycle_at:
            raise SyncRefused(f"cycle {cycle} is before the last one, {treasury.last_cycle_at}")
        treasury.last_updated_at = view.now
        treasury.last_cycle_at = cycle
        cursor = treasury.last_block_scanned
        if cursor is not None and cursor >= view.end_block:
            return books  # nothing to read
        start_block = books.sync.deployment.block_number if cursor is None else cursor + 1
        asset = self.target.reserve
        reserve = books.portfolio.reserves.setdefault(asset.identifier, ReservePosition(asset=asset))
        logs = self._logs(view, self.target.vault, [[DEPOSIT, WITHDRAW]], start_block, view.end_block)
        for log in logs:
            owner = to_checksum_address(log["topics"][-1][-20:])  # the last indexed field of either event
            if "0x" + log["topics"][0].hex() == DEPOSIT:
                cause, raw = BalanceUpdateCause.deposit, self._arrived(view, logs, log)
            else:
                cause, raw = BalanceUpdateCause.redemption, -decode(["uint256"] * 2, log["data"])[0]
            if raw != 0:
                self._book(view, books, reserve, cycle, log, cause, raw, owner)
        reserve.reserve_token_price = usd_float(self._price(view, view.end_block))
        reserve.last_pricing_at = reserve.last_sync_at = self._mined_at(view, view.end_block)
        treasury.last_block_scanned = view.end_block
        return books

    def sync_interest(self, view, books):
        self._refuse_other_books(view, books)
        books = copy_books(books)
        interest = books.sync.interest
        if books.sync.treasury.last_block_scanned != view.end_block:
            raise SyncRefused(f"the treasury stands at block {books.sync.treasury.last_block_scanned}")
        if self.target.reserve.is_rebase():
            raise SyncRefused("interest on the reserve is not supported")
        interest.last_sync_at = self._mined_at(view, view.end_block)
        interest.last_sync_block = view.end_block
        return books

    def correct_accounts(self, view, books):
        raise SyncRefused("correcting accounts is not supported")

    def _refuse_other_books(self, view, books):
        deployment, cursor = books.sync.deployment, books.sync.treasury.last_block_scanned
        if not books.sync.is_initialised():
            raise SyncRefused("the books are not initialised")
        if (deployment.chain_id, deployment.address) != (self.target.chain_id, self.target.vault):
            raise SyncRefused(f"the books are of {deployment.address} on chain {deployment.chain_id}")
        if cursor is not None and view.head < cursor:
            raise SyncRefused(f"the node's head {view.head} is below the last block scanned, {cursor}")

    def _book(self, view, books, reserve, cycle, log, cause, raw, owner):
        decimals, portfolio, block = reserve.asset.decimals, books.portfolio, log["blockNumber"]
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
            tx_hash="0x" + log["transactionHash"].hex(),
            log_index=log["logIndex"],
            block_number=block,
        )
        portfolio.next_balance_update_id += 1
        # Whole raw units: a sum of Decimals would be rounded to 28 digits.
        reserve.quantity = to_decimal(to_raw(reserve.quantity, decimals) + raw, decimals)
        reserve.balance_updates[update.balance_update_id] = update
        books.sync.treasury.balance_update_refs.append(
            BalanceEventRef(
                balance_event_id=update.balance_update_id,
                strategy_cycle_included_at=cycle,
                cause=cause,
                position_type=update.position_type,
                usd_value=update.usd_value,
            )
        )

    def _arrived(self, view, flows, deposit):
        """What the transfers of this very call brought: those after the transaction's flow before it."""
        block, transaction, place = deposit["blockNumber"], deposit["transactionHash"], deposit["logIndex"]
        same = [log["logIndex"] for log in flows if log["transactionHash"] == transaction]
        before = max((index for index in same if index < place), default=-1)
        to_holder = "0x" + self.target.holder[2:].lower().rjust(64, "0")
        transfers = self._logs(view, self.target.reserve.address, [TRANSFER, None, to_holder], block, block)
        return sum(
            decode(["uint256"], log["data"])[0]
            for log in transfers
            if log["transactionHash"] == transaction and before < log["logIndex"] < place
        )

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
        """All logs of a block; refused unless they count through and make up its bloom."""
        logs, seen = {}, 0
        for given in view.get_logs(None, None, block, block):
            index = given["logIndex"]
            if not given["removed"]:
                index = int(index, 16) if isinstance(index, str) else index
                hash_ = HexBytes(given["transactionHash"])
                logs[index] = {**given, "blockNumber": block, "logIndex": index, "transactionHash": hash_}
                for part in (given["address"], *given["topics"]):
                    seen |= _bits(part)
        if seen != bloom or sorted(logs) != list(range(len(logs))):
            raise SyncRefused(f"the node does not give all logs of block {block}")
        return [logs[index] for index in sorted(logs)]

    def _price(self, view, block):
        """US dollars per token at the end of a block, exact."""
        feed = self.target.feeds[self.target.reserve]
        answer = view.call(feed, "latestRoundData()(uint80,int256,uint256,uint256,uint80)", block=block)[1]
        return Fraction(answer, 10**8)

    def _mined_at(self, view, block):
        timestamp = view.header(block).timestamp
        if timestamp == 0:
            raise SyncRefused(f"the node does not give the time of block {block}")
        return datetime.fromtimestamp(timestamp, tz=UTC).replace(tzinfo=None)


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
