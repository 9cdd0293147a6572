"""How a judged study is printed: the sentence, the numbers, and what to beware of.

Reads what the analysis wrote. Refuses to compute a statistic or to soften a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupel.cli import console

if TYPE_CHECKING:
    from cupel.report.evidence import Contrast, Evidence


def show_verdict(folder: Path) -> None:
    """Print the verdict of a study folder, and where its report and analysis are."""
    from cupel.report.evidence import read_evidence

    evidence = read_evidence(folder)
    show_conditions(folder)
    if evidence is None or not evidence.contrasts:
        console.line("no verdict: nothing was compared")
    else:
        show_evidence(evidence)
    litmus = litmus_line(folder)
    if litmus is not None:
        console.line(litmus)
    report = folder / "report.html"
    if report.is_file():
        console.line(f"report: {report}")


SHOWN = ("condition", "runs done", "held-out before", "held-out after")
"""Columns of the report's condition table that fit a screen."""


def show_conditions(folder: Path) -> None:
    """Print what was asked, and each condition's runs and held-out accuracy, before and after."""
    from cupel.report.markdown import shown_rows
    from cupel.report.tables import condition_table, endpoints_of
    from cupel.report.view import load_view

    view = load_view(folder)
    table = condition_table(view, endpoints_of(view))
    kept = [place for place, column in enumerate(table.columns) if column.name in SHOWN]
    console.line()
    if view.record.study.question:
        console.line(view.record.study.question)
    console.table(
        [table.columns[place].name for place in kept],
        [[row[place] for place in kept] for row in shown_rows(table)],
    )


def show_evidence(evidence: Evidence) -> None:
    """Print the primary sentence and one table row a contrast."""
    from cupel.report.evidence import REASONS, verdict_sentence

    primary = evidence.primary
    console.line()
    if primary is not None:
        console.line(verdict_sentence(primary))
        for reason in primary.reasons:
            console.line(f"  because {REASONS.get(reason, reason.replace('_', ' '))}")
    console.line()
    console.table(*contrast_table(evidence.contrasts))
    reach = reach_line(primary) if primary is not None else None
    if reach is not None:
        console.line(reach)
    for note in evidence.notes:
        console.line(note)


def contrast_table(
    contrasts: Sequence[Contrast],
) -> tuple[list[str], list[list[console.Cell]]]:
    """Return one row a contrast: effect, interval, p and verdict."""
    from cupel.report.formats import difference_text, interval_text, p_text

    rows: list[list[console.Cell]] = []
    for one in contrasts:
        p = p_text(one.p) + (f" (Holm {p_text(one.p_holm)})" if one.p_holm is not None else "")
        rows.append(
            [
                f"{one.candidate} − {one.baseline}",
                one.metric,
                one.n_seeds,
                difference_text(one.delta, one.unit),
                interval_text(one.low, one.high, one.unit),
                p,
                one.headline.lower() if one.primary else f"{one.headline.lower()} ({one.family})",
            ]
        )
    return ["contrast", "endpoint", "seeds", "effect", "95% interval", "p", "verdict"], rows


def reach_line(contrast: Contrast) -> str | None:
    """Say what the executed design could find, or None where the analysis does not know."""
    from cupel.report.formats import count_text, difference_text

    if not contrast.mde80:
        return None
    found = difference_text(contrast.mde80, contrast.unit)
    text = f"with {count_text(contrast.n_seeds or 0, 'seed')} this design finds {found} in 4 of 5"
    if contrast.seeds_needed:
        text += f"; the declared effect needs {count_text(contrast.seeds_needed, 'seed')}"
    return text


def litmus_line(folder: Path) -> str | None:
    """Return the litmus verdict of a study folder in one line, or None without one."""
    from cupel.lab.files import read_json

    path = folder / "analysis" / "litmus.json"
    if not path.is_file():
        return None
    return f"litmus: {read_json(path).get('status', 'unknown')} (details: {path})"


def verdict_facts(folder: Path) -> dict[str, Any]:
    """Return what `show_verdict` prints as JSON data."""
    from cupel.report.evidence import read_evidence, verdict_sentence

    evidence = read_evidence(folder)
    primary = evidence.primary if evidence is not None else None
    report = folder / "report.html"
    return {
        "folder": str(folder),
        "verdict": primary.verdict if primary is not None else None,
        "recommendation": evidence.recommendation if evidence is not None else None,
        "sentence": verdict_sentence(primary) if primary is not None else None,
        "contrasts": list(evidence.contrasts) if evidence is not None else [],
        "litmus": litmus_line(folder),
        "report": str(report) if report.is_file() else None,
    }
