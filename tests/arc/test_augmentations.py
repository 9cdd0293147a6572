"""Symmetries: exact inverses for all maps and sizes, names that round-trip, uniform draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupel.arc.augmentations import (
    DIHEDRALS,
    IDENTITY,
    INVERSE_DIHEDRAL,
    Augmentation,
    parse_name,
    turn,
)
from cupel.errors import DataError

augmentations = st.builds(
    lambda dihedral, colours: Augmentation(dihedral, (0, *colours)),
    st.integers(0, 7),
    st.permutations(range(1, 10)),
)


@pytest.mark.parametrize("size", range(1, 31))
def test_inverse_gives_the_grid_back(size: int) -> None:
    """T16: all 8 maps, random recolourings, all sizes, not only squares."""
    rng = np.random.default_rng(size)
    grid = rng.integers(0, 10, (size, 1 + (11 * size) % 30)).astype(np.uint8)
    for dihedral in range(DIHEDRALS):
        augmentation = Augmentation(dihedral, Augmentation.sample(rng).colours)
        there = augmentation.apply(grid)
        back = augmentation.inverse().apply(there)
        assert there.dtype == np.uint8
        assert np.array_equal(back, grid)
        assert np.array_equal(augmentation.apply(augmentation.inverse().apply(grid)), grid)


def test_the_eight_maps_on_a_grid_without_symmetry() -> None:
    grid = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    flat = ["".join(map(str, turn(grid, d).ravel())) for d in range(8)]
    assert flat == ["1234", "2413", "4321", "3142", "2143", "3412", "1324", "4231"]
    assert len(set(flat)) == 8
    for dihedral, back in enumerate(INVERSE_DIHEDRAL):
        assert np.array_equal(turn(turn(grid, dihedral), back), grid)


@settings(max_examples=100)
@given(augmentations)
def test_name_round_trips(augmentation: Augmentation) -> None:
    assert parse_name(augmentation.name("00d62c1b")) == ("00d62c1b", augmentation)
    assert augmentation.inverse().inverse() == augmentation


def test_identity_keeps_the_name_and_its_long_form_is_understood() -> None:
    assert IDENTITY.name("a") == "a"
    assert parse_name("a|||t0|||0123456789") == ("a", IDENTITY)


@pytest.mark.parametrize("name", ["a|||t8|||0123456789", "a|||t1", "a|||t1|||1023456789",
                                  "a|||x1|||0123456789", "a|||t1|||01234"])  # fmt: skip
def test_malformed_names_are_refused(name: str) -> None:
    with pytest.raises(DataError):
        parse_name(name)


def test_colour_zero_stays_and_draws_are_even() -> None:
    rng = np.random.default_rng(5)
    drawn = [Augmentation.sample(rng) for _ in range(4000)]
    assert {a.colours[0] for a in drawn} == {0}
    turns = np.bincount([a.dihedral for a in drawn], minlength=8)
    targets = np.bincount([a.colours[1] for a in drawn], minlength=10)
    assert abs(turns - 500).max() < 5 * np.sqrt(500)
    assert abs(targets[1:] - 4000 / 9).max() < 5 * np.sqrt(4000 / 9)
