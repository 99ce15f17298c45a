"""The second reference, too, comes to exact books behind every fault of a node that can be recovered from."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.chain import PROFILES
from harness.report.results import NodeOutcome
from harness.runner import run_file
from harness.scenario.files import row_id, rows_of

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "scenarios").rglob("*.y*ml") if not path.name.startswith("_")
)
ROWS = [(file, variant) for file in FILES for variant, _ in rows_of(str(ROOT / file), root=str(ROOT / "scenarios"))]
SAMPLE = ROWS[::8]
"""Some: the first reference goes through all of them, and either syncer's own tests through each fault."""


@pytest.mark.parametrize(("file", "variant"), SAMPLE, ids=[row_id(*row) for row in SAMPLE])
def test_the_second_reference_is_exact_where_that_can_be(file: str, variant: str | None) -> None:
    root = str(ROOT / "scenarios")
    result = run_file(
        str(ROOT / file), id=row_id(file, variant), file=file, root=root, variant=variant, syncer="balances"
    )
    loud = {name for name, outcome in result.nodes.items() if outcome is not NodeOutcome.exact}
    assert {"time-out", "twin"} <= set(result.nodes)
    assert loud <= {name for name, profile in PROFILES.items() if not profile.recovers}
