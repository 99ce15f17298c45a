"""Proofs that a block's logs are all there: the header's bloom filter, and the root of its receipts.

A bloom filter can only say "certainly not"; a receipts root that comes out right says "these and no others".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import rlp
from eth_utils.crypto import keccak
from trie.hexary import HexaryTrie

from harness.syncers.reference.decoding import Log, as_bytes, as_int, checksummed

BLOOM_BYTES = 256
_BLOOM_BITS = 8 * BLOOM_BYTES


@lru_cache(maxsize=65_536)
def bloom_bits(element: bytes) -> int:
    """The three bits that an address or a topic sets (yellow paper, 4.3.1)."""
    digest = keccak(element)
    bits = 0
    for at in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") % _BLOOM_BITS)
    return bits


def bloom_of(logs: Iterable[Log]) -> int:
    """The bloom filter of some logs."""
    bits = 0
    for log in logs:
        bits |= bloom_bits(as_bytes(log.address))
        for topic in log.topics:
            bits |= bloom_bits(topic)
    return bits


class Sieve:
    """What a log query is, in two ways: as bits that a block's bloom must have, and as a test of a log.

    Args:
        addresses: Whose logs, or None for anybody's.
        topics: By position a topic, None, or a list of alternatives.
    """

    def __init__(self, addresses: Sequence[str] | None, topics: Sequence[Any]) -> None:
        self._addresses = None if addresses is None else {checksummed(as_bytes(one)) for one in addresses}
        self._topics = [_choices(topic) for topic in topics]
        groups = [[as_bytes(one) for one in self._addresses]] if self._addresses is not None else []
        groups += [choices for choices in self._topics if choices is not None]
        self._bits = [[bloom_bits(element) for element in elements] for elements in groups]

    def may_pass(self, bloom: int) -> bool:
        """Tell whether a block with this bloom may hold a log of the query; False is certain."""
        return all(any(bloom & bits == bits for bits in group) for group in self._bits)

    def passes(self, log: Log) -> bool:
        """Tell whether the query asks for a log."""
        if self._addresses is not None and log.address not in self._addresses:
            return False
        return len(log.topics) >= len(self._topics) and all(
            choices is None or log.topics[at] in choices for at, choices in enumerate(self._topics)
        )


def _choices(topic: Any) -> list[bytes] | None:
    if topic is None:
        return None
    return [as_bytes(one) for one in topic] if isinstance(topic, (list, tuple)) else [as_bytes(topic)]


def receipts_root(receipts: Sequence[Mapping[str, Any]]) -> bytes:
    """The root that a header must have for these receipts (yellow paper, 4.3.2; typed ones as EIP-2718 says).

    Args:
        receipts: As ``eth_getBlockReceipts`` gives them, numbers and data as hex text or plain, in order.
    """
    tree = HexaryTrie({})
    for index, receipt in enumerate(receipts):
        tree[rlp.encode(index)] = _encoded(receipt)
    return bytes(tree.root_hash)


def _encoded(receipt: Mapping[str, Any]) -> bytes:
    root = receipt.get("root")
    logs = [
        [as_bytes(log["address"]), [as_bytes(topic) for topic in log["topics"]], as_bytes(log["data"])]
        for log in receipt["logs"]
    ]
    outcome = as_bytes(root) if root else as_int(receipt["status"])
    body: bytes = rlp.encode([outcome, as_int(receipt["cumulativeGasUsed"]), as_bytes(receipt["logsBloom"]), logs])
    kind = as_int(receipt.get("type") or 0)
    return bytes([kind]) + body if kind else body


def logs_of(receipts: Sequence[Mapping[str, Any]], block: int, block_hash: bytes) -> list[Log]:
    """The logs in a block's receipts. Their numbers are counted, not believed."""
    found: list[Log] = []
    for receipt in receipts:
        for log in receipt["logs"]:
            found.append(
                Log(
                    block=block,
                    log_index=len(found),
                    tx_hash="0x" + as_bytes(receipt["transactionHash"]).hex(),
                    block_hash=block_hash,
                    address=checksummed(as_bytes(log["address"])),
                    topics=tuple(as_bytes(topic) for topic in log["topics"]),
                    data=as_bytes(log["data"]),
                )
            )
    return found
