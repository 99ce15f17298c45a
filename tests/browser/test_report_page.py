"""The page as a person meets it: from disk, in Chromium, on a phone and a desk, by day and by night.

Screenshots go to reports/screenshots/, to be looked at.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.report.html import to_html
from harness.report.results import RunResult
from tests.report_sample import calm_run, large_run, reorganised, sample_run, scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parents[2] / "reports" / "screenshots"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE, DESK = 390, 1280
REDEMPTION = "s-enzyme-redemption-pays-from-open-positions-yaml"
RUNS = {
    "calm": calm_run(),
    "hostile": sample_run(),
    "large": large_run(),
    "reorganised": RunResult(syncer="acme_fund.sync:Syncer", scenarios=(reorganised(), scenario("a/b.yaml"))),
    "reconciled": RunResult(syncer="reference", scenarios=(scenario("a/b.yaml"), scenario("c.yaml"))),
    "empty": RunResult(syncer="reference", scenarios=()),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    if shutil.which(CHROMIUM) is None:
        pytest.fail(f"{CHROMIUM} is not there; install Chromium, or name it in the variable CHROMIUM")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, headless=True)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pages")
    for name, run in RUNS.items():
        (made / f"{name}.html").write_text(to_html(run), encoding="utf-8")
    return made


class Visit:
    """An open page, and everything that it complained of or asked for."""

    def __init__(self, browser: Browser, file: Path, **options: Any) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        options = {"viewport": {"width": DESK, "height": 900}} | options
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.url = file.as_uri()
        self.page.goto(self.url)

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


def _open_all(page: Page) -> None:
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")


@pytest.mark.parametrize("name", RUNS)
def test_opens_from_disk_without_complaint_or_request(browser: Browser, folder: Path, name: str) -> None:
    with Visit(browser, folder / f"{name}.html") as visit:
        visit.page.wait_for_load_state("networkidle")
        assert visit.complaints == []
        assert [url for url in visit.requests if not url.startswith("data:")] == [visit.url]
        assert visit.page.evaluate("document.documentElement.classList.contains('js')") is True


def test_what_is_not_the_page_s_own_is_refused(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "calm.html") as visit:
        visit.page.evaluate(
            """() => {
                const script = document.createElement('script');
                script.textContent = "document.title = 'taken'";
                document.body.append(script);
                const image = new Image();
                image.src = 'http://127.0.0.1:9/x.png';
                document.body.append(image);
            }"""
        )
        visit.page.wait_for_timeout(200)
        assert visit.page.title() != "taken"
        assert len([each for each in visit.complaints if "Content Security Policy" in each]) >= 2


@pytest.mark.parametrize("name", ["calm", "hostile", "reconciled", "empty"])
@pytest.mark.parametrize("width", [320, PHONE, 768, DESK])
def test_nothing_runs_off_the_side(browser: Browser, folder: Path, name: str, width: int) -> None:
    with Visit(browser, folder / f"{name}.html", viewport={"width": width, "height": 844}) as visit:
        _open_all(visit.page)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        outside = visit.page.evaluate(
            """width => [...document.querySelectorAll('body *')].filter(each => {
                if (each.closest('.scroll, .hidden, .skip')) return false;
                const box = each.getBoundingClientRect();
                return box.width && (box.right > width + 1 || box.left < -1);
            }).map(each => each.outerHTML.slice(0, 120))""",
            width,
        )
        assert outside == []


CONTRAST = """() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const parts = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const found = new Map();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || element.closest('script, style, .hidden, [hidden]')) continue;
        if (!element.getClientRects().length) continue;
        let behind = element;
        while (behind && parts(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
        const style = getComputedStyle(element);
        const below = getComputedStyle(behind || document.body).backgroundColor;
        const [a, b] = [light(parts(style.color)), light(parts(below))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const key = element.tagName + '.' + element.className;
        if (ratio < 4.5) found.set(key, ratio.toFixed(2) + ' ' + element.textContent.trim().slice(0, 40));
    }
    return [...found];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["calm", "hostile", "reconciled"])
def test_text_stands_out_from_what_is_behind_it(browser: Browser, folder: Path, name: str, scheme: Any) -> None:
    with Visit(browser, folder / f"{name}.html", color_scheme=scheme) as visit:
        _open_all(visit.page)
        assert visit.page.evaluate(CONTRAST) == []


def test_contrast_of_bad_text_would_be_seen(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "reconciled.html") as visit:
        visit.page.evaluate("document.querySelector('h1').attributeStyleMap.set('color', 'rgb(190, 190, 190)')")
        assert [key for key, _ in visit.page.evaluate(CONTRAST)] == ["H1."]


def test_everything_is_there_without_scripts(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "calm.html", java_script_enabled=False) as visit:
        page = visit.page
        assert (
            page.locator("h1").inner_text() == "Books and chain differ in 1 of 15 scenarios, and 1 could not be judged."
        )
        assert page.locator(".guilty").first.is_visible()
        assert page.locator(".command code").first.is_visible()
        assert not page.locator(".copy").first.is_visible()
        assert not page.locator(".break").first.is_visible()
        page.locator(".also summary").first.click()
        assert page.locator(".break").first.is_visible()
        assert not page.locator("#filter").is_visible()
        closed = page.locator("details.reconciled").first
        assert not closed.locator(".source").is_visible()
        closed.locator("summary").first.click()
        assert closed.locator(".source").is_visible()
        page.locator(".first a").first.click()
        assert page.url.endswith(f"#{REDEMPTION}")


def _is_in_view(element: Any) -> bool:
    seen = "each => { const box = each.getBoundingClientRect(); return box.bottom > 0 && box.y < innerHeight }"
    return bool(element.evaluate(seen))


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_from_the_summary_to_the_guilty_event_in_three_clicks(
    browser: Browser, folder: Path, width: int, scripts: bool
) -> None:
    with Visit(
        browser, folder / "large.html", viewport={"width": width, "height": 844}, java_script_enabled=scripts
    ) as visit:
        page = visit.page
        # One that is closed when the page opens.
        last = page.locator(".first li").last
        last.get_by_text("first bad block").click()
        panel = page.locator(f"{page.evaluate('location.hash')} .guilty") if scripts else page.locator(".guilty").last
        assert panel.is_visible()
        assert _is_in_view(panel)
        panel.get_by_text("First bad block 8").click()
        block = page.locator(".timeline .bad").last
        assert _is_in_view(block)
        assert "first bad block" in block.inner_text()
        page.go_back()
        panel.get_by_text("block 8, log 4").click()
        event = page.locator(".timeline .event").last
        assert _is_in_view(event)
        assert "alice redeems 50% of her shares" in event.inner_text()


def test_link_to_another_break_opens_what_is_closed(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "calm.html") as visit:
        second = visit.page.locator(f"#{REDEMPTION}-b2")
        assert not second.is_visible()
        visit.page.locator(f"#{REDEMPTION}-L13 a", has_text="break 2").click()
        second.wait_for(state="visible")
        assert _is_in_view(second)


def test_command_is_copied_as_it_stands(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "calm.html", permissions=["clipboard-read", "clipboard-write"]) as visit:
        visit.page.locator(".copy").first.click()
        visit.page.get_by_text("Copied").wait_for()
        assert visit.page.evaluate("navigator.clipboard.readText()") == (
            "harness run scenarios/enzyme/redemption_pays_from_open_positions.yaml --syncer acme_fund.sync:Syncer"
        )


def test_command_is_selected_where_there_is_no_clipboard(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "calm.html") as visit:
        visit.page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')) }")
        visit.page.locator(".copy").first.click()
        visit.page.get_by_text(re.compile("^(Copied|Selected)$")).wait_for()
        assert visit.page.evaluate("getSelection().toString()").startswith("harness run scenarios/enzyme/")


def test_from_the_headline_to_the_guilty_line_in_two_clicks(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "calm.html") as visit:
        visit.page.locator(".lead a", has_text="line 13").click()
        line = visit.page.locator(f"#{REDEMPTION}-L13")
        assert line.evaluate("each => { const y = each.getBoundingClientRect().y; return y >= 0 && y < innerHeight }")
        line.locator("a").first.click()
        assert visit.page.url.endswith(f"#{REDEMPTION}-b1")


def test_link_to_a_line_opens_a_closed_scenario(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "calm.html") as visit:
        line = visit.page.locator("#s-erc4626-deposit-07-yaml-L6")
        assert not line.is_visible()
        visit.page.goto(f"{visit.url}#s-erc4626-deposit-07-yaml-L6")
        line.wait_for(state="visible")


def test_filter_finds_by_id_tag_and_sentence(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "calm.html") as visit:
        page, shown = visit.page, visit.page.locator("details.scenario:visible")
        for words, count in (
            ("deposit_07", 1),
            ("CASE-77", 1),
            ("which block 8 paid", 1),
            ("nothing like it", 0),
            ("", 15),
        ):
            page.fill("#filter", words)
            assert shown.count() == count, words
            assert page.locator("#shown").inner_text() == (f"{count} of 15 shown" if words else "")
        page.check("#only")
        assert shown.count() == 2
        page.press("#filter", "Enter")
        assert page.url == visit.url


def test_buttons_open_close_and_change_the_light(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "calm.html", color_scheme="dark") as visit:
        page, opened = visit.page, visit.page.locator("details.scenario[open]")
        page.click("#expand")
        assert opened.count() == 15
        page.click("#collapse")
        assert opened.count() == 0
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
        page.click("#theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_keyboard_reaches_and_opens_every_scenario(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "reconciled.html") as visit:
        page, reached = visit.page, []
        for _ in range(20):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.tagName + '#' + document.activeElement.id"))
            if reached[-1].startswith("SUMMARY"):
                break
        assert {"INPUT#filter", "INPUT#only", "BUTTON#expand", "BUTTON#collapse", "BUTTON#theme"} <= set(reached)
        page.keyboard.press("Enter")
        assert page.locator("details.scenario").first.get_attribute("open") is not None
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_copied_amount_is_exact(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "calm.html") as visit:
        _open_all(visit.page)
        cells = visit.page.locator(".ledger td").all_text_contents()
        assert "1234567890.123456" in cells


def test_page_of_hundreds_is_quick_to_open(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "large.html") as visit:
        timing = json.loads(visit.page.evaluate("JSON.stringify(performance.getEntriesByType('navigation')[0])"))
        assert timing["domComplete"] < 10_000
        visit.page.fill("#filter", "many/123")
        assert visit.page.locator("details.scenario:visible").count() == 1


def test_prints_in_black_on_white(browser: Browser, folder: Path) -> None:
    with Visit(browser, folder / "calm.html", color_scheme="dark") as visit:
        visit.page.emulate_media(media="print", color_scheme="dark")
        assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert visit.page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert not visit.page.locator("#filter").is_visible()
        assert visit.page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("device", "width"), [("phone", PHONE), ("desk", DESK)])
@pytest.mark.parametrize("name", ["calm", "hostile", "reconciled"])
def test_screenshots_to_look_at(
    browser: Browser, folder: Path, name: str, device: str, width: int, scheme: Any
) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with Visit(
        browser, folder / f"{name}.html", viewport={"width": width, "height": 844}, color_scheme=scheme
    ) as visit:
        file = SCREENSHOTS / f"{name}-{device}-{scheme}.png"
        visit.page.screenshot(path=file, full_page=True)
        assert file.stat().st_size > 10_000
