"""Nodes that misbehave as real ones were seen to, alike through a view and over JSON-RPC.

A profile stands between a syncer and a chain for one operation: its state (how often it was asked) starts anew with
each. Everything is deterministic. What is stored on the chain is never touched, nor are state reads: a profile fails
them, or lets another node answer, and that is all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from eth_hash.auto import keccak

from harness.chain.index import Block, LogEntry
from harness.chain.node import Front, LogAnswer, Node
from harness.errors import NodeError

PATIENCE = 4
"""So many failures in a row a good syncer lives through: it asks at least once more than that."""
_BUSY_AGAIN = 7
"""A node that limits rates refuses every so many requests after the first ones."""
_BACK_AFTER = 2
_BACK_FOR = 3
"""A head that goes back is lower for so many requests, fewer than a good syncer lives through."""
_BACK_BY = 3
_TIMED_OUT = -32002
_LIMIT_EXCEEDED = -32005
_TOO_LARGE = 413
_TOO_MANY = 429

PARAMETERS = ("blocks", "logs", "times", "block")
"""What a profile may be given, all whole numbers. Each takes some of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A way to misbehave; make others than the defaults by :func:`make_profile`."""

    name: str
    about: str
    """What the node does, in a clause: ``a range of more than 10 blocks is an error``."""
    recovers: bool
    """Whether a good syncer comes to exact books all the same; if not, a refusal is due where anything is lost."""
    parameters: tuple[str, ...] = ()
    """Which of the following it takes."""
    blocks: int | None = None
    logs: int | None = None
    times: int | None = None
    block: int | None = None


def profiled(node: Node, profile: Profile) -> FaultyNode:
    """Put a profile in front of a node, for one operation.

    Raises:
        ValueError: If the profile is a hole without its block.
    """
    return _NODES[profile.name](node, profile)


def make_profile(
    name: str,
    *,
    blocks: int | None = None,
    logs: int | None = None,
    times: int | None = None,
    block: int | None = None,
) -> Profile:
    """Make a profile with other parameters than its defaults; None keeps a default.

    Raises:
        ValueError: If there is no such profile, it does not take a parameter, or a number is too small.
    """
    if name not in PROFILES:
        raise ValueError(f"no profile is called {name!r}; there are {', '.join(PROFILES)}")
    asked = {"blocks": blocks, "logs": logs, "times": times, "block": block}
    given = {key: value for key, value in asked.items() if value is not None}
    default = PROFILES[name]
    for key, value in given.items():
        if key not in default.parameters:
            takes = " and ".join(default.parameters) or "none"
            raise ValueError(f"{name} takes no {key} (parameters: {takes})")
        if value < (key != "block"):
            raise ValueError(f"{key} is {value}, and must be at least {int(key != 'block')}")
    values: dict[str, Any] = {key: getattr(default, key) for key in PARAMETERS} | given
    about = _ABOUT[name].format_map(_words(values))
    return replace(default, **values, about=about, recovers=_recovers(name, values["times"]))


def _recovers(name: str, times: int | None) -> bool:
    """Where receipts show what logs do not, a node that never mends can be lived with."""
    return name != "lagging" and (name == "hole" or times is None or times <= PATIENCE)


def _words(values: Mapping[str, int | None]) -> dict[str, str]:
    """Say parameters in words."""
    blocks, logs, times, block = (values[key] for key in PARAMETERS)
    return {
        "blocks": "one block" if blocks == 1 else f"{blocks} blocks",
        "logs": "one log" if logs == 1 else f"{logs} logs",
        "answers": "every answer"
        if times is None
        else "the first answer"
        if times == 1
        else f"the first {times} answers",
        "reads": "first read of each header gives" if times == 1 else f"first {times} reads of each header give",
        "time_out": "first request of an operation times"
        if times == 1
        else f"first {times} requests of an operation time",
        "too_many": "first request of an operation fails"
        if times == 1
        else f"first {times} requests of an operation fail",
        "block": "one block" if block is None else f"block {block}",
        "again": str(_BUSY_AGAIN),
    }


class FaultyNode(Front):
    """A node with a profile in front: the base of all of them, which changes nothing."""

    def __init__(self, inner: Node, profile: Profile) -> None:
        super().__init__(inner)
        self.profile = profile

    def _parameter(self, name: str) -> int:
        value: int | None = getattr(self.profile, name)
        if value is None:
            raise ValueError(f"the profile {self.profile.name} needs {name}")
        return value


class _RangeCap(FaultyNode):
    """Answers no range of more blocks than that."""

    def answer_logs(
        self, start_block: int, end_block: int, addresses: Sequence[str] | None, topics: Sequence[Any] | None
    ) -> list[LogAnswer]:
        most = self._parameter("blocks")
        if end_block - start_block >= most:
            raise NodeError(_LIMIT_EXCEEDED, f"eth_getLogs is limited to a range of {most} blocks")
        return super().answer_logs(start_block, end_block, addresses, topics)


class _SilentCap(FaultyNode):
    """Gives the first so many logs of an answer, and does not say that there are more. Receipts are whole."""

    def answer_logs(
        self, start_block: int, end_block: int, addresses: Sequence[str] | None, topics: Sequence[Any] | None
    ) -> list[LogAnswer]:
        return super().answer_logs(start_block, end_block, addresses, topics)[: self._parameter("logs")]


class _TooLarge(FaultyNode):
    """Gives no answer with more logs than that, but for a single block, which is always answered."""

    def answer_logs(
        self, start_block: int, end_block: int, addresses: Sequence[str] | None, topics: Sequence[Any] | None
    ) -> list[LogAnswer]:
        answer = super().answer_logs(start_block, end_block, addresses, topics)
        most = self._parameter("logs")
        if len(answer) > most and end_block > start_block:
            raise NodeError(_TOO_LARGE, f"Request Entity Too Large: query returned more than {most} results")
        return answer


class _RateLimit(FaultyNode):
    def answering(self, method: str) -> Node:
        node = super().answering(method)
        since = self.asked - self._parameter("times")
        if since <= 0 or since % _BUSY_AGAIN == 0:
            raise NodeError(_TOO_MANY, "Too Many Requests")
        return node


class _TimeOut(FaultyNode):
    def answering(self, method: str) -> Node:
        node = super().answering(method)
        if self.asked <= self._parameter("times"):
            raise NodeError(_TIMED_OUT, "request timed out")
        return node


class _Lagging(FaultyNode):
    """Has headers and state of its newest blocks, but no logs and no receipts yet."""

    def _first_without(self) -> int:
        return self.head - self._parameter("blocks") + 1

    def find_logs(
        self, start_block: int, end_block: int, addresses: Sequence[str] | None, topics: Sequence[Any] | None
    ) -> list[LogEntry]:
        logs = super().find_logs(start_block, end_block, addresses, topics)
        first = self._first_without()
        return [log for log in logs if log.block_number < first]

    def has_receipts(self, block: Block) -> bool:
        return block.number < self._first_without()


class _Hole(FaultyNode):
    """Has lost the logs of one block, or finds them again after some answers. Its receipts are there."""

    def __init__(self, inner: Node, profile: Profile) -> None:
        super().__init__(inner, profile)
        self._block = self._parameter("block")
        self._left = profile.times

    def find_logs(
        self, start_block: int, end_block: int, addresses: Sequence[str] | None, topics: Sequence[Any] | None
    ) -> list[LogEntry]:
        logs = super().find_logs(start_block, end_block, addresses, topics)
        others = [log for log in logs if log.block_number != self._block]
        if len(others) == len(logs) or self._left == 0:
            return logs
        if self._left is not None:
            self._left -= 1
        return others


class _Repeated(FaultyNode):
    def answer_logs(
        self, start_block: int, end_block: int, addresses: Sequence[str] | None, topics: Sequence[Any] | None
    ) -> list[LogAnswer]:
        answer = super().answer_logs(start_block, end_block, addresses, topics)
        return [log for one in answer for log in (one, one)]


class _Shuffled(FaultyNode):
    def answer_logs(
        self, start_block: int, end_block: int, addresses: Sequence[str] | None, topics: Sequence[Any] | None
    ) -> list[LogAnswer]:
        answer = super().answer_logs(start_block, end_block, addresses, topics)
        shuffled = sorted(answer, key=_by_chance)
        return shuffled if shuffled != answer else answer[::-1]


def _by_chance(answer: LogAnswer) -> bytes:
    return keccak(answer.block_hash + answer.log.log_index.to_bytes(8, "big"))


class _Removed(FaultyNode):
    def answer_logs(
        self, start_block: int, end_block: int, addresses: Sequence[str] | None, topics: Sequence[Any] | None
    ) -> list[LogAnswer]:
        answer = super().answer_logs(start_block, end_block, addresses, topics)
        return [log for one in answer for log in (replace(one, removed=True, block_hash=keccak(one.block_hash)), one)]


class _Twin(FaultyNode):
    """Two nodes behind one address, asked in turn; the second one is behind."""

    def answering(self, method: str) -> Node:
        node = super().answering(method)
        if self.asked % 2:
            return node
        return Node(self.chain, head=max(self.head - self._parameter("blocks"), 0), chain_id=self.chain_id)


class _HeadBack(FaultyNode):
    """Knows its newest blocks for some requests, then for some requests not, then again."""

    @property
    def head(self) -> int:
        """The newest block's number, as this node says it."""
        is_back = _BACK_AFTER < self.asked <= _BACK_AFTER + _BACK_FOR
        return max(self._inner.head - _BACK_BY, 0) if is_back else self._inner.head


class _NullHeader(FaultyNode):
    def __init__(self, inner: Node, profile: Profile) -> None:
        super().__init__(inner, profile)
        self._reads: Counter[bytes] = Counter()

    def header_time(self, block: Block) -> int | None:
        self._reads[block.hash] += 1
        return None if self._reads[block.hash] <= self._parameter("times") else super().header_time(block)


class _ZeroTime(FaultyNode):
    """Puts zero where a log names its block's time, and in the first answer with a block's header."""

    def __init__(self, inner: Node, profile: Profile) -> None:
        super().__init__(inner, profile)
        self._read: set[bytes] = set()

    def dress(self, logs: Iterable[LogEntry]) -> list[LogAnswer]:
        return [replace(log, timestamp=0) for log in super().dress(logs)]

    def header_time(self, block: Block) -> int | None:
        if block.hash in self._read:
            return super().header_time(block)
        self._read.add(block.hash)
        return 0


class _HexNumbers(FaultyNode):
    def dress(self, logs: Iterable[LogEntry]) -> list[LogAnswer]:
        return [replace(log, is_text=True) for log in super().dress(logs)]


@dataclass(slots=True)
class Seen:
    """What a syncer was seen to ask for: which profiles can change anything for it is told by that."""

    blocks: int = 0
    """The most blocks that it asked for at once."""
    logs: int = 0
    """The most logs of an answer."""
    logs_of_range: int = 0
    """The same, but for answers to single blocks."""
    headers: bool = False
    """Whether it read any header."""


class WatchingNode(Front):
    """A node that notes what it is asked for, and answers as the one behind it."""

    def __init__(self, inner: Node, seen: Seen) -> None:
        super().__init__(inner)
        self._seen = seen

    def answer_logs(
        self, start_block: int, end_block: int, addresses: Sequence[str] | None, topics: Sequence[Any] | None
    ) -> list[LogAnswer]:
        """Note how much was asked for, and how much there is."""
        answer = super().answer_logs(start_block, end_block, addresses, topics)
        seen = self._seen
        seen.blocks = max(seen.blocks, end_block - start_block + 1)
        seen.logs = max(seen.logs, len(answer))
        if end_block > start_block:
            seen.logs_of_range = max(seen.logs_of_range, len(answer))
        return answer

    def header_time(self, block: Block) -> int | None:
        """Note that a header was read."""
        self._seen.headers = True
        return super().header_time(block)


def matters(profile: Profile, seen: Seen) -> bool:
    """Whether a profile can change any answer to a syncer that asks for what was seen."""
    match profile.name:
        case "range-cap":
            return seen.blocks > (profile.blocks or 0)
        case "silent-cap":
            return seen.logs > (profile.logs or 0)
        case "too-large":
            return seen.logs_of_range > (profile.logs or 0)
        case "hole":
            return profile.block is not None and seen.logs > 0
        case "shuffled":
            return seen.logs > 1
        case "repeated" | "removed" | "hex-numbers":
            return seen.logs > 0
        case "null-header":
            return seen.headers
        case "zero-time":
            return seen.headers or seen.logs > 0
        case _:
            return True


_ABOUT = {
    "range-cap": "a range of more than {blocks} is an error",
    "silent-cap": "an answer holds the first {logs} and does not say that there are more",
    "too-large": "an answer of more than {logs} is an error, but for a single block's",
    "rate-limit": "the {too_many} for being too many, and then every {again}th",
    "time-out": "the {time_out} out",
    "lagging": "the newest {blocks} have headers and state, but no logs yet",
    "hole": "the logs of {block} are missing from {answers}",
    "repeated": "every log is given twice",
    "shuffled": "logs come in another order",
    "removed": "each log follows a removed copy from another block",
    "twin": "every second request is answered by a node {blocks} behind",
    "head-back": f"after {_BACK_AFTER} requests the head is {_BACK_BY} blocks lower, for {_BACK_FOR} requests",
    "null-header": "the {reads} null",
    "zero-time": "logs have the time 0, and so has the first answer with each header",
    "hex-numbers": "a log's numbers are hex text, its hashes lack 0x",
}
_NODES: Mapping[str, type[FaultyNode]] = {
    "range-cap": _RangeCap,
    "silent-cap": _SilentCap,
    "too-large": _TooLarge,
    "rate-limit": _RateLimit,
    "time-out": _TimeOut,
    "lagging": _Lagging,
    "hole": _Hole,
    "repeated": _Repeated,
    "shuffled": _Shuffled,
    "removed": _Removed,
    "twin": _Twin,
    "head-back": _HeadBack,
    "null-header": _NullHeader,
    "zero-time": _ZeroTime,
    "hex-numbers": _HexNumbers,
}
_DEFAULTS: Mapping[str, Mapping[str, int | None]] = {
    "range-cap": {"blocks": 10},
    "silent-cap": {"logs": 100},
    "too-large": {"logs": 20},
    "rate-limit": {"times": 2},
    "time-out": {"times": 1},
    "lagging": {"blocks": 20},
    "hole": {"block": None, "times": None},
    "twin": {"blocks": 5},
    "null-header": {"times": 1},
}


def _default(name: str) -> Profile:
    defaults = _DEFAULTS.get(name, {})
    values: dict[str, int | None] = dict.fromkeys(PARAMETERS) | dict(defaults)
    return Profile(
        name=name,
        about=_ABOUT[name].format_map(_words(values)),
        recovers=_recovers(name, values["times"]),
        parameters=tuple(defaults),
        **values,
    )


PROFILES: Mapping[str, Profile] = MappingProxyType({name: _default(name) for name in _NODES})
"""Every profile with its defaults, by name. A ``hole`` needs its ``block`` before it can be put in front of a node."""
