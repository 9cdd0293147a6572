"""Tables of results: best supervision (H3), transfer (H4), main results (H5), the predictor (H6)
and the selections (H7).

Knows the evaluation's tables and their documented columns. Refuses to call a format best without
the interval of what it gains.
"""

from __future__ import annotations

from collections.abc import Mapping

from cupel.report.tables import Cell, Column, Table
from cupel.report.teach.canvas import QUADRANT_NAMES
from cupel.report.teach.label_tables import cell_of
from cupel.report.teach.measures import (
    Measure,
    chosen_formats,
    gain_on_panel,
    gain_on_tasks,
    measure,
    transfer_cell,
)
from cupel.report.teach.results import MissingInput, Row, TeachResults, number, only
from cupel.report.teach.selection import selection_methods, selection_points
from cupel.teach.evaluation.tables import BASE
from cupel.teach.labelling.labels import QUADRANTS
from cupel.teach.records import FORMATS

_GAIN = Column(name="gain", unit="rate", signed=True)


def best_supervision(results: TeachResults) -> Table:
    """H3: what each format gains in its own quadrant, and which is best on test tasks."""
    matrix = results.table("transfer_matrix.csv")
    best = chosen_formats("best", matrix, results)
    rows = []
    for quadrant in QUADRANTS:
        own = {str(f): transfer_cell(matrix, f"{quadrant}_{f}", quadrant) for f in FORMATS}
        format_ = best.get(quadrant)
        rows.append(
            (
                QUADRANT_NAMES[quadrant],
                *(cell_of(measure(own[f], "delta_success")) for f in FORMATS),
                format_,
                number(own[format_], "p_holm") if format_ else None,
            )
        )
    return Table(
        title="success in the own quadrant less BASE, by format; best: highest on test tasks",
        columns=(
            Column(name="quadrant"),
            *(Column(name=name, unit="rate", signed=True) for name in FORMATS),
            Column(name="best"),
            Column(name="p (Holm) of its gain here", unit=""),
        ),
        rows=tuple(rows),
    )


def transfer_table(results: TeachResults) -> Table:
    """H4: success less BASE of every model in every quadrant."""
    matrix = results.table("transfer_matrix.csv")
    rows = []
    for name in dict.fromkeys(row["model"] for row in matrix):
        cells = [transfer_cell(matrix, name, quadrant) for quadrant in QUADRANTS]
        row = next(row for row in matrix if row["model"] == name)
        rows.append(
            (
                name,
                QUADRANT_NAMES.get(row["train_quadrant"], row["train_quadrant"]),
                row["supervision"],
                *(cell_of(measure(cell, "delta_success")) for cell in cells),
            )
        )
    return Table(
        title="success in each quadrant less BASE",
        columns=(
            Column(name="model"),
            Column(name="trained on"),
            Column(name="supervision"),
            *(Column(name=f"in {q[:2]}", unit="rate", signed=True) for q in QUADRANTS),
        ),
        rows=tuple(rows),
    )


def main_results(results: TeachResults) -> Table:
    """H5: every model on test tasks, on the failure panel, in retention and in stuckness."""
    overall = results.table("overall_task_results.csv")
    retention = results.table("retention_results.csv")
    stuckness = results.table("stuckness_results.csv")
    folder = results.path("overall_task_results.csv").parent
    rows = []
    for row in overall:
        name = row["model"]
        kept, trained = only(retention, model=name), name != BASE
        stuck = {each: only(stuckness, model=name, dataset=each) for each in ("tasks", "snapshots")}
        nothing = Measure(value=None)
        rows.append(
            (
                name,
                cell_of(measure(row, "success_rate")),
                cell_of(gain_on_tasks(overall, name) if trained else nothing),
                number(row, "p_holm"),
                cell_of(gain_on_panel(folder, name) if trained else nothing),
                number(kept, "retention_success_rate"),
                cell_of(measure(kept, "retention_drop") if trained else nothing),
                *(
                    number(stuck[each], column)
                    for each in ("tasks", "snapshots")
                    for column in ("mean_repeat_rate", "mean_loop_rate")
                ),
            )
        )
    return Table(
        title="main results; gains and drops are paired with BASE, with 95 % intervals by task",
        columns=(
            Column(name="model"),
            Column(name="success on tasks", unit="rate"),
            _GAIN,
            Column(name="p (Holm)", unit=""),
            Column(name="gain on the panel", unit="rate", signed=True),
            Column(name="retention", unit="rate"),
            Column(name="retention drop", unit="rate", signed=True),
            Column(name="repeat rate, tasks", unit="rate"),
            Column(name="loop rate, tasks", unit="rate"),
            Column(name="repeat rate, panel", unit="rate"),
            Column(name="loop rate, panel", unit="rate"),
        ),
        rows=tuple(rows),
    )


def predictor_metrics(results: TeachResults) -> Table:
    """H6: every score of the predictor and of its rivals, beside ceiling and criterion."""
    told = results.json("evaluation_metrics.json")
    required = {gate["name"]: gate.get("required") for gate in told.get("gates", ())}
    lines: list[tuple[Cell, ...]] = []
    for model, scores in _models(told).items():
        for head, row in (scores.get("regression_metrics") or {}).items():
            for score in ("r2", "spearman", "mae"):
                lines.append(
                    (
                        model,
                        head,
                        score,
                        None,
                        number(row, score),
                        number(row, f"ceiling_{score}"),
                        required.get(f"R2({head})") if score == "r2" else None,
                        _count(row),
                    )
                )
        quadrant = scores.get("classification_metrics") or {}
        if number(quadrant, "accuracy") is not None:
            accuracy, ceiling = number(quadrant, "accuracy"), number(quadrant, "ceiling_accuracy")
            least = required.get("accuracy(quadrant)")
            lines.append(
                (model, "quadrant", "accuracy", None, accuracy, ceiling, least, _count(quadrant))
            )
    ranked = told.get("ranking") or {}
    for model, by_k in (ranked.get("rankings") or {}).items():
        for row in by_k.values():
            lines += [
                (model, "elp", f"{score}@K", int(row["k_used"]), number(row, score), None, None,
                 _count(ranked))
                for score in ("precision_pos", "ndcg", "overlap")
            ]  # fmt: skip
    if not lines:
        raise MissingInput(f"{results.path('evaluation_metrics.json')}: holds no score")
    return Table(
        title="predictor and rankings, out of fold",
        columns=(
            Column(name="model"),
            Column(name="of"),
            Column(name="score"),
            Column(name="K", unit="count"),
            Column(name="value", unit=""),
            Column(name="ceiling by label noise", unit=""),
            Column(name="required", unit=""),
            Column(name="n", unit="count"),
        ),
        rows=tuple(lines),
    )


def _models(told: Row) -> Mapping[str, Row]:
    """Return scores by model; a file of one model tells them at its top."""
    found: Mapping[str, Row] = told.get("models") or {str(told.get("model", "predictor")): told}
    return found


def _count(row: Row) -> int | None:
    n = number(row, "n")
    return None if n is None else int(n)


def selection_summary(results: TeachResults) -> Table:
    """H7: what each method selected, what its model gained, and what it lost."""
    summary = results.json("selection_summary.json")
    if not selection_methods(summary):
        raise MissingInput(f"{results.path('selection_summary.json')}: names no method")
    try:
        points = selection_points(results)
    except MissingInput:
        points = []
    rows: list[tuple[Cell, ...]] = []
    for each in summary["methods"]:
        mine = [point for point in points if point.method == each["method"]]
        stats = each.get("stats") or {}
        outcomes = [(cell_of(point.gain), cell_of(point.drop)) for point in mine]
        for gained in outcomes or [(None, None)]:
            rows.append(
                (
                    str(each["method"]),
                    each.get("n_selected"),
                    each.get("n_examples"),
                    number(stats, "uncertainty_mean"),
                    number(stats, "elp_mean"),
                    number(stats, "elp_split_mean"),
                    *gained,
                )
            )
    return Table(
        title="selections of equal size",
        columns=(
            Column(name="method"),
            Column(name="selected", unit="count"),
            Column(name="examples", unit="count"),
            Column(name="mean U", unit=""),
            Column(name="mean ELP_net", unit="rate", signed=True),
            Column(name="mean ELP, unbiased", unit="rate", signed=True),
            Column(name="gain on the panel", unit="rate", signed=True),
            Column(name="retention drop", unit="rate", signed=True),
        ),
        rows=tuple(rows),
    )
