"""The report in a real browser: quiet console, fits a phone, readable in the dark, keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

OpenPage = Callable[..., "Page"]

CONTRASTS = """() => {
  const parse = (text) => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    return { rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 };
  };
  const light = ([r, g, b]) => {
    const line = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * line(r) + 0.7152 * line(g) + 0.0722 * line(b);
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (colour.startsWith("rgb") && parse(colour).alpha === 1) return parse(colour).rgb;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("main *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || element.closest("svg") || !element.offsetParent) continue;
    const ink = light(parse(getComputedStyle(element).color).rgb);
    const paper = light(ground(element));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    found.push([ratio, element.textContent.trim().slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}"""


INK = """(index) => { // pixels of the first chart that have a condition's own colour
  const colour = getComputedStyle(document.documentElement).getPropertyValue(`--c${index}`).trim();
  const wanted = [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
  const canvas = document.querySelector("#fig-correct_rate canvas");
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const { data } = context.getImageData(0, 0, copy.width, copy.height);
  let count = 0;
  for (let place = 0; place < data.length; place += 4) {
    const near = (part, k) => Math.abs(part - data[place + k]) < 12;
    if (data[place + 3] > 200 && wanted.every(near)) count += 1;
  }
  return count;
}"""


@pytest.mark.parametrize("width", [320, 390, 768, 1041, 1280])
def test_never_scrolls_sideways(open_page: OpenPage, width: int) -> None:
    page = open_page(width=width)
    page.evaluate("document.querySelectorAll('details').forEach((d) => d.open = true)")
    shown, there = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert shown <= there


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_keeps_its_contrast(open_page: OpenPage, scheme: str) -> None:
    page = open_page(scheme=scheme)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 100
    ratio, text = found[0]
    assert ratio >= 4.5, text


def test_dark_and_light_pages_differ_in_their_ground(open_page: OpenPage) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    assert open_page().evaluate(ground) != open_page(scheme="dark").evaluate(ground)


def test_lines_keep_contrast_with_the_ground(open_page: OpenPage) -> None:
    from cupel.report.palette import DARK, LIGHT

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for scheme, palette in (("light", LIGHT), ("dark", DARK)):
        ground = open_page(scheme=scheme).evaluate(
            "getComputedStyle(document.documentElement).getPropertyValue('--bg').trim()"
        )
        for colour in palette:
            light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3.0, (scheme, colour)


def test_keyboard_reads_single_seeds(open_page: OpenPage) -> None:
    page = open_page()
    tip = page.locator("#tip")
    assert tip.is_hidden()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('chart')"):
            break
    assert page.evaluate("document.activeElement.closest('figure').id") == "fig-correct_rate"
    assert tip.is_visible()
    first = tip.inner_text()
    assert "seed 42" in first
    assert "step 59" in first
    page.keyboard.press("ArrowDown")
    second = tip.inner_text()
    assert second.splitlines()[0] != first.splitlines()[0]
    page.keyboard.press("ArrowLeft")
    assert tip.inner_text() != second
    page.keyboard.press("Home")
    assert "step 0:" in tip.inner_text()
    page.keyboard.press("+")
    page.keyboard.press("End")
    assert "step 59:" in tip.inner_text()
    page.keyboard.press("0")
    page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_tooltip_tells_the_logged_value(open_page: OpenPage, report_url: str) -> None:
    import json
    from pathlib import Path
    from urllib.parse import unquote, urlparse

    folder = Path(unquote(urlparse(report_url).path)).parent
    rows = (folder / "runs" / "grpo+none_s42" / "metrics.jsonl").read_text().splitlines()
    logged = json.loads(rows[-1])["correct_rate"]
    page = open_page()
    page.locator("#fig-correct_rate .chart").focus()
    page.keyboard.press("End")
    text = page.locator("#tip").inner_text().replace("\u202f", " ")
    assert text == f"grpo+none · seed 42\nstep 59: {100 * logged:.1f} %"


def test_pointer_names_the_nearest_seed_and_leaves_no_trace(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#fig-correct_rate .plot").scroll_into_view_if_needed()
    box = page.locator("#fig-correct_rate .plot").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.35)
    assert "seed" in page.locator("#tip").inner_text()
    assert page.locator("#fig-correct_rate .pin").count() == 1
    page.mouse.move(5, 5)
    assert page.locator("#tip").is_hidden()
    assert page.locator(".pin").count() == 0


def test_one_condition_can_be_shown_alone(open_page: OpenPage) -> None:
    page = open_page()
    chip = page.locator(".legend button").nth(1)
    chip.focus()
    page.keyboard.press("Enter")
    assert chip.get_attribute("aria-pressed") == "true"
    first, second = (page.evaluate(INK, index) for index in (0, 1))
    assert first < 0.1 * second
    page.keyboard.press("Enter")
    assert page.evaluate(INK, 0) > 10 * max(first, 1)


def test_reads_without_script(browser: Browser, report_url: str) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(report_url)
    assert page.locator("#verdict .sentence").is_visible()
    assert page.locator("#fig-correct_rate path.m").count() >= 2
    assert page.locator("#tip").is_hidden()
    page.close()
