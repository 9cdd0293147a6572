"""Which run folders stand for the baseline and which for the candidate.

Knows `--baseline A B --candidate C D` and a study folder, whose plan names its arms. Refuses to
guess: an arm without folders is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.greedy import GreedyOption

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """The run folders of both arms."""

    baseline: tuple[Path, ...]
    candidate: tuple[Path, ...]


def arms_options(command: CommandT) -> CommandT:
    """Decorate a command with STUDY, --baseline, --candidate, --output and --markdown."""
    path = click.Path(path_type=Path)
    for option in (
        click.option("--markdown", type=path, help="Write the markdown report here."),
        click.option("--output", type=path, help="Write the JSON report here."),
        click.option(
            "--candidate",
            cls=GreedyOption,
            type=path,
            metavar="DIR...",
            help="Run folders of the candidate; several after one flag, or repeated.",
        ),
        click.option(
            "--baseline",
            cls=GreedyOption,
            type=path,
            metavar="DIR...",
            help="Run folders of the baseline; several after one flag, or repeated.",
        ),
        click.argument("study", required=False, type=path),
    ):
        command = option(command)
    return command


def check_arms(study: Path | None, baseline: Sequence[Path], candidate: Sequence[Path]) -> None:
    """Refuse anything but a study folder alone, or both arms.

    Raises:
        Stop: says what is missing or too much.
    """
    if study is not None:
        if baseline or candidate:
            raise Stop(f"give a study folder ({study}) or --baseline and --candidate, not both")
        return
    for flag, folders in (("--baseline", baseline), ("--candidate", candidate)):
        if not folders:
            raise Stop(f"no {flag}: give run folders after {flag}, or a study folder")


def study_arms(folder: Path) -> Arms:
    """Return the primary contrast of a study folder, in the order of its seeds.

    Raises:
        Stop: the study has a single condition, or is a sweep.
        DataError: the folder holds no study.
    """
    from cupel.lab.store import read_study

    record = read_study(folder)
    primary = record.study.primary
    if primary is None:
        if record.study.tuning is not None:
            raise Stop(
                f"{folder}: a sweep chooses a setting; test it on runs of other seeds, with "
                f"cupel ab --lr-from {folder}"
            )
        raise Stop(f"{folder}: the study has one condition; a contrast needs two")
    baseline, candidate = (
        tuple(run.folder for run in record.runs if run.condition == label) for label in primary
    )
    return Arms(baseline=baseline, candidate=candidate)


def refuse_with_study(ctx: click.Context, study: Path, names: Sequence[str]) -> None:
    """Refuse options that would bend the declared rule of a study.

    Raises:
        Stop: one of them was given.
    """
    for name in names:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = "--" + name.replace("_", "-")
            raise Stop(
                f"{flag}: {study} is judged by the rule its plan declared; {flag} goes with "
                "--baseline and --candidate"
            )


def deliver(
    report: Mapping[str, Any],
    text: str,
    *,
    output: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Write a report where it was asked for, and print it."""
    data = console.json_text(report)
    for path, content in ((output, data), (markdown, text)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            console.note(f"wrote {path}")
    console.line((data if as_json else text).rstrip())
