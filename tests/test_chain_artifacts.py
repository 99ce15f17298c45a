"""Compiled contracts are found, and calls to them encoded."""

from __future__ import annotations

import pytest
from eth_utils.crypto import keccak

from harness.chain import Artifact, load_artifact
from tests.chain_bytecode import word
from tests.chain_history import ALICE

ARTIFACT = Artifact(
    name="Sample",
    abi=[
        {"type": "constructor", "inputs": [{"name": "a", "type": "uint256"}]},
        {"type": "function", "name": "f", "inputs": [{"type": "address"}], "outputs": [{"type": "address"}]},
        {
            "type": "function",
            "name": "f",
            "inputs": [{"type": "uint256"}, {"type": "bool"}],
            "outputs": [{"type": "address"}],
        },
        {
            "type": "function",
            "name": "g",
            "inputs": [],
            "outputs": [
                {"type": "tuple[]", "components": [{"type": "address"}, {"type": "uint256"}]},
                {"type": "bool"},
            ],
        },
        {"type": "event", "name": "E", "inputs": [{"type": "address", "indexed": True}, {"type": "uint256"}]},
    ],
    bytecode=b"\x60\x00",
    source_sha256="",
    compiler="by hand",
)


def test_calls_are_encoded() -> None:
    assert keccak(b"f(address)")[:4] + word(int(ALICE.address, 16)) == ARTIFACT.encode("f", ALICE.address)
    assert keccak(b"f(uint256,bool)")[:4] + word(2) + word(1) == ARTIFACT.encode("f", 2, True)
    assert b"\x60\x00" + word(9) == ARTIFACT.deploy_data(9)
    assert keccak(b"E(address,uint256)") == ARTIFACT.topic("E")


def test_answers_are_decoded() -> None:
    assert ALICE.address == ARTIFACT.decode("f", word(int(ALICE.address, 16)))
    answer = word(64) + word(1) + word(1) + word(int(ALICE.address, 16)) + word(5)
    assert (((ALICE.address, 5),), True) == ARTIFACT.decode("g", answer)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(KeyError, match="Sample has no function 'h'"):
        ARTIFACT.encode("h")
    with pytest.raises(KeyError, match="Sample has no event 'f'"):
        ARTIFACT.topic("f")
    with pytest.raises(TypeError, match="takes 1 arguments, not 0"):
        ARTIFACT.deploy_data()
    with pytest.raises(KeyError, match="no compiled contract is named 'Nothing'"):
        load_artifact("Nothing")


def test_shipped_contract_is_loaded() -> None:
    token = load_artifact("Erc20")
    assert "Erc20" == token.name
    assert token.bytecode
    assert len(token.source_sha256) == 64
    assert keccak(b"Transfer(address,address,uint256)") == token.topic("Transfer")
    assert load_artifact("Erc20") is token
