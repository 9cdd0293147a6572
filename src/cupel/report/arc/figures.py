"""Predictions as PNG: input, target and the two attempts side by side, one file a test input.

Reads the folder of one `arc.evaluate` run and draws with matplotlib, imported when called. Same
bytes for the same folder. Refuses to carry meaning by colour alone: digits stand in the cells.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cupel.arc.evaluation_rows import PUZZLES, grid_of
from cupel.arc.grids import Grid
from cupel.arc.pictures import LIGHT_TEXT, PALETTE, Panel
from cupel.config import did_you_mean
from cupel.errors import DataError, MissingExtraError
from cupel.lab.files import read_json_lines, write_atomically
from cupel.report.figures import METADATA, STYLE

FOLDER = "pictures"
_CELL_INCHES = 0.16
_DPI = 150


def write_pictures(run_folder: Path, puzzle_ids: Sequence[str] = ()) -> list[Path]:
    """Write pictures/<puzzle>_<test index>.png of the named puzzles, of all without names.

    Raises:
        MissingExtraError: matplotlib is not installed.
        DataError: the folder holds no evaluation, or a named puzzle is not in it.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("write_pictures", "plot")
    rows = {row["puzzle"]: row for row in read_json_lines(run_folder / PUZZLES)}
    for puzzle_id in puzzle_ids:
        if puzzle_id not in rows:
            hint = did_you_mean(puzzle_id, sorted(rows))
            raise DataError(f"{run_folder}: no puzzle '{puzzle_id}' was evaluated; {hint}")
    written = []
    for puzzle_id in puzzle_ids or rows:
        for index, test in enumerate(rows[puzzle_id]["tests"]):
            where = f"{run_folder / PUZZLES}: puzzle {puzzle_id}"
            path = run_folder / FOLDER / f"{puzzle_id}_{index}.png"
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, strip_png(panels_of(test, where=where)))
            written.append(path)
    return written


def panels_of(test: Mapping[str, Any], *, where: str) -> list[Panel]:
    """Return input, target and both attempts of a test input; None where there is none.

    Raises:
        DataError: a grid of the row cannot be read.
    """
    panels = [Panel(grid=grid_of(test["input"], where=where), caption="input")]
    target = test["output"]
    truth = None if target is None else grid_of(target, where=where)
    panels.append(Panel(grid=truth, caption="target", note="" if truth is not None else "unknown"))
    for place in (1, 2):
        answers = test["candidates"][place - 1 : place]
        if not answers:
            panels.append(Panel(grid=None, caption=f"attempt {place}", note="no vote"))
            continue
        (answer,) = answers
        right = " ✓" if target is not None and answer["grid"] == target else ""
        panels.append(
            Panel(
                grid=grid_of(answer["grid"], where=where),
                caption=f"attempt {place}{right}",
                note=f"{answer['votes']} of {test['votes']} votes",
            )
        )
    return panels


def strip_png(panels: Sequence[Panel]) -> bytes:
    """Return panels side by side as a PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    shapes = [(1, 1) if p.grid is None or p.grid.size == 0 else p.grid.shape for p in panels]
    widths = [max(width, 8) for _, width in shapes]
    height = max(rows for rows, _ in shapes)
    with matplotlib.rc_context(STYLE):
        figure = Figure(
            figsize=((sum(widths) + 2 * len(widths)) * _CELL_INCHES, height * _CELL_INCHES + 0.7)
        )
        places = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
        for place, panel in zip(places, panels, strict=True):
            _draw(place, panel)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI, metadata=METADATA["png"])
    return buffer.getvalue()


def _draw(place: Any, panel: Panel) -> None:
    place.set_title(panel.caption, fontsize=8)
    place.set_xlabel(panel.note, fontsize=7)
    place.set_xticks([])
    place.set_yticks([])
    if panel.grid is None or panel.grid.size == 0:
        place.text(0.5, 0.5, "none", ha="center", va="center", fontsize=7)
        return
    rows, columns = panel.grid.shape
    place.imshow(_rgb(panel.grid), interpolation="nearest")
    place.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
    place.set_yticks(np.arange(rows - 1) + 0.5, minor=True)
    place.grid(which="minor", color="#808080", linewidth=0.3)
    place.tick_params(which="minor", length=0)
    for y, row in enumerate(panel.grid.tolist()):
        for x, value in enumerate(row):
            ink = "white" if value in LIGHT_TEXT else "black"
            place.text(x, y, str(value), ha="center", va="center", fontsize=4, color=ink)


def _rgb(grid: Grid) -> np.ndarray[Any, np.dtype[np.uint8]]:
    table = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in PALETTE], dtype=np.uint8)
    coloured: np.ndarray[Any, np.dtype[np.uint8]] = table[grid]
    return coloured
