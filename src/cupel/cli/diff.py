"""`cupel diff`: how two runs, or two studies, differ in settings and results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.source import json_option


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@json_option
def command(a: Path, b: Path, as_json: bool) -> int:
    """Show the settings and results in which run A and run B differ.

    Exit code 0 when nothing differs, 1 when something does.

    \b
    Examples:
      cupel diff results/ab/runs/grpo_s42 results/ab/runs/full_s42
      cupel diff results/one results/two
    """
    from cupel.lab.store import is_study_folder

    read = _study if is_study_folder(a) and is_study_folder(b) else _run
    left, right = read(a), read(b)
    rows = [
        (key, left.get(key), right.get(key))
        for key in dict.fromkeys([*left, *right])
        if left.get(key) != right.get(key)
    ]
    if as_json:
        console.print_json([{"key": key, "a": x, "b": y} for key, x, y in rows])
    elif rows:
        console.table(["key", str(a), str(b)], [(k, _text(x), _text(y)) for k, x, y in rows])
    else:
        console.line(f"{a} and {b} do not differ in settings or results")
    return 1 if rows else 0


def _run(folder: Path) -> dict[str, Any]:
    from cupel.lab.store import read_run

    run = read_run(folder)
    facts: dict[str, Any] = {"condition": run.condition, "seed": run.seed, "status": run.status}
    facts |= flat("config", run.config.get("resolved", {}))
    return facts | flat("result", run.result or {})


def _study(folder: Path) -> dict[str, Any]:
    from cupel.config import to_dict
    from cupel.lab.store import read_study

    study = read_study(folder)
    return flat("study", to_dict(study.study)) | {
        f"{run.condition}_s{run.seed}.status": run.status for run in study.runs
    }


def flat(prefix: str, value: Any) -> dict[str, Any]:
    """Return nested tables as dotted keys; lists of tables are numbered, other lists kept."""
    if isinstance(value, Mapping):
        parts: dict[str, Any] = {}
        for key, item in value.items():
            parts |= flat(f"{prefix}.{key}", item)
        return parts
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        parts = {}
        for index, item in enumerate(value):
            parts |= flat(f"{prefix}.{index}", item)
        return parts
    return {prefix: value}


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return value
