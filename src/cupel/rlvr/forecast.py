"""What a training run would cost and imply, and whether its backend can run it at all.

Looks at the config and at what is installed; runs nothing. Whatever a backend cannot honour is
refused here, before anything is spent.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from cupel.errors import MissingExtraError, PlanError
from cupel.lab.recipe import Forecast
from cupel.rlvr.config import TrainConfig
from cupel.rlvr.graders import check_grader
from cupel.rlvr.planning import PlanningDetector
from cupel.rlvr.problems import load_problems
from cupel.rlvr.schedules import lambda_at

LOW_LAMBDA = 0.5

PRELOAD: dict[str, tuple[str, ...]] = {
    "toy": (),
    "tiny": ("torch", "torch._dynamo", "cupel.policy.tiny"),
    "torch": ("torch", "torch._dynamo", "cupel.policy.torch_policy"),
}
"""Modules to import once for all runs. torch.optim imports torch._dynamo at its first use, which
costs seconds a run unless it is there already."""


def forecast(config: TrainConfig) -> Forecast:
    """Return cost bounds per run, notes and warnings.

    Raises:
        PlanError: the backend cannot run this config.
        MissingExtraError: the backend's extra is not installed.
        ConfigError: the planning phrases cannot be searched for.
        DataError: the problems cannot be read.
    """
    _check_backend(config)
    PlanningDetector(config.strategic_grams, ())  # refuses unknown sets and empty phrases
    check_grader(config.problems)
    problems = load_problems(config.problems)
    problems.held_out(config.evaluation.problems)
    evaluations = len(evaluation_steps(config))
    per_evaluation = config.evaluation.problems * (
        config.evaluation.samples + int(config.evaluation.greedy)
    )
    training = config.max_steps * config.batch_size * config.group_size
    completions = training + evaluations * per_evaluation
    notes = [*problems.notes]
    warnings = []
    if config.transform_mode == "gtpo_sepa":
        reached = lambda_at(config.max_steps - 1, config)
        notes.append(f"sepa_lambda on the linear ramp at the last step: {reached:.2f}")
        if reached < LOW_LAMBDA:
            warnings.append(
                f"sepa_lambda reaches only {reached:.2f} by step {config.max_steps - 1}: SEPA will "
                "hardly differ from gtpo. Lower sepa_steps or sepa_delay_steps, or run longer"
            )
    if config.group_size == 1:
        warnings.append("group_size = 1: every advantage is 0 and nothing will be learned")
    if config.top_p < 1:
        warnings.append(
            f"top_p = {config.top_p:g}: the sampler is truncated, the trained policy is not"
        )
    return Forecast(
        preload=PRELOAD[config.backend],
        costs={
            "steps": float(config.max_steps),
            "training completions": float(training),
            "completions": float(completions),
            "sampled tokens": float(completions * config.max_tokens),
        },
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def evaluation_steps(config: TrainConfig) -> list[int]:
    """Return the numbers of updates after which the policy is evaluated."""
    return sorted({*range(0, config.max_steps, config.evaluation.every), config.max_steps})


def _check_backend(config: TrainConfig) -> None:
    source = config.problems.source
    if config.backend == "toy" and source != "toy":
        raise PlanError(
            f"backend 'toy' cannot run problems.source '{source}': it is a table over the toy "
            "problems. Use problems.source = 'toy', or backend 'tiny' or 'torch'"
        )
    if config.backend == "tiny" and source != "arithmetic":
        raise PlanError(
            f"backend 'tiny' cannot run problems.source '{source}': its closed vocabulary knows "
            "only the arithmetic problems. Use backend 'torch' with a model of your own"
        )
    if config.backend == "toy":
        return
    for module in ("torch", "transformers"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(f"backend '{config.backend}'", "torch")
    model = config.model
    if model is not None and model.startswith((".", "/", "~")):
        folder = Path(model).expanduser()
        if not (folder / "config.json").is_file():
            raise PlanError(
                f"model '{model}': no such model folder (it must hold config.json, the weights and "
                "the tokenizer files)"
            )
