"""A study for a paper: figures as PDF, SVG and PGF, tables for booktabs, and a document of both.

Writes the folder paper/ of a study from what the report shows, nothing computed anew. Knows
LaTeX's programs by name only; refuses to leave out PGF without saying so.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cupel.lab.files import write_atomically
from cupel.report.evidence import Contrast, Evidence, read_evidence
from cupel.report.figures import draw_figures
from cupel.report.formats import interval_text, p_text
from cupel.report.latex import escape, latex_table
from cupel.report.tables import Column, Table, condition_table, endpoints_of, run_table
from cupel.report.view import StudyView, load_view

PROGRAMS = ("pdflatex", "xelatex", "lualatex")
_CAPTIONS = {
    "learning_curves": "Learning curves: mean over seeds and its band, every seed behind it.",
    "effect": "Effects with their 95\\,\\% intervals; ticks are single seeds.",
    "entropy": "Entropy of execution and planning tokens.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """What was written, and why there is no PGF (None where there is)."""

    paths: tuple[Path, ...]
    without_pgf: str | None


def write_paper(study_folder: Path) -> Paper:
    """Write paper/ of a study: figures, {conditions,effects,runs}.tex and paper.tex.

    Raises:
        MissingExtraError: matplotlib is not installed.
        DataError: the folder is no study, or one of its files is damaged.
    """
    study = Path(study_folder)
    folder = study / "paper"
    view, evidence = load_view(study), read_evidence(study)
    program = next((name for name in PROGRAMS if shutil.which(name)), None)
    formats = ("pdf", "svg") if program is None else ("pdf", "svg", "pgf")
    figures = draw_figures(view, evidence, folder, formats, _style(program))
    tables = _write_tables(view, evidence, folder)
    document = folder / "paper.tex"
    names = tuple(dict.fromkeys(path.stem for path in figures))
    write_atomically(document, _document(view, names, [path.stem for path in tables]).encode())
    reason = None if program else f"none of {', '.join(PROGRAMS)} is on PATH"
    return Paper(paths=(*figures, *tables, document), without_pgf=reason)


def _style(program: str | None) -> Mapping[str, Any]:
    """Return settings for print: the paper's own serif letters, sizes that stay legible."""
    style: dict[str, Any] = {"font.family": "serif", "font.size": 8, "axes.titlesize": 8}
    if program is not None:
        style |= {"pgf.texsystem": program, "pgf.rcfonts": False}
    return style


def _write_tables(view: StudyView, evidence: Evidence | None, folder: Path) -> list[Path]:
    endpoints = endpoints_of(view)
    tables = {
        "conditions": _without(condition_table(view, endpoints), "tokens per second", "step time"),
        "runs": _without(run_table(view, endpoints), "reason", "time"),
    }
    if evidence is not None and evidence.contrasts:
        tables["effects"] = effect_table(evidence.contrasts)
    source = hashlib.sha256((view.record.folder / "manifest.json").read_bytes()).hexdigest()
    paths = []
    for name, table in tables.items():
        path = folder / f"{name}.tex"
        text = latex_table(table, source_sha256=source, label=f"tab:{name}", fitted=True)
        write_atomically(path, text.encode())
        paths.append(path)
    return paths


def _without(table: Table, *names: str) -> Table:
    """Return the table without columns that a page has no room for; the report shows them."""
    kept = [place for place, column in enumerate(table.columns) if column.name not in names]
    return Table(
        title=table.title,
        columns=tuple(table.columns[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in table.rows),
    )


def effect_table(contrasts: Sequence[Contrast]) -> Table:
    """Return one row a contrast: difference, interval, p, p over the family, seeds, verdict."""
    unit = contrasts[0].unit
    columns = (
        Column(name="candidate"),
        Column(name="baseline"),
        Column(name="endpoint"),
        Column(name="difference", unit=unit, signed=True),
        Column(name="95 % interval"),
        Column(name="p"),
        Column(name="p (Holm)"),
        Column(name="pairs", unit="count"),
        Column(name="verdict"),
    )
    return Table(title="Effects", columns=columns, rows=tuple(map(_effect_row, contrasts)))


def _effect_row(contrast: Contrast) -> tuple[str | int | float | None, ...]:
    bounded = contrast.bounded
    low, high = (contrast.low, contrast.high) if bounded else (contrast.t_low, contrast.t_high)
    interval = None
    if low is not None and high is not None:
        interval = interval_text(low, high, contrast.unit) + ("" if bounded else " (t)")
    return (
        contrast.candidate,
        contrast.baseline,
        contrast.metric,
        contrast.delta,
        interval,
        None if contrast.p is None else p_text(contrast.p),
        None if contrast.p_holm is None else p_text(contrast.p_holm),
        contrast.n_seeds,
        contrast.verdict.replace("_", " "),
    )


def _document(view: StudyView, figures: Sequence[str], tables: Sequence[str]) -> str:
    study = view.record.study
    lines = [
        "\\documentclass{article}",
        "\\usepackage{booktabs,graphicx,pgf}",
        "\\usepackage[margin=2.5cm]{geometry}",
        f"\\title{{{escape(study.name)}}}",
        "\\date{}",
        "\\begin{document}",
        "\\maketitle",
        *([escape(study.question)] if study.question else []),
    ]
    for name in figures:
        lines += [
            "\\begin{figure}[ht]",
            "  \\centering",
            f"  \\includegraphics[width=\\linewidth]{{{name}.pdf}}"
            f" % or \\resizebox{{\\linewidth}}{{!}}{{\\input{{{name}.pgf}}}}",
            f"  \\caption{{{_CAPTIONS[name]}}}",
            f"  \\label{{fig:{name.replace('_', '-')}}}",
            "\\end{figure}",
        ]
    for name in tables:
        lines.append(f"\\input{{{name}.tex}}")
    return "\n".join([*lines, "\\end{document}"]) + "\n"
