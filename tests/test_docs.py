"""What the pages in docs/ say is what the code does."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak

from harness.books import records
from harness.chain import Node
from harness.reconcile.diff import BreakKind, ItemKind
from harness.reconcile.laws import LAWS
from harness.report.results import RunResult, ScenarioResult, Verdict, to_json
from harness.runner import run_file
from harness.scenario.files import is_collected, rows_of
from harness.scenario.loader import load
from harness.scenario.model import CorrectAccounts, Crash, NodeStep, Reorg, Scenario, SyncInterest
from harness.sweeps import SWEEPS
from harness.syncers import protocol
from harness.world.play import play
from tests.report_sample import interest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
EXAMPLE = "erc4626_syncer:Erc4626Syncer"


def erc4626_rows() -> list[tuple[Path, Scenario]]:
    """Every scenario of that kind of vault, each row of a file with variants by itself."""
    return [
        (path, scenario)
        for path in sorted((ROOT / "scenarios").rglob("*.yaml"))
        if "erc4626" in path.read_text(encoding="utf-8") and is_collected(path.relative_to(ROOT / "scenarios").parts)
        for _, scenario in rows_of(str(path), root=str(ROOT / "scenarios"))
        if scenario is not None and scenario.vault.kind == "erc4626"
    ]


def is_for_the_example(scenario: Scenario) -> bool:
    """It books no interest, and corrects the reserve alone."""
    verbs = {type(step) for step in scenario.steps}
    return SyncInterest not in verbs and (CorrectAccounts not in verbs or len(scenario.tokens) == 1)


ROWS = erc4626_rows()
DONE = [(path, scenario) for path, scenario in ROWS if is_for_the_example(scenario)]
LEFT = [(path, scenario) for path, scenario in ROWS if not is_for_the_example(scenario)]


def named(value: object) -> str | None:
    return value.stem if isinstance(value, Path) else value.variant or "" if isinstance(value, Scenario) else None


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next heading of its level or above."""
    level = heading.split(" ", 1)[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, f"no heading {heading!r}"
    return found[1]


def rows(text: str, *header: str) -> list[list[str]]:
    """The cells of the table with these columns."""
    lines = iter(text.splitlines())
    head = f"| {' | '.join(header)} |"
    assert head in lines, f"no table {head}"
    next(lines)
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return table


def words(cells: list[list[str]], column: int = 0) -> list[str]:
    return [name for row in cells for name in re.findall(r"`([^`]+)`", row[column])]


def described_records() -> list[tuple[str, type]]:
    named = [*vars(records).items(), *vars(protocol).items()]
    own = {
        name: found
        for name, found in named
        if dataclasses.is_dataclass(found) and isinstance(found, type) and found.__module__ in _OWN and name != "Dust"
    }
    return sorted(own.items())


_OWN = (records.__name__, protocol.__name__)


@pytest.mark.parametrize(("name", "record"), described_records())
def test_each_record_has_a_table_of_its_fields_and_types(name: str, record: Any) -> None:
    told = rows(section(page("books.md"), f"#### `{name}`"), "field", "type", "what it says")
    real = [
        [f"`{field.name}`", str(field.type).replace("| None", "or None").replace(" | ", " or ")]
        for field in dataclasses.fields(record)
        if field.name != "unknown_keys"
    ]
    assert real == [row[:2] for row in told]


def test_causes_are_those_of_the_records() -> None:
    told = rows(section(page("books.md"), "### Updates and refs"), "cause", "when", "its ref stands in")
    assert {cause.value for cause in records.BalanceUpdateCause} == set(words(told))


def test_the_doors_of_syncer_and_view_are_told_whole() -> None:
    door = section(page("books.md"), "## The door")
    verbs = {name.partition("(")[0] for name in words(rows(door, "method", "gives back"))}
    members = {name.partition("(")[0] for name in words(rows(door, "member", "gives"))}
    assert public(protocol.Syncer) == verbs
    assert public(protocol.ChainView) == members


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_parameters_are_those_of_the_door() -> None:
    text = page("books.md")
    for kind in (protocol.Syncer, protocol.ChainView):
        for name, member in inspect.getmembers(kind, inspect.isfunction):
            if name.startswith("_"):
                continue
            signature = ", ".join(
                ("*" if parameter.kind is parameter.VAR_POSITIONAL else "")
                + parameter.name
                + ("=None" if parameter.default is None else "")
                for parameter in list(inspect.signature(member).parameters.values())[1:]
            )
            assert f"`{name}({signature})`" in text


@pytest.mark.parametrize(
    ("name", "heading"), [("books.md", "## What is always true"), ("reports.md", "## Laws by name")]
)
def test_laws_are_told_by_name(name: str, heading: str) -> None:
    last = "what it holds" if name == "books.md" else "in short"
    assert list(LAWS) == words(rows(section(page(name), heading), "law", last))


def test_sweeps_are_told_by_name() -> None:
    told = rows(section(page("writing_a_syncer.md"), "## The sweeps"), "sweep", "what is different", "what it catches")
    assert list(SWEEPS) == words(told)


def test_kinds_of_breaks_items_and_verdicts_are_told() -> None:
    text = page("reports.md")
    kinds = rows(section(text, "## Kinds of breaks"), "kind", "what it means")
    verdicts = rows(section(text, "## Verdicts"), "verdict", "what it says")
    items = rows(section(text, "#### items"), "kind", "why chain and books rightly differ")
    assert sorted(BreakKind) == sorted(words(kinds))
    assert [verdict.value for verdict in Verdict] == words(verdicts)
    assert [item.value for item in ItemKind] == [row[0] for row in items]


def test_exit_codes_are_those_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    header = ("code", "meaning (the first that applies)")
    assert rows(readme, *header) == rows(page("reports.md"), *header)


# -- what results.json holds


@pytest.fixture(scope="module")
def differing() -> ScenarioResult:
    """A red result with a statement that has an item."""
    file = ROOT / "scenarios" / "donated_tokens_are_no_deposit.yaml"
    return run_file(str(file), id="a", file="a", syncer="harness.syncers.broken:foreign_fund_taken", sweeps=False)


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> ScenarioResult:
    """A scenario that is wrong itself."""
    file = tmp_path_factory.mktemp("wrong") / "wrong.yaml"
    file.write_text("title: wrong\n", encoding="utf-8")
    return run_file(str(file), id="b", file="b")


def test_each_field_of_the_json_is_told(differing: ScenarioResult, wrong: ScenarioResult) -> None:
    document = json.loads(to_json(RunResult(syncer="x", scenarios=(differing, wrong, interest()))))
    red, broken, allowing = document["scenarios"]
    point = next(point for point in red["sync_points"] if any(statement["items"] for statement in point["statement"]))
    statement = next(statement for statement in point["statement"] if statement["items"])
    shown = {
        "top": document,
        "scenarios": red,
        "problems": broken["problems"][0],
        "breaks": red["breaks"][0],
        "timeline": red["timeline"][0],
        "entries": next(block["entries"][0] for block in red["timeline"] if block["entries"]),
        "sync_points": point,
        "statement": statement,
        "diagnosis": red["diagnosis"],
        "sides": red["diagnosis"]["sides"][0],
        "tolerances": allowing["tolerances"][0],
        "known": allowing["known"],
    }
    text = section(page("reports.md"), "## results.json")
    for heading, value in shown.items():
        told = words(rows(section(text, f"#### {heading}"), "field", "what it is"))
        assert set(value) == set(told), heading
    assert list(red["breaks"][0]) == list(red["diagnosis"]["break"]) == list(allowing["known"]["accepted"][0])
    assert ["law", "reason", "line"] == list(allowing["laws_off"][0])
    assert sorted(allowing["tolerances"][0]["allowed"]) == ["raw", "tokens", "usd"]
    assert sorted(statement["items"][0]) == ["kind", "raw", "tokens"]
    assert sorted(statement["opening"]) == ["raw", "tokens"]


def test_books_initialised_by_themselves_are_placed_at_the_first_key(differing: ScenarioResult) -> None:
    first = next(
        number
        for number, line in enumerate(differing.source.splitlines(), 1)
        if line.strip() and not line.startswith("#")
    )
    assert ("initialise", first) == (differing.sync_points[0].operation, differing.sync_points[0].line)


# -- what is on chain


def artifacts() -> Iterator[dict[str, Any]]:
    for path in sorted((ROOT / "contracts" / "artifacts").glob("*.json")):
        yield from json.loads(path.read_text(encoding="utf-8"))["abi"]


def test_events_are_those_of_the_contracts() -> None:
    abi = {
        f"{entry['name']}({', '.join(_parameter(item) for item in entry['inputs'])})"
        for entry in artifacts()
        if entry["type"] == "event"
    }
    told = words(rows(section(page("books.md"), "## What you may rely on, on chain"), "emitter", "event"), 1)
    named = {event for event in told if not event.startswith("Transfer(")}
    assert named - abi == set()
    # Vyper names the fields of `Transfer` in its own way; the types count.
    assert [event for event in told if event.startswith("Transfer(")] == [
        "Transfer(address indexed from, address indexed to, uint256 value)"
    ]


def _parameter(item: dict[str, Any]) -> str:
    return f"{item['type']}{' indexed' if item['indexed'] else ''} {item['name']}"


def test_views_are_those_of_the_contracts() -> None:
    abi = {
        f"{entry['name']}({','.join(item['type'] for item in entry['inputs'])})"
        f"({','.join(item['type'] for item in entry['outputs'])})"
        for entry in artifacts()
        if entry["type"] == "function"
    }
    told = re.findall(r"`(\w+\([\w,\[\]]*\)\([\w,\[\]]+\))`", page("books.md"))
    assert len(told) > 10
    assert set(told) - abi == set()


LOGGED = {
    "enzyme": """
title: One call of each kind
tokens:
  USDC: {decimals: 6}
  WETH: {usd: 1000}
vault: {kind: enzyme, reserve: USDC}
steps:
  - deposit: {caller: alice, assets: 500 USDC}
  - sync:
  - trade: {sell: 100 USDC, buy: 0.1 WETH}
  - redeem: {caller: alice, shares: 50%}
""",
    "erc4626": """
title: One call of each kind
tokens:
  USDC: {decimals: 6}
vault: {kind: erc4626, reserve: USDC}
steps:
  - deposit: {caller: alice, assets: 500 USDC}
  - mint: {caller: alice, shares: 1}
  - withdraw: {caller: alice, assets: 1}
  - redeem: {caller: alice, shares: 50%}
  - sync:
""",
}
SENT = {
    "enzyme": {"deployment": [2], "deposit": [3], "redemption": [5]},
    "erc4626": {"deposit or mint": [3, 4], "withdraw or redeem": [5, 6]},
}


@pytest.mark.parametrize("kind", LOGGED)
def test_logs_of_a_call_stand_in_the_order_told(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "logs.yaml"
    path.write_text(LOGGED[kind], encoding="utf-8")
    chain = play(load(str(path))).chain
    named = {
        keccak(text=re.sub(r" indexed| \w+(?=[,)])", "", event).replace(" ", "")): event for event in told_events()
    }
    told = {row[0]: row[1] for row in rows(page("books.md"), "call", "logs")}
    for call, blocks in SENT[kind].items():
        for block in blocks:
            logs = Node(chain).find_logs(block, block, None, None)
            found = [
                named[bytes(log.topics[0])].partition("(")[0]
                for log in logs
                if log.transaction_hash == logs[0].transaction_hash and bytes(log.topics[0]) in named
            ]
            transfers = re.findall(r"`(\w+)`", told[f"{kind}, {call}"])
            assert _merged(transfers) == _merged(found), call


def _merged(names: list[str]) -> list[str]:
    """One transfer out for each leg: however many there are."""
    return [name for index, name in enumerate(names) if index == 0 or name != names[index - 1]]


def told_events() -> list[str]:
    return words(rows(section(page("books.md"), "## What you may rely on, on chain"), "emitter", "event"), 1)


# -- the example


@pytest.mark.parametrize(("path", "scenario"), DONE, ids=named)
def test_the_example_reconciles(path: Path, scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    # All sweeps of all of them take minutes.
    result = example_on(path, scenario, monkeypatch, sweeps=(path, scenario) in DONE[::5])
    assert (Verdict.reconciled, ()) == (result.verdict, result.breaks)


@pytest.mark.parametrize(("path", "scenario"), LEFT, ids=named)
def test_the_example_refuses_what_it_leaves_out(
    path: Path, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = example_on(path, scenario, monkeypatch, sweeps=False)
    assert [] == [found for found in result.breaks[:1] if found.kind is not BreakKind.refused]


def example_on(path: Path, scenario: Scenario, monkeypatch: pytest.MonkeyPatch, *, sweeps: bool) -> ScenarioResult:
    monkeypatch.syspath_prepend(EXAMPLES)
    return run_file(
        str(path),
        id=path.name,
        file=path.name,
        root=str(ROOT / "scenarios"),
        variant=scenario.variant,
        syncer=EXAMPLE,
        sweeps=sweeps,
    )


def test_there_are_scenarios_for_the_example() -> None:
    verbs = {type(step) for _, scenario in DONE for step in scenario.steps}
    assert {Reorg, CorrectAccounts, Crash, NodeStep} <= verbs
    assert len(DONE) >= 40


def test_the_examples_command_works_as_it_stands(tmp_path: Path) -> None:
    found = re.search(r"<!-- checked: run -->\n```sh\n(.*?)```", page("writing_a_syncer.md"), re.DOTALL)
    assert found is not None
    assignment, command, *arguments = shlex.split(found[1])
    assert ("PYTHONPATH=docs/examples", "harness") == (assignment, command)
    reports = [f"--{name}={tmp_path / name}" for name in ("html", "junit", "json")]
    code = "import sys; sys.path.insert(0, 'docs/examples'); from harness.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, *reports], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert " ".join(arguments[:2]) in " ".join((EXAMPLES / "erc4626_syncer.py").read_text(encoding="utf-8").split())


# -- the pages themselves


def test_the_index_lists_every_page() -> None:
    listed = set(re.findall(r"\]\(([\w./-]+)\)", page("README.md")))
    there = {path.name for path in DOCS.glob("*.md")} | {f"examples/{path.name}" for path in EXAMPLES.glob("*.py")}
    assert there - {"README.md"} - listed == set()


@pytest.mark.parametrize(
    "name", ["README.md", "authoring.md", "books.md", "nodes.md", "reports.md", "writing_a_syncer.md"]
)
def test_links_lead_somewhere(name: str) -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", page(name)):
        path = DOCS / target if target else DOCS / name
        assert path.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_broken_syncers_and_options_named_are_there() -> None:
    text = page("writing_a_syncer.md") + page("reports.md")
    helped = subprocess.run(
        [sys.executable, "-m", "harness", "run", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert options - set(re.findall(r"--[a-z][a-z-]+", helped)) == set()


# -- scenarios on the page for their authors


def example_files() -> dict[str, str]:
    return dict(re.findall(r"<!-- file: ([\w.]+) -->\n```yaml\n(.*?)```", page("authoring.md"), re.DOTALL))


@pytest.fixture(scope="module")
def authored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authored")
    for name, text in example_files().items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", [name for name in example_files() if is_collected([name])])
@pytest.mark.parametrize("syncer", ["reference", "balances"])
def test_scenarios_shown_to_authors_reconcile(name: str, syncer: str, authored: Path) -> None:
    path = str(authored / name)
    for variant, _ in rows_of(path, root=str(authored)):
        result = run_file(
            path, id=name, file=name, root=str(authored), variant=variant, syncer=syncer, sweeps=syncer == "reference"
        )
        assert (Verdict.reconciled, None, ()) == (result.verdict, result.error, result.breaks), variant


def test_every_new_step_is_shown_to_authors() -> None:
    text = "".join(example_files().values())
    verbs = ("variants", "include", "defaults", "node", "crash", "reorg", "after", "correct_accounts", "borrow")
    assert [] == [verb for verb in verbs if f"{verb}:" not in text]


def test_a_row_is_selected_as_the_page_says(authored: Path) -> None:
    found = re.search(r"harness run scenarios/(\S+)::(\S+)", page("authoring.md"))
    assert found is not None
    assert found[2] in [variant for variant, _ in rows_of(str(authored / found[1]), root=str(authored))]
