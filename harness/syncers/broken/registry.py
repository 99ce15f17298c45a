"""What a broken syncer is, and the list of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from harness.syncers.protocol import Syncer, Target
from harness.syncers.reference import ReferenceSyncer


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenSyncer:
    """A syncer with one thing wrong.

    ``wrong`` says in a sentence what it is. ``cause`` is what a diagnosis of its breaks should name, in the words of
    the closed list of causes; None where nothing in the list is true of it.
    """

    name: str
    wrong: str
    cause: str | None
    factory: Callable[[Target], Syncer]


BROKEN: dict[str, BrokenSyncer] = {}
"""By name."""

_Class = TypeVar("_Class", bound=type[ReferenceSyncer])


def broken(name: str, *, cause: str | None) -> Callable[[_Class], _Class]:
    """List a class under a name; its docstring says what is wrong."""

    def register(factory: _Class) -> _Class:
        wrong = " ".join(inspect.cleandoc(factory.__doc__ or "").split())
        BROKEN[name] = BrokenSyncer(name=name, wrong=wrong, cause=cause, factory=factory)
        return factory

    return register
