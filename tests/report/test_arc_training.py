"""Figures of trainings on ARC: exactly what was measured, and every gap by name."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cupel.arc.config import ArcTrainConfig
from cupel.arc.evaluation_metrics import EVALUATIONS as VOTED
from cupel.arc.metrics import EVALUATIONS, METRICS
from cupel.arc.presets import preset
from cupel.config import merge, to_dict, validate
from cupel.errors import DataError
from cupel.lab.files import write_json
from cupel.report.arc.dashboard import PANELS, READ_WITH, dashboard
from cupel.report.arc.panels import FIGURES
from cupel.report.arc.training import write_figures
from cupel.report.arc.trainings import POINTS, read_trainings, series
from cupel.report.arc.zones import zones_of

RATES = ("em_at_halt", "em_at_1", "em_at_2", "em_at_4", "em_at_8")


def training(
    folder: Path,
    rows: Iterable[dict[str, Any]],
    evaluations: Iterable[dict[str, Any]] = (),
    *,
    recipe: str = "arc.train",
    status: str = "done",
    **changes: Any,
) -> Path:
    folder.mkdir(parents=True)
    config = validate(ArcTrainConfig, merge(preset("cpu"), changes), where="test")
    made = {"recipe": recipe, "condition": "x", "seed": 3, "resolved": to_dict(config)}
    write_json(folder / "config.json", {**made, "passed": {}})
    write_json(folder / "run.json", {"status": status, "condition": "x", "seed": 3, "events": []})
    for name, found in (("metrics", rows), ("evaluations", evaluations)):
        text = "".join(json.dumps(row) + "\n" for row in found)
        (folder / f"{name}.jsonl").write_text(text)
    if status == "done":
        write_json(folder / "result.json", {"values": {}})
    return folder


def row(step: int, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "step": step, "train/accuracy": 0.7, "train/exact_accuracy": step / 2000,
        "steps_at_halt": 5.0, "forced_fraction": 0.5, "q_calibration_error": 0.02, "q_brier": 0.01,
        "grad/encoder_norm": 0.3, "grad/total_norm": 1.0, "train/encoder_cross_sample_var": 0.4,
        "update/encoder_ratio": 1e-3, "update/inner_ratio": 2e-3,
    }  # fmt: skip
    return found | changes


def evaluation(step: int, value: float = 0.4, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"step": step, "puzzles": 32, "between_task_share": 0.9}
    for name in (*RATES, "context_gain", "heldout_em_at_halt"):
        found |= {name: value, f"{name}_lo": value - 0.1, f"{name}_hi": value + 0.1}
    return found | {"steps_at_halt": 5.0, "forced_fraction": 0.5} | changes


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A run with every value that the figures show."""
    rows = [row(step) for step in range(10, 610, 10)]
    return training(tmp_path / "whole", rows, [evaluation(300), evaluation(600, 0.6)])


def test_every_figure_is_drawn_twice_the_same(whole: Path, tmp_path: Path) -> None:
    first = write_figures([whole], tmp_path / "a")
    again = write_figures([whole], tmp_path / "b")
    assert not first.missing
    assert {path.name for path in first.written} == {
        f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg", "pdf")
    }
    for one, other in zip(first.written, again.written, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_runs_stand_side_by_side_with_their_judgements(whole: Path, tmp_path: Path) -> None:
    starved = [row(step, **{"grad/encoder_norm": 0.01}) for step in range(10, 210, 10)]
    cross = training(tmp_path / "cross", starved, encoder={"kind": "cross_attention"})
    gate = {"passed": False, "value": 0.6}
    write_json(whole / "gates.json", {"step": 600, "criterion_1": gate, "criterion_2": gate})
    made = write_figures([whole, cross], tmp_path / "out")
    health = (tmp_path / "out/encoder_health.svg").read_text()
    assert "standard, seed 3, 600 updates" in health
    assert "cross_attention, seed 3, 200 updates" in health
    assert "health: ok" in health
    assert "health: stop" in health
    for words in ("10: ok", "100: ok", "500: ok", "10: warn", ">warn<", ">stop<"):
        assert words in health, words
    learning = (tmp_path / "out/learning.svg").read_text()
    assert "32 puzzles, criteria: 1 failed, 2 failed" in learning
    assert "criteria: not judged yet" in learning
    assert learning.count(">not measured<") == 2
    assert set(made.missing) == {f"{name}: cross/evaluations.jsonl" for name in FIGURES}


def test_a_gap_is_named_and_a_figure_of_nothing_is_not_drawn(tmp_path: Path) -> None:
    rows = [{"step": 10, "train/accuracy": 0.5, "grad/encoder_norm": None}]
    made = write_figures([training(tmp_path / "thin", rows, halt_max_steps=8)], tmp_path / "out")
    assert {path.stem for path in made.written} == {"learning"}
    assert made.missing["learning: thin/metrics.jsonl"] == ("train/exact_accuracy",)
    assert "grad/encoder_norm" in made.missing["encoder_health: thin/metrics.jsonl"]
    assert made.missing["learning: thin/evaluations.jsonl"] == (
        "em_at_halt", "context_gain", "heldout_em_at_halt",
    )  # fmt: skip
    ages = made.missing["halting: thin/evaluations.jsonl"]
    assert "em_at_8" in ages
    assert "em_at_16" not in ages, "an age beyond halt_max_steps is no gap"
    assert "heldout_em_at_halt" not in (tmp_path / "out/learning.svg").read_text()


def test_a_difference_without_an_interval_has_no_limits(tmp_path: Path) -> None:
    flat = evaluation(20, context_gain=0.0, context_gain_lo=None, context_gain_hi=None)
    (run,) = read_trainings([training(tmp_path / "flat", [row(10)], [evaluation(10), flat])])
    found = run.evaluated("context_gain")
    assert found is not None
    np.testing.assert_array_equal(found.values_T, [0.4, 0.0])
    np.testing.assert_allclose(found.low_T, [0.3, np.nan])
    np.testing.assert_allclose(found.high_T, [0.5, np.nan])


def test_a_growing_run_is_drawn_without_its_torn_line(tmp_path: Path) -> None:
    run = training(tmp_path / "live", [row(10), row(20)], status="running")
    with (run / "metrics.jsonl").open("a") as handle:
        handle.write('{"step":30,"train/acc')
    (found,) = read_trainings([run])
    assert [each["step"] for each in found.rows] == [10, 20]


def test_a_long_run_is_drawn_as_means_of_what_was_measured() -> None:
    rows = [{"step": n, "x": n if n % 2 else None} for n in range(4)] + [{"step": 4}, {"step": 5}]
    found = series(rows, "x", block=2)
    assert found is not None
    np.testing.assert_array_equal(found.steps_T, [0.5, 2.5, 4.5])
    np.testing.assert_array_equal(found.values_T, [1.0, 3.0, np.nan])
    assert series(rows, "y") is None


def test_thinning_keeps_to_the_points(tmp_path: Path) -> None:
    rows = [{"step": n, "train/accuracy": 0.5} for n in range(1, 2 * POINTS + 2)]
    (found,) = read_trainings([training(tmp_path / "long", rows)])
    drawn = found.trained("train/accuracy")
    assert found.block == 3
    assert drawn is not None
    assert len(drawn.steps_T) <= POINTS


def test_zones_are_those_of_the_run(tmp_path: Path) -> None:
    strict = training(tmp_path / "strict", [row(10)], health={"encoder_norm_ok": 0.5})
    raw = training(tmp_path / "raw", [row(10)], encoder={"context_scale": "raw"})
    runs = read_trainings([strict, raw])
    gradient = [zones_of(run, "gradient") for run in runs]
    assert [None if each is None else each.ok for each in gradient] == [0.5, 0.2]
    assert zones_of(runs[1], "contexts") is None


def test_what_a_logarithmic_axis_cannot_show_is_said(tmp_path: Path) -> None:
    rows = [row(10, **{"grad/encoder_norm": 0.0}), row(20)]
    flat = evaluation(20, context_gain=0.0, context_gain_lo=None, context_gain_hi=None)
    run = training(tmp_path / "run", rows, [flat], encoder={"context_scale": "raw"})
    write_figures([run], tmp_path / "out")
    text = (tmp_path / "out/encoder_health.svg").read_text()
    assert "at 0 in places: grad/encoder_norm" in text
    assert "raw scale: not judged" in text


def test_folders_are_told_apart_or_refused(tmp_path: Path) -> None:
    one, two = (training(tmp_path / at / "run", [row(10)]) for at in ("a", "b"))
    assert [each.label for each in read_trainings([one, two])] == ["a/run", "b/run"]
    with pytest.raises(DataError, match="named twice"):
        read_trainings([one, one])
    other = training(tmp_path / "other", [], recipe="arc.evaluate")
    with pytest.raises(DataError, match=r"a run of arc\.evaluate"):
        read_trainings([other])


def test_the_figures_ask_for_declared_keys_only() -> None:
    declared = {
        "metrics.jsonl": {metric.name for metric in METRICS},
        "evaluations.jsonl": {metric.name for metric in EVALUATIONS},
    }
    for panels in FIGURES.values():
        for line in (line for panel in panels for line in panel.lines):
            assert line.key in declared[line.stream], line.key
            if line.limits:
                assert f"{line.key}_lo" in declared[line.stream]


def test_the_panels_of_the_dashboard_name_who_writes_each_key() -> None:
    found = dashboard()
    assert [panel["title"] for panel in found["panels"]] == list(PANELS)
    entries = {each["key"]: each for panel in found["panels"] for each in panel["metrics"]}
    assert len(entries) == 12
    assert [key for key, each in entries.items() if each["primary"]] == ["train/exact_accuracy"]
    assert entries["ARC/pass@1"]["recipe"] == "arc.evaluate"
    assert entries["grad/total_norm"]["stream"] == "metrics.jsonl"
    declared = {metric.name for metric in (*METRICS, *EVALUATIONS, *VOTED)}
    for key, others in READ_WITH.items():
        assert key in entries
        assert declared.issuperset(others), key
