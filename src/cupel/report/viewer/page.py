"""completions.html: one self-contained page to read what a study's models wrote.

Reads a study folder, or the folder of one run, and writes the page atomically. Same bytes for the
same folder. What models wrote travels as base64 and is put on the page as text only; a content
security policy in the file forbids every request. Refuses to grow beyond 3 MB: it shows fewer
groups and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from pathlib import Path

from cupel.arc.evaluation_rows import PUZZLES
from cupel.errors import DataError
from cupel.lab.files import write_atomically
from cupel.lab.store import RunRecord, is_run_folder, is_study_folder, read_run, read_study
from cupel.report.palette import css_variables
from cupel.report.viewer.completions import GENERATIONS, completions_content
from cupel.report.viewer.content import Content, encoded
from cupel.report.viewer.puzzles import puzzles_content
from cupel.report.viewer.snapshots import LABELS, snapshots_content

PAGE = "completions.html"
DEFAULT_COMPLETIONS = 2000
"""Completions a page shows unless told otherwise."""

MAX_BYTES = 3_000_000
"""Size of the page that is never exceeded, but for one single group."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_SCRIPTS = ("inert", "data", "tokens", "panels", "viewer")
_TITLES = {"completions": "Completions", "snapshots": "Snapshots", "puzzles": "Puzzles"}


def write_viewer(folder: Path, *, completions: int = DEFAULT_COMPLETIONS) -> Path | None:
    """Write completions.html into a study or run folder; None where there is nothing to show.

    Args:
        completions: most completions (snapshots, puzzles) on the page.

    Raises:
        DataError: the folder is no study and no run, or its manifest is damaged.
        ConfigError: its study.toml is not valid.
    """
    folder = Path(folder)
    html = viewer_html(folder, completions=completions)
    if html is None:
        return None
    path = folder / PAGE
    write_atomically(path, html.encode())
    return path


def has_content(folder: Path) -> bool:
    """Say whether a folder that is no study holds something to show."""
    return any((folder / name).is_file() for name in (GENERATIONS, LABELS, PUZZLES))


def viewer_html(folder: Path, *, completions: int = DEFAULT_COMPLETIONS) -> str | None:
    """Return the page, with fewer completions where it would grow beyond `MAX_BYTES`.

    Raises:
        DataError: the folder is no study and no run, or its manifest is damaged.
        ConfigError: its study.toml is not valid.
    """
    limit = completions
    while True:
        content = _content(folder, limit=limit)
        if content is None:
            return None
        data = encoded(content)
        groups = sum(len(run.groups) for run in content.runs)
        if len(data) <= MAX_BYTES or groups <= 1:
            break
        shown = sum(len(group["rows"]) for run in content.runs for group in run.groups)
        limit = min(limit, shown) * MAX_BYTES * 9 // (len(data) * 10)
        limit = max(limit, 1)
    if limit < completions:
        note = f"The page is kept under {MAX_BYTES // 1_000_000} MB."
        content = replace(content, notes=[*content.notes, note])
    return _document(folder, content, data)


def _content(folder: Path, *, limit: int) -> Content | None:
    """Return what the folder's runs hold; the first kind found, for a study has one recipe."""
    if is_study_folder(folder):
        runs = list(read_study(folder).runs)
    elif is_run_folder(folder):
        runs = [read_run(folder)]
    elif has_content(folder):
        runs = [RunRecord(folder=folder, condition=folder.name, seed=None, status="unknown")]
    else:
        raise DataError(f"{folder}: no study, and no run with completions, labels or puzzles")
    written = [run for run in runs if run.has(GENERATIONS)]
    if written:
        found = completions_content(written, limit=limit)
        return found if found.runs else None
    for name, make in ((LABELS, snapshots_content), (PUZZLES, puzzles_content)):
        written = [run for run in runs if run.has(name)]
        if written:
            named = [(run.folder, run.condition or run.folder.name, run.seed) for run in written]
            found = make(named, limit=limit)
            return found if found.runs else None
    return None


def _document(folder: Path, content: Content, data: str) -> str:
    noun = _TITLES[content.kind]
    name = folder.resolve().name
    title = escape(f"{noun} · {name} · Cupel")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>{title}</title><style>{_css()}</style></head>'
        f'<body data-kind="{content.kind}"><a class="skip" href="#cards">To the texts</a>'
        f"{_header(folder, noun, name, content.notes)}"
        f'<main class="page viewer">{_controls(content)}'
        '<p id="told" role="status"></p>'
        '<section id="problem-panel" aria-label="Problem"></section>'
        '<section id="cards" tabindex="-1" aria-label="'
        f'{escape(content.levels[2] or content.levels[1])}s"></section></main>'
        "<footer class=page>Made by Cupel from this folder alone. The file is self-contained: it "
        'asks the network for nothing.</footer><div class="tip" id="tip" role="status" hidden>'
        f'</div><script type="text/plain" id="data">{data}</script>'
        f"<script>{_script()}</script></body></html>\n"
    )


def _header(folder: Path, noun: str, name: str, notes: Sequence[str]) -> str:
    back = '<a class="back" href="report.html">← Report</a>' if is_study_folder(folder) else ""
    lines = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f'<header class="page"><p class="kicker">{noun}</p>{back}<h1>{escape(name)}</h1>'
        f'<div class="notes lede">{lines}</div>'
        "<noscript><p class=empty>This page unpacks its texts with a script; with scripts switched "
        "off, read emergence/generations.jsonl in the run folders.</p></noscript></header>"
    )


def _controls(content: Content) -> str:
    step, problem, _ = content.levels
    selects = _select("condition", "Condition", steps=False) + _select("seed", "Seed", steps=False)
    for key, label in (("step", step), ("problem", problem)):
        selects += _select(key, label, steps=True) if label else ""
    chips = _radio("show", "all", "all", checked=True) + "".join(
        _radio("show", one.tag, one.label) for one in content.filters
    )
    colours = ""
    if content.kind == "completions":
        colours = (
            '<fieldset id="colours"><legend>Colour tokens by</legend>'
            + _radio("colour", "entropy", "entropy", checked=True)
            + _radio("colour", "surprisal", "surprisal")
            + _radio("colour", "before", "advantage before")
            + _radio("colour", "after", "advantage after")
            + _radio("colour", "ratio", "shaping (after ÷ before)")
            + _radio("colour", "planning", "planning")
            + _radio("colour", "none", "nothing")
            + '</fieldset><div id="legend" class="scale" role="img" aria-label="Legend"></div>'
        )
    if content.kind == "puzzles":
        colours = (
            '<label class="box"><input type="checkbox" id="digits"> digits in cells</label>'
            '<div id="legend" class="scale"></div>'
        )
    moves = (
        '<div class="moves" role="group" aria-label="Matches">'
        '<button type="button" id="previous">← previous</button>'
        '<output id="count" aria-live="polite"></output>'
        '<button type="button" id="next">next →</button></div>'
    )
    return (
        f'<form id="controls" aria-label="What to show"><div class="selects">{selects}</div>'
        f'<div class="ask"><fieldset id="filters"><legend>Show</legend>{chips}</fieldset>'
        '<label class="find">Find<input type="search" id="find" autocomplete="off" '
        f'spellcheck="false"></label></div>{colours}{_keys(content)}</form>{moves}'
    )


def _select(key: str, label: str, *, steps: bool) -> str:
    before = after = ""
    if steps:
        before = (
            f'<button type="button" data-move="{key}" data-by="-1" '
            f'aria-label="Previous {label.lower()}">‹</button>'
        )
        after = before.replace('"-1"', '"1"').replace("Previous", "Next").replace("‹", "›")
    return (
        f'<div class="pick" id="pick-{key}"><label for="{key}">{label}</label>'
        f'<div>{before}<select id="{key}"></select>{after}</div></div>'
    )


def _radio(name: str, value: str, label: str, *, checked: bool = False) -> str:
    mark = " checked" if checked else ""
    return (
        f'<label class="chip"><input type="radio" name="{name}" value="{escape(value)}"{mark}>'
        f"<span>{escape(label)}<small></small></span></label>"
    )


def _keys(content: Content) -> str:
    step, problem, row = (level.lower() for level in content.levels)
    lines = [("← →", f"previous and next {row or problem} that matches")]
    lines += [("Shift + ← →", f"previous and next {problem}")] if row else []
    lines += [("Shift + ↑ ↓", f"previous and next {step}")] if step else []
    if content.kind == "completions":
        lines.append(("Enter, then ← →", "read the tokens of the completion one by one; Esc ends"))
    shown = "".join(f"<dt>{keys}</dt><dd>{escape(what)}</dd>" for keys, what in lines)
    return f'<details class="keys"><summary>Keys</summary><dl class="kv">{shown}</dl></details>'


def _css() -> str:
    light, dark = css_variables()
    report = files("cupel.report").joinpath("assets/report.css").read_text(encoding="utf-8")
    own = files("cupel.report.viewer").joinpath("assets/viewer.css").read_text(encoding="utf-8")
    return report.replace("/*LIGHT*/", light).replace("/*DARK*/", dark) + own


def _script() -> str:
    assets = files("cupel.report.viewer").joinpath("assets")
    parts = (assets.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();\n"
