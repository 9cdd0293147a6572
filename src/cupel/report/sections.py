"""The page below the verdict: which figures and tables there are, and in what order.

Knows which keys are worth a picture. A picture without data is replaced by a line that says what is
missing; refuses to leave a silent hole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from cupel.report.charts import Figure, Mark, breakable, line_figure
from cupel.report.effects import forest, seed_rows
from cupel.report.evidence import Evidence
from cupel.report.formats import THIN, count_text
from cupel.report.heldout import held_out_figure
from cupel.report.litmus import litmus_section
from cupel.report.markdown import cell_text
from cupel.report.tables import (
    Cell,
    Column,
    Endpoints,
    Estimate,
    Table,
    condition_table,
    run_table,
)
from cupel.report.view import StudyView, unit_of

MECHANISM = {
    "exec_entropy_var": (
        "Variance of execution-token entropy",
        "Entropy pooling should lower it; population variance over the batch, before shaping.",
    ),
    "exec_entropy_mean": ("Mean entropy of execution tokens", ""),
    "plan_entropy_mean": (
        "Mean entropy of planning tokens",
        "Should stay high while the model explores; a gap where no planning token was found.",
    ),
    "planning_token_rate": (
        "Planning tokens",
        "Share of all tokens. Below 0.5 % planning-aware methods change nothing.",
    ),
}
THROUGHPUT = {
    "tokens_per_second": ("Throughput", "Sampled tokens over the time of the whole step."),
    "step_time_s": ("Step time", "Sampling, scoring and update; evaluation excluded."),
}
DIAGNOSTICS = {
    "loss": ("Loss", "No measure of progress; it may be negative."),
    "max_token_hit_rate": ("Completions cut at the token limit", ""),
    "completion_length_mean": ("Mean completion length", "Tokens a completion."),
    "ungradable_count": ("Ungradable completions", "Count a step: the instrument's own failures."),
}


def learning(view: StudyView) -> str:
    """Return the learning curves: the endpoint's metric first, then what else measures success."""
    metric = view.record.study.endpoint.metric
    over = view.record.study.endpoint.over
    keys = dict.fromkeys([metric, "correct_rate", "mean_reward", "eval/accuracy"])
    figures: list[str] = []
    missing: list[str] = []
    same = _same_everywhere(view, "correct_rate", "mean_reward")
    for key in keys:
        evaluations = view.curves(key)
        if key == "mean_reward" and same:
            missing.append("mean_reward equals correct_rate in every row and is not drawn twice")
            continue
        if key == "eval/accuracy" and all(curve.steps_T.size < 3 for curve in evaluations):
            continue
        note = f"The primary endpoint, judged over {over}." if key == metric else ""
        title = _title(key)
        drawn = _figure(view, key, title, note, tall=not figures)
        figures.append(drawn) if drawn else missing.append(f"{key} was not logged")
    return _figures(figures) + _missing(missing)


def effects(view: StudyView, evidence: Evidence | None) -> str:
    """Return the forest of contrasts and the primary contrast seed by seed."""
    if evidence is None or not evidence.contrasts:
        return '<p class="empty">No contrast was computed: the study has not been judged.</p>'
    parts = [forest(evidence.contrasts, view.inks)]
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
    table = html_table(condition_table(view, endpoints))
    return (
        held_out_figure(view)
        + "<details open><summary>In numbers: mean, 95 % t-interval, number of runs</summary>"
        + f"{table}</details>"
    )


def mechanism(view: StudyView) -> str:
    """Return entropy and planning curves, and SEPA's lambda and gate where they are in use."""
    figures, missing = _family(view, MECHANISM)
    lambdas = [curve for curve in view.curves("sepa_lambda") if np.nanmax(curve.values_T) > 0]
    if lambdas:
        using = [label for label in view.labels if any(c.condition == label for c in lambdas)]
        note = " ".join(_gate_words(view, label) for label in using)
        others = " Conditions without SEPA are left out." if len(using) < len(view.labels) else ""
        figure = Figure(
            slug="sepa_lambda", title="SEPA pooling strength λ", unit="", note=note + others
        )
        inks = {label: view.inks[label] for label in using}
        figures.append(line_figure(figure, lambdas, inks, _gate_marks(view, using)))
    else:
        missing.append("no run used SEPA, so λ and its gate are not drawn")
    return _figures(figures) + _missing(missing)


def throughput(view: StudyView) -> str:
    """Return speed curves; timings depend on the machine and are never part of a verdict."""
    figures, missing = _family(view, THROUGHPUT)
    return _figures(figures) + _missing(missing)


def diagnostics(view: StudyView) -> str:
    """Return the curves that help to find out what went wrong."""
    figures, missing = _family(view, DIAGNOSTICS)
    return _figures(figures) + _missing(missing)


def runs_section(view: StudyView, endpoints: Endpoints) -> str:
    """Return the table of every planned run, and the events the runs recorded."""
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
    return html_table(run_table(view, endpoints), status="status") + more


def html_table(table: Table, *, status: str | None = None) -> str:
    """Return a table that turns into cards on a phone."""
    heads = "".join(
        f'<th scope="col"{"" if column.unit == "text" else " class=r"}>{escape(column.name)}</th>'
        for column in table.columns
    )
    names = [column.name for column in table.columns]
    rows = []
    for row in table.rows:
        cells = []
        for cell, column in zip(row, table.columns, strict=True):
            css = "why" if column.name == "reason" else "" if column.unit == "text" else "r"
            if cell is None and column.name == "reason":
                css, shown = "why gone", ""
            else:
                shown = _html_cell(cell, column)
            if column.name == status:
                shown = f'<span class="st {shown}">{shown}</span>'
            cells.append(f'<td class="{css}" data-name="{escape(column.name)}">{shown}</td>')
        kind = escape(str(row[names.index(status)])) if status is not None else ""
        rows.append(f'<tr class="{kind}">{"".join(cells)}</tr>')
    return (
        f'<table class="cards"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _html_cell(cell: Cell, column: Column) -> str:
    if isinstance(cell, Estimate):
        mean, low, high = (
            cell_text(value, column) if value is not None else None
            for value in (cell.mean, cell.low, cell.high)
        )
        span = f"{low.partition(THIN)[0]} to {high}" if low is not None else "no interval"
        count = f"n&nbsp;=&nbsp;{cell.n}"
        return f"<span><b>{escape(str(mean))}</b> <small>{escape(span)}, {count}</small></span>"
    text = cell_text(cell, column)
    return breakable(text) if column.name == "condition" else escape(text)


def _family(view: StudyView, family: Mapping[str, tuple[str, str]]) -> tuple[list[str], list[str]]:
    figures, missing = [], []
    for key, (title, note) in family.items():
        drawn = _figure(view, key, title, note)
        figures.append(drawn) if drawn else missing.append(f"{key} was not logged")
    return figures, missing


def _figure(view: StudyView, key: str, title: str, note: str, *, tall: bool = False) -> str:
    curves = view.curves(key)
    if not curves:
        return ""
    slug = key.replace("/", "-")
    x_title = "updates done" if key.startswith("eval/") else "training step"
    figure = Figure(
        slug=slug, title=title, unit=unit_of(key), note=note, tall=tall, x_title=x_title
    )
    return line_figure(figure, curves, view.inks)


def _title(key: str) -> str:
    titles = {
        "correct_rate": "Correct rate",
        "mean_reward": "Mean reward",
        "eval/accuracy": "Held-out accuracy",
    }
    return titles.get(key, key)


def _same_everywhere(view: StudyView, one: str, other: str) -> bool:
    pairs = [(run.curve(one), run.curve(other)) for run in view.runs]
    return any(not a.is_empty for a, _ in pairs) and all(
        np.array_equal(a.values_T, b.values_T, equal_nan=True) for a, b in pairs
    )


def _gate_words(view: StudyView, label: str) -> str:
    runs = [run.curve("sepa_gate_open") for run in view.of(label)]
    logged = [run for run in runs if not run.is_empty]
    opened = [
        float(run.steps_T[np.argmax(run.values_T == 1)]) for run in logged if 1 in run.values_T
    ]
    if not logged:
        return f"The gate of {label} was not logged."
    if not opened:
        return f"The gate of {label} never opened."
    first, last = min(opened), max(opened)
    when = f"at step {first:g}" if first == last else f"between steps {first:g} and {last:g}"
    share = f"{len(opened)} of {count_text(len(logged), 'run')}"
    return f"The gate of {label} opened {when} (rings) in {share}."


def _gate_marks(view: StudyView, using: Sequence[str]) -> list[Mark]:
    marks = []
    for label in using:
        for run in view.of(label):
            gate, strength = run.curve("sepa_gate_open"), run.curve("sepa_lambda")
            if 1 not in gate.values_T:
                continue
            place = int(np.argmax(gate.values_T == 1))
            value = float(strength.values_T[place])
            if np.isfinite(value):
                step = float(gate.steps_T[place])
                words = f"{label}, seed {run.seed}: gate open from step {step:g}"
                marks.append(Mark(condition=label, step=step, value=value, words=words))
    return marks


def _figures(figures: Sequence[str]) -> str:
    return f'<div class="figs">{"".join(figures)}</div>' if figures else ""


def _missing(parts: Sequence[str]) -> str:
    if not parts:
        return ""
    text = "; ".join(parts)
    return f'<p class="lede"><small>Not shown: {escape(text)}.</small></p>'
