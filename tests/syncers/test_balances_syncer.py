"""The balances-first syncer on real chains, behind nodes that withhold, invent or muddle what they say."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest

from harness.books import Books, dump_books
from harness.errors import CallReverted, SyncRefused
from harness.judging import judge
from harness.ledger.bookkeeping import Refusal
from harness.reconcile.diff import BreakKind
from harness.scenario.loader import loads
from harness.session import Point, Session
from harness.sweeps import judged_json
from harness.syncers import Syncer, Target
from harness.syncers.balances import BalancesSyncer
from harness.syncers.balances.words import bloom_of, signature_hash
from harness.syncers.reference import ReferenceSyncer
from harness.world.acts import Played, SyncAct
from harness.world.play import play

FUND = """
title: A fund with something of everything
tokens:
  USDC: {decimals: 6, usd: 1}
  WETH: {decimals: 18, usd: 1600}
  aUSDC: {kind: index_rebase, underlying: USDC}
vault: {kind: enzyme, reserve: USDC}
deploy_block:
  - deposit: {caller: alice, assets: 500}
steps:
  - mine: 2
  - sync:
  - trade: {sell: 100 USDC, buy: 0.0625 WETH}
  - supply: {assets: 100 USDC, into: aUSDC}
  - supply: {assets: 50 USDC, into: aUSDC, position: new}
  - sync_interest:
    refused: treasury
  - sync:
  - rebase: {token: aUSDC, factor: 1.0001}
  - block:
      - deposit: {caller: bob, assets: 70, receiver: carol}
      - redeem: {caller: alice, shares: 10%}
      - deposit: {caller: bob, assets: 70, receiver: carol}
  - donate: {caller: mallory, assets: 3 USDC}
  - transfer_shares: {caller: alice, receiver: dave, shares: 50}
  - mine: 3
  - redeem: {caller: dave, shares: 20, receiver: erin}
  - take: {assets: 1 USDC}
  - sync:
  - sync_interest:
"""
SHARE_TOKEN = """
title: A share token's four flows
tokens:
  USDC: {decimals: 6, usd: 1}
vault: {kind: erc4626, reserve: USDC}
steps:
  - deposit: {caller: alice, assets: 500, receiver: bob}
  - donate: {caller: mallory, assets: 3 USDC}
  - block:
      - mint: {caller: carol, shares: 70}
      - withdraw: {caller: alice, assets: 20, owner: bob, receiver: erin}
      - deposit: {caller: carol, assets: 70}
  - take: {assets: 1 USDC}
  - redeem: {caller: bob, shares: 50%}
  - sync:
  - sync_interest:
"""


REFUSING = """
title: What is refused, skipped, and said twice
tokens:
  USDC: {decimals: 6, usd: 1}
  WETH: {decimals: 18, usd: 1600, dust: {absolute: 0.001}}
  aUSDC: {kind: index_rebase, underlying: USDC}
vault: {kind: enzyme, reserve: USDC, tracked: [USDC, WETH, aUSDC]}
steps:
  - initialise: {end_block: 1}
    refused: true
  - mine: 4
  - initialise:
    expect:
      deployment: {block_number: 2}
  - initialise:
    refused: true
  - deposit: {caller: alice, assets: 500}
  - sync:
  - sync:
  - sync: {cycle: 2023-01-01 00:00}
    refused: cycle
  - donate: {caller: mallory, assets: 0.001 WETH}
  - redeem: {caller: alice, shares: 50%}
  - sync:
  - sync_interest:
  - supply: {assets: 100 raw USDC, into: aUSDC, position: new}
  - supply: {assets: 100 raw USDC, into: aUSDC, position: new}
  - rebase: {token: aUSDC, balance: 201 raw aUSDC}
  - redeem: {caller: alice, shares: 10%}
  - sync:
  - sync_interest:
  - sync_interest:
  - redeem: {caller: alice, shares: 10%}
  - sync: {end_block: head-1}
  - sync_interest: {end_block: 4}
    refused: true
  - rebase: {token: aUSDC, factor: 2}
  - sync:
  - sync_interest:
    refused: bound
  - donate: {caller: mallory, assets: 5 WETH}
  - redeem: {caller: alice, shares: 50%}
  - sync:
    refused: WETH
"""
REBASING = """
title: A reserve that rebases
tokens:
  aUSDC: {kind: index_rebase, decimals: 6, usd: 1}
  WETH: {decimals: 18, usd: 1600}
vault: {kind: enzyme, reserve: aUSDC}
steps:
  - deposit: {caller: alice, assets: 500}
  - mine: 130
  - sync:
  - rebase: {token: aUSDC, factor: 1.01}
  - redeem: {caller: alice, shares: 10%}
  - sync:
  - sync_interest:
  - redeem: {caller: alice, shares: all}
  - sync:
  - sync_interest:
  - rebase: {token: aUSDC, factor: 1.01}
  - sync:
  - sync_interest:
"""
SPLITTING = """
title: Redemptions that split unevenly, twice in one sync
tokens:
  USDC: {decimals: 6, usd: 1}
  aUSDC: {kind: index_rebase, underlying: USDC}
vault: {kind: enzyme, reserve: USDC}
steps:
  - deposit: {caller: alice, assets: 500}
  - sync:
  - supply: {assets: 2 raw USDC, into: aUSDC, position: new}
  - supply: {assets: 3 raw USDC, into: aUSDC, position: new}
  - redeem: {caller: alice, shares: 20%}
  - redeem: {caller: alice, shares: 25%}
  - supply: {assets: 1 raw USDC, into: aUSDC, position: 1, unsynced: true}
  - sync:
  - sync_interest:
"""


@pytest.fixture(scope="module", params=[FUND, SHARE_TOKEN], ids=["enzyme", "erc4626"])
def played(request: pytest.FixtureRequest) -> Played:
    return history(request.param)


@cache
def history(text: str) -> Played:
    return play(loads(text, "history.yaml"))


@pytest.fixture(scope="module")
def fund() -> Played:
    return history(FUND)


MEMORIES: dict[int, dict[object, object]] = {}
"""What was read of each history; lies are told in front of it."""


class Liar:
    """A view of which a test overrides what it wants; no second door stands open beside it."""

    web3: Any = None

    def __init__(self, view: Any) -> None:
        self._view = view

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)


class Behind:
    """The syncer, behind a node that lies."""

    def __init__(self, target: Target, lie: Callable[[Any], Any], *, initialise: bool = True) -> None:
        self.target = target
        self._syncer = BalancesSyncer(target, pause=lambda seconds: None)
        self._lie = lie
        self._lies_at_once = initialise

    def initialise(self, view: Any, books: Books) -> Books:
        return self._syncer.initialise(self._lie(view) if self._lies_at_once else view, books)

    def sync_treasury(self, view: Any, books: Books, cycle: Any) -> Books:
        return self._syncer.sync_treasury(self._lie(view), books, cycle)

    def sync_interest(self, view: Any, books: Books) -> Books:
        return self._syncer.sync_interest(self._lie(view), books)

    def correct_accounts(self, view: Any, books: Books) -> Books:
        return self._syncer.correct_accounts(view, books)


def run(played: Played, factory: Callable[[Target], Syncer] = BalancesSyncer, **options: Any) -> list[Point]:
    memory = MEMORIES.setdefault(id(played), {})
    session = Session(played, factory, memory=memory, **options)
    return [point for point in session.points() if isinstance(point.act, SyncAct)]


def behind(played: Played, lie: Callable[[Any], Any], **options: Any) -> list[Point]:
    """The syncer's operations; it refuses what it must, and never raises anything else."""
    points = run(played, lambda target: Behind(target, lie, **options))
    assert {None, BreakKind.different} >= {point.failure and point.failure.kind for point in points}
    return points


def unasked_refusal(played: Played, points: list[Point]) -> str:
    """The first refusal that the truth does not have, "" if there is none."""
    refused = [point.refusal for point in points if point.refusal and not isinstance(point.act.expected, Refusal)]
    return refused[0] if refused else ""


def told(points: list[Point]) -> list[tuple[Any, ...]]:
    """What the last books say was moved, by whom."""
    portfolio = points[-1].after.portfolio
    holders = [*portfolio.reserves.values(), *portfolio.open_positions.values()]
    return sorted(
        (update.block_number, update.cause, str(update.quantity), update.owner_address or "", update.position_id or 0)
        for holder in holders
        for update in holder.balance_updates.values()
    )


def compared(books: Books) -> dict[str, Any]:
    """What of some books is compared: neither clocks, nor what a syncer remembers, nor the entries of interest."""
    state = judged_json(books)
    (state["sync"]["interest"]["last_distribution"] or {}).pop("entries", None)
    return state


def altered(header: Any, **changes: Any) -> SimpleNamespace:
    names = ("number", "hash", "parent_hash", "timestamp", "logs_bloom")
    return SimpleNamespace(**{name: getattr(header, name) for name in names} | changes)


def without_logs(is_hidden: Callable[[Any], bool], *, cunning: bool) -> Callable[[Any], Any]:
    """A node that withholds logs; a cunning one closes the gap in their numbers and mends the bloom filter."""

    class Withholding(Liar):
        def get_logs(self, *asked: Any) -> list[Any]:
            kept = [log for log in self._view.get_logs(*asked) if not is_hidden(log)]
            return [dict(log) | {"logIndex": at} for at, log in enumerate(kept)] if cunning else kept

        def header(self, block: int) -> Any:
            header = self._view.header(block)
            if not cunning:
                return header
            logs = self.get_logs(None, None, block, block)
            bloom = bloom_of(
                element for log in logs for element in (bytes.fromhex(log["address"][2:]), *map(bytes, log["topics"]))
            )
            return altered(header, logs_bloom=bloom)

    return Withholding


def all_logs(played: Played) -> Iterator[tuple[int, int]]:
    chain = played.chain
    for block in range(2, chain.head + 1):
        for log in chain.logs(block, block, [], []):
            yield block, log.log_index


# -- the truth, and the other reference


@pytest.mark.parametrize("text", [FUND, SHARE_TOKEN, REFUSING, REBASING, SPLITTING])
def test_books_are_those_of_the_ledger_and_of_the_first_reference(text):
    played = history(text)
    points = run(played)
    assert [] == [broken.sentence for point in points for broken in judge(played, point).breaks]
    for ours, theirs in zip(points, run(played, ReferenceSyncer), strict=True):
        assert compared(theirs.after) == compared(ours.after)
        assert (theirs.refusal is None) == (ours.refusal is None)


def test_two_syncers_may_take_turns_on_one_set_of_books(played):
    """All but their memories of blocks, which are each one's own."""

    class Turns:
        def __init__(self, target: Target) -> None:
            self._both = [BalancesSyncer(target), ReferenceSyncer(target)]

        def __getattr__(self, verb: str) -> Any:
            def operate(view: Any, books: Books, *more: Any) -> Any:
                books.block_hashes.clear()
                return getattr(self._both[0], verb)(view, books, *more)

            self._both.reverse()
            return operate

    expected = run(played)[-1].after
    assert compared(expected) == compared(run(played, Turns)[-1].after)


# -- nodes that withhold


def test_whichever_log_is_withheld_nothing_wrong_is_booked(played):
    """Also where numbers and header are made to fit, share supply and balances give the node away."""
    truth = run(played)
    refused = harmless = 0
    for place in all_logs(played):
        points = behind(
            played, without_logs(lambda log, at=place: (log["blockNumber"], log["logIndex"]) == at, cunning=True)
        )
        if unasked_refusal(played, points):
            refused += 1
        else:
            assert told(truth) == told(points), place
            harmless += 1
    assert refused >= 15
    assert harmless > 0, "approvals and the second fund's logs matter to nobody"


def test_gap_in_the_numbers_is_noticed(fund):
    block, number = next(place for place in all_logs(fund) if place[1] == 3)
    hide = without_logs(lambda log: (log["blockNumber"], log["logIndex"]) == (block, number), cunning=False)
    assert f"log {number} of block {block} is missing" in unasked_refusal(fund, behind(fund, hide, initialise=False))


def test_header_that_sums_up_more_logs_is_noticed(fund):
    """The last log of a block leaves no gap in the numbers."""
    last = max(place for place in all_logs(fund))
    hide = without_logs(lambda log: (log["blockNumber"], log["logIndex"]) == last, cunning=False)
    assert f"of block {last[0]} are not those that its header sums up" in unasked_refusal(fund, behind(fund, hide))


def with_headers(change: Callable[[int, dict[str, Any]], dict[str, Any] | None]) -> Callable[[Any], Any]:
    class Headers(Liar):
        def header(self, block: int) -> Any:
            found = self._view.header(block)
            changed = change(block, vars(altered(found)))
            return None if changed is None else SimpleNamespace(**changed)

    return Headers


def test_block_whose_header_denies_its_logs_is_noticed_by_share_supply(played):
    last = max(flow.block for flow in played.ledger.flows_between(0, played.chain.head))
    lie = with_headers(lambda block, header: header | ({"logs_bloom": bytes(256)} if block == last else {}))
    assert "the share supply is" in unasked_refusal(played, behind(played, lie))


def test_transfer_that_a_header_denies_is_noticed_by_balances(fund):
    donated = next(
        at
        for at in range(3, fund.chain.head)
        if fund.ledger.supply(at) == fund.ledger.supply(at - 1)
        and fund.ledger.balance("USDC", at) == fund.ledger.balance("USDC", at - 1) + 3_000_000
    )
    lie = with_headers(lambda block, header: header | ({"logs_bloom": bytes(256)} if block == donated else {}))
    assert "the USDC held are" in unasked_refusal(fund, behind(fund, lie))


@pytest.mark.parametrize("bloom", [b"", None])
def test_node_without_bloom_filters_is_read_block_by_block(played, bloom):
    points = behind(played, with_headers(lambda block, header: header | {"logs_bloom": bloom}))
    assert [dump_books(point.after) for point in run(played)] == [dump_books(point.after) for point in points]


@pytest.mark.parametrize("missing", [2, 5, 16])
def test_null_header_is_refused(fund, missing):
    lie = with_headers(lambda number, header: None if number == missing else header)
    assert f"the node gives no header of block {missing}" == unasked_refusal(fund, behind(fund, lie))


# -- nodes that muddle


def with_logs(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[Any], Any]:
    class Logs(Liar):
        def get_logs(self, *asked: Any) -> list[Any]:
            return change([dict(log) for log in self._view.get_logs(*asked)])

    return Logs


@pytest.mark.parametrize(
    "muddle",
    [
        lambda logs: logs[::-1],
        lambda logs: logs + logs,
        lambda logs: logs + [log | {"removed": True, "data": b""} for log in logs],
    ],
    ids=["shuffled", "repeated", "removed"],
)
def test_logs_are_read_whatever_their_order(played, muddle):
    points = behind(played, with_logs(muddle))
    assert [dump_books(point.after) for point in run(played)] == [dump_books(point.after) for point in points]


def test_two_logs_of_one_number_are_refused(played):
    lie = with_logs(lambda logs: logs + [log | {"data": bytes(32)} for log in logs[:1]])
    assert "is two different ones" in unasked_refusal(played, behind(played, lie, initialise=False))


@pytest.mark.parametrize("field", [{"blockNumber": 1}, {"blockHash": bytes(32)}])
def test_log_of_another_block_is_refused(played, field):
    lie = with_logs(lambda logs: [log | field for log in logs])
    assert "the node gave one of another block" in unasked_refusal(played, behind(played, lie, initialise=False))


# -- logs that say something else than state


def rewritten(event: bytes, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any], Any]:
    """A node that writes one kind of event anew, and headers without a bloom filter."""

    class Rewriting(Liar):
        def get_logs(self, *asked: Any) -> list[Any]:
            logs = [dict(log) for log in self._view.get_logs(*asked)]
            return [log | change(log) if bytes(log["topics"][0]) == event else log for log in logs]

        def header(self, block: int) -> Any:
            return altered(self._view.header(block), logs_bloom=b"")

    return Rewriting


def word(log: dict[str, Any], at: int, value: int) -> dict[str, Any]:
    data = bytes(log["data"])
    return {"data": data[: 32 * at] + value.to_bytes(32, "big") + data[32 * at + 32 :]}


TRANSFER = signature_hash("Transfer(address,address,uint256)")
BOUGHT = signature_hash("SharesBought(address,uint256,uint256,uint256)")
REDEEMED = signature_hash("SharesRedeemed(address,address,uint256,address[],uint256[])")
CREATED = signature_hash("NewFundCreated(address,address,address)")


@pytest.mark.parametrize(
    ("event", "change", "text"),
    [
        (REDEEMED, lambda log: word(log, 0, 5), "tells of 5 shares redeemed, and they were not burned"),
        (REDEEMED, lambda log: word(log, 9, 10**30), "raw .* paid out, and .* left the holder"),
        (REDEEMED, lambda log: word(log, 3, 2), "names 2 assets and 3 quantities"),
        (REDEEMED, lambda log: {"topics": log["topics"][:2]}, "has 1 indexed fields, not 2"),
        (REDEEMED, lambda log: {"data": b""}, "the data ends before word"),
        (BOUGHT, lambda log: {"topics": log["topics"][:1]}, "has 0 indexed fields, not 1"),
        (BOUGHT, lambda log: word(log, 1, 5), "minted shares and paid assets in, and no event tells"),
        (TRANSFER, lambda log: {"topics": log["topics"][:2]}, "is a Transfer with 1 indexed fields, not 2"),
        (TRANSFER, lambda log: word(log, 0, 0), "the logs tell of"),
        (CREATED, lambda log: {"topics": []}, "its deployer never announced it"),
        (CREATED, lambda log: word(log, 1, 1), "the logs tell of|no event tells"),
    ],
)
def test_events_that_contradict_state_are_refused(fund, event, change, text):
    assert re.search(text, unasked_refusal(fund, behind(fund, rewritten(event, change))))


# -- what is asked of it


def asked(played: Played, change: Callable[[Target], Target], lie: Callable[[Any], Any] = Liar) -> str:
    """What it says to its first treasury sync when it is pointed at something else, on books that are right."""
    said: list[str] = []

    class Pointed(Behind):
        def sync_treasury(self, view: Any, books: Books, cycle: Any) -> Books:
            syncer = BalancesSyncer(change(self.target))
            given = dump_books(books)
            for verb, more in (("sync_treasury", (cycle,)), ("sync_interest", ()), ("correct_accounts", ())):
                try:
                    getattr(syncer, verb)(lie(view), books, *more)
                except SyncRefused as refusal:
                    said.append(str(refusal))
            assert given == dump_books(books)
            return super().sync_treasury(view, books, cycle)

    run(played, lambda target: Pointed(target, Liar))
    return said[0]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"chain_id": 5}, "these are books of chain 1337, and the chain is 5"),
        ({"vault": "0x" + "11" * 20}, "these are books of vault 0x.*, and the vault is 0x1111"),
        ({"kind": "wallet"}, "vaults of kind 'wallet' are not supported yet"),
        ({"feeds": {}}, "USDC has no price feed"),
    ],
)
def test_books_and_targets_that_do_not_fit_are_refused(played, change, text):
    assert re.match(text, asked(played, lambda target: dataclasses.replace(target, **change)))


def with_view(**values: Any) -> Callable[[Any], Any]:
    return type("Overriding", (Liar,), values)


def test_node_that_is_behind_is_refused(played):
    said = unasked_refusal(played, behind(played, with_view(head=1)))
    assert re.match(r"the node is behind: its head is 1, and block \d+ is needed", said)


def answering(function: str, change: Callable[[int, Any], Any]) -> Callable[[Any], Any]:
    """A node that answers one function its own way."""

    class Answering(Liar):
        def call(self, address: str, signature: str, *arguments: Any, block: int) -> Any:
            answer = self._view.call(address, signature, *arguments, block=block)
            return change(block, answer) if signature.startswith(f"{function}(") else answer

    return Answering


def reverts(block: int, answer: Any) -> Any:
    raise CallReverted("out of order")


@pytest.mark.parametrize(
    ("function", "change", "text"),
    [
        ("totalSupply", lambda block, supply: supply + (block == 10), "the share supply moved by .* in block 10"),
        ("totalSupply", lambda block, supply: supply + (block == 14), "the share supply is .* at block 14, and no log"),
        ("balanceOf", lambda block, held: held + (block == 10), "the USDC held moved by .* in block 10, and the logs"),
        ("balanceOf", lambda block, held: held + (block == 14), "the USDC held are .* at block 14, and no log tells"),
        ("getAccessor", lambda block, accessor: "0x" + f"{block:040x}", "the vault's accessor at block 4 is one that"),
        ("getAccessor", reverts, "getAccessor of 0x.* at block 4: out of order"),
        ("latestRoundData", lambda block, answer: (1, -5, 1, 1, 1), "price feed 0x.* says -5 at block 2"),
        ("name", reverts, "name of 0x.* at block 2: out of order"),
    ],
)
def test_state_that_contradicts_logs_or_sense_is_refused(fund, function, change, text):
    assert re.match(text, unasked_refusal(fund, behind(fund, answering(function, change))))


def test_feed_that_is_not_there_is_refused(fund):
    class Empty(Liar):
        def code(self, address: str, block: int) -> bytes:
            return b"" if address in feeds else self._view.code(address, block)

    feeds: set[str] = set()

    def factory(target: Target) -> Syncer:
        feeds.update(target.feeds.values())
        return Behind(target, Empty)

    assert re.match("price feed 0x.* is not there at block 2", unasked_refusal(fund, run(fund, factory)))


def test_books_finer_than_their_token_are_refused(fund):
    class Finer(Behind):
        def sync_treasury(self, view: Any, books: Books, cycle: Any) -> Books:
            for reserve in books.portfolio.reserves.values():
                reserve.quantity += Decimal("0.0000001")
            return super().sync_treasury(view, books, cycle)

    points = run(fund, lambda target: Finer(target, Liar))
    assert "the books hold USDC finer than its 6 decimals" == unasked_refusal(fund, points)


def test_range_before_the_deployment_holds_nothing(fund):
    """Books are initialised at block 2, and asked for no more than block 1."""

    class Early(Behind):
        def initialise(self, view: Any, books: Books) -> Books:
            initialised.append(super().initialise(view, books))
            return initialised[-1]

        def sync_treasury(self, view: Any, books: Books, cycle: Any) -> Books:
            early = type("Early", (Liar,), {"end_block": 1})(view)
            found.append(self._syncer.sync_treasury(early, initialised[0], cycle))
            return super().sync_treasury(view, books, cycle)

    initialised: list[Books] = []
    found: list[Books] = []
    run(fund, lambda target: Early(target, Liar))
    assert (1, []) == (found[0].sync.treasury.last_block_scanned, found[0].sync.treasury.balance_update_refs)


def test_hashes_of_the_last_128_blocks_scanned_are_kept():
    synced = [point.after for point in run(history(REBASING)) if point.after.sync.treasury.last_block_scanned]
    for books in synced:
        cursor = books.sync.treasury.last_block_scanned or 0
        assert list(range(cursor - 127, cursor + 1)) == sorted(books.block_hashes)


def test_deployment_that_a_header_denies_is_refused(played):
    lie = with_headers(lambda block, header: header | {"logs_bloom": bytes(256)})
    said = unasked_refusal(played, behind(played, lie))
    assert re.match("vault 0x.* is there since block 2, and its deployer never announced it", said)


def test_leg_of_an_asset_that_nobody_knows_is_refused(fund):
    """No transfer of it is looked at, so that none can be seen to leave."""

    class Knowing(Behind):
        def sync_treasury(self, view: Any, books: Books, cycle: Any) -> Books:
            feeds = {asset: feed for asset, feed in self.target.feeds.items() if asset.token_symbol != "WETH"}
            positions = books.portfolio.open_positions
            if any(position.asset.token_symbol == "WETH" for position in positions.values()):
                self._syncer = BalancesSyncer(dataclasses.replace(self.target, feeds=feeds))
            return super().sync_treasury(view, books, cycle)

    said = unasked_refusal(fund, run(fund, lambda target: Knowing(target, Liar)))
    assert re.search(r"tells of \d+ raw 0x\w+ paid out, and 0 left the holder", said)
