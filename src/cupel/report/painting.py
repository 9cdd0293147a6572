"""Who draws a figure of curves: into the page with its data, or into a place filled later.

Pure. Knows how curves become a figure's HTML. Refuses to know which figures there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cupel.report.chart_data import chart_data
from cupel.report.charts import Drawn, Figure, Mark, empty_figure, line_figure, prepare
from cupel.report.palette import Ink
from cupel.report.view import MAX_POINTS, Curve


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Everything a figure of curves is drawn from."""

    figure: Figure
    curves: Sequence[Curve]
    inks: Mapping[str, Ink]
    marks: Sequence[Mark] = ()
    max_points: int = MAX_POINTS

    def html(self) -> str:
        """Return the figure with its still picture and its data."""
        drawn = self._drawn()
        return line_figure(self.figure, drawn, self._data(drawn), self.inks)

    def data(self) -> str:
        """Return the figure's data alone."""
        return self._data(self._drawn())

    def _drawn(self) -> Drawn:
        labels, unit = list(self.inks), self.figure.unit
        return prepare(self.curves, labels, unit, max_points=self.max_points)

    def _data(self, drawn: Drawn) -> str:
        return chart_data(self.figure, drawn, self.inks, self.marks)


class Painter(Protocol):
    """Turns a picture into HTML."""

    def paint(self, picture: Picture) -> str:
        """Return what stands in the page for a picture."""
        ...


class StillPainter:
    """Draws every picture into the page, numbers included."""

    def paint(self, picture: Picture) -> str:
        """Return the whole figure."""
        return picture.html()


@dataclass(frozen=True, slots=True)
class FollowingPainter:
    """Leaves a place for every picture, and keeps the pictures by their slug."""

    pictures: dict[str, Picture] = field(default_factory=dict)

    def paint(self, picture: Picture) -> str:
        """Return the figure's place."""
        self.pictures[picture.figure.slug] = picture
        return empty_figure(picture.figure)
