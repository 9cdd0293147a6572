"""Promises: no task on both sides of a fold, a missing label is left out and never 0, and a
predictor's file is used for what it was trained on or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cupel.config import validate
from cupel.errors import ConfigError, DataError
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.prediction.baselines import noise_weights, scaler_of
from cupel.teach.prediction.features import FeatureConfig, feature_matrix
from cupel.teach.prediction.files import predicted_elp, save_predictor
from cupel.teach.prediction.predictor import Kept, PredictorConfig, fit, task_folds, task_numbers
from cupel.teach.prediction.rows import prediction_row
from cupel.teach.prediction.targets import Targets, elp_of, targets_of
from tests.teach.teach_labels import labelled

SMALL = PredictorConfig(
    features=FeatureConfig(embedding_dim=32), hidden=[16, 8], epochs=4, folds=3, batch_size=16
)
ROWS = labelled(24, rollouts=8)
MODELS = ("ridge", "gbm", "mlp")
LONG = Kept(epochs=60, slopes={})


def arrays(rows: list[LabelledMoment]) -> tuple[Any, Targets, Any]:
    features = feature_matrix([row.moment for row in rows], SMALL.features).values_ND
    return features, targets_of(rows), task_numbers([row.moment.task_id for row in rows])


def train(rows: list[LabelledMoment], name: Any, **changes: Any) -> Any:
    features, targets, tasks = arrays(rows)
    return fit(name, features, targets, tasks, SMALL, n_text=32, seed=5, threads=1, **changes)


def saved(folder: Path, rows: list[LabelledMoment], model: Any = "mlp", **changes: Any) -> Path:
    fitted = train(rows, model)
    features, _, _ = arrays(rows)
    said = fitted.predict(features)
    out = [prediction_row(row, said, at) | {"elp": 9.0} for at, row in enumerate(rows)]
    config = SMALL.model_copy(update={"model": model, **changes})
    save_predictor(folder, fitted, config, input_dim=features.shape[1], out_of_fold=out, epochs=4)
    return folder / ("model.pt" if model == "mlp" else "model.json")


def test_no_task_is_on_both_sides_of_a_fold() -> None:
    tasks = task_numbers([row.moment.task_id for row in ROWS])
    folds = task_folds(tasks, 5)
    for fold in folds:
        assert not set(tasks[fold.train]) & set(tasks[fold.test])
    predicted = np.sort(np.concatenate([fold.test for fold in folds]))
    assert predicted.tolist() == list(range(len(ROWS)))


def test_fewer_tasks_than_folds_is_told() -> None:
    with pytest.raises(DataError, match="4 tasks, 5 folds"):
        task_folds(np.array([0, 0, 1, 2, 3]), 5)


@pytest.mark.parametrize("name", MODELS)
def test_a_row_without_a_label_changes_nothing_of_that_head(name: str) -> None:
    """Rows with only U are in the training set of U alone; as zeros they would pull ELP to 0."""
    bare = [replace(row, leverage=None, patch_test=None, quadrant="UNASSIGNED") for row in ROWS]
    lifted = [
        replace(row, leverage=replace(row.leverage, L_local=replace(row.leverage.L_local, value=5)))
        for row in ROWS[:20]
    ]
    features, _, _ = arrays(ROWS)
    said = train(lifted + bare[20:], name, **({"kept": LONG} if name == "mlp" else {}))
    assert np.allclose(said.predict(features).values["leverage"], 5.0, atol=0.7)


@pytest.mark.parametrize("name", MODELS)
def test_a_head_without_any_label_is_absent_and_not_zero(name: str) -> None:
    rows = [replace(row, patch_test=None) for row in ROWS]
    said = train(rows, name).predict(arrays(rows)[0])
    assert "elp" not in said.values
    assert "route" not in said.probs
    assert set(said.values) == {"uncertainty", "leverage"}
    assert targets_of(rows).missing()["elp"] == len(rows)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_predictions(name: str) -> None:
    features = arrays(ROWS)[0]
    one, two = (train(ROWS, name).predict(features) for _ in range(2))
    assert all(np.array_equal(one.values[head], two.values[head]) for head in one.values)
    for probs in one.probs.values():
        assert np.allclose(probs.sum(axis=1), 1.0)


def test_the_network_stops_early_on_training_tasks_and_keeps_the_best() -> None:
    curve = train(ROWS, "mlp").curve
    assert len(curve["val"]) == len(curve["train"]) == 4
    assert curve["best_val_loss"] == min(curve["val"])
    assert curve["best_epoch"] == 1 + curve["val"].index(min(curve["val"]))
    fixed = train(ROWS, "mlp", kept=Kept(epochs=2, slopes={})).curve
    assert (len(fixed["train"]), fixed["val"], fixed["best_epoch"]) == (2, [], 2)


def test_predictions_are_drawn_to_the_mean_as_far_as_held_out_tasks_say() -> None:
    features = arrays(ROWS)[0]
    plain = train(ROWS, "mlp", kept=Kept(epochs=3, slopes={})).predict(features).values["elp"]
    drawn = train(ROWS, "mlp", kept=Kept(epochs=3, slopes={"elp": 0.5})).predict(features)
    mean = np.mean([elp_of(row).value for row in ROWS])
    assert np.allclose(drawn.values["elp"] - mean, 0.5 * (plain - mean), atol=1e-5)
    slopes = train(ROWS, "mlp").curve["slopes"]
    assert set(slopes) == {"uncertainty", "leverage", "elp"}
    assert all(0.05 <= slope <= 1.0 for slope in slopes.values())


def test_the_text_block_weighs_as_much_as_the_other_columns_together() -> None:
    features = arrays(ROWS)[0]
    scaled = scaler_of(features, 32)(features)
    other, text = scaled[:, :-32].var(axis=0), scaled[:, -32:].var(axis=0)
    assert text.sum() == pytest.approx(other.sum())
    assert np.allclose(other[other > 0], 1.0)
    assert np.isfinite(scaler_of(np.ones((4, 3)), 2)(np.ones((4, 3)))).all()


def test_the_payoff_is_never_the_largest_of_sampled_gains() -> None:
    row = ROWS[0]
    assert elp_of(row) == row.patch_test.ELP_split
    exact = labelled(3)[0]
    assert elp_of(exact).value == exact.patch_test.ELP_net
    assert elp_of(replace(row, patch_test=None)) is None


def test_noise_weights_trust_exact_labels_most_and_more_rollouts_more() -> None:
    mixed = labelled(6)[:4] + ROWS[-6:] + labelled(6, rollouts=64)[-3:]
    weights = noise_weights(targets_of(mixed), "leverage", on=True)
    assert np.all(weights[:4] == 1.0)
    assert len(set(weights[4:10])) == len(set(weights[10:])) == 1
    assert weights[4] < weights[10] < 1.0
    assert np.all(noise_weights(targets_of(mixed), "leverage", on=False) == 1.0)


@pytest.mark.parametrize("rollouts", [8, 32])
def test_the_noise_of_labels_is_estimated_without_bias(rollouts: int) -> None:
    """Against the same labels known exactly; 280 moments a seed, four seeds."""
    told: dict[str, list[float]] = {"leverage": [], "elp": []}
    true: dict[str, list[float]] = {"leverage": [], "elp": []}
    exact = targets_of(labelled(100))
    for seed in range(1, 5):
        rows = labelled(100, rollouts=rollouts, noise=seed)
        sampled = targets_of(rows)
        for head in told:
            told[head].append(float(sampled.noise[head].mean()))
            true[head].append(float(((sampled.values[head] - exact.values[head]) ** 2).mean()))
    for head in told:
        assert np.mean(told[head]) == pytest.approx(np.mean(true[head]), rel=0.2)


@pytest.mark.parametrize("model", ["mlp", "ridge"])
def test_a_stored_predictor_says_what_it_said(tmp_path: Path, model: str) -> None:
    path = saved(tmp_path / "predictor", ROWS, model)
    new = [row for row in labelled(40, rollouts=8, seed=3) if row.id not in {r.id for r in ROWS}]
    direct = train(ROWS, model).predict(arrays(new)[0]).values["elp"]
    told = predicted_elp(path, new)
    assert np.allclose([told[row.id] for row in new], direct, atol=1e-6)
    assert predicted_elp(path.parent, new) == told


def test_what_it_was_trained_on_is_told_out_of_fold(tmp_path: Path) -> None:
    """In-sample predictions would make the predictor look like the oracle."""
    path = saved(tmp_path / "predictor", ROWS)
    assert set(predicted_elp(path, ROWS).values()) == {9.0}


def test_a_predictor_of_another_feature_set_is_refused_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "predictor", ROWS)
    with pytest.raises(ConfigError, match="trained on feature set"):
        predicted_elp(path, ROWS, features=FeatureConfig(embedding_dim=64))
    config = json.loads((path.parent / "config.json").read_text())
    config["feature_set_id"] = "0123456789abcdef"
    (path.parent / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="0123456789abcdef"):
        predicted_elp(path, ROWS)


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def other_shape(path: Path) -> None:
    config = json.loads((path.parent / "config.json").read_text())
    config["hidden"] = [4]
    (path.parent / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damaged, "not the weights"),
        (other_shape, "not the weights"),
        (lambda path: path.unlink(), "no such"),
        (lambda path: (path.parent / "config.json").unlink(), "no predictor of Cupel"),
        (lambda path: (path.parent / "config.json").write_text("{}"), "not a predictor of schema"),
        (lambda path: (path.parent / "out_of_fold.jsonl").unlink(), "no such file"),
    ],
)
def test_a_predictor_that_cannot_be_read_is_an_error(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    path = saved(tmp_path / "predictor", ROWS)
    new = [row for row in labelled(40, seed=3) if row.id not in {r.id for r in ROWS}]
    spoil(path)
    with pytest.raises(DataError, match=message):
        predicted_elp(path, new)


def test_a_predictor_without_an_elp_head_is_an_error(tmp_path: Path) -> None:
    rows = [replace(row, patch_test=None) for row in ROWS]
    fitted = train(rows, "ridge")
    config = SMALL.model_copy(update={"model": "ridge"})
    folder = tmp_path / "predictor"
    save_predictor(folder, fitted, config, input_dim=1, out_of_fold=[], epochs=None)
    with pytest.raises(DataError, match="no head for ELP"):
        predicted_elp(folder, ROWS)


def test_a_path_that_leads_nowhere_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cupel teach predict"):
        predicted_elp(tmp_path / "model.pt", ROWS)


def test_the_stored_model_is_among_those_trained() -> None:
    with pytest.raises(ConfigError, match="'mlp' is stored"):
        validate(PredictorConfig, {"models": ["ridge"]}, where="test")
