"""What a reader does with the report: reads the verdict, hovers, changes colours, sorts, filters,
saves, on a desk and on a phone; and nothing in it keeps anybody out."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

OpenPage = Callable[..., "Page"]
WIDTHS = pytest.mark.parametrize("width", [390, 1280])

GROUND = "getComputedStyle(document.body).backgroundColor"
SHOWN = "[...document.querySelectorAll('#table-runs tbody tr')].filter((row) => !row.hidden)"


@WIDTHS
def test_a_visit(open_page: OpenPage, width: int) -> None:
    page = open_page(width=width)
    assert page.locator("#verdict .sentence").is_visible()
    assert "maxrl+gtpo_sepa minus grpo+none" in page.locator("#verdict .sentence").inner_text()
    page.locator("#fig-correct_rate").scroll_into_view_if_needed()
    box = page.locator("#fig-correct_rate .u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.4 * box["height"])
    assert "seed" in page.locator("#tip").inner_text()
    page.locator("[data-filter=status]").select_option("failed")
    assert page.evaluate(f"{SHOWN}.length") == 1
    assert page.locator(".tools output").inner_text() == "1 of 8 runs"
    before = page.evaluate(GROUND)
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.evaluate(GROUND) != before


def test_colours_follow_the_system_until_they_are_chosen(open_page: OpenPage) -> None:
    page = open_page(scheme="dark")
    dark = page.evaluate(GROUND)
    assert page.locator("#theme").get_attribute("aria-label") == "Colours: as the system has them"
    page.locator("#theme").click()
    light = page.evaluate(GROUND)
    assert light != dark
    page.emulate_media(color_scheme="light")
    assert page.evaluate(GROUND) == light
    page.locator("#theme").click()
    assert page.evaluate(GROUND) == dark
    page.emulate_media(media="print")
    assert page.evaluate(GROUND) == "rgb(255, 255, 255)"


def test_runs_are_found_by_words_and_condition(open_page: OpenPage) -> None:
    page = open_page()
    find = page.locator("[data-filter=text]")
    find.fill("NAN loss")
    assert page.evaluate(f"{SHOWN}.map((row) => row.dataset.c)") == ["grpo+none"]
    find.fill("no such word")
    assert page.evaluate(f"{SHOWN}.length") == 0
    assert page.locator(".tools output").inner_text() == "0 of 8 runs"
    find.fill("")
    page.locator("[data-filter=condition]").select_option("maxrl+gtpo_sepa")
    assert page.evaluate(f"{SHOWN}.length") == 4


def test_runs_are_sorted_up_down_and_back(open_page: OpenPage) -> None:
    page = open_page()
    seeds = f"{SHOWN}.map((row) => Number(row.cells[1].textContent))"
    plan = page.evaluate(seeds)
    head = page.locator("#table-runs th", has_text="held-out after")
    values = f"{SHOWN}.map((row) => row.cells[7].textContent)"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    up = page.evaluate(values)
    assert up[-1] == "–"
    head.locator("button").click()
    down = page.evaluate(values)
    assert down[:-1] == up[:-1][::-1]
    assert down[-1] == "–"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") is None
    assert page.evaluate(seeds) == plan


def test_a_phone_sorts_its_cards(open_page: OpenPage) -> None:
    page = open_page(width=390)
    sort = page.locator("[data-sort]")
    assert sort.is_visible()
    sort.select_option(label="steps")
    assert page.evaluate(f"{SHOWN}[0].dataset.c") == "grpo+none"
    assert page.evaluate(f"{SHOWN}[0].className") == "failed"


def test_dragging_shows_a_part_and_a_double_click_all(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#fig-correct_rate").scroll_into_view_if_needed()
    over = page.locator("#fig-correct_rate .u-over")
    box = over.bounding_box()
    assert box is not None

    def picture() -> bytes:
        page.mouse.move(5, 5)
        page.wait_for_timeout(60)
        return page.locator("#fig-correct_rate canvas").screenshot()

    whole = picture()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 100, steps=4)
    page.mouse.up()
    assert picture() != whole
    page.mouse.dblclick(box["x"] + 200, box["y"] + 100)
    assert picture() == whole


def test_paper_has_every_seed_and_no_buttons(open_page: OpenPage) -> None:
    page = open_page(scheme="dark")
    page.pdf()
    page.emulate_media(media="print")
    assert page.locator("#fig-correct_rate path.s").count() == 8
    assert page.locator("#fig-loss svg").is_visible()
    assert page.locator("#fig-loss path.s").count() == 8
    for hidden in ("canvas", ".tools", "#theme", "nav"):
        assert not page.locator(hidden).first.is_visible()


def test_numbers_are_saved(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(accept_downloads=True)
    page.locator("#fig-correct_rate").scroll_into_view_if_needed()
    with page.expect_download() as found:
        page.locator("#fig-correct_rate .save").click()
    found.value.save_as(tmp_path / "curve.csv")
    with (tmp_path / "curve.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 7 * 60 + 30
    assert {row["seed"] for row in rows} == {"42", "101", "202", "303"}
    with page.expect_download() as found:
        page.locator("#runs .csv").click()
    assert found.value.suggested_filename == "runs.csv"


@WIDTHS
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_a_reader_out(open_page: OpenPage, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_page(width=width, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => d.open = true)")
    page.wait_for_timeout(200)
    found = axe.Axe().run(page).response["violations"]
    grave = [
        (each["id"], node["html"][:120], node["failureSummary"])
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
    assert grave == []
