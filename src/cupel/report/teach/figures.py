"""Figures H1 to H7 of the teaching pipeline, from result folders and from nothing else.

Knows which figure needs which files. Refuses to draw what was not measured: a figure whose input
is missing is named with what it lacks, and is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cupel.config import did_you_mean
from cupel.errors import ConfigError
from cupel.report.teach import label_figures as labels
from cupel.report.teach import prediction_figures as prediction
from cupel.report.teach import training_figures as training
from cupel.report.teach.canvas import save
from cupel.report.teach.results import MissingInput, TeachResults

FIGURES: Mapping[str, tuple[str, Callable[..., Any]]] = {
    "H1": ("H1_landscape", labels.landscape),
    "H2": ("H2_patch_validation", labels.patch_validation),
    "H3": ("H3_in_quadrant", training.in_quadrant),
    "H4": ("H4_transfer_matrix", training.transfer),
    "H5": ("H5_frontier", training.frontier),
    "H6": ("H6_predictor", prediction.predictor),
    "H7": ("H7_selection", prediction.selection),
}
"""By short name: the file's name and what draws it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was written, and by short name what each thing not made lacks."""

    written: tuple[Path, ...]
    missing: Mapping[str, str]


def write_figures(
    results_dir: Path,
    output_dir: Path,
    *,
    supervision: str = "best",
    wanted: Sequence[str] | None = None,
) -> Made:
    """Draw the wanted figures, or all that have their inputs, as PNG and PDF.

    Args:
        supervision: format of H4: demo, contrast, hint, or best.
        wanted: short names such as `H1`; None: all.

    Raises:
        ConfigError: a wanted name is unknown.
        DataError: a result file is there but damaged.
        MissingExtraError: matplotlib is not installed.
    """
    results = TeachResults(results_dir)
    written: list[Path] = []
    missing: dict[str, str] = {}
    for short in chosen(FIGURES, wanted):
        name, paint = FIGURES[short]
        draw = partial(paint, results, supervision) if short == "H4" else partial(paint, results)
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
            written += save(draw, output_dir / name)
        except MissingInput as error:
            missing[short] = str(error)
    return Made(written=tuple(written), missing=missing)


def chosen(known: Mapping[str, Any], wanted: Sequence[str] | None) -> list[str]:
    """Return the wanted short names in the order of `known`, in any letter case.

    Raises:
        ConfigError: a name is unknown.
    """
    if wanted is None:
        return list(known)
    names = [name.upper() for name in wanted]
    for name in names:
        if name not in known:
            raise ConfigError(f"'{name}': {did_you_mean(name, list(known))}")
    return [name for name in known if name in names]
