"""A predictor on disk, and what it says of labelled moments when a selection asks.

Knows predictor/{config.json, model.pt | model.json, out_of_fold.jsonl}. Refuses a file of another
feature set, and to score a moment that the model was fitted to: those get the prediction of the
fold in which they were held out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import orjson

from cupel.config import to_dict, validate
from cupel.errors import ConfigError, DataError, MissingExtraError
from cupel.lab.files import read_json, read_json_lines, write_atomically, write_json
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.prediction.baselines import Ridge, Scaler
from cupel.teach.prediction.features import (
    FeatureConfig,
    feature_matrix,
    feature_set_id,
    told_answers,
)
from cupel.teach.prediction.predictor import Fitted, PredictorConfig
from cupel.teach.prediction.targets import CLASSES, Head, Predicted

CONFIG = "config.json"
NETWORK = "model.pt"
LINEAR = "model.json"
OUT_OF_FOLD = "out_of_fold.jsonl"
SCHEMA = "teach-predictor-1"


def save_predictor(
    folder: Path,
    fitted: Fitted,
    config: PredictorConfig,
    *,
    input_dim: int,
    out_of_fold: Sequence[Mapping[str, Any]],
    epochs: int | None,
) -> None:
    """Write a predictor: config.json last, so that a folder with one is whole.

    Args:
        out_of_fold: rows {snapshot_id, elp, ...} of the moments it was trained on.
        epochs: how long the network was trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = b"".join(orjson.dumps(dict(row)) + b"\n" for row in out_of_fold)
    write_atomically(folder / OUT_OF_FOLD, rows)
    if isinstance(fitted.model, Ridge):
        write_json(folder / LINEAR, _ridge_data(fitted.model))
        trained = list(fitted.model.weights)
    else:
        trained = list(fitted.model.heads)
        _save_network(folder / NETWORK, fitted.model)
    write_json(
        folder / CONFIG,
        {
            "schema": SCHEMA,
            "model": fitted.name,
            "file": LINEAR if isinstance(fitted.model, Ridge) else NETWORK,
            "input_dim": input_dim,
            "hidden": list(config.hidden),
            "heads": trained,
            "classes": {head: list(names) for head, names in CLASSES.items()},
            "features": to_dict(config.features),
            "feature_set_id": feature_set_id(config.features),
            "told_answers": list(told_answers(config.features)),
            "epochs": epochs,
            "n_trained_on": len(out_of_fold),
        },
    )


def predicted_elp(
    path: Path, labels: Sequence[LabelledMoment], *, features: FeatureConfig | None = None
) -> dict[str, float]:
    """Return the predicted ELP of moments by id: out of fold for those it was trained on.

    Args:
        path: the predictor's folder, or a file in it.
        features: refuse a predictor of another feature set than this one.

    Raises:
        DataError: there is no predictor, it is damaged, or it has no ELP head.
        ConfigError: it was trained on another feature set.
    """
    folder = predictor_folder(path)
    stored = _stored(folder)
    own = _feature_config(folder, stored, features)
    if "elp" not in stored["heads"]:
        raise DataError(
            f"{folder}: this predictor has no head for ELP; it was trained on labels without a "
            "patch test. Label them with cupel teach patch and train it again"
        )
    known = {
        str(row["snapshot_id"]): float(row["elp"])
        for row in read_json_lines(folder / OUT_OF_FOLD)
        if row.get("elp") is not None
    }
    new = [label for label in labels if label.id not in known]
    if new:
        matrix = feature_matrix([label.moment for label in new], own)
        said = _predict(folder, stored, matrix.values_ND)
        fresh = said.values["elp"]
        known |= {label.id: float(fresh[row]) for row, label in enumerate(new)}
    return {label.id: known[label.id] for label in labels}


def predictor_folder(path: Path) -> Path:
    """Return the folder that a path of `--predictor-path` means.

    Raises:
        DataError: there is nothing, or no predictor.
    """
    folder = path.parent if path.suffix in (".pt", ".json") else path
    if (folder / "predictor" / CONFIG).is_file():  # the run's folder, which has a config of its own
        folder = folder / "predictor"
    if not path.exists():
        raise DataError(
            f"{path}: no such predictor; train one with: cupel teach predict "
            "--labeled-snapshots LABELS --output-dir FOLDER, then give FOLDER/predictor/model.pt"
        )
    if not (folder / CONFIG).is_file():
        raise DataError(f"{folder}: no {CONFIG} beside the model, so it is no predictor of Cupel")
    return folder


def _stored(folder: Path) -> dict[str, Any]:
    stored = read_json(folder / CONFIG)
    wanted = ("schema", "model", "file", "input_dim", "hidden", "heads", "features")
    lacking = [key for key in (*wanted, "feature_set_id") if key not in stored]
    if lacking or stored["schema"] != SCHEMA:
        raise DataError(
            f"{folder / CONFIG}: not a predictor of schema {SCHEMA}"
            + (f" (no {', '.join(lacking)})" if lacking else f" ({stored['schema']})")
            + "; train it again with cupel teach predict"
        )
    return stored


def _feature_config(
    folder: Path, stored: Mapping[str, Any], wanted: FeatureConfig | None
) -> FeatureConfig:
    """Return the predictor's own feature config, unless it means something else now."""
    own = validate(FeatureConfig, stored["features"], where=str(folder / CONFIG))
    now = feature_set_id(wanted or own)
    if now != stored["feature_set_id"]:
        raise ConfigError(
            f"{folder}: trained on feature set {stored['feature_set_id']}, but the features asked "
            f"for are feature set {now}; train it again with cupel teach predict, or ask for its "
            "own features"
        )
    return own


def _predict(folder: Path, stored: Mapping[str, Any], features_MD: Any) -> Predicted:
    if features_MD.shape[1] != stored["input_dim"]:
        raise ConfigError(
            f"{folder}: wants {stored['input_dim']} features, its feature set now gives "
            f"{features_MD.shape[1]}; train it again with cupel teach predict"
        )
    path = folder / str(stored["file"])
    if stored["model"] == "ridge":
        return _ridge_of(read_json(path)).predict(features_MD)
    predicted: Predicted = _load_network(path, stored).predict(features_MD)
    return predicted


def _save_network(path: Path, network: Any) -> None:
    import torch

    temporary = path.with_name(f".{path.name}.tmp")
    torch.save(network.state_dict(), temporary)
    temporary.replace(path)


def _load_network(path: Path, stored: Mapping[str, Any]) -> Any:
    try:
        import torch

        from cupel.teach.prediction.mlp import Network
    except ImportError:
        raise MissingExtraError("the network of the predictor", "torch") from None
    trained = cast(tuple[Head, ...], tuple(stored["heads"]))
    network = Network(stored["input_dim"], tuple(stored["hidden"]), trained)
    try:
        network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; the predictor is not whole") from None
    except (RuntimeError, UnpicklingError, EOFError, ValueError) as error:
        raise DataError(f"{path}: not the weights that {CONFIG} describes: {error}") from None
    return network


def _ridge_data(ridge: Ridge) -> dict[str, Any]:
    return {
        "mean": ridge.scaler.mean_D.tolist(),
        "scale": ridge.scaler.scale_D.tolist(),
        "weights": {head: weights.tolist() for head, weights in ridge.weights.items()},
        "alphas": dict(ridge.alphas),
    }


def _ridge_of(data: Mapping[str, Any]) -> Ridge:
    return Ridge(
        scaler=Scaler(mean_D=np.array(data["mean"]), scale_D=np.array(data["scale"])),
        weights={head: np.array(weights) for head, weights in data["weights"].items()},
        alphas=data["alphas"],
    )
