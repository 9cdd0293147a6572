"""Colours: one for each condition, the same in every figure, safe for colour-blind readers.

Pure. The hues are those of Okabe and Ito (2008), the pale ones darkened on white and the dark ones
lightened on black so that every line keeps at least 3:1 contrast. Refuses to carry meaning by
colour alone: every condition is also named beside its line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LIGHT = ("#0072B2", "#D55E00", "#008F68", "#B8558C", "#B07A00", "#2A8FC7", "#3B3B3B", "#8C8300")
DARK = ("#56A9E8", "#F28A45", "#2CC79C", "#E59CC7", "#EDB340", "#8FCDF5", "#D9D6CF", "#F0E442")
DASHES = ("", "6 3", "2 3", "8 3 2 3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ink:
    """How one condition is drawn: palette index, both colours, and a dash beyond 8 conditions."""

    index: int
    light: str
    dark: str
    dash: str


def inks(labels: Sequence[str]) -> Mapping[str, Ink]:
    """Give every condition its ink, by its place in the study file."""
    return {
        label: Ink(
            index=place % len(LIGHT),
            light=LIGHT[place % len(LIGHT)],
            dark=DARK[place % len(DARK)],
            dash=DASHES[place // len(LIGHT) % len(DASHES)],
        )
        for place, label in enumerate(labels)
    }


def css_variables() -> tuple[str, str]:
    """Return the CSS declarations of the palette for light and for dark pages."""
    light = ";".join(f"--c{index}:{colour}" for index, colour in enumerate(LIGHT))
    dark = ";".join(f"--c{index}:{colour}" for index, colour in enumerate(DARK))
    return light, dark
