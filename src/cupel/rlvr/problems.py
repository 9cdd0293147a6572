"""Problems: a prompt, its checkable answer, and which of two fixed splits it belongs to.

Knows the embedded generators and JSONL files. Refuses to know policies and rewards. A problem's
split depends on a hash of its text and on nothing else, so that no order, seed or file can move a
held-out problem into training.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cupel.errors import DataError
from cupel.rlvr.arithmetic import draw_chain
from cupel.rlvr.grading import GradingKind, gold_text, grade, perturbed
from cupel.rlvr.problem_files import column, read_rows
from cupel.rlvr.problems_config import ProblemsConfig, Source

__all__ = [
    "FileProblems",
    "GeneratedProblems",
    "Problem",
    "ProblemCheck",
    "ProblemSet",
    "ProblemsConfig",
    "ToyProblems",
    "check_problems",
    "is_held_out",
    "load_problems",
]

HELD_OUT_SEED = 20_260_101
"""Seeds the one fixed list of held-out problems of each generated source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One prompt with a checkable answer.

    Attributes:
        id: first 12 hex digits of the SHA-256 of the problem's text, before the template.
        prompt: what the policy is given, template applied.
        answer: the reference answer, never empty.
        subject, level: for breakdowns; None where the source does not say.
    """

    id: str
    prompt: str
    answer: str
    subject: str | None = None
    level: str | None = None


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

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep besides the generator's state; JSON-able."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        ...


def load_problems(config: ProblemsConfig) -> ProblemSet:
    """Open the problem set that a config names.

    Raises:
        DataError: the file is missing, empty or damaged (names file, line and column).
    """
    match config.source:
        case "arithmetic":
            return GeneratedProblems(draw_arithmetic, config)
        case "toy":
            return ToyProblems(config)
        case "jsonl":
            assert config.path is not None  # the config's validator saw to it
            return FileProblems(Path(config.path), config)


def text_hash(text: str) -> str:
    """Return the SHA-256 of a problem's text in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_held_out(text: str, fraction: float) -> bool:
    """Say whether a problem's text falls into the held-out split."""
    return int(text_hash(text)[:13], 16) < fraction * 16.0**13


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

    def state(self) -> dict[str, Any]:
        """Nothing: the generator's own state is all there is."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Accept the empty state; see `GeneratedProblems.restore`."""
        _expect_empty(state, "toy")


class FileProblems:
    """A JSONL file: training order shuffled an epoch at a time, held-out order by hash."""

    def __init__(self, path: Path, config: ProblemsConfig) -> None:
        texts = _read_file(path, config)
        fraction = config.held_out_fraction
        held_out = [text for text in texts if is_held_out(text, fraction)]
        self._where = str(path)
        self._held_out = [texts[text] for text in sorted(held_out, key=text_hash)]
        self._training = [
            problem for text, problem in texts.items() if not is_held_out(text, fraction)
        ]
        if not self._training:
            raise DataError(
                f"{path}: all {len(texts)} problems fall into the held-out split; "
                "lower problems.held_out_fraction or give more problems"
            )
        self._remaining: list[int] = []
        self.notes: Sequence[str] = (
            f"{path}: {len(self._training)} training and {len(self._held_out)} held-out problems",
        )

    def training(self, rng: np.random.Generator, count: int) -> list[Problem]:
        """Take the next `count` problems; every problem comes once an epoch."""
        taken: list[Problem] = []
        while len(taken) < count:
            if not self._remaining:
                self._remaining = rng.permutation(len(self._training)).tolist()
            wanted = count - len(taken)
            taken += [self._training[index] for index in self._remaining[:wanted]]
            self._remaining = self._remaining[wanted:]
        return taken

    def held_out(self, count: int) -> list[Problem]:
        """Return the `count` held-out problems of lowest hash, whatever the file's order.

        Raises:
            DataError: the file has not so many held-out problems.
        """
        if count > len(self._held_out):
            raise DataError(
                f"{self._where}: {len(self._held_out)} held-out problems, {count} were asked for; "
                "lower evaluation.problems or raise problems.held_out_fraction"
            )
        return self._held_out[:count]

    def state(self) -> dict[str, Any]:
        """Return the rest of the running epoch."""
        return {"remaining": list(self._remaining)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue inside the epoch that `state` was taken in.

        Raises:
            DataError: the state does not fit this file.
        """
        remaining = state.get("remaining")
        if not isinstance(remaining, list) or not all(
            isinstance(index, int) and 0 <= index < len(self._training) for index in remaining
        ):
            raise DataError(
                f"{self._where}: the checkpoint's problem order does not fit this file; "
                "resume with the file the run began with"
            )
        self._remaining = list(remaining)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemCheck:
    """What `check_problems` found; ids of the problems that fail.

    Attributes:
        checked: how many problems were tried.
        gold_failed: the reference answer itself is not graded correct.
        perturbed_passed: a wrong answer is not graded incorrect.
    """

    checked: int
    gold_failed: tuple[str, ...]
    perturbed_passed: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True when gold passes and perturbed gold fails on every problem."""
        return not self.gold_failed and not self.perturbed_passed


def check_problems(problems: Sequence[Problem], kind: GradingKind) -> ProblemCheck:
    """Prove that a grading kind fits the problems: gold passes, perturbed gold fails."""
    gold_failed, perturbed_passed = [], []
    for problem in problems:
        gold = gold_text(problem.answer, kind)
        if grade(gold, problem.answer, kind).outcome != "correct":
            gold_failed.append(problem.id)
        wrong = gold_text(perturbed(problem.answer), kind)
        if grade(wrong, problem.answer, kind).outcome != "incorrect":
            perturbed_passed.append(problem.id)
    return ProblemCheck(
        checked=len(problems),
        gold_failed=tuple(gold_failed),
        perturbed_passed=tuple(perturbed_passed),
    )


def _read_file(path: Path, config: ProblemsConfig) -> dict[str, Problem]:
    """Read problems by text; a text that comes twice must come with the same answer."""
    problems: dict[str, Problem] = {}
    for number, row in read_rows(path, config.max_examples):
        where = f"{path} line {number}"
        text = column(row, config.prompt_field, "prompt_field", where)
        problem = Problem(
            id=text_hash(text)[:12],
            prompt=config.prompt_template.replace("{problem}", text),
            answer=_answer(row, config, where),
            subject=_label(row, config.subject_field),
            level=_label(row, config.level_field),
        )
        earlier = problems.setdefault(text, problem)
        if earlier.answer != problem.answer:
            raise DataError(
                f"{where}: the same problem was given before with answer {earlier.answer!r}, "
                f"here {problem.answer!r}; keep one"
            )
    if not problems:
        raise DataError(f"{path}: holds no problem; give one JSON object a line")
    return problems


def _answer(row: Mapping[str, Any], config: ProblemsConfig, where: str) -> str:
    text = column(row, config.answer_field, "answer_field", where)
    if config.answer_pattern is None:
        return text.strip()
    found = re.search(config.answer_pattern, text)
    answer = found.group(1) if found is not None else None
    if answer is None or not answer.strip():
        raise DataError(
            f"{where}: problems.answer_pattern {config.answer_pattern!r} finds no answer in column "
            f"'{config.answer_field}'; mend the pattern or the line"
        )
    return answer.strip()


def _label(row: Mapping[str, Any], field: str) -> str | None:
    value = row.get(field)
    return None if value is None else str(value)


def _templated(problem: Problem, config: ProblemsConfig) -> Problem:
    if config.prompt_template == "{problem}":
        return problem
    return Problem(
        id=problem.id,
        prompt=config.prompt_template.replace("{problem}", problem.prompt),
        answer=problem.answer,
        subject=problem.subject,
        level=problem.level,
    )


def _expect_empty(state: Mapping[str, Any], source: Source) -> None:
    if state:
        raise DataError(
            f"problems: a checkpoint of a file source cannot continue source '{source}'; "
            "resume with the config the run began with"
        )
