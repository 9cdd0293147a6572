"""The settings of a problem set: source, columns, prompt, grading and the held-out share.

Knows names, types and which of them go together. Refuses to open anything.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from cupel.config import Config
from cupel.rlvr.grading import GradingKind

Source = Literal["arithmetic", "toy", "jsonl"]


class ProblemsConfig(Config):
    """Where problems come from, how they are asked, and what is held out."""

    source: Source = "arithmetic"
    """arithmetic: generated sums, endless; toy: one digit in, one digit out; jsonl: a file."""
    path: str | None = None
    """The JSONL file, one problem a line (source jsonl)."""
    prompt_field: str = "problem"
    """Column of the problem's text."""
    answer_field: str = "answer"
    """Column of the reference answer."""
    answer_pattern: str | None = None
    r"""Regular expression whose first group is the answer inside `answer_field`, e.g.
    `####\\s*(.+)` for GSM8K; None: the whole column."""
    subject_field: str = "subject"
    """Column of the subject; absent columns leave it unknown."""
    level_field: str = "level"
    """Column of the level; absent columns leave it unknown."""
    prompt_template: str = "{problem}"
    """The prompt, with {problem} where the problem's text goes."""
    grading: GradingKind | None = None
    """boxed, numeric or string; None: numeric for toy, boxed elsewhere."""
    held_out_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of problems, by hash of their text, that training never sees."""
    max_examples: int | None = Field(default=None, ge=1)
    """Use only the first so many lines of the file."""

    @field_validator("prompt_template")
    @classmethod
    def _template_holds_the_problem(cls, template: str) -> str:
        if "{problem}" not in template:
            raise ValueError("a prompt template must contain {problem}")
        return template

    @field_validator("answer_pattern")
    @classmethod
    def _pattern_has_a_group(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
            if groups < 1:
                raise ValueError("must have a (group) that holds the answer")
        return pattern

    @model_validator(mode="after")
    def _path_goes_with_jsonl(self) -> ProblemsConfig:
        if (self.source == "jsonl") != (self.path is not None):
            raise ValueError(
                f"source '{self.source}' with path {self.path!r}: "
                "a path is needed with source 'jsonl' and means nothing elsewhere"
            )
        return self

    @property
    def grading_kind(self) -> GradingKind:
        """The grading kind in force."""
        if self.grading is not None:
            return self.grading
        return "numeric" if self.source == "toy" else "boxed"
