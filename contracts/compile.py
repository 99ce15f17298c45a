"""Compile the contracts and write, or check, the artifacts that the harness deploys.

``python contracts/compile.py`` rewrites ``contracts/artifacts``; with ``--check`` it only compares, and exits
with 1 on a difference. Needs vyper and snekmate (the ``contracts`` extra); running scenarios needs neither.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

CONTRACTS = Path(__file__).resolve().parent
ARTIFACTS = CONTRACTS / "artifacts"
EVM_VERSION = "cancun"
"""One fork behind the newest that py-evm plays: either runs the code."""
BLUEPRINTS = frozenset({"Comptroller", "EnzymeVault", "Erc4626Vault"})
"""Contracts that other contracts deploy, from an ERC-5202 blueprint."""


def contract_names() -> list[str]:
    """The contracts that there are sources for; modules that they share have names in lower case."""
    return sorted(path.stem for path in CONTRACTS.glob("*.vy") if path.stem[0].isupper())


def artifact_path(name: str) -> Path:
    """Where a contract's artifact is kept."""
    return ARTIFACTS / f"{name}.json"


def source_sha256(name: str) -> str:
    """The hash of a contract's own source file, hex."""
    return hashlib.sha256((CONTRACTS / f"{name}.vy").read_bytes()).hexdigest()


def compile_contract(name: str) -> str:
    """Compile one contract to its artifact's text: the same on every machine and in every folder.

    ``sources_sha256`` is vyper's integrity sum, over the source and all that it imports, snekmate's modules
    included. ``blueprint_bytecode`` deploys a blueprint.

    Source: EIP-5202 (blueprints).
    """
    vyper = import_module("vyper.compiler")
    bundles = import_module("vyper.compiler.input_bundle")
    settings = import_module("vyper.compiler.settings")
    bundle = bundles.FilesystemInputBundle([_site_packages("snekmate"), CONTRACTS])
    formats = ["abi", "bytecode", "integrity"] + ["blueprint_bytecode"] * (name in BLUEPRINTS)
    outputs = vyper.compile_from_file_input(
        bundle.load_file(CONTRACTS / f"{name}.vy"),
        input_bundle=bundle,
        settings=settings.Settings(evm_version=EVM_VERSION, optimize=settings.OptimizationLevel.GAS),
        output_formats=formats,
    )
    artifact = {
        "contract": name,
        "compiler": f"vyper {version('vyper')}",
        "snekmate": version("snekmate"),
        "evm_version": EVM_VERSION,
        "source": f"{name}.vy",
        "source_sha256": source_sha256(name),
        "sources_sha256": outputs.pop("integrity"),
        **outputs,
    }
    return json.dumps(artifact, indent=1, sort_keys=True) + "\n"


def stale_artifacts() -> list[str]:
    """The files that ``compile.py`` would write, change or remove, by name."""
    fresh = {artifact_path(name): compile_contract(name) for name in contract_names()}
    kept = {path: path.read_text(encoding="utf-8") for path in ARTIFACTS.glob("*.json")}
    return sorted(path.name for path in fresh.keys() | kept.keys() if fresh.get(path) != kept.get(path))


def write_artifacts() -> None:
    """Compile every contract; nothing is written unless all compile."""
    fresh = {artifact_path(name): compile_contract(name) for name in contract_names()}
    ARTIFACTS.mkdir(exist_ok=True)
    for path in ARTIFACTS.glob("*.json"):
        if path not in fresh:
            path.unlink()
    for path, text in fresh.items():
        path.write_text(text, encoding="utf-8", newline="\n")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if an artifact is stale")
    if not parser.parse_args(arguments).check:
        write_artifacts()
        return 0
    stale = stale_artifacts()
    for name in stale:
        sys.stdout.write(f"artifacts/{name} is not what its source compiles to: run python contracts/compile.py\n")
    return 1 if stale else 0


def _site_packages(package: str) -> Path:
    """The folder that an installed package lies in."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed: it comes with the contracts extra")
    return Path(next(iter(spec.submodule_search_locations))).resolve().parent


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
