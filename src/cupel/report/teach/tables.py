"""Tables H1 to H7 of the teaching pipeline, from result folders and from nothing else.

Knows which table needs which files. Refuses to fill a cell that was not measured, and a table
whose input is missing: it is named with what it lacks. CSV keeps full precision; markdown shows
percent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cupel.lab.files import write_atomically
from cupel.report.markdown import csv_text, markdown_table
from cupel.report.tables import Table
from cupel.report.teach.figures import Made, chosen
from cupel.report.teach.label_tables import patch_validation, quadrant_summary
from cupel.report.teach.result_tables import (
    best_supervision,
    main_results,
    predictor_metrics,
    selection_summary,
    transfer_table,
)
from cupel.report.teach.results import MissingInput, TeachResults

TABLES: Mapping[str, tuple[str, Callable[[TeachResults], Table]]] = {
    "H1": ("H1_quadrant_summary", quadrant_summary),
    "H2": ("H2_patch_validation", patch_validation),
    "H3": ("H3_best_supervision", best_supervision),
    "H4": ("H4_transfer_matrix", transfer_table),
    "H5": ("H5_main_results", main_results),
    "H6": ("H6_predictor_metrics", predictor_metrics),
    "H7": ("H7_selection_summary", selection_summary),
}
"""By short name: the file's name and what makes it."""


def write_tables(
    results_dir: Path, output_dir: Path, *, wanted: Sequence[str] | None = None
) -> Made:
    """Write the wanted tables, or all that have their inputs, as CSV and markdown.

    Raises:
        ConfigError: a wanted name is unknown.
        DataError: a result file is there but damaged.
    """
    results = TeachResults(results_dir)
    written: list[Path] = []
    missing: dict[str, str] = {}
    for short in chosen(TABLES, wanted):
        name, make = TABLES[short]
        try:
            table = make(results)
        except MissingInput as error:
            missing[short] = str(error)
            continue
        output_dir.mkdir(parents=True, exist_ok=True)
        page = f"# {short}: {table.title}\n\n{markdown_table(table)}\n"
        for suffix, text in ((".csv", csv_text(table)), (".md", page)):
            written.append(output_dir / f"{name}{suffix}")
            write_atomically(written[-1], text.encode())
    return Made(written=tuple(written), missing=missing)
