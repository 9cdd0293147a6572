"""The training matrix as a study: 4 quadrants x 3 formats, two baselines, BASE, and controls.

Knows run ids and which settings each stands for. Refuses to run or judge anything: a matrix is a
study like any other, planned, executed and judged by the laboratory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cupel.config import did_you_mean, merge, validate
from cupel.errors import ConfigError, DataError
from cupel.lab.randomness import Randomness
from cupel.lab.study import DEFAULT_SEEDS
from cupel.teach.evaluation.gates import CANDIDATE
from cupel.teach.evaluation.tables import BASE
from cupel.teach.labelling.labels import QUADRANTS, LabelledMoment
from cupel.teach.records import FORMATS
from cupel.teach.training.config import (
    FinetuneConfig,
    moments_of,
    supervision_of,
    with_student_defaults,
)

UNIFORM = "B1_uniform"
ALL = "B2_all"
MATRIX_RUNS = (
    *(f"{quadrant}_{supervision}" for quadrant in QUADRANTS for supervision in FORMATS),
    UNIFORM,
    ALL,
)
"""The documented 14 run ids."""

Control = Literal["matched", "dagger", "shuffled"]
CONTROLS: tuple[Control, ...] = ("matched", "dagger", "shuffled")
"""matched: a uniform subset as large as each quadrant, which tells a quadrant from its size;
dagger: every state the student met, with the expert's action, the baseline that selection must
beat; shuffled: B2 with random valid actions, which a sound evaluation must see fail."""

MATRIX_SEEDS = (*DEFAULT_SEEDS, 808, 909)
"""Ten seeds: Holm over the 11 secondary contrasts needs at least nine to reach .05."""

_SECONDARY_OUTCOMES = (
    "eval/success_probability",
    "eval/panel_success_rate",
    "eval/panel_success_probability",
)


def run_settings(
    run_id: str,
    *,
    baseline_n_samples: int | None = None,
    max_train_samples: int | None = None,
    episodes: str | None = None,
) -> dict[str, Any]:
    """Return the settings of teach.finetune that a run id stands for.

    >>> run_settings("Q4_lowU_highL_contrast")
    {'selection': {'rule': 'quadrant', 'quadrant': 'Q4_lowU_highL'}, 'format': 'contrast'}
    >>> run_settings("BASE")
    {'selection': {'rule': 'none'}}

    Raises:
        ConfigError: no such run id, or dagger without episodes.
    """
    if run_id == BASE:
        return {"selection": {"rule": "none"}}
    most = {} if max_train_samples is None else {"max_train_samples": max_train_samples}
    if run_id == UNIFORM:
        size = {} if baseline_n_samples is None else {"baseline_n_samples": baseline_n_samples}
        return {"selection": {"rule": "uniform", **size, **most}, "format": "demo"}
    if run_id == ALL:
        return {"selection": {"rule": "all", **most}, "format": "demo"}
    if run_id == "shuffled_labels":
        return {"selection": {"rule": "shuffled_labels", **most}, "format": "demo"}
    if run_id == "dagger":
        if episodes is None:
            raise ConfigError(
                "run 'dagger' trains on the student's own episodes; none were given: pass the "
                "folder of cupel teach rollouts, or leave this control out"
            )
        return {"selection": {"rule": "dagger", "episodes": episodes, **most}, "format": "demo"}
    for quadrant in QUADRANTS:
        if run_id == f"matched_{quadrant}":
            rule = {"rule": "matched_uniform", "quadrant": quadrant, **most}
            return {"selection": rule, "format": "demo"}
        for supervision in FORMATS:
            if run_id == f"{quadrant}_{supervision}":
                rule = {"rule": "quadrant", "quadrant": quadrant, **most}
                return {"selection": rule, "format": supervision}
    known = [*MATRIX_RUNS, *control_runs(CONTROLS)]
    raise ConfigError(f"no run '{run_id}' in the matrix; {did_you_mean(run_id, known)}")


def control_runs(controls: Sequence[Control]) -> list[str]:
    """Return the run ids of controls, in their order."""
    runs: list[str] = []
    for control in CONTROLS:
        if control in controls:
            runs += {
                "matched": [f"matched_{quadrant}" for quadrant in QUADRANTS],
                "dagger": ["dagger"],
                "shuffled": ["shuffled_labels"],
            }[control]
    return runs


def matrix_study(
    *,
    labels: str,
    name: str = "teach_matrix",
    run_ids: Sequence[str] = MATRIX_RUNS,
    seeds: Sequence[int] = MATRIX_SEEDS,
    shared: Mapping[str, Any] | None = None,
    baseline_n_samples: int | None = None,
    max_train_samples: int | None = None,
    episodes: str | None = None,
) -> dict[str, Any]:
    """Build the study: BASE and the given runs, each on every seed.

    Primary: Q1_highU_highL_hint against B1_uniform on greedy success on test tasks. Secondary,
    under Holm: every other run of a quadrant against B1_uniform, and each quadrant's demo run
    against its matched control where that is there. Where a name is missing, the last run is
    compared with B1_uniform, or with BASE.

    Args:
        labels: path of labeled_snapshots.jsonl.
        shared: settings of teach.finetune for all runs.

    Raises:
        ConfigError: a run id is unknown or comes twice.
    """
    runs = list(run_ids)
    twice = [run for number, run in enumerate(runs) if run in runs[:number]]
    if twice:
        raise ConfigError(f"run '{twice[0]}' appears twice; name every run once")
    settings = {
        run: run_settings(
            run,
            baseline_n_samples=baseline_n_samples,
            max_train_samples=max_train_samples,
            episodes=episodes,
        )
        for run in [BASE, *(run for run in runs if run != BASE)]
    }
    return {
        "name": name,
        "question": "Which failure states, taught in which format, bring the most?",
        "recipe": "teach.finetune",
        "seeds": list(seeds),
        "config": merge({"labels": labels, "evaluate_start": False}, shared or {}),
        "conditions": [{"label": run, "config": config} for run, config in settings.items()],
        "endpoint": {"metric": "eval/success_rate", "over": "last"},
        "decision": _decision(list(settings)),
    }


def runnable(
    study: Mapping[str, Any], labels: Sequence[LabelledMoment]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Leave out the runs that have nothing to train on; return the study, and why by run id.

    Such a run stays in the summary with an empty path: it is no reason to train nothing.

    Raises:
        DataError: no run is left.
    """
    reasons: dict[str, str] = {}
    for condition in study["conditions"]:
        data = merge(study["config"], condition["config"])
        where = f"run '{condition['label']}'"
        config = validate(FinetuneConfig, with_student_defaults(data), where=where)
        if config.selection.rule == "none":
            continue
        try:
            chosen = moments_of(config, labels, Randomness(0))
            if not supervision_of(config, chosen).examples:
                reasons[condition["label"]] = f"no {config.format} example"
        except DataError as error:
            reasons[condition["label"]] = str(error)
    kept = [each for each in study["conditions"] if each["label"] not in reasons]
    if all(each["label"] == BASE for each in kept):
        raise DataError(
            f"no run of the matrix has anything to train on; the first, {next(iter(reasons), '')}: "
            f"{next(iter(reasons.values()), '')}"
        )
    decision = _decision([each["label"] for each in kept])
    return {**study, "conditions": kept, "decision": decision}, reasons


def _decision(runs: Sequence[str]) -> dict[str, Any]:
    """Return the decision rule of a matrix with these runs."""
    baseline = UNIFORM if UNIFORM in runs else BASE
    others = [run for run in runs if run not in (baseline, BASE)]
    candidate = CANDIDATE if CANDIDATE in runs else (others or [UNIFORM])[-1]
    if candidate == baseline:
        baseline = BASE
    of_quadrants = [run for run in MATRIX_RUNS[:12] if run in runs and run != candidate]
    secondary = [[baseline, run] for run in of_quadrants]
    for quadrant in QUADRANTS:
        pair = [f"matched_{quadrant}", f"{quadrant}_demo"]
        if all(run in runs for run in pair):
            secondary.append(pair)
    return {
        "baseline": baseline,
        "candidate": candidate,
        "secondary": secondary,
        "family": "holm",
        "exploratory": [{"metric": metric, "over": "last"} for metric in _SECONDARY_OUTCOMES],
    }
