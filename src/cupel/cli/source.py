"""Where a study comes from: a study file, or the folder of a study that was planned before.

Knows paths and `--set`. Refuses to know what a study means.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cupel.cli.app import Stop, suggestion

if TYPE_CHECKING:
    from cupel.lab.study import StudyConfig

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Set any key of the file, e.g. --set config.max_steps=10. Repeatable.",
)
set_setting_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Set any setting, e.g. --set loss.kind=ppo. Repeatable; flags win over it.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads."
)
device_option = click.option(
    "--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ..."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def decision_options(command: CommandT) -> CommandT:
    """Decorate a command that builds a study with its endpoint and decision rule."""
    for option in (
        click.option("--alpha", type=float, help="Size of the primary test [default: 0.05]."),
        click.option(
            "--resamples",
            type=int,
            help="Resamples of the legacy permutation and bootstrap [default: 20000].",
        ),
        click.option("--effect", type=float, help="Smallest effect worth finding, for planning."),
        click.option("--effect-sd", type=float, help="Sd of the seed differences, for planning."),
        click.option("--endpoint", help="Metric a run is judged by [default: eval/accuracy]."),
        click.option("--over", help="Window of the endpoint [default: last]."),
    ):
        command = option(command)
    return command


def decision_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decision rule as it was passed, and nothing else."""
    keys = ("alpha", "resamples", "effect", "effect_sd")
    return {key: given[key] for key in keys if given.get(key) is not None}


def endpoint_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the endpoint as it was passed, and nothing else."""
    names = {"metric": given.get("endpoint"), "over": given.get("over")}
    return {key: value for key, value in names.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySource:
    """A study and the folder it lives in; `planned` says that the folder holds it already."""

    study: StudyConfig
    folder: Path
    planned: bool


def find_study(
    target: Path, *, overrides: Sequence[str] = (), out: Path | None = None
) -> StudySource:
    """Read a study file or a study folder.

    Raises:
        Stop: there is no such file or folder, or a planned study was given overrides.
    """
    from cupel.config import apply_overrides, load_toml
    from cupel.lab.store import is_study_folder, read_study

    if target.is_dir():
        if not is_study_folder(target):
            raise Stop(f"{target}: no study folder (no study.toml and manifest.json in it)")
        if overrides or out is not None:
            raise Stop(
                f"{target} is a study that is planned already; --set and --out change a study "
                "before it is planned: give the study file"
            )
        return StudySource(study=read_study(target).study, folder=target, planned=True)
    if not target.exists():
        raise Stop(f"{target}: no such file or folder{_nearby(target)}")
    data = apply_overrides(load_toml(target), overrides)
    return study_from(data, where=str(target), out=out)


def study_from(data: Mapping[str, Any], *, where: str, out: Path | None = None) -> StudySource:
    """Validate the data of a study and say where its folder is: `out`, or results/<name>."""
    from cupel.config import validate
    from cupel.lab.store import is_study_folder
    from cupel.lab.study import StudyConfig

    study = validate(StudyConfig, data, where=where)
    folder = out or Path("results") / study.name
    return StudySource(study=study, folder=folder, planned=is_study_folder(folder))


def timestamp() -> str:
    """Return the local time as folders are named after it: YYYYmmdd_HHMMSS."""
    return datetime.now().strftime("%Y%m%d_%H%M%S")


def comma_list(text: str, *, flag: str) -> list[str]:
    """Split `a,b,c`; an empty part is a mistake, not a value."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise Stop(f"{flag} '{text}': an entry is empty; write a,b,c")
    return parts


def seed_list(text: str, *, flag: str = "--seeds") -> list[int]:
    """Read `1,2,3` as whole numbers."""
    parts = comma_list(text, flag=flag)
    for part in parts:
        if not part.isascii() or not part.isdigit():
            raise Stop(f"{flag}: '{part}' is not a seed; give whole numbers >= 0, e.g. 1,2,3")
    return [int(part) for part in parts]


def _nearby(target: Path) -> str:
    if not target.parent.is_dir():
        return f" (nor {target.parent})"
    names = sorted(path.name for path in target.parent.iterdir())
    close = suggestion(target.name, names)
    return f"; {close}" if close.startswith("did") else ""


def command_line() -> list[str]:
    """Return the command that this process is, as it is recorded."""
    return ["cupel", *sys.argv[1:]]
