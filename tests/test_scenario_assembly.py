"""Variants, included files and defaults: what they come to, and where their problems stand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario import language as lang
from harness.scenario import model
from harness.scenario.files import is_collected, row_id, rows_of
from harness.scenario.loader import load, load_all, loads, loads_all

HEADER = "tokens: {USDC: {decimals: 6}}\nvault: {kind: erc4626}\nsteps:\n"
DEPOSIT = "  - deposit: {caller: alice, assets: 5}\n"
SYNC = "  - sync:\n"


def _problems(path: Path, **rest: object) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        load_all(path, name=path.name, **rest)  # type: ignore[arg-type]
    return [str(problem).splitlines()[0] for problem in caught.value.problems]


def _write(folder: Path, **files: str) -> Path:
    """Write files (`__` in a name is a slash); gives the first one's path."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files)).replace('__', '/')}.yaml"


# -- variants


def test_each_row_is_a_scenario_with_its_own_values() -> None:
    rows = "variants:\n  - {id: one, n: 1, who: bob}\n  - {id: 2, n: 1_000, who: carol}\n"
    text = rows + HEADER + "  - deposit: {caller: $who, assets: 5}\n  - sync: {chunk: $n}\n"
    first, second = loads_all(text, "x.yaml")
    assert ("one", "2") == (first.variant, second.variant)
    assert (["bob"], ["carol"]) == (list(first.actors), list(second.actors))
    assert (1, 1000) == tuple(row.steps[1].chunk for row in (first, second))  # type: ignore[union-attr]
    assert text == first.text == second.text
    assert "x.yaml" == first.file


def test_name_stands_for_lists_and_mappings_too_and_where_they_are_is_where_the_row_is() -> None:
    rows = "variants:\n  - id: a\n    what: {caller: bob, assets: 5}\n    more: [donate: {caller: bob, assets: 5}]\n"
    (scenario,) = loads_all(rows + HEADER + "  - deposit: $what\n  - block: $more\n  - sync:\n", "x.yaml")
    deposit = scenario.steps[0]
    assert isinstance(deposit, model.Deposit)
    assert (3, 33) == (deposit.assets.location.line, deposit.assets.location.column)


def test_name_in_quotes_or_within_text_or_as_a_key_is_text() -> None:
    text = "title: costs $n\n" + HEADER + '  - deposit: {caller: alice, assets: 5}\n    note: "$n"\n  - sync:\n'
    scenario = loads(text, "x.yaml")
    assert "costs $n" == scenario.title
    assert "$n" == scenario.steps[0].note


def test_id_may_be_used_and_need_not_be() -> None:
    text = "title: $id\nvariants: [{id: a}, {id: b}]\n" + HEADER + DEPOSIT + SYNC
    assert ["a", "b"] == [scenario.title for scenario in loads_all(text, "x.yaml")]


def test_file_without_variants_has_one_scenario() -> None:
    (scenario,) = loads_all(HEADER + DEPOSIT + SYNC, "x.yaml")
    assert scenario.variant is None


def test_one_row_can_be_asked_for(tmp_path: Path) -> None:
    path = _write(
        tmp_path, x="variants: [{id: a, n: 1}, {id: b, n: 2}]\n" + HEADER + DEPOSIT + "  - sync: {chunk: $n}\n"
    )
    assert "b" == load(path, variant="b").variant
    assert ["a"] == [scenario.variant for scenario in load_all(path, variant="a")]
    with pytest.raises(ScenarioError, match="there is no variant 'c'"):
        load(path, variant="c")
    with pytest.raises(ScenarioError, match=r"has 2 variants, and none of them is named\n    expected one of: .*::a, "):
        load(path)
    alone = _write(tmp_path, y=HEADER + DEPOSIT + SYNC)
    with pytest.raises(ScenarioError, match="the file has no variants"):
        load(alone, variant="c")


def test_what_is_wrong_in_every_row_is_said_once() -> None:
    text = "variants: [{id: a, n: 1}, {id: b, n: 2}]\n" + HEADER + "  - depositt:\n  - sync: {chunk: $n}\n"
    with pytest.raises(ScenarioError) as caught:
        loads_all(text, "x.yaml")
    assert ["unknown step 'depositt'"] == [problem.message for problem in caught.value.problems]


def test_problem_of_a_value_says_where_it_is_used(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        x="variants: [{id: a, n: 0}]\ninclude: _more.yaml\n" + HEADER + DEPOSIT + "  - sync: {chunk: $n}\n",
        _more="steps:\n  - sync: {chunk: $n}\n",
    )
    assert ["x.yaml:1:23: '0' is out of range ($n of _more.yaml:2, line 7)"] == _problems(path)


def test_too_many_variants_or_too_much_of_them_is_refused() -> None:
    rows = ", ".join(f"{{id: r{number}, n: 1}}" for number in range(lang.MAX_VARIANTS + 1))
    with pytest.raises(ScenarioError, match=f"{lang.MAX_VARIANTS + 1} variants are too many"):
        loads_all(f"variants: [{rows}]\n" + HEADER + DEPOSIT + "  - sync: {chunk: $n}\n", "x.yaml")
    rows = ", ".join(f"{{id: r{number}, n: 1}}" for number in range(lang.MAX_VARIANTS))
    steps = DEPOSIT * 3_000
    with pytest.raises(ScenarioError, match="all rows together are too much to read"):
        loads_all(f"variants: [{rows}]\n" + HEADER + steps + "  - sync: {chunk: $n}\n", "x.yaml")


def test_value_that_multiplies_itself_is_refused() -> None:
    big = "[" + ", ".join(["mine: 1"] * 20_000) + "]"
    text = f"variants: [{{id: a, big: {big}}}]\n" + HEADER + "  - block: $big\n" * 2_000 + SYNC
    with pytest.raises(ScenarioError, match="all rows together are too much to read"):
        loads_all(text, "x.yaml")


# -- included files


def test_steps_come_first_names_are_put_together_and_of_the_rest_the_own_stands(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        x="include: [_a.yaml, _b/c.yaml]\ntokens: {WETH: {usd: 2}}\nactors: {bob: {USDC: 1}}\nblock_time: 5 s\n"
        "steps:\n  - sync:\n",
        _a="tokens: {USDC: {decimals: 6}, WETH: {usd: 1}}\nvault: {kind: enzyme, reserve: USDC}\nblock_time: 7 s\n"
        "chain_id: 3\nactors: {bob: {USDC: 2}, carol: {USDC: 3}}\nsteps:\n  - mine: 1\n",
        _b__c="chain_id: 4\nstart: 2024-02-01 00:00\nsteps:\n  - mine: 2\n",
    )
    scenario = load(path, name="x.yaml")
    assert ["USDC", "WETH"] == list(scenario.tokens)
    assert 2 * 10**8 == scenario.tokens["WETH"].price_raw
    assert {"bob": {"USDC": 10**6}, "carol": {"USDC": 3 * 10**6}} == scenario.actors
    assert (timedelta(seconds=5), 4, 2) == (scenario.block_time, scenario.chain_id, scenario.start.month)
    told = [(step.location.file, getattr(step, "blocks", None)) for step in scenario.steps]
    assert [("_a.yaml", 1), ("_b/c.yaml", 2), ("x.yaml", None)] == told


def test_included_file_includes_by_paths_from_itself(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        s__x="include: ../_parts/a.yaml\n" + HEADER + SYNC,
        _parts__a="include: deep/b.yaml\nsteps:\n  - mine: 2\n",
        _parts__deep__b="include: ../c.yaml\nsteps:\n  - mine: 3\n",
        _parts__c="steps:\n  - mine: 4\n",
    )
    steps = load(path, root=tmp_path).steps
    assert [4, 3, 2] == [step.blocks for step in steps[:3] if isinstance(step, model.Mine)]
    with pytest.raises(ScenarioError, match="lies outside the scenarios' folder"):
        load(path)


def test_same_file_may_be_included_twice_side_by_side(tmp_path: Path) -> None:
    path = _write(tmp_path, x="include: [_a.yaml, _a.yaml]\n" + HEADER + SYNC, _a="steps:\n  - mine: 2\n")
    assert 3 == len(load(path).steps)


@pytest.mark.parametrize("target", ["outside.yaml", "folder/inner.yaml"])
def test_links_that_lead_out_are_refused(tmp_path: Path, target: str) -> None:
    path = _write(
        tmp_path, s__x=f"include: {target}\n" + HEADER + SYNC, outside="steps: []\n", away__inner="steps: []\n"
    )
    (tmp_path / "s" / "outside.yaml").symlink_to(tmp_path / "outside.yaml")
    (tmp_path / "s" / "folder").symlink_to(tmp_path / "away")
    assert [f"x.yaml:1:10: '{target}' lies outside the scenarios' folder"] == _problems(path)
    assert 1 == len(load(path, root=tmp_path).steps)


def test_folder_beside_the_root_whose_name_begins_alike_is_outside(tmp_path: Path) -> None:
    path = _write(tmp_path, s__x="include: ../sub/a.yaml\n" + HEADER + SYNC, sub__a="steps: []\n")
    assert ["x.yaml:1:10: '../sub/a.yaml' lies outside the scenarios' folder"] == _problems(path, root=tmp_path / "s")


def test_depth_number_and_size_of_included_files_are_bounded(tmp_path: Path) -> None:
    chain = {f"_f{n}": f"include: _f{n + 1}.yaml\n" for n in range(1, 20)}
    path = _write(tmp_path, x="include: _f1.yaml\n" + HEADER + SYNC, **chain)
    assert ["_f8.yaml:1:10: files include each other too deeply"] == _problems(path)
    fan = {f"_g{n}": f"include: [_g{n + 1}.yaml, _g{n + 1}.yaml, _g{n + 1}.yaml]\n" for n in range(1, 7)}
    path = _write(tmp_path, y="include: _g1.yaml\n" + HEADER + SYNC, **fan, _g7="steps: []\n")
    assert all("too many files are included" in problem for problem in _problems(path))
    _write(tmp_path, _big="# " + "x" * lang.MAX_BYTES)
    path = _write(tmp_path, z="include: _big.yaml\n" + HEADER + SYNC)
    assert ["z.yaml:1:10: '_big.yaml' is too big"] == _problems(path)
    _write(tmp_path, _half="# " + "x" * (lang.MAX_BYTES - 100))
    path = _write(tmp_path, z="include: [" + ", ".join(["_half.yaml"] * 6) + "]\n" + HEADER + SYNC)
    assert any("'_half.yaml' is too big" in problem for problem in _problems(path))


def test_problems_of_bytes_and_of_yaml_stand_in_the_included_file(tmp_path: Path) -> None:
    path = _write(tmp_path, x="include: [_a.yaml, _b.yaml, _c.yaml]\n" + HEADER + SYNC, _a="a: [\n", _c="[]\n")
    (tmp_path / "_b.yaml").write_bytes(b"steps:\n  - \xff\n")
    found = _problems(path)
    assert ["_a.yaml:2:1", "_b.yaml:2:5", "_c.yaml:1:1"] == [problem.partition(": ")[0] for problem in found]


def test_text_that_is_no_file_includes_nothing() -> None:
    with pytest.raises(ScenarioError, match="a text that is no file cannot include files"):
        loads("include: _a.yaml\n" + HEADER + SYNC, "x.yaml")


@pytest.mark.parametrize("name", ['"a\\0b"', "~", "[[a]]", "''"])
def test_odd_names_are_problems(tmp_path: Path, name: str) -> None:
    assert _problems(_write(tmp_path, x=f"include: {name}\n" + HEADER + SYNC))


# -- defaults


def test_defaults_are_for_steps_that_do_not_say() -> None:
    text = "defaults: {deposit: {caller: bob, assets: 5}, sync: {chunk: 7}}\n"
    steps = "  - deposit:\n  - deposit: {caller: carol}\n  - block: [deposit: {assets: 6}]\n"
    steps += "  - sync:\n  - sync: {chunk: 1}\n"
    scenario = loads(text + HEADER + steps, "x.yaml")
    first, second, block, sync, other = scenario.steps
    assert isinstance(first, model.Deposit)
    assert isinstance(second, model.Deposit)
    assert isinstance(block, model.Block)
    assert ("bob", "bob", "carol", 5 * 10**6) == (first.caller, first.receiver, second.caller, second.assets.raw)
    assert isinstance(inner := block.steps[0], model.Deposit)
    assert ("bob", 6 * 10**6) == (inner.caller, inner.assets.raw)
    assert (7, 1) == (sync.chunk, other.chunk)  # type: ignore[union-attr]


def test_default_may_be_a_variants_value_and_hold_in_included_steps(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        x="variants: [{id: a, n: 1}, {id: b, n: 2}]\ndefaults: {sync: {chunk: $n}}\ninclude: _a.yaml\n"
        + HEADER
        + DEPOSIT,
        _a="steps:\n  - sync:\n",
    )
    assert [1, 2] == [scenario.steps[0].chunk for scenario in load_all(path)]  # type: ignore[union-attr]


# -- which files


def test_names_of_scenarios() -> None:
    assert is_collected(["a.yaml"])
    assert is_collected(["a", "b_c", "d.yml"])
    for parts in (["_a.yaml"], [".a.yaml"], ["_a", "b.yaml"], ["a", ".b", "c.yaml"], ["a.txt"], []):
        assert not is_collected(parts)
    assert ("a.yaml::b", "a.yaml") == (row_id("a.yaml", "b"), row_id("a.yaml", None))


def test_rows_of_a_file_are_its_variants_and_of_a_broken_one_what_was_asked_for(tmp_path: Path) -> None:
    text = "variants: [{id: a, n: 1}, {id: b, n: 2}]\n" + HEADER + DEPOSIT + "  - sync: {chunk: $n}\n"
    path = str(_write(tmp_path, x=text))
    assert ["a", "b"] == [variant for variant, _ in rows_of(path)]
    assert ["b"] == [variant for variant, _ in rows_of(path, variant="b")]
    assert ((None, None),) == rows_of(str(_write(tmp_path, y="steps: {}\n")))
    assert (("c", None),) == rows_of(path, variant="c")
