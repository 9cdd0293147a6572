"""Evaluated puzzles: demonstrations, and for every test input its target and the answers.

Reads puzzles.jsonl of `arc.evaluate`. Grids travel as words such as 12|34. Refuses to show a
grid that cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cupel.arc.evaluation_rows import PUZZLES, grid_of
from cupel.arc.pictures import COLOUR_NOTE, LIGHT_TEXT, NAMES, PALETTE, difference
from cupel.errors import DataError
from cupel.lab.files import read_json_lines
from cupel.report.arc.predictions import standing
from cupel.report.viewer.content import MORE, Content, Filter, RunContent

FILTERS = (
    Filter(tag="solved", label="solved within two"),
    Filter(tag="found", label="right answer got votes"),
    Filter(tag="missed", label="missed"),
    Filter(tag="unknown", label="no solution known"),
)


def puzzles_content(folders: Sequence[tuple[Path, str, int | None]], *, limit: int) -> Content:
    """Return what the page shows of evaluations, given as folder, condition and seed."""
    runs, notes, total, shown = [], [], 0, 0
    share = max(1, limit // max(1, len(folders)))
    for folder, condition, seed in folders:
        path = folder / PUZZLES
        try:
            rows = read_json_lines(path)
            groups = [_group(row, f"{path}: puzzle {row.get('puzzle')}") for row in rows[:share]]
        except (DataError, KeyError) as error:
            notes.append(f"{condition} is left out: {error}")
            continue
        total, shown = total + len(rows), shown + len(groups)
        runs.append(RunContent(condition=condition, seed=seed, groups=groups))
    if shown < total:
        notes.insert(
            0, f"Showing {shown:,} of {total:,} puzzles, the first of each run. More: {MORE}"
        )
    return Content(
        kind="puzzles",
        levels=("", "Puzzle", "Test input"),
        filters=FILTERS,
        runs=runs,
        facts={
            "palette": PALETTE,
            "names": NAMES,
            "light": sorted(LIGHT_TEXT),
            "note": COLOUR_NOTE,
        },
        notes=notes,
    )


def _group(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind, words = standing(row)
    return {
        "step": 0,
        "group": 0,
        "problem": row["puzzle"],
        "standing": words,
        "demos": [
            [_word(demo["input"], where), _word(demo["output"], where)] for demo in row["demos"]
        ],
        "rows": [
            {"n": place, "tags": [kind], "grids": _grids(test, where)}
            for place, test in enumerate(row["tests"])
        ],
    }


def _grids(test: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Return input, target and answers, in that order; a target may be unknown (null)."""
    grids: list[dict[str, Any]] = [
        {"title": "input", "grid": _word(test["input"], where)},
        {"title": "target", "grid": _word(test["output"], where)},
    ]
    for place, answer in enumerate(test["candidates"], 1):
        note = f"{answer['votes']} of {test['votes']} votes, q {answer['mean_q']:.2f}"
        grids.append(
            {
                "title": f"attempt {place}" if place <= 2 else f"answer {place}",
                "grid": _word(answer["grid"], where),
                "note": note + _compared(answer["grid"], test["output"], where),
            }
        )
    if not test["candidates"]:
        grids.append(
            {"title": "no answer", "grid": None, "note": f"{test['empty']} empty predictions"}
        )
    return grids


def _compared(answer: str, target: str | None, where: str) -> str:
    if target is None:
        return ""
    if answer == target:
        return ": right"
    cells = difference(grid_of(answer, where=where), grid_of(target, where=where))
    return ": another size" if cells is None else f": {cells} cell{'s' if cells > 1 else ''} off"


def _word(text: str | None, where: str) -> str | None:
    if text is not None:
        grid_of(text, where=where)
    return text
