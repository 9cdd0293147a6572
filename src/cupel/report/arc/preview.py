"""preview.html: puzzles as they are, and as augmentation makes them, on one self-contained page.

Pure but for writing its file. Knows puzzles and augmentations. Refuses to draw randomness of its
own: the generator is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from cupel.arc.augmentations import Augmentation
from cupel.arc.grids import Grid, Puzzle
from cupel.arc.pictures import NAMES, grid_svg
from cupel.lab.files import write_atomically
from cupel.report.arc.predictions import colour_legend, digits_control, document

_CELL = 11
_TURNS = (
    "as it is",
    "turned by 90°",
    "turned by 180°",
    "turned by 270°",
    "mirrored left to right",
    "mirrored top to bottom",
    "mirrored on the main diagonal",
    "mirrored on the other diagonal",
)


def write_preview(
    path: Path, puzzles: Sequence[Puzzle], *, augmentations: int, rng: np.random.Generator
) -> Path:
    """Write the page and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, preview_html(puzzles, augmentations=augmentations, rng=rng).encode())
    return path


def preview_html(puzzles: Sequence[Puzzle], *, augmentations: int, rng: np.random.Generator) -> str:
    """Return a page of puzzles, each as it is and under some augmentations."""
    body = (
        '<header><p class="kicker">Preview</p>'
        f"<h1>{len(puzzles)} puzzle{'s' if len(puzzles) != 1 else ''}</h1></header>"
        + colour_legend()
        + f'<form class="controls">{digits_control()}</form>'
    )
    for puzzle in puzzles:
        shown = [Augmentation(), *(Augmentation.sample(rng) for _ in range(augmentations))]
        body += (
            f'<article class="puzzle"><h2>{escape(puzzle.id)}<small>{escape(_sizes(puzzle))}'
            f"</small></h2>{''.join(_variant(puzzle, each) for each in shown)}</article>"
        )
    return document("Preview · Cupel", body)


def in_words(augmentation: Augmentation) -> str:
    """Say what an augmentation does.

    >>> in_words(Augmentation(4, (0, 2, 1, 3, 4, 5, 6, 7, 8, 9)))
    'mirrored left to right; blue ↔ red'
    """
    moved = [(old, new) for old, new in enumerate(augmentation.colours) if old != new]
    words = []
    for old, new in moved:
        back = augmentation.colours[new] == old
        if not back:
            words.append(f"{NAMES[old]} → {NAMES[new]}")
        elif old < new:
            words.append(f"{NAMES[old]} ↔ {NAMES[new]}")
    return _TURNS[augmentation.dihedral] + (f"; {', '.join(words)}" if words else "")


def _variant(puzzle: Puzzle, augmentation: Augmentation) -> str:
    pairs = []
    for number, pair in enumerate(puzzle.pairs):
        asked = number >= len(puzzle.demos)
        name = f"test {number - len(puzzle.demos)}" if asked else f"demonstration {number + 1}"
        output = _drawn(pair.output, augmentation, f"{name}, output")
        pairs.append(
            f"<figure><figcaption><b>{name}</b></figcaption><span class=demo>"
            f"{_drawn(pair.input, augmentation, f'{name}, input')}"
            f'<span aria-hidden="true">→</span>{output}</span></figure>'
        )
    return (
        f"<p><code>{escape(augmentation.name(puzzle.id))}</code> "
        f"<small>{escape(in_words(augmentation))}</small></p>"
        f'<div class="gridrow">{"".join(pairs)}</div>'
    )


def _drawn(grid: Grid | None, augmentation: Augmentation, title: str) -> str:
    if grid is None:
        return "<small>not known</small>"
    return grid_svg(augmentation.apply(grid), cell=_CELL, title=title)


def _sizes(puzzle: Puzzle) -> str:
    tests = len(puzzle.tests)
    return (
        f"{len(puzzle.demos)} demonstrations, {tests} test input{'s' if tests != 1 else ''}, "
        f"longest side {puzzle.max_side}"
    )
