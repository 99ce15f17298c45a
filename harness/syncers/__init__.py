"""The door to syncers: what they are given, what they must offer, how one is found by name."""

from harness.syncers.find import find_syncer
from harness.syncers.protocol import ChainView, Dust, Header, Syncer, Target

__all__ = ["ChainView", "Dust", "Header", "Syncer", "Target", "find_syncer"]
