"""The site builds without a warning, holds every page, and asks nobody else for anything."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from cupel import __all__ as public_names
from tests.docs.code_blocks import PAGES, ROOT

FETCHED = re.compile(
    r"<(script|link|img|iframe|source|video|audio|object|embed|use)\b([^>]*?)"
    r"\b(?:src|href|srcset|data)=\"([^\"]+)\"([^>]*)>"
)
LINK = re.compile(r"\]\((https?:[^)\s]*)\)|<(https?:[^>\s]+)>")


@pytest.fixture(scope="module")
def configuration() -> dict[str, object]:
    """`mkdocs.yml`."""
    loaded = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_the_strict_build_has_no_warning(site: Path) -> None:
    """Dead links, dead anchors and pages that no menu names are warnings, so they stop it."""
    assert (site / "index.html").is_file()


def test_the_checks_of_the_strict_build_are_switched_on(configuration: dict[str, object]) -> None:
    assert configuration["strict"] is True
    assert configuration["validation"] == {
        "nav": dict.fromkeys(("omitted_files", "not_found", "absolute_links"), "warn"),
        "links": dict.fromkeys(
            ("not_found", "anchors", "absolute_links", "unrecognized_links"), "warn"
        ),
    }


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for tag, before, target, after in FETCHED.findall(page.read_text()):
            if tag == "link" and 'rel="canonical"' in before + after:
                continue
            assert not urlsplit(target).netloc, f"{page.name}: {tag} {target}"
    for sheet in site.rglob("*.css"):
        for target in re.findall(r"url\(([^)]*)\)|@import\s+([^;]+)", sheet.read_text()):
            assert not re.match(r"[\"']?(https?:)?//", "".join(target)), f"{sheet.name}: {target}"


def test_no_block_asks_for_a_script_that_the_theme_would_fetch(
    configuration: dict[str, object],
) -> None:
    """The theme loads Mermaid, and the counts of a repository, from the network when asked to."""
    theme = configuration["theme"]
    assert isinstance(theme, dict)
    assert theme["font"] is False
    assert "repo_url" not in configuration
    assert not any("```mermaid" in page.read_text() for page in PAGES)


def test_every_public_name_has_its_entry(site: Path) -> None:
    text = (site / "api" / "index.html").read_text()
    for name in set(public_names) - {"__version__"}:
        assert re.search(rf'id="cupel\.[\w.]*\b{name}"', text), name


def test_gallery_reports_name_no_machine_and_ask_nobody() -> None:
    reports = sorted((ROOT / "docs" / "gallery").glob("*.html"))
    assert len(reports) >= 3
    for report in reports:
        text = report.read_text()
        assert not re.search(r"(?<![\w.])/(?:tmp|home|root|Users|work)/\w", text), report.name
        for tag, _, target, _ in FETCHED.findall(text):
            assert not urlsplit(target).netloc, f"{report.name}: {tag} {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_outward_links_are_well_formed(page: Path) -> None:
    """Without asking the network: a scheme, a host with a domain, and nothing left open."""
    for found in LINK.findall(page.read_text()):
        link = "".join(found)
        parts = urlsplit(link)
        local = parts.hostname in ("localhost", "127.0.0.1")
        assert local or re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.hostname or ""), link
        assert local or parts.scheme == "https", f"{link}: https"
        assert not re.search(r"[.,;:'\"…]$|[\s<>{}|\\^`]", link), link
