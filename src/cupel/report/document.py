"""The frame of a page: one file with its styles, its scripts and a policy that forbids requests.

Reads the package's assets. Knows the theme switch and the content security policy; refuses to put
an address of any network into a page.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files

from cupel.report.palette import css_variables

STILL = ("theme.js", "charts.js", "tables.js")
"""Scripts of a page that stands for itself."""

_THEME = (
    '<button type="button" id="theme" class="theme js" aria-label="Colours: as the system has '
    'them">◐ <span>auto</span></button>'
)


def document(title: str, body: str, *, foot: str, live: bool = False) -> str:
    """Return a page that needs nothing else.

    Args:
        body: the content of `main`, escaped.
        foot: the last line, as text.
        live: the page may ask the server it came from, and nobody else.
    """
    names = (*STILL, "live.js") if live else STILL
    scripts = "".join(f"<script>{script}</script>" for script in (_uplot(), *map(asset, names)))
    connect = "; connect-src 'self'" if live else ""
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
        f"{connect}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title>'
        f"<style>{stylesheet()}</style></head>"
        f'<body{" data-live" if live else ""}><a class="skip" href="#verdict">To the verdict</a>'
        f'{_THEME}<main class="page" id="page">{body}<footer>{escape(foot)}</footer></main>'
        f'<div class="tip" id="tip" role="status" hidden></div>{scripts}</body></html>\n'
    )


def stylesheet() -> str:
    """Return the styles of every page, with the palette in them."""
    light, dark = css_variables()
    css = asset("report.css").replace("/*LIGHT*/", light).replace("/*DARK*/", dark)
    return css + asset("vendor/uplot/uPlot.min.css")


def asset(name: str) -> str:
    """Return a file of the package's assets."""
    return files("cupel.report").joinpath("assets", name).read_text(encoding="utf-8")


def _uplot() -> str:
    """Return the chart library under its licence, its first line (an address) left out."""
    licence = asset("vendor/uplot/LICENSE")
    code = asset("vendor/uplot/uPlot.iife.min.js").partition("\n")[2]
    return f"/*! uPlot 1.6.32\n{licence}*/\n{code}"
