"""What a locked study would answer: the chance of each verdict, told before anything runs.

Pure. Knows the declared rule and a guess of the spread of the seed differences. Refuses to guess
that spread itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cupel.config import fingerprint
from cupel.errors import PlanError
from cupel.lab.study import StudyConfig
from cupel.stats.permutation import sign_flip_floor, smallest_n
from cupel.stats.verdicts import Chances, verdict_chances


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """The chances of each answer when the true effect is `effect`, in units of the endpoint."""

    effect: float
    chances: Chances


def prospects(study: StudyConfig) -> tuple[Prospect, ...]:
    """Return the chances at no effect, half and all of the declared one; simulated, reproducible.

    Empty where `decision.effect` or `decision.effect_sd` is not declared.
    """
    decision = study.decision
    if study.primary is None or decision.effect is None or decision.effect_sd is None:
        return ()
    sizes = decision.looks or [len(study.seeds)]
    if sizes[-1] < 2:
        return ()
    key = int(fingerprint({"decision": decision.model_dump(mode="json"), "sizes": sizes}), 16)
    sd, margin = decision.effect_sd, decision.margin
    sign = 1.0 if study.endpoint.higher_is_better else -1.0
    return tuple(
        Prospect(
            effect=sign * share * decision.effect,
            chances=verdict_chances(
                share * decision.effect / sd,
                sizes,
                rng=np.random.default_rng([key, step]),
                alpha=decision.alpha,
                spending=decision.spending,
                test=decision.primary_test,
                margin_sd=None if margin is None else margin / sd,
            ),
        )
        for step, share in enumerate((0.0, 0.5, 1.0))
    )


def refuse_unreachable(study: StudyConfig) -> None:
    """Refuse to lock a confirmatory study that cannot reach its alpha, whatever the data.

    Raises:
        PlanError: a single condition, one seed, or too few seeds for the exact test.
    """
    if study.primary is None:
        raise PlanError(
            "lock: the study compares nothing (one condition, or a sweep); a lock declares a test"
        )
    decision = study.decision
    seeds = decision.looks[-1] if decision.looks else len(study.seeds)
    floor = sign_flip_floor(seeds)
    if decision.primary_test == "sign_flip" and floor >= decision.alpha:
        raise PlanError(
            f"lock: {seeds} seeds cannot reach alpha {decision.alpha:g}: the smallest possible p "
            f"is {floor:.4g}. Use at least {smallest_n(decision.alpha)} seeds, or only "
            "`cupel plan` it and read the result as exploratory"
        )
    if decision.primary_test == "paired_t" and seeds < 2:
        raise PlanError("lock: one seed gives no difference to test; use at least 4 seeds")
