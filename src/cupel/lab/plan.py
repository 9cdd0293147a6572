"""From a study to its runs, and to what the design can and cannot show, before anything runs.

Pure. Knows conditions, seeds and resolved configs. Refuses to touch a file or a clock, and to plan
a study whose configs are not valid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cupel.config import fingerprint, merge, to_dict, validate
from cupel.errors import PlanError
from cupel.lab.design import judge_design
from cupel.lab.metrics import Metric
from cupel.lab.recipe import Forecast, Recipe
from cupel.lab.study import StudyConfig

LOCK_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run to be: everything a child process needs, and its name.

    Attributes:
        id: fingerprint of recipe and resolved config, and the seed; equal ids, equal runs.
        folder: name of the run folder inside `runs/` (or of the run folder itself).
        resolved, passed: the config with every default, and as the user gave it.
        command: re-runs or continues this run from the study folder.
        costs: the recipe's bounds for this run; `steps` is its number of metrics rows.
        preload: modules the run imports.
        machine_keys: by stream, the keys that depend on the machine (timings).
    """

    id: str
    recipe: str
    condition: str
    seed: int
    folder: str
    resolved: Mapping[str, Any]
    passed: Mapping[str, Any]
    command: Sequence[str]
    costs: Mapping[str, float]
    preload: Sequence[str]
    machine_keys: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a study would do and what it could show.

    Attributes:
        runs: in the order of execution: all conditions of a seed before the next seed.
        floor: smallest p-value this many seeds can give with the primary test; None with one
            condition; 0 for a test without a floor.
        attainable_alpha: probability of p < alpha under the null; below alpha by discreteness.
        family_capacity: how many contrasts Holm can still call significant at this floor.
        mde: smallest effect found with power .8, in units of the endpoint when `effect_sd` is
            declared, else in standard deviations of the seed differences (`mde_unit` says which).
        power: at the declared effect, None when effect or effect_sd is not declared.
        seeds_for_effect: seeds that find the declared effect with power .8.
        costs: bounds over all runs.
        lock: what is declared, as canonical JSON data; its hash is the plan's identity.
        depends_on: by condition, what its runs depend on beside their config.
        metrics: the declared metrics of every stream the recipe writes.
    """

    study: StudyConfig
    runs: tuple[RunSpec, ...]
    floor: float | None
    attainable_alpha: float | None
    family_capacity: int | None
    mde: float | None
    mde_unit: str
    power: float | None
    seeds_for_effect: int | None
    costs: Mapping[str, float]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    lock: Mapping[str, Any]
    depends_on: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, tuple[Metric, ...]] = field(default_factory=dict)


def plan_study(study: StudyConfig, recipe: Recipe[Any]) -> Plan:
    """Resolve every condition, lay out the runs and compute what the design can reach.

    Raises:
        ConfigError: a condition's config is not valid (names the condition and the key).
        PlanError: the recipe cannot run a config here, or two runs would share a folder.
    """
    cells = [_resolve_condition(study, index, recipe) for index in range(len(study.conditions))]
    runs = tuple(
        _spec(recipe, study.recipe, cell, seed, _folder_name(study, cell.label, seed))
        for seed in study.seeds
        for cell in cells
    )
    _refuse_shared_folders(runs)
    design = judge_design(study)
    forecasts = [cell.forecast for cell in cells]
    return Plan(
        study=study,
        runs=runs,
        floor=design.floor,
        attainable_alpha=design.attainable_alpha,
        family_capacity=design.family_capacity,
        mde=design.mde,
        mde_unit=design.mde_unit,
        power=design.power,
        seeds_for_effect=design.seeds_for_effect,
        costs=_total_costs(runs),
        notes=_unique([*design.notes, *(note for f in forecasts for note in f.notes)]),
        warnings=_unique(
            [*_twins(cells), *design.warnings, *(text for f in forecasts for text in f.warnings)]
        ),
        lock=_lock(study, cells),
        depends_on={cell.label: dict(cell.forecast.depends_on) for cell in cells},
        metrics={name: tuple(each) for name, each in recipe.streams.items() if each is not None},
    )


def plan_run(
    recipe: Recipe[Any],
    name: str,
    *,
    passed: Mapping[str, Any],
    seed: int,
    condition: str = "run",
    folder: str = ".",
    where: str = "config",
) -> RunSpec:
    """Resolve one run outside of any study.

    Args:
        name: under which the recipe is loaded again, e.g. `rlvr.train`.
        where: opens the message when the config is not valid.

    Raises:
        ConfigError: the config is not valid.
        PlanError: the recipe cannot run it here.
    """
    cell = _resolve(recipe, passed, label=condition, where=where)
    return _spec(recipe, name, cell, seed, folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    label: str
    passed: Mapping[str, Any]
    resolved: Mapping[str, Any]
    forecast: Forecast


def _resolve_condition(study: StudyConfig, index: int, recipe: Recipe[Any]) -> _Cell:
    condition = study.conditions[index]
    passed = merge(study.config, condition.config)
    return _resolve(recipe, passed, label=condition.label, where=f"condition '{condition.label}'")


def _resolve(recipe: Recipe[Any], passed: Mapping[str, Any], *, label: str, where: str) -> _Cell:
    config = validate(recipe.config_type, recipe.prepare(passed), where=where)
    try:
        forecast = recipe.forecast(config)
    except PlanError as error:
        raise PlanError(f"{where}: {error}") from None
    return _Cell(label=label, passed=passed, resolved=to_dict(config), forecast=forecast)


def _spec(recipe: Recipe[Any], name: str, cell: _Cell, seed: int, folder: str) -> RunSpec:
    identity = fingerprint({"recipe": name, "config": cell.resolved})
    machine_keys = {
        stream: [metric.name for metric in metrics if not metric.reproducible]
        for stream, metrics in recipe.streams.items()
        if metrics is not None
    }
    return RunSpec(
        id=f"{identity}-s{seed}",
        recipe=name,
        condition=cell.label,
        seed=seed,
        folder=folder,
        resolved=cell.resolved,
        passed=cell.passed,
        command=("cupel", "resume", f"runs/{folder}"),
        costs=dict(cell.forecast.costs),
        preload=_unique([*recipe.preload, *cell.forecast.preload]),
        machine_keys={stream: keys for stream, keys in machine_keys.items() if keys},
    )


def _folder_name(study: StudyConfig, label: str, seed: int) -> str:
    """Return `<condition>_s<seed>`; the arms of an A/B with one seed go by their role.

    A sweep with one seed needs no seed in its names: `<condition>`.
    """
    if study.tuning is not None and len(study.seeds) == 1:
        return label
    if len(study.conditions) == 2 and len(study.seeds) == 1 and study.primary is not None:
        return "baseline" if label == study.primary[0] else "candidate"
    return f"{label}_s{seed}"


def _refuse_shared_folders(runs: Sequence[RunSpec]) -> None:
    owners: dict[str, RunSpec] = {}
    for run in runs:
        other = owners.setdefault(run.folder.casefold(), run)
        if other is not run:
            raise PlanError(
                f"conditions '{other.condition}' and '{run.condition}' differ only in case and "
                "would share a folder on some systems; rename one"
            )


def _twins(cells: Sequence[_Cell]) -> list[str]:
    first: dict[str, str] = {}
    warnings = []
    for cell in cells:
        twin = first.setdefault(fingerprint(cell.resolved), cell.label)
        if twin != cell.label:
            warnings.append(
                f"conditions '{twin}' and '{cell.label}' are identical: the same seeds give the "
                "same runs, and every difference will be exactly 0"
            )
    return warnings


def _total_costs(runs: Sequence[RunSpec]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for run in runs:
        for unit, cost in run.costs.items():
            totals[unit] = totals.get(unit, 0) + cost
    return totals


def _lock(study: StudyConfig, cells: Sequence[_Cell]) -> dict[str, Any]:
    """Return all that is declared: change any of it and the hash changes."""
    tuning = {} if study.tuning is None else {"tuning": to_dict(study.tuning)}
    return {
        "schema": LOCK_SCHEMA,
        "question": study.question,
        "recipe": study.recipe,
        "conditions": {cell.label: cell.resolved for cell in cells},
        "order": study.labels,
        "primary": list(study.primary) if study.primary is not None else None,
        "endpoint": to_dict(study.endpoint),
        "decision": to_dict(study.decision),
        "seeds": list(study.seeds),
        "reserve_seeds": list(study.reserve_seeds),
        "looks": study.decision.looks or [len(study.seeds)],
        **tuning,
    }


def _unique(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
