"""`cupel status`: what is done, running or failed, as the folders say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.progress import run_state
from cupel.cli.source import json_option
from cupel.cli.views import STALE_S, RunState

COLUMNS = ("run", "status", "steps", "correct_rate", "note")
DEFAULT_ROOTS = (Path("results"), Path("logs"))


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option(
    "--watch",
    is_flag=True,
    help="Keep showing until every run has come to its end, or Ctrl-C: a table that moves in a "
    "terminal, a line a change anywhere else.",
)
@json_option
def command(path: Path | None, watch: bool, as_json: bool) -> None:
    """Show the runs of PATH: a study folder, a run folder, or a folder of either.

    Without PATH, everything under results/ and logs/. A running run that has not been heard of for
    a minute is called stale: its process is gone, `cupel resume` continues it.

    \b
    Examples:
      cupel status
      cupel status results/quickstart
      cupel status results/quickstart --watch
      cupel status results/quickstart --json
    """
    from cupel.lab.store import is_run_folder, is_study_folder

    if path is not None and not path.is_dir():
        raise Stop(f"{path}: {'not a folder' if path.exists() else 'no such folder'}")
    if watch:
        watch_runs(path, as_json=as_json)
    elif path is not None and is_study_folder(path):
        show_runs(str(path), study_states(path), as_json=as_json)
    elif path is not None and is_run_folder(path):
        show_runs(str(path), [run_state(path)], as_json=as_json)
    else:
        roots = [path] if path is not None else [root for root in DEFAULT_ROOTS if root.is_dir()]
        show_overview(roots, as_json=as_json)


def watch_runs(path: Path | None, *, as_json: bool) -> None:
    """Show the runs of a study or run folder until they have come to their end."""
    from cupel.cli.watch import follow
    from cupel.lab.store import is_run_folder, is_study_folder

    if as_json:
        raise Stop("status: --json and --watch exclude each other; ask again and again for JSON")
    if path is not None and is_study_folder(path):
        follow(str(path), lambda: study_states(path))
    elif path is not None and is_run_folder(path):
        follow(str(path), lambda: [run_state(path)])
    else:
        raise Stop("status: --watch needs the folder of one study or of one run")


def study_states(folder: Path) -> list[RunState]:
    """Return where every planned run of a study stands, missing folders included."""
    from cupel.lab.store import read_study

    states = []
    for run in read_study(folder).runs:
        name = run.folder.name
        if run.status == "missing":
            states.append(RunState(name=name, status="missing"))
        else:
            states.append(run_state(run.folder, name=name))
    return states


def show_runs(title: str, states: Sequence[RunState], *, as_json: bool) -> None:
    """Print one row a run."""
    if as_json:
        console.print_json({"folder": title, "runs": [run_facts(state) for state in states]})
        return
    console.table(COLUMNS, run_rows(states), title=title)
    console.line(tally(states))


def run_rows(states: Sequence[RunState]) -> list[tuple[console.Cell, ...]]:
    """Return one row of `COLUMNS` a run."""
    return [
        (
            state.name,
            shown_status(state),
            f"{state.steps_done}/{console.show(state.steps)}",
            state.correct_rate,
            note(state),
        )
        for state in states
    ]


def tally(states: Sequence[RunState]) -> str:
    """Return how many runs stand where, in words."""
    return ", ".join(f"{count} {word}" for word, count in counts(states).items())


def show_overview(roots: Sequence[Path], *, as_json: bool) -> None:
    """Print one row a study, and one for each run that stands alone."""
    entries = [entry for root in roots for entry in _below(root)]
    if as_json:
        console.print_json(
            [
                {"folder": str(folder), "kind": kind, "counts": counts(states)}
                for folder, kind, states in entries
            ]
        )
        return
    if not entries:
        looked = ", ".join(f"{root}/" for root in roots) or "results/ and logs/"
        console.line(f"no study and no run in {looked}")
        return
    rows = [
        (
            str(folder),
            kind,
            len(states),
            ", ".join(f"{count} {word}" for word, count in counts(states).items()),
        )
        for folder, kind, states in entries
    ]
    console.table(["folder", "kind", "runs", "status"], rows)


def counts(states: Sequence[RunState]) -> dict[str, int]:
    """Return how many runs stand where."""
    found: dict[str, int] = {}
    for state in states:
        word = shown_status(state)
        found[word] = found.get(word, 0) + 1
    return found


def shown_status(state: RunState) -> str:
    """Return the status; `stale`: running but silent; `stopped`: begun, to be continued."""
    if state.stale:
        return "stale"
    return "stopped" if state.status == "planned" and state.steps_done else state.status


def note(state: RunState) -> str:
    """Return why a run failed, what a running one is doing, or how long it has been silent."""
    if state.failure is not None:
        return state.failure
    if state.stale and state.beat_age_s is not None:
        return f"silent for {state.beat_age_s / 60:.0f} min (over {STALE_S:.0f} s)"
    return state.doing if state.status == "running" else ""


def run_facts(state: RunState) -> dict[str, Any]:
    """Return where a run stands as JSON data."""
    return {
        "run": state.name,
        "status": shown_status(state),
        "steps_done": state.steps_done,
        "steps": state.steps,
        "correct_rate": state.correct_rate,
        "note": note(state) or None,
    }


def _below(root: Path) -> list[tuple[Path, str, list[RunState]]]:
    """Find studies and single runs at, or up to two levels below, a folder."""
    from cupel.lab.store import is_run_folder, is_study_folder

    found: list[tuple[Path, str, list[RunState]]] = []
    for folder in sorted([root, *root.glob("*/"), *root.glob("*/*/")]):
        if any(folder.is_relative_to(study) for study, kind, _ in found if kind == "study"):
            continue
        if is_study_folder(folder):
            found.append((folder, "study", study_states(folder)))
        elif is_run_folder(folder):
            found.append((folder, "run", [run_state(folder)]))
    return found
