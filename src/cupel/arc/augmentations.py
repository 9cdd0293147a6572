"""Symmetries of a task: a dihedral turn and a recolouring, each with its exact inverse.

Knows the eight dihedral maps, permutations of the colours 1..9 (0 stays), and the names of
augmented tasks. Refuses to know tokens, offsets and where randomness comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cupel.arc.grids import COLOURS, Grid
from cupel.errors import DataError

DIHEDRALS = 8
INVERSE_DIHEDRAL = (0, 3, 2, 1, 4, 5, 6, 7)
SEPARATOR = "|||"
_SAME = tuple(range(COLOURS))


def turn(grid: Grid, dihedral: int) -> Grid:
    """Apply a dihedral map: 0 none, 1-3 quarter turns, 4 left-right, 5 up-down, 6 and 7 transposes.

    >>> turn(np.array([[1, 2]], dtype=np.uint8), 6).tolist()
    [[1], [2]]
    """
    match dihedral:
        case 0:
            return grid
        case 1 | 2 | 3:
            return np.rot90(grid, dihedral)
        case 4:
            return grid[:, ::-1]
        case 5:
            return grid[::-1]
        case 6:
            return grid.T
        case 7:
            return grid[::-1, ::-1].T
    raise DataError(f"dihedral {dihedral} is unknown; dihedral maps are numbered 0 to 7")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """One symmetry: `apply` turns a grid by `dihedral` and maps colour c to `colours[c]`.

    Raises:
        DataError: an unknown dihedral map, or colours that are no permutation fixing 0.
    """

    dihedral: int = 0
    colours: tuple[int, ...] = _SAME

    def __post_init__(self) -> None:
        """Refuse what is no symmetry."""
        if not 0 <= self.dihedral < DIHEDRALS:
            raise DataError(f"dihedral {self.dihedral} is unknown; allowed: 0 to {DIHEDRALS - 1}")
        if self.colours[:1] != (0,) or tuple(sorted(self.colours)) != _SAME:
            raise DataError(
                f"colours {self.colours} are no permutation of 0..9 that keeps 0 in its place"
            )

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Augmentation:
        """Draw a dihedral map and a permutation of the colours 1..9, uniformly."""
        dihedral = int(rng.integers(DIHEDRALS))
        return cls(dihedral, (0, *(rng.permutation(COLOURS - 1) + 1).tolist()))

    def apply(self, grid: Grid) -> Grid:
        """Return the augmented grid, a new array."""
        table = np.array(self.colours, dtype=np.uint8)
        return table[turn(grid, self.dihedral)]

    def inverse(self) -> Augmentation:
        """Return the augmentation that undoes this one.

        >>> Augmentation(1, (0, 2, 3, 1, 4, 5, 6, 7, 8, 9)).inverse()
        Augmentation(dihedral=3, colours=(0, 3, 1, 2, 4, 5, 6, 7, 8, 9))
        """
        back = np.argsort(np.array(self.colours)).tolist()
        return Augmentation(INVERSE_DIHEDRAL[self.dihedral], tuple(back))

    def name(self, puzzle_id: str) -> str:
        """Return the id of the augmented task; the task's own id under the identity.

        >>> Augmentation(2, (0, 2, 1, 3, 4, 5, 6, 7, 8, 9)).name("007bbfb7")
        '007bbfb7|||t2|||0213456789'
        """
        if self == IDENTITY:
            return puzzle_id
        digits = "".join(str(colour) for colour in self.colours)
        return f"{puzzle_id}{SEPARATOR}t{self.dihedral}{SEPARATOR}{digits}"


IDENTITY = Augmentation()


def parse_name(name: str) -> tuple[str, Augmentation]:
    """Split the id of an augmented task into the task's id and the augmentation.

    >>> parse_name("007bbfb7|||t2|||0213456789")[1].dihedral
    2

    Raises:
        DataError: the name has a separator but not the form `task|||tK|||digits`.
    """
    if SEPARATOR not in name:
        return name, IDENTITY
    parts = name.split(SEPARATOR)
    well_formed = (
        len(parts) == 3
        and len(parts[1]) == 2
        and parts[1][0] == "t"
        and (parts[1][1:] + parts[2]).isascii()
        and (parts[1][1:] + parts[2]).isdigit()
    )
    if not well_formed:
        raise DataError(
            f"augmented id {name!r}: expected task|||tK|||digits, e.g. a|||t2|||0213456789"
        )
    return parts[0], Augmentation(int(parts[1][1:]), tuple(int(digit) for digit in parts[2]))
