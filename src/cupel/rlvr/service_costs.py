"""What a run asks of a service that samples and trains: bounds on its requests and tokens.

Knows which calls a step, an evaluation and a checkpoint make. Refuses to know prices, which
change, and a tokenizer, which a plan may not have: a token is at least one byte of a prompt, so
bytes bound tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from cupel.rlvr.config import TrainConfig
from cupel.rlvr.problem import Problem

OPENING_REQUESTS = 50
"""Session, models, tokenizer, adapters, and the experiments on throw-away adapters."""

CHAT_TOKENS = 64
"""Tokens that a chat template may lay around a prompt."""

VERIFIED_ROWS = 8
"""Rows of the first batch that are scored once more, to hold sampler and trainer together."""


def longest_prompt(problems: Iterable[Problem], config: TrainConfig) -> int:
    """Return a bound on the tokens of any of these prompts."""
    longest = max((len(problem.prompt.encode()) for problem in problems), default=0)
    return longest + 1 + (CHAT_TOKENS if config.problems.chat_template else 0)


def service_costs(
    config: TrainConfig, *, rounds: int, evaluations: int, prompt_tokens: int | None
) -> dict[str, float]:
    """Return bounds of one run, requests that had to be repeated aside.

    Args:
        rounds: most rounds of sampling a step.
        evaluations: how many there are.
        prompt_tokens: bound on a prompt; None: not known, and completions alone are counted.
    """
    groups = config.max_steps * config.batch_size * rounds
    asked = config.evaluation.problems * (1 + int(config.evaluation.greedy))
    saves = config.max_steps // config.save_every if config.save_every else 0
    per_step = 2 + 3 * config.updates_per_batch  # weights to the sampler; scores, gradient, step
    steps = config.max_steps * per_step + evaluations
    requests = OPENING_REQUESTS + groups + evaluations * asked + steps + saves
    costs = {"requests": float(requests)}
    if prompt_tokens is not None:
        costs["prompt tokens"] = float((groups + evaluations * asked) * prompt_tokens)
    rows = groups * config.group_size
    row = (prompt_tokens or 0) + config.max_tokens
    unlike = evaluations * config.evaluation.problems * config.evaluation.samples
    scored = (rows + VERIFIED_ROWS) * (1 + config.updates_per_batch)
    if (config.evaluation.temperature, config.evaluation.top_p) != (1.0, 1.0):
        scored += unlike
    return costs | {
        "scored tokens": float(scored * row),
        "trained tokens": float(rows * config.updates_per_batch * row),
    }
