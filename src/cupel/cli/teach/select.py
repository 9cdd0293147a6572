"""`cupel teach select`: selections of equal size, trained, evaluated and compared, as a study."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cupel.cli import console
from cupel.cli.app import Stop, suggestion
from cupel.cli.execution import execute_and_judge, run_options
from cupel.cli.plan import make_plan, plan_facts, save_plan, show_plan
from cupel.cli.source import comma_list, json_option, seed_list, set_setting_option, study_from

if TYPE_CHECKING:
    from cupel.teach.labelling.labels import LabelledMoment
    from cupel.teach.selection.study import SelectionSetup

METHODS = "random,entropy,predictor,oracle"
RECORD = "teach_selection"
"""Key of manifest.json under which the command's own facts are kept."""


@click.command()
@click.option(
    "--labeled-snapshots",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="labeled_snapshots.jsonl; only moments of training tasks are chosen from.",
)
@click.option(
    "--predictor-path",
    type=click.Path(path_type=Path),
    help="predictor/model.pt of cupel teach predict, or its folder; needed by method predictor.",
)
@click.option(
    "--base-model",
    default="tiny",
    show_default=True,
    help="tiny, or a folder or hub id of a Hugging Face causal language model.",
)
@click.option(
    "--budget",
    "budgets",
    default="500",
    show_default=True,
    help="Moments that each method chooses; several, a,b,c, sweep it.",
)
@click.option("--output-dir", type=click.Path(path_type=Path), required=True, help="Study folder.")
@click.option("--methods", default=METHODS, show_default=True, help="Methods, a,b,c.")
@click.option(
    "--supervision-format",
    type=click.Choice(["demo", "contrast", "hint"]),
    default="demo",
    show_default=True,
    help="Format that all of them are taught in.",
)
@click.option("--seeds", help="Seeds, a,b,c [default: the eight of a campaign].")
@click.option("--base/--no-base", default=True, show_default=True, help="The untrained model too.")
@click.option(
    "--n-tasks", type=click.IntRange(min=1), default=200, show_default=True, help="Test tasks."
)
@click.option(
    "--n-snapshots-per-quadrant",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Failure states of each quadrant, from the panel split.",
)
@click.option("--max-steps", type=click.IntRange(min=1), help="Of evaluated episodes.")
@click.option("--environment", help="Environment [default: that of the labels].")
@click.option("--level", help="Its level [default: that of the labels].")
@click.option("--dry-run", is_flag=True, help="Plan and say what would run; run nothing.")
@set_setting_option
@run_options
@json_option
def command(
    labeled_snapshots: Path,
    predictor_path: Path | None,
    output_dir: Path,
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Choose K moments by each method, train on each choice on every seed, and compare.

    All methods choose from the same moments; one whose input is missing stops the command. The
    folder is a study: called again it runs what is missing. Primary contrast: predictor against
    random; the order ORACLE >= PREDICTOR >= ENTROPY >= RANDOM is tested step by step and
    written to selection_order.md as it turns out.

    \b
    Examples:
      cupel teach select --labeled-snapshots results/phase1/labeled_snapshots.jsonl \\
        --predictor-path results/phase4/predictor/model.pt --budget 500 \\
        --output-dir results/phase5/selection
      cupel teach select --labeled-snapshots l.jsonl --methods random,entropy,oracle \\
        --budget 50,100 --seeds 1,2,3,4,5,6 --output-dir out --dry-run
    """
    from cupel.teach.labelling.files import read_labels
    from cupel.teach.selection.study import selection_study

    labels = read_labels(labeled_snapshots)
    setup = _setup(labeled_snapshots, predictor_path, output_dir, labels, given)
    record = _pool(setup, labels)
    source = study_from(selection_study(setup), where="teach select", out=output_dir)
    plan = make_plan(source)
    record |= {
        "labeled_snapshots": str(labeled_snapshots),
        "predictor_path": None if predictor_path is None else str(predictor_path),
        "base_model": given["base_model"],
        "methods": list(setup.methods),
        "budget_k": list(setup.budgets) if len(setup.budgets) > 1 else setup.budgets[0],
        "supervision_format": setup.format,
        "seeds": list(setup.seeds),
        "output_dir": str(output_dir),
    }
    save_plan(source, plan, record={RECORD: record})
    if not as_json:
        show_plan(plan, output_dir)
        _show_pool(record)
    elif dry_run:
        console.print_json(plan_facts(plan, output_dir) | {RECORD: record})
    if dry_run:
        console.note(f"next: cupel run {shlex.quote(str(output_dir))}")
        return 0
    return _execute(output_dir, record, given, as_json=as_json)


def _execute(folder: Path, record: dict[str, Any], given: dict[str, Any], *, as_json: bool) -> int:
    """Run and judge the study, then write the documented files."""
    from cupel.lab.store import read_study
    from cupel.teach.selection.order import write_order
    from cupel.teach.selection.results import write_selection

    code = execute_and_judge(folder, given["execution"], as_json=as_json)
    study = read_study(folder)
    rows = write_selection(study, record)
    order = write_order(study)
    if not as_json:
        _show(rows, order)
        console.line(f"selections: {folder}")
    return code


def _setup(
    path: Path,
    predictor: Path | None,
    folder: Path,
    labels: Sequence[LabelledMoment],
    given: dict[str, Any],
) -> SelectionSetup:
    from cupel.config import apply_overrides, merge, to_dict
    from cupel.lab.study import DEFAULT_SEEDS
    from cupel.teach.selection.study import SelectionSetup
    from cupel.teach.training.summary import base_student

    if not labels:
        raise Stop(f"{path}: no labelled snapshots; label some with cupel teach label")
    snapshot = labels[0].moment.snapshot
    environment: dict[str, Any] = {
        "name": given["environment"] or snapshot.environment,
        "level": snapshot.level if given["level"] is None else given["level"],
    }
    if given["max_steps"] is not None:
        environment["max_steps"] = given["max_steps"]
    student = to_dict(base_student(given["base_model"]))
    flags = {
        "student": {key: value for key, value in student.items() if value is not None},
        "evaluation": {
            "environment": environment,
            "n_tasks": given["n_tasks"],
            "n_snapshots_per_quadrant": given["n_snapshots_per_quadrant"],
        },
    }
    settings = merge(flags, apply_overrides({}, list(given["overrides"])))
    beyond = sorted(set(settings) - {"student", "sft", "evaluation"})
    if beyond:
        raise Stop(
            f"--set {beyond[0]}: a selection fixes it; --set takes student.*, sft.*, evaluation.*"
        )
    return SelectionSetup(
        labels=str(path),
        predictor=None if predictor is None else str(predictor),
        methods=_methods(given["methods"]),
        budgets=_budgets(given["budgets"]),
        seeds=DEFAULT_SEEDS if given["seeds"] is None else seed_list(given["seeds"]),
        format=given["supervision_format"],
        base=given["base"],
        name=folder.resolve().name,
        student=settings["student"],
        sft=settings.get("sft", {}),
        evaluation=settings["evaluation"],
    )


def _methods(text: str) -> list[Any]:
    known = METHODS.split(",")
    methods = comma_list(text.lower(), flag="--methods")
    for method in methods:
        if method not in known:
            raise Stop(f"--methods: no method '{method}'; {suggestion(method, known)}")
    return methods


def _budgets(text: str) -> list[int]:
    parts = comma_list(text, flag="--budget")
    for part in parts:
        if not part.isascii() or not part.isdigit() or int(part) < 1:
            raise Stop(f"--budget: '{part}' is no number of moments; give whole numbers from 1")
    return [int(part) for part in parts]


def _pool(setup: SelectionSetup, labels: Sequence[LabelledMoment]) -> dict[str, Any]:
    """Make every choice once, before anything is planned: a missing input stops here."""
    from cupel.teach.prediction.files import predicted_elp
    from cupel.teach.selection.ranking import common_pool, select
    from cupel.teach.training.supervision import usable

    predictions = None
    if "predictor" in setup.methods:
        if setup.predictor is None:
            raise Stop(
                "--methods predictor needs --predictor-path; train one with cupel teach predict, "
                "or leave the method out of --methods"
            )
        predictions = predicted_elp(Path(setup.predictor), labels)
    pool = common_pool(labels, setup.methods, predictions=predictions)
    kept = usable(pool.labels)
    ties = {}
    for method in setup.methods:
        for budget in setup.budgets:
            best = select(kept, method, budget, predictions=predictions, seed=setup.seeds[0])
            ties[f"{method}_K{budget}"] = best.tied_at_cut
    excluded = dict(pool.excluded)
    if len(kept) < len(pool.labels):
        excluded["whose hint names no valid action"] = len(pool.labels) - len(kept)
    return {
        "n_labels": len(labels),
        "n_pool": len(kept),
        "excluded": excluded,
        "tied_at_cut": ties,
    }


def _show_pool(record: dict[str, Any]) -> None:
    console.line(f"pool: {record['n_pool']} of {record['n_labels']} labelled moments")
    for reason, count in record["excluded"].items():
        console.line(f"  left out: {count} {reason}")
    for name, count in record["tied_at_cut"].items():
        if count > 1:
            console.note(f"{name}: {count} moments tie with the last one chosen; the seed decides")


def _show(rows: Sequence[dict[str, Any]], order: dict[str, Any]) -> None:
    shown = ("method", "budget_k", "n_selected", "uncertainty_mean", "elp_mean", "elp_split_mean")
    console.table([*shown], [[row[name] for name in shown] for row in rows], title="selections")
    for budget, by_outcome in order["order"].items():
        told = ", ".join(f"{name} {word}" for name, word in by_outcome.items())
        console.line(f"order at K = {budget}: {told}")
