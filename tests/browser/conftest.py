"""A headless Chromium and a judged synthetic study to show in it."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from cupel.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

GENERATOR = Path(__file__).parents[1] / "report" / "synthetic.py"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; without one the test is skipped, except where CI is set: there it fails."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        message = f"no Chromium on this machine (looked for {', '.join(NAMES)})"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The generator of synthetic study folders."""
    spec = importlib.util.spec_from_file_location("synthetic_study_shown", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def report_url(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a judged study of 2 conditions x 4 seeds with one failed run."""
    folder = synthetic.write_study(tmp_path_factory.mktemp("browser") / "study")
    return write_report(folder).as_uri()


@pytest.fixture
def open_page(browser: Browser, report_url: str) -> Iterator[Callable[..., Page]]:
    """Opens the report and fails on any console error, page error or network request."""
    pages: list[Any] = []
    trouble: list[str] = []

    def opened(*, width: int = 1280, scheme: str = "light", **options: Any) -> Page:
        page = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme=scheme, **options
        )
        pages.append(page)
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: asked(request.url))
        page.goto(report_url)
        return page

    def asked(url: str) -> None:
        if url != report_url and not url.startswith("data:"):
            trouble.append(url)

    yield opened
    for page in pages:
        page.close()
    assert trouble == []
