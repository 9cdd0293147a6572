"""predictions.html: every evaluated puzzle with its answers, in one file that needs nothing else.

Reads the folder of one `arc.evaluate` run. Same bytes for the same folder; a content security
policy in the file forbids every request, and there is no script: filters are plain CSS. Refuses to
show a rate without its n and interval, and to hide a puzzle nobody answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from cupel.arc.evaluation_rows import EVALUATIONS, PUZZLES, grid_of, solved_within
from cupel.arc.pictures import COLOUR_NOTE, NAMES, PALETTE, difference, grid_svg
from cupel.errors import DataError
from cupel.lab.files import read_json_lines, write_atomically
from cupel.report.palette import css_variables

PAGE = "predictions.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_CELL = 12

_CSS = """
.arcgrid{display:block;border:1px solid var(--hair);max-width:100%;height:auto}
.arcgrid.blank{border:0}
.controls{position:sticky;top:0;z-index:5;display:flex;flex-wrap:wrap;gap:6px 20px;padding:10px 0;
margin:26px 0 8px;background:var(--bg);border-bottom:1px solid var(--hair);font-size:.9rem}
.controls label{display:inline-flex;gap:7px;align-items:center;cursor:pointer}
.puzzle{padding:22px 0;border-bottom:1px solid var(--hair);break-inside:avoid}
.puzzle h2{font-size:1.1rem;display:flex;flex-wrap:wrap;gap:4px 14px;align-items:baseline}
.mark{font:600 .82rem/1.4 system-ui,sans-serif}
.solved .mark{color:var(--good)}.found .mark{color:var(--open)}.missed .mark{color:var(--bad)}
.unknown .mark{color:var(--off)}
.gridrow{display:flex;flex-wrap:wrap;gap:14px 26px;align-items:flex-start;margin:12px 0}
.gridrow figure{margin:0;min-width:0}
.gridrow figcaption{font-size:.78rem;color:var(--muted);margin-bottom:5px}
.gridrow figcaption b{color:var(--ink)}
.demo{display:flex;gap:8px;align-items:center}
details summary{cursor:pointer;color:var(--muted);font-size:.88rem}
.swatches{display:flex;flex-wrap:wrap;gap:4px 14px;list-style:none;padding:0;font-size:.84rem}
.swatches i{display:inline-block;width:1em;height:1em;margin-right:6px;vertical-align:-.12em;
border:1px solid var(--hair)}
.arcgrid .digits{display:none}
body:has(#digits:checked) .arcgrid .digits{display:inline}
body:has(#only-solved:checked) .puzzle:not(.solved){display:none}
body:has(#only-found:checked) .puzzle:not(.found){display:none}
body:has(#only-missed:checked) .puzzle:not(.missed){display:none}
"""


def write_predictions(run_folder: Path) -> Path:
    """Write predictions.html into the folder of an evaluation and return its path.

    Raises:
        DataError: the folder holds no finished evaluation, or one of its files is damaged.
    """
    path = Path(run_folder) / PAGE
    write_atomically(path, predictions_html(Path(run_folder)).encode())
    return path


def predictions_html(run_folder: Path) -> str:
    """Return the page of an evaluation.

    Raises:
        DataError: the folder holds no finished evaluation, or one of its files is damaged.
    """
    rows, summary = read_evaluation(run_folder)
    body = (
        _header(summary, run_folder.name)
        + _facts(summary)
        + colour_legend()
        + _controls(rows)
        + "".join(_puzzle(row, run_folder) for row in rows)
    )
    return document(f"Predictions · {run_folder.name}", body)


def read_evaluation(run_folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the puzzle rows of an evaluation and its summary row.

    Raises:
        DataError: a file is missing or damaged, or the evaluation is not finished.
    """
    rows = read_json_lines(run_folder / PUZZLES)
    summaries = read_json_lines(run_folder / EVALUATIONS)
    if not summaries:
        raise DataError(
            f"{run_folder}: the evaluation is not finished ({len(rows)} puzzles so far); "
            "continue it with the command that began it"
        )
    return rows, summaries[-1]


def standing(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return how a puzzle came out: a class name and a few words that do not need its colour."""
    first, second = solved_within(row, 1), solved_within(row, 2)
    if first is None or second is None:
        return "unknown", "no solution to compare with"
    if first == 1.0:
        return "solved", "✓ solved by the first answer"
    if second == 1.0:
        return "solved", "✓ solved within two answers"
    ranks = [test["rank"] for test in row["tests"]]
    if any(rank is not None for rank in ranks):
        places = ", ".join("no vote" if rank is None else f"place {rank}" for rank in ranks)
        return "found", f"◐ the right answer got votes: {places}"
    return "missed", "✗ nobody voted for the right answer"


def _header(summary: Mapping[str, Any], name: str) -> str:
    view = escape(" · ".join(str(summary[k]) for k in ("view", "contamination") if k in summary))
    return (
        f'<header><p class="kicker">Evaluation · arc.evaluate · {view}</p>'
        f"<h1>{escape(name)}</h1></header>"
    )


def _facts(summary: Mapping[str, Any]) -> str:
    shown = (
        ("ARC/pass@1", "pass@1, partial credit"),
        ("ARC/pass@2", "pass@2, partial credit"),
        ("ARC/official@2", "two attempts, all inputs"),
        ("all.exact_accuracy", "exact match, single predictions"),
    )
    cards = "".join(
        f"<div><dt>{escape(title)}</dt><dd>{_percent(summary.get(key))}"
        f"<small>{_interval(summary, key)}</small></dd></div>"
        for key, title in shown
    )
    counts = "".join(
        f"<div><dt>{escape(title)}</dt><dd>{escape(str(summary.get(key, '–')))}</dd></div>"
        for key, title in (
            ("puzzles", "puzzles"),
            ("inputs", "test inputs"),
            ("predictions", "predictions"),
            ("empty", "of them empty"),
        )
    )
    return f'<dl class="facts">{cards}{counts}</dl><br>'


def _percent(value: Any) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, int | float) else "–"


def _interval(summary: Mapping[str, Any], key: str) -> str:
    low, high, n = (summary.get(f"{key}_{end}") for end in ("lo", "hi", "n"))
    if low is None or high is None:
        return ""
    return escape(f"{100 * low:.1f} to {100 * high:.1f} % (95 %), n = {n} puzzles")


def colour_legend() -> str:
    """Return the ten colours by name, with the note on telling them apart."""
    swatches = "".join(
        f'<li><i style="background:{colour}"></i>{number} {name}</li>'
        for number, (colour, name) in enumerate(zip(PALETTE, NAMES, strict=True))
    )
    return f'<p class="lede">{escape(COLOUR_NOTE)}</p><ul class="swatches">{swatches}</ul>'


def _controls(rows: Sequence[Mapping[str, Any]]) -> str:
    kinds = [standing(row)[0] for row in rows]
    radios = "".join(
        f'<label><input type="radio" name="only" id="only-{kind}"{checked}> '
        f"{title} ({count})</label>"
        for kind, title, count, checked in (
            ("all", "all", len(kinds), " checked"),
            ("solved", "solved within two", kinds.count("solved"), ""),
            ("found", "right answer got votes", kinds.count("found"), ""),
            ("missed", "missed", kinds.count("missed"), ""),
        )
    )
    return f'<form class="controls" aria-label="What to show">{radios}{digits_control()}</form>'


def digits_control() -> str:
    """Return the box that shows the digits."""
    return '<label><input type="checkbox" id="digits"> digits in cells</label>'


def _puzzle(row: Mapping[str, Any], folder: Path) -> str:
    where = f"{folder / PUZZLES}: puzzle {row['puzzle']}"
    kind, words = standing(row)
    demos = "".join(
        '<span class="demo">'
        + _svg(demo["input"], where, f"demonstration {n}, input")
        + '<span aria-hidden="true">→</span>'
        + _svg(demo["output"], where, f"demonstration {n}, output")
        + "</span>"
        for n, demo in enumerate(row["demos"], 1)
    )
    tests = "".join(_test(test, index, where) for index, test in enumerate(row["tests"]))
    count = len(row["demos"])
    return (
        f'<article class="puzzle {kind}" id="{escape(row["puzzle"], quote=True)}">'
        f'<h2>{escape(row["puzzle"])}<span class="mark">{escape(words)}</span></h2>'
        f"<details><summary>{count} demonstration{'s' if count > 1 else ''}</summary>"
        f'<div class="gridrow">{demos}</div></details>{tests}</article>'
    )


def _test(test: Mapping[str, Any], index: int, where: str) -> str:
    figures = [
        _figure("input", "", _svg(test["input"], where, f"test {index}, input")),
        _figure("target", "", _svg(test["output"], where, f"test {index}, target")),
    ]
    for place, answer in enumerate(test["candidates"], 1):
        note = f"{answer['votes']} of {test['votes']} votes, q {answer['mean_q']:.2f}"
        note += _compared(answer["grid"], test["output"], where)
        title = f"attempt {place}" if place <= 2 else f"answer {place}"
        figures.append(_figure(title, note, _svg(answer["grid"], where, f"test {index}, {title}")))
    if not test["candidates"]:
        figures.append(_figure("no answer", f"{test['empty']} empty predictions", ""))
    return f'<div class="gridrow">{"".join(figures)}</div>'


def _compared(answer: str, target: str | None, where: str) -> str:
    if target is None:
        return ""
    if answer == target:
        return ": right"
    cells = difference(grid_of(answer, where=where), grid_of(target, where=where))
    return ": another size" if cells is None else f": {cells} cell{'s' if cells > 1 else ''} off"


def _figure(title: str, note: str, picture: str) -> str:
    small = f"<br>{escape(note)}" if note else ""
    return f"<figure><figcaption><b>{escape(title)}</b>{small}</figcaption>{picture}</figure>"


def _svg(text: str | None, where: str, title: str) -> str:
    if text is None:
        return "<small>not known</small>"
    return grid_svg(grid_of(text, where=where), cell=_CELL, title=title)


def document(title: str, body: str) -> str:
    """Return a self-contained page around a body."""
    light, dark = css_variables()
    css = files("cupel.report").joinpath("assets/report.css").read_text(encoding="utf-8")
    css = css.replace("/*LIGHT*/", light).replace("/*DARK*/", dark) + _CSS
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{css}</style></head>'
        f'<body><main class="page">{body}'
        "<footer>Made by Cupel. The file is self-contained: it asks the "
        "network for nothing.</footer></main></body></html>\n"
    )
