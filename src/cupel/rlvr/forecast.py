"""What a training run would cost and imply, and whether its backend can run it at all.

Looks at the config and at what is installed; runs nothing. Whatever a backend cannot honour is
refused here, before anything is spent.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from cupel.errors import MissingExtraError, PlanError
from cupel.lab.recipe import Forecast
from cupel.policy.build import need_tinker
from cupel.policy.openai.server import read_key
from cupel.policy.tinker.config import missing_key
from cupel.rlvr.advantages import OF_THE_BATCH
from cupel.rlvr.backpressure import BackPressure
from cupel.rlvr.config import TrainConfig
from cupel.rlvr.credit import BATCH_TRANSFORMS
from cupel.rlvr.graders import check_grader
from cupel.rlvr.planning import PlanningDetector
from cupel.rlvr.problems import ListedProblems, ProblemSet, load_problems
from cupel.rlvr.schedules import lambda_at
from cupel.rlvr.service_costs import longest_prompt, service_costs

LOW_LAMBDA = 0.5

GSPO_WIDE = 0.05
"""A clip range of a completion's mean ratio from which on it will hardly ever act."""

REFERENCE_BACKENDS = ("tiny", "torch", "toy", "openai")
"""Backends whose policy declares the capability `reference`."""

PRELOAD: dict[str, tuple[str, ...]] = {
    "toy": (),
    "tiny": ("torch", "torch._dynamo", "cupel.policy.tiny"),
    "torch": ("torch", "torch._dynamo", "cupel.policy.torch_policy"),
    "openai": ("torch", "torch._dynamo", "cupel.policy.openai.policy"),
    "tinker": (),
}
"""Modules to import once for all runs. torch.optim imports torch._dynamo at its first use, which
costs seconds a run unless it is there already. The Tinker SDK starts threads, which no fork may
inherit: each run imports it by itself."""


def forecast(config: TrainConfig) -> Forecast:
    """Return cost bounds per run, notes and warnings.

    Raises:
        PlanError: the backend cannot run this config.
        MissingExtraError: the backend's extra is not installed.
        ConfigError: the planning phrases cannot be searched for.
        DataError: the problems cannot be read.
    """
    check_backend(config)
    _check_pressure(config)
    PlanningDetector(config.strategic_grams, ())  # refuses unknown sets and empty phrases
    check_grader(config.problems)
    problems = load_problems(config.problems)
    problems.held_out(config.evaluation.problems)
    evaluations = len(evaluation_steps(config))
    per_evaluation = config.evaluation.problems * (
        config.evaluation.samples + int(config.evaluation.greedy)
    )
    rounds = config.resample_rounds if config.uninformative_groups == "resample" else 1
    pressure = BackPressure.from_config(config)
    by_size = pressure is not None and pressure.setting == "batch_size"
    batch_size = config.backpressure.max_batch_size if by_size else config.batch_size
    training = config.max_steps * batch_size * config.group_size * rounds
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
    notes += _notes_on_credit(config)
    warnings += _warnings_of_the_method(config)
    if config.group_size == 1 and config.advantage_mode not in OF_THE_BATCH:
        warnings.append("group_size = 1: every advantage is 0 and nothing will be learned")
    if config.backend == "openai":
        notes += _notes_on_server(config)
    if config.backend == "tinker":
        notes += _notes_on_tinker(config, counted=isinstance(problems, ListedProblems))
        warnings += [text for text in (missing_key(config.policy.tinker),) if text]
    if config.top_p < 1:
        warnings.append(
            f"top_p = {config.top_p:g}: the sampler is truncated, the trained policy is not"
        )
    if pressure is not None:
        levels = ", ".join(str(level) for level in pressure.levels)
        notes.append(f"backpressure tries {pressure.setting} at {levels} side by side")
    if by_size:
        warnings.append(
            "backpressure.changes = 'batch_size': the batch, and so the experiment, depends on the "
            "machine's speed; runs do not repeat and conditions do not compare"
        )
    return Forecast(
        preload=PRELOAD[config.backend],
        costs={
            "steps": float(config.max_steps),
            "training completions": float(training),
            "completions": float(completions),
            "sampled tokens": float(completions * config.max_tokens),
            **_costs_of_service(config, problems, rounds=rounds, evaluations=evaluations),
        },
        notes=tuple(notes),
        warnings=tuple(warnings),
        depends_on={
            "data": {
                "source": config.problems.source,
                "sha256": problems.sha256,
                "held_out": config.evaluation.problems,
            }
        },
    )


def _costs_of_service(
    config: TrainConfig, problems: ProblemSet, *, rounds: int, evaluations: int
) -> dict[str, float]:
    if config.backend != "tinker":
        return {}
    listed = problems.everything if isinstance(problems, ListedProblems) else None
    return service_costs(
        config,
        rounds=rounds,
        evaluations=evaluations,
        prompt_tokens=None if listed is None else longest_prompt(listed, config),
    )


def _notes_on_server(config: TrainConfig) -> list[str]:
    notes = [
        f"a server samples: {config.policy.openai.base_url} ({config.policy.openai.flavour}); the "
        "run repeats in distribution, not in its bytes"
    ]
    if (config.temperature, config.top_p) != (1.0, 1.0):
        notes.append(
            f"temperature {config.temperature:g} and top_p {config.top_p:g}: the server must tell "
            "the log-probabilities it draws from (vLLM: --logprobs-mode processed_logprobs), and "
            "each batch is scored once more here"
        )
    return notes


def _notes_on_tinker(config: TrainConfig, *, counted: bool) -> list[str]:
    """Say what a plan cannot promise of a server.

    Args:
        counted: whether the bounds on tokens hold the prompts.
    """
    settings = config.policy.tinker
    where = settings.base_url or "the hosted service"
    prompts = "prompts included" if counted else "prompts come on top of scored and trained tokens"
    return [
        f"a Tinker server samples and trains: {where}, LoRA rank {config.policy.lora.rank}; its "
        "own generator draws, and a run repeats in its bytes only where the server does",
        f"at most {settings.max_in_flight} requests for samples in flight over all runs of this "
        "machine (policy.tinker.max_in_flight)",
        f"bounds count every completion at max_tokens, {prompts}; repeated requests come on top",
    ]


def _notes_on_credit(config: TrainConfig) -> list[str]:
    notes = []
    if config.uninformative_groups == "resample":
        notes.append(
            f"a step samples up to {config.resample_rounds} rounds of {config.batch_size} problems "
            "until as many groups differ; the costs are those of all rounds"
        )
    if config.transform_mode in BATCH_TRANSFORMS:
        notes.append(
            f"transform_mode '{config.transform_mode}' scores the batch before the update: one "
            "forward pass more a step"
        )
    if config.loss.kind == "gspo" and config.transform_mode != "none":
        notes.append(
            f"loss.kind 'gspo' with transform_mode '{config.transform_mode}': GSPO's token form, "
            "one ratio a completion and an advantage a token"
        )
    return notes


def _warnings_of_the_method(config: TrainConfig) -> list[str]:
    loss, warnings = config.loss, []
    if loss.kind != "importance_sampling" and config.updates_per_batch == 1:
        warnings.append(
            f"loss.kind '{loss.kind}' with updates_per_batch = 1: the ratio is 1, no clip ever "
            "acts, and the gradient is that of importance_sampling; use updates_per_batch of 2 or "
            "more to try the clip"
        )
    if config.gtpo_normalize == "outcome":
        warnings.append(
            "gtpo_normalize = 'outcome': the advantages of successes sum to zero, and so do those "
            "of failures: right and wrong are no longer told apart, only tokens within each"
        )
    if loss.kind == "gspo" and loss.clip_eps > GSPO_WIDE:
        warnings.append(
            f"loss.clip_eps = {loss.clip_eps:g} with loss.kind 'gspo': its ratio is a mean over a "
            "completion's tokens and hardly leaves 1; the paper uses 3e-4 and 4e-4"
        )
    return warnings


def evaluation_steps(config: TrainConfig) -> list[int]:
    """Return the numbers of updates after which the policy is evaluated."""
    return sorted({*range(0, config.max_steps, config.evaluation.every), config.max_steps})


def check_backend(config: TrainConfig) -> None:
    """Refuse settings that the backend cannot run.

    Raises:
        PlanError: the backend and the problems do not go together, or there is no such model.
        MissingExtraError: the backend's extra is not installed.
    """
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
    if config.loss.kl_coef > 0 and config.backend not in REFERENCE_BACKENDS:
        raise PlanError(
            f"loss.kl_coef = {config.loss.kl_coef:g}: backend '{config.backend}' keeps no "
            f"reference policy (those that do: {', '.join(REFERENCE_BACKENDS)}); set "
            "loss.kl_coef = 0"
        )
    if config.backend == "toy":
        return
    if config.backend == "tinker":
        need_tinker("backend 'tinker'")
        return
    for module in ("torch", "transformers"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(f"backend '{config.backend}'", "torch")
    if config.backend == "openai":
        _check_server(config)
    if config.policy.lora.rank and importlib.util.find_spec("peft") is None:
        raise MissingExtraError(f"policy.lora.rank = {config.policy.lora.rank}", "lora")
    model = config.model
    if model is not None and model.startswith((".", "/", "~")):
        folder = Path(model).expanduser()
        if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise PlanError(
                f"model '{model}': no such model folder (it must hold config.json, the weights and "
                "the tokenizer files, or be a folder of adapters)"
            )


def _check_server(config: TrainConfig) -> None:
    """Refuse what no server could do for this config; the server itself is not asked."""
    settings = config.policy.openai
    if importlib.util.find_spec("openai") is None:
        raise MissingExtraError("backend 'openai'", "api")
    read_key(settings)
    if settings.flavour == "sglang" and min(config.top_p, config.evaluation.top_p) < 1:
        raise PlanError(
            "top_p below 1 with policy.openai.flavour = 'sglang', whose log-probabilities leave "
            "the cut out: the sampler's own probabilities would not be known. Use top_p = 1"
        )


def _check_pressure(config: TrainConfig) -> None:
    chosen = config.backpressure
    if chosen.enabled and chosen.changes == "concurrency" and config.backend == "tinker":
        raise PlanError(
            "backpressure with backend 'tinker', whose server arranges its own work; set "
            "policy.tinker.max_in_flight instead"
        )
    if (
        chosen.enabled
        and chosen.changes == "concurrency"
        and chosen.stage == "update"
        and config.backend == "toy"
    ):
        raise PlanError(
            "backpressure.stage 'update' with backend 'toy', whose table is updated in one go; use "
            "stage 'sampling', or backend 'tiny' or 'torch'"
        )
