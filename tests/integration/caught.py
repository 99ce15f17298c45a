"""Which scenario catches which broken syncer, with nothing to go by but the ledger and the laws.

``python tests/integration/caught.py`` prints the page, with ``--write`` it rewrites ``docs/caught.md``. Every
``expect`` is taken out of the scenarios first: what is caught here is caught without a typed number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from harness.errors import ScenarioError  # noqa: E402 - run as a file, the checkout is put on the path first
from harness.judging import judge  # noqa: E402
from harness.reconcile.diff import Break  # noqa: E402
from harness.report.results import gap_tokens  # noqa: E402
from harness.runner import run_scenario  # noqa: E402
from harness.scenario.loader import load  # noqa: E402
from harness.session import Session  # noqa: E402
from harness.strength import without_expectations  # noqa: E402
from harness.syncers.broken import BROKEN  # noqa: E402
from harness.syncers.protocol import Syncer, Target  # noqa: E402
from harness.syncers.reference import ReferenceSyncer  # noqa: E402
from harness.world.acts import Played  # noqa: E402
from harness.world.play import play  # noqa: E402

SCENARIOS = ROOT / "scenarios"
PAGE = ROOT / "docs" / "caught.md"

Factory = Callable[[Target], Syncer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catch:
    """The first thing that one scenario finds wrong with one syncer."""

    scenario: str
    broken: Break


class Caught:
    """Every scenario against every syncer: each is played once, and its chain's reads are shared."""

    def __init__(self, folder: Path = SCENARIOS) -> None:
        self.names: list[str] = []
        self.false_alarms: list[Catch] = []
        """What the reference is blamed for, in the same run."""
        self.catches: dict[str, list[Catch]] = {name: [] for name in BROKEN}
        """By broken syncer, in the order of the scenarios."""
        for path in sorted(folder.glob("*.yaml")):
            self.names.append(path.name)
            played = play(without_expectations(load(str(path), name=path.name)))
            memory: dict[object, object] = {}
            self.false_alarms += _caught(path.name, played, ReferenceSyncer, memory)
            for name, broken in BROKEN.items():
                self.catches[name] += _caught(path.name, played, broken.factory, memory)
        for name in [name for name, catches in self.catches.items() if not catches]:
            self.catches[name] += self._swept(folder, name)

    def _swept(self, folder: Path, name: str) -> Iterator[Catch]:
        """What is found of a syncer that every plain run lets pass, once the scenarios are synced in other ways."""
        for scenario in self.names:
            bare = without_expectations(load(str(folder / scenario), name=scenario))
            for broken in run_scenario(bare, BROKEN[name].factory, id=scenario).breaks[:1]:
                yield Catch(scenario=scenario, broken=broken)

    def page(self) -> str:
        """The page, as it is committed."""
        return "\n".join(_page(self)) + "\n"


def _caught(name: str, played: Played, factory: Factory, memory: dict[object, object]) -> list[Catch]:
    """The first break, if there is one: no more of the scenario is synced than it takes."""
    for point in Session(played, factory, memory=memory).points():
        breaks = judge(played, point).breaks
        if breaks:
            return [Catch(scenario=name, broken=breaks[0])]
    return []


# -- the page


_OPENING = """\
# What the scenarios catch

Each broken syncer of `harness.syncers.broken` is the reference with one thing wrong. The scenarios are run with
every `expect` taken out, so what turns red does so by ledger and laws alone; in the same run the reference stays
green. `python tests/integration/caught.py --write` writes this page, and a test holds it to be true.

A row shows the first break of the first scenario that turns red, files in the order of their names: block, transaction
and log that it comes from, and the gap, which is what the books say less what they should. Where a break is of no
event, it has none of these.
"""


def _page(caught: Caught) -> Iterator[str]:
    yield _OPENING
    head = "broken syncer|wrong in it|scenarios red|the first of them|line|break|block|transaction|log|gap"
    yield from _table(
        tuple(head.split("|")),
        (_row(name, catches, len(caught.names)) for name, catches in caught.catches.items()),
    )
    yield ""
    yield "## What each scenario is there for"
    yield ""
    yield "Broken syncers that a scenario turns red for; **bold** those that at most two scenarios catch."
    yield ""
    yield from _table(
        ("scenario", "caught", "which"),
        (_scenario_row(scenario, caught) for scenario in caught.names),
    )


def _row(name: str, catches: list[Catch], scenarios: int) -> tuple[str, ...]:
    first = catches[0].broken if catches else None
    if first is None:
        return (f"`{name}`", BROKEN[name].wrong, f"0 of {scenarios}", *[""] * 7)
    place = first.location or first.found_at
    return (
        f"`{name}`",
        BROKEN[name].wrong,
        f"{len(catches)} of {scenarios}",
        f"[{catches[0].scenario.removesuffix('.yaml')}](../scenarios/{catches[0].scenario})",
        _number(None if place is None else place.line),
        _kind(first),
        _number(first.block),
        "" if first.transaction is None else f"`{first.transaction.removeprefix('0x')[:8]}…`",
        _number(first.log_index),
        _gap(first),
    )


def _kind(broken: Break) -> str:
    field = f" `{broken.field}`" if broken.field else ""
    return f"{broken.kind}{field}" + (f" ({broken.sweep})" if broken.sweep else "")


def _gap(broken: Break) -> str:
    if (tokens := gap_tokens(broken)) is not None:
        return tokens
    if broken.gap_usd is not None:
        return f"{broken.gap_usd:+.10g} USD"
    return f"{broken.actual} for {broken.expected}" if broken.expected and broken.actual else ""


def _scenario_row(scenario: str, caught: Caught) -> tuple[str, ...]:
    found = [
        (f"**`{name}`**" if len(catches) <= 2 else f"`{name}`")
        for name, catches in caught.catches.items()
        if any(catch.scenario == scenario for catch in catches)
    ]
    return scenario.removesuffix(".yaml"), str(len(found)), ", ".join(found)


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"


def main() -> int:
    """Print or write the page; 1 if anything survives or the reference is blamed."""
    try:
        caught = Caught()
    except ScenarioError as error:
        print(error, file=sys.stderr)
        return 2
    if "--write" in sys.argv[1:]:
        PAGE.write_text(caught.page(), encoding="utf-8")
    else:
        print(caught.page(), end="")
    survivors = [name for name, catches in caught.catches.items() if not catches]
    for name in survivors:
        print(f"nothing catches {name}", file=sys.stderr)
    for alarm in caught.false_alarms:
        print(f"{alarm.scenario}: the reference is blamed: {alarm.broken.sentence}", file=sys.stderr)
    return 1 if survivors or caught.false_alarms else 0


if __name__ == "__main__":
    sys.exit(main())
