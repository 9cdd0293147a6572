"""One graded batch: problems, their completions, and the grades.

Knows how to sample and grade. Refuses to know advantages, losses and where rows are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cupel.errors import DataError
from cupel.lab.randomness import Randomness
from cupel.policy.protocol import Completions, Policy, Tokenizer
from cupel.policy.tokens import PieceTokenizer
from cupel.rlvr.config import TrainConfig
from cupel.rlvr.graders import check_failures, grader_of
from cupel.rlvr.grading import Grade
from cupel.rlvr.problems import Problem

TRAINING_ROUND = "sampling"
EVALUATION_ROUND = "evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedBatch:
    """P problems x group_size graded completions, problem-major (N rows).

    Attributes:
        rewards_PG: 1 for correct, else 0.
    """

    problems: Sequence[Problem]
    completions: Completions
    texts: Sequence[str]
    grades: Sequence[Grade]
    rewards_PG: NDArray[np.float64]

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
) -> GradedBatch:
    """Sample `group_size` completions a problem and grade them.

    A token's randomness depends on (run seed, purpose, round, problem's place, sample, position)
    alone, so a run's samples do not depend on what else is in the batch. A temperature of 0 is
    greedy.

    Raises:
        GateFailure: the grader fails on too many completions.
    """
    keys = [
        (round_number, place, sample)
        for place in range(len(problems))
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
    grades = grader_of(config.problems).grade(texts, answers)
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
