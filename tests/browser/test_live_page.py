"""The live page: a step shows within two seconds of its writing, through resumption and restart."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from cupel.report.live import ReportServer, open_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

RUN = "maxrl+gtpo_sepa_s202"
STEPS = """Number([...document.querySelectorAll('#table-runs tbody tr')]
  .find((row) => row.textContent.includes('running'))
  .querySelector('[data-name=steps]').textContent)"""


@pytest.fixture
def running(synthetic: ModuleType, tmp_path: Path) -> Path:
    """A study of which one run is in the middle."""
    folder: Path = synthetic.write_study(tmp_path / "s", running=True, judged=False, fail=None)
    shutil.rmtree(folder / "runs" / "grpo+none_s202")
    return folder


@pytest.fixture
def server(running: Path) -> Iterator[ReportServer]:
    """The study, served."""
    found = open_server(running)
    thread = threading.Thread(target=found.serve)
    thread.start()
    yield found
    found.close()
    thread.join()


@pytest.fixture
def page(browser: Browser, server: ReportServer) -> Iterator[Page]:
    """The live page; fails on any console error, and on a request to anybody else."""
    trouble: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))

    def asked(url: str) -> None:
        if not url.startswith((server.url, "data:", "blob:")):
            trouble.append(url)

    page.on("request", lambda request: asked(request.url))
    page.goto(server.url)
    page.wait_for_selector("#fig-correct_rate canvas")
    yield page
    page.close()
    assert trouble == []


def append(running: Path, steps: range) -> float:
    """Write steps of the running run and return when that was."""
    path = running / "runs" / RUN / "metrics.jsonl"
    row = json.loads(path.read_text().splitlines()[-1])
    success = {"correct_rate": 0.75, "mean_reward": 0.75}
    with path.open("a") as handle:
        for step in steps:
            handle.write(json.dumps({**row, "step": step, **success}) + "\n")
    return time.monotonic()


def until_steps(page: Page, wanted: int) -> None:
    """Wait until the running run has so many steps; the page's policy forbids waiting inside it."""
    deadline = time.monotonic() + 10
    while page.evaluate(STEPS) != wanted:
        assert time.monotonic() < deadline, page.evaluate(STEPS)
        time.sleep(0.02)


def test_a_step_shows_within_two_seconds(page: Page, running: Path) -> None:
    assert page.evaluate(STEPS) == 20
    waits = []
    for step in range(20, 24):
        written = append(running, range(step, step + 1))
        until_steps(page, step + 1)
        waits.append(time.monotonic() - written)
    assert max(waits) < 2.0, waits


def test_the_curve_grows_while_the_page_stays(page: Page, running: Path) -> None:
    page.evaluate("document.querySelector('#fig-correct_rate').dataset.mine = 'kept'")
    chart = page.locator("#fig-correct_rate .chart")
    chart.focus()
    for _ in range(8):
        page.keyboard.press("ArrowDown")
        if "maxrl+gtpo_sepa · seed 202" in page.locator("#tip").inner_text():
            break
    append(running, range(20, 30))
    until_steps(page, 30)
    page.wait_for_timeout(700)
    page.keyboard.press("End")
    assert page.locator("#tip").inner_text().replace("\u202f", " ").endswith("step 29: 75.0 %")
    assert page.locator("#fig-correct_rate").get_attribute("data-mine") == "kept"


def test_a_resumed_run_goes_back_to_its_checkpoint(page: Page, running: Path) -> None:
    path = running / "runs" / RUN / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:12]))
    until_steps(page, 12)
    append(running, range(12, 25))
    until_steps(page, 25)


def test_filters_and_open_details_outlast_news(page: Page, running: Path) -> None:
    page.locator("[data-filter=status]").select_option("running")
    page.locator("[data-filter=text]").fill("sepa")
    page.locator("#held-out summary").click()
    append(running, range(20, 22))
    until_steps(page, 22)
    assert page.locator(".tools output").inner_text() == "1 of 8 runs"
    assert page.locator("[data-filter=text]").input_value() == "sepa"
    assert page.evaluate("document.activeElement.matches('#held-out summary')")
    assert not page.evaluate("document.querySelector('#held-out details').open")


def test_the_verdict_comes_when_the_study_is_judged(
    page: Page, running: Path, synthetic: ModuleType, tmp_path: Path
) -> None:
    assert "has not been judged" in page.locator("#verdict").inner_text()
    judged = synthetic.write_study(tmp_path / "judged")
    shutil.copytree(judged / "analysis", running / "analysis")
    page.wait_for_selector("#verdict.inconclusive", timeout=3000)


def test_a_silent_server_is_told_and_its_return_too(browser: Browser, running: Path) -> None:
    first = open_server(running)
    thread = threading.Thread(target=first.serve)
    thread.start()
    page: Any = browser.new_page()
    page.goto(first.url)
    port = int(first.url.rsplit(":", 1)[1].rstrip("/"))
    first.close()
    thread.join()
    page.wait_for_selector(".live.lost", timeout=5000)
    append(running, range(20, 21))
    second = open_server(running, port=port)
    thread = threading.Thread(target=second.serve)
    thread.start()
    until_steps(page, 21)
    assert page.locator(".live").inner_text() == "following"
    page.close()
    second.close()
    thread.join()
