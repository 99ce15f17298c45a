"""A second reference syncer of another design: balances and share supply first, logs only to say whose they were.

It shares no code with the first one, so that where both agree with the ledger, three ways of counting agree.
"""

from harness.syncers.balances.syncer import BalancesSyncer

__all__ = ["BalancesSyncer"]
