"""Values that depend on the file's header: tokens, amounts, actors; and the list of problems."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn, TypeVar

from harness.errors import Problem
from harness.scenario import language as lang
from harness.scenario.language import Key
from harness.scenario.model import SHARES, Actor, Amount, EndBlock, Place, TokenSpec
from harness.scenario.nodes import (
    EXPONENT,
    Enough,
    Fault,
    Node,
    a_kind,
    date_at,
    decimal_number,
    decimal_of,
    fail,
    flag,
    integer,
    length_of_time,
    line_of,
    listed,
    near,
    number_fault,
    quoted,
    reason_of,
    scalar,
    scaled,
    text_of,
    time_at,
    word,
)
from harness.units import PRICE_DECIMALS, parse_decimal

_UINT256 = 1 << 256
AMOUNT = re.compile(
    rf"(?P<sign>[+-]?)(?:(?P<all>all)|(?P<number>{lang.NUMBER})(?: ?(?P<percent>%))?(?: +(?P<raw>raw))?)"
    r"(?: +(?P<token>\S.*))?"
)
_END_BLOCK = re.compile(lang.END_BLOCK)
UNKNOWN_DECIMALS = 77
"""For a token whose own decimals are wrong: its amounts give no further problem."""

T = TypeVar("T")


class Values:
    """Reads one file; collects problems as it goes and reads on with what is right."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.tokens: dict[str, TokenSpec] = {}
        self.kind: str | None = None
        self.reserve: str | None = None
        self.share_symbol = "VAULT"
        self.share_decimals = UNKNOWN_DECIMALS
        self.actors: dict[str, Mapping[str, int] | None] = {}
        self.approvals: set[tuple[str, str]] = set()
        self.awaited: list[tuple[Node, str]] = []
        self.kinds: Mapping[str, Callable[[Node], object]] = {
            "actor": self._actor,
            "any_amount": lambda node: self._amount(node, tuple(self.tokens)),
            "balance": self._balance,
            "block_number": lambda node: integer(node, 0, 1 << 63, "a block number"),
            "break_kind": lambda node: word(node, lang.BREAK_KINDS, "kind of break"),
            "cause": lambda node: word(node, lang.CAUSES, "cause"),
            "chain_id": lambda node: integer(node, 1, (1 << 53) - 1, "a chain id from 1"),
            "accruing_token": lambda node: self._token_of(node, lang.ACCRUING_KINDS),
            "count": lambda node: integer(node, 1, 1 << 53, "a whole number from 1"),
            "date": date_at,
            "debt_token": lambda node: self._token_of(node, ("debt",)),
            "decimals": lambda node: integer(node, 0, lang.MAX_DECIMALS, f"decimals from 0 to {lang.MAX_DECIMALS}"),
            "deposit_event": lambda node: word(node, ("deposit",), "event") == "deposit",
            "depth": lambda node: integer(
                node, 1, lang.MAX_REORG_DEPTH, f"a number of blocks from 1 to {lang.MAX_REORG_DEPTH}"
            ),
            "dust": lambda node: self._values(node, lang.DUST, "dust"),
            "end_block": self._end_block,
            "exact_amount": lambda node: self._amount(node, tuple(self.tokens), exact=True),
            "exact_reserve": lambda node: self._amount(node, (self.reserve,) if self.reserve else (), exact=True),
            "exact_shares": lambda node: self._amount(node, (SHARES,), exact=True),
            "factor": lambda node: scaled(node, 27, "a factor above 0 such as 1.05, at most 27 decimals"),
            "fee": self._fee,
            "field": lambda node: line_of(node, 100),
            "flag": flag,
            "fraction": self._fraction,
            "hash": self._hash,
            "index_amount": self._index_amount,
            "index_token": lambda node: self._token_of(node, ("index_rebase",)),
            "integer": lambda node: integer(node, 0, 1 << 63, "a whole number"),
            "length": length_of_time,
            "moves": self._moves,
            "name": lambda node: line_of(node, lang.MAX_NAME_BYTES),
            "number": lambda node: decimal_number(node, "a number", signed=True),
            "opt_in_token": lambda node: self._token_of(node, ("opt_in_rebase",)),
            "owner": self._owner,
            "address": self._address,
            "places": self._places,
            "planned": lambda _: None,
            "position": self._position,
            "position_id": lambda node: integer(node, 1, 1 << 31, "the id of a position, from 1"),
            "position_type": lambda node: word(node, lang.POSITION_TYPES, "position type"),
            "profile": lambda node: word(node, tuple(lang.NODE_PROFILES), "profile"),
            "rate": self._rate,
            "reason": reason_of,
            "rebase_token": lambda node: self._token_of(node, lang.REBASING_KINDS),
            "reserve_amount": lambda node: self._amount(node, (self.reserve,) if self.reserve else ()),
            "second": lambda node: word(node, ("second",), "vault") == "second",
            "share_symbol": lambda node: line_of(node, lang.MAX_SYMBOL_BYTES),
            "shares": lambda node: self._amount(node, (SHARES,)),
            "symbol": self._symbol,
            "symbols": self._symbols,
            "text": text_of,
            "time": time_at,
            "title": lambda node: line_of(node, 1_000),
            "token_kind": lambda node: word(node, lang.TOKEN_KINDS, "token kind"),
            "usd": lambda node: scaled(
                node, PRICE_DECIMALS, f"a price above 0 in US dollars, at most {PRICE_DECIMALS} decimals"
            ),
            "vault_kind": lambda node: word(node, lang.VAULT_KINDS, "vault kind", lang.VAULT_KINDS_PLANNED),
        }

    # -- collecting

    def report(self, problem: Problem) -> None:
        self.problems.append(problem)
        if len(self.problems) >= lang.MAX_PROBLEMS:
            last = self.problems[-1].location
            self.problems.append(
                Problem(location=last, message=f"more than {lang.MAX_PROBLEMS} problems; the rest is not shown")
            )
            raise Enough

    def problem(self, node: Node, message: str, expected: str | None = None, suggestion: str | None = None) -> None:
        if node.kind != "refused":
            self.report(Problem(location=node.location, message=message, expected=expected, suggestion=suggestion))

    def attempt(self, read: Callable[..., T], node: Node, *rest: Any, **named: Any) -> T | None:
        """What ``read`` makes of a node; None with a problem noted if it cannot."""
        try:
            return read(node, *rest, **named)
        except Fault as fault:
            if fault.problem is not None:
                self.report(fault.problem)
            return None

    def pairs(self, node: Node, what: str) -> list[tuple[str, Node, Node]]:
        """A mapping's entries under plain, different keys."""
        if node.kind != "mapping":
            fail(node, f"found {node.shown}", f"a mapping for {what}")
        entries: dict[str, tuple[Node, Node]] = {}
        for key, value in node.pairs:
            if key.kind != "scalar" or key.null:
                self.problem(key, f"{key.shown} is no key", "text")
            elif key.plain and key.text == "<<":
                self.problem(key, "merge keys are not allowed", "the keys themselves")
            elif key.text in entries:
                first = entries[key.text][0].location
                self.problem(key, f"{quoted(key.text)} stands here twice, first in line {first.line}", "each key once")
            else:
                entries[key.text] = (key, value)
        return [(name, key, value) for name, (key, value) in entries.items()]

    def keyed(
        self, node: Node, keys: Sequence[Key], what: str, place: Node | None = None
    ) -> dict[str, tuple[Node, Node]]:
        """A mapping's entries, each a key of the table that may be used already."""
        table = {key.name: key for key in keys}
        names = [key.name for key in keys if not key.planned]
        found: dict[str, tuple[Node, Node]] = {}
        for name, key, value in self.pairs(node, what):
            if name not in table:
                expected = f"one of: {listed(names)}" if names else "no keys"
                self.problem(key, f"unknown key {quoted(name)} in {what}", expected, near(name, names))
            elif table[name].planned:
                self.problem(key, f"key {quoted(name)} in {what} is not supported yet", f"one of: {listed(names)}")
            else:
                found[name] = (key, value)
        lacking = [key.name for key in keys if key.required and key.name not in found]
        if lacking:
            self.problem(
                place or node, f"{what} lacks {listed(repr(name) for name in lacking)}", f"the keys: {listed(names)}"
            )
        return found

    def _values(self, node: Node, keys: Sequence[Key], what: str, place: Node | None = None) -> dict[str, Any]:
        """A mapping's values, read by kind, under the keys' names; without those that are wrong."""
        found = self.keyed(node, keys, what, place)
        values: dict[str, Any] = {}
        for key in keys:
            if key.name in found:
                value = self.attempt(self.kinds[key.kind], found[key.name][1])
                if value is not None:
                    values[key.name] = value
        return values

    # -- kinds

    def _actor(self, node: Node) -> str:
        expected = "an actor's name: letters, digits, _ . -, at most 64"
        name = scalar(node, expected)
        if name in lang.RESERVED_ACTORS:
            fail(node, f"nobody can be called {quoted(name)}: the harness calls an address of its own so", expected)
        if not re.fullmatch(lang.ACTOR, name):
            fail(node, f"{node.shown} is no actor's name", expected)
        self.actors.setdefault(name, None)
        return name

    def _named(self, name: str, node: Node, *, shares: bool = False) -> str:
        """The token that an amount or a key names."""
        if shares and name in (SHARES, "share", self.share_symbol):
            return SHARES
        if name not in self.tokens:
            known = [*self.tokens, SHARES] if shares else list(self.tokens)
            fail(node, f"unknown token {quoted(name)}", f"one of: {listed(known)}", near(name, known))
        return name

    def _named_by(self, key: Node) -> str:
        return self._named(key.text, key)

    def _symbol(self, node: Node) -> str:
        return self._named(scalar(node, f"a token, one of: {listed(self.tokens)}"), node)

    def _symbols(self, node: Node) -> tuple[str, ...]:
        if node.kind != "sequence":
            fail(node, f"found {node.shown}", "a list of tokens")
        symbols: list[str] = []
        for item in node.items:
            symbol = self.attempt(self._symbol, item)
            if symbol in symbols:
                self.problem(item, f"{symbol} stands here twice", "each token once")
            elif symbol is not None:
                symbols.append(symbol)
        return tuple(symbols)

    def _token_of(self, node: Node, kinds: Sequence[str]) -> str:
        """A token of one of some kinds."""
        names = [symbol for symbol, spec in self.tokens.items() if spec.kind in kinds]
        expected = f"a token of kind {' or '.join(kinds)}: {listed(names) or 'the file has none'}"
        symbol = self._named(scalar(node, expected), node)
        if symbol not in names:
            found = f"{symbol} is {a_kind(self.tokens[symbol].kind)} token"
            fail(node, found, expected, names[0] if len(names) == 1 else None)
        return symbol

    def _ratio(self, node: Node, expected: str) -> Fraction:
        """``5%`` or ``0.05``."""
        text = scalar(node, expected)
        match = re.fullmatch(rf"(?P<sign>[+-]?)(?P<number>{lang.NUMBER})(?P<percent> ?%)?", text)
        if match is None:
            number_fault(node, expected)
        if len(text) > 100:
            fail(node, f"{node.shown} is too long", expected)
        number = parse_decimal(match["number"])
        if match["sign"] == "-":
            fail(node, f"{quoted(text)} is negative", expected)
        return number / 100 if match["percent"] else number

    def _fee(self, node: Node) -> Fraction:
        fee = self._ratio(node, "a part such as 1% or 0.01")
        if fee >= 1:
            fail(node, f"{node.shown} leaves nothing", "less than 100%")
        if (fee * 10**18).denominator != 1:
            fail(node, f"{node.shown} has too many decimals", "at most 18 decimals, 16 in percent")
        return fee

    def _rate(self, node: Node) -> int:
        expected = "a yearly rate such as 5% or 0.05"
        rate = self._ratio(node, expected) * 10**27
        if rate.denominator != 1:
            fail(node, f"{node.shown} has too many decimals", "at most 27 decimals, 25 in percent")
        if rate > 1000 * 10**27:
            fail(node, f"{node.shown} is out of range", "at most 1000, which is 100000%")
        return rate.numerator

    def _place(self, node: Node) -> Place:
        expected = "a block, such as 5, or one of its transactions, such as 5/2"
        text = scalar(node, expected)
        match = re.fullmatch(rf"({lang.INTEGER})(?:/({lang.INTEGER}))?", text)
        if match is None:
            number_fault(node, expected)
        if len(text) > 30:
            fail(node, f"{node.shown} is out of range", expected)
        transaction = int(match[2]) if match[2] else None
        if transaction == 0:
            fail(node, f"{node.shown}: transactions count from 1", expected)
        return Place(location=node.location, block=int(match[1]), transaction=transaction)

    def _places(self, node: Node) -> tuple[Place, ...]:
        if node.kind != "sequence":
            fail(node, f"found {node.shown}", "a list of blocks and transactions such as [4, 5/2]")
        places = [self.attempt(self._place, item) for item in node.items]
        if None in places:
            raise Fault
        return tuple(place for place in places if place is not None)

    def _moves(self, node: Node) -> tuple[tuple[Place, int], ...]:
        moves = []
        broken = False
        for _, key, value in self.pairs(node, "blocks and transactions with the blocks they go to, such as {6: 7}"):
            place = self.attempt(self._place, key)
            target = self.attempt(integer, value, 0, 1 << 31, "the number of a block")
            if place is None or target is None:
                broken = True
            else:
                moves.append((place, target))
        if broken:
            raise Fault
        return tuple(moves)

    def _decimals(self, token: str) -> int:
        return self.share_decimals if token == SHARES else self.tokens[token].decimals

    def _amount(self, node: Node, tokens: Sequence[str], *, exact: bool = False, signed: bool = False) -> Amount:
        """An amount of one of ``tokens``; which one may be left out where there is just one."""
        names = [self.share_symbol if token == SHARES else token for token in tokens]
        sample = names[0] if names else "USDC"
        expected = f"an amount such as 100 {sample} or 1 raw {sample}" + ("" if exact else f", 40% or all of {sample}")
        text = scalar(node, expected)
        match = AMOUNT.fullmatch(text)
        if match is None:
            self._amount_fault(node, expected)
        token = self._amount_token(node, match["token"], tokens, names, expected)
        number = match["number"]
        if match["sign"] == "-" and not signed:
            fail(node, f"{quoted(text)} is negative", expected)
        if number is None or match["percent"]:
            return self._part(node, match, token, exact, expected)
        return Amount(location=node.location, text=node.text, token=token, raw=self._raw(node, match, token, expected))

    def _amount_fault(self, node: Node, expected: str) -> NoReturn:
        text = node.text.strip()
        glued = re.fullmatch(rf"([+-]?{lang.NUMBER})([^\W\d_]\S*)", text)
        if glued and not EXPONENT.match(text):
            fail(node, f"{quoted(text)} lacks a space before the token", expected, f"{glued[1]} {glued[2]}")
        number_fault(node, expected)

    def _amount_token(
        self, node: Node, name: str | None, tokens: Sequence[str], names: Sequence[str], expected: str
    ) -> str:
        if name is None:
            if len(tokens) == 1:
                return tokens[0]
            if not tokens:
                raise Fault
            fail(node, f"{quoted(node.text.strip())} names no token", f"one of {listed(names)} after it")
        token = self._named(name, node, shares=SHARES in tokens)
        if tokens and token not in tokens:
            fail(node, f"{quoted(node.text.strip())} is in {name}", f"an amount of {listed(names)}")
        return token

    def _part(self, node: Node, match: re.Match[str], token: str, exact: bool, expected: str) -> Amount:
        """``40%`` or ``all``."""
        if exact:
            fail(node, f"{node.shown} is no exact amount", expected)
        if match["raw"]:
            fail(node, f"{node.shown} is both a percentage and raw", expected)
        if match["percent"] is None:
            return Amount(location=node.location, text=node.text, token=token)
        if len(match["number"]) > 100:
            fail(node, f"{node.shown} is too long", expected)
        percent = parse_decimal(match["number"]) / 100
        if percent > 1:
            fail(node, f"{node.shown} is more than there is", "at most 100%")
        return Amount(location=node.location, text=node.text, token=token, percent=percent)

    def _raw(self, node: Node, match: re.Match[str], token: str, expected: str) -> int:
        number = match["number"]
        if len(number) > 200:
            fail(node, f"{node.shown} is too long", expected)
        decimals = 0 if match["raw"] else self._decimals(token)
        scale: int = 10**decimals
        scaled = parse_decimal(match["sign"] + number) * scale
        if scaled.denominator != 1:
            if match["raw"]:
                fail(node, f"{node.shown}: raw units are whole", expected)
            fail(
                node,
                f"{node.shown} has too many decimals",
                f"at most {decimals} decimals, as {self._shown_token(token)} has",
            )
        if abs(scaled.numerator) >= _UINT256 and decimals != UNKNOWN_DECIMALS:
            fail(node, f"{node.shown} does not fit into 256 bits", expected)
        return scaled.numerator

    def _shown_token(self, token: str) -> str:
        return "the share" if token == SHARES else token

    def _index_amount(self, node: Node) -> Amount:
        tokens = tuple(symbol for symbol, spec in self.tokens.items() if spec.kind == "index_rebase")
        if not tokens:
            fail(node, "there is no rebase token to withdraw", "a token of kind index_rebase in the header")
        return self._amount(node, tokens)

    def _balance(self, node: Node) -> Node:
        """The token of a rebase's balance is known only with the whole step."""
        return node

    def _position(self, node: Node) -> int | str:
        if node.kind == "scalar" and node.text == "new":
            return "new"
        return integer(node, 1, 1 << 31, "the id of a position, from 1, or new")

    def _end_block(self, node: Node) -> EndBlock:
        expected = "a block number, or head-4"
        text = scalar(node, expected)
        if not _END_BLOCK.fullmatch(text):
            if text.startswith("head"):
                fail(node, f"found {node.shown}", expected)
            return EndBlock(number=integer(node, 0, 1 << 63, expected))
        digits = text.removeprefix("head").strip(" -").replace("_", "")
        if len(digits) > 18:
            fail(node, f"{node.shown} is out of range", expected)
        return EndBlock(below_head=int(digits or 0))

    def _fraction(self, node: Node) -> Decimal:
        number = decimal_number(node, "a fraction such as 0.05")
        return decimal_of(number)

    def _hash(self, node: Node) -> str:
        text = scalar(node, "a transaction hash, 0x and 64 hex digits")
        if not re.fullmatch("0x[0-9a-fA-F]{64}", text):
            fail(node, f"found {node.shown}", "a transaction hash, 0x and 64 hex digits")
        return text.lower()

    def _owner(self, node: Node) -> Actor | str:
        expected = "an actor's name, vault, or an address"
        text = scalar(node, expected)
        if re.fullmatch("0x[0-9a-fA-F]{40}", text):
            return text
        if text != "vault":
            if not re.fullmatch(lang.ACTOR, text):
                fail(node, f"found {node.shown}", expected)
            self.awaited.append((node, text))
        return Actor(name=text)

    def _address(self, node: Node) -> Actor | str:
        expected = "vault, or an address"
        text = scalar(node, expected)
        if re.fullmatch("0x[0-9a-fA-F]{40}", text):
            return text
        if text != "vault":
            fail(node, f"found {node.shown}", expected, near(text, ["vault"]))
        return Actor(name=text)
