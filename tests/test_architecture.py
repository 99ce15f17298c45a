"""The house rules: who may import whom, what a light import is, and which names are public."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "harness"

EVERYWHERE = {"harness", "errors", "units"}
"""What every room may import; `harness` itself for its version alone."""
MAY_IMPORT = {
    # 1-2
    "errors": set(),
    "units": set(),
    "chain": set(),
    # 3
    "books": set(),
    "scenario": set(),
    "ledger": {"scenario", "books"},
    # 4: two wings that never meet
    "world": {"scenario", "books", "ledger", "chain"},
    "syncers": {"books"},
    # 5-6
    "reconcile": {"scenario", "books", "ledger"},
    "report": {"reconcile", "scenario", "books", "ledger"},
    # 7: where the wings meet
    "schedules": {"scenario", "books", "ledger", "world"},
    "guard": set(),
    "session": {"guard", "reconcile", "scenario", "books", "ledger", "world", "syncers", "chain"},
    "judging": {"reconcile", "scenario", "books", "ledger", "world", "session"},
    "probing": {"reconcile", "scenario", "books", "ledger", "world", "session", "judging"},
    "outages": {"books", "chain", "syncers", "report", "session"},
    "sweeps": {
        *("reconcile", "scenario", "books", "ledger", "world", "chain", "report"),
        *("session", "judging", "schedules", "outages"),
    },
    "diagnosis": {
        *("report", "reconcile", "scenario", "books", "ledger", "world", "session", "judging", "sweeps"),
    },
    "runner": {
        *("reconcile", "scenario", "books", "ledger", "world", "syncers", "chain"),
        *("report", "schedules", "session", "judging", "sweeps", "probing", "diagnosis"),
    },
    # 8
    "faults": {"books", "syncers"},
    "strength": {
        *("reconcile", "scenario", "ledger", "world", "syncers", "report"),
        *("session", "judging", "sweeps", "probing", "diagnosis", "faults"),
    },
    # top
    "cli": {"report", "reconcile", "scenario", "syncers", "runner", "strength"},
    "pytest_plugin": {"report", "scenario", "syncers", "runner"},
    "__main__": {"cli"},
    "__init__": {"books", "syncers"},
}
"""Room by room, from the ground up. `__init__` re-exports what users need, lightly."""

ONLY_IN = {
    "yaml": {"scenario"},
    "eth_tester": {"chain"},
    "eth": {"chain"},
    "web3": {"chain", "syncers"},
    "eth_abi": {"chain", "syncers"},  # above all not in ledger or world: a shared decoder would hide a shared mistake
    "eth_account": {"chain"},
    "eth_keys": {"chain"},
    "jinja2": {"report"},
    "rich": {"report", "cli"},
    "click": {"cli"},
    "pytest": {"pytest_plugin"},
}
"""Who may import what others wrote, where that is not for everybody."""

PURE = ("units", "books", "scenario", "ledger", "world", "reconcile", "report", "judging", "sweeps")
IMPURE_MODULES = {"random", "secrets", "time", "socket", "subprocess", "tempfile", "uuid", "locale"}
"""No clock, no randomness, no network: the same input gives the same bytes."""
HEAVY = (
    "web3",
    "eth_tester",
    "eth",
    "hypothesis",
    "eth_abi",
    "eth_account",
    "yaml",
    "rich",
    "jinja2",
    "click",
    "pytest",
)

MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The first part of a module's name below `harness`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Each module imported anywhere: at the top, in functions, for types alone, by name through importlib."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                # `from harness import runner` imports harness.runner
                yield from (f"{module}.{name.name}" for name in names) if module == "harness" else (module,)
            case ast.ImportFrom():
                yield "a relative import"
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(module))]):
                yield module


def rooms_imported(tree: ast.AST) -> set[str]:
    """The rooms of `harness` that a module imports."""
    names = {name for name in imports_of(tree) if name.split(".")[0] in ("harness", "a relative import")}
    return {name.split(".")[1] if "." in name else name for name in names}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    room = room_of(path)
    assert room in MAY_IMPORT, f"{room} is not in the table: say on which floor it is, and what it may import"
    allowed = EVERYWHERE | MAY_IMPORT[room] | {room}
    if room in ("errors", "units"):
        allowed = {"errors"}
    assert rooms_imported(parse(path)) - allowed == set()


def test_no_room_imports_one_above_it() -> None:
    floors = list(MAY_IMPORT)
    for room, below in MAY_IMPORT.items():
        if room != "__init__":
            assert all(floors.index(other) < floors.index(room) for other in below), room


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_other_peoples_packages_are_imported_where_they_belong(path: Path) -> None:
    room = room_of(path)
    imported = {name.split(".")[0] for name in imports_of(parse(path))}
    assert {name for name in imported if room not in ONLY_IN.get(name, {room})} == set()


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(path) in PURE], ids=name_of)
def test_the_core_knows_neither_clock_nor_chance(path: Path) -> None:
    tree = parse(path)
    assert {name.split(".")[0] for name in imports_of(tree)} & IMPURE_MODULES == set()
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert {name for name in called if name.endswith((".now", ".utcnow", ".today", ".getenv"))} == set()


@pytest.mark.parametrize(
    "path", [path for path in MODULES if room_of(path) in ("ledger", "world", "reconcile")], ids=name_of
)
def test_the_truth_is_kept_without_reading_what_a_log_says(path: Path) -> None:
    tree = parse(path)
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert {node.attr for node in attributes} & {
        "data",
        "get_logs",
        "decode_log",
        "process_log",
        "process_receipt",
    } == set()
    # Of a log's topics only the first, which says what kind of event it is.
    firsts = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value == 0
    }
    taken = [node for node in attributes if node.attr == "topics" and id(node) not in firsts]
    assert all(_is_asked_whether_empty(tree, node) for node in taken)


def _is_asked_whether_empty(tree: ast.AST, attribute: ast.Attribute) -> bool:
    return any(attribute in node.values for node in ast.walk(tree) if isinstance(node, ast.BoolOp))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from harness.syncers.reference import x", {"syncers"}),
        ("def f():\n    from harness import runner", {"runner"}),
        ("import harness.chain.node as n", {"chain"}),
        ("from . import ledger", {"a relative import"}),
        ("importlib.import_module('harness.world.play')", {"world"}),
        ("if TYPE_CHECKING:\n    from harness.ledger import facts", {"ledger"}),
    ],
)
def test_the_rules_see_every_way_to_import(source: str, expected: set[str]) -> None:
    assert rooms_imported(ast.parse(source)) == expected


def test_each_folder_is_a_package() -> None:
    folders = {path.parent for path in MODULES}
    assert {name_of(folder) for folder in folders if not (folder / "__init__.py").is_file()} == set()


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, harness; print([name for name in {HEAVY} if name in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "[]\n"


def test_public_names_are_sorted_and_are_all_there_is() -> None:
    module = importlib.import_module("harness")
    assert module.__all__ == sorted(module.__all__)
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }
    assert public | {"__version__"} == set(module.__all__)


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=name_of)
def test_what_a_package_says_it_exports_exists(path: Path) -> None:
    module = importlib.import_module(".".join(["harness", *path.parent.relative_to(PACKAGE).parts]))
    missing = [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)]
    assert missing == []


def test_ci_runs_the_command_that_the_readme_gives() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line for line in readme if line.startswith("python3 -m venv .venv && ")]
    assert [command.rsplit(maxsplit=1)[1] for command in commands] == ["scenarios", "tests"]
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert commands[1] in script.splitlines()
    for environment in ("scenarios", "lint", "types"):
        assert f".venv/bin/tox -e {environment}\n" in script
