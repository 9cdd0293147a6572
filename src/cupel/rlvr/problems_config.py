"""The settings of a problem set: source, columns, prompt, grading and the held-out share.

Knows names, types, which of them go together, and what each source brings with it. Refuses to open
anything. What a source brings is laid under what was given, so that a run's record holds the
columns, the template and the grading that were in force.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cupel.config import Config, did_you_mean
from cupel.rlvr.grading import GradingKind

Source = Literal["arithmetic", "toy", "jsonl", "parquet", "math", "gsm8k", "datasets"]

MATH_SUBJECTS = (
    "intermediate_algebra",
    "precalculus",
    "number_theory",
    "counting_and_probability",
    "geometry",
    "algebra",
    "prealgebra",
)
"""Subjects of the MATH benchmark (arXiv:2103.03874); the first five are trained on by default."""

TEMPLATES: Mapping[str, str] = {
    "plain": "{problem}",
    "boxed": ("{problem}\n\nReason step by step, and put your final answer within \\boxed{}.\n"),
}
"""Named prompt templates."""

PATTERNS: Mapping[str, str] = {"gsm8k": r"####\s*(.+)"}
"""Named answer patterns, besides `boxed`, which no regular expression can read."""

SOURCE_DEFAULTS: Mapping[Source, Mapping[str, Any]] = {
    "toy": {"grading": "numeric"},
    "math": {
        "dataset": "EleutherAI/hendrycks_math",
        "subjects": list(MATH_SUBJECTS[:5]),
        "answer_field": "solution",
        "answer_pattern": "boxed",
        "subject_field": "type",
        "prompt_template": "boxed",
        "grading": "math",
    },
    "gsm8k": {
        "dataset": "openai/gsm8k",
        "dataset_config": "main",
        "prompt_field": "question",
        "answer_pattern": "gsm8k",
        "prompt_template": "boxed",
        "grading": "math",
    },
}
"""What a source brings with it; laid under what was given."""

FILE_SUFFIXES = (".jsonl", ".parquet")


class ProblemsConfig(Config):
    """Where problems come from, how they are asked, and what is held out."""

    source: Source = "arithmetic"
    """arithmetic: generated sums, endless; toy: one digit in, one digit out; jsonl, parquet: a file
    with a problem a row; math: the MATH benchmark; gsm8k: GSM8K; datasets: any data set of the
    hub."""
    path: str | None = None
    """The file (sources jsonl, parquet); a local copy that replaces the hub (math, gsm8k,
    datasets): a folder made by `save_to_disk` or laid out like the hub's repository, or a file."""
    dataset: str | None = None
    """Hub id of the data set; math and gsm8k know theirs."""
    dataset_config: str | None = None
    """Name of the data set's configuration; gsm8k: main; math has one a subject."""
    revision: str | None = None
    """Branch, tag or commit of the data set on the hub; None: the newest."""
    split: str = "train"
    """Split of the data set to train on."""
    held_out_split: str | None = None
    """Split of the data set that evaluation draws on (math, gsm8k on the hub or in a folder: test);
    none: a share of the training split, see `held_out_fraction`."""
    held_out_path: str | None = None
    """A second file that evaluation draws on (sources jsonl, parquet); None: a share of `path`."""
    subjects: list[str] | None = None
    """Use only these subjects; spelling of case, spaces and `&` does not matter. math:
    intermediate_algebra, precalculus, number_theory, counting_and_probability, geometry unless
    given; algebra and prealgebra are there too."""
    prompt_field: str = "problem"
    """Column of the problem's text (gsm8k: question)."""
    answer_field: str = "answer"
    """Column of the reference answer (math: solution)."""
    answer_pattern: str | None = None
    r"""How the answer stands in its column. None: the whole column; boxed: the last `\\boxed{...}`
    of a worked solution (math); gsm8k: what follows `####`; else a regular expression whose first
    group is the answer."""
    subject_field: str = "subject"
    """Column of the subject (math: type); absent columns leave it unknown."""
    level_field: str = "level"
    """Column of the level; absent columns leave it unknown."""
    prompt_template: str = "plain"
    """The prompt. plain: the problem alone; boxed (math, gsm8k): with the request to reason step by
    step and to box the answer; or a text of your own with {problem} where the problem goes."""
    chat_template: bool = False
    """Wrap the prompt as a user's message in the chat template of the model's tokenizer."""
    grading: GradingKind | None = None
    """boxed, numeric, string: text and exact numbers; math (math, gsm8k): algebra on the last box;
    custom: `grading_function`; None: numeric for toy, boxed elsewhere."""
    grading_function: str | None = None
    """`module:function` called with completion and reference answer (grading custom); it returns
    True, False, or None where there is no answer."""
    grading_deadline_s: float = Field(default=5.0, gt=0)
    """Processor seconds a completion may take to be graded (math, custom), and six times as many by
    the clock; then it is ungradable."""
    max_grader_failure_rate: float = Field(default=0.05, ge=0, le=1)
    """Largest share of a batch on which the grader may run out of time or break, up to sampling
    error; beyond, the run stops."""
    held_out_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of problems, by hash of their text, that training never sees; unused where the held-out
    problems have a split or a file of their own."""
    max_examples: int | None = Field(default=None, ge=1)
    """Use only so many problems of each split: the first of a jsonl or parquet file, those of
    lowest hash elsewhere, so that no subject comes first."""

    @model_validator(mode="before")
    @classmethod
    def _what_the_source_brings(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        brought = dict(SOURCE_DEFAULTS.get(data.get("source", "arithmetic"), {}))
        path = data.get("path")
        is_file = isinstance(path, str) and path.endswith(FILE_SUFFIXES)
        if data.get("source") in ("math", "gsm8k") and not is_file:
            brought["held_out_split"] = "test"
        return brought | dict(data)

    @field_validator("prompt_template")
    @classmethod
    def _template_holds_the_problem(cls, template: str) -> str:
        if template not in TEMPLATES and "{problem}" not in template:
            named = did_you_mean(template, sorted(TEMPLATES))
            raise ValueError(f"a prompt template is a name ({named}) or must contain {{problem}}")
        return template

    @field_validator("held_out_split")
    @classmethod
    def _none_is_none(cls, split: str | None) -> str | None:
        return None if split == "none" else split  # a TOML file has no other word for it

    @field_validator("answer_pattern")
    @classmethod
    def _pattern_has_a_group(cls, pattern: str | None) -> str | None:
        if pattern is not None and pattern not in ("boxed", *PATTERNS):
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
            if groups < 1:
                raise ValueError("must have a (group) that holds the answer, or be boxed or gsm8k")
        return pattern

    @field_validator("subjects")
    @classmethod
    def _subjects_are_some(cls, subjects: list[str] | None) -> list[str] | None:
        if subjects is None:
            return None
        if not subjects:
            raise ValueError("an empty list selects nothing; name a subject, or leave it out")
        return list(dict.fromkeys(subject_key(subject) for subject in subjects))

    @model_validator(mode="after")
    def _settings_agree(self) -> ProblemsConfig:
        self._check_place()
        if self.source == "math":
            for subject in self.subjects or ():
                if subject not in MATH_SUBJECTS:
                    raise ValueError(
                        f"subject '{subject}' is not in MATH; "
                        f"{did_you_mean(subject, MATH_SUBJECTS)}"
                    )
        if (self.grading == "custom") != (self.grading_function is not None):
            raise ValueError(
                f"grading '{self.grading}' with grading_function {self.grading_function!r}: "
                "a function is needed with grading 'custom' and means nothing elsewhere"
            )
        if self.grading_function is not None and not _FUNCTION.fullmatch(self.grading_function):
            raise ValueError(
                f"grading_function {self.grading_function!r}: expected module:function"
            )
        return self

    def _check_place(self) -> None:
        """Refuse places that do not go with the source."""
        is_file = self.source in ("jsonl", "parquet")
        if self.source in ("arithmetic", "toy", "jsonl", "parquet"):
            if is_file != (self.path is not None):
                raise ValueError(
                    f"source '{self.source}' with path {self.path!r}: "
                    "a path is needed with a file source and means nothing with an embedded one"
                )
            for name in ("dataset", "dataset_config", "revision", "held_out_split"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} means nothing with source '{self.source}'")
        elif self.path is None and self.dataset is None:
            raise ValueError(
                "source 'datasets' needs dataset = a hub id, such as 'openai/gsm8k', or path = a "
                "local copy"
            )
        if self.held_out_path is not None and not is_file:
            raise ValueError(
                f"held_out_path means nothing with source '{self.source}'; use held_out_split"
            )
        if self.source in ("arithmetic", "toy") and self.subjects is not None:
            raise ValueError(f"subjects means nothing with source '{self.source}'")

    @property
    def grading_kind(self) -> GradingKind:
        """The grading kind in force."""
        return "boxed" if self.grading is None else self.grading

    @property
    def template(self) -> str:
        """The text of the prompt template."""
        return TEMPLATES.get(self.prompt_template, self.prompt_template)


_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def subject_key(subject: str) -> str:
    """Return a subject as the hub spells it.

    >>> subject_key("Counting & Probability")
    'counting_and_probability'
    """
    return re.sub(r"[^a-z0-9]+", "_", subject.lower().replace("&", " and ")).strip("_")
