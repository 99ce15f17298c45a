"""A file's header and steps, read by the tables of `language`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any

from harness.errors import Location, Problem
from harness.scenario import language as lang
from harness.scenario.check import Entry, Header, problems_of
from harness.scenario.expecting import Expectations
from harness.scenario.language import Verb, Where
from harness.scenario.model import (
    Block,
    Borrow,
    Check,
    Deposit,
    Known,
    KnownBreak,
    LawOff,
    Mine,
    Mint,
    NodeStep,
    Rebase,
    Redeem,
    Reorg,
    Repay,
    Scenario,
    Supply,
    TokenSpec,
    Tolerance,
    Trade,
    Transaction,
    VaultSpec,
    Wait,
    Withdraw,
)
from harness.scenario.nodes import (
    Fault,
    Node,
    a_kind,
    date_at,
    fail,
    integer,
    length_of_time,
    line_of,
    listed,
    near,
    quoted,
    reason_of,
    scalar,
    text_of,
)
from harness.scenario.values import UNKNOWN_DECIMALS
from harness.units import PRICE_DECIMALS

_PLACES: Mapping[Where, str] = {
    "steps": "the steps",
    "block": "a block",
    "transaction": "a transaction",
    "branch": "what a reorg adds",
    "hook": "a node's steps",
}
_OUTSIDE: Mapping[Where, str] = {
    "block": "the block",
    "transaction": "the transaction",
    "branch": "the reorg",
    "hook": "the syncing step that these run in",
}


class Reader(Expectations):
    """Reads one file; collects problems as it goes and reads on with what is right."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.defaults: dict[str, dict[str, tuple[Node, Node]]] = {}
        self.used_defaults: set[tuple[str, str]] = set()
        self.kinds = {
            **self.kinds,
            "branch_steps": lambda node: self._steps(node, "branch"),
            "hook_steps": lambda node: self._steps(node, "hook"),
        }

    def scenario(self, root: Node, text: str) -> Scenario | None:
        found = self.attempt(self.keyed, root, lang.HEADER, "the scenario")
        if found is None:
            return None
        self._tokens(found.get("tokens"))
        vault = self._vault(found.get("vault"), root)
        if "actors" in found:
            self.attempt(self._actors, found["actors"][1])
        simple: dict[str, Any] = {}
        for name in ("title", "start", "block_time", "chain_id", "interest_bound"):
            if name in found:
                kind = next(key.kind for key in lang.HEADER if key.name == name)
                value = self.attempt(self.kinds[kind], found[name][1])
                if value is not None:
                    simple[name] = value
        laws_off = self._laws_off(found["laws_off"][1]) if "laws_off" in found else ()
        tolerances = self._tolerances(found["tolerances"][1]) if "tolerances" in found else ()
        known = self._known(found["known"]) if "known" in found else None
        tags = self.attempt(self._tags, found["tags"][1]) if "tags" in found else ()
        if "defaults" in found:
            self._defaults(found["defaults"][1])
        deploy = self._steps(found["deploy_block"][1], "block") if "deploy_block" in found else []
        steps_node = found["steps"][1] if "steps" in found else None
        steps = self._steps(steps_node, "steps") if steps_node is not None else []
        for verb, keys in self.defaults.items():
            for name, (key, _) in keys.items():
                if (verb, name) not in self.used_defaults:
                    self.problem(
                        key,
                        f"no {quoted(verb)} step uses this",
                        f"a step that does not say {quoted(name)}, or no default",
                    )
        for node, name in self.awaited:
            if name not in self.actors:
                self.problem(
                    node,
                    f"unknown actor {quoted(name)}",
                    f"one of: {listed(sorted([*self.actors, 'vault']))}",
                    near(name, [*self.actors, "vault"]),
                )
        start = simple.get("start", datetime(2024, 1, 1))
        block_time = simple.get("block_time", timedelta(seconds=12))
        if steps_node is not None and steps_node.kind == "sequence":
            header = Header(
                reserve=self.reserve,
                start=start,
                block_time=block_time,
                steps=found["steps"][0].location,
                tokens=tuple(self.tokens),
            )
            for problem in problems_of(header, deploy, steps):
                self.report(problem)
        if self.problems or vault is None or tags is None:
            return None
        return Scenario(
            location=root.location,
            title=simple.get("title", _title(self.file)),
            tags=tags,
            tokens=self.tokens,
            vault=vault,
            actors=dict(sorted(self.actors.items())),
            approvals=tuple(sorted(self.approvals)),
            start=start,
            block_time=block_time,
            chain_id=simple.get("chain_id", 1337),
            deploy_block=tuple(entry.step for entry in deploy if entry.step is not None),  # type: ignore[misc]
            interest_bound=simple.get("interest_bound", Decimal("0.05")),
            steps=tuple(entry.step for entry in steps if entry.step is not None),
            text=text,
            laws_off=laws_off,
            tolerances=tolerances,
            known=known,
        )

    def _defaults(self, node: Node) -> None:
        """Keys for steps that do not say them, by verb; their values are read with each step."""
        takers = [verb.name for verb in lang.VERBS if verb.keys and verb.body in ("keys", "optional")]
        for name, key, value in self.attempt(self.pairs, node, "defaults, by verb") or ():
            if name in lang.VERB and name not in takers:
                self.problem(key, f"{quoted(name)} takes no defaults", f"one of: {listed(takers)}")
            elif name not in lang.VERB:
                self.problem(key, f"unknown step {quoted(name)}", f"one of: {listed(takers)}", near(name, takers))
            elif value.null or (value.kind == "mapping" and not value.pairs):
                self.problem(key, f"no defaults for {quoted(name)}", "a mapping of its keys")
            else:
                found = self.attempt(
                    self.keyed, value, [replace(k, required=False) for k in lang.VERB[name].keys], repr(name)
                )
                self.defaults[name] = found or {}

    def _with_defaults(self, verb: Verb, key: Node, body: Node) -> Node:
        """What stands under a verb, with the defaults for what it does not say."""
        defaults = self.defaults.get(verb.name, {})
        if not defaults or not (body.kind == "mapping" or body.null):
            return body
        said = {name.text for name, _ in body.pairs}
        added = {name: pair for name, pair in defaults.items() if name not in said}
        if not added:
            return body
        self.used_defaults |= {(verb.name, name) for name in added}
        return Node(
            kind="mapping",
            location=key.location if body.null else body.location,
            pairs=(*body.pairs, *added.values()),
        )

    def _laws_off(self, node: Node) -> tuple[LawOff, ...]:
        found: list[LawOff] = []
        for name, key, value in self.attempt(self.pairs, node, "the laws switched off, by name") or ():
            if name in lang.LAWS_PLANNED:
                self.problem(key, f"law {quoted(name)} is not judged yet", f"one of: {listed(lang.LAWS)}")
            elif name not in lang.LAWS:
                self.problem(key, f"unknown law {quoted(name)}", f"one of: {listed(lang.LAWS)}", near(name, lang.LAWS))
            reason = self.attempt(reason_of, value, "the reason why the law does not hold here, in words")
            if name in lang.LAWS and reason is not None:
                found.append(LawOff(location=key.location, law=name, reason=reason))
        return tuple(found)

    def _tolerances(self, node: Node) -> tuple[Tolerance, ...]:
        found: list[Tolerance] = []
        if node.kind != "sequence":
            self.problem(node, f"found {node.shown}", "a list such as [{allow: 2 raw aUSDC, reason: ...}]")
        for item in node.items if node.kind == "sequence" else ():
            values = self.attempt(self._values, item, lang.TOLERANCE, "a tolerance") or {}
            amount = values.get("allow")
            if amount is None or "reason" not in values:
                continue
            tolerance = Tolerance(
                location=item.location,
                asset=amount.token,
                raw=amount.raw,
                field=values.get("field"),
                reason=values["reason"],
            )
            twice = [other for other in found if (other.asset, other.field) == (tolerance.asset, tolerance.field)]
            if tolerance.raw == 0:
                self.problem(item, "a tolerance of nothing", "an amount above 0, or no tolerance")
            elif twice:
                self.problem(
                    item,
                    f"a second tolerance of {tolerance.asset}, the first is in line {twice[0].location.line}",
                    "one for each token and field",
                )
            else:
                found.append(tolerance)
        return tuple(found)

    def _known(self, pair: tuple[Node, Node]) -> Known | None:
        key, node = pair
        found = self.attempt(self.keyed, node, lang.KNOWN, "known", key) or {}
        reason = self.attempt(reason_of, found["reason"][1]) if "reason" in found else None
        until = self.attempt(date_at, found["until"][1]) if "until" in found else None
        breaks = self._known_breaks(found["breaks"][1]) if "breaks" in found else ()
        if reason is None or until is None:
            return None
        return Known(location=key.location, reason=reason, until=until, breaks=breaks)

    def _known_breaks(self, node: Node) -> tuple[KnownBreak, ...]:
        if node.kind != "sequence" or not node.items:
            what = "no breaks" if node.kind == "sequence" or node.null else node.shown
            self.problem(node, f"found {what}", "a list such as [{kind: different, field: quantity, asset: USDC}]")
            return ()
        found = []
        for item in node.items:
            values = self.attempt(self._values, item, lang.KNOWN_BREAK, "a known break")
            if values is not None and "kind" in values:
                found.append(KnownBreak(location=item.location, **values))
        return tuple(found)

    def _tags(self, node: Node) -> tuple[str, ...]:
        if node.kind != "sequence":
            fail(node, f"found {node.shown}", "a list of tags such as [enzyme, case-43]")
        tags: list[str] = []
        for item in node.items:
            tag = self.attempt(line_of, item, 100)
            if tag is not None and re.search(r"\s", tag):
                self.problem(item, f"the tag {quoted(tag)} has a space", "a single word")
            elif tag is not None and tag in tags:
                self.problem(item, f"the tag {quoted(tag)} stands here twice", "each tag once")
            elif tag is not None:
                tags.append(tag)
        return tuple(tags)

    def _tokens(self, pair: tuple[Node, Node] | None) -> None:
        if pair is None:
            return
        node = pair[1]
        entries = self.attempt(self.pairs, node, "the tokens, by symbol") or []
        if node.kind == "mapping" and not node.pairs:
            self.problem(pair[0], "there are no tokens", "at least one, such as USDC: {decimals: 6}")
        read: dict[str, tuple[Node, dict[str, Any], dict[str, tuple[Node, Node]]]] = {}
        # Every symbol must be known before an underlying can be looked up, wherever it stands.
        for symbol, key, _ in entries:
            self._check_symbol(symbol, key)
            self.tokens[symbol] = self._spec(symbol, key, {})
        for symbol, key, value in entries:
            body = Node(kind="mapping", location=key.location) if value.null else value
            values = self.attempt(self._values, body, lang.TOKEN, f"token {symbol}")
            nodes = {name.text: (name, inner) for name, inner in body.pairs}
            read[symbol] = (key, values or {}, nodes)
        for symbol, (key, values, nodes) in read.items():
            self._underlying(symbol, values, nodes, read)
            self._fee_of(symbol, values, nodes)
            wrong = "decimals" in nodes and "decimals" not in values
            if "decimals" not in values:
                values["decimals"] = UNKNOWN_DECIMALS if wrong else 18
            self.tokens[symbol] = self._spec(symbol, key, values)

    def _check_symbol(self, symbol: str, key: Node) -> None:
        words = listed(lang.RESERVED_SYMBOLS)
        expected = f"a symbol of at most {lang.MAX_SYMBOL_BYTES} bytes without spaces, no number, none of {words}"
        if (
            re.search(r"\s|%", symbol)
            or len(symbol.encode()) > lang.MAX_SYMBOL_BYTES
            or symbol in lang.RESERVED_SYMBOLS
            or re.fullmatch(f"[+-]?{lang.NUMBER}", symbol)
            or not symbol
        ):
            self.problem(key, f"{quoted(symbol)} cannot be a token's symbol", expected)

    def _spec(self, symbol: str, key: Node, values: Mapping[str, Any]) -> TokenSpec:
        dust = values.get("dust", {})
        return TokenSpec(
            location=key.location,
            symbol=symbol,
            name=values.get("name", symbol),
            decimals=values.get("decimals", UNKNOWN_DECIMALS),
            kind=values.get("kind", "plain"),
            underlying=values.get("underlying"),
            price_raw=values.get("usd", 10**PRICE_DECIMALS),
            dust_absolute=dust.get("absolute", Decimal(0)),
            dust_relative=dust.get("relative", Decimal(0)),
            fee=values.get("fee", Fraction(0)),
        )

    def _fee_of(self, symbol: str, values: dict[str, Any], nodes: Mapping[str, tuple[Node, Node]]) -> None:
        kind = values.get("kind", "plain")
        if kind == "fee_on_transfer":
            values.setdefault("fee", Fraction(1, 100))
        elif "fee" in nodes and (kind != "plain" or "kind" not in nodes or "kind" in values):
            self.problem(nodes["fee"][0], f"{symbol} takes a fee but is {a_kind(kind)} token", "kind: fee_on_transfer")

    def _underlying(
        self,
        symbol: str,
        values: dict[str, Any],
        nodes: Mapping[str, tuple[Node, Node]],
        read: Mapping[str, tuple[Node, dict[str, Any], Mapping[str, tuple[Node, Node]]]],
    ) -> None:
        """Check what a token says of its underlying, and take over what it leaves to it."""
        name = values.get("underlying")
        if name is None:
            return
        at = nodes["underlying"][1]
        _, base, base_nodes = read[name]
        if name == symbol:
            self.problem(at, f"{symbol} cannot be its own underlying", "another token")
            return
        kind = values.get("kind") if "kind" in nodes else "plain"
        if kind is not None and kind not in lang.WRAPPING_KINDS:
            wrapping = " or ".join(lang.WRAPPING_KINDS)
            self.problem(at, f"{symbol} has an underlying but is {a_kind(kind)} token", f"kind: {wrapping} beside it")
        if "underlying" in base:
            self.problem(at, f"{name} has an underlying itself", "a token without one")
        if "decimals" in base_nodes and base.get("decimals", UNKNOWN_DECIMALS) == UNKNOWN_DECIMALS:
            values.setdefault("decimals", UNKNOWN_DECIMALS)
        else:
            decimals = base.get("decimals", 18)
            if values.setdefault("decimals", decimals) not in (decimals, UNKNOWN_DECIMALS):
                self.problem(
                    nodes["decimals"][1],
                    f"{symbol} has {values['decimals']} decimals, its underlying {name} has {decimals}",
                    "equal decimals",
                )
        if "usd" in base:
            values.setdefault("usd", base["usd"])

    def _vault(self, pair: tuple[Node, Node] | None, root: Node) -> VaultSpec | None:
        if pair is None:
            self._settle_reserve(None)
            return None
        node = pair[1]
        values = self.attempt(self._values, node, lang.VAULT, "the vault", pair[0])
        if values is None:
            self._settle_reserve(None)
            return None
        nodes = {name.text: inner for name, inner in node.pairs}
        self.kind = values.get("kind")
        if "reserve" not in nodes and len(self.tokens) > 1:
            self.problem(
                pair[0],
                "the vault lacks 'reserve', and there are several tokens",
                f"reserve: one of {listed(self.tokens)}",
            )
        self._settle_reserve(
            values.get("reserve")
            if "reserve" in nodes
            else next(iter(self.tokens), None)
            if len(self.tokens) == 1
            else None
        )
        if self.kind == "erc4626" and "tracked" in nodes:
            self.problem(
                next(name for name, _ in node.pairs if name.text == "tracked"),
                "only enzyme tracks assets",
                "no 'tracked' on erc4626",
            )
        self.share_symbol = values.get("symbol", "VAULT")
        if self.reserve is not None and self.tokens[self.reserve].kind == "debt":
            at = nodes.get("reserve", pair[0])
            self.problem(at, f"the reserve {self.reserve} is a debt token", "a token that can be held")
        if self.kind is None or self.reserve is None:
            return None
        return VaultSpec(
            location=node.location,
            kind=self.kind,
            name=values.get("name", "Vault"),
            symbol=self.share_symbol,
            reserve=self.reserve,
            tracked=values.get("tracked"),
        )

    def _settle_reserve(self, reserve: str | None) -> None:
        self.reserve = reserve
        if self.kind == "enzyme":
            self.share_decimals = 18
        elif self.kind == "erc4626" and reserve is not None:
            self.share_decimals = self.tokens[reserve].decimals

    def _actors(self, node: Node) -> None:
        for name, key, value in self.pairs(node, "the actors, by name"):
            if self.attempt(self._actor, key) is None or value.null:
                continue
            balances = self.attempt(self._balances, value, f"what {name} owns")
            self.actors[name] = {balance.token: balance.raw for balance in balances or ()}

    # -- steps

    def _steps(self, node: Node, where: Where) -> list[Entry]:
        if node.kind != "sequence":
            self.problem(node, f"found {node.shown}", "a list of steps")
            return []
        return [self._step(item, where) for item in node.items]

    def _step(self, node: Node, where: Where) -> Entry:
        """One step; without a value where it cannot be read."""
        broken = Entry(location=node.location)
        names = [*lang.VERB, "expect"]
        if node.kind == "scalar" and not node.null:
            word = node.text.strip()
            if word in lang.VERBS_PLANNED:
                self.problem(node, f"step {quoted(word)} is not supported yet", f"one of: {listed(names)}")
                return broken
            suggestion = word if word in lang.VERB else near(word, names)
            self.problem(
                node,
                f"the step {node.shown} is a word",
                "a mapping such as 'sync:'",
                f"{suggestion}:" if suggestion else None,
            )
            return broken
        pairs = self.attempt(self.pairs, node, "a step")
        if pairs is None:
            return broken
        found = {name: (key, value) for name, key, value in pairs}
        beside = {key.name for key in lang.BESIDE}
        verbs = [name for name in found if name in lang.VERB or name in lang.VERBS_PLANNED]
        strangers = [name for name in found if name not in beside and name not in verbs]
        for name in strangers:
            self._stranger(name, found[name][0], verbs, "expect" in found)
        for name in verbs[1:]:
            self.problem(
                found[name][0],
                f"a second verb, {quoted(name)}, beside {quoted(verbs[0])}",
                "a step of its own for each verb",
            )
        if not verbs:
            if strangers:
                self._beside(found, None, where)
                return broken
            return self._check(node, found, where)
        key, body = found[verbs[0]]
        if verbs[0] in lang.VERBS_PLANNED:
            self.problem(key, f"step {quoted(verbs[0])} is not supported yet", f"one of: {listed(names)}")
            return broken
        verb = lang.VERB[verbs[0]]
        extras = self._beside(found, verb, where)
        if verb.name not in lang.allowed(where):
            self.problem(
                key,
                f"{quoted(verb.name)} cannot stand inside {_PLACES[where]}",
                f"one of: {listed(lang.allowed(where))}",
            )
            return Entry(location=key.location, verb=verb)
        if self.kind is not None and self.kind not in verb.vaults:
            self.problem(
                key,
                f"{quoted(verb.name)} is not possible on {self.kind}",
                f"one of: {listed(v.name for v in lang.VERBS if self.kind in v.vaults)}",
            )
            self._body(verb, key, body, extras)  # its other problems
            return Entry(location=key.location, verb=verb)
        return self._body(verb, key, body, extras)

    def _stranger(self, name: str, key: Node, verbs: Sequence[str], expects: bool) -> None:
        """A key of a step that is neither verb nor anything that stands beside one."""
        beside = [key.name for key in lang.BESIDE]
        if verbs or expects:
            verb = verbs[0] if verbs else "expect"
            self.problem(
                key,
                f"unknown key {quoted(name)} beside {quoted(verb)}",
                f"one of: {listed(beside)}",
                near(name, [*beside, *lang.VERB]),
            )
        else:
            names = sorted([*lang.VERB, "expect"])
            self.problem(key, f"unknown step {quoted(name)}", f"one of: {listed(names)}", near(name, names))

    def _check(self, node: Node, found: Mapping[str, tuple[Node, Node]], where: Where) -> Entry:
        """A step that is nothing but an ``expect``."""
        if "expect" not in found:
            if node.pairs and not found:
                return Entry(location=node.location)  # its keys are no keys, which has been said
            self.problem(node, "a step without a verb", f"one of: {listed(sorted([*lang.VERB, 'expect']))}")
            return Entry(location=node.location)
        extras = self._beside(found, None, where)
        location = found["expect"][0].location
        if where != "steps" or "expect" not in extras:
            return Entry(location=location)
        return Entry(location=location, step=Check(location=location, **extras))

    def _beside(self, found: Mapping[str, tuple[Node, Node]], verb: Verb | None, where: Where) -> dict[str, Any]:
        """``expect``, ``refused`` and ``note``."""
        extras: dict[str, Any] = {}
        if where == "transaction":
            for name in ("refused", "note"):
                if name in found:
                    self.problem(
                        found[name][0], f"{quoted(name)} cannot stand inside a transaction", "it beside the transaction"
                    )
        if "note" in found:
            note = self.attempt(text_of, found["note"][1])
            if note is not None:
                extras["note"] = note
        if "refused" in found:
            key, value = found["refused"]
            if verb is None or not verb.refusable:
                name = verb.name if verb else "expect"
                self.problem(
                    key, f"{quoted(name)} cannot be refused", "'refused' beside steps that chain or syncer carry out"
                )
            refused = self.attempt(self._refused, value)
            if refused is not None:
                extras["refused"] = refused
        if "expect" in found:
            key, value = found["expect"]
            if where != "steps":
                self.problem(
                    key,
                    f"'expect' cannot stand inside {_PLACES[where]}",
                    f"it beside {_OUTSIDE[where]}, or in a step of its own",
                )
            syncing = verb is not None and verb.syncing
            expect = self.attempt(self._expect, value, key, syncing=syncing, inner=False)
            if expect is not None:
                extras["expect"] = expect
        return extras

    def _refused(self, node: Node) -> str:
        expected = "text of the reason, or true for any"
        text = scalar(node, expected)
        if node.plain and text == "true":
            return ""
        if node.plain and text == "false":
            fail(node, "'refused: false' says nothing", expected)
        return text_of(node, 1_000)

    def _body(self, verb: Verb, key: Node, body: Node, extras: dict[str, Any]) -> Entry:
        location = key.location
        nothing = Entry(location=location, verb=verb)
        try:
            if verb.body == "steps":
                return self._block(verb, key, body, extras)
            if verb.body == "calls":
                return self._transaction(verb, key, body, extras)
            if verb.body == "blocks":
                blocks = integer(body, 1, lang.MAX_BLOCKS, f"a number of blocks from 1 to {lang.MAX_BLOCKS}")
                return Entry(location=location, verb=verb, step=Mine(location=location, blocks=blocks, **extras))
            if verb.body == "length" and body.kind == "scalar":
                return Entry(
                    location=location, verb=verb, step=Wait(location=location, duration=length_of_time(body), **extras)
                )
            body = self._with_defaults(verb, key, body)
            if verb.body == "optional" and body.null:
                body = Node(kind="mapping", location=location)
            if verb.body == "keys" and body.null:
                lacking = [k.name for k in verb.keys if k.required]
                fail(
                    key,
                    f"{quoted(verb.name)} lacks {listed(map(repr, lacking))}",
                    f"the keys: {listed(k.name for k in verb.keys if not k.planned)}",
                )
            values = self._values(body, verb.keys, repr(verb.name), key)
        except Fault as fault:
            if fault.problem is not None:
                self.report(fault.problem)
            return nothing
        places = {name.text: value.location for name, value in body.pairs if name.kind == "scalar"}
        if any(k.required and k.name not in values for k in verb.keys):
            return nothing
        if verb.step in (Reorg, NodeStep) and any(name.text not in values for name, _ in body.pairs):
            return nothing
        self._complete(verb, values, {name.text: (name, value) for name, value in body.pairs}, key)
        inner: tuple[Entry, ...] = ()
        for name in ("add", "steps"):
            if name in values:
                inner = tuple(values[name])
                values[name] = tuple(entry.step for entry in inner)
        if values.pop("broken", False) or any(entry.step is None for entry in inner):
            return replace(nothing, inner=inner)
        fields = {(k.field or k.name): values[k.name] for k in verb.keys if k.name in values}
        step: Any = verb.step(location=location, **fields, **extras)
        return Entry(location=location, verb=verb, step=step, places=places, inner=inner)

    def problem_at(self, location: Location, message: str, expected: str | None = None) -> None:
        self.report(Problem(location=location, message=message, expected=expected))

    def _block(self, verb: Verb, key: Node, body: Node, extras: dict[str, Any]) -> Entry:
        inner = self._steps(body, "block")
        if body.kind == "sequence" and not body.items:
            self.problem(key, "the block is empty", "chain steps, or 'mine' for an empty block")
        steps: Any = tuple(entry.step for entry in inner)
        if not inner or None in steps:
            return Entry(location=key.location, verb=verb, inner=tuple(inner))
        return Entry(
            location=key.location,
            verb=verb,
            step=Block(location=key.location, steps=steps, **extras),
            inner=tuple(inner),
        )

    def _transaction(self, verb: Verb, key: Node, body: Node, extras: dict[str, Any]) -> Entry:
        inner = self._steps(body, "transaction")
        if body.kind == "sequence" and not body.items:
            self.problem(key, "the transaction is empty", f"at least one of: {listed(lang.CALLS)}")
        calls: Any = tuple(entry.step for entry in inner)
        broken = not inner or None in calls
        callers = [call.caller for call in calls if call is not None]
        for entry in inner:
            call: Any = entry.step
            if call is not None and call.caller != callers[0]:
                self.problem_at(
                    entry.places.get("caller", entry.location),
                    f"a call by {call.caller} in a transaction of {callers[0]}",
                    "one caller for all calls of a transaction",
                )
                broken = True
        if broken:
            return Entry(location=key.location, verb=verb, inner=tuple(inner))
        step = Transaction(location=key.location, calls=calls, **extras)
        return Entry(location=key.location, verb=verb, step=step, inner=tuple(inner))

    def _complete(self, verb: Verb, values: dict[str, Any], nodes: Mapping[str, tuple[Node, Node]], key: Node) -> None:
        """Fill in what a step leaves out, and check what its keys say together."""
        if verb.step in (Deposit, Mint):
            values.setdefault("receiver", values["caller"])
        elif verb.step in (Withdraw, Redeem):
            values.setdefault("owner", values["caller"])
            values.setdefault("receiver", values["caller"])
            if values["owner"] != values["caller"]:
                if self.kind == "enzyme":
                    self.problem(
                        nodes["owner"][1],
                        "on enzyme nobody redeems another's shares",
                        f"the caller, {values['caller']}",
                        values["caller"],
                    )
                self.approvals.add((values["owner"], values["caller"]))
        elif verb.step is Trade:
            self._trade(values, nodes)
        elif verb.step is Supply:
            spec = self.tokens[values["into"]]
            if self.reserve is not None and spec.underlying != self.reserve:
                wraps = f"wraps {spec.underlying}" if spec.underlying else "wraps nothing"
                self.problem(
                    nodes["into"][1],
                    f"{spec.symbol} {wraps}, not the reserve {self.reserve}",
                    f"a token whose underlying is {self.reserve}",
                )
        elif verb.step is Rebase:
            self._rebase(values, nodes, key)
        elif verb.step in (Borrow, Repay):
            self._debt(values, nodes, key, verb)
        elif verb.step is NodeStep:
            self._node(values, nodes, key)
        if verb.step in (Deposit, Redeem):
            self._other_fund(values, nodes)
        if verb.step is Redeem:
            self._chosen(values, nodes)

    def _other_fund(self, values: Mapping[str, Any], nodes: Mapping[str, tuple[Node, Node]]) -> None:
        """What cannot be said of a flow of the second fund."""
        if not values.get("vault"):
            return
        if values.get("owner", values["caller"]) != values["caller"] and self.kind != "enzyme":
            self.problem(
                nodes["owner"][1],
                "nobody redeems another's shares of the second fund",
                f"the caller, {values['caller']}",
                values["caller"],
            )
            self.approvals.discard((values["owner"], values["caller"]))
        if "assets" in nodes and "shares" in nodes:
            self.problem(nodes["assets"][0], "the second fund holds nothing but the reserve", "no 'assets' beside it")

    def _chosen(self, values: Mapping[str, Any], nodes: Mapping[str, tuple[Node, Node]]) -> None:
        if "assets" not in nodes:
            return
        if self.kind == "erc4626":
            self.problem(nodes["assets"][0], "only enzyme pays chosen assets out", "no 'assets' on erc4626")
        elif values.get("assets") == () and not nodes["assets"][1].items:
            self.problem(nodes["assets"][1], "no assets are chosen", "at least one, or no 'assets' for all of them")

    def _debt(self, values: dict[str, Any], nodes: Mapping[str, tuple[Node, Node]], key: Node, verb: Verb) -> None:
        """Which debt a borrow or repay is about."""
        names = [
            symbol
            for symbol, spec in self.tokens.items()
            if spec.kind == "debt" and spec.underlying == self.reserve is not None
        ]
        if "debt" in nodes:
            symbol = values.get("debt")
            if symbol is None:
                values["broken"] = True
            elif symbol not in names and self.reserve is not None:
                owed = self.tokens[symbol].underlying
                in_what = f"is of {owed}" if owed else "has no underlying"
                self.problem(
                    nodes["debt"][1],
                    f"{symbol} {in_what}, not of the reserve {self.reserve}",
                    f"a debt token whose underlying is {self.reserve}",
                    names[0] if len(names) == 1 else None,
                )
        elif len(names) == 1:
            values["debt"] = names[0]
        else:
            values["broken"] = True
            if self.reserve is not None and names:
                self.problem(
                    key,
                    f"{quoted(verb.name)} lacks 'debt', and there are several debt tokens",
                    f"debt: one of {listed(names)}",
                )
            elif self.reserve is not None:
                self.problem(
                    key,
                    "there is no debt token of the reserve",
                    f"a token of kind debt whose underlying is {self.reserve} in the header",
                )

    def _node(self, values: dict[str, Any], nodes: Mapping[str, tuple[Node, Node]], key: Node) -> None:
        """A node step says one thing: a head, a profile, or a hook."""
        hooked = [name for name in ("after", "steps") if name in nodes]
        said = [name for name in ("head", "profile") if name in nodes] + hooked[:1]
        if len(said) > 1:
            self.problem(
                nodes[said[1]][0],
                f"{quoted(said[1])} beside {quoted(said[0])}",
                "a head, a profile, or after and steps: a node step of its own for each",
            )
            values["broken"] = True
            return
        if len(hooked) == 1:
            other = "steps" if hooked == ["after"] else "after"
            self.problem(key, f"'node' lacks {quoted(other)} beside {quoted(hooked[0])}", "after and steps together")
            values["broken"] = True
        elif "steps" in nodes and nodes["steps"][1].kind == "sequence" and not nodes["steps"][1].items:
            self.problem(nodes["steps"][0], "there are no steps to mine", "chain steps, block, mine or reorg")
            values["broken"] = True
        profile = lang.NODE_PROFILES.get(values.get("profile", ""))
        for name in lang.NODE_NUMBERS:
            if name in nodes and (profile is None or name not in profile.takes):
                if profile is None:
                    message, expected = f"{quoted(name)} without a profile", "a profile that takes it"
                else:
                    taken = listed(profile.takes) or "nothing"
                    message, expected = f"profile {quoted(values['profile'])} takes no {quoted(name)}", taken
                self.problem(nodes[name][0], message, expected)
                values["broken"] = True
        if profile is None:
            return
        for name in profile.needs:
            if name not in nodes:
                self.problem(
                    nodes["profile"][0],
                    f"profile {quoted(values['profile'])} lacks {quoted(name)}",
                    f"{name}: a number",
                )
                values["broken"] = True
        for name, default in profile.takes.items():
            if default is not None:
                values.setdefault(name, default)

    def _trade(self, values: Mapping[str, Any], nodes: Mapping[str, tuple[Node, Node]]) -> None:
        sold, bought = values["sell"].token, values["buy"].token
        if sold == bought:
            self.problem(nodes["buy"][1], f"{sold} is sold for itself", "another token")
        elif self.reserve is not None and self.reserve not in (sold, bought):
            self.problem(nodes["buy"][1], f"neither {sold} nor {bought} is the reserve", f"one side in {self.reserve}")
        elif values.get("position") == "new" and bought == self.reserve:
            self.problem(nodes["position"][1], "a sale opens no position", "the id of a position")

    def _rebase(self, values: dict[str, Any], nodes: Mapping[str, tuple[Node, Node]], key: Node) -> None:
        if ("factor" in nodes) == ("balance" in nodes):
            at = nodes["balance"][0] if "balance" in nodes else key
            self.problem(
                at, "a rebase says 'factor' or 'balance', one of them", "factor: 1.05, or balance: 1_050 aUSDC"
            )
            values["broken"] = True
        elif "balance" in nodes:
            amount = self.attempt(self._amount, values["balance"], (values["token"],), exact=True)
            values["balance"] = amount
            values["broken"] = amount is None
        elif "factor" not in values:
            values["broken"] = True


def _title(file: str) -> str:
    """A title from the file's name: ``first_deposit_is_at_par.yaml``."""
    words = PurePath(file).stem.replace("_", " ").strip()
    return words[:1].upper() + words[1:] if words else "Scenario"
