"""Run a small campaign of the numpy toy policy in this process and judge it."""

import tempfile
from pathlib import Path

from cupel import StudyConfig, execute_study, judge, load_recipe, plan_study, write_plan
from cupel.config import validate

study = validate(
    StudyConfig,
    {
        "name": "toy",
        "question": "Does a five times larger step learn faster?",
        "seeds": [1, 2, 3, 4, 5, 6],
        "config": {"backend": "toy", "algorithm": "grpo"},
        "conditions": [
            {"label": "small_step", "config": {"lr": 0.1}},
            {"label": "large_step", "config": {"lr": 0.5}},
        ],
        "endpoint": {"metric": "correct_rate", "over": "all"},
    },
    where="this example",
)

with tempfile.TemporaryDirectory() as root:
    folder = Path(root) / study.name
    write_plan(plan_study(study, load_recipe(study.recipe)), folder)
    execute_study(folder, executor="inline")
    print(judge(folder).sentence)
