"""From a planned study to its verdict: execute what is missing, judge, write the report, print.

Knows the order of these calls, the exit codes, and what to say after Ctrl-C. Refuses to know how
a run runs, or how a verdict is reached.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cupel.cli import console
from cupel.cli.app import EXIT_RUNS_FAILED, Interrupted
from cupel.cli.executor import ExecutionOptions, executor_options
from cupel.cli.followers import following
from cupel.cli.plan import make_plan, plan_facts, save_plan, show_plan
from cupel.cli.progress import Board, FolderWatch, run_state
from cupel.cli.source import StudySource, json_option
from cupel.cli.verdict import show_verdict, verdict_facts
from cupel.cli.versions import version_warnings
from cupel.errors import RunError

if TYPE_CHECKING:
    from cupel.lab.executors.base import Progress, StudyOutcome

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


figures_option = click.option(
    "--figures/--no-figures",
    default=True,
    show_default=True,
    help="Write figures/ (PNG, SVG, PDF) beside the report.",
)


def run_options(command: CommandT) -> Any:
    """Decorate a command that executes and judges a study."""

    @wraps(command)
    def with_figures(*args: Any, execution: ExecutionOptions, figures: bool, **given: Any) -> Any:
        return command(*args, execution=replace(execution, figures=figures), **given)

    return executor_options(figures_option(with_figures))


def execution_options(command: CommandT) -> Any:
    """Decorate a command that plans, and executes only when asked."""
    execute = click.option("--execute", is_flag=True, help="Run it; without this, only plan.")
    return execute(run_options(json_option(command)))


def plan_or_execute(
    source: StudySource,
    given: Mapping[str, Any],
    *,
    stop_on_failure: bool = False,
    record: Mapping[str, Any] | None = None,
) -> int:
    """Plan a study; with --execute run and judge it. Returns the exit code.

    Args:
        record: facts about the plan to keep in manifest.json, e.g. where its rates came from.
    """
    plan = make_plan(source)
    if given.get("execute"):
        given["execution"].check_recipe(source.study.recipe)
    save_plan(source, plan, record=record)
    as_json = bool(given.get("as_json"))
    if not given.get("execute"):
        if as_json:
            console.print_json(plan_facts(plan, source.folder))
        else:
            show_plan(plan, source.folder)
        console.note(f"next: cupel run {shlex.quote(str(source.folder))}")
        return 0
    if not as_json:
        show_plan(plan, source.folder)
    options: ExecutionOptions = replace(given["execution"], stop_on_failure=stop_on_failure)
    return execute_and_judge(source.folder, options, as_json=as_json)


def execute_and_judge(folder: Path, options: ExecutionOptions, *, as_json: bool = False) -> int:
    """Execute what is missing, judge, write figures and report, print. Returns the exit code.

    A sweep is not judged: it is continued, and its choices are printed.
    """
    from cupel.lab.store import read_study

    if read_study(folder).study.tuning is not None:
        from cupel.cli.sweep import tune

        return tune(folder, options, as_json=as_json)
    outcome = execute(folder, options)
    show_failures(outcome)
    judge_and_report(folder, complete=outcome.is_complete, figures=options.figures)
    if as_json:
        console.print_json(verdict_facts(folder))
    else:
        show_verdict(folder)
    return EXIT_RUNS_FAILED if outcome.failed else 0


def execute(
    folder: Path, options: ExecutionOptions, *, ended: Callable[[], object] | None = None
) -> StudyOutcome:
    """Execute what is missing of a planned study, with progress on the screen.

    Args:
        ended: called after every run that came to an end, one way or the other.

    Raises:
        Interrupted: Ctrl-C; says how far it came and how to continue.
        RunError: a run failed and `stop_on_failure` was asked for.
        Exit: the runs were only submitted, so there is nothing to judge yet.
    """
    from cupel.lab.executors.base import execute_study
    from cupel.lab.store import read_study

    record = read_study(folder)
    runs = {run.folder.name: run.folder for run in record.runs}
    reach(*runs.values())
    board = Board([run_state(path, name=name) for name, path in runs.items()])
    follower = following(folder, record.study.follow, name=record.study.name)
    inline = options.executor == "inline"
    shown: AbstractContextManager[Any] = FolderWatch(board, runs) if inline else closing(board)

    def hear(event: Progress) -> None:
        tell_of_tracker()
        if not inline:
            board.hear(event)
        settled = event.row is None and event.status in ("done", "failed")
        if ended is not None and settled:
            ended()
        retried = event.message.endswith("trying again")
        if options.stop_on_failure and settled and event.status == "failed" and not retried:
            raise RunError(
                f"{event.run} failed: {event.message}; the rest was not run. --continue-on-error "
                f"runs it, and so does: cupel run {shlex.quote(str(folder))}"
            )

    try:
        with follower as tell_of_tracker, shown:
            outcome = execute_study(
                folder,
                executor=options.executor,
                workers=options.workers,
                options=options.cluster,
                retries=options.retries,
                retry_failed=options.retry_failed,
                progress=hear,
            )
    except KeyboardInterrupt:
        done = sum(run.status == "done" for run in read_study(folder).runs)
        raise Interrupted(
            f"interrupted; {done} of {len(runs)} runs are complete, nothing is lost; continue "
            f"with: cupel run {shlex.quote(str(folder))}"
        ) from None
    for text in version_warnings(folder):
        console.warn(text)
    if not options.wait and not outcome.is_complete:
        console.note(
            f"submitted; cupel status {shlex.quote(str(folder))} shows how far it is, and the same "
            "command without --no-wait follows the jobs and judges"
        )
        raise click.exceptions.Exit(0)
    return outcome


def reach(*folders: Path) -> None:
    """Ask what runs need beyond this machine whether it is there, before any of them starts.

    Raises:
        UsageError: it is not; nothing has run.
    """
    from cupel.config import canonical_json, validate
    from cupel.lab.recipe import Reaching
    from cupel.lab.registry import load_recipe
    from cupel.lab.run_dir import RunFolder

    asked: set[str] = set()
    for run in map(RunFolder, folders):
        if run.is_complete:
            continue
        config = run.config()
        recipe = load_recipe(config["recipe"])
        reaching: object = recipe
        settings = canonical_json(config["resolved"])
        if isinstance(reaching, Reaching) and settings not in asked:
            asked.add(settings)
            where = f"{run.path / 'config.json'}: resolved"
            reaching.reach(validate(recipe.config_type, config["resolved"], where=where))


def judge_and_report(
    folder: Path, *, complete: bool = True, figures: bool = True, completions: int | None = None
) -> None:
    """Judge a study and write its analysis, figures, completions page and report.

    Args:
        complete: False when runs failed or are missing; a study that then cannot be judged still
            gets its report, and the reason is told.
        figures: also write the static figures for papers.
        completions: most completions on completions.html; None: the page's own default.

    Raises:
        DataError: a complete study cannot be judged.
    """
    from cupel.analysis import judge
    from cupel.errors import DataError, MissingExtraError
    from cupel.report import write_figures, write_report
    from cupel.report.viewer import DEFAULT_COMPLETIONS, write_viewer

    try:
        judge(folder)
    except DataError as error:
        if complete:
            raise
        console.warn(f"not judged: {error}")
    if figures:
        try:
            write_figures(folder)
        except MissingExtraError as error:
            console.warn(f"no figures beside the report: {error}")
    write_viewer(folder, completions=completions or DEFAULT_COMPLETIONS)
    write_report(folder)


def show_failures(outcome: StudyOutcome) -> None:
    """Warn of every run that failed, and why."""
    for run in outcome.failed:
        failure = run.failure or {}
        kind, message = failure.get("kind", "unknown"), failure.get("message", "no reason given")
        console.warn(f"{run.run} failed ({kind}): {message}")
