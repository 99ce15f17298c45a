"""The reference syncer. It sees the chain through a view only and knows nothing of scenario or ledger."""

from harness.syncers.reference.syncer import ReferenceSyncer

__all__ = ["ReferenceSyncer"]
