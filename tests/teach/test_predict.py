"""Promises: every reported number is of tasks that were held out, the documented files are there,
and a run that was killed between folds ends in the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cupel.errors import DataError
from cupel.lab.files import read_json, read_json_lines
from cupel.lab.plan import plan_run
from cupel.lab.registry import load_recipe
from cupel.lab.run_dir import RunFolder
from cupel.lab.worker import execute_run
from cupel.teach.labelling.files import LINES, write_labels
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.prediction import recipe as predict
from cupel.teach.prediction.files import predicted_elp
from cupel.teach.prediction.recipe import PredictConfig, PredictRecipe, read
from cupel.teach.splits import split_of
from tests.teach.teach_labels import labelled

FAST = {
    "features": {"embedding_dim": 32},
    "hidden": [32, 16],
    "epochs": 20,
    "learning_rate": 0.01,
    "folds": 3,
}
FILES = (
    "training_result.json", "evaluation_metrics.json", "error_analysis.json", "predictions.jsonl",
    "out_of_fold.jsonl", "curves.jsonl", "metrics.jsonl", "predictor/config.json",
    "predictor/model.pt", "predictor/out_of_fold.jsonl",
)  # fmt: skip


def run(folder: Path, labels: Path, **changes: Any) -> Path:
    passed = {"labels": str(labels), "predictor": FAST} | changes
    spec = plan_run(
        load_recipe("teach.predict"), "teach.predict", passed=passed, seed=7, condition="predict"
    )
    RunFolder(folder).create(spec)
    execute_run(folder, fsync=False)
    return folder


def written(folder: Path, rows: list[LabelledMoment]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_labels(folder, rows)
    return folder / LINES


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("labels"), labelled(60, rollouts=64))


@pytest.fixture(scope="module")
def done(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = run(tmp_path_factory.mktemp("predict") / "run", labels)
    assert read_json(folder / "run.json")["status"] == "done", read_json(folder / "run.json")
    return folder


def test_the_documented_files_and_keys_are_there(done: Path) -> None:
    for name in FILES:
        assert (done / name).is_file(), name
    result = read_json(done / "training_result.json")
    for key in ("best_epoch", "best_val_loss", "train_losses", "val_losses", "task_metrics"):
        assert key in result
    elp = result["task_metrics"]["elp"]
    for key in ("mse", "mae", "correlation", "spearman"):
        assert key in elp
    for k in (10, 50):
        for name in ("precision_pos", "topk_overlap", "ndcg", "k_used"):
            assert f"{name}_at_{k}" in elp
    assert "accuracy" in result["task_metrics"]["quadrant"]
    told = read_json(done / "evaluation_metrics.json")
    for head in ("uncertainty", "leverage", "elp"):
        for key in ("mse", "rmse", "mae", "r2", "correlation", "ceiling_r2", "r2_of_ceiling"):
            assert key in told["regression_metrics"][head]
    classes = told["classification_metrics"]
    assert len(classes["confusion_matrix"]) == 4
    assert sum(map(sum, classes["confusion_matrix"])) == classes["n"]
    assert set(classes["per_class"]["class_0"]) >= {"accuracy", "support"}
    worst = read_json(done / "error_analysis.json")["worst_cases"]
    assert len(worst) == 20
    sizes = [abs(row["error"]) for row in worst]
    assert sizes == sorted(sizes, reverse=True)


def test_what_is_learned_from_is_of_training_tasks_and_the_rest_is_scored_apart(
    done: Path, labels: Path
) -> None:
    rows = read_json_lines(done / "predictions.jsonl")
    for row in rows:
        assert (row["source"] == "out_of_fold") == (row["split"] == "train")
        assert row["split"] == split_of(row["task_id"])
    told = read_json(done / "evaluation_metrics.json")
    train = [row for row in rows if row["split"] == "train"]
    assert told["n_samples"] == len(train)
    assert told["held_out"]["n_samples"] == len(rows) - len(train)


def test_the_score_is_that_of_the_out_of_fold_rows(done: Path) -> None:
    rows = [row for row in read_json_lines(done / "predictions.jsonl") if row["split"] == "train"]
    error = np.array([row["elp"] - row["measured_elp"] for row in rows])
    label = np.array([row["measured_elp"] for row in rows])
    told = read_json(done / "evaluation_metrics.json")["regression_metrics"]["elp"]
    assert told["r2"] == pytest.approx(1 - (error**2).mean() / label.var())


def test_a_fold_is_predicted_by_models_that_saw_none_of_its_tasks(done: Path) -> None:
    rows = read_json_lines(done / "out_of_fold.jsonl")
    folds: dict[str, set[int]] = {}
    for row in rows:
        folds.setdefault(row["task_id"], set()).add(row["fold"])
    assert all(len(found) == 1 for found in folds.values())
    assert {row["model"] for row in rows} == {"ridge", "gbm", "mlp"}


def test_noisy_labels_have_a_ceiling_and_uncertainty_has_none(done: Path) -> None:
    ceilings = read_json(done / "evaluation_metrics.json")["noise_ceilings"]
    assert ceilings["uncertainty"]["r2"] == 1.0
    assert 0.05 < ceilings["elp"]["r2"] < 0.6
    assert 0.2 < ceilings["leverage"]["spearman"] < 0.9


def test_rankings_stand_beside_their_rivals_on_the_same_moments(done: Path) -> None:
    told = read_json(done / "evaluation_metrics.json")
    ranked = told["ranking"]
    assert set(ranked["rankings"]) == {
        "ridge", "gbm", "mlp", "entropy", "margin", "p_base", "random",
    }  # fmt: skip
    assert ranked["n"] == told["n_samples"]
    for by_k in ranked["rankings"].values():
        assert {score["base_rate"] for score in by_k.values()} == {
            ranked["rankings"]["random"]["10"]["base_rate"]
        }
    names = [gate["name"] for gate in told["gates"]]
    assert names[:3] == ["R2(uncertainty)", "R2(leverage)", "accuracy(quadrant)"]
    assert "ndcg@10 over entropy" in names
    for gate in told["gates"]:
        assert gate["passed"] in (None, gate["value"] > gate["required"])


def test_the_network_learns_what_is_there_to_learn(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Exact labels of the corridor are functions of what is seen; R2 nears its ceiling of 1."""
    labels = written(tmp_path / "labels", labelled(60))
    told = read_json(run(tmp_path / "run", labels) / "evaluation_metrics.json")
    for head in ("uncertainty", "leverage", "elp"):
        assert told["regression_metrics"][head]["r2"] > 0.8
        assert told["regression_metrics"][head]["ceiling_r2"] == 1.0
    assert told["classification_metrics"]["accuracy"] > 0.7


def test_shuffled_labels_teach_nothing(tmp_path: Path) -> None:
    """Whatever leaks between folds would show here as skill."""
    rows = labelled(60)
    order = np.random.default_rng(4).permutation(len(rows))
    mixed = [
        replace(
            row,
            U=rows[at].U,
            leverage=rows[at].leverage,
            patch_test=rows[at].patch_test,
            quadrant=rows[at].quadrant,
        )
        for row, at in zip(rows, order, strict=True)
    ]
    told = read_json(
        run(tmp_path / "run", written(tmp_path / "l", mixed)) / "evaluation_metrics.json"
    )
    for head in ("uncertainty", "leverage", "elp"):
        assert told["regression_metrics"][head]["r2"] < 0.1


def test_missing_labels_are_counted_and_never_predicted_as_zero(tmp_path: Path) -> None:
    rows = [
        replace(row, patch_test=None) if number % 3 == 0 else row
        for number, row in enumerate(labelled(40, rollouts=8))
    ]
    folder = run(tmp_path / "run", written(tmp_path / "labels", rows))
    told = read_json(folder / "evaluation_metrics.json")
    bare = sum(row.patch_test is None and row.moment.split == "train" for row in rows)
    assert told["missing_labels"]["elp"] == bare > 0
    assert told["regression_metrics"]["elp"]["n"] == told["n_samples"] - bare
    assert told["missing_labels"]["uncertainty"] == 0


def test_labels_without_a_patch_test_give_a_predictor_that_selects_nothing(tmp_path: Path) -> None:
    rows = [replace(row, patch_test=None) for row in labelled(30, rollouts=8)]
    folder = run(tmp_path / "run", written(tmp_path / "labels", rows))
    told = read_json(folder / "evaluation_metrics.json")
    assert "elp" not in told["regression_metrics"]
    assert told["ranking"]["n"] == 0
    assert read_json(folder / "error_analysis.json")["head"] == "leverage"
    with pytest.raises(DataError, match="no head for ELP"):
        predicted_elp(folder, rows)


def test_a_feature_that_is_the_answer_is_marked_in_the_result(tmp_path: Path, labels: Path) -> None:
    features = {"embedding_dim": 32, "also": ["action_space_entropy"]}
    folder = run(tmp_path / "run", labels, predictor=FAST | {"features": features})
    assert read_json(folder / "evaluation_metrics.json")["told_answers"] == ["action_space_entropy"]
    config = PredictConfig.model_validate({"predictor": {"features": features}})
    assert "no evidence" in PredictRecipe().forecast(config).warnings[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [replace(row, U=None, leverage=None, patch_test=None) for row in rows],
         "no label at all"),
        (lambda rows: [row for row in rows if row.moment.split != "train"], "is of split train"),
    ],
)  # fmt: skip
def test_nothing_to_learn_from_is_told(tmp_path: Path, change: Any, message: str) -> None:
    labels = written(tmp_path, change(labelled(12)))
    with pytest.raises(DataError, match=message):
        read(PredictConfig(labels=str(labels)))


def test_a_run_killed_between_folds_ends_in_the_same_bytes(
    tmp_path: Path, labels: Path, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, folder = predict.train_fold, tmp_path / "run"

    def dies_in_the_last_fold(*args: Any) -> None:
        real(*args)
        if args[-1] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(predict, "train_fold", dies_in_the_last_fold)
    with pytest.raises(KeyboardInterrupt):
        run(folder, labels)
    monkeypatch.setattr(predict, "train_fold", real)
    execute_run(folder, fsync=False)
    for name in FILES:
        assert (folder / name).read_bytes() == (done / name).read_bytes(), name


def test_the_order_of_the_labels_in_the_file_changes_nothing(
    tmp_path: Path, labels: Path, done: Path
) -> None:
    lines = labels.read_text().splitlines()
    np.random.default_rng(1).shuffle(lines)
    moved = tmp_path / LINES
    moved.write_text("\n".join(lines) + "\n")
    folder = run(tmp_path / "run", moved)
    for name in ("predictions.jsonl", "training_result.json", "predictor/model.pt"):
        assert (folder / name).read_bytes() == (done / name).read_bytes(), name
