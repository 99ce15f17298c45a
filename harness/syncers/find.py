"""Find a syncer by the name that somebody typed."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from harness.errors import SyncerNotFound, nearest
from harness.syncers.protocol import Syncer, Target

GROUP = "harness.syncers"
DEFAULT = "reference"
BUILT_IN = {
    DEFAULT: "harness.syncers.reference:ReferenceSyncer",
    "balances": "harness.syncers.balances:BalancesSyncer",
}


def find_syncer(name: str = DEFAULT) -> Callable[[Target], Syncer]:
    """Find what makes a syncer for a target.

    Args:
        name: ``reference``, ``balances``, an entry point of the group ``harness.syncers``, or ``module:attribute``.
            Modules of the current directory are found, ahead of installed ones, as with ``python -m``.

    Returns:
        Something to call with a `Target`. It is not called here.

    Raises:
        SyncerNotFound: With the reason, and the nearest valid name where there is one.
    """
    declared = {point.name: point.value for point in entry_points(group=GROUP)}
    known = declared | BUILT_IN
    path = known.get(name, name)
    module_name, colon, attribute = (part.strip() for part in path.partition(":"))
    if not colon or not module_name or not attribute:
        expected = f"expected one of {', '.join(sorted(known))}, or module:attribute"
        raise _not_found(name, expected, nearest(name, known))
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    found = _attribute(name, _module(name, module_name, attribute), module_name, attribute)
    if not callable(found):
        raise _not_found(name, f"{path} is of type {type(found).__name__}, which cannot be called with a target", None)
    return cast("Callable[[Target], Syncer]", found)


@dataclass(frozen=True, slots=True)
class ImportedSyncer:
    """A syncer from somebody's module, which can be imported anew as a new process would."""

    name: str
    module: str
    made: Callable[[Target], Syncer]

    def __call__(self, target: Target) -> Syncer:
        return self.made(target)

    def renewed(self) -> ImportedSyncer:
        """Run the module again, so that nothing it kept (a class attribute, a cache) outlives a restart.

        Modules that it imports are left as they are. One that cannot be run twice stays as it is, too.
        """
        kept = sys.modules.pop(self.module, None)
        try:
            return ImportedSyncer(self.name, self.module, find_syncer(self.name))
        except SyncerNotFound:
            if kept is not None:
                sys.modules[self.module] = kept
            return self


def import_syncer(name: str = DEFAULT) -> Callable[[Target], Syncer]:
    """Find a syncer as :func:`find_syncer` does; one from outside the harness comes as an `ImportedSyncer`."""
    made = find_syncer(name)
    module = _path_of(name).partition(":")[0].strip()
    if module == "harness" or module.startswith("harness."):
        return made
    return ImportedSyncer(name, module, made)


def _path_of(name: str) -> str:
    declared = {point.name: point.value for point in entry_points(group=GROUP)}
    return (declared | BUILT_IN).get(name, name)


def _not_found(name: str, reason: str, suggestion: str | None) -> SyncerNotFound:
    hint = f"\n    did you mean {suggestion!r}?" if suggestion is not None else ""
    return SyncerNotFound(f"no syncer {name!r}: {reason}{hint}")


def _module(name: str, module_name: str, attribute: str) -> ModuleType:
    importlib.invalidate_caches()  # the module may have been written since the process began
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise _not_found(name, f"{module_name} needs {error.name!r}, which is not installed", None) from error
        similar = nearest(module_name, _siblings(module_name))
        suggestion = f"{similar}:{attribute}" if similar is not None else None
        raise _not_found(name, f"there is no module {error.name!r}", suggestion) from error
    except (Exception, SystemExit) as error:  # whatever another's module does
        reason = f"importing {module_name} failed with {type(error).__name__}: {error}"
        raise _not_found(name, reason, None) from error


def _siblings(module_name: str) -> Iterable[str]:
    """Modules that could have been meant: those in the same package, or in the current directory."""
    package, dot, _ = module_name.rpartition(".")
    try:
        paths = list(importlib.import_module(package).__path__) if dot else [str(Path.cwd())]
    except (ImportError, AttributeError):
        return []
    return [f"{package}{dot}{module.name}" for module in pkgutil.iter_modules(paths)]


def _attribute(name: str, module: ModuleType, module_name: str, attribute: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            public = [one for one in dir(found) if not one.startswith("_")]
            similar = nearest(part, public)
            suggestion = f"{module_name}:{similar}" if similar is not None and found is module else similar
            raise _not_found(name, f"{module_name} has no {attribute!r}", suggestion) from error
    return found
