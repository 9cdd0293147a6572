"""`cupel teach predict`: train the predictor of teachability and rank against baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.app import EXIT_NO
from cupel.cli.source import comma_list, json_option, set_setting_option, threads_option
from cupel.cli.teach.phase import run_phase


@click.command()
@click.option(
    "--labeled-snapshots",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="labeled_snapshots.jsonl; moments of training tasks are learned from.",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    required=True,
    help="Run folder; predictor/, training_result.json, evaluation_metrics.json in it.",
)
@click.option(
    "--embedder",
    type=click.Choice(["hashing", "sentence", "none"]),
    default="hashing",
    show_default=True,
    help="How task and observation become numbers; hashing needs no download.",
)
@click.option(
    "--embedding-dim",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Dimensions of the hashing embedder.",
)
@click.option(
    "--also-features",
    help="Label-identical or future features by name, a,b,c; they are marked in every result.",
)
@click.option(
    "--epochs", type=click.IntRange(min=1), default=30, show_default=True, help="Most epochs."
)
@click.option(
    "--learning-rate", type=float, default=1e-3, show_default=True, help="Of the network."
)
@click.option(
    "--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Folds by task."
)
@click.option(
    "--model",
    type=click.Choice(["mlp", "ridge"]),
    default="mlp",
    show_default=True,
    help="Model that is stored; ridge, gbm and mlp are compared in any case.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 when a gate says no.")
@click.option("--seed", type=click.IntRange(min=0), default=42, show_default=True, help="Seed.")
@threads_option
@set_setting_option
@json_option
def command(
    labeled_snapshots: Path,
    output_dir: Path,
    overrides: tuple[str, ...],
    strict: bool,
    seed: int,
    threads: int,
    as_json: bool,
    **given: Any,
) -> int:
    """Train a predictor of U, leverage, ELP, quadrant and route from features that cost nothing.

    Every score is of tasks held out by fold and stands beside its noise ceiling, the best that
    labels of this noise allow; the ranking stands beside entropy, margin, p_base and random.

    \b
    Examples:
      cupel teach predict --labeled-snapshots results/phase1/labeled_snapshots.jsonl \\
        --output-dir results/phase4 --embedder hashing --embedding-dim 256 --epochs 30
      cupel teach predict --labeled-snapshots l.jsonl --output-dir out --model ridge --json
    """
    from cupel.config import apply_overrides

    settings = apply_overrides(_settings(labeled_snapshots, given), list(overrides))
    values = run_phase("teach.predict", settings, folder=output_dir, seed=seed, threads=threads)
    told = json.loads((output_dir / "evaluation_metrics.json").read_text())
    gates = told["gates"]
    if as_json:
        console.print_json({"folder": str(output_dir), "values": values, "gates": gates})
    else:
        _show(output_dir, told)
    failed = any(gate["passed"] is False for gate in gates)
    return EXIT_NO if strict and failed else 0


def _settings(labels: Path, given: dict[str, Any]) -> dict[str, Any]:
    features: dict[str, Any] = {
        "embedder": given["embedder"],
        "embedding_dim": given["embedding_dim"],
    }
    if given["also_features"] is not None:
        features["also"] = comma_list(given["also_features"], flag="--also-features")
    return {
        "labels": str(labels),
        "predictor": {
            "features": features,
            "epochs": given["epochs"],
            "learning_rate": given["learning_rate"],
            "folds": given["folds"],
            "model": given["model"],
        },
    }


def _show(folder: Path, told: dict[str, Any]) -> None:
    console.table(
        ["gate", "figure", "required", "passed", "established", "ceiling", "of ceiling"],
        [
            [
                gate["name"],
                *(gate[key] for key in ("value", "required", "passed")),
                gate.get("established"),
                gate["ceiling"],
                gate["of_ceiling"],
            ]
            for gate in told["gates"]
        ],
        title=f"{told['n_samples']} moments of {told['n_tasks']} tasks, {told['folds']} folds",
    )
    for name in told["told_answers"]:
        console.warn(f"feature {name} is the label itself or known only afterwards")
    for head, count in told["missing_labels"].items():
        if count:
            console.note(f"{head}: {count} moments without a label were left out")
    console.line(f"predictor: {folder / 'predictor'}")
