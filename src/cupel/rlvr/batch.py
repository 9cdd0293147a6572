"""One graded batch: problems, their completions, and the grades.

Knows how to sample and grade, once or until enough groups differ. Refuses to know the size of
an advantage, losses and where rows are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.errors import DataError
from cupel.lab.randomness import Randomness
from cupel.lab.ranks import ALONE, Ranks
from cupel.policy.protocol import Completions, Policy, Tokenizer
from cupel.policy.tokens import PieceTokenizer
from cupel.rlvr.advantages import mixed_groups
from cupel.rlvr.config import TrainConfig
from cupel.rlvr.graders import check_failures, grader_of
from cupel.rlvr.grading import Grade
from cupel.rlvr.problems import Problem, ProblemSet

TRAINING_ROUND = "sampling"
EVALUATION_ROUND = "evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedBatch:
    """P problems x group_size graded completions, problem-major (N rows).

    Attributes:
        rewards_PG: 1 for correct, else 0.
        rounds: rounds of sampling behind it.
    """

    problems: Sequence[Problem]
    completions: Completions
    texts: Sequence[str]
    grades: Sequence[Grade]
    rewards_PG: NDArray[np.float64]
    rounds: int = 1

    def count(self, outcome: str) -> int:
        """Return how many completions have this outcome."""
        return sum(grade.outcome == outcome for grade in self.grades)

    @property
    def grader_failures(self) -> int:
        """Number of completions on which the grader ran out of time or broke."""
        return sum(grade.grader_failed for grade in self.grades)

    @property
    def size(self) -> int:
        """Number of completions N."""
        return len(self.grades)

    @property
    def correct_rate(self) -> float:
        """Correct over all completions."""
        return self.count("correct") / self.size

    @property
    def distinct_in_group(self) -> float:
        """Mean share of different completions within a group."""
        group = self.completions.group_size
        rows = [
            self.completions.tokens_NT[n, : self.completions.lengths_N[n]].tobytes()
            for n in range(self.size)
        ]
        shares = [
            len(set(rows[start : start + group])) / group for start in range(0, len(rows), group)
        ]
        return float(np.mean(shares))


def sample_training_batch(
    policy: Policy,
    problems: ProblemSet,
    config: TrainConfig,
    randomness: Randomness,
    *,
    step: int,
    ranks: Ranks = ALONE,
) -> GradedBatch:
    """Sample the batch of a step: `batch_size` problems, and under `resample` more in rounds.

    A round draws `batch_size` further problems; rounds end once `batch_size` groups have rewards
    that differ, or after `resample_rounds`. Every sampled group is in the batch, whatever its
    rewards. The first round is the batch that a run without resampling would have had.

    Source: dynamic sampling, DAPO, arXiv:2503.14476 eq. 11. Departure: a bound on the rounds.
    """
    most = config.resample_rounds if config.uninformative_groups == "resample" else 1
    rounds: list[GradedBatch] = []
    found = 0
    while len(rounds) < most and found < config.batch_size:
        number = len(rounds)
        order = randomness.generator("problem_order", *((step, number) if number else (step,)))
        rounds.append(
            sample_batch(
                policy,
                problems.training(order, config.batch_size),
                config,
                randomness,
                purpose=TRAINING_ROUND,
                round_number=step,
                group_size=config.group_size,
                temperature=config.temperature,
                top_p=config.top_p,
                first_place=number * config.batch_size,
                ranks=ranks,
            )
        )
        found += int(mixed_groups(rounds[-1].rewards_PG).sum())
    return rounds[0] if len(rounds) == 1 else joined(rounds)


def joined(rounds: Sequence[GradedBatch]) -> GradedBatch:
    """Return the groups of several rounds as one batch, in order."""
    parts = [one.completions for one in rounds]
    width = max(part.tokens_NT.shape[1] for part in parts)
    unknown = any(part.sampler_logprobs_NT is None for part in parts)

    def rows(name: str) -> NDArray[Any]:
        arrays = [getattr(part, name) for part in parts]
        if arrays[0].ndim == 2:
            arrays = [np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in arrays]
        return np.concatenate(arrays)

    return GradedBatch(
        problems=[problem for one in rounds for problem in one.problems],
        completions=Completions(
            prompts=tuple(prompt for part in parts for prompt in part.prompts),
            group_size=parts[0].group_size,
            tokens_NT=rows("tokens_NT"),
            lengths_N=rows("lengths_N"),
            finished_N=rows("finished_N"),
            sampler_logprobs_NT=None if unknown else rows("sampler_logprobs_NT"),
            policy_logprobs_NT=rows("policy_logprobs_NT"),
        ),
        texts=[text for one in rounds for text in one.texts],
        grades=[grade for one in rounds for grade in one.grades],
        rewards_PG=np.concatenate([one.rewards_PG for one in rounds]),
        rounds=len(rounds),
    )


def sample_batch(
    policy: Policy,
    problems: Sequence[Problem],
    config: TrainConfig,
    randomness: Randomness,
    *,
    purpose: str,
    round_number: int,
    group_size: int,
    temperature: float,
    top_p: float = 1.0,
    first_place: int = 0,
    ranks: Ranks = ALONE,
) -> GradedBatch:
    """Sample `group_size` completions a problem and grade them.

    A token's randomness depends on (run seed, purpose, round, problem's place, sample, position)
    alone, so a run's samples do not depend on what else is in the batch. A temperature of 0 is
    greedy.

    Args:
        first_place: place of the first problem within its round of training or evaluation.
        ranks: the processes that hold the policy.

    Raises:
        GateFailure: the grader fails on too many completions.
    """
    keys = [
        (round_number, place, sample)
        for place in range(first_place, first_place + len(problems))
        for sample in range(group_size)
    ]
    completions = policy.sample(
        [encoded(problem.prompt, policy.tokenizer, config) for problem in problems],
        group_size=group_size,
        max_tokens=config.max_tokens,
        temperature=temperature,
        top_p=top_p,
        uniforms_NT=randomness.uniforms(f"{purpose}/{config.replicate}", keys, config.max_tokens),
    )
    lengths = completions.lengths_N.tolist()
    texts = [
        policy.tokenizer.decode(row[:length].tolist())
        for row, length in zip(completions.tokens_NT, lengths, strict=True)
    ]
    answers = [problem.answer for problem in problems for _ in range(group_size)]
    grader = grader_of(config.problems)
    # graded once: a verdict that hangs on a deadline must be the same in every process
    grades = ranks.share(grader.grade(texts, answers) if ranks.is_first else None)
    check_failures(grades, config.problems.max_grader_failure_rate)
    rewards_N = np.array([grade.reward for grade in grades])
    return GradedBatch(
        problems=problems,
        completions=completions,
        texts=texts,
        grades=grades,
        rewards_PG=rewards_N.reshape(len(problems), group_size),
    )


def encoded(prompt: str, tokenizer: Tokenizer, config: TrainConfig) -> list[int]:
    """Return a prompt's token ids, as a user's message where the config wants a chat template.

    Raises:
        DataError: the tokenizer has no chat template.
    """
    if not config.problems.chat_template:
        return tokenizer.encode(prompt)
    if not isinstance(tokenizer, PieceTokenizer):
        raise DataError(
            f"problems.chat_template: {type(tokenizer).__name__} has no chat template; leave it off"
        )
    return tokenizer.encode_chat(prompt)
