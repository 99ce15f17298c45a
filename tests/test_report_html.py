"""The page, as text; tests/browser opens it."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.reconcile.diff import Break, BreakKind
from harness.report.html import DETAILED, OPENED, to_html
from harness.report.results import RunResult, ScenarioResult, Verdict
from tests.report_sample import (
    HOSTILE,
    LONG,
    calm_run,
    hostile,
    interest,
    large_run,
    redemption,
    reorganised,
    sample_run,
    scenario,
)

GOLDEN = Path(__file__).parent / "golden"
VOID = {"meta", "link", "input", "rect", "br"}


class Page(HTMLParser):
    """What stands on a page, and whether every element that opens also closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text.append(data)

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """The attributes of all elements of a tag with these classes and so on among theirs."""
        return [
            found
            for name, found in self.elements
            if name == tag and all(value in found.get(key, "").split() for key, value in attributes.items())
        ]


def _run(*results: ScenarioResult) -> RunResult:
    return RunResult(syncer="reference", scenarios=results)


def test_page_is_what_it_was() -> None:
    assert (GOLDEN / "report.html").read_bytes() == to_html(sample_run()).encode()


@pytest.mark.parametrize("run", [sample_run(), calm_run(), large_run(30), _run(reorganised()), _run()])
def test_every_element_closes_and_every_link_leads_somewhere(run: RunResult) -> None:
    page = Page(to_html(run))
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    links = {attributes["href"] for attributes in page.all("a")}
    assert {link for link in links if not link.startswith("#")} == set()
    assert {link[1:] for link in links} <= set(names)


def test_policy_allows_what_stands_in_the_page_and_nothing_else() -> None:
    text = to_html(sample_run())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].replace("&#39;", "'").split(";"))

    def digest(tag: str) -> str:
        inner = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert inner is not None
        return "'sha256-" + base64.b64encode(hashlib.sha256(inner[1].encode()).digest()).decode() + "'"

    assert rules == {
        "default-src": "'none'",
        "style-src": digest("style"),
        "script-src": digest("script"),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_page_asks_for_nothing() -> None:
    page = Page(to_html(sample_run()))
    for tag, attributes in page.elements:
        assert not attributes.get("src", "")
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        assert attributes.get("href", "#").startswith(("#", "data:image/svg+xml,"))
    assert "url(" not in to_html(sample_run())
    assert "@import" not in to_html(sample_run())


def test_hostile_text_is_text() -> None:
    text = to_html(RunResult(syncer=HOSTILE, scenarios=(hostile(),)))
    assert text.count("<script") == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert LONG.strip() in text
    assert "<U+202E>evil" in "".join(Page(text).text)


def test_failing_line_is_marked_and_leads_to_its_break_and_back() -> None:
    text = to_html(_run(redemption()))
    page = Page(text)
    slug = "s-enzyme-redemption-pays-from-open-positions-yaml"
    assert page.all("li", id=f"{slug}-L13", **{"class": "cause"})
    assert page.all("li", id=f"{slug}-L15", **{"class": "cause"})
    assert not page.all("li", id=f"{slug}-L14", **{"class": "cause"})
    assert page.all("article", id=f"{slug}-b1")
    assert {f"#{slug}-L13", f"#{slug}-b1"} <= {link["href"] for link in page.all("a")}


def test_line_of_another_file_marks_nothing_here() -> None:
    result = redemption()
    other = result.breaks[0].location
    assert other is not None
    elsewhere = replace(result.breaks[0], location=replace(other, file="scenarios/part.yaml"), found_at=None)
    page = Page(to_html(_run(replace(result, breaks=(elsewhere,)))))
    assert not page.all("li", **{"class": "cause"}) or all(
        "-L" not in li.get("id", "") for li in page.all("li", **{"class": "cause"})
    )
    assert "scenarios/part.yaml:13" in "".join(page.text)


def test_what_the_two_sides_do_not_share_is_marked() -> None:
    found = Break(kind=BreakKind.different, sentence="s", expected="1.500000 USDC", actual="1.700000 USDC", gap="x")
    text = to_html(_run(scenario("a.yaml", verdict=Verdict.differ, breaks=(found,))))
    assert "1.<mark>5</mark>00000 USDC" in text
    assert "1.<mark>7</mark>00000 USDC" in text


def test_amounts_are_all_there() -> None:
    text = "".join(Page(to_html(_run(interest(), hostile()))).text)
    assert "1234567890.123456" in text
    assert "-4298.875509" in text
    assert "123456789012345678901234567890" in text
    assert "0.000000000000000000000000000000000001 ATTO" in text


def test_closing_zeros_are_muted_and_thousands_spaced_by_style_alone() -> None:
    text = to_html(_run(interest(), redemption()))
    assert '<td>400<span class="z">.000000</span></td>' in text
    assert '<td>0.0625<span class="z">00000000000000</span></td>' in text
    assert "<td>1<i>234</i><i>567</i><i>890</i>.123456</td>" in text
    assert "<td>-4298.875509</td>" in text


def test_failures_come_first_and_most_money_before_less() -> None:
    cheap = replace(redemption(), id="a.yaml", breaks=redemption().breaks[:1])
    run = _run(scenario("0.yaml"), scenario("1.yaml", verdict=Verdict.error, error="no"), cheap, redemption())
    order = [each["id"] for each in Page(to_html(run)).all("details", **{"class": "scenario"})]
    assert order == ["s-enzyme-redemption-pays-from-open-positions-yaml", "s-a-yaml", "s-1-yaml", "s-0-yaml"]


def test_only_failures_are_open_and_not_all_of_hundreds() -> None:
    few = Page(to_html(sample_run())).all("details", **{"class": "scenario"})
    assert ["open" in each for each in few] == [True] * 4 + [False] * 2
    many = Page(to_html(large_run(120))).all("details", **{"class": "scenario"})
    assert sum("open" in each for each in many) == OPENED


def test_hundreds_of_scenarios_are_a_page_that_loads() -> None:
    assert len(to_html(large_run()).encode()) < 5_000_000


def test_thousands_of_breaks_are_all_there_and_few_in_full() -> None:
    first = redemption().breaks[0]
    breaks = tuple(replace(first, sentence=f"This is break number {number}.") for number in range(1, 2001))
    text = to_html(_run(replace(redemption(), breaks=breaks)))
    page = Page(text)
    assert len(page.all("article", **{"class": "break"})) == DETAILED
    assert all(f"This is break number {number}." in text for number in range(1, 2001))
    assert {link["href"][1:] for link in page.all("a")} <= {each.get("id") for _, each in page.elements}
    assert len(text) < 1_500_000


def test_equal_or_empty_names_still_have_anchors_of_their_own() -> None:
    ids = ["a b.yaml", "a-b.yaml", "a-b.yaml", "קרן", "רקן", "x" * 256, "x" * 255 + "y"]
    page = Page(to_html(_run(*(scenario(name) for name in ids))))
    anchors = [each["id"] for each in page.all("details", **{"class": "scenario"})]
    assert len(set(anchors)) == len(ids)
    assert max(map(len, anchors)) < 64


def test_zero_lines_are_muted_and_what_is_unexplained_is_not() -> None:
    page = Page(to_html(_run(redemption())))
    assert page.all("tr", **{"class": "zero"})
    assert any("zero" not in row["class"].split() for row in page.all("tr", **{"class": "last"}))
    assert "-400000000 raw -$400.00" in "".join(page.text)


def test_empty_run_says_that_nothing_is_proved() -> None:
    text = "".join(Page(to_html(_run())).text)
    assert "No scenario was run, so nothing is proved." in text


def test_durations_and_folders_are_in_no_page() -> None:
    quick, slow = (_run(scenario("a.yaml", seconds=seconds)) for seconds in (0.1, 9.9))
    assert to_html(quick) == to_html(slow)
    here, there = (_run(scenario("a.yaml", file=f"{folder}/a.yaml")) for folder in ("/one", "/two"))
    assert to_html(here) == to_html(there)
