"""Proves that a vault's off-chain books equal the chain.

Importing this package is cheap: the chain (web3, eth-tester, py-evm) is imported where one starts.
"""

from __future__ import annotations

from harness.errors import (
    BooksError,
    ExecutionError,
    HarnessError,
    Location,
    NodeError,
    OutputError,
    Problem,
    ScenarioError,
    SyncerError,
    SyncerNotFound,
    SyncRefused,
)
from harness.syncers.protocol import ChainView, Dust, Header, Syncer, Target

__version__ = "0.1.0"

__all__ = [
    "BooksError",
    "ChainView",
    "Dust",
    "ExecutionError",
    "HarnessError",
    "Header",
    "Location",
    "NodeError",
    "OutputError",
    "Problem",
    "ScenarioError",
    "SyncRefused",
    "Syncer",
    "SyncerError",
    "SyncerNotFound",
    "Target",
    "__version__",
]
