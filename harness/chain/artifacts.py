"""Compiled contracts, and how calls to them are written down."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from eth_abi.decoding import AddressDecoder, ContextFramesBytesIO
from eth_abi.encoding import AddressEncoder
from eth_abi.grammar import parse
from eth_abi.registry import BaseEquals
from eth_abi.registry import registry as default_registry
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

_CALL_SIGNATURE = re.compile(r"(?P<name>[A-Za-z_$][\w$]*)(?P<rest>\(.*\))")

_checksummed = lru_cache(maxsize=8192)(to_checksum_address)


class _ChecksumDecoder(AddressDecoder):
    decoder_fn = staticmethod(_checksummed)


_IS_ADDRESS = BaseEquals("address")  # type: ignore[no-untyped-call]
_registry: Any = default_registry.copy()  # type: ignore[no-untyped-call]
_registry.unregister("address")
_registry.register(_IS_ADDRESS, AddressEncoder, _ChecksumDecoder, label="address")


@dataclass(frozen=True, slots=True)
class Signature:
    """A function's name, what it takes and what it answers; its types as ABI text, ``(uint256,address)``."""

    name: str
    inputs: str
    outputs: str
    selector: bytes
    input_count: int
    output_count: int

    @classmethod
    def of(cls, name: str, inputs: str, outputs: str) -> Signature:
        """Put a signature together from its name and its two lists of types, each in parentheses."""
        return cls(
            name=name,
            inputs=inputs,
            outputs=outputs,
            selector=keccak(f"{name}{inputs}".encode())[:4],
            input_count=_count(inputs),
            output_count=_count(outputs),
        )

    def encode_arguments(self, arguments: Sequence[Any]) -> bytes:
        """The arguments alone, as a constructor takes them.

        Raises:
            TypeError: If there are too few or too many.
            eth_abi.exceptions.EncodingError: If one does not fit its type.
        """
        if len(arguments) != self.input_count:
            raise TypeError(f"{self.name}{self.inputs} takes {self.input_count} arguments, not {len(arguments)}")
        return bytes(_registry.get_encoder(self.inputs)(arguments)) if arguments else b""

    def encode(self, arguments: Sequence[Any]) -> bytes:
        """A call's data: selector and arguments."""
        return self.selector + self.encode_arguments(arguments)

    def decode(self, data: bytes) -> Any:
        """An answer: one value, or a tuple of several; addresses are checksummed.

        Raises:
            eth_abi.exceptions.DecodingError: If the data is no such answer.
        """
        if not self.output_count:
            return ()
        stream = ContextFramesBytesIO(data)  # type: ignore[no-untyped-call]
        values = _registry.get_decoder(self.outputs)(stream)
        return values[0] if self.output_count == 1 else values


@lru_cache(maxsize=4096)
def parse_signature(text: str) -> Signature:
    """Read ``"balanceOf(address)(uint256)"``; tuples and arrays may nest.

    Raises:
        ValueError: If it is no such signature.
    """
    match = _CALL_SIGNATURE.fullmatch(text.replace(" ", ""))
    lists = _split_lists(match["rest"]) if match else []
    if match is None or len(lists) != 2:
        raise ValueError(f"{text!r} is no signature like 'balanceOf(address)(uint256)'")
    try:
        return Signature.of(match["name"], *lists)
    except Exception as error:  # the grammar's own errors have no common base
        raise ValueError(f"{text!r} is no signature like 'balanceOf(address)(uint256)': {error}") from error


def _split_lists(text: str) -> list[str]:
    lists, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            lists.append(text[start : position + 1])
            start = position + 1
    return lists if depth == 0 else []


def _count(types: str) -> int:
    if types == "()":
        return 0
    parsed: Any = parse(types)
    parsed.validate()
    return len(parsed.components)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract."""

    name: str
    abi: Sequence[Mapping[str, Any]]
    bytecode: bytes
    """What deploys it, without constructor arguments."""
    source_sha256: str
    compiler: str
    blueprint_bytecode: bytes | None = None
    """What deploys it as a blueprint (EIP-5202), for a factory to make copies of."""
    _signatures: dict[tuple[str, int | None], Signature] = field(default_factory=dict, compare=False, repr=False)
    _topics: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    def encode(self, function_name: str, *arguments: Any) -> bytes:
        """The data of a call; of several functions of that name, the one that takes as many arguments.

        Raises:
            KeyError: If the contract has no such function.
        """
        return self._function(function_name, len(arguments)).encode(arguments)

    def deploy_data(self, *arguments: Any) -> bytes:
        """The data of the transaction that deploys the contract."""
        key = ("", None)
        signature = self._signatures.get(key)
        if signature is None:
            entries = [entry for entry in self.abi if entry["type"] == "constructor"]
            inputs = _types(entries[0]["inputs"]) if entries else "()"
            signature = self._signatures[key] = Signature.of("constructor", inputs, "()")
        return self.bytecode + signature.encode_arguments(arguments)

    def decode(self, function_name: str, data: bytes) -> Any:
        """A function's answer: one value, or a tuple of several; addresses are checksummed."""
        return self._function(function_name, None).decode(data)

    def topic(self, event_name: str) -> bytes:
        """Topic 0 of an event.

        Raises:
            KeyError: If the contract has no such event.
        """
        topic = self._topics.get(event_name)
        if topic is None:
            entry = self._entries("event", event_name)[0]
            topic = self._topics[event_name] = keccak(f"{event_name}{_types(entry['inputs'])}".encode())
        return topic

    def _function(self, name: str, argument_count: int | None) -> Signature:
        signature = self._signatures.get((name, argument_count))
        if signature is None:
            entries = self._entries("function", name)
            fitting = [entry for entry in entries if len(entry["inputs"]) == argument_count]
            entry = (fitting or entries)[0]
            signature = Signature.of(name, _types(entry["inputs"]), _types(entry["outputs"]))
            self._signatures[name, argument_count] = signature
        return signature

    def _entries(self, kind: str, name: str) -> list[Mapping[str, Any]]:
        entries = [entry for entry in self.abi if entry["type"] == kind and entry["name"] == name]
        if not entries:
            raise KeyError(f"{self.name} has no {kind} {name!r}")
        return entries


def _types(parameters: Sequence[Mapping[str, Any]]) -> str:
    return f"({','.join(_type(parameter) for parameter in parameters)})"


def _type(parameter: Mapping[str, Any]) -> str:
    kind: str = parameter["type"]
    return _types(parameter["components"]) + kind.removeprefix("tuple") if kind.startswith("tuple") else kind


@lru_cache(maxsize=256)
def load_artifact(name: str) -> Artifact:
    """Load a compiled contract by its name.

    Raises:
        KeyError: If there is none of that name.
    """
    for folder in (importlib.resources.files("harness") / "_artifacts", _checkout_artifacts()):
        file = folder / f"{name}.json"
        if file.is_file():
            fields = json.loads(file.read_text(encoding="utf-8"))
            blueprint = fields.get("blueprint_bytecode")
            return Artifact(
                name=fields["contract"],
                abi=fields["abi"],
                bytecode=bytes.fromhex(fields["bytecode"].removeprefix("0x")),
                source_sha256=fields["source_sha256"],
                compiler=fields["compiler"],
                blueprint_bytecode=bytes.fromhex(blueprint.removeprefix("0x")) if blueprint else None,
            )
    raise KeyError(f"no compiled contract is named {name!r}")


def _checkout_artifacts() -> Path:
    """Where artifacts lie when the package is used from its sources."""
    return Path(__file__).parents[2] / "contracts" / "artifacts"
