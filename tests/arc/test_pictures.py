"""Pictures of grids: every cell drawn once in its colour, readable without colours."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cupel.arc.evaluation_rows import grid_of, grid_text
from cupel.arc.grids import Grid
from cupel.arc.pictures import PALETTE, Panel, difference, grid_svg, strip_svg
from cupel.errors import DataError

GRIDS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)),
                      elements=st.integers(0, 9))  # fmt: skip


def drawn(svg: str, shape: tuple[int, int]) -> Grid:
    """Read the cells back from the rectangles of a picture."""
    grid = np.full(shape, 255, dtype=np.uint8)
    for path in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}path"):
        fill = path.get("style", "").removeprefix("fill:")
        if fill not in PALETTE:
            continue
        for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v1", path.get("d", "")):
            cells = grid[int(y), int(x) : int(x) + int(width)]
            assert (cells == 255).all(), "a cell was drawn twice"
            cells[:] = PALETTE.index(fill)
    return grid


@given(GRIDS)
def test_every_cell_is_drawn_once_in_its_colour(grid: Grid) -> None:
    assert np.array_equal(drawn(grid_svg(grid), grid.shape), grid)


@given(GRIDS)
def test_every_cell_holds_its_digit(grid: Grid) -> None:
    found = np.full(grid.shape, 255, dtype=np.uint8)
    for text in ElementTree.fromstring(grid_svg(grid)).iter("{http://www.w3.org/2000/svg}text"):
        row = int(float(text.get("y", "")))
        for x, digit in zip(text.get("x", "").split(), text.text or "", strict=True):
            found[row, int(float(x))] = int(digit)
    assert np.array_equal(found, grid)


@given(GRIDS)
def test_a_grid_survives_its_word(grid: Grid) -> None:
    assert np.array_equal(grid_of(grid_text(grid), where="test"), grid)


def test_the_empty_grid_is_drawn_and_written() -> None:
    empty = np.zeros((0, 0), dtype=np.uint8)
    assert "empty grid" in grid_svg(empty)
    assert grid_of(grid_text(empty), where="test").shape == (0, 0)


@pytest.mark.parametrize("text", ["1|23", "1a", "|", None, 12, "1||2", "²"])
def test_a_word_that_is_no_grid_is_refused(text: object) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl row 3.* is no grid"):
        grid_of(text, where="rows.jsonl row 3")


def test_a_strip_is_one_document_and_escapes_what_it_is_given() -> None:
    grid = np.array([[1, 2]], dtype=np.uint8)
    svg = strip_svg(
        [Panel(grid=grid, caption='<a "b">', note="3 & 4"), Panel(grid=None, caption="attempt 2")]
    )
    root = ElementTree.fromstring(svg)
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words[:2] == ['<a "b">', "3 & 4"]


def test_differences_are_counted_for_equal_shapes_only() -> None:
    grid = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    assert difference(grid, np.array([[1, 0], [0, 4]], dtype=np.uint8)) == 2
    assert difference(grid, grid[:1]) is None
