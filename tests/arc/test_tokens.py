"""Grid ↔ tokens: the border, every size, every offset, and predictions that are no grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupel.arc.puzzles import make_puzzle
from cupel.arc.tokens import EOS, PAD, SIDES, VOCAB, bucket_of, decode, encode, offset_limits
from cupel.errors import DataError


def random_grid(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 10, (height, width)).astype(np.uint8)


def test_border_is_an_open_l_with_a_padded_corner() -> None:
    tokens = encode(np.array([[0, 9], [1, 2], [3, 4]], dtype=np.uint8), 5, (1, 1))
    assert tokens.dtype == np.uint8
    assert tokens.reshape(5, 5).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 2, 11, 1, 0],
        [0, 3, 4, 1, 0],
        [0, 5, 6, 1, 0],
        [0, 1, 1, 0, 0],
    ]


@pytest.mark.parametrize(("shape", "borders"), [((4, 4), 0), ((4, 3), 4), ((3, 4), 4), ((3, 3), 6)])
def test_border_is_omitted_at_the_canvas_edge(shape: tuple[int, int], borders: int) -> None:
    tokens = encode(random_grid(*shape), 4)
    assert int((tokens == EOS).sum()) == borders
    assert int((tokens == PAD).sum()) == 16 - shape[0] * shape[1] - borders


@pytest.mark.parametrize("size", range(1, 31))
def test_every_size_comes_back_at_every_offset(size: int) -> None:
    """T16: decode(encode(g)) == g; offsets all of a diagonal and both far corners."""
    grid = random_grid(size, 1 + (7 * size) % 30, seed=size)
    high, wide = 30 - grid.shape[0], 30 - grid.shape[1]
    places = {(0, 0), (high, wide), (high, 0), (0, wide)}
    places |= {(min(k, high), min(k, wide)) for k in range(30)}
    for offset in places:
        assert decode(encode(grid, 30, offset), 30, offset).tolist() == grid.tolist()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_grid_any_canvas_any_offset(data: st.DataObject) -> None:
    side = data.draw(st.integers(1, 12))
    height, width = data.draw(st.integers(1, side)), data.draw(st.integers(1, side))
    offset = data.draw(st.integers(0, side - height)), data.draw(st.integers(0, side - width))
    grid = random_grid(height, width, data.draw(st.integers(0, 99)))
    assert np.array_equal(decode(encode(grid, side, offset), side, offset), grid)


def largest_by_search(tokens: np.ndarray, side: int) -> int:
    colour = tokens.reshape(side, side) >= 2
    areas = [
        rows * columns
        for rows in range(side + 1)
        for columns in range(side + 1)
        if colour[:rows, :columns].all()
    ]
    return max(areas)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10_000))
def test_decoded_area_is_the_largest_there_is(side: int, seed: int) -> None:
    draws = np.random.default_rng(seed).integers(0, VOCAB, side * side)
    tokens = np.where(np.random.default_rng(seed + 1).random(side * side) < 0.6, draws, 3)
    grid = decode(tokens, side)
    assert grid.size == largest_by_search(tokens, side)
    height, width = grid.shape
    assert np.array_equal(tokens.reshape(side, side)[:height, :width] - 2, grid)


def test_a_prediction_without_colours_is_an_empty_grid() -> None:
    assert decode(np.full(9, EOS, dtype=np.uint8), 3).shape == (0, 0)


def test_equal_areas_decode_to_the_one_of_fewer_rows() -> None:
    tokens = np.array([[2, 3, 0], [4, 0, 0], [0, 0, 0]])
    assert decode(tokens, 3).tolist() == [[0, 1]]


@pytest.mark.parametrize(("longest", "side"), [(1, 10), (10, 10), (11, 15), (20, 20), (21, 30)])
def test_bucket_is_the_smallest_canvas_that_fits_tests_too(longest: int, side: int) -> None:
    wide = [[0] * longest]
    small = {"input": [[1]], "output": [[2]]}
    puzzle = make_puzzle("a", [small], [{"input": [[1]], "output": wide}])
    assert bucket_of(puzzle) == side
    assert set(SIDES) >= {side}


def test_refusals_name_what_does_not_fit() -> None:
    small = {"input": [[1]], "output": [[2] * 7]}
    puzzle = make_puzzle("t9", [small], [{"input": [[1]]}], source="x.json")
    with pytest.raises(DataError, match=r"x\.json: task t9 has a side of 7"):
        bucket_of(puzzle, (4, 6))
    with pytest.raises(DataError, match="3x3 grid at offset \\(2, 0\\) leaves a canvas of side 4"):
        encode(random_grid(3, 3), 4, (2, 0))
    with pytest.raises(DataError, match="8 tokens are no canvas of side 3"):
        decode(np.zeros(8, dtype=np.uint8), 3)
    assert offset_limits(puzzle.demos[0], 10) == (9, 3)
