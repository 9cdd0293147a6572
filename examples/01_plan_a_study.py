"""Plan a study from plain data and read what its design can and cannot show. Runs nothing."""

from cupel import StudyConfig, load_recipe, plan_study
from cupel.config import validate

study = validate(
    StudyConfig,
    {
        "name": "grpo_or_maxrl",
        "question": "Does MaxRL beat GRPO on the toy problems?",
        "seeds": [42, 101, 202, 303, 404],
        "config": {"backend": "toy"},
        "conditions": [
            {"label": "grpo", "config": {"algorithm": "grpo"}},
            {
                "label": "maxrl",
                "config": {"advantage_mode": "maxrl", "transform_mode": "none"},
            },
        ],
        "decision": {"effect": 0.05, "effect_sd": 0.04},
    },
    where="this example",
)

plan = plan_study(study, load_recipe(study.recipe))
print(f"{len(plan.runs)} runs; smallest reachable p = {plan.floor}")
for line in (*plan.notes, *plan.warnings):
    print("-", line)
