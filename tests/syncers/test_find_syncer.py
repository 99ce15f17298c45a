"""Syncers found by name, and what is said of those that are not."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

from harness.errors import SyncerNotFound
from harness.syncers import find, find_syncer
from harness.syncers.balances import BalancesSyncer
from harness.syncers.reference import ReferenceSyncer


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current directory to put modules in; what they leave behind is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_reference_is_the_default():
    assert find_syncer() is ReferenceSyncer
    assert find_syncer("reference") is ReferenceSyncer
    assert find_syncer("harness.syncers.reference:ReferenceSyncer") is ReferenceSyncer


def test_second_reference_has_a_name_of_its_own():
    assert find_syncer("balances") is BalancesSyncer


def test_current_directory_is_importable(folder):
    (folder / "house_syncer.py").write_text("class Maker:\n    @staticmethod\n    def make(target): return 'made'\n")
    assert find_syncer("house_syncer:Maker.make")(None) == "made"


def test_entry_points_are_found(monkeypatch):
    point = EntryPoint(name="house", value="harness.syncers.broken:usd_sign", group=find.GROUP)
    monkeypatch.setattr(find, "entry_points", lambda group: [point] if group == "harness.syncers" else [])
    assert find_syncer("house").__name__ == "UsdSign"
    with pytest.raises(SyncerNotFound, match=r"expected one of balances, house, reference, .*\n.*did you mean 'house'"):
        find_syncer("hause")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("refrence", r"no syncer 'refrence': expected one of .*reference.*\n    did you mean 'reference'\?"),
        ("", "no syncer '': expected one of"),
        (":make", "no syncer ':make': expected one of"),
        ("house_syncer:", "expected one of"),
        ("hause_syncer:make", r"there is no module 'hause_syncer'\n    did you mean 'house_syncer:make'\?"),
        ("house_syncer.part:make", "there is no module 'house_syncer.part'"),
        ("house_syncer:maek", r"house_syncer has no 'maek'\n    did you mean 'house_syncer:make'\?"),
        ("house_syncer:number", "house_syncer:number is of type int, which cannot be called with a target"),
        ("harness.syncers.brokn:x", r"there is no module 'harness\.syncers\.brokn'\n.*'harness\.syncers\.broken:x'\?"),
        ("needy:make", "needy needs 'not_there_at_all', which is not installed"),
        ("raising:make", "importing raising failed with ZeroDivisionError: division by zero"),
        ("leaving:make", "importing leaving failed with SystemExit: 3"),
        ("..:make", "no syncer"),
    ],
)
def test_what_cannot_be_found_is_said(folder, name, text):
    (folder / "house_syncer.py").write_text("def make(target): return 'made'\nnumber = 5\n")
    (folder / "needy.py").write_text("import not_there_at_all\n")
    (folder / "raising.py").write_text("1 / 0\n")
    (folder / "leaving.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(SyncerNotFound, match=text):
        find_syncer(name)
