"""What a study's design can show: the smallest p-value, the attainable size, the power.

Pure arithmetic on the number of seeds and the decision rule. Refuses to know configs or runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from cupel.lab.study import StudyConfig
from cupel.stats.multiplicity import holm_capacity
from cupel.stats.permutation import attainable_size, sign_flip_floor, smallest_n
from cupel.stats.power import mde_paired_t, paired_t_power, seeds_needed

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
    decision, seeds = study.decision, len(study.seeds)
    exact = decision.primary_test == "sign_flip"
    floor = sign_flip_floor(seeds) if exact else 0.0
    size = attainable_size(seeds, decision.alpha) if exact else decision.alpha
    capacity = holm_capacity(seeds, decision.alpha) if exact else None
    mde = mde_paired_t(seeds, alpha=decision.alpha) if seeds >= 2 else None
    power, needed = _power(study, floor)
    notes = []
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


def _power(study: StudyConfig, floor: float) -> tuple[float | None, int | None]:
    """Return power at the declared effect and the seeds it needs; None where not declared."""
    decision, seeds = study.decision, len(study.seeds)
    if decision.effect is None or decision.effect_sd is None:
        return None, None
    standardised = decision.effect / decision.effect_sd
    needed = seeds_needed(
        standardised, alpha=decision.alpha, power=PLANNED_POWER, test=decision.primary_test
    )
    if seeds < 2 or floor >= decision.alpha:
        return 0.0, needed
    return paired_t_power(standardised, seeds, alpha=decision.alpha), needed


def _power_note(study: StudyConfig, power: float, needed: int | None) -> str:
    effect, metric = study.decision.effect, study.endpoint.metric
    seeds = "more than 10,000 seeds" if needed is None else f"{needed} seeds"
    return (
        f"power to find {effect:g} in {metric}: {power:.2f} with {len(study.seeds)} seeds; "
        f"{PLANNED_POWER:.2f} needs {seeds}"
    )


def _warnings(study: StudyConfig, floor: float, capacity: int | None) -> list[str]:
    decision, seeds = study.decision, len(study.seeds)
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
