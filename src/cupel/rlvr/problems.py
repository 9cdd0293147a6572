"""Problem sets: problems to train on, drawn, and a fixed list that training never sees.

Knows the embedded generators and opens what a config names. Refuses to know policies, rewards and
columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from cupel.config import canonical_json
from cupel.errors import DataError
from cupel.rlvr.arithmetic import draw_chain
from cupel.rlvr.listed_problems import ListedProblems
from cupel.rlvr.problem import Problem, is_held_out, text_hash
from cupel.rlvr.problem_sources import read_problems
from cupel.rlvr.problems_config import ProblemsConfig, Source

__all__ = [
    "GeneratedProblems",
    "ListedProblems",
    "Problem",
    "ProblemSet",
    "ProblemsConfig",
    "ToyProblems",
    "load_problems",
]

HELD_OUT_SEED = 20_260_101
"""Seeds the one fixed list of held-out problems of each generated source."""


HASHED_PROBLEMS = 64
"""Held-out problems by which a generated source is told from another."""


class ProblemSet(Protocol):
    """Problems to train on, drawn; and a fixed list of problems that training never sees."""

    notes: Sequence[str]
    """What a reader of the run's record should know about the source."""

    def training(self, rng: np.random.Generator, count: int) -> list[Problem]:
        """Return the next `count` training problems; the order comes from `rng` alone."""
        ...

    def held_out(self, count: int) -> list[Problem]:
        """Return the first `count` held-out problems: the same ones in every run."""
        ...

    @property
    def sha256(self) -> str:
        """Hash by which another machine can tell that it has the same problems."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep besides the generator's state; JSON-able."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        ...


def load_problems(config: ProblemsConfig) -> ProblemSet:
    """Open the problem set that a config names.

    Raises:
        DataError: the file or data set is missing, empty or damaged (names place and column).
        MissingExtraError: a library is not installed.
    """
    match config.source:
        case "arithmetic":
            return GeneratedProblems(draw_arithmetic, config)
        case "toy":
            return ToyProblems(config)
        case "jsonl" | "parquet" | "math" | "gsm8k" | "datasets":
            return ListedProblems(read_problems(config), held_out_fraction=config.held_out_fraction)


def draw_arithmetic(rng: np.random.Generator) -> Problem:
    """Draw a problem of the arithmetic language; its level is the number of steps."""
    chain = draw_chain(rng)
    return Problem(
        id=text_hash(chain.text)[:12],
        prompt=chain.text,
        answer=str(chain.answer),
        subject="arithmetic",
        level=str(len(chain.steps)),
    )


class GeneratedProblems:
    """An endless source: problems are drawn, and those of the other split are passed over."""

    def __init__(
        self, draw: Callable[[np.random.Generator], Problem], config: ProblemsConfig
    ) -> None:
        self.notes: Sequence[str] = ()
        self._draw = draw
        self._config = config

    def training(self, rng: np.random.Generator, count: int) -> list[Problem]:
        """Draw `count` training problems; a problem may come back."""
        return [self._draw_from(rng, held_out=False) for _ in range(count)]

    def held_out(self, count: int) -> list[Problem]:
        """Draw `count` distinct held-out problems from a generator with a fixed seed.

        Raises:
            DataError: the source has not so many distinct held-out problems.
        """
        rng = np.random.default_rng(HELD_OUT_SEED)
        found: dict[str, Problem] = {}
        for _ in range(100 * count):
            problem = self._draw_from(rng, held_out=True)
            found.setdefault(problem.id, problem)
            if len(found) == count:
                return list(found.values())
        raise DataError(
            f"problems: source '{self._config.source}' yields only {len(found)} distinct held-out "
            f"problems, {count} were asked for; lower evaluation.problems or raise "
            "problems.held_out_fraction"
        )

    @property
    def sha256(self) -> str:
        """Hash of the first held-out problems, which tells one generator from another."""
        return _hash_of(self.held_out(HASHED_PROBLEMS))

    def state(self) -> dict[str, Any]:
        """Nothing: the generator's own state is all there is."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Accept the empty state.

        Raises:
            DataError: the state belongs to another kind of source.
        """
        _expect_empty(state, self._config.source)

    def _draw_from(self, rng: np.random.Generator, *, held_out: bool) -> Problem:
        while True:
            problem = self._draw(rng)
            if is_held_out(problem.prompt, self._config.held_out_fraction) == held_out:
                return _templated(problem, self._config)


class ToyProblems:
    """One digit in, one digit out, for a policy that is a table.

    A table cannot generalise, so here, and only here, the held-out problems are the training
    problems: held-out accuracy then says what was learned, not what carries over.
    """

    PROBLEMS = tuple(
        Problem(
            id=text_hash(str(digit))[:12],
            prompt=str(digit),
            answer=str((3 * digit + 1) % 10),
            subject="toy",
            level="1",
        )
        for digit in range(8)
    )

    def __init__(self, config: ProblemsConfig) -> None:
        self.notes: Sequence[str] = ("toy: the held-out problems are the training problems",)
        self._problems = [_templated(problem, config) for problem in self.PROBLEMS]

    def training(self, rng: np.random.Generator, count: int) -> list[Problem]:
        """Draw `count` problems with replacement."""
        return [self._problems[int(rng.random() * len(self._problems))] for _ in range(count)]

    def held_out(self, count: int) -> list[Problem]:
        """Return the first `count` of the eight problems.

        Raises:
            DataError: more than eight were asked for.
        """
        if count > len(self._problems):
            raise DataError(
                f"problems: source 'toy' has {len(self._problems)} problems, {count} were asked "
                "for; lower evaluation.problems"
            )
        return self._problems[:count]

    @property
    def sha256(self) -> str:
        """Hash of the eight problems."""
        return _hash_of(self._problems)

    def state(self) -> dict[str, Any]:
        """Nothing: the generator's own state is all there is."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Accept the empty state; see `GeneratedProblems.restore`."""
        _expect_empty(state, "toy")


def _templated(problem: Problem, config: ProblemsConfig) -> Problem:
    return replace(problem, prompt=config.template.replace("{problem}", problem.prompt))


def _hash_of(problems: Sequence[Problem]) -> str:
    return text_hash(canonical_json([[problem.prompt, problem.answer] for problem in problems]))


def _expect_empty(state: Mapping[str, Any], source: Source) -> None:
    if state:
        raise DataError(
            f"problems: a checkpoint of a file source cannot continue source '{source}'; "
            "resume with the config the run began with"
        )
