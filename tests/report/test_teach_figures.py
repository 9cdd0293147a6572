"""Figures and tables of the teaching pipeline: from result files only, and exactly from them."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cupel.errors import ConfigError, DataError
from cupel.report.tables import Estimate
from cupel.report.teach.figures import FIGURES, write_figures
from cupel.report.teach.label_tables import quadrant_summary
from cupel.report.teach.measures import chosen_formats, gain_on_panel, mean_of
from cupel.report.teach.result_tables import best_supervision, main_results
from cupel.report.teach.results import TeachResults, read_table
from cupel.report.teach.selection import selection_points
from cupel.report.teach.tables import TABLES, write_tables
from cupel.teach.labelling.labels import QUADRANTS
from cupel.teach.records import FORMATS

EVALUATION = Path("phase3/v8")
NEEDS = {
    "phase1/labeled_snapshots.jsonl": {"H1"},
    "phase1b/cpt_correlation.json": {"H2"},
    "phase3/v8/transfer_matrix.csv": {"H3", "H4"},
    "phase3/v8/retention_results.csv": {"H5"},
    "phase4/evaluation_metrics.json": {"H6"},
    "phase5/selection/selection_summary.json": {"H7"},
}


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    path = Path(__file__).with_name("teach_synthetic.py")
    spec = importlib.util.spec_from_file_location("teach_synthetic", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def made(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results in the full layout; read only."""
    folder: Path = synthetic.write_results(tmp_path_factory.mktemp("teach") / "results")
    return folder


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """Results to change."""
    return Path(shutil.copytree(made, tmp_path / "results"))


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def rewrite(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_every_figure_is_drawn_twice_the_same(made: Path, tmp_path: Path) -> None:
    first = write_figures(made, tmp_path / "a")
    again = write_figures(made, tmp_path / "b", wanted=["h1", "H4"])
    assert not first.missing
    assert len(first.written) == 2 * len(FIGURES)
    assert {path.suffix for path in first.written} == {".png", ".pdf"}
    for path in again.written:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


def test_the_pilots_layout_gives_the_same(
    synthetic: ModuleType, made: Path, tmp_path: Path
) -> None:
    pilot = synthetic.write_results(tmp_path / "pilot", pilot=True)
    for folder, out in ((made, "a"), (pilot, "b")):
        assert not write_tables(folder, tmp_path / out).missing
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("name", NEEDS)
def test_a_missing_input_is_named_and_only_what_needs_it_is_not_made(
    results: Path, tmp_path: Path, name: str
) -> None:
    (results / name).unlink()
    other = "H2" if "H1" in NEEDS[name] else "H1"
    drawn = write_figures(results, tmp_path / "figures", wanted=[*NEEDS[name], other])
    assert set(drawn.missing) == NEEDS[name]
    assert all(Path(name).name in why for why in drawn.missing.values())
    assert {path.stem for path in drawn.written} == {FIGURES[other][0]}
    tabled = write_tables(results, tmp_path / "tables")
    assert set(tabled.missing) == NEEDS[name]


def test_a_column_of_another_name_is_refused_not_read_as_nothing(results: Path) -> None:
    path = results / EVALUATION / "stuckness_results.csv"
    path.write_text(path.read_text().replace("dataset", "dataset_type", 1))
    with pytest.raises(DataError, match=r"stuckness_results.csv: no column dataset; it has model"):
        main_results(TeachResults(results))


def test_a_word_where_a_number_belongs_is_named(results: Path) -> None:
    path = results / EVALUATION / "retention_results.csv"
    rows = cells(path)
    rows[1]["n"] = "many"
    rewrite(path, rows)
    with pytest.raises(DataError, match=r"retention_results.csv:3: n = 'many' is no number"):
        read_table(path)


def test_two_layouts_at_once_are_refused(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results / "phase1", results / "phase1_labeling")
    with pytest.raises(DataError, match="found twice"):
        write_figures(results, tmp_path / "figures", wanted=["H1"])


def test_an_unknown_name_gets_the_nearest(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'H9'"):
        write_figures(made, tmp_path, wanted=["H9"])
    with pytest.raises(ConfigError, match="'X'"):
        write_tables(made, tmp_path, wanted=["X"])


def test_stuckness_of_the_main_table_is_that_of_the_file(made: Path) -> None:
    table = main_results(TeachResults(made))
    columns = [column.name for column in table.columns]
    stored = cells(made / EVALUATION / "stuckness_results.csv")
    for row in table.rows:
        shown = dict(zip(columns, row, strict=True))
        for dataset, word in (("tasks", "tasks"), ("snapshots", "panel")):
            (file,) = [r for r in stored if r["model"] == row[0] and r["dataset"] == dataset]
            assert shown[f"repeat rate, {word}"] == float(file["mean_repeat_rate"])
            assert shown[f"loop rate, {word}"] == float(file["mean_loop_rate"])


def test_the_best_format_is_chosen_on_other_episodes_than_it_is_shown_on(results: Path) -> None:
    folder = results / EVALUATION
    overall = cells(folder / "overall_task_results.csv")
    wanted = dict(zip(QUADRANTS, ("hint", "demo", "contrast", "demo"), strict=True))
    for row in overall:
        quadrant, _, supervision = row["model"].rpartition("_")
        row["success_rate"] = "0.9" if wanted.get(quadrant) == supervision else "0.3"
    rewrite(folder / "overall_task_results.csv", overall)
    found = TeachResults(results)
    matrix = found.table("transfer_matrix.csv")
    assert chosen_formats("best", matrix, found) == wanted
    assert set(chosen_formats("hint", matrix, found).values()) == {"hint"}
    columns = ["quadrant", *FORMATS, "best", "p"]
    for quadrant, line in zip(QUADRANTS, best_supervision(found).rows, strict=True):
        shown = dict(zip(columns, line, strict=True))
        assert shown["best"] == wanted[quadrant]
        (own,) = [
            row
            for row in matrix
            if row["model"] == f"{quadrant}_contrast" and row["eval_quadrant"] == quadrant
        ]
        cell = shown["contrast"]
        assert isinstance(cell, Estimate)
        assert (cell.mean, cell.n) == (own["delta_success"], int(own["n"]))


def test_without_episodes_a_panel_gain_has_no_interval(results: Path) -> None:
    folder = results / EVALUATION
    exact = gain_on_panel(folder, "B2_all")
    assert exact.interval is not None
    (folder / "episodes.jsonl").unlink()
    plain = gain_on_panel(folder, "B2_all")
    assert plain.interval is None
    assert plain.value == pytest.approx(exact.value)
    assert plain.n == exact.n


def test_a_label_that_is_missing_is_in_no_mean(results: Path) -> None:
    rows = [
        json.loads(line)
        for line in (results / "phase1/labeled_snapshots.jsonl").read_text().splitlines()
    ]
    first = [row for row in rows if row["quadrant"] == QUADRANTS[0]]
    tested = [row["cpt"]["ELP_net"] for row in first if row["cpt"] is not None]
    assert len(tested) < len(first)
    columns = [column.name for column in quadrant_summary(TeachResults(results)).columns]
    shown = dict(zip(columns, quadrant_summary(TeachResults(results)).rows[0], strict=True))
    assert shown["moments"] == len(first)
    gain = shown["ELP_net"]
    assert isinstance(gain, Estimate)
    assert gain.n == len(tested)
    assert gain.mean == pytest.approx(sum(tested) / len(tested))


def test_a_mean_of_labels_has_the_t_interval_of_its_tasks_wherever_it_lies() -> None:
    for shift in (-3.0, 0.0, 2.5):
        found = mean_of([("a", shift), ("b", shift + 0.2), ("c", shift + 0.4), ("d", None)])
        half = 4.302652729911275 * 0.2 / 3**0.5  # Student's t on 2 degrees of freedom, 97.5 %
        assert found.n == 3
        assert (found.lo, found.hi) == pytest.approx((shift + 0.2 - half, shift + 0.2 + half))
    assert mean_of([("a", 1.0), ("a", 3.0)]).interval is None
    assert mean_of([("a", None)]).value is None


def test_labels_without_leverage_draw_no_landscape(results: Path, tmp_path: Path) -> None:
    path = results / "phase1/labeled_snapshots.jsonl"
    rows = [json.loads(line) | {"leverage": None} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn = write_figures(results, tmp_path / "figures", wanted=["H1"])
    assert "no row has U and L_local" in drawn.missing["H1"]


def test_selections_that_are_half_evaluated_are_not_compared(results: Path, tmp_path: Path) -> None:
    shutil.rmtree(results / "phase5/selection/entropy/eval")
    drawn = write_figures(results, tmp_path / "figures", wanted=["H7"])
    assert "entropy/eval" in drawn.missing["H7"]


def test_a_selection_study_is_read_from_its_runs(
    synthetic: ModuleType, results: Path, tmp_path: Path
) -> None:
    folder = results / "phase5/selection"
    shutil.rmtree(folder)
    folder.mkdir()
    synthetic.write_selection(folder, evaluated=False, study=True)
    found = {each.method: each for each in selection_points(TeachResults(results))}
    assert list(found) == list(synthetic.METHODS)
    oracle = found["oracle"]
    assert oracle.of == "seeds"
    assert oracle.gain.value == pytest.approx(0.32)  # 0.3 + 0.01 * mean of seeds 1, 2, 3
    assert oracle.drop.value == pytest.approx(0.04)
    assert oracle.gain.n == 3
    assert oracle.gain.interval is not None
    assert not write_figures(results, tmp_path / "figures", wanted=["H7"]).missing


def test_the_stored_correlations_are_shown_and_documented_keys_alone_suffice(
    results: Path, tmp_path: Path
) -> None:
    path = results / "phase1b/cpt_correlation.json"
    data = json.loads(path.read_text())
    before = write_tables(results, tmp_path / "a", wanted=["H2"])
    assert not before.missing
    data["spearman_rho"], data["spearman_ci"] = 0.123, [0.1, 0.2]
    data["partial_spearman_given_p_base"] = {"value": -0.04, "lo": None, "hi": None, "p": 0.5}
    path.write_text(json.dumps(data))
    write_tables(results, tmp_path / "b", wanted=["H2"])
    line = cells(tmp_path / "b/H2_patch_validation.csv")[0]
    assert (line["spearman"], line["spearman low95"]) == ("0.123", "0.1")
    assert line["spearman given the success before"] == "-0.04"
    assert not write_figures(results, tmp_path / "f", wanted=["H2"]).missing


def test_every_table_says_its_n(made: Path, tmp_path: Path) -> None:
    written = write_tables(made, tmp_path).written
    assert len(written) == 2 * len(TABLES)
    for path in written:
        if path.suffix == ".md":
            assert "(n = " in path.read_text() or "| n |" in path.read_text()
