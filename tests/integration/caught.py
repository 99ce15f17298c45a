"""Which scenario catches which broken syncer, with nothing to go by but the ledger and the laws.

``python tests/integration/caught.py`` prints the page, with ``--write`` it rewrites ``docs/caught.md``. Every
``expect`` is taken out of the scenarios first: what is caught here is caught without a typed number.
"""

from __future__ import annotations

import functools
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from harness.report.matrix import Cell, Fate, Strength, percent  # noqa: E402 - the checkout is put on the path first
from harness.scenario.files import row_id, rows_of  # noqa: E402
from harness.strength import File, Plan, measure  # noqa: E402

SCENARIOS = ROOT / "scenarios"
PAGE = ROOT / "docs" / "caught.md"
MOST_SECONDS = 900
"""How long one worker waits for another's measurement."""


def files(folder: Path = SCENARIOS) -> list[File]:
    """Every scenario, one for each variant of a file, in the order of their names."""
    return [
        File(id=row_id(path.name, variant), path=str(path), root=str(folder), variant=variant)
        for path in sorted(folder.glob("*.yaml"))
        for variant, _ in rows_of(str(path), root=str(folder))
    ]


@functools.cache
def corpus() -> Strength:
    """Our own scenarios, measured once: each broken syncer until a scenario catches it.

    Workers of one run of tests share it: the first to ask measures, the others wait for what it writes down.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return _measured()
    folder = Path(tempfile.gettempdir()) / f"caught-{run}"
    written = folder / "strength"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        give_up = time.monotonic() + MOST_SECONDS
        while not written.exists() and time.monotonic() < give_up:
            time.sleep(0.5)
        return pickle.loads(written.read_bytes()) if written.exists() else _measured()
    strength = _measured()
    draft = folder / "draft"
    draft.write_bytes(pickle.dumps(strength))
    draft.replace(written)
    return strength


def _measured() -> Strength:
    return measure(files(), Plan(), jobs=len(os.sched_getaffinity(0)))


# -- the page


_OPENING = """\
# What the scenarios catch

Each broken syncer of `harness.syncers.broken` is the reference with one thing wrong. The scenarios are run with
every `expect` taken out, so what turns red does so by ledger and laws alone; in the same run the two references of
unlike design stay green. `python tests/integration/caught.py --write` writes this page, and a test holds it to be true.

Scenarios are tried smallest first, sixteen at a time, and a syncer that is caught is tried no more: what a row shows is
the first catch in the order of the scenarios' names, not the only one. `harness strength --full` tries all in all.
"""


def page(strength: Strength) -> str:
    """The page, as it is committed."""
    return "\n".join(_page(strength)) + "\n"


def _page(strength: Strength) -> Iterator[str]:
    yield _OPENING
    right, first = strength.named_right
    yield f"{strength.killed} of {strength.rated} are caught; {right} of {first} causes are named right"
    yield f"({percent(right, first)}; *unknown* is right where no cause of the list is true)."
    yield ""
    head = "broken syncer|wrong in it|caught by|line|first bad block|what is found|cause"
    yield from _table(
        tuple(head.split("|")),
        (_row(wrong.name, wrong.wrong, strength.catches[wrong.name]) for wrong in strength.wrongs),
    )
    yield ""
    yield "## What each scenario catches first"
    yield ""
    found: dict[str, list[str]] = {}
    for name, catches in strength.catches.items():
        for cell in catches[:1]:
            found.setdefault(cell.scenario, []).append(f"`{name}`")
    yield from _table(
        ("scenario", "broken syncers"), ((_link(scenario), ", ".join(found[scenario])) for scenario in sorted(found))
    )


def _row(name: str, wrong: str, catches: tuple[Cell, ...]) -> tuple[str, ...]:
    if not catches:
        return (f"`{name}`", wrong, "nothing", *[""] * 4)
    cell = catches[0]
    swept = f" ({cell.sweep})" if cell.sweep else ""
    number = ["" if value is None else str(value) for value in (cell.line, cell.block)]
    return f"`{name}`", wrong, _link(cell.scenario) + swept, *number, cell.sentence or "", cell.cause or "unknown"


def _link(scenario: str) -> str:
    return f"[{scenario.replace('.yaml', '')}](../scenarios/{scenario.partition('::')[0]})"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"


def main() -> int:
    """Print or write the page; 1 if anything survives or a reference is blamed."""
    strength = corpus()
    for tried in strength.scenarios:
        if tried.error is not None:
            print(f"{tried.id}: {tried.error}", file=sys.stderr)
            return 2
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page(strength), encoding="utf-8")
    else:
        print(page(strength), end="")
    survivors = strength.of_fate(Fate.survived)
    for wrong in survivors:
        print(f"nothing catches {wrong.name}", file=sys.stderr)
    for alarm in strength.alarms:
        print(f"{alarm.scenario}: {alarm.syncer} is blamed: {alarm.sentence}", file=sys.stderr)
    return 1 if survivors or strength.alarms else 0


if __name__ == "__main__":
    sys.exit(main())
