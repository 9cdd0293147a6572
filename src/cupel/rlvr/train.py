"""The training loop of reinforcement learning with verifiable rewards, and its recipe.

Reads like the algorithm: sample, grade, advantages, planning mask, credit, one update, one row.
Whatever has a formula stands in a pure module; whatever touches a model stands in the policy.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cupel.config import canonical_json
from cupel.errors import ConfigError, InfrastructureFailure
from cupel.lab.estimate import Measured, RunEstimate
from cupel.lab.metrics import Metric, Scalar
from cupel.lab.recipe import Forecast, Result, RunContext
from cupel.policy.build import build_policy
from cupel.policy.config import REMOTE
from cupel.policy.gate import sampler_statistics
from cupel.policy.protocol import Metered, Policy
from cupel.rlvr.advantages import advantages
from cupel.rlvr.backpressure import BackPressure
from cupel.rlvr.batch import sample_training_batch
from cupel.rlvr.concurrency import in_force, observe_step
from cupel.rlvr.config import TrainConfig, with_backend_defaults
from cupel.rlvr.evaluate import check_start, evaluate
from cupel.rlvr.forecast import evaluation_steps, forecast
from cupel.rlvr.graders import describe_grader
from cupel.rlvr.metrics import EVALUATIONS, METRICS
from cupel.rlvr.planning import PlanningDetector
from cupel.rlvr.problems import ProblemSet, load_problems
from cupel.rlvr.records import (
    StepRecord,
    emergence_step_row,
    entropy_moments,
    generation_rows,
    metrics_row,
)
from cupel.rlvr.schedules import SepaSchedule, learning_rate_at
from cupel.rlvr.shaping import Shaping, improve, length_penalties
from cupel.rlvr.token_records import TOKENS, token_rows


@dataclass(slots=True, kw_only=True)
class TrainState:
    """What changes from step to step; everything a checkpoint must hold, besides the weights."""

    policy: Policy
    problems: ProblemSet
    detector: PlanningDetector
    sepa: SepaSchedule
    pressure: BackPressure | None = None
    next_step: int = 0
    correct_total: int = 0
    sampled_total: int = 0
    start: Mapping[str, Scalar] | None = None
    latest: Mapping[str, Scalar] | None = None


class TrainRecipe:
    """`rlvr.train`: one run of reinforcement learning with verifiable rewards."""

    name = "rlvr.train"
    together = True
    config_type = TrainConfig
    streams: Mapping[str, Sequence[Metric] | None] = {
        "metrics.jsonl": METRICS,
        "evaluations.jsonl": EVALUATIONS,
        "evaluation_problems.jsonl": None,
        "evaluation_rates.jsonl": None,
        "emergence/steps.jsonl": None,
        "emergence/generations.jsonl": None,
        TOKENS: None,
    }
    preload = ("cupel.rlvr.train",)

    def prepare(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Expand `algorithm` and lay the backend's defaults under what the user passed."""
        return with_backend_defaults(data)

    def forecast(self, config: TrainConfig) -> Forecast:
        """Bound the cost of a run; refuse what the backend cannot do."""
        return forecast(config)

    def reach(self, config: TrainConfig) -> None:
        """Ask a Tinker server whether it is up and has the model."""
        if config.backend == "tinker":
            from cupel.policy.tinker.reach import check_tinker_server

            check_tinker_server(config.policy.of(config.backend, config.model))

    def probe(self, config: TrainConfig, context: RunContext) -> Iterator[Measured]:
        """Take three steps and a part of an evaluation."""
        from cupel.rlvr.probe import probe  # which takes the steps of this module

        return probe(config, context)

    def estimate(self, config: TrainConfig, measured: Sequence[Measured]) -> RunEstimate:
        """Say what a run takes, from what a probe measured."""
        from cupel.rlvr.probe import estimate_run

        return estimate_run(config, measured)

    def run(self, config: TrainConfig, context: RunContext) -> Result:
        """Train to the last step, evaluating on held-out problems on the way."""
        return train(config, context)


RECIPE = TrainRecipe()


def train(config: TrainConfig, context: RunContext, policy: Policy | None = None) -> Result:
    """Run the training loop from the start or from the checkpoint in `context`.

    Args:
        policy: train this one instead of building the one that `config` names.
    """
    state = open_state(config, context, policy or policy_of(config, context))
    evaluations = set(evaluation_steps(config))
    for step in range(state.next_step, config.max_steps):
        if step in evaluations:
            evaluate_policy(state, config, context, step)
        train_step(state, config, context, step)
        state.next_step = step + 1
        if config.save_every and state.next_step % config.save_every == 0:
            save(state, context)
    evaluate_policy(state, config, context, config.max_steps)
    return result(state)


def train_step(state: TrainState, config: TrainConfig, context: RunContext, step: int) -> None:
    """Take one step of the algorithm and write its rows."""
    sampling = in_force(state.pressure, state.policy, config)
    started = time.perf_counter()
    batch = sample_training_batch(
        state.policy, state.problems, sampling, context.randomness, step=step, ranks=context.ranks
    )
    sampled = time.perf_counter()
    completions = batch.completions
    penalties_PG = length_penalties(completions.lengths_N, config)
    shaping = Shaping(
        config=config,
        advantages_N=advantages(
            config.advantage_mode,
            batch.rewards_PG,
            normalize=config.normalize,
            penalties_PG=penalties_PG,
        ).reshape(-1),
        planning_NT=state.detector.mask(completions.tokens_NT, completions.lengths_N),
        mask_NT=completions.mask_NT,
        sepa_lambda=state.sepa.value(step),
        lr=learning_rate_at(step, config),
    )
    # where scores are kept, a server's sampler is held to them at every step, for nothing
    gate = step == 0 or config.backend == "tinker"
    update = improve(state.policy, completions, shaping, gate=gate)
    scores = state.policy.score(completions) if update is None else update.scores
    trained = time.perf_counter()

    state.correct_total += batch.count("correct")
    state.sampled_total += batch.size
    state.pressure, pressure = observe_step(
        state.pressure,
        step=step,
        sampled_tokens=int(completions.lengths_N.sum()),
        trained_tokens=0 if update is None else update.trained_tokens,
        sample_time_s=sampled - started,
        train_time_s=trained - sampled,
    )
    sampler = sampler_statistics(completions, scores.logprobs_NT)
    if step == 0 and config.backend in REMOTE:
        context.recorder.event(
            "the server's sampler against the trainer: largest difference of a token's "
            f"log-probability {sampler.sampler_gap_max:.2g} nats"
        )
    record = StepRecord(
        step=step,
        batch=batch,
        shaping=shaping,
        scores=scores,
        update=update,
        uncertainty_NT=shaping.uncertainty(scores),
        penalties_PG=penalties_PG,
        sampler=sampler,
        sepa_gate_open=state.sepa.gate_open,
        running_correct_rate=state.correct_total / state.sampled_total,
        sample_time_s=sampled - started,
        train_time_s=trained - sampled,
        step_time_s=trained - started,
        pressure=pressure,
    )
    moments = entropy_moments(record)
    context.recorder.log_many("emergence/generations.jsonl", generation_rows(record))
    context.recorder.log_many(TOKENS, token_rows(record, state.policy.tokenizer.piece_bytes))
    context.recorder.log("emergence/steps.jsonl", emergence_step_row(record, moments, context))
    # last, because an unhealthy row stops the run: what led there is on disk by then
    context.recorder.log("metrics.jsonl", metrics_row(record, moments, context))
    state.sepa = state.sepa.observe(batch.correct_rate, moments.execution.variance, step=step)


def policy_of(config: TrainConfig, context: RunContext) -> Policy:
    """Build the policy that the config names; with several processes, dealt out over them.

    Raises:
        ConfigError: several processes, and a backend that one process holds.
        InfrastructureFailure: a server that this run has worked with cannot be used any more.
    """
    try:
        policy = build_policy(
            config.policy.of(config.backend, config.model),
            device=context.slot.device,
            threads=context.slot.threads,
            seed=context.seed,
        )
    except ConfigError as error:
        if config.backend in REMOTE and context.resume is not None:
            raise InfrastructureFailure(str(error)) from None
        raise
    if context.ranks.count == 1:
        return policy
    if config.backpressure.enabled:
        raise ConfigError(
            f"backpressure.enabled with {context.ranks.count} processes: each would choose for "
            "itself; switch it off, or use one process"
        )
    from cupel.policy.parallel import data_parallel

    return data_parallel(policy, context.ranks)


def open_state(config: TrainConfig, context: RunContext, policy: Policy) -> TrainState:
    """Open the problems and the schedule; restore them and the policy when resuming."""
    state = TrainState(
        policy=policy,
        problems=load_problems(config.problems),
        detector=PlanningDetector(config.strategic_grams, policy.tokenizer.piece_bytes),
        sepa=SepaSchedule.from_config(config),
        pressure=BackPressure.from_config(config),
    )
    if config.backend == "tinker":
        from cupel.policy.tinker.reach import service_facts

        context.recorder.made_with(service_facts(policy.describe()))
    resume = context.ranks.share(context.resume)
    if resume is None:
        context.recorder.event(f"policy: {canonical_json(policy.describe())}")
        context.recorder.event(f"grader: {canonical_json(describe_grader(config.problems))}")
        for note in (f"prompt template: {config.problems.template!r}", *state.problems.notes):
            context.recorder.event(f"problems: {note}")
        return state
    saved = resume.state
    policy.load(resume.folder)
    state.problems.restore(saved["problems"])
    state.sepa = state.sepa.restore(saved["sepa"])
    if state.pressure is not None:
        state.pressure = state.pressure.restore(saved["pressure"])
    state.next_step = saved["next_step"]
    state.correct_total, state.sampled_total = saved["correct_total"], saved["sampled_total"]
    state.start, state.latest = saved["start"], saved["latest"]
    return state


def save(state: TrainState, context: RunContext) -> None:
    """Write a checkpoint from which the run continues to the same bytes; one process does."""
    if not context.ranks.is_first:
        state.policy.save(context.folder)  # writes nothing: hands over this process's part
        return
    context.checkpoints.save(
        state.next_step,
        state.policy.save,
        {
            "next_step": state.next_step,
            "correct_total": state.correct_total,
            "sampled_total": state.sampled_total,
            "problems": state.problems.state(),
            "sepa": state.sepa.state(),
            "pressure": None if state.pressure is None else state.pressure.state(),
            "start": state.start,
            "latest": state.latest,
        },
    )


def evaluate_policy(state: TrainState, config: TrainConfig, context: RunContext, step: int) -> None:
    """Evaluate after `step` updates and log the row; the first evaluation is also a gate."""
    evaluation = evaluate(state.policy, state.problems, config, context, step=step)
    context.recorder.log_many("evaluation_problems.jsonl", evaluation.problems)
    context.recorder.log_many("evaluation_rates.jsonl", evaluation.rates)
    context.recorder.log("evaluations.jsonl", evaluation.row)
    if state.start is None:
        check_start(evaluation.row, config)
        state.start = evaluation.row
    state.latest = evaluation.row


def result(state: TrainState) -> Result:
    """Return the run's numbers for result.json."""
    start, end = state.start or {}, state.latest or {}
    return Result(
        values={
            "steps": state.next_step,
            "accuracy_start": start.get("accuracy"),
            "accuracy_end": end.get("accuracy"),
            "greedy_accuracy_start": start.get("greedy_accuracy"),
            "greedy_accuracy_end": end.get("greedy_accuracy"),
            "running_correct_rate": state.correct_total / state.sampled_total,
            "weights_sha256": state.policy.weights_sha256(),
            **(state.policy.account() if isinstance(state.policy, Metered) else {}),
        }
    )
