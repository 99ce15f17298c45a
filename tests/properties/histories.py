"""Histories of a vault drawn at random: scenarios that play, whatever was drawn.

Steps are drawn freely, with percentages where a number could be too big. What cannot be carried out as drawn is
put right afterwards: a refusal that is due gets announced, a step that nobody could take goes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from harness.errors import ExecutionError, Location, ScenarioError
from harness.scenario.language import NODE_PROFILES
from harness.scenario.loader import loads
from harness.scenario.model import Scenario
from harness.scenario.plan import SETUP_BLOCKS
from harness.world.acts import Played
from harness.world.play import play

FILE = "drawn.yaml"
Step = dict[str, Any]

ACTORS = st.sampled_from(["alice", "bob", "carol"])
PERCENT = st.sampled_from(["1%", "33.333333%", "50%", "99.999999%", "all"]) | st.integers(1, 99).map("{}%".format)
USD = st.sampled_from(["0.5", "0.99999999", "1", "1.00000001", "2"])
FACTOR = st.sampled_from(["1", "0.999", "1.0000001", "1.001", "1.01", "0.97", "1.06"]) | st.integers(
    98 * 10**25, 104 * 10**25
).map(lambda ray: f"{ray // 10**27}.{ray % 10**27:027d}")


def raws(most: int) -> st.SearchStrategy[int]:
    """Base units: few, many, or anything between."""
    return st.one_of(st.integers(1, 5), st.integers(1, most), st.integers(most // 2, most))


def amount(most: int, token: str) -> st.SearchStrategy[str]:
    return raws(most).map(lambda raw: f"{raw} raw {token}")


def step(verb: str, **fields: Any) -> st.SearchStrategy[Step]:
    """A step with each field drawn; a field that is drawn as None is left out."""
    return st.fixed_dictionaries(fields).map(
        lambda drawn: {verb: {key: value for key, value in drawn.items() if value is not None} or None}
    )


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


UNSYNCED = st.just(True)
POSITION = optional(st.integers(1, 3))
ENDS = optional(st.sampled_from(["head-1", "head-2", "head-3"]))
CHUNK = optional(st.integers(1, 3))

_time = st.one_of(
    st.sampled_from([{"wait": "1 s"}, {"wait": "7 days"}, {"wait": "30 days"}]),
    st.integers(1, 3).map(lambda blocks: {"mine": blocks}),
)
_syncing = st.one_of(
    step("sync", end_block=ENDS, chunk=CHUNK).map(lambda one: [one]),
    step("sync", chunk=CHUNK).map(lambda one: [one]),
    step("sync", chunk=CHUNK).map(lambda one: [one, {"sync_interest": None}]),
    step("sync_interest", end_block=ENDS).map(lambda one: [one]),
    step("correct_accounts", end_block=ENDS, chunk=CHUNK).map(lambda one: [one]),
    st.just([{"restart": None}]),
    st.integers(1, 9).map(lambda after: [{"crash": {"after": after}}]),
)
PROFILES = [name for name, profile in NODE_PROFILES.items() if profile.recovers]
_node = st.one_of(
    st.sampled_from([{"profile": name, **({"block": 4} if name == "hole" else {})} for name in PROFILES]),
    st.integers(2, 4).map(lambda head: {"head": head}),
    st.integers(1, 4).map(lambda blocks: {"profile": "lagging", "blocks": blocks}),
)
_behind_a_node = st.tuples(_node, _syncing).map(lambda drawn: [{"node": drawn[0]}, *drawn[1], {"node": {}}])
_enzyme_flows = st.one_of(
    step("deposit", caller=ACTORS, assets=amount(10**9, "USDC"), receiver=optional(ACTORS)),
    step("redeem", caller=ACTORS, shares=PERCENT, receiver=optional(ACTORS)),
    step("redeem", caller=ACTORS, shares=raws(10**18).map(lambda raw: f"{raw} raw"), receiver=optional(ACTORS)),
)
_enzyme_unseen = st.one_of(
    step("transfer_shares", caller=ACTORS, receiver=ACTORS, shares=PERCENT),
    step("donate", caller=ACTORS, assets=amount(10**8, "USDC") | amount(10**8, "aUSDC") | amount(10**17, "WETH")),
    step("take", assets=st.tuples(PERCENT, st.sampled_from(["USDC", "aUSDC", "WETH"])).map(" ".join)),
    step("price", token=st.sampled_from(["USDC", "aUSDC", "WETH"]), usd=USD),
    step("rebase", token=st.just("aUSDC"), factor=FACTOR),
    step("rebase", token=st.just("aUSDC"), balance=raws(10**9).map("{} raw".format)),
)
_enzyme_odd = st.one_of(
    step(
        "redeem",
        caller=ACTORS,
        shares=PERCENT,
        assets=st.permutations(["USDC", "aUSDC", "WETH"]).map(lambda of: of[:2]),
    ),
    step("deposit", caller=ACTORS, assets=amount(10**9, "USDC"), vault=st.just("second")),
    step(
        "charge_fee",
        shares=raws(10**18).map("{} raw".format),
        receiver=ACTORS,
        event=st.sampled_from([None, "deposit"]),
    ),
    step("emit", caller=ACTORS, accessor=st.integers(1, 2), assets=st.just("7 raw"), shares=st.just("7 raw")),
    st.just({"replace_accessor": None}),
    step(
        "pause", token=st.sampled_from(["USDC", "WETH"]), actor=optional(ACTORS), paused=st.sampled_from([None, False])
    ),
    step("accrue", token=st.sampled_from(["aUSDC", "vdUSDC"]), rate=st.sampled_from(["5%", "0", "0.3%"])),
    step("donate", caller=ACTORS, assets=amount(10**9, "OUSD")),
    st.just({"opt_in": {"token": "OUSD"}}),
    step("rebase", token=st.just("OUSD"), factor=FACTOR),
)
_NEW = st.sampled_from([None, None, "new"])
_manager = st.one_of(
    step(
        "trade",
        sell=PERCENT.map("{} USDC".format),
        buy=amount(10**18, "WETH") | amount(10**9, "aUSDC"),
        position=_NEW,
        unsynced=UNSYNCED,
    ),
    step(
        "trade",
        sell=st.tuples(PERCENT, st.sampled_from(["WETH", "aUSDC"])).map(" ".join),
        buy=amount(10**9, "USDC"),
        position=POSITION,
        unsynced=UNSYNCED,
    ),
    step("supply", assets=PERCENT, into=st.just("aUSDC"), position=_NEW | POSITION, unsynced=UNSYNCED),
    step("supply", assets=PERCENT, into=st.just("aUSDC"), position=st.just("new"), unsynced=UNSYNCED),
    step("unsupply", assets=PERCENT.map("{} aUSDC".format), position=POSITION, unsynced=UNSYNCED),
    step("close", position=POSITION, unsynced=UNSYNCED),
    step("borrow", assets=amount(10**8, "USDC"), position=POSITION, unsynced=UNSYNCED),
    step("repay", assets=PERCENT | amount(10**8, "USDC"), position=POSITION, unsynced=UNSYNCED),
)


@st.composite
def _calls(draw: st.DrawFn, flows: st.SearchStrategy[Step], unseen: st.SearchStrategy[Step]) -> Step:
    """Several calls in one transaction, all by one caller and of that caller's own shares."""
    caller = draw(ACTORS)
    drawn = draw(st.lists(flows | flows | unseen, min_size=2, max_size=4))
    return {
        "transaction": [
            {verb: {**{key: value for key, value in said.items() if key != "owner"}, "caller": caller}}
            for one in drawn
            for verb, said in one.items()
        ]
    }


_hand_over = step("transfer_shares", caller=ACTORS, receiver=ACTORS, shares=PERCENT)
_enzyme_calls = _calls(_enzyme_flows, _hand_over | step("donate", caller=ACTORS, assets=amount(10**8, "USDC")))
_enzyme_chain = st.one_of(_enzyme_flows, _enzyme_flows, _enzyme_unseen, _manager, _enzyme_odd | _enzyme_calls)

_ASSETS = st.one_of(amount(10**9, "AST"), PERCENT)
_4626_flows = st.one_of(
    step("deposit", caller=ACTORS, assets=amount(10**9, "AST"), receiver=optional(ACTORS)),
    step("mint", caller=ACTORS, shares=raws(10**9).map("{} raw".format), receiver=optional(ACTORS)),
    step("withdraw", caller=ACTORS, assets=PERCENT, owner=optional(ACTORS), receiver=optional(ACTORS)),
    step("redeem", caller=ACTORS, shares=PERCENT, owner=optional(ACTORS), receiver=optional(ACTORS)),
)
_4626_unseen = st.one_of(
    step("transfer_shares", caller=ACTORS, receiver=ACTORS, shares=PERCENT),
    step("donate", caller=ACTORS, assets=amount(10**9, "AST") | amount(10**9, "OTHER")),
    step("take", assets=PERCENT.map("{} AST".format)),
    step("price", token=st.just("AST"), usd=USD),
    step("rebase", token=st.just("AST"), factor=FACTOR),
)
_4626_odd = st.one_of(
    step(
        "charge_fee", shares=raws(10**9).map("{} raw".format), receiver=ACTORS, event=st.sampled_from([None, "deposit"])
    ),
    step("pause", token=st.just("AST"), actor=optional(ACTORS), paused=st.sampled_from([None, False])),
    step("accrue", token=st.just("AST"), rate=st.sampled_from(["5%", "0", "0.3%"])),
    step("deposit", caller=ACTORS, assets=amount(10**9, "AST"), vault=st.just("second")),
    st.just({"opt_in": {"token": "AST"}}),
)
_4626_calls = _calls(_4626_flows, _hand_over | step("donate", caller=ACTORS, assets=amount(10**8, "AST")))
_4626_chain = st.one_of(_4626_flows, _4626_flows, _4626_flows, _4626_unseen, _4626_odd | _4626_calls)

ENZYME_TOKENS = {
    "USDC": {"decimals": 6, "usd": "1"},
    "aUSDC": {"decimals": 6, "kind": "index_rebase", "underlying": "USDC"},
    "vdUSDC": {"decimals": 6, "kind": "debt", "underlying": "USDC"},
    "WETH": {"decimals": 18, "usd": "1600", "dust": {"absolute": "0.0001"}},
    "OUSD": {"decimals": 9, "kind": "opt_in_rebase", "usd": "1"},
}


def _steps(chain: st.SearchStrategy[Step], opening: list[Step]) -> st.SearchStrategy[list[Step]]:
    block = st.lists(chain, min_size=2, max_size=4).map(lambda steps: [{"block": steps}])
    one = chain.map(lambda one: [one])
    turned = _reorg(chain)
    hooked = st.tuples(st.integers(1, 8), chain | turned, _syncing).map(
        lambda drawn: [{"node": {"after": drawn[0], "steps": [drawn[1]]}}, *drawn[2], {"node": {}}]
    )
    turn = turned.map(lambda one: [one])
    parts = st.one_of(
        one, one, one, block, _syncing, _syncing, _syncing, turn, turn, _time_part, _behind_a_node, hooked
    )
    return st.lists(parts, min_size=5, max_size=16).map(
        lambda drawn: [*opening, *(one for part in drawn for one in part), *_CLOSING]
    )


_CLOSING: list[Step] = [{"sync": None}, {"sync_interest": None}, {"correct_accounts": None}]
_time_part = _time.map(lambda one: [one])


def _reorg(chain: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    """A reorganisation as it is drawn: how deep, and a fate for each transaction that there may be, in order.

    A number says where in the new branch a transaction is moved to. `written` makes a step of it.
    """
    fate = st.sampled_from(["keep", "keep", "drop"]) | st.integers(0, 6)
    return step(
        "reorg",
        depth=st.integers(1, 6),
        fates=st.lists(fate, min_size=12, max_size=12),
        add=optional(chain.map(lambda one: [one])),
    )


class _Branch:
    """How many transactions each block of the branch that stands holds."""

    def __init__(self) -> None:
        self._held = [0] * (SETUP_BLOCKS + 1)

    def go_past(self, one: Step) -> Step:
        """Count a step's blocks; gives the step as it is written."""
        match next(iter(one)):
            case "mine":
                self._held += [0] * one["mine"]
            case "block":
                self._held.append(len(one["block"]))
            case "reorg":
                return self._turn(one)
            case "wait" | "node" | "crash" | "restart" | "initialise" | "sync" | "sync_interest" | "correct_accounts":
                pass
            case _:
                self._held.append(1)
        return one

    def _turn(self, one: Step) -> Step:
        said, left = one["reorg"], iter(one["reorg"]["fates"])
        depth = min(said["depth"], len(self._held) - SETUP_BLOCKS - 1)
        if depth == 0:
            return {"mine": 1}
        fork = len(self._held) - depth
        told: dict[str, Any] = {"keep": [], "drop": [], "move": {}}
        held = [0] * depth
        for offset, count in enumerate(self._held[fork:]):
            for place in range(1, count + 1):
                # The first deposit stays where it is: without it there are no shares.
                fate = "keep" if fork + offset == SETUP_BLOCKS + 1 else next(left, "keep")
                name = f"{fork + offset}/{place}"
                if isinstance(fate, int):
                    to = min(fate, depth)
                    held += [0] * (to + 1 - len(held))
                    held[to] += 1
                    told["move"][name] = fork + to
                else:
                    held[offset] += fate == "keep"
                    told[fate].append(name)
        for _ in said.get("add", ()):
            free = held.index(0) if 0 in held else len(held)
            held[free : free + 1] = [1]
        self._held[fork:] = held
        kept = {key: value for key, value in told.items() if value}
        return {"reorg": {"depth": depth, **kept, **({"add": said["add"]} if "add" in said else {})}}


_SYNCING = {"sync", "sync_interest", "correct_accounts"}


def written(steps: Sequence[Step]) -> list[Step]:
    """Steps as a file has them: what a reorganisation is about is told by what stands before it."""
    branch = _Branch()
    said: list[Step] = []
    hook: Step | None = None
    for one in steps:
        verb = next(iter(one))
        if verb == "node":
            hook = {**one, "node": dict(one["node"])} if "steps" in one["node"] else None
        if verb in _SYNCING and hook is not None:
            # Its steps are mined while this operation runs.
            hook["node"]["steps"] = [branch.go_past(inner) for inner in hook["node"]["steps"]]
            hook = None
        said.append(hook if verb == "node" and hook is not None else branch.go_past(one))
    return said


def _opening(symbol: str) -> list[Step]:
    return [{"deposit": {"caller": "alice", "assets": f"1000000007 raw {symbol}"}}, {"sync": None}]


def text(header: Mapping[str, Any], steps: Sequence[Step]) -> str:
    """The scenario as YAML, one step on a line."""
    top = [f"{key}: {json.dumps(value)}" for key, value in header.items()]
    return "\n".join([*top, "steps:", *(f"  - {json.dumps(one)}" for one in steps), ""])


_bound = st.sampled_from(["0.05", "1000000"])
enzyme_drawn = st.tuples(
    _bound.map(
        lambda bound: {
            "title": "Drawn",
            "interest_bound": bound,
            "tokens": ENZYME_TOKENS,
            "vault": {"kind": "enzyme", "reserve": "USDC"},
        }
    ),
    _steps(_enzyme_chain, _opening("USDC")),
)
erc4626_drawn = st.tuples(
    st.tuples(_bound, st.sampled_from(["plain", "index_rebase", "fee_on_transfer", "opt_in_rebase"])).map(
        lambda drawn: {
            "title": "Drawn",
            "interest_bound": drawn[0],
            "tokens": {"AST": {"decimals": 6, "kind": drawn[1]}, "OTHER": {"decimals": 0}},
            "vault": {"kind": "erc4626", "reserve": "AST"},
        }
    ),
    _steps(_4626_chain, _opening("AST")),
)


def settle(header: Mapping[str, Any], drawn: Sequence[Step]) -> tuple[Scenario, Played] | None:
    """Turn what was drawn into a scenario that plays, or None if too much of it is impossible."""
    steps = list(drawn)
    first = len(header) + 2
    for _ in range(40):
        try:
            scenario = loads(text(header, written(steps)), FILE)
            return scenario, play(scenario)
        except ScenarioError as error:
            found = [(problem.location, problem.message) for problem in error.problems]
        except ExecutionError as error:
            found = [(error.location, error.message)]
        by_line: dict[int, list[tuple[Location, str]]] = {}
        for location, message in found:
            by_line.setdefault(location.line, []).append((location, message))
        for line in sorted(by_line, reverse=True):
            if line < first or line - first >= len(steps):
                raise AssertionError(f"a problem outside the steps: {by_line[line]}")
            _mend(steps, line - first, *by_line[line][0])
    return None


def _mend(steps: list[Step], index: int, location: Location, message: str) -> None:
    one = steps[index]
    if "must be refused" in message:
        one = {**one, "refused": True}
    elif "nothing here is a reason to refuse" in message:
        one = {key: value for key, value in one.items() if key != "refused"}
    elif "block" in one:
        left = [inner for inner in one["block"] if not _stands_at(one, inner, location)]
        one = {"block": left if len(left) < len(one["block"]) else left[:-1]}
        if not one["block"]:
            del steps[index]
            return
    else:
        del steps[index]
        return
    steps[index] = one


def _stands_at(block: Step, inner: Step, location: Location) -> bool:
    written = json.dumps(block)
    start, begun = 0, len("  - ") + 1
    for other in block["block"]:
        start = written.index(json.dumps(other), start)
        if other is inner:
            return start + begun <= location.column < start + begun + len(json.dumps(other))
        start += len(json.dumps(other))
    return False
