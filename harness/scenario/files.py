"""Which files are scenarios, and what each of their scenarios is called. Light: YAML is read only when asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.errors import ScenarioError

if TYPE_CHECKING:
    from harness.scenario.model import Scenario

SUFFIXES = (".yaml", ".yml")
"""How a scenario file's name ends."""
BETWEEN = "::"
"""Stands between a file and one of its variants."""


def is_collected(parts: Iterable[str]) -> bool:
    """Whether a file is a scenario of the folder that it was found in, by the names from there down to its own.

    Hidden files and folders are none, nor are those that begin with ``_``: they are there to be included.

    >>> is_collected(["credit", "borrow.yaml"]), is_collected(["_common", "tokens.yaml"]), is_collected(["notes.txt"])
    (True, False, False)
    """
    names = list(parts)
    return bool(names) and names[-1].endswith(SUFFIXES) and not any(name.startswith((".", "_")) for name in names)


def row_id(file_id: str, variant: str | None) -> str:
    """What a scenario is called: its file's id, and its variant's.

    >>> row_id("chunks.yaml", "chunk-1"), row_id("chunks.yaml", None)
    ('chunks.yaml::chunk-1', 'chunks.yaml')
    """
    return file_id if variant is None else f"{file_id}{BETWEEN}{variant}"


def rows_of(
    path: str, *, root: str | None = None, variant: str | None = None
) -> tuple[tuple[str | None, Scenario | None], ...]:
    """The variants of a file, or the one asked for, each with its scenario.

    A file without variants has one, called None; so has one that cannot be read (or the variant asked for), with no
    scenario: whoever runs it says why.
    """
    from harness.scenario.loader import load_all

    try:
        scenarios = load_all(path, root=root, variant=variant)
    except ScenarioError:
        return ((variant, None),)
    return tuple((scenario.variant, scenario) for scenario in scenarios)
