"""What a study's design can show: the smallest p-value, the attainable size, the power.

Pure arithmetic on the number of seeds and the decision rule. Refuses to know configs or runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from cupel.lab.study import StudyConfig
from cupel.stats.multiplicity import holm_capacity
from cupel.stats.permutation import attainable_size, sign_flip_floor, smallest_n
from cupel.stats.power import seed_mde, seed_power, seeds_for_power
from cupel.stats.sequential import plan_looks

PLANNED_POWER = 0.8
FEWEST_FOR_T = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What a design can reach; the fields are those of `cupel.lab.plan.Plan`."""

    floor: float | None = None
    attainable_alpha: float | None = None
    family_capacity: int | None = None
    mde: float | None = None
    mde_unit: str = "sd of the seed differences"
    power: float | None = None
    seeds_for_effect: int | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def judge_design(study: StudyConfig) -> Design:
    """Compute floor, size, capacity, smallest detectable effect and power of a study."""
    if study.tuning is not None:
        return Design(notes=("a sweep: its runs choose a setting, no contrast is tested on them",))
    if study.primary is None:
        return Design(notes=("one condition: nothing is compared, no verdict will be given",))
    decision, seeds, level = study.decision, seeds_of(study), level_of(study)
    exact = decision.primary_test == "sign_flip"
    floor = sign_flip_floor(seeds) if exact else 0.0
    size = attainable_size(seeds, decision.alpha) if exact else decision.alpha
    capacity = holm_capacity(seeds, decision.alpha) if exact else None
    mde = seed_mde(seeds, alpha=level, test=decision.primary_test) if seeds >= 2 else None
    power, needed = _power(study, floor)
    notes = []
    if len(decision.looks) > 1:
        notes.append(
            f"looks at {', '.join(map(str, decision.looks))} seeds ({decision.spending}); the last "
            f"one tests at {level:.4g}"
        )
    if exact:
        notes.append(
            f"{seeds} seeds: smallest reachable p = {floor:.4g}; "
            f"attainable size {size:.4g} of alpha {decision.alpha:g}"
        )
    if power is not None:
        notes.append(_power_note(study, power, needed))
    in_units = decision.effect_sd is not None
    return Design(
        floor=floor,
        attainable_alpha=size,
        family_capacity=capacity,
        mde=None if mde is None else mde * (decision.effect_sd or 1.0),
        mde_unit=study.endpoint.metric if in_units else "sd of the seed differences",
        power=power,
        seeds_for_effect=needed,
        notes=tuple(notes),
        warnings=tuple(_warnings(study, floor, capacity)),
    )


def seeds_of(study: StudyConfig) -> int:
    """Return the seeds of the last look, or all seeds where there is one."""
    return study.decision.looks[-1] if study.decision.looks else len(study.seeds)


def level_of(study: StudyConfig) -> float:
    """Return the level at which the last look tests."""
    decision = study.decision
    if len(decision.looks) < 2:
        return decision.alpha
    looks = plan_looks(decision.looks, spending=decision.spending, alpha=decision.alpha)
    return float(looks.alpha_at[-1])


def _power(study: StudyConfig, floor: float) -> tuple[float | None, int | None]:
    """Return power at the declared effect and the seeds it needs; None where not declared."""
    decision, seeds, level = study.decision, seeds_of(study), level_of(study)
    if decision.effect is None or decision.effect_sd is None:
        return None, None
    standardised, test = decision.effect / decision.effect_sd, decision.primary_test
    needed = seeds_for_power(standardised, alpha=level, power=PLANNED_POWER, test=test)
    if seeds < 2 or floor >= decision.alpha:
        return 0.0, needed
    return seed_power(standardised, seeds, alpha=level, test=test), needed


def _power_note(study: StudyConfig, power: float, needed: int | None) -> str:
    effect, metric = study.decision.effect, study.endpoint.metric
    seeds = "more than 10,000 seeds" if needed is None else f"{needed} seeds"
    return (
        f"power to find {effect:g} in {metric}: {power:.2f} with {seeds_of(study)} seeds; "
        f"{PLANNED_POWER:.2f} needs {seeds}"
    )


def _warnings(study: StudyConfig, floor: float, capacity: int | None) -> list[str]:
    decision, seeds = study.decision, seeds_of(study)
    warnings = []
    if seeds == 1:
        warnings.append(
            "one seed per condition: the result speaks of two checkpoints, not of two methods; "
            "the verdict will be 'insufficient'"
        )
    elif floor >= decision.alpha:
        warnings.append(
            f"{seeds} seeds cannot reach significance at alpha {decision.alpha:g}: the smallest "
            f"possible p is {floor:.4g}; use at least {smallest_n(decision.alpha)} seeds"
        )
    elif decision.primary_test == "paired_t" and seeds < FEWEST_FOR_T:
        warnings.append(
            f"paired_t with {seeds} seeds leans on normality; use at least {FEWEST_FOR_T}"
        )
    family = len(decision.secondary)
    if capacity is not None and family > capacity:
        warnings.append(
            f"Holm's correction over {family} secondary contrasts needs p <= alpha/{family}, "
            f"and {seeds} seeds can serve {capacity} at most"
        )
    return warnings
