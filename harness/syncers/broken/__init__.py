"""Broken syncers: each is the reference with one thing wrong, a mistake that somebody has made.

They show what scenarios can catch. ``BROKEN`` lists them; each is also an attribute of this package, so
``--syncer harness.syncers.broken:resume_off_by_one`` runs one.
"""

from __future__ import annotations

from collections.abc import Callable

# Importing a module lists what it holds.
from harness.syncers.broken import (  # noqa: F401
    blocks,
    branches,
    calls,
    corrections,
    events,
    identity,
    interest,
    nodes,
    positions,
    quantities,
)
from harness.syncers.broken.registry import BROKEN, BrokenSyncer
from harness.syncers.protocol import Syncer, Target

__all__ = ["BROKEN", "BrokenSyncer"]


def __getattr__(name: str) -> Callable[[Target], Syncer]:
    if name in BROKEN:
        return BROKEN[name].factory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *BROKEN})
