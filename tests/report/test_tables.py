"""Tables and their text forms: every run a row, every mean with its n and interval."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import ModuleType

import pytest
from scipy import stats

from cupel.report.markdown import csv_text, markdown_table, shown_rows
from cupel.report.tables import (
    Column,
    Estimate,
    Table,
    condition_table,
    endpoints_of,
    estimate,
    held_out,
    run_table,
)
from cupel.report.view import load_view


def test_estimate_is_the_t_interval_of_scipy() -> None:
    values = [0.2, 0.35, 0.3, 0.5]
    found = estimate([*values, None])
    assert found is not None
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found.n == 4
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_estimate_of_nothing_is_nothing_and_of_two_has_no_interval() -> None:
    assert estimate([None, None]) is None
    found = estimate([0.2, 0.4])
    assert found is not None
    assert (found.low, found.high, found.n) == (None, None, 2)


def test_run_table_has_every_planned_run_and_the_reason(study: Path, synthetic: ModuleType) -> None:
    view = load_view(study)
    table = run_table(view, endpoints_of(view))
    assert len(table.rows) == 8
    names = [column.name for column in table.columns]
    failed = [row for row in table.rows if row[names.index("status")] == "failed"]
    assert len(failed) == 1
    reason = str(failed[0][names.index("reason")])
    assert synthetic.FAILURE in reason
    assert "carried forward" in reason
    assert failed[0][names.index("held-out after")] is None


def test_condition_table_counts_only_runs_with_a_value(study: Path) -> None:
    view = load_view(study)
    table = condition_table(view, endpoints_of(view))
    names = [column.name for column in table.columns]
    grpo, sepa = table.rows
    after = names.index("held-out after")
    assert isinstance(grpo[after], Estimate)
    assert grpo[after].n == 3
    assert isinstance(sepa[after], Estimate)
    assert sepa[after].n == 4
    assert grpo[names.index("runs done")] == "3 of 4"
    for row in shown_rows(table):
        for cell, column in zip(row, table.columns, strict=True):
            if column.unit != "text":
                assert "n = " in cell


def test_held_out_after_exists_only_for_complete_runs(
    synthetic: ModuleType, tmp_path: Path
) -> None:
    folder = synthetic.write_study(tmp_path / "s", running=True, judged=False)
    for run in load_view(folder).runs:
        before, after = held_out(run)
        assert (after is not None) == (run.status == "done")
        assert (before is not None) == (run.status != "planned")


def test_markdown_escapes_and_aligns() -> None:
    table = Table(
        title="t",
        columns=(Column(name="a|b"), Column(name="rate", unit="rate")),
        rows=(("x|y\nz", 0.25), ("none", None)),
    )
    assert markdown_table(table).splitlines() == [
        "| a\\|b | rate |",
        "| :--- | ---: |",
        "| x\\|y z | 25.0\u202f% |",
        "| none | – |",
    ]


def test_csv_keeps_precision_and_spreads_estimates(study: Path) -> None:
    view = load_view(study)
    table = condition_table(view, endpoints_of(view))
    rows = list(csv.DictReader(io.StringIO(csv_text(table))))
    first = table.rows[0][2]
    assert isinstance(first, Estimate)
    name = table.columns[2].name
    assert float(rows[0][name]) == first.mean
    assert float(rows[0][f"{name} low95"]) == first.low
    assert int(rows[0][f"{name} n"]) == first.n
