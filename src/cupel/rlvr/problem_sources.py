"""From rows of a file or a data set to problems: columns, answers, subjects, templates.

Knows how each source's rows become problems and which rows evaluation draws on. Refuses to shuffle
and to split: `ListedProblems` does. No row is dropped in silence: what a setting leaves out is a
note, what is damaged is an error with its place.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cupel.config import did_you_mean
from cupel.errors import DataError
from cupel.rlvr.grading import reference_answer
from cupel.rlvr.hub_datasets import read_split, resolve_revision
from cupel.rlvr.problem import Problem, text_hash
from cupel.rlvr.problem_files import Rows, column, read_rows
from cupel.rlvr.problems_config import FILE_SUFFIXES, PATTERNS, ProblemsConfig, subject_key


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProblems:
    """The problems of a source, by text.

    Attributes:
        where: the place, for messages.
        main: what to train on; evaluation draws a share of it where `held_out` is None.
        held_out: problems with a split or a file of their own.
        notes: what a reader of the run's record should know.
    """

    where: str
    main: Mapping[str, Problem]
    held_out: Mapping[str, Problem] | None
    notes: Sequence[str]


def read_problems(config: ProblemsConfig) -> ReadProblems:
    """Read every problem of a file or a data set.

    Raises:
        DataError: a place, column, answer or subject is missing (says where and what to do).
        MissingExtraError: a library is not installed.
    """
    place = config.path if config.path is not None else config.dataset
    assert place is not None  # the config's validator saw to it
    notes: list[str] = []
    if config.source in ("jsonl", "parquet") or place.endswith(FILE_SUFFIXES):
        path = Path(place).expanduser()
        first = config.max_examples if config.source in ("jsonl", "parquet") else None
        main = _problems(read_rows(path, first), config, str(path))
        held_out = None
        if config.held_out_path is not None:
            other = Path(config.held_out_path).expanduser()
            held_out = _problems(read_rows(other, first), config, str(other))
        where = str(path)
    else:
        revision = None
        where = place
        if config.path is None:
            revision = resolve_revision(place, config.revision)
            where = f"{place}@{revision[:12]}"
            notes.append(f"data set {place}, revision {revision}")
        main = _split(config, place, config.split, revision)
        held_out = None
        if config.held_out_split is not None:
            held_out = _split(config, place, config.held_out_split, revision)
    if config.source not in ("jsonl", "parquet") and config.max_examples is not None:
        main = _lowest(main, config.max_examples)
        held_out = None if held_out is None else _lowest(held_out, config.max_examples)
    notes += _notes(where, main, held_out, config.subjects or ())
    return ReadProblems(where=where, main=main, held_out=held_out, notes=notes)


def _split(
    config: ProblemsConfig, place: str, split: str, revision: str | None
) -> dict[str, Problem]:
    """Read one split, of every subject's configuration where the source has one a subject."""
    where = f"{place} {split}"
    if config.source != "math":
        rows = read_split(place, config.dataset_config, split, revision=revision)
        return _problems(rows, config, where)
    rows = []
    for subject in config.subjects or ():
        for here, row in read_split(place, subject, split, revision=revision):
            rows.append((here, {config.subject_field: subject, **row}))
    return _problems(rows, config, where)


def _problems(rows: Rows, config: ProblemsConfig, place: str) -> dict[str, Problem]:
    """Turn rows into problems by text; a text that comes twice must come with the same answer."""
    problems: dict[str, Problem] = {}
    seen: set[str] = set()
    for where, row in rows:
        subject = _subject(row, config)
        seen.add(subject or "")
        if config.subjects is not None and subject_key(subject or "") not in config.subjects:
            continue
        text = column(row, config.prompt_field, "prompt_field", where)
        problem = Problem(
            id=text_hash(text)[:12],
            prompt=config.template.replace("{problem}", text),
            answer=_answer(row, config, where),
            subject=subject,
            level=_level(row, config),
        )
        earlier = problems.setdefault(text, problem)
        if earlier.answer != problem.answer:
            raise DataError(
                f"{where}: the same problem was given before with answer {earlier.answer!r}, "
                f"here {problem.answer!r}; keep one"
            )
    if not rows:
        raise DataError(f"{place}: holds no problem; give one a row")
    _check_subjects(config, seen, place)
    return problems


def _check_subjects(config: ProblemsConfig, seen: set[str], place: str) -> None:
    known = {subject_key(subject) for subject in seen if subject}
    for subject in config.subjects or ():
        if not known:
            raise DataError(
                f"{place}: problems.subjects = {config.subjects} but no row has a column "
                f"'{config.subject_field}'; set problems.subject_field, or leave subjects out"
            )
        # a sample of MATH need not hold all five default subjects; a subject nobody has is a slip
        if subject not in known and config.source != "math":
            raise DataError(
                f"{place}: problems.subjects: no problem of subject '{subject}'; "
                f"{did_you_mean(subject, sorted(known))}"
            )
    if config.subjects is not None and not known & set(config.subjects):
        raise DataError(
            f"{place}: holds no problem of the subjects {', '.join(config.subjects)}; it has "
            f"{', '.join(sorted(known))}"
        )


def _subject(row: Mapping[str, Any], config: ProblemsConfig) -> str | None:
    field = config.subject_field
    if config.source == "math" and field not in row:
        field = "subject"  # copies of MATH name the column either way
    value = row.get(field)
    if value is None:
        return None
    return subject_key(str(value)) if config.source == "math" else str(value)


def _level(row: Mapping[str, Any], config: ProblemsConfig) -> str | None:
    value = row.get(config.level_field)
    if value is None:
        return None
    return str(value).removeprefix("Level ") if config.source == "math" else str(value)


def _answer(row: Mapping[str, Any], config: ProblemsConfig, where: str) -> str:
    if config.answer_field not in row and "solution" in row and config.answer_pattern is None:
        raise DataError(
            f"{where}: no column '{config.answer_field}', but a column 'solution'; set "
            "problems.answer_field = 'solution' and problems.answer_pattern = 'boxed'"
        )
    text = column(row, config.answer_field, "answer_field", where)
    pattern = config.answer_pattern
    if pattern is None:
        return text.strip()
    if pattern == "boxed":
        answer = reference_answer(text)
    else:
        found = re.search(PATTERNS.get(pattern, pattern), text)
        answer = found.group(1) if found is not None else None
    if answer is None or not answer.strip():
        raise DataError(
            f"{where}: problems.answer_pattern {pattern!r} finds no answer in column "
            f"'{config.answer_field}'; mend the pattern or the row"
        )
    return answer.strip()


def _lowest(problems: Mapping[str, Problem], count: int) -> dict[str, Problem]:
    return {text: problems[text] for text in sorted(problems, key=text_hash)[:count]}


def _notes(
    where: str,
    main: Mapping[str, Problem],
    held_out: Mapping[str, Problem] | None,
    subjects: Sequence[str],
) -> list[str]:
    """Say what was read: a digest of texts and answers, and how many of each subject."""
    everything = [*main.items(), *(held_out or {}).items()]
    lines = sorted(f"{text_hash(text)} {problem.answer}" for text, problem in everything)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    counts = Counter(problem.subject for problem in main.values())
    notes = [f"{where}: {len(everything)} different problems, sha256 {digest[:16]}"]
    if set(counts) != {None}:
        shown = ", ".join(
            f"{name or 'no subject'} {counts[name]}" for name in sorted(counts, key=str)
        )
        notes.append(f"{where}: {shown}")
    absent = [name for name in subjects if name not in {subject_key(one or "") for one in counts}]
    if absent:
        notes.append(f"{where}: no problem of the subjects {', '.join(absent)}")
    return notes
