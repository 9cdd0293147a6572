"""Which run folders stand for the baseline and which for the candidate.

Knows `--baseline A B --candidate C D` and a study folder, whose plan names its arms. Refuses to
guess: an arm without folders is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.greedy import GreedyOption

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """The run folders of both arms, and the study they come from, if one does."""

    baseline: tuple[Path, ...]
    candidate: tuple[Path, ...]
    study: Path | None = None


def arms_options(command: CommandT) -> CommandT:
    """Decorate a command with STUDY, --baseline and --candidate."""
    folder = click.Path(path_type=Path)
    for option in (
        click.option(
            "--candidate",
            cls=GreedyOption,
            type=folder,
            metavar="DIR...",
            help="Run folders of the candidate; several after one flag, or repeated.",
        ),
        click.option(
            "--baseline",
            cls=GreedyOption,
            type=folder,
            metavar="DIR...",
            help="Run folders of the baseline; several after one flag, or repeated.",
        ),
        click.argument("study", required=False, type=folder),
    ):
        command = option(command)
    return command


def find_arms(study: Path | None, baseline: Sequence[Path], candidate: Sequence[Path]) -> Arms:
    """Return the folders of both arms.

    Raises:
        Stop: neither a study nor both arms were given, or both were.
        DataError: the folder holds no study, or its plan has a single condition.
    """
    if study is not None and (baseline or candidate):
        raise Stop(f"give a study folder ({study}) or --baseline and --candidate, not both")
    if study is not None:
        return study_arms(study)
    for flag, folders in (("--baseline", baseline), ("--candidate", candidate)):
        if not folders:
            raise Stop(f"no {flag}: give run folders after {flag}, or a study folder")
    return Arms(baseline=tuple(baseline), candidate=tuple(candidate))


def study_arms(folder: Path) -> Arms:
    """Return the primary contrast of a study folder, in the order of its seeds.

    Raises:
        Stop: the study has a single condition.
    """
    from cupel.lab.store import read_study

    record = read_study(folder)
    primary = record.study.primary
    if primary is None:
        raise Stop(f"{folder}: the study has one condition; a contrast needs two")
    baseline, candidate = (
        tuple(run.folder for run in record.runs if run.condition == label) for label in primary
    )
    return Arms(baseline=baseline, candidate=candidate, study=folder)


def write_outputs(
    output: Path | None, markdown: Path | None, as_data: str, as_markdown: str
) -> None:
    """Write the JSON and the markdown where they were asked for."""
    for path, text in ((output, as_data), (markdown, as_markdown)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            console.note(f"wrote {path}")
