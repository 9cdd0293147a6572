"""The built documentation in a browser: it finds what one types and fetches its own files only."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs.built_site import build_site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
PAGES = (
    "index.html",
    "tutorials/your-own-study.html",
    "reference/cli.html",
    "api/stats.html",
    "gallery/index.html",
    "gallery/quickstart.html",
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that prints nothing."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the built site on this machine."""
    pytest.importorskip("material", reason="the extra `docs` is not installed")
    site: Path = build_site(tmp_path_factory.mktemp("site"))
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page."""
    fresh = browser.new_page()
    yield fresh
    fresh.close()


def test_every_request_stays_at_home_and_succeeds(page: Page, address: str) -> None:
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    for name in PAGES:
        page.goto(address + name, wait_until="networkidle")
    assert len(asked) > len(PAGES)
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not failed


def test_search_finds_a_command(page: Page, address: str) -> None:
    page.goto(address, wait_until="networkidle")
    query = page.locator("[data-md-component=search-query]")
    query.click()
    query.press_sequentially("litmus")
    found = page.locator(".md-search-result__link").first
    found.wait_for(state="visible", timeout=20_000)
    assert found.get_attribute("href")
