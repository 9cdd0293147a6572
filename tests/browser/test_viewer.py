"""completions.html in a real browser: reading by keyboard and touch, inert texts, no request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cupel.report.viewer import write_viewer
from tests.browser.viewer_study import HOSTILE, write_run, write_study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

OpenPage = Callable[..., "Page"]
CURRENT = ".card[aria-current=true]"


@pytest.fixture(scope="session")
def viewer_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study whose group 2 holds hostile texts."""
    page = write_viewer(write_study(tmp_path_factory.mktemp("viewer") / "study"))
    assert page is not None
    return page


@pytest.fixture
def open_page(browser: Browser, viewer_page: Path) -> Iterator[OpenPage]:
    """Opens the viewer and fails on any console message, page error or network request."""
    contexts: list[Any] = []
    trouble: list[str] = []

    def opened(
        hash_: str = "", *, page_file: Path = viewer_page, width: int = 1280, **options: Any
    ) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        url = page_file.as_uri()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.split("#")[0] == url or asked.url.startswith("data:")
                else trouble.append(asked.url)
            ),
        )
        page.goto(url + hash_)
        page.wait_for_selector("body[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert trouble == []


def at(page: Page) -> dict[str, str]:
    """Where the address says that the reader is."""
    words = page.evaluate("Object.fromEntries(new URLSearchParams(location.hash.slice(1)))")
    assert isinstance(words, dict)
    return words


def logged(page_file: Path, run: str, stream: str = "tokens") -> list[dict[str, Any]]:
    path = page_file.parent / "runs" / run / "emergence" / f"{stream}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_arrow_keys_step_through_completions_problems_and_steps(open_page: OpenPage) -> None:
    page = open_page()
    assert (at(page)["step"], at(page)["row"]) == ("0", "0")
    page.keyboard.press("ArrowRight")
    assert at(page)["row"] == "1"
    assert page.locator(CURRENT).inner_text().startswith("Completion 1")
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowRight")
    assert (at(page)["problem"], at(page)["step"]) == ("add-0-1", "0")
    page.keyboard.press("Shift+ArrowDown")
    assert (at(page)["problem"], at(page)["step"]) == ("add-1-1", "1")
    page.keyboard.press("Shift+ArrowUp")
    assert at(page)["problem"] == "add-0-1"
    assert page.locator("#count").inner_text() == "5 of 192"


@pytest.mark.parametrize("width", [1280, 360])
def test_buttons_are_large_enough_to_touch_and_move(open_page: OpenPage, width: int) -> None:
    page = open_page(width=width, has_touch=True)
    for button in page.locator("main button:visible, main select:visible, .chip:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 44
    page.locator("#next").tap()
    assert at(page)["row"] == "1"
    page.get_by_label("Next step").tap()
    assert at(page)["step"] == "1"
    page.get_by_label("Next problem").tap()
    assert at(page)["problem"] == "add-1-1"
    page.get_by_label("Previous problem").tap()
    page.locator("#previous").tap()
    assert at(page)["problem"] == "add-0-2"
    shown, there = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert shown <= there


def test_filters_leave_only_what_was_asked_for(open_page: OpenPage, viewer_page: Path) -> None:
    page = open_page()
    rows = logged(viewer_page, "grpo+none_s42", "generations")
    first = next(row for row in rows if row["correct"] is None)
    page.get_by_role("radio", name="ungradable").check(force=True)
    assert page.locator(".card:visible").count() >= 1
    assert page.locator(".card:visible:not(.ungradable)").count() == 0
    assert (at(page)["problem"], at(page)["row"]) == (first["problem_id"], str(first["sample"]))
    page.get_by_role("radio", name="all").check(force=True)
    page.locator("#find").fill("no such text anywhere")
    assert page.locator("#count").inner_text() == "no completion matches"
    assert page.locator("#next").is_disabled()
    page.locator("#find").fill("BELL")
    assert page.locator("#count").inner_text() == "1 of 16 that match"
    assert page.locator(".card:visible").count() == 1
    page.locator("#next").click()
    assert at(page)["step"] == "1"


def test_colours_follow_the_recorded_values(open_page: OpenPage, viewer_page: Path) -> None:
    page = open_page()
    row = logged(viewer_page, "grpo+none_s42")[0]
    tokens = page.locator(CURRENT + " .t")
    assert tokens.count() == len(row["pieces"])
    classes = {}
    for colour in ("entropy", "surprisal", "before", "after", "ratio", "planning", "none"):
        page.locator(f"input[value={colour}]").check(force=True)
        classes[colour] = [
            name.split() for name in tokens.evaluate_all("all => all.map(t => t.className)")
        ]
        assert at(page)["colour"] == colour
    sign = "p" if row["advantage"] > 0 else "m"
    assert all(name[1][0] == sign for name in classes["before"])
    assert len({tuple(name[:2]) for name in classes["before"]}) == 1
    assert [("plan" in name) for name in classes["none"]] == [bool(p) for p in row["planning"]]
    assert [("on" in name) for name in classes["planning"]] == [bool(p) for p in row["planning"]]
    levels = [int(name[1][1:]) for name in classes["entropy"]]
    order = sorted(range(len(levels)), key=lambda t: row["entropies"][t])
    assert [levels[t] for t in order] == sorted(levels)
    assert max(levels) > min(levels)
    page.locator("input[value=entropy]").check(force=True)
    assert "nats" in page.locator("#legend").inner_text()
    assert page.locator("#legend .swatch").count() == 10


def test_a_token_tells_its_values_by_keyboard_and_pointer(
    open_page: OpenPage, viewer_page: Path
) -> None:
    page = open_page()
    row = logged(viewer_page, "grpo+none_s42")[0]
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    told = page.locator("#tip").inner_text()
    assert f"token 2 of {len(row['pieces'])}" in told
    assert f"entropy {row['entropies'][1]:.3g} nats" in told
    assert "→" in told
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    page.locator(CURRENT + " .t").first.hover()
    assert "token 1 of" in page.locator("#tip").inner_text()
    assert "planning token" in page.locator("#tip").inner_text()


def test_an_address_leads_back_to_the_same_place(open_page: OpenPage) -> None:
    page = open_page(
        "#condition=maxrl%2Bgtpo_sepa&seed=101&step=3&problem=add-3-1&group=1&row=2&colour=after"
    )
    assert page.locator("#condition").input_value() == "maxrl+gtpo_sepa"
    assert page.locator("#seed").input_value() == "101"
    assert page.locator(CURRENT).inner_text().startswith("Completion 2")
    assert page.locator("input[value=after]").is_checked()
    page.locator("#condition").select_option("grpo+none")
    assert (at(page)["problem"], at(page)["seed"]) == ("add-3-1", "101")
    page.evaluate("location.hash = '#condition=grpo%2Bnone&seed=42&step=99'")
    page.wait_for_function("document.getElementById('told').textContent.includes('step')")


def test_hostile_texts_are_shown_and_do_nothing(open_page: OpenPage) -> None:
    page = open_page("#condition=grpo%2Bnone&seed=42&step=3&problem=add-3-2")
    assert page.evaluate("window.pwned") is None
    assert page.locator("#cards img, #cards script, #cards a").count() == 0
    texts = [box.inner_text() for box in page.locator(".card .text").all()]
    assert texts[:2] == list(HOSTILE[:2])
    assert [sign in texts[2] for sign in ("ESC", "NUL", "BEL", "CR")] == [True] * 4
    assert [sign in texts[3] for sign in ("RLO", "PDF", "LRI", "PDI", "RLM")] == [True] * 5
    kept = page.locator("#cards").evaluate("(cards) => cards.textContent")
    assert not set("\u0000\u0007\u001b\r\u202e\u202c\u2066\u2069\u200f") & set(kept)


def test_a_lone_surrogate_and_a_run_without_tokens_are_told(
    open_page: OpenPage, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", "grpo+none", 42, recorded=False)
    path = run / "emergence/generations.jsonl"
    path.write_text(path.read_text().replace("</script>", "\\ud800</script>", 1))
    page_file = write_viewer(run)
    assert page_file is not None
    page = open_page("#condition=grpo%2Bnone&seed=42&step=0&problem=add-0-2", page_file=page_file)
    assert page.locator(".card .text").first.inner_text().startswith("U+D800</script>")
    assert "recorded no values of single tokens" in page.locator("#problem-panel").inner_text()
    assert page.locator("input[name=colour]:enabled").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, viewer_page: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    for colour in ("surprisal", "after", "planning"):
        page.goto(
            viewer_page.as_uri() + f"#condition=maxrl%2Bgtpo_sepa&seed=42&step=3&colour={colour}"
        )
        page.reload()
        page.wait_for_selector("body[data-ready]")
        found = axe.run(page).response["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    context.close()


def test_a_reader_lands_on_recorded_tokens_and_stays_with_them(open_page: OpenPage) -> None:
    page = open_page("#condition=grpo%2Bnone&seed=42&step=3")
    assert page.locator(".card .t").count() > 0
    page.get_by_role("radio", name="tokens recorded").check(force=True)
    page.get_by_label("Previous step").click()
    assert at(page)["step"] == "0"
    assert page.locator(".card .t").count() > 0
    marked = page.locator("#problem option").all_inner_texts()
    assert [label.startswith("◆") for label in marked] == [True, True, False]
