"""eth-tester made deterministic and indexed, and what others may see of it."""

from harness.chain.artifacts import Artifact, load_artifact
from harness.chain.chain import Account, Call, Chain, Header, MinedBlock, Outcome, Pending, Snapshot
from harness.chain.index import LogEntry, Receipt
from harness.chain.node import Front, Node, Switch
from harness.chain.profiles import PROFILES, Profile, make_profile, profiled
from harness.chain.view import View

__all__ = [
    "PROFILES",
    "Account",
    "Artifact",
    "Call",
    "Chain",
    "Front",
    "Header",
    "LogEntry",
    "MinedBlock",
    "Node",
    "Outcome",
    "Pending",
    "Profile",
    "Receipt",
    "Snapshot",
    "Switch",
    "View",
    "load_artifact",
    "make_profile",
    "profiled",
]
