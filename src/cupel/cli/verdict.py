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
    for note in evidence.notes:
        console.line(note)


def contrast_table(
    contrasts: Sequence[Contrast],
) -> tuple[list[str], list[list[console.Cell]]]:
    """Return one row a contrast: effect, interval, p, verdict and what the design could find."""
    from cupel.report.formats import difference_text, interval_text, p_text, value_text

    columns = ["candidate", "baseline", "endpoint", "seeds", "effect", "95% interval", "p"]
    columns += ["verdict", "could find", "seeds for that effect"]
    rows: list[list[console.Cell]] = []
    for one in contrasts:
        p = p_text(one.p) + (f" (Holm {p_text(one.p_holm)})" if one.p_holm is not None else "")
        rows.append(
            [
                one.candidate,
                one.baseline,
                one.metric,
                one.n_seeds,
                difference_text(one.delta, one.unit),
                interval_text(one.low, one.high, one.unit),
                p,
                one.headline.lower(),
                difference_text(one.mde80, one.unit) if one.mde80 else value_text(None, ""),
                one.seeds_needed,
            ]
        )
    return columns, rows


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
