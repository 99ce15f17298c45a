"""Logs as words of 32 bytes, cut by hand; and the bloom filter in which a header sums up its block's logs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from harness.syncers.balances.asking import Doubt, as_bytes

WORD_BYTES = 32
ADDRESS_BYTES = 20
BLOOM_BYTES = 256
_BLOOM_BITS = 8 * BLOOM_BYTES
NOBODY = bytes(ADDRESS_BYTES)
"""The zero address: shares are minted from it and burned to it."""


def signature_hash(signature: str) -> bytes:
    """The first topic of an event, e.g. of ``Transfer(address,address,uint256)``."""
    return keccak(text=signature)


def address_bytes(text: str) -> bytes:
    """The 20 bytes that an address's text stands for, in any spelling.

    >>> address_bytes("0x" + "00" * 19 + "Ff")[-1]
    255
    """
    return as_bytes(text)


@lru_cache(maxsize=4096)
def address_text(address: bytes) -> str:
    """An address as checksummed text."""
    return to_checksum_address(address)


def as_topic(address: bytes) -> bytes:
    """An address as an indexed field: padded to a word from the left."""
    return address.rjust(WORD_BYTES, b"\0")


def as_address(word: bytes, where: str) -> bytes:
    """The address in a word.

    Raises:
        Doubt: If there is more in the word than an address.
    """
    if any(word[:-ADDRESS_BYTES]) or len(word) != WORD_BYTES:
        raise Doubt(f"{where}: 0x{word.hex()} is no address")
    return word[-ADDRESS_BYTES:]


class Words:
    """The data of a log. Fields count from 0; ``where`` begins the messages of what does not fit."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._where = where

    def word(self, at: int) -> bytes:
        """A word as it stands.

        Raises:
            Doubt: If the data ends before.
        """
        cut = self._data[at * WORD_BYTES : (at + 1) * WORD_BYTES]
        if len(cut) != WORD_BYTES:
            raise Doubt(f"{self._where}: the data ends before word {at}")
        return cut

    def number(self, at: int) -> int:
        """An unsigned number."""
        return int.from_bytes(self.word(at), "big")

    def address(self, at: int) -> bytes:
        """An address."""
        return as_address(self.word(at), self._where)

    def array(self, at: int) -> range:
        """The fields that hold the items of the array whose offset a field gives.

        Raises:
            Doubt: If it lies outside of the data, or not on a word.
        """
        offset, rest = divmod(self.number(at), WORD_BYTES)
        whole = len(self._data) // WORD_BYTES
        if rest or offset >= whole or offset + 1 + self.number(offset) > whole:
            raise Doubt(f"{self._where}: the array of word {at} does not fit into the data")
        return range(offset + 1, offset + 1 + self.number(offset))


@lru_cache(maxsize=65_536)
def _bits(element: bytes) -> int:
    """The three bits that an address or topic sets in a bloom filter (Ethereum's yellow paper, 4.3.1)."""
    digest = keccak(element)
    pairs = (int.from_bytes(digest[start : start + 2], "big") for start in (0, 2, 4))
    return sum(1 << bit for bit in {pair % _BLOOM_BITS for pair in pairs})


def bloom_of(elements: Iterable[bytes]) -> bytes:
    """The bloom filter of the addresses and topics of some logs."""
    bloom = 0
    for element in elements:
        bloom |= _bits(element)
    return bloom.to_bytes(BLOOM_BYTES, "big")


def may_hold(bloom: bytes, *elements: bytes) -> bool:
    """Tell whether a block whose header has this bloom filter may have logs with all of these; False is certain."""
    wanted = 0
    for element in elements:
        wanted |= _bits(element)
    return int.from_bytes(bloom, "big") & wanted == wanted
