"""Tables of the labels: quadrants (H1) and the validation of the patch test (H2).

Knows documented fields. Refuses to average a label over rows that do not have it without saying
how many do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cupel.report.tables import Cell, Column, Estimate, Table
from cupel.report.teach.canvas import QUADRANT_NAMES
from cupel.report.teach.correlations import agreements
from cupel.report.teach.measures import Measure, labelled_of, mean_of
from cupel.report.teach.results import Row, TeachResults, number
from cupel.teach.labelling.labels import QUADRANTS
from cupel.teach.records import FORMATS


def cell_of(measure: Measure) -> Cell:
    """Return a measure as a cell: with interval and n where it has an n."""
    if measure.value is None or measure.n is None:
        return measure.value
    return Estimate(mean=measure.value, low=measure.lo, high=measure.hi, n=measure.n)


def quadrant_summary(results: TeachResults) -> Table:
    """H1: how many moments each quadrant has, and the means of their labels."""
    rows = results.labels()
    lines = [_quadrant_line(rows, quadrant) for quadrant in (*QUADRANTS, "UNASSIGNED")]
    return Table(
        title="moments by quadrant; means with 95 % intervals, clustered by task",
        columns=(
            Column(name="quadrant"),
            Column(name="moments", unit="count"),
            Column(name="tasks", unit="count"),
            Column(name="U", unit=""),
            Column(name="p_policy", unit="rate"),
            Column(name="p_expert", unit="rate"),
            Column(name="L_local", unit="rate", signed=True),
            Column(name="L_upper", unit="rate", signed=True),
            Column(name="ELP_net", unit="rate", signed=True),
            Column(name="ELP_split", unit="rate", signed=True),
            *(Column(name=f"gain_net {name}", unit="rate", signed=True) for name in FORMATS),
            Column(name="commonest route"),
        ),
        rows=tuple(line for line in lines if line[1] or line[0] in QUADRANT_NAMES.values()),
    )


def _quadrant_line(rows: Sequence[Row], quadrant: str) -> tuple[Cell, ...]:
    mine = [row for row in rows if row.get("quadrant", "UNASSIGNED") == quadrant]
    moments = [labelled_of(row) for row in mine]
    tasks = [each.task for each in moments]

    def mean(block: str | None, name: str, inner: str | None = None) -> Cell:
        values = []
        for task, row in zip(tasks, mine, strict=True):
            place = row if block is None else row.get(block) or {}
            place = place if inner is None else place.get(inner) or {}
            values.append((task, number(place, name)))
        return cell_of(mean_of(values))

    routes = Counter(each.route for each in moments if each.route)
    commonest = [f"{name} ({count})" for name, count in routes.most_common(1)]
    return (
        QUADRANT_NAMES.get(quadrant, "unassigned"),
        len(mine),
        len(set(tasks)),
        mean(None, "U"),
        *(mean("leverage", name) for name in ("p_policy", "p_expert", "L_local", "L_upper")),
        *(mean("cpt", name) for name in ("ELP_net", "ELP_split")),
        *(mean("cpt", name, "patch_gain_net") for name in FORMATS),
        commonest[0] if commonest else None,
    )


def patch_validation(results: TeachResults) -> Table:
    """H2: rank correlation of patch-test gain and micro-training gain, whole and by quadrant."""
    return Table(
        title="patch-test gain against micro-training gain; rank correlations with 95 % intervals",
        columns=(
            Column(name="moments of"),
            Column(name="n", unit="count"),
            Column(name="spearman", unit=""),
            Column(name="spearman given the success before", unit=""),
            Column(name="pearson", unit=""),
            Column(name="mean patch gain", unit="rate", signed=True),
            Column(name="mean training gain", unit="rate", signed=True),
        ),
        rows=tuple(
            (
                QUADRANT_NAMES.get(each.group, each.group),
                len(each.points),
                cell_of(each.rho),
                cell_of(each.partial),
                each.pearson,
                each.mean_patch,
                each.mean_effect,
            )
            for each in agreements(results)
        ),
    )
