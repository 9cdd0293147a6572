"""The page below the curves: effects, before and after, health, cost and the table of runs.

Knows which tables and rows stand there. What is missing is said in words; refuses to leave a silent
hole.
"""

from __future__ import annotations

import json
from html import escape

from cupel.report.costs import cost_table
from cupel.report.declared import Declarations
from cupel.report.effects import forest, seed_rows
from cupel.report.evidence import Evidence
from cupel.report.formats import count_text
from cupel.report.health import health_table
from cupel.report.heldout import held_out_figure
from cupel.report.html_tables import html_table
from cupel.report.litmus import litmus_section
from cupel.report.tables import Endpoints, condition_table, contrast_table, run_table
from cupel.report.view import StudyView


def effects(view: StudyView, evidence: Evidence | None) -> str:
    """Return the forest of contrasts and the primary contrast seed by seed."""
    if evidence is None or not evidence.contrasts:
        return '<p class="empty">No contrast was computed: the study has not been judged.</p>'
    parts = [forest(evidence.contrasts, view.inks)]
    numbers = html_table(contrast_table(evidence), name="contrasts", wide=True)
    parts.append(f"<details><summary>Every contrast in numbers</summary>{numbers}</details>")
    primary = evidence.primary
    if primary is not None and primary.pairs:
        parts.append(
            "<h3>Seed by seed</h3><p class=lede>The unit of inference is the pair of runs that "
            "share a seed. Each row is one pair; the verdict rests on these differences alone.</p>"
        )
        parts.append(seed_rows(primary, view.inks))
    parts.append(litmus_section(view.folder))
    return "".join(parts)


def held_out_section(view: StudyView, endpoints: Endpoints) -> str:
    """Return the before-and-after figure and the table of conditions."""
    table = html_table(condition_table(view, endpoints), name="conditions")
    return (
        held_out_figure(view)
        + "<details open><summary>In numbers: mean, 95 % t-interval, number of runs</summary>"
        + f"{table}</details>"
    )


def health_section(view: StudyView, declared: Declarations) -> str:
    """Return what the instrument itself did wrong, check by check, and the recorded events."""
    events = [
        f"{run.condition}, seed {run.seed}: {json.dumps(dict(event), ensure_ascii=False)}"
        for run in view.runs
        for event in run.record.events
    ]
    listed = "".join(f"<li>{escape(event)}</li>" for event in events)
    more = (
        f"<details><summary>{count_text(len(events), 'recorded event')}: what happened beside the "
        f"plan</summary><ul class=caveats>{listed}</ul></details>"
        if events
        else ""
    )
    return html_table(health_table(view, declared), name="health") + more


def cost_section(view: StudyView) -> str:
    """Return what the runs spent, by condition, beside the bound that was planned."""
    table = cost_table(view)
    planned = view.record.manifest.get("costs")
    bound = ""
    if isinstance(planned, dict) and planned:
        words = ", ".join(f"{value:,.0f} {unit}" for unit, value in planned.items())
        bound = f'<p class="lede">Planned at most, all runs together: {escape(words)}.</p>'
    if len(table.columns) < 3:
        return bound + '<p class="empty">No run has logged what it spent.</p>'
    return bound + html_table(table, name="cost")


def runs_section(view: StudyView, endpoints: Endpoints) -> str:
    """Return the table of every planned run."""
    return html_table(run_table(view, endpoints), name="runs", status="status")
