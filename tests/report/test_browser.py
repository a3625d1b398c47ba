"""The page in a real Chromium: nothing is fetched, nothing complains, all is seen, on a desk and on a phone."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_folders import add_pictures, made_run

from ripu_lightning.cli.report import main

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium is installed here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield found
        found.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    for seed in (1, 2):
        for strategy in ("ripu", "random"):
            made_run(folder / f"{strategy}{seed}", strategy, seed, 0.5 + seed * 0.01)
        made_run(folder / f"all{seed}", "ripu", seed, 0.55, "all", data__target_labels="all")
    made_run(folder / "more", "ripu", 1, 0.52, budget__ratio=0.2)
    add_pictures(folder / "ripu1")
    main([str(folder), "--output", str(folder / "report")])
    return folder / "report" / "report.html"


def opened(browser: Any, path: Path, width: int, **options: Any) -> tuple[Any, list[str], list[str]]:
    """The page, what the console said, and requests to any place but the file itself."""
    said, requests = [], []
    page = browser.new_context(viewport={"width": width, "height": 800}, **options).new_page()
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_function("document.querySelectorAll('.plot .main-svg').length > 0", timeout=30_000)
    return page, said, [url for url in requests if not url.startswith(("data:", "blob:")) and url != path.as_uri()]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_all_is_there_without_network_and_complaints(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    page, said, requests = opened(browser, page_file, width, color_scheme=scheme)
    assert said == []
    assert requests == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].filter(image => image.naturalWidth === 0).length") == 0
    assert page.evaluate("document.images.length") >= 10
    plots = page.locator(".plot").count()
    assert plots == 5  # with that of the budgets
    for number in range(plots):
        box = page.locator(".plot").nth(number).bounding_box()
        assert box["width"] > 0.8 * min(width, 1200) - 60
        drawn = page.locator(".plot").nth(number).locator("path.js-line, g.point path, image").count()
        assert drawn > 0, number
    colours = "style => [style.color, style.backgroundColor]"
    text, background = page.evaluate(f"({colours})(getComputedStyle(document.body))")
    assert contrast(text, background) > 7


def test_hover_and_keys_tell_why(browser: Any, page_file: Path) -> None:
    page, said, _ = opened(browser, page_file, 1280)
    rect = page.locator("svg rect[tabindex]").first
    why = page.locator("#why")
    assert not why.is_visible()
    rect.hover()
    assert why.is_visible()
    assert why.inner_text().startswith("round 1, query 1 of 6 in this image; score ")
    assert "answer: " in why.inner_text()
    page.keyboard.press("Escape")
    assert not why.is_visible()
    page.locator("svg rect[tabindex]").nth(1).focus()
    assert "query 2 of 6" in why.inner_text()
    box = why.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280
    assert said == []


def test_a_class_can_be_chosen(browser: Any, page_file: Path) -> None:
    page, said, _ = opened(browser, page_file, 1280)
    plot = page.locator(".plot", has=page.locator(".updatemenu-header")).first
    visible = "element => element.data.filter(trace => trace.visible === true).length"
    before = plot.evaluate("element => element.data.map(trace => trace.visible === true)")
    plot.locator(".updatemenu-header").click()
    plot.locator(".updatemenu-dropdown-button").nth(2).click()
    page.wait_for_timeout(300)
    after = plot.evaluate("element => element.data.map(trace => trace.visible === true)")
    assert before != after
    assert plot.evaluate(visible) == sum(before)
    assert said == []


def test_tables_and_pictures_need_no_script(browser: Any, page_file: Path) -> None:
    page = browser.new_context(viewport={"width": 390, "height": 800}, java_script_enabled=False).new_page()
    page.goto(page_file.as_uri())
    assert page.locator("table").count() >= 5
    assert page.locator("noscript img").first.is_visible()
    assert page.locator("svg rect title").first.text_content().startswith("round 1, query 1")


def contrast(first: str, second: str) -> float:
    """Of two colours ``rgb(r, g, b)``, by the formula of the Web Content Accessibility Guidelines."""

    def luminance(text: str) -> float:
        channels = [int(part) / 255 for part in text[text.index("(") + 1 : -1].split(",")[:3]]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
