"""A headless Chromium and a judged synthetic study to show in it."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cupel.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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
def report_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a judged study of 2 conditions x 4 seeds with one failed run."""
    spec = importlib.util.spec_from_file_location("synthetic_study_shown", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    synthetic = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(synthetic)
    folder = synthetic.write_study(tmp_path_factory.mktemp("browser") / "study")
    return write_report(folder).as_uri()
