"""The quickstart's own report and completions, made by the program, visited as a reader would.

By default the study is run small. `CUPEL_QUICKSTART=results/quickstart` visits one that was run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.program import ASSET, NO_TINY, succeed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

OpenPage = Callable[[Path, int], "Page"]
STUDY = Path(__file__).parents[2] / "studies" / "quickstart.toml"
SMALL = (
    *("--set", "seeds=[42,101]", "--set", "config.max_steps=4"),
    *("--set", "config.evaluation.problems=64", "--set", "config.evaluation.every=2"),
    *("--set", "config.evaluation.start_band=[0.0,1.0]", "--no-figures"),
)
GROUND = "getComputedStyle(document.body).backgroundColor"
CURRENT = ".card[aria-current=true]"


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the quickstart."""
    if (given := os.environ.get("CUPEL_QUICKSTART")) is not None:
        return Path(given).resolve()
    if not ASSET.exists():
        pytest.skip(NO_TINY)
    folder = tmp_path_factory.mktemp("quickstart")
    succeed(folder, "run", STUDY, *SMALL)
    return folder / "results" / "quickstart"


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens a file and fails on any console message, page error or request beyond the folder."""
    trouble: list[str] = []
    context = browser.new_context()

    def opened(file: Path, width: int) -> Page:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 800})
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda asked: look(asked.url, file.parent.as_uri()))
        page.goto(file.as_uri())
        return page

    def look(url: str, home: str) -> None:
        if not url.startswith((home, "data:")):
            trouble.append(url)

    yield opened
    context.close()
    assert trouble == []


@pytest.mark.parametrize("width", [390, 1280])
def test_a_reader_goes_from_the_verdict_to_the_completions(
    open_page: OpenPage, study: Path, width: int
) -> None:
    page = open_page(study / "report.html", width)
    assert "maxrl+none minus grpo+none" in page.locator("#verdict .sentence").inner_text()
    page.locator("#fig-correct_rate").scroll_into_view_if_needed()
    box = page.locator("#fig-correct_rate .u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    assert "seed" in page.locator("#tip").inner_text()
    runs = page.locator("#table-runs tbody tr:visible")
    every = runs.count()
    page.locator("[data-filter=condition]").select_option("grpo+none")
    assert runs.count() == every // 2
    ground = page.evaluate(GROUND)
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.evaluate(GROUND) != ground
    page.locator("a[href='completions.html']").click()
    page.wait_for_selector("body[data-ready]")
    first = page.locator(CURRENT).inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator(CURRENT).inner_text() != first
    assert page.locator(f"{CURRENT} .text .t").count() > 0
