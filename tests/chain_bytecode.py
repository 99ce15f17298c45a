"""Contracts put together by hand, so that tests of the chain stand on no compiler."""

from __future__ import annotations

_OPCODES = {
    "ADD": 0x01,
    "EQ": 0x14,
    "CALLER": 0x33,
    "CALLDATALOAD": 0x35,
    "CALLDATASIZE": 0x36,
    "CODECOPY": 0x39,
    "TIMESTAMP": 0x42,
    "NUMBER": 0x43,
    "PREVRANDAO": 0x44,
    "CHAINID": 0x46,
    "MLOAD": 0x51,
    "MSTORE": 0x52,
    "SLOAD": 0x54,
    "SSTORE": 0x55,
    "JUMP": 0x56,
    "JUMPI": 0x57,
    "DUP1": 0x80,
    "LOG0": 0xA0,
    "LOG1": 0xA1,
    "LOG2": 0xA2,
    "LOG3": 0xA3,
    "LOG4": 0xA4,
    "RETURN": 0xF3,
    "REVERT": 0xFD,
    "INVALID": 0xFE,
}


def assemble(text: str, **constants: bytes) -> bytes:
    """Turn opcodes, numbers (pushed), ``$constant`` (pushed), ``label:`` and ``@label`` (pushed) into code."""
    code, labels, uses = bytearray(), {}, []
    for item in text.split():
        if item.endswith(":"):
            labels[item[:-1]] = len(code)
            code.append(0x5B)
        elif item.startswith("@"):
            uses.append((len(code) + 1, item[1:]))
            code += b"\x61\x00\x00"
        elif item in _OPCODES:
            code.append(_OPCODES[item])
        else:
            data = constants[item[1:]] if item.startswith("$") else int(item).to_bytes(2, "big")
            code += bytes([0x5F + len(data)]) + data
    for position, label in uses:
        code[position : position + 2] = labels[label].to_bytes(2, "big")
    return bytes(code)


def deployment(runtime: bytes) -> bytes:
    """Code that deploys ``runtime``."""
    size = str(len(runtime))
    prefix = assemble(f"{size} 17 0 CODECOPY {size} 0 RETURN")
    assert len(prefix) == 17
    return prefix + runtime


def word(number: int) -> bytes:
    """A number as 32 bytes."""
    return number.to_bytes(32, "big")


ADDED = word(0xADDED)
"""Topic 0 of the counter's log; topic 1 is the caller, the data the new count."""

COUNTER = assemble(
    """
    CALLDATASIZE @write JUMPI
    0 SLOAD 0 MSTORE 32 0 RETURN
write:
    0 CALLDATALOAD @add JUMPI
    $error0 0 MSTORE $error1 32 MSTORE $error2 64 MSTORE $error3 96 MSTORE 100 0 REVERT
add:
    0 CALLDATALOAD 0 SLOAD ADD 0 MSTORE
    0 MLOAD 0 SSTORE
    CALLER $added 32 0 LOG2
    32 0 RETURN
    """,
    added=ADDED,
    error0=bytes.fromhex("08c379a0") + word(32)[:28],
    error1=word(32)[28:] + word(4)[:28],
    error2=word(4)[28:] + b"zero".ljust(28, b"\x00"),
    error3=bytes(32),
)
"""Without data: answers the count. With a word: adds it, logs and answers the new count; zero reverts ("zero")."""

EMITTER = assemble(
    """
    160 CALLDATALOAD 0 MSTORE
    0 CALLDATALOAD DUP1 0 EQ @none JUMPI
    DUP1 1 EQ @one JUMPI
    DUP1 2 EQ @two JUMPI
    DUP1 3 EQ @three JUMPI
    DUP1 4 EQ @four JUMPI
    INVALID
none:  32 0 LOG0 0 0 RETURN
one:   32 CALLDATALOAD 32 0 LOG1 0 0 RETURN
two:   64 CALLDATALOAD 32 CALLDATALOAD 32 0 LOG2 0 0 RETURN
three: 96 CALLDATALOAD 64 CALLDATALOAD 32 CALLDATALOAD 32 0 LOG3 0 0 RETURN
four:  128 CALLDATALOAD 96 CALLDATALOAD 64 CALLDATALOAD 32 CALLDATALOAD 32 0 LOG4 0 0 RETURN
    """
)
"""Takes six words: how many topics, four topics, the data. Logs that; with more than four topics, hits INVALID."""

SURROUNDINGS = assemble(
    "NUMBER 0 MSTORE TIMESTAMP 32 MSTORE CHAINID 64 MSTORE PREVRANDAO 96 MSTORE CALLER 128 MSTORE 160 0 RETURN"
)
"""Answers block number, timestamp, chain id, randomness and caller."""

SPINNER = assemble("loop: @loop JUMP")
"""Never ends."""


def emission(topics: tuple[bytes, ...], data: int) -> bytes:
    """What to call the emitter with."""
    padded = [*topics, *[bytes(32)] * (4 - len(topics))]
    return word(len(topics)) + b"".join(padded) + word(data)
