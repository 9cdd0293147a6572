"""Take the pictures of the report that README and docs show, from a real study.

python scripts/screenshots.py results/quickstart
python scripts/screenshots.py results/quickstart --out docs/figures

Writes report-{light,dark,phone}.png and completions.png. Needs playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cupel.report import write_report
from cupel.report.viewer import write_viewer

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
LARGEST = 200_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One picture: its file, the window, the colours, and where the page is scrolled to."""

    name: str
    width: int
    height: int
    scheme: str
    from_id: str | None = None
    page: str = "report.html"


SHOTS = (
    Shot(name="report-light.png", width=1120, height=1120, scheme="light"),
    Shot(name="report-dark.png", width=1120, height=1120, scheme="dark", from_id="legend"),
    Shot(name="report-phone.png", width=390, height=844, scheme="light"),
    Shot(
        name="completions.png",
        width=1120,
        height=800,
        scheme="light",
        from_id="colours",
        page="completions.html",
    ),
)


def take(browser: Any, study: Path, shot: Shot, folder: Path) -> Path:
    """Open the page as the shot says, read one seed with the pointer, and save the picture."""
    page = browser.new_page(
        viewport={"width": shot.width, "height": shot.height}, color_scheme=shot.scheme
    )
    page.goto((study / shot.page).resolve().as_uri())
    page.wait_for_timeout(400)
    if shot.from_id is not None:
        page.evaluate(f"document.getElementById('{shot.from_id}').scrollIntoView()")
    page.wait_for_timeout(400)
    chart = page.locator(".tall .u-over").first
    if shot.from_id is not None and shot.page == "report.html":
        box = chart.bounding_box()
        page.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + 0.2 * box["height"])
    path = folder / shot.name
    page.screenshot(path=str(path))
    page.close()
    return path


def main() -> int:
    """Take every picture; 1 when one is too large for a repository."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path, help="a study folder that has been judged")
    parser.add_argument("--out", type=Path, default=FIGURES, help="where the pictures go")
    given = parser.parse_args()
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        print(f"no Chromium on this machine (looked for {', '.join(BROWSERS)})", file=sys.stderr)
        return 2
    from playwright.sync_api import sync_playwright

    write_viewer(given.study)
    write_report(given.study)
    given.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        paths = [take(browser, given.study, shot, given.out) for shot in SHOTS]
        browser.close()
    for path in paths:
        print(f"{path} {path.stat().st_size:,} bytes")
    return int(any(path.stat().st_size > LARGEST for path in paths))


if __name__ == "__main__":
    sys.exit(main())
