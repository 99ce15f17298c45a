"""What can go wrong, one class for each thing that a caller would do differently.

HarnessError
├── ScenarioError    the YAML is wrong; carries every problem found in the file   exit 2
├── ExecutionError   a step failed on chain though the scenario expects success   exit 2
├── BooksError       a state file or what a syncer returned is no books           exit 2 for a file
├── SyncerNotFound   no syncer of that name                                       exit 2
├── OutputError      a report cannot be written where it was asked for            exit 2
├── CallReverted     a read of the chain failed in the contract that was asked    whoever asked decides
├── NodeError        a node answers with an error instead of what was asked       ask again, ask for less, or refuse
├── SyncRefused      a syncer declines an operation; books stay as they were      a break, unless announced
└── SyncerError      the syncer raised, hung, or returned something else          a break, exit 1

A break (books and chain differ) is no exception: it is a value, see ``harness.reconcile.diff``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class HarnessError(Exception):
    """Base of every error that the harness raises on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Location:
    """A place in a scenario file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with a scenario file, and what would be right.

    ``message`` says what was found; ``expected`` what may stand there (one sentence or a list of
    names, without a final stop); ``suggestion`` is the nearest valid name.
    """

    location: Location
    message: str
    expected: str | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.location}: {self.message}"]
        if self.expected is not None:
            lines.append(f"    expected {self.expected}")
        if self.suggestion is not None:
            lines.append(f"    did you mean {self.suggestion!r}?")
        return "\n".join(lines)


class ScenarioError(HarnessError):
    """A scenario is wrong; ``problems`` holds everything found, in file order, never empty."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ExecutionError(HarnessError):
    """A step did not do on chain what the scenario says (failed unasked, or succeeded though `refused`)."""

    def __init__(self, location: Location, message: str) -> None:
        self.location = location
        self.message = message
        super().__init__(f"{location}: {message}")


class BooksError(HarnessError):
    """Something is no books; ``path`` names the field, e.g. ``sync.treasury.last_block_scanned``."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        self.message = message
        super().__init__(f"{path}: {message}" if path else message)


class SyncerNotFound(HarnessError):
    """No syncer of that name."""


class OutputError(HarnessError):
    """A report cannot be written where it was asked for."""


class SyncRefused(HarnessError):
    """A syncer declines an operation; the books that it was given stay as they were."""


class SyncerError(HarnessError):
    """A syncer raised, ran out of time, or returned something else than books."""


class CallReverted(HarnessError):
    """A call that only reads failed in the contract; ``reason`` is the revert's text, ``data`` what it returned."""

    def __init__(self, reason: str, data: bytes = b"") -> None:
        self.reason = reason
        self.data = data
        super().__init__(reason)


class NodeError(HarnessError):
    """A node answers with an error: a JSON-RPC ``code`` and ``message``, as over HTTP so through a view.

    Among the codes are 413 (the answer is too large), 429 (too many requests), -32002 (it took too long), -32005 (more
    than one may ask for) and -32000 (anything else, e.g. a block that the node does not have).
    """

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(code, message)

    def __str__(self) -> str:
        return self.message


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Find the candidate that ``name`` was most likely meant to be, or None if none is close.

    >>> nearest("depositt", ["deposit", "redeem"])
    'deposit'
    >>> nearest("zzz", ["deposit", "redeem"]) is None
    True
    """
    names = sorted(set(candidates))
    folded: dict[str, str] = {}
    for candidate in names:
        folded.setdefault(candidate.lower(), candidate)
    matches = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None
